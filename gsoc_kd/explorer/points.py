"""An image is a point: a latent or a place between two, and a class or a place between two (`image_at`, `strip`)."""

import dataclasses

import numpy as np
import torch

from ..core.checks import device_of, whole
from ..core.files import InputError
from ..core.latents import sample, z_from
from ..core.state import evaluating
from ..data.images import to_uint8
from ..networks.stylegan2 import StyleGAN2Generator
from ..teachers.black_box import from_network

BATCH = 64  # samples that are generated at once: more would need memory and save no time


def latent(seed, z_dim, z_from="normal"):
    """The latent (z_dim,) float32 that a seed, a whole number from 0 on, stands for on every machine: from N(0, 1), or
    from what else a generator's `z_from` says."""
    return sample(z_from, z_dim, generator=torch.Generator().manual_seed(whole("a seed", seed, 0, 2**63 - 1)))


def slerp(a, b, t):
    """Spherical interpolation (Shoemake 1985): along the great circle from a's direction to b's.

    Latents from N(0, 1) lie close to a sphere of radius sqrt(D), and the straight line between two passes through its
    inside, where the networks were never trained. The length goes linearly from |a| to |b|.

    a, b: float (..., D), neither zero nor opposite. t: a number or tensor (...) in [0, 1]; 0 gives a, 1 gives b,
    exactly. Returns float (..., D) in a's dtype. InputError: shapes differ, or values other than these."""
    a, b, t = torch.as_tensor(a), torch.as_tensor(b), torch.as_tensor(t, dtype=torch.float64)[..., None]
    if a.shape != b.shape:
        raise InputError(f"slerp needs two vectors of one shape, not {tuple(a.shape)} and {tuple(b.shape)}")
    if not ((t >= 0) & (t <= 1)).all():
        raise InputError(f"slerp's t must lie in [0, 1], not {t.squeeze().tolist()}")
    dtype, a, b = a.dtype, a.double(), b.double()
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    angle = (a / length_a * (b / length_b)).sum(-1, keepdim=True).clamp(-1, 1).acos() / torch.pi  # 1 is half a turn
    if not (angle < 1 - 1e-6).all():
        raise InputError("slerp needs vectors with a direction, not zero, and not opposite ones: take another seed")
    length = (1 - t) * length_a + t * length_b
    share_a, share_b = (s * torch.sinc(s * angle) / torch.sinc(angle) for s in (1 - t, t))  # sin(s angle) / sin(angle)
    return (a * (share_a * (length / length_a)) + b * (share_b * (length / length_b))).to(dtype)


def image_at(generator, seed, y, to=None, mix=0.0, seed_to=None, walk=0.0, drawn=None):
    """One image at a point between two seeds and two classes: uint8 (H, W, 3), equal arguments give equal pixels.

    Args:
        generator: a student (nn.Module, forward(z, y) with class weights), or a black box (a Teacher). That takes
            labels only: between two classes it generates the one with more weight.
        seed, y: whole number that stands for a latent, and class index.
        to, mix: second class and its weight in [0, 1]; the first class has weight 1 - mix.
        seed_to, walk: second seed and the place in [0, 1] on the great circle from `seed` to it.
        drawn: what latents are drawn from, "normal" or "uniform"; None: what the generator's are."""
    z_dim, num_classes = sizes(generator)
    for name, value, end, needed in (("mix", mix, to, "to"), ("walk", walk, seed_to, "seed_to")):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie in [0, 1], not {value}")
        if value and end is None:
            raise InputError(f"{name}={value} leads nowhere: give {needed} as well")
    y = whole("class y", y, 0, num_classes - 1)
    to = y if to is None else whole("class to", to, 0, num_classes - 1)
    drawn = drawn or z_from(generator)
    z, *end = (latent(s, z_dim, drawn) for s in (seed, seed_to) if s is not None)
    way = slerp if drawn == "normal" else torch.lerp  # latents from [0, 1) fill a box, where straight lines stay inside
    z = (way(z, *end, walk) if end else z)[None]  # (1, z_dim)
    if not isinstance(generator, torch.nn.Module):
        return _generate(generator, z, np.array([dominating(y, to, mix)]))[0]
    weights = torch.zeros(1, num_classes, dtype=torch.float32)
    weights[0, y] += 1 - mix
    weights[0, to] += mix
    return _generate(generator, z, weights)[0]


def samples(generator, seeds, labels):
    """Images of many points at once: N seeds and N class indices -> uint8 (N, H, W, 3). They are those of `image_at`
    but for one grey level here and there: sums over a batch are rounded in another order."""
    z_dim, num_classes = sizes(generator)
    y = torch.tensor([whole("class y", label, 0, num_classes - 1) for label in labels])
    z = torch.stack([latent(seed, z_dim, z_from(generator)) for seed in seeds])  # (N, z_dim)
    return np.concatenate([_generate(generator, *part) for part in zip(z.split(BATCH), y.split(BATCH))])


def _generate(generator, z, y):
    """Images uint8 (N, H, W, 3) of latents (N, z_dim) and labels (N,) or class weights (N, C). A network's mode is left
    as it was. InputError: values that are not finite."""
    network = generator if isinstance(generator, torch.nn.Module) else getattr(generator, "network", None)
    with evaluating(network):
        if network is not generator:
            return np.asarray(generator(z, y))
        device = device_of(network)
        with torch.inference_mode():
            x = network(z.to(device), y.to(device))  # (N, 3, H, W) in [-1, 1]
    if not torch.isfinite(x).all():
        raise InputError("the generator's image holds values that are not finite: its weights are of no use")
    return to_uint8(x).cpu().numpy()


def truncatable(teacher):
    """Whether a Teacher's truncation can be chosen: a StyleGAN2 network, or a callable with a number `psi` to give."""
    return isinstance(teacher.network, StyleGAN2Generator) or teacher.takes_psi


def truncated(teacher, psi):
    """The Teacher with truncation psi (Karras et al. 2019, arXiv 1812.04948, appendix B); InputError if it has none."""
    if psi == teacher.psi:
        return teacher
    if not truncatable(teacher):
        raise InputError(f"{teacher.name} has no truncation: a StyleGAN2 network has, or a callable (z, y, psi=1.0)")
    if isinstance(teacher.network, StyleGAN2Generator):
        same = {key: getattr(teacher, key) for key in ("name", "half", "classes")}
        return from_network(teacher.network, psi=psi, **same)
    return dataclasses.replace(teacher, psi=psi, digest=None)


def strip(generator, seed, y, to=None, seed_to=None, steps=9):
    """`steps` images, uint8 (steps, H, W, 3), on the way from (seed, y) to (seed_to, to), both ends included: between
    two classes, between two seeds (a spherical walk), or both at once."""
    if to is None and seed_to is None:
        raise InputError("a strip needs an end: give to (a class), seed_to (a seed), or both")
    places = [step / (steps - 1) for step in range(whole("steps", steps, 2))]
    ends = (to is not None), (seed_to is not None)
    return np.stack([image_at(generator, seed, y, to, place * ends[0], seed_to, place * ends[1]) for place in places])


def dominating(y, to=None, mix=0.0):
    """The class with the greater weight, `y` when both weigh the same: what a black box is asked for."""
    return int(to if to is not None and mix > 0.5 else y)


def sizes(generator):
    """(z_dim, num_classes) of a student or a teacher."""
    try:
        return int(generator.z_dim), int(generator.num_classes)
    except AttributeError as error:
        raise InputError(f"a generator to explore needs the attributes z_dim and num_classes: {error}") from None
