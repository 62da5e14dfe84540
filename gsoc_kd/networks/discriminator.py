"""What generators train against, and the augmentation of what discriminators see (docs/Objectives.md).

A disc takes pictures x (N, 3, R, R) in [-1, 1] and labels y, (N,) int64 or (N, C) weights, and returns logits (N,) and
the maps of its four convolutions, on which the feature loss is computed.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ..core.files import InputError
from .layers import class_weights


def _check_resolution(resolution):
    if resolution < 16 or resolution % 16:
        raise InputError(
            f"a disc halves its pictures four times: their resolution must be a multiple of 16, got {resolution}"
        )


class ProjectionDiscriminator(nn.Module):
    """A light disc that takes the label by projection
    (Miyato & Koyama 2018, arXiv 1802.05637): logit = v.h + e_y.h, h the sum over the last map.

    Args:
        group: minibatch standard deviation (Karras et al. 2017, arXiv 1710.10196, section 3): the last convolution also
            sees how much groups of so many successive pictures differ, so that a generator that draws one picture a
            class is found out. The batch must be a multiple of it; 0: off.
        spectral: spectral norm on all layers (Miyato et al. 2018, arXiv 1802.05957); without it, train with R1.
    """

    def __init__(self, num_classes=10, resolution=32, width=64, group=0, spectral=True):
        super().__init__()
        _check_resolution(resolution)
        self.config = dict(num_classes=num_classes, resolution=resolution, width=width, group=group, spectral=spectral)
        self.num_classes, self.group = num_classes, group
        inputs, outputs = (3, width, 2 * width, 4 * width + (group > 0)), (width, 2 * width, 4 * width, 8 * width)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in zip(inputs, outputs))
        self.output = nn.Linear(8 * width, 1)
        self.embedding = nn.Linear(num_classes, 8 * width, bias=False)
        if spectral:
            for layer in (*self.convs, self.output, self.embedding):
                spectral_norm(layer)

    def forward(self, x, y):
        maps = []
        for conv in self.convs:
            if self.group and conv is self.convs[-1]:
                x = torch.cat([x, minibatch_deviation(x, self.group)], 1)  # (N, 4 width + 1, ...)
                x = aligned(conv, x) if x.is_cuda else conv(x)
            else:
                x = conv(x)
            x = F.leaky_relu(x, 0.2, inplace=True)
            maps.append(x)
        h = x.sum((2, 3))  # (N, 8 width)
        e = self.embedding(class_weights(y, self.num_classes))
        return self.output(h).squeeze(1) + (e * h).sum(1), maps


def minibatch_deviation(x, group):
    """(N, C, H, W) -> (N, 1, H, W): standard deviation within each group of successive pictures, averaged over C, H, W."""
    n, _, h, w = x.shape
    deviation = x.float().unflatten(0, (n // group, group)).var(1, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat_interleave(group)[:, None, None, None].expand(n, 1, h, w).to(x.dtype)


def aligned(conv, x, multiple=8):
    """conv(x) with channels of zeros up to a multiple: the same sums, in the shape that tensor cores are made for."""
    more = (0, 0, 0, 0, 0, -x.shape[1] % multiple)
    return F.conv2d(F.pad(x, more), F.pad(conv.weight, more), conv.bias, conv.stride, conv.padding)
