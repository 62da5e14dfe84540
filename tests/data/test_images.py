"""Labelled images: the values of every pixel, CIFAR-10 from everywhere it may lie."""

import json
import pickle  # torchvision's layout is of pickles
import re
import urllib.error
import zipfile

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from gsoc_kd.core.figures import png_bytes
from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import CIFAR10_CLASSES, LabelledImages, load_images, to_float, to_uint8


def random_images(count, size=4):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own; no test reads or writes the user's."""
    monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path / "cache"))


def test_all_grey_levels_survive_the_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    for given in (levels, torch.from_numpy(levels)):
        x = to_float(given)
        assert x.dtype == torch.float32 and x.shape == (1, 3, 16, 16)
        expected = torch.arange(256).view(16, 16).expand(3, 16, 16) / 127.5 - 1  # 0 is -1, 255 is 1
        torch.testing.assert_close(x[0], expected, atol=1e-7, rtol=0)
        for back in (to_uint8(x), to_uint8(x.double())):
            assert back.dtype == torch.uint8 and back.is_contiguous() and np.array_equal(back.numpy(), levels)
    assert torch.equal(to_float(levels[:, ::-1]), to_float(levels).flip(2))  # in any memory order


def test_to_uint8_clamps_and_rounds_what_is_widened_before_it_is_scaled():
    x = torch.tensor([-9, -1.01, -1, -0.996, 0.996, 1, 1.01, 9, 0.1, -0.1, 0, 1.0], dtype=torch.float32)
    grey = to_uint8(x.view(1, 1, 2, 6).expand(1, 3, 2, 6))[0, :, :, 0].flatten().tolist()
    assert grey == [0, 0, 0, 1, 254, 255, 255, 255, 140, 115, 128, 255]  # 0.51, 254.49, 140.25, 114.75; 127.5 is even
    x = torch.full((1, 3, 1, 1), 0.7, dtype=torch.bfloat16)  # 0.69921875: 216.65; in bfloat16 216
    assert to_uint8(x).flatten().tolist() == [217] * 3


def test_channels_rows_and_columns_stay_apart():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 1] = 255, 0, 0  # red, above right
    image[0, 1, 0] = 0, 0, 255  # blue, below left
    x = to_float(image)
    assert (x == 1).nonzero().tolist() == [[0, 0, 0, 1], [0, 2, 1, 0]]
    assert np.array_equal(to_uint8(x).numpy(), image)


def test_labelled_images_are_counted_and_taken_class_by_class():
    seven = LabelledImages(random_images(7), np.array([1, 0, 2, 1, 0, 1, 2]), ("a", "b", "c"), "test")
    assert len(seven) == 7 and seven.resolution == 4 and seven.counts() == {"a": 2, "b": 3, "c": 2}
    two = seven.take(2)
    assert two.labels.tolist() == [0, 0, 1, 1, 2, 2] and np.array_equal(two.images, seven.images[[1, 4, 0, 3, 2, 6]])
    assert two.classes == seven.classes and two.source == seven.source
    told = r"test has fewer than 3 images of \{'a': 2, 'c': 2\}"
    for kind in (np.int64, np.uint8, np.int32):
        assert np.array_equal(seven.take(kind(2)).images, two.images)
    for per_class, message in ((0, "per_class must be a whole number of at least 1, not 0"), (3, told)):
        with pytest.raises(InputError, match=message):
            seven.take(per_class)
    with pytest.raises(AttributeError):
        seven.source = "other"  # frozen


def test_labelled_images_always_have_names_and_fit_together():
    x, names = random_images(3), ("cat", "dog")
    for labels in ([0, 1, 1], np.array([0, 1, 1], np.uint8), np.array([0, 1, 1], np.int32)):
        data = LabelledImages(x, labels, list(names), "test")
        assert data.labels.dtype == np.int64 and data.labels.tolist() == [0, 1, 1] and data.classes == names
    for given, told in (
        (
            (x.astype(np.float32), [0, 1, 1], names),
            r"images must be uint8 \(N, H, W, 3\), as high .* not float32 \(3, 4, 4, 3\)",
        ),
        ((x[..., 0], [0, 1, 1], names), r"images must be uint8 .* not uint8 \(3, 4, 4\)"),
        ((x[:, :2], [0, 1, 1], names), r"as high as wide, not uint8 \(3, 2, 4, 3\)"),
        ((x, [0, 1], names), r"labels of 3 images must be whole numbers \(3,\), not int64 \(2,\)"),
        ((x, [0.0, 1.0, 1.0], names), r"labels of 3 images must be whole numbers \(3,\), not float64 \(3,\)"),
        ((x, [0, 1, 2], names), "labels go from 0 to 2, but there are 2 classes"),
        ((x, [0, -1, 1], names), "labels go from -1 to 1, but there are 2 classes"),
        ((x, [0, 1, 1], ("cat", "cat")), "classes of LabelledImages must be a list of different names"),
        ((x, [0, 1, 1], None), "classes of LabelledImages must be a list of different names, got None"),
        ((x, [0, 1, 1], "ab"), "classes of LabelledImages must be a list of different names, got 'ab'"),
        ((x, [0, 1, 1], (0, 1)), "classes of LabelledImages must be a list of different names"),
    ):
        with pytest.raises(InputError, match=told):
            LabelledImages(*given, "test")


def test_the_identity_of_images_is_of_all_that_a_training_sees():
    x, names = random_images(3), ("cat", "dog")
    one = LabelledImages(x, [0, 1, 1], names, "test").identity()
    assert re.fullmatch(r"test, 3 images, sha256 [0-9a-f]{16}", one)
    assert one == LabelledImages(x.copy(), np.array([0, 1, 1], np.int32), list(names), "test").identity()
    others = (x[::-1], [0, 1, 1], names), (x, [0, 0, 1], names), (x, [0, 1, 1], names[::-1])
    assert len({one, *(LabelledImages(*given, "test").identity() for given in others)}) == 4


def test_the_home_folder_and_the_word_cifar10(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("pets", "cifar10"):
        (tmp_path / folder / "cat").mkdir(parents=True)
        (tmp_path / folder / "cat" / "1.png").write_bytes(png_bytes(random_images(1)[0]))
    with zipfile.ZipFile(tmp_path / "cifar10-train.zip", "w") as archive:
        archive.writestr("a.png", png_bytes(255 - random_images(1)[0]))
        archive.writestr("dataset.json", json.dumps({"labels": [["a.png", 0]], "classes": ["cat"]}))
    monkeypatch.setenv("GSOC_KD_DATA", "~")
    monkeypatch.setenv("GSOC_KD_CACHE", "~/kept")
    assert np.array_equal(load_images("~/pets").images, random_images(1))
    assert np.array_equal(load_images().images, 255 - random_images(1))
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert np.array_equal(load_images("cifar10", root="~").images, 255 - random_images(1))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="'cifar10' means .* is ./cifar10"):  # the word, but not without another
        assert np.array_equal(load_images("cifar10").images, 255 - random_images(1))
    assert np.array_equal(load_images("./cifar10").images, random_images(1))


def test_other_things_than_images_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    for source, given, told in (
        (tmp_path / "a.txt", {}, "a.txt is neither a dataset zip nor a folder of classes"),
        (tmp_path / "nothing", {}, "nothing does not exist; give 'cifar10', a dataset zip or a folder"),
        ("cifar10", {"split": "validation"}, "split must be 'train' or 'test', got 'validation'"),
        (tmp_path, {"size": 0}, "size must be a whole number of at least 1, not 0"),
        (tmp_path, {"size": 2.0}, "size must be a whole number of at least 1, not 2.0"),
        (None, {}, "the images' source must be a path, not None"),
        (7, {}, "the images' source must be a path, not 7"),
        ("a\0b", {}, "is not a path that can be used"),
        ("x" * 5000, {}, "is not a path that can be used"),
        ("~no-such-user/x", {}, "is not a path that can be used"),
    ):
        with pytest.raises(InputError, match=told):
            load_images(source, **given)


def test_torchvisions_own_layout_is_read(tmp_path, monkeypatch):
    """A small cifar-10-batches-py; only the check sums of the real one are passed over."""
    x, batches = random_images(60, size=32), tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    for i, name in enumerate([f"data_batch_{b}" for b in range(1, 6)] + ["test_batch"]):
        rows = x[10 * i : 10 * i + 10].transpose(0, 3, 1, 2).reshape(10, 3072)
        (batches / name).write_bytes(pickle.dumps({"data": rows, "labels": list(range(10))}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_CLASSES)}))
    train, test = load_images(root=tmp_path), load_images("cifar10", split="test", root=tmp_path, download=False)
    assert np.array_equal(train.images, x[:50]) and np.array_equal(test.images, x[50:])
    assert train.labels.tolist() == list(range(10)) * 5 and train.labels.dtype == np.int64
    assert train.classes == CIFAR10_CLASSES and train.source == "CIFAR-10 train (torchvision)"
    scaled = load_images(root=tmp_path, size=8)
    assert np.array_equal(scaled.images[3], np.asarray(Image.fromarray(x[3]).resize((8, 8), Image.LANCZOS)))


@pytest.mark.parametrize("given", ["root", "GSOC_KD_DATA"])
def test_cifar10_from_a_folder_of_zips(tmp_path, monkeypatch, given):
    (tmp_path / "here").mkdir()
    with zipfile.ZipFile(tmp_path / "here" / "cifar10-test.zip", "w") as archive:
        archive.writestr("a.png", png_bytes(random_images(1)[0]))
        archive.writestr("dataset.json", json.dumps({"labels": [["a.png", 0]], "classes": ["cat"]}))
    monkeypatch.setenv("GSOC_KD_DATA", str(tmp_path / ("here" if given == "GSOC_KD_DATA" else "elsewhere")))
    data = load_images(split="test", root=tmp_path / "here" if given == "root" else None)
    assert np.array_equal(data.images, random_images(1)) and data.source == "cifar10-test.zip"


@pytest.mark.parametrize("error", [None, urllib.error.URLError("no route to host"), TimeoutError()])
def test_offline_one_error_names_the_three_ways(tmp_path, monkeypatch, error):
    def failing(*_, **__):
        raise error

    monkeypatch.delenv("GSOC_KD_DATA", raising=False)
    if error is not None:
        monkeypatch.setattr(torchvision.datasets, "CIFAR10", failing)
    for download in (True, False):
        with pytest.raises(InputError) as caught:
            load_images("cifar10", root=tmp_path / "data", download=download)
        told, reason = str(caught.value), "" if error is None else str(error) or "TimeoutError"
        assert str(tmp_path / "data") in told and reason in told and "\n" not in told
        ways = "Connect to the internet", "cifar-10-python.tar.gz", "batches-py", "cifar10-train.zip", "GSOC_KD_DATA"
        assert [way for way in ways if way not in told] == []
    assert not any(p.is_file() for p in tmp_path.rglob("*"))  # no half download


def test_real_images_are_all_there_and_as_published(real_data):
    splits = {split: load_images(split=split, root=real_data, download=False) for split in ("train", "test")}
    for split, count in (("train", 50_000), ("test", 10_000)):
        assert splits[split].images.shape == (count, 32, 32, 3) and splits[split].images.dtype == np.uint8
        assert splits[split].counts() == dict.fromkeys(CIFAR10_CLASSES, count // 10)
    train, test = ({image.tobytes() for image in splits[split].images} for split in ("train", "test"))
    assert len(train) == 50_000 and len(test) == 10_000 and not train & test  # none twice
    images = splits["train"].images
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(3)]) / images[..., 0].size
    mean = counts @ np.arange(256)  # (3,)
    deviation = np.sqrt(counts @ np.arange(256) ** 2 - mean**2)
    np.testing.assert_allclose(mean / 255, (0.4914, 0.4822, 0.4465), rtol=0, atol=1e-4)
    np.testing.assert_allclose(deviation / 255, (0.2470, 0.2435, 0.2616), rtol=0, atol=1e-4)
