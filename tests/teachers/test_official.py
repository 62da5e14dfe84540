"""Official files: the recorded images come out of them, and nothing that is in them is run."""

import io
import itertools
import json
import os
import pickle
import pickletools
import re

import numpy as np
import pytest
import torch
from stylegan2_official import REFERENCE, SOURCE, Call, config, official_bytes

import gsoc_kd as kd
from gsoc_kd.core.files import InputError, sha256
from gsoc_kd.core.weights import load_network
from gsoc_kd.data.images import CIFAR10_CLASSES, to_uint8
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.teachers.load import load_student, load_teacher
from gsoc_kd.teachers.official import LICENCE, convert, read_official

SYSTEM = f"asks for '{os.system.__module__}.system'"
NO_FILTER = {"buffers": {"resample_filter": torch.ones(4, 4) / 16}}


@pytest.fixture
def file(tmp_path):
    """file(data) -> path of a file with these bytes."""

    def write(data, name="network.pkl"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.fixture
def marker(tmp_path):
    """A file that a hostile pickle makes when it is run."""
    return tmp_path / "something-ran"


def bomb(marker):
    return Call(os.system, f"touch {marker}")


def refused(path, told):
    expected = f"^{re.escape(str(path))} .*nothing in it was run.*{re.escape(told)}"
    with pytest.raises(InputError, match=expected) as caught:
        read_official(path)
    assert str(caught.value).isprintable()


def setting(path, **values):
    return lambda found: found[path]["settings"].update(values)


def weight(path, name="weight", kind="parameters", value=None):
    return lambda found: found[path][kind].update({name: value})


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("case", ["cifar_cond", "uncond_8map", "cond_64"])
def test_generates_the_recorded_images(file, case, protocol):
    network, data = read_official(file(official_bytes(case, protocol=protocol)))
    assert data == "cifar10.zip" and not network.training
    assert not any(p.requires_grad for p in network.parameters())
    told, ours = config(case), network.config  # with the shapes below: all sizes are read from the tensors
    assert ours["clamp"] == told["synthesis_kwargs"]["conv_clamp"]
    assert ours["mapping_layers"] == told["mapping_kwargs"]["num_layers"]
    z, c = (torch.from_numpy(REFERENCE[f"{case}/{name}"]) for name in "zc")
    for psi, noise_mode in itertools.product((1.0, 0.7), ("const", "none")):
        images, recorded = network(z, c, psi, noise_mode), REFERENCE[f"{case}/out/psi{psi}_{noise_mode}"]
        assert images.dtype == torch.float32 and recorded.std() > 0.01
        np.testing.assert_allclose(images, recorded, rtol=0, atol=1e-4)


def test_a_teacher_like_any_other(file):
    path = file(official_bytes())
    teacher = load_teacher(path, psi=0.7, device="cpu")
    assert (teacher.name, teacher.psi, teacher.classes) == ("network.pkl", 0.7, CIFAR10_CLASSES)
    y = REFERENCE["cifar_cond/c"].argmax(axis=1)
    levels = to_uint8(torch.from_numpy(REFERENCE["cifar_cond/out/psi0.7_const"])).numpy().astype(int)
    assert np.abs(teacher(REFERENCE["cifar_cond/z"], y) - levels).max() <= 1
    assert np.abs(load_teacher(path, device="cpu")(REFERENCE["cifar_cond/z"], y) - levels).max() > 5
    assert isinstance(load_student(path), StyleGAN2Generator)


def test_the_label_of_an_unconditional_one_is_ignored(file, tmp_path):
    path = file(official_bytes("uncond_8map"), "cifar10u.pkl")
    convert(path, tmp_path / "folder")
    for source in (path, tmp_path / "folder"):
        teacher = load_teacher(source, device="cpu")
        assert (teacher.num_classes, teacher.classes) == (1, ("0",))
        assert teacher(REFERENCE["uncond_8map/z"], [0] * 4).shape == (4, 16, 16, 3)


def test_saved_on_a_gpu_loads_on_a_cpu(file):
    def length_and(text):
        encoded = text.encode("utf-8")
        return b"X" + len(encoded).to_bytes(4, "little") + encoded

    data, where, there = official_bytes(protocol=2), "X\x03\x00\x00\x00cpu", "X\x06\x00\x00\x00cuda:0"
    inner = {a for code, a, _ in pickletools.genops(data) if isinstance(a, str) and where in a}
    assert len(inner) > 50  # protocol 2: bytes as latin1 text
    for text in inner:
        data = data.replace(length_and(text), length_and(text.replace(where, there)))
    network, _ = read_official(file(data))
    assert torch.equal(network.w_avg, torch.from_numpy(REFERENCE["cifar_cond/state/mapping.w_avg"]))


def test_half_precision_and_channels_last_weights(file):
    def halve(found):
        first, second = (found[f"synthesis.{name}"]["parameters"]["weight"] for name in ("b8.conv0", "b16.conv1"))
        first.data, second.data = first.data.to(memory_format=torch.channels_last), second.data.half()

    network, _ = read_official(file(official_bytes(change=halve)))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    state = network.state_dict()
    assert np.array_equal(state["blocks.1.up.weight"], REFERENCE["cifar_cond/state/synthesis.b8.conv0.weight"])
    half = REFERENCE["cifar_cond/state/synthesis.b16.conv1.weight"].astype(np.float16)
    assert np.array_equal(state["blocks.2.conv.weight"], half.astype(np.float32))


def test_converted_it_is_the_same_teacher(file, tmp_path):
    path = file(official_bytes())
    assert kd.convert(path, tmp_path / "folder") == tmp_path / "folder"
    official, ours = load_teacher(path, device="cpu"), load_teacher(tmp_path / "folder", device="cpu")
    assert ours.digest == official.digest and ours.classes == CIFAR10_CLASSES
    assert isinstance(load_network(tmp_path / "folder", (StyleGAN2Generator,)), StyleGAN2Generator)
    told = json.loads((tmp_path / "folder" / "provenance.json").read_text())
    assert (told["sha256"], told["source"], told["data"]) == (sha256(path), "network.pkl", "cifar10.zip")
    assert told["licence"] == LICENCE and str(tmp_path) not in json.dumps(told)


def test_nothing_is_written_for_a_refused_file(file, tmp_path):
    with pytest.raises(InputError, match="cut short"):
        convert(file(official_bytes()[:-1000]), tmp_path / "folder")
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="holds network.pkl, which is no part of a network"):
        convert(file(official_bytes()), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["network.pkl", "thesis.txt"]


def test_the_bomb_is_live(marker):
    pickle.loads(pickle.dumps(bomb(marker)))
    assert marker.exists()


def in_a_tensor(marker):
    numbers = Call(torch.storage._load_from_bytes, pickle.dumps(bomb(marker)))
    tensor = Call(torch._utils._rebuild_tensor_v2, numbers, 0, (32,), (1,), False, {})
    return official_bytes(change=weight("mapping", "w_avg", "buffers", tensor))


def in_a_saved_tensor(marker, zipped):
    buffer = io.BytesIO()
    torch.save(bomb(marker), buffer, _use_new_zipfile_serialization=zipped)
    return official_bytes(G=Call(torch.storage._load_from_bytes, buffer.getvalue()))


HOSTILE = {
    "top level": (lambda marker: pickle.dumps(bomb(marker)), SYSTEM),
    "protocol 0": (lambda marker: pickle.dumps(bomb(marker), protocol=0), "is a text"),
    "a setting of a layer": (lambda marker: official_bytes(change=setting("mapping.fc0", up=bomb(marker))), SYSTEM),
    "another network": (lambda marker: official_bytes(D=[{"deep": (bomb(marker),)}]), SYSTEM),
    "a tensor": (in_a_tensor, "a tensor in it"),
    "a tensor that torch saved": (lambda marker: in_a_saved_tensor(marker, False), "a tensor in it " + SYSTEM),
    "a zip archive that torch saved": (lambda marker: in_a_saved_tensor(marker, True), "a tensor in it is a zip"),
    "module_src, as an object": (lambda marker: official_bytes(source=bomb(marker)), SYSTEM),
    "module_src, as a text": (lambda marker: official_bytes(source=f"os.system('touch {marker}')"), "does not define"),
    "eval": (lambda marker: pickle.dumps(Call(eval, f"open({str(marker)!r}, 'w')")), "asks for 'builtins.eval'"),
    "getattr": (lambda marker: pickle.dumps(Call(getattr, 1, "real")), "asks for 'builtins.getattr'"),
    "torch.load": (lambda marker: pickle.dumps(Call(torch.load, "x")), "asks for 'torch"),
    "INST": (lambda marker: b"\x80\x02(S'touch %s'\nios\nsystem\n." % str(marker).encode(), "instruction INST"),
}


@pytest.mark.parametrize("where", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(file, marker, where):
    make, reason = HOSTILE[where]
    refused(file(make(marker)), reason)
    assert not marker.exists()


def test_source_text_is_never_run(file, marker):
    source = f"import os\nos.system('touch {marker}')\n{SOURCE}"
    network, _ = read_official(file(official_bytes(source=source)))  # its tensors are good
    assert network.num_classes == 10 and not marker.exists()


@pytest.mark.parametrize("state", [(None, {"value": 1}), {"__call__": 1}])
def test_stand_ins_cannot_be_changed(file, state):
    data = b"\x80\x02ctorch.storage\n_load_from_bytes\n" + pickle.dumps(state, protocol=2)[2:-1] + b"b."
    refused(file(data), "sets the state of")


SHAPES = [((1 << 40,), (0,), 0), ((33,), (1,), 0), ((32,), (1,), 1), ((2,), (-1,), 1), ((2, 2), (1,), 0)]


@pytest.mark.parametrize("size, stride, offset", SHAPES)
def test_tensors_end_where_their_numbers_end(file, size, stride, offset):
    storage = torch.zeros(32).storage()
    tensor = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
    refused(file(official_bytes(x=tensor)), "a tensor in it is larger than its numbers")


def test_limits(file, monkeypatch):
    refused(file(b"\x80\x02" + b"r\xff\xff\xff\x7f" + b"."), "instruction LONG_BINPUT")
    refused(file(b"\x80\x02" + b"N0" * 60_000 + b"N."), "instruction")
    monkeypatch.setattr("gsoc_kd.teachers.official.LARGEST", 10)
    with pytest.raises(InputError, match="has more than 0 GB"):
        read_official(file(official_bytes()))


@pytest.mark.parametrize(
    "data, told",
    [
        *((official_bytes()[:left], "cut short or damaged") for left in (1, 3, 1000, 30_000, -1)),
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is a text"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x89PNG\r\n\x1a\n", "no pickle"),
        (pickle.dumps([1, 2]), "no network G_ema"),
        (pickle.dumps({"G_ema": 3}), "no network G_ema"),
        (official_bytes(source=f"{SOURCE}\nclass SynthesisInput: pass"), "a StyleGAN3 file"),
        (official_bytes(source=f"{SOURCE}\nclass SynthesisInput: ...\nclass SuperresGenerator: ..."), "a StyleGAN-XL"),
        (b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81.", "a TensorFlow file of StyleGAN2; its authors'"),
        (official_bytes(version=7), "format version 7, not 6"),
        (b"\x80\x02c" + b"\x1b[31mos" * 30 + b"\nsystem\n.", r"it asks for '\x1b[31mos\x1b"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_refused_by_name(file, data, told):
    refused(file(data), told)


@pytest.mark.parametrize(
    "change, told",
    [
        (setting("synthesis.b8", architecture="resnet"), "b8.architecture' is 'resnet'; ours knows only 'skip'"),
        (setting("synthesis.b8.conv1", activation="relu"), "'synthesis.b8.conv1.activation' is 'relu'"),
        (setting("synthesis.b8.conv1", use_noise=False), "'synthesis.b8.conv1.use_noise' is False"),
        (setting("synthesis.b8.conv1", conv_clamp=1), "conv_clamp"),
        (setting("synthesis.b8.conv0", up=4), "'synthesis.b8.conv0.up' is 4"),
        (setting("mapping.fc1", bias_gain=1), "'mapping.fc1.bias_gain' is 1; ours knows only 0.01"),
        (setting("", img_channels=1), "'img_channels' is 1; ours knows only 3"),
        (setting("", img_resolution=64), "img_resolution is 64, but its tensors say 32"),
        (setting("", c_dim=7), "c_dim is 7, but its tensors say 10"),
        (lambda found: found["synthesis.b8"].update(NO_FILTER), "not the filter [1,3,3,1]"),
        (weight("synthesis.b8.conv1", value=torch.zeros(24, 24, 5, 5)), "has shape (24, 24, 5, 5), our generator's"),
        (weight("synthesis.b8.conv1", "other", value=torch.zeros(3)), "has shape (3,), our generator's has None"),
        (weight("mapping.fc1", "bias", value=torch.full((32,), float("nan"))), "is no tensor of finite floats"),
        (weight("mapping.fc1", "bias", value="words"), "is no tensor of finite floats"),
        (weight("mapping", "w_avg", "buffers"), "does not fit"),
        (lambda found: found["mapping.fc1"].update(kind="Conv2dLayer"), "'mapping.fc1.' is a 'Conv2dLayer'"),
        (setting("mapping.fc1", _modules=None), "does not fit"),
        (setting("mapping.fc1", _modules=["fc2"]), "does not fit"),
        (lambda found: [one["settings"].update(conv_clamp=10**400) for one in found.values()], "does not fit"),
        (lambda found: found.update({f"synthesis.b{'9' * 5000}": {**found["synthesis.b8"], "buffers": {}}}), "not fit"),
        (lambda found: found.update({"synthesis.\x1b": found["mapping.fc1"]}), r"'synthesis.\x1b.activation' is"),
        (lambda found: found.update({"mapping.fc\x1b": found["mapping.fc1"] | NO_FILTER}), "is not the filter"),
    ],
)
def test_options_that_ours_has_not_are_refused_by_name(file, change, told):
    refused(file(official_bytes(change=change)), told)
