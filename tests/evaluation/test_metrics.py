"""Metrics in closed form, and against implementations that are not ours."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from gsoc_kd.core.files import InputError
from gsoc_kd.evaluation import metrics


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


def test_the_two_terms_are_the_shift_and_what_differs_in_spread():
    a, b = gaussian([0, 0], np.diag([1, 4])), gaussian([3, 4], np.diag([9, 4]))
    assert metrics.frechet_terms(a, b) == pytest.approx((25, (1 - 3) ** 2))
    both = {"fd": 29, "fd_mean": 25, "fd_cov": 4}
    assert metrics.frechet_scores("fd", a, b) == pytest.approx(both) and metrics.frechet_distance(a, b) == 29
    assert metrics.frechet_terms(a, gaussian([3, 4], a.cov)) == pytest.approx((25, 0), abs=1e-9)
    x, y = random_features(300, 12, seed=1), random_features(200, 12, seed=2, shift=0.7)
    a, b = metrics.statistics(x), metrics.statistics(y)
    root = linalg.sqrtm(a.cov @ b.cov).real  # scipy's matrix root, which ours does without
    spread = np.trace(a.cov + b.cov - 2 * root)
    assert metrics.frechet_terms(a, b) == pytest.approx((((x.mean(0) - y.mean(0)) ** 2).sum(), spread), rel=1e-8)


def test_frechet_agrees_with_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics' Fréchet distance is left out")
    a = metrics.statistics(random_features(300, 40, seed=3))
    b = metrics.statistics(random_features(400, 40, seed=4, shift=0.3))
    ours = metrics.frechet_distance(a, b)
    theirs = fid._compute_fid(*(torch.from_numpy(v) for v in (a.mean, a.cov, b.mean, b.cov))).item()
    assert ours == pytest.approx(theirs, rel=1e-8)
    assert ours == pytest.approx(metrics.frechet_distance(b, a), rel=1e-10)


def test_kernel_distance_by_hand_and_by_torchmetrics():
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    # k(1,2) = 27; k(0,1) = 1; cross: k(1,0) = 1, k(1,1) = 8, k(2,0) = 1, k(2,1) = 27
    by_hand = {"mean": pytest.approx(27 + 1 - 2 * (1 + 8 + 1 + 27) / 4), "std": pytest.approx(0, abs=1e-12)}
    assert metrics.kernel_distance(x, y, subsets=3, size=2) == by_hand
    kid = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics' kernel distance is left out")
    x, y = random_features(60, 12, seed=5, scale=0.2), random_features(60, 12, seed=6, scale=0.2, shift=0.5)
    theirs = pytest.approx(kid.poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item(), rel=1e-9)
    ours = metrics.kernel_distance(x, y, subsets=2, size=60)  # each subset is everything
    assert ours == {"mean": theirs, "std": pytest.approx(0, abs=1e-9)}


def test_kernel_distance_is_unbiased_and_deterministic():
    x, y = random_features(800, 8, seed=7, scale=0.2), random_features(800, 8, seed=7, scale=0.2)
    y = y[np.random.default_rng(0).permutation(800)]
    found = metrics.kernel_distance(x, y, subsets=50, size=100)
    assert abs(found["mean"]) < 3 * found["std"] / np.sqrt(50) + 1e-3
    assert found == metrics.kernel_distance(x, y, subsets=50, size=100)
    assert found["mean"] != metrics.kernel_distance(x, y, subsets=50, size=100, seed=1)["mean"]
    assert metrics.kernel_distance(x, y + 1, subsets=5, size=100)["mean"] > 10 * found["std"]
    with pytest.raises(InputError, match="too few images: 999 and 1,000; .* 1,000 of each"):
        metrics.kernel_distance(np.zeros((999, 2)), np.zeros((1000, 2)))


def score_of(probs, **options):
    """Inception score of class probabilities."""
    with np.errstate(divide="ignore"):
        return metrics.inception_score(np.log(probs), **options)


def test_inception_score_in_closed_form():
    assert score_of(np.full((50, 10), 0.1)) == {"mean": pytest.approx(1), "std": pytest.approx(0, abs=1e-12)}
    assert score_of(np.repeat(np.eye(5), 8, axis=0), splits=1)["mean"] == pytest.approx(5)
    # half sure of class 0, half undecided between two: marginal (3/4, 1/4)
    probs = np.array([[1, 0]] * 10 + [[0.5, 0.5]] * 10)
    kl = (np.log(4 / 3) + 0.5 * np.log(2 / 3) + 0.5 * np.log(2)) / 2
    assert score_of(probs, splits=1)["mean"] == pytest.approx(np.exp(kl))
    in_order = np.repeat(np.eye(10), 100, axis=0)  # of the classes: unshuffled, every split would score 1
    found = score_of(in_order)
    assert 9 < found["mean"] <= 10 and 0 < found["std"] < 0.5 and found == score_of(in_order)
    with pytest.raises(InputError, match="too few images: 4 for 10 splits"):
        score_of(np.full((4, 2), 0.5))


def test_inception_score_agrees_with_torchmetrics_on_the_same_splits(monkeypatch):
    torchmetrics = pytest.importorskip("torchmetrics.image.inception", reason="torchmetrics' score is left out")
    logits = torch.from_numpy(random_features(400, 7, seed=9)).float()
    given = nn.Identity()  # torchmetrics asks a network for the logits of images; the "images" here are the logits
    given.num_features = 7
    theirs = torchmetrics.InceptionScore(feature=given, splits=5)
    theirs.update(logits[np.random.default_rng(0).permutation(400)])  # ours shuffles by this, theirs by torch's
    monkeypatch.setattr(torch, "randperm", lambda n, *args, **kwargs: torch.arange(n))
    ours = metrics.inception_score(logits, splits=5, seed=0)["mean"]
    assert ours == pytest.approx(theirs.compute()[0].item(), rel=1e-5) and ours > 1.5


def test_class_accuracy():
    share, classes = metrics.class_accuracy([0, 1, 1, 2, 0], [0, 1, 0, 2, 2], num_classes=4)
    assert share == pytest.approx(3 / 5) and classes == [0.5, 1.0, 0.5, None]
    with pytest.raises(InputError, match="equally long"):
        metrics.class_accuracy([0, 1], [0], num_classes=2)
