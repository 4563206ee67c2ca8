"""One model against dedicated ones: statically binarised MNIST, ResNet, 8 epochs of batches of 64.

    python -m benchmarks.gap DATA_ROOT [--jobs 2]

DATA_ROOT holds binarized_mnist/. Both sides have the same network, optimiser, schedule and steps.
With the first seed each is trained at every learning rate of the grid; the rate with the lowest
D + βR on the validation set (a dedicated model: at its β; the one model: mean over the four β's)
is trained with the other seeds.
Finished runs are skipped. The summary is gap.json.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from benchmarks.record import save
from benchmarks.runs import (
    GRID,
    Run,
    arguments,
    curve_of,
    falls,
    is_there,
    make,
    objective_at,
    result_of,
    self_regret,
)
from multibeta.compare import bd_rate, distortion_at
from multibeta.curve import Curve

BETAS = (0.01, 0.1, 1.0, 10.0)
RATES = (2e-3, 4e-3)
SEEDS = (0, 1, 2)
FOUR = ",".join(f"{beta:g}" for beta in BETAS)
COMMAND = "python -m benchmarks.gap DATA_ROOT"
CONFIG = (
    "--config=binarized_mnist.yaml",
    "--data.root=DATA_ROOT",
    "--trainer.limit_val_batches=0",
    "--model.warmup=0.05",
)


@dataclass(frozen=True)
class Side:
    """A way to get β-VAEs: one model for all β's, or a dedicated one.

    Args:
        name: In result files.
        options: That make it so.
        betas: The β's it is compared at.
        grid: The β's that it is measured at on the test set; those by default.
        config: The options of all sides.
        benchmark: Whose result files they are.
    """

    name: str
    options: tuple[str, ...]
    betas: tuple[float, ...]
    grid: str | None = None
    config: tuple[str, ...] = CONFIG
    benchmark: str = "gap"

    def run(self, lr: float, seed: int) -> Run:
        """Return the run with a learning rate and a seed."""
        options = (*self.config, *self.options, f"--model.lr={lr:g}", f"--seed_everything={seed}")
        four = ",".join(f"{beta:g}" for beta in self.betas)
        curves = {"val": four, "test": self.grid or four, "train": four}
        return Run(f"{self.benchmark}_{self.name}_lr{lr:g}_seed{seed}", options, curves)

    def best(self) -> float:
        """Return the learning rate of the grid with the lowest D + βR on the validation set.

        Of the rates whose run is there; all are, unless the benchmark was interrupted.
        """

        def loss(lr: float) -> float:
            return fmean(curve_of(self.run(lr, 0).name, "val")["objective_nats"])

        return min((lr for lr in RATES if is_there(self.run(lr, 0).name)), key=loss)

    def names(self) -> list[str]:
        """Return the names of the results at the best learning rate, in the order of the seeds."""
        if not any(is_there(self.run(lr, 0).name) for lr in RATES):
            return []
        runs = [self.run(self.best(), seed).name for seed in SEEDS]
        return [name for name in runs if is_there(name)]


# Two β's an example, of its own, fit more closely at as many steps. With the warm-up, what was the
# default when these were run.
DRAWS = (
    "--model.draws.betas_per_example=2", "--model.draws.per=example", "--model.draws.ends=0.2",
    "--model.draws.tilt=1.5", "--model.draws.balance=0.5",
)  # fmt: skip
ONE = Side("one", DRAWS, BETAS, GRID)
# One β an example, drawn log-uniformly, and no weighting: as published.
PUBLISHED = (
    "--model.draws.betas_per_example=1", "--model.draws.ends=0", "--model.draws.tilt=1",
    "--model.draws.opening=0", "--model.draws.balance=0", "--model.draws.per=example",
)  # fmt: skip
GATE = Side("gate", ("--model.conditioning=gate", *PUBLISHED), BETAS, GRID)
DEDICATED = tuple(
    Side(f"dedicated{beta:g}", ("--model.conditioning=none", f"--model.betas={beta:g}"), (beta,))
    for beta in BETAS
)
SIDES = (ONE, *DEDICATED, GATE)


def summary() -> dict[str, Any]:
    """Return the comparison: means over the seeds that are there, with their standard errors."""
    names = {side.name: side.names() for side in SIDES}
    found: dict[str, Any] = {
        "runs": {
            side.name: {
                "lr": side.best(),
                "lr_tried": [lr for lr in RATES if is_there(side.run(lr, 0).name)],
                "seeds": len(names[side.name]),
                "parameters": result_of(names[side.name][0])["parameters"],
            }
            for side in SIDES
            if names[side.name]
        }
    }
    for split in ("test", "train"):
        points = {
            side.betas[0]: [curve_of(name, split).rows[0] for name in names[side.name]]
            for side in DEDICATED
        }
        found[split] = rows = [
            {"beta": beta, "dedicated": spread(point["objective_nats"] for point in points[beta])}
            for beta in BETAS
        ]
        for side in (ONE, GATE):
            curves = [curve_of(name, split) for name in names[side.name]]
            for row in rows:
                row[side.name] = spread(objective_at(curve, row["beta"]) for curve in curves)
                row[f"{side.name}_minus_dedicated"] = difference(row[side.name], row["dedicated"])
                if split == "test":
                    # Curves and points of the same seed make a pair.
                    differences = [
                        (distortion_at(curve, point["rate_nats"]), point["distortion_nats"])
                        for curve, point in zip(curves, points[row["beta"]], strict=False)
                    ]
                    row[f"{side.name}_distortion_at_equal_rate"] = spread(
                        mine - other for mine, other in differences if mine is not None
                    )
            if split == "test" and curves:
                sets = zip(*points.values(), strict=False)
                found["runs"][side.name] |= {
                    "bd_rate_percent": spread(
                        value for value in map(bd_rate_of, curves, sets) if value is not None
                    ),
                    "self_regret": spread(map(self_regret, curves)),
                    "rate_falls": all(map(falls, curves)),
                    "channels": [result_of(name)["channels"] for name in names[side.name]],
                }
    return found


def bd_rate_of(curve: Curve, points: Sequence[dict[str, float]]) -> float | None:
    """Return the BD-rate of a curve, at the β's of the dedicated models' points, against them."""
    betas = [point["beta"] for point in points]
    ours = tuple(row for row in curve.rows if row["beta"] in betas)
    return bd_rate(Curve(tuple(points), {}), Curve(ours, {}))


def spread(values: Iterable[float]) -> dict[str, Any] | None:
    """Return mean, standard error and values; None if there are none."""
    values = list(values)
    if not values:
        return None
    se = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"mean": fmean(values), "se": se, "values": values}


def difference(a: dict[str, Any] | None, b: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the difference of two means of independent runs."""
    if a is None or b is None:
        return None
    both = a["se"] is not None and b["se"] is not None
    return {
        "mean": a["mean"] - b["mean"],
        "se": math.hypot(a["se"], b["se"]) if both else None,
    }


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--summary", action="store_true", help="only sum up what is there")
    given = parser.parse_args()
    if given.summary:
        save("gap", COMMAND, summary())
        return
    make((side.run(lr, 0) for side in SIDES for lr in RATES), COMMAND, given.root, given.jobs)
    make(
        (side.run(side.best(), seed) for seed in SEEDS[1:] for side in SIDES),
        COMMAND, given.root, given.jobs,
    )  # fmt: skip
    save("gap", COMMAND, summary())


if __name__ == "__main__":
    main()
