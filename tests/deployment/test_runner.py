"""Reading exported files: what is refused, what survives a kill, on which device it computes."""

import copy as copying
import importlib
import os
import pickle
import shutil

import numpy as np
import pytest
from tiny import in_pytorch, inputs, tiny

import gsoc_kd as kd
from gsoc_kd.core.weights import network_hash, save_network

ov, module = pytest.importorskip("openvino"), importlib.import_module("gsoc_kd.deployment.export")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(network, folder with its s.xml, s.bin and s.onnx)"""
    network, folder = tiny("conv"), tmp_path_factory.mktemp("made")
    network.classes = ("cat", "dog", "eel")
    for name in ("s.xml", "s.onnx"):
        kd.export(network, folder / name)
    return network, folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy of that folder to damage."""
    return shutil.copytree(made[1], tmp_path / "copy")


@pytest.fixture
def quick(made, monkeypatch):
    """Exports take the graph that is there instead of tracing the network again: for all around it."""
    graph = ov.Core().read_model(made[1] / "s.xml")
    monkeypatch.setattr(module, "as_openvino", lambda *_: graph.clone())


@pytest.mark.parametrize("name", ["s.xml", "s.onnx"])
def test_other_widths_of_z_are_refused_by_the_file_itself(made, name):
    compiled = ov.Core().compile_model(made[1] / name, "CPU")
    for width in (7, 9, 80):
        with pytest.raises(RuntimeError):
            compiled({"z": np.zeros((2, width), np.float32), "y": np.zeros(2, np.int64)})
    assert compiled({"z": np.zeros((5, 8), np.float32), "y": np.zeros(5, np.int64)})[0].shape == (5, 8, 8, 3)


def test_copies_of_a_runner_generate_the_same(made, monkeypatch, tmp_path):
    monkeypatch.chdir(made[1])
    runner = kd.load_exported("s.xml", threads=1)
    told = pickle.dumps(runner)
    monkeypatch.chdir(tmp_path)
    for other in (pickle.loads(told), copying.deepcopy(runner)):
        assert (other.classes, other.threads) == (runner.classes, 1)
        assert np.array_equal(other(*inputs(runner, 5)), runner(*inputs(runner, 5)))


@pytest.mark.parametrize("scale, told", [(0.5, "values from"), (float("nan"), "with NaN")])
def test_a_network_that_gives_no_images_is_not_exported(tmp_path, scale, told):
    network = tiny("conv")
    network.register_forward_hook(lambda module, given, x: (x + 1) * scale)
    with pytest.raises(kd.InputError, match=told):
        kd.export(network, tmp_path / "s.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [1e20, -1e30, np.nan, np.inf])
def test_latents_that_no_network_can_use_are_refused(made, bad):
    runner = kd.load_exported(made[1] / "s.xml")
    z, y = inputs(runner, 3)
    z[1, 2] = bad
    with pytest.raises(kd.InputError, match="row 1"):
        runner(z, y)
    for labels in ([[0.5, 0.5, 0]] * 3, [0.5, 1, 2], [0, 1, -1]):
        with pytest.raises(kd.InputError, match="y must be whole numbers|label -1"):
            runner(inputs(runner, 3)[0], labels)


def test_class_names_travel_with_networks_into_files(made, tmp_path, quick):
    network, folder = made
    for name in ("s.xml", "s.onnx"):
        assert kd.load_exported(folder / name).classes == ("cat", "dog", "eel")
    save_network(network, tmp_path / "run" / "generator", {"classes": ["x", "y", "z"]})
    loaded = kd.load_student(tmp_path / "run")  # the network, not its folder, is exported
    assert kd.load_exported(kd.export(loaded, tmp_path / "t.xml")).classes == ("x", "y", "z")
    assert kd.black_box(loaded).classes == ("x", "y", "z")
    network = tiny("conv")
    for wrong in (("one", "two"), ("same", "same", "other")):
        network.classes = wrong
        with pytest.raises(kd.InputError, match="classes must be 3 different names"):
            kd.export(network, tmp_path / "u.xml")


def test_the_kind_of_noise_travels_too(tmp_path, quick):
    network = tiny("conv")
    network.z_from = "uniform"
    assert kd.load_exported(kd.export(network, tmp_path / "u.xml")).z_from == "uniform"


def test_devices(made):
    network, path = made[0], made[1] / "s.xml"
    for device in ("CPU", "AUTO", "AUTO:CPU"):
        runner = kd.load_exported(path, device=device)
        z, y = inputs(runner, 5)
        assert np.abs(runner(z, y).astype(int) - in_pytorch(network, z, y)).max() <= 1 and runner.device == device
    for device in ("cpu", "TPU", "", None, 3, "CPU:7"):
        with pytest.raises(kd.InputError, match="device must be AUTO or one of .*CPU"):
            kd.load_exported(path, device=device)


@pytest.mark.parametrize("name", ["s.xml", "s.bin", "s.onnx"])
def test_a_flipped_bit_anywhere_is_found(copy, name):
    """In the notes, in the graph, in the weights: never other images."""
    whole = (copy / name).read_bytes()
    target = copy / name.replace(".bin", ".xml")
    for place in np.random.default_rng(0).integers(len(whole), size=25):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        (copy / name).write_bytes(damaged)
        with pytest.raises(kd.InputError, match="damaged|is not the one|not a file that"):
            kd.load_exported(target)
    (copy / name).write_bytes(whole)
    assert kd.load_exported(target).num_classes == 3


def test_bigger_or_stranger_files_are_refused(copy):
    (copy / "s.xml").write_bytes(b"<net>" + b" " * 1000)
    with pytest.raises(kd.InputError, match="not a file that"):
        kd.load_exported(copy / "s.xml")
    os.truncate(copy / "s.xml", 2**40)  # a hole, not bytes
    with pytest.raises(kd.InputError, match="not a file that"):
        kd.load_exported(copy / "s.xml")
    for path in (copy, copy / "none.xml", "bad\0name.xml", 3):
        with pytest.raises(kd.InputError):
            kd.load_exported(path)


class Killed(BaseException):
    """Stands for a kill: nothing that comes later in the program runs."""


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("at", [0, 1])
def test_an_export_killed_at_a_rename_blocks_nothing_and_leaves_nothing(made, tmp_path, monkeypatch, quick, at, older):
    path, renames = tmp_path / "s.xml", []
    other = tiny("residual")
    if older:
        for end in (".xml", ".bin"):
            shutil.copy(made[1] / f"s{end}", tmp_path)

    def replace(*names, real=os.replace):
        if len(renames) == at:
            raise Killed
        renames.append(real(*names))

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", replace)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill cleans up nothing
        kd.export(other, path)
    (left,) = tmp_path.glob(".s.xml.*.tmp")
    left.rename(tmp_path / ".s.xml.4194304999.tmp")  # of a process that lives no more
    if at == 1:  # the xml is in its place: whoever reads it finds the bin
        assert kd.load_exported(path).digest == network_hash(other)
    elif older:
        assert kd.load_exported(path).digest == network_hash(made[0])
    assert kd.load_exported(kd.export(other, path)).digest == network_hash(other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.bin", "s.xml"]
