"""Whether the code falls into clusters, and into those of a label."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from multibeta.metrics.base import Source
from multibeta.metrics.labelled import Labelled
from multibeta.vae import BetaVAE

__all__ = ["Clusters", "kmeans"]

_SEPARATE = 2_000


class Clusters(Labelled):
    r"""k-means of the posterior means: its agreement with a label, separation and stability.

    - *ARI*, the adjusted Rand index, and *NMI*, the normalised mutual information (over the
      arithmetic mean of the entropies), of clusters and label: 1 if they are the same up to
      names, 0 by chance (NMI: a little above).
    - *Silhouette*: the mean of (b − a)/max(a, b), with a the mean distance of an example to the
      others of its cluster, b that to the nearest other cluster: 1 for clusters far apart.
    - *Stability*: the mean ARI of all pairs of clusterings of the same examples, each fitted on
      another bootstrap sample.

    Means are not standardised: a latent that has collapsed is to have no say. Where fewer means
    than k are different, each is a cluster.

    Args:
        vae: The model at the β that is measured.
        label: Which of the labels, where there are several; see :class:`Labelled`.
        k: The number of clusters; by default that of the label's values.
        most: How many examples to use, spread over the set; of them the silhouette takes 2,000.
        resamples: The number of bootstrap samples.
        source: What is measured on.
        said: See :class:`Labelled`.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Hubert & Arabie 1985, "Comparing partitions"; Rousseeuw 1987, "Silhouettes"; Ben-Hur,
        Elisseeff & Guyon 2002, "A stability based method for discovering structure in clustered
        data".
    """

    def __init__(
        self, vae: BetaVAE, label: str | None = None, k: int | None = None, most: int = 10_000,
        resamples: int = 10, *, source: Source | None = None, said: set[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(vae, label, most, source=source, said=said)
        for name, value in {"k": k, "resamples": resamples}.items():
            if value is not None and value < 2:
                raise ValueError(f"{name}={value} is too small; it is at least 2")
        self.k, self.resamples = k, resamples

    def compute(self) -> dict[str, float]:
        """Return how the means cluster, each with ``…_se``.

        Returns:
            ``cluster_silhouette`` (its standard error over examples), ``cluster_stability`` (by
            the jackknife over bootstrap samples); and where there is a label ``cluster_ari`` and
            ``cluster_nmi`` (standard errors: the standard deviation over the bootstrap samples).
            ``cluster_k``. nan where there is one example, and the silhouette where there is one
            cluster.

        Raises:
            ValueError: If there is neither a label nor ``k``.
        """
        from sklearn.metrics import (
            adjusted_rand_score,
            normalized_mutual_info_score,
            silhouette_samples,
        )

        z, label, y, k = self._taken()
        n = len(z)
        found = kmeans(z, k, starts=5)
        rng = np.random.default_rng(0)
        rows = [rng.integers(n, size=n) for _ in range(self.resamples)]
        others = [kmeans(z, k, seed=i + 1, fit=rows[i]) for i in range(self.resamples)]
        row: dict[str, float] = {"cluster_k": float(k)}
        if label:
            scores = {"ari": adjusted_rand_score, "nmi": normalized_mutual_info_score}
            for name, score in scores.items():
                of_each = [score(y[at], of[at]) for at, of in zip(rows, others, strict=True)]
                row[f"cluster_{name}"] = float(score(y, found)) if n > 1 else math.nan
                row[f"cluster_{name}_se"] = float(np.std(of_each, ddof=1)) if n > 1 else math.nan
        some = np.arange(min(n, _SEPARATE)) * n // min(n, _SEPARATE)
        separate = np.array([math.nan])
        if 2 <= len(np.unique(found[some])) < len(some):
            separate = silhouette_samples(z[some], found[some])
        row["cluster_silhouette"] = float(separate.mean())
        row["cluster_silhouette_se"] = (
            float(separate.std(ddof=1) / math.sqrt(len(separate)))
            if len(separate) > 1
            else math.nan
        )
        agreement = np.zeros((self.resamples, self.resamples))
        for i, j in itertools.combinations(range(self.resamples), 2):
            agreement[i, j] = agreement[j, i] = adjusted_rand_score(others[i], others[j])
        row["cluster_stability"], row["cluster_stability_se"] = (
            _mean_of_pairs(agreement) if n > 1 else (math.nan, math.nan)
        )
        return row

    def about(self) -> dict[str, Any]:
        """Return which label, how many clusters and examples."""
        z, label, _, k = self._taken()
        return {"label": label, "k": k, "method": "k-means", "examples": len(z),
                "resamples": self.resamples}  # fmt: skip

    def _taken(self) -> tuple[np.ndarray, str | None, np.ndarray, int]:
        """Return means (N, Z), the label's name and values (N,), and the number of clusters."""
        codes = self.codes()
        z = codes.mean[0].reshape(len(codes), -1).astype(np.float64)
        label = self.name(codes, groups=True)
        y = np.zeros(len(z)) if label is None else codes.labels[label]
        if self.k is None and label is None and len(z) > 1:
            known = ", ".join(codes.labels) or "none"
            raise ValueError(
                "metric clusters cannot be measured: the number of clusters is not known; set k, "
                f"or give a label that groups the examples (the data has {known})"
            )
        return z, label, y, self.k or len(np.unique(y))


def kmeans(
    z: np.ndarray, k: int, seed: int = 0, starts: int = 1, fit: np.ndarray | None = None
) -> np.ndarray:
    """Return the cluster of each code by k-means.

    Args:
        z: (N, Z).
        k: How many clusters; fewer where fewer codes are different.
        seed: That of the starts.
        starts: How many; the best is taken.
        fit: The numbers of the codes that the centres are fitted on; by default all.

    Returns:
        (N,), 0 to k − 1.
    """
    from sklearn.cluster import KMeans

    fitted = z if fit is None else z[fit]
    k = min(k, len(np.unique(fitted, axis=0)))
    if k < 2:
        return np.zeros(len(z), dtype=int)
    return KMeans(k, n_init=starts, random_state=seed).fit(fitted).predict(z)


def _mean_of_pairs(values: np.ndarray) -> tuple[float, float]:
    """Return the mean off the diagonal of a symmetric matrix, and its jackknife error."""
    n = len(values)
    mean = values.sum() / (n * (n - 1))
    if n < 3:
        return float(mean), math.nan
    without = (values.sum() - 2 * values.sum(1)) / ((n - 1) * (n - 2))
    se = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return float(mean), se
