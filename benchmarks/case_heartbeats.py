"""Heartbeats: one β-VAE for all β's in place of a grid, and three dedicated ones in its time.

    python -m benchmarks.case_heartbeats DATA_ROOT

Windows of two leads around a beat, MIT-BIH, split by patient, and beats of one lead, ECG5000
(DATA_ROOT holds mitbih2/ and ecg5000/): a 1-D convolutional VAE with a Gaussian likelihood,
wrapped. Rate, distortion, live latents, probes for the class, and how well D, R and D + R of a
beat tell normal ones from others. A result file a run; finished ones are skipped. The summary is
case_heartbeats.json; pictures of it and of traversals are beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks import cases
from benchmarks.cases import Best, Case, Rows
from benchmarks.record import RESULTS, save
from benchmarks.runs import arguments, curve_of
from multibeta.files import replacing
from multibeta.generate import busiest, traversals
from multibeta.likelihoods import Gaussian
from multibeta.scores import auroc, scores_of

COMMAND = "python -m benchmarks.case_heartbeats DATA_ROOT"
TRAVERSED = "#2166ac", "#92c5de", "#878787", "#f4a582", "#b2182b"
SIGMA = 0.1
"""In mV, of ECG5000 in units of a beat's standard deviation."""
COLUMNS = (
    "rate_nats", "distortion_nats", "objective_nats", "normal_objective_nats", "live_latents",
    "axes_95", "probe_accuracy", "knn_accuracy", "auroc_distortion_nats", "auroc_rate_nats",
    "auroc_neg_elbo_nats",
)  # fmt: skip
METRICS = {"latents": {}, "probe": {"most": 4_000, "few": [100], "draws": 3}}


def conv(inputs: int, outputs: int, stride: int = 2) -> nn.Module:
    """Return a convolution over time and its activation."""
    return nn.Sequential(nn.Conv1d(inputs, outputs, 5, stride, 2), nn.LeakyReLU())


class Encoder(nn.Module):
    """Strided convolutions over time, then mean and log-variance of the code.

    Args:
        leads: Channels of x.
        length: Samples.
        latents: Z.
    """

    def __init__(self, leads: int, length: int, latents: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(leads, 32), conv(32, 64), conv(64, 64), nn.Flatten())
        size = 64 * lengths(length)[-1]
        self.mean, self.log_variance = nn.Linear(size, latents), nn.Linear(size, latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, Z) each for x (B, leads, length)."""
        h = self.body(x)
        return self.mean(h), self.log_variance(h)


class Decoder(nn.Module):
    """The way back, by transposed convolutions.

    Args:
        leads: Channels of x.
        length: Samples.
        latents: Z.
    """

    def __init__(self, leads: int, length: int, latents: int) -> None:
        super().__init__()
        *before, short = lengths(length)
        layers: list[nn.Module] = [
            nn.Linear(latents, 64 * short), nn.LeakyReLU(), nn.Unflatten(1, (64, short)),
        ]  # fmt: skip
        channels = 64
        for outputs, to in zip((64, 32, leads), reversed(before), strict=True):
            odd = 1 - to % 2
            layers += [nn.ConvTranspose1d(channels, outputs, 5, 2, 2, odd), nn.LeakyReLU()]
            channels = outputs
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:
        """Return means (B, leads, length)."""
        return self.body(z)


def lengths(length: int) -> list[int]:
    """Return the samples before and after each of three strides of two."""
    found = [length]
    for _ in range(3):
        found.append((found[-1] + 1) // 2)
    return found


def networks(leads: int, length: int, latents: int) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder."""
    return Encoder(leads, length, latents), Decoder(leads, length, latents)


def sets(root: str, file: str, normal: int, normal_only: bool = False) -> dict[str, Rows]:
    """Return the sets of a file; the label is 0 for normal beats.

    Args:
        root: DATA_ROOT.
        file: Under it.
        normal: The class of normal beats.
        normal_only: Whether the model sees normal beats alone.
    """
    found = {}
    with np.load(Path(root) / file) as arrays:
        for name in ("train", "val", "test"):
            x, y = torch.from_numpy(arrays[name]), torch.from_numpy(arrays[f"{name}_labels"])
            y = (y - normal).long()
            if normal_only and name == "train":
                x, y = x[y == 0], y[y == 0]
            found[name] = Rows(x, y)
    return found


@torch.no_grad()
def anomalies(vae: Any, rows: Rows) -> dict[str, float]:
    """Return the AUROC of each score, normal beats against the others, and its standard error.

    Errors are those of Hanley & McNeil 1982.
    """
    normal = (rows.label == 0).numpy()
    n, m = normal.sum(), (~normal).sum()
    found = {}
    for name, of in scores_of(vae, rows.x, samples=1).items():
        if name != "nll_nats":
            a = auroc(of.numpy()[normal], of.numpy()[~normal])
            q, p = a / (2 - a), 2 * a * a / (1 + a)
            variance = a * (1 - a) + (m - 1) * (q - a * a) + (n - 1) * (p - a * a)
            found |= {f"auroc_{name}": a, f"auroc_{name}_se": math.sqrt(variance / (n * m))}
    return found


@torch.no_grad()
def of_normal(vae: Any, rows: Rows) -> dict[str, float]:
    """Return the same, and J of normal beats: what a model that saw them alone was trained for."""
    some = rows.x[rows.label == 0]
    scores = scores_of(vae, some, samples=1)
    each = scores["distortion_nats"] + vae.beta * scores["rate_nats"]
    return {**anomalies(vae, rows), "normal_objective_nats": each.mean().item()}


def _case(
    name: str, label: str, steps: int, made: Callable[[], Any], of: Any, **more: Any
) -> Case:
    return Case(
        f"case_heartbeats_{name}", label, "0.1:100", "0.1:100:13",
        (10**-0.5, 10**0.5, 10**1.5), steps, of, made,
        partial(Gaussian, SIGMA), **{"more": anomalies, **more},
    )  # fmt: skip


PROBES = Best("probe_accuracy", "linear probe"), Best("knn_accuracy", "nearest neighbours")
SCORES = (
    Best("auroc_distortion_nats", "normal or not, by D"),
    Best("auroc_rate_nats", "normal or not, by R"),
    Best("auroc_neg_elbo_nats", "normal or not, by D + R"),
)
MITBIH = "mitbih2/mitbih2.npz"
CASES = (
    _case(
        "mitbih2", "MIT-BIH, two leads", 1_600, partial(networks, 2, 128, 32),
        partial(sets, file=MITBIH, normal=0), metrics=METRICS, purposes=PROBES + SCORES,
    ),
    _case(
        "normal", "MIT-BIH, trained on normal beats", 1_000, partial(networks, 2, 128, 32),
        partial(sets, file=MITBIH, normal=0, normal_only=True), metrics={"latents": {}},
        purposes=SCORES, more=of_normal, seeds=1,
    ),
    _case(
        "ecg5000", "ECG5000, trained on normal beats", 1_000, partial(networks, 1, 140, 32),
        partial(sets, file="ecg5000/ecg5000.npz", normal=1, normal_only=True),
        metrics={"latents": {}}, purposes=SCORES, more=of_normal, seeds=1,
    ),
)  # fmt: skip
EIGHT = replace(
    CASES[0], name="case_heartbeats_eight", networks=partial(networks, 2, 128, 8), dedicated=()
)
"""One model with a code of 8 latents, as in the corner of the grid."""


def draw(found: dict[str, Any]) -> None:
    """Draw what is measured over β.

    Args:
        found: Name → summary of a case.
    """
    both, normal, small = (found[case.name] for case in CASES)
    figure = Figure(figsize=(10.4, 5.6), layout="constrained")
    panels = figure.subplots(2, 3).flatten()
    scores = {
        "auroc_distortion_nats": "D", "auroc_rate_nats": "R", "auroc_neg_elbo_nats": "D + R",
    }  # fmt: skip
    codes = {"live_latents": "latents above 0.2 nats", "axes_95": "axes, 95 %"}
    probes = {"probe_accuracy": "linear probe", "knn_accuracy": "nearest neighbours"}
    nats = {"rate_nats": "rate R", "distortion_nats": "distortion D"}
    of = both["label"]
    cases.panel(panels[0], both, nats, of, "nats")
    cases.panel(panels[1], both, codes, of, "number")
    cases.panel(panels[2], both, probes, f"{of}: the class", "accuracy")
    for axes, each in zip(panels[3:], (both, normal, small), strict=True):
        said = each["label"].replace(", two leads", ", trained on all beats")
        cases.panel(axes, each, scores, said, "AUROC, normal or not")
    with replacing(RESULTS / "case_heartbeats.png") as temporary:
        figure.savefig(temporary, dpi=130)


def draw_traversals(root: str) -> None:
    """Draw beats with one latent moved, for the busiest latents and three β's.

    Args:
        root: DATA_ROOT.
    """
    case = CASES[0]
    rows = case.sets(root)
    vae, _ = cases.trained(case, rows, None, 0)
    betas = case.dedicated
    latents = busiest(vae, rows["val"].x, betas[-1], 5)
    made = traversals(vae, betas, latents, span=2.0, steps=5)
    figure = Figure(figsize=(10.4, 5.4), layout="constrained")
    grid = figure.subplots(len(betas), len(latents), sharex=True, sharey=True)
    milliseconds = (np.arange(made.shape[-1]) - 44) / 0.18
    for axes_row, beta, of_beta in zip(grid, betas, made, strict=True):
        for axes, j, beats in zip(axes_row, latents, of_beta, strict=True):
            for beat, colour in zip(beats.numpy(), TRAVERSED, strict=True):
                axes.plot(milliseconds, beat[0], color=colour, linewidth=1)
                axes.plot(milliseconds, beat[1] - 2, color=colour, linewidth=1)
            axes.set_yticks([0, -2], ["MLII", "V1"])
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            if beta == betas[0]:
                axes.set_title(f"latent {j}", fontsize=9)
        axes_row[0].set_ylabel(f"β = {beta:.3g}", fontsize=9)
    figure.supxlabel("milliseconds after the R peak; latent from −2 (blue) to 2 (red)", fontsize=9)
    with replacing(RESULTS / "case_heartbeats_traversals.png") as temporary:
        figure.savefig(temporary, dpi=130)


@torch.no_grad()
def by_patient(root: str, draws: int = 400) -> list[dict[str, float]]:
    """Return the AUROC of D with an error over patients, of the model that saw normal beats.

    Patients are drawn with replacement, so that all beats of one come together or not at all.

    Args:
        root: DATA_ROOT.
        draws: How often.
    """
    case, rng, found = CASES[1], np.random.default_rng(0), []
    rows = case.sets(root)
    vae, _ = cases.trained(case, rows, None, 0)
    with np.load(Path(root) / MITBIH) as arrays:
        record = arrays["test_record"]
    of_each = [np.flatnonzero(record == patient) for patient in np.unique(record)]
    other = (rows["test"].label != 0).numpy()
    rows_of = [
        np.concatenate([of_each[i] for i in rng.integers(len(of_each), size=len(of_each))])
        for _ in range(draws)
    ]
    first = None
    for beta in case.dedicated:
        row = anomalies(vae.at_beta(beta), rows["test"])
        score = scores_of(vae.at_beta(beta), rows["test"].x, samples=1)["distortion_nats"].numpy()
        values = np.array([auroc(score[at][~other[at]], score[at][other[at]]) for at in rows_of])
        first = values if first is None else first
        found.append({
            "beta": beta, "auroc": row["auroc_distortion_nats"],
            "se_over_beats": row["auroc_distortion_nats_se"],
            "se_over_patients": float(values.std(ddof=1)),
            "minus_first_se": float((values - first).std(ddof=1)), "patients": len(of_each),
        })  # fmt: skip
    return found


def references(root: str) -> dict[str, Any]:
    """Return what principal components of the beats themselves tell of the class."""
    of = CASES[0].sets(root)
    return cases.reference(of["train"], of["test"], 32)


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="at most")
    given = parser.parse_args()
    for case in CASES:
        cases.make(case, COMMAND, given.root, given.seeds)
    cases.run(EIGHT, EIGHT.sets(given.root), COMMAND, None, 0)
    found = {case.name: cases.summary(case, COLUMNS) for case in CASES}
    eight = {row["beta"]: row for row in curve_of(EIGHT.result(None, 0)).rows}
    save("case_heartbeats", COMMAND, {
        "sigma": SIGMA, "sets": found, "eight": list(eight.values()),
        "components": references(given.root), "by_patient": by_patient(given.root),
    })  # fmt: skip
    draw(found)
    draw_traversals(given.root)


if __name__ == "__main__":
    main()
