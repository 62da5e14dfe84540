"""The widget for exported files with a real one; test_single.py has its behaviour, with stand-ins."""

import numpy as np
import pytest
from test_points import STUDENT

from gsoc_kd import deployment
from gsoc_kd.core.files import InputError
from gsoc_kd.explorer import explore_exports, image_at


def test_a_real_export_is_compared_with_itself(tmp_path):
    pytest.importorskip("openvino")
    path = deployment.export(STUDENT, tmp_path / "fp32.xml")
    parts = explore_exports(path, path).parts
    parts.seed.value, parts.label.value = 4, 2
    apart = np.abs(image_at(STUDENT, 4, 2).astype(int) - image_at(deployment.load_exported(path), 4, 2))
    assert apart.max() <= 1 and "mean 0.00 of 255" in parts.notes[2].value
    assert parts.images[0].value == parts.images[1].value != b""
    with pytest.raises(InputError, match="nowhere.xml does not exist"):
        explore_exports(path, tmp_path / "nowhere.xml")
