"""benchmarks/reference.py at smoke scale: every stage, a finished one not again, a stopped one goes on."""

import json
import sys
import zipfile
from functools import partial

import numpy as np
import pytest
import reference
from PIL import Image

from gsoc_kd.core.figures import png_bytes
from gsoc_kd.core.files import read_json
from gsoc_kd.core.weights import network_hash
from gsoc_kd.networks.distylegan import DiStyleGANGenerator
from gsoc_kd.training import runs

KD, NAMES = reference.kd, ("teacher", *reference.SMALL)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """smoke(out) on a zip of 40 images in ten classes; the networks of 2022 are narrow, and nothing is timed."""
    path = tmp_path_factory.mktemp("real") / "toy.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)):
            archive.writestr(f"{i}.png", png_bytes(image))
        archive.writestr("dataset.json", json.dumps({"labels": [[f"{i}.png", i % 10] for i in range(40)]}))

    def row(name, generator, scores):
        size = sum(p.numel() for p in generator.network.parameters())
        return {"name": name, "parameters": size, "macs": 1000, "images_per_second": 10.0, **scores}

    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules["gsoc_kd.training.distill"]
        patch.setattr(module, "DiStyleGANGenerator", partial(DiStyleGANGenerator, width=16))
        patch.setattr(runs, "NORM_BATCHES", (2, 16))
        patch.setattr(reference, "row", row)
        yield partial(reference.main, str(path), scale="smoke", device="cpu")


def test_it_leaves_networks_scores_and_a_report_in_one_go_or_in_parts(smoke, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert not smoke(whole)
    for name in NAMES:
        scores = read_json(whole / "scores" / f"{name}.json")
        assert scores["images"] == 1290 and 0 < scores["cifar_fd"] < 100 and scores["kimg"] == 0.064
        assert scores["hardware"] and "commit" in scores and ("cifar_fd_to_teacher" in scores) == (name != "teacher")
    shown = {"table.md", "trade-off.png", "images.png", *(f"{name}.gif" for name in NAMES)}
    assert {path.name for path in (whole / "report").iterdir()} == shown
    table = (whole / "report" / "table.md").read_text()
    assert all(f"| {name} | " in table and f"* {name}: 0 thousand images in " in table for name in NAMES)
    assert "90 % of the teacher's class accuracy" in table and "| real test images (lower bound) |" in table
    assert [read_json(whole / "runs" / f"pairs-{n}" / "manifest.json")["counts"][0] for n in (13, 26)] == [13, 26]
    seen = [read_json(whole / "runs" / name / "config.json")["real"] for name in NAMES[1:]]
    assert seen[:2] == [None, None] and seen[2].startswith("toy.zip, 40 images, sha256 ")
    assert Image.open(whole / "report" / "images.png").size == (20 * 65 + 1, len(NAMES) * 65 + 1)
    with monkeypatch.context() as patch:  # what is finished is not repeated
        for verb in ("pretrain", "distill", "evaluate"):
            patch.setattr(KD, verb, None)
        assert not smoke(whole)
    monkeypatch.setattr(KD, "evaluate", lambda *_, **__: {"cifar_fd": 1.0, "class_accuracy": 0.5, "images": 1})
    assert smoke(parts, minutes=0) == 3 and not (parts / "networks").exists()
    assert smoke(parts, minutes=0.01) == 3 and not smoke(parts)  # stopped at some tick or stage
    one, other = ([network_hash(KD.load_student(out / "networks" / n)) for n in NAMES] for out in (whole, parts))
    assert one == other
    with pytest.raises(reference.InputError, match="scale': 'smoke'.*not of.*'full'.*another --out"):
        smoke(parts, scale="full")
