"""Every verb as a command, in this process: flags, results, and one line for bad input."""

import functools
import importlib
import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.make import draw_latents
from stylegan2_official import official_bytes
from PIL import Image

import gsoc_kd as kd
from gsoc_kd.cli import VERBS, main, publish_teacher, score_every
from gsoc_kd.core.files import read_json
from gsoc_kd.core.weights import load_network, save_network
from gsoc_kd.data.images import CIFAR10_CLASSES, LabelledImages, to_uint8
from gsoc_kd.networks.conv import ConvGenerator

FLAGS = {  # some flags that each verb must explain
    "demo": ["--out", "--per-class", "--preset", "--kimg"],
    "pairs": ["--teacher", "--psi", "--half", "--per-class", "--seed", "--out", "--chunk", "--device"],
    "distill": ["--pairs", "--preset", "--out", "--real", "--batch", "--kimg", "--pixel-weight", "--device"],
    "pretrain": [
        "--real",
        "--size",
        "--preset",
        "--out",
        "--batch",
        "--kimg",
        "--minutes",
        "--score-ticks",
        "--architecture",
        "--disc",
        "--no-publish",
    ],
    "evaluate": [
        "--generator",
        "--real",
        "--per-class",
        "--seed",
        "--inception",
        "--teacher",
        "--neighbours",
        "--test",
        "--mosaic",
        "--out",
    ],
    "export": ["--student", "--path", "--precision", "--seed"],
    "convert": ["--source", "--out"],
    "train-judge": ["--out", "--epochs", "--seed"],
    "reference": ["--train", "--test", "--judge", "--folder"],
    "embed": ["--run", "--name"],
    "results": ["--pages"],
    "calibrate": ["--train", "--test", "--draws", "--images", "--seed", "--teacher", "--student", "--judge", "--out"],
}
TINY = dict(z_dim=8, num_classes=3, resolution=16, widths=(8, 8, 8), embed_dim=4)


@pytest.fixture
def run(capsys):
    """run(*words) -> (exit code, stdout, stderr)."""

    def command(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def teacher(tmp_path):
    """A folder with a tiny random teacher: three classes, 16 pixels."""
    torch.manual_seed(0)
    save_network(ConvGenerator(**TINY), tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.fixture
def pairs(run, teacher, tmp_path):
    """A folder with 12 pairs of that teacher, made by the command."""
    run("pairs", "--teacher", teacher, "--per-class", 4, "--out", tmp_path / "pairs")
    return tmp_path / "pairs"


def refused(result, *told):
    """The command ended with 2, wrote nothing to stdout and one line to stderr, which says all of `told`."""
    code, out, err = result
    assert (code, out) == (2, "") and err.startswith("gsoc-kd: error: ") and err.count("\n") == 1, result
    assert [word for word in told if str(word) not in err] == [], err


def test_every_public_name_is_there_whatever_is_imported_first():
    for name in ("distill", "pretrain", "evaluate", "explore"):
        assert isinstance(importlib.import_module(f"gsoc_kd.{name}"), types.ModuleType)
    values = [getattr(kd, name) for name in kd.__all__]
    assert all(callable(value) for value in values) and set(kd.__all__) <= set(dir(kd))
    assert kd.distill.__module__ == "gsoc_kd.training.distill"
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        kd.distil


def test_help_lists_the_verbs_without_loading_torch():
    code = "import sys; from gsoc_kd.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb, (_, _, told) in VERBS.items():
        assert any(line.split()[:1] == [verb] and told in line for line in done.stdout.splitlines())


def test_version(run):
    assert run("--version") == (0, f"gsoc-kd {kd.__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_names_its_flags(run, verb):
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "")
    assert [flag for flag in FLAGS[verb] if not re.search(f"{flag}[ ,]", out)] == []


def test_help_shows_the_presets_own_defaults(run):
    def default(field, *words):
        out = " ".join(run("distill", *words, "--help")[1].replace("│", " ").split())
        return out.split(f"--{field} ")[1].split("(default: ")[1].split(")")[0]

    assert default("batch", "--preset", "distylegan-2022") == "128"
    assert default("batch") == str(kd.DistillConfig().batch)


def test_pairs_holds_what_the_teacher_draws(run, teacher, tmp_path):
    folder = tmp_path / "p"
    code, out, _ = run("pairs", "--teacher", teacher, "--per-class", 5, "--seed", 3, "--chunk", 4, "--out", folder)
    assert code == 0 and out.splitlines()[-1] == f"{folder}: 15 pairs, 5 a class, drawn by teacher"
    made = kd.load_pairs(folder)
    assert made.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    z = np.concatenate([draw_latents(3, chunk, count, 8) for chunk, count in enumerate((4, 4, 4, 3))])
    assert np.array_equal(made.latents, z)
    with torch.inference_mode():
        network = load_network(teacher, (ConvGenerator,))
        x = network(torch.from_numpy(z).float(), torch.from_numpy(made.labels))
    grey_levels = np.abs(made.images.astype(int) - to_uint8(x).numpy())
    assert grey_levels.max() <= 1  # a batch of another size may round once differently
    assert made.images.std() > 1


def test_convert_makes_a_folder_that_pairs_can_ask(run, tmp_path):
    (tmp_path / "cifar10.pkl").write_bytes(official_bytes("cond_64"))
    code, out, _ = run("convert", "--source", tmp_path / "cifar10.pkl", "--out", tmp_path / "t")
    assert code == 0 and out == f"{tmp_path / 't'}: converted; ask it with: gsoc-kd pairs --teacher {tmp_path / 't'}\n"
    for teacher, name in ((tmp_path / "t", "t"), (tmp_path / "cifar10.pkl", "cifar10.pkl")):
        code, out, _ = run(
            "pairs", "--teacher", teacher, "--psi", 0.7, "--per-class", 2, "--out", tmp_path / f"p-{name}"
        )
        assert code == 0 and out.splitlines()[-1].endswith(f"8 pairs, 2 a class, drawn by {name}")
    ours, official = (kd.load_pairs(tmp_path / f"p-{name}") for name in ("t", "cifar10.pkl"))
    assert np.array_equal(ours.images, official.images) and ours.images.std() > 1
    assert ours.manifest["psi"] == 0.7 and ours.manifest["digest"] == official.manifest["digest"]


def test_distill_starts_from_a_preset_and_changes_fields(run, pairs, tmp_path):
    code, out, _ = run(
        "distill",
        "--pairs",
        pairs,
        "--preset",
        "smoke",
        "--kimg",
        0.016,
        "--tick-kimg",
        0.008,
        "--batch",
        4,
        "--widths",
        8,
        8,
        4,
        "--out",
        tmp_path / "s",
        "--device",
        "cpu",
    )
    assert code == 0 and out.splitlines()[-1].startswith(f"{tmp_path / 's'}: done; ")
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    smoke = kd.DistillConfig.preset("smoke")
    assert (config["kimg"], config["batch"], config["widths"]) == (0.016, 4, [8, 8, 4])
    assert (config["disc_width"], config["lr"]) == (smoke.disc_width, smoke.lr)
    steps = [json.loads(line)["step"] for line in (tmp_path / "s" / "stats.jsonl").read_text().splitlines()]
    assert steps == [2, 4]
    assert kd.load_student(tmp_path / "s").config["widths"] in ([8, 8, 4], (8, 8, 4))


def test_score_ticks_asks_the_judge_every_so_many_ticks(monkeypatch):
    evaluate, asked = importlib.import_module("gsoc_kd.evaluation.evaluate"), []
    monkeypatch.setattr(
        evaluate,
        "evaluate",
        lambda generator, **options: (
            asked.append(options) or {"cifar_fd": 8.0, "class_agreement": 0.5, "images": 10_000}
        ),
    )
    config = kd.PretrainConfig(tick_kimg=0.6, batch=100)  # a tick is 6 steps
    real = LabelledImages(np.zeros((10, 32, 32, 3), np.uint8), np.arange(10), CIFAR10_CLASSES, "toy")
    on_tick = score_every(2, config, real, "cpu")
    found = [on_tick(None, {"step": step}) for step in (6, 12, 15, 18, 24)]  # 15: stopped between two ticks
    scores = {"cifar_fd": 8.0, "class_agreement": 0.5}
    assert found == [{}, scores, {}, {}, scores]
    assert [options["device"] for options in asked] == [torch.device("cpu")] * 2
    with pytest.raises(kd.InputError, match="embedded statistics of CIFAR-10"):
        score_every(2, config, LabelledImages(real.images[:3], np.arange(3), ("a", "b", "c"), "toy"))
    with pytest.raises(kd.InputError, match="--score-ticks is -1"):
        score_every(-1, config, real)


def test_pretrain_reads_class_folders_of_any_size(run, tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("cat", 20), ("dog", 24)):
        (tmp_path / "real" / name).mkdir(parents=True)
        for i in range(4):
            picture = Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))
            picture.save(tmp_path / "real" / name / f"{i}.png")
    code, out, _ = run(
        "pretrain",
        "--real",
        tmp_path / "real",
        "--size",
        16,
        "--preset",
        "smoke",
        "--batch",
        4,
        "--kimg",
        0.008,
        "--widths",
        8,
        8,
        4,
        "--out",
        tmp_path / "t",
        "--device",
        "cpu",
    )
    assert code == 0 and f"{tmp_path / 't' / 'float16'}: 0.0 MB, not scored, as these are other pictures" in out
    assert read_json(tmp_path / "t" / "float16" / "provenance.json")["scores"] is None
    given = kd.load_teacher(tmp_path / "t" / "float16")
    assert (given.num_classes, given.resolution, given.classes) == (2, 16, ("cat", "dog"))
    code, _, _ = run(
        "pretrain",
        "--real",
        tmp_path / "real",
        "--size",
        16,
        "--preset",
        "smoke",
        "--batch",
        4,
        "--kimg",
        0.008,
        "--widths",
        8,
        8,
        4,
        "--out",
        tmp_path / "u",
        "--device",
        "cpu",
        "--no-publish",
    )
    assert code == 0 and not (tmp_path / "u" / "float16").exists()
    made = kd.load_teacher(tmp_path / "t")
    assert (made.num_classes, made.resolution, made.classes) == (2, 16, ("cat", "dog"))


def test_pretrain_writes_the_scores_of_every_second_tick(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        importlib.import_module("gsoc_kd.evaluation.evaluate"),
        "evaluate",
        lambda generator, **_: {"cifar_fd": 8.0, "class_agreement": 0.5, "images": 10_000},
    )
    for i, name in enumerate(CIFAR10_CLASSES):
        (tmp_path / "real" / name).mkdir(parents=True)
        Image.fromarray(np.full((32, 32, 3), 20 * i, np.uint8)).save(tmp_path / "real" / name / "0.png")
    code, _, _ = run(
        "pretrain",
        "--real",
        tmp_path / "real",
        "--preset",
        "smoke",
        "--batch",
        4,
        "--kimg",
        0.016,
        "--tick-kimg",
        0.004,
        "--score-ticks",
        2,
        "--out",
        tmp_path / "t",
        "--device",
        "cpu",
        "--no-publish",
    )
    rows = [json.loads(line) for line in (tmp_path / "t" / "stats.jsonl").read_text().splitlines()]
    assert code == 0 and [row.get("cifar_fd") for row in rows] == [None, 8.0, None, 8.0]
    assert [row.get("class_agreement") for row in rows] == [None, 0.5, None, 0.5]


def test_a_teacher_of_cifar10_is_published_with_its_scores(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    save_network(
        ConvGenerator(8, 10, 32, (8, 8, 8, 4), 4), tmp_path / "run" / "student", {"command": "gsoc-kd pretrain"}
    )
    monkeypatch.setattr(
        "gsoc_kd.embed.evaluate", lambda _: {"cifar_fd": 9.5, "class_agreement": 0.25, "images": 10_000}
    )
    x = np.zeros((20, 32, 32, 3), np.uint8)
    publish_teacher(tmp_path / "run", LabelledImages(x, np.arange(20) % 10, CIFAR10_CLASSES, "toy"))
    assert "MB, CIFAR-FD 9.50, class agreement 25.0% (10,000 pictures)" in capsys.readouterr().out
    told = read_json(tmp_path / "run" / "float16" / "provenance.json")
    assert told["scores"]["cifar_fd"] == 9.5 and told["command"] == "gsoc-kd pretrain" and len(told["hash"]) == 64


def test_evaluate_prints_a_table_and_writes_the_scores(run, tmp_path):
    torch.manual_seed(0)
    save_network(ConvGenerator(8, 10, 32, (8, 8, 8, 4), 4), tmp_path / "student")
    code, out, _ = run(
        "evaluate",
        "--generator",
        tmp_path / "student",
        "--per-class",
        130,
        "--seed",
        5,
        "--out",
        tmp_path / "scores.json",
        "--mosaic",
        tmp_path / "map.png",
    )
    assert code == 0 and (tmp_path / "map.png").is_file() and f"drawn to {tmp_path / 'map.png'}" in out
    scores = json.loads((tmp_path / "scores.json").read_text())
    expected = kd.evaluate(kd.load_student(tmp_path / "student"), per_class=130, seed=5, progress=False)
    assert (scores["images"], scores["seed"]) == (1300, 5)
    assert scores["cifar_fd"] == pytest.approx(expected["cifar_fd"], rel=1e-3)
    assert scores["class_agreement"] == pytest.approx(expected["class_agreement"], abs=2e-3)
    assert f"CIFAR-precision {scores['cifar_precision']:.1%}, CIFAR-KID" in out
    assert f"CIFAR-IS {scores['cifar_is']['mean']:.2f}" in out
    line = next(line for line in out.splitlines() if line.startswith("| student |"))
    assert f"{scores['cifar_fd']:.2f}" in line and f"{scores['class_agreement']:.1%}" in line


def test_evaluate_compares_with_a_teacher_and_looks_for_copies(run, teacher, tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 400), ("test", 340)):
        for name in ("a", "b", "c"):
            (tmp_path / split / name).mkdir(parents=True)
            for i, x in enumerate(rng.integers(0, 256, (count, 16, 16, 3), np.uint8)):
                Image.fromarray(x).save(tmp_path / split / name / f"{i}.png")
    code, out, err = run(
        "evaluate",
        "--generator",
        teacher,
        "--teacher",
        teacher,
        "--real",
        tmp_path / "train",
        "--test",
        tmp_path / "test",
        "--neighbours",
        tmp_path / "n.png",
        "--per-class",
        340,
        "--out",
        tmp_path / "s.json",
    )
    assert code == 0, err
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["agreement"]["l1"] == 0 and scores["agreement"]["images"] == 1020
    assert (
        f"to teacher, pair by pair: L1 0.0 grey levels (other noise: {scores['agreement']['l1_other_noise']:.1f})"
        in out
    )
    assert f"CIFAR-FD {scores['cifar_fd_to_teacher']:.2f} (floor: {scores['cifar_fd_to_teacher']:.2f})" in out
    assert f"neighbours: {scores['nearest_training']['closer']:.1%} are" in out and str(tmp_path / "n.png") in out
    assert scores["floor"]["split"] == "test" and f"{scores['cifar_recall']:.1%} |" in out
    with Image.open(tmp_path / "n.png") as picture:
        assert picture.size == (1 + 7 * 33, 1 + 3 * 33)
    refused(run("evaluate", "--generator", teacher, "--teacher", tmp_path / "none"), tmp_path / "none")
    refused(run("evaluate", "--generator", "student", "--neighbours", tmp_path / "m.png"), "real pictures themselves")


def test_export_writes_a_file_and_says_how_big_it_is(run, teacher, tmp_path):
    pytest.importorskip("openvino")
    code, out, _ = run("export", "--student", teacher, "--path", tmp_path / "s.xml", "--precision", "fp16")
    size = sum((tmp_path / name).stat().st_size for name in ("s.xml", "s.bin"))
    assert code == 0
    assert out.splitlines()[-1] == f"{tmp_path / 's.xml'}: fp16, {size / 1000:,.0f} kB with its .bin"
    assert kd.load_exported(tmp_path / "s.xml").precision == "fp16"
    refused(run("export", "--student", teacher, "--path", tmp_path / "s.pt"), tmp_path / "s.pt", ".onnx")


def test_bad_words_are_refused_in_one_line(run, teacher, pairs, tmp_path):
    refused(run("destill"), "'destill'", "did you mean 'distill'")
    refused(run("pairs", "--per-klass", 3), "--per-klass", "--per-class", "gsoc-kd pairs --help")
    refused(run("pairs", "--per-class", "many"), "--per-class", "many")
    refused(run("pairs", "--per-class"), "--per-class")
    refused(run("pairs", "--per-class", 0, "--teacher", teacher), "per_class", "at least 1")
    refused(run("evaluate"), "--generator")
    refused(run("distill", "--preset", "huge"), "'huge'", "laptop", "smoke")
    refused(run("distill", "--preset"), "laptop", "smoke")
    refused(run("distill", "--pairs", pairs, "--batch", 0), "batch", "positive")
    refused(run("pairs", "--teacher", teacher, "--device", "abacus"), "abacus")


def test_missing_and_foreign_files_are_refused_in_one_line(run, teacher, pairs, tmp_path):
    none = tmp_path / "none"
    refused(run("distill", "--pairs", none, "--out", tmp_path / "s"), none, "does not exist")
    refused(run("pairs", "--teacher", tmp_path / "none.pkl"), tmp_path / "none.pkl")
    (tmp_path / "text.pkl").write_text("hello")
    refused(run("convert", "--source", tmp_path / "text.pkl", "--out", tmp_path / "t"), "text.pkl", "it is a text")
    refused(run("pairs", "--teacher", tmp_path / "none"), tmp_path / "none", "does not exist")
    refused(run("evaluate", "--generator", tmp_path), tmp_path, "config.json")
    refused(run("pretrain", "--real", tmp_path / "none.zip", "--out", tmp_path / "t"), tmp_path / "none.zip")
    refused(run("pairs", "--teacher", teacher, "--psi", 0.7), "psi", "StyleGAN2")
    refused(run("pairs", "--teacher", teacher, "--out", teacher / "config.json"), teacher / "config.json")
    refused(run("pairs", "--teacher", teacher, "--per-class", 5, "--out", pairs), pairs, "per_class")
    assert not (tmp_path / "s").exists() and not (tmp_path / "t").exists()
    assert len(kd.load_pairs(pairs)) == 12


def test_a_stopped_command_says_that_it_continues(run, teacher, monkeypatch):
    @functools.wraps(kd.make_pairs)
    def stopped(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gsoc_kd.pairs.make_pairs", stopped)
    code, out, err = run("pairs", "--teacher", teacher, "--per-class", 7)
    assert code == 130 and out == ""
    assert err.strip().endswith(f"same command continues: gsoc-kd pairs --teacher {teacher} --per-class 7")
