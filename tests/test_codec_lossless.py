"""Lossless codes: everything comes back, at D + R bits, on any machine."""

import itertools
import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import multibeta
from multibeta.codec import decisions, lossless
from multibeta.codec.decisions import MIDDLE, Known, Read, chances, kind_of, nearest
from multibeta.codec.lossless import decode, encode
from multibeta.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    Gaussian,
    Multinomial,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from multibeta.vae import BetaVAE, Standardised

pytest.importorskip("constriction")

D, Z = 20, 4
LIKELIHOODS = {
    "bernoulli": (Bernoulli, 2.0),
    "two": (partial(Categorical, 2), 4.0),
    "five": (partial(Categorical, 5), 4.0),
    "three hundred": (partial(Categorical, 300), 4.0),
    "logistic": (DiscretizedLogistic, 0.5),
    "poisson": (Poisson, 2.0),
    "shared": (NegativeBinomial, 2.0),
    "feature": (partial(NegativeBinomial, "feature", D), 2.0),
    "output": (partial(NegativeBinomial, "output"), 2.0),
    "zero inflated": (ZeroInflatedNegativeBinomial, 2.0),
    "multinomial": (Multinomial, 2.0),
}


def model(name="bernoulli", seed=0):
    """Return a VAE of random weights."""
    torch.manual_seed(seed)
    make, gain = LIKELIHOODS[name]
    likelihood = make()
    encoder = nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, 2 * Z))
    decoder = nn.Sequential(nn.Linear(Z, 16), nn.Tanh(), nn.Linear(16, D * likelihood.outputs))
    with torch.no_grad():
        decoder[2].weight *= gain
    return BetaVAE(encoder, decoder, likelihood, (Z,), 1.0, shape=(D,)).eval()


@torch.no_grad()
def examples(vae, n):
    """Return examples of its own."""
    inputs = {"library": torch.full((n,), 60.0)} if name_of(vae) == "Multinomial" else {}
    return vae.decode(torch.randn(n, Z), **inputs).sample()


def name_of(vae):
    return type(vae.likelihood).__name__


@torch.no_grad()
def bits(vae, x, samples=16):
    """Return D + R of each example and sample, in bits: (samples, N)."""
    terms = [vae.elbo_terms(x) for _ in range(samples)]
    return torch.stack([t.distortion + t.rate_nats for t in terms]).numpy() / np.log(2)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_what_comes_back_and_what_it_costs(name):
    vae = model(name)
    x = examples(vae, 600)
    code = encode(vae, x)
    back = decode(vae, code.payload, len(x))
    assert back.dtype == x.dtype and torch.equal(back, x)
    assert code.bits == 8 * len(code.payload)
    assert code.net_bits_per_example * 600 == pytest.approx(code.bits - code.initial_bits)
    assert code.bits_per_value == code.bits_per_example / D
    assert 64 <= code.initial_bits <= 160  # a sample of q and what the coder keeps
    wanted = bits(vae, x)
    error = wanted.std(0).mean() / 600**0.5
    total = 2 * np.log2(60) + 1 if name == "multinomial" else 0
    assert code.net_bits_per_example == pytest.approx(
        wanted.mean() + total, abs=4 * error + 0.003 * wanted.mean() + total / 6
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_decisions_have_the_probability_of_x(name):
    """The product of all decisions is p(x|z), which torch computes in another way."""
    vae = model(name).double()
    inputs = {"library": torch.full((50,), 60.0)} if name == "multinomial" else {}
    with torch.no_grad():
        p = vae.decode(torch.randn(50, Z, dtype=torch.float64), **inputs)
        x = p.sample()
    kind, base = kind_of(vae.likelihood, p)
    known = Known(kind.targets(kind.symbols(x)))
    kind.walk(base, known)
    yes, chance, _ = known.finished()
    cost = -np.log(np.where(yes == 1, chance, 1 - chance)).sum() / 50
    if name == "multinomial":  # the total, whose probability is 1/61 − 1/62
        cost -= np.log(61 * 62)
    assert cost == pytest.approx(-p.log_prob(x).mean().item(), rel=2e-3)


def test_counts_without_end():
    """Any count has a code, at two bits a digit where p gives it no mass."""
    vae = model("poisson")
    x = examples(vae, 3)
    x[0, 0], x[1, 3], x[2, 5] = 2.0**24, 1e15, 123456.0
    code = encode(vae, x)
    assert torch.equal(decode(vae, code.payload, 3), x)
    assert code.bits < 1200
    x[0, 0] = 2.0**60
    with pytest.raises(ValueError, match=r"1\.15292\d+e\+18; .* whole numbers up to 4503599"):
        encode(vae, x)
    whole = torch.full((1, D), 2**24 + 1)
    with pytest.raises(ValueError, match="float32 cannot hold; give the model float64"):
        encode(vae, whole)
    double = model("poisson").double()
    assert torch.equal(decode(double, encode(double, whole).payload, 1), whole.double())


def conv():
    """Return a VAE whose code is a map, and whose pictures may have any size."""
    torch.manual_seed(0)
    encoder = nn.Conv2d(1, 4, 2, stride=2)
    decoder = nn.ConvTranspose2d(2, 1, 2, stride=2)
    return BetaVAE(encoder, decoder, Bernoulli(), (2, 3, 4), 1.0, shape=(1, 6, 8)).eval()


def test_maps_of_another_size():
    vae = conv()
    x = torch.bernoulli(torch.full((5, 1, 6, 8), 0.5))
    assert torch.equal(decode(vae, encode(vae, x).payload, 5), x)
    large = torch.bernoulli(torch.full((5, 1, 10, 4), 0.5))
    code = encode(vae, large)
    assert torch.equal(decode(vae, code.payload, 5, shape=(1, 10, 4)), large)
    vae.shape = ()
    with pytest.raises(ValueError, match="give shape="):
        decode(vae, code.payload, 5)


def test_further_inputs_and_a_wrong_one():
    vae = model("shared")
    x = examples(vae, 30)
    library = x.sum(1)
    code = encode(vae, x, {"library": library})
    assert torch.equal(decode(vae, code.payload, 30, {"library": library}), x)
    with pytest.raises(ValueError, match="damaged, or of another model"):
        decode(vae, code.payload, 30, {"library": library.flip(0)})


def test_pictures_of_bytes_and_of_floats():
    vae = model("logistic")
    x = torch.randint(0, 256, (7, D), dtype=torch.uint8)
    code = encode(vae, x)
    assert code == encode(vae, x.float() / 255) == encode(vae, x.double() / 255)
    assert torch.equal(decode(vae, code.payload, 7), x.float() / 255)
    two = (x > 99).to(torch.uint8) * 255
    vae = model()
    assert torch.equal(decode(vae, encode(vae, two).payload, 7), two.float() / 255)
    assert encode(vae, two) == encode(vae, two > 0) == encode(vae, (two > 0).float())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bernoulli", 0.37, r"value 0\.37.*; lossless .* knows 0 and 1: binarise the data"),
        ("bernoulli", 2.0, "Bernoulli allows"),
        ("bernoulli", float("nan"), "nan"),
        ("logistic", 0.37, r"value 0\.37.*knows 0, 1/255 … 1 in torch\.float32: give uint8"),
        ("poisson", 0.5, "Poisson allows whole numbers"),
        ("five", 5.0, "whole numbers from 0 to 4"),
    ],
)
def test_data_without_a_code(name, value, message):
    vae = model(name)
    x = examples(vae, 2)
    x[1, 2] = value
    with pytest.raises(ValueError, match=message) as error:
        encode(vae, x)
    assert "\n" not in str(error.value)


def test_models_without_a_code():
    vae = model()
    x = examples(vae, 2)
    with pytest.raises(ValueError, match="no examples"):
        encode(vae, x[:0])
    with pytest.raises(ValueError, match=r"\(B, 20\) is wanted"):
        encode(vae, x[:, :3])
    vae.likelihood = Gaussian()
    with pytest.raises(ValueError, match=r"Gaussian .* not one of the likelihoods of discrete"):
        encode(vae, x)
    vae = model()
    vae.decoder[2].bias.data[3] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        encode(vae, x)
    vae = model()
    vae.encoder[2].bias.data[3] = torch.inf
    with pytest.raises(ValueError, match="no finite numbers"):
        encode(vae, x)
    vae.encoder = nn.Sequential(model().encoder, Cast())
    with pytest.raises(ValueError, match=r"returns torch\.float32 for float64"):
        encode(vae, x)


class Cast(nn.Module):
    def forward(self, x):
        return x.float()


def test_without_constriction(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ValueError, match=r"pip install 'multibeta\[codec\]'"):
        encode(model(), torch.zeros(1, D))


ELSEWHERE = """
import sys, numpy as np, torch
from tests.test_codec_lossless import decode, encode, examples, model
torch.use_deterministic_algorithms(False)
vae = model("logistic")
x = examples(vae, 90)
payload = bytes.fromhex(sys.stdin.read())
assert encode(vae, x).payload == payload
assert torch.equal(decode(vae, payload, 90), x)
print(torch.get_num_threads())
"""


OLDER = {
    "OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}  # fmt: skip
"""The environment of an older processor: networks' outputs differ in their last digits."""


@pytest.mark.slow
def test_another_process_with_other_threads():
    vae = model("logistic")
    x = examples(vae, 90)
    threads = torch.get_num_threads()
    payload = encode(vae, x).payload
    torch.set_num_threads(3)
    try:
        assert encode(vae, x).payload == payload
        assert torch.equal(decode(vae, payload, 90), x)
    finally:
        torch.set_num_threads(threads)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=payload.hex(), text=True, capture_output=True,
        env={**os.environ, **OLDER}, cwd=Path(multibeta.__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"


class Noisy(nn.Module):
    """A network on a machine that adds in another order."""

    def __init__(self, network, size):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x):
        out = self.network(x)
        return out + self.size * torch.randn(out.shape, dtype=out.dtype)


def on_the_border():
    """Return a VAE all of whose odds and means lie between two steps."""
    vae = model()
    with torch.no_grad():
        for layer in (vae.encoder[2], vae.decoder[2]):
            layer.weight.zero_()
        steps = torch.arange(D, dtype=torch.float64) - 10 + decisions._BORDER
        vae.double()
        vae.decoder[2].bias.copy_(steps / 32)
        vae.encoder[2].bias[:Z].copy_(steps[:Z] / 16)
        vae.encoder[2].bias[Z:].zero_()
    return vae


def test_another_machine(monkeypatch):
    """What may be rounded one way or the other is listed in the code."""
    x = torch.bernoulli(torch.full((20, D), 0.5, dtype=torch.float64))
    vae, other = on_the_border(), on_the_border()
    other.encoder = Noisy(other.encoder, 1e-10)
    other.decoder = Noisy(other.decoder, 1e-10)
    payload = encode(vae, x).payload
    for _ in range(5):
        assert torch.equal(decode(other, payload, 20), x)
    monkeypatch.setattr(decisions, "_NEAR", 0.0)
    short = encode(vae, x).payload
    assert len(short) < len(payload) / 4
    assert torch.equal(decode(vae, short, 20), x)
    with pytest.raises(ValueError, match="damaged"):
        decode(other, short, 20)


def test_weights_of_another_machine():
    """Those at β, in float64, may differ in their last digits."""
    vae = multibeta.load("mnist").double().at_beta(0.3)
    torch.manual_seed(0)
    x = torch.bernoulli(vae.sample(40))
    payload = encode(vae, x).payload
    for weight in vae.parameters():
        weight.data *= 1 + 2e-16 * torch.randn_like(weight)
    assert torch.equal(decode(vae, payload, 40), x.double())


def test_nothing_is_listed_where_nothing_is_near():
    """A list is rare: of a million numbers half a dozen."""
    numbers = np.random.default_rng(0).normal(size=1_000_000) * 100
    rounded, listed = nearest(numbers)
    assert len(listed) < 10 and np.abs(rounded + MIDDLE - numbers).max() <= 0.5 + 1e-6
    again, _ = nearest(numbers + 1e-9, listed)
    assert np.array_equal(rounded, again)
    with pytest.raises(ValueError, match="NaN or infinity"):
        nearest(np.array([0.0, np.inf]))


def test_chances_are_those_of_the_odds():
    from scipy.special import expit

    odds = (np.arange(-512, 514) + MIDDLE) / 32
    assert np.abs(chances() - expit(odds)).max() < 1e-15


def test_reading_asks_as_writing_did():
    """Odds, and what was listed, are found again where the questions come in parts."""
    known = Known(np.arange(6))
    odds = np.array([0.3, decisions._BORDER / 32, -2.0, 20.0, decisions._BORDER / 32, 0.0])
    for at in range(0, 6, 2):
        known(np.arange(at, at + 2), 3, odds[at : at + 2])
    yes, chance, listed = known.finished()
    assert yes.tolist() == [0, 0, 0, 1, 1, 1] and listed.tolist() == [1, 4]
    seen = []
    read = Read(lambda p: seen.append(p) or np.ones(len(p)), listed)
    for at in range(0, 6, 2):
        read(np.arange(2), 3, odds[at : at + 2] + 1e-9)
    assert np.array_equal(np.concatenate(seen), chance)


def test_z_are_samples_of_q(monkeypatch):
    """None far off, none that follows the one before, though the codes are no N(0, I)."""
    vae = Standardised(model(), torch.zeros(Z), torch.full((Z,), 0.3))
    found, pop = [], lossless.Stack.pop

    def watched(self, of, *parameters):
        out = pop(self, of, *parameters)
        if len(parameters) == 2:
            mean, std = parameters
            found.append((out - mean) / std)
        return out

    monkeypatch.setattr(lossless.Stack, "pop", watched)
    encode(vae, examples(model(), 3000))
    z = np.concatenate(found)
    assert len(z) == 3000 * Z and np.abs(z).max() < 6
    # The steps of z are as wide as σ where that is narrow: they add up to 1/12 to the variance.
    assert abs(z.mean()) < 0.04 and 0.97 < z.std() < 1.05


def test_few_initial_bits_however_many_examples():
    """Batches grow no faster than the stack does."""
    vae = model()
    x = examples(vae, 1000)
    initial = [encode(vae, x[:n]).initial_bits for n in (1, 10, 100, 1000)]
    assert max(initial) <= 160
    one = encode(vae, x[:1])
    assert one.bits < one.initial_bits + 2 * bits(vae, x[:1]).mean() + 32


def test_pictures_of_a_shipped_model():
    """D + R at every β; of pictures that the model draws at β = 1 it is least there."""
    mnist, size = multibeta.load("mnist"), {}
    torch.manual_seed(0)
    x = torch.bernoulli(mnist.at_beta(1.0).sample(300))
    for beta in (0.05, 1.0, 9.0):
        vae = mnist.at_beta(beta)
        code = encode(vae, x)
        assert torch.equal(decode(vae, code.payload, 300), x)
        size[beta] = code.bits_per_example
        assert size[beta] == pytest.approx(bits(vae, x).mean(), rel=0.012)
    assert size[1.0] < min(size[0.05], size[9.0])
    with pytest.raises(ValueError, match="damaged"):
        decode(mnist.at_beta(8.9), code.payload, 300)


GOLDEN = {
    "bernoulli": ("29065760afa049975f01e2a75d50f26ce77956159d9312d44422bb1901"),
    "poisson": (
        "2906c04b98209cd2af2931c6b67a72a6551412d59fc75e655b66c9c3f9a40b43fa799ee178aaccfd"
        "42e3d59e2c07b9eb3b3520"
    ),
    "logistic": (
        "290628da6dbfb1d66c603be1fd4b515e5e2159f8f9e3d12c01bf342274273fea034277e184c82f3f"
        "ad1b0079e12296c8cc68b9f14744cbe1d064b594e82fff2fc76f6bd8f74ae7eb5a09775f5901ff64"
        "ead07356b4623ab2ac50da5dfffb9619d3da58f264067aa9ff520a54ff68383fffe114597020910b"
        "ffeda892fd61b7f4ff006a9dfd337631fb97d3de754522f7ffd26cfaffd62e11ca2292d595235bdf"
        "3c3d0304"
    ),
}


def golden(name):
    """Return a model and examples that no generator draws."""
    vae = model(name).double()
    for at, weight in enumerate(vae.parameters()):
        flat = torch.arange(weight.numel(), dtype=torch.float64) * 0.7 + at
        weight.data.copy_(flat.sin().reshape(weight.shape) / (8 if at % 2 else 2))
    steps = torch.arange(5 * D, dtype=torch.float64).reshape(5, D)
    top = {"bernoulli": 2, "poisson": 5, "logistic": 256}[name]
    return vae, (steps**2 * 1.37 % top).floor() / (255 if top == 256 else 1)


@pytest.mark.parametrize("name", GOLDEN)
def test_codes_of_before(name):
    """A code that was written is read by later versions, on all machines."""
    vae, x = golden(name)
    assert encode(vae, x).payload.hex() == GOLDEN[name]
    assert torch.equal(decode(vae, bytes.fromhex(GOLDEN[name]), 5), x)


def damaged(payload, rng):
    """Yield damaged codes and counts."""
    for at in itertools.chain(range(10), rng.choices(range(len(payload)), k=60)):
        flipped = bytearray(payload)
        flipped[at] ^= 1 << rng.randrange(8)
        yield bytes(flipped), 12
    for at in itertools.chain(range(8), rng.choices(range(len(payload) - 1), k=20)):
        yield payload[:at], 12
        yield payload + rng.randbytes(1 + at), 12
    for wrong in (-1, 0, 1, 11, 13, 10**12):
        yield payload, wrong
    for _ in range(20):
        yield rng.randbytes(rng.randrange(100)), 12
        yield payload[:2] + rng.randbytes(rng.randrange(100)), 10**12
        yield bytes([rng.randrange(90), rng.randrange(30)]) + payload[2:], 12


@pytest.mark.parametrize("name", ["bernoulli", "logistic", "zero inflated", "multinomial"])
def test_damaged_codes(name, capfd):
    vae = model(name)
    payload = encode(vae, examples(vae, 12)).payload
    tried = 0
    for wrong, count in damaged(payload, random.Random(0)):
        if (wrong, count) == (payload, 12):
            continue
        tried += 1
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            decode(vae, wrong, count)
    assert tried > 180
    assert capfd.readouterr() == ("", "")  # constriction did not panic, either


def test_binomial_masses_are_those_of_scipy():
    """Halves of a total are binomial: each count's probability, from its decisions."""
    from scipy import stats

    for total, p in ((0, 0.3), (1, 0.3), (7, 0.02), (40, 0.6)):
        found = []
        for count in range(total + 1):
            known = Known(np.array([count]))
            many = np.array([total]), np.array([p]), np.array([1 - p])
            assert decisions._split(*many, known) == [count]
            yes, chance, _ = known.finished()
            found.append(np.where(yes == 1, chance, 1 - chance).prod())
        assert np.allclose(
            found, stats.binom(total, p).pmf(range(total + 1)), rtol=0.06, atol=1e-6
        )
