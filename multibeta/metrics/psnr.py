"""How near the reconstructions are, in decibels."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.vae import BetaVAE

__all__ = ["PSNR"]


class PSNR(CurveMetric):
    r"""Peak signal-to-noise ratio of reconstructions, the mean over examples.

    .. math:: \mathrm{PSNR} = 10 \log_{10} \frac{P^2}{\mathrm{MSE}(x, \hat x)} \text{ dB}

    with P the peak and x̂ the mean of p(x|z) at the mean of q(z|x).

    Args:
        vae: The model at the β that is measured.
        peak: P, the width of the range of x; by default that of the training data: 1 within
            [0, 1], 2 within [−1, 1]. Where it is not known, 1, for x in [0, 1] alone.
    """

    n: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, vae: BetaVAE, peak: float | None = None) -> None:
        super().__init__(vae)
        if peak is not None and not peak > 0:
            raise ValueError(f"peak={peak:g} is not above 0")
        if peak is None and vae.units is not None:
            peak = vae.units.peak
        self.peak = peak
        self.add_sums(n=(), total=(), squares=())

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse what is no picture."""
        if len(model.shape) == 3:
            return None
        return f"it is for pictures (C, H, W), and x is {tuple(model.shape)}"

    needs = "x is not in [0, 1]; ask for it by name"

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Return whether the data is in [0, 1], as far as it says."""
        low, high = getattr(data, "value_range", None) or (0.0, 1.0)
        return low >= 0 and high <= 1

    def update(self, batch: Evaluated) -> None:
        """Add a batch.

        Raises:
            ValueError: If x leaves [0, 1] and no peak is given.
        """
        low, high = batch.x.min().item(), batch.x.max().item()
        if self.peak is None and (low < 0 or high > 1):
            raise ValueError(
                f"psnr has a peak of 1, and x has values in [{low:g}, {high:g}]; set its peak, "
                "the width of the range of x: 2 for [-1, 1]"
            )
        reconstruction = self.vae.decode(batch.terms.posterior.mean, **batch.inputs).mean
        error = (reconstruction - batch.x).to(self.total.device).double().square().flatten(1)
        psnr = 20 * math.log10(self.peak or 1) - 10 * error.mean(1).log10()
        self.n += len(psnr)
        self.total += psnr.sum()
        self.squares += psnr.square().sum()

    def about(self) -> dict[str, Any]:
        """Return the peak."""
        return {"peak": self.peak or 1.0}

    def compute(self) -> dict[str, float]:
        """Return ``psnr_db`` and its standard error ``psnr_se`` (nan for one example)."""
        mean, se = mean_and_se(self.n, self.total, self.squares)
        return {"psnr_db": mean.item(), "psnr_se": se.item()}
