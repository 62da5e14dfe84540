"""A run's folder: config, checkpoints, exact resume, statistics and film (docs/Training.md).

config.json               what was asked for; a run never resumes under another config
checkpoint.pt             tensors and numbers to continue from; checkpoint.previous.pt is the one before
stats.jsonl               a line a tick: images seen, losses, images a second; tensorboard/ too, if installed
film/000012.png, film.gif a grid of the averaged generator's images a tick
generator/                the averaged generator: config.json, model.safetensors, provenance.json
"""

import functools
import importlib
import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.files import InputError, read_json, replacing_file, sweep, write_json, writing

NORM_BATCHES = (8, 128)  # batches, and latents a batch, on which the batch norm of an averaged generator is measured


@dataclass
class Run:
    """generator: the averaged one, in eval mode on the CPU; folder: where it stands; stats: a dict for each tick."""

    generator: torch.nn.Module
    folder: Path
    stats: list

    @property
    def student(self):
        """The generator, where the run is a distillation."""
        return self.generator


def open_folder(folder, config, main_process=True):
    """Makes the run's folder, or checks that the run in it is the one asked for.

    Args:
        config: JSON-able dict: all that the run's outcome depends on. `kimg` may grow where the learning rate does not
            depend on it (`lr_hold` 1): a finished run goes on.

    Raises:
        InputError: another run stands there, naming what differs; or files that are not a run."""
    folder = Path(folder)
    path, config = folder / "config.json", json.loads(json.dumps(config))
    if main_process:
        sweep(folder)
    if path.exists():
        old = read_json(path)
        if not isinstance(old, dict) or "verb" not in old:
            raise InputError(f"{path} is not a run's; give another folder")
        free = {"kimg"} if old.get("lr_hold", 1) == 1 else set()
        names = [name for name in sorted({*old, *config} - free) if old.get(name) != config.get(name)]
        if differ := "; ".join(f"{name} {old.get(name)!r} -> {config.get(name)!r}" for name in names):
            raise InputError(f"{folder} holds a run under another config ({differ}); go on with the old config, give "
                             "another folder, or delete this one")  # fmt: skip
        seen = max((row.get("kimg", 0) for row in read_stats(folder)), default=0)
        if config.get("kimg", seen) < seen * 0.999:
            raise InputError(f"{folder} holds a run that has seen {seen:g} thousand images, more than kimg "
                             f"{config['kimg']:g}; ask for as many, or give another folder")  # fmt: skip
        if main_process and old != config:
            write_json(path, config)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not a run's folder; give another one")
    elif main_process:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, config)
    return folder


def rng(seed, step, device="cpu", stream=0):
    """A torch.Generator on `device` that is a function of (seed, step, stream) alone."""
    state = np.random.SeedSequence([seed, step, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class Batches:
    """Which rows make up the batch of a step: every epoch a new permutation, a function of (seed, epoch). What does not
    fill a batch at an epoch's end is left out of that epoch."""

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

    def block(self, number, period, rank, world):
        """What process `rank` of `world` takes of the `period` batches of a block: (period, batch / world) int64."""
        return torch.stack([self(step)[rank::world] for step in range(number * period, (number + 1) * period)])


def save_checkpoint(folder, state):
    """Writes tensors and numbers beside, keeps the previous checkpoint, renames.

    Raises:
        InputError: it cannot be written, e.g. because the disk is full; the last checkpoint is as it was."""
    path = Path(folder) / "checkpoint.pt"
    with writing(folder), replacing_file(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's word for a full disk
            raise OSError(str(error).splitlines()[0]) from None
        if path.exists():  # another name for the same bytes: there is no moment without a checkpoint
            with replacing_file(path.with_name("checkpoint.previous.pt")) as second:
                try:
                    os.link(path, second)
                except OSError:  # where no links are
                    shutil.copyfile(path, second)


def load_checkpoint(folder):
    """The newest checkpoint that can be read, or None in a new folder; a damaged one is named in a warning.

    Raises:
        InputError: there are checkpoints, and none can be read."""
    damaged = []
    for path in (Path(folder) / "checkpoint.pt", Path(folder) / "checkpoint.previous.pt"):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  torch raises many kinds for a damaged file
            damaged.append(f"{path} ({(str(error) or type(error).__name__).splitlines()[0][:100]})")
            continue
        if damaged:
            warnings.warn(f"{damaged[0]} is damaged; going on from {path}", stacklevel=2)
        return state
    if damaged:
        raise InputError(f"no checkpoint can be read: {'; '.join(damaged)}; delete the folder to start again")
    return None


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
    """Writes a row to stats.jsonl, and to TensorBoard where it is installed."""
    with writing(folder), open(Path(folder) / "stats.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if writer := _tensorboard(Path(folder) / "tensorboard"):
        for name, value in row.items():
            writer.add_scalar(name, value, row["step"])
        writer.flush()


@functools.cache
def _tensorboard(folder):
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder)
    except Exception:  # noqa: BLE001  TensorBoard, NumPy and protobuf that do not fit fail in many ways
        return None


def check_finite(losses, network, step, folder):
    """Stops a run whose losses or weights are no numbers any more, before a checkpoint could hold them."""
    bad = [f"loss {name}" for name, value in losses.items() if not np.isfinite(value)]
    if not bad and not torch.stack([p.isfinite().all() for p in network.parameters()]).all():
        bad = ["a weight of the generator"]
    if bad:
        raise InputError(f"{', '.join(bad)} is not finite at step {step}; {folder} holds the steps before it whole. "
                         "Lower the learning rate and start again in another folder")  # fmt: skip
