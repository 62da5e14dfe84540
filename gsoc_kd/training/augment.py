"""Augmentation of what the discriminators see (docs/Objectives.md)."""

import torch
import torch.nn.functional as F


def augment(x, rng, shift=3, brightness=0.5, copies=1):
    """Differentiable augmentation (Zhao et al. 2020, arXiv 2006.10738): random brightness and shift, a draw an image.

    Both real and generated pictures go through it, so that a disc cannot learn the few real ones by heart.

    Args:
        x: (N, 3, H, W) in [-1, 1]. rng: torch.Generator on x's device.
        shift: at most so many pixels in each direction, zeros coming in. brightness: plus or minus so much.
        copies: x consists of so many equal parts, image i of each of which gets the same draw: a teacher's picture
            and the student's on the same noise stay comparable.
    """
    if not shift and not brightness:
        return x
    n, _, h, w = x.shape
    light = torch.rand(n // copies, 1, 1, 1, generator=rng, device=x.device) * 2 - 1
    offsets = torch.randint(2 * shift + 1, (2, n // copies, 1, 1), generator=rng, device=x.device)
    x = x + light.repeat(copies, 1, 1, 1) * brightness
    top, left = offsets.repeat(1, copies, 1, 1)  # (N, 1, 1) each
    padded = F.pad(x, (shift,) * 4).permute(0, 2, 3, 1)  # (N, H+2s, W+2s, 3)
    rows = top + torch.arange(h, device=x.device)[None, :, None]  # (N, H, 1)
    columns = left + torch.arange(w, device=x.device)[None, None, :]  # (N, 1, W)
    return padded[torch.arange(n, device=x.device)[:, None, None], rows, columns].permute(0, 3, 1, 2)
