"""Random states, modes and settings of the caller: they do not change what a public call does, and it restores them."""

import contextlib
import functools
import inspect
import random
import threading

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


_lock, _inside, _undo = threading.Lock(), [], contextlib.ExitStack()


@contextlib.contextmanager
def as_imported():
    """A context in which torch's default dtype, and how exactly it multiplies float32, are those after its import. They
    belong to the whole process: threads may be inside at once, and the last one to leave puts back what was found."""
    with _lock:
        _set_as_imported(_undo.callback)
        _inside.append(True)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                _undo.close()


def _set_as_imported(undo):
    """Sets what is not as it is after the import, and tells `undo` how to put it back. Where nothing is to be changed,
    nothing is set: torch looks at these settings from every thread."""
    if (dtype := torch.get_default_dtype()) != torch.float32:
        undo(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
    backends = torch.backends  # a caller may have used its own interface, or the older one, or both
    wanted = dict.fromkeys((backends.mkldnn.matmul, backends.mkldnn.conv, backends.cuda.matmul), ("ieee", "none"))
    wanted |= dict.fromkeys((backends.cudnn.conv, backends.cudnn.rnn), ("tf32",))
    for part, values in wanted.items():
        if (found := part.fp32_precision) not in values:
            undo(setattr, part, "fp32_precision", found)
            part.fp32_precision = values[0]
    with contextlib.suppress(RuntimeError):  # the two interfaces contradict each other, and the older one is not asked
        if (precision := torch.get_float32_matmul_precision()) != "highest":
            undo(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")


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
