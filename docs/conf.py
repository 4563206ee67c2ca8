"""Sphinx configuration: MyST pages, executed while they are built, and the API from docstrings."""

import re
from pathlib import Path
from typing import Any

import multibeta
from multibeta.report import report

project = "multibeta"
author = "the authors of multibeta"
copyright = author
version = release = multibeta.__version__

extensions = [
    "myst_nb",  # MyST pages; those with a kernel in their header are executed
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
# The research log is kept for the people who work on multibeta.
exclude_patterns = ["_build", "examples", "jupyter_execute", "research-log.md"]

# Docstrings write code in single or double backticks.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # "x: (B, Z)" under Returns is a name and a shape, not a type
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
add_module_names = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables that cells make are Markdown

html_theme = "furo"
html_title = f"multibeta {version}"


def _escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let docstrings write shapes such as (B, *shape): reST takes the star for emphasis."""
    star = re.compile(r"(?<![\w`*\\])\*(?=(?:shape|latent)\b)")
    lines[:] = [star.sub(r"\\*", line) for line in lines]


def _explain(app: Any) -> None:
    """Write the page that docs/index.md links first: a slider of β over the shipped model."""
    if app.builder.format == "html":
        report(["digits"], Path(app.outdir) / "explainer.html", explain=True)


def setup(app: Any) -> None:
    """Prepare Sphinx."""
    app.connect("builder-inited", _explain)
    app.connect("autodoc-process-docstring", _escape)
