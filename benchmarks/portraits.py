"""How the embedded networks were trained, and how varied the teacher is: pictures and a table for the pages.

    python benchmarks/portraits.py [--run FOLDER] [--student FOLDER]     needs CIFAR-10; some minutes on two cores
    python benchmarks/portraits.py --only training             without CIFAR-10: film, curves and styles only

Both folders are those in which `gsoc-kd pretrain` and `gsoc-kd distill` left the film and the statistics. It draws, in docs/:

    teacher-classes.png       a row of latents of every class, none selected
    teacher-class.png         many latents of one class, the one of which it knows least, beside real pictures
    teacher-neighbours.png    a picture of each class and its nearest training pictures
    teacher-training.png      moments of the training, from first to last
    teacher-curves.png        its losses, and how many of the film's pictures the judge recognises
    student-training.png      moments of the student's training
    student-curves.png        its losses
    teacher-styles.png        what a mapping network and truncation do, in a StyleGAN2 with random weights

and writes recall within each class, the floor beside it, between the page's marks.
"""

import datetime
import io
import os
import platform
import re
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from gsoc_kd.pairs.make import draw_pictures
from gsoc_kd.teachers.load import EMBEDDED, load_teacher
from gsoc_kd.teachers.portraits import film_pictures, film_strip, style_map, variety
from PIL import Image

from gsoc_kd.core.charts import curves
from gsoc_kd.core.figures import class_grid, save_png
from gsoc_kd.core.files import InputError, read_json, replacing_file
from gsoc_kd.core.weights import network_hash
from gsoc_kd.data.images import load_images
from gsoc_kd.evaluation.classifier import load_judge
from gsoc_kd.evaluation.features import features
from gsoc_kd.evaluation.neighbours import copying, neighbour_grid, precision_recall
from gsoc_kd.evaluation.reference import load_reference
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.training.runs import read_stats

BLOCK = re.compile(r"(<!-- variety: .*? -->\n).*?(<!-- end of variety -->)", re.DOTALL)
MAX_KB, MOMENTS, COLUMNS = 100, 6, 10


def main(
    run: Path = Path("runs/assets/teacher"),
    student: Path = Path("runs/assets/student"),
    docs: Path = Path("docs"),
    page: str = "Teacher-Network.md",
    per_class: int = 1000,
    only: Literal["all", "variety", "training"] = "all",
):
    """Draws the pictures and writes the table.

    Args:
        run: folder of the embedded teacher's training run; where there is none, its film and curves stay.
        student: folder of the embedded student's.
        docs: folder of the pages.
        page: the page with the marks.
        per_class: pictures a class to look up in the training pictures; 500 of them count for recall.
        only: which half of the pictures.
    """
    teacher, judge = load_teacher(), load_judge()
    told = read_json(EMBEDDED / "teacher" / "provenance.json")
    if only != "variety":
        if run.is_dir():
            training(run, teacher, judge, docs, told)
        else:
            print(f"{run}: not there, so the pictures of the teacher's training stay as they are")
        distillation(student, docs, read_json(EMBEDDED / "student" / "provenance.json"))
        save_figure(
            style_map(random_stylegan2(), (0, 3, 8), names=("airplane", "cat", "ship")), docs / "teacher-styles.png"
        )
    if only != "training":
        grid = class_grid(teacher, teacher.z_dim, teacher.classes, columns=12, seed=2)
        save_png(grid, docs / "teacher-classes.png", max_kb=MAX_KB)
        if not BLOCK.search((docs / page).read_text(encoding="utf-8")):
            raise InputError(f"{docs / page} has no block between <!-- variety: ... --> and <!-- end of variety -->")
        block = measure(teacher, judge, told, docs, per_class)
        text = (docs / page).read_text(encoding="utf-8")
        with replacing_file(docs / page) as temporary:
            temporary.write_text(BLOCK.sub(lambda m: m[1] + block + m[2], text), encoding="utf-8")
        print(block)


def training(run, teacher, judge, docs, told):
    """Draws teacher-training.png and teacher-curves.png from the run's film and statistics."""
    stats, frames = film_of(run, "teacher", told)
    save_png(strip(stats, frames, told["classes"]), docs / "teacher-training.png", max_kb=MAX_KB)
    save_figure(
        curves(recognised(stats, frames, judge, len(teacher.classes)), [*LOSSES, RECOGNISED]),
        docs / "teacher-curves.png",
    )


def distillation(run, docs, told):
    """Draws student-training.png and student-curves.png."""
    stats, frames = film_of(run, "student", told)
    save_png(strip(stats, frames, told["classes"]), docs / "student-training.png", max_kb=MAX_KB)
    save_figure(
        curves(stats, [name for name in ("pixel", "feature", "adversarial", "disc") if name in stats[-1]]),
        docs / "student-curves.png",
    )


def film_of(run, name, told):
    """Statistics and frames of the run from which the embedded network of that name is.

    Raises:
        InputError: no run, or another one than its provenance tells of.
    """
    stats = read_stats(run)
    if not stats:
        raise InputError(f"{run} holds no run: it has no stats.jsonl")
    if stats[-1]["kimg"] != told["kimg"]:
        raise InputError(
            f"{run} has seen {stats[-1]['kimg']} thousand images, the embedded {name} {told['kimg']}: "
            "give the run that was embedded"
        )
    return stats, [run / "film" / f"{row['step']:07d}.png" for row in stats]


def strip(stats, frames, classes):
    """Moments of a film side by side, two latents a class."""
    chosen = moments([row["kimg"] for row in stats])
    return film_strip([frames[i] for i in chosen], [f"{stats[i]['kimg']:.0f} k" for i in chosen], classes, columns=2)


LOSSES, RECOGNISED = ("loss of the generator", "loss of the disc"), "film's pictures recognised by the judge"


def moments(kimg, count=MOMENTS):
    """Indices of ticks, from the first to the last, at about equal ratios of images seen: most happens early."""
    wanted = np.geomspace(kimg[0], kimg[-1], count)
    return sorted({int(np.abs(np.asarray(kimg) - one).argmin()) for one in wanted})


def recognised(stats, frames, judge, classes):
    """The losses of each tick, and the share of its frame's pictures to which the judge gives their class."""
    labels = np.arange(classes).repeat(COLUMNS)  # as the rows of a frame
    rows = []
    for row, frame in zip(stats, frames):
        images = film_pictures(frame, classes, COLUMNS)  # (C, COLUMNS, S, S, 3)
        images = images.reshape(-1, *images.shape[2:])
        share = (features(images, judge)[1].argmax(axis=1) == labels).mean()
        rows.append(
            {"kimg": row["kimg"], LOSSES[0]: row["generator"], LOSSES[1]: row["disc"], RECOGNISED: float(share)}
        )
    return rows


def random_stylegan2():
    """A small StyleGAN2 generator with random weights and its average style."""
    torch.manual_seed(0)
    network = StyleGAN2Generator(z_dim=64, w_dim=64, channel_base=1024, channel_max=64).eval()
    network.centre()
    return network


def measure(teacher, judge, told, docs, per_class):
    """Draws teacher-class.png and teacher-neighbours.png; returns the table with what it was measured from."""
    reference, scores = load_reference(judge=judge), told["scores"]
    if told["hash"] != network_hash(teacher.network):
        raise InputError("the embedded teacher is not the one of its provenance.json; embed it anew: gsoc-kd embed")
    train, test = load_images("cifar10"), load_images("cifar10", "test").take(per_class)
    images, labels = draw_pictures(teacher, per_class, scores["seed"], progress="draw")
    drawn = features(images, judge, progress="judge sees drawn pictures")[0]
    others = features(test.images, judge, progress="judge sees test pictures")[0]
    seen = features(train.images, judge, progress="judge sees training pictures")[0]
    near = copying(drawn, seen, others)
    save_png(neighbour_grid(images[::per_class], train, judge, seen=seen), docs / "teacher-neighbours.png", MAX_KB)
    recall = within(reference, drawn, labels, others, test.labels)
    least = min(range(len(recall)), key=lambda c: recall[c][0])
    save_png(variety(teacher, least, train), docs / "teacher-class.png", MAX_KB)
    return table(teacher.classes, recall, scores, near, len(images), teacher.classes[least])


def within(reference, drawn, labels, others, other_labels):
    """[(recall of the teacher, recall of other real pictures)] within each class, at equal counts."""
    kept = reference.features.reshape(len(reference.classes), -1, drawn.shape[1])  # (C, each, D)
    each = min(kept.shape[1], *np.bincount(labels), *np.bincount(other_labels))
    return [
        tuple(
            precision_recall(real[:each], found[known == c][:each])[1]
            for found, known in ((drawn, labels), (others, other_labels))
        )
        for c, real in enumerate(kept)
    ]


def table(classes, recall, scores, near, count, least):
    """The block's markdown: a column a class, the floor below each row."""
    floor = scores["floor"]
    rows = {
        "**CIFAR-recall**": [scores["cifar_recall"], *(ours for ours, _ in recall)],
        "of real test images (floor)": [floor["cifar_recall"], *(real for _, real in recall)],
        "**class agreement**": [scores["class_agreement"], *scores["class_agreement_per_class"].values()],
        "of real test images (floor) ": [floor["class_agreement"], *floor["class_agreement_per_class"].values()],
    }
    lines = [f"| in % | all | {' | '.join(classes)} |", "|---|" + "--:|" * (len(classes) + 1)]
    lines += [
        f"| {name.strip()} | {' | '.join(f'{value:.1%}'.rstrip('%') for value in values)} |"
        for name, values in rows.items()
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"Recall is least for *{least}*: that is the class in the picture above. **Nearest training pictures:** "
            f"{near['closer']:.1%} of {count:,} drawn pictures are nearer to one",
            f"than half of the real test pictures are (new real pictures: 50 %, copies: 100 %); the median distance is "
            f"{near['median']:.2f}, that of test pictures {near['real_median']:.2f}.",
            f"Written by `python benchmarks/portraits.py` on {datetime.date.today()}, {os.cpu_count()} CPU cores "
            f"({platform.machine()}), PyTorch {torch.__version__.split('+')[0]}; the",
            f"column *all* is from the teacher's provenance, {scores['images']:,} pictures, for recall "
            f"{scores['cifar_precision_recall_images']:,}.\n",
        ]
    )


def save_figure(figure, path):
    """A matplotlib Figure as a PNG of at most MAX_KB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    save_png(Image.open(buffer).convert("RGB"), path, MAX_KB)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        sys.exit(f"error: {error}")
