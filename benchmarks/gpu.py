"""What the benchmarks share: seconds of a call, and how fast a GPU can at best multiply."""
import time

import torch


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


def matmul_peak(dtype, size=8192, repeats=20):
    """Operations a second that a large matrix product reaches on the GPU: the peak that a program can see."""
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    a @ b
    return repeats * 2 * size ** 3 / seconds(lambda: [a @ b for _ in range(repeats)], "cuda")
