"""Where codes are drawn from in place of N(0, I): a mixture fitted to the aggregated posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

__all__ = ["GMMPrior", "fit_gmm"]

_MAX_ITERATIONS = 1_000


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
