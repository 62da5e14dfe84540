"""Does a student repeat its teacher, image by image, on the same noise and label? (docs/Evaluation.md)"""

import numpy as np

from ..core.checks import whole
from ..core.files import InputError
from ..pairs.make import draw_pictures
from ..teachers.black_box import black_box
from ..teachers.load import load_teacher
from .classifier import judge_on
from .features import features
from .metrics import frechet_distance, statistics


def agreement(student, teacher="embedded", per_class=100, seed=1000, device=None, batch=250, progress=True, judge=None):
    """Teacher and student on the same new noise, pair by pair: `pair_agreement`, teacher (its name), images and seed.

    Args:
        student, teacher: what `black_box` and `load_teacher` take, of the same latents, classes and resolution.
        per_class: latents of each class, at least 2; those of class c are `pairs.draw_latents(seed, c, ...)`.
        seed: of the latents; not that of the pairs the student was trained on.
        device: where the networks run. By default generators stay where they are, the classifier takes a GPU if any.
        batch, judge: images generated at once; another classifier than the bundled one.
    """
    student, teacher = black_box(student, device=device), load_teacher(teacher, device=device)
    check_alike(student, teacher)
    judge, per_class = judge_on(device, judge), whole("per_class", per_class, 2)
    images, labels = draw_pictures(student, per_class, seed, batch, "student generates" if progress else None)
    theirs, _ = draw_pictures(teacher, per_class, seed, batch, "teacher generates" if progress else None)
    pairs = pair_agreement(images, theirs, features(images, judge)[0], features(theirs, judge)[0], labels)
    return {"teacher": teacher.name, **pairs, "images": len(images), "seed": seed}


def pair_agreement(ours, theirs, found, expected, labels):
    """Distances between images of the same noise, and between the teacher's own images of other noise.

    ours, theirs: student's and teacher's images, uint8 (N, H, W, 3), image i of both from the same (z, y).
    found, expected: their features (N, D). labels: (N,), each class at least twice, else InputError.

    Returns l1, mean absolute difference in grey levels (0 to 255); feature_distance, mean Euclidean distance of the
    features; and both again with _other_noise: between two images of the teacher, of the same class and different
    noise. 0 is a perfect copy; as far as other noise is a student that only knows the class.
    """
    other = np.arange(len(labels))  # row of the next image of the same class, in a ring
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        if len(members) < 2:
            raise InputError(f"too few images: one of class {c}; at least 2 a class are needed")
        other[members] = np.roll(members, -1)
    l1, gap = _apart(ours, theirs, found, expected)
    l1_other, gap_other = _apart(theirs, theirs[other], expected, expected[other])
    return {"l1": l1, "l1_other_noise": l1_other, "feature_distance": gap, "feature_distance_other_noise": gap_other}


def compare(images, found, labels, teacher, judge, seed, batch, progress=None):
    """What `evaluate(..., teacher=...)` adds for a student's images of `seed` and their features (N, D): agreement on
    the same noise, and CIFAR-FD to as many images of the teacher from other noise, seed + 1; the floor is what the
    teacher's own images of `seed` score there."""
    per_class = len(labels) // teacher.num_classes
    theirs, others = (draw_pictures(teacher, per_class, s, batch, progress)[0] for s in (seed, seed + 1))
    expected, target = features(theirs, judge)[0], statistics(features(others, judge)[0], "the teacher's images")
    pairs = {"teacher": teacher.name, **pair_agreement(images, theirs, found, expected, labels)}
    pairs |= {"images": len(images), "seed": seed}
    distance, floor = (frechet_distance(statistics(f), target) for f in (found, expected))
    return {"agreement": pairs, "cifar_fd_to_teacher": distance, "cifar_fd_to_teacher_floor": floor}


def check_alike(student, teacher):
    """Refuses a teacher and a student (both `Teacher`) whose images cannot be compared pair by pair."""
    for field, what in (("z_dim", "numbers in a latent"), ("num_classes", "classes"), ("resolution", "pixels a side")):
        ours, theirs = getattr(student, field), getattr(teacher, field)
        if ours != theirs:
            both = f"student {student.name!r} and teacher {teacher.name!r} cannot be compared pair by pair"
            raise InputError(f"{both}: {ours} and {theirs} {what}; give the teacher it was distilled from")


def _apart(a, b, found, expected):
    """(mean absolute difference of images in grey levels, mean Euclidean distance of their features)."""
    distances = np.linalg.norm((found - expected).astype(np.float64), axis=1)
    return float(np.abs(a.astype(np.int16) - b).mean()), float(distances.mean())
