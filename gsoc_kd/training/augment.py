"""Differentiable augmentation of what a discriminator sees (docs/Objectives.md)."""

import torch
import torch.nn.functional as F


def augment(x, light=None, theta=None):
    """Brightness and shift, one draw for each image (Zhao et al. 2020, arXiv 2006.10738).

    Target and generated images both go through it, so that a discriminator cannot learn the few targets by heart. Where
    two images belong to the same latent, they get the same draw and stay comparable.

    Args:
        x: (N, 3, R, R) in [-1, 1].
        light: (N, 1, 1, 1), added to all pixels. None, with theta: x as it is.
        theta: (N, 2, 3), affine maps that shift by whole pixels; zeros come in."""
    if light is None:
        return x
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    shifted = F.grid_sample(x + light, grid, "nearest", "zeros", align_corners=False)
    return shifted.contiguous(memory_format=torch.channels_last)


def draw_augmentation(shape, resolution, shift, brightness, rng):
    """The arguments `light` and `theta` of `augment` for images numbered by `shape`, e.g. (steps, N).

    Args:
        shift: at most so many pixels in each direction. brightness: plus or minus so much.
        rng: torch.Generator; the tensors are on its device.

    Returns:
        (light (*shape, 1, 1, 1), theta (*shape, 2, 3)), or () where neither shift nor brightness is above 0."""
    if not shift and not brightness:
        return ()
    light = (torch.rand(*shape, 1, 1, 1, generator=rng, device=rng.device) * 2 - 1) * brightness
    pixels = torch.randint(-shift, shift + 1, (*shape, 2), generator=rng, device=rng.device)
    theta = torch.eye(2, 3, device=rng.device).expand(*shape, 2, 3).clone()
    theta[..., 2] = pixels * 2 / resolution  # the grid's unit is half an image
    return light, theta
