"""Objectives: the distortion and the terms of the rate, weighted by β, into a loss."""

from __future__ import annotations

from torch import Tensor

__all__ = ["BetaELBO", "Objective"]


class Objective:
    """The base of all objectives.

    An objective keeps each constructor argument as an attribute of the same name: that is how
    a checkpoint describes it.
    """

    def __call__(self, distortion: Tensor, rate: Tensor, beta: Tensor) -> Tensor:
        """Return the value to minimise.

        Args:
            distortion: D = E_q[−log p(x|z)], nats per example: (B,).
            rate: KL(q(z_j|x) ‖ p(z_j)), nats per example and latent: (B, Z).
            beta: β of each example: (B,).

        Returns:
            (B,), nats per example.
        """
        raise NotImplementedError


class BetaELBO(Objective):
    r"""The β-VAE: :math:`D + β R`, the negative ELBO at β = 1.

    References:
        Higgins et al. 2017, "β-VAE", equation 4; Alemi et al. 2018, arXiv 1711.00464,
        equation 6.
    """

    def __call__(self, distortion: Tensor, rate: Tensor, beta: Tensor) -> Tensor:
        """Return D + βR: (B,)."""
        return distortion + beta * rate.sum(-1)
