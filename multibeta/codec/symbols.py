"""How numbers on a grid become symbols, with tables that learn as they are written and read."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from multibeta.codec.streams import Reader, Writer
from multibeta.codec.tables import alphabet, learned, normal_cdf, shares

__all__ = ["Numbers", "Thirds", "blocks"]

_FIRST = 16  # symbols until a table is first looked at again
_CONTEXTS = 64  # cells on each side of 0 that have a table of thirds of their own
_MEMORY = 2**24  # symbols that are counted; of more, each counts half


def blocks(count: int, most: int) -> Iterator[slice]:
    """Yield the parts between which tables learn: 16 symbols, 16, 32, and so on to ``most``."""
    first, size = 0, _FIRST
    while first < count:
        last = min(count, first + size)
        yield slice(first, last)
        first, size = last, min(most, last)


class Numbers:
    """Whole numbers of steps, by a table that begins as N(0, 1).

    Args:
        step: The step, in units of 2⁻⁶⁴.
    """

    def __init__(self, step: int) -> None:
        self._alphabet = alphabet(step)
        self._counts = np.zeros(self._alphabet.size, dtype=np.int64)
        self._weights = self._alphabet.masses

    def write(self, writer: Writer, numbers: np.ndarray) -> None:
        """Write numbers (M,), and learn from them."""
        symbols, low, excess = self._alphabet.split(numbers)
        writer.symbols(symbols, self._weights)
        writer.bits(low, self._alphabet.shift)
        writer.naturals(excess)
        self._learn(symbols)

    def read(self, reader: Reader, count: int) -> np.ndarray:
        """Read numbers (M,), and learn from them."""
        symbols = reader.symbols(count, self._weights)
        low, excess = self._rest(reader, symbols)
        self._learn(symbols)
        return self._alphabet.join(symbols, low, excess)

    def certain(self, readers: Sequence[Reader], count: int) -> np.ndarray:
        """Read the first numbers that all readers agree upon, at most (count,); learn from all.

        Low bits, and how far beyond the ends a number is, come after the symbols of all. Once
        readers have differed, what they read is noise, which may agree by chance.
        """
        symbols = _agreed([reader.some(count, self._weights) for reader in readers])
        if len(symbols) == count:
            with contextlib.suppress(ValueError):
                rests = [self._rest(reader, symbols) for reader in readers]
                if all(
                    np.array_equal(a, b)
                    for rest in rests
                    for a, b in zip(rest, rests[0], strict=True)
                ):
                    self._learn(symbols)
                    return self._alphabet.join(symbols, *rests[0])
        further = self._alphabet.beyond(symbols) | (self._alphabet.shift > 0)
        plain = symbols[: int(further.argmax())] if further.any() else symbols
        return self._alphabet.join(plain, np.zeros_like(plain), plain[:0])

    def _rest(self, reader: Reader, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the low bits of symbols, and the excess of those beyond the ends."""
        low = reader.bits(len(symbols), self._alphabet.shift)
        return low, reader.naturals(int(self._alphabet.beyond(symbols).sum()))

    def _learn(self, symbols: np.ndarray) -> None:
        self._counts += np.bincount(symbols, minlength=self._alphabet.size)
        self._counts >>= self._counts.sum() > _MEMORY
        self._weights = learned(self._alphabet.masses, self._counts)


class Thirds:
    """Which third of its cell a value is in: 3p − 1, 3p or 3p + 1 of thirds, for cell p.

    A cell near 0 has a table of its own, which begins as N(0, 1); in those further out the thirds
    begin as equals, in one table.

    Args:
        step: The width of a third, in units of 2⁻⁶⁴.
    """

    def __init__(self, step: int) -> None:
        self._masses = _thirds(step)
        self._counts = np.zeros_like(self._masses)
        self._weights = self._masses

    def write(self, writer: Writer, cells: np.ndarray, numbers: np.ndarray) -> None:
        """Write the numbers (M,) of thirds of cells (M,), and learn from them."""
        at, symbols = self._contexts(cells), numbers - 3 * cells + 1
        writer.symbols(symbols, self._weights[at])
        self._learn(at, symbols)

    def read(self, reader: Reader, cells: np.ndarray) -> np.ndarray:
        """Read the numbers (M,) of thirds of cells (M,), and learn from them."""
        at = self._contexts(cells)
        symbols = reader.symbols(len(cells), self._weights[at])
        self._learn(at, symbols)
        return 3 * cells + symbols - 1

    def certain(self, readers: Sequence[Reader], cells: np.ndarray) -> np.ndarray:
        """Read the first numbers that all readers agree upon, at most (M,); learn from all."""
        at = self._contexts(cells)
        symbols = _agreed([reader.some(len(cells), self._weights[at]) for reader in readers])
        if len(symbols) == len(cells):
            self._learn(at, symbols)
        return 3 * cells[: len(symbols)] + symbols - 1

    def _contexts(self, cells: np.ndarray) -> np.ndarray:
        near = (cells >= -_CONTEXTS) & (cells <= _CONTEXTS)
        return np.where(near, cells + _CONTEXTS, 2 * _CONTEXTS + 1)

    def _learn(self, at: np.ndarray, symbols: np.ndarray) -> None:
        np.add.at(self._counts, (at, symbols), 1)
        self._counts >>= self._counts.sum(-1, keepdims=True) > _MEMORY
        self._weights = learned(self._masses, self._counts)


def _agreed(found: Sequence[np.ndarray]) -> np.ndarray:
    """Return the first symbols that are the same in all."""
    n = min(map(len, found))
    same = np.logical_and.reduce([each[:n] == found[0][:n] for each in found])
    return found[0][: n if same.all() else int(same.argmin())]


@lru_cache(maxsize=256)
def _thirds(step: int) -> np.ndarray:
    """Return what N(0, 1) gives to the thirds of each cell: (contexts, 3)."""
    masses = []
    for cell in range(-_CONTEXTS, _CONTEXTS + 1):
        edges = [normal_cdf((2 * (3 * cell + t) - 3) * step // 2) for t in range(4)]
        parts = [b - a for a, b in itertools.pairwise(edges)]
        masses.append(shares(parts if sum(parts) >> 20 else [1, 1, 1]))
    return np.stack([*masses, shares([1, 1, 1])])
