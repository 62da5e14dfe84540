"""Scores of generators whose scores are known: replayed real images, images under the wrong label."""

import functools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gsoc_kd.core.files import InputError
from gsoc_kd.data.images import CIFAR10_CLASSES, LabelledImages, load_images, to_float
from gsoc_kd.evaluation.classifier import EMBEDDED, accuracy, features, load_judge
from gsoc_kd.evaluation.evaluate import evaluate
from gsoc_kd.evaluation.metrics import frechet_distance, kernel_distance, statistics
from gsoc_kd.evaluation.neighbours import precision_recall
from gsoc_kd.evaluation.reference import compute_reference, judge_scores, load_reference
from gsoc_kd.evaluation.table import cost, floor_row, speed, table
from gsoc_kd.pairs.make import draw_latents, draw_pictures
from gsoc_kd.teachers.black_box import Teacher, black_box

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


def coloured(count, seed, source="train", classes=CLASSES):
    """`count` noisy 8x8 images of each class, in which its channel is the brightest."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), count)
    images = rng.integers(0, 160, (len(labels), 8, 8, 3))
    images[np.arange(len(labels)), :, :, labels] += 80
    return LabelledImages(images.astype(np.uint8), labels, classes, source)


def replay(data, permute=(0, 1, 2)):
    """A black box that is asked for class c and shows the images of class permute[c], each once."""
    shown = [iter(data.images[data.labels == c]) for c in permute]
    return Teacher(lambda z, y: np.stack([next(shown[c]) for c in y.tolist()]), 4, 3, 8, name="replay")


JUDGE, TRAIN, TEST = TinyJudge(), coloured(800, 0), coloured(PER_CLASS, 1, "test")
FEW, OTHER = coloured(700, 0), coloured(700, 1, "test", ("a", "b", "c"))
against = functools.partial(evaluate, per_class=PER_CLASS, judge=JUDGE, progress=False)
score = functools.partial(against, real=TRAIN, test=TEST)


@pytest.fixture(scope="module", autouse=True)
def few_subsets():
    """Three subsets for CIFAR-KID instead of a hundred, to save a minute."""
    few = functools.partial(kernel_distance, subsets=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsoc_kd.evaluation.reference.kernel_distance", few)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    compute_reference(TRAIN, TEST, JUDGE, folder)
    return folder


def test_the_reference_holds_the_statistics_of_the_training_images_every_time_the_same(folder, tmp_path):
    reference, (found, _) = load_reference(folder, JUDGE), features(TRAIN.images, JUDGE)
    np.testing.assert_allclose(reference.overall.mean, found.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(reference.overall.cov, np.cov(found, rowvar=False), atol=1e-6)
    np.testing.assert_allclose(reference.per_class[1].mean, found[TRAIN.labels == 1].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(reference.per_class[2].cov, np.cov(found[TRAIN.labels == 2], rowvar=False), atol=1e-6)
    assert [s.count for s in reference.per_class] == [800] * 3 and reference.overall.count == 2400
    assert reference.features.shape == (2400, 12) and reference.features.dtype == np.float16
    assert (reference.classes, reference.source, reference.resolution) == (CLASSES, "train", 8)
    with np.load(folder / "reference.npz") as stored:
        kinds = {name: stored[name].dtype.name for name in stored}
    assert kinds == dict.fromkeys(["mean", "cov", "class_mean", "class_cov"], "float32") | {"features": "float16"}
    compute_reference(TRAIN, TEST, JUDGE, tmp_path)
    assert all((tmp_path / f.name).read_bytes() == f.read_bytes() for f in folder.iterdir())


def test_the_floor_is_the_score_of_the_test_images(folder):
    scores, floor = score(replay(TEST)), load_reference(folder).floor
    measured = {key: scores[key] for key in floor if key != "split"}
    assert scores["floor"] == floor == {"split": "test", **measured}
    assert floor_row(floor)["cifar_fd"] == scores["cifar_fd"] and floor["images"] == 1200


def test_a_reference_that_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="reference.json is missing"):
        load_reference(tmp_path)
    with pytest.raises(InputError, match="made with judge [0-9a-f]{12}, but the judge here is [0-9a-f]{12};"):
        load_reference(folder, TinyJudge(gain=2))
    with pytest.raises(InputError, match="train and test differ in classes or size"):
        compute_reference(FEW, OTHER, JUDGE, tmp_path)
    assert not list(tmp_path.iterdir())
    about = json.loads((folder / "reference.json").read_text())
    (tmp_path / "reference.json").write_text(json.dumps(about))
    for stored in (None, (folder / "reference.npz").read_bytes()[:-9]):
        if stored:
            (tmp_path / "reference.npz").write_bytes(stored)
        with pytest.raises(InputError, match="reference.npz is not the file that reference.json describes"):
            load_reference(tmp_path)
    del about["floor"]
    (tmp_path / "reference.json").write_text(json.dumps(about))
    (tmp_path / "reference.npz").write_bytes((folder / "reference.npz").read_bytes())
    with pytest.raises(InputError, match="lacks 'floor'; .*compute_reference makes it"):
        load_reference(tmp_path)


def test_real_images_replayed_are_perfect():
    real = coloured(PER_CLASS, 2)
    scores = against(replay(real), real=real)
    assert scores["cifar_fd"] < 1e-9 and max(scores["cifar_fd_per_class"].values()) < 1e-9
    assert abs(scores["cifar_kid"]["mean"]) < 1e-3
    assert (scores["cifar_precision"], scores["cifar_recall"]) == (1, 1)
    assert scores["cifar_precision_recall_images"] == 1200 and 1 < scores["cifar_is"]["mean"] < 3
    assert scores["class_agreement"] == 1 and scores["class_agreement_per_class"] == dict.fromkeys(CLASSES, 1.0)
    assert (scores["images"], scores["per_class"], scores["seed"]) == (1200, 400, 1000)
    assert scores["reference"] == {"split": "train", "images": 1200}
    assert scores["feature_network"]["name"] == "judge" and len(scores["feature_network"]["hash"]) == 64
    assert scores["floor"] is None  # nothing is left of `real` to hold out
    assert json.loads(json.dumps(scores)) == scores
    renamed = replace(real, classes=("a", "b", "c"))  # the classifier does not know these
    unknown = {"class_agreement": None, "class_agreement_per_class": None, "cifar_is": None}
    unknown["cifar_fd_per_class"] = dict(zip("abc", scores["cifar_fd_per_class"].values()))
    assert against(replay(renamed), real=renamed) == scores | unknown


def test_images_of_the_wrong_class_cost_agreement_and_the_distance_of_a_class():
    scores = score(replay(coloured(PER_CLASS, 2), permute=(1, 0, 2)))
    assert scores["class_agreement"] == pytest.approx(1 / 3)
    assert scores["class_agreement_per_class"] == {"red": 0.0, "green": 0.0, "blue": 1.0}
    assert scores["cifar_fd"] < 1e-3  # overall, the swap cannot be seen
    shift = pytest.approx(2 * 4 * (80 / 127.5) ** 2, rel=0.05)  # two channels, four quarters, each 80 grey levels off
    assert scores["cifar_fd_per_class"] == {"red": shift, "green": shift, "blue": pytest.approx(0, abs=1e-2)}


def test_a_network_is_scored_the_same_every_time():
    network = TinyGenerator()
    first = score(network)
    assert score(network) == first
    assert score(network, batch=64)["cifar_fd"] == pytest.approx(first["cifar_fd"], rel=1e-4)
    assert score(network, seed=1)["cifar_fd"] != first["cifar_fd"]
    latents = [torch.from_numpy(draw_latents(1000, c, PER_CLASS, 6)).float() for c in range(3)]
    with torch.no_grad():  # the same by hand
        images = torch.cat([network(z, torch.full((PER_CLASS,), c)) for c, z in enumerate(latents)])
        x = to_float((images * 127.5 + 127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
        found = statistics(JUDGE.features_and_logits(x)[0].numpy())
    real = statistics(features(TRAIN.images, JUDGE)[0])
    assert first["cifar_fd"] == pytest.approx(frechet_distance(found, real), rel=1e-4)


def test_precision_and_recall_use_equally_many_of_each_class(folder):
    reference = load_reference(folder, JUDGE)
    for count, used in ((PER_CLASS, PER_CLASS), (1000, 800)):  # 800 are kept
        found, logits = features(coloured(count, 5).images, JUDGE)
        scores = judge_scores(reference, found, logits, np.repeat(np.arange(3), count), JUDGE)
        real, ours = (x.reshape(3, -1, 12)[:, :used].reshape(-1, 12) for x in (reference.features, found))
        assert (scores["cifar_precision"], scores["cifar_recall"]) == precision_recall(real, ours)
        assert scores["cifar_precision_recall_images"] == 3 * used and 0.5 < scores["cifar_recall"] < 1


def test_a_teacher_is_agreed_with_pair_by_pair_and_as_a_set():
    network = TinyGenerator(z_dim=4)
    scores, plain = score(network, teacher=network), score(network)
    same = scores["agreement"]
    assert (same["l1"], same["feature_distance"], same["images"], same["seed"]) == (0, 0, 1200, 1000)
    assert same["l1_other_noise"] > 1 and same["feature_distance_other_noise"] > 0.01
    assert scores["cifar_fd_to_teacher"] == scores["cifar_fd_to_teacher_floor"] > 0
    assert {key: scores[key] for key in plain} == plain and len(scores) == len(plain) + 3
    drawn = (draw_pictures(black_box(network), PER_CLASS, seed)[0] for seed in (1000, 1001))  # other noise, by hand
    by_hand = frechet_distance(*(statistics(features(images, JUDGE)[0]) for images in drawn))
    assert scores["cifar_fd_to_teacher"] == pytest.approx(by_hand, rel=1e-6)
    other = score(replay(coloured(PER_CLASS, 2)), teacher=network)
    assert other["agreement"]["l1"] > 10 and other["cifar_fd_to_teacher"] > 100 * other["cifar_fd_to_teacher_floor"]
    assert other["cifar_fd_to_teacher_floor"] == scores["cifar_fd_to_teacher_floor"]


def test_copies_of_training_images_are_found(tmp_path):
    png, real, test = tmp_path / "n.png", coloured(PER_CLASS, 2), coloured(PER_CLASS, 7, "test")
    scores = against(replay(real), real=real, test=test, neighbours=png)
    assert scores["nearest_training"]["closer"] == 1 and scores["nearest_training"]["median"] < 1e-6
    assert scores["floor"]["split"] == "test" and scores["floor"]["images"] == 1200
    with Image.open(png) as shown:
        assert shown.size == (1 + 7 * 17, 1 + 3 * 17)  # a row for each class, 5 neighbours
    new = coloured(PER_CLASS, 8)
    fresh = against(replay(new), real=real, test=test, neighbours=png)
    held = against(replay(new), real=coloured(800, 3), neighbours=png)  # without `test`, held out of `real`
    for scores in (fresh, held):
        assert scores["nearest_training"]["closer"] == pytest.approx(0.5, abs=0.1)
    floor = held["floor"]
    assert floor["split"] == "held out of train" and floor["images"] == 1200 and floor["class_agreement"] == 1
    assert 0 < floor["cifar_fd"] < 1e-3 and 0 < held["cifar_fd"] < 1e-3


def test_fid_and_inception_score(monkeypatch):
    class Stub(TinyJudge):  # stands for Inception, which is too slow for so many images
        name, digest, feature_width = "stub", "00", 12

        def __init__(self, weights):
            assert weights == "weights.pth"
            super().__init__(gain=100)  # certain of every image

    monkeypatch.setitem(evaluate.__globals__, "InceptionFeatures", Stub)
    scores = against(replay(coloured(PER_CLASS, 2)), real=coloured(800, 3), inception="weights.pth")
    for one in (scores, scores["floor"]):
        assert one["fid"] == pytest.approx(one["cifar_fd"] * 100**2, rel=1e-3)
        assert one["inception_score"]["mean"] == pytest.approx(3, rel=0.02)
    assert scores["inception_network"] == {"name": "stub", "hash": "00"}


box = functools.partial(Teacher, lambda z, y: None, z_dim=4, num_classes=3, resolution=8)


REFUSED = [
    ("draws 2 classes .*, but train has 3 classes .*; give real=", dict(generator=box(num_classes=2))),
    ("'x', 'y', 'z'", dict(generator=box(classes=("x", "y", "z")))),
    ("draws 16 pixels a side, but train has 8; give real=.*size=16", dict(generator=box(resolution=16))),
    ("333, but 12 features a class, subsets of 1,000 images need at least 334 of each", dict(per_class=333)),
    ("per_class must be a whole number of at least 1, not True", dict(per_class=True)),
    ("per_class must be a whole number of at least 1, not 400.0", dict(per_class=400.0)),
    ("6 and 4 numbers in a latent", dict(teacher=TinyGenerator(z_dim=4))),
    ("nearest training images needs the real images themselves", dict(real=None, judge=None, neighbours="n.png")),
    ("FID needs the real images themselves", dict(real=None, judge=None, inception="nowhere.pth")),
    ("test=... needs the real images themselves", dict(real=None, judge=None, test=FEW)),
    ("train has 300 of 'red', but .* need at least 334 of each", dict(real=coloured(300, 0))),
    ("need test=, or 800 real images a class", dict(real=FEW, neighbours="n.png")),
    ("train and test differ in classes or size", dict(real=FEW, test=OTHER)),
    ("test has fewer than 400 images", dict(real=FEW, test=coloured(300, 1, "test"))),
    ("2,048 Inception features need at least 683", dict(real=FEW, per_class=682, inception="nowhere.pth")),
    ("nowhere.pth is no file of", dict(real=FEW, per_class=700, inception="nowhere.pth")),
    ("scores of different judges cannot be compared", dict(real=None)),
]


@pytest.mark.parametrize("message, options", REFUSED)
def test_what_cannot_be_scored_is_refused(tmp_path, monkeypatch, message, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        against(**{"generator": TinyGenerator(), "real": TRAIN, **options})
    assert not list(tmp_path.iterdir())


def test_cost_counts_parameters_and_multiplications_and_speed_images_a_second():
    network = TinyGenerator(z_dim=6).train()
    assert cost(network) == {"parameters": 9 * 192 + 192, "macs": 9 * 192} and network.training
    network.conv = nn.Conv2d(3, 6, 3, padding=1, groups=3)
    plain = network.forward
    network.forward = lambda z, y: network.conv(plain(z, y))
    assert cost(network)["macs"] == 9 * 192 + 8 * 8 * 6 * 9  # each output channel reads one input channel
    assert cost(box()) == {"parameters": None, "macs": None}
    assert cost(box(network=TinyGenerator()))["macs"] == 9 * 192
    shapes = []

    def draw(z, y):
        shapes.append((tuple(z.shape), sorted(set(y.tolist()))))
        time.sleep(0.01)
        return np.zeros((len(z), 8, 8, 3), np.uint8)

    assert 100 < speed(Teacher(draw, 4, 3, 8), batch=32, seconds=0) < 32 / 0.01
    assert shapes == [((32, 4), [0, 1, 2])] * 4  # a warm-up and three batches


def test_the_table():
    rows = [
        {"name": "floor", "cifar_fd": 0.123, "class_agreement": 0.9145, "cifar_recall": 0.788, "images": 10000},
        {"name": "teacher", "parameters": 20215315, "macs": 4.0e9, "images_per_second": 25.4, "cifar_fd": 3.456},
        {"name": "small", "parameters": 999, "macs": 57000, "images_per_second": 4321.0, "cifar_fd": 12},
    ]
    rows[1] |= {"class_agreement": None, "images": 10000, "reference": {"split": "train", "images": 50000}}
    *shown, _, last = table(rows).splitlines()
    assert shown == [
        "| | parameters | MACs an image | images/s | CIFAR-FD | class agreement | CIFAR-recall |",
        "|---|--:|--:|--:|--:|--:|--:|",
        "| floor | – | – | – | 0.12 | 91.5% | 78.8% |",
        "| teacher | 20.2 M | 4 G | 25 | 3.46 | – | – |",
        "| small | 999 | 57 k | 4,321 | 12.00 | – | – |",
    ]
    assert last.startswith("CIFAR-FD and CIFAR-recall are measured in the features of this package's own judge")
    assert last.endswith("; 10,000 images a row, against 50,000 real ones (train).")
    rows[0]["images"] = 9000
    assert "recall; floor: 9,000 images, teacher: 10,000 images, against" in table(rows)


def test_the_bundled_reference_is_of_the_bundled_classifier_and_both_are_the_default():
    stored = load_reference(judge=load_judge())
    assert stored.classes == CIFAR10_CLASSES and stored.resolution == 32
    assert stored.overall.count == 50000 and [s.count for s in stored.per_class] == [5000] * 10
    assert stored.features.shape == (5000, load_judge().feature_width) and stored.floor["images"] == 10000
    assert stored.floor["class_agreement"] >= 0.91 and stored.floor["cifar_precision_recall_images"] == 5000
    assert 0.5 < stored.floor["cifar_recall"] < 1 and 0.5 < stored.floor["cifar_precision"] < 1
    kept = stored.features.mean(axis=0, dtype=float)  # a tenth of the images, so a few standard errors off
    error = np.sqrt(np.diag(stored.overall.cov) / len(stored.features))
    assert (np.abs(kept - stored.overall.mean) < 6 * error + 1e-3).all()

    def noise(z, y):
        return (z * 40 + 128).clamp(0, 255).to(torch.uint8).view(-1, 32, 32, 3)

    scores = evaluate(Teacher(noise, z_dim=32 * 32 * 3, num_classes=10, resolution=32), per_class=129, progress=False)
    assert scores["feature_network"] == {"name": "judge", "hash": stored.judge} and scores["floor"] == stored.floor
    assert scores["reference"] == {"split": stored.source, "images": 50_000} and scores["images"] == 1290
    assert scores["cifar_fd"] > 10 and scores["cifar_recall"] < 0.1 and scores["class_agreement"] < 0.2


def test_real_test_images_score_as_the_package_says(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path))
    test, judge, stored = load_images(split="test", root=real_data, download=False), load_judge(), load_reference()
    assert len(test) == 10_000 and test.classes == CIFAR10_CLASSES
    said = json.loads((EMBEDDED / "provenance.json").read_text())["scores"]["test_accuracy"]
    assert accuracy(judge, test) >= 0.91 and accuracy(judge, test) == pytest.approx(said, abs=0.001)
    found, _ = features(test.take(100).images, judge)
    distance = frechet_distance(statistics(found), stored.overall)
    assert stored.floor["cifar_fd"] < distance < 20 * stored.floor["cifar_fd"]  # a tenth of the images
