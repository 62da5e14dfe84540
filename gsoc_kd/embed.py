"""What the package carries: puts trained generators into gsoc_kd/assets and their scores into the pages."""

import datetime
import os
import platform
import re
import tempfile
from pathlib import Path

import torch

from .core.figures import save_png, side_by_side
from .core.files import InputError, read_json, replacing_file
from .core.weights import load_network, network_hash, save_network
from .evaluation.evaluate import evaluate
from .evaluation.table import floor_row, row, table
from .pairs.make import draw_latents
from .teachers.black_box import black_box
from .teachers.load import EMBEDDED, GENERATORS, load_student, load_teacher

BLOCK = re.compile(r"(<!-- results: .*? -->\n).*?(<!-- end of results -->)", re.DOTALL)


def embed(run, name: str = "student"):
    """Puts the generator of a finished run into the package, in float16, with its scores in its provenance.

    Args:
        run: folder of a run of `pretrain` or `distill`, or of a network.
        name: teacher or student, the place it takes.

    Returns:
        The scores, a dict.

    Raises:
        InputError: another name; no generator in `run`.
    """
    if name not in ("teacher", "student"):
        raise InputError(f"name must be 'teacher' or 'student', got {name!r}")
    return publish(run, EMBEDDED / name)


def publish(run, folder, scored=True):
    """Writes the generator of a finished run as it is given away: float16 weights, config, provenance with its scores.

    The weights are rounded first and scored as they will be loaded: 10,000 pictures, 1,000 a class.

    Args:
        run: folder of a run of `pretrain` or `distill`, or of a network.
        folder: where to.
        scored: False for a generator of other classes than CIFAR-10's, on which the judge cannot pronounce.

    Returns:
        The scores, a dict, or None.

    Raises:
        InputError: no generator in `run`; something else in `folder`.
    """
    source = Path(run) if (Path(run) / "model.safetensors").is_file() else Path(run) / "student"
    network, origin = load_network(source, GENERATORS), read_json(source / "provenance.json")
    with tempfile.TemporaryDirectory() as temporary:
        save_network(network, Path(temporary) / "rounded", dtype=torch.float16)
        network = load_network(Path(temporary) / "rounded", GENERATORS)
    scores = evaluate(network) if scored else None
    save_network(network, folder, {**origin, "hash": network_hash(network), "scores": scores}, torch.float16)
    return scores


def results(pages: tuple[str, ...] = ("README.md", "docs/Results.md"), picture: str = "docs/teacher-and-student.png"):
    """Measures floor, embedded teacher and embedded student anew, writes their table into the pages and draws both.

    It replaces what stands between `<!-- results: ... -->` and `<!-- end of results -->`.

    Args:
        pages: files to write to; each must hold the two marks.
        picture: file for teacher above student on the same noise, a column a class.

    Returns:
        The table, GitHub markdown.

    Raises:
        InputError: a page without the marks.
    """
    for page in pages:
        if not Path(page).is_file() or not BLOCK.search(Path(page).read_text(encoding="utf-8")):
            raise InputError(f"{page} has no block between <!-- results: ... --> and <!-- end of results -->")
    rows = [floor_row()]
    for name, generator in (("embedded teacher", load_teacher()), ("embedded student", load_student())):
        rows.append(row(name, generator, evaluate(generator)))
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    text = (
        f"{table(rows)} Measured by `gsoc-kd results` on {datetime.date.today()}, {hardware} "
        f"({platform.machine()}), PyTorch {torch.__version__.split('+')[0]}.\n"
    )
    z, y = torch.from_numpy(draw_latents(7, 0, 20, load_teacher().z_dim)), torch.arange(20) % load_teacher().num_classes
    drawn = [black_box(generator)(z, y) for generator in (load_teacher(), load_student())]
    save_png(side_by_side(*drawn, columns=10, scale=3), picture, max_kb=100)
    for page in pages:
        with replacing_file(page) as temporary:
            temporary.write_text(
                BLOCK.sub(lambda m: m[1] + text + m[2], Path(page).read_text(encoding="utf-8")), encoding="utf-8"
            )
    return text
