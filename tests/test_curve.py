import csv
import json
import math
import re

import numpy as np
import pytest
import torch

import multibeta
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.curve import Curve
from multibeta.data import Digits
from multibeta.evaluation import sweep
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from multibeta.settings import plain_settings, rebuild
from tests.helpers import fit_digits
from tests.test_evaluation import model


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    run = fit_digits(tmp_path_factory.mktemp("runs"), "--trainer.max_epochs=12")
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
    said = r"β = .*: .* nats, .* bits per example, .* bpp\n\nDigits"
    assert re.match(said, first := capsys.readouterr().out)
    assert main(["rate", str(run), "--bpp", f"{bits / 64}"]) == 0
    assert capsys.readouterr().out == first
    assert main(["rate", str(run)]) == 2
    assert (
        capsys.readouterr().err
        == "multibeta: give one of --bits, --bpp, --nats, --distortion, --psnr\n"
    )
    assert main(["rate", str(run), "--bits", "1e6"]) == 2
    assert capsys.readouterr().err.startswith("multibeta: rate_bits=1e+06 is out of reach")


def test_one_example_has_no_standard_error(tmp_path):
    curve = sweep(model(), [torch.rand(1, 1, 8, 8)], "1")
    assert math.isnan(curve["rate_se"][0])
    curve.to_json(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["rows"][0]["rate_se"] is None
    assert math.isnan(Curve.from_json(tmp_path / "c.json")["rate_se"][0])
    curve.plot(tmp_path / "c.png")


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


def test_the_table_has_no_minus_zero():
    about = sweep(model(), Digits(), "1").about
    rows = (
        {"beta": 0.5, "rate_nats": -0.0, "a": -0.0001},
        {"beta": 1.0, "rate_nats": -1, "a": 2.5},
    )
    lines = Curve(rows, about).table().splitlines()
    assert [line.split() for line in lines if line.startswith("0.5")] == [
        ["0.5", "0"],
        ["0.5", "0.000"],
    ]


def test_a_curve_whose_file_was_changed_is_refused(fitted, tmp_path):
    path, (_, curve) = tmp_path / "curve.json", fitted
    curve.to_json(path)
    assert Curve.from_json(path).rows == curve.rows
    text = path.read_text()
    digit = re.search(r'"rate_nats": (\d)', text)
    path.write_text(text[: digit.start(1)] + str((int(digit[1]) + 1) % 10) + text[digit.end(1) :])
    with pytest.raises(ValueError, match="it was changed after it was written"):
        Curve.from_json(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["rows"][0].update(rate_nats=-1.0), "rate_nats=-1 is below 0"),
        (lambda c: c["rows"][0].update(distortion_nats=True), "distortion_nats is True: it shoul"),
        (lambda c: c["rows"][0].update(objective_nats=None), "objective_nats is not finite"),
        (lambda c: c["rows"][0].pop("rate_nats"), "a row has no rate_nats"),
        (lambda c: c["rows"].append(dict(c["rows"][0])), "beta does not rise from row to row"),
        (lambda c: c["about"].pop("likelihood"), "there is no about.likelihood"),
        (lambda c: c["about"].update(sigma=-1.0), "about.sigma is -1.0: it should be greater"),
        (lambda c: c["about"].update(n="many"), "about.n is 'many': it should be a valid integer"),
        (lambda c: c["rows"].clear(), "rows is []: it"),
    ],
)
def test_rows_that_no_sweep_could_have_measured(fitted, tmp_path, change, message):
    content = json.loads(json.dumps(fitted[1].as_dict()))
    change(content)
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is not a curve.json of multibeta") as info:
        Curve.from_json(path)
    assert message in str(info.value)


def test_any_range_travels_to_the_last_digit(tmp_path):
    """Through settings and back, a sweep, JSON and CSV."""
    data, rng = torch.rand(3, 1, 8, 8), np.random.default_rng(0)
    for low, high in np.sort(np.exp(rng.uniform(-20, 10, (25, 2))), 1).tolist():
        small = MLP(width=4, depth=1)
        given = MultiBetaVAE.of((1, 8, 8), f"{low!r}:{high!r}", network=small, latent_dim=2)
        vae = rebuild(json.loads(json.dumps(plain_settings(given))), "here")
        curve = sweep(vae, data, f"{low!r}:{high!r}:2")
        assert curve["beta"] == [low, high]
        curve.to_json(tmp_path / "curve.json")
        curve.to_csv(tmp_path / "curve.csv")
        assert Curve.from_json(tmp_path / "curve.json").rows == curve.rows
        with (tmp_path / "curve.csv").open(newline="") as file:
            assert [float(row["beta"]) for row in csv.DictReader(file)] == [low, high]
        assert sweep(vae, data)["beta"][::15] == [low, high], "the default is the trained range"


def test_a_curve_has_rows_by_beta_and_a_picture_in_notebooks():
    measured = sweep(model(), Digits(), "0.1,1,10")
    assert len(measured) == len(measured.rows)
    beta = measured["beta"][1]
    assert measured[beta] == measured.rows[1]
    assert measured[beta * (1 + 1e-9)] == measured.rows[1]
    with pytest.raises(KeyError, match="nothing was measured at beta=77; there are"):
        measured[77]
    shown = measured._repr_html_()
    assert "data:image/png;base64," in shown and "rate R" in shown


def test_a_curve_is_a_data_frame():
    pandas = pytest.importorskip("pandas")
    measured = sweep(model(), Digits(), "0.1,1,10")
    frame = measured.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["rate_nats"].tolist() == measured["rate_nats"]
