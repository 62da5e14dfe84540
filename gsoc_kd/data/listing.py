"""Decides which of many files are read: which are images, the order of the classes, and what dataset.json says."""

import json
import re
from decimal import Decimal
from pathlib import PurePosixPath

from ..core.checks import brief
from ..core.files import InputError, left_behind

IMAGES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TEXTS = (".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".log", ".py")
TEXT_NAMES = ("README", "LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS", "CITATION")
KINDS = "PNG, JPEG, WebP, BMP, GIF or TIFF"
MOST_BYTES = 2**25  # of one image file
MOST_LISTED = 2**24  # bytes of a dataset.json, and of a zip's list of members: some 240,000 images


def counts(name):
    """Whether a file or folder of this bare name counts: hidden ones and what systems leave behind do not."""
    return not name.startswith(".") and not left_behind(name)


def most_of(name):
    """How many bytes the file of this name may have: an image or a dataset.json. No bound for others, None."""
    if is_dataset_json(name):
        return MOST_LISTED
    return MOST_BYTES if name.lower().endswith(IMAGES) else None


def images_of(names, where):
    """Those of `names`, paths with /, that are images by their suffix. Texts and tables are left out; any other file
    might be an image that cannot be read, so InputError names it. `where`: what is told before a name."""
    found = []
    for name in names:
        path = PurePosixPath(name)
        if (suffix := path.suffix.lower()) in IMAGES:
            found.append(name)
        elif suffix not in TEXTS and path.stem.upper() not in TEXT_NAMES:
            told = f"is neither an image that can be read ({', '.join(IMAGES)}) nor a text"
            raise InputError(f"{where}{name} {told}: convert it, or move it away")
    return found


def in_order(names):
    """Names of classes, sorted: numbers by their value, and 10 after 9 within a name too."""
    if all(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in names):
        return sorted(names, key=lambda name: (Decimal(name), name))
    parts = {name: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)] for name in names}
    return sorted(names, key=lambda name: (parts[name], name))


def matching(ours, names):
    """(rows, by_number): for each class of `names` the number of the same class in `ours`, two sequences of texts.

    Numbers are compared as numbers: "07" and "7" are one class. A generator without names of its own calls its classes
    "0", "1", ... in this order; such classes, where `names` has others, are taken in the order of `names`, and
    by_number is True. None: they are not the same classes."""
    exact, numeric = (tuple(ours), tuple(names)), (_numeric(ours), _numeric(names))
    for mine, theirs in (exact, numeric):
        if len(set(mine)) == len(mine) and len(set(theirs)) == len(theirs) and set(mine) == set(theirs):
            return [mine.index(name) for name in theirs], False
    return (list(range(len(ours))), True) if unnamed(ours) and len(ours) == len(names) else None


def unnamed(names):
    """Whether these are the names of a generator that has none: "0", "1", ..."""
    return tuple(names) == tuple(map(str, range(len(names))))


def _numeric(names):
    return tuple(str(int(name)) if name.isascii() and name.isdigit() else name for name in names)


def check_names(classes, where):
    """`classes` as a tuple; InputError unless they are different names that can be shown and stored."""
    good = isinstance(classes, list | tuple) and classes and all(isinstance(name, str) for name in classes)
    if not good or len(set(classes)) < len(classes):
        raise InputError(f"{where} must be a list of different names, got {classes!r:.200}")
    if bad := [name for name in classes if not 0 < len(name) < 256 or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name)]:
        raise InputError(f"{where}: {bad[0]!r:.200} is no name for a class: give one of readable text, in UTF-8")
    return tuple(classes)


def is_dataset_json(name):
    return PurePosixPath(name).name.lower() == "dataset.json"


def only_dataset_json(names, where):
    """The one path of that file, in letters of any case, among `names`, or None; InputError where there are several."""
    found = [name for name in names if is_dataset_json(name)]
    if len(found) > 1:
        raise InputError(f"{where} holds several datasets, {found[0]} and {found[1]}: give one of them")
    return found[0] if found else None


def labels_of(text, name, names, where):
    """({image: class index}, names of the classes) of a dataset.json: every image labelled, no class empty.

    Args:
        text: the bytes of dataset.json; name: its path among `names`, the paths of all files. What it labels lies
            below its own folder.
        where: how the zip or folder is called in messages."""
    file, base = f"{where}: {name}", name[: -len("dataset.json")]
    labels, classes = _parsed(text, file, base, len(names))
    if missing := images_of([x for x in names if x not in labels], f"{where}: "):
        raise InputError(f"{file} has no label for {missing[0]} ({len(missing)} without label)")
    if absent := sorted(labels.keys() - set(names)):
        raise InputError(f"{file} names {absent[0]:.200}, which is not there ({len(absent)} missing)")
    if not labels:
        raise InputError(f"{where} holds no images")
    images_of(labels, f"{file}: ")
    if isinstance(classes, list) and len(classes) > len(labels):
        raise InputError(f"{where}: {name} names {len(classes)} classes for {len(labels)} images; leave empty ones out")
    if classes is None:  # as many as the labels need; but a label beyond the number of images is an error
        classes = [str(c) for c in range(max(min(max(labels.values()), len(labels)) + 1, 1))]
    classes = check_names(classes, f"{where}: 'classes' in {name}")
    if wrong := [(x, c) for x, c in labels.items() if not 0 <= c < len(classes)]:
        raise InputError(f"{file}: label {wrong[0][1]} of {wrong[0][0]} does not lie in 0..{len(classes) - 1}")
    if empty := sorted(set(range(len(classes))) - set(labels.values())):
        raise InputError(f"{where}: class {classes[empty[0]]!r} has no images; add some or leave it out")
    return labels, classes


def _parsed(text, file, base, files):
    """({base + name: label}, what stands under 'classes' or None) of the JSON; `files`: how many names there may be."""
    if text.count(b"[") + text.count(b"{") > 1000 + 4 * files:  # each takes memory
        raise InputError(f"{file} holds more lists than there are images; make it again")
    try:
        info = json.loads(text)
        if info["labels"] is None:
            raise InputError(f"{file} has no labels (null): write [[name, class index], ...], or remove the file and "
                             "put the images of each class into a folder of its own")  # fmt: skip
        labels = {}
        for row in info["labels"]:
            if not isinstance(row, list) or [type(value) for value in row] != [str, int]:
                raise ValueError(f"found {brief(row)}")
            if base + row[0] in labels:
                raise InputError(f"{file} labels {row[0]:.200} twice")
            labels[base + row[0]] = row[1]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file} must hold 'labels' as [[name, class index], ...] ({error!r:.300})") from None
    return labels, info.get("classes")
