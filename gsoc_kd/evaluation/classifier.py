"""The evaluation classifier: a small CIFAR-10 network that scores where Inception cannot be had (docs/Evaluation.md).

It is trained on real images only (tools/assets.py), and no generator ever trains against it.
"""

import copy
from functools import lru_cache

import torch
from torch import nn

from ..core.checks import pick_device
from ..core.files import ASSETS
from ..core.weights import load_network
from .features import features

EMBEDDED = ASSETS / "judge"


class Judge(nn.Module):
    """A narrow residual network like ResNet-9 (residual learning: He et al. 2015, arXiv 1512.03385).

    forward(x): x (N, 3, 32, 32) float in [-1, 1] -> logits (N, num_classes).
    features(x): (N, feature_width), the input of the last linear layer; CIFAR-FD and CIFAR-KID use them.
    """

    def __init__(self, num_classes=10, widths=(32, 64, 128, 128)):
        super().__init__()
        self.config = dict(num_classes=num_classes, widths=list(widths))
        self.num_classes, self.feature_width, self.resolution = num_classes, widths[-1], 32
        self.stem = conv_norm(3, widths[0])  # 32x32
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip(widths, widths[1:])))  # 16x16, 8x8, 4x4
        self.linear = nn.Linear(widths[-1], num_classes)

    def features(self, x):
        return self.blocks(self.stem(x)).amax((2, 3))

    def features_and_logits(self, x):
        features = self.features(x)
        return features, self.linear(features)

    def forward(self, x):
        return self.linear(self.features(x))


def conv_norm(width_in, width_out, pool=False):
    conv = nn.Conv2d(width_in, width_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.MaxPool2d(2) if pool else nn.Identity(), nn.BatchNorm2d(width_out), nn.ReLU())


class Block(nn.Module):
    """Halves the resolution, then adds one residual convolution."""

    def __init__(self, width_in, width_out):
        super().__init__()
        self.down, self.residual = conv_norm(width_in, width_out, pool=True), conv_norm(width_out, width_out)

    def forward(self, x):
        x = self.down(x)
        return x + self.residual(x)


@lru_cache(maxsize=1)
def load_judge():
    """The bundled classifier, in eval mode on the CPU."""
    return load_network(EMBEDDED, (Judge,))


def judge_on(device=None, judge=None):
    """A copy of `judge`, by default of the bundled one, on `device`, by default a GPU if there is one."""
    return copy.deepcopy(judge or load_judge()).to(pick_device(device), memory_format=torch.channels_last)


def accuracy(judge, data):
    """Share of `data` (LabelledImages) that the classifier puts in the right class."""
    return float((features(data.images, judge)[1].argmax(1) == data.labels).mean())
