"""Tables on terminals: one printer for all, within 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

__all__ = ["WIDTH", "columns", "keyed", "lines"]

WIDTH = 80
"""The columns of a terminal."""

_LONGEST = 40
_KEY = 12


def columns(
    titles: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1, most: int | None = None
) -> str:
    """Return cells as a table, each column as wide as it needs, under its title and a line.

    What is wider than 80 columns becomes several tables, one below the other, each with the first
    columns. A cell of more than 40 letters loses its beginning: "…/last/part/of/a/path".

    Args:
        titles: One a column.
        rows: Of each row its cells.
        keys: How many of the first columns say what a row is.
        most: How many of the other columns a table has at most.

    Example:
        >>> print(columns(["β", "rate R"], [["0.1", "31.2"], ["10", "1.4"]]))
          β  rate R
        -----------
        0.1    31.2
         10     1.4
    """
    cells = [[_cut(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first = list(range(keys))
    tables: list[list[int]] = [[]]
    for place in range(keys, len(titles)):
        table = [*first, *tables[-1], place]
        wide = sum(widths[i] for i in table) + 2 * (len(table) - 1) > WIDTH
        if tables[-1] and (wide or len(tables[-1]) == most):
            tables.append([])
        tables[-1].append(place)
    return "\n\n".join(_table(cells, widths, [*first, *table]) for table in tables)


def lines(text: str) -> str:
    """Return a sentence in lines of at most 80 columns."""
    return "\n".join(textwrap.wrap(text, WIDTH, break_on_hyphens=False))


def keyed(key: str, words: str) -> str:
    """Return words behind their key, in lines of at most 80 columns.

    Example:
        >>> print(keyed("β", "14,000 for Laplace"))
        β           14,000 for Laplace
    """
    return textwrap.fill(
        words, WIDTH, initial_indent=key.ljust(_KEY), subsequent_indent=" " * _KEY,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def _table(cells: Sequence[Sequence[str]], widths: Sequence[int], places: Sequence[int]) -> str:
    text = ["  ".join(row[i].rjust(widths[i]) for i in places) for row in cells]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _cut(cell: str) -> str:
    return cell if len(cell) <= _LONGEST else f"…{cell[-_LONGEST + 1 :]}"
