"""benchmarks/studies.py in small: what it trains, what it writes, and that finished runs are not repeated."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import studies
import torch
from pages import check_block
from PIL import Image

from gsoc_kd.core.files import ASSETS, InputError, read_json
from gsoc_kd.core.weights import save_network
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.training import runs

ROOT, KD = Path(__file__).resolve().parents[2], studies.kd
SHARE = read_json(ASSETS / "teacher" / "provenance.json")["scores"]["class_accuracy"]
SMOKE, WIDE, NARROW = dict(preset="smoke", batch=16), {"widths": [16, 8, 8, 8]}, {"widths": [8, 8, 8, 8]}
KEPT = {"small": NARROW, "large": {**WIDE, "per_class": 8}, "own": dict(preset="smoke", kimg=0.032)}
SMALL = {
    "teacher": dict(per_class=0, seeds=[0], common=dict(preset="smoke", r1=0.3), rows={"base": {}, "r1": dict(r1=0.2)}),
    "ablations": dict(per_class=4, seeds=[0, 1], rows={"base": SMOKE, "other": {**SMOKE, "lr": 0.01}}),
    "trade-off": dict(per_class=4, seeds=[0], common=SMOKE, rows={"small": NARROW, "large": WIDE}),
    "full-scale": dict(
        per_class=4, seeds=[0], common={**SMOKE, "kimg": 0.016}, keep=True, rows=KEPT, teacher="teacher"
    ),
}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Studies of one step on 40 pairs in an empty folder, with made-up scores; what is trained is noted."""

    def evaluate(network, per_class, teacher, progress, imagenet):
        fd = network.config["widths"][0] / 4 if teacher else 3.0
        scores = {"cifar_fd": fd, "class_accuracy": SHARE - fd / 100, "cifar_recall": 0.25, "images": 10 * per_class}
        scores["cifar_fd_per_class"] = {"a": fd, "b": 2 * fd}
        return scores | ({"cifar_fd_to_teacher": fd / 10, "cifar_fd_to_teacher_lower_bound": 0.05} if teacher else {})

    noted, images = [], np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    toy = LabelledImages(images, np.arange(40) % 10, tuple("abcdefghij"), "toy")

    def train(verb, data, config, folder, *rest, **more):
        noted.append(folder.name)
        return verb(toy if data == "cifar10" else data, config, folder, *rest, **more)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "NORM_BATCHES", (1, 16))
    timed = {name: {"minutes": 1e-6, **study} for name, study in SMALL.items() if "keep" not in study}
    monkeypatch.setattr(studies, "STUDIES", SMALL | timed)
    monkeypatch.setattr(KD, "evaluate", evaluate)
    for verb in ("distill", "pretrain"):
        monkeypatch.setattr(KD, verb, functools.partial(train, getattr(KD, verb)))
    save_network(
        ConvGenerator(8, 10, 32, [8, 8, 8, 8], 4),
        Path("teacher"),
        {"scores": {"cifar_fd": 1.5, "class_accuracy": 0.5}},
        torch.float16,
    )
    studies.PAGE.parent.mkdir()
    studies.PAGE.write_text("head\n" + "".join(f"<!-- {s}: by -->\nold\n<!-- end of {s} -->\n" for s in SMALL))
    return noted


def test_the_trade_off_shows_each_generator_and_lines_for_what_costs_nothing():
    rows = [{"name": "teacher", "parameters": 1000, "macs": 50_000, "cifar_fd": 5.0, "marker": "*"}]
    rows += [
        {"name": "small", "parameters": 100, "macs": 7000, "cifar_fd": 8.0},
        {"name": "lower_bound", "cifar_fd": 0.5},
    ]
    left, right = studies.size_quality(rows).axes
    for axes, big, small in ((left, 1000, 100), (right, 50_000, 7000)):
        dots = {dot.get_label(): dot.get_offsets()[0].tolist() for dot in axes.collections}
        assert dots == {"teacher": [big, 5.0], "small": [small, 8.0]} and axes.get_xscale() == "log"
        assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.5]]
        named = {text.get_text(): text.xy for text in axes.texts}
        assert named == {"teacher": (big, 5.0), "small": (small, 8.0), "lower_bound": (0, 0.5)}
    assert left.get_xlabel() == "parameters" and left.get_ylabel() == "CIFAR-FD"
    assert left.get_legend() is right.get_legend() is None


def test_names_of_points_that_are_near_do_not_cover_each_other():
    costs = zip(("a", "b", "long name", "teacher"), (90_000, 110_000, 100_000, 3e6), (2.4, 2.5, 2.1, 0.7))
    rows = [{"name": name, "parameters": cost, "macs": 50 * cost, "cifar_fd": fd} for name, cost, fd in costs]
    figure = studies.size_quality([{"name": "real test images", "cifar_fd": 0.06}, *rows])
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])


def test_a_ladder_has_the_best_row_at_the_top_and_a_dot_a_number():
    axes = studies.ladder({"base": [2.0, 4.0], "better": [1.0], "worse": [9.0, 5.0]}, "distance").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["worse", "base", "better"]  # from below
    assert [line.get_xydata().tolist() for line in axes.lines[:3]] == [[[9, 0], [5, 0]], [[2, 1], [4, 1]], [[1, 2]]]
    assert list(axes.lines[3].get_xdata()) == [3, 3] and axes.get_xlabel() == "distance, lower is better"


def table(study):
    """{row: its cells} on the page, and the block's text."""
    text = check_block(studies.PAGE, study)[1]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for cells in lines[2:]}, text


def test_students_are_trained_scored_and_tabulated_once(trained):
    studies.main("ablations")
    assert trained == ["base-0", "base-1", "other-0", "other-1"]
    rows, text = table("ablations")
    assert studies.PAGE.read_text().startswith("head") and studies.PAGE.read_text().count("old") == 3
    assert rows["other"][:2] == ["`preset='smoke', batch=16, lr=0.01`", "2"]
    assert rows["base"][5:] == ["0.40", "4.00", f"{SHARE - 0.04:.1%}", "25.0%", "8.0 b"]
    assert "a dot for each seed](study-ablations.png)" in text
    assert studies.PAGE.with_name("study-ablations.png").is_file()
    assert "4 pairs for each class of the bundled teacher, CIFAR-FD " in text and "10,000 images scored" in text
    done = read_json(studies.RESULTS / "ablations" / "other-1.json")
    assert done["asked"]["config"]["seed"] == 1 and done["last"]["kimg"] == 0.016  # a step is longer than its minutes
    assert f", commit {done['commit']})" in text
    studies.main("ablations", names=("base",), seeds=(1,))
    assert len(trained) == 4
    asked, kind = done["asked"], KD.DistillConfig
    config = {key: value for key, value in asked["config"].items() if key != "lr_hold"} | {"an_old_field": 3}
    assert studies.same({**asked, "config": config}, asked, kind)  # a field came, one went
    assert not studies.same({**asked, "config": {**config, "lr": 0.5}}, asked, kind)


def test_the_trade_off_tells_what_is_small_and_fast_and_forgets_an_earlier_teacher(trained):
    studies.main("trade-off")
    rows, text = table("trade-off")
    assert f"class accuracy ({SHARE:.1%}): small, with {rows['small'][3]} parameters and {SHARE - 0.02:.1%}." in text
    assert studies.PAGE.with_name("trade-off.png").is_file() and "INT8" not in text
    files = sorted((studies.RESULTS / "trade-off").glob("*.json"))
    found, speed = studies.time_files(batch=2, rounds=2), studies.RESULTS / "trade-off" / "speed.json"
    assert set(found["images_per_second"]) == {"small", "large"} and read_json(speed) == found
    speed.write_text(json.dumps({**found, "images_per_second": {"small": 5000.4}}))
    assert "INT8 images/s at batch 2" in studies.write("trade-off")
    assert [table("trade-off")[0][name][5] for name in ("small", "large")] == ["5,000", "–"]
    now = [read_json(file) for file in files]
    for file, one in zip(files, now):  # the bundled teacher has been replaced since
        file.write_text(json.dumps(one | {"asked": one["asked"] | {"teacher": "0123456789ab"}}))
    assert studies.write("trade-off") == "Not measured yet: `python benchmarks/studies.py trade-off` trains it."
    files[0].write_text(json.dumps(now[0]))  # a student of the new one is there
    assert "of the bundled teacher" in studies.write("trade-off") and list(table("trade-off")[0]) == ["large"]


def test_at_full_scale_rows_have_their_own_length_and_teacher_and_their_weights_are_kept(trained):
    assert studies.main("full-scale", minutes=0) == 3 and not trained
    assert not studies.main("full-scale") and trained == ["small-0", "large-0", "own-0"]
    rows, text = table("full-scale")
    assert "4 to 8 pairs for each class of the study's own teacher, CIFAR-FD 1.50, class accuracy 50.0%" in text
    files = {name: studies.RESULTS / "full-scale" / f"{name}-0.json" for name in rows}
    found = {name: read_json(file) for name, file in files.items()}
    assert [one["last"]["kimg"] for one in found.values()] == [0.016, 0.016, 0.032]  # "own" takes nothing from `common`
    for name, one in found.items():
        kept = studies.RESULTS / "full-scale" / "networks" / f"{name}-0"
        assert KD.load_student(kept).config["widths"] == one["asked"]["config"]["widths"]
        told = read_json(kept / "provenance.json")
        assert (
            told["commit"] == one["commit"]
            and told["teacher"] == one["asked"]["teacher"] == KD.load_teacher("teacher").digest
        )
    with Image.open(studies.PAGE.with_name("full-scale-students.png")) as image:
        assert image.height == 4 * 65 + 1 and image.width > 10 * 65  # the teacher and three students


def test_rows_that_cost_more_get_fewer_pairs_for_the_same_time(trained, monkeypatch):
    study = dict(per_class=4, kimg=0.032, seeds=[0], rows={"base": SMOKE, "wide": {**SMOKE, **WIDE, "disc_width": 8}})
    monkeypatch.setattr(studies, "STUDIES", {"ablations": study})
    costs = studies.pair_costs("ablations", rounds=2)
    assert costs["base"] == 1 and set(costs) == {"base", "wide"}
    file = studies.RESULTS / "ablations" / "costs.json"
    file.write_text(json.dumps(read_json(file) | {"costs": {"base": 1.0, "wide": 2.0}}))  # kept, not measured again
    studies.main("ablations")
    found = [read_json(studies.RESULTS / "ablations" / f"{name}-0.json") for name in study["rows"]]
    assert [one["last"]["kimg"] for one in found] == [0.032, 0.016]
    assert "as many pairs as take the time of 0.032 thousand of the first row" in table("ablations")[1]
    study["rows"]["later"] = SMOKE | {"batch": 8}  # of which a step costs about half, a pair about as much
    costs = studies.pair_costs("ablations", rounds=2)
    assert costs["wide"] == 2.0 and costs["later"] > 0.7  # what is there is not measured again
    study["rows"]["wide"]["lr"] = 0.5  # figures of the row as it was are not shown as its own
    studies.write("ablations")
    assert list(table("ablations")[0]) == ["base"]


def test_teachers_are_trained_too_and_tables_written_without_training(trained):
    with pytest.raises(InputError, match="ablations has no 'x'; choose from base, other"):
        studies.main("ablations", names=("x",))
    studies.main("tables")
    assert studies.PAGE.read_text().count("Not measured yet: ") == 4
    for study in SMALL:
        studies.main(study, seeds=(0,))
    assert trained == ["base-0", "r1-0", "base-0", "other-0", "small-0", "large-0", "small-0", "large-0", "own-0"]
    rows, text = table("teacher")
    assert rows["base"][:3] == ["`preset='smoke', r1=0.3`", "1", "0"] and rows["r1"][0] == "`r1=0.2`"
    assert rows["r1"][-4:] == ["3.00", f"{SHARE - 0.03:.1%}", "25.0%", "6.0 b"] and "\nReal CIFAR-10; " in text
    assert "to teacher" not in text and "pairs" not in text
    told = studies.PAGE.read_text()
    studies.PAGE.write_text(told.replace("accuracy", "A"))
    studies.main("tables")
    assert studies.PAGE.read_text() == told and len(trained) == 9
    studies.PAGE.write_text(told.replace("<!-- trade-off", "<!-- other"))
    with pytest.raises(InputError, match="has no block between <!-- trade-off"):
        studies.main("tables")


def test_the_real_studies_are_valid_and_their_figures_make_the_page_s_tables(tmp_path, monkeypatch):
    page = tmp_path / "Studies.md"
    page.write_text((ROOT / studies.PAGE).read_text(encoding="utf-8"))
    monkeypatch.chdir(ROOT)  # from where a study names its own teacher
    monkeypatch.setattr(studies, "PAGE", page)
    monkeypatch.setattr(studies, "RESULTS", ROOT / studies.RESULTS)
    for name, study in studies.STUDIES.items():
        for row in study["rows"] if "tag" not in study else ():
            studies.asking(name, row, 0, 1, None)  # refuses a field that the config does not have
        text = studies.write(name)
        if not text.startswith("Not measured yet: "):
            assert "commit " in text and set(table(name)[0]) <= set(study["rows"])
