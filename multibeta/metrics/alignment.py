"""Whether a latent means the same at another β, and how near the code stays to the prior."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from multibeta.metrics.base import Codes

__all__ = [
    "HISTOGRAM",
    "Alignment",
    "Pairing",
    "expected_w2_squared",
    "linear_cka",
    "pairing",
    "w1_to_prior",
]

HISTOGRAM = (-4.0, 4.0, 40)
"""Lowest and highest code, and bins, of the histograms."""

_ACTIVE = 0.01


class Alignment(Codes):
    """How a β's code relates to that of the next higher β on the same examples, and to the prior.

    Distances between aggregated posteriors alone cannot tell: they are zero even where latents
    have changed places. So the measures between β's are paired, example by example.
    """

    def compute(self) -> dict[str, Any]:
        """Return how the aggregated posterior lies.

        Returns:
            ``prior_w1``, the mean over latents of W₁(q(z_j), N(0, 1)); ``latent_w1``, it at each
            latent; and ``latent_histogram``, the density of q(z_j) in 40 bins over [−4, 4].
        """
        z, _, _ = self.codes()
        distances = w1_to_prior(z)
        low, high, bins = HISTOGRAM
        return {
            "prior_w1": distances.mean().item(),
            "latent_w1": distances.tolist(),
            "latent_histogram": [
                (torch.histc(of_one, bins, low, high) * bins / (high - low) / len(z)).tolist()
                for of_one in z.float().T
            ],
        }

    @classmethod
    def across(cls, metrics: Sequence[Alignment]) -> list[dict[str, float]]:
        """Return the columns between each β and the next higher one; nan at the highest.

        Args:
            metrics: One a β, rising.

        Returns:
            A row a β: ``next_correlation, next_misalignment`` (see :class:`Pairing`), ``next_w2``
            (see :func:`expected_w2_squared`) and ``next_cka`` (see :func:`linear_cka`).
        """
        rows = []
        codes = [metric.gathered() for metric in metrics]
        for (_, mean, std), (_, other_mean, other_std) in itertools.pairwise(codes):
            pair = pairing(mean, other_mean)
            w2 = expected_w2_squared(mean, std, other_mean, other_std).mean().item()
            rows.append({
                "next_correlation": pair.correlation, "next_misalignment": pair.misalignment,
                "next_w2": w2, "next_cka": linear_cka(mean, other_mean),
            })  # fmt: skip
        return [*rows, dict.fromkeys(_COLUMNS, math.nan)]


_COLUMNS = ("next_correlation", "next_misalignment", "next_w2", "next_cka")


@dataclass(frozen=True)
class Pairing:
    """How the posterior means of two models on the same examples go together.

    Args:
        correlation: The mean correlation of latent j of the one with latent j of the other, over
            the latents active in both; nan if there are none.
        best: The same where the latents of the other may change places and signs: over the best
            pairs of as many latents.
        active: How many latents are active in both.
    """

    correlation: float
    best: float
    active: int

    @property
    def misalignment(self) -> float:
        """What a permutation could gain: 0 where latents have kept their places and signs."""
        return self.best - self.correlation


def pairing(mean: Tensor, other: Tensor) -> Pairing:
    """Pair the latents of two models by the correlation of their posterior means.

    A latent is active if the variance of its mean is above 0.01 (Burda et al. 2016).

    Args:
        mean: The posterior means of the one: (N, Z).
        other: Those of the other on the same examples: (N, Z).

    Raises:
        ValueError: If the shapes differ.
    """
    if mean.shape != other.shape:
        raise ValueError(
            f"codes of {tuple(mean.shape)} and {tuple(other.shape)} cannot be paired; give the "
            "codes of the same examples by models with as many latents"
        )
    centred = [v.double() - v.double().mean(0) for v in (mean, other)]
    variances = [v.square().mean(0) for v in centred]
    both = (variances[0] > _ACTIVE) & (variances[1] > _ACTIVE)
    active = int(both.sum())
    if not active:
        return Pairing(math.nan, math.nan, 0)
    units = [v / s.sqrt().clamp(min=1e-12) for v, s in zip(centred, variances, strict=True)]
    correlations = units[0].T @ units[1] / len(mean)
    one, two = (torch.nonzero(v > _ACTIVE).flatten() for v in variances)
    strength = correlations[one][:, two].abs()
    rows, columns = linear_sum_assignment(strength.cpu().numpy(), maximize=True)
    best = strength[rows, columns].sort(descending=True).values[:active]
    return Pairing(correlations.diagonal()[both].mean().item(), best.mean().item(), active)


def expected_w2_squared(
    mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor
) -> Tensor:
    r"""Return the squared 2-Wasserstein distance of two posteriors, example by example.

    .. math:: W_2^2 = \sum_j (μ_j - μ'_j)^2 + (σ_j - σ'_j)^2

    Args:
        mean: (N, Z).
        std: (N, Z).
        other_mean: (N, Z).
        other_std: (N, Z).

    Returns:
        (N,); its mean is the expected distance.
    """
    return ((mean - other_mean).square() + (std - other_std).square()).double().sum(-1)


def linear_cka(mean: Tensor, other: Tensor) -> float:
    r"""Return the linear centred kernel alignment of two models' posterior means.

    .. math:: \frac{\|X^\top Y\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}

    It does not see rotations, and is below 1 where latents shrink by different factors, even if
    each is perfectly correlated with itself. nan if either code is constant.

    Args:
        mean: (N, Z).
        other: (N, Z').

    References:
        Kornblith et al. 2019, arXiv 1905.00414, equation 3.
    """
    x, y = (v.double() - v.double().mean(0) for v in (mean, other))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return ((x.T @ y).square().sum() / scale).item() if scale > 0 else math.nan


def w1_to_prior(z: Tensor) -> Tensor:
    """Return the 1-Wasserstein distance of each latent's samples to N(0, 1).

    The sorted samples against the normal quantiles of their ranks.

    Args:
        z: Samples of the aggregated posterior: (N, Z).

    Returns:
        (Z,).
    """
    n = len(z)
    ranks = (torch.arange(n, dtype=torch.float64, device=z.device) + 0.5) / n
    quantiles = math.sqrt(2) * torch.erfinv(2 * ranks - 1)
    return (z.double().sort(dim=0).values - quantiles[:, None]).abs().mean(0)
