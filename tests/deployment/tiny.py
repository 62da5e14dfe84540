"""Small generators of every kind for the tests of exports, and what PyTorch makes of their inputs."""

import numpy as np
import torch

from gsoc_kd.data.images import to_uint8
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.distylegan import DiStyleGANGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator

KINDS = {
    "conv": lambda: ConvGenerator(8, 3, 8, (8, 8), 4, rank=4),
    "residual": lambda: ConvGenerator(8, 3, 8, (8, 8), 4, block="residual"),
    "distylegan": lambda: DiStyleGANGenerator(8, 3, 8, 8, 8),
    "stylegan2": lambda: StyleGAN2Generator(8, 8, 3, 8, 128, 8),
    "wide": lambda: ConvGenerator(40, 3, 8, (24, 12), 6),
}


def tiny(kind):
    """Batch norms with statistics unlike the initial ones, noise that is not nothing, contrast in the image."""
    torch.manual_seed(1)
    network = KINDS[kind]().eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif name.endswith("running_var"):
                tensor.uniform_(0.2, 1.5)
            elif name.endswith("noise_strength"):
                tensor.fill_(0.3)
        if hasattr(network, "to_rgb"):
            contrast = network(torch.randn(60, network.z_dim), torch.arange(60) % network.num_classes).std()
            for parameter in network.to_rgb.parameters():
                parameter.mul_(0.4 / contrast)
    return network


def inputs(runner, count, seed=0):
    z = np.random.default_rng(seed).standard_normal((count, runner.z_dim)).astype(np.float32)
    return z, np.arange(count) % runner.num_classes


def in_pytorch(network, z, y):
    with torch.inference_mode():
        return to_uint8(network(torch.from_numpy(z), torch.from_numpy(y))).numpy()
