"""The judge: what its numbers mean, how it is trained, how good it is; and no generator trains against it."""

import ast
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import gsoc_kd
from gsoc_kd.core.files import InputError
from gsoc_kd.core.weights import load_network, network_hash
from gsoc_kd.data.images import CIFAR10_CLASSES, LabelledImages, load_images
from gsoc_kd.evaluation import classifier
from gsoc_kd.evaluation.classifier import EMBEDDED, Judge, accuracy, load_judge, shift_and_flip, train_judge

PACKAGE = Path(gsoc_kd.__file__).parent


# ---------------------------------------------------------------- the network


def test_features_and_logits_are_those_of_features_and_forward():
    judge = Judge(num_classes=5, widths=(4, 6, 8)).eval()
    x = torch.randn(3, 3, 32, 32)
    features, logits = judge.features_and_logits(x)
    assert features.shape == (3, judge.feature_width) == (3, 8) and logits.shape == (3, 5)
    assert torch.equal(features, judge.features(x)) and torch.equal(logits, judge(x))
    torch.testing.assert_close(logits, features @ judge.linear.weight.T + judge.linear.bias)
    assert torch.equal(features, judge.blocks(judge.stem(x)).flatten(2).max(2).values)
    assert (features >= 0).all() and features.std() > 0  # the maximum of a sum of rectified maps


def test_a_picture_is_judged_alone():
    judge, x = Judge(3, (4, 6, 8)).eval(), torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(judge(x)[2:3], judge(x[2:3]), atol=1e-5, rtol=1e-5)


def test_accuracy_counts_every_picture_once():
    class Brightness(torch.nn.Module):
        """Says class 1 of bright pictures."""

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            bright = x.mean((1, 2, 3))
            return torch.stack([-bright, bright], 1)

    images = np.full((7, 4, 4, 3), 30, np.uint8)
    images[[1, 2, 6]] = 220
    data = LabelledImages(images, np.array([0, 1, 0, 0, 1, 0, 1]), ("dark", "bright"), "test")
    for batch in (1, 3, 7, 500):  # pictures 2 and 4 are labelled otherwise
        assert accuracy(Brightness(), data, batch) == 5 / 7


# ---------------------------------------------------------------- augmentation


def test_without_shift_a_picture_is_itself_or_its_mirror_image():
    x = torch.randn(64, 3, 5, 6)
    y = shift_and_flip(x, pixels=0)
    same = (y == x).flatten(1).all(1)
    mirrored = (y == x.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all() and 20 <= mirrored.sum() <= 44  # 32 expected, standard deviation 4


def test_every_shift_and_flip_happens_and_nothing_else():
    picture = torch.randn(1, 3, 8, 8)
    padded = torch.nn.functional.pad(picture, (2,) * 4, mode="reflect")
    possible = {}
    for top in range(5):
        for left in range(5):
            window = padded[0, :, top : top + 8, left : left + 8]
            possible[window.numpy().tobytes()] = top, left, False
            possible[window.flip(2).contiguous().numpy().tobytes()] = top, left, True
    assert len(possible) == 50
    y = shift_and_flip(picture.expand(1000, -1, -1, -1))
    seen = {possible[image.contiguous().numpy().tobytes()] for image in y}
    assert len(seen) == 50  # one is missed with a chance of 1e-7


def test_pictures_keep_their_places_in_the_batch():
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 8, 8)
    y = shift_and_flip(x)
    assert torch.equal(y, x) and y.is_contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- training it


def toy(count, source):
    """Noisy 8x8 pictures of two classes, red and blue."""
    rng = np.random.default_rng(len(source))
    labels = np.arange(count) % 2
    images = rng.integers(0, 60, (count, 8, 8, 3))
    images[labels == 0, :, :, 0] += 190
    images[labels == 1, :, :, 2] += 190
    return LabelledImages(images.astype(np.uint8), labels, ("red", "blue"), source)


@pytest.fixture
def toys(monkeypatch):
    sets = {"train": toy(32, "toy train"), "test": toy(64, "toy test")}
    monkeypatch.setattr(classifier, "load_images", lambda split, root: sets[split])
    return sets


def test_training_learns_and_says_how_it_came_about(tmp_path, toys, capsys):
    judge = train_judge(tmp_path / "judge", epochs=50, batch=8, lr=0.05)
    scored = accuracy(judge, toys["test"])
    assert scored > 0.95
    assert accuracy(load_network(tmp_path / "judge", (Judge,)), toys["test"]) == scored
    assert not judge.training and judge.config == {"num_classes": 2, "widths": [32, 64, 128, 128]}
    said = json.loads((tmp_path / "judge" / "provenance.json").read_text())
    assert said["command"] == (
        "gsoc-kd train-judge --epochs 50 --batch 8 --lr 0.05 --weight-decay 0.0005 --label-smoothing 0.1 --seed 0"
    )
    assert said["data"] == "toy train, 32 images; scored on toy test, 64 images"
    assert abs(said["scores"]["test_accuracy"] - scored) <= 1 / 64  # scored before rounding to float16
    assert f"of 64 test images right; written to {tmp_path / 'judge'}" in capsys.readouterr().out


def test_training_is_repeatable_and_follows_its_seed(tmp_path, toys):
    hashes = [
        network_hash(train_judge(tmp_path / str(i), epochs=1, batch=8, seed=seed)) for i, seed in enumerate([3, 3, 4])
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(epochs=0), "epochs must be at least 1"),
        (dict(batch=1), "batch at least 2"),
        (dict(batch=33), "a batch of 33 needs at least as many images, toy train has 32"),
    ],
)
def test_bad_settings_are_refused_before_the_training(tmp_path, toys, changes, message):
    with pytest.raises(InputError, match=message):
        train_judge(tmp_path / "judge", **changes)
    assert not (tmp_path / "judge").exists()


def test_a_bad_place_is_refused_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "load_images", lambda *_, **__: pytest.fail("the training began"))
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds letter.txt, which is no part of a network"):
        train_judge(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


# ---------------------------------------------------------------- the embedded one


def test_the_embedded_judge_is_small():
    judge = load_judge()
    assert sum(p.stat().st_size for p in EMBEDDED.iterdir()) <= 1.5e6
    assert judge.feature_width <= 256 and judge.num_classes == 10 and not judge.training
    assert judge.features(torch.zeros(1, 3, 32, 32)).shape == (1, judge.feature_width)


def test_the_embedded_judge_says_how_it_came_about():
    said = json.loads((EMBEDDED / "provenance.json").read_text())
    assert said["command"].startswith("gsoc-kd train-judge ") and said["seconds"] > 0
    assert "50000 images" in said["data"] and "10000 images" in said["data"]
    assert 0.91 <= said["scores"]["test_accuracy"] <= 1


def test_the_embedded_judge_on_the_real_test_images(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path))
    test = load_images(split="test", root=real_data, download=False)
    assert len(test) == 10_000 and test.classes == CIFAR10_CLASSES
    measured = accuracy(load_judge(), test)
    said = json.loads((EMBEDDED / "provenance.json").read_text())["scores"]["test_accuracy"]
    assert measured >= 0.91 and abs(measured - said) <= 0.001


# ---------------------------------------------------------------- no generator trains against it


@functools.cache
def imported(module):
    """Modules of this package that `module` imports, inside functions too."""
    names = {path.stem for path in PACKAGE.glob("*.py")}
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("gsoc_kd")):
            parts = (node.module or "").removeprefix("gsoc_kd").strip(".").split(".")
            found |= {parts[0]} if parts[0] else {gsoc_kd._HOME.get(a.name, a.name) for a in node.names}
        elif isinstance(node, ast.Import) and any(a.name.split(".")[0] == "gsoc_kd" for a in node.names):
            found |= names  # `import gsoc_kd` reaches every one
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= names
    return found & names


def reached(module):
    seen, new = set(), {module}
    while new:
        seen |= new
        new = set().union(*map(imported, new)) - seen
    return seen - {module}


def test_the_search_for_imports_finds_them():
    assert {"devices", "files", "images", "weights"} <= imported("classifier")
    assert {"classifier", "metrics", "images"} <= reached("evaluate")
    assert "classifier" in reached("demo") and "classifier" in reached("cli")


@pytest.mark.parametrize(
    "module",
    [
        "pretrain",
        "distill",
        "losses",
        "discriminators",
        "features",
        "generators",
        "stylegan2",
        "teachers",
        "runs",
        "pairs",
    ],
)
def test_what_trains_generators_never_meets_the_judge(module):
    """The judge scores; a network trained against its own judge would only learn to please it."""
    assert not reached(module) & {"classifier", "metrics", "evaluate", "reference"}
