"""`make docs` and `make wiki`: every link, anchor, picture and formula of what they write, and no warning."""

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from test_docs import PAGES, anchors, links, prose, read

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("build", ROOT / "docs" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


class Page(HTMLParser):
    """The addresses, ids and visible text of an HTML page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids, self.text, self.count = [], [], set(), "", {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.count[tag] = self.count.get(tag, 0) + 1
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        (self.links if tag == "a" else self.loaded).extend(values[name] for name in ("href", "src") if values.get(name))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built once; the run must not have printed a warning."""
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run([sys.executable, ROOT / "docs" / "build.py", "site", folder], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr + run.stdout
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


@pytest.fixture(scope="module")
def wiki(tmp_path_factory):
    return build.wiki(tmp_path_factory.mktemp("wiki"))


def foreign(address):
    return re.match(r"(https?:)?//|mailto:|data:", address)


def test_the_site_has_every_page_and_notebook(site):
    names = [f"docs/{page}.html" for page in PAGES]
    names += [f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert [name for name in ["index.html", "api.html", *names] if not (site / name).is_file()] == []


def test_every_link_of_the_site_leads_somewhere(pages):
    wrong, seen = [], 0
    for path, page in pages.items():
        for address in page.links + page.loaded:
            if foreign(address):
                continue
            file, anchor = urldefrag(address)
            file = unquote(file.partition("?")[0])
            target = (path.parent / file).resolve() if file else path
            seen += 1
            if not target.is_file():
                wrong.append(f"{path.name}: {address}: no such file")
            elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
                wrong.append(f"{path.name}: {address}: no such place")
    assert wrong == [] and seen > 500


def test_links_to_code_go_to_the_repository(pages):
    start = build.repository()
    found = {address for page in pages.values() for address in page.links if address.startswith(start + "/")}
    assert f"{start}/blob/main/gsoc_kd/distill.py" in found
    assert [address for address in found if not resolves(address)] == []


def test_nothing_is_loaded_from_elsewhere(pages):
    """The badges are pictures of other sites; without network their words stand there. Nothing else is needed."""
    loaded = {address for page in pages.values() for address in page.loaded if foreign(address)}
    assert {address for address in loaded if not address.startswith("data:")} <= {
        "https://colab.research.google.com/assets/colab-badge.svg"
    }


def test_the_front_page_shows_the_picture_and_the_workflow(site, pages):
    front = pages[site / "index.html"]
    (picture,) = [address for address in front.loaded if address.endswith("teacher-and-student.png")]
    assert (site / picture).read_bytes() == (ROOT / "docs" / "teacher-and-student.png").read_bytes()
    workflow = read(ROOT / "README.md").partition("```python\n")[2].partition("```")[0]
    assert "kd.distill(" in workflow and workflow.strip() in front.text


def test_formulas_are_drawn_by_the_browser(site, pages):
    for path, page in pages.items():
        assert "$$" not in page.text and "\\text{" not in page.text, path.name
    assert pages[site / "docs" / "Objectives.html"].count["math"] > 15


def test_notebooks_are_shown_as_committed(site):
    committed = json.loads((ROOT / "notebooks" / "02_teacher.ipynb").read_text(encoding="utf-8"))
    pictures = {
        base64.b64decode(output["data"]["image/png"])
        for cell in committed["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }
    assert len(pictures) > 3 and pictures <= {path.read_bytes() for path in (site / "_images").glob("*.png")}


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_warning_keeps_the_older_site(tmp_path, monkeypatch):
    monkeypatch.setattr(
        build,
        "write_sources",
        lambda folder: [
            (folder / "api.rst").write_text("x\n=\n"),
            (folder / "index.md").write_text("# x\n\n[y](nowhere.md)\n"),
        ],
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("older")
    with pytest.raises(SystemExit, match="the site was not made"):
        build.site(tmp_path)
    assert (tmp_path / "site" / "index.html").read_text() == "older"


def tracked():
    run = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if run.returncode:  # no git checkout: what lies there
        return {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    return set(run.stdout.splitlines())


FILES = tracked()


def resolves(address):
    """Whether an address at the repository is that of a tracked file, or of a folder with such."""
    start = build.repository()
    raw = start.replace("github.com", "raw.githubusercontent.com")
    for prefix, folder in ((f"{start}/blob/main/", False), (f"{start}/tree/main/", True), (f"{raw}/main/", False)):
        if address.startswith(prefix):
            path = unquote(urldefrag(address)[0].removeprefix(prefix))
            return any(file.startswith(path + "/") for file in FILES) if folder else path in FILES
    return False


def test_addresses_at_github():
    start = build.repository()
    assert build.on_github("gsoc_kd/distill.py") == f"{start}/blob/main/gsoc_kd/distill.py"
    assert build.on_github("notebooks") == f"{start}/tree/main/notebooks"
    assert build.on_github("docs/a.png").startswith("https://raw.githubusercontent.com/")
    assert resolves(build.on_github("notebooks")) and not resolves(f"{start}/blob/main/nothing.py")


def test_only_links_are_rewritten():
    text = (
        '[a](B.md#c) `[a](B.md)` [![x](p.png)](https://b.org) [c](#d) <img src="p.png">\n'
        "```\n[a](B.md)\n```\n[e](../f%20g.py)"
    )
    assert build.rewrite(text, "docs", lambda path: f"<{path}>" if path != "docs/p.png" else None) == (
        '[a](<docs/B.md>#c) `[a](B.md)` [![x](p.png)](https://b.org) [c](#d) <img src="p.png">\n'
        "```\n[a](B.md)\n```\n[e](<f g.py>)"
    )


def test_every_link_of_the_wiki_leads_somewhere(wiki):
    assert {path.name for path in wiki.iterdir()} == {f"{name}.md" for name in ["_Sidebar", *PAGES]}
    repository, seen = build.repository().removeprefix("https://"), 0
    for path in wiki.iterdir():
        for link in links(read(path)):
            seen += 1
            where = f"{path.name}: {link}"
            name, anchor = urldefrag(link)
            if re.match(rf"https://(raw\.githubusercontent\.com|github\.com)/{repository.partition('/')[2]}/", link):
                assert resolves(link), where
            elif not foreign(link):
                page = wiki / f"{name or path.stem}.md"
                assert page.is_file(), where
                assert not anchor or anchor in anchors(read(page)), where
    assert seen > 200


def test_the_sidebar_of_the_wiki_lists_every_page(wiki):
    assert links(read(wiki / "_Sidebar.md")) == PAGES


def test_only_links_differ_between_docs_and_wiki(wiki):
    for path in wiki.iterdir():
        before, after = (re.sub(r"\]\([^()\s]*", "](", read(folder / path.name)) for folder in (ROOT / "docs", wiki))
        assert before == after and "../" not in "".join(links(prose(read(path)))), path.name


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed: left out is what its help says")
def test_make_help_names_both():
    shown = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True).stdout
    assert "make docs " in shown and "make wiki " in shown
