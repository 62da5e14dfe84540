"""The notebooks' common skeleton, as values: this file is the agreement, `make notebooks` executes and cleans them.

# Verb ...                    title, Colab badge (nothing before it)
## Time and machine           "about 20 seconds on two CPU cores"; whether a GPU or CIFAR-10 is needed
## What you will do           the contents: a line for each step, all with links (#1.-Ask-the-teacher) or none
## New here: <one idea>
(set-up cell, parameters cell)
## 1. ...  ## 2. ...          the steps, at least three
## What we saw
## On your own                **(a)** ... **(b)** ..., with the link ../docs/<page>.md#answers
## Further reading            with the link ../docs/<page>.md, and the next notebook
"""

import ast
import base64
import io
import re
from pathlib import Path

import execute
import nbformat
import numpy as np
import pytest
from nbformat import v4
from PIL import Image
from test_docs import NOTEBOOKS, PAGE_OF_NOTEBOOK, ROOT, UNFINISHED, links, prose, read
from test_packaging import ADDRESS

HEAD, TAIL = ["Time and machine", "What you will do", "New here"], ["What we saw", "On your own", "Further reading"]
TAGS = {"parameters", "nbval-check-output", "nbval-skip", "nbval-ignore-output", "nbval-raises-exception"}
IMAGES = {"image/png", "image/jpeg", "image/gif"}
OUTPUTS = IMAGES | {"text/plain", "text/markdown"}
HOME = r"(?<![\w.])/(home|Users|root|work|tmp|var|private)/|[A-Z]:\\\\?Users"  # a path of one machine
COLAB = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    f"(https://colab.research.google.com/github/{ADDRESS}/blob/main/notebooks/{{name}})"
)
SETUP = f"""\
import importlib.util
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("gsoc_kd") is None:
    address = "git+https://github.com/{ADDRESS}"
    lacking = ["docstring-parser", "pytorch-fid", "typeguard", "tyro"]  # what else it needs, Colab has
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]  # so Colab's own torch stays
    subprocess.run([*install, address, *lacking], check=True)"""
DEPLOY = 'lacking += ["nncf>=3,<4", "ninja", "openvino>=2026,<2027", "openvino-telemetry"]'
SETUP_06 = SETUP.replace('"gsoc_kd"', '"nncf"').replace("    install =", f"    {DEPLOY}\n    install =")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind=None):
    return [cell for cell in nbformat.read(path, as_version=4).cells if kind in (None, cell.cell_type)]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def images(outputs):
    """The bytes of the images among a cell's outputs."""
    data = [item for output in outputs for item in output.get("data", {}).items()]
    return [base64.b64decode(value) for kind, value in data if kind in IMAGES]


def text_of(output):
    """What a reader sees of an output as text."""
    return output.get("text") or "\n".join(str(v) for k, v in output.get("data", {}).items() if k not in IMAGES)


@each
def test_the_sections_stand_in_order_and_say_what_they_must(path):
    page, series = PAGE_OF_NOTEBOOK[path.stem], list(PAGE_OF_NOTEBOOK)
    title, _, rest = cells(path)[0].source.partition("\n")
    assert re.fullmatch(r"# \w+ .{3,60}", title) and not re.search("^# ", rest, re.M)
    assert rest.strip().startswith(COLAB.format(name=path.name)) and read(path).count("colab-badge.svg") == 1
    parts = re.split(r"^## (.+)$", read(path), flags=re.M)
    names, found = parts[1::2], dict(zip(parts[1::2], parts[2::2]))
    assert [name.partition(":")[0] for name in names[:3]] == HEAD and names[-3:] == TAIL
    steps = [int(re.match(r"(\d+)\. \S", name)[1]) for name in names[3:-3]]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 3
    assert [name for name, text in found.items() if len(text.split()) < 15] == [], "a section without prose"
    machine, own, reading = (found[name] for name in ("Time and machine", "On your own", "Further reading"))
    assert re.search(r"\b\d+ (seconds|minutes?)\b", machine)
    assert all(word in machine for word in ("two CPU cores", "GPU", "CIFAR-10"))
    jumps = [link for link in links(found["What you will do"]) if link.startswith("#")]
    assert jumps in ([], [f"#{name.replace(' ', '-')}" for name in names[3:-3]])
    text = read(ROOT / "docs" / f"{page}.md")
    assert f"../notebooks/{path.name}" in links(text)
    answers = text.partition("## Answers")[2].partition("\n## ")[0]
    letters = re.findall(r"\*\*\(([a-z])\)", own)
    assert len(letters) >= 2 and letters == re.findall(r"^\*\*\(([a-z])\)", answers, re.M)
    assert f"../docs/{page}.md#answers" in links(own) and f"../docs/{page}.md" in links(reading)
    assert {f"{name}.ipynb" for name in series[series.index(path.stem) + 1 :][:1]} <= set(links(reading))


@each
def test_there_is_as_much_prose_as_code_and_code_cells_are_short(path):
    kinds, code = [cell.cell_type for cell in cells(path)], [cell.source for cell in cells(path, "code")]
    assert 20 <= len(kinds) <= 45 and not UNFINISHED.search(read(path))
    assert len("".join(prose(read(path)).split())) >= len("".join("".join(code).split()))
    runs = [len(run) for run in re.findall("c+", "".join(kind[0] for kind in kinds))]
    assert max(runs) <= 3 and runs.count(3) <= 1, "say something between the code cells"
    for source in code:
        assert 1 <= len(source.splitlines()) <= 25 and max(map(len, source.splitlines())) <= 120, source
        kinds = [type(node) for node in ast.walk(ast.parse(source))]
        assert ast.ClassDef not in kinds, "a class belongs in the package"
    first, second = cells(path, "code")[:2]
    assert first.source == (SETUP_06 if path.stem.startswith("06") else SETUP)
    assert [cell for cell in cells(path) if "parameters" in tags(cell)] == [second]
    for node, line in zip(ast.parse(second.source).body, second.source.splitlines(), strict=True):
        assert isinstance(node, ast.Assign) and node.targets[0].id.isupper() and "#" in line, "a comment a parameter"
        ast.literal_eval(node.value)


@each
def test_it_was_executed_from_top_to_bottom_and_nothing_of_one_machine_is_left(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor, notebook.metadata) == (4, 5, execute.METADATA)
    code, size = cells(path, "code"), path.stat().st_size
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = [image for cell in code for image in images(cell.outputs)]
    assert len(shown) >= 3 and max(map(len, shown)) <= 100_000 and size <= 1_000_000
    for index, cell in enumerate(notebook.cells):
        assert cell.id == f"cell-{index:02}" and set(cell.metadata) <= {"tags"} and tags(cell) <= TAGS
        text = "\n".join(text_of(output) for output in cell.get("outputs", []))
        assert not re.search(HOME, cell.source + text) and not re.search("Warning:|Traceback|\r|VBox|widget-view", text)
        for output in cell.get("outputs", []):
            assert output.output_type in ("stream", "display_data", "execute_result"), cell.source
            assert set(output.get("data", {})) <= OUTPUTS


@each
def test_what_ci_compares_is_deterministic_and_a_static_image_stands_beside_a_widget(path):
    code = cells(path, "code")
    checked = [cell for cell in code if "nbval-check-output" in tags(cell)]
    assert checked, "tag one cell at least: a count, a shape, a hash"
    for cell in checked:
        shown = "".join(text_of(output) for output in cell.outputs)
        assert shown.strip() and not re.search(r"\d\.\d|\bnan\b|<.* at 0x", shown), f"not deterministic: {shown}"
        assert not any(output.get("name") == "stderr" for output in cell.outputs), "a progress bar never repeats"
    for index, cell in enumerate(code):
        if re.search(r"\bexplore\w*\(|widgets\.", cell.source):
            assert images(cell.outputs + code[index + 1].outputs)
            assert any("widget" in text_of(output) for output in cell.outputs), "says that it is one"


# ---------------------------------------------------------------- notebooks/execute.py


def streams(*pieces):
    """The outputs of a cell as a kernel sends them: (name, text), or text of an image."""
    return [v4.new_output("stream", name=piece[0], text=piece[1]) if isinstance(piece, tuple) else
            v4.new_output("display_data", {"text/plain": piece}) for piece in pieces]  # fmt: skip


@pytest.mark.parametrize(
    "pieces, left",
    [
        ([("stderr", "a:  10%|#  \ra: 100%|###\nplain\n")], ["a: 100%|###\nplain\n"]),
        ([("stdout", "one\n\rb: 50%|# \r          \r")], ["one\n"]),  # a bar that wiped itself
        ([("stderr", "\rc: 100%|##\r           \r")], []),
        ([("stderr", "\rread:   0%|"), ("stdout", "a\n"), ("stdout", "b\n"), "image", ("stderr", "\rread: 100%|\n"),
          ("stdout", "c\n")], ["read: 100%|\n", "a\nb\n", "image", "c\n"]),  # came in pieces
        ([("stdout", f"saved {ROOT}/runs/x, {ROOT}, {Path.home()}/.cache\n")], ["saved ../runs/x, .., ~/.cache\n"]),
    ],
)  # fmt: skip
def test_clean_leaves_progress_bars_at_their_last_state_and_no_path_of_this_machine(pieces, left):
    book = v4.new_notebook(cells=[v4.new_code_cell("1", outputs=streams(*pieces))])
    assert [text_of(output) for output in execute.clean(book).cells[0].outputs] == left
    book.cells[0].metadata["tags"] = ["nbval-check-output"]
    if left and left[0].endswith("%|\n"):
        with pytest.raises(execute.InputError, match="^01, cell 0: tagged nbval-check-output but shows"):
            execute.clean(book, "01")


def test_clean_takes_out_what_is_of_one_moment():
    outputs = [
        v4.new_output("display_data", {execute.WIDGET: {"model_id": "a1"}, "text/plain": "VBox(children=())"}),
        v4.new_output("execute_result", {"text/plain": "3", "text/html": "3"}, execution_count=1, metadata={"x": 1}),
    ]
    metadata = {"tags": ["parameters"], "execution": {"iopub.execute_input": "now"}}
    cell = v4.new_code_cell("1 + 2", outputs=outputs, execution_count=1, metadata=metadata)
    text = v4.new_markdown_cell("# Make one", metadata={"collapsed": True})
    cleaned = execute.clean(v4.new_notebook(cells=[text, cell], metadata={"widgets": {"state": 1}}))
    nbformat.validate(cleaned)
    assert cleaned.metadata == execute.METADATA
    assert [(c.id, c.metadata) for c in cleaned.cells] == [("cell-00", {}), ("cell-01", {"tags": ["parameters"]})]
    shown = [(output.data, output.metadata) for output in cleaned.cells[1].outputs]
    assert shown == [({"text/plain": text}, {}) for text in ("(a widget: run this cell to use it)", "3")]
    assert execute.clean(cleaned) == cleaned


def noise(side):
    """PNG of an image that no compression makes small, in base64."""
    pixels, buffer = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_big_image_gets_fewer_colours_or_is_refused_by_name():
    small, reduced = (execute.small_png(noise(side), "01, cell 2") for side in (60, 250))  # 11 and 188 kB
    opened = [Image.open(io.BytesIO(base64.b64decode(data))) for data in (noise(60), small, reduced)]
    assert np.array_equal(*(image.convert("RGB") for image in opened[:2]))
    assert len(reduced) * 3 / 4 <= 100_000 and opened[2].size == (250, 250)
    with pytest.raises(execute.InputError, match=r"^01, cell 2 would take"):
        execute.small_png(noise(500), "01, cell 2")
