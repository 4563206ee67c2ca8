"""How easy the code is for a second generator, such as a latent diffusion model."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from multibeta.metrics.base import Codes

__all__ = ["VIV", "biases", "excess_kurtosis", "principal_axes", "velocity_variance"]

_AXES = 256


class VIV(Codes):
    r"""Velocity irreducible variance of samples of the code, and its scale, spectrum and shape.

    .. math:: \mathrm{VIV} = \int_0^1 \mathrm{tr} \, \mathrm E \,
        \mathrm{Cov}(ε - z \,|\, (1 - t) z + t ε) \, dt = \frac π2 \sum_i \sqrt{λ_i}

    for a Gaussian z with eigenvalues λ of its covariance, and ε from N(0, I): what remains of the
    velocity ε − z of a flow when its place is known, the mean square error that no flow model of
    z gets below. z is a sample of q(z|x) for each example, as latent diffusion trains on. It is
    to be read beside D: a code that says nothing is easy.

    A flow model sees the whole of z at once. So of a map (C, H, W) the covariance is that of all
    C·H·W values; λ are as many. The estimate is too low by about Z/8N of itself for Z values and N
    examples; where that is more than the standard error, it is marked as a bound.

    Standard errors are over examples, by the delta method: the standard deviation of the
    influence of each example on the figure, over √N. They do not take z to be Gaussian.

    Args:
        vae: The model at the β that is measured.
        most: How many examples to use, the first ones.

    References:
        Zhong et al. 2026, arXiv 2606.03578 (VIV); Rombach et al. 2022, arXiv 2112.10752, section
        G (the scale of the latents).
    """

    keeps: ClassVar[tuple[str, ...]] = ("z",)

    def about(self) -> dict[str, Any]:
        """Return what an axis and a latent are, where z is a map."""
        shape = self.vae.latent_shape
        if len(shape) == 1:
            return {}
        return {"axes": f"of all values of z {shape}", "latents": f"channels of z {shape}"}

    def compute(self) -> dict[str, Any]:
        """Return the figures, each with ``…_se``, and lists.

        Returns:
            ``viv``. ``viv_scale`` s, the root of the mean variance of the values of z: z/s is what
            latent diffusion trains on; ``viv_scaled``, VIV of z/s. ``effective_rank``, (Σλ)²/Σλ²,
            the number of axes with most of the variance. ``excess_kurtosis``, the mean over
            latents (see :func:`excess_kurtosis`), 0 for Gaussian ones. Where the figure is too
            low by more than ± (see :func:`biases`), ``viv_bound``, ``viv_scaled_bound`` and
            ``effective_rank_bound`` are 1: the true value is at least the figure.

            At each latent ``latent_std``, the standard deviation of z, and ``latent_kurtosis``;
            and ``axis_share``, the share of the variance in the first 1, 2, … principal axes, up
            to 256 of them. All are nan for one example.
        """
        (z,) = self.kept()
        z = z.double()
        n = len(z)
        values, influence = velocity_variance(z)
        row: dict[str, Any] = {}
        for name, value in values.items():
            row[name] = value
            row[f"{name}_se"] = _se(influence[name])
        variances, _ = principal_axes(z)
        for name, bias in biases(variances, n).items():
            row[f"{name}_bound"] = float(bias > row[f"{name}_se"])
        of_map = z.reshape(n, self.vae.latent_shape[0], -1)
        kurtosis, of_each = excess_kurtosis(of_map)
        row["excess_kurtosis"] = kurtosis.mean().item() if n > 1 else math.nan
        row["excess_kurtosis_se"] = _se(of_each.mean(1))
        shares = variances.cumsum(0) / variances.sum()
        return row | {
            "latent_std": of_map.movedim(1, -1).flatten(0, 1).std(0, correction=0).tolist(),
            "latent_kurtosis": kurtosis.tolist(),
            "axis_share": shares[:_AXES].tolist(),
        }


def principal_axes(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variances of codes along their principal axes, falling, and the coordinates.

    Args:
        z: (N, Z), float64.

    Returns:
        The eigenvalues λ of the covariance, with N − 1 in the denominator: (min(N, Z),); the
        coordinates of the centred codes along the axes: (N, min(N, Z)).
    """
    n, size = z.shape
    centred = z - z.mean(0)
    if size <= n:
        values, axes = torch.linalg.eigh(centred.T @ centred / (n - 1 or math.nan))
        return values.flip(0).clamp(min=0), centred @ axes.flip(1)
    values, axes = torch.linalg.eigh(centred @ centred.T / (n - 1 or 1))
    values = values.flip(0).clamp(min=0)
    return values, axes.flip(1) * (values * (n - 1)).sqrt()


def velocity_variance(z: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return VIV, scale and effective rank of codes, and each example's influence on them.

    Args:
        z: (N, Z), float64.

    Returns:
        ``viv``, ``viv_scale``, ``viv_scaled`` and ``effective_rank``: see :meth:`VIV.compute`; all
        nan for one example. Their influence functions at each example, (N,), of mean 0.
    """
    names = ("viv", "viv_scale", "viv_scaled", "effective_rank")
    if len(z) < 2:
        return dict.fromkeys(names, math.nan), dict.fromkeys(names, z.new_full((1,), math.nan))
    variances, along = principal_axes(z)
    live = variances > 1e-12 * variances[:1]
    variances, along = variances[live], along[:, live]
    excess = along.square() - variances
    roots, total, squares = variances.sqrt(), variances.sum(), variances.square().sum()
    viv, scale = math.pi / 2 * roots.sum(), (total / z.shape[1]).sqrt()
    of_viv = math.pi / 4 * (excess / roots).sum(1)
    of_total, of_squares = excess.sum(1), 2 * excess @ variances
    rank = total.square() / squares
    found = {"viv": viv, "viv_scale": scale, "viv_scaled": viv / scale, "effective_rank": rank}
    influence = {
        "viv": of_viv,
        "viv_scale": scale * of_total / (2 * total),
        "viv_scaled": of_viv / scale - viv / scale * of_total / (2 * total),
        "effective_rank": rank * (2 * of_total / total - of_squares / squares),
    }
    return {name: value.item() for name, value in found.items()}, influence


def biases(variances: Tensor, n: int) -> dict[str, float]:
    r"""Return by how much VIV and effective rank are too low, from N examples.

    .. math:: \frac π{4N} \Big( \frac12 \sum_i \sqrt{λ_i} + \sum_{i<j}
        \frac{\sqrt{λ_i λ_j}}{\sqrt{λ_i} + \sqrt{λ_j}} \Big), \qquad \frac{r (r + 1)}{N}

    for the effective rank r, to first order in 1/N for a Gaussian z: the variances of a sample lie
    further apart than the true ones. For Z equal variances the first is (Z + 1)/8N of VIV.

    Args:
        variances: Those along the principal axes, λ: (Z,).
        n: The number N.

    Returns:
        For ``viv``, ``viv_scaled`` and ``effective_rank``; nan for one example.
    """
    if n < 2:
        return dict.fromkeys(("viv", "viv_scaled", "effective_rank"), math.nan)
    roots = variances[variances > 1e-12 * variances[:1]].sqrt()
    pairs = (1 / (1 / roots[:, None] + 1 / roots)).sum() / 2  # each i = j counts for ¼ √λ
    bias = (math.pi / (4 * n) * (pairs + roots.sum() / 4)).item()
    scale = (variances.sum() / len(variances)).sqrt().item()
    rank = (variances.sum().square() / variances.square().sum()).item()
    return {"viv": bias, "viv_scaled": bias / scale, "effective_rank": rank * (rank + 1) / n}


def excess_kurtosis(z: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return how far the tails of each latent are from a Gaussian's.

    .. math:: k_j = \frac{\mathrm E (z_j - \bar z_j)^4}{(\mathrm{Var}\, z_j)^2} - 3

    0 for a Gaussian, above for heavy tails (Laplace 3), below for light ones or two modes (uniform
    −1.2, two points −2).

    Args:
        z: (N, Z, P): latents at P positions, which count as examples.

    Returns:
        k: (Z,); the influence of each example on it: (N, Z).
    """
    centred = z - z.mean((0, 2), keepdim=True)
    second, third, fourth = (centred.pow(k).mean((0, 2), keepdim=True) for k in (2, 3, 4))
    influence = (centred.pow(4) - fourth - 4 * third * centred) / second.square()
    influence = influence - 2 * fourth * (centred.square() - second) / second.pow(3)
    return (fourth / second.square() - 3).flatten(), influence.mean(2)


def _se(influence: Tensor) -> float:
    n = len(influence)
    return influence.std().item() / math.sqrt(n) if n > 1 else math.nan
