import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from multibeta.divergences import aggregated_rate_terms, kl_standard_normal


def test_against_torch_and_monte_carlo():
    mean, std = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64) + 0.1
    q, prior = Normal(mean, std), Normal(0.0, 1.0)
    kl = kl_standard_normal(Independent(q, 1))
    torch.testing.assert_close(kl, kl_divergence(q, prior))
    z = q.sample((100_000,))
    draws = q.log_prob(z) - prior.log_prob(z)
    error = (draws.mean(0) - kl).abs() / (draws.std(0) / 100_000**0.5)
    assert error.max() < 4


def test_zero_at_the_prior():
    q = Independent(Normal(torch.zeros(2, 3), torch.ones(2, 3)), 1)
    assert kl_standard_normal(q).abs().max() == 0


def codes(n, latents, std, mean_std=None):
    """Return z, mean and std with an aggregate of N(0, I), or with means of another spread."""
    spread = math.sqrt(1 - std**2) if mean_std is None else mean_std
    mean = spread * torch.randn(n, latents)
    return mean + std * torch.randn(n, latents), mean, torch.full((n, latents), std)


@pytest.mark.parametrize("std", [0.9, 0.5, 0.3])
def test_rate_terms_of_an_aggregate_that_is_the_prior(std):
    """TC = KL_d = 0 and I = ½ k log 1/s²: all of the rate is information."""
    latents = 2
    terms = aggregated_rate_terms(*codes(4000, latents, std))
    information = -latents * math.log(std)
    assert information < math.log(4000)
    assert terms.mutual_information_nats.mean() == pytest.approx(information, abs=0.05)
    assert terms.total_correlation_nats.mean() == pytest.approx(0, abs=0.05)
    assert terms.dimension_kl_nats.mean(0).tolist() == pytest.approx([0, 0], abs=0.05)


def test_rate_terms_sum_up_to_the_rate_of_each_sample():
    z, mean, std = codes(300, 5, 0.1, mean_std=2.0)
    terms = aggregated_rate_terms(z, mean, std)
    q, p = Normal(mean.double(), std.double()), Normal(0.0, 1.0)
    z = z.double()
    torch.testing.assert_close(terms.rate_nats, (q.log_prob(z) - p.log_prob(z)).sum(1))
    closed = kl_divergence(q, p).sum(1).mean()
    se = terms.rate_nats.std() / math.sqrt(len(z))
    assert (terms.rate_nats.mean() - closed).abs() < 4 * se


def test_rate_terms_of_correlated_codes():
    """TC and KL of a Gaussian aggregate in closed form; means with correlation .8."""
    std, n = 0.4, 6000
    covariance = torch.tensor([[1.5, 1.2], [1.2, 1.5]])
    mean = MultivariateNormal(torch.zeros(2), covariance).sample((n,))
    z = mean + std * torch.randn(n, 2)
    terms = aggregated_rate_terms(z, mean, torch.full((n, 2), std))
    total = covariance + std**2 * torch.eye(2)
    variance = total.diagonal()
    correlation = 0.5 * (variance.log().sum() - total.logdet())
    each = 0.5 * (variance - 1 - variance.log())
    information = 0.5 * (total.logdet() - 4 * math.log(std))
    assert terms.total_correlation_nats.mean() == pytest.approx(correlation.item(), abs=0.05)
    assert terms.dimension_kl_nats.mean(0).tolist() == pytest.approx(each.tolist(), abs=0.05)
    assert terms.mutual_information_nats.mean() == pytest.approx(information.item(), abs=0.05)


def test_information_is_at_most_log_n():
    terms = aggregated_rate_terms(*codes(200, 8, 0.01))
    assert terms.mutual_information_nats.max() <= math.log(200) + 1e-9
    assert terms.mutual_information_nats.mean() == pytest.approx(math.log(200), abs=1e-6)


def test_rate_terms_of_one_example_and_of_a_collapsed_code():
    one = aggregated_rate_terms(*codes(1, 3, 0.5))
    assert one.mutual_information_nats.item() == pytest.approx(0, abs=1e-12)
    collapsed = aggregated_rate_terms(torch.randn(50, 3), torch.zeros(50, 3), torch.ones(50, 3))
    for term in (collapsed.mutual_information_nats, collapsed.dimension_kl_nats):
        assert term.abs().max() < 1e-12


def test_rate_terms_refuse_what_is_not_finite():
    z, mean, std = codes(4, 2, 0.5)
    with pytest.raises(ValueError, match="mean has values that are not finite"):
        aggregated_rate_terms(z, mean * math.nan, std)
    with pytest.raises(ValueError, match="no codes"):
        aggregated_rate_terms(z[:0], mean[:0], std[:0])
