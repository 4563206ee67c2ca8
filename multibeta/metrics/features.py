r"""How near two sets of features are: Fréchet's distance, a kernel's, and neighbourhoods."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from multibeta.metrics.base import Float64Metric, in_order

__all__ = [
    "Features",
    "feature_distance",
    "frechet",
    "frechet_at_infinity",
    "frechet_distance",
    "kernel_distance",
    "moments",
    "neighbourhoods",
]

_ROWS = 1_024
# Of the largest eigenvalue: what is below is rounding.
_LEAST = 1e-12


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


def frechet(
    features: Tensor,
    others: Tensor,
    *,
    of_others: tuple[Tensor, Tensor] | None = None,
    paired: bool = False,
) -> tuple[float, float]:
    r"""Return the squared Fréchet distance of two sets of features, and its standard error.

    The error is that of the terms that are linear in the examples (the delta method): with
    :math:`T = C^{-1/2} (C^{1/2} C' C^{1/2})^{1/2} C^{-1/2}`, an example adds

    .. math:: 2 (x - m) \cdot (m - m') + (x - m)^\top (I - T) (x - m)

    and one of the other set the same with the two exchanged. It does not see the bias, which is
    about proportional to 1/N: see :func:`frechet_at_infinity`.

    Args:
        features: The features x: (n, F).
        others: The features y: (m, F).
        of_others: The :func:`moments` of y, where they are known.
        paired: Whether x_i and y_i belong together, as a picture and its reconstruction do, so
            that the error is that of n pairs.

    Returns:
        The value and its standard error; nan for a set of fewer than two.

    Raises:
        ValueError: If the shapes do not fit together.

    References:
        Dowson & Landau 1982; for the derivative Takatsu 2011, Osaka J. Math. 48.
    """
    _check_sets(features, others, paired)
    (m, c), (other_m, other_c) = moments(features), of_others or moments(others)
    if not all(v.isfinite().all() for v in (m, c, other_m, other_c)):
        return math.nan, math.nan
    values, vectors = torch.linalg.eigh(c)
    root, inverse = _power(values, vectors, 0.5), _power(values, vectors, -0.5)
    product = root @ other_c @ root
    values, vectors = torch.linalg.eigh((product + product.T) / 2)
    shared = values.clamp(min=0).sqrt().sum()
    distance = (m - other_m).square().sum() + c.trace() + other_c.trace() - 2 * shared
    there = inverse @ _power(values, vectors, 0.5) @ inverse
    back = root @ _power(values, vectors, -0.5) @ root
    by_x = _linear(features.double() - m, m - other_m, there)
    by_y = _linear(others.double() - other_m, other_m - m, back)
    n = len(by_x)
    variance = (by_x + by_y).var() / n if paired else by_x.var() / n + by_y.var() / len(by_y)
    return max(0.0, distance.item()), variance.sqrt().item()


def frechet_at_infinity(
    features: Tensor, others: Tensor, whole: float, *, paired: bool = False, seed: int = 0
) -> float:
    r"""Return the squared Fréchet distance without the part of its bias that goes as 1/N.

    Both sets are split in random halves. The line in 1/N through the distance of all and the mean
    distance of the halves is followed to 1/N = 0:

    .. math:: \mathrm{FD}_\infty = 2\, \mathrm{FD}_N
        - \tfrac12 (\mathrm{FD}_{N/2} + \mathrm{FD}'_{N/2})

    Its standard error is about that of the distance of all. For fewer examples than features the
    bias is not linear in 1/N, and some of it stays.

    Args:
        features: The features x: (n, F).
        others: The features y: (m, F).
        whole: The distance of all of them.
        paired: Whether x_i and y_i belong together.
        seed: That of the halves.

    Returns:
        The value, which may be below 0; nan for a set of fewer than four.

    Raises:
        ValueError: If the shapes do not fit together.

    References:
        Chong & Forsyth 2020, arXiv 1911.07023, who fit a line through 15 sizes.
    """
    _check_sets(features, others, paired)
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(len(features), generator=generator)
    of_others = places if paired else torch.randperm(len(others), generator=generator)
    halves = zip(features[places].tensor_split(2), others[of_others].tensor_split(2), strict=True)
    split = [frechet_distance(*moments(x), *moments(y)) for x, y in halves]
    return 2 * whole - sum(split) / 2


def neighbourhoods(features: Tensor, real: Tensor, k: int) -> dict[str, Tensor]:
    r"""Return k-NN precision, recall, density and coverage, example by example.

    The ball of an example reaches to its k-th neighbour in its own set.

    - *precision* of a sample: whether it lies in the ball of any real example: (n,);
    - *density* of a sample: the number of balls of real examples that it lies in, over k: (n,),
      1 on average for samples of the same distribution;
    - *recall* of a real example: whether it lies in the ball of any sample: (m,);
    - *coverage* of a real example: whether any sample lies in its ball: (m,).

    Args:
        features: Those of the samples: (n, F).
        real: Those of the real examples: (m, F).
        k: The number of the neighbour.

    Returns:
        Name → values, float64; their means are the four measures. nan where a set has no k-th
        neighbour.

    Raises:
        ValueError: If the shapes do not fit together.

    References:
        Kynkäänniemi et al. 2019, arXiv 1904.06991, equation 1 (k = 3); Naeem et al. 2020,
        arXiv 2002.09797, equations 3 and 4 (k = 5 for all four).
    """
    _check_sets(features, real)
    n, m = len(features), len(real)
    if min(n, m) <= k:
        of_n, of_m = (torch.full((size,), torch.nan, dtype=torch.float64) for size in (n, m))
        return {"precision": of_n, "recall": of_m, "density": of_n, "coverage": of_m}
    centre = real.double().mean(0)
    x, y = features.double() - centre, real.double() - centre
    of_x, of_y = _radii(x, k), _radii(y, k)
    inside, recall, coverage = [], [], []
    for rows, radii in zip(y.split(_ROWS), of_y.split(_ROWS), strict=True):
        distances = torch.cdist(rows, x)
        in_real = distances <= radii[:, None]
        inside.append(in_real.sum(0))
        recall.append((distances <= of_x).any(1))
        coverage.append(in_real.any(1))
    counts = torch.stack(inside).sum(0)
    return {
        "precision": (counts > 0).double(),
        "recall": torch.cat(recall).double(),
        "density": counts.double() / k,
        "coverage": torch.cat(coverage).double(),
    }


def feature_distance(features: Tensor, others: Tensor) -> Tensor:
    r"""Return the squared distance of the features of each pair, scaled to length 1: (n,).

    .. math:: \left\lVert \frac{x}{\lVert x \rVert} - \frac{y}{\lVert y \rVert}
        \right\rVert^2

    that is 2 − 2 cos(x, y). It is no LPIPS: that takes several layers, at every place, with learnt
    weights.

    Args:
        features: The features x: (n, F).
        others: The features y: (n, F).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    _check_sets(features, others, paired=True)
    x, y = (torch.nn.functional.normalize(v.double(), dim=1) for v in (features, others))
    return (x - y).square().sum(1)


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
    _check_sets(features, others, paired)
    n, m = len(features), len(others)
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


def _check_sets(features: Tensor, others: Tensor, paired: bool = False) -> None:
    if features.shape[1:] != others.shape[1:] or (paired and len(features) != len(others)):
        raise ValueError(
            f"features of {tuple(features.shape)} and {tuple(others.shape)} cannot be compared; "
            f"give as many features{' of as many examples' if paired else ''}"
        )


def _power(values: Tensor, vectors: Tensor, power: float) -> Tensor:
    """Return a power of a symmetric matrix, on the span of its eigenvalues above rounding."""
    kept = values > _LEAST * values.max()
    return vectors[:, kept] * values[kept] ** power @ vectors[:, kept].T


def _linear(centred: Tensor, apart: Tensor, transport: Tensor) -> Tensor:
    """Return what each example adds to Fréchet's distance, but for a constant."""
    moved = centred - centred @ transport
    return 2 * centred @ apart + (centred * moved).sum(1)


def _radii(x: Tensor, k: int) -> Tensor:
    """Return the distance of each row to its k-th neighbour among the others."""
    found = []
    for start in range(0, len(x), _ROWS):
        distances = torch.cdist(x[start : start + _ROWS], x)
        rows = torch.arange(len(distances), device=x.device)
        distances[rows, start + rows] = torch.inf
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)


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
