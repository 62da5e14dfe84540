"""Networks on disk: the same values back, a name for what does not fit, never a pickle, nothing lost."""

import argparse
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
from gsoc_kd.core.files import ASSETS, InputError, read_json, sha256, with_checksum, write_json
from gsoc_kd.core.weights import load_network, network_hash, provenance, save_network
from gsoc_kd.evaluation.classifier import Classifier
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.distylegan import DiStyleGANGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator

try:
    import resource
except ImportError:  # Windows
    resource = None

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


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_names_of_classes_may_be_any_sequence_and_a_network_needs_its_config(tiny, tmp_path):
    for classes, stored in ((range(2), ["0", "1"]), (np.array(["a", "b"]), ["a", "b"]), ((), None), (None, None)):
        tiny.classes = classes
        save_network(tiny, tmp_path / "net")
        assert read_json(tmp_path / "net" / "provenance.json").get("classes") == stored
    for config in (None, argparse.Namespace(width=4)):
        tiny.config = config
        assert len(network_hash(tiny)) == 64
        with pytest.raises(InputError, match="Tiny has no dict `config` of its constructor's arguments"):
            save_network(tiny, tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_a_network_comes_back_equal_and_ready_for_use(tiny, saved):
    loaded = load_network(saved, (Classifier, Tiny))
    assert type(loaded) is Tiny and loaded.config == {"width": 4, "scale": 2.0}
    for name, tensor in tiny.state_dict().items():
        other = loaded.state_dict()[name]
        assert other.dtype == tensor.dtype and torch.equal(other, tensor)
    assert tiny.norm.running_mean.abs().sum() > 0 and tiny.norm.num_batches_tracked == 1  # something to lose
    assert not any(module.training for module in loaded.modules())
    assert not any(p.requires_grad or p.device.type != "cpu" for p in loaded.parameters())
    x = torch.randn(5, 4)
    assert torch.equal(loaded(x), tiny.eval()(x))


def test_what_stands_on_disk_is_no_pickle_and_is_replaced(tiny, saved):
    assert sorted(contents(saved)) == FILES
    config = {"class": "Tiny", "width": 4, "scale": 2.0, "sha256": sha256(saved / "model.safetensors")}
    assert json.loads((saved / "config.json").read_text()) == with_checksum(config)
    assert json.loads((saved / "provenance.json").read_text()) == with_checksum({"command": "test"})
    assert set(load_file(saved / "model.safetensors")) == set(tiny.state_dict())
    assert not any(content.startswith((b"\x80", b"PK")) for content in contents(saved).values())  # pickle, torch.save
    save_network(new := Tiny(width=2), saved)
    assert read_json(saved / "provenance.json", check=True) == {}
    (saved / "provenance.json").unlink()  # loses no network
    assert network_hash(load_network(saved, (Tiny,))) == network_hash(new)
    assert [p.name for p in saved.parent.iterdir()] == ["net"]  # nothing left beside it


@pytest.mark.parametrize(
    "network",
    [
        lambda: Classifier(num_classes=3, widths=(4, 6, 8)),
        lambda: ConvGenerator(z_dim=8, num_classes=3, resolution=16, widths=(8, 8, 4), embed_dim=4),
        lambda: DiStyleGANGenerator(z_dim=8, num_classes=3, width=8, project_dim=4),
        lambda: StyleGAN2Generator(z_dim=8, w_dim=8, num_classes=3, resolution=16, channel_base=64, channel_max=8),
        lambda: Classifier(3, (4, 6)).to(memory_format=torch.channels_last),
    ],
)
def test_our_own_networks_come_back_with_the_same_hash(tmp_path, network):
    network = network().eval()
    save_network(network, tmp_path / "net")
    loaded = load_network(tmp_path / "net", (Classifier, ConvGenerator, DiStyleGANGenerator, StyleGAN2Generator))
    assert network_hash(loaded) == network_hash(network) and loaded.config == network.config
    given = (
        (torch.randn(2, 3, 32, 32),) if isinstance(network, Classifier) else (torch.randn(2, 8), torch.tensor([0, 2]))
    )
    assert torch.equal(loaded(*given), network.to(memory_format=torch.contiguous_format)(*given))


def test_float16_is_stored_as_half_and_comes_back_as_float32(tiny, tmp_path):
    save_network(tiny, tmp_path / "net", dtype=torch.float16)
    stored = load_file(tmp_path / "net" / "model.safetensors")
    loaded = load_network(tmp_path / "net", (Tiny,)).state_dict()
    for name, tensor in tiny.state_dict().items():
        half = tensor.half() if tensor.is_floating_point() else tensor
        assert stored[name].dtype == half.dtype and loaded[name].dtype == tensor.dtype
        assert torch.equal(stored[name], half) and torch.equal(loaded[name], half.to(tensor.dtype))
    assert not torch.equal(loaded["linear.weight"], tiny.linear.weight)  # the rounding is real


def test_a_huge_file_is_refused_before_it_is_read(tiny, tmp_path):
    save_network(tiny, tmp_path / "net")
    with open(tmp_path / "net" / "model.safetensors", "ab") as file:
        file.truncate(1 << 36)  # takes no room on the disk
    with pytest.raises(InputError, match="model.safetensors cannot be read .it has more than 268,435,456 bytes"):
        load_network(tmp_path / "net", (Tiny,))


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600)])
def test_files_follow_the_umask(tiny, tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        save_network(tiny, tmp_path / "net")
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "net").iterdir()}
    assert modes == dict.fromkeys(FILES, mode)


@pytest.mark.parametrize(
    "name, value, dtype",
    [("linear.weight", torch.nan, None), ("norm.running_var", torch.inf, None), ("linear.bias", 1e5, torch.float16)],
)
def test_weights_that_are_no_numbers_are_not_saved(tiny, saved, name, value, dtype):
    before = contents(saved)
    tiny.state_dict()[name].view(-1)[1] = value
    told = f"{name} .{dtype or torch.float32}. holds NaN or infinite values"  # float16: 1e5 is too large
    with pytest.raises(InputError, match=f"not saved to .*net: {told}"):
        save_network(tiny, saved, dtype=dtype)
    assert contents(saved) == before


def test_a_failing_save_leaves_the_old_network_whole(tiny, saved):
    before = contents(saved)
    tiny.config["scale"] = torch.ones(1)
    with pytest.raises(TypeError):  # it is no JSON, when the weights are written already
        save_network(tiny, saved)
    assert contents(saved) == before and [p.name for p in saved.parent.iterdir()] == ["net"]


def test_nothing_but_a_network_is_ever_replaced(tiny, tmp_path):
    """Replacing removes what stood there; so a folder of photographs is not a place for a network."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(InputError, match="photos holds holiday.jpg, which is no part of a network; move"):
        save_network(tiny, tmp_path / "photos")
    with pytest.raises(InputError, match="holiday.jpg is a file; give the name of a folder"):
        save_network(tiny, tmp_path / "photos" / "holiday.jpg")
    assert contents(tmp_path / "photos") == {"holiday.jpg": b"dear"}
    with pytest.raises(InputError, match="net cannot be written"):
        save_network(tiny, tmp_path / "photos" / "holiday.jpg" / "net")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    for _ in range(2):
        save_network(tiny, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and sorted(contents(tmp_path / "linked")) == FILES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "link", "linked", "photos"]
    save_network(tiny, tmp_path / "empty")
    assert sorted(contents(tmp_path / "empty")) == FILES


def rewritten(folder, change=None, **config):
    """`folder` with other tensors or another config, and with the checksums of whoever means it."""
    if change:
        change(state := load_file(folder / "model.safetensors"))
        save_file(state, folder / "model.safetensors")
    old = read_json(folder / "config.json") | {"sha256": sha256(folder / "model.safetensors")}
    write_json(folder / "config.json", {k: v for k, v in {**old, **config}.items() if v != "left out"}, check=True)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"depth": 3}, "config.json does not fit Tiny: .*unexpected keyword argument 'depth'"),
        ({"width": "wide"}, "config.json does not fit Tiny: "),
        ({"width": 0}, "config.json does not fit Tiny: width must be at least 1"),
        ({"width": 5}, r"does not fit config.json: 'linear.weight' has shape .2, 4., and .2, 5. is needed"),
        ({"width": "left out"}, "config.json does not fit Tiny: its keys and values must be those of "),
        ({"scale": "left out"}, "config.json does not fit Tiny: its keys and values must be those of "),
        ({"class": "Huge"}, "config.json: class 'Huge' is not one of Classifier, Tiny"),
        ({"class": ["Tiny"]}, r"config.json: class \['Tiny'\] is not one of"),
        ({"class": "left out"}, "class None is not one of Classifier, Tiny"),
        ({"z_from": []}, r"z_from \[\] is not one of normal, uniform"),
        ({"sha256": "left out"}, "model.safetensors is not the file of config.json"),
    ],
)
def test_a_config_that_does_not_fit_is_named(saved, config, message):
    rewritten(saved, **config)
    with pytest.raises(InputError, match=message):
        load_network(saved, (Classifier, Tiny))


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", '{"class": "Tiny", "width": 4, "scale": 2.0}', "{", "[" * 100_000]
)
def test_a_config_without_its_checksum_is_refused(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(InputError, match="config.json (has no checksum|is not valid JSON)"):
        load_network(saved, (Classifier, Tiny))


@pytest.mark.parametrize(
    "kind, changes",
    [
        (ConvGenerator, {"num_classes": 300_000_000}),
        (ConvGenerator, {"widths": [10**9, 8, 4]}),
        (ConvGenerator, {"z_dim": 10**30, "embed_dim": 10**30}),
        (ConvGenerator, {"widths": [8] * 100_000}),
        (ConvGenerator, {"resolution": 2**4000}),
        (ConvGenerator, {"rank": True}),
        (ConvGenerator, {"block": ["conv"]}),
        (StyleGAN2Generator, {"mapping_layers": 10_000_000}),
        (StyleGAN2Generator, {"num_classes": -1}),
        (StyleGAN2Generator, {"clamp": True}),
        (DiStyleGANGenerator, {"project_dim": 10**9}),
        (Classifier, {"widths": [4] * 100_000}),
        (Classifier, {"widths": "wide"}),
        (Classifier, {"num_classes": -(10**9)}),
    ],
)
def test_no_memory_is_taken_and_no_time_for_what_is_not_stored(tmp_path, kind, changes):
    sizes = {
        ConvGenerator: dict(z_dim=8, num_classes=3, resolution=16, widths=(8, 8, 4), embed_dim=4),
        StyleGAN2Generator: dict(z_dim=8, w_dim=8, num_classes=3, resolution=16, channel_base=64, channel_max=8),
        DiStyleGANGenerator: dict(z_dim=8, num_classes=3, width=8, project_dim=4),
        Classifier: dict(num_classes=3, widths=(4, 6, 8)),
    }
    save_network(kind(**sizes[kind]), tmp_path / "net")
    load_network(tmp_path / "net", (kind,))
    rewritten(tmp_path / "net", **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 0
    with pytest.raises(InputError, match="does not fit") as caught:
        load_network(tmp_path / "net", (kind,))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 0
    assert after - before < 300_000 and len(str(caught.value)) < 1000  # kB


def test_no_flipped_bit_of_a_network_changes_what_is_loaded(saved):
    expected = network_hash(load_network(saved, (Tiny,)))
    for name in ("config.json", "model.safetensors"):
        content = (saved / name).read_bytes()
        for bit in range(0, 8 * len(content), 29):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            (saved / name).write_bytes(damaged)
            try:
                assert network_hash(load_network(saved, (Tiny,))) == expected  # one space for another in the JSON
            except InputError as error:
                assert name in str(error)
        (saved / name).write_bytes(content)


def test_the_callers_settings_neither_matter_nor_change(saved):
    expected = network_hash(load_network(saved, (Tiny,)))
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            loaded = load_network(saved, (Tiny,))
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert network_hash(loaded) == expected and torch.equal(torch.get_rng_state(), state)
    assert loaded.linear.weight.dtype == torch.float32 and not loaded.linear.weight.is_inference()


def test_a_fault_of_the_class_is_not_taken_for_one_of_the_config(saved, monkeypatch):
    monkeypatch.setattr(Tiny, "__init__", lambda self, width, scale: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        load_network(saved, (Tiny,))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda state: state.pop("linear.bias"),
            "(does not fit config.json: 'linear.bias' has shape None|asks for more)",
        ),
        (lambda state: state.update(other=torch.ones(2)), "does not fit config.json: 'other' has shape .2,., and None"),
        (
            lambda state: state.update({"linear.bias": torch.ones(3)}),
            r"'linear.bias' has shape .3,., and .2,. is needed",
        ),
        (
            lambda state: state.update({"linear.bias": torch.ones(())}),
            r"'linear.bias' has shape .., and .2,. is needed",
        ),
        (lambda state: state.update({"norm.num_batches_tracked": torch.ones(0)}), "does not fit config.json"),
        (lambda state: state.update({"linear.bias": torch.ones(2, dtype=torch.int8)}), "'linear.bias' is of type I8"),
        (lambda state: state.update({"linear.bias": torch.ones(2, dtype=torch.bool)}), "'linear.bias' is of type BOOL"),
        (
            lambda state: state.update({"linear.bias": torch.ones(2, dtype=torch.complex64)}),
            "'linear.bias' is of type C64",
        ),
        (lambda state: state.update({"linear.bias": torch.ones(2).to(torch.float8_e4m3fn)}), "is of type F8"),
        (lambda state: state.update({"norm.num_batches_tracked": torch.tensor(1.0)}), "is of type F32, and I64"),
        (lambda state: state.update({"linear.bias": torch.full((2,), 1e300, dtype=torch.float64)}), "NaN or infinite"),
        (lambda state: state["linear.weight"].fill_(torch.nan), "linear.weight .torch.float32. holds NaN or infinite"),
        (lambda state: state["norm.running_mean"].fill_(-torch.inf), "norm.running_mean .torch.float32. holds NaN or"),
    ],
)
def test_tensors_that_do_not_fit_are_named_in_one_line(saved, change, message):
    rewritten(saved, change)
    with pytest.raises(InputError, match=message) as caught:
        load_network(saved, (Tiny,))
    assert "\n" not in str(caught.value)


def test_what_is_truncated_or_missing_is_named(saved, tmp_path):
    path = saved / "model.safetensors"
    content = path.read_bytes()
    for keep in (0, 4, 60, len(content) - 1, None):
        path.unlink() if keep is None else path.write_bytes(content[:keep])
        with pytest.raises(
            InputError, match="net/model.safetensors (cannot|is not the file).*restore or make it again"
        ):
            load_network(saved, (Tiny,))
        if keep is not None:  # by whoever means it
            rewritten(saved)
            with pytest.raises(InputError, match="net/model.safetensors cannot be read .*; restore or make it again"):
                load_network(saved, (Tiny,))
    for nothing in (tmp_path / "nothing", saved / "provenance.json"):
        with pytest.raises(InputError, match=f"{nothing.name}/config.json is missing"):
            load_network(nothing, (Tiny,))


def test_the_hash_is_of_class_config_and_every_tensor_and_not_of_use(tiny):
    seen = {first := network_hash(tiny)}
    tiny.requires_grad_(False).eval()(torch.randn(3, 4))
    assert len(first) == 64 and first == network_hash(tiny)
    for tensor in tiny.state_dict().values():
        before = tensor.clone()
        tensor.view(-1)[-1:] += 1 if tensor.dtype == torch.int64 else 2**-10
        seen.add(network_hash(tiny))
        tensor.copy_(before)
    for other in (Tiny(width=4, scale=3.0), type("Other", (Tiny,), {})(width=4, scale=2.0)):
        other.load_state_dict(tiny.state_dict())
        seen.add(network_hash(other))
    assert len(seen) == 3 + len(tiny.state_dict()) and network_hash(tiny) == first


def test_provenance_says_where_weights_come_from():
    given = dict(command="gsoc-kd train", data="some.zip", seconds=62, scores={"accuracy": 0.9}, images=128)
    said = provenance(**{**given, "seconds": 61.7})
    assert set(said) == {*given, "commit", "hardware", "date", "versions"}
    assert given.items() <= said.items() and said["hardware"] and len(said["date"]) == 10
    assert said["versions"]["torch"] == torch.__version__ and json.loads(json.dumps(said)) == said
    assert provenance("c", "d")["seconds"] is None and provenance("c", "d")["scores"] is None


def test_provenance_names_the_commit_of_this_package_only(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    core = tmp_path / "package" / "core"
    monkeypatch.setattr(weights, "__file__", str(core / "weights.py"))
    core.mkdir(parents=True)
    (core / "weights.py").write_text("1")
    assert provenance("c", "d")["commit"] is None  # no repository
    try:
        git("init")
    except OSError:
        pytest.skip("git is not installed: left out is the commit in a provenance")
    for name in ("other.py", "page.md"):
        (tmp_path / name).write_text("1")
        git("add", name)
    git("commit", "-m", "a project that has the package in its environment")
    assert provenance("c", "d")["commit"] is None
    git("add", "package")
    git("commit", "-m", "the package")
    commit = provenance("c", "d")["commit"]
    assert len(commit) == 12 and int(commit, 16)
    (tmp_path / "page.md").write_text("2")
    assert provenance("c", "d")["commit"] == commit  # a page is not code
    (tmp_path / "other.py").write_text("2")
    assert provenance("c", "d")["commit"] == commit + "+"  # code differs from it
    monkeypatch.setenv("PATH", "")
    assert provenance("c", "d")["commit"] is None  # no git


def test_nothing_that_is_published_is_a_pickle():
    bundled = [p for p in ASSETS.rglob("*") if p.is_file()]
    assert {p.suffix for p in bundled} <= {".json", ".safetensors", ".npz"}
    for path in bundled:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype != object for name in arrays.files)


def test_no_module_reads_or_writes_pickles():
    """torch.load only with weights_only=True, np.load never with allow_pickle, nobody imports pickle. The one
    exception is inert.py, which reads official files: it uses pickle.Unpickler as a base and nothing else of it."""
    for path in Path(gsoc_kd.__file__).parent.rglob("*.py"):
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
