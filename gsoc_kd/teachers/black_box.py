"""A teacher is a black box: noise and a label go in, an image of whole grey levels comes out. Nothing after this stage
sees its weights, layers or gradients (TinyGAN, Chang & Lu 2020, arXiv 2009.13829, section 3)."""

import copy
import inspect
import math
import numbers
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..core.checks import brief, classes_of, device_of, pick_device, real_number, truth, whole
from ..core.files import InputError
from ..core.latents import SAMPLERS, z_from
from ..core.state import as_imported, evaluating, untouched
from ..core.weights import has_config, network_hash
from ..data.images import to_uint8
from ..data.listing import check_names
from ..networks.layers import LARGEST_Z
from ..networks.stylegan2 import StyleGAN2Generator

DARK = -0.1  # images in [-1, 1] have darker places, but for very few; those in 0..1 or 0..255 have none
FAR = 8  # images that are on average so far outside of [-1, 1] were scaled otherwise


@dataclass(eq=False)
class Teacher:
    """`teacher(z, y)` gives images, numpy uint8 (N, H, W, 3); the same z and y give the same images.

    `draw` is handed CPU tensors, z float32 (N, z_dim) and y int64 (N,), and returns a numpy array or a tensor. Fields,
    what goes in and what comes out are checked: InputError names what is wrong, its shape or dtype, and what to do."""

    draw: Callable  # (z, y) -> uint8 (N, resolution, resolution, 3)
    z_dim: int  # numbers in one latent
    num_classes: int  # labels are 0 .. num_classes - 1
    resolution: int | None = None  # pixels a side; None: one image tells
    classes: tuple[str, ...] | None = None  # names of the classes; None: "0", "1", ...
    name: str = "callable"  # how the manifest of its pairs calls it
    digest: str | None = None  # hash of its weights; None: not known
    psi: float | None = None  # truncation, 1 = none; None: what `draw` takes by itself, if it has it, else 1
    half: bool = False  # whether the network computes in float16
    network: nn.Module | None = None  # the network behind it, where it is one of ours
    z_from: str = "normal"  # what its latents are drawn from: normal, N(0, 1), or uniform, [0, 1)

    def __post_init__(self):
        if not callable(self.draw):
            raise InputError(f"draw must be a callable (z, y) -> uint8 images, not {type(self.draw).__name__}")
        if not isinstance(self.name, str | os.PathLike):
            raise InputError(f"a teacher's name must be a text, not {brief(self.name)}")
        self.name, self.half = str(self.name), truth("half", self.half)
        usual = _usual_psi(self.draw)
        self.takes_psi = usual is not None
        self.psi = real_number("psi", self.psi if self.psi is not None else usual if self.takes_psi else 1.0)
        for field in ("z_dim", "num_classes"):
            setattr(self, field, whole(f"a teacher's {field}", getattr(self, field), 1, 1 << 20))
        if self.resolution is None:
            with torch.no_grad():
                image = self.ask(torch.ones(1, self.z_dim, dtype=torch.float32), torch.zeros(1, dtype=torch.int64))
            shape = getattr(image, "shape", ())
            self.resolution = shape[2] if len(shape) == 4 else 1
            self._checked(image, 1)
        self.resolution = whole("a teacher's resolution", self.resolution)
        if self.z_from not in [*SAMPLERS]:
            raise InputError(f"a teacher's z_from must be one of {', '.join(SAMPLERS)}, not {self.z_from!r}")
        names = range(self.num_classes) if self.classes is None else self.classes
        self.classes = tuple(map(str, names)) if isinstance(names, Iterable) else (str(names),)
        if not len(self.classes) == len(set(self.classes)) == self.num_classes:
            raise InputError(f"classes must be {self.num_classes} different names, one per class; got {self.classes}")
        check_names(self.classes, f"classes of {self.name!r}")

    def __repr__(self):
        size = f"{self.resolution}x{self.resolution} pixels, z of {self.z_dim}"
        return f"Teacher({self.name!r}, {self.num_classes} classes, {size}, psi {self.psi:g})"

    def __call__(self, z, y):
        z, y = check_inputs(z, y, self.z_dim, self.num_classes)
        if len(z) == 0:
            return np.zeros((0, self.resolution, self.resolution, 3), np.uint8)
        with torch.no_grad():
            return self._checked(self.ask(z, y), len(z))

    def ask(self, z, y):
        """What `draw` gives, unchecked; it is told psi where it takes it."""
        return self.draw(z, y, psi=self.psi) if self.takes_psi else self.draw(z, y)

    def _checked(self, images, count):
        """What `draw` returned as an array, or an InputError that says what it returned instead."""
        side, got = self.resolution, type(images).__name__
        if isinstance(images, np.ndarray | torch.Tensor):
            got = f"{images.dtype} {tuple(images.shape)}".removeprefix("torch.")
        if got != (expected := f"uint8 {(count, side, side, 3)}"):
            hint = "as an array or a tensor; gsoc_kd.data.images.to_uint8 makes it of floats (N, 3, H, W) in [-1, 1]"
            raise InputError(f"teacher {self.name!r} returned {got}, expected {expected}, channels last, {hint}")
        images = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
        return np.array(images)  # a copy: draw may use its own again


def _usual_psi(function):
    """What a function takes for its argument psi by itself, a number, 1.0 where it must be given; None: it has no such
    argument, or it can be no number by itself."""
    try:
        found = inspect.signature(function).parameters.get("psi")
    except (TypeError, ValueError):  # callables without a signature
        return None
    if found is None or found.kind not in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY):
        return None
    usual = 1.0 if found.default is found.empty else found.default
    return usual if isinstance(usual, numbers.Real) else None


@np.errstate(over="ignore")
def check_inputs(z, y, z_dim, num_classes):
    """Arrays, tensors or lists as CPU tensors: z float32 (N, z_dim), a copy, no number beyond LARGEST_Z, and y int64
    (N,) from 0 to num_classes - 1; InputError otherwise."""
    if isinstance(z, torch.Tensor) and z.is_floating_point():
        z = z.float()  # numpy has no bfloat16
    try:
        z, y = (np.asarray(a.detach().cpu().numpy() if isinstance(a, torch.Tensor) else a) for a in (z, y))
    except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths, sparse tensors
        raise InputError(f"z and y must be arrays, tensors or lists of numbers ({str(error)[:100]})") from None
    if z.ndim != 2 or z.shape[1] != z_dim or z.dtype.kind != "f":
        raise InputError(f"z must be floats of shape (N, {z_dim}), not {z.dtype} {z.shape}")
    z = z.astype(np.float32)
    if len(bad := np.flatnonzero(~np.isfinite(z).all(axis=1))):
        raise InputError(f"z is not finite in row {bad[0]} ({len(bad)} of {len(z)} rows): draw it from N(0, 1)")
    if len(bad := np.flatnonzero((np.abs(z) > LARGEST_Z).any(axis=1))):
        told = f"z holds {np.abs(z[bad[0]]).max():.3g} in row {bad[0]}, and {LARGEST_Z:g} is the most"
        raise InputError(f"{told}: draw it from N(0, 1)")
    if y.ndim != 1 or (y.dtype.kind not in "iu" and len(y)):
        raise InputError(f"y must be whole numbers of shape (N,), not {y.dtype} {y.shape}")
    if len(bad := np.flatnonzero((y < 0) | (y >= num_classes))):
        raise InputError(f"label {y[bad[0]]} in row {bad[0]} is out of range: classes are 0 to {num_classes - 1}")
    if len(z) != len(y):
        raise InputError(f"{len(z)} latents but {len(y)} labels: give one label for each latent")
    return torch.from_numpy(z), torch.from_numpy(y.astype(np.int64))


@untouched
def black_box(generator, device=None, batch=256):
    """Any generator as a `Teacher`; InputError if it lacks something, or what it generates cannot be used.

    Args:
        generator: a Teacher (returned as it is); a network, `network(z, y)` -> float (N, 3, H, W) in [-1, 1], which is
            asked in eval mode and left as it is; or any callable `(z, y)` -> uint8 (N, H, W, 3). All but the first need
            the attributes `z_dim` and `num_classes`, and may have `resolution` and `classes`.
        device, batch: where the network computes, a copy of it if it is elsewhere (None: where it is), and how many
            images at most at once."""
    if isinstance(generator, Teacher):
        return generator
    name = getattr(generator, "__name__", type(generator).__name__)
    if isinstance(generator, nn.Module):
        return from_network(generator, name, device=device, batch=batch)
    if not callable(generator):
        raise InputError(f"{name} is not a generator: give a Teacher, a network or a callable (z, y) -> uint8 images")
    return _teacher(generator, generator, name=name, classes=classes_of(generator))


def from_network(network, name, psi=1.0, device=None, batch=256, half=False, classes=None):
    """A Teacher around a network; the arguments are those of `black_box` and `load_teacher`."""
    batch, device = whole("batch", batch), None if device is None else pick_device(device)
    if device is not None and {p.device for p in network.parameters()} - {torch.empty(0, device=device).device}:
        network = copy.deepcopy(network).to(device)  # the caller's stays where it is
    digest = network_hash(network) if has_config(network) else None
    classes = classes or classes_of(network)
    draw = Images(network, name, psi, batch, half)
    return _teacher(draw, network, name=name, classes=classes, digest=digest, psi=psi, half=half, network=network)


class Images:
    """What a network generates: z (N, z_dim) float32 and y (N,) int64 on the CPU -> uint8 (N, H, W, 3). InputError:
    what the network gives is no image in [-1, 1]."""

    def __init__(self, network, name, psi, batch, half):
        self.network, self.name, self.batch, self.half = network, name, batch, half
        self.options = dict(psi=psi, noise_mode="const") if isinstance(network, StyleGAN2Generator) else {}
        self.fits = False  # whether an image had a dark place, which values in 0..1 or 0..255 never have

    def __call__(self, z, y):
        device = device_of(self.network)
        with as_imported(), evaluating(self.network), torch.inference_mode(), in_half(device, self.half):
            parts = zip(z.split(self.batch), y.split(self.batch))
            return torch.cat([self._checked(part.to(device), labels.to(device)) for part, labels in parts])

    def _checked(self, z, y):
        x = self.network(z, y, **self.options)  # (<= batch, 3, H, W)
        if not isinstance(x, torch.Tensor) or x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            self._refuse(f"{x.dtype} {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__)
        low, high = self._ends(x)
        if not self.fits and low >= DARK:  # perhaps all of it is bright: what of others?
            some = torch.randn(32, z.shape[1], generator=torch.Generator().manual_seed(0)).to(z)
            labels = torch.arange(32, device=y.device) % max(self.network.num_classes, 1)
            other_low, other_high = self._ends(self.network(some, labels, **self.options))
            low, high = min(low, other_low), max(high, other_high)
            if low >= DARK and high > 0.5:
                self._refuse(f"values from {low:.3g} to {high:.3g}")
        self.fits = True
        return to_uint8(x).cpu()  # (N, H, W, 3)

    def _ends(self, x):
        """The lowest and the highest value of images; refused if not finite, or far outside of [-1, 1] everywhere."""
        low, high = torch.stack(x.aminmax()).tolist()
        if not (math.isfinite(low) and math.isfinite(high)):
            self._refuse(f"{x.dtype} {tuple(x.shape)} with NaN or infinite values")
        if max(-low, high) > FAR and x.float().abs().mean() > FAR:
            self._refuse(f"values from {low:.3g} to {high:.3g}")
        return low, high

    def _refuse(self, returned):
        expected = "expected finite floats (N, 3, H, W) in [-1, 1]: scale 0..1 by 2 * x - 1, 0..255 by x / 127.5 - 1"
        raise InputError(f"network {self.name!r} returned {returned}, {expected}")


def in_half(device, half):
    """A context in which networks on `device` compute in float16, if `half`: half a GPU's work and memory."""
    return torch.autocast(torch.device(device).type, torch.float16, enabled=half)


def _teacher(draw, generator, **fields):
    """A Teacher around `draw`, its sizes read from the attributes of `generator`."""
    sizes = {field: getattr(generator, field, None) for field in ("z_dim", "num_classes")}
    fields["z_from"] = z_from(generator)
    if missing := [field for field, value in sizes.items() if value is None]:
        raise InputError(f"{fields['name']} has no attribute {' and no '.join(missing)}: set it, or make a Teacher")
    if isinstance(generator, StyleGAN2Generator):
        sizes["num_classes"] = generator.num_classes or 1  # unconditional: the label is ignored
    return Teacher(draw, **sizes, resolution=getattr(generator, "resolution", None), **fields)
