"""Convolutional generators of any width: a student is a narrow one, a laptop's teacher a wide one
(docs/Student-Network.md).

All take latents z (N, z_dim) float and labels y, either (N,) int64 or (N, num_classes) class weights, so that a
picture can stand between two classes; all return (N, 3, R, R) float in [-1, 1].
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .files import InputError


BLOCKS = ("conv", "separable", "residual", "glu")


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
    raise InputError(f"labels y must be (N,) integers or (N, {num_classes}) class weights, got "
                     f"{tuple(y.shape)} {y.dtype}")


def normalise_z(z):
    """Scales each latent to root mean square 1, as StyleGAN's mapping network does (Karras et al. 2018, section 2)."""
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def _check(z, y, z_dim):
    for name, tensor in (("latents z", z), ("labels y", y)):
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"{name} must be a tensor, got {type(tensor).__name__}; gsoc_kd.black_box(network) takes "
                             "arrays and lists too")
    if z.ndim != 2 or z.shape[1] != z_dim or not z.is_floating_point():
        raise InputError(f"latents z must be floats (N, {z_dim}), got {tuple(z.shape)} {z.dtype}")
    if y.shape[:1] != z.shape[:1]:
        raise InputError(f"latents z and labels y must be equally many, got {tuple(z.shape)} and {tuple(y.shape)}")


class ConvGenerator(nn.Module):
    """Latent and class embedding -> 4x4 -> up blocks with conditional batch norm -> picture.

    A block doubles the resolution (nearest), convolves 3x3, normalises with gains and biases that class
    embedding and latent set (conditional batch norm, as in BigGAN, Brock et al. 2018, appendix B) and applies ReLU.

    Args:
        widths: channels at 4x4, 8x8, ... up to `resolution`; the one knob from laptop's teacher to tiny student.
        embed_dim: width of the class embedding.
        rank: factor the first linear layer through so many dimensions, where most of a narrow student's parameters
            would be; None for one full layer.
        block: "conv"; "separable": depthwise 3x3 then pointwise 1x1; "residual": TinyGAN's whole block (Chang & Lu
            2020, section 3.1), two of these beside a shortcut; or "glu": a convolution to twice the channels, half of
            which gate the other half (Dauphin et al. 2016, arXiv 1612.08083; DiStyleGAN's blocks).
        skip_z: the conditional batch norms see the latent too, as in BigGAN; without it a GAN trained from scratch
            soon draws one picture a class.
    """

    def __init__(self, z_dim=128, num_classes=10, resolution=32, widths=(256, 128, 64, 32), embed_dim=64, rank=None,
                 block="conv", skip_z=True):
        super().__init__()
        if block not in BLOCKS:
            raise InputError(f"block must be one of {', '.join(BLOCKS)}, got {block!r}")
        if min(z_dim, num_classes, embed_dim, 1 if rank is None else rank, *widths) < 1:
            raise InputError(f"z_dim {z_dim}, num_classes {num_classes}, embed_dim {embed_dim}, rank {rank} and widths "
                             f"{tuple(widths)} must all be at least 1")
        if 4 * 2 ** (len(widths) - 1) != resolution:
            raise InputError(f"{len(widths)} widths end at {4 * 2 ** (len(widths) - 1)} pixels, not at {resolution}; "
                             f"give one width each for 4x4, 8x8, ... {resolution}x{resolution}")
        self.config = dict(z_dim=z_dim, num_classes=num_classes, resolution=resolution, widths=list(widths),
                           embed_dim=embed_dim, rank=rank, block=block, skip_z=skip_z)
        self.z_dim, self.num_classes, self.resolution, self.skip_z = z_dim, num_classes, resolution, skip_z
        self.embedding = nn.Parameter(torch.randn(num_classes, embed_dim))
        inputs, outputs = z_dim + embed_dim, widths[0] * 16
        self.linear = (nn.Linear(inputs, outputs) if rank is None else
                       nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs)))
        condition = inputs if skip_z else embed_dim
        self.residual = block == "residual"                # its blocks normalise what comes in, the others what goes out
        self.norm = ConditionalBatchNorm(widths[-1 if self.residual else 0], condition)
        self.blocks = nn.ModuleList(ResidualBlock(i, o, condition) if self.residual else UpBlock(i, o, condition, block)
                                    for i, o in zip(widths, widths[1:]))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z, y):
        _check(z, y, self.z_dim)
        e = class_weights(y, self.num_classes) @ self.embedding                          # (N, embed_dim)
        ze = torch.cat([normalise_z(z), e], 1)                                           # (N, z_dim + embed_dim)
        e = ze if self.skip_z else e
        x = self.linear(ze).unflatten(1, (-1, 4, 4))                                     # (N, widths[0], 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        x = x if self.residual else F.relu(self.norm(x, e))
        for block in self.blocks:
            x = block(x, e)                                                              # twice the resolution
        x = F.relu(self.norm(x, e)) if self.residual else x
        return self.to_rgb(x).tanh()                                                     # (N, 3, R, R)


class UpBlock(nn.Module):
    def __init__(self, width_in, width_out, condition, block):
        super().__init__()
        self.gated = block == "glu"
        outputs = 2 * width_out if self.gated else width_out
        self.conv = (separable if block == "separable" else UpConv2d)(width_in, outputs)
        self.norm = ConditionalBatchNorm(outputs, condition)

    def forward(self, x, e):
        if not isinstance(self.conv, UpConv2d):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.norm(self.conv(x), e)
        return F.glu(x, 1) if self.gated else F.relu(x)                                  # twice the resolution


class ResidualBlock(nn.Module):
    """TinyGAN's block: two separable convolutions, each after norm and ReLU, beside a 1x1 shortcut; both sides enlarge
    bilinearly, the shortcut after its convolution, which gives the same sums for a quarter of the products."""

    def __init__(self, width_in, width_out, condition):
        super().__init__()
        self.norm1, self.conv1 = ConditionalBatchNorm(width_in, condition), separable(width_in, width_out)
        self.norm2, self.conv2 = ConditionalBatchNorm(width_out, condition), separable(width_out, width_out)
        self.shortcut = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x, e):
        h = F.interpolate(F.relu(self.norm1(x, e)), scale_factor=2, mode="bilinear")     # twice the resolution
        h = self.conv2(F.relu(self.norm2(self.conv1(h), e)))
        return h + F.interpolate(self.shortcut(x), scale_factor=2, mode="bilinear")


def separable(width_in, width_out):
    """A 3x3 convolution for each channel, then a 1x1 convolution that mixes them."""
    return nn.Sequential(nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False),
                         nn.Conv2d(width_in, width_out, 1, bias=False))


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are linear in a condition: the class embedding, and the latent with skip_z."""

    def __init__(self, width, condition):
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.affine = nn.Linear(condition, 2 * width)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x, e):
        gain, bias = self.affine(e)[:, :, None, None].chunk(2, 1)                         # (N, width, 1, 1) each
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
        kernel = 4 * F.avg_pool2d(F.pad(self.weight, (1, 1, 1, 1)), 2, stride=1)          # (out, in, 4, 4)
        kernel = kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1)


class DiStyleGANGenerator(nn.Module):
    """The student of the 2022 project: projections and up blocks with gated linear units (docs/Student-Network.md).

    With width 256, z 512, projection 128 and 10 classes it has 2,054,368 parameters. It takes z as it is.
    """

    def __init__(self, z_dim=512, num_classes=10, resolution=32, width=256, project_dim=128):
        super().__init__()
        ups = int(math.log2(max(resolution, 4) / 4))
        if 4 * 2 ** ups != resolution or width % 2 ** ups:
            raise InputError(f"resolution must be 4 times a power of two and width divisible by {2 ** ups}, "
                             f"got {resolution} and {width}")
        self.config = dict(z_dim=z_dim, num_classes=num_classes, resolution=resolution, width=width,
                           project_dim=project_dim)
        self.z_dim, self.num_classes, self.resolution = z_dim, num_classes, resolution
        self.project = nn.Sequential(nn.Linear(z_dim, 2 * project_dim, bias=False),
                                     nn.BatchNorm1d(2 * project_dim), nn.GLU(1))
        self.linear = nn.Sequential(nn.Linear(project_dim + num_classes, 2 * width * 16, bias=False),
                                    nn.BatchNorm1d(2 * width * 16), nn.GLU(1))
        widths = [width // 2 ** i for i in range(ups + 1)]
        self.blocks = nn.Sequential(*(nn.Sequential(
            nn.Identity(), UpConv2d(i, 2 * o),  # the first keeps the names that saved networks have
            nn.BatchNorm2d(2 * o), nn.GLU(1)) for i, o in zip(widths, widths[1:])))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1, bias=False)
        orthogonal_init(self)

    def forward(self, z, y):
        _check(z, y, self.z_dim)
        x = torch.cat([self.project(z), class_weights(y, self.num_classes)], 1)           # (N, project_dim + C)
        x = self.linear(x).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        return self.to_rgb(self.blocks(x)).tanh()


def orthogonal_init(network):
    """The 2022 project's initialisation: orthogonal weights (Saxe et al. 2013), zero biases, norm gains N(1, 0.02)."""
    for m in network.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.orthogonal_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) and m.affine:
            nn.init.normal_(m.weight, 1.0, 0.02)
            nn.init.zeros_(m.bias)


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
        m.momentum = None                       # None: plain average over the batches
    network.train()
    for z, y in batches:
        network(z, y)
    network.train(training)
    for m, momentum in zip(norms, momenta):
        m.momentum = momentum
