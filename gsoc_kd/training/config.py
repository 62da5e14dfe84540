"""What both configs share: presets, checks, and the command line that gives the same config."""

import shlex
import typing
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from ..core.checks import InputWarning, brief, real_number, whole
from ..core.files import InputError
from ..data.listing import matching, unnamed


def preset(cls, presets, name, changes):
    """A frozen config dataclass from a named preset with some fields changed."""
    if not isinstance(name, str) or name not in presets:
        raise InputError(f"there is no preset {brief(name)}; choose one of {', '.join(presets)}")
    try:
        return cls(**{**presets[name], **changes})
    except TypeError as error:
        raise InputError(f"{cls.__name__}: {error}") from None


def given(kind, config):
    """`config` as a dataclass of this kind, its defaults for None; InputError for anything else."""
    if config is None or isinstance(config, kind):
        return config or kind()
    hint = f"{kind.__name__}(kimg=...) or {kind.__name__}.preset('laptop')"
    raise InputError(f"config must be a {kind.__name__}, such as {hint}, not {brief(config)}")


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
            value = _number(name, value, field.type, field.name in positive, field.name == "seed")
        elif field.type == int | None and value is not None:
            value = _number(name, value, int, True)
        elif field.type in (bool, bool | None) and not isinstance(value, field.type):
            choice = "True or False" if field.type is bool else "True, False or None"
            raise InputError(f"{name} must be {choice}, got {brief(value)}")
        elif typing.get_origin(field.type) is tuple:
            kind, *rest = typing.get_args(field.type)
            if not isinstance(value, list | tuple) or (rest[0] is not ... and len(value) != 1 + len(rest)):
                raise InputError(f"{name} must be {field.type}, got {brief(value)}")
            value = tuple(_number(name, one, kind, rest[0] is ..., share=field.name in shares) for one in value)
        object.__setattr__(config, field.name, value)  # of Python's own kinds, for JSON
        if field.name in shares and not all(0 <= v < 1 for v in np.atleast_1d(value)):
            raise InputError(f"{name} must lie from 0 to below 1, got {value!r}")
        if field.name in choices and value not in choices[field.name]:
            raise InputError(f"{name} must be one of {', '.join(choices[field.name])}, got {brief(value)}")
    if not 0 < config.lr_hold <= 1 or not 0 <= config.lr_end <= 1:
        raise InputError(f"{type(config).__name__}.lr_hold and lr_end are shares from 0 to 1 (lr_hold above 0), "
                         f"got {config.lr_hold!r} and {config.lr_end!r}")  # fmt: skip


def _number(name, value, kind, positive, seed=False, share=False):
    """`value` as an int or a float of Python's; InputError where it is none, negative, or more than there can be."""
    try:
        if kind is int:
            return whole(name, value, int(positive), 2**63 - 1 if seed else 1 << 24)
        number = real_number(name, value, -1e9 if share else 0, 1e36)
        if number or not positive:
            return value if type(value) is int else number
    except InputError:
        pass
    huge = isinstance(value, int | float) and value > 1 << 24
    sign, kind = "positive" if positive else "non-negative", "whole " if kind is int else ""
    raise InputError(f"{name} must be a {sign} {kind}number, got {brief(value)}{' (too large)' if huge else ''}")


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
        values = value if isinstance(value, tuple | list) else [] if field.type is bool else [value]
        words += [f"--{name}", *map(str, values)]
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
    source = "./cifar10" if real.source == "cifar10" else real.source  # a folder of that name, not the word
    return {"real": source, "size": real.resolution}


def near(path):
    """A path as a command names it: from the working folder on, where it lies there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def usable(real, pairs, config):
    """`real` with the classes of the pairs, matched by name, where the config uses real images, else None; InputError
    where they do not fit the pairs. Classes that have no names on one side are taken in order, with a warning."""
    if real is None:
        if not max(config.feature_weight, config.pixel_weight, config.adversarial_weight) > 0:
            raise InputError("DistillConfig: only gan_weight is above 0, and it needs real images: give real=...")
        return None
    found = matching(pairs.classes, real.classes)  # the pairs' class of each real class
    if found is None and unnamed(real.classes) and len(real.classes) == pairs.num_classes:
        found = range(pairs.num_classes), True
    if found is None or real.resolution != pairs.resolution:
        ours, theirs = ((x.resolution, tuple(x.classes)) for x in (real, pairs))
        raise InputError(
            f"real images are {ours[0]} pixels wide in classes {ours[1]}, the pairs {theirs[0]} in {theirs[1]}; "
            "load_images(size=...) changes the size, and the names of the classes must be the same"
        )
    if max(config.gan_weight, config.disc_gan_weight) > 0:
        rows, by_number = found
        if by_number:
            names = pairs.classes if unnamed(real.classes) else real.classes
            told = f"classes without names are taken in this order: {', '.join(names)}"
            warnings.warn(told, InputWarning, stacklevel=3)
        return replace(real, labels=np.asarray(rows)[real.labels], classes=pairs.classes)
    warnings.warn(
        "real images are given, but gan_weight and disc_gan_weight are 0: they are not used", InputWarning, stacklevel=3
    )
    return None
