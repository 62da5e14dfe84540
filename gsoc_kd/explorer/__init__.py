"""Stage 00: the widgets and what they show."""

from .points import dominating, latent, picture, slerp, strip
from .widgets import explore

__all__ = ["dominating", "explore", "latent", "picture", "slerp", "strip"]
