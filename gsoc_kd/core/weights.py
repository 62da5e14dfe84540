"""Saves and loads networks: config.json, model.safetensors and provenance.json, never a pickle."""

import datetime
import hashlib
import platform
import subprocess
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from .checks import hardware
from .files import InputError, read_json, replacing_folder, write_json, writing

FILES = ("config.json", "model.safetensors", "provenance.json")


def save_network(network, folder, provenance=None, dtype=None):
    """Writes `network` into `folder` (the Hugging Face layout); an older one stays until this one is whole.

    network: an nn.Module with `.config`, a dict of its constructor's keyword arguments. provenance: a JSON-able dict.
    dtype: that floating-point tensors are stored in, e.g. torch.float16; None: as they are. InputError: NaN or infinite
    weights; `folder` holds anything but a network, or cannot be written."""
    folder = network_folder(folder)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if dtype is not None:
        state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    _check_finite(state, f"not saved to {folder}")
    with writing(folder), replacing_folder(folder) as temporary:
        (temporary / "model.safetensors").write_bytes(save(state))
        write_json(temporary / "config.json", {"class": type(network).__name__, **network.config})
        write_json(temporary / "provenance.json", provenance or {})


def _check_finite(state, where):
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{where}: {name} ({tensor.dtype}) holds NaN or infinite values")


def network_folder(folder):
    """`folder` as a Path where a network may be written: new, empty, or an older network's; else an InputError,
    because writing removes what stands there."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the name of a folder for the network")
    if other := sorted({p.name for p in folder.iterdir()} - set(FILES)) if folder.exists() else []:
        raise InputError(f"{folder} holds {other[0]}, which is no part of a network; move it or give another folder")
    return folder


def load_network(folder, classes):
    """A network that `save_network` wrote, one of `classes`: in eval mode on the CPU, float16 as float32. InputError:
    missing or damaged files, an unknown class, unknown config keys, tensors that do not fit."""
    about, path = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    config, kinds = read_json(about), {kind.__name__: kind for kind in classes}
    name = config.pop("class", None) if isinstance(config, dict) else None
    if not isinstance(name, str) or name not in kinds:
        raise InputError(f"{about}: class {name!r} is not one of {', '.join(sorted(kinds))}")
    try:
        network = kinds[name](**config)
    except (InputError, TypeError) as error:  # a value that the class refuses, a key that it does not know
        raise InputError(f"{about} does not fit {name}: {error}") from error
    try:
        state = load_file(path)
        _check_finite(state, path)
        network.load_state_dict(state)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore or make it again") from None
    except (RuntimeError, IndexError) as error:  # names what is missing, not known or of another shape
        raise InputError(f"{path} does not fit config.json: {shorten(str(error), 300)}") from None
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
    """Where weights come from: command, commit, data, hardware, duration, date, versions, scores; a dict."""
    seconds, date = None if seconds is None else round(seconds), datetime.date.today().isoformat()
    told = dict(command=command, commit=_commit(), data=data, hardware=hardware(), seconds=seconds, date=date)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {**told, "versions": versions, **more, "scores": scores}


def _commit():
    """The checkout's commit, with '+' when its code differs from it; None outside a checkout."""
    asked = ["ls-files --error-unmatch weights.py", "rev-parse --short=12 HEAD", "status --porcelain -uno :/*.py"]
    try:  # the first fails where this file is no part of the project that the commit is of
        where, told = ["git", "-C", Path(__file__).parent], dict(text=True, stderr=subprocess.DEVNULL)
        _, commit, changes = (subprocess.check_output([*where, *words.split()], **told) for words in asked)
        return commit.strip() + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
