"""Whatever the caller's world is, a public call does the same, and leaves the world as it was."""

import os
import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from stylegan2_official import official_bytes

import gsoc_kd as kd
from gsoc_kd.core.files import read_json
from gsoc_kd.core.state import as_imported
from gsoc_kd.core.weights import network_hash, save_network
from gsoc_kd.networks import ConvGenerator

SMOKE = dict(batch=4, kimg=0.008, tick_kimg=0.008, widths=(8, 8, 4), bfloat16=False)
NONE = {"DistillConfig", "PretrainConfig", "InputError"}  # no calls that do anything
CALLS = {  # name: call(given, folder to write to) -> what must not depend on the world, in a form that can be compared
    "load_images": lambda given, out: kd.load_images(given.real).images,
    "load_teacher": lambda given, out: kd.load_teacher(given.network)(given.z, [0, 1, 2]),
    "load_student": lambda given, out: network_hash(kd.load_student(given.folder)),
    "black_box": lambda given, out: kd.black_box(given.network)(given.z, [0, 1, 2]),
    "convert": lambda given, out: network_hash(kd.load_student(kd.convert(given.official, out))),
    "make_pairs": lambda given, out: kd.make_pairs(given.network, 2, 3, out).manifest,
    "load_pairs": lambda given, out: kd.load_pairs(given.pairs).manifest,
    "convert_pairs": lambda given, out: kd.convert_pairs(given.layout, out).manifest,
    "distill": lambda given, out: network_hash(distil(given, out)),
    "pretrain": lambda given, out: network_hash(
        kd.pretrain(kd.load_images(given.real), kd.PretrainConfig.preset("smoke", **SMOKE), out, "cpu").generator),
    "evaluate": lambda given, out: rounded(kd.evaluate(given.big, per_class=130, device="cpu", progress=False)),
    "agreement": lambda given, out: rounded(kd.agreement(given.big, given.big, 2, device="cpu", progress=False)),
    "export": lambda given, out: kd.load_exported(kd.export(given.network, out / "s.xml", "int8")).digest,
    "load_exported": lambda given, out: kd.load_exported(given.exported)(given.z, [0, 1, 2]),
    "explore": lambda given, out: kd.explore(given.network, given.network).parts.student.value,
}  # fmt: skip
ELSEWHERE = {"push"}  # needs the Hub: tests/deployment/test_push.py


def distil(given, out):
    return kd.distill(given.pairs, kd.DistillConfig.preset("smoke", **SMOKE), out, device="cpu").student


def rounded(scores):
    return {name: round(value, 6) for name, value in scores.items() if isinstance(value, float)}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What the calls are given: networks in training mode with a frozen part, and folders."""
    pytest.importorskip("nncf")
    torch.manual_seed(0)
    root, given = tmp_path_factory.mktemp("world"), SimpleNamespace()
    given.network = ConvGenerator(z_dim=8, num_classes=3, resolution=16, widths=(8, 8, 8), embed_dim=4)
    given.big = ConvGenerator(z_dim=8, num_classes=10, resolution=32, widths=(8, 8, 8, 4), embed_dim=4)
    given.folder, given.official, given.real = root / "network", root / "cifar10.pkl", root / "real"
    save_network(given.network, given.folder)
    given.official.write_bytes(official_bytes())
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (given.real / name).mkdir(parents=True)
        for i, image in enumerate(rng.integers(0, 256, (4, 16, 16, 3), np.uint8)):
            Image.fromarray(image).save(given.real / name / f"{i}.png")
    for c in range(2):
        (root / "layout" / f"class_{c}").mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(
            root / "layout" / f"class_{c}" / "image_0.png"
        )
        torch.save(torch.rand(8), root / "layout" / f"class_{c}" / "noise_0.pt")
    given.layout, given.z = root / "layout", torch.randn(3, 8)
    given.pairs = kd.make_pairs(given.network, 4, out=root / "pairs").path
    given.exported = kd.export(given.network, root / "e.xml")
    for network in (given.network, given.big):
        network.train().blocks[0].eval()
    return given


def world(given):
    modes = [module.training for one in (given.network, given.big) for module in one.modules()]
    numbers = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]
    settings = torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.is_grad_enabled()
    return modes, numbers, settings, torch.backends.cudnn.benchmark, torch.get_num_threads()


def test_the_table_has_every_public_call():
    assert sorted({*CALLS, *NONE, *ELSEWHERE}) == sorted(kd.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_neither_changes_the_callers_world_nor_depends_on_it(name, given, tmp_path):
    results = []
    for i, dtype in enumerate((torch.float32, torch.float64)):
        (tmp_path / str(i)).mkdir()
        torch.manual_seed(i + 1)
        np.random.seed(i + 1)
        random.seed(i + 1)
        torch.set_default_dtype(dtype)
        try:
            before = world(given)
            results.append(CALLS[name](given, tmp_path / str(i)))
            assert world(given) == before
        finally:
            torch.set_default_dtype(torch.float32)
    np.testing.assert_equal(*results)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_training_does_not_depend_on_what_it_is_called_in(around, given, tmp_path):
    with around():
        inside = distil(given, tmp_path / "inside")
    assert network_hash(inside) == network_hash(distil(given, tmp_path / "outside"))
    assert not any(p.is_inference() for p in inside.parameters())


THEIRS = dict(MIXED_PRECISION="bf16", GRADIENT_ACCUMULATION_STEPS="4", DYNAMO_BACKEND="eager", USE_FSDP="true",
              USE_DEEPSPEED="true", USE_MEGATRON_LM="true", DOWNCAST_BF16="1")  # fmt: skip


def test_the_environment_does_not_change_a_run(given, tmp_path, monkeypatch):
    expected = network_hash(distil(given, tmp_path / "plain"))
    for name, value in THEIRS.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")  # too late for this process, but told
    AcceleratorState._reset_state(True)  # as in a new process
    before = dict(os.environ)
    assert network_hash(distil(given, tmp_path / "other")) == expected and dict(os.environ) == before
    told = read_json(tmp_path / "other" / "generator" / "provenance.json")
    assert told["precision"] == "float32" and told["environment"] == {"ATEN_CPU_CAPABILITY": "default"}
    assert told["threads"] == torch.get_num_threads()
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    with pytest.raises(kd.InputError, match="ONEDNN_DEFAULT_FPMATH_MODE=BF16 would make float32 less exact"):
        distil(given, tmp_path / "third")


class Told(torch.nn.Module):
    """A network that notes how exactly torch multiplies while it is asked."""

    z_dim, num_classes, resolution = 2, 2, 4

    def forward(self, z, y):
        self.seen = torch.get_float32_matmul_precision(), torch.backends.mkldnn.conv.fp32_precision
        return torch.linspace(-1, 1, 48).view(1, 3, 4, 4).expand(len(z), -1, -1, -1)


def both_interfaces():
    torch.backends.mkldnn.matmul.fp32_precision = torch.backends.mkldnn.conv.fp32_precision = "bf16"


@pytest.mark.parametrize("less_exact", [lambda: torch.set_float32_matmul_precision("medium"), both_interfaces])
@pytest.mark.parametrize("call", [lambda teacher, out: teacher(np.zeros((1, 2), np.float32), [0]),
                                  lambda teacher, out: kd.make_pairs(teacher, 1, out=out)])  # fmt: skip
def test_images_do_not_depend_on_how_exactly_the_caller_multiplies(less_exact, call, tmp_path):
    parts = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
    fresh = [part.fp32_precision for part in parts]
    teacher = kd.black_box(network := Told())
    try:
        less_exact()
        before = [part.fp32_precision for part in parts]
        call(teacher, tmp_path / "pairs")
        assert network.seen[0] == "highest" and network.seen[1] in ("none", "ieee")
        assert [part.fp32_precision for part in parts] == before
    finally:
        torch.set_float32_matmul_precision("highest")
        for part, value in zip(parts, fresh):
            part.fp32_precision = value


def test_two_threads_inside_at_once_leave_the_settings_as_they_were():
    inside, leave = threading.Event(), threading.Event()

    def first():
        with as_imported():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=first)
    torch.set_default_dtype(torch.float64)
    try:
        thread.start()
        inside.wait(60)
        with as_imported():
            leave.set()
            thread.join()  # who came first goes first
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_one_inside_another_puts_back_what_it_found_and_the_first_what_was_before():
    assert torch.get_float32_matmul_precision() == "highest"
    with as_imported():
        torch.set_float32_matmul_precision("high")  # as a training on a GPU does
        with as_imported():  # its tick
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_bare_networks_take_latents_of_any_float(given):
    given.network.eval()
    try:
        expected = given.network(given.z, torch.arange(3))
        assert torch.equal(given.network(given.z.double(), torch.arange(3)), expected)
    finally:
        given.network.train().blocks[0].eval()
