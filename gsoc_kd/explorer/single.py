"""Small widgets that answer one question each: truncation, a training frame by frame, two exported files."""

import copy
import time
from collections import deque
from html import escape
from statistics import median
from types import SimpleNamespace

import numpy as np
from torch import nn

from ..core.checks import path_of, whole
from ..core.figures import as_image, grid, png_bytes
from ..core.files import InputError, left_behind
from ..core.state import as_before
from ..teachers.load import load_teacher
from .newest import Newest
from .points import image_at, samples, sizes, truncatable, truncated
from .views import AMPLIFY, difference, enlarged

LOOK = {"style": {"description_width": "6.5em"}, "layout": {"width": "26em"}}


def explore_truncation(teacher, label=0, columns=8, scale=3):
    """A slider for a teacher's truncation psi: images of seeds 0 to 3 * columns - 1 of the class `label`, all at once.

    teacher: as `load_teacher` takes it, with a truncation that can be chosen. InputError: it has none.
    Returns a VBox with `.parts`: psi, image, note."""
    import ipywidgets as widgets

    with as_before(teacher):
        teacher = load_teacher(copy.deepcopy(teacher) if isinstance(teacher, nn.Module) else teacher)
    if not truncatable(teacher):
        raise InputError(f"{teacher.name} has no truncation: a StyleGAN2 network has, or a callable (z, y, psi=1.0)")
    count = 3 * whole("columns", columns)
    low, high = min(0.0, teacher.psi), max(1.0, teacher.psi)
    parts = SimpleNamespace(
        psi=widgets.FloatSlider(teacher.psi, min=low, max=high, step=0.01, description="truncation", **LOOK),
        image=widgets.Image(format="png"),
        note=widgets.HTML(),
    )

    def draw(psi):
        images = samples(truncated(teacher, psi), range(count), [label] * count)
        return png_bytes(grid(images, columns=columns, scale=scale)), float(images.std(axis=0).mean())

    def show(answer):
        parts.image.value, spread = answer
        parts.note.value = f"standard deviation of a pixel over the {count} images: {spread:.1f} grey levels"

    def failed(error):
        parts.note.value = escape(f"{type(error).__name__}: {error}")

    show(draw(teacher.psi))  # the first at once: if it fails, this call does
    newest = Newest(draw, show, failed)
    parts.psi.observe(lambda change: newest(change["new"]), names="value")
    return _box([parts.psi, parts.image, parts.note], parts)


def explore_training(run, scale=2):
    """A slider through the training of a run: the frames of its training animation, with the numbers of each tick.

    run: a Run, or the folder of one. InputError: it has no frames. Returns a VBox with `.parts`: tick, play, image,
    note."""
    import ipywidgets as widgets

    from ..training.runs import read_stats  # and with it what trains: the other widgets need none of it

    folder = path_of(getattr(run, "folder", run), "a run")
    frames = sorted(path for path in (folder / "animation").glob("*.png") if not left_behind(path.name))
    if not frames:
        raise InputError(f"{folder} has no frames of a training: give the run, or the folder that a run was written to")
    try:
        rows, damage = {row["step"]: row for row in read_stats(folder) if "step" in row}, []
    except InputError as error:
        rows, damage = {}, [str(error)]
    last = len(frames) - 1
    parts = SimpleNamespace(
        tick=widgets.IntSlider(last, min=0, max=last, description="tick", readout=False, **LOOK),
        play=widgets.Play(value=last, min=0, max=last, interval=200),
        image=widgets.Image(format="png"),
        note=widgets.HTML(),
    )

    def show(_=None):
        frame = frames[parts.tick.value]
        parts.image.value = enlarged(np.asarray(as_image(frame)), scale)
        row = rows.get(int(frame.stem) if frame.stem.isdigit() else None, {})
        numbers = {name: value for name, value in row.items() if name in ("pixel", "feature", "adversarial", "disc")}
        told = [f"tick {parts.tick.value + 1} of {last + 1}"]
        told += [f"{row['kimg']:.3g} thousand images seen"] if "kimg" in row else []
        told += [f"{name} {value:.3f}" for name, value in numbers.items() if isinstance(value, float)]
        parts.note.value = escape(", ".join(told + damage))

    show()
    parts.tick.observe(show, names="value")
    parts.link = widgets.jslink((parts.play, "value"), (parts.tick, "value"))
    return _box([widgets.HBox([parts.play, parts.tick]), parts.image, parts.note], parts)


def explore_exports(*paths, device="CPU", scale=6):
    """Two exported files of one student side by side, such as fp32 and INT8: the same class and seed, where they
    differ, milliseconds for each image, on a device of OpenVINO's that can be chosen.

    paths: two files that `export` wrote. InputError: other than two, files that cannot be loaded or do not fit.
    Returns a VBox with `.parts`: label, seed, device, images (two), difference, notes (three)."""
    import ipywidgets as widgets

    from ..deployment import load_exported
    from ..deployment.export import need

    if len(paths) != 2:
        raise InputError(f"give two exported files to compare, not {len(paths)}")
    loaded = {device: [load_exported(path, device=device) for path in paths]}
    first, second = loaded[device]
    if sizes(first) != sizes(second) or first.resolution != second.resolution:
        raise InputError(f"{paths[0]} and {paths[1]} are of students of other sizes: give two exports of one student")
    devices = list(dict.fromkeys([device, "AUTO", *need("openvino").Core().available_devices]))
    parts = SimpleNamespace(
        label=widgets.Dropdown(options=[(n, i) for i, n in enumerate(first.classes)], description="class", **LOOK),
        seed=widgets.IntSlider(0, min=0, max=999, description="seed", **LOOK),
        device=widgets.Dropdown(options=devices, value=device, description="device", **LOOK),
        images=[widgets.Image(format="png") for _ in paths],
        difference=widgets.Image(format="png"),
        notes=[widgets.HTML() for _ in range(3)],
    )
    times = [deque(maxlen=9) for _ in paths]

    def show(_=None):
        shown = []
        for runner, widget, note, took in zip(loaded[parts.device.value], parts.images, parts.notes, times):
            start = time.perf_counter()
            shown.append(image_at(runner, parts.seed.value, parts.label.value))
            took.append(time.perf_counter() - start)
            widget.value = enlarged(shown[-1], scale, smooth=True)
            note.value = f"{escape(runner.precision)}, {1000 * median(took):.2f} ms"
        apart, mean = difference(*shown)
        parts.difference.value = enlarged(apart, scale)
        parts.notes[2].value = f"difference, {AMPLIFY} times as bright: mean {mean:.2f} of 255 grey levels"

    def move(change):
        try:
            if change["new"] not in loaded:
                loaded[change["new"]] = [load_exported(path, device=change["new"]) for path in paths]
        except InputError as error:
            parts.device.value = change["old"]
            parts.notes[2].value = escape(str(error))
            return
        for took in times:
            took.clear()
        show()

    show()
    parts.device.observe(move, names="value")
    for control in (parts.label, parts.seed):
        control.observe(show, names="value")
    shown = [*parts.images, parts.difference]
    panels = [widgets.VBox([image, note], layout={"margin": "0 12px 0 0"}) for image, note in zip(shown, parts.notes)]
    row = widgets.HBox(panels, layout={"flex_flow": "row wrap"})
    return _box([parts.device, parts.label, parts.seed, row], parts)


def _box(children, parts):
    import ipywidgets as widgets

    box = widgets.VBox(children)
    box.parts = parts
    return box
