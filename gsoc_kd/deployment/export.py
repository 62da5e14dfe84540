"""Exports a student as an OpenVINO or ONNX file that turns latents and labels into images (docs/Deployment.md).

The file holds everything between z (N, z_dim) float32, y (N,) int64 and images (N, H, W, 3) uint8, N free. It
also contains what a caller must know: names of the classes, sizes, precision, the hash of the student.
"""

import copy
import glob
import json
import os
import shutil
import warnings
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ..core.checks import brief, classes_of, path_of, whole
from ..core.files import InputError, locked, replacing_file, sha256, sweep, writing
from ..core.latents import z_from
from ..core.state import as_before
from ..core.weights import network_hash
from ..data.images import to_uint8
from ..pairs.make import draw_latents
from ..teachers.black_box import black_box
from ..teachers.load import read_network
from .quantise import BATCHES, need, quantise_generator, scaled_per_image
from .runner import EMPTY, KEY, file_sum, read_notes

PACKAGES = {  # what each kind of file and precision needs
    ".xml": {"fp32": ["openvino"], "fp16": ["openvino"], "int8": ["openvino", "nncf"]},
    ".onnx": {"fp32": ["openvino", "onnx", "onnxscript"]},
}


class Images(nn.Module):
    """A frozen copy of a generator with what surrounds it: label -> class weights before, to_uint8 after."""

    def __init__(self, network):
        super().__init__()
        self.network = copy.deepcopy(network).float().cpu().eval().requires_grad_(False)

    def forward(self, z, y):
        weights = (y[:, None] == torch.arange(self.network.num_classes)).float()  # (N, C)
        return to_uint8(self.network(z, weights))  # (N, H, W, 3)


def export(student="embedded", path="student.xml", precision: str = "fp32", seed: int = 0, progress: bool = True):
    """Writes a student as one OpenVINO model (.xml and .bin) or as one ONNX file (.onnx); returns the Path.

    Args:
        student: embedded, the folder of a network or of a run, or a network, which is left as it is.
        path: file to write; its end decides: .xml is OpenVINO, .onnx is ONNX.
        precision: fp32; fp16, which halves the file; or int8, which is also faster: 8-bit convolutions but for the
            last. ONNX files are fp32.
        seed: of the latents and labels that int8 is calibrated on, a whole number from 0 on.
        progress: shows a bar.

    The file carries the names of the classes: those of the folder, or of the network's attribute `classes`.

    Raises:
        InputError: the extra `deploy` is missing; an unknown precision or ending; another file there; no student; the
            file cannot be written."""
    path, seed = path_of(path), whole("seed", seed, 0, 2**63 - 1)
    _check_target(path, precision)
    if not isinstance(student, str | Path | nn.Module):
        raise InputError(f"a student is a folder or a network, not {type(student).__name__}")
    with as_before(student), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of converters, about themselves
        network = student if isinstance(student, nn.Module) else read_network(student, "student")[0]
        notes = {**_notes(network), "precision": precision, "sum": EMPTY}
        some = torch.from_numpy(draw_latents(seed, 0, 32, network.z_dim, notes["z_from"]))
        black_box(network)(some, torch.arange(32) % network.num_classes)  # refuses what gives no images in [-1, 1]
        with locked(path), writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent, glob.escape(path.name))
            parts = 3 + BATCHES * (precision == "int8")  # a graph, a model, its calibration, a file
            with tqdm(total=parts, desc=f"export {precision}", unit="part", leave=False, disable=not progress) as bar:
                write = _write_onnx if path.suffix == ".onnx" else _write_openvino
                write(Images(network), path, notes, seed, bar.update)
    return path


def _notes(network):
    """What a file says of the network in it; InputError for one that cannot be exported."""
    if lacking := [name for name in ("z_dim", "num_classes", "resolution", "config") if not hasattr(network, name)]:
        raise InputError(f"{type(network).__name__} has no attribute {lacking[0]}, which a generator's export needs")
    if not network.num_classes:
        raise InputError("this generator has no classes; only class-conditional ones can be exported")
    classes = classes_of(network) or [*map(str, range(network.num_classes))]
    if not len(classes) == len(set(classes)) == network.num_classes:
        raise InputError(f"the student's classes must be {network.num_classes} different names, not {brief(classes)}")
    sizes = {"z_dim": int(network.z_dim), "z_from": z_from(network), "resolution": int(network.resolution)}
    return {**sizes, "classes": classes, "hash": network_hash(network)}


def _check_target(path, precision):
    """Refuses, before anything is computed, what cannot be written."""
    if path.suffix not in PACKAGES:
        raise InputError(f"{path} must end in .xml (OpenVINO) or .onnx (ONNX)")
    if precision not in [*(known := PACKAGES[path.suffix])]:
        raise InputError(f"the precision of {path.suffix} files is {' or '.join(known)}, not {brief(precision)}")
    for name in known[precision]:
        need(name)
    there = [p for p in ([path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]) if p.exists()]
    if there and not (path.is_file() and read_notes(path)):
        raise InputError(f"{there[0]} is there already and is not an export of gsoc_kd; move it or give another name")


def traced(network, **examples):
    """A network as a graph, made with example inputs by name; of each the first size, N, is free. The network is not
    changed."""
    network, free = copy.deepcopy(network).eval(), {0: torch.export.Dim("n", min=1)}
    return torch.export.export(network, tuple(examples.values()), dynamic_shapes=dict.fromkeys(examples, free))


def _examples(images):
    return {"z": torch.zeros(3, images.network.z_dim, dtype=torch.float32), "y": torch.zeros(3, dtype=torch.int64)}


def as_openvino(images, precision="fp32", seed=0, done=lambda: None):
    """`Images` as an OpenVINO model: z (any N, z_dim), and no other width, and y (N,) in, images out. done() is called
    after each part of the work."""
    network, ov = images.network, need("openvino")
    if precision == "int8":
        scaled_per_image(network)
    program = traced(images, **_examples(images))
    done()
    model = ov.convert_model(program)
    done()
    for port, name in zip([*model.inputs, *model.outputs], ("z", "y", "images")):
        port.set_names({name})
    model.reshape({"z": [-1, network.z_dim], "y": [-1]})
    return quantise_generator(model, network, seed, done) if precision == "int8" else model


def _write_onnx(images, path, notes, seed, done):
    names = {"input_names": ["z", "y"], "output_names": ["images"]}
    program = traced(images, **_examples(images))
    done()
    model = torch.onnx.export(program, **names, dynamo=True, verbose=False).model_proto
    done()
    need("onnx").helper.set_model_props(model, {KEY: json.dumps(notes)})
    with replacing_file(path) as temporary:
        temporary.write_bytes(_sealed(model.SerializeToString()))
    done()


def _sealed(data):
    """The bytes of a file with their own checksum in the notes."""
    return data.replace(EMPTY.encode(), file_sum(data, EMPTY).encode())


def _write_openvino(images, path, notes, seed, done):
    """Both files are written beside and renamed, the xml first: it knows its bin by hash, so that a mixed pair is
    refused, and `load_exported` finds the bin of a writer that was killed between both."""
    ov, model = need("openvino"), as_openvino(images, notes["precision"], seed, done)
    folder = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made, half = folder / path.name, notes["precision"] == "fp16"
    try:
        for _ in range(2):  # the second time with the hash of the first bin
            try:
                ov.save_model(model, made, compress_to_fp16=half)
                ov.Core().read_model(made)  # a bin that was cut off is found here
            except RuntimeError as error:  # OpenVINO's word for what the system refuses
                raise OSError(str(error).strip().splitlines()[-1]) from None
            model.set_rt_info(json.dumps({**notes, "bin": sha256(made.with_suffix(".bin"))}), KEY)
        made.write_bytes(_sealed(made.read_bytes()))
        os.replace(made, path)
        os.replace(made.with_suffix(".bin"), path.with_suffix(".bin"))
        done()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
