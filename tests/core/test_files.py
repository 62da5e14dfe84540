"""Files appear under their final names whole or not at all; what stood there before survives failures."""

import errno
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from gsoc_kd.core import files
from gsoc_kd.core.files import (
    InputError,
    locked,
    read_json,
    replacing_file,
    replacing_folder,
    sha256,
    sweep,
    write_json,
)

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


def test_what_systems_leave_in_a_folder_is_not_in_it(tmp_path):
    for name in (".DS_Store", "Thumbs.db", "._f", ".ipynb_checkpoints", "f", ".git", ".f"):
        (tmp_path / name).touch()
    assert files.contents(tmp_path) == {"f", ".git", ".f"}


def test_a_place_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "f").touch()
    (tmp_path / "folder").mkdir()
    for replacing in (replacing_file, replacing_folder):
        with pytest.raises(InputError, match="/f/g cannot be written"), replacing(tmp_path / "f" / "g"):
            raise AssertionError("nothing is begun")
    with pytest.raises(InputError, match="/folder is a folder; give the name of a file"):
        with replacing_file(tmp_path / "folder"):
            raise AssertionError("nothing is begun")
    assert names(tmp_path) == ["f", "folder"]


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


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_at_every_rename_a_folder_is_the_old_or_the_new_one_and_the_next_start_cleans(tmp_path, exchange):
    """Processes that end at their first, second, ... rename or exchange, before it or after it."""
    code = (
        "import os, sys; from gsoc_kd.core import files\n"
        "def ends(name, function, calls=[]):\n"
        "    def call(*given):\n"
        "        calls.append(name)\n"
        "        if len(calls) == int(sys.argv[2]) and sys.argv[3] == 'before': os._exit(9)\n"
        "        function(*given)\n"
        "        if len(calls) == int(sys.argv[2]): os._exit(9)\n"
        "    return call\n"
        "def no(*given): raise OSError('no')\n"
        "files._exchange = ends('exchange', files._exchange) if sys.argv[4] == 'True' else no\n"
        "os.replace = ends('rename', os.replace)\n"
        "with files.replacing_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'b').write_text('new')\n"
    )
    killed = 0
    for first, call, moment in itertools.product((True, False), (1, 2, 3), ("before", "after")):
        (place := tmp_path / f"{first}{call}{moment}").mkdir()
        if not first:
            (place / "folder").mkdir()
            (place / "folder" / "a").write_text("old")
        process = subprocess.run([sys.executable, "-c", code, place / "folder", str(call), moment, str(exchange)])
        killed += process.returncode == 9
        found = names(place / "folder") if (place / "folder").exists() else None
        assert found in ([None, ["b"]] if first else [["a"], ["b"]] + [None] * (not exchange))
        with replacing_folder(place / "folder") as folder:
            (folder / "b").write_text("new")
        assert names(place) == ["folder"] and names(place / "folder") == ["b"]
    assert killed == (4 if exchange else 6)


def test_without_an_exchange_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: os.rename("nothing", "nowhere"))
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("old")
    rename = os.replace

    def fails_for_the_new_one(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", fails_for_the_new_one)
    with pytest.raises(InputError, match="written .no.: mend"), replacing_folder(tmp_path / "folder") as temporary:
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


def test_what_is_written_to_a_link_is_written_where_it_leads(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("f", "folder", "new"):
        (tmp_path / name).symlink_to(tmp_path / "there" / name)
    write_json(tmp_path / "f", 1)
    for _ in range(2):
        with replacing_folder(tmp_path / "folder") as folder:
            (folder / "a").write_text("a")
    assert names(tmp_path) == ["f", "folder", "new", "there"] and all((tmp_path / n).is_symlink() for n in ("f", "new"))
    assert names(tmp_path / "there") == ["f", "folder"] and read_json(tmp_path / "f") == 1
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for nowhere in (tmp_path / "circle", "a\0b", "x" * 5000):
        with pytest.raises(InputError, match="cannot be (used as a path|written)"):
            write_json(nowhere, 1)


# ---------------------------------------------------------------- locks


@pytest.mark.skipif(files.fcntl is None, reason="this system has no flock")
def test_one_writer_and_the_second_is_told_who(tmp_path):
    def second(path):
        told = []

        def enter():
            try:
                with locked(path):
                    told.append(None)
            except InputError as error:
                told.append(str(error))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return told[0]

    (tmp_path / "link").symlink_to(tmp_path / "out")
    with locked(tmp_path / "out"), locked(tmp_path / "out"):  # once more by the same
        for path in (tmp_path / "out", tmp_path / "link", tmp_path / "x" / ".." / "out"):
            told = f"out is being written by process {os.getpid()} on {socket.gethostname()} since 20"
            assert told in second(path) and second(path).endswith("wait until that has ended, or give another place")
        assert second(tmp_path / "other") is None
        assert names(tmp_path) == [".out.lock", "link"]
    assert second(tmp_path / "out") is None and names(tmp_path) == ["link"]


@pytest.mark.skipif(files.fcntl is None, reason="this system has no flock")
def test_the_lock_of_a_living_process_holds_and_that_of_a_dead_one_is_taken_over(tmp_path):
    code = (
        f"from gsoc_kd.core.files import locked\nwith locked({str(tmp_path / 'out')!r}): print(1, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(InputError, match=f"being written by process {process.pid} on "), locked(tmp_path / "out"):
            pass
        process.kill()
    assert names(tmp_path) == [".out.lock"]
    with locked(tmp_path / "out"):
        assert f"process {os.getpid()} on" in (tmp_path / ".out.lock").read_text()
    assert names(tmp_path) == []


def test_where_nothing_can_be_locked_nothing_is(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with locked("/"), locked(tmp_path / "file" / "out"):
        pass
    monkeypatch.setattr(files, "fcntl", None)
    with locked(tmp_path / "out"):
        assert names(tmp_path) == ["file"]


# ---------------------------------------------------------------- JSON


def test_a_checksum_is_of_the_value_and_no_flipped_bit_changes_it(tmp_path):
    path, value = tmp_path / "f.json", {"name": "Größe", "numbers": [1, 2.5e-7, None, True], "checksum": "mine"}
    write_json(path, value, check=True)
    del value["checksum"]
    assert read_json(path) == read_json(path, check=True) == value
    path.write_text(json.dumps(json.loads(path.read_text())))  # otherwise spaced, the same
    assert read_json(path, check=True) == value
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 3):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_json(path, check=True) == value
        except InputError as error:
            assert re.search("not valid JSON|does not fit its checksum|has no checksum", str(error))
    for other in (value, [1], None, "text"):
        path.write_text(json.dumps(other))
        assert read_json(path) == other
        with pytest.raises(InputError, match="f.json has no checksum: it is damaged or was changed by hand"):
            read_json(path, check=True)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"a": -' + "1" * 5000 + "}"])
def test_json_without_end_is_one_line(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(InputError, match="f.json is not valid JSON") as caught:
        read_json(tmp_path / "f.json")
    assert len(str(caught.value)) < 500


def test_what_is_no_file_or_too_large_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo") if hasattr(os, "mkfifo") else (tmp_path / "fifo").mkdir()
    for nothing in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(InputError, match="is not a file"):
            read_json(nothing)
    (tmp_path / "f.json").write_text("1" + " " * 1000)
    with pytest.raises(InputError, match="has 1,001 bytes, and 1,000 are the most"):
        read_json(tmp_path / "f.json", most=1000)


def test_a_full_disk_is_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(InputError, match="f.json cannot be written .the disk is full"):
        write_json(tmp_path / "f.json", 1)
    assert names(tmp_path) == []


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
