"""Generators of any width and the 2022 student compute what their descriptions say; batch norm measured anew."""

import copy

import pytest
import torch
import torch.nn.functional as F

from gsoc_kd.core.files import ASSETS, read_json
from gsoc_kd.evaluation.table import cost
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.distylegan import DiStyleGANGenerator, orthogonal_init
from gsoc_kd.networks.layers import UpConv2d, normalise_z, reestimate_batchnorm
from gsoc_kd.training.distill import DistillConfig


def tiny_conv(**changes):
    """A small ConvGenerator whose condition shows: gains and biases are not near 0."""
    torch.manual_seed(1)
    network = ConvGenerator(6, 4, widths=(16, 8, 8, 4), embed_dim=5, **changes).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("affine.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
    return network


def tiny_distylegan():
    torch.manual_seed(1)
    return DiStyleGANGenerator(z_dim=6, num_classes=4, width=16, project_dim=8).eval()


def norms_of(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}


def with_statistics(network):
    """The network, with running means and variances as after a training."""
    for norm in norms_of(network).values():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return network


def test_distylegan_has_the_layers_of_2022():
    network = DiStyleGANGenerator()
    weights = [tuple(p.shape) for p in network.parameters() if p.ndim > 1]
    assert weights == [(256, 512), (8192, 138), (256, 256, 3, 3), (128, 128, 3, 3), (64, 64, 3, 3), (3, 32, 3, 3)]
    assert [m.num_features for m in norms_of(network).values()] == [256, 8192, 256, 128, 64]
    assert sum(name.endswith("bias") for name, _ in network.named_parameters()) == 5  # batch norm's, no layer's
    assert 50e6 < cost(network)["macs"] < 55e6  # 115 MMAC as convolutions of enlarged images, 36 products instead of 16


def test_distylegan_computes_what_its_description_says():
    network = with_statistics(tiny_distylegan())
    z, y, state = torch.randn(3, 6), torch.tensor([0, 1, 3]), dict(network.named_parameters())

    def norm(x, module):
        return F.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias, False)

    h = F.glu(norm(z @ state["project.0.weight"].T, network.project[1]), 1)  # (3, 8)
    h = torch.cat([h, F.one_hot(y, 4).float()], 1)
    h = F.glu(norm(h @ state["linear.0.weight"].T, network.linear[1]), 1).view(3, 16, 4, 4)
    for i, block in enumerate(network.blocks):
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = F.glu(norm(F.conv2d(h, state[f"blocks.{i}.1.weight"], padding=1), block[2]), 1)
    assert h.shape == (3, 2, 32, 32)
    expected = F.conv2d(h, state["to_rgb.weight"], padding=1).tanh()
    torch.testing.assert_close(network(z, y), expected, rtol=0, atol=1e-5)


def test_orthogonal_initialisation():
    network = tiny_distylegan()
    columns, rows = network.project[0].weight, network.blocks[0][1].weight.flatten(1)  # (16, 6), (16, 144)
    torch.testing.assert_close(columns.T @ columns, torch.eye(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(rows @ rows.T, torch.eye(16), rtol=0, atol=1e-5)
    wide = torch.nn.Sequential(torch.nn.BatchNorm2d(4000), torch.nn.Conv2d(3, 4, 1))
    orthogonal_init(wide)
    assert abs(wide[0].weight.mean() - 1) < 2e-3 and abs(wide[0].weight.std() - 0.02) < 2e-3
    assert not wide[0].bias.any() and not wide[1].bias.any()


def test_conv_generator_computes_what_its_description_says():
    network = with_statistics(tiny_conv(rank=3))
    z, y = torch.randn(3, 6), torch.tensor([0, 1, 3])
    e = torch.cat([z / z.square().mean(1, keepdim=True).sqrt(), network.embedding[y]], 1)  # (3, 11)

    def norm(x, layer):
        mean, var = layer.norm.running_mean[:, None, None], layer.norm.running_var[:, None, None]
        gain, bias = (e @ layer.affine.weight.T + layer.affine.bias)[:, :, None, None].chunk(2, 1)
        return F.relu((x - mean) / (var + 1e-5).sqrt() * (1 + gain) + bias)

    h = norm(network.linear[1](e @ network.linear[0].weight.T).view(3, 16, 4, 4), network.norm)
    for block in network.blocks:
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = norm(F.conv2d(h, block.conv.weight, padding=1), block.norm)
    torch.testing.assert_close(network(z, y), network.to_rgb(h).tanh(), rtol=0, atol=1e-5)


@torch.no_grad()
def test_residual_blocks_follow_tinygan():
    """Norm, ReLU, enlarge, separable; norm, ReLU, separable; the shortcut enlarges first and then convolves."""
    network = with_statistics(tiny_conv(block="residual"))
    z, y = torch.randn(3, 6), torch.tensor([0, 1, 3])
    e = torch.cat([normalise_z(z), network.embedding[y]], 1)

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def mixed(x, layers):
        return F.conv2d(F.conv2d(x, layers[0].weight, padding=1, groups=x.shape[1]), layers[1].weight)

    h = network.linear(e).view(3, 16, 4, 4)
    for block in network.blocks:
        inner = mixed(up(F.relu(block.norm1(h, e))), block.conv1)
        inner = mixed(F.relu(block.norm2(inner, e)), block.conv2)
        h = inner + F.conv2d(up(h), block.shortcut.weight, block.shortcut.bias)
    expected = network.to_rgb(F.relu(network.norm(h, e))).tanh()
    torch.testing.assert_close(network(z, y), expected, rtol=0, atol=1e-5)


def test_a_rank_makes_the_first_layer_smaller():
    before, after = (cost(network)["parameters"] for network in (tiny_conv(), tiny_conv(rank=3)))
    assert before - after == 11 * 256 - (11 * 3 + 3 * 256)  # 11 is 6 + 5, latent and class embedding


def test_the_laptop_student_is_five_times_smaller_than_its_teacher():
    bundled, laptop = read_json(ASSETS / "teacher" / "config.json"), DistillConfig.preset("laptop")
    assert bundled.pop("class") == "ConvGenerator" and bundled.pop("sha256")
    for teacher in (ConvGenerator(), ConvGenerator(**bundled)):
        student = dict(widths=laptop.widths, embed_dim=laptop.embed_dim, rank=laptop.rank, block=laptop.block)
        ours, theirs = cost(ConvGenerator(**{**teacher.config, **student})), cost(teacher)
        assert theirs["parameters"] >= 5 * ours["parameters"] and theirs["macs"] >= 2 * ours["macs"]


@pytest.mark.parametrize("make", [tiny_conv, lambda: tiny_conv(block="residual"), tiny_distylegan])
@pytest.mark.parametrize("training", [True, False])
def test_reestimated_statistics_are_those_of_the_layers_inputs(make, training):
    network = make().train(training)
    batches = [(torch.randn(8, 6), torch.randint(4, (8,))) for _ in range(3)]
    other, seen = copy.deepcopy(network).train(), {}
    for name, norm in norms_of(other).items():
        seen[name] = []
        norm.register_forward_pre_hook(lambda _, x, inputs=seen[name]: inputs.append(x[0].detach()))
    for z, y in batches:
        other(z, y)
    weights = [p.clone() for p in network.parameters()]
    reestimate_batchnorm(network, iter(batches))
    assert network.training == training and len(seen) >= 4
    for name, norm in norms_of(network).items():
        others = [d for d in range(seen[name][0].ndim) if d != 1]  # all but the channels
        mean = torch.stack([x.mean(others) for x in seen[name]]).mean(0)
        var = torch.stack([x.var(others, unbiased=True) for x in seen[name]]).mean(0)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, var, rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1
    assert all(torch.equal(p, before) for p, before in zip(network.parameters(), weights))


def test_exported_graphs_upsample_and_convolve_plainly_to_the_same_sums():
    layer, x = UpConv2d(5, 6).eval(), torch.randn(2, 5, 4, 4)
    graph = torch.export.export(layer, (x,))
    called = " ".join(str(node.target) for node in graph.graph.nodes)
    assert "conv2d" in called and "transpose" not in called
    torch.testing.assert_close(graph.module()(x), layer(x), rtol=1e-5, atol=1e-5)


def test_upsampling_and_convolution_are_one_transposed_convolution():
    layer, x = UpConv2d(5, 6), torch.randn(2, 5, 4, 4)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, padding=1)
    (slope,) = torch.autograd.grad(expected.square().sum(), layer.weight)
    for training in (True, False):
        y = layer.train(training)(x)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.autograd.grad(y.square().sum(), layer.weight)[0], slope, rtol=1e-5, atol=1e-5)
