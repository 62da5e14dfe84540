"""FakeCIFAR10: the right pairs, the same bytes every time, and nothing damaged or foreign gets through."""

import errno
import json
import os
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gsoc_kd.core.files import InputError, locked, sha256, with_checksum
from gsoc_kd.pairs import make as module
from gsoc_kd.pairs.folder import load_pairs, save_pairs
from gsoc_kd.pairs.make import draw_latents, generate_images, make_pairs
from gsoc_kd.teachers.black_box import Teacher, black_box

FILES = ["images.npy", "labels.npy", "latents.npy", "manifest.json"]


class Recorder:
    """A teacher of 4x4 images that keeps what it was asked; it can be stopped after some calls."""

    z_dim, resolution, __name__ = 5, 4, "recorder"

    def __init__(self, num_classes=3, stop_after=None, error=KeyboardInterrupt):
        self.num_classes, self.stop_after, self.error, self.asked = num_classes, stop_after, error, []

    def __call__(self, z, y):
        if len(self.asked) == self.stop_after:
            raise self.error
        self.asked.append((z.clone(), y.clone()))
        image = (z.double()[:, None, None, :3] * 30 + 10 * y[:, None, None, None] + 100).clip(0, 255)
        return image.expand(-1, 4, 4, -1).to(torch.uint8)


def contents(folder):
    assert sorted(p.name for p in folder.iterdir()) == FILES
    return {name: (folder / name).read_bytes() for name in FILES}


def make(out, teacher=None, per_class=5, seed=0, chunk=4):
    return make_pairs(teacher or Recorder(), per_class, seed, out, chunk)


def refused(message, call, *arguments, **more):
    with pytest.raises(InputError, match=message):
        call(*arguments, **more)


def stopped(out, after, error=KeyboardInterrupt):
    """A run that ends in its call number `after`, from 0; the number of chunks it was given."""
    teacher = Recorder(stop_after=after, error=error)
    with pytest.raises(error):
        make(out, teacher)
    return len(teacher.asked)


def named(name="recorder", stop_after=None, **more):
    return Teacher(Recorder(stop_after=stop_after), 5, 3, 4, name=name, **more)


@pytest.fixture
def made(tmp_path):
    return make(tmp_path / "pairs")


def test_latents_are_normal_float16_and_every_seed_and_chunk_has_its_own():
    z = draw_latents(0, 0, 2000, 100)  # 200,000 numbers
    assert z.dtype == np.float16 and z.shape == (2000, 100)
    z = z.astype(np.float64)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01  # standard errors 0.0022, 0.0016
    assert abs((z**3).mean()) < 0.03 and abs((z**4).mean() - 3) < 0.1  # no skew, the tails of a normal
    keys = [(seed, chunk) for seed in (0, 1, 2, 2**32, 2**64 + 1) for chunk in (0, 1, 2)]
    drawn = [draw_latents(*key, 50, 4) for key in keys]
    assert all(np.array_equal(z, draw_latents(*key, 50, 4)) for key, z in zip(keys, drawn))
    correlation = np.corrcoef(np.stack(drawn).reshape(len(keys), -1).astype(np.float64))
    assert np.abs(correlation - np.eye(len(keys))).max() < 0.35  # 200 numbers: standard error 0.07


def test_images_in_memory_have_the_latents_of_their_class():
    torch.manual_seed(1)
    state, teacher = torch.get_rng_state(), black_box(Recorder())
    images, labels = generate_images(teacher, 5, seed=2, batch=3)
    assert torch.equal(state, torch.get_rng_state())  # the global random state has no part in it
    assert labels.tolist() == np.repeat([0, 1, 2], 5).tolist()
    for c in range(3):
        assert np.array_equal(images[5 * c : 5 * c + 5], teacher(draw_latents(2, c, 5, 5), [c] * 5))


@pytest.mark.parametrize("num_classes, per_class, chunk", [(3, 5, 4), (3, 4, 4), (2, 3, 100), (1, 7, 3), (4, 1, 1)])
def test_rows_are_ordered_by_class_and_are_what_the_teacher_saw_and_gave(tmp_path, num_classes, per_class, chunk):
    teacher, total = Recorder(num_classes), num_classes * per_class
    made = make(tmp_path / "p", teacher, per_class, seed=7, chunk=chunk)
    assert len(made) == total and made.images.shape == (total, 4, 4, 3) and made.latents.shape == (total, 5)
    assert [a.dtype for a in (made.images, made.labels, made.latents)] == [np.uint8, np.int64, np.float16]
    assert made.labels.tolist() == np.repeat(np.arange(num_classes), per_class).tolist()
    assert made.manifest["counts"] == [per_class] * num_classes and made.manifest["count"] == total
    assert [len(z) for z, _ in teacher.asked] == [min(chunk, total - done) for done in range(0, total, chunk)]
    assert (made.num_classes, made.z_dim, made.resolution) == (num_classes, 5, 4)
    assert made.classes == tuple("0123"[:num_classes])
    z, y = (torch.cat(parts) for parts in zip(*teacher.asked))
    assert z.dtype == torch.float32 and torch.equal(z, z.half().float())  # rounded before it was asked
    assert np.array_equal(z.numpy(), made.latents.astype(np.float32))  # to the last bit
    assert np.array_equal(y.numpy(), made.labels)
    for start in range(0, total, chunk):
        rows = made.latents[start : start + chunk]
        assert np.array_equal(rows, draw_latents(7, start // chunk, len(rows), 5))
    assert np.array_equal(made.images, black_box(Recorder(num_classes))(made.latents, made.labels))
    assert len({image.tobytes() for image in made.images}) == total


def test_the_manifest_says_how_and_the_same_call_gives_the_same_bytes(made, tmp_path, capsys):
    sizes = dict(
        z_dim=5, z_from="normal", resolution=4, source=None, classes=["0", "1", "2"], count=15, counts=[5, 5, 5]
    )
    asked = dict(format=1, teacher="recorder", digest=None, psi=1.0, half=False, seed=0, chunk=4, per_class=5)
    hashes = {name: sha256(tmp_path / "pairs" / name) for name in FILES[:3]}
    assert made.manifest == {**asked, **sizes, "sha256": hashes}
    assert json.loads((tmp_path / "pairs" / "manifest.json").read_text()) == with_checksum(made.manifest)
    assert made.path == tmp_path / "pairs" and "15 of 3 classes, 4x4 pixels, z of 5" in repr(made)
    (tmp_path / "again").mkdir()  # an empty folder may be filled
    make(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(made.path)
    teacher = Recorder()  # already made: it is loaded without work
    assert np.array_equal(make(made.path, teacher).images, made.images) and teacher.asked == []
    assert "already made, 15 pairs" in capsys.readouterr().out
    other = make(tmp_path / "other", seed=1)
    assert not (np.asarray(other.latents) == made.latents).all(axis=1).any()


def test_files_are_plain_numpy_which_changes_in_memory_do_not_reach(made):
    before = contents(made.path)
    for pairs in (made, load_pairs(str(made.path)), load_pairs(made.path, verify=False)):
        assert isinstance(pairs.images, np.memmap) and pairs.manifest == made.manifest
        for name, array in zip(FILES, (pairs.images, pairs.labels, pairs.latents)):
            assert np.array_equal(np.load(made.path / name, allow_pickle=False), array)
            array[0] = 0
    assert contents(made.path) == before


@pytest.mark.parametrize("save_every", [0.0, 1e9])
@pytest.mark.parametrize("stops", [(0,), (1,), (3,), (1, 0, 2)])
def test_resumed_ends_with_the_bytes_of_uninterrupted(made, tmp_path, monkeypatch, stops, save_every):
    monkeypatch.setattr(module, "SAVE_EVERY", save_every)
    out, asked = tmp_path / "resumed", 0
    for stop in stops:
        asked += stopped(out, stop, RuntimeError if stop == 1 else KeyboardInterrupt)
        assert not out.exists()
        assert json.loads((tmp_path / "resumed.partial" / "progress.json").read_text())["rows"] == 4 * asked
        refused("resumed.partial is unfinished: run the command that makes it", load_pairs, out)
    teacher = Recorder()
    make(out, teacher)
    assert len(teacher.asked) == 4 - asked  # nothing is asked for twice
    assert contents(out) == contents(made.path) and not (tmp_path / "resumed.partial").exists()


@pytest.mark.parametrize("accident", ["rows without a note", "no note", "half a note", "not cleaned up"])
def test_after_an_accident_the_same_call_ends_with_the_same_bytes(made, tmp_path, accident):
    out, partial = tmp_path / "p", tmp_path / "p.partial"
    if accident == "rows without a note":
        stopped(out, 1)
        early = (partial / "progress.json").read_bytes()
        stopped(out, 2)
        (partial / "progress.json").write_bytes(early)
        with open(partial / "images.npy", "r+b") as file:  # rows 4 .. half written
            file.seek(-150, 2)
            file.write(b"\xff" * 100)
    elif accident == "no note":
        partial.mkdir()
        (partial / "images.npy").write_bytes(b"half a header")
    elif accident == "half a note":
        partial.mkdir()
        for name in ("progress", "manifest"):
            (partial / f".{name}.json.999999999.tmp").write_text("{")
    else:
        make(out)
        (out / "progress.json").write_text("{}")
    make(out)
    assert contents(out) == contents(made.path)


def test_other_settings_neither_continue_nor_overwrite(made, tmp_path):
    stopped(tmp_path / "half", 2)
    before = {p.name: p.read_bytes() for p in (tmp_path / "half.partial").iterdir()}
    for change, message in (
        (dict(seed=1), "seed 0, now 1"),
        (dict(per_class=6), "per_class 5, now 6"),
        (dict(chunk=5), "chunk 4, now 5"),
        (dict(teacher=Recorder(num_classes=4)), "classes .*, now .*'3'"),
        (dict(teacher=named("b")), "teacher 'recorder', now 'b'"),
        (dict(teacher=named(digest="a")), "digest None, now 'a'"),
        (dict(teacher=named(psi=0.5)), "psi 1.0, now 0.5"),
        (dict(teacher=named(half=True)), "half False, now True"),
    ):
        for out, folder in ((tmp_path / "half", "half.partial"), (made.path, "pairs")):
            refused(f"{folder} was made with other settings .*{message}.*choose another out", make, out, **change)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "half.partial").iterdir()}
    assert len(load_pairs(made.path)) == 15


def test_a_renamed_teacher_with_the_same_weights_continues(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "p", named("first", digest="abc", stop_after=2))
    make(tmp_path / "p", named("second", digest="abc"))
    make(tmp_path / "whole", named("first", digest="abc"))
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


def test_bad_arguments_are_refused_before_anything_is_written(tmp_path):
    for change, message in (
        (dict(per_class=0), "per_class must be .* at least 1, not 0"),
        (dict(seed=-1), "seed must be .* at least 0, not -1"),
        (dict(chunk=0), "chunk .* at least 1"),
        (dict(out="/"), "out must name a folder"),
        (dict(teacher="x.pkl"), "x.pkl"),
    ):
        refused(message, make_pairs, **dict(teacher=Recorder(), per_class=2, out=tmp_path / "p") | change)
    assert list(tmp_path.iterdir()) == []


MINE = [("p", "out must name a folder that can be made, not .*p'"), ("p/diary.txt", "p has no manifest.json")]


@pytest.mark.parametrize("mine, message", [*MINE, ("p.partial/diary.txt", "p.partial holds diary.txt")])
def test_nothing_foreign_is_overwritten(tmp_path, mine, message):
    (tmp_path / mine).parent.mkdir(exist_ok=True)
    (tmp_path / mine).write_text("mine")
    refused(message, make, tmp_path / "p")
    assert (tmp_path / mine).read_text() == "mine"


def test_a_disk_known_to_be_too_small_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_000))
    teacher, told = Recorder(), "30000 pairs need 2.0 MB, .*p.partial has 0.2 MB free"
    refused(told, make, tmp_path / "p", teacher, per_class=10_000)
    assert teacher.asked == []
    assert len(make(tmp_path / "p", teacher)) == 15  # fewer fit


def test_a_disk_that_fills_up_keeps_what_is_done(made, tmp_path, monkeypatch):
    teacher = Recorder()

    def full_in_the_third_chunk(path, mode):
        if len(teacher.asked) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode)

    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(module, "open", full_in_the_third_chunk, raising=False)
    refused(
        r"p.partial cannot be written \(the disk is full\).*nothing that is done is lost", make, tmp_path / "p", teacher
    )
    teacher = Recorder()
    make(tmp_path / "p", teacher)
    assert len(teacher.asked) == 2 and contents(tmp_path / "p") == contents(made.path)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "latents.npy", "progress.json"])
def test_a_bit_that_flips_while_pairs_wait_to_go_on_is_noticed(tmp_path, name):
    stopped(tmp_path / "p", 2)
    path = tmp_path / "p.partial" / name
    content = bytearray(path.read_bytes())
    content[150] ^= 1  # beyond the header
    path.write_bytes(content)
    refused(f"{name} (is damaged|does not fit its checksum|is not valid JSON)", make, tmp_path / "p")


def test_no_flipped_bit_changes_the_pairs(made):
    expected = [array.copy() for array in (made.images, made.labels, made.latents)]
    rng = np.random.default_rng(0)
    for name in FILES:
        content = (made.path / name).read_bytes()
        for bit in rng.integers(8 * len(content), size=40):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            (made.path / name).write_bytes(damaged)
            try:
                pairs = load_pairs(made.path)
            except InputError as error:
                assert name in str(error)
            else:  # one space for another in the JSON
                assert name == "manifest.json" and pairs.manifest == made.manifest
                assert all(map(np.array_equal, expected, (pairs.images, pairs.labels, pairs.latents)))
        (made.path / name).write_bytes(content)


def test_a_damaged_partial_folder_is_named(tmp_path):
    stopped(tmp_path / "p", 2)
    path = tmp_path / "p.partial" / "latents.npy"
    path.write_bytes(path.read_bytes()[:-1])
    refused("latents.npy is missing or cannot be read .*remove it", make, tmp_path / "p")
    np.save(path, np.zeros((2, 5), np.float16))
    refused("p.partial holds arrays of other sizes", make, tmp_path / "p")


def test_damaged_files_are_named(made):
    for name in FILES[:3]:
        path, data = made.path / name, (made.path / name).read_bytes()
        path.unlink()
        refused(f"{name} is missing", load_pairs, made.path, verify=False)
        path.write_bytes(data[:-1])
        refused(f"{name} is missing or cannot be read", load_pairs, made.path, verify=False)
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        refused(f"{name} is not the file of the manifest .*sha256.* make the pairs", load_pairs, made.path)
        path.write_bytes(data)
    assert len(load_pairs(made.path)) == 15


@pytest.mark.parametrize("shape", ["(-15, 4, 4, 3)", "(15, 4, 4, 99999999999)", "(15, 4, 4, 3.0)", "(15,", "x"])
def test_hostile_arrays_are_named(made, shape):
    path = made.path / "images.npy"
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(720))
    refused("images.npy is missing or cannot be read", load_pairs, made.path, verify=False)
    with open(path, "wb") as file:
        np.savez(file, images=np.zeros((15, 4, 4, 3), np.uint8))
    refused("images.npy is missing or cannot be read", load_pairs, made.path, verify=False)
    path.unlink()
    os.mkfifo(path) if hasattr(os, "mkfifo") else path.mkdir()
    refused("images.npy is missing or cannot be read .no such file", load_pairs, made.path, verify=False)


def test_a_link_is_a_folder_for_pairs(made, tmp_path):
    for name in ("empty", "nothing", "far/nothing"):
        (tmp_path / "there" / name).parent.mkdir(exist_ok=True, parents=True)
        link = tmp_path / f"link-{name.replace('/', '-')}"
        link.symlink_to(tmp_path / "there" / name)
        if name == "empty":
            (tmp_path / "there" / name).mkdir()
        stopped(link, 2)
        make(link)
        assert contents(link) == contents(made.path) and link.is_symlink() and len(make(link)) == 15
    save_pairs(**foreign(), out=(tmp_path / "foreign").joinpath())
    (tmp_path / "link").symlink_to(tmp_path / "there" / "mine")
    save_pairs(**foreign(), out=tmp_path / "link")
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["empty", "far", "mine", "nothing"]
    assert contents(tmp_path / "there" / "mine") == contents(tmp_path / "foreign")


def test_of_two_at_once_the_second_is_told_who_is_first(tmp_path):
    told = []

    class Slow(Recorder):
        def __call__(self, z, y):
            def second():
                with pytest.raises(InputError) as caught:
                    make(tmp_path / "p")
                told.append(str(caught.value))

            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
            return super().__call__(z, y)

    make(tmp_path / "p", Slow())
    assert len(told) == 4 and f"p is being written by process {os.getpid()} on " in told[0]
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_finished_pairs_are_read_by_several_at_once(tmp_path):
    made = make(tmp_path / "p")
    with locked(made.path):  # by another one, which may be reading them too
        told = []
        thread = threading.Thread(target=lambda: told.append(len(make(made.path))))
        thread.start()
        thread.join()
    assert told == [len(made)]


def test_finished_pairs_are_read_where_nothing_can_be_removed(made, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(type(made.path), "unlink", refuse)
    assert contents(make(made.path).path) == contents(made.path)


def test_what_systems_leave_in_a_folder_is_no_work(tmp_path):
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / ".DS_Store").touch()
    assert contents(make(tmp_path / "pairs").path) == contents(make(tmp_path / "other").path)


def test_what_pairs_are_does_not_depend_on_where_they_lie(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    near = load_pairs("pairs")
    monkeypatch.chdir("/")
    assert sha256(near.path / "manifest.json") == sha256(made.path / "manifest.json")


def test_what_is_no_folder_of_pairs_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for name, message in {"no": "does not exist: make", "file": "is not a folder", "": "has no manifest.json"}.items():
        refused(f"{name} {message}", load_pairs, tmp_path / name)


def test_a_file_longer_than_it_says_is_refused_before_it_is_read(made):
    with open(made.path / "images.npy", "ab") as file:
        file.truncate(1 << 36)  # takes no room on the disk
    refused("images.npy is missing or cannot be read .it is not as long as it says", load_pairs, made.path)


def test_names_that_pairs_could_not_carry_are_refused_before_the_work():
    for bad in ("", "a\nb", "9" * 300):
        with pytest.raises(InputError, match="is no name for a class"):
            Teacher(lambda z, y: None, 2, 2, 4, ("cat", bad))


def test_a_manifest_that_does_not_fit_is_refused(made):
    for change, message in (
        ({"format": 2}, "states format 2, but this version reads 1"),
        ({"format": None}, "field 'format' is missing or is no int"),
        ({"count": 14}, "images.npy has 15 rows, .*manifest.json says 14"),
        ({"z_dim": 6, "resolution": 8}, "states {'z_dim': 6, 'resolution': 8}, but .* 'z_dim': 5, 'resolution': 4"),
        ({"counts": [4, 6, 5]}, r"states {'counts': \[4, 6, 5\]}"),
        ({"classes": "012"}, "field 'classes' is missing or is no list"),
        ({"classes": ["0", "1"]}, "labels.npy holds 2 in row 10, not 0 to 1"),
        ({"classes": ["a", "a", "b"]}, "classes must be a list of different names"),
        ({"sha256": {}}, "images.npy is not the file of the manifest"),
        ("[]", "manifest.json has no checksum"),
        ("{}", "manifest.json has no checksum"),
        ("[" * 100_000, "manifest.json is not valid JSON"),
        ("{", "manifest.json is not valid JSON"),
        ({"classes": [["0"], ["1"], ["2"]]}, "classes must be a list of different names"),
        ({"classes": []}, "classes must be a list of different names"),
        ({"classes": ["a", "9" * 5000, "b"]}, "is no name for a class"),
        ({"teacher": None}, "field 'teacher' is missing or is no str"),
        ({"digest": 5}, "field 'digest' is missing or is no str or null"),
        ({"seed": True}, "field 'seed' is missing or is no int or null"),
        ({"z_from": "cauchy"}, "field 'z_from' must be one of normal, uniform"),
    ):
        text = change if isinstance(change, str) else json.dumps(with_checksum(made.manifest | change))
        (made.path / "manifest.json").write_text(text)
        refused(message, load_pairs, made.path)
    for key in made.manifest:
        rest = {name: value for name, value in made.manifest.items() if name != key}
        (made.path / "manifest.json").write_text(json.dumps(with_checksum(rest)))
        refused(f"field '{key}' is missing", load_pairs, made.path)
    (made.path / "manifest.json").write_text(json.dumps(made.manifest))
    refused("manifest.json has no checksum", load_pairs, made.path, verify=False)


def latents(value):
    return np.where(np.arange(75).reshape(15, 5) == 47, value, 0).astype(np.float16)


def test_wrong_arrays_are_refused_even_with_the_right_hash(made):
    for name, array, message in (
        ("images.npy", np.zeros((15, 4, 4, 3)), r"is float64 \(15, 4, 4, 3\), expected uint8 \(N, H, H, 3\)"),
        ("images.npy", np.zeros((15, 3, 4, 4), np.uint8), r"images.npy is uint8 \(15, 3, 4, 4\)"),
        ("images.npy", np.zeros((15, 4, 8, 3), np.uint8), r"images.npy is uint8 \(15, 4, 8, 3\)"),
        ("labels.npy", np.zeros(14, np.int64), r"labels.npy has 14 rows, .*manifest.json says 15"),
        ("labels.npy", np.zeros(15, np.int32), r"labels.npy is int32"),
        ("labels.npy", np.full(15, -1), r"labels.npy holds -1 in row 0, not 0 to 2"),
        ("latents.npy", np.zeros((15, 5), np.float32), r"latents.npy is float32 \(15, 5\), expected float16"),
        ("latents.npy", np.zeros(15, np.float16), r"latents.npy is float16 \(15,\)"),
        ("latents.npy", latents(np.nan), r"latents.npy is not finite in row 9"),
        ("latents.npy", latents(-np.inf), r"latents.npy is not finite in row 9"),
        ("latents.npy", np.array([None]), "latents.npy is missing or cannot be read"),
    ):
        before = (made.path / name).read_bytes()
        np.save(made.path / name, array)
        hashes = made.manifest["sha256"] | {name: sha256(made.path / name)}
        (made.path / "manifest.json").write_text(json.dumps(with_checksum(made.manifest | {"sha256": hashes})))
        for verify in (True, False):
            refused(message, load_pairs, made.path, verify=verify)
        (made.path / name).write_bytes(before)


def foreign(count=6):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8), np.arange(count) % 2
    return dict(images=images, labels=labels, latents=rng.standard_normal((count, 3)).astype(np.float32))


def test_foreign_pairs_are_saved_and_loaded(tmp_path):
    given = foreign()
    saved = save_pairs(**given, out=tmp_path / "p", classes=("cat", "dog"), teacher="biggan")
    before = contents(tmp_path / "p")
    for pairs in (saved, load_pairs(tmp_path / "p")):
        assert np.array_equal(pairs.images, given["images"]) and pairs.labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert np.array_equal(pairs.latents, given["latents"].astype(np.float16))
        assert pairs.classes == ("cat", "dog") and pairs.manifest["counts"] == [3, 3]
        assert (pairs.manifest["teacher"], pairs.manifest["seed"]) == ("biggan", None)
    assert save_pairs(**given, out=tmp_path / "q").classes == ("0", "1")
    refused("p already exists and is left as it is", save_pairs, **foreign(8), out=tmp_path / "p")
    assert contents(tmp_path / "p") == before


def test_foreign_pairs_that_do_not_fit_are_refused(tmp_path):
    for kind in (np.uint8, np.int8, np.uint64):
        labels = np.arange(6).astype(kind) % 2
        assert len(save_pairs(**foreign() | dict(labels=labels), out=tmp_path / "whole" / kind.__name__)) == 6
    shutil.rmtree(tmp_path / "whole")
    for change, message in (
        (dict(images=np.zeros((6, 4, 4, 3))), "images.npy is float64"),
        (dict(labels=np.zeros(6)), "labels must be whole numbers"),
        (dict(labels=[0, 2, 0, 2, 0, 2]), "class '1' has no pairs"),
        (dict(classes=["a"]), "holds 1 in row 1, not 0 to 0"),
        (dict(classes=["a", "b", "c"]), "class 'c' has no pairs"),
        (dict(classes=["a", "a"]), "classes must be a list of different names"),
        (dict(latents=np.zeros((6, 3), int)), "latents floats"),
        (dict(latents=np.full((6, 3), 1e6)), "not finite in row 0 .*65504"),
        (foreign(0), "the same N > 0"),
    ):
        refused(message, save_pairs, **foreign() | change, out=tmp_path / "p")
    assert list(tmp_path.iterdir()) == []
