"""Pictures of pictures: grids, teacher above student, maps, the training film. Drawings of numbers: charts.py.

Everything takes and gives plain things: uint8 arrays (N,H,W,3) in, `PIL.Image` out (a notebook shows one by
itself). Pixels are enlarged by repeating them, never smoothed: at 32x32 smoothing hides what was learned.
"""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .files import InputError, replacing_file

WHITE = (255, 255, 255)
FONT_PIXELS = 13


def _images(images, name="images"):
    """`images` as a numpy array, checked: uint8 (N,H,W,3), at least one."""
    array = np.asarray(images.cpu() if isinstance(images, torch.Tensor) else images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise InputError(
            f"{name} must be uint8 of shape (N, H, W, 3), not {array.dtype} {array.shape}; "
            "a network's output becomes that through gsoc_kd.data.images.to_uint8"
        )
    return array


def _at_least(value, least, name):
    if not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")


def grid(images, columns, scale=2, pad=1):
    """Images side by side, row after row, on white.

    Args:
        images: uint8 (N,H,W,3). Image i stands in row i // columns, column i % columns; its top left
            pixel is at (pad + column * (W*scale + pad), pad + row * (H*scale + pad)).
        columns: images in a row.
        scale: every pixel becomes scale x scale pixels.
        pad: white pixels around and between the images.

    Raises:
        InputError: wrong dtype or shape, or a size that is not a whole number.
    """
    images = _images(images)
    _at_least(columns, 1, "columns"), _at_least(scale, 1, "scale"), _at_least(pad, 0, "pad")
    count, height, width, _ = images.shape
    height, width = height * scale + pad, width * scale + pad
    rows = -(-count // columns)
    canvas = np.full((pad + rows * height, pad + columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = pad + index // columns * height, pad + index % columns * width
        enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)  # (H*scale, W*scale, 3)
        canvas[top : top + height - pad, left : left + width - pad] = enlarged
    return Image.fromarray(canvas)


def named_rows(picture, names):
    """`picture` with a white column at its left in which name i stands beside row i."""
    font = ImageFont.load_default(FONT_PIXELS)
    margin = max(int(np.ceil(font.getlength(name))) for name in names) + 8
    wide = Image.new("RGB", (picture.width + margin, picture.height), WHITE)
    wide.paste(picture, (margin, 0))
    pen = ImageDraw.Draw(wide)
    for row, name in enumerate(names):
        middle = (row + 0.5) * picture.height / len(names)
        pen.text((margin - 4, middle), name, fill=(0, 0, 0), font=font, anchor="rm")
    return wide


def class_grid(draw, z_dim, classes, columns=10, seed=0, scale=2):
    """One row a class, one latent a column: what changes along a row is the noise, down a column the class.

    Args:
        draw: callable (z (N,z_dim) float32 tensor, y (N,) int64 tensor) -> uint8 (N,H,W,3), such as a Teacher
            or `black_box(student)`.
        z_dim: width of the latents.
        classes: class names, written at the left; or only how many classes there are.
        columns: images a class.
        seed: of the latents, N(0,1).
        scale: enlargement.
    """
    names = None if isinstance(classes, (int, np.integer)) else [str(name) for name in classes]
    rows = int(classes) if names is None else len(names)
    _at_least(rows, 1, "classes"), _at_least(columns, 1, "columns"), _at_least(z_dim, 1, "z_dim")
    z = torch.randn(columns, z_dim, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(rows).repeat_interleave(columns)  # (rows*columns,) 0 0 0 ... 1 1 1 ...
    images = _images(draw(z.repeat(rows, 1), y), "what draw(z, y) gave")
    if len(images) != len(y):
        raise InputError(f"draw(z, y) gave {len(images)} images for {len(y)} labels")
    picture = grid(images, columns, scale)
    return picture if names is None else named_rows(picture, names)


def side_by_side(a, b, columns, scale=2, names=("teacher", "student")):
    """Teacher row above student row, on the same noise; then the next such pair of rows.

    Args:
        a, b: uint8 (N,H,W,3), image i of both made from the same latent and label.
        columns: images in a row.
        scale: enlargement.
        names: written at the left of a's rows and b's rows; None leaves them out.

    Raises:
        InputError: wrong dtype or shape, or a and b differ in shape.
    """
    a, b = _images(a, "a"), _images(b, "b")
    if a.shape != b.shape:
        raise InputError(f"a and b must have the same shape, not {a.shape} and {b.shape}")
    _at_least(columns, 1, "columns")
    rows = -(-len(a) // columns)
    blank = np.full((rows * columns - len(a), *a.shape[1:]), 255, np.uint8)
    pairs = [np.concatenate([x, blank]).reshape(rows, 1, columns, *a.shape[1:]) for x in (a, b)]
    images = np.concatenate(pairs, axis=1).reshape(-1, *a.shape[1:])  # a's row 0, b's row 0, a's row 1, ...
    picture = grid(images, columns, scale)
    return picture if names is None else named_rows(picture, [str(name) for name in names] * rows)


def beside(pictures, captions, gap=12):
    """Pictures next to each other on white, what each one is written above it.

    Args:
        pictures: PIL images; the top edges are level.
        captions: one text a picture, "" for none. A place is as wide as the wider of its picture and its text.
        gap: white pixels between two places.

    Raises:
        InputError: no pictures, or not one caption a picture.
    """
    pictures, captions = list(pictures), [str(caption) for caption in captions]
    if not pictures or len(pictures) != len(captions):
        raise InputError(
            f"give one caption a picture, and at least one; got {len(pictures)} pictures and {len(captions)} captions"
        )
    font, head = ImageFont.load_default(FONT_PIXELS), FONT_PIXELS + 7 if any(captions) else 0
    widths = [max(picture.width, int(np.ceil(font.getlength(text)))) for picture, text in zip(pictures, captions)]
    wide = Image.new("RGB", (sum(widths) + gap * (len(widths) - 1), head + max(p.height for p in pictures)), WHITE)
    pen, left = ImageDraw.Draw(wide), 0
    for picture, text, width in zip(pictures, captions, widths):
        wide.paste(picture, (left + (width - picture.width) // 2, head))
        pen.text((left + width / 2, head / 2), text, fill=(0, 0, 0), font=font, anchor="mm")
        left += width + gap
    return wide


def mosaic(images, features, scale=1, seed=0):
    """A map of pictures: what is alike in features stands close together.

    t-SNE (van der Maaten & Hinton 2008) lays the features out in the plane, scikit-learn's with `seed`; then each
    picture takes a cell of a square grid, so that the sum of squared moves is smallest.

    Args:
        images: uint8 (N,H,W,3), N at least 4; some hundred are good to look at.
        features: (N, D) floats, for instance the judge's.
        scale: enlargement.
        seed: of t-SNE; the same pictures, features and seed give the same map.

    Returns:
        PIL.Image with ceil(sqrt(N)) cells a side; cells that are left over stay white.

    Raises:
        InputError: not one row of finite features a picture, too few pictures, or no scikit-learn.
    """
    try:
        from scipy.optimize import linear_sum_assignment
        from sklearn.manifold import TSNE
    except ImportError:
        raise InputError("a mosaic needs scikit-learn: pip install scikit-learn") from None
    images, points = _images(images), np.asarray(features, np.float64)
    if points.ndim != 2 or len(points) != len(images) or len(images) < 4 or not np.isfinite(points).all():
        raise InputError(
            f"a mosaic needs at least 4 pictures and finite features (N, D), one row a picture; got "
            f"{len(images)} pictures and features {points.shape}"
        )
    tsne = TSNE(init="pca", perplexity=min(30, (len(points) - 1) / 3), random_state=seed)
    places = tsne.fit_transform(points).astype(np.float64)  # (N, 2)
    side = int(np.ceil(np.sqrt(len(points))))
    places = (places - places.min(axis=0)) / np.ptp(places, axis=0).clip(1e-9) * (side - 1)
    cells = np.stack(np.divmod(np.arange(side * side), side), axis=1)  # (side^2, 2) row, column
    moves = ((places[:, None] - cells) ** 2).sum(axis=2)  # (N, side^2)
    pictures = np.full((side * side, *images.shape[1:]), 255, np.uint8)
    pictures[linear_sum_assignment(moves)[1]] = images
    return grid(pictures, columns=side, scale=scale, pad=0)


def film(frames, path, seconds_per_frame=0.15, hold=2.0, colours=256):
    """Writes an endless GIF. All frames share one palette: no flicker, a smaller file.

    Args:
        frames: PIL images or paths of image files, all of one size. One equal to the one before lengthens it.
        path: the GIF to write; written beside and renamed.
        seconds_per_frame: of every frame but the last.
        hold: seconds the last frame stays.
        colours: size of the palette, 2 to 256.

    Returns:
        The path.

    Raises:
        InputError: no frames, frames of different sizes, or a file that is not an image, named.
    """
    pictures = [as_picture(frame) for frame in frames]
    if not pictures:
        raise InputError("a film needs at least one frame; there are none yet")
    for index, picture in enumerate(pictures):
        if picture.size != pictures[0].size:
            raise InputError(
                f"frame {index} is {picture.size} pixels, frame 0 {pictures[0].size}: all must be of one size"
            )
    if not 2 <= colours <= 256:
        raise InputError(f"colours must be 2 to 256, not {colours}")
    palette = _palette(pictures, colours)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [round(seconds_per_frame * 1000)] * (len(indexed) - 1) + [round(hold * 1000)]
    with replacing_file(path) as temporary:
        indexed[0].save(
            temporary, format="GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True
        )
    return Path(path)


def _palette(pictures, colours):
    """A palette for all pictures (RGB), made from 10,000 of their pixels: k-means from colours far apart."""
    pixels = np.concatenate([np.asarray(picture).reshape(-1, 3) for picture in pictures])
    sample = np.random.default_rng(0).choice(pixels, 10_000)
    return Image.fromarray(sample[None]).quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=1)


def as_picture(frame):
    """A PIL image (RGB), or what the image file at this path holds; InputError where there is none."""
    if isinstance(frame, Image.Image):
        return frame.convert("RGB")
    try:
        with Image.open(frame) as picture:
            return picture.convert("RGB")
    except (OSError, AttributeError, TypeError) as error:
        raise InputError(f"frame {frame} cannot be read as an image ({error})") from None


def png_bytes(image, smallest=False):
    """A PIL image, or a uint8 array (H,W,3), as the bytes of a PNG. The same image gives the same bytes.

    `smallest` takes several times as long for a few per cent less.
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(_images(np.asarray(image)[None], "the image")[0])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=smallest)
    return buffer.getvalue()


def save_png(image, path, max_kb=None):
    """Writes a PNG, beside and then renamed.

    Args:
        image: PIL image or uint8 array (H,W,3).
        path: where.
        max_kb: when the file would be larger than this many kB (1000 bytes), the colours are reduced to a
            palette of 256, then 128, 64, 32, until it fits.

    Returns:
        The path.

    Raises:
        InputError: it does not fit with 32 colours either; nothing is written.
    """
    data = png_bytes(image, smallest=True)
    if max_kb is not None and len(data) > max_kb * 1000:
        full = Image.open(io.BytesIO(data)).convert("RGB")
        for colours in (256, 128, 64, 32):
            palette = _palette([full], colours)
            data = png_bytes(full.quantize(palette=palette, dither=Image.Dither.NONE), smallest=True)
            if len(data) <= max_kb * 1000:
                break
        else:
            raise InputError(
                f"{path} would take {len(data) / 1000:.0f} kB with 32 colours, more than "
                f"{max_kb} kB; show fewer images or a smaller scale"
            )
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)
