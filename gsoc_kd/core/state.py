"""The caller's world: what a public call finds of it does not change what the call does, and is left as it was."""

import contextlib
import functools
import inspect
import random

import numpy as np
import torch
from torch import nn


def untouched(*given):
    """`@untouched` decorates a public function; `with untouched(network, ...):` does the same for a block.

    Inside, torch is as it is after its import: float32 and the CPU are the defaults, no autocast, no inference mode.
    Afterwards these are as they were before: the random state of torch (CPU and GPUs), NumPy and Python; torch's
    default dtype and its settings of speed against exactness; the mode, training or eval, of every module of the
    networks among the arguments, or of an argument's attribute `network`."""
    if len(given) == 1 and inspect.isfunction(given[0]) and not hasattr(given[0], "z_dim"):  # which a teacher has
        function = given[0]

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with _as_before(*args, *kwargs.values()):
                return function(*args, **kwargs)

        return wrapped
    return _as_before(*given)


@contextlib.contextmanager
def _as_before(*given):
    numbers, python, dtype = np.random.get_state(), random.getstate(), torch.get_default_dtype()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    with contextlib.ExitStack() as stack:
        for one in given:
            stack.enter_context(_mode_kept(one if isinstance(one, nn.Module) else getattr(one, "network", None)))
        stack.enter_context(torch.random.fork_rng(devices=gpus))
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)
            torch.backends.cudnn.benchmark = benchmark
            np.random.set_state(numbers)
            random.setstate(python)


@contextlib.contextmanager
def _mode_kept(network):
    modes = [(module, module.training) for module in network.modules()] if isinstance(network, nn.Module) else []
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def evaluating(network):
    """A context in which a network (or None) is in eval mode: batch norm uses, and keeps, its stored statistics. After
    it every module has the mode that it had."""
    with _mode_kept(network):
        for module in network.modules() if isinstance(network, nn.Module) else ():
            module.training = False
        yield network
