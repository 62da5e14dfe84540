"""The project's question at full scale on one GPU: a wide teacher, its pairs, students beside it, their scores.

    python benchmarks/full_scale.py                             all of it, on whatever device there is
    python benchmarks/full_scale.py --minutes 9                 a slice: call it again until its exit code is no longer 3
    python benchmarks/full_scale.py --scale smoke               a minute on a CPU: does every stage work?

Stages: teacher (PretrainConfig `gpu`, for --teacher-minutes) -> student after student, from 50,000 or 500,000 pairs, each
network scored as soon as it is there -> report. A stage that is finished is not repeated, one that was stopped goes on.
CIFAR-10 is a zip or its pieces (benchmarks/pieces.py). Under --out:

    networks/   teacher and students in float16, each below 16 MB        scores/   their scores and speeds, JSON
    report/     table.md, frontier.png, pictures.png, film.gif
    carry/      all that is needed to go on elsewhere, below 64 MB: copy it there as --out, and call again
"""

import datetime
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from gpu import matmul_peak, step_operations
from gsoc_kd.pairs.make import draw_latents, make_pairs
from gsoc_kd.teachers.black_box import black_box
from gsoc_kd.teachers.load import GENERATORS, load_teacher
from pieces import is_piece, join, pieces_of, split

from gsoc_kd.core.charts import frontier
from gsoc_kd.core.figures import grid, save_png
from gsoc_kd.core.files import InputError, read_json, replacing_folder, write_json
from gsoc_kd.core.weights import load_network, provenance, save_network
from gsoc_kd.data.images import load_images
from gsoc_kd.evaluation.evaluate import evaluate
from gsoc_kd.evaluation.table import floor_row, row, table
from gsoc_kd.training import devices, runs
from gsoc_kd.training.distill import DistillConfig, distill
from gsoc_kd.training.gan import PretrainConfig, pretrain

MORE_TO_DO = 3  # exit code of a slice that is not the last one
PIECE = 15_000_000  # bytes of a file that carries a checkpoint


@dataclass(frozen=True)
class Student:
    preset: str
    per_class: int
    changes: dict = field(default_factory=dict)
    real: bool = False


@dataclass(frozen=True)
class Scale:
    teacher: str  # preset of PretrainConfig
    students: dict  # name: Student
    scored: int  # pictures a class for the scores
    changes: dict = field(default_factory=dict)


SAME = dict(batch=128, kimg=7500, tick_kimg=250)  # as many pairs and steps as the 2022 recipe: 150 epochs of 50,000
FEW = dict(kimg=0.064, tick_kimg=0.032)
SCALES = {
    "full": Scale(
        "gpu",
        {
            "default": Student("gpu", 5000, SAME),
            "smallest": Student("gpu", 5000, {**SAME, "widths": (48, 24, 16, 12), "embed_dim": 16, "rank": 24}),
            "distylegan-2022": Student("distylegan-2022", 5000, SAME, real=True),
            "default-500k": Student("gpu", 50_000, SAME),
        },
        scored=1000,
        changes=dict(kimg=60_000),
    ),  # its minutes end first
    "smoke": Scale(
        "smoke",
        {
            "default": Student("smoke", 13, FEW),
            "smallest": Student("smoke", 13, {**FEW, "widths": (8, 8, 8, 8)}),
            "distylegan-2022": Student("distylegan-2022", 13, dict(batch=16, **FEW), real=True),
            "default-500k": Student("smoke", 26, FEW),
        },
        scored=129,
        changes=FEW,
    ),
}


class SliceOver(Exception):
    """The minutes of this call are used up."""


def main(
    real: str = "cifar10",
    out: Path = Path("runs/full-scale"),
    scale: str = "full",
    minutes: float | None = None,
    teacher_minutes: float = 16,
    device: str | None = None,
    compile: bool = False,
):
    """Runs what is left of the reference.

    Args:
        real: CIFAR-10: cifar10, a dataset zip, or the first of its pieces (x.zip.000).
        out: the folder of the reference.
        scale: full or smoke.
        minutes: of this call; training stops with a checkpoint when they are over. No limit by default.
        teacher_minutes: of the teacher's training, over all calls.
        device: cuda, cpu; the fastest by default.
        compile: torch.compile in all trainings; needs a C++ compiler. The same in every slice.

    Returns:
        0 when everything is done, 3 when there is more to do.
    """
    if scale not in SCALES:
        raise InputError(f"there is no scale {scale!r}; choose from {', '.join(SCALES)}")
    device = str(devices.pick_device(device))
    deadline = None if minutes is None else time.time() + 60 * minutes
    plan, out = SCALES[scale], Path(out)
    (out / "scores").mkdir(parents=True, exist_ok=True)
    if is_piece(real):
        real = join(real, out / Path(real).stem)
    images = load_images(real)
    try:
        configs = {"teacher": PretrainConfig.preset(plan.teacher, **{**plan.changes, "compile": compile})} | {
            name: DistillConfig.preset(student.preset, **{**student.changes, "compile": compile})
            for name, student in plan.students.items()
        }
        teacher = finish_teacher(images, configs["teacher"], out, teacher_minutes, device, deadline)
        finish_scores("teacher", teacher, plan.scored, out, device, deadline)
        for name, student in plan.students.items():
            finish_student(name, student, configs[name], images, teacher, out, device, deadline)
            finish_scores(name, teacher, plan.scored, out, device, deadline)
        for name, config in configs.items():
            count_operations(name, plan.students.get(name), config, images, teacher, out, device, deadline)
        peak = matmul_peak(torch.bfloat16) if device.startswith("cuda") else None
        write_json(out / "scores" / "peak.json", {"operations_per_second": peak})
        print(report(plan, teacher, out))
        return 0
    except SliceOver as over:
        print(f"{over}; call again to go on, here or with {out / 'carry'} as --out elsewhere")
        return MORE_TO_DO
    finally:
        carry(plan, out)


def left(deadline, least=0.2):
    """Minutes until the deadline, None without one.

    Raises:
        SliceOver: fewer than `least` are left.
    """
    if deadline is None:
        return None
    minutes = (deadline - time.time()) / 60
    if minutes < least:
        raise SliceOver("the minutes of this call are over")
    return minutes


# ---------------------------------------------------------------- stages


def train(verb, folder, total, deadline):
    """verb(minutes) until a run is finished: it has seen all its pictures, or trained for `total` minutes."""
    spent = sum(row["seconds"] for row in runs.read_stats(folder)[-1:]) / 60
    rest = left(deadline) if total is None or spent < total else 0
    limits = [limit for limit in (total, None if rest is None else spent + rest) if limit is not None]
    run = verb(min(limits) if limits else None)
    seconds = run.stats[-1]["seconds"] / 60
    if run.stats[-1]["kimg"] < read_json(run.folder / "config.json")["kimg"] * 0.999 and (
        total is None or seconds < total
    ):
        raise SliceOver(
            f"{folder.name}: {run.stats[-1]['kimg']:,.0f} thousand pictures in {seconds:.1f} minutes so far"
        )
    return run


def finish_teacher(images, config, out, total, device, deadline):
    """The teacher, as it is published: rounded to float16."""
    network = out / "networks" / "teacher"
    if not network.is_dir():
        folder = out / "teacher"
        if (piece := folder / "checkpoint.pt.000").is_file():
            packed = join(piece, folder / "checkpoint.packed")
            runs.save_checkpoint(folder, unpack(torch.load(packed, weights_only=True)))
            for file in (packed, *pieces_of(folder / "checkpoint.pt")):
                file.unlink()
        publish(
            train(lambda minutes: pretrain(images, config, folder, device, minutes), folder, total, deadline), network
        )
    return load_teacher(network, device=device)


def finish_pairs(teacher, per_class, out, deadline):
    """So many triples a class; stopped at the deadline they go on where they were."""
    drawn, start = [], time.time()

    def draw(z, y):
        left(deadline, 0)
        drawn.append(len(z))
        return teacher(z, y)

    pairs = make_pairs(replace(teacher, draw=draw), per_class, seed=0, out=out / f"pairs-{per_class}")
    if drawn:
        write_json(out / "scores" / f"{pairs.path.name}.json", {"pairs_per_second": sum(drawn) / (time.time() - start)})
    return pairs


def finish_student(name, student, config, images, teacher, out, device, deadline):
    network = out / "networks" / name
    if network.is_dir():
        return
    pairs = finish_pairs(teacher, student.per_class, out, deadline)
    folder, real = out / "students" / name, images if student.real else None
    publish(
        train(lambda minutes: distill(pairs, config, folder, real, device, minutes), folder, None, deadline), network
    )


def publish(run, network):
    """The averaged generator of a finished run, in float16, with the run's statistics beside its scores."""
    network.parent.mkdir(parents=True, exist_ok=True)
    told = read_json(run.folder / "student" / "provenance.json")
    write_json(network.parents[1] / "scores" / f"{network.name}.run.json", run.stats[-1])
    if (run.folder / "film.gif").is_file():
        shutil.copyfile(run.folder / "film.gif", network.parents[1] / "scores" / f"{network.name}.gif")
    save_network(run.student, network, told, torch.float16)


def finish_scores(name, teacher, per_class, out, device, deadline):
    file = out / "scores" / f"{name}.json"
    if file.is_file():
        return
    left(deadline)
    generator = black_box(load_network(out / "networks" / name, GENERATORS), device=device)
    scores = evaluate(
        generator, per_class=per_class, device=device, progress=False, teacher=None if name == "teacher" else teacher
    )
    write_json(
        file,
        {
            **row(name, generator, scores),
            "hardware": provenance("", "")["hardware"],
            "date": datetime.date.today().isoformat(),
        },
    )


def count_operations(name, student, config, images, teacher, out, device, deadline):
    """Operations of a training step for each picture or pair of its batch; student: None for the teacher."""
    file = out / "scores" / f"{name}.operations.json"
    if file.is_file():
        return
    left(deadline)
    steps = 40  # a multiple of the steps from one R1 penalty, or adversarial term, to the next
    kimg = steps * config.batch / 1000
    short = replace(config, kimg=kimg, tick_kimg=kimg, compile=False)
    verb, data, more = pretrain, images, {}
    if student:
        verb, data, more = (
            distill,
            finish_pairs(teacher, student.per_class, out, deadline),
            {"real": images if student.real else None},
        )
    with tempfile.TemporaryDirectory() as folder:
        work = step_operations(
            sys.modules[verb.__module__], lambda: verb(data, short, Path(folder) / "run", device=device, **more), steps
        )
    write_json(file, {"operations": work / config.batch})


# ---------------------------------------------------------------- report


def report(plan, teacher, out):
    """Table, frontier, pictures and film from what lies in networks/ and scores/; returns the table."""
    rows = [read_json(out / "scores" / f"{name}.json") for name in ("teacher", *plan.students)]
    text = "\n\n".join([table([floor_row(), *rows]), answer(rows), speeds(plan, out)])
    z, y = torch.from_numpy(draw_latents(7, 0, 20, teacher.z_dim)), torch.arange(20) % teacher.num_classes
    drawn = [load_teacher(out / "networks" / one["name"])(z, y) for one in rows]
    with replacing_folder(out / "report") as folder:
        (folder / "table.md").write_text(text + "\n", encoding="utf-8")
        frontier([floor_row(), *rows]).savefig(folder / "frontier.png", dpi=80)
        save_png(grid([picture for pictures in drawn for picture in pictures], columns=20), folder / "pictures.png")
        for name in ("teacher", *plan.students):
            if (film := out / "scores" / f"{name}.gif").is_file():
                shutil.copyfile(film, folder / f"{name}.gif")
    return text


def answer(rows):
    """The project's question in one sentence."""
    teacher, students = rows[0], rows[1:]
    keeping = [one for one in students if one["class_agreement"] >= 0.9 * teacher["class_agreement"]]
    if not keeping:
        best = max(students, key=lambda one: one["class_agreement"])
        return (
            f"No student keeps 90 % of the teacher's class agreement; the nearest, {best['name']}, keeps "
            f"{best['class_agreement'] / teacher['class_agreement']:.0%}."
        )
    least = min(keeping, key=lambda one: one["parameters"])
    return (
        f"The lightest student that keeps 90 % of the teacher's class agreement is {least['name']}: "
        f"{least['parameters']:,} parameters, {teacher['parameters'] / least['parameters']:.1f} times fewer than "
        f"the teacher, with CIFAR-FD {least['cifar_fd']:.2f} against {teacher['cifar_fd']:.2f}."
    )


def speeds(plan, out):
    """What pretraining, pairs, distillation and sampling reached, a line each."""
    lines, peak = [], read_json(out / "scores" / "peak.json")["operations_per_second"]

    def share(operations, rate):
        return f" ({operations * rate / peak:.1%} of the device's bfloat16 peak)" if peak else ""

    for name in ("teacher", *plan.students):
        run, work, scores = (read_json(out / "scores" / f"{name}{end}.json") for end in (".run", ".operations", ""))
        rate, drawn = run["kimg"] * 1000 / max(run["seconds"], 0.1), scores["images_per_second"]
        lines.append(
            f"* {name}: trained on {run['kimg']:,.0f} thousand pictures in {run['seconds'] / 60:.1f} minutes, "
            f"{rate:,.0f} a second{share(work['operations'], rate)}; draws {drawn:,.0f} a second"
            f"{share(2 * scores['macs'], drawn)}; {scores['hardware']}, {scores['date']}."
        )
    for file in sorted((out / "scores").glob("pairs-*.json")):
        rate = read_json(file)["pairs_per_second"]
        macs = read_json(out / "scores" / "teacher.json")["macs"]
        lines.append(f"* {file.stem}: {rate:,.0f} pairs a second{share(2 * macs, rate)}, with what writing them takes.")
    if peak:
        lines.append(f"* The peak is that of a large bfloat16 matrix product, {peak / 1e12:,.0f} TFLOP/s.")
    return "\n".join(lines)


# ---------------------------------------------------------------- carry


def carry(plan, out):
    """Makes out/carry anew: networks, scores, and the teacher's checkpoint, packed and in pieces, while it trains.

    Pairs and unfinished students are not in it: they are made anew in minutes.
    """
    with replacing_folder(out / "carry") as folder:
        for name in ("networks", "scores"):
            if (out / name).is_dir():
                shutil.copytree(out / name, folder / name)
        checkpoint = out / "teacher" / "checkpoint.pt"
        if checkpoint.is_file() and not (out / "networks" / "teacher").is_dir():
            (folder / "teacher").mkdir()
            for name in ("config.json", "stats.jsonl"):
                shutil.copyfile(out / "teacher" / name, folder / "teacher" / name)
            packed = folder / "teacher" / "checkpoint.pt"
            torch.save(pack(runs.load_checkpoint(out / "teacher")), packed)
            split(packed, PIECE, remove=True)


def pack(state):
    """A checkpoint in less than half the bytes: weights in float16, Adam's second moments in bfloat16.

    Its first moments are the last gradients where beta_1 is 0, and play no part in the next step: they become zeros
    that need no room. A run that goes on from it is the same one up to this rounding.
    """
    if isinstance(state, dict) and {"state", "param_groups"} <= state.keys():  # an optimizer's
        forget = all(group["betas"][0] == 0 for group in state["param_groups"])
        kept = {
            i: {name: _moment(name, value, forget) for name, value in one.items()} for i, one in state["state"].items()
        }
        return {**state, "state": kept}
    if isinstance(state, dict):
        return {name: pack(value) for name, value in state.items()}
    if isinstance(state, torch.Tensor) and state.dtype == torch.float32 and state.half().isfinite().all():
        return state.half()
    return state


def unpack(state):
    """A packed checkpoint with room for the first moments that were left out, in the memory order of the second ones:
    CUDA's fused Adam wants moments that lie as their weights do."""
    for part in state.values():
        for moments in part["state"].values() if isinstance(part, dict) and "param_groups" in part else ():
            if not moments["exp_avg"].any():
                moments["exp_avg"] = torch.zeros_like(moments["exp_avg_sq"])
    return state


def _moment(name, value, forget):
    if name == "exp_avg" and forget:
        return torch.zeros((), dtype=torch.bfloat16).expand(value.shape)
    return value.bfloat16() if name in ("exp_avg", "exp_avg_sq") else value


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main))
    except InputError as error:
        sys.exit(f"error: {error}")
