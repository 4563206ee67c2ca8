import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.distributions import Independent, Normal, Poisson

import multibeta
from multibeta.checkpoints import load_data
from multibeta.divergences import kl_standard_normal
from multibeta.evaluation import metrics_of
from multibeta.likelihoods import Gaussian, Likelihood, OptimalGaussian
from multibeta.metrics import Evaluated, Predictive
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from multibeta.vae import BetaVAE, ELBOTerms


class Counts(Likelihood):
    """Poisson with means of its own, whatever z is."""

    whole = True

    def __init__(self, means) -> None:
        super().__init__()
        self.means = means

    def forward(self, output):
        return Independent(Poisson(self.means.expand(len(output), -1)), 1)


def metric(likelihood, features, **settings):
    vae = BetaVAE(nn.Identity(), nn.Identity(), likelihood, (features,), 1.0, shape=(features,))
    return Predictive(vae, **settings)


def _noise(draw, n, features, samples):
    return torch.randn(samples, n, features, generator=draw)


def computed(x, likelihood, mean=None, std=None, **settings):
    """The decoder hands on z: x' is drawn from the likelihood at samples of N(mean, std²)."""
    found = metric(likelihood, x.shape[1], **settings)
    mean = torch.zeros_like(x) if mean is None else mean
    std = torch.full_like(x, 1e-6) if std is None else std
    draw = torch.Generator().manual_seed(3)
    for rows in torch.arange(len(x)).split(100):
        q = Independent(Normal(mean[rows], std[rows]), 1)
        terms = ELBOTerms(x[rows, 0], kl_standard_normal(q), q, mean[rows])
        found.update(
            Evaluated(
                x[rows], terms,
                partial(_noise, draw, *x[rows].shape),
            )
        )  # fmt: skip
    found.finish()
    return found.compute()


def test_a_right_model_passes():
    """x from N(0, ¼ + 3/4): so are replicas, and the ranks are even."""
    x = torch.randn(1000, 5)
    found = computed(x, Gaussian(0.5), std=torch.full_like(x, 0.75**0.5))
    assert found["predictive_mean_error"] < 0.05 and found["predictive_std_error"] < 0.05
    assert found["predictive_calibration_error"] < 0.02
    assert found["predictive_zeros_error"] == 0
    assert found["predictive_examples"] == 1000
    assert "predictive_cv_mae" not in found


def test_mean_and_spread_that_are_wrong_by_known_amounts():
    x = torch.randn(1000, 5)
    found = computed(x + 1, Gaussian(2.0))
    assert found["predictive_mean_error"] == pytest.approx(1, abs=0.05)
    assert found["predictive_std_error"] == pytest.approx(1, abs=0.06)
    # Of central intervals of N(0, 4), N(0, 1) is in those of half the width: too often.
    wide = computed(x, Gaussian(2.0), samples=99)["predictive_calibration_error"]
    normal = Normal(0.0, 1.0)
    nominal = 1 - 2 * torch.arange(1, 50) / 100
    inside = 2 * normal.cdf(2 * normal.icdf((1 + nominal) / 2)) - 1
    assert wide == pytest.approx((inside - nominal).mean().item(), abs=0.01)


def test_counts_as_scvi_tools_checks_them():
    means = torch.logspace(-1, 2, 30)
    x = torch.from_numpy(np.random.default_rng(0).poisson(means.numpy(), (1000, 30))).float()
    right = computed(x, Counts(means))
    assert right["predictive_calibration_error"] < 0.02  # with ties broken at random
    assert right["predictive_zeros_error"] < 0.01 and right["predictive_cv_mae"] < 0.05
    assert right["predictive_cv_spearman"] > 0.98
    wrong = computed(x, Counts(means.flip(0)))
    assert wrong["predictive_cv_spearman"] < -0.98
    zeros = ((-means).exp() - (-means.flip(0)).exp()).abs().mean().item()
    assert wrong["predictive_zeros_error"] == pytest.approx(zeros, abs=0.01)
    cv = (means**-0.5 - means.flip(0) ** -0.5).abs().mean().item()
    assert wrong["predictive_cv_mae"] == pytest.approx(cv, abs=0.05)


def test_columns_are_those_of_the_moments_over_examples():
    means = torch.tensor([0.5, 2.0, 9.0, 0.01])
    x = torch.poisson(torch.tensor([1.0, 2.0, 5.0, 0.0]).expand(300, -1))
    found, metric_ = computed(x, Counts(means)), metric(Counts(means), 4)
    replicas = torch.poisson(means.expand(100_000, -1))
    m, s = x.mean(0), x.std(0, correction=0)
    theirs = replicas.mean(0), replicas.std(0, correction=0)
    assert found["predictive_mean_error"] == pytest.approx(
        ((theirs[0] - m).abs().sum() / s.sum()).item(), rel=0.05
    )
    assert found["predictive_std_error"] == pytest.approx(
        ((theirs[1] - s).abs().sum() / s.sum()).item(), rel=0.1
    )
    seen = m > 0  # the last is never seen
    cv, other = (s / m)[seen], (theirs[1] / theirs[0])[seen]
    assert found["predictive_cv_mae"] == pytest.approx((cv - other).abs().mean().item(), rel=0.1)
    assert found["predictive_cv_spearman"] == pytest.approx(spearmanr(cv, other)[0])
    assert metric_.n.shape == (10,)


def test_standard_errors_are_those_of_many_data_sets():
    found = [computed(torch.randn(100, 3) + 0.5, Gaussian(2.0), samples=9) for _ in range(60)]
    for name in ("mean_error", "std_error"):
        values = [of[f"predictive_{name}"] for of in found]
        said = np.mean([of[f"predictive_{name}_se"] for of in found])
        assert said == pytest.approx(np.std(values), rel=0.4), name
    alone = computed(torch.randn(1, 3), Gaussian(1.0))
    assert math.isnan(alone["predictive_mean_error"])
    assert math.isnan(alone["predictive_calibration_error_se"])


def test_two_sweeps_agree_and_leave_the_generator_alone():
    model, data = multibeta.load("digits"), load_data("digits")
    given = {"predictive": {"samples": 3, "most": 60}}
    torch.manual_seed(0)
    first = multibeta.sweep(model, data, "0.1,1", metrics=given)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1) == after
    assert multibeta.sweep(model, data, "0.1,1", metrics=given).rows == first.rows
    assert first["predictive_examples"] == [60, 60]
    assert first.rows[0]["predictive_std_error_se"] > 0


def test_states_of_two_processes_give_the_result_of_one(monkeypatch):
    x = torch.randn(200, 3)

    def batches():
        for i, rows in enumerate(torch.arange(200).split(20)):
            q = Independent(Normal(x[rows], torch.ones(20, 3)), 1)
            terms = ELBOTerms(x[rows, 0], kl_standard_normal(q), q, x[rows])
            draw = torch.Generator().manual_seed(i)
            yield Evaluated(x[rows], terms, partial(_noise, draw, 20, 3))

    whole = metric(Gaussian(1.0), 3, most=90, every=2)
    for batch in batches():
        whole.update(batch)
    halves = [metric(Gaussian(1.0), 3, most=90, every=2) for _ in range(2)]
    for rank, half in enumerate(halves):
        monkeypatch.setattr("multibeta.metrics.base.rank_and_world", lambda r=rank: (r, 2))
        for batch in list(batches())[rank::2]:
            half.update(batch)
        half.finish()
    together = metric(Gaussian(1.0), 3, most=90, every=2)
    for name in ("n", "data", "replicas", "ranks"):
        setattr(together, name, sum(getattr(half, name) for half in halves))
    together._update_count = 1
    found = whole.compute()
    assert found["predictive_examples"] == 90
    assert together.compute() == pytest.approx(found, rel=1e-9)


def test_what_draws_nothing_is_refused():
    vae = MultiBetaVAE.of((1, 8, 8), network=MLP(8), latent_dim=2, likelihood=OptimalGaussian())
    with pytest.raises(
        ValueError, match="predictive cannot be measured: OptimalGaussian has no σ"
    ):
        metrics_of("predictive", None, vae)
    for samples in (1, 20):
        with pytest.raises(ValueError, match=f"samples={samples} is not odd, or below 3"):
            metric(Gaussian(), 2, samples=samples)
