"""Scores of generators whose scores are known: replayed real pictures, pictures under the wrong label."""

import functools
import importlib
import json
import types

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.make import draw_latents, draw_pictures
from gsoc_kd.teachers.black_box import Teacher, black_box
from PIL import Image
from torch import nn

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import CIFAR10_CLASSES, LabelledImages, load_images, to_float
from gsoc_kd.evaluation import metrics
from gsoc_kd.evaluation.classifier import load_judge
from gsoc_kd.evaluation.evaluate import evaluate
from gsoc_kd.evaluation.neighbours import precision_recall
from gsoc_kd.evaluation.reference import compute_reference, judge_scores, load_reference
from gsoc_kd.evaluation.table import cost, floor_row, speed, table

CLASSES = ("red", "green", "blue")
PER_CLASS = 400


class TinyJudge(nn.Module):
    """Features: the mean colour of the four quarters (12 numbers); the class is the brightest channel."""

    classes, feature_width = CLASSES, 12

    def __init__(self, gain=1.0):
        super().__init__()
        self.config = {"gain": gain}
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def features_and_logits(self, x):
        pooled = nn.functional.adaptive_avg_pool2d(x, 2) * self.gain  # (N, 3, 2, 2)
        return pooled.flatten(1), pooled.mean(dim=(2, 3))

    def features(self, x):
        return self.features_and_logits(x)[0]

    def forward(self, x):
        return self.features_and_logits(x)[1]


def coloured(count, seed, source="train", classes=CLASSES):
    """`count` noisy 8x8 pictures of each class, in which its channel is the brightest."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), count)
    images = rng.integers(0, 160, (len(labels), 8, 8, 3))
    images[np.arange(len(labels)), :, :, labels] += 80
    return LabelledImages(images.astype(np.uint8), labels, classes, source)


def replay(data, per_class, seed=1000, z_dim=4, permute=(0, 1, 2)):
    """A black box that answers the latents of (seed, class c) with the pictures of class permute[c]."""
    book = {}
    for c, shown in enumerate(permute):
        pictures = data.images[data.labels == shown]
        for z, picture in zip(draw_latents(seed, c, per_class, z_dim), pictures, strict=True):
            book[c, np.float32(z).tobytes()] = picture
    return Teacher(
        lambda z, y: np.stack([book[int(c), v.numpy().tobytes()] for v, c in zip(z, y)]),
        z_dim=z_dim,
        num_classes=3,
        resolution=8,
        name="replay",
    )


@pytest.fixture(scope="module", autouse=True)
def few_subsets():
    """Three subsets for CIFAR-KID instead of a hundred, to save a minute."""
    few = functools.partial(metrics.kernel_distance, subsets=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsoc_kd.evaluation.reference.kernel_distance", few)
        yield


@pytest.fixture(scope="module")
def judge():
    return TinyJudge()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, judge):
    folder = tmp_path_factory.mktemp("assets")
    compute_reference(coloured(800, 0), coloured(PER_CLASS, 1, "test"), judge, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def reference(folder, judge):
    return load_reference(folder, judge)


# ---------------------------------------------------------------- reference


def test_the_reference_holds_the_statistics_of_the_training_images(folder, reference, judge):
    train = coloured(800, 0)
    found, _ = metrics.features(train.images, judge)
    np.testing.assert_allclose(reference.overall.mean, found.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(reference.overall.cov, np.cov(found, rowvar=False), atol=1e-6)
    np.testing.assert_allclose(reference.per_class[1].mean, found[train.labels == 1].mean(axis=0), atol=1e-6)
    assert [s.count for s in reference.per_class] == [800] * 3 and reference.overall.count == 2400
    assert reference.features.shape == (2400, 12) and reference.features.dtype == np.float16
    assert (reference.classes, reference.split, reference.resolution) == (CLASSES, "train", 8)
    with np.load(folder / "reference.npz") as stored:
        assert {n: stored[n].dtype.name for n in stored} == {
            "mean": "float32",
            "cov": "float32",
            "class_mean": "float32",
            "class_cov": "float32",
            "features": "float16",
        }


def test_the_floor_is_the_score_of_the_test_images(folder, reference, judge):
    about = json.loads((folder / "reference.json").read_text())
    assert about["train"]["images"] == 2400 and about["test"] == {
        "split": "test",
        "images": 1200,
        "per_class": {name: 400 for name in CLASSES},
    }
    test = coloured(PER_CLASS, 1, "test")
    scores = evaluate(replay(test, PER_CLASS), per_class=PER_CLASS, judge=judge, reference=reference, progress=False)
    for key in set(about["floor"]) - {"split", "images"}:
        assert scores[key] == about["floor"][key], key
    assert scores["floor"] == about["floor"] and scores["floor"]["split"] == "test"
    assert floor_row(scores["floor"])["cifar_fd"] == scores["cifar_fd"]


def test_the_reference_is_the_same_every_time(folder, tmp_path, judge):
    compute_reference(coloured(800, 0), coloured(PER_CLASS, 1, "test"), judge, tmp_path, progress=False)
    for name in ("reference.npz", "reference.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_reference_that_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="has no reference.npz and reference.json; `gsoc-kd reference`"):
        load_reference(tmp_path)
    with pytest.raises(InputError, match="made with judge [0-9a-f]{12}, but the judge here is [0-9a-f]{12};"):
        load_reference(folder, TinyJudge(gain=2))
    (tmp_path / "reference.json").write_bytes((folder / "reference.json").read_bytes())
    (tmp_path / "reference.npz").write_bytes((folder / "reference.npz").read_bytes()[:-9])
    with pytest.raises(InputError, match="reference.npz is not the file that reference.json describes"):
        load_reference(tmp_path)
    about = json.loads((folder / "reference.json").read_text())
    del about["floor"]
    (tmp_path / "reference.json").write_text(json.dumps(about))
    (tmp_path / "reference.npz").write_bytes((folder / "reference.npz").read_bytes())
    with pytest.raises(InputError, match="lacks 'floor'"):
        load_reference(tmp_path)


def test_a_reference_of_different_classes_is_refused(tmp_path, judge):
    with pytest.raises(InputError, match="different classes"):
        compute_reference(coloured(20, 0), coloured(20, 1, classes=("a", "b", "c")), judge, tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- evaluate


def test_real_pictures_replayed_are_perfect(judge):
    real = coloured(PER_CLASS, 2)
    scores = evaluate(replay(real, PER_CLASS), real=real, per_class=PER_CLASS, judge=judge, progress=False)
    assert scores["cifar_fd"] < 1e-9 and max(scores["cifar_fd_per_class"].values()) < 1e-9
    assert abs(scores["cifar_kid"]["mean"]) < 1e-3
    assert (scores["cifar_precision"], scores["cifar_recall"]) == (1, 1)
    assert scores["cifar_precision_recall_images"] == 1200 and 1 < scores["cifar_is"]["mean"] < 3
    assert scores["class_agreement"] == 1
    assert scores["class_agreement_per_class"] == {"red": 1.0, "green": 1.0, "blue": 1.0}
    assert (scores["images"], scores["per_class"], scores["seed"]) == (1200, 400, 1000)
    assert scores["reference"] == {"split": "train", "images": 1200}
    assert scores["feature_network"]["name"] == "judge" and len(scores["feature_network"]["hash"]) == 64
    assert scores["floor"] is None  # nothing is left of `real` to hold out
    assert json.loads(json.dumps(scores)) == scores


def test_a_floor_is_held_out_of_real(judge):
    real = coloured(800, 3)
    scores = evaluate(
        replay(coloured(PER_CLASS, 2), PER_CLASS), real=real, per_class=PER_CLASS, judge=judge, progress=False
    )
    floor = scores["floor"]
    assert floor["split"] == "held out of train" and floor["images"] == 1200 and floor["class_agreement"] == 1
    assert 0 < floor["cifar_fd"] < 1e-3 and 0 < scores["cifar_fd"] < 1e-3


def test_pictures_of_the_wrong_class_cost_agreement_and_the_distance_a_class(judge, reference):
    swapped = replay(coloured(PER_CLASS, 2), PER_CLASS, permute=(1, 0, 2))
    scores = evaluate(swapped, per_class=PER_CLASS, judge=judge, reference=reference, progress=False)
    assert scores["class_agreement"] == pytest.approx(1 / 3)
    assert scores["class_agreement_per_class"] == {"red": 0.0, "green": 0.0, "blue": 1.0}
    assert scores["cifar_fd"] < 1e-3  # overall, the swap cannot be seen
    by_class = scores["cifar_fd_per_class"]
    shift = 2 * 4 * (80 / 127.5) ** 2  # two channels in four quarters, each 80 grey levels off
    assert by_class == {
        "red": pytest.approx(shift, rel=0.05),
        "green": pytest.approx(shift, rel=0.05),
        "blue": pytest.approx(0, abs=1e-2),
    }


class TinyGenerator(nn.Module):
    """One linear map from noise and label to 8x8 pixels."""

    def __init__(self, z_dim=6):
        super().__init__()
        self.config = {"z_dim": z_dim}
        self.z_dim, self.num_classes, self.resolution = z_dim, 3, 8
        self.linear = nn.Linear(z_dim + 3, 3 * 8 * 8)

    def forward(self, z, y):
        weights = nn.functional.one_hot(y, 3).to(z.dtype)
        return self.linear(torch.cat([z, weights], dim=1)).view(-1, 3, 8, 8).tanh()


def test_a_network_is_scored_the_same_every_time(judge, reference):
    torch.manual_seed(0)
    network = TinyGenerator()
    options = dict(per_class=PER_CLASS, judge=judge, reference=reference, progress=False)
    first = evaluate(network, **options)
    assert evaluate(network, **options) == first
    assert evaluate(network, batch=64, **options)["cifar_fd"] == pytest.approx(first["cifar_fd"], rel=1e-4)
    assert evaluate(network, seed=1, **options)["cifar_fd"] != first["cifar_fd"]
    with torch.no_grad():  # the same by hand
        pictures = [
            network(torch.from_numpy(draw_latents(1000, c, PER_CLASS, 6)).float(), torch.full((PER_CLASS,), c))
            for c in range(3)
        ]
    x = to_float((torch.cat(pictures) * 127.5 + 127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
    found = metrics.statistics(judge.features(x).detach().numpy())
    assert first["cifar_fd"] == pytest.approx(metrics.frechet_distance(found, reference.overall), rel=1e-4)


def test_classes_the_judge_does_not_know_have_no_agreement(judge):
    real = coloured(PER_CLASS, 2, classes=("a", "b", "c"))
    scores = evaluate(replay(real, PER_CLASS), real=real, per_class=PER_CLASS, judge=judge, progress=False)
    assert [scores[key] for key in ("class_agreement", "class_agreement_per_class", "cifar_is")] == [None] * 3
    assert list(scores["cifar_fd_per_class"]) == ["a", "b", "c"]


def test_the_embedded_judge_and_reference_are_the_default(judge, reference, monkeypatch):
    module = importlib.import_module("gsoc_kd.evaluation.evaluate")
    monkeypatch.setattr(module, "load_judge", lambda: judge)
    monkeypatch.setattr(module, "load_reference", lambda judge=None: reference)
    network = TinyGenerator()
    assert evaluate(network, per_class=PER_CLASS, progress=False) == evaluate(
        network, per_class=PER_CLASS, judge=judge, reference=reference, progress=False
    )


def test_precision_and_recall_use_equally_many_of_each_class(judge, reference):
    found, logits = metrics.features(coloured(PER_CLASS, 5).images, judge)
    scores = judge_scores(reference, found, logits, np.repeat(np.arange(3), PER_CLASS), judge)
    real = reference.features.reshape(3, 800, 12)[:, :PER_CLASS].reshape(1200, 12)
    assert (scores["cifar_precision"], scores["cifar_recall"]) == precision_recall(real, found)
    assert scores["cifar_precision_recall_images"] == 1200 and 0.5 < scores["cifar_recall"] < 1
    found, logits = metrics.features(coloured(1000, 5).images, judge)  # more than the kept 800
    assert (
        judge_scores(reference, found, logits, np.repeat(np.arange(3), 1000), judge)["cifar_precision_recall_images"]
        == 2400
    )


def test_a_generator_without_variety_is_precise_and_recalls_little(judge, reference):
    one = coloured(PER_CLASS, 2)
    narrow = LabelledImages(one.images[np.arange(len(one)) // 100 * 100], one.labels, CLASSES, "narrow")
    options = dict(per_class=PER_CLASS, judge=judge, reference=reference, progress=False)
    scores, full = (evaluate(replay(data, PER_CLASS), **options) for data in (narrow, one))
    assert scores["cifar_recall"] < 0.1 < 0.5 < full["cifar_recall"]


def test_a_teacher_is_agreed_with_pair_by_pair_and_as_a_set(judge, reference):
    torch.manual_seed(0)
    network = TinyGenerator(z_dim=4)
    options = dict(per_class=PER_CLASS, judge=judge, reference=reference, progress=False)
    scores = evaluate(network, teacher=network, **options)
    same = scores["agreement"]
    assert (same["l1"], same["feature_distance"], same["images"], same["seed"]) == (0, 0, 1200, 1000)
    assert same["l1_other_noise"] > 1 and same["feature_distance_other_noise"] > 0.01
    assert scores["cifar_fd_to_teacher"] == scores["cifar_fd_to_teacher_floor"] > 0
    plain = evaluate(network, **options)
    assert {key: scores[key] for key in plain} == plain and len(scores) == len(plain) + 3
    held_out = draw_pictures(black_box(network), PER_CLASS, seed=1001)[0]  # other noise, by hand
    ours = draw_pictures(black_box(network), PER_CLASS, seed=1000)[0]
    target, found = (metrics.statistics(metrics.features(x, judge)[0]) for x in (held_out, ours))
    assert scores["cifar_fd_to_teacher"] == pytest.approx(metrics.frechet_distance(found, target), rel=1e-6)
    other = evaluate(replay(coloured(PER_CLASS, 2), PER_CLASS), teacher=network, **options)
    assert other["agreement"]["l1"] > 10 and other["cifar_fd_to_teacher"] > 100 * other["cifar_fd_to_teacher_floor"]
    assert other["cifar_fd_to_teacher_floor"] == scores["cifar_fd_to_teacher_floor"]
    with pytest.raises(InputError, match="6 and 4 numbers in a latent"):
        evaluate(TinyGenerator(z_dim=6), teacher=network, **options)


def test_copies_of_training_pictures_are_found(judge, tmp_path):
    real, test = coloured(PER_CLASS, 2), coloured(PER_CLASS, 7, "test")
    options = dict(real=real, test=test, per_class=PER_CLASS, judge=judge, progress=False)
    scores = evaluate(replay(real, PER_CLASS), neighbours=tmp_path / "n.png", **options)
    assert scores["nearest_training"]["closer"] == 1 and scores["nearest_training"]["median"] < 1e-6
    assert scores["floor"]["split"] == "test" and scores["floor"]["images"] == 1200
    fresh = evaluate(replay(coloured(PER_CLASS, 8), PER_CLASS), neighbours=tmp_path / "n.png", **options)
    assert fresh["nearest_training"]["closer"] == pytest.approx(0.5, abs=0.1)
    with Image.open(tmp_path / "n.png") as picture:
        assert picture.size == (1 + 7 * 17, 1 + 3 * 17)  # a row a class, 5 neighbours
    held = evaluate(
        replay(coloured(PER_CLASS, 8), PER_CLASS),
        neighbours=tmp_path / "m.png",
        **{**options, "real": coloured(800, 3), "test": None},
    )
    assert held["nearest_training"]["closer"] == pytest.approx(0.5, abs=0.1)
    assert held["floor"]["split"] == "held out of train"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "per_class, message",
    [
        (333, "per_class=333, but 12 features a class, subsets of 1,000 images need at least per_class=334"),
        (True, "per_class=True"),
        (400.0, "per_class=400.0"),
    ],
)
def test_too_few_pictures_are_an_error(judge, reference, per_class, message):
    with pytest.raises(InputError, match=f"too few images: {message}"):
        evaluate(TinyGenerator(), per_class=per_class, judge=judge, reference=reference)


def test_too_few_real_images_are_an_error(judge):
    with pytest.raises(InputError, match="too few images: train has 300 of 'red'; 334 a class are needed"):
        evaluate(TinyGenerator(), real=coloured(300, 0), per_class=PER_CLASS, judge=judge)


def test_classes_and_sizes_must_fit(judge, reference):
    options = dict(per_class=PER_CLASS, judge=judge, reference=reference)
    draw, fields = (lambda z, y: None), dict(z_dim=4, resolution=8)
    with pytest.raises(InputError, match="draws 2 classes .*, but train has 3 classes .*; give real="):
        evaluate(Teacher(draw, num_classes=2, **fields), **options)
    with pytest.raises(InputError, match="'x', 'y', 'z'"):
        evaluate(Teacher(draw, num_classes=3, classes=("x", "y", "z"), **fields), **options)
    with pytest.raises(InputError, match="draws 16 pixels a side, but train has 8; give real=.*size=16"):
        evaluate(Teacher(draw, z_dim=4, num_classes=3, resolution=16), **options)
    with pytest.raises(InputError, match="another judge"):
        evaluate(TinyGenerator(), per_class=PER_CLASS, judge=TinyJudge(gain=2), reference=reference)


def test_a_mosaic_of_the_scored_pictures_is_drawn(judge, reference, tmp_path):
    pytest.importorskip("sklearn", reason="t-SNE is left out")
    options = dict(per_class=PER_CLASS, judge=judge, reference=reference, progress=False)
    generator = TinyGenerator()
    plain = evaluate(generator, **options)
    assert evaluate(generator, mosaic=tmp_path / "map.png", **options) == plain
    side = int(np.ceil(np.sqrt(min(400, plain["images"]))))
    assert Image.open(tmp_path / "map.png").size == (8 * side, 8 * side)


def test_a_mosaic_without_scikit_learn_is_refused_at_once(judge, reference, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        evaluate(TinyGenerator(), mosaic="map.png", per_class=PER_CLASS, judge=judge, reference=reference)


def test_neighbours_and_test_pictures_need_real_ones(judge, reference, tmp_path):
    options = dict(per_class=PER_CLASS, judge=judge)
    with pytest.raises(InputError, match="nearest training neighbours need the real pictures themselves"):
        evaluate(TinyGenerator(), neighbours=tmp_path / "n.png", reference=reference, **options)
    with pytest.raises(InputError, match="need test=, or 800 real images a class"):
        evaluate(TinyGenerator(), real=coloured(700, 0), neighbours=tmp_path / "n.png", **options)
    with pytest.raises(InputError, match="test=... is only used together with real="):
        evaluate(TinyGenerator(), test=coloured(PER_CLASS, 0), reference=reference, **options)
    with pytest.raises(InputError, match="train and test differ in classes or size"):
        evaluate(TinyGenerator(), real=coloured(700, 0), test=coloured(700, 1, "test", ("a", "b", "c")), **options)
    with pytest.raises(InputError, match="test has fewer than 400 images"):
        evaluate(TinyGenerator(), real=coloured(700, 0), test=coloured(300, 1, "test"), **options)
    assert not list(tmp_path.iterdir())


def test_fid_needs_real_images_enough_pictures_and_weights(judge, reference, tmp_path):
    options = dict(judge=judge, inception=tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match="FID needs the real images themselves"):
        evaluate(TinyGenerator(), reference=reference, **options)
    with pytest.raises(InputError, match="2,048 Inception features need at least per_class=683"):
        evaluate(TinyGenerator(), real=coloured(700, 0), per_class=682, **options)
    with pytest.raises(InputError, match="nowhere.pth do not exist"):
        evaluate(TinyGenerator(), real=coloured(700, 0), per_class=700, **options)


def test_fid_and_inception_score(judge, monkeypatch):
    class Stub(TinyJudge):  # stands for Inception, which is too slow for so many pictures
        name, digest, feature_width = "stub", "00", 12

        def __init__(self, weights):
            assert weights == "weights.pth"
            super().__init__(gain=100)  # certain of every picture

    monkeypatch.setattr(importlib.import_module("gsoc_kd.evaluation.evaluate"), "InceptionFeatures", Stub)
    real = coloured(800, 3)
    scores = evaluate(
        replay(coloured(PER_CLASS, 2), PER_CLASS),
        real=real,
        per_class=PER_CLASS,
        judge=judge,
        inception="weights.pth",
        progress=False,
    )
    assert scores["fid"] == pytest.approx(scores["cifar_fd"] * 100**2, rel=1e-3)
    assert scores["inception_score"]["mean"] == pytest.approx(3, rel=0.02)
    assert scores["floor"]["inception_score"]["mean"] == pytest.approx(3, rel=0.02)
    assert scores["floor"]["fid"] == pytest.approx(scores["floor"]["cifar_fd"] * 100**2, rel=1e-3)
    assert scores["inception_network"] == {"name": "stub", "hash": "00"}


# ---------------------------------------------------------------- size, speed, table


def test_cost_counts_parameters_and_multiplications():
    network = TinyGenerator(z_dim=6).train()
    assert cost(network) == {"parameters": 9 * 192 + 192, "macs": 9 * 192} and network.training
    network.conv = nn.Conv2d(3, 6, 3, padding=1, groups=3)
    plain = network.forward
    network.forward = lambda z, y: network.conv(plain(z, y))
    assert cost(network)["macs"] == 9 * 192 + 8 * 8 * 6 * 9  # each output channel reads one input channel
    box = Teacher(lambda z, y: None, z_dim=4, num_classes=3, resolution=8)
    assert cost(box) == {"parameters": None, "macs": None}
    assert cost(Teacher(lambda z, y: None, 4, 3, 8, network=TinyGenerator()))["macs"] == 9 * 192


def test_speed_counts_images_a_second(monkeypatch):
    clock = iter(np.arange(0, 100, 0.5))  # every look at it, half a second later
    module = importlib.import_module("gsoc_kd.evaluation.evaluate")
    monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    shapes = []

    def draw(z, y):
        shapes.append((tuple(z.shape), sorted(set(y.tolist()))))
        return np.zeros((len(z), 8, 8, 3), np.uint8)

    assert speed(Teacher(draw, z_dim=4, num_classes=3, resolution=8), batch=32, seconds=2) == 64
    assert shapes == [((32, 4), [0, 1, 2])] * 5  # a warm-up and four batches of half a second


def test_the_table():
    reference = {"split": "train", "images": 50000}
    rows = [
        {"name": "floor", "cifar_fd": 0.123, "class_agreement": 0.9145, "cifar_recall": 0.788, "images": 10000},
        {
            "name": "teacher",
            "parameters": 20215315,
            "macs": 4.0e9,
            "images_per_second": 25.4,
            "cifar_fd": 3.456,
            "class_agreement": None,
            "images": 10000,
            "reference": reference,
        },
        {"name": "small", "parameters": 999, "macs": 57000, "images_per_second": 4321.0, "cifar_fd": 12},
    ]
    assert table(rows).splitlines() == [
        "| | parameters | MACs an image | images/s | CIFAR-FD | class agreement | CIFAR-recall |",
        "|---|--:|--:|--:|--:|--:|--:|",
        "| floor | – | – | – | 0.12 | 91.5% | 78.8% |",
        "| teacher | 20.2 M | 4 G | 25 | 3.46 | – | – |",
        "| small | 999 | 57 k | 4,321 | 12.00 | – | – |",
        "",
        "CIFAR-FD and CIFAR-recall are measured in the features of this package's own judge and cannot be compared "
        "with published FID or recall; 10,000 images a row, against 50,000 real ones (train).",
    ]
    rows[0]["images"] = 9000
    assert "recall; floor: 9,000 images, teacher: 10,000 images, against" in table(rows)


# ---------------------------------------------------------------- what the package carries


def test_the_embedded_reference_is_of_the_embedded_judge():
    judge, stored = load_judge(), load_reference()
    assert load_reference(judge=judge).judge == stored.judge
    assert stored.classes == CIFAR10_CLASSES and stored.resolution == 32
    assert stored.overall.count == 50000 and [s.count for s in stored.per_class] == [5000] * 10
    assert stored.features.shape == (5000, judge.feature_width) and stored.floor["images"] == 10000
    assert stored.floor["class_agreement"] >= 0.91
    assert stored.floor["cifar_precision_recall_images"] == 5000
    assert 0.5 < stored.floor["cifar_recall"] < 1 and 0.5 < stored.floor["cifar_precision"] < 1
    kept = stored.features.mean(axis=0, dtype=float)  # a tenth of the images, so a few standard errors off
    error = np.sqrt(np.diag(stored.overall.cov) / len(stored.features))
    assert (np.abs(kept - stored.overall.mean) < 6 * error + 1e-3).all()


def test_real_test_images_score_near_the_embedded_floor(real_data):
    judge, stored = load_judge(), load_reference()
    test = load_images(split="test", root=real_data, download=False).take(100)  # a tenth, to be quick
    found, logits = metrics.features(test.images, judge)
    share, _ = metrics.class_agreement(logits.argmax(1), test.labels, 10)
    assert share == pytest.approx(stored.floor["class_agreement"], abs=0.03)
    distance = metrics.frechet_distance(metrics.statistics(found), stored.overall)
    assert stored.floor["cifar_fd"] < distance < 20 * stored.floor["cifar_fd"]  # fewer images
