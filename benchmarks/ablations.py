"""What moves a student's scores: the same pairs and minutes for a list of changes, one field at a time, scored alike.

    python benchmarks/ablations.py                                  all of them, seed 0 and seed 1, one after the other
    python benchmarks/ablations.py --seeds 0 & python benchmarks/ablations.py --seeds 1      one a core

Each run has one thread and is given minutes of *processor* time, so two at once, or other work on the machine, hardly
change what they reach. A stopped run goes on when called again, a finished one is not repeated: its figures lie in
benchmarks/results/ablations. After each run the table in docs/Results.md, between its marks, is written anew.
"""
import datetime
import json
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
import tyro

from gsoc_kd.distill import DistillConfig, distill
from gsoc_kd.evaluate import cost, evaluate
from gsoc_kd.files import InputError, read_json, replacing_file, write_json
from gsoc_kd.pairs import make_pairs
from gsoc_kd.teachers import load_teacher
from gsoc_kd.weights import provenance

CHANGES = {  # name: fields of DistillConfig; and "per_class": other pairs, or "real": real images too
    "base": {},
    "more-pairs": dict(per_class=5000),
    "no-augmentation": dict(shift=0, brightness=0.0),
    "adversarial-every-10": dict(adversarial_every=10),
    "no-feature-loss": dict(feature_weight=0.0),
    "no-labels-in-disc": dict(disc_labels=False),
    "pixel-weight-halving": dict(pixel_half_kimg=50.0),
    "separable": dict(block="separable"),
    "glu": dict(block="glu"),
    "real-images": dict(real="cifar10", gan_weight=0.1, disc_gan_weight=1.0),
    "widths-flat": dict(widths=(64, 64, 32, 24)),
    "latent-16": dict(rank=16),
    "adversarial-0.3": dict(adversarial_weight=0.3),
    "no-pixel-loss": dict(pixel_weight=0.0),
    "latent-first-layer-only": dict(skip_z=False),
    "classifier-features": dict(features="classifier"),  # the feature loss on a fixed classifier's maps, not the disc's
}
BLOCK = re.compile(r"(<!-- ablations: .*? -->\n).*?(<!-- end of ablations -->)", re.DOTALL)
PAGE = Path("docs/Results.md")
SCORES = ("cifar_fd_to_teacher", "cifar_fd", "class_agreement", "cifar_recall")


def main(minutes: float = 15, names: tuple[str, ...] = tuple(CHANGES), seeds: tuple[int, ...] = (0, 1),
         preset: str = "laptop", per_class: int = 1000, runs: Path = Path("runs/ablations"),
         results: Path = Path("benchmarks/results/ablations"), page: Path = PAGE, scored_per_class: int = 1000):
    """Trains, scores and writes the table.

    Args:
        minutes: of processor time in training for each run; scoring is not counted.
        names: which of the changes; all by default.
        seeds: of the distillation; the pairs are the same.
        preset: of DistillConfig, what is changed.
        per_class: pairs a class, of the embedded teacher.
        runs: a folder with the pairs and a run for each change and seed.
        results: a folder with the figures of each finished run.
        page: the page with the marks.
        scored_per_class: pictures a class for the scores.
    """
    if unknown := sorted(set(names) - set(CHANGES)):
        raise InputError(f"there is no ablation {unknown[0]!r}; choose from {', '.join(CHANGES)}")
    if not page.is_file() or not BLOCK.search(page.read_text(encoding="utf-8")):
        raise InputError(f"{page} has no block between <!-- ablations: ... --> and <!-- end of ablations -->")
    torch.set_num_threads(1)
    teacher = load_teacher()
    for name in names:
        fields = dict(CHANGES[name])
        count, real = fields.pop("per_class", per_class), fields.pop("real", None)
        for seed in seeds:
            config = DistillConfig.preset(preset, kimg=1e6, tick_kimg=20, seed=seed, **fields)  # minutes are the limit
            asked = {"config": json.loads(json.dumps(asdict(config))), "minutes": minutes, "per_class": count,
                     "real": real, "teacher": teacher.digest, "scored_per_class": scored_per_class}
            done = results / f"{name}-{seed}.json"
            if done.is_file() and read_json(done)["asked"] == asked:
                print(f"{name}, seed {seed}: finished before")
                continue
            pairs = make_pairs(teacher, count, seed=0, out=runs / f"pairs-{count}")
            run = distill(pairs, config, runs / f"{name}-{seed}", real, "cpu", minutes, time.process_time)
            scores = evaluate(run.student, per_class=scored_per_class, teacher=teacher, progress=False)
            results.mkdir(parents=True, exist_ok=True)
            write_json(done, {"asked": asked, "last": run.stats[-1], "cost": cost(run.student),
                              "scores": {k: scores[k] for k in (*SCORES, "cifar_fd_to_teacher_floor", "images")},
                              "hardware": provenance("", "")["hardware"], "date": datetime.date.today().isoformat()})
            print(write(page, results, minutes), flush=True)
    print(write(page, results, minutes))


def write(page, results, minutes):
    """Writes the table of all finished runs between the page's marks, and returns it."""
    found = {name: [read_json(p) for p in sorted(results.glob(f"{name}-[0-9]*.json"))] for name in CHANGES}
    found = {name: [one for one in ones if one["asked"]["minutes"] == minutes] for name, ones in found.items()}
    found = {name: ones for name, ones in found.items() if ones}
    lines = ["| change | fields | seeds | thousand pairs shown | parameters | MACs | CIFAR-FD to teacher | CIFAR-FD "
             "| class agreement | CIFAR-recall |", "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for name, ones in found.items():
        fields = ", ".join(f"{k}={v!r}" for k, v in CHANGES[name].items()) or "preset"
        columns = {k: [one["scores"][k] for one in ones] for k in SCORES}
        lines.append("| " + " | ".join([
            name, f"`{fields}`", f"{len(ones)}", spread([one["last"]["kimg"] for one in ones], "{:,.0f}"),
            f"{ones[0]['cost']['parameters']:,}", f"{ones[0]['cost']['macs'] / 1e6:.1f} M",
            spread(columns["cifar_fd_to_teacher"], "{:.2f}"), spread(columns["cifar_fd"], "{:.2f}"),
            spread(columns["class_agreement"], "{:.1%}"), spread(columns["cifar_recall"], "{:.1%}")]) + " |")
    every = [one for ones in found.values() for one in ones]
    told = sorted({f"{one['hardware']}, {one['date']}" for one in every})
    images = " or ".join(f"{n:,}" for n in sorted({one["scores"]["images"] for one in every}))
    pairs = " or ".join(f"{10 * n:,}" for n in sorted({one["asked"]["per_class"] for one in every}))
    text = "\n".join([*lines, "", f"{pairs} pairs of the embedded teacher, {minutes:g} minutes of one core's time a run, "
                      f"lowest to highest seed where there are two; {images} pictures scored. Measured by "
                      f"`python benchmarks/ablations.py`; one row: `--names` with its name ({'; '.join(told)}), PyTorch "
                      f"{torch.__version__.split('+')[0]}."])
    with replacing_file(page) as temporary:
        temporary.write_text(BLOCK.sub(lambda m: m[1] + text + "\n" + m[2], page.read_text(encoding="utf-8")),
                             encoding="utf-8")
    return text


def spread(values, form):
    """One value, or the lowest and the highest."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        sys.exit(f"error: {error}")
