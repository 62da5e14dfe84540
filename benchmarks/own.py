"""Runs examples/own_images.py on its digits, from nothing, and writes what it tells, scores and seconds, to the page.

python benchmarks/own.py"""

import sys
from pathlib import Path

import tyro
from PIL import Image

from gsoc_kd.core.figures import save_png
from gsoc_kd.core.files import InputError

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
import own_images
from pages import check_block, main_program, write_block, written_by

PAGE = Path(__file__).resolve().parents[1] / "docs" / "Your-Own-Images.md"
MADE = "![Left, real digits, a row for each class; right, the student's](own-images.png)"


def main(out: Path = Path("runs/own-images"), page: Path = PAGE):
    """Ten minutes on two cores. out: folder to make, which must not be there; page: with the block `own images`, and
    beside it the image own-images.png is written."""
    check_block(page, "own images")
    if out.exists():
        raise InputError(f"{out} is there already, and times would be those of a part: remove it, or give --out")
    own_images.main(out=out)
    real, student = (Image.open(out / name) for name in ("real.png", "student.png"))
    both = Image.new("RGB", (real.width + 10 + student.width, real.height), "white")
    both.paste(real, (0, 0))
    both.paste(student, (real.width + 10, 0))
    save_png(both, page.with_name("own-images.png"), max_kb=150)
    table = (out / "table.md").read_text(encoding="utf-8")
    write_block(page, "own images", f"{MADE}\n\n{table}\n{written_by('benchmarks/own.py')}")


if __name__ == "__main__":
    main_program(tyro.cli, main)
