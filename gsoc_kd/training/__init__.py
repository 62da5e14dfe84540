"""Stage 04: losses, one loop, two steps."""

from .distill import DistillConfig, distill
from .gan import PretrainConfig, pretrain
from .runs import Run

__all__ = ["DistillConfig", "PretrainConfig", "Run", "distill", "pretrain"]
