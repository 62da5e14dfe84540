"""Writes files in the layout of official StyleGAN2-ADA snapshots, with recorded tensors and none of its code."""

import contextlib
import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch

REFERENCE = np.load(Path(__file__).parent / "fixtures" / "stylegan2ada-reference.npz")
KINDS = "Generator MappingNetwork SynthesisNetwork SynthesisBlock SynthesisLayer ToRGBLayer FullyConnectedLayer".split()
SOURCE = "\n".join(f"class {name}: pass" for name in [*KINDS, "Conv2dLayer"])  # stands for the networks' source text


class Call:
    """Pickled, a call of `function`: what an unpickler would run."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@contextlib.contextmanager
def official_names():
    """The two names that official files ask for, importable while a test writes one."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    modules = {name: types.ModuleType(name) for name in names}

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("this is only ever written")

    EasyDict = type("EasyDict", (dict,), {})
    for name, value in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
        value.__module__, value.__qualname__ = name, value.__name__
        setattr(modules[name], value.__name__, value)
    sys.modules.update(modules)
    try:
        yield _reconstruct_persistent_obj, EasyDict
    finally:
        for name in modules:
            del sys.modules[name]


def config(case):
    return json.loads(str(REFERENCE[f"{case}/config"]))


def layers(case):
    """{path: dict of class, parameters, buffers and settings} of the recorded network."""
    told, found, start = config(case), {}, f"{case}/state/"
    clamp, linear = told["synthesis_kwargs"]["conv_clamp"], dict(activation="linear", bias_gain=1)
    conv = dict(activation="lrelu", use_noise=True, conv_clamp=clamp)
    kinds = {  # by the last part of the path
        "": ("Generator", {k: told[k] for k in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")}),
        "synthesis": ("SynthesisNetwork", {}),
        "mapping": ("MappingNetwork", {}),
        "b": ("SynthesisBlock", dict(architecture="skip", use_fp16=True)),  # b4, b8, ...
        "conv0": ("SynthesisLayer", conv | dict(up=2)),
        "conv1": ("SynthesisLayer", conv | dict(up=1)),
        "torgb": ("ToRGBLayer", dict(conv_clamp=clamp, weight_gain=np.float64(0.5))),
        "affine": ("FullyConnectedLayer", linear),
        "embed": ("FullyConnectedLayer", linear),
        "fc": ("FullyConnectedLayer", dict(activation="lrelu", bias_gain=0.01)),  # fc0, fc1, ...
    }
    for name in (name for name in REFERENCE.files if name.startswith(start)):
        path, _, last = name.removeprefix(start).rpartition(".")
        parts, value = ["", *path.split(".")], torch.from_numpy(np.array(REFERENCE[name]))
        for i, part in enumerate(parts):
            kind, settings = kinds.get(part) or kinds[part.rstrip("0123456789")]
            new = dict(kind=kind, parameters={}, buffers={}, settings=dict(settings))
            found.setdefault(".".join(parts[1 : i + 1]), new)
        if last in ("noise_const", "resample_filter", "w_avg"):
            found[path]["buffers"][last] = value
        else:
            found[path]["parameters"][last] = torch.nn.Parameter(value)
    return found


def official_bytes(case="cifar_cond", change=None, source=SOURCE, version=6, protocol=4, **more):
    """A snapshot's bytes. `change(layers)` may alter the network first; `more` are entries of the outer dict."""
    found = layers(case)
    if change:
        change(found)
    with official_names() as (reconstruct, EasyDict):

        def module(path):
            one, inner = found[path], [p for p in found if p and p.rpartition(".")[0] == path]
            state = dict(training=False, _parameters=one["parameters"], _buffers=one["buffers"])
            state |= {"_modules": {p.rpartition(".")[2]: module(p) for p in inner}, **one["settings"]}
            about = dict(version=version, module_src=source, class_name=one["kind"], state=state)
            return Call(reconstruct, EasyDict(type="class", **about))

        network = module("")
        entries = dict(training_set_kwargs=EasyDict(path="data/cifar10.zip"), augment_pipe=None)
        return pickle.dumps({**entries, "G": network, "G_ema": network, **more}, protocol=protocol)
