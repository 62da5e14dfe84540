"""FakeCIFAR10: the right triples, the same bytes every time, and nothing damaged or foreign gets through."""

import errno
import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from gsoc_kd.pairs.folder import load_pairs, save_pairs
from gsoc_kd.pairs.make import draw_latents, make_pairs
from gsoc_kd.teachers.black_box import Teacher, black_box

from gsoc_kd.core.files import InputError, sha256
from gsoc_kd.networks.conv import ConvGenerator
from gsoc_kd.pairs import make as pairs_module

FILES = ["images.npy", "labels.npy", "latents.npy", "manifest.json"]


class Recorder:
    """A teacher of 4x4 pictures that keeps what it was asked; it can be stopped after some calls."""

    z_dim, resolution, __name__ = 5, 4, "recorder"

    def __init__(self, num_classes=3, stop_after=None, error=KeyboardInterrupt):
        self.num_classes, self.stop_after, self.error, self.asked = num_classes, stop_after, error, []

    def __call__(self, z, y):
        if len(self.asked) == self.stop_after:
            raise self.error
        self.asked.append((z.clone(), y.clone()))
        picture = (z.double()[:, None, None, :3] * 30 + 10 * y[:, None, None, None] + 100).clip(0, 255)
        return picture.expand(-1, 4, 4, -1).to(torch.uint8)


def contents(folder):
    assert sorted(p.name for p in folder.iterdir()) == FILES
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def made(tmp_path):
    return make_pairs(Recorder(), per_class=5, seed=0, out=tmp_path / "pairs", chunk=4)


# ---------------------------------------------------------------- the noise


def test_latents_are_normal_and_rounded_to_float16():
    z = draw_latents(0, 0, 2000, 100)  # 200,000 numbers
    assert z.dtype == np.float16 and z.shape == (2000, 100)
    z = z.astype(np.float64)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01  # standard errors 0.0022, 0.0016
    assert abs((z**3).mean()) < 0.03 and abs((z**4).mean() - 3) < 0.1  # no skew, the tails of a normal
    assert abs((z < 0).mean() - 0.5) < 0.005  # not the U[0,1) of 2022


def test_every_seed_and_chunk_has_noise_of_its_own():
    keys = [(seed, chunk) for seed in (0, 1, 2, 2**32, 2**64 + 1) for chunk in (0, 1, 2)]
    drawn = [draw_latents(*key, 50, 4) for key in keys]
    assert all(np.array_equal(z, draw_latents(*key, 50, 4)) for key, z in zip(keys, drawn))
    flat = np.stack(drawn).reshape(len(keys), -1).astype(np.float64)
    correlation = np.corrcoef(flat) - np.eye(len(keys))
    assert np.abs(correlation).max() < 0.35  # 200 numbers: standard error 0.07


def test_latents_do_not_depend_on_the_global_random_state():
    torch.manual_seed(1)
    a = draw_latents(3, 4, 5, 6)
    state = torch.get_rng_state()
    assert np.array_equal(a, draw_latents(3, 4, 5, 6)) and torch.equal(state, torch.get_rng_state())


# ---------------------------------------------------------------- the triples


@pytest.mark.parametrize("num_classes, per_class, chunk", [(3, 5, 4), (3, 4, 4), (2, 3, 100), (1, 7, 3), (4, 1, 1)])
def test_counts_are_exact_and_rows_are_ordered_by_class(tmp_path, num_classes, per_class, chunk):
    teacher = Recorder(num_classes)
    made = make_pairs(teacher, per_class=per_class, out=tmp_path / "p", chunk=chunk)
    total = num_classes * per_class
    assert len(made) == total and made.images.shape == (total, 4, 4, 3) and made.latents.shape == (total, 5)
    assert [a.dtype for a in (made.images, made.labels, made.latents)] == [np.uint8, np.int64, np.float16]
    assert made.labels.tolist() == np.repeat(np.arange(num_classes), per_class).tolist()
    assert made.manifest["counts"] == [per_class] * num_classes and made.manifest["count"] == total
    sizes = [len(z) for z, _ in teacher.asked]
    assert sizes == [chunk] * (total // chunk) + [total % chunk] * (total % chunk > 0)
    assert (made.num_classes, made.z_dim, made.resolution) == (num_classes, 5, 4)
    assert made.classes == tuple(str(c) for c in range(num_classes))


def test_what_is_stored_is_what_the_teacher_saw_and_drew(tmp_path):
    teacher = Recorder()
    made = make_pairs(teacher, per_class=5, seed=7, out=tmp_path / "p", chunk=4)
    z, y = (torch.cat(parts) for parts in zip(*teacher.asked))
    assert z.dtype == torch.float32 and torch.equal(z, z.half().float())  # rounded before it was asked
    assert np.array_equal(z.numpy(), made.latents.astype(np.float32))  # to the last bit
    assert np.array_equal(y.numpy(), made.labels)
    for k in range(4):
        rows = made.latents[4 * k : 4 * k + 4]
        assert np.array_equal(rows, draw_latents(7, k, len(rows), 5))
    for row in (0, 3, 4, 11, 14):
        expected = Teacher(Recorder(), 5, 3, 4)(made.latents[row : row + 1], made.labels[row : row + 1])[0]
        assert np.array_equal(made.images[row], expected)
    assert len({picture.tobytes() for picture in made.images}) == 15


def test_a_networks_pictures_are_stored(tmp_path):
    network = ConvGenerator(z_dim=6, num_classes=2, resolution=8, widths=(8, 4), embed_dim=4)
    made = make_pairs(network, per_class=6, out=tmp_path / "p", chunk=4)
    teacher = black_box(network)
    drawn = teacher(made.latents, made.labels).astype(int)  # another batch size: a grey level
    assert np.abs(made.images - drawn).max() <= 1 and made.images.std() > 1
    assert made.manifest["digest"] == teacher.digest and made.manifest["teacher"] == "ConvGenerator"


def test_the_manifest_says_how(made, tmp_path):
    assert made.manifest == {
        "format": 1,
        "teacher": "recorder",
        "digest": None,
        "psi": 1.0,
        "half": False,
        "seed": 0,
        "chunk": 4,
        "per_class": 5,
        "z_dim": 5,
        "resolution": 4,
        "classes": ["0", "1", "2"],
        "count": 15,
        "counts": [5, 5, 5],
        "sha256": {name: sha256(tmp_path / "pairs" / name) for name in FILES[:3]},
    }
    assert json.loads((tmp_path / "pairs" / "manifest.json").read_text()) == made.manifest
    assert made.path == tmp_path / "pairs" and "15 of 3 classes, 4x4 pixels, z of 5" in repr(made)


def test_the_same_call_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    make_pairs(Recorder(), per_class=5, seed=0, out=tmp_path / "again", chunk=4)
    other = make_pairs(Recorder(), per_class=5, seed=1, out=tmp_path / "other", chunk=4)
    assert contents(tmp_path / "again") == contents(tmp_path / "pairs")
    assert not (np.asarray(other.latents) == made.latents).all(axis=1).any()


def test_files_are_plain_numpy(made):
    for name, array in zip(FILES, (made.images, made.labels, made.latents)):
        assert np.array_equal(np.load(made.path / name, allow_pickle=False), array)


def test_changes_in_memory_do_not_reach_the_disk(made):
    before = contents(made.path)
    made.images[0] = 0
    made.latents[0] = 0
    assert contents(made.path) == before


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("save_every", [0.0, 1e9])
@pytest.mark.parametrize("stops", [(0,), (1,), (3,), (1, 0, 2)])
def test_resumed_ends_with_the_bytes_of_uninterrupted(made, tmp_path, monkeypatch, stops, save_every):
    monkeypatch.setattr(pairs_module, "SAVE_EVERY", save_every)
    out, asked = tmp_path / "resumed", 0
    for stop in stops:
        teacher = Recorder(stop_after=stop)
        with pytest.raises(KeyboardInterrupt):
            make_pairs(teacher, per_class=5, seed=0, out=out, chunk=4)
        asked += len(teacher.asked)
        assert not out.exists()
        assert json.loads((tmp_path / "resumed.partial" / "progress.json").read_text())["rows"] == 4 * asked
        with pytest.raises(InputError, match="resumed.partial is unfinished: run the command that makes it"):
            load_pairs(out)
    teacher = Recorder()
    make_pairs(teacher, per_class=5, seed=0, out=out, chunk=4)
    assert len(teacher.asked) == 4 - asked  # nothing is drawn twice
    assert contents(out) == contents(made.path)
    assert not (tmp_path / "resumed.partial").exists()


def test_a_kill_between_rows_and_note_only_repeats_rows(made, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_pairs(Recorder(stop_after=3), per_class=5, out=tmp_path / "p", chunk=4)
    progress = tmp_path / "p.partial" / "progress.json"
    progress.write_text(json.dumps(json.loads(progress.read_text()) | {"rows": 4}))
    with open(tmp_path / "p.partial" / "images.npy", "r+b") as file:  # rows 4 .. half written
        file.seek(-150, 2)
        file.write(b"\xff" * 100)
    make_pairs(Recorder(), per_class=5, out=tmp_path / "p", chunk=4)
    assert contents(tmp_path / "p") == contents(made.path)


def test_a_kill_before_the_first_note_starts_again(made, tmp_path):
    (tmp_path / "p.partial").mkdir()
    (tmp_path / "p.partial" / "images.npy").write_bytes(b"half a header")
    make_pairs(Recorder(), per_class=5, out=tmp_path / "p", chunk=4)
    assert contents(tmp_path / "p") == contents(made.path)


def test_a_kill_before_the_last_clean_up_is_cleaned_up(made):
    before = contents(made.path)
    (made.path / "progress.json").write_text("{}")
    make_pairs(Recorder(), per_class=5, out=made.path, chunk=4)
    assert contents(made.path) == before


def test_a_failing_teacher_keeps_what_is_done(tmp_path):
    with pytest.raises(RuntimeError, match="out of memory"):
        teacher = Recorder(stop_after=2, error=RuntimeError("out of memory"))
        make_pairs(teacher, 5, out=tmp_path / "p", chunk=4)
    teacher = Recorder()
    assert len(make_pairs(teacher, 5, out=tmp_path / "p", chunk=4)) == 15 and len(teacher.asked) == 2


CHANGES = [
    (dict(seed=1), "seed 0, now 1"),
    (dict(per_class=6), "per_class 5, now 6"),
    (dict(chunk=5), "chunk 4, now 5"),
    (dict(teacher=Recorder(num_classes=4)), "classes .*, now .*'3'"),
    (dict(teacher=Teacher(Recorder(), 5, 3, 4, name="b")), "teacher 'recorder', now 'b'"),
    (dict(teacher=Teacher(Recorder(), 5, 3, 4, name="recorder", digest="a")), "digest None, now 'a'"),
    (dict(teacher=Teacher(Recorder(), 5, 3, 4, name="recorder", psi=0.5)), "psi 1.0, now 0.5"),
    (dict(teacher=Teacher(Recorder(), 5, 3, 4, name="recorder", half=True)), "half False, now True"),
]


@pytest.mark.parametrize("change, message", CHANGES)
def test_other_settings_neither_continue_nor_overwrite(made, tmp_path, change, message):
    call = dict(teacher=Recorder(), per_class=5, seed=0, chunk=4)
    with pytest.raises(KeyboardInterrupt):
        make_pairs(**call | dict(teacher=Recorder(stop_after=2)), out=tmp_path / "half")
    before = {p.name: p.read_bytes() for p in (tmp_path / "half.partial").iterdir()}
    for out, folder in ((tmp_path / "half", "half.partial"), (made.path, "pairs")):
        refused = f"{folder} was made with other settings .*{message}.*choose another out"
        with pytest.raises(InputError, match=refused):
            make_pairs(**call | change, out=out)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "half.partial").iterdir()}
    assert len(load_pairs(made.path)) == 15


def test_a_renamed_teacher_with_the_same_weights_continues(tmp_path):
    def call(teacher, out, name):
        return make_pairs(Teacher(teacher, 5, 3, 4, name=name, digest="abc"), 5, out=tmp_path / out, chunk=4)

    with pytest.raises(KeyboardInterrupt):
        call(Recorder(stop_after=2), "p", "first")
    call(Recorder(), "p", "second")
    call(Recorder(), "whole", "first")
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


def test_already_made_is_loaded_without_work(made, capsys):
    teacher = Recorder()
    again = make_pairs(teacher, per_class=5, seed=0, out=made.path, chunk=4)
    assert teacher.asked == [] and np.array_equal(again.images, made.images)
    assert "already made, 15 pairs" in capsys.readouterr().out


# ---------------------------------------------------------------- where it cannot be made


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(per_class=0), "per_class must be .* at least 1, not 0"),
        (dict(per_class=2.5), "per_class .* 2.5"),
        (dict(seed=-1), "seed must be .* at least 0, not -1"),
        (dict(chunk=0), "chunk .* at least 1"),
        (dict(chunk=True), "chunk"),
        (dict(out="/"), "out must name a folder"),
        (dict(teacher="x.pkl"), "x.pkl"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        make_pairs(**dict(teacher=Recorder(), per_class=2, out=tmp_path / "p") | change)
    assert list(tmp_path.iterdir()) == []


def test_nothing_foreign_is_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="out must name a folder that can be made, not .*file"):
        make_pairs(Recorder(), 2, out=tmp_path / "file")
    for folder in ("full", "p.partial"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="full has no manifest.json"):
        make_pairs(Recorder(), 2, out=tmp_path / "full")
    with pytest.raises(InputError, match="p.partial holds diary.txt"):
        make_pairs(Recorder(), 2, out=tmp_path / "p")
    for mine in ("file", "full/diary.txt", "p.partial/diary.txt"):
        assert (tmp_path / mine).read_text() == "mine"


def test_an_empty_folder_may_be_filled(made, tmp_path):
    (tmp_path / "empty").mkdir()
    make_pairs(Recorder(), 5, out=tmp_path / "empty", chunk=4)
    assert contents(tmp_path / "empty") == contents(made.path)


def test_a_disk_known_to_be_too_small_is_said_at_once(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 200_000))
    teacher = Recorder()
    with pytest.raises(InputError, match="30000 pairs need 2.0 MB, the disk of .* has 0.2 MB free"):
        make_pairs(teacher, per_class=10_000, out=tmp_path / "p")
    assert teacher.asked == []
    assert len(make_pairs(teacher, per_class=5, out=tmp_path / "p")) == 15  # fewer fit


def test_a_disk_that_fills_up_keeps_what_is_done(made, tmp_path, monkeypatch):
    teacher = Recorder()

    def full_in_the_third_chunk(path, mode):
        if len(teacher.asked) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(pairs_module, "SAVE_EVERY", 0.0)
        patch.setattr(pairs_module, "open", full_in_the_third_chunk, raising=False)
        with pytest.raises(InputError, match=r"p.partial cannot be written \(the disk is full\).*again"):
            make_pairs(teacher, 5, out=tmp_path / "p", chunk=4)
    teacher = Recorder()
    make_pairs(teacher, 5, out=tmp_path / "p", chunk=4)
    assert len(teacher.asked) == 2 and contents(tmp_path / "p") == contents(made.path)


def test_half_written_notes_of_a_killed_process_are_no_foreign_files(made, tmp_path):
    (tmp_path / "p.partial").mkdir()
    for name in ("progress", "manifest"):
        (tmp_path / "p.partial" / f".{name}.json.999999999.tmp").write_text("{")
    make_pairs(Recorder(), 5, out=tmp_path / "p", chunk=4)
    assert contents(tmp_path / "p") == contents(made.path)


def test_a_damaged_partial_folder_is_named(tmp_path):
    for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:-1])):
        shutil.rmtree(tmp_path / "p.partial", ignore_errors=True)
        with pytest.raises(KeyboardInterrupt):
            make_pairs(Recorder(stop_after=2), 5, out=tmp_path / "p", chunk=4)
        damage(tmp_path / "p.partial" / "latents.npy")
        with pytest.raises(InputError, match="latents.npy is missing or damaged: remove .*p.partial and"):
            make_pairs(Recorder(), 5, out=tmp_path / "p", chunk=4)


# ---------------------------------------------------------------- loading


def test_loading_gives_the_same_triples(made):
    for verify in (True, False):
        loaded = load_pairs(str(made.path), verify=verify)
        assert isinstance(loaded.images, np.memmap) and loaded.manifest == made.manifest
        for name in ("images", "labels", "latents"):
            assert np.array_equal(getattr(loaded, name), getattr(made, name))


@pytest.mark.parametrize("name", FILES[:3])
def test_one_changed_byte_is_found_and_named(made, name):
    data = bytearray((made.path / name).read_bytes())
    data[-1] ^= 1
    (made.path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} is not the file of the manifest .*sha256.* make the pairs"):
        load_pairs(made.path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(made, name):
    (made.path / name).unlink()
    message = "pairs has no manifest.json" if name == "manifest.json" else f"{name} is missing"
    with pytest.raises(InputError, match=message):
        load_pairs(made.path)


def test_what_is_no_folder_of_pairs_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing does not exist: make a folder of pairs with gsoc_kd"):
        load_pairs(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is not a folder"):
        load_pairs(tmp_path / "file")
    with pytest.raises(InputError, match="has no manifest.json"):
        load_pairs(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": 2}, "states format 2, this version reads format 1"),
        ({"format": None}, "states format None"),
        ({"count": 14}, "states count 14, but the files hold 15"),
        ({"z_dim": 6}, "states z_dim 6, but the files hold 5"),
        ({"resolution": 8}, "states resolution 8"),
        ({"counts": [4, 6, 5]}, r"states counts \[4, 6, 5\]"),
        ({"classes": "012"}, "field 'classes' is missing or is not a list"),
        ({"count": "15"}, "field 'count'"),
        ({"classes": ["0", "1"]}, "labels.npy holds 2 in row 10, but there are 2 classes, 0 to 1"),
        ({"classes": ["a", "a", "b"]}, "two classes have the same name"),
        ({"sha256": {}}, "sha256 of images.npy"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(made, change, message):
    (made.path / "manifest.json").write_text(json.dumps(made.manifest | change))
    with pytest.raises(InputError, match=message):
        load_pairs(made.path)


@pytest.mark.parametrize(
    "text, message", [("[]", "states no format"), ("{}", "states no format"), ("{", "manifest.json is not valid JSON")]
)
def test_a_manifest_that_is_none_is_refused(made, text, message):
    (made.path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_pairs(made.path)


def bad_latents(value):
    latents = np.zeros((15, 5), np.float16)
    latents[9, 2] = value
    return latents


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("images.npy", np.zeros((15, 4, 4, 3)), r"is float64 \(15, 4, 4, 3\), expected uint8 \(N, H, H, 3\)"),
        ("images.npy", np.zeros((15, 3, 4, 4), np.uint8), r"images.npy is uint8 \(15, 3, 4, 4\)"),
        ("images.npy", np.zeros((15, 4, 8, 3), np.uint8), r"images.npy is uint8 \(15, 4, 8, 3\)"),
        ("labels.npy", np.zeros(14, np.int64), r"labels.npy is int64 \(14,\), expected int64 \(N,\)"),
        ("labels.npy", np.zeros(15, np.int32), r"labels.npy is int32"),
        ("labels.npy", np.full(15, -1), r"labels.npy holds -1 in row 0"),
        ("labels.npy", np.full(15, 3), r"labels.npy holds 3 in row 0, but there are 3 classes, 0 to 2"),
        ("latents.npy", np.zeros((15, 5), np.float32), r"latents.npy is float32 \(15, 5\), expected float16"),
        ("latents.npy", np.zeros(15, np.float16), r"latents.npy is float16 \(15,\)"),
        ("latents.npy", bad_latents(np.nan), r"latents.npy holds a number that is not finite in row 9"),
        ("latents.npy", bad_latents(-np.inf), r"latents.npy holds a number that is not finite in row 9"),
        ("latents.npy", np.array([None]), r"latents.npy cannot be read .*"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_wrong_arrays_are_refused_even_with_the_right_hash(made, name, array, message, verify):
    np.save(made.path / name, array)
    hashes = made.manifest["sha256"] | {name: sha256(made.path / name)}
    (made.path / "manifest.json").write_text(json.dumps(made.manifest | {"sha256": hashes}))
    with pytest.raises(InputError, match=message):
        load_pairs(made.path, verify=verify)


def test_a_truncated_file_is_named_without_verifying(made):
    data = (made.path / "images.npy").read_bytes()
    (made.path / "images.npy").write_bytes(data[:-1])
    with pytest.raises(InputError, match="images.npy cannot be read"):
        load_pairs(made.path, verify=False)


# ---------------------------------------------------------------- triples of others


def triples(count=6, classes=2):
    rng = np.random.default_rng(0)
    return dict(
        images=rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8),
        labels=np.arange(count) % classes,
        latents=rng.standard_normal((count, 3)).astype(np.float32),
    )


def test_foreign_triples_are_saved_and_loaded(tmp_path):
    given = triples()
    saved = save_pairs(**given, out=tmp_path / "p", classes=("cat", "dog"), teacher="biggan")
    loaded = load_pairs(tmp_path / "p")
    for pairs in (saved, loaded):
        assert np.array_equal(pairs.images, given["images"]) and pairs.labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert np.array_equal(pairs.latents, given["latents"].astype(np.float16))
        assert pairs.classes == ("cat", "dog") and pairs.manifest["counts"] == [3, 3]
        assert (pairs.manifest["teacher"], pairs.manifest["seed"]) == ("biggan", None)
    contents(tmp_path / "p")
    assert save_pairs(**given, out=tmp_path / "q").classes == ("0", "1")
    before = contents(tmp_path / "p")
    with pytest.raises(InputError, match="p already exists and is left as it is"):
        save_pairs(**triples(8), out=tmp_path / "p")
    assert contents(tmp_path / "p") == before


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(images=np.zeros((6, 4, 4, 3))), "images.npy is float64"),
        (dict(images=np.zeros((5, 4, 4, 3), np.uint8)), r"labels.npy is int64 \(6,\)"),
        (dict(labels=np.zeros(6)), "labels must be whole numbers"),
        (dict(labels=[0, 1, -1, 0, 1, 0]), "holds -1 in row 2"),
        (dict(labels=[0, 2, 0, 2, 0, 2]), "class '1' has no pairs"),
        (dict(classes=["a"]), "there are 1 classes"),
        (dict(classes=["a", "b", "c"]), "class 'c' has no pairs"),
        (dict(classes=["a", "a"]), "the same name"),
        (dict(latents=np.zeros((6, 3), int)), "latents floats"),
        (dict(latents=np.zeros(6)), r"latents.npy is float16 \(6,\)"),
        (dict(latents=np.full((6, 3), 1e6)), "not finite in row 0 .*65504"),
        (dict(images=np.zeros((0, 4, 4, 3), np.uint8), labels=np.zeros(0, int), latents=np.zeros((0, 3))), "not empty"),
    ],
)
def test_foreign_triples_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        save_pairs(**triples() | change, out=tmp_path / "p")
    assert list(tmp_path.iterdir()) == []
