"""Cells and tables of Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["cell", "number", "table"]


def cell(name: str, value: float | None) -> str:
    """Return a value of a curve's column as text, with as many digits as say something."""
    if value is None:
        return "–"
    shape = ".3g" if name in ("beta",) else ".0f" if name == "active_units" else ".3f"
    if name.startswith("fd_") or name in ("nll_ess", "w2"):
        shape = ".2f"
    elif name.endswith("_nats") and not name.startswith("auroc"):
        shape = ".2f"
    return f"{value:{shape}}".replace("-", "−")


def number(value: dict[str, Any] | None, signed: bool = False, digits: int = 2) -> str:
    """Return a mean and its standard error as text."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    se = "" if value["se"] is None else f" ± {value['se']:.{digits}f}"
    return f"{value['mean']:{sign}.{digits}f}{se}".replace("-", "−")


def table(titles: list[str], lines: list[list[str]]) -> str:
    """Return a table."""
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
