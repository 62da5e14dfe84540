"""Recipes compared: many trainings that differ in one thing (studies.toml), scored alike, tabulated in docs/Results.md.

    python benchmarks/studies.py levers        teachers: one field changed at a time, 50 minutes
    python benchmarks/studies.py ablations     students: one field changed at a time, 10,000 pairs, 15 minutes
    python benchmarks/studies.py equal-cost    our default against the recipe of 2022, 50,000 pairs, 120 minutes
    python benchmarks/studies.py frontier      students of 27 thousand to 2 million parameters, 50,000 pairs, 30 minutes
    python benchmarks/studies.py speed         images/s of the frontier's students as INT8 files; on an idle machine
    python benchmarks/studies.py tables        every study's table from its figures, without training

Each run has one thread and is given minutes of *processor* time, so that two at once (`--seeds 0` here, `--seeds 1`
there) hardly disturb each other. A stopped run goes on when called again; a finished one is not repeated: its figures
lie in benchmarks/results/STUDY, with the commit that can repeat them. If the bundled teacher is replaced, tables tell
of the old one until there are students of the new one.
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

import torch
import tyro
from charts import frontier, ladder
from speed import in_turn, markdown

import gsoc_kd as kd
from gsoc_kd.core.files import ASSETS, InputError, read_json, replacing_file, write_json
from gsoc_kd.core.pages import check_block, write_block
from gsoc_kd.core.weights import provenance
from gsoc_kd.evaluation import cost, floor_row
from gsoc_kd.pairs import draw_latents
from gsoc_kd.training.distill import make_networks

STUDIES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
RUNS, RESULTS, PAGE = Path("runs"), Path("benchmarks/results"), Path("docs/Results.md")
COLUMNS = [  # title, where it lies in a run's figures, how it is written; a column without figures is left out
    ("thousand images shown", "last", "kimg", "{:,.0f}".format),
    ("parameters", "cost", "parameters", "{:,}".format),
    ("MACs", "cost", "macs", lambda count: f"{count / 1e6:.1f} M"),
    ("INT8 images/s", "speed", "images_per_second", "{:,.0f}".format),
    ("CIFAR-FD to teacher", "scores", "cifar_fd_to_teacher", "{:.2f}".format),
    ("CIFAR-FD", "scores", "cifar_fd", "{:.2f}".format),
    ("class agreement", "scores", "class_agreement", "{:.1%}".format),
    ("CIFAR-recall", "scores", "cifar_recall", "{:.1%}".format),
]


def main(study: tyro.conf.Positional[str], names: tuple[str, ...] = (), seeds: tuple[int, ...] = (),
         shown: bool = False):  # fmt: skip
    """Trains, scores and writes the table of a study: all rows, or those of these names, and its own seeds, or others.
    `shown`: only the rows that have figures, be it of an earlier teacher."""
    if study == "speed":
        return print(json.dumps(time_files(), indent=2))
    if study not in (*STUDIES, "tables"):
        raise InputError(f"there is no study {study!r}; choose from {', '.join(STUDIES)}, speed, tables")
    every = STUDIES if study == "tables" else {study: STUDIES[study]}
    for name in every:
        check_block(PAGE, name)
    if study != "tables":
        rows = every[study]["rows"]
        if unknown := sorted(set(names) - set(rows)):
            raise InputError(f"{study} has no {unknown[0]!r}; choose from {', '.join(rows)}")
        for name in names or rows:
            if any((RESULTS / study).glob(f"{name}-[0-9]*.json")) or not shown:
                for seed in seeds or every[study]["seeds"]:
                    train(study, name, seed)
    print("\n\n".join(write(name) for name in every))


def train(study, name, seed):
    """Trains and scores a row, unless its figures are there."""
    s, file = STUDIES[study], RESULTS / study / f"{name}-{seed}.json"
    teacher = kd.load_teacher() if s["per_class"] else None
    fields = {"preset": "laptop", "real": None, "minutes": s["minutes"], "per_class": s["per_class"], "kimg": 1e6}
    fields |= {"tick_kimg": 20, **s.get("common", {}), **s["rows"][name], "seed": seed}
    asked = {key: fields.pop(key) for key in ("minutes", "per_class", "real")}
    config = (kd.DistillConfig if teacher else kd.PretrainConfig).preset(fields.pop("preset"), **fields)
    asked |= {"teacher": teacher and teacher.digest, "config": plain(config), "scored_per_class": 1000}
    if file.is_file() and same(read_json(file)["asked"], asked, type(config)):
        return print(f"{study}, {name}, seed {seed}: finished before")
    torch.set_num_threads(1)
    limit = dict(device="cpu", minutes=asked["minutes"], timer=time.process_time)
    if teacher:
        place = RUNS / teacher.digest[:8]
        pairs = kd.make_pairs(teacher, asked["per_class"], seed=0, out=place / f"pairs-{asked['per_class']}")
        run = kd.distill(pairs, config, place / study / file.stem, asked["real"], **limit)
    else:
        run = kd.pretrain("cifar10", config, RUNS / study / file.stem, **limit)
    scores = kd.evaluate(run.generator, per_class=1000, teacher=teacher, progress=False)
    found = {"asked": asked, "last": run.stats[-1], "cost": cost(run.generator), "scores": scores}
    if teacher:
        found["teacher"] = cost(teacher) | read_json(ASSETS / "teacher" / "provenance.json")["scores"]
    record(file, found)


def plain(config):
    """A config as JSON gives it back."""
    return json.loads(json.dumps(asdict(config)))


def same(old, new, kind):
    """Whether two runs were asked for alike. A field that the old config did not have stands at its default, and one
    that is gone was at its default in all rows that are still here."""
    config = plain(kind())
    config |= {name: value for name, value in old["config"].items() if name in config}
    return {**old, "config": config} == new


def record(file, found):
    """Writes what was measured, with hardware, commit and date, and returns it."""
    told = provenance("", "")
    found |= {"torch": torch.__version__.split("+")[0], **{key: told[key] for key in ("hardware", "commit", "date")}}
    write_json(file, found)
    return found


def time_files(batch=256, rounds=10):
    """Images/s of the frontier's students, of random weights, as 8-bit OpenVINO files; written, and returned."""
    z, y, calls = draw_latents(0, 0, batch, kd.load_teacher().z_dim), torch.arange(batch) % 10, {}
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, fields) in enumerate(STUDIES["frontier"]["rows"].items()):
            student, _ = make_networks(kd.DistillConfig(**fields), z.shape[1], 10, 32)
            file = kd.export(student.eval(), Path(folder) / f"{i}.xml", "int8")
            calls[name] = functools.partial(kd.load_exported(file), z, y)
        rates = {name: batch / median(seconds) for name, seconds in in_turn(calls, rounds).items()}
    return record(RESULTS / "frontier" / "speed.json", {"images_per_second": rates, "batch": batch})


def write(study):
    """Writes the table of a study's finished runs into the page, and returns it."""
    rows, lines, s = finished(study), [], STUDIES[study]
    every = [one for ones in rows.values() for one in ones]
    columns = [column for column in COLUMNS if any(column[2] in one.get(column[1], ()) for one in every)]
    for name, ones in rows.items():
        changed = s["rows"][name] or s.get("common", {"preset": "laptop"})
        fields = ", ".join(f"{key}={value!r}" for key, value in changed.items())
        lines.append([name, f"`{fields}`", len(ones), *(spread(ones, *column[1:]) for column in columns)])
    table = markdown(["", "fields", "seeds", *(column[0] for column in columns)], lines, left=2)
    conclusion = {"frontier": smallest, "equal-cost": lambda *_: []}.get(study, rungs)
    text = "\n\n".join([table, *conclusion(study, rows), caption(study, every)])
    write_block(PAGE, study, text)
    return text


def finished(study):
    """{row: figures of its runs}. Of students those of the bundled teacher; of the last one, if it has none yet."""
    rows, rates = {}, speeds(study).get("images_per_second", {})
    for name in STUDIES[study]["rows"]:
        rows[name] = [read_json(path) for path in sorted((RESULTS / study).glob(f"{name}-[0-9]*.json"))]
        for one in rows[name] if name in rates else ():
            one["speed"] = {"images_per_second": rates[name]}
    every = sorted((one for ones in rows.values() for one in ones), key=lambda one: one["date"])
    if not every:
        raise InputError(f"{RESULTS / study} has no figures of this study's rows")
    digests = [one["asked"]["teacher"] for one in every]
    digest = kd.load_teacher().digest if kd.load_teacher().digest in digests else digests[-1]
    rows = {name: [one for one in ones if one["asked"]["teacher"] == digest] for name, ones in rows.items()}
    return {name: ones for name, ones in rows.items() if ones}


def speeds(study):
    """What `time_files` has measured."""
    file = RESULTS / study / "speed.json"
    return read_json(file) if file.is_file() else {}


def spread(ones, part, key, form):
    """One value, or the lowest and the highest."""
    values = [one[part][key] for one in ones if key in one.get(part, ())]
    return " to ".join(dict.fromkeys([form(min(values)), form(max(values))])) if values else "–"


def caption(study, every):
    """What the runs learned from, for how long, and with what they were measured."""
    parts, digest, number = ["Real CIFAR-10"], every[0]["asked"]["teacher"], "{:,}".format
    if digest:
        teacher = "the bundled" if digest == kd.load_teacher().digest else f"an earlier ({digest[:8]})"
        told = "CIFAR-FD {cifar_fd:.2f}, class agreement {class_agreement:.1%}".format(**every[0]["teacher"])
        parts = [f"{spread(every, 'asked', 'per_class', number)} pairs for each class of {teacher} teacher, {told}"]
        floor = every[0]["scores"]["cifar_fd_to_teacher_floor"]
        parts.append(f"CIFAR-FD between two sets of the teacher's own images {floor:.2f}")
    parts.append(
        f"{spread(every, 'asked', 'minutes', number)} minutes of one core's time a run, lowest to highest seed"
    )
    parts.append(f"{spread(every, 'scores', 'images', number)} images scored")
    if speeds(study):
        parts.append("INT8 images/s at batch {batch}, all in turn, {hardware}, {date}".format(**speeds(study)))
    made = {f"{one['hardware']}, PyTorch {one['torch']}, {one['date']}, commit {one['commit']}" for one in every}
    return f"{'; '.join(parts)}. By `python benchmarks/studies.py {study}` ({'; '.join(sorted(made))})."


def rungs(study, rows):
    """A chart with a line for each row."""
    title, _, key, _ = COLUMNS[4 if STUDIES[study]["per_class"] else 5]
    save(ladder({name: [one["scores"][key] for one in ones] for name, ones in rows.items()}, title), study)
    return [f"![{title} of each row, a dot for each seed]({study}.png)"]


def smallest(study, rows):
    """A chart of cost against distance, and the smallest student that keeps 90 % of the teacher's class agreement."""
    teacher, key = {"name": "teacher", "marker": "*"} | next(iter(rows.values()))[0]["teacher"], "class_agreement"
    students = []
    for name, ones in rows.items():
        scores = {score: mean(one["scores"][score] for one in ones) for score in ("cifar_fd", key)}
        students.append({"name": name, **ones[0]["cost"], **scores})
    save(frontier([floor_row(), teacher, *students]), study)
    return [f"![parameters and multiply-accumulates against CIFAR-FD]({study}.png)", least(teacher, students)]


def least(teacher, students, key="class_agreement"):
    """The smallest student that keeps 90 % of the teacher's class agreement, in words."""
    keeping = [one for one in students if one[key] >= 0.9 * teacher[key]]
    one = min(keeping, key=lambda one: one["parameters"], default=None)
    told = f"{one['name']}, with {one['parameters']:,} parameters and {one[key]:.1%}" if one else "none of these"
    return f"The smallest student that keeps 90 % of the teacher's class agreement ({teacher[key]:.1%}): {told}."


def save(figure, study):
    with replacing_file(PAGE.with_name(f"{study}.png")) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        sys.exit(f"error: {error}")
