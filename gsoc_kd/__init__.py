"""gsoc_kd: a small class-conditional generator learns to draw a big one's pictures.

    import gsoc_kd as kd

    teacher = kd.load_teacher()
    pairs = kd.make_pairs(teacher, per_class=1000, out="runs/pairs")
    run = kd.distill(pairs, config=kd.DistillConfig.preset("laptop"), out="runs/student")
    scores = kd.evaluate(run.student)
    kd.export(run.student, "student.xml", precision="int8")

A name is imported when it is first used, so that `import gsoc_kd` and `gsoc-kd --help` are quick.
"""

import importlib
from importlib import metadata

_HOME = {  # public name: the stage it belongs to, in the order of the workflow
    "load_images": "data",
    "load_teacher": "teachers",
    "convert": "teachers",
    "black_box": "teachers",
    "make_pairs": "pairs",
    "load_pairs": "pairs",
    "PretrainConfig": "training",
    "pretrain": "training",
    "DistillConfig": "training",
    "distill": "training",
    "load_student": "teachers",
    "evaluate": "evaluation",
    "agreement": "evaluation",
    "export": "deployment",
    "load_exported": "deployment",
    "explore": "explorer",
    "InputError": "core.files",
}
__all__ = list(_HOME)

try:
    __version__ = metadata.version("gsoc-kd")
except metadata.PackageNotFoundError:  # used from a folder, not installed
    __version__ = "0+unknown"


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
