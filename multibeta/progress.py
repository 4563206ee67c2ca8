"""How far something is: a bar on a terminal and in a notebook, lines elsewhere."""

from __future__ import annotations

import html
import math
import operator
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

__all__ = ["NotebookBar", "Place", "place", "track"]

T = TypeVar("T")

_EVERY = 0.2
"""Seconds between two pictures of a bar in a notebook; each is a message to the browser."""


Place = Literal["terminal", "notebook", "elsewhere"]
"""Where the progress is read."""


def place() -> Place:
    """Return where stderr is read: on a terminal, in a notebook's output, or elsewhere.

    ``!command`` in a notebook has a terminal of its own, but what reads it knows no cursor: that
    is elsewhere.
    """
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is not None:
        return "notebook"
    below_a_kernel = "JPY_PARENT_PID" in os.environ
    return "terminal" if sys.stderr.isatty() and not below_a_kernel else "elsewhere"


class NotebookBar:
    """A bar in the output of a notebook's cell, drawn anew in its place; needs no widgets.

    Args:
        total: How much there is to do; infinity where that is not known.
    """

    def __init__(self, total: float) -> None:
        self.total = total
        self._handle: Any = None
        self._shown = -math.inf

    def show(self, done: float, text: str, last: bool = False) -> None:
        """Draw the bar, at most five times a second.

        Args:
            done: How much is done.
            text: What stands behind the bar, and in its place where there is no HTML.
            last: Whether to draw it whenever the one before was.
        """
        from IPython.display import display

        now = time.monotonic()
        if now - self._shown < _EVERY and not last:
            return
        self._shown = now
        total = max(self.total if math.isfinite(self.total) else done + (not last), 1)
        bar = f'<progress value="{done}" max="{total}" style="width: 16em"></progress>'
        drawn = {"text/plain": text, "text/html": f"{bar} {html.escape(text)}"}
        if self._handle is None:
            self._handle = display(drawn, raw=True, display_id=True)
        else:
            self._handle.update(drawn, raw=True)


def track(items: Iterable[T], label: str) -> Iterator[T]:
    """Yield items, with a bar that says how many are done.

    Args:
        items: The items; their number is taken from ``len``, where they know it.
        label: What they are.
    """
    if place() != "notebook":
        from rich.console import Console
        from rich.progress import track

        yield from track(items, label, console=Console(stderr=True))
        return
    total = operator.length_hint(items) or math.inf  # a stream may not know its length
    bar, done = NotebookBar(total), 0
    of = f" of {total}" if math.isfinite(total) else ""
    for item in items:
        bar.show(done, f"{label}: {done}{of}")
        yield item
        done += 1
    bar.show(done, f"{label}: {done}{of}", last=True)
