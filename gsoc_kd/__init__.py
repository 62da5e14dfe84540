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
import sys
import types
from importlib import metadata

_HOME = {  # public name: the module it lives in, in the order of the workflow
    "load_images": "images",
    "load_teacher": "teachers",
    "convert": "pickles",
    "black_box": "teachers",
    "make_pairs": "pairs",
    "load_pairs": "pairs",
    "PretrainConfig": "pretrain",
    "pretrain": "pretrain",
    "DistillConfig": "distill",
    "distill": "distill",
    "load_student": "teachers",
    "evaluate": "evaluate",
    "agreement": "agreement",
    "export": "deploy",
    "load_exported": "deploy",
    "explore": "explore",
    "InputError": "files",
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


class _Package(types.ModuleType):
    """Five names are also their module's. Importing gsoc_kd.distill would put that module in the place of
    the function kd.distill; here the function stays, whatever is imported first. `from gsoc_kd.distill import x`
    reaches the module all the same."""

    def __setattr__(self, name, value):
        if isinstance(value, types.ModuleType) and name in _HOME:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
