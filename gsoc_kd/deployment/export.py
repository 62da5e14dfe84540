"""A student leaves Python: OpenVINO and ONNX files that turn latents and labels into images (docs/Deployment.md).

The file holds everything between z (N, z_dim) float32, y (N,) int64 and images (N, H, W, 3) uint8, N free. What a
caller must know stands in it too: names of the classes, sizes, precision, the hash of the student.
"""

import copy
import importlib
import json
import logging
import tempfile
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import nn

from ..core.checks import whole
from ..core.files import InputError, replacing_file, sha256
from ..core.weights import network_hash
from ..data.images import to_uint8
from ..pairs.make import draw_latents
from ..teachers.black_box import Teacher
from ..teachers.load import read_network

PACKAGES = {  # what each kind of file and precision needs
    ".xml": {"fp32": ["openvino"], "fp16": ["openvino"], "int8": ["openvino", "nncf"]},
    ".onnx": {"fp32": ["openvino", "onnx", "onnxscript"]},
}
KEY = "gsoc_kd"  # our entry in the file's notes: OpenVINO's rt_info, ONNX's metadata_props
BATCH = 256  # images that go through an exported student at once
STAY_FLOAT = ("MatMul", "Add", "Subtract", "Multiply", "Divide", "ReduceMean", "ReduceSum")  # a small part of the work


class Pictures(nn.Module):
    """A frozen copy of a generator with what surrounds it: label -> class weights before, to_uint8 after."""

    def __init__(self, network):
        super().__init__()
        self.network = copy.deepcopy(network).float().cpu().eval().requires_grad_(False)

    def forward(self, z, y):
        weights = (y[:, None] == torch.arange(self.network.num_classes)).float()  # (N, C)
        return to_uint8(self.network(z, weights))  # (N, H, W, 3)


class Runner(Teacher):
    """An exported student as a Teacher: `runner(z, y)` -> numpy uint8 (N, H, W, 3), any N, on the processor. It also
    has `path`, `precision` and `model`, OpenVINO's compiled model; `digest` is the hash of the student."""

    def __init__(self, path, model, notes):
        self.path, self.model, self.precision, classes = path, model, notes["precision"], notes["classes"]
        sizes, name = (notes["z_dim"], len(classes), notes["resolution"]), f"{path.stem} ({self.precision})"
        super().__init__(self._draw, *sizes, classes, name, notes["hash"])

    def _draw(self, z, y):
        parts = zip(z.split(BATCH), y.split(BATCH))
        return np.concatenate([self.model({"z": some.numpy(), "y": labels.numpy()})[0] for some, labels in parts])


def export(student="embedded", path="student.xml", precision: str = "fp32", seed: int = 0):
    """Writes a student as one OpenVINO model (.xml and .bin) or as one ONNX file (.onnx); returns the Path.

    Args:
        student: embedded, the folder of a network or of a run, or a network, which is left as it is.
        path: file to write; its end decides: .xml is OpenVINO, .onnx is ONNX.
        precision: fp32; fp16, which halves the file; or int8, which is also faster: 8-bit convolutions but for the
            last. ONNX files are fp32.
        seed: of the latents and labels that int8 is calibrated on.

    Raises:
        InputError: the extra `deploy` is missing; an unknown precision or ending; another file there; no student."""
    path = Path(path)
    if path.suffix not in PACKAGES:
        raise InputError(f"{path} must end in .xml (OpenVINO) or .onnx (ONNX)")
    if precision not in (known := PACKAGES[path.suffix]):
        raise InputError(f"the precision of {path.suffix} files is {' or '.join(known)}, not {precision!r}")
    for name in known[precision]:
        need(name)
    there = [p for p in ([path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]) if p.exists()]
    if there and not (path.is_file() and _notes(path)):
        raise InputError(f"{there[0]} is there already and is not an export of gsoc_kd; move it or give another name")
    if not isinstance(student, str | Path | nn.Module):
        raise InputError(f"a student is a folder or a network, not {type(student).__name__}")
    network, _, classes = (student, "", None) if isinstance(student, nn.Module) else read_network(student, "student")
    if not network.num_classes:
        raise InputError("this generator has no classes; only class-conditional ones can be exported")
    sizes, classes = {"z_dim": network.z_dim, "resolution": network.resolution}, classes or range(network.num_classes)
    notes = {**sizes, "precision": precision, "classes": [*map(str, classes)], "hash": network_hash(network)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of converters, about themselves
        program = traced(Pictures(network), z=torch.zeros(3, network.z_dim), y=torch.zeros(3, dtype=torch.int64))
        _write(program, path, notes, seed)
    return path


def load_exported(path, threads=None):
    """An exported student, .xml (its .bin beside it) or .onnx, as a Runner, on the processor through OpenVINO.

    threads: of the processor; None: as many as there are cores. InputError: no such file, not an export, xml and bin
    of different exports, OpenVINO is not installed."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    options |= {} if threads is None else {"INFERENCE_NUM_THREADS": whole("threads", threads)}
    ov, path = need("openvino"), Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; make it with gsoc_kd.export(student, {str(path)!r})")
    if not (notes := _notes(path)):
        raise InputError(f"{path} is not a file that gsoc_kd.export wrote")
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and not (weights.is_file() and sha256(weights) == notes["bin"]):
        raise InputError(f"{weights} is missing or is not the one that belongs to {path}; export again")
    try:
        return Runner(path, ov.compile_model(path, "CPU", options), notes)
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read by OpenVINO ({str(error).splitlines()[0]}); export again") from None


def traced(network, **examples):
    """A network as a graph, made with example inputs by name; of each the first size, N, is free."""
    free = {0: torch.export.Dim("n", min=1)}
    return torch.export.export(network.eval(), tuple(examples.values()), dynamic_shapes=dict.fromkeys(examples, free))


def quantise(model, data, kinds=(), names=(), correct_bias=True):
    """An 8-bit copy of an OpenVINO model by nncf's default preset, its ranges set by `data`, a list of inputs. `kinds`
    and `names` of operations stay in float; correct_bias: biases make up for what rounding moves means by."""
    nncf, track_progress = need("nncf"), need("nncf.common.logging.track_progress")
    nncf.set_log_level(logging.ERROR)
    scope = nncf.IgnoredScope(types=list(kinds), names=list(names), validate=False)
    options = nncf.AdvancedQuantizationParameters(disable_bias_correction=not correct_bias)
    bar = track_progress.Progress  # draws widgets in a notebook and has no switch
    track_progress.Progress = lambda *columns, **given: bar(*columns, **{**given, "disable": True})
    try:
        data, count = nncf.Dataset(data), len(data)
        return nncf.quantize(model, data, subset_size=count, ignored_scope=scope, advanced_parameters=options)
    finally:
        track_progress.Progress = bar


def _quantised(model, notes, seed):
    """The model with 8-bit convolutions, ranges measured on 2,000 latents and uniformly drawn labels alone. Those that
    give the three colours stay in float: nothing after them evens out their rounding (docs/Deployment.md)."""
    rng, size = np.random.default_rng(seed), 250
    latents = [draw_latents(seed, i, size, notes["z_dim"]).astype(np.float32) for i in range(8)]
    data = [{"z": z, "y": rng.integers(len(notes["classes"]), size=size)} for z in latents]
    convolutions = [op for op in model.get_ops() if op.get_type_name() == "Convolution"]
    colours = [op.get_friendly_name() for op in convolutions if op.output(0).get_partial_shape()[1] == 3]
    return quantise(model, data, STAY_FLOAT, colours, correct_bias=False)


def _write(program, path, notes, seed):
    """Files are written beside and renamed; an xml knows its bin's hash: a mixed pair is refused."""
    if path.suffix == ".onnx":
        names = {"input_names": ["z", "y"], "output_names": ["images"]}
        model = torch.onnx.export(program, **names, dynamo=True, verbose=False).model_proto
        need("onnx").helper.set_model_props(model, {KEY: json.dumps(notes)})
        with replacing_file(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
        return
    ov = need("openvino")
    model = ov.convert_model(program)
    for port, name in zip([*model.inputs, *model.outputs], ("z", "y", "images")):
        port.set_names({name})
    if notes["precision"] == "int8":
        model = _quantised(model, notes, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        for _ in range(2):  # the second time with the hash of the first bin
            ov.save_model(model, made, compress_to_fp16=notes["precision"] == "fp16")
            model.set_rt_info(json.dumps({**notes, "bin": sha256(made.with_suffix(".bin"))}), KEY)
        made.with_suffix(".bin").replace(path.with_suffix(".bin"))
        made.replace(path)


def _notes(path):
    """What `export` wrote about a file, a dict; None if it is not one of ours."""
    try:
        if path.suffix == ".onnx":
            return json.loads({p.key: p.value for p in need("onnx").load_model(path).metadata_props}[KEY])
        return json.loads(ElementTree.parse(path).getroot().find(f"rt_info/{KEY}").get("value"))
    except InputError:
        raise
    except Exception:  # noqa: BLE001  what a foreign file makes readers raise cannot be listed
        return None


def need(name):
    """A package of the extra `deploy`, imported."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # nncf's import looks for CUDA's compiler
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f'{name} is not installed; get it with: pip install "gsoc-kd[deploy]"') from None
