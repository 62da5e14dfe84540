"""Injects faults into pairs, trainings, networks and exports, and prints what became of each, as a table.

    python benchmarks/faults.py [--kills 20] [--flips 1000] [--seed 0] [--write docs/Training.md]

After a fault the same command is given again, and its end is compared with that of a run to which nothing happened:
every byte but times and dates, TensorBoard's file and the checkpoint before the last.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hostile
import numpy as np
import tyro
from fault_bench import LIMIT, LOSSES, VERBS, Bench, outcome, refused
from pages import check_block, main_program, markdown, write_block, written_by

import gsoc_kd as kd
from gsoc_kd import cli
from gsoc_kd.core.files import InputError
from gsoc_kd.training import runs

SAME = "the same command ends with the same bytes"
CLEAN = f"{SAME}, and leaves nothing behind"
NOT_SILENT = "the same result, or one line that names the file"


def main(kills: int = 20, flips: int = 1000, seed: int = 0, write: Path | None = None, slow: bool = True,
         steps: int = 8):  # fmt: skip
    """Prints a row for each fault; ends with exit code 1 if one was not survived. A training has so many `steps`, each
    with a checkpoint; `slow` are exports and the run in two processes."""
    if write:
        check_block(write, "faults")
    rows, every = [], []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), steps)
        for fault, happens, function, *several in faults(bench, kills, flips, random.Random(seed), slow):
            every.append([survived(function, bench, *one) for one in several])
            rows.append([fault, happens.format(bench=bench), len(several), sum(every[-1])])
    where = written_by(f"benchmarks/faults.py --kills {kills} --flips {flips} --seed {seed}", sys.platform)
    print(text := f"{markdown(['fault', 'what happens', 'tried', 'survived'], rows, left=2)}\n\n{where}")
    if write:
        write_block(write, "faults", text)
    sys.exit(not all(map(all, every)))


def faults(bench, kills, flips, rng, slow):
    """(what is done, what should happen, a function that asserts it, its arguments for each time) of every row."""
    for verb in VERBS:
        yield f"`kill -9` of `{verb}` at random moments, all before its end", CLEAN, killed, *[(verb, rng)] * kills
    for verb in (*VERBS, "export") if slow else VERBS:
        moments = every_rename(bench, bench.words(verb, bench.place("out")))
        moments = moments if verb == "export" else sorted(rng.sample(moments, min(-(-kills // 2), len(moments))))
        fault = f"`kill -9` of `{verb}` at a rename of its files"
        yield fault, CLEAN, killed_at_rename, *((verb, moment) for moment in moments)
    fault, happens = "`kill -9` at every rename of `save_network`", "the old network or the new one; then as above"
    yield fault, happens, save_killed, *((old, n) for old in (False, True) for n in save_renames(bench, old))
    for verb in VERBS:
        happens = "one does it; the other says in one line who does, or finds it done"
        yield f"`{verb}` twice at once in one folder", happens, two_at_once, *[(verb,)] * max(1, kills // 4)
    shares = {"run": flips // 8, "network": flips // 2, "pairs": flips - flips // 8 - flips // 2}  # a run takes longest
    for kind, count in shares.items():
        fault = f"one bit of a file of a {kind} flipped" if kind != "pairs" else "one bit of a file of pairs flipped"
        yield fault, NOT_SILENT, flipped, *[(kind, rng)] * count
    for verb in VERBS:
        fault = f"no file of `{verb}` may grow any more, as on a full disk, from 3 sizes on"
        sizes = [(verb, size * (10 if verb == "pairs" else 1)) for size in (100, 2_000, 20_000)]
        yield fault, f"one line and exit code 2; with room, {SAME}", full_disk, *sizes
    fault = f"a hostile file: {', '.join(hostile.FILES)}"
    happens = "one line and exit code 2, after {bench.slowest:.1f} s and with {bench.peak:.0f} MB of memory at most"
    yield fault, happens, refused_cheaply, *((make,) for make in hostile.FILES.values())
    yield "a truncated checkpoint of `distill`", "goes on from the one before, to the same bytes", damaged, (1,)
    yield "both checkpoints of `distill` truncated", "one line that names both, exit code 2", damaged, (2,)
    happens = "one line that names the field, exit code 2; the run is as it was"
    yield "another config in the folder of `distill`", happens, other_config, ()
    fault = "losses of `pretrain` and `distill` that are no numbers, from the middle on"
    happens = f"one line that names loss and step, exit code 2; the checkpoint before it stays, and {SAME}"
    yield fault, happens, not_finite, *((verb,) for verb in LOSSES)
    if slow:
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


def every_rename(bench, job):
    """The numbers of the renames of a command, or of a function, in a run of its own."""
    code, last = bench.fork(job, renames=-1)
    assert code == 0, bench.told
    return list(range(int(last)))


def killed(bench, verb, rng):
    code = 0
    while code != -signal.SIGKILL:  # a run that had ended before its moment came is not counted
        out = bench.place("out")
        code, _ = bench.run(verb, out, kill_after=rng.random() * bench.seconds[verb])
    bench.again(verb, out)


def killed_at_rename(bench, verb, moment):
    out = bench.place("out")
    code, error = bench.run(verb, out, renames=moment)
    assert code == -signal.SIGKILL, error
    if verb == "export":
        assert bench.run(verb, out)[0] == 0, bench.told
        assert sorted(p.name for p in out.iterdir()) == ["student.bin", "student.xml"], list(out.iterdir())
        assert bench.fork(lambda: kd.load_exported(out / "student.xml") is None)[0] == 0, bench.told
    else:
        bench.again(verb, out)


def save_renames(bench, old):
    out = bench.place("out")
    if old:
        bench.network(out, 1)
    return every_rename(bench, lambda: bench.network(out, 2))


def save_killed(bench, old, moment):
    out, digests = bench.place("out"), {}
    for seed in (1, 2):
        bench.network(bench.folder / f"seed-{seed}", seed)
        digests[seed] = kd.load_teacher(bench.folder / f"seed-{seed}").digest
    if old:
        bench.network(out, 1)
    assert bench.fork(lambda: bench.network(out, 2), renames=moment)[0] == -signal.SIGKILL
    assert not (old or out.exists()) or kd.load_teacher(out).digest in digests.values()
    bench.network(out, 2)
    assert kd.load_teacher(out).digest == digests[2] and [p.name for p in out.parent.iterdir()] == ["out"]


def two_at_once(bench, verb):
    out = bench.place("out")
    started = [bench.start(bench.words(verb, out)) for _ in range(2)]
    results = [bench.finish(*one) for one in started]
    assert sorted(code for code, _ in results) in ([0, 0], [0, 2]), results
    for result in results:
        if result[0]:
            refused(result, "out is being written by process")
    bench.again(verb, out)


def refused_cheaply(bench, make):
    """Memory is that of the whole process, PyTorch included."""
    out = bench.place("hostile")
    words, told = make(bench, out).split(), bench.place("peak")

    def command():
        code = cli.main(words)
        told.write_text(str(hostile.peak()), encoding="utf-8")
        return code

    start = time.perf_counter()
    refused(bench.fork(command))
    peak = int(told.read_text(encoding="utf-8")) / 1e6
    bench.slowest, bench.peak = max(bench.slowest, time.perf_counter() - start), max(bench.peak, peak)
    assert peak < 1000, f"{peak:.0f} MB"


def flipped(bench, kind, rng):
    """A copy with one other bit is read again: a run by going on for its last step."""
    original = bench.folder / {"run": "shorter", "network": "teacher", "pairs": "pairs"}[kind]
    if kind == "run" and not original.exists():
        assert bench.run("distill", original, "--kimg", f"{(bench.steps - 1) * 0.016}")[0] == 0, bench.told
    shutil.copytree(original, copy := bench.place("out"))
    every = sorted(p for p in copy.rglob("*") if p.is_file() and "tensorboard" not in p.parts)
    path = rng.choice(every)
    content, bit = bytearray(path.read_bytes()), rng.randrange(8 * path.stat().st_size)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    where = f"{path.relative_to(copy)}, bit {bit}"
    if kind == "run":
        code, error = bench.run("distill", copy)
        if code:
            refused((code, error), path.name)
        else:
            assert outcome(copy) == bench.whole["distill"] or path.name in bench.told, where
    else:
        try:
            assert same(kind, copy, original), where
        except InputError as error:
            assert path.name in str(error) and "\n" not in str(error), f"{where}: {error}"
    shutil.rmtree(copy.parent)


def same(kind, copy, original):
    """Whether a network or pairs are read as the original is."""
    if kind == "network":
        copy, original = kd.load_teacher(copy), kd.load_teacher(original)
        return (copy.digest, copy.classes) == (original.digest, original.classes)
    copy, original = kd.load_pairs(copy), kd.load_pairs(original)
    arrays = [(pairs.images, pairs.labels, pairs.latents) for pairs in (copy, original)]
    return copy.manifest == original.manifest and all(map(np.array_equal, *arrays))


def full_disk(bench, verb, size):
    out = bench.place("out")
    refused(bench.run(verb, out, limit=size))
    bench.again(verb, out)


def damaged(bench, count):
    out, names = bench.place("out"), ("checkpoint.pt", "checkpoint.previous.pt")
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
    out, step = bench.place("out"), bench.steps // 2 + 1
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
