"""Every row of the family against closed forms, the rows it equals at some weights, gradients."""

import inspect
import math
from pathlib import Path

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from multibeta import objectives
from multibeta.cli import main
from multibeta.divergences import (
    kl_standard_normal,
    minibatch_rate_terms,
    mmd_standard_normal,
)
from multibeta.likelihoods import Gaussian
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from multibeta.objectives import (
    AAE,
    DIPVAE,
    ELBO,
    HFVAE,
    IWAE,
    AnchorVAE,
    BetaELBO,
    BetaTCVAE,
    FactorVAE,
    InformationDropout,
    InfoVAE,
    Objective,
    TargetRate,
    Terms,
    table,
)
from multibeta.specs import build, describe
from tests.helpers import newest

ROWS = [
    ELBO, BetaELBO, TargetRate, BetaTCVAE, HFVAE, InformationDropout, AnchorVAE, DIPVAE, InfoVAE,
    IWAE, FactorVAE, AAE,
]  # fmt: skip
BATCH, LATENTS = 24, 4


def codes(n=BATCH, latents=LATENTS, dtype=torch.float64, seed=0):
    """Return mean, std and a sample of posteriors, as leaves for gradients."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_std, noise = torch.randn(3, n, latents, generator=generator, dtype=dtype)
    return mean.requires_grad_(), (0.3 * log_std - 0.5).requires_grad_(), noise


def terms(mean, log_std, noise, draws=1, progress=1.0, distortion=None):
    std = log_std.exp()
    z = mean + std * noise
    q = torch.distributions.Independent(Normal(mean, std), 1)
    if distortion is None:
        distortion = (z - 1).square().sum(-1)
    conditions = torch.zeros(1, 1, dtype=z.dtype)
    return Terms(distortion, kl_standard_normal(q), z, mean, std, conditions, draws, progress)


def value(objective, t, **weights):
    return objective(t, objective.weights({"beta": 1.0, **weights}))


def test_the_elbo_and_the_beta_vae():
    t = terms(*codes())
    assert torch.equal(value(ELBO(), t), t.distortion + t.rate)
    assert torch.equal(value(BetaELBO(), t, beta=3.0), t.distortion + 3 * t.rate)
    beta = torch.linspace(0.1, 10, BATCH)
    assert torch.equal(value(BetaELBO(), t, beta=beta), t.distortion + beta * t.rate)


@pytest.mark.parametrize(
    ("row", "other"),
    [
        (BetaTCVAE(alpha=2.5, gamma=2.5), BetaELBO()),
        (HFVAE(alpha=2.5, gamma=7, block=1), BetaTCVAE(alpha=2.5)),
        (HFVAE(alpha=2.5, gamma=2.5, block=3), BetaTCVAE(alpha=2.5)),
        (InfoVAE(alpha=0, lambd=1), BetaELBO()),
        (FactorVAE(gamma=0), BetaELBO()),
        (AnchorVAE(lambd=0), BetaELBO()),
        (DIPVAE(lambda_od=0, lambda_d=0), BetaELBO()),
        (AAE(alpha=0, lambd=1), BetaELBO()),
    ],
    ids=lambda row: type(row).__name__,
)
def test_a_row_that_equals_another(row, other):
    t = terms(*codes(), draws=2)
    for objective in (row, other):
        objective.build(LATENTS, 1)
        objective.double()
    torch.testing.assert_close(value(row, t, beta=2.5), value(other, t, beta=2.5))


def test_information_dropout_is_a_beta_tcvae_with_free_marginals():
    t = terms(*codes())
    mine = value(InformationDropout(gamma=3), t, beta=2.0)
    torch.testing.assert_close(mine, value(BetaTCVAE(alpha=2, gamma=0), t, beta=3.0))


def test_the_split_of_codes_whose_aggregate_is_the_prior():
    """q(z|x) = N(m, s²I) whose aggregate is N(0, I): TC = 0, K = 0, I = ½ k log(1/s²)."""
    n, latents, std = 2000, 2, 0.5
    torch.manual_seed(0)
    mean = math.sqrt(1 - std**2) * torch.randn(n, latents, dtype=torch.float64)
    log_std = torch.full_like(mean, math.log(std))
    split = terms(mean, log_std, torch.randn_like(mean)).split()
    assert split.information.mean() == pytest.approx(
        0.5 * latents * math.log(1 / std**2), abs=0.05
    )
    assert split.total_correlation.mean().abs() < 0.05
    assert split.dimension_kl.mean().abs() < 0.05


def test_the_split_has_the_gradients_of_weighted_sampling():
    found = []
    for weighted in (False, True):
        mean, log_std, noise = codes()
        t = terms(mean, log_std, noise)
        split = t.split()
        if weighted:
            split = minibatch_rate_terms(t.z, t.mean, t.std, size=5000, stratified=False)
            split = (split.mutual_information_nats, split.total_correlation_nats)
        (2 * split[0] + 3 * split[1]).sum().backward()
        found.append(torch.cat([mean.grad, log_std.grad]))
    torch.testing.assert_close(*found)


def test_groups_do_not_see_each_other():
    one, two = (terms(*codes(seed=seed)) for seed in (0, 1))
    both = terms(*(torch.cat(v) for v in zip(codes(seed=0), codes(seed=1), strict=True)), draws=2)
    for row in (BetaTCVAE(), HFVAE(), DIPVAE(), InfoVAE(), TargetRate(), AnchorVAE()):
        alone = torch.cat([value(row, t, beta=2.0) for t in (one, two)])
        torch.testing.assert_close(value(row, both, beta=2.0), alone)


def test_target_rate_rises_and_is_held():
    t = terms(*codes())
    rate = t.rate.mean()
    expected = t.distortion + 2 * (rate - 5).abs()
    torch.testing.assert_close(value(TargetRate(rate=5), t, beta=2.0), expected)
    early = terms(*codes(), progress=0.1)
    expected = t.distortion + 2 * (rate - 1).abs()
    torch.testing.assert_close(value(TargetRate(rate=5, anneal=0.5), early, beta=2.0), expected)
    torch.testing.assert_close(value(TargetRate(rate=5, anneal=0), early, beta=2.0),
                               t.distortion + 2 * (rate - 5).abs())  # fmt: skip


@pytest.mark.parametrize("kind", ["I", "II"])
def test_dip_vae_penalises_what_numpy_says(kind):
    numpy = pytest.importorskip("numpy")
    mean, log_std, noise = codes()
    t = terms(mean, log_std, noise)
    covariance = numpy.cov(mean.detach().numpy().T, bias=True)
    if kind == "II":
        covariance += numpy.diag(t.std.square().mean(0).detach().numpy())
    off = (covariance**2).sum() - (numpy.diag(covariance) ** 2).sum()
    diagonal = ((numpy.diag(covariance) - 1) ** 2).sum()
    extra = value(DIPVAE(lambda_od=3, lambda_d=7, kind=kind), t) - value(BetaELBO(), t)
    torch.testing.assert_close(extra, torch.full_like(extra, 3 * off + 7 * diagonal))


def test_infovae_pays_for_the_distance_from_the_prior():
    mean, log_std, noise = codes()
    t = terms(mean, log_std, noise)
    extra = value(InfoVAE(alpha=0.25, lambd=10), t, beta=2.0) - t.distortion
    expected = 2 * (0.75 * t.rate + 9.25 * mmd_standard_normal(t.z))
    torch.testing.assert_close(extra, expected)


def test_anchors_are_rewarded_for_their_information_alone():
    mean, log_std, noise = codes()
    t = terms(mean, log_std, noise)
    few = terms(mean[:, :2], log_std[:, :2], noise[:, :2])
    expected = t.distortion + t.rate - 0.5 * few.split().information
    torch.testing.assert_close(value(AnchorVAE(lambd=0.5, anchors=2), t), expected)


def test_blocks_split_the_total_correlation():
    """Two pairs of equal latents: all of their correlation is within the blocks of two."""
    mean, log_std, noise = (v.detach().repeat_interleave(2, dim=1) for v in codes(latents=2))
    t = terms(mean, log_std - 1, noise)
    split = t.split(block=2)
    assert split.within_blocks.mean() > 1
    whole = t.split(block=4)
    torch.testing.assert_close(whole.within_blocks, whole.total_correlation)
    torch.testing.assert_close(split.total_correlation, whole.total_correlation)


def linear_vae(samples, n=400):
    """Return terms of x = z + noise with a posterior that is not the true one, and log p(x)."""
    torch.manual_seed(0)
    x = torch.randn(n, 1, dtype=torch.float64) * math.sqrt(2)
    mean, log_std = (0.4 * x).repeat(samples, 1), torch.full((n * samples, 1), -0.2).double()
    noise = torch.randn(n * samples, 1, dtype=torch.float64)
    z = mean + log_std.exp() * noise
    distortion = -Normal(z, torch.ones_like(z)).log_prob(x.repeat(samples, 1)).squeeze(1)
    exact = -Normal(torch.zeros_like(x), math.sqrt(2)).log_prob(x).mean().item()
    return terms(mean, log_std, noise, distortion=distortion), exact


def test_the_importance_weighted_bound_reaches_the_exact_likelihood():
    bounds = []
    for samples in (1, 4, 256):
        t, exact = linear_vae(samples)
        bounds.append(value(IWAE(samples), t).mean().item())
    assert bounds[0] > bounds[1] > bounds[2] > exact - 0.01
    assert bounds[2] == pytest.approx(exact, abs=0.01)


def test_one_importance_sample_is_the_beta_vae_with_its_rate_by_that_sample():
    t = terms(*codes())
    expected = t.distortion + 3 * t.log_ratio
    torch.testing.assert_close(value(IWAE(samples=1), t, beta=3.0), expected)
    many = terms(*codes(n=20_000, latents=2))
    assert many.log_ratio.mean().item() == pytest.approx(many.rate.mean().item(), rel=0.02)


@pytest.mark.parametrize("row", ROWS)
def test_gradients_in_float64(row):
    """Of every term with respect to mean and log std; the discriminator's too."""
    objective = row()
    torch.manual_seed(0)
    objective.build(LATENTS, 1)
    objective.double()
    mean, log_std, noise = codes(n=6)
    if isinstance(objective, IWAE):
        objective.samples = 3

    def loss(mean, log_std):
        return value(objective, terms(mean, log_std, noise, draws=2), beta=2.0)

    assert torch.autograd.gradcheck(loss, (mean, log_std))
    own = [p for p in objective.parameters()]
    loss(mean, log_std).sum().backward()
    assert all(p.grad is None for p in own), "the VAE's loss moves the discriminator"
    if own:
        mean.grad = None
        objective.own_loss(terms(mean, log_std, noise, draws=2)).sum().backward()
        assert mean.grad is None, "the discriminator's loss moves the codes"
        assert all(p.grad.any() for p in own)


def correlated(n, seed):
    """Return codes from a Gaussian with unit variances and correlation 0.8, and its exact TC."""
    torch.manual_seed(seed)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    z = MultivariateNormal(torch.zeros(2), covariance).sample((n,))
    return z, -0.5 * math.log(1 - 0.8**2)


def train_discriminator(objective, sample, steps=600):
    objective.build(2, 1)
    adam = torch.optim.Adam(objective.parameters(), **objective.adam)
    for step in range(steps):
        objective.own_loss(sample(step)).mean().backward()
        adam.step()
        adam.zero_grad()


def as_terms(z):
    std = torch.full_like(z, 1e-3)
    return Terms(z.sum(-1), torch.zeros_like(z), z, z, std, torch.zeros(1, 1))


def test_a_trained_discriminator_gives_the_total_correlation():
    """So D + βR + γTC of FactorVAE is that of β-TCVAE with weight 1 + γ, in expectation."""
    objective = FactorVAE(width=64, depth=2)
    train_discriminator(objective, lambda step: as_terms(correlated(512, step)[0]))
    z, exact = correlated(20_000, seed=-1)
    found = objective.log_density_ratio(as_terms(z)).mean()
    assert found == pytest.approx(exact, abs=0.06)
    mean, log_std = z[:2000].double(), torch.full((2000, 2), -1.5).double()
    split = terms(mean, log_std, torch.randn_like(mean)).split()
    # The same by pairs of codes, which have a variance of 1 + e^−3.
    expected = -0.5 * math.log(1 - (0.8 / (1 + math.exp(-3))) ** 2)
    assert split.total_correlation.mean() == pytest.approx(expected, abs=0.08)


def test_a_trained_discriminator_gives_the_divergence_from_the_prior():
    def sample(step):
        torch.manual_seed(step)
        return as_terms(1 + 0.7 * torch.randn(512, 2))

    objective = AAE(width=64, depth=2)
    train_discriminator(objective, sample)
    torch.manual_seed(10_000)
    found = objective.distance(as_terms(1 + 0.7 * torch.randn(20_000, 2))).mean()
    exact = 2 * (0.5 * (1 + 0.7**2 - 1) - math.log(0.7))
    assert found == pytest.approx(exact, abs=0.12)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: BetaTCVAE(alpha="x"),
            "alpha=x cannot be read; give a number of 0 or more, or a ",
        ),
        (lambda: BetaTCVAE(gamma=-1), "gamma=-1 is not a finite number of 0 or more"),
        (lambda: BetaTCVAE(gamma="0:1"), "gamma=0:1 has the bound 0; write LOW:HIGH"),
        (lambda: BetaTCVAE(gamma="3:1"), "gamma=3:1 is upside down; write 1:3"),
        (lambda: TargetRate(anneal=2), "anneal=2 is outside"),
        (lambda: HFVAE(block=0), "block=0 is too small"),
        (lambda: AnchorVAE(anchors=0), "anchors=0 is too small"),
        (lambda: IWAE(samples=0), "samples=0 is too small"),
        (lambda: DIPVAE(kind="III"), "kind=III is unknown; allowed: I, II"),
        (lambda: InfoVAE(alpha=2), "alpha=2.0 is above 1"),
        (lambda: InfoVAE(alpha=0.2, lambd=0.5), "alpha=0.2 with lambd=0.5 gives M the weight"),
        (lambda: FactorVAE(lr=0), "lr=0 is not a finite number above 0"),
        (lambda: AAE(width=0), "width=0 is too small"),
    ],
)
def test_wrong_weights(make, said):
    with pytest.raises(ValueError) as info:
        make()
    assert str(info.value).startswith(said)


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_in_the_table_and_travels_in_a_checkpoint(row):
    line = next(line for line in table().splitlines() if f"`{row.__name__}`" in line)
    assert row.name in line
    assert row.paper in line
    spec = describe(row())
    again = build(spec, Objective)
    assert type(again) is row
    assert describe(again) == spec
    assert row.formula.replace("|", "") in inspect.getdoc(row.forward).replace("|", "")


def test_all_rows_are_public():
    assert {row.__name__ for row in ROWS} == set(objectives.__all__) - {
        "AdversarialObjective", "Objective", "Split", "Terms", "table",
    }  # fmt: skip


# In a model --------------------------------------------------------------------------------------


def model(objective, likelihood=None, **kwargs):
    torch.manual_seed(0)
    return MultiBetaVAE.of(
        (1, 4, 4), network=MLP(16), latent_dim=3, objective=objective,
        likelihood=likelihood or Gaussian(0.5), **kwargs,
    )  # fmt: skip


def test_ranges_are_drawn_and_condition_the_network():
    made = model(BetaTCVAE(alpha=0.5, gamma="0.1:10"), Gaussian("0.1:1"))
    assert list(made.ranges) == ["beta", "gamma", "sigma"]
    values = made.draws.draw(made.ranges, 6, together=made.objective.together)
    assert {name: v.shape for name, v in values.items()} == dict.fromkeys(made.ranges, (12,))
    for name, of in values.items():
        assert all(made.ranges[name].low <= v <= made.ranges[name].high for v in of)
        assert [len(group.unique()) for group in of.chunk(2)] == [1, 1], (
            "a group shares its weights"
        )
    for parameter in (p for n, p in made.named_parameters() if "condition" in n):
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.rand(5, 1, 4, 4)
    low, high = (made.at(beta=1, gamma=gamma, sigma=0.3) for gamma in (0.1, 10))
    assert (low.encode(x).mean - high.encode(x).mean).abs().max() > 1e-3
    assert low.likelihood.sigma == 0.3
    noise = torch.randn(5, 3)
    mine = made.elbo_terms(x, 1.0, noise, gamma=10.0, sigma=0.3)
    folded = high.elbo_terms(x, noise)
    torch.testing.assert_close(mine.distortion, folded.distortion)
    torch.testing.assert_close(mine.rate_nats, folded.rate_nats)


def test_pin_holds_the_other_weights_and_shares_the_parameters():
    made = model(FactorVAE(gamma="1:100"))
    assert made.pinned == {"gamma": 10}
    view = made.pin(gamma=3)
    assert (made.pinned, view.pinned) == ({"gamma": 10}, {"gamma": 3})
    assert next(view.parameters()) is next(made.parameters())
    with pytest.raises(ValueError, match=r"^gamma=200 is outside the trained range \[1, 100\]"):
        made.pin(gamma=200)
    assert made.pin(gamma=200, extrapolate=True).pinned == {"gamma": 200}
    with pytest.raises(ValueError, match="sigma=1 cannot be chosen: sigma is no range of this "):
        made.at(beta=1, sigma=1)


def test_an_objective_without_beta_has_beta_1():
    made = model(ELBO())
    assert (made.beta_range.low, made.beta_range.high) == (1, 1)
    assert made.draws.draw(made.ranges, 4)["beta"].tolist() == [1.0] * 4


def test_without_conditioning_no_weight_may_be_a_range():
    with pytest.raises(ValueError, match="conditioning=none cannot follow gamma over gamma=1:10"):
        model(FactorVAE(gamma="1:10"), betas="1", conditioning="none")


def test_each_example_has_its_sigma():
    output, x = torch.zeros(3, 1, 2, 2), torch.rand(3, 1, 2, 2)
    sigma = torch.tensor([0.1, 0.5, 2.0])
    together = Gaussian("0.1:2").at({"sigma": sigma})(output).log_prob(x)
    alone = [Gaussian(s.item())(output[:1]).log_prob(x[i : i + 1])[0] for i, s in enumerate(sigma)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_importance_samples_see_their_own_example():
    made = model(IWAE(samples=5))
    x, noise = torch.rand(4, 1, 4, 4), torch.randn(20, 3)
    _, mine, _ = made.objective_of(x, made.conditions(2.0), noise)
    for i in range(4):
        each = [made.elbo_terms(x[i : i + 1], 2.0, noise[i + 4 * k][None]) for k in range(5)]
        log_w = torch.stack(
            [
                -t.distortion
                - 2 * (t.posterior.log_prob(t.z) - Normal(0, 1).log_prob(t.z).sum(-1))
                for t in each
            ]
        )
        torch.testing.assert_close(mine[i], math.log(5) - log_w.logsumexp(0)[0])


FIT = ["--data.batch_size=64", "--model.network.width=16", "--trainer.accelerator=cpu",
       "--curve.betas=0.01,1,10"]  # fmt: skip


def fit(tmp_path, *options):
    assert main(["fit", "--config=digits", *FIT, f"--trainer.default_root_dir={tmp_path}",
                 "--trainer.check_val_every_n_epoch=1", *options]) == 0  # fmt: skip
    return newest(tmp_path)


@pytest.mark.dots
@pytest.mark.parametrize("row", ["FactorVAE", "IWAE", "TargetRate"])
def test_a_row_on_the_command_line(row, tmp_path, capsys):
    run = fit(tmp_path, f"--model.objective={row}", "--trainer.max_epochs=2")
    assert row in capsys.readouterr().out
    assert (run / "curve.csv").exists()
    # It goes on from there, discriminator included.
    assert main(["fit", f"--ckpt_path={run}", "--trainer.max_epochs=3"]) == 0


def test_a_range_on_the_command_line_and_at(tmp_path, capsys):
    run = fit(
        tmp_path, "--model.objective=FactorVAE", "--model.objective.gamma=1:10",
        "--model.likelihood=Gaussian", "--model.likelihood.sigma=0.1:1", "--trainer.max_epochs=1",
    )  # fmt: skip
    assert "gamma = 3.16228" in capsys.readouterr().out.replace("\n", " ")
    assert main(["curve", str(run), "--betas=1", "--at=gamma=2,sigma=0.2", "--metrics="]) == 0
    said = capsys.readouterr().out
    assert "gamma = 2" in said
    assert "σ = 0.2" in said
    assert (run / "gamma=2,sigma=0.2" / "curve.csv").exists()
    assert main(["curve", str(run), "--at=gamma=1:10:3,sigma=0.2"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[:2] == ["β", "gamma"]
    assert [line.split()[:2] for line in table[3:6]] == [
        ["0.3162", "1"], ["0.3162", "3.162"], ["0.3162", "10"],
    ]  # fmt: skip
    folder = run / "gamma=1-10-3,sigma=0.2"
    kept = {"curve.csv", "curve.json", "curve.png", "strip.png"}
    assert kept <= {file.name for file in folder.iterdir()}
    for at, error in {
        "gamma=1:10,sigma=0.1:1": "gamma has several values, and so has sigma; sweep one",
        "gamma": "--at gamma cannot be read; write NAME=NUMBER",
        "gamma=20": "gamma=20 is outside the trained range [1, 10]; pass --extrapolate",
        "delta=1": "delta=1 cannot be chosen: delta is no range of this model; those beside β: "
        "gamma, sigma",
    }.items():
        assert main(["curve", str(run), "--betas=1", f"--at={at}"]) == 2
        assert error in capsys.readouterr().err
    assert main(["curve", str(run), "--betas=0.1,1", "--at=gamma=1:10"]) == 2
    assert "gamma has several values, and so has beta" in capsys.readouterr().err
    assert main(["rate", str(run), "--bits=5", "--at=gamma=1:10"]) == 2
    assert "--at gamma=1:10 has a range; give one value" in capsys.readouterr().err


def test_the_objective_of_the_docs(tmp_path, monkeypatch, capsys):
    """Under 30 lines, and free up to λ."""
    file = Path(__file__).parent.parent / "docs" / "examples" / "own_objective.py"
    assert len(file.read_text().splitlines()) < 30
    monkeypatch.syspath_prepend(str(file.parent))
    from own_objective import FreeBits

    t = terms(*codes(), draws=2)
    free = value(FreeBits(lambd=0), t, beta=3.0)
    expected = t.distortion + 3 * t.in_groups(torch.mean, t.rate)
    torch.testing.assert_close(free, expected)
    assert torch.equal(value(FreeBits(lambd=100), t), t.distortion)
    fit(tmp_path, "--model.objective=own_objective.FreeBits", "--model.objective.lambd=0.1:2",
        "--trainer.max_epochs=1")  # fmt: skip
    assert "FreeBits, lambd = 0.447214" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("row", [row.__name__ for row in ROWS])
def test_every_row_trains_on_digits(row, tmp_path):
    """The whole of the shipped config; on two free cores under two minutes each."""
    import csv

    options = [f"--model.objective={row}", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", "--config=digits", *options, "--trainer.accelerator=cpu"]) == 0
    with (newest(tmp_path) / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(math.isfinite(float(v)) for line in rows for v in line.values())
    swept = {"BetaTCVAE": "total_correlation_nats", "HFVAE": "total_correlation_nats",
             "InformationDropout": "information_nats"}.get(row, "rate_nats")  # fmt: skip
    if row not in ("ELBO", "AAE"):
        assert float(rows[0][swept]) > float(rows[-1][swept])
