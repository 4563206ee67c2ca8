import math

import pytest
import torch
from torch.nn import functional as F

from multibeta.likelihoods import Bernoulli, Gaussian


def test_bernoulli_is_the_cross_entropy_with_logits_summed():
    logits, x = torch.randn(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    expected = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(-Bernoulli()(logits).log_prob(x), expected)


def test_bernoulli_sums_to_one_over_pictures():
    p = Bernoulli()(torch.randn(1, 1, 1, 3, dtype=torch.float64))
    pictures = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    assert p.log_prob(pictures.view(8, 1, 1, 3)).exp().sum().item() == pytest.approx(1)


def test_gaussian_formula():
    sigma, mean, x = 0.3, torch.randn(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    squared_error = (x - mean).square().sum((1, 2, 3))
    expected = squared_error / (2 * sigma**2) + 20 / 2 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(-Gaussian(sigma)(mean).log_prob(x), expected)


def test_gaussian_integrates_to_one():
    p = Gaussian(0.2)(torch.full((1, 1, 1, 1), 0.4, dtype=torch.float64))
    x = torch.linspace(-2, 3, 5001, dtype=torch.float64)
    density = p.log_prob(x.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.1)])
def test_the_mean_is_a_picture_and_half_precision_is_left(likelihood):
    p = likelihood(torch.randn(2, 3, 4, 5, dtype=torch.bfloat16))
    assert p.mean.shape == (2, 3, 4, 5)
    assert p.batch_shape == (2,)
    assert p.mean.dtype == torch.float32


def test_values_outside_the_support_are_refused():
    with pytest.raises(ValueError, match=r"values in \[0, 255\]; Bernoulli allows \[0, 1\]"):
        Bernoulli().check(0, 255)
    Bernoulli().check(0, 1)
    Gaussian().check(-100, 100)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_bad_sigma(sigma):
    with pytest.raises(ValueError, match="not a finite number above 0"):
        Gaussian(sigma)
