"""Executes the notebooks in place and leaves only what every machine would show: `make notebooks`.

    python notebooks/execute.py                       # all of them, in their order
    python notebooks/execute.py 01_dataset 02_teacher

Each is run from top to bottom in its own kernel. Then widgets, metadata and paths of this machine are taken out,
progress bars are left at their last state, and images of more than 100 kB are stored with fewer colours. A cell
that fails, or an image that stays too big, leaves its notebook as it was and ends with exit code 1.
"""

import base64
import io
import os
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
MAX_KB = 100  # an image
SECONDS = 600  # a cell
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


def execute(path):
    """Runs a notebook and writes it back, cleaned. Returns the seconds it took, with the start of its kernel."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    start, there = time.perf_counter(), {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=there).execute()
    seconds = time.perf_counter() - start
    notebook = clean(notebook, path.name)
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
            outputs = [clean_output(output, where) for output in cell.outputs]
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
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = save_png(Image.open(io.BytesIO(base64.b64decode(data))), Path(folder) / where, max_kb=MAX_KB)
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}{os.sep}", "")) from None
        return base64.b64encode(path.read_bytes()).decode()


def without_paths(text):
    """Paths inside the repository relative to the notebook, the user's folder as ~."""
    for folder, short in ((FOLDER.parent, ".."), (Path.home(), "~")):
        text = re.sub(rf"{re.escape(str(folder))}(?=/|\b)", short, text)
    return text


def main(names):
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    stems = [Path(name).stem for name in names] or list(known)
    if missing := [stem for stem in stems if stem not in known]:
        sys.exit(f"there is no notebook {', '.join(missing)}; there are {', '.join(known)}")
    total = 0.0
    for path in map(known.get, stems):
        print(f"{path.name} ...", flush=True)
        try:
            seconds = execute(path)
        except Exception as error:  # nbclient's own are many: failed, dead or slow kernels
            sys.exit(f"{error}\n{path.name} failed ({type(error).__name__}); it was left as it was")
        total += seconds
        print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)
    print(f"{len(stems)} notebooks in {total:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
