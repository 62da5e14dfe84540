"""What scores are measured against: real images as the evaluation classifier sees them (docs/Evaluation.md)."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..core.checks import classes_of
from ..core.files import ASSETS, InputError, read_json, replacing_file, sha256, write_json
from ..core.weights import network_hash, provenance
from ..data.images import CIFAR10_CLASSES
from . import metrics
from .classifier import features
from .metrics import Statistics, frechet_distance, frechet_scores, kernel_distance, statistics
from .names import images_like, matching
from .neighbours import density_coverage, precision_recall

KEPT = 5000  # real features kept for the kernel distance, equally many of each class
REMAKE = "gsoc_kd.evaluation.compute_reference makes it from real images and the classifier"


@dataclass(frozen=True)
class Reference:
    """What the classifier sees in real images: statistics, overall and per class, and (M, D) float16 features."""

    overall: Statistics
    per_class: tuple  # of Statistics, in the order of `classes`
    features: np.ndarray
    classes: tuple
    resolution: int
    source: str  # where the real images come from
    classifier: str  # hash of the classifier
    lower_bound: dict | None = None  # scores of other real images against these


def reference_of(real, found, labels, digest):
    """Reference from features (N, D) and labels (N,) of some of the images `real`, and the classifier's hash."""
    rows = [np.flatnonzero(labels == c) for c in range(len(real.classes))]
    per_class = tuple(statistics(found[r], f"real images of {name!r}") for r, name in zip(rows, real.classes))
    each = min(KEPT // len(rows), *map(len, rows))
    rng = np.random.default_rng(0)
    kept = found[np.concatenate([rng.choice(r, each, replace=False) for r in rows])].astype(np.float16)
    overall = statistics(found, "real images")
    return Reference(overall, per_class, kept, tuple(real.classes), real.resolution, real.source, digest)


def classifier_scores(reference, found, logits, labels, classifier, progress=None):
    """All scores on the classifier's features (N, D) and logits (N, C) of images for which `labels` (N,) were asked.

    Returns a dict: cifar_fd and its two terms, cifar_fd_mean and cifar_fd_cov; cifar_fd_per_class; cifar_kid {mean,
    std}; cifar_precision, cifar_recall, cifar_density, cifar_coverage and cifar_precision_recall_images (generated, and
    as many real ones, that these four are of); cifar_is {mean, std}, class_accuracy and class_accuracy_per_class,
    these three None where the classes are not the classifier's. progress: text of a bar."""
    names = reference.classes
    by_class = [found[labels == c] for c in range(len(names))]
    kept = reference.features.reshape(len(names), -1, found.shape[1])  # (C, each, D)
    each = min(kept.shape[1], *map(len, by_class))  # equal counts on both sides
    ours = np.concatenate([f[:each] for f in by_class])
    real = kept[:, :each].reshape(len(ours), -1)
    of_class = [statistics(f, f"images of {name!r}") for f, name in zip(by_class, names)]
    with tqdm(total=4, desc=progress, unit="score", leave=False, disable=progress is None) as bar:
        scores = frechet_scores("cifar_fd", statistics(found), reference.overall)
        scores["cifar_fd_per_class"] = dict(zip(names, map(frechet_distance, of_class, reference.per_class)))
        bar.update()
        scores["cifar_kid"] = kernel_distance(found, reference.features)
        bar.update()
        scores |= zip(("cifar_precision", "cifar_recall"), precision_recall(real, ours))
        bar.update()
        scores |= zip(("cifar_density", "cifar_coverage"), density_coverage(real, ours))
        bar.update()
    scores |= {"cifar_precision_recall_images": len(ours)}
    scores |= dict.fromkeys(("cifar_is", "class_accuracy", "class_accuracy_per_class"))
    if known := matching(classes_of(classifier) or CIFAR10_CLASSES, names):
        said = logits[:, known[0]].argmax(axis=1)  # in the order of `names`
        scores["class_accuracy"], shares = metrics.class_accuracy(said, labels, len(names))
        scores |= {"cifar_is": metrics.inception_score(logits), "class_accuracy_per_class": dict(zip(names, shares))}
    return scores


class RealImages:
    """Real images as the classifier sees them, and the Reference made of them. Some are held out, and what these score
    is its lower bound: `per_class` of each class of `test`, or of `real` if as many remain.

    images: `real` and then `test`. found: their features. held, rest: rows that are held out (None: there are too few),
    and that these are scored against."""

    def __init__(self, real, test, per_class, classifier, say):
        self.count, self.images, labels, self.held = len(real), real.images, real.labels, None
        if test is not None:
            test = images_like(real, test).take(per_class)
            self.images, labels = np.concatenate([self.images, test.images]), np.concatenate([labels, test.labels])
            self.rest, self.held = np.split(np.arange(len(labels)), [self.count])
        elif min(real.counts().values()) >= 2 * per_class:
            rng = np.random.default_rng(0)
            rows = [rng.permutation(np.flatnonzero(labels == c)) for c in range(len(real.classes))]
            self.held, self.rest = map(np.concatenate, zip(*(np.split(r, [per_class]) for r in rows)))
        self.found, logits = features(self.images, classifier, progress=say("classifier sees real images"))
        self.reference = reference_of(real, self.found[: self.count], real.labels, network_hash(classifier))
        if self.held is not None:
            against = reference_of(real, self.found[self.rest], labels[self.rest], None)
            of_held = self.found[self.held], logits[self.held], labels[self.held]
            scores = classifier_scores(against, *of_held, classifier, say("scores of real images"))
            split = f"held out of {real.source}" if test is None else test.source
            self.reference = replace(self.reference, lower_bound={"split": split, "images": len(self.held), **scores})

    def seen_by(self, network, images, scores, say):
        """What another network than the classifier sees: [(scores to add to, features, logits, Statistics of the real
        images to measure against)], of generated `images` and their `scores`, then of held out ones and others."""
        name = network.name.partition(" ")[0]
        seen, real_logits = features(self.images, network, 50, say(f"{name} sees real images"))
        found, logits = features(images, network, 50, say(f"{name} sees images"))
        sets = [(scores, found, logits, statistics(seen[: self.count], "real images"))]
        if self.held is not None and min(len(self.held), len(self.rest)) > network.feature_width:
            rest = statistics(seen[self.rest], "real images")
            sets.append((self.reference.lower_bound, seen[self.held], real_logits[self.held], rest))
        return sets


def compute_reference(train, test, classifier, folder=ASSETS):
    """Writes reference.npz and reference.json: `train` (LabelledImages) as the classifier `classifier` sees it, and the
    lower_bound, what the real images `test` score against it. Returns the Reference, as `load_reference` reads it.

    reference.npz: float32 mean (D,), cov (D, D), class_mean (C, D), class_cov (C, D, D); float16 features (M, D).
    InputError: different classes in train and test, or too few images."""
    made = RealImages(train, test, min(test.counts().values()), classifier, str).reference
    arrays = {"mean": np.float32(made.overall.mean), "cov": np.float32(made.overall.cov), "features": made.features}
    arrays |= {f"class_{name}": np.float32([getattr(s, name) for s in made.per_class]) for name in ("mean", "cov")}
    about = {"format": 1, "classes": list(made.classes), "resolution": made.resolution, "lower_bound": made.lower_bound}
    about["train"] = {"split": made.source, "images": len(train), "per_class": train.counts()}
    about["feature_network"] = {"name": "classifier", "hash": made.classifier, "width": made.features.shape[1]}
    write_arrays(Path(folder) / "reference.npz", arrays, about, "compute_reference")
    return load_reference(folder)


def write_arrays(path, arrays, about, command):
    """Writes {name: array} to `path`, an .npz, and `about`, with provenance and a checksum, to the .json beside it."""
    with replacing_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    about = about | provenance(command, about["train"]["split"]) | {"sha256": sha256(path)}
    write_json(Path(path).with_suffix(".json"), about, check=True)


def read_arrays(path, remake):
    """({name: array}, about) that `write_arrays` wrote. InputError, which ends with `remake`: missing or changed."""
    about = read_json(Path(path).with_suffix(".json"), check=True)
    if not Path(path).is_file() or sha256(path) != about.get("sha256"):
        described = Path(path).with_suffix(".json").name
        raise InputError(f"{path} is not the file that {described} describes; restore both, or {remake}")
    with np.load(path) as arrays:
        return dict(arrays), about


def load_reference(folder=ASSETS, classifier=None):
    """Reads what `compute_reference` wrote.

    InputError: files missing, changed or damaged; or made with another classifier than the network `classifier`."""
    arrays, about = read_arrays(Path(folder) / "reference.npz", REMAKE)
    try:
        means, covs = [arrays["mean"], *arrays["class_mean"]], [arrays["cov"], *arrays["class_cov"]]
        kept, train, names = arrays["features"], about["train"], tuple(about["classes"])
        counts = [train["images"], *(train["per_class"][name] for name in names)]
        overall, *per_class = map(Statistics, np.float64(means), np.float64(covs), counts)
        rest = about["resolution"], train["split"], about["feature_network"]["hash"], about["lower_bound"]
        reference = Reference(overall, tuple(per_class), kept, names, *rest)
    except KeyError as error:
        raise InputError(f"{folder}: reference.json or reference.npz lacks {error}; {REMAKE}") from None
    if classifier is not None and (digest := network_hash(classifier)) != reference.classifier:
        made = reference.classifier[:12]
        differ = f"the reference was made with classifier {made}, but the classifier here is {digest[:12]}"
        raise InputError(f"{differ}; scores of different classifiers cannot be compared, so {REMAKE}")
    return reference
