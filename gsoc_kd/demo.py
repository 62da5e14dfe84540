"""The whole workflow on the bundled teacher, in one command: teacher -> pairs -> student -> scores and images."""

import shutil
import time

import torch

from .core.checks import path_of
from .core.figures import class_grid, save_png, side_by_side
from .core.files import replacing_file, write_json
from .evaluation import evaluate, lower_bound_row, rows, table
from .pairs import draw_latents, make_pairs
from .teachers import black_box, load_student, load_teacher
from .training import DistillConfig, distill


def demo(out="runs/demo", per_class: int = 1000, config: DistillConfig | None = None):
    """Distils a student from the bundled teacher and scores it; stopped, the same call continues.

    Writes into the folder `out`: student.png (every class), side_by_side.png (teacher and student on the same noise),
    animation.gif (the training), scores.json and table.md; in pairs/ and run/ the pairs and the training run.

    `per_class`: pairs per class. `config`: of the distillation, by default its preset `laptop`. Returns the table's
    rows, a list of dicts: real test images, teacher, bundled student, the student just made."""
    out, start, teacher = path_of(out, "out"), time.monotonic(), load_teacher()
    print(f"1/4  {per_class * teacher.num_classes:,} pairs from the bundled teacher", flush=True)
    pairs = make_pairs(teacher, per_class, seed=0, out=out / "pairs")
    print("2/4  distillation: a student learns to generate the teacher's images", flush=True)
    run = distill(pairs, config, out / "run")

    print("3/4  scores, 10,000 images each", flush=True)
    networks = {"bundled teacher": teacher, "bundled student": load_student(), "the student just made": run.student}
    scores = {name: evaluate(network, teacher=teacher) for name, network in networks.items()}
    told = [lower_bound_row(), *rows(networks, scores)]
    write_json(out / "scores.json", told)
    with replacing_file(out / "table.md") as temporary:
        temporary.write_text(table(told) + "\n", encoding="utf-8")

    print("4/4  images", flush=True)
    student = black_box(run.student)
    z, y = draw_latents(7, 0, 20, teacher.z_dim, teacher.z_from), torch.arange(20) % teacher.num_classes
    save_png(class_grid(student, student.z_dim, teacher.classes), out / "student.png")
    save_png(side_by_side(teacher(z, y), student(z, y), columns=10, scale=3), out / "side_by_side.png")
    with replacing_file(out / "animation.gif") as temporary:
        shutil.copyfile(run.folder / "animation.gif", temporary)
    names, minutes = (
        "student.png, side_by_side.png, animation.gif, scores.json, table.md",
        (time.monotonic() - start) / 60,
    )
    print(f"\n{table(told)}\n\nwritten to {out}: {names} ({minutes:.1f} minutes)")
    return told
