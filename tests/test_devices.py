"""Both loops on a pretended accelerator, PyTorch's device "meta", whose tensors know where they lie and hold no values.

There is no GPU where tests run. What goes wrong there first is a tensor left on the CPU; that is found here. Values,
speed, mixed precision and CUDA's own kernels are not tested by this.
"""
import contextlib
import importlib
import types

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gsoc_kd import runs
from gsoc_kd.features import FeatureClassifier, train_features
from gsoc_kd.images import LabelledImages
from gsoc_kd.pairs import save_pairs

PRETENDED = torch.device("meta")
SOURCES = {0: "cpu", 1: "meta"}  # a source of random numbers shows by its seed where it would be
ADAM = torch.optim.Adam


class SamePlace(TorchDispatchMode):
    """Asks what PyTorch asks for with a real device: all arguments of an operation in one place, numbers excepted, and
    random numbers drawn where their source is."""

    def __torch_dispatch__(self, function, _, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.overloadpacket.__name__
        places = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.ndim}
        if source := kwargs.get("generator"):
            places |= {SOURCES[source.initial_seed()], torch.device(kwargs.get("device") or "cpu").type}
        assert len(places) <= 1 or name in ("copy_", "_to_copy"), f"{name} on {places}"
        return function(*args, **kwargs)


def source(seed, step, device="cpu", stream=0):
    """In place of runs.rng: a source on a device that is not there."""
    return torch.Generator().manual_seed(list(SOURCES.values()).index(torch.device(device).type))


@pytest.fixture
def pretended(monkeypatch):
    """One process on the pretended device; what a tick reads and writes is left out."""
    accelerator = types.SimpleNamespace(
        device=PRETENDED, num_processes=1, process_index=0, is_main_process=False, prepare=lambda *parts: parts,
        backward=lambda loss: loss.backward(), wait_for_everyone=lambda: None, main_process_first=torch.no_grad)
    monkeypatch.setattr(runs, "make_accelerator", lambda _: accelerator)
    monkeypatch.setattr(runs, "pick_device", lambda _: PRETENDED)
    monkeypatch.setattr(runs, "rng", source)
    monkeypatch.setattr(runs, "open_folder", lambda folder, *_, **__: folder)
    monkeypatch.setattr(runs, "check_finite", lambda *_: None)
    taken = []
    monkeypatch.setattr(runs.Means, "take", lambda means, _: taken.append({n: v.device for n, v in means.sums.items()}) or {})
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, fused, **more: ADAM(*args, **more))       # fused: real devices
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: self)           # nothing can be copied from there
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: 1.0)         # batch norm counts its batches, in a tick
    with SamePlace():
        yield taken


def toy():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3
    return x, y, rng.standard_normal((48, 8)).astype(np.float16)


@pytest.mark.parametrize("changes", [
    {}, dict(block="glu", rank=None), dict(block="separable", skip_z=False, pixel_half_kimg=1.0),
    dict(student="distylegan", disc="distylegan", ema=0.0), dict(gan_weight=0.1, disc_gan_weight=0.1, disc_labels=False),
    dict(gan_weight=0.1, disc_gan_weight=0.1, adversarial_every=3)])
def test_distillation_stays_on_its_device(changes, pretended, tmp_path):
    module = importlib.import_module("gsoc_kd.distill")
    x, y, z = toy()
    pairs = save_pairs(x, y, z, tmp_path / "pairs")
    real = LabelledImages(x, y, ("a", "b", "c"), "toy") if "gan_weight" in changes else None
    config = module.DistillConfig.preset("smoke", kimg=0.064, **changes)
    module.distill(pairs, config, tmp_path / "run", real)
    (places,) = pretended
    assert set(places.values()) == {PRETENDED} and {"disc", "pixel", "feature"} <= places.keys()


@pytest.mark.parametrize("changes", [
    {}, dict(loss="hinge", spectral=True, r1=0.0, group=0, disc_labels=False),
    dict(architecture="stylegan2", disc="stylegan2", w_dim=8, channel_base=128, channel_max=8)])
def test_pretraining_stays_on_its_device(changes, pretended, tmp_path):
    module = importlib.import_module("gsoc_kd.pretrain")
    x, y, _ = toy()
    config = module.PretrainConfig.preset("smoke", kimg=0.064, **changes)
    module.pretrain(LabelledImages(x, y, ("a", "b", "c"), "toy"), config, tmp_path / "run")
    (places,) = pretended
    assert set(places.values()) == {PRETENDED} and {"disc", "generator"} <= places.keys()


def test_fixed_features_are_trained_on_their_device(pretended, monkeypatch):
    x, y, _ = (torch.from_numpy(array).to(PRETENDED) for array in toy())
    places = []
    monkeypatch.setattr(torch.Tensor, "item", lambda self: places.append(self.device) or 1.0)
    train_features(FeatureClassifier(3, 32, 4).to(PRETENDED), x, y, 16, seed=0, epochs=1)
    assert places[-1] == PRETENDED


def test_what_lies_elsewhere_is_found(pretended):
    there, here = torch.zeros(1, 3, 8, 8, device=PRETENDED), torch.zeros(1, 3, 8, 8)
    for wrong in (lambda: there + here, lambda: torch.cat([there, here]), lambda: there[0] @ here[0],
                  lambda: torch.nn.functional.conv2d(there, here), lambda: here[torch.arange(1, device=PRETENDED)],
                  lambda: torch.randn(2, generator=runs.rng(0, 0), device=PRETENDED)):
        with pytest.raises((AssertionError, RuntimeError)):
            wrong()
