"""Stage 06: OpenVINO and ONNX files, INT8, calibration."""

from .calibrate import calibration_images
from .export import export, load_exported

__all__ = ["calibration_images", "export", "load_exported"]
