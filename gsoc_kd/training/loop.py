"""The training loop: a task defines the step, and everything else is here (docs/Training.md).

A task has `verb`, `unit` (what a step sees: "pair" or "img"), `config`, `steps` (of the run), `tick` (steps from one to
the next) and `period` (steps of a block), and

    place(device, rank, world)   puts its data there; raises InputError for what cannot be trained
    networks()                   (generator, discriminator), from torch's random state
    identity()                   all that the outcome depends on, for the run's config.json
    draw(block)                  all that chance decides in a block: {name: (period, ...)}, by seed, block and rank
    step(nets, given, i, descend_disc, descend)   step i of a block; given: its row of `draw`; returns {loss: scalar}
    provenance(out, minutes)     what is said of command, data and classes
"""

import contextlib
import copy
import json
import os
import time
import warnings
from dataclasses import asdict
from unittest.mock import patch

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from tqdm import tqdm

from ..core.checks import InputWarning, fast_bfloat16, path_of, pick_device, real_number
from ..core.figures import animation, class_grid, is_whole_png
from ..core.files import InputError, locked, writing
from ..core.latents import sample, z_from
from ..core.state import untouched
from ..core.weights import provenance, save_network
from ..networks.layers import reestimate_batchnorm
from ..teachers.black_box import black_box
from . import runs
from .blocks import Blocks, CudaGraph, Nets

THEIRS = ("ACCELERATE_", "FSDP_", "MEGATRON_", "PARALLELISM_CONFIG_")  # how accelerate's variables begin
COMPUTING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE",
             "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")  # fmt: skip


@untouched
@torch.enable_grad()
def train(task, out, device=None, minutes=None, on_tick=None, timer=time.monotonic, graph="cuda", compile=None):
    """Trains what a task says; called again, it goes on where it stopped, to the same weights.

    Chance is a function of (seed, block, process), so a checkpoint holds no random state. On a CPU with as many threads
    and one process a resumed run ends with the same bytes; a GPU chooses its kernels anew.

    graph: what runs a whole block at once, by default CudaGraph on a GPU in one process; None: nothing does. compile: a
    backend of torch.compile for the networks. The other arguments, what it returns and raises: as `distill`."""
    minutes = None if minutes is None else real_number("minutes", minutes)
    if minutes is not None and minutes <= 0:
        raise InputError(f"minutes is {minutes!r}; give a positive number, or None for no limit")
    out = path_of(out, "the run's folder")
    accelerator, nets, notes = prepare(task, device, compile)
    with locked(out) if accelerator.is_main_process else contextlib.nullcontext():
        return _train(task, accelerator, nets, notes, out, minutes, on_tick, timer, graph)


def _train(task, accelerator, nets, notes, out, minutes, on_tick, timer, graph):
    with accelerator.main_process_first():
        config = {"verb": task.verb, **task.identity()}
        config |= {"minutes": minutes} if task.config.lr_hold < 1 else {}  # on which the rates depend, as on kimg
        folder = runs.open_folder(out, config, accelerator.is_main_process, task.steps, nets.most())
    state = runs.load_checkpoint(folder, nets.load, nets.most())
    first, stats = (state["step"], state["stats"]) if state else (0, [])
    del state  # as large as the networks
    if accelerator.is_main_process:
        runs.write_stats(folder, stats)
    if graph == "cuda":
        graph = CudaGraph if accelerator.device.type == "cuda" and accelerator.num_processes == 1 else None
    blocks, batch = Blocks(task, nets, accelerator, graph), task.config.batch
    clock = Clock(timer, stats[-1]["seconds"] if stats else 0.0, minutes, accelerator)
    used, ticked = clock.used(), first
    if used >= 1 and stats[-2:-1] and stats[-2]["seconds"] >= 60 * minutes:  # else it stopped at its first tick after
        raise InputError(f"{folder} holds a run of {stats[-1]['seconds'] / 60:.3g} minutes, more than minutes "
                         f"{minutes:g}; ask for as many, or give another folder")  # fmt: skip
    stop, unit = task.steps if used < 1 or not first else first, task.period if graph else 1
    hidden, words = not accelerator.is_main_process, dict(desc=task.verb, unit=task.unit)
    bar = tqdm(total=task.steps * batch, initial=first * batch, disable=hidden, **words)
    for begin, end in pieces(first, stop, task.tick, unit):
        blocks(begin, end, used)
        bar.update((end - begin) * batch)
        used = clock.used()
        if end % task.tick and end < task.steps and used < 1:
            continue
        row = {"step": end, "kimg": end * batch / 1000, **blocks.means()}
        runs.check_finite(row, nets.parts["generator"], end, folder)
        if accelerator.is_main_process:
            row |= clock.tick((end - ticked) * batch, f"{task.unit}s_per_second")
            network = averaged(nets.parts["average"], task.config.seed, accelerator.device)
            save(network, folder, row, {**notes, **task.provenance(folder, minutes)})
            row |= plain(on_tick and clock.pause(on_tick, network, dict(row)))
            runs.append_stats(folder, row)
            stats.append(json.loads(json.dumps(row)))  # as it is read again
            runs.save_checkpoint(folder, {"step": end, "stats": stats, **nets.state()})
            bar.set_postfix({name: f"{row[name]:.3f}" for name in blocks.sums if name in row})
        ticked = end
        if used >= 1:
            break
    bar.close()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if frames := whole_frames(folder / "animation", stats):
            animation(frames, folder / "animation.gif")
    return runs.Run(averaged(nets.parts["average"], task.config.seed, accelerator.device), folder, stats)


def prepare(task, device, compile=None):
    """Puts the task on its device and makes what it trains: accelerator, Nets, and what provenance says of them."""
    accelerator, c = start(pick_device(device)), task.config
    device, world = accelerator.device, accelerator.num_processes
    if c.batch % world:
        raise InputError(f"{type(c).__name__}.batch {c.batch} cannot be divided among {world} processes")
    bfloat16 = fast_bfloat16(device) if c.bfloat16 is None else c.bfloat16
    task.place(device, accelerator.process_index, world)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(c.seed)
        try:
            networks = [network.to(device, memory_format=torch.channels_last) for network in task.networks()]
        except (RuntimeError, MemoryError) as error:
            raise InputError(f"the networks cannot be made ({str(error)[:200]}): make them smaller") from None
    notes = {"config": asdict(c), "processes": world, "precision": "bfloat16" if bfloat16 else "float32"}
    notes |= {"threads": torch.get_num_threads(), "environment": environment(), "device": device}
    return accelerator, Nets.of(*networks, c, bfloat16, compile), notes


def pieces(first, steps, tick, unit):
    """(start, stop) of what is done at one go up to `steps`: never across a tick, nor across a multiple of `unit`."""
    while first < steps:
        stop = min(steps, (first // tick + 1) * tick, (first // unit + 1) * unit)
        yield first, stop
        first = stop


def plain(told):
    """What on_tick returned, as a dict that JSON can hold, {} for nothing; numbers may be numpy's and torch's."""
    try:
        told = json.loads(json.dumps(told or {}, default=lambda value: value.item()))
    except (TypeError, ValueError, AttributeError, RuntimeError):  # no number, several, nesting without end
        told = None
    if not isinstance(told, dict):
        raise InputError("on_tick must return None or a dict of numbers and texts, which go into the statistics")
    return told


def save(network, folder, row, told):
    """What a tick leaves for people: the averaged generator with its provenance, and a frame of the animation."""
    save_network(network, folder / "generator", provenance(seconds=row["seconds"], kimg=row["kimg"], **told))
    image = class_grid(black_box(network), network.z_dim, told["classes"], columns=10, scale=1)
    with writing(folder):
        (folder / "animation").mkdir(exist_ok=True)
        image.save(folder / "animation" / f"{row['step']:07d}.png")


def whole_frames(folder, stats):
    """The animation's image files of these ticks; a damaged one is named in a warning and left out."""
    frames = [path for row in stats if (path := folder / f"{row['step']:07d}.png").exists()]
    if damaged := [path for path in frames if not is_whole_png(path)]:
        warnings.warn(
            f"{', '.join(map(str, damaged))}: damaged, left out of the training animation", InputWarning, stacklevel=3
        )
    return [path for path in frames if path not in damaged]


def averaged(average, seed, device):
    """A copy of the average on the CPU in eval mode, measured on fresh latents: its batch-norm statistics, and the
    middle of StyleGAN2's styles (`w_avg`)."""
    network, (batches, batch) = copy.deepcopy(average).to(device), runs.NORM_BATCHES
    if hasattr(network, "centre"):
        network.centre(seed=seed)
    rng, count, shape = runs.rng(seed, 0, device, stream=99), network.num_classes, (batch, network.z_dim)
    labels = torch.arange(max(batches, -(-count // batch)) * batch, device=device) % count  # no class is left out
    z = (sample(z_from(network), *shape, generator=rng, device=device) for _ in range(len(labels) // batch))
    reestimate_batchnorm(network, zip(z, labels.split(batch)))
    return network.cpu().eval().requires_grad_(False)


def start(device):
    """accelerate's Accelerator for `device`: one process, or as many as torchrun or accelerate has started.

    How it computes is said by the config and by nothing else: accelerate does not see its own environment variables.

    Raises:
        InputError: accelerate already runs in this process on another kind of device or with other settings."""
    if device.type == "cuda":
        torch.cuda.set_device(device if device.index is not None else torch.cuda.current_device())
        torch.backends.cudnn.benchmark = True  # the quickest convolution of each shape is looked for once,
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")  # on GPUs in TF32
    known = {name: value for name, value in os.environ.items() if not name.startswith(THEIRS)}
    try:
        with patch.dict(os.environ, known, clear=True):
            accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", gradient_accumulation_steps=1)
    except (ValueError, NotImplementedError):
        accelerator = None
    if accelerator is None or accelerator.device.type != device.type:
        raise InputError(f"device {str(device)!r}: accelerate has already been started in this process, on another "
                         "device or with other settings, and cannot change; start Python anew")  # fmt: skip
    return accelerator


def environment():
    """The environment variables that change how libraries compute, as far as they are set, for provenance. InputError:
    one that makes float32 less exact in silence."""
    for name in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"):
        if os.environ.get(name, "STRICT").upper() not in ("", "STRICT"):
            told = f"the environment variable {name}={os.environ[name]} would make float32 less exact on a CPU"
            raise InputError(f"{told}: unset it, and choose the precision with bfloat16")
    return {name: os.environ[name] for name in COMPUTING if os.environ.get(name)}


class Clock:
    """Seconds of training, all resumed parts together, and how much of `minutes` they are."""

    def __init__(self, timer, seconds, minutes, accelerator):
        self.timer, self.minutes, self.accelerator = timer, minutes, accelerator
        self.began, self.ticked = timer() - seconds, seconds

    def seconds(self):
        return self.timer() - self.began

    def used(self):
        """The share of the minutes that is used up, the same in every process; 0 without a limit."""
        if self.minutes is None:
            return 0.0
        used = self.seconds() / 60 / self.minutes
        if self.accelerator.num_processes == 1:
            return used
        return broadcast(torch.tensor([used], device=self.accelerator.device)).item()

    def tick(self, seen, rate):
        """A row's times: seconds in all, and `seen` a second since the last tick, under the name `rate`."""
        before, self.ticked = self.ticked, self.seconds()
        return {"seconds": round(self.ticked, 1), rate: round(seen / max(self.ticked - before, 1e-9), 1)}

    def pause(self, function, *inputs):
        """What function(*inputs) returns; its time does not count."""
        start = self.timer()
        result = function(*inputs)
        self.began += self.timer() - start
        return result
