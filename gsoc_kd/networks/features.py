"""Fixed features: those of a small classifier that is trained once, on the pictures that a run has anyway.

In distillation the other choice for the feature loss: the black box gives picture and label, so neither a real picture
nor the judge is needed, and where the disc's maps change with every step, these stand still (docs/Objectives.md). In
pretraining something more for the disc to look at, `FeatureDiscriminator` (docs/Teacher-Network.md).
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ..data.images import to_float
from ..training import runs
from ..training.augment import augment
from ..training.losses import feature_loss
from .discriminator import ProjectionDiscriminator
from .layers import class_weights

EPOCHS = 5  # passes over the pairs


class FeatureClassifier(nn.Module):
    """The four convolutions of ProjectionDiscriminator, spectral norm included, so that maps have the same shapes and
    about the same scale; then a linear layer to the classes.

    forward(x): x (N, 3, R, R) in [-1, 1] -> logits (N, num_classes), maps of the four convolutions.
    """

    def __init__(self, num_classes=10, resolution=32, width=32):
        super().__init__()
        self.convs = ProjectionDiscriminator(num_classes, resolution, width).convs
        self.output = nn.Linear(8 * width * (resolution // 16) ** 2, num_classes)

    def forward(self, x):
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2, inplace=True)
            maps.append(x)
        return self.output(x.flatten(1)), maps


def train_features(classifier, images, labels, batch, seed, bfloat16=False, epochs=EPOCHS):
    """Trains `classifier` in place by cross-entropy, a function of its weights and `seed`, and freezes it.

    Args:
        images: (N, R, R, 3) uint8 tensor. labels: (N,) int64. Both on the classifier's device.
        batch: pictures a step, in every process the same ones. Adam at 1e-3, shifts and brightness at random.

    Returns:
        Share of the last pass's pictures whose class it told right.
    """
    device, batches = images.device, runs.Batches(len(images), batch, seed, images.device, stream=2)
    optimizer = torch.optim.Adam(classifier.train().requires_grad_(True).parameters(), 1e-3, fused=True)
    right = torch.zeros((), device=device)
    for step in range(epochs * batches.steps):
        rows = batches(step)
        x = augment(to_float(images[rows]), runs.rng(seed, step, device, stream=200), brightness=0.2)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits, _ = classifier(x)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels[rows]).backward()
        optimizer.step()
        if step >= (epochs - 1) * batches.steps:
            right += (logits.argmax(1) == labels[rows]).float().mean() / batches.steps
    classifier.eval().requires_grad_(False).zero_grad(set_to_none=True)
    return right.item()


def fixed_feature_loss(classifier, x_teacher, x_student):
    """`losses.feature_loss` on the frozen classifier's maps; gradients reach x_student alone. (N, 3, R, R) each."""
    with torch.no_grad():
        maps_teacher = [m.float() for m in classifier(x_teacher)[1]]
    return feature_loss(maps_teacher, [m.float() for m in classifier(x_student)[1]])


# ---------------------------------------------------------------- a disc that looks through fixed features


class FixedMaps(nn.Module):
    """The four maps of a FeatureClassifier as it stood when `take` was called, each divided by its own spread.

    The weights are buffers: a run's checkpoint holds them, and nothing that trains or freezes a disc changes them. All
    zero before `take`. forward(x): x (N, 3, R, R) -> [(N, width, R/2, R/2), ... (N, 8 width, R/16, R/16)].
    """

    def __init__(self, resolution=32, width=32):
        super().__init__()
        for i, conv in enumerate(ProjectionDiscriminator(1, resolution, width, spectral=False).convs):
            self.register_buffer(f"weight{i}", torch.zeros_like(conv.weight))
            self.register_buffer(f"bias{i}", torch.zeros_like(conv.bias))
        self.register_buffer("spread", torch.ones(4))

    @torch.no_grad()
    def take(self, classifier, x):
        """Copies the trained classifier's weights; x (N, 3, R, R): pictures on which the spread is measured."""
        for i, conv in enumerate(classifier.convs):
            getattr(self, f"weight{i}").copy_(conv.weight)
            getattr(self, f"bias{i}").copy_(conv.bias)
        self.spread.copy_(torch.stack([m.float().std() for m in classifier(x)[1]]))

    def forward(self, x):
        maps = []
        for i in range(4):
            x = F.leaky_relu(F.conv2d(x, getattr(self, f"weight{i}"), getattr(self, f"bias{i}"), 2, 1), 0.2)
            maps.append(x / self.spread[i])
        return maps


class FeatureDiscriminator(ProjectionDiscriminator):
    """A projection disc with a head more on each of four fixed maps; all logits are added.

    Projected GANs (Sauer et al. 2021, arXiv 2111.01007, section 3) and StyleGAN-XL look through ImageNet features
    alone. A small classifier of the pictures themselves sees less than those, so the disc's own convolutions stay.

    Args:
        features: width of the fixed maps, that of the FeatureClassifier. The others: as in ProjectionDiscriminator.
    """

    def __init__(self, num_classes=10, resolution=32, width=64, group=0, spectral=True, features=32):
        super().__init__(num_classes, resolution, width, group, spectral)
        self.config |= dict(features=features)
        self.fixed = FixedMaps(resolution, features)
        self.heads = nn.ModuleList(MapHead(features * scale, width, num_classes, spectral) for scale in (1, 2, 4, 8))

    def forward(self, x, y):
        logits, maps = super().forward(x, y)
        weights = class_weights(y, self.num_classes)
        return logits + sum(head(m, weights) for head, m in zip(self.heads, self.fixed(x))), maps


class MapHead(nn.Module):
    """A 3x3 convolution, then projection: m (N, C, H, W), class weights (N, num_classes) -> logits (N,)."""

    def __init__(self, channels, width, num_classes, spectral):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.output, self.embedding = nn.Linear(width, 1), nn.Linear(num_classes, width, bias=False)
        if spectral:
            for layer in (self.conv, self.output, self.embedding):
                spectral_norm(layer)

    def forward(self, m, weights):
        h = F.leaky_relu(self.conv(m), 0.2).mean((2, 3))  # (N, width)
        return self.output(h).squeeze(1) + (self.embedding(weights) * h).sum(1)
