"""Reads files of `torch.save` from other programs: as tensors only, nothing in the file is run."""

import re
import warnings
import zipfile
from pathlib import Path
from textwrap import shorten

import torch

from .files import InputError

LONGEST = 1 << 14  # bytes of the pickle that names the tensors of a file; the numbers lie beside it


def load_tensors(path, most):
    """The tensor, or the dict of tensors by name, that `torch.save` (PyTorch 1.6 or newer) wrote into a file of at most
    `most` bytes: dense ones, on the CPU wherever they were. InputError: anything else, or a damaged file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing" if not path.exists() else f"{path} is not a file")
    try:
        if path.stat().st_size > most:
            raise ValueError(f"it has more than {most:,} bytes")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(m.compress_type != zipfile.ZIP_STORED or m.file_size > most for m in members):
                raise ValueError("its parts are compressed")
            numbers = [m for m in members if re.fullmatch("[^/]+/data/[0-9]+", m.filename)]
            if sum(m.file_size for m in members) - sum(m.file_size for m in numbers) > LONGEST:
                raise ValueError("it holds much beside numbers")
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        with warnings.catch_warnings(action="ignore"):  # of kinds of tensors that are then refused
            value = torch.load(path, map_location="cpu", weights_only=True)
        parts = value if isinstance(value, dict) else {"": value}
        if wrong := [name for name, part in parts.items() if not isinstance(name, str) or not _plain(part)]:
            raise ValueError(f"{shorten(repr(wrong[0]), 60) if wrong[0] else 'it'} is no plain tensor")
    except Exception as error:  # noqa: BLE001  a hostile or damaged file may raise anything
        error = "it holds something else than tensors" if type(error).__name__ == "UnpicklingError" else error
        why = "".join(filter(str.isprintable, shorten(str(error).partition("\n")[0] or type(error).__name__, 160)))
        told = f"{path} cannot be read as tensors of torch.save, and nothing in it was run ({why})"
        raise InputError(f"{told}; copy or download it again") from None
    return value


def _plain(tensor):
    """Whether it is a dense tensor on the CPU whose numbers are all there: no view that repeats a few endlessly."""
    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    known = not tensor.is_complex() and not tensor.is_quantized
    return known and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
