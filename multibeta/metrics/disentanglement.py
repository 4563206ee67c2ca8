"""Whether each latent stands for one known factor of the data."""

from __future__ import annotations

import math
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
            (see :func:`factor_vae_score`).
        """
        _, codes, _ = self.codes()
        factors = in_order(self.places, self.factors)[0][: self.most]
        of_dci = dci(codes, factors)
        return {
            "mig": mig(codes, factors),
            "dci_disentanglement": of_dci.disentanglement,
            "dci_completeness": of_dci.completeness,
            "dci_informativeness": of_dci.informativeness,
            "sap": sap(codes, factors),
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
    from sklearn.metrics import mutual_info_score

    z, v = _prepared(codes, factors)
    binned = [np.digitize(of, np.histogram_bin_edges(of, bins)[1:-1]) for of in z.T]
    gaps = [
        _gap([mutual_info_score(of_one, each) for each in binned])
        / mutual_info_score(of_one, of_one)
        for of_one in v.T
    ]
    return _mean(gaps)


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
    z, v = _prepared(codes, factors)
    z, v = z - z.mean(0), v - v.mean(0)
    scale = np.outer((v**2).sum(0), (z**2).sum(0))
    r_squared = np.divide((v.T @ z) ** 2, scale, out=np.zeros_like(scale), where=scale > 0)
    return _mean([_gap(of_one) for of_one in r_squared])


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
    """

    disentanglement: float
    completeness: float
    informativeness: float


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
        return DCI(math.nan, math.nan, math.nan)
    order = np.random.default_rng(0).permutation(len(z))
    fit, held_out = order[: len(z) // 2], order[len(z) // 2 :]
    importances, informativeness = [], []
    for of_one in v.T:
        forest = RandomForestClassifier(
            n_estimators=10, max_features=None, min_samples_leaf=5, random_state=0
        ).fit(z[fit], of_one[fit])
        importances.append(forest.feature_importances_)
        commonest = np.bincount(of_one[fit]).argmax()
        error, guessed = (
            (named != of_one[held_out]).mean()
            for named in (forest.predict(z[held_out]), commonest)
        )
        used = forest.feature_importances_.any()  # else the forest guesses too
        informativeness.append(1 - error / max(guessed, 1 / len(held_out)) if used else 0.0)
    by_factor = np.array(importances)
    return DCI(_concentration(by_factor.T), _concentration(by_factor), _mean(informativeness))


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


def _gap(scores: list[float] | np.ndarray) -> float:
    """Return by how much the greatest of scores ≥ 0 is above the next; one alone, above 0."""
    *_, second, first = sorted([0.0, *scores])
    return first - second


def _concentration(importances: np.ndarray) -> float:
    """Return 1 less the relative entropy of each row, the mean weighted by the rows' sums."""
    weights = importances.sum(1)
    used = weights > 0
    if not used.any():
        return 0.0
    most = math.log(importances.shape[1]) or 1.0
    return float(np.average(1 - entropy(importances[used], axis=1) / most, weights=weights[used]))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan
