"""Publishes a generator: rounded to float16, with its scores in its provenance."""

import torch

from ..core.checks import path_of
from ..core.files import read_json
from ..core.weights import load_network, network_folder, network_hash, save_network
from ..teachers.black_box import from_network
from ..teachers.load import GENERATORS, load_teacher
from .evaluate import evaluate


def publish(run, folder, scored=True):
    """Writes the generator of a run (or of a network's folder) in float16, with config and provenance, and says how big
    it is. Scores 10,000 of its images, a student of the bundled teacher beside its teacher, and returns that dict, or
    None unless `scored`: the classifier knows CIFAR-10's classes only. InputError: no generator in `run`; something
    else in `folder`."""
    source, folder = path_of(run), network_folder(folder)  # refused before the long work
    source = source if (source / "model.safetensors").is_file() else source / "generator"
    network, origin = load_network(source, GENERATORS).half().float(), read_json(source / "provenance.json", check=True)
    generator = from_network(network, "generator", classes=origin.get("classes"))  # rounded, as it will be loaded
    scores = evaluate(generator, teacher=own_teacher(origin)) if scored else None
    save_network(network, folder, {**origin, "hash": network_hash(network), "scores": scores}, torch.float16)
    told = "not scored, as these are other images than CIFAR-10's"
    if scores:
        told = "CIFAR-FD {cifar_fd:.2f}, class accuracy {class_accuracy:.1%} ({images:,} images)".format(**scores)
    print(f"{folder}: {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB, {told}")
    return scores


def own_teacher(provenance):
    """The bundled teacher, where this provenance is that of a student of it; else None."""
    teacher = load_teacher() if provenance.get("teacher") else None
    return teacher if teacher and provenance["teacher"] == teacher.digest else None
