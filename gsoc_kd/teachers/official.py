"""Official StyleGAN2-ADA files: the generator in a pickle becomes ours, without running what is in the file."""

import re
from pathlib import Path

import torch

from ..core.files import InputError, sha256
from ..core.weights import network_folder, provenance, save_network
from ..networks.stylegan2 import StyleGAN2Generator, from_official
from .inert import Inert, shown, unpickle

LARGEST = 4 << 30  # bytes; an official file of 1024x1024 pixels has 0.4 GB
LICENCE = "as the official file: Nvidia Source Code License, for research or evaluation only, not commercially"


def read_official(path):
    """Reads the generator `G_ema` of an official StyleGAN2-ADA file (PyTorch, persistence version 6), of any size, with
    classes or without: (StyleGAN2Generator in eval mode on the CPU in float32, name of the training data or None).
    InputError if the file is missing, damaged, hostile or of another system, or an option of its network is one that
    our generator does not have. In no case is anything run that is in the file."""
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
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        what = str(error) if isinstance(error, InputError) else f"its generator does not fit: {shown(str(error))}"
        what = "".join(filter(str.isprintable, what))
        raise InputError(f"{path} cannot be used, and nothing in it was run: {what}") from None
    training = contents.get("training_set_kwargs")
    data = training.get("path") if isinstance(training, dict) else None
    return network, re.split(r"[/\\]", data)[-1] if isinstance(data, str) and data else None


def convert(source: str, out: str):
    """Writes the generator of the official StyleGAN2-ADA file `source`, e.g. cifar10.pkl, into the folder `out`, as
    config.json, model.safetensors and provenance.json, and returns that Path. Nothing that is in the file is run.
    InputError as `read_official`, or where `out` holds anything but a network."""
    out = network_folder(out)  # before the long work
    network, data = read_official(source)
    name = Path(source).name
    told = provenance(f"gsoc-kd convert --source {name}", data, source=name, sha256=sha256(source), licence=LICENCE)
    save_network(network, out, told)
    return out


def _network(record):
    """Our generator with the tensors of theirs; every option and every shape is compared."""
    tensors, layers = _collect(record)
    config, state = _config(tensors, layers), from_official(tensors)
    with torch.device("meta"):  # shapes only, no memory
        own = StyleGAN2Generator(**config).state_dict()
    for name in sorted(own.keys() | state.keys()):
        ours, theirs = (tuple(part[name].shape) if name in part else None for part in (own, state))
        if ours != theirs:
            raise InputError(f"tensor {shown(name)} has shape {theirs}, our generator's has {ours}")
    network = StyleGAN2Generator(**config)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _collect(record):
    """{name: tensor} and {path of layer: (class, state)} of a network, in the form of a state dict."""
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
            tensor = value.value if isinstance(value, Inert) and value.name == "tensor" else None
            if tensor is None or not tensor.is_floating_point() or not torch.isfinite(tensor).all():
                raise InputError(f"{shown(path + name)} is no tensor of finite floats")
            tensors[path + name] = tensor.float().contiguous()
        waiting += [(f"{path}{name}.", part) for name, part in layer.value["_modules"].items()]
    return tensors, layers


def _config(tensors, layers):
    """Our generator's arguments, from the shapes of the tensors and the settings of the layers."""
    for path, (kind, state) in layers.items():
        mapping = path.startswith("mapping.fc")
        known = {  # all layers of our generator, with the settings that it cannot do otherwise
            "Generator": dict(img_channels=3),
            "SynthesisBlock": dict(architecture="skip"),
            "SynthesisLayer": dict(activation="lrelu", use_noise=True, up=2 if path.endswith(".conv0.") else 1),
            "FullyConnectedLayer": dict(activation="lrelu" if mapping else "linear", bias_gain=0.01 if mapping else 1),
            **dict.fromkeys(("MappingNetwork", "SynthesisNetwork", "ToRGBLayer"), {}),
        }
        if kind not in known:
            raise InputError(f"{shown(path or 'G_ema')} is a {shown(kind)}, no layer of this generator")
        for name, value in known[kind].items():
            if state.get(name) != value:
                raise InputError(f"{shown(path + name)} is {shown(state.get(name))}; ours knows only {value!r}")
    clamps = {state["conv_clamp"] for kind, state in layers.values() if kind in ("SynthesisLayer", "ToRGBLayer")}
    if len(clamps) != 1 or not isinstance(min(clamps), int | float | None):
        raise InputError(f"conv_clamp is not one number for all layers: {shown(clamps)}")
    clamp, w_dim = clamps.pop(), len(tensors["mapping.w_avg"])
    num_classes = tensors["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in tensors else 0
    z_dim = tensors["mapping.fc0.weight"].shape[1] - (w_dim if num_classes else 0)
    resolutions = [4 << i for i in range(sum(kind == "SynthesisBlock" for kind, _ in layers.values()))]
    widths = [tensors[f"synthesis.b{r}.torgb.weight"].shape[1] for r in resolutions]
    config = dict(z_dim=z_dim, w_dim=w_dim, num_classes=num_classes, resolution=resolutions[-1])
    stated = ("z_dim", "w_dim", "c_dim", "img_resolution")  # as the official generator calls these four
    for theirs, value in zip(stated, config.values()):
        if (told := layers[""][1].get(theirs)) != value:
            raise InputError(f"{theirs} is {shown(told)}, but its tensors say {value}")
    return config | dict(
        channel_base=max(width * r for width, r in zip(widths, resolutions)),
        channel_max=max(widths),
        mapping_layers=sum(path.startswith("mapping.fc") for path in layers),
        clamp=None if clamp is None else float(clamp),
    )
