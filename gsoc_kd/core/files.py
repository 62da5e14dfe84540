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
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def writing(folder):
    """Turns the operating system's refusal to write into a message."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        raise InputError(
            f"{folder} cannot be written ({'the disk is full' if full else error}): mend that "
            "and run the same command again; nothing that is done is lost"
        ) from error


def sweep(folder):
    """Removes what killed processes left half written in `folder`; a folder caught between its old and its new state
    is the old one again. What belongs to a process that lives is left alone."""
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
    if process == os.getpid():
        return False  # an earlier one of that number
    if os.name == "nt":  # there os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        pass
    return True


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path, value):
    """Writes `value` as indented JSON, atomically."""
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path):
    """Reads a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); make it again or restore it") from None
