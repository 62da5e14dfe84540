"""A run's folder: config, checkpoints, exact resume, statistics and film (docs/Training.md).

    config.json               what was asked for; a run never resumes under another config
    checkpoint.pt             tensors and numbers to continue from; checkpoint.previous.pt is the one before
    stats.jsonl               a line a tick: images seen, losses, images a second; tensorboard/ too, if installed
    film/000012.png, film.gif a grid of the averaged generator a tick
    student/                  the averaged generator: config.json, model.safetensors, provenance.json

All randomness is a function of (seed, step), so a checkpoint holds no random state and a resumed run is the same run.
"""

import functools
import json
import math
import os
import shlex
import shutil
import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..core.files import InputError, read_json, replacing_file, sweep, write_json, writing


@dataclass
class Run:
    """What a training leaves behind. student: the averaged generator in eval mode on the CPU; folder: where it
    stands; stats: a dict a tick."""

    student: torch.nn.Module
    folder: Path
    stats: list


# ---------------------------------------------------------------- config


def preset(cls, presets, name, changes):
    """A frozen config dataclass from a named preset with some fields changed."""
    if name not in presets:
        raise InputError(f"there is no preset {name!r}; choose one of {', '.join(presets)}")
    try:
        return cls(**{**presets[name], **changes})
    except TypeError as error:
        raise InputError(f"{cls.__name__}: {error}") from None


def check_config(config, positive, shares):
    """Checks the numbers of a config: whole where they are counts, never negative or infinite.

    Args:
        positive: names of fields that must be above 0. shares: names of fields that must be below 1.

    Raises:
        InputError: names the field and its value.
    """
    for field in fields(config):
        name, value = f"{type(config).__name__}.{field.name}", getattr(config, field.name)
        if field.type in (int, float):
            kinds = int if field.type is int else (int, float)
            number = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or (value == 0 and field.name in positive):
                raise InputError(
                    f"{name} must be a {'positive' if field.name in positive else 'non-negative'} "
                    f"{'whole ' if kinds is int else ''}number, got {value!r}"
                )
        if field.name in shares and not all(0 <= v < 1 for v in np.atleast_1d(value)):
            raise InputError(f"{name} must lie from 0 to below 1, got {value!r}")


def flags(config):
    """The command line's flags for the fields in which a config differs from the preset `laptop`."""
    words = []
    for field in fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            flag = field.name.replace("_", "-")
            words += (
                [f"--{'' if value else 'no-'}{flag}"]
                if isinstance(field.default, bool)
                else [f"--{flag}", *map(str, value if isinstance(value, (tuple, list)) else [value])]
            )
    return " ".join(words)


def real_flags(real):
    """The command line's flags for real images, LabelledImages; of a zip or folder the bare name is known."""
    if real.source in ("cifar10-train.zip", "CIFAR-10 train (torchvision)"):
        return "--real cifar10" + (f" --size {real.resolution}" if real.resolution != 32 else "")
    return f"--real {shlex.quote(real.source)} --size {real.resolution}"


def open_folder(folder, config, main_process=True, since=None):
    """Makes the run's folder, or checks that the run in it is the one asked for.

    Args:
        config: JSON-able dict: all that the run's outcome depends on. `kimg` says only how long the run goes on, so
            it may change: with a greater one a finished run goes on.
        since: defaults that a run from before a field existed was made with; none by default.

    Raises:
        InputError: another run stands there, naming what differs; or files that are not a run.
    """
    folder = Path(folder)
    if main_process:
        sweep(folder)
    if (folder / "config.json").exists():
        config, old = json.loads(json.dumps(config)), read_json(folder / "config.json")
        if not isinstance(old, dict) or "verb" not in old:
            raise InputError(f"{folder / 'config.json'} is not a run's; give another folder")
        old = {**json.loads(json.dumps(since or {})), **old}
        if differ := [
            f"{k} {old.get(k)!r} -> {config.get(k)!r}"
            for k in sorted({*old, *config})
            if k != "kimg" and old.get(k) != config.get(k)
        ]:
            raise InputError(
                f"{folder} holds a run under another config ({'; '.join(differ)}); go on with the old "
                f"config, give another folder, or delete this one"
            )
        if main_process and old != config:
            write_json(folder / "config.json", config)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not a run's folder; give another one")
    elif main_process:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "config.json", config)
    return folder


# ---------------------------------------------------------------- randomness


def rng(seed, step, device="cpu", stream=0):
    """A torch.Generator on `device` that is a function of (seed, step, stream) alone."""
    state = np.random.SeedSequence([seed, step, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class Batches:
    """Which rows make up the batch of a step: every epoch a new permutation, a function of (seed, epoch).

    What does not fill a batch at an epoch's end is left out of that epoch.
    """

    def __init__(self, count, batch, seed, device="cpu", stream=0):
        if count < batch:
            raise InputError(f"a batch of {batch} needs at least as many images, there are {count}; lower the batch")
        self.count, self.batch, self.seed, self.device, self.stream = count, batch, seed, device, stream
        self.steps, self.epoch = count // batch, None

    def __call__(self, step):
        epoch, i = divmod(step, self.steps)
        if epoch != self.epoch:
            order = torch.randperm(self.count, generator=rng(self.seed, epoch, stream=self.stream + 1000))
            self.epoch, self.order = epoch, order.to(self.device)
        return self.order[i * self.batch : (i + 1) * self.batch]  # (batch,) int64


# ---------------------------------------------------------------- checkpoints


def save_checkpoint(folder, state):
    """Writes tensors and numbers beside, keeps the previous checkpoint, renames.

    Raises:
        InputError: it cannot be written, e.g. because the disk is full; the last checkpoint is as it was.
    """
    path = Path(folder) / "checkpoint.pt"
    with writing(folder), replacing_file(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's word for a full disk
            raise OSError(str(error).splitlines()[0]) from None
        if path.exists():
            with replacing_file(path.with_name("checkpoint.previous.pt")) as second:
                _second_name(path, second)


def _second_name(path, new):
    """Another name for the same bytes, so that there is no moment without the first; where no links are, a copy."""
    try:
        os.link(path, new)
    except OSError:
        shutil.copyfile(path, new)


def load_checkpoint(folder):
    """The newest checkpoint that can be read, or None in a new folder; a damaged one is named in a warning.

    Raises:
        InputError: there are checkpoints, and none can be read.
    """
    damaged = []
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        path = Path(folder) / name
        if path.exists():
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # noqa: BLE001  torch raises many kinds for a damaged file
                damaged.append(f"{path} ({(str(error) or type(error).__name__).splitlines()[0][:100]})")
                continue
            if damaged:
                warnings.warn(f"{damaged[0]} is damaged; going on from {path}", stacklevel=2)
            return state
    if damaged:
        raise InputError(f"no checkpoint can be read: {'; '.join(damaged)}; delete the folder to start again")
    return None


# ---------------------------------------------------------------- average


def update_average(average, network, ema, step):
    """Moves an AveragedModel towards `network` after step `step`, counted from 0.

    The average keeps the share min(ema, step / (step + 9)) of itself: in a short run it looks back over the last tenth
    of the steps, not over more than there were. AveragedModel's own update would wait for the device at every step.
    """
    share = min(ema, step / (step + 9))
    get_ema_multi_avg_fn(share)(list(average.module.parameters()), list(network.parameters()), None)


# ---------------------------------------------------------------- statistics


def read_stats(folder, last_step=None):
    """The rows of stats.jsonl; with `last_step`, later rows and a torn last line are cut off in the file as well."""
    path = Path(folder) / "stats.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    if last_step is not None and path.exists():
        rows = [row for row in rows if row["step"] <= last_step]
        with replacing_file(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def append_stats(folder, row):
    with writing(folder), open(Path(folder) / "stats.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if writer := _tensorboard(Path(folder) / "tensorboard"):
        for name, value in row.items():
            writer.add_scalar(name, value, row["step"])
        writer.flush()


@functools.cache
def _tensorboard(folder):
    """A writer of TensorBoard scalars, where TensorBoard is installed and fits what is installed beside it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # noqa: BLE001  TensorBoard, NumPy and protobuf that do not fit fail in many ways
        return None
    return SummaryWriter(folder)


class Means:
    """Means of scalars since the last `take`, gathered on the device and read once a tick."""

    def __init__(self):
        self.sums, self.counts = {}, {}

    def add(self, **scalars):
        for name, value in scalars.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self, accelerator):
        """{name: mean over steps and processes} as floats, and starts anew. The one synchronisation of a tick."""
        names = list(self.sums)
        values = torch.stack([self.sums[n] / self.counts[n] for n in names])
        values = accelerator.reduce(values, reduction="mean").tolist()
        self.sums, self.counts = {}, {}
        return dict(zip(names, values))


def check_finite(losses, network, step, folder):
    """Stops a run whose losses or weights are no numbers any more, before a checkpoint could hold them."""
    bad = [f"loss {name}" for name, value in losses.items() if not np.isfinite(value)]
    if not bad and not torch.stack([p.isfinite().all() for p in network.parameters()]).all():
        bad = ["a weight of the generator"]
    if bad:
        raise InputError(
            f"{', '.join(bad)} is not finite at step {step}; what {folder} holds of earlier steps is "
            f"whole. Lower the learning rate and start again in another folder"
        )
