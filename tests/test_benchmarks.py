import pytest

from benchmarks.gap import bd_rate_of, spread
from benchmarks.runs import falls, self_regret
from multibeta.curve import Curve


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
