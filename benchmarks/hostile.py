"""Files that are made to cost much, and the command that each is given to (faults.py): `FILES`."""

import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path


def png(path, width, height, *chunks):
    """A PNG of so many pixels by its header, with other chunks (name, data), and hardly any image data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [head, *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    sealed = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
              for name, data in parts]  # fmt: skip
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(sealed))


def nested(bench, out):
    out.with_suffix(".pkl").write_bytes(b"\x80\x04}" + b")" + b"\x85" * 300_000 + b"Ns.")
    return f"evaluate --generator {out}.pkl"


def laughs(bench, out):
    value = "ha"
    for _ in range(40):
        value = [value] * 10
    out.with_suffix(".pkl").write_bytes(pickle.dumps(value))
    return f"evaluate --generator {out}.pkl"


def many_pixels(bench, out):
    png(out / "cat" / "1.png", 40_000, 40_000)
    return f"pretrain --real {out} --preset smoke --device cpu --out {out}-run"


def long_text(bench, out):
    png(out / "cat" / "1.png", 32, 32, *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000)))] * 4)
    return f"pretrain --real {out} --preset smoke --device cpu --out {out}-run"


def much_in_a_zip(bench, out):
    with zipfile.ZipFile(f"{out}.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cat/1.png", bytes(400_000_000))
    return f"pretrain --real {out}.zip --preset smoke --device cpu --out {out}-run"


def sparse_weights(bench, out):
    bench.network(out, 1)
    os.truncate(out / "model.safetensors", 30_000_000_000)
    return f"evaluate --generator {out}"


def deep_config(bench, out):
    bench.network(out, 1)
    (out / "config.json").write_text(json.dumps({"widths": 0})[:-2] + "[" * 400_000 + "]" * 400_000 + "}")
    return f"evaluate --generator {out}"


def pipe(bench, out):
    bench.network(out, 1)
    (out / "model.safetensors").unlink()
    os.mkfifo(out / "model.safetensors")
    return f"evaluate --generator {out}"


FILES = {
    "a pickle of tuples in tuples": nested,
    "a small pickle of 10^40 entries": laughs,
    "a PNG of 40,000 x 40,000 pixels": many_pixels,
    "a PNG with 240 MB of packed text": long_text,
    "a zip with 400 MB of zeros": much_in_a_zip,
    "weights of 30 GB with nothing in them": sparse_weights,
    "a config of lists in lists": deep_config,
    "a pipe in place of weights": pipe,
}


def peak():
    """Bytes of memory that this process had at most (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
