"""The black box: what goes in is checked, what comes out is uint8, and every wrong thing has its message."""

import json

import numpy as np
import pytest
import torch
from gsoc_kd.teachers.black_box import Teacher, black_box
from gsoc_kd.teachers.load import load_student, load_teacher
from torch import nn

from gsoc_kd.core.files import InputError
from gsoc_kd.core.weights import network_hash, save_network
from gsoc_kd.data.images import CIFAR10_CLASSES, to_uint8
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.teachers import load as teachers


def draw(z, y):
    """Class y in red, the first number of z in green: (N, 8, 8, 3)."""
    pictures = np.zeros((len(z), 8, 8, 3), np.uint8)
    pictures[..., 0] = y.numpy()[:, None, None] * 20
    pictures[..., 1] = (z[:, 0].numpy()[:, None, None] * 10 + 100).astype(np.uint8)
    return pictures


def tiny(**changes):
    torch.manual_seed(0)
    sizes = dict(z_dim=6, num_classes=3, resolution=8, widths=(8, 4), embed_dim=4) | changes
    return ConvGenerator(**sizes).eval()


def tiny_stylegan(num_classes=3):
    torch.manual_seed(0)
    network = StyleGAN2Generator(
        z_dim=6, w_dim=6, num_classes=num_classes, resolution=8, channel_base=64, channel_max=8
    )
    network.w_avg.copy_(torch.linspace(-1, 1, 6))
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return network


@pytest.fixture
def teacher():
    return Teacher(draw, z_dim=4, num_classes=5, resolution=8)


def z(count, z_dim=6):
    return torch.randn(count, z_dim, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- what goes in


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, torch.float32, torch.bfloat16])
def test_arrays_and_tensors_give_the_same_pictures(teacher, kind):
    values = [[0.5, 1, 2, 3], [-1.5, 0, 0, 0]]
    noise = torch.tensor(values, dtype=kind) if isinstance(kind, torch.dtype) else np.array(values, kind)
    for labels in ([4, 0], np.array([4, 0], np.uint8), torch.tensor([4, 0])):
        pictures = teacher(noise, labels)
        assert type(pictures) is np.ndarray and pictures.dtype == np.uint8 and pictures.shape == (2, 8, 8, 3)
        assert pictures[:, 3, 3].tolist() == [[80, 105, 0], [0, 85, 0]]


def test_the_callable_is_handed_cpu_tensors_of_fixed_types():
    seen = []
    teacher = Teacher(lambda z, y: seen.append((z, y)) or draw(z, y), 4, 5, 8)
    source = np.full((2, 4), 0.1)
    teacher(source, [1, 2])
    ((noise, labels),) = seen
    assert noise.dtype == torch.float32 and labels.dtype == torch.int64
    assert torch.equal(noise, torch.full((2, 4), 0.1)) and labels.tolist() == [1, 2]
    noise.zero_()  # a copy: the caller's array stays
    assert (source == 0.1).all()


def test_no_latents_give_no_pictures(teacher):
    assert teacher(np.zeros((0, 4)), []).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(
    "noise, labels, message",
    [
        (np.zeros((2, 3)), [0, 1], r"z must be floats of shape \(N, 4\), not float64 \(2, 3\)"),
        (np.zeros(4), [0], r"\(N, 4\), not float64 \(4,\)"),
        (np.zeros((2, 4), int), [0, 1], r"z must be floats .* int64 \(2, 4\)"),
        (torch.zeros(2, 4, dtype=torch.int32), [0, 1], "z must be floats .* int32"),
        (np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]]), [0, 1], r"z is not finite in row 1 \(1 of 2 rows\)"),
        (np.full((1, 4), 1e300), [0], "z is not finite in row 0"),
        (np.zeros((2, 4)), [0, 5], "label 5 in row 1 is out of range: this generator has 5 classes, 0 to 4"),
        (np.zeros((2, 4)), [-1, 0], "label -1 in row 0"),
        (np.zeros((2, 4)), [0.0, 1.0], r"y must be whole numbers of shape \(N,\), not float64"),
        (np.zeros((2, 4)), [True, False], "y must be whole numbers .* bool"),
        (np.zeros((2, 4)), [[0], [1]], r"y must be whole numbers .* \(2, 1\)"),
        (np.zeros((2, 4)), [0, 1, 2], "2 latents but 3 labels"),
    ],
)
def test_wrong_input_is_refused(teacher, noise, labels, message):
    with pytest.raises(InputError, match=message):
        teacher(noise, labels)


# ---------------------------------------------------------------- what comes out


@pytest.mark.parametrize(
    "output, message",
    [
        (lambda z: np.zeros((len(z), 8, 8, 3)), r"returned float64 \(2, 8, 8, 3\), .*images.to_uint8"),
        (lambda z: torch.zeros(len(z), 3, 8, 8), r"returned float32 \(2, 3, 8, 8\).*gsoc_kd.data.images.to_uint8"),
        (lambda z: np.zeros((len(z), 3, 8, 8), np.uint8), r"\(2, 3, 8, 8\).*permute\(0, 2, 3, 1\)"),
        (lambda z: np.zeros((len(z), 16, 16, 3), np.uint8), r"\(2, 16, 16, 3\), expected uint8 \(2, 8, 8, 3\)"),
        (lambda z: np.zeros((1, 8, 8, 3), np.uint8), r"\(1, 8, 8, 3\), expected uint8 \(2, 8, 8, 3\)"),
        (lambda z: np.zeros((len(z), 8, 8), np.uint8), "one RGB picture a latent"),
        (lambda z: [0], "returned list; it must return a numpy array or a tensor"),
    ],
)
def test_wrong_output_is_refused(output, message):
    with pytest.raises(InputError, match=message) as caught:
        Teacher(lambda z, y: output(z), 4, 5, 8, name="mine")(np.zeros((2, 4)), [0, 1])
    assert "'mine'" in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(draw=3), "draw must be a callable"),
        (dict(z_dim=0), "z_dim .* not 0"),
        (dict(num_classes=2.0), "num_classes .* 2.0"),
        (dict(resolution=True), "resolution .* True"),
        (dict(classes=("a", "b")), "5 different names"),
        (dict(classes="aabcd"), "5 different names"),
    ],
)
def test_a_teacher_that_makes_no_sense_cannot_be_made(change, message):
    with pytest.raises(InputError, match=message):
        Teacher(**dict(draw=draw, z_dim=4, num_classes=5, resolution=8) | change)


def test_classes_are_numbers_unless_named(teacher):
    assert teacher.classes == ("0", "1", "2", "3", "4")
    assert Teacher(draw, 4, 5, 8, classes=list("abcde")).classes == ("a", "b", "c", "d", "e")


# ---------------------------------------------------------------- black_box


def test_a_network_is_drawn_in_batches_in_eval_mode():
    network, sizes = tiny().train(), []
    network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    teacher = black_box(network, batch=4)
    noise, labels = z(10), torch.arange(10) % 3
    pictures = teacher(noise, labels)
    assert sizes == [4, 4, 2] and not network.training
    with torch.inference_mode():
        expected = to_uint8(tiny()(noise, labels)).numpy()  # one batch of 10, same weights
    assert np.abs(pictures.astype(int) - expected).max() <= 1 and expected.std() > 1
    assert (teacher.z_dim, teacher.num_classes, teacher.resolution, teacher.psi) == (6, 3, 8, 1.0)
    assert teacher.network is network and teacher.name == "ConvGenerator"
    assert teacher.digest == network_hash(tiny())
    assert teacher.digest != black_box(tiny(z_dim=7)).digest


def test_a_teacher_comes_back_as_it_is(teacher):
    assert black_box(teacher) is teacher and load_teacher(teacher) is teacher


def test_a_callable_needs_two_attributes_and_its_resolution_is_found():
    def mine(z, y):
        return draw(z, y)

    with pytest.raises(InputError, match="mine has no attribute z_dim and no num_classes"):
        black_box(mine)
    mine.z_dim = 4
    with pytest.raises(InputError, match="mine has no attribute num_classes"):
        black_box(mine)
    mine.num_classes, mine.classes = 2, ("left", "right")
    teacher = black_box(mine)
    assert (teacher.name, teacher.resolution, teacher.classes) == ("mine", 8, ("left", "right"))
    assert teacher.digest is None and teacher.network is None
    mine.resolution = 16
    assert black_box(mine).resolution == 16
    with pytest.raises(InputError, match="is not a generator"):
        black_box(7)


@pytest.mark.parametrize(
    "output",
    [
        torch.zeros(1, 3, 8, 8),
        np.zeros((1, 8, 16, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros(3, np.uint8),
        "picture",
    ],
)
def test_finding_the_resolution_checks_the_picture(output):
    def mine(z, y):
        return output

    mine.z_dim, mine.num_classes = 4, 2
    with pytest.raises(InputError, match="teacher 'mine' returned"):
        black_box(mine)


@pytest.mark.parametrize(
    "output, message",
    [
        (torch.full((2, 3, 8, 8), torch.nan), "not finite"),
        (torch.zeros(2, 1, 8, 8), r"\(2, 1, 8, 8\)"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "uint8"),
    ],
)
def test_a_network_that_draws_no_pictures_is_refused(output, message):
    class Broken(nn.Module):
        z_dim, num_classes, resolution = 4, 2, 8

        def forward(self, z, y):
            return output

    with pytest.raises(InputError, match=f"network 'Broken' returned .*{message}"):
        black_box(Broken())(np.zeros((2, 4)), [0, 1])


def test_bad_device_and_batch_are_refused():
    with pytest.raises(InputError, match="device 'toaster' cannot be used"):
        black_box(tiny(), device="toaster")
    for batch in (0, 2.5, True):
        with pytest.raises(InputError, match="batch must be"):
            black_box(tiny(), batch=batch)


# ---------------------------------------------------------------- StyleGAN2


def test_stylegan2_draws_a_function_of_noise_and_label_and_psi_reaches_it():
    network, noise, labels = tiny_stylegan(), z(5), torch.arange(5) % 3
    full, half = load_teacher(network), load_teacher(network, psi=0.5)
    assert (full.psi, half.psi) == (1.0, 0.5) and full.digest == half.digest
    for teacher, psi in ((full, 1.0), (half, 0.5)):
        assert np.array_equal(teacher(noise, labels), teacher(noise, labels))
        with torch.inference_mode():
            expected = to_uint8(network(noise, labels, psi=psi, noise_mode="const")).numpy()
        assert np.abs(teacher(noise, labels).astype(int) - expected).max() <= 1
    assert not np.array_equal(full(noise, labels), half(noise, labels))


def test_in_half_precision_the_pictures_are_nearly_the_same():
    """As torch's autocast draws them, in float16; and the Teacher says so."""
    network, noise, labels = tiny_stylegan(), z(40), torch.arange(40) % 3
    full, half = load_teacher(network), load_teacher(network, half=True)
    assert (full.half, half.half) == (False, True) and full.digest == half.digest
    with torch.inference_mode(), torch.autocast("cpu", torch.float16):
        expected = to_uint8(network(noise, labels, noise_mode="const")).numpy()
    assert np.array_equal(half(noise, labels), expected)
    apart = np.abs(full(noise, labels).astype(int) - expected)
    assert 0 < apart.mean() < 0.5 and apart.max() <= 3


@pytest.mark.parametrize(
    "source, half, message",
    [
        (tiny_stylegan, "yes", "half must be True or False"),
        (tiny_stylegan, 1, "half must be"),
        (lambda: Teacher(lambda z, y: None, 4, 3, 8, name="f"), True, "half=True needs a network"),
    ],
)
def test_half_precision_is_for_networks(source, half, message):
    with pytest.raises(InputError, match=message):
        load_teacher(source(), half=half)


def test_an_unconditional_stylegan2_is_a_teacher_of_one_class():
    teacher = black_box(tiny_stylegan(num_classes=0))
    assert teacher.num_classes == 1 and teacher(z(2), [0, 0]).shape == (2, 8, 8, 3)


# ---------------------------------------------------------------- folders


def test_a_folder_gives_the_network_that_was_saved(tmp_path):
    save_network(tiny(), tmp_path / "mine", {"classes": ["cat", "dog", "frog"]})
    teacher, student = load_teacher(tmp_path / "mine", device="cpu"), load_student(tmp_path / "mine")
    noise, labels = z(6), [0, 1, 2, 0, 1, 2]
    assert np.array_equal(teacher(noise, labels), black_box(tiny())(noise, labels))
    assert (teacher.name, teacher.classes, teacher.psi) == ("mine", ("cat", "dog", "frog"), 1.0)
    assert teacher.digest == network_hash(tiny())
    assert isinstance(student, ConvGenerator) and not student.training
    assert torch.equal(student.embedding, tiny().embedding)


def test_a_runs_folder_gives_its_student(tmp_path):
    (tmp_path / "config.json").write_text("{}")  # a run has a config of its own
    with pytest.raises(InputError, match="model.safetensors missing .*under student/ once its training"):
        load_student(tmp_path)
    save_network(tiny(), tmp_path / "student")
    assert torch.equal(load_student(tmp_path).embedding, tiny().embedding)
    assert load_teacher(str(tmp_path), device="cpu").name == tmp_path.name


def test_embedded_networks_are_named_embedded(tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "EMBEDDED", tmp_path)
    with pytest.raises(InputError, match="teacher does not exist"):
        load_teacher()
    save_network(tiny(num_classes=10), tmp_path / "teacher", {"data": "CIFAR-10 train, 50,000 images"})
    save_network(tiny(num_classes=2), tmp_path / "student")
    teacher = load_teacher(device="cpu")
    assert (teacher.name, teacher.classes) == ("embedded", CIFAR10_CLASSES)
    assert load_student().num_classes == 2


@pytest.mark.parametrize("data, named", [("cifar10 train", True), ("CIFAR-100", False), ("my birds", False)])
def test_class_names_are_cifar10s_only_where_the_data_was(tmp_path, data, named):
    save_network(tiny(num_classes=10), tmp_path / "n", {"data": data})
    assert (load_teacher(tmp_path / "n", device="cpu").classes == CIFAR10_CLASSES) is named


def test_networks_pass_through_load_student():
    network = tiny().train()
    assert load_student(network) is network and not network.training
    with pytest.raises(InputError, match="a student is a folder or a network, not int"):
        load_student(3)


@pytest.mark.parametrize("load", [load_teacher, load_student])
def test_what_cannot_be_loaded_is_named(tmp_path, load):
    with pytest.raises(InputError, match="nowhere does not exist: give 'embedded', a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cifar10.pkl does not exist: give an official StyleGAN2-ADA file"):
        load(tmp_path / "cifar10.pkl")
    with pytest.raises(InputError, match="config.json and model.safetensors missing"):
        load(tmp_path)
    (tmp_path / "file.zip").write_text("")
    with pytest.raises(InputError, match="file.zip cannot be used, and nothing in it was run: it is empty"):
        load(tmp_path / "file.zip")
    save_network(tiny(), tmp_path / "judge")
    config = json.loads((tmp_path / "judge" / "config.json").read_text())
    (tmp_path / "judge" / "config.json").write_text(json.dumps(config | {"class": "Judge"}))
    with pytest.raises(InputError, match="class 'Judge' is not one of"):
        load(tmp_path / "judge")


@pytest.mark.parametrize("psi", [0.7, 0, 2.0])
def test_psi_needs_a_mapping_network(tmp_path, teacher, psi):
    save_network(tiny(), tmp_path / "mine")
    for source in (tmp_path / "mine", tiny(), teacher):
        with pytest.raises(InputError, match=f"psi={psi} needs a StyleGAN2 network.* leave psi at 1"):
            load_teacher(source, psi=psi)


@pytest.mark.parametrize("psi", [float("nan"), "1", True, None])
def test_psi_is_a_finite_number(psi):
    with pytest.raises(InputError, match="psi must be a finite number"):
        load_teacher(tiny_stylegan(), psi=psi)


def test_the_embedded_networks_load():
    for kind in ("teacher", "student"):
        if not (teachers.EMBEDDED / kind / "model.safetensors").is_file():
            pytest.skip(f"this checkout has no embedded {kind} yet (make embedded): its loading is not tested")
    teacher, student = load_teacher(device="cpu"), load_student()
    assert (teacher.num_classes, teacher.resolution, teacher.classes) == (10, 32, CIFAR10_CLASSES)
    assert (student.z_dim, student.num_classes, student.resolution) == (teacher.z_dim, 10, 32)
    pictures = teacher(z(10, teacher.z_dim), np.arange(10))
    assert pictures.std() > 10  # not one grey
