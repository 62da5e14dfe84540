"""Devices are picked or refused; both loops stay on theirs and wait for it once a tick.

There is no GPU where tests run. What goes wrong there first is a tensor left on the CPU; that is found here, on a
pretended accelerator, PyTorch's device "meta", whose tensors know where they lie and hold no values. Values, speed,
mixed precision and CUDA's own kernels are not tested by this.
"""

import contextlib
import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.folder import save_pairs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.networks.features import FeatureClassifier, train_features
from gsoc_kd.networks.layers import class_weights
from gsoc_kd.training import devices, runs

PRETENDED = torch.device("meta")
SOURCES = {0: "cpu", 1: "meta"}  # a source of random numbers shows by its seed where it would be
ADAM = torch.optim.Adam


def test_devices_are_picked_or_refused():
    assert devices.pick_device("cpu") == torch.device("cpu")
    assert devices.pick_device() in (torch.device("cpu"), torch.device("cuda"))
    for name in ("tpu7", "cuda:99"):
        with pytest.raises(InputError, match=f"device '{name}' cannot be used here"):
            devices.pick_device(name)
    assert devices.fast_bfloat16("cpu") in (True, False) and not devices.fast_bfloat16("meta")


def test_one_process_of_accelerate_on_the_cpu():
    accelerator = devices.make_accelerator(torch.device("cpu"))
    assert accelerator.device == torch.device("cpu") and accelerator.num_processes == 1
    with pytest.raises(InputError, match="start Python anew"):
        devices.make_accelerator(torch.device("meta"))


def test_only_cuda_changes_how_pytorch_computes(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", calls.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    devices.quicken(torch.device("cpu"))
    assert not torch.backends.cudnn.benchmark and calls == []
    devices.quicken(torch.device("cuda"))
    assert torch.backends.cudnn.benchmark and calls == ["high"]


def test_one_process_looks_at_the_clock_at_every_step_and_several_at_every_tenth():
    one, two = (types.SimpleNamespace(num_processes=n) for n in (1, 2))  # no device: asking would fail
    assert not devices.spent(None, 1e9, one) and not devices.spent(None, 1e9, two)
    assert [devices.spent(1, seconds, one, step=3) for seconds in (59.9, 60)] == [False, True]
    assert not devices.spent(1, 60, two, step=3)
    with pytest.raises(AttributeError):
        devices.spent(1, 60, two, step=20)


# ---------------------------------------------------------------- all tensors in one place


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
        device=PRETENDED,
        num_processes=1,
        process_index=0,
        is_main_process=False,
        prepare=lambda *parts: parts,
        backward=lambda loss: loss.backward(),
        wait_for_everyone=lambda: None,
        main_process_first=torch.no_grad,
    )
    monkeypatch.setattr(devices, "make_accelerator", lambda _: accelerator)
    monkeypatch.setattr(devices, "pick_device", lambda _: PRETENDED)
    monkeypatch.setattr(runs, "rng", source)
    monkeypatch.setattr(runs, "open_folder", lambda folder, *_, **__: folder)
    monkeypatch.setattr(runs, "check_finite", lambda *_: None)
    taken = []
    monkeypatch.setattr(
        runs.Means, "take", lambda means, _: taken.append({n: v.device for n, v in means.sums.items()}) or {}
    )
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, fused, **more: ADAM(*args, **more))  # fused: real devices
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: self)  # nothing can be copied from there
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 1.0)  # what share the classifier tells right
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: 1.0)  # batch norm counts its batches, in a tick
    with SamePlace():
        yield taken


def toy():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3
    return x, y, rng.standard_normal((48, 8)).astype(np.float16)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(block="glu", rank=None),
        dict(block="separable", skip_z=False, pixel_half_kimg=1.0),
        dict(block="residual"),
        dict(student="distylegan", disc="distylegan", ema=0.0),
        dict(gan_weight=0.1, disc_gan_weight=0.1, disc_labels=False),
        dict(gan_weight=0.1, disc_gan_weight=0.1, adversarial_every=3),
    ],
)
def test_distillation_stays_on_its_device(changes, pretended, tmp_path):
    module = importlib.import_module("gsoc_kd.training.distill")
    x, y, z = toy()
    pairs = save_pairs(x, y, z, tmp_path / "pairs")
    real = LabelledImages(x, y, ("a", "b", "c"), "toy") if "gan_weight" in changes else None
    config = module.DistillConfig.preset("smoke", kimg=0.064, **changes)
    module.distill(pairs, config, tmp_path / "run", real)
    (places,) = pretended
    assert set(places.values()) == {PRETENDED} and {"disc", "pixel", "feature"} <= places.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(loss="hinge", spectral=True, r1=0.0, group=0, disc_labels=False),
        dict(disc="features"),
        dict(architecture="stylegan2", disc="stylegan2", w_dim=8, channel_base=128, channel_max=8),
    ],
)
def test_pretraining_stays_on_its_device(changes, pretended, tmp_path):
    module = importlib.import_module("gsoc_kd.training.gan")
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
    for wrong in (
        lambda: there + here,
        lambda: torch.cat([there, here]),
        lambda: there[0] @ here[0],
        lambda: torch.nn.functional.conv2d(there, here),
        lambda: here[torch.arange(1, device=PRETENDED)],
        lambda: torch.randn(2, generator=runs.rng(0, 0), device=PRETENDED),
    ):
        with pytest.raises((AssertionError, RuntimeError)):
            wrong()


# ---------------------------------------------------------------- nothing waits for the device but a tick


class Waits(TorchDispatchMode):
    """Who in the package reads a tensor's value, or asks for a result whose size depends on values: a GPU's host waits."""

    def __init__(self):
        super().__init__()
        self.callers, self.steps = [], 0

    def __torch_dispatch__(self, function, _, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name == "index" and any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        if masks or name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal"):
            self.note()
        return function(*args, **(kwargs or {}))

    def note(self):
        frame = sys._getframe()
        while frame and Path(frame.f_code.co_filename).parent != Path(devices.__file__).parent:
            frame = frame.f_back
        self.callers.append((self.steps, frame and frame.f_code.co_name))


@pytest.mark.parametrize(
    "verb, changes",
    [
        ("pretrain", dict(architecture="stylegan2", disc="stylegan2", w_dim=8, channel_base=128, channel_max=8)),
        ("pretrain", dict(spectral=True, loss="hinge")),
        ("distill", dict(gan_weight=0.1, disc_gan_weight=0.1)),
        ("distill", dict(student="distylegan", disc="distylegan", disc_width=4)),
        ("distill", dict(features="classifier")),
    ],
)
def test_between_two_ticks_nothing_reads_a_tensor(verb, changes, tmp_path, monkeypatch):
    """On the CPU the labels are checked at every call, `class_weights`; on other devices they are not."""
    module, waits = importlib.import_module(f"gsoc_kd.{verb}"), Waits()
    x, y = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3
    real = LabelledImages(x, y, ("a", "b", "c"), "toy")

    class Bar:
        def __init__(self, **_):
            waits.callers.clear()

        def update(self, _):
            waits.steps += 1

        close = set_postfix = lambda self, *_, **__: None

    for name in ("tolist", "numpy", "cpu"):  # not by way of an operation
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda *args, original=original: waits.note() or original(*args))
    monkeypatch.setattr(module, "tqdm", Bar)
    monkeypatch.setattr(module.averaged, "__defaults__", (1, 16))
    if verb == "distill":
        z = np.random.default_rng(1).standard_normal((48, 8)).astype(np.float16)
        given = (save_pairs(x, y, z, tmp_path / "pairs"),)
        changes, rest = {**changes, "widths": (8, 8, 4, 4)}, (real if "gan_weight" in changes else None,)
    else:
        given, rest = (real,), ()
    config = (module.DistillConfig if verb == "distill" else module.PretrainConfig).preset(
        "smoke", kimg=0.064, tick_kimg=0.064, **changes
    )
    with waits:
        getattr(module, verb)(*given, config, tmp_path / "run", *rest, "cpu", minutes=1000)
    assert waits.steps == 4
    assert {caller for step, caller in waits.callers if 1 <= step <= 3} <= {"class_weights"}
    assert "take" in {caller for step, caller in waits.callers if step == 4}  # the search does find a tick's
    assert class_weights(torch.zeros(2, dtype=torch.int64, device="meta"), 3).shape == (2, 3)
