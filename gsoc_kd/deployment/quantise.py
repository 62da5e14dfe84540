"""INT8: which parts of a network are quantised, and how their ranges are measured (docs/Deployment.md)."""

import contextlib
import importlib
import logging

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from ..core.files import InputError
from ..core.latents import z_from
from ..core.state import as_before
from ..data.images import to_uint8
from ..pairs.make import draw_latents

CONVOLUTIONS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"}
PASSING = {  # operations that only move or cut off numbers: 8 bits may go through them on the way to a convolution
    "Clamp", "Concat", "Interpolate", "MaxPool", "Pad", "Relu", "Reshape", "Split", "Squeeze", "StridedSlice",
    "Transpose", "Unsqueeze", "VariadicSplit"}  # fmt: skip
BATCHES = 8  # of latents, that a generator's ranges are measured on
SCALES = 0.01, 100.0  # of z, between which a network may tell lengths apart


def need(name):
    """A package of the extra `deploy`, imported."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # nncf's import looks for CUDA's compiler
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f'{name} is not installed; get it with: pip install "gsoc-kd[deploy]"') from None


def quantise(model, data, kinds=(), names=(), correct_bias=True, done=lambda: None):
    """An 8-bit copy of an OpenVINO model by nncf's default preset, its ranges set by `data`, a list of inputs. `kinds`
    and `names` of operations stay in float; correct_bias: biases make up for what rounding moves means by. done() is
    called for each input that nncf has taken."""
    nncf = need("nncf")
    scope = nncf.IgnoredScope(types=list(kinds), names=list(names), validate=False)
    options = nncf.AdvancedQuantizationParameters(disable_bias_correction=not correct_bias)

    def taken(given):
        done()
        return given

    with as_before(), without_bars():  # nncf draws numbers
        data, count = nncf.Dataset(data, taken), len(data)
        return nncf.quantize(model, data, subset_size=count, ignored_scope=scope, advanced_parameters=options)


@contextlib.contextmanager
def without_bars():
    """Inside, nncf says nothing but errors and shows no progress bars, which have no switch and fill a notebook."""
    nncf, track_progress = need("nncf"), need("nncf.common.logging.track_progress")
    nncf.set_log_level(logging.ERROR)
    bar = track_progress.Progress
    track_progress.Progress = lambda *columns, **given: bar(*columns, **{**given, "disable": True})
    try:
        yield
    finally:
        track_progress.Progress = bar


def quantise_generator(model, network, seed=0, done=lambda: None):
    """The OpenVINO model of a network with its convolutions in 8 bits, ranges measured on 2,000 latents and uniformly
    drawn labels alone. All else stays in float (`in_float`). done() is called BATCHES times."""
    kinds, names = in_float(model)
    return quantise(model, calibration_inputs(network, seed), kinds, names, correct_bias=False, done=done)


def calibration_inputs(generator, seed=0, count=BATCHES, batch=250):
    """What a generator's ranges are measured on: `count` dicts of z (batch, z_dim) float32 and y (batch,) int64."""
    rng = np.random.default_rng(seed)
    latents = [_latents(generator, seed, i, batch) for i in range(count)]
    return [{"z": z, "y": rng.integers(generator.num_classes, size=batch)} for z in latents]


def _latents(generator, seed, chunk, count):
    return draw_latents(seed, chunk, count, generator.z_dim, z_from(generator)).astype(np.float32)


def in_float(model):
    """(types, names) of a generator's operations that stay in float: all but convolutions and what leads to them, and
    the convolutions that give the three colours, as nothing after them evens out their rounding. So no range stands
    on the way from z to the first convolution, where it would cut off long latents and round short ones to nothing."""
    operations = model.get_ops()
    kinds = {op.get_type_name() for op in operations} - CONVOLUTIONS - PASSING - {"Parameter", "Result", "Constant"}
    last = [op for op in operations if op.get_type_name() in CONVOLUTIONS and op.output(0).get_partial_shape()[1] == 3]
    return sorted(kinds), [op.get_friendly_name() for op in last]


class ScaledPerImage(nn.Module):
    """A convolution in numbers from -1 to 1: each image's are divided by the largest of them, and multiplied by it
    afterwards. The same sums, in a range that is right for latents of any length."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.bias, conv.bias = conv, conv.bias, None

    def forward(self, x, *more):
        scale = x.abs().flatten(1).amax(1).clamp_min(1e-30).view(-1, *[1] * (x.ndim - 1))  # (N, 1, 1, 1)
        x = self.conv(x / scale, *more) * scale
        return x if self.bias is None else x + self.bias.view(-1, *[1] * (x.ndim - 2))


@torch.no_grad()
def scaled_per_image(network):
    """The network, changed in place, with `ScaledPerImage` convolutions if its images depend on how long z is. Those
    that normalise z first need none: their convolutions meet the same numbers whatever that length."""
    z = torch.from_numpy(_latents(network, 0, 0, 32))
    y = torch.arange(32) % network.num_classes
    base, *others = (to_uint8(network(z * scale, y)).short() for scale in (1.0, *SCALES))
    if max((other - base).abs().max() for other in others) > 1:
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, _ConvNd) and not isinstance(module, ScaledPerImage) and child.out_channels != 3:
                    setattr(module, name, ScaledPerImage(child))
    return network
