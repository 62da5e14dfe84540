"""`make docs` and `make wiki`: every link, anchor, image, table and formula of what they write, and no warning.

What a reader sees of the site at two widths is looked at in Chromium; without it those tests say so."""

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
import test_browser
from test_docs import NOTEBOOKS, PAGES, ROOT, anchors, links, prose, read
from try_look import served

START = build.REPOSITORY
browser = test_browser.browser  # the fixture: Chromium
KEY_PAGES = "index.html", "docs/Results.html", "docs/Studies.html", "docs/Objectives.html", "docs/Student-Network.html"
KEY_PAGES += "notebooks/05_evaluation.html", "try/index.html"


class Page(HTMLParser):
    """The addresses, ids and visible text of an HTML page, its viewport, and how many formulas and tables it has."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids, self.text, self.viewport = [], [], set(), "", None
        self.formulas = self.tables = self.scrolling = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.formulas += tag == "math"
        self.tables += tag == "table"
        self.scrolling += "table-wrapper" in (values.get("class") or "").split()
        self.viewport = values["content"] if values.get("name") == "viewport" else self.viewport
        self.loaded += [part.split()[0] for part in (values.get("srcset") or "").split(",") if part.strip()]
        self.loaded += re.findall(r"url\(['\"]?([^'\")]+)", values.get("style") or "")
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
    loaded = [address for page in pages.values() for address in page.loaded]
    for style in site.rglob("*.css"):
        loaded += re.findall(r"(?:url\(|@import )['\"]?([^'\")]+)", read(style))
    assert [address for address in loaded if foreign(address) and not address.startswith("data:")] == []


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


def test_what_a_cell_shows_as_a_table_is_one_and_each_scrolls_in_its_own_box(site, pages):
    for path in NOTEBOOKS:
        shown = [o["data"] for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", []) if "data" in o]
        tables = sum("|---" in data.get("text/markdown", "") for data in shown)
        assert pages[site / "notebooks" / f"{path.stem}.html"].tables >= tables, path.name
    raw = [path.name for path, page in pages.items() if re.search(r"^\|.*\|\s*\|? ?:?---", page.text, re.M)]
    assert raw == [] and sum(page.tables for page in pages.values()) > 40
    assert pages[site / "notebooks" / "05_evaluation.html"].tables >= 3
    assert [path.name for path, page in pages.items() if page.tables != page.scrolling] == []
    style = re.sub(r"\s+", " ", read(site / "_static" / "site.css"))
    assert re.search(r"\.table-wrapper :is\(th, td\):first-child \{[^}]*position: sticky; left: 0;", style)
    assert re.search(r"\.table-wrapper[^{]*\{ overflow-x: auto;", style)


def test_the_front_page_shows_both_networks_and_the_pipeline_and_leads_to_the_explorer(site, pages):
    front = pages[site / "index.html"]
    shown = [address.rpartition("/")[2] for address in front.loaded]
    assert {"teacher-and-student.png", "pipeline.svg"} <= set(shown)
    assert "try/index.html" in [address.partition("#")[0] for address in front.links]
    narrow = [path.name for path, page in pages.items() if "width=device-width" not in (page.viewport or "")]
    assert narrow == []


@pytest.fixture(scope="module")
def visit(browser, site):
    """visit(name, width, style): a page of the site in Chromium that loads nothing from elsewhere; `style` is another
    style sheet instead of site.css."""
    with served(site) as home:

        def visit(name, width, style=None):
            context = browser.new_context(viewport={"width": width, "height": 800})
            page, asked = context.new_page(), []
            page.set_default_timeout(test_browser.PATIENCE * 1000)
            page.on("request", lambda request: asked.append(request.url))
            if style is not None:
                page.route("**/site.css*", lambda route: route.fulfill(content_type="text/css", body=style))
            page.goto(home + name, wait_until="load")
            assert [url for url in asked if not re.match(f"{home}|data:|blob:", url)] == []
            return page

        yield visit


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_as_wide_as_the_screen_and_wide_tables_keep_the_names_of_their_rows(visit, width):
    scrolled = 0
    for name in KEY_PAGES:
        page = visit(name, width)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        images = (
            "[...document.querySelectorAll('article img')].filter(i => i.getBoundingClientRect().right > innerWidth)"
        )
        assert page.evaluate(f"{images}.map(image => image.src)") == [], name
        moves = page.evaluate("""() => [...document.querySelectorAll('.table-wrapper')].map(box => {
            const cell = box.querySelector('td'), before = cell.getBoundingClientRect().left
            box.scrollLeft = 1000
            return [box.scrollLeft, cell.getBoundingClientRect().left - before] })""")
        assert all(abs(moved) < 1 for _, moved in moves), name
        scrolled += sum(by > 0 for by, _ in moves)
        page.context.close()
    assert scrolled > 3 or width > 1000


def test_the_menu_opens_on_a_phone(visit):
    page = visit("index.html", 390)
    link = page.locator(".sidebar-tree a", has_text="Results")
    assert link.bounding_box()["x"] < 0  # outside, at the left
    page.locator("header label[for=__navigation]").click()
    page.wait_for_function("link => link.getBoundingClientRect().left >= 0", arg=link.element_handle())
    link.click()
    page.wait_for_url("**/docs/Results.html")
    page.context.close()


@pytest.mark.parametrize("font", [None, "serif"])
def test_subscripts_are_lowered_with_and_without_a_font_for_mathematics(visit, site, font):
    style = read(site / "_static" / "site.css")
    style = re.sub(r"^math \{[^}]*\}", f"math {{ font-family: {font} }}", style, flags=re.M) if font else None
    page = visit("docs/Objectives.html", 1280, style)
    low = page.evaluate("""() => [...document.querySelectorAll('msub')].map(one => {
        const [base, script] = [...one.children].map(part => part.getBoundingClientRect())
        return (script.bottom - base.bottom) / parseFloat(getComputedStyle(one).fontSize) })""")
    assert len(low) > 20 and min(low) > 0.1
    assert page.evaluate("document.querySelectorAll('body > math').length") == 0  # the probe of site.js is gone
    page.context.close()


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


def test_images_from_elsewhere_become_their_words():
    text = (
        "[![Open in Colab](https://c.org/b.svg)](https://c.org/x) ![near](p.png) `![code](https://c.org/b.svg)`\n"
        '<img width="9" src="https://c.org/b.svg" alt="build"> <img src="p.png"> ![](http://c.org/b.svg)'
    )
    assert build.offline(text) == (
        '[<span class="badge">Open in Colab</span>](https://c.org/x) ![near](p.png) `![code](https://c.org/b.svg)`\n'
        '<span class="badge">build</span> <img src="p.png"> <span class="badge">image</span>'
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
