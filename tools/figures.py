"""The images of docs/ that introduce the bundled networks, and the block `variety` of docs/Teacher-Network.md.

    python tools/figures.py                           # all; needs CIFAR-10
    python tools/figures.py pairs-seen difference     # some of them: FIGURES

The curves come from benchmarks/results, where `training` puts them from a run's folder if that is there."""

import io
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from matplotlib.figure import Figure
from PIL import Image

from gsoc_kd.core.figures import as_image, beside, class_grid, grid, named_rows, save_png, side_by_side
from gsoc_kd.core.files import ASSETS, InputError, read_json, write_json
from gsoc_kd.data.images import load_images
from gsoc_kd.evaluation import copying, features, load_classifier, load_reference, neighbour_grid, precision_recall
from gsoc_kd.pairs import draw_latents, generate_images
from gsoc_kd.teachers import load_teacher
from gsoc_kd.training.runs import read_stats

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from pages import check_block, main_program, markdown, write_block, written_by

MAX_KB = 100
RESULTS = Path("benchmarks/results")
FIGURES = "pairs-seen", "difference", "training", "demo", "variety"
PANELS = {  # title: the lines that share an axis, each with its name
    "pixel loss": {"pixel": ""},
    "feature loss": {"feature": ""},
    "adversarial losses": {"adversarial": "student", "generator": "generator", "disc": "discriminator"},
    "class accuracy": {"class_accuracy": ""},  # where it was scored
}
KEPT = ["kimg", *(key for lines in PANELS.values() for key in lines)]


def main(which: tyro.conf.Positional[tuple[Literal[FIGURES], ...]] = FIGURES,
         teacher: Path = Path("runs/assets/teacher"), student: Path = Path("runs/assets/student"),
         demo: Path = Path("runs/assets/demo"), docs: Path = Path("docs")):  # fmt: skip
    """Makes the images; what only a training's folder shows stays as it is where that is not there."""
    if "variety" in which:
        check_block(docs / "Teacher-Network.md", "variety")
    if "demo" in which:
        check_block(docs / "Getting-Started.md", "demo")
    if "pairs-seen" in which:
        save(seen(read_json(RESULTS / "pairs-seen.json")["rows"]), docs / "pairs-seen.png")
    if "difference" in which:
        save(difference(), docs / "difference.png")
    if "training" in which:
        for name, run in (("teacher", teacher), ("student", student)):
            training(name, run, docs) if run.is_dir() else print(f"{run} is not there: {name}-training.png stays")
            save(losses(name), docs / f"{name}-curves.png")
    if "demo" in which:
        of_the_demo(demo, docs) if demo.is_dir() else print(f"{demo} is not there: demo.png stays")
    if "variety" in which:
        write_block(docs / "Teacher-Network.md", "variety", variety(docs))


def training(name, run, docs):
    """Six moments of a training, most of them early, from the run that the bundled network is of; keeps its curves."""
    stats, told = read_stats(run), provenance_of(name)
    of_the_bundled(name, stats, run)
    names, kimg = [str(one) for one in told["classes"]], np.array([row["kimg"] for row in stats])
    moments = sorted({int(np.abs(kimg - one).argmin()) for one in np.geomspace(kimg[0], kimg[-1], 6)})
    strips = [strip(run / "animation" / f"{stats[i]['step']:07d}.png", len(names)) for i in moments]
    side = named_rows(Image.new("RGB", (0, strips[0].height)), names)
    shown = beside([side, *strips], ["", *(f"{kimg[i]:.0f} k" for i in moments)], gap=6)
    save_png(shown, docs / f"{name}-training.png", MAX_KB)
    keep(name, stats)


def of_the_demo(folder, docs):
    """What `gsoc-kd demo --out folder` made: its table, and its student below the teacher on the same noise."""
    networks, y = (load_teacher(), load_teacher(folder / "run")), np.arange(20) % 10
    shown = [one(draw_latents(7, 0, len(y), one.z_dim), y) for one in networks]
    save_png(side_by_side(*shown, columns=10, scale=3, titles=networks[0].classes), docs / "demo.png", MAX_KB)
    told = (folder / "table.md").read_text(encoding="utf-8").strip()
    write_block(docs / "Getting-Started.md", "demo", f"{told} {written_by('-m gsoc_kd demo')}")


def keep(name, stats):
    """Writes the losses of a training, and the scores on its way, into benchmarks/results."""
    rows = [{key: round(row[key], 5) for key in KEPT if row.get(key) is not None} for row in stats]
    write_json(RESULTS / f"training-{name}.json", {"rows": rows})


def provenance_of(name):
    return read_json(ASSETS / name / "provenance.json")


def of_the_bundled(name, rows, where):
    if not rows or rows[-1]["kimg"] != (kimg := provenance_of(name)["kimg"]):
        raise InputError(f"{where} is not the run of the bundled {name}, which saw {kimg:g} thousand images")


def losses(name):
    """The curves of a bundled network's training, each kind on an axis of its own that begins at 0."""
    rows = read_json(path := RESULTS / f"training-{name}.json")["rows"]
    of_the_bundled(name, rows, path)
    known = {key for row in rows for key in row}
    panels = {title: [key for key in lines if key in known] for title, lines in PANELS.items()}
    panels = {title: keys for title, keys in panels.items() if keys}
    figure = Figure(figsize=(max(5, 3.2 * len(panels)), 2.8), layout="constrained")
    for axes, (title, keys) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for key in keys:
            points = [(row["kimg"] / 1000, row[key]) for row in rows if key in row]
            labelled(axes, *zip(*points), PANELS[title][key])
        axes.set(xlabel=f"million {'pairs' if 'pixel' in known else 'images'} shown", title=title)
    return figure


def seen(rows):
    """Scores of the bundled student's network as it was on the way, against the pairs that it had been shown."""
    million, figure = [row["kimg"] / 1000 for row in rows], Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, lines in (
        (left, {"cifar_fd": "CIFAR-FD", "cifar_fd_to_teacher": "CIFAR-FD\nto teacher"}),
        (right, {"class_accuracy": "class accuracy", "cifar_recall": "CIFAR-recall"}),
    ):
        for key, title in lines.items():
            labelled(axes, million, [row[key] for row in rows], title)
        axes.set(xlabel="million pairs shown")
    return figure


def labelled(axes, x, y, text):
    """A line with its name beside its last point, on an axis that begins at 0, or below where a value is below."""
    (line,) = axes.plot(x, y, marker="o", markersize=3 if len(x) < 30 else 0)
    place = dict(xytext=(6, 0), textcoords="offset points", va="center", color=line.get_color())
    axes.annotate(text, (x[-1], y[-1]), **place)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    axes.set_ylim(min(0, 1.08 * values.min()), 1.08 * values.max())


def difference(per_class=1000):
    """Heat maps of teacher minus student for each class: how large, and on average."""
    networks = [load_teacher(ASSETS / name) for name in ("teacher", "student")]
    seed, names = provenance_of("student")["scores"]["seed"], networks[0].classes
    large, signed = maps(*(generate_images(one, per_class, seed)[0] for one in networks), len(names))
    figure = Figure(figsize=(11, 2.5), layout="constrained")
    rows = figure.subplots(2, len(names), squeeze=False)
    for axes, found, colours in zip(rows, (large, signed), ("magma", "RdBu_r")):
        top = np.abs(found).max()
        for one, image in zip(axes, found):
            low = -top if found is signed else 0
            shown = one.imshow(image, cmap=colours, vmin=low, vmax=top, interpolation="nearest")
            one.set(xticks=[], yticks=[])
        figure.colorbar(shown, ax=axes, label="grey levels", pad=0.01)
    for one, name in zip(rows[0], names):
        one.set_title(name, size=10)
    rows[0, 0].set_ylabel("mean |T − S|")
    rows[1, 0].set_ylabel("mean T − S")
    return figure


def maps(teacher, student, classes):
    """Of uint8 images (classes * N, H, W, 3) on the same noise, class after class: the mean size of their difference
    and the mean of teacher minus student, over images and colours, two arrays (classes, H, W) in grey levels."""
    change = (teacher.astype(np.int16) - student).reshape(classes, -1, *teacher.shape[1:])
    return np.abs(change).mean(axis=(1, 4)), change.mean(axis=(1, 4))


def save(figure, path):
    """Writes a chart as a PNG of at most MAX_KB."""
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=90)
    save_png(as_image(Image.open(buffer)), path, MAX_KB)


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
