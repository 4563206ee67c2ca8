"""A third axis for the R-D plane: KL(q(z) ‖ p(z)) and the FID of samples, for three objectives.

    python -m benchmarks.third_axis DATA_ROOT [--jobs 2]

One multi-β model each on binarised MNIST, with the same network and steps: β-VAE, β-TCVAE and
InfoVAE. DATA_ROOT holds binarized_mnist/ and lenet_mnist/, whose features FID uses. The summary,
third_axis.json, compares them at equal rates; the picture is third_axis.png.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.record import RESULTS, save
from benchmarks.runs import Run, arguments, curve_of, make
from multibeta.curve import Curve
from multibeta.files import replacing

COMMAND = "python -m benchmarks.third_axis DATA_ROOT"
SEED = 0
RATES = (10.0, 20.0, 40.0)
OBJECTIVES = {
    "β-VAE": ("--model.objective=BetaELBO",),
    "β-TCVAE": ("--model.objective=BetaTCVAE",),
    "InfoVAE": ("--model.objective=InfoVAE", "--model.objective.lambd=1000"),
}
AXES = {"aggregated_kl_nats": "KL(q(z) ‖ p(z)) (nats)", "fd_prior": "FID of samples, LeNet"}
COLUMNS = ("distortion_nats", "information_nats", *AXES)


def run(name: str, root: str = "DATA_ROOT") -> Run:
    """Return the run of an objective."""
    options = (
        "--config=binarized_mnist.yaml", "--data.root=DATA_ROOT", "--data.batch_size=128",
        "--model.network=MLP", "--trainer.max_epochs=20", "--trainer.limit_val_batches=0",
        *OBJECTIVES[name], f"--seed_everything={SEED}",
    )  # fmt: skip
    lenet = {
        "class_path": "benchmarks.lenet.LeNet",
        "init_args": {"weights": f"{root}/lenet_mnist/lenet_mnist_cnn.pt"},
    }
    metrics: Mapping[str, Any] = {"information": {}, "frechet": {"extractor": lenet}}
    stem = OBJECTIVES[name][0].partition("=")[2].lower()
    return Run(f"third_axis_{stem}", options, {"test": "0.01:10:13"}, metrics)


def at_rate(curve: Curve, rate: float) -> dict[str, float] | None:
    """Return the columns at a rate, on straight lines between the curve's points."""
    rates = np.array(curve["rate_nats"])
    if not rates.min() <= rate <= rates.max():
        return None
    order = np.argsort(rates)
    values = {name: np.array(curve[name])[order] for name in COLUMNS}
    return {name: float(np.interp(rate, rates[order], of)) for name, of in values.items()}


def draw() -> None:
    """Draw the plane twice, coloured by each of the two."""
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    curves = {name: curve_of(run(name).name) for name in OBJECTIVES}
    for ax, (column, label) in zip(figure.subplots(1, len(AXES)), AXES.items(), strict=True):
        values = np.log10([value for curve in curves.values() for value in curve[column]])
        for (name, curve), marker in zip(curves.items(), "osD", strict=True):
            ax.plot(curve["rate_nats"], curve["distortion_nats"], color="0.8", zorder=1)
            points = ax.scatter(
                curve["rate_nats"], curve["distortion_nats"], c=np.log10(curve[column]),
                vmin=values.min(), vmax=values.max(), marker=marker, s=34, edgecolor="black",
                linewidth=0.5, label=name, zorder=2,
            )  # fmt: skip
        bar = figure.colorbar(points, ax=ax)
        ticks = [tick for tick in bar.get_ticks() if values.min() <= tick <= values.max()]
        bar.set_ticks(ticks, labels=[f"{10**tick:.3g}" for tick in ticks])
        bar.set_label(label)
        ax.set(xlabel="rate R (nats per example)", ylabel="distortion D (nats per example)")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    with replacing(RESULTS / "third_axis.png") as temporary:
        figure.savefig(temporary, dpi=130)


def main() -> None:
    """Make what is missing, and the summary."""
    given = arguments(__doc__).parse_args()
    make((run(name, given.root) for name in OBJECTIVES), COMMAND, given.root, given.jobs)
    curves = {name: curve_of(run(name).name) for name in OBJECTIVES}
    found = [
        {"rate": rate, **{name: at_rate(curve, rate) for name, curve in curves.items()}}
        for rate in RATES
    ]
    save("third_axis", COMMAND, {"rows": found})
    draw()


if __name__ == "__main__":
    main()
