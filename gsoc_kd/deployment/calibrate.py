"""Calibration without real data: what INT8 costs a classifier if a few hundred generated images, and not real ones, set
the ranges of its layers (docs/Deployment.md)."""

import time
import warnings
from importlib import metadata
from math import ceil

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..core.checks import classes_of, is_word, whole
from ..core.files import ASSETS, InputError
from ..core.weights import network_hash, provenance
from ..data.images import to_float
from ..evaluation.classifier import load_classifier
from ..evaluation.names import images_in_order, in_order
from ..pairs.make import draw_latents
from ..teachers.load import load_teacher
from .export import traced
from .quantise import need, quantise

TABLE = ASSETS / "calibration.json"  # what `calibrate` gave for the bundled networks
SOURCES = {"real": "real training images", "teacher": "the teacher's images", "student": "the student's images",
           "noise": "uniform noise", "constant": "one plain colour"}  # fmt: skip


def calibrate(train, test, draws=5, images=300, seed=2000, teacher="embedded", student="embedded", classifier=None):
    """Quantises a classifier to INT8 with images of each of five sources and measures what it loses.

    It is counted right or wrong on all of `test`, first in 32 bits, then once for each source and draw, after
    `nncf.quantize` with default settings has seen `images` images of that source, equally many per class.

    Args:
        train, test: LabelledImages, real ones, of the classes that the classifier (None: the bundled classifier) knows.
        seed: of all draws; the same seed gives the same images.
        teacher, student: what `load_teacher` takes; "embedded" is the bundled one.

    Returns:
        JSON-able dict: accuracy, in 32 bits; rows, for each source accuracy, accuracy_lost and agreement (share of
        answers that are those of 32 bits), each {mean, std, draws}, std (of a sample) None for one draw; test_images,
        images, draws, seed; and what `weights.provenance` says.

    Raises:
        InputError: too few draws or images; sizes or classes that do not fit; the extra `deploy` is not installed."""
    need("nncf")
    draws, seed, start = whole("draws", draws), whole("seed", seed, 0), time.monotonic()
    classifier, given = classifier or load_classifier(), {"teacher": teacher, "student": student}
    generators = {name: load_teacher(ASSETS / name if is_word(one, "embedded") else one) for name, one in given.items()}
    sizes = [(data.source, len(data.classes), data.resolution) for data in (train, test)]
    for name, classes, side in sizes + [(one.name, one.num_classes, one.resolution) for one in generators.values()]:
        if (classes, side) != (classifier.num_classes, classifier.resolution):
            fits = f"the classifier knows {classifier.num_classes} of {classifier.resolution}"
            raise InputError(f"{name} has {classes} classes of {side} pixels a side, {fits}")
    if names := classes_of(classifier):
        train, test = (images_in_order(data, names, "the classifier") for data in (train, test))
        generators = {name: _ordered(one, names) for name, one in generators.items()}
    images = whole("images", images, classifier.num_classes)
    train.take(ceil(images / classifier.num_classes))  # refuses too many
    model, rows = as_openvino(classifier), []
    exact = predictions(model, test.images)  # (N,)
    accuracy = float((exact == test.labels).mean())
    bar = tqdm(total=len(SOURCES) * draws * images, desc="INT8", unit="img")
    for source, name in SOURCES.items():
        shown = [calibration_images(source, images, seed, d, train, generators, test.resolution) for d in range(draws)]
        small = (quantised(model, some, bar.update) for some in shown)
        found = np.stack([predictions(one, test.images) for one in small])  # (draws, N)
        right, same = (found == test.labels).mean(axis=1), (found == exact).mean(axis=1)  # (draws,) each
        rows.append({"source": source, "name": name})
        for key, values in (("accuracy", right), ("accuracy_lost", accuracy - right), ("agreement", same)):
            std = float(values.std(ddof=1)) if draws > 1 else None
            rows[-1][key] = {"mean": float(values.mean()), "std": std, "draws": values.round(6).tolist()}
    bar.close()
    told = dict(accuracy=accuracy, rows=rows, test_images=len(test), images=images, draws=draws, seed=seed)
    command, data = f"calibrate({draws=}, {images=}, {seed=})", f"calibrated on {train.source}, tested on {test.source}"
    versions = {package: metadata.version(package) for package in ("torch", "openvino", "nncf")}
    networks = {"classifier": network_hash(classifier), **{name: one.digest for name, one in generators.items()}}
    return told | provenance(command, data, time.monotonic() - start, versions=versions, networks=networks)


def _ordered(generator, names):
    if (found := in_order(generator, names)) is None:
        raise InputError(f"{generator.name} has the classes {generator.classes}, the classifier {tuple(names)}")
    return found[0]


def calibration_images(source, count=300, seed=2000, draw=0, train=None, generators=None, side=32):
    """Images to calibrate with, uint8 (count, H, W, 3), of all classes equally many (or one more of the first).

    Args:
        source: "real" (of `train`, LabelledImages, none twice), "teacher", "student" (of `generators`, a dict of
            Teachers, or the bundled ones), "noise" (every grey level equally likely) or "constant" (one colour in all).
        seed, draw: two whole numbers; the images depend on nothing else.
        side: pixels a side of "noise" and "constant"."""
    count, seed, draw = whole("count", count), whole("seed", seed, 0), whole("draw", draw, 0)
    if source in ("teacher", "student"):
        one = generators[source] if generators else load_teacher(ASSETS / source)
        return one(draw_latents(seed, draw, count, one.z_dim, one.z_from), np.arange(count) % one.num_classes)
    rng = np.random.default_rng((seed, draw))
    if source == "real":
        wanted = np.bincount(np.arange(count) % len(train.classes), minlength=len(train.classes))
        rows = [rng.choice(np.flatnonzero(train.labels == c), n, replace=False) for c, n in enumerate(wanted)]
        return train.images[np.concatenate(rows)]
    if source == "noise":
        return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (count, side, side, 3)).copy()


class FromPixels(nn.Module):
    """A classifier with its preprocessing inside: images (N, H, W, 3) uint8 -> logits (N, num_classes)."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier(to_float(images))


def as_openvino(classifier):
    """The classifier as an OpenVINO model: uint8 images (N, 32, 32, 3) in, logits out, any N."""
    some = torch.zeros(3, classifier.resolution, classifier.resolution, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return need("openvino").convert_model(traced(FromPixels(classifier), images=some))


def quantised(model, images, done=lambda: None):
    """An INT8 copy of an OpenVINO model, its ranges set by `images`, uint8 (N, H, W, 3); nncf's default preset. done()
    is called for each image."""
    return quantise(model, list(images[:, None]), done=done)


def ranges(model):
    """[(low, high)] that an INT8 model lets its numbers have, layer after layer; the first is that of the images."""
    inputs = [op.input_values() for op in model.get_ordered_ops() if op.get_type_name() == "FakeQuantize"]
    nodes = [[value.get_node() for value in values[:3]] for values in inputs]  # what is rounded, lowest, highest
    found = [(low, high) for what, low, high in nodes if what.get_type_name() != "Constant"]  # which are the weights
    return [(float(low.data.min()), float(high.data.max())) for low, high in found]


def predictions(model, images, batch=500):
    """The class that an OpenVINO model gives each of `images`, uint8 (N, H, W, 3): int64 (N,)."""
    compiled = need("openvino").compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})  # where not in INT8
    return np.concatenate([compiled(images[i : i + batch])[0].argmax(axis=1) for i in range(0, len(images), batch)])


def table(result):
    """GitHub markdown of what `calibrate` returned, with a sentence on how it was measured."""
    several, lines = result["draws"] > 1, "| INT8 calibrated with | accuracy | accuracy lost, points | "
    lines += "same answer as in 32 bits |\n|---|--:|--:|--:|\n"
    for row in result["rows"]:
        numbers = [(100 * row[key]["mean"], 100 * (row[key]["std"] or 0)) for key in ("accuracy_lost", "agreement")]
        lost, same = (f"{mean:.2f} ± {std:.2f}" if several else f"{mean:.2f}" for mean, std in numbers)
        lines += f"| {row['name']} | {row['accuracy']['mean']:.2%} | {lost} | {same} % |\n"
    spread = f"mean and standard deviation over {result['draws']} draws" if several else "one draw"
    openvino, nncf = result["versions"]["openvino"].split("-")[0], result["versions"]["nncf"]
    return (
        f"{lines}\nIn 32 bits the classifier is right on {result['accuracy']:.2%} of {result['test_images']:,} "
        f"real test images; {result['images']} images for each calibration, {spread}. Measured by "
        f"`{result['command']}` on {result['date']}, {result['hardware']}, OpenVINO {openvino}, nncf {nncf}.\n"
    )
