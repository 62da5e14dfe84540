"""Colab, as far as it can be had here: its ipywidgets and IPython, and the set-up cell in an environment like its.

Colab (August 2026) has ipywidgets 7.7.1, IPython 7.34, ipykernel 6.17.1 and all that the package needs but tyro and
pytorch-fid. `make` puts those versions into .venv/colab (tests/colab-requirements.txt).
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from gsoc_kd.teachers.load import load_student, load_teacher
from nbclient import NotebookClient
from test_notebooks import ADDRESS, SETUP

from gsoc_kd.core.figures import grid, png_bytes
from gsoc_kd.explorer.points import picture

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = {"ipywidgets": "7.7.1", "ipython": "7.34.0", "ipykernel": "6.17.1"}
MISSING = ("tyro", "pytorch-fid")  # on Colab, of what the package needs
PRESENT = {
    "accelerate",
    "docstring-parser",
    "ipywidgets",
    "matplotlib",
    "numpy",
    "pillow",
    "safetensors",
    "torch",
    "torchvision",
    "tqdm",
}  # pip-freeze.txt of github.com/googlecolab/backend-info, 19 August 2026
FOLDER = Path(sys.prefix) / "colab"


@pytest.fixture(scope="module")
def colab():
    """The folder with Colab's widgets."""
    found = {dist.name.lower(): dist.version for dist in metadata.distributions(path=[str(FOLDER)])}
    if not VERSIONS.items() <= found.items():
        pytest.skip(
            f"Colab's ipywidgets 7.7 are not in {FOLDER}: left out are the explorer's tests with them and "
            "the test of the set-up cell. `make venv` puts them there, or: python -m pip install --no-deps "
            f"--target {FOLDER} -r tests/colab-requirements.txt"
        )
    return FOLDER


def test_the_requirements_are_colabs():
    lines = (ROOT / "tests" / "colab-requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert VERSIONS.items() <= pins.items()


def test_the_set_up_names_every_dependency_that_colab_lacks():
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", listed, re.M | re.S)[1]
    needed = set(re.findall(r'^    "([\w-]+)', listed, re.M))
    assert needed == PRESENT | {*MISSING}
    assert all(f'"{name}"' in SETUP for name in MISSING)


def test_the_explorers_tests_pass_with_colabs_widgets(colab, tmp_path):
    code = (
        "import ipywidgets, IPython, pytest, sys; print(ipywidgets.__version__, IPython.__version__); "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "-q",
            "-p",
            "no:nbval",
            "-p",
            "no:cacheprovider",
            str(ROOT / "tests" / "test_explore.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{colab}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("7.7.1 7.34.0\n")
    assert re.search(r"\n\d+ passed in ", done.stdout), "none left out"


# ---------------------------------------------------------------- the set-up cell


def project(name):
    """The distribution of a *.dist-info folder's name, else None."""
    match = re.match(r"(.+?)-\d[^-]*\.(dist|egg)-info$", name)
    return match and re.sub(r"[-_.]+", "-", match[1]).lower()


def like_colab(colab, packages):
    """Fills the folder `packages` with links to what Colab has: its widgets, then all that is installed here."""
    packages.mkdir()
    hidden = {*MISSING, "gsoc-kd"}  # distributions; an earlier folder's version hides a later one's, as on sys.path
    modules = {name.replace("-", "_") for name in hidden}
    for folder in [colab, *(Path(entry) for entry in sys.path if Path(entry).name == "site-packages")]:
        for entry in folder.iterdir():
            unwanted = entry.suffix == ".pth" or entry.name.startswith("__editable__")
            if not unwanted and entry.name not in modules and project(entry.name) not in hidden:
                (packages / entry.name).symlink_to(entry)
                modules.add(entry.name)
        hidden |= {project(name) for name in modules} - {None}


def wheel(name, folder):
    """A wheel of an installed distribution, for pip to find."""
    dist = metadata.distribution(name)
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{dist.version}-py3-none-any.whl", "w") as archive:
        for file in dist.files:
            if ".." not in file.parts and file.suffix != ".pyc" and file.name not in ("INSTALLER", "REQUESTED"):
                archive.write(dist.locate_file(file), file.as_posix())


@pytest.fixture(scope="module")
def machine(colab, tmp_path_factory):
    """A NotebookClient's kernel in a throwaway environment like Colab's, without network."""
    here = tmp_path_factory.mktemp("colab")
    source, wheels = here / "source", here / "wheels"
    source.mkdir(), wheels.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "gsoc_kd", source / "gsoc_kd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in MISSING:
        wheel(name, wheels)
    like_colab(colab, here / "packages")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(here / "env")], check=True)
    (site,) = (here / "env").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{here / 'packages'}\n", encoding="utf-8")
    kernel = here / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [str(here / "env" / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Colab",
                "language": "python",
            }
        ),
        encoding="utf-8",
    )
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_CONFIG_FILE": os.devnull,
        "JUPYTER_PATH": str(here / "jupyter"),
        "IPYTHONDIR": str(here / "ipython"),
    }
    dropped = ("PYTHONPATH", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in offline.items():
            patch.setenv(name, value)
        for name in dropped:
            patch.delenv(name, raising=False)
        client = NotebookClient(
            nbformat.v4.new_notebook(),
            kernel_name="colab",
            timeout=300,
            startup_timeout=120,
            resources={"metadata": {"path": str(here)}},
        )
        with client.setup_kernel():
            run = Kernel(client)
            run("import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')")
            run.before = run(VERSIONS_CODE)
            assert json.loads(run.before)["gsoc-kd"] is None
            run(SETUP.replace(f"git+{ADDRESS}", str(source)))
            run.installed = {project(entry.name) for entry in site.iterdir()} - {None}
            yield run


LOOKED_AT = ("torch", "torchvision", "numpy", *VERSIONS, *MISSING, "gsoc-kd")
VERSIONS_CODE = f"""\
import importlib.metadata, json
def found(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({{name: found(name) for name in {LOOKED_AT}}}))"""


class Kernel:
    """`run(code)` gives what the code printed; errors are raised."""

    def __init__(self, client):
        self.client = client

    def __call__(self, code):
        cell = nbformat.v4.new_code_cell(code)
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")

    def change(self, model, **state):
        """What a browser sends when a hand moves a widget."""
        client = self.client.kc
        client.shell_channel.send(
            client.session.msg(
                "comm_msg", {"comm_id": model, "data": {"method": "update", "state": state, "buffer_paths": []}}
            )
        )

    def image(self, model):
        """The bytes of an Image as a browser has them."""
        (buffer,) = self.client.widget_buffers[model].values()
        return base64.b64decode(buffer["data"])


def test_the_set_up_installs_what_colab_lacks_and_replaces_nothing(machine):
    before, after = json.loads(machine.before), json.loads(machine(VERSIONS_CODE))
    assert {name: before[name] for name in VERSIONS} == VERSIONS
    assert [name for name in before if before[name] is None] == [*MISSING, "gsoc-kd"]
    assert None not in after.values()
    assert {name: after[name] for name in before if before[name]} == {k: v for k, v in before.items() if v}
    assert machine.installed == {*MISSING, "gsoc-kd"}


def test_the_explorer_works_there_and_twenty_fast_changes_end_at_the_last(machine):
    text = machine(
        "import gsoc_kd, json\napp = gsoc_kd.explore()\napp\nparts = app.parts\n"
        "print(json.dumps({name: getattr(parts, name).model_id for name in "
        "('label', 'student', 'teacher', 'title')}), gsoc_kd.__file__)"
    )
    models = json.loads(text[: text.index("}") + 1])
    assert "site-packages" in text
    generators = {"student": load_student(), "teacher": load_teacher()}

    def shown(role, label):
        return png_bytes(grid(picture(generators[role], 0, label)[None], columns=1, scale=8, pad=0))

    assert [machine.image(models[role]) == shown(role, 0) for role in generators] == [True, True]
    for click in range(20):
        machine.change(models["label"], index=(click + 1) % 9)
    machine("import asyncio\nwhile parts.title.value != 'teacher':\n    await asyncio.sleep(0.05)")
    assert machine.image(models["teacher"]) == shown("teacher", 20 % 9)
    student = machine("import base64\nprint(base64.b64encode(parts.student.value).decode())")
    assert base64.b64decode(student) == shown("student", 20 % 9)
