"""Metrics in closed form, and against implementations that are not ours; features of networks."""

import numpy as np
import pytest
import torch
import torchvision
from pytorch_fid import inception
from test_classifier import Brightness
from torch import nn

from gsoc_kd.core.files import InputError, sha256
from gsoc_kd.evaluation import metrics
from gsoc_kd.evaluation.classifier import Judge
from gsoc_kd.evaluation.features import InceptionFeatures, features


def gaussian(mean, cov):
    return metrics.Statistics(np.asarray(mean, float), np.asarray(cov, float), 1000)


def random_features(count, width, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) * scale
    return rng.normal(size=(count, width)) @ mix + shift


def test_statistics_are_the_mean_and_unbiased_covariance_of_enough_finite_features():
    x = random_features(9000, 6, seed=0).astype(np.float32)  # more than two blocks
    found = metrics.statistics(x)
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.cov, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10)
    assert found.count == 9000 and found.mean.dtype == found.cov.dtype == np.float64
    assert metrics.statistics(np.zeros((9, 8))).count == 9
    with pytest.raises(InputError, match="too few images: 8 cats .* 8 features; at least 9 are needed"):
        metrics.statistics(np.zeros((8, 8)), what="cats")
    for bad in (np.where(np.arange(18).reshape(9, 2) == 7, np.nan, 0), np.zeros(9)):
        with pytest.raises(InputError, match=r"features of images must be \(N, D\) and finite"):
            metrics.statistics(bad)


def test_frechet_of_diagonal_shifted_identical_degenerate_and_rotated_gaussians():
    a, b = gaussian([0, 0, 0], np.diag([1, 4, 9])), gaussian([0, 0, 0], np.diag([4, 4, 25]))
    assert metrics.frechet_distance(a, b) == pytest.approx((1 - 2) ** 2 + 0 + (3 - 5) ** 2, abs=1e-12)
    cov = np.cov(random_features(50, 3, seed=1), rowvar=False)
    assert metrics.frechet_distance(gaussian([0, 0, 0], cov), gaussian([1, -2, 2], cov)) == pytest.approx(9, abs=1e-9)
    x = random_features(200, 16, seed=2)
    assert 0 <= metrics.frechet_distance(metrics.statistics(x), metrics.statistics(x)) < 1e-9
    point, unit = gaussian([0, 0], np.zeros((2, 2))), gaussian([0, 0], np.eye(2))
    assert metrics.frechet_distance(point, unit) == pytest.approx(2, abs=1e-12)
    dead = np.hstack([x, np.zeros((200, 4))])  # features that never fire
    assert 0 <= metrics.frechet_distance(metrics.statistics(dead), metrics.statistics(dead)) < 1e-5
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    a, b = np.diag([1.0, 9.0]), turn @ np.diag([1.0, 9.0]) @ turn.T
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))  # for 2x2, tr(M^1/2)^2 = tr M + 2 sqrt(det M)
    assert metrics.frechet_distance(gaussian([0, 0], a), gaussian([0, 0], b)) == pytest.approx(20 - 2 * root, abs=1e-12)
    with pytest.raises(InputError, match="different networks: 2 and 16 features"):
        metrics.frechet_distance(unit, metrics.statistics(x))


def test_frechet_agrees_with_other_implementations():
    linalg = pytest.importorskip("scipy.linalg", reason="scipy's matrix square root is left out")
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics' Fréchet distance is left out")
    a = metrics.statistics(random_features(300, 40, seed=3))
    b = metrics.statistics(random_features(400, 40, seed=4, shift=0.3))
    ours = metrics.frechet_distance(a, b)
    root = np.trace(linalg.sqrtm(a.cov @ b.cov)).real
    by_sqrtm = ((a.mean - b.mean) ** 2).sum() + np.trace(a.cov) + np.trace(b.cov) - 2 * root
    by_torchmetrics = fid._compute_fid(*(torch.from_numpy(v) for v in (a.mean, a.cov, b.mean, b.cov))).item()
    assert ours == pytest.approx(by_sqrtm, rel=1e-8) and ours == pytest.approx(by_torchmetrics, rel=1e-8)
    assert ours == pytest.approx(metrics.frechet_distance(b, a), rel=1e-10)


def test_kernel_distance_by_hand_and_by_torchmetrics():
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    # k(1,2) = 27; k(0,1) = 1; cross: k(1,0) = 1, k(1,1) = 8, k(2,0) = 1, k(2,1) = 27
    mean, std = metrics.kernel_distance(x, y, subsets=3, size=2)
    assert mean == pytest.approx(27 + 1 - 2 * (1 + 8 + 1 + 27) / 4) and std == pytest.approx(0, abs=1e-12)
    kid = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics' kernel distance is left out")
    x, y = random_features(60, 12, seed=5, scale=0.2), random_features(60, 12, seed=6, scale=0.2, shift=0.5)
    mean, std = metrics.kernel_distance(x, y, subsets=2, size=60)  # each subset is everything
    assert mean == pytest.approx(kid.poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item(), rel=1e-9)
    assert std == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_unbiased_and_deterministic():
    x, y = random_features(800, 8, seed=7, scale=0.2), random_features(800, 8, seed=7, scale=0.2)
    y = y[np.random.default_rng(0).permutation(800)]
    mean, std = metrics.kernel_distance(x, y, subsets=50, size=100)
    assert abs(mean) < 3 * std / np.sqrt(50) + 1e-3
    assert (mean, std) == metrics.kernel_distance(x, y, subsets=50, size=100)
    assert mean != metrics.kernel_distance(x, y, subsets=50, size=100, seed=1)[0]
    assert metrics.kernel_distance(x, y + 1, subsets=5, size=100)[0] > 10 * std
    with pytest.raises(InputError, match="too few images: 999 and 1,000; .* 1,000 of each"):
        metrics.kernel_distance(np.zeros((999, 2)), np.zeros((1000, 2)))


def test_inception_score_in_closed_form():
    assert metrics.inception_score(np.full((50, 10), 0.1)) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    assert metrics.inception_score(np.repeat(np.eye(5), 8, axis=0), splits=1)[0] == pytest.approx(5)
    # half sure of class 0, half undecided between two: marginal (3/4, 1/4)
    probs = np.array([[1, 0]] * 10 + [[0.5, 0.5]] * 10)
    kl = (np.log(4 / 3) + 0.5 * np.log(2 / 3) + 0.5 * np.log(2)) / 2
    assert metrics.inception_score(probs, splits=1)[0] == pytest.approx(np.exp(kl))
    assert metrics.logits_score(np.float32([[9, 9]] * 10))["mean"] == pytest.approx(1)  # of softmax


def test_inception_score_of_images_in_the_order_of_their_classes_and_of_what_has_none():
    mean, std = metrics.inception_score(np.repeat(np.eye(10), 100, axis=0))  # unshuffled, every split would score 1
    assert 9 < mean <= 10 and 0 < std < 0.5
    assert (mean, std) == metrics.inception_score(np.repeat(np.eye(10), 100, axis=0))
    with pytest.raises(InputError, match="rows sum to 1"):
        metrics.inception_score(np.ones((20, 3)))
    with pytest.raises(InputError, match="too few images: 4 for 10 splits"):
        metrics.inception_score(np.full((4, 2), 0.5))


def test_inception_score_agrees_with_torchmetrics_on_the_same_splits(monkeypatch):
    torchmetrics = pytest.importorskip("torchmetrics.image.inception", reason="torchmetrics' score is left out")
    logits = torch.from_numpy(random_features(400, 7, seed=9)).float()
    given = nn.Identity()  # torchmetrics asks a network for the logits of images; the "images" here are the logits
    given.num_features = 7
    theirs = torchmetrics.InceptionScore(feature=given, splits=5)
    theirs.update(logits[np.random.default_rng(0).permutation(400)])  # ours shuffles by this, theirs by torch's
    monkeypatch.setattr(torch, "randperm", lambda n, *args, **kwargs: torch.arange(n))
    ours = metrics.inception_score(logits.double().softmax(1).numpy(), splits=5, seed=0)
    assert ours[0] == pytest.approx(theirs.compute()[0].item(), rel=1e-5) and ours[0] > 1.5


def test_class_agreement():
    share, classes = metrics.class_agreement([0, 1, 1, 2, 0], [0, 1, 0, 2, 2], num_classes=4)
    assert share == pytest.approx(3 / 5) and classes == [0.5, 1.0, 0.5, None]
    with pytest.raises(InputError, match="equally long"):
        metrics.class_agreement([0, 1], [0], num_classes=2)


@pytest.mark.parametrize("network", [Brightness(), Judge(3, (4, 6, 8))])  # in two passes, and in one
def test_features_of_an_array(network):
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    found, logits = features(images, network.train(), batch=4)
    assert found.dtype == logits.dtype == np.float32 and network.training
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = network.eval().features(x), network(x)
    np.testing.assert_allclose(found, expected[0], atol=1e-5)
    np.testing.assert_allclose(logits, expected[1], atol=1e-5)
    np.testing.assert_allclose(features(images, network, progress="features")[0], found, atol=1e-5)
    for bad in (np.zeros((2, 3, 4, 4), np.float32), images[:0]):
        with pytest.raises(InputError, match=r"\(N, H, W, 3\) uint8 and at least one, got"):
            features(bad, network)


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
