"""The squared error, and the distortion of the Gaussian whose σ is the best for it."""

from __future__ import annotations

import math

from torch import Tensor

from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.vae import BetaVAE

__all__ = ["SquaredError"]


class SquaredError(CurveMetric):
    r"""Squared error of reconstructions from samples of the code, and D with σ² profiled out.

    .. math::
        S = \mathbb E_{q(z|x)} \lVert x - \hat x(z) \rVert^2, \qquad σ_*^2 = S / d, \qquad
        D_* = \frac d2 \left( \log 2π σ_*^2 + 1 \right)

    with x̂(z) the mean of p(x|z), S the mean over examples and one σ for the whole set. So models
    of any likelihood are compared in one unit; for a Gaussian with fixed σ,
    D = S/2σ² + (d/2) log 2πσ².

    Args:
        vae: The model at the β that is measured.

    References:
        Rybkin et al. 2021, arXiv 2006.13202, equation 6 (the best σ).
    """

    n: Tensor
    total: Tensor
    squares: Tensor
    values: Tensor

    def __init__(self, vae: BetaVAE) -> None:
        super().__init__(vae)
        self.add_sums(n=(), total=(), squares=(), values=())

    def update(self, batch: Evaluated) -> None:
        """Add a batch."""
        error = self.vae.decode(batch.terms.z, **batch.inputs).mean - batch.x
        squared = error.to(self.total.device).double().square().flatten(1)
        self.n += len(squared)
        self.values += squared.numel()
        self.total += squared.sum()
        self.squares += squared.sum(1).square().sum()

    def compute(self) -> dict[str, float]:
        """Return the columns.

        Returns:
            ``squared_error``, in units of x squared, summed over values, with its standard error
            ``squared_error_se``; ``profiled_sigma``; ``profiled_distortion_nats``.
        """
        mean, se = mean_and_se(self.n, self.total, self.squares)
        d = (self.values / self.n).item()
        variance = mean.item() / d
        best = d / 2 * (math.log(2 * math.pi * variance) + 1) if variance > 0 else -math.inf
        return {
            "squared_error": mean.item(),
            "squared_error_se": se.item(),
            "profiled_sigma": math.sqrt(variance),
            "profiled_distortion_nats": best,
        }
