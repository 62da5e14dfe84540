"""Stage 05: features, statistics, distances, scores, the results table."""

from .agreement import agreement
from .cas import cas, train_classifier
from .classifier import Classifier, InceptionFeatures, accuracy, features, load_classifier
from .evaluate import evaluate
from .imagenet import ImageNetFeatures, compute_imagenet_reference, load_imagenet_reference
from .metrics import Statistics, class_accuracy, frechet_distance, inception_score, kernel_distance, statistics
from .neighbours import copying, density_coverage, nearest, neighbour_grid, precision_recall
from .reference import Reference, compute_reference, load_reference
from .table import cost, lower_bound_row, per_class_table, row, rows, table
from .timing import speed, speeds

__all__ = ["InceptionFeatures", "Classifier", "accuracy", "features", "load_classifier"]
__all__ += ["Statistics", "class_accuracy", "frechet_distance", "inception_score", "kernel_distance", "statistics"]
__all__ += ["Reference", "compute_reference", "copying", "load_reference", "nearest", "neighbour_grid"]
__all__ += ["agreement", "cost", "evaluate", "lower_bound_row", "precision_recall", "row", "rows", "speed"]
__all__ += ["speeds", "table", "cas", "density_coverage", "per_class_table", "train_classifier"]
__all__ += ["ImageNetFeatures", "compute_imagenet_reference", "load_imagenet_reference"]
