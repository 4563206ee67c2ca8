"""β = b/a by gradients: each loss, written as in its source, against D and R as they are here."""

import json
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import multibeta
from multibeta.cli import main
from multibeta.conventions import CONVENTIONS, ERRORS, convert, table
from multibeta.data.gaussian import water_filling
from multibeta.data.units import Units
from multibeta.distortions import L1, MSE
from multibeta.likelihoods import (
    Bernoulli,
    Gaussian,
    Laplace,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from multibeta.verbs.converting import _sigma
from tests.test_cli import fails

B, C, H, W, Z = 3, 2, 4, 5, 6
D = C * H * W
WEIGHT = 0.37
NONE = torch.zeros(B, 1, dtype=torch.bool)


def kl(mean, logvar):
    """The KL of each latent, as most of these codes write it."""
    return -0.5 * (1 + logvar - mean.pow(2) - logvar.exp())


def lpips(x_hat, x):
    """Stands for LPIPS: one value an example, (B, 1, 1, 1), with a gradient."""
    return (x_hat - x).square().mean((1, 2, 3), keepdim=True)


def ldm(perceptual_weight):
    def loss(x_hat, x, mean, logvar, w):
        rec_loss = (x - x_hat).abs() + perceptual_weight * lpips(x, x_hat)
        nll_loss = rec_loss / torch.exp(torch.zeros(())) + torch.zeros(())
        kl_loss = 0.5 * torch.sum(mean.pow(2) + logvar.exp() - 1 - logvar, dim=[1])
        return nll_loss.sum() / nll_loss.shape[0] + w * kl_loss.sum() / kl_loss.shape[0]

    return loss


def diffusers(error):
    def loss(x_hat, x, mean, logvar, w):
        with torch.no_grad():
            p_loss = lpips(x_hat, x)
        nll_loss = error(x_hat, x, reduction="none") + 0.5 * p_loss
        kl_loss = kl(mean, logvar).sum(1)
        return nll_loss.sum() / nll_loss.shape[0] + w * kl_loss.sum() / kl_loss.shape[0]

    return loss


def act(x_hat, x, mean, logvar, w, is_pad=NONE):
    l1 = (F.l1_loss(x, x_hat, reduction="none") * ~is_pad.unsqueeze(-1)).mean()
    return l1 + kl(mean, logvar).sum(1).mean(0, True)[0] * w


def lerobot(x_hat, x, mean, logvar, w, is_pad=NONE):
    error = F.l1_loss(x, x_hat, reduction="none")
    valid = (~is_pad.unsqueeze(-1)).expand(*x.shape[:-1], 1)
    l1 = (error * valid).sum() / (valid.sum() * error.shape[-1]).clamp_min(1)
    return l1 + kl(mean, logvar).sum(-1).mean() * w


def torchrl(x_hat, x, mean, logvar, w):
    l1 = F.l1_loss(x_hat, x, reduction="none").mean(dim=(-2, -1)).mean()
    return l1 + w * kl(mean, logvar).sum(-1).mean()


def cryodrgn(x_hat, x, mean, logvar, w):
    mask = torch.arange(D) % 3 > 0
    gen_loss = F.mse_loss(x_hat.flatten(1)[:, mask], x.flatten(1)[:, mask])
    return gen_loss + w * kl(mean, logvar).sum(1).mean(0) / mask.sum().float()


def pytorch_vae(x_hat, x, mean, logvar, w):
    return F.mse_loss(x_hat, x) + w * kl(mean, logvar).sum(1).mean(0)


def disentangling(distribution):
    def loss(x_hat, x, mean, logvar, w):
        if distribution == "bernoulli":
            rec = F.binary_cross_entropy(x_hat.sigmoid(), x, reduction="sum")
        elif distribution == "gaussian":
            rec = F.mse_loss(x_hat * 255, x * 255, reduction="sum") / 255
        else:
            rec = F.l1_loss(x_hat, x, reduction="sum") * 3
        return rec / len(x) + w * kl(mean, logvar).mean(0).sum()

    return loss


def keras(x_hat, x, mean, logvar, w):
    """x are (B, H, W, C): binary_crossentropy is the mean over the last axis."""
    bce = F.binary_cross_entropy(x_hat.sigmoid(), x, reduction="none").mean(-1)
    return bce.sum((1, 2)).mean() + w * kl(mean, logvar).sum(1).mean()


def torch_loss(error, reduction, of_kl):
    def loss(x_hat, x, mean, logvar, w):
        x_hat = x_hat.sigmoid() if error is F.binary_cross_entropy else x_hat
        e = error(x_hat, x, reduction=reduction) / (len(x) if reduction == "sum" else 1)
        each = kl(mean, logvar)
        return e + w * (each.mean() if of_kl == "mean" else each.sum(1).mean())

    return loss


UNIT = {"mse": Gaussian(math.sqrt(0.5)), "l1": Laplace(math.sqrt(2)), "bce": Bernoulli()}
TORCH = {"mse": F.mse_loss, "l1": F.l1_loss, "bce": F.binary_cross_entropy}

CASES = {
    ("ldm", "l1"): ldm(0),
    ("audioldm2", "l1"): ldm(0),
    ("diffusers", "mse"): diffusers(F.mse_loss),
    ("diffusers", "l1"): diffusers(F.l1_loss),
    ("act", "l1"): act,
    ("lerobot", "l1"): lerobot,
    ("torchrl", "l1"): torchrl,
    ("pytorch-vae", "mse"): pytorch_vae,
    ("disentangling-vae", "bce"): disentangling("bernoulli"),
    ("disentangling-vae", "mse"): disentangling("gaussian"),
    ("disentangling-vae", "l1"): disentangling("laplace"),
    ("keras", "bce"): keras,
    **{
        (name, error): torch_loss(TORCH[error], reduction, of_kl)
        for name, reduction, of_kl in [
            ("sum", "sum", "sum"), ("sum-mean", "sum", "mean"),
            ("mean", "mean", "sum"), ("mean-mean", "mean", "mean"),
        ]
        for error in ("mse", "l1", "bce")
    },
}  # fmt: skip


def example(shape, seed=0):
    """Return x̂, x, mean and log-variance, of which all but x take gradients."""
    torch.manual_seed(seed)
    x_hat, mean, logvar = (torch.randn(B, *s, dtype=torch.float64) for s in (shape, (Z,), (Z,)))
    x = torch.rand(B, *shape, dtype=torch.float64)
    return x_hat.requires_grad_(), x, mean.requires_grad_(), logvar.requires_grad_()


def gradients(value, of):
    return torch.autograd.grad(value, of, allow_unused=True)


def ratio(one, other):
    """Return the factor between two gradients, which must point the same way."""
    factor = (one * other).sum() / other.square().sum()
    torch.testing.assert_close(one, factor * other)
    return factor.item()


def beta_of(loss, distortion, shape):
    """Return b/a, from the gradients of a loss, of D and of R at one point."""
    x_hat, x, *of_z = example(shape)
    by_x, *by_z = gradients(loss(x_hat, x, *of_z, WEIGHT), (x_hat, *of_z))
    a = ratio(by_x, *gradients(distortion(x_hat, x).mean(), x_hat))
    rate = torch.distributions.kl_divergence(
        torch.distributions.Normal(of_z[0], (0.5 * of_z[1]).exp()),
        torch.distributions.Normal(0.0, 1.0),
    )
    of_rate = gradients(rate.sum(1).mean(), of_z)
    b = [ratio(one, other) for one, other in zip(by_z, of_rate, strict=True)]
    assert b[0] == pytest.approx(b[1])
    return b[0] / a


def sizes(name):
    """Return the shapes of x and z that a convention asks for."""
    of = CONVENTIONS[name]
    shape = {"H,W,C": (H, W, C), "CHUNK,DIMS": (8, 5), "GENES": (D,)}.get(of.shape, (C, H, W))
    return shape, (Z,) if of.kl_per == "Z" else None


@pytest.mark.parametrize(("name", "error"), CASES)
def test_beta_is_what_the_loss_says(name, error):
    shape, latent = sizes(name)
    likelihood = UNIT[error]
    measured = beta_of(CASES[name, error], lambda x_hat, x: -likelihood(x_hat).log_prob(x), shape)
    found = convert(name, WEIGHT, shape, latent, loss=error)
    assert found.beta == pytest.approx(measured, rel=1e-6)
    assert found.likelihood == type(likelihood).__name__
    assert found.sigma == pytest.approx(getattr(likelihood, "sigma", None))


def test_lpips_is_added_to_each_value():
    def distortion(x_hat, x):
        return L1()(x_hat).log_prob(x).neg() + D * lpips(x, x_hat).flatten()

    for name in ("ldm", "audioldm2"):
        found = convert(name, WEIGHT, (C, H, W))
        assert found.error == "l1+lpips"
        assert found.beta == pytest.approx(beta_of(ldm(1), distortion, (C, H, W)))


def test_cryodrgn_divides_both_by_the_mask():
    def distortion(x_hat, x):
        inside = torch.arange(D) % 3 > 0
        return (x_hat - x).flatten(1)[:, inside].square().sum(1)

    measured = beta_of(cryodrgn, distortion, (C, H, W))
    assert convert("cryodrgn", WEIGHT).beta == pytest.approx(measured)


def test_padded_steps_count_in_the_d_of_act_and_not_of_lerobot():
    is_pad = torch.arange(8) >= torch.tensor([[3], [6], [8]])  # 17 of 24 steps are left

    def distortion(x_hat, x):
        return ((x_hat - x).abs() * ~is_pad.unsqueeze(-1)).sum((1, 2))

    d = {act: 8 * 5, lerobot: 17 / 3 * 5}
    for loss, values in d.items():
        measured = beta_of(partial(loss, is_pad=is_pad), distortion, (8, 5))
        assert measured == pytest.approx(WEIGHT * values)
    assert convert("act", WEIGHT, (8, 5)).beta == pytest.approx(WEIGHT * 8 * 5)


def test_one_z_for_a_tilt_series_is_a_larger_beta():
    def loss(x_hat, x, mean, logvar, w):
        each = kl(mean, logvar).sum(1).mean(0)
        return F.mse_loss(x_hat.flatten(0, 1), x.flatten(0, 1)) + w * each / 11

    measured = beta_of(loss, lambda x_hat, x: (x_hat - x).square().sum((1, 2)), (7, 11))
    assert measured == pytest.approx(7 * convert("cryodrgn", WEIGHT).beta)


@pytest.mark.parametrize("error", CONVENTIONS["scvi"].errors)
def test_scvi_sums_both(error):
    x = torch.poisson(torch.full((B, D), 3.0, dtype=torch.float64))
    theta = 10.0  # what NegativeBinomial starts from

    def loss(x_hat, _, mean, logvar, w):
        log_mean, logit = x_hat.chunk(2, 1)
        p = torch.distributions.Poisson(log_mean.exp())
        if error != "poisson":
            p = torch.distributions.NegativeBinomial(theta, logits=log_mean - math.log(theta))
        log_p = p.log_prob(x)
        if error == "zinb":
            zero = F.logsigmoid(logit).logaddexp(F.logsigmoid(-logit) + log_p)
            log_p = torch.where(x == 0, zero, F.logsigmoid(-logit) + log_p)
        return torch.mean(-log_p.sum(-1) + w * kl(mean, logvar).sum(-1) + 0.0)

    of = {
        "zinb": ZeroInflatedNegativeBinomial, "nb": NegativeBinomial, "poisson": Poisson,
    }[error]  # fmt: skip
    likelihood = of() if error == "poisson" else of(features=D, start=theta).double()

    def distortion(x_hat, _):
        return -likelihood(x_hat if error == "zinb" else x_hat.chunk(2, 1)[0]).log_prob(x)

    found = convert("scvi", WEIGHT, loss=error)
    assert found.likelihood == of.__name__
    assert found.beta == pytest.approx(beta_of(loss, distortion, (2 * D,)), rel=1e-5)


def test_raves_kl_is_twice_that_of_a_frame():
    torch.manual_seed(0)
    mean, scale = (torch.randn(B, Z, 7, requires_grad=True) for _ in range(2))
    std = F.softplus(scale) + 1e-4
    var = std * std
    theirs = (mean * mean + var - torch.log(var) - 1).sum(1).mean()
    normal = torch.distributions.Normal
    of_frame = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(theirs, 2 * of_frame.mean())
    found = convert("rave", 0.05, distortion=3.0)
    assert (found.beta, found.rate) == (None, "frame")
    assert found.b == pytest.approx(0.05 * (theirs / of_frame.mean()).item())
    assert found.max_rate_nats == pytest.approx(3 / 0.1)


@pytest.mark.parametrize(("capacity", "gamma"), [(2.0, 0.8), (2.0, 0.1), (0.3, 0.5)])
def test_a_capacity_is_the_rate_unless_gamma_is_too_small(capacity, gamma):
    """min D + γ|R − C| over the closed form's curve is at R = max(C, R(γ)), β = min(β(C), γ)."""
    spectrum = [1.0, 0.5, 0.2, 0.1]
    betas = torch.logspace(-3, 2, 4001).tolist()
    points = [(beta, *water_filling(spectrum, beta, 0.7, 4)) for beta in betas]
    best = min(points, key=lambda p: p[2] + gamma * abs(p[1] - capacity))
    of_capacity = min(points, key=lambda p: abs(p[1] - capacity))
    most = convert("burgess", gamma, capacity=capacity).beta
    assert most == gamma
    assert best[0] == pytest.approx(min(most, of_capacity[0]), rel=0.01)
    assert best[1] >= capacity - 0.01


def test_burgess_has_the_errors_of_its_file():
    assert CONVENTIONS["burgess"].errors == CONVENTIONS["disentangling-vae"].errors


def test_each_convention_is_tested_and_has_a_source():
    tested = {name for name, _ in CASES} | {"scvi", "cryodrgn", "rave", "burgess"}
    assert set(CONVENTIONS) == tested
    for name, of in CONVENTIONS.items():
        assert " at " in of.source or of.source.startswith("torch.nn"), name
        assert set(of.errors) <= set(ERRORS)


@pytest.mark.parametrize(
    ("given", "beta"),
    [
        (("ldm", 1e-6), 1e-6),
        (("act", 10, (100, 14)), 14_000),
        (("pytorch-vae", 0.00025, (3, 64, 64)), 3.072),
        (("disentangling-vae", 4), 4),
        (("cryodrgn", 1 / 8), 0.125),
        (("keras", 1, (28, 28, 1)), 1),
        (("keras", 1, (32, 32, 3)), 3),
        (("mean-mean", 1, (3, 64, 64), (4, 8, 8)), 48),
    ],
)
def test_golden_numbers(given, beta):
    assert convert(*given).beta == pytest.approx(beta)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize(("error", "of"), [("mse", Gaussian), ("l1", Laplace)])
def test_beta_at_another_sigma(sigma, error, of):
    measured = beta_of(
        CASES["mean", error], lambda x_hat, x: -of(sigma)(x_hat).log_prob(x), (C, H, W)
    )
    found = convert("mean", WEIGHT, (C, H, W), loss=error, sigma=sigma)
    assert found.beta == pytest.approx(measured, rel=1e-6)


def test_sigma_on_01_is_the_same_likelihood_of_scaled_x():
    found = convert("ldm", 1e-6)
    x, x_hat = torch.rand(2, 5, 7)
    wide = Laplace(found.sigma)(2 * x_hat - 1).log_prob(2 * x - 1)
    narrow = Laplace(found.sigma_01)(x_hat).log_prob(x)
    assert (narrow - wide).std() < 1e-5  # they differ by d log 2


def test_the_bound_holds_at_the_optimum():
    """Of the closed form, in the words of mean squared error beside a summed KL."""
    spectrum, d = [1.0, 0.5, 0.2, 0.1], 4
    for weight in (0.001, 0.01, 0.1):
        beta = convert("mean", weight, (d,), sigma=0.7).beta
        rate, _ = water_filling(spectrum, beta, 0.7, d)
        most = convert("mean", weight, (d,), distortion=sum(spectrum) / d).max_rate_nats
        assert most == pytest.approx(sum(spectrum) / d / weight)
        assert 0 < rate <= most


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_is_a_number_above_0(weight):
    with pytest.raises(ValueError, match="is not a finite number above 0"):
        convert("ldm", weight)


def test_act_collapses_by_construction():
    assert convert("act", 10, (100, 14), distortion=0.8).max_rate_nats == pytest.approx(0.08)
    assert convert("act", 10, (100, 14)).max_rate_per_error == pytest.approx(0.1)


def test_the_formula_is_the_number():
    """What the table prints, read as Python, is the β that is returned."""
    for name, of in CONVENTIONS.items():
        shape, latent = sizes(name)
        capacity = 5.0 if of.capacity else None
        for error in of.errors:
            if formula := of.formula(error).replace("·", "*"):
                names = {"w": WEIGHT, "d": math.prod(shape), "C": shape[-1], "Z": Z}
                found = convert(name, WEIGHT, shape, latent, loss=error, capacity=capacity)
                assert found.beta == pytest.approx(eval(formula, names)), (name, error)
                assert f"`{name}`" in table() and of.formula(error) in table()


# The command ------------------------------------------------------------------------------------


def said(capsys, *argv):
    assert main(["beta", *argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_command_says_it(capsys):
    out = said(capsys, "--from", "act", "--weight=10", "--shape", "100,14", "--distortion", ".8")
    lines = dict((line[:12].strip(), line[12:]) for line in out.splitlines())
    assert lines["in sums"].startswith("0.000714286·Σ|x − x̂| + 10·R")
    assert lines["β"].startswith("14,000 for Laplace with σ = 1.41421")
    assert lines["bound"] == "R ≤ 0.08 nats per example at the optimum"
    assert lines["source"] == "tonyzhaozh/act, policy.py at 742c753; arXiv 2304.13705"
    assert max(map(len, out.splitlines())) <= 80


def test_the_command_in_json(capsys):
    found = json.loads(said(capsys, "--from=ldm", "--weight=1e-6", "--json"))
    assert found == convert("ldm", 1e-6).as_dict()


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_prints(capsys, name):
    shape, latent = sizes(name)
    argv = [] if name == "rave" else ["--shape", ",".join(map(str, shape))]
    argv += ["--latent", str(Z)] if latent else []
    argv += ["--capacity", "5"] if name == "burgess" else []
    out = said(capsys, "--from", name, "--weight", "2", *argv)
    assert ("none: " if name == "rave" else "for ") in out
    assert {"bound", "source"} <= {line[:12].strip() for line in out.splitlines()}


def test_what_a_run_has_there(capsys):
    """The digits have σ = ¼ and d = 64: β = w·64/(2/16)."""
    out = said(capsys, "--from", "mean", "--weight", "0.001", "--run", "digits")
    model = multibeta.load("digits")
    curve = multibeta.sweep(model, multibeta.data.Digits(), 0.512)
    assert "0.512 for Gaussian with σ = 0.25" in out
    assert f"R = {curve['rate_nats'][0]:.6g} nats" in out
    assert f"D = {curve['distortion_nats'][0]:.6g} nats" in out
    found = json.loads(
        said(capsys, "--from", "mean-mean", "--weight", "0.008", "--run", "digits", "--json")
    )
    assert found["beta"] == pytest.approx(0.512)  # 8 latents
    assert found["run"]["rows"][0]["rate_nats"] == curve["rate_nats"][0]


def test_units_of_x_are_converted(capsys):
    """diffusers' x go from −1 to 1: the run's σ = ¼ on [0, 1] is ½ there, so β = 2w."""
    out = said(capsys, "--from", "diffusers", "--weight", "0.2", "--run", "digits")
    assert "0.4 for Gaussian with σ = 0.5 in units of that x, which is σ = 0.25 on [0, 1]" in (
        " ".join(out.split())
    )


def test_a_capacity_finds_its_beta(capsys):
    argv = ["--from", "burgess", "--loss", "mse", "--run", "digits", "--json", "--capacity"]
    found = json.loads(said(capsys, *argv, "8", "--weight", "100"))
    row = found["run"]["rows"][0]
    assert row["rate_nats"] == pytest.approx(8, rel=0.01)
    assert row["beta"] < found["beta"] == pytest.approx(100 / 255 * 8)
    found = json.loads(said(capsys, *argv, "8", "--weight", "10"))
    row = found["run"]["rows"][0]
    assert row["rate_nats"] > 8  # γ is too small
    assert row["beta"] == found["beta"]


def model_of(likelihood, **pinned):
    vae = multibeta.MultiBetaVAE.of((1, 4, 4), likelihood=likelihood, latent_dim=2)
    vae.units = Units(n=9, low=0.0, high=1.0, mean=[0.5], std=[0.2])
    return vae.pin(**pinned)


@pytest.mark.parametrize(
    ("name", "loss", "model", "sigma"),
    [
        ("ldm", "l1", model_of(Laplace(0.2)), (0.4, True)),  # x are twice as wide there
        ("ldm", "l1", model_of(L1()), (2 * math.sqrt(2), True)),
        ("mean", None, model_of(MSE()), (math.sqrt(0.5), False)),
        ("pytorch-vae", None, model_of(Gaussian("0.1:1"), sigma=0.5), (0.5, True)),
        ("pytorch-vae", None, model_of(Gaussian("0.1:1")), (math.sqrt(0.1), True)),  # the middle
        ("keras", None, model_of(Bernoulli()), (None, True)),
    ],
)
def test_the_sigma_of_a_run(name, loss, model, sigma):
    found, same = _sigma(CONVENTIONS[name], loss, model, "RUN")
    assert (found, same) == (sigma[0] and pytest.approx(sigma[0]), sigma[1])


def test_a_run_without_a_fixed_sigma_is_refused():
    with pytest.raises(ValueError, match="RUN has LearnedGaussian, and this weight is of Gau"):
        _sigma(CONVENTIONS["pytorch-vae"], None, model_of(LearnedGaussian()), "RUN")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("--from lmd --weight 1", "no convention lmd (did you mean ldm?); ldm, diffusers, "),
        ("--weight 1", "give --from NAME: ldm, "),
        ("--from act", "give --weight W, the weight in that code; act ships with 10"),
        ("--from act --weight 0 --shape 3,4", "weight=0 is not a finite number above 0"),
        ("--from ldm --weight x", "weight=x is not allowed; allowed: float"),
        ("--from ldm --weight 1 --sigma -1", "sigma=-1 is not a finite number above 0"),
        ("--from act --weight 10", "act needs --shape CHUNK,DIMS"),
        ("--from scvi --weight 1 --distortion 2", "scvi needs --shape GENES"),
        ("--from act --weight 10 --shape 100,x", "--shape 100,x is no shape; write whole "),
        ("--from act --weight 10 --shape 100,0", "shape=100,0 is no shape; write whole "),
        ("--from keras --weight 1 --shape 28,28", "keras has x of H,W,C; give --shape with all"),
        ("--from rave --weight 1 --shape 3", "rave does not depend on the shape of x; leave "),
        ("--from act --weight 1 --shape 3,4 --latent 4", "act sums its KL over latents; leave "),
        ("--from mean-mean --weight 1 --shape 3", "mean-mean averages its KL over latents; give"),
        ("--from sum --weight 1 --loss mes", "loss=mes is none of sum's (did you mean mse?); "),
        ("--from keras --weight 1 --shape 3,3,1 --sigma 1", "keras has no σ with bce; leave "),
        ("--from burgess --weight 1", "burgess needs --capacity C, in nats per example"),
        ("--from sum --weight 1 --capacity 3", "sum has no capacity C; leave --capacity out"),
        ("--from burgess --weight 1 --capacity 3 --distortion 1", "burgess has a bound from bel"),
        ("--from rave --weight 1 --run digits", "rave has no β; leave --run out"),
        ("--from scvi --weight 1 --run digits", "digits has Gaussian, and this weight is of Ze"),
        ("--from sum --weight 1 --loss l1 --run digits", "digits has Gaussian, and this weight is"
         " of Laplace; choose --loss mse"),
        ("--from ldm --weight 1 --run digits", "D of digits has no LPIPS; choose --loss l1"),
        ("--from mean --weight 1 --run digits", "β = 512 is outside the trained range [0.01, 10]"),
        ("--from mean --weight 1 --run digits --shape 3,4", "--shape 3,4 has 12 values, digits "),
        ("--from mean --weight 1 --run digits --sigma 1", "digits has σ = 0.25 in units of that"),
        ("--form act --weight 1", "no such option: --form (did you mean --from?)"),
    ],
)  # fmt: skip
def test_mistakes_are_said_in_one_line(capsys, argv, line):
    assert fails(capsys, "beta", *argv.split()).startswith(line)
