import itertools
import json
import math
import re

import numpy as np
import pytest
import torch
import yaml

from multibeta.betas import BetaRange, exact, parse_betas
from multibeta.options import read_yaml


def test_parse_grid_has_16_log_spaced_points_with_exact_ends():
    grid = parse_betas("0.01:10")
    assert len(grid) == 16
    assert (grid[0], grid[-1]) == (0.01, 10.0)
    ratios = [b / a for a, b in itertools.pairwise(grid)]
    assert ratios == pytest.approx([1000 ** (1 / 15)] * 15)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("0.01:1:3", (0.01, 0.1, 1.0)),
        ("4,0.1,1,1", (0.1, 1.0, 4.0)),
        ("2", (2.0,)),
        (2, (2.0,)),
        ([3, 1], (1.0, 3.0)),
        ("1:1", (1.0,)),
        ("0.1:10:1", (0.1,)),
    ],
)
def test_parse_betas(given, read):
    assert parse_betas(given) == pytest.approx(read)


@pytest.mark.parametrize(
    "given",
    ["10:0.01", "0:1", "-1:1", "a:b", "0.1:1:0", "0.1:1:2.5", "0.1:1:-3", "", "nan", "inf",
     "nan:1", "0.1:inf", "0.1,,1", "1:2:3:4", ":", "1:", [], [0.0], [math.nan]],
)  # fmt: skip
def test_parse_betas_refuses_in_one_line_with_the_cure(given):
    with pytest.raises(ValueError, match=r"allowed|write|at least") as error:
        parse_betas(given)
    assert "\n" not in str(error.value)
    assert isinstance(given, list) or given in str(error.value)


@pytest.mark.parametrize("given", ["10:0.01", "0:1", "-1:1", "a:b", "", "nan", "inf", "1:2:3"])
def test_range_refuses(given):
    with pytest.raises(ValueError, match=r"allowed|write"):
        BetaRange.parse(given)


def test_range_of_one_beta():
    dedicated = BetaRange.parse("2")
    assert dedicated == BetaRange(2.0, 2.0)
    assert dedicated.draw(5).tolist() == [2.0] * 5
    assert dedicated.standardise(torch.tensor([2.0])).tolist() == [0.0]


def test_stratified_draw_has_one_beta_in_each_stratum():
    n = 64
    log_beta = BetaRange(0.01, 10).draw(n).log10()
    strata = ((log_beta + 2) / 3 * n).floor().long()
    assert sorted(strata.tolist()) == list(range(n))
    assert strata.tolist() != list(range(n)), "the strata are in random order"


def test_draws_are_log_uniform_and_within_the_range():
    beta_range = BetaRange(0.01, 10)
    for n in (4, 1):
        draws = torch.cat([beta_range.draw(n) for _ in range(20_000 // n)])
        assert draws.min() >= 0.01
        assert draws.max() <= 10
        u = (draws.double().log10() + 2) / 3
        assert u.mean().item() == pytest.approx(0.5, abs=0.02)
        assert u.var().item() == pytest.approx(1 / 12, abs=0.005)


def test_stratified_mean_has_a_smaller_variance():
    beta_range, n = BetaRange(0.01, 10), 32
    stratified = torch.stack([beta_range.draw(n).log().mean() for _ in range(500)])
    independent = torch.stack(
        [torch.stack([beta_range.draw(1)[0] for _ in range(n)]).log().mean() for _ in range(200)]
    )
    assert stratified.var() < independent.var() / 100


@pytest.mark.parametrize("n", [1, 2])
def test_ends_are_drawn_as_often_as_asked(n):
    beta_range = BetaRange(0.01, 10)
    draws = torch.cat([beta_range.draw(n, ends=0.2) for _ in range(4000)])
    for end in (0.01, 10):
        assert (draws == end).float().mean().item() == pytest.approx(0.1, abs=0.02)
    inside = draws[(draws > 0.01) & (draws < 10)]
    assert inside.log10().mean().item() == pytest.approx(-0.5, abs=0.06)


@pytest.mark.parametrize("tilt", [1, 1.5, 3])
def test_a_tilted_draw_has_its_density(tilt):
    """P(β < low (high/low)^u) = u^(1/tilt)."""
    draws = BetaRange(0.01, 10).draw(20_000, tilt=tilt)
    for u in (0.1, 0.5, 0.9):
        below = (draws < 0.01 * 1000**u).float().mean().item()
        assert below == pytest.approx(u ** (1 / tilt), abs=2e-3)


@pytest.mark.parametrize("times", [2, 3])
def test_the_betas_of_an_example_are_spread_over_the_range(times):
    """Of log β's range in `times` strata an example has one β in each, and they come in any order.

    All draws together have one in each of times · n strata.
    """
    n = 600
    u = (BetaRange(0.01, 10).draw(n, times).double() / 0.01).log() / math.log(1000)
    strata = (u.reshape(times, n) * times).floor()
    assert torch.equal(strata.sort(dim=0).values, torch.arange(times).expand(n, times).T.double())
    assert strata[0].mean().item() == pytest.approx((times - 1) / 2, abs=0.15)
    each = (u * times * n).floor().clamp(0, times * n - 1)
    assert len(each.unique()) >= 0.99 * times * n  # but for rounding at their limits


@pytest.mark.parametrize(
    ("fraction", "low"), [(0, 10.0), (1 / 3, 1.0), (2 / 3, 0.1), (1, 0.01), (7, 0.01)]
)
def test_a_range_opens_from_its_high_end(fraction, low):
    opened = BetaRange(0.01, 10, "gamma").opened(fraction)
    assert (opened.high, opened.name) == (10, "gamma")
    assert opened.low == pytest.approx(low)
    draws = opened.draw(100, ends=0.2)
    assert draws.min().item() == pytest.approx(low)
    assert draws.max().item() == 10


def test_draw_follows_its_generator():
    draw = [BetaRange(0.1, 1).draw(8, generator=torch.Generator().manual_seed(3)) for _ in "ab"]
    assert torch.equal(*draw)


def test_standardised_log_beta_has_mean_0_and_variance_1():
    beta_range = BetaRange(0.01, 10)
    s = beta_range.standardise(torch.tensor(beta_range.grid(20001), dtype=torch.float64))
    assert s.mean().item() == pytest.approx(0, abs=1e-9)
    assert s.var(unbiased=False).item() == pytest.approx(1, abs=1e-3)
    assert s.dtype == torch.float64


def test_check():
    beta_range = BetaRange(0.01, 10)
    assert beta_range.check(10.0) == 10.0
    assert beta_range.check(20.0, extrapolate=True) == 20.0
    message = r"beta=20 is outside the trained range \[0.01, 10\]; pass extrapolate=True to try"
    with pytest.raises(ValueError, match=message):
        beta_range.check(20.0)
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite number above 0"):
            beta_range.check(bad, extrapolate=True)


def test_bounds_that_went_through_float32_are_inside():
    BetaRange(0.01, 10).check(torch.tensor(0.01).item())


def test_any_range_comes_back_as_it_was():
    """As text, as YAML and JSON, on the command line: to the last bit, ends and grid."""
    rng = np.random.default_rng(0)
    for exponents in rng.uniform(-36.9, 36.9, (500, 2)):
        low, high = sorted((10.0**exponents).tolist())
        given = BetaRange(low, high)
        assert BetaRange.parse(str(given)) == given
        found = read_yaml(yaml.safe_dump({"betas": str(given)}))["betas"]
        assert BetaRange.parse(json.loads(json.dumps(found))) == given
        grid = parse_betas(str(given))
        assert (grid[0], grid[-1]) == (low, high)
        assert all(given.check(beta) == beta for beta in grid)
        assert grid == parse_betas(",".join(map(exact, grid)))


def test_a_narrow_range_has_its_grid_inside():
    low = 1.33894561
    for high in (low * (1 + 1e-15), low * (1 + 1e-13), low * (1 + 1e-9)):
        given = BetaRange(low, high)
        assert all(low <= beta <= high for beta in (*given.grid(16), given.middle))
        assert parse_betas(str(given))[-1] == high


@pytest.mark.parametrize(
    ("betas", "said"),
    [
        ("5e-324:0.5", "has the bound 4.94066e-324, which single precision does not hold"),
        ("1:1e300", "has the bound 1e+300, which single precision does not hold"),
        ("1:10:30000000", "asks for 30000000 points; N is at most 10000"),
        ("1:10:99999999999999999999", "N is at most 10000"),
    ],
)
def test_what_no_model_could_hold_is_refused(betas, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        parse_betas(betas)
    assert "\n" not in str(error.value)
