"""What faults.py tries its faults on: a tiny teacher, pairs, images, and a run of every verb to which nothing happens.

A run is a process of its own, forked after PyTorch is loaded (not on Windows).
"""

import itertools
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time

import numpy as np
import torch
import torch._dynamo  # once, before the forks, as the modules below: the first optimiser loads it
from PIL import Image

from gsoc_kd import cli
from gsoc_kd.core import files
from gsoc_kd.core.weights import save_network
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.training import runs

make, gan, distill = (sys.modules[f"gsoc_kd.{name}"] for name in ("pairs.make", "training.gan", "training.distill"))
LOSSES = {"pretrain": (gan, "logistic_generator"), "distill": (distill, "pixel_loss")}  # one of each, once a step
VERBS = ("pairs", *LOSSES)
LIMIT = 300  # seconds after which a run is ended: one that hangs has not survived


class Bench:
    """The folder in which all happens; `whole` and `seconds`: outcome and time of each verb to which nothing does."""

    def __init__(self, folder, steps):
        torch.set_num_threads(1)  # no thread is lost in a fork
        self.folder, self.steps, self.whole, self.seconds, self.count = folder, steps, {}, {}, itertools.count()
        self.slowest = self.peak = 0.0  # seconds and MB of memory, of what hostile files took
        self.network(folder / "teacher", 0)
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

    def network(self, folder, seed):
        torch.manual_seed(seed)
        save_network(ConvGenerator(8, 3, 32, (8, 8, 8, 8), 4), folder, {"classes": ["cat", "dog", "ship"]})

    def place(self, name):
        """A new folder's path, alone in a new folder."""
        (place := self.folder / f"{next(self.count)}").mkdir()
        return place / name

    def words(self, verb, out, *more):
        kimg = f"--preset smoke --batch 16 --kimg {self.steps * 0.016} --tick-kimg 0.016 --device cpu"
        data = {"pairs": f"--teacher {self.folder}/teacher --per-class 40 --chunk 5"}
        data |= {"pretrain": f"--real {self.folder}/real {kimg}", "distill": f"--pairs {self.folder}/pairs {kimg}"}
        if verb == "export":
            return [verb, "--student", f"{self.folder}/teacher", "--path", str(out / "student.xml")]
        return [verb, *data[verb].split(), "--out", str(out), *more]

    def run(self, verb, out, *more, kill_after=LIMIT, **options):
        """Runs a command to its end: exit code, and the last line of its stderr, of which `told` keeps all. `options`
        are those of `forked`."""
        return self.fork(self.words(verb, out, *more), kill_after, **options)

    def fork(self, job, kill_after=LIMIT, **options):
        """The same for words, or for a function without arguments."""
        return self.finish(*self.start(job, **options), kill_after)

    def start(self, job, **options):
        reading, writing = os.pipe()
        process = multiprocessing.get_context("fork").Process(target=forked, args=[job, writing], kwargs=options)
        process.start()
        os.close(writing)
        return process, reading

    def finish(self, process, reading, kill_after=LIMIT):
        timer = threading.Timer(kill_after, process.kill)
        timer.start()
        with open(reading, encoding="utf-8", errors="replace") as file:
            self.told = file.read().strip()
        process.join()
        timer.cancel()
        timer.join()  # a fork must not meet it
        return process.exitcode, self.told.rpartition("\n")[2]

    def again(self, verb, out):
        """The same command, given again, must end as if nothing had happened, and leave nothing beside."""
        code, error = self.run(verb, out)
        assert code == 0 and outcome(out) == self.whole[verb], error
        left = [p.name for p in (*out.parent.glob(f".{out.name}*"), *out.parent.glob(f"{out.name}.*"), *out.glob(".*"))]
        assert not left, left


def forked(job, told, limit=None, nan_from=None, renames=None):
    """Runs a command, or a function, in this process, its stderr in the file descriptor `told`. No file may grow beyond
    `limit` bytes; from step `nan_from` on a loss is no number; `renames`: killed at that rename, counted from 0, or for
    -1, told how many there are."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(told, 2)
    runs.NORM_BATCHES, make.SAVE_EVERY = (1, 16), 0.0
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if nan_from:
        module, name = LOSSES[job[0]]
        loss, calls = getattr(module, name), itertools.count(1)
        setattr(module, name, lambda *args: loss(*args) * (1.0 if next(calls) < nan_from else float("nan")))
    if renames is not None:
        count = itertools.count()
        for module, name in ((os, "replace"), (os, "rename"), (files, "_exchange")):
            setattr(module, name, killed_at(getattr(module, name), count, renames))
    code = cli.main(job) if isinstance(job, list) else job()
    if renames == -1:
        print(f"\n{next(count)}", file=sys.stderr, flush=True)
    sys.exit(code or 0)


def killed_at(rename, count, moment):
    def call(*given, **options):
        if next(count) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*given, **options)

    return call


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
            found[name] = files.sha256(path)
    return found


def refused(result, *words):
    """A run must have ended with one clear error, in which these words stand."""
    assert result[0] == 2 and all(word in result[1] for word in ("gsoc-kd: error: ", *words)), result
