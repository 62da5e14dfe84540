"""Distillation: a small student learns to generate the teacher's images from pairs alone (docs/Objectives.md)."""

import math
import time
import warnings
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..core.files import InputError, sha256
from ..data.images import load_images, to_float
from ..networks.conv import ConvGenerator
from ..networks.discriminator import ProjectionDiscriminator
from ..networks.distylegan import DiStyleGANDiscriminator, DiStyleGANGenerator
from ..pairs.folder import load_pairs
from . import config as configs
from . import runs
from .augment import augment, draw_augmentation
from .loop import train
from .losses import (
    feature_loss,
    hinge_discriminator,
    hinge_generator,
    pixel_loss,
    r1_penalty,
    relative_feature_loss,
    relativistic_generator,
)

R1_EVERY = 8  # the gradient penalty is computed every so many steps, and counts as much more

PRESETS = {
    "smoke": dict(kimg=0.512, tick_kimg=0.128, batch=16, widths=(16, 8, 8, 8), embed_dim=4, rank=8, disc_width=4),
    "laptop": dict(),
    "distylegan-2022": dict(
        student="distylegan", disc="distylegan", disc_width=128, kimg=7500, tick_kimg=50, batch=128, lr=2e-4,
        disc_lr=2e-4, betas=(0.5, 0.999), ema=0.0, r1=0.0, feature_weight=1.0, pixel_weight=0.2, adversarial_weight=0.01,
        gan_weight=0.002, disc_gan_weight=0.2, adversarial_every=10, shift=0, brightness=0.0),
    "gpu": dict(kimg=7500, tick_kimg=1000, batch=256, disc_width=64),
}  # fmt: skip


@dataclass(frozen=True)
class DistillConfig:
    """One run of `distill`; `DistillConfig.preset("laptop", seed=1)` starts from a preset."""

    kimg: float = 160  # pairs shown, in thousands
    tick_kimg: float = 8  # a checkpoint, a line of statistics and a frame of film every so many thousand pairs
    batch: int = 64  # pairs a step, over all processes
    student: str = "conv"  # conv: ConvGenerator; distylegan: the 2022 student of width 256
    widths: tuple[int, ...] = (96, 48, 28, 16)  # conv: channels at 4x4, 8x8, ... pixels
    embed_dim: int = 32  # conv: width of the class embedding
    rank: int | None = 48  # conv: the first linear layer goes through so many dimensions; None: it does not
    block: str = "conv"  # conv: "conv", or "residual" for TinyGAN's block
    disc: str = "projection"  # projection: ProjectionDiscriminator; distylegan: the 2022 discriminator
    disc_width: int = 32  # the discriminator's channels after its first convolution
    spectral: bool = False  # projection: spectral norm in all layers
    group: int = 0  # projection: the discriminator sees how much so many images differ (minibatch deviation); 0: no
    r1: float = 0.1  # gamma, of the gradient penalty on the teacher's images; 0: none
    relativistic: bool = False  # paired relativistic loss instead of hinge; the penalty counts on both sides
    fresh: bool = False  # the adversarial loss is on fresh noise
    pixel_pool: int = 1  # the pixel loss is on images averaged over so many pixels a side
    rgb: bool = False  # images are sums of images at 8x8, 16x16 and 32x32 pixels
    moments_weight: float = 0.0  # of the distance of means and covariances of a classifier's features of the batch
    clean: bool = False  # pairs that the classifier finds wrong are left out
    error_power: float = 0.0  # pixel and feature loss of an image are weighted by its share of the error to this power
    feature_weight: float = 1.0  # of the feature loss, L1 between the discriminator's maps
    pixel_weight: float = 1.0  # lambda 1, of the pixel loss
    adversarial_weight: float = 0.1  # lambda 2, of the student's hinge loss on the noise of the pairs
    gan_weight: float = 0.0  # lambda 3, of the student's hinge loss on fresh noise; counts only with real images
    disc_gan_weight: float = 0.0  # lambda 4, of the discriminator's hinge loss on real images; only with real images
    adversarial_every: int = 1  # the student's two hinge losses count every so many steps
    lr: float = 5e-4  # Adam's learning rate for the student
    disc_lr: float = 5e-4  # Adam's learning rate for the discriminator
    lr_hold: float = 1.0  # share of the run (of its kimg or minutes) at the full learning rates; then they fall
    lr_end: float = 0.05  # ... linearly to this share of themselves
    betas: tuple[float, float] = (0.5, 0.99)  # Adam's averaging
    ema: float = 0.998  # a step's share that the averaged student keeps of itself, after a ramp from 0
    shift: int = 3  # augmentation of what the discriminator sees: shift by at most so many pixels
    brightness: float = 0.2  # augmentation of what the discriminator sees: brightness plus or minus so much
    seed: int = 0  # of weights, order, fresh noise and augmentation
    bfloat16: bool | None = None  # mixed precision; None: where the device gains from it

    @classmethod
    def preset(cls, name, **changes):
        """`smoke` (tests, seconds), `laptop` (2 CPU cores, minutes), `distylegan-2022` (the old recipe) or `gpu`,
        with some fields changed."""
        return configs.preset(cls, PRESETS, name, changes)

    def __post_init__(self):
        configs.check(
            self, shares=("betas", "ema"),
            positive=("kimg", "tick_kimg", "batch", "disc_width", "adversarial_every", "lr", "disc_lr"),
            choices={"student": ("conv", "distylegan"), "disc": ("projection", "distylegan")})  # fmt: skip
        if not max(self.feature_weight, self.pixel_weight, self.adversarial_weight, self.gan_weight) > 0:
            raise InputError("DistillConfig: all weights of the student's loss are 0; nothing would be learned")


def distill_step(nets, c, x_teacher, y, z, augmentation, adversarial, r1, descend_disc, descend, z_fresh=None):
    """Teacher against student on the same latents and labels: first the discriminator, then the student.

    Args:
        x_teacher: (B, 3, R, R), y: (B, C) class weights, z: (B, Z): the pairs.
        augmentation: light and theta for B images (see `augment`), the same for a teacher's image and the student's.
        adversarial: whether the hinge loss counts in this step.
        r1: weight of the gradient penalty in this step; 0: it is not computed.
        descend_disc, descend: take a loss, and one step down it with the discriminator's and the student's weights.

    Returns {loss: scalar}."""
    n, x_student = len(y), nets.generator(z, y)  # (B, 3, R, R)
    x_against = x_student if z_fresh is None else nets.generator(z_fresh, y)
    both = augment(torch.cat([x_teacher, x_against.detach()]), *times(2, augmentation))
    logits, maps = nets.disc(both, torch.cat([y, y]))  # (2B,), four maps (2B, C_i, R_i, R_i)
    logits_teacher = logits[:n].detach().clone()
    maps_teacher = [m[:n].detach().clone() for m in maps]
    losses = {"disc": relativistic_generator(*logits.chunk(2)[::-1]) if c.relativistic else hinge_discriminator(*logits.chunk(2))}
    total = losses["disc"]
    if r1:
        x, labels = (both, torch.cat([y, y])) if c.relativistic else (both[:n], y)
        losses["r1"] = r1_penalty(nets.disc.network, x, labels) * (len(x) // n)
        total = total + r1 * losses["r1"]
    descend_disc(total)

    shown, labels = (x_student, y) if z_fresh is None else (torch.cat([x_student, x_against]), torch.cat([y, y]))
    logits, maps = nets.disc(augment(shown, *times(len(shown) // n, augmentation)), labels, training=False)
    maps = [m[:n] for m in maps]
    pool = lambda x: F.avg_pool2d(x, c.pixel_pool) if c.pixel_pool > 1 else x
    if c.error_power:
        with torch.no_grad():
            size = (x_teacher - x_student).abs().mean((1, 2, 3))
            share = (size / size.mean()) ** c.error_power
            share = (share / share.mean())[:, None, None, None]
        losses["pixel"] = (share * (x_teacher - x_student)).abs().mean()
        losses["feature"] = relative_feature_loss(maps_teacher, [t + share * (m - t) for m, t in zip(maps, maps_teacher)])
    else:
        losses["pixel"] = pixel_loss(pool(x_teacher), pool(x_student))
        bounded = c.spectral or c.disc == "distylegan"
        losses["feature"] = (feature_loss if bounded else relative_feature_loss)(maps_teacher, maps)
    total = c.pixel_weight * losses["pixel"] + c.feature_weight * losses["feature"]
    if c.moments_weight:
        with torch.no_grad():
            ours = nets.classifier.features_and_logits(x_teacher)[0]
        found = nets.classifier.features_and_logits(x_student)[0]
        (m1, c1), (m2, c2) = ((f.mean(0), torch.cov(f.T)) for f in (ours, found))
        losses["moments"] = (m1 - m2).square().mean() + (c1 - c2).square().sum() / len(m1)
        total = total + c.moments_weight * losses["moments"]
    if adversarial:
        theirs = relativistic_generator(logits_teacher, logits) if c.relativistic else hinge_generator(logits[-n:])
        losses["adversarial"] = theirs
        total = total + c.adversarial_weight * losses["adversarial"]
    descend(total)
    return losses


def distill_step_with_real(nets, c, x_teacher, y, z, x_real, y_real, z_fresh, augmentation, adversarial, r1, descend_disc,
                           descend):  # fmt: skip
    """The same with the two terms that need real images, real against student on fresh latents (the 2022 recipe).

    x_real: (B, 3, R, R), y_real: (B, C), z_fresh: (B, Z): real images, their labels, latents for these labels."""
    n, x_student = len(y), nets.generator(z, y)
    with torch.set_grad_enabled(adversarial and c.gan_weight > 0):
        x_fresh = nets.generator(z_fresh, y_real)
    four = torch.cat([x_teacher, x_student.detach(), x_real, x_fresh.detach()])
    logits, maps = nets.disc(augment(four, *times(4, augmentation)), torch.cat([y, y, y_real, y_real]))
    teacher, student, real, fresh = logits.chunk(4)
    losses = {"disc": hinge_discriminator(teacher, student), "disc_gan": hinge_discriminator(real, fresh)}
    maps_teacher = [m[:n].detach().clone() for m in maps]
    total = losses["disc"] + c.disc_gan_weight * losses["disc_gan"]
    if r1:
        losses["r1"] = r1_penalty(nets.disc.network, augment(x_teacher, *augmentation), y)
        total = total + r1 * losses["r1"]
    descend_disc(total)

    shown, labels = (torch.cat([x_student, x_fresh]), torch.cat([y, y_real])) if adversarial else (x_student, y)
    logits, maps = nets.disc(augment(shown, *times(len(shown) // n, augmentation)), labels, training=False)
    losses["pixel"] = pixel_loss(x_teacher, x_student)
    bounded = c.spectral or c.disc == "distylegan"
    losses["feature"] = (feature_loss if bounded else relative_feature_loss)(maps_teacher, [m[:n] for m in maps])
    total = c.pixel_weight * losses["pixel"] + c.feature_weight * losses["feature"]
    if adversarial:
        losses["adversarial"], losses["gan"] = hinge_generator(logits[:n]), hinge_generator(logits[n:])
        total = total + c.adversarial_weight * losses["adversarial"] + c.gan_weight * losses["gan"]
    descend(total)
    return losses


def classifier_of(pairs, seed, steps=1500):
    """A classifier trained on the pairs' images and labels: black box still."""
    from ..evaluation.classifier import Judge

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, rng = Judge(pairs.num_classes, (16, 32, 64, 64)), np.random.default_rng(seed)
        adam = torch.optim.Adam(network.parameters(), 2e-3)
        for step in range(steps):
            rows = np.sort(rng.choice(len(pairs), 64, replace=False))
            drawn = draw_augmentation((64,), pairs.resolution, 3, 0.2, torch.Generator().manual_seed(step))
            loss = F.cross_entropy(network(augment(to_float(pairs.images[rows]), *drawn)), torch.from_numpy(pairs.labels[rows]))
            adam.zero_grad()
            loss.backward()
            adam.step()
    return network.eval().requires_grad_(False)


def times(count, augmentation):
    """The same draws for `count` batches in a row."""
    return [part.repeat(count, *[1] * (part.ndim - 1)) for part in augmentation]


class DistillTask:
    """What the loop asks of a distillation (see loop.py). pairs: Pairs; real: LabelledImages or None."""

    verb, unit = "distill", "pair"

    def __init__(self, pairs, config, real=None):
        self.pairs, self.config, self.real, every = pairs, config, real, config.adversarial_every
        self.period = math.lcm(every, R1_EVERY)  # steps of a block
        self.steps, self.tick = configs.steps(config)

    def place(self, device, rank, world):
        pairs, c, self.where = self.pairs, self.config, (device, rank, world)
        self.x, labels, self.z = (torch.from_numpy(a).to(device) for a in (pairs.images, pairs.labels, pairs.latents))
        self.y = F.one_hot(labels, pairs.num_classes).float()
        self.rows = None
        if c.moments_weight or c.clean:
            self.classifier = classifier_of(pairs, c.seed)
        if c.clean:
            from ..evaluation.classifier import features as see

            p = torch.from_numpy(see(pairs.images, self.classifier)[1]).softmax(1)
            self.rows = (p[torch.arange(len(pairs)), labels] > 0.1).nonzero()[:, 0]
            print(f"{len(pairs) - len(self.rows)} of {len(pairs)} pairs left out")
        self.batches = runs.Batches(len(pairs) if self.rows is None else len(self.rows), c.batch, c.seed, device)
        if real := self.real:
            self.x_real, labels = torch.from_numpy(real.images).to(device), torch.from_numpy(real.labels).to(device)
            self.y_real = F.one_hot(labels, pairs.num_classes).float()
            self.real_batches = runs.Batches(len(real), c.batch, c.seed, device, stream=1)

    def networks(self):
        return make_networks(self.config, self.pairs.z_dim, self.pairs.num_classes, self.pairs.resolution)

    def draw(self, block):
        c, (device, rank, world) = self.config, self.where
        rng, rows = runs.rng(c.seed, block, device, rank), self.batches.block(block, self.period, rank, world)
        given = {"rows": rows}
        if self.real:
            given["real_rows"] = self.real_batches.block(block, self.period, rank, world)
        if self.real or c.fresh:
            given["z_fresh"] = torch.randn(*rows.shape, self.pairs.z_dim, generator=rng, device=device)
        drawn = draw_augmentation(rows.shape, self.pairs.resolution, c.shift, c.brightness, rng)
        return given | dict(zip(("light", "theta"), drawn))

    def step(self, nets, given, i, descend_disc, descend):
        c, rows, adversarial = self.config, given["rows"], (i + 1) % self.config.adversarial_every == 0
        rows = rows if self.rows is None else self.rows[rows]
        nets.classifier = getattr(self, "classifier", None)
        pairs = to_float(self.x[rows]), self.y[rows], self.z[rows].float()
        r1 = c.r1 / 2 * R1_EVERY if i % R1_EVERY == 0 else 0
        rest = [given[name] for name in ("light", "theta") if name in given], adversarial, r1, descend_disc, descend
        if not self.real:
            return distill_step(nets, c, *pairs, *rest, given.get("z_fresh"))
        real = given["real_rows"]
        return distill_step_with_real(nets, c, *pairs, to_float(self.x_real[real]), self.y_real[real], given["z_fresh"],
                                      *rest)  # fmt: skip

    def identity(self):
        real = self.real and f"{self.real.source}, {len(self.real)} images"
        return {**asdict(self.config), "pairs": sha256(self.pairs.path / "manifest.json"), "real": real}

    def provenance(self, out, minutes):
        pairs, real = self.pairs, self.real
        flags = {"pairs": pairs.path} | (configs.real_flags(real) if real else {})
        beside = f"; real: {real.source}, {len(real)} images" if real else ""
        return {"command": configs.command("distill", self.config, out, minutes, **flags),
                "data": f"pairs of teacher {pairs.manifest['teacher']}, {len(pairs)} pairs{beside}",
                "classes": list(pairs.classes), "teacher": pairs.manifest["digest"],
                "pairs": sha256(pairs.path / "manifest.json")}  # fmt: skip


def make_networks(config, z_dim, num_classes, resolution):
    """The student and the discriminator that a config asks for, for pairs of this shape."""
    c, shape = config, (num_classes, resolution)
    if c.student == "conv":
        student = ConvGenerator(z_dim, *shape, c.widths, c.embed_dim, c.rank, c.block, c.rgb)
    else:
        student = DiStyleGANGenerator(z_dim, *shape)
    if c.disc == "projection":
        return student, ProjectionDiscriminator(*shape, c.disc_width, c.group, c.spectral)
    return student, DiStyleGANDiscriminator(*shape, c.disc_width)


def distill(pairs="runs/pairs", config: DistillConfig | None = None, out="runs/student", real=None,
            device: str | None = None, minutes: float | None = None, on_tick=None, timer=time.monotonic):  # fmt: skip
    """Trains a student on a teacher's pairs; called again, it goes on where it stopped, to the same weights.

    Args:
        pairs: Pairs, or their folder.
        config: DistillConfig; the preset `laptop` by default.
        out: the run's folder (see runs.py for what it holds).
        real: LabelledImages of the same resolution and classes, or what load_images takes; without them the terms on
            real images are left out, and the student learns from the black box alone.
        device: e.g. "cuda" or "cpu"; the fastest there is by default.
        minutes: stop, with a last tick, after so many minutes of training, all resumed parts together; no limit by
            default.
        on_tick: on_tick(generator, row), called after every tick with the averaged generator on the CPU and the row of
            statistics; the dict that it returns, if any, is added to the row. Its time does not count.
        timer: what counts seconds. time.process_time counts this process's processor time instead, which other work
            on the machine hardly changes; with several threads it is the sum over them.

    Returns:
        Run, whose `.student` is the averaged (EMA) student, also in `<out>/generator`.

    Raises:
        InputError: bad pairs, config or images; another run in `out`; a loss that is not finite."""
    pairs = load_pairs(pairs) if isinstance(pairs, str) or hasattr(pairs, "__fspath__") else pairs
    real = load_images(real) if isinstance(real, str) or hasattr(real, "__fspath__") else real
    config = config or DistillConfig()
    return train(DistillTask(pairs, config, usable(real, pairs, config)), out, device, minutes, on_tick, timer)


def usable(real, pairs, config):
    """`real` where the config uses real images, else None; InputError where they do not fit the pairs."""
    if real is None:
        if not max(config.feature_weight, config.pixel_weight, config.adversarial_weight) > 0:
            raise InputError("DistillConfig: only gan_weight is above 0, and it needs real images: give real=...")
        return None
    named = pairs.classes != tuple(map(str, range(pairs.num_classes)))
    ours, theirs = ((x.resolution, tuple(x.classes) if named else len(x.classes)) for x in (real, pairs))
    if ours != theirs:
        raise InputError(
            f"real images are {ours[0]} pixels wide in classes {ours[1]}, the pairs {theirs[0]} in {theirs[1]}; "
            "load_images(size=...) changes the size, and classes must be the same in the same order"
        )
    if max(config.gan_weight, config.disc_gan_weight) > 0:
        return real
    warnings.warn("real images are given, but gan_weight and disc_gan_weight are 0: they are not used", stacklevel=3)
    return None
