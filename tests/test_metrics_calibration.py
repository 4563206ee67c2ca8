import math

import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import binary_calibration_error

from multibeta.evaluation import sweep
from multibeta.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    Laplace,
    LearnedGaussian,
    PixelGaussian,
)
from multibeta.metrics import Calibration
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from tests.test_evaluation import model


def constant(likelihood, d=30):
    """A model whose p(x|z) has mean 0 at every z."""
    vae = MultiBetaVAE.of((d,), network=MLP(8), latent_dim=2, likelihood=likelihood)
    for parameter in vae.decoder.parameters():
        nn.init.zeros_(parameter)
    return vae


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("likelihood", [Gaussian(0.3), LearnedGaussian(0.3), PixelGaussian()])
def test_of_gaussians_with_a_known_error(likelihood, ratio):
    vae = constant(likelihood)
    with torch.no_grad():
        sigma = vae.at_beta(1.0).decode(torch.zeros(1, 2)).stddev.flatten()[0].item()
    x = sigma * ratio * torch.randn(4_000, 30)
    (row,) = sweep(vae, [x], "1", metrics="calibration").rows
    normal = torch.distributions.Normal(0.0, 1.0)
    assert row["calibration_residual"] == pytest.approx(ratio**2, rel=0.02)
    of_each = (x / sigma).square().mean(1)
    se = of_each.std().item() / math.sqrt(len(x))
    assert row["calibration_residual_se"] == pytest.approx(se, rel=1e-3)
    for name, quantile in (("50", 0.75), ("90", 0.95)):
        within = normal.icdf(torch.tensor(quantile)) / ratio
        expected = (2 * normal.cdf(within) - 1).item()
        assert row[f"calibration_{name}"] == pytest.approx(expected, abs=0.006)


def test_of_laplace():
    scale = 0.3 / math.sqrt(2)
    x = torch.distributions.Laplace(0.0, scale).sample((4_000, 30))
    (row,) = sweep(constant(Laplace(0.3)), [x], "1", metrics="calibration").rows
    assert row["calibration_residual"] == pytest.approx(1, rel=0.04)
    assert row["calibration_50"] == pytest.approx(0.5, abs=0.006)
    assert row["calibration_90"] == pytest.approx(0.9, abs=0.006)


def test_a_table_in_units_of_its_own():
    """Standardised by the model, a table of any units is as calibrated as in the model's."""
    torch.manual_seed(0)
    x = torch.randn(200, 5)
    rows = []
    for unit in (1.0, 1_000.0):
        torch.manual_seed(0)
        vae = MultiBetaVAE.of(
            (5,), network=MLP(8), latent_dim=2, likelihood=Gaussian(0.5),
            standard=(unit * x.mean(0), unit * x.std(0)),
        )  # fmt: skip
        rows.append(sweep(vae, [unit * x], "1", metrics="calibration").rows[0])
    for name in ("calibration_residual", "calibration_50", "calibration_90"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-3)


@pytest.mark.parametrize("bins", [15, 4])
def test_of_bernoulli_it_is_torchmetrics(bins):
    torch.manual_seed(0)
    vae = model(likelihood=Bernoulli())
    x = (torch.rand(50, 1, 8, 8) < 0.4).float()
    curve = sweep(vae, [x[:30], x[30:]], "1", metrics={"calibration": {"bins": bins}})
    noise = torch.cat(
        [
            torch.randn(n, *vae.latent_shape, generator=torch.Generator().manual_seed(i))
            for i, n in enumerate((30, 20))
        ]
    )
    with torch.no_grad():
        at_beta = vae.at_beta(1.0)
        p = at_beta.decode(at_beta.elbo_terms(x, noise).z).mean
    expected = binary_calibration_error(p.flatten(), x.flatten().long(), n_bins=bins)
    assert curve["calibration_error"] == pytest.approx([expected.item()], rel=1e-4)


def test_what_it_refuses():
    vae = model(likelihood=ContinuousBernoulli())
    with pytest.raises(ValueError, match="Gaussians, Laplace and Bernoulli, not ContinuousBern"):
        sweep(vae, [torch.rand(3, 1, 8, 8)], "1", metrics="calibration")
    with pytest.raises(ValueError, match="bins=0 is too small; it is at least 1"):
        Calibration(model().at_beta(1.0), bins=0)
