"""A teacher is a black box: noise and a label go in, an image of whole grey levels comes out.

Nothing after this module sees a teacher's weights, layers or gradients (TinyGAN, Chang & Lu 2020,
arXiv 2009.13829, section 3): a network of ours, somebody else's code and a remote service all look alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..core.files import InputError
from ..core.weights import network_hash
from ..data.images import to_uint8
from ..networks.stylegan2 import StyleGAN2Generator


@dataclass(frozen=True, eq=False)
class Teacher:
    """`teacher(z, y)` gives pictures, numpy uint8 (N, H, W, 3); the same z and y give the same pictures.

    `draw` is handed CPU tensors, z float32 (N, z_dim) and y int64 (N,), and returns a numpy array or a
    tensor. What goes in and what comes out is checked at every call.

    Raises (when made and when called):
        InputError: names the field or the argument that is wrong, its shape or dtype, and what to do.
    """

    draw: Callable  # (z, y) -> uint8 (N, resolution, resolution, 3)
    z_dim: int  # numbers in one latent
    num_classes: int  # labels are 0 .. num_classes - 1
    resolution: int  # pixels a side
    classes: tuple[str, ...] | None = None  # names of the classes; None: "0", "1", ...
    name: str = "callable"  # how the manifest of its pairs calls it
    digest: str | None = None  # hash of its weights; None: not known
    psi: float = 1.0  # truncation of a StyleGAN2 teacher, 1 = none
    half: bool = False  # whether the network computes in float16
    network: nn.Module | None = None  # the network behind it, where it is one of ours

    def __post_init__(self):
        if not callable(self.draw):
            raise InputError(f"draw must be a callable (z, y) -> uint8 pictures, not {type(self.draw).__name__}")
        for field in ("z_dim", "num_classes", "resolution"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise InputError(f"a teacher's {field} must be a whole number of at least 1, not {value!r}")
            object.__setattr__(self, field, int(value))
        names = self.classes
        names = tuple(str(c) for c in (range(self.num_classes) if names is None else names))
        if len(names) != self.num_classes or len(set(names)) != len(names):
            raise InputError(f"classes must be {self.num_classes} different names, one a class; got {names}")
        object.__setattr__(self, "classes", names)

    def __repr__(self):
        return (
            f"Teacher({self.name!r}, {self.num_classes} classes, {self.resolution}x{self.resolution} "
            f"pixels, z of {self.z_dim}, psi {self.psi:g})"
        )

    def __call__(self, z, y):
        z, y = check_latents(z, self.z_dim), check_labels(y, self.num_classes)
        if len(z) != len(y):
            raise InputError(f"{len(z)} latents but {len(y)} labels: give one label a latent")
        if len(z) == 0:
            return np.zeros((0, self.resolution, self.resolution, 3), np.uint8)
        with torch.no_grad():
            pictures = self.draw(z, y)
        return self._checked(pictures, len(z))

    def _checked(self, pictures, count):
        if isinstance(pictures, torch.Tensor):
            pictures = pictures.detach().cpu().numpy()
        expected = (count, self.resolution, self.resolution, 3)
        if not isinstance(pictures, np.ndarray):
            raise InputError(
                f"teacher {self.name!r} returned {type(pictures).__name__}; it must return a "
                f"numpy array or a tensor, uint8 {expected}"
            )
        got = f"teacher {self.name!r} returned {pictures.dtype} {pictures.shape}, expected uint8 {expected}"
        if pictures.dtype != np.uint8:
            raise InputError(f"{got}: for floats (N, 3, H, W) in [-1, 1] use gsoc_kd.data.images.to_uint8")
        if pictures.shape != expected:
            if pictures.shape == (count, 3, *expected[1:3]):
                raise InputError(f"{got}: move the channels to the end, pictures.permute(0, 2, 3, 1)")
            raise InputError(
                f"{got}: one RGB picture a latent, {self.resolution} pixels a side; or state the right resolution"
            )
        return pictures


def check_latents(z, z_dim):
    """z (N, z_dim), any float array or tensor, as a finite float32 CPU tensor; InputError otherwise."""
    array = z.detach().float().cpu().numpy() if isinstance(z, torch.Tensor) and z.is_floating_point() else z
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] != z_dim or array.dtype.kind != "f":
        raise InputError(f"z must be floats of shape (N, {z_dim}), not {array.dtype} {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)  # (N, z_dim), a copy
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(f"z is not finite in row {bad[0]} ({len(bad)} of {len(array)} rows): draw it from N(0, 1)")
    return torch.from_numpy(array)


def check_labels(y, num_classes):
    """y (N,), whole numbers 0 .. num_classes - 1, as an int64 CPU tensor; InputError otherwise."""
    array = np.asarray(y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else y)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
        raise InputError(f"y must be whole numbers of shape (N,), not {array.dtype} {array.shape}")
    bad = np.flatnonzero((array < 0) | (array >= num_classes))
    if len(bad):
        raise InputError(
            f"label {array[bad[0]]} in row {bad[0]} is out of range: this generator has "
            f"{num_classes} classes, 0 to {num_classes - 1}"
        )
    return torch.from_numpy(array.astype(np.int64))  # (N,)


def black_box(generator, device=None, batch=256):
    """Any generator as a `Teacher`.

    Args:
        generator: a Teacher (returned as it is); a network, `network(z, y)` -> float (N, 3, H, W) in [-1, 1],
            which is put into eval mode; or any callable `(z, y)` -> uint8 (N, H, W, 3). All but the first
            need the attributes `z_dim` and `num_classes`; `resolution` is found by drawing one picture if
            absent.
        device: where a network is moved to; None leaves it where it is.
        batch: at most so many pictures go through a network at once.

    Raises:
        InputError: something is missing from the generator, or what it draws cannot be used.
    """
    if isinstance(generator, Teacher):
        return generator
    if isinstance(generator, nn.Module):
        return _from_network(generator, type(generator).__name__, device=device, batch=batch)
    if not callable(generator):
        raise InputError(
            f"{type(generator).__name__} is not a generator: give a Teacher, a network or a "
            "callable (z, y) -> uint8 (N, H, W, 3)"
        )
    name = getattr(generator, "__name__", type(generator).__name__)
    return _teacher(generator, generator, name=name, classes=getattr(generator, "classes", None))


def _teacher(draw, generator, **fields):
    """A Teacher around `draw`, its sizes read from the attributes of `generator`."""
    missing = [field for field in ("z_dim", "num_classes") if getattr(generator, field, None) is None]
    if missing:
        raise InputError(
            f"{fields['name']} has no attribute {' and no '.join(missing)}: set "
            "`f.z_dim = ...` and `f.num_classes = ...`, or make a gsoc_kd.teachers.Teacher"
        )
    sizes = dict(z_dim=generator.z_dim, num_classes=generator.num_classes)
    if isinstance(generator, StyleGAN2Generator) and sizes["num_classes"] == 0:
        sizes["num_classes"] = 1  # unconditional: the label is ignored
    resolution = getattr(generator, "resolution", None)
    if resolution is None:
        Teacher(draw, resolution=1, **sizes, **fields)  # checks the sizes
        with torch.no_grad():
            z = torch.randn(1, sizes["z_dim"], generator=torch.Generator().manual_seed(0))
            picture = draw(z, torch.zeros(1, dtype=torch.int64))
        shape = tuple(getattr(picture, "shape", ()))
        resolution = shape[1] if len(shape) == 4 and shape[-1] == 3 else shape[-1] if len(shape) == 4 else 1
        Teacher(draw, resolution=resolution, **sizes, **fields)._checked(picture, 1)
    return Teacher(draw, resolution=resolution, **sizes, **fields)


def _digest(network):
    """Hash of its class, config and weights; None for a network that is not one of ours and has no config."""
    return network_hash(network) if hasattr(network, "config") else None


def in_half(device, half):
    """A context in which networks on `device` compute in float16, if `half`: half a GPU's work and memory."""
    return torch.autocast(torch.device(device).type, torch.float16, enabled=half)


def _from_network(network, name, psi=1.0, device=None, batch=256, half=False):
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch must be a whole number of at least 1, not {batch!r}")
    try:
        network.eval().to(device=device, memory_format=torch.channels_last)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    options = dict(psi=psi, noise_mode="const") if isinstance(network, StyleGAN2Generator) else {}

    def draw(z, y):
        place = next((p.device for p in network.parameters()), torch.device("cpu"))
        network.eval()
        pictures = []
        with torch.inference_mode(), in_half(place, half):
            for part, labels in zip(z.split(batch), y.split(batch)):
                x = network(part.to(place), labels.to(place), **options)  # (<= batch, 3, H, W)
                if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
                    raise InputError(
                        f"network {name!r} returned {x.dtype} {tuple(x.shape)}; it must return "
                        "floats (N, 3, H, W) in [-1, 1]"
                    )
                if not torch.isfinite(x).all():
                    raise InputError(f"network {name!r} returned numbers that are not finite: its weights are broken")
                pictures.append(to_uint8(x).cpu())
        return torch.cat(pictures)  # (N, H, W, 3)

    return _teacher(draw, network, name=name, digest=_digest(network), psi=psi, half=half, network=network)
