"""An image is a function of seed, class and the places between: equal arguments, equal pixels."""

import copy
import math

import numpy as np
import pytest
import torch

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import to_uint8
from gsoc_kd.explorer.points import dominating, image_at, latent, samples, slerp, strip, truncatable, truncated
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.teachers.black_box import Teacher
from gsoc_kd.teachers.load import load_teacher

Z, CLASSES, NAMES = 8, 3, ("cat", "dog", "frog")
torch.manual_seed(0)
STUDENT = ConvGenerator(z_dim=Z, num_classes=CLASSES, widths=(8, 8, 4, 4), embed_dim=4).eval()


def painted(z, y):
    """Shows the label in red and the latent in green."""
    images = np.zeros((len(y), 32, 32, 3), np.uint8)
    images[..., 0] = (np.asarray(y) * 50)[:, None, None]
    images[..., 1] = (np.asarray(z)[:, 0] * 40 + 128).clip(0, 255).astype(np.uint8)[:, None, None]
    return images


TEACHER = Teacher(painted, z_dim=Z, num_classes=CLASSES, resolution=32, classes=NAMES)


def test_slerp_keeps_ends_norm_and_pace():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    expected = torch.tensor([2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)])
    torch.testing.assert_close(slerp(a, b, 1 / 3), expected)
    a, b = torch.randn(5, 64), torch.randn(5, 64)
    assert torch.equal(slerp(a, b, 0), a) and torch.equal(slerp(a, b, 1), b)
    a, b = a / a.norm(dim=1, keepdim=True) * 8, b / b.norm(dim=1, keepdim=True) * 8
    walk = torch.stack([slerp(a, b, t) for t in torch.linspace(0, 1, 6).tolist()])  # (6, 5, 64)
    torch.testing.assert_close(walk.norm(dim=2), torch.full((6, 5), 8.0))
    chords = (walk[1:] - walk[:-1]).norm(dim=2)  # equal steps on the circle
    torch.testing.assert_close(chords, chords[:1].expand(5, 5))
    torch.testing.assert_close(slerp(a[0], b[0], torch.tensor([0.2, 0.6])), walk[[1, 3], 0])
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([-4.0, 3.0]) * 3  # the length changes linearly
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    torch.testing.assert_close(slerp(a, b, 0.25).norm(), torch.tensor(7.5))
    torch.testing.assert_close(slerp(a, a, 0.3), a)


def test_slerp_refuses():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    wrong = [(b, 1.5, r"\[0, 1\], not 1.5"), (b, math.nan, r"\[0, 1\], not nan")]
    wrong += [(0 * b, 0.5, "not zero, and not opposite"), (-2 * a, 0.5, "not zero, and not opposite")]
    for end, t, message in [*wrong, (torch.ones(3), 0.5, r"not \(2,\) and \(3,\)")]:
        with pytest.raises(InputError, match=message):
            slerp(a, end, t)


def test_a_pure_image_is_what_the_student_generates_for_the_label():
    with torch.no_grad():
        expected = to_uint8(STUDENT(latent(5, Z)[None], torch.tensor([2])))[0].numpy()
    assert expected.std() > 0
    same = [dict(y=2), dict(y=0, to=2, mix=1.0), dict(y=2, to=0, mix=0.0), dict(y=2, to=2, mix=0.3)]
    same += [dict(y=2, seed=9, seed_to=5, walk=1.0), dict(y=2, seed_to=9, walk=0.0)]
    assert all(np.array_equal(image_at(STUDENT, **{"seed": 5, **point}), expected) for point in same)
    assert not np.array_equal(image_at(STUDENT, 6, 2), expected)
    assert not np.array_equal(image_at(STUDENT, 5, 1), expected)
    z = slerp(latent(1, Z), latent(2, Z), 0.25)[None]  # between the ends, weights and latents are mixed
    with torch.no_grad():
        expected = to_uint8(STUDENT(z, torch.tensor([[0.6, 0.0, 0.4]])))[0].numpy()
    assert np.array_equal(image_at(STUDENT, 1, 0, to=2, mix=0.4, seed_to=2, walk=0.25), expected)


def test_an_image_leaves_batch_norm_mode_and_random_state_alone():
    before = {name: value.clone() for name, value in STUDENT.state_dict().items()}
    state, image = torch.get_rng_state(), image_at(STUDENT, 1, 0)
    network = STUDENT.train()
    frozen = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    modes = [module.training for module in network.modules()]
    assert np.array_equal(image_at(network, 1, 0), image)
    assert [module.training for module in network.modules()] == modes and not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in STUDENT.eval().state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_means_the_same_under_another_default_dtype_and_is_drawn_as_the_network_knows_it():
    expected, image = latent(5, Z), image_at(STUDENT, 5, 2)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(latent(5, Z), expected) and latent(5, Z).dtype == torch.float32
        assert np.array_equal(image_at(STUDENT, 5, 2, to=1, mix=0.0), image)
    finally:
        torch.set_default_dtype(torch.float32)
    uniform = latent(5, 1000, "uniform")
    assert 0 <= uniform.min() < 0.05 and 0.95 < uniform.max() < 1 and (latent(5, 1000) < 0).any()
    other = copy.deepcopy(STUDENT)
    other.z_from = "uniform"
    z = torch.lerp(latent(1, Z, "uniform"), latent(2, Z, "uniform"), 0.25)[None]
    with torch.no_grad():
        expected = to_uint8(STUDENT(z, torch.tensor([0])))[0].numpy()
    assert np.array_equal(image_at(other, 1, 0, seed_to=2, walk=0.25), expected)
    assert np.array_equal(image_at(STUDENT, 1, 0, drawn="uniform"), image_at(other, 1, 0))


def test_many_samples_are_the_single_images():
    seeds, labels = [3, 1, 4], [0, 2, 2]
    for generator in (STUDENT, TEACHER):
        shown = samples(generator, seeds, labels).astype(int)
        single = [image_at(generator, seed, label) for seed, label in zip(seeds, labels)]
        assert shown.shape == (3, 32, 32, 3) and np.abs(shown - np.stack(single)).max() <= 1


def test_a_network_whose_numbers_are_no_numbers_is_refused():
    broken = copy.deepcopy(STUDENT)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="not finite"):
        image_at(broken, 0, 0)


def test_truncation_belongs_to_stylegan2_and_to_callables_that_take_psi():
    stylegan2 = StyleGAN2Generator(z_dim=Z, w_dim=8, num_classes=CLASSES, channel_base=128, channel_max=8)
    stylegan2.centre(100)
    teacher = load_teacher(stylegan2)
    for psi in (0.5, 1.0):
        expected = image_at(load_teacher(stylegan2, psi=psi), 3, 1)
        assert truncated(teacher, psi).psi == psi and np.array_equal(image_at(truncated(teacher, psi), 3, 1), expected)
    own = Teacher(lambda z, y, psi=1.0: painted(z * psi, y), Z, CLASSES, 32)
    assert np.array_equal(image_at(truncated(own, 0.5), 3, 1), painted(latent(3, Z)[None] * 0.5, [1])[0])
    usual = Teacher(lambda z, y, psi=0.5: painted(z * psi, y), Z, CLASSES, 32)
    for psi in (0.5, 1.0):
        assert np.array_equal(image_at(truncated(usual, psi), 3, 1), image_at(truncated(own, psi), 3, 1))
    assert truncated(own, 1.0) is own and truncatable(own) and truncatable(teacher) and not truncatable(TEACHER)
    with pytest.raises(InputError, match="callable has no truncation"):
        truncated(TEACHER, 0.5)


def test_a_black_box_shows_the_class_with_more_weight():
    assert [dominating(1, 2, mix) for mix in (0.0, 0.5, 0.51, 1.0)] == [1, 1, 2, 2] and dominating(1) == 1
    z = slerp(latent(1, Z), latent(2, Z), 0.25)[None]
    for mix, label in ((0.2, 1), (0.8, 2)):
        shown = image_at(TEACHER, 1, 1, to=2, mix=mix, seed_to=2, walk=0.25)
        assert np.array_equal(shown, TEACHER(z, [label])[0])


def test_strips_begin_and_end_with_the_pure_images():
    mixed = strip(STUDENT, 3, 0, to=1, steps=5)
    walked = strip(STUDENT, 3, 0, seed_to=4, steps=5)
    both = strip(STUDENT, 3, 0, to=1, seed_to=4, steps=2)
    assert mixed.shape == walked.shape == (5, 32, 32, 3) and mixed.dtype == np.uint8
    pure = [(mixed[0], 3, 0), (mixed[-1], 3, 1), (walked[-1], 4, 0), (both[1], 4, 1)]
    for image, *point in [*pure, (mixed[2], 3, 0, 1, 0.5), (walked[1], 3, 0, None, 0, 4, 0.25)]:
        assert np.array_equal(image, image_at(STUDENT, *point))


REFUSED = [
    (dict(y=3), "class y must be a whole number of 0 to 2, not 3"),
    (dict(y=-1), "class y must be .*, not -1"),
    (dict(y=0.5), "class y must be .*, not 0.5"),
    (dict(to=7, mix=0.5), "class to must be a whole number of 0 to 2, not 7"),
    (dict(to=1, mix=1.5), r"mix must lie in \[0, 1\], not 1.5"),
    (dict(mix=0.5), "mix=0.5 leads nowhere: give to"),
    (dict(walk=0.5), "walk=0.5 leads nowhere: give seed_to"),
    (dict(seed=-1), "seed.*not -1"),
    (dict(seed_to="a", walk=0.5), "seed.*not 'a'"),
    (dict(generator=torch.nn.Linear(2, 2)), "to explore needs .*z_dim"),
    (dict(steps=9), "needs an end"),
    (dict(to=1, steps=1), "at least 2, not 1"),
]


@pytest.mark.parametrize("arguments, message", REFUSED)
def test_image_at_and_strip_name_what_they_refuse(arguments, message):
    with pytest.raises(InputError, match=message):
        (strip if "steps" in arguments else image_at)(**{"generator": STUDENT, "seed": 0, "y": 0, **arguments})
