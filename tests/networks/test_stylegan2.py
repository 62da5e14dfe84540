"""The StyleGAN2 generator against numbers recorded from official networks with small random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsoc_kd.core.files import InputError
from gsoc_kd.networks.stylegan2 import Linear, ModulatedConv, StyleGAN2Generator, enlarge, from_official

REFERENCE = np.load(Path(__file__).parents[1] / "fixtures" / "stylegan2ada-reference.npz")
CASES = ("cifar_cond", "uncond_8map", "cond_64")
OUTPUTS = [name for name in REFERENCE.files if name.startswith(CASES) and "/out/" in name]


def official_state(case):
    start = f"{case}/state/"
    return {name[len(start) :]: REFERENCE[name] for name in REFERENCE.files if name.startswith(start)}


def official_network(case):
    config = json.loads(str(REFERENCE[f"{case}/config"]))
    synthesis = config["synthesis_kwargs"]
    network = StyleGAN2Generator(
        config["z_dim"],
        config["w_dim"],
        config["c_dim"],
        config["img_resolution"],
        synthesis["channel_base"],
        synthesis["channel_max"],
        config["mapping_kwargs"]["num_layers"],
        synthesis["conv_clamp"],
    )
    network.load_state_dict(from_official(official_state(case)))
    return network


def small(**changes):
    torch.manual_seed(0)
    return StyleGAN2Generator(
        **{**dict(z_dim=8, w_dim=12, num_classes=5, resolution=16, channel_base=128, channel_max=16), **changes}
    )


def noise_and_labels(network, count=6):
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(count) % max(network.num_classes, 1)
    return torch.randn(count, network.z_dim, generator=generator), y


def test_reference_has_all_outputs():
    assert len(OUTPUTS) == 12  # 3 networks, 2 truncations, 2 noise modes


@pytest.mark.parametrize("output", OUTPUTS)
def test_reproduces_official_output(output):
    case, _, setting = output.split("/")
    psi, noise_mode = setting.removeprefix("psi").split("_")
    network = official_network(case)
    z, weights = torch.from_numpy(REFERENCE[f"{case}/z"]), torch.from_numpy(REFERENCE[f"{case}/c"])
    with torch.no_grad():
        pictures = network(z, weights, psi=float(psi), noise_mode=noise_mode)
    assert pictures.dtype == torch.float32
    np.testing.assert_allclose(pictures.numpy(), REFERENCE[output], rtol=0, atol=1e-4)


def test_official_parameter_count():
    with torch.device("meta"):
        network = StyleGAN2Generator()
    assert sum(p.numel() for p in network.parameters()) == 20_215_315
    assert [block.conv.weight.shape[0] for block in network.blocks] == [512, 512, 512, 512]


def test_config_rebuilds_the_network():
    network = small()
    again = StyleGAN2Generator(**json.loads(json.dumps(network.config)))
    again.load_state_dict(network.state_dict())
    z, y = noise_and_labels(network)
    assert torch.equal(network(z, y), again(z, y))
    assert (again.z_dim, again.num_classes, again.resolution) == (8, 5, 16)


@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_shape_and_scale_before_training(resolution):
    network = small(resolution=resolution)
    pictures = network(*noise_and_labels(network))
    assert pictures.shape == (6, 3, resolution, resolution)
    assert 0.05 < pictures.std().item() < 5  # equalised: neither vanishes nor explodes


@pytest.mark.parametrize("up", [False, True])
def test_one_convolution_equals_the_papers_weights_per_sample(up):
    torch.manual_seed(0)
    conv = ModulatedConv(6, 7, 3, w_dim=5, clamp=None, up=up).double()
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
        torch.testing.assert_close(conv.convolve(x, w)[i : i + 1], y, rtol=0, atol=1e-12)


def test_enlarge_is_the_filter_1331():
    picture = torch.zeros(1, 3, 4, 4)
    picture[:, 1, 1, 2] = 16.0
    taps = torch.tensor([1.0, 3, 3, 1])
    expected = torch.zeros(1, 3, 8, 8)
    expected[0, 1, 1:5, 3:7] = torch.outer(taps, taps)
    torch.testing.assert_close(enlarge(picture), expected)
    assert enlarge(torch.ones(1, 3, 4, 4))[0, 0, 0, 0] == 0.75**2  # zeros outside


def test_equalised_learning_rate():
    torch.manual_seed(0)
    layer = Linear(400, 300, bias=1.0, lr=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)  # stored: 1 / lr
    assert torch.allclose(layer.bias, torch.tensor(100.0))
    y = layer(torch.randn(200, 400))
    assert y.std().item() == pytest.approx(1, rel=0.03) and y.mean().item() == pytest.approx(1, abs=0.05)


def test_gradient_reaches_every_parameter():
    network = small()
    network(*noise_and_labels(network)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_labels_equal_one_hot_weights():
    network = small()
    z, y = noise_and_labels(network)
    assert torch.equal(network(z, y), network(z, F.one_hot(y, 5).float()))
    between = network(z, torch.full((len(z), 5), 0.2))
    assert between.shape == (6, 3, 16, 16) and not torch.equal(between, network(z, y))


def test_labels_are_ignored_without_classes():
    network = small(num_classes=0)
    z, y = noise_and_labels(network)
    assert torch.equal(network(z), network(z, y))


def test_noise_modes():
    network = small()
    z, y = noise_and_labels(network)
    # noise strengths start at 0
    assert torch.equal(network(z, y, noise_mode="random"), network(z, y, noise_mode="none"))
    with torch.no_grad():
        for block in network.blocks:
            block.conv.noise_strength.fill_(0.5)
    none, const = network(z, y, noise_mode="none"), network(z, y, noise_mode="const")
    assert torch.equal(const, network(z, y)) and not torch.allclose(const, none)
    torch.manual_seed(3)
    first, second = network(z, y, noise_mode="random"), network(z, y, noise_mode="random")
    torch.manual_seed(3)
    assert torch.equal(first, network(z, y, noise_mode="random")) and not torch.allclose(first, second)


def test_a_sample_does_not_depend_on_its_batch():
    network = small()
    z, y = noise_and_labels(network)
    torch.testing.assert_close(network(z, y)[2:3], network(z[2:3], y[2:3]), rtol=0, atol=1e-5)


def test_centre_and_truncation():
    network = small()
    z, y = noise_and_labels(network)
    network.centre(samples=2000)
    middle = network(z, y, psi=0)
    torch.testing.assert_close(middle, middle[:1].expand_as(middle), rtol=0, atol=1e-5)
    others = network.styles(torch.randn(2000, 8), torch.arange(2000) % 5)
    assert (others.mean(dim=0) - network.w_avg).abs().max() < 0.1 * others.std()
    half = network.styles(z, y, psi=0.5)
    torch.testing.assert_close(half, (network.styles(z, y) + network.w_avg) / 2)


def test_clamp_bounds_activations():
    network = small(clamp=0.01)
    seen = []
    for block in network.blocks:
        block.conv.register_forward_hook(lambda module, x, output: seen.append(output.abs().max().item()))
    pictures = network(*noise_and_labels(network))
    assert seen == pytest.approx([0.01] * 3)
    # the last block adds at most 0.01; enlarging never adds, so three blocks make at most 0.03
    assert 0.01 < pictures.abs().max() <= 0.03 + 1e-6


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(z=torch.zeros(2, 7)), r"z has shape \(2, 7\); this generator takes \(N, 8\)"),
        (dict(z=torch.zeros(8)), "z has shape"),
        (dict(y=torch.tensor([0, 5])), r"0\.\.4, got 0\.\.5"),
        (dict(y=torch.tensor([-1, 0])), r"0\.\.4, got -1\.\.0"),
        (dict(y=torch.zeros(2, 4)), r"\(N, 5\) class weights, got \(2, 4\)"),
        (dict(y=torch.tensor([0])), "1 labels for 2 latents"),
        (dict(y=None), "y is None"),
        (dict(psi=float("nan")), "psi is nan"),
        (dict(psi=float("inf")), "psi is inf"),
        (dict(psi="1"), "psi is '1'"),
        (dict(noise_mode="constant"), "noise_mode is 'constant'; choose one of const, none, random"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        small()(**{**dict(z=torch.zeros(2, 8), y=torch.tensor([0, 1])), **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(resolution=24), "resolution is 24; StyleGAN2 draws powers of two"),
        (dict(resolution=2), "resolution is 2"),
        (dict(num_classes=-1), "num_classes is -1"),
        (dict(z_dim=0), "z_dim is 0"),
        (dict(channel_base=8), "channel_base is 8"),
        (dict(clamp=0), "clamp is 0"),
    ],
)
def test_bad_configuration_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        small(**arguments)


def test_from_official_refuses_another_filter():
    state = official_state("uncond_8map")
    with pytest.raises(InputError, match="synthesis.b8.resample_filter is not the filter"):
        from_official({**state, "synthesis.b8.resample_filter": np.ones((4, 4), np.float32) / 16})
