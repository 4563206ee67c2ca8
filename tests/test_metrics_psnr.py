import math

import pytest
import torch
from torch.distributions import Independent, Normal
from torchmetrics.functional.image import peak_signal_noise_ratio

from multibeta.likelihoods import Bernoulli, Gaussian
from multibeta.metrics import PSNR, Evaluated
from multibeta.vae import BetaVAE, ELBOTerms


def test_against_torchmetrics():
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.Unflatten(1, (1, 3, 4)))
    vae = BetaVAE(torch.nn.Identity(), decoder, Bernoulli(), (2,), 1.0)
    x, mean = torch.rand(20, 1, 3, 4), torch.randn(20, 2)
    q = Independent(Normal(mean, torch.ones(20, 2)), 1)
    metric = PSNR(vae)
    with torch.no_grad():
        metric.update(Evaluated(x, ELBOTerms(x[:, 0, 0, 0], mean, q, q.sample()), torch.randn))
        expected = torch.stack([
            peak_signal_noise_ratio(vae.decode(m[None]).mean, y[None], data_range=1.0)
            for m, y in zip(mean, x, strict=True)
        ])  # fmt: skip
    found = metric.compute()
    assert found["psnr_db"] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert found["psnr_se"] == pytest.approx(expected.std().item() / 20**0.5, rel=1e-3)


def test_a_peak_of_one_is_for_pictures_in_0_to_1():
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.Unflatten(1, (1, 3, 4)))
    vae = BetaVAE(torch.nn.Identity(), decoder, Gaussian(0.5), (2,), 1.0)
    x, mean = torch.rand(20, 1, 3, 4), torch.randn(20, 2)
    q = Independent(Normal(mean, torch.ones(20, 2)), 1)
    terms = ELBOTerms(torch.zeros(20), torch.zeros(20, 2), q, mean)
    with torch.no_grad(), pytest.raises(ValueError, match=r"x has values in \[-.*set its peak"):
        PSNR(vae).update(Evaluated(2 * x - 1, terms, torch.randn))
    found = []
    for peak in (1.0, 2.0):
        metric = PSNR(vae, peak)
        with torch.no_grad():
            metric.update(Evaluated(x, terms, torch.randn))
        found.append(metric.compute()["psnr_db"])
    assert found[1] - found[0] == pytest.approx(20 * math.log10(2))
