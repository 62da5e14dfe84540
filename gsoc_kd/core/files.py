"""Reading and writing without half files: what appears under its final name is whole, and what is read is what was
written. Every JSON file of a run, of a network and of pairs ends with a checksum of the rest."""

import contextlib
import ctypes
import datetime
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import threading
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none of these locks: nothing is locked there
    fcntl = None

ASSETS = Path(__file__).parents[1] / "assets"  # the networks and statistics that the package carries
LONGEST = 1 << 22  # bytes of a JSON file
EXCHANGE = 2  # the system's flag for two names that are swapped, on Linux and on macOS
LEFT_BEHIND = (".ds_store", "__macosx", "thumbs.db", "desktop.ini", "@eadir", ".ipynb_checkpoints")
_held = set()  # (lock, process, thread): who holds a lock may take it again


class InputError(ValueError):
    """Something the user gave cannot be used. The message names it and says what to do."""


def contents(folder):
    """The names in a folder, a set, but for what systems and editors leave behind in folders."""
    return {p.name for p in Path(folder).iterdir() if not left_behind(p.name)}


def left_behind(name):
    """Whether a file or folder of this name was put there by a system or an editor, unasked."""
    return name.lower() in LEFT_BEHIND or name.startswith("._")


def sha256(path):
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def real(path):
    """Where a path leads: what is written to a link is written there. InputError if it leads nowhere."""
    try:
        path = Path(path).resolve()
        path.exists()
        return path
    except (OSError, RuntimeError, ValueError) as error:  # a link in a circle, a name that no system takes
        told = "".join(filter(str.isprintable, f"{str(path)[:200]!r} cannot be used as a path ({error})"))
        raise InputError(f"{told}; give another one") from None


@contextlib.contextmanager
def locked(path):
    """Only one process at a time, and one thread of it, writes what `path` names, a file or a folder. InputError for
    all others, with process, machine and time of the first.

    The system gives the lock of a process back when it ends, however it ends. The file `.NAME.lock` beside `path` says
    who holds it and goes with the lock; one that a killed process left is taken over. Where the system has no such
    locks (Windows, some network disks) or the place is read-only, nothing is locked."""
    path = real(path)
    lock = path.with_name(f".{path.name}.lock") if path.name else None
    key = lock, os.getpid(), threading.get_ident()
    file = None if key in _held or lock is None or fcntl is None else _take(lock, path)
    if file is None:
        yield
        return
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(file)


def _take(lock, path):
    """The number of the locked file, open; None where there are no locks."""
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError:  # no place for it: writing itself will say so
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = "".join(filter(str.isprintable, os.read(file, 200).decode(errors="replace")))
            os.close(file)
            told = f"{path} is being written by {who or 'another process'}"
            raise InputError(f"{told}: wait until that has ended, or give another place") from None
        except OSError:
            os.close(file)
            return None
        with contextlib.suppress(OSError):  # it is not there, or not the same, if its holder has just ended
            if os.path.samestat(os.stat(lock), os.fstat(file)):
                with contextlib.suppress(OSError):  # a full disk: it is locked all the same
                    os.truncate(file, 0)
                    since = datetime.datetime.now().isoformat(" ", "seconds")
                    os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
                return file
        os.close(file)


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
    """`with replacing_file(p) as tmp: ...` writes `tmp` beside `p` and renames it to `p` only on success. Where `p` is
    a link, the file that it leads to is replaced. InputError: it is a folder, or cannot be written."""
    path = real(path)
    with writing(path):
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, glob.escape(path.name))
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
    """The same for a folder: an older folder of that name stays until the new one is whole, then goes. At every moment
    one of the two stands there, on Linux and macOS; elsewhere the older one is back at the next start. InputError: it
    cannot be written, or another process is writing it."""
    path = real(path)
    with locked(path), writing(path):
        sweep(path.parent, glob.escape(path.name))
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _take_place(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _take_place(new, path):
    if not path.exists():
        os.replace(new, path)
        return
    try:
        _exchange(new, path)
    except OSError:  # not on this system, or not on this disk
        old = new.with_suffix(".old")
        os.replace(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one, other):
    """Swaps the names of two folders at one stroke, or raises OSError."""
    libc, names = None if os.name == "nt" else ctypes.CDLL(None, use_errno=True), [os.fsencode(p) for p in (one, other)]
    if hasattr(libc, "renameat2"):
        here = -100  # AT_FDCWD: names count from the working directory
        failed = libc.renameat2(here, names[0], here, names[1], EXCHANGE)
    else:
        failed = libc.renamex_np(*names, EXCHANGE) if hasattr(libc, "renamex_np") else -1
    if failed:
        raise OSError(ctypes.get_errno(), "the names cannot be swapped")


def sweep(folder, name="*"):
    """Removes what killed processes, not living ones, left half written in `folder`, of the file or folder `name` or of
    any; a folder caught between its old and its new state is the old one again."""
    for rest in sorted(Path(folder).glob(f".{name}.*.*")):  # .old before .tmp of one process
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


def checksum(value):
    """16 hex digits of the SHA-256 of a JSON value, however its file is spaced."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def with_checksum(value):
    """A dict as it is stored: `checksum` comes last and is of all the rest."""
    value = {key: part for key, part in value.items() if key != "checksum"}
    return {**value, "checksum": checksum(value)}


def checked(value, where):
    """The dict without its checksum; InputError, which begins with `where`, if it is no dict or the checksum of
    something else."""
    rest = {key: part for key, part in value.items() if key != "checksum"} if isinstance(value, dict) else None
    if rest is None or value.get("checksum") != checksum(rest):
        why = "has no checksum" if rest == value or rest is None else "does not fit its checksum"
        raise InputError(f"{where} {why}: it is damaged or was changed by hand; restore it, or make it again")
    return rest


def write_json(path, value, check=False):
    """Writes `value` as indented JSON, atomically; with `check` its checksum too. InputError: it cannot be written."""
    text = json.dumps(with_checksum(value) if check else value, indent=2) + "\n"
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path, check=False, most=LONGEST):
    """What a JSON file holds, without its checksum, which is compared where there is one. InputError: no such file, not
    JSON, more than `most` bytes, another checksum; with `check`, also none."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file; give the name of one")
        if (size := path.stat().st_size) > most:
            raise InputError(f"{path} has {size:,} bytes, and {most:,} are the most; restore it or make it again")
        value = json.loads(path.read_text(encoding="utf-8"))
        return checked(value, path) if check or (isinstance(value, dict) and "checksum" in value) else value
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} is missing") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); mend that and try again") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end
        raise InputError(f"{path} is not valid JSON ({str(error)[:200]}); make it again or restore it") from None
