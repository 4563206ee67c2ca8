"""How many latents live."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multibeta.metrics.active_units import ActiveUnits
from multibeta.metrics.base import Evaluated
from multibeta.vae import BetaVAE

__all__ = ["Latents"]

_SHARES = (80, 90, 95, 99)


class Latents(ActiveUnits):
    r"""How many latents carry something, by their rate and by the variance of their means.

    The principal axes are those of the covariance of the posterior means over the data. Where the
    code is a rotation of what the data varies in, they are fewer than the latents that live.

    Of a map the channels are the latents: the rate is the sum over positions, the covariance the
    mean over positions of that at each.

    The figures are numbers of latents and have no standard error.

    Args:
        vae: The model at the β that is measured.
        nats: The rate above which a latent lives, nats per example.
    """

    outer: Tensor

    def __init__(self, vae: BetaVAE, nats: float = 0.2) -> None:
        super().__init__(vae)
        self.nats = nats
        size = vae.latent_shape[0]
        self.add_sums(outer=(size, size))

    def update(self, batch: Evaluated) -> None:
        """Add a batch."""
        super().update(batch)
        mean = batch.terms.posterior.mean.to(self.outer.device).double()
        rows = mean.flatten(2).movedim(1, -1).flatten(0, 1) if mean.ndim > 2 else mean
        self.outer += rows.T @ rows

    def compute(self) -> dict[str, Any]:
        """Return numbers of latents and of axes, and a list over the latents.

        Returns:
            ``live_latents``, those with a mean KL(q(z_j|x) ‖ p(z_j)) above ``nats``; ``axes_80,
            axes_90, axes_95, axes_99``, how many principal axes of the posterior means have that
            share of their variance, in percent, 0 where it is at most 0.01 along each; and
            ``latent_rate_nats``, that of :class:`ActiveUnits`.
        """
        rates = super().compute()["latent_rate_nats"]
        mean = (
            (self.sums / self.n).flatten(1) if self.sums.ndim > 1 else self.sums[:, None] / self.n
        )
        covariance = (self.outer / self.n - mean @ mean.T) / mean.shape[1]
        variances = torch.linalg.eigvalsh(covariance.cpu()).flip(0).clamp(min=0)
        shares = variances.cumsum(0) / variances.sum()
        varies = variances[0].item() > self.threshold
        axes = {
            f"axes_{share}": float((shares < share / 100 - 1e-12).sum() + 1) if varies else 0.0
            for share in _SHARES
        }
        live = sum(rate > self.nats for rate in rates)
        return {"live_latents": float(live), **axes, "latent_rate_nats": rates}
