"""p(x|z): what the decoder's output means, and so what the distortion is.

A likelihood turns the decoder's output (B, outputs·C, H, W) into a distribution over x
(B, C, H, W). The distortion is its negative log-density, summed over all d = C·H·W values:
nats per example.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Independent, Normal

__all__ = ["Bernoulli", "Gaussian", "Likelihood"]


class Likelihood(nn.Module):
    """The base of all likelihoods.

    A likelihood keeps each constructor argument as an attribute of the same name: that is how
    a checkpoint describes it. Parameters of its own (a learned σ) are ordinary parameters.
    """

    outputs: int = 1
    """Channels that the decoder makes per channel of x."""

    support: tuple[float, float] = (-math.inf, math.inf)
    """The values that x may take."""

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


class Gaussian(Likelihood):
    r"""Gaussian with one fixed standard deviation.

    .. math:: D = \frac{\lVert x - \hat x \rVert^2}{2 σ^2} + \frac d2 \log 2πσ^2

    β and σ² are exchangeable through θ = βσ²: the same model at twice the σ² and half the β
    has the same optimum.

    Args:
        sigma: The standard deviation σ, in units of x (1 is the whole range of an image).
            :math:`\sqrt{1/2}` makes D the sum of squared errors up to a constant.

    Raises:
        ValueError: If σ is not a finite number above 0.

    References:
        Kingma & Welling 2014, arXiv 1312.6114, appendix C.2.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"sigma={sigma:g} is not a finite number above 0")
        self.sigma = float(sigma)

    def forward(self, output: Tensor) -> Distribution:
        """Return p(x|z) for means (B, C, H, W)."""
        mean = at_least_float32(output)
        sigma = torch.as_tensor(self.sigma, dtype=mean.dtype, device=mean.device)
        return Independent(Normal(mean, sigma.expand_as(mean), validate_args=False), 3)

    def extra_repr(self) -> str:
        """Show σ."""
        return f"sigma={self.sigma:g}"


def at_least_float32(x: Tensor) -> Tensor:
    """Leave half precision, where sums over pixels would lose digits; keep float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
