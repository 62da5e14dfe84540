"""The whole workflow on the bundled teacher, in one command: teacher -> pairs -> student -> scores and images."""

import shutil
import time
from pathlib import Path

import torch

from .core.figures import class_grid, save_png, side_by_side
from .core.files import replacing_file, write_json
from .evaluation import evaluate, floor_row, row, table
from .pairs import draw_latents, make_pairs
from .teachers import black_box, load_student, load_teacher
from .training import DistillConfig, distill


def demo(out="runs/demo", per_class: int = 1000, config: DistillConfig | None = None):
    """Distils a student from the bundled teacher and scores it; stopped, the same call continues.

    Writes into the folder `out`: student.png (every class), side_by_side.png (teacher and student on the same noise),
    film.gif (the training), scores.json and table.md; in pairs/ and run/ the pairs and the training run.

    `per_class`: pairs per class. `config`: of the distillation, by default its preset `laptop`. Returns the table's
    rows, a list of dicts: real test images, teacher, bundled student, the student just made."""
    out, start, teacher = Path(out), time.time(), load_teacher()
    print(f"1/4  {per_class * teacher.num_classes:,} pairs from the embedded teacher", flush=True)
    pairs = make_pairs(teacher, per_class, seed=0, out=out / "pairs")
    print("2/4  distillation: a student learns to generate the teacher's images", flush=True)
    run = distill(pairs, config, out / "run")

    print("3/4  scores, 10,000 images each", flush=True)
    networks = {"embedded teacher": teacher, "embedded student": load_student(), "the student just made": run.student}
    rows = [floor_row(), *(row(name, network, evaluate(network)) for name, network in networks.items())]
    write_json(out / "scores.json", rows)
    with replacing_file(out / "table.md") as temporary:
        temporary.write_text(table(rows) + "\n", encoding="utf-8")

    print("4/4  images", flush=True)
    student = black_box(run.student)
    z, y = torch.from_numpy(draw_latents(7, 0, 20, teacher.z_dim)), torch.arange(20) % teacher.num_classes
    save_png(class_grid(student, student.z_dim, teacher.classes), out / "student.png")
    save_png(side_by_side(teacher(z, y), student(z, y), columns=10, scale=3), out / "side_by_side.png")
    with replacing_file(out / "film.gif") as temporary:
        shutil.copyfile(run.folder / "film.gif", temporary)
    names, minutes = "student.png, side_by_side.png, film.gif, scores.json, table.md", (time.time() - start) / 60
    print(f"\n{table(rows)}\n\nwritten to {out}: {names} ({minutes:.1f} minutes)")
    return rows
