"""Does a student repeat its teacher, image by image, on the same noise and label? (docs/Evaluation.md)"""

import functools

import numpy as np

from ..core.checks import device_of, whole
from ..core.files import InputError
from ..core.state import untouched
from ..core.weights import has_config, network_hash
from ..pairs.make import generate_images
from ..teachers.black_box import Images, black_box
from ..teachers.load import load_teacher
from .classifier import classifier_on, features
from .metrics import frechet_distance, frechet_scores, statistics
from .names import in_order, unnamed


@untouched
def agreement(student, teacher="embedded", per_class=100, seed=1000, device=None, progress=True, classifier=None):
    """Teacher and student on the same new noise, pair by pair.

    Args:
        student, teacher: what `black_box` and `load_teacher` take, of the same latents, classes and resolution.
        per_class: latents of each class, at least 2; those of class c are `pairs.draw_latents(seed, c, ...)`.
        seed: of the latents; not that of the pairs the student was trained on.
        device, classifier: as in `evaluate`.

    Returns a dict: teacher (its name); l1, mean absolute difference in grey levels (0 to 255); feature_distance, mean
    Euclidean distance of the classifier's features; both again with _other_noise: between two images of the teacher,
    of the same class and different noise; images, seed. 0 is a perfect copy; as far as other noise is a student that
    only knows the class. InputError: student and teacher do not fit; per_class too small."""
    student, teacher = black_box(student, device=device), load_teacher(teacher, device=device)
    teacher, classifier = check_alike(student, teacher), classifier_on(device, classifier)
    per_class, seed = whole("per_class", per_class, 2), whole("seed", seed, 0)
    said = ("student generates", "teacher generates") if progress else (None, None)
    given = per_class, seed, 250, student.z_from  # the same noise for both: such as the student knows
    both = [generate_images(who, *given, text)[0] for who, text in zip((student, teacher), said)]
    return pair_agreement(*both, *(features(images, classifier)[0] for images in both), teacher, seed)


def pair_agreement(ours, theirs, found, expected, teacher, seed):
    """What `agreement` returns, of images uint8 (N, H, W, 3) and their features (N, D): image i of both sides is of the
    same noise, class stands after class, each equally often."""
    other = np.roll(np.arange(len(ours)).reshape(teacher.num_classes, -1), -1, axis=1).ravel()  # next of the class
    apart = {}
    for end, images, seen in (("", ours, found), ("_other_noise", theirs[other], expected[other])):
        apart[f"l1{end}"] = float(np.abs(images.astype(np.int16) - theirs).mean())
        apart[f"feature_distance{end}"] = float(np.linalg.norm((seen - expected).astype(float), axis=1).mean())
    return {"teacher": teacher.name, **apart, "images": len(ours), "seed": seed}


class Shown:
    """What a teacher generates for students to be compared with, `per_class` images of each class: on their own noise,
    that of `seed`, and on other noise, that of seed + 1. `images`: both, uint8 (N, H, W, 3), class after class."""

    latest = None  # students of one teacher are scored one after another: the last one is kept

    def __init__(self, teacher, per_class, seed, batch, z_from, progress):
        draw = functools.partial(generate_images, teacher, per_class, batch=batch, z_from=z_from, progress=progress)
        self.images = [draw(seed=one)[0] for one in (seed, seed + 1)]
        self.known = {}

    @classmethod
    def by(cls, teacher, *settings, progress=None):
        """Of a Teacher and the other arguments, or what is kept of these."""
        if teacher.digest is None or not has_config(teacher.network):
            return cls(teacher, *settings, progress)  # no network of ours: it may answer otherwise the next time
        draw = Images if isinstance(teacher.draw, Images) else teacher.draw  # which a hash tells, or only itself
        how = draw, teacher.psi, teacher.half, device_of(teacher.network)
        key = (*how, network_hash(teacher.network), teacher.classes, *settings)
        if cls.latest is None or cls.latest[0] != key:
            cls.latest = key, cls(teacher, *settings, progress)
        return cls.latest[1]

    def features(self, network, digest, progress=None):
        """[features (N, D) of both sets] as a network sees them whose weights have this hash."""
        if digest not in self.known:
            self.known[digest] = [features(images, network, progress=progress)[0] for images in self.images]
        return self.known[digest]

    def distances(self, name, found, network, digest, progress=None):
        """Fréchet distance `name` of a student's features `found` (N, D) and its two terms, and the lower bound:
        what the teacher's own images on the student's noise have. All to the teacher's images from other noise."""
        expected, others = self.features(network, digest, progress)
        target = statistics(others, "the teacher's images")
        lower_bound = frechet_distance(statistics(expected), target)
        return frechet_scores(name, statistics(found), target) | {f"{name}_lower_bound": lower_bound}


def compare(shown, images, found, teacher, classifier, seed):
    """What `evaluate(..., teacher=...)` adds for a student's images of `seed` and their features (N, D), beside what
    its teacher has Shown: agreement on the same noise, and CIFAR-FD to the teacher."""
    digest = network_hash(classifier)
    scores = shown.distances("cifar_fd_to_teacher", found, classifier, digest)
    expected = shown.features(classifier, digest)[0]
    return {"agreement": pair_agreement(images, shown.images[0], found, expected, teacher, seed), **scores}


def check_alike(student, teacher):
    """The teacher with its classes in the student's order (both `Teacher`); InputError where their images cannot be
    compared pair by pair."""
    both = f"student {student.name!r} and teacher {teacher.name!r} cannot be compared pair by pair"
    for field, what in (("z_dim", "numbers in a latent"), ("num_classes", "classes"), ("resolution", "pixels a side")):
        ours, theirs = getattr(student, field), getattr(teacher, field)
        if ours != theirs:
            raise InputError(f"{both}: {ours} and {theirs} {what}; give the teacher it was distilled from")
    if found := in_order(teacher, student.classes):
        return found[0]
    if unnamed(student.classes):
        return teacher
    raise InputError(f"{both}: classes {student.classes} and {teacher.classes}; give the teacher it was distilled from")
