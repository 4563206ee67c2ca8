import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torchmetrics.image.kid import poly_mmd

from multibeta.metrics.features import Features, frechet_distance, kernel_distance, moments

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
