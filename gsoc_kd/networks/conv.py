"""Generators of any width: a student is a narrow one, a laptop's teacher a wide one (docs/Student-Network.md)."""

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError
from .layers import ConditionalBatchNorm, UpConv2d, check_latents, check_sizes, class_weights, normalise_z


class ConvGenerator(nn.Module):
    """Latents z (N, z_dim) float and labels y -> 4x4 -> up blocks -> images (N, 3, R, R) float in [-1, 1].

    Labels are (N,) int64 or (N, num_classes) class weights, so that an image can stand between two classes. Latent and
    class embedding also set gain and bias of every norm (conditional batch norm, Brock et al. 2018, appendix B).

    Args:
        widths: channels at 4x4, 8x8, ... up to `resolution`; the one knob from laptop's teacher to tiny student.
        embed_dim: width of the class embedding.
        rank: width of a bottleneck in the first linear layer, which has most of a narrow student's parameters; or None.
        block: "conv" (`UpBlock`) or "residual" (`ResidualBlock`). Raises InputError for an argument out of range."""

    def __init__(
        self, z_dim=128, num_classes=10, resolution=32, widths=(256, 128, 64, 32), embed_dim=64, rank=None, block="conv",
        rgb=False,
    ):
        super().__init__()
        self.config = dict(z_dim=z_dim, num_classes=num_classes, resolution=resolution, embed_dim=embed_dim)
        each = {f"widths[{i}]": width for i, width in enumerate(widths)}
        check_sizes(self.config | each | {"rank": 1 if rank is None else rank}, resolution=4)
        self.config |= dict(widths=list(widths), rank=rank, block=block)
        self.config |= dict(rgb=True) if rgb else {}
        if block not in ("conv", "residual"):
            raise InputError(f"block must be one of conv, residual, got {block!r}")
        if (end := 4 * 2 ** (len(widths) - 1)) != resolution:
            raise InputError(f"{len(widths)} widths end at {end} pixels, not at {resolution}; one each for 4, 8, ...")
        self.z_dim, self.num_classes, self.resolution = z_dim, num_classes, resolution
        self.embedding = nn.Parameter(torch.randn(num_classes, embed_dim))
        inputs, outputs = z_dim + embed_dim, widths[0] * 16
        if rank is None:
            self.linear = nn.Linear(inputs, outputs)
        else:
            self.linear = nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))
        self.residual = block == "residual"  # its blocks normalise what comes in, the others what goes out
        self.norm = ConditionalBatchNorm(widths[-1 if self.residual else 0], inputs)
        kind = ResidualBlock if self.residual else UpBlock
        self.blocks = nn.ModuleList(kind(i, o, inputs) for i, o in zip(widths, widths[1:]))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.smaller = nn.ModuleList(nn.Conv2d(w, 3, 1) for w in widths[1:-1]) if rgb else None

    def forward(self, z, y):
        check_latents(z, self.z_dim)
        e = torch.cat([normalise_z(z), class_weights(y, self.num_classes, z.shape[0]) @ self.embedding], 1)
        x = self.linear(e).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        x = x if self.residual else F.relu(self.norm(x, e))  # (N, widths[0], 4, 4)
        image = 0
        for i, block in enumerate(self.blocks):
            x = block(x, e)  # twice the resolution
            if self.smaller is not None and i < len(self.smaller):
                image = F.interpolate(image + self.smaller[i](x), scale_factor=2, mode="bilinear")
        x = F.relu(self.norm(x, e)) if self.residual else x
        return (self.to_rgb(x) + image).tanh()  # (N, 3, R, R)


class UpBlock(nn.Module):
    """Nearest upsampling and a 3x3 convolution, norm, ReLU."""

    def __init__(self, width_in, width_out, condition):
        super().__init__()
        self.conv, self.norm = UpConv2d(width_in, width_out), ConditionalBatchNorm(width_out, condition)

    def forward(self, x, e):
        return F.relu(self.norm(self.conv(x), e))


class ResidualBlock(nn.Module):
    """TinyGAN's block (Chang & Lu 2020, section 3.1): two separable convolutions, each after norm and ReLU, beside a
    1x1 shortcut. Both enlarge bilinearly; the shortcut does so after its convolution, for a quarter of the products."""

    def __init__(self, width_in, width_out, condition):
        super().__init__()
        self.norm1, self.conv1 = ConditionalBatchNorm(width_in, condition), separable(width_in, width_out)
        self.norm2, self.conv2 = ConditionalBatchNorm(width_out, condition), separable(width_out, width_out)
        self.shortcut = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x, e):
        h = F.interpolate(F.relu(self.norm1(x, e)), scale_factor=2, mode="bilinear")
        h = self.conv2(F.relu(self.norm2(self.conv1(h), e)))
        return h + F.interpolate(self.shortcut(x), scale_factor=2, mode="bilinear")


def separable(width_in, width_out):
    """A 3x3 convolution for each channel, then a 1x1 convolution that mixes them."""
    each = nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False)
    return nn.Sequential(each, nn.Conv2d(width_in, width_out, 1, bias=False))
