"""The codec's tables: whole numbers that are N(0, 1), and what they learn."""

import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from multibeta.codec import symbols as symbols_module
from multibeta.codec.streams import Reader, Writer, shortest
from multibeta.codec.symbols import Numbers, Thirds, blocks
from multibeta.codec.tables import TOTAL, alphabet, learned, normal_cdf, shares, step_of

pytest.importorskip("constriction")

ONE = 2**64
STEPS = [step_of(e) for e in (-40, -14, -3, 0, 9, 24, 31, 80, 200, 320)]


def precise_cdf(p):
    """Return Φ(p/2⁶⁴) in units of 2⁻⁶⁰ by the alternating series of erf, to 120 digits."""
    with localcontext() as context:
        context.prec = 120
        x, pi = Decimal(p) / ONE, Decimal(PI)
        term, total, n = x, x, 0
        while abs(term) > Decimal(10) ** -110:
            n += 1
            term *= -x * x / (2 * n)
            total += term / (2 * n + 1)
        return (Decimal(1) / 2 + total / (2 * pi).sqrt()) * 2**60


PI = (
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482"
    "534211706798214808651"
)


def test_normal_cdf_is_scipys():
    x = np.linspace(-9, 9, 721)
    ours = [normal_cdf(int(v * 2**32) << 32) / 2**60 for v in x]
    np.testing.assert_allclose(ours, ndtr(np.trunc(x * 2**32) / 2**32), rtol=0, atol=7e-16)


@pytest.mark.parametrize("x", [-8, -7.999, -5.5, -2, -0.1, -1e-9, 0, 1e-15, 0.7, 1, 3.25, 6, 8])
def test_normal_cdf_is_exact_to_its_last_bit(x):
    p = int(x * 2**40) << 24
    assert abs(normal_cdf(p) - precise_cdf(p)) <= 1


def test_normal_cdf_rises_and_is_symmetric():
    ahead = [k * ONE // 37 for k in range(1, 311)]
    points = [*(-p for p in reversed(ahead)), 0, *ahead]
    values = [normal_cdf(p) for p in points]
    assert all(b >= a for a, b in itertools.pairwise(values))
    assert values == [2**60 - v for v in reversed(values)]
    assert (values[0], normal_cdf(0), values[-1]) == (0, 2**59, 2**60)


def test_steps_are_exact():
    """The eighth power of the largest whole number below 2^(64 − e/8) is below 2^(512 − e)."""
    for e in range(-400, 501):
        step = step_of(e)
        assert step**8 <= 2 ** (512 - e) < (step + 1) ** 8, e


@pytest.mark.parametrize("step", STEPS)
def test_alphabets_are_n01(step):
    found = alphabet(step)
    assert found.masses.sum() == TOTAL and found.masses.min() >= 1
    assert found.size == len(found.masses) <= 2 * 64 + 3
    wide = step / ONE * 2.0**found.shift
    shift = (2**found.shift - 1) / 2 * step / ONE  # of the middle of a cell of several numbers
    middles = (np.arange(found.size - 2) + found.first) * wide + shift
    exact = ndtr(middles + wide / 2) - ndtr(middles - wide / 2)
    assert found.shift == 0 or 0.125 <= wide < 0.25
    np.testing.assert_allclose(found.masses[1:-1] / TOTAL, exact, atol=2e-5)


@pytest.mark.parametrize("step", STEPS)
def test_split_and_join(step):
    found, rng = alphabet(step), np.random.default_rng(0)
    ends = np.array([-(2**63), 2**63 - 1, -(2**62), 2**62, -1, 0, 1])
    near = rng.integers(-(2 << found.shift + 7), 2 << found.shift + 7, 500)
    numbers = np.concatenate([ends, near, rng.integers(-(2**63), 2**63 - 1, 500)])
    symbols, low, excess = found.split(numbers)
    assert symbols.min() >= 0 and symbols.max() < found.size
    assert low.min() >= 0 and low.max() < 2**found.shift
    assert excess.min() >= 0 and len(excess) == found.beyond(symbols).sum()
    assert (found.join(symbols, low, excess) == numbers).all()


def test_shares_are_in_proportion():
    masses = [0, 1, 2**40, 3 * 2**40, 10**15]
    weights = shares(masses)
    assert weights.sum() == TOTAL and weights.min() == 1
    np.testing.assert_allclose(weights / TOTAL, np.array(masses) / sum(masses), atol=1e-6)


@pytest.mark.parametrize("total", [0, 1, 100, 10**5, 2**25 - 1])
def test_learned_weights_are_counts_and_64_of_the_prior(total):
    rng = np.random.default_rng(total)
    masses = np.stack([shares([1, 5, 50, 0, 3]), shares([7, 1, 0, 0, 9])])
    counts = rng.multinomial(total, [0.5, 0.3, 0.0, 0.15, 0.05], size=2)
    weights = learned(masses, counts)
    assert (weights.sum(-1) == TOTAL).all() and weights.min() >= 1
    exact = (64 * masses / TOTAL + counts) / (64 + total)
    np.testing.assert_allclose(weights / TOTAL, exact, atol=1e-5)
    alone = np.stack([learned(m, c) for m, c in zip(masses, counts, strict=True)])
    assert (alone == weights).all()


def test_learned_does_not_overflow_where_all_symbols_are_one():
    counts = np.array([0, 2**25 - 1, 0])
    weights = learned(shares([1, 1, 1]), counts)
    assert weights.sum() == TOTAL and weights[1] > 0.99999 * TOTAL and weights.min() >= 1


@pytest.mark.parametrize("kind", ["numbers", "thirds"])
def test_what_is_counted_is_limited(monkeypatch, kind):
    """Without a limit 2²⁷ equal symbols, as of a large set of maps, would pass 2⁶³."""
    monkeypatch.setattr(symbols_module, "_MEMORY", 100)
    rng, step = np.random.default_rng(0), step_of(8)
    cells, numbers = rng.integers(-2, 3, 5000), rng.integers(-4, 5, 5000)
    numbers = 3 * cells + np.sign(numbers) if kind == "thirds" else numbers
    made = {"numbers": Numbers, "thirds": Thirds}[kind]
    writer, table = Writer(), made(step)
    for part in blocks(5000, 64):
        table.write(writer, *([cells[part]] if kind == "thirds" else []), numbers[part])
        assert table._counts.sum(-1).max() <= 100 + 64
    reader, table = Reader(writer.payload()), made(step)
    for part in blocks(5000, 64):
        given = cells[part] if kind == "thirds" else part.stop - part.start
        assert (table.read(reader, given) == numbers[part]).all()


def test_blocks_are_all_of_it():
    for count, most in itertools.product([0, 1, 15, 16, 17, 1000, 10_000], [16, 512, 4096]):
        parts = [*blocks(count, most)]
        assert [n for part in parts for n in range(count)[part]] == [*range(count)]
        assert all(part.stop - part.start <= most for part in parts)


def coded(numbers, step, most=4096):
    """Return the bytes of numbers; what is read is what was written."""
    writer, table = Writer(), Numbers(step)
    for part in blocks(len(numbers), most):
        table.write(writer, numbers[part])
    payload = writer.payload()
    reader, table = Reader(payload), Numbers(step)
    read = [table.read(reader, p.stop - p.start) for p in blocks(len(numbers), most)]
    assert (np.concatenate(read) == numbers).all()
    return payload


@pytest.mark.parametrize("step", STEPS)
def test_numbers_of_any_size_are_read_again(step):
    rng = np.random.default_rng(0)
    tails = np.clip(rng.standard_cauchy(300) * ONE / step, -(2.0**59), 2.0**59)
    ends = [2**60, -(2**60), 0, 1, -1]
    coded(np.concatenate([np.rint(tails).astype(np.int64), ends]), step)


def cross_entropy(numbers, step, density):
    """Return −Σ log₂ P(k) of the cells of a distribution, in bits."""
    wide = step / ONE
    mass = density.cdf((numbers + 0.5) * wide) - density.cdf((numbers - 0.5) * wide)
    return -np.log2(mass).sum()


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3, 0.9])
def test_n01_costs_its_entropy(sigma):
    """The price of learning what is known is under 1 % at 10,000 numbers, and some bits."""
    step = step_of(round(-8 * np.log2(12**0.5 * sigma)))
    numbers = np.rint(np.random.default_rng(1).standard_normal(10_000) * ONE / step)
    numbers = numbers.astype(np.int64)
    bits = 8 * len(coded(numbers, step))
    exact = cross_entropy(numbers, step, norm)
    assert exact - 32 < bits < 1.01 * exact + 100
    few = numbers[:20]
    assert 8 * len(coded(few, step)) < cross_entropy(few, step, norm) + 64 + 8


class Bimodal:
    """Half N(−1.2, 0.3²), half N(1.2, 0.3²)."""

    def cdf(self, x):
        return (norm.cdf(x, -1.2, 0.3) + norm.cdf(x, 1.2, 0.3)) / 2


@pytest.mark.parametrize("case", ["wide", "narrow", "bimodal"])
def test_tables_learn_another_distribution(case):
    rng, step = np.random.default_rng(2), step_of(8)  # a step of 0.5
    signs = rng.choice([-1.2, 1.2], 10_000)
    z, density = {
        "wide": (1.5 * rng.standard_normal(10_000), norm(0, 1.5)),
        "narrow": (0.4 + 0.5 * rng.standard_normal(10_000), norm(0.4, 0.5)),
        "bimodal": (signs + 0.3 * rng.standard_normal(10_000), Bimodal()),
    }[case]
    numbers = np.rint(z * ONE / step).astype(np.int64)
    bits, exact = 8 * len(coded(numbers, step)), cross_entropy(numbers, step, density)
    assert bits < 1.02 * exact + 40
    assert bits < cross_entropy(numbers, step, norm)  # what N(0, 1) alone would cost


def test_the_coder_learns_equal_numbers():
    """A thousand equal numbers cost less than half a bit each, a hundred thousand next to none."""
    assert len(coded(np.full(1000, 3), step_of(8))) * 8 < 500
    assert len(coded(np.full(100_000, 3), step_of(8))) * 8 < 1200


@pytest.mark.parametrize("weights", ["one table", "a table each"])
def test_streams(weights):
    """A table for all symbols, and the same one for each of them, are the same bits."""
    table = shares([5, 1, 2, 20, 7])
    symbols = np.random.default_rng(0).integers(0, 5, 200)
    given = table if weights == "one table" else np.tile(table, (200, 1))
    writer = Writer()
    writer.symbols(symbols, given)
    writer.bits(symbols * 2**17 + 5, 20)
    writer.naturals(np.array([2**61, 0, 1, 2, 77]))
    again = Writer()
    again.symbols(symbols, table)
    again.bits(symbols * 2**17 + 5, 20)
    again.naturals(np.array([2**61, 0, 1, 2, 77]))
    payload = writer.payload()
    assert payload == again.payload()
    exact = -np.log2(table[symbols] / TOTAL).sum() + 200 * 20 + (123 + 1 + 3 + 3 + 13)
    assert exact - 8 < 8 * len(payload) < exact + 64
    reader = Reader(payload)
    assert (reader.symbols(200, given) == symbols).all()
    assert (reader.bits(200, 20) == symbols * 2**17 + 5).all()
    assert reader.naturals(5).tolist() == [2**61, 0, 1, 2, 77]


def test_shortest_leaves_out_what_says_nothing():
    rng, step = np.random.default_rng(0), step_of(8)
    for _ in range(30):
        numbers = np.rint(rng.standard_normal(6) * 2).astype(np.int64)
        payload = coded(numbers, step)

        def says(bits, numbers=numbers):
            return (Numbers(step).read(Reader(bits), 6) == numbers).all()

        short = shortest(payload, says)
        assert says(short) and len(short) <= len(payload)
        exact = cross_entropy(numbers, step, norm)
        assert 8 * len(short) <= exact + 10
    assert shortest(bytes(300), lambda _: True) == bytes(300)  # long ones are left as they are


def test_a_number_without_an_end_is_refused():
    writer = Writer()
    writer.bits(np.ones(80, dtype=np.int64), 1)
    with pytest.raises(ValueError, match="has no end"):
        Reader(writer.payload()).naturals(1)
    with pytest.raises(ValueError, match="its bits cannot be read"):
        Reader(b"\xff" * 40).naturals(1)
