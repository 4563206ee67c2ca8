import csv
import json

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import binary_auroc

from multibeta.cli import main
from multibeta.data import Digits
from multibeta.likelihoods import Gaussian
from multibeta.scores import SCORES, auroc, score, scores_of
from multibeta.vae import BetaVAE
from tests.helpers import fit_digits
from tests.test_evaluation import model


def test_auroc_against_another_library_and_known_answers():
    rng = np.random.default_rng(0)
    own, other = rng.normal(0, 1, 300), rng.normal(0.7, 2, 200).round(1)
    values = torch.tensor(np.concatenate([own, other]))
    labels = torch.tensor([0] * 300 + [1] * 200)
    # torchmetrics squashes what is outside [0, 1]: ranks are inside.
    ranks = values.unique(return_inverse=True)[1] / len(values)
    assert auroc(own, other) == pytest.approx(binary_auroc(ranks, labels).item(), abs=1e-6)
    assert auroc(own, own + 100) == 1
    assert auroc(own, own - 100) == 0
    assert auroc(own, own) == pytest.approx(0.5)
    assert auroc(np.zeros(3), np.zeros(5)) == 0.5


def test_scores_that_are_not_finite():
    with pytest.raises(ValueError, match="1 of 5 scores are not finite; the model may have"):
        auroc(np.zeros(2), np.array([0, np.nan, 1.0]))


def test_the_scores_of_an_exact_model():
    """A decoder that ignores z, and a posterior that is the prior: all scores are −log p(x)."""
    zero = nn.Linear(4, 4)
    for parameter in zero.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(zero.bias[2:], -80.0)
    decoder = nn.Linear(2, 4)
    nn.init.zeros_(decoder.weight)
    shape = (1, 2, 2)
    vae = BetaVAE(
        nn.Sequential(nn.Flatten(), zero), nn.Sequential(decoder, nn.Unflatten(1, shape)),
        Gaussian(0.5), (2,), 1.0, "curvature",
    )  # fmt: skip
    x = torch.randn(600, *shape)
    with torch.no_grad():
        found = scores_of(vae, x, 3)
        exact = -vae.decode(torch.zeros(600, 2)).log_prob(x)
    assert torch.allclose(found["rate_nats"], torch.zeros(600, dtype=torch.float64), atol=1e-6)
    for name in ("distortion_nats", "neg_elbo_nats", "nll_nats"):
        assert torch.allclose(found[name], exact.double(), rtol=1e-5)


def test_more_samples_lower_the_bound():
    vae, x = model().at_beta(0.5), torch.rand(40, 1, 8, 8)
    with torch.no_grad():
        few, many = scores_of(vae, x, 1), scores_of(vae, x, 64)
    assert torch.equal(few["neg_elbo_nats"], many["neg_elbo_nats"])
    assert many["nll_nats"].mean() < few["nll_nats"].mean()


class Dark(Digits):
    """Digits in white on black, turned."""

    def load(self):
        return {name: 255 - x for name, x in super().load().items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit_digits(tmp_path_factory.mktemp("runs"), "--trainer.max_epochs=8")


@pytest.mark.pictures
def test_the_score_command(run, tmp_path, capsys):
    command = ["score", str(run), "tests.test_scores.Dark", "--betas=0.01,1", "--samples=2",
               "--examples=50", f"--out={tmp_path}"]  # fmt: skip
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("AUROC, Dark (50) against Digits (50), test sets, K = 2\n")
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["beta"] for row in rows] == ["0.01", "1.0"]
    with np.load(tmp_path / "scores.npz") as arrays:
        assert arrays["beta"].tolist() == [0.01, 1]
        for row, own, other in zip(
            rows, arrays["own_neg_elbo_nats"], arrays["other_neg_elbo_nats"], strict=True
        ):
            assert float(row["auroc_neg_elbo_nats"]) == auroc(own, other) > 0.95
        assert {f"{side}_{name}" for side in ("own", "other") for name in SCORES} < set(arrays)
        assert np.allclose(
            arrays["own_neg_elbo_nats"], arrays["own_distortion_nats"] + arrays["own_rate_nats"]
        )
    assert (tmp_path / "scores.png").stat().st_size > 10_000
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["rows"] == json.loads((tmp_path / "scores.json").read_text())["rows"]


def test_mistakes_are_one_line(run, tmp_path, capsys):
    for given, said in {
        ("Omniglott",): "no data set Omniglott (did you mean Omniglot?); ",
        ("Digits", "--other_data.sze=3"): "Digits has no argument sze",
        ("Digits", "--samples=0"): "samples=0 is too small; it is at least 1",
        ("Digits", "--betas=99"): "beta=99 is outside the trained range",
        ("Gaussian",): "Gaussian cannot be scored: the data has the shape (1, 1, 16)",
        ("tests.nothing.Digits",): "class path tests.nothing.Digits cannot be imported",
    }.items():
        assert main(["score", str(run), *given, f"--out={tmp_path / 'none'}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("multibeta: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_set_against_itself_cannot_be_told():
    found = score(model(), Digits(), Digits(), "0.1", samples=2, examples=100)
    assert [found.rows[0][f"auroc_{name}"] for name in SCORES] == pytest.approx([0.5] * 4)
