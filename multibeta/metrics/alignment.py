"""Whether a latent means the same at another β, and how near the code stays to the prior."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
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
    "sliced_w1",
    "w1",
    "w1_to_prior",
]

HISTOGRAM = (-4.0, 4.0, 40)
"""Lowest and highest code, and bins, of the histograms."""

_ACTIVE = 0.01


class Alignment(Codes):
    """How a β's code relates to that of the next higher β on the same examples, and to the prior.

    Distances between aggregated posteriors alone cannot tell: they are zero even where latents
    have changed places. So most of the measures between β's are paired, example by example.
    """

    @staticmethod
    def rows_of(codes: Tensor) -> Tensor:
        """Return codes as rows of latents: of a map, the channels are the latents.

        A map (B, C, h, w) so gives a row for each position: (Bhw, C).
        """
        return codes.movedim(1, -1).flatten(0, -2)

    def about(self) -> dict[str, Any]:
        """Return what a latent is, where z is a map."""
        shape = self.vae.latent_shape
        return {} if len(shape) == 1 else {"latents": f"channels of z {shape}, over positions"}

    def compute(self) -> dict[str, Any]:
        """Return how the aggregated posterior lies.

        Returns:
            ``prior_w1``, the mean over latents of W₁(q(z_j), N(0, 1)), and ``prior_sliced_w1``,
            see :func:`sliced_w1`; at each latent ``latent_w1, latent_mean, latent_std`` of q(z_j),
            and ``latent_histogram``, its density in 40 bins over [−4, 4].
        """
        z, _, _ = self.codes()
        distances = w1_to_prior(z)
        return {
            "prior_w1": distances.mean().item(),
            "prior_sliced_w1": sliced_w1(z),
            "latent_w1": distances.tolist(),
            "latent_mean": z.double().mean(0).tolist(),
            "latent_std": z.double().std(0, correction=0).tolist(),
            "latent_histogram": _histograms(z),
        }

    @classmethod
    def across(cls, metrics: Sequence[Alignment]) -> list[dict[str, float]]:
        """Return the columns between each β and the next higher one; nan at the highest.

        Args:
            metrics: One a β, rising.

        Returns:
            A row a β: ``next_correlation, next_misalignment`` (see :class:`Pairing`), ``next_w2``
            (see :func:`expected_w2_squared`), ``next_cka`` (see :func:`linear_cka`), ``next_w1``
            (the mean over latents of :func:`w1`) and ``next_sliced_w1``.
        """
        codes = [metric.gathered() for metric in metrics]
        rows = [_between(*pair, "next") for pair in itertools.pairwise(codes)]
        return [*rows, _between(None, None, "next")]

    @classmethod
    def against(
        cls, mine: Mapping[float, Alignment], theirs: Mapping[float, Alignment]
    ) -> list[dict[str, Any]]:
        """Return how one model's codes relate to those of dedicated models at the same β's.

        Args:
            mine: β, rising → the metric of the one model.
            theirs: β, rising → that of a dedicated model.

        Returns:
            A row a β of the one model: the columns of :meth:`across` between the two models at
            this β, as ``against_…``; those between this dedicated model and the one of the next
            higher β, as ``against_next_…``; and ``against_prior_w1, against_histogram`` of
            the dedicated model. Numbers are nan where there is none.

        Raises:
            ValueError: If no β is in both.
        """
        betas = list(theirs)
        following = dict(itertools.pairwise(betas))
        codes = {beta: metric.gathered() for beta, metric in theirs.items()}
        rows: list[dict[str, Any]] = []
        for beta, metric in mine.items():
            same = next((b for b in betas if math.isclose(b, beta, rel_tol=1e-9)), math.nan)
            there, later = codes.get(same), codes.get(following.get(same, math.nan))
            row = _between(metric.gathered() if there else None, there, "against")
            row |= _between(there if later else None, later, "against_next")
            row["against_prior_w1"] = w1_to_prior(there[0]).mean().item() if there else math.nan
            rows.append(row | ({"against_histogram": _histograms(there[0])} if there else {}))
        if not any("against_histogram" in row for row in rows):
            raise ValueError(
                f"none of the other models' β's ({', '.join(f'{b:g}' for b in betas)}) is "
                "measured; leave betas out to measure at these"
            )
        return rows


_Code = tuple[Tensor, Tensor, Tensor]


def _between(code: _Code | None, other: _Code | None, prefix: str) -> dict[str, Any]:
    """Return the columns between the codes (z, mean, std) of two models; nan without them."""
    if code is None or other is None:
        found = dict.fromkeys(
            ("correlation", "misalignment", "w2", "cka", "w1", "sliced_w1"), math.nan
        )
    else:
        (z, mean, std), (other_z, other_mean, other_std) = code, other
        pair = pairing(mean, other_mean)
        found = {
            "correlation": pair.correlation,
            "misalignment": pair.misalignment,
            "w2": expected_w2_squared(mean, std, other_mean, other_std).mean().item(),
            "cka": linear_cka(mean, other_mean),
            "w1": w1(z, other_z).mean().item(),
            "sliced_w1": sliced_w1(z, other_z),
        }
    return {f"{prefix}_{name}": value for name, value in found.items()}


def _histograms(z: Tensor) -> list[list[float]]:
    """Return the density of each latent in the bins of HISTOGRAM."""
    low, high, bins = HISTOGRAM
    scale = bins / (high - low) / len(z)
    return [(torch.histc(of_one, bins, low, high) * scale).tolist() for of_one in z.float().T]


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
    return (_sorted(z) - quantiles[:, None]).abs().mean(0)


def w1(z: Tensor, other: Tensor) -> Tensor:
    """Return the 1-Wasserstein distance between two sets' samples of each latent.

    Args:
        z: (N, Z).
        other: As many samples: (N, Z).

    Returns:
        (Z,).
    """
    return (_sorted(z) - _sorted(other)).abs().mean(0)


def sliced_w1(z: Tensor, other: Tensor | None = None, directions: int = 128) -> float:
    """Return the mean 1-Wasserstein distance along random directions of the latent space.

    It is 0 only if the joint distributions are equal, where W₁ of each latent compares marginal
    ones. For N samples of the same distribution it is about N^(−1/2).

    Args:
        z: (N, Z).
        other: As many samples: (N, Z); the prior N(0, I) by default.
        directions: How many; they are drawn from a fixed seed.

    References:
        Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures".
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(z.shape[1], directions, generator=generator, dtype=torch.float64)
    units = (drawn / drawn.norm(dim=0)).to(z.device)
    along = z.double() @ units
    apart = w1_to_prior(along) if other is None else w1(along, other.double() @ units)
    return apart.mean().item()


def _sorted(z: Tensor) -> Tensor:
    return z.double().sort(dim=0).values
