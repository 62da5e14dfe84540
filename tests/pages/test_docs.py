"""docs/ is the wiki: every link, anchor, page, name and command in it must be true."""

import ast
import contextlib
import functools
import importlib
import io
import json
import re
import sys
import types
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

import gsoc_kd as kd
from gsoc_kd.cli import main
from gsoc_kd.data import to_uint8
from gsoc_kd.training import DistillConfig
from gsoc_kd.training.distill import PRESETS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
THEIR_PAGES = "Getting-Started CIFAR10 Teacher-Network Black-Box-Distillation Training Evaluation Deployment".split()
PAGE_OF_NOTEBOOK = dict(zip((path.stem for path in NOTEBOOKS), THEIR_PAGES, strict=True))

FENCE = re.compile(r"^(```+|~~~+)(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.M | re.S)
CODE = re.compile(r"(`+)(.+?)\1", re.S)
# a link's text may hold a badge, itself a link
NESTED = r"\[((?:[^\[\]]|\[[^\[\]]*\](?:\([^()\s]*\))?)*)\]"
LINK = re.compile(NESTED + r"\(\s*<?([^()\s<>]*(?:\([^()\s]*\))?[^()\s<>]*)>?(?:\s+\"[^\"]*\")?\s*\)")
HTML_LINK = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"")
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.S)
UNFINISHED = re.compile(r"@@|\b(TODO|FIXME|XXX|TBD)\b")


def read(path):
    """A page's Markdown; of a notebook, that of its Markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def prose(text):
    """The text without its code: nothing in there is a link, a heading or a formula."""
    return CODE.sub("", FENCE.sub("", text))


def links(text):
    text = prose(text)
    return [link for _, link in LINK.findall(text)] + HTML_LINK.findall(text)


def anchors(text):
    """What GitHub lets a link jump to: the slugs of the headings, and explicit ids."""
    text, seen, found = FENCE.sub("", text), {}, set()
    for heading in re.findall(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*$", text, re.M):
        heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link shows its text
        heading = re.sub(r"<[^>]+>", "", heading)
        heading = re.sub(r"(?<!\w)[*_]+(\S.*?\S|\S)[*_]+(?!\w)", r"\1", heading)  # emphasis marks go
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found | set(re.findall(r"<a\b[^>]*?\b(?:id|name)=\"([^\"]+)\"", text))


def jupyters(text):
    """What Jupyter, Colab and GitHub let a link in a notebook jump to: the headings, with hyphens for spaces."""
    return {heading.replace(" ", "-") for heading in re.findall(r"^#{1,6} (.+)$", FENCE.sub("", text), re.M)}


NAMES = {".md": anchors, ".ipynb": jupyters}

PAGES = [link.removesuffix(".md") for link in links(read(DOCS / "_Sidebar.md"))]
FILES = [*(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")), DOCS / "_Sidebar.md"]
FILES += [DOCS / f"{page}.md" for page in PAGES]


def broken(path):
    """One line for each link of a page that leads nowhere, or to another module than it names."""
    faults = [f"[{text}]({link})" for text, link in LINK.findall(read(path)) if text[-3:] == ".py" and text not in link]
    for link in links(read(path)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link, re.I):
            if not re.fullmatch(r"(https://[\w-]+(\.[\w-]+)+(:\d+)?(/\S*)?|mailto:\S+@\S+)", link):
                faults.append(f"{link}: not a well-formed https address")
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / unquote(file)).resolve() if file else path
        if not target.is_relative_to(ROOT) or not target.exists():
            faults.append(f"{link}: there is no such file in the repository")
        elif anchor and (target.suffix not in NAMES or anchor not in NAMES[target.suffix](read(target))):
            faults.append(f"{link}: no such heading")
    return faults


def python(path):
    return [body for _, language, body in FENCE.findall(read(path)) if language == "python"]


def test_slugs_are_githubs():
    text = '# Class & `make_pairs`: *why*?\n## Twice\n## Twice\n```sh\n# none\n```\n<a id="1">[1]</a>\n'
    assert anchors(text) == {"class--make_pairs-why", "twice", "twice-1", "1"}
    text = '[a](x.md#b) `[no](no.md)` ![p](p.png) [![b](https://b.org/i.svg)](https://b.org)<img src="q.p">'
    assert set(links(text)) == {"x.md#b", "p.png", "https://b.org", "q.p"}


@pytest.mark.parametrize("path", FILES + NOTEBOOKS, ids=lambda path: path.name)
def test_links_lead_somewhere_and_python_is_python(path):
    assert links(read(path)) and broken(path) == []
    for body in python(path):
        ast.parse(body, filename=path.name)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_finished_and_its_formulas_survive_markdown(page):
    """GitHub unescapes backslash + punctuation and reads raw < as HTML before it looks for a formula."""
    text = read(DOCS / f"{page}.md")
    assert text.startswith("# ") and 20 <= len(text.splitlines()) <= 300 and not UNFINISHED.search(text)
    assert "$" not in MATH.sub("", prose(text)), "an odd $"
    for display, inline in MATH.findall(prose(text)):
        formula = display or inline
        assert not re.search(r"\\[^A-Za-z\s]|<", formula) and formula.count("{") == formula.count("}"), formula
        assert display or formula == formula.strip(), f"GitHub wants no space inside the dollars: {formula}"


def test_the_sidebar_lists_every_page_and_the_readmes_map_every_folder_of_the_package():
    assert sorted(PAGES) == sorted(path.stem for path in DOCS.glob("[!_]*.md"))
    named = re.findall(r"^\| \[(\w+)\]\(gsoc_kd/(\w+)\) \|", read(ROOT / "README.md"), re.M)
    folders = {path.parent.name for path in (ROOT / "gsoc_kd").glob("*/__init__.py")}
    assert sorted(named) == sorted((folder, folder) for folder in folders) and len(folders) == 9


# ---------------------------------------------------------------- names, commands, tables

# {"augment": "gsoc_kd.training.augment", "training": "gsoc_kd.training", ...}; a stage goes before a module of its name
HOMES = {path.stem: path for path in (ROOT / "gsoc_kd").rglob("[!_]*.py")}
HOMES |= {path.parent.name: path.parent for path in (ROOT / "gsoc_kd").glob("*/__init__.py")}
HOMES = {name: ".".join(path.relative_to(ROOT).with_suffix("").parts) for name, path in HOMES.items()}


def mentions(path):
    """Names in backticks or Python: `module.name`, `kd.name`, `gsoc_kd.x` or `file.py`."""
    names = re.findall(r"(?<![\w.])kd\.\w+(?:\.\w+)?", "\n".join(python(path)))
    for _, span in CODE.findall(FENCE.sub("", read(path))):
        names += re.findall(r"^[A-Za-z_][\w.]*\.(?!json|npy|png|gif|md\b)\w+(?=\(|$)", span.strip())
    return [name for name in names if re.match(r"(kd|gsoc_kd)\.|\w+\.py$", name) or name.partition(".")[0] in HOMES]


def exists(name):
    """Whether `distill.PRESETS`, `kd.DistillConfig.preset` or `losses.py` can be reached in the package."""
    if name.endswith(".py"):
        return any(list((ROOT / folder).rglob(name)) for folder in ("gsoc_kd", "benchmarks", "tools", "tests"))
    first, *rest = re.sub(r"^(gsoc_kd|kd)\.", "", name).split(".")
    thing, rest = (importlib.import_module(HOMES[first]), rest) if first in HOMES and rest else (kd, [first, *rest])
    for part in rest:
        if part in getattr(thing, "__dataclass_fields__", {}):  # a field may have no default
            return True
        thing = getattr(thing, part, None)
    return thing is not None


def test_names_in_backticks_exist():
    found = {(path.name, name) for path in FILES[2:] for name in mentions(path)}  # CHANGELOG has names that are gone
    assert ("Home.md", "kd.DistillConfig.preset") in found and len(found) > 50
    assert not exists("distill.nothing") and not exists("kd.nothing") and exists("losses.pixel_loss")
    assert sorted((page, name) for page, name in found if not exists(name)) == []


@functools.cache
def flags(verb):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert main([verb, "--help"]) == 0, f"there is no `gsoc-kd {verb}`"
    return set(re.findall(r"--([\w-]+)", shown.getvalue()))


def test_commands_exist():
    targets, seen = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)), 0
    for path in FILES[:1] + FILES[2:]:
        text = re.sub(r"<!-- (.+?): .*?<!-- end of \1 -->", "", read(path), flags=re.S)  # written by their commands
        for line in re.findall(r"(?:^|`|/)gsoc-kd ([a-z][^`#\n]*)", text, re.M):
            asked, seen = set(re.findall(r"--([\w-]+)", line)) - {"help"}, seen + 1
            assert asked <= flags(line.split()[0]), f"{path.name}: gsoc-kd {line}"
        for script in re.findall(r"python3? ((?:benchmarks|tools|docs|notebooks|examples)/[\w/]+\.py)", text):
            assert (ROOT / script).is_file(), f"{path.name}: {script}"
        missing = set(re.findall(r"(?:^|`)make ([a-z]+)\b", text, re.M)) - targets
        assert not missing, f"{path.name}: make {missing}"
    assert seen > 5


def test_tables_of_fields_are_the_code():
    text = read(DOCS / "Training.md")
    names, rows = re.search(r"^\| field \|(.+) \|\n((?:\|.+\n)+)", text, re.M).groups()
    names, fields = names.split("|"), re.findall(r"^\| `(\w+)` \| (.+) \|$", rows, re.M)
    assert [name.strip() for name in names] == [*PRESETS]
    assert {field for field, _ in fields} >= {field for preset in PRESETS.values() for field in preset}
    for field, cells in fields:
        values = [str(getattr(DistillConfig.preset(name.strip()), field)) for name in names]
        assert cells.split(" | ") == values, f"Training.md should say: | `{field}` | {' | '.join(values)} |"
    weights = re.findall(r"^\| \S+ \| `(\w+)` \| ([\d.]+) \|$", read(DOCS / "Objectives.md"), re.M)
    assert len(weights) == 7
    for field, value in weights:
        assert float(value) == getattr(DistillConfig.preset("distylegan-2022"), field), field


# ---------------------------------------------------------------- blocks that run


@pytest.fixture
def block(tmp_path, monkeypatch):
    """block(word): the one Python block of Black-Box-Distillation that contains it, to be run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda word: "\n".join(body for body in python(DOCS / "Black-Box-Distillation.md") if word in body)


def test_the_pages_own_teacher_runs(block):
    exec(block("def my_teacher"), names := {})
    pairs = names["pairs"]
    assert (len(pairs), pairs.z_dim, pairs.num_classes, pairs.resolution) == (200, 64, 10, 32)
    z = pairs.latents[199, 0].astype(np.float32)
    assert pairs.images[199, 5, 5].tolist() == [int(np.clip(z * 40 + 20 * 9 + 60, 0, 255))] * 3


def test_the_pages_foreign_network_runs(block, monkeypatch):
    class Generator(torch.nn.Module):  # stands for BigGAN's
        def __init__(self, dim_z, n_classes, **_):
            super().__init__()
            self.shared, self.linear = torch.nn.Identity(), torch.nn.Linear(dim_z, 3 * 32 * 32)

        def forward(self, z, y):
            return torch.tanh(self.linear(z) + y[:, None] / 10).view(-1, 3, 32, 32)

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "BigGAN", types.SimpleNamespace(Generator=Generator))
    torch.save(Generator(128, 10).state_dict(), "G_ema.pth")
    code = block("from BigGAN import")
    assert "per_class=5000" in code
    exec(code.replace("per_class=5000", "per_class=2"), names := {})
    pairs, G = names["pairs"], names["G"]
    assert pairs.manifest["teacher"] == "biggan" and not G.training and len(pairs) == 20
    with torch.inference_mode():
        x = G(torch.from_numpy(pairs.latents[:]).float(), torch.from_numpy(pairs.labels))
    assert (pairs.images == to_uint8(x).numpy()).mean() > 0.99


def test_a_folder_of_images_and_noise_gets_in_as_the_page_says(block, tmp_path):
    rng, stored = np.random.default_rng(0), []  # in the order of the folder
    for y, name in enumerate(("cat", "dog", "frog")):
        (tmp_path / "FakeCIFAR10" / name).mkdir(parents=True)
        for i in range(4):
            stored.append((rng.integers(0, 256, (16, 16, 3), np.uint8), y, rng.random((1, 8), np.float32)))
            Image.fromarray(stored[-1][0]).save(f"FakeCIFAR10/{name}/{i:04}.png")
            np.save(f"FakeCIFAR10/{name}/{i:04}.npy", stored[-1][2])
    exec(block("FakeCIFAR10"), {})
    pairs = kd.load_pairs("runs/my-pairs")
    assert (pairs.classes, pairs.manifest["teacher"]) == (("cat", "dog", "frog"), "FakeCIFAR10")
    for row, (image, y, z) in enumerate(stored):
        assert np.array_equal(pairs.images[row], image) and pairs.labels[row] == y
        assert np.array_equal(pairs.latents[row], z[0].astype(np.float16))
    config = DistillConfig(kimg=0.016, tick_kimg=0.016, batch=4, widths=(8, 8, 4), embed_dim=2, disc_width=2)
    student = kd.distill(pairs, config=config, out="runs/student", device="cpu").student
    assert student(torch.randn(3, 8), torch.arange(3)).shape == (3, 3, 16, 16)
