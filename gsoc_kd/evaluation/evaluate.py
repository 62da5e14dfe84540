"""Scores of a generator, on scales that are never confused (docs/Evaluation.md): those called CIFAR-... on the
evaluation classifier's features, against bundled statistics of CIFAR-10; ImageNet-FD on features that never saw
CIFAR-10; CAS, what a classifier learns from generated images alone; FID and inception score on Inception's features."""

import sys

from ..core.checks import file_of, pick_device, whole
from ..core.figures import save_png
from ..core.files import InputError
from ..core.state import untouched
from ..data.images import LabelledImages, as_images
from ..pairs.make import generate_images
from ..teachers.black_box import black_box
from ..teachers.load import load_teacher
from .agreement import Shown, check_alike, compare
from .cas import PER_CLASS, cas
from .classifier import InceptionFeatures, classifier_on, features
from .imagenet import ImageNetFeatures, add_imagenet
from .metrics import frechet_distance, inception_score, statistics
from .names import images_like, in_order
from .neighbours import copying, neighbour_grid
from .reference import RealImages, classifier_scores, load_reference


@untouched
def evaluate(generator, real=None, per_class=1000, seed=1000, inception=None, test=None, teacher=None, neighbours=None,
             device=None, batch=250, progress=True, classifier=None, imagenet=False, cas_epochs=None):  # fmt: skip
    """Scores a generator on `per_class` images of each class; the same seed gives the same images. Classes are matched
    by name. Modes of networks and random states are afterwards as they were.

    Args:
        generator: a network, a Teacher or any black box (see `teachers.black_box`).
        real: LabelledImages, or what load_images takes, to measure against, instead of the bundled statistics of
            CIFAR-10's train split.
        per_class: images of each class. The tables of this project use 1,000; compare only equal counts.
        seed: of the latents; those of class c are `pairs.draw_latents(seed, c, ...)`.
        inception: pytorch-fid's weights, a path or "download": adds FID and IS. Needs `real` and over 2,048 images.
        test: the same, other images than `real`: for the lower bound (without, some are held out of `real`), for CAS.
        teacher: what `load_teacher` takes: adds how well the generator repeats it, on equal latents and as a set.
        neighbours: PNG to write: an image of each class and its nearest real ones. Needs `real`.
        device: where networks run. By default the generator stays where it is, the classifier takes a GPU if any.
        batch: images generated at once.
        classifier: another classifier than the bundled one. Needs `real`.
        imagenet: adds ImageNet-FD; needs the optional extra `scores`.
        cas_epochs: adds CAS, by so many epochs over 5,000 generated images of each class; needs `test`.

    Returns:
        A dict for JSON: all of `classifier_scores`, images, per_class, seed, reference {split, images},
        feature_network {name, hash}, lower_bound (the scores of real images: the bundled test split, or per_class of
        each class of `test` or `real`; None if fewer would be left), classes_by_number (True where the generator's
        classes have no names and are taken in the order of the real ones). imagenet adds imagenet_fd, _mean and _cov;
        cas_epochs what `cas` returns; inception fid, inception_score {mean, std}, inception_network {name, hash};
        teacher agreement (`agreement`), cifar_fd_to_teacher, _mean, _cov and _lower_bound, with imagenet the same
        four of imagenet_fd_to_teacher; neighbours `copying`'s dict. InputError: too few images for a metric; classes
        or sizes that do not fit; no weights or reference."""
    box, classifier = black_box(generator, device=device), classifier_on(device, classifier)
    per_class, seed, batch = whole("per_class", per_class), whole("seed", seed, 0), whole("batch", batch)
    say = lambda text: text if progress else None  # noqa: E731
    teacher = None if teacher is None else load_teacher(teacher, device=device)
    _check_needs(real, inception, test, neighbours, cas_epochs)
    real = None if real is None else as_images(real)
    test = None if test is None else as_images(test, "test", "test")
    reference = load_reference(classifier=classifier) if real is None else None
    box, by_number = _fitting(box, reference or real, test)
    teacher = None if teacher is None else check_alike(box, teacher)
    _check_counts(real, per_class, inception, test, neighbours, classifier, box.num_classes)
    inception = None if inception is None else InceptionFeatures(inception).to(pick_device(device))
    imagenet = ImageNetFeatures().to(pick_device(device)) if imagenet else None
    if by_number and progress:
        print(f"{box.name}: classes without names are taken in this order: {', '.join(box.classes)}", file=sys.stderr)

    known = None if real is None else RealImages(real, test, per_class, classifier, say)
    reference = reference if known is None else known.reference
    images, labels = generate_images(box, per_class, seed, batch, progress=say("generate images"))
    found, logits = features(images, classifier, progress=say("classifier sees images"))  # (N, D), (N, C)
    scores, shown = classifier_scores(reference, found, logits, labels, classifier, say("scores")), None
    if teacher is not None:
        shown = Shown.by(teacher, per_class, seed, batch, box.z_from, progress=say("teacher generates"))
        scores |= compare(shown, images, found, teacher, classifier, seed)
    if neighbours is not None:
        save_png(neighbour_grid(images[::per_class], real, classifier, seen=known.found[: len(real)]), neighbours)
        scores["nearest_training"] = copying(found, known.found[known.rest], known.found[known.held])
    if inception is not None:
        for result, ours, said, target in known.seen_by(inception, images, scores, say):
            result |= {"fid": frechet_distance(statistics(ours), target), "inception_score": inception_score(said)}
        scores["inception_network"] = {"name": inception.name, "hash": inception.digest}
    if imagenet is not None:
        add_imagenet(scores, imagenet, images, known, reference.lower_bound, shown, say)
    if cas_epochs is not None:
        many = generate_images(box, PER_CLASS, seed, batch, progress=say("generate images to train on"))
        scores |= cas(LabelledImages(*many, box.classes, box.name), test, cas_epochs, device=device, progress=progress)
    bound = reference.lower_bound or {}
    if bound.get("cas_epochs") != cas_epochs:  # of another budget, or not asked for
        [bound.pop(name) for name in [*bound] if name.startswith("cas")]
    scores |= {"images": len(images), "per_class": per_class, "seed": seed, "lower_bound": reference.lower_bound}
    scores["reference"] = {"split": reference.source, "images": reference.overall.count}
    scores["feature_network"] = {"name": "classifier", "hash": reference.classifier}
    return scores | {"classes_by_number": by_number}


def _check_needs(real, inception, test, neighbours, cas_epochs):
    """Refuses what cannot be measured without real images that are not there."""
    neighbours = None if neighbours is None else file_of(neighbours, "neighbours")
    needs_real = {"FID": inception, "a search for nearest training images": neighbours}
    needs_real |= {"test=...": test} if cas_epochs is None else {}
    if real is None and (lacking := [name for name, given in needs_real.items() if given is not None]):
        raise InputError(f"{lacking[0]} needs the real images themselves: give real=load_images('cifar10') as well")
    if cas_epochs is not None and whole("cas_epochs", cas_epochs) and test is None:
        raise InputError("CAS needs real test images: give test=load_images('cifar10', 'test'), or those of your own")


def _fitting(box, target, test):
    """(the Teacher `box` with its classes in the order of the real ones, by_number), as in `in_order`; InputError where
    it generates other classes or sizes than `target`, the reference or real images, and `test` have."""
    names, source, draws = tuple(target.classes), target.source, f"generator {box.name!r} generates"
    if (found := in_order(box, names)) is None:
        classes = f"{box.num_classes} classes {box.classes}, but {source} has {len(names)} classes {names}"
        raise InputError(f"{draws} {classes}; give real=load_images(...) of what it generates")
    if box.resolution != target.resolution:
        sizes = f"{box.resolution} pixels a side, but {source} has {target.resolution}"
        raise InputError(f"{draws} {sizes}; give real=load_images(..., size={box.resolution})")
    if test is not None:
        images_like(target, test)
    return found


def _check_counts(real, per_class, inception, test, neighbours, classifier, num_classes):
    """Refuses, before an image is generated, counts that are too small for a score."""
    fid_width, width = 0 if inception is None else InceptionFeatures.feature_width, classifier.feature_width
    need = max(width + 1, *(-(-images // num_classes) for images in (1000, fid_width + 1)))
    why = f"{width} features per class, subsets of 1,000 images"
    why += f", {fid_width:,} Inception features" if fid_width else ""
    counts = {} if real is None else real.counts()
    given = {f"per_class={per_class}": per_class}
    given |= {f"{real.source} has {count} of {name!r}": count for name, count in counts.items()}
    told, fewest = min(given.items(), key=lambda item: item[1])
    if fewest < need:
        raise InputError(f"too few images: {told}, but {why} need at least {need} of each class")
    if test is None and neighbours is not None and min(counts.values()) < 2 * per_class:
        needs = f"neighbours need test=, or {2 * per_class:,} real images per class, half of them to compare with"
        raise InputError(f"too few images: {needs}, and {real.source} has fewer; give test= or a smaller per_class")
