"""benchmarks/pieces.py: what was cut comes together to the same bytes, and a missing piece is noticed."""

import sys
from pathlib import Path

import pytest

from gsoc_kd.core.files import InputError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pieces import is_piece, join, split  # noqa: E402


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.zip"
    path.write_bytes(bytes(range(256)) * 10)  # 2,560 bytes
    return path


def test_a_file_is_cut_and_put_together(file, tmp_path):
    pieces = split(file, 1000)
    assert [piece.name for piece in pieces] == ["data.zip.000", "data.zip.001", "data.zip.002"]
    assert [piece.stat().st_size for piece in pieces] == [1000, 1000, 560]
    assert is_piece(pieces[0]) and not is_piece(pieces[1]) and not is_piece(file)
    assert join(pieces[0], tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_cutting_again_leaves_no_older_piece(file):
    split(file, 500)
    assert len(split(file, 2000, remove=True)) == 2
    assert sorted(p.name for p in file.parent.iterdir()) == ["data.zip.000", "data.zip.001"]
    join(file.with_name("data.zip.000"), file, remove=True)
    assert [p.name for p in file.parent.iterdir()] == ["data.zip"] and file.stat().st_size == 2560


def test_what_is_wrong_is_named_and_nothing_is_written(file, tmp_path):
    pieces = split(file, 1000)
    pieces[1].unlink()
    with pytest.raises(InputError, match="one is missing between .*000 and .*002"):
        join(pieces[0], tmp_path / "again.zip")
    with pytest.raises(InputError, match="no first piece"):
        join(pieces[2], tmp_path / "again.zip")
    assert not (tmp_path / "again.zip").exists()
    with pytest.raises(InputError, match="no file"):
        split(tmp_path / "nothing.zip")
    for size in (0, 2):
        with pytest.raises(InputError, match=f"size {size}"):
            split(file, size)
