"""Uploads the folder of a student to the Hugging Face Hub, with a model card (docs/Deployment.md)."""

import re
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from ..core import hub
from ..core.checks import classes_of, path_of
from ..core.figures import class_grid, save_png
from ..core.files import ASSETS, InputError, read_json
from ..core.state import untouched
from ..core.weights import save_network
from ..data.images import CIFAR10_CLASSES
from ..evaluation import cost, evaluate, lower_bound_row, table
from ..teachers.black_box import black_box
from ..teachers.load import find, read_network

CARD = """---
{header}---

# {title}

A small class-conditional image generator, made with [gsoc_kd]({address}): a latent of {z_dim} numbers and a class go
in, an image of {resolution}x{resolution} pixels comes out. {parameters:,} parameters ({kind}).

![Images of every class](samples.png)

## How to use it

```python
import gsoc_kd as kd  # pip install "git+{address}"
from gsoc_kd.pairs import generate_images

student = kd.load_teacher("{name}")  # (z, y) -> images; kd.load_student gives the network
images, labels = generate_images(student, per_class=8, seed=0)  # uint8 (N, {resolution}, {resolution}, 3), (N,)
kd.explore("{name}", teacher=None)  # sliders, in a notebook
kd.export("{name}", "student.xml")  # an OpenVINO file
```

Latents are drawn from {drawn}. Classes, in the order of their labels: {classes}.

## Scores

{scores}

## License

{license}

## Where it comes from

{provenance}
"""
TOLD = ("data", "command", "commit", "hardware", "seconds", "kimg", "date", "source", "sha256", "teacher", "pairs")
HEADER = ("library_name: gsoc-kd", "tags: [image-generation, class-conditional, gan, knowledge-distillation, openvino]")
DRAWN = {"normal": "N(0, 1)", "uniform": "the interval [0, 1)"}


@untouched
def push(run, name: str, license: str | None = None, scores=None, private: bool = False):
    """Uploads a generator to "owner/name" on the Hugging Face Hub, where `load_student` and `load_teacher` find it, and
    returns the address of its page: config.json, model.safetensors, provenance.json, samples.png and a model card.

    Args:
        run: a Run, or what `load_student` takes.
        name: owner/name; the repository is made if there is none, else it gets a new commit.
        license: its short name, e.g. apache-2.0; None: that in the provenance (of a converted official file); Apache
            2.0 for the bundled networks and students of the bundled teacher; for others the card says that it is open.
        scores: what `evaluate` returned, or a JSON file of it; None: those in the provenance, else, for CIFAR-10's
            classes at 32 pixels, 10,000 images are scored now.
        private: whether only its owner sees a repository that is made.

    InputError: no generator; scores without counts; not logged in (hf auth login); the Hub cannot be reached."""
    if not isinstance(name, str) or not hub.is_name(name) or "@" in name:
        raise InputError(f"a place on the Hugging Face Hub is named owner/name, not {name!r}")
    if license is not None and not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", str(license)):
        raise InputError(f"a license has a short name such as apache-2.0, not {license!r}")
    network, told, dtype = _read(getattr(run, "folder", run))
    if isinstance(command := told.get("command"), str):
        told["command"] = command.replace(f"{Path.home()}/", "~/")  # nobody's business
    scores = read_json(path_of(scores, "scores")) if isinstance(scores, str | Path) else scores
    scores = told.get("scores") if scores is None else scores
    if scores is None and (tuple(classes_of(network) or ()), network.resolution) == (CIFAR10_CLASSES, 32):
        scores = evaluate(network)
    if scores is not None and not (isinstance(scores, dict) and isinstance(scores.get("images"), int)):
        raise InputError("scores must be what gsoc_kd.evaluate returned, with the count of images")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save_network(network, folder / "network", {**told, "scores": scores}, dtype)
        teacher = black_box(network)
        save_png(class_grid(teacher, teacher.z_dim, teacher.classes), folder / "network" / "samples.png")
        card = model_card(network, name, told, scores, license)
        (folder / "network" / "README.md").write_text(card, encoding="utf-8")
        return hub.upload(folder / "network", name, private, f"{type(network).__name__} by gsoc_kd")


def model_card(network, name, told, scores, license=None):
    """The model card, GitHub markdown with the Hub's header, of a network with provenance `told` and `scores`."""
    teacher, key, words = black_box(network), *_license(told, license)
    header = "".join(f"{line}\n" for line in (*([f"license: {key}"] if key else []), *HEADER))
    rows = [lower_bound_row(scores["lower_bound"])] if scores and scores.get("lower_bound") else []
    rows += [{"name": name, **cost(network), **scores}] if scores else []
    lines = {key: told[key] for key in TOLD if told.get(key) is not None}
    return CARD.format(
        header=header, title=name.partition("/")[2], name=name, address=_address(), z_dim=teacher.z_dim,
        resolution=teacher.resolution, kind=type(network).__name__, drawn=DRAWN[teacher.z_from],
        parameters=cost(network)["parameters"], classes=", ".join(teacher.classes), license=words,
        scores=table(rows) if scores else "Not scored.",
        provenance="\n".join(f"* {key}: `{value}`" for key, value in lines.items()) or "Not known.")  # fmt: skip


def _read(source):
    """(network, its provenance, the dtype that its weights are stored in) of what `push` takes."""
    if isinstance(source, nn.Module):
        return black_box(source).network, {}, None
    if not isinstance(source, str | Path):
        raise InputError(f"give a Run, a folder or a network to upload, not {type(source).__name__}")
    path, _ = find(source, "student")
    network, told, dtype = read_network(source, "student")[0], {}, None
    if path.is_dir():
        told = read_json(path / "provenance.json", check=True) if (path / "provenance.json").is_file() else {}
        with safe_open(path / "model.safetensors", "pt") as file:
            stored = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        dtype = torch.float16 if "F16" in stored else None
    return network, {"classes": classes, **told} if (classes := classes_of(network)) else told, dtype


def _license(told, license):
    """(short name for the card's header or None, sentence) of a network with provenance `told`."""
    if license:
        return license.lower(), f"{license}, as its author states."
    if told.get("licence"):
        return "other", f"{told['licence']}."
    bundled = read_json(ASSETS / "teacher" / "provenance.json")["hash"]
    if bundled in (told.get("teacher"), told.get("hash")):
        return (
            "apache-2.0",
            f"Apache License 2.0, as [gsoc_kd]({_address()}), whose bundled teacher generated its pairs.",
        )
    return None, "Its author has not stated one. That of the teacher, and of its images, may bind a student, too."


def _address():
    """The repository's address, which stands in pyproject.toml."""
    try:
        urls = metadata.metadata("gsoc-kd").get_all("Project-URL")
        return dict(url.split(", ", 1) for url in urls)["Repository"]
    except metadata.PackageNotFoundError:  # used from a folder, not installed
        about = Path(__file__).parents[2] / "pyproject.toml"
        return tomllib.loads(about.read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
