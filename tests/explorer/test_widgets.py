"""The widgets show exactly the images of points.py; a teacher is asked for the newest only.

Colab's ipywidgets run the same tests: see test_colab.py.
"""

import asyncio
import base64
import io
import re
import threading

import ipywidgets
import pytest
from PIL import Image
from test_points import CLASSES, NAMES, STUDENT, TEACHER, Z, painted

from gsoc_kd.core.figures import grid, png_bytes
from gsoc_kd.core.files import InputError
from gsoc_kd.explorer import explore, latent, picture
from gsoc_kd.explorer.widgets import Newest
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.teachers.black_box import Teacher, black_box
from gsoc_kd.teachers.load import load_teacher


def enlarged(image, scale=8):
    return png_bytes(grid(image[None], columns=1, scale=scale, pad=0))


def painter(draw, **options):
    """A teacher that answers with `draw`."""
    return Teacher(draw, Z, CLASSES, 32, **options)


def everything(box):
    """A box and all widgets in it."""
    return [box, *(found for child in getattr(box, "children", ()) for found in everything(child))]


def test_the_widgets_show_the_images_and_every_control_moves_them_and_back():
    parts = explore(STUDENT, TEACHER).parts
    first = parts.student.value
    assert [name for name, _ in parts.label.options] == list(NAMES)
    assert first == enlarged(picture(STUDENT, 0, 0)) and parts.teacher.value == enlarged(picture(TEACHER, 0, 0))
    with Image.open(io.BytesIO(first)) as shown:
        assert shown.format == "PNG" and shown.size == (256, 256)
    for control, value in ((parts.label, 2), (parts.seed, 5), (parts.mix, 0.5), (parts.walk, 0.5)):
        start, shown = control.value, []
        for place in (value, start, value, start):
            control.value = place
            shown.append(parts.student.value)
        assert shown[0] == shown[2] != first == shown[1] == shown[3]  # the same place, the same bytes
    parts.label.value, parts.seed.value = 2, 7
    assert parts.student.value == enlarged(picture(STUDENT, 7, 2))
    assert parts.teacher.value == enlarged(TEACHER(latent(7, Z)[None], [2])[0])
    parts.to.value, parts.mix.value, parts.seed_to.value, parts.walk.value = 1, 0.4, 9, 0.25
    assert parts.student.value == enlarged(picture(STUDENT, 7, 2, 1, 0.4, 9, 0.25))
    assert not any(slider.continuous_update for slider in (parts.seed, parts.mix, parts.seed_to, parts.walk))


def test_the_teacher_says_which_class_it_shows():
    parts = explore(STUDENT, TEACHER).parts
    for mix, name, label in ((0.3, "cat", 0), (0.7, "dog", 1)):
        parts.mix.value = mix
        assert parts.note.value == f"A teacher takes one class only; it shows {name}."
        assert parts.teacher.value == enlarged(picture(TEACHER, 0, label))
    parts.mix.value = 1.0
    assert parts.note.value == "" and parts.teacher.value == enlarged(picture(TEACHER, 0, 1))


def test_the_checkbox_hides_the_teacher_and_spares_its_work():
    asked = []
    parts = explore(STUDENT, painter(lambda z, y: asked.append(1) or painted(z, y))).parts
    assert parts.panel.layout.display != "none" and len(asked) == 1
    parts.beside.value = False
    parts.label.value = 1
    assert parts.panel.layout.display == "none" and len(asked) == 1
    parts.beside.value = True
    assert parts.panel.layout.display != "none" and len(asked) == 2
    assert parts.teacher.value == enlarged(picture(TEACHER, 0, 1))


def test_new_seed_changes_the_seed_and_returns_to_it():
    parts = explore(STUDENT, teacher=None).parts
    parts.walk.value = 1.0  # at the end of the walk the first seed is not seen
    for _ in range(5):
        seed, before = parts.seed.value, parts.student.value
        parts.new_seed.click()
        assert parts.seed.value != seed and 0 <= parts.seed.value < 10_000 and parts.walk.value == 0
        assert parts.student.value == enlarged(picture(STUDENT, parts.seed.value, 0)) != before


def test_without_a_teacher_there_is_one_image_and_no_checkbox():
    app = explore(STUDENT, teacher=None, classes=NAMES, scale=2)
    assert app.parts.panel.layout.display == "none" and app.parts.teacher.value == b""
    assert app.parts.beside not in everything(app) and app.parts.seed in everything(app)
    assert app.parts.student.value == enlarged(picture(STUDENT, 0, 0), scale=2)
    assert [name for name, _ in app.parts.label.options] == list(NAMES)
    for teacher in (None, black_box(STUDENT)):  # nobody knows better
        assert [name for name, _ in explore(STUDENT, teacher).parts.label.options] == ["0", "1", "2"]


def test_explore_refuses():
    with pytest.raises(InputError, match="classes has 2 names, the student 3"):
        explore(STUDENT, TEACHER, classes=("a", "b"))
    other = ConvGenerator(z_dim=4, num_classes=CLASSES, widths=(4, 4, 4, 4), embed_dim=4)
    with pytest.raises(InputError, match=r"student takes .* \(8, 3\), the teacher \(4, 3\)"):
        explore(STUDENT, other)
    with pytest.raises(InputError, match="nowhere"):
        explore("nowhere", None)


def saved(widget):
    """(file name, bytes) that the browser saves."""
    name, data = re.search(r'download="([^"]+)" href="data:image/png;base64,([^"]+)"', widget.value).groups()
    return name, base64.b64decode(data, validate=True)


def test_the_links_save_what_is_shown_under_a_name_that_says_what_it_is():
    parts = explore(STUDENT, TEACHER, classes=("a cat", 'd/o"g', "frog")).parts
    assert saved(parts.save_student) == ("gsoc_kd-student-a_cat-seed0.png", parts.student.value)
    assert saved(parts.save_teacher) == ("gsoc_kd-teacher-a_cat-seed0.png", parts.teacher.value)
    parts.to.value, parts.mix.value, parts.seed.value, parts.walk.value = 1, 0.3, 7, 0.25
    name = "a_cat-to-d_o_g-0.30-seed7-to-1-0.25.png"
    assert saved(parts.save_student) == (f"gsoc_kd-student-{name}", enlarged(picture(STUDENT, 7, 0, 1, 0.3, 1, 0.25)))
    assert saved(parts.save_teacher) == (f"gsoc_kd-teacher-{name}", parts.teacher.value)


def test_a_stylegan2_teacher_has_its_truncation_beside_it():
    stylegan2 = StyleGAN2Generator(z_dim=Z, w_dim=8, num_classes=CLASSES, channel_base=128, channel_max=8)
    stylegan2.centre(100)
    parts = explore(STUDENT, load_teacher(stylegan2, psi=0.7)).parts
    assert parts.psi.value == 0.7 and (parts.psi.min, parts.psi.max) == (0, 1)
    shown = {}
    for psi in (0.7, 0.3, 1.0):
        before = parts.student.value
        parts.psi.value = psi
        shown[psi] = parts.teacher.value
        assert shown[psi] == enlarged(picture(load_teacher(stylegan2, psi=psi), 0, 0))
        assert parts.student.value == before  # the student has none
    assert len(set(shown.values())) == 3


@pytest.mark.parametrize("psi, made", [(1.0, ""), (0.7, "; this one was made with psi 0.7")])
def test_a_black_box_shows_no_truncation_that_it_has_not(psi, made):
    app = explore(STUDENT, painter(painted, psi=psi))
    labels = [w.value for w in everything(app) if isinstance(w, ipywidgets.Label)]
    assert app.parts.psi not in everything(app) and f"truncation: only StyleGAN2 teachers have one{made}" in labels


async def until(ready):
    for _ in range(3000):
        if ready():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing came within 30 seconds")


def test_of_twenty_changes_the_student_shows_each_and_the_teacher_is_asked_for_the_last():
    asked, shown, threads = [], [], set()

    def draw(z, y):
        threads.add(threading.current_thread())
        asked.append(int(y[0]))
        return painted(z, y)

    parts = explore(STUDENT, painter(draw)).parts
    parts.student.observe(lambda change: shown.append(change["new"]), names="value")
    asked.clear()
    threads.clear()

    async def clicks():
        for click in range(20):
            parts.label.value = (click + 1) % CLASSES
            assert parts.student.value == enlarged(picture(STUDENT, 0, parts.label.value))  # at once
        assert asked == [] and parts.title.value == "teacher ..."
        await until(lambda: parts.title.value == "teacher")

    asyncio.run(clicks())
    assert len(shown) == 20 and asked == [20 % CLASSES]
    assert parts.teacher.value == enlarged(picture(TEACHER, 0, 20 % CLASSES))
    assert threading.main_thread() not in threads


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


def test_a_teacher_that_fails_is_named_and_the_student_goes_on():
    def draw(z, y):
        if y[0] == 1:
            raise OSError("the service is away")
        return painted(z, y)

    parts = explore(STUDENT, painter(draw)).parts
    before = parts.teacher.value
    parts.label.value = 1
    assert parts.title.value == "teacher: no picture" and parts.note.value == "OSError: the service is away"
    assert parts.student.value == enlarged(picture(STUDENT, 0, 1)) and parts.teacher.value == before
    parts.label.value = 2
    assert parts.title.value == "teacher" and parts.note.value == ""

    async def fail():
        parts.label.value = 1
        await until(lambda: parts.title.value == "teacher: no picture")

    asyncio.run(fail())
    assert parts.note.value == "OSError: the service is away"
    with pytest.raises(OSError, match="away"):
        explore(STUDENT, painter(lambda z, y: draw(z, [1])))
