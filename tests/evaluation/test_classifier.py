"""The evaluation classifier, Inception, and how images go through them."""

import json

import numpy as np
import pytest
import torch
import torchvision
from pytorch_fid import inception
from torch import nn

from gsoc_kd.core.files import InputError, sha256
from gsoc_kd.core.weights import network_hash
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.evaluation.classifier import (
    EMBEDDED,
    Classifier,
    InceptionFeatures,
    accuracy,
    classifier_on,
    features,
    load_classifier,
)


class Brightness(nn.Module):
    """Feature: the mean of all pixels. Says class 1 of bright images."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def features_and_logits(self, x):
        level = x.mean((1, 2, 3))[:, None]
        return level, torch.cat([-level, level], 1)


def test_features_are_the_input_of_the_last_layer():
    classifier = Classifier(num_classes=5, widths=(4, 6, 8)).eval()
    x = torch.randn(3, 3, 32, 32)
    found, logits = classifier.features_and_logits(x)
    assert found.shape == (3, classifier.feature_width) == (3, 8) and logits.shape == (3, 5)
    assert torch.equal(logits, classifier(x))
    torch.testing.assert_close(logits, found @ classifier.linear.weight.T + classifier.linear.bias)
    assert torch.equal(found, classifier.blocks(classifier.stem(x)).flatten(2).max(2).values)
    assert (found >= 0).all() and found.std() > 0  # the maximum of a sum of rectified maps
    torch.testing.assert_close(logits[2:3], classifier(x[2:3]), atol=1e-5, rtol=1e-5)  # an image is judged alone


def test_the_bundled_classifier_is_small_says_how_it_came_about_and_is_copied_to_score():
    classifier, said = load_classifier(), json.loads((EMBEDDED / "provenance.json").read_text())
    assert sum(p.stat().st_size for p in EMBEDDED.iterdir()) <= 1.5e6
    assert classifier.feature_width <= 256 and classifier.num_classes == 10 and not classifier.training
    assert said["command"] and said["seconds"] > 0 and 0.91 <= said["scores"]["test_accuracy"] <= 1
    assert "50000 images" in said["data"] and "10000 images" in said["data"]
    assert network_hash(classifier_on("cpu")) == network_hash(classifier)
    own = Classifier(num_classes=3)
    assert classifier_on("cpu", own) is not own and classifier_on("cpu", own).num_classes == 3


def test_features_of_an_array_and_accuracy_of_labelled_images():
    images, network = (
        np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8),
        Classifier(3, (4, 6, 8)),
    )
    found, logits = features(images, network.train(), batch=4)
    assert found.dtype == logits.dtype == np.float32 and network.training
    with torch.no_grad():
        expected = network.eval().features_and_logits(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    np.testing.assert_allclose(found, expected[0], atol=1e-5)
    np.testing.assert_allclose(logits, expected[1], atol=1e-5)
    np.testing.assert_allclose(features(images, network, progress="features")[0], found, atol=1e-5)
    for bad in (np.zeros((2, 3, 4, 4), np.float32), images[:0]):
        with pytest.raises(InputError, match=r"\(N, H, W, 3\) uint8 and at least one, got"):
            features(bad, network)
    images = np.full((7, 4, 4, 3), 30, np.uint8)
    images[[1, 2, 6]] = 220
    data = LabelledImages(images, np.array([0, 1, 0, 0, 1, 0, 1]), ("dark", "bright"), "test")
    assert accuracy(Brightness(), data) == 5 / 7  # images 2 and 4 are labelled otherwise


def test_inception_features_are_those_of_the_whole_network(tmp_path):
    with pytest.MonkeyPatch.context() as patch:  # pytorch-fid's network with random weights
        patch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: None)
        patch.setattr(torchvision.models.Inception3, "load_state_dict", lambda self, state: None)
        network = inception.fid_inception_v3().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # the default would shrink the signal to nothing
    path = tmp_path / "weights.pth"  # like the one that it downloads
    torch.save(network.state_dict(), path)
    ours = InceptionFeatures(path)
    assert ours.digest == sha256(path) and not ours.training
    path.unlink()  # 91 MB
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found, logits = features(images, ours)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    x = nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False) * 2 - 1
    pooled = []
    network.avgpool.register_forward_hook(lambda module, args, out: pooled.append(out.flatten(1)))
    with torch.no_grad():
        expected = network(x) - network.fc.bias
    assert found.shape == (2, 2048) and logits.shape == (2, 1008)
    np.testing.assert_allclose(found, pooled[0].numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-3, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-5  # the comparison is not between constants


def test_inception_without_weights_says_where_they_are(tmp_path, monkeypatch):
    (tmp_path / "other.pth").write_bytes(b"not weights")
    for name in ("nowhere.pth", "other.pth"):
        with pytest.raises(InputError, match=f"{name} is no file of .* download .*pt_inception-2015-12-05"):
            InceptionFeatures(tmp_path / name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))  # and tests have no network
    with pytest.raises(InputError, match="is no file of .*offline.* download .*pt_inception"):
        InceptionFeatures("download")
    assert not list((tmp_path / "checkpoints").iterdir())
