import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import nn

from multibeta.likelihoods import Bernoulli
from multibeta.priors import GMMPrior, fit_flow, fit_gmm
from multibeta.vae import BetaVAE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def known():
    weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    means = torch.tensor([[-4.0, 0.0, 1.0], [3.0, 2.0, -1.0]], dtype=torch.float64)
    factors = torch.tensor([[[1.0, 0, 0], [0.5, 0.3, 0], [0, 0.2, 2]]] * 2, dtype=torch.float64)
    factors[1] *= 0.5
    return GMMPrior(weights, means, factors)


def test_samples_have_the_moments_of_the_mixture(known):
    z = known.sample((200_000,), generator=seeded())
    assert torch.allclose(z.mean(0), known.mean, atol=0.03)
    assert torch.allclose(z.var(0), known.variance, rtol=0.02)
    assert (z[:, 0] < 0).double().mean().item() == pytest.approx(0.2, abs=0.01)
    second = z[z[:, 0] > 0]
    factor = known.scale_tril[1]
    assert torch.allclose(second.T.cov(), factor @ factor.T, atol=0.02)


def test_a_fit_finds_the_mixture_it_was_drawn_from(known):
    found = fit_gmm(known.sample((20_000,), generator=seeded()), components=2)
    order = found.means[:, 0].argsort()
    assert torch.allclose(
        found.mixture_distribution.probs[order], torch.tensor([0.2, 0.8]).double(), atol=0.01
    )
    assert torch.allclose(found.means[order], known.means, atol=0.1)
    z = known.sample((5_000,), generator=seeded(1))
    assert found.log_prob(z).mean().item() == pytest.approx(
        known.log_prob(z).mean().item(), abs=0.02
    )


def test_its_density_is_that_of_scikit_learn():
    z = torch.randn(300, 4, generator=seeded(), dtype=torch.float64)
    z = (z - z.mean(0)) / z.std(0, correction=0)
    theirs = GaussianMixture(3, max_iter=1000, random_state=5).fit(z.numpy())
    ours = fit_gmm(z, components=3, seed=5)
    assert np.allclose(ours.log_prob(z).numpy(), theirs.score_samples(z.numpy()), atol=1e-6)


def test_the_same_generator_gives_the_same_codes(known):
    first = known.sample((7,), generator=seeded(3))
    assert torch.equal(first, known.sample((7,), generator=seeded(3)))
    assert not torch.equal(first, known.sample((7,), generator=seeded(4)))
    torch.manual_seed(9)
    first = known.sample((2, 3))
    torch.manual_seed(9)
    assert torch.equal(first, known.sample((2, 3)))
    assert first.shape == (2, 3, 3)
    assert known.sample().shape == (3,)


def test_pictures_from_it():
    z = torch.randn(50, 2)
    vae = BetaVAE(nn.Identity(), nn.Unflatten(1, (1, 1, 2)), Bernoulli(), (2,), 1.0)
    vae.nothing = nn.Parameter(torch.zeros(1))
    assert vae.sample(5, prior=fit_gmm(z, 3)).shape == (5, 1, 1, 2)
    assert fit_gmm(z.bfloat16(), 2).sample((3,)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "z",
    [
        torch.full((30, 3), 7.0),
        torch.zeros(5, 3),
        torch.randn(30, 3) * torch.tensor([1.0, 0.0, 1e6]),
        torch.randn(4, 8),
        torch.randn(1, 3),
        torch.randn(2, 3),
        torch.tensor([[0.0, 1.0], [2.0, 1.0]]).repeat(10, 1),
        torch.randn(40, 3) * 1e-20,
    ],
    ids=["equal", "zeros", "one dead", "few", "one", "two", "two values", "tiny"],
)
def test_collapsed_latents_and_few_codes(z):
    """Without a warning: they are errors here."""
    found = fit_gmm(z).sample((200,), generator=seeded())
    assert found.isfinite().all()
    low, high = z.min(0).values, z.max(0).values
    slack = 4 * (high - low) + 0.01
    assert ((found > low - slack) & (found < high + slack)).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_codes_that_are_not_finite(value):
    z = torch.randn(10, 3)
    z[[2, 5], 1] = value
    with pytest.raises(ValueError, match="2 of 10 codes are NaN or infinite") as info:
        fit_gmm(z)
    assert "\n" not in str(info.value)


def test_what_cannot_be_fitted():
    with pytest.raises(ValueError, match=r"shape \(0, 3\) cannot be fitted"):
        fit_gmm(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="components=0 is too small; it is at least 1"):
        fit_gmm(torch.randn(10, 3), 0)


def two_modes(n):
    return (
        3
        + 2 * (torch.randint(0, 2, (n, 1), generator=seeded()) * 2 - 1)
        + 0.3 * torch.randn(n, 1, generator=seeded(1))
    )


def irreducible(mean, std, n=400_000):
    """The least error of a velocity, for z = ±mean with noise std, by Monte Carlo."""
    t, e = torch.rand(n, generator=seeded(2)), torch.randn(n, generator=seeded(3))
    z = two_modes(n).flatten() / 2 - 1.5
    z = z * mean
    x = (1 - t) * z + t * e
    variance = (1 - t) ** 2 * std**2 + t**2
    modes = torch.tensor([[mean], [-mean]])
    away = x - (1 - t) * modes
    weight = torch.softmax(-away.square() / (2 * variance), 0)
    velocity = (t - (1 - t) * std**2) / variance * away - modes
    return (e - z - (weight * velocity).sum(0)).square().mean().item()


def test_a_flow_finds_two_modes_and_its_error_is_the_least_there_is():
    z = two_modes(3000)
    flow = fit_flow(z, steps=2000, width=48)
    found = flow.sample((3000,), seeded())
    assert ((found > 3).float().mean() - 0.5).abs() < 0.04
    assert ((found - 3).abs() < 1).float().mean() < 0.06  # the gap between them
    assert ((found - 3).abs() - 2).abs().median() < 0.3
    std = z.std().item()
    assert flow.loss == pytest.approx(irreducible(2 / std, 0.3 / std), abs=0.08)
    one, again = (fit_flow(z, steps=9).sample((5,), seeded()) for _ in range(2))
    assert torch.equal(one, again)


def test_what_no_flow_can_be_fitted_to():
    with pytest.raises(ValueError, match="too few for a flow"):
        fit_flow(torch.zeros(19, 2))
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_flow(torch.full((40, 2), torch.nan))
