"""Files appear under their final names whole or not at all; what stood there before survives failures."""

import errno
import os

import pytest

from gsoc_kd.core import files
from gsoc_kd.core.files import InputError, read_json, replacing_file, replacing_folder, sha256, sweep, write_json

DEAD = 999_999_999  # no process has this number


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")  # a published test vector
    assert sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_refusal_to_write_becomes_a_message():
    assert issubclass(InputError, ValueError)
    for error, told in (
        (OSError(errno.ENOSPC, "no space"), "the disk is full"),
        (PermissionError("read-only"), "read-"),
    ):
        with pytest.raises(InputError, match=f"^runs/a cannot be written .{told}.*nothing that is done is lost"):
            with files.writing("runs/a"):
                raise error


def test_a_file_is_replaced_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "f"
    with replacing_file(path) as temporary:
        temporary.write_text("first")
        assert temporary.parent == path.parent and not path.exists()
    with replacing_file(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and names(path.parent) == ["f"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "folder"
    (rest := path.with_name(f".folder.{os.getpid()}.tmp")).mkdir(parents=True)
    (rest / "half").write_text("half")  # what a killed process of this number left is not taken over
    with replacing_folder(path) as temporary:
        (temporary / "a").write_text("first")
        assert not path.exists()
    with replacing_folder(path) as temporary:
        (temporary / "b").write_text("second")
        assert names(path) == ["a"]
    assert names(path) == ["b"] and (path / "b").read_text() == "second"  # nothing of the old one
    assert names(path.parent) == ["folder"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_ones_and_no_rest(tmp_path, error):
    (tmp_path / "f").write_text("old")
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(error), replacing_file(tmp_path / "f") as temporary:
        temporary.write_text("half")
        raise error
    with pytest.raises(error), replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("half")
        raise error
    assert (tmp_path / "f").read_text() == (tmp_path / "folder" / "a").read_text() == "old"
    assert names(tmp_path) == ["f", "folder"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("old")
    rename = os.replace

    def fails_for_the_new_one(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", fails_for_the_new_one)
    with pytest.raises(OSError, match="no"), replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("new")
    assert (tmp_path / "folder" / "a").read_text() == "old" and names(tmp_path) == ["folder"]


@pytest.mark.skipif(os.name == "nt", reason="there is no way to ask whether a process lives")
def test_leavings_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    for name in (f".a.json.{DEAD}.tmp", f".b.{os.getpid()}.tmp", f".c.{os.getppid()}.tmp", ".mine", "d.1.tmp"):
        (tmp_path / name).write_text("x")
    (tmp_path / f".folder.{DEAD}.tmp").mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == sorted([f".c.{os.getppid()}.tmp", ".mine", "d.1.tmp"])
    sweep(tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="there is no way to ask whether a process lives")
def test_a_folder_caught_between_old_and_new_comes_back(tmp_path):
    for left in (("old", "tmp"), ("old",)):  # the second time it was killed just before the old one was removed
        for end in left:
            (tmp_path / f".folder.{DEAD}.{end}").mkdir()
            (tmp_path / f".folder.{DEAD}.{end}" / "a").write_text(end if "tmp" in left else "rest")
        sweep(tmp_path)
        assert names(tmp_path) == ["folder"] and (tmp_path / "folder" / "a").read_text() == "old"


def test_json_comes_back_and_what_is_missing_or_damaged_is_named(tmp_path):
    path, value = tmp_path / "f.json", {"name": "Größe", "list": [1, 2.5, None, True], "nested": {"a": "b"}}
    write_json(path, value)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == value and names(tmp_path) == ["f.json"] and path.read_text().startswith("{\n  ")
    path.unlink()
    for missing in (path, path / "of a file"):
        with pytest.raises(InputError, match=f"{missing.name} is missing"):
            read_json(missing)
        path.write_text("1")
    for damaged in (b"", b'{"a": 1', b"\xff\xfe{"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="f.json is not valid JSON"):
            read_json(path)
