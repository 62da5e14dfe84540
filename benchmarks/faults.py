"""Injects faults into pairs, pretraining and distillation, and prints what became of each, as a table.

    python benchmarks/faults.py [--kills 20] [--seed 0] [--write docs/Training.md]

A run is a process of its own, forked after PyTorch is loaded (not on Windows). After a fault the same command is given
again, and its end is compared with that of a run to which nothing happened: every byte but times and dates,
TensorBoard's file and the checkpoint before the last.
"""

import itertools
import multiprocessing
import os
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
import torch._dynamo  # once, before the forks, as the modules below: the first optimiser loads it
import tyro
from pages import check_block, main_program, markdown, write_block, written_by
from PIL import Image

from gsoc_kd import cli
from gsoc_kd.core.files import sha256
from gsoc_kd.core.weights import save_network
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.training import runs

make, gan, distill = (sys.modules[f"gsoc_kd.{name}"] for name in ("pairs.make", "training.gan", "training.distill"))
LOSSES = {"pretrain": (gan, "logistic_generator"), "distill": (distill, "pixel_loss")}  # one of each, once a step
VERBS = ("pairs", *LOSSES)
LIMIT = 300  # seconds after which a run is ended: one that hangs has not survived
SAME = "the same command ends with the same bytes"


def main(kills: int = 20, seed: int = 0, write: Path | None = None, two: bool = True, steps: int = 8):
    """Prints a row for each fault; ends with exit code 1 if one was not survived. A training has so many `steps`, each
    with a checkpoint; `two` is the run in two processes."""
    if write:
        check_block(write, "faults")
    rows, every = [], []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), steps)
        for fault, happens, function, *several in faults(kills, random.Random(seed), two):
            every.append([survived(function, bench, *one) for one in several])
            rows.append([fault, happens, f"{sum(every[-1])} of {len(several)}"])
    where = written_by(f"benchmarks/faults.py --kills {kills} --seed {seed}", sys.platform)
    print(text := f"{markdown(['fault', 'what happens', 'survived'], rows, left=3)}\n\n{where}")
    if write:
        write_block(write, "faults", text)
    sys.exit(not all(map(all, every)))


def faults(kills, rng, two):
    """(what is done, what should happen, a function that asserts it, its arguments for each time) of every row."""
    for verb in VERBS:
        fault = f"`kill -9` of `{verb}` at {kills} random moments, all before its end"
        yield fault, f"{SAME}, and leaves nothing behind", killed, *[(verb, rng)] * kills
    for verb in VERBS:
        fault = f"no file of `{verb}` may grow any more, as on a full disk, from 3 sizes on"
        sizes = [(verb, size * (10 if verb == "pairs" else 1)) for size in (100, 2_000, 20_000)]
        yield fault, f"one line and exit code 2; with room, {SAME}", full_disk, *sizes
    yield "a truncated checkpoint of `distill`", "goes on from the one before, to the same bytes", damaged, (1,)
    yield "both checkpoints of `distill` truncated", "one line that names both, exit code 2", damaged, (2,)
    happens = "one line that names the field, exit code 2; the run is as it was"
    yield "another config in the folder of `distill`", happens, other_config, ()
    fault = "losses of `pretrain` and `distill` that are no numbers, from the middle on"
    happens = f"one line that names loss and step, exit code 2; the checkpoint before it stays, and {SAME}"
    yield fault, happens, not_finite, *((verb,) for verb in LOSSES)
    if two:
        fault = "`distill` in two processes (accelerate, started by `torchrun`), one killed"
        yield fault, f"`torchrun` ends the other; {SAME}, from the checkpoint on", one_of_two_killed, ()


def survived(function, *inputs):
    """Whether all that `function` asserts is so."""
    try:
        function(*inputs)
        return True
    except (AssertionError, subprocess.TimeoutExpired) as error:
        print(f"NOT SURVIVED: {function.__name__} {inputs[1:]}: {error}", file=sys.stderr)
        return False


class Bench:
    """A tiny teacher, pairs and images, and the run of every verb to which nothing happens."""

    def __init__(self, folder, steps):
        torch.set_num_threads(1)  # no thread is lost in a fork
        self.folder, self.steps, self.whole, self.seconds = folder, steps, {}, {}
        torch.manual_seed(0)
        save_network(ConvGenerator(8, 3, 32, (8, 8, 8, 8), 4), folder / "teacher")
        for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)):
            (folder / "real" / "cds"[i % 3]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / "real" / "cds"[i % 3] / f"{i}.png")
        for verb, out in itertools.product(VERBS, ("-first", "")):  # the first is slower
            start = time.perf_counter()
            code, error = self.run(verb, folder / (verb + out))
            self.seconds[verb] = time.perf_counter() - start
            found = outcome(folder / (verb + out))
            if code or self.whole.setdefault(verb, found) != found:
                raise SystemExit(f"{verb} does not run, or does not end alike twice: {error}")

    def words(self, verb, out, *more):
        kimg = f"--preset smoke --batch 16 --kimg {self.steps * 0.016} --tick-kimg 0.016 --device cpu"
        data = {"pairs": f"--teacher {self.folder}/teacher --per-class 40 --chunk 5"}
        data |= {"pretrain": f"--real {self.folder}/real {kimg}", "distill": f"--pairs {self.folder}/pairs {kimg}"}
        return [verb, *data[verb].split(), "--out", str(out), *more]

    def run(self, verb, out, *more, kill_after=LIMIT, **options):
        """Runs a command to its end: exit code, and the last line of its stderr. `options` are those of `forked`."""
        reading, writing = os.pipe()
        given = [self.words(verb, out, *more), writing]
        process = multiprocessing.get_context("fork").Process(target=forked, args=given, kwargs=options)
        process.start()
        os.close(writing)
        timer = threading.Timer(kill_after, process.kill)
        timer.start()
        with open(reading, encoding="utf-8", errors="replace") as file:
            last = file.read().strip().rpartition("\n")[2]
        process.join()
        timer.cancel()
        timer.join()  # a fork must not meet it
        return process.exitcode, last

    def again(self, verb, out):
        """The same command, given again, must end as if nothing had happened."""
        code, error = self.run(verb, out)
        assert code == 0 and outcome(out) == self.whole[verb], error


def forked(words, told, limit=None, nan_from=None):
    """Runs a command in this process, its stderr in the file descriptor `told`. No file may grow beyond `limit` bytes;
    from step `nan_from` on a loss is no number."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(told, 2)
    runs.NORM_BATCHES, make.SAVE_EVERY = (1, 16), 0.0
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if nan_from:
        module, name = LOSSES[words[0]]
        loss, calls = getattr(module, name), itertools.count(1)
        setattr(module, name, lambda *args: loss(*args) * (1.0 if next(calls) < nan_from else float("nan")))
    sys.exit(cli.main(words))


def outcome(folder):
    """{file: what is in it} of what a run left, without times and dates, and without the checkpoint before the last."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts):
        name = str(path.relative_to(folder))
        if name == "stats.jsonl":
            found[name] = [{k: v for k, v in row.items() if "second" not in k} for row in runs.read_stats(folder)]
        elif name == "checkpoint.pt":
            state = torch.load(path, weights_only=True)
            found[name] = torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.tolist, state)
        elif not name.endswith(("provenance.json", "checkpoint.previous.pt")):
            found[name] = sha256(path)
    return found


def refused(result, *words):
    """A run must have ended with one clear error, in which these words stand."""
    assert result[0] == 2 and all(word in result[1] for word in ("gsoc-kd: error: ", *words)), result


def killed(bench, verb, rng):
    code = 0
    while code != -signal.SIGKILL:  # a run that had ended before its moment came is not counted
        out = bench.folder / f"{verb}-killed-{rng.random()}"
        code, _ = bench.run(verb, out, kill_after=rng.random() * bench.seconds[verb])
    bench.again(verb, out)
    assert not list(bench.folder.glob(f"{out.name}.*"))


def full_disk(bench, verb, size):
    out = bench.folder / f"{verb}-full-{size}"
    refused(bench.run(verb, out, limit=size))
    bench.again(verb, out)


def damaged(bench, count):
    out, names = bench.folder / f"damaged-{count}", ("checkpoint.pt", "checkpoint.previous.pt")
    bench.run("distill", out)
    for name in names[:count]:
        os.truncate(out / name, (out / name).stat().st_size // 2)
    if count == 1:
        bench.again("distill", out)
    else:
        refused(bench.run("distill", out), *names)


def other_config(bench):
    refused(bench.run("distill", bench.folder / "distill", "--lr", "0.1"), "lr 0.0005 -> 0.1")
    assert outcome(bench.folder / "distill") == bench.whole["distill"]


def not_finite(bench, verb):
    out, step = bench.folder / f"{verb}-nan", bench.steps // 2 + 1
    refused(bench.run(verb, out, nan_from=step), f"not finite at step {step}")
    assert runs.load_checkpoint(out)["step"] == step - 1
    bench.again(verb, out)


def one_of_two_killed(bench):
    out, whole = bench.folder / "two", bench.folder / "two-whole"
    code = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    told = dict(env=code, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    torchrun = [sys.executable, *"-m torch.distributed.run --standalone --nproc-per-node 2 -m gsoc_kd".split()]
    command = [*torchrun, *bench.words("distill", out)]
    subprocess.run([*torchrun, *bench.words("distill", whole)], timeout=LIMIT, **told)
    process, end = subprocess.Popen(command, **told), time.perf_counter() + LIMIT
    while not (out / "checkpoint.pt").exists() and process.poll() is None and time.perf_counter() < end:
        time.sleep(0.02)
    for worker in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[-1:]:
        os.kill(int(worker), signal.SIGKILL)
    error = process.communicate(timeout=LIMIT)[1]
    assert process.returncode != 0 and 0 < runs.load_checkpoint(out)["step"] < bench.steps, error[-500:]
    again = subprocess.run(command, timeout=LIMIT, **told)
    assert again.returncode == 0 and outcome(out) == outcome(whole), again.stderr[-500:]


if __name__ == "__main__":
    main_program(tyro.cli, main)
