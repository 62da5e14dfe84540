"""Stage 05: features, statistics, distances, scores, the results table."""

from .agreement import agreement
from .classifier import InceptionFeatures, Judge, accuracy, features, load_judge
from .evaluate import evaluate
from .metrics import Statistics, class_agreement, frechet_distance, inception_score, kernel_distance, statistics
from .neighbours import copying, nearest, neighbour_grid, precision_recall
from .reference import Reference, compute_reference, load_reference
from .table import cost, floor_row, row, speed, table

__all__ = ["InceptionFeatures", "Judge", "accuracy", "features", "load_judge"]
__all__ += ["Statistics", "class_agreement", "frechet_distance", "inception_score", "kernel_distance", "statistics"]
__all__ += ["Reference", "compute_reference", "copying", "load_reference", "nearest", "neighbour_grid"]
__all__ += ["agreement", "cost", "evaluate", "floor_row", "precision_recall", "row", "speed", "table"]
