"""benchmarks/studies.py in small: what it trains, what it writes, and that finished runs are not repeated."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gsoc_kd.teachers.load import EMBEDDED

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.training.distill import DistillConfig
from gsoc_kd.training.gan import PretrainConfig, averaged

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
studies = importlib.import_module("studies")
TEACHER = read_json(EMBEDDED / "teacher" / "provenance.json")["scores"]
SMOKE = dict(widths=(16, 8, 8, 8), embed_dim=4, rank=8, disc_width=4, batch=16)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Three studies of moments on 40 pairs; scoring is left out, its seed tells the runs apart."""

    def evaluate(student, per_class, teacher, progress):
        if teacher is None:
            return {"cifar_fd": 3.0, "class_agreement": 0.5, "cifar_recall": 0.25, "images": 10 * per_class}
        fd = student.config["widths"][0] / 4 if "rank" in student.config else 16.0
        return {
            "cifar_fd_to_teacher": fd / 10,
            "cifar_fd": fd,
            "class_agreement": TEACHER["class_agreement"] - fd / 100,
            "cifar_recall": 0.25,
            "cifar_fd_to_teacher_floor": 0.05,
            "images": 10 * per_class,
        }

    monkeypatch.setattr(averaged, "__defaults__", (1, 16))
    monkeypatch.setattr(studies, "evaluate", evaluate)
    monkeypatch.setattr(
        studies,
        "STUDIES",
        {
            "levers": studies.Study(
                1e-6,
                0,
                (0,),
                {"base": {}, "hinge": dict(loss="hinge"), "r1": dict(r1=0.2)},
                common=dict(preset="smoke", r1=0.3),
            ),
            "ablations": studies.Study(1e-6, 4, (0, 1), {"base": SMOKE, "other": {**SMOKE, "adversarial_every": 10}}),
            "equal-cost": studies.Study(
                1e-6,
                4,
                (0,),
                {
                    "distylegan-2022": dict(preset="distylegan-2022", batch=16),
                    "default-in-30-minutes": {**SMOKE, "minutes": 2e-6},
                    "default": {**SMOKE, "widths": (8, 8, 8, 8)},
                },
            ),
            "frontier": studies.Study(1e-6, 4, (0,), {"small": {**SMOKE, "widths": (8, 8, 8, 8)}, "large": SMOKE}),
        },
    )
    page = tmp_path / "Results.md"
    page.write_text(
        "before\n" + "\n".join(f"<!-- {s}: by -->\nold\n<!-- end of {s} -->" for s in studies.STUDIES) + "\nafter"
    )
    return lambda study, **more: studies.main(
        study, runs=tmp_path / "runs", results=tmp_path / "results", page=page, **more
    )


def test_ablations_are_trained_scored_and_tabulated_once(small, tmp_path, monkeypatch):
    small("ablations")
    page = (tmp_path / "Results.md").read_text()
    assert page.startswith("before") and page.endswith("after") and page.count("old") == 3
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith(("| base", "| other"))]
    assert [line[2] for line in lines] == ["2", "2"] and "adversarial_every=10" in lines[1][1]
    assert lines[0][6:] == ["0.40", "4.00", f"{TEACHER['class_agreement'] - 0.04:.1%}", "25.0% |"]
    assert "a dot a seed](ablations.png)" in page and (tmp_path / "ablations.png").is_file()
    assert "40 pairs of the embedded teacher" in page and "10,000 pictures scored" in page
    done = read_json(tmp_path / "results" / "ablations" / "other-1.json")
    assert done["asked"]["config"]["seed"] == 1 and done["last"]["kimg"] == 0.016  # a step is longer than its minutes
    monkeypatch.setattr(studies, "distill", None)
    small("ablations")
    old = {**done["asked"], "config": {k: v for k, v in done["asked"]["config"].items() if k != "disc_labels"}}
    assert studies.same(old, done["asked"])  # from before the field existed
    assert not studies.same({**old, "minutes": 3}, done["asked"])


def test_levers_train_teachers(small, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    toy = LabelledImages(
        rng.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 10, tuple("abcdefghij"), "toy"
    )
    trained, original = [], studies.pretrain

    def pretrain(real, config, *args, **more):
        trained.append((real, config.loss, config.r1))
        return original(toy, config, *args, **more)

    monkeypatch.setattr(studies, "pretrain", pretrain)
    small("levers"), small("levers")
    assert trained == [("cifar10", "logistic", 0.3), ("cifar10", "hinge", 0.3), ("cifar10", "logistic", 0.2)]
    page = (tmp_path / "Results.md").read_text()
    assert "| CIFAR-FD | class agreement |" in page and "to teacher" not in page and "pairs" not in page
    assert "Real CIFAR-10, 1e-06 minutes of one core's time a run, one seed; 10,000 pictures" in page
    assert "| base | `preset='smoke', r1=0.3` | 1 | 0 | " in page and "| hinge | `loss='hinge'` | 1 | 0 | " in page
    assert "| 3.00 | 50.0% | 25.0% |" in page


def test_equal_cost_says_the_ratios(small, tmp_path):
    small("equal-cost")
    page = (tmp_path / "Results.md").read_text()
    told = "its CIFAR-FD to the teacher is {0} times that of `distylegan-2022`, its CIFAR-FD to real images {0} times"
    assert "`default`: " + told.format("0.12") in page and "`default-in-30-minutes`: " + told.format("0.25") in page
    assert "1e-06 or 2e-06 minutes of one core's time" in page
    assert read_json(tmp_path / "results" / "equal-cost" / "default-in-30-minutes-0.json")["asked"]["minutes"] == 2e-6
    (tmp_path / "results" / "equal-cost" / "speed.json").write_text(
        json.dumps({"ratio": 3.25, "batch": 256, "hardware": "here", "date": "today"})
    )
    small("equal-cost")
    assert "The default draws 3.2 times as many images a second (batch 256" in (tmp_path / "Results.md").read_text()


def test_frontier_names_the_smallest_that_keeps_the_teacher_s_classes(small, tmp_path):
    small("frontier")
    page = (tmp_path / "Results.md").read_text()
    told = TEACHER["class_agreement"]
    assert f"teacher's class agreement ({told:.1%}): small, with 12,707 parameters and {told - 0.02:.1%}." in page
    assert (tmp_path / "frontier.png").is_file()


def test_students_of_one_teacher_stand_in_a_table_and_an_earlier_one_is_named(small, tmp_path, monkeypatch):
    small("frontier")
    results = tmp_path / "results"
    files = sorted((results / "frontier").glob("*.json"))
    old = [read_json(file) for file in files]
    for file, one in zip(files, old):  # the embedded teacher has been replaced
        file.write_text(json.dumps({**one, "asked": {**one["asked"], "teacher": "0123456789ab"}}))
    known = read_json(results / "teachers.json")
    ((digest, figures),) = known.items()
    (results / "teachers.json").write_text(json.dumps({**known, "0123456789ab": {**figures, "class_agreement": 0.6}}))
    text = studies.write("frontier", tmp_path / "Results.md", results, 1e-6)
    assert (
        f"pairs of an earlier embedded teacher (CIFAR-FD {TEACHER['cifar_fd']:.2f}, class agreement 60.0%, sha256 01234567)"
        in text
    )
    assert (
        "of the teacher's class agreement (60.0%)" in text and text.count("\n| small") == text.count("\n| large") == 1
    )
    files[0].write_text(json.dumps(old[0]))  # one of its students is finished
    text = studies.write("frontier", tmp_path / "Results.md", results, 1e-6)
    assert "40 pairs of the embedded teacher" in text and text.count("\n| small") + text.count("\n| large") == 1
    trained, original = [], studies.distill  # only the rows that are shown begin anew
    monkeypatch.setattr(
        studies,
        "distill",
        lambda pairs, config, folder, *rest: trained.append(folder) or original(pairs, config, folder, *rest),
    )
    (results / "frontier" / "large-0.json").unlink()
    (results / "frontier" / "small-0.json").write_text(
        json.dumps({**old[1], "asked": {**old[1]["asked"], "teacher": "0"}})
    )
    small("frontier", shown=True)
    assert trained == [tmp_path / "runs" / digest[:8] / "frontier" / "small-0"]
    with pytest.raises(InputError, match="has no figures of runs of these minutes"):
        studies.write("frontier", tmp_path / "Results.md", results, 7)


def test_every_table_is_written_from_its_figures_without_training(small, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "STUDIES", {name: studies.STUDIES[name] for name in ("equal-cost", "frontier")})
    small("equal-cost"), small("frontier")
    page = tmp_path / "Results.md"
    told = page.read_text()
    page.write_text(told.replace("teacher", "T"))
    monkeypatch.setattr(studies, "distill", None)
    small("tables")
    assert page.read_text() == told and told.count("| ") > 50
    page.write_text(told.replace("<!-- frontier", "<!-- other"))
    with pytest.raises(InputError, match="has no block between <!-- frontier"):
        small("tables")


def test_speed_is_measured_in_turn(tmp_path):
    found = studies.time_generators(tmp_path / "speed.json", batch=2, rounds=2)
    rates = found["images_per_second"]
    assert found["ratio"] == pytest.approx(rates["laptop"] / rates["distylegan-2022"]) and found["batch"] == 2
    assert read_json(tmp_path / "speed.json") == found


def test_the_frontier_tells_how_fast_its_files_are(small, tmp_path):
    file = tmp_path / "results" / "frontier" / "speed.json"
    small("frontier")
    assert "INT8" not in (tmp_path / "Results.md").read_text()
    found = studies.time_files(file, batch=2, rounds=2)
    assert set(found["images_per_second"]) == {"small", "large"} and min(found["images_per_second"].values()) > 0
    file.write_text(json.dumps({**found, "images_per_second": {"small": 5000.4}}))
    small("frontier")
    page = (tmp_path / "Results.md").read_text()
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith(("| small", "| large"))]
    assert [line[6] for line in lines] == ["5,000", "–"] and len(lines[0]) == 11
    assert (
        "INT8 images/s: their OpenVINO files, batch 2, all timed in turn by `python benchmarks/studies.py speed`"
        in page
    )


def test_what_is_unknown_is_named(small, tmp_path):
    with pytest.raises(
        InputError, match="no study 'all'; choose from levers, ablations, equal-cost, frontier, speed, tables"
    ):
        small("all")
    with pytest.raises(InputError, match="ablations has no 'x'; choose from base, other"):
        small("ablations", names=("x",))
    (tmp_path / "Results.md").write_text("nothing")
    with pytest.raises(InputError, match="has no block between <!-- frontier"):
        small("frontier")


def test_the_real_studies_are_valid_and_the_frontier_spans_the_sizes():
    for study in studies.STUDIES.values():
        for fields in study.changes.values():
            (DistillConfig if study.per_class else PretrainConfig).preset(
                fields.get("preset", "laptop"),
                **{
                    k: v
                    for k, v in {**study.common, **fields}.items()
                    if k not in ("preset", "per_class", "real", "minutes")
                },
            )
    page = (Path(studies.__file__).parents[1] / "docs" / "Results.md").read_text(encoding="utf-8")
    assert all(studies.block(name).search(page) for name in studies.STUDIES)
    sizes = []
    for fields in studies.STUDIES["frontier"].changes.values():
        student, _ = studies.make_networks(DistillConfig(**fields), 128, 10, 32)
        sizes.append(sum(p.numel() for p in student.parameters()))
    assert len(sizes) >= 5 and min(sizes) < 60_000 and max(sizes) > 1_900_000
