"""The search for codes: against closed forms, and every whole number near."""

import itertools

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from multibeta.codec.search import Search
from multibeta.likelihoods import Gaussian
from multibeta.vae import BetaVAE

BETA, SIGMA, LATENTS, VALUES = 0.5, 0.3, 3, 7


class Linear(nn.Module):
    """x̂ = Wz + b, of latents that are far from orthogonal."""

    def __init__(self, own_distribution=False):
        super().__init__()
        w = torch.randn(VALUES, LATENTS, generator=torch.Generator().manual_seed(3))
        w[:, 1] += 2 * w[:, 0]
        self.weight, self.own_distribution = nn.Parameter(w), own_distribution

    def forward(self, z):
        mean = z @ self.weight.T + 0.1
        return Independent(Normal(mean, SIGMA), 1) if self.own_distribution else mean


@pytest.fixture
def x():
    return torch.randn(40, VALUES, generator=torch.Generator().manual_seed(4))


def searched(x, most=LATENTS, **decoder):
    """Return the search of a linear VAE, what was rounded, J, and A in closed form."""
    vae = BetaVAE(nn.Linear(VALUES, 2 * LATENTS), Linear(**decoder), Gaussian(SIGMA), (LATENTS,),
                  BETA, shape=(VALUES,)).requires_grad_(False)  # fmt: skip
    w = vae.decoder.weight.double()
    a = BETA * torch.eye(LATENTS) + w.T @ w / SIGMA**2
    best = torch.linalg.solve(a, w.T @ (x.double() - 0.1).T / SIGMA**2).T
    std = (BETA / a.diagonal()).sqrt().expand(len(x), -1).contiguous()
    step = 12**0.5 * std[0]
    live = torch.ones(LATENTS, dtype=torch.bool)
    search = Search(vae, x, live, step, std, {}, most)

    def cost(k):
        off = k * step - best
        return (off @ a * off).sum(-1) / 2

    return search, (best / step).round(), cost, a


def test_curvature_is_that_of_a_linear_gaussian_model(x):
    """β I + WᵀW/σ²."""
    search, rounded, _, a = searched(x)
    found = search._curvature(rounded)
    torch.testing.assert_close(found, a.expand(len(x), -1, -1), rtol=1e-3, atol=1e-3)


def test_codes_are_nearly_the_best_of_all(x):
    """Of all codes within two steps of what was found, few are better, and not by much."""
    search, rounded, cost, _ = searched(x)
    found = cost(search.best(rounded))
    near = torch.tensor([*itertools.product(range(-2, 3), repeat=LATENTS)]).double()
    least = torch.stack([cost(search.best(rounded) + shift) for shift in near]).min(0).values
    assert (found <= cost(rounded) + 1e-4).all()
    assert (found - least).mean() < 0.15 * (cost(rounded) - least).mean()
    assert (found < least + 1e-4).double().mean() > 0.75


@pytest.mark.parametrize("how", [{"most": LATENTS - 1}, {"own_distribution": True}])
def test_without_the_matrix_single_latents_are_moved(x, how):
    search, rounded, cost, _ = searched(x, **how)
    found = search.best(rounded)
    assert ((found - rounded).abs() <= 1).all()
    assert (cost(found) <= cost(rounded) + 1e-4).all()
    assert (cost(found) < cost(rounded) - 1e-2).double().mean() > 0.2


def test_dead_latents_and_no_examples_stay(x):
    search, rounded, _, _ = searched(x)
    search._at, search._step = search._at[:2], search._step[:2]
    search._std, search._most = search._std[:, :2], 2
    assert (search.best(rounded)[:, 2] == rounded[:, 2]).all()
    assert search.best(rounded[:0]).shape == (0, LATENTS)
