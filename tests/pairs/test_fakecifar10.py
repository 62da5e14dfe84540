"""The layout of 2022: read as the 2022 code wrote it, once, to the last pair; its noise decides what is drawn later."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gsoc_kd import InputError, distill, evaluate, load_pairs, load_student
from gsoc_kd.cli import main
from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.evaluation.agreement import agreement
from gsoc_kd.explorer.points import image_at, latent
from gsoc_kd.pairs import fakecifar10, make
from gsoc_kd.pairs.fakecifar10 import convert_pairs
from gsoc_kd.pairs.make import draw_latents, generate_images
from gsoc_kd.teachers.black_box import Teacher
from gsoc_kd.training.distill import DistillConfig


def write(folder, counts, z_dim=5, side=8, draw=torch.rand, seed=0):
    """Pairs as create_dataset.py of 2022 writes them: {(class, number): (image, noise)}, noise with its batch."""
    rng, given = np.random.default_rng(seed), {}
    generator = torch.Generator().manual_seed(seed)
    for y, count in enumerate(counts):
        (folder / f"class_{y}").mkdir(parents=True)
        z = draw((count, z_dim), generator=generator)
        for i in range(count):
            image = rng.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(image, "RGB").save(folder / f"class_{y}" / f"image_{i}.png")
            torch.save(z[i], folder / f"class_{y}" / f"noise_{i}.pt")
            given[y, i] = image, z[i].clone()
    return given


def same(pairs, given):
    order = sorted(given)
    assert pairs.labels.tolist() == [y for y, _ in order]
    assert np.array_equal(pairs.images, np.stack([given[key][0] for key in order]))
    assert np.array_equal(pairs.latents, torch.stack([given[key][1] for key in order]).half().numpy())


def refused(message, *arguments):
    with pytest.raises(InputError, match=message) as error:
        load_pairs(*arguments)
    assert "\n" not in str(error.value)


def test_the_published_folder_is_converted_once(tmp_path, capsys, monkeypatch):
    given = write(tmp_path / "FakeCIFAR10", [12, *[2] * 8, 3])  # 12: image_10 comes after image_9
    (tmp_path / "FakeCIFAR10" / "class_0" / ".DS_Store").write_text("")
    pairs = load_pairs(tmp_path / "FakeCIFAR10")
    same(pairs, given)
    manifest = pairs.manifest
    assert pairs.path == tmp_path / "FakeCIFAR10-pairs" and pairs.classes == CIFAR10_CLASSES
    assert (manifest["z_from"], manifest["teacher"], pairs.z_from) == ("uniform", "FakeCIFAR10", "uniform")
    assert manifest["source"]["layout"] == "2022" and manifest["source"]["files"] == 2 * len(given)
    assert manifest["counts"] == [12, *[2] * 8, 3] and manifest["digest"] is None and manifest["seed"] is None
    assert "read FakeCIFAR10" in capsys.readouterr().err
    monkeypatch.setattr(make, "_write", None)  # not a second time
    monkeypatch.chdir(tmp_path)
    same(load_pairs("FakeCIFAR10/"), given)
    shutil.rmtree("FakeCIFAR10")
    same(load_pairs("FakeCIFAR10-pairs"), given)  # they stand alone


def test_what_systems_leave_in_folders_does_not_count(tmp_path):
    given = write(tmp_path / "F", [2, 1])
    for name in ("__MACOSX", "@eaDir", "class_0/@eaDir"):
        (tmp_path / "F" / name).mkdir()
    for name in ("class_0/Thumbs.db", "class_1/desktop.ini", "class_1/._image_0.png", ".DS_Store"):
        (tmp_path / "F" / name).touch()
    same(load_pairs(tmp_path / "F"), given)


def test_stopped_it_goes_on_where_it_was(tmp_path, monkeypatch):
    given, read = write(tmp_path / "F", [5, 5, 5]), []
    monkeypatch.setattr(fakecifar10, "CHUNK", 4)

    def image(path, shape=None):
        read.append(path)
        if len(read) == 10:
            raise KeyboardInterrupt
        return original(path, shape)

    original = fakecifar10._image
    monkeypatch.setattr(fakecifar10, "_image", image)
    with pytest.raises(KeyboardInterrupt):
        load_pairs(tmp_path / "F")
    assert not (tmp_path / "F-pairs").exists()
    seen = set(read[:9])
    same(load_pairs(tmp_path / "F"), given)
    again = [path for path in read[10:] if path in seen]
    assert len(again) <= 2  # the first, whose size counts, and one of the chunk that was not finished
    same(convert_pairs(tmp_path / "F", tmp_path / "other"), given)
    for name in ("images.npy", "labels.npy", "latents.npy", "manifest.json"):
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "F-pairs" / name).read_bytes()


def test_normal_noise_stays_normal(tmp_path):
    given = write(tmp_path / "F", [3, 4], draw=torch.randn)
    pairs = load_pairs(tmp_path / "F")
    same(pairs, given)
    assert (pairs.z_from, pairs.classes) == ("normal", ("0", "1"))


def test_the_verb_reads_it_into_out(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = write(tmp_path / "F", [3, 4])
    assert main(["pairs", "--from", "F", "--out", "runs/p"]) == 0
    assert "7 pairs of F, latents uniform" in capsys.readouterr().out
    same(load_pairs("runs/p"), given)
    write(tmp_path / "G", [3, 4], seed=1)
    for words, message in (
        (["--from", "G", "--out", "runs/p"], "runs/p was made with other settings"),
        (["--from", "F", "--out", "F/pairs"], "choose another out"),
        (["--from", "nowhere"], "nowhere cannot be read"),
        (["--from", "runs", "--out", "q"], "is not named class_ and a number"),
    ):
        assert main(["pairs", *words]) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1


def test_what_is_missing_damaged_or_foreign_is_named(tmp_path):
    source = tmp_path / "F"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no folder class_0"):
        convert_pairs(tmp_path / "empty")
    write(source, [2, 2])
    one, before = source / "class_1", tmp_path / "before"
    shutil.copytree(source, before)

    def noise(value):
        torch.save(value, one / "noise_1.pt")

    for break_it, message in (
        (lambda: (one / "noise_1.pt").unlink(), "image_1.png or noise_1.pt is missing"),
        (lambda: (one / "image_0.png").unlink(), "image_0.png or noise_0.pt is missing"),
        (lambda: (one / "image_2.jpg").write_bytes(b""), "image_2.jpg is neither"),
        (lambda: (one / "image_01.png").write_bytes(b""), "image_01.png is neither"),
        (lambda: os.mkfifo(one / "image_2.png"), "image_2.png is neither"),
        (lambda: (source / "class_3").mkdir(), "class_2 is missing"),
        (lambda: (source / "class_2").mkdir(), "class_2 holds no image_0.png"),
        (lambda: (source / "real").mkdir(), "real is not named class_"),
        (lambda: noise(torch.rand(4)), r"noise_1.pt holds torch.float32 \(4,\), not one noise of 5 numbers"),
        (lambda: noise({"z": torch.rand(5)}), "holds a dict"),
        (lambda: noise(torch.arange(5)), "holds torch.int64"),
        (lambda: noise(torch.full((5,), torch.nan)), "not all finite"),
        (lambda: noise(torch.full((5,), 1e6)), "not all finite"),
        (lambda: noise([1, 2]), "cannot be read as tensors"),
        (lambda: (one / "noise_0.pt").write_bytes(b"PK"), "noise_0.pt cannot be read as tensors"),
        (lambda: (one / "image_1.png").write_bytes(b"GIF89a"), "image_1.png cannot be used as an image"),
        (lambda: Image.new("RGB", (9, 9)).save(one / "image_1.png"), "it has 9x9 pixels, expected 8x8"),
        (lambda: Image.new("RGB", (8, 9)).save(source / "class_0" / "image_0.png"), "as high as wide"),
    ):
        shutil.rmtree(source)
        shutil.copytree(before, source)
        break_it()
        refused(message, source)
        assert not (tmp_path / "F-pairs").exists()
        shutil.rmtree(tmp_path / "F-pairs.partial", ignore_errors=True)
    many = tmp_path / "many"
    write(many, [120])
    torch.save(torch.full((5,), -0.5), many / "class_0" / "noise_110.pt")
    refused("noise_110.pt: its numbers are not all from 0 to 1", many)


def test_files_that_change_after_conversion_are_noticed(tmp_path):
    write(tmp_path / "F", [2, 2])
    load_pairs(tmp_path / "F")
    Image.new("RGB", (8, 8)).save(tmp_path / "F" / "class_0" / "image_2.png")
    torch.save(torch.rand(5), tmp_path / "F" / "class_0" / "noise_2.pt")
    refused("F-pairs was made with other settings .*source", tmp_path / "F")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A student of uniform noise, trained for two steps."""
    folder = tmp_path_factory.mktemp("uniform")
    write(folder / "F", [8] * 10, z_dim=6, side=32)
    config = DistillConfig.preset("smoke", kimg=0.032, tick_kimg=0.032)
    return distill(folder / "F", config, folder / "run")


def test_a_student_of_uniform_noise_is_asked_with_uniform_noise_everywhere(run):
    asked, stopped = [], []

    def keep(z, y):
        asked.append(z.clone())
        if stopped:
            raise StopIteration
        return np.zeros((len(z), 32, 32, 3), np.uint8)

    def all_uniform():
        numbers, uniform = torch.cat([z.flatten() for z in asked]), True
        asked.clear()
        return uniform and len(numbers) > 0 and 0 <= numbers.min() and numbers.max() <= 1

    student = load_student(run.folder)
    assert run.student.z_from == student.z_from == "uniform"
    assert json.loads((run.folder / "generator" / "config.json").read_text())["z_from"] == "uniform"
    box = Teacher(keep, 6, 10, 32, CIFAR10_CLASSES, z_from="uniform")
    generate_images(box, 3, seed=0)
    assert all_uniform()
    agreement(student, Teacher(keep, 6, 10, 32), per_class=2, progress=False)  # a teacher of normal noise
    assert all_uniform()
    stopped.append(True)  # the first images are enough
    with pytest.raises(StopIteration):
        evaluate(box, per_class=129, progress=False)
    assert all_uniform()
    stopped.clear()
    image_at(box, seed=3, y=1, seed_to=4, walk=0.0)
    assert all_uniform() and np.array_equal(latent(3, 6, "uniform"), torch.rand(6, generator=torch.manual_seed(3)))
    z = draw_latents(0, 0, 4000, 6, "uniform")
    assert z.dtype == np.float16 and z.min() >= 0 and z.max() <= 1 and abs(z.astype(float).mean() - 0.5) < 0.01


def test_batch_norm_is_measured_on_the_noise_of_the_pairs(run):
    """The first norm of a generator sees about 0.5 in the mean of uniform noise; here by what `averaged` feeds."""
    from gsoc_kd.networks.distylegan import DiStyleGANGenerator
    from gsoc_kd.training.loop import averaged

    network = DiStyleGANGenerator(6, 2, 8, width=4, project_dim=3)
    with torch.no_grad():
        network.project[0].weight.fill_(1.0)  # the sum of the six numbers
    for drawn, mean, variance in (("uniform", 3.0, 0.5), ("normal", 0.0, 6.0)):
        network.z_from = drawn
        norm = averaged(network, 0, torch.device("cpu")).project[1]
        assert abs(norm.running_mean[0] - mean) < 0.3 and abs(norm.running_var[0] - variance) < 0.3 * variance
