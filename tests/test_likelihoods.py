import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions as td
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal
from torch.nn import functional as F

from multibeta import likelihoods, load, settings
from multibeta.data import Gaussian as GaussianSource
from multibeta.evaluation import sweep
from multibeta.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    ImageGaussian,
    Laplace,
    LearnedGaussian,
    Likelihood,
    Multinomial,
    NegativeBinomial,
    OptimalGaussian,
    PixelGaussian,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from multibeta.networks import MLP
from multibeta.specs import build, describe
from tests.helpers import fit_digits

ALL = {name: getattr(likelihoods, name) for name in likelihoods.__all__ if name != "Likelihood"}
WHOLE = {name: cls for name, cls in ALL.items() if cls.whole}
SHAPES = [(6,), (2, 5), (2, 4, 5), (1, 2, 3, 2)]
LEVELS = torch.arange(256, dtype=torch.float64) / 255


def ids(cls):
    return cls.__name__


def make(cls, *args, **kwargs):
    return cls(3) if cls is Categorical else cls(*args, **kwargs)


def data_for(cls, *shape):
    """Return x that the likelihood allows."""
    return torch.randint(0, 3, shape).float() if cls.whole else torch.rand(shape)


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


# Counts and classes --------------------------------------------------------------------------


def counts(*shape, high=9):
    return torch.randint(0, high, shape).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_poisson_and_negative_binomial_are_those_of_torch(shape, dtype):
    output, x = torch.randn(4, *shape, dtype=dtype), counts(4, *shape).to(dtype)
    dims = tuple(range(1, x.ndim))
    expected = td.Poisson(output.exp()).log_prob(x).sum(dims)
    torch.testing.assert_close(Poisson()(output).log_prob(x), expected)

    for theta in (0.1, 3.0, 19.999, 20.001, 300.0):
        logits = output - math.log(theta)
        expected = td.NegativeBinomial(torch.tensor(theta, dtype=dtype), logits=logits)
        p = NegativeBinomial(start=theta)(output)
        rounding = {"rtol": 1e-4, "atol": 1e-3} if dtype == torch.float32 else {}
        torch.testing.assert_close(p.log_prob(x), expected.log_prob(x).sum(dims), **rounding)
        torch.testing.assert_close(p.variance, expected.variance)


def test_negative_binomial_is_that_of_scipy():
    x, mean, theta = np.arange(400.0), 37.5, 2.25
    log_p = scipy.stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    p = one(NegativeBinomial("output"), math.log(mean), math.log(theta))
    np.testing.assert_allclose(log_density(p, torch.tensor(x)).numpy(), log_p, rtol=1e-10)


def test_values_of_the_formulas_of_scvi():
    x = torch.tensor([[0.0, 1, 7, 250]], dtype=torch.float64)
    mean = torch.tensor([[0.3, 2.5, 4, 180]], dtype=torch.float64)
    theta = torch.tensor([[0.2, 1.5, 8, 3]], dtype=torch.float64)
    zeros = torch.tensor([[-1, 0.5, 2, -3]], dtype=torch.float64)
    nb, zinb = NegativeBinomial("output"), ZeroInflatedNegativeBinomial("output")
    assert (nb.outputs, zinb.outputs) == (2, 3)
    output = torch.cat([mean.log(), theta.log(), zeros], 1)
    # By the formulas of log_nb_positive and log_zinb_positive in scvi-tools, commit 17c34a9, whose
    # eps of 1e-8 moves the last digits.
    log_p = [-0.18325814037483124, -1.5357823929051606, -2.7931084099342343, -6.10321222417565]
    torch.testing.assert_close(
        nb(output[:, :8]).base_dist.log_prob(x)[0].tolist(), log_p, rtol=1e-6, atol=1e-7
    )
    log_p = [-0.13057965106434, -2.509859377085267, -4.920036420977208, -6.151799575749237]
    torch.testing.assert_close(
        zinb(output).base_dist.log_prob(x)[0].tolist(), log_p, rtol=1e-6, atol=1e-7
    )


def test_zero_inflated_is_its_definition():
    output, x = torch.randn(3, 8, 5).double(), counts(3, 4, 5, high=3)
    zinb = ZeroInflatedNegativeBinomial(start=0.7).double()
    p, counted = zinb(output), NegativeBinomial(start=0.7).double()(output[:, :4])
    pi = output[:, 4:].sigmoid()
    expected = (pi * (x == 0) + (1 - pi) * counted.base_dist.log_prob(x).exp()).log().sum((1, 2))
    torch.testing.assert_close(p.log_prob(x), expected)
    torch.testing.assert_close(p.mean, (1 - pi) * counted.mean)


def test_a_large_theta_is_poisson_in_float32():
    output, x = torch.linspace(-2, 6, 9)[None], torch.tensor([[0.0, 0, 1, 3, 9, 20, 70, 150, 400]])
    expected = Poisson()(output).log_prob(x)
    for theta in (1e7, 1e12):
        p = NegativeBinomial(start=theta)(output)
        torch.testing.assert_close(p.log_prob(x), expected, rtol=1e-4, atol=0)
        p.log_prob(x).sum().backward()


@pytest.mark.parametrize("cls", [Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial], ids=ids)
def test_counts_sum_to_one(cls):
    for output in itertools.product([-2.0, 0.5, 2.0], repeat=cls.outputs):
        p = one(cls().double(), *output)
        log_p = log_density(p, torch.arange(2000, dtype=torch.float64))
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("cls", [Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial], ids=ids)
@pytest.mark.parametrize("shape", [(6,), (2, 3)], ids=str)
def test_with_a_library_the_means_sum_to_it(cls, shape):
    likelihood, library = cls(), torch.tensor([10, 200, 0])
    output = torch.randn(3, likelihood.outputs * shape[0], *shape[1:])
    output[:, shape[0] :] = -50  # no further zeros
    p = likelihood(output, library=library)
    torch.testing.assert_close(p.mean.flatten(1).sum(1), library.float())
    torch.testing.assert_close(likelihood(output, library=library[:, None]).mean, p.mean)
    assert p.log_prob(torch.zeros(3, *shape)).isfinite().all()
    mean = likelihood(output[:2], library=library[:2]).mean
    torch.testing.assert_close(mean, p.mean[:2])
    with pytest.raises(
        ValueError, match=r"library has the shape \(2,\); give .*: \(3,\) or \(3, 1\)"
    ):
        likelihood(output, library=library[:2])


def test_dispersion_by_feature():
    likelihood = NegativeBinomial("feature", features=4, start=2.0)
    assert likelihood.log_theta.shape == (4,)
    with torch.no_grad():
        likelihood.log_theta.copy_(torch.arange(4.0))
    for shape in [(4,), (4, 3)]:
        output = torch.randn(2, *shape)
        p = likelihood(output)
        theta = torch.arange(4.0).exp().reshape(4, *[1] * (len(shape) - 1))
        torch.testing.assert_close(p.variance, p.mean + p.mean**2 / theta)
    p.log_prob(torch.ones(2, 4, 3)).sum().backward()
    assert likelihood.log_theta.grad.all()
    with pytest.raises(ValueError, match=r"features=4, but x has 5 entries .*; give features=5"):
        likelihood(torch.randn(2, 5))


def test_the_best_learned_theta_is_that_of_the_data():
    x = td.NegativeBinomial(3.0, logits=torch.full((4000, 1), 5 / 3).log()).sample().double()
    likelihood, output = NegativeBinomial().double(), torch.full((4000, 1), math.log(5.0)).double()
    optimiser = torch.optim.LBFGS(likelihood.parameters(), line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        distortion = -likelihood(output).log_prob(x).mean()
        distortion.backward()
        return distortion

    optimiser.step(loss)
    assert likelihood.log_theta.exp().item() == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_multinomial_is_that_of_torch(shape, dtype):
    output, x = torch.randn(4, *shape, dtype=dtype), counts(4, *shape).to(dtype)
    x[0] = 0
    expected = torch.stack([
        td.Multinomial(int(row.sum()), logits=logits).log_prob(row)
        for row, logits in zip(x.flatten(1), output.flatten(1), strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(Multinomial()(output).log_prob(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        Multinomial()(output).mean, output.flatten(1).softmax(1).view_as(output)
    )
    library = x.flatten(1).sum(1)
    p = Multinomial()(output, library=library)
    torch.testing.assert_close(p.mean.flatten(1).sum(1), library)
    drawn = p.sample((3,))
    assert drawn.shape == (3, 4, *shape)
    torch.testing.assert_close(drawn.flatten(2).sum(2), library.expand(3, 4))


def test_multinomial_draws_no_samples_without_a_total():
    with pytest.raises(
        ValueError, match=r"no samples without a total count; pass library, .*mean"
    ):
        Multinomial()(torch.zeros(2, 3)).sample()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_categorical_is_the_cross_entropy(shape, dtype):
    x = torch.randint(0, 3, (4, *shape))
    logits = torch.randn(4, 3, *shape)  # class by class
    p = Categorical(3)(logits.flatten(1, 2))
    expected = F.cross_entropy(logits, x, reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(-p.log_prob(x.to(dtype)), expected)
    other = td.Categorical(logits=logits.movedim(1, -1)).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(p.log_prob(x.to(dtype)), other)
    torch.testing.assert_close(p.mean, logits.argmax(1).float())
    drawn = p.sample((5,))
    assert drawn.shape == (5, 4, *shape)
    assert set(drawn.unique().tolist()) <= {0.0, 1.0, 2.0}
    assert p.log_prob(drawn).shape == (5, 4)


@pytest.mark.parametrize("likelihood", [
    Poisson(), NegativeBinomial(start=2.0), NegativeBinomial("output"),
    ZeroInflatedNegativeBinomial(), ZeroInflatedNegativeBinomial("output", start=5.0),
], ids=repr)  # fmt: skip
def test_samples_of_counts_have_the_mean_and_spread(likelihood):
    p = one(likelihood, *(1.3, 0.4, -0.5)[: likelihood.outputs])
    drawn = p.sample((40_000,)).flatten()
    assert torch.equal(drawn, drawn.round())
    assert drawn.mean().item() == pytest.approx(p.mean.item(), abs=5 * p.stddev.item() / 200)
    assert drawn.std().item() == pytest.approx(p.stddev.item(), rel=0.05)
    p = likelihood(torch.full((1, likelihood.outputs), 60.0))
    assert p.sample().isfinite().all()


def test_samples_of_multinomial_and_categorical_have_the_mean():
    output = torch.randn(1, 4)
    drawn = Multinomial()(output, library=torch.tensor([7])).sample((4000,))
    torch.testing.assert_close(drawn.mean((0, 1)), 7 * output[0].softmax(0), rtol=0, atol=0.1)
    drawn = Categorical(4)(output).sample((4000,)).flatten().long()
    shares = drawn.bincount(minlength=4) / 4000
    torch.testing.assert_close(shares, output[0].softmax(0), rtol=0, atol=0.05)


@pytest.mark.parametrize("cls", WHOLE.values(), ids=ids)
def test_negative_and_fractional_values_are_refused(cls):
    likelihood = make(cls)
    allowed = "0 to 2" if cls is Categorical else "0 up"
    for value in (-1.0, 0.5, math.nan, math.inf, -math.inf):
        x = torch.tensor([[0.0, 2], [value, -7]])
        message = f"^the data has the value {value:g}; {cls.__name__} allows whole numbers from "
        with pytest.raises(ValueError, match=f"{message}{allowed}: give [^\n]*$"):
            likelihood.check(x)
    with pytest.raises(ValueError, match="the value -3;"):
        likelihood.check(torch.tensor([-3]))
    for dtype in (torch.float32, torch.int64, torch.uint8, torch.bool):
        likelihood.check(torch.tensor([[0, 1, 2]]).to(dtype))
    likelihood.check(torch.empty(0, 3))


def test_a_class_too_many_is_refused():
    with pytest.raises(
        ValueError, match=r"the value 3; .* from 0 to 2: give class indices, or more"
    ):
        Categorical(3).check(torch.tensor([0, 3]))


def test_bad_arguments_of_counts():
    with pytest.raises(
        ValueError, match="dispersion=gene is unknown; allowed: shared, feature, o"
    ):
        NegativeBinomial("gene")
    with pytest.raises(ValueError, match="features=None with dispersion=feature; give the number"):
        ZeroInflatedNegativeBinomial("feature")
    with pytest.raises(ValueError, match="start=0 is not a finite number above 0"):
        NegativeBinomial(start=0)
    with pytest.raises(ValueError, match="classes=1 is too few; give 2 or more"):
        Categorical(1)


# What holds for all --------------------------------------------------------------------------


def test_what_they_say_of_themselves():
    assert set(WHOLE.values()) == {
        Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial, Multinomial, Categorical
    }  # fmt: skip
    assert [cls for cls in ALL.values() if not cls.is_density] == [OptimalGaussian]
    assert {cls.unit for cls in ALL.values()} == {"nats"}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_the_mean_has_the_shape_of_x_and_half_precision_is_left(cls, shape):
    likelihood = make(cls)
    output = torch.randn(2, shape[0] * likelihood.outputs, *shape[1:], dtype=torch.bfloat16)
    further = {"library": torch.tensor([5, 9])} if cls is Multinomial else {}
    p = likelihood(output, **further)
    assert p.mean.shape == (2, *shape)
    assert (p.batch_shape, p.event_shape) == ((2,), shape)
    assert p.mean.dtype == torch.float32
    log_p = p.log_prob(data_for(cls, 2, *shape))
    assert log_p.shape == (2,)
    assert log_p.dtype == torch.float32
    if cls is not OptimalGaussian:
        assert p.sample().shape == (2, *shape)
        assert p.sample((7,)).shape == (7, 2, *shape)
        assert p.sample().dtype == torch.float32


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_a_table_is_a_picture_of_another_shape(cls):
    likelihood = make(cls)
    output, x = torch.randn(3, 4 * likelihood.outputs, 6), data_for(cls, 3, 4, 6)
    p, other = likelihood(output), likelihood(output.unflatten(2, (2, 3)))
    torch.testing.assert_close(p.log_prob(x), other.log_prob(x.unflatten(2, (2, 3))))
    torch.testing.assert_close(p.mean, other.mean.flatten(2))


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_one_code_for_many_examples(cls):
    likelihood = make(cls)
    output, x = torch.randn(1, 4 * likelihood.outputs, 5), data_for(cls, 3, 4, 5)
    expected = likelihood(output.expand(3, -1, -1)).log_prob(x)
    torch.testing.assert_close(likelihood(output).log_prob(x), expected)


def test_a_sigma_for_each_example():
    for cls in (Gaussian, Laplace):
        mean, x, sigma = torch.randn(3, 7), torch.randn(3, 7), torch.tensor([0.2, 1, 3])
        log_p = cls("0.1:4").at({"sigma": sigma})(mean).log_prob(x)
        for i, s in enumerate(sigma.tolist()):
            torch.testing.assert_close(cls(s)(mean[i : i + 1]).log_prob(x[i : i + 1]), log_p[[i]])


def test_a_decoder_that_makes_too_little():
    with pytest.raises(
        ValueError, match=r"makes 3 entries .*; PixelGaussian needs 2 for each of x"
    ):
        PixelGaussian()(torch.zeros(2, 3))


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_extremes_stay_finite(cls):
    levels = [0.0, 1.0, 2.0] if cls.whole else [0.0, 0.5, 1.0]
    if cls.whole and cls is not Categorical:
        levels.append(1e6)
    values = itertools.product([-50.0, 0.0, 1.0, 50.0], repeat=make(cls).outputs)
    for value, x in itertools.product(values, levels):
        likelihood = make(cls)
        output = torch.tensor(value).view(1, -1, 1, 1).requires_grad_()
        p = likelihood(output)
        log_p = p.log_prob(torch.full((1, 1, 1, 1), x))
        (log_p.sum() + p.mean.sum()).backward()
        own = [parameter.grad for parameter in likelihood.parameters()]
        for tensor in (log_p, p.mean, output.grad, *own):
            assert tensor.isfinite().all(), (value, x)


@pytest.mark.parametrize("start", [1e-12, 1e-3, 19.9, 1e4, 1e12])
def test_extreme_dispersions_stay_finite(start):
    for value, x in itertools.product([-1e4, -50.0, 50.0, 1e4], [0.0, 1.0, 1e6]):
        likelihood = NegativeBinomial(start=start)
        output = torch.tensor([[value]], requires_grad=True)
        log_p = likelihood(output).log_prob(torch.tensor([[x]]))
        log_p.backward()
        assert log_p.isfinite().all()
        assert log_p <= 1e-3 * (1 + abs(value)) * (1 + x)
        assert output.grad.isfinite().all()
        assert likelihood.log_theta.grad.isfinite()


def test_a_mean_that_is_too_large_has_a_way_back():
    output = torch.tensor([[30.0]], requires_grad=True)
    p = Poisson()(output)
    assert p.mean.item() == pytest.approx(math.exp(20), rel=1e-5)
    p.log_prob(torch.ones(1, 1)).backward()
    assert output.grad.item() < -1e8


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_gradients_are_those_of_the_formula(cls):
    torch.manual_seed(0)
    likelihood = make(cls).double()
    output = torch.randn(2, 2 * likelihood.outputs, 2, 2, dtype=torch.float64, requires_grad=True)
    x = data_for(cls, 2, 2, 2, 2).double()
    own = tuple(likelihood.parameters())
    assert torch.autograd.gradcheck(lambda y, *_: likelihood(y).log_prob(x), (output, *own))
    if cls is not Categorical:
        assert torch.autograd.gradcheck(lambda y: likelihood(y).mean, output)


def test_values_outside_the_support_are_refused():
    with pytest.raises(ValueError, match=r"values in \[0, 255\]; Bernoulli allows \[0, 1\]"):
        Bernoulli().check(torch.tensor([0, 255], dtype=torch.uint8))
    Bernoulli().check(torch.tensor([[0.0, 1], [0.5, 1]]))
    for cls in ALL.values():
        if cls in (Bernoulli, ContinuousBernoulli, DiscretizedLogistic):
            with pytest.raises(ValueError, match=rf"\[-1, 1\]; {cls.__name__} allows \[0, 1\]"):
                cls().check(torch.tensor([-1.0, 1]))
            with pytest.raises(ValueError, match="nan"):
                cls().check(torch.tensor([0.0, math.nan]))
        elif not cls.whole:
            cls().check(torch.tensor([-100.0, 100]))


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
    model = settings.make(
        shape, betas, conditioning=conditioning, network=MLP(8), latent_dim=3,
        likelihood=likelihood,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if ".condition." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("conditioning", ["film", "gate", "none"])
@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_in_a_model(cls, conditioning):
    model = model_with(make(cls), conditioning).double()
    x = data_for(cls, 5, *model.shape).double()
    noise = torch.randn(5, 3).double()
    terms = model.elbo_terms(x, 1.0, noise)
    (terms.distortion + terms.rate_nats).mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    torch.optim.Adam(model.parameters()).step()

    folded = model.at_beta(1.0)
    mine, plain = model.elbo_terms(x, 1.0, noise), folded.elbo_terms(x, noise)
    torch.testing.assert_close(plain.distortion, mine.distortion, rtol=1e-10, atol=0)
    own = {p.data_ptr() for p in model.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in folded.parameters())

    content = settings.plain_settings(model)
    again = settings.rebuild(content, "here").double()
    again.load_state_dict(model.state_dict())
    assert settings.plain_settings(again) == content
    assert torch.equal(again.elbo_terms(x, 1.0, noise).distortion, mine.distortion)


@pytest.mark.parametrize("cls", ALL.values(), ids=ids)
def test_description(cls):
    likelihood = make(cls)
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


@pytest.mark.parametrize("cls", [cls for cls in ALL.values() if not cls.whole], ids=ids)
def test_on_the_command_line(cls, tmp_path, capsys):
    run = fit_digits(
        tmp_path, f"--model.likelihood={cls.__name__}", "--trainer.max_steps=3",
        "--trainer.limit_val_batches=1", "--curve.enabled=false",
    )  # fmt: skip
    model = load(run)
    assert type(model.likelihood) is cls
    if cls is LearnedGaussian:
        assert model.likelihood.sigma != pytest.approx(0.1, abs=1e-5)  # it was trained and kept
