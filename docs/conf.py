"""Sphinx's settings of the site, whose sources docs/build.py collects. Nothing is loaded from elsewhere."""

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

import gsoc_kd

project = html_title = "gsoc_kd"
author = "the gsoc_kd contributors"
version = release = gsoc_kd.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
highlight_language = "none"  # for blocks that do not name theirs
default_role = "code"  # docstrings put names in single backticks
autodoc_typehints = "none"  # the docstrings say what is meant
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # with GitHub's slugs
nb_execution_mode = "off"  # the notebooks are shown as committed
nb_render_markdown_format = "gfm"  # a table that a cell shows is a table
nb_ipywidgets_js = {}
html_theme, html_math_renderer = "furo", "mathml"  # which browsers draw themselves
html_static_path, html_css_files, html_js_files = ["site.css", "site.js"], ["site.css"], ["site.js"]
html_copy_source = html_show_sourcelink = html_show_copyright = html_use_index = False


def inline(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode  # what the node holds, LaTeX, is not to be shown as well


def block(translator, node):
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
