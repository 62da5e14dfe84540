"""Grids of images, teacher above student, maps, the training animation, and the curves of a run.

Arrays uint8 (N, H, W, 3) go in, a `PIL.Image` comes out: a notebook shows it by itself. Pixels are enlarged (`scale`)
by repeating them, never smoothed: at 32x32 smoothing hides what was learned. What does not fit is an InputError.
"""

import io
from math import ceil

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .checks import path_of, whole
from .files import InputError, replacing_file
from .latents import sample, z_from

FONT = ImageFont.load_default(13)


def _images(images, name="images"):
    """`images` as a numpy array, checked: uint8 (N, H, W, 3), at least one."""
    array = np.asarray(images.cpu() if isinstance(images, torch.Tensor) else images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        got = f"{array.dtype} {array.shape}; to_uint8 of gsoc_kd.data makes them of a network's output"
        raise InputError(f"{name} must be uint8 of shape (N, H, W, 3), not {got}")
    return array


def grid(images, columns, scale=2, pad=1):
    """Images row after row on white, `pad` white pixels around and between them. Image i has its top left pixel at
    (pad + i % columns * (W * scale + pad), pad + i // columns * (H * scale + pad))."""
    images = _images(images)
    columns, scale, pad = whole("columns", columns), whole("scale", scale), whole("pad", pad, 0)
    count, height, width, _ = images.shape
    rows, height, width = ceil(count / columns), height * scale + pad, width * scale + pad
    cells = np.full((rows * columns, height, width, 3), 255, np.uint8)
    cells[:count, pad:, pad:] = images.repeat(scale, axis=1).repeat(scale, axis=2)
    canvas = cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray(np.pad(canvas, ((0, pad), (0, pad), (0, 0)), constant_values=255))


def named_rows(image, names):
    """`image` with a white column at its left in which name i stands beside row i; without one if names is None."""
    names = [str(name) for name in names or ()]
    margin = max((ceil(FONT.getlength(name)) + 8 for name in names), default=0)
    wide = Image.new("RGB", (image.width + margin, image.height), "white")
    wide.paste(image, (margin, 0))
    for row, name in enumerate(names):
        place = margin - 4, (row + 0.5) * image.height / len(names)
        ImageDraw.Draw(wide).text(place, name, "black", FONT, anchor="rm")
    return wide


def titled_columns(image, titles, width):
    """`image` with a white row above it in which the titles stand over equal parts of its last `width` pixels."""
    if not titles:
        return image
    high = Image.new("RGB", (image.width, image.height + 18), "white")
    high.paste(image, (0, 18))
    for column, title in enumerate(titles):
        place = image.width - width + (column + 0.5) * width / len(titles), 9
        ImageDraw.Draw(high).text(place, str(title), "black", FONT, anchor="mm")
    return high


def class_grid(draw, z_dim, classes, columns=10, seed=0, scale=2):
    """A row for each class, a latent of `seed` for each column. draw: callable (z (N, z_dim) float32
    tensor, y (N,) int64 tensor) -> images, a Teacher or `black_box(student)`. classes: names, written at the left; or
    only how many there are."""
    names = None if isinstance(classes, int | np.integer) else list(classes)
    rows = whole("classes", classes if names is None else len(names))
    rng = torch.Generator().manual_seed(whole("seed", seed, 0, 2**63 - 1))
    z = sample(z_from(draw), whole("columns", columns), whole("z_dim", z_dim), generator=rng)
    y = torch.arange(rows).repeat_interleave(columns)  # (rows * columns,) 0 0 0 ... 1 1 1 ...
    images = _images(draw(z.repeat(rows, 1), y), "what draw(z, y) gave")
    if len(images) != len(y):
        raise InputError(f"draw(z, y) gave {len(images)} images for {len(y)} labels")
    return named_rows(grid(images, columns, scale), names)


def side_by_side(a, b, columns, scale=2, names=("teacher", "student"), titles=()):
    """A row of `a` above a row of `b`, then the next two, with the two `names` at their left (None: without) and
    `titles` above the columns. Image i of both is of the same noise."""
    a, b, columns = _images(a, "a"), _images(b, "b"), whole("columns", columns)
    if a.shape != b.shape:
        raise InputError(f"a and b must have the same shape, not {a.shape} and {b.shape}")
    rows, shape = ceil(len(a) / columns), a.shape[1:]
    both = np.full((2, rows * columns, *shape), 255, np.uint8)
    both[:, : len(a)] = a, b
    in_turn = both.reshape(2, rows, columns, *shape).swapaxes(0, 1).reshape(-1, *shape)  # row 0 of a, row 0 of b, ...
    image = grid(in_turn, columns, scale)
    return titled_columns(named_rows(image, names and [*names] * rows), titles, image.width)


def beside(images, captions, gap=12):
    """PIL images next to each other on white, `gap` pixels apart, top edges level, a caption ("": none) above each."""
    images, captions = list(images), [str(caption) for caption in captions]
    if not images or len(images) != len(captions):
        raise InputError(f"give each image a caption; got {len(images)} images and {len(captions)} captions")
    head, left = 20 if any(captions) else 0, 0
    widths = [max(image.width, ceil(FONT.getlength(text))) for image, text in zip(images, captions)]
    size = sum(widths) + gap * (len(widths) - 1), head + max(image.height for image in images)
    wide = Image.new("RGB", size, "white")
    for image, text, width in zip(images, captions, widths):
        wide.paste(image, (left + (width - image.width) // 2, head))
        ImageDraw.Draw(wide).text((left + width / 2, head / 2), text, "black", FONT, anchor="mm")
        left += width + gap
    return wide


def mosaic(images, features, seed=0):
    """A map of at least 4 images: those alike in features, finite (N, D), stand close together. scikit-learn's t-SNE
    (van der Maaten & Hinton 2008) with `seed` lays the features out in the plane; then each image takes a cell of a
    square grid, so that the sum of squared moves is smallest."""
    try:
        from scipy.optimize import linear_sum_assignment
        from sklearn.manifold import TSNE
    except ImportError:
        raise InputError("a mosaic needs scikit-learn: pip install scikit-learn") from None
    images, points = _images(images), np.asarray(features, np.float64)
    fits = points.ndim == 2 and len(points) == len(images) >= 4 and points.shape[1] > 0
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.ptp(points, axis=0).max() if fits else np.nan  # only its ratios count
    if not np.isfinite(spread) or not np.isfinite(points).all():
        needs = "a mosaic needs at least 4 images and finite features (N, D), one row for each image"
        raise InputError(f"{needs}; got {len(images)} images and features {points.shape}")
    init = "pca" if spread and points.shape[1] > 1 else "random"  # else there are no two main directions
    tsne = TSNE(init=init, perplexity=min(30, (len(points) - 1) / 3), random_state=whole("seed", seed, 0, 2**32 - 1))
    points = (points - points[0]) / (spread or 1)
    places = tsne.fit_transform(points).astype(np.float64)  # (N, 2)
    side = ceil(len(points) ** 0.5)
    places = (places - places.min(axis=0)) / np.ptp(places, axis=0).clip(1e-9) * (side - 1)
    cells = np.stack(np.divmod(np.arange(side * side), side), axis=1)  # (side^2, 2) row, column
    moves = ((places[:, None] - cells) ** 2).sum(axis=2)  # (N, side^2)
    shown = np.full((side * side, *images.shape[1:]), 255, np.uint8)
    shown[linear_sum_assignment(moves)[1]] = images
    return grid(shown, columns=side, scale=1, pad=0)


def animation(frames, path):
    """Writes PIL images or image files, all of one size, as an endless GIF and returns its path. A frame stays 0.15
    seconds, the last one 2. All share one palette: no flicker, a smaller file."""
    images = [as_image(frame) for frame in frames]
    if len(sizes := {image.size for image in images}) != 1:
        raise InputError(f"an animation needs frames of one size, at least one; got {len(images)} of {sorted(sizes)}")
    first, *rest = _indexed(images, 256)
    times = [150] * len(rest) + [2000]
    with replacing_file(path := path_of(path)) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
    return path


def _indexed(images, colours):
    """RGB images with one palette for all, of 10,000 of their pixels: k-means from colours far apart."""
    pixels = np.concatenate([np.asarray(image).reshape(-1, 3) for image in images])
    sample = np.random.default_rng(0).choice(pixels, 10_000)
    palette = Image.fromarray(sample[None]).quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


def is_whole_png(path):
    """Whether a PNG file is as it was written: the checksums of all its parts fit."""
    try:
        if not path_of(path).is_file():
            return False
        with Image.open(path, formats=["PNG"]) as image:
            small = image.width * image.height < 1 << 25
            image.verify()
        return small
    except Exception:  # noqa: BLE001  Pillow raises many kinds for damaged bytes
        return False


def as_image(frame):
    """A PIL image (RGB), or what the image file at this path holds; InputError where there is none."""
    try:
        return (frame if isinstance(frame, Image.Image) else Image.open(frame)).convert("RGB")
    except (OSError, AttributeError, TypeError) as error:
        raise InputError(f"frame {frame} cannot be read as an image ({error})") from None


def png_bytes(image, smallest=False):
    """A PIL image or uint8 array (H, W, 3) as a PNG: same image, same bytes. `smallest`: slower, some per cent less."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(_images(np.asarray(image)[None], "the image")[0])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=smallest)
    return buffer.getvalue()


def save_png(image, path, max_kb=None):
    """Writes a PIL image or uint8 array (H, W, 3) as a PNG and returns its path. A file of more than `max_kb` times
    1000 bytes gets a palette of 256 colours, then of 128, 64, 32, until it fits."""
    data, palettes = png_bytes(image, smallest=True), [32, 64, 128, 256]
    image = Image.open(io.BytesIO(data)).convert("RGB")
    while max_kb is not None and len(data) > max_kb * 1000:
        if not palettes:
            raise InputError(f"{path} would take more than {max_kb} kB in 32 colours; show fewer or smaller images")
        data = png_bytes(_indexed([image], palettes.pop())[0], smallest=True)
    with replacing_file(path := path_of(path)) as temporary:
        temporary.write_bytes(data)
    return path


def curves(stats, keys, x="kimg"):
    """Numbers of a run against its progress: a matplotlib Figure that is closed, so that a notebook shows it once.

    stats: a run's `stats`, a list of dicts; one without a key is left out of that key's curve. keys: names, or one.
    x: "kimg" (thousands of pairs or images seen), "step" or "seconds". InputError for a name that no dict has."""
    import matplotlib.pyplot as plt  # takes a second

    keys = [keys] if isinstance(keys, str) else list(keys)
    known = sorted({name for tick in stats for name, value in tick.items() if value is not None})
    if missing := [name for name in (x, *keys) if name not in known]:
        raise InputError(f"no tick has {missing[0]!r}; there are: {', '.join(known) or 'no ticks at all'}")
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    plt.close(figure)
    shown = []
    for key in keys:
        points = [(tick[x], tick[key]) for tick in stats if tick.get(key) is not None and tick.get(x) is not None]
        axes.plot(*zip(*points), label=key, marker="." if len(points) < 30 else None)
        shown += [value for _, value in points]
    if min(shown) > 0 and max(shown) / min(shown) >= 30:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.set_xlabel("thousands of images seen" if x == "kimg" else x)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the curves
    return figure
