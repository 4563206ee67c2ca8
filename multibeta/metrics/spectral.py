"""How near the spectra of reconstructed signals are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.vae import BetaVAE

__all__ = ["LogSpectralDistance", "log_spectral_distance"]


def log_spectral_distance(
    x: Tensor, again: Tensor, window: int = 256, floor_db: float = -80.0
) -> Tensor:
    r"""Return the log-spectral distance of each example, decibels: (N,).

    .. math:: \mathrm{LSD} = \frac1L \sum_l \sqrt{\frac1F \sum_f \left( 10 \log_{10}
        \frac{P_{lf}}{\hat P_{lf}} \right)^2}

    with P the squared modulus of the STFT of frames of ``window`` values under a Hann window, a
    quarter of it apart, the ends reflected; the mean is over frames and channels. Powers below the
    floor, relative to the largest of x in the same channel, count as the floor; a channel of zeros
    has distance 0 to zeros.

    Args:
        x: Signals: (N, C, T).
        again: Their reconstructions, like ``x``.
        window: The values in a frame, at most T.
        floor_db: The floor, decibels.

    References:
        Gray & Markel 1976, IEEE Transactions on Acoustics, Speech, and Signal Processing 24.
    """
    window = min(window, x.shape[-1])
    power, other = (_power(v, window) for v in (x, again))
    largest = power.amax((-2, -1), keepdim=True)
    floor = (largest * 10 ** (floor_db / 10)).clamp(min=torch.finfo(power.dtype).tiny)
    ratio = 10 * (power.maximum(floor) / other.maximum(floor)).log10()
    return ratio.square().mean(-2).sqrt().mean((-2, -1))


def _power(x: Tensor, window: int) -> Tensor:
    """Return |STFT|²: (N, C, F, L), float64."""
    shape = torch.hann_window(window, dtype=torch.float64, device=x.device)
    spectrum = torch.stft(
        x.double().flatten(0, 1), window, max(1, window // 4), window=shape, return_complex=True
    )
    return spectrum.abs().square().unflatten(0, x.shape[:2])


class LogSpectralDistance(CurveMetric):
    """Log-spectral distance of reconstructed signals, the mean over examples.

    See :func:`log_spectral_distance`; x̂ is the mean of p(x|z) at the mean of q(z|x).

    Args:
        vae: The model at the β that is measured.
        window: The values in a frame; T where that is less.
        floor_db: Powers below it, relative to the largest of x, count as this, decibels.

    Raises:
        ValueError: If the window is shorter than 2, or the floor not below 0.
    """

    n: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, vae: BetaVAE, window: int = 256, floor_db: float = -80.0) -> None:
        super().__init__(vae)
        if window < 2:
            raise ValueError(f"window={window} is too short; it is at least 2")
        if not floor_db < 0:
            raise ValueError(f"floor_db={floor_db:g} is not below 0")
        self.window, self.floor_db = window, floor_db
        self.add_sums(n=(), total=(), squares=())

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse what is no signal."""
        if len(model.shape) == 2 and model.shape[-1] > 1:
            return None
        return f"it is for signals (C, T), and x is {tuple(model.shape)}"

    def update(self, batch: Evaluated) -> None:
        """Add a batch."""
        again = self.vae.decode(batch.terms.posterior.mean, **batch.inputs).mean
        x, again = (v.to(self.total.device) for v in (batch.x, again))
        of_each = log_spectral_distance(x, again, self.window, self.floor_db)
        self.n += len(of_each)
        self.total += of_each.sum()
        self.squares += of_each.square().sum()

    def about(self) -> dict[str, Any]:
        """Return frame and floor."""
        window = min(self.window, self.vae.shape[-1])
        return {"window": window, "hop": max(1, window // 4), "floor_db": self.floor_db}

    def compute(self) -> dict[str, float]:
        """Return ``lsd_db`` and its standard error ``lsd_se`` (nan for one example)."""
        mean, se = mean_and_se(self.n, self.total, self.squares)
        return {"lsd_db": mean.item(), "lsd_se": se.item()}
