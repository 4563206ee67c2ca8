"""Whether p(x|z) is as wide as the errors are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from multibeta.likelihoods import Bernoulli, Gaussian, Laplace, LearnedGaussian, PixelGaussian
from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.vae import BetaVAE

__all__ = ["Calibration"]

_WITH_SCALE = (Gaussian, LearnedGaussian, PixelGaussian, Laplace)
_SHARES = (0.5, 0.9)


class Calibration(CurveMetric):
    r"""Calibration of p(x|z), for z from q(z|x).

    With a scale (Gaussians, Laplace), for each value :math:`x_i` of an example

    .. math:: \frac1d \sum_i \frac{(x_i - \hat x_i(z))^2}{σ_i(z)^2}

    which is 1 where σ is right: above it σ is too small, below it too large; and the share of
    values within the central 50 % and 90 % intervals of p. For a Bernoulli the expected
    calibration error

    .. math:: \sum_b \frac{n_b}{n} \left| \bar p_b - \bar x_b \right|

    over equal bins b of the probability; grey values count as probabilities.

    Args:
        vae: The model at the β that is measured.
        bins: The number of bins, for a Bernoulli.

    Raises:
        ValueError: If there are no bins.

    References:
        Guo et al. 2017, arXiv 1706.04599, equation 3 (expected calibration error).
    """

    n: Tensor
    sums: Tensor
    squares: Tensor
    binned: Tensor

    def __init__(self, vae: BetaVAE, bins: int = 15) -> None:
        super().__init__(vae)
        if bins < 1:
            raise ValueError(f"bins={bins} is too small; it is at least 1")
        self.bins = bins
        self.add_sums(n=(), sums=(3,), squares=(3,), binned=(3, bins))

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse a likelihood without a scale or a probability."""
        if isinstance(model.likelihood, (*_WITH_SCALE, Bernoulli)):
            return None
        return f"it is for Gaussians, Laplace and Bernoulli, not {type(model.likelihood).__name__}"

    def update(self, batch: Evaluated) -> None:
        """Add a batch."""
        p, x = _values(self.vae.decode(batch.terms.z, **batch.inputs), batch.x)
        self.n += len(x)
        if isinstance(self.vae.likelihood, Bernoulli):
            mean, x = (v.double().to(self.binned.device).flatten() for v in (p.mean, x))
            places = (mean * self.bins).long().clamp(0, self.bins - 1)
            for sums, values in zip(self.binned, (torch.ones_like(x), mean, x), strict=True):
                sums.index_add_(0, places, values)
            return
        # Twice the probability between the median and x.
        from_middle = (2 * p.cdf(x) - 1).abs()
        of_values = [(x - p.mean).square() / p.variance, *(from_middle <= s for s in _SHARES)]
        of_each = torch.stack([v.double().flatten(1).mean(1) for v in of_values], 1)
        of_each = of_each.to(self.sums.device)
        self.sums += of_each.sum(0)
        self.squares += of_each.square().sum(0)

    def compute(self) -> dict[str, float]:
        """Return the columns.

        Returns:
            ``calibration_residual, calibration_50, calibration_90``, each with its standard error
            over examples ``…_se``; or ``calibration_error``.
        """
        if isinstance(self.vae.likelihood, Bernoulli):
            n, mean, x = self.binned
            return {"calibration_error": ((mean - x).abs().sum() / n.sum()).item()}
        row: dict[str, float] = {}
        means, errors = mean_and_se(self.n, self.sums, self.squares)
        for name, mean, se in zip(("residual", "50", "90"), means, errors, strict=True):
            row |= {f"calibration_{name}": mean.item(), f"calibration_{name}_se": se.item()}
        return row


def _values(p: Any, x: Tensor) -> tuple[Distribution, Tensor]:
    """Return the distribution of each value, and x in its units."""
    if hasattr(p, "shift"):  # a table in units of its own
        return _values(p.p, (x - p.shift) / p.scale)
    return p.base_dist, x
