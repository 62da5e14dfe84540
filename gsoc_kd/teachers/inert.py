"""Reads a pickle without running anything that is in it.

A pickle is a small program: it names functions and calls them. Here a machine of our own runs it (machine.py), for
which every name must be on a short list and stands for something inert: a dict, a record, a tensor. The files also
carry the source text of their networks, which the official loader executes; here it stays a text. All reading, that of
the pickles inside the pickle too, is paid from one `Budget`."""

import re
import warnings

import numpy as np
import torch

from ..core.files import InputError
from .machine import Budget, Inert, Reader, as_key, shown

OTHERS = {  # text in the file: what the file then is
    b"class SuperresGenerator": "a StyleGAN-XL file, whose generator is another network",
    b"class SynthesisInput": "a StyleGAN3 file, whose generator is another network",
    b"dnnlib.tflib": "a TensorFlow file of StyleGAN2; its authors' PyTorch code converts it (legacy.py)",
}
STORAGES = dict(Float=torch.float32, Double=torch.float64, Half=torch.float16, BFloat16=torch.bfloat16)
STORAGES |= dict(Long=torch.int64, Int=torch.int32, Short=torch.int16, Char=torch.int8, Byte=torch.uint8)
STORAGES |= dict(Bool=torch.bool)
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how torch.save began, before it wrote zip archives


def _module(budget, meta):
    """A network or a layer: meta is a dict with type, version, module_src, class_name and state."""
    kinds = dict(type=str, state=dict, module_src=str, class_name=str)
    known = isinstance(meta, dict) and all(isinstance(meta.get(key), kind) for key, kind in kinds.items())
    if not known or meta["type"] != "class":
        raise InputError("it holds a network in a layout that is not StyleGAN2-ADA's")
    if meta.get("version") != 6:
        raise InputError(f"its networks are stored in format version {shown(meta.get('version'))}, not 6")
    name, source = meta["class_name"], meta["module_src"]
    budget.spend(1 + (len(source) + len(name)) // 100)
    if len(name) > 200 or not re.search(rf"^class {re.escape(name)}\b", source, re.M):
        raise InputError(f"the source text it carries does not define its class {shown(name)}")
    return Inert(name, meta["state"])


def _storage(budget, data):
    """The numbers of a tensor, as `torch.save` wrote them before it wrote zip archives: five pickles, then the numbers
    themselves -> Inert around a flat CPU tensor, which is a view of the file's bytes."""
    if not isinstance(data, memoryview):
        raise InputError("a tensor in it is damaged")
    if data[:2] == b"PK":
        raise InputError("a tensor in it is a zip archive, which no official file holds")
    reader = Reader(data, budget, INNER, "no tensor needs", _stored)
    try:
        magic, protocol, system, stored, keys = (reader.load() for _ in range(5))
        if (magic, protocol) != (MAGIC, PROTOCOL) or not isinstance(stored, Inert) or stored.name != "stored":
            raise InputError("is in a format that official files do not use")
        dtype, key, count = stored.value
        whole = isinstance(system, dict) and system.get("little_endian") is True and keys == [key]
        start, size = reader.at + 8, count * dtype.itemsize
        if not whole or data[reader.at : start] != count.to_bytes(8, "little") or len(data) - start < size:
            raise InputError("is damaged")
    except InputError as error:
        raise InputError(
            str(error) if str(error).startswith("reading it") else f"a tensor in it {str(error).removeprefix('it ')}"
        ) from None
    except Exception:  # noqa: BLE001  a hostile or damaged pickle may raise anything
        raise InputError("a tensor in it is damaged") from None
    with warnings.catch_warnings(action="ignore"):  # of bytes that cannot be written to: nobody does
        numbers = (
            torch.frombuffer(data, dtype=dtype, count=count, offset=start) if count else torch.empty(0, dtype=dtype)
        )
    return Inert("storage", numbers)


def _stored(budget, *entry):
    """What stands for a storage in its own pickle: ("storage", kind, key, location, count, None)."""
    word, kind, key, _, count, view = entry
    known = word == "storage" and isinstance(kind, Inert) and isinstance(kind.value, torch.dtype)
    if not known or not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 40 or view is not None:
        raise InputError("is damaged")
    return Inert("stored", (kind.value, key, count))


def _tensor(budget, storage, offset, size, stride, *_):
    """A view of a storage, as torch's own function of this name, but never beyond the storage's end."""
    fits = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 8
    whole = fits and all(type(n) is int and 0 <= n < 1 << 62 for n in (offset, *size, *stride))
    numbers = len(storage.value) if isinstance(storage, Inert) and storage.name == "storage" else -1
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if whole and 0 not in size else 0
    if not whole or last >= max(numbers, 1) or np.prod(size, dtype=object) > numbers:
        raise InputError("a tensor in it is larger than its numbers")
    return Inert("tensor", torch.as_strided(storage.value, size, stride, offset))


def _number(budget, kind, data=memoryview(b"")):  # noqa: B008
    """A numpy number, e.g. a layer's gain."""
    if not isinstance(kind, Inert) or kind.value not in ("f8", "f4", "f2", "i8", "i4", "b1"):
        raise InputError("it holds a numpy number of an unknown kind")
    return np.frombuffer(data, kind.value, count=1).item()


def _bytes(budget, text, _):
    """Bytes as old protocols write them: as a text."""
    budget.spend(1, len(text))
    return memoryview(text.encode("latin1"))


def _copied(kind):
    """An empty container, or one with what is in another."""

    def copy(budget, entries=()):
        if not isinstance(entries, dict | list | tuple | set):
            raise InputError(f"it makes a {kind.__name__} of something else")
        budget.spend(len(entries), 100 * len(entries))
        if kind is dict and not isinstance(entries, dict):
            return {as_key(name): value for name, value in entries}
        return kind(map(as_key, entries)) if kind is set else kind(entries)

    return copy


FUNCTIONS = {
    "torch_utils.persistence._reconstruct_persistent_obj": _module,
    "torch.storage._load_from_bytes": _storage,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda budget, tensor, *_: tensor,
    "numpy.dtype": lambda budget, kind, *_: Inert("numpy.dtype", kind if isinstance(kind, str) else None),
    "numpy.ndarray": lambda budget, *_: Inert("numpy.ndarray"),
    "_codecs.encode": _bytes,
    "dnnlib.util.EasyDict": _copied(dict),
    "collections.OrderedDict": _copied(dict),
    "builtins.set": _copied(set),
}
for _folder in ("numpy.core.multiarray", "numpy._core.multiarray"):
    FUNCTIONS |= {f"{_folder}.scalar": _number, f"{_folder}._reconstruct": FUNCTIONS["numpy.ndarray"]}
ALLOWED = {name: Inert(name, function) for name, function in FUNCTIONS.items()}
ALLOWED["__builtin__.set"] = ALLOWED["builtins.set"]  # in protocol 2
INNER = {f"torch.{name}Storage": Inert("kind", dtype) for name, dtype in STORAGES.items()}
INNER["collections.OrderedDict"] = ALLOWED["collections.OrderedDict"]


def unpickle(data, budget=None):
    """The contents of a pickle, bytes, with `Inert` for all but plain values (bytes are memoryviews); InputError says
    why it is refused. Nothing in it is run in either case."""
    if data[:1] != b"\x80":
        what = "a text (a web page saved as a file?)" if data[:200].isascii() else "no pickle"
        what = "a zip archive" if data[:2] == b"PK" else what if data else "empty"
        raise InputError(f"it is {what}, not a StyleGAN2-ADA file")
    if what := next((what for text, what in OTHERS.items() if text in data), None):
        raise InputError(f"it is {what}")
    try:
        return Reader(memoryview(data), budget or Budget(), ALLOWED, "no official file needs").load()
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  a hostile or damaged pickle may raise anything
        raise InputError(f"it is cut short or damaged ({shown(str(error))})") from None
