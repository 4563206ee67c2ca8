"""How near the reconstructions are, in decibels."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.vae import BetaVAE, Networks

__all__ = ["PSNR", "peak_of", "psnr"]


def psnr(x: Tensor, again: Tensor, peak: float = 1.0) -> Tensor:
    """Return 10 log₁₀(P² / MSE) of each example, decibels: (N,); infinite where they are equal.

    Args:
        x: (N, *shape).
        again: Their reconstructions, like ``x``.
        peak: P, the width of the range of x.
    """
    error = (again - x).double().square().flatten(1).mean(1)
    return 20 * math.log10(peak) - 10 * error.log10()


def peak_of(model: Networks, x: Tensor) -> float | None:
    """Return P of the training data, or 1 for x within [0, 1]; None where it is not known."""
    if model.units is not None:
        return model.units.peak
    return 1.0 if x.min() >= 0 and x.max() <= 1 else None


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
        of_each = psnr(
            batch.x.to(self.total.device), reconstruction.to(self.total.device), self.peak or 1.0
        )
        self.n += len(of_each)
        self.total += of_each.sum()
        self.squares += of_each.square().sum()

    def about(self) -> dict[str, Any]:
        """Return the peak."""
        return {"peak": self.peak or 1.0}

    def compute(self) -> dict[str, float]:
        """Return ``psnr_db`` and its standard error ``psnr_se`` (nan for one example)."""
        mean, se = mean_and_se(self.n, self.total, self.squares)
        return {"psnr_db": mean.item(), "psnr_se": se.item()}
