"""Exported students: the same images as PyTorch's, 8-bit ones close to them, and what must be refused."""

import sys

import numpy as np
import pytest
import torch
from tiny import in_pytorch, inputs, tiny

import gsoc_kd as kd
from gsoc_kd.core.weights import network_hash, save_network
from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator

ov = pytest.importorskip("openvino")
pytest.importorskip("nncf")
KINDS = "conv", "residual", "distylegan", "stylegan2"


def grey_levels(runner, network, count):
    """(largest, mean) difference between both on the same inputs; the images must not be flat."""
    z, y = inputs(runner, count)
    found, expected = runner(z, y), in_pytorch(network, z, y)
    assert found.shape == expected.shape and found.dtype == np.uint8 and expected.std() > 5
    difference = np.abs(found.astype(int) - expected)
    return difference.max(), difference.mean()


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    """(network, path of its fp32 export, Runner). Exporting leaves a network that is being trained as it is."""
    network, path = tiny("conv").train(), tmp_path_factory.mktemp("conv") / "student.xml"
    before = network_hash(network)
    assert kd.export(network, path) == path
    assert network.training and all(p.requires_grad for p in network.parameters()) and network_hash(network) == before
    return network.eval(), path, kd.load_exported(path)


def test_the_bundled_student_generates_the_same_images(tmp_path):
    runner = kd.load_exported(kd.export("embedded", tmp_path / "student.xml"), threads=1)
    student = kd.load_student()
    assert (runner.z_dim, runner.num_classes, runner.resolution) == (student.z_dim, 10, 32)
    assert runner.classes == CIFAR10_CLASSES and runner.digest == network_hash(student)
    for count in (1, 7):
        largest, mean = grey_levels(runner, student, count)
        assert largest <= 1 and mean < 0.01
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 1_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_generator_at_any_batch(kind, conv, tmp_path):
    network = tiny(kind)
    runner = conv[2] if kind == "conv" else kd.load_exported(kd.export(network, tmp_path / "s.xml"))
    for count in (1, 7, 300):  # 300: more than goes through at once
        largest, mean = grey_levels(runner, network, count)
        assert largest <= 1 and mean < 0.01
    assert runner.classes == ("0", "1", "2") and runner.precision == "fp32"
    assert runner(*inputs(runner, 0)).shape == (0, 8, 8, 3)


def test_a_run_by_its_folder_with_its_classes_and_half_the_bytes_in_fp16(conv, tmp_path):
    network, path, _ = conv
    save_network(network, tmp_path / "run" / "generator", {"classes": ["a", "b", "c"]})
    runner = kd.load_exported(kd.export(str(tmp_path / "run"), tmp_path / "half.xml", "fp16"))
    assert runner.classes == ("a", "b", "c") and runner.precision == "fp16"
    assert grey_levels(runner, network, 7)[0] <= 3
    assert (tmp_path / "half.bin").stat().st_size < 0.6 * path.with_suffix(".bin").stat().st_size


@pytest.mark.parametrize("kind", ["conv", "distylegan", "stylegan2"])
def test_int8_convolves_in_8_bits_and_stays_close(kind, tmp_path):
    network = tiny(kind)
    runner = kd.load_exported(kd.export(network, tmp_path / "s.xml", "int8", seed=5))
    largest, mean = grey_levels(runner, network, 60)
    assert runner.digest == f"{network_hash(network)} int8"  # its pairs are not mixed with the network's
    assert 0 < mean < (6 if kind == "stylegan2" else 1)  # grey levels
    ran = [op.get_rt_info() for op in runner.model.get_runtime_model().get_ordered_ops()]
    ran = [op["runtimePrecision"].astype(str) for op in ran if op["layerType"].astype(str) == "Convolution"]
    if kind == "stylegan2":
        assert {"u8", "i8"} & set(ran)
    else:  # all but the one that gives the three colours
        assert len(ran) > 1 and set(ran[:-1]) <= {"u8", "i8"} and ran[-1] == "f32"
    if kind == "conv":  # a function of the seed
        weights = {seed: kd.export(network, tmp_path / f"{seed}.xml", "int8", seed=seed) for seed in (5, 6)}
        bins = [path.with_suffix(".bin").read_bytes() for path in (runner.path, *weights.values())]
        images = [kd.load_exported(path)(*inputs(runner, 30)).tobytes() for path in weights.values()]
        first = runner(*inputs(runner, 30)).tobytes()
        assert bins[0] == bins[1] and first == images[0] and (bins[1], images[0]) != (bins[2], images[1])


def test_onnx_in_openvino_and_in_onnxruntime(conv, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, _, runner = conv
    path = kd.export(network, tmp_path / "student.onnx")
    again = kd.load_exported(path)
    assert (again.classes, again.digest, again.z_dim) == (runner.classes, runner.digest, runner.z_dim)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 7):
        assert grey_levels(again, network, count)[0] <= 1
        z, y = inputs(runner, count)
        (found,) = session.run(["images"], {"z": z, "y": y})
        assert found.dtype == np.uint8 and np.abs(found.astype(int) - in_pytorch(network, z, y)).max() <= 1


def test_a_runner_is_a_black_box(conv):
    network, _, runner = conv
    box, (z, y) = kd.black_box(runner), inputs(runner, 4)
    assert (box.z_dim, box.num_classes, box.resolution, box.classes) == (8, 3, 8, ("0", "1", "2"))
    assert box.name == "student (fp32)" and box.digest == network_hash(network)
    assert np.array_equal(box(torch.from_numpy(z), y.tolist()), runner(z, y))
    with pytest.raises(kd.InputError, match="label 3 in row 3 is out of range"):  # checked as any Teacher's
        runner(z, [0, 1, 2, 3])


def test_files_that_export_did_not_write_are_kept_and_refused(conv, tmp_path):
    (tmp_path / "foreign.xml").write_text("<net><rt_info><other value='1'/></rt_info></net>")
    (tmp_path / "notes.xml").write_text("<notes/>")
    (tmp_path / "data.bin").write_bytes(b"precious")
    (tmp_path / "notes.onnx").write_bytes(b"not a model")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("foreign.xml", "notes.xml", "data.xml", "notes.onnx"):
        with pytest.raises(kd.InputError, match="not an export of gsoc_kd"):
            kd.export(conv[0], tmp_path / name)
    for name in ("foreign.xml", "notes.xml", "notes.onnx"):
        with pytest.raises(kd.InputError, match="is not a file that gsoc_kd.export wrote"):
            kd.load_exported(tmp_path / name)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    with pytest.raises(kd.InputError, match="does not exist"):
        kd.load_exported(tmp_path / "none.xml")


def test_a_failed_export_leaves_the_old_pair_and_a_mixed_pair_is_refused_and_replaced(conv, tmp_path, monkeypatch):
    other, path = tiny("distylegan"), tmp_path / "s.xml"
    for end in (".xml", ".bin"):
        path.with_suffix(end).write_bytes(conv[1].with_suffix(end).read_bytes())
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(kd.InputError, match="disk full"):
        patch.setattr(ov, "save_model", full)
        kd.export(other, path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    path.with_suffix(".bin").write_bytes(before[path.with_suffix(".bin")][:-1] + b"!")
    with pytest.raises(kd.InputError, match="s.bin is missing or is not the one"):
        kd.load_exported(path)
    assert kd.load_exported(kd.export(other, path)).digest == network_hash(other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.bin", "s.xml"]


def test_bad_words_are_refused(conv, tmp_path):
    for student, path, precision, told in (
        (conv[0], "s.pt", "fp32", "must end in .xml"),
        (conv[0], "s.xml", "int4", "fp32 or fp16 or int8, not 'int4'"),
        (conv[0], "s.onnx", "int8", "the precision of .onnx files is fp32, not 'int8'"),
        (StyleGAN2Generator(8, 8, 0, 16, 128, 8), "s.xml", "fp32", "no classes"),
        (3, "s.xml", "fp32", "a student is a folder or a network, not int"),
    ):
        with pytest.raises(kd.InputError, match=told):
            kd.export(student, tmp_path / path, precision)
    with pytest.raises(kd.InputError, match="threads must be a whole number of at least 1, not 0"):
        kd.load_exported(conv[1], threads=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module, path, precision",
    [("openvino", "s.xml", "fp32"), ("nncf", "s.xml", "int8"), ("onnxscript", "s.onnx", "fp32")],
)
def test_without_the_extra_one_line_says_how_to_get_it(conv, tmp_path, monkeypatch, module, path, precision):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(kd.InputError, match=rf'^{module} is not installed; .*pip install "gsoc-kd\[deploy\]"$'):
        kd.export(conv[0], tmp_path / path, precision)
    if module == "openvino":
        with pytest.raises(kd.InputError, match=r"gsoc-kd\[deploy\]"):
            kd.load_exported(conv[1])
    assert list(tmp_path.iterdir()) == []
