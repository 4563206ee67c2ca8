import math

import pytest
import torch

import multibeta
from multibeta.likelihoods import Bernoulli, Gaussian
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP


def sweep(likelihood, x, **kwargs):
    torch.manual_seed(0)
    model = MultiBetaVAE.of((1, 3, 4), likelihood=likelihood, network=MLP(8), latent_dim=2)
    return multibeta.sweep(model, x, "0.1,1", metrics="squared_error", **kwargs)


def test_it_is_what_is_in_the_distortion_of_a_gaussian():
    sigma, d = 0.3, 12
    curve = sweep(Gaussian(sigma), list(torch.rand(40, 1, 3, 4).split(15)))
    for row in curve.rows:
        constant = d / 2 * math.log(2 * math.pi * sigma**2)
        expected = 2 * sigma**2 * (row["distortion_nats"] - constant)
        assert row["squared_error"] == pytest.approx(expected, rel=1e-5)
        expected = 2 * sigma**2 * row["distortion_se"]
        assert row["squared_error_se"] == pytest.approx(expected, rel=1e-5)


def test_no_sigma_gives_less_distortion_than_the_profiled_one():
    x = list(torch.rand(40, 1, 3, 4).split(15))
    (row, _) = sweep(Gaussian(0.3), x).rows
    at_best = sweep(Gaussian(row["profiled_sigma"]), x).rows[0]
    assert at_best["distortion_nats"] == pytest.approx(row["profiled_distortion_nats"], rel=1e-5)
    for factor in (0.9, 1.1):
        other = sweep(Gaussian(factor * row["profiled_sigma"]), x).rows[0]
        assert other["distortion_nats"] > row["profiled_distortion_nats"]


def test_any_likelihood_has_it():
    (row, _) = sweep(Bernoulli(), [torch.rand(6, 1, 3, 4)]).rows
    assert row["profiled_sigma"] == pytest.approx(math.sqrt(row["squared_error"] / 12))
