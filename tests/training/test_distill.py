"""Distillation: the objective computed by hand, each term with its switch, runs that survive being killed."""

import dataclasses
import gc
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.folder import load_pairs, save_pairs
from gsoc_kd.teachers.load import GENERATORS

from gsoc_kd.core.files import InputError, read_json, sha256
from gsoc_kd.core.weights import load_network
from gsoc_kd.data.images import LabelledImages, to_float
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.discriminator import ProjectionDiscriminator
from gsoc_kd.networks.distylegan import DiStyleGANDiscriminator, DiStyleGANGenerator
from gsoc_kd.training import runs
from gsoc_kd.training.augment import augment
from gsoc_kd.training.distill import PRESETS, DistillConfig, distill, make_networks
from gsoc_kd.training.gan import averaged
from gsoc_kd.training.losses import feature_loss, hinge_discriminator, hinge_generator, pixel_loss

module = importlib.import_module("gsoc_kd.training.distill")
REPOSITORY = Path(module.__file__).parents[2]
CLASSES = ("cat", "dog", "ship")
TIMES = {"seconds", "pairs_per_second"}
WEIGHTS = ("feature_weight", "pixel_weight", "adversarial_weight", "gan_weight", "disc_gan_weight")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Batch norm is measured on 32 pictures, not on 1,024."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaged, "__defaults__", (2, 16))
        yield


def toy(seed=0, count=48):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count) % 3


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    z = np.random.default_rng(1).standard_normal((48, 8)).astype(np.float16)
    return save_pairs(*toy(), z, tmp_path_factory.mktemp("distill") / "pairs", classes=CLASSES)


@pytest.fixture(scope="module")
def real():
    return LabelledImages(*toy(seed=2, count=40), CLASSES, "toy")


def config(**changes):
    """4 ticks of 2 steps."""
    return DistillConfig.preset("smoke", **{**dict(kimg=0.128, tick_kimg=0.032), **changes})


def untimed(stats):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in stats]


def terms(run):
    """Names of the losses in a run's statistics."""
    return set().union(*run.stats) - {"step", "kimg", *TIMES}


def assert_same(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    return distill(pairs, config(), tmp_path_factory.mktemp("distill") / "run", device="cpu")


# ---------------------------------------------------------------- the config


def test_the_preset_of_2022_is_the_recipe_of_2022():
    c = DistillConfig.preset("distylegan-2022")
    assert c.kimg == 150 * 50_000 / 1000 and c.batch == 128  # 150 epochs of 50,000 pairs
    assert (c.lr, c.disc_lr, c.betas, c.ema) == (2e-4, 2e-4, (0.5, 0.999), 0.0)
    assert [getattr(c, name) for name in WEIGHTS] == [1.0, 0.2, 0.01, 0.002, 0.2]
    assert c.adversarial_every == 10 and (c.shift, c.brightness) == (0, 0.0)
    student, disc = make_networks(c, z_dim=512, num_classes=10, resolution=32)
    assert type(student) is DiStyleGANGenerator and type(disc) is DiStyleGANDiscriminator
    assert sum(p.numel() for p in student.parameters()) == 2_054_368
    assert sum(p.numel() for p in disc.parameters()) == 3_415_178


def test_presets_and_what_they_build():
    assert set(PRESETS) == {"smoke", "laptop", "distylegan-2022", "gpu"}
    assert DistillConfig.preset("laptop") == DistillConfig()
    student, disc = make_networks(config(block="separable", rank=None, skip_z=False), 8, 3, 32)
    assert student.config == ConvGenerator(8, 3, 32, (16, 8, 8, 8), 4, None, "separable", False).config
    assert disc.config == ProjectionDiscriminator(3, 32, 4).config


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(lr=-1.0), "lr"),
        (dict(adversarial_every=0), "adversarial_every"),
        (dict(pixel_weight=-0.1), "pixel_weight"),
        (dict(features="judge"), "features must be one of"),
        (dict(ema=1.5), "ema"),
        (dict(student="stylegan"), "student must be one of.*'stylegan'"),
        (dict(disc="none"), "disc must be one of"),
        (dict(betas=(0.5, 2.0)), "betas"),
        (dict(epochs=3), "epochs"),
        (dict(feature_weight=0.0, pixel_weight=0.0, adversarial_weight=0.0), "all weights"),
    ],
)
def test_a_bad_field_is_named(changes, message):
    with pytest.raises(InputError, match=f"DistillConfig.*{message}"):
        config(**changes)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().lr = 1.0


def test_what_cannot_be_trained_is_refused_and_the_folder_stays_free(pairs, real, tmp_path):
    small = LabelledImages(real.images[:, :16, :16], real.labels, CLASSES, "small")
    two = LabelledImages(real.images, real.labels % 2, CLASSES[:2], "two")
    few = LabelledImages(real.images[:8], real.labels[:8], CLASSES, "few")
    only_gan = dict(feature_weight=0.0, pixel_weight=0.0, adversarial_weight=0.0, gan_weight=1.0)
    for given, changes, message in (
        (None, dict(batch=64), "a batch of 64 needs at least as many images, there are 48"),
        (None, dict(block="dense"), "'dense'"),
        (None, only_gan, "needs real images"),
        (small, {}, "16 pixels wide in 3 classes, the pairs 32 in 3"),
        (two, {}, "in 2 classes"),
        (few, dict(gan_weight=1.0), "a batch of 16 needs at least as many images, there are 8"),
    ):
        with pytest.raises(InputError, match=message):
            distill(pairs, config(**changes), tmp_path / "run", given, "cpu")
        assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="does not exist"):
        distill(tmp_path / "nowhere", config(), tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match="device 'tpu'"):
        distill(pairs, config(), tmp_path / "run", device="tpu")


# ---------------------------------------------------------------- one step, written out


def one_step(c, pairs, real):
    """The step in the plainest way: every network asked for every picture on its own, nothing shared.

    (The projection disc's last bias has gradient 0 at first, and Adam makes a whole step of its rounding: its
    learning rate must be below the tolerance.)
    """
    torch.manual_seed(c.seed)
    student, disc = module.make_networks(c, pairs.z_dim, pairs.num_classes, pairs.resolution)
    disc_optimizer = torch.optim.Adam(disc.parameters(), c.disc_lr, betas=c.betas)
    optimizer = torch.optim.Adam(student.parameters(), c.lr, betas=c.betas)
    rows = runs.Batches(len(pairs), c.batch, c.seed)(0)
    x_teacher, y = to_float(pairs.images[rows.numpy()]), torch.from_numpy(pairs.labels)[rows]
    z = torch.from_numpy(np.array(pairs.latents))[rows].float()
    if real is not None:
        rows = runs.Batches(len(real), c.batch, c.seed, stream=1)(0)
        x_real, y_real = to_float(real.images[rows.numpy()]), torch.from_numpy(real.labels)[rows]
        z_fresh = torch.randn(c.batch, pairs.z_dim, generator=runs.rng(c.seed, 0))

    def seen(x, y):  # the same draws for every part
        return disc(augment(x, runs.rng(c.seed, 0, stream=100), c.shift, c.brightness), y)

    losses = {}
    disc.train()(x_teacher, y)  # spectral norm goes on once a step,
    disc.eval()  # and then stands still
    losses["disc"] = total = hinge_discriminator(seen(x_teacher, y)[0], seen(student(z, y).detach(), y)[0])
    if real is not None:
        losses["disc_gan"] = hinge_discriminator(
            seen(x_real, y_real)[0], seen(student(z_fresh, y_real).detach(), y_real)[0]
        )
        total = total + c.disc_gan_weight * losses["disc_gan"]
    maps_teacher = [m.detach() for m in seen(x_teacher, y)[1]]  # as the disc saw them in its own step
    total.backward()
    disc_optimizer.step()

    losses["pixel"] = pixel_loss(x_teacher, student(z, y))
    losses["feature"] = feature_loss(maps_teacher, seen(student(z, y), y)[1])
    losses["adversarial"] = hinge_generator(seen(student(z, y), y)[0])
    total = (
        c.pixel_weight * losses["pixel"]
        + c.feature_weight * losses["feature"]
        + c.adversarial_weight * losses["adversarial"]
    )
    if real is not None:
        losses["gan"] = hinge_generator(seen(student(z_fresh, y_real), y_real)[0])
        total = total + c.gan_weight * losses["gan"]
    total.backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}, student


@pytest.mark.parametrize(
    "preset, with_real, changes",
    [
        ("distylegan-2022", True, dict(disc_width=8)),
        ("distylegan-2022", False, dict(disc_width=8)),
        ("smoke", True, dict(gan_weight=0.5, disc_gan_weight=0.5, disc_lr=4e-5)),
        ("smoke", False, dict(disc_lr=4e-5)),
    ],
)
def test_one_step_is_the_one_written_out_here(pairs, real, tmp_path, monkeypatch, preset, with_real, changes):
    c = DistillConfig.preset(
        preset, batch=16, kimg=0.016, tick_kimg=0.016, adversarial_every=1, ema=0.0, bfloat16=False, **changes
    )
    if preset == "distylegan-2022":  # its layers, narrower
        monkeypatch.setattr(
            module,
            "make_networks",
            lambda c, z_dim, num_classes, resolution: (
                DiStyleGANGenerator(z_dim, num_classes, resolution, width=16, project_dim=8),
                DiStyleGANDiscriminator(num_classes, resolution, c.disc_width, project_dim=8),
            ),
        )
    real = real if with_real else None
    run = distill(pairs, c, tmp_path / "run", real, "cpu")
    losses, student = one_step(c, pairs, real)
    assert len(run.stats) == 1 and terms(run) == set(losses)
    for name, value in losses.items():
        assert run.stats[0][name] == pytest.approx(value, abs=1e-4), name
    trained, expected = (
        torch.cat([p.detach().flatten() for p in network.parameters()]) for network in (run.student, student)
    )
    assert ((trained - expected).abs() < 1e-6).float().mean() > 0.97  # Adam's first step is a sign, which
    assert (trained - expected).abs().max() < 2.1 * c.lr  # near 0 rounding may flip


def test_adversarial_terms_count_every_so_many_steps(pairs, real, tmp_path):
    c = config(kimg=0.064, tick_kimg=0.016, adversarial_every=2, gan_weight=0.1, disc_gan_weight=0.1)
    run = distill(pairs, c, tmp_path / "run", real, "cpu")
    assert [{"adversarial", "gan"} <= set(row) for row in run.stats] == [False, True, False, True]
    assert all({"disc", "disc_gan", "pixel", "feature"} <= set(row) for row in run.stats)


# ---------------------------------------------------------------- switches


def test_a_term_of_weight_0_is_not_computed(pairs, real, tmp_path):
    every = dict(kimg=0.016, tick_kimg=0.016, gan_weight=0.1, disc_gan_weight=0.1)
    full = distill(pairs, config(**every), tmp_path / "full", real, "cpu")
    assert terms(full) == {"feature", "pixel", "adversarial", "gan", "disc", "disc_gan"}
    for name in WEIGHTS:
        run = distill(pairs, config(**{**every, name: 0.0}), tmp_path / name, real, "cpu")
        assert terms(run) == terms(full) - {name.removesuffix("_weight")}
    offline = distill(pairs, config(**every), tmp_path / "offline", device="cpu")
    assert terms(offline) == {"feature", "pixel", "adversarial", "disc"}  # black box only
    with_real, without = (read_json(run.folder / "student" / "provenance.json") for run in (full, offline))
    assert runs.real_flags(real) in with_real["command"] and with_real["data"].endswith(
        f"{len(pairs)} pairs; real: {real.source}, {len(real)} images"
    )
    assert "--real" not in without["command"] and without["data"].endswith(f" {len(pairs)} pairs")
    pixel = dict(every, feature_weight=0.0, adversarial_weight=0.0)
    assert terms(distill(pairs, config(**pixel), tmp_path / "pixel", device="cpu")) == {"pixel"}


def test_weights_reach_the_student(pairs, tmp_path):
    def first(name, **changes):
        run = distill(pairs, config(kimg=0.032, tick_kimg=0.016, **changes), tmp_path / name, device="cpu")
        return run.stats[1]["pixel"]

    assert (
        len(
            {
                first("a"),
                first("b", pixel_weight=3.0),
                first("c", feature_weight=3.0),
                first("d", adversarial_weight=3.0),
            }
        )
        == 4
    )


def test_a_classifiers_maps_take_the_place_of_the_discs(whole, pairs, tmp_path, monkeypatch):
    """Trained before the first step, stored, not trained again; resumed exactly; and no disc where none is needed."""
    trained, original = [], module.train_features
    monkeypatch.setattr(module, "train_features", lambda *args: trained.append(args) or original(*args))
    fixed = distill(pairs, config(features="classifier"), tmp_path / "fixed", device="cpu")
    assert terms(fixed) == terms(whole) and fixed.stats[0]["feature"] != whole.stats[0]["feature"]
    before, after = (
        torch.load(fixed.folder / name, weights_only=True)["classifier"]
        for name in ("checkpoint.previous.pt", "checkpoint.pt")
    )
    torch.testing.assert_close(before, after, rtol=0, atol=0)  # frozen, spectral norms included
    assert len(trained) == 1
    half = distill(pairs, config(features="classifier", kimg=0.064), tmp_path / "half", device="cpu")
    monkeypatch.setattr(module, "train_features", None)
    half = distill(pairs, config(features="classifier"), half.folder, device="cpu")
    assert_same(half.student, fixed.student)
    assert untimed(half.stats) == untimed(fixed.stats)
    monkeypatch.setattr(module, "train_features", original)
    alone = distill(
        pairs, config(features="classifier", kimg=0.032, adversarial_weight=0.0), tmp_path / "alone", device="cpu"
    )
    assert terms(alone) == {"pixel", "feature"}


def test_unused_real_images_are_told(pairs, real, tmp_path):
    with pytest.warns(UserWarning, match="they are not used"):
        run = distill(pairs, config(kimg=0.016), tmp_path / "run", real, "cpu")
    assert terms(run) == {"feature", "pixel", "adversarial", "disc"}


def test_distillation_learns(pairs, tmp_path):
    """With the pixel loss alone the student comes closer to the teacher's pictures: noise, so to grey."""
    c = config(kimg=0.96, tick_kimg=0.48, lr=5e-3, feature_weight=0.0, adversarial_weight=0.0, ema=0.9)
    run = distill(pairs, c, tmp_path / "run", device="cpu")
    assert run.stats[-1]["pixel"] < run.stats[0]["pixel"]
    x = to_float(pairs.images)
    with torch.no_grad():
        drawn = run.student(torch.from_numpy(np.array(pairs.latents)).float(), torch.from_numpy(pairs.labels))
    grey = x.median(0).values.sub(x).abs().mean()  # the best picture for all
    assert pixel_loss(x, drawn) < 1.1 * grey


# ---------------------------------------------------------------- memory, compilation


def test_a_step_leaves_no_graph_no_gradient_and_no_second_copy_of_the_pairs(pairs, real, tmp_path, monkeypatch):
    left, mapped = [], []

    class Bar:
        def __init__(self, **_):
            pass

        def update(self, _):
            tensors = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
            left.extend(t.shape for t in tensors if t.grad_fn is not None and t.ndim)  # losses have no dimensions
            left.extend(t.shape for t in tensors if t.is_leaf and t.grad is not None)
            mapped.extend(t.data_ptr() for t in tensors if t.dtype == torch.uint8 and t.shape == pairs.images.shape)

        close = set_postfix = lambda self, *_: None

    gc.collect()
    monkeypatch.setattr(module, "tqdm", Bar)
    c = config(kimg=0.064, adversarial_every=2, gan_weight=0.1, disc_gan_weight=0.1)
    distill(pairs, c, tmp_path / "run", real, "cpu")
    assert left == [] and set(mapped) == {pairs.images.ctypes.data}


def test_compiled_networks_serve_both_steps(pairs, tmp_path, monkeypatch):
    """Compiling itself takes long: a stand-in is called. A compiled run resumes exactly."""
    calls = []

    def compile(self, **options):
        def compiled(*args, **options):
            calls.append(type(self).__name__)
            return self._call_impl(*args, **options)

        self._compiled_call_impl = compiled  # what torch.nn.Module.compile sets

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    plain = distill(pairs, config(kimg=0.064), tmp_path / "plain", device="cpu")
    assert calls == []
    distill(pairs, config(kimg=0.016, tick_kimg=0.016, compile=True), tmp_path / "one", device="cpu")
    assert calls == ["ConvGenerator", "ProjectionDiscriminator", "ProjectionDiscriminator"]
    distill(pairs, config(kimg=0.032, compile=True), tmp_path / "run", device="cpu")
    run = distill(pairs, config(kimg=0.064, compile=True), tmp_path / "run", device="cpu")
    assert_same(run.student, plain.student)
    assert untimed(run.stats) == untimed(plain.stats)


def test_a_budget_in_minutes_stops_with_a_tick_and_more_minutes_go_on(whole, pairs, tmp_path):
    ticking = itertools.count()

    def go_on(minutes):
        return distill(pairs, config(), tmp_path / "run", None, "cpu", minutes, lambda: float(next(ticking)))

    first = go_on(1 / 60)  # a second a look at the clock
    assert [(row["step"], row["seconds"]) for row in first.stats] == [(1, 2.0)]
    assert go_on(1 / 60).stats == first.stats  # spent: no further step
    rest = go_on(1000)
    assert [row["step"] for row in rest.stats] == [1, 2, 4, 6, 8]
    assert_same(rest.student, whole.student)
    with pytest.raises(InputError, match="minutes is -1"):
        go_on(-1)


def test_a_pixel_weight_that_halves(pairs, tmp_path, monkeypatch):
    """The weight that the pixel loss got at every step, from the gradient that reached it."""
    seen, original = [], module.pixel_loss

    def noted(x_teacher, x_student):
        loss = original(x_teacher, x_student)
        loss.register_hook(lambda gradient: seen.append(float(gradient)))
        return loss

    monkeypatch.setattr(module, "pixel_loss", noted)
    distill(pairs, config(pixel_weight=0.5, pixel_half_kimg=0.032, kimg=0.08), tmp_path / "run", device="cpu")
    np.testing.assert_allclose(seen, [0.5, 0.5 * 0.5**0.5, 0.25, 0.25 * 0.5**0.5, 0.125], rtol=1e-6)


def test_a_disc_without_labels_judges_pictures_alone(pairs, tmp_path, monkeypatch):
    labels, original = [], ProjectionDiscriminator.forward

    def noted(self, x, y):
        labels.append(y)
        return original(self, x, y)

    monkeypatch.setattr(ProjectionDiscriminator, "forward", noted)
    distill(pairs, config(disc_labels=False, kimg=0.016), tmp_path / "run", device="cpu")
    assert len(labels) == 2 and all(y.shape[1] == 3 and not y.any() for y in labels)


# ---------------------------------------------------------------- what a run leaves behind


def test_a_run_leaves_statistics_a_film_and_the_averaged_student(whole, pairs):
    assert [row["step"] for row in whole.stats] == [2, 4, 6, 8]
    assert [row["kimg"] for row in whole.stats] == [0.032, 0.064, 0.096, 0.128]
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
    assert not whole.student.training and whole.student.config["widths"] == [16, 8, 8, 8]
    assert_same(load_network(whole.folder / "student", GENERATORS), whole.student)
    told = read_json(whole.folder / "student" / "provenance.json")
    assert told["classes"] == list(CLASSES) and told["kimg"] == 0.128
    assert (
        told["config"]["pixel_weight"] == 1.0
        and told["precision"] in ("float32", "bfloat16")
        and told["processes"] == 1
    )
    assert told["teacher"] == pairs.manifest["digest"] and told["pairs"] == sha256(pairs.path / "manifest.json")
    assert read_json(whole.folder / "config.json")["pairs"] == sha256(pairs.path / "manifest.json")


def test_the_average_is_an_exponential_one(pairs, tmp_path):
    def after(steps):
        c = config(kimg=0.016 * steps, tick_kimg=0.016, ema=0.15)
        return distill(pairs, c, tmp_path / str(steps), device="cpu")

    steps = [after(1), after(2), after(3)]
    plain = [torch.load(run.folder / "checkpoint.pt", weights_only=True)["student"] for run in steps]
    for name, found in steps[2].student.named_parameters():
        expected = plain[0][name]  # starts from the first step's weights
        for step, later in enumerate(plain[1:], 1):
            share = min(0.15, step / (step + 9))  # 0.1 after the second step, 0.15 after the third
            expected = share * expected + (1 - share) * later[name]
        torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("where, tick", [("save_checkpoint", 2), ("append_stats", 3)])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(whole, pairs, tmp_path, monkeypatch, where, tick):
    calls, original = [], getattr(runs, where)

    def interrupted(*args):
        original(*args)
        calls.append(args)
        if len(calls) == tick:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            distill(pairs, config(), tmp_path / "run", device="cpu")
    torch.manual_seed(123)  # the global state does not matter
    run = distill(str(pairs.path), config(), tmp_path / "run", device="cpu")
    assert_same(run.student, whole.student)
    assert untimed(run.stats) == untimed(whole.stats)
    a, b = (torch.load(r.folder / "checkpoint.pt", weights_only=True) for r in (run, whole))
    torch.testing.assert_close(a, b, rtol=0, atol=0)  # weights, averages and Adam's moments


KILLED = """
import os, signal, sys, torch
from gsoc_kd.training import distill, runs
from gsoc_kd import DistillConfig
from gsoc_kd.training.gan import averaged

torch.set_num_threads({threads})
averaged.__defaults__ = (2, 16)
save, calls = torch.save, []

def half(state, path):
    calls.append(path)
    save(state, path)
    if len(calls) == 3:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = half
distill({pairs!r}, DistillConfig.preset("smoke", kimg=0.128, tick_kimg=0.032), {out!r}, device="cpu")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_process_killed_while_it_writes_a_checkpoint_goes_on_as_if_it_had_not_been(whole, pairs, tmp_path):
    out = tmp_path / "run"
    script = KILLED.format(threads=torch.get_num_threads(), pairs=str(pairs.path), out=str(out))
    process = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert runs.load_checkpoint(out)["step"] == 4 and len(runs.read_stats(out)) == 3
    run = distill(pairs, config(), out, device="cpu")
    assert_same(run.student, whole.student)
    assert untimed(run.stats) == untimed(whole.stats)


def test_a_finished_run_called_again_does_no_step(whole, pairs, monkeypatch):
    before = {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(module, "pixel_loss", None)  # a step would call it
    run = distill(pairs, config(), whole.folder, device="cpu")
    assert_same(run.student, whole.student)
    assert run.stats == whole.stats
    assert {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()} == before


def test_a_damaged_checkpoint_costs_one_tick_and_nothing_else(whole, pairs, tmp_path):
    run = distill(pairs, config(), tmp_path / "run", device="cpu")
    (run.folder / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="checkpoint.pt .*damaged"):
        run = distill(pairs, config(), tmp_path / "run", device="cpu")
    assert_same(run.student, whole.student)
    assert untimed(run.stats) == untimed(whole.stats)


def test_a_finished_run_goes_on_for_longer_as_if_it_had_been_asked_for_at_once(whole, pairs, tmp_path):
    distill(pairs, config(kimg=whole.stats[-1]["kimg"] / 2), tmp_path / "run", device="cpu")
    run = distill(pairs, config(), tmp_path / "run", device="cpu")
    assert_same(run.student, whole.student)
    assert untimed(run.stats) == untimed(whole.stats)


def test_another_config_other_pairs_or_real_images_are_refused(whole, pairs, real, tmp_path):
    with pytest.raises(InputError, match=r"lr 0\.0005 -> 0\.001"):
        distill(pairs, config(lr=1e-3), whole.folder, device="cpu")
    with pytest.raises(InputError, match=r"real None -> 'toy, 40 images'"), pytest.warns(UserWarning):
        distill(pairs, config(), whole.folder, real, "cpu")
    z = np.array(pairs.latents)
    other = save_pairs(*toy(seed=5), z, tmp_path / "other", classes=CLASSES)  # another teacher's pictures
    named = save_pairs(*toy(), z, tmp_path / "named", classes=CLASSES, teacher="somebody")  # another manifest
    for changed in (other, named):
        with pytest.raises(InputError, match="holds a run under another config.*pairs "):
            distill(changed, config(), whole.folder, device="cpu")
    manifest = read_json(named.path / "manifest.json")
    (named.path / "manifest.json").write_text(json.dumps({**manifest, "psi": 0.5}))
    assert sha256(named.path / "manifest.json") not in (
        sha256(other.path / "manifest.json"),
        sha256(pairs.path / "manifest.json"),
    )
    with pytest.raises(InputError, match="pairs "):
        distill(load_pairs(named.path), config(), whole.folder, device="cpu")
    copied = save_pairs(*toy(), z, tmp_path / "copied", classes=CLASSES)  # the same ones
    assert untimed(distill(copied, config(), whole.folder, device="cpu").stats) == untimed(whole.stats)


# ---------------------------------------------------------------- what is not finite


def test_a_loss_that_is_not_finite_stops_and_the_last_checkpoint_stays(pairs, tmp_path, monkeypatch):
    calls = []

    def breaks(x_teacher, x_student):
        calls.append(x_student)
        return pixel_loss(x_teacher, x_student) * (float("nan") if len(calls) > 3 else 1)

    monkeypatch.setattr(module, "pixel_loss", breaks)
    with pytest.raises(InputError, match="loss .*pixel.* is not finite at step 4"):
        distill(pairs, config(), tmp_path / "run", device="cpu")
    state = runs.load_checkpoint(tmp_path / "run")
    assert state["step"] == 2 and all(t.isfinite().all() for t in state["student"].values())
    assert len(runs.read_stats(tmp_path / "run")) == 1
    saved = load_network(tmp_path / "run" / "student", GENERATORS)
    assert all(p.isfinite().all() for p in saved.parameters())


def test_an_absurd_learning_rate_stops_with_a_clear_word(pairs, tmp_path):
    with pytest.raises(InputError, match="not finite at step 2.*Lower the learning rate"):
        distill(pairs, config(lr=1e30), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "checkpoint.pt").exists() and not (tmp_path / "run" / "student").exists()


# ---------------------------------------------------------------- two processes

TWO = """
import torch
from accelerate import PartialState
from gsoc_kd.training import distill
from gsoc_kd.pairs.make import make as pairs
from gsoc_kd import DistillConfig
from gsoc_kd.training.gan import averaged
from gsoc_kd.core.weights import network_hash

torch.set_num_threads(1)
averaged.__defaults__ = (2, 16)
config = DistillConfig.preset("smoke", kimg={kimg}, tick_kimg=0.016, shift=0, brightness=0.0, bfloat16=False)
run = distill({pairs!r}, config, {out!r}, device="cpu")
with open({out!r} + "." + str(PartialState().process_index), "w") as file:
    file.write(network_hash(run.student) + " " + str(PartialState().num_processes))
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_share_a_batch_and_end_with_the_same_student(pairs, tmp_path):
    out = str(tmp_path / "run")
    (tmp_path / "two.py").write_text(TWO.format(pairs=str(pairs.path), out=out, kimg=0.032))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*torchrun, str(tmp_path / "two.py")], capture_output=True, text=True, env=environment, timeout=300
    )
    assert process.returncode == 0, process.stderr
    first, second = (Path(f"{out}.{rank}").read_text().split() for rank in (0, 1))
    assert first == second and first[1] == "2"
    stats = runs.read_stats(out)
    assert [row["step"] for row in stats] == [1, 2]

    c = DistillConfig.preset("smoke")  # each half of the batch on its own
    torch.manual_seed(c.seed)
    student, _ = make_networks(c, 8, 3, 32)
    rows, halves = runs.Batches(48, 16, c.seed)(0), []
    for rank in (0, 1):
        mine = rows[rank::2].numpy()
        z, y = torch.from_numpy(np.array(pairs.latents))[mine].float(), torch.from_numpy(pairs.labels)[mine]
        halves.append(pixel_loss(to_float(pairs.images[mine]), student(z, y)).item())
    assert stats[0]["pixel"] == pytest.approx(sum(halves) / 2, abs=1e-5)
