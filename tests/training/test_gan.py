"""Pretraining: one step computed by hand, resumed runs that end like uninterrupted ones, clear refusals."""

import ast
import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gsoc_kd.teachers.load import GENERATORS

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import load_network
from gsoc_kd.data.images import LabelledImages, to_float
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.discriminator import ProjectionDiscriminator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.networks.stylegan2_disc import StyleGAN2Discriminator
from gsoc_kd.training import runs
from gsoc_kd.training.gan import PRESETS, R1_EVERY, PretrainConfig, averaged, make_networks, pretrain
from gsoc_kd.training.losses import logistic_discriminator, logistic_generator

module = importlib.import_module("gsoc_kd.training.gan")
REPOSITORY = Path(__file__).resolve().parents[2]
STYLE = dict(
    architecture="stylegan2",
    disc="stylegan2",
    w_dim=8,
    channel_base=128,
    channel_max=8,
    lr=2.5e-3,
    disc_lr=2.5e-3,
    r1=0.01,
)
CLASSES = ("cat", "dog", "ship")
TIMES = {"seconds", "images_per_second"}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Batch norm is measured on 32 pictures, not on 1,024."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaged, "__defaults__", (2, 16))
        yield


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    return LabelledImages(rng.integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3, CLASSES, "toy")


def config(**changes):
    """4 ticks of 2 steps."""
    return PretrainConfig.preset("smoke", **{**dict(kimg=0.128, tick_kimg=0.032), **changes})


def untimed(stats):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in stats]


def assert_same(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def whole(real, tmp_path_factory):
    return pretrain(real, config(), tmp_path_factory.mktemp("pretrain") / "run", "cpu")


# ---------------------------------------------------------------- the config


def test_presets_differ_from_the_defaults_in_named_fields_and_bad_fields_are_refused():
    assert PretrainConfig.preset("laptop") == PretrainConfig() and set(PRESETS) == {
        "smoke",
        "laptop",
        "gpu",
        "stylegan2-ada",
    }
    assert PretrainConfig.preset("laptop", seed=3).seed == 3
    for changes, message in (
        (dict(lr=0), "lr"),
        (dict(ema=1.0), "ema"),
        (dict(batch=1.5), "batch"),
        (dict(shift=-1), "shift"),
        (dict(colour=1), "colour"),
        (dict(architecture="vae"), "architecture must be one of conv, stylegan2, got 'vae'"),
        (dict(disc="none"), "disc must be one of"),
        (dict(loss="l2"), "loss must be one of"),
        (dict(disc="stylegan2", spectral=True), "spectral"),
        (dict(w_dim=0), "w_dim"),
    ):
        with pytest.raises(InputError, match=f"PretrainConfig.*{message}"):
            PretrainConfig.preset("smoke", **changes)


def test_what_cannot_be_trained_is_refused_and_the_folder_stays_free(real, tmp_path):
    for changes, message in (
        (dict(batch=64, group=4), "a batch of 64 needs at least as many images, there are 48"),
        (dict(widths=(8, 8)), "2 widths end at 8 pixels"),
        (dict(group=5), "multiple of group 5"),
    ):
        with pytest.raises(InputError, match=message):
            pretrain(real, config(**changes), tmp_path / "run", "cpu")
        assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- one step


def test_one_step_is_the_one_written_out_here(real, tmp_path):
    c = config(kimg=0.016, tick_kimg=0.016, shift=0, brightness=0.0, ema=0.0, bfloat16=False)
    run = pretrain(real, c, tmp_path / "run", "cpu")

    torch.manual_seed(c.seed)
    generator = ConvGenerator(8, 3, 32, c.widths, c.embed_dim)
    disc = ProjectionDiscriminator(3, 32, c.disc_width, c.group, spectral=False)
    optimizer = torch.optim.Adam(generator.parameters(), c.lr, betas=c.betas)
    disc_optimizer = torch.optim.Adam(disc.parameters(), c.disc_lr, betas=c.betas)
    rows = runs.Batches(48, 16, c.seed)(0)
    x, y = to_float(real.images[rows]), torch.from_numpy(real.labels)[rows]
    z = torch.randn(16, 8, generator=runs.rng(c.seed, 0))

    with torch.no_grad():
        generated = generator(z, y)
    disc_loss = logistic_discriminator(disc(x, y)[0], disc(generated, y)[0])
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(disc(x, y)[0].sum(), x, create_graph=True)
    r1 = slope.square().flatten(1).sum(1).mean()
    (disc_loss + c.r1 / 2 * R1_EVERY * r1).backward()  # every 8th step, 8 times as much
    disc_optimizer.step()
    loss = logistic_generator(disc(generator(z, y), y)[0])
    generator.zero_grad()
    loss.backward()
    optimizer.step()

    assert len(run.stats) == 1 and run.stats[0]["step"] == 1 and run.stats[0]["kimg"] == 0.016
    assert run.stats[0]["disc"] == pytest.approx(disc_loss.item(), abs=1e-4)
    assert run.stats[0]["generator"] == pytest.approx(loss.item(), abs=1e-4)
    assert run.stats[0]["r1"] == pytest.approx(r1.item(), rel=1e-4)
    trained = torch.cat([p.flatten() for p in run.student.parameters()])
    expected = torch.cat([p.detach().flatten() for p in generator.parameters()])
    assert ((trained - expected).abs() < 1e-6).float().mean() > 0.97  # Adam's first step is a sign, which
    assert (trained - expected).abs().max() < 2.1 * c.lr  # near 0 rounding may flip


# ---------------------------------------------------------------- what a run leaves behind


def test_a_run_leaves_statistics_a_film_and_the_averaged_generator(whole, real):
    assert [row["step"] for row in whole.stats] == [2, 4, 6, 8]
    assert [row["kimg"] for row in whole.stats] == [0.032, 0.064, 0.096, 0.128]
    assert all(set(row) - {"r1"} == {"step", "kimg", "generator", "disc", *TIMES} for row in whole.stats)
    assert ["r1" in row for row in whole.stats] == [True, False, False, False]  # counts every 8th step
    lines = (whole.folder / "stats.jsonl").read_text().splitlines()
    assert whole.stats == [json.loads(line) for line in lines]
    names = {p.name for p in whole.folder.iterdir()} - {"tensorboard"}  # that one only where it is installed
    assert names == {
        "checkpoint.previous.pt",
        "checkpoint.pt",
        "config.json",
        "film",
        "film.gif",
        "stats.jsonl",
        "student",
    }
    frames = sorted(p.name for p in (whole.folder / "film").iterdir())
    assert frames == [f"000000{n}.png" for n in (2, 4, 6, 8)]
    assert not whole.student.training
    assert_same(load_network(whole.folder / "student", GENERATORS), whole.student)
    told = read_json(whole.folder / "student" / "provenance.json")
    assert told["classes"] == list(CLASSES) and told["config"]["batch"] == 16 and told["kimg"] == 0.128
    assert told["precision"] in ("float32", "bfloat16") and told["processes"] == 1
    assert told["command"].startswith(f"gsoc-kd pretrain {runs.real_flags(real)} --out {whole.folder} ")


def test_mixed_precision_rounds_but_learns_the_same(real, tmp_path):
    told = {}
    for bfloat16 in (False, True):
        run = pretrain(real, config(bfloat16=bfloat16, kimg=0.064, tick_kimg=0.016), tmp_path / str(bfloat16), "cpu")
        told[bfloat16] = run, read_json(run.folder / "student" / "provenance.json")["precision"]
        assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in run.student.parameters())
    (exact, float32), (mixed, half) = told[False], told[True]
    assert (float32, half) == ("float32", "bfloat16")
    assert not torch.equal(exact.student.to_rgb.weight, mixed.student.to_rgb.weight)
    for name in ("disc", "generator"):
        losses = [[row[name] for row in run.stats] for run in (exact, mixed)]
        assert losses[0] != losses[1]
        np.testing.assert_allclose(*losses, rtol=0.05)


def test_the_average_has_batch_norm_statistics_of_its_own_weights(whole):
    state = torch.load(whole.folder / "checkpoint.pt", weights_only=True)
    average = {name.removeprefix("module."): t for name, t in state["average"].items()}
    found, norms = dict(whole.student.named_buffers()), 0
    for name, parameter in whole.student.named_parameters():
        assert torch.equal(parameter, average[name])
    for name in found:
        if name.endswith("running_mean"):
            norms += 1
            assert not torch.allclose(found[name], average[name])  # those are the untrained generator's
    assert norms == 4
    again = torch.optim.swa_utils.AveragedModel(ConvGenerator(**whole.student.config))
    again.load_state_dict(state["average"])
    assert_same(averaged(again, 0, torch.device("cpu")), whole.student)


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("where, tick", [("save_checkpoint", 2), ("append_stats", 2), ("save_checkpoint", 1)])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(whole, real, tmp_path, monkeypatch, where, tick):
    calls, original = [], getattr(runs, where)

    def interrupted(*args):
        original(*args)
        calls.append(args)
        if len(calls) == tick:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(real, config(), tmp_path / "run", "cpu")
    torch.manual_seed(123)  # the global state does not matter
    run = pretrain(real, config(), tmp_path / "run", "cpu")
    assert_same(run.student, whole.student)
    assert untimed(run.stats) == untimed(whole.stats)
    a, b = (torch.load(r.folder / "checkpoint.pt", weights_only=True) for r in (run, whole))
    torch.testing.assert_close(a, b, rtol=0, atol=0)  # weights, averages and Adam's moments
    for path in (whole.folder / "film").iterdir():
        assert (run.folder / "film" / path.name).read_bytes() == path.read_bytes()


def test_a_finished_run_called_again_does_no_step(whole, real, monkeypatch):
    before = {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(module, "logistic_generator", None)  # a step would call it
    run = pretrain(real, config(), whole.folder, "cpu")
    assert_same(run.student, whole.student)
    assert run.stats == whole.stats
    assert {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()} == before


def test_another_seed_is_another_run_and_another_config_is_refused(whole, real, tmp_path):
    other = pretrain(real, config(kimg=0.032, seed=1), tmp_path / "run", "cpu")
    assert untimed(other.stats)[0] != untimed(whole.stats)[0]
    with pytest.raises(InputError, match=r"lr 0\.0002 -> 0\.001"):
        pretrain(real, config(lr=1e-3), whole.folder, "cpu")
    with pytest.raises(InputError, match="images 48 -> 47"):
        fewer = LabelledImages(real.images[1:], real.labels[1:], CLASSES, "toy")
        pretrain(fewer, config(), whole.folder, "cpu")


def test_a_loss_that_is_not_finite_stops_and_the_last_checkpoint_stays(real, tmp_path, monkeypatch):
    calls = []

    def breaks(logits):
        calls.append(logits)
        return logistic_generator(logits) * (float("nan") if len(calls) > 3 else 1)

    monkeypatch.setattr(module, "logistic_generator", breaks)
    with pytest.raises(InputError, match="loss generator is not finite at step 4"):
        pretrain(real, config(), tmp_path / "run", "cpu")
    state = runs.load_checkpoint(tmp_path / "run")
    assert state["step"] == 2 and all(t.isfinite().all() for t in state["generator"].values())
    assert len(runs.read_stats(tmp_path / "run")) == 1
    saved = load_network(tmp_path / "run" / "student", GENERATORS)
    assert all(p.isfinite().all() for p in saved.parameters())


def test_a_run_from_before_adam_was_fused_goes_on_with_the_adam_that_it_had(whole, real, tmp_path):
    run = pretrain(real, config(kimg=0.064), tmp_path / "run", "cpu")
    state = torch.load(run.folder / "checkpoint.pt", weights_only=True)
    for name in ("optimizer", "disc_optimizer"):
        assert state[name]["param_groups"][0]["fused"] is True
        state[name]["param_groups"][0]["fused"] = None
    torch.save(state, run.folder / "checkpoint.pt")
    run = pretrain(real, config(), tmp_path / "run", "cpu")
    state = torch.load(run.folder / "checkpoint.pt", weights_only=True)
    assert state["optimizer"]["param_groups"][0]["fused"] is None
    for row, expected in zip(run.stats, whole.stats, strict=True):  # the same sums, otherwise rounded
        assert row["disc"] == pytest.approx(expected["disc"], abs=1e-2)


# ---------------------------------------------------------------- choices


def style(**changes):
    return config(**{**STYLE, **changes})


@pytest.fixture(scope="module")
def styled(real, tmp_path_factory):
    return pretrain(real, style(kimg=0.064), tmp_path_factory.mktemp("styled") / "run", "cpu")


def test_a_stylegan2_teacher_is_trained_averaged_and_centred(styled):
    assert isinstance(load_network(styled.folder / "student", GENERATORS), StyleGAN2Generator)
    state = torch.load(styled.folder / "checkpoint.pt", weights_only=True)
    average = {name.removeprefix("module."): t for name, t in state["average"].items()}
    for name, parameter in styled.student.named_parameters():
        assert torch.equal(parameter, average[name]) or torch.allclose(parameter, average[name])
    strengths = [p for n, p in styled.student.named_parameters() if n.endswith("noise_strength")]
    assert all(p.abs() > 0 for p in strengths)  # trained with noise pictures
    for name, buffer in styled.student.named_buffers():
        if name.endswith("noise"):
            assert torch.equal(buffer, state["generator"][name])  # "const" stays what it was
    z, y = torch.randn(3000, 8), torch.arange(3000) % 3
    spread = styled.student.styles(z, y)
    assert (spread.mean(0) - styled.student.w_avg).abs().max() < 0.1 * spread.std() and styled.student.w_avg.any()


def test_a_stylegan2_run_resumes_exactly(styled, real, tmp_path, monkeypatch):
    original = runs.append_stats

    def interrupted(*args):
        original(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "append_stats", interrupted)
        for _ in range(2):  # the first tick's line has been written, its state not
            with pytest.raises(KeyboardInterrupt):
                pretrain(real, style(kimg=0.064), tmp_path / "run", "cpu")
    torch.manual_seed(7)
    run = pretrain(real, style(kimg=0.064), tmp_path / "run", "cpu")
    assert_same(run.student, styled.student)
    assert untimed(run.stats) == untimed(styled.stats)


def test_real_and_generated_pictures_are_never_in_one_group_of_the_stylegan2_disc(real, tmp_path, monkeypatch):
    seen, original = [], StyleGAN2Discriminator.forward

    def forward(self, x, y=None):
        seen.append(len(x))
        return original(self, x, y)

    monkeypatch.setattr(StyleGAN2Discriminator, "forward", forward)
    pretrain(real, style(kimg=0.016, tick_kimg=0.016), tmp_path / "run", "cpu")
    assert seen == [16, 16, 16, 16]  # real, generated, R1, generator's step


@pytest.mark.parametrize(
    "changes",
    [
        dict(loss="hinge", spectral=True, r1=0.0),
        dict(disc_labels=False),
        dict(channels_last=False),
        dict(architecture="stylegan2"),
        dict(disc="features"),
        dict(disc="stylegan2", channel_base=128, channel_max=8),
    ],
)
def test_each_choice_trains_another_generator(changes, whole, real, tmp_path):
    small = dict(w_dim=8, channel_base=128, channel_max=8)
    run = pretrain(real, config(kimg=0.032, **{**small, **changes}), tmp_path / "run", "cpu")
    assert [row["step"] for row in run.stats] == [2] and np.isfinite(run.stats[0]["generator"])
    assert ("r1" in run.stats[0]) == (changes.get("r1") != 0.0)
    first = untimed(whole.stats)[0]
    if changes == dict(channels_last=False):  # the same run up to rounding
        assert run.stats[0]["disc"] == pytest.approx(first["disc"], abs=1e-2)
    else:
        assert untimed(run.stats)[0] != first


def test_fixed_features_are_trained_once_and_kept_by_the_checkpoint(real, tmp_path, monkeypatch):
    calls, original = [], module.train_features
    monkeypatch.setattr(module, "train_features", lambda *given: calls.append(given) or original(*given))
    whole = pretrain(real, config(kimg=0.064, disc="features"), tmp_path / "whole", "cpu")
    pretrain(real, config(kimg=0.032, disc="features"), tmp_path / "run", "cpu")
    run = pretrain(real, config(kimg=0.064, disc="features"), tmp_path / "run", "cpu")
    assert_same(run.student, whole.student)
    assert untimed(run.stats)[-1] == untimed(whole.stats)[-1] and len(calls) == 2
    classifier, kept = calls[0][0], runs.load_checkpoint(run.folder)["disc"]
    for i, conv in enumerate(classifier.convs):
        torch.testing.assert_close(kept[f"fixed.weight{i}"], conv.weight)


def test_without_labels_the_disc_gives_every_class_the_same_logit(real, tmp_path, monkeypatch):
    seen, original = [], ProjectionDiscriminator.forward
    monkeypatch.setattr(
        ProjectionDiscriminator,
        "forward",
        lambda self, x, y: seen.append(y.float().abs().sum().item()) or original(self, x, y),
    )
    pretrain(real, config(kimg=0.016, tick_kimg=0.016, disc_labels=False), tmp_path / "run", "cpu")
    assert seen == [0.0, 0.0, 0.0]


def test_spectral_and_r1_reach_the_networks():
    _, disc = make_networks(config(spectral=True), 3, 32)
    assert all(hasattr(conv, "parametrizations") for conv in disc.convs)
    _, disc = make_networks(config(), 3, 32)
    assert not any(hasattr(conv, "parametrizations") for conv in disc.convs)


def test_compiled_networks_serve_every_step_but_r1(real, tmp_path, monkeypatch):
    """R1 differentiates twice, which a compiled network cannot. Compiling itself takes long: a stand-in is called."""
    calls = []

    def compile(self, **options):
        def compiled(*args, **options):
            calls.append(type(self).__name__)
            return self._call_impl(*args, **options)

        self._compiled_call_impl = compiled  # what torch.nn.Module.compile sets

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    short = dict(kimg=0.016, tick_kimg=0.016)
    plain = pretrain(real, config(**short), tmp_path / "plain", "cpu")
    assert calls == []
    run = pretrain(real, config(**short, compile=True), tmp_path / "run", "cpu")
    assert calls == ["ConvGenerator", "ProjectionDiscriminator", "ProjectionDiscriminator"]
    assert run.stats[0]["r1"] == plain.stats[0]["r1"]
    assert_same(run.student, plain.student)


def test_the_gpu_presets_generator_fits_into_16_mb_of_float16():
    with torch.device("meta"):
        generator, _ = make_networks(PretrainConfig.preset("gpu"), 10, 32)
        official, disc = make_networks(PretrainConfig.preset("stylegan2-ada"), 10, 32)
    assert 2 * sum(t.numel() for t in generator.state_dict().values()) <= 16e6
    assert [sum(p.numel() for p in n.parameters()) for n in (official, disc)] == [20_215_315, 23_089_664]


def test_a_run_from_before_a_field_existed_goes_on(whole, real):
    before, path = whole.stats, whole.folder / "config.json"
    old = json.loads(path.read_text())
    fields = (
        "architecture",
        "disc",
        "loss",
        "spectral",
        "disc_labels",
        "w_dim",
        "mapping_layers",
        "channel_base",
        "channel_max",
        "channels_last",
        "compile",
    )
    try:
        path.write_text(json.dumps({k: v for k, v in old.items() if k not in fields}))
        assert pretrain(real, config(), whole.folder, "cpu").stats == before
        with pytest.raises(InputError, match="loss 'logistic' -> 'hinge'"):
            pretrain(real, config(loss="hinge"), whole.folder, "cpu")
    finally:
        path.write_text(json.dumps(old, indent=2) + "\n")


# ---------------------------------------------------------------- a budget, scores a tick, the judge


def test_a_budget_in_minutes_stops_with_a_tick_and_more_minutes_go_on(whole, real, tmp_path):
    ticking = itertools.count()
    timer = lambda: float(next(ticking))  # noqa: E731  a second a look
    first = pretrain(real, config(), tmp_path / "run", "cpu", minutes=1 / 60, timer=timer)
    assert [(row["step"], row["seconds"]) for row in first.stats] == [(1, 2.0)]
    again = pretrain(real, config(), tmp_path / "run", "cpu", minutes=1 / 60, timer=timer)
    assert again.stats == first.stats  # spent: no further step
    more = pretrain(real, config(), tmp_path / "run", "cpu", minutes=3 / 60, timer=timer)  # of 3 seconds 1 is left
    assert [row["step"] for row in more.stats] == [1, 2] and more.stats[-1]["seconds"] == 4.0
    rest = pretrain(real, config(), tmp_path / "run", "cpu", minutes=1000)
    assert [row["step"] for row in rest.stats] == [1, 2, 4, 6, 8]
    assert_same(rest.student, whole.student)
    with pytest.raises(InputError, match="minutes is 0"):
        pretrain(real, config(), tmp_path / "run", "cpu", minutes=0)


def test_on_tick_gets_the_average_and_its_scores_go_into_the_statistics(whole, real, tmp_path):
    def on_tick(generator, row):
        assert not generator.training and "seconds" in row
        torch.rand(5)  # may use the global random state
        return {"score": row["step"] / 2} if row["step"] > 2 else None

    run = pretrain(real, config(), tmp_path / "run", "cpu", on_tick=on_tick)
    assert [row.get("score") for row in runs.read_stats(run.folder)] == [None, 2.0, 3.0, 4.0]
    assert_same(run.student, whole.student)


def reachable(name, found):
    """Adds to `found` the modules of the package that `name` imports, anywhere in its text, and they in turn."""
    if name in found or not (path := REPOSITORY / "gsoc_kd" / f"{name}.py").is_file():
        return found
    found.add(name)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("gsoc_kd")):
            home = (node.module or "").removeprefix("gsoc_kd").strip(".")
            for other in [home] if home else [alias.name for alias in node.names]:
                reachable(other, found)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                reachable(alias.name.removeprefix("gsoc_kd."), found)
    return found


@pytest.mark.parametrize("trainer", ["pretrain", "distill"])
def test_nothing_that_trains_generators_can_reach_the_judge(trainer):
    assert reachable(trainer, set()) & {"classifier", "evaluate", "reference", "metrics"} == set()
    assert {"classifier", "metrics"} <= reachable("evaluate", set())  # the search does find what is there


# ---------------------------------------------------------------- two processes

TWO = """
import numpy as np, torch
from accelerate import PartialState
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.training.gan import PretrainConfig, averaged, pretrain
from gsoc_kd.core.weights import network_hash

torch.set_num_threads(1)
averaged.__defaults__ = (2, 16)
rng = np.random.default_rng(0)
real = LabelledImages(rng.integers(0, 256, (48, 32, 32, 3), np.uint8), np.arange(48) % 3, ("a", "b", "c"), "toy")
for name, changes in ({changes!r}).items():
    config = PretrainConfig.preset("smoke", kimg=0.032, tick_kimg=0.016, bfloat16=False, **changes)
    run = pretrain(real, config, {out!r} + "/" + name, "cpu", minutes=1000)
    with open({out!r} + f"/{{name}}.{{PartialState().process_index}}", "w") as file:
        file.write(network_hash(run.student) + f" {{PartialState().num_processes}}")
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_share_a_batch_and_end_with_the_same_generator(tmp_path):
    changes = {"conv": {}, "stylegan2": STYLE}
    (tmp_path / "two.py").write_text(TWO.format(out=str(tmp_path), changes=changes))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*torchrun, str(tmp_path / "two.py")], capture_output=True, text=True, env=environment, timeout=300
    )
    assert process.returncode == 0, process.stderr
    for name in changes:
        first, second = ((tmp_path / f"{name}.{rank}").read_text().split() for rank in (0, 1))
        assert first == second and first[1] == "2"
        assert [row["step"] for row in runs.read_stats(tmp_path / name)] == [1, 2]
