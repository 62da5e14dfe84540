"""The StyleGAN2 discriminator in plain PyTorch: a picture and a label in, one number out, high for real.

Halves the picture block by block down to 4x4, looks there at how much the pictures of a batch differ, and ends with
two fully connected layers. The label goes through a mapping network of its own, and the logit is the inner product
of both (projection). Equalised learning rate, activation and filter are those of the generator (stylegan2.py).

    [1] Karras et al. 2017, "Progressive growing of GANs", arXiv 1710.10196: minibatch deviation, section 3
    [2] Karras et al. 2019, "Analyzing and improving the image quality of StyleGAN", arXiv 1912.04958
    [3] Karras et al. 2020, "Training GANs with limited data" (StyleGAN2-ADA), arXiv 2006.06676, appendix

Written from the papers; tests/test_stylegan2_disc.py reproduces numbers recorded from the official networks.
"""

import math
import re

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError
from .layers import class_weights
from .stylegan2 import Linear, Mapping, activate, is_the_filter


class Conv(nn.Module):
    """Equalised convolution and leaky ReLU: (N, inputs, H, W) -> (N, outputs, H, W), or half the size with `down`."""

    def __init__(self, inputs, outputs, kernel, clamp, down=False):
        super().__init__()
        self.clamp, self.down, self.scale = clamp, down, 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if down:
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
            self.register_buffer("fir", torch.outer(taps, taps), persistent=False)

    def forward(self, x):
        if self.down:  # low-pass filter [1,3,3,1], then every second pixel
            x = F.conv2d(x, self.fir.expand(x.shape[1], 1, 4, 4), padding=2, groups=x.shape[1])  # (N, inputs, H+1, W+1)
            x = F.conv2d(x, self.weight * self.scale, self.bias, stride=2)
        else:
            x = F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)
        x = activate(x)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


def group_deviation(x, group):
    """(N, C, H, W) -> (N, 1, H, W): how much the pictures of a group differ, one number a group [1, section 3].

    A group is every (N / group)-th picture; the standard deviation over it is averaged over C, H and W.
    `discriminators.minibatch_deviation` takes successive pictures instead.
    """
    n, _, h, w = x.shape
    groups = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (group, n // group))
    deviation = groups.var(0, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(n, 1, h, w).to(x.dtype)


class StyleGAN2Discriminator(nn.Module):
    """StyleGAN2's disc, architecture `orig`; the defaults are StyleGAN2-ADA's `cifar` configuration (23,089,664
    parameters).

    Args:
        num_classes: C, or 0 for a disc without labels.
        resolution: R, height and width of the picture, a power of two from 8.
        channel_base, channel_max: at resolution r a block has min(channel_base // r, channel_max) channels.
        group: minibatch deviation over groups of so many pictures, of the whole batch where that is smaller; 0: off.
        mapping_layers: depth of the label's mapping network.
        clamp: bound on the values after every convolution, or None.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        num_classes=10,
        resolution=32,
        channel_base=32768,
        channel_max=512,
        group=32,
        mapping_layers=8,
        clamp=256.0,
    ):
        super().__init__()
        self.config = dict(
            num_classes=num_classes,
            resolution=resolution,
            channel_base=channel_base,
            channel_max=channel_max,
            group=group,
            mapping_layers=mapping_layers,
            clamp=clamp,
        )
        for name, least in dict(
            num_classes=0, resolution=8, channel_base=resolution, channel_max=1, group=0, mapping_layers=1
        ).items():
            if not (isinstance(self.config[name], int) and self.config[name] >= least):
                raise InputError(f"{name} is {self.config[name]!r}; give a whole number of at least {least}")
        if resolution & (resolution - 1):
            raise InputError(f"resolution is {resolution}; StyleGAN2 sees powers of two only: 8, 16, 32, ...")
        self.num_classes, self.resolution, self.group = num_classes, resolution, group
        sizes = [2**i for i in range(resolution.bit_length() - 1, 1, -1)]  # R, ..., 8, 4
        widths = [min(channel_base // size, channel_max) for size in sizes]
        last = widths[-1]
        self.from_rgb = Conv(3, widths[0], 1, clamp)
        self.blocks = nn.ModuleList(
            nn.Sequential(Conv(a, a, 3, clamp), Conv(a, b, 3, clamp, down=True)) for a, b in zip(widths, widths[1:])
        )
        self.conv = Conv(last + (group > 0), last, 3, clamp)
        self.fc = Linear(last * 16, last)
        self.out = Linear(last, last if num_classes else 1)
        self.mapping = Mapping(0, last, num_classes, mapping_layers) if num_classes else None

    def forward(self, x, y=None):
        """Pictures and labels -> logits.

        Args:
            x: (N, 3, R, R) in [-1, 1].
            y: (N,) int64 labels or (N, C) float class weights; ignored when num_classes is 0.

        Returns:
            logits (N,), and the maps after each block, a list of (N, C_i, R_i, R_i) down to 4x4.

        Raises:
            InputError: pictures of another size, labels that do not fit, a batch that is no multiple of the group.
        """
        n, group = len(x), min(self.group, len(x))
        if x.shape[1:] != (3, self.resolution, self.resolution):
            raise InputError(
                f"x has shape {tuple(x.shape)}; this disc takes (N, 3, {self.resolution}, {self.resolution})"
            )
        if group and n % group:
            raise InputError(f"a batch of {n} cannot be divided into groups of {group}; change the batch or the group")
        maps, x = [], self.from_rgb(x)
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        if group:
            x = torch.cat([x, group_deviation(x, group)], 1)  # (N, channels + 1, 4, 4)
        x = self.out(activate(self.fc(self.conv(x).flatten(1))))  # (N, channels), or (N, 1)
        if self.mapping is None:
            return x.squeeze(1), maps
        if y is None:
            raise InputError(f"y is None; give a label below {self.num_classes} for each picture")
        weights = class_weights(y, self.num_classes)
        if len(weights) != n:
            raise InputError(f"y has {len(weights)} labels for {n} pictures x; give one each")
        labels = self.mapping(x.new_zeros(n, 0), weights.to(x))  # (N, channels)
        return (x * labels).sum(1) / math.sqrt(x.shape[1]), maps


def disc_from_official(state):
    """Renames the tensors of an official StyleGAN2-ADA discriminator of architecture `orig`.

    Args:
        state: official name -> tensor or numpy array.

    Returns:
        dict of our name -> tensor that fits `load_state_dict`; the constant filters are left out.

    Raises:
        InputError: a filter other than [1,3,3,1].
    """
    state = {name: torch.as_tensor(value) for name, value in state.items()}
    top = max(int(b[1]) for name in state if (b := re.match(r"b(\d+)\.", name)))  # R: the first block's number
    renamed = {}
    for name, value in state.items():
        if name.endswith("resample_filter"):
            is_the_filter(name, value)
            continue
        if (block := re.match(r"b(\d+)\.conv([01])\.", name)) and block[1] != "4":  # R, R/2, ... -> 0, 1, ...
            name = f"blocks.{top.bit_length() - int(block[1]).bit_length()}.{block[2]}." + name[block.end() :]
        name = re.sub(r"^b\d+\.fromrgb\.", "from_rgb.", re.sub(r"^b4\.", "", name))
        renamed[re.sub(r"^mapping\.fc", "mapping.layers.", name)] = value
    return renamed
