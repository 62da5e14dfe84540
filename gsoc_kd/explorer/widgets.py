"""The explorer: `explore()` opens on a wall of samples; a click makes one of them the point that the sliders move.

points.py says what a point is and generates its image. The student's image is there in milliseconds and follows a drag.
A teacher's, which may take longer, follows when it can (newest.py). Core widgets only, those of ipywidgets 7.7 (Colab)
and 8.1."""

import contextlib
import copy
import secrets
import time
from collections import deque
from html import escape
from pathlib import Path
from statistics import median

import torch

from ..core.checks import as_names, classes_of, whole
from ..core.files import InputError
from ..core.latents import z_from
from ..core.state import as_before
from ..data.images import CIFAR10_CLASSES
from ..evaluation.classifier import load_classifier
from ..evaluation.names import matching, unnamed
from ..teachers.load import load_student, load_teacher
from .newest import Newest
from .points import dominating, image_at, sizes, truncated
from .views import AMPLIFY, SEEDS, arranged, bars, controls, difference, enlarged, link
from .wall import COLUMNS, Wall, classifier_of

SIDE = 192  # pixels that an enlarged image is about wide


def explore(student="embedded", teacher="embedded", classes=None, scale=None, columns=COLUMNS):
    """The student under your hands: a wall of samples, each a button; class, seed, way between two classes, spherical
    walk; the teacher beside it, where the two differ, what the evaluation classifier sees, time for each image.

    Args:
        student: a network with z_dim and num_classes, or what else `load_student` takes.
        teacher: the teacher it was distilled from, as `load_teacher` takes it; None leaves it out. One whose truncation
            can be chosen (StyleGAN2, or a callable with a number as argument psi) has a slider for it.
        classes: their names (else the student's, else the teacher's, else numbers).
        scale: enlargement of the images (None: to about 192 pixels). columns: samples for each class on the wall.

    Networks are copied: what they are, their mode, and the caller's random state stay as they were. InputError: student
    and teacher do not fit, or cannot be loaded.

    Returns an ipywidgets VBox (7.7 and 8.1). Its `.parts` names the widgets: `parts.seed.value = 3` moves a slider."""
    with as_before(student, teacher):
        return _Explorer(*_loaded(student, teacher, classes), scale, columns).app


def _loaded(student, teacher, classes):
    """(student, teacher or None, names of the classes, the teacher's label for each of the student's)."""
    if not isinstance(student, str | Path | torch.nn.Module):
        raise InputError(f"a student to explore is a folder or a network, not {type(student).__name__}")
    student, teacher = (copy.deepcopy(one) if isinstance(one, torch.nn.Module) else one for one in (student, teacher))
    student = load_student(student)
    z_dim, count = sizes(student)
    if count < 1:
        raise InputError("this generator has no classes; only class-conditional ones can be explored")
    names = classes_of(student) or [*map(str, range(count))]
    order = list(range(count))
    if teacher is not None:
        teacher = load_teacher(teacher)
        if sizes(teacher) != (z_dim, count):
            differ = f"the student takes (z_dim, classes) {z_dim, count}, the teacher {sizes(teacher)}"
            raise InputError(f"{differ}: give the teacher that it was distilled from, or teacher=None")
        theirs = list(teacher.classes)
        names = theirs if unnamed(names) else names
        if (found := matching(theirs, names)) is None:
            differ = f"the student's classes are {', '.join(names)}, the teacher's {', '.join(theirs)}"
            raise InputError(f"{differ}: give the teacher that it was distilled from, or teacher=None")
        order = found[0]
    names = names if classes is None else as_names(classes)
    if len(names) != count or len(set(names)) != count:
        raise InputError(f"classes has {len(set(names))} different names, the student {count} classes")
    return student, teacher, names, order


class _Explorer:
    """The widgets `parts` and what each of them does."""

    def __init__(self, student, teacher, names, order, scale, columns):
        self.student, self.teacher, self.names, self.order = student, teacher, names, order
        self.times = {"student": deque(maxlen=9), "teacher": deque(maxlen=9)}
        self.quiet, self.seen, self.asked = False, {}, None
        first = image_at(student, 0, 0)
        self.scale = max(1, round(SIDE / first.shape[0])) if scale is None else whole("scale", scale)
        self.alike = teacher is not None and teacher.resolution == first.shape[0]  # their difference is an image, too
        knows = set(names) == set(CIFAR10_CLASSES) and first.shape == (32, 32, 3)
        self.verdict = classifier_of(names, load_classifier()) if knows else None
        self.parts, rows = controls(names, teacher)
        self.wall = Wall(student, names, self.verdict, self.go, columns)
        self.app = arranged(self.parts, self.wall.parts.box, rows, teacher is not None)
        self.app.parts = self.parts
        self.parts.wall = self.wall
        self.ask_teacher = Newest(self.draw_teacher, self.show_teacher, self.teacher_failed)
        self.go(*self.wall.best(), first=True)
        for name in ("label", "to", "mix", "seed", "seed_to", "walk", "beside", "psi"):
            getattr(self.parts, name).observe(self.redraw, names="value")
        self.parts.look.observe(self.change_look, names="value")
        self.parts.new_seed.on_click(self.renew)
        self.parts.play.observe(self.stroll, names="value")
        self.wall.parts.more.on_click(lambda _: self.mark())  # the wall shows other samples
        self.wall.parts.surest.observe(lambda _: self.mark(), names="value")

    # ---------------------------------------------------------------- the point

    def where(self):
        point = {name: getattr(self.parts, name).value for name in ("label", "seed", "to", "mix", "seed_to", "walk")}
        return {"y": point.pop("label"), **point}

    @contextlib.contextmanager
    def at_once(self):
        """Several controls are moved, and one image is generated."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False
        self.redraw()

    def go(self, label, seed, first=False):
        """A sample of the wall becomes the point; without a seed only its class."""
        if first and self.teacher is not None:  # at once: if the teacher fails, explore() does
            self.asked = self.where() | {"y": label, "seed": seed}, self.teacher.psi
            self.show_teacher(self.draw_teacher(*self.asked))
        with self.at_once():
            self.parts.label.value = label
            if self.parts.to.value == label:  # else mix would lead nowhere
                self.parts.to.value = (label + 1) % len(self.names)
            if seed is not None:
                self.parts.seed.value = seed
                self.parts.mix.value = self.parts.walk.value = 0.0

    def renew(self, _):
        with self.at_once():
            self.parts.seed.value = (self.parts.seed.value + 1 + secrets.randbelow(SEEDS - 1)) % SEEDS  # never the same
            self.parts.walk.value = 0.0  # at the walk's end the first seed is not seen

    def stroll(self, change):
        """A step of the walk that plays by itself; at its end the next walk begins, to a seed drawn anew. Stopped
        before, it is at its beginning again."""
        if change["new"] > change["old"] or change["old"] < self.parts.play.max:
            self.parts.walk.value = change["new"] / self.parts.play.max
        else:
            with self.at_once():
                self.parts.seed.value, self.parts.seed_to.value = self.parts.seed_to.value, secrets.randbelow(SEEDS)
                self.parts.walk.value = 0.0

    def mark(self):
        point = self.where()
        self.wall.mark(point["y"], None if point["mix"] or point["walk"] else point["seed"])

    # ---------------------------------------------------------------- what is shown

    def redraw(self, _=None):
        if self.quiet:
            return
        point, beside = self.where(), self.teacher is not None and self.parts.beside.value
        start = time.perf_counter()
        image = image_at(self.student, **point)
        self.took("student", start)
        self.show("student", point, image)
        self.mark()
        self.parts.panel.layout.display = None if beside else "none"
        self.parts.apart.layout.display = None if beside and self.alike else "none"
        if beside and self.asked != (point, self.parts.psi.value):  # the newest question, answered or not yet
            if self.ask_teacher.slow:
                self.parts.title.value = "teacher ..."  # until its image has followed
            self.asked = point, self.parts.psi.value
            self.ask_teacher(*self.asked)

    def show(self, role, point, image):
        """An image of the student or teacher with all that belongs to it."""
        self.seen[role] = point, image
        png = enlarged(image, self.scale, self.parts.look.value == "smooth")
        getattr(self.parts, role).value = png
        getattr(self.parts, f"save_{role}").value = link(png, role, self.names, **point)
        if self.verdict is not None:
            asked = dominating(point["y"], point["to"], point["mix"])
            getattr(self.parts, f"verdict_{role}").value = bars(self.verdict(image[None])[0], self.names, asked)
        title = self.parts.student_title if role == "student" else self.parts.title
        title.value = f"{role}, {1000 * median(self.times[role]):.1f} ms"
        self.show_difference()

    def took(self, role, start):
        self.times[role].append(time.perf_counter() - start)

    def change_look(self, _):
        smooth = self.parts.look.value == "smooth"
        self.wall.draw(smooth)
        for role in ("student", "teacher"):
            if role in self.seen:
                self.show(role, *self.seen[role])

    def show_difference(self):
        if self.alike and {"student", "teacher"} <= self.seen.keys():
            (at, ours), (there, theirs) = self.seen["student"], self.seen["teacher"]
            if at == there:
                apart, mean = difference(ours, theirs)
                self.parts.difference.value = enlarged(apart, self.scale, self.parts.look.value == "smooth")
                self.parts.apart_title.value = f"difference, {AMPLIFY} times as bright"
                ratio = median(self.times["teacher"]) / median(self.times["student"])
                quick = f"<br>the student is {ratio:.1f} times as quick" if ratio >= 1.1 else ""
                told = f"mean {mean:.1f} of 255 grey levels{quick}"
                self.parts.apart_note.value = f'<div style="line-height:1.4;padding-top:4px">{told}</div>'

    # ---------------------------------------------------------------- the teacher, in a thread of its own

    def draw_teacher(self, point, psi):
        there = {**point, "y": self.order[point["y"]], "to": self.order[point["to"]]}
        teacher, start = truncated(self.teacher, psi), time.perf_counter()
        image = image_at(teacher, **there, drawn=z_from(self.student))
        self.took("teacher", start)
        return point, image

    def show_teacher(self, answer):
        point, image = answer
        self.show("teacher", point, image)
        shown = self.names[dominating(point["y"], point["to"], point["mix"])]
        between = 0 < point["mix"] < 1 and point["to"] != point["y"]
        self.parts.note.value = escape(f"A teacher takes one class only; it shows {shown}." if between else "")

    def teacher_failed(self, error):
        self.asked = None
        self.parts.title.value, self.parts.apart_note.value = "teacher: no image", ""
        self.parts.note.value = escape(f"{type(error).__name__}: {error}")
