"""The images of docs/ that introduce the bundled networks, and the block `variety` of docs/Teacher-Network.md, from
CIFAR-10 and the runs that were embedded. `--training-only`: *-training and *-curves of both, without CIFAR-10."""

import io
import sys
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from PIL import Image

from gsoc_kd.core.figures import as_image, beside, class_grid, curves, grid, named_rows, save_png
from gsoc_kd.core.files import ASSETS, InputError, read_json
from gsoc_kd.data.images import load_images
from gsoc_kd.evaluation import copying, features, load_classifier, load_reference, neighbour_grid, precision_recall
from gsoc_kd.pairs import draw_latents, generate_images
from gsoc_kd.teachers import load_teacher
from gsoc_kd.training.runs import read_stats

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from pages import check_block, main_program, markdown, write_block, written_by

MAX_KB = 100


def main(teacher: Path = Path("runs/assets/teacher"), student: Path = Path("runs/assets/student"),
         docs: Path = Path("docs"), training_only: bool = False):  # fmt: skip
    """Makes the images; those of a training whose run is not there stay as they are."""
    seen(docs)
    if not training_only:
        check_block(docs / "Teacher-Network.md", "variety")
        write_block(docs / "Teacher-Network.md", "variety", variety(docs))
    for name, run in (("teacher", teacher), ("student", student)):
        training(name, run, docs) if run.is_dir() else print(f"{run} is not there: {name}-*.png stay as they are")


def training(name, run, docs):
    """Six moments of a training, most of them early, and its curves, from the run that the bundled network is of."""
    stats, told = read_stats(run), read_json(ASSETS / name / "provenance.json")
    if not stats or stats[-1]["kimg"] != told["kimg"]:
        raise InputError(f"{run} is not the run of the bundled {name}, which saw {told['kimg']:g} thousand images")
    names, kimg = [str(one) for one in told["classes"]], np.array([row["kimg"] for row in stats])
    moments = sorted({int(np.abs(kimg - one).argmin()) for one in np.geomspace(kimg[0], kimg[-1], 6)})
    strips = [strip(run / "animation" / f"{stats[i]['step']:07d}.png", len(names)) for i in moments]
    side = named_rows(Image.new("RGB", (0, strips[0].height)), names)
    shown = beside([side, *strips], ["", *(f"{kimg[i]:.0f} k" for i in moments)], gap=6)
    save_png(shown, docs / f"{name}-training.png", MAX_KB)
    keys = ("pixel", "feature", "adversarial", "disc", "generator", "class_accuracy")  # the last where it was scored
    curves(stats, [key for key in keys if key in stats[-1]]).savefig(buffer := io.BytesIO(), format="png", dpi=90)
    save_png(as_image(Image.open(buffer)), docs / f"{name}-curves.png", MAX_KB)


def seen(docs, file=Path("benchmarks/results/pairs-seen.json")):
    """Scores of the bundled student's network as it was on the way, against the pairs that it had been shown."""
    rows, figure = read_json(file)["rows"], Figure(figsize=(9, 3), layout="constrained")
    kimg = [row["kimg"] / 1000 for row in rows]
    left, right = figure.subplots(1, 2)
    for axes, lines in (
        (left, (("CIFAR-FD", "cifar_fd"), ("CIFAR-FD to teacher", "cifar_fd_to_teacher"))),
        (right, (("class accuracy", "class_accuracy"), ("CIFAR-recall", "cifar_recall"))),
    ):
        for title, key in lines:
            values = [row[key] for row in rows]
            (line,) = axes.plot(kimg, values, marker="o", markersize=4)
            place = dict(xytext=(0, 7), textcoords="offset points", ha="right", color=line.get_color())
            axes.annotate(title, (kimg[-1], values[-1]), **place)
        axes.set_xlabel("million pairs shown")
    left.set_ylim(bottom=0)
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=90)
    save_png(as_image(Image.open(buffer)), docs / "pairs-seen.png", MAX_KB)


def strip(path, classes, columns=2, scale=2):
    """The last images of each row of a training animation's frame, which has names at its left, enlarged."""
    frame = as_image(path)
    side, rest = divmod(frame.height - 1, classes)  # pixels of an image and a white line
    if rest or columns * side >= frame.width:
        raise InputError(f"{path} does not hold {classes} rows of {columns} square images")
    part = frame.crop((frame.width - columns * side - 1, 0, frame.width, frame.height))
    return part.resize((part.width * scale, part.height * scale), Image.Resampling.NEAREST)


def variety(docs, per_class=1000):
    """Shows all classes, the least varied one, and nearest training images; returns the page's table."""
    teacher, classifier, scores = (
        load_teacher(),
        load_classifier(),
        read_json(ASSETS / "teacher" / "provenance.json")["scores"],
    )
    train, test = load_images(), load_images(split="test").take(per_class)
    images, labels = generate_images(teacher, per_class, scores["seed"])
    ours, seen, others = (features(some, classifier)[0] for some in (images, train.images, test.images))
    kept = load_reference(classifier=classifier).features.reshape(len(train.classes), -1, ours.shape[1])  # (C, each, D)
    each = min(kept.shape[1], per_class)
    recall = [[precision_recall(real[:each], found[known == c][:each])[1] for c, real in enumerate(kept)]
              for found, known in ((ours, labels), (others, test.labels))]  # fmt: skip
    least, z = int(np.argmin(recall[0])), draw_latents(0, int(np.argmin(recall[0])), 64, teacher.z_dim)
    real = np.random.default_rng(0).choice(np.flatnonzero(train.labels == least), 64, replace=False)
    parts = [grid(part, columns=8) for part in (teacher(z, np.full(64, least)), train.images[real])]
    name = train.classes[least]
    save_png(beside(parts, [f"{name}, generated", f"{name}, real"]), docs / "teacher-class.png", MAX_KB)
    save_png(class_grid(teacher, teacher.z_dim, train.classes, 12, seed=2), docs / "teacher-classes.png", MAX_KB)
    save_png(neighbour_grid(images[::per_class], train, classifier, seen=seen), docs / "teacher-neighbours.png", MAX_KB)
    return table(scores, recall, copying(ours, seen, others), name)


def table(scores, recall, near, least):
    """Recall and class accuracy of the teacher and, below each, of real test images; then what `near` says."""
    rows = []
    for key, within in (("cifar_recall", recall), ("class_accuracy", None)):
        for told, i in ((scores, 0), (scores["lower_bound"], 1)):
            named = key.replace("cifar_", "CIFAR-").replace("class_accuracy", "class accuracy").replace("_", " ")
            title = "of real test images (lower bound)" if i else f"**{named}**"
            values = told[key], *(within[i] if within else told[f"{key}_per_class"].values())
            rows.append([title, *(f"{100 * value:.1f}" for value in values)])
    return (
        f"{markdown(['in %', 'all', *scores['class_accuracy_per_class']], rows)}\n\n"
        f"Recall is least for *{least}*: that is the class in the image above. **Nearest training images:** "
        f"{near['closer']:.1%} of {scores['images']:,} generated images are nearer to one than half of the real test "
        f"images are (new real images: 50 %, copies: 100 %); the median distance is {near['median']:.2f}, that of test "
        f"images {near['real_median']:.2f}.\n{written_by('tools/figures.py')} *All* is from the teacher's provenance."
    )


if __name__ == "__main__":
    main_program(tyro.cli, main)
