"""Classes are matched by name: generators, teachers and real images are put into one order of classes before anything
is compared (docs/Evaluation.md)."""

from dataclasses import fields, replace

import numpy as np
import torch

from ..core.files import InputError
from ..data.listing import matching, unnamed  # noqa: F401  both are used from here
from ..teachers.black_box import Teacher


def in_order(teacher, names):
    """(the Teacher with its classes in the order of `names`, by_number), or None, as in `matching`. Label i then asks
    for names[i]; a Teacher that has this order is returned as it is."""
    if (found := matching(teacher.classes, names)) is None or teacher.classes == tuple(names):
        return found and (teacher, False)
    rows, by_number = torch.tensor(found[0]), found[1]
    known = {field.name: getattr(teacher, field.name) for field in fields(Teacher)}
    return Teacher(**known | {"draw": lambda z, y: teacher.ask(z, rows[y]), "classes": tuple(names)}), by_number


def images_in_order(data, names, source):
    """LabelledImages with the classes in the order of `names`, those of `source`. InputError: other classes."""
    if (found := matching(data.classes, names)) is None:
        told = f"{data.source} has the classes {data.classes}, but {source} has {tuple(names)}"
        raise InputError(f"{told}; give images of the same classes")
    return replace(data, labels=np.argsort(found[0])[data.labels], classes=tuple(names))


def images_like(target, data):
    """The LabelledImages `data` with the classes in the order of `target`, LabelledImages or a Reference. InputError:
    other classes or another size."""
    if data.resolution != target.resolution:
        sizes = f"{data.resolution} and {target.resolution} pixels a side"
        raise InputError(f"{data.source} and {target.source} differ in size, {sizes}; give images alike")
    return images_in_order(data, target.classes, target.source)
