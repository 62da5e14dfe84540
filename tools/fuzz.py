"""Coverage-guided fuzzing of what reads other people's files: `tools/fuzz.py pickle|zip|manifest|all`.

atheris (libFuzzer for Python) changes small good files and follows what new code each change reaches. A reader may
refuse with InputError; any other exception, more than twenty seconds or 2 GB is a finding: its input is written beside
the corpus, in build/fuzz, and belongs into tests/fixtures/fuzz/TARGET when it is mended (tests/tools/test_fuzz.py)."""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READERS = ["gsoc_kd.teachers", "gsoc_kd.data", "gsoc_kd.pairs", "gsoc_kd.core.files"]


def seeds(target):
    """Small good inputs, bytes."""
    if target == "pickle":
        sys.path.insert(0, str(ROOT / "tests"))
        from stylegan2_official import official_bytes

        return [
            official_bytes(case, protocol=protocol) for case in ("cifar_cond", "uncond_8map") for protocol in (2, 4)
        ]
    if target == "zip":
        from PIL import Image

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, mode in (("a.png", "RGB"), ("b/c.png", "P"), ("d.gif", "P"), ("e.bmp", "L")):
                image = io.BytesIO()
                Image.new(mode, (4, 4), 7).save(image, name.rpartition(".")[2])
                archive.writestr(name, image.getvalue())
            labels = [["a.png", 0], ["b/c.png", 1], ["d.gif", 0], ["e.bmp", 1]]
            archive.writestr("dataset.json", json.dumps({"labels": labels, "classes": ["x", "y"]}))
        return [buffer.getvalue()]
    return [(pairs_folder() / "manifest.json").read_bytes()]


def read_pickle(data):
    """The reader of official files, from the first byte to the network."""
    from gsoc_kd.core.files import InputError
    from gsoc_kd.teachers.inert import shown
    from gsoc_kd.teachers.official import REFUSES, read_network

    try:
        read_network(data)
    except InputError as error:
        assert len(str(error)) < 1000
    except REFUSES as error:  # what `read_official` turns into InputError
        shown(str(error))


def read_zip(data):
    """A dataset zip, decoded to the last image."""
    from gsoc_kd import InputError, load_images

    with tempfile.TemporaryDirectory() as folder:
        os.environ["GSOC_KD_CACHE"] = f"{folder}/cache"
        (path := Path(folder) / "a.zip").write_bytes(data)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # progress bars
                load_images(path)
        except InputError as error:
            assert len(str(error)) < 3000


def read_manifest(data):
    """A folder of pairs under another manifest, whose checksum fits, if it is a JSON object at all."""
    from gsoc_kd import InputError, load_pairs
    from gsoc_kd.core.files import with_checksum

    folder = pairs_folder()
    try:
        value = json.loads(data)
        data = json.dumps(with_checksum(value)).encode() if isinstance(value, dict) else data
    except (ValueError, RecursionError):
        pass
    manifest = folder / "manifest.json"
    good = manifest.read_bytes()
    manifest.write_bytes(data)
    try:
        load_pairs(folder)
    except InputError as error:
        assert len(str(error)) < 3000
    finally:
        manifest.write_bytes(good)


def pairs_folder(made=[]):  # noqa: B006  made once
    """A folder of four pairs, in a place that goes with the process."""
    if not made:
        import numpy as np

        from gsoc_kd.pairs import save_pairs

        made.append(tempfile.TemporaryDirectory())
        out, rng = Path(made[0].name) / "pairs", np.random.default_rng(0)
        save_pairs(rng.integers(0, 256, (4, 4, 4, 3), np.uint8), np.arange(4) % 2, rng.normal(size=(4, 3)), out)
    return Path(made[0].name) / "pairs"


TARGETS = {"pickle": read_pickle, "zip": read_zip, "manifest": read_manifest}


def main(target, minutes):
    try:
        import atheris
    except ImportError:
        sys.exit('atheris is not installed; get it with: pip install "gsoc-kd[fuzz]" (Linux and macOS)')
    with atheris.instrument_imports(include=READERS):  # the first import of each: what is there stays as it is
        import gsoc_kd.data  # noqa: F401
        import gsoc_kd.pairs  # noqa: F401
        import gsoc_kd.teachers  # noqa: F401
    folder = ROOT / "build" / "fuzz" / target
    folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds(target)):
        (folder / f"seed{i}").write_bytes(seed)
    limits = [f"-max_total_time={round(60 * minutes)}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=200000"]
    atheris.Setup([sys.argv[0], str(folder), *limits, f"-artifact_prefix={folder.parent}/{target}-"], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    given = parser.parse_args()
    if given.target != "all":
        main(given.target, given.minutes)
    else:  # libFuzzer ends its process
        words = [[sys.executable, __file__, name, "--minutes", str(given.minutes)] for name in TARGETS]
        sys.exit(max(subprocess.run(line, check=False).returncode for line in words))
