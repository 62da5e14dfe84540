"""Labelled images as uint8 arrays in memory: CIFAR-10, dataset zips, folders of classes (docs/CIFAR10.md)."""

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..core.checks import brief, is_word, path_of, whole
from ..core.files import InputError
from .archives import read_zip
from .decoding import resized, space
from .folders import read_folder
from .listing import check_names

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class LabelledImages:
    """Images, each with a class that has a name. InputError where the four fields do not fit together."""

    images: np.ndarray  # (N, H, W, 3) uint8
    labels: np.ndarray  # (N,) int64 in 0..C-1
    classes: tuple  # C names
    source: str  # where they come from

    def __post_init__(self):
        images, labels = np.asanyarray(self.images), np.asanyarray(self.labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
            raise InputError(f"images must be uint8 (N, H, W, 3), as high as wide, not {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or (labels.dtype.kind not in "iu" and len(labels)):
            told = f"not {labels.dtype} {labels.shape}"
            raise InputError(f"labels of {len(images)} images must be whole numbers ({len(images)},), {told}")
        classes = check_names(self.classes, "classes of LabelledImages")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            raise InputError(f"labels go from {labels.min()} to {labels.max()}, but there are {len(classes)} classes")
        fields = {"images": images, "labels": labels.astype(np.int64, copy=False), "classes": classes}
        self.__dict__.update(fields)  # frozen for all others

    def __len__(self):
        return len(self.images)

    @property
    def resolution(self):
        return self.images.shape[1]

    def identity(self):
        """What these images are, in words: where from, how many, and a hash of images, labels and classes."""
        told = hashlib.sha256(json.dumps([self.images.shape, self.classes]).encode())
        for part in (self.images, self.labels):
            told.update(np.ascontiguousarray(part))
        return f"{self.source}, {len(self)} images, sha256 {told.hexdigest()[:16]}"

    def counts(self):
        """Images per class, as a dict from class name to count."""
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist()))

    def take(self, per_class):
        """The first `per_class` images of every class, in the order of the classes; InputError if there are fewer."""
        per_class = whole("per_class", per_class)
        if short := {name: count for name, count in self.counts().items() if count < per_class}:
            raise InputError(f"{self.source} has fewer than {per_class} images of {short}; ask for fewer")
        rows = np.concatenate([np.flatnonzero(self.labels == c)[:per_class] for c in range(len(self.classes))])
        return LabelledImages(self.images[rows], self.labels[rows], self.classes, self.source)


def as_images(source, name="real", split="train"):
    """LabelledImages as they are, else of what `load_images` takes; InputError, which calls it `name`, for others."""
    if isinstance(source, LabelledImages):
        return source
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"{name} must be LabelledImages or what load_images takes, not {brief(source)}")
    return load_images(source, split)


def to_uint8(x):
    """Network output, (N, 3, H, W) float nominally in [-1, 1], to images, (N, H, W, 3) uint8, on the same device."""
    return (x.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def to_float(images, device=None):
    """Images, (N, H, W, 3) uint8 array or tensor, to network input, (N, 3, H, W) float32 in [-1, 1], channels-last."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    return images.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def load_images(source="cifar10", split="train", root=None, size=None, download=True):
    """Loads LabelledImages into memory.

    Args:
        source: "cifar10"; or a dataset zip (images and a `dataset.json` with `labels`: [[name, class index], ...] and
            optionally `classes`, as StyleGAN2-ADA's dataset tool makes it), or the folder that it unpacks to; or a
            folder with one folder of images for each class, whose names are in natural order (9 before 10). A zip is
            decoded once and then read from a cache that is checked by hash ($GSOC_KD_CACHE, else ~/.cache/gsoc_kd).
            Images are PNG, JPEG, WebP, BMP, GIF or TIFF files of one frame. They are turned as their EXIF orientation
            says; transparent pixels are white. Links are followed; hidden files do not count.
        split: "train" (50,000 images) or "test" (10,000), for "cifar10" only.
        root: a folder with cifar10-train.zip and cifar10-test.zip, or with torchvision's `cifar-10-batches-py`; None:
            the environment variable GSOC_KD_DATA, else `data`.
        size: enlarge or shrink to size x size pixels (Lanczos); None: as stored, and all must be equal.
        download: fetch CIFAR-10 through torchvision when it is not there.

    Raises:
        InputError: nothing there; a file that would be left out; a broken, odd-sized or too large image (named);
            missing labels; an empty class; folders that are splits (train, test) and not classes."""
    size = None if size is None else whole("size", size)
    if is_word(source, "cifar10"):
        return _load_cifar10(split, root, size, download)
    path = path_of(source, "the images' source")
    if os.path.isdir(path):
        return LabelledImages(*read_folder(path, size), path.absolute().name or str(path.absolute()))
    if not os.path.lexists(path):
        raise InputError(f"{path} does not exist; give 'cifar10', a dataset zip or a folder of class folders")
    if not os.path.isfile(path):
        raise InputError(f"{path} is neither a file nor a folder but a pipe, a device or a link to nowhere")
    try:
        if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
            return LabelledImages(*read_zip(path, size), path.name)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); mend that and try again") from None
    raise InputError(f"{path} is neither a dataset zip nor a folder of classes")


def _load_cifar10(split, root, size, download):
    if split not in ("train", "test"):
        raise InputError(f"split must be 'train' or 'test', got {split!r:.200}")
    root = path_of(root or os.environ.get("GSOC_KD_DATA") or "data", "the folder of CIFAR-10")
    if (archive := root / f"cifar10-{split}.zip").is_file():
        return load_images(archive, size=size)
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(root, train=split == "train", download=download)
    except (OSError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"CIFAR-10 is not in {root.absolute()} and could not be downloaded ({reason}). Connect to the internet and "
            f"run this again; or unpack cifar-10-python.tar.gz there, which gives {root / 'cifar-10-batches-py'}; or "
            "name a folder with cifar10-train.zip and cifar10-test.zip in the environment variable GSOC_KD_DATA"
        ) from None
    images = data.data
    if size is not None:
        images = space(len(data), size)
        for row, image in zip(images, data.data):
            row[:] = resized(Image.fromarray(image), size)
    labels, source = np.asarray(data.targets, np.int64), f"CIFAR-10 {split} (torchvision)"
    return LabelledImages(images, labels, tuple(data.classes), source)
