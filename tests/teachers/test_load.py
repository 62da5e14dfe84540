"""The black box: what goes in is checked, what comes out is uint8, and every wrong thing has its message."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gsoc_kd.core.files import InputError, read_json
from gsoc_kd.core.weights import network_hash, save_network
from gsoc_kd.data.images import CIFAR10_CLASSES, to_uint8
from gsoc_kd.evaluation.table import cost
from gsoc_kd.explorer.points import samples
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.teachers import load as module
from gsoc_kd.teachers.black_box import Teacher, black_box
from gsoc_kd.teachers.load import EMBEDDED, load_student, load_teacher, read_network


def draw(z, y):
    """Class y in red, the first number of z in green: (N, 8, 8, 3)."""
    images = np.zeros((len(z), 8, 8, 3), np.uint8)
    images[..., 0] = y.numpy()[:, None, None] * 20
    images[..., 1] = (z[:, 0].numpy()[:, None, None] * 10 + 100).astype(np.uint8)
    return images


def tiny(z_dim=6, num_classes=3):
    torch.manual_seed(0)
    return ConvGenerator(z_dim, num_classes, 8, (8, 4), 4).eval()


def tiny_stylegan(num_classes=3):
    torch.manual_seed(0)
    network = StyleGAN2Generator(6, 6, num_classes, resolution=8, channel_base=64, channel_max=8)
    network.w_avg.copy_(torch.linspace(-1, 1, 6))
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return network


def grey(*shape):
    return np.zeros(shape, np.uint8)


def z(count, z_dim=6):
    return torch.randn(count, z_dim, generator=torch.Generator().manual_seed(1))


TEACHER = Teacher(draw, z_dim=4, num_classes=5, resolution=8)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, torch.float32, torch.bfloat16])
def test_arrays_and_tensors_give_the_same_images(kind):
    values = [[0.5, 1, 2, 3], [-1.5, 0, 0, 0]]
    noise = torch.tensor(values, dtype=kind) if isinstance(kind, torch.dtype) else np.array(values, kind)
    for labels in ([4, 0], np.array([4, 0], np.uint8), torch.tensor([4, 0])):
        images = TEACHER(noise, labels)
        assert type(images) is np.ndarray and images.dtype == np.uint8 and images.shape == (2, 8, 8, 3)
        assert images[:, 3, 3].tolist() == [[80, 105, 0], [0, 85, 0]]
    assert TEACHER(np.zeros((0, 4)), []).shape == (0, 8, 8, 3)


def test_the_callable_is_handed_cpu_tensors_of_fixed_types():
    seen = []
    teacher = Teacher(lambda z, y: seen.append((z, y)) or torch.from_numpy(draw(z, y)), 4, 5, 8)
    source = np.full((2, 4), 0.1)
    assert np.array_equal(teacher(source, [1, 2]), TEACHER(source, [1, 2]))
    ((noise, labels),) = seen
    assert noise.dtype == torch.float32 and labels.dtype == torch.int64
    assert torch.equal(noise, torch.full((2, 4), 0.1)) and labels.tolist() == [1, 2]
    noise.zero_()  # a copy: the caller's array stays
    assert (source == 0.1).all()


def test_wrong_input_is_refused():
    for noise, labels, message in (
        (np.zeros((2, 3)), [0, 1], r"z must be floats of shape \(N, 4\), not float64 \(2, 3\)"),
        (np.zeros(4), [0], r"\(N, 4\), not float64 \(4,\)"),
        (np.zeros((2, 4), int), [0, 1], r"z must be floats .* int64 \(2, 4\)"),
        (torch.zeros(2, 4, dtype=torch.int32), [0, 1], "z must be floats .* int32"),
        (np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]]), [0, 1], r"z is not finite in row 1 \(1 of 2 rows\)"),
        (np.full((1, 4), 1e300), [0], "z is not finite in row 0"),
        (np.zeros((2, 4)), [0, 5], "label 5 in row 1 is out of range: classes are 0 to 4"),
        (np.zeros((2, 4)), [-1, 0], "label -1 in row 0"),
        (np.zeros((2, 4)), [0.0, 1.0], r"y must be whole numbers of shape \(N,\), not float64"),
        (np.zeros((2, 4)), [True, False], "y must be whole numbers .* bool"),
        (np.zeros((2, 4)), [[0], [1]], r"y must be whole numbers .* \(2, 1\)"),
        (np.zeros((2, 4)), [0, 1, 2], "2 latents but 3 labels"),
    ):
        with pytest.raises(InputError, match=message):
            TEACHER(noise, labels)


def test_wrong_output_is_refused():
    for output, message in (
        (np.zeros((2, 8, 8, 3)), r"returned float64 \(2, 8, 8, 3\), .*gsoc_kd.data.images.to_uint8"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.bfloat16), r"returned bfloat16 \(2, 3, 8, 8\).*images.to_uint8"),
        (grey(2, 3, 8, 8), r"\(2, 3, 8, 8\), .* channels last"),
        (grey(2, 16, 16, 3), r"\(2, 16, 16, 3\), expected uint8 \(2, 8, 8, 3\)"),
        (grey(1, 8, 8, 3), r"\(1, 8, 8, 3\), expected uint8 \(2, 8, 8, 3\)"),
        (grey(2, 8, 8), r"\(2, 8, 8\), expected"),
        ([0], "returned list, expected .* as an array or a tensor"),
    ):
        with pytest.raises(InputError, match="teacher 'mine' .*" + message):
            replace(TEACHER, draw=lambda z, y, output=output: output, name="mine")(np.zeros((2, 4)), [0, 1])


def test_a_network_generates_in_batches_in_eval_mode_and_keeps_its_own():
    network, sizes = tiny().train(), []
    network.blocks[0].eval()  # one part is frozen
    network.register_forward_pre_hook(lambda module, args: sizes.append((len(args[0]), module.training)))
    teacher = black_box(network, batch=4)
    noise, labels = z(10), torch.arange(10) % 3
    images = teacher(noise, labels)
    assert sizes == [(4, False), (4, False), (2, False)]
    assert network.training and network.norm.training and not network.blocks[0].training
    with torch.inference_mode():
        expected = to_uint8(tiny()(noise, labels)).numpy()  # one batch of 10, same weights
    assert np.abs(images.astype(int) - expected).max() <= 1 and expected.std() > 1
    assert (teacher.z_dim, teacher.num_classes, teacher.resolution, teacher.psi) == (6, 3, 8, 1.0)
    assert teacher.network is network and teacher.name == "ConvGenerator"
    assert teacher.digest == network_hash(tiny()) != black_box(tiny(z_dim=7)).digest


def test_a_callable_needs_two_attributes_and_its_resolution_is_found():
    def mine(z, y):
        return draw(z, y)

    with pytest.raises(InputError, match="mine has no attribute z_dim and no num_classes"):
        black_box(mine)
    mine.z_dim = 4
    with pytest.raises(InputError, match="mine has no attribute num_classes"):
        black_box(mine)
    mine.num_classes = 2
    assert black_box(mine).classes == ("0", "1")
    mine.classes = ["left", "right"]
    teacher = black_box(mine)
    assert (teacher.name, teacher.resolution, teacher.classes) == ("mine", 8, ("left", "right"))
    assert teacher.digest is None and teacher.network is None
    assert black_box(teacher) is teacher and load_teacher(teacher) is teacher
    mine.resolution = 16
    assert black_box(mine).resolution == 16


def test_finding_the_resolution_checks_the_image():
    for output in (torch.zeros(1, 3, 8, 8), grey(1, 8, 16, 3), grey(2, 8, 8, 3), grey(3, 4), "image"):
        with pytest.raises(InputError, match="teacher 'callable' returned"):
            Teacher(lambda z, y, output=output: output, 4, 2)


def test_a_network_that_generates_no_images_is_refused():
    class Broken(nn.Module):
        z_dim, num_classes, resolution = 4, 2, 8

        def forward(self, z, y):
            return self.output

    box, fine = black_box(Broken()), torch.zeros(2, 3, 8, 8)
    for box.network.output in (fine * torch.nan, fine[:, :1], fine.byte()):
        with pytest.raises(InputError, match="network 'Broken' returned .* expected finite floats"):
            box(np.zeros((2, 4)), [0, 1])


class Scaled(nn.Module):
    """Images of numbers drawn from [0, 1), scaled by `scale`: one of a brightness of its own is `bright` less dark."""

    z_dim, num_classes, resolution = 4, 2, 8

    def __init__(self, scale, bright=0):
        super().__init__()
        self.scale, self.bright = scale, bright

    def forward(self, z, y):
        x = torch.rand(len(z), 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return self.scale(x) if len(z) > self.bright else x


def test_images_in_another_range_are_refused_also_one_alone():
    for scale, told in (
        (lambda x: x, "values from .* to 1, .*scale 0..1 by 2 . x - 1"),
        (lambda x: x * 255, r"values from .* to 25\d, .*0..255 by x / 127.5 - 1"),
        (lambda x: (x - 0.5) * 255, "values from -12.* to 12"),
        (lambda x: x / 0, "with NaN or infinite values"),
    ):
        for count in (1, 40):
            with pytest.raises(InputError, match=f"network 'Scaled' returned .*{told}"):
                black_box(Scaled(scale))(np.zeros((count, 4)), [0] * count)
    for fits in (lambda x: 2 * x - 1, lambda x: 4 * x - 2, lambda x: 0 * x, lambda x: 0 * x + 0.4):
        black_box(Scaled(fits))(np.zeros((1, 4)), [0])
    bright = black_box(Scaled(lambda x: 2 * x - 1, bright=1))  # one image that is bright all over, others are not
    assert bright(np.zeros((1, 4)), [0]).min() > 127


def test_latents_beyond_all_draws_and_odd_weights_are_refused():
    huge, network = np.full((1, 6), 1e20), tiny()
    with pytest.raises(InputError, match=r"z holds 1e\+20 in row 0, and 1e\+06 is the most"):
        black_box(network)(huge, [0])
    one, zeros = torch.ones(1, 3) / 3, torch.zeros(1, 6)
    assert network(zeros, one.half()).isfinite().all()
    for noise in (torch.full((1, 6), 1e20), zeros * torch.nan):
        with pytest.raises(InputError, match="latents z must be finite numbers of at most 1e.06"):
            network(noise, one)
    for weights in (one * torch.nan, one * 2, one * 0, torch.tensor([[1.5, -0.5, 0.0]])):
        with pytest.raises(InputError, match="class weights y must be at least 0 and sum to 1"):
            network(zeros, weights)


def test_a_teacher_can_be_pickled_and_copied():
    teacher, noise = black_box(tiny()), z(3)
    images = teacher(noise, [0, 1, 2])
    assert np.array_equal(pickle.loads(pickle.dumps(teacher))(noise, [0, 1, 2]), images)
    other = copy.deepcopy(teacher)
    with torch.no_grad():
        other.network.to_rgb.bias.add_(1)
    assert not np.array_equal(other(noise, [0, 1, 2]), images) and np.array_equal(teacher(noise, [0, 1, 2]), images)


def test_a_buffer_that_is_used_again_does_not_change_what_was_given():
    buffer = np.zeros((1, 4, 4, 3), np.uint8)

    def draw(z, y):
        buffer[:] = 50 * int(y[0])
        return buffer

    for kind in (lambda z, y: draw(z, y), lambda z, y: torch.from_numpy(draw(z, y))):
        teacher = Teacher(kind, z_dim=2, num_classes=3)
        first, second = teacher(torch.zeros(1, 2), [1]), teacher(torch.zeros(1, 2), [2])
        assert (first == 50).all() and (second == 100).all()


def test_the_truncation_of_a_callable_is_its_own_default():
    quarter = np.float32(0.25)

    def own(z, y, psi=0.5):
        return np.full((len(y), 4, 4, 3), round(100 * psi), np.uint8)

    def needed(z, y, psi):
        return own(z, y, psi)

    def numpys(z, y, psi=quarter):
        return own(z, y, psi)

    def fallback(z, y, *, psi=None):
        return own(z, y, 0.75 if psi is None else psi)

    def positional(z, y, psi=0.5, /):
        return own(z, y, psi)

    fall = Teacher(fallback, 2, 3)  # its psi may be no number: it keeps its own
    assert not fall.takes_psi and (replace(fall, name="a")(torch.zeros(1, 2), [1]) == 75).all()
    assert not Teacher(positional, 2, 3).takes_psi and (Teacher(positional, 2, 3)(torch.zeros(1, 2), [1]) == 50).all()
    for draw, given, expected in (
        (own, None, 0.5),
        (numpys, None, 0.25),
        (needed, None, 1.0),
        (own, 1.0, 1.0),
        (needed, 0.25, 0.25),
    ):
        teacher = Teacher(draw, z_dim=2, num_classes=3, psi=given)
        assert teacher.psi == expected and (teacher(torch.zeros(1, 2), [1]) == 100 * expected).all()


def test_fields_may_be_numpys_and_a_name_is_a_text():
    teacher = replace(TEACHER, half=np.False_, psi=np.float32(1), name=Path("a/b"))
    assert (type(teacher.half), type(teacher.psi), teacher.name) == (bool, float, "a/b")
    network = tiny(num_classes=5)
    network.classes = np.arange(5)
    assert black_box(network).classes == ("0", "1", "2", "3", "4")


def test_a_network_without_parameters_is_a_generator():
    class Flat(torch.nn.Module):
        z_dim, num_classes, resolution = 2, 3, 4

        def forward(self, z, y):
            return (z[:, :1, None, None] / 8 - 0.5).expand(-1, 3, 4, 4)

    image = black_box(Flat(), device="cpu")(torch.zeros(1, 2), [1])
    assert (image == 64).all() and (samples(Flat(), [0], [1]) != 64).any()
    assert cost(Flat()) == {"parameters": 0, "macs": 0}


def test_bad_options_are_refused():
    for call, message in (
        (lambda: replace(TEACHER, draw=3), "draw must be a callable"),
        (lambda: replace(TEACHER, z_dim=0), "a teacher's z_dim .* not 0"),
        (lambda: replace(TEACHER, num_classes=2.0), "num_classes .* 2.0"),
        (lambda: replace(TEACHER, resolution=True), "resolution .* True"),
        (lambda: replace(TEACHER, classes=("a", "b")), "5 different names"),
        (lambda: replace(TEACHER, classes="aabcd"), "5 different names"),
        (lambda: replace(TEACHER, name=None), "name must be a text, not None"),
        (lambda: replace(TEACHER, half="no"), "half must be True or False, not 'no'"),
        (lambda: replace(TEACHER, psi="1"), "psi must be a finite number"),
        (lambda: black_box(7), "int is not a generator"),
        (lambda: black_box(tiny(), device="toaster"), "device 'toaster' cannot be used"),
        (lambda: black_box(tiny(), batch=0), "batch must be .* not 0"),
        (lambda: load_teacher(tiny_stylegan(), half=1), "half must be True or False, not 1"),
        (lambda: load_teacher(TEACHER, half=True), "half=True needs a network"),
        (lambda: load_teacher(tiny(), psi=0), "psi=0 needs a StyleGAN2 network.* leave psi at 1"),
        (lambda: load_teacher(TEACHER, psi=0.7), "psi=0.7 needs a StyleGAN2 network.* leave psi at 1"),
        (lambda: load_teacher(tiny_stylegan(), psi=float("nan")), "psi must be a finite number"),
        (lambda: load_teacher(tiny_stylegan(), psi="1"), "psi must be a finite number"),
        (lambda: load_student(3), "a student is a folder or a network, not int"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_stylegan2_is_a_function_of_noise_and_label_and_psi_reaches_it():
    network, noise, labels = tiny_stylegan(), z(5), torch.arange(5) % 3
    full, half = load_teacher(network), load_teacher(network, psi=0.5)
    assert (full.psi, half.psi) == (1.0, 0.5) and full.digest == half.digest
    for teacher, psi in ((full, 1.0), (half, 0.5)):
        assert np.array_equal(teacher(noise, labels), teacher(noise, labels))
        with torch.inference_mode():
            expected = to_uint8(network(noise, labels, psi=psi, noise_mode="const")).numpy()
        assert np.abs(teacher(noise, labels).astype(int) - expected).max() <= 1
    assert not np.array_equal(full(noise, labels), half(noise, labels))
    unconditional = black_box(tiny_stylegan(num_classes=0))
    assert unconditional.num_classes == 1 and unconditional(noise, [0] * 5).shape == (5, 8, 8, 3)


def test_in_half_precision_the_images_are_nearly_the_same():
    """As torch's autocast generates them, in float16; and the Teacher says so."""
    network, noise, labels = tiny_stylegan(), z(40), torch.arange(40) % 3
    full, half = load_teacher(network), load_teacher(network, half=True)
    assert (full.half, half.half) == (False, True) and full.digest == half.digest
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        expected = to_uint8(network(noise, labels, noise_mode="const")).numpy()
    assert np.array_equal(half(noise, labels), expected)
    apart = np.abs(full(noise, labels).astype(int) - expected)
    assert 0 < apart.mean() < 0.5 and apart.max() <= 3


def test_a_folder_gives_the_network_that_was_saved(tmp_path):
    save_network(tiny(), tmp_path / "mine", {"classes": ["cat", "dog", "frog"]})
    teacher, student = load_teacher(tmp_path / "mine", device="cpu"), load_student(tmp_path / "mine")
    noise, labels = z(6), [0, 1, 2, 0, 1, 2]
    assert np.array_equal(teacher(noise, labels), black_box(tiny())(noise, labels))
    assert (teacher.name, teacher.classes, teacher.psi) == ("mine", ("cat", "dog", "frog"), 1.0)
    assert teacher.digest == network_hash(tiny())
    assert isinstance(student, ConvGenerator) and not student.training
    assert torch.equal(student.embedding, tiny().embedding)
    network = tiny().train()
    assert load_student(network) is network and network.training  # as it is


def test_a_runs_folder_gives_its_network(tmp_path):
    (tmp_path / "config.json").write_text("{}")  # a run has a config of its own
    with pytest.raises(InputError, match="model.safetensors missing .*under generator/ once its training"):
        load_student(tmp_path)
    save_network(tiny(), tmp_path / "generator")
    assert torch.equal(load_student(tmp_path).embedding, tiny().embedding)
    assert load_teacher(str(tmp_path), device="cpu").name == tmp_path.name


def test_class_names_are_cifar10s_only_where_the_data_was(tmp_path):
    so, not_so = ["CIFAR-10 train, 50,000 images", "cifar10-32x32.zip"], ["cifar10 of 3", "CIFAR-100", "my birds"]
    for data in so + not_so:
        save_network(tiny(num_classes=3 if data.endswith("3") else 10), tmp_path / "n", {"data": data})
        assert (load_teacher(tmp_path / "n", device="cpu").classes == CIFAR10_CLASSES) is (data in so)


@pytest.mark.parametrize("load", [load_teacher, load_student])
def test_what_cannot_be_loaded_is_named(tmp_path, load, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("")
    monkeypatch.setattr(module, "EMBEDDED", tmp_path)
    for source, message in (
        (tmp_path / "nowhere", "nowhere does not exist: give 'embedded', a folder"),
        ("embedded", "(teacher|student) does not exist"),
        (tmp_path / "cifar10.pkl", "cifar10.pkl does not exist: give an official StyleGAN2-ADA file"),
        (tmp_path / "empty", "config.json and model.safetensors missing"),
        (tmp_path / "file.zip", "file.zip cannot be used, and nothing in it was run: it is empty"),
    ):
        with pytest.raises(InputError, match=message):
            load(source)


def test_the_bundled_networks_load():
    teacher, student = load_teacher(device="cpu"), load_student()
    assert (teacher.name, teacher.classes, teacher.resolution) == ("embedded", CIFAR10_CLASSES, 32)
    assert (student.z_dim, student.num_classes, student.resolution) == (teacher.z_dim, 10, 32)
    assert teacher(z(10, teacher.z_dim), np.arange(10)).std() > 10  # not one grey


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_the_bundled_networks_say_where_they_come_from(kind):
    told, digest = read_json(EMBEDDED / kind / "provenance.json"), network_hash(read_network("embedded", kind)[0])
    for key in "command data hardware seconds date versions config classes kimg precision processes".split():
        assert told[key], key
    assert told["hash"] == digest and told["commit"] and not told["commit"].endswith("+")
    assert told["scores"]["images"] == told["scores"]["lower_bound"]["images"] == 10_000
    if kind == "student":
        assert told["teacher"] == load_teacher().digest and told["data"] == "pairs of teacher embedded, 100000 pairs"
