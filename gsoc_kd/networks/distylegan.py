"""The two networks of the 2022 project, DiStyleGAN (docs/Student-Network.md)."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ..core.files import InputError
from .layers import UpConv2d, check_latents, check_sizes, class_weights


class DiStyleGANGenerator(nn.Module):
    """The student of 2022: projections and up blocks with gated linear units (half of the channels gate the others).
    It takes z as it is. By default it has 2,054,368 parameters."""

    def __init__(self, z_dim=512, num_classes=10, resolution=32, width=256, project_dim=128):
        super().__init__()
        self.config = dict(z_dim=z_dim, num_classes=num_classes, resolution=resolution)
        self.config |= dict(width=width, project_dim=project_dim)
        check_sizes(self.config, resolution=4)
        widths = [width >> i for i in range(resolution.bit_length() - 2)]  # at 4x4, 8x8, ...
        if width % 2 ** (len(widths) - 1):
            raise InputError(f"width must be divisible by {2 ** (len(widths) - 1)}, got {width}")
        self.z_dim, self.num_classes, self.resolution = z_dim, num_classes, resolution
        p, inputs, w = 2 * project_dim, project_dim + num_classes, 2 * width * 16
        self.project = nn.Sequential(nn.Linear(z_dim, p, bias=False), nn.BatchNorm1d(p), nn.GLU(1))
        self.linear = nn.Sequential(nn.Linear(inputs, w, bias=False), nn.BatchNorm1d(w), nn.GLU(1))
        self.blocks = nn.Sequential()
        for i, o in zip(widths, widths[1:]):  # the Identity keeps the names that saved networks have
            self.blocks.append(nn.Sequential(nn.Identity(), UpConv2d(i, 2 * o), nn.BatchNorm2d(2 * o), nn.GLU(1)))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1, bias=False)
        orthogonal_init(self)

    def forward(self, z, y):
        check_latents(z, self.z_dim)
        x = self.project(z.to(self.to_rgb.weight.dtype))
        x = torch.cat([x, class_weights(y, self.num_classes, z.shape[0]).to(x.dtype)], 1)  # (N, project_dim + C)
        x = self.linear(x).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        return self.to_rgb(self.blocks(x)).tanh()


def orthogonal_init(network):
    """The 2022 project's initialisation: orthogonal weights (Saxe et al. 2013), zero biases, norm gains N(1, 0.02)."""
    for m in network.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            if not m.weight.is_meta:  # where there is nothing to set, PyTorch 2.11 would try to
                nn.init.orthogonal_(m.weight)
        elif isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(m.weight, 1.0, 0.02)
        if getattr(m, "bias", None) is not None:
            nn.init.zeros_(m.bias)


class DiStyleGANDiscriminator(nn.Module):
    """The discriminator of 2022: label concatenated at the end; by default 3,415,178 parameters."""

    def __init__(self, num_classes=10, resolution=32, width=128, project_dim=128):
        super().__init__()
        check_sizes(dict(num_classes=num_classes, resolution=resolution, width=width), resolution=16)
        self.num_classes, widths = num_classes, (3, width, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in zip(widths, widths[1:]))
        self.project = nn.Linear(4 * width * (resolution // 16) ** 2, 2 * project_dim, bias=False)
        self.output = nn.Linear(project_dim + num_classes, 1, bias=False)
        orthogonal_init(self)
        for layer in (*self.convs, self.project):
            spectral_norm(layer)

    def forward(self, x, y):
        weights, maps = class_weights(y, self.num_classes, x.shape[0]), []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2, inplace=True)
            maps.append(x)
        h = F.glu(self.project(x.flatten(1)), 1)  # (N, project_dim)
        return self.output(torch.cat([h, weights.to(h)], 1)).squeeze(1), maps
