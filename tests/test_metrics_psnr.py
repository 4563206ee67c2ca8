import pytest
import torch
from torch.distributions import Independent, Normal
from torchmetrics.functional.image import peak_signal_noise_ratio

from multibeta.likelihoods import Bernoulli
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
