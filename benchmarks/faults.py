"""Injects faults into pairs, pretraining and distillation, and prints what became of each, as a table.

    python benchmarks/faults.py [--kills 20] [--seed 0] [--write docs/Training.md]

Everything is as small as tests are. A run is a process of its own, forked after PyTorch is loaded (not on Windows), and
goes through the command line. After a fault the same command is given again, and its end is compared with that of a run
to which nothing happened: every byte but times and dates, TensorBoard's file and the checkpoint before the last.
"""

import datetime
import importlib
import itertools
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from gsoc_kd import cli
from gsoc_kd.core.files import sha256
from gsoc_kd.core.weights import save_network
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.training import runs
from gsoc_kd.training.gan import averaged

for name in (
    "gsoc_kd.pairs.make",
    "gsoc_kd.training.gan",
    "gsoc_kd.training.distill",
    "torch._dynamo",
):  # once, before the forks;
    importlib.import_module(name)  # the last is what the first optimiser loads
TIMES = {"seconds", "pairs_per_second", "images_per_second"}
VERBS = ("pairs", "pretrain", "distill")
LOSSES = {"pretrain": "logistic_generator", "distill": "pixel_loss"}  # what is made no number, once a step
LIMIT = 300  # seconds after which a run is ended: one that hangs has not survived


def main(kills: int = 20, seed: int = 0, write: Path | None = None, two: bool = True, steps: int = 8):
    """Prints a row a fault; ends with exit code 1 if one of them was not survived.

    Args:
        kills: so many times each of the three verbs is killed, at random moments.
        seed: of the moments.
        write: a page whose block between the markers `faults` is replaced by the table.
        two: with the run in two processes, one of them killed.
        steps: of a training; each ends with a checkpoint.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), steps)
        rows = [killed(bench, verb, kills, random.Random(seed)) for verb in VERBS]
        rows += [full_disk(bench, verb) for verb in VERBS]
        rows += [damaged(bench, 1), damaged(bench, 2), other_config(bench), not_finite(bench)]
        rows += [one_of_two_killed(bench)] if two else []
    text = "\n".join(
        [
            "| fault | what happens | survived |",
            "|---|---|---|",
            *(f"| {fault} | {told} | {good} of {count} |" for fault, told, good, count in rows),
            "",
            f"Written by `benchmarks/faults.py --kills {kills} --seed {seed}`, PyTorch "
            f"{torch.__version__.split('+')[0]}, {sys.platform}, {os.cpu_count()} CPU cores ({platform.machine()}), "
            f"{datetime.date.today().isoformat()}.",
        ]
    )
    print(text)
    if write:
        before, rest = write.read_text(encoding="utf-8").split("<!-- faults -->\n")
        write.write_text(
            f"{before}<!-- faults -->\n{text}\n<!-- /faults -->{rest.split('<!-- /faults -->')[1]}", encoding="utf-8"
        )
    sys.exit(any(good < count for _, _, good, count in rows))


# ---------------------------------------------------------------- runs


class Bench:
    """A tiny teacher, pairs and pictures, and the run of every verb to which nothing happens."""

    def __init__(self, folder, steps):
        torch.set_num_threads(1)  # no thread is lost in a fork
        self.folder, self.steps = folder, steps
        torch.manual_seed(0)
        save_network(ConvGenerator(8, 3, 32, (8, 8, 8, 8), 4), folder / "teacher")
        rng = np.random.default_rng(0)
        for name in ("cat", "dog", "ship"):
            (folder / "real" / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "real" / name / f"{i}.png")
        self.whole, self.seconds = {}, {}
        for verb in VERBS:
            for out in (self.folder / f"{verb}-first", self.folder / verb):  # the first is slower
                start = time.perf_counter()
                code, error = self.run(verb, out)
                self.seconds[verb] = time.perf_counter() - start
                if code:
                    raise SystemExit(f"{verb} does not run: {error}")
            self.whole[verb] = outcome(out)
            if outcome(self.folder / f"{verb}-first") != self.whole[verb]:
                raise SystemExit(f"two runs of {verb} to which nothing happens differ")

    def words(self, verb, out, *more):
        kimg = [
            "--preset",
            "smoke",
            "--batch",
            16,
            "--kimg",
            self.steps * 0.016,
            "--tick-kimg",
            0.016,
            "--device",
            "cpu",
        ]
        flags = {
            "pairs": ["--teacher", self.folder / "teacher", "--per-class", 40, "--chunk", 5],
            "pretrain": ["--real", self.folder / "real", *kimg],
            "distill": ["--pairs", self.folder / "pairs", *kimg],
        }[verb]
        return [str(word) for word in (verb, *flags, "--out", out, *more)]

    def start(self, verb, out, *more, told=None, limit=None, nan_from=None):
        """The process id of a command that runs in a fork.

        told: a file descriptor for its stderr. limit: no file may grow beyond so many bytes. nan_from: from this step on
        a loss is no number.
        """
        words = self.words(verb, out, *more)
        if process := os.fork():
            return process
        code = 1
        try:
            signal.alarm(LIMIT)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet if told is None else told, 2)
            torch.set_num_threads(1)
            averaged.__defaults__ = (1, 16)  # batch norm is measured on 16 pictures, not on 1,024
            importlib.import_module("gsoc_kd.pairs.make").SAVE_EVERY = 0.0
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            if nan_from is not None:
                spoil(importlib.import_module(f"gsoc_kd.{verb}"), LOSSES[verb], nan_from)
            code = cli.main(words)
            sys.stderr.flush()
        finally:
            os._exit(code)

    def run(self, verb, out, *more, **faults):
        """Runs a command to its end: exit code, and the last line of its stderr."""
        reading, writing = os.pipe()
        process = self.start(verb, out, *more, told=writing, **faults)
        os.close(writing)
        with open(reading, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        _, status = os.waitpid(process, 0)
        return os.waitstatus_to_exitcode(status), next((line for line in reversed(lines) if line.strip()), "")


def spoil(module, name, first):
    """Makes a loss of the module no number from its call number `first` on."""
    loss, calls = getattr(module, name), itertools.count(1)
    setattr(module, name, lambda *args: loss(*args) * (1.0 if next(calls) < first else float("nan")))


def outcome(folder):
    """{file: its hash} of what a run left, without times and dates, and without the checkpoint before the last."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts):
        name = str(path.relative_to(folder))
        if name == "stats.jsonl":
            found[name] = [{k: v for k, v in row.items() if k not in TIMES} for row in runs.read_stats(folder)]
        elif name == "checkpoint.pt":
            state = torch.load(path, weights_only=True)
            found[name] = plain(state)
        elif not name.endswith(("provenance.json", "checkpoint.previous.pt")):
            found[name] = sha256(path)
    return found


def plain(state):
    """A checkpoint with lists for tensors."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return state.tolist() if hasattr(state, "tolist") else state


def refused(code, line):
    """Whether a run ended with one clear error."""
    return code == 2 and "gsoc-kd: error: " in line


# ---------------------------------------------------------------- faults: (fault, what happens, survived, of how many)


def killed(bench, verb, count, rng):
    good, hits, tries = 0, 0, 0
    while hits < count:  # a run that had ended before its moment came is not counted
        tries += 1
        if tries > 10 * count:
            raise SystemExit(f"{verb} ends before it can be killed")
        out = bench.folder / f"{verb}-killed-{tries}"
        process = bench.start(verb, out)
        time.sleep(rng.random() * bench.seconds[verb])
        os.kill(process, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != -signal.SIGKILL:
            continue
        hits += 1
        code, error = bench.run(verb, out)
        whole = code == 0 and outcome(out) == bench.whole[verb] and not list(bench.folder.glob(f"{out.name}.*"))
        good += survived(f"{verb}, kill {hits}: {error}", whole)
    return (
        f"`kill -9` of `{verb}` at {count} random moments, all before its end",
        "the same command ends with the same bytes, and leaves nothing behind",
        good,
        count,
    )


def full_disk(bench, verb):
    good, sizes = 0, {"pairs": (300, 4_000, 200_000)}.get(verb, (100, 2_000, 20_000))
    for i, size in enumerate(sizes):
        out = bench.folder / f"{verb}-full-{i}"
        code, error = bench.run(verb, out, limit=size)
        again, _ = bench.run(verb, out)
        good += survived(
            f"{verb}, full at {size}: {code} {error}",
            refused(code, error) and again == 0 and outcome(out) == bench.whole[verb],
        )
    return (
        f"no file of `{verb}` may grow any more, as on a full disk, from {len(sizes)} sizes on",
        "one line and exit code 2; with room, the same command ends with the same bytes",
        good,
        len(sizes),
    )


def damaged(bench, count):
    """Cuts the newest checkpoint in half, or both."""
    out = bench.folder / f"damaged-{count}"
    bench.run("distill", out)
    for name in ("checkpoint.pt", "checkpoint.previous.pt")[:count]:
        os.truncate(out / name, (out / name).stat().st_size // 2)
    code, error = bench.run("distill", out)
    if count == 1:
        return (
            "a truncated checkpoint of `distill`",
            "a warning; goes on from the one before, to the same bytes",
            survived(f"damaged: {error}", code == 0 and outcome(out) == bench.whole["distill"]),
            1,
        )
    return (
        "both checkpoints of `distill` truncated",
        "one line that names both, exit code 2",
        survived(f"damaged: {error}", refused(code, error) and "checkpoint.previous.pt" in error),
        1,
    )


def other_config(bench):
    code, error = bench.run("distill", bench.folder / "distill", "--lr", "0.1")
    good = refused(code, error) and "lr 0.0005 -> 0.1" in error
    good = good and outcome(bench.folder / "distill") == bench.whole["distill"]
    return (
        "another config in the folder of `distill`",
        "one line that names the field, exit code 2; the run is as it was",
        survived(f"config: {error}", good),
        1,
    )


def not_finite(bench):
    good, step = 0, bench.steps // 2 + 1
    for verb in LOSSES:
        out = bench.folder / f"{verb}-nan"
        code, error = bench.run(verb, out, nan_from=step)
        before = runs.load_checkpoint(out)["step"]
        again, _ = bench.run(verb, out)
        good += survived(
            f"{verb}, nan: {before} {code} {error}",
            before == step - 1
            and again == 0
            and refused(code, error)
            and f"not finite at step {step}" in error
            and outcome(out) == bench.whole[verb],
        )
    return (
        "losses of `pretrain` and `distill` that are no numbers, from the middle on",
        "one line that names loss and step, exit code 2; the checkpoint before it stays, and goes on to the same bytes",
        good,
        len(LOSSES),
    )


def one_of_two_killed(bench):
    out, whole = bench.folder / "two", bench.folder / "two-whole"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    told = dict(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def command(folder):
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "gsoc_kd",
            *bench.words("distill", folder),
        ]

    subprocess.run(command(whole), timeout=LIMIT, **told)
    process = subprocess.Popen(command(out), **told)
    timer = threading.Timer(LIMIT, process.terminate)  # it ends its workers then
    timer.start()
    while not (out / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is None:
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
    error = process.communicate()[1]
    timer.cancel()
    before = runs.load_checkpoint(out)["step"] if (out / "checkpoint.pt").exists() else 0
    again = subprocess.run(command(out), timeout=LIMIT, **told)
    good = process.returncode != 0 and 0 < before < bench.steps and again.returncode == 0
    good = good and outcome(out) == outcome(whole) and len(runs.read_stats(out)) == bench.steps
    return (
        "`distill` in two processes (accelerate, started by `torchrun`), one killed",
        "`torchrun` ends the other; the same command goes on from the checkpoint, to the same bytes",
        survived(f"two: killed at {before} {error[-500:]} {again.stderr[-500:]}", good),
        1,
    )


def survived(what, good):
    if not good:
        print(f"NOT SURVIVED: {what}", file=sys.stderr)
    return int(good)


if __name__ == "__main__":
    tyro.cli(main)
