"""p(x|z): what the decoder's output means, and so what the distortion is.

A likelihood turns the decoder's output (B, outputs·C, H, W) into a distribution over x
(B, C, H, W). The distortion is its negative log-density, summed over all d = C·H·W values:
nats per example.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Independent, Normal
from torch.distributions import Laplace as LaplaceDistribution

from multibeta.betas import BetaRange, parse_weight

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "ImageGaussian",
    "Laplace",
    "LearnedGaussian",
    "Likelihood",
    "OptimalGaussian",
    "PixelGaussian",
]

# What a decoder's output of 0 means for a scale, in units of x: the default σ of Gaussian.
_START = 0.1

# That of PixelCNN++, whose x go from −1 to 1.
_LEAST_SCALE = math.exp(-7) / 2


class Likelihood(nn.Module):
    """The base of all likelihoods.

    A likelihood keeps each constructor argument as an attribute of the same name: that is how
    a checkpoint describes it. Parameters of its own (a learned σ) are ordinary parameters.
    """

    outputs: int = 1
    """Channels that the decoder makes per channel of x."""

    support: tuple[float, float] = (-math.inf, math.inf)
    """The values that x may take."""

    ranges: Mapping[str, BetaRange] = {}
    """The arguments that are ranges: name → range. The network is conditioned on them."""

    def at(self, values: Mapping[str, Tensor | float]) -> Likelihood:
        """Return the likelihood with a value in the place of each range.

        Args:
            values: Name → one number, or one an example: (B,); others than its own are left.
        """
        if not self.ranges:
            return self
        fixed = copy.copy(self)
        fixed.ranges = {}
        for name in self.ranges:
            setattr(fixed, name, values[name])
        return fixed

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z).

        Args:
            output: The decoder's output: (B, outputs·C, H, W).

        Returns:
            A distribution with batch shape (B,) and event shape (C, H, W); its ``mean`` is
            the picture.
        """
        raise NotImplementedError

    def check(self, low: float, high: float) -> None:
        """Refuse data that this likelihood gives no density to.

        Args:
            low: The smallest value in the data.
            high: The largest.

        Raises:
            ValueError: If they are outside the support.
        """
        if not (self.support[0] <= low and high <= self.support[1]):
            raise ValueError(
                f"the data has values in [{low:g}, {high:g}]; {type(self).__name__} allows "
                f"[{self.support[0]:g}, {self.support[1]:g}]: rescale the data or choose "
                "model.likelihood Gaussian"
            )


class Bernoulli(Likelihood):
    r"""Bernoulli with a logit per value.

    .. math:: D = -\sum_i x_i \log p_i + (1 - x_i) \log(1 - p_i)

    For grey values in [0, 1] this is the usual cross-entropy, which is not a normalised
    density: −ELBO is then not comparable with that of a density.

    References:
        Kingma & Welling 2014, arXiv 1312.6114, appendix C.1.
    """

    support = (0.0, 1.0)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for logits (B, C, H, W)."""
        logits = at_least_float32(output)
        return Independent(BernoulliDistribution(logits=logits, validate_args=False), 3)


class ContinuousBernoulli(Likelihood):
    r"""Continuous Bernoulli with a logit η per value: the Bernoulli formula, normalised on [0, 1].

    .. math:: p(x) = \frac{η}{e^η - 1} e^{ηx}, \qquad
        D = \sum_i \log \frac{e^{η_i} - 1}{η_i} - η_i x_i

    Its mean is 1/(1 − e^{−η}) − 1/η, which is not p = sigmoid(η) but nearer to ½. D may be
    negative: it is that of a density.

    References:
        Loaiza-Ganem & Cunningham 2019, arXiv 1907.06845, section 3 (there λ = sigmoid(η)).
    """

    support = (0.0, 1.0)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for logits (B, C, H, W)."""
        return Independent(_TruncatedExponential(at_least_float32(output)), 3)


class Gaussian(Likelihood):
    r"""Gaussian with one fixed standard deviation.

    .. math:: D = \frac{\lVert x - \hat x \rVert^2}{2 σ^2} + \frac d2 \log 2πσ^2

    β and σ² are exchangeable through θ = βσ²: the same model at twice the σ² and half the β
    has the same optimum.

    Args:
        sigma: The standard deviation σ, in units of x (1 is the whole range of an image), or a
            range of it, ``LOW:HIGH``. :math:`\sqrt{1/2}` makes D the sum of squared errors up to a
            constant.

    Raises:
        ValueError: If σ is not a finite number above 0, or a range of such.

    References:
        Kingma & Welling 2014, arXiv 1312.6114, appendix C.2.
    """

    def __init__(self, sigma: str | float = 0.1) -> None:
        super().__init__()
        self.sigma, self.ranges = _sigma(sigma)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for means (B, C, H, W)."""
        mean = at_least_float32(output)
        return _normal(mean, _as_scale(self.sigma, mean))

    def extra_repr(self) -> str:
        """Show σ."""
        return f"sigma={self.sigma}"


class LearnedGaussian(Likelihood):
    r"""Gaussian with one learned standard deviation, the same for all pictures and every β.

    .. math:: D = \frac{\lVert x - \hat x \rVert^2}{2 σ^2} + \frac d2 \log 2πσ^2, \qquad
        σ = \mathrm{floor} + e^a

    For a given decoder the best σ² is the mean squared error. With a range of β it is that of the
    whole range, as the draw of β and the ``balance`` weigh it: σ does not follow β.

    Args:
        start: σ before training, in units of x.
        floor: The least σ that can be reached. Where the latents can carry all of x, at a β below
            1, σ would otherwise fall to 0 and D without end.

    Raises:
        ValueError: If floor is not a finite number above 0, or start is not above it.

    References:
        Rybkin et al. 2021, arXiv 2006.13202 (the shared σ).
    """

    def __init__(self, start: float = 0.1, floor: float = 0.001) -> None:
        super().__init__()
        self.start, self.floor = _positive("start", start), _positive("floor", floor)
        if self.start <= self.floor:
            raise ValueError(f"start={start:g} is not above floor={floor:g}; lower the floor")
        self.log_excess = nn.Parameter(torch.tensor(math.log(self.start - self.floor)))

    @property
    def sigma(self) -> float:
        """The σ of now."""
        return self._scale().item()

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for means (B, C, H, W)."""
        mean = at_least_float32(output)
        return _normal(mean, self._scale().to(mean))

    def _scale(self) -> Tensor:
        return self.floor + at_least_float32(self.log_excess).exp()

    def extra_repr(self) -> str:
        """Show σ."""
        return f"sigma={self.sigma:g}, floor={self.floor:g}"


class PixelGaussian(Likelihood):
    r"""Gaussian with a standard deviation per value of x, made by the decoder from z.

    .. math:: D = \sum_i \frac{(x_i - \hat x_i)^2}{2 σ_i^2} + \frac12 \log 2πσ_i^2

    The first half of the output's channels is x̂, the second a, with σ = floor + 0.1 eᵃ. σ
    follows β, as the decoder does. Where a value never varies (the border of MNIST) σ falls to
    the floor, and that value's D says how low the floor is and no more.

    Args:
        floor: The least σ, in units of x; 0.001 is about the error of rounding to 8 bits.

    Raises:
        ValueError: If floor is not a finite number above 0.

    References:
        Kingma & Welling 2014, arXiv 1312.6114, appendix C.2; Rybkin et al. 2021, arXiv
        2006.13202 (the σ per pixel).
    """

    outputs = 2

    def __init__(self, floor: float = 0.001) -> None:
        super().__init__()
        self.floor = _positive("floor", floor)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for x̂ and a: (B, 2C, H, W)."""
        mean, a = at_least_float32(output).chunk(2, dim=1)
        return _normal(mean, self.floor + _START * self.pooled(a).exp())

    def pooled(self, a: Tensor) -> Tensor:
        """Return the mean of what shares a σ: here each value has its own."""
        return a

    def extra_repr(self) -> str:
        """Show the floor."""
        return f"floor={self.floor:g}"


class ImageGaussian(PixelGaussian):
    r"""Gaussian with a standard deviation per picture, made by the decoder from z.

    .. math:: D = \frac{\lVert x - \hat x \rVert^2}{2 σ(z)^2} + \frac d2 \log 2πσ(z)^2

    The output is that of :class:`PixelGaussian`; the mean of its second half is the one a of the
    picture.
    """

    def pooled(self, a: Tensor) -> Tensor:
        """Return one a for each picture: (B, 1, 1, 1)."""
        return a.mean((1, 2, 3), keepdim=True)


class OptimalGaussian(Likelihood):
    r"""Gaussian with the σ that suits x best, profiled out.

    .. math:: σ_*^2 = \max(\mathrm{mse}, \mathrm{floor}^2), \qquad
        D = \frac d2 \left( \log 2πσ_*^2 + \frac{\mathrm{mse}}{σ_*^2} \right)

    with mse = ‖x − x̂‖²/d of the picture; above the floor, D = ½d (log 2π mse + 1). No σ is left to
    choose, and the weight of D against βR follows the error.

    **This D is a profile likelihood, not that of a density**: σ is chosen after x is seen, so
    exp(−D) does not integrate to 1 over x, D lies below that of any fixed σ from the floor up, and
    −ELBO and ``nll_nats`` are no bounds on −log p(x). Compare it with D of another OptimalGaussian
    alone. Without x there is no σ: p has a mean, but draws no samples; ``p.given(x)`` is the
    Gaussian with the σ of x.

    Args:
        over: What shares a σ: ``image``, each picture has its own; ``batch``, all pictures that
            D is asked for at once have one, whatever their β. D of a picture then depends on the
            others, in evaluation too: only D's from batches of one size compare, and several
            devices give another D than one. :class:`LearnedGaussian` has one σ without that.
        floor: The least σ, in units of x. Where the latents can carry all of x, at a β below 1,
            there is no optimum without it.

    Raises:
        ValueError: If floor is not a finite number above 0 or over is something else.

    References:
        Rybkin et al. 2021, arXiv 2006.13202 (the optimal σ); Kim & Lee 2024, arXiv 2409.09361
        (per picture, β kept apart).
    """

    def __init__(self, over: Literal["image", "batch"] = "image", floor: float = 0.001) -> None:
        super().__init__()
        if over not in ("image", "batch"):
            raise ValueError(f"over={over} is unknown; allowed: image, batch")
        self.over: Literal["image", "batch"] = over
        self.floor = _positive("floor", floor)

    def forward(self, output: Tensor) -> Distribution:
        """Return what stands for p(x|z), for means (B, C, H, W)."""
        return _Profiled(at_least_float32(output), self.over, self.floor)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"over={self.over}, floor={self.floor:g}"


class Laplace(Likelihood):
    r"""Laplace with one fixed standard deviation.

    .. math:: D = \frac{\lVert x - \hat x \rVert_1}{b} + d \log 2b, \qquad b = σ / \sqrt 2

    x̂ is the mean and the median. bβ is to it what σ²β is to the Gaussian.

    Args:
        sigma: The standard deviation σ, in units of x, or a range of it, ``LOW:HIGH``.

    Raises:
        ValueError: If σ is not a finite number above 0, or a range of such.
    """

    def __init__(self, sigma: str | float = 0.1) -> None:
        super().__init__()
        self.sigma, self.ranges = _sigma(sigma)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for means (B, C, H, W)."""
        mean = at_least_float32(output)
        scale = (_as_scale(self.sigma, mean) / math.sqrt(2)).expand_as(mean)
        return Independent(LaplaceDistribution(mean, scale, validate_args=False), 3)

    def extra_repr(self) -> str:
        """Show σ."""
        return f"sigma={self.sigma}"


class DiscretizedLogistic(Likelihood):
    r"""Logistic rounded to 8 bits: a probability for each of x = 0, 1/255, …, 1.

    .. math:: P(x) = S\left(\frac{x + h - μ}{s}\right) - S\left(\frac{x - h - μ}{s}\right),
        \qquad h = \tfrac{1}{510}

    with S the sigmoid; the bins of 0 and 1 reach to −∞ and ∞. So D = −log P(x) is 0 or more, and
    (D + R) / (d log 2) bounds the bits per value of 8 bit pictures. Other x are rounded first.

    The first half of the output's channels is μ, the second a, with s = e⁻⁷/2 + 0.1 eᵃ. The mean
    of p is that of the logistic clipped to [0, 1] and not yet rounded: within 1/510 of that of P,
    and within 10⁻⁵ where s is 0.02 or more.

    References:
        Salimans et al. 2017, PixelCNN++, arXiv 1701.05517, equation 2, with one component.
    """

    outputs = 2
    support = (0.0, 1.0)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for μ and a: (B, 2C, H, W)."""
        location, a = at_least_float32(output).chunk(2, dim=1)
        return Independent(_RoundedLogistic(location, _LEAST_SCALE + _START * a.exp()), 3)


class _TruncatedExponential(Distribution):
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


class _RoundedLogistic(Distribution):
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


class _Profiled(Distribution):
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
        axes = tuple(range(-3, 0)) if self.over == "image" else tuple(range(squares.ndim))
        variance = squares.mean(axes, keepdim=True).clamp(min=self.floor**2)
        return _normal(self._mean.expand_as(squares), variance.sqrt())

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log N(x; x̂, σ*²)."""
        return self.given(value).log_prob(value)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Refuse: there is no σ yet."""
        raise ValueError(
            "OptimalGaussian has no σ without a picture x and draws no samples; use p.mean, or "
            "p.given(x).sample()"
        )


def _normal(mean: Tensor, sigma: Tensor) -> Independent:
    return Independent(Normal(mean, sigma.expand_as(mean), validate_args=False), 3)


def _as_scale(sigma: Any, mean: Tensor) -> Tensor:
    """Return σ, one or one an example, so that it goes with x: (1 or B, 1, 1, 1)."""
    return torch.as_tensor(sigma, dtype=mean.dtype, device=mean.device).reshape(-1, 1, 1, 1)


def _sigma(given: str | float) -> tuple[Any, dict[str, BetaRange]]:
    """Return σ as it is kept, and its range if it is one."""
    found = parse_weight("sigma", given, positive=True)
    return (str(given), {"sigma": found}) if isinstance(found, BetaRange) else (found, {})


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value:g} is not a finite number above 0")
    return float(value)


def at_least_float32(x: Tensor) -> Tensor:
    """Leave half precision, where sums over pixels would lose digits; keep float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
