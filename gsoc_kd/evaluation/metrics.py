"""Distances between sets of images: features first, then statistics, then formulas (docs/Evaluation.md).

The formulas know nothing of networks; numbers from different feature networks cannot be compared.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..core.files import InputError


@dataclass(frozen=True)
class Statistics:
    """A Gaussian fitted to features: mean (D,) and covariance (D, D), float64, of `count` images."""

    mean: np.ndarray
    cov: np.ndarray
    count: int


def statistics(features, what="images"):
    """Mean and unbiased covariance of features (N, D), in float64; `what` names the images in errors.

    InputError: not finite, or N <= D, for which the covariance is singular and a distance meaningless."""
    (features,) = rows(features, what=what)
    count, width = features.shape
    if count <= width:
        raise InputError(f"too few images: {count:,} {what} for {width:,} features; at least {width + 1:,} are needed")
    mean, cov = features.mean(axis=0, dtype=np.float64), np.zeros((width, width))
    for start in range(0, count, 4096):  # in blocks: no float64 copy of everything
        centred = features[start : start + 4096] - mean
        cov += centred.T @ centred
    return Statistics(mean, cov / (count - 1), count)


def frechet_distance(a, b):
    """Fréchet distance between two Gaussians (Statistics), squared as everybody reports it:

        |m_a - m_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))

    (Dowson & Landau 1982; FID: Heusel et al. 2017, arXiv 1706.08500, eq. 6): the sum of both `frechet_terms`."""
    return sum(frechet_terms(a, b))


def frechet_terms(a, b):
    """(mean, cov), the two terms of the Fréchet distance, both at least 0: |m_a - m_b|^2, how far the centres are
    apart, and tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)), how much the spreads differ.

    S_a S_b has real eigenvalues >= 0, and the trace of its square root is the sum of their square roots. What rounding
    leaves below zero is clipped. InputError: statistics of different widths."""
    if a.mean.shape != b.mean.shape:
        raise InputError(f"these statistics come from different networks: {a.mean.size} and {b.mean.size} features")
    root = np.sqrt(np.clip(np.linalg.eigvals(a.cov @ b.cov).real, 0, None)).sum()
    shift = a.mean - b.mean
    return float(shift @ shift), max(0.0, float(np.trace(a.cov) + np.trace(b.cov) - 2 * root))


def frechet_scores(name, a, b):
    """The Fréchet distance of two Statistics as scores: {name: the distance, name_mean, name_cov: its two terms}."""
    mean, cov = frechet_terms(a, b)
    return {name: mean + cov, f"{name}_mean": mean, f"{name}_cov": cov}


def kernel_distance(x, y, subsets=100, size=1000, seed=0):
    """Kernel distance between features x (N, D) and y (M, D): the unbiased estimate, perhaps slightly negative, of

        MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),   k(a, b) = (a.b / D + 1)^3

    (KID: Binkowski et al. 2018, arXiv 1801.01401, section 4), x' and y' being other rows than x and y: {mean, std} over
    `subsets` random subsets of `size` rows each, drawn without replacement by `seed`."""
    x, y = rows(x, y)
    if min(len(x), len(y)) < size or size < 2:
        raise InputError(f"too few images: {len(x):,} and {len(y):,}; kernel distance needs {max(size, 2):,} of each")
    rng, values = np.random.default_rng(seed), []

    def total(a, b):  # of the kernel over all pairs of rows
        k = (a / a.shape[1]) @ b.T + 1  # (size, size)
        return (k * k).ravel() @ k.ravel()

    for _ in range(subsets):
        a, b = (v[rng.choice(len(v), size, replace=False)].astype(np.float64) for v in (x, y))
        within = sum(total(v, v) - (((v * v).mean(axis=1) + 1) ** 3).sum() for v in (a, b))
        values.append(within / (size * (size - 1)) - 2 * total(a, b) / size**2)
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}


def inception_score(logits, splits=10, seed=0):
    """Inception score of a classifier's logits (N, C), whose softmax is p(y|x):

        exp( E_x KL( p(y|x) || p(y) ) ),   p(y) = E_x p(y|x)

    (Salimans et al. 2016, arXiv 1606.03498, section 4), between 1 and C: {mean, std} over `splits` equal parts. The
    rows are shuffled by `seed` first: in the order of the classes each part would hold one class."""
    probs = torch.as_tensor(logits, dtype=torch.float64).softmax(dim=1).numpy()
    if len(probs) < splits:
        raise InputError(f"too few images: {len(probs)} for {splits} splits; at least {splits} are needed")
    scores = []
    for part in np.array_split(probs[np.random.default_rng(seed).permutation(len(probs))], splits):
        marginal = part.mean(axis=0, keepdims=True)  # (1, C)
        ratio = np.divide(part, marginal, out=np.ones_like(part), where=part > 0)  # 0 log 0 = 0
        scores.append(np.exp((part * np.log(ratio)).sum(axis=1).mean()))
    return {"mean": float(np.mean(scores)), "std": float(np.std(scores))}


def class_accuracy(predicted, asked, num_classes):
    """Share in [0, 1] of images to which a classifier gives the label that was asked for, and a list of one share for
    each class (None for a class that was never asked for). predicted, asked: (N,) integers."""
    predicted, asked = np.asarray(predicted), np.asarray(asked)
    if predicted.shape != asked.shape or asked.ndim != 1 or not len(asked):
        raise InputError(f"predicted and asked must be equally long, got shapes {predicted.shape} and {asked.shape}")
    right = predicted == asked
    classes = [right[asked == c] for c in range(num_classes)]
    return float(right.mean()), [float(hits.mean()) if len(hits) else None for hits in classes]


def rows(*sets, what="images"):
    """Sets of features as arrays; InputError unless each is (N, D) and finite, and D is the same in all."""
    sets = [np.asarray(features) for features in sets]
    for features in sets:
        if features.ndim != 2 or not np.isfinite(features).all():
            raise InputError(f"features of {what} must be (N, D) and finite, got {features.shape}; check the network")
    if len(widths := {features.shape[1] for features in sets}) > 1:
        raise InputError(f"these features come from different networks: {' and '.join(map(str, sorted(widths)))} wide")
    return sets
