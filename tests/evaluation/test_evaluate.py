"""Scores of generators whose scores are known: replayed real images, images under the wrong label."""

import functools
import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gsoc_kd.core.files import InputError, with_checksum
from gsoc_kd.data.images import CIFAR10_CLASSES, LabelledImages, load_images, to_float
from gsoc_kd.evaluation.agreement import agreement
from gsoc_kd.evaluation.classifier import EMBEDDED, accuracy, features, load_classifier
from gsoc_kd.evaluation.evaluate import evaluate
from gsoc_kd.evaluation.metrics import frechet_distance, kernel_distance, statistics
from gsoc_kd.evaluation.neighbours import density_coverage, precision_recall
from gsoc_kd.evaluation.reference import classifier_scores, compute_reference, load_reference
from gsoc_kd.evaluation.table import cost, lower_bound_row, per_class_table, table
from gsoc_kd.pairs.make import draw_latents, generate_images
from gsoc_kd.teachers.black_box import Teacher, black_box

CLASSES = ("red", "green", "blue")
MODULE = sys.modules["gsoc_kd.evaluation.evaluate"]
PER_CLASS = 400


class TinyClassifier(nn.Module):
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


CLASSIFIER, TRAIN, TEST = TinyClassifier(), coloured(800, 0), coloured(PER_CLASS, 1, "test")
FEW, OTHER = coloured(700, 0), coloured(700, 1, "test", ("a", "b", "c"))
against = functools.partial(evaluate, per_class=PER_CLASS, classifier=CLASSIFIER, progress=False)
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
    compute_reference(TRAIN, TEST, CLASSIFIER, folder)
    return folder


def test_the_reference_holds_the_statistics_of_the_training_images_every_time_the_same(folder, tmp_path):
    reference, (found, _) = load_reference(folder, CLASSIFIER), features(TRAIN.images, CLASSIFIER)
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
    compute_reference(TRAIN, TEST, CLASSIFIER, tmp_path)
    assert all((tmp_path / f.name).read_bytes() == f.read_bytes() for f in folder.iterdir())


def test_a_classifier_whose_classes_have_no_names_does_not_count_them_right():
    unnamed = TinyClassifier()
    unnamed.classes = None
    scores = score(replay(TEST), classifier=unnamed)
    assert scores["class_accuracy"] is None and scores["cifar_fd"] == score(replay(TEST))["cifar_fd"]


def test_the_lower_bound_is_the_score_of_the_test_images(folder):
    scores, lower_bound = score(replay(TEST)), load_reference(folder).lower_bound
    measured = {key: scores[key] for key in lower_bound if key != "split"}
    assert scores["lower_bound"] == lower_bound == {"split": "test", **measured}
    assert lower_bound_row(lower_bound)["cifar_fd"] == scores["cifar_fd"] and lower_bound["images"] == 1200


def test_a_reference_that_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="reference.json is missing"):
        load_reference(tmp_path)
    with pytest.raises(InputError, match="made with classifier [0-9a-f]{12}, but the classifier here is [0-9a-f]{12};"):
        load_reference(folder, TinyClassifier(gain=2))
    with pytest.raises(InputError, match="test has the classes .* but train has"):
        compute_reference(FEW, OTHER, CLASSIFIER, tmp_path)
    assert not list(tmp_path.iterdir())
    about = json.loads((folder / "reference.json").read_text())
    (tmp_path / "reference.json").write_text(json.dumps(about))
    for stored in (None, (folder / "reference.npz").read_bytes()[:-9]):
        if stored:
            (tmp_path / "reference.npz").write_bytes(stored)
        with pytest.raises(InputError, match="reference.npz is not the file that reference.json describes"):
            load_reference(tmp_path)
    about["lower_bound"]["cifar_fd"] += 1  # nobody notices by its value
    (tmp_path / "reference.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="reference.json does not fit its checksum"):
        load_reference(tmp_path)
    del about["lower_bound"]
    (tmp_path / "reference.json").write_text(json.dumps(with_checksum(about)))
    (tmp_path / "reference.npz").write_bytes((folder / "reference.npz").read_bytes())
    with pytest.raises(InputError, match="lacks 'lower_bound'; .*compute_reference makes it"):
        load_reference(tmp_path)


def test_real_images_replayed_are_perfect():
    real = coloured(PER_CLASS, 2)
    scores = against(replay(real), real=real)
    assert scores["cifar_fd"] < 1e-9 and max(scores["cifar_fd_per_class"].values()) < 1e-9
    assert abs(scores["cifar_kid"]["mean"]) < 1e-3
    assert (scores["cifar_precision"], scores["cifar_recall"], scores["cifar_coverage"]) == (1, 1, 1)
    assert scores["cifar_fd_mean"] + scores["cifar_fd_cov"] == scores["cifar_fd"] and scores["cifar_density"] > 1
    assert scores["cifar_precision_recall_images"] == 1200 and 1 < scores["cifar_is"]["mean"] < 3
    assert scores["class_accuracy"] == 1 and scores["class_accuracy_per_class"] == dict.fromkeys(CLASSES, 1.0)
    assert (scores["images"], scores["per_class"], scores["seed"]) == (1200, 400, 1000)
    assert scores["reference"] == {"split": "train", "images": 1200}
    assert scores["feature_network"]["name"] == "classifier" and len(scores["feature_network"]["hash"]) == 64
    assert scores["lower_bound"] is None  # nothing is left of `real` to hold out
    assert json.loads(json.dumps(scores)) == scores
    renamed = replace(real, classes=("a", "b", "c"))  # the classifier does not know these
    unknown = {"class_accuracy": None, "class_accuracy_per_class": None, "cifar_is": None}
    unknown["cifar_fd_per_class"] = dict(zip("abc", scores["cifar_fd_per_class"].values()))
    assert against(replay(renamed), real=renamed) == scores | unknown


def test_images_of_the_wrong_class_cost_agreement_and_the_distance_of_a_class():
    scores = score(replay(coloured(PER_CLASS, 2), permute=(1, 0, 2)))
    assert scores["class_accuracy"] == pytest.approx(1 / 3)
    assert scores["class_accuracy_per_class"] == {"red": 0.0, "green": 0.0, "blue": 1.0}
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
        found = statistics(CLASSIFIER.features_and_logits(x)[0].numpy())
    real = statistics(features(TRAIN.images, CLASSIFIER)[0])
    assert first["cifar_fd"] == pytest.approx(frechet_distance(found, real), rel=1e-4)


def test_precision_and_recall_use_equally_many_of_each_class(folder):
    reference = load_reference(folder, CLASSIFIER)
    for count, used in ((PER_CLASS, PER_CLASS), (1000, 800)):  # 800 are kept
        found, logits = features(coloured(count, 5).images, CLASSIFIER)
        scores = classifier_scores(reference, found, logits, np.repeat(np.arange(3), count), CLASSIFIER)
        real, ours = (x.reshape(3, -1, 12)[:, :used].reshape(-1, 12) for x in (reference.features, found))
        assert (scores["cifar_precision"], scores["cifar_recall"]) == precision_recall(real, ours)
        assert (scores["cifar_density"], scores["cifar_coverage"]) == density_coverage(real, ours)
        assert scores["cifar_precision_recall_images"] == 3 * used and 0.5 < scores["cifar_recall"] < 1


def test_a_teacher_is_agreed_with_pair_by_pair_and_as_a_set():
    network = TinyGenerator(z_dim=4)
    scores, plain = score(network, teacher=network), score(network)
    same = scores["agreement"]
    assert (same["l1"], same["feature_distance"], same["images"], same["seed"]) == (0, 0, 1200, 1000)
    assert same["l1_other_noise"] > 1 and same["feature_distance_other_noise"] > 0.01
    assert scores["cifar_fd_to_teacher"] == scores["cifar_fd_to_teacher_lower_bound"] > 0
    assert {key: scores[key] for key in plain} == plain and len(scores) == len(plain) + 5
    parts = scores["cifar_fd_to_teacher_mean"], scores["cifar_fd_to_teacher_cov"]
    assert scores["cifar_fd_to_teacher"] == pytest.approx(sum(parts)) and min(parts) > 0
    drawn = (generate_images(black_box(network), PER_CLASS, seed)[0] for seed in (1000, 1001))  # other noise, by hand
    by_hand = frechet_distance(*(statistics(features(images, CLASSIFIER)[0]) for images in drawn))
    assert scores["cifar_fd_to_teacher"] == pytest.approx(by_hand, rel=1e-6)
    other = score(replay(coloured(PER_CLASS, 2)), teacher=network)
    assert (
        other["agreement"]["l1"] > 10 and other["cifar_fd_to_teacher"] > 100 * other["cifar_fd_to_teacher_lower_bound"]
    )
    assert other["cifar_fd_to_teacher_lower_bound"] == scores["cifar_fd_to_teacher_lower_bound"]


def test_copies_of_training_images_are_found(tmp_path):
    png, real, test = tmp_path / "n.png", coloured(PER_CLASS, 2), coloured(PER_CLASS, 7, "test")
    scores = against(replay(real), real=real, test=test, neighbours=png)
    assert scores["nearest_training"]["closer"] == 1 and scores["nearest_training"]["median"] < 1e-6
    assert scores["lower_bound"]["split"] == "test" and scores["lower_bound"]["images"] == 1200
    with Image.open(png) as shown:
        assert shown.size == (1 + 7 * 17, 1 + 3 * 17)  # a row for each class, 5 neighbours
    new = coloured(PER_CLASS, 8)
    fresh = against(replay(new), real=real, test=test, neighbours=png)
    held = against(replay(new), real=coloured(800, 3), neighbours=png)  # without `test`, held out of `real`
    for scores in (fresh, held):
        assert scores["nearest_training"]["closer"] == pytest.approx(0.5, abs=0.1)
    lower_bound = held["lower_bound"]
    assert (
        lower_bound["split"] == "held out of train"
        and lower_bound["images"] == 1200
        and lower_bound["class_accuracy"] == 1
    )
    assert 0 < lower_bound["cifar_fd"] < 1e-3 and 0 < held["cifar_fd"] < 1e-3


def test_fid_and_inception_score(monkeypatch):
    class Stub(TinyClassifier):  # stands for Inception, which is too slow for so many images
        name, digest, feature_width = "stub", "00", 12

        def __init__(self, weights):
            assert weights == "weights.pth"
            super().__init__(gain=100)  # certain of every image

    monkeypatch.setattr(MODULE, "InceptionFeatures", Stub)
    scores = against(replay(coloured(PER_CLASS, 2)), real=coloured(800, 3), inception="weights.pth")
    for one in (scores, scores["lower_bound"]):
        assert one["fid"] == pytest.approx(one["cifar_fd"] * 100**2, rel=1e-3)
        assert one["inception_score"]["mean"] == pytest.approx(3, rel=0.02)
    assert scores["inception_network"] == {"name": "stub", "hash": "00"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_classes_are_matched_by_name_in_whatever_order_they_come(order):
    names = tuple(CLASSES[c] for c in order)
    shown = replace(replay(coloured(PER_CLASS, 2), order), classes=names)  # label i is the colour names[i]
    plain = score(replace(replay(coloured(PER_CLASS, 2)), classes=CLASSES))
    assert score(shown) == plain and not plain["classes_by_number"] and plain["class_accuracy"] == 1
    labels = np.argsort(order)[TEST.labels]
    turned = score(replay(coloured(PER_CLASS, 2)), test=replace(TEST, labels=labels, classes=names))
    assert turned == plain | {"classes_by_number": True}  # and this generator has no names
    images = coloured(50, 3)
    turned = replace(images, labels=np.argsort(order)[images.labels], classes=names)
    assert accuracy(CLASSIFIER, images) == accuracy(CLASSIFIER, turned) == 1


def test_twelve_folders_that_are_numbers_are_twelve_classes_by_name():
    twelve = tuple(map(str, range(12)))
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(12), 100)
    levels = (labels * 20)[:, None, None, None]
    images = (levels + rng.integers(0, 12, (1200, 8, 8, 3))).astype(np.uint8)
    natural = LabelledImages(images, labels, twelve, "natural")
    lexical = replace(natural, labels=np.argsort(np.argsort(twelve))[labels], classes=tuple(sorted(twelve)))
    shown = (iter(images[labels == c]) for c in range(12))
    shown = list(shown)
    box = Teacher(lambda z, y: np.stack([next(shown[c]) for c in y.tolist()]), 4, 12, 8, twelve)
    scores = evaluate(box, real=lexical, per_class=100, classifier=CLASSIFIER, progress=False)
    assert max(scores["cifar_fd_per_class"].values()) < 1e-6 and not scores["classes_by_number"]
    assert list(scores["cifar_fd_per_class"]) == sorted(twelve)


def test_names_that_are_missing_are_said(capfd):
    bare = score(replay(coloured(PER_CLASS, 2)), progress=True)
    assert bare["classes_by_number"]
    assert "replay: classes without names are taken in this order: red, green, blue\n" in capfd.readouterr().err
    named = replace(replay(coloured(PER_CLASS, 2)), classes=CLASSES)
    assert not score(named, progress=True)["classes_by_number"] and "without names" not in capfd.readouterr().err


def test_the_callers_networks_and_random_state_are_left_as_they_were():
    generator, teacher, classifier = (
        kind().train() for kind in (functools.partial(TinyGenerator, 4),) * 2 + (TinyClassifier,)
    )
    generator.linear.eval()  # a part that is frozen stays frozen
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    score(generator, teacher=teacher, classifier=classifier, test=TEST)
    agreement(generator, teacher, per_class=10, classifier=classifier, progress=False)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert generator.training and not generator.linear.training and classifier.training
    assert teacher.training and teacher.linear.training


class Colours(TinyClassifier):
    """Stands for EfficientNet, which is too slow for so many images."""

    name, digest = "colours", "00"

    def __init__(self):
        super().__init__(gain=10)


def test_imagenet_fd_is_the_distance_in_the_other_space(monkeypatch):
    monkeypatch.setattr(MODULE, "ImageNetFeatures", Colours)
    network = TinyGenerator(z_dim=4)
    scores = against(network, real=coloured(800, 3), imagenet=True, teacher=network)
    for end in ("", "_mean", "_cov", "_to_teacher", "_to_teacher_mean", "_to_teacher_cov", "_to_teacher_lower_bound"):
        assert scores[f"imagenet_fd{end}"] == pytest.approx(scores[f"cifar_fd{end}"] * 10**2, rel=1e-3), end
    assert scores["lower_bound"]["imagenet_fd"] == pytest.approx(scores["lower_bound"]["cifar_fd"] * 10**2, rel=1e-3)
    assert scores["imagenet_network"] == {"name": "colours", "hash": "00"}


def test_cas_learns_from_the_generated_images_and_is_tested_on_the_real_ones(monkeypatch):
    given, network = [], TinyGenerator()
    monkeypatch.setattr(MODULE, "PER_CLASS", 40)
    monkeypatch.setattr(MODULE, "cas", lambda *args, **more: given.append((args, more)) or {"cas": 0.5})
    scores = score(network, cas_epochs=3)
    (train, test, epochs), options = given[0]
    assert (scores["cas"], epochs, test, options) == (0.5, 3, TEST, {"device": None, "progress": False})
    images, labels = generate_images(black_box(network), 40, 1000)
    assert train.images.shape == images.shape and np.array_equal(train.labels, labels) and train.classes == CLASSES


def test_one_teachers_images_are_generated_once_for_its_students():
    teacher, asked = replace(black_box(TinyGenerator(z_dim=4)), classes=CLASSES), []
    counted = replace(teacher, draw=lambda z, y: asked.append(len(y)) or teacher.draw(z, y))
    one, two = TinyGenerator(z_dim=4), TinyGenerator(z_dim=4)
    first, second = (score(network, teacher=counted) for network in (one, two))
    assert sum(asked) == 2 * 1200 and first["cifar_fd_to_teacher"] != second["cifar_fd_to_teacher"]
    assert score(one, teacher=teacher, seed=3)["agreement"]["seed"] == 3  # not what is kept of another seed
    score(one, teacher=counted)
    unknown = replace(counted, digest=None)  # no network of ours: it is asked every time
    assert score(one, teacher=unknown) == first and sum(asked) == 6 * 1200
    score(one, teacher=counted)
    with torch.no_grad():
        teacher.network.linear.bias += 1  # trained on since
    changed = score(one, teacher=counted)
    assert sum(asked) == 8 * 1200 and changed["cifar_fd_to_teacher"] != first["cifar_fd_to_teacher"]
    liar = replace(counted, draw=lambda z, y: teacher.draw(z, (y + 1) % 3))  # the same weights
    assert score(one, teacher=liar)["agreement"] != changed["agreement"]


box = functools.partial(Teacher, lambda z, y: None, z_dim=4, num_classes=3, resolution=8)


REFUSED = [
    ("generates 2 classes .*, but train has 3 classes .*; give real=", dict(generator=box(num_classes=2))),
    ("'x', 'y', 'z'", dict(generator=box(classes=("x", "y", "z")))),
    ("generates 16 pixels a side, but train has 8; give real=.*size=16", dict(generator=box(resolution=16))),
    ("333, but 12 features per class, subsets of 1,000 images need at least 334 of each", dict(per_class=333)),
    ("per_class must be a whole number of at least 1, not True", dict(per_class=True)),
    ("per_class must be a whole number of at least 1, not 400.0", dict(per_class=400.0)),
    ("6 and 4 numbers in a latent", dict(teacher=TinyGenerator(z_dim=4))),
    ("nearest training images needs the real images themselves", dict(real=None, classifier=None, neighbours="n.png")),
    ("FID needs the real images themselves", dict(real=None, classifier=None, inception="nowhere.pth")),
    ("real must be LabelledImages or what load_images takes, not 7", dict(real=7)),
    ("nowhere.zip does not exist", dict(real="nowhere.zip")),
    ("nowhere.zip does not exist", dict(test="nowhere.zip")),
    ("neighbours must name a file, and . is a folder", dict(neighbours=".")),
    ("test=... needs the real images themselves", dict(real=None, classifier=None, test=FEW)),
    ("train has 300 of 'red', but .* need at least 334 of each", dict(real=coloured(300, 0))),
    ("need test=, or 800 real images per class", dict(real=FEW, neighbours="n.png")),
    ("test has the classes .'a', 'b', 'c'., but train has", dict(real=FEW, test=OTHER)),
    ("test and train differ in size, 4 and 8 pixels", dict(test=replace(TEST, images=TEST.images[:, :4, :4]))),
    ("CAS needs real test images: give test=load_images", dict(cas_epochs=1)),
    ("cas_epochs must be a whole number of at least 1, not 0", dict(cas_epochs=0, test=TEST)),
    ("seed must be a whole number of at least 0, not -1", dict(seed=-1)),
    ("batch must be a whole number of at least 1, not 0", dict(batch=0)),
    ("compared pair by pair: classes .'red', .* and .'x', 'y', 'z'.", dict(teacher=box(classes="xyz", z_dim=6))),
    ("test has fewer than 400 images", dict(real=FEW, test=coloured(300, 1, "test"))),
    ("2,048 Inception features need at least 683", dict(real=FEW, per_class=682, inception="nowhere.pth")),
    ("nowhere.pth is no file of", dict(real=FEW, per_class=700, inception="nowhere.pth")),
    ("scores of different classifiers cannot be compared", dict(real=None)),
]


@pytest.mark.parametrize("message, options", REFUSED)
def test_what_cannot_be_scored_is_refused(tmp_path, monkeypatch, message, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        against(**{"generator": TinyGenerator(), "real": TRAIN, **options})
    assert not list(tmp_path.iterdir())


def test_cost_counts_parameters_and_multiplications():
    network = TinyGenerator(z_dim=6).train()
    assert cost(network) == {"parameters": 9 * 192 + 192, "macs": 9 * 192} and network.training
    network.conv = nn.Conv2d(3, 6, 3, padding=1, groups=3)
    plain = network.forward
    network.forward = lambda z, y: network.conv(plain(z, y))
    assert cost(network)["macs"] == 9 * 192 + 8 * 8 * 6 * 9  # each output channel reads one input channel
    assert cost(box()) == {"parameters": None, "macs": None}
    assert cost(box(network=TinyGenerator()))["macs"] == 9 * 192


def test_the_table():
    rows = [
        {"name": "lower bound", "cifar_fd": 0.123, "class_accuracy": 0.9145, "cifar_recall": 0.788, "images": 10000},
        {"name": "teacher", "parameters": 20215315, "macs": 4.0e9, "images_per_second": 25.4, "cifar_fd": 3.456},
        {"name": "small", "parameters": 999, "macs": 57000, "images_per_second": 4321.0, "cifar_fd": 12},
    ]
    rows[1] |= {"class_accuracy": None, "images": 10000, "reference": {"split": "train", "images": 50000}}
    *shown, _, last = table(rows).splitlines()
    assert shown == [
        "| | parameters | MACs an image | images/s | CIFAR-FD | class accuracy | CIFAR-recall |",
        "|---|--:|--:|--:|--:|--:|--:|",
        "| lower bound | – | – | – | 0.12 | 91.5% | 78.8% |",
        "| teacher | 20.2 M | 4 G | 25 | 3.46 | – | – |",
        "| small | 999 | 57 k | 4,321 | 12.00 | – | – |",
    ]
    assert last.startswith("CIFAR-FD and CIFAR-recall are measured in the features of this package's own evaluation cl")
    assert last.endswith("; 10,000 images for each row, against 50,000 real ones (train).")
    rows[0]["images"] = 9000
    assert "recall; lower bound: 9,000 images, teacher: 10,000 images, against" in table(rows)


def test_a_column_that_only_some_tables_have_is_there_where_a_generator_has_the_score():
    lower_bound = {"name": "lower_bound", "cifar_fd": 0.1, "cas": 0.9, "cas_epochs": 8, "cas_images": 50_000}
    student = {"name": "s", "parameters": 9, "macs": 9, "images_per_second": 9, "cifar_fd": 2.0}
    assert "CAS" not in table([lower_bound, student]) and "teacher" not in table([lower_bound, student])
    more = {"cifar_fd_to_teacher": 1.5, "imagenet_fd": 3.25, "cas": 0.75, "cas_epochs": 8, "cas_images": 50_000}
    shown = table([lower_bound, student | more]).splitlines()
    assert shown[0].endswith("| CIFAR-FD | CIFAR-FD to teacher | ImageNet-FD | class accuracy | CAS | CIFAR-recall |")
    assert shown[2].endswith("| 0.10 | – | – | – | 90.0% | – |")
    assert shown[3].endswith("| 2.00 | 1.50 | 3.25 | – | 75.0% | – |")
    assert shown[-1].endswith("; CAS: 8 epochs of 50,000 images.")


def test_each_class_has_the_real_images_value_beside_it():
    real = {"cifar_fd_per_class": {"cat": 0.5, "dog": 0.25}, "class_accuracy_per_class": {"cat": 0.8, "dog": 0.9}}
    one = {"cifar_fd_per_class": {"cat": 4, "dog": 2.5}, "class_accuracy_per_class": {"cat": 0.5, "dog": 0.25}}
    assert per_class_table({"student": one | {"lower_bound": real}}).splitlines() == [
        "| | CIFAR-FD, real test images | CIFAR-FD, student "
        "| class accuracy, real test images | class accuracy, student |",
        "|---|--:|--:|--:|--:|",
        "| cat | 0.50 | 4.00 | 80.0% | 50.0% |",
        "| dog | 0.25 | 2.50 | 90.0% | 25.0% |",
        "| mean | 0.38 | 3.25 | 85.0% | 37.5% |",
    ]
    both = per_class_table(
        {"teacher": {**real, "lower_bound": None}, "student": {**one, "class_accuracy_per_class": None}}
    )
    assert both.splitlines()[0] == "| | CIFAR-FD, teacher | CIFAR-FD, student | class accuracy, teacher |"
    assert per_class_table({"new": {"lower_bound": None}}) == ""


def test_the_bundled_reference_is_of_the_bundled_classifier_and_both_are_the_default():
    stored = load_reference(classifier=load_classifier())
    assert stored.classes == CIFAR10_CLASSES and stored.resolution == 32
    assert stored.overall.count == 50000 and [s.count for s in stored.per_class] == [5000] * 10
    assert stored.features.shape == (5000, load_classifier().feature_width) and stored.lower_bound["images"] == 10000
    assert stored.lower_bound["class_accuracy"] >= 0.91 and stored.lower_bound["cifar_precision_recall_images"] == 5000
    assert 0.5 < stored.lower_bound["cifar_recall"] < 1 and 0.5 < stored.lower_bound["cifar_precision"] < 1
    kept = stored.features.mean(axis=0, dtype=float)  # a tenth of the images, so a few standard errors off
    error = np.sqrt(np.diag(stored.overall.cov) / len(stored.features))
    assert (np.abs(kept - stored.overall.mean) < 6 * error + 1e-3).all()

    def noise(z, y):
        return (z * 40 + 128).clamp(0, 255).to(torch.uint8).view(-1, 32, 32, 3)

    scores = evaluate(Teacher(noise, z_dim=32 * 32 * 3, num_classes=10, resolution=32), per_class=129, progress=False)
    assert scores["feature_network"] == {"name": "classifier", "hash": stored.classifier}
    assert stored.lower_bound["cas"] >= 0.85 and stored.lower_bound["cas_images"] == 50_000
    without_cas = {key: value for key, value in stored.lower_bound.items() if not key.startswith("cas")}
    assert scores["lower_bound"] == without_cas  # CAS was not asked for
    assert scores["reference"] == {"split": stored.source, "images": 50_000} and scores["images"] == 1290
    assert scores["cifar_fd"] > 10 and scores["cifar_recall"] < 0.1 and scores["class_accuracy"] < 0.2


def test_real_test_images_score_as_the_package_says(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path))
    test, classifier, stored = (
        load_images(split="test", root=real_data, download=False),
        load_classifier(),
        load_reference(),
    )
    assert len(test) == 10_000 and test.classes == CIFAR10_CLASSES
    said = json.loads((EMBEDDED / "provenance.json").read_text())["scores"]["test_accuracy"]
    assert accuracy(classifier, test) >= 0.91 and accuracy(classifier, test) == pytest.approx(said, abs=0.001)
    found, _ = features(test.take(100).images, classifier)
    distance = frechet_distance(statistics(found), stored.overall)
    assert stored.lower_bound["cifar_fd"] < distance < 20 * stored.lower_bound["cifar_fd"]  # a tenth of the images
