"""tools/figures.py: the images of a training, and the table of how varied the teacher is, say what was measured."""

import shutil

import figures
import numpy as np
import pytest
from PIL import Image

from gsoc_kd.core.figures import class_grid
from gsoc_kd.core.files import ASSETS, InputError, read_json
from gsoc_kd.training import runs


def test_a_training_is_shown_from_its_frames_and_statistics(tmp_path, monkeypatch):
    run, rows = tmp_path / "run", []
    (run / "animation").mkdir(parents=True)
    for step in range(1, 9):  # frames get brighter
        images = np.full((20, 8, 8, 3), 10 * step, np.uint8)
        frame = class_grid(lambda z, y, images=images: images, 1, ["cat", "dog"], columns=10, scale=1)
        frame.save(run / "animation" / f"{step:07d}.png")
        rows.append({"step": step, "kimg": float(step), "pixel": 1 / step, "disc": 1.5})
        runs.append_stats(run, rows[-1])
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "provenance.json").write_text('{"kimg": 8.0, "classes": ["cat", "dog"]}')
    monkeypatch.setattr(figures, "ASSETS", tmp_path)
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    figures.training("student", run, tmp_path)
    strip = np.asarray(Image.open(tmp_path / "student-training.png").convert("RGB"))
    shown = [step for step in range(1, 9) if (strip[..., 0] == 10 * step).sum() > 500]  # more than in a caption
    assert shown == [1, 2, 3, 5, 8]  # at about equal ratios
    pixel, game = figures.losses("student").axes  # from what `training` kept
    assert pixel.lines[0].get_xydata() == pytest.approx(np.array([[k / 1000, 1 / k] for k in range(1, 9)]), abs=1e-5)
    assert (pixel.get_title(), game.get_title()) == ("pixel loss", "adversarial losses")
    with pytest.raises(InputError, match="does not hold 5 rows of 2 square images"):
        figures.strip(run / "animation" / "0000001.png", 5)
    (run / "stats.jsonl").unlink()
    runs.append_stats(run, rows[0])
    with pytest.raises(InputError, match="is not the run of the bundled student, which saw 8 thousand images"):
        figures.training("student", run, tmp_path)
    figures.keep("student", rows[:3])
    with pytest.raises(InputError, match="training-student.json is not the run of the bundled student"):
        figures.losses("student")


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_lines_have_their_names_beside_them_and_share_an_axis_only_with_their_kind(name):
    axes = figures.losses(name).axes  # of the committed figures
    titles = ["adversarial losses"] if name == "teacher" else ["pixel loss", "feature loss", "adversarial losses"]
    assert [one.get_title() for one in axes] == titles
    assert all(one.get_ylim()[0] == 0 and one.get_legend() is None for one in axes)
    named = {text.get_text(): text.xy for text in axes[-1].texts}
    assert list(named) == ["generator" if name == "teacher" else "student", "discriminator"]
    assert [*named.values()] == [tuple(line.get_xydata()[-1]) for line in axes[-1].lines]


def test_the_demo_is_shown_with_its_table_and_its_student_below_the_teacher(tmp_path):
    shutil.copytree(ASSETS / "teacher", tmp_path / "run")  # a student that repeats its teacher
    (tmp_path / "table.md").write_text("| the student just made | 7.5 |\n")
    (page := tmp_path / "Getting-Started.md").write_text("<!-- demo: x -->\nold\n<!-- end of demo -->\n")
    figures.of_the_demo(tmp_path, tmp_path)
    assert "| the student just made | 7.5 |" in page.read_text() and "old" not in page.read_text()
    shown = np.asarray(Image.open(tmp_path / "demo.png").convert("RGB")).astype(int)
    rows = shown[-4 * 97 :].reshape(4, 97, *shown.shape[1:])[:, 1:, -960:]  # without the names
    assert (rows[0] == rows[1]).mean() > 0.99 and (rows[2] == rows[3]).mean() > 0.99
    assert (rows[0] == rows[2]).mean() < 0.5


def test_maps_are_means_over_the_images_and_colours_of_a_class():
    teacher = np.zeros((4, 2, 2, 3), np.uint8)  # two classes of two images
    student = teacher.copy()
    teacher[0, 0, 0], student[1, 0, 0] = 90, 30  # brighter, then darker than the student
    student[2:, 1, 1] = 255, 0, 0
    large, signed = figures.maps(teacher, student, 2)
    assert large.tolist() == [[[60, 0], [0, 0]], [[0, 0], [0, 85]]]
    assert signed.tolist() == [[[30, 0], [0, 0]], [[0, 0], [0, -85]]]


def test_the_heat_maps_are_of_both_networks_on_the_same_noise():
    axes = figures.difference(per_class=2).axes
    rows = axes[:10], axes[10:20]
    large, signed = (np.stack([one.images[0].get_array() for one in row]) for row in rows)
    assert large.shape == signed.shape == (10, 32, 32) and 10 < large.mean() < 60
    assert (abs(signed) <= large + 1e-9).all() and axes[0].get_title() == "airplane"
    looks = [row[0].images[0].get_clim() for row in rows]
    assert looks == [(0, large.max()), (-abs(signed).max(), abs(signed).max())]  # white is no difference


def test_the_table_says_what_provenance_says_and_what_was_measured():
    scores = read_json(ASSETS / "teacher" / "provenance.json")["scores"]
    near = {"closer": 0.5, "median": 2.0, "real_median": 3.0}
    text = figures.table(scores, [[0.1] * 10, [0.2] * 10], near, "cat")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert rows[2][:3] == ["**CIFAR-recall**", f"{100 * scores['cifar_recall']:.1f}", "10.0"] and rows[3][2] == "20.0"
    assert rows[4][2] == f"{100 * scores['class_accuracy_per_class']['airplane']:.1f}"
    assert rows[5][:2] == ["of real test images (lower bound)", f"{100 * scores['lower_bound']['class_accuracy']:.1f}"]
    assert "*cat*" in text and "50.0% of 10,000 generated images" in text and "median distance is 2.00, that" in text


def test_the_variety_is_measured_and_shown(real_data, tmp_path, monkeypatch):
    everything = figures.load_images
    monkeypatch.setattr(figures, "load_images", lambda split="train": everything(split=split).take(100))
    text = figures.variety(tmp_path, per_class=60)
    for name in ("class", "classes", "neighbours"):
        assert (tmp_path / f"teacher-{name}.png").stat().st_size <= 100_000
    assert len(text.splitlines()[2].strip("| ").split(" | ")[2:]) == 10
