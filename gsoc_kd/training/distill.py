"""Distillation: a small student learns to generate the teacher's images from pairs alone (docs/Objectives.md)."""

import math
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from ..core.files import InputError, sha256
from ..core.latents import sample
from ..data.images import as_images, to_float
from ..networks.conv import ConvGenerator
from ..networks.discriminator import ProjectionDiscriminator
from ..networks.distylegan import DiStyleGANDiscriminator, DiStyleGANGenerator
from ..pairs.folder import Pairs, load_pairs
from . import config as configs
from . import runs
from .augment import augment, draw_augmentation
from .loop import train
from .losses import (
    R1_EVERY,
    add_r1,
    feature_loss,
    hinge_discriminator,
    hinge_generator,
    lazy_r1,
    pixel_loss,
    relative_feature_loss,
)

PRESETS = {
    "smoke": dict(kimg=0.512, tick_kimg=0.128, batch=16, widths=(16, 8, 8, 8), embed_dim=4, rank=8, disc_width=4),
    "laptop": dict(),
    "distylegan-2022": dict(
        student="distylegan", disc="distylegan", disc_width=128, kimg=7500, tick_kimg=50, batch=128, lr=2e-4,
        disc_lr=2e-4, betas=(0.5, 0.999), ema=0.0, r1=0.0, feature_weight=1.0, pixel_weight=0.2,
        adversarial_weight=0.01, adversarial_kimg=0, gan_weight=0.002, disc_gan_weight=0.2, adversarial_every=10,
        shift=0, brightness=0.0),
    "gpu": dict(kimg=3500, tick_kimg=500, ema=0.9995),
}  # fmt: skip


@dataclass(frozen=True)
class DistillConfig:
    """One run of `distill`; `DistillConfig.preset("laptop", seed=1)` starts from a preset."""

    kimg: float = 320  # pairs shown, in thousands
    tick_kimg: float = 8  # a checkpoint, a line of statistics and a frame of animation every so many thousand pairs
    batch: int = 64  # pairs per step, over all processes
    student: str = "conv"  # conv: ConvGenerator; distylegan: the 2022 student of width 256
    widths: tuple[int, ...] = (64, 64, 40, 28)  # conv: channels at 4x4, 8x8, ... pixels
    embed_dim: int = 32  # conv: width of the class embedding
    rank: int | None = 48  # conv: the first linear layer goes through so many dimensions; None: it does not
    block: str = "conv"  # conv: "conv", or "residual" for TinyGAN's block
    disc: str = "projection"  # projection: ProjectionDiscriminator; distylegan: the 2022 discriminator
    disc_width: int = 32  # the discriminator's channels after its first convolution
    r1: float = 0.1  # gamma, weight of the gradient penalty on the teacher's images; 0: none
    feature_weight: float = 1.0  # lambda 0, weight of the feature loss, L1 between the discriminator's maps
    pixel_weight: float = 1.0  # lambda 1, weight of the pixel loss
    adversarial_weight: float = 1.0  # lambda 2, weight of the student's hinge loss on the noise of the pairs
    adversarial_kimg: float = 3000  # ... to which it grows linearly while so many thousand pairs are shown; 0: at once
    gan_weight: float = 0.0  # lambda 3, weight of the student's hinge loss on fresh noise; only with real images
    disc_gan_weight: float = 0.0  # lambda 4, weight of the discriminator's hinge loss on real images, if there are any
    adversarial_every: int = 1  # the student's two hinge losses count every so many steps
    lr: float = 5e-4  # Adam's learning rate for the student
    disc_lr: float = 5e-4  # Adam's learning rate for the discriminator
    lr_hold: float = 1.0  # share of the run (of its kimg or minutes) at the full learning rates; then they fall
    lr_end: float = 0.05  # ... linearly to this share of themselves
    betas: tuple[float, float] = (0.5, 0.99)  # Adam's averaging
    ema: float = 0.998  # share of itself that the averaged student keeps in a step, after a ramp from 0
    shift: int = 3  # augmentation of what the discriminator sees: shift by at most so many pixels
    brightness: float = 0.2  # augmentation of what the discriminator sees: brightness plus or minus so much
    seed: int = 0  # seed of weights, order, fresh noise and augmentation
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
            choices={"student": ("conv", "distylegan"), "disc": ("projection", "distylegan"),
                     "block": ("conv", "residual")})  # fmt: skip
        if not max(self.feature_weight, self.pixel_weight, self.adversarial_weight, self.gan_weight) > 0:
            raise InputError("DistillConfig: all weights of the student's loss are 0; nothing would be learned")
        configs.whole("DistillConfig.adversarial_every", self.adversarial_every, 1, 1000)  # drawn for at once


def distill_step(nets, c, x_teacher, y, z, augmentation, adversarial, r1, descend_disc, descend):
    """Teacher against student on the same latents and labels: first the discriminator, then the student.

    Args:
        x_teacher: (B, 3, R, R), y: (B, C) class weights, z: (B, Z): the pairs.
        augmentation: light and theta for B images (see `augment`), the same for a teacher's image and the student's.
        adversarial: lambda 2 in this step, a scalar; None: the hinge loss does not count.
        r1: weight of the gradient penalty in this step; 0: it is not computed.
        descend_disc, descend: take a loss, and one step down it with the discriminator's and the student's weights.

    Returns {loss: scalar}."""
    x_student = nets.generator(z, y)  # (B, 3, R, R)
    both = augment(torch.cat([x_teacher, x_student.detach()]), *times(2, augmentation))
    logits, maps = nets.disc(both, torch.cat([y, y]))  # (2B,), four maps (2B, C_i, R_i, R_i)
    maps_teacher = [m[: len(y)].detach().clone() for m in maps]
    losses = {"disc": hinge_discriminator(*logits.chunk(2))}
    descend_disc(losses["disc"] + add_r1(losses, r1, nets.disc.network, both[: len(y)], y))

    logits, maps = nets.disc(augment(x_student, *augmentation), y, training=False)  # looked through as it now is
    losses["pixel"] = pixel_loss(x_teacher, x_student)
    losses["feature"] = features(c)(maps_teacher, maps)
    total = c.pixel_weight * losses["pixel"] + c.feature_weight * losses["feature"]
    if adversarial is not None:
        losses["adversarial"] = hinge_generator(logits)
        total = total + adversarial * losses["adversarial"]
    descend(total)
    return losses


def distill_step_with_real(nets, c, x_teacher, y, z, x_real, y_real, z_fresh, augmentation, adversarial, r1,
                           descend_disc, descend):  # fmt: skip
    """The same with the two terms that need real images, real against student on fresh latents (the 2022 recipe).

    x_real: (B, 3, R, R), y_real: (B, C), z_fresh: (B, Z): real images, their labels, latents for these labels."""
    n, x_student, counts = len(y), nets.generator(z, y), adversarial is not None
    with torch.set_grad_enabled(counts and c.gan_weight > 0):
        x_fresh = nets.generator(z_fresh, y_real)
    four = torch.cat([x_teacher, x_student.detach(), x_real, x_fresh.detach()])
    four = augment(four, *times(4, augmentation))
    logits, maps = nets.disc(four, torch.cat([y, y, y_real, y_real]))
    teacher, student, real, fresh = logits.chunk(4)
    losses = {"disc": hinge_discriminator(teacher, student), "disc_gan": hinge_discriminator(real, fresh)}
    maps_teacher = [m[:n].detach().clone() for m in maps]
    total = losses["disc"] + c.disc_gan_weight * losses["disc_gan"]
    descend_disc(total + add_r1(losses, r1, nets.disc.network, four[:n], y))

    shown, labels = (torch.cat([x_student, x_fresh]), torch.cat([y, y_real])) if counts else (x_student, y)
    logits, maps = nets.disc(augment(shown, *times(len(shown) // n, augmentation)), labels, training=False)
    losses["pixel"] = pixel_loss(x_teacher, x_student)
    losses["feature"] = features(c)(maps_teacher, [m[:n] for m in maps])
    total = c.pixel_weight * losses["pixel"] + c.feature_weight * losses["feature"]
    if counts:
        losses["adversarial"], losses["gan"] = hinge_generator(logits[:n]), hinge_generator(logits[n:])
        total = total + adversarial * losses["adversarial"] + c.gan_weight * losses["gan"]
    descend(total)
    return losses


def features(config):
    """The feature loss: relative where nothing else fixes the size of the maps, as spectral norm does."""
    return feature_loss if config.disc == "distylegan" else relative_feature_loss


def times(count, augmentation):
    """The same draws for `count` batches in a row."""
    return [part.repeat(count, *[1] * (part.ndim - 1)) for part in augmentation]


class DistillTask:
    """What the loop asks of a distillation (see loop.py). pairs: Pairs; real: LabelledImages or None."""

    verb, unit = "distill", "pair"

    def __init__(self, pairs, config, real=None):
        self.pairs, self.config, self.real, every = pairs, config, real, config.adversarial_every
        # steps of a block: at least 8, whole rounds of what does not count in every step
        self.period = math.lcm(every, R1_EVERY) if config.r1 else every * -(-8 // every)
        self.steps, self.tick = configs.steps(config)

    def place(self, device, rank, world):
        pairs, c, self.where = self.pairs, self.config, (device, rank, world)
        self.x, labels, self.z = (torch.from_numpy(a).to(device) for a in (pairs.images, pairs.labels, pairs.latents))
        self.y = F.one_hot(labels, pairs.num_classes).float()
        self.batches = runs.Batches(len(pairs), c.batch, c.seed, device)
        if real := self.real:
            self.x_real, labels = torch.from_numpy(real.images).to(device), torch.from_numpy(real.labels).to(device)
            self.y_real = F.one_hot(labels, pairs.num_classes).float()
            self.real_batches = runs.Batches(len(real), c.batch, c.seed, device, stream=1)

    def networks(self):
        student, disc = make_networks(self.config, self.pairs.z_dim, self.pairs.num_classes, self.pairs.resolution)
        student.z_from, student.classes = self.pairs.z_from, self.pairs.classes
        return student, disc

    def draw(self, block):
        c, (device, rank, world) = self.config, self.where
        rng, rows = runs.rng(c.seed, block, device, rank), self.batches.block(block, self.period, rank, world)
        shown = torch.arange(block * self.period, (block + 1) * self.period, device=device) * c.batch / 1000
        grown = (shown / c.adversarial_kimg).clamp(max=1) if c.adversarial_kimg else torch.ones_like(shown)
        given = {"rows": rows, "adversarial": c.adversarial_weight * grown}
        if self.real:
            given["real_rows"] = self.real_batches.block(block, self.period, rank, world)
            shape = *rows.shape, self.pairs.z_dim
            given["z_fresh"] = sample(self.pairs.z_from, *shape, generator=rng, device=device)
        drawn = draw_augmentation(rows.shape, self.pairs.resolution, c.shift, c.brightness, rng)
        return given | dict(zip(("light", "theta"), drawn))

    def step(self, nets, given, i, descend_disc, descend):
        c, rows = self.config, given["rows"]
        adversarial = None if (i + 1) % c.adversarial_every else given["adversarial"]
        pairs = to_float(self.x[rows]), self.y[rows], self.z[rows].float()
        r1 = lazy_r1(c.r1, i)
        rest = [given[name] for name in ("light", "theta") if name in given], adversarial, r1, descend_disc, descend
        if not self.real:
            return distill_step(nets, c, *pairs, *rest)
        real = given["real_rows"]
        return distill_step_with_real(nets, c, *pairs, to_float(self.x_real[real]), self.y_real[real], given["z_fresh"],
                                      *rest)  # fmt: skip

    def identity(self):
        real = self.real and self.real.identity()
        return {**asdict(self.config), "pairs": sha256(self.pairs.path / "manifest.json"), "real": real}

    def provenance(self, out, minutes):
        pairs, real = self.pairs, self.real
        flags = {"pairs": configs.near(pairs.path)} | (configs.real_flags(real) if real else {})
        beside = f"; real: {real.source}, {len(real)} images" if real else ""
        return {"command": configs.command("distill", self.config, out, minutes, **flags),
                "data": f"pairs of teacher {pairs.manifest['teacher']}, {len(pairs)} pairs{beside}",
                "classes": list(pairs.classes), "teacher": pairs.manifest["digest"],
                "pairs": sha256(pairs.path / "manifest.json")}  # fmt: skip


def make_networks(config, z_dim, num_classes, resolution):
    """The student and the discriminator that a config asks for, for pairs of this shape."""
    c, shape = config, (num_classes, resolution)
    if c.student == "conv":
        student = ConvGenerator(z_dim, *shape, c.widths, c.embed_dim, c.rank, c.block)
    else:
        student = DiStyleGANGenerator(z_dim, *shape)
    if c.disc == "projection":
        return student, ProjectionDiscriminator(*shape, c.disc_width)
    return student, DiStyleGANDiscriminator(*shape, c.disc_width)


def distill(pairs="runs/pairs", config: DistillConfig | None = None, out="runs/student", real=None,
            device: str | None = None, minutes: float | None = None, on_tick=None, timer=time.monotonic):  # fmt: skip
    """Trains a student on a teacher's pairs; called again, it goes on where it stopped, to the same weights.

    Args:
        pairs: Pairs, or their folder.
        config: DistillConfig; the preset `laptop` by default.
        out: the run's folder (see runs.py for what it holds).
        real: LabelledImages of the same resolution and classes, matched by name, or what load_images takes; without
            them the terms on real images are left out, and the student learns from the black box alone.
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
    config, pairs = configs.given(DistillConfig, config), pairs if isinstance(pairs, Pairs) else load_pairs(pairs)
    real = None if real is None else as_images(real)
    return train(DistillTask(pairs, config, configs.usable(real, pairs, config)), out, device, minutes, on_tick, timer)
