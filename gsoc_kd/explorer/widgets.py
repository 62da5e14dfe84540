"""The explorer: `explore()` puts sliders on a point (points.py says what a point is and draws it).

The student is drawn at once, in milliseconds. A teacher may be twenty times slower, so its picture follows: it
is drawn in a thread of its own, and of many requests only the newest (`Newest`). Core widgets only: they work
with ipywidgets 7.7, as on Colab, and 8.1.
"""

import asyncio
import base64
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import escape
from types import SimpleNamespace

from ..core.figures import grid, png_bytes
from ..core.files import InputError
from ..data.images import CIFAR10_CLASSES, to_uint8
from ..networks.stylegan2 import StyleGAN2Generator
from ..teachers.black_box import in_half
from ..teachers.load import load_student, load_teacher
from .points import dominating, picture, sizes

SEEDS = 10_000  # the sliders offer seeds 0 to 9,999
PAUSE = 0.15  # seconds without a change before the teacher is asked


def explore(student="embedded", teacher="embedded", classes=None, scale=8):
    """The student under your hands: class, seed, way between two classes, spherical walk, teacher beside it.

    Args:
        student: a network with z_dim and num_classes, or what else `load_student` takes.
        teacher: the teacher it was distilled from, as `load_teacher` takes it; None leaves it out. Where a
            StyleGAN2 network is behind it, there is a slider for its truncation.
        classes: their names; else the teacher's, else numbers.
        scale: enlargement of the pictures.

    Returns:
        ipywidgets VBox (7.7 and 8.1). Its `.parts` names the widgets: `parts.seed.value = 3` moves a slider.

    Raises:
        InputError: student and teacher differ in latents or classes; the wrong number of names.
    """
    from_package = isinstance(student, str) and student == "embedded"
    student = load_student(student)
    if teacher is not None:
        teacher = load_teacher(teacher)
        if sizes(teacher) != sizes(student):
            raise InputError(
                f"the student takes (z_dim, classes) {sizes(student)}, the teacher "
                f"{sizes(teacher)}: give the teacher that it was distilled from, or teacher=None"
            )
    _, num_classes = sizes(student)
    names = classes or getattr(teacher, "classes", None) or getattr(student, "classes", None)
    names = names or (CIFAR10_CLASSES if from_package else range(num_classes))
    names = [str(name) for name in names]
    if len(names) != num_classes:
        raise InputError(f"classes has {len(names)} names, the student {num_classes} classes")
    parts, app = _widgets(names, teacher)
    _connect(parts, names, student, teacher, scale)
    app.parts = parts
    return app


def _connect(parts, names, student, teacher, scale):
    """Makes the controls in `parts` draw: every change the student, and the teacher if it is shown."""

    def where():
        return dict(
            seed=parts.seed.value,
            y=parts.label.value,
            to=parts.to.value,
            mix=parts.mix.value,
            seed_to=parts.seed_to.value,
            walk=parts.walk.value,
        )

    def draw(generator, point):
        return png_bytes(grid(picture(generator, **point)[None], columns=1, scale=scale, pad=0))

    def show(role, point, png):
        getattr(parts, role).value = png
        getattr(parts, f"save_{role}").value = _link(png, _file_name(role, names, point))

    def draw_teacher(point, psi):
        return point, draw(teacher if psi == teacher.psi else truncated(teacher, psi), point)

    def show_teacher(answer):
        point, png = answer
        show("teacher", point, png)
        between = 0 < point["mix"] < 1 and point["to"] != point["y"]
        shown = names[dominating(point["y"], point["to"], point["mix"])]
        parts.note.value = f"A teacher takes one class only; it shows {escape(shown)}." if between else ""
        parts.title.value = "teacher"

    def teacher_failed(error):
        parts.title.value = "teacher: no picture"
        parts.note.value = escape(f"{type(error).__name__}: {error}")

    def redraw(_=None):
        point = where()
        show("student", point, draw(student, point))
        if teacher is not None and parts.beside.value:
            parts.title.value = "teacher ..."  # until its picture has followed
            ask_teacher(point, teacher.psi if parts.psi is None else parts.psi.value)

    def renew(_):
        parts.walk.unobserve(redraw, names="value")
        parts.walk.value = 0.0  # at the walk's end the first seed would not be seen
        parts.walk.observe(redraw, names="value")
        parts.seed.value = (parts.seed.value + 1 + secrets.randbelow(SEEDS - 1)) % SEEDS  # never the same

    def show_or_hide(_=None):
        parts.panel.layout.display = None if parts.beside.value else "none"
        redraw()

    show("student", where(), draw(student, where()))
    if teacher is None:
        parts.panel.layout.display = "none"
    else:
        show_teacher(draw_teacher(where(), teacher.psi))  # the first one at once: if it fails, explore() does
    ask_teacher = Newest(draw_teacher, show_teacher, teacher_failed)
    for control in (parts.label, parts.to, parts.mix, parts.seed, parts.seed_to, parts.walk, parts.psi):
        if control is not None:
            control.observe(redraw, names="value")
    parts.new_seed.on_click(renew)
    parts.beside.observe(show_or_hide, names="value")


def _widgets(names, teacher):
    """The widgets by name, and the box that holds them all."""
    import ipywidgets as widgets

    options = [(name, index) for index, name in enumerate(names)]
    style, wide = {"description_width": "7.5em"}, widgets.Layout(width="25em")

    def slider(kind, description, most, step, **more):
        return kind(
            description=description,
            min=0,
            max=most,
            step=step,
            continuous_update=False,
            style=style,
            layout=wide,
            **more,
        )

    parts = SimpleNamespace(
        label=widgets.ToggleButtons(options=options, value=0, style={"button_width": "6.5em"}),
        to=widgets.Dropdown(
            options=options, value=min(1, len(names) - 1), description="second class", style=style, layout=wide
        ),
        mix=slider(widgets.FloatSlider, "mix", 1.0, 0.05),
        seed=slider(widgets.IntSlider, "seed", SEEDS - 1, 1),
        new_seed=widgets.Button(description="new seed", layout=widgets.Layout(margin="2px 2px 10px 7.9em")),
        seed_to=slider(widgets.IntSlider, "second seed", SEEDS - 1, 1, value=1),
        walk=slider(widgets.FloatSlider, "walk", 1.0, 0.05),
        beside=widgets.Checkbox(value=teacher is not None, description="teacher beside student", indent=False),
        student=widgets.Image(format="png"),
        save_student=widgets.HTML(),
        teacher=widgets.Image(format="png"),
        save_teacher=widgets.HTML(),
        title=widgets.Label("teacher"),
        note=widgets.HTML(layout=widgets.Layout(max_width="20em")),
        psi=None,
    )
    parts.panel = widgets.VBox([parts.title, parts.teacher, parts.save_teacher, parts.note])
    controls = [parts.seed, parts.new_seed, parts.to, parts.mix, parts.seed_to, parts.walk]
    if teacher is not None:
        if isinstance(teacher.network, StyleGAN2Generator):
            parts.psi = slider(widgets.FloatSlider, "truncation", max(1.0, teacher.psi), 0.01, value=teacher.psi)
        else:  # a black box shows no knob that it has not
            fixed = "" if teacher.psi == 1 else f"; this one was made with psi {teacher.psi:g}"
            without = widgets.Label(f"truncation: only StyleGAN2 teachers have one{fixed}")
        controls += [parts.beside, without if parts.psi is None else parts.psi]
    pictures = [widgets.VBox([widgets.Label("student"), parts.student, parts.save_student]), parts.panel]
    for box in pictures:  # a box must not stretch its picture to the width of a note
        box.layout = widgets.Layout(margin="0 1em 0 0", align_items="flex-start")
    return parts, widgets.VBox(
        [parts.label, widgets.HBox([*pictures, widgets.VBox(controls)], layout=widgets.Layout(flex_flow="row wrap"))]
    )


def truncated(teacher, psi):
    """The teacher with another truncation psi, its weights shared. InputError without a StyleGAN2 network."""
    if not isinstance(teacher.network, StyleGAN2Generator):
        raise InputError(f"{teacher.name} has no truncation: psi={psi} needs a StyleGAN2 network")

    def draw(z, y):
        device = next(teacher.network.parameters()).device
        with in_half(device, teacher.half):
            return to_uint8(teacher.network(z.to(device), y.to(device), psi=psi, noise_mode="const"))

    return replace(teacher, draw=draw, psi=float(psi))


class Newest:
    """Of many requests the newest is answered: `newest(*state)` leads to show(draw(*state)) or failed(error).

    In a running event loop, as in a notebook or behind Voila, `draw` runs in one thread of its own after
    `pause` seconds without a newer request, and `show` in the loop, unless a newer request has come by then: the
    loop is never kept waiting. Without a loop, as in a script, all of it happens at once.
    """

    def __init__(self, draw, show, failed, pause=PAUSE):
        self.draw, self.show, self.failed, self.pause = draw, show, failed, pause
        self.newest = None
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explore")

    def __call__(self, *state):
        ticket = self.newest = object()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            react, result = self._answer(state)
            return react(result)

        def work():  # in the worker's thread
            if ticket is self.newest:
                loop.call_soon_threadsafe(deliver, *self._answer(state))

        def deliver(react, result):  # in the loop again
            if ticket is self.newest:
                react(result)

        loop.call_later(self.pause, lambda: ticket is self.newest and self.worker.submit(work))

    def _answer(self, state):
        """(what to call, with what)."""
        try:
            return self.show, self.draw(*state)
        except Exception as error:  # anybody's teacher: the page says so, and the student goes on
            return self.failed, error


def _link(png, name):
    """A button that is a link: the browser saves the picture, wherever the kernel runs."""
    data = base64.b64encode(png).decode()
    return (
        f'<a class="jupyter-button widget-button" download="{name}" href="data:image/png;base64,{data}" '
        'style="text-decoration: none">save PNG</a>'
    )


def _file_name(role, names, point):
    """gsoc_kd-student-ship-seed7.png; mix and walk are named where they are not 0."""
    place = names[point["y"]]
    if point["mix"]:
        place += f"-to-{names[point['to']]}-{point['mix']:.2f}"
    place += f"-seed{point['seed']}"
    if point["walk"]:
        place += f"-to-{point['seed_to']}-{point['walk']:.2f}"
    return re.sub(r"[^\w.-]+", "_", f"gsoc_kd-{role}-{place}") + ".png"
