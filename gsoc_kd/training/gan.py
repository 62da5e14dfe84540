"""Trains a teacher from real images, for whoever has no official file (docs/Teacher-Network.md)."""

import copy
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..core.figures import class_grid, film
from ..core.files import InputError
from ..core.weights import provenance, save_network
from ..data.images import load_images, to_float, to_uint8
from ..networks.conv import ConvGenerator
from ..networks.discriminator import ProjectionDiscriminator
from ..networks.features import FeatureClassifier, FeatureDiscriminator, train_features
from ..networks.layers import reestimate_batchnorm
from ..networks.stylegan2 import StyleGAN2Generator
from ..networks.stylegan2_disc import StyleGAN2Discriminator
from . import devices, runs
from .augment import augment
from .losses import hinge_discriminator, hinge_generator, logistic_discriminator, logistic_generator, r1_penalty

PRESETS = {
    "smoke": dict(
        kimg=0.256, tick_kimg=0.128, batch=16, z_dim=8, widths=(16, 8, 8, 8), embed_dim=4, disc_width=4, group=4
    ),
    "laptop": dict(),
    "gpu": dict(
        kimg=20_000, tick_kimg=500, batch=256, widths=(384, 256, 128, 64), embed_dim=128, disc_width=128, disc_lr=2e-4
    ),  # twice that, and both networks swing against each other
    "stylegan2-ada": dict(  # its `cifar` configuration, with this project's augmentation
        architecture="stylegan2",
        disc="stylegan2",
        kimg=100_000,
        tick_kimg=200,
        batch=64,
        z_dim=512,
        w_dim=512,
        channel_base=32768,
        channel_max=512,
        group=32,
        lr=2.5e-3,
        disc_lr=2.5e-3,
        r1=0.01,
        ema=0.9999,
    ),
}
CHOICES = {
    "architecture": ("conv", "stylegan2"),
    "disc": ("projection", "features", "stylegan2"),
    "loss": ("logistic", "hinge"),
}

R1_EVERY = 8  # steps; the penalty counts so much more then (lazy regularisation, Karras et al. 2019, arXiv 1912.04958)


@dataclass(frozen=True)
class PretrainConfig:
    """One run of `pretrain`; `PretrainConfig.preset("laptop", seed=1)` starts from a preset."""

    kimg: float = 2000  # real images shown, in thousands
    tick_kimg: float = 20  # a checkpoint, a line of statistics and a frame of film every so many thousand images
    batch: int = 64  # images a step, over all processes
    z_dim: int = 128  # width of the latents
    widths: tuple[int, ...] = (192, 128, 96, 48)  # the generator's channels at 4x4, 8x8, ... pixels
    embed_dim: int = 64  # width of the generator's class embedding
    disc_width: int = 64  # the disc's channels after its first convolution
    group: int = 16  # the disc sees how much so many successive pictures differ (minibatch deviation); 0: it does not
    lr: float = 2e-4  # Adam's learning rate for the generator
    disc_lr: float = 4e-4  # Adam's learning rate for the disc
    r1: float = 0.1  # gamma, the weight of the gradient penalty on real images
    betas: tuple[float, float] = (0.0, 0.99)  # Adam's averaging
    ema: float = 0.999  # a step's share that the averaged generator keeps of itself, after a ramp from 0
    shift: int = 3  # augmentation: shift by at most so many pixels
    brightness: float = 0.5  # augmentation: brightness plus or minus so much
    seed: int = 0  # of weights, latents, order and augmentation
    bfloat16: bool | None = None  # mixed precision; None: where the device gains from it
    architecture: str = "conv"  # of the generator: "conv" (ConvGenerator) or "stylegan2"
    disc: str = "projection"  # "projection" (light), "features" (it also sees a small classifier's maps) or "stylegan2"
    loss: str = "logistic"  # "logistic" (non-saturating) or "hinge"
    spectral: bool = False  # spectral norm in the light discs; usually with r1 0
    disc_labels: bool = True  # the disc sees the labels; without, nothing ties a picture to its class
    w_dim: int = 128  # stylegan2: width of the style
    mapping_layers: int = 2  # stylegan2: depth of the generator's mapping network
    channel_base: int = 4096  # stylegan2, both networks: channel_base / r channels at r pixels ...
    channel_max: int = 256  # ... and no more than this
    channels_last: bool = True  # memory order of pictures and weights
    compile: bool = False  # torch.compile: quicker on a GPU after some minutes; needs a C++ compiler

    @classmethod
    def preset(cls, name, **changes):
        """`smoke` (tests, seconds), `laptop` (2 CPU cores, two hours), `gpu`, or `stylegan2-ada` (the teacher of
        2022: days on a GPU), with some fields changed."""
        return runs.preset(cls, PRESETS, name, changes)

    def __post_init__(self):
        runs.check_config(
            self,
            positive=(
                "kimg",
                "tick_kimg",
                "batch",
                "z_dim",
                "disc_width",
                "lr",
                "disc_lr",
                "w_dim",
                "mapping_layers",
                "channel_base",
                "channel_max",
            ),
            shares=("betas", "ema"),
        )
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"PretrainConfig.{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        if self.spectral and self.disc == "stylegan2":
            raise InputError("PretrainConfig.spectral is for the light discs; StyleGAN2's is trained with r1")

    @property
    def tick_steps(self):
        """Steps from one tick to the next."""
        return max(1, round(self.tick_kimg * 1000 / self.batch))


def pretrain(
    real="cifar10",
    config: PretrainConfig | None = None,
    out="runs/teacher",
    device: str | None = None,
    minutes: float | None = None,
    on_tick=None,
    timer=time.time,
):
    """Trains a class-conditional GAN on real images from scratch; run again, it goes on where it stopped.

    By default the generator is a ConvGenerator, the disc a projection discriminator that sees minibatch deviation;
    non-saturating logistic loss with R1, one step each, differentiable augmentation, an exponential moving average
    (EMA) of the generator. Fields of the config exchange each of these.

    Args:
        real: LabelledImages, or what load_images takes.
        config: PretrainConfig; the preset `laptop` by default.
        out: the run's folder.
        device: e.g. "cuda" or "cpu"; the fastest there is by default.
        minutes: stop, with a last tick, after so many minutes of training, all resumed parts together; no limit by
            default.
        on_tick: on_tick(generator, row), called after every tick with the averaged generator on the CPU and the row of
            statistics; the dict that it returns, if any, is added to the row. Its time does not count.
        timer: what counts seconds. time.process_time counts this process's processor time instead, which other work
            on the machine hardly changes; with several threads it is the sum over them.

    Returns:
        Run, whose `.student` is the averaged generator: a teacher-to-be, also in `<out>/student`.

    Raises:
        InputError: bad config or images; another run in `out`; a loss that is not finite.
    """
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes is {minutes!r}; give a positive number, or None for no limit")
    # ---- data
    real = load_images(real) if isinstance(real, (str, bytes)) or hasattr(real, "__fspath__") else real
    c = config or PretrainConfig()
    accelerator = devices.make_accelerator(devices.pick_device(device))
    device, world, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    bfloat16 = devices.fast_bfloat16(device) if c.bfloat16 is None else c.bfloat16
    if c.batch % world:
        raise InputError(f"PretrainConfig.batch {c.batch} cannot be divided among {world} processes")
    if c.group and c.batch // world % c.group:
        raise InputError(f"PretrainConfig.batch {c.batch} must give each process a multiple of group {c.group}")
    images, labels = torch.from_numpy(real.images).to(device), torch.from_numpy(real.labels).to(device)
    batches = runs.Batches(len(real), c.batch, c.seed, device)

    # ---- networks
    torch.manual_seed(c.seed)
    generator, disc = make_networks(c, len(real.classes), real.resolution)
    layout = torch.channels_last if c.channels_last else torch.contiguous_format
    generator, disc = (n.to(device, memory_format=layout) for n in (generator, disc))
    options = dict(noise_mode="random") if c.architecture == "stylegan2" else {}
    average = AveragedModel(generator)
    optimizer = torch.optim.Adam(generator.parameters(), c.lr, betas=c.betas, fused=True)
    disc_optimizer = torch.optim.Adam(disc.parameters(), c.disc_lr, betas=c.betas, fused=True)
    parts = dict(generator=generator, disc=disc, average=average, optimizer=optimizer, disc_optimizer=disc_optimizer)

    # ---- folder, resume
    with accelerator.main_process_first():
        folder = runs.open_folder(
            out,
            {"verb": "pretrain", **asdict(c), "real": real.source, "images": len(real)},
            accelerator.is_main_process,
            since=asdict(PretrainConfig()),
        )
    first = 0
    if state := runs.load_checkpoint(folder):
        first = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    stats = runs.read_stats(folder, first) if accelerator.is_main_process else []
    plain_generator, plain_disc = generator, disc  # without the wrappers that share gradients between processes
    if c.compile:  # in place; `.forward`, for R1, stays as it is
        generator.compile(dynamic=False), disc.compile(dynamic=False)
    generator, disc, optimizer, disc_optimizer = accelerator.prepare(generator, disc, optimizer, disc_optimizer)
    of_disc, of_generator = (
        (hinge_discriminator, hinge_generator) if c.loss == "hinge" else (logistic_discriminator, logistic_generator)
    )

    # ---- the loop
    steps, tick = max(1, round(c.kimg * 1000 / c.batch)), c.tick_steps
    means, clock = runs.Means(), timer()
    seconds = stats[-1]["seconds"] if stats else 0.0
    bar = tqdm(
        total=steps * c.batch,
        initial=first * c.batch,
        desc="pretrain",
        unit="img",
        disable=not accelerator.is_main_process,
    )
    since = 0  # steps since the last tick
    over = devices.spent(minutes, seconds, accelerator)
    if c.disc == "features" and not first and not over:
        classifier = FeatureClassifier(len(real.classes), real.resolution).to(device, memory_format=layout)
        train_features(classifier, images, labels, c.batch, c.seed, bfloat16)
        plain_disc.fixed.take(classifier, to_float(images[:1000]))
    for step in range(first, first if over else steps):
        since += 1
        rng = runs.rng(c.seed, step, device, stream=rank)
        if options:
            torch.manual_seed(rng.initial_seed())  # StyleGAN2's noise pictures
        rows = batches(step)[rank::world]
        x, y = to_float(images[rows]), labels[rows]  # (B, 3, R, R), (B,)
        y_disc = y if c.disc_labels else x.new_zeros(len(y), len(real.classes))  # no class at all
        z = torch.randn(len(rows), c.z_dim, generator=rng, device=device)

        # generated pictures, once for both steps
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            x_generated = generator(z, y, **options)
        x_generated = x_generated.float()

        # discriminator step
        plain_disc.requires_grad_(True)
        both = augment(torch.cat([x, x_generated.detach()]), rng, c.shift, c.brightness)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            if c.disc == "stylegan2":  # its groups would mix both
                logits = [disc(half, y_disc)[0].float() for half in both.chunk(2)]
            else:
                logits = disc(both, torch.cat([y_disc, y_disc]))[0].float().chunk(2)
        disc_loss = of_disc(*logits)
        means.add(disc=disc_loss)
        if c.r1 and step % R1_EVERY == 0:
            penalty = r1_penalty(plain_disc.forward, both[: len(x)], y_disc)
            disc_loss = disc_loss + R1_EVERY * c.r1 / 2 * penalty
            means.add(r1=penalty)
        disc_optimizer.zero_grad(set_to_none=True)
        accelerator.backward(disc_loss)
        disc_optimizer.step()

        # generator step
        plain_disc.requires_grad_(False)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits, _ = plain_disc(augment(x_generated, rng, c.shift, c.brightness), y_disc)
        loss = of_generator(logits.float())
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        optimizer.step()

        # average
        runs.update_average(average, plain_generator, c.ema, step)
        means.add(generator=loss)
        bar.update(c.batch)

        # tick: read the losses, save, draw
        over = devices.spent(minutes, seconds + timer() - clock, accelerator, step)
        if (step + 1) % tick == 0 or step + 1 == steps or over:
            row = {"step": step + 1, "kimg": (step + 1) * c.batch / 1000, **means.take(accelerator)}
            runs.check_finite(row, plain_generator, step + 1, folder)
            if accelerator.is_main_process:
                spent, clock = timer() - clock, timer()
                seconds += spent
                row |= {"seconds": round(seconds, 1), "images_per_second": round(since * c.batch / spent, 1)}
                student = averaged(average, c.seed, device)
                save_network(
                    student,
                    folder / "student",
                    provenance(
                        command=f"gsoc-kd pretrain {runs.real_flags(real)} --out {out} {runs.flags(c)}".strip(),
                        data=f"{real.source}, {len(real)} images",
                        seconds=seconds,
                        config=asdict(c),
                        classes=list(real.classes),
                        kimg=row["kimg"],
                        processes=world,
                        precision="bfloat16" if bfloat16 else "float32",
                    ),
                )
                frame(student, real.classes, folder / "film" / f"{step + 1:07d}.png")
                if on_tick is not None:
                    start = timer()
                    row |= on_tick(student, dict(row)) or {}
                    clock += timer() - start
                runs.append_stats(folder, row)
                runs.save_checkpoint(folder, {"step": step + 1, **{n: p.state_dict() for n, p in parts.items()}})
                stats.append(row)
                bar.set_postfix(generator=f"{row['generator']:.2f}", disc=f"{row['disc']:.2f}")
            since = 0
        if over:
            break
    bar.close()

    # ---- the result
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        film(sorted((folder / "film").glob("*.png")), folder / "film.gif")
    return runs.Run(averaged(average, c.seed, device), folder, stats)


def make_networks(c, num_classes, resolution):
    """(generator, disc) of a PretrainConfig, weights from torch's global random state."""
    if c.architecture == "stylegan2":
        generator = StyleGAN2Generator(
            c.z_dim, c.w_dim, num_classes, resolution, c.channel_base, c.channel_max, c.mapping_layers
        )
    else:
        generator = ConvGenerator(c.z_dim, num_classes, resolution, c.widths, c.embed_dim)
    if c.disc == "stylegan2":
        disc = StyleGAN2Discriminator(num_classes, resolution, c.channel_base, c.channel_max, c.group)
    else:
        kind = FeatureDiscriminator if c.disc == "features" else ProjectionDiscriminator
        disc = kind(num_classes, resolution, c.disc_width, c.group, c.spectral)
    return generator, disc


def averaged(average, seed, device, batches=8, batch=128):
    """A copy of the EMA generator on the CPU in eval mode, measured on fresh latents: its batch-norm statistics, or
    the middle of StyleGAN2's styles (`w_avg`)."""
    student = copy.deepcopy(average.module).to(device)
    if isinstance(student, StyleGAN2Generator):
        student.centre(seed=seed)
    rng = runs.rng(seed, 0, device, stream=99)
    reestimate_batchnorm(
        student,
        (
            (
                torch.randn(batch, student.z_dim, generator=rng, device=device),
                torch.arange(batch, device=device) % student.num_classes,
            )
            for _ in range(batches)
        ),
    )
    return student.cpu().eval().requires_grad_(False)


def frame(student, classes, path):
    """One frame of the training film: ten latents a class, always the same."""

    def draw(z, y):
        with torch.inference_mode():
            return to_uint8(student(torch.as_tensor(np.asarray(z)).float(), torch.as_tensor(np.asarray(y)))).numpy()

    path.parent.mkdir(exist_ok=True)
    class_grid(draw, student.z_dim, classes, columns=10, scale=1).save(path)
