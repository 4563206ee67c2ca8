import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from multibeta.data import Digits
from multibeta.evaluation import sweep
from multibeta.likelihoods import Gaussian
from multibeta.metrics import NLL, Evaluated
from multibeta.vae import BetaVAE
from tests.test_evaluation import model

SIGMA, PIXELS, LATENTS = 0.5, 4, 2


@pytest.fixture
def linear():
    """A linear VAE with a posterior that is near the right one, but not it."""
    decoder = nn.Linear(LATENTS, PIXELS)
    nn.init.normal_(decoder.weight, std=0.7)
    encoder = nn.Linear(PIXELS, 2 * LATENTS)
    w = decoder.weight.detach()
    precision = torch.eye(LATENTS) + w.T @ w / SIGMA**2
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:LATENTS] = 0.9 * torch.linalg.solve(precision, w.T) / SIGMA**2
        encoder.bias[:LATENTS] = -encoder.weight[:LATENTS] @ decoder.bias
        # With β = 1 the variance is 1 / (1 + e^h): a little more than the right one.
        encoder.bias[LATENTS:] = (precision.diagonal() / 1.5 - 1).clamp(min=0.1).log()
    shape = (1, 1, PIXELS)
    vae = BetaVAE(
        nn.Sequential(nn.Flatten(), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, shape)),
        Gaussian(SIGMA), (LATENTS,), 1.0, "curvature",
    )  # fmt: skip
    covariance = w @ w.T + SIGMA**2 * torch.eye(PIXELS)
    return vae, MultivariateNormal(decoder.bias.detach(), covariance)


def _noise(draw, n, samples):
    return draw(samples, n, LATENTS)


@torch.no_grad()
def measured(vae, x, samples, most=10_000):
    metric = NLL(vae, samples, most)
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    for batch in x.split(500):
        terms = vae.elbo_terms(batch, draw(len(batch), LATENTS))
        metric.update(Evaluated(batch, terms, partial(_noise, draw, len(batch))))
    metric.finish()
    return metric.compute()


def test_both_estimates_of_a_linear_vae_reach_the_exact_likelihood(linear):
    vae, exact = linear
    x = exact.sample((2000,))
    truth = -exact.log_prob(x).mean().item()
    found = measured(vae, x.view(-1, 1, 1, PIXELS), 512)
    # Standard errors are those of the examples; the same examples make the exact value. What is
    # left is the noise of the K samples.
    assert abs(found["nll_nats"] - truth) < 3 * found["nll_se"]
    assert found["nll_nats"] == pytest.approx(truth, abs=0.01)
    assert found["nll_prior_nats"] == pytest.approx(truth, abs=0.1)
    assert 1 < found["nll_ess"] < 512


def test_the_elbo_gap_of_a_linear_vae_is_that_of_its_posterior(linear):
    """For K large it is KL(q(z|x) ‖ p(z|x)), here of two Gaussians."""
    vae, exact = linear
    x = exact.sample((2000,))
    found = measured(vae, x.view(-1, 1, 1, PIXELS), 256)
    with torch.no_grad():
        q = vae.encode(x.view(-1, 1, 1, PIXELS))
        w, bias = vae.decoder[0].weight, vae.decoder[0].bias
        precision = torch.eye(LATENTS) + w.T @ w / SIGMA**2
        mean = torch.linalg.solve(precision, w.T @ (x - bias).T / SIGMA**2).T
        true = MultivariateNormal(mean, precision_matrix=precision)
        mine = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
        expected = torch.distributions.kl_divergence(mine, true).mean().item()
    assert expected > 4 * found["elbo_gap_se"]
    assert found["elbo_gap_nats"] == pytest.approx(expected, abs=3 * found["elbo_gap_se"])
    assert found["elbo_gap_nats_bound"] == 0
    far = measured(vae, (10 * x).view(-1, 1, 1, PIXELS), 64)  # few samples count
    assert (far["nll_nats_bound"], far["elbo_gap_nats_bound"]) == (-1, 1)


def test_more_samples_tighten_the_bound_and_one_is_the_elbo(linear):
    vae, exact = linear
    x = exact.sample((1000,)).view(-1, 1, 1, PIXELS)
    bounds = [measured(vae, x, k) for k in (1, 4, 16, 64)]
    values = [bound["nll_nats"] for bound in bounds]
    assert values == sorted(values, reverse=True)
    assert bounds[0]["nll_ess"] == pytest.approx(1)
    with torch.no_grad():
        noise = torch.randn(1000, LATENTS, generator=torch.Generator().manual_seed(3))
        terms = vae.elbo_terms(x, noise)
    elbo = (terms.distortion + terms.rate_nats).mean().item()
    assert values[0] == pytest.approx(elbo, abs=4 * bounds[0]["nll_se"])


def test_the_right_posterior_needs_one_sample_only():
    """With no weights the posterior is the prior, all weights are equal, and the s.e. is real."""
    decoder = nn.Linear(LATENTS, PIXELS)
    nn.init.zeros_(decoder.weight)
    encoder = nn.Linear(PIXELS, 2 * LATENTS)
    nn.init.zeros_(encoder.weight)
    with torch.no_grad():
        encoder.bias[:] = torch.tensor([0.0, 0.0, -80.0, -80.0])
    vae = BetaVAE(
        nn.Sequential(nn.Flatten(), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, (1, 1, PIXELS))),
        Gaussian(SIGMA), (LATENTS,), 1.0, "curvature",
    )  # fmt: skip
    x = torch.randn(50, 1, 1, PIXELS)
    found = measured(vae, x, 8)
    assert found["nll_ess"] == pytest.approx(8, rel=1e-6)
    assert found["nll_nats"] == pytest.approx(found["nll_prior_nats"], rel=1e-6)
    with torch.no_grad():
        each = -vae.decode(torch.zeros(50, LATENTS)).log_prob(x)
    assert found["nll_se"] == pytest.approx(each.std().item() / math.sqrt(50), rel=1e-4)


def test_uses_no_more_examples_than_asked_for(linear):
    vae, exact = linear
    x = exact.sample((1200,)).view(-1, 1, 1, PIXELS)
    some = measured(vae, x, 4, most=600)
    assert some["nll_examples"] == 600
    assert some["nll_nats"] != measured(vae, x, 4)["nll_nats"]


def test_samples_are_at_least_one(linear):
    with pytest.raises(ValueError, match="samples=0 is too small; it is at least 1"):
        NLL(linear[0], 0)


def test_examples_are_spread_over_the_set():
    """A set that is sorted: dark pictures first."""
    data = Digits(batch_size=100)
    data.setup()
    x = data.splits["test"]
    data.splits["test"] = x[x.float().mean((1, 2, 3)).argsort()]
    vae = model(likelihood=Gaussian(0.3))
    few, every = (
        sweep(vae, data, "1", metrics={"nll": {"samples": 2, "most": most}}).rows[0]
        for most in (60, 400)
    )
    assert (few["nll_examples"], every["nll_examples"]) == (60, 359)
    assert few["nll_nats"] == pytest.approx(every["nll_nats"], abs=4 * few["nll_se"])
    first = sweep(vae, [data.splits["test"][:60]], "1", metrics={"nll": {"samples": 2}}).rows[0]
    assert abs(first["nll_nats"] - every["nll_nats"]) > 4 * first["nll_se"]
