"""What a notebook shows of an object: plain HTML, without scripts."""

from __future__ import annotations

import html
from collections.abc import Mapping

__all__ = ["facts"]


def facts(title: str, rows: Mapping[str, object], text: str = "") -> str:
    """Return a table of facts, all of it escaped.

    Args:
        title: What it is of.
        rows: Name → value.
        text: Lines below it, in a font of one width.
    """
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    below = f"<pre>{html.escape(text)}</pre>" if text else ""
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>{below}"
