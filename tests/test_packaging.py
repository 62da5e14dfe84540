"""pyproject.toml, requirements.txt and environment.yml name the same packages; the code imports no others."""

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
tomllib = pytest.importorskip(
    "tomllib",
    reason="reading pyproject.toml needs Python 3.11; left out are all "
    "tests of packaging, which do not depend on the version",
)
COLAB = {"torch": "2.11.0", "numpy": "2.1.3", "ipywidgets": "7.7.1"}  # August 2026; set-up must replace none
IMPORTED_AS = {"pil": "pillow", "sklearn": "scikit-learn"}  # where a distribution's name is not that of its module


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def ranges(project):
    """{package: Requirement} of dependencies and extras."""
    found = {}
    for line in itertools.chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(line)
        same = found.setdefault(canonicalize_name(requirement.name), requirement)
        assert str(same) == str(requirement), "one package, two ranges"
    return found


def pins(lines):
    """{package: version}; every line must pin exactly one version."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{line} is not a pin"
        assert canonicalize_name(requirement.name) not in found, f"{line} stands there twice"
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.fixture(scope="module")
def pinned():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return pins(line for line in lines if line.strip() and not line.startswith("#"))


def test_every_range_has_a_pin_inside_it(ranges, pinned):
    assert sorted(set(ranges) - set(pinned)) == []
    outside = [
        f"{name}=={pinned[name]} is outside {r}" for name, r in ranges.items() if pinned[name] not in r.specifier
    ]
    assert outside == []


def test_environment_yml_is_the_conda_twin(pinned):
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert pins(re.findall(r"^      - (\S+)$", text, re.M)) == pinned
    assert re.search(r"^name: gsoc_kd$", text, re.M)
    assert re.findall(r"^  - (\S+)$", text, re.M) == ["conda-forge", "python=3.12", "pip", "pip:"]


def test_colab_versions_lie_inside_the_ranges(ranges):
    assert [name for name, version in COLAB.items() if version not in ranges[name].specifier] == []


def test_torch_and_torchvision_pins_belong_together(pinned):
    minor = {"2.11": "0.26", "2.12": "0.27"}  # torchvision states one torch release; see its release notes
    assert pinned["torchvision"].rpartition(".")[0] == minor[pinned["torch"].rpartition(".")[0]]


def imports(source):
    """Top-level names of what a Python source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def foreign(sources):
    """Distributions behind the imports that are neither Python's nor ours."""
    names = {name for source in sources for name in imports(source)}
    own = {path.stem for folder in ("tests", "benchmarks") for path in (ROOT / folder).glob("*.py")}
    names -= {*sys.stdlib_module_names, "gsoc_kd", *own}
    return {IMPORTED_AS.get(name.lower(), canonicalize_name(name)) for name in names}


def test_the_package_imports_only_its_dependencies_and_extras(project):
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["deploy"], *extras["app"], *extras["docs"], *extras["notebooks"]]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    used = foreign(path.read_text(encoding="utf-8") for path in (ROOT / "gsoc_kd").glob("*.py"))
    assert used - declared == set()


def test_tests_and_notebooks_import_only_what_is_pinned(pinned):
    files = [*(ROOT / "tests").glob("*.py"), *(ROOT / "notebooks").glob("*.py")]
    sources = [path.read_text(encoding="utf-8") for path in files]
    cells = [
        "".join(cell["source"])
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    cells = [re.sub(r"^\s*[%!].*$", "pass", cell, flags=re.M) for cell in cells]
    assert foreign(sources + cells) - set(pinned) == set()


def test_assets_are_package_data():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert data == {"packages": ["gsoc_kd"], "package-data": {"gsoc_kd": ["assets/**"]}}
    assert not [path for path in (ROOT / "gsoc_kd").rglob("*.py") if path.parent != ROOT / "gsoc_kd"]


def test_the_repository_address_follows_from_pyproject(project):
    """Only README, notebooks, app, benchmarks and docs may spell it out too, as badges and links: all must be this one."""
    address = project["urls"]["Repository"].removeprefix("https://github.com/")
    owner, name = address.split("/")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout: left out is the search of all tracked files for the address")
    wrong, elsewhere = [], []
    for path in map(Path, listed.stdout.splitlines()):
        readable = path.suffix in (".md", ".ipynb", ".py", ".toml", ".txt", ".yml", "")
        if not readable or not (ROOT / path).is_file():
            continue
        text = (ROOT / path).read_text(encoding="utf-8", errors="ignore")
        found = re.findall(rf"([\w.-]+)/{re.escape(name)}\b", text)
        wrong += [f"{path}: {before}/{name}" for before in found if before != owner]
        if found and path.parts[0] not in ("README.md", "notebooks", "app", "benchmarks", "docs", "pyproject.toml"):
            elsewhere.append(str(path))
    assert wrong == [] and elsewhere == []


def test_colab_badges_open_their_own_notebook(project):
    address = project["urls"]["Repository"].removeprefix("https://github.com/")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        links = re.findall(r"https://colab\.research\.google\.com/github/([^\s)\"\\]+)", text)
        assert set(links) == {f"{address}/blob/main/notebooks/{path.name}"}, path.name
