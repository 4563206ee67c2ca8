import json
import math

import pytest
import torch
from lightning.pytorch import LightningDataModule

import multibeta
from multibeta.cli import main
from multibeta.curve import Curve
from multibeta.data import Digits, Gaussian
from multibeta.evaluation import draw_strip, metrics_of, sweep
from multibeta.likelihoods import Gaussian as GaussianLikelihood
from multibeta.metrics import METRICS, ActiveUnits, CurveMetric
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP, Linear
from tests.helpers import fit_digits


def model(shape=(1, 8, 8), **kwargs):
    vae = MultiBetaVAE.of(shape, network=MLP(8), latent_dim=3, **kwargs)
    for name, parameter in vae.named_parameters():
        if "condition" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return vae


def test_a_sweep_is_the_mean_over_examples_at_each_beta():
    vae, data = model(), Digits(batch_size=100)
    curve = sweep(vae, data, "0.01,1")
    data.setup()
    x = data.splits["test"].float() / 255
    generators = (torch.Generator().manual_seed(i) for i in range(4))
    noise = torch.cat(
        [
            torch.randn(len(b), 3, generator=g)
            for b, g in zip(x.split(100), generators, strict=True)
        ]
    )
    for row in curve.rows:
        terms = vae.at_beta(row["beta"]).elbo_terms(x, noise)
        for name in ("rate", "distortion"):
            values = (terms.rate_nats if name == "rate" else terms.distortion).detach().double()
            assert row[f"{name}_nats"] == pytest.approx(values.mean().item(), rel=1e-6)
            error = (values.std() / len(x) ** 0.5).item()
            assert row[f"{name}_se"] == pytest.approx(error, rel=1e-4)
        objective = row["distortion_nats"] + row["beta"] * row["rate_nats"]
        assert row["objective_nats"] == pytest.approx(objective)
        assert row["neg_elbo_nats"] == pytest.approx(row["distortion_nats"] + row["rate_nats"])


def test_the_default_is_16_points_over_the_trained_range():
    assert sweep(model(betas="0.1:1"), Digits())["beta"] == list(multibeta.parse_betas("0.1:1:16"))


def test_a_second_sweep_gives_the_same_figures():
    vae, data = model(), Digits()
    assert sweep(vae, data, "0.01:10:3").rows == sweep(vae, data, "0.01:10:3").rows


def test_metrics_add_columns_and_lists_over_the_latents(tmp_path):
    vae, data = model(), Digits()
    curve = sweep(vae, data, "0.01,1", metrics=["active_units", "information"])
    alone = sweep(vae, data, "0.01,1")
    for row, plain in zip(curve.rows, alone.rows, strict=True):
        assert {name: row[name] for name in plain} == plain
        parts = ("information_nats", "total_correlation_nats", "dimension_kl_nats")
        # The rate in closed form, and by one sample an example.
        assert sum(row[name] for name in parts) == pytest.approx(row["rate_nats"], rel=0.15)
    assert [set(of_beta) for of_beta in curve.latents] == 2 * [
        {"latent_rate_nats", "latent_variance"}
    ]
    rates = [sum(of_beta["latent_rate_nats"]) for of_beta in curve.latents]
    assert rates == pytest.approx(curve["rate_nats"], rel=1e-6)
    curve.to_json(tmp_path / "curve.json")
    assert Curve.from_json(tmp_path / "curve.json") == curve
    assert sweep(vae, data, "1", metrics="nll").rows[0]["nll_nats"] < curve["neg_elbo_nats"][1]


def test_an_unknown_metric():
    with pytest.raises(
        ValueError, match=r"metric nl is unknown \(did you mean nll\?\); allowed: "
    ):
        sweep(model(), Digits(), metrics="active_units,nl")


def test_names_of_metrics_may_have_spaces_and_a_comma_at_the_end():
    assert list(metrics_of(" nll, psnr,")) == list(metrics_of(["nll", "psnr"])) == ["nll", "psnr"]
    assert metrics_of(()) == metrics_of("") == {}
    by_name = {"bits", "clusters", "frechet", "predictive", "probe"}  # they take long
    by_name |= {"fid"}  # its weights are not there
    assert set(metrics_of("all")) == set(METRICS) - by_name


def test_metrics_take_settings():
    vae, data = model(), Digits()
    found = sweep(vae, data, "1", metrics={"nll": {"samples": 2, "most": 30}, "psnr": {}}).rows[0]
    assert (found["nll_samples"], found["nll_examples"]) == (2, 30)
    assert "psnr_db" in found
    with pytest.raises(
        ValueError, match=r"nll has no setting sample \(did you mean samples\?\); "
    ):
        sweep(vae, data, "1", metrics={"nll": {"sample": 2}})


EVERY: dict = {
    name: {"extractor": "tests.extractors.Corners"} if name == "frechet" else {}
    for name, kind in METRICS.items()
    if name != "fid" and not kind.refuses(model())
}


class Labelled(Digits):
    """Digits with factors, a few of them."""

    count = 40

    def load(self):
        splits = {name: x[: self.count] for name, x in super().load().items()}
        rows = torch.arange(self.count)
        self.factor_names = ("a", "b")
        self.factors = {name: torch.stack([rows % 3, rows % 2], 1) for name in splits}
        return splits


@pytest.mark.filterwarnings("ignore:fd of")
def test_every_metric_with_all_latents_collapsed():
    vae = model()
    with torch.no_grad():
        for parameter in vae.encoder.parameters():
            parameter.zero_()
        vae.encoder[-1].bias[3:] = -80
    row = sweep(vae, Labelled(), "0.1,1", metrics=EVERY).rows[0]
    assert row["active_units"] == row["mig"] == 0
    assert row["information_nats"] == pytest.approx(0, abs=1e-12)
    assert row["rate_nats"] == pytest.approx(0, abs=1e-6)
    assert row["nll_nats"] == pytest.approx(row["nll_prior_nats"], rel=0.01)
    assert math.isnan(row["next_correlation"])


@pytest.mark.filterwarnings("ignore:fd of")
def test_every_metric_with_one_example(monkeypatch):
    monkeypatch.setattr(Labelled, "count", 1)
    row = sweep(model(), Labelled(), "0.1,1", metrics=EVERY).rows[0]
    assert row["log_n_nats"] == row["active_units"] == 0
    assert row["information_nats"] == pytest.approx(0, abs=1e-12)
    for name in ("fd_prior", "information_se", "psnr_se", "nll_se", "mig", "next_correlation"):
        assert math.isnan(row[name])


def test_figures_that_are_not_finite():
    vae = model()
    with torch.no_grad():
        next(vae.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"D \+ βR is nan at β = 0.1: .* such as best.ckpt"):
        sweep(vae, Digits(), "0.1,1", metrics="all")


class Needy(CurveMetric):
    """A metric that this data cannot serve."""

    @classmethod
    def lacks(cls, data):
        return "Digits has no factors; use Sprites" if isinstance(data, Digits) else None


def test_a_metric_that_the_data_cannot_serve(monkeypatch):
    monkeypatch.setitem(METRICS, "needy", Needy)
    with pytest.raises(ValueError, match="metric needy cannot be measured: Digits has no factors"):
        sweep(model(), Digits(), "1", metrics="needy")
    assert "needy" not in metrics_of("all", Digits())
    assert "needy" in metrics_of("all", [])


class Counted(CurveMetric):
    """Sees the pictures beforehand and the factors in the pass, and says how often it worked."""

    finished = 0
    stop_at = 99

    def __init__(self, vae, mean):
        super().__init__(vae)
        self.mean = mean
        self.add_sums(n=(), factors=(2,))

    @classmethod
    def prepare(cls, source, settings):
        x = torch.cat(list(source.pictures()))
        return {**settings, "mean": x.mean().item()}

    def update(self, batch):
        self.n += len(batch.x)
        self.factors += batch.factors.double().sum(0)

    def finish(self):
        if type(self).finished == type(self).stop_at:
            raise KeyboardInterrupt
        type(self).finished += 1

    def compute(self):
        return {"mean": self.mean, "seen": self.n.item(), "factors": self.factors.tolist()}

    def about(self):
        return {"how": "counted"}


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setitem(METRICS, "counted", Counted)
    monkeypatch.setattr(Counted, "finished", 0)
    data = Digits(batch_size=100)
    data.setup()
    rows = torch.arange(359)
    data.factors = {"test": torch.stack([rows, rows % 2], dim=1)}
    return data


def test_what_a_metric_is_given(counted):
    curve = sweep(model(), counted, "0.1,1", metrics="counted")
    x = counted.splits["test"].float() / 255
    assert curve["mean"] == pytest.approx([x.mean().item()] * 2, rel=1e-6)
    assert curve["seen"] == [359, 359]
    assert curve.latents[0]["factors"] == [358 * 359 / 2, 179]
    assert curve.about["counted"] == {"how": "counted"}


def test_what_is_finished_is_kept(counted, tmp_path, monkeypatch):
    vae, kept = model(), tmp_path / "kept.json"

    def measure(**options):
        return sweep(vae, counted, "0.01:10:4", metrics="counted,alignment", **options)

    whole = measure()
    assert Counted.finished == 4
    monkeypatch.setattr(Counted, "stop_at", 6)
    with pytest.raises(KeyboardInterrupt):
        measure(keep=kept)
    assert kept.is_file()
    monkeypatch.setattr(Counted, "stop_at", 99)
    again = measure(keep=kept)
    for row, other in zip(again.rows, whole.rows, strict=True):
        assert row == pytest.approx(other, rel=1e-12, nan_ok=True)
    assert again.latents == whole.latents
    assert Counted.finished == 8  # two before the interruption, two after it
    assert not kept.exists()


def test_what_another_model_finished_is_not_taken(counted, tmp_path, monkeypatch):
    kept = tmp_path / "kept.json"
    monkeypatch.setattr(Counted, "stop_at", 1)
    with pytest.raises(KeyboardInterrupt):
        sweep(model(), counted, "0.1,1", metrics="counted", keep=kept)
    monkeypatch.setattr(Counted, "stop_at", 99)
    sweep(model(), counted, "0.1,1", metrics="counted", keep=kept)
    assert Counted.finished == 3
    kept.write_text("half a fi")
    sweep(model(), counted, "0.1,1", metrics="counted", keep=kept)
    assert Counted.finished == 5


def dedicated(beta, **options):
    return model(betas=f"{beta}", conditioning="none", **options)


def test_against_dedicated_models(tmp_path):
    vae, data = model(), Digits()
    others = [dedicated(10), dedicated(0.1)]
    curve = sweep(vae, data, against=others)
    assert curve["beta"] == [0.1, 10]
    low, high = curve.rows
    alone = [sweep(other, data, metrics="alignment") for other in reversed(others)]
    assert low["against_prior_w1"] == pytest.approx(alone[0]["prior_w1"][0])
    assert curve.latents[1]["against_histogram"] == alone[1].latents[0]["latent_histogram"]
    assert math.isfinite(low["against_next_w2"])
    assert math.isnan(high["against_next_w2"])
    curve.draw_pictures(tmp_path)
    assert (tmp_path / "alignment.png").is_file()
    # A model against itself.
    same = sweep(others[0], data, against=[others[0]]).rows[0]
    assert same["against_w2"] == same["against_sliced_w1"] == 0
    wider = sweep(vae, data, "0.1,1", against=others)
    assert math.isnan(wider["against_w2"][1]) and wider["against_w2"][0] == low["against_w2"]


def test_differences_to_dedicated_models_are_paired(capsys):
    vae, other, data = model(), dedicated(1), Digits(batch_size=100)
    curve = sweep(vae, data, "0.1,1", against=[other])
    data.setup()
    x = data.splits["test"].float() / 255
    noise = torch.cat(
        [
            torch.randn(len(part), 3, generator=torch.Generator().manual_seed(i))
            for i, part in enumerate(x.split(100))
        ]
    )
    with torch.no_grad():
        terms = [of.at_beta(1.0).elbo_terms(x, noise) for of in (vae, other)]
    mine, theirs = (of.distortion + of.rate_nats for of in terms)
    difference, se = curve["against_difference_nats"], curve["against_difference_se"]
    assert math.isnan(difference[0]) and math.isnan(se[0])
    assert difference[1] == pytest.approx((theirs - mine).mean().item(), rel=1e-4)
    assert se[1] == pytest.approx((theirs - mine).std().item() / math.sqrt(len(x)), rel=1e-4)
    sharper = dedicated(1, likelihood=GaussianLikelihood(0.1))
    curve = sweep(model(likelihood=GaussianLikelihood(0.3)), data, "1", against=[sharper])
    assert "against_difference_nats" not in curve.columns
    assert (
        "no against_difference: Gaussian(sigma=0.1) and not Gaussian(" in capsys.readouterr().err
    )


def test_models_that_cannot_be_put_beside():
    vae, data = model(), Digits()
    for others, said in {
        (model(),): r"a model for β in 0.01:10 is no dedicated one",
        (dedicated(1), dedicated(1)): "two of the other models have the same β",
        (dedicated(3),): r"none of the other models' β's \(3\) is measured",
    }.items():
        with pytest.raises(ValueError, match=said):
            sweep(vae, data, "0.1,1", against=others)
    other = MultiBetaVAE.of((1, 8, 8), "1", network=MLP(8), latent_dim=4, conditioning="none")
    with pytest.raises(ValueError, match=r"the model at β = 1 has latent_shape=\(4,\) and not"):
        sweep(vae, data, against=[other])


def test_a_sweep_leaves_the_model_and_its_randomness_alone():
    vae = model().train()
    before, state = vae.state_dict(), torch.get_rng_state()
    sweep(vae, Digits(), "1")
    assert vae.training
    assert all(torch.equal(before[k], v) for k, v in vae.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_the_train_split_is_measured_whole():
    assert sweep(model(), Digits(batch_size=500), "1", split="train").about["n"] == 1258


def test_any_batches_will_do():
    x = torch.rand(10, 1, 8, 8)
    by_tensor = sweep(model(), [x[:5], x[5:]], "1")
    by_tuples = sweep(model(), [(x[:5], torch.zeros(5)), [x[5:]]], "1")
    assert by_tensor.about["n"] == by_tuples.about["n"] == 10

    class Own(LightningDataModule):
        def test_dataloader(self):
            return torch.utils.data.DataLoader(x, batch_size=4)

    assert sweep(model(), Own(), "1").about["n"] == 10


def test_extrapolation_is_asked_for():
    with pytest.raises(ValueError, match="beta=20 is outside the trained range"):
        sweep(model(), Digits(), "1,20")
    assert sweep(model(), Digits(), "20", extrapolate=True)["beta"] == [20.0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\); the model was made for \(1, 9, 9\)"):
        sweep(model((1, 9, 9)), Digits())
    with pytest.raises(ValueError, match="Bernoulli allows"):
        sweep(model((1, 1, 16)), Gaussian())
    with pytest.raises(ValueError, match="the test set is empty"):
        sweep(model(), [])
    with pytest.raises(ValueError, match="split=tset is unknown; allowed: train, val, test"):
        sweep(model(), Digits(), split="tset")


def set_to_optimum(vae, data, sigma):
    """Give a linear VAE the weights of the closed-form optimum at one β."""
    _, eigenvectors = torch.linalg.eigh(covariance(data))
    basis = eigenvectors.flip(1)
    theta = vae.beta_range.low * sigma**2
    level = torch.tensor(data.spectrum, dtype=torch.float64)[: vae.latent_dim]
    decoder_gain = (level - theta).clamp(min=0).sqrt()
    variance = (theta / level).clamp(max=1)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        k = vae.latent_dim
        vae.encoder[1].weight.copy_(basis[:, :k].T)
        vae.encoder[2].weight[:k].copy_(torch.diag(decoder_gain / level))
        # v = β / (β + e^h)
        curvature = vae.beta_range.low * (1 / variance - 1)
        vae.encoder[2].bias[k:].copy_(curvature.log().clamp(min=-50))
        vae.decoder[0].weight.copy_(torch.diag(decoder_gain))
        vae.decoder[1].weight.copy_(basis[:, :k])


def covariance(data):
    x = data.splits["test"].flatten(1).double()
    return x.T @ x / len(x)


@pytest.mark.parametrize("beta", ["0.01", "1", "10"])
@pytest.mark.parametrize("latents", [4, 16])
def test_a_linear_vae_with_the_optimal_weights_has_no_excess(beta, latents):
    """Encoder gain √(λ−θ)/λ, decoder gain √(λ−θ), posterior variance min(1, θ/λ)."""
    sigma, data = 0.5, Gaussian()
    data.setup()
    vae = MultiBetaVAE.of(
        data.shape, betas=beta, conditioning="none", network=Linear(), latent_dim=latents,
        likelihood=GaussianLikelihood(sigma),
    ).double()  # fmt: skip
    set_to_optimum(vae, data, sigma)
    row = sweep(vae, [data.splits["test"].double()], beta).rows[0]
    rate, distortion = data.optimum(float(beta), sigma, latents)
    assert row["rate_nats"] == pytest.approx(rate, abs=4 * row["rate_se"] + 1e-6)
    assert row["distortion_nats"] == pytest.approx(distortion, abs=4 * row["distortion_se"])
    # The sample has the exact moments of the source: what is left is the posterior's noise.
    assert row["objective_nats"] == pytest.approx(distortion + float(beta) * rate, abs=0.1)


def test_the_optimum_stands_beside_each_point():
    vae = MultiBetaVAE.of((1, 1, 16), network=Linear(), likelihood=GaussianLikelihood(0.5))
    curve = sweep(vae, Gaussian(), "0.1,1")
    assert {"optimal_rate_nats", "optimal_distortion_nats", "excess_nats"} < set(curve.columns)
    for row in curve.rows:
        assert row["excess_nats"] > 0
        assert row["excess_nats"] == pytest.approx(
            row["objective_nats"] - row["optimal_objective_nats"]
        )
    assert "optimal R" in curve.table()
    # −ELBO is at least the entropy of the source.
    entropy = curve.about["entropy_nats"]
    exact = torch.distributions.Normal(0, torch.tensor(Gaussian().spectrum).sqrt()).entropy()
    assert entropy == pytest.approx(exact.sum().item(), rel=1e-6)
    assert min(curve["neg_elbo_nats"]) > entropy
    assert sweep(model(), Digits(), "1").about["entropy_nats"] is None
    assert "optimal_rate_nats" not in sweep(model(), Digits(), "1").columns


def test_the_strip_shows_examples_from_the_whole_set(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "multibeta.plots.strip", lambda inputs, rows, *_: drawn.update(x=inputs, rows=rows)
    )
    data = Digits()
    draw_strip(model(), data, multibeta.parse_betas("0.01:10"), tmp_path / "s.png")
    x = data.splits["test"].float() / 255
    assert drawn["x"].shape == (12, 1, 8, 8)
    assert (drawn["x"][-1] == x[11 * 359 // 12].numpy()).all()
    assert sorted(drawn["rows"])[0] == 0.01
    assert sorted(drawn["rows"])[-1] == 10
    assert len(drawn["rows"]) == 7


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit_digits(tmp_path_factory.mktemp("runs"), "--trainer.max_epochs=1")


def test_ctrl_c_in_the_curve_command(run, tmp_path, monkeypatch, capsys):
    real, calls = ActiveUnits.finish, []

    def finish(metric):
        calls.append(metric.vae.beta)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(metric)

    monkeypatch.setattr(ActiveUnits, "finish", finish)
    command = [
        "curve",
        str(run),
        "--betas=0.1,1,10",
        "--metrics=active_units",
        f"--out={tmp_path}",
    ]
    assert main(command) == 130
    assert "stopped; the same command goes on from" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["curve.unfinished.json"]
    assert main(command) == 0
    assert calls == [0.1, 1, 1, 10]
    assert not (tmp_path / "curve.unfinished.json").exists()


def test_settings_and_other_models_on_the_command_line(run, tmp_path, capsys):
    one = fit_digits(
        tmp_path / "one",
        "--trainer.max_steps=1",
        "--model.betas=1",
        "--model.conditioning=none",
        "--curve.enabled=false",
    )
    command = ["curve", str(run), f"--out={tmp_path}", "--json", "--against", str(one)]
    capsys.readouterr()
    options = ["--metrics", "nll", "--settings.nll.samples", "3", "--settings.nll.most=20"]
    assert main([*command, *options]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["beta"], row["nll_samples"], row["nll_examples"]) == (1, 3, 20)
    assert math.isfinite(row["against_w2"])
    for wrong, said in {
        ("--settings.psnr.x=1",): "--settings.psnr.x is given, but not --metrics psnr; give both",
        ("--metrics=nll", "--settings.nll.sample=1"): "metric nll has no setting sample (did you",
        ("--metrics=disentanglement",): "metric disentanglement cannot be measured: it needs fac",
        ("--against", str(run)): "a model for β in 0.01:10 is no dedicated one",
        ("--against", "nowhere"): "no checkpoint at nowhere",
    }.items():
        assert main(["curve", str(run), *wrong]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"multibeta: {said}") and error.count("\n") == 1
