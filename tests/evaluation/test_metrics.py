"""Metrics in closed form, and against implementations that are not ours."""

import numpy as np
import pytest
import torch
from torch import nn

from gsoc_kd.core.files import InputError
from gsoc_kd.evaluation import metrics
from gsoc_kd.evaluation.metrics import (
    Statistics,
    class_agreement,
    frechet_distance,
    inception_score,
    kernel_distance,
    statistics,
)


def gaussian(mean, cov):
    return Statistics(np.asarray(mean, float), np.asarray(cov, float), 1000)


def random_features(count, width, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) * scale
    return rng.normal(size=(count, width)) @ mix + shift


# ---------------------------------------------------------------- statistics


def test_statistics_are_the_mean_and_unbiased_covariance():
    x = random_features(9000, 6, seed=0).astype(np.float32)  # more than two blocks
    found = statistics(x)
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.cov, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10)
    assert found.count == 9000 and found.mean.dtype == found.cov.dtype == np.float64


def test_statistics_refuse_too_few_images():
    with pytest.raises(InputError, match="too few images: 8 cats .* 8 features; at least 9 are needed"):
        statistics(np.zeros((8, 8)), what="cats")
    assert statistics(np.zeros((9, 8))).count == 9


def test_statistics_refuse_what_is_not_finite():
    x = np.zeros((9, 2))
    x[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        statistics(x)


# ---------------------------------------------------------------- Fréchet distance


def test_frechet_of_diagonal_gaussians_is_the_sum_of_squared_differences_of_deviations():
    a, b = gaussian([0, 0, 0], np.diag([1, 4, 9])), gaussian([0, 0, 0], np.diag([4, 4, 25]))
    assert frechet_distance(a, b) == pytest.approx((1 - 2) ** 2 + 0 + (3 - 5) ** 2, abs=1e-12)


def test_frechet_of_a_shift_is_its_squared_length():
    cov = np.cov(random_features(50, 3, seed=1), rowvar=False)
    assert frechet_distance(gaussian([0, 0, 0], cov), gaussian([1, -2, 2], cov)) == pytest.approx(9, abs=1e-9)


def test_frechet_of_identical_and_of_degenerate_gaussians():
    x = random_features(200, 16, seed=2)
    assert 0 <= frechet_distance(statistics(x), statistics(x)) < 1e-9
    point, unit = gaussian([0, 0], np.zeros((2, 2))), gaussian([0, 0], np.eye(2))
    assert frechet_distance(point, unit) == pytest.approx(2, abs=1e-12)
    dead = np.hstack([x, np.zeros((200, 4))])  # features that never fire
    assert 0 <= frechet_distance(statistics(dead), statistics(dead)) < 1e-5


def test_frechet_of_rotated_gaussians():
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b = np.diag([1.0, 9.0]), turn @ np.diag([1.0, 9.0]) @ turn.T
    # for 2x2 matrices, tr(M^1/2) = sqrt(tr M + 2 sqrt(det M))
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    found = frechet_distance(gaussian([0, 0], a), gaussian([0, 0], b))
    assert found == pytest.approx(20 - 2 * root, abs=1e-12)


def test_frechet_agrees_with_other_implementations():
    linalg = pytest.importorskip("scipy.linalg", reason="scipy's matrix square root is left out")
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics' Fréchet distance is left out")
    a = statistics(random_features(300, 40, seed=3))
    b = statistics(random_features(400, 40, seed=4, shift=0.3))
    ours = frechet_distance(a, b)
    root = np.trace(linalg.sqrtm(a.cov @ b.cov)).real
    by_sqrtm = ((a.mean - b.mean) ** 2).sum() + np.trace(a.cov) + np.trace(b.cov) - 2 * root
    by_torchmetrics = fid._compute_fid(*(torch.from_numpy(v) for v in (a.mean, a.cov, b.mean, b.cov))).item()
    assert ours == pytest.approx(by_sqrtm, rel=1e-8)
    assert ours == pytest.approx(by_torchmetrics, rel=1e-8)
    assert ours == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_frechet_refuses_statistics_of_different_networks():
    with pytest.raises(InputError, match="2 and 3 features"):
        frechet_distance(gaussian([0, 0], np.eye(2)), gaussian([0, 0, 0], np.eye(3)))


# ---------------------------------------------------------------- kernel distance


def test_kernel_distance_by_hand():
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    # k(1,2) = 27; k(0,1) = 1; cross: k(1,0) = 1, k(1,1) = 8, k(2,0) = 1, k(2,1) = 27
    mean, std = kernel_distance(x, y, subsets=3, size=2)
    assert mean == pytest.approx(27 + 1 - 2 * (1 + 8 + 1 + 27) / 4) and std == pytest.approx(0, abs=1e-12)


def test_kernel_distance_agrees_with_torchmetrics_on_the_same_rows():
    kid = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics' kernel distance is left out")
    x, y = random_features(60, 12, seed=5, scale=0.2), random_features(60, 12, seed=6, scale=0.2, shift=0.5)
    mean, std = kernel_distance(x, y, subsets=2, size=60)  # each subset is everything
    assert mean == pytest.approx(kid.poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item(), rel=1e-9)
    assert std == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_unbiased_and_deterministic():
    x, y = random_features(800, 8, seed=7, scale=0.2), random_features(800, 8, seed=7, scale=0.2)
    y = y[np.random.default_rng(0).permutation(800)]
    mean, std = kernel_distance(x, y, subsets=50, size=100)
    assert abs(mean) < 3 * std / np.sqrt(50) + 1e-3
    assert (mean, std) == kernel_distance(x, y, subsets=50, size=100)
    assert mean != kernel_distance(x, y, subsets=50, size=100, seed=1)[0]
    assert kernel_distance(x, y + 1, subsets=5, size=100)[0] > 10 * std


def test_kernel_distance_refuses_too_few_images():
    with pytest.raises(InputError, match="too few images: 999 and 1,000 .* at least 1,000"):
        kernel_distance(np.zeros((999, 2)), np.zeros((1000, 2)))


# ---------------------------------------------------------------- inception score


def test_inception_score_in_closed_form():
    assert inception_score(np.full((50, 10), 0.1)) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    assert inception_score(np.repeat(np.eye(5), 8, axis=0), splits=1)[0] == pytest.approx(5)
    # half sure of class 0, half undecided between two: marginal (3/4, 1/4)
    probs = np.array([[1, 0]] * 10 + [[0.5, 0.5]] * 10)
    kl = (np.log(4 / 3) + 0.5 * np.log(2 / 3) + 0.5 * np.log(2)) / 2
    assert inception_score(probs, splits=1)[0] == pytest.approx(np.exp(kl))


def test_inception_score_of_pictures_in_the_order_of_their_classes():
    mean, std = inception_score(np.repeat(np.eye(10), 100, axis=0))  # unshuffled, every split would score 1
    assert 9 < mean <= 10 and 0 < std < 0.5
    assert (mean, std) == inception_score(np.repeat(np.eye(10), 100, axis=0))


def test_inception_score_is_the_mutual_information_of_scipys_entropies():
    stats = pytest.importorskip("scipy.stats", reason="scipy's entropies are left out")
    probs = torch.from_numpy(random_features(40, 7, seed=8)).softmax(1).numpy()
    information = stats.entropy(probs.mean(axis=0)) - stats.entropy(probs, axis=1).mean()
    assert inception_score(probs, splits=1)[0] == pytest.approx(np.exp(information), rel=1e-9)


def test_inception_score_agrees_with_torchmetrics_on_the_same_splits():
    inception = pytest.importorskip("torchmetrics.image.inception", reason="torchmetrics' inception score is left out")
    logits = torch.from_numpy(random_features(400, 7, seed=9)).float()

    class Given(nn.Module):
        """torchmetrics asks a network for the logits of pictures; the "pictures" here are the logits."""

        num_features = 7

        def forward(self, x):
            return x

    theirs = inception.InceptionScore(feature=Given(), splits=5)
    order = np.random.default_rng(0).permutation(400)  # ours shuffles by this, theirs by torch's
    theirs.update(logits[order])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randperm", lambda n, *args, **kwargs: torch.arange(n))
        mean, _ = theirs.compute()
    ours = inception_score(logits.double().softmax(1).numpy(), splits=5, seed=0)
    assert ours[0] == pytest.approx(mean.item(), rel=1e-5) and ours[0] > 1.5


def test_inception_score_refuses_logits_and_too_few():
    with pytest.raises(InputError, match="rows sum to 1"):
        inception_score(np.ones((20, 3)))
    with pytest.raises(InputError, match="too few images: 4 for 10 splits"):
        inception_score(np.full((4, 2), 0.5))


# ---------------------------------------------------------------- class agreement


def test_class_agreement():
    share, classes = class_agreement([0, 1, 1, 2, 0], [0, 1, 0, 2, 2], num_classes=4)
    assert share == pytest.approx(3 / 5) and classes == [0.5, 1.0, 0.5, None]
    with pytest.raises(InputError, match="equally long"):
        class_agreement([0, 1], [0], num_classes=2)


# ---------------------------------------------------------------- features


class Means(nn.Module):
    """Features: mean colour; logits: twice that. `calls` counts forward passes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.calls = 0

    def features(self, x):
        self.calls += 1
        return x.mean(dim=(2, 3))

    def forward(self, x):
        return self.scale * self.features(x)


class MeansInOnePass(Means):
    def features_and_logits(self, x):
        mean = self.features(x)
        return mean, self.scale * mean


@pytest.mark.parametrize("network, calls", [(Means(), 6), (MeansInOnePass(), 3)])
def test_features_of_an_array(network, calls):
    images = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3), dtype=np.uint8)
    found, logits = metrics.features(images, network.train(), batch=4)
    np.testing.assert_allclose(found, images.mean(axis=(1, 2)) / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(logits, 2 * found, atol=1e-6)
    assert found.dtype == np.float32 and network.calls == calls and network.training
    pieces, _ = metrics.features((images[i : i + 3] for i in range(0, 11, 3)), network, progress="features")
    np.testing.assert_allclose(pieces, found, atol=1e-6)


def test_features_refuse_floats_and_nothing():
    with pytest.raises(InputError, match=r"\(N, H, W, 3\) uint8, got \(2, 3, 4, 4\) float32"):
        metrics.features(np.zeros((2, 3, 4, 4), np.float32), Means())
    with pytest.raises(InputError, match="no images"):
        metrics.features(iter(()), Means())


# ---------------------------------------------------------------- Inception


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """pytorch-fid's network with random weights, and a file of them like the one it downloads."""
    inception = pytest.importorskip("pytorch_fid.inception", reason="Inception features are left out")
    torchvision = pytest.importorskip("torchvision")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: None)
        patch.setattr(torchvision.models.Inception3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = inception.fid_inception_v3().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # the default would shrink the signal to nothing
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    yield path, network
    path.unlink()  # 91 MB


def test_inception_features_are_those_of_the_whole_network(inception_file):
    path, network = inception_file
    ours = metrics.InceptionFeatures(path)
    assert ours.digest == metrics.sha256(path) and not ours.training
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found, logits = metrics.features(images, ours)
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
    pytest.importorskip("pytorch_fid", reason="Inception features are left out")
    with pytest.raises(InputError, match="nowhere.pth do not exist; download pt_inception-2015-12-05"):
        metrics.InceptionFeatures(tmp_path / "nowhere.pth")
    (tmp_path / "other.pth").write_bytes(b"not weights")
    with pytest.raises(InputError, match="other.pth does not hold pytorch-fid's Inception weights"):
        metrics.InceptionFeatures(tmp_path / "other.pth")

    def offline(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match="could not be downloaded .no route.; download pt_inception"):
        metrics.InceptionFeatures("download")
