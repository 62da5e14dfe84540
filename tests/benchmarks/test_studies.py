"""benchmarks/studies.py in small: what it trains, what it writes, and that finished runs are not repeated."""

import json
from pathlib import Path

import numpy as np
import pytest
import studies

from gsoc_kd.core.files import ASSETS, InputError, read_json
from gsoc_kd.core.pages import check_block
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.training import runs

ROOT, KD = Path(__file__).resolve().parents[2], studies.kd
TEACHER = read_json(ASSETS / "teacher" / "provenance.json")["scores"]
SMOKE = dict(preset="smoke", batch=16)
FRONTIER = {"small": {"widths": [8, 8, 8, 8]}, "large": {"widths": [16, 8, 8, 8]}}
SMALL = {
    "levers": dict(per_class=0, seeds=[0], common=dict(preset="smoke", r1=0.3), rows={"base": {}, "r1": dict(r1=0.2)}),
    "ablations": dict(per_class=4, seeds=[0, 1], rows={"base": SMOKE, "other": {**SMOKE, "lr": 0.01}}),
    "frontier": dict(per_class=4, seeds=[0], common=SMOKE, rows=FRONTIER),
}
SMALL = {name: {"minutes": 1e-6, **study} for name, study in SMALL.items()}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Studies of one step on 40 pairs in an empty folder, with made-up scores; returns what is trained."""

    def evaluate(network, per_class, teacher, progress):
        scores = {"cifar_fd": 3.0, "class_agreement": 0.5, "cifar_recall": 0.25, "images": 10 * per_class}
        if teacher:
            fd = network.config["widths"][0] / 4
            scores |= {"cifar_fd_to_teacher": fd / 10, "cifar_fd": fd, "cifar_fd_to_teacher_floor": 0.05}
            scores["class_agreement"] = TEACHER["class_agreement"] - fd / 100
        return scores

    trained, rng = [], np.random.default_rng(0)
    toy = LabelledImages(
        rng.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 10, tuple("abcdefghij"), "toy"
    )
    distill, pretrain = KD.distill, KD.pretrain

    def note(verb):
        def train(data, config, folder, *rest, **more):
            trained.append((folder.name, config.seed))
            return verb(toy if data == "cifar10" else data, config, folder, *rest, **more)

        return train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "NORM_BATCHES", (1, 16))
    monkeypatch.setattr(studies, "STUDIES", SMALL)
    for name, replacement in (("evaluate", evaluate), ("distill", note(distill)), ("pretrain", note(pretrain))):
        monkeypatch.setattr(KD, name, replacement)
    studies.PAGE.parent.mkdir()
    studies.PAGE.write_text(
        "before\n" + "".join(f"<!-- {s}: by -->\nold\n<!-- end of {s} -->\n" for s in SMALL) + "after\n"
    )
    return trained


def table(study):
    """{row: its cells} on the page, and the block's text."""
    text = check_block(studies.PAGE, study)[1]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for cells in lines[2:]}, text


def test_ablations_are_trained_scored_and_tabulated_once(small):
    studies.main("ablations")
    assert small == [("base-0", 0), ("base-1", 1), ("other-0", 0), ("other-1", 1)]
    page, (rows, text) = studies.PAGE.read_text(), table("ablations")
    assert page.startswith("before") and page.endswith("after\n") and page.count("old") == 2
    assert rows["other"][:2] == ["`preset='smoke', batch=16, lr=0.01`", "2"]
    assert rows["base"][5:] == ["0.40", "4.00", f"{TEACHER['class_agreement'] - 0.04:.1%}", "25.0%"]
    assert "a dot for each seed](ablations.png)" in text and studies.PAGE.with_name("ablations.png").is_file()
    assert text.splitlines()[-1].startswith("4 pairs for each class of the bundled teacher, CIFAR-FD ")
    assert "0.000 minutes" not in text and "10,000 images scored" in text
    done = read_json(studies.RESULTS / "ablations" / "other-1.json")
    assert done["asked"]["config"]["seed"] == 1 and done["last"]["kimg"] == 0.016  # a step is longer than its minutes
    assert done["commit"] and f", commit {done['commit']}" in text
    studies.main("ablations", names=("base",), seeds=(1,))
    assert len(small) == 4


def test_fields_that_a_config_gained_or_lost_do_not_repeat_a_run(small):
    studies.main("ablations", names=("base",), seeds=(0,))
    file = studies.RESULTS / "ablations" / "base-0.json"
    done = read_json(file)
    done["asked"]["config"] |= {"an_old_field": 3}
    del done["asked"]["config"]["lr_hold"]
    file.write_text(json.dumps(done))
    studies.main("ablations", names=("base",), seeds=(0,))
    assert len(small) == 1
    done["asked"]["config"]["lr"] = 0.5
    file.write_text(json.dumps(done))
    studies.main("ablations", names=("base",), seeds=(0,))
    assert len(small) == 2


def test_levers_train_teachers(small):
    studies.main("levers")
    assert small == [("base-0", 0), ("r1-0", 0)]
    rows, text = table("levers")
    assert rows["base"][:3] == ["`preset='smoke', r1=0.3`", "1", "0"] and rows["r1"][0] == "`r1=0.2`"
    assert rows["r1"][-3:] == ["3.00", "50.0%", "25.0%"] and "to teacher" not in text and "pairs" not in text
    assert text.splitlines()[-1].startswith("Real CIFAR-10; ")


def test_the_frontier_tells_the_smallest_that_keeps_the_classes_and_how_fast_its_files_are(small):
    studies.main("frontier")
    rows, text = table("frontier")
    share = TEACHER["class_agreement"]
    assert f"class agreement ({share:.1%}): small, with {rows['small'][3]} parameters and {share - 0.02:.1%}." in text
    assert studies.PAGE.with_name("frontier.png").is_file() and "INT8" not in text
    found = studies.time_files(batch=2, rounds=2)
    assert set(found["images_per_second"]) == {"small", "large"} and min(found["images_per_second"].values()) > 0
    speed = studies.RESULTS / "frontier" / "speed.json"
    assert read_json(speed) == found
    speed.write_text(json.dumps({**found, "images_per_second": {"small": 5000.4}}))
    studies.write("frontier")
    rows, text = table("frontier")
    assert [rows[name][5] for name in ("small", "large")] == ["5,000", "–"] and "INT8 images/s at batch 2" in text


def test_students_of_one_teacher_stand_in_a_table_and_an_earlier_one_is_named(small):
    studies.main("frontier")
    files = sorted((studies.RESULTS / "frontier").glob("*.json"))
    now = [read_json(file) for file in files]
    for file, one in zip(files, now):  # the bundled teacher has been replaced since
        old = {
            "asked": {**one["asked"], "teacher": "0123456789ab"},
            "teacher": {**one["teacher"], "class_agreement": 0.6},
        }
        file.write_text(json.dumps({**one, **old}))
    text = studies.write("frontier")
    assert f"of an earlier (01234567) teacher, CIFAR-FD {TEACHER['cifar_fd']:.2f}, class agreement 60.0%" in text
    assert "of the teacher's class agreement (60.0%)" in text and len(table("frontier")[0]) == 2
    files[0].write_text(json.dumps(now[0]))  # a student of the new one is there
    assert "of the bundled teacher" in studies.write("frontier") and list(table("frontier")[0]) == ["large"]
    files[1].unlink()
    studies.main("frontier", shown=True)
    assert len(small) == 2


def test_every_table_is_written_from_its_figures_without_training(small):
    for study in SMALL:
        studies.main(study)
    told, count = studies.PAGE.read_text(), len(small)
    studies.PAGE.write_text(told.replace("teacher", "T"))
    studies.main("tables")
    assert studies.PAGE.read_text() == told and len(small) == count
    studies.PAGE.write_text(told.replace("<!-- frontier", "<!-- other"))
    with pytest.raises(InputError, match="has no block between <!-- frontier"):
        studies.main("tables")


def test_what_is_unknown_is_named(small):
    with pytest.raises(InputError, match="no study 'all'; choose from levers, ablations, frontier, speed, tables"):
        studies.main("all")
    with pytest.raises(InputError, match="ablations has no 'x'; choose from base, other"):
        studies.main("ablations", names=("x",))
    with pytest.raises(InputError, match="has no figures"):
        studies.write("levers")


def test_the_real_studies_are_valid_and_their_figures_make_the_page_s_tables(tmp_path, monkeypatch):
    page = tmp_path / "Results.md"
    page.write_text((ROOT / studies.PAGE).read_text(encoding="utf-8"))
    monkeypatch.setattr(studies, "PAGE", page)
    monkeypatch.setattr(studies, "RESULTS", ROOT / studies.RESULTS)
    for name, study in studies.STUDIES.items():
        kind = KD.DistillConfig if study["per_class"] else KD.PretrainConfig
        for row in study["rows"].values():
            fields = {"preset": "laptop", **study.get("common", {}), **row}
            fields = {key: value for key, value in fields.items() if key not in ("per_class", "real", "minutes")}
            kind.preset(fields.pop("preset"), **fields)
        studies.write(name)
        assert set(table(name)[0]) <= set(study["rows"]) and "commit studies-2026-11 (0c31a4b)" in table(name)[1]
    sizes = [int(cells[3].replace(",", "")) for cells in table("frontier")[0].values()]
    assert len(sizes) >= 5 and min(sizes) < 60_000 and max(sizes) > 1_900_000
