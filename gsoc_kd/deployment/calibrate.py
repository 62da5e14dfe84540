"""Calibration without real data: what INT8 costs the judge when other pictures than real ones set its ranges.

To quantise a network, a few hundred pictures are sent through it to see how large its numbers become
(docs/Deployment.md). Where real pictures may not leave the building, can a generator's take their place?
"""

import re
import time
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..core.files import ASSETS, InputError, replacing_file, write_json
from ..core.weights import network_hash, provenance
from ..data.images import to_float
from ..evaluation.classifier import load_judge
from ..pairs.make import draw_latents
from ..teachers.load import load_student, load_teacher
from .export import _need, quantise

TABLE = ASSETS / "calibration.json"
BLOCK = re.compile(r"(<!-- calibration: .*? -->\n).*?(<!-- end of calibration -->)", re.DOTALL)
SOURCES = {
    "real": "real training images",
    "teacher": "the teacher's pictures",
    "student": "the student's pictures",
    "noise": "uniform noise",
    "constant": "one plain colour",
}


def calibrate(
    train,
    test,
    draws: int = 5,
    images: int = 300,
    seed: int = 2000,
    teacher="embedded",
    student="embedded",
    judge=None,
    out=str(TABLE),
    pages: tuple[str, ...] = ("docs/Deployment.md",),
    progress=True,
):
    """Quantises the judge to INT8 with pictures of each of five sources and measures what it loses.

    The judge is converted to OpenVINO and counted right or wrong on all of `test`, first in 32 bits, then once for
    each source and draw after `nncf.quantize` with default settings has seen `images` pictures of that source.

    Args:
        train: real images that one source takes its pictures from.
        test: real images to measure accuracy on, with the judge's classes.
        draws: how often pictures are drawn from each source.
        images: pictures a draw, of all classes equally many.
        seed: of all draws; the same seed gives the same pictures.
        teacher: what `load_teacher` takes; the embedded one by default.
        student: embedded, the folder of a network or of a run; or a network, a Teacher, a callable.
        judge: another judge than the embedded one.
        out: JSON file to write; empty: none.
        pages: pages to write the table to, between `<!-- calibration: ... -->` and `<!-- end of calibration -->`.
        progress: whether to show a bar with the time left.

    Returns:
        JSON-able dict: accuracy (32 bits), test_images, images, draws, seed, per source in rows: accuracy,
        accuracy_lost, agreement (share of test images with the same answer as in 32 bits), each {mean, std,
        draws}, std None for one draw; and where it comes from, as `weights.provenance`.

    Raises:
        InputError: too few draws, pictures or real images; sizes or classes that do not fit; a page without the
            marks; the extra `deploy` is not installed.
    """
    _need("openvino"), _need("nncf")
    judge = judge or load_judge()
    student = load_student(student) if isinstance(student, (str, Path)) else student
    generators = {"teacher": load_teacher(teacher), "student": load_teacher(student)}
    _check(train, test, draws, images, generators, judge, pages)
    start, answers = time.time(), {source: [] for source in SOURCES}
    with tqdm(total=1 + draws * len(SOURCES), desc="32 bits", unit="model", disable=not progress) as bar:
        model = as_openvino(judge)
        exact = predictions(model, test.images)  # (N,)
        bar.update()
        for draw in range(draws):
            for source in SOURCES:
                bar.set_description(f"INT8 by {SOURCES[source]}")
                shown = calibration_images(source, images, seed, draw, train, generators, test.resolution)
                answers[source].append(predictions(quantised(model, shown), test.images))  # (N,)
                bar.update()
    result = {
        **summary(exact, answers, test.labels),
        "test_images": len(test),
        "images": images,
        "draws": draws,
        "seed": seed,
        **_origin(train, test, draws, images, seed, generators, judge, time.time() - start),
    }
    if out:
        write_json(out, result)
    for page in pages:
        with replacing_file(page) as temporary:
            temporary.write_text(
                BLOCK.sub(lambda m: m[1] + table(result) + m[2], Path(page).read_text(encoding="utf-8")),
                encoding="utf-8",
            )
    return result


# ---------------------------------------------------------------- pictures


def calibration_images(source, count=300, seed=2000, draw=0, train=None, generators=None, side=32):
    """Pictures to calibrate with, uint8 (count, H, W, 3), of all classes equally many (or one more of the first).

    Args:
        source: "real" (of `train`, without repetition), "teacher", "student", "noise" (every grey level equally
            likely) or "constant" (one colour, the same in all pictures).
        count: how many.
        seed, draw: two whole numbers; the pictures depend on nothing else.
        train: LabelledImages, for "real" only.
        generators: {"teacher": Teacher, "student": Teacher} instead of the embedded ones.
        side: pixels a side of "noise" and "constant".
    """
    if source in ("teacher", "student"):
        one = generators[source] if generators else load_teacher(load_student() if source == "student" else "embedded")
        return one(draw_latents(seed, draw, count, one.z_dim), np.arange(count) % one.num_classes)
    rng = np.random.default_rng((seed, draw))
    if source == "real":
        classes = len(train.classes)
        rows = [
            rng.choice(np.flatnonzero(train.labels == c), wanted, replace=False)
            for c, wanted in enumerate(np.bincount(np.arange(count) % classes, minlength=classes))
        ]
        return train.images[np.concatenate(rows)]
    if source == "noise":
        return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (count, side, side, 3)).copy()


def _check(train, test, draws, images, generators, judge, pages):
    """Refuses, before anything is measured, what could not be finished."""
    classes = judge.num_classes
    for name, value, least in (("draws", draws, 1), ("images", images, classes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    for data in (train, test):
        if len(data.classes) != classes:
            raise InputError(f"{data.source} has {len(data.classes)} classes, the judge knows {classes}")
    need, (name, fewest) = -(-images // classes), min(train.counts().items(), key=lambda item: item[1])
    if fewest < need:
        raise InputError(
            f"{train.source} has {fewest} images of {name!r}; {images} pictures, equally many a class, need {need}"
        )
    sizes = {train.source: train.resolution, **{g.name: g.resolution for g in generators.values()}}
    for name, size in sizes.items():
        if size != test.resolution:
            raise InputError(f"{name} has pictures of {size} pixels a side, {test.source} of {test.resolution}")
    for page in pages:
        if not Path(page).is_file() or not BLOCK.search(Path(page).read_text(encoding="utf-8")):
            raise InputError(f"{page} has no block between <!-- calibration: ... --> and <!-- end of calibration -->")


# ---------------------------------------------------------------- models


class FromPixels(nn.Module):
    """A classifier that is given pictures as they are: its preprocessing goes into the exported model.

    forward(images): (N, H, W, 3) uint8 -> logits (N, num_classes).
    """

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier(to_float(images))


def as_openvino(judge):
    """The judge as an OpenVINO model: uint8 pictures (N, 32, 32, 3) in, logits out, any N."""
    ov, side = _need("openvino"), judge.resolution
    some, n = torch.zeros(3, side, side, 3, dtype=torch.uint8), torch.export.Dim("n", min=1)
    program = torch.export.export(FromPixels(judge).eval(), (some,), dynamic_shapes={"images": {0: n}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ov.convert_model(program)


def quantised(model, images):
    """An INT8 copy of an OpenVINO model, its ranges set by `images`, uint8 (N, H, W, 3); nncf's default preset."""
    return quantise(model, list(images[:, None]))


def ranges(model):
    """[(low, high)] that an INT8 model lets its numbers have, layer after layer; the first is that of the pictures.

    What lies outside is cut off, what lies inside is rounded to 256 steps.
    """
    found = [
        op
        for op in model.get_ordered_ops()
        if op.get_type_name() == "FakeQuantize" and op.input_value(0).get_node().get_type_name() != "Constant"
    ]  # a constant: weights
    return [
        (float(op.input_value(1).get_node().data.min()), float(op.input_value(2).get_node().data.max())) for op in found
    ]


def predictions(model, images, batch=500):
    """The class that an OpenVINO model gives each of `images`, uint8 (N, H, W, 3): int64 (N,)."""
    ov = _need("openvino")  # f32: what is not INT8 is the same on every processor
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(images[i : i + batch])[0].argmax(axis=1) for i in range(0, len(images), batch)])


# ---------------------------------------------------------------- what came of it


def summary(exact, answers, labels):
    """Accuracy in 32 bits, and a row a source of what INT8 changes.

    exact: (N,) answers in 32 bits. answers: {source: [(N,) answers in INT8, ...]}. labels: (N,) the truth.
    """
    accuracy, rows = float((exact == labels).mean()), []
    for source, found in answers.items():
        right = [float((one == labels).mean()) for one in found]
        rows.append(
            {
                "source": source,
                "name": SOURCES[source],
                "accuracy": _spread(right),
                "accuracy_lost": _spread([accuracy - one for one in right]),
                "agreement": _spread([float((one == exact).mean()) for one in found]),
            }
        )
    return {"accuracy": accuracy, "rows": rows}


def _spread(values):
    """Mean and standard deviation (that of a sample: divided by n - 1) of a list, and the list."""
    values = [round(value, 6) for value in values]  # shares of at most a million images
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "draws": values,
    }


def _origin(train, test, draws, images, seed, generators, judge, seconds):
    """What the numbers were measured with."""
    known = {package: metadata.version(package) for package in ("torch", "openvino", "nncf")}
    return provenance(
        f"gsoc-kd calibrate --draws {draws} --images {images} --seed {seed}",
        f"calibrated on {train.source}, tested on {test.source}",
        seconds,
        versions=known,
        networks={"judge": network_hash(judge), **{k: g.digest for k, g in generators.items()}},
    )


def table(result):
    """GitHub markdown of what `calibrate` returned, with a sentence on how it was measured."""

    def points(value, unit=""):
        spread = "" if value["std"] is None else f" ± {100 * value['std']:.2f}"
        return f"{100 * value['mean']:.2f}{spread}{unit}"

    lines = [
        "| INT8 calibrated with | accuracy | accuracy lost, points | same answer as in 32 bits |",
        "|---|--:|--:|--:|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['name']} | {row['accuracy']['mean']:.2%} | {points(row['accuracy_lost'])} | "
            f"{points(row['agreement'], ' %')} |"
        )
    spread = f"mean and standard deviation over {result['draws']} draws" if result["draws"] > 1 else "one draw"
    versions = result["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"In 32 bits the judge is right on {result['accuracy']:.2%} of "
            f"{result['test_images']:,} real test images; {result['images']} pictures a "
            f"calibration, {spread}. Measured by `{result['command']}` on {result['date']}, "
            f"{result['hardware']}, OpenVINO {versions['openvino'].split('-')[0]}, nncf "
            f"{versions['nncf']}.",
            "",
        ]
    )
