"""Labelled images as uint8 arrays in memory: CIFAR-10, dataset zips, folders of classes (docs/CIFAR10.md)."""

import io
import json
import os
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ..core.files import InputError, read_json, replacing_folder, sha256, write_json

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUFFIXES = (".png", ".jpg", ".jpeg")
CACHED = ("images.npy", "labels.npy", "classes.json")  # what a decoded zip leaves in the cache


@dataclass(frozen=True)
class LabelledImages:
    """Images with a class each.

    images: (N, H, W, 3) uint8. labels: (N,) int64 in 0..C-1. classes: C names. source: where they come from.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple
    source: str

    def __len__(self):
        return len(self.images)

    @property
    def resolution(self):
        return self.images.shape[1]

    def counts(self):
        """Images a class, as a dict from class name to count."""
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist()))

    def take(self, per_class):
        """The first `per_class` images of every class, in the order of the classes."""
        if isinstance(per_class, bool) or not isinstance(per_class, int) or per_class < 1:
            raise InputError(f"per_class must be a positive whole number, got {per_class!r}")
        short = {name: n for name, n in self.counts().items() if n < per_class}
        if short:
            raise InputError(f"{self.source} has fewer than {per_class} images of {short}; ask for fewer")
        rows = [np.flatnonzero(self.labels == c)[:per_class] for c in range(len(self.classes))]
        rows = np.concatenate(rows)
        return LabelledImages(self.images[rows], self.labels[rows], self.classes, self.source)


def to_uint8(x):
    """Network output to pictures: scale, round, clamp, cast. The only place where this happens.

    x: (N, 3, H, W) float tensor, nominally in [-1, 1]. Returns (N, H, W, 3) uint8 on the same device.
    """
    import torch

    return (x.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def to_float(images, device=None):
    """Pictures to network input: (N, H, W, 3) uint8 array or tensor to (N, 3, H, W) float32 in [-1, 1].

    The result is channels-last in memory, as the pictures are.
    """
    import torch

    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    return images.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def load_images(source="cifar10", split="train", root=None, size=None, download=True):
    """Loads labelled images into memory.

    Args:
        source: "cifar10"; or a dataset zip (image members and a `dataset.json` with `labels`: [[name, class
            index], ...] and optionally `classes`, the layout of StyleGAN2-ADA's dataset tool); or a folder
            with one folder of PNG/JPEG files a class.
        split: "train" (50,000 images) or "test" (10,000), for "cifar10" only.
        root: where to look for CIFAR-10: a folder with cifar10-train.zip and cifar10-test.zip, or with
            torchvision's `cifar-10-batches-py`. Default: the environment variable GSOC_KD_DATA, else `data`.
        size: enlarge or shrink to size x size pixels (Lanczos). Default: as stored; all must then be equal.
        download: fetch CIFAR-10 through torchvision when it is not there.

    Returns:
        LabelledImages. A zip is decoded once and then read from a cache that is checked by hash
        ($GSOC_KD_CACHE, else ~/.cache/gsoc_kd).

    Raises:
        InputError: nothing there; a broken or odd-sized image (named); missing labels; an empty class.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f"size must be a positive whole number of pixels, got {size!r}")
    if source == "cifar10":
        return _load_cifar10(split, root, size, download)
    path = Path(source)
    if path.is_dir():
        return _load_class_folders(path, size)
    if path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
        return _load_zip(path, size)
    if path.is_file():
        raise InputError(f"{path} is neither a dataset zip nor a folder of classes")
    raise InputError(f"{path} does not exist; give 'cifar10', a dataset zip or a folder of class folders")


# ---------------------------------------------------------------- CIFAR-10


def _load_cifar10(split, root, size, download):
    if split not in ("train", "test"):
        raise InputError(f"split must be 'train' or 'test', got {split!r}")
    root = Path(root or os.environ.get("GSOC_KD_DATA") or "data")
    if (archive := root / f"cifar10-{split}.zip").is_file():
        return _load_zip(archive, size)
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(root, train=split == "train", download=download)
    except (OSError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"CIFAR-10 is not in {root.absolute()} and could not be downloaded ({reason}). Provide it in one "
            f"of three ways: connect to the internet and run this again (torchvision downloads it); unpack "
            f"cifar-10-python.tar.gz there, so that {root / 'cifar-10-batches-py'} exists; or put "
            f"cifar10-train.zip and cifar10-test.zip into a folder and name it in the environment variable "
            f"GSOC_KD_DATA"
        ) from None
    images = data.data
    if size not in (None, 32):
        images = np.stack([_resize(Image.fromarray(image), size) for image in images])
    return LabelledImages(
        images, np.asarray(data.targets, np.int64), tuple(data.classes), f"CIFAR-10 {split} (torchvision)"
    )


# ---------------------------------------------------------------- dataset zips


def _load_zip(path, size):
    cache = Path(os.environ.get("GSOC_KD_CACHE") or Path.home() / ".cache" / "gsoc_kd")
    entry = cache / f"{path.stem}-{sha256(path)[:16]}{f'-{size}' if size else ''}"
    cached = _read_cache(entry, path)
    if cached:
        return cached
    try:
        with zipfile.ZipFile(path) as archive:
            labels, classes = _zip_labels(archive, path)
            images = _stack(
                (_decode(lambda: archive.read(name), f"{path}:{name}", size), f"{path}:{name}")
                for name in tqdm(labels, desc=f"decode {path.name}", unit="img", leave=False)
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{path} is a damaged zip file ({error}); copy or download it again") from None
    loaded = LabelledImages(images, np.array(list(labels.values()), np.int64), classes, path.name)
    _write_cache(entry, loaded)
    return loaded


def _zip_labels(archive, path):
    """{member: class index} and class names from dataset.json: every image labelled, no class empty."""
    names = archive.namelist()
    if "dataset.json" not in names:
        raise InputError(
            f"{path} has no dataset.json with the labels; make it with a dataset tool, or "
            f"unpack the images into one folder a class and give that folder"
        )
    try:
        info = json.loads(archive.read("dataset.json"))
        rows = [(name, label) for name, label in info["labels"]]
        labels = dict(rows)
        if wrong := [row for row in rows if [type(value) for value in row] != [str, int]]:
            raise ValueError(f"found {list(wrong[0])}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: dataset.json must hold 'labels' as [[name, class index], ...] ({error!r})") from None
    if len(labels) < len(rows):
        raise InputError(f"{path}: dataset.json labels {_twice(name for name, _ in rows)} twice")
    members = [n for n in names if n.lower().endswith(SUFFIXES)]
    if missing := [n for n in members if n not in labels]:
        raise InputError(f"{path}: dataset.json has no label for {missing[0]} ({len(missing)} without label)")
    if absent := sorted(set(labels) - set(members)):
        raise InputError(f"{path}: dataset.json names {absent[0]}, which is not in the zip ({len(absent)} missing)")
    if not labels:
        raise InputError(f"{path} holds no images")
    classes = info.get("classes")
    if classes is None:  # as many as the labels need; but a label beyond the number of images is an error
        classes = [str(c) for c in range(min(max(labels.values()), len(labels)) + 1)]
    elif not isinstance(classes, list) or not classes or any(not isinstance(c, str) for c in classes):
        raise InputError(f"{path}: 'classes' in dataset.json must be a list of names, got {classes!r}")
    if len(set(classes)) < len(classes):
        raise InputError(f"{path}: 'classes' in dataset.json holds {_twice(classes)!r} twice")
    for name, label in labels.items():
        if not 0 <= label < len(classes):
            raise InputError(
                f"{path}: dataset.json gives {name} the label {label}; labels start at 0, and "
                f"there are {len(classes)} classes"
            )
    if empty := sorted(set(range(len(classes))) - set(labels.values())):
        raise InputError(f"{path}: class {classes[empty[0]]!r} has no images; add some or leave it out")
    return labels, tuple(classes)


def _twice(names):
    return Counter(names).most_common(1)[0][0]


def _read_cache(entry, path):
    try:
        if read_json(entry / "manifest.json") != {name: sha256(entry / name) for name in CACHED}:
            return None  # damaged: decode again
        images, labels = np.load(entry / "images.npy"), np.load(entry / "labels.npy")
        return LabelledImages(images, labels, tuple(read_json(entry / "classes.json")), path.name)
    except (InputError, OSError):
        return None


def _write_cache(entry, data):
    try:
        with replacing_folder(entry) as folder:
            np.save(folder / "images.npy", data.images)
            np.save(folder / "labels.npy", data.labels)
            write_json(folder / "classes.json", data.classes)
            write_json(folder / "manifest.json", {name: sha256(folder / name) for name in CACHED})
    except OSError:
        pass  # a cache that cannot be written only costs time


# ---------------------------------------------------------------- folders of classes


def _load_class_folders(path, size):
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not _hidden(p, path))
    if not folders:
        raise InputError(f"{path} has no class folders; put the images of each class into one of its own")
    files = [[p for p in sorted(f.rglob("*")) if p.suffix.lower() in SUFFIXES and not _hidden(p, f)] for f in folders]
    if empty := [f.name for f, inside in zip(folders, files) if not inside]:
        raise InputError(f"{path}: class folder {empty[0]!r} holds no PNG or JPEG file; fill it or remove it")
    flat = [(p, c) for c, inside in enumerate(files) for p in inside]
    images = _stack(
        (_decode(p.read_bytes, str(p), size), str(p))
        for p, _ in tqdm(flat, desc=f"read {path.name}", unit="img", leave=False)
    )
    labels = np.array([c for _, c in flat], np.int64)
    return LabelledImages(images, labels, tuple(f.name for f in folders), path.absolute().name)


def _hidden(path, top):
    """Whether a name below `top` starts with a dot: .ipynb_checkpoints, ._photo.jpg, .thumbnails."""
    return any(part.startswith(".") for part in path.relative_to(top).parts)


# ---------------------------------------------------------------- shared


def _decode(read, name, size):
    try:
        image = Image.open(io.BytesIO(read()))
        if image.mode[0] in "IF":  # 16 bits and more: converting would cut all but the darkest off
            raise ValueError("more than 8 bits a channel")
        image = image.convert("RGB")
    except UnidentifiedImageError:
        raise InputError(f"{name} is not an image, whatever its name says; repair or remove it") from None
    except Exception as error:  # noqa: BLE001  decoders raise many kinds for damaged bytes
        raise InputError(f"{name} cannot be read as an image ({error}); repair or remove it") from None
    return _resize(image, size) if size else np.asarray(image)


def _resize(image, size):
    return np.asarray(image if image.size == (size, size) else image.resize((size, size), Image.LANCZOS))


def _stack(named_images):
    images, first = [], None
    for image, name in named_images:
        first = first or (image.shape, name)
        if image.shape != first[0] or image.shape[0] != image.shape[1]:
            raise InputError(
                f"{name} is {image.shape[1]}x{image.shape[0]} pixels, but all must be square and equal "
                f"({first[1]} is {first[0][1]}x{first[0][0]}); give size=... to scale them"
            )
        images.append(image)
    return np.stack(images)
