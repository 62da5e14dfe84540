"""Layers of the generators, and checks of their inputs (docs/Student-Network.md)."""

import contextlib
import contextvars

import torch
import torch.nn.functional as F
from torch import nn

from ..core.checks import whole
from ..core.files import InputError

TRUSTED = contextvars.ContextVar("TRUSTED", default=False)
LARGEST_Z = 1e6  # of a latent's numbers: pairs on disk reach 65504; squares of much larger ones overflow


def class_weights(y, num_classes, count=None):
    """Labels as weights, float32 (N, C): (N,) integers become one-hot rows, (N, C) floats stay. Raises InputError for
    another shape, not `count` labels, or (where it `can_look`) a label outside 0..C-1, a weight below 0 or NaN, weights
    of an image that do not sum to 1."""
    floats = isinstance(y, torch.Tensor) and y.is_floating_point()
    shape = (num_classes,) if floats else ()
    if not isinstance(y, torch.Tensor) or not y.ndim or y.shape[1:] != shape or y.is_complex() or y.dtype == torch.bool:
        raise InputError(f"labels y must be (N,) integers or (N, {num_classes}) class weights, got {kind(y)}")
    if count is not None and y.shape[0] != count:
        raise InputError(f"{y.shape[0]} labels y for {count} latents or images; give one each")
    if floats:
        if can_look(y) and not ((y >= 0).all() and ((y.sum(1, dtype=torch.float32) - 1).abs() < 0.01).all()):
            raise InputError(
                f"class weights y must be at least 0 and sum to 1 for each image, got {kind(y)} with others"
            )
        return y.float()
    if can_look(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes:
        raise InputError(f"labels y must lie in 0..{num_classes - 1}, got {int(y.min())}..{int(y.max())}")
    return (y[:, None] == torch.arange(num_classes, device=y.device)).float()


def can_look(x):
    """Whether the numbers of a tensor can be looked at for nothing: on the CPU, where nobody waits for a GPU, and where
    there are any, which tracing (export, compile) has not."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or TRUSTED.get():
        return False
    return x.device.type == "cpu" and x.numel() > 0


@contextlib.contextmanager
def trusted():
    """Inside, nobody looks at the numbers of z and y: a training's own batches were checked when they were read."""
    token = TRUSTED.set(True)
    try:
        yield
    finally:
        TRUSTED.reset(token)


def check_latents(z, z_dim):
    """Raises InputError if z is no tensor of floats (N, z_dim), or (where it `can_look`) holds NaN or huge numbers."""
    if not isinstance(z, torch.Tensor) or z.ndim != 2 or z.shape[1] != z_dim or not z.is_floating_point():
        raise InputError(f"latents z must be floats (N, {z_dim}), got {kind(z)}")
    if can_look(z) and not z.abs().amax() <= LARGEST_Z:
        raise InputError(
            f"latents z must be finite numbers of at most {LARGEST_Z:g}, such as N(0, 1) gives; got others"
        )


def kind(value):
    """What `value` is, for a message."""
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {value.dtype}"
    return f"no tensor but {type(value).__name__}; gsoc_kd.black_box(network) takes arrays and lists too"


def check_sizes(sizes, **least):
    """Raises InputError if a size is no whole number of at least 1 (or `least`), or `resolution` no power of two."""
    for name, value in sizes.items():
        whole(name, value, least.get(name, 1))
    if sizes["resolution"].bit_count() > 1:
        raise InputError(f"resolution must be a power of two (4, 8, 16, ...), not {sizes['resolution']}")


def normalise_z(z):
    """Scales each row of z (N, D) to root mean square 1, as StyleGAN's mapping does (Karras et al. 2018, section 2)."""
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are linear in a condition e (N, condition)."""

    def __init__(self, width, condition):
        super().__init__()
        self.norm, self.affine = nn.BatchNorm2d(width, affine=False), nn.Linear(condition, 2 * width)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x, e):
        gain, bias = self.affine(e)[:, :, None, None].chunk(2, 1)  # (N, width, 1, 1) each
        return torch.addcmul(bias.to(x.dtype), self.norm(x), 1 + gain.to(x.dtype))


class UpConv2d(nn.Conv2d):
    """Nearest upsampling to twice the resolution, then this 3x3 convolution without bias, computed as one transposed
    convolution with a 4x4 kernel, the 3x3 one summed over the four places of its pixel: the same sums (but for
    rounding) with 16 products per pixel of the input instead of 36. Graphs that are exported hold the two plain
    operations: smaller files, and 8-bit kernels do them faster."""

    def __init__(self, width_in, width_out):
        super().__init__(width_in, width_out, 3, padding=1, bias=False)

    def forward(self, x):
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))
        kernel = 4 * F.avg_pool2d(F.pad(self.weight, (1, 1, 1, 1)), 2, stride=1)  # (out, in, 4, 4)
        kernel = kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1)


@torch.no_grad()
def reestimate_batchnorm(network, batches):
    """Measures batch-norm means and variances anew for the weights as they are: averages over all batches (z, y).
    Averaged weights (EMA) do not fit the statistics that single weights left behind. The train/eval mode stays."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta, training = [m.momentum for m in norms], network.training
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # plain average over the batches
    network.train()
    for z, y in batches if norms else ():
        network(z, y)
    network.train(training)
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
