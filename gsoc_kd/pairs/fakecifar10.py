"""Pairs in the layout of the 2022 project, whose FakeCIFAR10 can be downloaded: class_3/image_0.png is what its teacher
generated for class 3 and the noise in class_3/noise_0.pt. They are read once and written as a folder of ours."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np

from ..core.checks import path_of
from ..core.files import InputError
from ..core.tensors import load_tensors
from ..data.decoding import image_of
from ..data.images import CIFAR10_CLASSES
from ..data.listing import counts as counted
from .folder import FORMAT, guess_z_from, output_folder
from .make import CHUNK, write_pairs

LARGEST = 64 << 20  # bytes of a file; that of a noise holds its whole batch, 512 x 4 bytes each
WIDEST = 1 << 16  # numbers in a noise


def is_layout(folder):
    """Whether `folder` holds a folder named class_ and a number."""
    return folder.is_dir() and any(_number("class", "", p.name) is not None and p.is_dir() for p in folder.iterdir())


def convert_pairs(source, out=None):
    """Writes the images and noises of a folder in the layout of 2022 as a folder of Pairs and loads it. Interrupted,
    the same call continues; if `out` is already whole, it is loaded.

    The latents are kept as float16: the teacher saw up to 0.0005 more or less. If all lie from 0 to 1, as the 2022
    project drew them, the manifest says that they are uniform; scores and explorer then draw such ones too.

    Args:
        source: the folder with class_0, class_1, ...; PNG files of one size.
        out: the folder to make; None: beside `source`, with -pairs after its name.

    InputError: a class, an image or a noise is missing, damaged or of another size; `out` is of other pairs."""
    source = Path(os.path.abspath(path_of(source, "the folder of pairs")))
    out = source.with_name(f"{source.name}-pairs") if out is None else output_folder(out)
    if source in (Path(os.path.abspath(out)), *Path(os.path.abspath(out)).parents):
        raise InputError(f"{out} lies in {source}, which is read: choose another out")
    files, digest = _files(source)
    labels = np.array([label for label, _, _ in files])
    counts = np.bincount(labels).tolist()
    image, z_dim = _image(files[0][1]), len(_latent(files[0][2]))
    drawn = guess_z_from([_latent(noise, z_dim) for _, _, noise in files[:100]])  # enough to tell
    names = CIFAR10_CLASSES if len(counts) == 10 else [*map(str, range(len(counts)))]
    settings = dict(
        format=FORMAT, teacher=source.name, digest=None, psi=1.0, half=False, seed=None, chunk=CHUNK, per_class=None,
        z_dim=z_dim, z_from=drawn, resolution=len(image), classes=list(names),
        source=dict(layout="2022", files=2 * len(files), sha256=digest))  # fmt: skip

    def read(start, count):
        part = files[start : start + count]
        z = np.stack([_latent(noise, z_dim, drawn) for _, _, noise in part])
        return np.stack([_image(png, image.shape) for _, png, _ in part]), labels[start : start + count], z

    return write_pairs(out, settings, counts, read, f"read {source.name}")


def _files(source):
    """[(class, image, noise)], ordered by class and number, and a sha256 of all names and sizes."""
    try:
        entries = [p for p in sorted(source.iterdir()) if p.is_dir() and counted(p.name)]
    except OSError as error:
        raise InputError(f"{source} cannot be read as a folder ({error.strerror})") from None
    numbers = {_number("class", "", folder.name): folder for folder in entries}
    if None in numbers:
        raise InputError(f"{numbers[None]} is not named class_ and a number, as all folders must be: move it away")
    if not numbers:
        raise InputError(f"{source} holds no folder class_0, as pairs of 2022 do; give the one that does")
    if missing := [y for y in range(len(numbers)) if y not in numbers]:
        raise InputError(f"{source / f'class_{missing[0]}'} is missing: classes count from 0, and none may be left out")
    files, listing = [], hashlib.sha256()
    for y, folder in sorted(numbers.items()):
        found = {"image": {}, "noise": {}}
        for entry in filter(lambda entry: counted(entry.name), os.scandir(folder)):
            known = {what: _number(what, end, entry.name) for what, end in (("image", ".png"), ("noise", ".pt"))}
            what = next((what for what, number in known.items() if number is not None), None)
            if what and entry.is_file():
                found[what][known[what]] = (Path(entry.path), entry.stat().st_size)
            else:
                raise InputError(f"{entry.path} is neither image_0.png nor noise_0.pt, of any number; move it away")
        if odd := sorted(found["image"].keys() ^ found["noise"].keys()):
            raise InputError(f"{folder}: image_{odd[0]}.png or noise_{odd[0]}.pt is missing; restore or remove both")
        if not found["image"]:
            raise InputError(f"{folder} holds no image_0.png; restore it")
        for number in sorted(found["image"]):
            (image, size), (noise, length) = found["image"][number], found["noise"][number]
            listing.update(f"{y}/{number} {size} {length}\n".encode())
            files.append((y, image, noise))
    return files, listing.hexdigest()


def _number(what, end, name):
    """The number in a name such as class_3 or image_0.png, or None."""
    match = re.fullmatch(rf"{what}_(0|[1-9][0-9]{{0,8}}){re.escape(end)}", name)
    return match and int(match[1])


def _latent(path, z_dim=None, drawn=None):
    """The numbers in a noise file, float16 (z_dim,)."""
    z = load_tensors(path, LARGEST)
    width = f"{z_dim} numbers" if z_dim else "numbers"
    fits = not isinstance(z, dict) and z.is_floating_point() and 0 < z.numel() <= WIDEST
    if not fits or z_dim not in (None, z.numel()):
        what = "a dict" if isinstance(z, dict) else f"{z.dtype} {tuple(z.shape)}"
        raise InputError(f"{path} holds {what}, not one noise of {width}; restore it")
    z = z.detach().flatten().half().numpy()
    if not np.isfinite(z).all():
        raise InputError(f"{path}: its numbers are not all finite in float16; restore it")
    if drawn == "uniform" and not 0 <= z.min() <= z.max() <= 1:
        raise InputError(f"{path}: its numbers are not all from 0 to 1, as those of other files; restore it")
    return z


def _image(path, shape=None):
    """An image file as uint8 (H, H, 3)."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        image = image_of(path.read_bytes())
        if image.shape != (shape or (len(image), len(image), 3)):
            expected = f"{shape[1]}x{shape[0]}" if shape else "as high as wide"
            raise ValueError(f"it has {image.shape[1]}x{image.shape[0]} pixels, expected {expected}")
    except Exception as error:  # noqa: BLE001  decoders raise many kinds for damaged bytes
        why = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be used as an image ({why:.200}); restore it") from None
    return image
