"""The end of a trained range against its inside: β in [.1, 1] against [.01, 10], binarised MNIST.

    python -m benchmarks.ends DATA_ROOT [--jobs 2]

J at .1 and at 1 of models trained on [.1, 1], where both are ends, minus that of the models of the
gap benchmark, where both lie inside: the same network, steps and learning rate. The summary is
ends.json.
"""

from __future__ import annotations

from typing import Any

from benchmarks.gap import ONE, SEEDS, Side, difference, spread
from benchmarks.record import save
from benchmarks.runs import arguments, curve_of, is_there, make, objective_at

COMMAND = "python -m benchmarks.ends DATA_ROOT"
BETAS = (0.1, 1.0)
SHORT = Side("short", ("--model.betas=0.1:1",), BETAS, "0.1:1:16", benchmark="ends")


def summary(lr: float) -> list[dict[str, Any]]:
    """Return J of both at each β, over the seeds that are there."""
    found: list[dict[str, Any]] = []
    for beta in BETAS:
        row: dict[str, Any] = {"beta": beta}
        for name, side in {"end": SHORT, "inside": ONE}.items():
            names = [side.run(lr, seed).name for seed in SEEDS]
            values = [objective_at(curve_of(name), beta) for name in names if is_there(name)]
            row[name] = spread(values)
        found.append({**row, "end_minus_inside": difference(row["end"], row["inside"])})
    return found


def main() -> None:
    """Make what is missing, and the summary."""
    given = arguments(__doc__).parse_args()
    lr = ONE.best()
    runs = [side.run(lr, seed) for seed in SEEDS for side in (SHORT, ONE)]
    make(runs, COMMAND, given.root, given.jobs)
    save("ends", COMMAND, {"lr": lr, "rows": summary(lr)})


if __name__ == "__main__":
    main()
