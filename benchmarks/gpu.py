"""What the benchmarks share: seconds of a call, operations of a training step, and how fast a GPU can at best multiply."""

import contextlib
import time
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def now(device):
    """Seconds by the wall's clock, with nothing left in the device's queue."""
    if str(device) != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(draw, device):
    """Wall-clock seconds of one call, the device's queue empty before and after."""
    start = now(device)
    draw()
    return now(device) - start


class Operations(TorchDispatchMode):
    """Counts operations by the formulas of torch.utils.flop_counter, whose own counter fails at the gradient of R1."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def step_operations(module, train, steps):
    """Operations (two a multiply-accumulate) of a step, the mean over a run's first `steps`.

    Args:
        module: gsoc_kd.training.distill or gsoc_kd.training.gan, whose progress bar says when a step is done.
        train: train() begins a new run of at least so many steps, not compiled.
    """
    counter, counting = Operations(), contextlib.ExitStack()

    class Bar:
        def __init__(self, **_):
            self.left = steps
            counting.enter_context(counter)

        def update(self, _):
            self.left -= 1
            if self.left == 0:
                counting.close()

        def set_postfix(self, *_, **__):
            pass

        close = set_postfix

    with mock.patch.object(module, "tqdm", Bar), counting:
        train()
    return counter.total / steps


def matmul_peak(dtype, size=8192, repeats=20):
    """Operations a second that a large matrix product reaches on the GPU: the peak that a program can see."""
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    a @ b
    return repeats * 2 * size**3 / seconds(lambda: [a @ b for _ in range(repeats)], "cuda")
