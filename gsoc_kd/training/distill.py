"""Distillation: a small student learns to draw the teacher's pictures from triples alone (docs/Training.md)."""

import time
import warnings
from dataclasses import asdict, dataclass

import torch
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..core.figures import film
from ..core.files import InputError, sha256
from ..core.weights import provenance, save_network
from ..data.images import load_images, to_float
from ..networks.conv import ConvGenerator
from ..networks.discriminator import ProjectionDiscriminator
from ..networks.distylegan import DiStyleGANDiscriminator, DiStyleGANGenerator
from ..networks.features import FeatureClassifier, fixed_feature_loss, train_features
from ..pairs.folder import load_pairs
from . import devices, runs
from .augment import augment
from .gan import averaged, frame
from .losses import feature_loss, hinge_discriminator, hinge_generator, pixel_loss

PRESETS = {
    "smoke": dict(kimg=0.512, tick_kimg=0.128, batch=16, widths=(16, 8, 8, 8), embed_dim=4, rank=8, disc_width=4),
    "laptop": dict(),
    "distylegan-2022": dict(
        student="distylegan",
        disc="distylegan",
        disc_width=128,
        kimg=7500,
        tick_kimg=50,
        batch=128,
        lr=2e-4,
        disc_lr=2e-4,
        betas=(0.5, 0.999),
        ema=0.0,
        feature_weight=1.0,
        pixel_weight=0.2,
        adversarial_weight=0.01,
        gan_weight=0.002,
        disc_gan_weight=0.2,
        adversarial_every=10,
        shift=0,
        brightness=0.0,
    ),
    "gpu": dict(kimg=7500, tick_kimg=250, batch=256, disc_width=64),
}


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
    block: str = "conv"  # conv: "conv", "separable", "residual" or "glu"
    skip_z: bool = True  # conv: the batch norms see the latent too
    disc: str = "projection"  # projection: ProjectionDiscriminator; distylegan: the 2022 disc
    disc_width: int = 32  # the disc's channels after its first convolution
    feature_weight: float = 1.0  # of the feature loss, L1 between the disc's maps
    pixel_weight: float = 1.0  # lambda 1, of the pixel loss
    adversarial_weight: float = 0.1  # lambda 2, of the student's hinge loss on the noise of the pairs
    gan_weight: float = 0.0  # lambda 3, of the student's hinge loss on fresh noise; counts only with real images
    disc_gan_weight: float = 0.0  # lambda 4, of the disc's hinge loss on real images; counts only with real images
    adversarial_every: int = 1  # the student's two hinge losses count every so many steps
    lr: float = 5e-4  # Adam's learning rate for the student
    disc_lr: float = 5e-4  # Adam's learning rate for the disc
    betas: tuple[float, float] = (0.5, 0.99)  # Adam's averaging
    ema: float = 0.998  # a step's share that the averaged student keeps of itself, after a ramp from 0
    shift: int = 3  # augmentation of what the disc sees: shift by at most so many pixels
    brightness: float = 0.2  # augmentation of what the disc sees: brightness plus or minus so much
    seed: int = 0  # of weights, order, fresh noise and augmentation
    bfloat16: bool | None = None  # mixed precision; None: where the device gains from it
    disc_labels: bool = True  # the disc sees the labels; without, it judges pictures alone
    pixel_half_kimg: float = 0.0  # the pixel weight halves every so many thousand pairs; 0: it stays
    compile: bool = False  # torch.compile: quicker on a GPU after some minutes; needs a C++ compiler
    features: str = "disc"  # whose maps the feature loss compares: disc, or a classifier of the pairs, trained first

    @classmethod
    def preset(cls, name, **changes):
        """`smoke` (tests, seconds), `laptop` (2 CPU cores, minutes), `distylegan-2022` (the old recipe) or `gpu`,
        with some fields changed."""
        return runs.preset(cls, PRESETS, name, changes)

    def __post_init__(self):
        runs.check_config(
            self,
            positive=("kimg", "tick_kimg", "batch", "disc_width", "adversarial_every", "lr", "disc_lr"),
            shares=("betas", "ema"),
        )
        for name, choices in (
            ("student", ("conv", "distylegan")),
            ("disc", ("projection", "distylegan")),
            ("features", ("disc", "classifier")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"DistillConfig.{name} must be one of {choices}, got {getattr(self, name)!r}")
        if not max(self.feature_weight, self.pixel_weight, self.adversarial_weight, self.gan_weight) > 0:
            raise InputError("DistillConfig: all weights of the student's loss are 0; nothing would be learned")


def make_networks(config, z_dim, num_classes, resolution):
    """The student and the disc that a config asks for, for pairs of this shape."""
    c, shape = config, (num_classes, resolution)
    if c.student == "conv":
        student = ConvGenerator(z_dim, *shape, c.widths, c.embed_dim, c.rank, c.block, c.skip_z)
    else:
        student = DiStyleGANGenerator(z_dim, *shape)
    disc = (ProjectionDiscriminator if c.disc == "projection" else DiStyleGANDiscriminator)(*shape, c.disc_width)
    return student, disc


def distill(
    pairs="runs/pairs",
    config: DistillConfig | None = None,
    out="runs/student",
    real=None,
    device: str | None = None,
    minutes: float | None = None,
    timer=time.time,
):
    """Trains a student on a teacher's triples; run again, it goes on where it stopped, to the same weights.

    Args:
        pairs: Pairs, or their folder.
        config: DistillConfig; the preset `laptop` by default.
        out: the run's folder (see runs.py for what it holds).
        real: LabelledImages of the same resolution and classes, or what load_images takes; without them the
            adversarial GAN terms are left out, and the student learns from the black box alone.
        device: e.g. "cuda" or "cpu"; the fastest there is by default.
        minutes: stop, with a last tick, after so many minutes of training, all resumed parts together; no limit by
            default.
        timer: what counts seconds; see `pretrain`.

    Returns:
        Run, whose `.student` is the averaged (EMA) student, also in `<out>/student`.

    Raises:
        InputError: bad pairs, config or images; another run in `out`; a loss that is not finite.
    """
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes is {minutes!r}; give a positive number, or None for no limit")
    # ---- data
    pairs = load_pairs(pairs) if isinstance(pairs, str) or hasattr(pairs, "__fspath__") else pairs
    real = load_images(real) if isinstance(real, str) or hasattr(real, "__fspath__") else real
    c = config or DistillConfig()
    if real is not None and (real.resolution, len(real.classes)) != (pairs.resolution, pairs.num_classes):
        raise InputError(
            f"real images are {real.resolution} pixels wide in {len(real.classes)} classes, the pairs "
            f"{pairs.resolution} in {pairs.num_classes}; load them with size={pairs.resolution}"
        )
    accelerator = devices.make_accelerator(devices.pick_device(device))
    device, world, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    bfloat16 = devices.fast_bfloat16(device) if c.bfloat16 is None else c.bfloat16
    if c.batch % world:
        raise InputError(f"DistillConfig.batch {c.batch} cannot be divided among {world} processes")
    with_gan, with_disc_gan = (real is not None and weight > 0 for weight in (c.gan_weight, c.disc_gan_weight))
    disc_features, fixed_features = (c.feature_weight > 0 and c.features == name for name in ("disc", "classifier"))
    with_disc = with_gan or with_disc_gan or disc_features or c.adversarial_weight > 0
    shown, beside = (
        (f"{runs.real_flags(real)} ", f"; real: {real.source}, {len(real)} images")
        if with_gan or with_disc_gan
        else ("", "")
    )  # what provenance says of real images
    if real is not None and not (with_gan or with_disc_gan):
        warnings.warn(
            "real images are given, but gan_weight and disc_gan_weight are 0: they are not used", stacklevel=2
        )
    if not with_gan and not max(c.feature_weight, c.pixel_weight, c.adversarial_weight) > 0:
        raise InputError("DistillConfig: only gan_weight is above 0, and that term needs real images: give real=...")
    x_all, y_all, z_all = (torch.from_numpy(array).to(device) for array in (pairs.images, pairs.labels, pairs.latents))
    if real is not None:
        real_images, real_labels = torch.from_numpy(real.images).to(device), torch.from_numpy(real.labels).to(device)
    batches = runs.Batches(len(pairs), c.batch, c.seed, device)
    real_batches = runs.Batches(len(real), c.batch, c.seed, device, stream=1) if with_gan or with_disc_gan else None

    # ---- networks
    torch.manual_seed(c.seed)
    student, disc = (
        n.to(device, memory_format=torch.channels_last)
        for n in make_networks(c, pairs.z_dim, pairs.num_classes, pairs.resolution)
    )
    average = AveragedModel(student)
    optimizer = torch.optim.Adam(student.parameters(), c.lr, betas=c.betas, fused=True)
    disc_optimizer = torch.optim.Adam(disc.parameters(), c.disc_lr, betas=c.betas, fused=True)
    parts = dict(student=student, disc=disc, average=average, optimizer=optimizer, disc_optimizer=disc_optimizer)
    if fixed_features:
        parts["classifier"] = classifier = (
            FeatureClassifier(pairs.num_classes, pairs.resolution, c.disc_width)
            .to(device, memory_format=torch.channels_last)
            .eval()
            .requires_grad_(False)
        )

    # ---- folder, resume
    with accelerator.main_process_first():
        folder = runs.open_folder(
            out,
            {
                "verb": "distill",
                **asdict(c),
                "pairs": sha256(pairs.path / "manifest.json"),
                "real": real and f"{real.source}, {len(real)} images",
            },
            accelerator.is_main_process,
            since=asdict(DistillConfig()),
        )
    first = 0
    if state := runs.load_checkpoint(folder):
        first = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    stats = runs.read_stats(folder, first) if accelerator.is_main_process else []
    plain_student, plain_disc = student, disc  # without the wrappers that share gradients between processes
    if c.compile:  # in place, each shape for itself
        student.compile(dynamic=False), disc.compile(dynamic=False)
    student, disc, optimizer, disc_optimizer = accelerator.prepare(student, disc, optimizer, disc_optimizer)

    # ---- the loop
    steps, tick = (max(1, round(k * 1000 / c.batch)) for k in (c.kimg, c.tick_kimg))
    means, clock = runs.Means(), timer()
    seconds = stats[-1]["seconds"] if stats else 0.0
    bar = tqdm(
        total=steps * c.batch,
        initial=first * c.batch,
        desc="distill",
        unit="pair",
        disable=not accelerator.is_main_process,
    )
    since = 0  # steps since the last tick
    over = devices.spent(minutes, seconds, accelerator)
    if fixed_features and not first and not over:
        train_features(classifier, x_all, y_all, c.batch, c.seed, bfloat16)
    for step in range(first, first if over else steps):
        since += 1
        rng = runs.rng(c.seed, step, device, stream=rank)
        rows = batches(step)[rank::world]
        x_teacher, y, z = to_float(x_all[rows]), y_all[rows], z_all[rows].float()  # (B, 3, R, R), (B,), (B, Z)
        y_disc = y if c.disc_labels else x_teacher.new_zeros(len(y), pairs.num_classes)  # no class at all

        # student's pictures, once for both steps; with real images also on fresh noise
        losses, adversarial = {}, (step + 1) % c.adversarial_every == 0
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            x_student = student(z, y).float()
            if with_disc_gan or with_gan and adversarial:
                fresh = real_batches(step)[rank::world]
                x_real, y_real = to_float(real_images[fresh]), real_labels[fresh]
                z_fresh = torch.randn(len(fresh), pairs.z_dim, generator=rng, device=device)
                y_fresh = y_real if c.disc_labels else y_disc
                with torch.set_grad_enabled(with_gan and adversarial):
                    x_fresh = plain_student(z_fresh, y_real).float()

        # disc step: teacher against student, real against student on fresh noise
        if with_disc:
            plain_disc.train().requires_grad_(True)
            seen, labels = [x_teacher, x_student.detach()], [y_disc, y_disc]
            if with_disc_gan:
                seen, labels = seen + [x_real, x_fresh.detach()], labels + [y_fresh, y_fresh]
            seen = augment(
                torch.cat(seen), runs.rng(c.seed, step, device, 100 + rank), c.shift, c.brightness, len(seen)
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits, maps = disc(seen, torch.cat(labels))
            logits = logits.float().split(len(y))
            losses["disc"] = disc_loss = hinge_discriminator(logits[0], logits[1])
            if with_disc_gan:
                losses["disc_gan"] = hinge_discriminator(logits[2], logits[3])
                disc_loss = disc_loss + c.disc_gan_weight * losses["disc_gan"]
            accelerator.backward(disc_loss)
            disc_optimizer.step()
            disc_optimizer.zero_grad(set_to_none=True)
            maps_teacher = [m[: len(y)].detach().to(torch.float32, copy=True) for m in maps]
            del maps
            plain_disc.eval().requires_grad_(False)  # looked through as it now is, spectral norms included

        # student step: the four terms, on the same draws of augmentation
        loss = 0.0
        if c.pixel_weight:
            losses["pixel"] = pixel_loss(x_teacher, x_student)
            halvings = step * c.batch / 1000 / c.pixel_half_kimg if c.pixel_half_kimg else 0
            loss = loss + c.pixel_weight * 0.5**halvings * losses["pixel"]
        if fixed_features:
            seen = augment(
                torch.cat([x_teacher, x_student]), runs.rng(c.seed, step, device, 100 + rank), c.shift, c.brightness, 2
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                losses["feature"] = fixed_feature_loss(classifier, *seen.chunk(2))
            loss = loss + c.feature_weight * losses["feature"]
        if with_disc and (disc_features or adversarial):
            seen, labels = (
                ([x_student, x_fresh], [y_disc, y_fresh]) if with_gan and adversarial else ([x_student], [y_disc])
            )
            seen = augment(
                torch.cat(seen), runs.rng(c.seed, step, device, 100 + rank), c.shift, c.brightness, len(seen)
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits, maps = plain_disc(seen, torch.cat(labels))
            logits = logits.float().split(len(y))
            if disc_features:
                losses["feature"] = feature_loss(maps_teacher, [m[: len(y)].float() for m in maps])
                loss = loss + c.feature_weight * losses["feature"]
            if c.adversarial_weight and adversarial:
                losses["adversarial"] = hinge_generator(logits[0])
                loss = loss + c.adversarial_weight * losses["adversarial"]
            if with_gan and adversarial:
                losses["gan"] = hinge_generator(logits[1])
                loss = loss + c.gan_weight * losses["gan"]
        if losses.keys() - {"disc", "disc_gan"}:
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            runs.update_average(average, plain_student, c.ema, step)
        means.add(**losses)
        x_student = x_fresh = seen = logits = maps = maps_teacher = loss = None  # free before the next step's come
        bar.update(c.batch)

        # tick: read the losses, save, draw
        over = devices.spent(minutes, seconds + timer() - clock, accelerator, step)
        if (step + 1) % tick == 0 or step + 1 == steps or over:
            row = {"step": step + 1, "kimg": (step + 1) * c.batch / 1000, **means.take(accelerator)}
            runs.check_finite(row, plain_student, step + 1, folder)
            if accelerator.is_main_process:
                spent, clock = timer() - clock, timer()
                seconds += spent
                row |= {"seconds": round(seconds, 1), "pairs_per_second": round(since * c.batch / spent, 1)}
                mean_student = averaged(average, c.seed, device)
                save_network(
                    mean_student,
                    folder / "student",
                    provenance(
                        command=f"gsoc-kd distill --pairs {pairs.path} {shown}--out {out} {runs.flags(c)}".strip(),
                        data=f"pairs of teacher {pairs.manifest['teacher']}, {len(pairs)} pairs{beside}",
                        seconds=seconds,
                        config=asdict(c),
                        classes=list(pairs.classes),
                        kimg=row["kimg"],
                        processes=world,
                        precision="bfloat16" if bfloat16 else "float32",
                        teacher=pairs.manifest["digest"],
                        pairs=sha256(pairs.path / "manifest.json"),
                    ),
                )
                frame(mean_student, pairs.classes, folder / "film" / f"{step + 1:07d}.png")
                runs.append_stats(folder, row)
                runs.save_checkpoint(folder, {"step": step + 1, **{n: p.state_dict() for n, p in parts.items()}})
                stats.append(row)
                bar.set_postfix({n: f"{row[n]:.3f}" for n in losses})
            since = 0
        if over:
            break
    bar.close()

    # ---- the result
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        film(sorted((folder / "film").glob("*.png")), folder / "film.gif")
    return runs.Run(averaged(average, c.seed, device), folder, stats)
