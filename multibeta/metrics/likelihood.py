"""The likelihood of the data, by importance weighting and by sampling from the prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from multibeta.data.batches import rank_and_world
from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.vae import BetaVAE

__all__ = ["NLL", "importance_weights", "log_mean_exp"]


class NLL(CurveMetric):
    r"""An upper bound of −log p(x) by K importance samples, and naive Monte Carlo beside it.

    .. math:: -\log \frac1K \sum_k w_k, \qquad w_k = \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}, \quad
        z_k \sim q(z|x)

    The bound falls with K towards −log p(x). How many of the K samples carry the weight is the
    effective sample size, (Σ w)² / Σ w²; where it is near 1, the bound is loose. The naive
    estimate takes the z_k from the prior instead and is of use only where the rate is small.

    Args:
        vae: The model at the β that is measured.
        samples: The number K of samples for an example.
        most: How many examples to use, the first ones: each is decoded K times.

    References:
        Burda et al. 2016, arXiv 1509.00519, equation 8; Kong 1992 (effective sample size).
    """

    n: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(self, vae: BetaVAE, samples: int = 64, most: int = 1_000) -> None:
        super().__init__(vae)
        if samples < 1:
            raise ValueError(f"samples={samples} is too small; it is at least 1")
        self.samples = samples
        self.most = most
        self._kept: list[tuple[Evaluated, slice]] = []
        self._seen = 0
        self.add_sums(n=(), sums=(3,), squares=(3,))

    def update(self, batch: Evaluated) -> None:
        """Keep a batch."""
        # Batches go round the processes, all of one size but the last.
        rank, world = rank_and_world()
        before = self._seen * world + rank * len(batch.x)
        self._seen += len(batch.x)
        if before < self.most:
            self._kept.append((batch, slice(self.most - before)))

    def finish(self) -> None:
        """Decode the samples."""
        while self._kept:
            self._add(*self._kept.pop())

    def _add(self, batch: Evaluated, kept: slice) -> None:
        x = batch.x[kept]
        noise = batch.noise(self.samples)
        log_w = importance_weights(self.vae, batch, noise, kept)
        # Samples of the prior know no example, so that a batch shares them.
        from_prior = [self.vae.decode(z[None]).log_prob(x) for z in noise[:, 0].to(x)]
        values = torch.stack(
            [
                -log_mean_exp(log_w),
                (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp(),
                -log_mean_exp(torch.stack(from_prior).double()),
            ]
        ).to(self.sums.device)
        self.n += values.shape[1]
        self.sums += values.sum(1)
        self.squares += values.square().sum(1)

    def compute(self) -> dict[str, float]:
        """Return the estimates in nats per example, with their standard errors.

        Returns:
            ``nll_nats, nll_se, nll_ess`` (the mean effective sample size, 1 to K),
            ``nll_prior_nats, nll_prior_se, nll_samples`` (K), ``nll_examples``.
        """
        mean, se = mean_and_se(self.n, self.sums, self.squares)
        return {
            "nll_nats": mean[0].item(),
            "nll_se": se[0].item(),
            "nll_ess": mean[1].item(),
            "nll_prior_nats": mean[2].item(),
            "nll_prior_se": se[2].item(),
            "nll_samples": float(self.samples),
            "nll_examples": self.n.item(),
        }


def importance_weights(vae: BetaVAE, batch: Evaluated, noise: Tensor, kept: slice) -> Tensor:
    """Return log p(x|z) + log p(z) − log q(z|x) for samples of the posterior.

    Args:
        vae: The model.
        batch: The batch.
        noise: Standard normal noise of the samples: (K, B, Z).
        kept: Which n of the B examples to use.

    Returns:
        (K, n), float64.
    """
    q = batch.terms.posterior
    mean, std = q.mean[kept], q.stddev[kept]
    log_w = []
    for each in noise[:, kept].to(mean):
        z = mean + std * each
        # log p(z) − log q(z|x): the normalising constants of the two cancel, but for the std.
        ratio = 0.5 * (each.square() - z.square()) + std.log()
        log_w.append(vae.decode(z).log_prob(batch.x[kept]).double() + ratio.double().sum(-1))
    return torch.stack(log_w)


def log_mean_exp(values: Tensor) -> Tensor:
    """Return log of the mean of exp over the first axis."""
    return values.logsumexp(0) - math.log(len(values))
