"""Saves and loads networks: config.json, model.safetensors and provenance.json, never a pickle."""

import datetime
import hashlib
import os
import platform
import subprocess
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from .files import InputError, read_json, replacing_folder, write_json, writing

FILES = ("config.json", "model.safetensors", "provenance.json")


def save_network(network, folder, provenance=None, dtype=None):
    """Writes `network` into `folder` (the Hugging Face layout); an older one stays until this one is whole.

    Args:
        network: an nn.Module with `.config`, a dict of its constructor's keyword arguments.
        provenance: JSON-able dict that says how the weights came about (see `provenance`).
        dtype: store floating-point tensors so, e.g. torch.float16. Default: as they are.

    Raises:
        InputError: NaN or infinite weights; `folder` holds anything but a network, or cannot be written.
    """
    folder = network_folder(folder)
    state = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    if dtype is not None:
        state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    if bad := [name for name, t in state.items() if t.is_floating_point() and not torch.isfinite(t).all()]:
        raise InputError(
            f"not saved to {folder}: {bad[0]} holds NaN or infinite values (in {dtype or 'its'} precision)"
        )
    with writing(folder), replacing_folder(folder) as temporary:
        (temporary / "model.safetensors").write_bytes(save(state))
        write_json(temporary / "config.json", {"class": type(network).__name__, **network.config})
        write_json(temporary / "provenance.json", provenance or {})


def network_folder(folder):
    """`folder` as a Path where a network may be written: new, empty, or an older network's.

    Raises:
        InputError: a file stands there, or a folder with anything else in it, which writing would remove.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the name of a folder for the network")
    if other := sorted({p.name for p in folder.iterdir()} - set(FILES)) if folder.exists() else []:
        raise InputError(f"{folder} holds {other[0]}, which is no part of a network; move it or give another folder")
    return folder


def load_network(folder, classes):
    """Reads a network that `save_network` wrote; float16 comes back as float32, in eval mode on the CPU.

    Args:
        folder: with config.json and model.safetensors.
        classes: the network classes that may be in there.

    Raises:
        InputError: missing or damaged files, an unknown class, unknown config keys, tensors that do not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder with config.json and model.safetensors")
    config = read_json(folder / "config.json")
    name = config.pop("class", None) if isinstance(config, dict) else None
    kind = next((c for c in classes if c.__name__ == name), None)
    if kind is None:
        names = ", ".join(sorted(c.__name__ for c in classes))
        raise InputError(f"{folder / 'config.json'}: class {name!r} is not one of {names}")
    try:
        network = kind(**config)
    except Exception as error:  # noqa: BLE001  what a constructor raises depends on the field that is wrong
        raise InputError(f"{folder / 'config.json'} does not fit {name}: {error}") from None
    try:
        state = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder / 'model.safetensors'} cannot be read ({error}); restore or make it again") from None
    own = network.state_dict()
    if wrong := sorted(set(own) ^ set(state)):
        raise InputError(
            f"{folder / 'model.safetensors'} does not fit config.json: tensor {wrong[0]} is "
            f"{'missing' if wrong[0] in own else 'not part of ' + name}"
        )
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            raise InputError(
                f"{folder / 'model.safetensors'}: {key} has shape {tuple(tensor.shape)}, "
                f"config.json asks for {tuple(own[key].shape)}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{folder / 'model.safetensors'}: {key} holds NaN or infinite values")
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def network_hash(network):
    """SHA-256 hex digest of a network's class, config and tensors (as float32): same weights, same hash."""
    digest = hashlib.sha256(f"{type(network).__name__} {sorted(network.config.items())}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def provenance(command, data, seconds=None, scores=None, **more):
    """Where weights come from: command, commit, data, hardware, duration, versions, date, scores; a dict."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": command,
        "commit": _commit(),
        "data": data,
        "hardware": device or f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "seconds": None if seconds is None else round(seconds),
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        **more,
        "scores": scores,
    }


def _commit():
    """The checkout's commit, with '+' when its code differs from it; None outside a checkout."""

    def git(*words):
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # not another project's commit
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno", ":/*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
