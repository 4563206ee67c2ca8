"""Whether the code falls into clusters, and into those of a label."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np

from multibeta.metrics.base import Source
from multibeta.metrics.labelled import Labelled
from multibeta.vae import BetaVAE

__all__ = ["Clusters", "kmeans", "leiden"]

_SEPARATE = 2_000
_METHODS = ("k-means", "leiden")


class Clusters(Labelled):
    r"""Clusters of the posterior means: their agreement with a label, separation and stability.

    - *ARI*, the adjusted Rand index, and *NMI*, the normalised mutual information (over the
      arithmetic mean of the entropies), of clusters and label: 1 if they are the same up to
      names, 0 by chance (NMI: a little above).
    - *Silhouette*: the mean of (b − a)/max(a, b), with a the mean distance of an example to the
      others of its cluster, b that to the nearest other cluster: 1 for clusters far apart.
    - *Stability*: the mean ARI of all pairs of clusterings of the same examples, each fitted on
      another bootstrap sample.

    Means are not standardised: a latent that has collapsed is to have no say. The clusters are
    those of k-means, where fewer means than k are different each of these; or the communities of
    the graph of nearest neighbours (:func:`leiden`), as many as there are.

    Args:
        vae: The model at the β that is measured.
        label: Which of the labels, where there are several; see :class:`Labelled`.
        k: The number of clusters of k-means; by default that of the label's values.
        most: How many examples to use, spread over the set; of them the silhouette takes 2,000.
        resamples: The number of bootstrap samples.
        method: "k-means" or "leiden", which needs igraph (the extra ``leiden``).
        resolution: Of Leiden's, 1 by default: more gives more clusters.
        neighbours: Of an example in Leiden's graph, 15 by default.
        source: What is measured on.
        said: See :class:`Labelled`.

    Raises:
        ValueError: If a setting is out of range, or of the other method; or igraph is missing.

    References:
        Hubert & Arabie 1985, "Comparing partitions"; Rousseeuw 1987, "Silhouettes"; Ben-Hur,
        Elisseeff & Guyon 2002, "A stability based method for discovering structure in clustered
        data".
    """

    def __init__(
        self, vae: BetaVAE, label: str | None = None, k: int | None = None, most: int = 10_000,
        resamples: int = 10, method: str = "k-means", resolution: float | None = None,
        neighbours: int | None = None, *, source: Source | None = None,
        said: set[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(vae, label, most, source=source, said=said)
        for name, value in {"k": k, "resamples": resamples}.items():
            if value is not None and value < 2:
                raise ValueError(f"{name}={value} is too small; it is at least 2")
        if method not in _METHODS:
            raise ValueError(f"method={method} is unknown; allowed: {', '.join(_METHODS)}")
        of_graph: dict[str, Any] = {"resolution": resolution, "neighbours": neighbours}
        for name, given in ({"k": k} if method == "leiden" else of_graph).items():
            if given is not None:
                raise ValueError(f"{name}={given} is no setting of {method}; leave it out")
        for name, given in of_graph.items():
            if given is not None and not given > 0:
                raise ValueError(f"{name}={given} is not above 0")
        self.k, self.resamples, self.method = k, resamples, method
        self.of_graph = of_graph | {
            "resolution": resolution or 1.0,
            "neighbours": neighbours or 15,
        }
        if method == "leiden":
            _igraph()

    def compute(self) -> dict[str, float]:
        """Return how the means cluster, each with ``…_se``.

        Returns:
            ``cluster_silhouette`` (its standard error over examples), ``cluster_stability`` (by
            the jackknife over bootstrap samples); and where there is a label ``cluster_ari`` and
            ``cluster_nmi`` (standard errors: the standard deviation over the bootstrap samples).
            ``cluster_k``, how many clusters. nan where there is one example, and the silhouette
            where there is one cluster.

        Raises:
            ValueError: If k-means has neither a label nor ``k``.
        """
        from sklearn.metrics import (
            adjusted_rand_score,
            normalized_mutual_info_score,
            silhouette_samples,
        )

        z, label, y, k = self._taken()
        n = len(z)
        rng = np.random.default_rng(0)
        rows = [rng.integers(n, size=n) for _ in range(self.resamples)]
        if self.method == "leiden":
            found = leiden(z, **self.of_graph)
            others = [leiden(z, **self.of_graph, seed=i + 1, fit=of) for i, of in enumerate(rows)]
            k = len(np.unique(found))
        else:
            found = kmeans(z, k, starts=5)
            others = [kmeans(z, k, seed=i + 1, fit=of) for i, of in enumerate(rows)]
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
        """Return which label, how the clusters are found, and of how many examples."""
        z, label, _, k = self._taken()
        own = self.of_graph if self.method == "leiden" else {"k": k}
        return {"label": label, **own, "method": self.method, "examples": len(z),
                "resamples": self.resamples}  # fmt: skip

    def _taken(self) -> tuple[np.ndarray, str | None, np.ndarray, int]:
        """Return means (N, Z), the label's name and values (N,), and the k of k-means."""
        codes = self.codes()
        z = codes.mean[0].reshape(len(codes), -1).astype(np.float64)
        label = self.name(codes, groups=True)
        y = np.zeros(len(z)) if label is None else codes.labels[label]
        if self.method == "k-means" and self.k is None and label is None and len(z) > 1:
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


def leiden(
    z: np.ndarray,
    resolution: float = 1.0,
    neighbours: int = 15,
    seed: int = 0,
    fit: np.ndarray | None = None,
) -> np.ndarray:
    r"""Return the community of each code in the graph of nearest neighbours, by igraph.

    .. math:: \max \frac1{2m} \sum_{ij} \Big( A_{ij} - γ \frac{d_i d_j}{2m} \Big) [c_i = c_j],
        \qquad A_{ij} = [j \in N_i] + [i \in N_j]

    modularity with resolution γ, for degrees d of sum 2m. Equal codes are one node.

    Args:
        z: (N, Z).
        resolution: γ.
        neighbours: The size of each N; fewer where fewer codes are different.
        seed: That of the search.
        fit: The numbers of the codes that the graph is made of, once each; others go with their
            nearest one. By default all.

    Returns:
        (N,), 0 to the number of communities − 1.

    Raises:
        ValueError: If igraph is missing.

    References:
        Traag, Waltman & van Eck 2019, "From Louvain to Leiden"; Reichardt & Bornholdt 2006,
        equation 15 (γ).
    """
    from sklearn.neighbors import NearestNeighbors

    igraph = _igraph()
    nodes = np.unique(z if fit is None else z[fit], axis=0)
    if len(nodes) < 2:
        return np.zeros(len(z), dtype=int)
    near = NearestNeighbors(n_neighbors=min(neighbours, len(nodes) - 1)).fit(nodes)
    graph = near.kneighbors_graph()
    both = (graph + graph.T).tocoo()
    edges = both.row < both.col
    network = igraph.Graph(len(nodes), np.stack([both.row[edges], both.col[edges]], 1))
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = network.community_leiden(
            "modularity", weights=both.data[edges], resolution=resolution, n_iterations=-1
        )
    finally:
        igraph.set_random_number_generator(random)  # what it has by default
    nearest = near.kneighbors(z, 1, return_distance=False)[:, 0]
    return np.array(found.membership)[nearest]


def _igraph() -> Any:
    try:
        import igraph
    except ModuleNotFoundError:
        raise ValueError(
            "method=leiden needs igraph: pip install 'multibeta[leiden]', or take k-means"
        ) from None
    return igraph


def _mean_of_pairs(values: np.ndarray) -> tuple[float, float]:
    """Return the mean off the diagonal of a symmetric matrix, and its jackknife error."""
    n = len(values)
    mean = values.sum() / (n * (n - 1))
    if n < 3:
        return float(mean), math.nan
    without = (values.sum() - 2 * values.sum(1)) / ((n - 1) * (n - 2))
    se = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return float(mean), se
