"""`make docs` and `make wiki`: every link, anchor, image and formula of what they write, and no warning."""

import base64
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import build
import nbformat
import pytest
from test_docs import NOTEBOOKS, PAGES, ROOT, anchors, links, prose, read

START = build.REPOSITORY


class Page(HTMLParser):
    """The addresses, ids and visible text of an HTML page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids, self.text, self.formulas = [], [], set(), "", 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.formulas += tag == "math"
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        (self.links if tag == "a" else self.loaded).extend(values[name] for name in ("href", "src") if values.get(name))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built once; the run must not have printed a warning."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, ROOT / "docs" / "build.py", "site", folder]
    offline = os.environ | {"npm_config_offline": "true"}
    run = subprocess.run(command, capture_output=True, text=True, env=offline)
    assert run.returncode == 0 and "WARNING" not in run.stderr + run.stdout, run.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


@pytest.fixture(scope="module")
def wiki(tmp_path_factory):
    return build.wiki(tmp_path_factory.mktemp("wiki"))


foreign = re.compile(r"(https?:)?//|mailto:|data:").match
LISTED = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
FILES = subprocess.run(LISTED, capture_output=True, text=True).stdout.splitlines()


def resolves(address):
    """Whether an address at the repository is that of a file or folder which is tracked or about to be."""
    path = unquote(re.sub(r"^https://.+?/main/|#.*$", "", address))
    known = any(file == path or file.startswith(f"{path}/") for file in FILES or [path])
    return known and (ROOT / path).exists() and ("/tree/" in address) == (ROOT / path).is_dir()


def test_every_page_is_there_its_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site, pages):
    names = ["index", "api", *(f"docs/{page}" for page in PAGES), *(f"notebooks/{path.stem}" for path in NOTEBOOKS)]
    assert [name for name in names if not (site / f"{name}.html").is_file()] == []
    wrong, seen = [], 0
    for path, page in pages.items():
        for address in page.links + page.loaded:
            seen += 1
            file, anchor = map(unquote, urldefrag(address))
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            if foreign(address):
                sound = not address.startswith(START + "/") or resolves(address)
            else:
                sound = target.is_file() and (not anchor or target not in pages or anchor in pages[target].ids)
            wrong += [] if sound else [f"{path.name}: {address}"]
    assert wrong == [] and seen > 500
    loaded = {address for page in pages.values() for address in page.loaded if foreign(address)}
    badge = "https://colab.research.google.com/assets/colab-badge.svg"  # without network its words stand there
    assert {address for address in loaded if not address.startswith("data:")} <= {badge}


def test_the_site_shows_images_workflow_formulas_and_notebooks_as_they_are(site, pages):
    front = pages[site / "index.html"]
    (image,) = [address for address in front.loaded if address.endswith("teacher-and-student.png")]
    assert (site / image).read_bytes() == (ROOT / "docs" / "teacher-and-student.png").read_bytes()
    workflow = read(ROOT / "README.md").partition("```python\n")[2].partition("```")[0]
    assert "kd.distill(" in workflow and workflow.strip() in front.text
    assert [path.name for path, page in pages.items() if "$$" in page.text or "\\text{" in page.text] == []
    assert pages[site / "docs" / "Objectives.html"].formulas > 15
    outputs = [o for cell in nbformat.read(NOTEBOOKS[2], 4).cells for o in cell.get("outputs", []) if "data" in o]
    images = {base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.data}
    assert len(images) > 3 and images <= {path.read_bytes() for path in (site / "_images").glob("*.png")}


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_warning_keeps_the_older_site(tmp_path, monkeypatch):
    def sources(folder):
        (folder / "api.rst").write_text("x\n=\n")
        (folder / "index.md").write_text("# x\n\n[y](nowhere.md)\n")

    monkeypatch.setattr(build, "write_sources", sources)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("older")
    with pytest.raises(SystemExit, match="the site was not made"):
        build.site(tmp_path)
    assert (tmp_path / "site" / "index.html").read_text() == "older"


def test_only_links_are_rewritten():
    text = (
        '[a](B.md#c) `[a](B.md)` [![x](p.png)](https://b.org) [c](#d) <img src="p.png">\n'
        "```\n[a](B.md)\n```\n[e](../f%20g.py)"
    )
    assert build.rewrite(text, "docs", lambda path: f"<{path}>" if path != "docs/p.png" else None) == (
        '[a](<docs/B.md>#c) `[a](B.md)` [![x](p.png)](https://b.org) [c](#d) <img src="p.png">\n'
        "```\n[a](B.md)\n```\n[e](<f g.py>)"
    )


def test_the_wiki_has_every_page_changed_in_links_alone_and_all_lead_somewhere(wiki):
    assert {path.name for path in wiki.iterdir()} == {f"{name}.md" for name in ["_Sidebar", *PAGES]}
    assert links(read(wiki / "_Sidebar.md")) == PAGES
    seen = 0
    for path in wiki.iterdir():
        before, after = (re.sub(r"\]\([^()\s]*", "](", read(folder / path.name)) for folder in (ROOT / "docs", wiki))
        assert before == after and "../" not in "".join(links(prose(read(path)))), path.name
        for link in links(read(path)):
            seen += 1
            name, anchor = urldefrag(link)
            if re.match(r"https://(raw\.githubusercontent|github)\.com/" + START.partition(".com/")[2] + "/", link):
                assert resolves(link), f"{path.name}: {link}"
            elif not foreign(link):
                page = wiki / f"{name or path.stem}.md"
                assert page.is_file() and (not anchor or anchor in anchors(read(page))), f"{path.name}: {link}"
    assert seen > 200
