import json
import math
import re

import pytest
import torch
from lightning.pytorch import LightningDataModule

import multibeta
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.curve import Curve, draw_strip, metrics_of, sweep
from multibeta.data import Digits, Gaussian
from multibeta.likelihoods import Gaussian as GaussianLikelihood
from multibeta.metrics import METRICS
from multibeta.model import MultiBetaVAE
from multibeta.networks import MLP, Linear
from tests.helpers import fit_digits


def model(shape=(1, 8, 8), **kwargs):
    vae = MultiBetaVAE(shape, network=MLP(8), latent_dim=3, **kwargs)
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
            values = getattr(terms, f"{name}_nats").detach().double()
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


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    run = fit_digits(tmp_path_factory.mktemp("runs"), "--trainer.max_epochs=30")
    return run, sweep(multibeta.load(run), load_data(run), "0.01:10:4")


@pytest.mark.parametrize("column", ["rate_nats", "rate_bits", "distortion_nats", "psnr_db"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.8, 1.0])
def test_the_beta_of_a_wanted_value(fitted, column, share):
    _, curve = fitted
    metrics = ["psnr"] if column == "psnr_db" else []

    def value(beta):
        row = curve.measure(beta, metrics=metrics).rows[0]
        return row["rate_nats"] / math.log(2) if column == "rate_bits" else row[column]

    low, high = value(0.01), value(10)
    wanted = low + share * (high - low)
    assert value(curve.beta_for(**{column: wanted})) == pytest.approx(wanted, rel=0.01)


def test_a_value_out_of_reach_names_the_span(fitted):
    _, curve = fitted
    span = f"from {curve['rate_nats'][0]:.4g} at β = 0.01 to {curve['rate_nats'][-1]:.4g} at β"
    with pytest.raises(ValueError, match="rate_nats=900 is out of reach") as info:
        curve.beta_for(rate_nats=900)
    assert span in str(info.value)


def test_what_is_wanted_must_be_clear(fitted, tmp_path):
    _, curve = fitted
    with pytest.raises(ValueError, match=r"give one of rate_nats, rate_bits.* 2 were given"):
        curve.beta_for(rate_nats=1, rate_bits=1)
    curve.to_json(tmp_path / "curve.json")
    with pytest.raises(ValueError, match="was read from a file"):
        Curve.from_json(tmp_path / "curve.json").beta_for(rate_nats=1)


def test_the_rate_command(fitted, capsys):
    run, curve = fitted
    bits = curve["rate_nats"][1] / math.log(2)
    assert main(["rate", str(run), "--bits", f"{bits}", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["rate_nats"] / math.log(2) == pytest.approx(bits, rel=0.01)
    assert main(["rate", str(run), "--bits", f"{bits}"]) == 0
    assert re.match(r"β = .*: .* nats, .* bits per example\n\nDigits", capsys.readouterr().out)
    assert main(["rate", str(run)]) == 2
    assert (
        capsys.readouterr().err == "multibeta: give one of --bits, --nats, --distortion, --psnr\n"
    )
    assert main(["rate", str(run), "--bits", "1e6"]) == 2
    assert capsys.readouterr().err.startswith("multibeta: rate_bits=1e+06 is out of reach")


def test_names_of_metrics_may_have_spaces_and_a_comma_at_the_end():
    assert list(metrics_of(" nll, psnr,")) == list(metrics_of(["nll", "psnr"])) == ["nll", "psnr"]
    assert metrics_of(()) == metrics_of("") == {}
    assert set(metrics_of("all")) == set(METRICS)


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


def test_one_example_has_no_standard_error(tmp_path):
    curve = sweep(model(), [torch.rand(1, 1, 8, 8)], "1")
    assert math.isnan(curve["rate_se"][0])
    curve.to_json(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["rows"][0]["rate_se"] is None
    assert math.isnan(Curve.from_json(tmp_path / "c.json")["rate_se"][0])
    curve.plot(tmp_path / "c.png")


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
    vae = MultiBetaVAE(
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
    vae = MultiBetaVAE((1, 1, 16), network=Linear(), likelihood=GaussianLikelihood(0.5))
    curve = sweep(vae, Gaussian(), "0.1,1")
    assert {"optimal_rate_nats", "optimal_distortion_nats", "excess_nats"} < set(curve.columns)
    for row in curve.rows:
        assert row["excess_nats"] > 0
        assert row["excess_nats"] == pytest.approx(
            row["objective_nats"] - row["optimal_objective_nats"]
        )
    assert "optimal R" in curve.table()
    assert "optimal_rate_nats" not in sweep(model(), Digits(), "1").columns


def test_table_files_and_back(tmp_path):
    curve = sweep(model(), Digits(), "0.01:10:3")
    table = curve.table().splitlines()
    assert table[0] == "Digits, test set, N = 359, d = 64, Bernoulli"
    assert table[1].split() == ["β", "rate", "R", "±", "distortion", "D", "±", "D", "+", "βR",
                                "±", "D", "+", "R"]  # fmt: skip
    assert len(table) == 3 + 3
    curve.to_json(tmp_path / "c.json")
    again = Curve.from_json(tmp_path / "c.json")
    assert again == curve
    curve.to_csv(tmp_path / "deep" / "c.csv")
    assert (tmp_path / "deep" / "c.csv").read_text().startswith("beta,rate_nats,rate_se,")
    with pytest.raises(ValueError, match="of multibeta"):
        Curve.from_json(tmp_path / "deep" / "c.csv")
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ValueError, match="of multibeta"):
        Curve.from_json(tmp_path / "x.json")


def test_the_strip_shows_examples_from_the_whole_set(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "multibeta.plots.strip", lambda inputs, rows, path: drawn.update(x=inputs, rows=rows)
    )
    data = Digits()
    draw_strip(model(), data, multibeta.parse_betas("0.01:10"), tmp_path / "s.png")
    x = data.splits["test"].float() / 255
    assert drawn["x"].shape == (12, 1, 8, 8)
    assert (drawn["x"][-1] == x[11 * 359 // 12].numpy()).all()
    assert sorted(drawn["rows"])[0] == 0.01
    assert sorted(drawn["rows"])[-1] == 10
    assert len(drawn["rows"]) == 7
