import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from multibeta.betas import Draws
from multibeta.likelihoods import Bernoulli, Gaussian, LearnedGaussian
from multibeta.module import FromSettings, MultiBetaModule
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP, Conv, Linear, ResNet
from multibeta.noise import evaluation_noise
from multibeta.settings import plain_settings, rebuild

NETWORKS = {
    "linear": Linear(), "mlp": MLP(16), "conv": Conv(8, 3), "resnet": ResNet(4),
}  # fmt: skip
SHAPE = (1, 9, 12)


def make(network="mlp", conditioning="film", likelihood=None, trained=True, shape=SHAPE, **kwargs):
    """Return a small model; trained: with its conditions away from their neutral start."""
    model = MultiBetaVAE.of(
        shape,
        betas="1" if conditioning == "none" else "0.01:10",
        conditioning=conditioning,
        network=NETWORKS[network],
        latent_dim=4,
        likelihood=likelihood or Bernoulli(),
        **kwargs,
    )
    if trained:
        for name, parameter in model.named_parameters():
            if ".condition." in name and not name.endswith((".up", ".down")):
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def betas_of(model):
    return model.beta_range.grid(5)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.3)], ids=["bernoulli", "gaussian"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("conditioning", ["film", "gate", "none"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["f32", "f64"]
)
def test_folded_is_conditioned(conditioning, network, likelihood, dtype, tolerance):
    model = make(network, conditioning, likelihood).to(dtype)
    x, noise = torch.rand(3, *SHAPE, dtype=dtype), torch.randn(3, 4, dtype=dtype)
    for beta in betas_of(model):
        vae = model.at_beta(beta)
        mine, folded = model.elbo_terms(x, beta, noise), vae.elbo_terms(x, noise)
        pairs = [
            (mine.distortion, folded.distortion),
            (mine.rate_nats, folded.rate_nats),
            (model.encode(x, beta).mean, vae.encode(x).mean),
            (model.reconstruct(x, beta), vae(x)),
        ]
        for conditioned, plain in pairs:
            error = (conditioned - plain).norm() / conditioned.norm()
            assert error <= tolerance


@pytest.mark.parametrize("network", ["linear", "mlp", "conv", "resnet"])
@pytest.mark.parametrize("conditioning", ["film", "gate"])
def test_folded_is_a_plain_vae(network, conditioning):
    folded = make(network, conditioning).at_beta(0.1)
    plain = make(network, "none")
    assert not [name for name in folded.state_dict() if "condition" in name]
    count = [sum(p.numel() for p in m.parameters()) for m in (folded, plain)]
    assert count[0] == count[1]
    assert list(folded.state_dict()) == list(plain.at_beta(1).state_dict())


@pytest.mark.parametrize("network", ["linear", "mlp", "conv", "resnet"])
def test_film_is_neutral_at_the_start(network):
    model = make(network, trained=False)
    x, noise = torch.rand(3, *SHAPE), torch.randn(3, 4)
    low, high = (model.encode(x, beta).mean for beta in (0.01, 10))
    assert torch.equal(low, high)
    low, high = (model.decode(noise, beta).mean for beta in (0.01, 10))
    assert torch.equal(low, high)


@pytest.mark.parametrize("network", ["linear", "mlp", "conv", "resnet"])
@pytest.mark.parametrize("conditioning", ["film", "none"])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("end", [0, -1])
def test_every_parameter_receives_a_gradient(network, conditioning, trained, end):
    """Before training, those that stand behind or before a zero have none yet."""
    model = make(network, conditioning, trained=trained)
    beta = torch.tensor(betas_of(model)[end])
    terms = model.elbo_terms(torch.rand(16, *SHAPE), beta)
    (terms.distortion + beta * terms.rate_nats).mean().backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    starts_still = {
        n
        for n, _ in model.named_parameters()
        if n.startswith("embedding.") or n.endswith((".up", ".down"))
    }
    assert without == (set() if trained else starts_still)


def test_the_head_and_every_layer_of_the_decoder_depend_on_beta():
    model = make("resnet")
    followed = {site.name: site.does for site in model.sites["decoder"]}
    assert set(followed.values()) == {"hyper", "film"}
    assert followed["0"] == "hyper"
    heads = [site.name for site in model.sites["encoder"] if site.does != "plain"]
    assert heads == [str(len(model.encoder) - 1)]


def test_one_beta_and_one_per_example_agree():
    model, x, noise = make("conv"), torch.rand(3, *SHAPE), torch.randn(3, 4)
    betas = torch.tensor([0.01, 0.7, 10.0])
    together = model.elbo_terms(x, betas, noise)
    for i, beta in enumerate(betas):
        alone = model.elbo_terms(x[i : i + 1], beta, noise[i : i + 1])
        torch.testing.assert_close(together.distortion[i], alone.distortion[0])
        torch.testing.assert_close(together.rate_nats[i], alone.rate_nats[0])


@pytest.mark.parametrize("conditioning", ["film", "gate"])
@pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
def test_several_betas_for_each_example_are_the_batch_several_times(network, conditioning):
    model, x, noise = make(network, conditioning), torch.rand(3, *SHAPE), torch.randn(6, 4)
    betas = torch.tensor([0.01, 0.7, 10.0, 3.0, 0.1, 1.0])
    once = model.elbo_terms(x, betas, noise)
    twice = model.elbo_terms(torch.cat([x, x]), betas, noise)
    torch.testing.assert_close(once.distortion, twice.distortion)
    torch.testing.assert_close(once.rate_nats, twice.rate_nats)


@pytest.mark.parametrize(
    ("latent_dim", "betas", "count"), [(12, "0.5:2", 1), (11, "0.5:2", 0), (12, "1:2", 0)]
)
def test_a_sigma_without_an_optimum_is_said(latent_dim, betas, count):
    likelihood = LearnedGaussian(floor=0.02)
    vae = MultiBetaVAE.of((1, 3, 4), betas=betas, latent_dim=latent_dim, likelihood=likelihood)
    model = MultiBetaModule(vae)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.setup("fit")
    assert len(said) == count
    if said:
        assert "with 12 latents for 12 values of x" in str(said[0].message)
        assert "its floor of 0.02" in str(said[0].message)


def drawn(n, progress=1.0, **options):
    """Return the β's of a batch."""
    model = make(**{k: v for k, v in options.items() if k in ("conditioning", "likelihood")})
    names = [k for k in options if k not in ("conditioning", "likelihood", "network")]
    draws = replace(model.draws, **{k: options[k] for k in names})
    return draws.draw(model.ranges, n, progress)


@pytest.mark.parametrize("per", ["example", "batch"])
def test_the_betas_of_a_training_batch(per):
    several = drawn(50, per=per, betas_per_example=3)["beta"]
    assert several.shape == (150,)
    of_each_draw = [len(group.unique()) for group in several.chunk(3)]
    if per == "example":
        assert min(of_each_draw) > 3
    else:
        assert of_each_draw == [1, 1, 1]
        # The three are stratified: one in each third of log β.
        three = drawn(50, per=per, betas_per_example=3, ends=0, tilt=1)["beta"][::50]
        assert sorted((three.log10() + 2).floor().tolist()) == [0, 1, 2]
    # A model of one β has one of each example, unless more samples of the code are asked for.
    assert drawn(50, conditioning="none")["beta"].tolist() == [1.0] * 50
    assert drawn(50, conditioning="none", betas_per_example=2)["beta"].tolist() == [1.0] * 100


@pytest.mark.parametrize(("n", "each"), [(64, 8), (12, 4), (7, 1), (2, 2)])
def test_neighbours_in_a_batch_share_their_betas(n, each):
    """As many of eight as divide the batch; the β's of the batch stay stratified."""
    beta = drawn(n, betas_per_example=2, ends=0, tilt=1)["beta"].view(2, n // each, each)
    assert torch.equal(beta, beta[..., :1].expand_as(beta))
    strata = (beta[..., 0].flatten().log10() + 2) / 3 * (2 * n // each)
    assert sorted(strata.floor().int().tolist()) == [*range(2 * n // each)]
    assert drawn(n, per="example")["beta"].unique().numel() > min(n - 1, n // 2)
    with pytest.raises(
        ValueError, match=r"per=0 is unknown; allowed: example, batch, or a number"
    ):
        Draws(per=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_step_of_neighbours_that_share_is_that_of_each_alone(network, times):
    """The same loss and gradients, also where processes have a part of the batch each."""
    model = make(network, draws=Draws(betas_per_example=times))
    x, found = torch.rand(24, *SHAPE), []
    for parts in (1, 2, 6, 24):  # of 24, 12, 4 and 1 examples: 8, 4, 4 and 1 share
        model.zero_grad()
        n = len(x) // parts
        for i in range(parts):
            torch.manual_seed(0)
            (model.step(x[i * n : (i + 1) * n], 1.0, (i, parts)).loss / parts).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(gradient, other[name], rtol=1e-3, atol=2e-6, msg=name)


def test_each_betas_loss_is_estimated_without_bias():
    """The mean over draws of the weighed loss is its integral over the density of the draws."""
    model = make("linear")
    x, ends, tilt = torch.rand(8, *SHAPE), model.draws.ends, model.draws.tilt
    power = model.draws.balance
    inner = (torch.arange(80) + 0.5) / 80
    betas = 0.01 * 1000 ** torch.cat([torch.zeros(1), inner**tilt, torch.ones(1)])
    weights = torch.cat([torch.tensor([ends / 2]), torch.full((80,), (1 - ends) / 80),
                         torch.tensor([ends / 2])])  # fmt: skip
    torch.manual_seed(1)
    x = x.repeat(10, 1, 1, 1)
    noise = torch.randn(len(x), 4)
    with torch.no_grad():
        at_each = torch.stack([
            (terms.distortion + beta * terms.rate_nats).mean() / (1 + beta) ** power
            for beta, terms in ((beta, model.elbo_terms(x, beta, noise)) for beta in betas)
        ])  # fmt: skip
        losses = torch.stack([model.step(x, 1.0).loss * x[0].numel() for _ in range(300)])
    wanted = (weights * at_each).sum()
    assert losses.mean().item() == pytest.approx(wanted.item(), rel=0.01)


@pytest.mark.parametrize("together", [False, True])
def test_the_range_opens_with_the_training(together):
    """Of another weight all draws are of its whole range."""
    model = make(likelihood=Gaussian("0.1:1"))
    per = "batch" if together else "example"
    draws = Draws(per=per, ends=0, tilt=1, opening=0.5)
    n, times = (1, 400) if together else (500, 1)
    for share in (0.0, 0.25, 0.5, 1.0):
        given = [draws.draw(model.ranges, n, share / 2) for _ in range(times)]
        beta = torch.cat([values["beta"].view(draws.times, -1) for values in given], 1)
        sigma = torch.cat([values["sigma"] for values in given])
        assert sigma.min().item() == pytest.approx(0.1, rel=0.1)
        opened = 10 * 1e-3**share
        below = (beta < opened * (1 - 1e-6)).double().mean().item()
        assert below == 0
        exact = (beta >= 10 * (1 - 1e-6)).double().mean().item()
        assert exact == (1.0 if share == 0 else 0.0)


def test_the_first_batch_of_a_step_by_step_loop_may_be_of_any_size():
    for n in (1, 2, 3):
        for progress in (0.0, 0.1, 0.2, 0.25):
            assert drawn(n, progress, betas_per_example=2)["beta"].shape == (2 * n,)


def test_the_range_opens_where_the_decoder_has_convolutions():
    openings = {"linear": 0.0, "mlp": 0.0, "conv": 0.25, "resnet": 0.25}
    assert {name: make(name).draws.opening for name in NETWORKS} == openings
    assert make("conv", draws=Draws(opening=0.1)).draws.opening == 0.1


def test_a_file_with_a_ramp_says_that_there_is_none_any_more():
    settings = plain_settings(make())["settings"]
    for ramp, of in ((True, 0.25), (False, None)):
        old = {**settings, "draws": {"tilt": 1.0, "opening": of, "ramp": ramp}}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert rebuild({"settings": old}, "an older file").draws.opening == (of or 0.0)
        assert ["ramp is no more" in str(one.message) for one in said] == [True] * ramp


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_the_noise_of_an_example_comes_in_opposite_pairs(times):
    x = torch.rand(500, *SHAPE)
    noise = Draws(betas_per_example=times).noise(x, (4,), 2).reshape(2, times, 500, -1)
    pairs = noise[:, (times + 1) // 2 :]
    assert torch.equal(pairs, -noise[:, : times // 2])
    independent = noise[:, : (times + 1) // 2].flatten(0, 1)
    assert independent.mean().item() == pytest.approx(0, abs=0.05)
    covariance = torch.cov(independent.flatten(1)) - torch.eye(len(independent))
    assert covariance.abs().max().item() < 0.1


@pytest.mark.parametrize("k", [1e-6, 1e3])
def test_units_of_the_distortion_change_nothing(k):
    """D·k and β·k: the same model, step by step, where the learning rate is lr/k."""

    def trained(unit):
        torch.manual_seed(0)
        model = MultiBetaVAE.of(
            SHAPE, f"{0.01 * unit}:{10 * unit}", network=MLP(16), latent_dim=4,
            likelihood=Gaussian(0.3 / math.sqrt(unit)),
        ).double()  # fmt: skip
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01 / unit)
        x = torch.rand(16, *SHAPE, dtype=torch.float64)
        losses = []
        for step in range(20):
            loss = model.loss(x, step / 20)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return model, losses

    (one, _), (other, _) = trained(1.0), trained(k)
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8, msg=name)


def test_nothing_is_remembered_between_calls():
    model, x = make(), torch.rand(2, *SHAPE)
    before = model.reconstruct(x, 0.1)
    model.reconstruct(x, 10.0)
    assert torch.equal(model.reconstruct(x, 0.1), before)


def test_rate_is_the_kl_and_distortion_the_negative_log_likelihood():
    model = make(likelihood=Gaussian(0.5))
    vae, x = model.at_beta(1.0), torch.rand(3, *SHAPE)
    noise = torch.randn(3, 4)
    terms, q = vae.elbo_terms(x, noise), vae.encode(x)
    prior = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    torch.testing.assert_close(terms.rate_nats, torch.distributions.kl_divergence(q, prior))
    z = q.mean + q.stddev * noise
    torch.testing.assert_close(terms.distortion, -vae.decode(z).log_prob(x))


def test_outside_the_trained_range():
    model = make()
    message = r"beta=20 is outside the trained range \[0.01, 10\]; pass extrapolate=True to try"
    with pytest.raises(ValueError, match=message):
        model.at_beta(20)
    assert model.at_beta(20, extrapolate=True).beta == 20


@torch.no_grad()
def test_standardised_latents_have_mean_0_and_variance_1_and_the_same_distortion():
    vae = make().at_beta(0.01)
    torch.nn.init.normal_(vae.encoder[-2].bias)
    x, noise = torch.rand(60, *SHAPE), torch.randn(60, 4)
    after = vae.standardised([x[:20], (x[20:], None)])
    q, r = vae.encode(x), after.encode(x)
    mean = q.mean.mean(0)
    variance = q.mean.var(0, correction=0) + q.variance.mean(0)
    torch.testing.assert_close(r.mean.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        r.mean.var(0, correction=0) + r.variance.mean(0), torch.ones(4), atol=1e-4, rtol=0
    )
    before, now = vae.elbo_terms(x, noise), after.elbo_terms(x, noise)
    torch.testing.assert_close(now.distortion, before.distortion)
    saved = kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)).sum()
    assert saved > 0.1
    torch.testing.assert_close(before.rate_nats.mean() - now.rate_nats.mean(), saved)
    torch.testing.assert_close(after.reconstruct(x), vae.reconstruct(x))
    assert after.sample(3).shape == (3, *SHAPE)


@torch.no_grad()
def test_standardising_twice_is_standardising_by_the_second_pictures():
    vae, x, other = make().at_beta(0.01), torch.rand(20, *SHAPE), torch.rand(30, *SHAPE)
    twice, once = vae.standardised([x]).standardised([other]), vae.standardised([other])
    torch.testing.assert_close(twice.encode(x).mean, once.encode(x).mean)
    torch.testing.assert_close(twice.reconstruct(x), vae.reconstruct(x))
    with pytest.raises(ValueError, match="no pictures"):
        vae.standardised([])


def test_methods_of_the_plain_vae():
    vae, x = make().at_beta(0.1), torch.rand(2, *SHAPE)
    q = vae.encode(x)
    assert isinstance(q, Independent)
    assert (q.batch_shape, q.event_shape) == ((2,), (4,))
    assert vae.decode(q.mean).mean.shape == x.shape
    assert torch.equal(vae(x), vae.reconstruct(x))
    assert vae.sample(5).shape == (5, *SHAPE)
    path = vae.interpolate(x[:1], x[1:], steps=7)
    assert path.shape == (1, 7, *SHAPE)
    torch.testing.assert_close(path[0, [0, -1]], vae.reconstruct(x))
    walk = vae.traverse(x, dim=3, steps=5)
    assert walk.shape == (2, 5, *SHAPE)
    z = q.mean.clone()
    z[:, 3] = 0.0
    torch.testing.assert_close(walk[:, 2], vae.decode(z).mean)
    with pytest.raises(ValueError, match="dim=4 is no latent; allowed: 0 to 3"):
        vae.traverse(x, dim=4)


def test_samples_follow_the_prior_that_is_given():
    vae = make().at_beta(0.1)
    prior = Independent(Normal(torch.full((4,), 2.0), torch.full((4,), 1e-6)), 1)
    torch.testing.assert_close(
        vae.sample(3, prior=prior), vae.decode(torch.full((3, 4), 2.0)).mean, atol=1e-4, rtol=0
    )


def test_extreme_log_variances_stay_finite():
    model = make("linear")
    head = model.encoder[-1]
    for value in (1e4, -1e4):
        torch.nn.init.constant_(head.bias[4:].detach(), value)
        terms = model.elbo_terms(torch.rand(2, *SHAPE), 1.0)
        assert terms.rate_nats.isfinite().all()
        assert terms.distortion.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"betas": "10:0.01"}, "upside down"),
        ({"conditioning": "none"}, "conditioning=none cannot follow"),
        ({"draws": {"per": "epoch"}}, "per=epoch is unknown; allowed: example, batch"),
        ({"draws": {"ends": 1.0}}, r"ends=1 is outside \[0, 1\)"),
        ({"draws": {"tilt": 0}}, "tilt=0 is not a finite number above 0"),
        ({"draws": {"opening": 1.5}}, r"opening=1.5 is outside \[0, 1\]"),
        ({"latent_dim": 0}, "latent_dim=0 is too small"),
        ({"lr": math.nan}, "lr=nan is not"),
        ({"warmup": 2}, r"outside \[0, 1\]"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FromSettings(SHAPE, **arguments)


def test_hyperparameters_are_plain_and_rebuild_the_model():
    model = FromSettings(SHAPE, network=ResNet(4), latent_dim=4, likelihood=Gaussian(0.2))

    def check(value):
        assert type(value) in (str, int, float, bool, list, dict, type(None))
        items = {dict: lambda: value.values(), list: lambda: value}.get(type(value), list)()
        for item in items:
            check(item)

    hparams = dict(model.hparams)
    check(hparams)
    again = FromSettings(**hparams)
    again.load_state_dict(model.state_dict())
    assert dict(again.hparams) == hparams
    x = torch.rand(2, *SHAPE)
    mine, others = (m.vae.reconstruct(x, 0.5) for m in (model, again))
    torch.testing.assert_close(mine, others)


def test_a_likelihood_is_not_shared_between_models():
    likelihood = Gaussian(0.2)
    assert make(likelihood=likelihood).likelihood is not likelihood


def test_evaluation_noise_depends_on_the_place_alone():
    class Second:
        def global_index(self, i):
            return 2 * i + 1

    assert torch.equal(evaluation_noise([], 3, 5, (2,)), evaluation_noise(Second(), 1, 5, (2,)))
    assert not torch.equal(evaluation_noise([], 3, 5, (2,)), evaluation_noise([], 4, 5, (2,)))


def test_further_noise_is_other_noise():
    noise, further = (
        evaluation_noise([], 3, 512, (2,)),
        evaluation_noise([], 3, 512, (2,), samples=4),
    )
    assert not (further == noise).any()


# PyTorch's compiler looks at the .grad of whatever it meets, and warns itself; some versions of
# it use parts of PyTorch that are deprecated.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_is_eager():
    torch._dynamo.reset()
    model = make(trained=False)
    x, beta, noise = torch.rand(3, *SHAPE), torch.tensor([0.1, 1.0, 10.0]), torch.randn(3, 4)
    eager = model.elbo_terms(x, beta, noise)
    compiled = make(trained=False)
    compiled.load_state_dict(model.state_dict())
    MultiBetaModule(compiled, compile=True)
    mine = compiled.elbo_terms(x, beta, noise)
    torch.testing.assert_close(mine.distortion, eager.distortion)
    torch.testing.assert_close(mine.rate_nats, eager.rate_nats)
    assert not [name for name in model.at_beta(1.0).state_dict() if "_orig_mod" in name]


def test_folded_shares_nothing_and_leaves_the_model_as_it_was():
    model = make("conv").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = model.at_beta(0.3)
    mine, folded = (
        [m for part in (of.encoder, of.decoder) for m in part.modules()] for of in (model, plain)
    )
    places = {id(value) for m in mine for value in vars(m).values() if isinstance(value, dict)}
    assert not [m for m in folded if places & {id(value) for value in vars(m).values()}]
    assert not [m for m in folded if m._forward_hooks or m._forward_pre_hooks]
    assert not {p.data_ptr() for p in model.parameters()} & {
        p.data_ptr() for p in plain.parameters()
    }
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert any(m._forward_hooks for m in mine) and any("condition" in m._modules for m in mine)


def test_a_network_belongs_to_one_model():
    model = make()
    with pytest.raises(ValueError, match="the encoder belongs to another model already; give a c"):
        MultiBetaVAE(model.encoder, model.decoder)
    encoder, decoder = model.unwrap()
    x = torch.rand(3, *SHAPE)
    assert MultiBetaVAE(encoder, decoder, example=x).shape == SHAPE


def test_of_can_be_saved_and_made_again():
    model = make("conv", likelihood=Gaussian(0.2))
    again = rebuild(plain_settings(model), "here")
    again.load_state_dict(model.state_dict())
    x = torch.rand(2, *SHAPE)
    assert torch.equal(again.reconstruct(x, 0.5), model.reconstruct(x, 0.5))


def test_the_optimiser_needs_an_example():
    model = MultiBetaVAE(torch.nn.Linear(6, 4), torch.nn.Linear(2, 6))
    with pytest.raises(ValueError, match="where β enters is found by running the model once"):
        torch.optim.Adam(model.parameters())
    model.loss(torch.randn(5, 6))
    assert list(model.parameters())


@torch.no_grad()
def test_batch_norms_are_measured_again_at_one_beta():
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.SiLU(),
                                  torch.nn.Linear(8, 6))  # fmt: skip
    x = torch.randn(64, 6)
    model = MultiBetaVAE(torch.nn.Linear(6, 4), decoder, example=x)
    assert "BatchNorm: all β's share" in str(model)
    plain = model.at_beta(0.1)
    again = plain.recalibrated([x])
    assert plain.decoder[1].running_mean.abs().max() == 0
    assert again.decoder[1].num_batches_tracked == 1
    assert not again.training
    assert again.decoder[1].momentum == plain.decoder[1].momentum
    z = again.encode(x).mean
    mean = again.decoder[0](z).mean(0)
    torch.testing.assert_close(again.decoder[1].running_mean, mean, atol=0.5, rtol=0)
    with pytest.raises(ValueError, match="no BatchNorm"):
        make().at_beta(1.0).recalibrated([torch.rand(2, *SHAPE)])
