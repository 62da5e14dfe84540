"""The explorer: `explore()` puts sliders on a point (points.py says what a point is and generates its image).

The student's image is there in milliseconds. A teacher's, which may take twenty times longer, follows: a thread of its
own generates it, and of many requests only the newest. Core widgets only, those of ipywidgets 7.7 (Colab) and 8.1.
"""

import asyncio
import base64
import re
import secrets
from html import escape
from types import SimpleNamespace

from ..core.figures import grid, png_bytes
from ..core.files import InputError
from ..data.images import CIFAR10_CLASSES
from ..networks.stylegan2 import StyleGAN2Generator
from ..teachers.black_box import from_network
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
        classes, scale: their names (else the teacher's, else numbers); enlargement of the images.

    Returns an ipywidgets VBox (7.7 and 8.1). Its `.parts` names the widgets: `parts.seed.value = 3` moves a slider."""
    known = CIFAR10_CLASSES if isinstance(student, str) and student == "embedded" else None
    student, teacher = load_student(student), None if teacher is None else load_teacher(teacher)
    z_dim, count = sizes(student)
    if teacher is not None and sizes(teacher) != (z_dim, count):
        differ = f"the student takes (z_dim, classes) {z_dim, count}, the teacher {sizes(teacher)}"
        raise InputError(f"{differ}: give the teacher that it was distilled from, or teacher=None")
    names = [str(name) for name in classes or getattr(teacher, "classes", known) or range(count)]
    if len(names) != count:
        raise InputError(f"classes has {len(names)} names, the student {count} classes")
    parts, app = _widgets(names, teacher)
    _connect(parts, names, student, teacher, scale)
    app.parts = parts
    return app


def _connect(parts, names, student, teacher, scale):
    """Makes the controls in `parts` act: every change on the student, and on the teacher if it is shown."""

    def where():
        point = {name: getattr(parts, name).value for name in ("label", "seed", "to", "mix", "seed_to", "walk")}
        return {"y": point.pop("label"), **point}

    def draw(generator, point):
        return png_bytes(grid(picture(generator, **point)[None], columns=1, scale=scale, pad=0))

    def show(role, point, png):
        getattr(parts, role).value = png
        getattr(parts, f"save_{role}").value = _link(png, role, names, **point)

    def draw_teacher(point, psi):
        same = dict(name=teacher.name, half=teacher.half, classes=teacher.classes)
        return point, draw(teacher if psi == teacher.psi else from_network(teacher.network, psi=psi, **same), point)

    def show_teacher(answer):
        point, png = answer
        show("teacher", point, png)
        shown = names[dominating(point["y"], point["to"], point["mix"])]
        between = 0 < point["mix"] < 1 and point["to"] != point["y"]
        say("teacher", f"A teacher takes one class only; it shows {shown}." if between else "")

    def say(title, note):
        parts.title.value, parts.note.value = title, escape(note)

    def redraw(_=None):
        point, beside = where(), teacher is not None and parts.beside.value
        show("student", point, draw(student, point))
        parts.panel.layout.display = None if beside else "none"
        if beside:
            parts.title.value = "teacher ..."  # until its image has followed
            ask_teacher(point, parts.psi.value)

    def renew(_):
        parts.seed.value = (parts.seed.value + 1 + secrets.randbelow(SEEDS - 1)) % SEEDS  # never the same
        parts.walk.value = 0.0  # at the walk's end the first seed is not seen

    failed = "teacher: no picture"
    ask_teacher = Newest(draw_teacher, show_teacher, lambda error: say(failed, f"{type(error).__name__}: {error}"))
    if teacher is not None:
        show_teacher(draw_teacher(where(), teacher.psi))  # the first one at once: if it fails, explore() does
    show("student", where(), draw(student, where()))
    for name in ("label", "to", "mix", "seed", "seed_to", "walk", "beside", "psi"):
        getattr(parts, name).observe(redraw, names="value")
    parts.new_seed.on_click(renew)


def _widgets(names, teacher):
    """The widgets by name, and the box that holds them all."""
    import ipywidgets as widgets

    options, psi = [(name, index) for index, name in enumerate(names)], 1.0 if teacher is None else teacher.psi
    look = {"style": {"description_width": "7.5em"}, "layout": {"width": "25em"}}

    def slider(kind, description, most, step, value=0):
        ends = {"min": min(0, value), "max": max(most, value)}
        return kind(value=value, description=description, **ends, step=step, continuous_update=False, **look)

    parts = SimpleNamespace(
        label=widgets.ToggleButtons(options=options, value=0, style={"button_width": "6.5em"}),
        to=widgets.Dropdown(options=options, value=min(1, len(names) - 1), description="second class", **look),
        mix=slider(widgets.FloatSlider, "mix", 1.0, 0.05),
        seed=slider(widgets.IntSlider, "seed", SEEDS - 1, 1),
        new_seed=widgets.Button(description="new seed", layout={"margin": "2px 2px 10px 7.9em"}),
        seed_to=slider(widgets.IntSlider, "second seed", SEEDS - 1, 1, value=1),
        walk=slider(widgets.FloatSlider, "walk", 1.0, 0.05),
        beside=widgets.Checkbox(value=teacher is not None, description="teacher beside student", indent=False),
        psi=slider(widgets.FloatSlider, "truncation", 1.0, 0.01, psi),
        title=widgets.Label("teacher"),
        note=widgets.HTML(layout={"max_width": "20em"}),
    )
    parts.student, parts.teacher = widgets.Image(format="png"), widgets.Image(format="png")
    parts.save_student, parts.save_teacher = widgets.HTML(), widgets.HTML()
    controls = [parts.seed, parts.new_seed, parts.to, parts.mix, parts.seed_to, parts.walk]
    if teacher is not None:  # a black box shows no knob that it has not
        made = "" if psi == 1 else f"; this one was made with psi {psi:g}"
        label = widgets.Label(f"truncation: only StyleGAN2 teachers have one{made}")
        controls += [parts.beside, parts.psi if isinstance(teacher.network, StyleGAN2Generator) else label]
    column = {"margin": "0 1em 0 0", "align_items": "flex-start"}  # not stretched to the width of a note
    left = widgets.VBox([widgets.Label("student"), parts.student, parts.save_student], layout=column)
    column = column | {"display": "none" if teacher is None else None}
    parts.panel = widgets.VBox([parts.title, parts.teacher, parts.save_teacher, parts.note], layout=column)
    row = widgets.HBox([left, parts.panel, widgets.VBox(controls)], layout={"flex_flow": "row wrap"})
    return parts, widgets.VBox([parts.label, row])


class Newest:
    """Of many requests the newest is answered: `newest(*state)` leads to show(draw(*state)) or failed(error).

    In a running event loop (a notebook, Voila), `draw` runs in a thread, one at a time, after `pause` seconds without
    a newer request, and `show` in the loop, which is never kept waiting. In a script all of it happens at once."""

    def __init__(self, draw, show, failed, pause=PAUSE):
        self.draw, self.show, self.failed, self.pause, self.drawing = draw, show, failed, pause, asyncio.Lock()

    def __call__(self, *state):
        self.newest = ticket = object()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            react, result = self._answer(state)
            return react(result)
        self.task = loop.create_task(self._follow(ticket, state))

    async def _follow(self, ticket, state):
        await asyncio.sleep(self.pause)
        async with self.drawing:
            if ticket is self.newest:
                react, result = await asyncio.to_thread(self._answer, state)
        if ticket is self.newest:
            react(result)

    def _answer(self, state):
        try:
            return self.show, self.draw(*state)  # what to call, with what
        except Exception as error:  # anybody's teacher: the page says so, and the student goes on
            return self.failed, error


def _link(png, role, names, seed, y, to, mix, seed_to, walk):
    """A button that is a link: the browser saves the image, wherever the kernel runs, under a name such as
    gsoc_kd-student-ship-seed7.png; mix and walk are named where they are not 0."""
    shown = names[y] + (f"-to-{names[to]}-{mix:.2f}" if mix else "")
    place = f"seed{seed}" + (f"-to-{seed_to}-{walk:.2f}" if walk else "")
    name = re.sub(r"[^\w.-]+", "_", f"gsoc_kd-{role}-{shown}-{place}") + ".png"
    button = f'<a class="jupyter-button widget-button" style="text-decoration: none" download="{name}"'
    return f'{button} href="data:image/png;base64,{base64.b64encode(png).decode()}">save PNG</a>'
