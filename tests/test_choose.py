"""choose: the rule of one standard error, the nine purposes against direct computation, truths."""

import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

import multibeta
from multibeta import MultiBetaVAE
from multibeta.checkpoints import load_data
from multibeta.choose import choose
from multibeta.cli import main
from multibeta.curve import Curve
from multibeta.data import NPZ, Digits, Gaussian, Sprites
from multibeta.data.gaussian import water_filling
from multibeta.evaluation import sweep
from multibeta.likelihoods import Gaussian as GaussianLikelihood
from multibeta.metrics.psnr import psnr
from multibeta.networks import Linear
from multibeta.priors import fit_flow
from multibeta.purposes import PURPOSES, decide, knee
from multibeta.scores import auroc, auroc_se
from tests.test_evaluation import set_to_optimum

GRID = (0.1, 1.0, 10.0)
CORNERS = "tests.extractors.Corners"


def rows_of(values, se=None, betas=None, name="nll"):
    """Rows of one column."""
    betas = betas or [10.0**k for k in range(-2, len(values) - 2)]
    return [
        {"beta": beta, "rate_nats": 1.0, f"{name}_nats": value}
        | ({} if se is None else {f"{name}_se": se})
        for beta, value in zip(betas, values, strict=True)
    ]


def curve_of(values, se=None, betas="0.01:10", **about):
    about = {"betas": betas, "split": "val", **about}
    return Curve(tuple(rows_of(values, se)), about)


# The rule ---------------------------------------------------------------------------------------


def test_the_best_and_what_is_within_its_standard_error():
    rows = rows_of([5.0, 3.1, 3.0, 3.2, 9.0], 0.15)
    assert decide(rows, ["nll_nats"], "low") == ("nll_nats", 2, [1, 2])
    assert decide(rows, ["nll_nats"], "high") == ("nll_nats", 4, [4])
    assert decide(rows_of([5.0, 3.0, 3.0]), ["nll_nats"], "low")[2] == [1, 2]  # equal ones alone


def test_the_best_of_several_columns_decides_and_nan_never_does():
    rows = [{"beta": b, "a": math.nan, "b": v, "b_se": 1.0} for b, v in ((1.0, 4.0), (2.0, 5.0))]
    assert decide(rows, ["a", "b", "c"], "low") == ("b", 0, [0, 1])
    with pytest.raises(ValueError, match="no value of a is finite"):
        decide(rows, ["a"], "low")


@pytest.mark.parametrize(
    ("values", "se", "said"),
    [
        ([5.0, 3.0, 3.1, 9.0], 0.2, "β from 0.1 to 1 is within one standard error of it."),
        ([5.0, 3.0, 4.1, 9.0], 0.2, "No other β that was measured is within"),
        ([3.1, 3.3, 3.0, 9.0], 0.2, "from 0.01 to 1 is within one standard error of it, but not"),
        ([5.0, 3.0, 4.1, 9.0], 9.0, "The numbers do not decide"),
        ([5.0, 3.0, 4.1, 9.0], None, "has no standard error here"),
        ([1.0, 3.0, 4.1, 9.0], 0.2, "a β below it may be better; train further out, with "
         "--model.betas 0.001:10"),
        ([5.0, 3.0, 4.1, 1.0], 0.2, "a β above it may be better; train further out, with "
         "--model.betas 0.01:100"),
    ],
)  # fmt: skip
def test_the_advice_says_how_flat_the_optimum_is_and_whether_the_range_was_wide_enough(
    values, se, said
):
    advice = " ".join(curve_of(values, se).choose("likelihood").advice)
    assert said in advice
    assert ("further out" in advice) == (min(values) in (values[0], values[-1]))


def test_an_end_of_the_grid_that_is_none_of_the_range():
    advice = " ".join(curve_of([1.0, 3.0, 4.0, 5.0], 0.1, "0.0001:10").choose("likelihood").advice)
    assert "measure further out, with --betas 0.0001:10" in advice


def test_a_bound_is_said():
    rows = [dict(row, nll_nats_bound=-1.0) for row in rows_of([2.0, 1.0, 3.0], 0.1)]
    curve = Curve(tuple(rows), {"betas": "0.01:1", "split": "val"})
    assert "true value may be below" in " ".join(curve.choose("likelihood").advice)


def test_the_knee_of_a_hyperbola_is_where_its_slope_is_that_of_the_chord():
    rate = np.geomspace(0.1, 10, 201)
    assert rate[knee(rate, 1 / rate)] == pytest.approx(1)


def test_a_curve_that_lacks_what_a_purpose_needs_says_which_metric_measures_it():
    with pytest.raises(ValueError, match=r"needs probe_accuracy or .*; measure it with"):
        curve_of([1.0, 2.0]).choose("probe")
    with pytest.raises(ValueError, match=r"purpose prob is unknown \(did you mean probe\?\)"):
        curve_of([1.0, 2.0]).choose("prob")


def test_delong_is_the_spread_of_auroc_over_draws():
    draws = np.random.default_rng(0)
    found = [(draws.normal(size=80), draws.normal(1, 2, size=60)) for _ in range(400)]
    spread = np.std([auroc(*of) for of in found])
    assert np.mean([auroc_se(*of) for of in found]) == pytest.approx(spread, rel=0.1)
    assert math.isnan(auroc_se(np.zeros(1), np.ones(3)))


# Digits -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return multibeta.load("digits"), load_data("digits")


def means(model, data, split, beta):
    with torch.no_grad():
        return model.at_beta(beta).encode(data.splits[split].float() / 255).mean.numpy()


def test_probe(digits):
    model, data = digits
    found = choose(model, data, "probe", GRID)
    accuracies = {}
    for beta in GRID:
        scale = StandardScaler().fit(means(model, data, "train", beta))
        probe = LogisticRegression(max_iter=5000).fit(
            scale.transform(means(model, data, "train", beta)), data.labels("train")["digit"]
        )
        accuracies[beta] = {
            split: probe.score(
                scale.transform(means(model, data, split, beta)), data.labels(split)["digit"]
            )
            for split in ("val", "test")
        }
    for row in found.rows:
        assert row["probe_accuracy"] == pytest.approx(accuracies[row["beta"]]["val"], abs=0.006)
    best = max(max(row["probe_accuracy"], row["knn_accuracy"]) for row in found.rows)
    (chosen,) = (row for row in found.rows if row["beta"] == found.beta)
    assert chosen[found.column] == best
    test = accuracies[found.beta]["test"]
    assert found.reported["probe_accuracy"] == pytest.approx(test, abs=0.006)
    assert f"On the test set: {found.column} " in found.advice[1]


def test_clusters(digits):
    model, data = digits
    found = choose(model, data, "clusters", GRID)
    for row in found.rows:
        z = means(model, data, "val", row["beta"])
        labels = KMeans(10, n_init=10, random_state=0).fit_predict(z)
        direct = adjusted_rand_score(data.labels("val")["digit"], labels)
        assert row["cluster_ari"] == pytest.approx(direct, abs=3 * row["cluster_ari_se"])
    assert found.beta == max(found.rows, key=lambda row: row["cluster_ari"])["beta"]


def test_likelihood_and_latents(digits):
    model, data = digits
    likely = choose(model, data, "likelihood", GRID, settings={"nll": {"samples": 4}})
    direct = sweep(model, data, GRID, metrics={"nll": {"samples": 4}}, split="val")
    assert [row["nll_nats"] for row in likely.rows] == direct["nll_nats"]
    assert likely.beta == GRID[int(np.argmin(direct["nll_nats"]))]
    live = choose(model, data, "latents", GRID)
    for row in live.rows:
        with torch.no_grad():
            terms = model.at_beta(row["beta"]).elbo_terms(data.splits["val"].float() / 255)
        assert row["live_latents"] == (terms.rate_per_latent_nats.mean(0) > 0.2).sum()
    assert f"{live.reported['live_latents']:.0f} live" in live.advice[1]


def test_compression_is_by_the_bits_of_real_files(digits):
    model, data = digits
    found = choose(model, data, "compression", GRID, psnr=19.0)
    (chosen,) = (row for row in found.rows if row["beta"] == found.beta)
    vae = model.at_beta(found.beta)
    codec, x = multibeta.Codec(vae), data.splits["val"].float() / 255
    file = codec.encode(x, found.beta)
    assert chosen["code_bits"] == 8 * len(file) / len(x)
    assert chosen["code_bpp"] == chosen["code_bits"] / 64
    assert chosen["code_psnr_db"] == pytest.approx(psnr(x, codec.decode(file)).mean().item())
    rate = vae.elbo_terms(x).rate_nats.mean().item() / math.log(2)
    assert chosen["code_overhead"] == pytest.approx(chosen["code_bits"] / rate, rel=1e-4)
    assert chosen["code_psnr_db"] == pytest.approx(19, rel=0.01)
    assert found.reported["code_psnr_db"] == pytest.approx(19, rel=0.03)
    assert f"{chosen['code_bits']:.2f} bits an example" in found.advice[0]
    few = choose(model, data, "compression", GRID, bits=8.0)
    assert few.beta > found.beta and f"{few.beta:.4g}" in few.table()


def test_compression_without_a_coder_is_by_the_rate_and_says_so(digits, monkeypatch, capsys):
    monkeypatch.setattr("multibeta.metrics.bits.find_spec", lambda name: None)
    model, data = digits
    found = choose(model, data, "compression", GRID, psnr=19.0)
    (chosen,) = (row for row in found.rows if row["beta"] == found.beta)
    assert chosen["psnr_db"] == pytest.approx(19, rel=0.01)
    assert f"{chosen['rate_nats'] / math.log(2):.2f} bits an example" in found.advice[0]
    assert "multibeta[codec]" in capsys.readouterr().err


def test_anomaly_by_a_label_and_by_another_set(digits):
    model, data = digits
    found = choose(model, data, "anomaly", GRID, normal="0, 1", settings={"score": {"samples": 2}})
    for split, rows in (("val", found.rows), ("test", [found.reported])):
        odd = ~np.isin(data.labels(split)["digit"], [0, 1])
        x = data.splits[split].float() / 255
        for row in rows:
            with torch.no_grad():
                terms = model.at_beta(row["beta"]).elbo_terms(x, torch.zeros(len(x), 8))
            assert row["auroc_rate_nats"] == pytest.approx(
                roc_auc_score(odd, terms.rate_nats), abs=1e-6
            )
    dark = Digits()
    dark.setup()
    dark.splits = {name: 255 - x for name, x in dark.splits.items()}
    told = choose(model, data, "anomaly", GRID, other=dark, settings={"score": {"samples": 2}})
    assert told.reported[told.column] > 0.99


def test_samples_and_diffusion(digits, monkeypatch):
    """The least distance of any prior; of what a flow makes, VIV and D beside it."""
    monkeypatch.setattr("multibeta.metrics.frechet.fit_flow", partial(fit_flow, steps=40))
    model, data = digits
    settings = {"frechet": {"extractor": CORNERS}}
    for purpose, ways in (("samples", ("fd_prior", "fd_standardised", "fd_gmm")),
                          ("diffusion", ("fd_flow",))):  # fmt: skip
        found = choose(model, data, purpose, GRID, settings=settings)
        metrics = {
            name: {**of, **settings.get(name, {})}
            for name, of in PURPOSES[purpose].metrics.items()
        }
        direct = sweep(model, data, GRID, metrics=metrics, split="val")
        values = np.array([direct[name] for name in ways])
        way, k = np.unravel_index(values.argmin(), values.shape)
        assert (found.column, found.beta) == (ways[way], GRID[k])
        assert found.reported[found.column] > 0
    assert {"viv", "viv_scaled", "flow_loss", "fd_reconstruction"} < set(found.shown)


def test_disentanglement():
    model = MultiBetaVAE.of((1, 64, 64), latent_dim=3)
    data = Sprites(size=400)
    found = choose(model, data, "disentanglement", (0.1, 10.0))
    direct = sweep(model, data, (0.1, 10.0), metrics="disentanglement", split="val")
    assert [row["mig"] for row in found.rows] == direct["mig"]
    best = int(np.argmax(direct["mig"]))
    assert found.beta == direct["beta"][best]
    assert f"± {direct['mig_se'][best]:.3f} on the val set" in found.advice[0]


# Truths -----------------------------------------------------------------------------------------


def exact(beta, data, sigma=0.5, latents=8):
    """A linear VAE of one β with the weights of the optimum."""
    vae = MultiBetaVAE.of(
        data.shape, betas=repr(beta), conditioning="none", network=Linear(), latent_dim=latents,
        likelihood=GaussianLikelihood(sigma),
    ).double()  # fmt: skip
    set_to_optimum(vae, data, sigma)
    return vae


def test_a_gaussian_source_has_the_latents_and_the_rate_of_water_filling():
    data, sigma, betas = Gaussian(size=400), 0.5, np.geomspace(0.01, 10, 7).tolist()
    data.setup()
    x = data.splits["test"][:2000].double()

    def measure(beta, metrics=("latents",)):
        return sweep(exact(beta, data), [x], beta, metrics=metrics)

    rows = tuple(measure(beta).rows[0] for beta in betas)
    about = {**measure(1.0).about, "betas": "0.01:10"}
    curve = Curve(rows, about, measure=measure)
    optimum = [water_filling(data.spectrum, beta, sigma, 8) for beta in betas]
    live = curve.choose("latents")
    for row, beta in zip(live.rows, betas, strict=True):
        rates = 0.5 * np.log(np.maximum(1, np.array(data.spectrum[:8]) / (beta * sigma**2)))
        assert row["live_latents"] == (rates > 0.2).sum()
    assert live.beta == betas[knee(*np.array(optimum).T)]
    wanted = water_filling(data.spectrum, 0.3, sigma, 8)
    found = curve.choose("compression", distortion=wanted[1])
    assert found.beta == pytest.approx(0.3, rel=0.1)
    (chosen,) = (row for row in found.rows if row["beta"] == found.beta)
    assert chosen["rate_nats"] == pytest.approx(wanted[0], rel=0.05)


def test_two_clusters_are_found_where_the_code_still_tells_them(tmp_path):
    """Beyond β = λ/σ² the latent that tells them is shut, and ARI is chance."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 2)) * 0.3
    x[:, 0] += 4.0 * (2 * kind - 1)
    np.savez(tmp_path / "x.npz", x=x.astype(np.float32), kind=kind)
    data = NPZ(str(tmp_path / "x.npz"))
    data.setup()
    vae = MultiBetaVAE.of(
        (2,), betas="0.1:1000", network=Linear(), latent_dim=1, likelihood=GaussianLikelihood(1.0)
    )
    with torch.no_grad():  # one latent along the first axis, of unit variance
        for parameter in vae.parameters():
            parameter.zero_()
        vae.encoder[1].weight.copy_(torch.tensor([[0.25, 0.0]]))
        vae.encoder[2].weight[:1].fill_(1.0)
        vae.encoder[2].bias[1:].fill_(math.log(16.0))
        vae.decoder[0].weight.fill_(1.0)
        vae.decoder[1].weight.copy_(torch.tensor([[4.0], [0.0]]))
    found = choose(vae, data, "clusters", (0.1, 1.0, 10.0))
    assert found.reported["cluster_ari"] == 1
    assert all(row["cluster_ari"] == 1 for row in found.rows)
    assert "The numbers do not decide" in " ".join(found.advice)


# The command ------------------------------------------------------------------------------------


@pytest.mark.pictures
def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["choose", "digits", "--for=latents", "--betas=0.1,1,10"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("β = 1, the knee of D against R: ")
    assert "\n→    1 " in shown and shown.rstrip().endswith("files: multibeta-digits")
    kept = json.loads((tmp_path / "multibeta-digits" / "choose-latents.json").read_text())
    assert kept["beta"] == 1 and len(kept["rows"]) == 3
    assert (tmp_path / "multibeta-digits" / "choose-latents.png").stat().st_size > 10_000
    assert main(["choose", "digits", "--for=latents", "--betas=0.1,1,10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --for PURPOSE: samples, diffusion"),
        (["--for=prob"], "purpose prob is unknown (did you mean probe?)"),
        (["--for=probe", "--bits=3"], "probe takes no bits"),
        (["--for=probe", "--label=x"], "label=x is unknown; the data has digit"),
        (["--for=probe", "--settings.nll.samples=3"], "settings of nll are given"),
        (["--for=anomaly"], "what is an anomaly?"),
        (["--for=anomaly", "--normal=0", "--other=Digits"], "what is an anomaly?"),
        (["--for=anomaly", "--normal=17"], "normal=17 is no value of digit; it has 0, 1"),
        (["--for=compression"], "give one of --bits, --psnr, --distortion"),
        (["--for=compression", "--psnr=80"], "out of reach"),
        (["--for=disentanglement"], "it needs factors, which Digits has not"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["choose", "digits", "--betas=0.1,10", *options]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said
    assert not [*tmp_path.rglob("*.png")]


def test_every_purpose_has_a_line_of_what_it_is_for():
    assert len(PURPOSES) == 9
    for name, of in PURPOSES.items():
        assert f"- *{name}*:" in choose.__doc__
        assert of.ways and of.what


def test_one_set_is_said():
    model, data = multibeta.load("digits"), Digits()
    data.setup()
    found = choose(model, data.splits["test"], "latents", GRID)
    assert "There is no other set" in found.advice[-1] and found.reported is None
    assert dataclasses.replace(found).text() == found.text()
