"""What the numbers of a data set are: their range, their moments, and a digest of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Summary", "Units", "units_of"]

_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Summary:
    """Sums over examples: how many, their range and moments, and a digest of them.

    The digest is a sum, modulo 2⁶⁴, of a hash of each example's values as float32: it does not
    depend on the order of the examples, on batches or on processes.
    """

    def __init__(self) -> None:
        self.n = 0
        self.low, self.high = math.inf, -math.inf
        self.sums = self.squares = torch.zeros(0)
        self.digest = 0
        self._per_channel = 1  # values of an example in each channel
        self._weights: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Add examples (B, C, …)."""
        if not len(x):
            return
        x = x.detach()
        flat = x.flatten(1) if x.ndim > 1 else x[:, None]
        of_channel = flat.reshape(len(x), x.shape[1] if x.ndim > 1 else 1, -1).double()
        sums, squares = of_channel.sum((0, 2)).cpu(), of_channel.square().sum((0, 2)).cpu()
        self.sums = self.sums + sums if self.n else sums
        self.squares = self.squares + squares if self.n else squares
        low, high = flat.aminmax()
        self.low, self.high = min(self.low, low.item()), max(self.high, high.item())
        self.n += len(x)
        self._per_channel = of_channel.shape[2]
        self.digest = _wrapped(self.digest + int(self._hashes(flat).sum().item()))

    def _hashes(self, flat: Tensor) -> Tensor:
        """Return a whole number for each example: (B,)."""
        d = flat.shape[1]
        if self._weights is None or self._weights.device != flat.device:
            generator = torch.Generator().manual_seed(0)
            drawn = torch.randint(-(2**62), 2**62, (d,), generator=generator)
            self._weights = (2 * drawn + 1).to(flat.device)
        bits = (flat.float() + 0.0).contiguous().view(torch.int32).long()  # 0 for −0
        h = (bits * self._weights).sum(1)
        for shift, factor in zip((30, 27), _MIX, strict=True):
            h = (h ^ (h >> shift)) * _wrapped(factor)
        return h ^ (h >> 31)

    def joined(self, gather: Callable[[Any], list[Any]]) -> Summary:
        """Return the sums over all processes.

        Args:
            gather: Gives every process's value of what it is given.
        """
        mine = (
            self.n, self.low, self.high, self.sums, self.squares, self.digest, self._per_channel
        )  # fmt: skip
        parts = [part for part in gather(mine) if part[0]]
        found = Summary()
        if parts:
            n, low, high, sums, squares, digest, _ = zip(*parts, strict=True)
            found.n, found.low, found.high = sum(n), min(low), max(high)
            found.sums, found.squares = torch.stack(sums).sum(0), torch.stack(squares).sum(0)
            found.digest = _wrapped(sum(digest))
            found._per_channel = max(part[-1] for part in parts)
        return found

    def units(self) -> Units:
        """Return what was seen."""
        values = self.n * self._per_channel
        mean = self.sums / values
        std = (self.squares / values - mean.square()).clamp(min=0).sqrt()
        return Units(self.n, self.low, self.high, mean.tolist(), std.tolist())

    @property
    def fingerprint(self) -> str:
        """The digest in hexadecimal digits."""
        return f"{self.digest % 2**64:016x}"


@dataclass(frozen=True)
class Units:
    """The units of x: what a model was trained on.

    Attributes:
        n: How many examples were looked at.
        low: The least value.
        high: The greatest value.
        mean: That of each channel, or feature.
        std: That of each channel, or feature.
    """

    n: int
    low: float
    high: float
    mean: list[float]
    std: list[float]

    @property
    def total(self) -> tuple[float, float]:
        """Mean and standard deviation over all values."""
        mean, std = torch.tensor(self.mean).double(), torch.tensor(self.std).double()
        m = mean.mean()
        return m.item(), (std.square().mean() + (mean - m).square().mean()).sqrt().item()

    @property
    def bounds(self) -> tuple[float, float] | None:
        """(0, 1) or (−1, 1) where the values fill it, as pictures do; else None."""
        for low in (0.0, -1.0):
            near = 0.05 * (1 - low)
            if low <= self.low <= low + near and 1 - near <= self.high <= 1:
                return low, 1.0
        return None

    @property
    def span(self) -> tuple[float, float]:
        """What is black and white in pictures: :attr:`bounds`, else the range that was seen."""
        return self.bounds or (self.low, self.high)

    @property
    def peak(self) -> float:
        """The width of the range of x, for PSNR: 1 within [0, 1], 2 within [−1, 1]."""
        if self.low >= 0 and self.high <= 1:
            return 1.0
        if self.low >= -1 and self.high <= 1:
            return 2.0
        return self.high - self.low

    def check(self, x: Tensor) -> None:
        """Refuse a batch of values that are not in these units.

        Raises:
            ValueError: If it goes far out of the bounds, or is a hundred times as large.
        """
        if not x.numel():
            return
        low, high = (v.item() for v in x.aminmax())
        if self._out(low, high) > 0.25:
            self._refuse(low, high)
        scale = max(abs(self.low), abs(self.high))
        if scale > 0 and max(abs(low), abs(high)) > 100 * scale:
            self._refuse(low, high)

    def _out(self, low: float, high: float) -> float:
        """How far values leave the bounds, in parts of their width."""
        if self.bounds is None:
            return 0.0
        least, most = self.bounds
        return max(least - low, high - most, 0.0) / (most - least)

    def _refuse(self, low: float, high: float) -> None:
        raise ValueError(
            f"the data has values in [{low:g}, {high:g}]; the model was trained on values in "
            f"[{self.low:g}, {self.high:g}]: bring the data into these units"
        )

    def doubts(self, other: Units) -> str | None:
        """Return what is odd about the units of other data, in a few words; None if nothing."""
        (mean, std), (m, s) = self.total, other.total
        seen = (
            f"x has values in [{other.low:g}, {other.high:g}], mean {m:.3g} ± {s:.3g}; in "
            f"training [{self.low:g}, {self.high:g}], mean {mean:.3g} ± {std:.3g}"
        )
        if self._out(other.low, other.high) > 0.01:
            return f"{seen}: are the units the same?"
        if self.bounds is not None:
            least, most = self.bounds
            if other.high - other.low < 0.2 * (most - least):
                return f"{seen}: are the units the same?"
            return None
        if std > 0 and not (std / 5 < s < 5 * std and abs(m - mean) < 5 * std):
            return f"{seen}: are the units the same?"
        return None


def units_of(x: Tensor) -> Units:
    """Return those of examples (N, C, …)."""
    summary = Summary()
    summary.add(x)
    return summary.units()


def _wrapped(value: int) -> int:
    """Return a whole number modulo 2⁶⁴, between −2⁶³ and 2⁶³."""
    return (value + 2**63) % 2**64 - 2**63
