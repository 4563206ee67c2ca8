"""The change of basis of a trained code: D stays, R falls, a linear VAE is at its optimum."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from multibeta import wrap
from multibeta.axes import Axes, _curvature
from multibeta.likelihoods import Bernoulli, Gaussian

FORMS = ["log_variance", "log_std", "std", "curvature"]


class TwoHeads(nn.Module):
    def __init__(self, inputs=6, latents=3, decoded=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, 8), nn.Tanh())
        self.mean, self.second = nn.Linear(8, latents), nn.Linear(8, latents)

    def forward(self, x):
        h = self.body(x)
        return self.mean(h), self.second(h)


def one_head(inputs=6, latents=3):
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, 2 * latents))


def decoder(inputs=6, latents=3):
    return nn.Sequential(nn.Linear(latents, 8), nn.Tanh(), nn.Linear(8, inputs))


class Twice(nn.Module):
    """Two layers read the code; what is left of it is added where ``past`` is set."""

    def __init__(self, past=0.0):
        super().__init__()
        self.a, self.b, self.out, self.past = (
            nn.Linear(3, 8),
            nn.Linear(3, 8),
            nn.Linear(8, 6),
            past,
        )

    def forward(self, z):
        return self.out(self.a(z).tanh() * self.b(z)) + self.past * z.repeat(1, 2)


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.rand(700, 6)


def old_mean(encoder, x):
    out = encoder(x)
    return out[0] if isinstance(out, tuple) else out.chunk(2, 1)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [one_head, TwoHeads])
@pytest.mark.parametrize("read", [decoder, Twice])
def test_the_decoder_of_the_new_code_is_that_of_the_old(x, make, read, dtype):
    x, encoder, decode = x.to(dtype), make().to(dtype), read().to(dtype)
    old = copy.deepcopy((encoder, decode))
    options = {} if dtype == torch.float32 else {"betas": 0.3, "conditioning": "none"}
    vae = wrap(encoder, decode, likelihood=Bernoulli(), axes=Axes(x, beta=0.3), **options)
    want = old[1](old_mean(old[0], x))
    got = torch.logit(vae.decode(vae.encode(x, 0.3).mean, 0.3).mean)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-12)
    plain = vae.at_beta(0.3)
    assert [p.shape for p in plain.encoder.parameters()] == [p.shape for p in old[0].parameters()]


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.1), Gaussian("0.1:1")])
def test_curvature_is_diagonal_and_says_the_variances(x, likelihood):
    x = x[:500]
    vae = wrap(one_head(), decoder(), likelihood=likelihood, axes=Axes(x, beta=0.3))
    q = vae.encode(x, 0.3)
    vae.unwrap()
    m = _curvature(vae, q.mean.detach(), x, 0.3)
    scale = m.diagonal().sqrt()
    assert ((m / scale / scale[:, None] - torch.eye(3)).abs() < 1e-3).all()
    assert (m.diagonal().diff() < 0).all()
    want = (0.3 / (0.3 + m.diagonal())).sqrt().float()
    torch.testing.assert_close(q.stddev, want.expand_as(q.stddev), rtol=1e-4, atol=0)


def test_curvature_is_that_of_second_derivatives(x):
    torch.manual_seed(0)
    linear, z = nn.Linear(3, 6).double(), torch.randn(5, 3).double()
    vae = wrap(one_head(), decoder(), likelihood=Bernoulli(), example=x)
    vae.decoder = linear

    def distortion(code):
        return -vae.likelihood(linear(code[None])).log_prob(x[:1].double()).sum()

    # D's second derivative in z is JᵀHJ where the decoder is linear; no x is in it.
    want = sum(torch.autograd.functional.hessian(distortion, code) for code in z) / len(z)
    torch.testing.assert_close(_curvature(vae, z, x[:5].double(), 1.0), want)


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_the_posterior_can_come_out(x, form):
    encoder, decode = one_head(), decoder()
    given = copy.deepcopy((encoder, decode))
    q = wrap(encoder, decode, posterior=form, axes=Axes(x, 0.3, "log_variance")).encode(x, 0.3)
    want = wrap(*given, axes=Axes(x, beta=0.3)).encode(x, 0.3)
    torch.testing.assert_close(q.mean, want.mean)
    torch.testing.assert_close(q.stddev, want.stddev)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_a_linear_vae_is_at_its_optimum(beta):
    """Its code in any basis at all; FACTS: R = Σ ½ log(λ/θ), θ = βσ²."""
    torch.manual_seed(0)
    sigma, values = 0.5, torch.tensor([9.0, 4.0, 2.0, 0.2, 0.1, 0.05]).double()
    theta, active = beta * sigma**2, values[:3]
    axes = torch.linalg.qr(torch.randn(6, 6).double())[0]
    white = torch.randn(400, 6).double()
    white = torch.linalg.svd(white - white.mean(0), full_matrices=False)[0] * 20
    centre = torch.randn(6).double()
    x = centre + white * values.sqrt() @ axes.T

    encoder, decode = nn.Linear(6, 6).double(), nn.Linear(3, 6).double()
    mixed, offset = torch.randn(3, 3).double(), torch.randn(3).double()
    gain = (active - theta).sqrt()
    with torch.no_grad():
        encoder.weight[:3] = mixed @ ((gain / active)[:, None] * axes[:, :3].T)
        encoder.bias[:3] = offset - encoder.weight[:3] @ centre
        decode.weight.copy_(axes[:, :3] * gain @ mixed.inverse())
        decode.bias.copy_(centre - decode.weight @ offset)
        options = {"conditioning": "none", "likelihood": Gaussian(sigma)}
        before = wrap(copy.deepcopy(encoder), copy.deepcopy(decode), beta, example=x, **options)
        worse = before.elbo_terms(x, beta)
        vae = wrap(encoder, decode, beta, axes=Axes(x, beta=beta), **options)
        terms = vae.elbo_terms(x, beta)
        mean = vae.encode(x, beta).mean
    assert terms.rate_nats.mean().item() == pytest.approx(
        (active / theta).log().sum().item() / 2, rel=1e-6
    )
    j = [(t.distortion + beta * t.rate_nats).mean() for t in (worse, terms)]
    assert j[0] > j[1]
    # The code is the principal components, each with its optimal scale, the largest first.
    components = (x - centre) @ axes[:, :3] * gain / active
    torch.testing.assert_close(mean.abs(), components.abs(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms.posterior.stddev[0] ** 2, theta / active)


def test_rate_falls_where_the_code_was_turned(x):
    """A VAE that was trained at a low β for a while."""
    torch.manual_seed(0)
    x = (torch.randn(800, 2) @ torch.randn(2, 6)) + 0.1 * torch.randn(800, 6)
    encoder, decode = one_head(), decoder()
    vae = wrap(encoder, decode, 0.01, conditioning="none", likelihood=Gaussian(0.3), example=x)
    adam = torch.optim.Adam(vae.parameters(), 1e-2)
    for _ in range(200):
        adam.zero_grad()
        vae.loss(x).backward()
        adam.step()
    given = copy.deepcopy((encoder, decode))
    plain = wrap(encoder, decode, likelihood=Gaussian(0.3), example=x)
    turned = wrap(
        *given, likelihood=Gaussian(0.3), posterior="curvature", axes=Axes(x, 0.01, "log_variance")
    )
    with torch.no_grad():
        for beta, ratio in ((0.01, 1.1), (10.0, 0.5)):
            before, after = (v.elbo_terms(x, beta) for v in (plain, turned))
            assert after.rate_nats.mean() < ratio * before.rate_nats.mean()
            j = [(t.distortion + beta * t.rate_nats).mean() for t in (before, after)]
            assert j[1] < j[0] + 0.1


def test_examples_may_be_batches_that_come_once(x):
    encoder, decode = one_head(), decoder()
    given = copy.deepcopy((encoder, decode))
    batches = ((part, "a label") for part in x.split(100))
    vae = wrap(encoder, decode, axes=Axes(batches, beta=0.3), freeze=True)
    want = wrap(*given, axes=Axes(x, beta=0.3))
    torch.testing.assert_close(vae.encode(x, 1.0).mean, want.encode(x, 1.0).mean)
    assert not any(p.requires_grad for n, p in vae.named_parameters() if n == "encoder.2.weight")


class Labelled(nn.Sequential):
    def forward(self, z, y=None):
        return super().forward(z)


def no_bias():
    return nn.Sequential(nn.Linear(3, 8, bias=False), nn.Tanh(), nn.Linear(8, 6))


def softplus():
    return nn.Sequential(one_head(), nn.Softplus())


@pytest.mark.parametrize(
    ("encoder", "decode", "options", "said"),
    [
        (one_head, lambda: Twice(0.5), {}, "elsewhere"),
        (one_head, no_bias, {}, "no bias"),
        (softplus, decoder, {"posterior": "std"}, "no Linear layer's output is the means"),
        (one_head, lambda: nn.Sequential(nn.Tanh(), decoder()), {}, "takes the code as it is"),
        (one_head, decoder, {"distortion": lambda a, b: (a - b).abs().sum(1)}, "no curvature"),
        (
            TwoHeads, decoder,
            {"posterior": lambda out: Independent(Normal(out[0], out[1].exp()), 1)}, "a function",
        ),
        (
            lambda: nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (6, 1))),
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 6)), {}, "no vector",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_turned_is_refused_and_left_as_it_was(x, encoder, decode, options, said):
    given = encoder(), decode()
    kept = [p.clone() for module in given for p in module.parameters()]
    with pytest.raises(ValueError, match=said) as refused:
        wrap(*given, axes=Axes(x, beta=0.3), **options)
    assert "\n" not in str(refused.value)
    for module in given:
        for parameter in module.parameters():
            assert torch.equal(parameter, kept.pop(0))


def test_arguments_out_of_their_domain_are_refused(x):
    for beta in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="not a finite number above 0"):
            Axes(x, beta=beta)
    with pytest.raises(ValueError, match="posterior=variance is unknown"):
        Axes(x, posterior="variance")
    with pytest.raises(ValueError, match="give some thousands"):
        wrap(one_head(), decoder(), axes=Axes(x[:1]))
    with pytest.raises(ValueError, match="no further inputs"):
        wrap(
            one_head(), Labelled(*decoder()), axes=Axes(x), example=x,
            inputs={"y": torch.zeros(700)},
        )  # fmt: skip
