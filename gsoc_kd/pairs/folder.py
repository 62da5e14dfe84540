"""The folder of triples on disk: noise, label and picture, with a manifest that says how they came about.

    images.npy    (N, H, H, 3) uint8      what the teacher drew
    labels.npy    (N,) int64              what it was asked for
    latents.npy   (N, z_dim) float16      the noise it was given, to the last bit
    manifest.json                         teacher and its hash, seed, psi, half, chunk, classes, counts, and
                                          the sha256 of each file

The format alone; `pairs.py` fills it. See docs/Black-Box-Distillation.md.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import InputError, read_json, replacing_folder, sha256, write_json, writing

FORMAT = 1
FILES = {"images.npy": np.uint8, "labels.npy": np.int64, "latents.npy": np.float16}
SETTINGS = (
    "format",
    "teacher",
    "digest",
    "psi",
    "half",
    "seed",
    "chunk",
    "per_class",
    "z_dim",
    "resolution",
    "classes",
)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Triples (z, y, x) with x = teacher(z, y); `make_pairs` orders them class by class."""

    images: np.ndarray  # (N, H, H, 3) uint8, read from disk as needed
    labels: np.ndarray  # (N,) int64, 0 .. num_classes - 1
    latents: np.ndarray  # (N, z_dim) float16, read from disk as needed
    manifest: dict  # contents of manifest.json
    path: Path  # their folder

    def __repr__(self):
        side = self.resolution
        return (
            f"Pairs({len(self)} of {self.num_classes} classes, {side}x{side} pixels, z of {self.z_dim}, "
            f"{str(self.path)!r})"
        )

    def __len__(self):
        return len(self.labels)

    @property
    def classes(self):
        """Names of the classes, a tuple."""
        return tuple(self.manifest["classes"])

    @property
    def num_classes(self):
        return len(self.manifest["classes"])

    @property
    def z_dim(self):
        return self.latents.shape[1]

    @property
    def resolution(self):
        return self.images.shape[1]


def load_pairs(path, verify: bool = True):
    """Opens a folder of triples.

    Args:
        path: the folder that `make_pairs` or `save_pairs` wrote.
        verify: compare the sha256 of every file with the manifest (it reads all of them once).

    Returns:
        Pairs; images and latents are memory-mapped: read as needed, and changes to them stay in memory.

    Raises:
        InputError: names the file or field that is missing, damaged or does not fit, and what to do.
    """
    path = Path(path)
    again = "make the pairs again, or restore the folder"
    if not (path / "manifest.json").is_file():
        for partial in (path, path.with_name(path.name + ".partial")):
            if (partial / "progress.json").is_file():
                raise InputError(f"{partial} is unfinished: run the command that makes it again, and it continues")
        exists = "is not a folder" if path.exists() else "does not exist"
        raise InputError(
            f"{path} {'has no manifest.json' if path.is_dir() else exists}: make a folder of "
            "pairs with gsoc_kd.make_pairs, or write your own triples with "
            "gsoc_kd.pairs.save_pairs"
        )
    manifest = _manifest(path / "manifest.json")
    arrays = {}
    for name in FILES:
        file = path / name
        if not file.is_file():
            raise InputError(f"{file} is missing: {again}")
        if verify and sha256(file) != manifest["sha256"][name]:
            raise InputError(f"{file} is not the file of the manifest (its sha256 differs): {again}")
        try:
            arrays[name] = np.load(file, mmap_mode="c", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{file} cannot be read ({error}): {again}") from None
    _check(path, arrays, manifest["classes"])
    images, labels, latents = arrays.values()
    stated = dict(
        count=len(labels),
        z_dim=latents.shape[1],
        resolution=images.shape[1],
        counts=np.bincount(labels, minlength=len(manifest["classes"])).tolist(),
    )
    for key, value in stated.items():
        if manifest[key] != value:
            raise InputError(
                f"{path / 'manifest.json'} states {key} {manifest[key]}, but the files hold {value}: {again}"
            )
    return Pairs(images, np.array(labels), latents, manifest, path)


def save_pairs(images, labels, latents, out, classes=None, teacher: str = "foreign"):
    """Writes triples that somebody else's code made into the folder `out`, which must not exist yet.

    Args:
        images: uint8 (N, H, H, 3).
        labels: whole numbers (N,), 0 .. C - 1, at least one of each class.
        latents: finite floats (N, z_dim), kept as float16: best rounded so before the teacher saw them.
        classes: C names; None: "0", "1", ...
        teacher: what the manifest calls the generator that drew them.

    Returns:
        Pairs, checked.

    Raises:
        InputError: names the array, its dtype or shape; or `out` exists.
    """
    images, labels, latents = np.asarray(images), np.asarray(labels), np.asarray(latents)
    out = output_folder(out)
    if occupied(out):
        raise InputError(f"{out} already exists and is left as it is: choose another out, or remove it")
    if labels.dtype.kind not in "iu" or latents.dtype.kind != "f":
        raise InputError(
            "labels must be whole numbers (N,) and latents floats (N, z_dim), not "
            f"{labels.dtype} {labels.shape} and {latents.dtype} {latents.shape}"
        )
    with np.errstate(over="ignore"):
        arrays = dict(zip(FILES, (images, labels.astype(np.int64), latents.astype(np.float16))))
    classes = [str(name) for name in (range(int(labels.max(initial=-1)) + 1) if classes is None else classes)]
    _check("the given triples", arrays, classes)
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        raise InputError(f"class {classes[int(counts.argmin())]!r} has no pairs: add some, or leave the class out")
    settings = dict.fromkeys(SETTINGS) | dict(
        format=FORMAT, teacher=str(teacher), z_dim=latents.shape[1], resolution=images.shape[1], classes=classes
    )
    with writing(out), replacing_folder(out) as folder:
        for name, array in arrays.items():
            np.save(folder / name, array)
        write_manifest(folder, settings, counts)
    return load_pairs(out, verify=False)


def write_manifest(folder, settings, counts):
    """Completes a folder of triples. Two runs that make the same triples write the same manifest."""
    counts = [int(n) for n in counts]
    write_json(
        folder / "manifest.json",
        {**settings, "count": sum(counts), "counts": counts, "sha256": {name: sha256(folder / name) for name in FILES}},
    )


def output_folder(out):
    """`out` as a Path that can be made; InputError if it is no name for a folder or is a file."""
    out = Path(out)
    if not out.name or (out.exists() and not out.is_dir()):
        raise InputError(f"out must name a folder that can be made, not {str(out)!r}")
    return out


def occupied(folder):
    """Whether there is something in `folder`, which then must not be overwritten."""
    return folder.is_dir() and any(folder.iterdir())


def _manifest(path):
    manifest = read_json(path)
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise InputError(f"{path} is not the manifest of a folder of pairs: it states no format")
    if manifest["format"] != FORMAT:
        raise InputError(
            f"{path} states format {manifest['format']!r}, this version reads format {FORMAT}: "
            "make the pairs again, or use the version that wrote them"
        )
    kinds = dict(z_dim=int, resolution=int, classes=list, count=int, counts=list, sha256=dict)
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            raise InputError(f"{path}: field {key!r} is missing or is not a {kind.__name__}; make the pairs again")
    if missing := [name for name in FILES if name not in manifest["sha256"]]:
        raise InputError(f"{path}: the sha256 of {missing[0]} is missing; make the pairs again")
    return manifest


def _check(where, arrays, classes):
    """Dtypes, shapes and values of the three arrays, or an InputError that names the one that is wrong."""
    images, labels, latents = arrays.values()
    square = images.ndim == 4 and images.shape[1:] == (images.shape[1], images.shape[1], 3)
    forms = {"(N, H, H, 3)": square, "(N,)": labels.ndim == 1, "(N, z_dim)": latents.ndim == 2}
    for (name, array), dtype, (form, fits) in zip(arrays.items(), FILES.values(), forms.items()):
        if array.dtype != dtype or not fits or array.size == 0 or len(array) != len(images):
            raise InputError(
                f"{where}: {name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} "
                f"{form}, not empty, with the same N in all three"
            )
    if len(set(classes)) != len(classes):
        raise InputError(f"{where}: two classes have the same name: {classes}")
    bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(bad):
        raise InputError(
            f"{where}: labels.npy holds {labels[bad[0]]} in row {bad[0]}, but there are "
            f"{len(classes)} classes, 0 to {len(classes) - 1}"
        )
    for start in range(0, len(latents), 1 << 16):
        finite = np.isfinite(latents[start : start + (1 << 16)]).all(axis=1)
        if not finite.all():
            raise InputError(
                f"{where}: latents.npy holds a number that is not finite in row "
                f"{start + int(finite.argmin())} (float16 reaches 65504)"
            )
