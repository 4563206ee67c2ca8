"""σ and β apart: fixed, learned and optimal σ, one multi-β model each, and the closed form of σ.

    python -m benchmarks.sigma DATA_ROOT [--jobs 2]

DATA_ROOT holds MNIST/ and celeba/. The closed form is that of linear models on a Gaussian source
of 16 dimensions with 6 latents: dedicated ones with a learned σ, and one model for β in [.05, 4]
with the optimal σ of each batch, whose examples share their β. The summary is sigma.json, the
picture sigma.png.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import multibeta
from benchmarks.record import RESULTS, save
from benchmarks.runs import Run, arguments, curve_of, fitted, make
from multibeta.checkpoints import load_data
from multibeta.curve import Curve
from multibeta.data.gaussian import optimal_variance
from multibeta.files import replacing

COMMAND = "python -m benchmarks.sigma DATA_ROOT"
SEED = 0
ORACLE_BETAS, LATENTS = (0.5, 1.0, 2.0, 4.0), 6
DATA = {
    "mnist": (
        "--config=mnist.yaml", "--model.network=MLP", "--data.batch_size=128",
        "--trainer.max_epochs=15",
    ),
    "celeba": (
        "--config=celeba.yaml", "--data.size=32", "--model.network=Conv",
        "--model.network.depth=3", "--trainer.max_epochs=15",
    ),
}  # fmt: skip
SIGMAS = {
    "fixed": ("--model.likelihood=Gaussian", "--model.likelihood.sigma=0.1"),
    "learned": ("--model.likelihood=LearnedGaussian",),
    "optimal": ("--model.likelihood=OptimalGaussian",),
}
CONVENTIONS = {
    "distortion_nats": "D with its own σ (nats)",
    "profiled_distortion_nats": "D with σ² profiled out (nats)",
    "squared_error": "squared error",
}


def run(data: str, sigma: str) -> Run:
    """Return the run of one multi-β model."""
    options = (
        *DATA[data], *SIGMAS[sigma], "--data.root=DATA_ROOT", "--trainer.limit_val_batches=0",
        f"--seed_everything={SEED}",
    )  # fmt: skip
    return Run(f"sigma_{data}_{sigma}", options, {"test": "0.01:10:16"}, {"squared_error": {}})


def oracle_runs() -> dict[str, Run]:
    """Return the runs of linear models: dedicated ones, and one for all β's."""
    common = (
        "--config=gaussian.yaml", f"--model.latent_dim={LATENTS}", "--trainer.limit_val_batches=0",
        f"--seed_everything={SEED}",
    )  # fmt: skip
    dedicated = {
        f"{beta:g}": Run(
            f"sigma_oracle_dedicated{beta:g}",
            (*common, f"--model.betas={beta:g}", "--model.conditioning=none",
             "--model.likelihood=LearnedGaussian"),
            {},
        )
        for beta in ORACLE_BETAS
    }  # fmt: skip
    one = Run(
        "sigma_oracle_one",
        (*common, "--model.betas=0.05:4", "--model.likelihood=OptimalGaussian",
         "--model.likelihood.over=batch", "--model.draws.per=batch",
         "--model.draws.betas_per_example=1"),
        {},
    )  # fmt: skip
    return {**dedicated, "one": one}


def oracle(root: str, jobs: int) -> list[dict[str, float]]:
    """Return σ² of linear models and in closed form, at each β."""
    runs = oracle_runs()
    folders = dict(zip(runs, fitted(runs.values(), root, jobs), strict=True))
    data = load_data(folders["one"])
    one = multibeta.load(folders["one"])
    curve = multibeta.sweep(one, data, ORACLE_BETAS, metrics="squared_error")
    rows = []
    for row in curve.rows:
        dedicated = multibeta.load(folders[f"{row['beta']:g}"])
        rows.append(
            {
                "beta": row["beta"],
                "closed_form": optimal_variance(data.spectrum, row["beta"], LATENTS),
                "dedicated": dedicated.likelihood.sigma**2,
                "one": row["profiled_sigma"] ** 2,
            }
        )
    return rows


def straightness(curve: Curve) -> dict[str, float]:
    """Return how straight log S is over the rate, and the log of what S has above its floor.

    The floor is S at the lowest β: what the decoder and the number of latents leave, whatever the
    rate. With Z latents in use, each with an error of θ/curvature, S − floor is proportional to
    θ and R to −Z/2 · log θ: a line of slope −2/Z. It is fitted from β = 0.2 on, where S is well
    above the floor.
    """
    rate, error = np.array(curve["rate_nats"]), np.array(curve["squared_error"])
    above = np.array(curve["beta"]) >= 0.2
    _, plain = _line(rate, np.log(error))
    slope, excess = _line(rate[above], np.log(error[above] - error[0]))
    return {
        "r_squared": plain,
        "r_squared_above_floor": excess,
        "slope_above_floor": slope,
        "latents_by_slope": -2 / slope,
        "latents": curve.about["latent_dim"],
    }


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and R² of the straight line through points."""
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    return float(slope), float(1 - residual.var() / y.var())


def slopes(curve: Curve) -> list[dict[str, float]]:
    """Return d log S / dR between neighbours, as measured and as theory has it at an optimum.

    dD = −β dR: with one σ for all β, d log S / dR = −2βσ²/S; with the best σ of each β, −2β/d.
    β and S are the geometric means of the neighbours'.
    """
    about, found = curve.about, []
    for low, high in itertools.pairwise(curve.rows):
        beta = math.sqrt(low["beta"] * high["beta"])
        error = math.sqrt(low["squared_error"] * high["squared_error"])
        variance = about["sigma"] ** 2 if about["sigma"] is not None else error / about["d"]
        found.append(
            {
                "beta": beta,
                "measured": math.log(low["squared_error"] / high["squared_error"])
                / (low["rate_nats"] - high["rate_nats"]),
                "theory": -2 * beta * variance / error,
            }
        )
    return found


def draw() -> None:
    """Draw the curves of each σ in the three conventions."""
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(DATA), len(CONVENTIONS))
    for row, data in zip(axes, DATA, strict=True):
        for ax, (column, label) in zip(row, CONVENTIONS.items(), strict=True):
            for sigma in SIGMAS:
                curve = curve_of(f"sigma_{data}_{sigma}")
                ax.plot(curve["rate_nats"], curve[column], "o-", markersize=3, label=sigma)
            if column == "squared_error":
                ax.set_yscale("log")
            ax.set(xlabel="rate R (nats per example)", ylabel=label)
            ax.grid(alpha=0.25, linewidth=0.6)
            ax.spines[["top", "right"]].set_visible(False)
        row[0].set_title(data, loc="left", fontsize=9)
    axes[0, 0].legend(title="σ", frameon=False, fontsize=9)
    with replacing(RESULTS / "sigma.png") as temporary:
        figure.savefig(temporary, dpi=130)


def main() -> None:
    """Make what is missing, and the summary."""
    given = arguments(__doc__).parse_args()
    make((run(data, sigma) for data in DATA for sigma in SIGMAS), COMMAND, given.root, given.jobs)
    found: dict[str, Any] = {"oracle": oracle(given.root, given.jobs)}
    for data in DATA:
        curves = {sigma: curve_of(run(data, sigma).name) for sigma in SIGMAS}
        found[data] = {
            sigma: {
                "sigma": curve.about["sigma"],
                "straightness": straightness(curve),
                "slopes": slopes(curve),
            }
            for sigma, curve in curves.items()
        }
    save("sigma", COMMAND, found)
    draw()


if __name__ == "__main__":
    main()
