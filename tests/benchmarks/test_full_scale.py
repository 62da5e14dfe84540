"""benchmarks/full_scale.py at smoke scale: every stage, in slices, and moved to another place half-way."""

import io
import json
import shutil
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gsoc_kd.teachers.load import load_teacher
from PIL import Image

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import network_hash
from gsoc_kd.evaluation.table import cost
from gsoc_kd.networks.distylegan import DiStyleGANGenerator
from gsoc_kd.training.distill import DistillConfig
from gsoc_kd.training.distill import make_networks as student_networks
from gsoc_kd.training.gan import PretrainConfig, averaged
from gsoc_kd.training.gan import make_networks as teacher_networks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import full_scale  # noqa: E402
from pieces import split  # noqa: E402

STUDENTS = ("default", "smallest", "distylegan-2022", "default-500k")
NAMES = ("teacher", *STUDENTS)
MB = 1_000_000


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaged, "__defaults__", (2, 16))
        patch.setattr(
            sys.modules["gsoc_kd.training.distill"], "DiStyleGANGenerator", partial(DiStyleGANGenerator, width=16)
        )
        patch.setattr(
            full_scale,
            "row",
            lambda name, generator, scores: {  # without its seconds of timing
                "name": name,
                "parameters": sum(p.numel() for p in generator.network.parameters()),
                "macs": 1000,
                "images_per_second": 10.0,
                **scores,
            },
        )
        yield patch


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A dataset zip of 40 images in ten classes, in pieces."""
    path, rng = tmp_path_factory.mktemp("real") / "toy.zip", np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(40):
            data = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(data, "PNG")
            archive.writestr(f"{i}.png", data.getvalue())
        archive.writestr("dataset.json", json.dumps({"labels": [[f"{i}.png", i % 10] for i in range(40)]}))
    return str(split(path, 50_000, remove=True)[0])


@pytest.fixture(scope="module")
def whole(patch, real, tmp_path_factory):
    """Run in one go."""
    out = tmp_path_factory.mktemp("whole")
    assert full_scale.main(real, out, "smoke", device="cpu") == 0
    return out


def networks(out):
    return {name: network_hash(load_teacher(out / "networks" / name).network) for name in NAMES}


def test_it_leaves_networks_scores_and_a_report(whole):
    assert {p.name for p in (whole / "networks").iterdir()} == set(NAMES)
    for name in NAMES:
        scores = read_json(whole / "scores" / f"{name}.json")
        assert scores["images"] == 1290 and 0 < scores["cifar_fd"] < 100 and scores["hardware"]
        assert ("cifar_fd_to_teacher" in scores) == (name != "teacher")
        assert read_json(whole / "networks" / name / "provenance.json")["config"]["seed"] == 0
    assert {p.name for p in (whole / "report").iterdir()} == {
        "table.md",
        "frontier.png",
        "pictures.png",
        *(f"{name}.gif" for name in NAMES),
    }
    table = (whole / "report" / "table.md").read_text()
    for name in NAMES:
        assert f"| {name} | " in table and f"* {name}: trained on 0 thousand pictures in " in table
        work = read_json(whole / "scores" / f"{name}.operations.json")
        # two a multiply-accumulate, forward and twice that backward, 16 products for 36 where training upsamples (UpConv2d)
        least = 2 * 3 * 16 / 36 * cost(load_teacher(whole / "networks" / name))["macs"]
        assert work["operations"] > least
    assert "* pairs-13: " in table and "peak" not in table  # a CPU's is not known
    assert ("90 % of the teacher's class agreement" in table) and "| real test images (floor) |" in table
    assert read_json(whole / "pairs-13" / "manifest.json")["counts"] == [13] * 10
    assert read_json(whole / "pairs-26" / "manifest.json")["teacher"] == "teacher"
    assert Image.open(whole / "report" / "pictures.png").size == (20 * 65 + 1, 5 * 65 + 1)


def test_a_finished_reference_is_not_repeated(whole, real, monkeypatch):
    for verb in ("pretrain", "distill", "evaluate", "step_operations"):
        monkeypatch.setattr(full_scale, verb, None)
    assert full_scale.main(real, whole, "smoke", device="cpu") == 0


def test_in_slices_it_ends_the_same(whole, real, tmp_path, monkeypatch):
    """Each training gets a moment a call: a step or more, then a checkpoint and the exit code for more to do."""
    monkeypatch.setattr(full_scale, "left", lambda deadline, least=0.2: 1e-6)
    monkeypatch.setattr(full_scale, "evaluate", lambda *_, **__: {"cifar_fd": 1.0, "class_agreement": 0.5, "images": 1})
    codes = []
    while codes[-1:] != [0] and len(codes) < 40:
        codes.append(full_scale.main(real, tmp_path, "smoke", device="cpu"))
    assert 10 < len(codes) < 40 and codes[-1] == 0
    assert networks(tmp_path) == networks(whole)


def test_it_goes_on_elsewhere_from_what_is_carried(patch, real, tmp_path, monkeypatch):
    with monkeypatch.context() as slices:
        slices.setattr(full_scale, "left", lambda deadline, least=0.2: 1e-6)
        assert full_scale.main(real, tmp_path / "here", "smoke", device="cpu") == full_scale.MORE_TO_DO
    assert {p.name for p in (tmp_path / "here" / "carry" / "teacher").iterdir()} == {
        "config.json",
        "stats.jsonl",
        "checkpoint.pt.000",
    }
    seen = full_scale.runs.read_stats(tmp_path / "here" / "teacher")
    shutil.copytree(tmp_path / "here" / "carry", tmp_path / "there")
    images = full_scale.load_images(str(tmp_path / "here" / "toy.zip"))
    config = PretrainConfig.preset("smoke", **full_scale.FEW)
    full_scale.finish_teacher(images, config, tmp_path / "there", 5, "cpu", None)
    stats = full_scale.runs.read_stats(tmp_path / "there" / "teacher")
    assert stats[: len(seen)] == seen and stats[-1]["kimg"] == 0.064 and len(stats) > len(seen)
    assert not list((tmp_path / "there" / "teacher").glob("checkpoint.p*[0d]"))  # pieces and what was packed


def test_a_slice_that_is_over_begins_nothing(real, tmp_path, monkeypatch):
    monkeypatch.setattr(full_scale, "pretrain", None)
    assert full_scale.main(real, tmp_path, "smoke", minutes=0.1, device="cpu") == full_scale.MORE_TO_DO
    assert not (tmp_path / "networks").exists()
    with pytest.raises(InputError, match="no scale 'huge'"):
        full_scale.main(real, tmp_path, "huge")


def test_shares_of_the_peak_are_told_where_it_is_known(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "out")
    run, work, scores = (out / "scores" / f"teacher{end}.json" for end in (".run", ".operations", ""))
    run.write_text(json.dumps({"kimg": 600, "seconds": 60.0}))  # 10,000 a second
    work.write_text(json.dumps({"operations": 1e6}))  # 1e10 a second
    scores.write_text(json.dumps({**read_json(scores), "images_per_second": 500.0, "macs": 20_000_000}))  # 2e10
    (out / "scores" / "pairs-13.json").write_text(json.dumps({"pairs_per_second": 250.0}))  # 1e10
    (out / "scores" / "peak.json").write_text(json.dumps({"operations_per_second": 1e11}))
    told = full_scale.speeds(full_scale.SCALES["smoke"], out)
    assert (
        "600 thousand pictures in 1.0 minutes, 10,000 a second (10.0% of the device's bfloat16 peak); "
        "draws 500 a second (20.0% of"
    ) in told
    assert "* pairs-13: 250 pairs a second (10.0% of" in told and "matrix product, 0 TFLOP/s" in told


def test_a_packed_checkpoint_trains_on_like_the_whole_one():
    def made():
        torch.manual_seed(0)
        network = torch.nn.Conv2d(20, 30, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2, betas=(0.0, 0.99), fused=True)
        return network, optimizer

    def step(network, optimizer):
        optimizer.zero_grad()
        network(torch.linspace(-1, 1, 3 * 20 * 9).view(3, 20, 3, 3)).square().sum().backward()
        optimizer.step()

    network, optimizer = made()
    for _ in range(3):
        step(network, optimizer)
    state = {"step": 3, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
    file, packed = io.BytesIO(), io.BytesIO()
    torch.save(state, file), torch.save(full_scale.pack(state), packed)
    packed.seek(0)
    loaded = torch.load(packed, weights_only=True)
    assert loaded["step"] == 3 and loaded["network"]["weight"].dtype == torch.float16
    assert not loaded["optimizer"]["state"][0]["exp_avg"].any()
    again, second = made()
    again.load_state_dict(loaded["network"]), second.load_state_dict(full_scale.unpack(loaded)["optimizer"])
    for p in again.parameters():  # what CUDA's fused Adam asks for
        assert [second.state[p][name].stride() for name in ("exp_avg", "exp_avg_sq")] == [p.stride()] * 2
    before = [p.detach().clone() for p in network.parameters()]
    step(network, optimizer), step(again, second)
    for a, b, old in zip(network.parameters(), again.parameters(), before):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        assert (a - old).abs().max() > 5e-3  # a step is much more than what packing changes


def test_moments_are_kept_where_adam_needs_them():
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.Adam([parameter], betas=(0.5, 0.99))
    parameter.sum().backward()
    optimizer.step()
    packed = full_scale.pack(optimizer.state_dict())["state"][0]
    assert packed["exp_avg"].tolist() == [0.5] * 4 and packed["exp_avg"].dtype == torch.bfloat16
    large = full_scale.pack({"variance": torch.tensor([1e6])})["variance"]
    assert large.dtype == torch.float32 and large.item() == 1e6  # float16 ends at 65,504


def test_what_leaves_the_full_scale_is_small():
    """Weights in float16 below 16 MB a file, what a slice of the teacher carries below 64 MB."""

    def count(network):
        return sum(p.numel() for p in network.parameters())

    plan = full_scale.SCALES["full"]
    teacher = PretrainConfig.preset(plan.teacher, **plan.changes)
    generator, disc = teacher_networks(teacher, 10, 32)
    assert 2 * count(generator) < 12 * MB
    assert teacher.betas[0] == 0  # so no first moments: weights, average, moments
    assert 2 * (3 * count(generator) + 2 * count(disc)) < 63.9 * MB  # torch.save adds less than a tenth
    sizes = {
        name: count(student_networks(DistillConfig.preset(one.preset, **one.changes), teacher.z_dim, 10, 32)[0])
        for name, one in plan.students.items()
    }
    assert 2 * sum(sizes.values()) < 16 * MB
    assert sizes["smallest"] < sizes["default"] / 2 < count(DiStyleGANGenerator(teacher.z_dim)) / 10
    page = (Path(full_scale.__file__).parents[1] / "docs" / "Training.md").read_text(encoding="utf-8")
    for number in (count(generator), count(DiStyleGANGenerator(teacher.z_dim)), sizes["default"], sizes["smallest"]):
        assert f", {number:,} parameters" in page
    shown = {name: DistillConfig.preset(one.preset, **one.changes) for name, one in plan.students.items()}
    assert {(c.kimg, c.batch) for c in shown.values()} == {(150 * 50, 128)}  # as many pairs and steps each
    frames = sum(c.kimg / c.tick_kimg for c in (teacher, *shown.values()))
    assert 2 * (count(generator) + sum(sizes.values())) + frames * 0.1 * MB < 62 * MB  # a film's frame takes 82 kB
