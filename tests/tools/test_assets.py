"""tools/assets.py: what the package carries is scored as it will be loaded, pages state it, the classifier learns."""

import sys
import types

import assets
import numpy as np
import pytest
import torch
from PIL import Image

from gsoc_kd.core.figures import side_by_side
from gsoc_kd.core.files import InputError, read_json, write_json
from gsoc_kd.core.weights import load_network, network_hash, save_network
from gsoc_kd.data.images import LabelledImages
from gsoc_kd.evaluation import Classifier, accuracy
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.pairs import draw_latents
from gsoc_kd.teachers import load_student, load_teacher

PAGE = "before\n<!-- {0}: made by a command -->\n{1}\n<!-- end of {0} -->\nafter\n"


def tiny(seed):
    torch.manual_seed(seed)
    return ConvGenerator(z_dim=6, num_classes=4, widths=(8, 8, 4, 4), embed_dim=3).eval()


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """What was scored, with made-up scores, in an empty folder where the package's networks lie in assets/."""
    given = []

    def evaluate(generator, **options):
        given.append(network_hash(getattr(generator, "network", generator)))
        classes = dict(zip("abcdefghij", [5.0, 1.0, 9.0, 2.0]))
        scores = {"cifar_fd": 12.25, "class_accuracy": 0.5, "images": 10_000, "cifar_fd_per_class": classes}
        return scores | {"lower_bound": {"images": 10_000, "cifar_fd_per_class": classes}}

    for module in (sys.modules["gsoc_kd.evaluation.publish"], assets):
        monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "ASSETS", tmp_path / "assets")
    return given


def test_a_network_is_embedded_rounded_and_scored_as_it_will_be_loaded(scored, tmp_path):
    save_network(tiny(0), tmp_path / "run" / "generator", {"command": "gsoc-kd distill"})
    for name, given in (("teacher", "run"), ("student", "run/generator")):
        assets.embed(tmp_path / given, name)
        loaded, told = (
            load_student(tmp_path / "assets" / name),
            read_json(tmp_path / "assets" / name / "provenance.json"),
        )
        assert scored.pop() == told["hash"] == network_hash(loaded) == network_hash(tiny(0).half().float())
        assert told["command"] == "gsoc-kd distill" and told["scores"]["cifar_fd"] == 12.25


def test_results_replace_the_block_of_each_page_and_nothing_else(scored, tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "rows", lambda some, found: [{"name": name, **found[name]} for name in some])
    for seed, name in enumerate(("teacher", "student")):
        save_network(tiny(seed), tmp_path / "assets" / name)
    pages = tmp_path / "README.md", tmp_path / "docs" / "Results.md"
    pages[1].parent.mkdir()
    pages[0].write_text(PAGE.format("results", "old"))
    with pytest.raises(InputError, match="Results.md has no block between"):
        assets.results()
    assert not scored
    pages[1].write_text(PAGE.format("results", "older"))
    with pytest.raises(InputError, match="Results.md has no block between <!-- per class"):
        assets.results()
    pages[1].write_text(PAGE.format("results", "older") + PAGE.format("per class", "old"))
    assets.results(cas=False)
    text = pages[0].read_text().split("-->\n")[1].removesuffix("\n<!-- end of results ")
    assert "| bundled teacher |" in text and "`python tools/assets.py results`" in text and text.count("50.0%") == 2
    second = pages[1].read_text()
    assert pages[0].read_text() == PAGE.format("results", text) and second.startswith(pages[0].read_text())
    assert "| c | 9.00 | 9.00 | 9.00 |" in second and "Worst of the student: c. " in second
    shown = [load_teacher(tiny(seed))(draw_latents(7, 0, 20, 6), torch.arange(20) % 4) for seed in (0, 1)]
    image = Image.open(tmp_path / "docs" / "teacher-and-student.png").convert("RGB")
    assert image == side_by_side(*shown, columns=10, scale=3, titles="abcd")
    shown = [load_teacher(tiny(seed))(draw_latents(7, 0, 40, 6), torch.full((40,), 2)) for seed in (0, 1)]
    image = Image.open(tmp_path / "docs" / "worst-class.png").convert("RGB")
    assert image == side_by_side(*shown, columns=10, scale=3)


def test_calibration_goes_into_its_file_and_its_page(tmp_path, monkeypatch):
    page, file = tmp_path / "page.md", tmp_path / "calibration.json"
    measured = types.SimpleNamespace(calibrate=lambda *real, **asked: [*real, asked], table=str, TABLE=file)
    monkeypatch.setattr(assets, "load_images", lambda split="train": split)
    monkeypatch.setattr(assets, "calibration", measured)
    page.write_text(PAGE.format("calibration", "old"))
    assets.calibrate(draws=2, page=page)
    result = ["train", "test", {"draws": 2, "images": 300, "seed": 2000}]
    assert read_json(file) == result and page.read_text() == PAGE.format("calibration", result)


@pytest.fixture
def toys(monkeypatch):
    """Noisy 8x8 images of two classes, red and blue."""
    sets, rng = {}, np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 64)):
        images, labels = rng.integers(0, 60, (count, 8, 8, 3)), np.arange(count) % 2
        images[np.arange(count), :, :, 2 * labels] += 190
        sets[split] = LabelledImages(images.astype(np.uint8), labels, ("red", "blue"), f"toy {split}")
    monkeypatch.setattr(assets, "load_images", lambda split="train": sets[split])
    return sets


def test_the_classifier_learns_repeatably_and_says_how_it_came_about(tmp_path, toys):
    classifier = assets.classifier(tmp_path / "classifier", epochs=50, batch=8, lr=0.05)
    right = accuracy(classifier, toys["test"])
    assert right > 0.95 and network_hash(load_network(tmp_path / "classifier", (Classifier,))) == network_hash(
        classifier
    )
    said = read_json(tmp_path / "classifier" / "provenance.json")
    assert said["command"].startswith(
        "python tools/assets.py classifier --epochs 50 --batch 8 --lr 0.05 --weight-decay 0.0"
    )
    assert said["data"] == "toy train, 32 images; scored on toy test, 64 images"
    assert abs(said["scores"]["test_accuracy"] - right) <= 1 / 64  # scored before rounding to float16
    one, again, other = (assets.classifier(tmp_path / f"{i}", 1, 8, seed=seed) for i, seed in enumerate((3, 3, 4)))
    assert network_hash(one) == network_hash(again) != network_hash(other)


def test_training_the_classifier_refuses_before_it_begins(tmp_path, toys):
    (tmp_path / "0").touch()
    refused = ({"epochs": 0}, "epochs must be .* at least 1"), ({"batch": 33}, "batch must be .* 2 to 32, not 33")
    for changes, message in (*refused, ({"out": tmp_path}, "holds 0, which is no part of a network")):
        with pytest.raises(InputError, match=message):
            assets.classifier(**{"out": tmp_path / "classifier", **changes})
    assert not (tmp_path / "classifier").exists()


def test_the_cas_of_real_training_images_is_noted_with_the_lower_bound(tmp_path, toys):
    about = {"lower_bound": {"cifar_fd": 0.5, "cas": 0.1}, "sha256": "00"}
    write_json(tmp_path / "reference.json", about)
    assets.cas(epochs=1, folder=tmp_path)
    told = read_json(tmp_path / "reference.json")
    counts = {"cas_epochs": 1, "cas_images": 32, "cas_test_images": 64}
    assert {name: told["lower_bound"][name] for name in counts} == counts and told["sha256"] == "00"
    assert (
        told["lower_bound"]["cifar_fd"] == 0.5
        and told["lower_bound"]["cas"] >= 0.4
        and len(told["lower_bound"]["cas_per_class"]) == 2
    )
