"""Generated bad values for every verb and every reader: InputError, exit code 2 and one line, and nothing else."""

import io
import json
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from stylegan2_official import official_bytes

import gsoc_kd as kd
from gsoc_kd.cli import VERBS, main
from gsoc_kd.core.files import read_json
from gsoc_kd.core.weights import save_network
from gsoc_kd.networks import ConvGenerator
from gsoc_kd.teachers.official import read_official
from gsoc_kd.training.runs import load_checkpoint, read_stats

QUICK = dict(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
NUMBERS = [
    "-1",
    "0",
    "1",
    "2",
    "1e39",
    "1e999",
    "nan",
    "-inf",
    "9" * 30,
    "9" * 5000,
    "0.5",
    "0x10",
    "१",
    "",
    " ",
    "True",
]
TEXTS = ["", " ", "~", "~nobody-of-this-name/x", "a\0b", "x" * 5000, "/dev/null", "/dev/zero", ".", "..", "ż–\udcff",
         "-x", "cuda:99", "meta", "none", "embedded/x", "owner/name/more"]  # fmt: skip
words = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.text(max_size=8), st.integers().map(str))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(10**30))
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3),
                      st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=5)  # fmt: skip
SMOKE = "--preset smoke --batch 4 --kimg 0.004 --tick-kimg 0.004 --widths 8 8 4 --device cpu"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a tiny teacher, its pairs, real images as a folder and as a zip, an official file."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("here")
    save_network(ConvGenerator(z_dim=8, num_classes=2, resolution=16, widths=(8, 8, 8), embed_dim=4), root / "teacher")
    kd.make_pairs(root / "teacher", 4, out=root / "pairs")
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(root / "real.zip", "w") as archive:
        for name in ("cat", "dog"):
            (root / "real" / name).mkdir(parents=True)
            for i, image in enumerate(rng.integers(0, 256, (2, 16, 16, 3), np.uint8)):
                Image.fromarray(image).save(root / "real" / name / f"{i}.png")
                archive.write(root / "real" / name / f"{i}.png", f"{name}{i}.png")
        labels = [[f"{name}{i}.png", c] for c, name in enumerate(("cat", "dog")) for i in range(2)]
        archive.writestr("dataset.json", json.dumps({"labels": labels, "classes": ["cat", "dog"]}))
    (root / "cifar10.pkl").write_bytes(official_bytes())
    kd.distill(root / "pairs", kd.DistillConfig.preset("smoke", batch=4, kimg=0.008, tick_kimg=0.004, widths=(8, 8, 4)),
               root / "run", device="cpu")  # fmt: skip
    return root


def commands(root, out):
    """{verb: its words for tiny data}; a flag that is said again counts."""
    teacher, pairs, real = root / "teacher", root / "pairs", root / "real"
    return {
        "pairs": f"--teacher {teacher} --per-class 2 --device cpu --out {out}",
        "distill": f"--pairs {pairs} --out {out} {SMOKE}",
        "pretrain": f"--real {real} --out {out} --no-publish --group 2 {SMOKE}",
        "evaluate": f"--generator {teacher} --real {real} --per-class 2 --device cpu",  # too few images, in any case
        "export": f"--student {teacher} --path {out}/s.txt",  # no such format, in any case
        "convert": f"--source {root / 'cifar10.pkl'} --out {out}",
        "demo": f"--per-class 0 --out {out} {SMOKE}",
        "push": f"--name x --student {teacher}",
    }


LEFT_OUT = {"kimg", "tick-kimg", "help", "json", "quiet", "from", "minutes"}  # a long run is no fault


@pytest.mark.parametrize("verb", VERBS)
def test_bad_words_end_in_one_line(verb, here, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fields = [name.strip("_").replace("_", "-") for name in VERBS[verb]._fields if name != "config"]
    config = {"distill": kd.DistillConfig, "demo": kd.DistillConfig, "pretrain": kd.PretrainConfig}.get(verb)
    fields += [name.replace("_", "-") for name in getattr(config, "__dataclass_fields__", ())]
    flags = st.sampled_from(sorted({*fields} - LEFT_OUT))

    @settings(max_examples=15, **QUICK)
    @given(st.lists(st.tuples(flags, words), min_size=1, max_size=2))
    def check(changes):
        out = tmp_path / "out"
        line = commands(here, out)[verb].split() + [part for flag, word in changes for part in (f"--{flag}", word)]
        capsys.readouterr()
        code = main([verb, *line])
        err = [text for text in capsys.readouterr().err.splitlines() if text.startswith("gsoc-kd: error: ")]
        assert code in (0, 2) and len(err) == (code == 2), line
        assert not err or "GSOC_KD_TRACEBACK" not in err[0], (line, err)
        shutil.rmtree(out, ignore_errors=True)

    check()


def refuses(call, *inputs):
    """The call succeeds or raises InputError; warnings do not count."""
    try:
        with warnings.catch_warnings(action="ignore"):
            call(*inputs)
    except kd.InputError as error:
        told = str(error)
        assert told.strip() and len(told) < 3000


JSON_FILES = {  # file: (what is read, where it stands)
    "teacher/config.json": (kd.load_student, "teacher"),
    "teacher/provenance.json": (kd.load_teacher, "teacher"),
    "pairs/manifest.json": (kd.load_pairs, "pairs"),
}


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_files_with_other_values(name, here, tmp_path):
    call, folder = JSON_FILES[name]
    shutil.copytree(here / folder, tmp_path / folder)
    file = tmp_path / name
    told = read_json(file)

    @settings(max_examples=40, **QUICK)
    @given(st.one_of(values, st.tuples(st.sampled_from([*told, "x"]), values)), st.booleans())
    def check(change, sealed):
        value = {**told, change[0]: change[1]} if isinstance(change, tuple) else change
        if sealed and isinstance(value, dict):
            from gsoc_kd.core.files import with_checksum

            value = with_checksum(value)
        file.write_text(json.dumps(value))
        refuses(call, tmp_path / folder)

    check()


BYTES = {  # file: what reads it
    "teacher/config.json": (kd.load_student, "teacher"),
    "teacher/model.safetensors": (kd.load_student, "teacher"),
    "pairs/images.npy": (kd.load_pairs, "pairs"),
    "pairs/latents.npy": (lambda path: kd.load_pairs(path, verify=False), "pairs"),
    "pairs/manifest.json": (kd.load_pairs, "pairs"),
    "run/checkpoint.pt": (load_checkpoint, "run"),
    "run/stats.jsonl": (read_stats, "run"),
    "real.zip": (kd.load_images, "real.zip"),
    "real/cat/0.png": (kd.load_images, "real"),
    "cifar10.pkl": (read_official, "cifar10.pkl"),
}


@pytest.mark.parametrize("name", BYTES)
def test_files_with_other_bytes(name, here, tmp_path, monkeypatch):
    monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path / "cache"))
    call, source = BYTES[name]
    (shutil.copytree if (here / source).is_dir() else shutil.copyfile)(here / source, tmp_path / source)
    whole = (here / name).read_bytes()

    @settings(max_examples=40, **QUICK)
    @given(st.integers(0, len(whole)), st.binary(max_size=40), st.integers(0, 40))
    def check(at, new, left_out):
        (tmp_path / name).write_bytes(whole[:at] + new + whole[at + left_out :])
        refuses(call, tmp_path / source)

    check()


def test_arguments_of_any_kind():
    network = ConvGenerator(z_dim=8, num_classes=2, resolution=16, widths=(8, 8, 8), embed_dim=4).eval()
    teacher = kd.black_box(network)
    odd = [np.zeros((2, 8), np.int8), np.array(["a"]), torch.full((2, 8), 1e30), torch.zeros(2, 8).to_sparse()]
    arrays = st.one_of(values, st.sampled_from([*odd, torch.zeros(2, 8), np.zeros(2, int)]))

    @settings(max_examples=50, **QUICK)
    @given(values, values, arrays, arrays)
    def check(one, other, z, y):
        refuses(lambda: teacher(z, y))
        refuses(lambda: kd.black_box(network, batch=one))
        refuses(lambda: kd.load_teacher(network, psi=one, half=other))
        refuses(lambda: kd.load_teacher(network, device=one if not isinstance(one, bool | int) else None))
        refuses(lambda: kd.load_student(one if isinstance(one, str | int) else None))
        for name in ("batch", "seed", "lr", "betas", "widths", "disc", "rank", "bfloat16", "ema", "lr_hold"):
            refuses(lambda name=name: kd.DistillConfig(**{name: one}))

    check()


def test_bytes_that_are_pickles_of_plain_values(tmp_path):
    import pickle

    @settings(max_examples=40, **QUICK)
    @given(st.dictionaries(st.sampled_from(["G_ema", "training_set_kwargs", "x"]), values), st.integers(2, 5))
    def check(value, protocol):
        buffer = io.BytesIO()
        pickle.dump(value, buffer, protocol)
        (tmp_path / "x.pkl").write_bytes(buffer.getvalue())
        refuses(read_official, tmp_path / "x.pkl")

    check()
