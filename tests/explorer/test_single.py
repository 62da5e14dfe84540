"""Widgets of one line: what they show is what the package computes."""

import copy
import io
import re

import numpy as np
import pytest
from PIL import Image
from test_points import CLASSES, NAMES, TEACHER, Z, painted
from test_widgets import painter

from gsoc_kd import deployment
from gsoc_kd.core.figures import grid, png_bytes
from gsoc_kd.core.files import InputError
from gsoc_kd.explorer import explore_exports, explore_training, explore_truncation, latent, samples
from gsoc_kd.explorer.views import difference, enlarged
from gsoc_kd.networks.stylegan2 import StyleGAN2Generator
from gsoc_kd.teachers.black_box import Teacher
from gsoc_kd.teachers.load import load_teacher
from gsoc_kd.training import runs


def test_truncation_is_a_slider_for_one_class():
    stylegan2 = StyleGAN2Generator(z_dim=Z, w_dim=8, num_classes=CLASSES, channel_base=128, channel_max=8)
    stylegan2.centre(100)
    modes = [module.training for module in stylegan2.train().modules()]
    parts = explore_truncation(stylegan2, label=1, columns=2, scale=2).parts
    for psi in (1.0, 0.4, 0.0):
        parts.psi.value = psi
        images = samples(load_teacher(copy.deepcopy(stylegan2), psi=psi), range(6), [1] * 6)
        assert parts.image.value == png_bytes(grid(images, columns=2, scale=2))
    assert parts.note.value.endswith(": 0.0 grey levels")  # one style, one image
    assert [module.training for module in stylegan2.modules()] == modes
    with pytest.raises(InputError, match="has no truncation"):
        explore_truncation(TEACHER)
    with pytest.raises(InputError, match="has no attribute z_dim"):
        explore_truncation(lambda z, y: None)
    failing = painter(lambda z, y, psi=1.0: np.zeros((len(y), 32, 32, 3), np.uint8 if psi == 1 else np.int64))
    parts = explore_truncation(failing).parts
    parts.psi.value = 0.5
    assert parts.note.value.startswith("InputError: ") and "returned int64" in parts.note.value


def test_a_training_is_scrubbed_frame_by_frame(tmp_path):
    (tmp_path / "animation").mkdir()
    frames = [np.full((4, 6, 3), 40 * tick, np.uint8) for tick in range(3)]
    rows = [{"step": 10 * tick, "kimg": 0.64 * tick, "pixel": 0.5 / (1 + tick), "rate": 1.0} for tick in range(3)]
    for frame, row in zip(frames, rows):
        Image.fromarray(frame).save(tmp_path / "animation" / f"{row['step']:07d}.png")
        runs.append_stats(tmp_path, row)
    (tmp_path / "animation" / "._0000000.png").touch()  # as macOS leaves it on foreign disks
    with open(path := tmp_path / "stats.jsonl", "a") as file:
        file.write('{"step": 4')  # as a killed process leaves it
    parts = explore_training(tmp_path, scale=3).parts
    assert (parts.tick.value, parts.tick.max, parts.play.max) == (2, 2, 2)  # it opens at the end
    for tick in (0, 2, 1):
        parts.tick.value = tick
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(parts.image.value)))[::3, ::3], frames[tick])
    assert parts.note.value == "tick 2 of 3, 0.64 thousand images seen, pixel 0.250"
    path.write_text(path.read_text().replace("0.25", "0.75"))
    told = explore_training(tmp_path).parts.note.value
    assert told.startswith("tick 3 of 3, ") and "stats.jsonl, line 2 does not fit" in told and "pixel" not in told
    path.unlink()
    run = type("Run", (), {"folder": str(tmp_path)})
    assert explore_training(run).parts.note.value == "tick 3 of 3"
    with pytest.raises(InputError, match="nowhere has no frames of a training"):
        explore_training(tmp_path / "nowhere")


class Exported(Teacher):
    """Stands for a file: INT8's images are the other ones, two grey levels darker."""

    def __init__(self, path, device):
        if device == "NPU":
            raise InputError(f"{path} cannot run on the device NPU")
        self.precision = path.removesuffix(".xml")
        dark = 2 * (self.precision == "int8")
        super().__init__(
            lambda z, y: painted(z, y * (2 if device == "GPU" else 1)).clip(2) - dark, Z, CLASSES, 32, NAMES
        )


def test_two_exports_are_compared_on_a_device(monkeypatch):
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(deployment, "load_exported", lambda path, device: Exported(path, device))
    monkeypatch.setattr(openvino.Core, "available_devices", ["CPU", "GPU", "NPU"])
    parts = explore_exports("fp32.xml", "int8.xml", scale=2).parts
    assert parts.device.options == ("CPU", "AUTO", "GPU", "NPU")
    for device, label in (("CPU", 1), ("GPU", 2), ("CPU", 1)):
        parts.device.value, parts.seed.value, parts.label.value = device, 4, 1
        image = painted(latent(4, Z)[None], [label])[0].clip(2)
        shown = [image, image - 2]
        assert [widget.value for widget in parts.images] == [enlarged(image, 2, smooth=True) for image in shown]
        apart, _ = difference(*shown)
        assert parts.difference.value == enlarged(apart, 2) and "mean 2.00 of 255" in parts.notes[2].value
    for precision, note in zip(("fp32", "int8"), parts.notes):
        assert re.fullmatch(precision + r", \d+\.\d\d ms", note.value)
    parts.device.value = "NPU"  # it is said, and the one before stays
    assert parts.device.value == "CPU" and parts.notes[2].value == "fp32.xml cannot run on the device NPU"
    with pytest.raises(InputError, match="two exported files to compare, not 1"):
        explore_exports("fp32.xml")
