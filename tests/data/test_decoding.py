"""From bytes to arrays: all formats alike, upright, opaque, and what is too large is refused before it is decoded."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from gsoc_kd.core.files import InputError
from gsoc_kd.data import decoding
from gsoc_kd.data.decoding import image_of, space

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)  # higher than wide
FLAT = np.full((8, 8, 3), (200, 100, 50), np.uint8)


def encoded(image, format="PNG", mode=None, **options):
    file = BytesIO()
    image = Image.fromarray(np.asarray(image))
    (image if mode is None else image.convert(mode)).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "MPO"])
def test_every_format_gives_the_same_image(format):
    found = image_of(encoded(FLAT, format, **({"lossless": True} if format == "WEBP" else {})))
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), FLAT.astype(int), atol=4 if format in ("JPEG", "MPO") else 0)


TURNED = {  # what a viewer shows of X stored under each orientation (EXIF 2.3, tag 274)
    1: X, 2: X[:, ::-1], 3: X[::-1, ::-1], 4: X[::-1], 5: X.transpose(1, 0, 2), 6: np.rot90(X, -1),
    7: np.rot90(X, 2).transpose(1, 0, 2), 8: np.rot90(X),
}  # fmt: skip


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", TURNED)
def test_images_stand_upright(format, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    lossy, options = format == "JPEG", {"lossless": True} if format == "WEBP" else {}
    stored = FLAT[:6, :4].copy() if lossy else X
    stored[0, 0] = 255 if lossy else stored[0, 0]
    found = image_of(encoded(stored, format, exif=exif, **options))
    if lossy:  # its shape and its brightest corner tell
        corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
        corners = [found[y, x].sum() for y in (0, -1) for x in (0, -1)]
        assert found.shape == TURNED[orientation].shape and found[corner[orientation]].sum() == max(corners)
    else:
        assert np.array_equal(found, TURNED[orientation])


def test_the_hidden_colours_of_transparent_pixels_never_show():
    red = np.zeros((8, 8, 4), np.uint8)
    red[..., 0], red[:4, :, 3], red[4] = 255, 0, (255, 0, 0, 255)
    red[5:, :, 3] = 128
    found = image_of(encoded(red))
    assert (found[:4] == 255).all() and (found[4] == (255, 0, 0)).all() and (found[5:] == (255, 127, 127)).all()
    assert np.array_equal(image_of(encoded(red, "WEBP", lossless=True)), found)
    assert np.array_equal(image_of(encoded(red, "TIFF")), found)
    grey = encoded(np.dstack([red[..., 1], red[..., 3]]), "PNG")  # black, grey with alpha
    assert np.array_equal(image_of(grey)[:4], found[:4]) and (image_of(grey)[4] == 0).all()
    for mode, clear in (("P", 0), ("P", b"\x00\xff"), ("L", 7), ("RGB", (7, 7, 7))):
        dark = Image.fromarray(np.full((8, 8), 0 if mode == "P" else 7, np.uint8)).convert(mode)
        if mode == "P":
            dark.putpalette([7, 7, 7, 9, 9, 9])
        file = BytesIO()
        dark.save(file, "PNG", transparency=clear)
        assert (image_of(file.getvalue()) == 255).all()
    dark = Image.new("P", (8, 8))
    dark.putpalette([7, 7, 7, 9, 9, 9])
    dark.save(file := BytesIO(), "GIF", transparency=0)
    assert (image_of(file.getvalue()) == 255).all()


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_an_image_of_several_frames_is_refused(format):
    frames = [Image.fromarray(FLAT), Image.fromarray(255 - FLAT)]
    frames[0].save(file := BytesIO(), format, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="several images, frames or pages; save one of them"):
        image_of(file.getvalue())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height):
    """A PNG whose header says so; its pixels are not there."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_only_meant_formats_and_bounded_sizes_are_decoded(monkeypatch):
    for other in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n", encoded(FLAT, "PPM")):
        with pytest.raises(UnidentifiedImageError):
            image_of(other)
    with pytest.raises(ValueError, match="6000x6000 pixels, and 33,554,432 are the most; make it smaller"):
        image_of(png_of(6000, 6000), size=32)
    with pytest.raises(ValueError, match=r"4x2049 pixels, more than 2048 a side; give size=\.\.\. to scale"):
        image_of(png_of(4, 2049))
    scan = encoded(FLAT, "JPEG")
    with pytest.raises(ValueError, match="a JPEG of more than 100 scans"):
        image_of(scan[:-2] + 100 * scan[scan.rindex(b"\xff\xda") : -2] + scan[-2:])
    tiled = bytearray(encoded(FLAT, "TIFF"))
    with monkeypatch.context() as patch:  # tags that a small image has too stand for those of tiles
        patch.setattr(decoding, "TILE_SIDES", (256, 257))
        patch.setattr(decoding, "MOST_PIXELS", 64)
        assert np.array_equal(image_of(tiled), FLAT)
        patch.setattr(decoding, "TILE_SIDES", (256, 257, 256))
        with pytest.raises(ValueError, match="a TIFF with tiles beyond its size"):
            image_of(tiled)


def test_more_images_than_memory_are_refused_before_they_are_decoded():
    assert space(2, 4).shape == (2, 4, 4, 3)
    with pytest.raises(InputError, match=r"^1000000000 images of 64x64 pixels need 12288.0 GB .*give a smaller size="):
        space(10**9, 64)


def test_a_png_changed_anywhere_is_refused_or_the_same():
    good = encoded(X)
    for at in range(len(good)):
        for bit in (0, 5):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            try:
                assert np.array_equal(image_of(bytes(bad)), X), at
            except AssertionError:
                raise
            except Exception as error:  # noqa: BLE001, S110  any kind says that it is damaged
                assert error


def png_with(depth, kind, rows, *more):
    """A 2x2 PNG of `depth` bits, colour type `kind`; `more`: chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, depth, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(("depth", "row"), [(1, 0b01000000), (2, 0b01110000), (4, 0b01011111)])
def test_the_transparent_grey_of_a_png_of_few_bits_is_white(depth, row):
    hidden = {1: 0, 2: 1, 4: 5}[depth]  # the first of the two pixels of each row; the other one is white
    found = image_of(png_with(depth, 0, [bytes([row])] * 2, chunk(b"tRNS", struct.pack(">H", hidden))))
    assert (found == 255).all()
    assert (image_of(png_with(depth, 0, [bytes([row])] * 2))[:, 0] == hidden * 255 // (2**depth - 1)).all()


def test_a_transparent_colour_of_16_bits_is_refused():
    rows = [struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0, 0, 0)] * 2
    assert image_of(png_with(16, 2, rows))[0, 0].tolist() == [0x12, 0x56, 0x9A]
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        image_of(png_with(16, 2, rows, chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))))


@pytest.mark.parametrize("side", [256, 1000])
def test_a_still_gif_of_any_size_is_an_image(side):
    image = Image.fromarray(RNG.integers(0, 256, (side, side), dtype=np.uint8))
    data = BytesIO()
    image.save(data, "GIF")
    assert len(data.getvalue()) > side * side
    assert np.array_equal(image_of(data.getvalue())[..., 0], np.asarray(image))


def test_a_size_beyond_memory_blames_no_file():
    with pytest.raises(InputError, match="1 images of 16777216x16777216 pixels need .* give a smaller size"):
        decoding.decoded(lambda file: encoded(FLAT), {"good.png": "good.png"}, 1 << 24, "read")


def exif_of(tag, count):
    """EXIF in which a tag has so many fractions, each of eight bytes."""
    head = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, tag, 5, count, 26, 0)
    return head + bytes(8 * count)


def test_an_image_with_much_beside_its_pixels_is_refused_at_once():
    """Each of these takes Pillow a minute if it has the 32 MB that an image file may have."""
    small, many, jpeg, gif = encoded(FLAT), 200_000, encoded(FLAT, "JPEG"), encoded(FLAT, "GIF")
    at = small.index(b"IDAT") - 4
    bombs = {
        "fractions": small[:at] + chunk(b"eXIf", exif_of(274, many)) + small[at:],
        "fractions after the pixels": small[:-12] + chunk(b"eXIf", exif_of(274, many)) + small[-12:],
        "chunks": small[:at] + chunk(b"aaAa", b"") * 2000 + small[at:],
        "texts after the pixels": small[:-12] + chunk(b"tEXt", b"a\0b") * 2000 + small[-12:],
        "webp": encoded(FLAT, "WEBP", exif=exif_of(274, many)),
        "tiff": encoded(FLAT, "TIFF", tiffinfo={65000: b"x" * (1 << 21)}),
        "comments of a JPEG": jpeg[:2] + b"\xff\xfe\0\2" * 3000 + jpeg[2:],
        "comments of a GIF": gif[:-1] + b"\x21\xfe\1a\0" * 3000 + gif[-1:],
    }
    for data in bombs.values():
        with pytest.raises(ValueError, match="more than 1 MB, or too many parts, beside its pixels"):
            image_of(data)
    assert np.array_equal(image_of(small[:at] + chunk(b"tEXt", b"a\0b") * 200 + small[at:]), FLAT)
