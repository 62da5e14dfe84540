"""Cuts a file into pieces that travel one at a time, and puts them together again.

python benchmarks/pieces.py split cifar10.zip --size 39000000       cifar10.zip.000, cifar10.zip.001, ...
python benchmarks/pieces.py join cifar10.zip.000 cifar10.zip
"""

import sys
from pathlib import Path

import tyro

from gsoc_kd.core.files import InputError, replacing_file


def is_piece(path):
    """Whether `path` is named like a first piece: something.000."""
    return str(path).endswith(".000")


def split(path: Path, size: int = 39_000_000, remove: bool = False):
    """Writes path.000, path.001, ... of at most `size` bytes each beside `path`; older pieces of it go.

    Args:
        path: the file.
        size: bytes of a piece.
        remove: remove the file when its pieces are written.

    Returns:
        The pieces' paths.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if not 0 < size <= path.stat().st_size * 1000 or path.stat().st_size > 999 * size:
        raise InputError(
            f"size {size} would cut {path} ({path.stat().st_size} bytes) into more than 999 pieces or none"
        )
    for old in pieces_of(path):
        old.unlink()
    pieces = []
    with open(path, "rb") as file:
        while data := file.read(size):
            piece = path.with_name(f"{path.name}.{len(pieces):03d}")
            with replacing_file(piece) as temporary:
                temporary.write_bytes(data)
            pieces.append(piece)
    if remove:
        path.unlink()
    return pieces


def join(first: Path, path: Path, remove: bool = False):
    """Puts pieces together again.

    Args:
        first: the first piece, something.000; the others lie beside it.
        path: the file to write.
        remove: remove the pieces when the file is written.

    Returns:
        `path`.
    """
    first, path = Path(first), Path(path)
    if not is_piece(first) or not first.is_file():
        raise InputError(f"{first} is no first piece of a file, named something.000")
    pieces = pieces_of(first.with_suffix(""))
    if [int(piece.suffix[1:]) for piece in pieces] != list(range(len(pieces))):
        raise InputError(f"of the pieces of {first.with_suffix('')} one is missing between {first} and {pieces[-1]}")
    with replacing_file(path) as temporary, open(temporary, "wb") as file:
        for piece in pieces:
            file.write(piece.read_bytes())
    if remove:
        for piece in pieces:
            piece.unlink()
    return path


def pieces_of(path):
    """The pieces of `path` that lie beside it, in order."""
    return sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))


if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict({"split": split, "join": join})
    except InputError as error:
        sys.exit(f"error: {error}")
