r"""Objectives: what is minimised, made of the distortion and of terms of the rate.

With β the swept weight, R = KL(q(z|x) ‖ p(z)) the rate and q(z) the aggregated posterior,

.. math::
    R = I + \mathrm{TC} + K, \qquad I = I(x; z), \quad
    \mathrm{TC} = \mathrm{KL}\Bigl(q(z) \Vert \prod_j q(z_j)\Bigr), \quad
    K = \sum_j \mathrm{KL}(q(z_j) \Vert p(z_j))

Every row of the family is a class of a few lines; each weight is a number, or a range
``LOW:HIGH`` that it is drawn from in training and that the network is conditioned on. All are
nats per example. :func:`table` lists them.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multibeta.betas import BetaRange, parse_weight
from multibeta.divergences import minibatch_rate_terms, mmd_standard_normal

__all__ = [
    "AAE",
    "DIPVAE",
    "ELBO",
    "HFVAE",
    "IWAE",
    "AdversarialObjective",
    "AnchorVAE",
    "BetaELBO",
    "BetaTCVAE",
    "FactorVAE",
    "InfoVAE",
    "InformationDropout",
    "Objective",
    "Split",
    "TargetRate",
    "Terms",
    "table",
]


class Split(NamedTuple):
    """The rate of each example, R = I + TC + K, in nats: (n,) each.

    I and TC are those of the batch; K is what they leave of R, which is known in closed form.
    """

    information: Tensor
    total_correlation: Tensor
    within_blocks: Tensor
    dimension_kl: Tensor


@dataclass(frozen=True)
class Terms:
    """What an objective is made of.

    The n rows are ``draws`` groups, one after the other, each the whole batch. In an objective
    that looks at examples ``together``, the rows of a group have the same weights.

    Args:
        distortion: D = E_q[−log p(x|z)] by one sample, nats: (n,), or (Kn,) with K ``samples``.
        rate_per_latent: KL(q(z_j|x) ‖ p(z_j)) in closed form, nats: (n, Z).
        z: A sample of q(z|x): (n, Z).
        mean: The mean of q(z|x): (n, Z).
        std: Its standard deviation: (n, Z).
        conditions: The standardised logarithms of the weights that are ranges: (1 or n, K).
        draws: How many groups.
        progress: The part of the training that is done, 0 to 1; 1 afterwards.
    """

    distortion: Tensor
    rate_per_latent: Tensor
    z: Tensor
    mean: Tensor
    std: Tensor
    conditions: Tensor
    draws: int = 1
    progress: float = 1.0

    @property
    def rate(self) -> Tensor:
        """R = KL(q(z|x) ‖ p(z)): (n,)."""
        return self.rate_per_latent.sum(-1)

    @property
    def log_ratio(self) -> Tensor:
        """Log q(z|x) − log p(z) at the sample: (n,); its mean over samples is R."""
        standard = (self.z - self.mean) / self.std
        return 0.5 * (self.z.square() - standard.square()).sum(-1) - self.std.log().sum(-1)

    def in_groups(self, estimate: Callable[..., Tensor], *values: Tensor) -> Tensor:
        """Estimate something in each group, from all of its rows.

        Args:
            estimate: A group's rows of the values → a row each, or one number for all.
            values: (n, …) each.

        Returns:
            (n, …).
        """
        groups = zip(*(value.chunk(self.draws) for value in values), strict=True)
        rows = len(values[0]) // self.draws
        found = (estimate(*group) for group in groups)
        return torch.cat([v if v.ndim else v.expand(rows) for v in found])

    def split(self, block: int | None = None, latents: int | None = None) -> Split:
        r"""Split the rate by the aggregated posterior of each group's B examples.

        .. math:: q(z) \approx \frac1B \sum_m q(z|x_m), \qquad
            q(z_j) \approx \frac1B \sum_m q(z_j|x_m)

        It is minibatch-weighted sampling without its constant, log N in each log-density, and has
        its gradients. I is at most log B, and TC takes the excess: for reports there is
        :func:`~multibeta.divergences.aggregated_rate_terms`.

        Args:
            block: The number of latents in a block, of which TC has a part within blocks.
            latents: Look at the first so many latents alone; all by default.

        References:
            Chen et al. 2018, arXiv 1802.04942, section 4.
        """

        def estimate(z: Tensor, mean: Tensor, std: Tensor) -> Tensor:
            terms = minibatch_rate_terms(z, mean, std, len(z), block=block)
            within, total = terms.within_blocks_nats, terms.total_correlation_nats
            within = torch.zeros_like(total) if within is None else within
            return torch.stack([terms.mutual_information_nats, total, within], dim=-1)

        some = slice(latents)
        codes = (v[:, some] for v in (self.z, self.mean, self.std))
        information, total, within = self.in_groups(estimate, *codes).unbind(-1)
        rate = self.rate_per_latent[:, some].sum(-1)
        return Split(information, total, within, rate - information - total)


class Objective(nn.Module, ABC):
    """The base of all objectives.

    An objective keeps each constructor argument as an attribute of the same name: that is how
    a checkpoint describes it. Its constructor says by :meth:`set_weights` which are weights.
    """

    name: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    takes_beta: ClassVar[bool] = True
    """Whether β is among its weights; without it a model has β = 1."""

    together: ClassVar[bool] = False
    """Whether it looks at the codes of several examples together: they then share their β."""

    needs_density: ClassVar[bool] = False
    """Whether D has to be −log p(x|z), and not any distortion."""

    samples: int = 1
    """The number K of posterior samples that it takes for each example."""

    adam: Mapping[str, Any] = {}
    """How Adam learns its own networks, if it has some."""

    metrics: ClassVar[str] = ""
    """What a curve of it should have beside rate and distortion."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: dict[str, BetaRange] = {}
        self._numbers: dict[str, float] = {}

    def set_weights(self, **weights: str | float) -> None:
        """Say what the weights of its terms are, beside β.

        Args:
            weights: Name → a number of 0 or more, or a range ``LOW:HIGH``.

        Raises:
            ValueError: If a weight is neither.
        """
        for name, given in weights.items():
            found = parse_weight(name, given)
            if isinstance(found, BetaRange):
                self.ranges[name] = found
            else:
                self._numbers[name] = found
            setattr(self, name, str(given) if isinstance(found, BetaRange) else found)

    def build(self, latent_dim: int, conditions: int) -> None:
        """Make the networks of its own, if it has some.

        Args:
            latent_dim: The number Z of latents.
            conditions: The number K of conditions.
        """

    def bounds(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a weight other than β."""
        if name in self.ranges:
            return self.ranges[name].low, self.ranges[name].high
        return self._numbers[name], self._numbers[name]

    def weights(self, values: Mapping[str, Any]) -> SimpleNamespace:
        """Return all weights as attributes: those given, and its numbers.

        Args:
            values: β and the weights that are ranges: name → one number, or one a row: (n,).
        """
        return SimpleNamespace(**{**self._numbers, **values})

    @abstractmethod
    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return the value to minimise, nats per example: (n,).

        Args:
            t: The terms.
            w: The weights, as attributes: numbers, or (n,) each.
        """

    def own_loss(self, t: Terms) -> Tensor | None:
        """Return the loss of its own networks, to which the VAE is a constant: (n,)."""
        return None


class ELBO(Objective):
    """The VAE, without a weight."""

    name = "VAE"
    formula = "D + R"
    paper = "Kingma & Welling 2014, arXiv 1312.6114, equation 3"
    takes_beta = False

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + R."""
        return t.distortion + t.rate


class BetaELBO(Objective):
    """The β-VAE; the negative ELBO at β = 1."""

    name = "β-VAE"
    formula = "D + βR"
    paper = "Higgins et al. 2017, “β-VAE”, equation 4; Alemi et al. 2018, arXiv 1711.00464, eq. 6"

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + βR."""
        return t.distortion + w.beta * t.rate


class TargetRate(Objective):
    """The rate is held at a target C, which rises from 0 early in training.

    R is the mean over the batch. Where β is too low to bring R down to C, R stays above it.

    Args:
        rate: The target C, nats per example.
        anneal: The part of the training in which C rises to it.
    """

    name = "target rate"
    formula = "D + β |R − C|"
    paper = (
        "Burgess et al. 2018, arXiv 1804.03599, equation 8; Alemi et al. 2018, arXiv 1711.00464"
    )
    together = True

    def __init__(self, rate: str | float = 10.0, anneal: float = 0.5) -> None:
        super().__init__()
        self.set_weights(rate=rate)
        if not 0 <= anneal <= 1:
            raise ValueError(f"anneal={anneal:g} is outside [0, 1]")
        self.anneal = anneal

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return ``D + β |R − C|``."""
        target = w.rate * min(1.0, t.progress / self.anneal) if self.anneal else w.rate
        return t.distortion + w.beta * (t.in_groups(torch.mean, t.rate) - target).abs()


class BetaTCVAE(Objective):
    """The rate split in three, each part with its weight; β weighs the total correlation.

    Args:
        alpha: The weight α of the information I.
        gamma: The weight γ of K.
    """

    name = "β-TCVAE"
    formula = "D + αI + βTC + γK"
    paper = "Chen et al. 2018, arXiv 1802.04942, equation 4"
    together = True
    metrics = "information"

    def __init__(self, alpha: str | float = 1.0, gamma: str | float = 1.0) -> None:
        super().__init__()
        self.set_weights(alpha=alpha, gamma=gamma)

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + αI + βTC + γK."""
        information, total, _, dimensions = t.split()
        return t.distortion + w.alpha * information + w.beta * total + w.gamma * dimensions


class HFVAE(Objective):
    """Blocks of latents: β weighs the correlation between blocks, γ that within them.

    Args:
        alpha: The weight α of the information I.
        gamma: The weight γ of the total correlation within blocks.
        block: The number of latents in a block; the last one may be smaller.
    """

    name = "HFVAE"
    formula = "D + αI + βTC_between + γTC_within + K"
    paper = "Esmaeili et al. 2019, arXiv 1804.02086, section 3"
    together = True
    metrics = "information"

    def __init__(self, alpha: str | float = 1.0, gamma: str | float = 1.0, block: int = 2) -> None:
        super().__init__()
        self.set_weights(alpha=alpha, gamma=gamma)
        self.block = _at_least("block", block, 1)

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + αI + βTC_between + γTC_within + K."""
        information, total, within, dimensions = t.split(block=self.block)
        correlation = w.beta * (total - within) + w.gamma * within
        return t.distortion + w.alpha * information + correlation + dimensions


class InformationDropout(Objective):
    """Information and total correlation are paid for, the marginals of the code are free.

    Args:
        gamma: The weight γ of the total correlation.
    """

    name = "Information Dropout"
    formula = "D + βI + γTC"
    paper = "Achille & Soatto 2018, arXiv 1611.01353; so in Esmaeili et al. 2019"
    together = True
    metrics = "information"

    def __init__(self, gamma: str | float = 1.0) -> None:
        super().__init__()
        self.set_weights(gamma=gamma)

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + βI + γTC."""
        information, total, _, _ = t.split()
        return t.distortion + w.beta * information + w.gamma * total


class AnchorVAE(Objective):
    """The information in the first latents, the anchors, is rewarded.

    Args:
        lambd: The weight λ of the reward.
        anchors: How many anchors.
    """

    name = "CorEx, AnchorVAE"
    formula = "D + βR − λI(x; z_anchors)"
    paper = "Gao et al. 2019, arXiv 1802.05822; so in Esmaeili et al. 2019"
    together = True
    metrics = "information"

    def __init__(self, lambd: str | float = 0.5, anchors: int = 2) -> None:
        super().__init__()
        self.set_weights(lambd=lambd)
        self.anchors = _at_least("anchors", anchors, 1)

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + βR − λI(x; z_anchors)."""
        reward = t.split(latents=self.anchors).information
        return t.distortion + w.beta * t.rate - w.lambd * reward


class DIPVAE(Objective):
    r"""The moments of the aggregated posterior are matched to those of the prior.

    :math:`P_o = \sum_{i \ne j} C_{ij}^2` and :math:`P_d = \sum_i (C_{ii} - 1)^2`, with C the
    covariance of the means over the batch (kind I), or of the codes, that plus the mean of the
    posterior variances (kind II).

    Args:
        lambda_od: The weight λ_o of P_o.
        lambda_d: The weight λ_d of P_d.
        kind: ``I`` or ``II``.
    """

    name = "DIP-VAE I, II"
    formula = "D + βR + λ_o P_o + λ_d P_d"
    paper = "Kumar et al. 2018, arXiv 1711.00848, equations 6 and 7"
    together = True

    def __init__(
        self,
        lambda_od: str | float = 10.0,
        lambda_d: str | float = 10.0,
        kind: Literal["I", "II"] = "II",
    ) -> None:
        super().__init__()
        self.set_weights(lambda_od=lambda_od, lambda_d=lambda_d)
        if kind not in ("I", "II"):
            raise ValueError(f"kind={kind} is unknown; allowed: I, II")
        self.kind: Literal["I", "II"] = kind

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + βR + λ_o P_o + λ_d P_d."""

        def penalties(mean: Tensor, std: Tensor) -> Tensor:
            covariance = mean.T.cov(correction=0).reshape(mean.shape[1], -1)
            if self.kind == "II":
                covariance = covariance + std.square().mean(0).diag()
            variances = covariance.diagonal()
            off = covariance.square().sum() - variances.square().sum()
            return torch.stack([off, (variances - 1).square().sum()]).expand(len(mean), 2)

        off, diagonal = t.in_groups(penalties, t.mean, t.std).unbind(-1)
        return t.distortion + w.beta * t.rate + w.lambda_od * off + w.lambda_d * diagonal


class InfoVAE(Objective):
    r"""The aggregated posterior is matched to the prior beside the rate, or in its place.

    M is the squared maximum mean discrepancy of the two, in the place of KL(q(z) ‖ p(z)), which
    has another scale: λ is of the order of 100. With α = 1 it is the Wasserstein autoencoder
    (MMD), with α = 0 and λ = 1 the β-VAE.

    Args:
        alpha: α: how much of the rate is not paid for, 0 to 1.
        lambd: λ, at least 1 − α.
    """

    name = "InfoVAE, WAE-MMD"
    formula = "D + β((1 − α)R + (α + λ − 1)M)"
    paper = "Zhao et al. 2017, arXiv 1706.02262; Tolstikhin et al. 2018, arXiv 1711.01558"
    together = True

    def __init__(self, alpha: str | float = 0.0, lambd: str | float = 100.0) -> None:
        super().__init__()
        self.set_weights(alpha=alpha, lambd=lambd)
        self._check()

    def _check(self) -> None:
        """Refuse a negative weight."""
        (low, high), (least, _) = self.bounds("alpha"), self.bounds("lambd")
        if high > 1:
            raise ValueError(f"alpha={self.alpha} is above 1; the rate's weight is β(1 − alpha)")
        if low + least < 1:
            raise ValueError(
                f"alpha={self.alpha} with lambd={self.lambd} gives M the weight alpha + lambd − 1 "
                "below 0; raise lambd"
            )

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + β((1 − α)R + (α + λ − 1)M)."""
        between = (1 - w.alpha) * t.rate + (w.alpha + w.lambd - 1) * self.distance(t)
        return t.distortion + w.beta * between

    def distance(self, t: Terms) -> Tensor:
        """Return M, of each group: (n,)."""
        return t.in_groups(lambda z: mmd_standard_normal(z) if len(z) > 1 else z.sum() * 0, t.z)


class IWAE(Objective):
    r"""The importance-weighted bound; with β, weights are p(x|z) (p(z)/q(z|x))^β.

    .. math:: -\log \frac1K \sum_k p(x|z_k) \Bigl(\frac{p(z_k)}{q(z_k|x)}\Bigr)^β

    With K = 1 it is the β-VAE, R by its sample.

    Args:
        samples: The number K of samples.
    """

    name = "IWAE"
    formula = "−log mean_k exp(−D_k − β log q(z_k|x)/p(z_k))"
    paper = "Burda et al. 2016, arXiv 1509.00519, equation 8"
    needs_density = True

    def __init__(self, samples: int = 3) -> None:
        super().__init__()
        self.samples = _at_least("samples", samples, 1)

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return −log mean_k exp(−D_k − β log q(z_k|x)/p(z_k))."""
        distortion, ratio = (v.view(self.samples, -1) for v in (t.distortion, t.log_ratio))
        return math.log(self.samples) - (-distortion - w.beta * ratio).logsumexp(0)


class AdversarialObjective(Objective):
    """The base of objectives that estimate a log-density ratio by a discriminator.

    The discriminator is told the conditions, learns beside the VAE by Adam of its own, and gives
    log q(z)/r(z), where r is what it tells the codes from.

    Args:
        width: Units in a hidden layer of the discriminator.
        depth: Its hidden layers.
        lr: The learning rate of its Adam, whose momenta are 0.5 and 0.9.
    """

    together = True

    def __init__(self, width: int, depth: int, lr: float) -> None:
        Objective.__init__(self)
        self.width, self.depth = _at_least("width", width, 1), _at_least("depth", depth, 1)
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr={lr:g} is not a finite number above 0")
        self.lr = lr
        self.adam = {"lr": lr, "betas": (0.5, 0.9)}
        self.discriminator: nn.Module | None = None

    def build(self, latent_dim: int, conditions: int) -> None:
        """Make the discriminator."""
        inputs, layers = latent_dim + conditions, []
        for _ in range(self.depth):
            layers += [nn.Linear(inputs, self.width), nn.LeakyReLU(0.2)]
            inputs = self.width
        self.discriminator = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def log_density_ratio(self, t: Terms) -> Tensor:
        """Return log q(z)/r(z) as it is now, for gradients to the codes alone: (n,)."""
        assert self.discriminator is not None
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        given = (torch.cat([t.z, t.conditions.expand(len(t.z), -1)], dim=-1),)
        return torch.func.functional_call(self.discriminator, frozen, given).squeeze(-1)

    def own_loss(self, t: Terms) -> Tensor:
        """Return the discriminator's cross-entropy: (n,)."""
        assert self.discriminator is not None
        z = t.z.detach()
        both = torch.cat([z, self.others(t, z)])
        conditions = t.conditions.expand(len(z), -1).repeat(2, 1)
        logits = self.discriminator(torch.cat([both, conditions], dim=-1)).squeeze(-1)
        of_codes, of_others = logits.chunk(2)
        return 0.5 * (F.softplus(-of_codes) + F.softplus(of_others))

    @abstractmethod
    def others(self, t: Terms, z: Tensor) -> Tensor:
        """Return what codes z (n, Z) are told from: samples of r, (n, Z)."""


class FactorVAE(AdversarialObjective):
    """The total correlation is paid for beside the rate, estimated by a discriminator.

    It tells codes from codes whose latents are permuted over the batch, each for itself.

    Args:
        gamma: The weight γ of the total correlation.
        width: As in :class:`AdversarialObjective`.
        depth: The same; the paper has 6 layers of 1,000.
        lr: The same.
    """

    name = "FactorVAE"
    formula = "D + βR + γTC"
    paper = "Kim & Mnih 2018, arXiv 1802.05983, equation 2 (β = 1)"
    metrics = "information"

    def __init__(
        self, gamma: str | float = 6.0, width: int = 256, depth: int = 3, lr: float = 1e-3
    ) -> None:
        super().__init__(width, depth, lr)
        self.set_weights(gamma=gamma)

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + βR + γTC."""
        return t.distortion + w.beta * t.rate + w.gamma * self.log_density_ratio(t)

    def others(self, t: Terms, z: Tensor) -> Tensor:
        """Return the codes with each latent permuted over its group."""

        def permuted(z: Tensor) -> Tensor:
            return z.gather(0, torch.rand_like(z).argsort(0))

        return t.in_groups(permuted, z)


class AAE(InfoVAE, AdversarialObjective):
    """InfoVAE with a discriminator that tells codes from samples of the prior.

    M is KL(q(z) ‖ p(z)) by its log-density ratio. With α = 1 the rate is not paid for.

    Args:
        alpha: α: how much of the rate is not paid for, 0 to 1.
        lambd: λ, at least 1 − α.
        width: As in :class:`AdversarialObjective`.
        depth: The same.
        lr: The same.
    """

    name = "AAE"
    paper = "Makhzani et al. 2016, arXiv 1511.05644; Zhao et al. 2017, arXiv 1706.02262"

    def __init__(
        self,
        alpha: str | float = 1.0,
        lambd: str | float = 1.0,
        width: int = 256,
        depth: int = 3,
        lr: float = 1e-3,
    ) -> None:
        AdversarialObjective.__init__(self, width, depth, lr)
        self.set_weights(alpha=alpha, lambd=lambd)
        self._check()

    def distance(self, t: Terms) -> Tensor:
        """Return M, the log-density ratio: (n,)."""
        return self.log_density_ratio(t)

    def others(self, t: Terms, z: Tensor) -> Tensor:
        """Return samples of the prior."""
        return torch.randn_like(z)


def table() -> str:
    """Return the family as a Markdown table: objective, class, what it minimises, source."""
    lines = ["| objective | `model.objective` | minimises | weights | source |", "|" + "---|" * 5]
    for cls in _rows():
        parameters = inspect.signature(cls).parameters.values()
        own = [f"`{p.name}` ({p.default:g})" for p in parameters if "str | float" in p.annotation]
        weights = ", ".join([*(["β"] if cls.takes_beta else []), *own]) or "none"
        formula = cls.formula.replace("|", "\\|")
        lines.append(f"| {cls.name} | `{cls.__name__}` | {formula} | {weights} | {cls.paper} |")
    return "\n".join(lines)


def _rows() -> list[type[Objective]]:
    """Return the classes of this module that are rows, in the order they stand in."""
    known = [value for value in globals().values() if isinstance(value, type)]
    return [cls for cls in known if issubclass(cls, Objective) and cls.name]


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{name}={value} is too small; it is at least {least}")
    return value
