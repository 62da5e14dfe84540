"""Winograd's convolution gives the numbers of the plain one, and only where nobody needs more than the numbers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gsoc_kd.evaluation.table import cost
from gsoc_kd.networks import winograd
from gsoc_kd.networks.stylegan2 import FIR, StyleGAN2Generator


def plain(x, weight, style, fir=None):
    """The same by PyTorch's own convolutions."""
    x = x * style[:, :, None, None]
    if fir is None:
        return F.conv2d(x, weight, padding=1)
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    taps = torch.outer(*[torch.tensor(fir, dtype=x.dtype)] * 2).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, taps, padding=1, groups=x.shape[1])


def wide(resolution=32):
    """A generator with 128 channels, enough for layers of 16 and 32 pixels in a batch of 8; two classes."""
    network = StyleGAN2Generator(8, 8, 2, resolution, 128 * resolution, 128)
    for name, parameter in network.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            nn.init.constant_(parameter, 0.1)
    return network.eval()


@pytest.fixture
def calls(monkeypatch):
    """The batch sizes with which `convolve` ran."""
    found, convolve = [], winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *given: found.append(len(given[0])) or convolve(*given))
    return found


@pytest.mark.parametrize("fir", [None, FIR, (0.1, 0.7, 0.7, 0.1)])
@pytest.mark.parametrize("N, inputs, outputs, size", [(1, 1, 1, 4), (3, 5, 7, 8), (2, 6, 4, 20), (1, 512, 512, 16)])
def test_the_numbers_of_the_plain_convolution(N, inputs, outputs, size, fir):
    x, style = torch.randn(N, inputs, size, size), torch.randn(N, inputs)
    x = x.contiguous(memory_format=torch.channels_last)  # any order in memory
    weight = torch.randn(outputs, inputs, 3, 3) / (3 * inputs**0.5)
    expected = plain(x.double(), weight.double(), style.double(), fir)
    assert expected.shape == (N, outputs, *[size * (2 if fir else 1)] * 2) and expected.std() > 0.05
    torch.testing.assert_close(winograd.convolve(x, weight, style, fir).double(), expected, rtol=0, atol=3e-5)


def test_fewer_multiplications():
    for fir, ours, others in ((None, 6, 3 * 4), (FIR, 5, 3 * 2)):  # a tile along one axis
        E, G, B = winograd.matrices(16, fir)
        assert len(E) == len(G) == B.shape[1] == ours < others == 3 * E.shape[1]


def test_where_it_is_chosen():
    x, weight = torch.zeros(8, 128, 16, 16), torch.zeros(128, 128, 3, 3)
    assert not winograd.suits(x, weight)  # gradients are on
    with torch.no_grad():
        assert winograd.suits(x, weight) and not winograd.suits(x, weight, up=True)
        assert winograd.suits(torch.zeros(8, 384, 16, 16), torch.zeros(384, 384, 3, 3), up=True)
        assert not winograd.suits(x[:7], weight)  # few tiles
        assert not winograd.suits(x, weight[:127])  # few channels
        assert not winograd.suits(x, weight[:, :, :1, :1])  # 1x1
        assert not winograd.suits(x.double(), weight.double())
        assert not winograd.suits(x.to("meta"), weight)
        assert not winograd.suits(torch.zeros(99, 128, 18, 18), weight)  # no whole tiles
        assert not winograd.suits(torch.zeros(99, 128, 8, 16), weight)  # no square
        with torch.autocast("cpu", torch.bfloat16):
            assert not winograd.suits(x, weight)


def test_a_generator_gives_the_same_images_either_way(calls):
    network, z, y = wide(), torch.randn(38, 8), torch.arange(38) % 2  # generated 32 at a time
    expected = network(z, y).detach()
    assert calls == []
    with torch.inference_mode():
        images = network(z, y)
    assert calls == [32, 32, 32, 6]  # at 8, 16, 32 pixels; the rest at 32
    assert expected.std() > 0.3 and (images - expected).abs().max() < 1e-4
    with torch.no_grad():  # and follows its weights
        network.blocks[-1].conv.weight.mul_(torch.linspace(0, 1, 128)[:, None, None, None])
        after = network(z, y)
    torch.testing.assert_close(after, network(z, y).detach(), rtol=0, atol=1e-4)
    assert not torch.allclose(after, images, atol=0.01)


def test_exported_graphs_have_the_plain_convolution(calls):
    network, inputs = wide(), (torch.randn(3, 8), torch.eye(2)[[0, 1, 0]])
    with torch.no_grad():
        network(*inputs)
        assert len(calls) == 1  # these would suit
        program = torch.export.export(network, inputs)
        traced = str(torch.jit.trace(network, inputs, check_trace=False).inlined_graph)
    assert len(calls) == 1
    names = [str(node.target) for node in program.graph.nodes]  # 4 blocks: 7 and their filters, 4 to RGB
    assert sum(name.startswith("aten.conv") for name in names) == 7 + 3 + 4 and not any("bmm" in name for name in names)
    assert traced.count("aten::_convolution") == 7 + 3 + 4 and "bmm" not in traced


def test_the_cost_is_that_of_the_network(monkeypatch):
    network = wide(resolution=64)  # suits at batch 1
    macs = cost(network)["macs"]
    monkeypatch.setattr(winograd, "suits", lambda *given: False)
    assert cost(network)["macs"] == macs > 9 * 128 * 128 * 64 * 64
