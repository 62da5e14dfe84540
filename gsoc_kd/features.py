"""Fixed features, the other choice for the feature loss: a small classifier, trained once on the triples themselves.

The black box gives picture and label, so neither a real picture nor the judge is needed. Where the disc's maps change
with every step, these stand still: an ablation (docs/Objectives.md).
"""
import torch
import torch.nn.functional as F
from torch import nn

from . import runs
from .discriminators import ProjectionDiscriminator, augment
from .images import to_float
from .losses import feature_loss

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
