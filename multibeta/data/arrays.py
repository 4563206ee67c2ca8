"""Arrays that are in memory or in a file, looked at a piece at a time."""

__all__ = ["Form", "Rows", "Values", "joined", "let_go", "pieces", "values_of"]

import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PIECE = 2**24  # bytes


@dataclass(frozen=True)
class Form:
    """How examples in a file become examples of a data set.

    Args:
        shape: The shape of an example.
        dtype: uint8 for intensities, else float32.
        last: Whether the channels come last in the file.
        binary: Whether the file has 0 and 1 where a data set has 0 and 255.
    """

    shape: tuple[int, ...]
    dtype: type[np.generic]
    last: bool = False
    binary: bool = False

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Examples (B, ...) of the file as (B, *shape)."""
        rows = np.moveaxis(rows, -1, 1) if self.last else rows.reshape(len(rows), *self.shape)
        with np.errstate(over="ignore"):  # infinity is found later
            rows = np.ascontiguousarray(rows, dtype=self.dtype)
        return rows * np.uint8(255) if self.binary else rows


class Rows:
    """Some rows of a memory-mapped array, read and brought into form when they are asked for.

    Args:
        array: The memory map, (N, ...).
        form: What becomes of its rows; nothing by default.
        rows: Which rows, ascending; all by default.
    """

    def __init__(
        self, array: np.ndarray, form: Form | None = None, rows: np.ndarray | None = None
    ) -> None:
        self.array = array
        self.form = form
        self.rows = rows
        self.dtype = array.dtype if form is None else np.dtype(form.dtype)
        shape = array.shape[1:] if form is None else form.shape
        self.shape = (len(array) if rows is None else len(rows), *shape)

    def __len__(self) -> int:
        """The number of rows."""
        return self.shape[0]

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows (B, *shape) of the numbers in `index`."""
        rows = np.asarray(self.array[index if self.rows is None else self.rows[index]])
        return rows if self.form is None else self.form(rows)


class Values(NamedTuple):
    """What the values of an array are, as a model sees them.

    Attributes:
        low: The least; 0 for uint8, whose 0 to 255 are 0 to 1.
        high: The greatest; 1 for uint8.
        whole: Whether all are whole numbers.
        bad: How many rows have NaN or infinity.
        first: The first such row.
    """

    low: float
    high: float
    whole: bool
    bad: int = 0
    first: int = 0


def let_go(x: Tensor | np.ndarray | Rows) -> None:
    """Give back the memory of what was read of a mapped file; it stays in the system's cache."""
    mapped = getattr(x.array if isinstance(x, Rows) else x, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def pieces(x: Tensor | np.ndarray | Rows) -> Iterator[Tensor]:
    """The array in order, some megabytes at a time."""
    count = max(1, PIECE // max(1, x.dtype.itemsize * math.prod(x.shape[1:])))
    for start in range(0, len(x), count):
        rows = x[start : start + count]
        yield rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))
        let_go(x)


def values_of(x: Tensor | np.ndarray | Rows) -> Values:
    """What the values of an array are; it is read once, uint8 only as far as is needed."""
    if x.dtype in (torch.uint8, np.uint8):
        return Values(0.0, 1.0, all(bool(((p == 0) | (p == 255)).all()) for p in pieces(x)))
    low, high, whole, bad, first, start = math.inf, -math.inf, True, 0, 0, 0
    for piece in pieces(x):
        piece = piece if piece.is_floating_point() else piece.to(torch.float32)
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
        whole = whole and bool((piece == piece.trunc()).all())
        wrong = ~piece.isfinite().reshape(len(piece), -1).all(dim=1)
        if not bad and wrong.any():
            first = start + int(wrong.int().argmax())
        bad, start = bad + int(wrong.sum()), start + len(piece)
    return Values(low, high, whole, bad, first)


def joined(values: Iterable[Values]) -> Values:
    """What the values of several arrays are together."""
    low, high, whole, *_ = zip(*values, strict=True)
    return Values(min(low), max(high), all(whole))
