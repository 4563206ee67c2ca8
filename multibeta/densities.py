"""Densities that ``torch.distributions`` lacks, or has less exactly; likelihoods return them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal

__all__ = [
    "Classes",
    "MultinomialCounts",
    "NegativeBinomialCounts",
    "PoissonCounts",
    "Profiled",
    "RoundedLogistic",
    "TruncatedExponential",
    "ZeroInflated",
    "normal",
    "of_examples",
]


class TruncatedExponential(Distribution):
    """p(x) ∝ e^{ηx} on [0, 1].

    torch's ContinuousBernoulli limits the probability: in float32 it is off beyond |η| = 15.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape, validate_args=False)
        self.logits = logits
        # Near 0 the formulas are differences of large numbers; there a series is exact.
        self._small = logits.abs() < 0.1
        self._far = torch.where(self._small, torch.full_like(logits, 0.1), logits)
        self._near = torch.where(self._small, logits, torch.zeros_like(logits))

    @property
    def mean(self) -> Tensor:
        """1/(1 − e^{−η}) − 1/η."""
        near, far = self._near, self._far
        series = near / 12 - near**3 / 720
        return 0.5 + torch.where(self._small, series, 0.5 / (0.5 * far).tanh() - 1 / far)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ηx − log((e^η − 1)/η)."""
        near, size = self._near, self._far.abs()
        series = near**2 / 24 - near**4 / 2880
        direct = 0.5 * size + (-(-size).expm1()).log() - size.log()
        return self.logits * (value - 0.5) - torch.where(self._small, series, direct)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw by the inverse of the distribution function."""
        logits = self.logits.expand(self._extended_shape(sample_shape))
        size = logits.abs().clamp(min=1e-6)
        fallen = -torch.log1p(torch.rand_like(logits) * (-size).expm1()) / size
        return torch.where(logits > 0, 1 - fallen, fallen).clamp(0, 1)


class RoundedLogistic(Distribution):
    """The logistic, clipped to [0, 1] and rounded to multiples of 1/255."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, location: Tensor, scale: Tensor) -> None:
        super().__init__(location.shape, validate_args=False)
        self.location, self.scale = location, scale

    @property
    def mean(self) -> Tensor:
        """The mean before rounding: ∫₀¹ S((μ − t)/s) dt."""
        scale = self.scale
        upper, lower = F.softplus(self.location / scale), F.softplus((self.location - 1) / scale)
        # The same, for a scale so large that the two are equal to float error.
        wide = scale.clamp(min=1)
        share = (self.location / wide).sigmoid() * (-1 / wide).expm1()
        return torch.where(scale < 1, scale * (upper - lower), -wide * share.log1p())

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(x): S(a) − S(b) = S(a) S(−b) (1 − e^{b − a}), exact in the tails too."""
        step, precision = (value * 255).round(), 1 / self.scale
        from_left = F.logsigmoid(((step + 0.5) / 255 - self.location) * precision)
        from_right = F.logsigmoid((self.location - (step - 0.5) / 255) * precision)
        between = from_left + from_right + (-(-precision / 255).expm1()).log()
        inner = torch.where(step >= 255, from_right, between)
        return torch.where(step <= 0, from_left, inner)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw a logistic, and clip and round it."""
        location = self.location.expand(self._extended_shape(sample_shape))
        noise = torch.rand_like(location).logit(eps=torch.finfo(location.dtype).eps)
        return ((location + self.scale * noise).clamp(0, 1) * 255).round() / 255


class Profiled(Distribution):
    """N(x̂, σ²) whose σ is chosen when x is known."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, mean: Tensor, over: str, floor: float) -> None:
        super().__init__(mean.shape[:1], mean.shape[1:], validate_args=False)
        self._mean, self.over, self.floor = mean, over, floor

    @property
    def mean(self) -> Tensor:
        """x̂."""
        return self._mean

    def given(self, value: Tensor) -> Independent:
        """Return the Gaussian with the σ that makes x most likely."""
        squares = (value - self._mean).square()
        axes = tuple(range(1 - self._mean.ndim if self.over == "image" else -squares.ndim, 0))
        variance = squares.mean(axes, keepdim=True).clamp(min=self.floor**2)
        return normal(self._mean.expand_as(squares), variance.sqrt())

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log N(x; x̂, σ*²)."""
        return self.given(value).log_prob(value)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Refuse: there is no σ yet."""
        raise ValueError(
            "OptimalGaussian has no σ without a picture x and draws no samples; use p.mean, or "
            "p.given(x).sample()"
        )


class PoissonCounts(Distribution):
    """Poisson, from log μ: exact where μ itself would be 0."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, log_mean: Tensor) -> None:
        super().__init__(log_mean.shape, validate_args=False)
        self.log_mean = log_mean

    @property
    def mean(self) -> Tensor:
        """μ."""
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        """μ."""
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Return x log μ − μ − log x!."""
        value = _promoted(value, self.log_mean)
        return value * self.log_mean - self.mean - (value + 1).lgamma()

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw counts, as floats."""
        return torch.poisson(self.mean.expand(self._extended_shape(sample_shape)))


class NegativeBinomialCounts(PoissonCounts):
    """The negative binomial, from log μ and log θ."""

    def __init__(self, log_mean: Tensor, log_theta: Tensor) -> None:
        super().__init__(log_mean)
        self.log_theta = log_theta.expand_as(log_mean)

    @property
    def variance(self) -> Tensor:
        """μ + μ²/θ."""
        return self.mean + (2 * self.log_mean - self.log_theta).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log Γ(x + θ)/(Γ(θ) θˣ) + x log μ − (x + θ) log(1 + μ/θ) − log x!."""
        value = _promoted(value, self.log_mean)
        theta, ratio = self.log_theta.exp(), F.logsigmoid(self.log_theta - self.log_mean)
        rising = _log_rising(value, theta, self.log_theta)
        return rising + value * self.log_mean + (value + theta) * ratio - (value + 1).lgamma()

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw a rate from Gamma(θ, θ/μ) and a count at that rate."""
        shape = self._extended_shape(sample_shape)
        gamma = torch._standard_gamma(self.log_theta.exp().expand(shape))
        return torch.poisson(gamma * (self.log_mean - self.log_theta).exp())


class ZeroInflated(Distribution):
    """Counts that are 0 with a further probability π."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, counts: Distribution, logits: Tensor) -> None:
        super().__init__(counts.batch_shape, validate_args=False)
        self.counts, self.logits = counts, logits

    @property
    def mean(self) -> Tensor:
        """(1 − π) μ."""
        return self.counts.mean * (-self.logits).sigmoid()

    @property
    def variance(self) -> Tensor:
        """(1 − π) (σ² + π μ²), σ² being that of the counts."""
        kept = (-self.logits).sigmoid()
        return kept * (self.counts.variance + (1 - kept) * self.counts.mean.square())

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log(π [x = 0] + (1 − π) P(x))."""
        counted = F.logsigmoid(-self.logits) + self.counts.log_prob(value)
        return torch.where(value == 0, F.logsigmoid(self.logits).logaddexp(counted), counted)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw counts, and set some to 0."""
        drawn = self.counts.sample(sample_shape)
        return drawn * (torch.rand_like(drawn) >= self.logits.sigmoid())


class MultinomialCounts(Distribution):
    """How a total count is divided over the values of an example."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, log_p: Tensor, total: Tensor | None) -> None:
        super().__init__(log_p.shape[:1], log_p.shape[1:], validate_args=False)
        self.log_p, self.total = log_p, total

    @property
    def mean(self) -> Tensor:
        """The count of each value, or its share where no total is known."""
        p = self.log_p.exp()
        return p if self.total is None else self.total * p

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log N! − Σ log x! + Σ x log p."""
        value, axes = _promoted(value, self.log_p), tuple(range(-len(self.event_shape), 0))
        each = (value * self.log_p - (value + 1).lgamma()).sum(axes)
        return each + (value.sum(axes) + 1).lgamma()

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw as many of the values as the total says, and count them."""
        if self.total is None:
            raise ValueError(
                "Multinomial draws no samples without a total count; pass library, (B,), or use "
                "p.mean, the share of each value"
            )
        shape = self._extended_shape(sample_shape)
        p = self.log_p.exp().expand(shape).reshape(-1, self.event_shape.numel())
        total = self.total.expand(*shape[: -len(self.event_shape)], *self.total.shape[1:])
        rows = [
            torch.multinomial(row, int(n), replacement=True).bincount(minlength=len(row))
            if n
            else torch.zeros_like(row)
            for row, n in zip(p, total.round().flatten().tolist(), strict=True)
        ]
        return torch.stack([row.to(p) for row in rows]).reshape(shape)


class Classes(Categorical):
    """Classes as floats."""

    @property
    def mean(self) -> Tensor:
        """The most probable class."""
        return self.logits.argmax(-1).to(self.logits)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw classes, as floats."""
        return super().sample(sample_shape).to(self.logits)


def of_examples(values: Distribution) -> Independent:
    """Return the distribution of whole examples from that of their values."""
    return Independent(values, len(values.batch_shape) - 1)


def normal(mean: Tensor, sigma: Tensor) -> Independent:
    """Return N(mean, sigma²) of whole examples: batch shape (B,)."""
    return of_examples(Normal(mean, sigma, validate_args=False))


def _promoted(value: Tensor, like: Tensor) -> Tensor:
    """Return counts as floats, no narrower than the parameters."""
    return value.to(torch.promote_types(value.dtype, like.dtype))


def _log_rising(x: Tensor, theta: Tensor, log_theta: Tensor) -> Tensor:
    """Return log Γ(x + θ)/(Γ(θ) θˣ): 0 for θ → ∞, where a difference of lgammas is noise."""
    small, large = theta.clamp(max=20), theta.clamp(min=20)
    direct = (x + small).lgamma() - small.lgamma() - x * log_theta.clamp(max=math.log(20))
    series = _stirling(x + large) - _stirling(large)
    stirling = (x + large - 0.5) * (x / large).log1p() - x + series
    return torch.where(theta < 20, direct, stirling)


def _stirling(t: Tensor) -> Tensor:
    """Return what Stirling's formula lacks of log Γ(t), t ≥ 20, to 5 · 10⁻¹³."""
    r = 1 / t
    return r / 12 - r**3 / 360 + r**5 / 1260
