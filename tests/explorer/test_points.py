"""A picture is a function of seed, class and the places between: equal arguments, equal pixels."""

import math

import numpy as np
import pytest
import torch
from gsoc_kd.teachers.black_box import Teacher

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import to_uint8
from gsoc_kd.explorer.points import dominating, latent, picture, slerp, strip
from gsoc_kd.networks.conv import ConvGenerator

Z, CLASSES, NAMES = 8, 3, ("cat", "dog", "frog")


@pytest.fixture
def student():
    return ConvGenerator(z_dim=Z, num_classes=CLASSES, widths=(8, 8, 4, 4), embed_dim=4).eval()


@pytest.fixture
def teacher():
    """A black box that shows its label in red and its latent in green."""

    def draw(z, y):
        images = np.zeros((len(y), 32, 32, 3), np.uint8)
        images[..., 0] = (np.asarray(y) * 50)[:, None, None]
        images[..., 1] = (np.asarray(z)[:, 0] * 40 + 128).clip(0, 255).astype(np.uint8)[:, None, None]
        return images

    return Teacher(draw, z_dim=Z, num_classes=CLASSES, resolution=32, classes=NAMES)


# ---------------------------------------------------------------- slerp


def test_slerp_of_a_right_angle():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    expected = torch.tensor([2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)])
    torch.testing.assert_close(slerp(a, b, 1 / 3), expected)


def test_slerp_keeps_ends_norm_and_pace():
    a, b = torch.randn(5, 64), torch.randn(5, 64)
    assert torch.equal(slerp(a, b, 0), a) and torch.equal(slerp(a, b, 1), b)
    a, b = a / a.norm(dim=1, keepdim=True) * 8, b / b.norm(dim=1, keepdim=True) * 8
    walk = torch.stack([slerp(a, b, t) for t in torch.linspace(0, 1, 6).tolist()])  # (6, 5, 64)
    torch.testing.assert_close(walk.norm(dim=2), torch.full((6, 5), 8.0))
    chords = (walk[1:] - walk[:-1]).norm(dim=2)  # equal steps on the circle
    torch.testing.assert_close(chords, chords[:1].expand(5, 5))
    torch.testing.assert_close(slerp(a[0], b[0], torch.tensor([0.2, 0.6])), walk[[1, 3], 0])


def test_slerp_changes_length_linearly_and_takes_equal_vectors():
    a = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    b = torch.tensor([-4.0, 3.0]) * 3
    torch.testing.assert_close(slerp(a, b, 0.25).norm(), torch.tensor(7.5))
    torch.testing.assert_close(slerp(a, a, 0.3), a)


@pytest.mark.parametrize(
    "a, b, t, message",
    [
        ([1.0, 0.0], [1.0, 0.0, 0.0], 0.5, r"not \(2,\) and \(3,\)"),
        ([1.0, 0.0], [0.0, 1.0], 1.5, r"\[0, 1\], not 1.5"),
        ([1.0, 0.0], [0.0, 1.0], float("nan"), r"\[0, 1\], not nan"),
        ([1.0, 0.0], [0.0, 0.0], 0.5, "not zero"),
        ([1.0, 0.0], [-2.0, 0.0], 0.5, "opposite"),
    ],
)
def test_slerp_refuses(a, b, t, message):
    with pytest.raises(InputError, match=message):
        slerp(torch.tensor(a), torch.tensor(b), t)


# ---------------------------------------------------------------- picture and strip


def test_a_pure_picture_is_what_the_student_draws_for_the_label(student):
    with torch.no_grad():
        expected = to_uint8(student(latent(5, Z)[None], torch.tensor([2])))[0].numpy()
    assert expected.std() > 0
    for image in (
        picture(student, 5, 2),
        picture(student, 5, 0, to=2, mix=1.0),
        picture(student, 5, 2, to=0, mix=0.0),
        picture(student, 5, 2, to=2, mix=0.3),
        picture(student, 9, 2, seed_to=5, walk=1.0),
        picture(student, 5, 2, seed_to=9, walk=0.0),
    ):
        assert np.array_equal(image, expected)
    assert not np.array_equal(picture(student, 6, 2), expected)
    assert not np.array_equal(picture(student, 5, 1), expected)


def test_between_the_ends_weights_and_latents_are_mixed(student):
    z = slerp(latent(1, Z), latent(2, Z), 0.25)[None]
    with torch.no_grad():
        expected = to_uint8(student(z, torch.tensor([[0.6, 0.0, 0.4]])))[0].numpy()
    assert np.array_equal(picture(student, 1, 0, to=2, mix=0.4, seed_to=2, walk=0.25), expected)


def test_a_picture_leaves_batch_norm_and_random_state_alone(student):
    before = {name: value.clone() for name, value in student.state_dict().items()}
    state = torch.get_rng_state()
    image = picture(student, 1, 0)
    assert np.array_equal(picture(student.train(), 1, 0), image)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_black_box_shows_the_class_with_more_weight(teacher):
    assert [dominating(1, 2, mix) for mix in (0.0, 0.5, 0.51, 1.0)] == [1, 1, 2, 2] and dominating(1) == 1
    for mix, label in ((0.2, 1), (0.8, 2)):
        z = slerp(latent(1, Z), latent(2, Z), 0.25)[None]
        expected = teacher(z, [label])[0]
        assert np.array_equal(picture(teacher, 1, 1, to=2, mix=mix, seed_to=2, walk=0.25), expected)


def test_strips_begin_and_end_with_the_pure_pictures(student):
    mixed = strip(student, 3, 0, to=1, steps=5)
    walked = strip(student, 3, 0, seed_to=4, steps=5)
    assert mixed.shape == walked.shape == (5, 32, 32, 3) and mixed.dtype == np.uint8
    assert np.array_equal(mixed[0], picture(student, 3, 0))
    assert np.array_equal(mixed[-1], picture(student, 3, 1))
    assert np.array_equal(walked[-1], picture(student, 4, 0))
    assert np.array_equal(mixed[2], picture(student, 3, 0, to=1, mix=0.5))
    assert np.array_equal(walked[1], picture(student, 3, 0, seed_to=4, walk=0.25))
    both = strip(student, 3, 0, to=1, seed_to=4, steps=2)
    assert np.array_equal(both[1], picture(student, 4, 1))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(seed=0, y=3), "y must be a class from 0 to 2, not 3"),
        (dict(seed=0, y=-1), "y must be a class from 0 to 2, not -1"),
        (dict(seed=0, y=0.5), "y must be a class from 0 to 2, not 0.5"),
        (dict(seed=0, y=0, to=7, mix=0.5), "to must be a class from 0 to 2, not 7"),
        (dict(seed=0, y=0, to=1, mix=1.5), r"mix must lie in \[0, 1\], not 1.5"),
        (dict(seed=0, y=0, mix=0.5), "mix=0.5 leads nowhere: give to"),
        (dict(seed=0, y=0, walk=0.5), "walk=0.5 leads nowhere: give seed_to"),
        (dict(seed=-1, y=0), "seed.*not -1"),
        (dict(seed=0, y=0, seed_to="a", walk=0.5), "seed.*not 'a'"),
    ],
)
def test_picture_names_what_it_refuses(student, arguments, message):
    with pytest.raises(InputError, match=message):
        picture(student, **arguments)


def test_strip_and_foreign_generators_refuse(student):
    with pytest.raises(InputError, match="needs an end"):
        strip(student, 0, 0)
    with pytest.raises(InputError, match="at least 2 steps, not 1"):
        strip(student, 0, 0, to=1, steps=1)
    with pytest.raises(InputError, match="Linear cannot be explored.*z_dim"):
        picture(torch.nn.Linear(2, 2), 0, 0)
