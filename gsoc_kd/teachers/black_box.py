"""A teacher is a black box: noise and a label go in, an image of whole grey levels comes out.

Nothing after this stage sees its weights, layers or gradients (TinyGAN, Chang & Lu 2020, arXiv 2009.13829, section 3).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ..core.checks import pick_device, whole
from ..core.files import InputError
from ..core.weights import network_hash
from ..data.images import to_uint8
from ..networks.stylegan2 import StyleGAN2Generator


@dataclass(eq=False)
class Teacher:
    """`teacher(z, y)` gives images, numpy uint8 (N, H, W, 3); the same z and y give the same images.

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
            raise InputError(f"draw must be a callable (z, y) -> uint8 images, not {type(self.draw).__name__}")
        for field in ("z_dim", "num_classes", "resolution"):
            setattr(self, field, whole(f"a teacher's {field}", getattr(self, field)))
        self.classes = tuple(map(str, range(self.num_classes) if self.classes is None else self.classes))
        if not len(self.classes) == len(set(self.classes)) == self.num_classes:
            raise InputError(f"classes must be {self.num_classes} different names, one a class; got {self.classes}")

    def __repr__(self):
        size = f"{self.resolution}x{self.resolution} pixels, z of {self.z_dim}"
        return f"Teacher({self.name!r}, {self.num_classes} classes, {size}, psi {self.psi:g})"

    def __call__(self, z, y):
        z, y = check_latents(z, self.z_dim), check_labels(y, self.num_classes)
        if len(z) != len(y):
            raise InputError(f"{len(z)} latents but {len(y)} labels: give one label for each latent")
        if len(z) == 0:
            return np.zeros((0, self.resolution, self.resolution, 3), np.uint8)
        with torch.no_grad():
            return self._checked(self.draw(z, y), len(z))

    def _checked(self, images, count):
        """What `draw` returned as an array, or an InputError that says what it returned instead."""
        side, got = self.resolution, type(images).__name__
        if isinstance(images, np.ndarray | torch.Tensor):
            got = f"{images.dtype} {tuple(images.shape)}".removeprefix("torch.")
        expected = f"uint8 {(count, side, side, 3)}"
        if got == expected:
            return images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
        hint = "as an array or a tensor; gsoc_kd.data.images.to_uint8 makes it of floats (N, 3, H, W) in [-1, 1]"
        raise InputError(f"teacher {self.name!r} returned {got}, expected {expected}, channels last, {hint}")


def check_latents(z, z_dim):
    """z (N, z_dim), any float array or tensor, as a finite float32 CPU tensor; InputError otherwise."""
    if isinstance(z, torch.Tensor):
        z = (z.float() if z.is_floating_point() else z).detach().cpu().numpy()
    array = np.asarray(z)
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
        raise InputError(f"label {array[bad[0]]} in row {bad[0]} is out of range: classes are 0 to {num_classes - 1}")
    return torch.from_numpy(array.astype(np.int64))  # (N,)


def black_box(generator, device=None, batch=256):
    """Any generator as a `Teacher`.

    Args:
        generator: a Teacher (returned as it is); a network, `network(z, y)` -> float (N, 3, H, W) in [-1, 1],
            which is put into eval mode; or any callable `(z, y)` -> uint8 (N, H, W, 3). All but the first
            need the attributes `z_dim` and `num_classes`; `resolution` is found by generating one image if absent.
        device: where a network is moved to; None leaves it where it is.
        batch: at most so many images go through a network at once.
    Raises:
        InputError: something is missing from the generator, or what it generates cannot be used.
    """
    if isinstance(generator, Teacher):
        return generator
    name = getattr(generator, "__name__", type(generator).__name__)
    if isinstance(generator, nn.Module):
        return from_network(generator, name, device=device, batch=batch)
    if not callable(generator):
        raise InputError(f"{name} is not a generator: give a Teacher, a network or a callable (z, y) -> uint8 images")
    return _teacher(generator, generator, name=name, classes=getattr(generator, "classes", None))


def from_network(network, name, psi=1.0, device=None, batch=256, half=False, classes=None):
    """A Teacher around a network of ours or anybody's; the arguments are those of `black_box` and `load_teacher`."""
    batch = whole("batch", batch)
    network.eval().to(None if device is None else pick_device(device), memory_format=torch.channels_last)
    options = dict(psi=psi, noise_mode="const") if isinstance(network, StyleGAN2Generator) else {}

    def draw(z, y):
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        network.eval()
        images = []
        with torch.inference_mode(), in_half(device, half):
            for part, labels in zip(z.split(batch), y.split(batch)):
                x = network(part.to(device), labels.to(device), **options)  # (<= batch, 3, H, W)
                if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point() or not torch.isfinite(x).all():
                    got = f"{x.dtype} {tuple(x.shape)}"
                    raise InputError(f"network {name!r} returned {got}, expected finite floats (N, 3, H, W) in [-1, 1]")
                images.append(to_uint8(x).cpu())
        return torch.cat(images)  # (N, H, W, 3)

    digest = network_hash(network) if hasattr(network, "config") else None
    return _teacher(draw, network, name=name, classes=classes, digest=digest, psi=psi, half=half, network=network)


def in_half(device, half):
    """A context in which networks on `device` compute in float16, if `half`: half a GPU's work and memory."""
    return torch.autocast(torch.device(device).type, torch.float16, enabled=half)


def _teacher(draw, generator, name, **fields):
    """A Teacher around `draw`, its sizes read from the attributes of `generator`."""
    sizes = {field: getattr(generator, field, None) for field in ("z_dim", "num_classes")}
    if missing := [field for field, value in sizes.items() if value is None]:
        raise InputError(f"{name} has no attribute {' and no '.join(missing)}: set it, or make a teachers.Teacher")
    if isinstance(generator, StyleGAN2Generator) and generator.num_classes == 0:
        sizes["num_classes"] = 1  # unconditional: the label is ignored
    resolution = getattr(generator, "resolution", None)
    teacher = Teacher(draw, resolution=1 if resolution is None else resolution, name=name, **sizes, **fields)
    if resolution is None:  # one image tells it
        with torch.no_grad():
            image = draw(torch.ones(1, teacher.z_dim), torch.zeros(1, dtype=torch.int64))
        shape = getattr(image, "shape", ())
        teacher = replace(teacher, resolution=shape[2] if len(shape) == 4 else 1)
        teacher._checked(image, 1)
    return teacher
