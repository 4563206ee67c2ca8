"""Whether data drawn from the model looks like the data: posterior predictive checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from multibeta.likelihoods import OptimalGaussian
from multibeta.metrics.base import Chosen, Spread
from multibeta.noise import seeded
from multibeta.vae import BetaVAE

__all__ = ["Predictive"]

_GROUPS = 10
# Far from the seeds of the posterior's noise and of FID's pictures.
_SEED = 2**31 + 2**30


class Predictive(Spread):
    r"""Posterior predictive checks: each feature of drawn data beside that of the data.

    For each example, S replicas are drawn from p(x|z) with z from q(z|x): samples of p, not its
    mean. A feature is a value of x: a gene, a pixel. With mean m_i, standard deviation s_i and
    share of zeros o_i of feature i over the examples, and m'_i, s'_i, o'_i over all replicas,

    .. math:: \frac{\sum_i |m'_i - m_i|}{\sum_i s_i}, \quad
        \frac{\sum_i |s'_i - s_i|}{\sum_i s_i}, \quad \frac1d \sum_i |o'_i - o_i|

    are the errors of mean, spread and zeros: 0 is best. A continuous p(x|z) draws no zeros, so
    that the last is then the data's share of them.

    The calibration error is that of central intervals of the S replicas of an example: how far
    the share of values inside is from the intervals' nominal share, the mean over intervals. Ties,
    as of counts, are broken at random. z is told by the same x: such intervals are too wide if
    anything, so a large error means a spread that is wrong, and 0 no more than that it may be
    right.

    Standard errors are by the jackknife over ten groups of examples. An error of 0 is not reached
    by finitely many examples: it falls as 1/√N.

    Args:
        vae: The model at the β that is measured.
        samples: The number S of replicas of an example, odd.
        most: How many examples to use, spread over the set.
        every: Each so many-th example is used; :meth:`prepare` finds it.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Gelman, Meng & Stern 1996, "Posterior predictive assessment of model fitness via realized
        discrepancies"; for counts scvi-tools' ``PosteriorPredictiveCheck`` (Gayoso et al. 2022).
    """

    n: Tensor
    data: Tensor
    replicas: Tensor
    ranks: Tensor

    def __init__(
        self, vae: BetaVAE, samples: int = 19, most: int = 1_000, *, every: int = 1
    ) -> None:
        super().__init__(vae, most, every=every)
        if samples < 3 or samples % 2 == 0:
            raise ValueError(f"samples={samples} is not odd, or below 3; choose 19, 39, …")
        self.samples = samples
        size = math.prod(vae.shape)
        sums = (_GROUPS, 3, size)
        self.add_sums(n=(_GROUPS,), data=sums, replicas=sums, ranks=(_GROUPS, samples + 1))

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse a distortion and a likelihood that draw no x, and x of any shape."""
        likelihood = model.likelihood
        if likelihood.unit != "nats":
            return f"it draws from p(x|z), and D is {likelihood.name}: choose a likelihood"
        if isinstance(likelihood, OptimalGaussian):
            return "OptimalGaussian has no σ without x, and draws nothing"
        return None if model.shape else "the shape of x is not known"

    needs = "it draws many samples at each β: ask for it by name"

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Leave the metric out of ``all``: it takes long."""
        return False

    def finish(self) -> None:
        """Draw the replicas, a batch after the other."""
        chosen, self.chosen = self.chosen, []
        for batch in chosen:
            self._add(batch)

    def _add(self, batch: Chosen) -> None:
        x = batch.x.flatten(1)
        groups = (batch.places % _GROUPS).to(x.device)
        below, ties = torch.zeros_like(x), torch.zeros_like(x)
        drawn = torch.zeros(len(x), 3, x.shape[1], dtype=torch.float64, device=self.data.device)
        with seeded(_SEED + batch.batch, x.device):
            for noise in batch.noise(self.samples).to(batch.mean):
                p = self.vae.decode(batch.mean + batch.std * noise, **batch.inputs)
                replica = p.sample().flatten(1).to(x)
                below += replica < x
                ties += replica == x
                drawn += _moments(replica, self.data.device)
            ranks = below + (torch.rand_like(x) * (ties + 1)).floor().clamp(max=self.samples)
        to = groups.to(self.data.device)
        self.n.index_add_(0, to, torch.ones_like(to, dtype=torch.float64))
        self.data.index_add_(0, to, _moments(x, self.data.device))
        self.replicas.index_add_(0, to, drawn / self.samples)
        places = groups[:, None] * (self.samples + 1) + ranks.clamp(max=self.samples).long()
        counts = torch.bincount(places.flatten(), minlength=self.ranks.numel())
        self.ranks += counts.reshape(self.ranks.shape).to(self.ranks)

    def compute(self) -> dict[str, float]:
        """Return the errors, each with ``…_se``.

        Returns:
            ``predictive_mean_error, predictive_std_error, predictive_zeros_error,
            predictive_calibration_error``. Of counts (likelihoods of whole numbers) also
            ``predictive_cv_mae``, the mean absolute error of the coefficient of variation s/m, and
            ``predictive_cv_spearman``, the rank correlation of that of replicas and data, over
            features that are not 0 throughout in either; nan where they are all alike.
            ``predictive_examples``, how many were used.
        """
        if self.chosen:
            self.finish()
        sums = {"n": self.n, "data": self.data, "replicas": self.replicas, "ranks": self.ranks}
        given = {name: of.cpu() for name, of in sums.items()}
        groups = given["n"].nonzero().flatten().tolist()
        whole = {name: of.sum(0) for name, of in given.items()}
        found = self._errors(whole)
        without = [
            self._errors({name: whole[name] - given[name][group] for name in given})
            for group in (groups if len(groups) > 1 else [])
        ]
        row: dict[str, float] = {}
        for name, value in found.items():
            of_each = np.array([errors[name] for errors in without] or [math.nan])
            g = len(of_each)
            squares = ((of_each - of_each.mean()) ** 2).sum()
            row |= {name: value, f"{name}_se": math.sqrt((g - 1) / g * squares)}
        return row | {"predictive_examples": float(whole["n"])}

    def _errors(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the errors, from sums over examples."""
        mean, std, zeros = _features(sums["data"] / sums["n"])
        their_mean, their_std, their_zeros = _features(sums["replicas"] / sums["n"])
        scale = std.sum().item() or math.nan
        ranks = sums["ranks"] / sums["ranks"].sum()
        inside = [(j, ranks[j : len(ranks) - j].sum().item()) for j in range(1, len(ranks) // 2)]
        off = [abs(share - 1 + 2 * j / len(ranks)) for j, share in inside]
        found = {
            "mean_error": (their_mean - mean).abs().sum().item() / scale,
            "std_error": (their_std - std).abs().sum().item() / scale,
            "zeros_error": (their_zeros - zeros).abs().mean().item(),
            "calibration_error": float(np.mean(off)),
        }
        if self.vae.likelihood.whole:
            seen = (mean > 0) & (their_mean > 0)
            cv, theirs = (std / mean)[seen].numpy(), (their_std / their_mean)[seen].numpy()
            varies = len(cv) > 1 and np.ptp(cv) > 0 and np.ptp(theirs) > 0
            found["cv_mae"] = float(np.abs(theirs - cv).mean()) if len(cv) else math.nan
            found["cv_spearman"] = float(spearmanr(cv, theirs)[0]) if varies else math.nan
        return {f"predictive_{name}": value for name, value in found.items()}


def _moments(x: Tensor, device: torch.device) -> Tensor:
    """Return each value (B, d), its square, and whether it is 0: (B, 3, d)."""
    x = x.to(device).double()
    return torch.stack([x, x.square(), (x == 0).double()], 1)


def _features(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, standard deviation and share of zeros from the means of moments (3, d)."""
    return means[0], (means[1] - means[0].square()).clamp(min=0).sqrt(), means[2]
