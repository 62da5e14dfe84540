"""Reads dataset zips, which are decoded once and then kept in a cache, and folders of classes: both give images
(N, H, W, 3) uint8, labels (N,) int64, names of the classes."""

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ..core.files import InputError, read_json, replacing_folder, sha256, write_json

SUFFIXES = (".png", ".jpg", ".jpeg")
CACHED = ("images.npy", "labels.npy", "classes.json")  # what a decoded zip leaves in the cache


def read_zip(path, size):
    """A dataset zip, see `load_images`; from a cache where it lies unchanged."""
    cache = Path(os.environ.get("GSOC_KD_CACHE") or Path.home() / ".cache" / "gsoc_kd")
    entry = cache / f"{path.stem}-{sha256(path)[:16]}{f'-{size}' if size else ''}"
    with contextlib.suppress(InputError, OSError):  # what is missing or damaged is made again
        if read_json(entry / "manifest.json") == {name: sha256(entry / name) for name in CACHED}:
            images, labels = np.load(entry / "images.npy"), np.load(entry / "labels.npy")
            return images, labels, tuple(read_json(entry / "classes.json"))
    try:
        with zipfile.ZipFile(path) as archive:
            labels, classes = _labels(archive, path)
            images = _decoded(archive.read, {f"{path}:{name}": name for name in labels}, size, f"decode {path.name}")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{path} is a damaged zip file ({error}); copy or download it again") from None
    labels = np.array(list(labels.values()), np.int64)
    with contextlib.suppress(OSError), replacing_folder(entry) as folder:  # not being able to keep it only costs time
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", labels)
        write_json(folder / "classes.json", classes)
        write_json(folder / "manifest.json", {name: sha256(folder / name) for name in CACHED})
    return images, labels, classes


def _labels(archive, path):
    """{member: class index} and class names from dataset.json: every image labelled, no class empty."""
    names, file = archive.namelist(), f"{path}: dataset.json"
    if "dataset.json" not in names:
        raise InputError(f"{path} has no dataset.json with the labels; give a folder with one folder a class instead")
    try:
        info = json.loads(archive.read("dataset.json"))
        rows = [(name, label) for name, label in info["labels"]]
        if wrong := [row for row in rows if [type(value) for value in row] != [str, int]]:
            raise ValueError(f"found {list(wrong[0])}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} must hold 'labels' as [[name, class index], ...] ({error!r})") from None
    if len(labels := dict(rows)) < len(rows):
        raise InputError(f"{file} labels {Counter(name for name, _ in rows).most_common(1)[0][0]} twice")
    members = [name for name in names if name.lower().endswith(SUFFIXES)]
    if missing := [name for name in members if name not in labels]:
        raise InputError(f"{file} has no label for {missing[0]} ({len(missing)} without label)")
    if absent := sorted(labels.keys() - members):
        raise InputError(f"{file} names {absent[0]}, which is not in the zip ({len(absent)} missing)")
    if not labels:
        raise InputError(f"{path} holds no images")
    classes = info.get("classes")
    if classes is None:  # as many as the labels need; but a label beyond the number of images is an error
        classes = [str(c) for c in range(min(max(labels.values()), len(labels)) + 1)]
    listed = isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)
    if not listed or len(set(classes)) < len(classes):
        raise InputError(f"{path}: 'classes' in dataset.json must be a list of different names, got {classes!r}")
    if wrong := [row for row in rows if not 0 <= row[1] < len(classes)]:
        raise InputError(f"{file}: label {wrong[0][1]} of {wrong[0][0]} does not lie in 0..{len(classes) - 1}")
    if empty := sorted(set(range(len(classes))) - set(labels.values())):
        raise InputError(f"{path}: class {classes[empty[0]]!r} has no images; add some or leave it out")
    return labels, tuple(classes)


def read_folders(path, size):
    """A folder with one folder of PNG and JPEG files for each class. Names that start with a dot do not count."""
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise InputError(f"{path} has no class folders; put the images of each class into one of its own")
    found = [[p for p in sorted(f.rglob("*")) if p.suffix.lower() in SUFFIXES] for f in folders]
    files = [[p for p in inside if "/." not in p.relative_to(path).as_posix()] for inside in found]
    if empty := [f.name for f, inside in zip(folders, files) if not inside]:
        raise InputError(f"{path}: class folder {empty[0]!r} holds no PNG or JPEG file; fill it or remove it")
    images = _decoded(Path.read_bytes, {str(p): p for inside in files for p in inside}, size, f"read {path.name}")
    labels = np.repeat(np.arange(len(files)), [len(inside) for inside in files])
    return images, labels, tuple(f.name for f in folders)


def _decoded(read, files, size, told):
    """The images of {name: file}, all of one size; read(file) gives the bytes of one. `told` stands at the bar."""
    images, first = [], None
    for name, file in tqdm(files.items(), desc=told, unit="img", leave=False):
        try:
            image = Image.open(io.BytesIO(read(file)))
            if image.mode[0] in "IF":  # 16 bits and more: converting would cut all but the darkest off
                raise ValueError("more than 8 bits a channel")
            image = resized(image.convert("RGB"), size)
        except UnidentifiedImageError:
            raise InputError(f"{name} is not an image, whatever its name says; repair or remove it") from None
        except Exception as error:  # noqa: BLE001  decoders raise many kinds for damaged bytes
            raise InputError(f"{name} cannot be read as an image ({error}); repair or remove it") from None
        first = first or (name, image)
        if image.shape != first[1].shape or image.shape[0] != image.shape[1]:
            this, other = (f"{n} is {x.shape[1]}x{x.shape[0]}" for n, x in ((name, image), first))
            raise InputError(f"{this} pixels, but all must be square and equal ({other}); give size=... to scale them")
        images.append(image)
    return np.stack(images)


def resized(image, size):
    """A PIL image as an array, scaled to size x size pixels (Lanczos) unless size is None."""
    return np.asarray(image.resize((size, size), Image.LANCZOS) if size else image)
