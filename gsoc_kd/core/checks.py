"""Checks of what users give, and of the machine it runs on."""

import errno
import math
import numbers
import operator
import os
import platform
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from .files import InputError


class InputWarning(UserWarning):
    """Something the user gave is used, but perhaps not as they think. The message is one line."""


def whole(name, value, least=1, most=None):
    """`value` as an int, also of numpy's and torch's kinds; InputError, which calls it `name`, unless it is a whole
    number from `least` to `most`."""
    try:
        truth = isinstance(value, bool) or getattr(value, "dtype", None) in (np.bool_, torch.bool)
        number = None if truth else operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # of no kind that counts
        number = None
    if number is None or number < least or (most is not None and number > most):
        span = f"at least {least}" if most is None else f"{least} to {most}"
        raise InputError(f"{name} must be a whole number of {span}, not {brief(value)}")
    return number


def real_number(name, value, least=-math.inf, most=math.inf):
    """`value` as a float, also of numpy's kinds; InputError unless it is a finite number from `least` to `most`."""
    try:
        known = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
        number = float(value) if known else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or not least <= number <= most:
        span = "" if (least, most) == (-math.inf, math.inf) else f" from {least:g} to {most:g}"
        raise InputError(f"{name} must be a finite number{span}, not {brief(value)}")
    return number


def truth(name, value):
    """`value`, True or False, also numpy's, as a bool; InputError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, not {brief(value)}")
    return bool(value)


def brief(value, most=60):
    """`repr` of anything, fit for a message: one line of at most `most` characters, also where repr itself fails."""
    try:
        told = repr(value[: most + 1] if isinstance(value, str | bytes | list | tuple) else value)
    except Exception:  # noqa: BLE001  numbers of thousands of digits, nesting without end, objects that refuse
        told = f"a {type(value).__name__}"
    told = " ".join(told.split())
    return told if len(told) <= most else told[: most - 3] + "..."


def path_of(value, what="a path"):
    """A text or path-like as a Path, with `~` for the home folder; InputError where it cannot name a file at all, as an
    empty text, which would be the working folder."""
    if not isinstance(value, str | os.PathLike) or value == "":
        raise InputError(f"{what} must be a path, not {brief(value)}")
    try:
        path = Path(value).expanduser()
        os.lstat(path)
        if path.is_dir() and not os.access(path, os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError, TypeError) as error:  # NUL, too long, loops of links, no such home
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{what} {brief(str(value))} is not a path that can be used ({why})") from None
    return path


def file_of(value, what="a path"):
    """The same where it names a file, or one that can be made; InputError if it is a folder."""
    path = path_of(value, what)
    if path.is_dir():
        raise InputError(f"{what} must name a file, and {path} is a folder; give a name in it")
    return path


def is_word(value, word):
    """Whether `value` is the reserved word, a text and no Path; warns where a file or folder of that name is hidden by
    it. Paths are never words."""
    if not isinstance(value, str) or value != word:
        return False
    if os.path.lexists(word):
        told = f"{word!r} means the one that gsoc_kd knows by this name; what is here under it is ./{word}"
        warnings.warn(told, InputWarning, stacklevel=3)
    return True


def classes_of(generator):
    """The names of a generator's or a classifier's classes, a list of texts: of its attribute `classes`, any sequence;
    None where it has none. InputError: it is no sequence."""
    names = getattr(generator, "classes", None)
    return None if names is None else as_names(names) or None


def as_names(classes):
    """Any sequence of names as a list of texts; InputError if it is none."""
    if not isinstance(classes, Iterable) or isinstance(classes, torch.nn.Module):
        raise InputError(f"classes must be a sequence of names, not {brief(classes)}")
    return [*map(str, classes)]


def device_of(network):
    """Where a network's parameters are; the CPU for one that has none."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def pick_device(device=None):
    """`device` as a torch.device if it can be used here; by default CUDA where there is one, else the CPU."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
        torch.empty(1, device=device).cpu()
        return device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"device {brief(str(device))} cannot be used here ({why[:200]})") from None


def fast_bfloat16(device):
    """Whether the device computes in bfloat16 faster than in float32: CUDA from Ampere on, CPUs with AVX512-BF16."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def hardware(device=None):
    """What computes on this device, by default the fastest one here, in words: the GPU's name, or the number of CPU
    cores."""
    gpu = torch.cuda.get_device_name() if pick_device(device).type == "cuda" else None
    return gpu or f"{os.cpu_count()} CPU cores ({platform.machine()})"
