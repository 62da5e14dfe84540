"""Checks of what users give, and of the machine it runs on."""

import os
import platform

import numpy as np
import torch

from .files import InputError


def whole(name, value, least=1, most=None):
    """`value` as an int; InputError, which calls it `name`, unless it is a whole number from `least` to `most`."""
    number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not number or value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"{least} to {most}"
        raise InputError(f"{name} must be a whole number of {span}, not {value!r}")
    return int(value)


def pick_device(device=None):
    """`device` as a torch.device if it can be used here; by default CUDA where there is one, else the CPU."""
    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).cpu()
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {str(device)!r} cannot be used here ({str(error).splitlines()[0]})") from None


def fast_bfloat16(device):
    """Whether the device computes in bfloat16 faster than in float32: CUDA from Ampere on, CPUs with AVX512-BF16."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def hardware():
    """What computes here, in words: the GPU's name, or the number of CPU cores."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return gpu or f"{os.cpu_count()} CPU cores ({platform.machine()})"
