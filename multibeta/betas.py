"""The range of β, or of another weight: drawing, standardising, checking, and parsing it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

__all__ = ["BetaRange", "parse_betas", "parse_weight"]

_ALLOWED = "LOW:HIGH, LOW:HIGH:N or a list such as 0.1,1,4, with finite numbers above 0"


@dataclass(frozen=True)
class BetaRange:
    r"""A log-uniform range of β, the weight of the rate in :math:`D + \beta R`.

    It alone owns the logarithm and the standardisation: networks see a standardised scalar,
    objectives see β.

    Args:
        low: The smallest β, above 0.
        high: The largest β, at least ``low``; equal to it for a dedicated β-VAE.
        name: That of the weight, where it is another than β.

    Raises:
        ValueError: If the bounds are not finite, not above 0, or in the wrong order.

    Example:
        >>> BetaRange(0.01, 10).standardise(torch.tensor([0.01, 10.0]))
        tensor([-1.7321,  1.7321])
    """

    low: float
    high: float
    name: str = "beta"

    def __post_init__(self) -> None:
        """Check the bounds."""
        given = f"{_option(self.name)}={self.low:g}:{self.high:g}"
        for bound in (self.low, self.high):
            if not (math.isfinite(bound) and bound > 0):
                raise ValueError(
                    f"{given} has the bound {bound:g}; write LOW:HIGH, finite and above 0"
                )
        if self.low > self.high:
            raise ValueError(f"{given} is upside down; write {self.high:g}:{self.low:g}")

    @classmethod
    def parse(cls, text: str | float, name: str = "beta") -> BetaRange:
        """Read ``"LOW:HIGH"``, or one number ``"B"`` for the range [B, B].

        Args:
            text: What was given.
            name: That of the weight.

        Raises:
            ValueError: If the text is neither.
        """
        parts = str(text).split(":")
        if len(parts) > 2:
            given = f"{_option(name)}={text}"
            raise ValueError(f"{given} is not a range; write LOW:HIGH, such as 0.01:10")
        numbers = [_number(part, text, name) for part in parts]
        return cls(numbers[0], numbers[-1], name)

    def draw(
        self,
        n: int,
        times: int = 1,
        *,
        ends: float = 0.0,
        tilt: float = 1.0,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Draw β's for n examples log-uniformly, or more of the low ones.

        :math:`β = low\,(high/low)^{U^t}` with U uniform on [0, 1] and t the ``tilt``. The draws
        are stratified twice: [0, 1] is cut into as many strata as an example gets β's, each of
        these into n, and there is one U in each. Each U is still uniform, but their mean has a
        variance of order 1/n³ instead of 1/n, and an example has low and high β's at once.

        Args:
            n: How many examples.
            times: How many β's each of them gets.
            ends: The probability of drawing exactly low or exactly high, half each; the rest lies
                between them.
            tilt: 1 draws log-uniformly, more draws low β's more often.
            device: Where to draw.
            generator: Source of randomness; the global one by default.

        Returns:
            β: (times · n,), the n examples times times, float32, within [low, high].
        """
        random = partial(torch.rand, times, n, device=device, generator=generator)
        order = [torch.randperm(n, device=device, generator=generator) for _ in range(times)]
        u = (torch.stack(order) + random()) / n
        if times > 1:
            u = (torch.arange(times, device=device)[:, None] + u) / times
            u = u.gather(0, random().argsort(0))
        u = ((u.flatten() - ends / 2) / (1 - ends)).clamp(0, 1) ** tilt
        log_low, log_high = math.log(self.low), math.log(self.high)
        return (log_low + (log_high - log_low) * u).exp().clamp(self.low, self.high)

    def opened(self, fraction: float) -> BetaRange:
        """Return the upper part of the range: the given fraction of its width in log β."""
        low = self.high * (self.low / self.high) ** min(fraction, 1.0)
        return replace(self, low=min(max(self.low, low), self.high))

    def standardise(self, beta: Tensor) -> Tensor:
        r"""Shift and scale log β to mean 0 and variance 1 under the log-uniform range.

        :math:`s = \sqrt{12}\,(\log β - m) / w` with m the middle and w the width of
        [log low, log high], so that :math:`s \in [-\sqrt 3, \sqrt 3]`; 0 if low = high.

        Args:
            beta: β, any shape.

        Returns:
            s, the same shape and dtype.
        """
        log_low, log_high = math.log(self.low), math.log(self.high)
        if log_low == log_high:
            return torch.zeros_like(beta)
        middle, width = (log_low + log_high) / 2, log_high - log_low
        return (beta.log() - middle) * (math.sqrt(12) / width)

    def check(self, beta: float, *, extrapolate: bool = False) -> float:
        """Return β if it may be asked for.

        Raises:
            ValueError: If it is not a finite number above 0, or lies outside the range and
                ``extrapolate`` is not set.
        """
        if not (math.isfinite(beta) and beta > 0):
            raise ValueError(f"{self.name}={beta:g} is not a finite number above 0")
        # A bound that went through float32 or a printed table is still the bound.
        slack = 1e-6
        inside = self.low * (1 - slack) <= beta <= self.high * (1 + slack)
        if not (inside or extrapolate):
            raise ValueError(
                f"{self.name}={beta:g} is outside the trained range "
                f"[{self.low:g}, {self.high:g}]; pass extrapolate=True to try"
            )
        return float(beta)

    @property
    def is_one(self) -> bool:
        """Whether there is one β in it."""
        return self.low == self.high

    @property
    def middle(self) -> float:
        """The geometric mean of low and high."""
        return float(f"{math.sqrt(self.low * self.high):.12g}")

    def grid(self, n: int) -> tuple[float, ...]:
        """Return n log-spaced β from low to high, ends included and exact."""
        if n < 1:
            raise ValueError(f"a grid of {n} points is empty; ask for at least 1")
        if n == 1 or self.is_one:
            return (self.low,)
        ratio = self.high / self.low
        inner = (self.low * ratio ** (i / (n - 1)) for i in range(1, n - 1))
        # 0.1, not 0.09999999999999998, in tables and files.
        return (self.low, *(float(f"{beta:.12g}") for beta in inner), self.high)

    def __str__(self) -> str:
        """Write the range as it is parsed."""
        return f"{self.low:g}:{self.high:g}"


def parse_betas(betas: str | float | Iterable[float]) -> tuple[float, ...]:
    """Read the β's a user asks for.

    Args:
        betas: ``"LOW:HIGH"`` (16 log-spaced points), ``"LOW:HIGH:N"``, ``"0.1,1,4"``, a number
            or numbers.

    Returns:
        The β's in rising order, each once.

    Raises:
        ValueError: If they cannot be read, are not finite numbers above 0, or are none.

    Example:
        >>> parse_betas("0.01:1:3")
        (0.01, 0.1, 1.0)
    """
    if isinstance(betas, str) and ":" in betas:
        parts = betas.split(":")
        if len(parts) > 3:
            raise ValueError(f"betas={betas} has {len(parts)} parts; allowed: {_ALLOWED}")
        low, high = (_number(part, betas) for part in parts[:2])
        return BetaRange(low, high).grid(_count(parts[2], betas) if len(parts) == 3 else 16)
    if isinstance(betas, str):
        numbers = [_number(part, betas) for part in betas.split(",")]
    else:
        numbers = [float(b) for b in (betas if isinstance(betas, Iterable) else [betas])]
    if not numbers:
        raise ValueError(f"betas is empty; allowed: {_ALLOWED}")
    for number in numbers:
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"betas={betas} has {number:g}; allowed: {_ALLOWED}")
    return tuple(sorted(set(numbers)))


def parse_weight(name: str, given: str | float, positive: bool = False) -> float | BetaRange:
    """Read the weight of a term: a number, or a range ``"LOW:HIGH"`` to draw it from.

    Args:
        name: The weight's.
        given: What was given.
        positive: Whether 0 is refused, as in a range in any case.

    Raises:
        ValueError: If it is neither, negative, or not finite.
    """
    if ":" in str(given):
        found = BetaRange.parse(given, name)
        return found.low if found.is_one else found
    allowed = "above 0" if positive else "of 0 or more"
    try:
        number = float(given)
    except ValueError:
        raise ValueError(
            f"{name}={given} cannot be read; give a number {allowed}, or a range LOW:HIGH"
        ) from None
    if not (math.isfinite(number) and number >= 0) or (positive and number == 0):
        raise ValueError(f"{name}={number:g} is not a finite number {allowed}")
    return number


def _option(name: str) -> str:
    """Return what a user writes for a range: betas for beta."""
    return "betas" if name == "beta" else name


def _number(text: str, whole: object, name: str = "beta") -> float:
    try:
        return float(text)
    except ValueError:
        given = f"{_option(name)}={whole}"
        raise ValueError(f"{given} cannot be read; allowed: {_ALLOWED}") from None


def _count(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"betas={whole} asks for {text or 'no'} points; N is at least 1")
    return int(text)
