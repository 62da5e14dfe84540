"""Makes the site and the GitHub wiki from README, docs/ and the committed notebooks: `make docs`, `make wiki`.

    python docs/build.py site [folder]      # build/site/index.html, by Sphinx; a warning is an error
    python docs/build.py wiki [folder]      # build/wiki/*.md, to be pushed to the repository's wiki as it is

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
from sphinx.cmd.build import main as sphinx

import gsoc_kd
from gsoc_kd.core.files import replacing_folder

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMAGES = (".png", ".gif", ".jpg", ".svg")
# code first, so that a link inside it is left alone; then what follows ]( or src=" or href="
CODE, LINK = r"^(```+|~~~+).*?^\1[ \t]*$|(`+).+?\2", r"((?<=\]\()|(?<=src=\")|(?<=href=\"))[^()\s\"]+"
CODE_OR_LINK = re.compile(f"{CODE}|{LINK}", re.M | re.S)


def read(path):
    return path.read_text(encoding="utf-8")


def repository():
    """The one address of the code, from pyproject.toml."""
    return tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["urls"]["Repository"]


def on_github(path):
    """The address of a file or folder of the repository; of an image, that of its bytes."""
    if path.endswith(IMAGES):
        return f"{repository().replace('//github.com/', '//raw.githubusercontent.com/')}/main/{quote(path)}"
    return f"{repository()}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{quote(path)}"


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


def contents():
    """The site's menu, as the end of its front page: the pages' order and grouping is that of `_Sidebar.md`."""
    parts = re.split(r"^\*\*(.+)\*\*$", read(ROOT / "docs" / "_Sidebar.md"), flags=re.M)
    pages = [re.sub(r"^\* \[(.+?)\]\((.+?)\.md\)$", r"\1 <docs/\2>", items, flags=re.M) for items in parts[2::2]]
    groups = [(heading, items.strip()) for heading, items in zip(parts[1::2], pages)]
    groups.insert(1, ("Notebooks", "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)))
    groups[-1] = (groups[-1][0], groups[-1][1] + "\nPython <api>")
    return "".join(f"\n\n```{{toctree}}\n:hidden:\n:caption: {name}\n\n{items}\n```\n" for name, items in groups)


def api():
    """A page with the docstrings of the public names."""
    blocks = [f".. auto{'function' if name[0].islower() else 'class'}:: gsoc_kd.{name}\n" for name in gsoc_kd.__all__]
    return "Python\n======\n\n``import gsoc_kd as kd`` has these names.\n\n" + "\n".join(blocks)


def on_site(path):
    """Where a link of the site leads: None for a page or an image of it, whose link stays; else an address."""
    held = {"docs": (".md", *IMAGES), "notebooks": (".ipynb",)}.get(path.partition("/")[0], ())
    return "/index.md" if path == "README.md" else None if path.endswith(held) else on_github(path)


def in_wiki(path):
    """Where a link of the wiki leads: the name of a page, or an address."""
    folder, name = posixpath.split(path)
    return name.removesuffix(".md") if folder == "docs" and name.endswith(".md") else on_github(path)


def write_sources(folder):
    """What Sphinx reads: the same files in the same places, with README as the front page."""
    files = {"api.rst": api(), "index.md": rewrite(read(ROOT / "README.md"), "", on_site) + contents()}
    for path in sorted((ROOT / "docs").glob("[!_]*.md")):
        files[f"docs/{path.name}"] = rewrite(read(path), "docs", on_site)
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = rewrite(cell.source, "notebooks", on_site)
        files[f"notebooks/{path.name}"] = nbformat.writes(notebook)
    (folder / "docs").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in (ROOT / "docs").iterdir():
        if path.suffix in IMAGES:
            (folder / "docs" / path.name).write_bytes(path.read_bytes())


def site(build):
    """Writes `build`/site and returns its front page. At a warning it leaves an older site and ends with code 1."""
    with replacing_folder(build / "site-src") as source:
        write_sources(source)
    options = ["-q", "-W", "--keep-going", "-E", "-c", str(ROOT / "docs"), "-d", str(build / "site-doctrees")]
    with replacing_folder(build / "site") as out:
        if sphinx([*options, str(build / "site-src"), str(out)]):
            sys.exit("the site was not made: see the warnings above")
    return build / "site" / "index.html"


def wiki(build):
    """Writes `build`/wiki: the pages, with links to each other as a GitHub wiki names them."""
    with replacing_folder(build / "wiki") as folder:
        for path in (ROOT / "docs").glob("*.md"):
            (folder / path.name).write_text(rewrite(read(path), "docs", in_wiki), encoding="utf-8")
    return build / "wiki"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("site", "wiki"):
        sys.exit(__doc__)
    print({"site": site, "wiki": wiki}[sys.argv[1]](Path(*sys.argv[2:]) if sys.argv[2:] else ROOT / "build"))
