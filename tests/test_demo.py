"""The demo, on tiny networks: every file it names, and no work done twice."""

import importlib

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.folder import load_pairs
from gsoc_kd.pairs.make import draw_latents
from gsoc_kd.teachers.black_box import black_box
from gsoc_kd.teachers.load import GENERATORS
from PIL import Image

from gsoc_kd.core.figures import class_grid, side_by_side
from gsoc_kd.core.files import read_json
from gsoc_kd.core.weights import load_network, network_hash
from gsoc_kd.evaluation.table import cost
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.training.distill import DistillConfig
from gsoc_kd.training.gan import averaged

module = importlib.import_module("gsoc_kd.demo")
CONFIG = DistillConfig.preset("smoke", kimg=0.032, tick_kimg=0.016)
NAMES = ["real test images (floor)", "embedded teacher", "embedded student", "the student just made"]


def tiny(seed):
    torch.manual_seed(seed)
    return ConvGenerator(z_dim=6, num_classes=4, widths=(8, 8, 4, 4), embed_dim=3).eval()


@pytest.fixture
def embedded(monkeypatch):
    """Tiny embedded networks, and an evaluation that only notes whom it was asked about."""
    networks, asked = {"teacher": black_box(tiny(0)), "student": tiny(1)}, []

    def evaluate(generator):
        asked.append(network_hash(black_box(generator).network))
        return {"cifar_fd": len(asked) + 0.5, "class_agreement": 0.25, "images": 10_000}

    monkeypatch.setattr(module, "load_teacher", lambda: networks["teacher"])
    monkeypatch.setattr(module, "load_student", lambda: networks["student"])
    monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.setattr(module, "floor_row", lambda: {"name": NAMES[0], "cifar_fd": 0.1, "images": 10_000})
    monkeypatch.setattr(importlib.import_module("gsoc_kd.evaluation.evaluate"), "speed", lambda generator: 1234.0)
    monkeypatch.setattr(averaged, "__defaults__", (2, 16))
    return networks, asked


def test_the_demo_writes_all_it_names_and_a_second_call_reuses_it(embedded, tmp_path, capsys):
    networks, asked = embedded
    out = tmp_path / "demo"
    rows = module.demo(out, per_class=8, config=CONFIG)
    printed = capsys.readouterr().out

    assert [row["name"] for row in rows] == NAMES
    assert {p.name for p in out.iterdir()} == {
        "film.gif",
        "pairs",
        "run",
        "scores.json",
        "side_by_side.png",
        "student.png",
        "table.md",
    }
    pairs, student = load_pairs(out / "pairs"), load_network(out / "run" / "student", GENERATORS)
    assert len(pairs) == 32 and pairs.manifest["digest"] == networks["teacher"].digest
    assert asked == [network_hash(n) for n in (networks["teacher"].network, networks["student"], student)]
    for row, network in zip(rows[1:], (networks["teacher"].network, networks["student"], student)):
        assert {key: row[key] for key in ("parameters", "macs")} == cost(network)
        assert row["images_per_second"] == 1234.0 and row["weights"] == network_hash(network)
    assert [row["cifar_fd"] for row in rows] == [0.1, 1.5, 2.5, 3.5]
    assert read_json(out / "scores.json") == {row["name"]: row for row in rows[1:]}

    table = (out / "table.md").read_text()
    assert table.strip() in printed and all(name in table for name in NAMES)
    assert all(f"{n}/4" in printed for n in (1, 2, 3, 4))
    for name in ("student.png", "side_by_side.png", "film.gif", "scores.json", "table.md"):
        assert name in printed

    draw = black_box(student)
    z, y = torch.from_numpy(draw_latents(7, 0, 20, 6)), torch.arange(20) % 4
    expected = {
        "student.png": class_grid(draw, 6, ("0", "1", "2", "3")),
        "side_by_side.png": side_by_side(networks["teacher"](z, y), draw(z, y), columns=10, scale=3),
    }
    for name, picture in expected.items():
        assert np.array_equal(np.asarray(Image.open(out / name)), np.asarray(picture)), name
    with Image.open(out / "film.gif") as film:
        assert film.n_frames == 2

    again = module.demo(out, per_class=8, config=CONFIG)  # nothing is drawn, trained or scored
    assert again == rows and len(asked) == 3
    networks["student"] = tiny(2)  # other weights: that row alone is new
    again = module.demo(out, per_class=8, config=CONFIG)
    assert len(asked) == 4 and asked[3] == again[2]["weights"] == network_hash(networks["student"])
    assert (again[2]["cifar_fd"], again[1], again[3]) == (4.5, rows[1], rows[3])


def test_a_demo_that_was_stopped_goes_on_where_it_was(embedded, tmp_path, monkeypatch):
    _, asked = embedded
    evaluate = module.evaluate

    def stopped(generator):
        if len(asked) == 1:
            raise KeyboardInterrupt
        return evaluate(generator)

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            module.demo(tmp_path / "demo", per_class=8, config=CONFIG)
    assert list(read_json(tmp_path / "demo" / "scores.json")) == NAMES[1:2]
    stats = (tmp_path / "demo" / "run" / "stats.jsonl").read_bytes()
    rows = module.demo(tmp_path / "demo", per_class=8, config=CONFIG)
    assert [row["name"] for row in rows] == NAMES and len(asked) == 3  # the teacher is not scored again
    assert (tmp_path / "demo" / "run" / "stats.jsonl").read_bytes() == stats
