"""Pretraining: a GAN becomes a teacher, from real images (docs/Teacher-Network.md)."""

import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from ..core.files import InputError
from ..data.images import as_images, to_float
from ..networks.conv import ConvGenerator
from ..networks.discriminator import ProjectionDiscriminator
from ..networks.stylegan2 import StyleGAN2Generator
from ..networks.stylegan2_disc import StyleGAN2Discriminator
from . import config as configs
from . import runs
from .augment import augment, draw_augmentation
from .loop import train
from .losses import R1_EVERY, add_r1, lazy_r1, logistic_discriminator, logistic_generator

PRESETS = {
    "smoke": dict(kimg=0.256, tick_kimg=0.128, batch=16, z_dim=8, widths=(16, 8, 8, 8), embed_dim=4, disc_width=4,
                  group=4),
    "laptop": dict(),
    "gpu": dict(kimg=12_000, tick_kimg=1000, batch=256, widths=(512, 320, 160, 80), embed_dim=128, disc_width=128,
                disc_lr=2e-4, lr_hold=0.6, ema=0.9995, mirror=True),
    "stylegan2-ada": dict(  # its `cifar` configuration, with this project's augmentation
        architecture="stylegan2", disc="stylegan2", kimg=100_000, tick_kimg=200, batch=64, z_dim=512, w_dim=512,
        channel_base=32768, channel_max=512, group=32, lr=2.5e-3, disc_lr=2.5e-3, r1=0.01, ema=0.9999),
}  # fmt: skip


@dataclass(frozen=True)
class PretrainConfig:
    """One run of `pretrain`; `PretrainConfig.preset("laptop", seed=1)` starts from a preset."""

    kimg: float = 2000  # real images shown, in thousands
    tick_kimg: float = 20  # a checkpoint, a line of statistics and a frame of animation every so many thousand images
    batch: int = 64  # images per step, over all processes
    z_dim: int = 128  # width of the latents
    architecture: str = "conv"  # of the generator: "conv" (ConvGenerator) or "stylegan2"
    widths: tuple[int, ...] = (192, 128, 96, 48)  # conv: the generator's channels at 4x4, 8x8, ... pixels
    embed_dim: int = 64  # conv: width of the generator's class embedding
    disc: str = "projection"  # "projection" (light) or "stylegan2"
    disc_width: int = 64  # projection: the discriminator's channels after its first convolution
    group: int = 16  # the discriminator sees how much so many images differ (minibatch deviation); 0: it does not
    w_dim: int = 128  # stylegan2: width of the style
    mapping_layers: int = 2  # stylegan2: depth of the generator's mapping network
    channel_base: int = 4096  # stylegan2, both networks: channel_base / r channels at r pixels ...
    channel_max: int = 256  # ... and no more than this
    lr: float = 2e-4  # Adam's learning rate for the generator
    disc_lr: float = 4e-4  # Adam's learning rate for the discriminator
    lr_hold: float = 1.0  # share of the run (of its kimg or minutes) at the full learning rates; then they fall
    lr_end: float = 0.05  # ... linearly to this share of themselves
    r1: float = 0.1  # gamma, the weight of the gradient penalty on real images
    betas: tuple[float, float] = (0.0, 0.99)  # Adam's averaging
    ema: float = 0.999  # share of itself that the averaged generator keeps in a step, after a ramp from 0
    mirror: bool = False  # show each real image as it is or mirrored left to right, by chance
    shift: int = 3  # augmentation: shift by at most so many pixels
    brightness: float = 0.5  # augmentation: brightness plus or minus so much
    seed: int = 0  # seed of weights, latents, order and augmentation
    bfloat16: bool | None = None  # mixed precision; None: where the device gains from it

    @classmethod
    def preset(cls, name, **changes):
        """`smoke` (tests, seconds), `laptop` (2 CPU cores, two hours), `gpu`, or `stylegan2-ada` (the teacher of
        2022: days on a GPU), with some fields changed."""
        return configs.preset(cls, PRESETS, name, changes)

    def __post_init__(self):
        configs.check(
            self, shares=("betas", "ema"),
            positive=("kimg", "tick_kimg", "batch", "z_dim", "disc_width", "lr", "disc_lr", "w_dim", "mapping_layers",
                      "channel_base", "channel_max"),
            choices={"architecture": ("conv", "stylegan2"), "disc": ("projection", "stylegan2")})  # fmt: skip


def gan_step(nets, x, y, z, options, augmentation, again, r1, descend_disc, descend):
    """Real against generated images: first the discriminator, then the generator (Goodfellow et al. 2014).

    Args:
        x: (B, 3, R, R) real images, y: (B, C) class weights, z: (B, Z) latents.
        options: further inputs of the generator by name, {"noise_mode": (B, K)} for StyleGAN2's noise.
        augmentation, again: light and theta (see `augment`) for 2B images of the discriminator's step and for B of the
            generator's.
        r1: weight of the gradient penalty in this step; 0: it is not computed.
        descend_disc, descend: take a loss, and one step down it with the discriminator's and the generator's weights.

    Returns {loss: scalar}."""
    generated = nets.generator(z, y, **options)  # (B, 3, R, R)
    both = augment(torch.cat([x, generated.detach()]), *augmentation)
    logits, _ = nets.disc(both, torch.cat([y, y]))  # (2B,)
    losses = {"disc": logistic_discriminator(*logits.chunk(2))}
    descend_disc(losses["disc"] + add_r1(losses, r1, nets.disc.network, both[: len(x)], y))

    logits, _ = nets.disc(augment(generated, *again), y)
    losses["generator"] = logistic_generator(logits)
    descend(losses["generator"])
    return losses


class GanTask:
    """What the loop asks of a GAN (see loop.py). real: LabelledImages."""

    verb, unit, period = "pretrain", "img", R1_EVERY

    def __init__(self, real, config):
        self.real, self.config = real, config
        self.steps, self.tick = configs.steps(config)

    def place(self, device, rank, world):
        c, self.where, real = self.config, (device, rank, world), self.real
        if c.group and c.batch // world % c.group:
            raise InputError(f"PretrainConfig.batch {c.batch} must give each process a multiple of group {c.group}")
        self.x = torch.from_numpy(real.images).to(device)
        self.y = F.one_hot(torch.from_numpy(real.labels).to(device), len(real.classes)).float()
        self.batches = runs.Batches(len(real), c.batch, c.seed, device)

    def networks(self):
        generator, disc = make_networks(self.config, len(self.real.classes), self.real.resolution)
        generator.classes, self.noise_numbers = tuple(self.real.classes), getattr(generator, "noise_numbers", 0)
        return generator, disc

    def draw(self, block):
        c, (device, rank, world), period = self.config, self.where, self.period
        n, rng = c.batch // world, runs.rng(c.seed, block, device, rank)
        given = {
            "rows": self.batches.block(block, period, rank, world),
            "z": torch.randn(period, n, c.z_dim, generator=rng, device=device),
        }
        if self.noise_numbers:
            given["noise_mode"] = torch.randn(period, n, self.noise_numbers, generator=rng, device=device)
        if c.mirror:
            given["mirror"] = torch.rand(period, n, 1, 1, 1, generator=rng, device=device) < 0.5
        drawn = draw_augmentation((period, 3 * n), self.real.resolution, c.shift, c.brightness, rng)
        return given | dict(zip(("light", "theta"), drawn))

    def step(self, nets, given, i, descend_disc, descend):
        rows, drawn = given["rows"], [given[name] for name in ("light", "theta") if name in given]
        options = {"noise_mode": given["noise_mode"]} if "noise_mode" in given else {}
        n, r1, x = 2 * len(rows), lazy_r1(self.config.r1, i), to_float(self.x[rows])
        if "mirror" in given:
            x = torch.where(given["mirror"], x.flip(3), x)
        return gan_step(nets, x, self.y[rows], given["z"], options, [part[:n] for part in drawn],
                        [part[n:] for part in drawn], r1, descend_disc, descend)  # fmt: skip

    def identity(self):
        return {**asdict(self.config), "real": self.real.identity()}

    def provenance(self, out, minutes):
        command = configs.command("pretrain", self.config, out, minutes, **configs.real_flags(self.real))
        data = f"{self.real.source}, {len(self.real)} images"
        return {"command": command, "data": data, "classes": list(self.real.classes)}


def make_networks(config, num_classes, resolution):
    """(generator, discriminator) of a PretrainConfig, weights from torch's global random state."""
    c, shape = config, (num_classes, resolution)
    if c.architecture == "stylegan2":
        generator = StyleGAN2Generator(c.z_dim, c.w_dim, *shape, c.channel_base, c.channel_max, c.mapping_layers)
    else:
        generator = ConvGenerator(c.z_dim, *shape, c.widths, c.embed_dim)
    if c.disc == "stylegan2":
        return generator, StyleGAN2Discriminator(*shape, c.channel_base, c.channel_max, c.group)
    return generator, ProjectionDiscriminator(*shape, c.disc_width, c.group)


def pretrain(real="cifar10", config: PretrainConfig | None = None, out="runs/teacher", device: str | None = None,
             minutes: float | None = None, on_tick=None, timer=time.monotonic):  # fmt: skip
    """Trains a class-conditional GAN on real images from scratch; called again, it goes on where it stopped.

    Non-saturating logistic loss with lazy R1, one step each, differentiable augmentation, an exponential moving average
    (EMA) of the generator.

    Args:
        real: LabelledImages, or what load_images takes.
        config: PretrainConfig; the preset `laptop` by default.
        out, device, minutes, on_tick, timer: as in `distill`.

    Returns:
        Run, whose `.generator` is the averaged generator: a teacher-to-be, also in `<out>/generator`.

    Raises:
        InputError: bad config or images; another run in `out`; a loss that is not finite."""
    config = configs.given(PretrainConfig, config)
    return train(GanTask(as_images(real), config), out, device, minutes, on_tick, timer)
