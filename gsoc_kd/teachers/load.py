"""Teachers and students by name: the bundled ones, folders of ours, a run's folder, files of others, the Hub."""

import os
import re
from pathlib import Path

import torch
from torch import nn

from ..core import hub
from ..core.checks import is_word, path_of, pick_device, real_number, truth
from ..core.files import ASSETS, InputError, read_json
from ..core.state import untouched
from ..core.weights import load_network
from ..data.images import CIFAR10_CLASSES
from ..networks import ConvGenerator, DiStyleGANGenerator, StyleGAN2Generator
from .black_box import black_box, from_network
from .distylegan import read_distylegan
from .official import read_official

GENERATORS = (ConvGenerator, DiStyleGANGenerator, StyleGAN2Generator)
EMBEDDED = ASSETS  # holds teacher/ and student/


@untouched
def load_teacher(source="embedded", psi=1.0, device=None, half=False):
    """A teacher from the package, from a folder, or from anything `black_box` takes. InputError names what is missing
    or cannot be used, and what can be given instead.

    Args:
        source: "embedded"; a folder with config.json and model.safetensors, or a training run's folder; an official
            StyleGAN2-ADA file, e.g. "cifar10.pkl", or DiStyleGAN's checkpoint of 2022, generator.pt or its folder
            (nothing in them is run); "owner/name" on the Hugging Face Hub, if there is no such path; or a Teacher, a
            network or a callable.
        psi: truncation (Karras et al. 2019, arXiv 1812.04948, appendix B) of a StyleGAN2 teacher: below 1 the
            images get more typical and less varied. 1 for all others.
        device: "cpu", "cuda", ...; None: a GPU if there is one for a teacher loaded from a folder or file.
        half: a network computes in float16, for GPUs; its images differ slightly, so pairs' manifest keeps it."""
    psi = real_number("psi", psi, -10, 10)
    half, name, classes = truth("half", half), type(source).__name__, None
    if isinstance(source, str | Path):
        source, name, classes = read_network(source, "teacher")
        device = pick_device(device)
        source.to(device, memory_format=torch.channels_last)
    if psi != 1 and not isinstance(source, StyleGAN2Generator):
        raise InputError(f"psi={psi:g} needs a StyleGAN2 network to truncate, and {name} is none: leave psi at 1")
    if isinstance(source, nn.Module):
        return from_network(source, name, psi=psi, device=device, half=half, classes=classes)
    if half:
        raise InputError(f"half=True needs a network; how {name} computes is its own affair: leave half at False")
    return black_box(source)


@untouched
def load_student(source="embedded"):
    """A generator as a network in eval mode, `student(z, y)` -> float (N, 3, R, R) in [-1, 1]: of a name, a folder or a
    file as `load_teacher` takes them; or a network, which is returned as it is. InputError as there."""
    if isinstance(source, nn.Module):
        return source
    if not isinstance(source, str | Path):
        raise InputError(f"a student is a folder or a network, not {type(source).__name__}")
    return read_network(source, "student")[0]


def read_network(source, kind):
    """(network in eval mode on the CPU, its name, names of its classes or None) of what a text or a Path names;
    `kind`, "teacher" or "student", says which of the bundled networks "embedded" is."""
    path, name = find(source, kind)
    if path.is_file():
        with open(path, "rb") as file:
            saved = file.read(2) == b"PK"  # by torch.save
        network, data = (read_distylegan(path), "CIFAR-10, pairs of 2022") if saved else read_official(path)
        told = dict(data=data, source=path.name)
    else:
        if missing := [file for file in ("config.json", "model.safetensors") if not (path / file).is_file()]:
            run = "a run's folder has a network under generator/ once its training has finished"
            raise InputError(f"{source} is not the folder of a network: {' and '.join(missing)} missing ({run})")
        network, about = load_network(path, GENERATORS), path / "provenance.json"
        told = read_json(about, check=True) if os.path.lexists(about) else {}
    cifar10 = re.search("cifar-?10(?!0)", f"{told.get('data')} {told.get('source')}".lower())
    guessed = CIFAR10_CLASSES if cifar10 and network.num_classes == 10 else None
    network.classes = _names(path, told.get("classes"), network.num_classes) or guessed  # they travel with the network
    return network, name, network.classes


def find(source, kind):
    """(path of the file or folder with a network, its name) of what a text or a Path names, see `read_network`. What
    lies here is taken before what lies on the Hub; where the word "embedded" hides a path, a warning says so."""
    source = EMBEDDED / kind if is_word(source, "embedded") else source
    path = path_of(source, f"a {kind}")
    if not path.exists() and hub.is_name(source):
        return hub.download(source), source
    if not path.exists():
        known = "'embedded', a folder of a network or a run, an official file (cifar10.pkl), or owner/name on the Hub"
        known = "an official StyleGAN2-ADA file, e.g. cifar10.pkl" if path.suffix == ".pkl" else known
        raise InputError(f"{path} does not exist: give {known}")
    parts = [path / "generator", path]  # a run's folder, a network's
    if path.is_dir() and (path / "generator.pt").is_file() and not (path / "model.safetensors").is_file():
        return path / "generator.pt", path.resolve().name  # a checkpoint's folder of 2022
    inside = next((part for part in parts if (part / "config.json").is_file()), path)
    name = "embedded" if source == EMBEDDED / kind else path.name if path.is_file() else path.resolve().name
    return inside, "./embedded" if name == "embedded" and source != EMBEDDED / kind else name


def _names(path, classes, count):
    """The names of classes that provenance.json states, as a tuple, or None; InputError if they do not fit."""
    if not classes:
        return None
    known = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not known or not len(set(classes)) == len(classes) == max(count, 1):
        raise InputError(f"{path / 'provenance.json'}: 'classes' must be {count} different names; restore the file")
    return tuple(classes)
