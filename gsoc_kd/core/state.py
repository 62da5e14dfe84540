"""Random states, modes and settings of the caller: they do not change what a public call does, and it restores them."""

import contextlib
import functools
import random
import threading

import numpy as np
import torch
from torch import nn


def untouched(function):
    """Decorates a public function, which runs inside `as_before` with all its arguments."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with as_before(*args, *kwargs.values()):
            return function(*args, **kwargs)

    return wrapped


@contextlib.contextmanager
def as_before(*given):
    """A context that leaves no trace in what belongs to the caller.

    Inside, torch is as it is after its import: float32 and the CPU are the defaults, products are exact, no autocast,
    no inference mode. Afterwards these are as they were before: the random state of torch (CPU and GPUs), NumPy and
    Python; torch's default dtype and its settings of speed against exactness; the mode, training or eval, of every
    module of the networks among those given, or of their attribute `network`."""
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


_lock, _inside = threading.Lock(), []  # the threads inside, and the settings that each found
_before = None  # those that the first one found


@contextlib.contextmanager
def as_imported():
    """A context in which torch's default dtype, and how exactly it multiplies float32, are those after its import. They
    belong to the whole process, and several threads may be inside: one that leaves the others to themselves changes
    nothing, the last one puts back what the first one found. One inside another in the same thread puts back its own
    find, such as the TF32 in which a training goes on after a tick."""
    global _before
    with _lock:
        entry = threading.get_ident(), _settings()
        _before = _before if _inside else entry[1]
        _inside.append(entry)
        _set(*_as_imported(*entry[1]))
    try:
        yield
    finally:
        with _lock:
            _inside.remove(entry)
            if all(thread == entry[0] for thread, _ in _inside):
                _set(*(entry[1] if _inside else _before))


def _parts():
    """What multiplies float32 in torch, and the words for exactly, of which the first is set."""
    backends = torch.backends  # a caller may have used its own interface, or the older one, or both
    exact = dict.fromkeys((backends.mkldnn.matmul, backends.mkldnn.conv, backends.cuda.matmul), ("ieee", "none"))
    return exact | dict.fromkeys((backends.cudnn.conv, backends.cudnn.rnn), ("tf32",))


def _settings():
    """(default dtype, precision of the older interface, precision of each part)."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # the two interfaces contradict each other, and the older one is not asked
        precision = None
    return torch.get_default_dtype(), precision, [part.fp32_precision for part in _parts()]


def _as_imported(dtype, precision, parts):
    parts = [found if found in words else words[0] for found, words in zip(parts, _parts().values())]
    return torch.float32, precision and "highest", parts


def _set(dtype, precision, parts):
    """Sets what differs, and nothing else: torch looks at these settings from every thread."""
    for _ in range(2):  # the two interfaces change each other
        found = _settings()
        if found[0] != dtype:
            torch.set_default_dtype(dtype)
        if precision and found[1] != precision:
            torch.set_float32_matmul_precision(precision)
        for part, value in zip(_parts(), parts):
            if part.fp32_precision != value:
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
