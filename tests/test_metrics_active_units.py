import math

import pytest
import torch
from torch.distributions import Independent, Normal

from multibeta.divergences import kl_standard_normal
from multibeta.metrics import ActiveUnits, Evaluated
from multibeta.vae import BetaVAE, ELBOTerms


def evaluated(mean, std):
    q = Independent(Normal(mean, std), 1)
    return Evaluated(mean, ELBOTerms(mean[:, 0], kl_standard_normal(q), q, mean), torch.randn)


def metric(latents):
    return ActiveUnits(BetaVAE(torch.nn.Identity(), torch.nn.Identity(), None, (latents,), 1.0))


def test_counts_latents_whose_mean_varies():
    spread = torch.tensor([1.0, 0.2, 0.05, 0.0])
    mean, std = spread * torch.randn(1000, 4), torch.full((1000, 4), 0.5)
    units, whole = metric(4), metric(4)
    whole.update(evaluated(mean, std))
    for part in (mean[:300], mean[300:]):
        units.update(evaluated(part, torch.full_like(part, 0.5)))
    found = units.compute()
    assert found["active_units"] == 2  # .2² = .04 and .05² = .0025 lie around .01
    assert found["latent_variance"] == pytest.approx(mean.double().var(0).tolist(), abs=1e-9)
    expected = 0.5 * (mean.square() + 0.25 - 1 - math.log(0.25)).mean(0)
    assert found["latent_rate_nats"] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found["latent_variance"] == pytest.approx(whole.compute()["latent_variance"])


def test_all_latents_collapsed_and_one_example():
    units = metric(3)
    units.update(evaluated(torch.full((5, 3), 7.0), torch.ones(5, 3)))
    assert units.compute()["active_units"] == 0
    one = metric(3)
    one.update(evaluated(torch.zeros(1, 3), torch.ones(1, 3)))
    found = one.compute()
    assert found["active_units"] == 0
    assert all(math.isnan(v) for v in found["latent_variance"])
