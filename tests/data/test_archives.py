"""Dataset zips, their cache, and folders of classes: every image in its place, and a name for whatever is wrong."""

import json
import random
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


def write_zip(path, images=X, names=NAMES, raw=(), how=zipfile.ZIP_STORED, text=None, **info):
    """A dataset zip of five 4x4 images; `raw` replaces the bytes of members, `text` those of dataset.json."""
    info = {"labels": labelled(*LABELS), "classes": ["red", "green", "blue"], **info}
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, image in sorted(zip(names, images), key=lambda row: row[0]):  # not the labels' order
            archive.writestr(name, dict(raw).get(name) or png(image))
        if text != "":
            archive.writestr("dataset.json", text or json.dumps({k: v for k, v in info.items() if v is not None}))
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
        (dict(labels=[*labelled(*LABELS), ("f.png", 0)]), r"names f.png, which is not in the zip \(1 missing\)"),
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
        (dict(text='{"labels": null}'), r"dataset.json must hold 'labels'"),
        (dict(text='{"labels": [['), r"dataset.json must hold 'labels'"),
        (dict(names=[], labels=[]), r"tiny.zip holds no images"),
        (dict(raw={"01/c.png": png(X[0])[:-30]}), r"tiny.zip:01/c.png cannot be read as an image"),
        (dict(raw={"01/c.png": b"no image"}), r"tiny.zip:01/c.png is not an image"),
        (dict(raw={"01/c.png": png(np.zeros((5, 5, 3), np.uint8))}), r"c.png is 5x5 pixels.*00/b.png is 4x4.*size="),
        (dict(raw={"01/c.png": png(X[0][:3])}), r"01/c.png is 4x3 pixels, but all must be square"),
    ],
)
def test_what_is_wrong_with_a_zip_is_named(tmp_path, cache, changes, message):
    write_zip(tmp_path / "tiny.zip", **changes)
    with pytest.raises(InputError, match=message):
        load_images(tmp_path / "tiny.zip")
    assert not cache.exists()  # nothing of it is kept


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
            assert "tiny.zip" in str(error)
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


@pytest.fixture
def folder(tmp_path):
    """Two classes; below `cat` a grey image, one with transparency, one nested; below `dog` a JPEG."""
    files = {
        "cat/2.png": png(X[0]),
        "cat/1.PNG": png(X[1][..., 0]),
        "cat/more/3.png": png(X[2]),
        "cat/0.png": png(np.dstack([X[3], np.full((4, 4), 7, np.uint8)])),
        "dog/a.jpeg": png(np.full((4, 4, 3), 90, np.uint8), "JPEG"),
        "dog/notes.txt": b"not an image",
        ".hidden/x.png": b"not an image either",
        "cat/.ipynb_checkpoints/2.png": png(X[0]),
        "dog/._a.jpeg": b"what macOS leaves",
        "README.md": b"nor this",
    }
    for name, content in files.items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(content)
    return tmp_path / "pets"


def test_a_folder_a_class(folder):
    data = load_images(folder)
    assert data.classes == ("cat", "dog") and data.source == "pets" and data.counts() == {"cat": 4, "dog": 1}
    assert data.labels.tolist() == [0, 0, 0, 0, 1] and data.labels.dtype == np.int64
    assert np.array_equal(data.images[0], X[3])  # 0.png, transparency dropped
    assert np.array_equal(data.images[1], X[1][..., :1].repeat(3, 2))  # 1.PNG, grey
    assert np.array_equal(data.images[2], X[0]) and np.array_equal(data.images[3], X[2])
    assert np.array_equal(data.images[4], np.full((4, 4, 3), 90, np.uint8))


def test_a_folder_is_scaled_on_demand(folder):
    (folder / "dog" / "b.png").write_bytes(png(np.full((9, 5, 3), 200, np.uint8)))
    with pytest.raises(InputError, match=r"dog/b.png is 5x9 pixels.*cat/0.png is 4x4.*size=\.\.\."):
        load_images(folder)
    images = load_images(folder, size=2).images
    assert images.shape == (6, 2, 2, 3) and (images[4] == 90).all() and (images[5] == 200).all()
    assert np.array_equal(images[2], Image.fromarray(X[0]).resize((2, 2), Image.LANCZOS))


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("cut.jpg", png(LARGE, "JPEG")[:300], "cannot be read as an image .*"),
        ("deep.png", png(np.full((4, 4), 40_000, np.uint16)), "cannot be read as an image .*"),  # 16 bits a pixel
        ("text.png", b"just text", "is not an image, whatever its name says"),
        ("empty.jpg", b"", "is not an image, whatever its name says"),
    ],
)
def test_a_file_that_is_no_usable_image_is_named(folder, name, content, problem):
    (folder / "dog" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"dog/{name} {problem}; repair or remove it"):
        load_images(folder)


def test_folders_without_images_are_named(folder):
    (folder / "eel").mkdir()
    (folder / "eel" / "readme.txt").write_text("soon")
    with pytest.raises(InputError, match="class folder 'eel' holds no PNG or JPEG file; fill it or"):
        load_images(folder)
    with pytest.raises(InputError, match="eel has no class folders"):
        load_images(folder / "eel")
