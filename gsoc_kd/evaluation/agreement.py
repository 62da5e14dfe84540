"""Does a student repeat its teacher, image by image, on the same noise and label? (docs/Evaluation.md)"""

import numpy as np

from ..core.checks import whole
from ..core.files import InputError
from ..pairs.make import draw_pictures
from ..teachers.black_box import black_box
from ..teachers.load import load_teacher
from .classifier import features, judge_on
from .metrics import frechet_distance, statistics


def agreement(student, teacher="embedded", per_class=100, seed=1000, device=None, progress=True, judge=None):
    """Teacher and student on the same new noise, pair by pair.

    Args:
        student, teacher: what `black_box` and `load_teacher` take, of the same latents, classes and resolution.
        per_class: latents of each class, at least 2; those of class c are `pairs.draw_latents(seed, c, ...)`.
        seed: of the latents; not that of the pairs the student was trained on.
        device, judge: as in `evaluate`.

    Returns a dict: teacher (its name); l1, mean absolute difference in grey levels (0 to 255); feature_distance, mean
    Euclidean distance of the classifier's features; both again with _other_noise: between two images of the teacher,
    of the same class and different noise; images, seed. 0 is a perfect copy; as far as other noise is a student that
    only knows the class. InputError: student and teacher do not fit; per_class too small."""
    student, teacher = black_box(student, device=device), load_teacher(teacher, device=device)
    check_alike(student, teacher)
    judge, per_class = judge_on(device, judge), whole("per_class", per_class, 2)
    said = ("student generates", "teacher generates") if progress else (None, None)
    both = [draw_pictures(who, per_class, seed, progress=text)[0] for who, text in zip((student, teacher), said)]
    return pair_agreement(*both, *(features(images, judge)[0] for images in both), teacher, seed)


def pair_agreement(ours, theirs, found, expected, teacher, seed):
    """What `agreement` returns, of images uint8 (N, H, W, 3) and their features (N, D): image i of both sides is of the
    same noise, class stands after class, each equally often."""
    other = np.roll(np.arange(len(ours)).reshape(teacher.num_classes, -1), -1, axis=1).ravel()  # next of the class
    apart = {}
    for end, images, seen in (("", ours, found), ("_other_noise", theirs[other], expected[other])):
        apart[f"l1{end}"] = float(np.abs(images.astype(np.int16) - theirs).mean())
        apart[f"feature_distance{end}"] = float(np.linalg.norm((seen - expected).astype(float), axis=1).mean())
    return {"teacher": teacher.name, **apart, "images": len(ours), "seed": seed}


def compare(images, found, teacher, judge, seed, batch, progress=None):
    """What `evaluate(..., teacher=...)` adds for a student's images of `seed` and their features (N, D): agreement on
    the same noise, and CIFAR-FD to as many images of the teacher from other noise, seed + 1; the floor is what the
    teacher's own images of `seed` score there."""
    per_class = len(images) // teacher.num_classes
    theirs, others = (draw_pictures(teacher, per_class, s, batch, progress)[0] for s in (seed, seed + 1))
    expected, target = features(theirs, judge)[0], statistics(features(others, judge)[0], "the teacher's images")
    distance, floor = (frechet_distance(statistics(f), target) for f in (found, expected))
    scores = {"agreement": pair_agreement(images, theirs, found, expected, teacher, seed)}
    return scores | {"cifar_fd_to_teacher": distance, "cifar_fd_to_teacher_floor": floor}


def check_alike(student, teacher):
    """Refuses a teacher and a student (both `Teacher`) whose images cannot be compared pair by pair."""
    for field, what in (("z_dim", "numbers in a latent"), ("num_classes", "classes"), ("resolution", "pixels a side")):
        ours, theirs = getattr(student, field), getattr(teacher, field)
        if ours != theirs:
            both = f"student {student.name!r} and teacher {teacher.name!r} cannot be compared pair by pair"
            raise InputError(f"{both}: {ours} and {theirs} {what}; give the teacher it was distilled from")
