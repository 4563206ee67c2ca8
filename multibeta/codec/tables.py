"""Probabilities in whole numbers, the same on every machine: of N(0, 1), and learned ones."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

__all__ = ["TOTAL", "UNIT", "Alphabet", "alphabet", "learned", "normal_cdf", "shares", "step_of"]

TOTAL = 2**24
"""What the weights of an alphabet add up to."""

UNIT = 64
"""Fixed point: x is p / 2⁶⁴."""

_INNER = 160  # bits behind the point, within the series
_SCALE = 60  # Φ is a whole number of 2⁻⁶⁰
_PI = 31415926535897932384626433832795028841971693993751058209749445923078164
_END = 8  # cells reach from −8 to 8
_FINEST = 3  # cells are at least 2⁻³ wide, or one step
_PRIOR = 64  # what N(0, 1) counts for, in symbols


def normal_cdf(p: int) -> int:
    r"""Return Φ(x) of N(0, 1) in units of 2⁻⁶⁰, for x = p / 2⁶⁴, by whole numbers alone.

    .. math:: Φ(x) = \frac12 + \frac{1}{\sqrt{2π}} \,
        \frac{\sum_n x^{2n+1} / (2n+1)!!}{\sum_n (x^2/2)^n / n!}

    All terms are positive for x > 0, so nothing cancels.
    """
    if p < 0:
        return (1 << _SCALE) - normal_cdf(-p)
    if p > _END << UNIT:
        return 1 << _SCALE
    x = p << (_INNER - UNIT)
    square = x * x >> _INNER
    term, above, n = x, x, 1
    while term:
        term = (term * square >> _INNER) // (2 * n + 1)
        above, n = above + term, n + 1
    term, below, n = 1 << _INNER, 1 << _INNER, 1
    while term:
        term = (term * square >> (_INNER + 1)) // n
        below, n = below + term, n + 1
    return (1 << (_SCALE - 1)) + (above << _SCALE) // (below * _root_two_pi() >> _INNER)


@lru_cache
def _root_two_pi() -> int:
    digits = len(str(_PI)) - 1
    return math.isqrt((2 * _PI << 2 * _INNER) // 10**digits)


@lru_cache(maxsize=4096)
def step_of(exponent: int) -> int:
    """Return a step of the grid, 2^(−e/8), in units of 2⁻⁶⁴.

    Args:
        exponent: e, at most 500.
    """
    whole, eighths = divmod(-exponent, 8)
    root = 1 << 8 * UNIT  # 2^(eighths/8), by three square roots at most
    value = 2**eighths * root
    for _ in range(3):
        value = math.isqrt(value * root)
    shift = 7 * UNIT - whole
    return value >> shift if shift >= 0 else value << -shift


class Alphabet:
    """The symbols of a grid: cells of 2^shift steps between −8 and 8, and one beyond each end.

    Args:
        step: That of the grid, in units of 2⁻⁶⁴.

    Attributes:
        shift: How many low bits of a number are equally probable within its cell.
        first: The number of the first cell.
        size: How many symbols, those of both ends included.
        masses: What N(0, 1) gives them: (size,), at least 1 each, ``TOTAL`` together.
    """

    def __init__(self, step: int) -> None:
        self.shift = 0
        while step << self.shift < 1 << (UNIT - _FINEST):
            self.shift += 1
        wide = step << self.shift
        ends = -(-(_END << UNIT) // wide)  # cells on each side
        self.first = -ends
        cells = range(-ends, ends + 1)
        # Number k stands for the values from (k − ½) steps to (k + ½).
        edges = [(2 * (c << self.shift) - 1) * step // 2 for c in [*cells, ends + 1]]
        below = [normal_cdf(edge) for edge in edges]
        mass = [below[0], *(b - a for a, b in itertools.pairwise(below))]
        self.masses = shares([*mass, (1 << _SCALE) - below[-1]])
        self.size = len(self.masses)

    def beyond(self, symbols: np.ndarray) -> np.ndarray:
        """Return whether symbols stand for what is beyond the ends: (M,)."""
        return (symbols == 0) | (symbols == self.size - 1)

    def split(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the symbols of numbers, their low bits, and how far those are that are beyond.

        Args:
            numbers: Whole numbers of steps, int64: (M,).

        Returns:
            Symbols (M,); low bits (M,); excess, 0 or more, of those beyond an end, in order.
        """
        cells = numbers >> self.shift
        symbols = np.clip(cells - self.first + 1, 0, self.size - 1)
        last = self.first + self.size - 3
        excess = np.where(symbols == 0, self.first - 1 - cells, cells - last - 1)
        excess = excess[self.beyond(symbols)]
        return symbols, numbers - (cells << self.shift), excess

    def join(self, symbols: np.ndarray, low: np.ndarray, excess: np.ndarray) -> np.ndarray:
        """Return the numbers again; see :meth:`split`."""
        cells = symbols.astype(np.int64) + self.first - 1
        further = np.zeros_like(cells)
        further[self.beyond(symbols)] = excess
        cells = np.where(symbols == 0, cells - further, cells + further)
        return (cells << self.shift) + low


@lru_cache(maxsize=1024)
def alphabet(step: int) -> Alphabet:
    """Return the alphabet of a grid."""
    return Alphabet(step)


def shares(masses: list[int]) -> np.ndarray:
    """Return weights in the proportions of whole numbers: at least 1 each, ``TOTAL`` together."""
    total, free = sum(masses), TOTAL - len(masses)
    weights = np.array([1 + mass * free // total for mass in masses], dtype=np.int64)
    weights[weights.argmax()] += TOTAL - weights.sum()
    return weights


def learned(masses: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return weights that have learned: N(0, 1) counts as much as 64 symbols that were seen.

    Args:
        masses: Those of N(0, 1), ``TOTAL`` together: (…, size).
        counts: How often each symbol was seen: (…, size); fewer than 2²⁵ together.
    """
    # Below 2⁶³: the counts are below 2²⁵ together, and the masses, too.
    both = (_PRIOR * masses + (counts << 24)) >> 12
    free = TOTAL - masses.shape[-1]
    weights = 1 + both * free // both.sum(-1, keepdims=True)
    largest = weights.argmax(-1)[..., None]
    rest = TOTAL - weights.sum(-1, keepdims=True)
    np.put_along_axis(weights, largest, np.take_along_axis(weights, largest, -1) + rest, -1)
    return weights
