"""The demo, on tiny networks: every file it names; stopped, it goes on where it was."""

import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from gsoc_kd.core.figures import class_grid, side_by_side
from gsoc_kd.core.files import read_json
from gsoc_kd.core.weights import load_network, network_hash
from gsoc_kd.evaluation import cost
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.pairs import draw_latents, load_pairs
from gsoc_kd.teachers import black_box
from gsoc_kd.training import DistillConfig

module = importlib.import_module("gsoc_kd.demo")
CONFIG = DistillConfig.preset("smoke", kimg=0.032, tick_kimg=0.016)
NAMES = ["real test images", "bundled teacher", "bundled student", "the student just made"]
FILES = {"animation.gif", "scores.json", "side_by_side.png", "student.png", "table.md"}


def tiny(seed):
    torch.manual_seed(seed)
    return ConvGenerator(z_dim=6, num_classes=4, widths=(8, 8, 4, 4), embed_dim=3).eval()


def test_the_demo_writes_all_it_names_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    teacher, bundled, asked, out = black_box(tiny(0)), tiny(1), [], tmp_path / "demo"

    def evaluate(generator, teacher):
        if not asked:
            asked.append("stopped")
            raise KeyboardInterrupt
        asked.append(network_hash(black_box(generator).network))
        return {"cifar_fd": len(asked) - 0.5, "class_accuracy": 0.25, "images": 10_000}

    monkeypatch.setattr(module, "load_teacher", lambda: teacher)
    monkeypatch.setattr(module, "load_student", lambda: bundled)
    monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.setattr(module, "lower_bound_row", lambda: {"name": NAMES[0], "cifar_fd": 0.1, "images": 10_000})
    tables = importlib.import_module("gsoc_kd.evaluation.table")
    monkeypatch.setattr(tables, "speeds", lambda some, **_: dict.fromkeys(some, 1234.0))
    with pytest.raises(KeyboardInterrupt):
        module.demo(out, per_class=8, config=CONFIG)
    stats = (out / "run" / "stats.jsonl").read_bytes()
    rows = module.demo(out, per_class=8, config=CONFIG)
    assert (out / "run" / "stats.jsonl").read_bytes() == stats  # trained once
    printed, table = capsys.readouterr().out, (out / "table.md").read_text()
    assert {p.name for p in out.iterdir()} == {"pairs", "run", *FILES}
    assert [text for text in [*FILES, "1/4", "2/4", "3/4", "4/4", table.strip()] if text not in printed] == []

    pairs = load_pairs(out / "pairs")
    assert len(pairs) == 32 and pairs.manifest["digest"] == teacher.digest
    student = load_network(out / "run" / "generator", (ConvGenerator,))
    scored = [teacher.network, bundled, student]
    assert [row["name"] for row in rows] == NAMES and all(name in table for name in NAMES)
    assert [row["cifar_fd"] for row in rows] == [0.1, 1.5, 2.5, 3.5]
    assert asked[1:] == [network_hash(network) for network in scored]
    assert [{key: row[key] for key in ("parameters", "macs")} for row in rows[1:]] == [cost(n) for n in scored]
    assert {row["images_per_second"] for row in rows[1:]} == {1234.0} and read_json(out / "scores.json") == rows

    box = black_box(student)
    z, y = torch.from_numpy(draw_latents(7, 0, 20, 6)), torch.arange(20) % 4
    both = side_by_side(teacher(z, y), box(z, y), columns=10, scale=3)
    for name, image in (("student.png", class_grid(box, 6, ("0", "1", "2", "3"))), ("side_by_side.png", both)):
        assert np.array_equal(np.asarray(Image.open(out / name)), np.asarray(image)), name
    with Image.open(out / "animation.gif") as animation:
        assert animation.n_frames == 2
