"""The script and the page for your own images: from a folder to a file, with a few steps of each training."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import gsoc_kd as kd
from gsoc_kd.networks.conv import ConvGenerator

ROOT = Path(__file__).resolve().parents[2]
TINY = dict(kimg=0.032, tick_kimg=0.032, batch=16, widths=(8, 8, 4, 4), embed_dim=2, disc_width=4)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script with tiny trainings, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("own_images", ROOT / "examples" / "own_images.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert sum(module.MINUTES) <= 7  # what the page says
    module.TEACHER = kd.PretrainConfig(**TINY, z_dim=6, group=4)
    module.STUDENT, module.PAIRS = kd.DistillConfig(**TINY), 40
    return module


def folder_of(*classes, count=10, side=20):
    """A folder of PNG files, a colour for each class."""
    for c, name in enumerate(classes):
        Path("mine", name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (side, side), (250 - 100 * c, 20 * i, 90)).save(f"mine/{name}/{i}.png")
    return Path("mine")


def test_a_small_folder_becomes_a_file_of_its_classes(script, capsys):
    script.main(folder_of("dog", "cat", "10 euro", count=6))  # fewer of each class than a row of images has
    told = capsys.readouterr().out
    assert "18 images of 3 classes: {'10 euro': 6, 'cat': 6, 'dog': 6}" in told
    assert "not scored: too few images" in told
    runner = kd.load_exported("runs/own/student.xml")
    assert (runner.classes, runner.precision, runner.resolution) == (("10 euro", "cat", "dog"), "int8", 32)
    assert kd.load_teacher("runs/own/teacher", device="cpu").classes == runner.classes
    assert kd.load_pairs("runs/own/pairs").manifest["counts"] == [14, 14, 14]
    with Image.open("runs/own/real.png") as image:
        assert image.size == (6 * 65 + 1, 3 * 65 + 1)
    assert 6 * 65 < Image.open("runs/own/student.png").width < 8 * 65
    steps = re.findall(r"^\| (\w+).* \| \d+ \|$", Path("runs/own/table.md").read_text(), re.M)
    assert steps == ["1", "2", "3", "4", "5", "6", "all"] and Path("runs/own/table.md").read_text() in told


def test_the_program_writes_the_block_of_the_page(script, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    own = importlib.import_module("own")

    def main(out):
        out.mkdir()
        for name, color in (("real", "red"), ("student", "blue")):
            Image.new("RGB", (20, 30), color).save(out / f"{name}.png")
        (out / "table.md").write_text(script.times({"1  images": 3.2, "2  a teacher": 240.4}))

    monkeypatch.setattr(own.own_images, "main", main)
    page = Path("page.md")
    page.write_text("<!-- own images: by a program -->\n<!-- end of own images -->\n")
    own.main(Path("made"), page)
    told = page.read_text()
    assert "| 2  a teacher | 240 |\n| all | 244 |\n" in told and "(own-images.png)" in told and "own.py" in told
    shown = [Image.open("own-images.png").getpixel((x, 9)) for x in (5, 25, 40)]
    assert shown == [(255, 0, 0), (255, 255, 255), (0, 0, 255)]
    with pytest.raises(kd.InputError, match="made is there already"):
        own.main(Path("made"), page)


def test_digits_are_written_and_scored_against_themselves(script):
    pytest.importorskip("sklearn")
    real = kd.load_images(script.digits(Path("digits")))
    assert len(real) == 1797 and min(real.counts().values()) == 174 and real.resolution == 32
    assert (real.images[..., 0] == real.images[..., 2]).all() and real.images.min() == 0 and real.images.max() == 255
    names = "zero one two three four five six seven eight nine".split()
    means = {name: real.images[real.labels == real.classes.index(name)].mean((0, 3)) for name in names}
    assert means["zero"][16, 16] < 30 < 150 < means["one"][16, 16]  # a zero is empty in the middle
    network = ConvGenerator(6, 10, 32, (8, 8, 4, 4), 2)
    network.classes = real.classes
    told = script.scored({"teacher": network}, real, 129)
    rows = re.findall(r"^\| (\w+) \|.*", told, re.M)
    assert rows == ["teacher"] and "1,290 images" in told and "1,797 real" in told and "CIFAR-FD to teacher" in told


def test_of_few_classes_as_many_images_are_scored_as_scores_need(script, monkeypatch):
    asked = []

    def evaluate(one, real, per_class, teacher):
        asked.append(per_class)
        raise script.kd.InputError("stopped")

    monkeypatch.setattr(script.kd, "evaluate", evaluate)
    for classes in ("ab", "abcdefghij"):
        with pytest.raises(script.kd.InputError, match="stopped"):
            script.scored({"teacher": None}, SimpleNamespace(classes=classes), 129)
    assert asked == [500, 129]  # 1,000 in all


def test_the_pages_python_runs(script, monkeypatch):
    """All blocks of the page, with budgets that a test can afford; what other tests do is only looked at."""
    folder_of("cat", "dog", count=16).rename("my-images")
    text = (ROOT / "docs" / "Your-Own-Images.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 6
    asked = {}
    monkeypatch.setattr(kd, "evaluate", lambda *given, **more: asked.update(more, generator=given[0]), raising=False)
    for name in ("explore", "push", "export"):
        keep = lambda *given, name=name, **more: asked.update({name: (*given, more)})  # noqa: E731
        monkeypatch.setattr(kd, name, keep, raising=False)
    monkeypatch.setattr(kd, "PretrainConfig", lambda **more: script.TEACHER, raising=False)
    monkeypatch.setattr(kd, "DistillConfig", lambda **more: script.STUDENT, raising=False)
    code = "\n".join(blocks)
    exec(code.replace("per_class=5000", "per_class=10"), names := {})
    assert len(names["real"]) == 32 and len(names["pairs"]) == 20
    assert asked["real"] is names["real"] and asked["push"][-1] == {"license": "cc-by-4.0"}
    assert kd.load_student(asked["export"][0]).classes == ("cat", "dog")
