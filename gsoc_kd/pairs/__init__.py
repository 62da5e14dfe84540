"""Stage 03: FakeCIFAR10, the (noise, label, image) that a student is trained on."""

from .fakecifar10 import convert_pairs
from .folder import Pairs, load_pairs, save_pairs
from .make import draw_latents, generate_images, make_pairs

__all__ = ["Pairs", "convert_pairs", "draw_latents", "generate_images", "load_pairs", "make_pairs", "save_pairs"]
