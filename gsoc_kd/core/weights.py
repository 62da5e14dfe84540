"""Saves and loads networks: config.json, model.safetensors and provenance.json, never a pickle."""

import contextlib
import datetime
import hashlib
import itertools
import json
import os
import platform
import subprocess
import threading
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from .checks import brief, classes_of, hardware, path_of
from .files import InputError, contents, read_json, real, replacing_folder, sha256, write_json
from .latents import SAMPLERS, z_from
from .state import as_before

FILES = ("config.json", "model.safetensors", "provenance.json")
LONGEST, LARGEST = 1 << 20, 1 << 28  # bytes of a config.json, of a model.safetensors
FLOATS, WHOLE = ("F32", "F16", "BF16", "F64"), ("I64",)  # safetensors' names of what tensors can be stored as


def save_network(network, folder, provenance=None, dtype=None):
    """Writes `network` into `folder` (the Hugging Face layout); an older one stays until this one is whole. Each JSON
    file ends with its checksum, and config.json has the sha256 of model.safetensors.

    network: an nn.Module with `.config`, a dict of its constructor's keyword arguments. provenance: a JSON-able dict.
    dtype: that floating-point tensors are stored in, e.g. torch.float16; None: as they are. InputError: NaN or infinite
    weights; no `config`; `folder` holds anything but a network, cannot be written, or another process is writing it."""
    folder = network_folder(folder)
    if not has_config(network):
        kind = type(network).__name__
        raise InputError(
            f"{kind} has no dict `config` of its constructor's arguments, without which it cannot be saved"
        )
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if dtype is not None:
        state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    _check_finite(state, f"not saved to {folder}")
    with replacing_folder(folder) as temporary:
        (temporary / "model.safetensors").write_bytes(save(state))
        drawn = {} if z_from(network) == "normal" else {"z_from": z_from(network)}
        config = {"class": type(network).__name__, **network.config, **drawn}
        config["sha256"] = sha256(temporary / "model.safetensors")
        write_json(temporary / "config.json", config, check=True)
        names = {} if (classes := classes_of(network)) is None else {"classes": classes}
        write_json(temporary / "provenance.json", {**names, **(provenance or {})}, check=True)


def _check_finite(state, where):
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{where}: {name} ({tensor.dtype}) holds NaN or infinite values")


def network_folder(folder):
    """`folder` as a Path where a network may be written: new, empty, or an older network's, or a link to such a one;
    else an InputError, because writing removes what stands there."""
    folder = path_of(folder, "the network's folder")
    place = real(folder)
    if place.exists() and not place.is_dir():
        raise InputError(f"{folder} is a file; give the name of a folder for the network")
    if os.path.ismount(place):
        raise InputError(f"{folder} is where a disk begins, and cannot be replaced; give a folder inside it")
    if other := sorted(contents(place) - set(FILES)) if place.exists() else []:
        raise InputError(f"{folder} holds {other[0]}, which is no part of a network; move it or give another folder")
    return folder


def load_network(folder, classes):
    """A network that `save_network` wrote, one of `classes`: in eval mode on the CPU, float16 as float32. The caller's
    random state, default dtype and device neither matter nor change.

    InputError: missing or damaged files, whose checksums differ; an unknown class; config keys that are unknown,
    missing or out of range; tensors that do not fit. Memory is taken only for tensors as large as the stored ones."""
    about, path = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    config, kinds = read_json(about, check=True, most=LONGEST), {kind.__name__: kind for kind in classes}
    name, digest, drawn = config.pop("class", None), config.pop("sha256", None), config.pop("z_from", "normal")
    if not isinstance(name, str) or name not in kinds:
        raise InputError(f"{about}: class {brief(name)} is not one of {', '.join(sorted(kinds))}")
    if not isinstance(drawn, str) or drawn not in SAMPLERS:
        raise InputError(f"{about}: z_from {brief(drawn)} is not one of {', '.join(SAMPLERS)}")
    with as_before():
        network = _build(kinds[name], config, about, _stored(path, digest))
        try:
            state = load_file(path)
            _check_finite(state, path)
            network.load_state_dict(state)
            _check_finite(network.state_dict(), path)  # float64 reaches further than float32
        except (OSError, SafetensorError, RuntimeError) as error:
            raise InputError(f"{path} cannot be read ({shorten(str(error), 200)}); restore or make it again") from None
    network.z_from = drawn
    return network.eval().requires_grad_(False)


def _stored(path, digest):
    """{name: (dtype, shape)} of the tensors in a file with this sha256, of which only the head is kept in memory."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        if path.stat().st_size > LARGEST:
            raise OSError(f"it has more than {LARGEST:,} bytes")
        if sha256(path) != digest:
            raise InputError(f"{path} is not the file of config.json (its sha256 differs): restore or make it again")
        with safe_open(path, "pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({shorten(str(error), 200)}); restore or make it again") from None


def _build(kind, config, about, stored):
    """kind(**config) where its tensors are `stored` ones in number, names, shapes and kinds of numbers. They are
    compared on the meta device, which has shapes and no memory."""
    try:
        with torch.device("meta"), _no_more_than(len(stored)), _Unset():
            network = kind(**config)
        if json.dumps(network.config, sort_keys=True) != json.dumps(config, sort_keys=True):
            raise InputError(f"its keys and values must be those of {shorten(str(network.config), 300)}")
    except (InputError, TypeError, ValueError, RuntimeError, OverflowError, LookupError, AttributeError) as error:
        why = shorten("".join(filter(str.isprintable, str(error))), 400)
        raise InputError(f"{about} does not fit {kind.__name__}: {why}") from None
    ours, misfit = network.state_dict(), f"{about.with_name('model.safetensors')} does not fit config.json:"
    for name in sorted(ours.keys() | stored.keys()):
        dtype, found = stored.get(name, (None, None))
        needed = tuple(ours[name].shape) if name in ours else None
        if needed != found:
            raise InputError(f"{misfit} {brief(name)} has shape {found}, and {needed} is needed; make it again")
        if dtype not in (known := FLOATS if ours[name].is_floating_point() else WHOLE):
            raise InputError(f"{misfit} {brief(name)} is of type {dtype}, and {' or '.join(known)} is needed")
    return kind(**config)


class _Unset(TorchFunctionMode):
    """Leaves out what sets values on the meta device, where there are none: PyTorch would import its compiler first."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ("div", "outer") or (name.endswith("_") and not name.endswith("__")):  # x / 2, x.normal_()
            return args[0] if args else kwargs["tensor"]
        function = torch.empty if function is torch.randn else function
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def _no_more_than(most):
    """Ends the building of a network, in this thread, once it has more than `most` tensors to learn."""
    thread, count = threading.get_ident(), itertools.count(1)

    def counted(module, name, parameter):
        if parameter is not None and threading.get_ident() == thread and next(count) > most:
            raise InputError(f"it asks for more than the {most} tensors that are stored")

    with register_module_parameter_registration_hook(counted):
        yield


def has_config(network):
    """Whether a network says in `config`, a dict, what its constructor was given: such a one can be built again."""
    return isinstance(getattr(network, "config", None), dict)


def network_hash(network):
    """SHA-256 hex digest of a network's class, config, if any, and tensors (as float32): same weights, same hash."""
    config = network.config if has_config(network) else {}
    digest = hashlib.sha256(f"{type(network).__name__} {sorted(config.items())}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def provenance(command, data, seconds=None, scores=None, device=None, **more):
    """Where weights come from: command, commit, data, hardware (of `device`), seconds, date, versions, scores."""
    seconds, date = None if seconds is None else round(seconds), datetime.date.today().isoformat()
    told = dict(command=command, commit=_commit(), data=data, hardware=hardware(device), seconds=seconds, date=date)
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
