"""From the bytes of image files to arrays: only the expected formats, upright, opaque, of a bounded size."""

import io
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from ..core.files import InputError
from .listing import KINDS

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder is tried: some start programs
GROUND = (255, 255, 255)  # what shows through transparent pixels: white
ORIENTATION, TILE_SIDES = 274, (322, 323)  # tags of EXIF and of TIFF
MOST_PIXELS = 2**25  # of one image file, 33.5 million: some 16 bytes of memory each while it is decoded
MOST_SIDE = 2048  # pixels, of images that are not scaled
MOST_BESIDE = 2**20  # bytes of what an image file says beside its pixels: profiles, EXIF, comments
MUCH = f"it holds more than {MOST_BESIDE // 2**20} MB, or too many parts, beside its pixels; save it anew without them"


def decoded(read, files, size, told):
    """The images of {name: file} as an array (N, S, S, 3) uint8; `read(file)` gives the bytes of one, `told` stands at
    the progress bar. S is `size`, or the size that all have. InputError names the first that cannot be used."""
    images, first = None if size is None else space(len(files), size), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, whose size is checked here, and of odd metadata
        for i, (name, file) in enumerate(tqdm(files.items(), desc=told, unit="img", leave=False)):
            image = _one(read, file, name, size)
            first = first or (name, image)
            if image.shape != first[1].shape or image.shape[0] != image.shape[1]:
                this, other = (f"{n} is {x.shape[1]}x{x.shape[0]}" for n, x in ((name, image), first))
                square = "but all must be square and equal"
                raise InputError(f"{this} pixels, {square} ({other}); give size=... to scale them")
            images = space(len(files), image.shape[0]) if images is None else images
            images[i] = image
    return images


def space(count, side):
    """An empty array for so many images; InputError where it would take more than half of the machine's memory."""
    need = count * side * side * 3
    try:
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, OSError, ValueError):  # not known on every system
        limit = float("inf")
    try:
        if need <= limit:
            return np.empty((count, side, side, 3), np.uint8)
    except (MemoryError, ValueError):
        pass
    told = f"{count} images of {side}x{side} pixels need {need / 1e9:.1f} GB of memory"
    raise InputError(f"{told}, more than can be had here; give a smaller size=... or fewer images")


def _one(read, file, name, size):
    try:
        return image_of(read(file), size)
    except InputError:
        raise
    except UnidentifiedImageError:
        told = f"is not a {KINDS} image, whatever its name says"
    except Exception as error:  # noqa: BLE001  decoders raise many kinds for damaged bytes
        told = f"cannot be read as an image ({str(error) or type(error).__name__:.300})"
    raise InputError(f"{name} {told}; repair or remove it")


def image_of(data, size=None):
    """The bytes of one image file as an array (H, W, 3) uint8: turned as its EXIF orientation says, transparency on
    white, scaled to size x size pixels unless `size` is None. Colours are as stored, profiles are not applied. Any
    kind of exception where that cannot be done."""
    file = _Counted(data)
    image = Image.open(file, formats=FORMATS)
    file.beside = None  # pixels follow
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels, and {MOST_PIXELS:,} are the most; make it smaller")
    if size is None and max(image.size) > MOST_SIDE:
        raise ValueError(f"{image.width}x{image.height} pixels, more than {MOST_SIDE} a side; give size=... to scale")
    if image.format == "TIFF" and np.prod([float(image.tag_v2.get(tag, 0)) for tag in TILE_SIDES]) > MOST_PIXELS:
        raise ValueError("a TIFF with tiles beyond its size")
    if image.format == "JPEG" and data.count(b"\xff\xda") > 100:  # each scan takes as long as an image
        raise ValueError("a JPEG of more than 100 scans")
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a photo with others beside it
        raise ValueError("it holds several images, frames or pages; save one of them")
    if image.mode[0] in "IF":  # 16 bits and more: converting would cut all but the darkest off
        raise ValueError("more than 8 bits a channel")
    if image.format == "PNG":
        image.verify()  # decoding itself passes check sums over
        image = Image.open(_Counted(data), formats=FORMATS)
        image.fp.beside = None
    image.load()
    if len(image.info.get("exif", b"")) > MOST_BESIDE:
        raise ValueError(MUCH)
    if image.format == "PNG":
        _scale_hidden(image, depth=data[24])
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return resized(opaque(image), size)


class _Counted(io.BytesIO):
    """The bytes of an image file. ValueError once Pillow has read too often, or, before the pixels, too much: a small
    image may carry millions of comments or numbers, which take minutes."""

    def __init__(self, data):
        super().__init__(data)
        self.reads = 2000 + len(data) // 64  # a GIF comes in blocks of 256 bytes, two reads each
        self.beside = None if data[:4] == b"RIFF" else MOST_BESIDE  # WebP is read whole

    def read(self, size=-1):
        part = super().read(size)
        self.reads -= 1
        self.beside = None if self.beside is None else self.beside - len(part)
        if self.reads < 0 or (self.beside or 0) < 0:
            raise ValueError(MUCH)
        return part


def _scale_hidden(image, depth):
    """The grey level that a PNG of 2 or 4 bits calls transparent becomes one of the 8 bits that Pillow made of them;
    ValueError for 16 bits, of which 8 cannot tell."""
    hidden = image.info.get("transparency")
    if depth == 16 and hidden is not None:
        raise ValueError("more than 8 bits a channel")
    if depth in (2, 4) and isinstance(hidden, int) and image.mode == "L":
        image.info["transparency"] = hidden * 255 // (2**depth - 1)


def opaque(image):
    """A PIL image in RGB; what is transparent shows GROUND, never the colours hidden there."""
    if image.mode not in ("LA", "PA", "RGBA", "La", "RGBa") and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGB", image.size, GROUND)
    ground.paste(image, mask=image)
    return ground


def resized(image, size):
    """A PIL image as an array, scaled to size x size pixels (Lanczos) unless size is None."""
    return np.asarray(image.resize((size, size), Image.LANCZOS) if size else image)
