"""The StyleGAN2 generator in plain PyTorch: a latent and a label in, an image out.

The *mapping* network turns latent z and label y into a style w. The *synthesis* network starts from a learned 4x4
image, doubles its size block by block, and lets w say, in every convolution, how much each channel counts. Written
from the papers; tests/teachers/test_official.py reproduces numbers recorded from the official networks.
    [1] Karras et al. 2018, "A style-based generator architecture for GANs", arXiv 1812.04948
    [2] Karras et al. 2019, "Analyzing and improving the image quality of StyleGAN", arXiv 1912.04958
    [3] Karras et al. 2020, "Training GANs with limited data" (StyleGAN2-ADA), arXiv 2006.06676
"""

import math
import numbers
import re

import torch
import torch.nn.functional as F
from torch import nn

from ..core.files import InputError
from . import winograd
from .layers import check_latents, check_sizes, class_weights, normalise_z

FIR = (0.25, 0.75, 0.75, 0.25)  # low-pass filter [1,3,3,1] with sum 2: after `up` every other input is 0
CHUNK = 32  # images computed at once on the CPU, so that layers stay near its caches


class Linear(nn.Module):
    """A fully connected layer with equalised learning rate: its weights have variance 1 and are scaled when used
    [arXiv 1710.10196, section 4.1]. `lr` multiplies the learning rate: 0.01 in the mapping [1, appendix C]."""

    def __init__(self, inputs, outputs, bias=0.0, lr=1.0):
        super().__init__()
        self.lr, self.scale = lr, lr / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr))

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias * self.lr)


def own(x):
    """Where to write the next values: into x, which nothing else needs, if there are no gradients, else None."""
    return x if winograd.inference(x) else None


def activate(x):
    """Leaky ReLU that keeps the variance: slope 0.2, gain sqrt(2)."""
    return torch.mul(F.leaky_relu(x, 0.2, inplace=own(x) is x), math.sqrt(2), out=own(x))


class Mapping(nn.Module):
    """z (N, z_dim) and class weights (N, C) -> w (N, w_dim) [1, section 2; 3]. Without classes z goes in alone."""

    def __init__(self, z_dim, w_dim, num_classes, layers):
        super().__init__()
        self.embed = Linear(num_classes, w_dim) if num_classes else None
        widths = [z_dim + (w_dim if num_classes else 0)] + [w_dim] * layers
        self.layers = nn.ModuleList(Linear(a, b, lr=0.01) for a, b in zip(widths, widths[1:]))

    def forward(self, z, weights=None):
        x = normalise_z(z)
        if self.embed is not None:
            x = torch.cat([x, normalise_z(self.embed(weights))], dim=1)  # (N, z_dim + w_dim)
        for layer in self.layers:
            x = activate(layer(x))
        return x


class ModulatedConv(nn.Module):
    """x (N, inputs, H, W) and w (N, w_dim) -> (N, outputs, H, W), or twice the size with `up` [2, section 2.2].

    For each sample the paper scales the weights by its style s: w'[i,j,k] = s[i] w[i,j,k], and then to unit norm:
    w''[i,j,k] = w'[i,j,k] / sqrt(sum over i,k of w'[i,j,k]^2). Scaling the input channels by s, the output channels
    by 1 / sqrt(...) gives the same, as a convolution is linear, with ONE ordinary convolution for the whole batch.
    Noise, bias and leaky ReLU follow [2, figure 2d]. To RGB (no `resolution`) there are no norm, noise and ReLU."""

    def __init__(self, inputs, outputs, kernel, w_dim, clamp, resolution=None, up=False):
        super().__init__()
        self.clamp, self.up, self.to_rgb = clamp, up, resolution is None
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.style = Linear(w_dim, inputs, bias=1.0)  # s starts around 1
        self.scale = 1 / math.sqrt(inputs * kernel**2)  # equalised learning rate
        if up:
            self.register_buffer("fir", torch.outer(torch.tensor(FIR), torch.tensor(FIR)), persistent=False)
        if not self.to_rgb:
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise", torch.randn(resolution, resolution))  # the image for "const"

    def forward(self, x, w, noise=None):
        s = self.style(w) * self.scale  # (N, inputs)
        if winograd.suits(x, self.weight, self.up):  # fewer multiplications
            x = winograd.convolve(x, self.weight, s, FIR if self.up else None)
        elif self.up:  # zeros between the pixels, convolution, then the low-pass filter [1,3,3,1]
            x = F.conv_transpose2d(x * s[:, :, None, None], self.weight.transpose(0, 1), stride=2)
            x = F.conv2d(x, self.fir.expand(x.shape[1], 1, 4, 4), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x * s[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if not self.to_rgb:
            norm = torch.rsqrt(s.square() @ self.weight.square().sum((2, 3)).T + 1e-8)  # (N, outputs)
            x = torch.mul(x, norm[:, :, None, None], out=own(x))
        if noise is not None:  # (N, 1, R, R), or (R, R) for all
            x = torch.add(x, noise * self.noise_strength, out=own(x))
        x = torch.add(x, self.bias[:, None, None], out=own(x))
        x = x if self.to_rgb else activate(x)  # and bounded, so that half precision can follow [3]:
        return x if self.clamp is None else torch.clamp(x, -self.clamp, self.clamp, out=own(x))


class StyleGAN2Generator(nn.Module):
    """StyleGAN2's generator; the defaults are StyleGAN2-ADA's `cifar` configuration (20,215,315 parameters).

    Args:
        z_dim, w_dim, mapping_layers: widths of latent and style, depth of the mapping network between them.
        num_classes: C, or 0 for a generator without labels.
        resolution: R, height and width of the image, a power of two from 4.
        channel_base, channel_max: at resolution r a block has min(channel_base // r, channel_max) channels.
        clamp: bound on the values after every convolution, or None. Raises InputError for an argument out of range."""

    def __init__(self, z_dim=512, w_dim=512, num_classes=10, resolution=32, channel_base=32768, channel_max=512,
                 mapping_layers=2, clamp=256.0):  # fmt: skip
        super().__init__()
        self.config = dict(z_dim=z_dim, w_dim=w_dim, num_classes=num_classes, resolution=resolution)
        self.config |= dict(channel_base=channel_base, channel_max=channel_max, mapping_layers=mapping_layers)
        check_sizes(self.config, num_classes=0, resolution=4, channel_base=resolution)
        known = type(clamp) is not bool and isinstance(clamp, numbers.Real) and 0 < clamp < math.inf
        if clamp is not None and not known:
            raise InputError(f"clamp is {clamp!r}; give a positive number, or None for no clamp")
        self.config["clamp"] = clamp
        self.z_dim, self.num_classes, self.resolution = z_dim, num_classes, resolution
        sizes = [2**i for i in range(2, resolution.bit_length())]  # 4, 8, ..., R
        widths = [min(channel_base // size, channel_max) for size in sizes]
        self.mapping = Mapping(z_dim, w_dim, num_classes, mapping_layers)
        self.register_buffer("w_avg", torch.zeros(w_dim))  # middle of all w; see `centre`
        self.const = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.blocks = nn.ModuleList()  # all that happens at one resolution
        for a, b, r in zip(widths[:1] + widths, widths, sizes):
            block = {} if r == 4 else {"up": ModulatedConv(a, b, 3, w_dim, clamp, r, up=True)}
            block |= dict(conv=ModulatedConv(b, b, 3, w_dim, clamp, r), rgb=ModulatedConv(b, 3, 1, w_dim, clamp))
            self.blocks.append(nn.ModuleDict(block))
        self.noise_numbers = sum(b.numel() for name, b in self.named_buffers() if name.endswith(".noise"))

    def styles(self, z, y=None, psi=1.0):
        """Latents z (N, z_dim) and labels y -> w (N, w_dim), moved towards `w_avg` by psi < 1 (truncation)."""
        check_latents(z, self.z_dim)
        if not (isinstance(psi, numbers.Real) and abs(psi) <= 10):
            raise InputError(f"psi is {psi!r}; give a number from -10 to 10, 1 for no truncation")
        weights = class_weights(y, self.num_classes, z.shape[0]).to(self.const) if self.num_classes else None
        w = self.mapping(z.to(self.const), weights)
        return w if psi == 1 else torch.lerp(self.w_avg, w, float(psi))  # [1, appendix B]

    @torch.no_grad()
    def centre(self, samples=10_000, seed=0):
        """After training: sets `w_avg`, which truncation needs, to the mean w of random latents and labels."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.z_dim, generator=generator, dtype=torch.float32)
        y = torch.randint(max(self.num_classes, 1), (samples,), generator=generator)
        self.w_avg.copy_(self.styles(z, y).mean(dim=0))

    def draw(self, w, noise_mode="const"):
        """Styles w (N, w_dim) -> images (N, 3, R, R); `noise_mode` as in `forward`."""
        noise, n, count = noise_mode, w.shape[0], self.noise_numbers
        given = tuple(noise.shape) if isinstance(noise, torch.Tensor) else noise
        if given not in ("const", "none", "random", (n, count)):
            raise InputError(f"noise_mode is {given!r}; choose one of const, none, random, or floats ({n}, {count})")
        if given == "random":
            noise = torch.randn(n, count, device=w.device, dtype=w.dtype)
        if winograd.inference(w) and n > CHUNK:
            noises = [noise] * n if isinstance(noise, str) else noise.split(CHUNK)
            return torch.cat([self.draw(*part) for part in zip(w.split(CHUNK), noises)])
        noises = [conv.noise for block in self.blocks for conv in block.values() if not conv.to_rgb]  # for "const"
        if isinstance(noise, torch.Tensor):
            parts = zip(noise.split([const.numel() for const in noises], 1), noises)
            noises = [part.unflatten(1, (1, *const.shape)) for part, const in parts]  # (N, 1, r, r)
        noises = iter([None] * len(noises) if given == "none" else noises)
        x, image = self.const.expand(n, -1, -1, -1).contiguous(memory_format=torch.channels_last), 0  # fastest on CPUs
        for block in self.blocks:  # each adds colours to the image so far (`skip`) [2, section 4.1]
            if "up" in block:  # the image by [1,3,3,1], which is bilinear interpolation with zeros outside
                x, image = block["up"](x, w, next(noises)), F.pad(image, (1, 1, 1, 1))
                image = F.interpolate(image, scale_factor=2, mode="bilinear")[:, :, 2:-2, 2:-2]
            x = block["conv"](x, w, next(noises))
            image = image + block["rgb"](x, w)
        return image.contiguous()

    def forward(self, z, y=None, psi=1.0, noise_mode="const"):
        """Latents z (N, z_dim) from N(0, 1) and labels y, (N,) int64 or (N, C) float class weights (ignored when
        num_classes is 0) -> images (N, 3, R, R) float32, about [-1, 1] once trained. InputError names a bad argument.

        Args:
            psi: truncation, 1 for none, smaller for more typical and less varied images.
            noise_mode: "const" (the same noise for every sample: the image is a function of z and y), "none",
                "random" (fresh noise), or the noise itself, (N, noise_numbers) floats from N(0, 1)."""
        return self.draw(self.styles(z, y, psi), noise_mode)


def from_official(state):
    """{official name: tensor or array} of a StyleGAN2-ADA generator -> {our name: tensor}, without constant filters.
    Raises InputError for a filter other than [1,3,3,1]."""
    ours = {"blocks.0.const": "const", "mapping.w_avg": "w_avg", ".fc": ".layers.", ".conv0.": ".up."}
    ours |= {".conv1.": ".conv.", ".torgb.": ".rgb.", ".affine.": ".style.", ".noise_const": ".noise"}
    renamed, taps = {}, torch.tensor(FIR, dtype=torch.float32) / 2
    for name, value in state.items():
        value = torch.as_tensor(value)
        if name.endswith("resample_filter"):
            if value.shape != (4, 4) or not torch.allclose(value.cpu().float(), torch.outer(taps, taps)):
                raise InputError(f"{name} is not the filter [1,3,3,1], the only one this network knows")
            continue
        name = re.sub(r"synthesis\.b(\d+)\.", lambda b: f"blocks.{int(b[1]).bit_length() - 3}.", name)  # b4, b8, ...
        for old, new in ours.items():
            name = name.replace(old, new)
        renamed[name] = value
    return renamed
