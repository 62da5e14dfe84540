"""Stage 06: OpenVINO and ONNX files, INT8, calibration, the Hub."""

from .calibrate import calibration_images
from .export import export
from .push import push
from .runner import load_exported

__all__ = ["calibration_images", "export", "load_exported", "push"]
