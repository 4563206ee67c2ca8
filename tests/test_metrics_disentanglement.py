import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest
import torch
from sklearn.feature_selection import r_regression
from torch.distributions import Independent, Normal

from multibeta.data import Digits, Sprites
from multibeta.divergences import kl_standard_normal
from multibeta.evaluation import metrics_of, sweep
from multibeta.metrics import Disentanglement, Evaluated
from multibeta.metrics.disentanglement import _mig, _sap, dci, factor_vae_score, mig, sap
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from multibeta.vae import BetaVAE, ELBOTerms

COLUMNS = (
    "mig", "dci_disentanglement", "dci_completeness", "dci_informativeness", "sap", "factor_vae",
)  # fmt: skip


def scores(codes, factors):
    """The scores, each from its own function."""
    found = dci(codes, factors)
    return dict(
        zip(
            COLUMNS,
            (
                mig(codes, factors), found.disentanglement, found.completeness,
                found.informativeness, sap(codes, factors), factor_vae_score(codes, factors),
            ),
            strict=True,
        )
    )  # fmt: skip


def grid(*sizes, times=1):
    """All combinations of the factors' values, each several times: (N, F)."""
    return torch.tensor(list(itertools.product(*map(range, sizes))) * times)


def standard(factors):
    values = factors.double()
    return (values - values.mean(0)) / values.std(0, correction=0)


def rotation(angle):
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def test_a_code_that_copies_the_factors_scores_one():
    """On the whole grid the factors are independent, so that no other latent tells of them."""
    factors = grid(3, 5, 8, times=4)
    for codes in (standard(factors), -3 * standard(factors)[:, [2, 0, 1]] + 7, factors.float()):
        found = scores(codes, factors)
        assert found == pytest.approx(dict.fromkeys(COLUMNS, 1.0), abs=1e-9)


def test_collapsed_latents_beside_a_copy_change_nothing():
    factors = grid(3, 5, 8, times=4)
    idle = 0.05 * torch.randn(len(factors), 3).double()  # a variance below 0.01
    copy = 0.1 * idle[:, :1] * standard(factors[:, :1])  # with a whisper of a factor in one
    codes = torch.cat([idle[:, :2], standard(factors), copy], 1)
    assert scores(codes, factors) == pytest.approx(dict.fromkeys(COLUMNS, 1.0), abs=1e-9)


def test_a_random_code_scores_near_zero():
    factors = grid(3, 5, 8, times=25)
    found = scores(torch.randn(len(factors), 6), factors)
    assert found.pop("factor_vae") == pytest.approx(1 / 3, abs=0.1)  # chance, by definition
    assert all(abs(value) < 0.03 for value in found.values()), found


def test_the_order_of_latents_and_of_examples_is_of_no_matter():
    factors = grid(3, 5, 8, times=4)
    codes = torch.cat([standard(factors), torch.zeros(len(factors), 2)], 1)
    codes = codes @ torch.linalg.qr(torch.randn(5, 5).double()).Q
    codes += 0.3 * torch.randn_like(codes)
    rows, columns = torch.randperm(len(codes)), torch.randperm(5)
    assert scores(codes[rows][:, columns], factors[rows]) == scores(codes, factors)


def test_entangled_codes_score_lower():
    factors = grid(6, 6, times=30)
    for angle in (math.pi / 12, math.pi / 6, math.pi / 4):
        found = scores(standard(factors) @ rotation(angle), factors)
        for name in ("mig", "dci_disentanglement", "dci_completeness", "sap"):
            assert found[name] < 0.9, (name, angle)
        # The square of the correlations, cos² and sin² of the angle.
        assert found["sap"] == pytest.approx(math.cos(2 * angle), abs=1e-9)
        assert found["dci_informativeness"] > 0.9  # a rotation loses nothing
    # Halfway, each latent tells as much of either factor.
    assert max(found["mig"], found["dci_disentanglement"], found["dci_completeness"]) < 0.1


def test_mig_in_closed_form():
    four, two = grid(4, 2).T
    factors = torch.stack([four, two], 1)
    # A latent that knows half of the four values: log 2 of log 4.
    halves = torch.stack([four // 2, two], 1).double()
    assert mig(halves, factors) == pytest.approx((0.5 + 1) / 2)
    # Two latents that know the same leave no gap.
    assert mig(torch.stack([four, four, two], 1).double(), factors) == pytest.approx((0 + 1) / 2)
    # One latent that knows both, as 8 values: all of either, and nobody else does.
    both = (2 * four + two)[:, None].double()
    assert mig(both, factors) == pytest.approx(1)
    # A binary channel that errs in a tenth of the cases: log 2 less the entropy of the error.
    factors = grid(2, times=10)
    codes = factors.double().clone()
    codes[[0, 1]] = 1 - codes[[0, 1]]
    error = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert mig(codes, factors) == pytest.approx(1 - error / math.log(2))


def test_mig_of_more_values_than_bins():
    """Ten bins tell of 20 values only in which pair each is."""
    factors = grid(20, 2)
    found = mig(factors.double(), factors, bins=10)
    assert found == pytest.approx((math.log(10) / math.log(20) + 1) / 2)


def test_sap_against_scikit_learn():
    factors = grid(3, 5, times=20)
    codes = standard(factors) @ torch.randn(2, 4).double() + torch.randn(300, 4)
    codes[:, 0] = 5.0
    expected = []
    for of_one in factors.T:
        r_squared = np.sort(r_regression(codes[:, 1:].numpy(), of_one.numpy()) ** 2)
        expected.append(r_squared[-1] - r_squared[-2])
    assert sap(codes, factors) == pytest.approx(np.mean(expected))


def test_dci_of_codes_that_share():
    """Completeness falls with latents a factor needs, disentanglement with factors a latent."""
    four, two = grid(4, 4, times=60).T
    factors = torch.stack([four, two], 1)
    # Each bit of the four values in a latent of its own: all used for one factor, each alone.
    bits = torch.stack([four // 2, four % 2, two // 2, two % 2], 1).double()
    found = dci(bits, factors)
    assert found.disentanglement == pytest.approx(1, abs=1e-9)
    assert found.completeness == pytest.approx(1 - math.log(2) / math.log(4), abs=0.02)
    assert found.informativeness == 1
    # One latent with both factors.
    found = dci(torch.stack([4 * four + two, torch.zeros_like(two)], 1).double(), factors)
    assert found.disentanglement == pytest.approx(0, abs=1e-9)
    assert found.completeness == pytest.approx(1, abs=1e-9)


def test_informativeness_is_the_share_of_the_error_that_is_gone():
    factors = grid(2, times=4000)
    codes = factors.double() * 2
    wrong = torch.rand(len(codes)) < 0.2  # of these, half are right by chance
    codes[wrong] = 2 * torch.randint(2, (int(wrong.sum()), 1)).double()
    assert dci(codes, factors).informativeness == pytest.approx(0.8, abs=0.03)


def test_factor_vae_score_of_a_latent_for_two_factors():
    """A latent that holds two of three factors votes for the one, and is wrong for the other."""
    factors = grid(3, 3, 3, times=5)
    codes = standard(factors)
    shared = torch.stack([codes[:, 0] + codes[:, 1], codes[:, 2]], 1)
    assert factor_vae_score(shared, factors) == pytest.approx(2 / 3, abs=0.03)
    assert factor_vae_score(codes, factors) == 1


def test_all_latents_collapsed():
    factors = grid(3, 5, times=4)
    assert scores(torch.full((60, 4), 2.0), factors) == dict.fromkeys(COLUMNS, 0.0)
    assert scores(0.05 * torch.randn(60, 4), factors) == dict.fromkeys(COLUMNS, 0.0)


def test_one_latent():
    factors = grid(3, 5, times=10)
    found = scores(standard(factors)[:, :1], factors)
    assert found["mig"] == pytest.approx(0.5)
    assert found["sap"] == pytest.approx(0.5)
    assert found["dci_completeness"] == pytest.approx(1)
    assert found["factor_vae"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_examples(count):
    factors = grid(3, 5)[:count]
    found = scores(torch.randn(count, 4), factors)
    if count == 1:  # no factor has two values
        assert all(math.isnan(value) for value in found.values())
    assert set(found) == set(COLUMNS)


def test_factors_with_one_value_are_left_out():
    factors = grid(3, 5, times=10)
    more = torch.cat([factors, torch.full((150, 1), 7)], 1)
    codes = standard(factors) + 0.2 * torch.randn(150, 2)
    assert scores(codes, more) == scores(codes, factors)
    assert all(math.isnan(v) for v in scores(codes, more[:, 2:]).values())


@pytest.mark.parametrize("score", [mig, sap, dci, factor_vae_score])
def test_what_cannot_be_scored(score):
    factors = grid(3, 5)
    codes = torch.randn(15, 4)
    codes[3, 1] = math.nan
    codes[5] = math.inf
    for given, numbers, problem in (
        (codes, factors, "the codes of 2 of 15 examples are not finite"),
        (torch.randn(14, 4), factors, r"codes of \(14, 4\) and factors of \(15, 2\) do not go"),
        (torch.randn(15), factors, "do not go together; give"),
        (torch.randn(0, 4), factors[:0], "do not go together; give"),
        (torch.randn(15, 4), factors.float(), "factors are torch.float32; give the number"),
    ):
        with pytest.raises(ValueError, match=problem) as info:
            score(given, numbers)
        assert "\n" not in str(info.value)


def tilted(draws, count):
    """A code in which each latent has a part of another factor, noise, and an idle latent."""
    sizes = torch.tensor([3, 5, 8])
    factors = (torch.rand(count, 3, generator=draws) * sizes).long()
    mixed = (factors / sizes).double() @ torch.tensor(
        [[3.0, 1, 0], [0.5, 3, 1], [0, 0, 3]]
    ).double()
    noise = torch.randn(count, 4, generator=draws).double()
    return torch.cat([mixed, torch.zeros(count, 1)], 1) + 0.5 * noise, factors


@pytest.mark.parametrize(("score", "count", "times"), [
    (_mig, 500, 150), (_sap, 500, 150), (lambda *of: astuple(dci(*of))[2:], 300, 40),
], ids=["mig", "sap", "dci"])  # fmt: skip
def test_standard_errors_are_the_spread_over_draws(score, count, times):
    draws = torch.Generator().manual_seed(0)
    found = np.array([score(*tilted(draws, count)) for _ in range(times)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(ddof=1), rel=0.25)


def test_the_standard_errors_of_mig_and_sap_are_those_of_the_jackknife():
    """To first order in 1/N; of few values, whose bins stay as they are without an example."""
    codes, factors = tilted(torch.Generator().manual_seed(1), 300)
    codes = codes.round().clamp(-1, 4)
    for score, of in ((mig, _mig), (sap, _sap)):
        without = [
            score(*(torch.cat([all_[:i], all_[i + 1 :]]) for all_ in (codes, factors)))
            for i in range(300)
        ]
        jackknife = math.sqrt(299 / 300 * ((np.array(without) - np.mean(without)) ** 2).sum())
        assert of(codes, factors)[1] == pytest.approx(jackknife, rel=0.15)


# the metric


def evaluated(mean, factors):
    q = Independent(Normal(mean, torch.ones_like(mean)), 1)
    terms = ELBOTerms(mean[:, 0], kl_standard_normal(q), q, mean)
    return Evaluated(mean, terms, torch.randn, factors)


def metric(**settings):
    vae = BetaVAE(torch.nn.Identity(), torch.nn.Identity(), None, (4,), 1.0)
    return Disentanglement(vae, **settings)


def noisy(count=200):
    factors = grid(3, 5, 8, times=4)[torch.randperm(480)[:count]]
    codes = torch.cat([standard(factors), torch.zeros(count, 1)], 1)
    return codes + 0.3 * torch.randn(count, 4), factors


def test_the_metric_has_the_scores_of_the_first_examples():
    codes, factors = noisy()
    found = metric(most=130)
    for rows in torch.arange(200).split(50):
        found.update(evaluated(codes[rows], factors[rows]))
    row = found.compute()
    assert {name: row[name] for name in COLUMNS} == scores(codes[:130], factors[:130])
    assert set(row) - set(COLUMNS) == {"mig_se", "sap_se", "dci_informativeness_se"}


def test_states_of_two_processes_give_the_result_of_one(monkeypatch):
    codes, factors = noisy()
    batches = torch.arange(200).split(20)
    # An end inside a batch, which one process alone cannot know.
    whole, halves = metric(most=130), [metric(most=130), metric(most=130)]
    for rows in batches:
        whole.update(evaluated(codes[rows], factors[rows]))
    for rank, half in enumerate(halves):
        monkeypatch.setattr("multibeta.metrics.base.rank_and_world", lambda r=rank: (r, 2))
        for rows in batches[rank::2]:  # as batches go round
            half.update(evaluated(codes[rows], factors[rows]))
    together = metric(most=130)
    for name in ("z", "mean", "std", "places", "factors"):
        parts = [torch.cat(getattr(half, name)) for half in halves]
        setattr(together, name, torch.cat(parts))  # what dist_reduce_fx="cat" makes
    together._update_count = 1
    assert together.compute() == whole.compute()


def test_data_without_factors():
    message = (
        "it needs factors, which Digits has not; use data with known factors, such as Sprites"
    )
    assert Disentanglement.lacks(Digits()) == message
    assert Disentanglement.lacks([torch.rand(2, 1, 8, 8)]).startswith("it needs factors, which l")
    assert Disentanglement.lacks(Sprites()) is None
    assert "disentanglement" not in metrics_of("all", Digits())
    model = MultiBetaVAE.of((1, 8, 8), network=MLP(8), latent_dim=3)
    with pytest.raises(ValueError, match=f"metric disentanglement cannot be measured: {message}"):
        sweep(model, Digits(), "1", metrics="disentanglement")
    with pytest.raises(ValueError, match="a batch came without them"):
        metric().update(evaluated(torch.randn(3, 4), None))


def test_a_sweep_of_sprites():
    data = Sprites(size=300, batch_size=16)
    model = MultiBetaVAE.of(data.shape, network=MLP(8), latent_dim=3)
    curve = sweep(model, data, "0.1,1", metrics={"disentanglement": {"most": 25}}, split="val")
    assert set(COLUMNS) <= set(curve.columns)
    # The factors are those of the pictures: the same scores from both, put together by hand.
    x = data.splits["val"][:25].float() / 255
    codes = model.at_beta(0.1).encode(x).mean.detach()
    expected = scores(codes, data.factors["val"][:25])
    assert {name: curve.rows[0][name] for name in COLUMNS} == pytest.approx(expected, abs=1e-6)
