import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch.distributions import Independent, Normal

from multibeta.curve import _table
from multibeta.divergences import kl_standard_normal
from multibeta.metrics import VIV, Evaluated
from multibeta.metrics.viv import biases, excess_kurtosis, principal_axes, velocity_variance
from multibeta.vae import BetaVAE, ELBOTerms

VARIANCES = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)


def exact(n, variances=VARIANCES):
    """Codes whose covariance has these eigenvalues to float error, and no axes of its own."""
    z = torch.randn(n, len(variances), dtype=torch.float64)
    z = (z - z.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
    rotation = torch.linalg.qr(torch.randn(len(variances), len(variances)).double()).Q
    return z * variances.sqrt() @ rotation


def measured(z, most=10_000, shape=None):
    shape = shape or z.shape[1:]
    metric = VIV(BetaVAE(torch.nn.Identity(), torch.nn.Identity(), None, tuple(shape), 1.0), most)
    for part in z.split(100):
        q = Independent(Normal(part, torch.ones_like(part)), part.ndim - 1)
        terms = ELBOTerms(part.flatten(1)[:, 0], kl_standard_normal(q), q, part)
        metric.update(Evaluated(part, terms, torch.randn))
    return metric.compute()


def test_it_is_the_integral_of_the_variance_that_no_flow_explains():
    """Of a Gaussian, Cov(v | x_t) = Cov v − Cov(v, x_t) Cov(x_t)⁻¹ Cov(x_t, v), v = ε − z."""

    def irreducible(t, variance):
        total, place = 1 + variance, t**2 + (1 - t) ** 2 * variance
        return total - (t - (1 - t) * variance) ** 2 / place

    expected = sum(quad(irreducible, 0, 1, args=(v,))[0] for v in VARIANCES.tolist())
    found = measured(exact(400))
    assert found["viv"] == pytest.approx(expected, rel=1e-6)
    assert found["viv"] == pytest.approx(math.pi / 2 * 3.5)


def test_scale_rank_and_shares_of_a_known_covariance():
    found = measured(exact(400))
    scale = math.sqrt(5.25 / 3)
    assert found["viv_scale"] == pytest.approx(scale)
    assert found["viv_scaled"] == pytest.approx(math.pi / 2 * 3.5 / scale)
    assert found["effective_rank"] == pytest.approx(5.25**2 / (16 + 1 + 1 / 16))
    assert found["axis_share"] == pytest.approx([4 / 5.25, 5 / 5.25, 1])


def test_z_divided_by_its_scale():
    z = exact(300)
    found = measured(z)
    scaled = measured(z / found["viv_scale"])
    assert scaled["viv_scale"] == pytest.approx(1)
    assert scaled["viv"] == pytest.approx(found["viv_scaled"])
    assert scaled["viv_scaled"] == pytest.approx(found["viv_scaled"])
    assert scaled["effective_rank_se"] == pytest.approx(found["effective_rank_se"])


def test_standard_errors_and_bias_are_those_of_many_samples():
    """Of codes that are not Gaussian: the delta method does not need it."""
    n, names = 150, ("viv", "viv_scale", "viv_scaled", "effective_rank")
    draws = stats.laplace.rvs(size=(400, n, 3), random_state=0) / math.sqrt(2)
    found = [velocity_variance(torch.from_numpy(d) * VARIANCES.sqrt()) for d in draws]
    for name in names:
        spread = np.std([values[name] for values, _ in found])
        said = np.mean([influence[name].std().item() / math.sqrt(n) for _, influence in found])
        assert said == pytest.approx(spread, rel=0.15), name
    gaussian = np.random.default_rng(0).normal(size=(1000, 60, 12))
    variances = torch.linspace(0.2, 3, 12, dtype=torch.float64)
    mean = np.mean(
        [velocity_variance(torch.from_numpy(d) * variances.sqrt())[0]["viv"] for d in gaussian]
    )
    low = math.pi / 2 * variances.sqrt().sum().item() - mean
    assert biases(variances, 60)["viv"] == pytest.approx(low, rel=0.2)
    assert biases(torch.ones(9).double(), 50)["viv"] == pytest.approx(math.pi / 2 * 9 * 10 / 400)


def test_more_values_than_examples_is_marked_as_a_bound():
    z = torch.randn(40, 60)
    found = measured(z)
    assert found["viv_bound"] == found["effective_rank_bound"] == 1
    assert found["viv"] < 0.9 * math.pi / 2 * 60
    singular = np.linalg.svd((z - z.mean(0)).double().numpy(), compute_uv=False)
    assert found["viv"] == pytest.approx(math.pi / 2 * singular.sum() / math.sqrt(39), rel=1e-6)
    assert measured(torch.randn(2000, 3))["viv_bound"] == 0


def test_the_table_says_why_a_figure_is_marked():
    rows = ({"beta": 1.0, "rate_nats": 1.0} | measured(torch.randn(40, 60)),)
    rows = tuple({k: v for k, v in row.items() if not isinstance(v, list)} for row in rows)
    assert "the examples are few for so many axes" in _table(rows, "beta")
    assert "≥" in _table(rows, "beta")


def test_coordinates_along_the_axes():
    for shape in ((50, 4), (4, 50)):
        z = torch.randn(shape, dtype=torch.float64)
        variances, along = principal_axes(z)
        centred = z - z.mean(0)
        torch.testing.assert_close(along @ along.T, centred @ centred.T)
        torch.testing.assert_close(along.var(0), variances, rtol=1e-6, atol=1e-9)


def test_kurtosis_against_scipy_and_its_error():
    z = torch.from_numpy(stats.uniform.rvs(size=(4000, 2, 1), random_state=1))
    found, influence = excess_kurtosis(z)
    assert found.tolist() == pytest.approx(stats.kurtosis(z[:, :, 0].numpy(), axis=0).tolist())
    assert found.tolist() == pytest.approx([-1.2, -1.2], abs=0.05)
    draws = torch.from_numpy(stats.norm.rvs(size=(300, 400, 1, 1), random_state=2))
    both = [excess_kurtosis(d) for d in draws]
    spread = np.std([value.item() for value, _ in both])
    said = np.mean([of_each.std().item() / math.sqrt(400) for _, of_each in both])
    assert said == pytest.approx(spread, rel=0.15)
    assert influence.mean(0).abs().max() < 1e-9


def test_a_map_has_axes_of_all_values_and_latents_that_are_channels():
    z = torch.randn(200, 2, 3) * torch.tensor([1.0, 2.0])[:, None]
    found, flat = measured(z), measured(z.flatten(1))
    assert found["viv"] == pytest.approx(flat["viv"])
    assert found["latent_std"] == pytest.approx(z.std((0, 2), correction=0).tolist())
    assert len(found["latent_kurtosis"]) == 2 and len(found["axis_share"]) == 6


def test_one_example_and_the_first_ones():
    found = measured(torch.randn(1, 3))
    assert all(math.isnan(found[name]) for name in ("viv", "viv_se", "excess_kurtosis"))
    z = torch.randn(250, 3)
    assert measured(z, most=120)["viv"] == pytest.approx(measured(z[:120])["viv"])
