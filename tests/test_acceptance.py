"""What the first curves are held to: measured here where it is quick, else in the result files."""

import json
from itertools import pairwise

import pytest

from benchmarks.record import RESULTS
from benchmarks.talk.runs import TALKS, THREE
from benchmarks.talk.tables import aligned_steps, distances_at, objectives_at
from multibeta.cli import main
from multibeta.curve import Curve
from tests.helpers import newest


def fitted(root, *options):
    assert (
        main(["fit", *options, "--trainer.accelerator=cpu", f"--trainer.default_root_dir={root}"])
        == 0
    )
    return Curve.from_json(newest(root) / "curve.json")


def test_digits_rate_falls_and_distortion_rises_at_every_step(tmp_path):
    """At a part of the config's training; the result file has the whole."""
    curve = fitted(tmp_path, "--config=digits.yaml", "--trainer.max_epochs=25")
    assert len(curve.rows) == 16
    assert all(a > b for a, b in pairwise(curve["rate_nats"]))
    assert all(a < b for a, b in pairwise(curve["distortion_nats"]))


@pytest.mark.slow
def test_gaussian_is_close_to_its_optimum_and_never_below(tmp_path):
    """The oracle benchmark at half of its training."""
    curve = fitted(tmp_path, "--config=gaussian.yaml", "--trainer.max_epochs=30")
    excess, se = curve["excess_nats"], curve["objective_se"]
    assert sum(excess) / len(excess) <= 0.05
    assert max(excess) <= 0.15
    assert all(e >= -s for e, s in zip(excess, se, strict=True))


@pytest.mark.slow
def test_one_model_keeps_up_with_dedicated_ones(tmp_path):
    """The gap benchmark on the digits, at three quarters of their training."""
    common = "--config=digits.yaml", "--trainer.max_epochs=150"
    one = fitted(tmp_path / "one", *common, "--curve.betas=0.01,1,10")
    for row in one.rows:
        alone = f"--model.betas={row['beta']:g}", "--model.conditioning=none"
        dedicated = fitted(tmp_path / f"{row['beta']:g}", *common, *alone)
        assert row["objective_nats"] <= dedicated["objective_nats"][0] + 1


def total(k):
    """Return (set, β, one − dedicated) where K dedicated models share the one run's time."""
    return [
        (name, row["beta"], row["one_minus_dedicated"]["mean"])
        for name, of in result("price")["sets"].items()
        for row in of["budgets"].get(f"total{k}", ())
    ]


def result(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_results_of_the_first_curves():
    digits, gaussian = result("first_curves_digits"), result("first_curves_gaussian")
    assert digits["rate_falls_at_every_step"]
    assert digits["distortion_rises_at_every_step"]
    assert digits["seconds"] < 120
    assert gaussian["mean_excess_nats"] <= 0.05
    assert gaussian["max_excess_nats"] <= 0.15
    assert gaussian["points_below_the_optimum_by_more_than_their_se"] == 0


@pytest.mark.parametrize(
    ("beta", "published"), [(0.01, 43.5), (0.1, 53.4), (1.0, 94.3), (10.0, 183.4)]
)
def test_one_model_is_below_the_published_dedicated_ones(beta, published):
    """Bae et al. 2023, table of MNIST."""
    row = next(row for row in result("gap")["test"] if row["beta"] == beta)
    assert row["one"]["mean"] <= published


# Not reached yet: when one of these is, its mark must go.
MISSED = pytest.mark.xfail(strict=True, reason="a must of issue 3 that is not met")


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 10.0])
def test_one_model_is_as_good_as_dedicated_ones(beta):
    """By the means over the seeds; without the dedicated run that collapsed, +.16 at β = 10."""
    row = next(row for row in result("gap")["test"] if row["beta"] == beta)
    assert row["one_minus_dedicated"]["mean"] <= 0.5


def test_one_model_is_no_worse_than_dedicated_ones_on_average():
    """Over the four β's; so it is without the dedicated run at 10 that collapsed."""
    differences = [row["one_minus_dedicated"]["mean"] for row in result("gap")["test"]]
    assert len(differences) == 4
    assert sum(differences) / 4 <= 0


@pytest.mark.parametrize("k", [4, 8])
def test_one_run_is_ahead_of_as_many_that_share_its_time(k):
    """But for an MLP at the highest β against four: the next test."""
    found = [row for row in total(k) if k == 8 or row[1] < 10 or "_mlp" not in row[0]]
    assert len(found) >= {4: 29, 8: 64}[k]
    assert [row for row in found if row[2] >= 0] == []


@pytest.mark.xfail(strict=True, reason="cells by 1 %, digits by less than their spread")
def test_one_run_of_an_mlp_is_ahead_of_four_at_the_highest_beta():
    assert [row for row in total(4) if row[1] >= 10 and row[2] >= 0] == []


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("data", ["omniglot", "celeba"])
def test_the_defaults_are_as_good_on_other_data(data, row):
    found = result("transfer")[data]["rows"][row]
    assert found["one_minus_dedicated"]["mean"] <= 0.005 * abs(found["dedicated"]["mean"])


@pytest.mark.parametrize("data", ["omniglot", "celeba"])
def test_the_rate_falls_on_other_data(data):
    assert all(result("transfer")[data]["rate_falls"])


@pytest.mark.xfail(strict=True, reason="behind at the ends, clothes by 2 % at .01")
def test_one_run_of_as_many_steps_is_as_good():
    rows = [
        row for of in result("price")["sets"].values() for row in of["budgets"].get("steps", ())
    ]
    assert rows
    assert max(row["share_of_j"] for row in rows) <= 0.003


@pytest.mark.parametrize(
    ("name", "most"),
    [
        pytest.param(
            "clothes_conv", 0.003, marks=pytest.mark.xfail(strict=True, reason=".32 % at β = 3")
        ),
        ("ecg_conv", 0),
    ],
)
def test_one_run_of_as_many_steps_is_as_good_with_two_betas_an_example(name, most):
    rows = result("price")["sets"][name]["budgets"]["two"]
    assert max(row["share_of_j"] for row in rows) <= most


def test_as_much_time_for_each_beta_is_reported():
    found = {
        name: len(of["budgets"].get("time", ())) for name, of in result("price")["sets"].items()
    }
    sets = "digits_mlp", "clothes_mlp", "clothes_conv", "ecg_conv", "cells_mlp"
    assert [found[name] for name in sets] == [6] * 5
    assert [found[name] for name in ("mnist_resnet", "omniglot_resnet", "celeba_conv")] == [3] * 3


@pytest.mark.parametrize("budget", ["steps", "two", "time", "total4", "total8"])
def test_the_price_has_three_seeds(budget):
    """But for the same time of CelebA, whose runs are the longest."""
    rows = [
        row for name, of in result("price")["sets"].items()
        for row in of["budgets"].get(budget, ()) if (name, budget) != ("celeba_conv", "time")
    ]  # fmt: skip
    assert {row["seeds"] for row in rows} == {3}


def test_the_page_says_what_the_training_that_jumped_has():
    budgets = result("price")["sets"]["mnist_resnet"]["budgets"]
    (row,) = [row for row in budgets["time"] if row["beta"] == 0.01]
    first, second, third = (f"{of:.1f}" for of in row["one_objective"]["values"])
    page = (RESULTS.parents[1] / "docs" / "one-or-ten.md").read_text()
    assert f"J at β = 0.01 is {first}, {second} and {third}" in page


STEPS = {"mlp": 1.7, "conv": 1.4, "resnet": 1.35}


@pytest.mark.parametrize(
    "name",
    [
        *("digits_mlp", "clothes_mlp", "cells_mlp", "clothes_conv", "celeba_conv"),
        *("mnist_resnet", "omniglot_resnet"),
        pytest.param("ecg_conv", marks=pytest.mark.xfail(strict=True, reason="1.51 plain steps")),
    ],
)
def test_a_step_of_the_price_costs_little_more_than_a_plain_one(name):
    ratio = result("price")["sets"][name]["step_ratio"]
    assert ratio <= STEPS[name.rpartition("_")[2]]


def test_the_code_turned_early_is_worth_what_is_said():
    sets = result("turned")["sets"]
    assert {of["seeds"] for of in sets.values()} == {3}
    linear = sets["linear"]
    assert linear["turned"]["mean_excess_nats"] < linear["plain"]["mean_excess_nats"]
    gains = [row["turned_minus_plain"] for row in sets["clothes_mlp"]["rows"]]
    assert max(gains[0]["values"]) < -1
    assert max(gain["mean"] for gain in gains) <= 0.3


def test_neither_side_overfits_in_ten_times_the_budget():
    """And the one model is behind, with convolutions by about 1 % at most."""
    for name, rows in ((name, of["rows"]) for name, of in result("long")["sets"].items()):
        for row in rows:
            assert row["one_best_epoch"] == row["dedicated_best_epoch"] == 100
            if name == "mnist_conv":
                assert 0 < row["one_best"] - row["dedicated_best"] < 0.011 * row["dedicated_best"]


def rates_of(name):
    rates = result("robust")["sets"][name]["settings"]["learning rate"]
    assert len(rates["worst_loss_percent"]) == 5
    return rates


def test_a_learning_rate_from_a_quarter_to_four_times_loses_little():
    assert max(rates_of("clothes_mlp")["worst_loss_percent"].values()) <= 2
    assert max(rates_of("digits_mlp")["worst_loss_nats"].values()) <= 1.2


@pytest.mark.xfail(strict=True, reason="J of the digits is near 0 at β = 3")
def test_a_learning_rate_loses_little_of_a_j_near_0():
    assert max(rates_of("digits_mlp")["worst_loss_percent"].values()) <= 2


@pytest.mark.parametrize(("network", "most"), [("resnet", 1.35), ("mlp", 1.7), ("conv", 1.4)])
def test_the_price_of_a_step(network, most):
    cases = result("speed_step")["cases"]
    case = next(case for name, case in cases.items() if name.startswith(network))
    assert case["film"]["ratio"] <= most


@MISSED
@pytest.mark.parametrize("network", ["resnet", "mlp", "conv"])
def test_a_step_costs_what_a_plain_one_costs(network):
    cases = result("speed_step")["cases"]
    case = next(case for name, case in cases.items() if name.startswith(network))
    assert case["film"]["ratio"] <= 1.05


@pytest.mark.parametrize("case", ["resnet, batch 64", "mlp, batch 128"])
def test_fit_is_as_fast_as_a_bare_loop(case):
    assert result("speed_fit")["cases"][case]["fit_over"]["bare loop"]["ratio"] >= 0.9


@MISSED
@pytest.mark.parametrize("case", ["resnet, batch 64", "mlp, batch 128"])
def test_fit_is_faster_than_pythae(case):
    sides = result("speed_pythae")["cases"][case]
    assert sides["one β"]["fit_over"]["pythae"]["ratio"] >= 1.5


CODED = ("mnist", "clothes", "omniglot", "celeba")


def coded(name, most=10.0):
    """Return the rows of the default codec up to a β."""
    rows = result("codec")["sets"][name]["files"]
    return [row for row in rows if row["search"] and row["beta"] <= most]


def missed(name, reason):
    return pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=reason))


@pytest.mark.parametrize(
    "name",
    [*CODED[:3], missed("celeba", "1.101 at β = 10")],
)
def test_a_file_of_many_has_few_bits_over_the_rate_at_every_beta(name):
    assert max(row["bits_over_rate"] for row in coded(name)) <= 1.10


@pytest.mark.parametrize("name", CODED)
def test_a_picture_alone_has_few_bits_over_the_rate_where_bytes_allow_it(name):
    """A file has whole bytes: half of one too many, which is a quarter of 16 bits."""
    rows = [row for row in coded(name) if row["rate_bits"] >= 16]
    assert rows and max(row["alone_over_rate"] for row in rows) <= 1.25


@pytest.mark.parametrize("name", CODED[:3])
@pytest.mark.xfail(strict=True, reason="at high β R is less than 16 bits, and files have bytes")
def test_a_picture_alone_has_few_bits_over_the_rate_at_every_beta(name):
    assert max(row["alone_over_rate"] for row in coded(name)) <= 1.25


@pytest.mark.parametrize(
    "name", ["mnist", missed("clothes", "−.85 dB at β = .3, of 1.03 R"), "omniglot", "celeba"]
)
def test_what_a_file_gives_back_is_as_near_as_what_is_not_rounded(name):
    assert min(row["psnr_minus_mean_db"] for row in coded(name, 0.3)) >= -0.5


@pytest.mark.parametrize(
    "name", ["mnist", *(missed(n, "one code for all rates, none searched") for n in CODED[1:])]
)
def test_a_cut_file_is_within_a_decibel_of_its_own_encoding(name):
    gaps = result("codec")["sets"][name]["progressive"]["gaps"]
    assert min(row["cut_minus_own_db"] for row in gaps) >= -1


def test_lossless_takes_what_the_bound_says():
    rows = [row for row in result("codec_lossless")["rows"] if row["set"] == "binarised MNIST"]
    assert rows and rows[0]["examples"] == 10_000
    assert rows[0]["ratio"] <= 1.02 and rows[0]["bits_per_value"] < 0.19
    assert max(row["largest_ratio"] for row in result("codec_lossless")["rows"]) <= 1.02


def test_mnist_is_coded_faster_than_asked_for():
    speeds = result("codec_speed")["sets"]["mnist"]["searched"]
    assert min(speeds[way]["pictures_a_second"] for way in ("encode", "decode")) >= 1_000


def test_a_curve_costs_no_more_than_as_many_evaluations():
    assert result("speed_curve")["ratio"] <= 1.0


def test_the_end_of_a_range_is_as_good_as_its_inside():
    for row in result("ends")["rows"]:
        assert row["end_minus_inside"]["mean"] <= 0.5


def test_results_of_the_gap():
    one = result("gap")["runs"]["one"]
    assert one["self_regret"]["mean"] <= 0.3
    assert one["rate_falls"]
    assert all(channels["without_gradient"] == 0 for channels in one["channels"])


def test_results_of_the_oracle():
    for source, mean, largest in (("mnist", 0.1, 0.3), ("gaussian", 0.05, 0.15)):
        found = result("oracle")[source]
        assert max(found["mean"]) <= mean
        assert max(found["max"]) <= largest
        assert all(found["rate_falls"])


@pytest.mark.parametrize(
    ("source", "mean", "largest"), [("mnist", 0.034, 0.106), ("gaussian", 0.012, 0.096)]
)
def test_the_linear_model_is_no_worse_than_with_two_betas(source, mean, largest):
    found = result("oracle")[source]
    excess = [value for row in found["excess_nats"] for value in row]
    assert sum(excess) / len(excess) <= mean
    assert max(excess) <= largest


def test_results_of_what_is_measured():
    found = result("measures_mnist")
    for row in [*found["one"], *found["dedicated"]]:
        parts = ("information_nats", "total_correlation_nats", "dimension_kl_nats")
        # The rate in closed form, and by one sample an example.
        sampled = sum(row[name] for name in parts)
        assert sampled == pytest.approx(row["rate_nats"], rel=0.02, abs=0.05)
        assert row["information_nats"] <= row["log_n_nats"] + 1e-9
        # By importance weights, of examples spread over the set.
        assert row["nll_nats"] <= row["neg_elbo_nats"] + 3 * row["nll_se"]
    aligned = found["aligned"][:-1]
    for row in aligned:
        assert row["next_correlation"] > row["against_next_correlation"]


def test_results_of_sigma():
    """Within one per cent of the closed form, and D falls with R in every convention."""
    for row in result("sigma")["oracle"]:
        assert row["dedicated"] == pytest.approx(row["closed_form"], rel=0.01)
        assert row["one"] == pytest.approx(row["closed_form"], rel=0.03)
    for data in ("mnist", "celeba"):
        for kind in ("fixed", "learned", "optimal"):
            rows = result(f"sigma_{data}_{kind}")["curves"]["test"]["rows"]
            for column in ("distortion_nats", "profiled_distortion_nats", "squared_error"):
                values = [row[column] for row in rows]
                assert values[0] < values[-1]


def test_results_of_the_third_axis():
    """At equal rates the three lie near each other in D, and their KL(q(z) ‖ p(z)) below R."""
    for row in result("third_axis")["rows"]:
        sides = [of for name, of in row.items() if name != "rate"]
        assert len(sides) == 3
        distortions = [of["distortion_nats"] for of in sides]
        assert max(distortions) < 1.1 * min(distortions)
        assert all(0 <= of["aggregated_kl_nats"] <= row["rate"] for of in sides)


def test_results_of_the_beta_tcvae():
    """R falls with the weight of TC, with both seeds; MIG is reported whatever it is."""
    for seed in ("tcvae", "tcvae_seed1"):
        rows = result("measures_dsprites_tcvae")[seed]
        assert (rows[0]["beta"], rows[-1]["beta"]) == (0.1, 10)
        assert all(a["rate_nats"] > b["rate_nats"] for a, b in pairwise(rows))
        assert all(0 <= row["mig"] <= 1 for row in rows)


def test_results_of_what_metrics_cost():
    """Time grows with β's and examples; the pairs of 10,000 examples take less than a minute."""
    found = result("metrics_cost")
    assert found["decomposition"][-1]["examples"] == 10_000
    assert found["decomposition"][-1]["seconds"] < 60
    for of_metric in found["metrics"].values():
        assert of_metric["power_of_betas"] < 1.3
        assert of_metric["power_of_examples"] < 1.3


@pytest.mark.parametrize("beta", THREE)
def test_one_model_of_faces_is_as_good_as_dedicated_ones(beta):
    assert objectives_at(TALKS["celeba"], beta)["per_cent"]["mean"] <= 0.5


@pytest.mark.parametrize("kind", ["fd_prior", "fd_gmm", "fd_reconstruction"])
@pytest.mark.parametrize("beta", THREE)
def test_faces_of_one_model_are_as_near_to_real_ones(beta, kind):
    found = distances_at(TALKS["celeba"], beta, kind)
    assert found["one"]["mean"] <= found["dedicated"]["mean"]


@pytest.mark.parametrize("name", TALKS)
def test_latents_keep_their_meaning_and_those_of_dedicated_models_do_not(name):
    near = aligned_steps(TALKS[name], "near", "next_correlation")
    assert len(near) == 6
    assert all(of["mean"] >= 0.95 for of in near.values())
    one = aligned_steps(TALKS[name], "far", "next_correlation")
    dedicated = aligned_steps(TALKS[name], "strangers", "against_next_correlation")
    assert len(dedicated) == 2
    assert all(of["mean"] <= one[step]["mean"] - 0.5 for step, of in dedicated.items())


@pytest.mark.parametrize("name", TALKS)
def test_the_talk_hardly_waits_for_data(name):
    talk = TALKS[name]
    for run in (run for seed in talk.seeds for run in talk.runs(seed)):
        training = result(run.name)["training"]
        assert training["seconds_waiting_for_data"] < 0.05 * training["seconds"]


def test_results_of_folding():
    for case in result("folding")["ratios"].values():
        assert case["ratio"] <= 1.02


def test_results_of_the_cache():
    assert result("celeba_start")["second_start_to_first_step_seconds"] < 10


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_every_result_says_where_it_is_from(path):
    assert {"command", "commit", "machine"} <= set(json.loads(path.read_text()))
