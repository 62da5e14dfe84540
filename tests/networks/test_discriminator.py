"""Discs: the 2022 one to the number, spectral norm, labels by projection; augmentation as described."""

import pytest
import torch
import torch.nn.functional as F

from gsoc_kd.core.files import InputError
from gsoc_kd.networks.discriminator import ProjectionDiscriminator, aligned, minibatch_deviation
from gsoc_kd.networks.distylegan import DiStyleGANDiscriminator
from gsoc_kd.training.augment import augment


def tiny_distylegan(**changes):
    torch.manual_seed(2)
    return DiStyleGANDiscriminator(**{**dict(num_classes=4, width=8, project_dim=6), **changes})


def tiny_projection(**changes):
    torch.manual_seed(2)
    return ProjectionDiscriminator(**{**dict(num_classes=4, width=4), **changes})


BOTH = pytest.mark.parametrize("make", [tiny_distylegan, tiny_projection])


def x_and_y(count=3):
    return torch.rand(count, 3, 32, 32) * 2 - 1, torch.arange(count) % 4


def test_distylegan_disc_has_the_layers_and_parameters_of_2022():
    disc = DiStyleGANDiscriminator(num_classes=10, width=128)
    assert sum(p.numel() for p in disc.parameters()) == 3_415_178
    shapes = [tuple(layer.weight.shape) for layer in (*disc.convs, disc.project, disc.output)]
    assert shapes == [(128, 3, 4, 4), (128, 128, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (256, 2048), (1, 138)]
    assert all(conv.bias is not None for conv in disc.convs)
    assert disc.project.bias is None and disc.output.bias is None
    assert not hasattr(disc.output, "parametrizations")  # the only one without spectral norm


@BOTH
def test_maps_halve_four_times_and_labels_are_one_hot_weights(make):
    disc, (x, y) = make().eval(), x_and_y()
    logits, maps = disc(x, y)
    assert logits.shape == (3,) and [tuple(m.shape[2:]) for m in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    weighed, _ = disc(x, F.one_hot(y, 4).float())
    torch.testing.assert_close(logits, weighed, rtol=0, atol=1e-6)
    assert ((disc(x, (y + 1) % 4)[0] - logits).abs() > 1e-5).all()  # the label counts
    with pytest.raises(InputError, match="0..3"):
        disc(x, y + 2)


def convolved(disc, x):
    for conv in disc.convs:
        x = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        x = torch.where(x > 0, x, 0.2 * x)
    return x


def test_distylegan_disc_computes_what_its_description_says():
    disc, (x, y) = tiny_distylegan().eval(), x_and_y()
    a, b = (convolved(disc, x).flatten(1) @ disc.project.weight.T).chunk(2, 1)
    h = torch.cat([a * b.sigmoid(), F.one_hot(y, 4)], 1)  # (3, 6 + 4)
    torch.testing.assert_close(disc(x, y)[0], (h @ disc.output.weight.T)[:, 0], rtol=0, atol=1e-5)


def test_projection_disc_computes_what_its_description_says():
    disc, (x, y) = tiny_projection().eval(), x_and_y()
    h = convolved(disc, x).sum((2, 3))  # (3, 32)
    expected = h @ disc.output.weight[0] + disc.output.bias + (h * disc.embedding.weight.T[y]).sum(1)
    torch.testing.assert_close(disc(x, y)[0], expected, rtol=0, atol=1e-5)


def test_minibatch_deviation_of_groups_of_successive_pictures():
    x = torch.zeros(4, 2, 3, 3)
    x[0], x[1] = 1, 3  # deviation 1; the other two are alike
    expected = torch.tensor([1.0, 1, 0, 0])[:, None, None, None].expand(4, 1, 3, 3)
    torch.testing.assert_close(minibatch_deviation(x, 2), expected, rtol=0, atol=2e-4)
    x[:, 1] = 0  # half of the channels: half of it
    torch.testing.assert_close(minibatch_deviation(x, 2), expected / 2, rtol=0, atol=2e-4)


@pytest.mark.parametrize("channels", [8, 9])
def test_zeros_for_alignment_change_neither_values_nor_gradients(channels):
    torch.manual_seed(0)
    conv, x = torch.nn.Conv2d(channels, 4, 4, stride=2, padding=1), torch.randn(2, channels, 8, 8, requires_grad=True)
    weights = (x, conv.weight, conv.bias)
    assert torch.allclose(aligned(conv, x), conv(x), atol=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(aligned(conv, x).square().sum(), weights),
        torch.autograd.grad(conv(x).square().sum(), weights),
    ):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_disc_with_groups_sees_whether_pictures_differ():
    disc, x = tiny_projection(group=4).eval(), torch.rand(8, 3, 32, 32) * 2 - 1
    assert disc.convs[3].weight.shape == (32, 17, 4, 4)
    y, alike = torch.zeros(8, dtype=torch.int64), x[:1].repeat(8, 1, 1, 1)
    logits, maps = disc(torch.cat([x[:4], alike[:4]]), y)
    torch.testing.assert_close(disc(alike, y)[0][4:], logits[4:], rtol=0, atol=1e-6)  # groups stay apart
    deviation = minibatch_deviation(maps[2], 4)
    assert deviation[:4].min() > 1e-3 and deviation[4:].max() <= 1.01e-4
    torch.testing.assert_close(
        maps[3], F.leaky_relu(disc.convs[3](torch.cat([maps[2], deviation], 1)), 0.2), rtol=0, atol=1e-6
    )


@BOTH
def test_spectral_norm_brings_the_largest_singular_value_to_one(make):
    disc, (x, y) = make(), x_and_y()
    layers = [m for m in disc.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == (5 if make is tiny_distylegan else 6)
    with torch.no_grad():
        for layer in layers:
            layer.parametrizations.weight.original.mul_(3).add_(0.1)  # far from 1, a clear first direction
        for _ in range(30):
            disc(x, y)
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-2)
    disc.eval()
    before = [layer.weight.clone() for layer in layers]
    disc(x, y)
    assert all(torch.equal(layer.weight, b) for layer, b in zip(layers, before))  # eval: no iteration


def test_spectral_norm_can_be_left_out():
    disc, (x, y) = tiny_projection(spectral=False), x_and_y()
    assert not any(hasattr(m, "parametrizations") for m in disc.modules())
    assert disc.config["spectral"] is False
    with torch.no_grad():
        disc.output.weight.mul_(2), disc.output.bias.mul_(2), disc.embedding.weight.mul_(2)
        doubled = disc(x, y)[0]
        disc.output.weight.div_(2), disc.output.bias.div_(2), disc.embedding.weight.div_(2)
        torch.testing.assert_close(doubled, 2 * disc(x, y)[0])  # weights count as they are


@BOTH
@pytest.mark.parametrize("resolution", [0, 8, 24])
def test_resolutions_that_do_not_halve_four_times_are_refused(make, resolution):
    with pytest.raises(InputError, match=f"multiple of 16, got {resolution}"):
        make(resolution=resolution)


@BOTH
def test_other_resolutions(make):
    assert make(resolution=16)(torch.zeros(2, 3, 16, 16), torch.tensor([0, 1]))[0].shape == (2,)
    assert make(resolution=48)(torch.zeros(2, 3, 48, 48), torch.tensor([0, 1]))[0].shape == (2,)


# ---------------------------------------------------------------- augmentation


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def shifted(image, down, right):
    """image (3, H, W) moved by whole pixels, zeros coming in; the slow and obvious way."""
    moved, (_, h, w) = torch.zeros_like(image), image.shape
    for row in range(h):
        for column in range(w):
            if 0 <= row - down < h and 0 <= column - right < w:
                moved[:, row, column] = image[:, row - down, column - right]
    return moved


def test_augmentation_shifts_by_whole_pixels_and_zeros_come_in():
    x = torch.rand(60, 3, 5, 6) + 0.5  # nowhere 0
    out, found = augment(x, rng(), shift=2, brightness=0), set()
    assert out.shape == x.shape
    for image, moved in zip(x, out):
        hits = [(d, r) for d in range(-2, 3) for r in range(-2, 3) if torch.equal(shifted(image, d, r), moved)]
        assert len(hits) == 1
        found.add(hits[0])
    assert len(found) > 20  # of 25, up, down, left and right


def test_brightness_is_one_number_an_image_within_its_bounds():
    x = torch.rand(500, 3, 4, 4)
    added = (augment(x, rng(), shift=0, brightness=0.3) - x).flatten(1)  # (500, 48)
    assert (added.max(1).values - added.min(1).values).max() < 1e-6
    light = added.mean(1)
    assert -0.3 <= light.min() < -0.28 and 0.28 < light.max() <= 0.3 and abs(light.mean()) < 0.03


def test_what_comes_in_at_the_edge_is_zero_under_any_brightness():
    out = augment(torch.ones(50, 3, 4, 4), rng(), shift=3, brightness=0.5)
    assert (out == 0).any() and ((out == 0) | ((out >= 0.5) & (out <= 1.5))).all()


def test_augmentation_is_a_function_of_its_generator():
    x = torch.rand(6, 3, 8, 8)
    assert torch.equal(augment(x, rng(5)), augment(x, rng(5)))
    assert not torch.equal(augment(x, rng(5)), augment(x, rng(6)))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    augment(x, rng(5))
    assert torch.equal(state, torch.get_rng_state())


def test_copies_get_the_same_draws():
    x = torch.rand(4, 3, 8, 8)
    a, b, c = augment(torch.cat([x, x, x]), rng(1), copies=3).chunk(3)
    assert torch.equal(a, b) and torch.equal(b, c)
    assert torch.equal(a, augment(x, rng(1)))  # and as many copies as one likes
    assert not torch.equal(*augment(torch.cat([x, x]), rng(1)).chunk(2))


def test_nothing_to_augment_is_nothing_changed():
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(augment(x, rng(), shift=0, brightness=0), x)


def test_gradients_flow_through_augmentation():
    x = torch.rand(5, 3, 6, 6, requires_grad=True)
    out = augment(x, rng(), shift=2, brightness=0.5)
    kept = (out != 0).sum().item()
    out.sum().backward()
    assert set(x.grad.unique().tolist()) == {0.0, 1.0} and x.grad.sum().item() == kept  # 1 where it stayed in
