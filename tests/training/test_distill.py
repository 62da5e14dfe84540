"""Distillation: the objective computed by hand, presets, refusals; what the loop promises stands in test_loop.py."""

import shlex

import numpy as np
import pytest
import torch

from gsoc_kd import cli
from gsoc_kd.core.checks import InputWarning
from gsoc_kd.core.files import InputError, read_json, sha256, write_json
from gsoc_kd.core.weights import load_network
from gsoc_kd.data import LabelledImages, to_float
from gsoc_kd.networks import ConvGenerator, DiStyleGANDiscriminator, DiStyleGANGenerator, ProjectionDiscriminator
from gsoc_kd.pairs import load_pairs, save_pairs
from gsoc_kd.teachers import GENERATORS, black_box, load_student
from gsoc_kd.training import runs
from gsoc_kd.training.augment import augment
from gsoc_kd.training.config import usable
from gsoc_kd.training.distill import PRESETS, R1_EVERY, DistillConfig, DistillTask, distill, make_networks
from gsoc_kd.training.gan import PretrainConfig
from gsoc_kd.training.loop import train
from gsoc_kd.training.losses import (
    feature_loss,
    hinge_discriminator,
    hinge_generator,
    pixel_loss,
    relative_feature_loss,
)

CLASSES, TIMES = ("cat", "dog", "ship"), {"seconds", "pairs_per_second"}
WEIGHTS = ("feature_weight", "pixel_weight", "adversarial_weight", "gan_weight", "disc_gan_weight")


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


def terms(run):
    """Names of the losses in a run's statistics."""
    return set().union(*run.stats) - {"step", "kimg", *TIMES}


def untimed(stats):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in stats]


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    return distill(pairs, config(), tmp_path_factory.mktemp("distill") / "run", device="cpu")


# ---------------------------------------------------------------- the config


def test_the_preset_of_2022_is_the_recipe_of_2022():
    c = DistillConfig.preset("distylegan-2022")
    assert c.kimg == 150 * 50_000 / 1000 and c.batch == 128  # 150 epochs of 50,000 pairs
    assert (c.lr, c.disc_lr, c.betas, c.ema, c.lr_hold) == (2e-4, 2e-4, (0.5, 0.999), 0.0, 1.0)
    assert [getattr(c, name) for name in WEIGHTS] == [1.0, 0.2, 0.01, 0.002, 0.2]
    assert c.adversarial_every == 10 and (c.shift, c.brightness) == (0, 0.0)
    student, disc = make_networks(c, z_dim=512, num_classes=10, resolution=32)
    assert type(student) is DiStyleGANGenerator and type(disc) is DiStyleGANDiscriminator
    assert sum(p.numel() for p in student.parameters()) == 2_054_368
    assert sum(p.numel() for p in disc.parameters()) == 3_415_178


def test_presets_and_what_they_build():
    assert set(PRESETS) == {"smoke", "laptop", "distylegan-2022", "gpu"}
    student, disc = make_networks(config(block="residual", rank=None), 8, 3, 32)
    assert student.config == ConvGenerator(8, 3, 32, (16, 8, 8, 8), 4, None, "residual").config
    assert isinstance(disc, ProjectionDiscriminator)
    with pytest.raises(InputError, match="student must be one of conv, distylegan, got 'stylegan'"):
        config(student="stylegan")
    with pytest.raises(InputError, match="all weights"):
        config(feature_weight=0.0, pixel_weight=0.0, adversarial_weight=0.0)


def test_what_cannot_be_trained_is_refused_and_the_folder_stays_free(pairs, real, tmp_path):
    small = LabelledImages(real.images[:, :16, :16], real.labels, CLASSES, "small")
    two = LabelledImages(real.images, real.labels % 2, CLASSES[:2], "two")
    others = LabelledImages(real.images, real.labels, ("dog", "cat", "banana"), "others")
    few = LabelledImages(real.images[:8], real.labels[:8], CLASSES, "few")
    only_gan = dict(feature_weight=0.0, pixel_weight=0.0, adversarial_weight=0.0, gan_weight=1.0)
    for given, changes, message in (
        (None, dict(batch=64), "a batch of 64 needs at least as many images, there are 48"),
        (None, dict(block="dense"), "'dense'"),
        (None, only_gan, "needs real images"),
        (small, {}, "16 pixels wide in classes"),
        (two, {}, "the pairs 32 in"),
        (others, dict(gan_weight=1.0), r"\('dog', 'cat', 'banana'\), the pairs 32 in \('cat', 'dog', 'ship'\)"),
        (few, dict(gan_weight=1.0), "a batch of 16 needs at least as many images, there are 8"),
    ):
        with pytest.raises(InputError, match=message):
            distill(pairs, config(**changes), tmp_path / "run", given, "cpu")
        assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="does not exist"):
        distill(tmp_path / "nowhere", config(), tmp_path / "run", device="cpu")
    for other in ("laptop", {"kimg": 1}, PretrainConfig(), 3):
        with pytest.raises(InputError, match=r"config must be a DistillConfig, such as DistillConfig\(kimg=...\) or"):
            distill(pairs, other, tmp_path / "run", device="cpu")
    for other, message in (
        ("", "source must be a path, not ''"),
        ([], "real must be LabelledImages or .* not .."),
        (0, "real must be LabelledImages or .* not 0"),
    ):
        with pytest.raises(InputError, match=message):
            distill(pairs, config(), tmp_path / "run", other, "cpu")


def test_the_classes_of_real_images_are_matched_by_name(pairs, real):
    gan, numbers = config(gan_weight=1.0), ("0", "1", "2")
    swapped = LabelledImages(real.images, real.labels, ("dog", "ship", "cat"), "swapped")
    found = usable(swapped, pairs, gan)
    assert found.classes == pairs.classes and found.source == "swapped"
    assert [found.classes[c] for c in found.labels] == [swapped.classes[c] for c in swapped.labels]
    unnamed = LabelledImages(real.images, real.labels, numbers, "numbers")
    with pytest.warns(InputWarning, match="classes without names are taken in this order: cat, dog, ship"):
        found = usable(unnamed, pairs, gan)
    assert found.labels.tolist() == real.labels.tolist() and found.classes == pairs.classes


# ---------------------------------------------------------------- one step, written out


class Narrow(DistillTask):
    """A distillation whose 2022 networks have the same layers, narrower."""

    def networks(self):
        if self.config.student == "conv":
            return super().networks()
        student = DiStyleGANGenerator(8, 3, 32, width=16, project_dim=8)
        return student, DiStyleGANDiscriminator(3, 32, self.config.disc_width, project_dim=8)


def one_step(task, pairs, real):
    """The step in the plainest way: every network asked for every image on its own, nothing shared.

    (The projection discriminator's last bias has gradient 0 at first, and Adam makes a whole step of its rounding: its
    learning rate must be below the tolerance.)
    """
    c = task.config
    torch.manual_seed(c.seed)
    student, disc = task.networks()
    disc_optimizer = torch.optim.Adam(disc.parameters(), c.disc_lr, betas=c.betas)
    optimizer = torch.optim.Adam(student.parameters(), c.lr, betas=c.betas)
    task.place(torch.device("cpu"), 0, 1)
    drawn = {name: tensor[0] for name, tensor in task.draw(0).items()}
    rows, light, theta = drawn["rows"].numpy(), drawn.get("light"), drawn.get("theta")
    x_teacher, y = to_float(pairs.images[rows]), torch.from_numpy(pairs.labels)[rows]
    z = torch.from_numpy(np.array(pairs.latents))[rows].float()
    if real is not None:
        rows, z_fresh = drawn["real_rows"].numpy(), drawn["z_fresh"]
        x_real, y_real = to_float(real.images[rows]), torch.from_numpy(real.labels)[rows]

    def seen(x, y):  # the same draws for every part
        return disc(augment(x, light, theta), y)

    losses = {}
    disc.train()(x_teacher, y)  # the 2022 discriminator's spectral norm goes on once a step,
    disc.eval()  # and then stands still
    losses["disc"] = total = hinge_discriminator(seen(x_teacher, y)[0], seen(student(z, y).detach(), y)[0])
    if real is not None:
        fresh = student(z_fresh, y_real).detach()
        losses["disc_gan"] = hinge_discriminator(seen(x_real, y_real)[0], seen(fresh, y_real)[0])
        total = total + c.disc_gan_weight * losses["disc_gan"]
    if c.r1:  # every 8th step, 8 times as much
        x = augment(x_teacher, light, theta).requires_grad_(True)
        (slope,) = torch.autograd.grad(disc(x, y)[0].sum(), x, create_graph=True)
        losses["r1"] = slope.square().flatten(1).sum(1).mean()
        total = total + c.r1 / 2 * R1_EVERY * losses["r1"]
    maps_teacher = [m.detach() for m in seen(x_teacher, y)[1]]  # as the discriminator saw them in its own step
    total.backward()
    disc_optimizer.step()

    losses["pixel"] = pixel_loss(x_teacher, student(z, y))
    compare = relative_feature_loss if c.student == "conv" else feature_loss
    losses["feature"] = compare(maps_teacher, seen(student(z, y), y)[1])
    losses["adversarial"] = hinge_generator(seen(student(z, y), y)[0])
    total = (
        c.pixel_weight * losses["pixel"]
        + c.feature_weight * losses["feature"]
        + c.adversarial_weight * (c.adversarial_kimg == 0) * losses["adversarial"]  # 0 in the first step
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
        ("smoke", True, dict(gan_weight=0.5, adversarial_kimg=0, disc_lr=2e-5)),
        ("smoke", False, dict(disc_lr=2e-5, pixel_weight=0.7, feature_weight=0.3)),
    ],
)
def test_one_step_is_the_one_written_out_here(pairs, real, tmp_path, preset, with_real, changes):
    fixed = dict(batch=16, kimg=0.016, tick_kimg=0.016, adversarial_every=1, ema=0.0, bfloat16=False)
    c = DistillConfig.preset(preset, **fixed, **changes)
    real = real if with_real else None
    run = train(Narrow(pairs, c, real), tmp_path / "run", "cpu")
    losses, student = one_step(Narrow(pairs, c, real), pairs, real)
    assert len(run.stats) == 1 and terms(run) == set(losses)
    for name, value in losses.items():
        assert run.stats[0][name] == pytest.approx(value, abs=1e-4), name
    networks = (run.student, student)
    trained, expected = (torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks)
    assert ((trained - expected).abs() < 1e-6).float().mean() > 0.97  # Adam's first step is a sign, which
    assert (trained - expected).abs().max() < 2.1 * c.lr  # near 0 rounding may flip


def test_the_adversarial_weight_grows_with_the_pairs_shown(pairs):
    for kimg, expected in ((0.32, [0, 0.1, 1.9, 2, 2]), (0, [2] * 5)):
        task = DistillTask(pairs, config(adversarial_weight=2.0, adversarial_kimg=kimg))
        task.place(torch.device("cpu"), 0, 1)
        weights = torch.cat([task.draw(block)["adversarial"] for block in range(3)])
        assert weights[[0, 1, 19, 20, 23]].tolist() == pytest.approx(expected)  # 16 pairs a step


@pytest.mark.parametrize("every, r1, period", [(1, 0.1, 8), (2, 0.0, 8), (3, 0.0, 9), (3, 0.1, 24), (10, 0.0, 10)])
def test_hinge_losses_count_every_so_many_steps(pairs, real, tmp_path, every, r1, period):
    shown = dict(kimg=0.016 * 2 * every, tick_kimg=0.016, r1=r1)
    c = config(**shown, adversarial_every=every, gan_weight=0.1, disc_gan_weight=0.1)
    assert DistillTask(pairs, c).period == period
    if every < 10:
        run = distill(pairs, c, tmp_path / "run", real, "cpu")
        counts = [step % every == 0 for step in range(1, 2 * every + 1)]
        assert [{"adversarial", "gan"} <= set(row) for row in run.stats] == counts
        assert all({"disc", "disc_gan", "pixel", "feature"} <= set(row) for row in run.stats)
        assert ["r1" in row for row in run.stats] == [bool(r1) and step % R1_EVERY == 0 for step in range(2 * every)]


# ---------------------------------------------------------------- what a run says and does


def test_real_images_count_only_with_their_weights(pairs, real, tmp_path):
    with pytest.warns(UserWarning, match="they are not used"):
        without = distill(pairs, config(kimg=0.016), tmp_path / "without", real, "cpu")
    assert terms(without) == {"feature", "pixel", "adversarial", "disc", "r1"}  # black box only
    c = config(kimg=0.016, gan_weight=0.1, disc_gan_weight=0.1)
    full = distill(pairs, c, tmp_path / "full", real, "cpu")
    assert terms(full) == terms(without) | {"gan", "disc_gan"}
    told, plain = (read_json(run.folder / "generator" / "provenance.json") for run in (full, without))
    assert "--real toy --size 32" in told["command"] and "--real" not in plain["command"]
    assert told["data"] == plain["data"] + "; real: toy, 40 images" and plain["data"].endswith(" 48 pairs")


def test_a_run_says_what_it_came_from(whole, pairs):
    told = read_json(whole.folder / "generator" / "provenance.json")
    assert told["classes"] == list(CLASSES) and told["kimg"] == 0.128 and told["config"]["pixel_weight"] == 1.0
    assert whole.student.classes == load_student(whole.folder).classes == black_box(whole.student).classes == CLASSES
    assert told["teacher"] == pairs.manifest["digest"] and told["pairs"] == sha256(pairs.path / "manifest.json")
    words = shlex.split(told["command"])
    assert words[:6] == ["gsoc-kd", "distill", "--pairs", str(pairs.path), "--out", str(whole.folder)]
    assert cli.parse(words[1:]).config == config()
    assert whole.student.config["widths"] == [16, 8, 8, 8]
    saved = load_network(whole.folder / "generator", GENERATORS)
    torch.testing.assert_close(saved.state_dict(), whole.student.state_dict(), rtol=0, atol=0)


def test_distillation_learns(pairs, tmp_path):
    """With hardly more than the pixel loss the student comes closer to the teacher's images: noise, so to grey."""
    c = config(kimg=0.96, tick_kimg=0.48, lr=5e-3, feature_weight=0.0, adversarial_weight=0.0, ema=0.9)
    run = distill(pairs, c, tmp_path / "run", device="cpu")
    x = to_float(pairs.images)
    with torch.no_grad():
        found = run.student(torch.from_numpy(np.array(pairs.latents)).float(), torch.from_numpy(pairs.labels))
    grey = x.median(0).values.sub(x).abs().mean()  # the best image for all
    assert pixel_loss(x, found) < 1.1 * grey and run.stats[-1]["pixel"] < run.stats[0]["pixel"]


def test_an_interrupted_distillation_ends_like_an_uninterrupted_one(whole, pairs, tmp_path):
    def stop(_, row):
        if row["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(pairs, config(), tmp_path / "run", device="cpu", on_tick=stop)
    run = distill(str(pairs.path), config(), tmp_path / "run", device="cpu")
    torch.testing.assert_close(run.student.state_dict(), whole.student.state_dict(), rtol=0, atol=0)
    assert untimed(run.stats) == untimed(whole.stats)


def test_another_config_other_pairs_or_real_images_are_refused(whole, pairs, real, tmp_path):
    with pytest.raises(InputError, match=r"lr 0\.0005 -> 0\.001"):
        distill(pairs, config(lr=1e-3), whole.folder, device="cpu")
    with pytest.raises(InputError, match=r"gan_weight 0\.0 -> 0\.1; real None -> 'toy, 40 images, sha256 "):
        distill(pairs, config(gan_weight=0.1), whole.folder, real, "cpu")
    z = np.array(pairs.latents)
    other = save_pairs(*toy(seed=5), z, tmp_path / "other", classes=CLASSES)  # another teacher's images
    named = save_pairs(*toy(), z, tmp_path / "named", classes=CLASSES, teacher="somebody")  # another manifest
    for changed in (other, named):
        with pytest.raises(InputError, match="holds a run under another config.*pairs "):
            distill(changed, config(), whole.folder, device="cpu")
    manifest = read_json(named.path / "manifest.json")
    write_json(named.path / "manifest.json", {**manifest, "psi": 0.5}, check=True)
    with pytest.raises(InputError, match="pairs "):
        distill(load_pairs(named.path), config(), whole.folder, device="cpu")
    copied = save_pairs(*toy(), z, tmp_path / "copied", classes=CLASSES)  # the same ones
    assert untimed(distill(copied, config(), whole.folder, device="cpu").stats) == untimed(whole.stats)


def test_an_absurd_learning_rate_stops_with_a_clear_word(pairs, tmp_path):
    with pytest.raises(InputError, match="not finite at step 2.*Lower the learning rate"):
        distill(pairs, config(lr=1e30), tmp_path / "run", device="cpu")
    assert runs.load_checkpoint(tmp_path / "run") is None and not (tmp_path / "run" / "generator").exists()
