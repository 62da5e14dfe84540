"""Scores of a generator: how far its pictures are from real ones, and whether they show what was asked for.

Two scales, never confused (docs/Evaluation.md): the scores called CIFAR-... on the judge's features, offline,
against embedded statistics of CIFAR-10; FID and the inception score on Inception's, where its weights are.
"""

import copy
import importlib.util

import numpy as np
import torch

from ..core.figures import mosaic as draw_mosaic
from ..core.figures import save_png
from ..core.files import InputError
from ..core.weights import network_hash
from ..data.images import LabelledImages
from ..pairs.make import draw_pictures
from ..teachers.black_box import black_box
from ..teachers.load import load_teacher
from .agreement import check_alike, compare
from .classifier import load_judge
from .features import InceptionFeatures, features
from .metrics import frechet_distance, inception_score, statistics
from .neighbours import copying, neighbour_grid
from .reference import judge_scores, load_reference, reference_of

KID_SIZE = 1000  # rows of a subset of the kernel distance


def evaluate(
    generator,
    real=None,
    per_class=1000,
    seed=1000,
    inception=None,
    test=None,
    teacher=None,
    neighbours=None,
    mosaic=None,
    device=None,
    batch=250,
    progress=True,
    judge=None,
    reference=None,
):
    """Scores a generator on `per_class` pictures of each class; the same seed gives the same pictures.

    Args:
        generator: a network, a Teacher or any black box (see `teachers.black_box`).
        real: LabelledImages to measure against, instead of the embedded statistics of CIFAR-10's train split.
        per_class: pictures a class. The tables of this project use 1,000; compare only equal counts.
        seed: of the latents; those of class c are `pairs.draw_latents(seed, c, ...)`.
        inception: path of pytorch-fid's Inception weights, or "download": adds FID and the inception score.
            Needs `real`, and more than 2,048 pictures.
        test: LabelledImages that are not in `real`, at least per_class a class: the floor is what they score. Without
            them it is scored on images held out of `real`.
        teacher: whatever `load_teacher` takes: adds how well the generator repeats this teacher, pair by pair on
            the scored latents, and CIFAR-FD to as many pictures of the teacher from other latents, of seed + 1.
        neighbours: PNG to draw: a generated picture of each class and its nearest real ones in the judge's
            features; adds nearest_training. Needs `real`, and `test` or at least twice `per_class` images a class.
        mosaic: PNG to draw: up to 400 of the scored pictures on a map where alike ones stand together, see
            `figures.mosaic`. Needs scikit-learn.
        device: where networks run. By default the generator stays where it is, the judge takes a GPU if any.
        batch: pictures drawn at once.
        judge, reference: another judge and its Reference than the embedded ones.

    Returns:
        JSON-able dict: cifar_fd, cifar_fd_per_class, cifar_kid {mean, std}, cifar_precision, cifar_recall and
        cifar_precision_recall_images (generated, and as many real ones: at most 5,000), cifar_is {mean, std},
        class_agreement and class_agreement_per_class (these three None where the classes are not the judge's),
        images, per_class, seed, reference {split, images}, feature_network {name, hash}, floor (scores of real
        images: the test split behind the embedded reference; or per_class images a class of `test`; or as many held
        out of `real`, None if fewer would be left). With `inception` also fid, inception_score {mean, std} and
        inception_network {name, hash}; with `teacher` agreement (see `agreement.pair_agreement`),
        cifar_fd_to_teacher and its floor, cifar_fd_to_teacher_floor; with `neighbours` nearest_training (see
        `neighbours.copying`; the others are the images of the floor).

    Raises:
        InputError: too few images for a metric; classes or sizes that do not fit; no weights or reference.
    """
    box = black_box(generator, device=device)
    if teacher is not None:
        teacher = load_teacher(teacher, device=device)
        check_alike(box, teacher)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    judge = copy.deepcopy(judge or load_judge()).to(place, memory_format=torch.channels_last)
    if real is None:
        reference = reference or load_reference(judge=judge)
        if reference.judge != network_hash(judge):
            raise InputError("reference was made with another judge than the one here; use compute_reference")
    _check(box, real, reference, per_class, judge.feature_width, inception, test, neighbours, mosaic)
    network = None if inception is None else InceptionFeatures(inception).to(place)
    say = (lambda text: text) if progress else (lambda text: None)

    if real is None:
        floor = reference.floor
    else:
        pool, held, rest = _hold_out(real, test, per_class)
        known = features(pool.images, judge, progress=say("judge sees real images"))  # (M, D), (M, C)
        reference = reference_of(real, known[0][: len(real)], network_hash(judge))
        floor = None if held is None else _real_floor(pool, *known, held, rest, judge)
        if floor and test is not None:
            floor["split"] = test.source
    images, labels = draw_pictures(box, per_class, seed, batch, say("draw pictures"))
    found = features(images, judge, progress=say("judge sees pictures"))  # (N, D), (N, C)
    scores = judge_scores(reference, *found, labels, judge)
    if teacher is not None:
        scores.update(compare(images, found[0], labels, teacher, judge, per_class, seed, batch, say("teacher draws")))
    if neighbours is not None:
        scores["nearest_training"] = copying(found[0], known[0][rest], known[0][held])
        picture = neighbour_grid(images[::per_class], real, judge, seen=known[0][: len(real)])  # one of each class
        save_png(picture, neighbours)
    if mosaic is not None:
        some = np.linspace(0, len(images) - 1, min(400, len(images))).astype(int)
        save_png(draw_mosaic(images[some], found[0][some]), mosaic)
    if network is not None:
        seen = features(pool.images, network, batch=50, progress=say("Inception sees real images"))
        found = features(images, network, batch=50, progress=say("Inception sees pictures"))
        scores.update(
            _inception_scores(*found, seen[0][: len(real)]),
            inception_network={"name": network.name, "hash": network.digest},
        )
        if held is not None and min(len(held), len(rest)) > network.feature_width:
            floor.update(_inception_scores(seen[0][held], seen[1][held], seen[0][rest]))
    return {
        **scores,
        "images": len(images),
        "per_class": per_class,
        "seed": seed,
        "reference": {"split": reference.split, "images": reference.overall.count},
        "feature_network": {"name": "judge", "hash": reference.judge},
        "floor": floor,
    }


def _inception_scores(found, logits, real):
    mean, std = inception_score(torch.from_numpy(logits).double().softmax(dim=1).numpy())
    return {
        "fid": frechet_distance(statistics(found), statistics(real, "real images")),
        "inception_score": {"mean": mean, "std": std},
    }


def _real_floor(real, found, logits, held, rest, judge):
    """What real images held out of `real` score against the rest of it."""
    others = LabelledImages(real.images[rest], real.labels[rest], real.classes, real.source)
    reference = reference_of(others, found[rest], None)
    return {
        "split": f"held out of {real.source}",
        "images": len(held),
        **judge_scores(reference, found[held], logits[held], real.labels[held], judge),
    }


def _hold_out(real, test, per_class):
    """(all real images: `real`, then `test` if given; rows of the `per_class` images a class for the floor; rows
    those are measured against). Without `test` they are drawn from `real`; no rows, twice None, if too few are left."""
    if test is not None:
        test = test.take(per_class)
        pool = LabelledImages(
            np.concatenate([real.images, test.images]),
            np.concatenate([real.labels, test.labels]),
            real.classes,
            real.source,
        )
        return pool, np.arange(len(real), len(pool)), np.arange(len(real))
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(real.labels == c)) for c in range(len(real.classes))]
    if min(map(len, rows)) < 2 * per_class:
        return real, None, None
    return real, np.concatenate([r[:per_class] for r in rows]), np.concatenate([r[per_class:] for r in rows])


def _check(teacher, real, reference, per_class, width, inception, test, neighbours, mosaic):
    """Refuses, before a picture is drawn, what could not be scored in the end."""
    target, source = (reference, reference.split) if real is None else (real, real.source)
    hint = "; give real=load_images(...) of what it draws" if real is None else ""
    named = teacher.classes != tuple(str(c) for c in range(teacher.num_classes))
    if teacher.num_classes != len(target.classes) or named and teacher.classes != tuple(target.classes):
        raise InputError(
            f"generator {teacher.name!r} draws {teacher.num_classes} classes {teacher.classes}, "
            f"but {source} has {len(target.classes)} classes {tuple(target.classes)}{hint}"
        )
    if teacher.resolution != target.resolution:
        raise InputError(
            f"generator {teacher.name!r} draws {teacher.resolution} pixels a side, but {source} "
            f"has {target.resolution}; give real=load_images(..., size={teacher.resolution})"
        )
    if inception is not None and real is None:
        raise InputError(
            "FID needs the real images themselves: give inception=... together with real=load_images('cifar10')"
        )
    if test is not None and real is None:
        raise InputError(
            "test=... is only used together with real=load_images(...); the embedded reference has its own"
        )
    if mosaic is not None and importlib.util.find_spec("sklearn") is None:
        raise InputError("a mosaic needs scikit-learn: pip install scikit-learn")
    if neighbours is not None and real is None:
        raise InputError(
            "nearest training neighbours need the real pictures themselves: give neighbours=... together "
            "with real=load_images('cifar10')"
        )
    classes, fid_width = len(target.classes), 0 if inception is None else InceptionFeatures.feature_width
    need = max(width + 1, -(-KID_SIZE // classes), -(-(fid_width + 1) // classes))
    if isinstance(per_class, bool) or not isinstance(per_class, int) or per_class < need:
        fid = f", {fid_width:,} Inception features" if fid_width else ""
        raise InputError(
            f"too few images: per_class={per_class!r}, but {width} features a class, subsets of "
            f"{KID_SIZE:,} images{fid} need at least per_class={need}"
        )
    if real is not None and min(real.counts().values()) < need:
        name, count = min(real.counts().items(), key=lambda item: item[1])
        raise InputError(f"too few images: {source} has {count} of {name!r}; {need} a class are needed")
    if test is not None and (test.classes, test.resolution) != (real.classes, real.resolution):
        raise InputError(f"{source} and {test.source} differ in classes or size; test= must be other images like real=")
    if neighbours is not None and test is None and min(real.counts().values()) < 2 * per_class:
        raise InputError(
            f"too few images: neighbours need test=, or {2 * per_class:,} real images a class, half of "
            f"them to compare with, and {source} has fewer; give test= or a smaller per_class"
        )
    if test is not None:
        test.take(per_class)  # refuses a test split that is too small


# ---------------------------------------------------------------- size, speed, table
