"""choose on MNIST and the shipped model: eight purposes against numpy and scikit-learn, one not.

With MULTIBETA_DATA alone, which is to hold MNIST.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    roc_auc_score,
    silhouette_score,
)
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import multibeta
from multibeta import data as sets
from multibeta.choose import choose
from multibeta.priors import fit_flow

GRID = (0.1, 1.0, 10.0)
SIZES = {"train": 1500, "val": 500, "test": 300}
FEATURES = {"frechet": {"extractor": "tests.extractors.Blocks"}}


class MNIST(sets.MNIST):
    """The first examples of each of MNIST's sets."""

    def load(self):
        return {split: x[: SIZES[split]] for split, x in super().load().items()}

    def labels(self, split):
        return {name: of[: SIZES[split]] for name, of in super().labels(split).items()}


@pytest.fixture(scope="module")
def data(data_root):
    if not (Path(data_root) / "MNIST" / "raw").is_dir():
        pytest.skip("MULTIBETA_DATA does not hold MNIST")
    found = MNIST(data_root, download=False)
    found.setup()
    return found


@pytest.fixture(scope="module")
def model():
    return multibeta.load("mnist")


def pictures(data, split):
    return data.splits[split].float() / 255


def digits(data, split):
    return data.labels(split)["class"]


@torch.no_grad()
def posterior(model, data, split, beta):
    """Means and standard deviations of q(z|x), float64: (N, Z) each."""
    q = model.at_beta(beta).encode(pictures(data, split))
    return q.mean.double().numpy(), q.stddev.double().numpy()


@torch.no_grad()
def decoded(model, beta, z):
    """The means of p(x|z): (N, 784), float64."""
    p = model.at_beta(beta).decode(torch.from_numpy(z).float())
    return p.mean.flatten(1).double().numpy()


def rates(mean, std):
    """KL(q(z|x) ‖ N(0, I)) of each latent, nats: (N, Z)."""
    return 0.5 * (mean**2 + std**2 - 1) - np.log(std)


def blocks(pixels):
    """Means of 4×4 blocks of pictures that are rounded to 8 bits: (N, 16)."""
    rounded = np.rint(255 * pixels).reshape(-1, 4, 7, 4, 7) / 255
    return rounded.mean((2, 4)).reshape(-1, 16)


def distance(made, real):
    r"""Fréchet's: ‖m − n‖² + tr(A + B − 2 (AB)^½), by the eigenvalues of AB."""
    a, b = np.cov(made.T), np.cov(real.T)
    roots = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    return ((made.mean(0) - real.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * roots


def chosen(found):
    (row,) = (row for row in found.rows if row["beta"] == found.beta)
    return row


def noise_of(offset, shape):
    """The noise that the metric takes for what it draws, the same at each β."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(2**31 + offset))
    return drawn.double().numpy()


def test_samples(model, data):
    """The mixture's noise alone is another one, so its distance is near."""
    found = choose(model, data, "samples", GRID, settings=FEATURES)
    real = blocks(pictures(data, "val").numpy())
    for row in found.rows:
        mean, std = posterior(model, data, "val", row["beta"])
        noise = noise_of(0, mean.shape)
        codes = mean + std * np.random.default_rng(1).normal(size=mean.shape)
        units = StandardScaler().fit(codes)
        mixture = GaussianMixture(10, random_state=1).fit(units.transform(codes))
        drawn = {
            "prior": noise,
            "standardised": mean.mean(0) + noise * np.sqrt(mean.var(0) + (std**2).mean(0)),
            "reconstruction": mean,
            "gmm": units.inverse_transform(mixture.sample(len(mean))[0]),
        }
        for name, z in drawn.items():
            direct = distance(blocks(decoded(model, row["beta"], z)), real)
            near = {"abs": 3 * row["fd_gmm_se"]} if name == "gmm" else {"rel": 1e-3}
            assert row[f"fd_{name}"] == pytest.approx(direct, **near)
    assert chosen(found)[found.column] == min(
        row[f"fd_{name}"] for row in found.rows for name in ("prior", "standardised", "gmm")
    )


def test_diffusion(model, data, monkeypatch):
    monkeypatch.setattr("multibeta.metrics.frechet.fit_flow", partial(fit_flow, steps=40))
    found = choose(model, data, "diffusion", GRID, settings=FEATURES)
    real = blocks(pictures(data, "val").numpy())
    for row in found.rows:
        mean, std = posterior(model, data, "train", row["beta"])
        flow = fit_flow(torch.from_numpy(mean + std * noise_of(2, mean.shape)), steps=40)
        z = flow.sample((SIZES["val"],), torch.Generator().manual_seed(2**31)).double().numpy()
        direct = distance(blocks(decoded(model, row["beta"], z)), real)
        assert row["fd_flow"] == pytest.approx(direct, rel=0.01)
        assert row["flow_loss"] == pytest.approx(flow.loss, rel=1e-3)
        mean, std = posterior(model, data, "val", row["beta"])  # and other noise than the metric
        z = mean + std * np.random.default_rng(1).normal(size=mean.shape)
        viv = math.pi / 2 * np.sqrt(np.linalg.eigvalsh(np.cov(z.T))).sum()
        assert row["viv"] == pytest.approx(viv, abs=2 * row["viv_se"])
    assert chosen(found)["fd_flow"] == min(row["fd_flow"] for row in found.rows)


def test_probe(model, data):
    found = choose(model, data, "probe", GRID)
    for rows, split in ((found.rows, "val"), ([found.reported], "test")):
        for row in rows:
            z, z_test = (posterior(model, data, s, row["beta"])[0] for s in ("train", split))
            y, y_test = (digits(data, s) for s in ("train", split))
            scale = StandardScaler().fit(z)
            linear = LogisticRegression(max_iter=5000).fit(scale.transform(z), y)
            direct = {
                "probe_accuracy": linear.score(scale.transform(z_test), y_test),
                "knn_accuracy": KNeighborsClassifier(5).fit(z, y).score(z_test, y_test),
            }
            assert {k: row[k] for k in direct} == pytest.approx(direct, abs=1.5 / len(y_test))
    best = max(max(row["probe_accuracy"], row["knn_accuracy"]) for row in found.rows)
    assert chosen(found)[found.column] == best


def test_clusters(model, data):
    found = choose(model, data, "clusters", GRID)
    y = digits(data, "val")
    for row in found.rows:
        z, _ = posterior(model, data, "val", row["beta"])
        named = KMeans(10, n_init=5, random_state=0).fit_predict(z)
        direct = {
            "cluster_ari": adjusted_rand_score(y, named),
            "cluster_nmi": normalized_mutual_info_score(y, named),
            "cluster_silhouette": silhouette_score(z, named),
        }
        assert {name: row[name] for name in direct} == pytest.approx(direct, abs=0.01)
    assert chosen(found)["cluster_ari"] == max(row["cluster_ari"] for row in found.rows)


def test_anomaly(model, data):
    found = choose(model, data, "anomaly", GRID, normal="0,1", settings={"score": {"samples": 4}})
    for rows, split in ((found.rows, "val"), ([found.reported], "test")):
        odd = ~np.isin(digits(data, split), ["0", "1"])
        for row in rows:
            rate = rates(*posterior(model, data, split, row["beta"])).sum(1)
            assert row["auroc_rate_nats"] == pytest.approx(roc_auc_score(odd, rate), abs=1e-5)
    scores = [f"auroc_{of}_nats" for of in ("distortion", "rate", "neg_elbo", "nll")]
    assert chosen(found)[found.column] == max(row[of] for row in found.rows for of in scores)


def test_compression(model, data):
    """By the bits of a file; PSNR and R are numpy's."""
    pytest.importorskip("constriction")
    found = choose(model, data, "compression", GRID, psnr=17.0)
    row, x = chosen(found), pictures(data, "val")
    codec = multibeta.Codec(model.at_beta(found.beta))
    file = codec.encode(x, found.beta)
    assert row["code_bits"] == 8 * len(file) / len(x)
    errors = (x - codec.decode(file)).flatten(1).double().numpy() ** 2
    psnr = (-10 * np.log10(errors.mean(1))).mean()
    assert row["code_psnr_db"] == pytest.approx(psnr, rel=1e-6) == pytest.approx(17, rel=0.01)
    rate = rates(*posterior(model, data, "val", found.beta)).sum(1).mean()
    assert row["rate_nats"] == pytest.approx(rate, rel=1e-4)
    assert row["code_overhead"] == pytest.approx(row["code_bits"] * np.log(2) / rate, rel=1e-4)


def test_latents(model, data):
    found = choose(model, data, "latents", GRID)
    for row in found.rows:
        mean, std = posterior(model, data, "val", row["beta"])
        assert row["live_latents"] == (rates(mean, std).mean(0) > 0.2).sum()
        shares = np.linalg.eigvalsh(np.cov(mean.T))[::-1].cumsum()
        assert row["axes_95"] == 1 + (shares < 0.95 * shares[-1]).sum()


def test_likelihood(model, data):
    """Other noise for the same 500 examples."""
    found = choose(model, data, "likelihood", GRID, settings={"nll": {"samples": 16}})
    x = pictures(data, "val").flatten(1).double().numpy()
    for row in found.rows:
        mean, std = posterior(model, data, "val", row["beta"])
        noise = np.random.default_rng(3).normal(size=(16, *mean.shape))
        weights = []
        for z in mean + std * noise:
            p = decoded(model, row["beta"], z).clip(1e-12, 1 - 1e-12)
            likelihood = (x * np.log(p) + (1 - x) * np.log1p(-p)).sum(1)
            ratio = norm.logpdf(z) - norm.logpdf(z, mean, std)
            weights.append(likelihood + ratio.sum(1))
        direct = (math.log(16) - logsumexp(weights, 0)).mean()
        assert row["nll_nats"] == pytest.approx(direct, abs=0.5)
    assert chosen(found)["nll_nats"] == min(row["nll_nats"] for row in found.rows)


def test_disentanglement_is_refused(model, data):
    with pytest.raises(ValueError, match="it needs factors, which MNIST has not") as info:
        choose(model, data, "disentanglement", GRID)
    assert "\n" not in str(info.value)
