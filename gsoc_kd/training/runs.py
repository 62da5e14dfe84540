"""A run's folder: config, checkpoints, exact resume, statistics and animation (docs/Training.md).

config.json               what was asked for; a run never resumes under another config
checkpoint.pt             tensors and numbers to continue from; checkpoint.previous.pt is the one before
stats.jsonl               a line for each tick: images seen, losses, images per second; tensorboard/ too, if installed
animation/0000012.png     a grid of the averaged generator's images for each tick; animation.gif at the end
generator/                the averaged generator: config.json, model.safetensors, provenance.json

Each carries a checksum, which is compared when it is read: JSON files and the lines of stats.jsonl as `checksum`, a
checkpoint as its zip file's comment, an image in its parts. A checkpoint holds the statistics up to it as well.
"""

import functools
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.checks import InputWarning
from ..core.files import (
    InputError,
    checked,
    contents,
    read_json,
    real,
    replacing_file,
    sweep,
    with_checksum,
    write_json,
    writing,
)

LONGEST = 1 << 26  # bytes of stats.jsonl
SEAL = b"sha256 "  # how a checkpoint's last bytes begin; 64 hex digits of all before them follow
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


def open_folder(folder, config, main_process=True, steps=None, most=None):
    """Makes the run's folder, or checks that the run in it is the one asked for.

    Args:
        config: JSON-able dict: all that the run's outcome depends on. `kimg` may grow where the learning rate does not
            depend on it (`lr_hold` 1): a finished run goes on. It may fall only to what has been done.
        steps: of the whole run, as asked for now. most: bytes of its checkpoints, see `load_checkpoint`.

    Raises:
        InputError: another run stands there, naming what differs; or files that are not a run."""
    folder = Path(folder)
    path, config = folder / "config.json", json.loads(json.dumps(config))
    if main_process:
        sweep(folder)
    if path.exists():
        old = read_json(path, check=True)
        if "verb" not in old:
            raise InputError(f"{path} is not a run's; give another folder")
        free = {"kimg"} if old.get("lr_hold", 1) == 1 else set()
        names = [name for name in sorted({*old, *config} - free) if old.get(name) != config.get(name)]
        if differ := "; ".join(f"{name} {old.get(name)!r} -> {config.get(name)!r}" for name in names):
            raise InputError(f"{folder} holds a run under another config ({differ}); go on with the old config, give "
                             "another folder, or delete this one")  # fmt: skip
        state = load_checkpoint(folder, most=most) if steps and config["kimg"] < old["kimg"] else None
        if state and state["step"] > steps:
            raise InputError(f"{folder} holds a run that has seen {state['stats'][-1]['kimg']:g} thousand images, more "
                             f"than kimg {config['kimg']:g}; ask for as many, or give another folder")  # fmt: skip
        if main_process and old != config:
            write_json(path, config, check=True)
    elif folder.exists() and (not folder.is_dir() or contents(folder)):
        raise InputError(f"{folder} exists and is not a run's folder; give another one")
    elif main_process:
        with writing(folder):
            real(folder).mkdir(parents=True, exist_ok=True)
            write_json(path, config, check=True)
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
    """Writes tensors and numbers beside, keeps the previous checkpoint, renames. `stats`, rows of statistics, is a part
    of its own: with their times they would make equal checkpoints differ.

    Raises:
        InputError: it cannot be written, e.g. because the disk is full; the last checkpoint is as it was."""
    path, stats = Path(folder) / "checkpoint.pt", state.get("stats", [])
    with replacing_file(path) as temporary:
        try:
            torch.save({name: part for name, part in state.items() if name != "stats"}, temporary)
        except RuntimeError as error:  # torch's word for a full disk
            raise OSError(str(error).splitlines()[0]) from None
        _seal(temporary, stats)
        if path.is_file():  # another name for the same bytes: there is no moment without a checkpoint
            with replacing_file(path.with_name("checkpoint.previous.pt")) as second:
                try:
                    os.link(path, second)
                except OSError:  # where no links are
                    shutil.copyfile(path, second)


def _seal(path, stats):
    """Adds to torch's zip file the statistics, and as its comment, which is its end, the sha256 of all before it."""
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]  # torch takes one folder only
        archive.writestr(f"{root}/stats.json", json.dumps(stats))
        archive.comment = SEAL + bytes(64)
    with open(path, "r+b") as file:
        content = file.read()[: -len(archive.comment)]
        file.seek(len(content))
        file.write(SEAL + hashlib.sha256(content).hexdigest().encode())


def load_checkpoint(folder, use=None, most=None):
    """The newest checkpoint that is whole, of at most so many bytes, and that `use`, called with it, takes, with its
    `stats`; None in a new folder. A damaged one is named in a warning.

    Raises:
        InputError: there are checkpoints, and none can be used."""
    damaged = []
    for path in (Path(folder) / "checkpoint.pt", Path(folder) / "checkpoint.previous.pt"):
        try:
            state = _unsealed(path, most)
            if use:
                use(state)
        except FileNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  torch raises many kinds for a damaged file, or one that does not fit
            damaged.append(f"{path} ({' '.join((str(error) or type(error).__name__).split())[:200]})")
            continue
        if damaged:
            warnings.warn(f"{damaged[0]} is damaged; going on from {path}", InputWarning, stacklevel=2)
        return state
    if damaged:
        raise InputError(f"no checkpoint can be read: {'; '.join(damaged)}; delete the folder to start again")
    return None


def _unsealed(path, most=None):
    """What a checkpoint holds, tensors on the CPU; any kind of exception if it is not as `save_checkpoint` left it."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    if most and path.stat().st_size > most:
        raise ValueError(f"it has more than {most:,} bytes, which this run's networks need at most")
    content = path.read_bytes()
    whole, seal = memoryview(content)[: -len(SEAL) - 64], content[-len(SEAL) - 64 :]
    if seal != SEAL + hashlib.sha256(whole).hexdigest().encode():
        raise ValueError("its sha256 is missing or differs")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("its parts are compressed")
        stats = json.loads(archive.read(archive.namelist()[-1]))
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if type(state) is not dict or type(state.get("step")) is not int or type(stats) is not list:
        raise ValueError("it has no step or no stats")
    return {**state, "stats": stats}


def read_stats(folder):
    """The rows of stats.jsonl, dicts. A last line that is torn, as a killed process leaves it, is left out.

    Raises:
        InputError: another line is damaged; it is named."""
    path, rows = Path(folder) / "stats.jsonl", []
    if path.is_file() and path.stat().st_size > LONGEST:
        raise InputError(f"{path} has more than {LONGEST:,} bytes; resuming the run writes it anew")
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    lines = lines if re.search(rb'"checksum": "\w{16}"}', lines[-1]) else lines[:-1]
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            rows.append(checked(json.loads(line), where))
        except (ValueError, RecursionError) as error:
            told = error if isinstance(error, InputError) else f"{where} is damaged ({error})"
            raise InputError(f"{told}; resuming the run writes it anew") from None
    return rows


def write_stats(folder, rows):
    """Makes stats.jsonl hold `rows`, those of the checkpoint that the run goes on from, and warns if it was damaged."""
    path, text = Path(folder) / "stats.jsonl", "".join(map(_line, rows))
    if not rows and not path.exists():
        return
    try:
        read_stats(folder)
    except InputError as error:
        warnings.warn(f"{error}: done", InputWarning, stacklevel=2)
    if not path.is_file() or path.stat().st_size != len(text) or path.read_bytes() != text.encode():
        with replacing_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def append_stats(folder, row):
    """Writes a row to stats.jsonl, and to TensorBoard where it is installed."""
    with writing(folder), open(Path(folder) / "stats.jsonl", "a", encoding="utf-8") as file:
        file.write(_line(row))
    if writer := _tensorboard(Path(folder) / "tensorboard"):
        for name, value in row.items():
            if isinstance(value, int | float):  # on_tick may have added anything
                writer.add_scalar(name, value, row["step"])
        writer.close()  # it opens a file again when the next row comes


def _line(row):
    return json.dumps(with_checksum(row)) + "\n"


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
