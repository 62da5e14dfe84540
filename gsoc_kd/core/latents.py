"""The distribution of latents: N(0, 1), or the interval [0, 1) of the pairs of 2022. Pairs, networks and teachers name
theirs in `z_from`, and everything that draws latents for them calls `sample`."""

import torch

SAMPLERS = {"normal": "randn", "uniform": "rand"}  # functions of torch


def sample(z_from, *shape, generator=None, device=None):
    """Random numbers (*shape) float32 on `device`: from N(0, 1) for "normal", from [0, 1) for "uniform"."""
    return getattr(torch, SAMPLERS[z_from])(*shape, generator=generator, device=device, dtype=torch.float32)


def z_from(generator):
    """What the latents of a network, a Teacher or a callable are drawn from: its `z_from`, by default "normal"."""
    return getattr(generator, "z_from", "normal")
