"""Whether each latent stands for one known factor of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import entropy
from torch import Tensor

from multibeta.metrics.base import Codes, Evaluated, in_order
from multibeta.vae import BetaVAE

__all__ = ["DCI", "Disentanglement", "dci", "factor_vae_score", "mig", "sap"]

_ACTIVE = 0.01


class Disentanglement(Codes):
    """Four scores of the posterior means against the factors that the data was made from.

    Latents whose posterior mean has a variance of at most 0.01 are collapsed and count as
    constant; where all are, the scores are 0. Where no factor has two values, they are nan. The
    scores depend neither on the order of the examples nor on that of the latents.

    Args:
        vae: The model at the β that is measured.
        most: How many examples to use, the first ones.
    """

    factors: Any

    def __init__(self, vae: BetaVAE, most: int = 5_000) -> None:
        super().__init__(vae, most)
        self.add_state("factors", [], dist_reduce_fx="cat")

    @classmethod
    def lacks(cls, data: object) -> str | None:
        """Return a line if the data has no ``factor_names``."""
        if data is None or getattr(data, "factor_names", None):
            return None
        return (
            f"it needs factors, which {type(data).__name__} has not; use data with known factors, "
            "such as Sprites"
        )

    def update(self, batch: Evaluated) -> None:
        """Keep the codes and the factors of a batch.

        Raises:
            ValueError: If the batch has no factors.
        """
        if batch.factors is None:
            raise ValueError(
                "disentanglement needs factors, and a batch came without them; use data with "
                "known factors, such as Sprites"
            )
        super().update(batch)
        self.factors.append(batch.factors[: len(self.mean[-1])].to(self.device))

    def compute(self) -> dict[str, float]:
        """Return the scores.

        Returns:
            ``mig`` (see :func:`mig`), ``dci_disentanglement, dci_completeness,
            dci_informativeness`` (see :class:`DCI`), ``sap`` (see :func:`sap`) and ``factor_vae``
            (see :func:`factor_vae_score`). ``mig_se``, ``sap_se`` and ``dci_informativeness_se``
            are over examples, by the delta method: the standard deviation of the influence of
            each on the score, over √N, with bins, latents and forests as they were found. The
            others have none: an error would take more forests, and more votes, of more examples.
        """
        _, codes, _ = self.codes()
        factors = in_order(self.places, self.factors)[0][: self.most]
        of_dci = dci(codes, factors)
        of_mig, of_sap = _mig(codes, factors), _sap(codes, factors)
        return {
            "mig": of_mig[0],
            "mig_se": of_mig[1],
            "dci_disentanglement": of_dci.disentanglement,
            "dci_completeness": of_dci.completeness,
            "dci_informativeness": of_dci.informativeness,
            "dci_informativeness_se": of_dci.informativeness_se,
            "sap": of_sap[0],
            "sap_se": of_sap[1],
            "factor_vae": factor_vae_score(codes, factors),
        }


def mig(codes: Tensor, factors: Tensor, bins: int = 20) -> float:
    r"""Return the mutual information gap.

    .. math:: \mathrm{MIG} = \frac1F \sum_k \frac{1}{H(v_k)}
        \Big( I(z_{j_k}; v_k) - \max_{j \ne j_k} I(z_j; v_k) \Big), \qquad
        j_k = \arg\max_j I(z_j; v_k)

    Each latent is discretised to bins of equal width between its least and its greatest value,
    so that a factor of more values than bins cannot reach 1.

    Args:
        codes: Posterior means, in units of the prior: (N, Z).
        factors: The number of each factor's value: (N, F), integers.
        bins: Bins of a latent.

    Returns:
        1 if each factor is in one latent and in no other; near 0 if in none, or in several. nan
        if no factor has two values.

    Raises:
        ValueError: If a code is not finite, or codes and factors do not go together.

    References:
        Chen et al. 2018, arXiv 1802.04942, equation 6; Locatello et al. 2019, arXiv 1811.12359,
        appendix C (the discretisation).
    """
    return _mig(codes, factors, bins)[0]


def _mig(codes: Tensor, factors: Tensor, bins: int = 20) -> tuple[float, float]:
    """Return :func:`mig` and its standard error."""
    z, v = _prepared(codes, factors)
    binned = [np.digitize(of, np.histogram_bin_edges(of, bins)[1:-1]) for of in z.T]
    found = []
    for of_one in (np.unique(of, return_inverse=True)[1] for of in v.T):
        shared, entropies = [_shared(of_one, of) for of in binned], _shared(of_one, of_one)
        gap, influence = _gap([of.mean() for of in shared], [of - of.mean() for of in shared])
        h = entropies.mean()
        found.append((gap / h, influence / h - gap * (entropies - h) / h**2))
    return _mean_and_se(found)


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return log p(a, b)/p(a)p(b) of each example: (N,); its mean is the mutual information."""
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)
    return np.log(counts[a, b] * len(a) / (counts.sum(1)[a] * counts.sum(0)[b]))


def sap(codes: Tensor, factors: Tensor) -> float:
    r"""Return the separated attribute predictability.

    .. math:: \mathrm{SAP} = \frac1F \sum_k \Big( R^2_{j_k k} - \max_{j \ne j_k} R^2_{jk} \Big),
        \qquad R^2_{jk} = \frac{\mathrm{Cov}(z_j, v_k)^2}{\mathrm{Var}\, z_j \mathrm{Var}\, v_k}

    This is the paper's score of ordered factors: a factor's value is its number. So a latent must
    follow the numbers in a straight line to count in full, and the order of values that have
    none, such as shapes, is taken as given.

    Args:
        codes: Posterior means, in units of the prior: (N, Z).
        factors: The number of each factor's value: (N, F), integers.

    Returns:
        1 if each factor is in one latent and uncorrelated with any other. nan if no factor has
        two values.

    Raises:
        ValueError: If a code is not finite, or codes and factors do not go together.

    References:
        Kumar et al. 2018, arXiv 1711.00848, section 3.
    """
    return _sap(codes, factors)[0]


def _sap(codes: Tensor, factors: Tensor) -> tuple[float, float]:
    """Return :func:`sap` and its standard error."""
    z, v = _prepared(codes, factors)
    scale = z.std(0)
    z, v = (z - z.mean(0)) / np.where(scale > 0, scale, 1.0), (v - v.mean(0)) / v.std(0)
    found = []
    for of_one in v.T:
        of_each = z.T * of_one
        r = of_each.mean(1)
        # Of r², where z and v have a variance of 1 that is itself estimated.
        influence = 2 * r[:, None] * of_each - (r**2)[:, None] * ((z**2).T + of_one**2)
        found.append(_gap(r**2, influence))
    return _mean_and_se(found)


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness.

    Args:
        disentanglement: 1 if each latent that helps to predict a factor helps with no other, the
            mean over latents weighted by their importance; 0 if each helps with all alike.
        completeness: 1 if each factor is predicted from one latent; 0 if from all alike.
        informativeness: How much of the error of always naming the commonest value is gone on
            held-out examples: 1 if all factors are predicted without error; near 0, perhaps just
            below, if the codes do not help.
        informativeness_se: Its standard error over the held-out examples, with these forests.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    informativeness_se: float


def dci(codes: Tensor, factors: Tensor) -> DCI:
    r"""Return disentanglement, completeness and informativeness.

    A random forest predicts each factor from all latents, and its importances (the share of a
    latent in the fall of the impurity) are the matrix P, columns k of sum 1:

    .. math:: D = \sum_j \frac{\sum_k P_{jk}}{\sum_{jk} P_{jk}}
        \Big( 1 - \frac{H(P_{j \cdot})}{\log F} \Big), \qquad
        C = \frac1F \sum_k \Big( 1 - \frac{H(P_{\cdot k})}{\log Z} \Big)

    Half of the examples, chosen by a fixed seed, are for fitting, the others for the error. All
    latents stand for choice at each split: among a random few, the right one is often missing,
    and a perfect code would not reach 1.

    Args:
        codes: Posterior means, in units of the prior: (N, Z).
        factors: The number of each factor's value: (N, F), integers.

    Returns:
        The three; 0 if no latent is of use, and nan if no factor has two values. With one factor
        D is 1, with one latent C.

    Raises:
        ValueError: If a code is not finite, or codes and factors do not go together.

    References:
        Eastwood & Williams 2018, "A framework for the quantitative evaluation of disentangled
        representations", section 2.
    """
    from sklearn.ensemble import RandomForestClassifier

    z, v = _prepared(codes, factors)
    if not v.size:
        return DCI(math.nan, math.nan, math.nan, math.nan)
    order = np.random.default_rng(0).permutation(len(z))
    fit, held_out = order[: len(z) // 2], order[len(z) // 2 :]
    importances, informativeness = [], []
    for of_one in v.T:
        forest = RandomForestClassifier(
            n_estimators=10, max_features=None, min_samples_leaf=5, random_state=0
        ).fit(z[fit], of_one[fit])
        importances.append(forest.feature_importances_)
        commonest = np.bincount(of_one[fit]).argmax()
        wrong, blind = (
            (named != of_one[held_out]).astype(float)
            for named in (forest.predict(z[held_out]), commonest)
        )
        error, guessed = wrong.mean(), max(blind.mean(), 1 / len(held_out))
        used = float(forest.feature_importances_.any())  # else the forest guesses too
        influence = error * (blind - blind.mean()) / guessed**2 - (wrong - error) / guessed
        informativeness.append((used * (1 - error / guessed), used * influence))
    by_factor = np.array(importances)
    return DCI(
        _concentration(by_factor.T), _concentration(by_factor), *_mean_and_se(informativeness)
    )


def factor_vae_score(
    codes: Tensor, factors: Tensor, votes: int = 2_000, batch_size: int = 64
) -> float:
    """Return FactorVAE's score.

    A vote draws examples that share the value of one factor; the latent with the least variance
    among them, in units of its variance over all examples, votes for this factor. The score is
    the accuracy of naming the factor from the latent by the majority of as many other votes.
    Collapsed latents do not vote.

    Args:
        codes: Posterior means, in units of the prior: (N, Z).
        factors: The number of each factor's value: (N, F), integers.
        votes: How many votes, drawn by a fixed seed.
        batch_size: Examples of a vote, drawn with replacement from those that share the value.

    Returns:
        1 if each factor has a latent of its own; about 1/F for a code without regard to the
        factors; 0 if all latents are collapsed. nan if no factor has two values, or no two
        examples share one.

    Raises:
        ValueError: If a code is not finite, or codes and factors do not go together.

    References:
        Kim & Mnih 2018, arXiv 1802.05983, section 4.
    """
    z, v = _prepared(codes, factors)
    spread = z.std(0)
    z = z[:, spread > 0] / spread[spread > 0]
    # For each factor, each example's fellows: those of its value, if it has any.
    fellows = [
        [rows for value in np.unique(of) if len(rows := np.flatnonzero(of == value)) > 1]
        for of in v.T
    ]
    fellows = [groups for groups in fellows if groups]
    if not fellows:
        return math.nan
    if not z.size:
        return 0.0
    shares = [np.array([len(rows) for rows in groups], dtype=float) for groups in fellows]
    rng = np.random.default_rng(0)
    counts = np.zeros((2, len(fellows), z.shape[1]), dtype=int)
    for vote in range(2 * votes):
        factor = rng.integers(len(fellows))
        group = rng.choice(len(shares[factor]), p=shares[factor] / shares[factor].sum())
        rows = rng.choice(fellows[factor][group], batch_size)
        counts[vote % 2, factor, z[rows].var(0).argmin()] += 1
    majority, other = counts
    return float(other[majority.argmax(0), np.arange(z.shape[1])].sum() / votes)


def _prepared(codes: Tensor, factors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and factors that can be scored, in an order of their own.

    Returns:
        Codes (N, Z), float64, in which collapsed latents are 0; the factors that have two values.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not codes.numel():
        raise ValueError(
            f"codes of {tuple(codes.shape)} and factors of {tuple(factors.shape)} do not go "
            "together; give (N, Z) and (N, F) of the same N examples"
        )
    if factors.is_floating_point():
        raise ValueError(f"factors are {factors.dtype}; give the number of each value, integers")
    if wrong := int((~codes.isfinite()).any(1).sum()):
        raise ValueError(
            f"the codes of {wrong} of {len(codes)} examples are not finite; they cannot be scored"
        )
    z, v = codes.cpu().double().numpy(), factors.cpu().long().numpy()
    # Forests and votes draw from the rows and columns by number, and sums depend on the order.
    # So both are sorted: several processes have the result of one, and latents may change places.
    rows = np.lexsort((*np.sort(z, 1).T, *v.T))
    z, v = z[rows], v[rows]
    z = np.where(z.var(0) > _ACTIVE, z, 0.0)
    return z[:, np.lexsort(z)], v[:, v.min(0) < v.max(0)]


def _gap(
    scores: Sequence[float] | np.ndarray, influence: Sequence[np.ndarray] | np.ndarray
) -> tuple[float, np.ndarray]:
    """Return by how much the greatest of scores ≥ 0 is above the next; one alone, above 0.

    Args:
        scores: Of each latent: (Z,).
        influence: Of each example on each of them: (Z, N).

    Returns:
        The gap, and the influence on it: (N,).
    """
    *_, second, first = np.argsort([0.0, *scores], kind="stable")
    scores, influence = [0.0, *scores], [np.zeros_like(influence[0]), *influence]
    return scores[first] - scores[second], influence[first] - influence[second]


def _concentration(importances: np.ndarray) -> float:
    """Return 1 less the relative entropy of each row, the mean weighted by the rows' sums."""
    weights = importances.sum(1)
    used = weights > 0
    if not used.any():
        return 0.0
    most = math.log(importances.shape[1]) or 1.0
    return float(np.average(1 - entropy(importances[used], axis=1) / most, weights=weights[used]))


def _mean_and_se(found: Sequence[tuple[float, np.ndarray]]) -> tuple[float, float]:
    """Return the mean over factors of a score, and its standard error; nan without factors.

    Args:
        found: Of each factor the score, and the influence of each example on it: (N,).
    """
    if not found:
        return math.nan, math.nan
    of_each = np.mean([influence for _, influence in found], 0)
    se = float(of_each.std(ddof=1) / math.sqrt(len(of_each))) if len(of_each) > 1 else math.nan
    return float(np.mean([score for score, _ in found])), se
