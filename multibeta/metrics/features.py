r"""Distances between two sets of features: Fréchet's, of FID, and a kernel's, of KID."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from multibeta.metrics.base import Float64Metric, in_order

__all__ = ["Features", "frechet_distance", "kernel_distance", "moments"]

_ROWS = 1_024


class Features(Float64Metric):
    """Features of all pictures, in the order of the batches, whichever process made them."""

    rows: Any
    places: Any

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "places"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, features: Tensor, place: int) -> None:
        """Add a batch.

        Args:
            features: (B, F).
            place: The number of the batch, counted over all processes.
        """
        self.rows.append(features.to(self.device))
        self.places.append(torch.full((len(features),), place, device=self.device))

    def compute(self) -> Tensor:
        """Return the features: (N, F)."""
        return in_order(self.places, self.rows)[0]


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (F,) and the unbiased covariance (F, F) of features (N, F), in float64.

    The covariance of a single one is nan.
    """
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    n = len(features)
    covariance = (
        centred.T @ centred / (n - 1) if n > 1 else torch.full_like(centred.T @ centred, torch.nan)
    )
    return mean, covariance


def frechet_distance(mean: Tensor, cov: Tensor, other_mean: Tensor, other_cov: Tensor) -> float:
    r"""Return the squared Fréchet (2-Wasserstein) distance of two Gaussians.

    .. math:: \lVert m - m' \rVert^2
        + \mathrm{tr}\left(C + C' - 2 (C^{1/2} C' C^{1/2})^{1/2}\right)

    In float64, by symmetric eigendecompositions. nan if a moment is not finite.

    Args:
        mean: The mean m: (F,).
        cov: The covariance C: (F, F).
        other_mean: The mean m′: (F,).
        other_cov: The covariance C′: (F, F).

    Raises:
        ValueError: If the shapes do not fit together.

    References:
        Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500, equation 6.
    """
    f = len(mean)
    if not (mean.shape == other_mean.shape == (f,) and cov.shape == other_cov.shape == (f, f)):
        shapes = [tuple(v.shape) for v in (mean, cov, other_mean, other_cov)]
        raise ValueError(
            f"moments of shapes {', '.join(map(str, shapes))} do not fit together; give (F,), "
            "(F, F), (F,), (F, F) of the same features"
        )
    given = [v.double() for v in (mean, cov, other_mean, other_cov)]
    if not all(v.isfinite().all() for v in given):
        return math.nan
    m, c, other_m, other_c = given
    values, vectors = torch.linalg.eigh(c)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ other_c @ root
    shared = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (m - other_m).square().sum() + c.trace() + other_c.trace() - 2 * shared
    # Rounding makes it a little less than 0 for equal moments.
    return max(0.0, distance.item())


def kernel_distance(
    features: Tensor, others: Tensor, *, paired: bool = False
) -> tuple[float, float]:
    r"""Return the squared maximum mean discrepancy of two sets of features, and its error.

    .. math:: \frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j}
        k(y_i, y_j) - \frac{2}{nm} \sum_{i, j} k(x_i, y_j), \quad
        k(x, y) = \left(\frac{x \cdot y}{F} + 1\right)^3

    It is unbiased, so that it can be below 0. KID is often given as the mean of this over random
    subsets; over all subsets that mean is this value. The standard error is that of the terms
    that are linear in the examples (Hájek's projection).

    Args:
        features: The features x: (n, F).
        others: The features y: (m, F).
        paired: Whether x_i and y_i belong together, as a picture and its reconstruction do, so
            that the error is that of n pairs.

    Returns:
        The value and its standard error; nan for a set of fewer than two.

    Raises:
        ValueError: If the shapes do not fit together.

    References:
        Bińkowski et al. 2018, arXiv 1801.01401, section 4; Gretton et al. 2012, lemma 6.
    """
    n, m = len(features), len(others)
    if features.shape[1:] != others.shape[1:] or (paired and n != m):
        raise ValueError(
            f"features of {tuple(features.shape)} and {tuple(others.shape)} cannot be compared; "
            f"give as many features{' of as many examples' if paired else ''}"
        )
    if min(n, m) < 2:
        return math.nan, math.nan
    x, y = features.double(), others.double()
    of_x, of_y = _sums(x, x)[0] - _kernel_diagonal(x), _sums(y, y)[0] - _kernel_diagonal(y)
    across_x, across_y = _sums(x, y)
    value = of_x.sum() / (n * (n - 1)) + of_y.sum() / (m * (m - 1)) - 2 * across_x.sum() / (n * m)
    by_x = 2 * (of_x / (n - 1) - across_x / m)
    by_y = 2 * (of_y / (m - 1) - across_y / n)
    variance = (by_x + by_y).var() / n if paired else by_x.var() / n + by_y.var() / m
    return value.item(), variance.sqrt().item()


def _sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over y of k(x, y), (n,), and those over x, (m,)."""
    over_y, over_x = [], torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for rows in x.split(_ROWS):
        kernel = (rows @ y.T / x.shape[1] + 1) ** 3
        over_y.append(kernel.sum(1))
        over_x += kernel.sum(0)
    return torch.cat(over_y), over_x


def _kernel_diagonal(x: Tensor) -> Tensor:
    return (x.square().sum(1) / x.shape[1] + 1) ** 3
