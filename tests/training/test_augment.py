"""Augmentation as described: shifts by whole pixels, zeros coming in, one draw for each image."""

import torch

from gsoc_kd.training.augment import augment, draw_augmentation


def drawn(count, resolution, shift, brightness, seed=0):
    return draw_augmentation((count,), resolution, shift, brightness, torch.Generator().manual_seed(seed))


def shifted(image, down, right):
    """image (3, H, W) moved by whole pixels, zeros coming in; the slow and obvious way."""
    moved, (_, h, w) = torch.zeros_like(image), image.shape
    for row in range(h):
        for column in range(w):
            if 0 <= row - down < h and 0 <= column - right < w:
                moved[:, row, column] = image[:, row - down, column - right]
    return moved


def test_shifts_are_by_whole_pixels_and_zeros_come_in():
    x = torch.rand(60, 3, 6, 6) + 0.5  # nowhere 0
    out, found = augment(x, *drawn(60, 6, 2, 0)), set()
    for image, moved in zip(x, out, strict=True):
        places = [(d, r) for d in range(-2, 3) for r in range(-2, 3) if torch.equal(shifted(image, d, r), moved)]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 20  # of 25, up, down, left and right


def test_brightness_is_one_number_an_image_within_its_bounds_and_does_not_reach_what_comes_in():
    x = torch.rand(500, 3, 4, 4)
    added = (augment(x, *drawn(500, 4, 0, 0.3)) - x).flatten(1)  # (500, 48)
    assert (added.max(1).values - added.min(1).values).max() < 1e-6
    light = added.mean(1)
    assert -0.3 <= light.min() < -0.28 and 0.28 < light.max() <= 0.3 and abs(light.mean()) < 0.03
    out = augment(torch.ones(50, 3, 4, 4), *drawn(50, 4, 3, 0.5))
    assert (out == 0).any() and ((out == 0) | ((out >= 0.5) & (out <= 1.5))).all()


def test_gradients_reach_the_pixels_that_are_seen():
    x = torch.rand(20, 3, 8, 8, requires_grad=True)
    light, theta = drawn(20, 8, 3, 0.2)
    augment(x, light, theta).sum().backward()
    back = augment(torch.ones(20, 3, 8, 8), torch.zeros_like(light), theta * torch.tensor([1, 1, -1.0]))
    assert torch.equal(x.grad, back)  # 1 where the pixel moved to another place in the image, 0 where it left it


def test_the_draws_are_a_function_of_their_source_and_nothing_to_augment_is_nothing_changed():
    for a, b in zip(drawn(6, 8, 3, 0.5, seed=5), drawn(6, 8, 3, 0.5, seed=5), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(drawn(6, 8, 3, 0.5, seed=5)[0], drawn(6, 8, 3, 0.5, seed=6)[0])
    x = torch.rand(4, 3, 8, 8)
    assert drawn(4, 8, 0, 0) == () and augment(x) is x
