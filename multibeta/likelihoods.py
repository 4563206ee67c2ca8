"""p(x|z): what the decoder's output means, and so what the distortion is.

x is (B, C, …): a table (B, D), signals (B, C, T), pictures (B, C, H, W), volumes. A likelihood
turns the decoder's output (B, outputs·C, …) into a distribution over x. The distortion is its
negative log-density, summed over all d values of an example: nats per example.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution
from torch.distributions import Laplace as LaplaceDistribution

from multibeta.betas import BetaRange, parse_weight
from multibeta.densities import (
    Classes,
    MultinomialCounts,
    NegativeBinomialCounts,
    PoissonCounts,
    Profiled,
    RoundedLogistic,
    TruncatedExponential,
    ZeroInflated,
    normal,
    of_examples,
)

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "ImageGaussian",
    "Laplace",
    "LearnedGaussian",
    "Likelihood",
    "Multinomial",
    "NegativeBinomial",
    "OptimalGaussian",
    "PixelGaussian",
    "Poisson",
    "ZeroInflatedNegativeBinomial",
]

# What a decoder's output of 0 means for a scale, in units of x: the default σ of Gaussian.
_START = 0.1

# That of PixelCNN++, whose x go from −1 to 1.
_LEAST_SCALE = math.exp(-7) / 2

# The largest logarithm of a mean count or of a dispersion.
_LARGEST_LOG = 20.0


class Likelihood(nn.Module):
    """The base of all likelihoods.

    A likelihood keeps each constructor argument as an attribute of the same name: that is how
    a checkpoint describes it. Parameters of its own (a learned σ) are ordinary parameters.
    """

    outputs: int = 1
    """Entries along dimension 1 that the decoder makes per entry of x: first all of one kind."""

    support: tuple[float, float] = (-math.inf, math.inf)
    """The values that x may take."""

    whole: ClassVar[bool] = False
    """Whether x are whole numbers: counts or classes."""

    is_density: ClassVar[bool] = True
    """Whether exp(−D) is a density or a probability of x: then D + R bounds −log p(x)."""

    unit: str = "nats"
    """The unit of D."""

    ranges: Mapping[str, BetaRange] = {}
    """The arguments that are ranges: name → range. The network is conditioned on them."""

    inputs: tuple[str, ...] | None = None
    """The names of what ``forward`` takes beside the output; by default those of its arguments."""

    _cure = "give raw counts, neither normalised nor as logarithms, or choose another likelihood"

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

        A likelihood that needs more than z names it: ``forward(output, library=None)``.

        Args:
            output: The decoder's output: (B, outputs·C, …).

        Returns:
            A distribution with batch shape (B,) and event shape (C, …); its ``mean`` is the
            reconstruction.
        """
        raise NotImplementedError

    def check(self, x: Tensor) -> None:
        """Refuse data that this likelihood gives no density to.

        Args:
            x: Values of any shape: a batch, an array, or its least and largest value.

        Raises:
            ValueError: If some are outside the support, or fractions where :attr:`whole`.
        """
        if x.numel() == 0:
            return
        name, (least, most) = type(self).__name__, self.support
        if self.whole:
            wrong = (x < least) | (x > most) | ~x.isfinite()
            if x.is_floating_point():
                wrong |= x != x.round()
            if wrong.any():
                limits = "up" if math.isinf(most) else f"to {most:g}"
                raise ValueError(
                    f"the data has the value {x[wrong][0].item():g}; {name} allows whole numbers "
                    f"from {least:g} {limits}: {self._cure}"
                )
            return
        low, high = x.min().item(), x.max().item()
        if not (least <= low and high <= most):
            raise ValueError(
                f"the data has values in [{low:g}, {high:g}]; {name} allows [{least:g}, "
                f"{most:g}]: rescale the data or choose model.likelihood Gaussian"
            )


class Bernoulli(Likelihood):
    r"""Bernoulli with a logit per value.

    .. math:: D = -\sum_i x_i \log p_i + (1 - x_i) \log(1 - p_i)

    For grey values in [0, 1] this is the usual cross-entropy, which is not a normalised
    density: −ELBO is then not comparable with that of a density. ``is_density`` holds for x of
    0 and 1.

    References:
        Kingma & Welling 2014, arXiv 1312.6114, appendix C.1.
    """

    support = (0.0, 1.0)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for logits (B, C, …)."""
        logits = at_least_float32(output)
        return of_examples(BernoulliDistribution(logits=logits, validate_args=False))


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
        """Return p(x|z) for logits (B, C, …)."""
        return of_examples(TruncatedExponential(at_least_float32(output)))


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
        """Return p(x|z) for means (B, C, …)."""
        mean = at_least_float32(output)
        return normal(mean, _as_scale(self.sigma, mean))

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
        """Return p(x|z) for means (B, C, …)."""
        mean = at_least_float32(output)
        return normal(mean, self._scale().to(mean))

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
        """Return p(x|z) for x̂ and a: (B, 2C, …)."""
        mean, a = _kinds(output, self)
        return normal(mean, self.floor + _START * self.pooled(a).exp())

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
        """Return one a for each example: (B, 1, …)."""
        return a.mean(tuple(range(1, a.ndim)), keepdim=True)


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

    is_density = False

    def __init__(self, over: Literal["image", "batch"] = "image", floor: float = 0.001) -> None:
        super().__init__()
        if over not in ("image", "batch"):
            raise ValueError(f"over={over} is unknown; allowed: image, batch")
        self.over: Literal["image", "batch"] = over
        self.floor = _positive("floor", floor)

    def forward(self, output: Tensor) -> Distribution:
        """Return what stands for p(x|z), for means (B, C, …)."""
        return Profiled(at_least_float32(output), self.over, self.floor)

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
        """Return p(x|z) for means (B, C, …)."""
        mean = at_least_float32(output)
        scale = (_as_scale(self.sigma, mean) / math.sqrt(2)).expand_as(mean)
        return of_examples(LaplaceDistribution(mean, scale, validate_args=False))

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
        """Return p(x|z) for μ and a: (B, 2C, …)."""
        location, a = _kinds(output, self)
        return of_examples(RoundedLogistic(location, _LEAST_SCALE + _START * a.exp()))


class Poisson(Likelihood):
    r"""Poisson: counts with a rate μ per value.

    .. math:: D = \sum_i μ_i - x_i \log μ_i + \log x_i!

    Without ``library`` the output is log μ. An output above 20 counts as 20, and its gradient
    goes on. With ``library``, the total count l of each example, μ = l softmax(output) over all
    values of the example.

    Raises:
        ValueError: When called, if the library has another shape.

    Example:
        >>> p = Poisson()(torch.tensor([[0.0, 1.0]]), library=torch.tensor([10.0]))
        >>> p.mean.round(decimals=3)
        tensor([[2.6890, 7.3110]])
    """

    support = (0.0, math.inf)
    whole = True

    def forward(self, output: Tensor, library: Tensor | None = None) -> Distribution:
        """Return p(x|z).

        Args:
            output: Log-rates, or logits where there is a library: (B, C, …).
            library: The total count of each example: (B,) or (B, 1).

        Raises:
            ValueError: If the library has another shape.
        """
        return of_examples(PoissonCounts(_log_mean(at_least_float32(output), library)))


class NegativeBinomial(Likelihood):
    r"""Negative binomial with mean μ and inverse dispersion θ: variance μ + μ²/θ.

    .. math:: P(x) = \frac{Γ(x + θ)}{Γ(θ)\, x!} \left( \frac θ{θ + μ} \right)^θ
        \left( \frac μ{θ + μ} \right)^x, \qquad D = -\sum_i \log P(x_i)

    μ is made as in :class:`Poisson`, which it becomes for θ → ∞. A learned θ is that of the whole
    range of β, as the σ of :class:`LearnedGaussian`; θ from the decoder follows β. log θ counts
    as at most 20 and at least −20.

    Args:
        dispersion: Where θ is from: ``shared``, one learned for all; ``feature``, one learned for
            each entry of x along dimension 1 (a gene); ``output``, a second half of the decoder's
            output is log(θ/start), one for each value of each example.
        features: The entries of x along dimension 1, for ``feature``.
        start: θ before training.

    Raises:
        ValueError: If dispersion is something else, features is missing or not above 0, or start
            is not a finite number above 0.

    References:
        Lopez, Regier, Cole, Jordan & Yosef 2018, Deep generative modeling for single-cell
        transcriptomics, Nature Methods 15 (scVI); arXiv 1709.02082. There, too, θ is per gene.
    """

    support = (0.0, math.inf)
    whole = True

    def __init__(
        self,
        dispersion: Literal["shared", "feature", "output"] = "shared",
        features: int | None = None,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        if dispersion not in ("shared", "feature", "output"):
            raise ValueError(
                f"dispersion={dispersion} is unknown; allowed: shared, feature, output"
            )
        if dispersion == "feature" and (features is None or features < 1):
            raise ValueError(
                f"features={features} with dispersion=feature; give the number of entries of x "
                "along dimension 1, such as genes"
            )
        self.dispersion: Literal["shared", "feature", "output"] = dispersion
        self.features, self.start = features, _positive("start", start)
        log_start = torch.tensor(math.log(self.start))
        if dispersion == "output":
            self.outputs = self.outputs + 1
        else:
            size = (features,) if dispersion == "feature" and features else ()
            self.log_theta = nn.Parameter(log_start.expand(size).clone())

    def forward(self, output: Tensor, library: Tensor | None = None) -> Distribution:
        """Return p(x|z).

        Args:
            output: Log-means, or logits where there is a library, then log θ/start if the
                decoder makes it: (B, outputs·C, …).
            library: The total count of each example: (B,) or (B, 1).

        Raises:
            ValueError: If the library has another shape, or x another number of features.
        """
        logits, *others = _kinds(output, self)
        return of_examples(NegativeBinomialCounts(*self._logarithms(logits, others, library)))

    def _logarithms(
        self, logits: Tensor, others: list[Tensor], library: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return log μ and log θ."""
        if self.dispersion == "output":
            log_theta = others[0] + math.log(self.start)
        else:
            log_theta = self.log_theta.to(logits).reshape(-1, *[1] * (logits.ndim - 2))
            if log_theta.shape[0] not in (1, logits.shape[1]):
                raise ValueError(
                    f"features={self.features}, but x has {logits.shape[1]} entries along "
                    f"dimension 1; give features={logits.shape[1]}"
                )
        return _log_mean(logits, library), _limited(log_theta, -_LARGEST_LOG)

    def extra_repr(self) -> str:
        """Show the arguments."""
        features = "" if self.features is None else f", features={self.features}"
        return f"dispersion={self.dispersion}{features}, start={self.start:g}"


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    r"""Negative binomial with more zeros: with the probability π, x is 0 whatever the mean.

    .. math:: P(x) = π [x = 0] + (1 - π) \mathrm{NB}(x; μ, θ)

    The last part of the decoder's output is the logit of π, one for each value. The mean of p is
    (1 − π) μ. Arguments, errors and source are those of :class:`NegativeBinomial`.
    """

    outputs = 2

    def forward(self, output: Tensor, library: Tensor | None = None) -> Distribution:
        """Return p(x|z).

        Args:
            output: As for :class:`NegativeBinomial`, then the logits of π: (B, outputs·C, …).
            library: The total count of each example: (B,) or (B, 1).

        Raises:
            ValueError: If the library has another shape, or x another number of features.
        """
        logits, *others = _kinds(output, self)
        counts = NegativeBinomialCounts(*self._logarithms(logits, others, library))
        return of_examples(ZeroInflated(counts, others[-1]))


class Multinomial(Likelihood):
    r"""Multinomial: how a known total count N = Σ x_i is divided over all values of an example.

    .. math:: D = -\log N! + \sum_i \log x_i! - x_i \log p_i, \qquad p = \mathrm{softmax}(output)

    N is that of x and costs nothing. Without ``library`` the mean of p(x|z) is the share p of
    each value, and no samples can be drawn; with it, it is l p.

    References:
        Liang et al. 2018, Variational autoencoders for collaborative filtering, arXiv 1802.05814,
        equation 2 (there without the coefficient, which no parameter enters).
    """

    support = (0.0, math.inf)
    whole = True

    def forward(self, output: Tensor, library: Tensor | None = None) -> Distribution:
        """Return p(x|z, N).

        Args:
            output: Logits: (B, C, …).
            library: The total count of each example, for mean and samples: (B,) or (B, 1).

        Raises:
            ValueError: If the library has another shape.
        """
        logits = at_least_float32(output)
        return MultinomialCounts(_log_softmax(logits), _total(library, logits))


class Categorical(Likelihood):
    r"""Categorical: one of K classes at each position.

    .. math:: D = -\sum_i \log p_{i, x_i}, \qquad p_i = \mathrm{softmax}_k(output)

    x holds the classes 0, …, K − 1, as floats or integers: (B, C, …). The decoder makes K logits
    for each position: (B, K·C, …), class by class: entry k·C + c along dimension 1 is the logit
    of class k for entry c of x. For x of one channel that is (B, K, …), as
    ``torch.nn.functional.cross_entropy`` has it. ``mean`` is the most probable class, as a float,
    and has no gradient.

    Args:
        classes: The number of classes K.

    Raises:
        ValueError: If there are fewer than 2 classes.

    Example:
        >>> p = Categorical(3)(torch.tensor([[0.0, 5.0, 1.0, 1.0, 9.0, 2.0]]))  # x is (B, 2)
        >>> p.mean
        tensor([[2., 0.]])
    """

    whole = True
    _cure = "give class indices, or more classes"

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes={classes} is too few; give 2 or more")
        self.classes = self.outputs = classes
        self.support = (0.0, classes - 1.0)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for logits (B, K·C, …)."""
        logits = torch.stack(_kinds(output, self), dim=-1)
        return of_examples(Classes(logits=logits, validate_args=False))

    def extra_repr(self) -> str:
        """Show K."""
        return f"classes={self.classes}"


def _log_mean(logits: Tensor, library: Tensor | None) -> Tensor:
    """Return log μ, from log-rates or from a total count that logits divide."""
    total = _total(library, logits)
    if total is None:
        return _limited(logits)
    return _log_softmax(logits) + total.clamp(min=torch.finfo(total.dtype).tiny).log()


def _total(library: Tensor | None, logits: Tensor) -> Tensor | None:
    """Return the total count of each example so that it goes with x: (B, 1, …)."""
    if library is None:
        return None
    n = len(logits)
    if library.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"library has the shape {tuple(library.shape)}; give the total count of each example: "
            f"({n},) or ({n}, 1)"
        )
    return library.to(logits).reshape(n, *[1] * (logits.ndim - 1))


def _log_softmax(logits: Tensor) -> Tensor:
    """Return the log-softmax over all values of each example."""
    return logits.flatten(1).log_softmax(1).view_as(logits)


def _limited(log: Tensor, least: float = -math.inf) -> Tensor:
    """Clamp a logarithm, but let its gradient through: what is too large has a way back."""
    return log - (log - log.clamp(least, _LARGEST_LOG)).detach()


def _kinds(output: Tensor, likelihood: Likelihood) -> tuple[Tensor, ...]:
    """Part the decoder's output by what it means: each (B, C, …)."""
    made, kinds = output.shape[1], likelihood.outputs
    if made % kinds:
        raise ValueError(
            f"the decoder makes {made} entries along dimension 1; {type(likelihood).__name__} "
            f"needs {kinds} for each of x: make that many"
        )
    return at_least_float32(output).chunk(kinds, dim=1)


def _as_scale(sigma: Any, mean: Tensor) -> Tensor:
    """Return σ, one or one an example, so that it goes with x: (1 or B, 1, …)."""
    sigma = torch.as_tensor(sigma, dtype=mean.dtype, device=mean.device)
    return sigma.reshape(-1, *[1] * (mean.ndim - 1))


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
