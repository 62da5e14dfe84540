"""Exported students: the same pictures as PyTorch's, 8-bit ones close to them, and what must be refused."""

import sys

import numpy as np
import pytest
import torch
from gsoc_kd.teachers.black_box import black_box

import gsoc_kd as kd
from gsoc_kd.core.weights import network_hash, save_network
from gsoc_kd.data.images import CIFAR10_CLASSES, to_uint8
from gsoc_kd.deployment.export import Pictures
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.distylegan import DiStyleGANGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator

ov = pytest.importorskip("openvino")
pytest.importorskip("nncf")


def lively(network):
    """Batch norms with statistics unlike the initial ones, noise that is not nothing, contrast in the picture."""
    network.eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif name.endswith("running_var"):
                tensor.uniform_(0.2, 1.5)
            elif name.endswith("noise_strength"):
                tensor.fill_(0.3)
        if hasattr(network, "to_rgb"):
            contrast = network(torch.randn(60, network.z_dim), torch.arange(60) % network.num_classes).std()
            for parameter in network.to_rgb.parameters():
                parameter.mul_(0.4 / contrast)
    return network


def tiny(kind):
    torch.manual_seed(1)
    return lively(
        {
            "conv": lambda: ConvGenerator(8, 3, 16, (8, 8, 8), 4, rank=4),
            "residual": lambda: ConvGenerator(8, 3, 16, (8, 8, 8), 4, block="residual"),
            "separable": lambda: ConvGenerator(8, 3, 16, (8, 8, 8), 4, block="separable", skip_z=False),
            "distylegan": lambda: DiStyleGANGenerator(8, 3, 16, 8, 8),
            "stylegan2": lambda: StyleGAN2Generator(8, 8, 3, 16, 128, 8),
        }[kind]()
    )


def inputs(runner, count, seed=0):
    z = np.random.default_rng(seed).standard_normal((count, runner.z_dim)).astype(np.float32)
    return z, np.arange(count) % runner.num_classes


def in_pytorch(network, z, y):
    with torch.inference_mode():
        return to_uint8(network(torch.from_numpy(z), torch.from_numpy(y))).numpy()


def grey_levels(runner, network, count):
    """(largest, mean) difference between both on the same inputs; the pictures must not be flat."""
    z, y = inputs(runner, count)
    drawn, expected = runner(z, y), in_pytorch(network, z, y)
    assert drawn.shape == expected.shape and drawn.dtype == np.uint8 and expected.std() > 5
    difference = np.abs(drawn.astype(int) - expected)
    return difference.max(), difference.mean()


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    """(network, path of its fp32 export, Runner)."""
    network, path = tiny("conv"), tmp_path_factory.mktemp("conv") / "student.xml"
    assert kd.export(network, path) == path
    return network, path, kd.load_exported(path)


def test_the_embedded_student_draws_the_same_pictures(tmp_path):
    runner = kd.load_exported(kd.export("embedded", tmp_path / "student.xml"), threads=1)
    student = kd.load_student()
    assert (runner.z_dim, runner.num_classes, runner.resolution) == (student.z_dim, 10, 32)
    assert runner.classes == CIFAR10_CLASSES and runner.digest == network_hash(student)
    for count in (1, 7):
        largest, mean = grey_levels(runner, student, count)
        assert largest <= 1 and mean < 0.01
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 1_000_000


@pytest.mark.parametrize("kind", ["conv", "separable", "residual", "distylegan", "stylegan2"])
def test_every_kind_of_generator_at_any_batch(kind, tmp_path):
    network = tiny(kind)
    runner = kd.load_exported(kd.export(network, tmp_path / "s.xml"))
    for count in (1, 7, 300):  # 300: more than goes through at once
        largest, mean = grey_levels(runner, network, count)
        assert largest <= 1 and mean < 0.01
    assert runner.classes == ("0", "1", "2")
    assert runner(*inputs(runner, 0)).shape == (0, 16, 16, 3)


def test_half_the_bytes_in_fp16(conv, tmp_path):
    network, path, _ = conv
    runner = kd.load_exported(kd.export(network, tmp_path / "half.xml", "fp16"))
    assert grey_levels(runner, network, 7)[0] <= 3 and runner.precision == "fp16"
    assert (tmp_path / "half.bin").stat().st_size < 0.6 * path.with_suffix(".bin").stat().st_size


@pytest.mark.parametrize("kind", ["conv", "distylegan", "stylegan2"])
def test_int8_convolves_in_8_bits_and_stays_close(kind, tmp_path):
    network = tiny(kind)
    runner = kd.load_exported(kd.export(network, tmp_path / "s.xml", "int8"))
    largest, mean = grey_levels(runner, network, 60)
    assert 0 < mean < (6 if kind == "stylegan2" else 1)  # grey levels; 3.7 and 0.5 when this was written
    ran = [op.get_rt_info() for op in runner.model.get_runtime_model().get_ordered_ops()]
    ran = [op["runtimePrecision"].astype(str) for op in ran if op["layerType"].astype(str) == "Convolution"]
    if kind == "stylegan2":
        assert {"u8", "i8"} & set(ran)
    else:  # all but the one that gives the three colours
        assert len(ran) > 1 and set(ran[:-1]) <= {"u8", "i8"} and ran[-1] == "f32"


def test_int8_is_a_function_of_the_seed(conv, tmp_path):
    files = [kd.export(conv[0], tmp_path / f"{i}.xml", "int8", seed=seed) for i, seed in enumerate((5, 5, 6))]
    one, same, other = (
        f.with_suffix(".bin").read_bytes() + kd.load_exported(f)(*inputs(conv[2], 30)).tobytes() for f in files
    )
    assert one == same != other


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
        (drawn,) = session.run(["images"], {"z": z, "y": y})
        assert drawn.dtype == np.uint8 and np.abs(drawn.astype(int) - in_pytorch(network, z, y)).max() <= 1


def test_export_leaves_a_network_in_training_as_it_is(tmp_path):
    network = tiny("conv").train().requires_grad_(True)
    before = network_hash(network)
    kd.export(network, tmp_path / "s.xml")
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert network_hash(network) == before
    assert grey_levels(kd.load_exported(tmp_path / "s.xml"), network.eval(), 7)[0] <= 1


def test_folders_of_networks_and_runs_with_their_classes(tmp_path):
    save_network(tiny("conv"), tmp_path / "run" / "student", {"classes": ["a", "b", "c"]})
    for name, source in (("run", tmp_path / "run"), ("folder", str(tmp_path / "run" / "student"))):
        runner = kd.load_exported(kd.export(source, tmp_path / f"{name}.xml"))
        assert runner.classes == ("a", "b", "c") and grey_levels(runner, tiny("conv"), 3)[0] <= 1


def test_a_runner_is_a_black_box(conv, tmp_path):
    network, _, runner = conv
    box = black_box(runner)
    assert (box.z_dim, box.num_classes, box.resolution, box.classes) == (8, 3, 16, ("0", "1", "2"))
    pairs = kd.make_pairs(runner, per_class=4, out=tmp_path / "pairs")
    expected = in_pytorch(network, pairs.latents.astype(np.float32), pairs.labels)
    assert np.abs(pairs.images.astype(int) - expected).max() <= 1


def test_what_goes_into_a_runner_is_checked(conv):
    _, _, runner = conv
    z, y = inputs(runner, 4)
    for bad_z, bad_y, told in (
        (z, [0, 1, 2, 3], "label 3 in row 3 is out of range"),
        (z, [0, -1, 2, 0], "label -1 in row 1"),
        (z, y[:3], "4 latents but 3 labels"),
        (z, y.astype(float), "whole numbers"),
        (z, y[:, None], "whole numbers of shape"),
        (z[:, :7], y, r"shape \(N, 8\)"),
        (z[0], y[:1], r"shape \(N, 8\)"),
        (np.where(z == z[2, 0], np.nan, z), y, "not finite in row 2"),
    ):
        with pytest.raises(kd.InputError, match=told):
            runner(bad_z, bad_y)


def test_files_that_export_did_not_write_are_kept_and_refused(conv, tmp_path):
    network, path, _ = conv
    model = ov.convert_model(torch.nn.Linear(2, 2), example_input=torch.zeros(1, 2))
    ov.save_model(model, tmp_path / "foreign.xml")
    (tmp_path / "notes.xml").write_text("<notes/>")
    (tmp_path / "data.bin").write_bytes(b"precious")
    (tmp_path / "notes.onnx").write_bytes(b"not a model")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("foreign.xml", "notes.xml", "data.xml", "notes.onnx"):
        with pytest.raises(kd.InputError, match="not an export of gsoc_kd"):
            kd.export(network, tmp_path / name)
    for name in ("foreign.xml", "notes.xml", "notes.onnx"):
        with pytest.raises(kd.InputError, match="is not a file that gsoc_kd.export wrote"):
            kd.load_exported(tmp_path / name)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    with pytest.raises(kd.InputError, match="does not exist"):
        kd.load_exported(tmp_path / "none.xml")


def test_a_mixed_pair_is_refused_and_a_new_export_replaces_it(conv, tmp_path):
    network, path, _ = conv
    mine = kd.export(tiny("distylegan"), tmp_path / "s.xml")
    mine.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes())
    with pytest.raises(kd.InputError, match="s.bin is missing or is not the one"):
        kd.load_exported(mine)
    assert kd.load_exported(kd.export(network, mine)).digest == network_hash(network)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.bin", "s.xml"]


def test_a_failed_export_leaves_the_old_pair(conv, tmp_path, monkeypatch):
    path = kd.export(conv[0], tmp_path / "s.xml")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(ov, "save_model", full)
    with pytest.raises(OSError, match="disk full"):
        kd.export(tiny("distylegan"), path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_bad_words_are_refused(conv, tmp_path):
    for path, precision, told in (
        ("s.pt", "fp32", "must end in .xml"),
        ("s.xml", "int4", "fp32, fp16, int8"),
        ("s.onnx", "int8", "written in fp32"),
    ):
        with pytest.raises(kd.InputError, match=told):
            kd.export(conv[0], tmp_path / path, precision)
    with pytest.raises(kd.InputError, match="no classes"):
        kd.export(StyleGAN2Generator(8, 8, 0, 16, 128, 8), tmp_path / "s.xml")
    with pytest.raises(kd.InputError, match="a student is a folder or a network, not int"):
        kd.export(3, tmp_path / "s.xml")
    with pytest.raises(kd.InputError, match="threads"):
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


def test_pictures_are_cast_as_everywhere(conv):
    network, _, runner = conv
    z, y = map(torch.from_numpy, inputs(runner, 5))
    assert torch.equal(Pictures(network)(z, y), torch.from_numpy(in_pytorch(network, z.numpy(), y.numpy())))
