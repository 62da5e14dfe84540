"""What moves a teacher's scores: the same budget of minutes for a list of changes, one at a time, scored alike.

    python benchmarks/levers.py --minutes 30                        all of them, one after the other, on an idle machine
    python benchmarks/levers.py --minutes 30 --names base batch-128

A stopped run goes on when called again, a finished one is not repeated. After each run the table in docs/Results.md,
between its marks, is written anew. One seed each: a small difference is no finding.
"""
import datetime
import json
import os
import platform
import re
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import tyro

from gsoc_kd import runs
from gsoc_kd.evaluate import evaluate
from gsoc_kd.files import InputError, read_json, replacing_file, write_json
from gsoc_kd.images import load_images
from gsoc_kd.pretrain import PretrainConfig, pretrain

LEVERS = {  # name: what is changed; learning rate and R1 go with StyleGAN2's equalised weights
    "base": {},
    "stylegan2-generator": dict(architecture="stylegan2", lr=2.5e-3),
    "widths-flat": dict(widths=(128, 128, 96, 48)),
    "widths-steep": dict(widths=(384, 128, 48, 24)),
    "batch-32": dict(batch=32),
    "batch-128": dict(batch=128),
    "spectral-for-r1": dict(spectral=True, r1=0.0),
    "r1-0.1": dict(r1=0.1),
    "r1-1": dict(r1=1.0),
    "hinge": dict(loss="hinge"),
    "no-labels-in-disc": dict(disc_labels=False),
    "no-minibatch-deviation": dict(group=0),
    "stylegan2-disc": dict(disc="stylegan2", disc_lr=2.5e-3, r1=0.01, channel_base=2048, channel_max=128),
    "compile": dict(compile=True),
    "not-channels-last": dict(channels_last=False),
}
BLOCK = re.compile(r"(<!-- levers: .*? -->\n).*?(<!-- end of levers -->)", re.DOTALL)


def main(minutes: float = 30, names: tuple[str, ...] = tuple(LEVERS), preset: str = "laptop",
         out: Path = Path("runs/levers"), page: Path = Path("docs/Results.md"), real: str = "cifar10",
         device: str | None = None, per_class: int = 1000):
    """Trains, scores and writes the table.

    Args:
        minutes: of training for each change, scoring not counted.
        names: which of the changes; all by default.
        preset: of PretrainConfig, what is changed.
        out: a folder with a run for each change.
        page: the page with the marks.
        real: cifar10, a dataset zip or a folder.
        device: cpu, cuda; the fastest by default.
        per_class: pictures a class for the scores.
    """
    if unknown := sorted(set(names) - set(LEVERS)):
        raise InputError(f"there is no lever {unknown[0]!r}; choose from {', '.join(LEVERS)}")
    if not page.is_file() or not BLOCK.search(page.read_text(encoding="utf-8")):
        raise InputError(f"{page} has no block between <!-- levers: ... --> and <!-- end of levers -->")
    images = None
    for name in names:
        config = PretrainConfig.preset(preset, **{"kimg": 1e6, **LEVERS[name]})  # the minutes are the limit
        asked = {"config": json.loads(json.dumps(asdict(config))), "minutes": minutes, "per_class": per_class, "real": real}
        done = out / f"{name}.json"
        if done.is_file() and read_json(done)["asked"] == asked:
            print(f"{name}: finished before")
            continue
        images = images or load_images(real)
        run = pretrain(images, config, out / name, device, minutes=minutes)
        scores = evaluate(run.student, per_class=per_class, device=runs.pick_device(device))
        write_json(done, {"asked": asked, "last": run.stats[-1], "scores": scores, "hardware": hardware(device),
                          "date": datetime.date.today().isoformat()})
        write(page, out, preset)
    print(write(page, out, preset))


def hardware(device):
    """What the run was computed on."""
    if runs.pick_device(device).type == "cuda":
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def write(page, out, preset):
    """Writes the table of all finished levers between the page's marks, and returns it."""
    found = {name: read_json(out / f"{name}.json") for name in LEVERS if (out / f"{name}.json").is_file()}
    recall = any("cifar_recall" in one["scores"] for one in found.values())
    lines = ["| change | fields | minutes | thousand images | images/s | CIFAR-FD | class agreement |"
             + " CIFAR-recall |" * recall,
             "|---|---|--:|--:|--:|--:|--:|" + "--:|" * recall]
    for name, one in found.items():
        last, scores = one["last"], one["scores"]
        fields = ", ".join(f"{k}={v!r}" for k, v in LEVERS[name].items()) or f"preset {preset}"
        cells = [name, f"`{fields}`", f"{last['seconds'] / 60:.1f}", f"{last['kimg']:,.0f}",
                 f"{last['kimg'] * 1000 / last['seconds']:,.0f}", f"{scores['cifar_fd']:.2f}",
                 f"{scores['class_agreement']:.1%}"]
        if recall:
            cells.append(f"{scores['cifar_recall']:.1%}" if scores.get("cifar_recall") is not None else "–")
        lines.append(f"| {' | '.join(cells)} |")
    told = sorted({f"{one['hardware']}, {one['date']}" for one in found.values()})
    counts = sorted({one["scores"]["images"] for one in found.values()})
    counts = " or ".join(f"{n:,}" for n in counts)
    text = "\n".join([*lines, "", f"One seed a row; {counts} pictures scored. Measured by `python benchmarks/levers.py` "
                                  f"({'; '.join(told)}), PyTorch {torch.__version__}."])
    with replacing_file(page) as temporary:
        temporary.write_text(BLOCK.sub(lambda m: m[1] + text + "\n" + m[2], page.read_text(encoding="utf-8")),
                             encoding="utf-8")
    return text


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        sys.exit(f"error: {error}")
