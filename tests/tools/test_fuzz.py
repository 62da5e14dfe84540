"""What `make fuzz` found, and that it begins with files that can be read. No test needs atheris."""

from pathlib import Path

import fuzz
import pytest

import gsoc_kd as kd
from gsoc_kd.teachers.official import read_network

FOUND = sorted(path for path in (Path(__file__).parents[1] / "fixtures" / "fuzz").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_is_refused_in_one_line(path):
    fuzz.TARGETS[path.parent.name](path.read_bytes())  # raises all but InputError


def test_fuzzing_begins_with_good_files(tmp_path, monkeypatch):
    monkeypatch.setenv("GSOC_KD_CACHE", str(tmp_path / "cache"))
    assert [read_network(data)[0].resolution for data in fuzz.seeds("pickle")] == [32, 32, 16, 16]
    (tmp_path / "a.zip").write_bytes(*fuzz.seeds("zip"))
    assert kd.load_images(tmp_path / "a.zip").counts() == {"x": 2, "y": 2}
    assert fuzz.seeds("manifest") and len(kd.load_pairs(fuzz.pairs_folder())) == 4
    for target, read in fuzz.TARGETS.items():
        for data in fuzz.seeds(target):
            read(data)
            read(data[: len(data) // 2])
