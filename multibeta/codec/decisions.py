"""Discrete data as yes and no: whether x is ``mid`` or more, with log-odds from p(x|z).

A value is found by halving: Bernoulli takes one decision, 256 levels take eight, a count first the
power of two below it. A walk asks; known data answer for a code that is written, bits answer for
one that is read. So that both find the same odds on every machine, these are rounded to 1/32 nat,
and those that another machine might round the other way are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent

from multibeta.likelihoods import (
    DiscretizedLogistic,
    Likelihood,
    Multinomial,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)

__all__ = ["MIDDLE", "Ask", "Kind", "Known", "Read", "chances", "kind_of", "nearest"]

Ask = Callable[[np.ndarray, Any, np.ndarray], np.ndarray]
"""(which values, mid, log-odds) → whether each of them is mid or more."""

_Edge = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(which values, k) → P(x < k) and P(x ≥ k), each exact where it is small: (2, n)."""

_STEPS = 32  # of a nat: costs less than 10⁻⁵ nats a decision
_MOST = 16  # nats: a probability of 2⁻²³, the least but one that constriction has
_NEAR = 2.0**-22  # of a step: what another machine may compute otherwise
_BORDER = 2**0.5 - 1  # between two steps; of short numbers, as weights may be, many end in .5
MIDDLE = _BORDER - 0.5
"""Where the middle of a step lies from a whole number."""
_NOTHING = 2.0**-40  # a mass far below it tells nothing: the odds are even
_LARGEST = 2**52


def nearest(x: np.ndarray, listed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Round so that another machine, whose x differ in their last digits, can round the same way.

    Args:
        x: (n,), in steps.
        listed: What was listed where the code was written; None while it is written.

    Returns:
        The whole number of each x, whose step has its middle at that + MIDDLE; and which x are
        within 2⁻²² of the border of two steps: these are rounded down, and listed.

    Raises:
        ValueError: If there are NaN or infinities.
    """
    if not np.isfinite(x).all():
        raise ValueError(
            "the networks return NaN or infinity in float64; lossless coding needs numbers: "
            "look at x and its further inputs"
        )
    low = np.floor(x)
    above = x - low - _BORDER
    up = above >= 0
    if listed is None:
        listed = np.flatnonzero(np.abs(above) < _NEAR)
    up[listed] = False
    return low.astype(np.int64) + up, listed


@cache
def chances() -> np.ndarray:
    """Return the probability of yes at each step of the log-odds, the same on every machine."""
    odds = (np.arange(-_MOST * _STEPS, _MOST * _STEPS + 2) + MIDDLE) / _STEPS
    return np.array([float(1 / (1 + (-Decimal(x)).exp())) for x in odds])  # Decimal is exact


def _chance(steps: np.ndarray) -> np.ndarray:
    """Return the probability of yes at some steps."""
    return chances()[steps + _MOST * _STEPS]


def _steps(log_odds: np.ndarray) -> np.ndarray:
    return np.clip(log_odds, -_MOST, _MOST) * _STEPS


class Known:
    """Answers for values that are known, and keeps them with their odds.

    Args:
        values: What is asked for: (n,).
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self._answers: list[np.ndarray] = []
        self._steps: list[np.ndarray] = []

    def __call__(self, where: np.ndarray, mid: Any, log_odds: np.ndarray) -> np.ndarray:
        """Return whether values are mid or more."""
        answer = self.values[where] >= mid
        self._answers.append(answer)
        self._steps.append(_steps(log_odds))
        return answer

    def finished(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all answers, the probability of a yes for each, and what is to be listed."""
        if not self._answers:
            return np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int64)
        step, listed = nearest(np.concatenate(self._steps))
        answers = np.concatenate(self._answers).astype(np.int32)
        return answers, _chance(step), listed


class Read:
    """Answers from a code.

    Args:
        pop: Probabilities of yes → the answers: (n,) each.
        listed: What was listed.
    """

    def __init__(self, pop: Callable[[np.ndarray], np.ndarray], listed: np.ndarray) -> None:
        self._pop, self._listed, self._at = pop, listed, 0

    def __call__(self, where: np.ndarray, mid: Any, log_odds: np.ndarray) -> np.ndarray:
        """Return whether values are mid or more."""
        first, self._at = self._at, self._at + len(log_odds)
        mine = self._listed[(self._listed >= first) & (self._listed < self._at)] - first
        step, _ = nearest(_steps(log_odds), mine)
        return self._pop(_chance(step)).astype(bool)


@dataclass(frozen=True)
class Kind:
    """How the values of a distribution are coded.

    Args:
        walk: (distribution, ask) → the symbols of its values: (n,).
        classes: The number of symbols; None for counts.
        unit: x = symbol / unit.
        numbers: Numbers held for a value at once.
        targets: Symbols (B, d) → the values that the walk asks for, where these are others.
    """

    walk: Callable[[Any, Ask], np.ndarray]
    classes: int | None = None
    unit: int = 1
    numbers: int = 1
    targets: Callable[[np.ndarray], np.ndarray] = np.ravel

    @property
    def dtype(self) -> type:
        """The type of symbols."""
        return np.uint8 if self.classes is not None and self.classes <= 256 else np.int64

    def symbols(self, x: Tensor) -> np.ndarray:
        """Return x as whole numbers: (N, d).

        Args:
            x: (N, *shape), on the CPU, that the likelihood's ``check`` has passed.

        Raises:
            ValueError: If it is not what comes back from symbols.
        """
        whole = (x.double() * self.unit).round()
        least, most = 0, _LARGEST if self.classes is None else self.classes - 1
        wrong = (self.values(whole.to(x.dtype)) != x) | (whole < least) | (whole > most)
        if wrong.any():
            allowed, cure = f"whole numbers up to {most}", "round the data"
            if self.classes == 2:
                allowed, cure = "0 and 1", "binarise the data, or choose DiscretizedLogistic"
            if self.unit > 1:
                allowed, cure = f"0, 1/{self.unit} … 1 in {x.dtype}", "give uint8 pictures"
            raise ValueError(
                f"the data has the value {x[wrong][0].item():.9g}; lossless coding gives back x "
                f"itself, and knows {allowed}: {cure}"
            )
        return whole.flatten(1).numpy().astype(self.dtype)

    def values(self, symbols: Tensor) -> Tensor:
        """Return x for symbols."""
        return symbols / self.unit if self.unit > 1 else symbols


def kind_of(likelihood: Likelihood, p: Distribution) -> tuple[Kind, Any]:
    """Return how x is coded with p(x|z), and the distribution of single values.

    Args:
        likelihood: That of the VAE.
        p: What its ``decode`` returned.

    Raises:
        ValueError: If it is not one of discrete data, or of another kind than those known.
    """
    base = p.base_dist if isinstance(p, Independent) else p
    if isinstance(base, Bernoulli):
        return Kind(_binary, 2), base
    if isinstance(base, Categorical):
        classes = base.logits.shape[-1]
        return Kind(_classes, classes, numbers=classes), base
    known = {
        DiscretizedLogistic: ("location", Kind(_levels, 256, 255, 8)),
        ZeroInflatedNegativeBinomial: ("counts", Kind(partial(_counted, _zero_inflated))),
        NegativeBinomial: ("log_theta", Kind(partial(_counted, _negative_binomial))),
        Poisson: ("log_mean", Kind(partial(_counted, _poisson))),
        Multinomial: ("log_p", Kind(_shares, numbers=2, targets=_sums)),
    }
    for of, (parameter, kind) in known.items():
        if isinstance(likelihood, of) and hasattr(base, parameter):
            return kind, base
    raise ValueError(
        f"{type(likelihood).__name__} with a {type(base).__name__} is not one of the likelihoods "
        "of discrete data that lossless coding knows: Bernoulli, Categorical, "
        f"{', '.join(of.__name__ for of in known)}; choose one of them, or code with loss"
    )


def _flat(*tensors: Tensor) -> Iterable[np.ndarray]:
    return (t.double().cpu().numpy().ravel() for t in tensors)


def _binary(p: Any, ask: Ask) -> np.ndarray:
    (logits,) = _flat(p.logits)
    return ask(np.arange(len(logits)), 1, logits)


def _classes(p: Any, ask: Ask) -> np.ndarray:
    """Halve the classes."""
    share = p.logits.double().softmax(-1).cpu().numpy().reshape(-1, p.logits.shape[-1])
    below = np.zeros((2, len(share), share.shape[1] + 1))
    below[0, :, 1:] = share.cumsum(1)
    below[1, :, :-1] = share[:, ::-1].cumsum(1)[:, ::-1]
    n, classes = share.shape
    return _halved(lambda w, k: below[:, w, k], np.zeros(n, int), np.full(n, classes), ask)


def _levels(p: Any, ask: Ask) -> np.ndarray:
    """Halve the 256 levels of a rounded logistic."""
    from scipy.special import expit

    location, scale = _flat(p.location, p.scale.expand_as(p.location))

    def edge(where: np.ndarray, k: np.ndarray) -> np.ndarray:
        a = ((k - 0.5) / 255 - location[where]) / scale[where]
        a = np.where(k <= 0, -np.inf, np.where(k >= 256, np.inf, a))
        return np.stack([expit(a), expit(-a)])

    n = len(location)
    return _halved(edge, np.zeros(n, int), np.full(n, 256), ask)


def _counted(edges: Callable[[Any], tuple[int, _Edge]], p: Any, ask: Ask) -> np.ndarray:
    """Find counts: first which of 0, 1–2, 3–6, 7–14 … they are in, then by halving.

    Where p gives a count no mass to speak of, the odds are even: any count can be coded.
    """
    n, edge = edges(p)
    low, width = np.zeros(n, np.int64), np.ones(n, np.int64)
    where = np.arange(n)
    least = edge(where, low)
    start = size = 1
    while len(where) and start <= _LARGEST:
        at = edge(where, np.full(len(where), start))
        end = np.stack([np.ones(len(where)), np.zeros(len(where))])
        yes = ask(where, start, _log_odds(least, at, end))
        where, least = where[yes], at[:, yes]
        low[where], width[where] = start, 2 * size
        start, size = start + 2 * size, 2 * size
    return _halved(edge, low, width, ask)


def _poisson(p: Any) -> tuple[int, _Edge]:
    """Return the number of values, and their mass below and above."""
    from scipy.special import gammainc, gammaincc

    (log_mean,) = _flat(p.log_mean)
    mean = np.exp(log_mean)

    def edge(where: np.ndarray, k: np.ndarray) -> np.ndarray:
        m, some = mean[where], np.maximum(k, 1)
        return _from_zero(k, gammaincc(some, m), gammainc(some, m))

    return len(mean), edge


def _negative_binomial(p: Any) -> tuple[int, _Edge]:
    """Return the number of values, and their mass below and above."""
    from scipy.special import betainc, expit

    log_mean, log_theta = _flat(p.log_mean, p.log_theta)
    theta, stop, go = np.exp(log_theta), expit(log_theta - log_mean), expit(log_mean - log_theta)
    log_zero = -theta * np.logaddexp(0, log_mean - log_theta)

    def edge(where: np.ndarray, k: np.ndarray) -> np.ndarray:
        mass = np.stack([np.exp(log_zero[where]), -np.expm1(log_zero[where])])
        far = np.flatnonzero(k > 1)
        w, of = where[far], k[far]
        mass[:, far] = betainc(theta[w], of, stop[w]), betainc(of, theta[w], go[w])
        return _from_zero(k, *mass)

    return len(theta), edge


def _zero_inflated(p: Any) -> tuple[int, _Edge]:
    """Return the number of values, and their mass below and above."""
    from scipy.special import expit

    n, inner = _negative_binomial(p.counts)
    (logits,) = _flat(p.logits.expand_as(p.counts.log_mean))
    zero, other = expit(logits), expit(-logits)

    def edge(where: np.ndarray, k: np.ndarray) -> np.ndarray:
        below, above = inner(where, k)
        return _from_zero(k, zero[where] + other[where] * below, other[where] * above)

    return n, edge


def _from_zero(k: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return the masses; none is below 0."""
    return np.stack([np.where(k > 0, below, 0), np.where(k > 0, above, 1)])


def _halved(edge: _Edge, low: np.ndarray, width: np.ndarray, ask: Ask) -> np.ndarray:
    """Find values in [low, low + width) by halving.

    Args:
        edge: The masses.
        low: (n,).
        width: (n,), 1 or more.
        ask: What answers.
    """
    low, width = low.astype(np.int64), width.astype(np.int64)
    everywhere = np.arange(len(low))
    least, most = edge(everywhere, low), edge(everywhere, low + width)
    while len(where := np.flatnonzero(width > 1)):
        half = width[where] // 2
        mid = low[where] + half
        at = edge(where, mid)
        yes = ask(where, mid, _log_odds(least[:, where], at, most[:, where]))
        low[where] = np.where(yes, mid, low[where])
        width[where] = np.where(yes, width[where] - half, half)
        least[:, where[yes]], most[:, where[~yes]] = at[:, yes], at[:, ~yes]
    return low


def _log_odds(least: np.ndarray, at: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mass from ``at`` to ``most`` over that from ``least``."""
    return np.log(_between(at, most) + _NOTHING) - np.log(_between(least, at) + _NOTHING)


def _between(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the mass between two edges, from the side where it is exact."""
    return np.maximum(np.where(two[0] < 0.5, two[0] - one[0], one[1] - two[1]), 0)


def _shares(p: Any, ask: Ask) -> np.ndarray:
    """Find counts that share a total: the total first, then how much of it is in each half.

    The total has no model: a count N costs about 2 log₂ N + 1 bits.
    """
    n, share = len(p.log_p), p.log_p.double().exp().flatten(1).cpu().numpy()
    total = _counted(lambda _: (n, lambda w, k: np.stack([k / (k + 1), 1 / (k + 1)])), p, ask)
    counts, first = total.reshape(n, 1), n
    for level in _pairs(share):
        odds = level[:, ::2].ravel(), level[:, 1::2].ravel()
        left = _split(counts.ravel(), *odds, lambda w, *a, at=first: ask(w + at, *a))
        counts = np.stack([left, counts.ravel() - left], 1).reshape(n, -1)
        first += len(left)
    return counts[:, : share.shape[1]].ravel()


def _split(total: np.ndarray, left: np.ndarray, right: np.ndarray, ask: Ask) -> np.ndarray:
    """Find how many of a total go left: a binomial."""
    from scipy.special import betainc

    goes = left / np.maximum(left + right, np.finfo(float).tiny)

    def edge(where: np.ndarray, k: np.ndarray) -> np.ndarray:
        of, q = total[where], goes[where]
        some = np.clip(k, 1, np.maximum(of, 1))
        rest = np.maximum(of - some + 1, 1)
        below = np.where(k > of, 1, betainc(rest, some, 1 - q))
        return _from_zero(k, below, np.where(k > of, 0, betainc(some, rest, q)))

    return _halved(edge, np.zeros_like(total), total + 1, ask)


def _pairs(leaves: np.ndarray) -> list[np.ndarray]:
    """Return sums over halves, quarters … of the columns, down to the columns themselves."""
    size = 1 << max(leaves.shape[1] - 1, 0).bit_length()
    levels = [np.pad(leaves, ((0, 0), (0, size - leaves.shape[1])))]
    while levels[0].shape[1] > 2:
        levels.insert(0, levels[0][:, ::2] + levels[0][:, 1::2])
    return levels if size > 1 else []


def _sums(symbols: np.ndarray) -> np.ndarray:
    """Return what :func:`_shares` asks for: totals, and the first of each pair of sums."""
    return np.concatenate([symbols.sum(1), *(level[:, ::2].ravel() for level in _pairs(symbols))])
