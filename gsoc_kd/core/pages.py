"""Blocks of a page that a command writes, between `<!-- NAME: anything -->` and `<!-- end of NAME -->`."""

import re
from pathlib import Path

from .files import InputError, replacing_file


def check_block(page, name):
    """The text of the file `page` before, in and after its block `name`; InputError where it has no such block."""
    text = Path(page).read_text(encoding="utf-8") if Path(page).is_file() else ""
    pattern = r"(.*?<!-- {0}: [^\n]*-->\n)(.*?)(<!-- end of {0} -->.*)".format(re.escape(name))
    if not (found := re.fullmatch(pattern, text, re.DOTALL)):
        raise InputError(f"{page} has no block between <!-- {name}: ... --> and <!-- end of {name} -->")
    return found.groups()


def write_block(page, name, text):
    """Replaces what stands in block `name` of the file `page` by `text`; InputError where it has no such block."""
    before, _, after = check_block(page, name)
    with replacing_file(page) as temporary:
        temporary.write_text(f"{before}{text.rstrip()}\n{after}", encoding="utf-8")
