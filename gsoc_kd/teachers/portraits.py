"""Pictures that introduce a teacher: how varied one class is, how its training went, what its styles do
(docs/Teacher-Network.md)."""

import numpy as np
import torch
from PIL import Image

from ..core.figures import as_picture, beside, grid, named_rows
from ..core.files import InputError
from ..pairs.make import draw_latents


def variety(teacher, label, real=None, side=8, seed=0, scale=2):
    """Many pictures of one class, none selected: the teacher's and, where there are any, real ones beside them.

    Args:
        teacher: a Teacher; its latents are `draw_latents(seed, label, ...)`.
        label: index of the class.
        real: LabelledImages with the same classes; `seed` draws from its pictures of that class. None: the teacher's
            pictures alone.
        side: pictures a row and a column.
        scale: enlargement.

    Returns:
        PIL.Image.

    Raises:
        InputError: no such class, or fewer than side x side real pictures of it.
    """
    if not 0 <= label < teacher.num_classes:
        raise InputError(f"label {label} is out of range: {teacher.name!r} has {teacher.num_classes} classes")
    z, name = torch.from_numpy(draw_latents(seed, label, side * side, teacher.z_dim)), teacher.classes[label]
    shown = {f"{name}, drawn": teacher(z, torch.full((len(z),), label))}
    if real is not None:
        known = np.flatnonzero(real.labels == label)
        if len(known) < len(z):
            raise InputError(f"{real.source} has {len(known)} pictures of {name!r}; {len(z)} are to be shown")
        shown[f"{name}, real"] = real.images[np.random.default_rng(seed).choice(known, len(z), replace=False)]
    return beside([grid(images, side, scale) for images in shown.values()], shown)


def film_pictures(frame, rows, columns):
    """The last `columns` pictures of each row of a film's frame: uint8 (rows, columns, S, S, 3).

    Args:
        frame: PIL image or path of an image file, as `figures.class_grid` draws it with scale 1: a row of square
            pictures a class, one white pixel between them; names at the left are left out.
        rows: how many classes.
        columns: pictures of each class.

    Raises:
        InputError: it cannot be read, or does not hold so many.
    """
    pixels = np.asarray(as_picture(frame))
    side, rest = divmod(len(pixels) - 1, rows)  # S and a white line
    if rest or columns < 1 or columns * side + 1 > pixels.shape[1]:
        raise InputError(
            f"a frame of {pixels.shape[1]}x{len(pixels)} pixels does not hold {rows} rows of {columns} square pictures"
        )
    cells = pixels[1:, -columns * side :].reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return cells[:, :, : side - 1, : side - 1]


def film_strip(frames, captions, classes, columns=1, scale=2):
    """Moments of a training beside each other: the last columns of some frames of its film, a row a class.

    Args:
        frames: PIL images or paths of image files, see `film_pictures`.
        captions: what to write above each, for instance how many images the network had seen.
        classes: class names, written at the left, a row each.
        columns: pictures of a class to show of each frame, from the same latents in all of them.
        scale: enlargement.

    Raises:
        InputError: no frames, not one caption a frame, or a frame that cannot be read or holds less than that.
    """
    if not len(frames) or len(frames) != len(captions):
        raise InputError(
            f"give one caption a frame, and at least one; got {len(frames)} frames and {len(captions)} captions"
        )
    pictures = [film_pictures(frame, len(classes), columns) for frame in frames]  # (C, columns, S, S, 3) each
    parts = [grid(images.reshape(-1, *images.shape[2:]), columns, scale) for images in pictures]
    names = named_rows(Image.new("RGB", (0, parts[0].height)), [str(name) for name in classes])
    return beside([names, *parts], ["", *captions], gap=6)


def style_map(network, labels=(0, 1, 2), psis=(1.0, 0.5), names=None, each=150, seed=0):
    """What a mapping network does to noise, and truncation to styles: clouds of points, a colour a class.

    Left two of the numbers of z, the same z for every class; then, for each psi, the styles w, seen along the two
    directions in which the styles of these classes spread most (principal axes), with a cross at the average style of
    all classes.

    Args:
        network: StyleGAN2Generator whose average style was measured (`centre`).
        labels: classes to show.
        psis: truncations to show.
        names: of these classes, for the legend; by default their numbers.
        each: points a class.
        seed: of z.

    Returns:
        matplotlib Figure.
    """
    import matplotlib.pyplot as plt

    z = torch.from_numpy(draw_latents(seed, 0, each, network.z_dim)).float()  # (each, z_dim)
    with torch.no_grad():
        found = {psi: [network.styles(z, torch.full((each,), label), psi) for label in labels] for psi in psis}
        whole = torch.cat([network.styles(z, torch.full((each,), label)) for label in labels])
    axes = torch.linalg.svd(whole - whole.mean(0), full_matrices=False).Vh[:2]  # (2, w_dim)

    def place(w):
        return ((w - whole.mean(0)) @ axes.T).numpy()  # (N, 2)

    figure, panels = plt.subplots(1, 1 + len(psis), figsize=(3.1 * (1 + len(psis)), 3.2), layout="constrained")
    plt.close(figure)
    reach = 1.1 * np.abs(place(whole)).max()
    panels[0].scatter(*z[:, :2].T, s=6, color="0.4")
    for i, name in enumerate(names or labels):
        for panel, clouds in zip(panels[1:], found.values()):
            panel.scatter(*place(clouds[i]).T, s=6, color=f"C{i}", label=str(name))
    panels[0].set_title("noise z, the same for all classes", fontsize=10)
    for panel, psi in zip(panels[1:], psis):
        panel.scatter(*place(network.w_avg[None]).T, marker="x", color="black", s=60, label="average")
        panel.set(xlim=(-reach, reach), ylim=(-reach, reach))
        panel.set_title(f"style w, psi {psi:g}", fontsize=10)
    panels[1].legend(fontsize=8)
    return figure
