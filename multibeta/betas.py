"""The range of β, or of another weight: drawing, standardising, checking, and parsing it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

__all__ = ["BetaRange", "Draws", "exact", "parse_betas", "parse_weight"]

_LEAST, _GREATEST = 1e-37, 1e37
_MOST_POINTS = 10_000

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
        given = f"{_option(self.name)}={self}"
        for bound in (self.low, self.high):
            if not (math.isfinite(bound) and bound > 0):
                raise ValueError(
                    f"{given} has the bound {bound:g}; write LOW:HIGH, finite and above 0"
                )
            if not _LEAST <= bound <= _GREATEST:
                raise ValueError(
                    f"{given} has the bound {bound:g}, which single precision does not hold; "
                    f"write LOW:HIGH between {_LEAST:g} and {_GREATEST:g}"
                )
        if self.low > self.high:
            raise ValueError(f"{given} is upside down; write {exact(self.high)}:{exact(self.low)}")

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
        if self.is_one:
            return torch.full((times * n,), self.low, device=device)
        random = partial(torch.rand, times, n, device=device, generator=generator)
        order = [torch.randperm(n, device=device, generator=generator) for _ in range(times)]
        u = (order[0] if times == 1 else torch.stack(order)) + random()
        if times > 1:
            u += n * torch.arange(times, device=device)[:, None]
            u = u.gather(0, random().argsort(0))
        u = u.flatten().mul_(1 / (times * n)).sub_(ends / 2).div_(1 - ends).clamp_(0, 1).pow_(tilt)
        log_low, log_high = math.log(self.low), math.log(self.high)
        return u.mul_(log_high - log_low).add_(log_low).exp_().clamp_(self.low, self.high)

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
                f"{self.name}={exact(beta)} is outside the trained range "
                f"[{exact(self.low)}, {exact(self.high)}]; pass extrapolate=True to try"
            )
        return float(beta)

    @property
    def is_one(self) -> bool:
        """Whether there is one β in it."""
        return self.low == self.high

    @property
    def middle(self) -> float:
        """The geometric mean of low and high."""
        return self._rounded(math.sqrt(self.low) * math.sqrt(self.high))

    @property
    def unit(self) -> float:
        """What β is large or small beside: two thirds up the range in log β; 1 for one β.

        It is 1 for 0.01:10, and moves with the range: D and β in other units are the same to it.
        """
        if self.is_one:
            return 1.0
        return float(f"{self.low ** (1 / 3) * self.high ** (2 / 3):.12g}")

    def grid(self, n: int) -> tuple[float, ...]:
        """Return n log-spaced β from low to high, ends included and exact."""
        if n < 1:
            raise ValueError(f"a grid of {n} points is empty; ask for at least 1")
        if n == 1 or self.is_one:
            return (self.low,)
        low, width = math.log(self.low), math.log(self.high) - math.log(self.low)
        inner = (math.exp(low + width * i / (n - 1)) for i in range(1, n - 1))
        return (self.low, *map(self._rounded, inner), self.high)

    def _rounded(self, beta: float) -> float:
        """Return 0.1, not 0.09999999999999998, for tables and files; within the range."""
        return min(max(float(f"{beta:.12g}"), self.low), self.high)

    def __str__(self) -> str:
        """Write the range so that it is parsed to the same numbers."""
        return f"{exact(self.low)}:{exact(self.high)}"


@dataclass(frozen=True)
class Draws:
    r"""What a training draws for a batch, and how it weighs it.

    .. math:: \frac1d \, \mathrm{mean}_b \, \frac{D_b + β_b R_b}{(1 + β_b / u)^a}

    with d the number of values in x, u the :attr:`BetaRange.unit` and a the ``balance``. Neither
    factor moves the optimum at any β: d makes one clipping threshold fit every data set, a shares
    the capacity over the range, and u makes it the same for D in other units. With further ranges
    their weights are added to β.

    Args:
        per: How many neighbours in a batch share their β's: so many, or as many of them as divide
            the batch; ``example`` is 1, ``batch`` all. What depends on β alone is computed once
            for them. An objective that looks at the codes of examples together always has one for
            all.
        betas_per_example: How many β's each example of a batch gets, spread over the range, with
            noise in opposite pairs. What is the same for all β's does its work once for all of
            them. A model of one β has as many samples of the code, in opposite pairs. None is 1,
            and 2 for an objective that looks at the codes of examples together, whose steps would
            else see one β.
        ends: The fraction of the draws that fall on exactly the lowest or the highest β: an end of
            the range has neighbours on one side only, and is learned worse without it.
        tilt: 1 draws β log-uniformly, more draws low ones, which have more to learn, more often
            (:meth:`BetaRange.draw`).
        opening: The fraction of the training in which the range opens, evenly in log β, from its
            high end down to the whole. A high β can shut latents in one basis of the code only,
            and chooses it before the low ones, to which any basis will do. 0 draws from the whole
            range from the start. None is .25 for a decoder with convolutions and 0 for others,
            whose latents hardly open again where a high β has shut them.
        balance: The power a of the weight; 0 weighs all β alike.

    Raises:
        ValueError: If an argument is out of its domain.
    """

    per: int | Literal["example", "batch"] = 8
    betas_per_example: int | None = None
    ends: float = 0.3
    tilt: float = 2.0
    opening: float | None = None
    balance: float = 0.25

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, value in vars(self).items():
            if value is None and name not in ("betas_per_example", "opening"):
                raise ValueError(f"{name} is null; give a number, or leave it out")
        if self.per not in ("example", "batch") and not (type(self.per) is int and self.per > 0):
            raise ValueError(
                f"per={self.per} is unknown; allowed: example, batch, or a number from 1 up"
            )
        if self.times < 1:
            raise ValueError(
                f"betas_per_example={self.betas_per_example} is too small; it is at least 1"
            )
        if not 0 <= self.ends < 1:
            raise ValueError(f"ends={self.ends:g} is outside [0, 1)")
        if not (math.isfinite(self.tilt) and self.tilt > 0):
            raise ValueError(f"tilt={self.tilt:g} is not a finite number above 0")
        if self.opening is not None and not 0 <= self.opening <= 1:
            raise ValueError(f"opening={self.opening:g} is outside [0, 1]")
        if not math.isfinite(self.balance):
            raise ValueError(f"balance={self.balance:g} is not a finite number")

    @property
    def times(self) -> int:
        """How many β's each example gets."""
        return 1 if self.betas_per_example is None else self.betas_per_example

    def shared(self, n: int, together: bool = False) -> int:
        """Return how many neighbours in a batch of n examples share their β's.

        Args:
            n: Examples in the batch.
            together: Whether all do.
        """
        if together or self.per == "batch":
            return n
        return 1 if self.per == "example" else math.gcd(n, self.per)

    def draw(
        self,
        ranges: Mapping[str, BetaRange],
        n: int,
        progress: float = 1.0,
        together: bool = False,
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Draw β, and the other weights that are ranges, for a batch of n examples.

        Args:
            ranges: Name → range; β's is ``beta``.
            n: Examples in the batch.
            progress: The fraction of the training that is done.
            together: Whether all examples share their β's.
            device: Where to draw.

        Returns:
            Name → (kn,), the batch k times, k = :attr:`times`.
        """
        each = self.shared(n, together)
        if self.opening and progress < self.opening:
            ranges = {**ranges, "beta": ranges["beta"].opened(progress / self.opening)}
        return {
            name: of.draw(
                n // each,
                self.times,
                ends=self.ends,
                tilt=self.tilt if name == "beta" else 1.0,
                device=device,
            ).repeat_interleave(each)
            for name, of in ranges.items()
        }

    def noise(self, x: Tensor, shape: tuple[int, ...], samples: int = 1, parts: int = 1) -> Tensor:
        """Draw the noise of a batch's codes, a row for each of :meth:`draw`'s β's.

        That of an example's β's comes in opposite pairs, ε and −ε, so that what is linear in it
        leaves the gradient: antithetic sampling.

        Args:
            x: The batch.
            shape: That of z.
            samples: How many samples each row gets; all rows come so many times.
            parts: How many such batches the noise is for; B is the number of examples of all.

        Returns:
            (samples · kB, *shape).
        """
        times, dtype = self.times, x.dtype if x.is_floating_point() else None
        n = len(x) * parts
        noise = torch.randn(samples, (times + 1) // 2 * n, *shape, dtype=dtype, device=x.device)
        return torch.cat([noise, -noise], dim=1)[:, : times * n].flatten(0, 1)

    def weigh(self, objective: Tensor, values: Mapping[str, Tensor], unit: float) -> Tensor:
        """Return the objective of each row with its weight: (kB,).

        Args:
            objective: D + βR, or what stands in its place: (kB,).
            values: β and the other weights that are ranges: name → (kB,).
            unit: u.
        """
        weights = 1 + torch.stack(list(values.values())).sum(0) / unit
        return objective / weights**self.balance


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
        grid = BetaRange(low, high).grid(_count(parts[2], betas) if len(parts) == 3 else 16)
        return tuple(sorted(set(grid)))
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


def exact(number: float) -> str:
    """Write a number so that it is read as the same: the shortest text that is.

    Example:
        >>> exact(10.0), exact(1.33894561), exact(1e-08)
        ('10', '1.33894561', '1e-08')
    """
    return repr(float(number)).removesuffix(".0")


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
    if len(text) > 9 or int(text) > _MOST_POINTS:
        raise ValueError(f"betas={whole} asks for {text} points; N is at most {_MOST_POINTS}")
    return int(text)
