"""Convolutional generators of any width: a student is a narrow one, a laptop's teacher a wide one
(docs/Student-Network.md).

All take latents z (N, z_dim) float and labels y, either (N,) int64 or (N, num_classes) class weights, so that a
picture can stand between two classes; all return (N, 3, R, R) float in [-1, 1].
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError
from .layers import ConditionalBatchNorm, UpConv2d, _check, class_weights, normalise_z, separable

BLOCKS = ("conv", "separable", "residual", "glu")


class ConvGenerator(nn.Module):
    """Latent and class embedding -> 4x4 -> up blocks with conditional batch norm -> picture.

    A block doubles the resolution (nearest), convolves 3x3, normalises with gains and biases that class
    embedding and latent set (conditional batch norm, as in BigGAN, Brock et al. 2018, appendix B) and applies ReLU.

    Args:
        widths: channels at 4x4, 8x8, ... up to `resolution`; the one knob from laptop's teacher to tiny student.
        embed_dim: width of the class embedding.
        rank: factor the first linear layer through so many dimensions, where most of a narrow student's parameters
            would be; None for one full layer.
        block: "conv"; "separable": depthwise 3x3 then pointwise 1x1; "residual": TinyGAN's whole block (Chang & Lu
            2020, section 3.1), two of these beside a shortcut; or "glu": a convolution to twice the channels, half of
            which gate the other half (Dauphin et al. 2016, arXiv 1612.08083; DiStyleGAN's blocks).
        skip_z: the conditional batch norms see the latent too, as in BigGAN; without it a GAN trained from scratch
            soon draws one picture a class.
    """

    def __init__(
        self,
        z_dim=128,
        num_classes=10,
        resolution=32,
        widths=(256, 128, 64, 32),
        embed_dim=64,
        rank=None,
        block="conv",
        skip_z=True,
    ):
        super().__init__()
        if block not in BLOCKS:
            raise InputError(f"block must be one of {', '.join(BLOCKS)}, got {block!r}")
        if min(z_dim, num_classes, embed_dim, 1 if rank is None else rank, *widths) < 1:
            raise InputError(
                f"z_dim {z_dim}, num_classes {num_classes}, embed_dim {embed_dim}, rank {rank} and widths "
                f"{tuple(widths)} must all be at least 1"
            )
        if 4 * 2 ** (len(widths) - 1) != resolution:
            raise InputError(
                f"{len(widths)} widths end at {4 * 2 ** (len(widths) - 1)} pixels, not at {resolution}; "
                f"give one width each for 4x4, 8x8, ... {resolution}x{resolution}"
            )
        self.config = dict(
            z_dim=z_dim,
            num_classes=num_classes,
            resolution=resolution,
            widths=list(widths),
            embed_dim=embed_dim,
            rank=rank,
            block=block,
            skip_z=skip_z,
        )
        self.z_dim, self.num_classes, self.resolution, self.skip_z = z_dim, num_classes, resolution, skip_z
        self.embedding = nn.Parameter(torch.randn(num_classes, embed_dim))
        inputs, outputs = z_dim + embed_dim, widths[0] * 16
        self.linear = (
            nn.Linear(inputs, outputs)
            if rank is None
            else nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))
        )
        condition = inputs if skip_z else embed_dim
        self.residual = block == "residual"  # its blocks normalise what comes in, the others what goes out
        self.norm = ConditionalBatchNorm(widths[-1 if self.residual else 0], condition)
        self.blocks = nn.ModuleList(
            ResidualBlock(i, o, condition) if self.residual else UpBlock(i, o, condition, block)
            for i, o in zip(widths, widths[1:])
        )
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z, y):
        _check(z, y, self.z_dim)
        e = class_weights(y, self.num_classes) @ self.embedding  # (N, embed_dim)
        ze = torch.cat([normalise_z(z), e], 1)  # (N, z_dim + embed_dim)
        e = ze if self.skip_z else e
        x = self.linear(ze).unflatten(1, (-1, 4, 4))  # (N, widths[0], 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        x = x if self.residual else F.relu(self.norm(x, e))
        for block in self.blocks:
            x = block(x, e)  # twice the resolution
        x = F.relu(self.norm(x, e)) if self.residual else x
        return self.to_rgb(x).tanh()  # (N, 3, R, R)


class UpBlock(nn.Module):
    def __init__(self, width_in, width_out, condition, block):
        super().__init__()
        self.gated = block == "glu"
        outputs = 2 * width_out if self.gated else width_out
        self.conv = (separable if block == "separable" else UpConv2d)(width_in, outputs)
        self.norm = ConditionalBatchNorm(outputs, condition)

    def forward(self, x, e):
        if not isinstance(self.conv, UpConv2d):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.norm(self.conv(x), e)
        return F.glu(x, 1) if self.gated else F.relu(x)  # twice the resolution


class ResidualBlock(nn.Module):
    """TinyGAN's block: two separable convolutions, each after norm and ReLU, beside a 1x1 shortcut; both sides enlarge
    bilinearly, the shortcut after its convolution, which gives the same sums for a quarter of the products."""

    def __init__(self, width_in, width_out, condition):
        super().__init__()
        self.norm1, self.conv1 = ConditionalBatchNorm(width_in, condition), separable(width_in, width_out)
        self.norm2, self.conv2 = ConditionalBatchNorm(width_out, condition), separable(width_out, width_out)
        self.shortcut = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x, e):
        h = F.interpolate(F.relu(self.norm1(x, e)), scale_factor=2, mode="bilinear")  # twice the resolution
        h = self.conv2(F.relu(self.norm2(self.conv1(h), e)))
        return h + F.interpolate(self.shortcut(x), scale_factor=2, mode="bilinear")
