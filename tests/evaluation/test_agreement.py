"""Students that repeat their teacher exactly, nearly, or not at all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_evaluate import TinyClassifier, TinyGenerator

from gsoc_kd.core.files import InputError
from gsoc_kd.evaluation.agreement import Shown, agreement, pair_agreement
from gsoc_kd.pairs.make import generate_images
from gsoc_kd.teachers.black_box import Teacher
from gsoc_kd.teachers.load import load_teacher


def painted(z, y):
    """Every pixel says the first number of z; the red channel is brighter by the label."""
    level = (np.asarray(z)[:, 0] * 20 + 100).round().clip(0, 200)
    images = np.broadcast_to(level[:, None, None, None], (len(level), 8, 8, 3)).copy()
    images[..., 0] += np.asarray(y)[:, None, None] * 10
    return images.astype(np.uint8)


TEACHER = Teacher(painted, z_dim=4, num_classes=3, resolution=8, name="painter")


def test_distances_of_pairs_by_hand():
    theirs, two = np.zeros((4, 2, 2, 3), np.uint8), replace(TEACHER, num_classes=2, classes=None)
    theirs[1] += 10  # classes 0 0 1 1; levels 0 10, 0 0
    expected = np.array([[0, 0], [3, 4], [0, 0], [0, 0]], float)
    by_hand = {"l1": 6, "l1_other_noise": 5, "feature_distance": 2, "feature_distance_other_noise": 2.5}
    told = {"teacher": "painter", "images": 4, "seed": 7}
    assert pair_agreement(theirs + np.uint8(6), theirs, expected + [0, 2], expected, two, 7) == by_hand | told


def test_a_copy_agrees_and_other_noise_does_not():
    options = dict(per_class=50, classifier=TinyClassifier(), progress=False)
    same = agreement(TEACHER, TEACHER, **options)
    assert (same["l1"], same["feature_distance"], same["images"], same["seed"]) == (0, 0, 150, 1000)
    assert same["teacher"] == "painter" and 10 < same["l1_other_noise"] < 35
    brighter = replace(TEACHER, draw=lambda z, y: painted(z, y) + np.uint8(5))
    off = agreement(brighter, TEACHER, **options)
    assert off["l1"] == 5 and off["l1_other_noise"] == same["l1_other_noise"]
    assert off["feature_distance"] == pytest.approx(5 / 127.5 * 12**0.5, rel=1e-4)  # twelve features, each 5 levels
    deaf = replace(TEACHER, draw=lambda z, y: painted(z.flip(0), y))  # right class, wrong noise
    apart = agreement(deaf, TEACHER, **options)
    assert apart["l1"] == pytest.approx(apart["l1_other_noise"], rel=0.25) and apart["l1"] > 10
    images, _ = generate_images(TEACHER, 50, seed=2)  # of the latents of the seed
    black = agreement(replace(TEACHER, draw=lambda z, y: painted(z, y) * 0), TEACHER, **options, seed=2)
    assert black["l1"] == pytest.approx(images.mean())


def test_the_images_of_a_teacher_that_is_loaded_again_are_kept():
    network, settings = TinyGenerator(), (2, 3, 250, "normal")
    first = Shown.by(load_teacher(network), *settings)
    assert Shown.by(load_teacher(network), *settings) is first
    other = TinyGenerator()
    for teacher in (load_teacher(other), replace(load_teacher(network), half=True), TEACHER):
        assert Shown.by(teacher, *settings) is not Shown.by(load_teacher(network), *settings)
    assert np.array_equal(
        Shown.by(load_teacher(other), *settings).images, Shown(load_teacher(other), *settings, None).images
    )


def test_what_cannot_be_compared_is_refused():
    message = "TinyGenerator' and teacher 'painter' cannot be .*: 6 and 4 numbers in a latent"
    with pytest.raises(InputError, match=message):
        agreement(TinyGenerator(z_dim=6), TEACHER)
    with pytest.raises(InputError, match="8 and 16 pixels a side"):
        agreement(TEACHER, replace(TEACHER, resolution=16))
    assert json.dumps(agreement(TEACHER, TEACHER, per_class=2, seed=np.int64(3), device="cpu", progress=False))
    with pytest.raises(InputError, match="per_class must be a whole number of at least 2, not 1"):
        agreement(TEACHER, TEACHER, per_class=1)
