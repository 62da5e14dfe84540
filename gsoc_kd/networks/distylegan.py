"""The two networks of the 2022 project, DiStyleGAN (docs/Student-Network.md)."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ..core.files import InputError
from .discriminator import _check_resolution
from .layers import UpConv2d, _check, class_weights


class DiStyleGANGenerator(nn.Module):
    """The student of the 2022 project: projections and up blocks with gated linear units (docs/Student-Network.md).

    With width 256, z 512, projection 128 and 10 classes it has 2,054,368 parameters. It takes z as it is.
    """

    def __init__(self, z_dim=512, num_classes=10, resolution=32, width=256, project_dim=128):
        super().__init__()
        ups = int(math.log2(max(resolution, 4) / 4))
        if 4 * 2**ups != resolution or width % 2**ups:
            raise InputError(
                f"resolution must be 4 times a power of two and width divisible by {2**ups}, "
                f"got {resolution} and {width}"
            )
        self.config = dict(
            z_dim=z_dim, num_classes=num_classes, resolution=resolution, width=width, project_dim=project_dim
        )
        self.z_dim, self.num_classes, self.resolution = z_dim, num_classes, resolution
        self.project = nn.Sequential(
            nn.Linear(z_dim, 2 * project_dim, bias=False), nn.BatchNorm1d(2 * project_dim), nn.GLU(1)
        )
        self.linear = nn.Sequential(
            nn.Linear(project_dim + num_classes, 2 * width * 16, bias=False), nn.BatchNorm1d(2 * width * 16), nn.GLU(1)
        )
        widths = [width // 2**i for i in range(ups + 1)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Identity(),
                    UpConv2d(i, 2 * o),  # the first keeps the names that saved networks have
                    nn.BatchNorm2d(2 * o),
                    nn.GLU(1),
                )
                for i, o in zip(widths, widths[1:])
            )
        )
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1, bias=False)
        orthogonal_init(self)

    def forward(self, z, y):
        _check(z, y, self.z_dim)
        x = torch.cat([self.project(z), class_weights(y, self.num_classes)], 1)  # (N, project_dim + C)
        x = self.linear(x).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        return self.to_rgb(self.blocks(x)).tanh()


def orthogonal_init(network):
    """The 2022 project's initialisation: orthogonal weights (Saxe et al. 2013), zero biases, norm gains N(1, 0.02)."""
    for m in network.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.orthogonal_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) and m.affine:
            nn.init.normal_(m.weight, 1.0, 0.02)
            nn.init.zeros_(m.bias)


class DiStyleGANDiscriminator(nn.Module):
    """The disc of the 2022 project: label concatenated at the end; 3,415,178 parameters with width 128, 10 classes."""

    def __init__(self, num_classes=10, resolution=32, width=128, project_dim=128):
        super().__init__()
        _check_resolution(resolution)
        self.config = dict(num_classes=num_classes, resolution=resolution, width=width, project_dim=project_dim)
        self.num_classes = num_classes
        widths = (3, width, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in zip(widths, widths[1:]))
        self.project = nn.Linear(4 * width * (resolution // 16) ** 2, 2 * project_dim, bias=False)
        self.output = nn.Linear(project_dim + num_classes, 1, bias=False)
        orthogonal_init(self)
        for layer in (*self.convs, self.project):
            spectral_norm(layer)

    def forward(self, x, y):
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2, inplace=True)
            maps.append(x)
        h = F.glu(self.project(x.flatten(1)), 1)  # (N, project_dim)
        return self.output(torch.cat([h, class_weights(y, self.num_classes).to(h)], 1)).squeeze(1), maps
