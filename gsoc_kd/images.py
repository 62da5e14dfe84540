"""Labelled images as uint8 arrays in memory: CIFAR-10, dataset zips, folders of classes (docs/CIFAR10.md)."""
import io
import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .files import InputError, read_json, replacing_folder, sha256, write_json

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUFFIXES = (".png", ".jpg", ".jpeg")


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
        short = {name: n for name, n in self.counts().items() if n < per_class}
        if short:
            raise InputError(f"{self.source} has fewer than {per_class} images of {short}; ask for fewer")
        rows = np.concatenate([np.flatnonzero(self.labels == c)[:per_class] for c in range(len(self.classes))])
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
            index], ...] and optionally `classes`, the layout of StyleGAN2-ADA's dataset tool); or a folder with
            one folder of PNG/JPEG files a class.
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
    if size is not None and (not isinstance(size, int) or size < 1):
        raise InputError(f"size must be a positive whole number of pixels, got {size!r}")
    if source == "cifar10":
        return _load_cifar10(split, root, size, download)
    path = Path(source)
    if path.is_dir():
        return _load_class_folders(path, size)
    if path.is_file() and zipfile.is_zipfile(path):
        return _load_zip(path, size)
    if path.is_file():
        raise InputError(f"{path} is neither a dataset zip nor a folder of classes")
    raise InputError(f"{path} does not exist; give 'cifar10', a dataset zip or a folder with a folder a class")


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
        raise InputError(
            f"CIFAR-10 is not in {root.absolute()} and could not be downloaded ({str(error).splitlines()[0]}). Provide "
            f"it in one of three ways: connect to the internet and run this again (torchvision downloads it); unpack "
            f"cifar-10-python.tar.gz there, so that {root / 'cifar-10-batches-py'} exists; or put cifar10-train.zip "
            f"and cifar10-test.zip into a folder and name it in the environment variable GSOC_KD_DATA") from None
    images = data.data if size in (None, 32) else np.stack([_resize(Image.fromarray(i), size) for i in data.data])
    return _checked(images, np.asarray(data.targets), tuple(data.classes), f"CIFAR-10 {split} (torchvision)")


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
            images = _stack((_decode(lambda name=name: archive.read(name), f"{path}:{name}", size), f"{path}:{name}")
                            for name in tqdm(labels, desc=f"decode {path.name}", unit="img", leave=False))
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is a damaged zip file ({error}); copy or download it again") from None
    loaded = _checked(images, np.array(list(labels.values())), classes, str(path.name))
    _write_cache(entry, loaded)
    return loaded


def _zip_labels(archive, path):
    """{member: class index} and class names from dataset.json, every image member labelled."""
    names = archive.namelist()
    if "dataset.json" not in names:
        raise InputError(f"{path} has no dataset.json with the labels; make it with a dataset tool, or unpack the "
                         f"images into one folder a class and give that folder")
    try:
        info = json.loads(archive.read("dataset.json"))
        labels = {str(name): int(label) for name, label in info["labels"]}
    except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: dataset.json must hold 'labels' as [[name, class index], ...] ({error!r})") from None
    members = [n for n in names if n.lower().endswith(SUFFIXES)]
    if missing := [n for n in members if n not in labels]:
        raise InputError(f"{path}: dataset.json has no label for {missing[0]} ({len(missing)} without label)")
    if absent := sorted(set(labels) - set(members)):
        raise InputError(f"{path}: dataset.json names {absent[0]}, which is not in the zip ({len(absent)} missing)")
    if not labels:
        raise InputError(f"{path} holds no images")
    classes = tuple(info.get("classes") or (str(c) for c in range(max(labels.values()) + 1)))
    return labels, classes


def _read_cache(entry, path):
    try:
        manifest = read_json(entry / "manifest.json")
        if any(sha256(entry / name) != digest for name, digest in manifest["sha256"].items()):
            return None  # damaged: decode again
        return LabelledImages(np.load(entry / "images.npy"), np.load(entry / "labels.npy"),
                              tuple(manifest["classes"]), path.name)
    except (InputError, OSError, KeyError):
        return None


def _write_cache(entry, data):
    try:
        with replacing_folder(entry) as folder:
            np.save(folder / "images.npy", data.images)
            np.save(folder / "labels.npy", data.labels)
            write_json(folder / "manifest.json", {
                "classes": data.classes, "sha256": {n: sha256(folder / n) for n in ("images.npy", "labels.npy")}})
    except OSError:
        pass  # a cache that cannot be written only costs time


# ---------------------------------------------------------------- folders of classes

def _load_class_folders(path, size):
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise InputError(f"{path} has no class folders; put the images of each class into a folder of its own")
    files = [[p for p in sorted(f.rglob("*")) if p.suffix.lower() in SUFFIXES] for f in folders]
    if empty := [f.name for f, inside in zip(folders, files) if not inside]:
        raise InputError(f"{path}: class folder {empty[0]!r} holds no PNG or JPEG file; fill it or remove it")
    flat = [(p, c) for c, inside in enumerate(files) for p in inside]
    images = _stack((_decode(p.read_bytes, str(p), size), str(p))
                    for p, _ in tqdm(flat, desc=f"read {path.name}", unit="img", leave=False))
    return _checked(images, np.array([c for _, c in flat]), tuple(f.name for f in folders), str(path.name))


# ---------------------------------------------------------------- shared

def _decode(read, name, size):
    try:
        image = Image.open(io.BytesIO(read())).convert("RGB")
    except (OSError, SyntaxError, zlib.error, zipfile.BadZipFile, Image.DecompressionBombError) as error:
        raise InputError(f"{name} cannot be read as an image ({error}); repair or remove it") from None
    return _resize(image, size) if size else np.asarray(image)


def _resize(image, size):
    return np.asarray(image if image.size == (size, size) else image.resize((size, size), Image.LANCZOS))


def _stack(named_images):
    images, first = [], None
    for image, name in named_images:
        first = first or (image.shape, name)
        if image.shape != first[0] or image.shape[0] != image.shape[1]:
            raise InputError(f"{name} is {image.shape[1]}x{image.shape[0]} pixels, but all must be square and equal "
                             f"({first[1]} is {first[0][1]}x{first[0][0]}); give size=... to scale them")
        images.append(image)
    return np.stack(images)


def _checked(images, labels, classes, source):
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    if (labels < 0).any() or len(counts) > len(classes):
        raise InputError(f"{source}: labels must lie in 0..{len(classes) - 1} for {len(classes)} classes, found "
                         f"{labels.min()}..{labels.max()}")
    if (counts == 0).any():
        raise InputError(f"{source}: class {classes[int(np.argmin(counts))]!r} has no images")
    return LabelledImages(np.ascontiguousarray(images), labels.astype(np.int64), classes, source)
