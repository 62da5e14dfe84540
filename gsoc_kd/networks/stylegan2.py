"""The StyleGAN2 generator in plain PyTorch: noise and a label in, a picture out.

Two networks in a row. The *mapping* network turns noise z and a label y into a style w. The *synthesis*
network starts from a learned 4x4 image, doubles its size block by block, and lets w say, in every
convolution, how much each channel counts. Three papers describe it and are cited below by section:

    [1] Karras et al. 2018, "A style-based generator architecture for GANs", arXiv 1812.04948
    [2] Karras et al. 2019, "Analyzing and improving the image quality of StyleGAN", arXiv 1912.04958
    [3] Karras et al. 2020, "Training GANs with limited data" (StyleGAN2-ADA), arXiv 2006.06676

Written from the papers; tests/test_stylegan2.py reproduces numbers recorded from the official networks.
"""

import math
import numbers
import re

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError
from . import winograd
from .layers import class_weights

NOISE_MODES = ("const", "none", "random")
FIR = (0.25, 0.75, 0.75, 0.25)  # low-pass filter [1,3,3,1] with sum 2: after `up` every other input is 0
CHUNK = 32  # pictures drawn at once on the CPU, so that layers stay near its caches


# Equalised learning rate: weights have variance 1 and are scaled when used [arXiv 1710.10196, section 4.1]


class Linear(nn.Module):
    """A fully connected layer; `lr` multiplies its learning rate: 0.01 in the mapping [1, appendix C]."""

    def __init__(self, inputs, outputs, bias=0.0, lr=1.0):
        super().__init__()
        self.lr, self.scale = lr, lr / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr))

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias * self.lr)


def normalise(x):
    """Scales every row of x (N, D) to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def own(x):
    """What to give as `out` where x is not needed any more: x itself if there are no gradients, else None."""
    return x if winograd.inference(x) else None


def activate(x, out=None):
    """Leaky ReLU that keeps the variance: slope 0.2, gain sqrt(2). `out`: None, or x itself to work in place."""
    return torch.mul(F.leaky_relu(x, 0.2, inplace=out is x), math.sqrt(2), out=out)


# Mapping network: z, y -> w [1, section 2; with labels as in 3]


class Mapping(nn.Module):
    """z (N, z_dim) and class weights (N, C) -> w (N, w_dim). Without classes z goes in alone."""

    def __init__(self, z_dim, w_dim, num_classes, layers):
        super().__init__()
        self.embed = Linear(num_classes, w_dim) if num_classes else None
        widths = [z_dim + (w_dim if num_classes else 0)] + [w_dim] * layers
        self.layers = nn.ModuleList(Linear(a, b, lr=0.01) for a, b in zip(widths, widths[1:]))

    def forward(self, z, weights=None):
        x = normalise(z)
        if self.embed is not None:
            x = torch.cat([x, normalise(self.embed(weights))], dim=1)  # (N, z_dim + w_dim)
        for layer in self.layers:
            x = activate(layer(x))
        return x


# Modulated convolution [2, section 2.2]. The paper scales the weights w anew for each sample, by its style s:
#     w'[i,j,k] = s[i] w[i,j,k]      w''[i,j,k] = w'[i,j,k] / sqrt(sum over i,k of w'[i,j,k]^2)
# A convolution is linear. So scaling its input channels by s, and its output channels by 1 / sqrt(...), gives
# the same numbers with ONE ordinary convolution for the whole batch.


class ModulatedConv(nn.Module):
    """x (N, inputs, H, W) and w (N, w_dim) -> (N, outputs, H, W), or twice the size with `up`."""

    def __init__(self, inputs, outputs, kernel, w_dim, clamp, up=False, demodulate=True):
        super().__init__()
        self.clamp, self.up, self.demodulate = clamp, up, demodulate
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.style = Linear(w_dim, inputs, bias=1.0)  # s starts around 1
        self.scale = 1 / math.sqrt(inputs * kernel**2)  # equalised learning rate
        if up:
            self.register_buffer("fir", torch.outer(torch.tensor(FIR), torch.tensor(FIR)), persistent=False)

    def convolve(self, x, w):
        s = self.style(w) * self.scale  # (N, inputs)
        if winograd.suits(x, self.weight, self.up):  # fewer multiplications
            x = winograd.convolve(x, self.weight, s, FIR if self.up else None)
        elif self.up:  # zeros between the pixels, convolution, then the low-pass filter [1,3,3,1]
            x = F.conv_transpose2d(x * s[:, :, None, None], self.weight.transpose(0, 1), stride=2)
            x = F.conv2d(x, self.fir.expand(x.shape[1], 1, 4, 4), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x * s[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if self.demodulate:
            energy = self.weight.square().sum(dim=(2, 3))  # (outputs, inputs)
            demodulation = torch.rsqrt(s.square() @ energy.T + 1e-8)
            x = torch.mul(x, demodulation[:, :, None, None], out=own(x))
        return x

    def bounded(self, x):
        """Keeps activations where half precision can follow [3]."""
        return x if self.clamp is None else torch.clamp(x, -self.clamp, self.clamp, out=own(x))


class StyledConv(ModulatedConv):
    """Modulated convolution, then noise, bias and leaky ReLU [2, figure 2d]."""

    def __init__(self, inputs, outputs, resolution, w_dim, clamp, up=False):
        super().__init__(inputs, outputs, 3, w_dim, clamp, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(resolution, resolution))  # the picture for "const"

    def forward(self, x, w, noise_mode):
        x = self.convolve(x, w)
        if noise_mode == "const":
            x = torch.add(x, self.noise * self.noise_strength, out=own(x))
        elif noise_mode == "random":
            x = torch.add(x, torch.randn_like(x[:, :1]) * self.noise_strength, out=own(x))
        x = torch.add(x, self.bias[:, None, None], out=own(x))
        return self.bounded(activate(x, out=own(x)))


class ToRGB(ModulatedConv):
    """1x1 convolution to the three colours, modulated but not demodulated."""

    def __init__(self, inputs, w_dim, clamp):
        super().__init__(inputs, 3, 1, w_dim, clamp, demodulate=False)

    def forward(self, x, w):
        return self.bounded(self.convolve(x, w) + self.bias[:, None, None])


# Synthesis network, `skip` architecture: each block adds colours to the picture so far [2, section 4.1]


def enlarge(rgb):
    """(N, 3, H, W) -> (N, 3, 2H, 2W) by [1,3,3,1], which is bilinear interpolation with zeros outside."""
    return F.interpolate(F.pad(rgb, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")[:, :, 2:-2, 2:-2]


class Block(nn.Module):
    """All that happens at one resolution; the first block (4x4) has no `up`."""

    def __init__(self, inputs, outputs, resolution, w_dim, clamp):
        super().__init__()
        first = resolution == 4
        self.up = None if first else StyledConv(inputs, outputs, resolution, w_dim, clamp, up=True)
        self.conv = StyledConv(outputs, outputs, resolution, w_dim, clamp)
        self.rgb = ToRGB(outputs, w_dim, clamp)

    def forward(self, x, picture, w, noise_mode):
        if self.up is not None:
            x, picture = self.up(x, w, noise_mode), enlarge(picture)
        x = self.conv(x, w, noise_mode)
        return x, picture + self.rgb(x, w)


class StyleGAN2Generator(nn.Module):
    """StyleGAN2's generator; the defaults are StyleGAN2-ADA's `cifar` configuration (20,215,315 parameters).

    Args:
        z_dim, w_dim: widths of noise and style.
        num_classes: C, or 0 for a generator without labels.
        resolution: R, height and width of the picture, a power of two from 4.
        channel_base, channel_max: at resolution r a block has min(channel_base // r, channel_max) channels.
        mapping_layers: depth of the mapping network.
        clamp: bound on the values after every convolution, or None.
    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        z_dim=512,
        w_dim=512,
        num_classes=10,
        resolution=32,
        channel_base=32768,
        channel_max=512,
        mapping_layers=2,
        clamp=256.0,
    ):
        super().__init__()
        self.config = dict(
            z_dim=z_dim,
            w_dim=w_dim,
            num_classes=num_classes,
            resolution=resolution,
            channel_base=channel_base,
            channel_max=channel_max,
            mapping_layers=mapping_layers,
            clamp=clamp,
        )
        for name, value in self.config.items():
            least = {"num_classes": 0, "resolution": 4, "channel_base": resolution}.get(name, 1)
            if name != "clamp" and not (isinstance(value, int) and value >= least):
                raise InputError(f"{name} is {value!r}; give a whole number of at least {least}")
        if resolution & (resolution - 1):
            raise InputError(f"resolution is {resolution}; StyleGAN2 draws powers of two only: 4, 8, 16, ...")
        if clamp is not None and not (isinstance(clamp, numbers.Real) and clamp > 0):
            raise InputError(f"clamp is {clamp!r}; give a positive number, or None for no clamp")
        self.z_dim, self.num_classes, self.resolution = z_dim, num_classes, resolution
        sizes = [2**i for i in range(2, resolution.bit_length())]  # 4, 8, ..., R
        widths = [min(channel_base // size, channel_max) for size in sizes]
        self.mapping = Mapping(z_dim, w_dim, num_classes, mapping_layers)
        self.register_buffer("w_avg", torch.zeros(w_dim))  # middle of all w; see `centre`
        self.const = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.blocks = nn.ModuleList(
            Block(a, b, size, w_dim, clamp) for a, b, size in zip(widths[:1] + widths, widths, sizes)
        )

    def styles(self, z, y=None, psi=1.0):
        """Noise z (N, z_dim) and labels y -> w (N, w_dim), drawn towards `w_avg` by psi < 1 (truncation)."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise InputError(f"z has shape {tuple(z.shape)}; this generator takes (N, {self.z_dim})")
        if not (isinstance(psi, numbers.Real) and math.isfinite(psi)):
            raise InputError(f"psi is {psi!r}; give a finite number, 1 for no truncation")
        weights = None
        if self.num_classes:
            if y is None:
                raise InputError(f"y is None; give a label below {self.num_classes} for each z")
            weights = class_weights(y, self.num_classes).to(self.const)  # (N, C)
            if weights.shape[0] != z.shape[0]:
                raise InputError(f"y has {len(weights)} labels for {len(z)} latents z; give one each")
        w = self.mapping(z.to(self.const), weights)
        return w if psi == 1 else torch.lerp(self.w_avg, w, float(psi))  # [1, appendix B]

    @torch.no_grad()
    def centre(self, samples=10_000, seed=0):
        """After training: sets `w_avg`, which truncation needs, to the mean w of random noise and labels."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.z_dim, generator=generator).to(self.const)
        y = torch.randint(max(self.num_classes, 1), (samples,), generator=generator).to(z.device)
        self.w_avg.copy_(self.styles(z, y).mean(dim=0))

    def draw(self, w, noise_mode="const"):
        """Styles w (N, w_dim) -> pictures (N, 3, R, R)."""
        if noise_mode not in NOISE_MODES:
            raise InputError(f"noise_mode is {noise_mode!r}; choose one of {', '.join(NOISE_MODES)}")
        if winograd.inference(w) and len(w) > CHUNK:
            return torch.cat([self.draw(part, noise_mode) for part in w.split(CHUNK)])
        # channels last: the order CPU convolutions are fastest in
        x = self.const.expand(w.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        picture = 0
        for block in self.blocks:
            x, picture = block(x, picture, w, noise_mode)
        return picture.contiguous()

    def forward(self, z, y=None, psi=1.0, noise_mode="const"):
        """Noise and labels -> pictures.

        Args:
            z: (N, z_dim) noise from N(0, 1).
            y: (N,) int64 labels or (N, C) float class weights; ignored when num_classes is 0.
            psi: truncation, 1 for none, smaller for more typical and less varied pictures.
            noise_mode: "const" (the same noise picture for every sample: a function of z and y), "none", or
                "random" (fresh noise, for training).
        Returns:
            (N, 3, R, R) float32, about [-1, 1] once trained.
        Raises:
            InputError: z of the wrong width, a label out of range, psi not finite, an unknown noise mode.
        """
        return self.draw(self.styles(z, y, psi), noise_mode)


# Official networks: the same numbers under our names


def is_the_filter(name, value):
    """Raises InputError if `value`, the official tensor `name`, is another filter than [1,3,3,1]."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if value.shape != (4, 4) or not torch.allclose(value.cpu(), torch.outer(taps, taps)):
        raise InputError(f"{name} is not the filter [1,3,3,1], the only one this network knows")


def from_official(state):
    """Renames the tensors of an official StyleGAN2-ADA generator: the result fits `load_state_dict`.

    Args:
        state: official name -> tensor or numpy array.
    Returns:
        dict of our name -> tensor. The constant filters, which we do not store, are left out.
    Raises:
        InputError: a filter other than [1,3,3,1].
    """
    renamed = {}
    for name, value in state.items():
        value = torch.as_tensor(value)
        if name.endswith("resample_filter"):
            is_the_filter(name, value)
            continue
        if block := re.match(r"synthesis\.b(\d+)\.", name):  # b4, b8, ... -> 0, 1, ...
            name = f"blocks.{int(block[1]).bit_length() - 3}." + name[block.end() :]
        for old, new in (
            ("blocks.0.const", "const"),
            ("mapping.w_avg", "w_avg"),
            (".fc", ".layers."),
            (".conv0.", ".up."),
            (".conv1.", ".conv."),
            (".torgb.", ".rgb."),
            (".affine.", ".style."),
            (".noise_const", ".noise"),
        ):
            name = name.replace(old, new)
        renamed[name] = value
    return renamed
