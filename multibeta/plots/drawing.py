"""What the pictures share: where they are drawn and written, the colours of β, short numbers."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure

from multibeta.files import replacing

__all__ = [
    "DPI",
    "MAP",
    "STYLE",
    "SUFFIXES",
    "beta_colours",
    "canvas",
    "colour_bar",
    "figure_of",
    "finished",
    "number",
    "panels",
    "save",
    "symbol",
    "with_grid",
    "wrapped",
]

STYLE: dict[str, Any] = {"fontsize": 9}
"""The size of titles, labels and legends."""
MAP = "viridis"
"""The colours: as even in lightness as in hue, so that the colour-blind, and printers, tell them
apart."""
DPI = 200
"""Pixels an inch, of a picture of pixels."""
SUFFIXES = (".png", ".pdf", ".svg")
"""What a picture's name may end in."""

_USUAL = (0.01, 10.0)
_LETTERS = 14  # of this size, that an inch holds


def canvas(ax: Axes | None, size: tuple[float, float], title: str) -> tuple[Figure, Any]:
    """Return the figure and the axes of a picture that has one axes, under its title.

    Args:
        ax: Axes of the caller's; a figure of its own by default.
        size: Width and height of such a figure, inches.
        title: What the reader sees.
    """
    if ax is not None:
        inches = ax.bbox.width / ax.figure.dpi
        ax.set_title(wrapped(title, inches), loc="left", **STYLE)
        return figure_of(ax.figure), ax
    figure = panels(None, size, title)
    return figure_of(figure), figure.add_subplot()


def panels(figure: Figure | SubFigure | None, size: tuple[float, float], title: str) -> Any:
    """Return the figure, or part of one, of a picture that has several axes, under its title.

    Args:
        figure: A Figure or SubFigure of the caller's; a figure of its own by default.
        size: Width and height of such a figure, inches.
        title: What the reader sees.
    """
    if figure is None:
        figure = Figure(figsize=size, layout="constrained")
    inches = figure.bbox.width / figure_of(figure).dpi
    figure.suptitle(wrapped(title, inches), x=0.01, ha="left", **STYLE)
    return figure


def figure_of(figure: Any) -> Figure:
    """Return the whole figure of a part."""
    return figure.figure


def with_grid(axes: Any) -> None:
    """Draw a faint grid, and no frame above and to the right."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def wrapped(text: str, inches: float) -> str:
    """Return a text in lines that fit into a width."""
    width = max(12, int(_LETTERS * inches))
    return "\n".join("\n".join(textwrap.wrap(line, width)) for line in text.split("\n"))


def finished(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """Write a figure if there is a path, and return it."""
    if path is not None:
        save(figure, path)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; in .pdf and .svg files text stays text, which can be searched and edited.

    Raises:
        ValueError: If the name ends in something else than .png, .pdf or .svg.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"picture {path} ends in {suffix or 'nothing'}; allowed: {', '.join(SUFFIXES)}"
        )
    text_as_text: Any = {"svg.fonttype": "none", "pdf.fonttype": 42}
    with matplotlib.rc_context(text_as_text), replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def beta_colours(betas: Iterable[float], trained: tuple[float, float] | None = None) -> LogNorm:
    """Return what gives β its place among the colours: log β, over one range for all pictures.

    The range is [0.01, 10], made wider where the trained range, or a β that is drawn, lies
    outside. So β = 1 has the same colour in every picture of a run, and in those of all runs
    within [0.01, 10].

    Args:
        betas: The β's that are drawn.
        trained: The lowest and highest β that the model was trained on.

    Example:
        >>> norm = beta_colours([0.1, 1])
        >>> norm.vmin, norm.vmax
        (0.01, 10.0)
    """
    every = [*_USUAL, *(trained or ()), *map(float, betas)]
    return LogNorm(min(every), max(every))


def colour_bar(
    figure: Any, axes: Any, points: Any, values: np.ndarray, swept: str = "beta"
) -> None:
    """Draw the bar of the colours of β, over the values that are drawn."""
    bar = figure.colorbar(points, ax=axes, pad=0.02)
    bar.set_label(symbol(swept), rotation=0 if swept == "beta" else 90)
    low, high = float(values.min()), float(values.max())
    if high < 10 * low:  # there may be no power of ten
        bar.set_ticks(np.geomspace(low, high, 3 if low < high else 1).tolist())
    if low < high:
        bar.ax.set_ylim(low, high)
    bar.ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))
    bar.ax.yaxis.set_minor_formatter(ticker.NullFormatter())


def symbol(swept: str) -> str:
    """Return β for beta, λ_d for lambda_d."""
    letters = {"alpha": "α", "beta": "β", "gamma": "γ", "lambd": "λ", "lambda": "λ", "sigma": "σ"}
    return "_".join(letters.get(part, part) for part in swept.split("_"))


def number(value: float) -> str:
    """Return two digits, with an exponent where it is far from 1: 0.01, 250, 6.3e-8."""
    if 1e-3 <= abs(value) < 1e4 or not value:
        return f"{float(f'{value:.2g}'):g}"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"
