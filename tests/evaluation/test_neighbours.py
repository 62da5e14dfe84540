"""Neighbours counted by hand, by brute force, and by torch-fidelity."""

import numpy as np
import pytest
import torch
from test_classifier import Brightness

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.evaluation.neighbours import copying, density_coverage, nearest, neighbour_grid, precision_recall


def line(*places):
    """Features of width one."""
    return np.array(places, float)[:, None]


def test_nearest_is_the_brute_force_answer():
    rng = np.random.default_rng(0)  # more queries than go at once
    queries, points = rng.normal(size=(2050, 5)).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)
    every = np.linalg.norm(queries[:, None].astype(float) - points, axis=2)  # (2050, 40)
    distances, rows = nearest(queries, points, k=4)
    np.testing.assert_array_equal(rows, every.argsort(axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :4], rtol=1e-9)


def test_nearest_refuses_what_has_no_answer():
    with pytest.raises(InputError, match="k, with 2 points, must be a whole number of 1 to 2, not 3"):
        nearest(line(0), line(0, 1), k=3)
    with pytest.raises(InputError, match="different networks: 1 and 2 wide"):
        nearest(line(0), np.zeros((3, 2)))
    with pytest.raises(InputError, match="must be .* finite"):
        nearest(line(0), line(np.nan))


def test_precision_and_recall_counted_by_hand():
    real = line(0, 1, 10, 12)  # k=1: [-1, 1], [0, 2], [8, 12], [10, 14]
    generated = line(1, 1.5, 5, 50)  # k=1: [0.5, 1.5], [1, 2], [1.5, 8.5], [5, 95]
    assert precision_recall(real, generated, k=1) == (2 / 4, 3 / 4)  # not 5 and 50; not 0
    assert precision_recall(generated, real, k=1) == (3 / 4, 2 / 4)
    with pytest.raises(InputError, match="too few images: 4 and 3 for k=3"):
        precision_recall(real, generated[:3])
    with pytest.raises(InputError, match="k must be .* at least 1, not 0"):
        precision_recall(real, generated, k=0)


def test_a_set_has_full_precision_and_recall_to_itself_none_far_away_and_half_in_one_of_two_modes():
    a, b = np.random.default_rng(2).normal(size=(2, 600, 3))
    assert precision_recall(a, a) == (1, 1)
    assert precision_recall(a, a + 100) == (0, 0)
    assert precision_recall(np.concatenate([a, b + 100]), np.concatenate([a, a + 1e-3])) == (1, 0.5)


FIDELITY = {3: (0.958, 364 / 600), 5: (0.99, 435 / 600)}  # of torch-fidelity 0.4.0, metric_prc


@pytest.mark.parametrize("k", FIDELITY)
def test_precision_and_recall_are_torch_fidelitys(k):
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(600, 8)), rng.normal(size=(500, 8)) * 0.8 + 0.3
    assert precision_recall(real, generated, k) == pytest.approx(FIDELITY[k], abs=1e-12)
    reason = "the comparison with an installed torch-fidelity is left out"
    prc = pytest.importorskip("torch_fidelity.metric_prc", reason=reason)
    options = dict(prc_neighborhood=k, prc_batch_size=100, save_cpu_ram=True, verbose=False)
    theirs = prc.prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(real), **options)
    assert (theirs["precision"], theirs["recall"]) == pytest.approx(FIDELITY[k], abs=1e-6)


def test_density_and_coverage_counted_by_hand():
    real = line(0, 1, 10, 12)  # k=1: [-1, 1], [0, 2], [8, 12], [10, 14]
    generated = line(0.5, 1.5, 11, 50, 60)  # in 2, 1, 2, 0, 0 balls; every ball has one
    assert density_coverage(real, generated, k=1) == (5 / 5, 4 / 4)
    # roles swapped, [-0.5, 1.5] has 0 and 1, [0.5, 2.5] has 1, [1.5, 20.5] has 10 and 12, two balls have none
    assert density_coverage(generated, real, k=1) == (5 / 4, 3 / 5)
    with pytest.raises(InputError, match="too few images: 4 and 5 for k=5"):
        density_coverage(real, generated)
    with pytest.raises(InputError, match="k must be .* at least 1, not 0"):
        density_coverage(real, generated, k=0)


def test_an_outlier_costs_density_little_and_covers_nothing():
    a, b = np.random.default_rng(2).normal(size=(2, 600, 3))
    density, coverage = density_coverage(a, b)
    assert density == pytest.approx(1, abs=0.1) and coverage == pytest.approx(1 - 0.5**5, abs=0.03)  # their lemma 2
    assert density_coverage(a, a + 100) == (0, 0) and density_coverage(a, np.zeros_like(a))[1] < 0.1
    outlier = np.concatenate([b[:-1], [[9.0, 9, 9]]])
    assert density_coverage(a, outlier) == pytest.approx((density, coverage), abs=0.01)


OF_PRDC = {3: (1911 / 1500, 462 / 600), 5: (3219 / 2500, 524 / 600)}  # of the authors' package, prdc 0.2


@pytest.mark.parametrize("k", OF_PRDC)
def test_density_and_coverage_are_their_authors(k):
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(600, 8)), rng.normal(size=(500, 8)) * 0.8 + 0.3
    assert density_coverage(real, generated, k) == pytest.approx(OF_PRDC[k], abs=1e-12)
    apart = np.linalg.norm(real[:, None] - generated, axis=2)  # the formulas written out, (N, M)
    radii = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)[:, k]
    inside = apart <= radii[:, None]
    assert density_coverage(real, generated, k) == pytest.approx((inside.sum() / (k * 500), inside.any(1).mean()))


def test_copies_are_nearer_than_new_images():
    train = np.random.default_rng(4).normal(size=(500, 6))
    new, others = np.random.default_rng(5).normal(size=(2, 400, 6))
    copies = copying(train[:100], train, others)
    assert (copies["closer"], copies["median"]) == (1, pytest.approx(0, abs=1e-6))
    fresh = copying(new, train, others)
    assert fresh["closer"] == pytest.approx(0.5, abs=0.07) and fresh["ratio"] == pytest.approx(1, abs=0.05)
    by_hand = copying(line(1, 4, 30), train=line(0, 10), others=line(2, 13, 25))  # nearest: 1 4 20; 2 3 15
    assert by_hand == {"median": 4, "real_median": 3, "ratio": pytest.approx(4 / 3), "closer": pytest.approx(1 / 3)}


def test_the_grid_shows_each_image_and_its_nearest_in_order():
    def plain(*levels):
        return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 4, 4, 3)).copy()

    train = LabelledImages(plain(0, 200, 90, 120), np.zeros(4, int), ("a",), "train")
    for data in (train, train.images):
        shown = np.asarray(neighbour_grid(plain(100, 210), data, Brightness(), k=3, scale=1))
        assert shown.shape == (1 + 2 * 5, 1 + 5 * 5, 3)
        assert shown[1::5, 1::5, 0].tolist() == [[100, 255, 90, 120, 0], [210, 255, 200, 120, 90]]
