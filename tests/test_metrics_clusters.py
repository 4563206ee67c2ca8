import math
import sys

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

import multibeta
from multibeta.checkpoints import load_data
from multibeta.evaluation import metrics_of
from multibeta.metrics import Clusters, Source
from multibeta.metrics.clusters import _mean_of_pairs, kmeans, leiden
from tests.test_metrics_probe import VAE, codes


def computed(measured, **settings):
    source = Source(None, "test", None, lambda: iter(()), lambda vae, split, most: measured)
    metric = Clusters(VAE, source=source, **settings)
    metric._update_count = 1
    return metric.compute() | {"about": metric.about()}


def mixture(n=400, apart=8.0):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=n)
    return rng.normal(size=(n, 2)) + apart * y[:, None] * [1, 0], y


def test_two_clusters_far_apart_are_found():
    z, y = mixture()
    found = computed(codes(z, label=y))
    assert found["cluster_ari"] == found["cluster_nmi"] == found["cluster_stability"] == 1
    assert found["cluster_ari_se"] == found["cluster_stability_se"] == 0
    assert found["cluster_k"] == 2 and found["about"]["label"] == "label"
    assert found["cluster_silhouette"] == pytest.approx(silhouette_score(z, y), abs=1e-6)
    assert found["cluster_silhouette"] > 0.75


def test_no_clusters_where_there_is_one_cloud():
    z, _ = mixture(apart=0.0)
    found = computed(codes(z, label=np.arange(400) % 2))
    assert abs(found["cluster_ari"]) < 0.02 and found["cluster_nmi"] < 0.02
    assert found["cluster_stability"] < 0.9 and found["cluster_silhouette"] < 0.4
    assert found["cluster_stability_se"] > 0
    wrong = computed(codes(mixture()[0], label=mixture()[1]), k=4)  # of two, each is cut anyhow
    assert wrong["cluster_k"] == 4 and wrong["cluster_ari"] < 0.7
    assert wrong["cluster_stability"] < 0.9


def test_the_digits_against_scikit_learn():
    model, data = multibeta.load("digits"), load_data("digits")
    curve = multibeta.sweep(model, data, "0.3", metrics={"clusters": {"resamples": 3}})
    row = curve.rows[0]
    data.setup()
    y = data.labels("test")["digit"]
    z = model.at_beta(0.3).encode(data.splits["test"].float() / 255).mean.detach().double()
    named = KMeans(10, n_init=5, random_state=0).fit_predict(z.numpy())
    assert row["cluster_ari"] == pytest.approx(adjusted_rand_score(y, named), abs=0.03)
    assert row["cluster_nmi"] == pytest.approx(normalized_mutual_info_score(y, named), abs=0.03)
    assert curve.about["clusters"] == {
        "label": "digit", "k": 10, "method": "k-means", "examples": 359, "resamples": 3,
    }  # fmt: skip


def test_without_labels_the_number_is_to_be_given():
    z, _ = mixture()
    with pytest.raises(
        ValueError, match="number of clusters is not known; set k, or give a label"
    ):
        computed(codes(z, age=np.linspace(0, 1, 400)))
    found = computed(codes(z), k=2)
    assert found["cluster_stability"] == 1 and found["about"]["label"] is None
    assert "cluster_ari" not in found
    assert list(metrics_of({"clusters": {"k": 2}}, np.zeros((4, 2)))) == ["clusters"]


def two_moons(n=300):
    from sklearn.datasets import make_moons

    return make_moons(n, noise=0.05, random_state=0)


def test_leiden_finds_two_clusters_of_any_shape_without_k():
    """Two cliques are the optimum of modularity; k-means cuts both moons across."""
    pytest.importorskip("igraph")
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [30, 20])
    cliques = rng.normal(size=(50, 3)) + 50 * y[:, None]
    found = computed(codes(cliques, label=y), method="leiden", neighbours=19)
    assert found["cluster_ari"] == found["cluster_nmi"] == found["cluster_stability"] == 1
    assert found["cluster_k"] == 2
    assert found["about"] == {
        "label": "label", "method": "leiden", "resolution": 1.0, "neighbours": 19,
        "examples": 50, "resamples": 10,
    }  # fmt: skip
    z, y = two_moons()
    of_graph = computed(codes(z, label=y), method="leiden", resolution=0.05)
    assert of_graph["cluster_ari"] == 1 and of_graph["cluster_k"] == 2
    assert computed(codes(z, label=y))["cluster_ari"] < 0.6
    assert computed(codes(z), method="leiden")["cluster_k"] > 2  # without a label, and finer


def test_leiden_against_the_modularity_of_its_graph():
    """By hand: A, and its modularity, which is above that of the label and of k-means."""
    pytest.importorskip("igraph")
    z, y = mixture(apart=3.0)
    apart = np.linalg.norm(z[:, None] - z, axis=2)
    near = np.argsort(apart, 1)[:, 1:11]
    a = np.zeros((400, 400))
    np.put_along_axis(a, near, 1.0, 1)
    a = a + a.T
    d, m = a.sum(0), a.sum()

    def modularity(named):
        return ((a - 0.5 * np.outer(d, d) / m) * (named[:, None] == named)).sum() / m

    named = leiden(z, 0.5, 10)
    assert modularity(named) >= max(modularity(y), *(modularity(kmeans(z, k)) for k in (2, 3, 4)))
    assert (leiden(z, 0.5, 10) == named).all()
    fewer = leiden(z, 0.5, 10, fit=np.arange(0, 400, 2))
    assert (fewer[1::2] == fewer[::2][apart[1::2, ::2].argmin(1)]).all()
    assert leiden(np.zeros((5, 2))).tolist() == [0] * 5


def test_leiden_without_igraph_and_settings_of_the_other_method(monkeypatch):
    for settings, said in (
        ({"method": "louvain"}, "method=louvain is unknown; allowed: k-means, leiden"),
        ({"method": "leiden", "k": 3}, "k=3 is no setting of leiden; leave it out"),
        ({"resolution": 2.0}, "resolution=2.0 is no setting of k-means; leave it out"),
        ({"method": "leiden", "neighbours": 0}, "neighbours=0 is not above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            Clusters(VAE, **settings)
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(ValueError, match=r"needs igraph: pip install 'multibeta\[leiden\]', or"):
        Clusters(VAE, method="leiden")


def test_collapsed_codes_are_one_cluster():
    found = computed(codes(np.zeros((30, 2)), label=np.arange(30) % 3))
    assert found["cluster_ari"] == found["cluster_nmi"] == 0
    assert math.isnan(found["cluster_silhouette"])
    z = np.repeat(np.eye(2), 15, axis=0)  # two means alone, and k is 3
    assert len(np.unique(kmeans(z, 3))) == 2


def test_one_example_and_settings_out_of_range():
    found = computed(codes(np.zeros((1, 2)), label=np.array([1])), label="label")
    assert math.isnan(found["cluster_ari"]) and math.isnan(found["cluster_stability"])
    for settings in ({"k": 1}, {"resamples": 1}):
        (name,) = settings
        with pytest.raises(ValueError, match=f"{name}=1 is too small; it is at least 2"):
            Clusters(VAE, **settings)


def test_the_mean_of_pairs_and_its_jackknife():
    values = torch.rand(6, 6).double().numpy()
    values = np.triu(values, 1) + np.triu(values, 1).T
    mean, se = _mean_of_pairs(values)
    assert mean == pytest.approx(values[np.triu_indices(6, 1)].mean())
    without = [
        np.delete(np.delete(values, i, 0), i, 1)[np.triu_indices(5, 1)].mean() for i in range(6)
    ]
    assert se == pytest.approx(math.sqrt(5) * np.std(without))
