"""What both configs share: presets, checks, and the flags that lead back to them."""

import math
import shlex
from dataclasses import fields

import numpy as np

from ..core.files import InputError


def preset(cls, presets, name, changes):
    """A frozen config dataclass from a named preset with some fields changed."""
    if name not in presets:
        raise InputError(f"there is no preset {name!r}; choose one of {', '.join(presets)}")
    try:
        return cls(**{**presets[name], **changes})
    except TypeError as error:
        raise InputError(f"{cls.__name__}: {error}") from None


def check(config, positive, shares, choices):
    """Checks the fields of a config: numbers are whole where they count, never negative or infinite.

    Args:
        positive: names of fields that must be above 0. shares: of fields that must be from 0 to below 1.
        choices: {field: the values that it can have}.

    Raises:
        InputError: names the field and its value."""
    for field in fields(config):
        name, value = f"{type(config).__name__}.{field.name}", getattr(config, field.name)
        if field.type in (int, float):
            known = int if field.type is int else (int, float)
            sign, kind = ("positive" if field.name in positive else "non-negative"), "whole " if known is int else ""
            number = isinstance(value, known) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or (value == 0 and field.name in positive):
                raise InputError(f"{name} must be a {sign} {kind}number, got {value!r}")
        if field.name in shares and not all(0 <= v < 1 for v in np.atleast_1d(value)):
            raise InputError(f"{name} must lie from 0 to below 1, got {value!r}")
        if field.name in choices and value not in choices[field.name]:
            raise InputError(f"{name} must be one of {', '.join(choices[field.name])}, got {value!r}")
    if not 0 < config.lr_hold <= 1 or not 0 <= config.lr_end <= 1:
        raise InputError(f"{type(config).__name__}.lr_hold and lr_end are shares from 0 to 1 (lr_hold above 0), "
                         f"got {config.lr_hold!r} and {config.lr_end!r}")  # fmt: skip


def steps(config):
    """(steps of the run, steps from one tick to the next)."""
    return tuple(max(1, round(kimg * 1000 / config.batch)) for kimg in (config.kimg, config.tick_kimg))


def flags(config):
    """The command line's words for the fields in which a config differs from the preset `laptop`, a list."""
    words = []
    for field in fields(config):
        name, value = field.name.replace("_", "-"), getattr(config, field.name)
        if value == field.default:
            continue
        words += [f"--{name}", *map(str, value if isinstance(value, (tuple, list)) else [value])]
    return words


def command(verb, config, out, minutes=None, **data):
    """The command line that repeats a run, a text: `data` are its flags for data (None: left out)."""
    words = ["gsoc-kd", verb]
    for name, value in {**data, "out": out, "minutes": minutes}.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join([*words, *flags(config)])


def real_flags(real):
    """The flags of `command` for LabelledImages; of a zip or folder the bare name is known."""
    if real.source in ("cifar10-train.zip", "CIFAR-10 train (torchvision)"):
        return {"real": "cifar10", "size": None if real.resolution == 32 else real.resolution}
    return {"real": real.source, "size": real.resolution}
