"""Data of any shape, by the command line alone; D by class path; what is drawn and said."""

import csv

import numpy as np
import pytest
import torch

import multibeta
from multibeta.cli import main
from multibeta.curve import Curve
from tests.helpers import l1, newest

SMALL = [
    "--config=npz", "--data.batch_size=32", "--trainer.max_epochs=2", "--trainer.accelerator=cpu",
    "--trainer.check_val_every_n_epoch=1", "--model.latent_dim=3", "--curve.betas=0.01,1",
]  # fmt: skip


def fit(tmp_path, x, *options):
    np.savez(tmp_path / "x.npz", x=x)
    given = [
        f"--data.root={tmp_path / 'x.npz'}",
        f"--trainer.default_root_dir={tmp_path / 'runs'}",
    ]
    assert main(["fit", *SMALL, *given, *options]) == 0
    return newest(tmp_path / "runs")


def numbers(*shape):
    return np.random.default_rng(0).normal(size=(120, *shape)).astype("float32")


CASES = {
    "table": ((9,), "MLP", None),
    "signals": ((2, 31), "Conv", "strip.png"),
    "volumes": ((1, 5, 6, 7), "Conv", None),
    "volumes_resnet": ((2, 5, 6, 7), "ResNet", None),
}


@pytest.mark.parametrize("case", CASES)
def test_fit_and_curve_of_any_shape(tmp_path, capsys, case):
    shape, network, picture = CASES[case]
    run = fit(
        tmp_path, numbers(*shape), f"--model.network={network}", "--model.network.width=4",
        "--model.network.depth=2", "--model.likelihood=Gaussian", "--model.likelihood.sigma=1",
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "×".join(map(str, shape)) in said
    assert (run / "strip.png").exists() == (picture is not None)
    assert ("no strip.png" in said) == (picture is None)
    vae = multibeta.load(run)
    assert vae.shape == shape
    x = torch.randn(2, *shape)
    assert vae.at_beta(0.3).reconstruct(x).shape == x.shape
    assert main(["curve", str(run), "--betas", "0.1", "--metrics", "active_units"]) == 0
    assert main(["curve", str(run), "--betas", "0.1", "--metrics", "psnr"]) == (
        0 if len(shape) == 3 else 2
    )


def test_a_distortion_by_class_path(tmp_path, capsys):
    run = fit(
        tmp_path, numbers(9), "--model.network=MLP", "--model.network.width=8",
        "--model.likelihood=Distortion", "--model.likelihood.fn=tests.helpers.l1",
    )  # fmt: skip
    table = capsys.readouterr().out
    assert "D = l1" in table and "D + R" not in table
    with (run / "curve.csv").open() as file:
        columns = next(csv.reader(file))
    assert {"distortion", "objective", "rate_nats"} < set(columns)
    assert not {"distortion_nats", "objective_nats", "neg_elbo_nats"} & set(columns)
    assert Curve.from_json(run / "curve.json").unit == "l1"
    vae, x = multibeta.load(run, allow="tests.helpers"), torch.randn(4, 9)
    plain = vae.at_beta(1.0)
    terms = plain.elbo_terms(x, torch.zeros(4, 3))
    torch.testing.assert_close(terms.distortion, l1(plain.reconstruct(x), x))
    assert main(["curve", str(run), "--metrics", "nll"]) == 2
    said = capsys.readouterr().err
    assert (
        "names tests.helpers.l1, code that is not multibeta's" in said and "--allow tests" in said
    )
    assert main(["curve", str(run), "--metrics", "nll", "--allow", "tests"]) == 2
    assert "nll cannot be measured: it needs −log p(x|z), and D is l1" in capsys.readouterr().err


def test_standardised_data_keeps_its_units(tmp_path, capsys):
    """D has the Jacobian: a table and the same in other units differ in D by d log k alone."""
    x = numbers(5) * [1, 10, 100, 0.1, 1] + [0, 5, -300, 0, 1]
    options = ["--model.network=MLP", "--model.network.width=8", "--model.likelihood=Gaussian",
               "--model.likelihood.sigma=1", "--model.standardise=true"]  # fmt: skip
    runs = []
    for k in (1.0, 1000.0):
        (tmp_path / f"{k:g}").mkdir()
        runs.append(fit(tmp_path / f"{k:g}", (k * x).astype("float32"), *options))
    one, other = (Curve.from_json(run / "curve.json") for run in runs)
    for a, b in zip(one.rows, other.rows, strict=True):
        assert b["rate_nats"] == pytest.approx(a["rate_nats"], rel=1e-3)
        further = b["distortion_nats"] - a["distortion_nats"]
        assert further == pytest.approx(5 * np.log(1000), abs=0.01)
    model = multibeta.load(runs[0])
    mean = model.at_beta(1.0).sample(500).mean(0)
    assert mean[2].item() == pytest.approx(-300, abs=60)
    last = runs[0] / "checkpoints" / "last.ckpt"
    again = ["--ckpt_path", str(last), "--trainer.max_epochs=3", "--trainer.accelerator=cpu"]
    assert main(["fit", *again]) == 0


def test_counts_want_counts(tmp_path, capsys):
    options = ["--model.network=MLP", "--model.network.width=8", "--model.likelihood=Poisson"]
    counts = np.random.default_rng(0).poisson(3, size=(120, 9)).astype("uint16")
    run = fit(tmp_path, counts, *options)
    assert multibeta.load(run).shape == (9,)
    capsys.readouterr()
    for wrong, said in (
        (counts + 0.5, "whole numbers"),
        (-counts.astype("int32"), "has the value -"),
    ):
        np.savez(tmp_path / "x.npz", x=wrong)
        given = [f"--data.root={tmp_path / 'x.npz'}", f"--trainer.default_root_dir={tmp_path}/no"]
        assert main(["fit", *SMALL, *given, *options]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in line


@pytest.mark.parametrize("betas", ["1e-8:1e-2", "1e-4:1e2"])
def test_betas_far_from_one(tmp_path, betas):
    low, high = betas.split(":")
    run = fit(
        tmp_path, numbers(9), "--model.network=MLP", "--model.network.width=8",
        "--model.likelihood=Gaussian", f"--model.betas={betas}", f"--curve.betas={betas}:4",
    )  # fmt: skip
    curve = Curve.from_json(run / "curve.json")
    assert curve["beta"][0] == float(low) and curve["beta"][-1] == float(high)
    assert all(np.isfinite(row["objective_nats"]) for row in curve.rows)
    assert f"{float(low):.4g}" in curve.table()
