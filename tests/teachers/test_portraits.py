"""Pictures that introduce a teacher show what they say, and benchmarks/portraits.py counts rightly."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gsoc_kd.teachers.black_box import Teacher
from gsoc_kd.teachers.load import EMBEDDED, load_student, load_teacher
from gsoc_kd.teachers.portraits import film_pictures, film_strip, style_map, variety
from PIL import Image

from gsoc_kd.core import figures
from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import network_hash
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.training.distill import DistillConfig
from gsoc_kd.training.gan import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("portraits_script", ROOT / "benchmarks" / "portraits.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def noise(count, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, side, side, 3)).astype(np.uint8)


# ---------------------------------------------------------------- variety


def painted(z, y):
    """Red says the class, green the latent, blue that it is drawn."""
    images = np.full((len(y), 4, 4, 3), 200, np.uint8)
    images[..., 0] = (np.asarray(y) * 20)[:, None, None]
    images[..., 1] = (np.asarray(z[:, 0]) * 40 + 128).clip(0, 255).astype(np.uint8)[:, None, None]
    return images


TEACHER = Teacher(painted, z_dim=3, num_classes=2, resolution=4, classes=("cat", "dog"))


def test_variety_shows_one_class_only_and_real_pictures_beside_it():
    labels = np.arange(40) % 2
    images = np.zeros((40, 4, 4, 3), np.uint8)
    images[..., 0], images[..., 1] = labels[:, None, None] * 20, np.arange(40)[:, None, None]
    real = LabelledImages(images, labels, ("cat", "dog"), "real")
    alone = np.asarray(variety(TEACHER, 1, side=4, scale=1))
    both = np.asarray(variety(TEACHER, 1, real, side=4, scale=1, seed=0))
    head = alone.shape[0] - 21

    def cells(picture):  # top left pixels of a 4x4 grid: (16, 3)
        return picture[head + 1 :: 5, 1::5].reshape(16, 3)

    start = (alone.shape[1] - 21) // 2  # the text above is wider
    drawn = cells(alone[:, start : start + 21])
    assert (drawn[:, 0] == 20).all() and (drawn[:, 2] == 200).all() and len(set(drawn[:, 1])) > 10
    width = both.shape[1] - alone.shape[1] - 12  # the place of the real ones
    start = alone.shape[1] + 12 + (width - 21) // 2
    shown = cells(both[:, start : start + 21])
    assert (shown[:, [0, 2]] == (20, 0)).all() and len(set(shown[:, 1])) == 16 and (shown[:, 1] % 2 == 1).all()
    assert np.array_equal(both[:, : alone.shape[1]], alone)


def test_variety_names_what_is_missing():
    with pytest.raises(InputError, match="label 2 is out of range"):
        variety(TEACHER, 2)
    few = LabelledImages(noise(5, 4), np.zeros(5, int), ("cat", "dog"), "few")
    with pytest.raises(InputError, match="few has 5 pictures of 'cat'; 9 are to be shown"):
        variety(TEACHER, 0, few, side=3)


# ---------------------------------------------------------------- the training film

NAMES = ["cat", "dog"]


def a_frame(images):
    return figures.class_grid(lambda z, y: images, 1, NAMES, columns=3, scale=1)


def test_film_pictures_are_the_last_of_each_row():
    images = noise(6)
    assert np.array_equal(film_pictures(a_frame(images), 2, 3), images.reshape(2, 3, 8, 8, 3))
    assert np.array_equal(film_pictures(a_frame(images), 2, 1)[:, 0], images[[2, 5]])


def test_film_strip_shows_each_frame_in_order(tmp_path):
    pixels = [noise(6, seed=seed) for seed in range(3)]
    frames = [a_frame(images) for images in pixels]
    frames[1].save(tmp_path / "1.png")
    strip = np.asarray(
        film_strip([frames[0], tmp_path / "1.png", frames[2]], ["a", "b", "c"], NAMES, columns=2, scale=2)
    )
    bare = [np.asarray(figures.grid(images[[1, 2, 4, 5]], columns=2, scale=2)) for images in pixels]
    height, width = bare[0].shape[:2]
    for place, expected in enumerate(reversed(bare)):
        right = strip.shape[1] - place * (width + 6)
        assert np.array_equal(strip[-height:, right - width : right], expected)
    margin = strip[-height:, : strip.shape[1] - 3 * (width + 6), 0]
    assert (margin[: height // 2] < 128).any() and (margin[height // 2 :] < 128).any()  # the two names


@pytest.mark.parametrize(
    "frames, captions, columns, message",
    [
        ([], [], 1, "got 0 frames and 0 captions"),
        ([Image.new("RGB", (19, 19))], ["a", "b"], 1, "got 1 frames and 2 captions"),
        ([Image.new("RGB", (19, 19))], ["a"], 3, "19x19 pixels does not hold 2 rows of 3"),
        ([Image.new("RGB", (19, 20))], ["a"], 1, "19x20 pixels does not hold 2 rows of 1"),
        (["nowhere.png"], ["a"], 1, "nowhere.png cannot be read"),
    ],
)
def test_film_strip_names_what_does_not_fit(frames, captions, columns, message):
    with pytest.raises(InputError, match=message):
        film_strip(frames, captions, NAMES, columns)


# ---------------------------------------------------------------- styles


def test_style_map_draws_truncation_as_shrinking_towards_the_average():
    network = script.random_stylegan2()
    figure = style_map(network, labels=(0, 3), psis=(1.0, 0.5), names=("cat", "dog"), each=20)
    noise_panel, whole, half = figure.axes
    points = [[c.get_offsets().data for c in panel.collections] for panel in (whole, half)]
    average = points[0][-1]  # the cross
    assert [len(cloud) for cloud in points[0]] == [20, 20, 1] and np.allclose(points[1][-1], average)
    for all_of_it, half_of_it in zip(points[0][:-1], points[1][:-1]):
        assert np.allclose(half_of_it - average, 0.5 * (all_of_it - average), atol=1e-4)
    assert np.linalg.norm(points[0][0].mean(0) - points[0][1].mean(0)) > 1  # classes lie apart
    assert len(noise_panel.collections[0].get_offsets()) == 20
    assert [text.get_text() for text in whole.get_legend().get_texts()] == ["cat", "dog", "average"]


# ---------------------------------------------------------------- benchmarks/portraits.py


def test_moments_go_from_first_to_last_at_equal_ratios():
    kimg = [10 * (i + 1) for i in range(60)]
    assert [kimg[i] for i in script.moments(kimg)] == [10, 20, 50, 120, 260, 600]
    assert script.moments([1, 2]) == [0, 1]


def test_recognised_counts_the_films_pictures(tmp_path):
    class Judge(torch.nn.Module):  # takes dark pictures for class 0, bright ones for 1
        classes = ("cat", "dog")

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def features(self, x):
            return x.mean(dim=(1, 2, 3))[:, None]

        def forward(self, x):
            return torch.cat([-self.features(x), self.features(x)], 1)

        def head(self, found):
            return torch.cat([-found, found], 1)

    images = np.zeros((20, 8, 8, 3), np.uint8)
    images[10:17] = 250  # ten dark cats are right, seven of ten dogs
    frame = figures.class_grid(lambda z, y: images, 1, NAMES, columns=10, scale=1)
    (row,) = script.recognised([{"kimg": 1, "generator": 0.5, "disc": 1.5}], [frame], Judge(), 2)
    assert row == {"kimg": 1, script.LOSSES[0]: 0.5, script.LOSSES[1]: 1.5, script.RECOGNISED: 0.85}


def test_another_run_than_the_embedded_one_is_refused(tmp_path):
    (tmp_path / "stats.jsonl").write_text('{"step": 1, "kimg": 3.0}\n')
    with pytest.raises(InputError, match="has seen 3.0 thousand images, the embedded teacher 600"):
        script.training(tmp_path, None, None, tmp_path, {"kimg": 600})
    with pytest.raises(InputError, match="has seen 3.0 thousand images, the embedded student 1000"):
        script.distillation(tmp_path, tmp_path, {"kimg": 1000})
    with pytest.raises(InputError, match="holds no run"):
        script.distillation(tmp_path / "none", tmp_path, {"kimg": 1000})


def test_a_students_training_is_drawn_from_film_and_statistics(tmp_path):
    (tmp_path / "run" / "film").mkdir(parents=True)
    for step in range(1, 9):
        images = np.full((20, 8, 8, 3), 10 * step, np.uint8)
        figures.class_grid(lambda z, y: images, 1, NAMES, columns=10, scale=1).save(
            tmp_path / "run" / "film" / f"{step:07d}.png"
        )
        with open(tmp_path / "run" / "stats.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "kimg": float(step), "pixel": 1 / step, "disc": 1.5}) + "\n")
    script.distillation(tmp_path / "run", tmp_path, {"kimg": 8.0, "classes": NAMES})
    strip = np.asarray(Image.open(tmp_path / "student-training.png").convert("RGB"))
    assert {10 * step for step in (1, 2, 3, 5, 8)} <= set(strip[..., 0].ravel())  # moments at about equal ratios
    assert Image.open(tmp_path / "student-curves.png").size[0] > 300


def test_the_page_shows_what_the_embedded_provenance_says():
    told = read_json(EMBEDDED / "teacher" / "provenance.json")
    scores, text = told["scores"], (ROOT / "docs" / "Teacher-Network.md").read_text(encoding="utf-8")
    block = script.BLOCK.search(text)[0]
    for row, key in (("**CIFAR-recall**", "cifar_recall"), ("**class agreement**", "class_agreement")):
        lines = block[block.index(f"| {row} |") :].splitlines()
        assert lines[0].startswith(f"| {row} | {100 * scores[key]:.1f} | ")
        assert lines[1].startswith(f"| of real test images (floor) | {100 * scores['floor'][key]:.1f} | ")
    assert f"{sum(p.numel() for p in load_teacher().network.parameters()):,} parameters" in text
    assert f"{told['seconds']:,} s" in text and f"{told['kimg']:,.0f} thousand images" in text
    for name, page in (("training", "Training"), ("curves", "Objectives")):
        path = ROOT / "docs" / f"student-{name}.png"
        assert (
            f"]({path.name})" in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
            and path.stat().st_size <= 100_000
        )
    for name in ("class", "classes", "neighbours", "training", "curves", "styles"):
        path = ROOT / "docs" / f"teacher-{name}.png"
        assert f"]({path.name})" in text and path.stat().st_size <= 100_000


def complete(told, network):
    for key in ("command", "commit", "data", "hardware", "seconds", "date", "versions", "config", "classes", "kimg"):
        assert told[key], key
    assert told["hash"] == network_hash(network)
    for scores in (told["scores"], told["scores"]["floor"]):
        assert {
            "cifar_fd",
            "cifar_kid",
            "cifar_precision",
            "cifar_recall",
            "cifar_is",
            "class_agreement",
            "class_agreement_per_class",
            "images",
        } <= set(scores) and scores["images"] == 10_000


def of_preset(told, preset):
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in told["config"].items()}
    return type(preset)(**fields) == preset


def test_the_embedded_teacher_is_the_presets_and_of_committed_code():
    told = read_json(EMBEDDED / "teacher" / "provenance.json")
    complete(told, load_teacher().network)
    assert not told["commit"].endswith("+") and told["precision"] and told["processes"]
    assert of_preset(told, PretrainConfig.preset("gpu"))


def test_the_embedded_student_learned_from_the_embedded_teacher_by_the_preset():
    told = read_json(EMBEDDED / "student" / "provenance.json")
    complete(told, load_student())
    assert not told["commit"].endswith("+") and told["precision"] and told["processes"]
    assert told["data"] == "pairs of teacher embedded, 50000 pairs" and told["teacher"] == load_teacher().digest
    assert of_preset(told, DistillConfig.preset("laptop", kimg=1500, tick_kimg=20))
