"""gsoc_kd: a small class-conditional generator learns to generate a big one's images.

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

_STAGES = {  # in the order of the workflow
    "data": ("load_images",),
    "teachers": ("load_teacher", "convert", "black_box", "load_student"),
    "pairs": ("make_pairs", "load_pairs", "convert_pairs"),
    "training": ("PretrainConfig", "pretrain", "DistillConfig", "distill"),
    "evaluation": ("evaluate", "agreement"),
    "deployment": ("export", "load_exported", "push"),
    "explorer": ("explore",),
    "core.files": ("InputError",),
}
_HOME = {name: stage for stage, names in _STAGES.items() for name in names}
__all__ = list(_HOME)

try:
    __version__ = metadata.version("gsoc-kd")
except metadata.PackageNotFoundError:  # used from a folder, not installed
    __version__ = "0+unknown"


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__():
    return sorted({*globals(), *__all__})
