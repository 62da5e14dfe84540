"""The StyleGAN2 discriminator against numbers recorded from official networks with small random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsoc_kd.core.files import InputError
from gsoc_kd.networks.stylegan2_disc import Conv, StyleGAN2Discriminator, disc_from_official, group_deviation
from gsoc_kd.training.losses import r1_penalty

DATA = Path(__file__).parents[1] / "fixtures"
REFERENCE = np.load(DATA / "stylegan2ada-discriminator.npz")
CASES = sorted({name.partition("/")[0] for name in REFERENCE.files})
OLDER = np.load(DATA / "stylegan2ada-reference.npz")  # has one case: disc_cond


def part(reference, case):
    """{name: value} of a case, and its official state dict."""
    found = {n.removeprefix(f"{case}/"): reference[n] for n in reference.files if n.startswith(f"{case}/")}
    return found, {n.removeprefix("state/"): v for n, v in found.items() if n.startswith("state/")}


def official_network(found, state):
    config = json.loads(str(found["config"]))
    epilogue = config["epilogue_kwargs"]
    group = epilogue["mbstd_group_size"] * (epilogue.get("mbstd_num_channels", 1) > 0)
    disc = StyleGAN2Discriminator(
        config["c_dim"],
        config["img_resolution"],
        config["channel_base"],
        config["channel_max"],
        group,
        clamp=config["conv_clamp"],
    )
    disc.load_state_dict(disc_from_official(state))
    return disc


def small(**changes):
    torch.manual_seed(0)
    return StyleGAN2Discriminator(
        **{**dict(num_classes=4, resolution=16, channel_base=128, channel_max=8, group=2, mapping_layers=2), **changes}
    )


def x_and_y(count=4, resolution=16):
    return torch.rand(count, 3, resolution, resolution) * 2 - 1, torch.arange(count) % 4


def test_reference_covers_labels_sizes_and_minibatch_deviation():
    assert CASES == ["cond_16_group32", "cond_16_plain", "cond_32_group4", "uncond_16_plain", "uncond_32_group8"]
    assert (DATA / "stylegan2ada-discriminator.npz").stat().st_size <= 500_000


@pytest.mark.parametrize(
    "reference, case, logits", [(REFERENCE, case, "logits") for case in CASES] + [(OLDER, "disc_cond", "out/logits")]
)
def test_reproduces_official_output(reference, case, logits):
    found, state = part(reference, case)
    with torch.no_grad():
        ours, _ = official_network(found, state)(torch.from_numpy(found["x"]), torch.from_numpy(found["c"]))
    assert np.ptp(found[logits]) > 0.01  # the fixture tells pictures apart
    np.testing.assert_allclose(ours.numpy(), found[logits].ravel(), rtol=0, atol=1e-4)


def test_official_parameter_count():
    with torch.device("meta"):
        disc = StyleGAN2Discriminator()
    assert sum(p.numel() for p in disc.parameters()) == 23_089_664 and disc.group == 32


def test_config_rebuilds_the_network_and_labels_equal_one_hot_weights():
    disc, (x, y) = small(), x_and_y()
    again = StyleGAN2Discriminator(**json.loads(json.dumps(disc.config)))
    again.load_state_dict(disc.state_dict())
    logits, maps = disc(x, y)
    assert logits.shape == (4,) and [tuple(m.shape) for m in maps] == [(4, 8, 8, 8), (4, 8, 4, 4)]
    torch.testing.assert_close(again(x, F.one_hot(y, 4).float())[0], logits, rtol=0, atol=0)
    assert ((disc(x, (y + 1) % 4)[0] - logits).abs() > 1e-5).all()  # the label counts
    plain = small(num_classes=0)
    assert plain.mapping is None and torch.equal(plain(x)[0], plain(x, y)[0])


def test_group_deviation_is_that_of_every_so_manyth_picture():
    x = torch.zeros(6, 2, 4, 4)
    x[3], x[5] = 2.0, 6.0  # groups of 2: (0, 3), (1, 4), (2, 5)
    found = group_deviation(x, 2)
    assert found.shape == (6, 1, 4, 4)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([1.0, 0, 3, 1, 0, 3]), rtol=0, atol=2e-4)


def test_a_group_sees_itself_alone():
    disc, (x, y) = small(), x_and_y()  # groups (0, 2) and (1, 3)
    torch.testing.assert_close(disc(x[[0, 2]], y[[0, 2]])[0], disc(x, y)[0][[0, 2]], rtol=0, atol=1e-5)
    assert ((disc(x[:2], y[:2])[0] - disc(x, y)[0][:2]).abs() > 1e-6).all()
    alone = small(group=0)
    torch.testing.assert_close(alone(x[:2], y[:2])[0], alone(x, y)[0][:2], rtol=0, atol=1e-5)


def test_down_is_the_filter_1331_then_every_second_pixel():
    conv = Conv(1, 1, 3, None, down=True).double()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    taps = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8
    smooth = F.conv2d(F.pad(x, (2, 2, 2, 2)), torch.outer(taps, taps)[None, None])  # 9x9
    by_hand = torch.stack(
        [
            (smooth[0, 0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * conv.weight[0, 0] / 3).sum()
            for i in range(4)
            for j in range(4)
        ]
    ).view(1, 1, 4, 4)
    expected = torch.where(by_hand > 0, by_hand, 0.2 * by_hand) * 2**0.5
    torch.testing.assert_close(conv(x).detach(), expected.detach())


def test_r1_reaches_every_weight_that_the_slope_depends_on():
    disc, (x, y) = small(clamp=None), x_and_y()
    penalty = r1_penalty(disc, x, y)
    penalty.backward()
    assert penalty > 0
    without = {n for n, p in disc.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert without <= {"out.bias"} | {n for n, _ in disc.named_parameters() if n.endswith(".bias")}
    with torch.no_grad():  # the slope, numerically
        shift = torch.randn_like(x)
        double = disc.double()
        logit = [double(x.double() + sign * 1e-7 * shift, y)[0].sum() for sign in (1, -1)]
    x = x.double().requires_grad_(True)
    (slope,) = torch.autograd.grad(double(x, y)[0].sum(), x)
    assert ((logit[0] - logit[1]) / 2e-7).item() == pytest.approx((slope * shift).sum().item(), rel=1e-3)
    assert penalty.item() == pytest.approx(slope.square().sum((1, 2, 3)).mean().item(), rel=1e-3)


def test_gradient_reaches_every_parameter():
    disc, (x, y) = small(), x_and_y()
    disc(x, y)[0].square().mean().backward()
    assert [n for n, p in disc.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(x=torch.zeros(2, 3, 8, 8)), r"x has shape \(2, 3, 8, 8\); this disc takes \(N, 3, 16, 16\)"),
        (
            dict(x=torch.zeros(3, 3, 16, 16), y=torch.tensor([0, 1, 2])),
            "a batch of 3 cannot be divided into groups of 2",
        ),
        (dict(y=None), "y is None"),
        (dict(y=torch.tensor([0])), "1 labels for 2 pictures"),
        (dict(y=torch.tensor([0, 4])), r"0\.\.3, got 0\.\.4"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        small()(**{**dict(x=torch.zeros(2, 3, 16, 16), y=torch.tensor([0, 1])), **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(resolution=24), "resolution is 24; StyleGAN2 sees powers of two"),
        (dict(resolution=4), "resolution is 4"),
        (dict(num_classes=-1), "num_classes is -1"),
        (dict(group=1.5), "group is 1.5"),
    ],
)
def test_bad_configuration_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        small(**arguments)


def test_disc_from_official_refuses_another_filter():
    _, state = part(REFERENCE, "cond_16_plain")
    with pytest.raises(InputError, match="b16.conv1.resample_filter is not the filter"):
        disc_from_official({**state, "b16.conv1.resample_filter": np.ones((4, 4), np.float32) / 16})
