"""Gaussian: a source whose rate–distortion function is known, and that function."""

__all__ = ["Gaussian", "optimal_variance", "water_filling"]

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from multibeta.data.base import ImageData
from multibeta.data.splits import SPLITS

HELD_OUT = 10_000  # validation and test examples


class Gaussian(ImageData):
    """A Gaussian source x ~ N(0, U diag(λ) Uᵀ) with a random orthogonal U; examples (1, 1, d).

    The best rate and distortion at every β have a closed form (`water_filling`), so a linear
    model on this source can be compared with the truth.

    Args:
        eigenvalues: The d eigenvalues λ of the covariance; by default 4 · 0.7^i, i = 0 … 15.
        size: Number of training examples; validation and test have 10,000 each.
        data_seed: Seed of U and of the examples.
        batch_size: Number of examples in a batch, on each process.

    Raises:
        ValueError: If an eigenvalue is not positive and finite, or if there are not more
            examples than dimensions.
    """

    def __init__(
        self,
        eigenvalues: list[float] | None = None,
        size: int = 50_000,
        data_seed: int = 0,
        batch_size: int = 128,
    ) -> None:
        super().__init__(batch_size=batch_size)
        self.eigenvalues = eigenvalues
        self.size = size
        self.data_seed = data_seed
        if not self.spectrum or not all(0 < value < math.inf for value in self.spectrum):
            raise ValueError(
                f"data.eigenvalues={eigenvalues} is not a spectrum; give positive finite numbers,"
                " such as [4, 2, 1]"
            )
        if min(size, HELD_OUT) <= len(self.spectrum):
            raise ValueError(
                f"data.size={size} examples cannot have a covariance of {len(self.spectrum)}"
                f" dimensions; choose data.size above {len(self.spectrum)}, and fewer than"
                f" {HELD_OUT:,} eigenvalues"
            )

    @property
    def spectrum(self) -> tuple[float, ...]:
        """The eigenvalues λ of the covariance, in the order given."""
        if self.eigenvalues is None:
            return tuple(4 * 0.7**i for i in range(16))
        return tuple(self.eigenvalues)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, 1, d)."""
        return 1, 1, len(self.spectrum)

    def load(self) -> dict[str, Tensor]:
        """Draws the three sets."""
        rng = np.random.default_rng(self.data_seed)
        dim = len(self.spectrum)
        orthogonal, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        colour = np.sqrt(self.spectrum)[:, None] * orthogonal.T
        splits = {}
        for name, count in zip(SPLITS, (self.size, HELD_OUT, HELD_OUT), strict=True):
            white = rng.standard_normal((count, dim))
            # What a linear model can reach depends on the first two moments of the data alone.
            # Each set is given exactly those of the source, so the closed form is the exact
            # optimum on the very examples that are measured, without a sampling error.
            white -= white.mean(axis=0)
            root = np.linalg.cholesky(white.T @ white / count)
            examples = np.linalg.solve(root, white.T).T @ colour
            splits[name] = torch.from_numpy(examples.astype(np.float32))[:, None, None]
        return splits

    @property
    def entropy_nats(self) -> float:
        """H = ½ Σ log 2πeλ."""
        return 0.5 * sum(math.log(2 * math.pi * math.e * value) for value in self.spectrum)

    def optimum(self, beta: float, sigma: float, latent_dim: int) -> tuple[float, float]:
        """The least D + βR of this source: see `water_filling`."""
        return water_filling(self.spectrum, beta, sigma, latent_dim)


def water_filling(
    eigenvalues: Sequence[float] | np.ndarray, beta: float, sigma: float, latent_dim: int
) -> tuple[float, float]:
    r"""Rate and distortion of the best linear VAE: reverse water-filling.

    With eigenvalues :math:`\lambda_1 \ge \dots \ge \lambda_d` of the data covariance,
    :math:`k` latents and the water level :math:`\theta = \beta\sigma^2`,

    .. math::
        R = \sum_{i \le k} \tfrac12 \log^+ \frac{\lambda_i}{\theta}, \quad
        S = \sum_{i \le k} \min(\lambda_i, \theta) + \sum_{i > k} \lambda_i, \quad
        D = \frac{S}{2\sigma^2} + \frac d2 \log 2\pi\sigma^2.

    For Gaussian data this is Shannon's rate–distortion function: no model is better.

    Args:
        eigenvalues: The eigenvalues λ, in any order.
        beta: The weight β of the rate, positive.
        sigma: The standard deviation σ of the Gaussian likelihood, positive.
        latent_dim: The number k of latents.

    Returns:
        The rate R and the distortion D, in nats per example.

    Raises:
        ValueError: If beta or sigma is not positive.

    Example:
        >>> rate, distortion = water_filling([4.0, 1.0], beta=1.0, sigma=1.0, latent_dim=2)
        >>> round(rate, 4), round(distortion, 4)
        (0.6931, 2.8379)
    """
    if not (beta > 0 and sigma > 0):
        raise ValueError(f"beta={beta} and sigma={sigma} must be positive")
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
    coded, left_out = values[:latent_dim], values[latent_dim:]
    level = beta * sigma**2
    rate = 0.5 * np.log(np.maximum(coded / level, 1)).sum()
    squared_error = np.minimum(coded, level).sum() + left_out.sum()
    constant = len(values) / 2 * math.log(2 * math.pi * sigma**2)
    return float(rate), float(squared_error / (2 * sigma**2) + constant)


def optimal_variance(
    eigenvalues: Sequence[float] | np.ndarray, beta: float, latent_dim: int
) -> float:
    r"""The σ² of the best linear VAE whose σ is free: learned, or profiled out.

    With m latents in use, those with :math:`\lambda_i > \theta = \beta\sigma^2`,

    .. math:: \sigma_*^2 = \frac{\sum_{i > m} \lambda_i}{d - \beta m}

    At β = 1 it is the maximum likelihood of probabilistic PCA.

    Args:
        eigenvalues: The eigenvalues λ of the data covariance, in any order.
        beta: The weight β of the rate, positive.
        latent_dim: The number k of latents.

    Returns:
        σ².

    Raises:
        ValueError: If beta is not positive, or there is no optimum: where β < 1 and the latents
            can carry all of x, D falls without end as σ falls to 0.

    References:
        Tipping & Bishop 1999, "Probabilistic principal component analysis", equation 8 (β = 1).

    Example:
        >>> optimal_variance([4.0, 1.0, 0.5], beta=1.0, latent_dim=1)
        0.75
    """
    if not beta > 0:
        raise ValueError(f"beta={beta} must be positive")
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
    d, found = len(values), []
    for used in range(min(latent_dim, d) + 1):
        if d - beta * used <= 0:
            break
        variance = float(values[used:].sum()) / (d - beta * used)
        level = beta * variance
        # The eigenvalues in use are those above the level, up to the number of latents.
        consistent = (used == 0 or values[used - 1] > level) and (
            used == min(latent_dim, d) or values[used] <= level
        )
        if consistent and variance > 0:
            rate, distortion = water_filling(values, beta, math.sqrt(variance), latent_dim)
            found.append((distortion + beta * rate, variance))
    if not found or (latent_dim >= d and beta < 1):
        raise ValueError(
            f"there is no optimal σ at beta={beta:g} with {latent_dim} latents for {d} dimensions"
            ": D falls without end as σ falls to 0; use fewer latents, beta ≥ 1, or a floor"
        )
    return min(found)[1]
