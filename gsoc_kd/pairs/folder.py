"""The folder of pairs: noise, label and image, and how they came about (docs/Black-Box-Distillation.md).

images.npy    (N, H, H, 3) uint8      what the teacher generated
labels.npy    (N,) int64              what it was asked for
latents.npy   (N, z_dim) float16      the noise it was given, to the last bit
manifest.json                         SETTINGS, how many pairs for each class, the sha256 of each file, its own checksum
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.checks import path_of
from ..core.files import InputError, contents, locked, read_json, real, replacing_folder, sha256, write_json
from ..core.latents import SAMPLERS
from ..data.listing import check_names

FORMAT = 1
FILES = {"images.npy": np.uint8, "labels.npy": np.int64, "latents.npy": np.float16}
SETTINGS = "format teacher digest psi half seed chunk per_class z_dim z_from resolution classes source".split()
KINDS = {  # of what a manifest says
    **dict(format=(int,), teacher=(str,), digest=(str, None), psi=(float, int, None), half=(bool, None)),
    **dict.fromkeys(("seed", "chunk", "per_class"), (int, None)),
    **dict(z_dim=(int,), z_from=(str,), resolution=(int,), classes=(list,), source=(dict, None)),
    **dict(count=(int,), counts=(list,), sha256=(dict,)),
}
AGAIN = "restore the folder, or remove it and make the pairs again"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Noise z, label y and image x = teacher(z, y); `make_pairs` orders them class by class."""

    images: np.ndarray  # (N, H, H, 3) uint8, read from disk as needed
    labels: np.ndarray  # (N,) int64, 0 .. num_classes - 1
    latents: np.ndarray  # (N, z_dim) float16, read from disk as needed
    manifest: dict  # contents of manifest.json
    path: Path  # their folder

    classes = property(lambda self: tuple(self.manifest["classes"]))  # their names
    num_classes = property(lambda self: len(self.classes))
    z_dim = property(lambda self: self.latents.shape[1])
    z_from = property(lambda self: self.manifest["z_from"])  # normal or uniform (core/latents.py)
    resolution = property(lambda self: self.images.shape[1])

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        size = f"{self.resolution}x{self.resolution} pixels, z of {self.z_dim}"
        return f"Pairs({len(self)} of {self.num_classes} classes, {size}, {str(self.path)!r})"


def load_pairs(path, verify: bool = True):
    """Opens a folder that `make_pairs` or `save_pairs` wrote, as Pairs. One in the layout of 2022 (class_3/image_0.png
    beside noise_0.pt) is first converted, once, as `convert_pairs` says. The manifest's checksum is always compared,
    and with `verify` the sha256 of every file (it reads all of them once). Images and latents are memory-mapped: read
    as needed, and changes to them stay in memory. InputError names what is missing, damaged or does not fit, and what
    to do."""
    from .fakecifar10 import convert_pairs, is_layout  # which itself writes pairs

    path, arrays = path_of(path, "the pairs' folder"), {}
    about = path / "manifest.json"
    if not about.is_file():
        for partial in (path, path.with_name(path.name + ".partial")):
            if (partial / "progress.json").is_file():
                raise InputError(f"{partial} is unfinished: run the command that makes it again, and it continues")
        what = "has no manifest.json" if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
        if is_layout(path):
            return convert_pairs(path)
        raise InputError(f"{path} {what}: make it with gsoc_kd.make_pairs, or gsoc_kd.pairs.save_pairs for your own")
    manifest = read_json(about, check=True)
    for key, kinds in KINDS.items():
        value = manifest.get(key, ...)
        if type(value) not in kinds and not (value is None and None in kinds):
            expected = " or ".join(getattr(kind, "__name__", "null") for kind in kinds)
            raise InputError(f"{about}: field {key!r} is missing or is no {expected}: {AGAIN}")
    if manifest["format"] != FORMAT:
        raise InputError(f"{about} states format {manifest['format']}, but this version reads {FORMAT}: {AGAIN}")
    if manifest["z_from"] not in SAMPLERS:
        raise InputError(f"{about}: field 'z_from' must be one of {', '.join(SAMPLERS)}: {AGAIN}")
    for name in FILES:
        arrays[name] = open_array(path / name)
        if len(arrays[name]) != manifest["count"]:  # before all of it is read
            raise InputError(f"{path / name} has {len(arrays[name])} rows, {about} says {manifest['count']}: {AGAIN}")
    for name in FILES if verify else ():
        if sha256(path / name) != manifest["sha256"].get(name):
            raise InputError(f"{path / name} is not the file of the manifest (its sha256 differs): {AGAIN}")
    _check(path, arrays, manifest["classes"])
    images, labels, latents = arrays.values()
    counts = np.bincount(labels, minlength=len(manifest["classes"])).tolist()
    found = dict(count=len(labels), z_dim=latents.shape[1], resolution=images.shape[1], counts=counts)
    if told := {key: manifest.get(key) for key, value in found.items() if manifest.get(key) != value}:
        raise InputError(f"{about} states {told}, but the files hold {found}: {AGAIN}")
    return Pairs(images, np.array(labels), latents, manifest, Path(os.path.abspath(path)))


def save_pairs(images, labels, latents, out, classes=None, teacher: str = "foreign", z_from: str | None = None):
    """Writes pairs that somebody else's code made into the folder `out`, which must not exist yet, and loads them.
    InputError names the array that does not fit, its dtype or shape; or `out` exists.

    Args:
        images, labels: uint8 (N, H, H, 3), and whole numbers (N,), 0 .. C - 1, at least one of each class.
        latents: finite floats (N, z_dim), kept as float16: best rounded so before the teacher saw them.
        classes: C names; None: "0", "1", ...
        teacher: what the manifest calls the generator that made the images.
        z_from: what the latents were drawn from, "normal" or "uniform"; None: uniform if all lie from 0 to 1."""
    (images, labels, latents), out = map(np.asarray, (images, labels, latents)), output_folder(out)
    if labels.dtype.kind not in "iu" or latents.dtype.kind != "f":
        raise InputError(f"labels must be whole numbers and latents floats, not {labels.dtype} and {latents.dtype}")
    with np.errstate(over="ignore"):
        images, labels, latents = arrays = images, labels.astype(np.int64), latents.astype(np.float16)
    arrays = dict(zip(FILES, arrays))
    classes = [str(name) for name in (range(int(labels.max(initial=-1)) + 1) if classes is None else classes)]
    _check("the given pairs", arrays, classes)
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        raise InputError(f"class {classes[int(counts.argmin())]!r} has no pairs: add some, or leave the class out")
    known = dict(format=FORMAT, teacher=str(teacher), z_dim=latents.shape[1], resolution=images.shape[1])
    known["z_from"] = guess_z_from(latents) if z_from is None else z_from
    if known["z_from"] not in [*SAMPLERS]:
        raise InputError(f"z_from must be one of {', '.join(SAMPLERS)}, not {z_from!r}")
    with locked(out):
        if out.is_dir() and contents(out):
            raise InputError(f"{out} already exists and is left as it is: choose another out, or remove it")
        with replacing_folder(out) as folder:
            for name, array in arrays.items():
                np.save(folder / name, array)
            hashes = {name: sha256(folder / name) for name in FILES}
            write_manifest(folder, dict.fromkeys(SETTINGS) | known | dict(classes=classes), counts.tolist(), hashes)
    return load_pairs(out, verify=False)


def guess_z_from(latents):
    """What finite latents (N, z_dim) were drawn from: "uniform" if all lie from 0 to 1 and differ, else "normal"."""
    low, high = np.min(latents), np.max(latents)
    return "uniform" if 0 <= low < high <= 1 else "normal"


def write_manifest(folder, settings, counts, hashes):
    """Completes a folder of pairs. Two runs that make the same pairs write the same manifest."""
    told = {**settings, "count": sum(counts), "counts": counts, "sha256": hashes}
    write_json(folder / "manifest.json", told, check=True)


def output_folder(out):
    """`out` as a Path that can be made, or, if it is a link, where it leads; InputError if it is no name for a folder
    or is a file."""
    out = path_of(out, "out")
    place = real(out)
    out = place if os.path.islink(out) else out
    if not out.name or (place.exists() and not place.is_dir()):
        raise InputError(f"out must name a folder that can be made, not {str(out)!r}")
    if os.path.ismount(place):
        raise InputError(f"{out} is where a disk begins, and cannot be replaced: choose a folder inside it as out")
    return out


def open_array(file):
    """A .npy file, read as needed; changes to it stay in memory. InputError if that is not possible."""
    try:
        if not file.is_file():
            raise OSError("no such file")
        array = np.lib.format.open_memmap(file, mode="c")
        if not array.ndim or file.stat().st_size != array.offset + array.nbytes:
            raise OSError("it is not as long as it says")
        return array
    except Exception as error:  # noqa: BLE001  what a damaged header makes numpy raise cannot be listed
        told = "".join(filter(str.isprintable, str(error)))[:200]
        raise InputError(f"{file} is missing or cannot be read ({told}): {AGAIN}") from None


def _check(where, arrays, classes):
    """Dtypes, shapes and values of the three arrays, or an InputError that names the one that is wrong."""
    images, labels, latents = arrays.values()
    square = images.ndim == 4 and images.shape[1:] == (images.shape[1], images.shape[1], 3)
    forms = {"(N, H, H, 3)": square, "(N,)": labels.ndim == 1, "(N, z_dim)": latents.ndim == 2}
    for (name, array), dtype, (form, fits) in zip(arrays.items(), FILES.values(), forms.items()):
        if array.dtype != dtype or not fits or array.size == 0 or len(array) != len(images):
            expected = f"{np.dtype(dtype)} {form} with the same N > 0 in all three"
            raise InputError(f"{where}: {name} is {array.dtype} {array.shape}, expected {expected}")
    check_names(classes, f"{where}: classes")
    if len(bad := np.flatnonzero((labels < 0) | (labels >= len(classes)))):
        raise InputError(f"{where}: labels.npy holds {labels[bad[0]]} in row {bad[0]}, not 0 to {len(classes) - 1}")
    if len(bad := np.flatnonzero(~np.isfinite(latents.sum(axis=1, dtype=np.float32)))):
        raise InputError(f"{where}: latents.npy is not finite in row {bad[0]} (float16 reaches 65504)")
