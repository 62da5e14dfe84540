"""docs/ is the wiki: every link, anchor, page and name in it must be true."""

import ast
import dataclasses
import importlib
import inspect
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
from gsoc_kd.data.images import to_uint8

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    "Home",
    "Timeline",
    "Conditional-Image-Generation",
    "Knowledge-Distillation-Framework",
    "Problem-Statement",
    "Black-Box-Distillation",
    "Objectives",
    "CIFAR10",
    "Teacher-Network",
    "Student-Network",
    "Getting-Started",
    "Training",
    "Evaluation",
    "Deployment",
    "Results",
    "Troubleshooting",
    "Glossary",
]
OVERVIEW = {"Home", "Timeline", "Troubleshooting", "Glossary"}  # they need not point at a module or notebook
PAGE_OF_NOTEBOOK = {
    "00_sample_the_student": "Getting-Started",
    "01_dataset": "CIFAR10",
    "02_teacher": "Teacher-Network",
    "03_black_box_dataset": "Black-Box-Distillation",
    "04_distillation": "Training",
    "05_evaluation": "Evaluation",
    "06_deployment": "Deployment",
}
FILES = [ROOT / "README.md", DOCS / "_Sidebar.md", *(DOCS / f"{page}.md" for page in PAGES)]
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in PAGE_OF_NOTEBOOK]

FENCE = re.compile(r"^(```+|~~~+)(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.M | re.S)
CODE = re.compile(r"(`+)(.+?)\1", re.S)
# a link's text may hold a badge, itself a link
NESTED = r"\[(?:[^\[\]]|\[[^\[\]]*\](?:\([^()\s]*\))?)*\]"
LINK = re.compile(NESTED + r"\(\s*<?([^()\s<>]*(?:\([^()\s]*\))?[^()\s<>]*)>?(?:\s+\"[^\"]*\")?\s*\)")
HTML_LINK = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"")
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.S)


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
    return LINK.findall(text) + HTML_LINK.findall(text)


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


def broken(path):
    """One line for each link of a page that leads nowhere."""
    faults = []
    for link in links(read(path)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link, re.I):
            if not re.fullmatch(r"(https://[\w-]+(\.[\w-]+)+(:\d+)?(/\S*)?|mailto:\S+@\S+)", link):
                faults.append(f"{link}: not a well-formed https address")
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / unquote(file)).resolve() if file else path
        if not target.is_relative_to(ROOT):
            faults.append(f"{link}: leaves the repository")
        elif not target.exists():
            faults.append(f"{link}: there is no such file")
        elif anchor and target.suffix != ".md":
            faults.append(f"{link}: only Markdown pages have anchors")
        elif anchor and anchor not in anchors(read(target)):
            faults.append(f"{link}: no such heading; there are {sorted(anchors(read(target)))}")
    return faults


def test_slugs_are_githubs():
    text = '# Class & `make_pairs`: *why*?\n## Twice\n## Twice\n```sh\n# none\n```\n<a id="1">[1]</a>\n'
    assert anchors(text) == {"class--make_pairs-why", "twice", "twice-1", "1"}
    text = '[a](x.md#b) `[no](no.md)` ![p](p.png) [![b](https://b.org/i.svg)](https://b.org)<img src="q.p">'
    assert set(links(text)) == {"x.md#b", "p.png", "https://b.org", "q.p"}


@pytest.mark.parametrize("path", FILES + NOTEBOOKS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert links(read(path)), f"{path.name} links nothing"
    assert not broken(path)


def test_the_sidebar_lists_every_page_in_order():
    listed = [link.removesuffix(".md") for link in links(read(DOCS / "_Sidebar.md"))]
    assert listed == PAGES
    assert {path.stem for path in DOCS.glob("*.md")} == {"_Sidebar", *PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_finished_and_has_its_links(page):
    text = read(DOCS / f"{page}.md")
    assert "@@" not in text, "a marker was left"
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b", text)
    assert text.startswith("# ") and 20 <= len(text.splitlines()) <= 250
    found = links(text)
    neighbours = {link.partition("#")[0] for link in found if re.fullmatch(r"[\w-]+\.md(#.*)?", link)}
    assert len(neighbours) >= 2, "a page names its neighbours"
    if page not in OVERVIEW:
        assert any(link.startswith(("../gsoc_kd/", "../notebooks/")) for link in found)


def test_the_readme_is_finished():
    assert "@@" not in read(ROOT / "README.md"), "a marker was left"


@pytest.mark.parametrize("notebook, page", PAGE_OF_NOTEBOOK.items())
def test_page_and_notebook_link_each_other(notebook, page):
    text = read(DOCS / f"{page}.md")
    assert f"../notebooks/{notebook}.ipynb" in links(text)
    assert "answers" in anchors(text)
    assert any(f"docs/{page}" in link for link in links(read(ROOT / "notebooks" / f"{notebook}.ipynb")))


@pytest.mark.parametrize("page", PAGES)
def test_formulas_survive_markdown(page):
    """GitHub unescapes backslash + punctuation and reads raw < as HTML before it looks for a formula."""
    text = prose(read(DOCS / f"{page}.md"))
    assert "$" not in MATH.sub("", text), "an odd $"
    for display, inline in MATH.findall(text):
        formula = display or inline
        assert not re.search(r"\\[^A-Za-z\s]|<", formula), formula
        assert formula.count("{") == formula.count("}"), formula
        assert display or formula == formula.strip(), f"GitHub wants no space inside the dollars: {formula}"


def mentions():
    """(page, name) for each `module.name`, `kd.name`, `gsoc_kd.x` or `file.py` in backticks or Python."""
    modules = {path.stem for path in (ROOT / "gsoc_kd").glob("*.py")} - {"__init__"}
    found = set()
    for path in FILES:
        text = read(path)
        blocks = "\n".join(body for _, language, body in FENCE.findall(text) if language == "python")
        names = re.findall(r"(?<![\w.])kd\.\w+(?:\.\w+)?", blocks)
        for _, span in CODE.findall(FENCE.sub("", text)):
            names += re.findall(r"^[A-Za-z_][\w.]*(?=\(|$)", span.strip())
        for name in names:
            first, *rest = name.removeprefix("gsoc_kd.").removeprefix("kd.").split(".")
            public = name.startswith(("gsoc_kd.", "kd."))
            if rest == ["py"]:
                found.add((path.name, f"{first}.py"))
            elif public or first in modules and rest and rest != ["npy"]:
                found.add((path.name, ".".join([first, *rest])))
    return sorted(found)


def exists(name):
    """Whether `distill.PRESETS`, `DistillConfig.preset` or `load_teacher` can be reached in the package."""
    first, *rest = name.split(".")
    if rest and (ROOT / "gsoc_kd" / f"{first}.py").exists():
        thing = importlib.import_module(f"gsoc_kd.{first}")
    else:
        thing, rest = importlib.import_module("gsoc_kd"), [first, *rest]
    for part in rest:
        if part in getattr(thing, "__dataclass_fields__", {}):  # a field may have no default
            return True
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True


def test_names_in_backticks_exist():
    found = mentions()
    assert ("Training.md", "images.to_uint8") in found and ("Home.md", "DistillConfig.preset") in found
    assert not exists("distill.nothing") and not exists("nothing")
    files = {path.name for folder in ("gsoc_kd", "tests") for path in (ROOT / folder).glob("*.py")}
    assert not [(page, name) for page, name in found if name not in files and not exists(name)]


def test_python_blocks_are_python():
    for path in FILES:
        for _, language, body in FENCE.findall(read(path)):
            if language in ("python", "py"):
                ast.parse(body, filename=path.name)


def commands():
    """(page, verb, flags) for each `gsoc-kd VERB --flag ...` in code."""
    for path in FILES:
        for line in re.findall(r"^(?:\.venv/bin/)?gsoc-kd .*$|`gsoc-kd [^`]*`", read(path), re.M):
            words = line.strip("`").partition("#")[0].split()[1:]
            if words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
                yield path.name, words[0], [w[2:].partition("=")[0] for w in words if w.startswith("--")]


def test_commands_exist():
    from gsoc_kd.cli import CONFIGS, VERBS

    found = list(commands())
    assert len(found) > 5
    for page, verb, flags in found:
        assert verb in VERBS, f"{page}: gsoc-kd {verb}"
        module = importlib.import_module(f"gsoc_kd.{VERBS[verb][0]}")
        function = getattr(module, VERBS[verb][1])
        known = {"help", "out", "psi", "half", "device", "size", *inspect.signature(function).parameters}
        if verb in CONFIGS:
            home, name = CONFIGS[verb]
            config = getattr(importlib.import_module(f"gsoc_kd.{home}"), name)
            known |= {"preset", *(field.name for field in dataclasses.fields(config))}
        unknown = [flag for flag in flags if flag.replace("-", "_") not in known]
        assert not unknown, f"{page}: gsoc-kd {verb} has no {unknown}"


def rows(page, first):
    """The table of a page whose first heading is `first`: [[cell, ...], ...] without its two top lines."""
    lines = read(DOCS / f"{page}.md").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    cells = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return cells[0], cells[2:]


def test_the_table_of_presets_is_the_code():
    from gsoc_kd.training.distill import PRESETS, DistillConfig

    (_, *names), fields = rows("Training", "field")
    assert names == list(PRESETS)
    for field, *cells in fields:
        values = [str(getattr(DistillConfig.preset(name), field)) for name in names]
        assert cells == values, f"Training.md should say: | `{field}` | {' | '.join(values)} |"


def test_the_weights_of_2022_are_the_code():
    from gsoc_kd.training.distill import DistillConfig

    config = DistillConfig.preset("distylegan-2022")
    for _, field, value in rows("Objectives", "symbol")[1]:
        assert float(value) == getattr(config, field)


def blocks(page, word):
    """The Python blocks of a page that contain `word`."""
    return [
        body for _, language, body in FENCE.findall(read(DOCS / f"{page}.md")) if language == "python" and word in body
    ]


def test_the_pages_own_teacher_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("Black-Box-Distillation", "def my_teacher")
    names = {}
    exec(block, names)
    pairs = names["pairs"]
    assert (len(pairs), pairs.z_dim, pairs.num_classes, pairs.resolution) == (200, 64, 10, 32)
    z = pairs.latents[199, 0].astype(np.float32)
    assert pairs.images[199, 5, 5].tolist() == [int(np.clip(z * 40 + 20 * 9 + 60, 0, 255))] * 3


def test_the_pages_foreign_network_runs(tmp_path, monkeypatch):
    class Generator(torch.nn.Module):  # stands for BigGAN's
        def __init__(self, dim_z, n_classes, **_):
            super().__init__()
            self.shared, self.linear = torch.nn.Identity(), torch.nn.Linear(dim_z, 3 * 32 * 32)

        def forward(self, z, y):
            return torch.tanh(self.linear(z) + y[:, None] / 10).view(-1, 3, 32, 32)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "BigGAN", types.SimpleNamespace(Generator=Generator))
    torch.save(Generator(128, 10).state_dict(), "G_ema.pth")
    (block,) = blocks("Black-Box-Distillation", "from BigGAN import")
    assert "per_class=5000" in block
    names = {}
    exec(block.replace("per_class=5000", "per_class=2"), names)
    pairs, G = names["pairs"], names["G"]
    assert pairs.manifest["teacher"] == "biggan" and not G.training and len(pairs) == 20
    with torch.inference_mode():
        x = G(torch.from_numpy(pairs.latents[:]).float(), torch.from_numpy(pairs.labels))
    assert (pairs.images == to_uint8(x).numpy()).mean() > 0.99


def test_a_folder_of_pictures_and_noise_gets_in_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    triples = []  # in the order of the folder
    for y, name in enumerate(("cat", "dog", "frog")):
        (tmp_path / "FakeCIFAR10" / name).mkdir(parents=True)
        for i in range(4):
            triples.append((rng.integers(0, 256, (16, 16, 3), np.uint8), y, rng.random((1, 8), np.float32)))
            Image.fromarray(triples[-1][0]).save(f"FakeCIFAR10/{name}/{i:04}.png")
            np.save(f"FakeCIFAR10/{name}/{i:04}.npy", triples[-1][2])
    (block,) = blocks("Black-Box-Distillation", "FakeCIFAR10")
    exec(block, {})
    pairs = kd.load_pairs("runs/my-triples")
    assert (pairs.classes, pairs.manifest["teacher"]) == (("cat", "dog", "frog"), "FakeCIFAR10")
    for row, (picture, y, z) in enumerate(triples):
        assert np.array_equal(pairs.images[row], picture) and pairs.labels[row] == y
        assert np.array_equal(pairs.latents[row], z[0].astype(np.float16))
    config = kd.DistillConfig(kimg=0.016, tick_kimg=0.016, batch=4, widths=(8, 8, 4), embed_dim=2, disc_width=2)
    run = kd.distill(pairs, config=config, out="runs/student", device="cpu")
    assert run.student(torch.randn(3, 8), torch.arange(3)).shape == (3, 3, 16, 16)
