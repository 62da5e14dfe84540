"""The StyleGAN2 discriminator in plain PyTorch; papers and layers are those of the generator (stylegan2.py)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError
from .discriminator import minibatch_deviation
from .layers import check_sizes, class_weights
from .stylegan2 import FIR, Linear, Mapping, activate


class Conv(nn.Module):
    """Equalised convolution and leaky ReLU: (N, inputs, H, W) -> (N, outputs, H, W), or half the size with `down`."""

    def __init__(self, inputs, outputs, kernel, clamp, down=False):
        super().__init__()
        self.clamp, self.down, self.scale = clamp, down, 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if down:
            self.register_buffer("fir", torch.outer(torch.tensor(FIR), torch.tensor(FIR)) / 4, persistent=False)

    def forward(self, x):
        stride, padding = (2, 0) if self.down else (1, self.weight.shape[-1] // 2)
        if self.down:  # low-pass filter [1,3,3,1], then every second pixel
            x = F.conv2d(x, self.fir.expand(x.shape[1], 1, 4, 4), padding=2, groups=x.shape[1])  # (N, inputs, H+1, W+1)
        x = activate(F.conv2d(x, self.weight * self.scale, self.bias, stride, padding))
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class StyleGAN2Discriminator(nn.Module):
    """StyleGAN2's discriminator, architecture `orig`; by default StyleGAN2-ADA's `cifar` (23,089,664 parameters).
    It halves the image block by block down to 4x4, looks there at how much the images of a batch differ, and ends with
    two fully connected layers. The label has a mapping network of its own; the logit is the inner product of both.
    Arguments and errors are those of `StyleGAN2Generator`, with a resolution from 8, and `group`: minibatch deviation
    over groups of so many images, of the whole batch where that is smaller; 0: off."""

    def __init__(
        self, num_classes=10, resolution=32, channel_base=32768, channel_max=512, group=32, mapping_layers=8, clamp=256
    ):
        super().__init__()
        sizes = dict(num_classes=num_classes, resolution=resolution, channel_base=channel_base, group=group)
        sizes |= dict(channel_max=channel_max, mapping_layers=mapping_layers)
        check_sizes(sizes, num_classes=0, resolution=8, channel_base=resolution, group=0)
        self.num_classes, self.resolution, self.group = num_classes, resolution, group
        widths = [min(channel_base >> i, channel_max) for i in range(resolution.bit_length() - 1, 1, -1)]  # R ... 8, 4
        last, steps = widths[-1], zip(widths, widths[1:])
        self.from_rgb = Conv(3, widths[0], 1, clamp)
        pairs = ((Conv(a, a, 3, clamp), Conv(a, b, 3, clamp, down=True)) for a, b in steps)
        self.blocks = nn.ModuleList(nn.Sequential(*pair) for pair in pairs)
        self.conv = Conv(last + (group > 0), last, 3, clamp)
        self.fc, self.out = Linear(last * 16, last), Linear(last, last if num_classes else 1)
        self.mapping = Mapping(0, last, num_classes, mapping_layers) if num_classes else None

    def forward(self, x, y=None):
        """Images x (N, 3, R, R) in [-1, 1] and labels y, (N,) int64 or (N, C) float weights -> logits (N,), high for
        real, and the maps after each block, (N, C_i, R_i, R_i) down to 4x4. InputError names a bad argument."""
        n, r = x.shape[0], self.resolution
        if x.shape[1:] != (3, r, r):
            raise InputError(f"x has shape {tuple(x.shape)}; this discriminator takes (N, 3, {r}, {r})")
        weights = class_weights(y, self.num_classes, n).to(x) if self.num_classes else None
        maps, x = [], self.from_rgb(x)
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        if self.group:
            x = torch.cat([x, minibatch_deviation(x, min(self.group, n))], 1)  # one channel more
        x = self.out(activate(self.fc(self.conv(x).flatten(1))))  # (N, channels), or (N, 1)
        if self.mapping is None:
            return x.squeeze(1), maps
        return (x * self.mapping(x.new_zeros(n, 0), weights)).sum(1) / math.sqrt(x.shape[1]), maps
