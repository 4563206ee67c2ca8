"""Which latents are in use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multibeta.metrics.base import CurveMetric, Evaluated
from multibeta.vae import BetaVAE

__all__ = ["ActiveUnits"]


class ActiveUnits(CurveMetric):
    r"""The number of latents whose posterior mean varies over the data, and what each carries.

    .. math:: A_j = \mathrm{Var}_x \, \mathrm E_{q(z|x)}[z_j] > 0.01

    Of a map the channels are the latents: the variance is the mean over positions, the rate the
    sum.

    Args:
        vae: The model at the β that is measured.
        threshold: The least variance of an active latent.

    References:
        Burda et al. 2016, arXiv 1509.00519, section 5.2.
    """

    n: Tensor
    sums: Tensor
    squares: Tensor
    rates: Tensor

    def __init__(self, vae: BetaVAE, threshold: float = 0.01) -> None:
        super().__init__(vae)
        self.threshold = threshold
        latents = vae.latent_shape
        self.add_sums(n=(), sums=latents, squares=latents, rates=latents)

    def update(self, batch: Evaluated) -> None:
        """Add a batch."""
        mean, rate = (
            v.to(self.sums.device).double()
            for v in (batch.terms.posterior.mean, batch.terms.rate_per_latent_nats)
        )
        self.n += len(mean)
        self.sums += mean.sum(0)
        self.squares += mean.square().sum(0)
        self.rates += rate.sum(0)

    def about(self) -> dict[str, Any]:
        """Return what a latent is, where z is a map."""
        shape = self.vae.latent_shape
        return {} if len(shape) == 1 else {"latents": f"channels of z {shape}"}

    def compute(self) -> dict[str, Any]:
        """Return the number of active latents, and lists over the latents.

        Returns:
            ``active_units``; ``latent_rate_nats``, the mean KL(q(z_j|x) ‖ p(z_j)); and
            ``latent_variance``, the variance of the posterior mean (nan for one example).
        """
        mean = self.sums / self.n
        spread = (self.squares / self.n - mean.square()).clamp(min=0)
        variance = spread * self.n / (self.n - 1) if self.n > 1 else spread * torch.nan
        variance = variance.flatten(1).mean(1) if variance.ndim > 1 else variance
        rates = self.rates / self.n
        rates = rates.flatten(1).sum(1) if rates.ndim > 1 else rates
        return {
            "active_units": float((variance > self.threshold).sum()),
            "latent_rate_nats": rates.tolist(),
            "latent_variance": variance.tolist(),
        }
