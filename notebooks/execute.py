"""Executes the notebooks in place, all or those named: python notebooks/execute.py [01_dataset 02_teacher ...]

Then widgets, metadata and paths of this machine are taken out, progress bars are left at their last state, and big
images get fewer colours. A cell that fails, or an image that stays too big, leaves its notebook as it was: exit code 1.
"""

import base64
import contextlib
import io
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image

from gsoc_kd.core.figures import save_png
from gsoc_kd.core.files import InputError, replacing_file

FOLDER = Path(__file__).resolve().parent
MAX_KB, SECONDS = 100, 600  # of an image, of a cell
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}  # fmt: skip


def execute(path):
    """Runs a notebook and writes it back, cleaned. Returns the seconds it took, with the start of its kernel."""
    notebook, start = nbformat.read(path, as_version=4), time.perf_counter()
    there = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=there).execute()
    seconds, notebook = time.perf_counter() - start, clean(notebook, path.name)
    nbformat.validate(notebook)
    with replacing_file(path) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return seconds


def clean(notebook, name="notebook"):
    """The notebook without anything of this machine or this moment; InputError names a cell that cannot be."""
    notebook.metadata, notebook.nbformat, notebook.nbformat_minor = nbformat.from_dict(METADATA), 4, 5
    for index, cell in enumerate(notebook.cells):
        cell["id"], where = f"cell-{index:02}", f"{name}, cell {index}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type == "code":
            streams = {output.get("name") for output in cell.outputs}
            if "stderr" in streams and "nbval-check-output" in cell.metadata.get("tags", []):
                why = "tagged nbval-check-output but shows a progress bar or a warning, which never repeat"
                raise InputError(f"{where}: {why}; print what is to be checked in a cell of its own")
            cell.outputs.sort(key=lambda output: output.get("name") != "stderr")  # the pieces of a bar become one
            CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, index)
            outputs = (clean_output(output, where) for output in cell.outputs)
            cell.outputs = [output for output in outputs if output.get("data") or output.get("text")]
    return notebook


def clean_output(output, where):
    if output.output_type == "stream":
        text = re.sub(r"[ \t\r]+$", "", without_paths(output.text), flags=re.M)  # of bars that wiped themselves
        output.text = text if text.strip() else ""
        return output
    data = {"text/plain": "(a widget: run this cell to use it)"} if WIDGET in output.data else dict(output.data)
    data.pop("text/html", None)
    if "image/png" in data:
        data.pop("image/jpeg", None)
        data["image/png"] = small_png(data["image/png"], where)
    for kind, value in data.items():
        if kind in ("text/plain", "text/markdown"):
            data[kind] = without_paths(value)
        elif kind.startswith("image/") and (size := len(value) * 3 / 4000) > MAX_KB:
            raise InputError(f"{where}: an image ({kind}) of {size:.0f} kB, more than {MAX_KB} kB")
    output.update(data=data, metadata={})
    return output


def small_png(data, where):
    """A PNG in base64 that is at most MAX_KB big, with fewer colours if need be."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # so that an error names the cell alone
        path = save_png(Image.open(io.BytesIO(base64.b64decode(data))), where, MAX_KB)
        return base64.b64encode(path.read_bytes()).decode()


def without_paths(text):
    """Paths inside the repository relative to the notebook, the user's folder as ~."""
    for folder, short in ((FOLDER.parent, ".."), (Path.home(), "~")):
        text = re.sub(rf"{re.escape(str(folder))}(?=/|\b)", short, text)
    return text


def main(names):
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    stems = [Path(name).stem for name in names] or list(known)
    if missing := set(stems) - set(known):
        sys.exit(f"there is no notebook {', '.join(missing)}; there are {', '.join(known)}")
    for path in map(known.get, stems):
        print(f"{path.name} ...", flush=True)
        try:
            print(f"{path.name}: {execute(path):.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)
        except Exception as error:  # nbclient's own are many: failed, dead or slow kernels
            sys.exit(f"{error}\n{path.name} failed ({type(error).__name__}); it was left as it was")


if __name__ == "__main__":
    main(sys.argv[1:])
