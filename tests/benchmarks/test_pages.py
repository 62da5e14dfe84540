"""A program's block of a page is replaced, and nothing else of the page."""

import pytest
from pages import check_block, markdown, write_block

from gsoc_kd.core.files import InputError

PAGE = """# Größe
<!-- speed: by `a` -->
old
<!-- end of speed -->
<!-- net speed: by `b` -->
<!-- end of net speed -->
"""


def test_a_block_is_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert check_block(page, "speed")[1] == "old\n" and check_block(page, "net speed")[1] == ""
    write_block(page, "speed", markdown(["a", "b"], [["\\1", 2]]) + "\n")  # no pattern of a replacement
    assert page.read_text(encoding="utf-8") == PAGE.replace("old", "| a | b |\n| --- | --: |\n| \\1 | 2 |")


@pytest.mark.parametrize("text", ["", "<!-- end of speed -->\n<!-- speed: late -->\n", "<!-- net speed: x -->\n"])
def test_a_page_without_the_block_is_named_and_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    for given in (page, tmp_path / "another page.md"):
        with pytest.raises(InputError, match="page.md has no block between <!-- speed: ... --> and <!-- end of speed"):
            write_block(given, "speed", "new")
    assert page.read_text() == text
