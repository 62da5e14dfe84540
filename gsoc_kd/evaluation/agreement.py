"""Does a student repeat its teacher, picture by picture? (docs/Evaluation.md)

The scores of `evaluate.py` compare sets; here student and teacher get the same noise and label, and each
picture is compared with its own model, in grey levels and in the judge's features.
"""

import copy

import numpy as np
import torch

from ..core.files import InputError
from ..pairs.make import draw_pictures
from ..teachers.black_box import black_box
from ..teachers.load import load_teacher
from .classifier import load_judge
from .features import features
from .metrics import frechet_distance, statistics


def agreement(
    student,
    teacher="embedded",
    per_class: int = 100,
    seed: int = 1000,
    device=None,
    batch: int = 250,
    progress=True,
    judge=None,
):
    """Teacher and student on the same new noise, pair by pair.

    Args:
        student: a network, a Teacher or any black box.
        teacher: whatever `load_teacher` takes: "embedded", a folder, a Teacher, a network, a callable.
        per_class: latents a class, at least 2; those of class c are `pairs.draw_latents(seed, c, ...)`.
        seed: of the latents; not that of the pairs the student was trained on.
        device: where the networks run. By default generators stay where they are, the judge takes a GPU if any.
        batch: pictures drawn at once.
        judge: another judge than the embedded one.

    Returns:
        The dict of `pair_agreement`, with teacher (its name), images and seed.

    Raises:
        InputError: the two do not take the same latents and labels or draw different sizes.
    """
    if isinstance(per_class, bool) or not isinstance(per_class, int) or per_class < 2:
        raise InputError(f"per_class must be a whole number of at least 2, not {per_class!r}")
    student, teacher = black_box(student, device=device), load_teacher(teacher, device=device)
    check_alike(student, teacher)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    judge = copy.deepcopy(judge or load_judge()).to(place, memory_format=torch.channels_last)
    ours, labels = draw_pictures(student, per_class, seed, batch, "student draws" if progress else None)
    theirs, _ = draw_pictures(teacher, per_class, seed, batch, "teacher draws" if progress else None)
    result = pair_agreement(ours, theirs, features(ours, judge)[0], features(theirs, judge)[0], labels)
    return {"teacher": teacher.name, **result, "images": len(ours), "seed": seed}


def pair_agreement(ours, theirs, found, expected, labels):
    """Distances between pictures of the same noise, and between the teacher's own pictures of other noise.

    Args:
        ours, theirs: student's and teacher's pictures, uint8 (N, H, W, 3), picture i of both from the same (z, y).
        found, expected: their features (N, D).
        labels: (N,), each class at least twice.

    Returns:
        dict: l1, mean absolute difference in grey levels (0 to 255); feature_distance, mean Euclidean distance
        of the features; and both again with _other_noise: between two pictures of the teacher, of the same class
        and different noise. 0 is a perfect copy; as far as other noise is a student that only knows the class.

    Raises:
        InputError: a class with a single picture, which has no other to be compared with.
    """
    other = np.arange(len(labels))  # row of the next picture of the same class, in a ring
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        if len(members) < 2:
            raise InputError(f"too few images: one of class {c}; at least 2 a class are needed")
        other[members] = np.roll(members, -1)
    return {
        "l1": _grey_levels(ours, theirs),
        "l1_other_noise": _grey_levels(theirs, theirs[other]),
        "feature_distance": _length(found - expected),
        "feature_distance_other_noise": _length(expected - expected[other]),
    }


def compare(images, found, labels, teacher, judge, per_class, seed, batch, progress=None):
    """What `evaluate(..., teacher=...)` adds for a student's pictures of `seed` and their features (N, D):
    agreement on the same noise, and CIFAR-FD to as many pictures of the teacher from other noise, seed + 1,
    with the floor: what the teacher's own pictures of `seed` score there."""
    theirs, _ = draw_pictures(teacher, per_class, seed, batch, progress)
    held_out, _ = draw_pictures(teacher, per_class, seed + 1, batch, progress)
    expected, target = features(theirs, judge)[0], statistics(features(held_out, judge)[0], "the teacher's pictures")
    pairs = pair_agreement(images, theirs, found, expected, labels)
    return {
        "agreement": {"teacher": teacher.name, **pairs, "images": len(images), "seed": seed},
        "cifar_fd_to_teacher": frechet_distance(statistics(found), target),
        "cifar_fd_to_teacher_floor": frechet_distance(statistics(expected), target),
    }


def check_alike(student, teacher):
    """Refuses a teacher and a student (both `Teacher`) whose pictures cannot be compared pair by pair."""
    for field, what in (("z_dim", "numbers in a latent"), ("num_classes", "classes"), ("resolution", "pixels a side")):
        ours, theirs = getattr(student, field), getattr(teacher, field)
        if ours != theirs:
            raise InputError(
                f"student {student.name!r} and teacher {teacher.name!r} cannot be compared pair by pair: "
                f"{ours} and {theirs} {what}; give the teacher it was distilled from"
            )


def _grey_levels(a, b, chunk=1000):
    """Mean absolute difference of pictures, in grey levels."""
    parts = [np.abs(a[i : i + chunk].astype(np.int16) - b[i : i + chunk]).sum() for i in range(0, len(a), chunk)]
    return float(sum(map(int, parts)) / a.size)


def _length(difference):
    return float(np.linalg.norm(difference.astype(np.float64), axis=1).mean())
