"""Divergences between distributions over the latents."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Independent

__all__ = ["kl_standard_normal"]


def kl_standard_normal(q: Independent) -> Tensor:
    r"""KL(q ‖ N(0, I)) of a factorised Gaussian, per latent.

    .. math:: \mathrm{KL}_j = \tfrac12 (μ_j^2 + σ_j^2 - 1 - \log σ_j^2)

    Args:
        q: Independent(Normal): batch shape (B,), event shape (Z,).

    Returns:
        (B, Z), nats per example and latent; the rate is its sum over Z.

    References:
        Kingma & Welling 2014, arXiv 1312.6114, appendix B.
    """
    mean, std = q.base_dist.loc, q.base_dist.scale
    return 0.5 * (mean.square() + std.square() - 1) - std.log()
