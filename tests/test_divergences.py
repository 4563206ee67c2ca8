import itertools
import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from multibeta.divergences import (
    aggregated_rate_terms,
    kl_standard_normal,
    minibatch_rate_terms,
    mmd_standard_normal,
)


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


TERMS = ("mutual_information_nats", "total_correlation_nats", "dimension_kl_nats")


def test_a_batch_of_all_examples_is_exact():
    whole = [v.double() for v in codes(150, 4, 0.3, mean_std=1.5)]
    found, exact = minibatch_rate_terms(*whole, size=150), aggregated_rate_terms(*whole)
    for name in TERMS:
        torch.testing.assert_close(getattr(found, name), getattr(exact, name))


def test_stratified_densities_are_unbiased():
    """The mean of q(z_1) over all batches that hold example 1 is that of all data."""
    size, batch = 6, 3
    z, mean, std = (v.double() for v in codes(size, 2, 0.5))
    full = aggregated_rate_terms(z, mean, std)
    own = Normal(mean, std).log_prob(z).sum(1)[0]
    exact = (own - full.mutual_information_nats[0]).exp()
    densities = []
    for others in itertools.combinations(range(1, size), batch - 1):
        rows = [0, *others]
        terms = minibatch_rate_terms(z[rows], mean[rows], std[rows], size)
        densities.append((own - terms.mutual_information_nats[0]).exp())
    torch.testing.assert_close(torch.stack(densities).mean(), exact)


@pytest.mark.parametrize("std", [0.9, 0.5])
def test_stratified_terms_of_an_aggregate_that_is_the_prior(std):
    """TC = KL_d = 0 and I = ½ k log 1/s², from batches of 500 out of 5,000."""
    size, latents = 5000, 2
    whole = codes(size, latents, std)
    full = aggregated_rate_terms(*whole)
    parts = [
        minibatch_rate_terms(*(v[rows] for v in whole), size)
        for rows in torch.randperm(size).split(500)
    ]
    for name in TERMS:
        found = torch.cat([getattr(terms, name) for terms in parts])
        assert found.mean(0) == pytest.approx(getattr(full, name).mean(0).numpy(), abs=0.03)
    information = torch.cat([terms.mutual_information_nats for terms in parts]).mean()
    assert information == pytest.approx(-latents * math.log(std), abs=0.06)


def test_the_self_term_is_on_the_diagonal():
    """Posteriors that do not overlap: q(z_i) is q(z_i|x_i) / N for each i, the first as the last.

    With the self term in column 0, the others would have the weight (N − 1) / (N(B − 1)).
    """
    mean = 100 * torch.arange(8.0).double()[:, None]
    terms = minibatch_rate_terms(mean, mean, torch.ones_like(mean), size=1000)
    assert terms.mutual_information_nats.tolist() == pytest.approx([math.log(1000)] * 8)


def test_weighted_densities_are_low_by_log_n():
    """They are those of the batch's own aggregate, exactly log N lower."""
    size, latents = 5000, 3
    z, mean, std = (v[:200].double() for v in codes(size, latents, 0.6))
    found = minibatch_rate_terms(z, mean, std, size, stratified=False)
    batch, low = aggregated_rate_terms(z, mean, std), math.log(size)
    torch.testing.assert_close(found.mutual_information_nats, batch.mutual_information_nats + low)
    torch.testing.assert_close(
        found.total_correlation_nats, batch.total_correlation_nats + (latents - 1) * low
    )
    torch.testing.assert_close(found.dimension_kl_nats, batch.dimension_kl_nats - low)
    # As a gradient, the constant is of no matter.
    mean.requires_grad_()
    weighted, own = (
        minibatch_rate_terms(z, mean, std, n, stratified=False).total_correlation_nats.mean()
        for n in (size, 200)
    )
    gradients = [torch.autograd.grad(v, mean)[0] for v in (weighted, own)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("stratified", [True, False])
def test_minibatch_terms_sum_up_and_have_gradients(stratified):
    z, mean, std = codes(40, 5, 0.2, mean_std=2.0)
    mean.requires_grad_()
    std.requires_grad_()
    z = mean + std * (z - mean).detach() / 0.2
    terms = minibatch_rate_terms(z, mean, std, 1000, stratified)
    assert terms.rate_nats.dtype == torch.float32
    q, p = Normal(mean, std), Normal(0.0, 1.0)
    torch.testing.assert_close(
        terms.rate_nats, (q.log_prob(z) - p.log_prob(z)).sum(1), atol=1e-3, rtol=1e-4
    )
    for name in TERMS:
        gradients = torch.autograd.grad(getattr(terms, name).sum(), (mean, std), retain_graph=True)
        for gradient in gradients:
            assert gradient.isfinite().all()
            assert (gradient != 0).any(), name
    double = [v.detach().double().requires_grad_() for v in (z[:4], mean[:4], std[:4])]
    assert torch.autograd.gradcheck(
        lambda *v: minibatch_rate_terms(*v, 50, stratified).total_correlation_nats, double
    )


def test_minibatch_terms_of_bad_and_small_batches():
    one = minibatch_rate_terms(*codes(1, 3, 0.5), size=1)
    assert one.mutual_information_nats.item() == pytest.approx(0, abs=1e-6)
    for batch, size in ((5, 4), (1, 10), (0, 0)):
        with pytest.raises(ValueError, match=f"a batch of {batch} cannot .* {size} examples"):
            minibatch_rate_terms(*codes(batch, 3, 0.5), size=size)


def mmd_of_gaussians(mean, std, latents, h):
    """Return MMD² of N(mean, std² I) and N(0, I), by the moments of a Gaussian kernel."""

    def expected(variance, apart):
        return (h / (h + variance)) ** (latents / 2) * math.exp(-apart / (2 * (h + variance)))

    apart = latents * mean**2
    return expected(2 * std**2, 0) - 2 * expected(1 + std**2, apart) + expected(2, 0)


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (1, 1), (0, 0.5), (0.5, 2)])
@pytest.mark.parametrize("variance", [None, 0.7])
def test_mmd_of_gaussian_codes(mean, std, variance):
    latents = 4
    z = mean + std * torch.randn(4000, latents, dtype=torch.float64)
    exact = mmd_of_gaussians(mean, std, latents, latents / 2 if variance is None else variance)
    assert mmd_standard_normal(z, variance).item() == pytest.approx(exact, abs=0.01)


def test_mmd_is_unbiased_in_small_batches():
    found = torch.stack([mmd_standard_normal(1 + torch.randn(4, 2)) for _ in range(4000)])
    exact = mmd_of_gaussians(1, 1, 2, 1.0)
    assert abs(found.mean() - exact) < 4 * found.std() / 4000**0.5
    with pytest.raises(ValueError, match="needs at least 2 codes"):
        mmd_standard_normal(torch.randn(1, 2))
