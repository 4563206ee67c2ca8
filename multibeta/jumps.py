"""Noticing a training that jumps: its objective rises at once, and may not come back."""

from __future__ import annotations

import math
from statistics import median

__all__ = ["Jumps"]

_WINDOW = 25
_SPREADS, _SHARE = 8.0, 0.25


class Jumps:
    """Watches a row of objectives, one a step, for a jump upwards.

    Of each 25 steps it takes the median, which single batches do not move. A jump is a median
    above the lowest so far by 8 spreads of that window (the median of distances from its median),
    and by a quarter of what the training has gained.
    """

    def __init__(self) -> None:
        self._window: list[float] = []
        self._first: float | None = None
        self._low, self._spread = math.inf, 0.0

    def add(self, objective: float) -> tuple[float, float] | None:
        """Add a step; return the median before and after, where it has jumped.

        Args:
            objective: The batch's mean of D + βR, or what stands in its place.
        """
        self._window.append(objective)
        if len(self._window) < _WINDOW:
            return None
        now, window = median(self._window), self._window
        self._window = []
        self._first = now if self._first is None else self._first
        if now < self._low:
            self._low, self._spread = now, median(abs(value - now) for value in window)
            return None
        rise, gained = now - self._low, self._first - self._low
        jumped = rise > max(_SPREADS * self._spread, _SHARE * gained)
        return (self._low, now) if jumped else None
