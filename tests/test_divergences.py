import torch
from torch.distributions import Independent, Normal, kl_divergence

from multibeta.divergences import kl_standard_normal


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
