"""Where a training runs: the device, the processes that share it, the precision it is quick in."""

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast

from ..core.files import InputError


def pick_device(device=None):
    """`device` if given, else CUDA where there is one, else the CPU."""
    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used here ({str(error).splitlines()[0]})") from None


def make_accelerator(device):
    """accelerate's Accelerator for `device`: one process, or as many as torchrun or accelerate has started.

    Batch-norm buffers stay each process's own: sent around, they would break the second forward pass of a step.

    Raises:
        InputError: accelerate already runs on another kind of device in this process.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    quicken(device)
    wrapping = DistributedDataParallelKwargs(broadcast_buffers=False)
    try:
        accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[wrapping])
    except ValueError:
        accelerator = None
    if accelerator is None or accelerator.device.type != device.type:
        raise InputError(
            f"device {str(device)!r}: accelerate has already been started on another device in this "
            f"process, and cannot change; start Python anew"
        )
    return accelerator


def quicken(device):
    """On CUDA, for the whole process: the quickest convolution of each shape is looked for once, and what is left in
    float32 is multiplied in TF32."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


def spent(minutes, seconds, accelerator, step=0):
    """Whether a run of so many seconds has used up its minutes (None: no limit), the same in every process.

    Several processes wait for their devices to hear the main one's answer, so they ask at every tenth step only.
    """
    if minutes is None or accelerator.num_processes == 1:
        return minutes is not None and seconds >= 60 * minutes
    return step % 10 == 0 and bool(
        broadcast(torch.tensor([int(seconds >= 60 * minutes)], device=accelerator.device)).item()
    )


def fast_bfloat16(device):
    """Whether the device computes in bfloat16 faster than in float32: CUDA from Ampere on, CPUs with AVX512-BF16."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
