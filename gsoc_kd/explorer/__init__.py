"""Stage 00: the widgets and what they show."""

from .points import dominating, image_at, latent, samples, slerp, strip
from .single import explore_exports, explore_training, explore_truncation
from .widgets import explore

__all__ = ["dominating", "explore", "explore_exports", "explore_training", "explore_truncation"]
__all__ += ["image_at", "latent", "samples", "slerp", "strip"]
