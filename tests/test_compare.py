import dataclasses
import json
import math
from datetime import date

import pytest
import torch

import multibeta
from multibeta.cli import main
from multibeta.compare import bd_distortion, bd_rate, compare, distortion_at, merged
from multibeta.curve import Curve
from multibeta.data import Digits
from multibeta.noise import evaluation_noise

ABOUT = {
    "data": "Gaussian", "split": "test", "n": 100, "shape": [1, 1, 2], "d": 2,
    "likelihood": "Gaussian", "sigma": 1.0, "units": "nats", "seed": 0,
}  # fmt: skip
BETAS = (0.1, 0.3, 1.0, 3.0)


def curve(rate_factor=1.0, shift=0.0, betas=BETAS, **about):
    """D = −10 log R: with R times a factor, D at equal R is higher by 10 log of it."""
    rows = []
    for beta in betas:
        rate, distortion = rate_factor * 8 / beta, -10 * math.log(8 / beta) + shift
        rows.append(
            {"beta": beta, "rate_nats": rate, "rate_se": 0.1, "distortion_nats": distortion,
             "distortion_se": 0.1, "objective_nats": distortion + beta * rate,
             "objective_se": 0.3, "neg_elbo_nats": distortion + rate}
        )  # fmt: skip
    return Curve(tuple(rows), {**ABOUT, **about})


def test_bd_of_a_curve_with_a_tenth_more_rate():
    assert bd_rate(curve(), curve(1.1)) == pytest.approx(10)
    assert bd_rate(curve(1.1), curve()) == pytest.approx(100 / 1.1 - 100)
    assert bd_distortion(curve(), curve(1.1)) == pytest.approx(10 * math.log(1.1))


def test_bd_of_curves_that_share_nothing_or_are_points():
    assert bd_rate(curve(), curve(shift=100)) is None
    assert bd_distortion(curve(), curve(1000)) is None
    assert bd_rate(curve(), curve(betas=(1.0,))) is None
    collapsed = curve()
    collapsed.rows[-1]["rate_nats"] = 0.0
    assert bd_rate(collapsed, curve(1.1)) == pytest.approx(10)


def test_distortion_at_a_rate_is_linear_and_none_beyond_the_ends():
    points = curve()
    middle = (points["rate_nats"][0] + points["rate_nats"][1]) / 2
    mean = (points["distortion_nats"][0] + points["distortion_nats"][1]) / 2
    assert distortion_at(points, middle) == pytest.approx(mean)
    assert distortion_at(points, 1e3) is None


def test_rows_at_equal_beta():
    found = compare({"a": curve(), "b": curve(shift=2.0, betas=(0.3, 1.0, 5.0))})
    rows = found["others"]["b"]["at_beta"]
    assert [row["beta"] for row in rows] == [0.3, 1.0]
    for row in rows:
        assert row["difference_nats"] == pytest.approx(2)
        assert row["difference_se"] == pytest.approx(math.hypot(0.3, 0.3))
        assert row["distortion_at_equal_rate_nats"] == pytest.approx(2)


def test_dedicated_models_count_as_one_curve():
    one, *points = curve(), *(curve(betas=(beta,)) for beta in (1.0, 0.1))
    sides = merged({"one": one, "x": points[0], "y": points[1]})
    assert list(sides) == ["one", "2 dedicated models"]
    assert sides["2 dedicated models"]["beta"] == [0.1, 1.0]
    with pytest.raises(ValueError, match="two of the dedicated models have β = 1; give one file"):
        merged({"x": points[0], "y": points[0]})


@pytest.mark.parametrize(
    ("field", "value"),
    [("data", "MNIST"), ("split", "val"), ("likelihood", "Bernoulli"), ("sigma", 0.5),
     ("units", "bits"), ("n", 7)],
)  # fmt: skip
def test_curves_that_mean_different_things(field, value):
    with pytest.raises(ValueError, match=f"a and b cannot be compared: {field} is .* and {value}"):
        compare({"a": curve(), "b": curve(**{field: value})})


def test_a_learned_sigma_may_differ():
    learned = {"likelihood": "LearnedGaussian", "sigma_learned": True}
    compare({"a": curve(**learned), "b": curve(**learned, sigma=0.5)})


def test_one_curve():
    with pytest.raises(ValueError, match="at least two"):
        compare({"a": curve()})


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    curve().to_json(tmp_path / "run" / "curve.json")
    curve(1.1).to_json(tmp_path / "b.json")
    for beta in BETAS:
        curve(shift=-1.0, betas=(beta,)).to_json(tmp_path / f"{beta}.json")
    return tmp_path


@pytest.mark.pictures
def test_the_command(files, capsys):
    dedicated = [f"{beta}.json" for beta in BETAS]
    assert main(["compare", "run", "b.json", *dedicated]) == 0
    shown = capsys.readouterr().out
    assert "b.json minus run" in shown
    assert "4 dedicated models minus run" in shown
    assert "BD-rate +10.000 %" in shown
    assert (files / "compare.png").stat().st_size > 10_000


@pytest.mark.pictures
def test_the_command_as_json_and_a_picture_elsewhere(files, capsys):
    assert main(["compare", "run", "b.json", "--json", "--out", "sub/x.pdf"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["others"]["b.json"]["bd_rate_percent"] == pytest.approx(10)
    assert (files / "sub" / "x.pdf").exists()


def test_mistakes_are_one_line(files, capsys):
    other = dataclasses.replace(curve(), about={**ABOUT, "sigma": 2.0})
    other.to_json(files / "other.json")
    (files / "broken.json").write_text("{")
    for given, said in {
        ("run",): "multibeta: one curve is nothing to compare",
        (
            "run",
            "other.json",
        ): "multibeta: run and other.json cannot be compared: sigma",
        ("run", "broken.json"): "multibeta: broken.json is not a curve.json",
        ("run", "nowhere.json"): "multibeta: no curve at nowhere.json; give a curve.json, or",
        ("run", "."): "multibeta: no curve at curve.json; give a curve.json, or",
        (): "multibeta: the following arguments are required: curves",
    }.items():
        assert main(["compare", *given]) == 2
        error = capsys.readouterr().err
        assert error.startswith(said), error
        assert error.count("\n") == 1
    assert not (files / "compare.png").exists()


# Example by example -----------------------------------------------------------------------------


def test_paired_differences_are_those_of_the_same_examples(tmp_path, monkeypatch, capsys):
    """Against a direct computation; the error is smaller than that of two means."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        fit = ["fit", "--config=digits", "--trainer.max_epochs=3", "--curve.betas=0.1,1"]
        fit += [f"--seed_everything={seed}", f"--name=run{seed}", "--trainer.accelerator=cpu"]
        assert main(fit) == 0
    first, other = (f"runs/run{seed}/{date.today()}-1" for seed in (0, 1))
    capsys.readouterr()
    assert main(["compare", first, other, "--json"]) == 0
    (apart,) = json.loads(capsys.readouterr().out)["others"].values()
    assert main(["compare", first, other, "--json", "--paired"]) == 0
    (paired,) = json.loads(capsys.readouterr().out)["others"].values()
    data = Digits()
    batches = data.test_dataloader()
    noise = torch.cat([evaluation_noise(batches, i, len(x), (8,)) for i, x in enumerate(batches)])
    x = data.splits["test"].float() / 255
    models = [multibeta.load(of) for of in (first, other)]
    for row, unpaired in zip(paired["at_beta"], apart["at_beta"], strict=True):
        beta = row["beta"]
        with torch.no_grad():
            terms = [model.at_beta(beta).elbo_terms(x, noise) for model in models]
        a, b = (of.distortion.double() + beta * of.rate_nats.double() for of in terms)
        assert row["difference_nats"] == pytest.approx((b - a).mean().item(), abs=1e-4)
        assert row["difference_nats"] == pytest.approx(unpaired["difference_nats"], abs=1e-4)
        se = (b - a).std().item() / len(x) ** 0.5
        assert row["difference_se"] == pytest.approx(se, rel=1e-4)
        assert row["difference_se"] < unpaired["difference_se"]
    assert main(["compare", first, other, "--paired"]) == 0
    assert "± of the differences, example by example" in capsys.readouterr().out.replace("\n", " ")


def test_only_runs_can_be_measured_once_more(files, capsys):
    assert main(["compare", "run", "b.json", "--paired"]) == 2
    assert "--paired measures runs, and run has no checkpoints" in capsys.readouterr().err
    assert main(["compare", "run", "b.json", "--data.root=x"]) == 2
    assert "--data and --allow are for --paired" in capsys.readouterr().err
    assert not (files / "compare.png").exists()
