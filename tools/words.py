"""One word for one thing (docs/Glossary.md): `make lint` names the lines that say it otherwise.

Looked at are pages, notebooks, code and the command line's help, as text. CHANGELOG.md tells history and may.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORDS = {  # what not to write: what to write
    r"pictures?": "image, sample",
    r"triples?": "pairs",
    r"judges?": "evaluation classifier",
    r"films?": "training animation",
    r"floors?": "real test images, lower bound",
    r"class[ _]agreement": "class accuracy",
    r"frontiers?": "size-quality trade-off",
    r"levers?": "ablations",
    r"discs": "discriminators",
    r"embedded (teacher|student|classifier|network)s?": "bundled",
    r"drawn (image|sample|ship|cat)s?": "generated",
}
PATTERN = re.compile("|".join(rf"(?<![a-z])(?<!Math.)({word})(?![a-z])" for word in WORDS), re.I)
LEFT_OUT = {"CHANGELOG.md", "tools/words.py", "tests/tools/test_words.py"}


def main():
    found = [line for path in files() for line in wrong(text_of(path), path.relative_to(ROOT).as_posix())]
    print("\n".join(found) or "one word for one thing: nothing to change")
    return int(bool(found))


def files():
    """All texts of the project, without what is generated or history."""
    for folder in ("", "docs", "notebooks", "gsoc_kd", "tests", "tools", "benchmarks", "app", "examples"):
        for path in sorted((ROOT / folder).rglob("*") if folder else ROOT.glob("*")):
            if path.suffix in {".py", ".md", ".ipynb", ".toml", ".js", ".html"} or path.name == "Makefile":
                if path.relative_to(ROOT).as_posix() not in LEFT_OUT and "checkpoints" not in path.as_posix():
                    yield path


def text_of(path):
    """A file's text; of a notebook its cells and what they print, without images."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    parts = []
    for cell in json.loads(text)["cells"]:
        parts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            parts += [
                "".join(value)
                for value in (output.get("text"), data.get("text/plain"), data.get("text/markdown"))
                if value
            ]
    return "\n".join(parts)


def wrong(text, name):
    """A line of report for each word that is to be another."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in PATTERN.finditer(line):
            instead = next(good for bad, good in WORDS.items() if re.fullmatch(bad, match[0], re.I))
            yield f"{name}:{number}: {match[0]!r}, better: {instead}"


if __name__ == "__main__":
    sys.exit(main())
