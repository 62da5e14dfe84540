"""A generator as it is given away: rounded to float16, with its scores in its provenance."""

from pathlib import Path

import torch

from ..core.files import read_json
from ..core.weights import load_network, network_folder, network_hash, save_network
from ..teachers.load import GENERATORS
from .evaluate import evaluate


def publish(run, folder, scored=True):
    """Writes the generator of a run (or of a network's folder) in float16, with config and provenance, and says how big
    it is. Scores 10,000 of its images and returns that dict, or None unless `scored`: the classifier knows CIFAR-10's
    classes only. InputError: no generator in `run`; something else in `folder`."""
    source, folder = Path(run), network_folder(folder)  # refused before the long work
    source = source if (source / "model.safetensors").is_file() else source / "generator"
    network, origin = load_network(source, GENERATORS).half().float(), read_json(source / "provenance.json")
    scores = evaluate(network) if scored else None  # rounded, as it will be loaded
    save_network(network, folder, {**origin, "hash": network_hash(network), "scores": scores}, torch.float16)
    told = "not scored, as these are other images than CIFAR-10's"
    if scores:
        told = "CIFAR-FD {cifar_fd:.2f}, class agreement {class_agreement:.1%} ({images:,} images)".format(**scores)
    print(f"{folder}: {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB, {told}")
    return scores
