"""Generators and discriminators of any width."""

from .conv import ConvGenerator
from .discriminator import ProjectionDiscriminator
from .distylegan import DiStyleGANDiscriminator, DiStyleGANGenerator
from .stylegan2 import StyleGAN2Generator
from .stylegan2_disc import StyleGAN2Discriminator

__all__ = ["ConvGenerator", "DiStyleGANGenerator", "StyleGAN2Generator"]
__all__ += ["DiStyleGANDiscriminator", "ProjectionDiscriminator", "StyleGAN2Discriminator"]
