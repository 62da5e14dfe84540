"""From a folder of images in your own classes to a small generator and an OpenVINO file (docs/Your-Own-Images.md):
`python examples/own_images.py --images my-images`; without --images, from scikit-learn's handwritten digits."""

import contextlib
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import gsoc_kd as kd
from gsoc_kd.core.checks import path_of
from gsoc_kd.core.figures import class_grid, grid, save_png
from gsoc_kd.evaluation import lower_bound_row, rows, table

SIZE = 32  # pixels a side, a power of two; images of other sizes are scaled
TEACHER = kd.PretrainConfig(kimg=64, tick_kimg=16, z_dim=64, widths=(96, 64, 48, 32), embed_dim=32, disc_width=32)
STUDENT = kd.DistillConfig(kimg=64, tick_kimg=16, widths=(48, 32, 24, 16), rank=32)
MINUTES = 4, 3  # of training at most, for the teacher and for the student
PAIRS = 10_000  # of all classes together


def main(images: Path | None = None, out: Path = Path("runs/own"), per_class: int = 129):
    """Trains a teacher on the images, a student on the teacher's, scores both and exports the student.

    Args:
        images: folder with one folder of images for each class; by default digits, which are written first.
        out: folder for all that is made; called again, the script goes on where it stopped.
        per_class: images of each class that are scored, of real ones as many are needed (at least 129, and 1,000 of
            all classes)."""
    out, taken, told = path_of(out), {}, ""
    with step("1  images of your classes", taken):
        real = kd.load_images(images or digits(out / "images"), size=SIZE)
        print(f"{len(real):,} images of {len(real.classes)} classes: {real.counts()}")

    with step("2  a teacher learns from them", taken):
        teacher = kd.pretrain(real, TEACHER, out / "teacher", minutes=MINUTES[0])

    with step("3  it is asked for pairs", taken):
        pairs = kd.make_pairs(teacher.folder, per_class=-(-PAIRS // len(real.classes)), out=out / "pairs")

    with step("4  a student learns from the pairs alone", taken):
        student = kd.distill(pairs, STUDENT, out / "student", minutes=MINUTES[1])

    with step("5  both are scored against the images", taken):
        networks = {"teacher": kd.load_teacher(teacher.folder), "student": kd.load_teacher(student.folder)}
        try:
            told = scored(networks, real, per_class)
        except kd.InputError as error:  # e.g. too few images
            print(f"not scored: {error}")

    with step("6  the student leaves as an OpenVINO file", taken):
        path = kd.export(student.folder, out / "student.xml", precision="int8")
        columns = min(8, *real.counts().values())
        save_png(grid(real.take(columns).images, columns), out / "real.png")
        save_png(class_grid(kd.load_exported(path), pairs.z_dim, real.classes, columns), out / "student.png")

    told += times(taken)
    (out / "table.md").write_text(told, encoding="utf-8")
    print(f"\n{told}\nwritten to {out}: student.xml, student.bin, student.png, real.png, table.md; play with it in a "
          f"notebook: kd.explore({str(student.folder)!r}, {str(teacher.folder)!r})")  # fmt: skip


@contextlib.contextmanager
def step(title, taken):
    """Prints the title of a step and, at its end, the seconds that it took, which go into the dict `taken`."""
    print(title, flush=True)
    start = time.monotonic()
    yield
    taken[title] = time.monotonic() - start
    print(f"   {taken[title]:.0f} s", flush=True)


def scored(networks, real, per_class):
    """The table of {name: network}, the teacher first, measured against the images `real`: markdown. Its first row is
    what real images score, where there are twice as many as `per_class`."""
    per_class = max(per_class, -(-1000 // len(real.classes)))  # scores need as many images
    scores = {name: kd.evaluate(one, real, per_class, teacher=networks["teacher"]) for name, one in networks.items()}
    lower_bound = scores["teacher"]["lower_bound"]
    first = [lower_bound_row(lower_bound, "real images (lower bound)")] if lower_bound else []
    return table([*first, *rows(networks, scores)]) + "\n\n"


def times(taken):
    """{title: seconds} as a table: markdown."""
    lines = [f"| {title} | {seconds:.0f} |" for title, seconds in taken.items()]
    return "\n".join(["| step | seconds |", "|---|--:|", *lines, f"| all | {sum(taken.values()):.0f} |", ""])


def digits(folder):
    """Writes scikit-learn's 1,797 handwritten digits as a folder for each, 32 x 32 pixels, three channels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    for i, (image, label) in enumerate(zip(data.images, data.target)):  # (8, 8) float, 0 to 16
        place = folder / "zero one two three four five six seven eight nine".split()[label]
        place.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((image * 255 / 16).astype(np.uint8))
        grey.resize((32, 32), Image.BICUBIC).convert("RGB").save(place / f"{i:04d}.png")
    return folder


if __name__ == "__main__":
    import tyro

    try:
        tyro.cli(main)
    except kd.InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command continues")
