"""Networks on disk: the same values back, a name for what does not fit, never a pickle, nothing lost."""

import ast
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import gsoc_kd
from gsoc_kd.core import weights
from gsoc_kd.core.files import InputError
from gsoc_kd.core.weights import load_network, network_hash, provenance, save_network
from gsoc_kd.evaluation.classifier import Judge
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.distylegan import DiStyleGANGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator

FILES = ["config.json", "model.safetensors", "provenance.json"]


class Tiny(nn.Module):
    """A linear layer and a batch norm: parameters, float buffers and an integer one."""

    def __init__(self, width=3, scale=0.5):
        super().__init__()
        if width == 0:
            raise InputError("width must be at least 1")
        self.config = dict(width=width, scale=scale)
        self.linear, self.norm, self.scale = nn.Linear(width, 2), nn.BatchNorm1d(2), scale

    def forward(self, x):
        return self.norm(self.linear(x)) * self.scale


@pytest.fixture
def tiny():
    """A Tiny whose batch norm has seen something."""
    network = Tiny(width=4, scale=2.0)
    network(torch.randn(8, 4))
    return network


@pytest.fixture
def saved(tiny, tmp_path):
    save_network(tiny, tmp_path / "net", provenance={"command": "test"})
    return tmp_path / "net"


def small_networks():
    torch.manual_seed(0)
    return [
        Judge(num_classes=3, widths=(4, 6, 8)),
        ConvGenerator(z_dim=8, num_classes=3, resolution=16, widths=(8, 8, 4), embed_dim=4),
        DiStyleGANGenerator(z_dim=8, num_classes=3, width=8, project_dim=4),
        StyleGAN2Generator(z_dim=8, w_dim=8, num_classes=3, resolution=16, channel_base=64, channel_max=8),
    ]


def change_tensor(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


# ---------------------------------------------------------------- the round trip


def test_a_network_comes_back_equal_and_ready_for_use(tiny, saved):
    loaded = load_network(saved, (Judge, Tiny))
    assert type(loaded) is Tiny and loaded.config == {"width": 4, "scale": 2.0}
    for name, tensor in tiny.state_dict().items():
        other = loaded.state_dict()[name]
        assert other.dtype == tensor.dtype and torch.equal(other, tensor)
    assert tiny.norm.running_mean.abs().sum() > 0 and tiny.norm.num_batches_tracked == 1  # something to lose
    assert not any(module.training for module in loaded.modules())
    assert not any(p.requires_grad or p.device.type != "cpu" for p in loaded.parameters())
    x = torch.randn(5, 4)
    assert torch.equal(loaded(x), tiny.eval()(x))


def test_what_stands_on_disk(saved):
    assert sorted(p.name for p in saved.iterdir()) == FILES
    assert json.loads((saved / "config.json").read_text()) == {"class": "Tiny", "width": 4, "scale": 2.0}
    assert json.loads((saved / "provenance.json").read_text()) == {"command": "test"}
    assert set(load_file(saved / "model.safetensors")) == {
        "linear.weight",
        "linear.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }


@pytest.mark.parametrize("index", range(4), ids=["Judge", "ConvGenerator", "DiStyleGAN", "StyleGAN2"])
def test_our_own_networks_come_back_with_the_same_hash(tmp_path, index):
    network = small_networks()[index].eval()
    save_network(network, tmp_path / "net")
    loaded = load_network(tmp_path / "net", [type(n) for n in small_networks()])
    assert network_hash(loaded) == network_hash(network) and loaded.config == network.config
    given = (torch.randn(2, 3, 32, 32),) if index == 0 else (torch.randn(2, 8), torch.tensor([0, 2]))
    assert torch.equal(loaded(*given), network(*given))


def test_float16_is_stored_as_half_and_comes_back_as_float32(tiny, tmp_path):
    save_network(tiny, tmp_path / "net", dtype=torch.float16)
    stored = load_file(tmp_path / "net" / "model.safetensors")
    loaded = load_network(tmp_path / "net", (Tiny,))
    for name, tensor in tiny.state_dict().items():
        if tensor.is_floating_point():
            assert stored[name].dtype == torch.float16 and loaded.state_dict()[name].dtype == torch.float32
            assert torch.equal(loaded.state_dict()[name], tensor.half().float())
        else:
            assert stored[name].dtype == torch.int64 and torch.equal(loaded.state_dict()[name], tensor)
    assert not torch.equal(loaded.linear.weight, tiny.linear.weight)  # the rounding is real
    assert next(tiny.parameters()).dtype == torch.float32  # and not done to the original


def test_channels_last_weights_come_back_equal(tmp_path):
    judge = Judge(3, (4, 6)).to(memory_format=torch.channels_last)
    save_network(judge, tmp_path / "net")
    assert network_hash(load_network(tmp_path / "net", (Judge,))) == network_hash(judge)


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_follow_the_umask(tiny, tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        save_network(tiny, tmp_path / "net")
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "net").iterdir()}
    assert modes == dict.fromkeys(FILES, mode)


# ---------------------------------------------------------------- saving


def test_saving_replaces_an_older_network(tiny, saved):
    new = Tiny(width=2)
    save_network(new, saved)
    assert network_hash(load_network(saved, (Tiny,))) == network_hash(new)
    assert json.loads((saved / "provenance.json").read_text()) == {}
    assert [p.name for p in saved.parent.iterdir()] == ["net"]  # nothing left beside it


@pytest.mark.parametrize("name, value", [("linear.weight", float("nan")), ("norm.running_var", float("inf"))])
def test_weights_that_are_no_numbers_are_not_saved(tiny, saved, name, value):
    before = contents(saved)
    tiny.state_dict()[name].view(-1)[1] = value
    with pytest.raises(InputError, match=f"not saved to .*net: {name} holds NaN or infinite values"):
        save_network(tiny, saved)
    assert contents(saved) == before


def test_weights_too_large_for_float16_are_not_saved(tiny, tmp_path):
    tiny.linear.bias.data[0] = 1e5
    with pytest.raises(InputError, match=r"linear.bias holds .* \(in torch.float16 precision\)"):
        save_network(tiny, tmp_path / "net", dtype=torch.float16)
    assert not (tmp_path / "net").exists()
    save_network(tiny, tmp_path / "net")
    assert load_network(tmp_path / "net", (Tiny,)).linear.bias[0] == 1e5


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [0, 1])
def test_a_failing_save_leaves_the_old_network_whole(saved, monkeypatch, at, error):
    before, calls, write = contents(saved), [], weights.write_json

    def failing(path, value):
        calls.append(path)
        if len(calls) > at:
            raise error
        write(path, value)

    monkeypatch.setattr(weights, "write_json", failing)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        save_network(Tiny(width=9), saved)
    assert contents(saved) == before and [p.name for p in saved.parent.iterdir()] == ["net"]
    assert load_network(saved, (Tiny,)).config["width"] == 4


def test_a_config_that_is_not_json_leaves_the_old_network_whole(tiny, saved):
    before = contents(saved)
    tiny.config["scale"] = torch.ones(1)
    with pytest.raises(TypeError):
        save_network(tiny, saved)
    assert contents(saved) == before


def test_nothing_but_a_network_is_ever_replaced(tiny, tmp_path):
    """Replacing removes what stood there; so a folder of photographs is not a place for a network."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(InputError, match="photos holds holiday.jpg, which is no part of a network; move"):
        save_network(tiny, tmp_path / "photos")
    with pytest.raises(InputError, match="holiday.jpg is a file; give the name of a folder"):
        save_network(tiny, tmp_path / "photos" / "holiday.jpg")
    assert contents(tmp_path / "photos") == {"holiday.jpg": b"dear"}
    (tmp_path / "empty").mkdir()
    save_network(tiny, tmp_path / "empty")
    assert sorted(p.name for p in (tmp_path / "empty").iterdir()) == FILES


# ---------------------------------------------------------------- loading what does not fit


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(depth=3), r"config.json does not fit Tiny: .*unexpected keyword argument 'depth'"),
        (dict(width=None), r"config.json does not fit Tiny: "),
        (dict(width="wide"), r"config.json does not fit Tiny: "),
        (dict(width=-1), r"config.json does not fit Tiny: "),
        (dict(width=0), r"config.json does not fit Tiny: width must be at least 1"),
        ({"class": "Huge"}, r"config.json: class 'Huge' is not one of Judge, Tiny"),
        ({"class": None}, r"config.json: class None is not one of"),
        ({"class": ["Tiny"]}, r"config.json: class \['Tiny'\] is not one of"),
        (dict(width=5), r"model.safetensors: linear.weight has shape \(2, 4\), config.json asks for \(2, 5\)"),
    ],
)
def test_a_config_that_does_not_fit_is_named(saved, change, message):
    change_config(saved, **change)
    with pytest.raises(InputError, match=message):
        load_network(saved, (Judge, Tiny))


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", "class None is not one of Tiny"),
        ("3", "class None is not one of Tiny"),
        ("{}", "class None is not one of Tiny"),
        ("{", "config.json is not valid JSON"),
        ("", "config.json is not valid JSON"),
    ],
)
def test_a_damaged_config_is_named(saved, text, message):
    (saved / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_network(saved, (Tiny,))


def set_value(name, value):
    return lambda state: state[name].view(-1).__setitem__(0, value)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("linear.bias"), "tensor linear.bias is missing"),
        (lambda state: state.update(other=torch.ones(2)), "tensor other is not part of Tiny"),
        (lambda state: state.update({"linear.bias": torch.ones(3)}), r"bias has shape \(3,\), .* for \(2,\)"),
        (lambda state: state.update({"linear.bias": torch.ones(2, 1)}), r"linear.bias has shape \(2, 1\)"),
        (lambda state: state.update({"linear.bias": torch.ones(())}), r"linear.bias has shape \(\)"),
        (set_value("linear.weight", float("nan")), "safetensors: linear.weight holds NaN or infinite values"),
        (set_value("norm.running_mean", float("-inf")), "norm.running_mean holds NaN or infinite values"),
        (lambda state: state.clear(), "tensor linear.bias is missing"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved, change, message):
    change_tensor(saved, change)
    with pytest.raises(InputError, match=message):
        load_network(saved, (Tiny,))


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_weights_are_named(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="net/model.safetensors cannot be read .*; restore or make it again"):
        load_network(saved, (Tiny,))


def test_what_is_missing_is_named(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match="net/model.safetensors cannot be read"):
        load_network(saved, (Tiny,))
    (saved / "config.json").unlink()
    with pytest.raises(InputError, match="net/config.json is missing"):
        load_network(saved, (Tiny,))
    for nothing in (tmp_path / "nothing", saved / "provenance.json"):
        with pytest.raises(InputError, match=f"{nothing.name} is not a folder with config.json and model"):
            load_network(nothing, (Tiny,))


def test_a_lost_provenance_does_not_lose_the_network(saved, tiny):
    (saved / "provenance.json").unlink()
    assert network_hash(load_network(saved, (Tiny,))) == network_hash(tiny)


# ---------------------------------------------------------------- the hash


def test_the_hash_is_of_class_config_and_every_tensor(tiny):
    first = network_hash(tiny)
    assert len(first) == 64 and first == network_hash(tiny)
    seen = {first}
    for name, tensor in tiny.state_dict().items():
        before = tensor.clone()
        tensor.view(-1)[-1:] += 1 if tensor.dtype == torch.int64 else 2**-10
        seen.add(network_hash(tiny))
        tensor.copy_(before)
    assert len(seen) == 1 + len(tiny.state_dict()) and network_hash(tiny) == first
    tiny.config["scale"] = 3.0
    seen.add(network_hash(tiny))
    tiny.config["scale"] = 2.0
    other = type("Other", (Tiny,), {})(width=4, scale=2.0)
    other.load_state_dict(tiny.state_dict())
    seen.add(network_hash(other))
    assert len(seen) == 3 + len(tiny.state_dict()) and network_hash(tiny) == first


def test_the_hash_does_not_depend_on_use(tiny):
    first = network_hash(tiny)
    tiny.eval()(torch.randn(3, 4))
    tiny.requires_grad_(False)
    assert network_hash(tiny) == first
    tiny.train()(torch.randn(3, 4))  # batch norm looks
    assert network_hash(tiny) != first


# ---------------------------------------------------------------- provenance


def test_provenance_says_where_weights_come_from():
    said = provenance("gsoc-kd train", "some.zip", seconds=61.7, scores={"accuracy": 0.9}, images=128)
    assert set(said) == {"command", "commit", "data", "hardware", "seconds", "date", "versions", "scores", "images"}
    assert said["command"] == "gsoc-kd train" and said["data"] == "some.zip" and said["seconds"] == 62
    assert said["scores"] == {"accuracy": 0.9} and said["images"] == 128 and said["hardware"]
    assert said["versions"]["torch"] == torch.__version__ and len(said["date"]) == 10
    assert json.loads(json.dumps(said)) == said
    assert provenance("c", "d")["seconds"] is None and provenance("c", "d")["scores"] is None


def git(folder, *words):
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t", *words], check=True, capture_output=True
    )


def test_provenance_names_the_commit_of_this_package_only(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "package" / "weights.py"))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "weights.py").write_text("1")
    assert provenance("c", "d")["commit"] is None  # no repository
    try:
        git(tmp_path, "init")
    except OSError:
        pytest.skip("git is not installed: left out is the commit in a provenance")
    (tmp_path / "other.py").write_text("1")
    (tmp_path / "page.md").write_text("1")
    git(tmp_path, "add", "other.py", "page.md")
    git(tmp_path, "commit", "-m", "a project that has the package in its environment")
    assert provenance("c", "d")["commit"] is None
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-m", "the package")
    commit = provenance("c", "d")["commit"]
    assert len(commit) == 12 and int(commit, 16)
    (tmp_path / "page.md").write_text("2")
    assert provenance("c", "d")["commit"] == commit  # a page is not code
    (tmp_path / "other.py").write_text("2")
    assert provenance("c", "d")["commit"] == commit + "+"  # code differs from it


def test_without_git_there_is_no_commit(monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(weights.subprocess, "run", no_git)
    assert provenance("c", "d")["commit"] is None


# ---------------------------------------------------------------- never a pickle


def test_nothing_that_is_published_is_a_pickle(saved):
    for path in saved.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK")), path  # pickle, torch.save
    embedded = [p for p in (Path(gsoc_kd.__file__).parent / "assets").rglob("*") if p.is_file()]
    assert {p.suffix for p in embedded} <= {".json", ".safetensors", ".npz"}
    for path in embedded:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype != object for name in arrays.files)


def test_no_module_reads_or_writes_pickles():
    """torch.load only with weights_only=True, np.load never with allow_pickle, nobody imports pickle. The one
    exception is inert.py, which reads official files: it uses pickle.Unpickler as a base and nothing else of it."""
    for path in Path(gsoc_kd.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names] + [getattr(node, "module", None)]
                found = {"pickle", "cPickle", "dill", "joblib", "shelve"} & set(names)
                assert found == set() or (path.name, found) == ("inert.py", {"pickle"}), path
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
                assert node.attr in ("Unpickler", "UnpicklingError"), path
            if isinstance(node, ast.Call):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert "allow_pickle" not in keywords or keywords["allow_pickle"] == "False", path
                if ast.unparse(node.func) == "torch.load":
                    assert keywords.get("weights_only") == "True", path
