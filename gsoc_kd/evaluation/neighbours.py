"""Nearest neighbours in features: precision and recall, density and coverage, and whether a generator copies
(docs/Evaluation.md)."""

import numpy as np
import torch

from ..core.checks import whole
from ..core.figures import grid
from ..core.files import InputError
from .classifier import features
from .metrics import rows

CHUNK = 1000  # queries whose distances to all points are in memory at once


def nearest(queries, points, k=1):
    """The k nearest of `points` (M, D) to each of `queries` (N, D): Euclidean distances (N, k) and rows of `points`
    (N, k), in float64 and int64, nearest first. InputError: fewer than k points."""
    queries, points = rows(queries, points)
    k = whole(f"k, with {len(points):,} points,", k, most=len(points))
    found = [part.topk(k, dim=1, largest=False) for part in _distances(queries, points)]
    return torch.cat([f.values for f in found]).numpy(), torch.cat([f.indices for f in found]).numpy()


def precision_recall(real, generated, k=3):
    """(precision, recall) of real (N, D) and generated (M, D) features, each in [0, 1] (Kynkäänniemi et al. 2019, arXiv
    1904.06991, section 2).

    Around each image of a set stands a ball that reaches to its k-th nearest other image of the same set. Precision
    is the share of generated images that lie in a ball of a real one, recall the share of real images that lie in a
    ball of a generated one. Both depend on the counts: use equal ones. InputError: not more than k images in a set."""
    real, generated = _enough(real, generated, k)
    covered = []
    for queries, points in ((generated, real), (real, generated)):
        radii = _radii(points, k)
        covered.append(torch.cat([(part <= radii).any(dim=1) for part in _distances(queries, points)]))
    return tuple(float(inside.double().mean()) for inside in covered)


def density_coverage(real, generated, k=5):
    """(density, coverage) of real (N, D) and generated (M, D) features (Naeem et al. 2020, arXiv 2002.09797).

    Only real images have balls, each reaching to its k-th nearest other real image. Density is the number of balls that
    a generated image lies in, on average, divided by k: about 1 for new real images, more for typical ones. Coverage is
    the share of real images whose ball holds a generated one, in [0, 1]. An outlier among the generated images covers
    nothing, where recall would count all that its wide ball reaches. InputError: not more than k images in a set."""
    real, generated = _enough(real, generated, k)
    radii, balls, covered = _radii(real, k), 0, torch.zeros(len(real), dtype=torch.bool)
    for part in _distances(generated, real):
        inside = part <= radii  # (CHUNK, N)
        balls, covered = balls + int(inside.sum()), covered | inside.any(dim=0)
    return balls / (k * len(generated)), float(covered.double().mean())


def copying(generated, train, others):
    """How near generated images are to their nearest training image, beside real images that were not in training.

    All are features: generated (N, D), train (M, D), others (L, D). Returns a dict: median (of the generated images'
    distances), real_median (of the others'), ratio (of the two) and closer, the share of generated images nearer to
    training than half of the others are: 0.5 for new real images, 1 for copies."""
    ours, real = nearest(generated, train)[0], nearest(others, train)[0]
    median, typical, closer = float(np.median(ours)), float(np.median(real)), float((ours < np.median(real)).mean())
    return {"median": median, "real_median": typical, "ratio": median / typical if typical else None, "closer": closer}


def neighbour_grid(images, train, classifier, k=5, scale=2, seen=None):
    """PIL.Image: each generated image, uint8 (N, H, W, 3), at the left of a row, then after a gap its k nearest of
    `train` (LabelledImages or uint8) in the features of `classifier`; `seen`: those of `train`, where known."""
    train = getattr(train, "images", train)
    seen = features(train, classifier)[0] if seen is None else seen
    _, near = nearest(features(images, classifier)[0], seen, k)  # (N, k)
    gap = np.full((len(images), 1, *images.shape[1:]), 255, np.uint8)
    lines = np.concatenate([images[:, None], gap, train[near]], axis=1)  # (N, 2 + k, H, W, 3)
    return grid(lines.reshape(-1, *images.shape[1:]), columns=2 + k, scale=scale)


def _enough(real, generated, k):
    real, generated = rows(real, generated)
    if whole("k", k) >= min(len(real), len(generated)):
        raise InputError(f"too few images: {len(real):,} and {len(generated):,} for k={k}; each set needs more than k")
    return real, generated


def _radii(points, k):
    """Distance of each point to its k-th nearest other one: a tensor (N,)."""
    return torch.from_numpy(nearest(points, points, k + 1)[0][:, k])  # the nearest of all is the point itself


def _distances(queries, points):
    """Distances of CHUNK queries after another to all points: (CHUNK, M) tensors."""
    queries, points = (torch.tensor(x, dtype=torch.float64) for x in (queries, points))
    return (torch.cdist(part, points) for part in queries.split(CHUNK))
