"""Every loss in closed form."""

import math

import pytest
import torch

from gsoc_kd.training.losses import (
    MAP_WEIGHTS,
    RELATIVE_WEIGHTS,
    feature_loss,
    hinge_discriminator,
    hinge_generator,
    logistic_discriminator,
    logistic_generator,
    pixel_loss,
    r1_penalty,
    relative_feature_loss,
)


def test_pixel_loss_is_the_mean_absolute_difference():
    a, b = torch.tensor([[[[1.0, -1.0]]]]), torch.tensor([[[[0.5, 1.0]]]])
    assert pixel_loss(a, b).item() == pixel_loss(b, a).item() == (0.5 + 2) / 2


def test_feature_loss_weighs_each_map_and_averages_within_it():
    assert MAP_WEIGHTS == (1 / 16, 1 / 8, 1 / 4, 1)
    shapes = [(2, 3, 8, 8), (2, 3, 4, 4), (2, 5, 2, 2), (2, 7, 1, 1)]
    teacher = [torch.randn(s) for s in shapes]
    for i, expected in enumerate((1 / 16, 1 / 8, 1 / 4, 1)):  # a distance of 3 in one map alone
        student = [t + 3 * (j == i) for j, t in enumerate(teacher)]
        assert feature_loss(teacher, student).item() == pytest.approx(3 * expected, rel=1e-5)
    assert feature_loss(teacher, teacher).item() == 0
    student = [t + d for t, d in zip(teacher, (1, -2, 4, -8))]
    assert feature_loss(teacher, student).item() == pytest.approx(1 / 16 + 2 / 8 + 4 / 4 + 8, rel=1e-5)
    assert feature_loss(teacher, student, weights=(0, 1, 0, 0)).item() == pytest.approx(2, rel=1e-5)
    with pytest.raises(ValueError):
        feature_loss(teacher[:3], student[:3])


def test_hinge_of_the_generator_is_minus_the_mean():
    assert hinge_generator(torch.tensor([1.0, -4.0, 0.0])).item() == 1.0


def test_hinge_of_the_disc():
    target, generated = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 3.0])
    assert hinge_discriminator(target, generated).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 4) / 3)
    assert hinge_discriminator(torch.ones(3), -torch.ones(3)).item() == 0  # beyond 1 nothing is gained


def test_logistic_losses_are_logarithms_of_probabilities():
    def p(logit):
        return 1 / (1 + math.exp(-logit))  # of being real

    found = logistic_generator(torch.tensor([2.0, -1.0]))
    assert found.item() == pytest.approx(-(math.log(p(2)) + math.log(p(-1))) / 2)
    found = logistic_discriminator(torch.tensor([2.0, -1.0]), torch.tensor([0.5]))
    assert found.item() == pytest.approx(-(math.log(p(2)) + math.log(p(-1))) / 2 - math.log(1 - p(0.5)))
    assert logistic_generator(torch.zeros(3)).item() == pytest.approx(math.log(2))
    assert logistic_generator(torch.tensor([-1000.0])).item() == 1000  # no overflow


def test_r1_is_the_squared_length_of_the_gradient_in_the_image():
    a = torch.tensor(3.0, requires_grad=True)

    def disc(x, y):  # D = a y |x|^2 / 2, gradient a y x
        return a * y * x.square().sum((1, 2, 3)) / 2, []

    x, y = torch.zeros(2, 3, 2, 2), torch.tensor([1, 2])
    x[0, 0, 0, 0], x[1, 0, 0, 0], x[1, 2, 1, 1] = 1.0, 1.0, 2.0  # |x|^2 = 1 and 5
    penalty = r1_penalty(disc, x, y)
    assert penalty.item() == pytest.approx((9 * 1 * 1 + 9 * 4 * 5) / 2)
    penalty.backward()  # d/da of a^2 (1 + 20) / 2
    assert a.grad.item() == pytest.approx(3 * 21) and not x.requires_grad


def test_gradients_go_where_they_should():
    logits = torch.tensor([2.0, 0.5, -1.0], requires_grad=True)
    hinge_discriminator(logits, -torch.ones(1)).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, -1 / 3, -1 / 3]))
    x = torch.tensor([[[[0.5, -0.5]]]], requires_grad=True)
    pixel_loss(torch.zeros(1, 1, 1, 2), x).backward()
    torch.testing.assert_close(x.grad, torch.tensor([[[[0.5, -0.5]]]]))  # the sign, over two pixels


def test_the_relative_feature_loss_does_not_depend_on_the_size_of_the_maps():
    teacher = [torch.randn(2, 3, size, size) for size in (8, 4, 2, 1)]
    student = [t + 0.5 * t.abs().mean() for t in teacher]  # each differs by half of the map's mean size
    expected = 0.5 * sum(RELATIVE_WEIGHTS)
    assert relative_feature_loss(teacher, student).item() == pytest.approx(expected, rel=1e-5)
    larger = ([100 * m for m in maps] for maps in (teacher, student))
    assert relative_feature_loss(*larger).item() == pytest.approx(expected, rel=1e-5)
