"""Stage 05: features, statistics, distances, scores, the results table."""

from .agreement import agreement
from .classifier import load_judge
from .evaluate import evaluate
from .features import InceptionFeatures, features
from .metrics import Statistics, class_agreement, frechet_distance, inception_score, kernel_distance, statistics
from .neighbours import copying, nearest, neighbour_grid, precision_recall
from .reference import compute_reference, load_reference
from .table import cost, floor_row, row, speed, table

__all__ = [
    "InceptionFeatures",
    "Statistics",
    "agreement",
    "class_agreement",
    "compute_reference",
    "copying",
    "cost",
    "evaluate",
    "features",
    "floor_row",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "load_judge",
    "load_reference",
    "nearest",
    "neighbour_grid",
    "precision_recall",
    "row",
    "speed",
    "statistics",
    "table",
]
