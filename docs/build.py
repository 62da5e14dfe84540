"""Makes the site and the GitHub wiki from README, docs/ and the committed notebooks, without executing anything.

    python docs/build.py site [folder]      # build/site/index.html, by Sphinx; a warning is an error
    python docs/build.py wiki [folder]      # build/wiki/*.md, to be pushed to the repository's wiki as it is
    python docs/build.py try [folder] --student runs/student    # build/try: the page Try it, of any student

Only links change: on the site those to anything that is no page of it, in the wiki all. `_Sidebar.md` orders both. The
site loads nothing from elsewhere: badges become words in a frame.
"""

import functools
import posixpath
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import quote, unquote

import nbformat
import tyro
from sphinx.cmd.build import main as sphinx
from try_page import try_page

import gsoc_kd
from gsoc_kd.core.files import InputError, replacing_folder

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMAGES = (".png", ".gif", ".jpg", ".svg")
# code first, so that a link inside it is left alone; then what follows ]( or src=" or href="
CODE, LINK = r"^(```+|~~~+).*?^\1[ \t]*$|(`+).+?\2", r"((?<=\]\()|(?<=src=\")|(?<=href=\"))[^()\s\"]+"
REMOTE = r"!\[(?P<words>[^\]]*)\]\(\s*(?:https?:)?//[^)]*\)|<img\b[^>]*?\bsrc=[\"'](?:https?:)?//[^>]*>"
read = functools.partial(Path.read_text, encoding="utf-8")
REPOSITORY = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["urls"]["Repository"]


def on_github(path):
    """The address of a file or folder of the repository; of an image, that of its bytes."""
    if path.endswith(IMAGES):
        return f"{REPOSITORY.replace('//github.com/', '//raw.githubusercontent.com/')}/main/{quote(path)}"
    return f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{quote(path)}"


def rewrite(text, home, target):
    """The Markdown `text` of a page in the repository's folder `home`, "docs" for instance, with its relative links
    changed to target(path in the repository); where that is None the link stays."""

    def replace(found):
        link = found[0]
        if found[3] is None or link.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:", link, re.I):
            return link
        path, hash_, anchor = link.partition("#")
        new = target(posixpath.normpath(posixpath.join(home, unquote(path))))
        return link if new is None else new + hash_ + anchor

    return re.sub(f"{CODE}|{LINK}", replace, text, flags=re.M | re.S)


def offline(text):
    """The Markdown `text` without images from elsewhere: each is a badge, the words that describe it in a frame."""

    def badge(found):
        if not found[0].startswith(("![", "<img")):
            return found[0]
        words = found["words"] or re.search(r"\balt=[\"']([^\"']+)", found[0])
        return f'<span class="badge">{words if isinstance(words, str) else words[1] if words else "image"}</span>'

    return re.sub(f"{CODE}|{REMOTE}", badge, text, flags=re.M | re.S)


def contents():
    """The site's menu, as the end of its front page: the pages' order and grouping is that of `_Sidebar.md`."""
    parts = re.split(r"^\*\*(.+)\*\*$", read(ROOT / "docs" / "_Sidebar.md"), flags=re.M)
    pages = [re.sub(r"^\* \[(.+?)\]\((.+?)\.md\)$", r"\1 <docs/\2>", items, flags=re.M) for items in parts[2::2]]
    pages[-1] = pages[-1].rstrip() + "\nPython <api>"
    pages[0] = "Try it <try/index>\n" + pages[0].lstrip()
    groups = list(zip(parts[1::2], pages))
    groups.insert(1, ("Notebooks", "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)))
    menu = "\n\n```{{toctree}}\n:hidden:\n:caption: {}\n\n{}\n```\n"
    return "".join(menu.format(heading, items.strip()) for heading, items in groups)


def on_site(path):
    """Where a link of the site leads: an address; None for a page or an image of the site, whose link stays."""
    held = {"docs": (".md", *IMAGES), "notebooks": (".ipynb",)}.get(path.partition("/")[0], ())
    if path in (moved := {"README.md": "/index.md", "docs/try/README.md": "/try/index.md"}):
        return moved[path]
    return None if path.endswith(held) else on_github(path)


def in_wiki(path):
    """Where a link of the wiki leads: the name of a page, or an address."""
    return path[5:-3] if re.fullmatch(r"docs/[^/]+\.md", path) else on_github(path)


def page(text, home):
    """The Markdown `text` of the repository's folder `home` as the site has it."""
    return offline(rewrite(text, home, on_site))


def jumps(text):
    """A notebook's Markdown with the links to its own headings, #2.-Find-it in Jupyter, as the site's anchors."""
    plain = functools.partial(re.sub, r"[^\w-]", "")
    return re.sub(r"\]\(#([^)]+)\)", lambda found: f"](#{plain(found[1].lower())})", text)


def write_sources(folder):
    """What Sphinx reads: the same files in the same places, with README as the front page."""
    blocks = [f".. auto{'function' if n[0].islower() else 'class'}:: gsoc_kd.{n}\n" for n in gsoc_kd.__all__]
    files = {"index.md": page(read(ROOT / "README.md"), "") + contents()}
    files["api.rst"] = "\n".join(["Python", "======\n", "``import gsoc_kd as kd`` has these names.\n", *blocks])
    files |= {f"docs/{path.name}": page(read(path), "docs") for path in ROOT.glob("docs/[!_]*.md")}
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = page(jumps(cell.source), "notebooks")
        files[f"notebooks/{path.name}"] = nbformat.writes(notebook)
    about = read(ROOT / "docs" / "try" / "README.md")  # stands where the page Try it could not be made
    files["try/index.md"] = rewrite(about, "docs/try", lambda path: on_site(path) or f"/{path}")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("*.md", "*.py", "try"))
    for name in ("notebooks", "try"):
        (folder / name).mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def site(build: tyro.conf.Positional[Path] = ROOT / "build"):
    """Writes `build`/site and returns its front page. At a warning it leaves an older site and ends with code 1."""
    with replacing_folder(build / "site") as out, tempfile.TemporaryDirectory() as source:
        write_sources(Path(source))
        places = ["-c", str(ROOT / "docs"), "-d", f"{source}/.doctrees", source, str(out)]
        if sphinx(["-q", "-W", "--keep-going", "-E", *places]):
            sys.exit("the site was not made: see the warnings above")
        try:
            try_page(out / "try", gsoc_kd.load_student())
        except InputError as error:
            if isinstance(error.__cause__, OSError):  # it is the disk
                raise
            print(f"left out of the site: the page Try it, since {error}")
    return build / "site" / "index.html"


def wiki(build: tyro.conf.Positional[Path] = ROOT / "build"):
    """Writes `build`/wiki: the pages, with links to each other as a GitHub wiki names them."""
    with replacing_folder(build / "wiki") as folder:
        for path in ROOT.glob("docs/*.md"):
            (folder / path.name).write_text(rewrite(read(path), "docs", in_wiki), encoding="utf-8")
    return build / "wiki"


def try_alone(build: tyro.conf.Positional[Path] = ROOT / "build", student: str | None = None):
    """Writes `build`/try: the page Try it of a student as `gsoc_kd.load_student` takes it; without one, the bundled."""
    try:
        network = gsoc_kd.load_student(*[student] if student else [])
        return try_page(build / "try", network, home=REPOSITORY)
    except InputError as error:
        sys.exit(f"the page was not made: {error}")


if __name__ == "__main__":
    print(tyro.extras.subcommand_cli_from_dict({"site": site, "wiki": wiki, "try": try_alone}))
