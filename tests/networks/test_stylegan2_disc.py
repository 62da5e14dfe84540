"""The StyleGAN2 discriminator against numbers recorded from official networks with small random weights."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from stylegan2_official import REFERENCE as OLDER

from gsoc_kd.core.files import InputError
from gsoc_kd.networks.stylegan2_disc import StyleGAN2Discriminator
from gsoc_kd.training.losses import r1_penalty

REFERENCE = np.load(Path(__file__).parents[1] / "fixtures" / "stylegan2ada-discriminator.npz")
CASES = "cond_16_group32 cond_16_plain cond_32_group4 uncond_16_plain uncond_32_group8".split()
EACH = [(REFERENCE, case, "logits") for case in CASES] + [(OLDER, "disc_cond", "out/logits")]


def from_official(state, resolution):
    """Tensors of an official discriminator under our names, without the constant filters."""

    def block(found):
        return f"blocks.{(resolution // int(found[1])).bit_length() - 1}.{found[2]}."

    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^b\d+\.fromrgb\.", "from_rgb.", name).removeprefix("b4.")
        name = re.sub(r"^mapping\.fc", "mapping.layers.", re.sub(r"^b(\d+)\.conv([01])\.", block, name))
        renamed[name] = torch.as_tensor(value)
    return {name: value for name, value in renamed.items() if not name.endswith("resample_filter")}


def official_network(found):
    config = json.loads(str(found["config"]))
    epilogue, resolution = config["epilogue_kwargs"], config["img_resolution"]
    group = epilogue["mbstd_group_size"] * (epilogue.get("mbstd_num_channels", 1) > 0)
    channels = config["channel_base"], config["channel_max"]
    disc = StyleGAN2Discriminator(config["c_dim"], resolution, *channels, group, clamp=config["conv_clamp"])
    state = {n.removeprefix("state/"): v for n, v in found.items() if n.startswith("state/")}
    disc.load_state_dict(from_official(state, resolution))
    return disc


def small(num_classes=4, group=2, clamp=256):
    torch.manual_seed(0)
    return StyleGAN2Discriminator(num_classes, 16, 128, 8, group, mapping_layers=2, clamp=clamp)


def x_and_y(count=4):
    return torch.rand(count, 3, 16, 16) * 2 - 1, torch.arange(count) % 4


@pytest.mark.parametrize("reference, case, logits", EACH)
def test_reproduces_official_output(reference, case, logits):
    found = {n.removeprefix(f"{case}/"): reference[n] for n in reference.files if n.startswith(f"{case}/")}
    disc, count = official_network(found), len(found["x"])
    groups = count // min(disc.group or count, count)
    order = torch.arange(count).view(-1, groups).T.flatten()  # official groups: every so many images, ours: successive
    ours = torch.empty(count)
    with torch.no_grad():
        ours[order] = disc(torch.from_numpy(found["x"])[order], torch.from_numpy(found["c"])[order])[0]
    assert np.ptp(found[logits]) > 0.01  # the fixture tells images apart
    np.testing.assert_allclose(ours.numpy(), found[logits].ravel(), rtol=0, atol=1e-4)


def test_maps_halve_and_labels_are_ignored_without_classes():
    disc, (x, y) = small(num_classes=0), x_and_y()
    logits, maps = disc(x, y)
    assert logits.shape == (4,) and [tuple(m.shape) for m in maps] == [(4, 8, 8, 8), (4, 8, 4, 4)]
    assert torch.equal(disc(x)[0], logits)


def test_a_group_sees_itself_alone():
    disc, (x, y) = small(), x_and_y()  # groups (0, 1) and (2, 3)
    torch.testing.assert_close(disc(x[:2], y[:2])[0], disc(x, y)[0][:2], rtol=0, atol=1e-5)
    assert ((disc(x[[0, 2]], y[[0, 2]])[0] - disc(x, y)[0][[0, 2]]).abs() > 1e-6).all()
    alone = small(group=0)
    torch.testing.assert_close(alone(x[[0, 2]], y[[0, 2]])[0], alone(x, y)[0][[0, 2]], rtol=0, atol=1e-5)


def test_r1_reaches_every_weight_that_the_slope_depends_on():
    disc, (x, y) = small(clamp=None), x_and_y()
    penalty = r1_penalty(disc, x, y)
    penalty.backward()
    assert penalty > 0
    assert all(p.grad.abs().max() > 0 for n, p in disc.named_parameters() if not n.endswith("bias"))
    with torch.no_grad():  # the slope, numerically
        shift, x = torch.randn_like(x), x.double()
        logit = [disc.double()(x + sign * 1e-7 * shift, y)[0].sum() for sign in (1, -1)]
    (slope,) = torch.autograd.grad(disc(x.requires_grad_(True), y)[0].sum(), x)
    assert ((logit[0] - logit[1]) / 2e-7).item() == pytest.approx((slope * shift).sum().item(), rel=1e-3)
    assert penalty.item() == pytest.approx(slope.square().sum((1, 2, 3)).mean().item(), rel=1e-3)


def test_bad_images_are_named():
    with pytest.raises(InputError, match=r"x has shape \(2, 3, 8, 8\); this discriminator takes \(N, 3, 16, 16\)"):
        small()(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="a batch of 3 cannot be divided into groups of 2"):
        small()(*x_and_y(3))
