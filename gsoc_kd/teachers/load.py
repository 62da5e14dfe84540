"""A teacher is a black box: noise and a label go in, a picture of whole grey levels comes out.

Nothing after this module sees a teacher's weights, layers or gradients (TinyGAN, Chang & Lu 2020,
arXiv 2009.13829, section 3): a network of ours, somebody else's code and a remote service all look alike.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..core.files import ASSETS, InputError, read_json
from ..core.weights import load_network
from ..data.images import CIFAR10_CLASSES
from ..networks.conv import ConvGenerator
from ..networks.distylegan import DiStyleGANGenerator
from ..networks.stylegan2 import StyleGAN2Generator
from .black_box import _from_network, black_box
from .official import class_names, read_official

GENERATORS = (ConvGenerator, DiStyleGANGenerator, StyleGAN2Generator)
EMBEDDED = ASSETS  # holds teacher/ and student/


def load_teacher(source="embedded", psi=1.0, device=None, half=False):
    """A teacher from the package, from a folder, or from anything `black_box` takes.

    Args:
        source: "embedded"; a folder with config.json and model.safetensors, or a training run's folder; an
            official StyleGAN2-ADA file, e.g. "cifar10.pkl" (nothing in it is run, see `pickles.py`); or a
            Teacher, a network or a callable (see `black_box`).
        psi: truncation (Karras et al. 2019, arXiv 1812.04948, appendix B) of a StyleGAN2 teacher: below 1 the
            pictures get more typical and less varied. 1 for all others.
        device: "cpu", "cuda", ...; None: a GPU if there is one for a teacher loaded from a folder or file.
        half: a network computes in float16, for GPUs; its pictures differ slightly, so pairs keep it in their manifest.

    Raises:
        InputError: names what is missing or cannot be used, and what can be given instead.
    """
    if isinstance(psi, bool) or not isinstance(psi, (int, float)) or not math.isfinite(psi):
        raise InputError(f"psi must be a finite number, not {psi!r}")
    if not isinstance(half, bool):
        raise InputError(f"half must be True or False, not {half!r}")
    classes = None
    if _official(source):
        name, (source, data) = Path(source).name, read_official(source)
        classes = class_names(name, source, data)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    elif isinstance(source, (str, Path)):
        folder = _network_folder(source, "teacher")
        name = "embedded" if str(source) == "embedded" else Path(source).resolve().name
        classes = _class_names(folder)
        source = load_network(folder, GENERATORS)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    else:
        name = type(source).__name__
    if psi != 1 and not isinstance(source, StyleGAN2Generator):
        raise InputError(
            f"psi={psi} needs a StyleGAN2 network, whose mapping network it truncates; {name} has none: leave psi at 1"
        )
    if not isinstance(source, nn.Module):
        if half:
            raise InputError(f"half=True needs a network; how {name} computes is its own affair: leave half at False")
        return black_box(source)
    teacher = _from_network(source, name, psi=float(psi), device=device, half=half)
    return teacher if classes is None else replace(teacher, classes=classes)


def load_student(source="embedded"):
    """A generator as a network in eval mode: `student(z, y)` -> float (N, 3, R, R) in [-1, 1].

    Args:
        source: "embedded"; a folder with config.json and model.safetensors; the folder of a training run; an
            official StyleGAN2-ADA file; or a network, which is returned in eval mode.

    Raises:
        InputError: names what is missing or cannot be used, and what can be given instead.
    """
    if isinstance(source, nn.Module):
        return source.eval()
    if not isinstance(source, (str, Path)):
        raise InputError(f"a student is a folder or a network, not {type(source).__name__}")
    if _official(source):
        return read_official(source)[0]
    return load_network(_network_folder(source, "student"), GENERATORS).eval()


def _official(source):
    """Whether `source` is the name of a file, which `read_official` then reads or refuses."""
    return isinstance(source, (str, Path)) and (Path(source).suffix == ".pkl" or Path(source).is_file())


def _network_folder(source, kind):
    """The folder that holds the network's two files, or an InputError that says what is there instead."""
    path = EMBEDDED / kind if str(source) == "embedded" else Path(source)
    if not path.exists():
        raise InputError(
            f"{path} does not exist: give 'embedded', a folder with config.json and "
            "model.safetensors, or an official file, cifar10.pkl"
        )
    if (path / "student" / "config.json").is_file():  # a run's folder
        path = path / "student"
    missing = [name for name in ("config.json", "model.safetensors") if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path} is not the folder of a network: {' and '.join(missing)} missing (a run's "
            "folder has a network under student/ once its training has finished)"
        )
    return path


def _class_names(folder):
    """Names of the classes where the network's provenance states them or its data was CIFAR-10, else None."""
    path = folder / "provenance.json"
    provenance = read_json(path) if path.is_file() else {}
    if provenance.get("classes"):
        return tuple(provenance["classes"])
    data = str(provenance.get("data", "")).lower().replace("-", "")
    return CIFAR10_CLASSES if "cifar10" in data and "cifar100" not in data else None
