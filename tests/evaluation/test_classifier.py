"""The evaluation classifier: what its numbers mean, how good it is; and no generator trains against it."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import gsoc_kd
from gsoc_kd.core.weights import network_hash
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.evaluation.classifier import EMBEDDED, Judge, accuracy, judge_on, load_judge

PACKAGE = Path(gsoc_kd.__file__).parent


def test_features_and_logits_are_those_of_features_and_forward():
    judge = Judge(num_classes=5, widths=(4, 6, 8)).eval()
    x = torch.randn(3, 3, 32, 32)
    features, logits = judge.features_and_logits(x)
    assert features.shape == (3, judge.feature_width) == (3, 8) and logits.shape == (3, 5)
    assert torch.equal(features, judge.features(x)) and torch.equal(logits, judge(x))
    torch.testing.assert_close(logits, features @ judge.linear.weight.T + judge.linear.bias)
    assert torch.equal(features, judge.blocks(judge.stem(x)).flatten(2).max(2).values)
    assert (features >= 0).all() and features.std() > 0  # the maximum of a sum of rectified maps
    torch.testing.assert_close(logits[2:3], judge(x[2:3]), atol=1e-5, rtol=1e-5)  # an image is judged alone


class Brightness(torch.nn.Module):
    """Feature: the mean of all pixels. Says class 1 of bright images."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def features(self, x):
        return x.mean((1, 2, 3))[:, None]

    def forward(self, x):
        return torch.cat([-self.features(x), self.features(x)], 1)


def test_accuracy_counts_every_image_once():
    images = np.full((7, 4, 4, 3), 30, np.uint8)
    images[[1, 2, 6]] = 220
    data = LabelledImages(images, np.array([0, 1, 0, 0, 1, 0, 1]), ("dark", "bright"), "test")
    assert accuracy(Brightness(), data) == 5 / 7  # images 2 and 4 are labelled otherwise


def test_the_bundled_classifier_is_small_says_how_it_came_about_and_is_copied_to_score():
    judge, said = load_judge(), json.loads((EMBEDDED / "provenance.json").read_text())
    assert sum(p.stat().st_size for p in EMBEDDED.iterdir()) <= 1.5e6
    assert judge.feature_width <= 256 and judge.num_classes == 10 and not judge.training
    assert judge.features(torch.zeros(1, 3, 32, 32)).shape == (1, judge.feature_width)
    assert said["command"] and said["seconds"] > 0 and 0.91 <= said["scores"]["test_accuracy"] <= 1
    assert "50000 images" in said["data"] and "10000 images" in said["data"]
    assert judge_on("cpu") is not load_judge() and network_hash(judge_on("cpu")) == network_hash(judge)
    assert judge_on("cpu", Judge(num_classes=3)).num_classes == 3


@pytest.mark.parametrize("stage", ["core", "data", "networks", "teachers", "pairs", "training"])
def test_what_trains_generators_never_meets_the_classifier(stage):
    """It scores; a network trained against its own judge would only learn to please it. Imports go down only."""
    for path in (PACKAGE / stage).glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        lines = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        own = [line for line in lines if line.startswith("from .") or "gsoc_kd" in line]
        higher = ("evaluation", "deployment", "explorer", "from .. import", "import gsoc_kd", "from gsoc_kd import")
        assert not [line for line in own if any(word in line for word in higher)], path
