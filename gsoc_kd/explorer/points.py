"""A picture is a point: a latent, or a place on the great circle between two latents, and a class, or a place
between two classes. `picture` draws one point, `strip` the pictures on the way from one to another.
"""

import numpy as np
import torch

from ..core.files import InputError
from ..data.images import to_uint8


def latent(seed, z_dim):
    """The latent (z_dim,) float32 from N(0,1) that a seed stands for, on every machine the same."""
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise InputError(f"a seed is a whole number from 0 on, not {seed!r}")
    return torch.randn(z_dim, generator=torch.Generator().manual_seed(int(seed)))


def slerp(a, b, t):
    """Spherical interpolation (Shoemake 1985): along the great circle from a's direction to b's.

    Latents from N(0,1) lie close to a sphere of radius sqrt(D). The straight line between two of them passes
    through its inside, where the networks were never trained; the great circle does not. The length goes
    linearly from |a| to |b|.

    Args:
        a, b: float (..., D), not zero and not opposite.
        t: 0 gives a, 1 gives b (exactly); a number or a tensor (...) of them.

    Returns:
        float (..., D), in a's dtype.

    Raises:
        InputError: shapes differ, t outside [0, 1], a zero vector, or opposite vectors.
    """
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    if a.shape != b.shape:
        raise InputError(f"slerp needs two vectors of one shape, not {tuple(a.shape)} and {tuple(b.shape)}")
    t = torch.as_tensor(t, dtype=torch.float64)[..., None]
    if not ((t >= 0) & (t <= 1)).all():
        raise InputError(f"slerp's t must lie in [0, 1], not {t.squeeze().tolist()}")
    dtype, a, b = a.dtype, a.double(), b.double()
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    if (length_a == 0).any() or (length_b == 0).any():
        raise InputError("slerp needs vectors with a direction, not zero")
    angle = (a / length_a * (b / length_b)).sum(-1, keepdim=True).clamp(-1, 1).acos()
    if (angle > torch.pi - 1e-6).any():
        raise InputError("slerp between opposite vectors has no one path; take another seed")
    length = (1 - t) * length_a + t * length_b
    near = angle < 1e-6  # the same direction: the arc is a line
    sine = torch.where(near, torch.ones_like(angle), angle.sin())
    share_a = torch.where(near, 1 - t, ((1 - t) * angle).sin() / sine)
    share_b = torch.where(near, t, (t * angle).sin() / sine)
    return (a * (share_a * (length / length_a)) + b * (share_b * (length / length_b))).to(dtype)


def picture(generator, seed, y, to=None, mix=0.0, seed_to=None, walk=0.0):
    """One image, drawn at a point between two seeds and two classes.

    Args:
        generator: a student (nn.Module, forward(z, y) with class weights; put into eval mode), or a black box
            (a Teacher). That takes labels only: between two classes it draws the one with more weight.
        seed: whole number, stands for a latent.
        y: class index.
        to, mix: second class and its weight in [0, 1]; the first class has weight 1 - mix.
        seed_to, walk: second seed and the place in [0, 1] on the great circle from `seed` to it.

    Returns:
        uint8 (H,W,3). Equal arguments give equal pixels.

    Raises:
        InputError: a class that does not exist, mix or walk outside [0, 1], or one of them without its end.
    """
    z_dim, num_classes = sizes(generator)
    for name, value, end, end_name in (("mix", mix, to, "to"), ("walk", walk, seed_to, "seed_to")):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie in [0, 1], not {value}")
        if value and end is None:
            raise InputError(f"{name}={value} leads nowhere: give {end_name} as well")
    for name, label in (("y", y), ("to", y if to is None else to)):
        if not isinstance(label, (int, np.integer)) or not 0 <= label < num_classes:
            raise InputError(f"{name} must be a class from 0 to {num_classes - 1}, not {label!r}")
    z = latent(seed, z_dim)
    if seed_to is not None:
        z = slerp(z, latent(seed_to, z_dim), walk)
    z = z[None]  # (1, z_dim)
    if not isinstance(generator, torch.nn.Module):
        return np.asarray(generator(z, np.array([dominating(y, to, mix)])))[0]
    weights = torch.zeros(1, num_classes)
    weights[0, y] += 1 - mix
    weights[0, y if to is None else to] += mix
    device = next(generator.parameters()).device
    generator.eval()  # batch norm must use, and keep, its stored statistics
    with torch.inference_mode():
        return to_uint8(generator(z.to(device), weights.to(device)))[0].cpu().numpy()


def strip(generator, seed, y, to=None, seed_to=None, steps=9):
    """`steps` pictures on the way from (seed, y) to (seed_to, to); an end left out stays where it began.

    With `to` alone it is an interpolation between two classes, with `seed_to` alone a spherical walk, with
    both the two at once. Show it with `figures.grid(strip(...), columns=steps)`.

    Returns:
        uint8 (steps,H,W,3); the first and last are exactly the two pure pictures.
    """
    if not isinstance(steps, (int, np.integer)) or steps < 2:
        raise InputError(f"a strip has at least 2 steps, not {steps!r}")
    if to is None and seed_to is None:
        raise InputError("a strip needs an end: give to (a class), seed_to (a seed), or both")
    places = [step / (steps - 1) for step in range(steps)]
    return np.stack(
        [
            picture(generator, seed, y, to, 0.0 if to is None else place, seed_to, 0.0 if seed_to is None else place)
            for place in places
        ]
    )


def dominating(y, to=None, mix=0.0):
    """The class with the greater weight, `y` when both weigh the same: what a black box is asked for."""
    return int(to if to is not None and mix > 0.5 else y)


def sizes(generator):
    """(z_dim, num_classes) of a student or a teacher."""
    try:
        return int(generator.z_dim), int(generator.num_classes)
    except AttributeError as error:
        raise InputError(
            f"{type(generator).__name__} cannot be explored: {error}; it needs the attributes z_dim and num_classes"
        ) from None
