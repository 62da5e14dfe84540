"""Scores of a generator, on two scales that are never confused (docs/Evaluation.md): those called CIFAR-... on the
evaluation classifier's features, against bundled statistics of CIFAR-10; FID and inception score on Inception's."""

from ..core.checks import pick_device, whole
from ..core.figures import save_png
from ..core.files import InputError
from ..pairs.make import draw_pictures
from ..teachers.black_box import black_box
from ..teachers.load import load_teacher
from .agreement import check_alike, compare
from .classifier import InceptionFeatures, features, judge_on
from .neighbours import copying, neighbour_grid
from .reference import RealImages, judge_scores, load_reference


def evaluate(generator, real=None, per_class=1000, seed=1000, inception=None, test=None, teacher=None, neighbours=None,
             device=None, batch=250, progress=True, judge=None):  # fmt: skip
    """Scores a generator on `per_class` images of each class; the same seed gives the same images.

    Args:
        generator: a network, a Teacher or any black box (see `teachers.black_box`).
        real: LabelledImages to measure against, instead of the bundled statistics of CIFAR-10's train split.
        per_class: images of each class. The tables of this project use 1,000; compare only equal counts.
        seed: of the latents; those of class c are `pairs.draw_latents(seed, c, ...)`.
        inception: pytorch-fid's weights, a path or "download": adds FID and IS. Needs `real` and over 2,048 images.
        test: LabelledImages that are not in `real`, for the floor; without them some are held out of `real`.
        teacher: what `load_teacher` takes: adds how well the generator repeats it, on equal latents and as a set.
        neighbours: PNG to write: an image of each class and its nearest real ones. Needs `real`.
        device: where networks run. By default the generator stays where it is, the classifier takes a GPU if any.
        batch: images generated at once.
        judge: another classifier than the bundled one. Needs `real`.

    Returns:
        A dict for JSON: all of `judge_scores`, images, per_class, seed, reference {split, images}, feature_network
        {name, hash}, floor (the scores of real images: the bundled test split, or per_class of each class of `test`
        or `real`; None if fewer would be left). inception adds fid, inception_score {mean, std}, inception_network
        {name, hash}; teacher agreement (`agreement`), cifar_fd_to_teacher and _floor; neighbours `copying`'s dict.
        InputError: too few images for a metric; classes or sizes that do not fit; no weights or reference."""
    box, judge, per_class = black_box(generator, device=device), judge_on(device, judge), whole("per_class", per_class)
    teacher = None if teacher is None else load_teacher(teacher, device=device)
    reference = _check(box, teacher, real, per_class, inception, test, neighbours, judge)
    network = None if inception is None else InceptionFeatures(inception).to(pick_device(device))
    say = (lambda text: text) if progress else (lambda text: None)
    known = None if real is None else RealImages(real, test, per_class, judge, say)
    reference = reference if known is None else known.reference
    images, labels = draw_pictures(box, per_class, seed, batch, say("generate images"))
    found, logits = features(images, judge, progress=say("classifier sees images"))  # (N, D), (N, C)
    scores = judge_scores(reference, found, logits, labels, judge)
    if teacher is not None:
        scores |= compare(images, found, teacher, judge, seed, batch, say("teacher generates"))
    if neighbours is not None:
        save_png(neighbour_grid(images[::per_class], real, judge, seen=known.found[: len(real)]), neighbours)
        scores["nearest_training"] = copying(found, known.found[known.rest], known.found[known.held])
    if network is not None:
        scores |= known.inception(images, network, say)
    scores |= {"images": len(images), "per_class": per_class, "seed": seed, "floor": reference.floor}
    scores["reference"] = {"split": reference.source, "images": reference.overall.count}
    return scores | {"feature_network": {"name": "judge", "hash": reference.judge}}


def _check(box, teacher, real, per_class, inception, test, neighbours, judge):
    """Refuses, before an image is generated, what could not be scored in the end. Returns the bundled Reference, or
    None with `real`."""
    needs_real = {"FID": inception, "a search for nearest training images": neighbours, "test=...": test}
    if real is None and (lacking := [name for name, given in needs_real.items() if given is not None]):
        raise InputError(f"{lacking[0]} needs the real images themselves: give real=load_images('cifar10') as well")
    if teacher is not None:
        check_alike(box, teacher)
    reference = load_reference(judge=judge) if real is None else None
    target = reference if real is None else real
    names, source, draws = tuple(target.classes), target.source, f"generator {box.name!r} draws"
    if box.classes not in (names, tuple(map(str, range(len(names))))):
        classes = f"{box.num_classes} classes {box.classes}, but {source} has {len(names)} classes {names}"
        raise InputError(f"{draws} {classes}; give real=load_images(...) of what it draws")
    if box.resolution != target.resolution:
        sizes = f"{box.resolution} pixels a side, but {source} has {target.resolution}"
        raise InputError(f"{draws} {sizes}; give real=load_images(..., size={box.resolution})")
    fid_width, width = 0 if inception is None else InceptionFeatures.feature_width, judge.feature_width
    need = max(width + 1, *(-(-images // len(names)) for images in (1000, fid_width + 1)))
    why = f"{width} features a class, subsets of 1,000 images"
    why += f", {fid_width:,} Inception features" if fid_width else ""
    counts = {} if real is None else real.counts()
    given = {f"per_class={per_class}": per_class}
    given |= {f"{source} has {count} of {name!r}": count for name, count in counts.items()}
    told, fewest = min(given.items(), key=lambda item: item[1])
    if fewest < need:
        raise InputError(f"too few images: {told}, but {why} need at least {need} of each class")
    if test is None and neighbours is not None and min(counts.values()) < 2 * per_class:
        needs = f"neighbours need test=, or {2 * per_class:,} real images a class, half of them to compare with"
        raise InputError(f"too few images: {needs}, and {source} has fewer; give test= or a smaller per_class")
    return reference
