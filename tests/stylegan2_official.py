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
SOURCE = "\n".join(
    f"class {name}: pass"
    for name in (
        "Generator",
        "MappingNetwork",
        "SynthesisNetwork",
        "SynthesisBlock",
        "SynthesisLayer",
        "ToRGBLayer",
        "FullyConnectedLayer",
        "Conv2dLayer",
    )
)  # stands for the network's source text, which official files carry


class Call:
    """Pickled, a call of `function`: what an unpickler would run."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@contextlib.contextmanager
def official_names():
    """The two names that official files ask for, importable while a test writes one."""
    modules = {
        name: types.ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }

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
    told, found = config(case), {}
    clamp = told["synthesis_kwargs"]["conv_clamp"]

    def layer(path):
        last = path.rpartition(".")[2]
        if path not in found:
            kind, more = {
                "": ("Generator", {k: told[k] for k in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")}),
                "synthesis": ("SynthesisNetwork", {}),
                "mapping": ("MappingNetwork", {}),
                "conv0": ("SynthesisLayer", dict(activation="lrelu", use_noise=True, up=2, conv_clamp=clamp)),
                "conv1": ("SynthesisLayer", dict(activation="lrelu", use_noise=True, up=1, conv_clamp=clamp)),
                "torgb": ("ToRGBLayer", dict(conv_clamp=clamp, weight_gain=np.float64(0.5))),
                "affine": ("FullyConnectedLayer", dict(activation="linear", bias_gain=1)),
                "embed": ("FullyConnectedLayer", dict(activation="linear", bias_gain=1)),
            }.get(
                last,
                ("SynthesisBlock", dict(architecture="skip", use_fp16=True))
                if last.startswith("b")
                else ("FullyConnectedLayer", dict(activation="lrelu", bias_gain=0.01)),
            )
            found[path] = dict(kind=kind, parameters={}, buffers={}, settings=more)
            if path:
                layer(path.rpartition(".")[0])
        return found[path]

    start = f"{case}/state/"
    for name in (name for name in REFERENCE.files if name.startswith(start)):
        path, _, last = name.removeprefix(start).rpartition(".")
        value = torch.from_numpy(np.array(REFERENCE[name]))
        if last in ("noise_const", "resample_filter", "w_avg"):
            layer(path)["buffers"][last] = value
        else:
            layer(path)["parameters"][last] = torch.nn.Parameter(value)
    return found


def official_bytes(case="cifar_cond", change=None, source=SOURCE, version=6, protocol=4, **more):
    """A snapshot's bytes. `change(layers)` may alter the network first; `more` are entries of the outer dict."""
    found = layers(case)
    if change:
        change(found)
    with official_names() as (reconstruct, EasyDict):

        def module(path):
            inner = [p for p in found if p and p.rpartition(".")[0] == path]
            state = {
                "training": False,
                "_parameters": found[path]["parameters"],
                "_buffers": found[path]["buffers"],
                "_modules": {p.rpartition(".")[2]: module(p) for p in inner},
                **found[path]["settings"],
            }
            meta = EasyDict(
                type="class", version=version, module_src=source, class_name=found[path]["kind"], state=state
            )
            return Call(reconstruct, meta)

        network = module("")
        entries = dict(
            training_set_kwargs=EasyDict(path="data/cifar10.zip"), G=network, augment_pipe=None, G_ema=network
        )
        return pickle.dumps({**entries, **more}, protocol=protocol)
