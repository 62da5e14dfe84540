"""Official StyleGAN2-ADA files: the generator in a pickle becomes ours, without running what is in the file."""

import math
import re
import shlex

import torch

from ..core.checks import path_of
from ..core.files import InputError, locked, sha256
from ..core.state import untouched
from ..core.weights import network_folder, provenance, save_network
from ..networks.stylegan2 import StyleGAN2Generator, from_official
from .inert import Budget, Inert, shown, unpickle

LARGEST = 400_000_000  # bytes; an official file of 1024x1024 pixels has 382 million
REFUSES = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)  # of tensors that do not fit
LICENCE = "as the official file: Nvidia Source Code License, for research or evaluation only, not commercially"


def read_official(path):
    """Reads the generator `G_ema` of an official StyleGAN2-ADA file (PyTorch, persistence version 6), of any size, with
    classes or without: (StyleGAN2Generator in eval mode on the CPU in float32, name of the training data or None).
    InputError if the file is missing, damaged, hostile or of another system, or an option of its network is one that
    our generator does not have. In no case is anything run that is in the file."""
    path = path_of(path)
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}: give an official StyleGAN2-ADA file, e.g. cifar10.pkl")
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    if len(data) > LARGEST:
        raise InputError(f"{path} has more than {round(LARGEST / 1e9, 1):g} GB: no official file is that large")
    try:
        return read_network(data)
    except REFUSES as error:
        what = str(error) if isinstance(error, InputError) else f"its generator does not fit: {shown(str(error))}"
        what = "".join(filter(str.isprintable, what))
        raise InputError(f"{path} cannot be used, and nothing in it was run: {what}") from None


@untouched
def read_network(data):
    """What `read_official` returns, of a file's bytes. Any exception: it is refused."""
    budget = Budget()
    contents = unpickle(data, budget)
    if not isinstance(contents, dict) or not isinstance(contents.get("G_ema"), Inert):
        raise InputError("it holds no network G_ema")
    network, training = _network(contents["G_ema"], budget), contents.get("training_set_kwargs")
    source = training.get("path") if isinstance(training, dict) else None
    return network, re.split(r"[/\\]", source[-1000:])[-1] if isinstance(source, str) and source else None


def convert(source: str, out: str):
    """Writes the generator of the official StyleGAN2-ADA file `source`, e.g. cifar10.pkl, into the folder `out`, as
    config.json, model.safetensors and provenance.json, and returns that Path. Nothing that is in the file is run.
    InputError as `read_official`, or where `out` holds anything but a network."""
    source, out = path_of(source), network_folder(path_of(out))  # before the long work
    with locked(out):
        network, data = read_official(source)
        command = f"gsoc-kd convert --source {shlex.quote(source.name)}"
        told = provenance(command, data, source=source.name, sha256=sha256(source), licence=LICENCE)
        save_network(network, out, told)
    return out


def _network(record, budget):
    """Our generator with the tensors of theirs. Every option, every shape and every number is looked at before memory
    is taken for it."""
    tensors, layers = _collect(record, budget)
    config, state = _config(tensors, layers), from_official(tensors)
    with torch.device("meta"):  # shapes only, no memory
        own = StyleGAN2Generator(**config).state_dict()
    for name in sorted(own.keys() | state.keys()):
        ours, theirs = (tuple(part[name].shape) if name in part else None for part in (own, state))
        if ours != theirs:
            raise InputError(f"tensor {shown(name)} has shape {theirs}, our generator's has {ours}")
    numbers = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > sum(numbers.values()):
        raise InputError("several of its tensors have their numbers in common")
    for name, tensor in state.items():
        budget.spend()
        if tensor.numel() and not all(map(math.isfinite, torch.stack(tensor.aminmax()).tolist())):
            raise InputError(f"{shown(name)} is no tensor of finite floats")
    network = StyleGAN2Generator(**config)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _collect(record, budget):
    """{name: tensor} and {path of layer: (class, state)} of a network, in the form of a state dict."""
    tensors, layers, waiting = {}, {}, [("", record)]
    while waiting:
        path, layer = waiting.pop()
        known = isinstance(layer, Inert) and isinstance(layer.value, dict)
        if not known or path.count(".") > 8 or len(layers) + len(waiting) > 999 or len(path) > 50_000:
            raise InputError(f"its network has a part {shown(path)} that is no layer of StyleGAN2-ADA")
        layers[path] = layer.name, layer.value
        parameters, buffers, modules = (layer.value[f"_{part}"] for part in ("parameters", "buffers", "modules"))
        budget.spend(len(parameters) + len(buffers) + len(modules), len(path) * (len(parameters) + len(modules)))
        for name, value in [*parameters.items(), *buffers.items()]:
            if value is None:  # a layer without bias
                continue
            tensor = value.value if isinstance(value, Inert) and value.name == "tensor" else None
            if tensor is None or not tensor.is_floating_point():
                raise InputError(f"{shown(path + name)} is no tensor of finite floats")
            tensors[path + name] = tensor
        waiting += [(f"{path}{name}.", part) for name, part in modules.items()]
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
    clamped = [state["conv_clamp"] for kind, state in layers.values() if kind in ("SynthesisLayer", "ToRGBLayer")]
    clamp, w_dim = clamped[0], len(tensors["mapping.w_avg"])
    if odd := [value for value in clamped if not isinstance(value, int | float | None) or value != clamp]:
        raise InputError(f"conv_clamp is not one number for all layers: {shown(odd[0])}")
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
