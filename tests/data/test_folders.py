"""Folders of classes and unpacked dataset zips: every image in its class, and none left out without a word."""

import json
import os
import socket
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from gsoc_kd.core.checks import InputWarning
from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import load_images

X = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
LARGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(image, format="PNG", **options):
    file = BytesIO()
    Image.fromarray(np.asarray(image)).save(file, format, **options)
    return file.getvalue()


def fill(folder, files):
    """Writes {path: bytes} below `folder`."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two classes; below `cat` a grey image and a nested one; below `dog` a JPEG."""
    files = {
        "cat/2.png": encoded(X[0]),
        "cat/1.PNG": encoded(X[1][..., 0]),
        "cat/more/3.png": encoded(X[2]),
        "dog/a.jpeg": encoded(np.full((4, 4, 3), 90, np.uint8), "JPEG"),
        "dog/notes.txt": b"not an image",
        "dog/Thumbs.db": b"what Windows leaves",
        ".hidden/x.png": b"not an image either",
        "cat/.ipynb_checkpoints/2.png": encoded(X[0]),
        "dog/._a.jpeg": b"what macOS leaves",
        "__MACOSX/cat/2.png": b"and more of it",
        "README.md": b"nor this",
    }
    return fill(tmp_path / "pets", files)


def test_a_folder_for_each_class(folder):
    data = load_images(folder)
    assert data.classes == ("cat", "dog") and data.source == "pets" and data.counts() == {"cat": 3, "dog": 1}
    assert data.labels.tolist() == [0, 0, 0, 1] and data.labels.dtype == np.int64
    assert np.array_equal(data.images[0], X[1][..., :1].repeat(3, 2))  # 1.PNG, grey
    assert np.array_equal(data.images[1], X[0]) and np.array_equal(data.images[2], X[2])
    assert np.array_equal(data.images[3], np.full((4, 4, 3), 90, np.uint8))


def test_a_folder_is_scaled_on_demand(folder):
    (folder / "dog" / "b.png").write_bytes(encoded(np.full((9, 5, 3), 200, np.uint8)))
    with pytest.raises(InputError, match=r"dog/b.png is 5x9 pixels.*cat/1.PNG is 4x4.*size=\.\.\."):
        load_images(folder)
    images = load_images(folder, size=2).images
    assert images.shape == (5, 2, 2, 3) and (images[3] == 90).all() and (images[4] == 200).all()
    assert np.array_equal(images[1], Image.fromarray(X[0]).resize((2, 2), Image.LANCZOS))


@pytest.mark.parametrize(
    "names, ordered",
    [
        ([str(i) for i in range(12)], [str(i) for i in range(12)]),
        (["b10", "b9", "a", "b09"], ["a", "b09", "b9", "b10"]),
        (["1", "-1", "0.25", "0.5", "01"], ["-1", "0.25", "0.5", "01", "1"]),
    ],
)
def test_classes_stand_in_natural_order(tmp_path, names, ordered):
    for i, name in enumerate(ordered):
        fill(tmp_path, {f"{name}/x.png": encoded(np.full((2, 2, 3), i, np.uint8))})
    data = load_images(tmp_path)
    assert list(data.classes) == ordered and set(names) == set(ordered)
    assert data.images[:, 0, 0, 0].tolist() == data.labels.tolist() == list(range(len(ordered)))


@pytest.mark.parametrize("below", ["", "unpacked/"])
def test_an_unpacked_dataset_zip_has_the_labels_of_its_dataset_json(tmp_path, below):
    names, labels = [f"0000{i // 2}/img{i}.png" for i in range(5)], [1, 0, 1, 0, 2]
    fill(tmp_path / "set", {below + name: encoded(x) for name, x in zip(names, X)})
    info = {"labels": [*zip(names, labels)][::-1]}
    fill(tmp_path / "set", {below + "dataset.json": json.dumps(info).encode()})
    data = load_images(tmp_path / "set")
    assert np.array_equal(data.images, X[::-1]) and data.labels.tolist() == labels[::-1]
    assert data.classes == ("0", "1", "2")
    fill(tmp_path / "set", {"extra/6.png": encoded(X[0])})
    with pytest.raises(InputError, match=r"dataset.json has no label for extra/6.png \(1 without label\)"):
        load_images(tmp_path / "set")


@pytest.mark.parametrize(
    "files, message",
    [
        (["train/cat/1.png", "test/cat/1.png"], "'test' and 'train' are parts of a dataset.*give.*such as .*train$"),
        (["Training/1.png", "VAL/1.png"], "'Training' and 'VAL' are parts of a dataset, not classes"),
        (["val2017/1.png", "train2017/1.png"], "'train2017' and 'val2017' are parts"),
        (["seg_train/cat/1.png", "seg_test/cat/1.png"], "'seg_test' and 'seg_train' are parts"),
        (["train/cat/1.png", "train/dog/1.png"], r"'train' has no images of its own but folders \(cat, dog\)"),
        (["train/cat/1.png", "notes/1.png"], r"'train' has no images of its own but folders \(cat\)"),
        (["pets/cat/1.png", "pets/dog/1.png"], r"'pets' has no images of its own but folders \(cat, dog\).*pets$"),
        (["trainA/1.png", "testB/1.png"], "'testB' and 'trainA' are parts"),
        (["trainset/1.png", "testset/1.png"], "'testset' and 'trainset' are parts"),
        (["trainA/cat/1.png", "trainB/cat/1.png"], r"'trainA' has no images of its own but folders \(cat\)"),
        ([f"fold_{i}/{c}/1.png" for i in (1, 2) for c in ("cat", "dog")], r"'fold_1' has no images .* \(cat, dog\)"),
        (["cat/1.png", "loose.png"], "loose.png lies beside the class folders"),
        (["cat/1.png", "cat/2.heic"], r"cat/2.heic is neither an image that can be read \(.png, .*\) nor a text"),
        (["cat/1.png", "cat/2"], "cat/2 is neither an image"),
        (["cat/1.png", "more.zip"], "more.zip is neither an image"),
        (["cat/1.png", "eel/soon.txt"], "class folder 'eel' holds no image file; fill it or"),
        (["1.png"], "has no class folders; put the images of each class into one of its own"),
    ],
)
def test_what_would_be_left_out_or_mixed_up_is_named(tmp_path, files, message):
    fill(tmp_path, dict.fromkeys(files, encoded(X[0])))
    with pytest.raises(InputError, match=message):
        load_images(tmp_path)


@pytest.mark.parametrize("name", ["dataset.json", "Dataset.JSON"])
def test_labels_are_not_passed_over_because_the_folder_inside_is_given(tmp_path, name):
    names, labels = ["img/00/a.png", "img/01/b.png"], [1, 0]
    fill(tmp_path, {x: encoded(image) for x, image in zip(names, X)})
    fill(tmp_path, {name: json.dumps({"labels": [*zip(names, labels)]}).encode()})
    assert load_images(tmp_path).labels.tolist() == labels
    if name == "dataset.json":
        with pytest.raises(InputError, match="dataset.json has the labels of the images in .*img: give "):
            load_images(tmp_path / "img")


def test_a_table_that_might_hold_labels_is_named_in_a_warning(tmp_path):
    fill(tmp_path, {"cat/1.png": encoded(X[0]), "dog/1.png": encoded(X[1]), "labels.csv": b"cat/1.png,dog"})
    with pytest.warns(InputWarning, match="labels.csv is not read: the folders' names are the classes"):
        assert load_images(tmp_path).classes == ("cat", "dog")


def test_folders_inside_a_class_belong_to_it(tmp_path):
    fill(tmp_path, dict.fromkeys(["n01/images/1.png", "n02/images/1.png"], encoded(X[0])))
    assert load_images(tmp_path).counts() == {"n01": 1, "n02": 1}


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, dict.fromkeys(["bus/1.png", "train/1.png"], encoded(X[0])))
    assert load_images(tmp_path).classes == ("bus", "train")


def test_links_are_followed_and_never_counted_twice(tmp_path):
    fill(tmp_path, {"set/cat/0.png": encoded(X[0]), "else/1.png": encoded(X[1]), "2.png": encoded(X[2])})
    cat = tmp_path / "set" / "cat"
    (cat / "more").symlink_to(tmp_path / "else")
    (cat / "2.png").symlink_to(tmp_path / "2.png")
    assert np.array_equal(load_images(tmp_path / "set").images, X[[0, 2, 1]])
    (tmp_path / "linked").symlink_to(tmp_path / "set")
    assert len(load_images(tmp_path / "linked")) == 3
    for name, target in (("again", tmp_path / "else"), ("up", "..")):
        (cat / name).symlink_to(target)
        with pytest.raises(InputError, match=r"by a link: its images would count twice; remove the link"):
            load_images(tmp_path / "set")
        (cat / name).unlink()


def test_what_is_no_regular_file_is_named_and_not_opened(tmp_path, monkeypatch):
    cat = fill(tmp_path, {"cat/1.png": encoded(X[0])}) / "cat"
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(InputError, match="pipe.zip is neither a file nor a folder but a pipe"):
        load_images(tmp_path / "pipe.zip")
    (tmp_path / "pipe.zip").unlink()
    monkeypatch.chdir(cat)  # the path of a socket must be short
    listener = socket.socket(socket.AF_UNIX)
    for make, told in (
        (os.mkfifo, "is not a file but a pipe, socket or device: remove it"),
        (listener.bind, "is not a file but a pipe, socket or device: remove it"),
        (lambda path: os.symlink("/dev/zero", path), "is not a file but a pipe, socket or device: remove it"),
        (lambda path: os.symlink("nowhere", path), "a link cannot be read .*: mend it or remove it"),
        (lambda path: os.symlink("2.png", path), "a link cannot be read .*: mend it or remove it"),
        (lambda path: open(path, "wb").truncate(2**34), "has 17,179,869,184 bytes, and 33,554,432 are the most"),
    ):
        make("2.png")
        with pytest.raises(InputError, match=f"cat/2.png.*{told}"):
            load_images(tmp_path)
        os.unlink("2.png")
    listener.close()
    os.symlink("/dev/zero", tmp_path / "dataset.json")
    with pytest.raises(InputError, match="dataset.json is not a file but a pipe, socket or device"):
        load_images(tmp_path)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="the superuser may read everything")
def test_a_folder_without_the_right_to_read_it_is_named(folder):
    (folder / "cat" / "more").chmod(0)
    with pytest.raises(InputError, match="more cannot be read .Permission denied.: mend it or remove it"):
        load_images(folder)
    (folder / "cat" / "more").chmod(0o700)


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("cut.jpg", encoded(LARGE, "JPEG")[:300], "cannot be read as an image .*"),
        ("deep.png", encoded(np.full((4, 4), 40_000, np.uint16)), "cannot be read as an image .*more than 8 bits.*"),
        ("text.png", b"just text", "is not a PNG, .* or TIFF image, whatever its name says"),
        ("empty.jpg", b"", "is not a PNG, .* or TIFF image, whatever its name says"),
    ],
)
def test_a_file_that_is_no_usable_image_is_named(folder, name, content, problem):
    (folder / "dog" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"dog/{name} {problem}; repair or remove it"):
        load_images(folder)


def test_a_class_has_a_readable_name(tmp_path):
    for name in (b"caf\xe9", b"a\nb"):
        fill(tmp_path, {f"{os.fsdecode(name)}/1.png": encoded(X[0])})
        with pytest.raises(InputError, match="is no name for a class: give one of readable text, in UTF-8"):
            load_images(tmp_path)
        os.rename(tmp_path / os.fsdecode(name), tmp_path / "good")
        assert load_images(tmp_path).classes == ("good",)
        (tmp_path / "good" / "1.png").unlink()
        (tmp_path / "good").rmdir()
