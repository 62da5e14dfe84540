"""Eight bits: as scale-free in z as the network is, whatever its kind and width, and nobody's chance is touched."""

import random

import numpy as np
import pytest
import torch
from tiny import in_pytorch, inputs, tiny

import gsoc_kd as kd
from gsoc_kd.deployment import quantise as module
from gsoc_kd.deployment.export import Images, as_openvino
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.distylegan import DiStyleGANGenerator

pytest.importorskip("nncf", reason="the extra `deploy` is not installed")
SCALES = 0.01, 0.1, 0.5, 1.5, 2, 10, 100


def apart(runner, network, z, y):
    """Mean difference in grey levels between the runner's images and PyTorch's."""
    return np.abs(runner(z, y).astype(int) - in_pytorch(network, z, y)).mean()


@pytest.mark.parametrize("kind", ["conv", "residual", "distylegan", "wide"])
def test_long_and_short_latents_cost_int8_no_more_than_others(kind, tmp_path):
    network = tiny(kind)
    runner = kd.load_exported(kd.export(network, tmp_path / "s.xml", "int8"))
    z, y = inputs(runner, 60)
    most = 3 * apart(runner, network, z, y) + 0.2
    found = {scale: apart(runner, network, z * np.float32(scale), y) for scale in SCALES}
    assert max(found.values()) < max(most, 2), found
    one = in_pytorch(network, z, y)
    moved = np.abs(in_pytorch(network, z * np.float32(10), y).astype(int) - one).max()
    if kind == "distylegan":  # takes z as it is
        assert moved > 10
    else:
        assert moved <= 1 and all(np.abs(runner(z * np.float32(s), y).astype(int) - runner(z, y)).max() <= 8
                                  for s in SCALES)  # fmt: skip


def test_a_convolution_scaled_per_image_is_the_same_convolution():
    torch.manual_seed(0)
    network, z, y = DiStyleGANGenerator(8, 3, 8, 8, 8).eval(), torch.randn(6, 8), torch.arange(6) % 3
    expected = network(z, y)
    assert module.scaled_per_image(network) is network
    assert sum(isinstance(part, module.ScaledPerImage) for part in network.modules()) == 1
    torch.testing.assert_close(network(z, y), expected)
    zero = module.ScaledPerImage(torch.nn.Conv2d(2, 4, 3, padding=1))
    with torch.no_grad():
        assert torch.equal(zero(torch.zeros(1, 2, 4, 4)), zero.bias.view(1, 4, 1, 1).expand(1, 4, 4, 4))
    plain = module.scaled_per_image(ConvGenerator(8, 3, 8, (8, 8), 4).eval())  # normalises z
    assert not any(isinstance(part, module.ScaledPerImage) for part in plain.modules())


def test_calibration_inputs_are_all_classes_and_the_networks_kind_of_noise():
    network = tiny("conv")
    found = module.calibration_inputs(network, seed=3, count=2, batch=50)
    assert [(one["z"].shape, one["z"].dtype, one["y"].shape) for one in found] == [((50, 8), np.float32, (50,))] * 2
    assert (
        set(found[0]["y"]) == {0, 1, 2} and not np.array_equal(found[0]["z"], found[1]["z"]) and found[0]["z"].min() < 0
    )
    network.z_from = "uniform"
    assert 0 <= min(one["z"].min() for one in module.calibration_inputs(network, 3, 2, 50))


def test_export_tells_how_far_it_is(tmp_path, capsys):
    images, done = Images(tiny("conv")), []
    as_openvino(images, "int8", 0, lambda: done.append(1))
    assert len(done) == 2 + module.BATCHES  # and the file
    kd.export(images.network, tmp_path / "s.xml")
    assert "export fp32:   0%" in capsys.readouterr().err
    kd.export(images.network, tmp_path / "s.xml", progress=False)
    assert capsys.readouterr() == ("", "")


def test_export_leaves_the_callers_world_as_it_was(tmp_path):
    """Random states, train mode and default dtype neither change nor matter."""

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    network, before = tiny("conv").train(), states()
    kd.export(network, tmp_path / "int8.xml", "int8")
    assert states() == before and network.training and all(p.requires_grad for p in network.parameters())
    z, y = inputs(network, 20)
    first = (tmp_path / "int8.bin").read_bytes(), kd.load_exported(tmp_path / "int8.xml")(z, y).tobytes()
    random.seed(5), torch.manual_seed(5), torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            kd.export(network, tmp_path / "int8.xml", "int8")
    finally:
        torch.set_default_dtype(torch.float32)
    again = (tmp_path / "int8.bin").read_bytes(), kd.load_exported(tmp_path / "int8.xml")(z, y).tobytes()
    assert again == first and again[1].count(0) < len(again[1]) / 2
