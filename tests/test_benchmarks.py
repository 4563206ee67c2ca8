import math

import pytest
import torch

import multibeta
from benchmarks import (
    case_autoencoder,
    case_cells,
    case_heartbeats,
    cases,
    price,
    sigma,
    third_axis,
)
from benchmarks.gap import bd_rate_of, difference, spread
from benchmarks.runs import falls, self_regret
from benchmarks.talk.runs import TALKS
from benchmarks.talk.tables import verdict
from multibeta.curve import Curve
from multibeta.data.gaussian import water_filling


def curve(*points):
    """Return a curve of (β, R, D)."""
    rows = [
        {"beta": b, "rate_nats": r, "distortion_nats": d, "objective_nats": d + b * r}
        for b, r, d in points
    ]
    return Curve(tuple(rows), {})


def test_self_regret_of_a_distortion_in_its_own_units():
    rows = [{"beta": b, "rate_nats": r, "distortion": d, "objective": d + b * r}
            for b, r, d in ((1, 3, 10), (2, 2, 14))]  # fmt: skip
    assert self_regret(Curve(tuple(rows), {})) == 2


def test_self_regret_is_what_another_beta_of_the_model_would_have_saved():
    # At β = 2 the point conditioned on 1 has J = 10 + 2 · 3 = 16 instead of 18.
    assert self_regret(curve((1, 3, 10), (2, 2, 14))) == 2
    assert self_regret(curve((1, 3, 10), (2, 1, 13))) == 0


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.2])
def test_bd_rate_of_a_curve_at_the_betas_of_dedicated_models(factor):
    points = [(1, 9, 10), (2, 5, 12), (3, 3, 20), (4, 1, 50)]
    rows = curve(*points).rows
    more = curve(*((b, factor * r, d) for b, r, d in points))
    between = curve((1.5, 7 * factor, 10.5), *((b, factor * r, d) for b, r, d in points))
    for ours in (more, between):
        assert bd_rate_of(ours, rows) == pytest.approx(100 * (factor - 1))


def test_rate_falls():
    assert falls(curve((1, 3, 0), (2, 2, 0)))
    assert not falls(curve((1, 3, 0), (2, 3, 0)))


def test_spread():
    assert spread([]) is None
    assert spread([2.0]) == {"mean": 2.0, "se": None, "values": [2.0]}
    assert spread([1.0, 3.0])["se"] == pytest.approx(1.0)


def water_filled(betas=16):
    """Return the curve of the best linear VAE on a source whose latents are all in use."""
    eigenvalues, scale, latents = [4.0] * 6 + [0.01] * 10, 0.2, 6
    rows = []
    for beta in multibeta.parse_betas(f"0.01:10:{betas}"):
        rate, distortion = water_filling(eigenvalues, beta, scale, latents)
        constant = 8 * math.log(2 * math.pi * scale**2)
        error = 2 * scale**2 * (distortion - constant)
        rows.append({"beta": beta, "rate_nats": rate, "squared_error": error})
    about = {"sigma": scale, "d": 16, "latent_dim": latents}
    return Curve(tuple(rows), about)


def test_the_error_above_its_floor_falls_with_two_over_the_latents():
    found = sigma.straightness(water_filled())
    assert found["latents_by_slope"] == pytest.approx(6, rel=0.01)
    assert found["r_squared_above_floor"] > 0.9999
    assert found["r_squared"] < 0.95


def test_slopes_of_optimal_models_are_those_of_theory():
    for at in sigma.slopes(water_filled(200)):
        assert at["measured"] == pytest.approx(at["theory"], rel=0.01)


def test_the_third_axis_at_a_rate():
    columns = dict.fromkeys(third_axis.COLUMNS, 0.0)
    rows = tuple({**columns, "rate_nats": r, "distortion_nats": 9 - r} for r in (8.0, 4.0, 2.0))
    curve = Curve(rows, {})
    assert third_axis.at_rate(curve, 5.0)["distortion_nats"] == 4
    assert third_axis.at_rate(curve, 1.0) is None


@pytest.mark.parametrize(
    ("one", "dedicated", "said"),
    [
        ([1.0, 1.2], [3.0, 3.2], "holds"),
        ([3.0, 3.2], [1.0, 1.2], "does not"),
        ([1.0, 3.0], [1.5, 2.0], "cannot be told"),
        ([1.0], [3.0], "cannot be told (one seed)"),
        ([], [3.0], "not measured"),
    ],
)
def test_the_verdict_on_a_claim(one, dedicated, said):
    assert verdict(difference(spread(one), spread(dedicated))) == said


def test_a_verdict_has_a_limit():
    apart = difference(spread([1.0, 1.2]), spread([0.8, 1.0]))
    assert (verdict(apart), verdict(apart, limit=1.0)) == ("cannot be told", "holds")


@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)
def test_the_models_of_the_talk_share_all_but_their_conditioning(talk):
    one, *dedicated = talk.runs(seed=0)
    for run in dedicated:
        more = [option for option in run.options if option not in one.options]
        assert [option.partition("=")[0] for option in more] == [
            "--model.conditioning",
            "--model.betas",
        ]
        assert set(one.options) < set(run.options)
        assert run.metrics == one.metrics


SHAPES = {
    "case_heartbeats_mitbih2": (2, 128), "case_heartbeats_ecg5000": (1, 140),
    "case_cells_worm": (1200,), "case_cells_pbmc200": (200,),
}  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [c for c in (*case_heartbeats.CASES, *case_cells.CASES) if c.name in SHAPES],
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("beta", [None, 1.0])
def test_the_networks_of_a_case_are_wrapped(case, beta):
    torch.manual_seed(0)
    x = torch.poisson(torch.rand(cases.BATCH, *SHAPES[case.name]))
    of_counts = {"library": x.sum(1)} if x.ndim == 2 else {}
    rows = cases.Rows(x, torch.arange(cases.BATCH) % 2, **of_counts)
    vae = case.model({"train": rows}, beta, 0)
    before = vae.loss(x, **rows.inputs).item()
    assert cases.train(vae, rows, 2, 0) > 0
    assert vae.at_beta(1.0).reconstruct(x[:3], **rows.batch(torch.arange(3))[1]).shape == (
        3, *SHAPES[case.name]
    )  # fmt: skip
    assert math.isfinite(before)


def test_the_perceptual_distance_is_that_of_angles_between_features():
    pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    x, y = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    of_stages = [
        2 - 2 * torch.cosine_similarity(f, g).mean((1, 2))
        for f, g in zip(case_autoencoder.early(x), case_autoencoder.early(y), strict=True)
    ]
    found = case_autoencoder.perceptual(x, y)
    assert found == pytest.approx(case_autoencoder.PERCEPTUAL * 12_288 * sum(of_stages), rel=1e-4)
    assert [f.shape[2] for f in case_autoencoder.early(x)] == [32, 16, 8]
    assert case_autoencoder.distortion(x, x).tolist() == [0, 0]
    network = case_autoencoder.extractor().network
    prepared = case_autoencoder.extractor().prepared(torch.full((1, 3, 8, 8), 200).byte())
    of_signed = torch.full((1, 3, 224, 224), 200 / 127.5 - 1)
    h = network._blocks[0](network._swish(network._bn0(network._conv_stem(prepared))))
    length = h.square().sum(1, keepdim=True).sqrt()
    assert case_autoencoder.early(of_signed)[0] == pytest.approx(h / length, abs=1e-4)


def test_what_predicts_samples_has_the_same_ranks():
    names = [name for name in case_autoencoder.PREDICTORS if "_and_" not in name]
    rows = [
        {"beta": b, **dict.fromkeys(names, v), "distortion": d, "fd": v, "kd": -v}
        for b, v, d in zip((0.1, 1, 10, 100), (4.0, 3.0, 2.0, 1.0), (1.0, 2, 4, 3), strict=True)
    ]
    found = {row["predictor"]: row for row in case_autoencoder.correlations(rows)}
    assert found["viv"] == {"predictor": "viv", "fd": 1, "kd": -1, "says": 100}
    assert found["distortion"]["fd"] == pytest.approx(-0.8)
    assert found["distortion"]["says"] == 0.1
    # Ranks of VIV 3, 2, 1, 0 and of D 0, 1, 3, 2: their sums are 3, 3, 4, 2.
    assert found["viv_and_distortion"]["says"] == 100
    assert found["viv_and_distortion"]["fd"] == pytest.approx(0.316228, abs=1e-6)


def test_scores_of_anomalies_have_the_errors_of_hanley_and_mcneil(monkeypatch):
    scores = {"rate_nats": torch.tensor([0.0, 1.0, 2.0, 0.5]), "nll_nats": torch.zeros(4)}
    monkeypatch.setattr(case_heartbeats, "scores_of", lambda *_, **__: scores)
    rows = cases.Rows(torch.zeros(4, 1), torch.tensor([0, 0, 1, 2]))
    found = case_heartbeats.anomalies(None, rows)
    assert found == pytest.approx(
        {"auroc_rate_nats": 0.75, "auroc_rate_nats_se": 0.276296}, rel=1e-5
    )


def test_a_beta_is_chosen_on_the_validation_set_and_reported_on_the_test_set(monkeypatch):
    columns = {"val": (0.5, 0.9, 0.88, 0.6), "test": (0.8, 0.6, 0.7, 0.5)}

    def curve_of(name, split="test"):
        betas = (0.01, 0.1, 1.0, 10.0)
        rows = [
            {"beta": b, "knn_accuracy": value, "knn_accuracy_se": 0.03}
            for b, value in zip(betas, columns[split], strict=True)
        ]
        return Curve(tuple(rows), {})

    monkeypatch.setattr(cases, "curve_of", curve_of)
    found = cases._choice(case_cells.CASES[0], ["a"], cases.Best("knn_accuracy", "neighbours"))
    assert (found["beta"], found["test"], found["flat"]) == (0.1, 0.6, [0.1, 1.0])
    assert (found["best_on_test"], found["best_test"], found["end"]) == (0.01, 0.8, False)


def test_the_longest_runs_take_the_learning_rate_of_a_quarter_of_the_time(monkeypatch):
    found = {}
    monkeypatch.setattr(price, "is_there", lambda name: name in found or name.endswith("_step"))
    monkeypatch.setattr(price, "result_of", lambda name: {"ratio": 1.1})
    monkeypatch.setattr(price, "curve_of", lambda name, split: name)
    monkeypatch.setattr(price, "objective_at", lambda name, beta: found[name])
    of = price.SETS["celeba_conv"]
    assert price.tried(of, "time", 0.01) == {}  # not known yet
    for lr, loss in ((2e-3, 2.0), (4e-3, 1.0)):
        found[price.dedicated(of, "total4", 0.01, lr, 0).name] = loss
    assert [*price.tried(of, "time", 0.01)] == [4e-3]
    assert [*price.tried(of, "total4", 0.01)] == [2e-3, 4e-3]
    assert [*price.tried(price.SETS["ecg_conv"], "time", 0.01)] == [2e-3, 4e-3]
    assert {beta for budget, beta in price.sides(of, of.budgets) if budget == "time"} <= {
        beta for budget, beta in price.sides(of, of.budgets) if budget == "total4"
    }


def test_dedicated_runs_that_two_budgets_share_are_made_once():
    of = price.SETS["cells_mlp"]
    names = [price.dedicated(of, *side, 4e-3, 0).name for side in price.sides(of, of.budgets)]
    assert len(names) == len(set(names)) == 6 + 6 + 4 + 8
    for budget in ("steps", "two"):
        assert price.dedicated(of, budget, 1.0, 4e-3, 0).name in names
    assert price.one(of, 4e-3, 0, "two").name != price.one(of, 4e-3, 0).name
