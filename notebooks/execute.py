"""Executes the notebooks in place and leaves only what every machine would show: `make notebooks`.

    python notebooks/execute.py                       # all of them, in their order
    python notebooks/execute.py 01_dataset 02_teacher

Each is run from top to bottom in this environment, in its own kernel. Then widgets, volatile metadata and the paths
of this machine are taken out, progress bars are left at their last state, and pictures of more than 100 kB are
stored with fewer colours. A cell that fails, or a picture that stays too big, leaves its notebook as it was and ends
with exit code 1.
"""

import base64
import io
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from PIL import Image

from gsoc_kd.core.figures import save_png
from gsoc_kd.core.files import InputError, replacing_file

FOLDER = Path(__file__).resolve().parent
MAX_KB = 100  # a picture
SECONDS = 600  # a cell
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path):
    """Runs a notebook and writes it back, cleaned. Returns the seconds it took, with the start of its kernel."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    start = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    seconds = time.perf_counter() - start
    notebook = clean(notebook, path.name)
    nbformat.validate(notebook)
    with replacing_file(path) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return seconds


def clean(notebook, name="notebook"):
    """The notebook without anything of this machine or this moment; InputError names a cell that cannot be."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:02}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type == "code":
            checked = "nbval-check-output" in cell.metadata.get("tags", [])
            if checked and any(output.get("name") == "stderr" for output in cell.outputs):
                raise InputError(
                    f"{name}, cell {index}: tagged nbval-check-output but shows a progress bar or a warning, "
                    f"which never repeat; print what is to be checked in a cell of its own"
                )
            outputs = [clean_output(output, f"{name}, cell {index}") for output in merge_streams(cell.outputs)]
            cell.outputs = [output for output in outputs if output.get("data") or output.get("text")]
    return notebook


def merge_streams(outputs):
    """Pieces of one stream made one again: stderr over the whole cell (a progress bar), stdout where nothing is between."""
    merged = []
    for output in outputs:
        kind = output.get("name")
        earlier = merged[-1:] if kind == "stdout" else merged if kind == "stderr" else []
        same = next((o for o in earlier if o.get("name") == kind), None)
        if same is None:
            merged.append(output)
        else:
            same.text += output.text
    return merged


def clean_output(output, where):
    output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
    if output.output_type == "stream":
        output.text = without_paths(last_state(output.text))
        return output
    data = output.get("data", {})
    if WIDGET in data:
        data = {"text/plain": "(a widget: run this cell to use it)"}
    data.pop("text/html", None)
    if "image/jpeg" in data and "image/png" in data:
        del data["image/jpeg"]
    for kind in list(data):
        if kind in ("text/plain", "text/markdown"):
            data[kind] = without_paths(data[kind])
        elif kind == "image/png":
            data[kind] = small_png(data[kind], where)
        elif kind.startswith("image/") and len(data[kind]) * 3 / 4 > MAX_KB * 1000:
            raise InputError(
                f"{where}: a picture ({kind}) of {len(data[kind]) * 3 / 4000:.0f} kB, more than {MAX_KB} kB"
            )
    output.data = data
    return output


def small_png(data, where):
    """A PNG in base64 that is at most MAX_KB big, with fewer colours if need be."""
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = save_png(picture, Path(folder) / "picture.png", max_kb=MAX_KB)
        except InputError as error:
            raise InputError(f"{where}: {str(error).replace(folder, '')}") from None
        return base64.b64encode(path.read_bytes()).decode()


def last_state(text):
    """What a terminal would show in the end: \\r goes back to the start of a line. Progress bars shrink to one line."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        if shown.strip() or "\r" not in line:
            lines.append(shown.rstrip())
    joined = "\n".join(lines)
    return joined if joined.strip() else ""


def without_paths(text):
    """Paths inside the repository relative to the notebook, the user's folder as ~."""
    text = re.sub(rf"{re.escape(str(FOLDER.parent))}(?=/|\b)", "..", text)
    return re.sub(rf"{re.escape(str(Path.home()))}(?=/|\b)", "~", text)


def main(names):
    paths = sorted(FOLDER.glob("*.ipynb"))
    if names:
        known = {path.stem: path for path in paths}
        stems = [Path(name).stem for name in names]
        if missing := [stem for stem in stems if stem not in known]:
            sys.exit(f"there is no notebook {', '.join(missing)}; there are {', '.join(known)}")
        paths = [known[stem] for stem in stems]
    total = 0.0
    for path in paths:
        print(f"{path.name} ...", flush=True)
        try:
            seconds = execute(path)
        except InputError as error:
            sys.exit(f"{error}; the notebook was left as it was")
        except Exception as error:  # nbclient's own errors are many: failed, dead or slow kernels
            sys.exit(f"{error}\n{path.name} failed ({type(error).__name__}); it was left as it was")
        total += seconds
        print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)
    print(f"{len(paths)} notebooks in {total:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
