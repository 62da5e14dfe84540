"""Stage 01: labelled images as uint8 arrays."""

from .images import CIFAR10_CLASSES, LabelledImages, load_images, to_float, to_uint8

__all__ = ["CIFAR10_CLASSES", "LabelledImages", "load_images", "to_float", "to_uint8"]
