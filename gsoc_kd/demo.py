"""The main job on the embedded default: teacher -> triples -> student -> scores and pictures, in one command."""

import shutil
import time
from pathlib import Path

import torch

from .core.figures import class_grid, side_by_side
from .core.files import read_json, replacing_file, write_json
from .core.weights import network_hash
from .evaluation.evaluate import evaluate
from .evaluation.table import floor_row, row, table
from .pairs.make import draw_latents, make_pairs
from .teachers.black_box import black_box
from .teachers.load import load_student, load_teacher
from .training.distill import DistillConfig, distill


def demo(out="runs/demo", per_class: int = 1000, config: DistillConfig | None = None):
    """Distils a student from the embedded teacher and scores it; stopped, the same command continues.

    Writes into `out`: student.png (ten classes), side_by_side.png (teacher and student on the same noise),
    film.gif (the training), scores.json and table.md; in pairs/ and run/ the triples and the training run.

    Args:
        out: folder to write to.
        per_class: triples a class.
        config: of the distillation; the preset `laptop` by default.

    Returns:
        The table's rows, a list of dicts: floor, teacher, embedded student, the student just made.
    """
    out, start = Path(out), time.time()
    teacher = load_teacher()

    print(f"1/4  {per_class * teacher.num_classes:,} triples from the embedded teacher", flush=True)
    pairs = make_pairs(teacher, per_class, seed=0, out=out / "pairs")

    print("2/4  distillation: a student learns to draw the teacher's pictures", flush=True)
    run = distill(pairs, config, out / "run")

    print("3/4  scores, 10,000 pictures each", flush=True)
    rows = [floor_row()]
    for name, generator in (
        ("embedded teacher", teacher),
        ("embedded student", load_student()),
        ("the student just made", run.student),
    ):
        rows.append(_scored(name, generator, out / "scores.json"))

    print("4/4  pictures", flush=True)
    student, classes = black_box(run.student), teacher.classes
    z, y = torch.from_numpy(draw_latents(7, 0, 20, teacher.z_dim)), torch.arange(20) % teacher.num_classes
    for name, picture in (
        ("student.png", class_grid(student, student.z_dim, classes)),
        ("side_by_side.png", side_by_side(teacher(z, y), student(z, y), columns=10, scale=3)),
    ):
        with replacing_file(out / name) as temporary:
            picture.save(temporary, format="PNG")
    with replacing_file(out / "film.gif") as temporary:
        shutil.copyfile(run.folder / "film.gif", temporary)
    with replacing_file(out / "table.md") as temporary:
        temporary.write_text(table(rows) + "\n", encoding="utf-8")
    print(
        f"\n{table(rows)}\n\nwritten to {out}: student.png, side_by_side.png, film.gif, scores.json, table.md "
        f"({(time.time() - start) / 60:.1f} minutes)"
    )
    return rows


def _scored(name, generator, path):
    """The row of one generator; a row in `path` of the very same weights is taken from there."""
    known = read_json(path) if path.exists() else {}
    digest = network_hash(black_box(generator).network)
    if known.get(name, {}).get("weights") != digest:
        print(f"     {name}", flush=True)
        known[name] = {**row(name, generator, evaluate(generator)), "weights": digest}
        write_json(path, known)
    return known[name]
