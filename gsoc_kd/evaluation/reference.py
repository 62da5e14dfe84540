"""What scores are measured against: the judge's view of real CIFAR-10, embedded (docs/Evaluation.md)."""

import datetime
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.files import ASSETS, InputError, read_json, replacing_file, sha256, write_json
from ..core.weights import network_hash
from ..data.images import CIFAR10_CLASSES
from .features import features
from .metrics import Statistics, class_agreement, frechet_distance, inception_score, kernel_distance, statistics
from .neighbours import precision_recall

EMBEDDED = ASSETS
KEPT = 5000  # real features kept for the kernel distance, equally many a class
REMAKE = "`gsoc-kd reference` makes it from CIFAR-10 and the judge"


@dataclass(frozen=True)
class Reference:
    """What the judge sees in real images: statistics, overall and a class, and (M, D) float16 features."""

    overall: Statistics
    per_class: tuple  # of Statistics, in the order of `classes`
    features: np.ndarray
    classes: tuple
    resolution: int
    split: str  # where the real images come from
    judge: str  # hash of the judge
    floor: dict | None = None  # scores of other real images against these


def reference_of(real, found, digest):
    """Reference from real images (LabelledImages), their features (N, D) and the judge's hash."""
    rows = [np.flatnonzero(real.labels == c) for c in range(len(real.classes))]
    per_class = tuple(statistics(found[r], f"real images of {name!r}") for r, name in zip(rows, real.classes))
    each = min(KEPT // len(rows), *map(len, rows)) if len(rows) > 1 else min(KEPT, len(rows[0]))
    rng = np.random.default_rng(0)
    kept = found[np.concatenate([rng.choice(r, each, replace=False) for r in rows])].astype(np.float16)
    return Reference(
        statistics(found, "real images"),
        per_class,
        kept,
        tuple(real.classes),
        real.images.shape[1],
        real.source,
        digest,
    )


def judge_scores(reference, found, logits, labels, judge):
    """All scores on the judge's features (N, D) and logits (N, C) of images for which `labels` (N,) were asked.
    Class agreement and CIFAR-IS are None where the classes are not the judge's."""
    names = reference.classes
    mean, std = kernel_distance(found, reference.features)
    kept = reference.features.reshape(len(names), -1, found.shape[1])  # (C, each, D)
    each = min(kept.shape[1], *np.bincount(labels, minlength=len(names)).tolist())  # equal counts on both sides
    ours = np.concatenate([found[labels == c][:each] for c in range(len(names))])
    precision, recall = precision_recall(kept[:, :each].reshape(len(ours), -1), ours)
    per_class = [statistics(found[labels == c], f"images of {name!r}") for c, name in enumerate(names)]
    result = {
        "cifar_fd": frechet_distance(statistics(found), reference.overall),
        "cifar_fd_per_class": {
            name: frechet_distance(ours, real) for name, ours, real in zip(names, per_class, reference.per_class)
        },
        "cifar_kid": {"mean": mean, "std": std},
        "cifar_precision": precision,
        "cifar_recall": recall,
        "cifar_precision_recall_images": len(ours),
        "cifar_is": None,
        "class_agreement": None,
        "class_agreement_per_class": None,
    }
    if names == tuple(getattr(judge, "classes", CIFAR10_CLASSES)):
        share, shares = class_agreement(logits.argmax(axis=1), labels, len(names))
        mean, std = inception_score(torch.from_numpy(logits).double().softmax(dim=1).numpy())
        result.update(
            cifar_is={"mean": mean, "std": std},
            class_agreement=share,
            class_agreement_per_class=dict(zip(names, shares)),
        )
    return result


def compute_reference(train, test, judge, folder=EMBEDDED, progress=True):
    """Writes reference.npz and reference.json: `train` (LabelledImages) as the judge sees it, and the floor,
    what the real images `test` score against it. Returns the Reference, as `load_reference` reads it.

    reference.npz: float32 mean (D,), cov (D, D), class_mean (C, D), class_cov (C, D, D); float16 features
    (M, D).

    Raises:
        InputError: different classes in train and test; too few images.
    """
    if train.classes != test.classes:
        raise InputError(f"{train.source} and {test.source} have different classes: {train.classes} and {test.classes}")
    folder, digest = Path(folder), network_hash(judge)
    found, _ = features(train.images, judge, progress="judge sees train" if progress else None)
    made = reference_of(train, found, digest)
    arrays = {
        "mean": np.float32(made.overall.mean),
        "cov": np.float32(made.overall.cov),
        "class_mean": np.float32([s.mean for s in made.per_class]),
        "class_cov": np.float32([s.cov for s in made.per_class]),
        "features": made.features,
    }
    about = {
        "format": 1,
        "command": "gsoc-kd reference",
        "classes": list(train.classes),
        "resolution": made.resolution,
        "train": {"split": train.source, "images": len(train), "per_class": train.counts()},
        "test": {"split": test.source, "images": len(test), "per_class": test.counts()},
        "feature_network": {"name": "judge", "hash": digest, "width": found.shape[1]},
        "kept_features": len(made.features),
        "floor": None,
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    seen = features(test.images, judge, progress="judge sees test" if progress else None)
    about["floor"] = {
        "split": test.source,
        "images": len(test),  # against what is stored, rounded
        **judge_scores(_stored(arrays, about), *seen, test.labels, judge),
    }
    with replacing_file(folder / "reference.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    write_json(folder / "reference.json", {**about, "sha256": sha256(folder / "reference.npz")})
    return load_reference(folder)


def load_reference(folder=EMBEDDED, judge=None):
    """Reads what `compute_reference` wrote.

    Raises:
        InputError: files missing, changed or damaged; or made with another judge than the network `judge`.
    """
    folder = Path(folder)
    path = folder / "reference.npz"
    if not path.is_file() or not (folder / "reference.json").is_file():
        raise InputError(f"{folder} has no reference.npz and reference.json; {REMAKE}")
    about = read_json(folder / "reference.json")
    if sha256(path) != about.get("sha256"):
        raise InputError(f"{path} is not the file that reference.json describes; restore both, or {REMAKE}")
    try:
        with np.load(path) as stored:
            reference = _stored(stored, about)
    except KeyError as error:
        raise InputError(f"{folder}: reference.json or reference.npz lacks {error}; {REMAKE}") from None
    if judge is not None and (digest := network_hash(judge)) != reference.judge:
        raise InputError(
            f"{path} was made with judge {reference.judge[:12]}, but the judge here is "
            f"{digest[:12]}; scores of different judges cannot be compared, so {REMAKE}"
        )
    return reference


def _stored(arrays, about):
    """Reference from the entries of reference.npz and reference.json."""
    train = about["train"]
    overall = Statistics(np.float64(arrays["mean"]), np.float64(arrays["cov"]), train["images"])
    per_class = tuple(
        Statistics(np.float64(mean), np.float64(cov), train["per_class"][name])
        for mean, cov, name in zip(arrays["class_mean"], arrays["class_cov"], about["classes"])
    )
    return Reference(
        overall,
        per_class,
        arrays["features"],
        tuple(about["classes"]),
        about["resolution"],
        train["split"],
        about["feature_network"]["hash"],
        about["floor"],
    )
