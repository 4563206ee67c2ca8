import math

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.kid import poly_mmd

from multibeta.metrics.features import (
    Features,
    feature_distance,
    frechet,
    frechet_at_infinity,
    frechet_distance,
    kernel_distance,
    moments,
    neighbourhoods,
)

KERNEL = {"verbose": False, "kid_subsets": 1}


def features(n=200, f=12, seed=0, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(f, f, generator=generator) / f**0.5
    return (torch.randn(n, f, generator=generator) @ mixing) * scale + shift


def distance(x, y):
    return frechet_distance(*moments(x), *moments(y))


def test_moments_are_those_of_numpy():
    x = features()
    mean, covariance = moments(x)
    assert np.allclose(mean, x.double().numpy().mean(0))
    assert np.allclose(covariance, np.cov(x.double().numpy(), rowvar=False))
    assert covariance.dtype == mean.dtype == torch.float64


@pytest.mark.parametrize("n", [200, 5])
def test_a_set_is_at_no_distance_from_itself(n):
    x = features(n, shift=3.0)
    assert distance(x, x) == pytest.approx(0, abs=1e-6)
    assert distance(x, x.flip(0)) == pytest.approx(0, abs=1e-6)


def test_commuting_covariances_have_a_closed_form():
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    a, b = torch.rand(2, 6, dtype=torch.float64)
    m, n = torch.randn(2, 6, dtype=torch.float64)
    found = frechet_distance(m, rotation * a @ rotation.T, n, rotation * b @ rotation.T)
    exact = (m - n).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert found == pytest.approx(exact.item(), rel=1e-9)


def test_two_gaussians_on_the_line():
    one = torch.ones(1, 1)
    found = frechet_distance(one[0], 4 * one, -2 * one[0], 9 * one)
    assert found == pytest.approx(3**2 + (2 - 3) ** 2)


@pytest.mark.parametrize("f", [4, 60])
def test_against_the_square_root_of_scipy_and_torch_fidelity(f):
    x, y = features(f=f), features(150, f, seed=1, scale=1.5, shift=0.2)
    (m, c), (n, d) = ([v.numpy() for v in moments(v)] for v in (x, y))
    root = scipy.linalg.sqrtm(c @ d).real
    exact = ((m - n) ** 2).sum() + np.trace(c + d - 2 * root)
    assert distance(x, y) == pytest.approx(exact, rel=1e-6)
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(v.double()) for v in (x, y)), verbose=False
    )
    assert distance(x, y) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert distance(y, x) == pytest.approx(exact, rel=1e-6)


def test_one_example_and_what_is_not_finite():
    assert math.isnan(distance(features(1), features()))
    assert math.isnan(distance(features(), features() * torch.nan))
    assert all(math.isnan(v) for v in kernel_distance(features(1), features()))
    assert not math.isnan(kernel_distance(features(2), features())[1])


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"moments of shapes \(12,\), \(12, 12\), \(3,\)"):
        distance(features(), features(f=3))
    with pytest.raises(ValueError, match=r"give as many features$"):
        kernel_distance(features(), features(f=3))
    with pytest.raises(ValueError, match="give as many features of as many examples"):
        kernel_distance(features(), features(199), paired=True)


def test_the_kernel_distance_is_that_of_torch_fidelity_and_torchmetrics():
    x, y = features().double(), features(seed=1, shift=0.3).double()
    value, _ = kernel_distance(x, y)
    theirs = kid_features_to_metric(x, y, kid_subset_size=200, **KERNEL)
    assert value == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-9)
    assert value == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)


def test_it_is_the_mean_over_all_subsets():
    x, y = features(30).double(), features(25, seed=1, shift=0.3).double()
    options = {"kid_subset_size": 10, "kid_subsets": 4000, "verbose": False}
    theirs = kid_features_to_metric(x, y, **options)
    error = theirs["kernel_inception_distance_std"] / 4000**0.5
    assert kernel_distance(x, y)[0] == pytest.approx(theirs[KEY_METRIC_KID_MEAN], abs=4 * error)


def test_parts_of_the_kernel_are_the_whole(monkeypatch):
    x, y = features(50), features(40, seed=1)
    whole = kernel_distance(x, y)
    monkeypatch.setattr("multibeta.metrics.features._ROWS", 7)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("paired", [False, True])
def test_the_kernel_distance_is_unbiased_and_its_error_is_right(paired):
    generator = torch.Generator().manual_seed(0)

    def draw():
        x = torch.randn(60, 4, generator=generator)
        other = x if paired else torch.randn(60, 4, generator=generator)
        return kernel_distance(
            x, 0.5 + other + 0.3 * torch.randn(60, 4, generator=generator), paired=paired
        )

    found = torch.tensor([draw() for _ in range(300)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3000, 4, generator=generator)
    y = 0.5 + 1.09**0.5 * torch.randn(3000, 4, generator=generator)
    exact, of_exact = kernel_distance(x, y)
    spread = found[:, 0].std().item()
    if not paired:  # pairs are not independent, as the estimate takes them to be
        slack = 4 * math.hypot(spread / 300**0.5, of_exact)
        assert found[:, 0].mean().item() == pytest.approx(exact, abs=slack)
    assert found[:, 1].mean().item() == pytest.approx(spread, rel=0.15)


def test_features_come_in_the_order_of_the_batches():
    found = Features()
    rows = torch.arange(10.0).view(5, 2)
    found.update(rows[3:], 2)
    found.update(rows[:2], 0)
    found.update(rows[2:3], 1)
    assert torch.equal(found.compute(), rows)


# Errors and bias


@pytest.mark.parametrize("n", [200, 5])
def test_with_an_error_it_is_the_same_distance(n):
    x, y = features(n), features(n + 10, seed=1, scale=1.3, shift=0.2)
    assert frechet(x, y)[0] == pytest.approx(distance(x, y), rel=1e-6)
    assert frechet(x, y, of_others=moments(y)) == frechet(x, y)
    assert frechet(x, x, paired=True) == pytest.approx((0, 0), abs=1e-6)


@pytest.mark.parametrize("paired", [False, True])
def test_the_error_of_frechets_distance_is_its_spread(paired):
    def draw(seed):
        x = torch.randn(300, 4, generator=torch.Generator().manual_seed(seed))
        noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(10_000 + seed))
        return x, 1.2 * (0.9 * x + 0.44 * noise if paired else noise) + 0.3

    found = torch.tensor([frechet(*draw(seed), paired=paired) for seed in range(400)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std().item(), rel=0.12)


def test_frechets_distance_at_infinity_has_less_bias():
    """Of two samples of one Gaussian the distance is 0, and never below it for a finite number."""
    found = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        x, y = torch.randn(2, 150, 12, generator=generator)
        whole, se = frechet(x, y)
        found.append((whole, frechet_at_infinity(x, y, whole), se))
    whole, infinite, se = torch.tensor(found).mean(0)
    assert whole > 3 * se
    assert infinite.abs() < 0.15 * whole


# Neighbourhoods


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall_are_those_of_torch_fidelity(k):
    x, y = features(150), features(170, seed=1, scale=0.7, shift=0.3)
    theirs = prc_features_to_metric(x, y, prc_neighborhood=k, verbose=False)
    ours = neighbourhoods(x, y, k)
    assert 0.1 < theirs["precision"] < 1
    for name in ("precision", "recall"):
        assert ours[name].mean() == pytest.approx(theirs[name], abs=1e-6)


def test_density_and_coverage_are_those_of_a_search_for_neighbours():
    x, y, k = features(90), features(1_100, seed=1, scale=0.8), 5
    radii = NearestNeighbors(n_neighbors=k + 1).fit(y).kneighbors(y)[0][:, -1]
    apart = np.linalg.norm(y.numpy()[:, None] - x.numpy()[None], axis=-1)
    inside = apart <= radii[:, None]
    found = neighbourhoods(x, y, k)
    assert found["density"].numpy() == pytest.approx(inside.sum(0) / k)
    assert found["coverage"].numpy() == pytest.approx(inside.any(1).astype(float))
    assert 0 < found["coverage"].mean() < 0.9


def test_density_and_coverage_of_samples_of_the_same_distribution():
    """Density is 1, coverage 1 − (M−1)…(M−k) / ((2M−1)…(2M−k)) (Naeem et al. 2020)."""
    m, k = 150, 5
    found = [neighbourhoods(*torch.randn(2, m, 3), k) for _ in range(60)]
    means = {name: torch.stack([of[name] for of in found]).mean() for name in found[0]}
    outside = math.prod((m - i) / (2 * m - i) for i in range(1, k + 1))
    assert means["coverage"] == pytest.approx(1 - outside, abs=0.005)
    assert means["density"] == pytest.approx(1, abs=0.02)


def test_a_set_without_a_neighbour():
    assert all(v.isnan().all() for v in neighbourhoods(features(5), features(9), 5).values())


def test_the_feature_distance_is_that_of_unit_vectors():
    x, y = features(20), features(20, seed=1)
    cosine = torch.nn.functional.cosine_similarity(x.double(), y.double())
    assert torch.allclose(feature_distance(x, 3 * y), 2 - 2 * cosine)
    with pytest.raises(ValueError, match="cannot be compared; give as many features of as many"):
        feature_distance(x, y[:3])
