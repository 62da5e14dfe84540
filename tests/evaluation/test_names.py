"""Classes in one order, whatever order they come in."""

from dataclasses import replace

import numpy as np
import pytest

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.evaluation.names import images_in_order, images_like, in_order, matching, unnamed
from gsoc_kd.teachers.black_box import Teacher

TWELVE = tuple(map(str, range(12)))


def labels_of(z, y):
    """Images whose every pixel is the label."""
    return np.broadcast_to(np.asarray(y, np.uint8)[:, None, None, None], (len(y), 2, 2, 3))


def test_classes_are_found_by_name():
    assert matching(("a", "b", "c"), ("c", "a", "b")) == ([2, 0, 1], False)
    assert matching(TWELVE, tuple(sorted(TWELVE))) == ([0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9], False)
    assert matching(tuple(sorted(TWELVE)), TWELVE) == ([0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3], False)
    assert matching(("1", "2", "0"), ("00", "01", "02")) == ([2, 0, 1], False)  # numbers, however they are written
    assert matching(("0", "00"), ("00", "0")) == ([1, 0], False)  # two classes here
    for ours in (("a", "b"), ("a", "b", "d"), ("a", "b", "B"), ("1", "2", "3"), ("0", "1")):
        assert matching(ours, ("a", "b", "c")) is None
    assert matching(("a", "b"), ("0", "1")) is None  # these are numbers that somebody gave as names


def test_only_a_generator_without_names_is_taken_by_number():
    assert unnamed(TWELVE) and not unnamed(("1", "0")) and not unnamed(("00", "01"))
    assert matching(("0", "1", "2"), ("c", "a", "b")) == ([0, 1, 2], True)
    assert matching(("0", "1", "2"), ("2", "1", "0")) == ([2, 1, 0], False)


def test_a_generator_is_asked_for_the_class_of_that_name():
    teacher = Teacher(labels_of, z_dim=1, num_classes=3, resolution=2, classes=("a", "b", "c"), name="t", psi=0.5)
    given = np.zeros((3, 1), np.float32), np.arange(3)
    turned, by_number = in_order(teacher, ("c", "a", "b"))
    assert turned(*given)[:, 0, 0, 0].tolist() == [2, 0, 1] and not by_number
    assert (turned.classes, turned.name, turned.psi) == (("c", "a", "b"), "t", 0.5)
    assert in_order(teacher, teacher.classes) == (teacher, False) and in_order(teacher, ("a", "b", "d")) is None
    bare, by_number = in_order(replace(teacher, classes=None), ("c", "a", "b"))
    assert bare(*given)[:, 0, 0, 0].tolist() == [0, 1, 2] and by_number and bare.classes == ("c", "a", "b")


def test_real_images_get_the_labels_of_the_other_order():
    data = LabelledImages(np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 2, 1]), ("a", "b", "c"), "here")
    turned = images_in_order(data, ("c", "a", "b"), "there")
    assert turned.labels.tolist() == [1, 2, 0, 2] and turned.classes == ("c", "a", "b")
    assert [turned.classes[y] for y in turned.labels] == [data.classes[y] for y in data.labels]
    with pytest.raises(InputError, match=r"here has the classes \('a', 'b', 'c'\), but there has \('a', 'b'\)"):
        images_in_order(data, ("a", "b"), "there")
    with pytest.raises(InputError, match="here and big differ in size, 2 and 4 pixels a side"):
        images_like(LabelledImages(np.zeros((1, 4, 4, 3), np.uint8), np.zeros(1, int), data.classes, "big"), data)
