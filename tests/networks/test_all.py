"""What every network does: labels and weights alike, bad input named, one graph for torch.compile."""

import copy
import json

import pytest
import torch

from gsoc_kd import networks
from gsoc_kd.core.files import InputError
from gsoc_kd.networks.layers import class_weights

GENERATORS = {
    "conv": lambda: networks.ConvGenerator(8, 4, 16, (8, 8, 4), 4, rank=3),
    "residual": lambda: networks.ConvGenerator(8, 4, 16, (8, 8, 4), 4, block="residual"),
    "distylegan": lambda: networks.DiStyleGANGenerator(8, 4, 16, 16, 8),
    "stylegan2": lambda: networks.StyleGAN2Generator(8, 8, 4, 16, 128, 8),
}
DISCRIMINATORS = {
    "projection disc": lambda: networks.ProjectionDiscriminator(4, 16, 4),
    "groups disc": lambda: networks.ProjectionDiscriminator(4, 16, 4, group=2),
    "distylegan disc": lambda: networks.DiStyleGANDiscriminator(4, 16, 4, 4),
    "stylegan2 disc": lambda: networks.StyleGAN2Discriminator(4, 16, 128, 8, 2, 2),
}
NETWORKS = GENERATORS | DISCRIMINATORS
EVALUATED = ("conv", "distylegan disc")  # batch norm and spectral norm compute otherwise than in training
OFFICIAL = [  # the defaults are those of 2022 and of StyleGAN2-ADA's `cifar`
    (networks.DiStyleGANGenerator, 2_054_368),
    (networks.DiStyleGANDiscriminator, 3_415_178),
    (networks.StyleGAN2Generator, 20_215_315),
    (networks.StyleGAN2Discriminator, 23_089_664),
]


def first_input(name):
    return torch.rand(4, 3, 16, 16) * 2 - 1 if name in DISCRIMINATORS else torch.randn(4, 8)


def output(network, *inputs, **options):
    """Images, or logits without the maps."""
    result = network(*inputs, **options)
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("kind, count", OFFICIAL)
def test_defaults_have_the_official_number_of_parameters(kind, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in kind().parameters()) == count


@pytest.mark.parametrize("kind, count", OFFICIAL)
def test_networks_without_memory_are_made_without_drawing_weights(kind, count, monkeypatch):
    def refuse(*_, **__):  # PyTorch 2.11 cannot do it there, and reading a saved network begins so
        raise AssertionError("weights were drawn")

    monkeypatch.setattr(torch.nn.init, "orthogonal_", refuse)
    with torch.device("meta"):
        kind()


@pytest.mark.parametrize("name", NETWORKS)
def test_integer_labels_are_one_hot_weights(name):
    network, x, y = NETWORKS[name]().eval(), first_input(name), torch.tensor([0, 3, 1, 1])
    found = output(network, x, y)
    assert found.shape == ((4,) if name in DISCRIMINATORS else (4, 3, 16, 16))
    torch.testing.assert_close(output(network, x, torch.eye(4)[y]), found, rtol=0, atol=1e-6)
    torch.testing.assert_close(output(network, x, y.byte()), output(network, x, torch.eye(4).double()[y]))
    changes = (output(network, x, (y + 1) % 4) - found).abs().reshape(4, -1).amax(1)
    assert changes.min() > 1e-6  # the label counts


@pytest.mark.parametrize("name", GENERATORS)
def test_between_two_classes_the_image_moves_continuously_and_the_config_rebuilds_the_network(name):
    network, z, t = GENERATORS[name]().eval(), torch.randn(1, 8).expand(101, -1), torch.linspace(0, 1, 101)[:, None]
    x = network(z, (1 - t) * torch.eye(4)[0] + t * torch.eye(4)[2])  # (101, 3, 16, 16)
    steps, whole = (x[1:] - x[:-1]).flatten(1).norm(dim=1), (x[-1] - x[0]).norm()
    assert whole > 1e-3 and 0 < steps.min() and steps.max() < 0.1 * whole  # no jump on the way
    again = type(network)(**json.loads(json.dumps(network.config))).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(z[:2], torch.tensor([0, 1])), network(z[:2], torch.tensor([0, 1])))


def test_labels_elsewhere_are_not_looked_at():  # as on a GPU, which would have to wait
    assert class_weights(torch.zeros(2, dtype=torch.int64, device="meta"), 3).shape == (2, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_bad_labels_are_named(name):
    for y, named in (
        (torch.tensor([0, 4, 0, 0]), r"0\.\.3, got 0\.\.4"),
        (torch.tensor([-1, 1, 0, 0]), r"got -1\.\.1"),
        (torch.zeros(4, 5), r"\(N, 4\) class weights, got \(4, 5\)"),
        (torch.zeros(4), r"got \(4,\)"),
        (torch.zeros(4, 4, dtype=torch.int64), "got .* torch.int64"),
        (torch.tensor(1), r"got \(\)"),
        (torch.tensor([0, 1, 2]), "3 labels y for 4 latents or images"),
        ([0, 1, 2, 3], "labels y .* got no tensor but list"),
        (None, "labels y .* got no tensor but NoneType"),
    ):
        with pytest.raises(InputError, match=named):
            NETWORKS[name]()(first_input(name), y)


def test_bad_sizes_are_named():
    for kind, sizes, named in (
        ("ConvGenerator", dict(widths=(16, 8, 8)), "3 widths end at 16 pixels, not at 32"),
        ("ConvGenerator", dict(widths=(16, 8, 0, 4)), r"widths\[2\] must be .* at least 1, not 0"),
        ("ConvGenerator", dict(rank=0), "rank must be .* at least 1, not 0"),
        ("ConvGenerator", dict(block="dense"), "one of conv, residual, got 'dense'"),
        ("DiStyleGANGenerator", dict(resolution=24), "resolution must be a power of two .* not 24"),
        ("DiStyleGANGenerator", dict(resolution=2), "resolution must be .* at least 4, not 2"),
        ("DiStyleGANGenerator", dict(width=12), "width must be divisible by 8, got 12"),
        ("StyleGAN2Generator", dict(resolution=24), "resolution must be a power of two"),
        ("StyleGAN2Generator", dict(num_classes=-1), "num_classes .* at least 0, not -1"),
        ("StyleGAN2Generator", dict(channel_base=8), "channel_base .* at least 32, not 8"),
        ("StyleGAN2Generator", dict(clamp=0), "clamp is 0; give a positive number"),
        ("ProjectionDiscriminator", dict(resolution=24), "resolution must be a power of two"),
        ("ProjectionDiscriminator", dict(resolution=8), "resolution must be .* at least 16, not 8"),
        ("DiStyleGANDiscriminator", dict(resolution=0), "resolution must be .* at least 16, not 0"),
        ("StyleGAN2Discriminator", dict(resolution=4), "resolution must be .* at least 8, not 4"),
        ("StyleGAN2Discriminator", dict(group=1.5), "group .* not 1.5"),
    ):
        with pytest.raises(InputError, match=named):
            getattr(networks, kind)(**sizes)


@pytest.mark.parametrize("name", GENERATORS)
def test_bad_latents_are_named(name):
    for z, named in (
        (torch.zeros(2, 5), r"latents z must be floats \(N, 8\), got \(2, 5\)"),
        (torch.zeros(8), r"got \(8,\)"),
        (torch.zeros(2, 8, dtype=torch.int64), r"floats .* got \(2, 8\) torch.int64"),
        (torch.zeros(2, 8).numpy(), "ndarray; gsoc_kd.black_box"),
    ):
        with pytest.raises(InputError, match=named):
            GENERATORS[name]()(z, torch.tensor([0, 1]))


@pytest.mark.parametrize("name, training", [(n, True) for n in NETWORKS] + [(n, False) for n in EVALUATED])
def test_compiled_values_and_gradients_are_those_of_the_network(name, training):
    torch._dynamo.reset()
    network = NETWORKS[name]().train(training)
    options = dict(noise_mode=torch.randn(4, network.noise_numbers)) if name == "stylegan2" else {}
    copied, x, results = copy.deepcopy(network), first_input(name), []
    for one in (network, torch.compile(copied, fullgraph=True, backend="aot_eager")):
        results.append(output(one, x, torch.eye(4), **options))
        results[-1].square().mean().backward()
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)
    for ours, theirs in zip(copied.parameters(), network.parameters()):
        assert theirs.grad.abs().max() > 0  # gradients reach every parameter
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
