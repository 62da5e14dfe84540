"""The notebooks' common skeleton, as values: this file is the agreement, `make notebooks` executes and cleans them.

# Verb ...                    title, Colab badge (nothing before it)
## Time and machine           "about 20 seconds on two CPU cores"; whether a GPU or CIFAR-10 is needed
## What you will do
## New here: <one idea>
(set-up cell, parameters cell)
## 1. ...  ## 2. ...          the steps, at least three
## What we saw
## On your own                **(a)** ... **(b)** ..., with the link ../docs/<page>.md#answers
## Further reading            with the link ../docs/<page>.md, and the next notebook
"""

import ast
import base64
import importlib.util
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from test_docs import PAGE_OF_NOTEBOOK, links, prose, read

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HEAD = ["Time and machine", "What you will do", "New here"]
TAIL = ["What we saw", "On your own", "Further reading"]
VERBS = {
    "Sample",
    "Look",
    "Ask",
    "Meet",
    "Make",
    "Store",
    "Collect",
    "Build",
    "Distil",
    "Train",
    "Teach",
    "Measure",
    "Score",
    "Evaluate",
    "Judge",
    "Export",
    "Deploy",
}
TAGS = {"parameters", "nbval-check-output", "nbval-skip", "nbval-ignore-output", "nbval-raises-exception"}
PICTURES = {"image/png", "image/jpeg", "image/gif"}
OUTPUTS = PICTURES | {"text/plain", "text/markdown"}
ADDRESS = re.search(
    r'^Repository = "(https://github\.com/[\w.-]+/[\w.-]+)"$',
    (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    re.M,
)[1]
COLAB = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    f"(https://colab.research.google.com/github/{ADDRESS.removeprefix('https://github.com/')}"
    "/blob/main/notebooks/{name})"
)
SETUP = f"""\
import importlib.util
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("gsoc_kd") is None:
    address = "git+{ADDRESS}"
    lacking = ["docstring-parser", "pytorch-fid", "typeguard", "tyro"]  # what else it needs, Colab has
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]  # so Colab's own torch stays
    subprocess.run([*install, address, *lacking], check=True)"""

spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind=None):
    return [cell for cell in nbformat.read(path, as_version=4).cells if kind in (None, cell.cell_type)]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def text_of(output):
    """What a reader sees of an output as text."""
    return output.get("text") or "\n".join(str(v) for k, v in output.get("data", {}).items() if k not in PICTURES)


def sections(path):
    """{heading of level two: text below it}, in order."""
    parts = re.split(r"^## (.+)$", read(path), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def test_the_series_is_complete():
    assert [path.stem for path in NOTEBOOKS] == list(PAGE_OF_NOTEBOOK)


@each
def test_the_title_has_a_verb_and_the_badge_opens_this_notebook(path):
    first = cells(path)[0]
    assert first.cell_type == "markdown"
    title, _, rest = first.source.partition("\n")
    assert re.fullmatch(r"# \w+ .{3,60}", title) and title.split()[1] in VERBS, title
    assert rest.strip().startswith(COLAB.format(name=path.name))
    assert read(path).count("colab-badge.svg") == 1


@each
def test_the_sections_stand_in_order(path):
    found = sections(path)
    names = list(found)
    assert [name.partition(":")[0] for name in names[:3]] == HEAD
    assert re.fullmatch(r"New here: .{5,60}", names[2])
    assert names[-3:] == TAIL
    steps = names[3:-3]
    assert len(steps) >= 3 and [re.match(r"(\d+)\. \S", step)[1] for step in steps] == [
        str(i + 1) for i in range(len(steps))
    ]
    assert all(len(text.split()) >= 15 for name, text in found.items()), "a section without prose"
    assert not re.search(r"^# ", read(path).partition("\n")[2], re.M), "one title only"


@each
def test_time_and_machine_are_said(path):
    text = sections(path)["Time and machine"]
    assert re.search(r"\b\d+ (seconds|minutes?)\b", text) and "two CPU cores" in text
    assert "GPU" in text and "CIFAR-10" in text


@each
def test_exercises_have_their_answers_in_the_wiki(path):
    page = PAGE_OF_NOTEBOOK[path.stem]
    found = sections(path)
    answers = read(ROOT / "docs" / f"{page}.md").partition("## Answers")[2].partition("\n## ")[0]
    letters = re.findall(r"\*\*\(([a-z])\)", found["On your own"])
    assert len(letters) >= 2 and letters == re.findall(r"^\*\*\(([a-z])\)", answers, re.M)
    assert f"../docs/{page}.md#answers" in links(found["On your own"])


@each
def test_further_reading_leads_to_the_wiki_page_and_the_next_notebook(path):
    found = links(sections(path)["Further reading"])
    assert f"../docs/{PAGE_OF_NOTEBOOK[path.stem]}.md" in found
    series = list(PAGE_OF_NOTEBOOK)
    assert [f"{name}.ipynb" for name in series[series.index(path.stem) + 1 :][:1] if f"{name}.ipynb" not in found] == []


@each
def test_there_is_at_least_as_much_prose_as_code(path):
    kinds = [cell.cell_type for cell in cells(path)]
    assert 20 <= len(kinds) <= 45 and set(kinds) == {"markdown", "code"}
    code = "".join(cell.source for cell in cells(path, "code"))
    words = prose(read(path))
    assert len(re.sub(r"\s", "", words)) >= len(re.sub(r"\s", "", code))
    runs = [len(run) for run in re.findall("c+", "".join(kind[0] for kind in kinds))]
    assert max(runs) <= 3 and runs.count(3) <= 1, "say something between the code cells"
    assert not re.search(r"@@|\b(TODO|FIXME|XXX|TBD)\b", words)


@each
def test_code_cells_are_short_and_call_the_package(path):
    for cell in cells(path, "code"):
        lines = cell.source.splitlines()
        assert 1 <= len(lines) <= 25, cell.source
        assert max(map(len, lines)) <= 110, cell.source
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef), "a class belongs in the package"
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 10, f"{node.name} belongs in the package"
            if isinstance(node, ast.ImportFrom):
                assert [alias.name for alias in node.names] != ["*"]


@each
def test_the_set_up_comes_first_then_the_parameters(path):
    first, second, *others = cells(path, "code")
    assert first.source == SETUP
    assert "parameters" in tags(second) and not any("parameters" in tags(cell) for cell in others)
    for node in ast.parse(second.source).body:
        assert isinstance(node, ast.Assign), "the parameters cell holds assignments only"
        assert [target.id.isupper() for target in node.targets] == [True]
        ast.literal_eval(node.value)
    assert all("#" in line for line in second.source.splitlines()), "a comment a parameter"


@each
def test_it_was_executed_from_top_to_bottom_without_an_error(path):
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type in ("stream", "display_data", "execute_result"), cell.source
            assert not re.search(r"Warning:|Traceback", text_of(output)), text_of(output)
            assert "\r" not in text_of(output)
            assert set(output.get("data", {})) <= OUTPUTS


@each
def test_what_ci_compares_is_deterministic_text(path):
    checked = [cell for cell in cells(path, "code") if "nbval-check-output" in tags(cell)]
    assert checked, "tag one cell at least: a count, a shape, a hash"
    for cell in checked:
        shown = "".join(text_of(output) for output in cell.outputs)
        assert shown.strip() and not re.search(r"\d\.\d|\bnan\b|<.* at 0x", shown), f"not deterministic: {shown}"
        assert not any(output.get("name") == "stderr" for output in cell.outputs), "a progress bar never repeats"


@each
def test_pictures_are_there_and_small(path):
    pictures = [
        base64.b64decode(data)
        for cell in cells(path, "code")
        for output in cell.outputs
        for kind, data in output.get("data", {}).items()
        if kind in PICTURES
    ]
    assert len(pictures) >= 3
    assert max(map(len, pictures)) <= 100_000
    assert path.stat().st_size <= 1_000_000


@each
def test_a_static_picture_stands_beside_a_widget(path):
    code = cells(path, "code")
    for index, cell in enumerate(code):
        if re.search(r"\bexplore\(|widgets\.", cell.source):
            near = [output for c in code[index : index + 2] for output in c.outputs]
            assert any(PICTURES & set(output.get("data", {})) for output in near)
            assert any("widget" in text_of(output) for output in cell.outputs), "says that it is one"


@each
def test_nothing_of_one_machine_is_left(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for index, cell in enumerate(notebook.cells):
        assert cell.id == f"cell-{index:02}"
        assert set(cell.metadata) <= {"tags"} and tags(cell) <= TAGS
        shown = cell.source + "".join(text_of(output) for output in cell.get("outputs", []))
        assert not re.search(r"(?<![\w.])/(home|Users|root|work|tmp|var|private)/|[A-Z]:\\\\?Users", shown), shown
        assert "VBox(" not in shown and "widget-view" not in shown


# ---------------------------------------------------------------- notebooks/execute.py


def test_progress_bars_are_left_at_their_last_state():
    assert execute.last_state("a:  10%|#  \ra: 100%|###\nplain\n") == "a: 100%|###\nplain\n"
    assert execute.last_state("one\n\rb: 50%|# \r          \r") == "one"  # a bar that wiped itself
    assert execute.last_state("\rc: 100%|##\r           \r") == ""
    assert execute.last_state("long text\rshort") == "shorttext"  # as a terminal shows it


def test_paths_of_this_machine_are_shortened():
    assert execute.without_paths(f"saved {ROOT}/runs/x, {ROOT}.") == "saved ../runs/x, ..."
    assert execute.without_paths(f"{Path.home()}/.cache/gsoc_kd") == "~/.cache/gsoc_kd"


def noise(side, colours=256):
    """PNG of a picture that no compression makes small, in base64."""
    pixels = np.random.default_rng(0).integers(0, colours, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_clean_takes_out_what_is_of_one_moment():
    v4 = nbformat.v4
    widget = v4.new_output("display_data", {execute.WIDGET: {"model_id": "a1"}, "text/plain": "VBox(children=())"})
    outputs = [
        widget,
        v4.new_output("stream", text="\rx\r \r"),
        v4.new_output("execute_result", {"text/plain": "3"}, execution_count=1, metadata={"isolated": True}),
    ]
    cell = v4.new_code_cell(
        "1 + 2",
        outputs=outputs,
        execution_count=1,
        metadata={"tags": ["parameters"], "execution": {"iopub.execute_input": "now"}},
    )
    book = v4.new_notebook(cells=[v4.new_markdown_cell("# Make one"), cell], metadata={"widgets": {"state": 1}})
    cleaned = execute.clean(book)
    nbformat.validate(cleaned)
    assert cleaned.metadata == execute.METADATA
    assert [c.id for c in cleaned.cells] == ["cell-00", "cell-01"]
    assert cleaned.cells[1].metadata == {"tags": ["parameters"]}
    assert [dict(o.data) for o in cleaned.cells[1].outputs] == [
        {"text/plain": "(a widget: run this cell to use it)"},
        {"text/plain": "3"},
    ]
    assert execute.clean(cleaned) == cleaned


def test_clean_joins_a_progress_bar_that_came_in_pieces():
    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stderr", text="\rread:   0%|"),
        v4.new_output("stream", text="a\n"),
        v4.new_output("stream", text="b\n"),
        v4.new_output("display_data", {"text/plain": "picture"}),
        v4.new_output("stream", name="stderr", text="\rread: 100%|\n"),
        v4.new_output("stream", text="c\n"),
    ]
    book = v4.new_notebook(cells=[v4.new_code_cell("1", outputs=outputs)])
    assert [text_of(o) for o in execute.clean(book).cells[0].outputs] == ["read: 100%|\n", "a\nb\n", "picture", "c\n"]
    book.cells[0].metadata["tags"] = ["nbval-check-output"]
    with pytest.raises(execute.InputError, match="^01, cell 0: tagged nbval-check-output but shows"):
        execute.clean(book, "01")


def test_a_big_picture_gets_fewer_colours_or_is_refused_by_name():
    small = execute.small_png(noise(60), "01, cell 2")
    assert np.array_equal(
        execute.Image.open(io.BytesIO(base64.b64decode(small))).convert("RGB"),
        Image.open(io.BytesIO(base64.b64decode(noise(60)))),
    )  # 11 kB: nothing is lost
    reduced = base64.b64decode(execute.small_png(noise(250), "01, cell 2"))  # 188 kB in full colour
    assert len(reduced) <= 100_000 and Image.open(io.BytesIO(reduced)).size == (250, 250)
    with pytest.raises(execute.InputError, match=r"^01, cell 2: .*picture\.png would take"):
        execute.small_png(noise(500), "01, cell 2")
