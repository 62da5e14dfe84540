"""Reads a pickle without running anything that is in it.

A pickle is a small program: it names functions and calls them. Here every name must be on `ALLOWED`, a short list of
what StyleGAN2-ADA's files need, and stands for something inert: a dict, a record, a tensor. The files also carry the
source text of their networks, which the official loader executes; here it stays a text."""

import io
import pickle
import pickletools
import re
import warnings
from collections import OrderedDict

import numpy as np
import torch

from ..core.files import InputError

MOST = 100_000  # instructions of a pickle; an official file has about 13,000
OTHERS = {  # text in the file: what the file then is
    b"class SuperresGenerator": "a StyleGAN-XL file, whose generator is another network",
    b"class SynthesisInput": "a StyleGAN3 file, whose generator is another network",
    b"dnnlib.tflib": "a TensorFlow file of StyleGAN2; its authors' PyTorch code converts it (legacy.py)",
}
REFUSED = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


def shown(value):
    """What a file says, fit for a message: short, and no control characters."""
    return ascii(value)[:60]


class Inert:
    """Something out of a pickle: what it was called there, and a value. Its attributes cannot be set. The value of a
    name on the list is a function of ours: the pickle that calls the name gets what it makes of the arguments."""

    __slots__ = ("name", "value")

    def __init__(self, name, value=None):
        self.name, self.value = name, value

    def __call__(self, *arguments):
        return self.value(*arguments)

    def __setstate__(self, state):
        if self.name not in ("numpy.dtype", "numpy.ndarray"):  # their details are not needed
            raise InputError(f"it sets the state of {shown(self.name)}, which an official file does not")


def _module(meta):
    """A network or a layer: meta is a dict with type, version, module_src, class_name and state."""
    kinds = dict(type=str, state=dict, module_src=str, class_name=str)
    known = isinstance(meta, dict) and all(isinstance(meta.get(key), kind) for key, kind in kinds.items())
    if not known or meta["type"] != "class":
        raise InputError("it holds a network in a layout that is not StyleGAN2-ADA's")
    if meta.get("version") != 6:
        raise InputError(f"its networks are stored in format version {shown(meta.get('version'))}, not 6")
    name = meta["class_name"]
    if not re.search(rf"^class {re.escape(name)}\b", meta["module_src"], re.M):
        raise InputError(f"the source text it carries does not define its class {shown(name)}")
    return Inert(name, meta["state"])


def _storage(data):
    """The numbers of a tensor, a pickle inside the pickle, read with weights_only -> Inert around a flat CPU tensor."""
    with warnings.catch_warnings(action="ignore"):  # of other protocols and of an old kind of storage
        try:
            storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001  a hostile or damaged pickle may raise anything
            name = re.search(r"GLOBAL `?([\w.]+)", str(error))
            what = f"asks for {shown(name[1])}, which no tensor needs" if name else "is damaged"
            raise InputError(f"a tensor in it {what}") from None
        if not isinstance(storage, torch.storage.TypedStorage):
            raise InputError(f"a tensor in it holds {type(storage).__name__} where its numbers belong")
        return Inert("storage", torch.empty(0, dtype=storage.dtype).set_(storage.untyped()))


def _tensor(storage, offset, size, stride, *_):
    """A view of a storage, as torch's own function of this name, but never beyond the storage's end."""
    whole = all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) and len(size) == len(stride)
    numbers = len(storage.value) if isinstance(storage, Inert) and storage.name == "storage" else -1
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if whole and 0 not in size else 0
    if not whole or last >= max(numbers, 1) or torch.Size(size).numel() > numbers:
        raise InputError("a tensor in it is larger than its numbers")
    return Inert("tensor", torch.as_strided(storage.value, size, stride, offset))


def _number(kind, data=b""):
    """A numpy number, e.g. a layer's gain."""
    if not isinstance(kind, Inert) or kind.value not in ("f8", "f4", "f2", "i8", "i4", "b1"):
        raise InputError("it holds a numpy number of an unknown kind")
    return np.frombuffer(data, kind.value, count=1).item()


_FUNCTIONS = {
    "torch_utils.persistence._reconstruct_persistent_obj": _module,
    "torch.storage._load_from_bytes": _storage,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "numpy.dtype": lambda kind, *_: Inert("numpy.dtype", kind),
    "numpy.ndarray": lambda *_: Inert("numpy.ndarray"),
    "_codecs.encode": lambda text, _: text.encode("latin1"),  # bytes, in old protocols
}
for _module_name in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _FUNCTIONS |= {f"{_module_name}.scalar": _number, f"{_module_name}._reconstruct": _FUNCTIONS["numpy.ndarray"]}
ALLOWED = {name: Inert(name, function) for name, function in _FUNCTIONS.items()}
ALLOWED |= {"dnnlib.util.EasyDict": dict, "collections.OrderedDict": OrderedDict, "builtins.set": set}


class Reader(pickle.Unpickler):
    """An unpickler for which no other names exist than those on the list."""

    def find_class(self, module, name):
        if (known := ALLOWED.get(f"{module}.{name}")) is None:
            raise InputError(f"it asks for {shown(f'{module}.{name}')}, which no official file needs")
        return known


def unpickle(data):
    """The contents of a pickle, bytes, with `Inert` for all but plain values; InputError says why it is refused.
    Nothing in it is run in either case."""
    if data[:1] != b"\x80":
        what = "a text (a web page saved as a file?)" if data[:200].isascii() else "no pickle"
        what = "a zip archive" if data[:2] == b"PK" else what if data else "empty"
        raise InputError(f"it is {what}, not a StyleGAN2-ADA file")
    if what := next((what for text, what in OTHERS.items() if text in data), None):
        raise InputError(f"it is {what}")
    try:
        for i, (code, number, _) in enumerate(pickletools.genops(io.BytesIO(data))):  # reads, calls nothing
            if code.name in REFUSED or (code.name in ("PUT", "LONG_BINPUT") and number > MOST) or i > MOST:
                raise InputError(f"it uses the pickle instruction {code.name} as no official file does")
        return Reader(io.BytesIO(data)).load()
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  a hostile or damaged pickle may raise anything
        raise InputError(f"it is cut short or damaged ({shown(str(error))})") from None
