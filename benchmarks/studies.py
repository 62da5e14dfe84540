"""Recipes compared: many trainings that differ in one thing, scored alike, tabulated in docs/Results.md.

    python benchmarks/studies.py levers          teachers: one field changed at a time, 50 minutes
    python benchmarks/studies.py ablations       students: one field changed at a time, 10,000 pairs, 15 minutes
    python benchmarks/studies.py equal-cost      our default against the recipe of 2022, 50,000 pairs, 120 minutes
    python benchmarks/studies.py frontier        students of 27 thousand to 2 million parameters, 50,000 pairs, 30 minutes
    python benchmarks/studies.py speed           for `equal-cost` default and 2022 generator timed in turn, for `frontier` its
                                                 students as INT8 files; idle machine
    python benchmarks/studies.py tables          every study's table from its figures, without training

Each run has one thread and is given minutes of *processor* time. So two at once (`--seeds 0` here, `--seeds 1` there),
or other work on the machine, hardly change what they reach. A stopped run goes on when called again; a finished one is
not repeated: its figures lie in benchmarks/results/STUDY, those of the teacher in benchmarks/results/teachers.json; if
the embedded teacher is replaced, tables tell of the old one until students of the new one are there. After each run the
study's table in docs/Results.md, between its marks, is written anew; `--names` with names that are not there lists those
that are.
"""

import datetime
import json
import re
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median

import torch
import tyro
from gsoc_kd.pairs.make import draw_latents, make_pairs
from gsoc_kd.teachers.black_box import black_box
from gsoc_kd.teachers.load import EMBEDDED, load_teacher

from gsoc_kd.core.charts import frontier, ladder
from gsoc_kd.core.files import InputError, read_json, replacing_file, write_json
from gsoc_kd.core.weights import provenance
from gsoc_kd.deployment.export import export, load_exported
from gsoc_kd.evaluation.evaluate import evaluate
from gsoc_kd.evaluation.table import cost, floor_row
from gsoc_kd.training.distill import DistillConfig, distill, make_networks
from gsoc_kd.training.gan import PretrainConfig, pretrain


@dataclass(frozen=True)
class Study:
    minutes: float  # of processor time in training for each run
    per_class: int  # pairs a class; 0: teachers are trained, from real images, not students
    seeds: tuple[int, ...]
    changes: dict = field(
        default_factory=dict
    )  # name: fields of the config; "preset", "per_class", "real", "minutes" may join
    common: dict = field(default_factory=dict)  # fields of every row that does not change them


STUDIES = {
    "levers": Study(
        50,
        0,
        (0,),
        {  # learning rate and R1 go with StyleGAN2's equalised weights
            "base": {},
            "stylegan2-generator": dict(architecture="stylegan2", lr=2.5e-3),
            "features-disc": dict(disc="features"),  # training its classifier takes part of the row's minutes
            "batch-32": dict(batch=32),
            "spectral-for-r1": dict(spectral=True, r1=0.0),
            "no-labels-in-disc": dict(disc_labels=False),
            "widths-flat": dict(widths=(128, 128, 96, 48)),
            "r1-0.1": dict(r1=0.1),
            "no-brightness": dict(brightness=0.0),
            "r1-and-widths": dict(r1=0.1, widths=(192, 128, 96, 48)),  # what the preset took over
            "flat-no-brightness": dict(widths=(128, 128, 96, 48), brightness=0.0),
            "flat-no-brightness-r1": dict(widths=(128, 128, 96, 48), brightness=0.0, r1=0.1),
            "rates-doubled": dict(lr=4e-4, disc_lr=8e-4),
            "stylegan2-disc": dict(disc="stylegan2", disc_lr=2.5e-3, r1=0.01, channel_base=2048, channel_max=128),
            "batch-128": dict(batch=128),
            "r1-1": dict(r1=1.0),
            "hinge": dict(loss="hinge"),
            "widths-steep": dict(widths=(384, 128, 48, 24)),
            "no-minibatch-deviation": dict(group=0),
            "not-channels-last": dict(channels_last=False),
            "compile": dict(compile=True),  # needs a C++ compiler
        },
        common=dict(r1=0.3, widths=(256, 128, 64, 32)),
    ),  # the preset's when they were compared
    "ablations": Study(
        15,
        1000,
        (0, 1),
        {
            "base": {},
            "more-pairs": dict(per_class=5000),
            "no-augmentation": dict(shift=0, brightness=0.0),
            "adversarial-every-10": dict(adversarial_every=10),
            "no-feature-loss": dict(feature_weight=0.0),
            "no-labels-in-disc": dict(disc_labels=False),
            "disc-of-2022": dict(disc="distylegan"),
            "pixel-weight-halving": dict(pixel_half_kimg=50.0),
            "separable": dict(block="separable"),
            "glu": dict(block="glu"),
            "real-images": dict(real="cifar10", gan_weight=0.1, disc_gan_weight=1.0),
            "widths-flat": dict(widths=(64, 64, 32, 24)),
            "rank-16": dict(rank=16),
            "adversarial-0.3": dict(adversarial_weight=0.3),
            "no-pixel-loss": dict(pixel_weight=0.0),
            "latent-first-layer-only": dict(skip_z=False),
            "classifier-features": dict(
                features="classifier"
            ),  # of a classifier of the pairs, trained first, then fixed
        },
    ),
    "equal-cost": Study(
        120,
        5000,
        (0, 1),
        {"distylegan-2022": dict(preset="distylegan-2022"), "default-in-30-minutes": dict(minutes=30), "default": {}},
    ),
    "frontier": Study(
        30,
        5000,
        (0,),
        {
            "27k": dict(widths=(24, 16, 12, 8), embed_dim=8, rank=8),
            "50k": dict(widths=(40, 24, 16, 12), embed_dim=16, rank=16),
            "100k": dict(widths=(64, 36, 20, 12), embed_dim=24, rank=32),
            "200k": {},
            "500k": dict(widths=(160, 96, 48, 24), rank=64),
            "1.6M": dict(widths=(352, 192, 96, 48), embed_dim=64, rank=96),
            "separable": dict(widths=(128, 96, 64, 32), block="separable"),
            "TinyGAN block": dict(widths=(96, 72, 48, 24), block="residual"),
            "2022 network": dict(student="distylegan"),
        },
    ),
}
COUNTS = ("cifar_fd_to_teacher_floor", "images")
COLUMNS = {
    "cifar_fd_to_teacher": ("CIFAR-FD to teacher", "{:.2f}"),
    "cifar_fd": ("CIFAR-FD", "{:.2f}"),
    "class_agreement": ("class agreement", "{:.1%}"),
    "cifar_recall": ("CIFAR-recall", "{:.1%}"),
}
SCORES = tuple(COLUMNS)


def main(
    study: tyro.conf.Positional[str],
    names: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    minutes: float | None = None,
    per_class: int | None = None,
    runs: Path = Path("runs"),
    results: Path = Path("benchmarks/results"),
    page: Path = Path("docs/Results.md"),
    scored_per_class: int = 1000,
    shown: bool = False,
):
    """Trains, scores and writes the table of a study.

    Args:
        study: levers, ablations, equal-cost, frontier; or speed or tables.
        names: which of its rows; all by default.
        seeds: of the training; the pairs are the same. The study's own by default.
        minutes: of processor time in training for each run, scoring not counted. The study's own by default.
        per_class: pairs a class, of the embedded teacher. The study's own by default.
        runs: a folder for pairs and runs; those of each teacher in a folder that is called after its hash.
        results: a folder for the figures of finished runs.
        page: the page with the marks.
        scored_per_class: pictures a class for the scores.
        shown: of these rows, only those that have figures, be it of an earlier teacher.
    """
    if study == "speed":
        return print(
            json.dumps(
                [
                    time_generators(results / "equal-cost" / "speed.json"),
                    time_files(results / "frontier" / "speed.json"),
                ],
                indent=2,
            )
        )
    if study not in (*STUDIES, "tables"):
        raise InputError(f"there is no study {study!r}; choose from {', '.join(STUDIES)}, speed, tables")
    every, text = (
        tuple(STUDIES) if study == "tables" else (study,),
        page.read_text(encoding="utf-8") if page.is_file() else "",
    )
    if without := [name for name in every if not block(name).search(text)]:
        raise InputError(f"{page} has no block between <!-- {without[0]}: ... --> and <!-- end of {without[0]} -->")
    if study == "tables":
        return print("\n\n".join(write(name, page, results) for name in every))
    s = STUDIES[study]
    if unknown := sorted(set(names) - set(s.changes)):
        raise InputError(f"{study} has no {unknown[0]!r}; choose from {', '.join(s.changes)}")
    torch.set_num_threads(1)
    teacher = load_teacher()
    remember(teacher, results)
    rows = [name for name in names or s.changes if not shown or any((results / study).glob(f"{name}-[0-9]*.json"))]
    for name in rows:
        fields = {**s.common, **s.changes[name]}
        preset, real = fields.pop("preset", "laptop"), fields.pop("real", None)
        count, own = fields.pop("per_class", per_class or s.per_class), fields.pop("minutes", s.minutes)
        limit = minutes or own
        for seed in seeds or s.seeds:
            kind = DistillConfig if count else PretrainConfig
            config = kind.preset(preset, **{"kimg": 1e6, "tick_kimg": 20, **fields, "seed": seed})
            asked = {
                "config": json.loads(json.dumps(asdict(config))),
                "minutes": limit,
                "per_class": count,
                "real": real,
                "teacher": teacher.digest if count else None,
                "scored_per_class": scored_per_class,
            }
            done, place = results / study / f"{name}-{seed}.json", runs / teacher.digest[:8] if count else runs
            folder = place / study / f"{name}-{seed}"
            if done.is_file() and same(read_json(done)["asked"], asked, kind):
                print(f"{name}, seed {seed}: finished before")
                continue
            if count:
                pairs = make_pairs(teacher, count, seed=0, out=place / f"pairs-{count}")
                run = distill(pairs, config, folder, real, "cpu", limit, time.process_time)
            else:
                run = pretrain("cifar10", config, folder, "cpu", limit, timer=time.process_time)
            scores = evaluate(
                run.student, per_class=scored_per_class, teacher=teacher if count else None, progress=False
            )
            done.parent.mkdir(parents=True, exist_ok=True)
            write_json(
                done,
                {
                    "asked": asked,
                    "last": run.stats[-1],
                    "cost": cost(run.student),
                    "scores": {k: scores[k] for k in (*SCORES, *COUNTS) if k in scores},
                    "torch": torch.__version__.split("+")[0],
                    "hardware": provenance("", "")["hardware"],
                    "date": datetime.date.today().isoformat(),
                },
            )
            print(write(study, page, results, minutes), flush=True)
    print(write(study, page, results, minutes))


def remember(teacher, results):
    """Keeps what the embedded teacher costs and scores beside the figures of its students."""
    file, scores = results / "teachers.json", read_json(EMBEDDED / "teacher" / "provenance.json")["scores"]
    known = read_json(file) if file.is_file() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        file, {**known, teacher.digest: {**cost(teacher), **{k: scores[k] for k in ("cifar_fd", "class_agreement")}}}
    )


def same(old, new, kind=DistillConfig):
    """Whether two runs were asked for alike; fields that a config did not have yet stand at their defaults."""
    defaults = json.loads(json.dumps(asdict(kind())))
    return {**old, "config": {**defaults, **old["config"]}} == new


# ---------------------------------------------------------------- the table


def block(study):
    """What stands between a study's marks on a page."""
    return re.compile(rf"(<!-- {study}: .*? -->\n).*?(<!-- end of {study} -->)", re.DOTALL)


def write(study, page, results, minutes=None):
    """Writes the table of a study's finished runs between the page's marks, and returns it.

    Runs of other minutes than the rows' own, or than `minutes`, are left out.
    """
    rows, speed = finished(study, results, minutes), results / study / "speed.json"
    speed = read_json(speed) if study == "frontier" and speed.is_file() else None
    rates = speed["images_per_second"] if speed else {}
    columns = {k: told for k, told in COLUMNS.items() if STUDIES[study].per_class or k != "cifar_fd_to_teacher"}
    lines = [
        "| "
        + " | ".join(
            [
                "",
                "fields",
                "seeds",
                "thousand pictures shown",
                "parameters",
                "MACs",
                *(["INT8 images/s"] if rates else []),
                *(title for title, _ in columns.values()),
            ]
        )
        + " |",
        "|---|---|" + "--:|" * (4 + bool(rates) + len(columns)),
    ]
    for name, ones in rows.items():
        drawn = (
            [f"{rates[name]:,.0f}" if name in rates else "–"] if rates else []
        )  # a row may be younger than the rates
        fields = STUDIES[study].changes[name] or STUDIES[study].common
        fields = ", ".join(f"{k}={v!r}" for k, v in fields.items()) or "preset laptop"
        lines.append(
            "| "
            + " | ".join(
                [
                    name,
                    f"`{fields}`",
                    f"{len(ones)}",
                    spread([one["last"]["kimg"] for one in ones], "{:,.0f}"),
                    f"{ones[0]['cost']['parameters']:,}",
                    f"{ones[0]['cost']['macs'] / 1e6:.1f} M",
                    *drawn,
                    *(spread([one["scores"][k] for one in ones], form) for k, (_, form) in columns.items()),
                ]
            )
            + " |"
        )
    every = [one for ones in rows.values() for one in ones]
    told = "; ".join(sorted({f"{one['hardware']}, PyTorch {one['torch']}, {one['date']}" for one in every}))
    images = " or ".join(f"{n:,}" for n in sorted({one["scores"]["images"] for one in every}))
    minutes = " or ".join(f"{n:g}" for n in sorted({one["asked"]["minutes"] for one in every}))
    seeds = ", lowest to highest seed" if max(map(len, rows.values())) > 1 else ", one seed"
    floor = (
        ""
        if "cifar_fd_to_teacher" not in columns
        else (
            "; CIFAR-FD between two sets of the teacher's own pictures: "
            f"{every[0]['scores']['cifar_fd_to_teacher_floor']:.2f}"
        )
    )
    timed = (
        ""
        if not speed
        else (
            f"; INT8 images/s: their OpenVINO files, batch {speed['batch']}, all timed in turn by `python "
            f"benchmarks/studies.py speed` ({speed['hardware']}, {speed['date']})"
        )
    )
    text = "\n".join(
        [
            *lines,
            "",
            *said(study, rows, results, page),
            f"{seen(every, results)}, {minutes} minutes of one core's time a run{seeds}; {images} pictures "
            f"scored{floor}{timed}. Measured by `python benchmarks/studies.py {study}`, where `--names` picks rows "
            f"({told}).",
        ]
    )
    with replacing_file(page) as temporary:
        temporary.write_text(
            block(study).sub(lambda m: m[1] + text + "\n" + m[2], page.read_text(encoding="utf-8")), encoding="utf-8"
        )
    return text


def finished(study, results, minutes=None):
    """{row: figures of its runs}. Of students those of the embedded teacher; of the last one, if it has none yet."""
    rows, s = {}, STUDIES[study]
    for name, fields in s.changes.items():
        ones = [read_json(path) for path in sorted((results / study).glob(f"{name}-[0-9]*.json"))]
        rows[name] = [one for one in ones if one["asked"]["minutes"] == (minutes or fields.get("minutes", s.minutes))]
    every = sorted((one for ones in rows.values() for one in ones), key=lambda one: one["date"])
    if not every:
        raise InputError(f"{results / study} has no figures of runs of these minutes")
    digests = [one["asked"]["teacher"] for one in every]
    digest = load_teacher().digest if load_teacher().digest in digests else digests[-1]
    rows = {name: [one for one in ones if one["asked"]["teacher"] == digest] for name, ones in rows.items()}
    return {name: ones for name, ones in rows.items() if ones}


def seen(every, results):
    """What the runs learned from."""
    digest = every[0]["asked"]["teacher"]
    if digest is None:
        return "Real CIFAR-10"
    pairs = " or ".join(f"{10 * n:,}" for n in sorted({one["asked"]["per_class"] for one in every}))
    if digest == load_teacher().digest:
        return f"{pairs} pairs of the embedded teacher"
    old = read_json(results / "teachers.json")[digest]
    return (
        f"{pairs} pairs of an earlier embedded teacher (CIFAR-FD {old['cifar_fd']:.2f}, class agreement "
        f"{old['class_agreement']:.1%}, sha256 {digest[:8]})"
    )


def spread(values, form):
    """One value, or the lowest and the highest."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def said(study, rows, results, page):
    """What the table is for, in words and figures taken from it."""

    def average(name, key):
        return mean(one["scores"][key] for one in rows[name])

    if study == "equal-cost" and "distylegan-2022" in rows and len(rows) > 1:
        lines = []
        for name in (name for name in rows if name != "distylegan-2022"):
            to_teacher, to_real = (average(name, key) / average("distylegan-2022", key) for key in SCORES[:2])
            fewer = rows[name][0]["cost"]["parameters"] / rows["distylegan-2022"][0]["cost"]["parameters"]
            lines.append(
                f"`{name}`: its CIFAR-FD to the teacher is {to_teacher:.2f} times that of `distylegan-2022`, its CIFAR-FD "
                f"to real images {to_real:.2f} times, its parameters {fewer:.2f} times."
            )
        if (results / study / "speed.json").is_file():
            speed = read_json(results / study / "speed.json")
            lines.append(
                f"The default draws {speed['ratio']:.1f} times as many images a second (batch {speed['batch']}, both timed in "
                f"turn by `python benchmarks/studies.py speed`, {speed['hardware']}, {speed['date']})."
            )
        return [*lines, ""]
    if study in ("ablations", "levers"):
        key = "cifar_fd_to_teacher" if study == "ablations" else "cifar_fd"
        with replacing_file(page.with_name(f"{study}.png")) as temporary:
            ladder(
                {name: [one["scores"][key] for one in ones] for name, ones in rows.items()}, COLUMNS[key][0]
            ).savefig(temporary, format="png", dpi=80)
        return [f"![{COLUMNS[key][0]} of each row, a dot a seed]({study}.png)\n"]
    if study == "frontier":
        digest = next(iter(rows.values()))[0]["asked"]["teacher"]
        teacher = {"name": "teacher", "marker": "*", **read_json(results / "teachers.json")[digest]}
        students = [
            {
                "name": name,
                **ones[0]["cost"],
                "cifar_fd": average(name, "cifar_fd"),
                "class_agreement": average(name, "class_agreement"),
            }
            for name, ones in rows.items()
        ]
        with replacing_file(page.with_name("frontier.png")) as temporary:
            frontier([floor_row(), teacher, *students]).savefig(temporary, format="png", dpi=80)
        keep = [one for one in students if one["class_agreement"] >= 0.9 * teacher["class_agreement"]]
        least = min(keep, key=lambda one: one["parameters"]) if keep else None
        told = (
            f"{least['name']}, with {least['parameters']:,} parameters and {least['class_agreement']:.1%}"
            if keep
            else "none of these"
        )
        return [
            f"![parameters and multiply-accumulates against CIFAR-FD](frontier.png)\n\nThe smallest student that keeps "
            f"90 % of the teacher's class agreement ({teacher['class_agreement']:.1%}): {told}.\n"
        ]
    return []


# ---------------------------------------------------------------- speed


def time_generators(file, batch=256, rounds=10):
    """Default and 2022 student, as black boxes that give uint8 pictures; writes and returns their rates."""
    boxes = {
        preset: black_box(
            make_networks(DistillConfig.preset(preset), load_teacher().z_dim, 10, 32)[0].eval(), batch=batch
        )
        for preset in ("laptop", "distylegan-2022")
    }
    rates = in_turn(boxes, batch, rounds)
    return record(
        file, {"images_per_second": rates, "ratio": rates["laptop"] / rates["distylegan-2022"], "batch": batch}
    )


def time_files(file, batch=256, rounds=10):
    """The frontier's students, of random weights, as 8-bit OpenVINO files; writes and returns their rates."""
    with tempfile.TemporaryDirectory() as folder:
        boxes = {}
        for i, (name, fields) in enumerate(STUDIES["frontier"].changes.items()):
            student, _ = make_networks(DistillConfig(**fields), load_teacher().z_dim, 10, 32)
            boxes[name] = load_exported(export(student.eval(), Path(folder) / f"{i}.xml", "int8"))
        return record(file, {"images_per_second": in_turn(boxes, batch, rounds), "batch": batch})


def in_turn(boxes, batch, rounds):
    """Images a second of black boxes that take turns: medians of the rounds."""
    z, y, seconds = (
        draw_latents(0, 0, batch, load_teacher().z_dim),
        torch.arange(batch) % 10,
        {name: [] for name in boxes},
    )
    for _ in range(rounds + 1):  # the first is not counted
        for name, box in boxes.items():
            start = time.perf_counter()
            box(z, y)
            seconds[name].append(time.perf_counter() - start)
    return {name: batch / median(times[1:]) for name, times in seconds.items()}


def record(file, found):
    """Writes what was measured, with hardware and date, and returns it."""
    found |= {"hardware": provenance("", "")["hardware"], "date": datetime.date.today().isoformat()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        sys.exit(f"error: {error}")
