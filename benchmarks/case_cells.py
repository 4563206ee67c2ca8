"""Single cells: one count VAE for all β's, and three dedicated ones in its time.

    python -m benchmarks.case_cells DATA_ROOT

Counts of worm neurons, mouse bladder and blood (DATA_ROOT holds cells/): a VAE written as scVI's,
with a negative binomial and each cell's library size, wrapped. Clusters against the labels,
−log p, posterior predictive checks. A result file a run; finished ones are skipped. The summary
is case_cells.json, the picture case_cells.png.
"""

from __future__ import annotations

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
from benchmarks.runs import arguments, result_of
from multibeta.files import replacing
from multibeta.likelihoods import NegativeBinomial

COMMAND = "python -m benchmarks.case_cells DATA_ROOT"
COLUMNS = (
    "rate_nats", "distortion_nats", "objective_nats", "neg_elbo_nats", "nll_nats",
    "live_latents", "cluster_ari", "cluster_nmi", "cluster_silhouette", "cluster_stability",
    "probe_accuracy", "knn_accuracy", "predictive_mean_error", "predictive_std_error",
    "predictive_zeros_error", "predictive_calibration_error", "predictive_cv_spearman",
)  # fmt: skip
METRICS = {
    "latents": {},
    "clusters": {"label": "label"},
    "probe": {"label": "label", "few": []},
    "nll": {"samples": 16, "most": 150},
    "predictive": {"most": 150},
}
LATENTS, HIDDEN, DROPOUT = 10, 128, 0.1


class Encoder(nn.Module):
    """log(1 + counts), a hidden layer, then mean and log-variance of the code.

    Args:
        genes: G.
    """

    def __init__(self, genes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(genes, HIDDEN), nn.BatchNorm1d(HIDDEN, eps=1e-3, momentum=0.01), nn.ReLU(),
            nn.Dropout(DROPOUT),
        )  # fmt: skip
        self.mean, self.log_variance = nn.Linear(HIDDEN, LATENTS), nn.Linear(HIDDEN, LATENTS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, Z) each for counts (B, G)."""
        h = self.body(x.log1p())
        return self.mean(h), self.log_variance(h)


def decoder(genes: int) -> nn.Module:
    """Return a hidden layer, then logits of a gene's share of the counts."""
    return nn.Sequential(
        nn.Linear(LATENTS, HIDDEN), nn.BatchNorm1d(HIDDEN, eps=1e-3, momentum=0.01), nn.ReLU(),
        nn.Linear(HIDDEN, genes),
    )  # fmt: skip


def networks(genes: int) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder."""
    return Encoder(genes), decoder(genes)


def sets(root: str, name: str) -> dict[str, Rows]:
    """Return the sets of a file; the library is the sum over the genes that are modelled.

    Args:
        root: DATA_ROOT.
        name: Of the file in cells/.
    """
    found = {}
    with np.load(Path(root) / "cells" / f"{name}.npz") as arrays:
        for split in ("train", "val", "test"):
            x = torch.from_numpy(arrays[split].astype("float32"))
            label = torch.from_numpy(arrays[f"{split}_labels"])
            found[split] = Rows(x, label, library=x.sum(1))
    return found


def _case(name: str, label: str, genes: int, steps: int) -> Case:
    return Case(
        f"case_cells_{name}", label, "1e-4:10", "1e-4:10:11", (1e-3, 10**-1.5, 1.0), steps,
        partial(sets, name=name), partial(networks, genes),
        partial(NegativeBinomial, "feature", genes), METRICS,
        (
            Best("cluster_ari", "clusters: ARI"), Best("cluster_nmi", "clusters: NMI"),
            Best("knn_accuracy", "nearest neighbours"),
            Best("nll_nats", "−log p", least=True),
            Best("predictive_calibration_error", "calibration error", least=True),
        ),
    )  # fmt: skip


CASES = (
    _case("worm", "worm neurons", 1200, 1_000),
    _case("bladder", "mouse bladder", 1200, 800),
    _case("pbmc200", "blood", 200, 1_500),
)


LONG = replace(CASES[1], name="case_cells_long", dedicated=(1.0,))
"""One dedicated model that has all of the time."""


def draw(found: dict[str, Any]) -> None:
    """Draw what is measured over β, a column a set.

    Args:
        found: Name → summary of a case.
    """
    figure = Figure(figsize=(10.4, 7.6), layout="constrained")
    grid = figure.subplots(3, len(found))
    clusters = {"cluster_ari": "ARI", "cluster_nmi": "NMI", "knn_accuracy": "nearest neighbours"}
    nats = {"distortion_nats": "D", "nll_nats": "−log p(x) ≤"}
    checks = {"predictive_zeros_error": "zeros", "predictive_calibration_error": "calibration"}
    for of, (top, middle, bottom) in zip(found.values(), grid.T, strict=True):
        cases.panel(top, of, clusters, of["label"], "agreement with the labels")
        cases.panel(middle, of, nats, "", "nats a cell")
        cases.panel(bottom, of, checks, "", "error of the drawn data")
    with replacing(RESULTS / "case_cells.png") as temporary:
        figure.savefig(temporary, dpi=130)


def references(root: str) -> dict[str, Any]:
    """Return what principal components tell, of log(1 + counts per median library)."""
    found = {}
    for case in CASES:
        of = case.sets(root)
        median = of["train"].inputs["library"].median()
        train, test = (
            Rows((rows.x / rows.inputs["library"][:, None] * median).log1p(), rows.label)
            for rows in (of["train"], of["test"])
        )
        found[case.name] = cases.reference(train, test, LATENTS)
    return found


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="at most")
    given = parser.parse_args()
    for case in CASES:
        cases.make(case, COMMAND, given.root, given.seeds)
    of_long = LONG.sets(given.root)
    cases.measure_step(LONG, of_long, COMMAND)
    cases.run(LONG, of_long, COMMAND, LONG.dedicated[0], 0)
    found = {case.name: cases.summary(case, COLUMNS) for case in CASES}
    long = result_of(LONG.result(LONG.dedicated[0], 0))
    save("case_cells", COMMAND, {
        "sets": found, "components": references(given.root),
        "long": {"steps": long["steps"], **long["curves"]["test"]["rows"][0]},
    })  # fmt: skip
    draw(found)


if __name__ == "__main__":
    main()
