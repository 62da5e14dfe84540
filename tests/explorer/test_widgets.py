"""The widgets show exactly the pictures of points.py; a teacher is asked for the newest only.

Colab's ipywidgets run the same tests: see test_colab.py.
"""

import asyncio
import base64
import io
import re
import threading

import ipywidgets
import numpy as np
import pytest
from gsoc_kd.teachers.black_box import Teacher, black_box
from gsoc_kd.teachers.load import load_teacher
from PIL import Image
from test_points import CLASSES, NAMES, Z, student, teacher  # noqa: F401, fixtures

from gsoc_kd.core.figures import grid, png_bytes
from gsoc_kd.core.files import InputError
from gsoc_kd.explorer.points import latent, picture
from gsoc_kd.explorer.widgets import Newest, explore, truncated
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator


def enlarged(image, scale=8):
    return png_bytes(grid(image[None], columns=1, scale=scale, pad=0))


def everything(box):
    """A box and all widgets in it."""
    return [box, *(found for child in getattr(box, "children", ()) for found in everything(child))]


def test_the_widgets_show_the_pictures(student, teacher):
    parts = explore(student, teacher).parts
    assert [name for name, _ in parts.label.options] == list(NAMES)
    assert parts.student.value == enlarged(picture(student, 0, 0))
    assert parts.teacher.value == enlarged(picture(teacher, 0, 0))
    parts.label.value = 2
    parts.seed.value = 7
    assert parts.student.value == enlarged(picture(student, 7, 2))
    assert parts.teacher.value == enlarged(teacher(latent(7, Z)[None], [2])[0])
    with Image.open(io.BytesIO(parts.student.value)) as shown:
        assert shown.format == "PNG" and shown.size == (256, 256)


def test_every_control_moves_the_picture_and_back(student, teacher):
    parts = explore(student, teacher).parts
    first = parts.student.value
    for control, value in ((parts.label, 2), (parts.seed, 5), (parts.mix, 0.5), (parts.walk, 0.5)):
        start = control.value
        control.value = value
        moved = parts.student.value
        assert moved != first
        control.value = start
        assert parts.student.value == first
        control.value = value
        assert parts.student.value == moved  # the same place, the same bytes
        control.value = start
    parts.to.value, parts.mix.value, parts.seed_to.value, parts.walk.value = 2, 0.4, 9, 0.25
    assert parts.student.value == enlarged(picture(student, 0, 0, 2, 0.4, 9, 0.25))


def test_the_teacher_says_which_class_it_shows(student, teacher):
    parts = explore(student, teacher).parts
    assert parts.note.value == ""
    for mix, name, label in ((0.3, "cat", 0), (0.7, "dog", 1)):
        parts.mix.value = mix
        assert parts.note.value == f"A teacher takes one class only; it shows {name}."
        assert parts.teacher.value == enlarged(picture(teacher, 0, label))
    parts.mix.value = 1.0
    assert parts.note.value == "" and parts.teacher.value == enlarged(picture(teacher, 0, 1))


def test_the_checkbox_hides_the_teacher_and_spares_its_work(student, teacher):
    asked = []
    counting = Teacher(lambda z, y: asked.append(1) or teacher(z, y), Z, CLASSES, 32)
    app = explore(student, counting)
    parts = app.parts
    panel = parts.panel
    assert panel.layout.display != "none" and len(asked) == 1
    parts.beside.value = False
    parts.label.value = 1
    assert panel.layout.display == "none" and len(asked) == 1
    parts.beside.value = True
    assert panel.layout.display != "none" and len(asked) == 2
    assert parts.teacher.value == enlarged(picture(teacher, 0, 1))


def test_new_seed_changes_the_seed_and_returns_to_it(student):
    parts = explore(student, teacher=None).parts
    parts.walk.value = 1.0  # at the end of the walk the first seed is not seen
    for _ in range(5):
        seed, before = parts.seed.value, parts.student.value
        parts.new_seed.click()
        assert parts.seed.value != seed and 0 <= parts.seed.value < 10_000 and parts.walk.value == 0
        assert parts.student.value == enlarged(picture(student, parts.seed.value, 0)) != before


def test_sliders_wait_for_the_release(student):
    parts = explore(student, teacher=None).parts
    assert not any(slider.continuous_update for slider in (parts.seed, parts.mix, parts.seed_to, parts.walk))


def test_without_a_teacher_there_is_one_picture_and_no_checkbox(student):
    app = explore(student, teacher=None, classes=NAMES, scale=2)
    assert app.parts.panel.layout.display == "none" and app.parts.teacher.value == b""
    assert app.parts.beside not in everything(app) and app.parts.seed in everything(app)
    assert [name for name, _ in app.parts.label.options] == list(NAMES)
    assert app.parts.student.value == enlarged(picture(student, 0, 0), scale=2)


def test_names_are_numbers_when_nobody_knows_better(student):
    assert [name for name, _ in explore(student, black_box(student)).parts.label.options] == ["0", "1", "2"]


def test_explore_refuses(student, teacher):
    with pytest.raises(InputError, match="classes has 2 names, the student 3"):
        explore(student, teacher, classes=("a", "b"))
    other = ConvGenerator(z_dim=4, num_classes=CLASSES, widths=(4, 4, 4, 4), embed_dim=4)
    with pytest.raises(InputError, match=r"student takes .* \(8, 3\), the teacher \(4, 3\)"):
        explore(student, other)
    with pytest.raises(InputError, match="nowhere"):
        explore("nowhere", None)


def test_only_core_widgets_and_those_that_old_and_new_versions_have(student, teacher):
    for widget in everything(explore(student, teacher)):
        assert type(widget) in (
            ipywidgets.VBox,
            ipywidgets.HBox,
            ipywidgets.ToggleButtons,
            ipywidgets.Dropdown,
            ipywidgets.FloatSlider,
            ipywidgets.IntSlider,
            ipywidgets.Button,
            ipywidgets.HTML,
            ipywidgets.Checkbox,
            ipywidgets.Image,
            ipywidgets.Label,
        )


# ---------------------------------------------------------------- saving


def saved(widget):
    """(file name, bytes) that the browser saves."""
    name, data = re.search(r'download="([^"]+)" href="data:image/png;base64,([^"]+)"', widget.value).groups()
    return name, base64.b64decode(data, validate=True)


def test_the_links_save_what_is_shown_under_a_name_that_says_what_it_is(student, teacher):
    parts = explore(student, teacher, classes=("a cat", 'd/o"g', "frog")).parts
    assert saved(parts.save_student) == ("gsoc_kd-student-a_cat-seed0.png", parts.student.value)
    assert saved(parts.save_teacher) == ("gsoc_kd-teacher-a_cat-seed0.png", parts.teacher.value)
    parts.to.value, parts.mix.value, parts.seed.value, parts.walk.value = 1, 0.3, 7, 0.25
    name = "a_cat-to-d_o_g-0.30-seed7-to-1-0.25.png"
    assert saved(parts.save_student) == (f"gsoc_kd-student-{name}", enlarged(picture(student, 7, 0, 1, 0.3, 1, 0.25)))
    assert saved(parts.save_teacher) == (f"gsoc_kd-teacher-{name}", parts.teacher.value)


# ---------------------------------------------------------------- truncation


@pytest.fixture
def stylegan2():
    network = StyleGAN2Generator(z_dim=Z, w_dim=8, num_classes=CLASSES, channel_base=128, channel_max=8)
    network.centre(100)
    return network.eval()


def test_a_stylegan2_teacher_has_its_truncation_beside_it(student, stylegan2):
    parts = explore(student, load_teacher(stylegan2, psi=0.7)).parts
    assert parts.psi.value == 0.7 and (parts.psi.min, parts.psi.max) == (0, 1)
    shown = {}
    for psi in (0.7, 0.3, 1.0):
        before = parts.student.value
        parts.psi.value = psi
        shown[psi] = parts.teacher.value
        assert shown[psi] == enlarged(picture(load_teacher(stylegan2, psi=psi), 0, 0))
        assert parts.student.value == before  # the student has none
    assert len(set(shown.values())) == 3


def test_truncated_is_the_same_teacher_with_another_psi(stylegan2, teacher):
    whole = load_teacher(stylegan2)
    half = truncated(whole, 0.5)
    assert (half.psi, half.network, half.digest, half.classes) == (0.5, stylegan2, whole.digest, whole.classes)
    z = np.random.default_rng(0).standard_normal((4, Z)).astype(np.float32)
    assert np.array_equal(half(z, [0, 1, 2, 0]), load_teacher(stylegan2, psi=0.5)(z, [0, 1, 2, 0]))
    assert not np.array_equal(half(z, [0, 1, 2, 0]), whole(z, [0, 1, 2, 0]))
    with pytest.raises(InputError, match="callable has no truncation: psi=0.5 needs a StyleGAN2"):
        truncated(teacher, 0.5)


def test_a_black_box_shows_no_truncation_that_it_has_not(student, teacher):
    app = explore(student, teacher)
    labels = [w.value for w in everything(app) if isinstance(w, ipywidgets.Label)]
    assert app.parts.psi is None and "truncation: only StyleGAN2 teachers have one" in labels
    fixed = Teacher(teacher.draw, Z, CLASSES, 32, psi=0.7)
    labels = [w.value for w in everything(explore(student, fixed)) if isinstance(w, ipywidgets.Label)]
    assert "truncation: only StyleGAN2 teachers have one; this one was made with psi 0.7" in labels


# ---------------------------------------------------------------- stale requests


def test_of_twenty_changes_the_student_shows_each_and_the_teacher_is_asked_for_the_last(student, teacher):
    asked, shown, threads = [], [], set()

    def draw(z, y):
        threads.add(threading.current_thread())
        asked.append(int(y[0]))
        return teacher.draw(z, y)

    parts = explore(student, Teacher(draw, Z, CLASSES, 32)).parts
    parts.student.observe(lambda change: shown.append(change["new"]), names="value")
    asked.clear(), threads.clear()

    async def clicks():
        for click in range(20):
            parts.label.value = (click + 1) % CLASSES
            assert parts.student.value == enlarged(picture(student, 0, parts.label.value))  # at once
        assert asked == [] and parts.title.value == "teacher ..."
        await until(lambda: parts.title.value == "teacher")

    asyncio.run(clicks())
    assert len(shown) == 20 and asked == [20 % CLASSES]
    assert parts.teacher.value == enlarged(picture(teacher, 0, 20 % CLASSES))
    assert threading.main_thread() not in threads


async def until(ready):
    for _ in range(3000):
        if ready():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing came within 30 seconds")


def test_newest_keeps_the_loop_free_and_drops_what_is_stale_at_every_stage():
    gate, drawn, shown = threading.Event(), [], []

    def draw(state):
        drawn.append(state)
        assert gate.wait(30)
        return -state

    newest = Newest(draw, shown.append, shown.append, pause=0.001)

    async def requests():
        newest(1)
        await until(lambda: drawn == [1])  # the thread is busy with the first; the loop is free
        newest(2)
        await asyncio.sleep(0.05)  # the second waits for the thread ...
        newest(3)  # ... until it is stale
        await asyncio.sleep(0.05)
        gate.set()
        await until(lambda: shown)
        await asyncio.sleep(0.05)

    asyncio.run(requests())
    assert drawn == [1, 3] and shown == [-3]


def test_a_teacher_that_fails_is_named_and_the_student_goes_on(student, teacher):
    def draw(z, y):
        if y[0] == 1:
            raise OSError("the service is away")
        return teacher.draw(z, y)

    parts = explore(student, Teacher(draw, Z, CLASSES, 32)).parts
    before = parts.teacher.value
    parts.label.value = 1
    assert parts.title.value == "teacher: no picture" and parts.note.value == "OSError: the service is away"
    assert parts.student.value == enlarged(picture(student, 0, 1)) and parts.teacher.value == before
    parts.label.value = 2
    assert parts.title.value == "teacher" and parts.note.value == ""

    async def fail():
        parts.label.value = 1
        await until(lambda: parts.title.value == "teacher: no picture")

    asyncio.run(fail())
    assert parts.note.value == "OSError: the service is away"
    with pytest.raises(OSError, match="away"):
        explore(student, Teacher(lambda z, y: draw(z, [1]), Z, CLASSES, 32))
