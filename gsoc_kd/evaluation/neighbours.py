"""Pictures and their nearest neighbours in features: precision and recall, and whether a generator copies
(docs/Evaluation.md).

Like `metrics.py`, the formulas know nothing of networks; here they get the judge's features.
"""

import numpy as np
import torch

from ..core.figures import grid
from ..core.files import InputError
from .features import features
from .metrics import rows


def nearest(queries, points, k=1, chunk=1000):
    """The k nearest of `points` (M, D) to each of `queries` (N, D), by Euclidean distance, in float64.

    Works through `chunk` queries at once, so that memory holds chunk x M distances.

    Returns:
        (distances (N, k) float64, rows of `points` (N, k) int64), nearest first.

    Raises:
        InputError: fewer than k points, or different widths.
    """
    queries, points = _pair(queries, points)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(points):
        raise InputError(f"k must be a whole number from 1 to the {len(points):,} points there are, not {k!r}")
    found = [part.topk(k, dim=1, largest=False) for part in _squared(queries, points, chunk)]
    return (torch.cat([f.values for f in found]).sqrt().numpy(), torch.cat([f.indices for f in found]).numpy())


def precision_recall(real, generated, k=3, chunk=1000):
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, section 2).

    Around each picture of a set stands a ball that reaches to its k-th nearest other picture of the same set.
    Precision is the share of generated pictures that lie in a ball of a real one, recall the share of real
    pictures that lie in a ball of a generated one. Both depend on the counts: use equal ones.

    Args:
        real: features (N, D).
        generated: features (M, D).
        k: neighbours; the paper uses 3.
        chunk: rows at once.

    Returns:
        (precision, recall), each in [0, 1].

    Raises:
        InputError: not more than k pictures in a set, or different widths.
    """
    real, generated = _pair(real, generated)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < min(len(real), len(generated)):
        raise InputError(
            f"too few images: {len(real):,} and {len(generated):,} for k={k!r} neighbours; each "
            "set needs more than k pictures, and k must be at least 1"
        )
    return _covered(generated, real, k, chunk), _covered(real, generated, k, chunk)


def copying(generated, train, others):
    """How near generated pictures are to their nearest training picture, beside real pictures that were not
    in training. All are features: generated (N, D), train (M, D), others (L, D).

    Returns:
        dict: median (of the generated pictures' distances), real_median (of the others'), ratio (of the two)
        and closer, the share of generated pictures nearer to training than half of the others are: 0.5 for
        new real pictures, 1 for copies.
    """
    ours, real = nearest(generated, train)[0], nearest(others, train)[0]
    typical = float(np.median(real))
    return {
        "median": float(np.median(ours)),
        "real_median": typical,
        "ratio": float(np.median(ours)) / typical if typical else None,
        "closer": float((ours < typical).mean()),
    }


def neighbour_grid(pictures, train, judge, k=5, scale=2, seen=None):
    """Each generated picture with its nearest training pictures in the judge's features.

    Args:
        pictures: uint8 (N, H, W, 3).
        train: real images (LabelledImages), or uint8 (M, H, W, 3).
        judge: the network whose features are compared.
        k: neighbours of each.
        scale: enlargement.
        seen: features of `train` (M, D), where they are known already.

    Returns:
        PIL.Image: a row a picture, the generated one left, then (after a gap) its k neighbours, nearest first.
    """
    train = getattr(train, "images", train)
    seen = features(train, judge)[0] if seen is None else seen
    _, near = nearest(features(pictures, judge)[0], seen, k)  # (N, k)
    gap = np.full((len(pictures), 1, *pictures.shape[1:]), 255, np.uint8)
    lines = np.concatenate([pictures[:, None], gap, train[near]], axis=1)  # (N, 2 + k, H, W, 3)
    return grid(lines.reshape(-1, *pictures.shape[1:]), columns=2 + k, scale=scale)


def _covered(queries, points, k, chunk):
    """Share of `queries` that lie in the ball of at least one of `points`."""
    radii = torch.cat([part.kthvalue(k + 1, dim=1).values for part in _squared(points, points, chunk)])  # itself is 1
    inside = [(part <= radii).any(dim=1) for part in _squared(queries, points, chunk)]
    return float(torch.cat(inside).double().mean())


def _pair(a, b):
    a, b = (torch.from_numpy(rows(v, f"{name} images").astype(np.float64)) for v, name in ((a, "first"), (b, "second")))
    if a.shape[1] != b.shape[1]:
        raise InputError(f"these features come from different networks: {a.shape[1]} and {b.shape[1]} wide")
    return a, b


def _squared(queries, points, chunk):
    """Squared distances of `chunk` queries after another to all points: (chunk, M) tensors."""
    lengths = points.square().sum(dim=1)
    for part in queries.split(chunk):
        yield (part.square().sum(dim=1, keepdim=True) + lengths - 2 * part @ points.T).clamp(min=0)
