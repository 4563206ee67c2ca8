"""One model against dedicated ones: statically binarised MNIST, ResNet, 8 epochs of batches of 64.

    python -m benchmarks.gap DATA_ROOT [--jobs 2]

DATA_ROOT holds binarized_mnist/. Both sides have the same network, optimiser, schedule and steps.
With the first seed each is trained at every learning rate of the grid; the rate with the lowest
D + βR on the validation set (a dedicated model: at its β; the one model: mean over the four β's)
is trained with the other seeds. Finished runs are skipped. The summary is gap.json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.record import save
from benchmarks.runs import (
    GRID,
    Run,
    curve_of,
    falls,
    make,
    objective_at,
    result_of,
    self_regret,
)
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
)


@dataclass(frozen=True)
class Side:
    """A way to get β-VAEs: one model for all β's, or a dedicated one.

    Args:
        name: In result files.
        options: That make it so.
        betas: The β's it is compared at.
    """

    name: str
    options: tuple[str, ...]
    betas: tuple[float, ...]

    def run(self, lr: float, seed: int) -> Run:
        """Return the run with a learning rate and a seed."""
        options = (*CONFIG, *self.options, f"--model.lr={lr:g}", f"--seed_everything={seed}")
        four = ",".join(f"{beta:g}" for beta in self.betas)
        test = GRID if len(self.betas) > 1 else four
        curves = {"val": four, "test": test, "train": four}
        return Run(f"gap_{self.name}_lr{lr:g}_seed{seed}", options, curves)

    def best(self) -> float:
        """Return the learning rate of the grid with the lowest D + βR on the validation set."""
        return min(
            RATES, key=lambda lr: fmean(curve_of(self.run(lr, 0).name, "val")["objective_nats"])
        )


ONE = Side("one", (), BETAS)
# One β an example, drawn log-uniformly, and no weighting: as published.
GATE = Side("gate", ("--model.conditioning=gate", "--model.ends=0", "--model.balance=0"), BETAS)
DEDICATED = tuple(
    Side(f"dedicated{beta:g}", ("--model.conditioning=none", f"--model.betas={beta:g}"), (beta,))
    for beta in BETAS
)
SIDES = (ONE, *DEDICATED, GATE)


def summary() -> dict[str, Any]:
    """Return the comparison, means over the seeds with their standard errors."""
    names = {side.name: [side.run(side.best(), seed).name for seed in SEEDS] for side in SIDES}
    found: dict[str, Any] = {
        "seeds": len(SEEDS),
        "lr": {side.name: side.best() for side in SIDES},
    }
    for split in ("test", "train"):
        dedicated = {
            side.betas[0]: [curve_of(name, split).rows[0] for name in names[side.name]]
            for side in DEDICATED
        }
        rows = [
            {"beta": b, "dedicated": _spread(r["objective_nats"] for r in dedicated[b])}
            for b in BETAS
        ]
        for side in (ONE, GATE):
            curves = [curve_of(name, split) for name in names[side.name]]
            for row in rows:
                beta = row["beta"]
                values = [objective_at(curve, beta) for curve in curves]
                row[side.name] = _spread(values)
                row[f"{side.name}_minus_dedicated"] = _difference(row[side.name], row["dedicated"])
                if split == "test":
                    points = dedicated[beta]
                    row[f"{side.name}_distortion_at_equal_rate"] = _spread(
                        distortion_at(curve, p["rate_nats"]) - p["distortion_nats"]
                        for curve, p in zip(curves, points, strict=True)
                    )
            if split == "test":
                found[f"{side.name}_bd_rate_percent"] = _spread(
                    bd_rate(curve, [dedicated[beta][seed] for beta in BETAS])
                    for seed, curve in enumerate(curves)
                )
                found[f"{side.name}_self_regret"] = _spread(map(self_regret, curves))
                found[f"{side.name}_rate_falls"] = all(map(falls, curves))
                found[f"{side.name}_channels_without_gradient"] = max(
                    result_of(name)["channels"]["without_gradient"] for name in names[side.name]
                )
        found[split] = rows
    for side in SIDES:
        results = [result_of(name) for name in names[side.name]]
        found[f"{side.name}_parameters"] = results[0]["parameters"]
        found[f"{side.name}_fit_seconds"] = [result["fit_seconds"] for result in results]
    return found


def distortion_at(curve: Curve, rate: float) -> float:
    """Return the curve's distortion at a rate, linear between its points."""
    rates, distortions = curve["rate_nats"][::-1], curve["distortion_nats"][::-1]
    return float(np.interp(rate, rates, distortions))


def bd_rate(curve: Curve, points: list[dict[str, float]]) -> float:
    """Return how many per cent the curve's rate lies above four points' at equal distortion.

    A cubic through the four points' log R as a function of D, the curve's own log R, linear
    between its points, and the mean difference over the distortions both reach (Bjøntegaard 2001,
    VCEG-M33, with the curve, which is dense, left as it is).
    """
    distortions = [point["distortion_nats"] for point in points]
    cubic = np.polyfit(distortions, [math.log(point["rate_nats"]) for point in points], 3)
    low = max(min(distortions), min(curve["distortion_nats"]))
    high = min(max(distortions), max(curve["distortion_nats"]))
    at = np.linspace(low, high, 1000)
    order = np.argsort(curve["distortion_nats"])
    of_curve = np.interp(
        at, np.array(curve["distortion_nats"])[order], np.log(curve["rate_nats"])[order]
    )
    return float(100 * np.expm1((of_curve - np.polyval(cubic, at)).mean()))


def _spread(values: Iterable[float]) -> dict[str, Any]:
    values = list(values)
    return {
        "mean": fmean(values),
        "se": stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        "values": values,
    }


def _difference(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    """Return the difference of two means of independent runs."""
    return {"mean": a["mean"] - b["mean"], "se": math.hypot(a["se"], b["se"])}


def main() -> None:
    """Make what is missing, and the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    given = parser.parse_args()
    make((side.run(lr, 0) for side in SIDES for lr in RATES), COMMAND, given.root, given.jobs)
    make(
        (side.run(side.best(), seed) for seed in SEEDS[1:] for side in SIDES),
        COMMAND, given.root, given.jobs,
    )  # fmt: skip
    save("gap", COMMAND, summary())


if __name__ == "__main__":
    main()
