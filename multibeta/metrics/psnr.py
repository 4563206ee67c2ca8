"""How near the reconstructions are, in decibels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.vae import BetaVAE

__all__ = ["PSNR"]


class PSNR(CurveMetric):
    r"""Peak signal-to-noise ratio of reconstructions, the mean over examples.

    .. math:: \mathrm{PSNR} = 10 \log_{10} \frac{1}{\mathrm{MSE}(x, \hat x)} \text{ dB}

    with the peak of 1 and x̂ the mean of p(x|z) at the mean of q(z|x).

    Args:
        vae: The model at the β that is measured.
    """

    n: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, vae: BetaVAE) -> None:
        super().__init__(vae)
        self.add_sums(n=(), total=(), squares=())

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse what is no picture."""
        if len(model.shape) == 3:
            return None
        return f"it is for pictures (C, H, W), and x is {tuple(model.shape)}"

    def update(self, batch: Evaluated) -> None:
        """Add a batch."""
        reconstruction = self.vae.decode(batch.terms.posterior.mean, **batch.inputs).mean
        error = (reconstruction - batch.x).to(self.total.device).double().square().flatten(1)
        psnr = -10 * error.mean(1).log10()
        self.n += len(psnr)
        self.total += psnr.sum()
        self.squares += psnr.square().sum()

    def compute(self) -> dict[str, float]:
        """Return ``psnr_db`` and its standard error ``psnr_se`` (nan for one example)."""
        mean, se = mean_and_se(self.n, self.total, self.squares)
        return {"psnr_db": mean.item(), "psnr_se": se.item()}
