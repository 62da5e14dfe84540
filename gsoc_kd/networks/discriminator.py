"""The discriminators that generators train against (docs/Objectives.md).

A discriminator takes images x (N, 3, R, R) in [-1, 1] and labels y, (N,) int64 or (N, C) weights, and returns logits
(N,) and the maps of its convolutions, on which the feature loss is computed."""

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError
from .layers import check_sizes, class_weights


class ProjectionDiscriminator(nn.Module):
    """A light discriminator: logit = v.h + e_y.h, h the sum over the last map, e_y the embedded label ("projection",
    Miyato & Koyama 2018, arXiv 1802.05637). The resolution must be a power of two from 16.

    Args:
        group: `minibatch_deviation` over groups of so many images, of which a batch must be a multiple, so that a
            generator that generates one image per class is found out; 0: off.

    Nothing bounds its slope: train it with R1."""

    def __init__(self, num_classes=10, resolution=32, width=64, group=0):
        super().__init__()
        sizes = dict(num_classes=num_classes, resolution=resolution, width=width, group=group)
        check_sizes(sizes, resolution=16, group=0)
        self.num_classes, self.group = num_classes, group
        inputs, outputs = (3, width, 2 * width, 4 * width + (group > 0)), (width, 2 * width, 4 * width, 8 * width)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in zip(inputs, outputs))
        self.output, self.embedding = nn.Linear(8 * width, 1), nn.Linear(num_classes, 8 * width, bias=False)

    def forward(self, x, y):
        weights, maps = class_weights(y, self.num_classes, x.shape[0]), []
        for conv in self.convs:
            x = with_deviation(conv, x, self.group) if self.group and len(maps) == 3 else conv(x)
            x = F.leaky_relu(x, 0.2, inplace=True)
            maps.append(x)
        h = x.sum((2, 3))  # (N, 8 width)
        return self.output(h).squeeze(1) + (self.embedding(weights) * h).sum(1), maps


def minibatch_deviation(x, group):
    """(N, C, H, W) -> (N, 1, H, W): how much `group` successive images differ: the standard deviation over the group,
    averaged over C, H and W (Karras et al. 2017, arXiv 1710.10196, section 3). Where real images come before generated
    ones, and both are multiples of `group`, the two are never compared. Raises InputError if N is no multiple."""
    n, _, h, w = x.shape
    if n % group:
        raise InputError(f"a batch of {n} cannot be divided into groups of {group}; change the batch or the group")
    groups = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (n // group, group))
    deviation = groups.var(1, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3))  # one number per group
    return deviation.repeat_interleave(group)[:, None, None, None].expand(n, 1, h, w).to(x.dtype)


def with_deviation(conv, x, group):
    """conv of x and, as one more channel, its minibatch deviation. Channels of zeros up to a multiple of 8 change no
    sum, but give the shape that a GPU's tensor cores are made for."""
    n, channels, h, w = x.shape
    zeros = -(channels + 1) % 8
    x = torch.cat([x, minibatch_deviation(x, group), x.new_zeros(n, zeros, h, w)], 1)
    return F.conv2d(x, F.pad(conv.weight, (0, 0, 0, 0, 0, zeros)), conv.bias, conv.stride, conv.padding)
