"""How fast a student draws: PyTorch against its OpenVINO files, as ratios to the 2022 generator in eager PyTorch.

    python benchmarks/sample.py [--peer CHECKOUT] [--student embedded] [--write docs/Deployment.md]

All take turns in one run, round after round, on the same threads; a figure is the median of the rounds. Every
contender ends with uint8 pictures in a numpy array. Run it on an idle machine.
"""

import datetime
import importlib.util
import os
import platform
import re
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from gsoc_kd.pairs.make import draw_latents

import gsoc_kd as kd
from gsoc_kd.core.files import InputError, replacing_file
from gsoc_kd.data.images import to_uint8
from gsoc_kd.deployment.export import Pictures
from gsoc_kd.networks.distylegan import DiStyleGANGenerator

BATCHES = (1, 16, 256)
BASE = "2022 generator, PyTorch eager"
MARKS = re.compile(r"(<!-- speed: .*? -->\n).*?(<!-- end of speed -->)", re.DOTALL)
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16")


def eager(pictures):
    """A network as a callable from arrays to pictures, in the memory layout that processors like best."""
    pictures = pictures.to(memory_format=torch.channels_last)

    def draw(z, y):
        with torch.inference_mode():
            return pictures(torch.from_numpy(z), torch.from_numpy(y)).numpy()

    return draw


def original(checkout):
    """The generator of the 2022 project's own code, in its own layout: (z, one-hot) -> float pictures."""
    source = Path(checkout) / "generation" / "model" / "network.py"
    if not source.is_file():
        raise InputError(f"{source} is missing; give a checkout of ThanosM97/gsoc2022-openvino")
    spec = importlib.util.spec_from_file_location("peer_network", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.Generator(256, 512, 10).eval()

    def draw(z, y):
        with torch.inference_mode():
            return to_uint8(network(torch.from_numpy(z), F.one_hot(torch.from_numpy(y), 10).float())).numpy()

    return draw


def contenders(student, peer, folder):
    """({name: (draw, z_dim, classes)}, {name: Runner}), in the order of the table."""
    base = original(peer) if peer else eager(Pictures(DiStyleGANGenerator()))
    teacher, student_network = kd.load_teacher(device="cpu").network, kd.load_student(student)
    sizes = student_network.z_dim, student_network.num_classes
    compiled = torch.compile(Pictures(student_network).to(memory_format=torch.channels_last), dynamic=False)
    files = {
        f"student, OpenVINO {precision}": kd.load_exported(
            kd.export(student, Path(folder) / f"{precision}.xml", precision), threads=torch.get_num_threads()
        )
        for precision in ("fp32", "int8")
    }
    return {
        BASE: (base, 512, 10),
        "teacher, PyTorch eager": (eager(Pictures(teacher)), teacher.z_dim, teacher.num_classes),
        "student, PyTorch eager": (eager(Pictures(student_network)), *sizes),
        "student, PyTorch compiled": (eager(compiled), *sizes),
        **{name: (runner, *sizes) for name, runner in files.items()},
    }, files


def measure(drawers, batch, rounds, seconds):
    """{name: seconds a batch, one figure a round}; a round gives each the same time, in turn."""
    inputs = {
        name: (draw_latents(0, 0, batch, z_dim).astype(np.float32), np.arange(batch) % classes)
        for name, (_, z_dim, classes) in drawers.items()
    }
    times = {name: [] for name in drawers}
    for turn in range(rounds + 1):  # turn 0 warms up and compiles
        for name, (draw, *_) in drawers.items():
            start, count = time.perf_counter(), 0
            while count < 2 or time.perf_counter() - start < seconds:
                draw(*inputs[name])
                count += 1
            if turn:
                times[name].append((time.perf_counter() - start) / count)
    return times


def instruction_sets():
    """What decides how fast 8-bit arithmetic is, as words."""
    import openvino as ov

    core, info = ov.Core(), Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) & set(FLAGS) if info.is_file() else ()
    return (
        f"{core.get_property('CPU', 'FULL_DEVICE_NAME').strip()}, {os.cpu_count()} cores, "
        f"{' '.join(f for f in FLAGS if f in flags) or platform.machine()} (PyTorch uses "
        f"{torch.backends.cpu.get_cpu_capability()}, OpenVINO {ov.__version__.split('-')[0]})"
    )


def table(times, files, scores, command):
    """GitHub markdown: images/s, milliseconds a batch and ratio to the base at every batch size; then the files."""
    lines = [
        "| images/s (ms a batch, ratio) | " + " | ".join(f"batch {b}" for b in times) + " |",
        "|---|" + "--:|" * len(times),
    ]
    for name in next(iter(times.values())):
        cells = []
        for batch, measured in times.items():
            middle = statistics.median(measured[name])
            ratio = statistics.median(b / t for b, t in zip(measured[BASE], measured[name]))
            cells.append(f"{batch / middle:,.0f} ({1000 * middle:.2f}, {ratio:.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| file | kB, xml and bin | CIFAR-FD | class agreement |", "|---|--:|--:|--:|"]
    for name, runner in files.items():
        size = sum(runner.path.with_suffix(end).stat().st_size for end in (".xml", ".bin")) / 1000
        scored = scores.get(name)
        lines.append(
            f"| {name} | {size:,.0f} | "
            + (f"{scored['cifar_fd']:.2f} | {scored['class_agreement']:.1%} |" if scored else "– | – |")
        )
    rounds = len(next(iter(next(iter(times.values())).values())))
    return "\n".join(lines) + (
        f"\n\nMedians of {rounds} interleaved rounds; ratios to the 2022 generator in eager PyTorch, round by round. "
        f"CIFAR-FD over 10,000 pictures. Measured by `{command}` on {datetime.date.today()}: {instruction_sets()}, "
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__.split('+')[0]}.\n"
    )


def main(
    student: str = "embedded",
    peer: str | None = None,
    rounds: int = 9,
    seconds: float = 0.5,
    scores: bool = True,
    write: str | None = None,
):
    """Measures and prints the table; --write PAGE puts it between the page's `speed` marks too.

    Args:
        student: embedded, or the folder of a network or of a run.
        peer: checkout of ThanosM97/gsoc2022-openvino; its own generator is then the base, else ours of that shape.
        rounds: turns that each contender gets.
        seconds: at least so long is a turn.
        scores: score the files too, on 10,000 pictures each.
        write: page with the marks.
    """
    if write and not MARKS.search(Path(write).read_text(encoding="utf-8")):
        raise InputError(f"{write} has no block between <!-- speed: ... --> and <!-- end of speed -->")
    torch.manual_seed(0)
    print(instruction_sets(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        drawers, files = contenders(student, peer, folder)
        times = {batch: measure(drawers, batch, rounds, seconds) for batch in BATCHES}
        scored = {name: kd.evaluate(runner) for name, runner in files.items()} if scores else {}
        command = "python benchmarks/sample.py" + (" --peer CHECKOUT" if peer else "")
        text = table(times, files, scored, command)
    print(text)
    if write:
        page = Path(write).read_text(encoding="utf-8")
        with replacing_file(write) as temporary:
            temporary.write_text(MARKS.sub(lambda m: m[1] + text + m[2], page), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
