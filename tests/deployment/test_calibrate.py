"""Calibration without real data: which pictures, what nncf makes of them, what the table says."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.make import draw_latents
from gsoc_kd.teachers.black_box import Teacher
from gsoc_kd.teachers.load import load_teacher

from gsoc_kd.cli import main
from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import network_hash
from gsoc_kd.data.images import LabelledImages, to_float
from gsoc_kd.evaluation.classifier import Judge, load_judge

pytest.importorskip("openvino", reason="the extra `deploy` is not installed: left out are all tests of calibration")
pytest.importorskip("nncf", reason="the extra `deploy` is not installed: left out are all tests of calibration")
module = importlib.import_module("gsoc_kd.deployment.calibrate")
ROOT = Path(__file__).resolve().parents[2]
PAGE = "# Page\n\nbefore\n<!-- calibration: made by a command -->\nold table\n<!-- end of calibration -->\nafter\n"


def pictures(per_class, source, side=32):
    """Random pictures of three classes, brighter from class to class, `per_class` of each, in turn."""
    labels = np.arange(3 * per_class) % 3
    rng = np.random.default_rng(len(source))
    images = rng.integers(0, 100, (len(labels), side, side, 3)) + 70 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, ("dark", "grey", "bright"), source)


def generator(name, side=32):
    """A Teacher of three classes that paints a picture in one colour; and what it was asked."""
    asked = []

    def draw(z, y):
        asked.append((z.numpy(), y.numpy()))
        colour = (z[:, :3] * 40 + 128).clamp(0, 255).to(torch.uint8)  # (N, 3)
        return colour[:, None, None].expand(-1, side, side, -1).contiguous()

    return Teacher(draw, z_dim=5, num_classes=3, resolution=side, classes=("dark", "grey", "bright"), name=name), asked


@pytest.fixture
def judge():
    torch.manual_seed(1)
    return Judge(num_classes=3, widths=(4, 6, 8, 8)).eval().requires_grad_(False)


# ---------------------------------------------------------------- pictures


def test_real_pictures_are_of_all_classes_equally_many_and_none_twice():
    train = pictures(20, "train")
    shown = module.calibration_images("real", 30, seed=4, draw=0, train=train)
    known = {image.tobytes(): label for image, label in zip(train.images, train.labels)}
    assert np.bincount([known[image.tobytes()] for image in shown]).tolist() == [10, 10, 10]
    assert len({image.tobytes() for image in shown}) == 30
    fewer = module.calibration_images("real", 5, seed=4, draw=0, train=train)
    assert np.bincount([known[image.tobytes()] for image in fewer]).tolist() == [2, 2, 1]


@pytest.mark.parametrize("source", ["teacher", "student"])
def test_a_generator_is_asked_for_all_classes_equally_often(source):
    asked = {}
    generators = {}
    for name in ("teacher", "student"):
        generators[name], asked[name] = generator(name)
    shown = module.calibration_images(source, 6, seed=4, draw=2, generators=generators)
    ((z, y),) = asked.pop(source)
    assert np.array_equal(z, draw_latents(4, 2, 6, 5)) and y.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(shown, generators[source](z, y)) and list(asked.values()) == [[]]


def test_noise_has_every_grey_level_and_a_constant_has_one_colour():
    noise = module.calibration_images("noise", 8, 0, 0)
    assert noise.shape == (8, 32, 32, 3) and noise.dtype == np.uint8
    counts = np.bincount(noise.ravel(), minlength=256)
    assert counts.min() > 40 and counts.max() < 160  # 96 expected, deviation 10
    constant = module.calibration_images("constant", 8, 0, 0, side=16)
    assert constant.shape == (8, 16, 16, 3) and constant.dtype == np.uint8
    assert (constant == constant[0, 0, 0]).all() and len(set(constant[0, 0, 0])) > 1


@pytest.mark.parametrize("source", module.SOURCES)
def test_pictures_depend_on_seed_and_draw_alone(source):
    train = pictures(20, "train")
    generators = {"teacher": generator("teacher")[0], "student": generator("student")[0]}
    first, again, draw, seed = (
        module.calibration_images(source, 12, s, d, train, generators) for s, d in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, draw) and not np.array_equal(first, seed) and not np.array_equal(draw, seed)


# ---------------------------------------------------------------- models


def test_the_exported_judge_is_the_judge(judge):
    model = module.as_openvino(judge)
    images = pictures(7, "some").images
    with torch.inference_mode():
        logits = judge(to_float(images)).numpy()
    compiled = module._need("openvino").compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert compiled.input(0).element_type.to_dtype() == np.uint8
    np.testing.assert_allclose(compiled(images)[0], logits, atol=1e-4)
    assert np.array_equal(module.predictions(model, images, batch=4), logits.argmax(1))  # 21: one is left over


def precisions(model):
    """Of each convolution and matrix product as the processor runs it, its inputs' kind of number."""
    compiled = module._need("openvino").compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    runtime = [
        (op.get_rt_info()["layerType"].astype(str), op.get_rt_info()["runtimePrecision"].astype(str))
        for op in compiled.get_runtime_model().get_ops()
    ]
    return [precision for kind, precision in runtime if kind in ("Convolution", "FullyConnected")]


def test_int8_is_int8_and_its_ranges_are_those_of_the_pictures(judge):
    model = module.as_openvino(judge)
    dim = pictures(2, "dim").images // 2  # (6, 32, 32, 3)
    small = module.quantised(model, dim)
    assert module.ranges(model) == [] and len(module.ranges(small)) >= 7
    low, high = module.ranges(small)[0]  # of the pictures themselves
    assert low == 0 and high == pytest.approx(dim.max(axis=(1, 2, 3)).mean())  # the mean of maxima
    assert set(precisions(model)) == {"f32"}
    assert len(precisions(small)) == len(precisions(model)) and set(precisions(small)) <= {"i8", "u8"}


# ---------------------------------------------------------------- arithmetic


def test_summary_by_hand(monkeypatch):
    labels = np.array([0, 1, 2, 0, 1])
    exact = np.array([0, 1, 2, 0, 0])  # 4 of 5 right
    answers = {
        "real": [exact, np.array([0, 1, 2, 0, 1])],  # one better: lost -1 of 5
        "noise": [np.array([0, 0, 0, 0, 0]), np.array([1, 1, 1, 1, 1])],
    }  # 2 and 2 right; same 3 and 1
    found = module.summary(exact, answers, labels)
    assert found["accuracy"] == 0.8
    real, noise = found["rows"]
    assert (real["source"], real["name"]) == ("real", "real training images")
    assert real["accuracy"]["draws"] == [0.8, 1.0] and real["accuracy"]["mean"] == pytest.approx(0.9)
    assert real["accuracy_lost"]["draws"] == [0.0, -0.2] and real["accuracy_lost"]["mean"] == pytest.approx(-0.1)
    assert real["accuracy_lost"]["std"] == pytest.approx(0.2 / 2**0.5)  # divided by n - 1
    assert real["agreement"]["draws"] == [1.0, 0.8]
    assert noise["accuracy"] == {"mean": 0.4, "std": 0.0, "draws": [0.4, 0.4]}
    assert noise["agreement"]["draws"] == [0.6, 0.2]
    assert module.summary(exact, {"real": [exact]}, labels)["rows"][0]["accuracy"]["std"] is None


def test_table_by_hand():
    rows = [
        {
            "name": "real",
            "accuracy": {"mean": 0.91, "std": 0.01},
            "accuracy_lost": {"mean": 0.005, "std": 0.0001},
            "agreement": {"mean": 0.99, "std": 0.002},
        },
        {
            "name": "noise",
            "accuracy": {"mean": 0.5, "std": None},
            "accuracy_lost": {"mean": -0.02, "std": None},
            "agreement": {"mean": 1.0, "std": None},
        },
    ]
    result = {
        "accuracy": 0.915,
        "rows": rows,
        "test_images": 10_000,
        "images": 300,
        "draws": 5,
        "command": "c",
        "date": "2026-01-02",
        "hardware": "2 CPU cores",
        "versions": {"openvino": "1.2.3-45-ab", "nncf": "3.4"},
    }
    lines = module.table(result).splitlines()
    assert lines[2:4] == ["| real | 91.00% | 0.50 ± 0.01 | 99.00 ± 0.20 % |", "| noise | 50.00% | -2.00 | 100.00 % |"]
    assert lines[-1] == (
        "In 32 bits the judge is right on 91.50% of 10,000 real test images; 300 pictures a "
        "calibration, mean and standard deviation over 5 draws. Measured by `c` on 2026-01-02, "
        "2 CPU cores, OpenVINO 1.2.3, nncf 3.4."
    )
    assert "one draw." in module.table({**result, "draws": 1})


# ---------------------------------------------------------------- the whole


@pytest.fixture
def given(judge, tmp_path):
    """Arguments of a small calibration that writes into a folder of the test's own."""
    (tmp_path / "page.md").write_text(PAGE)
    return dict(
        train=pictures(6, "train"),
        test=pictures(20, "test"),
        draws=2,
        images=6,
        judge=judge,
        teacher=generator("big")[0],
        student=generator("small")[0],
        progress=False,
        out=str(tmp_path / "table.json"),
        pages=(str(tmp_path / "page.md"),),
    )


def test_calibrate_measures_writes_and_returns(given, judge, tmp_path, capsys):
    result = module.calibrate(**given)
    assert result == read_json(tmp_path / "table.json")
    page = (tmp_path / "page.md").read_text()
    assert page == PAGE.replace("old table\n", module.table(result))
    assert [row["source"] for row in result["rows"]] == ["real", "teacher", "student", "noise", "constant"]
    test = given["test"]
    with torch.inference_mode():
        exact = judge(to_float(test.images)).argmax(1).numpy()
    assert result["accuracy"] == (exact == test.labels).mean()
    model, row = module.as_openvino(judge), result["rows"][3]
    noise = module.calibration_images("noise", 6, 2000, draw=1)  # once more by hand
    found = module.predictions(module.quantised(model, noise), test.images)
    assert row["accuracy"]["draws"][1] == pytest.approx((found == test.labels).mean(), abs=1e-6)
    assert row["agreement"]["draws"][1] == pytest.approx((found == exact).mean(), abs=1e-6)
    assert (result["draws"], result["images"], result["seed"], result["test_images"]) == (2, 6, 2000, 60)
    assert result["command"] == "gsoc-kd calibrate --draws 2 --images 6 --seed 2000"
    assert result["networks"]["judge"] == network_hash(judge)
    said = capsys.readouterr()
    assert said.out == "" and said.err == ""  # nncf's bars would drown ours


def test_nothing_is_written_where_nothing_is_named(given, tmp_path):
    module.calibrate(**{**given, "draws": 1, "out": "", "pages": ()})
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"] and (tmp_path / "page.md").read_text() == PAGE


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(draws=0), "draws must be a whole number of at least 1, not 0"),
        (dict(images=2), "images must be a whole number of at least 3, not 2"),
        (dict(images=21), "train has 6 images of 'dark'; 21 pictures, equally many a class, need 7"),
        (dict(judge=Judge(4, (4, 6))), "train has 3 classes, the judge knows 4"),
        (dict(test=pictures(2, "small test", 16)), "train has pictures of 32 pixels a side, small test of 16"),
        (dict(student=generator("tiny", 16)[0]), "tiny has pictures of 16 pixels a side, test of 32"),
        (dict(pages=("no.md",)), r"no.md has no block between <!-- calibration: "),
    ],
)
def test_what_cannot_be_finished_is_refused_at_once(given, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(module, "as_openvino", lambda judge: pytest.fail("the measurement began"))
    with pytest.raises(InputError, match=message):
        module.calibrate(**{**given, **changes})
    assert not (tmp_path / "table.json").exists() and (tmp_path / "page.md").read_text() == PAGE


def test_without_the_extra_one_line_says_what_to_install(given, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)  # as if it were not installed
    with pytest.raises(InputError, match="nncf is not installed; .*deploy"):
        module.calibrate(**given)


def test_without_cifar10_the_command_says_in_one_line_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GSOC_KD_DATA", str(tmp_path / "nothing"))
    assert main(["calibrate", "--out", str(tmp_path / "table.json")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "CIFAR-10 is not in" in said and "GSOC_KD_DATA" in said
    assert not (tmp_path / "table.json").exists()


# ---------------------------------------------------------------- what was measured


def test_the_committed_table_is_of_the_embedded_networks_and_stands_in_the_wiki():
    result = read_json(module.TABLE)
    stale = "run `gsoc-kd calibrate` again"
    assert result["networks"] == {
        "judge": network_hash(load_judge()),
        **{name: load_teacher(module.TABLE.parent / name).digest for name in ("teacher", "student")},
    }, stale
    assert result["test_images"] == 10_000 and result["images"] == 300 and result["draws"] >= 5
    assert [row["source"] for row in result["rows"]] == list(module.SOURCES)
    assert all(
        len(row[key]["draws"]) == result["draws"]
        for row in result["rows"]
        for key in ("accuracy", "accuracy_lost", "agreement")
    )
    block = module.BLOCK.search((ROOT / "docs" / "Deployment.md").read_text(encoding="utf-8"))
    assert block[0] == block[1] + module.table(result) + block[2], stale
