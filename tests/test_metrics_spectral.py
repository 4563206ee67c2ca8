import math

import numpy as np
import pytest
import scipy.signal
import torch

from multibeta.evaluation import sweep
from multibeta.likelihoods import Gaussian
from multibeta.metrics import LogSpectralDistance
from multibeta.metrics.spectral import log_spectral_distance
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from tests.test_evaluation import model


def signals(n=4, channels=2, length=500, seed=0):
    return torch.randn(n, channels, length, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_a_gain_is_its_decibels(gain):
    x = signals()
    found = log_spectral_distance(x, gain * x)
    assert torch.allclose(found, torch.full((4,), abs(20 * math.log10(gain)), dtype=torch.float64))
    assert log_spectral_distance(x, x).max() == 0


def test_it_is_that_of_scipys_spectra():
    x, y = signals(), signals(seed=1)
    padded = [np.pad(v.double().numpy(), ((0, 0), (0, 0), (32, 32)), "reflect") for v in (x, y)]
    of_x, of_y = (
        np.abs(scipy.signal.stft(v, window="hann", nperseg=64, noverlap=48, boundary=None,
                                 padded=False)[2]) ** 2
        for v in padded
    )  # fmt: skip
    ratio = 10 * np.log10(of_x / of_y)
    expected = np.sqrt((ratio**2).mean(-2)).mean((-2, -1))
    assert log_spectral_distance(x, y, window=64, floor_db=-300).numpy() == pytest.approx(expected)


def test_silence_is_at_the_floor():
    x = signals()
    assert log_spectral_distance(0 * x, 0 * x).max() == 0
    found = log_spectral_distance(x, 0 * x, floor_db=-40)
    assert ((found > 20) & (found < 40)).all()


def test_a_sweep_over_signals():
    torch.manual_seed(0)
    vae = MultiBetaVAE.of((2, 40), network=MLP(8), latent_dim=2, likelihood=Gaussian(0.3))
    x = signals(6, 2, 40)
    curve = sweep(vae, [x[:4], x[4:]], "1", metrics={"log_spectral": {"window": 64}})
    with torch.no_grad():
        of_each = log_spectral_distance(x, vae.at_beta(1.0).reconstruct(x), 64)
    assert curve["lsd_db"] == pytest.approx([of_each.mean().item()], rel=1e-5)
    assert curve["lsd_se"] == pytest.approx([of_each.std().item() / math.sqrt(6)], rel=1e-5)
    assert curve.about["log_spectral"] == {"window": 40, "hop": 10, "floor_db": -80}


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"it is for signals \(C, T\), and x is \(1, 8, 8\)"):
        sweep(model(), [torch.rand(3, 1, 8, 8)], "1", metrics="log_spectral")
    for settings, message in (({"window": 1}, "window=1 is too"), ({"floor_db": 3}, "floor_db=3")):
        with pytest.raises(ValueError, match=message):
            LogSpectralDistance(model().at_beta(1.0), **settings)
