"""pyproject.toml, requirements.txt and environment.yml name the same packages; the code imports no others."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, EXTRAS = PYPROJECT["project"], PYPROJECT["project"]["optional-dependencies"]
ADDRESS = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
COLAB = {"torch": "2.11.0", "numpy": "2.1.3", "ipywidgets": "7.7.1"}  # August 2026; set-up must replace none
IMPORTED_AS = {"pil": "pillow", "sklearn": "scikit-learn"}  # where a distribution's name is not that of its module


def requirements(lines):
    """{package: Requirement}; a package that stands there twice has the same range."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        same = found.setdefault(canonicalize_name(requirement.name), requirement)
        assert str(same) == str(requirement), "one package, two ranges"
    return found


def pins(text, pattern):
    """{package: version}; every line must pin exactly one version."""
    lines = re.findall(pattern, text, re.M)
    found = {name: next(iter(requirement.specifier)) for name, requirement in requirements(lines).items()}
    assert len(found) == len(lines) and {pin.operator for pin in found.values()} == {"=="}
    return {name: pin.version for name, pin in found.items()}


FUZZ = requirements(EXTRAS.pop("fuzz"))  # what `make fuzz` installs; no test needs it
RANGES = requirements(itertools.chain(PROJECT["dependencies"], *EXTRAS.values()))
PINNED = pins((ROOT / "requirements.txt").read_text(encoding="utf-8"), r"^[^#\n].*$")


def test_every_range_has_a_pin_inside_it_and_colab_fits():
    assert sorted(set(RANGES) - set(PINNED)) == []
    for versions in (PINNED, COLAB):
        assert [name for name in versions if name in RANGES and versions[name] not in RANGES[name].specifier] == []


def test_environment_yml_is_the_conda_twin():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert pins(text, r"^      - (\S+)$") == PINNED and "\nname: gsoc_kd\n" in text
    assert re.findall(r"^  - (\S+)$", text, re.M) == ["conda-forge", "python=3.12", "pip", "pip:"]


def foreign(sources):
    """Distributions behind the imports that are neither Python's nor ours."""
    names = set()
    for node in itertools.chain.from_iterable(ast.walk(ast.parse(source)) for source in sources):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    folders = ("tests", "benchmarks", "tools", "docs", "notebooks")
    own = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    names -= {*sys.stdlib_module_names, "gsoc_kd", *own}
    return {IMPORTED_AS.get(name.lower(), canonicalize_name(name)) for name in names}


def sources(*patterns):
    return [path.read_text(encoding="utf-8") for pattern in patterns for path in ROOT.glob(pattern)]


def test_only_declared_packages_are_imported():
    lines = [*PROJECT["dependencies"], *(line for name in EXTRAS if name != "test" for line in EXTRAS[name])]
    assert foreign(sources("gsoc_kd/**/*.py")) - set(requirements(lines)) == set()
    books = [nbformat.read(path, 4) for path in (ROOT / "notebooks").glob("*.ipynb")]
    cells = [cell.source for book in books for cell in book.cells if cell.cell_type == "code"]
    used = foreign(cells + sources("tests/**/test_*.py", "notebooks/*.py", "tools/*.py"))
    assert used - set(PINNED) - set(FUZZ) == set()


def test_a_wheel_has_every_stage_and_the_assets():
    settings = PYPROJECT["tool"]["setuptools"]
    assert settings["package-data"] == {"gsoc_kd": ["assets/**"]}
    assert settings["packages"]["find"] == {"include": ["gsoc_kd*"], "namespaces": False}
    homes = {path.parent for path in (ROOT / "gsoc_kd").rglob("*.py")}
    assert len(homes) == 10 and [home for home in homes if not (home / "__init__.py").is_file()] == []


def test_the_repositorys_address_and_version_follow_from_pyproject():
    """Only pages, notebooks, app and benchmarks may spell the address out too: all must be this one."""
    owner, name = ADDRESS.split("/")
    search = ["git", "-C", str(ROOT), "grep", "-oIE", "--untracked", rf"[A-Za-z0-9_.-]+/{name}\b"]
    found = subprocess.run(search, capture_output=True, text=True).stdout.splitlines()
    if not found:
        pytest.skip("this is no git checkout: left out is the search of all its files for the address")
    allowed = r"(README\.md|CITATION\.cff|pyproject\.toml|(notebooks|app|benchmarks|docs)/.+):" + re.escape(ADDRESS)
    assert [line for line in found if not re.fullmatch(allowed, line)] == []
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {PROJECT['version']}\nlicense: {PROJECT['license']}\n" in cited and ADDRESS in cited
