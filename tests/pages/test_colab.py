"""Colab, as far as it can be had here: its ipywidgets and IPython, and the set-up cell in an environment like its.

Colab (August 2026) has ipywidgets 7.7.1, IPython 7.34, ipykernel 6.17.1 and all that the package needs but tyro and
pytorch-fid. `make` puts those versions into .venv/colab (tests/colab-requirements.txt).
"""

import ast
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement
from test_notebooks import ADDRESS, DEPLOY, SETUP
from test_packaging import PROJECT, ROOT

from gsoc_kd.explorer import explore, image_at
from gsoc_kd.explorer.views import enlarged
from gsoc_kd.teachers import load_student, load_teacher

VERSIONS = {"ipywidgets": "7.7.1", "ipython": "7.34.0", "ipykernel": "6.17.1"}
MISSING = ("tyro", "pytorch-fid")  # on Colab, of what the package needs
# of pip-freeze.txt of github.com/googlecolab/backend-info, 19 August 2026
PRESENT = "accelerate docstring-parser huggingface_hub ipywidgets matplotlib numpy pillow safetensors".split()
PRESENT += "torch torchvision tqdm".split()
PRESENT_FOR_DEPLOY = "networkx packaging psutil pydot rich scikit-learn scipy tabulate".split()
FOLDER = Path(sys.prefix) / "colab"


@pytest.fixture(scope="module")
def colab():
    """The folder with Colab's widgets."""
    found = {dist.name.lower(): dist.version for dist in metadata.distributions(path=[str(FOLDER)])}
    if not VERSIONS.items() <= found.items():
        pytest.skip(f"Colab's ipywidgets 7.7 are not in {FOLDER}: left out are the explorer's tests with them and the "
                    "test of the set-up cell. `make venv` puts them there")  # fmt: skip
    return FOLDER


def test_the_set_up_names_every_dependency_that_colab_lacks():
    lines = (ROOT / "tests" / "colab-requirements.txt").read_text(encoding="utf-8").splitlines()
    assert VERSIONS.items() <= dict(line.split("==") for line in lines if line and not line.startswith("#")).items()
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == {*PRESENT, *MISSING}
    assert all(f'"{name}"' in SETUP for name in MISSING)


def test_the_set_up_of_06_names_all_that_openvino_and_nncf_need_and_colab_lacks():
    """In the package's own range of versions, and nothing of what Colab has: torch, numpy and ipywidgets stay."""
    named = [Requirement(word) for word in ast.literal_eval(DEPLOY.partition("= ")[2])]
    ranges = {one.name: one.specifier for one in map(Requirement, PROJECT["optional-dependencies"]["deploy"])}
    assert {one.name: one.specifier for one in named if one.name in ranges} == {
        name: ranges[name] for name in ("nncf", "openvino")
    }
    needed = [Requirement(line) for one in named for line in metadata.requires(one.name) or ()]
    needed = {one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})}
    assert needed <= {one.name for one in named} | {*PRESENT, *PRESENT_FOR_DEPLOY}
    assert not {one.name for one in named} & {*PRESENT, *PRESENT_FOR_DEPLOY}


def test_the_explorers_tests_pass_with_colabs_widgets(colab, tmp_path):
    code = "import ipywidgets as w, IPython, pytest; print(w.__version__, IPython.__version__); exit(pytest.main())"
    files = (str(ROOT / "tests" / "explorer" / f"test_{name}.py") for name in ("widgets", "single"))
    options = ["-q", "-p", "no:nbval", "-p", "no:cacheprovider", *files]
    there = dict(cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{colab}{os.pathsep}{ROOT}"})
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, **there)
    assert done.returncode == 0 and done.stdout.startswith("7.7.1 7.34.0\n"), done.stdout + done.stderr
    assert re.search(r"\n\d+ passed in ", done.stdout), "none left out"


# ---------------------------------------------------------------- the set-up cell


def like_colab(packages):
    """Fills the folder `packages` with links to what is installed here, but for what Colab lacks."""
    packages.mkdir()
    lacking = re.compile(
        "(gsoc.kd|__editable__|" + "|".join(name.replace("-", ".") for name in MISSING) + r")\b|.*\.pth$"
    )
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not lacking.match(entry.name):
            (packages / entry.name).symlink_to(entry)


def wheel(name, folder):
    """A wheel of an installed distribution, for pip to find."""
    dist = metadata.distribution(name)
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{dist.version}-py3-none-any.whl", "w") as archive:
        for file in dist.files:
            if ".." not in file.parts and file.suffix != ".pyc" and file.name not in ("INSTALLER", "REQUESTED"):
                archive.write(dist.locate_file(file), file.as_posix())


class Kernel(NotebookClient):
    def says(self, code):
        """What the code prints; errors are raised."""
        cell = nbformat.v4.new_code_cell(code)
        self.nb.cells.append(cell)
        self.execute_cell(cell, len(self.nb.cells) - 1)
        return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")

    def change(self, model, **state):
        """What a browser sends when a hand moves a widget."""
        self.tell(model, {"method": "update", "state": state, "buffer_paths": []})

    def click(self, model):
        """What it sends when a hand clicks a button."""
        self.tell(model, {"method": "custom", "content": {"event": "click"}})

    def tell(self, model, data):
        self.kc.shell_channel.send(self.kc.session.msg("comm_msg", {"comm_id": model, "data": data}))

    def image(self, model):
        """The bytes of an Image as a browser has them."""
        (buffer,) = self.widget_buffers[model].values()
        return base64.b64decode(buffer["data"])


INSTALLED = """\
import importlib.metadata, json
found = reversed(list(importlib.metadata.distributions()))  # of two the first counts
print(json.dumps({dist.name.lower().replace("_", "-"): dist.version for dist in found}))"""


@pytest.fixture(scope="module")
def machine(colab, tmp_path_factory):
    """A kernel in a throwaway environment like Colab's, without network, after the set-up cell."""
    here = tmp_path_factory.mktemp("colab")
    source, wheels, kernel = here / "source", here / "wheels", here / "jupyter" / "kernels" / "colab"
    for folder in (source, wheels, kernel):
        folder.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "gsoc_kd", source / "gsoc_kd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in MISSING:
        wheel(name, wheels)
    like_colab(here / "packages")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(here / "env")], check=True)
    (site,) = (here / "env").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{colab}\n{here / 'packages'}\n", encoding="utf-8")
    start = [str(here / "env" / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = json.dumps({"argv": start, "display_name": "Colab", "language": "python"})
    (kernel / "kernel.json").write_text(about, encoding="utf-8")
    run = Kernel(nbformat.v4.new_notebook(), kernel_name="colab", timeout=300, startup_timeout=120)
    run.resources = {"metadata": {"path": str(here)}}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(wheels)), ("NO_BUILD_ISOLATION", "0")):
            patch.setenv(f"PIP_{name}", value)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("JUPYTER_PATH", str(here / "jupyter"))
        patch.setenv("IPYTHONDIR", str(here / "ipython"))
        for name in ("PYTHONPATH", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
            patch.delenv(name, raising=False)
        with run.setup_kernel():
            run.says("import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')")
            run.before = json.loads(run.says(INSTALLED))
            run.says(SETUP.replace(f"git+https://github.com/{ADDRESS}", str(source)))
            yield run


def test_the_set_up_installs_what_colab_lacks_and_replaces_nothing(machine):
    after = json.loads(machine.says(INSTALLED))
    assert machine.before.items() >= VERSIONS.items() and {"torch", "torchvision", "numpy"} < set(machine.before)
    assert set(after) - set(machine.before) == {*MISSING, "gsoc-kd"}
    assert machine.before.items() <= after.items()


def test_the_explorer_works_there_and_twenty_fast_changes_end_at_the_last(machine):
    text = machine.says(
        "import gsoc_kd, json\napp = gsoc_kd.explore()\napp\nparts = app.parts\nprint(gsoc_kd.__file__)\n"
        "models = {name: getattr(parts, name).model_id for name in ('label', 'student', 'teacher')}\n"
        "print(json.dumps(models | {'sample': parts.wall.parts.cells[7].model_id}))"
    )
    (home, models), generators = text.splitlines(), {"student": load_student(), "teacher": load_teacher()}
    models = json.loads(models)

    def shown(role, label, seed):
        return enlarged(image_at(generators[role], seed, label), smooth=True)

    wall = explore(teacher=None).parts.wall
    assert "site-packages" in home
    assert all(machine.image(models[role]) == shown(role, *wall.best()) for role in generators)
    machine.click(models["sample"])  # the second automobile on the wall
    for click in range(20):
        machine.change(models["label"], index=(click + 1) % 9)
    expected = {role: shown(role, 20 % 9, int(wall.seeds[1, 1])) for role in generators}
    digest = hashlib.sha256(expected["teacher"]).hexdigest()
    shows = f"hashlib.sha256(parts.teacher.value).hexdigest() == '{digest}'"
    machine.says(f"import asyncio, hashlib\nwhile not {shows}:\n    await asyncio.sleep(0.05)")
    assert machine.image(models["teacher"]) == expected["teacher"]
    student = machine.says("import base64\nprint(base64.b64encode(parts.student.value).decode())")
    assert base64.b64decode(student) == expected["student"]
