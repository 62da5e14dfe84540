"""Every verb as a command, in this process: flags, results, and one line for bad input."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stylegan2_official import official_bytes

import gsoc_kd as kd
from gsoc_kd.cli import VERBS, main, parse
from gsoc_kd.core.files import read_json
from gsoc_kd.core.weights import load_network, save_network
from gsoc_kd.data import CIFAR10_CLASSES
from gsoc_kd.evaluation.publish import publish
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.verbs import word

FLAGS = {  # some flags that each verb must explain
    "demo": "out per-class preset kimg",
    "pairs": "teacher psi half per-class seed out chunk device",
    "distill": "pairs preset out real size batch kimg pixel-weight device minutes",
    "evaluate": "generator real size test per-class seed inception teacher psi half neighbours imagenet cas-epochs "
    "device batch out json",
    "export": "student path precision seed",
    "pretrain": "real size preset out batch kimg minutes device score-ticks architecture disc no-publish",
    "convert": "source out",
    "push": "name student license scores private",
}
SMOKE = "--preset smoke --batch 4 --kimg 0.016 --tick-kimg 0.008 --widths 8 8 4 --device cpu".split()
SCORES = {"cifar_fd": 8.0, "class_accuracy": 0.5, "images": 10_000}
CIFAR10_SIZED = dict(z_dim=8, num_classes=10, resolution=32, widths=(8, 8, 8, 4), embed_dim=4)


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
    network = ConvGenerator(z_dim=8, num_classes=3, resolution=16, widths=(8, 8, 8), embed_dim=4)
    save_network(network, tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.fixture
def pairs(run, teacher, tmp_path):
    """A folder with 12 pairs of that teacher, made by the command."""
    run("pairs", "--teacher", teacher, "--per-class", 4, "--out", tmp_path / "pairs")
    return tmp_path / "pairs"


def class_folders(root, names, count, size):
    """Random images as PNG files, `count` in a folder for each class."""
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i, x in enumerate(rng.integers(0, 256, (count, size, size, 3), np.uint8)):
            Image.fromarray(x).save(root / name / f"{i}.png", compress_level=0)
    return root


def refused(result, *told):
    """The command ended with 2, wrote nothing to stdout and one line to stderr, which says all of `told`."""
    code, out, err = result
    assert (code, out) == (2, "") and err.startswith("gsoc-kd: error: ") and err.count("\n") == 1, result
    assert [word for word in told if str(word) not in err] == [], err


def test_every_public_name_is_there():
    assert all(callable(getattr(kd, name)) for name in kd.__all__) and set(kd.__all__) <= set(dir(kd))
    assert kd.distill.__module__ == "gsoc_kd.training.distill"
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        kd.distil  # noqa: B018


def test_help_lists_the_verbs_without_loading_torch(run):
    code = "import sys; from gsoc_kd.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^  ([a-z]+)  +[A-Z].*\.$", done.stdout, re.M) == list(VERBS) == list(FLAGS)
    assert run("--version") == (0, f"gsoc-kd {kd.__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_explains_its_flags(run, verb):
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "") and VERBS[verb].__doc__.split()[0] in out
    assert [flag for flag in FLAGS[verb].split() if not re.search(f"--{flag}[ ,]", out)] == []
    assert re.findall(r"^  --\S+ \S+\s+\((?:default|required)", out, re.M) == []  # no flag without help


@pytest.mark.parametrize("verb, kind", [("distill", kd.DistillConfig), ("pretrain", kd.PretrainConfig)])
def test_flags_start_from_the_preset_and_change_fields(run, verb, kind):
    words = [verb, *"--batch 3 --preset gpu --widths 8 4 --bfloat16 False".split()]
    assert parse(words).config == kind.preset("gpu", batch=3, widths=(8, 4), bfloat16=False)
    assert parse([verb]).config == kind() and parse([verb]).preset == "laptop"
    for words, config in (((), kind()), (("--preset", "gpu"), kind.preset("gpu"))):
        told = " ".join(run(verb, *words, "--help")[1].split())
        assert told.split("--kimg FLOAT ")[1].split("(default: ")[1].startswith(f"{config.kimg})")
        assert [name for name in sys.modules[kind.__module__].PRESETS if name not in told.split("--preset")[1]] == []


@pytest.mark.parametrize("terminal", [False, True])
def test_bad_words_are_refused_in_one_line(run, teacher, pairs, tmp_path, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    refused(run("destill"), "'destill'", "did you mean 'distill'")
    refused(run("pairs", "--per-klass", 3), "error: Unrecognized options: --per-klass", "--per-class", "pairs --help")
    refused(run("pairs", "stray"), "stray")
    refused(run("pairs", "--per-class", "many"), "error: Error parsing --per-class: ", "'many'")
    refused(run("pairs", "--per-class"), "--per-class")
    refused(run("pairs", "--per-class", 0, "--teacher", teacher, "--out", tmp_path / "p"), "per_class", "at least 1")
    refused(run("pairs", "--teacher", teacher, "--device", "abacus"), "abacus")
    refused(run("evaluate"), "--generator")
    refused(run("export", "--precision", "int9"), "'int9'", "--precision", "int8")
    refused(run("distill", "--preset", "huge"), "'huge'", "laptop", "smoke")
    refused(run("distill", "--preset"), "--preset")
    refused(run("distill", "--pairs", pairs, "--batch", 0), "batch", "positive")


def test_options_that_would_count_for_nothing_are_refused(run, teacher, tmp_path):
    told = "would count for nothing"
    refused(run("evaluate", "--generator", teacher, "--psi", 0.5), "--psi", told, "--teacher")
    refused(run("evaluate", "--generator", teacher, "--half"), "--half", told)
    refused(run("evaluate", "--generator", teacher, "--size", 16), "--size", told, "--real")
    refused(run("distill", "--pairs", tmp_path, "--size", 16), "--size", told, "--real")
    refused(run("pairs", "--from", tmp_path, "--per-class", 7), "--per-class", told, "--from")


def test_missing_and_foreign_files_are_refused_in_one_line(run, teacher, pairs, tmp_path):
    none = tmp_path / "none"
    refused(run("distill", "--pairs", none, "--out", tmp_path / "s"), none, "does not exist")
    (tmp_path / "text.pkl").write_text("hello")
    refused(run("convert", "--source", tmp_path / "text.pkl", "--out", tmp_path / "t"), "text.pkl", "it is a text")
    for name in ("none", "none.pkl"):
        refused(run("pairs", "--teacher", tmp_path / name), tmp_path / name, "does not exist")
    refused(run("evaluate", "--generator", tmp_path), tmp_path, "config.json")
    refused(run("evaluate", "--generator", teacher, "--teacher", none), none)
    refused(run("evaluate", "--generator", "student", "--neighbours", tmp_path / "m.png"), "real")
    refused(run("pretrain", "--real", tmp_path / "none.zip", "--out", tmp_path / "t"), tmp_path / "none.zip")
    refused(run("pairs", "--teacher", teacher, "--psi", 0.7), "psi", "StyleGAN2")
    refused(run("pairs", "--teacher", teacher, "--out", teacher / "config.json"), teacher / "config.json")
    refused(run("pairs", "--teacher", teacher, "--per-class", 5, "--out", pairs), pairs, "per_class")
    assert not (tmp_path / "s").exists() and not (tmp_path / "t").exists()
    assert len(kd.load_pairs(pairs)) == 12


def test_a_stopped_command_says_that_it_continues(run, monkeypatch):
    def stopped(*words):
        assert words == (Path("o"), 7, kd.DistillConfig.preset("smoke"))
        raise KeyboardInterrupt

    monkeypatch.setattr("gsoc_kd.demo.demo", stopped)
    code, out, err = run("demo", "--preset", "smoke", "--per-class", 7, "--out", "o")
    assert code == 130 and out == ""
    assert err.strip().endswith("same command continues: gsoc-kd demo --preset smoke --per-class 7 --out o")


def test_what_nobody_has_foreseen_is_one_line_too(run, monkeypatch):
    def broken(*words):
        raise RuntimeError("first line\nsecond \x1b[31m line")

    monkeypatch.setattr("gsoc_kd.demo.demo", broken)
    refused(run("demo"), "RuntimeError: first line second  [31m line", "GSOC_KD_TRACEBACK=1")
    monkeypatch.setenv("GSOC_KD_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="first line"):
        main(["demo"])


def test_a_reserved_word_hides_no_path_without_a_word(run, teacher, tmp_path, monkeypatch):
    scores = {**SCORES, "cifar_recall": 0.5, "lower_bound": None, "reference": {"split": "train", "images": 6}}
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kd, "evaluate", lambda **given: asked.append(given["generator"]) or scores)
    monkeypatch.setattr(sys.modules["gsoc_kd.evaluation.table"], "speeds", lambda some, **_: dict.fromkeys(some, 1.0))
    code, out, err = run("evaluate", "--generator", "teacher", "--quiet")
    assert code == 0 and "| bundled teacher |" in out and asked[0].digest == kd.load_teacher().digest
    assert err == "gsoc-kd: note: 'teacher' means the one that gsoc_kd knows by this name; what is here under it is " \
                  "./teacher\n"  # fmt: skip
    code, out, err = run("evaluate", "--generator", "./teacher")
    assert (code, err) == (0, "") and "| teacher |" in out and asked[1].digest == kd.load_teacher(teacher).digest
    (tmp_path / "embedded").mkdir()
    class_folders(tmp_path / "cifar10", "ab", 2, size=16)
    with pytest.warns(UserWarning, match="./embedded"):
        assert kd.load_student("embedded").resolution == 32
    with pytest.warns(UserWarning, match="./cifar10"), pytest.raises(kd.InputError, match="CIFAR-10 is not in"):
        kd.load_images("cifar10", root=tmp_path, download=False)
    assert kd.load_images(Path("cifar10")).counts() == {"a": 2, "b": 2}  # a Path is no word
    with pytest.raises(kd.InputError, match="config.json and model.safetensors missing"):
        kd.load_student(Path("embedded"))


def test_paths_begin_at_home_where_they_say_so(run, teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, out, _ = run("pairs", "--teacher", "~/teacher", "--per-class", 2, "--out", "~/new/pairs")
    assert code == 0 and len(kd.load_pairs("~/new/pairs")) == len(kd.load_pairs(tmp_path / "new" / "pairs")) == 6
    assert run("distill", "--pairs", "~/new/pairs", "--out", "~/new/run", *SMOKE)[0] == 0
    assert kd.load_student("~/new/run").num_classes == 3 and (tmp_path / "new" / "run" / "animation.gif").is_file()


def test_numbers_of_numpy_are_numbers(pairs, tmp_path):
    config = kd.DistillConfig.preset("smoke", batch=np.int64(4), lr=np.float32(0.5), widths=list(np.array([8, 4])))
    assert json.dumps([config.batch, config.lr, config.widths]) == "[4, 0.5, [8, 4]]"
    assert kd.load_teacher(psi=np.float64(1)).psi == 1.0
    made = kd.make_pairs(kd.load_teacher(tmp_path / "teacher"), np.int32(4), np.int64(0), tmp_path / "pairs")
    assert len(made) == 12  # those that are there


def test_a_terminal_without_a_letter_and_a_reader_that_has_gone(teacher, tmp_path):
    """In processes of their own: what Python does at its end counts."""
    command = [sys.executable, "-m", "gsoc_kd"]
    told = dict(capture_output=True, text=True, cwd=Path(__file__).parents[1])
    words = ["pairs", "--teacher", teacher, "--per-class", "1", "--out", tmp_path / "\u0151 \u2013", "--quiet"]
    done = subprocess.run([*command, *words], **told, env=os.environ | {"PYTHONIOENCODING": "cp932"}, errors="replace")
    assert done.returncode == 0 and "? ?: 3 pairs" in done.stdout and done.stderr == ""
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*command, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=told["cwd"])
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("gsoc-kd: error: ")


def test_shells_complete_verbs_and_flags(run):
    code, out, err = run("--tyro-print-completion", "bash")
    assert (code, err) == (0, "") and "gsoc-kd" in out
    assert all(word in out for word in (*VERBS, "--per-class", "--kimg", "--from", "--quiet"))
    refused(run("--tyro-print-completion", "dosh"), "dosh", "bash")


def test_pairs_holds_what_the_teacher_generates(run, teacher, tmp_path):
    folder = tmp_path / "p"
    code, out, _ = run("pairs", "--teacher", teacher, "--per-class", 5, "--seed", 3, "--chunk", 4, "--out", folder)
    assert code == 0 and out.splitlines()[-1] == f"{folder}: 15 pairs, 5 per class, generated by teacher"
    made, same = kd.load_pairs(folder), kd.make_pairs(kd.load_teacher(teacher), 5, 3, tmp_path / "same", 4)
    for name in ("labels", "latents", "images"):
        assert np.array_equal(getattr(made, name), getattr(same, name))


def test_convert_makes_a_folder_that_pairs_can_ask(run, tmp_path):
    (tmp_path / "cifar10.pkl").write_bytes(official_bytes("cond_64"))
    code, out, _ = run("convert", "--source", tmp_path / "cifar10.pkl", "--out", tmp_path / "t")
    assert code == 0 and out == f"{tmp_path / 't'}: converted; ask it with: gsoc-kd pairs --teacher {tmp_path / 't'}\n"
    for name in ("t", "cifar10.pkl"):
        out = tmp_path / f"p-{name}"
        code, told, _ = run("pairs", "--teacher", tmp_path / name, "--psi", 0.7, "--per-class", 2, "--out", out)
        assert code == 0 and told.splitlines()[-1].endswith(f"8 pairs, 2 per class, generated by {name}")
    ours, official = (kd.load_pairs(tmp_path / f"p-{name}") for name in ("t", "cifar10.pkl"))
    assert np.array_equal(ours.images, official.images) and ours.images.std() > 1
    assert ours.manifest["psi"] == 0.7 and ours.manifest["digest"] == official.manifest["digest"]


def test_a_folder_in_a_hint_is_no_reserved_word_and_one_word():
    assert [word(Path(name)) for name in ("student", "a/teacher", "my run", "-x")] == [
        "./student", "a/teacher", "'my run'", "./-x"]  # fmt: skip


def test_distill_trains_what_the_flags_ask_for(run, pairs, tmp_path):
    code, out, _ = run("distill", "--pairs", pairs, "--out", tmp_path / "s", *SMOKE)
    assert code == 0
    assert out.endswith(f"{tmp_path / 's'}: done; score it with: gsoc-kd evaluate --generator {tmp_path / 's'}\n")
    config, smoke = read_json(tmp_path / "s" / "config.json"), kd.DistillConfig.preset("smoke")
    expected = {"kimg": 0.016, "batch": 4, "widths": [8, 8, 4], "disc_width": smoke.disc_width, "lr": smoke.lr}
    assert {name: config[name] for name in expected} == expected
    steps = [json.loads(line)["step"] for line in (tmp_path / "s" / "stats.jsonl").read_text().splitlines()]
    assert steps == [2, 4]
    assert tuple(kd.load_student(tmp_path / "s").config["widths"]) == (8, 8, 4)


def test_pretrain_reads_class_folders_of_any_size_and_publishes(run, tmp_path):
    real = class_folders(tmp_path / "real", ["cat", "dog"], 4, size=20)
    words = ["pretrain", "--real", real, "--size", 16, "--out", tmp_path / "t", *SMOKE]
    assert run(*words, "--no-publish")[0] == 0 and not (tmp_path / "t" / "float16").exists()
    code, out, _ = run(*words)  # the run is there already
    assert code == 0 and f"{tmp_path / 't' / 'float16'}: 0.0 MB, not scored, as these are other images" in out
    assert read_json(tmp_path / "t" / "float16" / "provenance.json")["scores"] is None
    for folder in (tmp_path / "t", tmp_path / "t" / "float16"):
        made = kd.load_teacher(folder)
        assert (made.num_classes, made.resolution, made.classes) == (2, 16, ("cat", "dog"))
    for ticks, told in ((2, "must be 0, not 2"), (-1, "must be a whole number of at least 0, not -1")):
        code, _, err = run(*words, "--score-ticks", ticks)
        assert code == 2 and f"gsoc-kd: error: --score-ticks {told}" in err, err


def test_pretrain_writes_the_scores_of_every_second_tick(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(kd, "evaluate", lambda network, **options: asked.append((network, options)) or SCORES)
    real = class_folders(tmp_path / "real", CIFAR10_CLASSES, 1, size=32)
    words = ["pretrain", "--real", real, "--out", tmp_path / "t", *SMOKE]
    words += ["--widths", 8, 8, 8, 4, "--tick-kimg", 0.004, "--no-publish"]  # a flag's last value counts
    assert run(*words, "--score-ticks", 2)[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "t" / "stats.jsonl").read_text().splitlines()]
    assert [(row.get("cifar_fd"), row.get("class_accuracy")) for row in rows] == [(None, None), (8.0, 0.5)] * 2
    assert [options["device"] for _, options in asked] == ["cpu"] * 2 and asked[0][0].resolution == 32


def test_a_teacher_of_cifar10_is_published_with_its_scores(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    network, scored = ConvGenerator(**CIFAR10_SIZED), []
    save_network(network, tmp_path / "run" / "generator", {"command": "gsoc-kd pretrain"})
    note = lambda box, teacher: (teacher is None and scored.append(box.network)) or SCORES  # noqa: E731
    monkeypatch.setattr("gsoc_kd.evaluation.publish.evaluate", note)
    assert publish(tmp_path / "run", tmp_path / "given") == SCORES
    assert "MB, CIFAR-FD 8.00, class accuracy 50.0% (10,000 images)" in capsys.readouterr().out
    told = read_json(tmp_path / "given" / "provenance.json")
    assert told["scores"] == SCORES and told["command"] == "gsoc-kd pretrain" and len(told["hash"]) == 64
    given = load_network(tmp_path / "given", (ConvGenerator,)).state_dict()
    for name, tensor in network.state_dict().items():  # float16, and scored as they are loaded
        assert torch.equal(given[name], tensor.half().float() if tensor.is_floating_point() else tensor)
        assert torch.equal(given[name], scored[0].state_dict()[name])


def test_evaluate_scores_a_generator(run, tmp_path):
    torch.manual_seed(0)
    save_network(ConvGenerator(**CIFAR10_SIZED), tmp_path / "mine")
    words = ["--per-class", 130, "--seed", 5, "--teacher", tmp_path / "mine", "--out", tmp_path / "s.json"]
    code, out, err = run("evaluate", "--generator", tmp_path / "mine", *words)
    assert code == 0, err
    scores = read_json(tmp_path / "s.json")
    assert (scores["images"], scores["seed"], scores["agreement"]["l1"]) == (1300, 5, 0)
    both = f"{scores['cifar_fd']:.2f} | {scores['cifar_fd_to_teacher']:.2f}"
    assert re.search(rf"\| mine \|.* {re.escape(both)} \| {scores['class_accuracy']:.1%} \|", out)
    cats = scores["lower_bound"]["cifar_fd_per_class"]["cat"], scores["cifar_fd_per_class"]["cat"]
    assert "\n| cat | {:.2f} | {:.2f} |".format(*cats) in out
    assert f"CIFAR-IS {scores['cifar_is']['mean']:.2f}\nto mine, pair by pair: L1 0.0 grey levels (other noise: " in out
    assert f"{scores['cifar_fd_to_teacher']:.2f} (the teacher's, to itself: {scores['cifar_fd_to_teacher']:.2f})" in out


def test_evaluate_looks_where_it_shall_write_before_it_works(run, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(kd, "evaluate", None)
    refused(run("evaluate", "--generator", teacher, "--out", tmp_path), f"--out must name a file, and {tmp_path} is")
    refused(run("evaluate", "--generator", teacher, "--real", "", "--per-class", 130), "source must be a path, not ''")


def test_scores_are_written_before_speed_is_measured_and_shown_if_they_cannot_be(run, teacher, tmp_path, monkeypatch):
    scores = {**SCORES, "cifar_recall": 0.5, "lower_bound": None, "reference": {"split": "train", "images": 6}}
    monkeypatch.setattr(kd, "evaluate", lambda **_: scores)
    monkeypatch.setattr(sys.modules["gsoc_kd.evaluation.table"], "speeds", lambda *_, **__: 1 / 0)
    assert run("evaluate", "--generator", teacher, "--out", tmp_path / "s.json")[0] == 2
    assert read_json(tmp_path / "s.json") == scores
    monkeypatch.setattr(sys.modules["gsoc_kd.verbs"], "write_json", lambda *_: load_network(tmp_path / "none", ()))
    code, out, err = run("evaluate", "--generator", teacher, "--out", tmp_path / "s.json", "--json")
    assert code == 2 and "written" not in out and json.loads(out) == scores and "config.json is missing" in err


def test_evaluate_hands_its_words_on_and_tells_every_score(run, teacher, tmp_path, monkeypatch):
    asked, real = {}, class_folders(tmp_path / "real", "abc", 2, size=20)
    scores = {**SCORES, "cifar_recall": 0.625, "lower_bound": {"cifar_fd": 0.75, "images": 6}}
    scores |= {"cifar_precision": 0.5, "cifar_kid": {"mean": 0.125}, "cifar_is": {"mean": 9.5}, "fid": 12.5}
    scores |= {"inception_score": {"mean": 7.25}, "nearest_training": {"closer": 0.375}}
    scores["reference"] = {"split": "real", "images": 6}
    scores |= {"cifar_fd_mean": 3.0, "cifar_fd_cov": 5.0, "cifar_density": 0.75, "cifar_coverage": 0.0}
    scores |= {"imagenet_fd": 9.0, "imagenet_fd_mean": 2.0, "imagenet_fd_cov": 7.0, "classes_by_number": True}
    scores |= {"cas": 0.875, "cas_images": 50_000, "cas_epochs": 3, "cas_test_images": 6}
    monkeypatch.setattr(kd, "evaluate", lambda **given: asked.update(given) or scores)
    monkeypatch.setattr(sys.modules["gsoc_kd.evaluation.table"], "speeds", lambda some, **_: dict.fromkeys(some, 1234))
    words = ["--real", real, "--test", real, "--size", 16, "--seed", 5, "--device", "cpu", "--inception", "download"]
    shown, told = tmp_path / "n.png", tmp_path / "s.json"
    words += ["--neighbours", shown, "--out", told, "--imagenet", "--cas-epochs", 3]
    code, out, err = run("evaluate", "--generator", teacher, "--teacher", teacher, "--per-class", 130, *words)
    assert code == 0, err
    assert "CIFAR-precision 50.0%, CIFAR-KID 0.12500\nCIFAR-IS 9.50\nFID 12.50, inception score 7.25 (10,000" in out
    assert "nearest training neighbours: 37.5% are" in out and f"shown in {shown}\nscores written to {told}\n" in out
    assert "means 3.00 + covariances 5.00; CIFAR-density 0.75, CIFAR-coverage 0.0%, CIFAR-prec" in out
    assert "have no names" in out
    assert "ImageNet-FD 9.00: means 2.00 + covariances 7.00\nCAS 87.5%: the share of 6 real test images that is" in out
    assert "right after 3 epochs on 50,000 generated ones\n" in out and "| – | – | – | 0.75 |" in out
    assert "| teacher |" in out and "| 1,234 | 8.00 | 9.00 | 50.0% | 87.5% | 62.5% |\n" in out
    assert read_json(told) == scores
    code, out, err = run("evaluate", "--generator", teacher, "--teacher", teacher, "--per-class", 130, *words, "--json")
    assert (code, json.loads(out)) == (0, scores), err
    sources = [(images.source, images.resolution, len(images)) for images in (asked.pop("real"), asked.pop("test"))]
    assert sources == [("real", 16, 6)] * 2
    assert asked.pop("generator").digest == asked.pop("teacher").digest == kd.load_teacher(teacher).digest
    rest = dict(per_class=130, seed=5, inception="download", device="cpu", batch=250, neighbours=shown)
    assert asked == rest | {"imagenet": True, "cas_epochs": 3}


def test_export_writes_a_file_and_says_how_big_it_is(run, teacher, tmp_path):
    pytest.importorskip("openvino")
    code, out, _ = run("export", "--student", teacher, "--path", tmp_path / "s.xml", "--precision", "fp16")
    size = sum((tmp_path / name).stat().st_size for name in ("s.xml", "s.bin"))
    assert code == 0 and out.splitlines()[-1] == f"{tmp_path / 's.xml'}: fp16, {size / 1000:,.0f} kB with its .bin"
    assert kd.load_exported(tmp_path / "s.xml").precision == "fp16"
    refused(run("export", "--student", teacher, "--path", tmp_path / "s.pt"), tmp_path / "s.pt", ".onnx")
    pytest.importorskip("onnx")
    code, out, _ = run("export", "--student", teacher, "--path", tmp_path / "s.onnx")  # s.bin is not its own
    size = (tmp_path / "s.onnx").stat().st_size
    assert code == 0 and out.splitlines()[-1] == f"{tmp_path / 's.onnx'}: fp32, {size / 1000:,.0f} kB"
