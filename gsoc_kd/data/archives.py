"""Reads dataset zips, which are decoded once and then kept in a cache."""

import contextlib
import io
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from ..core.files import InputError, locked, read_json, replacing_folder, sha256, sweep, write_json
from .decoding import decoded
from .listing import MOST_BYTES, MOST_LISTED, counts, labels_of, most_of, only_dataset_json

CACHED = ("images.npy", "labels.npy", "classes.json")  # what a decoded zip leaves in the cache
RULES = 2  # of decoding; what was kept under other rules is made again
HUGE = 2**30  # bytes; a zip that is larger is looked into before it is hashed


def read_zip(path, size):
    """A dataset zip, see `load_images`: images (N, S, S, 3) uint8, labels (N,) int64, names of the classes; from a
    cache where it lies unchanged."""
    with contextlib.ExitStack() as opened:
        listed = _listed(path, opened) if path.stat().st_size > HUGE else None
        entry = _entry(path, size)
        if (kept := _kept(entry)) is not None:
            return kept
        archive, labels, classes = listed or _listed(path, opened)
        files = {f"{path}:{name}": name for name in labels}
        images = decoded(lambda name: _member(archive, name), files, size, f"decode {path.name}")
    labels = np.array(list(labels.values()), np.int64)
    if entry is not None:
        with contextlib.suppress(OSError, InputError), replacing_folder(entry) as folder:  # it only costs time
            np.save(folder / "images.npy", images)
            np.save(folder / "labels.npy", labels)
            write_json(folder / "classes.json", classes)
            write_json(folder / "manifest.json", _manifest(folder))
    return images, labels, classes


# ---------------------------------------------------------------- the cache


def _entry(path, size):
    """Where the decoded zip lies or will lie, a folder; None where there is no place for a cache."""
    try:
        home = os.environ.get("GSOC_KD_CACHE") or Path("~", ".cache", "gsoc_kd")
        return Path(home).expanduser() / f"{path.stem[:80]}-{sha256(path)[:16]}{f'-{size}' if size else ''}"
    except RuntimeError:  # no home
        return None


def _kept(entry):
    """What the cache holds, or None where it is missing or damaged."""
    if entry is None:
        return None
    _tidy(entry.parent)
    with contextlib.suppress(InputError, OSError, ValueError):
        if read_json(entry / "manifest.json") == _manifest(entry):
            images, labels = np.load(entry / "images.npy"), np.load(entry / "labels.npy")
            return images, labels, tuple(read_json(entry / "classes.json"))
    return None


def _tidy(folder):
    """Clears what processes that were killed left in the cache: half entries, locks of nobody."""
    with contextlib.suppress(OSError):
        sweep(folder)
        for lock in folder.glob(".*.lock"):
            with contextlib.suppress(InputError), locked(folder / lock.name[1:-5]):
                pass


def _manifest(folder):
    return {"rules": RULES} | {name: sha256(folder / name) for name in CACHED}


# ---------------------------------------------------------------- the zip


class _Bounded(io.BufferedReader):
    """A file of which little is read at once: how long a zip's list of members is, stands in the zip itself."""

    most = MOST_LISTED

    def read(self, size=-1):
        if size is not None and size > self.most:
            raise zipfile.BadZipFile(f"{size:,} bytes at once, and {self.most:,} are the most")
        return super().read(size)


def _listed(path, opened):
    """The zip, which `opened` (an ExitStack) closes, {member: class index} and names of the classes. All sizes are
    checked before a member is read."""
    try:
        file = opened.enter_context(_Bounded(io.FileIO(path)))
        archive = opened.enter_context(zipfile.ZipFile(file))
        file.most = MOST_BYTES
        name, names = _checked(archive, path)
        text = _member(archive, name)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  many kinds, for damaged bytes
        raise InputError(f"{path} is a damaged zip file ({error!s:.200}); copy or download it again") from None
    return archive, *labels_of(text, name, names, path)


def _checked(archive, path):
    """The path of dataset.json and those of all members that count; InputError where one cannot be read."""
    names = []
    for member in archive.infolist():
        if member.is_dir() or not all(map(counts, member.filename.split("/"))):
            continue
        names.append(member.filename)
        if member.flag_bits & 1:
            raise InputError(f"{path}:{names[-1]} is encrypted: unpack the zip and give the folder")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{path}:{names[-1]} is packed in another way than stored or deflated; pack it again")
        if member.file_size > (most := most_of(member.filename) or MOST_BYTES):
            told = f"{member.file_size:,} bytes, and {most:,} are the most"
            raise InputError(f"{path}:{names[-1]} has {told}; make it smaller")
    if path.stat().st_size > sum(member.compress_size for member in archive.infolist()) + 2**27:
        raise InputError(f"{path} is mostly something else than its members; pack it again")
    if len(set(names)) < len(names):
        raise InputError(f"{path} holds {Counter(names).most_common(1)[0][0]} twice; pack it again")
    if (name := only_dataset_json(names, path)) is None:
        told = "if its folders are the classes, unpack it and give the folder"
        raise InputError(f"{path} has no dataset.json with the labels; {told}")
    return name, names


def _member(archive, name):
    """The bytes of one member, whose check sum is verified; never more than its directory says."""
    with archive.open(name) as file:
        return file.read(archive.getinfo(name).file_size + 1)  # one more, so that the end is met
