"""Generators: the 2022 student to the number, labels and weights alike, small ones that are small."""

import copy

import pytest
import torch
import torch.nn.functional as F
from gsoc_kd.teachers.load import EMBEDDED

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.evaluation.table import cost
from gsoc_kd.networks.conv import ConvGenerator, UpBlock
from gsoc_kd.networks.distylegan import DiStyleGANGenerator, orthogonal_init
from gsoc_kd.networks.layers import UpConv2d, class_weights, normalise_z, reestimate_batchnorm
from gsoc_kd.training.distill import DistillConfig, make_networks

TINY = dict(z_dim=6, num_classes=4, widths=(16, 8, 8, 4), embed_dim=5)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def tiny_conv(**changes):
    """A small ConvGenerator whose condition shows: gains and biases are not near 0."""
    torch.manual_seed(1)
    network = ConvGenerator(**{**TINY, **changes}).eval()
    for module in network.modules():
        if hasattr(module, "affine") and isinstance(module.affine, torch.nn.Linear):
            torch.nn.init.normal_(module.affine.weight, std=0.5)
    return network


def tiny_distylegan():
    torch.manual_seed(1)
    return DiStyleGANGenerator(z_dim=6, num_classes=4, width=16, project_dim=8).eval()


def tiny_plain():
    return tiny_conv(skip_z=False)


EACH = pytest.mark.parametrize("make", [tiny_conv, tiny_plain, tiny_distylegan])


# ---------------------------------------------------------------- labels and noise


def test_labels_become_one_hot_rows_and_weights_stay():
    expected = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    assert torch.equal(class_weights(torch.tensor([2, 0]), 3), expected)
    assert torch.equal(class_weights(torch.tensor([2, 0], dtype=torch.uint8), 3), expected)
    weights = torch.tensor([[0.25, 0.75, 0]])
    assert torch.equal(class_weights(weights, 3), weights)
    assert class_weights(weights.double(), 3).dtype == torch.float32


@pytest.mark.parametrize(
    "y, named",
    [
        (torch.tensor([0, 3]), "0..2, got 0..3"),
        (torch.tensor([-1, 1]), "got -1..1"),
        (torch.zeros(2), "(2,)"),
        (torch.zeros(2, 4), "(N, 3) class weights, got (2, 4)"),
        (torch.zeros(2, 3, dtype=torch.int64), "int64"),
        (torch.tensor(1), "()"),
    ],
)
def test_bad_labels_are_named(y, named):
    with pytest.raises(InputError) as caught:
        class_weights(y, 3)
    assert named in str(caught.value)


def test_normalised_latents_have_root_mean_square_one():
    z = normalise_z(torch.tensor([[3.0, 4.0], [-0.5, 0.0]]))
    torch.testing.assert_close(z, torch.tensor([[3 / 12.5**0.5, 4 / 12.5**0.5], [-(2**0.5), 0.0]]))


@EACH
def test_integer_labels_are_one_hot_weights(make):
    network, z, y = make(), torch.randn(4, 6), torch.tensor([0, 3, 1, 1])
    x = network(z, y)
    assert x.shape == (4, 3, 32, 32) and x.min() >= -1 and x.max() <= 1 and x.std() > 1e-3
    torch.testing.assert_close(x, network(z, F.one_hot(y, 4).float()), rtol=0, atol=1e-6)
    assert (network(z, (y + 1) % 4) - x).abs().mean() > 1e-4


@EACH
def test_between_two_classes_the_picture_moves_continuously(make):
    network, z = make(), torch.randn(1, 6)
    t = torch.linspace(0, 1, 101)[:, None]
    a, b = F.one_hot(torch.tensor([0, 2]), 4).float()
    x = network(z.expand(101, -1), (1 - t) * a + t * b)  # (101, 3, 32, 32)
    ends = network(z.expand(2, -1), torch.tensor([0, 2]))
    torch.testing.assert_close(x[[0, -1]], ends, rtol=0, atol=1e-5)
    steps, whole = (x[1:] - x[:-1]).flatten(1).norm(dim=1), (ends[1] - ends[0]).norm()
    assert whole > 1e-2 and steps.max() < 0.1 * whole  # no jump on the way
    assert steps.min() > 0


def test_conv_generator_looks_at_the_direction_of_z_only():
    network, z, y = tiny_conv(), torch.randn(3, 6), torch.tensor([0, 1, 2])
    torch.testing.assert_close(network(7 * z, y), network(z, y), rtol=0, atol=1e-5)
    other = tiny_distylegan()  # takes z as it is
    assert (other(7 * z, y) - other(z, y)).abs().max() > 1e-3


@EACH
@pytest.mark.parametrize(
    "z, y, named",
    [
        (torch.zeros(2, 5), torch.tensor([0, 1]), "(N, 6), got (2, 5)"),
        (torch.zeros(6), torch.tensor([0]), "got (6,)"),
        (torch.zeros(2, 6, dtype=torch.int64), torch.tensor([0, 1]), "floats"),
        (torch.zeros(2, 6), torch.tensor([0, 1, 2]), "(2, 6) and (3,)"),
        (torch.zeros(2, 6), torch.tensor([0, 4]), "0..3"),
        (torch.zeros(2, 6), torch.zeros(2, 5), "(N, 4) class weights"),
        (torch.zeros(2, 6), [0, 1], "list"),
        (torch.zeros(2, 6).numpy(), torch.tensor([0, 1]), "ndarray"),
    ],
)
def test_bad_latents_and_labels_are_named(make, z, y, named):
    with pytest.raises(InputError) as caught:
        make()(z, y)
    assert named in str(caught.value)


# ---------------------------------------------------------------- DiStyleGAN


def test_distylegan_has_the_layers_and_parameters_of_2022():
    network = DiStyleGANGenerator(z_dim=512, num_classes=10, width=256, project_dim=128)
    assert parameters(network) == 2_054_368
    weights = [tuple(p.shape) for p in network.parameters() if p.ndim > 1]
    assert weights == [(256, 512), (8192, 138), (256, 256, 3, 3), (128, 128, 3, 3), (64, 64, 3, 3), (3, 32, 3, 3)]
    norms = [m.num_features for m in network.modules() if hasattr(m, "running_mean")]
    assert norms == [256, 8192, 256, 128, 64]
    biases = {n for n, p in network.named_parameters() if n.endswith("bias")}
    assert len(biases) == len(norms)  # batch norm's, no layer's
    assert 110e6 < cost(network)["macs"] < 120e6  # about 115 MMAC


def test_distylegan_computes_what_its_description_says():
    network = tiny_distylegan()
    for module in network.modules():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
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
    w = network.project[0].weight  # (16, 6): orthonormal columns
    torch.testing.assert_close(w.T @ w, torch.eye(6), rtol=0, atol=1e-5)
    w = network.blocks[0][1].weight.flatten(1)  # (16, 144): orthonormal rows
    torch.testing.assert_close(w @ w.T, torch.eye(16), rtol=0, atol=1e-5)
    wide = torch.nn.Sequential(torch.nn.BatchNorm2d(4000), torch.nn.Conv2d(3, 4, 1))
    orthogonal_init(wide)
    assert abs(wide[0].weight.mean() - 1) < 2e-3 and abs(wide[0].weight.std() - 0.02) < 2e-3
    assert not wide[0].bias.any() and not wide[1].bias.any()


@pytest.mark.parametrize("resolution, width", [(24, 256), (2, 256), (32, 12)])
def test_distylegan_refuses_sizes_it_cannot_build(resolution, width):
    with pytest.raises(InputError, match=f"{resolution} and {width}"):
        DiStyleGANGenerator(resolution=resolution, width=width)


# ---------------------------------------------------------------- ConvGenerator and its variants


@pytest.mark.parametrize("skip_z", [True, False])
def test_conv_generator_computes_what_its_description_says(skip_z):
    network = tiny_conv(rank=3, skip_z=skip_z)
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    z, y = torch.randn(3, 6), torch.tensor([0, 1, 3])
    h = torch.cat([z / z.square().mean(1, keepdim=True).sqrt(), network.embedding[y]], 1)  # (3, 11)
    seen = h if skip_z else network.embedding[y]  # what the batch norms see

    def norm(x, layer):
        mean, var = layer.norm.running_mean[:, None, None], layer.norm.running_var[:, None, None]
        gain, bias = (seen @ layer.affine.weight.T + layer.affine.bias)[:, :, None, None].chunk(2, 1)
        return F.relu((x - mean) / (var + 1e-5).sqrt() * (1 + gain) + bias)

    h = norm(network.linear[1](h @ network.linear[0].weight.T).view(3, 16, 4, 4), network.norm)
    for block in network.blocks:
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = norm(F.conv2d(h, block.conv.weight, padding=1), block.norm)
    torch.testing.assert_close(network(z, y), network.to_rgb(h).tanh(), rtol=0, atol=1e-5)


def test_a_gated_block_is_twice_as_wide_and_half_of_it_gates():
    torch.manual_seed(0)
    block = UpBlock(4, 3, 5, "glu").eval()
    x, e = torch.randn(2, 4, 4, 4), torch.randn(2, 5)
    wide = block.norm(block.conv(x), e)  # (2, 6, 8, 8)
    assert wide.shape == (2, 6, 8, 8)
    torch.testing.assert_close(block(x, e), wide[:, :3] * wide[:, 3:].sigmoid())
    assert tiny_conv(block="glu")(torch.randn(2, 6), torch.tensor([0, 1])).shape == (2, 3, 32, 32)


@torch.no_grad()
def test_residual_blocks_follow_tinygan():
    """Forward written out with TinyGAN's order: norm, ReLU, enlarge, separable; norm, ReLU, separable; the shortcut
    enlarges first and then convolves."""
    torch.manual_seed(0)
    network = tiny_conv(block="residual", rank=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
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
    x = network(z, y)
    assert x.shape == (3, 3, 32, 32) and (x[0] - x[1]).abs().mean() > 1e-3
    torch.testing.assert_close(x, network.to_rgb(F.relu(network.norm(h, e))).tanh(), rtol=0, atol=1e-5)
    again = ConvGenerator(**network.config).eval()  # the config rebuilds it
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(z, y), x)


def test_rank_and_separable_blocks_are_smaller_and_draw():
    full, low, separable = tiny_conv(), tiny_conv(rank=3), tiny_conv(block="separable")
    assert parameters(full) - parameters(low) == 11 * 256 - (11 * 3 + 3 * 256)  # 11 = z and embedding
    blocks = [(16, 8), (8, 8), (8, 4)]
    assert parameters(full) - parameters(separable) == sum(9 * i * o - (9 * i + i * o) for i, o in blocks)
    z, y = torch.randn(2, 6), torch.tensor([0, 1])
    for network in (low, separable):
        x = network(z, y)
        assert x.shape == (2, 3, 32, 32) and x.abs().max() <= 1 and (x[0] - x[1]).abs().mean() > 1e-3
        again = ConvGenerator(**network.config).eval()  # the config rebuilds it
        again.load_state_dict(network.state_dict())
        assert torch.equal(again(z, y), x)


@pytest.mark.parametrize(
    "changes, named",
    [
        (dict(widths=(16, 8, 8)), "3 widths end at 16 pixels, not at 32"),
        (dict(block="dense"), "'dense'"),
        (dict(rank=0), "rank 0"),
        (dict(widths=(16, 8, 0, 4)), "(16, 8, 0, 4)"),
        (dict(embed_dim=0), "embed_dim 0"),
    ],
)
def test_conv_generator_refuses_what_it_cannot_build(changes, named):
    with pytest.raises(InputError) as caught:
        ConvGenerator(**{**TINY, **changes})
    assert named in str(caught.value)


def test_the_laptop_student_is_five_times_smaller_than_its_teacher():
    teachers = [ConvGenerator().config]
    if (EMBEDDED / "teacher" / "config.json").is_file():
        embedded = read_json(EMBEDDED / "teacher" / "config.json")
        assert embedded.pop("class") == "ConvGenerator"
        teachers.append(embedded)
    for config in teachers:
        teacher = cost(ConvGenerator(**config))
        student, _ = make_networks(
            DistillConfig.preset("laptop"), config["z_dim"], config["num_classes"], config["resolution"]
        )
        student = cost(student)
        assert teacher["parameters"] >= 5 * student["parameters"] and teacher["macs"] >= 5 * student["macs"]


@pytest.mark.parametrize("skip_z, condition", [(False, 5), (True, 11)])
def test_cost_counts_multiply_accumulates(skip_z, condition):
    macs = 11 * 256 + sum(9 * i * o * r * r for (i, o), r in zip([(16, 8), (8, 8), (8, 4)], (8, 16, 32)))
    macs += 9 * 4 * 3 * 32 * 32 + 4 * 5  # to RGB, embedding
    macs += condition * 2 * (16 + 8 + 8 + 4)  # gains and biases
    assert cost(tiny_conv(skip_z=skip_z))["macs"] == macs


# ---------------------------------------------------------------- batch norm, measured anew


@EACH
@pytest.mark.parametrize("training", [True, False])
def test_reestimated_statistics_are_those_of_the_layers_inputs(make, training):
    network = make().train(training)
    batches = [(torch.randn(8, 6), torch.randint(4, (8,))) for _ in range(3)]
    other, seen = copy.deepcopy(network).train(), {}
    for name, module in other.named_modules():
        if hasattr(module, "running_mean"):
            inputs = seen.setdefault(name, [])
            module.register_forward_pre_hook(lambda _, x, inputs=inputs: inputs.append(x[0].detach()))
    for z, y in batches:
        other(z, y)
    momenta = {n: m.momentum for n, m in network.named_modules() if hasattr(m, "running_mean")}
    weights = {n: p.clone() for n, p in network.named_parameters()}

    reestimate_batchnorm(network, iter(batches))

    modules = dict(network.named_modules())
    assert network.training == training and len(seen) >= 4
    for name, inputs in seen.items():
        others = [d for d in range(inputs[0].ndim) if d != 1]  # all but the channels
        mean = torch.stack([x.mean(others) for x in inputs]).mean(0)
        var = torch.stack([x.var(others, unbiased=True) for x in inputs]).mean(0)
        torch.testing.assert_close(modules[name].running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(modules[name].running_var, var, rtol=1e-4, atol=1e-5)
        assert modules[name].momentum == momenta[name] == 0.1
    assert all(torch.equal(p, weights[n]) for n, p in network.named_parameters())


def test_upsampling_and_convolution_are_one_transposed_convolution_in_training():
    layer, x = UpConv2d(5, 6), torch.randn(2, 5, 4, 4)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, padding=1)
    results = {}
    for training in (True, False):
        y = layer.train(training)(x)
        (gradient,) = torch.autograd.grad(y.square().sum(), layer.weight)
        results[training] = y.detach(), gradient
    torch.testing.assert_close(results[False][0], expected.detach(), rtol=0, atol=0)
    torch.testing.assert_close(results[True], results[False], rtol=1e-5, atol=1e-5)
