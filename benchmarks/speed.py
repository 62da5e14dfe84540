"""Every speed that a page states, each beside something else in the same run.

    python benchmarks/speed.py training --peer CODE_OF_2022 --before CHECKOUT
    python benchmarks/speed.py generators --peer CODE_OF_2022
    python benchmarks/speed.py stylegan2 --official CODE_OF_NVLABS
    python benchmarks/speed.py captured --device cuda
    ... --write                                                puts what is printed into its page, too

All take turns, so that whatever else the machine does meets each of them; figures are medians of the rounds. Checkouts
are ThanosM97/gsoc2022-openvino at ef0124f (the file that it decodes for each pair is left out), this project at an
earlier commit, and NVlabs/stylegan2-ada-pytorch at d72cc7d; what is not given is left out. Trainings see noise.
"""

import functools
import itertools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from pages import check_block, main_program, markdown, write_block, written_by
from peer import Original, load_code
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import gsoc_kd as kd
from gsoc_kd.core.checks import fast_bfloat16
from gsoc_kd.data.images import LabelledImages, to_uint8
from gsoc_kd.evaluation.table import cost
from gsoc_kd.evaluation.timing import in_turn
from gsoc_kd.networks import DiStyleGANGenerator, StyleGAN2Generator
from gsoc_kd.networks.stylegan2 import from_official
from gsoc_kd.pairs import draw_latents, save_pairs
from gsoc_kd.teachers import Teacher
from gsoc_kd.training import loop
from gsoc_kd.training.blocks import Blocks, CudaGraph
from gsoc_kd.training.distill import DistillTask
from gsoc_kd.training.gan import GanTask

WORKER = r"""  # pairs a second of a training, and the peak of its memory in MB
import json, pathlib, re, sys, tempfile
import numpy as np
import gsoc_kd as kd
try:
    from gsoc_kd.data.images import LabelledImages
except ImportError:  # before the stage folders
    from gsoc_kd.images import LabelledImages
folder, preset, kimg, precision = sys.argv[1:]
pairs = kd.load_pairs(folder + "/pairs")
real = LabelledImages(np.load(folder + "/real.npy"), pairs.labels, pairs.classes, "noise") if "2022" in preset else None
for share in (0.1, 1):  # the first warms up
    length = dict(kimg=share * float(kimg), tick_kimg=share * float(kimg))
    config = kd.DistillConfig.preset(preset, **length, bfloat16=precision == "bfloat16")
    run = kd.distill(pairs, config, tempfile.mkdtemp(dir=folder), real, "cpu")
status = pathlib.Path("/proc/self/status")
peak = re.findall(r"VmHWM:\s+(\d+)", status.read_text()) if status.is_file() else [0]
print(json.dumps([run.stats[-1]["pairs_per_second"], int(peak[0]) / 1000]))
"""


def training(peer: Path | None = None, before: Path | None = None, pairs: int = 50_000, rounds: int = 5,
             presets: tuple[str, ...] = ("laptop", "distylegan-2022"), steps: tuple[int, ...] = (100, 10)):  # fmt: skip
    """Pairs/s and, on Linux, peak memory of `distill` on the CPU; a round of each preset has so many steps."""
    folders, rows = {"now": Path(kd.__file__).parents[1]} | ({"before": before.resolve()} if before else {}), []
    checkouts = {name: {**os.environ, "PYTHONPATH": str(folder)} for name, folder in folders.items()}
    alike, original = (Original(peer).compare_losses(), Original(peer)) if peer else ("", None)
    with tempfile.TemporaryDirectory() as folder:
        noise(Path(folder), pairs)
        for (preset, count), precision in itertools.product(zip(presets, steps), ("float32", "bfloat16")):
            found, kimg = [], str(count * kd.DistillConfig.preset(preset).batch / 1000)
            command = [sys.executable, "-c", WORKER, folder, preset, kimg, precision]
            for _ in range(rounds):
                told = {name: subprocess.check_output(command, env=code) for name, code in checkouts.items()}
                found.append({name: json.loads(lines.splitlines()[-1]) for name, lines in told.items()})
                if original and preset == "distylegan-2022":
                    found[-1]["original"] = original.rate(count), 0
            rates, peaks = ({name: median(one[name][i] for one in found) for name in found[0]} for i in (0, 1))
            row = [f"`{preset}`, {precision}", f"{rates['now']:.1f}"]
            for name in ("before", "original"):
                row += [f"{rates[name]:.1f}", f"{rates['now'] / rates[name]:.2f}"] if name in rates else ["–", "–"]
            rows.append([*row, *(f"{peaks.get(name, 0):,.0f}" for name in ("now", "before"))])
    yield markdown(["pairs/s", "now", "before", "ratio", "original", "ratio", "peak MB now", "before"], rows)
    yield f"{pairs:,} pairs, as many real images for 2022's recipe; {rounds} rounds of {steps} steps. {alike}"


def noise(folder, count):
    """Pairs of noise and as many real images, also in files: (Pairs, LabelledImages)."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count) % 10
    pairs = save_pairs(x, y, rng.standard_normal((count, 512), np.float32).astype(np.float16), folder / "pairs")
    np.save(folder / "real.npy", x[::-1])
    return pairs, LabelledImages(x[::-1].copy(), y, pairs.classes, "noise")


def generators(peer: Path | None = None, student: str = "embedded", rounds: int = 9, seconds: float = 0.5,
               scores: bool = True):  # fmt: skip
    """Images/s, as uint8, of the bundled networks and of the student's OpenVINO files (with their scores), beside the
    generator of 2022, in its own code if there is `peer`. A turn lasts `seconds` at least."""
    network, base = kd.load_student(student), "2022 generator, PyTorch eager"
    boxes, times, sizes, rows = {base: kd.black_box(DiStyleGANGenerator())}, {}, [], []
    if peer:
        original = load_code(peer / "generation", "model.network").Generator(256, 512, 10).eval()
        boxes[base] = Teacher(lambda z, y: to_uint8(original(z, F.one_hot(y, 10).float())), 512, 10, 32)
    boxes["teacher, PyTorch eager"] = kd.load_teacher(device="cpu")
    boxes["student, PyTorch eager"] = kd.black_box(network)
    boxes["student, PyTorch compiled"] = kd.black_box(torch.compile(network, dynamic=False))
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "int8"):
            file = kd.export(network, Path(folder) / f"{precision}.xml", precision)
            boxes[f"student, OpenVINO {precision}"] = runner = kd.load_exported(file, torch.get_num_threads())
            size = sum(file.with_suffix(end).stat().st_size for end in (".xml", ".bin")) / 1000
            found = kd.evaluate(runner, progress=False) if scores else {"cifar_fd": np.nan, "class_accuracy": np.nan}
            sizes.append([precision, f"{size:,.0f}", f"{found['cifar_fd']:.2f}", f"{found['class_accuracy']:.1%}"])
        for batch in (1, 16, 256):
            calls = {name: functools.partial(one, draw_latents(0, 0, batch, one.z_dim), np.arange(batch) % 10)
                     for name, one in boxes.items()}  # fmt: skip
            times[batch] = in_turn(calls, rounds, least=seconds)
    for name in boxes:
        rows.append([name])
        for batch, found in times.items():
            middle, ratio = median(found[name]), median(b / t for b, t in zip(found[base], found[name]))
            rows[-1].append(f"{batch / middle:,.0f} ({1000 * middle:.2f}, {ratio:.1f})")
    yield markdown(["images/s (ms a batch, ratio)", *(f"batch {batch}" for batch in times)], rows)
    yield markdown(["OpenVINO file", "kB, xml and bin", "CIFAR-FD", "class accuracy"], sizes)
    yield f"{rounds} rounds; ratios to the {base}, round by round. CIFAR-FD over 10,000 images."


@torch.inference_mode()
def stylegan2(official: Path | None = None, rounds: int = 7, batch: int = 32, device: str = "cpu"):
    """Images/s of the full-size StyleGAN2 generator, beside the official code: the same weights, noise and labels."""
    torch.manual_seed(0)
    z, y, ours = torch.randn(batch, 512, device=device), torch.arange(batch, device=device) % 10, StyleGAN2Generator()
    calls, rows = {"ours": lambda: ours(z, y)}, []
    if official:
        code, synthesis = load_code(official, "training.networks"), dict(channel_base=32768, conv_clamp=256)
        theirs = code.Generator(512, 10, 512, 32, 3, dict(num_layers=2), synthesis).eval()
        for name, parameter in theirs.named_parameters():
            parameter += 0.1 if name.endswith("noise_strength") else 0.0
        ours.load_state_dict(from_official(theirs.state_dict()))
        options = dict(noise_mode="const", force_fp32=True, fused_modconv=True)  # its own in eval mode
        calls["official"] = functools.partial(theirs.to(device), z, F.one_hot(y, 10).float(), **options)
    ours.eval().to(device, memory_format=torch.channels_last)
    times, base, macs = in_turn(calls, rounds, device), calls["ours"](), cost(ours)["macs"]
    for name, call in calls.items():
        speed, difference = batch / median(times[name]), (call() - base).abs().max().item()
        ratio = f"{median(times['official']) / median(times[name]):.1f}" if official else "–"
        rows.append([name, f"{speed:,.1f}", ratio, f"{speed * 2 * macs / 1e9:,.0f}", f"{difference:.1e}"])
    yield markdown(["generator", "images/s", "ratio to official", "GFLOP/s", "largest difference from ours"], rows)
    yield f"{macs / 1e9:.2f} GMAC an image, batch {batch}, {rounds} rounds."


def captured(device: str = "cuda", preset: str = "gpu", seconds: float = 5.0, images: int = 50_000,
             backend: str | None = "inductor"):  # fmt: skip
    """Both trainings step by step, in captured blocks, and in these with networks compiled by a `backend` of
    torch.compile, each for `seconds`, without ticks; the last columns are of the fastest."""
    graph = CudaGraph if torch.device(device).type == "cuda" else lambda function: function
    ways = [(None, None), (graph, None), *([(graph, backend)] if backend else [])]
    peak, rows = matmul_peak(device), []
    with tempfile.TemporaryDirectory() as folder:
        pairs, real = noise(Path(folder), images)
        for task in (
            DistillTask(pairs, kd.DistillConfig.preset(preset)),
            GanTask(real, kd.PretrainConfig.preset(preset)),
        ):
            rates = [training_rate(task, device, *way, seconds) for way in ways]
            accelerator, nets, _ = loop.prepare(task, device)
            with Operations() as counter:
                Blocks(task, nets, accelerator)(0, task.period)
            work, best = counter.total / task.period / task.config.batch, max(rates)
            told = [f"{rate:,.0f} ({rate / rates[0]:.2f})" for rate in rates] + ["–"] * (3 - len(rates))
            told += [f"{work / 1e9:.2f}", f"{best * work / peak:.1%}", f"{7_500_000 / best / 60:.1f}"]
            rows.append([f"`{task.verb}`", *told])
    head = ["eager", "captured (ratio)", "and compiled", "GFLOP an image", "of the peak", "minutes for 7.5 M images"]
    yield markdown([f"images/s, preset `{preset}`", *head], rows)
    yield f"The peak is that of a large bfloat16 matrix product, {peak / 1e12:,.1f} TFLOP/s."


def training_rate(task, device, graph, compile, seconds):
    """Images a second of a task's blocks, after four to warm up: two as they are, one captured, one replayed."""
    accelerator, nets, _ = loop.prepare(task, device, compile)
    blocks, count, begun = Blocks(task, nets, accelerator, graph), 0, None
    while begun is None or time.monotonic() - begun < seconds:
        blocks(count * task.period, (count + 1) * task.period)
        count += 1
        if count == 4:
            blocks.means()  # waits for the device
            begun = time.monotonic()
    blocks.means()
    return (count - 4) * task.period * task.config.batch / (time.monotonic() - begun)


class Operations(TorchDispatchMode):
    """Counts operations by the formulas of torch.utils.flop_counter, whose own counter fails at the gradient of R1."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def matmul_peak(device):
    """Operations a second of a large bfloat16 matrix product: the peak that a program can see."""
    size = 8192 if torch.device(device).type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / min(in_turn({"": lambda: a @ b}, 2, device, least=0.3)[""])


MEASURES = {  # with its page, and the block there
    "training": (training, Path("docs/Training.md"), "speed"),
    "captured": (captured, Path("docs/Training.md"), "gpu"),
    "generators": (generators, Path("docs/Deployment.md"), "speed"),
    "stylegan2": (stylegan2, Path("docs/Teacher-Network.md"), "generator speed"),
}


def main(words):
    """Prints what was measured, with where and when; with --write it goes into its page as well."""
    asked = [word for word in words if word != "--write"]
    parts = tyro.extras.subcommand_cli_from_dict({name: one[0] for name, one in MEASURES.items()}, args=asked)
    if block := MEASURES[asked[0]][1:] if asked != words else ():
        check_block(*block)  # before anything is measured: `parts` is a generator
    where = f"{torch.get_num_threads()} threads", torch.backends.cpu.get_cpu_capability()
    where += ("fast bfloat16",) if fast_bfloat16("cpu") else ()
    print(text := "\n\n".join([*parts, written_by(f"benchmarks/speed.py {shlex.join(words)}", *where)]))
    if block:
        write_block(*block, text)


if __name__ == "__main__":
    main_program(main, sys.argv[1:])
