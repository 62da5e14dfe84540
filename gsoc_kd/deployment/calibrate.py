"""Calibration without real data: what INT8 costs a classifier when other images than real ones set its ranges, those
that a few hundred images show when they are sent through it (docs/Deployment.md)."""

import time
import warnings
from importlib import metadata
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..core.checks import whole
from ..core.files import ASSETS, InputError
from ..core.weights import network_hash, provenance
from ..data.images import to_float
from ..evaluation.classifier import load_judge
from ..pairs.make import draw_latents
from ..teachers.load import load_student, load_teacher
from .export import need, quantise

TABLE = ASSETS / "calibration.json"  # what `calibrate` gave for the bundled networks
SOURCES = {
    "real": "real training images",
    "teacher": "the teacher's pictures",
    "student": "the student's pictures",
    "noise": "uniform noise",
    "constant": "one plain colour",
}


def calibrate(
    train, test, draws=5, images=300, seed=2000, teacher="embedded", student="embedded", judge=None, progress=True
):
    """Quantises a classifier to INT8 with images of each of five sources and measures what it loses.

    As an OpenVINO model it is counted right or wrong on all of `test`, first in 32 bits, then once for each source and
    draw, after `nncf.quantize` with default settings has seen `images` images of that source, equally many a class.

    Args:
        train, test: LabelledImages, real ones, of the classes that the judge knows.
        seed: of all draws; the same seed gives the same images.
        teacher, student: names or folders for `load_teacher` and `load_student`, or what `black_box` takes.
        judge: the classifier; None: the bundled one.

    Returns:
        JSON-able dict: accuracy (32 bits), test_images, images, draws, seed, per source in rows: accuracy,
        accuracy_lost, agreement (share of test images with the same answer as in 32 bits), each {mean, std,
        draws}, std None for one draw; and where it comes from, as `weights.provenance`.

    Raises:
        InputError: too few draws or images; sizes or classes that do not fit; the extra `deploy` is not installed.
    """
    judge, start = judge or load_judge(), time.time()
    student = load_student(student) if isinstance(student, str | Path) else student
    generators = {"teacher": load_teacher(teacher), "student": load_teacher(student)}
    _check(train, test, draws, images, generators, judge)
    model, answers = as_openvino(judge), {source: [] for source in SOURCES}
    exact = predictions(model, test.images)  # (N,)
    for draw, source in tqdm([*product(range(draws), SOURCES)], desc="INT8", unit="model", disable=not progress):
        shown = calibration_images(source, images, seed, draw, train, generators, test.resolution)
        answers[source].append(predictions(quantised(model, shown), test.images))  # (N,)
    counts = {"test_images": len(test), "images": images, "draws": draws, "seed": seed}
    command, data = f"calibrate({draws=}, {images=}, {seed=})", f"calibrated on {train.source}, tested on {test.source}"
    versions = {package: metadata.version(package) for package in ("torch", "openvino", "nncf")}
    networks = {"judge": network_hash(judge), **{name: one.digest for name, one in generators.items()}}
    origin = provenance(command, data, time.time() - start, versions=versions, networks=networks)
    return {**summary(exact, answers, test.labels), **counts, **origin}


def calibration_images(source, count=300, seed=2000, draw=0, train=None, generators=None, side=32):
    """Images to calibrate with, uint8 (count, H, W, 3), of all classes equally many (or one more of the first).

    Args:
        source: "real" (of `train`, LabelledImages, without repetition), "teacher", "student", "noise" (every grey
            level equally likely) or "constant" (one colour, the same in all images).
        seed, draw: two whole numbers; the images depend on nothing else.
        generators: {"teacher": Teacher, "student": Teacher} instead of the bundled ones.
        side: pixels a side of "noise" and "constant".
    """
    if source in ("teacher", "student"):
        one = generators[source] if generators else load_teacher(ASSETS / source)
        return one(draw_latents(seed, draw, count, one.z_dim), np.arange(count) % one.num_classes)
    rng = np.random.default_rng((seed, draw))
    if source == "real":
        wanted = np.bincount(np.arange(count) % len(train.classes), minlength=len(train.classes))
        rows = [rng.choice(np.flatnonzero(train.labels == c), n, replace=False) for c, n in enumerate(wanted)]
        return train.images[np.concatenate(rows)]
    if source == "noise":
        return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (count, side, side, 3)).copy()


def _check(train, test, draws, images, generators, judge):
    """Refuses, before anything is measured, what could not be finished."""
    for package in ("openvino", "nncf"):
        need(package)
    whole("draws", draws)
    for data in (train, test):
        if len(data.classes) != judge.num_classes:
            raise InputError(f"{data.source} has {len(data.classes)} classes, the judge knows {judge.num_classes}")
    train.take(ceil(whole("images", images, judge.num_classes) / judge.num_classes))  # refuses too many
    for name, size in [(train.source, train.resolution), *((g.name, g.resolution) for g in generators.values())]:
        if size != test.resolution:
            raise InputError(f"{name} has images of {size} pixels a side, {test.source} of {test.resolution}")


class FromPixels(nn.Module):
    """A classifier with its preprocessing inside: images (N, H, W, 3) uint8 -> logits (N, num_classes)."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier(to_float(images))


def as_openvino(judge):
    """The judge as an OpenVINO model: uint8 images (N, 32, 32, 3) in, logits out, any N."""
    some, n = torch.zeros(3, judge.resolution, judge.resolution, 3, dtype=torch.uint8), torch.export.Dim("n", min=1)
    program = torch.export.export(FromPixels(judge).eval(), (some,), dynamic_shapes={"images": {0: n}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return need("openvino").convert_model(program)


def quantised(model, images):
    """An INT8 copy of an OpenVINO model, its ranges set by `images`, uint8 (N, H, W, 3); nncf's default preset."""
    return quantise(model, list(images[:, None]))


def ranges(model):
    """[(low, high)] that an INT8 model lets its numbers have, layer after layer; the first is that of the images.

    What lies outside is cut off, what lies inside is rounded to 256 steps.
    """
    inputs = [op.input_values() for op in model.get_ordered_ops() if op.get_type_name() == "FakeQuantize"]
    nodes = [[value.get_node() for value in values[:3]] for values in inputs]  # what is rounded, lowest, highest
    found = [(low, high) for what, low, high in nodes if what.get_type_name() != "Constant"]  # which are the weights
    return [(float(low.data.min()), float(high.data.max())) for low, high in found]


def predictions(model, images, batch=500):
    """The class that an OpenVINO model gives each of `images`, uint8 (N, H, W, 3): int64 (N,)."""
    compiled = need("openvino").compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})  # where not in INT8
    return np.concatenate([compiled(images[i : i + batch])[0].argmax(axis=1) for i in range(0, len(images), batch)])


def summary(exact, answers, labels):
    """Accuracy in 32 bits, and a row a source of what INT8 changes.

    exact: (N,) answers in 32 bits. answers: {source: [(N,) answers in INT8, ...]}. labels: (N,) the truth.
    """
    accuracy, rows = float((exact == labels).mean()), []
    for source, found in answers.items():
        right = [float((one == labels).mean()) for one in found]
        lost, same = [accuracy - one for one in right], [float((one == exact).mean()) for one in found]
        numbers = {"accuracy": right, "accuracy_lost": lost, "agreement": same}
        rows.append({"source": source, "name": SOURCES[source], **{k: _spread(v) for k, v in numbers.items()}})
    return {"accuracy": accuracy, "rows": rows}


def _spread(values):
    """Mean and standard deviation (that of a sample: divided by n - 1) of a list, and the list."""
    values = [round(value, 6) for value in values]  # shares of at most a million images
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "draws": values}


def table(result):
    """GitHub markdown of what `calibrate` returned, with a sentence on how it was measured."""

    def points(value):
        return f"{100 * value['mean']:.2f}" + ("" if value["std"] is None else f" ± {100 * value['std']:.2f}")

    lines = (
        "| INT8 calibrated with | accuracy | accuracy lost, points | same answer as in 32 bits |\n|---|--:|--:|--:|\n"
    )
    for row in result["rows"]:
        numbers = f"{row['accuracy']['mean']:.2%} | {points(row['accuracy_lost'])} | {points(row['agreement'])} %"
        lines += f"| {row['name']} | {numbers} |\n"
    spread = f"mean and standard deviation over {result['draws']} draws" if result["draws"] > 1 else "one draw"
    openvino, nncf = result["versions"]["openvino"].split("-")[0], result["versions"]["nncf"]
    return (
        f"{lines}\nIn 32 bits the judge is right on {result['accuracy']:.2%} of {result['test_images']:,} real test "
        f"images; {result['images']} pictures a calibration, {spread}. Measured by `{result['command']}` on "
        f"{result['date']}, {result['hardware']}, OpenVINO {openvino}, nncf {nncf}.\n"
    )
