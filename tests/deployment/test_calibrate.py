"""Calibration without real data: which images, what nncf makes of them, what the table says."""

import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import check_block

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import network_hash
from gsoc_kd.data.images import LabelledImages, to_float
from gsoc_kd.deployment import calibrate as module
from gsoc_kd.evaluation.classifier import Classifier, load_classifier
from gsoc_kd.pairs.make import draw_latents
from gsoc_kd.teachers.black_box import Teacher
from gsoc_kd.teachers.load import load_teacher

openvino, _ = (pytest.importorskip(name, reason="the extra `deploy` is not installed") for name in ("openvino", "nncf"))
NAMES = ("dark", "grey", "bright")


def images_of(per_class, source, side=32):
    """Random images of three classes, brighter from class to class, `per_class` of each, in turn."""
    labels = np.arange(3 * per_class) % 3
    rng = np.random.default_rng(len(source))
    images = rng.integers(0, 100, (len(labels), side, side, 3)) + 70 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, NAMES, source)


def generator(name, side=32):
    """A Teacher of three classes that paints an image in one colour, of latent and label; each name's is another."""

    def draw(z, y):
        colour = (z[:, :3] * 40 + 60 * y[:, None] + len(name)).clamp(0, 255).to(torch.uint8)  # (N, 3)
        return colour[:, None, None].expand(-1, side, side, -1).contiguous()

    return Teacher(draw, z_dim=5, num_classes=3, resolution=side, classes=NAMES, name=name)


def named(classifier, names):
    classifier.classes = names
    return classifier


@pytest.fixture
def classifier():
    torch.manual_seed(1)
    return Classifier(num_classes=3, widths=(4, 6, 8)).eval().requires_grad_(False)


def test_real_images_are_of_all_classes_equally_many_and_none_twice():
    train = images_of(20, "train")
    known = {image.tobytes(): label for image, label in zip(train.images, train.labels)}
    for count, expected in ((30, [10, 10, 10]), (5, [2, 2, 1])):
        shown = module.calibration_images("real", count, seed=4, draw=0, train=train)
        assert np.bincount([known[image.tobytes()] for image in shown]).tolist() == expected
        assert len({image.tobytes() for image in shown}) == count


def test_a_generator_is_asked_for_all_classes_equally_often():
    generators = {"teacher": generator("big"), "student": generator("very small")}
    for source, one in generators.items():
        shown = module.calibration_images(source, 6, seed=4, draw=2, generators=generators)
        assert np.array_equal(shown, one(draw_latents(4, 2, 6, 5), [0, 1, 2, 0, 1, 2]))


def test_noise_has_every_grey_level_and_a_constant_has_one_colour():
    noise = module.calibration_images("noise", 8, 0, 0)
    assert noise.shape == (8, 32, 32, 3) and noise.dtype == np.uint8
    counts = np.bincount(noise.ravel(), minlength=256)
    assert counts.min() > 40 and counts.max() < 160  # 96 expected, deviation 10
    constant = module.calibration_images("constant", 8, 0, 0, side=16)
    assert constant.shape == (8, 16, 16, 3) and constant.dtype == np.uint8
    assert (constant == constant[0, 0, 0]).all() and len(set(constant[0, 0, 0])) > 1


@pytest.mark.parametrize("source", module.SOURCES)
def test_images_depend_on_seed_and_draw_alone(source):
    train, generators = images_of(20, "train"), {name: generator(name) for name in ("teacher", "student")}
    first, again, draw, seed = (
        module.calibration_images(source, 12, s, d, train, generators) for s, d in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, draw) and not np.array_equal(first, seed) and not np.array_equal(draw, seed)


def test_the_exported_classifier_is_the_classifier(classifier):
    model, images = module.as_openvino(classifier), images_of(7, "some").images
    with torch.inference_mode():
        logits = classifier(to_float(images)).numpy()
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert compiled.input(0).element_type.to_dtype() == np.uint8
    np.testing.assert_allclose(compiled(images)[0], logits, atol=1e-4)
    assert np.array_equal(module.predictions(model, images, batch=4), logits.argmax(1))  # 21: one is left over


def test_int8_is_int8_and_its_ranges_are_those_of_the_images(classifier):
    model = module.as_openvino(classifier)
    dim = images_of(2, "dim").images // 2  # (6, 32, 32, 3)
    small = module.quantised(model, dim)
    assert module.ranges(model) == [] and len(module.ranges(small)) >= 5
    low, high = module.ranges(small)[0]  # of the images themselves
    assert low == 0 and high == pytest.approx(dim.max(axis=(1, 2, 3)).mean())  # the mean of maxima
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    for one, kinds in ((model, {"f32"}), (small, {"u8", "i8"})):
        ran = [op.get_rt_info() for op in openvino.compile_model(one, "CPU", options).get_runtime_model().get_ops()]
        ran = [op for op in ran if op["layerType"].astype(str) in ("Convolution", "FullyConnected")]
        assert len(ran) >= 6 and {op["runtimePrecision"].astype(str) for op in ran} <= kinds


@pytest.fixture
def given(classifier):
    """Arguments of a small calibration."""
    data = {"train": images_of(6, "train"), "test": images_of(20, "test")}
    networks = {"classifier": classifier, "teacher": generator("big"), "student": generator("small")}
    return {**data, **networks, "draws": 2, "images": 6}


def test_calibrate_measures_every_source(given, classifier, capsys):
    result, test = module.calibrate(**given), given["test"]
    assert [row["source"] for row in result["rows"]] == ["real", "teacher", "student", "noise", "constant"]
    with torch.inference_mode():
        exact = classifier(to_float(test.images)).argmax(1).numpy()
    assert result["accuracy"] == (exact == test.labels).mean()
    model, row = module.as_openvino(classifier), result["rows"][3]
    noise = module.calibration_images("noise", 6, 2000, draw=1)  # once more by hand
    found = module.predictions(module.quantised(model, noise), test.images)
    assert row["name"] == "uniform noise" and row["accuracy"]["draws"][1] == round((found == test.labels).mean(), 6)
    assert row["agreement"]["draws"][1] == round((found == exact).mean(), 6)
    classifier.classes, reverse = NAMES, replace(test, labels=2 - test.labels, classes=NAMES[::-1])  # the same images
    once = module.calibrate(**{**given, "draws": 1, "test": reverse})
    assert once["accuracy"] == result["accuracy"]
    assert once["rows"][0]["agreement"]["std"] is None and "±" not in module.table(once)
    assert "60 real test images; 6 images for each calibration, one draw. Measured by `cal" in module.table(once)
    for row in result["rows"]:
        for key in ("accuracy", "accuracy_lost", "agreement"):
            values = row[key]["draws"]
            assert row[key]["mean"] == pytest.approx(statistics.mean(values), abs=1e-5)
            assert row[key]["std"] == pytest.approx(statistics.stdev(values), abs=1e-5)
        lost = [result["accuracy"] - one for one in row["accuracy"]["draws"]]
        assert row["accuracy_lost"]["draws"] == pytest.approx(lost, abs=1e-5)
    assert (result["draws"], result["images"], result["seed"], result["test_images"]) == (2, 6, 2000, 60)
    assert result["command"] == "calibrate(draws=2, images=6, seed=2000)"
    assert result["networks"]["classifier"] == network_hash(classifier)
    said = capsys.readouterr()
    assert said.out == "" and all("INT8" in line for line in said.err.split("\r") if line.strip())  # no bar of nncf's


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(nncf=None), "nncf is not installed; .*deploy"),
        (dict(draws=0), "draws must be a whole number of at least 1, not 0"),
        (dict(images=2), "images must be a whole number of at least 3, not 2"),
        (dict(images=21), "train has fewer than 7 images of {'dark': 6, 'grey': 6, 'bright': 6}"),
        (
            dict(classifier=Classifier(4, (4, 6))),
            "train has 3 classes of 32 pixels a side, the classifier knows 4 of 32",
        ),
        (
            dict(test=images_of(2, "small test", 16)),
            "small test has 3 classes of 16 pixels a side, the classifier knows 3 of 32",
        ),
        (
            dict(classifier=named(Classifier(3, (4, 6, 8)), ("cat", "dog", "eel"))),
            "train has the classes .*'dark'.*, but the classifier has .*'cat'",
        ),
        (dict(seed=-1), "seed must be a whole number of at least 0, not -1"),
        (dict(student=generator("tiny", 16)), "tiny has 3 classes of 16 pixels a side, the classifier knows"),
    ],
)
def test_what_cannot_be_finished_is_refused_at_once(given, monkeypatch, changes, message):
    monkeypatch.setattr(module, "as_openvino", lambda classifier: pytest.fail("the measurement began"))
    if "nncf" in changes:
        monkeypatch.setitem(sys.modules, "nncf", changes.pop("nncf"))  # as if it were not installed
    with pytest.raises(InputError, match=message):
        module.calibrate(**{**given, **changes})


def test_the_committed_table_is_of_the_bundled_networks_and_stands_in_the_wiki():
    result = read_json(module.TABLE)
    stale = "calibrate and write the page again"
    generators = {name: load_teacher(module.TABLE.parent / name).digest for name in ("teacher", "student")}
    assert result["networks"] == {"classifier": network_hash(load_classifier()), **generators}, stale
    assert result["test_images"] == 10_000 and result["images"] == 300 and result["draws"] >= 5
    assert [row["source"] for row in result["rows"]] == list(module.SOURCES)
    for key in ("accuracy", "accuracy_lost", "agreement"):
        assert all(len(row[key]["draws"]) == result["draws"] for row in result["rows"])
    page = Path(__file__).resolve().parents[2] / "docs" / "Deployment.md"
    assert check_block(page, "calibration")[1] == module.table(result), stale
