"""Exported students as black boxes: `load_exported` reads a file that `export` wrote, and OpenVINO computes."""

import glob
import hashlib
import json
import os
from xml.etree import ElementTree

import numpy as np

from ..core.checks import brief, path_of, whole
from ..core.files import InputError, locked, sha256, writing
from ..teachers.black_box import Teacher
from .quantise import need

KEY = "gsoc_kd"  # our entry in the file's notes: OpenVINO's rt_info, ONNX's metadata_props
BATCH = 256  # images that go through an exported student at once
LARGEST = 2**28  # bytes of an .xml or .onnx that is looked into
EMPTY = "checksum of this file, in which this text stands for itself".ljust(64, "-")
NOTES = {"z_dim": int, "z_from": str, "resolution": int, "precision": str, "classes": list, "hash": str, "sum": str}


class Runner(Teacher):
    """An exported student as a Teacher: `runner(z, y)` -> numpy uint8 (N, H, W, 3), any N. It also has `path`,
    `precision`, `device` and `model`, OpenVINO's compiled model; `digest` is the hash of the student and, unless it is
    fp32, the precision, of which the images are others."""

    def __init__(self, path, model, notes, device="CPU", threads=None):
        self.path, self.model, self.device, self.threads = path, model, device, threads
        self.origin, self.precision = path.absolute(), notes["precision"]
        classes, name = notes["classes"], f"{path.stem} ({notes['precision']})"
        sizes = notes["z_dim"], len(classes), notes["resolution"]
        digest = notes["hash"] + ("" if self.precision == "fp32" else f" {self.precision}")
        super().__init__(self._draw, *sizes, classes, name, digest, z_from=notes["z_from"])

    def __reduce__(self):
        return load_exported, (self.origin, self.threads, self.device)  # OpenVINO's models stay where they are

    def _draw(self, z, y):
        parts = zip(z.split(BATCH), y.split(BATCH))
        return np.concatenate([self.model({"z": some.numpy(), "y": labels.numpy()})[0] for some, labels in parts])


def load_exported(path, threads=None, device="CPU"):
    """An exported student, .xml (its .bin beside it) or .onnx, as a Runner that computes through OpenVINO.

    Args:
        threads: of the processor; None: as many as there are cores.
        device: "CPU"; "AUTO", which chooses; or another of `openvino.Core().available_devices`, "GPU" for instance.

    Raises:
        InputError: no such file, not an export, a damaged one, xml and bin of different exports; a device that is not
            there or cannot run the file; OpenVINO is not installed."""
    ov, path = need("openvino"), path_of(path)
    threads = None if threads is None else whole("threads", threads)
    core = ov.Core()
    options = _options(core, device, threads)
    if not path.is_file():
        raise InputError(f"{path} does not exist; make it with gsoc_kd.export(student, {str(path)!r})")
    if not (notes := read_notes(path)):
        raise InputError(f"{path} is not a file that gsoc_kd.export wrote")
    if file_sum(path.read_bytes(), notes["sum"]) != notes["sum"]:
        raise InputError(f"{path} is damaged, or was changed: its checksum does not fit; export again")
    if path.suffix == ".xml" and not _has_its_weights(path, notes):
        weights = path.with_suffix(".bin")
        raise InputError(f"{weights} is missing or is not the one that belongs to {path}; export again")
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read by OpenVINO ({_last(error)}); export again") from None
    shapes = {port.any_name: str(port.get_partial_shape()) for port in [*model.inputs, *model.outputs] if port.names}
    side = notes["resolution"]
    if shapes != {"z": f"[?,{notes['z_dim']}]", "y": "[?]", "images": f"[?,{side},{side},3]"}:
        raise InputError(f"{path} does not fit what it says of itself; export again")
    try:
        return Runner(path, core.compile_model(model, device, options), notes, device, threads)
    except RuntimeError as error:
        raise InputError(f"{path} cannot run on the device {device} ({_last(error)}); give another one") from None


def _options(core, device, threads):
    """What a device is told: float stays in 32 bits, one answer at a time. InputError: a device that is not there."""
    there, kind = core.available_devices, str(device).partition(":")[0]
    if not isinstance(device, str) or not (kind in ("AUTO", "HETERO") or device in there):
        found = f"AUTO or one of {', '.join(there)}, which OpenVINO finds here"
        raise InputError(f"device must be {found}, not {brief(device)}")
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    options |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    known = core.get_property(device, "SUPPORTED_PROPERTIES") if device in there else options
    return {name: value for name, value in options.items() if name in known}


def read_notes(path):
    """What `export` wrote about a file, a dict; None if it is not one of ours."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        if path.suffix == ".onnx":
            properties = need("onnx").load_model(path, load_external_data=False).metadata_props
            notes = json.loads({p.key: p.value for p in properties}[KEY])
        else:
            notes = json.loads(ElementTree.parse(path).getroot().find(f"rt_info/{KEY}").get("value"))
        fits = all(type(notes[name]) is kind for name, kind in NOTES.items())
        names = all(isinstance(name, str) for name in notes["classes"]) if fits else False
        return notes if names and len(notes["sum"]) == len(EMPTY) else None
    except InputError:
        raise
    except Exception:  # noqa: BLE001  what a foreign file makes readers raise cannot be listed
        return None


def file_sum(data, stands):
    """SHA-256 hex digest of a file's bytes, in which its checksum, `stands`, is left out."""
    return hashlib.sha256(data.replace(stands.encode(), EMPTY.encode())).hexdigest()


def _has_its_weights(path, notes):
    """Whether the bin beside an xml is the one that was written with it. Where the writer was killed after it had put
    the xml in place, the bin is still beside, in a hidden folder, and takes its place now."""
    weights = path.with_suffix(".bin")
    if weights.is_file() and sha256(weights) == notes.get("bin"):
        return True
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp/{glob.escape(weights.name)}"):
        if sha256(left) == notes.get("bin"):
            with locked(path), writing(path.parent):  # refuses while the writer lives
                os.replace(left, weights)
                left.parent.rmdir()
            return True
    return False


def _last(error):
    """The last line of what OpenVINO says, which names the cause."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:200]
