"""Teachers and students by name: the bundled ones, folders of ours, a run's folder, official files."""

import math
import re
from pathlib import Path

from torch import nn

from ..core.checks import pick_device
from ..core.files import ASSETS, InputError, read_json
from ..core.weights import load_network
from ..data.images import CIFAR10_CLASSES
from ..networks import ConvGenerator, DiStyleGANGenerator, StyleGAN2Generator
from .black_box import black_box, from_network
from .official import read_official

GENERATORS = (ConvGenerator, DiStyleGANGenerator, StyleGAN2Generator)
EMBEDDED = ASSETS  # holds teacher/ and student/


def load_teacher(source="embedded", psi=1.0, device=None, half=False):
    """A teacher from the package, from a folder, or from anything `black_box` takes. InputError names what is missing
    or cannot be used, and what can be given instead.

    Args:
        source: "embedded"; a folder with config.json and model.safetensors, or a training run's folder; an official
            StyleGAN2-ADA file, e.g. "cifar10.pkl" (nothing in it is run); or a Teacher, a network or a callable.
        psi: truncation (Karras et al. 2019, arXiv 1812.04948, appendix B) of a StyleGAN2 teacher: below 1 the
            images get more typical and less varied. 1 for all others.
        device: "cpu", "cuda", ...; None: a GPU if there is one for a teacher loaded from a folder or file.
        half: a network computes in float16, for GPUs; its images differ slightly, so pairs' manifest keeps it."""
    if isinstance(psi, bool) or not isinstance(psi, int | float) or not math.isfinite(psi):
        raise InputError(f"psi must be a finite number, not {psi!r}")
    if not isinstance(half, bool):
        raise InputError(f"half must be True or False, not {half!r}")
    name, classes = type(source).__name__, None
    if isinstance(source, str | Path):
        source, name, classes = read_network(source, "teacher")
        device = pick_device(device)
    if psi != 1 and not isinstance(source, StyleGAN2Generator):
        raise InputError(f"psi={psi} needs a StyleGAN2 network to truncate, and {name} is none: leave psi at 1")
    if isinstance(source, nn.Module):
        return from_network(source, name, psi=float(psi), device=device, half=half, classes=classes)
    if half:
        raise InputError(f"half=True needs a network; how {name} computes is its own affair: leave half at False")
    return black_box(source)


def load_student(source="embedded"):
    """A generator as a network in eval mode, `student(z, y)` -> float (N, 3, R, R) in [-1, 1]: of a name, a folder or a
    file as `load_teacher` takes them, or a network, which is returned. InputError as there."""
    if isinstance(source, nn.Module):
        return source.eval()
    if not isinstance(source, str | Path):
        raise InputError(f"a student is a folder or a network, not {type(source).__name__}")
    return read_network(source, "student")[0]


def read_network(source, kind):
    """(network in eval mode on the CPU, its name, names of its classes or None) of what a text or a Path names;
    `kind`, "teacher" or "student", says which of the bundled networks "embedded" is."""
    path = EMBEDDED / kind if str(source) == "embedded" else Path(source)
    name = path.name if path.is_file() else Path(source).resolve().name
    if path.suffix == ".pkl" or path.is_file():
        network, data = read_official(path)
        told = dict(data=data, source=name)
    elif not path.exists():
        raise InputError(f"{path} does not exist: give 'embedded', a folder of a network or a run, or an official file")
    else:
        if (path / "generator" / "config.json").is_file():  # a run's folder
            path = path / "generator"
        if missing := [file for file in ("config.json", "model.safetensors") if not (path / file).is_file()]:
            run = "a run's folder has a network under generator/ once its training has finished"
            raise InputError(f"{path} is not the folder of a network: {' and '.join(missing)} missing ({run})")
        network, about = load_network(path, GENERATORS), path / "provenance.json"
        told = read_json(about) if about.is_file() else {}
    cifar10 = re.search("cifar-?10(?!0)", f"{told.get('data')} {told.get('source')}".lower())
    guessed = CIFAR10_CLASSES if cifar10 and network.num_classes == 10 else None
    return network, name, tuple(told.get("classes") or ()) or guessed
