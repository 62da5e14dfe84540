"""Whole numbers and devices that can be used come back, others are named."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gsoc_kd.core.checks import classes_of, fast_bfloat16, file_of, hardware, path_of, pick_device, whole
from gsoc_kd.core.files import InputError


def test_a_whole_number_comes_back_as_an_int_and_all_else_is_named():
    for value, least, most in ((1, 1, None), (np.int64(7), 1, 7), (0, 0, 3), (-2, -2, None)):
        assert type(whole("n", value, least, most)) is int and whole("n", value, least, most) == value
    for value in (0, 5, 1.0, "2", None, True, np.float32(2), float("nan")):
        with pytest.raises(InputError, match="^columns must be a whole number of 1 to 4, not "):
            whole("columns", value, 1, 4)
    with pytest.raises(InputError, match="^batch must be a whole number of at least 2, not 1$"):
        whole("batch", 1, 2)


def test_a_path_is_one_that_can_be_looked_at(tmp_path, monkeypatch):
    assert path_of(tmp_path / "new") == tmp_path / "new" and path_of("~") == Path.home()
    for value in ("", None, 3, b"x", "a\0b"):
        with pytest.raises(InputError, match="^out must be a path, not |^out .* is not a path that can be used"):
            path_of(value, "out")
    with pytest.raises(InputError, match=f"^out must name a file, and {tmp_path} is a folder; give a name in it$"):
        file_of(tmp_path, "out")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # as for others than the superuser
    with pytest.raises(InputError, match="is not a path that can be used .Permission denied"):
        path_of(tmp_path)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(InputError, match="is not a path that can be used .Permission denied"):
        path_of(tmp_path / "inside")


def test_names_of_classes_are_any_sequence():
    for classes, expected in ((("a", 1), ["a", "1"]), (np.arange(2), ["0", "1"]), ((), None), (None, None)):
        assert classes_of(SimpleNamespace(classes=classes)) == expected
    assert classes_of(object()) is None
    for classes in (10, torch.nn.Embedding(10, 4), True):
        with pytest.raises(InputError, match="^classes must be a sequence of names, not "):
            classes_of(SimpleNamespace(classes=classes))


def test_a_device_is_used_or_named():
    assert pick_device("cpu") == torch.device("cpu") and pick_device(torch.device("cpu")) == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("nonsense", "cuda:99", "meta"):
        with pytest.raises(InputError, match=f"device '{name}' cannot be used here"):
            pick_device(name)
    assert fast_bfloat16("cpu") in (True, False) and not fast_bfloat16("meta")
    assert torch.cuda.is_available() or "CPU cores" in hardware()
    assert "CPU cores" in hardware("cpu")  # what a run on the CPU says beside a GPU
