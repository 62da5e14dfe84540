"""Steps on the device: whole blocks as one command, gradients that lie as their weights do, nothing that waits.

There is no GPU where tests run. A stand-in for a CUDA graph replays what it captured on the CPU; what goes wrong first
on a GPU, a tensor left on the CPU, is found on PyTorch's device "meta", whose tensors know where they lie and hold no
values. Speed, mixed precision on CUDA and its own kernels are not tested by this.
"""

import contextlib
import types

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toy import ToyTask

from gsoc_kd.data import LabelledImages
from gsoc_kd.networks import ProjectionDiscriminator
from gsoc_kd.pairs import save_pairs
from gsoc_kd.training import DistillConfig, PretrainConfig, runs
from gsoc_kd.training.blocks import Blocks, Descent, Forward, Nets
from gsoc_kd.training.distill import DistillTask
from gsoc_kd.training.gan import GanTask
from gsoc_kd.training.loop import prepare, train
from gsoc_kd.training.losses import r1_penalty

CPU = types.SimpleNamespace(num_processes=1, device=torch.device("cpu"), reduce=lambda values, _: values)
STYLE = dict(architecture="stylegan2", disc="stylegan2", w_dim=8, channel_base=128, channel_max=8)
TASKS = {
    "distill": ("distill", {}),
    "distill residual": ("distill", dict(block="residual")),
    "distill 2022": ("distill", dict(student="distylegan", disc="distylegan", ema=0.0, shift=0, brightness=0.0)),
    "distill real": ("distill", dict(gan_weight=0.1, disc_gan_weight=0.1, adversarial_every=3)),
    "gan": ("gan", {}),
    "gan stylegan2": ("gan", STYLE),
}


@pytest.fixture
def task(request, tmp_path):
    """One of TASKS on 48 images of noise, each kept whole."""
    kind, changes = TASKS[request.param]
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3
    real = LabelledImages(x, y, ("a", "b", "c"), "toy")
    if kind == "gan":
        return GanTask(real, PretrainConfig.preset("smoke", bfloat16=False, **changes))
    z = rng.standard_normal((48, 8)).astype(np.float16)
    config = DistillConfig.preset("smoke", bfloat16=False, **changes)
    return DistillTask(save_pairs(x, y, z, tmp_path / "pairs"), config, real if config.gan_weight else None)


every_task = pytest.mark.parametrize("task", TASKS, indirect=True)


# ---------------------------------------------------------------- a block as one command


class Replay:
    """Like CudaGraph, without CUDA: two calls as they are, then what was captured, on the tensors of that time."""

    replays = 0

    def __init__(self, function):
        self.function, self.calls, self.blocks = function, 0, function.__self__

    def __call__(self):
        self.calls += 1
        found = self.function()
        if self.calls == 3:
            self.result, self.inputs = found, {name: t.data_ptr() for name, t in self.blocks.given.items()}
        if self.calls > 3:
            Replay.replays += 1
            assert self.inputs == {name: t.data_ptr() for name, t in self.blocks.given.items()}
        return found if self.calls < 3 else self.result


@pytest.mark.parametrize("task", ["distill", "distill real", "gan", "gan stylegan2"], indirect=True)
def test_blocks_as_one_command_end_like_single_steps(task):
    found = []
    for graph in (None, Replay):
        _, nets, _ = prepare(task, "cpu")
        run, before = Blocks(task, nets, CPU, graph), Replay.replays
        for block in range(5):
            run(block * task.period, (block + 1) * task.period)
        run(5 * task.period, 5 * task.period + 3)  # a piece of a block
        assert Replay.replays - before == (2 if graph else 0)
        found.append([run.means(), nets.state()])
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_ticks_inside_a_block_do_not_change_a_captured_run(tmp_path):
    plain = train(ToyTask(kimg=0.2), tmp_path / "plain", "cpu")
    graph = train(ToyTask(kimg=0.2, tick=25), tmp_path / "graph", "cpu", graph=Replay)
    torch.testing.assert_close(plain.generator.state_dict(), graph.generator.state_dict(), rtol=0, atol=0)


@every_task
def test_what_chance_decides_is_a_function_of_seed_block_and_process_of_one_shape(task):
    task.place(torch.device("cpu"), 0, 2)
    task.networks()
    first, again = task.draw(3), task.draw(3)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]) and tensor.shape[0] == task.period
        assert task.draw(4)[name].shape == tensor.shape and not torch.equal(task.draw(4)[name], tensor)
    task.place(torch.device("cpu"), 1, 2)
    for ours, theirs in zip(task.draw(3)["rows"].tolist(), first["rows"].tolist(), strict=True):
        assert len({*ours, *theirs}) == 16  # the two processes share a batch


# ---------------------------------------------------------------- gradients and Adam


def test_gradients_lie_as_their_weights_do_also_after_r1():
    """After a double backward PyTorch returns gradients of convolutions with other strides than channels-last weights
    have; fused Adam pairs numbers as they lie in memory. The step must be the one of plain Adam on .grad."""
    x, y = torch.rand(8, 3, 32, 32) * 2 - 1, torch.nn.functional.one_hot(torch.arange(8) % 3, 3).float()

    def discriminator():
        torch.manual_seed(0)
        return ProjectionDiscriminator(3, 32, 4, group=4).to(memory_format=torch.channels_last)

    ours, theirs = discriminator(), discriminator()
    adam = torch.optim.Adam(ours.parameters(), torch.tensor(1e-2, dtype=torch.float64), fused=True)
    descent, plain = Descent(ours, adam, CPU, 1e-2), torch.optim.Adam(theirs.parameters(), 1e-2, foreach=False)
    for _ in range(2):
        descent(ours(x, y)[0].square().mean() + r1_penalty(ours, x, y))
        plain.zero_grad()
        (theirs(x, y)[0].square().mean() + r1_penalty(theirs, x, y)).backward()
        plain.step()
    for p in ours.parameters():
        assert p.grad.stride() == p.stride() and p.grad.untyped_storage().data_ptr() == descent.flat.data_ptr()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


def test_a_stored_state_brings_its_moments_and_the_rate_is_still_set_by_tensor():
    config = types.SimpleNamespace(lr=0.1, disc_lr=0.1, betas=(0.5, 0.9))
    first, second = (Nets.of(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1), config) for _ in range(2))
    Descent(first.parts["generator"], first.parts["optimizer"], CPU, 0.1)(first.generator(torch.ones(1, 2)).sum())
    second.load(first.state())
    groups = zip(second.parts["optimizer"].param_groups, first.parts["optimizer"].param_groups, strict=True)
    torch.testing.assert_close(second.state(), first.state(), rtol=0, atol=0)
    descent = Descent(second.parts["generator"], second.parts["optimizer"], CPU, 0.1)
    assert all(group["lr"] is not stored["lr"] for group, stored in groups)  # its own tensor, on its own device
    descent.rate(torch.zeros(()))
    before = second.parts["generator"].weight.clone()
    descent(second.generator(torch.ones(1, 2)).sum())
    assert torch.equal(second.parts["generator"].weight, before)  # at rate 0 nothing moves


def test_a_network_as_a_step_calls_it_computes_in_bfloat16_and_gives_float32():
    network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Dropout(0.5))
    x = torch.randn(4, 64)
    exact, rounded = (Forward(network, half)(x, training=False) for half in (False, True))
    assert exact.dtype == rounded.dtype == torch.float32 and not network.training
    assert not torch.equal(exact, rounded) and torch.equal(rounded, rounded.bfloat16().float())
    torch.testing.assert_close(exact, rounded, rtol=0.02, atol=0.05)
    Forward(network)(x)
    assert network.training


# ---------------------------------------------------------------- nothing waits, all lies in one place


class Waits(TorchDispatchMode):
    """Notes what reads a tensor's value, or has a result whose size depends on values: there a processor waits."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, _, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name == "index" and any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        if masks or name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal"):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@every_task
def test_nothing_in_a_block_reads_a_tensor(task):
    _, nets, _ = prepare(task, "cpu")
    blocks = Blocks(task, nets, CPU)
    for descend in (blocks.descend, blocks.descend_disc):  # a CPU's Adam reads its rate; CUDA's does not
        descend.optimizer.step = lambda: None
    with Waits() as waits:
        blocks(0, task.period)
        assert waits.found == []
        blocks.sums["disc"].item()
        assert waits.found == ["_local_scalar_dense"]  # the search does find what is there


class SamePlace(TorchDispatchMode):
    """Asks what PyTorch asks for with a real device: all arguments of an operation in one place, numbers excepted."""

    def __torch_dispatch__(self, function, _, args=(), kwargs=None):
        places = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.ndim}
        name = function.overloadpacket.__name__
        assert len(places) <= 1 or name in ("copy_", "_to_copy"), f"{name} on {places}"
        return function(*args, **(kwargs or {}))


@every_task
def test_a_block_stays_on_its_device(task, monkeypatch):
    meta, rng = torch.device("meta"), runs.rng
    monkeypatch.setattr(runs, "rng", lambda seed, step, device="cpu", stream=0: (
        rng(seed, step, stream=stream) if device == "cpu" else types.SimpleNamespace(device=device)))  # fmt: skip
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none for this device
    nets = Nets.of(*task.networks(), task.config)
    for name in ("generator", "disc", "average"):
        nets.parts[name].to(meta)
    for name in ("optimizer", "disc_optimizer"):  # Adam's fused kernel asks for a real device
        nets.parts[name] = types.SimpleNamespace(step=lambda: None, param_groups=[])
    for name in ("randn", "rand", "randint"):
        monkeypatch.setattr(torch, name, where_its_source_is(getattr(torch, name)))
    with SamePlace():
        task.place(meta, 0, 1)
        blocks = Blocks(task, nets, types.SimpleNamespace(device=meta, num_processes=1))
        blocks(0, task.period)
    assert {t.device for t in [*blocks.sums.values(), *blocks.given.values(), blocks.descend.flat]} == {meta}


def where_its_source_is(function):
    """torch.randn and others: numbers must be drawn where their source is."""

    def drawn(*args, generator, device=None, **more):
        assert generator.device == torch.device(device or "cpu")
        return function(*args, device=device, **more)

    return drawn


@every_task
def test_a_step_without_its_descents_is_one_graph(task):
    """torch.compile takes the whole step, so no value is read in it and no Python decides by one. R1's second
    derivative is left out: compiled networks cannot be differentiated twice, and the loop never asks for it."""
    torch._dynamo.reset()
    _, nets, _ = prepare(task, "cpu")
    given = {name: tensor[1] for name, tensor in task.draw(0).items()}
    losses = []

    def step(given):
        found = task.step(nets, given, 1, losses.append, losses.append)
        return list(found.values())

    with torch.no_grad():
        plain = step(given)
        compiled = torch.compile(step, fullgraph=True, backend="eager")(given)
    assert len(plain) == len(compiled) and all(loss.isfinite() for loss in compiled)


@pytest.mark.parametrize("task", ["distill", "gan"], indirect=True)
def test_compiled_networks_give_the_same_losses(task):
    """R1 included, which looks through the network as it is."""
    torch._dynamo.reset()
    found = []
    for backend in (None, "aot_eager"):
        _, nets, _ = prepare(task, "cpu", backend)
        blocks = Blocks(task, nets, CPU)
        blocks(0, 2)
        found.append(blocks.means())
    assert found[0] == pytest.approx(found[1], abs=1e-5) and found[0].keys() == found[1].keys()
