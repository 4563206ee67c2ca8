"""Examples to bytes and back: any model, likelihood, shape, batch, thread and process."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

import multibeta
from multibeta import likelihoods
from multibeta.codec import Codec, codec
from multibeta.codec.container import unpack
from multibeta.codec.grids import log_steps
from multibeta.codec.lossy import read_numbers
from multibeta.data import Digits
from multibeta.distortions import Distortion
from multibeta.multibeta_vae import MultiBetaVAE, wrap
from multibeta.networks import MLP, Conv, ResNet
from tests.helpers import OwnConditionalDecoder, OwnConditionalEncoder, l1

pytest.importorskip("constriction")

SHAPE = (1, 4, 4)


@pytest.fixture(scope="module")
def digits():
    """The shipped model's codec, and the 359 digits of the test set in [0, 1]."""
    return Codec(multibeta.load("digits")), Digits().load()["test"] / 255


def small(shape=SHAPE, likelihood=None, network=None, betas="0.05:2", latents=3):
    """Return a model that is not trained, whose latents live below β = 1."""
    torch.manual_seed(0)
    network = network or MLP(8, 1)
    model = MultiBetaVAE.of(
        shape, betas, network=network, latent_dim=latents, likelihood=likelihood
    )
    return alive(model)


def head_of(model):
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [m for m in model.encoder.modules() if isinstance(m, kinds)][-1]


@torch.no_grad()
def precise(model, **inputs):
    """Return a live model with small variances, whose logarithm its encoder gives."""
    model = alive(model, **inputs)
    head_of(model).bias[model.latent_shape[0] :] -= 6.0
    return model


@torch.no_grad()
def alive(model, **inputs):
    """Scale the head of the encoder, so that means have a standard deviation of about 1."""
    head = head_of(model)
    half, x = len(head.bias) // 2, drawn(model.likelihood, 64, model.shape)
    vae = model.at_beta(model.beta_range.low)
    means = vae.encode(x, **inputs).mean.transpose(0, 1).flatten(1)
    scale = 1 / means.std(1)
    head.weight[:half] *= scale.reshape(-1, *[1] * (head.weight.ndim - 1))
    head.bias[:half] = (head.bias[:half] - means.mean(1)) * scale
    head.bias[half:] += 1.0
    return model


def plain_vae(likelihood=None):
    return small(likelihood=likelihood).at_beta(0.3)


def drawn(likelihood, n=21, shape=SHAPE):
    """Return examples that a likelihood gives a density to."""
    generator = torch.Generator().manual_seed(1)
    u = torch.rand(n, *shape, generator=generator)
    low, high = likelihood.support
    if likelihood.whole:
        return (u * (high + 1 if math.isfinite(high) else 9)).floor()
    if isinstance(likelihood, likelihoods.DiscretizedLogistic):
        return (u * 255).round() / 255
    return u if math.isfinite(low) else 4 * u - 2


def hashed(x):
    return hashlib.sha256(x.numpy().tobytes()).hexdigest()


def numbers_of(made, data, **inputs):
    """Return the numbers of steps in a file, and their grid."""
    header = unpack(data)
    grid = made.grid(header.beta_index, inputs)
    payload = data[header.size :]
    found = [*read_numbers(payload, grid, header.count * grid.per)]
    return (np.concatenate(found, 1) if found else np.zeros((len(grid.live), 0))), grid


def check_round_trip(made, x, beta, **inputs):
    """Encode and decode; what comes back is the decoding of the numbers, to 17 bits."""
    data = made.encode(x, beta, **inputs)
    assert made.encode(x, beta, **inputs) == data
    again = made.decode(data, **inputs)
    assert again.shape == x.shape and again.dtype == torch.float32
    numbers, grid = numbers_of(made, data, **inputs)
    vae = made.vae(unpack(data).beta_index, exact=True)
    assert abs(math.log(vae.beta / beta)) < 1 / 64
    given = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        exact = vae.decode(grid.codes(numbers.astype(np.int64)), **given).mean
    assert (again.double() - exact).abs().le(exact.abs() * 2.0**-16 + 1e-30).all()
    assert numbers.any() or not len(x)
    return data, numbers


LIKELIHOODS = {
    **{name: getattr(likelihoods, name) for name in likelihoods.__all__ if name != "Likelihood"},
    "Categorical": lambda: likelihoods.Categorical(4),
    "Gaussian": lambda: likelihoods.Gaussian(0.3),
    "Distortion": lambda: Distortion(l1),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood(name):
    likelihood = LIKELIHOODS[name]()
    made, x = Codec(small(likelihood=likelihood), search=4), drawn(likelihood)
    check_round_trip(made, x, 0.05)
    data = made.encode(x, progressive=True)
    found = made.read(data)
    assert found.note == "" and found.x.shape == x.shape
    part = made.decode(data[: len(data) // 2])
    assert part.shape == x.shape and part.isfinite().all()
    if name == "Categorical":  # a mean of classes would be no class
        assert ((part == part.round()) & (part >= 0) & (part <= 3)).all()


SHAPES = {
    "table": ((9,), MLP(8, 1)),
    "signals": ((2, 13), Conv(4, 2)),
    "grey": ((1, 9, 8), Conv(4, 2)),
    "colour": ((3, 8, 8), ResNet(4, 2, 2, 1)),
    "volumes": ((1, 5, 6, 7), Conv(4, 2)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_every_shape(case):
    shape, network = SHAPES[case]
    made = Codec(small(shape, likelihoods.Gaussian(0.5), network), search=2)
    x = torch.randn(5, *shape)
    check_round_trip(made, x, 0.1)
    assert made.decode(made.encode(x, progressive=True)).shape == x.shape


def conv_vae(channels=2):
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.SiLU(), nn.Conv2d(4, 2 * channels, 3, 2, 1)
    )
    decoder = nn.Sequential(
        nn.ConvTranspose2d(channels, 4, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1)
    )
    return precise(wrap(encoder, decoder, "0.01:1", example=torch.randn(3, 1, 12, 12)))


def signal_vae():
    torch.manual_seed(0)
    encoder, decoder = nn.Conv1d(2, 6, 4, 4), nn.ConvTranspose1d(3, 2, 4, 4)
    return precise(wrap(encoder, decoder, "0.01:1", example=torch.randn(3, 2, 20)))


@pytest.mark.parametrize("make", [conv_vae, signal_vae])
def test_a_code_may_be_a_map(make):
    made, x = Codec(model := make(), search=3), torch.randn(7, *make().shape)
    assert made.grid(made.index(0.1), {}).per == math.prod(model.latent_shape[1:]) > 1
    data, numbers = check_round_trip(made, x, 0.1)
    assert numbers.shape == (model.latent_shape[0], 7 * math.prod(model.latent_shape[1:]))
    rounded = Codec(model, search=0)
    vae = rounded.vae(unpack(data).beta_index)
    numbers, grid = numbers_of(rounded, rounded.encode(x, 0.1))
    means = vae.encode(x).mean
    steps = torch.from_numpy(grid.steps).reshape(-1, *(1,) * (means.ndim - 2))
    assert (grid.codes(numbers) - means).abs().le(steps * 0.501).all()
    progressive = made.encode(x, progressive=True)
    assert made.decode(progressive[:-9]).shape == made.decode(progressive).shape == x.shape


def conditional_vae():
    torch.manual_seed(0)
    encoder, decoder = OwnConditionalEncoder(SHAPE, 3), OwnConditionalDecoder(SHAPE, 3, 1)
    example, digit = torch.randn(8, *SHAPE), torch.arange(8)
    model = wrap(encoder, decoder, "0.01:1", example=example, inputs={"digit": digit})
    return precise(model, digit=torch.arange(64) % 10)


def test_further_inputs():
    made, x = Codec(conditional_vae(), search=3), torch.randn(11, *SHAPE)
    digit = torch.arange(11) % 10
    data, _ = check_round_trip(made, x, 0.05, digit=digit)
    progressive = made.encode(x, progressive=True, digit=digit)
    assert made.decode(progressive[:-5], digit=digit).shape == x.shape
    one = made.encode(x, 0.05, digit=torch.tensor([3]))  # one row is for all
    many = made.encode(x, 0.05, digit=torch.full((11,), 3))
    assert one == many
    again = made.decode(one, digit=torch.tensor([3]))
    assert (again == made.decode(many, digit=digit * 0 + 3)).all()
    cases = [
        ({}, "it takes digit beside x and z"),
        ({"digit": digit[:5]}, "digit has 5 rows, and there are 11 examples"),
        ({"digit": digit, "digits": digit}, "takes the input digits"),
        ({"digit": digit.tolist()}, "digit is a list; give a tensor"),
        ({"digit": digit[:0]}, "digit has no rows"),
        ({"digit": digit + 90}, "cannot be run"),
    ]
    for inputs, message in cases:
        for call in (lambda **i: made.encode(x, 0.05, **i), lambda **i: made.decode(data, **i)):
            with pytest.raises(ValueError) as info:
                call(**inputs)
            assert "\n" not in str(info.value)
            # Of other labels there is another grid, and so another key.
            assert message in str(info.value) or "another model" in str(info.value)
    with pytest.raises(ValueError, match="another model"):
        made.decode(data, digit=9 - digit % 10)


def test_what_depends_on_further_inputs_is_made_once_for_them():
    made, index = Codec(conditional_vae(), search=0), 2000
    digit = torch.arange(11) % 10
    plan = made.plan(index, {"digit": digit})
    assert made.plan(index, {"digit": digit.clone()}) is plan
    digit[3] = 9  # in place
    other = made.plan(index, {"digit": digit})
    assert other is not plan
    assert made.plan(index, {"digit": digit.int()}) is not other
    assert Codec(made.model).plan(index, {"digit": digit}) == other


def test_lossless_files():
    """As other files they refuse inputs that do not fit; x comes back as it was."""
    encoder, decoder = OwnConditionalEncoder(SHAPE, 3), OwnConditionalDecoder(SHAPE, 3, 1)
    x, digit = (torch.rand(11, *SHAPE) > 0.5).float(), torch.full((11,), 3)
    made = Codec(
        wrap(
            encoder, decoder, "0.1:1", likelihood=likelihoods.Bernoulli(), example=x,
            inputs={"digit": digit},
        )
    )  # fmt: skip
    data = made.encode(x, 1.0, lossless=True, digit=digit)
    assert unpack(data).kind == "lossless"
    assert (made.decode(data, digit=digit) == x).all()
    one = digit[:1]
    assert made.encode(x.split(4), 1.0, lossless=True, digit=one) == data
    assert made.encode(x.numpy(), 1.0, lossless=True, digit=one) == data
    assert (made.decode(data, digit=one) == x).all()
    for inputs, message in [
        ({}, "it takes digit beside x and z"),
        ({"digit": digit[:5]}, "digit has 5 rows, and there are 11 examples"),
        ({"digit": digit, "digits": digit}, "takes the input digits"),
    ]:
        with pytest.raises(ValueError, match=message):
            made.encode(x, 1.0, lossless=True, **inputs)
        with pytest.raises(ValueError, match=message):
            made.decode(data, **inputs)
    with pytest.raises(ValueError, match="damaged, or of another model"):
        made.decode(data, digit=digit - 1)
    for wrong, message in [(x[:0], "no examples"), (x + 0.5, "allows"), ([], "no examples")]:
        with pytest.raises(ValueError, match=message):
            made.encode(wrong, 1.0, lossless=True, digit=digit[: max(1, len(wrong))])


def test_counts_with_a_library():
    likelihood = likelihoods.Multinomial()
    made, x = Codec(small((9,), likelihood), search=3), drawn(likelihood, 10, (9,))
    library = x.sum(1)
    data, _ = check_round_trip(made, x, 0.3, library=library)
    total = made.decode(data, library=library).sum(1)
    torch.testing.assert_close(total, library, rtol=1e-4, atol=0)


def test_a_plain_vae():
    vae, x = plain_vae(likelihoods.Gaussian(0.3)), torch.randn(9, *SHAPE)
    made = Codec(vae)
    assert made.ends == (vae.beta, vae.beta)
    data, _ = check_round_trip(made, x, vae.beta)
    assert made.decode(made.encode(x, progressive=True)).shape == x.shape
    with pytest.raises(ValueError, match=r"β = 0.5 is outside the trained range \[0.3, 0.3\]"):
        made.encode(x, 0.5)
    before = {k: v.clone() for k, v in vae.state_dict().items()}
    training = Codec(vae.train())  # what trains is coded as it is in evaluation, and left alone
    assert training.encode(x, vae.beta) == data and vae.training
    assert all((before[k] == v).all() for k, v in vae.state_dict().items())
    vae.beta = 0.0
    with pytest.raises(ValueError, match="β = 0 has no place in a file"):
        Codec(vae).encode(x, 0.0)


@pytest.mark.parametrize("n", [0, 1, 2, 300])
@pytest.mark.parametrize("progressive", [False, True])
def test_any_number_of_examples(n, progressive):
    made, x = Codec(small(likelihood=likelihoods.Gaussian(0.3)), search=3), torch.randn(n, *SHAPE)
    data = made.encode(x, 0.05, progressive=progressive)
    header = unpack(data)
    assert (header.count, header.kind) == (n, "progressive" if progressive else "lossy")
    found = made.read(data)
    assert found.x.shape == x.shape and not found.note
    assert found.beta == pytest.approx(0.05, rel=0.016)
    if n > 1:  # of batches the same file is made
        batches = iter(x.split(max(1, n // 3)))
        again = made.encode(batches, 0.05, progressive=progressive)
        assert again[: header.size - 6] == data[: header.size - 6]
    if n == 1:
        assert header.size == 4 + 3 * progressive


def test_ten_thousand_examples():
    made = Codec(small((6,), likelihoods.Gaussian(0.3)), search=0)
    x = torch.randn(10_000, 6, generator=torch.Generator().manual_seed(2))
    data = made.encode(x, 0.1)
    numbers, grid = numbers_of(made, data)
    again = torch.cat([*made.batches(data)])
    assert numbers.shape == (3, 10_000) and again.shape == x.shape
    with torch.no_grad():
        exact = made.vae(unpack(data).beta_index, exact=True).decode(grid.codes(numbers)).mean
    assert (again - exact).abs().max() < 1e-4
    part = made.decode(made.encode(x, 0.1, progressive=True)[:4000])
    assert part.shape == x.shape and part.isfinite().all()


def test_both_ends_of_the_range(digits):
    made, x = digits
    low, high = made.ends
    for beta in (low, high):
        data = made.encode(x[:30], beta)
        assert low <= unpack(data).beta <= high
        assert made.decode(data).shape == (30, 1, 8, 8)
    assert len(made.encode(x[:30], low)) > 4 * len(made.encode(x[:30], high))
    for beta in (low * 0.999, high * 1.001, -1.0, 0.0, math.nan, math.inf):
        for progressive in (False, True):
            with pytest.raises(ValueError, match="is outside the trained range"):
                made.encode(x, beta, progressive=progressive)
    with pytest.raises(ValueError, match="give β"):
        made.encode(x)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_without_gradients(mode):
    """The search needs some, and takes them."""
    made, x, digit = Codec(conditional_vae()), torch.randn(5, *SHAPE), torch.arange(5)
    data = made.encode(x, 0.05, digit=digit)
    with getattr(torch, mode)():
        again = Codec(made.model)
        assert again.encode(x.clone(), 0.05, digit=digit.clone()) == data
        assert (again.decode(data, digit=digit) == made.decode(data, digit=digit)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(dtype):
    made, x = Codec(small(likelihood=likelihoods.Gaussian(0.3)).to(dtype)), torch.randn(5, *SHAPE)
    check_round_trip(made, x, 0.1)
    assert made.decode(made.encode(x, progressive=True)).dtype == torch.float32


REFUSED = {
    "another shape": (torch.rand(3, 1, 4, 5), "the shape"),
    "no batch": (torch.rand(1, 4, 4), "the shape"),
    "a number": (torch.tensor(3.0), "one number"),
    "nan": (torch.full((3, 1, 4, 4), math.nan), "NaN"),
    "below 0": (torch.rand(3, 1, 4, 4) - 1, "allows"),
    "tuples": ([(torch.rand(3, 1, 4, 4), 1)], "batches of type tuple"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    x, message = REFUSED[case]
    made = Codec(small())
    for progressive in (False, True):
        with pytest.raises(ValueError, match=message) as info:
            made.encode(x, 0.1, progressive=progressive)
        assert "\n" not in str(info.value)


def test_other_ways_to_give_x():
    made, x = Codec(small()), (torch.rand(6, *SHAPE) * 255).round().to(torch.uint8)
    data = made.encode(x / 255, 0.1)
    assert made.encode(x, 0.1) == data
    assert made.encode((x / 255).numpy(), 0.1) == data
    assert made.encode((x / 255).double(), 0.1) == data
    assert made.encode([x[:4], x[4:]], 0.1)[:11] == data[:11]


def test_models_that_cannot_be_coded():
    with pytest.raises(ValueError, match=r"search=-1 is negative"):
        Codec(small(), search=-1)
    vae = plain_vae()
    vae.shape = ()
    with pytest.raises(ValueError, match="the shape of this model's examples is not known"):
        Codec(vae)

    class Single(nn.Module):
        def forward(self, x):
            return x.flatten(1).float() @ torch.ones(16, 6)

    vae = plain_vae(likelihoods.Gaussian())
    vae.encoder = Single()
    with pytest.raises(ValueError, match=r"cannot be run in float64 \(.*\)$") as info:
        Codec(vae.requires_grad_(False)).model.decoder.double()
        vae.decoder = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, SHAPE), Floats())
        Codec(vae).encode(torch.rand(3, *SHAPE), vae.beta)
    assert "\n" not in str(info.value)


class Floats(nn.Module):
    """Multiplies by a float32 matrix, whatever type its input has."""

    def forward(self, x):
        return x @ torch.ones(4, 4)


def test_what_is_not_finite_is_refused():
    """NaN would otherwise be a large whole number."""
    x = torch.randn(4, *SHAPE)
    for what, message in [(math.nan, "not finite"), (1e30, "too far from 0")]:
        vae = plain_vae(likelihoods.Gaussian(0.3))
        made = Codec(vae)
        made.grid(made.index(vae.beta), {})
        with torch.no_grad():
            vae.encoder[-2].bias[:3] = what
        for progressive in (False, True):
            with pytest.raises(ValueError, match=message):
                made.encode(x, vae.beta, progressive=progressive)
    with torch.no_grad():
        vae.encoder[-2].bias[:] = math.nan
    for progressive in (False, True):
        with pytest.raises(ValueError, match="there is no grid"):
            Codec(vae).encode(x, vae.beta, progressive=progressive)
    vae = plain_vae(likelihoods.Gaussian(0.3))
    data = Codec(vae).encode(x, vae.beta)
    broken = Codec(vae)
    broken._exact.decoder.register_forward_hook(lambda *_: torch.full((4, *SHAPE), math.inf))
    broken._kept[("grid", broken.index(vae.beta))] = Codec(vae).grid(broken.index(vae.beta), {})
    with pytest.raises(ValueError, match="no finite examples"):
        broken.decode(data)


def test_a_file_is_of_one_model_and_its_weights(digits):
    made, x = digits
    model = small((1, 8, 8), likelihoods.Gaussian(0.25), betas="0.01:10", latents=8)
    other = Codec(model)
    for progressive in (False, True):
        for n in (1, 20):
            data = made.encode(x[:n], 0.1, progressive=progressive)
            with pytest.raises(ValueError, match="another model"):
                other.decode(data)
    data = other.encode(x[:20], 0.1)
    with torch.no_grad():
        next(model.decoder.parameters()).view(-1)[0] += 1e-3
    with pytest.raises(ValueError, match="made by another model, of fingerprint"):
        Codec(model).decode(data)
    with pytest.raises(ValueError, match=r"at β = 0.1.*trained for \[1, 2\]"):
        Codec(small(betas="1:2")).decode(data)


def test_a_pinned_weight_is_part_of_the_model():
    model = small(likelihood=likelihoods.Gaussian("0.1:1"))
    data = Codec(model.pin(sigma=0.5)).encode(torch.randn(9, *SHAPE), 0.1)
    assert Codec(model.pin(sigma=0.5)).decode(data).shape == (9, *SHAPE)
    with pytest.raises(ValueError, match="another model"):
        Codec(model.pin(sigma=0.2)).decode(data)


# The same bytes everywhere -------------------------------------------------------------------


@pytest.fixture
def settings():
    """Leave torch's settings as they were."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


def ways(monkeypatch):
    """Go through batch sizes and deterministic algorithms."""
    for batch, fixed in [(256, False), (1, False), (7, True), (512, False)]:
        monkeypatch.setattr(codec, "_BATCH", batch)
        torch.use_deterministic_algorithms(fixed)
        yield


def test_the_same_bytes_with_other_batches(digits, monkeypatch, settings):
    made, x = digits
    table = Codec(small((9,), likelihoods.Gaussian(0.3)), search=3)
    files = [
        (made, made.encode(x[:40], 0.1)),
        (made, made.encode(x[:20], progressive=True)),
        (made, made.encode(x[:20], progressive=True)[:60]),
        (table, table.encode(torch.randn(40, 9), 0.1)),
    ]
    found = []
    for _ in ways(monkeypatch):
        again = {each: Codec(each.model) for each, _ in files}  # the grids are made anew
        found.append([hashed(again[each].read(data).x) for each, data in files])
        assert hashed(torch.cat([*again[made].batches(files[0][1])])) == found[-1][0]
    assert all(each == found[0] for each in found)


def test_last_bits_do_not_matter(digits):
    """Not even where values are halfway between two levels, as 0.1, 0.3 and 0.5 are.

    Of float32 numbers one in 64 is halfway between two of 17 bits.
    """
    made, _ = digits
    halfway = ((torch.arange(255.0, dtype=torch.float64) + 0.5) / 255).reshape(255, 1, 1, 1)
    few = (torch.randn(4000, 9, generator=torch.Generator().manual_seed(0)) * 3).double()
    for each, values in [(made, halfway.expand(255, 1, 8, 8)), (Codec(small((9,))), few)]:

        class Fixed(nn.Module):
            """Returns values, with other last bits each time."""

            def decode(self, z, values=values):
                return torch.distributions.Normal(values * (1 + z), 1.0)

        vae, noise = Fixed(), torch.tensor([0.0, 1e-15, -1e-15, 3e-14, -3e-14]).double()
        vae.register_parameter("weight", nn.Parameter(torch.ones(1)))
        found = [each._decoded(vae, [last], {}) for last in noise]
        assert all((x == found[0]).all() for x in found)
        assert (found[0] - values).abs().max() < 2 / 255


ELSEWHERE = """
import hashlib, sys, torch, multibeta
from multibeta.codec import Codec
assert torch.get_num_threads() == 2
torch.use_deterministic_algorithms(True)
vae, digits = multibeta.BetaVAE.load(sys.argv[1]), multibeta.load("digits")
for threads in (2, 1):
    torch.set_num_threads(threads)
    for model, name in [(vae, sys.argv[2]), (digits, sys.argv[3]), (digits, sys.argv[4])]:
        x = Codec(model).decode(open(name, "rb").read())
        print(hashlib.sha256(x.numpy().tobytes()).hexdigest())
"""


def test_the_same_bytes_in_another_process(digits, tmp_path, monkeypatch):
    """With two threads, a fresh interpreter, and a model that was loaded."""
    vae, x = plain_vae(likelihoods.Gaussian(0.3)), torch.randn(300, *SHAPE)
    vae.save(tmp_path / "vae.safetensors")
    made = Codec(multibeta.BetaVAE.load(tmp_path / "vae.safetensors"))
    shipped, x_digits = digits
    files = {
        "a.mb": made.encode(x, vae.beta),
        "b.mb": shipped.encode(x_digits[:40], 0.1),
        "c.mb": shipped.encode(x_digits[:20], progressive=True),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    models = [made, shipped, shipped]
    here = [hashed(each.decode(data)) for each, data in zip(models, files.values(), strict=True)]
    names = ["vae.safetensors", *files]
    said = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *(str(tmp_path / name) for name in names)],
        env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.split() == 2 * here


def test_few_vaes_are_kept(digits):
    """A plan asks for a dozen β's, and a sweep for more: a large model would not fit so often."""
    made = Codec(digits[0].model, search=0)
    made.encode(digits[1][:3], progressive=True)
    for beta in (0.02, 0.05, 0.2, 0.5, 1.0, 3.0):
        made.decode(made.encode(digits[1][:3], beta))
    assert len(made._vaes) <= 4


# Rate and distortion -------------------------------------------------------------------------


def psnr(x, y):
    return -10 * (x - y).square().mean().log10().item()


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.3, 1.0])
def test_bits_are_the_models_rate(digits, beta):
    """Within 15 %; at β ≤ 0.3 PSNR is within half a decibel of the unquantised one."""
    made, x = digits
    data = made.encode(x, beta)
    vae = made.model.at_beta(unpack(data).beta)
    with torch.no_grad():
        rate = vae.elbo_terms(x).rate_nats.mean().item() / math.log(2)
        plain = psnr(vae.reconstruct(x), x)
    header = 8 * unpack(data).size / len(x)
    assert 0.95 * rate < 8 * len(data) / len(x) < 1.15 * rate + header
    if beta <= 0.3:
        assert psnr(made.decode(data), x) > plain - 0.5


def test_one_digit_has_few_bits_more(digits):
    made, x = digits
    single = [8 * len(made.encode(x[n : n + 1], 0.1)) for n in range(40)]
    vae = made.model.at_beta(0.1)
    with torch.no_grad():
        rate = vae.elbo_terms(x[:40]).rate_nats.mean().item() / math.log(2)
    assert sum(single) / 40 - 32 < 1.25 * rate


@pytest.mark.parametrize("beta", [0.1, 0.3, 1.0])
def test_search_lowers_what_is_to_be_low(digits, beta):
    """D + β·nats, by real bits, is below that of rounding, and D + β‖z‖²/2 of each example."""
    made, x = digits
    costs, objectives = [], []
    for each in (made, Codec(made.model, search=0)):
        data = each.encode(x, beta)
        numbers, grid = numbers_of(each, data)
        vae, z = each.vae(unpack(data).beta_index), grid.codes(numbers).float()
        with torch.no_grad():
            distortion = -vae.decode(z).log_prob(x)
        nats = 8 * len(data) * math.log(2) / len(x)
        costs.append(distortion.mean().item() + beta * nats)
        objectives.append(distortion + vae.beta * z.square().sum(1) / 2)
    assert costs[0] < costs[1]
    assert (objectives[0] <= objectives[1] + 1e-4).all()
    assert (objectives[0] < objectives[1] - 1e-2).float().mean() > 0.5


def test_no_search_is_rounding(digits):
    made, x = Codec(digits[0].model, search=0), digits[1]
    data = made.encode(x, 0.1)
    numbers, grid = numbers_of(made, data)
    with torch.no_grad():
        means = made.vae(unpack(data).beta_index).encode(x).mean.double().numpy().T
    rounded = np.rint(means / grid.steps[:, None]) * np.array(grid.live)[:, None]
    assert (numbers == rounded).all()


@pytest.mark.parametrize(("beta", "coded"), [(0.1, 8), (1.0, 8), (10.0, 3)])
def test_steps_are_the_posteriors_widths(digits, beta, coded):
    """Those of the geometric mean of σ over decoded codes; dead latents are not coded."""
    made, _ = digits
    index = made.index(beta)
    grid, vae = made.grid(index, {}), made.vae(index)
    with torch.no_grad():
        z = torch.randn(4000, 8)
        std = vae.encode(vae.decode(z).mean).stddev.log().mean(0).exp().numpy()
    live = np.array(grid.live)
    assert (live == (std < 0.98)).all() and live.sum() == coded
    np.testing.assert_allclose(grid.steps[live], np.exp(log_steps(np.log(std[live]))), rtol=0.15)


def cost_of(step, sigma):
    """Return J/β of one latent on a grid: for z of N(0, 1), its mean rounded, bits at entropy."""
    spread = np.sqrt(1 - sigma**2)
    mean = spread * np.linspace(-9, 9, 100_001)
    weight = norm.pdf(mean / spread)
    k = np.rint(mean / step).astype(int)
    share = np.bincount(k - k.min(), weight / weight.sum())
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    error = np.average((k * step - mean / spread**2) ** 2, weights=weight)
    return error * spread**2 / (2 * sigma**2) + entropy


@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9])
def test_no_other_step_is_better_for_a_gaussian(sigma):
    """The best of all widths is as good to .04 nats, which is what the coarser grid costs."""
    unit = 12**0.5 * sigma
    chosen = math.exp(log_steps(np.log(sigma)))
    assert chosen >= 1.18 * unit
    best = min(cost_of(f * unit, sigma) for f in np.geomspace(0.8, 3, 60))
    assert cost_of(chosen, sigma) < best + 0.04
    if sigma >= 0.7:
        assert cost_of(chosen, sigma) < min(best + 0.003, cost_of(unit, sigma))
