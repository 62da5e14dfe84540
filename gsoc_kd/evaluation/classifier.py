"""The networks whose features the scores use: the evaluation classifier, and the one of published FID.

The classifier is trained on real images only (tools/assets.py); no generator ever trains against it.
"""

import copy
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..core.checks import classes_of, device_of, is_word, path_of, pick_device
from ..core.files import ASSETS, InputError, sha256
from ..core.state import untouched
from ..core.weights import load_network
from ..data.images import CIFAR10_CLASSES, to_float
from .names import images_in_order

EMBEDDED = ASSETS / "classifier"
LARGEST = 1 << 28  # bytes of a file with weights; Inception's has 95 million


class Classifier(nn.Module):
    """A narrow residual network like ResNet-9 (residual learning: He et al. 2015, arXiv 1512.03385).

    forward(x): x (N, 3, 32, 32) float in [-1, 1] -> logits (N, num_classes). features_and_logits(x): before them the
    input of the last linear layer (N, feature_width), which CIFAR-FD and CIFAR-KID use."""

    def __init__(self, num_classes=10, widths=(32, 64, 128, 128)):
        super().__init__()
        self.config = dict(num_classes=num_classes, widths=list(widths))
        self.num_classes, self.feature_width, self.resolution = num_classes, widths[-1], 32
        self.stem = conv_norm(3, widths[0])  # 32x32
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip(widths, widths[1:])))  # 16x16, 8x8, 4x4
        self.linear = nn.Linear(widths[-1], num_classes)

    def features_and_logits(self, x):
        found = self.blocks(self.stem(x)).amax((2, 3))
        return found, self.linear(found)

    def forward(self, x):
        return self.features_and_logits(x)[1]


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


def load_classifier():
    """The bundled classifier, in eval mode on the CPU; its attribute `classes` names what its logits stand for."""
    classifier = load_network(EMBEDDED, (Classifier,))
    classifier.classes = CIFAR10_CLASSES
    return classifier


def classifier_on(device=None, classifier=None):
    """A copy of `classifier`, by default of the bundled one, on `device`, by default a GPU if there is one."""
    return (copy.deepcopy(classifier) or load_classifier()).to(pick_device(device), memory_format=torch.channels_last)


@untouched
@torch.no_grad()
def features(images, network, batch=100, progress=None):
    """Runs a network over images, uint8 (N, H, W, 3), once: (features (N, D), logits (N, C)), both float32.

    `network` has `features_and_logits(x)`; it is used in evaluation mode, without TF32, on the device it is on.
    `batch`: about 100 is quickest on a CPU for the evaluation classifier. `progress`: text of a progress bar."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise InputError(f"images must be (N, H, W, 3) uint8 and at least one, got {images.shape} {images.dtype}")
    device, found = device_of(network), []
    network.eval()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in tqdm(range(0, len(images), batch), progress, leave=False, disable=progress is None):
            part = network.features_and_logits(to_float(images[start : start + batch], device))  # (n, D), (n, C)
            found.append([p.float().cpu().numpy() for p in part])
    return tuple(np.concatenate(parts) for parts in zip(*found))


def accuracy(classifier, data):
    """Share of `data` (LabelledImages) that the classifier puts in the right class. Classes are matched by name where
    the classifier has `classes`, else by number. InputError: other classes."""
    if names := classes_of(classifier):
        data = images_in_order(data, names, "the classifier")
    return float((features(data.images, classifier)[1].argmax(1) == data.labels).mean())


class InceptionFeatures(nn.Module):
    """The network of published FID and IS: pytorch-fid's port of the 2015 Inception, 2,048 pooled features.

    features_and_logits takes (N, 3, H, W) in [-1, 1], enlarged bilinearly to 299 x 299. The logits (N, 1008) leave
    out the bias, as the original Inception score does. `weights` is the path of pt_inception-2015-12-05-6726825d.pth;
    "download" takes it from torch.hub's cache, or downloads it there (91 MB). InputError: no such weights."""

    name, feature_width = "InceptionV3 of 2015-12-05 (pytorch-fid)", 2048

    def __init__(self, weights):
        from pytorch_fid import inception

        super().__init__()
        url, path = inception.FID_WEIGHTS_URL, weights
        try:
            if is_word(weights, "download"):
                path = f"{torch.hub.get_dir()}/checkpoints/{url.rsplit('/', 1)[1]}"
                torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
            path = path_of(path)
            if not path.is_file() or path.stat().st_size > LARGEST:
                raise OSError(f"no file of at most {LARGEST:,} bytes")
            self.digest, state = sha256(path), torch.load(path, map_location="cpu", weights_only=True)
            with patch.object(inception, "load_state_dict_from_url", lambda *args, **kwargs: state):  # no download
                self.body = inception.InceptionV3(resize_input=True, normalize_input=False)
            self.register_buffer("head", state["fc.weight"].float().clone())  # (1008, 2048)
        except Exception as error:  # downloading, unpickling and load_state_dict raise many kinds
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            todo = f"download {url} and give its path as inception=..., or go online and give inception='download'"
            raise InputError(f"{path} is no file of pytorch-fid's Inception weights ({reason}): {todo}") from error
        self.eval()

    def features_and_logits(self, x):
        pooled = self.body(x)[0].flatten(1)  # (N, 2048)
        return pooled, pooled @ self.head.T  # (N, 1008)
