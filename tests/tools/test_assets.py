"""tools/assets.py: what the package carries is scored as it will be loaded, pages state it, the classifier learns."""

import importlib
import types

import assets
import numpy as np
import pytest
import torch
from PIL import Image

from gsoc_kd.core.figures import side_by_side
from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import load_network, network_hash, save_network
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.evaluation import Judge, accuracy, table
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.pairs import draw_latents
from gsoc_kd.teachers import load_student, load_teacher

PAGE = "before\n<!-- {0}: made by a command -->\n{1}\n<!-- end of {0} -->\nafter\n"


def tiny(seed):
    torch.manual_seed(seed)
    return ConvGenerator(z_dim=6, num_classes=4, widths=(8, 8, 4, 4), embed_dim=3).eval()


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """What was scored, with made-up scores, in an empty folder where the package's networks lie in assets/."""
    given = []

    def evaluate(generator):
        given.append(network_hash(getattr(generator, "network", generator)))
        return {"cifar_fd": 12.25, "class_agreement": 0.5, "images": 10_000}

    for module in (importlib.import_module("gsoc_kd.evaluation.publish"), assets):
        monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "ASSETS", tmp_path / "assets")
    return given


def test_a_network_is_embedded_rounded_and_scored_as_it_will_be_loaded(scored, tmp_path):
    save_network(tiny(0), tmp_path / "run" / "generator", {"command": "gsoc-kd distill"})
    for name, given in (("teacher", "run"), ("student", "run/generator")):
        assets.embed(tmp_path / given, name)
        loaded = load_student(tmp_path / "assets" / name)
        torch.testing.assert_close(loaded.state_dict(), tiny(0).half().float().state_dict(), rtol=0, atol=0)
        told = read_json(tmp_path / "assets" / name / "provenance.json")
        assert scored.pop() == told["hash"] == network_hash(loaded) != network_hash(tiny(0))
        assert told["command"] == "gsoc-kd distill" and told["scores"]["cifar_fd"] == 12.25
    with pytest.raises(InputError, match="nowhere"):
        assets.embed(tmp_path / "nowhere", "teacher")
    assert network_hash(load_student(tmp_path / "assets" / "teacher")) == told["hash"]


def test_results_replace_the_block_of_each_page_and_nothing_else(scored, tmp_path, monkeypatch):
    rows = [{"name": "real test images (floor)", "cifar_fd": 0.1, "images": 10_000}]
    monkeypatch.setattr(assets, "floor_row", lambda: rows[0])
    monkeypatch.setattr(assets, "row", lambda name, _, scores: rows.append({"name": name, **scores}) or rows[-1])
    for seed, name in enumerate(("teacher", "student")):
        save_network(tiny(seed), tmp_path / "assets" / name)
    pages = tmp_path / "README.md", tmp_path / "docs" / "Results.md"
    pages[0].write_text(PAGE.format("results", "old"))
    with pytest.raises(InputError, match="Results.md has no block between"):
        assets.results()
    assert not scored and "old" in pages[0].read_text()
    pages[1].parent.mkdir()
    pages[1].write_text(PAGE.format("results", "older"))
    assets.results()
    assert scored == [network_hash(tiny(0)), network_hash(tiny(1))]
    text = pages[0].read_text().split("-->\n")[1].removesuffix("\n<!-- end of results ")
    assert text.startswith(table(rows)) and "`python tools/assets.py results`" in text and "50.0%" in text
    assert {page.read_text() for page in pages} == {PAGE.format("results", text)}
    shown = [load_teacher(tiny(seed))(draw_latents(7, 0, 20, 6), torch.arange(20) % 4) for seed in (0, 1)]
    picture = Image.open(tmp_path / "docs" / "teacher-and-student.png").convert("RGB")
    assert np.array_equal(np.asarray(picture), np.asarray(side_by_side(*shown, columns=10, scale=3)))


def test_calibration_goes_into_its_file_and_its_page(tmp_path, monkeypatch):
    page, file = tmp_path / "page.md", tmp_path / "calibration.json"
    monkeypatch.setattr(assets, "load_images", lambda split="train": split)
    measured = types.SimpleNamespace(calibrate=lambda *real, **asked: [*real, asked], table=str, TABLE=file)
    monkeypatch.setattr(assets, "calibration", measured)
    page.write_text(PAGE.format("calibration", "old"))
    assets.calibrate(draws=2, page=page)
    result = ["train", "test", {"draws": 2, "images": 300, "seed": 2000}]
    assert read_json(file) == result and page.read_text() == PAGE.format("calibration", result)


@pytest.fixture
def toys(monkeypatch):
    """Noisy 8x8 images of two classes, red and blue."""
    sets, rng = {}, np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 64)):
        images, labels = rng.integers(0, 60, (count, 8, 8, 3)), np.arange(count) % 2
        images[np.arange(count), :, :, 2 * labels] += 190
        sets[split] = LabelledImages(images.astype(np.uint8), labels, ("red", "blue"), f"toy {split}")
    monkeypatch.setattr(assets, "load_images", lambda split="train": sets[split])
    return sets


def test_the_classifier_learns_and_says_how_it_came_about(tmp_path, toys):
    judge = assets.judge(tmp_path / "judge", epochs=50, batch=8, lr=0.05)
    right = accuracy(judge, toys["test"])
    assert right > 0.95 and network_hash(load_network(tmp_path / "judge", (Judge,))) == network_hash(judge)
    said = read_json(tmp_path / "judge" / "provenance.json")
    command = "judge --epochs 50 --batch 8 --lr 0.05 --weight-decay 0.0005 --label-smoothing 0.1 --seed 0"
    assert said["command"] == f"python tools/assets.py {command}"
    assert said["data"] == "toy train, 32 images; scored on toy test, 64 images"
    assert abs(said["scores"]["test_accuracy"] - right) <= 1 / 64  # scored before rounding to float16


def test_training_the_classifier_is_repeatable_and_refuses_before_it_begins(tmp_path, toys):
    one, again, other = (assets.judge(tmp_path / f"{i}", 1, 8, seed=seed) for i, seed in enumerate((3, 3, 4)))
    assert network_hash(one) == network_hash(again) != network_hash(other)
    refused = ({"epochs": 0}, "epochs must be .* at least 1"), ({"batch": 33}, "batch must be .* 2 to 32, not 33")
    for changes, message in (*refused, ({"out": tmp_path}, "holds 0, which is no part of a network")):
        with pytest.raises(InputError, match=message):
            assets.judge(**{"out": tmp_path / "judge", **changes})
    assert not (tmp_path / "judge").exists()


def test_every_shift_and_flip_happens_and_nothing_else():
    picture = torch.randn(1, 3, 8, 8)
    padded = torch.nn.functional.pad(picture, (2,) * 4, mode="reflect")[0]
    windows = [padded[:, top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
    seen = [image.numpy().tobytes() for image in assets.shift_and_flip(picture.expand(1000, -1, -1, -1)).contiguous()]
    plain, flipped = (
        {w.contiguous().numpy().tobytes() for w in some} for some in (windows, [w.flip(2) for w in windows])
    )
    assert set(seen) == plain | flipped and len(set(seen)) == 50  # one is missed with a chance of 1e-7
    assert 400 < sum(image in flipped for image in seen) < 600
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 8, 8)
    assert torch.equal(assets.shift_and_flip(x), x)  # each stays in its place
