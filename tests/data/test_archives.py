"""Dataset zips, their cache, and folders of classes: every image in its place, and a name for whatever is wrong."""

import itertools
import json
import os
import random
import shutil
import sys
import warnings
import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import load_images

NAMES = ["00/b.png", "00/a.png", "01/c.png", "01/d.PNG", "e.png"]
LABELS = [2, 0, 1, 1, 0]
X = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
LARGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def png(image, format="PNG"):
    file = BytesIO()
    Image.fromarray(np.asarray(image)).save(file, format)
    return file.getvalue()


def labelled(*labels):
    return [*zip(NAMES, labels)]


def write_zip(path, images=X, names=NAMES, raw=(), how=zipfile.ZIP_STORED, text=None, more=(), below="", **info):
    """A dataset zip of five 4x4 images; `raw` replaces the bytes of members, `text` those of dataset.json, `more` adds
    members. All but those lie in the folder `below`."""
    info = {"labels": labelled(*LABELS), "classes": ["red", "green", "blue"], **info}
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, image in sorted(zip(names, images), key=lambda row: row[0]):  # not the labels' order
            archive.writestr(below + name, dict(raw).get(name) or png(image))
        if text != "":
            info = {key: value for key, value in info.items() if value is not None}
            archive.writestr(below + "dataset.json", text or json.dumps(info))
        with warnings.catch_warnings(action="ignore"):  # zipfile warns of a second member of one name
            for name, content in dict(more).items():
                archive.writestr(name, content)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own; no test reads or writes the user's."""
    monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def equal(a, b):
    return np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels) and a.classes == b.classes


def test_a_zip_gives_images_in_the_order_of_its_labels(tmp_path):
    data = load_images(write_zip(tmp_path / "tiny.zip"))
    assert np.array_equal(data.images, X) and data.images.dtype == np.uint8
    assert data.labels.tolist() == LABELS and data.labels.dtype == np.int64
    assert data.classes == ("red", "green", "blue") and data.source == "tiny.zip"
    assert load_images(write_zip(tmp_path / "tiny.zip", classes=None)).classes == ("0", "1", "2")
    again = load_images(write_zip(tmp_path / "tiny.zip", images=255 - X))  # another file of that name
    assert np.array_equal(again.images, 255 - X) and again.classes == ("red", "green", "blue")


def test_dataset_json_is_read_where_it_lies_and_what_systems_leave_does_not_count(tmp_path):
    more = ["__MACOSX/x/00/._a.png", "x/.DS_Store", "x/00/Thumbs.db", "x/README.md", "x/c.txt"]
    data = load_images(write_zip(tmp_path / "tiny.zip", below="x/", more=dict.fromkeys(more, b"")))
    assert np.array_equal(data.images, X) and data.labels.tolist() == LABELS


def test_a_zip_is_scaled_on_demand(tmp_path):
    path = write_zip(tmp_path / "tiny.zip", images=[np.full((6, 6, 3), 40 * i, np.uint8) for i in range(5)])
    for size, side in ((3, 3), (None, 6), (3, 3)):  # sizes do not mix in the cache
        images = load_images(path, size=size).images
        assert images.shape == (5, side, side, 3)
        assert [int(i.max()) for i in images] == [int(i.min()) for i in images] == [0, 40, 80, 120, 160]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(text=""), r"tiny.zip has no dataset.json with the labels"),
        (dict(labels=labelled(2)), r"tiny.zip: dataset.json has no label for 00/a.png \(4 without label\)"),
        (dict(labels=[*labelled(*LABELS), ("f.png", 0)]), r"names f.png, which is not there \(1 missing\)"),
        (dict(labels=[*labelled(*LABELS), ("e.png", 1)]), r"dataset.json labels e.png twice"),
        (dict(labels=labelled(2, 0, 1, 3, 0)), r"label 3 of 01/d.PNG does not lie in 0..2"),
        (dict(labels=labelled(2, 0, 1, -1, 0)), r"label -1 of 01/d.PNG does not lie in 0..2"),
        (
            dict(labels=labelled(2, 0, 1, 10**30, 0), classes=None),
            r"label 10000000000.* of 01/d.PNG does not lie in 0..5",
        ),
        (dict(labels=labelled(2, 0, 1, 1.5, 0)), r"'labels' as \[\[name, class index\].*01/d.PNG', 1.5"),
        (dict(labels=labelled(2, 0, 1, True, 0)), r"'labels' as \[\[name, class index\].*01/d.PNG', True"),
        (dict(labels=labelled(2, 0, 0, 0, 0)), r"tiny.zip: class 'green' has no images"),
        (dict(labels=labelled(2, 0, 0, 0, 0), classes=None), r"tiny.zip: class '1' has no images"),
        (dict(classes=["red", "green", "red"]), r"must be a list of different names, got \['red', 'green', 'red'\]"),
        (dict(classes="rgb"), r"'classes' in dataset.json must be a list of different names, got 'rgb'"),
        (dict(text='{"labels": null}'), r"dataset.json has no labels \(null\)"),
        (dict(text='[["a.png", 0]]'), r"dataset.json must hold 'labels'"),
        (dict(text='{"labels": 7}'), r"dataset.json must hold 'labels'"),
        (dict(text=f'{{"labels": [["e.png", {"9" * 5000}]]}}'), r"dataset.json must hold 'labels'"),
        (dict(text="[" * 900), r"dataset.json must hold 'labels'"),
        (dict(text="[" * 100_000), r"dataset.json holds more lists than there are images"),
        (dict(text=" " * (2**24 + 1)), r"tiny.zip:dataset.json has 16,777,217 bytes, and 16,777,216 are the most"),
        (dict(classes=list("rgbcmy")), r"dataset.json names 6 classes for 5 images; leave empty ones out"),
        (dict(classes=["red", "green", "bl\nue"]), r"'bl\\nue' is no name for a class"),
        (dict(classes=["red", "green", "\ud800"]), r"is no name for a class"),
        (dict(classes=["red", "green", "x" * 256]), r"is no name for a class"),
        (dict(text='{"labels": [['), r"dataset.json must hold 'labels'"),
        (dict(names=[], labels=[]), r"tiny.zip holds no images"),
        (dict(raw={"01/c.png": png(X[0])[:-30]}), r"tiny.zip:01/c.png cannot be read as an image"),
        (dict(raw={"01/c.png": b"no image"}), r"tiny.zip:01/c.png is not a PNG, .* image"),
        (dict(raw={"01/c.png": bytes(2**25 + 1)}), r"tiny.zip:01/c.png has 33,554,433 bytes, and 33,554,432 are"),
        (dict(more={"f.png": png(X[0])}), r"dataset.json has no label for f.png \(1 without label\)"),
        (dict(more={"02/f.heic": b""}), r"tiny.zip: 02/f.heic is neither an image that can be read \(.*nor a text"),
        (dict(more={"x/dataset.json": b"{}"}), r"holds several datasets, dataset.json and x/dataset.json"),
        (dict(more={"e.png": png(X[0])}), r"tiny.zip holds e.png twice"),
        (dict(how=zipfile.ZIP_BZIP2), r"00/a.png is packed in another way than stored or deflated"),
        (dict(raw={"01/c.png": png(np.zeros((5, 5, 3), np.uint8))}), r"c.png is 5x5 pixels.*00/b.png is 4x4.*size="),
        (dict(raw={"01/c.png": png(X[0][:3])}), r"01/c.png is 4x3 pixels, but all must be square"),
    ],
)
def test_what_is_wrong_with_a_zip_is_named(tmp_path, cache, changes, message):
    write_zip(tmp_path / "tiny.zip", **changes)
    with pytest.raises(InputError, match=message):
        load_images(tmp_path / "tiny.zip")
    assert not cache.exists()  # nothing of it is kept


def test_a_zip_behind_much_else_is_refused(tmp_path):
    content = write_zip(tmp_path / "tiny.zip").read_bytes()
    with open(tmp_path / "tiny.zip", "wb") as file:
        file.truncate(2**28)  # takes no place on the disk
        file.seek(2**28)
        file.write(content)
    with pytest.raises(InputError, match="tiny.zip is mostly something else than its members; pack it again"):
        load_images(tmp_path / "tiny.zip")


def damaged(whole, count):
    """`whole` with one of its bytes changed, `count` times."""
    for at in random.Random(0).sample(range(len(whole)), count):
        yield whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]


def test_a_png_damaged_in_any_byte_is_named_or_harmless(tmp_path):
    for content in damaged(png(X[2]), 40):
        path = write_zip(tmp_path / "tiny.zip", raw={"01/c.png": content})
        try:
            assert load_images(path).images.shape == X.shape
        except InputError as error:
            assert "tiny.zip:01/c.png" in str(error)


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_damaged_anywhere_is_named(tmp_path, how):
    path = write_zip(tmp_path / "tiny.zip", how=how)
    expected = load_images(path)
    for content in damaged(path.read_bytes(), 80):
        path.write_bytes(content)
        try:  # a time stamp, say, may change and leave all as it is
            assert equal(load_images(path), expected)
        except InputError as error:
            assert "tiny.zip" in str(error) and "\n" not in str(error)
    for keep in (0, 0.1, 0.5, 0.99):
        path.write_bytes(content[: int(keep * len(content))])
        with pytest.raises(InputError, match="tiny.zip is a damaged zip file .* copy or download it again"):
            load_images(path)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "classes.json", "manifest.json"])
@pytest.mark.parametrize("how", ["changed", "cut", "missing"])
def test_the_second_load_decodes_nothing_and_a_damaged_cache_is_not_believed(tmp_path, cache, name, how, monkeypatch):
    path = write_zip(tmp_path / "tiny.zip")
    first = load_images(path)
    (entry,) = cache.iterdir()
    content = (entry / name).read_bytes()
    if how == "missing":
        (entry / name).unlink()
    else:
        (entry / name).write_bytes(content[:-1] + b"!" if how == "changed" else content[:-3])
    assert equal(load_images(path), first) and (entry / name).read_bytes() == content  # and it is mended
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was decoded"))
    again = load_images(str(path))
    assert equal(again, first) and again.source == first.source
    assert isinstance(again.classes, tuple) and again.labels.dtype == np.int64


@pytest.mark.parametrize("manifest", ["[]", '{"images.npy": null}'])
def test_a_foreign_manifest_is_not_believed(tmp_path, cache, manifest):
    load_images(path := write_zip(tmp_path / "tiny.zip"))
    (entry,) = cache.iterdir()
    np.save(entry / "images.npy", 255 - X)
    (entry / "manifest.json").write_text(manifest)
    assert np.array_equal(load_images(path).images, X)


@pytest.mark.parametrize("full", [False, True])
def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch, cache, full):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    if full:
        monkeypatch.setattr(np, "save", no_space)
    else:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert np.array_equal(load_images(write_zip(tmp_path / "tiny.zip")).images, X)
    assert list(cache.iterdir()) == [] if full else (tmp_path / "file").read_text() == "in the way"  # no half entry


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed where they can be forked")
@pytest.mark.parametrize("older", [False, True])
def test_the_cache_outlives_a_kill_at_any_moment_and_nothing_is_left_behind(tmp_path, cache, older):
    """A process is killed before each of its changes to the disk in turn; the next one reads, mends and clears up."""
    whole = ["classes.json", "images.npy", "labels.npy", "manifest.json"]
    expected, ended, moment = load_images(path := write_zip(tmp_path / "tiny.zip")), False, 0
    (entry,) = cache.iterdir()
    while not ended:
        if older:
            (entry / "labels.npy").write_bytes(b"damaged")
        else:
            shutil.rmtree(entry)
        if (child := os.fork()) == 0:
            die_at(moment, cache)
            load_images(path)
            os._exit(0)
        ended, moment = os.waitpid(child, 0)[1] == 0, moment + 1
        assert equal(load_images(path), expected)
        assert os.listdir(cache) == [entry.name] and sorted(os.listdir(entry)) == whole
    assert moment > 8


def die_at(moment, folder):
    """From now on: the process ends at its `moment`-th change of a file or folder below `folder`."""
    changes = itertools.count()

    def watch(event, given):
        opened = event == "open" and isinstance(given[1], str) and "w" in given[1]
        if opened or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            if str(folder) in str(given[0]) and next(changes) == moment:
                os._exit(9)

    sys.addaudithook(watch)
