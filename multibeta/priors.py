"""Where codes are drawn from in place of N(0, I): a mixture or a flow fitted to codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

__all__ = ["FlowPrior", "GMMPrior", "fit_flow", "fit_gmm"]

_MAX_ITERATIONS = 1_000
_FREQUENCIES = 8
_EULER = 100  # steps
_HELD_OUT = 10  # one of so many codes is


class GMMPrior(MixtureSameFamily):
    r"""A mixture of Gaussians over z.

    .. math:: p(z) = \sum_k π_k \, \mathcal N(z; m_k, L_k L_k^\top)

    Args:
        weights: The weights :math:`π_k`: (K,).
        means: The means :math:`m_k`: (K, Z).
        scale_tril: The Cholesky factors :math:`L_k` of the covariances: (K, Z, Z).

    Example:
        >>> prior = GMMPrior(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
        >>> prior.sample((5,), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([5, 2])
    """

    def __init__(self, weights: Tensor, means: Tensor, scale_tril: Tensor) -> None:
        self.means, self.scale_tril = means, scale_tril
        components = MultivariateNormal(means, scale_tril=scale_tril)
        super().__init__(Categorical(weights), components)

    def sample(
        self,
        sample_shape: torch.Size | Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw codes.

        Args:
            sample_shape: How many, such as ``(n,)``.
            generator: Where the noise is from; torch's own by default.

        Returns:
            The codes: (n, Z).
        """
        size, n = self.means.shape[1], math.prod(sample_shape)
        device = self.means.device if generator is None else generator.device
        uniform = torch.rand(n, generator=generator, device=device).to(self.means.device)
        z = torch.randn(n, size, generator=generator, device=device).to(self.means)
        bounds = self.mixture_distribution.probs.float().cumsum(0)[:-1]
        chosen = torch.searchsorted(bounds, uniform, right=True)
        for k, (mean, factor) in enumerate(zip(self.means, self.scale_tril, strict=True)):
            rows = chosen == k
            z[rows] = mean + z[rows] @ factor.T
        return z.reshape(*sample_shape, size)


def fit_gmm(z: Tensor, components: int = 10, seed: int = 0) -> GMMPrior:
    """Fit a mixture of Gaussians with full covariances, by scikit-learn.

    With fewer different codes than components, there are as many components as codes. A latent
    is scaled to unit variance for the fit, and 1e-6 is added to each variance there, so that a
    latent that never changes, or fewer codes than latents, do no harm.

    Args:
        z: Samples of the aggregated posterior: (N, Z).
        components: The number K of components.
        seed: The seed of the initial clusters.

    Returns:
        The mixture, on the device and of the dtype of z; ``vae.sample(64, prior=fit_gmm(z))``.

    Raises:
        ValueError: If there are no codes, a code is not finite, or components is below 1.

    References:
        Ghosh et al. 2020, arXiv 1903.12436, section 4 (ten components).
    """
    from sklearn.mixture import GaussianMixture

    if components < 1:
        raise ValueError(f"components={components} is too small; it is at least 1")
    if z.ndim != 2 or not len(z):
        raise ValueError(f"codes of shape {tuple(z.shape)} cannot be fitted; give (N, Z), N ≥ 1")
    if bad := int((~z.isfinite()).any(1).sum()):
        raise ValueError(
            f"{bad:,} of {len(z):,} codes are NaN or infinite; a mixture needs finite ones: the "
            "model has diverged, so measure an earlier checkpoint"
        )
    codes = z.detach().double().cpu().numpy()
    centre, scale = codes.mean(0), codes.std(0)
    # A latent that never changes has a deviation of rounding size.
    scale = np.where(scale > 1e-12 * (1 + np.abs(centre)), scale, 1.0)
    units = (codes - centre) / scale
    different = len(np.unique(units, axis=0))
    mixture = GaussianMixture(
        min(components, different), max_iter=_MAX_ITERATIONS, random_state=seed
    )
    mixture.fit(units if len(units) > 1 else np.repeat(units, 2, axis=0))  # it wants two
    factors = np.linalg.cholesky(mixture.covariances_)
    found = (
        mixture.weights_,
        centre + scale * mixture.means_,
        scale[:, None] * factors,
    )
    weights, means, scale_tril = (torch.as_tensor(value).to(z) for value in found)
    return GMMPrior(weights, means, scale_tril)


class FlowPrior(nn.Module):
    r"""A flow of codes: noise follows the velocities that a network has learned.

    .. math:: \dot z_t = v(z_t, t), \quad z_1 \sim \mathcal N(0, I)

    from t = 1 to 0, by Euler's method in 100 steps, in units in which each latent has mean 0 and
    variance 1.

    Args:
        mean: The mean of each latent: (Z,).
        std: Its standard deviation: (Z,).
        width: Units of each of three hidden layers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        size = len(mean)
        sizes = [size + 2 * _FREQUENCIES, width, width, width]
        layers = [[nn.Linear(a, b), nn.SiLU()] for a, b in itertools.pairwise(sizes)]
        self.net = nn.Sequential(*itertools.chain(*layers), nn.Linear(width, size))
        self.loss = math.nan

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        """Return v for z (N, Z) in units of the flow, at t (N, 1): (N, Z)."""
        angles = t * math.pi * torch.arange(1, _FREQUENCIES + 1, device=t.device)
        return self.net(torch.cat([z, angles.cos(), angles.sin()], 1))

    @torch.no_grad()
    def sample(
        self,
        sample_shape: torch.Size | Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw codes.

        Args:
            sample_shape: How many, such as ``(n,)``.
            generator: Where the noise is from; torch's own by default.

        Returns:
            The codes: (n, Z).
        """
        n = math.prod(sample_shape)
        z = torch.randn(n, len(self.mean), generator=generator).to(self.mean)
        for k in range(_EULER, 0, -1):
            z = z - self.velocity(z, z.new_full((n, 1), k / _EULER)) / _EULER
        return (self.mean + self.std * z).reshape(*sample_shape, -1)


def fit_flow(
    z: Tensor, steps: int = 2_000, batch: int = 256, width: int = 256, seed: int = 0
) -> FlowPrior:
    r"""Fit a flow to codes, by flow matching on straight lines.

    .. math:: \min_v E \, \lVert v(z_t, t) - (ε - z) \rVert^2, \quad z_t = (1 - t) z + t ε

    with ε from N(0, I) and t uniform. The seed gives weights, noise and batches: the same for all
    β's. A tenth of the codes is held out for ``loss``, the mean of this square over a hundred
    draws, in units of the flow: at least VIV of a Gaussian z (:class:`multibeta.metrics.VIV`),
    and for other shapes of z it can be less.

    Args:
        z: Codes: (N, Z), N at least 20.
        steps: Of Adam, with a learning rate that falls from 1e-3 to 0 as a cosine.
        batch: Codes in a step.
        width: Units of each of three hidden layers.
        seed: That of weights, noise and batches.

    Returns:
        The flow, with ``loss``; ``vae.sample(64, prior=fit_flow(z))``.

    Raises:
        ValueError: If there are too few codes, or they are not finite.

    References:
        Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003.
    """
    if z.ndim != 2 or len(z) < 2 * _HELD_OUT:
        raise ValueError(
            f"codes of shape {tuple(z.shape)} are too few for a flow; give (N, Z), N ≥ "
            f"{2 * _HELD_OUT}"
        )
    if not z.isfinite().all():
        raise ValueError("codes are NaN or infinite: the model has diverged")
    z = z.detach().float()
    std = z.std(0)
    std = torch.where(std > 1e-6 * (1 + z.mean(0).abs()), std, 1.0)
    with torch.random.fork_rng([z.device] if z.is_cuda else []), torch.enable_grad():
        torch.manual_seed(seed)
        flow = FlowPrior(z.mean(0), std, width).to(z.device)
        units = ((z - flow.mean) / flow.std)[torch.randperm(len(z))]
        held_out, units = units[::_HELD_OUT], units[torch.arange(len(z)) % _HELD_OUT > 0]
        optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = torch.randint(len(units), (batch,))
            optimizer.zero_grad()
            _mismatch(flow, units[rows]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            losses = [_mismatch(flow.eval(), held_out) for _ in range(100)]
            flow.loss = torch.stack(losses).mean().item()
    return flow.requires_grad_(False)


def _mismatch(flow: FlowPrior, z: Tensor) -> Tensor:
    """Return the mean over codes of the squared error of the velocity."""
    noise, t = torch.randn_like(z), torch.rand(len(z), 1, device=z.device)
    error = flow.velocity((1 - t) * z + t * noise, t) - (noise - z)
    return error.square().sum(1).mean()
