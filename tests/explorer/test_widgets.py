"""The widgets show exactly the images of points.py; a click on the wall goes there; a teacher is asked for the newest.

Colab's ipywidgets run the same tests: see test_colab.py.
"""

import asyncio
import base64
import io
import random
import re
import threading
import time

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image
from test_points import CLASSES, NAMES, STUDENT, TEACHER, Z, painted

from gsoc_kd.core.figures import grid, png_bytes
from gsoc_kd.core.files import InputError
from gsoc_kd.core.weights import save_network
from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.evaluation.classifier import features, load_classifier
from gsoc_kd.explorer import explore, image_at, latent, samples
from gsoc_kd.explorer.newest import Newest
from gsoc_kd.explorer.views import difference, enlarged
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.teachers.black_box import Teacher, black_box
from gsoc_kd.teachers.load import load_student, load_teacher


def smooth(image, scale=6):
    return enlarged(image, scale, smooth=True)


def painter(draw, **options):
    """A teacher that answers with `draw`."""
    return Teacher(draw, Z, CLASSES, 32, **options)


def everything(box):
    """A box and all widgets in it."""
    return [box, *(found for child in getattr(box, "children", ()) for found in everything(child))]


def test_it_opens_on_a_wall_of_all_classes_and_every_control_moves_the_point_and_back():
    parts = explore(STUDENT, TEACHER).parts
    wall = parts.wall
    assert [head.description for head in wall.parts.heads] == list(NAMES) == [name for name, _ in parts.label.options]
    assert wall.seeds.tolist() == [list(range(6))] * 3 and len(wall.parts.cells) == 18
    assert np.abs(wall.images.astype(int) - samples(STUDENT, [*range(6)] * 3, np.repeat(range(3), 6))).max() == 0
    first = parts.student.value
    assert first == smooth(image_at(STUDENT, 0, 0)) and parts.teacher.value == smooth(image_at(TEACHER, 0, 0))
    with Image.open(io.BytesIO(first)) as shown:
        assert shown.format == "PNG" and shown.size == (192, 192)
    for control, value in ((parts.label, 2), (parts.seed, 5), (parts.mix, 0.5), (parts.walk, 0.5)):
        start, shown = control.value, []
        for place in (value, start, value, start):
            control.value = place
            shown.append(parts.student.value)
        assert shown[0] == shown[2] != first == shown[1] == shown[3]  # the same place, the same bytes
    parts.label.value, parts.seed.value = 2, 7
    assert parts.student.value == smooth(image_at(STUDENT, 7, 2))
    assert parts.teacher.value == smooth(TEACHER(latent(7, Z)[None], [2])[0])
    parts.to.value, parts.mix.value, parts.seed_to.value, parts.walk.value = 1, 0.4, 9, 0.25
    assert parts.student.value == smooth(image_at(STUDENT, 7, 2, 1, 0.4, 9, 0.25))
    assert all(slider.continuous_update for slider in (parts.seed, parts.mix, parts.seed_to, parts.walk, parts.psi))


def test_a_click_on_a_sample_makes_it_the_point_and_marks_it():
    parts = explore(STUDENT, TEACHER).parts
    wall, shown = parts.wall, []
    parts.mix.value = parts.walk.value = 0.5
    assert "outline" not in wall.parts.mark.value  # between samples
    parts.student.observe(lambda change: shown.append(change["new"]), names="value")
    wall.parts.cells[6 + 4].click()  # second row, fifth column
    assert (parts.label.value, parts.seed.value, parts.mix.value, parts.walk.value) == (1, 4, 0, 0)
    assert shown == [smooth(image_at(STUDENT, 4, 1))] and parts.teacher.value == smooth(image_at(TEACHER, 4, 1))
    assert "gsoc-kd-cell-10 {outline" in wall.parts.mark.value and "gsoc-kd-head-1 {" in wall.parts.mark.value
    assert parts.to.value == 2  # another class, so that mix leads somewhere
    wall.parts.heads[2].click()  # the class alone: the seed stays
    assert parts.to.value == 0
    assert (parts.label.value, parts.seed.value) == (2, 4) and "gsoc-kd-cell-16 {outline" in wall.parts.mark.value
    wall.parts.more.click()
    assert wall.seeds.tolist() == [list(range(64, 70))] * 3 and "outline" not in wall.parts.mark.value
    wall.parts.cells[1].click()
    assert (parts.label.value, parts.seed.value) == (0, 65) and wall.parts.cells[1].description == "cat 65"
    assert parts.student.value == smooth(image_at(STUDENT, 65, 0))
    data = re.search(r"base64,([^)]+)\)", wall.parts.images.value)[1]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.array_equal(sheet[:32, 32:64], wall.images[1]) and sheet.shape == (3 * 32, 6 * 32, 3)
    places = re.findall(r"gsoc-kd-cell-(\d+) {background-position:(\S+)% (\S+)%}", wall.parts.places.value)
    assert len(places) == 18 and places[10] == ("10", "80", "50")


def test_the_bundled_student_opens_on_what_the_classifier_is_surest_of_and_shows_its_verdict():
    parts = explore(teacher=None).parts
    wall, student, classifier = parts.wall, load_student(), load_classifier()
    assert [head.description for head in wall.parts.heads] == list(CIFAR10_CLASSES)
    for label in (1, 8):
        shown = samples(student, range(64), [label] * 64)
        sure = torch.from_numpy(features(shown, classifier)[1]).softmax(1)[:, label].numpy()
        assert np.allclose(np.sort(sure)[::-1][:6], sure[wall.seeds[label]], atol=1e-3)
    point = int(np.argmax(wall.shares.mean(axis=1)))
    assert (parts.label.value, parts.seed.value) == (point, wall.seeds[point, 0])
    image = image_at(student, parts.seed.value, parts.label.value)
    share = torch.from_numpy(features(image[None], classifier)[1]).softmax(1)[0, parts.label.value]
    rows = re.findall(r'bold"><span[^>]*>(\w+)</span><span style="width:(\d+)px[^>]*></span>.*?>(\d+)%',
                      parts.verdict_student.value)  # fmt: skip
    assert rows == [(CIFAR10_CLASSES[point], str(round(72 * share.item())), f"{share.item():.0%}"[:-1])]
    assert re.findall(r">(\w+)</span>", parts.verdict_student.value) == list(CIFAR10_CLASSES)
    wall.parts.surest.value = False
    assert wall.seeds.tolist() == [list(range(6))] * 10
    wall.parts.more.click()
    assert wall.seeds[0].tolist() == list(range(64, 70))


def test_of_more_than_ten_classes_ten_are_on_the_wall_at_once():
    student = ConvGenerator(z_dim=4, num_classes=13, widths=(4, 4, 4, 4), embed_dim=4)
    parts = explore(student, None, columns=2).parts
    wall = parts.wall
    assert [head.description for head in wall.parts.heads] == [str(label) for label in range(10)]
    wall.parts.more.click()
    assert [head.description for head in wall.parts.heads] == [str(label) for label in range(3, 13)]
    wall.parts.cells[-1].click()
    assert (parts.label.value, parts.seed.value) == (12, 1)
    wall.parts.more.click()
    assert wall.labels == [*range(10)] and wall.seeds[0].tolist() == [64, 65]
    wall.turn(2 * 155)
    assert wall.seeds.max() < 10_000  # which is as far as the slider goes
    wall.parts.cells[1].click()
    assert parts.seed.value == wall.seeds[0, 1] == 155 * 64 + 1
    wall.turn(2 * 156)
    assert wall.seeds[0].tolist() == [0, 1]


def test_smooth_or_in_squares_by_choice():
    parts = explore(STUDENT, TEACHER, scale=4).parts
    image = image_at(STUDENT, 0, 0)
    assert parts.student.value == smooth(image, 4) and "image-rendering:auto" in parts.wall.parts.images.value
    parts.look.value = "squares"
    assert parts.student.value == png_bytes(grid(image[None], columns=1, scale=4, pad=0))
    assert parts.teacher.value == enlarged(image_at(TEACHER, 0, 0), 4)
    assert "image-rendering:pixelated" in parts.wall.parts.images.value
    assert saved(parts.save_student)[1] == parts.student.value
    parts.look.value = "smooth"
    assert parts.student.value == smooth(image, 4)


def test_the_difference_and_the_times_stand_beside():
    parts = explore(STUDENT, TEACHER).parts
    parts.seed.value = 3
    apart, mean = difference(image_at(STUDENT, 3, 0), image_at(TEACHER, 3, 0))
    assert parts.difference.value == smooth(apart) and f"mean {mean:.1f} of 255" in parts.apart_note.value
    for title, role in ((parts.student_title, "student"), (parts.title, "teacher")):
        assert re.fullmatch(rf"{role}, \d+\.\d ms", title.value)
    a, b = np.full((1, 2, 3), 10, np.uint8), np.array([[[40, 10, 0], [255, 10, 10]]], np.uint8)
    apart, mean = difference(a, b)
    assert apart.tolist() == [[[60, 0, 20], [255, 0, 0]]] and mean == pytest.approx((30 + 10 + 245) / 6)


def test_the_teacher_says_which_class_it_shows():
    parts = explore(STUDENT, TEACHER).parts
    for mix, name, label in ((0.3, "cat", 0), (0.7, "dog", 1)):
        parts.mix.value = mix
        assert parts.note.value == f"A teacher takes one class only; it shows {name}."
        assert parts.teacher.value == smooth(image_at(TEACHER, 0, label))
    parts.mix.value = 1.0
    assert parts.note.value == "" and parts.teacher.value == smooth(image_at(TEACHER, 0, 1))


def test_the_checkbox_hides_the_teacher_and_spares_its_work():
    asked = []
    parts = explore(STUDENT, painter(lambda z, y: asked.append(1) or painted(z, y))).parts
    assert parts.panel.layout.display != "none" and len(asked) == 1
    parts.beside.value = False
    parts.label.value = 1
    assert parts.panel.layout.display == parts.apart.layout.display == "none" and len(asked) == 1
    parts.beside.value = True
    assert parts.panel.layout.display != "none" and len(asked) == 2
    assert parts.teacher.value == smooth(image_at(TEACHER, 0, 1))


def test_new_seed_changes_the_seed_and_returns_to_it():
    parts = explore(STUDENT, teacher=None).parts
    parts.walk.value = 1.0  # at the end of the walk the first seed is not seen
    for _ in range(5):
        seed, before = parts.seed.value, parts.student.value
        parts.new_seed.click()
        assert parts.seed.value != seed and 0 <= parts.seed.value < 10_000 and parts.walk.value == 0
        assert parts.student.value == smooth(image_at(STUDENT, parts.seed.value, 0)) != before


def test_a_walk_plays_by_itself_from_seed_to_seed():
    parts = explore(STUDENT, teacher=None).parts
    parts.seed.value, parts.seed_to.value = 3, 9
    for step in (10, 40):
        parts.play.value = step
        assert parts.walk.value == step / 40
        assert parts.student.value == smooth(image_at(STUDENT, 3, 0, seed_to=9, walk=step / 40))
    parts.play.value = 0  # it begins again: where the walk ended
    assert (parts.seed.value, parts.walk.value) == (9, 0) and parts.student.value == smooth(image_at(STUDENT, 9, 0))
    parts.play.value, there = 10, (9, parts.seed_to.value)
    parts.play.value = 0  # stopped: the walk is at its beginning, and no other one
    assert (parts.seed.value, parts.seed_to.value, parts.walk.value) == (*there, 0)
    assert getattr(parts.play, "repeat", None) or parts.play._repeat


def test_without_a_teacher_there_is_one_image_and_no_checkbox():
    app = explore(STUDENT, teacher=None, classes=NAMES, scale=2)
    assert app.parts.panel.layout.display == "none" and app.parts.teacher.value == b""
    assert app.parts.beside not in everything(app) and app.parts.seed in everything(app)
    assert app.parts.student.value == smooth(image_at(STUDENT, 0, 0), scale=2)
    assert [name for name, _ in app.parts.label.options] == list(NAMES)
    for teacher in (None, black_box(STUDENT)):  # nobody knows better
        assert [name for name, _ in explore(STUDENT, teacher).parts.label.options] == ["0", "1", "2"]


def test_the_names_of_a_run_are_shown_and_the_teacher_is_asked_by_name(tmp_path):
    save_network(STUDENT, tmp_path / "run" / "generator", {"classes": ["frog", "cat", "dog"]})
    for source in (tmp_path / "run", str(tmp_path / "run" / "generator"), load_student(tmp_path / "run")):
        parts = explore(source, teacher=None).parts
        assert [name for name, _ in parts.label.options] == ["frog", "cat", "dog"]
    parts = explore(tmp_path / "run", TEACHER).parts  # the teacher's classes: cat, dog, frog
    assert [name for name, _ in parts.label.options] == ["frog", "cat", "dog"]
    assert parts.student.value == smooth(image_at(STUDENT, 0, 0))
    assert parts.teacher.value == smooth(image_at(TEACHER, 0, NAMES.index("frog")))
    parts.to.value, parts.mix.value = 1, 0.9
    assert parts.teacher.value == smooth(image_at(TEACHER, 0, NAMES.index("cat")))
    with pytest.raises(InputError, match="the student's classes are frog, cat, dog, the teacher's a, b, c"):
        explore(tmp_path / "run", painter(painted, classes=("a", "b", "c")))


def test_explore_refuses():
    with pytest.raises(InputError, match="classes has 2 different names, the student 3"):
        explore(STUDENT, TEACHER, classes=("a", "b"))
    with pytest.raises(InputError, match="classes has 2 different names, the student 3"):
        explore(STUDENT, TEACHER, classes=("a", "b", "a"))
    other = ConvGenerator(z_dim=4, num_classes=CLASSES, widths=(4, 4, 4, 4), embed_dim=4)
    with pytest.raises(InputError, match=r"student takes .* \(8, 3\), the teacher \(4, 3\)"):
        explore(STUDENT, other)
    with pytest.raises(InputError, match="nowhere"):
        explore("nowhere", None)
    with pytest.raises(InputError, match="a folder or a network, not int"):
        explore(3)
    with pytest.raises(InputError, match="no classes"):
        explore(StyleGAN2Generator(z_dim=Z, w_dim=8, num_classes=0, channel_base=128, channel_max=8), None)
    for wrong in (dict(columns=0), dict(columns=65), dict(scale=0), dict(scale=1.5)):
        with pytest.raises(InputError, match="must be a whole number"):
            explore(STUDENT, None, **wrong)


def test_a_teacher_of_another_resolution_is_shown_without_a_difference():
    big = Teacher(lambda z, y: np.repeat(np.repeat(painted(z, y), 2, 1), 2, 2), Z, CLASSES, 64)
    parts = explore(STUDENT, big).parts
    parts.label.value = 1
    assert parts.apart.layout.display == "none" != parts.panel.layout.display
    assert parts.teacher.value == smooth(image_at(big, 0, 1)) and parts.difference.value == b""


def test_random_state_and_modes_are_left_as_they_were():
    torch.manual_seed(5)
    student = ConvGenerator(z_dim=Z, num_classes=CLASSES, widths=(4, 4, 4, 4), embed_dim=4).train()
    teacher = ConvGenerator(z_dim=Z, num_classes=CLASSES, widths=(4, 4, 4, 4), embed_dim=4).train()
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    app = explore(student, teacher)
    app.parts.seed.value = 3
    app.parts.wall.parts.cells[0].click()
    explore()
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[2]
    assert np.random.get_state()[1].tolist() == state[1]
    assert all(module.training for network in (student, teacher) for module in network.modules())
    assert app.parts.student.value == smooth(image_at(student, 0, 0))  # in evaluation mode all the same


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
    assert saved(parts.save_student) == (f"gsoc_kd-student-{name}", smooth(image_at(STUDENT, 7, 0, 1, 0.3, 1, 0.25)))
    assert saved(parts.save_teacher) == (f"gsoc_kd-teacher-{name}", parts.teacher.value)


def test_a_teacher_with_a_truncation_has_it_beside_it():
    stylegan2 = StyleGAN2Generator(z_dim=Z, w_dim=8, num_classes=CLASSES, channel_base=128, channel_max=8)
    stylegan2.centre(100)
    own = painter(lambda z, y, psi=0.7: painted(z * psi, y), psi=0.7)
    for teacher, at in (
        (load_teacher(stylegan2, psi=0.7), lambda psi: load_teacher(stylegan2, psi=psi)),
        (own, lambda psi: painter(lambda z, y: painted(z * psi, y))),
    ):
        app = explore(STUDENT, teacher)
        parts, shown = app.parts, {}
        assert parts.psi.value == 0.7 and (parts.psi.min, parts.psi.max) == (0, 1) and parts.psi in everything(app)
        for psi in (0.7, 0.3, 1.0):
            before = parts.student.value
            parts.psi.value = psi
            shown[psi] = parts.teacher.value
            assert shown[psi] == smooth(image_at(at(psi), 0, 0))
            assert parts.student.value == before  # the student has none
        assert len(set(shown.values())) == 3


@pytest.mark.parametrize("psi, made", [(1.0, ""), (0.7, "; this one was made with psi 0.7")])
def test_a_black_box_shows_no_truncation_that_it_has_not(psi, made):
    app = explore(STUDENT, painter(painted, psi=psi))
    labels = [w.value for w in everything(app) if isinstance(w, ipywidgets.Label)]
    assert app.parts.psi not in everything(app) and f"truncation: this teacher has none{made}" in labels


async def until(ready):
    for _ in range(3000):
        if ready():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing came within 30 seconds")


@pytest.mark.parametrize("slow", [0.0, 0.05])
def test_of_twenty_changes_the_student_shows_each_and_the_teacher_is_asked_for_the_last(slow):
    asked, shown, threads = [], [], set()

    def draw(z, y):
        threads.add(threading.current_thread())
        asked.append(int(y[0]))
        time.sleep(slow)
        return painted(z, y)

    parts = explore(STUDENT, painter(draw)).parts
    parts.student.observe(lambda change: shown.append(change["new"]), names="value")
    parts.seed.value = 1  # the second request: now it is known whether the teacher is slow
    for known in (asked, threads, shown):
        known.clear()

    async def clicks():
        for click in range(20):
            parts.label.value = (click + 1) % CLASSES
            assert parts.student.value == smooth(image_at(STUDENT, 1, parts.label.value))  # at once
        assert asked == []
        if slow:
            assert parts.title.value == "teacher ..."
        await until(lambda: parts.teacher.value == smooth(image_at(TEACHER, 1, 20 % CLASSES)))

    asyncio.run(clicks())
    assert len(shown) == 20 and asked == [20 % CLASSES]
    assert parts.title.value.endswith(" ms") and threading.main_thread() not in threads


def test_back_at_a_point_before_another_one_s_answer_the_teacher_shows_that_point():
    def slowly(z, y):
        time.sleep(0.05)
        return painted(z, y)

    parts = explore(STUDENT, painter(slowly)).parts

    async def clicks():
        parts.label.value = 1
        await until(lambda: parts.teacher.value == smooth(image_at(TEACHER, 0, 1)))
        parts.label.value = 2
        parts.label.value = 1  # the answer for 2 is still to come
        await asyncio.sleep(0.5)

    asyncio.run(clicks())
    assert parts.teacher.value == smooth(image_at(TEACHER, 0, 1)) and parts.student.value == smooth(
        image_at(STUDENT, 0, 1)
    )


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


def test_an_answer_that_cannot_be_shown_is_told():
    def show(answer):
        raise OSError(f"no place for {answer}")

    told = []
    newest = Newest(lambda state: -state, show, told.append)

    async def request():
        newest(1)
        await until(lambda: told)

    asyncio.run(request())
    assert [str(error) for error in told] == ["no place for -1"]


def test_a_teacher_that_fails_is_named_and_the_student_goes_on():
    def draw(z, y):
        if y[0] == 1:
            raise OSError("the service is <away>")
        return painted(z, y)

    parts = explore(STUDENT, painter(draw)).parts
    before = parts.teacher.value
    parts.label.value = 1
    assert parts.title.value == "teacher: no image" and parts.note.value == "OSError: the service is &lt;away&gt;"
    assert parts.student.value == smooth(image_at(STUDENT, 0, 1)) and parts.teacher.value == before
    parts.label.value = 2
    assert parts.title.value.startswith("teacher, ") and parts.note.value == ""

    async def fail():
        parts.label.value = 1
        await until(lambda: parts.title.value == "teacher: no image")

    asyncio.run(fail())
    assert parts.note.value == "OSError: the service is &lt;away&gt;"
    with pytest.raises(OSError, match="away"):
        explore(STUDENT, painter(lambda z, y: draw(z, [1])))
