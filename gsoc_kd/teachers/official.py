"""Official StyleGAN2-ADA files: the generator in a pickle becomes ours, without running what is in the file.

`inert.py` reads the pickle as records and tensors. Here the records are compared with what our generator can
do, and it takes the tensors. `convert` writes it as a folder of ours, which is no pickle.
"""

import re
from pathlib import Path

import torch

from ..core.files import InputError, sha256
from ..core.weights import network_folder, provenance, save_network
from ..data.images import CIFAR10_CLASSES
from ..networks.stylegan2 import StyleGAN2Generator, from_official
from .inert import Inert, shown, unpickle

LARGEST = 4 << 30  # bytes; an official file of 1024x1024 pixels has 0.4 GB
LICENCE = (
    "as the official file: NVIDIA publishes StyleGAN2-ADA for research or evaluation only, not "
    "commercially (Nvidia Source Code License)"
)


def _collect(record):
    """{name: tensor} and {name of layer: (class, state)} of a network, in the form of a state dict."""
    tensors, layers, waiting = {}, {}, [("", record)]
    while waiting:
        path, layer = waiting.pop()
        known = isinstance(layer, Inert) and isinstance(layer.value, dict)
        if not known or path.count(".") > 8 or len(layers) > 999:
            raise InputError(f"its network has a part {shown(path)} that is no layer of StyleGAN2-ADA")
        layers[path] = layer.name, layer.value
        for name, value in {**layer.value["_parameters"], **layer.value["_buffers"]}.items():
            if value is None:  # a layer without bias
                continue
            if not isinstance(value, Inert) or value.name != "tensor" or not value.value.is_floating_point():
                raise InputError(f"{shown(path + name)} is no tensor of floats")
            if not torch.isfinite(value.value).all():
                raise InputError(f"{shown(path + name)} holds NaN or infinite values")
            tensors[path + name] = value.value.float().contiguous()
        waiting += [(f"{path}{name}.", part) for name, part in layer.value["_modules"].items()]
    return tensors, layers


def _expected(path, kind):
    """Settings of a layer that our generator cannot do otherwise."""
    in_mapping, up = path.startswith("mapping.fc"), 2 if path.endswith(".conv0.") else 1
    return {
        "Generator": dict(img_channels=3),
        "MappingNetwork": {},
        "SynthesisNetwork": {},
        "SynthesisBlock": dict(architecture="skip"),
        "SynthesisLayer": dict(activation="lrelu", use_noise=True, up=up),
        "FullyConnectedLayer": dict(
            activation="lrelu" if in_mapping else "linear", bias_gain=0.01 if in_mapping else 1
        ),
        "ToRGBLayer": {},
    }.get(kind)


def _config(tensors, layers):
    """Our generator's arguments, from the shapes of the tensors and the settings of the layers."""
    for path, (kind, state) in layers.items():
        if (expected := _expected(path, kind)) is None:
            raise InputError(f"{shown(path or 'G_ema')} is a {shown(kind)}, no layer of this generator")
        for name, value in expected.items():
            if state.get(name) != value:
                raise InputError(f"{path}{name} is {shown(state.get(name))}; ours knows only {value!r}")
    bounded = ("SynthesisLayer", "ToRGBLayer")
    clamps = {state["conv_clamp"] for kind, state in layers.values() if kind in bounded}
    if len(clamps) != 1 or not isinstance(min(clamps), (int, float, type(None))):
        raise InputError(f"conv_clamp is not one number for all layers: {shown(clamps)}")
    clamp, w_dim = clamps.pop(), len(tensors["mapping.w_avg"])
    num_classes = tensors["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in tensors else 0
    blocks = sum(kind == "SynthesisBlock" for kind, _ in layers.values())
    resolutions = [4 << i for i in range(blocks)]
    widths = [tensors[f"synthesis.b{r}.torgb.weight"].shape[1] for r in resolutions]
    config = dict(
        z_dim=tensors["mapping.fc0.weight"].shape[1] - (w_dim if num_classes else 0),
        w_dim=w_dim,
        num_classes=num_classes,
        resolution=resolutions[-1],
        channel_max=max(widths),
        channel_base=max(width * r for width, r in zip(widths, resolutions)),
        mapping_layers=sum(path.startswith("mapping.fc") for path in layers),
        clamp=None if clamp is None else float(clamp),
    )
    for ours, theirs in (
        ("z_dim", "z_dim"),
        ("w_dim", "w_dim"),
        ("num_classes", "c_dim"),
        ("resolution", "img_resolution"),
    ):
        stated = layers[""][1].get(theirs)
        if stated != config[ours]:
            raise InputError(f"{theirs} is {shown(stated)}, but its tensors say {config[ours]}")
    return config


def _network(record):
    try:
        tensors, layers = _collect(record)
        config, state = _config(tensors, layers), from_official(tensors)
        with torch.device("meta"):  # shapes only, no memory
            own = StyleGAN2Generator(**config).state_dict()
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise InputError(f"its generator lacks a part or does not fit: {shown(str(error))}") from None
    for name in sorted(own.keys() | state.keys()):
        shapes = [tuple(d[name].shape) if name in d else None for d in (own, state)]
        if shapes[0] != shapes[1]:
            raise InputError(f"tensor {shown(name)} has shape {shapes[1]}, our generator's has {shapes[0]}")
    network = StyleGAN2Generator(**config)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def read_official(path):
    """Reads the generator `G_ema` of an official StyleGAN2-ADA file, of any size, with classes or without.

    Args:
        path: a pickle that the official PyTorch code wrote, persistence version 6.
    Returns:
        (StyleGAN2Generator in eval mode on the CPU in float32, name of the training data or None).
    Raises:
        InputError: the file is missing, damaged, hostile or of another system, or an option of its network is
            one that our generator does not have. In no case is anything run that is in the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give an official StyleGAN2-ADA file, e.g. cifar10.pkl")
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path} has more than {LARGEST >> 30} GB: no official file is that large")
    try:
        contents = unpickle(path.read_bytes())
        if not isinstance(contents, dict) or not isinstance(contents.get("G_ema"), Inert):
            raise InputError("it holds no network G_ema")
        network = _network(contents["G_ema"])
    except InputError as error:
        raise InputError(f"{path} cannot be used, and nothing in it was run: {error}") from None
    training = contents.get("training_set_kwargs")
    data = training.get("path") if isinstance(training, dict) else None
    return network, re.split(r"[/\\]", data)[-1] if isinstance(data, str) and data else None


def class_names(path, network, data):
    """CIFAR-10's names where file or training data is called so and there are ten classes; else None."""
    named = "cifar10" in f"{data} {Path(path).name}".lower().replace("-", "")
    return CIFAR10_CLASSES if named and network.num_classes == 10 else None


def convert(source: str, out: str):
    """Writes the generator of an official StyleGAN2-ADA file as a folder of ours, which is no pickle.

    Args:
        source: the official file, e.g. cifar10.pkl. Nothing that is in it is run.
        out: folder for config.json, model.safetensors and provenance.json.
    Returns:
        The folder, a Path.
    Raises:
        InputError: as `read_official`; `out` holds anything but a network.
    """
    out = network_folder(out)  # before the long work
    network, data = read_official(source)
    names = class_names(source, network, data) or [str(i) for i in range(max(network.num_classes, 1))]
    save_network(
        network,
        out,
        provenance(
            f"gsoc-kd convert --source {Path(source).name}",
            data,
            source=Path(source).name,
            sha256=sha256(source),
            classes=list(names),
            licence=LICENCE,
        ),
    )
    return out
