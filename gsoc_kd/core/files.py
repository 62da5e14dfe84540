"""Reading and writing without half files: what appears under its final name is whole."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

ASSETS = Path(__file__).parents[1] / "assets"  # the networks and statistics that the package carries


class InputError(ValueError):
    """Something the user gave cannot be used. The message names it and says what to do."""


def sha256(path):
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writing(folder):
    """Turns the operating system's refusal to write into a message."""
    try:
        yield
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)) else error
        told = f"{folder} cannot be written ({why}): mend that and go on; nothing that is done is lost"
        raise InputError(told) from error


@contextlib.contextmanager
def replacing_file(path):
    """`with replacing_file(p) as tmp: ...` writes `tmp` beside `p` and renames it to `p` only on success."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path):
    """The same for a folder: an older folder of that name stays until the new one is whole, then goes."""
    path = Path(path)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():  # the new one could not take its place
            os.replace(old, path)
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)


def sweep(folder):
    """Removes what killed processes, not living ones, left half written in `folder`; a folder caught between its old
    and its new state is the old one again."""
    for rest in sorted(Path(folder).glob(".*.*.*")):  # .old before .tmp of one process
        if not (match := re.fullmatch(r"\.(.+)\.(\d+)\.(tmp|old)", rest.name)) or _lives(int(match[2])):
            continue
        if match[3] == "old" and not rest.with_name(match[1]).exists():
            os.replace(rest, rest.with_name(match[1]))
        elif rest.is_dir():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            rest.unlink(missing_ok=True)


def _lives(process):
    try:  # our own number: an earlier process had it; on Windows os.kill would end one
        return process != os.getpid() and (os.name == "nt" or os.kill(process, 0) is None)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True


def write_json(path, value):
    """Writes `value` as indented JSON, atomically."""
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path):
    """What a JSON file holds; InputError where the file is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} is missing") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise InputError(f"{path} is not valid JSON ({error}); make it again or restore it") from None
