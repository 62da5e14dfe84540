"""Whatever happens to a file of images, what is read is what was written, or one line says that it cannot be read."""

import json
import shutil
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import load_images

X = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
NAMES, LABELS, CLASSES = ["00/a.png", "00/b.png", "01/c.png", "d.png"], [1, 0, 1, 0], ["cat", "dog"]
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif"}
some = settings(max_examples=60, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
damage = st.lists(st.tuples(st.sampled_from(["flip", "set", "cut", "insert", "double"]), st.floats(0, 0.999),
                            st.integers(0, 255)), min_size=1, max_size=3)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
json_values = st.recursive(
    leaves | st.sampled_from(NAMES),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=8,
)


def encoded(image, format="PNG"):
    file = BytesIO()
    Image.fromarray(image).save(file, format)
    return file.getvalue()


def damaged(content, changes):
    """`content` with a few changes: where each lies, as a share of the length, and what is done there."""
    for kind, share, value in changes:
        at = int(share * len(content))
        head, byte, tail = content[:at], content[at : at + 1], content[at + 1 :]
        new = {"flip": bytes([byte[0] ^ (1 << value % 8)]) if byte else b"", "set": bytes([value]),
               "insert": byte + bytes([value]), "double": byte + content[at : at + value]}  # fmt: skip
        content = head if kind == "cut" else head + new[kind] + tail
    return content


def dataset(info=None):
    """The bytes of a dataset zip; `info` instead of its dataset.json."""
    file, labels = BytesIO(), [*zip(NAMES, LABELS)]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dataset.json", json.dumps({"labels": labels, "classes": CLASSES}) if info is None else info)
        for name, image in zip(NAMES, X):
            archive.writestr(name, encoded(image))
    return file.getvalue()


def read(path):
    """LabelledImages, or None where one line names the path."""
    try:
        return load_images(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 1000
        return None


@pytest.fixture(autouse=True)
def place(monkeypatch):
    """A folder that every example finds empty."""
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setenv("GSOC_KD_CACHE", str(folder / "cache"))
    yield folder
    shutil.rmtree(folder)


@some
@given(changes=damage)
def test_a_damaged_dataset_zip_is_the_same_or_refused(place, changes):
    (place / "set.zip").write_bytes(damaged(dataset(), changes))
    if (found := read(place / "set.zip")) is not None:
        assert np.array_equal(found.images, X) and found.labels.tolist() == LABELS
        assert found.classes == tuple(CLASSES)


@some
@given(info=json_values | st.fixed_dictionaries(
    {"labels": json_values | st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-1, 3)), max_size=5)},
    optional={"classes": json_values | st.lists(st.text(max_size=3), max_size=3)}))  # fmt: skip
@pytest.mark.parametrize("unpacked", [False, True])
def test_any_json_in_dataset_json_gives_the_labels_that_it_says_or_is_refused(place, unpacked, info):
    path, text = place / ("set" if unpacked else "set.zip"), json.dumps(info)
    if unpacked:
        shutil.rmtree(path, ignore_errors=True)
        zipfile.ZipFile(BytesIO(dataset(text))).extractall(path)
    else:
        path.write_bytes(dataset(text))
    if (found := read(path)) is not None:
        assert found.labels.tolist() == [label for _, label in info["labels"]]
        assert np.array_equal(found.images, X[[NAMES.index(name) for name, _ in info["labels"]]])
        assert set(found.labels) == set(range(len(found.classes)))


@some
@given(changes=damage)
@pytest.mark.parametrize("unpacked", [False, True])
def test_damaged_text_of_dataset_json_is_never_a_traceback(place, unpacked, changes):
    text = damaged(json.dumps({"labels": [*zip(NAMES, LABELS)], "classes": CLASSES}).encode(), changes)
    path = place / ("set" if unpacked else "set.zip")
    if unpacked:
        shutil.rmtree(path, ignore_errors=True)
        zipfile.ZipFile(BytesIO(dataset(text))).extractall(path)
    else:
        path.write_bytes(dataset(text))
    assert (found := read(path)) is None or sorted(map(bytes, found.images)) == sorted(map(bytes, X))


@some
@given(changes=damage)
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_image_in_a_folder_has_its_size_or_is_refused(place, format, changes):
    path, good = place / "a" / f"x.{FORMATS[format]}", encoded(X[0], format)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(good)
    (place / "a" / "y.png").write_bytes(encoded(X[1]))
    expected = load_images(place).images
    path.write_bytes(damaged(good, changes))
    if (found := read(place)) is not None:
        assert found.images.shape == expected.shape and np.array_equal(found.images[1], X[1])
        assert format != "PNG" or np.array_equal(found.images, expected)  # the only format with check sums
