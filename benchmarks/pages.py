"""What programs write into pages: blocks between `<!-- NAME: anything -->` and `<!-- end of NAME -->`."""

import datetime
import re
import sys
from pathlib import Path

import torch

from gsoc_kd.core.checks import hardware
from gsoc_kd.core.files import InputError, replacing_file


def check_block(page, name):
    """The text of the file `page` before, in and after its block `name`; InputError where it has no such block."""
    text = Path(page).read_text(encoding="utf-8") if Path(page).is_file() else ""
    pattern = r"(.*?<!-- {0}: [^\n]*-->\n)(.*?)(<!-- end of {0} -->.*)".format(re.escape(name))
    if not (found := re.fullmatch(pattern, text, re.DOTALL)):
        raise InputError(f"{page} has no block between <!-- {name}: ... --> and <!-- end of {name} -->")
    return found.groups()


def write_block(page, name, text):
    """Replaces what stands in block `name` of the file `page` by `text`; InputError as above."""
    before, _, after = check_block(page, name)
    with replacing_file(page) as temporary:
        temporary.write_text(f"{before}{text.rstrip()}\n{after}", encoding="utf-8")


def markdown(head, rows, left=1):
    """A table for a page: so many columns stand left, the others right."""
    lines = [head, ["---"] * left + ["--:"] * (len(head) - left), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def written_by(command, *where):
    """The sentence below a table: by which program, where and when."""
    told = f"PyTorch {torch.__version__.split('+')[0]}", hardware(), *where, f"{datetime.date.today()}."
    return ", ".join([f"Written by `python {command}`", *told])


def main_program(program, *inputs):
    """Runs a program; an InputError ends it with one line."""
    try:
        program(*inputs)
    except InputError as error:
        sys.exit(f"error: {error}")
