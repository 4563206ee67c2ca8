import math

import pytest

import multibeta
from benchmarks import sigma, third_axis
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
