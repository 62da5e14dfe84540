"""Recipes compared: many trainings that differ in one thing (studies.toml), scored alike, tabulated in docs/Studies.md.

    python benchmarks/studies.py recipe        students: ideas for the recipe, 600,000 pairs shown or as long
    python benchmarks/studies.py ablations     students: what each part of the preset is worth
    python benchmarks/studies.py trade-off     students of 50 thousand to 2 million parameters
    python benchmarks/studies.py equal-cost    the preset against the recipe of 2022
    python benchmarks/studies.py full-scale    the same at full length, of a better teacher; on a GPU
    python benchmarks/studies.py teacher       teachers: one field changed at a time
    python benchmarks/studies.py speed         images/s of the trade-off's students as INT8 files; on an idle machine
    python benchmarks/studies.py tables        every study's table from its figures, without training

On a CPU a run has one thread, so that two at once (`--seeds 0`, `--seeds 1`) hardly disturb each other. Its length is a
number of minutes of *processor* time; or thousands of pairs, which a row that costs more for each pair gets fewer of
(`costs.json`, measured once); or what the row says. A stopped run goes on; a finished one is not repeated: its figures
lie in benchmarks/results/STUDY. Rows that are called by name can share a large GPU. Exit code 3: the minutes are over.
"""

import functools
import json
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Literal

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox
from pages import check_block, main_program, markdown, write_block
from speed import in_turn

import gsoc_kd as kd
from gsoc_kd.core.checks import pick_device
from gsoc_kd.core.figures import grid, named_rows, save_png
from gsoc_kd.core.files import ASSETS, InputError, locked, read_json, replacing_file, write_json
from gsoc_kd.core.weights import provenance
from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.evaluation import cost, lower_bound_row
from gsoc_kd.evaluation.publish import publish
from gsoc_kd.pairs import Pairs, draw_latents
from gsoc_kd.training.blocks import Blocks
from gsoc_kd.training.distill import DistillTask, make_networks
from gsoc_kd.training.loop import prepare

STUDIES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
RUNS, RESULTS, PAGE = Path("runs"), Path("benchmarks/results"), Path("docs/Studies.md")
COLUMNS = [  # title, where it lies in a run's figures, how it is written; a column without figures is left out
    ("thousand images shown", "last", "kimg", "{:,.0f}".format),
    ("parameters", "cost", "parameters", "{:,}".format),
    ("MACs", "cost", "macs", lambda count: f"{count / 1e6:.1f} M"),
    ("INT8 images/s", "speed", "images_per_second", "{:,.0f}".format),
    ("CIFAR-FD to teacher", "scores", "cifar_fd_to_teacher", "{:.2f}".format),
    ("of it by covariances", "scores", "cifar_fd_to_teacher_cov", "{:.2f}".format),
    ("CIFAR-FD", "scores", "cifar_fd", "{:.2f}".format),
    ("class accuracy", "scores", "class_accuracy", "{:.1%}".format),
    ("CIFAR-recall", "scores", "cifar_recall", "{:.1%}".format),
    ("ImageNet-FD", "scores", "imagenet_fd", "{:.0f}".format),
    ("worst class", "scores", "cifar_fd_per_class", lambda classes: "{1:.1f} {0}".format(*worst(classes))),
]


def main(study: tyro.conf.Positional[Literal[(*STUDIES, "speed", "tables")]], names: tuple[str, ...] = (),
         seeds: tuple[int, ...] = (), minutes: float = float("inf")):  # fmt: skip
    """Trains, scores and writes the table of a study. After so many `minutes` no further row begins."""
    if study == "speed":
        return print(json.dumps(time_files(), indent=2))
    every, deadline = STUDIES if study == "tables" else {study: STUDIES[study]}, time.monotonic() + 60 * minutes
    for name in every:
        check_block(PAGE, name)
    rows = every[study]["rows"] if study != "tables" else {}
    if unknown := sorted(set(names) - set(rows)):
        raise InputError(f"{study} has no {unknown[0]!r}; choose from {', '.join(rows)}")
    for name in names or rows:
        for seed in seeds or every[study]["seeds"]:
            if time.monotonic() >= deadline:
                print("the minutes are over; call it again to go on")
                return 3
            train(study, name, seed)
    print("\n\n".join(write(name) for name in every))


def train(study, name, seed):
    """Trains and scores a row, unless its figures are there."""
    s, file = STUDIES[study], RESULTS / study / f"{name}-{seed}.json"
    if tag := s.get("tag"):
        raise InputError(f"the rows of {study} have fields that only the tag {tag} has: git checkout {tag}")
    teacher = kd.load_teacher(s.get("teacher", "embedded")) if s["per_class"] else None
    kimg = round(s["kimg"] / pair_costs(study)[name], 3) if "kimg" in s else 1e6
    config, asked = asking(study, name, seed, kimg, teacher and teacher.digest)
    if file.is_file() and same(read_json(file)["asked"], asked, type(config)):
        return print(f"{study}, {name}, seed {seed}: finished before")
    device = pick_device("cpu" if "minutes" in s else None)
    if device.type == "cpu":
        torch.set_num_threads(1)
    limit = dict(device=device.type, minutes=asked["minutes"])
    limit |= {"timer": time.process_time} if "minutes" in s else {}
    if teacher:
        place = RUNS / teacher.digest[:8]
        pairs = kd.make_pairs(teacher, asked["per_class"], seed=0, out=place / f"pairs-{asked['per_class']}")
        done = kd.distill(pairs, config, place / study / file.stem, asked["real"], **limit)
    else:
        done = kd.pretrain("cifar10", config, RUNS / study / file.stem, **limit)
    network = done.folder / "generator"
    if s.get("keep"):
        publish(network, kept := file.parent / "networks" / file.stem, scored=False)
        network = kept
    score(study, file, asked, network, done.stats[-1], teacher)


def score(study, file, asked, network, last, teacher):
    """Scores the network in a folder, and writes its figures: what was asked for, the last line of its training."""
    generator, made = kd.load_student(network), read_json(network / "provenance.json", check=True)
    scores = kd.evaluate(generator, per_class=1000, teacher=teacher, progress=False, imagenet=True)
    found = {"asked": asked, "last": last, "cost": cost(generator), "scores": scores}
    if teacher:
        of = Path(STUDIES[study].get("teacher", ASSETS / "teacher"))
        found["teacher"] = cost(teacher) | read_json(of / "provenance.json")["scores"]
    record(file, found, made | {"torch": made["versions"]["torch"]})


def asking(study, name, seed, kimg, digest):
    """(config, all that a row is asked for as its file has it) of a row's training from the teacher of this digest."""
    s = STUDIES[study]
    fields = {"preset": "laptop", "real": None, "minutes": s.get("minutes"), "per_class": s["per_class"], "kimg": kimg}
    row = s["rows"][name]
    fields |= {"tick_kimg": 20, **(s.get("common", {}) if "preset" not in row else {}), **row, "seed": seed}
    asked = {key: fields.pop(key) for key in ("minutes", "per_class", "real")}
    config = (kd.DistillConfig if s["per_class"] else kd.PretrainConfig).preset(fields.pop("preset"), **fields)
    asked |= {"teacher": digest, "config": asdict(config), "scored_per_class": 1000}
    return config, json.loads(json.dumps(asked))


def pair_costs(study, rounds=9):
    """{row: seconds of a pair as a multiple of the first row's}, of students on one core: measured once, all in turn,
    so that rows can be given equal time as a number of pairs, whatever else the machine does; kept with the figures.
    Rows that came later are measured beside the first one."""
    file, every = RESULTS / study / "costs.json", STUDIES[study]["rows"]
    with locked(file):
        costs = read_json(file)["costs"] if file.is_file() else {}
        if not (new := [name for name in every if name not in costs]):
            return costs
        torch.set_num_threads(1)
        calls, batches = {}, {}
        x, y = np.zeros((640, 32, 32, 3), np.uint8), np.arange(640) % 10
        z = np.float16(draw_latents(0, 0, len(x), kd.load_teacher().z_dim))
        pairs = Pairs(x, y, z, {"classes": list(CIFAR10_CLASSES), "z_from": "normal"}, None)
        for name in dict.fromkeys([next(iter(every)), *new]):
            config, _ = asking(study, name, 0, 1, None)
            task = DistillTask(pairs, config)
            accelerator, nets, _ = prepare(task, "cpu")
            calls[name], batches[name] = functools.partial(Blocks(task, nets, accelerator), 0, 8), config.batch
        seconds = {name: median(times) / batches[name] for name, times in in_turn(calls, rounds).items()}
        first = next(iter(seconds.values()))
        costs |= {name: round(seconds[name] / first, 3) for name in new}
        return record(file, {"costs": costs, "rounds": rounds})["costs"]


def same(old, new, kind):
    """Whether two runs were asked for alike. A field that the old config did not have stands at its default, and one
    that is gone was at its default in all rows that are still here."""
    default = json.loads(json.dumps(asdict(kind())))
    return {**old, "config": {name: old["config"].get(name, default[name]) for name in default}} == new


def record(file, found, made=None):
    """Writes what was measured, with hardware, commit and date, and returns it. made: those of the training."""
    told = made or provenance("", "") | {"torch": torch.__version__}
    told = told | {"torch": told["torch"].split("+")[0]}
    write_json(file, found := found | {key: told[key] for key in ("torch", "hardware", "commit", "date")})
    return found


def time_files(batch=256, rounds=10):
    """Images/s of the trade-off's students, of random weights, as 8-bit OpenVINO files; written, and returned."""
    z, y, calls = draw_latents(0, 0, batch, kd.load_teacher().z_dim), torch.arange(batch) % 10, {}
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(STUDIES["trade-off"]["rows"]):
            student, _ = make_networks(asking("trade-off", name, 0, 1, None)[0], z.shape[1], 10, 32)
            file = kd.export(student.eval(), Path(folder) / f"{i}.xml", "int8")
            calls[name] = functools.partial(kd.load_exported(file), z, y)
        rates = {name: batch / median(seconds) for name, seconds in in_turn(calls, rounds).items()}
    return record(RESULTS / "trade-off" / "speed.json", {"images_per_second": rates, "batch": batch})


def write(study):
    """Writes the table of a study's finished runs, its chart and what they say into the page; returns the text."""
    s, timed = STUDIES[study], RESULTS / study / "speed.json"
    timed = read_json(timed) if timed.is_file() else {}
    rows, lines = finished(study, timed.get("images_per_second", {})), []
    every = [one for ones in rows.values() for one in ones]
    if not every:
        where = f" at the tag {s['tag']}" if "tag" in s else ""
        text = f"Not measured yet: `python benchmarks/studies.py {study}` trains it{where}."
        write_block(PAGE, study, text)
        return text
    columns = [column for column in COLUMNS if any(column[2] in one.get(column[1], ()) for one in every)]
    for name, ones in rows.items():
        changed = s["rows"][name] or s.get("common", {"preset": "laptop"})
        fields = ", ".join(f"{key}={value!r}" for key, value in changed.items())
        lines.append([name, f"`{fields}`", len(ones), *(spread(ones, *column[1:]) for column in columns)])
    parts = [markdown(["", "fields", "seeds", *(column[0] for column in columns)], lines, left=2)]
    if study in ("trade-off", "full-scale"):
        parts += trade_off(study, rows)
        parts += [kept_images(study, rows)] if s.get("keep") else []
    elif study != "equal-cost":
        title, _, key, _ = next(column for column in COLUMNS[4:] if column in columns)
        chart = ladder({name: [one["scores"][key] for one in ones] for name, ones in rows.items()}, title)
        parts += [save(chart, f"study-{study}", f"{title} for each row, a dot for each seed")]
    text = "\n\n".join([*parts, caption(study, every, timed)])
    write_block(PAGE, study, text)
    return text


def finished(study, rates):
    """{row: figures of its runs as it now is}, of students those of the study's teacher, by default the bundled one."""
    s, rows = STUDIES[study], {}
    digest = kd.load_teacher(s.get("teacher", "embedded")).digest if s["per_class"] else None
    for name in s["rows"]:
        found = [read_json(path) for path in sorted((RESULTS / study).glob(f"{name}-[0-9]*.json"))]
        found = [one for one in found if one["asked"]["teacher"] == digest]
        if ones := [one for one in found if "tag" in s or as_asked(study, name, one["asked"])]:
            rows[name] = [{**one, "speed": {"images_per_second": rates[name]} if name in rates else {}} for one in ones]
    return rows


def as_asked(study, name, asked):
    """Whether figures are of the row as it now is."""
    old = asked["config"]
    config, now = asking(study, name, old["seed"], old["kimg"], asked["teacher"])
    return same(asked, now, type(config))


def worst(classes):
    """(name, value) of the class with the largest value."""
    return max(classes.items(), key=lambda item: item[1])


def spread(ones, part, key, form):
    values = [one[part][key] for one in ones if key in one.get(part, ())]
    values.sort(key=lambda value: worst(value)[1] if isinstance(value, dict) else value)
    return " to ".join(dict.fromkeys([form(values[0]), form(values[-1])])) if values else "–"


def caption(study, every, timed):
    """What the runs learned from, for how long, and with what they were measured."""
    parts, digest, number = ["Real CIFAR-10"], every[0]["asked"]["teacher"], "{:,}".format
    if digest:
        told = "CIFAR-FD {cifar_fd:.2f}, class accuracy {class_accuracy:.1%}".format(**every[0]["teacher"])
        whose = "the study's own teacher" if "teacher" in STUDIES[study] else "the bundled teacher"
        parts = [f"{spread(every, 'asked', 'per_class', number)} pairs for each class of {whose}, {told}"]
        lower_bound = every[0]["scores"]["cifar_fd_to_teacher_lower_bound"]
        parts.append(f"CIFAR-FD between two sets of the teacher's own images {lower_bound:.2f}")
    if "minutes" in STUDIES[study]:
        parts += [f"{spread(every, 'asked', 'minutes', number)} minutes of one core's time for each run"]
    elif "kimg" in STUDIES[study]:
        parts += [f"as many pairs as take the time of {STUDIES[study]['kimg']:,} thousand of the first row"]
    parts += ["lowest to highest seed", f"{spread(every, 'scores', 'images', number)} images scored"]
    if timed:
        parts.append("INT8 images/s at batch {batch}, all in turn, {hardware}, {date}".format(**timed))
    made = {f"{one['hardware']}, PyTorch {one['torch']}, {one['date']}, commit {one['commit']}" for one in every}
    return f"{'; '.join(parts)}. By `python benchmarks/studies.py {study}` ({'; '.join(sorted(made))})."


def trade_off(study, rows):
    """A chart of cost against distance, and the smallest student that keeps 90 % of the teacher's class accuracy."""
    teacher, students = {"name": "teacher", "marker": "*"} | next(iter(rows.values()))[0]["teacher"], []
    for name, ones in rows.items():
        scores = {key: mean(one["scores"][key] for one in ones) for key in ("cifar_fd", "class_accuracy")}
        students.append({"name": name, **ones[0]["cost"], **scores})
    told = "parameters and multiply-accumulates against CIFAR-FD"
    return save(size_quality([lower_bound_row(), teacher, *students]), study, told), least(teacher, students)


def kept_images(study, rows):
    """An image of each class by the teacher and by each kept network, on the same noise."""
    folder, y = RESULTS / study / "networks", np.arange(10)
    names = {name: folder / f"{name}-{ones[0]['asked']['config']['seed']}" for name, ones in rows.items()}
    generators = [kd.load_teacher(one) for one in (STUDIES[study].get("teacher", "embedded"), *names.values())]
    shown = [generator(draw_latents(7, 0, len(y), generator.z_dim), y) for generator in generators]
    image = named_rows(grid(np.concatenate(shown), columns=len(y)), ["teacher", *names])
    save_png(image, PAGE.with_name(f"{study}-students.png"), max_kb=100)
    return f"![An image of each class by the teacher and by each student, on the same noise]({study}-students.png)"


def least(teacher, students, key="class_accuracy"):
    """The smallest student that keeps 90 % of the teacher's class accuracy, in words."""
    one = min((s for s in students if s[key] >= 0.9 * teacher[key]), key=lambda s: s["parameters"], default=None)
    told = f"{one['name']}, with {one['parameters']:,} parameters and {one[key]:.1%}" if one else "none of these"
    return f"The smallest student that keeps 90 % of the teacher's class accuracy ({teacher[key]:.1%}): {told}."


def size_quality(rows):
    """What generators cost, in parameters and in multiply-accumulates, against CIFAR-FD: down and left is better. Rows
    are those of `evaluation.table.row`; one without a cost, such as real images, is a line, "marker" sets one apart.
    Each has its name beside it, at the first of four sides where that covers nothing."""
    panels = (figure := Figure(figsize=(10, 4), layout="constrained")).subplots(1, 2, sharey=True)
    for axes, key, label in zip(panels, ("parameters", "macs"), ("parameters", "multiply-accumulates an image")):
        axes.set(xscale="log", xlabel=label, ylim=(0, 1.12 * max(row["cifar_fd"] for row in rows)))
        for row in rows:
            if row.get(key):
                axes.scatter(row[key], row["cifar_fd"], s=50, color="tab:blue", marker=row.get("marker", "o"),
                             label=row["name"])  # fmt: skip
            else:
                axes.axhline(row["cifar_fd"], linestyle="--", color="grey", linewidth=1)
        axes.margins(x=0.12)
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=EngFormatter())  # 200 k, 1 M
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("CIFAR-FD")
    figure.draw_without_rendering()  # now all has its place
    for axes, key in zip(panels, ("parameters", "macs")):
        points = axes.transData.transform([(row[key], row["cifar_fd"]) for row in rows if row.get(key)])
        taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in points]
        for row in rows:
            name_beside(axes, row["name"], row.get(key), row["cifar_fd"], taken)
    return figure


def name_beside(axes, name, cost, quality, taken):
    """Writes a name beside a point, or at the left above a line, where it is clear of the boxes in `taken`; the last
    side if there is no such place. Its own box joins them."""
    beside = [
        ((0, 6), "center", "bottom"),
        ((0, -6), "center", "top"),
        ((7, 0), "left", "center"),
        ((-7, 0), "right", "center"),
    ]
    for offset, across, up in beside if cost else [((3, 3), "left", "bottom")]:
        where = (cost, quality) if cost else (0, quality)
        space = "data" if cost else ("axes fraction", "data")
        text = axes.annotate(name, where, offset, space, "offset points", ha=across, va=up, fontsize=8,
                             color="black" if cost else "dimgrey")  # fmt: skip
        box = text.get_window_extent()
        if not any(box.overlaps(one) for one in taken):
            break
        text.remove()
    else:
        axes.add_artist(text)
    taken.append(box)


def ladder(rows, title):
    """A line for each row of {name: list of numbers}, the lowest mean at the top, with a dot for each number, of which
    `title` says what they are; the mean of the row `base` is a vertical line."""
    names = sorted(rows, key=lambda name: -mean(rows[name]))
    axes = (figure := Figure(figsize=(8, 0.8 + 0.3 * len(names)), layout="constrained")).subplots()
    axes.grid(axis="x", alpha=0.3)
    for height, name in enumerate(names):
        axes.plot(rows[name], [height] * len(rows[name]), "o", color="tab:blue", alpha=0.7)
    if "base" in rows:
        axes.axvline(mean(rows["base"]), color="grey", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, None), xlabel=f"{title}, lower is better")
    return figure


def save(figure, study, told):
    """Writes a chart beside the page; returns the page's link to it."""
    with replacing_file(PAGE.with_name(f"{study}.png")) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
    return f"![{told}]({study}.png)"


if __name__ == "__main__":
    main_program(lambda: sys.exit(tyro.cli(main)))
