"""Networks go to the Hugging Face Hub and come back, through a stand-in for it on this machine (stand_in_hub.py)."""

import io
import json
import re
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from stand_in_hub import TOKEN, hub

from gsoc_kd import load_student, load_teacher, push
from gsoc_kd.cli import main
from gsoc_kd.core.files import ASSETS, InputError, with_checksum
from gsoc_kd.core.weights import network_hash, save_network
from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.deployment.push import model_card
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.pairs.make import generate_images
from gsoc_kd.training.runs import Run

SCORES = {"images": 1234, "cifar_fd": 5.25, "class_accuracy": 0.5, "cifar_recall": 0.25, "lower_bound": None,
          "reference": {"split": "mine", "images": 99}}  # fmt: skip


def tiny(num_classes=3):
    torch.manual_seed(0)
    return ConvGenerator(6, num_classes, 8, (8, 4), 4).eval()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A stand-in for the Hub, with an empty cache and a token that it knows."""
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in has the older way only
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def run(tmp_path):
    told = {"classes": ["cat", "dog", "frog"], "data": "mine", "command": "gsoc-kd distill", "scores": SCORES}
    save_network(tiny(), tmp_path / "run" / "generator", told)
    return Run(tiny(), tmp_path / "run", [])


def refused(message, call, *arguments, **more):
    with pytest.raises(InputError, match=message) as error:
        call(*arguments, **more)
    assert "\n" not in str(error.value)


def test_a_pushed_run_comes_back_as_it_was_and_with_a_card_that_works(server, run, capsys):
    assert push(run, "bob/tiny", license="CC0-1.0") == f"{server.address}/bob/tiny"
    files = server.repositories["bob/tiny"]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors", "provenance.json", "samples.png"]
    student, teacher = load_student("bob/tiny"), load_teacher("bob/tiny", device="cpu")
    assert network_hash(student) == network_hash(tiny()) == teacher.digest
    assert (teacher.name, teacher.classes) == ("bob/tiny", ("cat", "dog", "frog")) == (teacher.name, student.classes)
    assert "bob/tiny: from the Hugging Face Hub, commit " in capsys.readouterr().err
    with Image.open(io.BytesIO(files["samples.png"])) as image:
        assert image.width > 10 * 8 and image.height > 3 * 8
    assert json.loads(files["provenance.json"])["scores"] == SCORES
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: cc0-1.0\nlibrary_name: gsoc-kd\n") and "{" not in card
    for told in ("(samples.png)", "5.25", "1,234 images", "99 real ones (mine)", "CC0-1.0", "cat, dog, frog", "N(0, 1)",
                 "* data: `mine`"):  # fmt: skip
        assert told in card, told
    code = re.search("```python\n(.*?)```", card, re.S)[1].split("kd.explore")[0]
    exec(code, names := {})
    assert np.array_equal(names["images"], generate_images(teacher, 8, 0)[0])


def test_what_was_had_once_is_had_offline_and_other_things_are_not(server, run, monkeypatch):
    push(run, "bob/tiny")
    load_student("bob/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert network_hash(load_student("bob/tiny")) == network_hash(tiny())
    offline = "does not exist here, and the Hugging Face Hub cannot be reached .*: connect to the internet, or name a"
    refused("bob/other " + offline, load_student, "bob/other")
    refused("bob/tiny was not uploaded: the Hugging Face Hub cannot be reached", push, run, "bob/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(r"cannot be reached \(HF_HUB_OFFLINE is set\)", load_teacher, "bob/other")


def test_a_local_path_wins_and_the_hub_is_not_asked(server, run, tmp_path):
    push(run, "bob/tiny")
    other = tiny(num_classes=2)
    save_network(other, tmp_path / "bob" / "tiny")
    server.asked.clear()
    assert network_hash(load_student("bob/tiny")) == network_hash(other)
    (tmp_path / "bob" / "empty").mkdir()
    refused("bob/empty is not the folder of a network", load_student, "bob/empty")
    assert server.asked == []
    assert network_hash(load_student("bob/tiny@main")) == network_hash(tiny())  # a path has no revisions


@pytest.mark.parametrize("change", [dict(colour=3), dict(**{"class": "Mystery"}), dict(z_from="lottery")])
def test_a_foreign_config_is_refused_as_from_a_folder(server, run, change):
    push(run, "bob/tiny")
    files = server.repositories["bob/tiny"]
    files["config.json"] = json.dumps(with_checksum(json.loads(files["config.json"]) | change)).encode()
    refused("config.json.*(colour|Mystery|lottery)", load_student, "bob/tiny")
    del files["config.json"]
    refused("bob/tiny is not the folder of a network: config.json missing", load_student, "bob/tiny")


def test_what_the_hub_refuses_is_one_line(server, run, monkeypatch):
    push(run, "bob/tiny", private=True)
    assert server.private["bob/tiny"]
    refused("bob/none does not exist here, .* has none of that name that you may read", load_student, "bob/none")
    refused("has no such revision", load_student, "bob/tiny@v2")
    refused("names", load_student, "bob/tiny..x")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("has none of that name that you may read", load_student, "bob/tiny")
    refused("not uploaded: the Hugging Face Hub does not know who you are: log in", push, run, "bob/tiny")


def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(server, run, tmp_path):
    for given, message in (
        (("tiny",), "named owner/name, not 'tiny'"),
        (("bob/tiny@main",), "named owner/name"),
        (("bob/tiny", "my own words"), "short name such as apache-2.0"),
        (("bob/tiny", None, {"cifar_fd": 3}), "with the count of images"),
        (("bob/tiny", None, tmp_path / "no.json"), "no.json is missing"),
    ):
        refused(message, push, run, *given)
    refused("nowhere does not exist", push, tmp_path / "nowhere", "bob/tiny")
    refused("not int", push, 3, "bob/tiny")
    assert server.asked == [] and server.repositories == {}


def test_the_verb_uploads_and_a_second_time_makes_a_new_commit(server, run, tmp_path, capsys):
    (tmp_path / "s.json").write_text(json.dumps(SCORES | {"images": 77}))
    words = ["push", "--student", str(run.folder), "--name", "bob/tiny"]
    assert main(words) == 0 and main([*words, "--scores", "s.json"]) == 0
    assert capsys.readouterr().out == 2 * f"uploaded: {server.address}/bob/tiny\n"
    assert "77 images" in server.repositories["bob/tiny"]["README.md"].decode()
    assert main(["push", "--name", "tiny"]) == 2
    assert capsys.readouterr().err.startswith("gsoc-kd: error: a place on the Hugging Face Hub")


def test_a_bare_network_can_be_pushed(server):
    push(network := tiny(), "bob/bare")
    assert network_hash(load_student("bob/bare")) == network_hash(network)


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_classes_may_be_any_sequence(server, monkeypatch, kind):
    network, scored = ConvGenerator(8, 10, 32, (8, 8, 8, 4), 4).eval(), []
    network.classes = kind(CIFAR10_CLASSES)
    monkeypatch.setattr(sys.modules["gsoc_kd.deployment.push"], "evaluate", lambda one: scored.append(one) or None)
    push(network, f"bob/{kind.__name__}")
    assert scored == [network] and load_student(f"bob/{kind.__name__}").classes == CIFAR10_CLASSES


def test_half_precision_and_the_distribution_of_latents_survive(server, tmp_path):
    network = tiny()
    network.z_from = "uniform"
    save_network(network, tmp_path / "half", {"scores": SCORES}, torch.float16)
    push(tmp_path / "half", "bob/half")
    stored = (tmp_path / "half" / "model.safetensors").read_bytes()
    assert server.repositories["bob/half"]["model.safetensors"] == stored
    assert load_student("bob/half").z_from == load_teacher("bob/half", device="cpu").z_from == "uniform"
    assert "the interval [0, 1)" in server.repositories["bob/half"]["README.md"].decode()


def test_a_card_claims_no_license_that_it_does_not_know():
    bundled = json.loads((ASSETS / "teacher" / "provenance.json").read_text())["hash"]
    for told, given, header, words in (
        ({}, None, "---\nlibrary_name", "has not stated one"),
        ({"teacher": "0" * 64}, None, "---\nlibrary_name", "has not stated one"),
        ({"teacher": bundled}, None, "---\nlicense: apache-2.0\n", "Apache License 2.0"),
        ({"licence": "Nvidia, not commercially"}, None, "---\nlicense: other\n", "Nvidia, not commercially."),
        ({"teacher": bundled}, "MIT", "---\nlicense: mit\n", "MIT, as its author states"),
    ):
        card = model_card(tiny(), "bob/tiny", told, None, given)
        assert card.startswith(header) and words in card and "Not scored." in card
