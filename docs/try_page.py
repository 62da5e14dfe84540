"""Makes the page *Try it*, a student in the visitor's browser, from the files in docs/try; its README says the rest.

onnxruntime-web comes from npm (its client, `npm pack`, keeps a copy, so that a second time needs no network), in one
version whose SHA-512 stands here. The student becomes an ONNX file that takes class weights, which `gsoc_kd.export`'s
files, for callers with labels, do not.
"""

import base64
import copy
import hashlib
import json
import logging
import shutil
import subprocess
import tarfile
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from gsoc_kd.core.files import InputError, replacing_folder
from gsoc_kd.data import to_uint8

HERE = Path(__file__).resolve().parent / "try"
RUNTIME = "onnxruntime-web@1.23.2"  # later versions are larger and no faster
SHA512 = "T09JUtMn+CZLk3mFwqiH0lgQf+4S7+oYHHtk6uhaYAAJI95bTcKi5bOOZYwORXfS/RLZCjDDEXGWIuOCAFlEjg=="  # as npm prints it
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
NPM_OPTIONS = "--silent --prefer-offline --no-update-notifier --ignore-scripts --fetch-retries=0 --fetch-timeout=60000"


class FromWeights(nn.Module):
    """z (1, z_dim) and class weights y (1, C) -> one image, uint8 (1, H, W, 3)."""

    def __init__(self, network):
        super().__init__()
        self.network = copy.deepcopy(network).float().cpu().eval().requires_grad_(False)

    def forward(self, z, y):
        return to_uint8(self.network(z, y))


def fetch_runtime(folder):
    """Puts the two files of onnxruntime-web that the page loads, and its license, into `folder`, which it makes.
    InputError: npm is missing, its registry does not answer, or the package is not the one that was named."""
    if not (npm := shutil.which("npm")):
        raise InputError(f"npm, which fetches {RUNTIME}, is not installed")
    with tempfile.TemporaryDirectory() as here:
        command = [npm, "pack", RUNTIME, "--pack-destination", here, *NPM_OPTIONS.split()]
        try:
            subprocess.run(command, cwd=here, capture_output=True, check=True, timeout=300)
            (package,) = Path(here).glob("*.tgz")
        except (OSError, subprocess.SubprocessError, ValueError):
            raise InputError(f"npm's registry does not give {RUNTIME}; try again: npm pack {RUNTIME}") from None
        if base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() != SHA512:
            raise InputError(f"{RUNTIME} from npm is not the file that was pinned (its SHA-512 differs)")
        folder.mkdir(parents=True)
        with tarfile.open(package) as archive:
            for name in (SCRIPT, WASM):
                (folder / name).write_bytes(archive.extractfile(f"package/dist/{name}").read())
    shutil.copy(HERE / "LICENSE.onnxruntime", folder / "LICENSE")


def write_student(network, folder):
    """Writes student.onnx, and student.json with what the page says about it. InputError: no classes, no onnx."""
    if not network.num_classes:
        raise InputError("this generator has no classes; the page shows class-conditional ones")
    classes = getattr(network, "classes", None) or range(network.num_classes)
    names = {"input_names": ["z", "y"], "output_names": ["images"]}
    examples = torch.zeros(1, network.z_dim), torch.zeros(1, network.num_classes)
    before = logging.root.manager.disable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converter, about itself
            logging.disable(logging.INFO)  # which Sphinx lets through
            model = torch.onnx.export(FromWeights(network), examples, **names, dynamo=True, verbose=False).model_proto
    except ImportError:
        raise InputError('onnx or onnxscript is not installed; get them with: pip install "gsoc-kd[deploy]"') from None
    finally:
        logging.disable(before)
    for node in model.graph.node:
        del node.metadata_props[:]  # where in PyTorch it came from: a tenth of the file
    (folder / "student.onnx").write_bytes(model.SerializeToString())
    about = {"classes": [*map(str, classes)], "z_dim": network.z_dim}
    about |= {"z_from": getattr(network, "z_from", "normal")}  # what its latents are drawn from, or "uniform"
    about |= {"resolution": network.resolution, "parameters": sum(p.numel() for p in network.parameters())}
    about |= {"bytes": (folder / "student.onnx").stat().st_size}
    about |= {"runtime_bytes": (folder / "runtime" / WASM).stat().st_size}
    start = {"class": "ship" if "ship" in about["classes"] else about["classes"][0], "seed": 3}
    (folder / "student.json").write_text(json.dumps(about | {"start": start}, indent=2) + "\n", encoding="utf-8")


def try_page(folder, network, home="../index.html"):
    """Writes the page of a student, a network, as a folder that any web server can show; returns its index.html.
    home: where its link back leads. InputError: what `fetch_runtime` and `write_student` say."""
    with replacing_folder(folder) as out:
        fetch_runtime(out / "runtime")
        write_student(network, out)
        for name in ("try.js", "try.css"):
            shutil.copy(HERE / name, out)
        page = (HERE / "index.html").read_text(encoding="utf-8").replace('"../index.html"', f'"{home}"')
        (out / "index.html").write_text(page, encoding="utf-8")
    return Path(folder) / "index.html"
