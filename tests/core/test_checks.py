"""Whole numbers and devices that can be used come back, others are named."""

import numpy as np
import pytest
import torch

from gsoc_kd.core.checks import fast_bfloat16, hardware, pick_device, whole
from gsoc_kd.core.files import InputError


def test_a_whole_number_comes_back_as_an_int_and_all_else_is_named():
    for value, least, most in ((1, 1, None), (np.int64(7), 1, 7), (0, 0, 3), (-2, -2, None)):
        assert type(whole("n", value, least, most)) is int and whole("n", value, least, most) == value
    for value in (0, 5, 1.0, "2", None, True, np.float32(2), float("nan")):
        with pytest.raises(InputError, match="^columns must be a whole number of 1 to 4, not "):
            whole("columns", value, 1, 4)
    with pytest.raises(InputError, match="^batch must be a whole number of at least 2, not 1$"):
        whole("batch", 1, 2)


def test_a_device_is_used_or_named():
    assert pick_device("cpu") == torch.device("cpu") and pick_device(torch.device("cpu")) == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("nonsense", "cuda:99", "meta"):
        with pytest.raises(InputError, match=f"device '{name}' cannot be used here"):
            pick_device(name)
    assert fast_bfloat16("cpu") in (True, False) and not fast_bfloat16("meta")
    assert torch.cuda.is_available() or "CPU cores" in hardware()
    assert "CPU cores" in hardware("cpu")  # what a run on the CPU says beside a GPU
