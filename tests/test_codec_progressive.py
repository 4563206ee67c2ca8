"""A file that can be cut anywhere: each beginning is a file, and says nothing that is wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import multibeta
from multibeta.codec import Codec, cut
from multibeta.codec.container import check_room, unpack
from multibeta.codec.grids import Grid
from multibeta.codec.progressive import (
    Pass,
    Plan,
    _coarse,
    _passes,
    draws,
    plan_of,
    read_passes,
    write_passes,
)
from multibeta.data import Digits
from multibeta.likelihoods import Gaussian
from tests.test_codec import conv_vae, plain_vae, psnr, small

pytest.importorskip("constriction")


@pytest.fixture(scope="module")
def digits():
    """The shipped model's codec, and the 359 digits of the test set in [0, 1]."""
    return Codec(multibeta.load("digits")), Digits().load()["test"] / 255


@pytest.fixture(scope="module")
def whole(digits):
    """A progressive file of all digits."""
    return digits[0].encode(digits[1], progressive=True)


def plan_with(exponents, powers):
    """Return a plan of latents whose first cells are 3^power steps wide, refined by turns."""
    groups = len(exponents)
    grid = Grid(tuple(exponents), (True,) * groups, 1, (groups,))
    passes = [Pass(1.0, g, p, True) for g, p in enumerate(powers)]
    for low in range(max(powers) - 1, -1, -1):
        passes += [Pass(0.5, g, low, False) for g, p in enumerate(powers) if low < p]
    return Plan(grid, tuple(passes))


PLANS = {
    "coarse": plan_with([8, 10, 3], [1, 2, 0]),
    "fine": plan_with([60, 80, 110], [0, 2, 1]),  # the first cells have low bits of their own
    "very fine": plan_with([250, 260], [0, 1]),  # more than 16 of them
}


def told_by(plan, powers):
    """Return how many symbols have been read."""
    return sum(((powers[p.group] >= 0) & (powers[p.group] <= p.power)).sum() for p in plan.passes)


@pytest.mark.parametrize("case", PLANS)
@pytest.mark.parametrize("seed", range(3))
def test_what_any_beginning_says_is_true(case, seed):
    """For each number of bytes: the cells are those of the true numbers, and there is no other."""
    plan, rng = PLANS[case], np.random.default_rng(seed)
    z = rng.standard_normal((len(plan.grid.live), 37))
    z[rng.random(z.shape) < 0.1] *= 30  # some are beyond the ends of the tables
    numbers = np.rint(z / plan.grid.steps[:, None]).astype(np.int64)
    payload = write_passes(plan, numbers)
    told = 0
    for length in range(len(payload) + 1):
        found, powers, done = read_passes(plan, payload[:length], 37, False)
        for group in range(len(powers)):
            known = powers[group] >= 0
            for power in {*powers[group][known].tolist()}:
                here = powers[group] == power
                assert (found[group][here] == _coarse(numbers[group][here], power)).all()
            assert not found[group][~known].any()
        for each in plan.passes[:done]:
            assert ((powers[each.group] <= each.power) & (powers[each.group] >= 0)).all()
        now = told_by(plan, powers)
        assert now >= told  # more bytes never say less
        told = now
    found, powers, done = read_passes(plan, payload, 37, True)
    assert (found == numbers).all() and not powers.any() and done == len(plan.passes)


def test_nearly_all_is_told_by_a_beginning():
    """What is lost at the end of a cut file is a few symbols, not whole passes."""
    plan, rng = PLANS["coarse"], np.random.default_rng(0)
    numbers = np.rint(rng.standard_normal((3, 400)) / plan.grid.steps[:, None]).astype(np.int64)
    payload = write_passes(plan, numbers)
    lengths, told = range(40, len(payload), 40), []
    for length in lengths:
        _, powers, _ = read_passes(plan, payload[:length], 400, False)
        told.append(told_by(plan, powers))
    symbols = 400 * len(plan.passes)
    rates = np.diff(told) / symbols / (40 / len(payload))
    assert rates.min() > 0.3 and told[-1] > 0.85 * symbols


def test_cells_are_within_cells():
    numbers = np.arange(-200, 201)
    for power in range(4):
        fine, wide = _coarse(numbers, power), _coarse(numbers, power + 1)
        assert set((fine - 3 * wide).tolist()) == {-1, 0, 1}
        assert (np.abs(numbers - wide * 3 ** (power + 1)) <= 3 ** (power + 1) // 2).all()


def test_passes_of_a_latent_that_comes_and_goes():
    """One that lives, dies and lives again as β falls is refined in order, at falling β's."""
    levels = np.linspace(2, -4, 7)
    wanted = np.array([np.inf, 1.0, np.inf, np.inf, 1.4, -2.0, -3.0])
    found = [*_passes(3, levels, wanted, -3.5)]
    assert [each.first for each in found] == [True] + [False] * (len(found) - 1)
    assert [each.power for each in found] == [*range(found[0].power, -1, -1)]
    betas = [each.beta for each in found]
    assert all(math.isfinite(beta) for beta in betas)
    assert betas == sorted(betas, reverse=True) and betas[0] == pytest.approx(math.e)


def test_at_the_highest_beta_the_narrowest_latents_come_first(digits):
    """They are told most by their first cells, and would live at a higher β, too."""
    made, _ = digits
    top, low = made.index(0.1), made.index(0.01)
    plan = plan_of(made._at, [top, low], made.grid(low, {}), {})
    order = [each.group for each in plan.passes if each.first]
    widths = made.grid(top, {}).steps[order]
    assert len(order) == 8 and plan.passes[:8] == tuple(p for p in plan.passes if p.first)
    assert widths[0] == widths.min() and spearmanr(widths, np.arange(8)).statistic > 0.9


def test_a_latent_without_a_mean_does_not_divide_by_zero():
    model = small(likelihood=Gaussian(0.3))
    with torch.no_grad():
        head = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Linear)][-1]
        head.weight[0], head.bias[0] = 0.0, 0.0
    made, x = Codec(model), torch.randn(5, 1, 4, 4)
    data = made.encode(x, progressive=True)
    for length in range(unpack(data).size, len(data) + 1):
        assert made.read(data[:length]).x.isfinite().all()


def test_draws_are_of_n01_within_the_cells():
    plan = plan_with([8, 8], [1, 1])
    width = plan.grid.steps[0] * 3
    numbers, powers = np.array([[1, 0], [0, 0]]), np.array([[1, -1], [-1, 1]], dtype=np.int8)
    found = np.stack([*draws(plan, numbers, powers, False)])
    assert found.shape == (32, 2, 2) and np.isfinite(found).all()
    assert (np.abs(found[:, 0, 0] - width) <= width / 2).all() and found[:, 0, 0].std() > width / 5
    assert (np.abs(found[:, 1, 1]) <= width / 2).all()
    for free in (found[:, 0, 1], found[:, 1, 0]):  # nothing is told: N(0, 1)
        assert abs(free.mean()) < 0.05 and abs(free.std() - 1) < 0.15
    (middle,) = draws(plan, np.array([[5, -7], [0, 2]]), np.zeros((2, 2), np.int8), True)
    np.testing.assert_allclose(middle, np.array([[5, -7], [0, 2]]) * width / 3)


# Files -------------------------------------------------------------------------------------


MODELS = {
    "vector": lambda: small((6,), Gaussian(0.3)),
    "map": conv_vae,
    "one beta": lambda: plain_vae(Gaussian(0.3)),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("n", [1, 4])
def test_every_beginning_is_a_file(case, n):
    """Of each number of bytes, cut by `cut` or by the disk; both say the same."""
    model = MODELS[case]()
    made, x = Codec(model), torch.randn(n, *model.shape)
    data = made.encode(x, progressive=True)
    header, found = unpack(data), made.read(data)
    assert not found.note
    step = max(1, len(data) // 40)
    for length in [*range(header.size, len(data), step), len(data) - 1]:
        raw, shorter = made.read(data[:length]), cut(data, length)
        assert f"ends after {length} of {len(data)} bytes" in raw.note
        assert unpack(shorter).kind == "cut" and len(shorter) <= length
        short = made.read(shorter)
        by_bits = made.read(data, bits=8 * length / n)
        for other in (short, by_bits):
            assert not other.note and other.beta == raw.beta
            assert (other.x == raw.x).all()
        assert cut(cut(data, length + 1), length) == shorter
        assert cut(shorter, length) == cut(shorter, 10**9) == shorter
    for length in range(header.size):
        for call in (made.read, lambda d: cut(d, 999)):
            with pytest.raises(ValueError, match=r"is cut|cannot be read"):
                call(data[:length])
        with pytest.raises(ValueError, match="no room for the header"):
            cut(data, length)
        with pytest.raises(ValueError, match="no room for the header"):
            made.read(data, bits=8 * length / n)
    assert cut(data, len(data)) == cut(data, 10**9) == data
    for bits in (8 * len(data) / n, 1e9, math.inf):
        assert (made.decode(data, bits=bits) == found.x).all()
    for bits in (0, -3, math.nan):
        with pytest.raises(ValueError, match="no room for the header"):
            made.decode(data, bits=bits)


def test_the_whole_file_is_the_finest_grid(digits):
    """With means that are rounded, and not moved."""
    made, x = Codec(digits[0].model, search=0), digits[1]
    whole = made.encode(x, progressive=True)
    index = unpack(whole).beta_index
    assert made.index(made.ends[0]) == index
    grid, vae = made.plan(index, {}).grid, made.vae(index)
    with torch.no_grad():
        means = vae.encode(x).mean.double().numpy().T
        numbers = np.rint(means / grid.steps[:, None]).astype(np.int64)
        exact = made.vae(index, exact=True).decode(grid.codes(numbers)).mean
    assert ((made.decode(whole) - exact.clamp(0, 1)).abs() <= 0.5 / 255 + 1e-4).all()
    assert (2 / 3**0.5 > grid.steps / made.grid(index, {}).steps).sum() > 0
    ratio = np.log(grid.steps / made.grid(index, {}).steps) / np.log(3)
    assert np.abs(ratio).max() < 0.55 and np.abs(ratio.mean()) < 0.1


def test_more_bits_are_better(digits, whole):
    made, x = digits
    bits = [1, 3, 6, 10, 15, 20, 25, 30, 36, 44]
    found = [made.read(whole, bits=b) for b in bits]
    gains = np.diff([psnr(each.x, x) for each in found])
    assert (gains > -0.1).all() and gains.sum() > 6
    betas = [each.beta for each in found]
    assert betas == sorted(betas, reverse=True) and betas[0] > 100 * betas[-1]
    assert made.read(whole).beta == pytest.approx(made.ends[0], rel=0.016)


@pytest.mark.parametrize("beta", [1.2, 1.0, 0.8, 0.5, 0.2, 0.05, 0.02])
def test_a_cut_file_is_near_one_for_its_rate(digits, whole, beta):
    """From 10 bits on, about a decibel below a file that was made for as many bits at most."""
    made, x = digits
    own = made.encode(x, beta)
    bits = 8 * len(own) / len(x)
    assert bits > 10
    part = made.decode(whole, bits=bits)
    assert psnr(part, x) > psnr(made.decode(own), x) - 1.1


def test_a_beta_above_the_lowest_may_be_the_last(digits, whole):
    made, x = digits
    data = made.encode(x, 0.3, progressive=True)
    assert made.read(data).beta == pytest.approx(0.3, rel=0.016)
    assert len(data) < 0.7 * len(whole)
    own = made.encode(x, 0.3)
    assert psnr(made.decode(data), x) > psnr(made.decode(own), x) - 1


def test_what_cannot_be_cut(digits):
    made, x = digits
    data = made.encode(x[:20], 0.3)
    with pytest.raises(ValueError, match=r"the file is lossy, and only progressive ones"):
        cut(data, 20)
    with pytest.raises(ValueError, match=r"bits=5: the file is lossy, and has no beginnings"):
        made.decode(data, bits=5)
    with pytest.raises(ValueError, match="damaged, cut, or of another model"):
        made.decode(data[:-1])
    progressive = made.encode(x[:20], progressive=True)
    with pytest.raises(ValueError, match="the file is progressive, and not read in batches"):
        next(made.batches(progressive))
    with pytest.raises(ValueError, match="its checksum differs"):
        cut(progressive[:-1] + bytes([progressive[-1] ^ 1]), 40)


def test_many_examples_need_some_bytes(whole):
    """A file of a few bytes cannot say that it has a million examples."""
    header = unpack(whole)  # 359 examples
    with pytest.raises(ValueError, match="0 bytes of bits are too few for 359 examples"):
        cut(whole, header.size)
    shortest = cut(whole, header.size + 1)
    assert unpack(shortest).length == 1
    for count, length in [(0, 0), (256, 0), (257, 1), (384, 1), (385, 2), (2**28, 2**21 - 2)]:
        check_room(count, length)
        if length:
            with pytest.raises(ValueError, match=f"too few for {count:,}"):
                check_room(count, length - 1)


@pytest.mark.parametrize("progressive", [False, True])
def test_many_examples_that_say_nothing(progressive):
    """Where all latents are dead, a file has next to no bits, and is read all the same."""
    model = small((6,), Gaussian(0.3))
    with torch.no_grad():
        head = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Linear)][-1]
        head.bias[3:] -= 20
    made = Codec(model)
    data = made.encode(torch.randn(1000, 6), 2.0, progressive=progressive)
    assert len(data) == unpack(data).size + 6
    found = made.read(data)
    assert found.x.shape == (1000, 6) and (found.x == found.x[0]).all() and not found.note


def test_a_note_is_said(digits, whole, capsys):
    made, _ = digits
    made.decode(whole)
    made.decode(cut(whole, 300))
    assert capsys.readouterr().err == ""
    made.decode(whole[:300])
    assert capsys.readouterr().err.count("\n") == 1


def test_the_order_is_the_models_alone(digits, whole):
    """A plan has each live latent once, then its thirds; the same from a copy of the model."""
    made, _ = digits
    index = unpack(whole).beta_index
    plan, again = made.plan(index, {}), Codec(made.model).plan(index, {})
    assert plan == again and plan.digest == again.digest
    assert plan.digest != replace(plan, passes=plan.passes[::-1]).digest
    for group, lives in enumerate(plan.grid.live):
        mine = [each for each in plan.passes if each.group == group]
        assert [each.first for each in mine] == ([True] + [False] * (len(mine) - 1)) * lives
        assert [each.power for each in mine] == [*range(len(mine) - 1, -1, -1)]
    betas = [each.beta for each in plan.passes]
    assert betas == sorted(betas, reverse=True)
