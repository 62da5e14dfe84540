"""What making triples costs on top of the teacher's own forward passes, as a ratio, in one run.

python benchmarks/pairs.py [--per-class 500] [--teacher embedded]
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import tyro
from gsoc_kd.pairs.make import make_pairs
from gsoc_kd.teachers.load import load_teacher


def main(teacher: str = "embedded", per_class: int = 500):
    """Makes per_class triples a class in a temporary folder and times the whole and the forward passes within."""
    box, inside = load_teacher(teacher), []

    def draw(z, y):
        start = time.perf_counter()
        pictures = box.draw(z, y)
        inside.append(time.perf_counter() - start)
        return pictures

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pairs = make_pairs(replace(box, draw=draw), per_class, out=Path(folder) / "pairs")
        whole = time.perf_counter() - start
    print(
        f"{len(pairs):,} triples: {whole:.2f} s, of which {sum(inside):.2f} s forward passes; "
        f"ratio {whole / sum(inside):.3f}"
    )


if __name__ == "__main__":
    tyro.cli(main)
