"""Random states, modes and settings of the caller: they do not change what a public call does, and it restores them."""

import contextlib
import functools
import inspect
import random

import numpy as np
import torch
from torch import nn


def untouched(*given):
    """`@untouched` decorates a public function; `with untouched(network, ...):` does the same for a block.

    Inside, torch is as it is after its import: float32 and the CPU are the defaults, products are exact, no autocast,
    no inference mode. Afterwards these are as they were before: the random state of torch (CPU and GPUs), NumPy and
    Python; torch's default dtype and its settings of speed against exactness; the mode, training or eval, of every
    module of the networks among the arguments, or of an argument's attribute `network`."""
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
    numbers, python, benchmark = np.random.get_state(), random.getstate(), torch.backends.cudnn.benchmark
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
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
        stack.enter_context(as_imported())
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark
            np.random.set_state(numbers)
            random.setstate(python)


@contextlib.contextmanager
def as_imported():
    """A context in which torch's default dtype, and how exactly it multiplies float32, are those after its import. Both
    of its interfaces to the latter are put back: a caller may have used either."""
    dtype, backends = torch.get_default_dtype(), torch.backends
    parts = {backends.mkldnn.matmul: "ieee", backends.mkldnn.conv: "ieee", backends.cuda.matmul: "ieee"}
    parts |= {backends.cudnn.conv: "tf32", backends.cudnn.rnn: "tf32"}
    found = [(part, part.fp32_precision) for part in parts]
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # the other interface said something else
        precision = None
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    for part, value in parts.items():
        part.fp32_precision = value
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for part, value in found:
            part.fp32_precision = value


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
