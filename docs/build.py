"""Makes the site and the GitHub wiki from README, docs/ and the committed notebooks: `make docs`, `make wiki`.

    python docs/build.py site      # build/site/index.html, by Sphinx; a warning is an error
    python docs/build.py wiki      # build/wiki/*.md, to be pushed to the repository's wiki as it is

A folder after the verb takes the place of build/.

Pages are written once, with links that work among the files on GitHub. Here only links change: on the site those to
anything that is no page of it, in the wiki all of them. `_Sidebar.md` gives both their order. Nothing is executed.
"""

import posixpath
import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote, unquote

import nbformat

from gsoc_kd.core.files import replacing_folder

ROOT = Path(__file__).resolve().parent.parent
PICTURES = (".png", ".gif", ".jpg", ".svg")
# code first, so that a link inside it is left alone; then what follows ]( or src=" or href="
CODE_OR_LINK = re.compile(
    r"^(```+|~~~+).*?^\1[ \t]*$|(`+).+?\2|((?<=\]\()|(?<=src=\")|(?<=href=\"))[^()\s\"]+", re.M | re.S
)


def repository():
    """The one address of the code, from pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def on_github(path):
    """The address of a file or folder of the repository; of a picture, that of its bytes."""
    address, path = repository(), str(path)
    if path.endswith(PICTURES):
        return address.replace("//github.com/", "//raw.githubusercontent.com/") + f"/main/{quote(path)}"
    return f"{address}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{quote(path)}"


def rewrite(text, home, target):
    """Markdown with its relative links changed.

    Args:
        text: the page.
        home: its folder in the repository, such as "docs"; links are relative to it.
        target: what to write for a path in the repository; None leaves the link as it is.
    """

    def replace(found):
        link = found[0]
        if found[3] is None or link.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:", link, re.I):
            return link
        path, hash_, anchor = link.partition("#")
        new = target(posixpath.normpath(posixpath.join(home, unquote(path))))
        return link if new is None else new + hash_ + anchor

    return CODE_OR_LINK.sub(replace, text)


def sidebar():
    """[(heading, [(title, page), ...]), ...]: the pages' order and grouping."""
    parts = re.split(r"^\*\*(.+)\*\*$", (ROOT / "docs" / "_Sidebar.md").read_text(encoding="utf-8"), flags=re.M)
    return [(heading, re.findall(r"\[(.+?)\]\((.+?)\.md\)", items)) for heading, items in zip(parts[1::2], parts[2::2])]


def contents(notebooks):
    """The site's menu, as the end of its front page."""
    groups = [(heading, [f"{title} <docs/{page}>" for title, page in pages]) for heading, pages in sidebar()]
    groups[1:1] = [("Notebooks", [f"notebooks/{path.stem}" for path in notebooks])]
    groups[-1][1].append("Python <api>")
    return "".join(
        "\n\n```{toctree}\n:hidden:\n:caption: " + "\n".join([heading, "", *entries]) + "\n```\n"
        for heading, entries in groups
    )


def api():
    """A page with the docstrings of the public names."""
    import gsoc_kd

    blocks = [f".. auto{'function' if name[0].islower() else 'class'}:: gsoc_kd.{name}\n" for name in gsoc_kd.__all__]
    return "Python\n======\n\n``import gsoc_kd as kd`` has these names.\n\n" + "\n".join(blocks)


def write_sources(folder):
    """What Sphinx reads: the same files in the same places, with README as the front page."""

    def target(path):
        if path == "README.md":
            return "/index.md"
        page = (
            path.startswith("docs/")
            and path.endswith((".md", *PICTURES))
            or path.startswith("notebooks/")
            and path.endswith(".ipynb")
        )
        return None if page else on_github(path)

    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for name in ("docs", "notebooks"):
        (folder / name).mkdir(parents=True)
    for path in (ROOT / "docs").iterdir():
        if path.suffix in PICTURES:
            (folder / "docs" / path.name).write_bytes(path.read_bytes())
        elif path.suffix == ".md" and path.name != "_Sidebar.md":
            text = rewrite(path.read_text(encoding="utf-8"), "docs", target)
            (folder / "docs" / path.name).write_text(text, encoding="utf-8")
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = rewrite(cell.source, "notebooks", target)
        nbformat.write(notebook, folder / "notebooks" / path.name)
    front = rewrite((ROOT / "README.md").read_text(encoding="utf-8"), "", target) + contents(notebooks)
    (folder / "index.md").write_text(front, encoding="utf-8")
    (folder / "api.rst").write_text(api(), encoding="utf-8")


def site(build):
    """Writes `build`/site and returns its front page. At a warning it leaves an older site and ends with code 1."""
    from sphinx.cmd.build import main as sphinx

    with replacing_folder(build / "site-src") as source:
        write_sources(source)
    options = ["-q", "-W", "--keep-going", "-E", "-c", str(ROOT / "docs"), "-d", str(build / "site-doctrees")]
    with replacing_folder(build / "site") as out:
        if sphinx([*options, str(build / "site-src"), str(out)]):
            sys.exit("the site was not made: see the warnings above")
    return build / "site" / "index.html"


def wiki(build):
    """Writes `build`/wiki: the pages, with links to each other as a GitHub wiki names them."""

    def target(path):
        folder, name = posixpath.split(path)
        return name.removesuffix(".md") if folder == "docs" and name.endswith(".md") else on_github(path)

    with replacing_folder(build / "wiki") as folder:
        for path in (ROOT / "docs").glob("*.md"):
            text = rewrite(path.read_text(encoding="utf-8"), "docs", target)
            (folder / path.name).write_text(text, encoding="utf-8")
    return build / "wiki"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("site", "wiki"):
        sys.exit(__doc__)
    folder = Path(sys.argv[2]) if len(sys.argv) == 3 else ROOT / "build"
    print({"site": site, "wiki": wiki}[sys.argv[1]](folder))
