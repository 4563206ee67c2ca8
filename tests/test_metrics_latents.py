import pytest
import torch
from torch.distributions import Independent, Normal

import multibeta
from multibeta.checkpoints import load_data
from multibeta.divergences import kl_standard_normal
from multibeta.metrics import Evaluated, Latents
from multibeta.vae import BetaVAE, ELBOTerms


def measured(mean, std, **settings):
    shape = tuple(mean.shape[1:])
    vae = BetaVAE(torch.nn.Identity(), torch.nn.Identity(), None, shape, 1.0)
    metric = Latents(vae, **settings)
    for m, s in zip(mean.split(70), std.split(70), strict=True):
        q = Independent(Normal(m, s), m.ndim - 1)
        metric.update(
            Evaluated(m, ELBOTerms(m.flatten(1)[:, 0], kl_standard_normal(q), q, m), torch.randn)
        )
    return metric.compute()


def test_latents_that_live_are_those_above_the_rate():
    """KL of N(0, s²) from the prior is ½(s² − 1) − log s: known for each latent."""
    std = torch.tensor([0.1, 0.5, 0.6, 1.0]).expand(200, 4)
    found = measured(torch.zeros(200, 4), std)
    expected = 0.5 * (std[0] ** 2 - 1) - std[0].log()
    assert found["latent_rate_nats"] == pytest.approx(expected.tolist(), rel=1e-5)
    assert expected.tolist()[1:3] == pytest.approx([0.318, 0.191], abs=1e-3)
    assert found["live_latents"] == 2
    assert measured(torch.zeros(200, 4), std, nats=0.15)["live_latents"] == 3
    assert found["axes_80"] == found["axes_99"] == 0  # the means do not vary


def test_axes_of_a_known_spectrum_rotated():
    variances = torch.tensor([16.2, 2.0, 0.9, 0.75, 0.15, 0.0])
    z = torch.linalg.qr(torch.randn(300, 6)).Q
    z = torch.linalg.qr(z - z.mean(0)).Q * 300**0.5 * variances.sqrt()
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    found = measured(z @ rotation, torch.ones(300, 6))
    shares = [found[f"axes_{share}"] for share in (80, 90, 95, 99)]
    assert shares == [1, 2, 3, 4]  # of 20: 16.2, 18.2, 19.1, 19.85


def test_of_a_map_the_channels_are_latents():
    mean = torch.randn(100, 3, 4) * torch.tensor([3.0, 1.0, 0.0])[:, None]
    found = measured(mean, torch.ones(100, 3, 4))
    assert (found["axes_80"], found["axes_99"]) == (1, 2)
    assert len(found["latent_rate_nats"]) == 3
    offsets = torch.arange(4) * 10.0  # the mean of a position is no variance
    assert measured(mean + offsets, torch.ones(100, 3, 4))["axes_80"] == 1


def test_the_rates_are_those_of_active_units():
    model, data = multibeta.load("digits"), load_data("digits")
    found = multibeta.sweep(model, data, "0.1,10", metrics=["latents"])
    other = multibeta.sweep(model, data, "0.1,10", metrics=["active_units"])
    for mine, theirs in zip(found.latents, other.latents, strict=True):
        assert mine["latent_rate_nats"] == theirs["latent_rate_nats"]
    assert found["live_latents"][0] > found["live_latents"][1]
