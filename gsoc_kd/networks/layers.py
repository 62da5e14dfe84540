"""What generators are made of, and what goes into them (docs/Student-Network.md)."""

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError


def class_weights(y, num_classes):
    """Labels as weights, float32: (N,) integers become one-hot rows, (N, num_classes) floats stay.

    Raises:
        InputError: another shape, or (where it costs no synchronisation, on the CPU) a label outside 0..C-1.
    """
    if y.ndim == 1 and not y.is_floating_point():
        if y.device.type == "cpu" and len(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes:
            raise InputError(f"labels y must lie in 0..{num_classes - 1}, got {int(y.min())}..{int(y.max())}")
        return (y[:, None] == torch.arange(num_classes, device=y.device)).float()
    if y.ndim == 2 and y.shape[1] == num_classes and y.is_floating_point():
        return y.float()
    raise InputError(
        f"labels y must be (N,) integers or (N, {num_classes}) class weights, got {tuple(y.shape)} {y.dtype}"
    )


def normalise_z(z):
    """Scales each latent to root mean square 1, as StyleGAN's mapping network does (Karras et al. 2018, section 2)."""
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def _check(z, y, z_dim):
    for name, tensor in (("latents z", z), ("labels y", y)):
        if not isinstance(tensor, torch.Tensor):
            raise InputError(
                f"{name} must be a tensor, got {type(tensor).__name__}; gsoc_kd.black_box(network) takes "
                "arrays and lists too"
            )
    if z.ndim != 2 or z.shape[1] != z_dim or not z.is_floating_point():
        raise InputError(f"latents z must be floats (N, {z_dim}), got {tuple(z.shape)} {z.dtype}")
    if y.shape[:1] != z.shape[:1]:
        raise InputError(f"latents z and labels y must be equally many, got {tuple(z.shape)} and {tuple(y.shape)}")


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are linear in a condition: the class embedding, and the latent with skip_z."""

    def __init__(self, width, condition):
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.affine = nn.Linear(condition, 2 * width)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x, e):
        gain, bias = self.affine(e)[:, :, None, None].chunk(2, 1)  # (N, width, 1, 1) each
        return torch.addcmul(bias.to(x.dtype), self.norm(x), 1 + gain.to(x.dtype))


class UpConv2d(nn.Conv2d):
    """Nearest upsampling to twice the resolution, then this 3x3 convolution without bias.

    While it trains, both are one transposed convolution with a 4x4 kernel, the 3x3 one summed over the four places of
    its pixel: the same sums (but for rounding) with 16 products a pixel of the input instead of 36.
    """

    def __init__(self, width_in, width_out):
        super().__init__(width_in, width_out, 3, padding=1, bias=False)

    def forward(self, x):
        if not self.training:
            return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))
        kernel = 4 * F.avg_pool2d(F.pad(self.weight, (1, 1, 1, 1)), 2, stride=1)  # (out, in, 4, 4)
        kernel = kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1)


def separable(width_in, width_out):
    """A 3x3 convolution for each channel, then a 1x1 convolution that mixes them."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False),
        nn.Conv2d(width_in, width_out, 1, bias=False),
    )


@torch.no_grad()
def reestimate_batchnorm(network, batches):
    """Measures batch-norm means and variances anew for the weights as they are, averaging over all batches.

    Averaged weights (EMA) do not fit the averages that single weights left behind. Restores the train/eval mode.
    A network without batch norm stays as it is.

    Args:
        batches: iterable of (z, y) on the network's device.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta, training = [m.momentum for m in norms], network.training
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # None: plain average over the batches
    network.train()
    for z, y in batches:
        network(z, y)
    network.train(training)
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
