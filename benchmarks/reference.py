"""The project's question at full scale on one GPU: a wide teacher, its pairs, students beside it, their scores.

    python benchmarks/reference.py --minutes 30     a part: exit code 3 says that there is more to do
    python benchmarks/reference.py --names 50k 100k these networks only: several such calls can share a large GPU
    python benchmarks/reference.py --scale smoke    a minute on a CPU: does every stage work?

Teacher (preset `gpu`) -> 50,000 and 500,000 pairs -> students of many sizes (preset `gpu`), and the recipe of 2022 at
its own length, 150 epochs of 50,000 -> scores -> report. A stage that is finished is not repeated, one that was stopped goes on. Below --out are
runs/, networks/ (float16), scores/, and report/ with the table, size-quality trade-off, images and animations.
"""

import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from pages import main_program
from studies import STUDIES, least, size_quality

import gsoc_kd as kd
from gsoc_kd.core.figures import grid, save_png
from gsoc_kd.core.files import InputError, read_json, replacing_folder, write_json
from gsoc_kd.evaluation import lower_bound_row, row, table
from gsoc_kd.evaluation.publish import publish
from gsoc_kd.pairs import draw_latents
from gsoc_kd.training.config import steps
from gsoc_kd.training.runs import read_stats

# name: (preset, pairs for each class, what changes); in 2022 there were real images beside the pairs
SMOKE = dict(batch=16, kimg=0.064, tick_kimg=0.032)
STUDENTS = {name: ("gpu", 5000, fields) for name, fields in STUDIES["trade-off"]["rows"].items()}
STUDENTS |= {"distylegan-2022": ("distylegan-2022", 5000, dict(tick_kimg=500))}
STUDENTS |= {"200k, 500,000 pairs": ("gpu", 50_000, dict(kimg=8000))}
SMALL = {"TinyGAN block": ("smoke", 13, {"block": "residual", **SMOKE}), "more pairs": ("smoke", 26, SMOKE)}
SMALL |= {"distylegan-2022": ("distylegan-2022", 13, SMOKE)}


def main(real: str = "cifar10", out: Path = Path("runs/reference"), scale: Literal["full", "smoke"] = "full",
         minutes: float = float("inf"), teacher_kimg: float = 12_000, device: str | None = None,
         names: tuple[str, ...] = ()):  # fmt: skip
    """Does what is left, for `minutes`. `real`: CIFAR-10, or a dataset zip with its classes. `names`: of networks; all
    by default, and then the report."""
    deadline, images, full = time.monotonic() + 60 * minutes, kd.load_images(real), scale == "full"
    students = STUDENTS if full else SMALL
    if unknown := sorted({*names} - {"teacher", *students}):
        raise InputError(f"there is no {unknown[0]!r}; choose from teacher, {', '.join(students)}")
    asked = {"real": real, "scale": scale, "teacher_kimg": teacher_kimg}
    if (out / "asked.json").is_file() and (before := read_json(out / "asked.json")) != asked:
        raise InputError(f"{out} holds a reference of {before}, not of {asked}; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "asked.json", asked)

    def left():
        """Seconds; TimeoutError when there are none."""
        if (seconds := deadline - time.monotonic()) <= 0:
            raise TimeoutError
        return seconds

    def finish(name, config, train, teacher=None):
        """Trains, publishes and scores a network, unless that is done; returns it."""
        network, file, folder = out / "networks" / name, out / "scores" / f"{name}.json", out / "runs" / name
        if not network.is_dir():
            used = sum(row["seconds"] for row in read_stats(folder)[-1:])  # by earlier calls
            run = train(config, folder, None if minutes == float("inf") else (used + left()) / 60)
            if run.stats[-1]["step"] < steps(config)[0]:
                raise TimeoutError
            publish(folder, network, scored=False)
        generator = kd.load_teacher(network, device=device)
        if not file.is_file():
            left()
            made = read_json(network / "provenance.json", check=True)
            told = {key: made[key] for key in ("kimg", "seconds", "hardware", "commit", "date")}
            asked = dict(per_class=1000 if full else 129, device=device, teacher=teacher, progress=False)
            write_json(file, {**told, **row(name, generator, kd.evaluate(generator, **asked))})
        return generator

    def pretrain(config, folder, _):  # its rates fall with the run's length, which minutes would change
        return kd.pretrain(images, config, folder, device, on_tick=lambda *_: left() and None)

    def distill(per_class, config, folder, minutes):
        pairs = kd.make_pairs(teacher, per_class, seed=0, out=out / "runs" / f"pairs-{per_class}")
        return kd.distill(pairs, config, folder, images if config.gan_weight else None, device, minutes)

    config = kd.PretrainConfig.preset("gpu", kimg=teacher_kimg) if full else kd.PretrainConfig.preset("smoke", **SMOKE)
    try:
        teacher = finish("teacher", config, pretrain)
        for name in students if not names else [name for name in students if name in names]:
            preset, per_class, changes = students[name]
            finish(name, kd.DistillConfig.preset(preset, **changes), partial(distill, per_class), teacher)
    except TimeoutError:
        print("the minutes of this call are over; call it again to go on")
        return 3
    if not names:
        print(report(["teacher", *students], out))


def report(names, out):
    """Writes report/ from what lies in networks/, scores/ and runs/; returns its table."""
    rows = [read_json(out / "scores" / f"{name}.json") for name in names]
    lines = [f"* {one['name']}: {one['kimg']:,.0f} thousand images in {one['seconds'] / 60:.1f} minutes, {one['hardware']}, "
             f"{one['date']}, commit {one['commit']}." for one in rows]  # fmt: skip
    text = "\n\n".join([table([lower_bound_row(), *rows]), least(rows[0], rows[1:]), "\n".join(lines)])
    generators = [kd.load_teacher(out / "networks" / name) for name in names]
    z, y = draw_latents(7, 0, 20, generators[0].z_dim), np.arange(20) % generators[0].num_classes
    with replacing_folder(out / "report") as folder:
        (folder / "table.md").write_text(text + "\n", encoding="utf-8")
        size_quality([lower_bound_row(), *rows]).savefig(folder / "trade-off.png", dpi=80)
        save_png(grid(np.concatenate([generator(z, y) for generator in generators]), columns=20), folder / "images.png")
        for name in names:
            shutil.copyfile(out / "runs" / name / "animation.gif", folder / f"{name}.gif")
    return text


if __name__ == "__main__":
    main_program(lambda: sys.exit(tyro.cli(main)))
