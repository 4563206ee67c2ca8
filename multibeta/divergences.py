"""Divergences between distributions over the latents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Independent

__all__ = [
    "RateTerms",
    "aggregated_rate_terms",
    "kl_standard_normal",
    "minibatch_rate_terms",
    "mmd_standard_normal",
]

_CHUNK = 128


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


@dataclass(frozen=True)
class RateTerms:
    r"""Where the rate goes, an estimate for each posterior sample z of an example x.

    .. math::
        \underbrace{\log\frac{q(z|x)}{p(z)}}_{\text{rate}} =
        \underbrace{\log\frac{q(z|x)}{q(z)}}_{\text{mutual information}} +
        \underbrace{\log\frac{q(z)}{\prod_j q(z_j)}}_{\text{total correlation}} +
        \underbrace{\sum_j \log\frac{q(z_j)}{p(z_j)}}_{\text{dimension-wise KL}}

    The mean of each over the samples is the term; the identity holds for every sample.

    Args:
        mutual_information_nats: (N,).
        total_correlation_nats: (N,).
        dimension_kl_nats: (N, Z), for each latent.
        within_blocks_nats: The part of the total correlation that is within blocks of latents,
            Σ_b log q(z_b) / ∏_{j∈b} q(z_j): (N,); None where no blocks were asked for.
    """

    mutual_information_nats: Tensor
    total_correlation_nats: Tensor
    dimension_kl_nats: Tensor
    within_blocks_nats: Tensor | None = None

    @property
    def aggregated_kl_nats(self) -> Tensor:
        """For each sample log q(z) / p(z): (N,); its mean is KL(q(z) ‖ p(z))."""
        return self.total_correlation_nats + self.dimension_kl_nats.sum(-1)

    @property
    def rate_nats(self) -> Tensor:
        """For each sample log q(z|x) / p(z): (N,); its mean estimates the rate."""
        return self.mutual_information_nats + self.aggregated_kl_nats


def aggregated_rate_terms(z: Tensor, mean: Tensor, std: Tensor) -> RateTerms:
    r"""Split the rate by the aggregated posterior of N examples.

    .. math:: q(z) = \frac1N \sum_n q(z|x_n), \qquad q(z_j) = \frac1N \sum_n q(z_j|x_n)

    All pairs of a sample and an example are used, a chunk of samples at a time, in float64: time
    grows with N²Z, memory with N. Because q(z) contains the sample's own example, the mutual
    information is at most log N; where the true one is larger, the excess is counted as total
    correlation.

    Args:
        z: A sample of each example's posterior: (N, Z).
        mean: The means of the posteriors: (N, Z).
        std: Their standard deviations: (N, Z).

    Raises:
        ValueError: If a value is not finite, or there is no example.

    References:
        Hoffman & Johnson 2016, "ELBO surgery"; Chen et al. 2018, arXiv 1802.04942, equation 2.
    """
    if not len(z):
        raise ValueError("there are no codes; give at least one example")
    z, mean, std = (v.double() for v in (z, mean, std))
    for name, value in {"z": z, "mean": mean, "std": std}.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} has values that are not finite; the codes are of no use")
    n, latents = z.shape
    # log q(z_j|x_n) = a z² + b z + c: for all pairs, a matrix product.
    precision = std**-2
    a, b = -0.5 * precision, mean * precision
    c = -0.5 * (mean.square() * precision + math.log(2 * math.pi)) - std.log()
    joint = torch.cat([a, b, c.sum(1, keepdim=True)], 1).T.contiguous()
    single = torch.stack([a.T, b.T, c.T], 1).contiguous()  # (Z, 3, N)
    log_q, log_q_each = z.new_empty(n), torch.empty_like(z)
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        powers = torch.stack([z[rows].square(), z[rows], torch.ones_like(z[rows])])
        log_q[rows] = _log_sum_exp(torch.cat([*powers[:2], powers[2, :, :1]], 1) @ joint)
        for j in range(latents):
            log_q_each[rows, j] = _log_sum_exp(powers[:, :, j].T @ single[j])
    log_q, log_q_each = log_q - math.log(n), log_q_each - math.log(n)
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi))
    return RateTerms(
        (a * z.square() + b * z + c).sum(1) - log_q,
        log_q - log_q_each.sum(1),
        log_q_each - log_prior,
    )


def minibatch_rate_terms(
    z: Tensor,
    mean: Tensor,
    std: Tensor,
    size: int,
    stratified: bool = True,
    block: int | None = None,
) -> RateTerms:
    r"""Split the rate by the aggregated posterior of N examples, seen through a batch of B.

    .. math::
        q(z_i) \approx \sum_m w_{im} \, q(z_i|x_m), \qquad
        q(z_{ij}) \approx \sum_m w_{im} \, q(z_{ij}|x_m)

    Stratified sampling has :math:`w_{ii} = 1/N` for the sample's own example, and for the others
    :math:`w_{im} = (N-1) / (N(B-1))`: both densities are then unbiased under random batches, and
    exact for B = N; their logarithms are low by Jensen's inequality. Weighted sampling has
    :math:`w_{im} = 1/(NB)` throughout. That is the aggregate of the batch alone, each
    log-density lowered by log N: the mutual information is high by about log N, the total
    correlation by (Z − 1) log N, the dimension-wise KL low by Z log N. Fine as a gradient, useless
    as a report.

    It is differentiable and keeps the dtype; time and memory grow with B²Z.

    Args:
        z: A sample of each example's posterior: (B, Z).
        mean: The means of the posteriors: (B, Z).
        std: Their standard deviations: (B, Z).
        size: The number N of examples that batches are drawn from.
        stratified: Stratified sampling, or else weighted.
        block: Split the total correlation at blocks of so many latents, the last one perhaps
            smaller.

    Returns:
        The terms of each example of the batch; their sum is exactly log q(z|x) / p(z).

    Raises:
        ValueError: If N is below B, or N is above 1 and B is not.

    References:
        Chen et al. 2018, arXiv 1802.04942, appendix C. The authors' code has the self term of
        stratified sampling in a column; it belongs on the diagonal.

    Example:
        >>> z, mean, std = torch.randn(3, 64, 2).unbind()
        >>> terms = minibatch_rate_terms(z, mean, std.exp(), size=50_000)
        >>> terms.total_correlation_nats.shape
        torch.Size([64])
    """
    batch = len(z)
    if not (1 < batch <= size or batch == size == 1):
        raise ValueError(
            f"a batch of {batch} cannot be drawn from {size} examples to stand for them; give at "
            "least 2 examples, and as size the number of examples in the data set"
        )
    if stratified:
        others = (size - 1) / (batch - 1) if batch > 1 else 1.0
        weights = torch.full((batch, batch), others, dtype=z.dtype, device=z.device)
        log_w = (weights.fill_diagonal_(1.0) / size).log()
    else:
        log_w = z.new_full((batch, batch), -math.log(size * batch))
    # log q(z_ij|x_m): (B, B, Z), samples in rows
    each = -0.5 * ((z[:, None] - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    own = each.diagonal().T  # (B, Z)
    log_q = (log_w + each.sum(-1)).logsumexp(1)
    log_q_each = (log_w[..., None] + each).logsumexp(1)
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi))
    within = None
    if block is not None:
        blocks = zip(each.split(block, dim=-1), log_q_each.split(block, dim=-1), strict=True)
        within = sum(
            ((log_w + joint.sum(-1)).logsumexp(1) - single.sum(1) for joint, single in blocks),
            torch.zeros_like(log_q),
        )
    return RateTerms(
        own.sum(1) - log_q,
        log_q - log_q_each.sum(1),
        log_q_each - log_prior,
        within,
    )


def mmd_standard_normal(z: Tensor, variance: float | None = None) -> Tensor:
    r"""Squared maximum mean discrepancy between the distribution of codes and N(0, I).

    .. math::
        \mathrm{MMD}^2 = \mathbb E\,k(z, z') - 2\,\mathbb E\,k(z, u) + \mathbb E\,k(u, u'),
        \qquad k(a, b) = e^{-\lVert a - b \rVert^2 / 2h}

    with u, u' from N(0, I). Nothing is drawn from the prior: with Z latents
    :math:`\mathbb E\,k(z, u) = (h/(h+1))^{Z/2} e^{-\lVert z \rVert^2 / 2(h+1)}` and
    :math:`\mathbb E\,k(u, u') = (h/(h+2))^{Z/2}`. The first term is the mean over all pairs of
    different codes: the estimate is unbiased, and may be below 0.

    Args:
        z: Independent codes: (B, Z), B at least 2.
        variance: The h of the kernel; Z/2 by default.

    Returns:
        A scalar, without unit, at most 2.

    Raises:
        ValueError: If there are fewer than two codes.

    References:
        Gretton et al. 2012, "A kernel two-sample test", lemma 6; Zhao et al. 2017, arXiv
        1706.02262 (the kernel).
    """
    n, latents = z.shape
    if n < 2:
        raise ValueError("a mean over pairs needs at least 2 codes; give a larger batch")
    h = latents / 2 if variance is None else variance
    squares = z.square().sum(1)
    distances = (squares[:, None] + squares - 2 * z @ z.T).clamp(min=0)
    kernel = (-distances / (2 * h)).exp()
    among = (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))
    across = (h / (h + 1)) ** (latents / 2) * (-squares / (2 * (h + 1))).exp().mean()
    return among - 2 * across + (h / (h + 2)) ** (latents / 2)


def _log_sum_exp(x: Tensor) -> Tensor:
    """Return log Σ exp over the rows of x, in the place of x."""
    most = x.amax(1, keepdim=True)
    return x.sub_(most).exp_().sum(1).log() + most.squeeze(1)
