"""Reads folders: one folder of images for each class, or an unpacked dataset zip with its dataset.json."""

import contextlib
import os
import re
import stat
import warnings

import numpy as np

from ..core.checks import InputWarning
from ..core.files import InputError
from .decoding import decoded
from .listing import MOST_BYTES, check_names, counts, images_of, in_order, labels_of, most_of, only_dataset_json

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "val": "val", "valid": "val",
          "validation": "val", "dev": "val", "eval": "val", "holdout": "val"}  # fmt: skip
TABLES = (".json", ".jsonl", ".csv", ".tsv")  # which might hold labels


def read_folder(path, size):
    """A folder, see `load_images`: images (N, S, S, 3) uint8, labels (N,) int64, names of the classes."""
    folders, files = _walk(path)
    if (name := only_dataset_json(files, path)) is not None:
        labels, classes = labels_of(file_bytes(files[name]), name, list(files), path)
    else:
        labels, classes = _by_folder(path, folders, files)
    named = {str(files[x]): files[x] for x in labels}
    return decoded(file_bytes, named, size, f"read {path.name}"), np.array(list(labels.values()), np.int64), classes


def _by_folder(path, folders, files):
    """({image: class index}, names of the classes): a class is a folder in `path`, whatever folders it has inside."""
    if not folders:
        raise InputError(f"{path} has no class folders; put the images of each class into one of its own")
    images = images_of(files, f"{path}{os.sep}")
    _check_unread(path, files)
    if loose := [name for name in images if "/" not in name]:
        raise InputError(f"{path / loose[0]} lies beside the class folders: put it into one of them, or move it away")
    inside = {folder: sorted(x.split("/") for x in images if x.startswith(f"{folder}/")) for folder in folders}
    _check_splits(path, inside)
    if empty := [folder for folder in folders if not inside[folder]]:
        raise InputError(f"{path}: class folder {empty[0]!r} holds no image file; fill it or remove it")
    classes = check_names(in_order(folders), f"{path}: names of class folders")
    return {"/".join(parts): c for c, folder in enumerate(classes) for parts in inside[folder]}, classes


def _check_splits(path, inside):
    """InputError where the folders are train and test, or one around the classes, and not classes."""
    words = {folder: word for folder in inside if (word := _split(folder))}
    if len(set(words.values())) > 1:
        told = " and ".join(map(repr, words))
        one = path / next((folder for folder in words if words[folder] == "train"), next(iter(words)))
        raise InputError(f"{path}: {told} are parts of a dataset, not classes: give one of them, such as {one}")
    below = {folder: dict.fromkeys(parts[1] for parts in images if len(parts) > 2) for folder, images in inside.items()}
    alike = len({tuple(names) for names in below.values()}) == 1  # the same folders in each: perhaps the classes
    for folder, images in inside.items():
        parts = len(inside) == 1 or folder in words or (alike and len(below[folder]) > 1)
        if images and parts and all(len(names) > 2 for names in images):
            told = f"{path}: {folder!r} has no images of its own but folders ({', '.join(below[folder]):.80})"
            choice = "give it if these are the classes, or move the images up if it is a class itself"
            raise InputError(f"{told}; {choice}: {path / folder}")


def _split(name):
    """train, test or val where a folder's name says that: train, Testing, val2017, seg_train, trainA, testset."""
    words = [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)]
    return next((SPLITS[word] for word in (re.sub("(?<=.)(set|data)$", "", w) for w in words) if word in SPLITS), None)


def _check_unread(path, files):
    """InputError where labels are sure to lie elsewhere, in a dataset.json above; a warning where they might."""
    path = path.absolute()
    above, text = path.with_name("dataset.json"), b""
    with contextlib.suppress(InputError, OSError):
        text = file_bytes(above)
    if f'"{path.name}/'.encode() in text:
        raise InputError(f"{above} has the labels of the images in {path}: give {path.parent}, where it lies")
    if tables := [name for name in files if name.lower().endswith(TABLES)]:
        told = f"{path / tables[0]} is not read: the folders' names are the classes"
        warnings.warn(told, InputWarning, stacklevel=6)


def _walk(root):
    """Names of the folders in `root`, and {path below root, with /: path} of all files; links are followed. Hidden ones
    and what systems leave behind do not count. InputError: what cannot be read, is no file, or is met twice."""
    top, files, waiting, seen = [], {}, [(root, "")], {}
    while waiting:
        folder, name = waiting.pop()
        with _named(folder):
            status, entries = os.stat(folder), sorted(os.scandir(folder), key=lambda entry: entry.name)
        if (other := seen.setdefault((status.st_dev, status.st_ino), folder)) != folder:
            raise InputError(f"{folder} is {other} once more, by a link: its images would count twice; remove the link")
        for entry in entries:
            if not counts(entry.name):
                continue
            path, below = folder / entry.name, f"{name}{entry.name}"
            with _named(path):
                status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                waiting.append((path, f"{below}/"))
                top += [] if name else [entry.name]
            else:
                files[below] = path
                _check(path, status)
    return top, dict(sorted(files.items()))


@contextlib.contextmanager
def _named(path):
    """Turns the operating system's refusal to read `path` into a message: links to nowhere or in a circle, no right."""
    try:
        yield
    except OSError as error:
        link = ", a link" if os.path.islink(path) else ""
        raise InputError(f"{path}{link} cannot be read ({error.strerror}): mend it or remove it") from None


def _check(path, status):
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a file but a pipe, socket or device: remove it")
    if (most := most_of(path.name)) and status.st_size > most:
        raise InputError(f"{path} has {status.st_size:,} bytes, and {most:,} are the most; make it smaller")


def file_bytes(path):
    """What an image or JSON file holds; InputError for a pipe or device, and for more than MOST_BYTES."""
    with _named(path):
        _check(path, os.stat(path))
        with open(path, "rb") as file:
            return file.read(MOST_BYTES)
