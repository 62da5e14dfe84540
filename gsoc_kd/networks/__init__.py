"""Generators and discriminators of any width."""

from .conv import ConvGenerator
from .discriminator import ProjectionDiscriminator
from .distylegan import DiStyleGANDiscriminator, DiStyleGANGenerator
from .stylegan2 import StyleGAN2Generator
from .stylegan2_disc import StyleGAN2Discriminator

__all__ = [
    "ConvGenerator",
    "DiStyleGANDiscriminator",
    "DiStyleGANGenerator",
    "ProjectionDiscriminator",
    "StyleGAN2Discriminator",
    "StyleGAN2Generator",
]
