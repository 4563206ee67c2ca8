import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal
from torch.nn import functional as F

from multibeta import MultiBetaVAE, likelihoods, load
from multibeta.data import Gaussian as GaussianSource
from multibeta.evaluation import sweep
from multibeta.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    ImageGaussian,
    Laplace,
    LearnedGaussian,
    Likelihood,
    OptimalGaussian,
    PixelGaussian,
)
from multibeta.networks import MLP
from multibeta.specs import build, describe
from tests.helpers import fit_digits

ALL = {name: getattr(likelihoods, name) for name in likelihoods.__all__ if name != "Likelihood"}
LEVELS = torch.arange(256, dtype=torch.float64) / 255


def ids(cls):
    return cls.__name__


def one(likelihood, *output):
    """Return p(x) of a single value, float64, for the decoder's outputs."""
    return likelihood(torch.tensor(output, dtype=torch.float64).view(1, -1, 1, 1))


def log_density(p, x):
    return p.log_prob(x.view(-1, 1, 1, 1))


# Formulas ------------------------------------------------------------------------------------


def test_bernoulli_is_the_cross_entropy_with_logits_summed():
    logits, x = torch.randn(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    expected = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(-Bernoulli()(logits).log_prob(x), expected)


def test_gaussian_formula():
    sigma, mean, x = 0.3, torch.randn(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    squared_error = (x - mean).square().sum((1, 2, 3))
    expected = squared_error / (2 * sigma**2) + 20 / 2 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(-Gaussian(sigma)(mean).log_prob(x), expected)


def test_laplace_formula_and_standard_deviation():
    mean, x = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    b = 0.3 / math.sqrt(2)
    expected = (x - mean).abs().sum((1, 2, 3)) / b + 40 * math.log(2 * b)
    p = Laplace(0.3)(mean)
    torch.testing.assert_close(-p.log_prob(x), expected)
    torch.testing.assert_close(p.stddev, torch.full_like(mean, 0.3))


def test_learned_gaussian_is_the_gaussian_of_its_sigma():
    learned, mean, x = LearnedGaussian(0.3), torch.randn(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    assert learned.sigma == pytest.approx(0.3)
    torch.testing.assert_close(learned(mean).log_prob(x), Gaussian(0.3)(mean).log_prob(x))


def test_the_best_learned_sigma_is_the_root_of_the_mean_squared_error():
    learned = LearnedGaussian(floor=1e-9).double()
    mean, x = torch.zeros(50, 1, 4, 5).double(), 0.37 * torch.randn(50, 1, 4, 5).double()
    optimiser = torch.optim.LBFGS(learned.parameters(), line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        distortion = -learned(mean).log_prob(x).mean() / 20
        distortion.backward()
        return distortion

    for _ in range(3):
        optimiser.step(loss)
    assert learned.sigma == pytest.approx((x - mean).square().mean().sqrt().item(), rel=1e-4)


@pytest.mark.parametrize("cls", [PixelGaussian, ImageGaussian], ids=ids)
def test_sigma_from_z(cls):
    output, x = torch.randn(3, 4, 4, 5).double(), torch.randn(3, 2, 4, 5).double()
    p, a = cls(0.01)(output), output[:, 2:]
    if cls is ImageGaussian:
        a = a.mean((1, 2, 3), keepdim=True).expand(3, 2, 4, 5)
    expected = Normal(output[:, :2], 0.01 + 0.1 * a.exp())
    torch.testing.assert_close(p.mean, output[:, :2])
    torch.testing.assert_close(p.stddev, expected.scale)
    torch.testing.assert_close(p.log_prob(x), expected.log_prob(x).sum((1, 2, 3)))


# A density integrates to 1, a probability sums to 1 ------------------------------------------


def test_bernoulli_sums_to_one_over_pictures():
    p = Bernoulli()(torch.randn(1, 1, 1, 3, dtype=torch.float64))
    pictures = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    assert p.log_prob(pictures.view(8, 1, 1, 3)).exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("likelihood", "output", "low", "high"),
    [
        (Gaussian(0.2), (0.4,), -2, 3),
        (LearnedGaussian(0.2).double(), (0.4,), -2, 3),
        (PixelGaussian(), (0.4, 0.7), -2, 3),
        (ImageGaussian(), (0.4, 0.7), -2, 3),
        (Laplace(0.2), (0.4,), -6, 6.8),
        *((ContinuousBernoulli(), (eta,), 0, 1) for eta in (0, 1e-9, 0.0999, -0.1, 3, -20, 50)),
    ],
)
def test_a_density_integrates_to_one(likelihood, output, low, high):
    p = one(likelihood, *output)
    x = torch.linspace(low, high, 400_001, dtype=torch.float64)
    assert torch.trapezoid(log_density(p, x).exp(), x).item() == pytest.approx(1, abs=1e-7)


LOGISTICS = list(itertools.product([-50.0, -0.1, 0.0, 0.3, 0.5, 1.0, 50.0], [-50.0, -2, 0, 3, 50]))


@pytest.mark.parametrize(("location", "log_scale"), LOGISTICS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_discretized_logistic_sums_to_one(location, log_scale, dtype, error):
    output = torch.tensor([location, log_scale], dtype=dtype).view(1, 2, 1, 1)
    log_p = log_density(DiscretizedLogistic()(output), LEVELS.to(dtype))
    assert log_p.isfinite().all()
    assert (log_p <= 1e-6).all()
    assert log_p.double().exp().sum().item() == pytest.approx(1, abs=error)


def test_discretized_logistic_is_the_logistic_in_bins():
    p = one(DiscretizedLogistic(), 0.4, -0.3)
    scale = math.exp(-7) / 2 + 0.1 * math.exp(-0.3)
    edges = (np.arange(1, 256) - 0.5) / 255
    below = np.concatenate([[0], scipy.stats.logistic(0.4, scale).cdf(edges), [1]])
    np.testing.assert_allclose(log_density(p, LEVELS).exp().numpy(), np.diff(below), rtol=1e-9)
    x = torch.tensor([0.5004, 0.4985], dtype=torch.float64)  # rounded to 8 bits first
    torch.testing.assert_close(log_density(p, x), log_density(p, LEVELS[[128, 127]]))


def test_continuous_bernoulli_is_that_of_torch_where_that_is_normalised():
    eta, x = torch.linspace(-12, 12, 100).double().view(1, 1, 10, 10), torch.rand(3, 1, 10, 10)
    p, other = ContinuousBernoulli()(eta), TorchContinuousBernoulli(logits=eta, lims=(0.49, 0.51))
    expected = other.log_prob(x.double()).sum((1, 2, 3))
    torch.testing.assert_close(p.log_prob(x.double()), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(p.mean, other.mean, rtol=1e-4, atol=1e-4)


# Mean and samples ----------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [-50.0, -3, -0.1, -0.0999, 0, 1e-4, 0.2, 50])
def test_mean_and_samples_of_the_continuous_bernoulli(eta):
    p, x = one(ContinuousBernoulli(), eta), torch.linspace(0, 1, 400_001, dtype=torch.float64)
    mean = torch.trapezoid(log_density(p, x).exp() * x, x).item()
    assert p.mean.item() == pytest.approx(mean, abs=1e-7)
    drawn = p.sample((20_000,)).flatten()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.mean().item() == pytest.approx(mean, abs=5 * drawn.std().item() / 20_000**0.5)


@pytest.mark.parametrize(("location", "log_scale"), LOGISTICS)
def test_mean_and_samples_of_the_discretized_logistic(location, log_scale):
    p = one(DiscretizedLogistic(), location, log_scale)
    mean = (log_density(p, LEVELS).exp() * LEVELS).sum().item()
    close = 1e-5 if log_scale >= -1.6 else 1 / 510
    assert p.mean.item() == pytest.approx(mean, abs=close)
    narrow = DiscretizedLogistic()(torch.tensor([location, log_scale]).view(1, 2, 1, 1))
    assert narrow.mean.item() == pytest.approx(p.mean.item(), abs=1e-5)
    drawn = p.sample((20_000,)).flatten()
    torch.testing.assert_close(drawn, LEVELS[(drawn * 255).round().long()])
    error = 5 * drawn.std().item() / 20_000**0.5 + 1e-9
    assert drawn.mean().item() == pytest.approx(mean, abs=error)


@pytest.mark.parametrize("likelihood", [
    Gaussian(0.2), LearnedGaussian(0.2), PixelGaussian(), ImageGaussian(), Laplace(0.2)
])  # fmt: skip
def test_samples_have_the_mean_and_spread(likelihood):
    p = one(likelihood, *(0.4, 0.7)[: likelihood.outputs])
    drawn = p.sample((20_000,)).flatten()
    assert drawn.mean().item() == pytest.approx(p.mean.item(), abs=5 * p.stddev.item() / 141)
    assert drawn.std().item() == pytest.approx(p.stddev.item(), rel=0.05)


# The optimal σ -------------------------------------------------------------------------------


def test_optimal_sigma_in_closed_form():
    mean, x = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    mse = (x - mean).square().mean((1, 2, 3))
    expected = 20 * ((2 * math.pi * mse).log() + 1)
    torch.testing.assert_close(-OptimalGaussian()(mean).log_prob(x), expected)
    mse = mse.mean()
    together = -OptimalGaussian("batch")(mean).log_prob(x)
    torch.testing.assert_close(together.mean(), 20 * ((2 * math.pi * mse).log() + 1))


def test_optimal_sigma_is_the_best_of_all_sigmas():
    mean, x = torch.randn(3, 1, 4, 5).double(), torch.randn(3, 1, 4, 5).double()
    grid = np.geomspace(0.3, 5, 4001)
    fixed = torch.stack([-Gaussian(sigma)(mean).log_prob(x) for sigma in grid])
    alone = -OptimalGaussian()(mean).log_prob(x)
    torch.testing.assert_close(alone, fixed.min(0).values, rtol=0, atol=1e-5)
    together = -OptimalGaussian("batch")(mean).log_prob(x).sum()
    torch.testing.assert_close(together, fixed.sum(1).min(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("over", ["image", "batch"])
def test_below_the_floor_sigma_is_the_floor(over):
    mean = torch.randn(3, 1, 4, 5, requires_grad=True)
    x = mean.detach() + 1e-3
    p = OptimalGaussian(over, floor=0.01)(mean)
    torch.testing.assert_close(p.log_prob(x), Gaussian(0.01)(mean).log_prob(x))
    p.log_prob(mean.detach()).sum().backward()  # an error of exactly 0
    assert mean.grad.isfinite().all()


def test_one_code_for_many_pictures():
    mean, x = torch.randn(1, 1, 4, 5), torch.randn(3, 1, 4, 5)
    p = OptimalGaussian()(mean)
    torch.testing.assert_close(
        p.log_prob(x), OptimalGaussian()(mean.expand(3, 1, 4, 5)).log_prob(x)
    )


def test_optimal_sigma_draws_samples_only_around_a_picture():
    mean = torch.zeros(1, 1, 1, 2000)
    p = OptimalGaussian()(mean)
    with pytest.raises(ValueError, match=r"no σ without a picture x .*; use p.mean, or p.given"):
        p.sample()
    drawn = p.given(0.3 * torch.ones_like(mean)).sample()
    assert drawn.std().item() == pytest.approx(0.3, rel=0.1)


# What holds for all --------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_the_mean_is_a_picture_and_half_precision_is_left(cls):
    likelihood = cls()
    p = likelihood(torch.randn(2, 3 * likelihood.outputs, 4, 5, dtype=torch.bfloat16))
    assert p.mean.shape == (2, 3, 4, 5)
    assert (p.batch_shape, p.event_shape) == ((2,), (3, 4, 5))
    assert p.mean.dtype == torch.float32
    log_p = p.log_prob(torch.rand(2, 3, 4, 5))
    assert log_p.shape == (2,)
    assert log_p.dtype == torch.float32
    if cls is not OptimalGaussian:
        assert p.sample().shape == (2, 3, 4, 5)
        assert p.sample((7,)).shape == (7, 2, 3, 4, 5)


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_extremes_stay_finite(cls):
    likelihood = cls()
    values = itertools.product([-50.0, 0.0, 1.0, 50.0], repeat=likelihood.outputs)
    for value, x in itertools.product(values, [0.0, 0.5, 1.0]):
        output = torch.tensor(value).view(1, -1, 1, 1).requires_grad_()
        p = likelihood(output)
        log_p = p.log_prob(torch.full((1, 1, 1, 1), x))
        (log_p.sum() + p.mean.sum()).backward()
        for tensor in (log_p, p.mean, output.grad):
            assert tensor.isfinite().all(), (value, x)


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_gradients_are_those_of_the_formula(cls):
    torch.manual_seed(0)
    likelihood = cls().double()
    output = torch.randn(2, 2 * likelihood.outputs, 2, 2, dtype=torch.float64, requires_grad=True)
    x = torch.rand(2, 2, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda y: likelihood(y).log_prob(x), output)
    assert torch.autograd.gradcheck(lambda y: likelihood(y).mean, output)


def test_values_outside_the_support_are_refused():
    with pytest.raises(ValueError, match=r"values in \[0, 255\]; Bernoulli allows \[0, 1\]"):
        Bernoulli().check(0, 255)
    Bernoulli().check(0, 1)
    for cls in ALL.values():
        if cls in (Bernoulli, ContinuousBernoulli, DiscretizedLogistic):
            with pytest.raises(ValueError, match=rf"\[-1, 1\]; {cls.__name__} allows \[0, 1\]"):
                cls().check(-1, 1)
        else:
            cls().check(-100, 100)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_bad_sigma(value):
    for cls, name in {
        Gaussian: "sigma", Laplace: "sigma", LearnedGaussian: "start", PixelGaussian: "floor",
        ImageGaussian: "floor", OptimalGaussian: "floor",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}={value:g} is not a finite number above 0"):
            cls(**{name: value})


def test_other_bad_arguments():
    with pytest.raises(ValueError, match=r"start=0.001 is not above floor=0.01; lower the floor"):
        LearnedGaussian(0.001, 0.01)
    with pytest.raises(ValueError, match="over=pixel is unknown; allowed: image, batch"):
        OptimalGaussian("pixel")


# In a model ----------------------------------------------------------------------------------


def model_with(likelihood, conditioning="film", shape=(2, 4, 4)):
    betas = "1" if conditioning == "none" else "0.01:10"
    model = MultiBetaVAE(
        shape, betas, conditioning=conditioning, network=MLP(8), latent_dim=3,
        likelihood=likelihood,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("condition", "mix", "gain")):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("conditioning", ["film", "gate", "none"])
@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_in_a_model(cls, conditioning):
    model = model_with(cls(), conditioning).double()
    x = torch.rand(5, *model.shape).double()
    noise = torch.randn(5, 3).double()
    terms = model.elbo_terms(x, 1.0, noise)
    (terms.distortion_nats + terms.rate_nats).mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    torch.optim.Adam(model.parameters()).step()

    folded = model.at_beta(1.0)
    mine, plain = model.elbo_terms(x, 1.0, noise), folded.elbo_terms(x, noise)
    torch.testing.assert_close(plain.distortion_nats, mine.distortion_nats, rtol=1e-10, atol=0)
    own = {p.data_ptr() for p in model.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in folded.parameters())

    again = MultiBetaVAE(**model.hparams).double()
    again.load_state_dict(model.state_dict())
    assert dict(again.hparams) == dict(model.hparams)
    assert torch.equal(again.elbo_terms(x, 1.0, noise).distortion_nats, mine.distortion_nats)


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_description(cls):
    likelihood = cls()
    assert describe(build(describe(likelihood), Likelihood)) == describe(likelihood)
    assert cls.__name__ in repr(likelihood)


def test_what_a_curve_says_of_sigma():
    data = GaussianSource(size=200)
    about = {}
    for cls in (Gaussian, LearnedGaussian, Laplace, PixelGaussian, OptimalGaussian):
        curve = sweep(model_with(cls(), shape=data.shape), data, "0.1,1")
        about[cls] = curve.about["sigma"], curve.about["sigma_learned"]
        assert ("optimal_rate_nats" in curve.rows[0]) == (cls is Gaussian)
        assert (" σ = 0.1" in curve.table()) == (cls in (Gaussian, LearnedGaussian, Laplace))
    assert about == {
        Gaussian: (0.1, False), LearnedGaussian: (pytest.approx(0.1), True),
        Laplace: (0.1, False), PixelGaussian: (None, False), OptimalGaussian: (None, False),
    }  # fmt: skip


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_on_the_command_line(cls, tmp_path, capsys):
    run = fit_digits(
        tmp_path, f"--model.likelihood={cls.__name__}", "--trainer.max_steps=3",
        "--trainer.limit_val_batches=1", "--curve.enabled=false",
    )  # fmt: skip
    model = load(run)
    assert type(model.likelihood) is cls
    if cls is LearnedGaussian:
        assert model.likelihood.sigma != pytest.approx(0.1, abs=1e-5)  # it was trained and kept
