"""The StyleGAN2 generator; tests/teachers/test_official.py compares it with the official one."""

import pytest
import torch
import torch.nn.functional as F

from gsoc_kd.core.files import InputError
from gsoc_kd.networks.stylegan2 import Linear, ModulatedConv, StyleGAN2Generator, activate


def small(num_classes=5, resolution=16, clamp=256):
    torch.manual_seed(0)
    return StyleGAN2Generator(8, 12, num_classes, resolution, channel_base=128, channel_max=16, clamp=clamp)


def noisy():
    network = small()
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    return network


def latents_and_labels(network, count=6):
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(count) % max(network.num_classes, 1)
    return torch.randn(count, network.z_dim, generator=generator), y


def test_labels_are_ignored_without_classes():
    network = small(num_classes=0)
    z, y = latents_and_labels(network)
    assert torch.equal(network(z), network(z, y))


@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_shape_and_scale_before_training(resolution):
    network = small(resolution=resolution)
    z, y = latents_and_labels(network)
    images = network(z, y)
    assert images.shape == (6, 3, resolution, resolution)
    assert 0.05 < images.std().item() < 5  # equalised: neither vanishes nor explodes
    torch.testing.assert_close(images[2:3], network(z[2:3], y[2:3]), rtol=0, atol=1e-5)  # the batch does not matter


@pytest.mark.parametrize("up", [False, True])
def test_one_convolution_equals_the_papers_weights_per_sample(up):
    conv = ModulatedConv(6, 7, 3, w_dim=5, clamp=None, resolution=16, up=up).double()
    x, w = torch.randn(4, 6, 8, 8).double(), torch.randn(4, 5).double()
    for i in range(4):  # StyleGAN2, equations 1 and 3, one sample at a time
        modulated = conv.weight * conv.scale * conv.style(w[i : i + 1])[0][None, :, None, None]
        modulated = modulated / (modulated.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            spread = torch.zeros(1, 6, 17, 17).double()
            spread[:, :, 1:16:2, 1:16:2] = x[i : i + 1]  # zeros between the pixels
            y = F.conv2d(F.pad(spread, (1, 1, 1, 1)), modulated.flip(2, 3))
            taps = torch.tensor([1.0, 3, 3, 1]).double() / 4
            y = F.conv2d(y.transpose(0, 1), torch.outer(taps, taps)[None, None], padding=1).transpose(0, 1)
        else:
            y = F.conv2d(x[i : i + 1], modulated, padding=1)
        torch.testing.assert_close(conv(x, w)[i : i + 1], activate(y), rtol=0, atol=1e-12)


def test_equalised_learning_rate():
    layer = Linear(400, 300, bias=1.0, lr=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)  # stored: 1 / lr
    assert torch.allclose(layer.bias, torch.tensor(100.0))
    y = layer(torch.randn(200, 400))
    assert y.std().item() == pytest.approx(1, rel=0.03) and y.mean().item() == pytest.approx(1, abs=0.05)


def test_noise_modes():
    network = noisy()
    z, y = latents_and_labels(network)
    none, const = network(z, y, noise_mode="none"), network(z, y, noise_mode="const")
    assert torch.equal(const, network(z, y)) and not torch.allclose(const, none)
    torch.manual_seed(3)
    first, second = network(z, y, noise_mode="random"), network(z, y, noise_mode="random")
    assert not torch.allclose(first, second)
    torch.manual_seed(3)
    assert torch.equal(first, network(z, y, noise_mode=torch.randn(6, network.noise_numbers)))


@pytest.mark.parametrize("count", [2, 40])  # 40: more than are generated at once without gradients
def test_noise_may_be_given(count):
    network = noisy()
    (z, y), noise = latents_and_labels(network, count), torch.randn(count, network.noise_numbers)
    constant = [buffer for name, buffer in network.named_buffers() if name.endswith(".noise")]
    with torch.no_grad():
        images = network(z, y, noise_mode=noise)
        for i in (0, count - 1):  # layer by layer, here as the constant noise
            for buffer, numbers in zip(constant, noise[i].split([16, 64, 64, 256, 256]), strict=True):
                buffer.copy_(numbers.view_as(buffer))
            torch.testing.assert_close(images[i : i + 1], network(z[i : i + 1], y[i : i + 1]), rtol=0, atol=1e-5)


def test_centre_and_truncation():
    network = small()
    z, y = latents_and_labels(network)
    network.centre(samples=2000)
    middle = network(z, y, psi=0)
    torch.testing.assert_close(middle, middle[:1].expand_as(middle), rtol=0, atol=1e-5)
    others = network.styles(torch.randn(2000, 8), torch.arange(2000) % 5)
    assert (others.mean(dim=0) - network.w_avg).abs().max() < 0.1 * others.std()
    half = network.styles(z, y, psi=0.5)
    torch.testing.assert_close(half, (network.styles(z, y) + network.w_avg) / 2)


def test_clamp_bounds_activations():
    network, seen = small(clamp=0.01), []
    for block in network.blocks:
        block.conv.register_forward_hook(lambda module, x, output: seen.append(output.abs().max().item()))
    images = network(*latents_and_labels(network))
    assert seen == pytest.approx([0.01] * 3)
    # the last block adds at most 0.01; enlarging never adds, so three blocks make at most 0.03
    assert 0.01 < images.abs().max() <= 0.03 + 1e-6


def test_bad_options_are_named():
    for options, message in (
        (dict(psi=float("nan")), "psi is nan"),
        (dict(psi="1"), "psi is '1'"),
        (dict(noise_mode="constant"), "noise_mode is 'constant'; choose one of const, none, random"),
        (dict(noise_mode=torch.zeros(2, 655)), r"noise_mode is \(2, 655\); .* floats \(2, 656\)"),
    ):
        with pytest.raises(InputError, match=message):
            small()(torch.zeros(2, 8), torch.tensor([0, 1]), **options)
