"""The likelihood of the data, by importance weighting and by sampling from the prior."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from multibeta.metrics.base import Spread, joined, mean_and_se
from multibeta.vae import BetaVAE

__all__ = ["NLL", "importance_weights", "log_mean_exp"]

_EXAMPLES = 250


class NLL(Spread):
    r"""An upper bound of −log p(x) by K importance samples, and naive Monte Carlo beside it.

    .. math:: -\log \frac1K \sum_k w_k, \qquad w_k = \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}, \quad
        z_k \sim q(z|x)

    The bound falls with K towards −log p(x). How many of the K samples carry the weight is the
    effective sample size, (Σ w)² / Σ w²; where it is near 1, the bound is loose. The naive
    estimate takes the z_k from the prior instead and is of use only where the rate is small. The
    ELBO gap is D + R less the bound, on the same examples: how much the posterior and a single
    sample cost, KL(q(z|x) ‖ p(z|x)) once the bound is tight.

    Args:
        vae: The model at the β that is measured.
        samples: The number K of samples for an example.
        most: How many examples to use, spread over the set, which may be sorted by class: for
            each, 2K samples are decoded.
        every: Each so many-th example is used; :meth:`prepare` finds it.

    References:
        Burda et al. 2016, arXiv 1509.00519, equation 8; Kong 1992 (effective sample size).
    """

    n: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(
        self, vae: BetaVAE, samples: int = 64, most: int = 1_000, *, every: int = 1
    ) -> None:
        super().__init__(vae, most, every=every)
        if samples < 1:
            raise ValueError(f"samples={samples} is too small; it is at least 1")
        self.samples = samples
        self.add_sums(n=(), sums=(4,), squares=(4,))

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse a distortion that is no −log p(x|z)."""
        if model.likelihood.unit == "nats":
            return None
        return f"it needs −log p(x|z), and D is {model.likelihood.name}: choose a likelihood"

    def finish(self) -> None:
        """Decode the samples, many examples at a time."""
        if not self.chosen:
            return
        chosen, self.chosen = self.chosen, []
        names = ("x", "mean", "std", "neg_elbo")
        kept = [torch.cat([getattr(of, name) for of in chosen]) for name in names]
        # Drawn only now: it is larger than all else that is kept.
        drawn = [of.noise(2 * self.samples) for of in chosen]
        inputs = joined(chosen)
        parts = zip(
            *(v.split(_EXAMPLES) for v in kept), torch.cat(drawn, 1).split(_EXAMPLES, 1),
            strict=True,
        )  # fmt: skip
        for start, (x, mean, std, neg_elbo, noise) in enumerate(parts):
            some = slice(start * _EXAMPLES, start * _EXAMPLES + len(x))
            given = {
                k: v[some] if isinstance(v, Tensor) and v.ndim else v for k, v in inputs.items()
            }
            of_posterior, of_prior = noise.to(mean).split(self.samples)
            log_w = importance_weights(self.vae, x, mean, std, of_posterior, given)
            from_prior = torch.stack([self.vae.decode(z, **given).log_prob(x) for z in of_prior])
            bound = -log_mean_exp(log_w)
            values = torch.stack(
                [
                    bound,
                    (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp(),
                    -log_mean_exp(from_prior.double()),
                    neg_elbo.double() - bound,
                ]
            ).to(self.sums.device)
            self.n += values.shape[1]
            self.sums += values.sum(1)
            self.squares += values.square().sum(1)

    def compute(self) -> dict[str, float]:
        """Return the estimates in nats per example, with their standard errors.

        Returns:
            ``nll_nats, nll_se, nll_ess`` (the mean effective sample size, 1 to K),
            ``nll_prior_nats, nll_prior_se, elbo_gap_nats, elbo_gap_se, nll_samples`` (K),
            ``nll_examples``. And ``nll_nats_bound``, ``nll_prior_nats_bound``: −1 where the true
            value is lower by more than the standard error, 0 where it is an estimate;
            ``elbo_gap_nats_bound``: 1 where ``nll_nats_bound`` is −1. The bias of log w̄ is about
            ½(1/ESS − 1/K), and more where the effective sample size is below K/4.
        """
        mean, se = mean_and_se(self.n, self.sums, self.squares)
        ess, k = mean[1].item(), self.samples
        loose = ess < k / 4 or 0.5 * (1 / ess - 1 / k) > se[0].item()
        far = mean[2].item() - mean[0].item() > se[2].item()
        return {
            "nll_nats": mean[0].item(),
            "nll_se": se[0].item(),
            "nll_ess": mean[1].item(),
            "nll_prior_nats": mean[2].item(),
            "nll_prior_se": se[2].item(),
            "elbo_gap_nats": mean[3].item(),
            "elbo_gap_se": se[3].item(),
            "nll_samples": float(self.samples),
            "nll_examples": self.n.item(),
            "nll_nats_bound": -float(loose),
            "nll_prior_nats_bound": -float(far),
            "elbo_gap_nats_bound": float(loose),
        }


def importance_weights(
    vae: BetaVAE,
    x: Tensor,
    mean: Tensor,
    std: Tensor,
    noise: Tensor,
    inputs: dict[str, Any] | None = None,
) -> Tensor:
    """Return log p(x|z) + log p(z) − log q(z|x) for samples of the posterior.

    Args:
        vae: The model.
        x: (B, *shape).
        mean: The posterior's means: (B, *latent shape).
        std: Its standard deviations: the same.
        noise: Standard normal noise of the samples: (K, B, *latent shape).
        inputs: Further inputs of the decoder, by name.

    Returns:
        (K, B), float64.
    """
    log_w = []
    for each in noise.to(mean):
        z = mean + std * each
        # log p(z) − log q(z|x): the normalising constants of the two cancel, but for the std.
        ratio = 0.5 * (each.square() - z.square()) + std.log()
        log_p = vae.decode(z, **(inputs or {})).log_prob(x).double()
        log_w.append(log_p + ratio.double().flatten(1).sum(-1))
    return torch.stack(log_w)


def log_mean_exp(values: Tensor) -> Tensor:
    """Return log of the mean of exp over the first axis."""
    return values.logsumexp(0) - math.log(len(values))
