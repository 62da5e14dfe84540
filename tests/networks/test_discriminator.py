"""Discriminators: the 2022 one to the number, spectral norm, labels by projection, minibatch deviation."""

import pytest
import torch
import torch.nn.functional as F

from gsoc_kd.core.files import InputError
from gsoc_kd.networks.discriminator import ProjectionDiscriminator, minibatch_deviation
from gsoc_kd.networks.distylegan import DiStyleGANDiscriminator


def tiny_distylegan():
    torch.manual_seed(2)
    return DiStyleGANDiscriminator(num_classes=4, width=8, project_dim=6)


def tiny_projection(**changes):
    torch.manual_seed(2)
    return ProjectionDiscriminator(num_classes=4, width=4, **changes)


def x_and_y(count=3):
    return torch.rand(count, 3, 32, 32) * 2 - 1, torch.arange(count) % 4


def test_distylegan_discriminator_has_the_layers_of_2022():
    disc = DiStyleGANDiscriminator()
    shapes = [tuple(layer.weight.shape) for layer in (*disc.convs, disc.project, disc.output)]
    assert shapes == [(128, 3, 4, 4), (128, 128, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (256, 2048), (1, 138)]
    assert disc.project.bias is None and disc.output.bias is None
    assert not hasattr(disc.output, "parametrizations")  # the only one without spectral norm


def convolved(disc, x, maps):
    """The last map, by hand; `maps` are those of the network, each half as large as the one before."""
    for conv, found, side in zip(disc.convs, maps, (16, 8, 4, 2), strict=True):
        x = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        x = torch.where(x > 0, x, 0.2 * x)
        assert x.shape[2:] == (side, side)
        torch.testing.assert_close(found, x, rtol=0, atol=1e-5)
    return x


def test_distylegan_discriminator_computes_what_its_description_says():
    disc, (x, y) = tiny_distylegan().eval(), x_and_y()
    logits, maps = disc(x, y)
    a, b = (convolved(disc, x, maps).flatten(1) @ disc.project.weight.T).chunk(2, 1)
    h = torch.cat([a * b.sigmoid(), F.one_hot(y, 4)], 1)  # (3, 6 + 4)
    torch.testing.assert_close(logits, (h @ disc.output.weight.T)[:, 0], rtol=0, atol=1e-5)


def test_projection_discriminator_computes_what_its_description_says():
    disc, (x, y) = tiny_projection().eval(), x_and_y()
    logits, maps = disc(x, y)
    h = convolved(disc, x, maps).sum((2, 3))  # (3, 32)
    expected = h @ disc.output.weight[0] + disc.output.bias + (h * disc.embedding.weight.T[y]).sum(1)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert not any(hasattr(m, "parametrizations") for m in disc.modules())


def test_minibatch_deviation_of_groups():
    x = torch.zeros(4, 2, 3, 3)
    x[0], x[1] = 1, 3  # deviation 1; the other two are alike

    def each(*values):
        return torch.tensor(values)[:, None, None, None].expand(4, 1, 3, 3)

    torch.testing.assert_close(minibatch_deviation(x, 2), each(1.0, 1, 0, 0), rtol=0, atol=2e-4)
    x[:, 1] = 0  # half of the channels: half of it
    torch.testing.assert_close(minibatch_deviation(x, 2), each(0.5, 0.5, 0, 0), rtol=0, atol=2e-4)
    with pytest.raises(InputError, match="a batch of 4 cannot be divided into groups of 3"):
        minibatch_deviation(x, 3)


def test_the_discriminator_with_groups_sees_whether_images_differ():
    disc, x = tiny_projection(group=4).eval(), torch.rand(8, 3, 32, 32) * 2 - 1
    assert disc.convs[3].weight.shape == (32, 17, 4, 4)
    y, alike = torch.zeros(8, dtype=torch.int64), x[:1].repeat(8, 1, 1, 1)
    logits, maps = disc(torch.cat([x[:4], alike[:4]]), y)
    torch.testing.assert_close(disc(alike, y)[0][4:], logits[4:], rtol=0, atol=1e-6)  # groups stay apart
    deviation = minibatch_deviation(maps[2], 4)
    assert deviation[:4].min() > 1e-3 and deviation[4:].max() <= 1.01e-4
    expected, weights = F.leaky_relu(disc.convs[3](torch.cat([maps[2], deviation], 1)), 0.2), disc.convs[0].bias
    torch.testing.assert_close(maps[3], expected, rtol=0, atol=1e-6)
    slopes = [torch.autograd.grad(m.square().sum(), weights, retain_graph=True) for m in (maps[3], expected)]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    disc, (x, y) = tiny_distylegan(), x_and_y()
    layers = [m for m in disc.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 5
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
