"""The defaults, unchanged, on other data: Omniglot at 28×28 and CelebA at 32×32.

    python -m benchmarks.transfer DATA_ROOT [--jobs 2]

One model for β in [.01, 10] against dedicated models at the two ends and the middle, with the same
network and steps and the default learning rate. DATA_ROOT holds omniglot/ and celeba/. The summary
is transfer.json.
"""

from __future__ import annotations

from typing import Any

from benchmarks.gap import SEEDS, Side, difference, spread
from benchmarks.record import save
from benchmarks.runs import arguments, curve_of, falls, is_there, make, objective_at, self_regret

COMMAND = "python -m benchmarks.transfer DATA_ROOT"
LR = 2e-3
BETAS = (0.01, 0.316227766017, 10.0)
GRID = "0.01:10:41"
DATA = {
    "omniglot": ("--config=omniglot.yaml",),
    "celeba": (
        "--config=celeba.yaml",
        "--data.size=32",
        "--model.network=Conv",
        "--model.network.depth=3",
    ),
}


def sides(data: str) -> tuple[Side, ...]:
    """Return the one model and the dedicated ones."""
    config = (*DATA[data], "--data.root=DATA_ROOT", "--trainer.limit_val_batches=0")
    one = Side(f"{data}_one", (), BETAS, GRID, config, "transfer")
    dedicated = (
        Side(
            f"{data}_dedicated{beta:g}",
            ("--model.conditioning=none", f"--model.betas={beta}"),
            (beta,),
            None,
            config,
            "transfer",
        )
        for beta in BETAS
    )
    return one, *dedicated


def summary(data: str) -> dict[str, Any]:
    """Return J of both at each β, over the seeds that are there."""
    one, *dedicated = sides(data)
    curves = [curve_of(name) for name in _names(one)]
    rows: list[dict[str, Any]] = []
    for side in dedicated:
        (beta,) = side.betas
        of_one = spread(objective_at(curve, beta) for curve in curves)
        of_dedicated = spread(objective_at(curve_of(name), beta) for name in _names(side))
        rows.append(
            {"beta": beta, "one": of_one, "dedicated": of_dedicated,
             "one_minus_dedicated": difference(of_one, of_dedicated)}
        )  # fmt: skip
    return {
        "rows": rows,
        "self_regret": [self_regret(curve) for curve in curves],
        "rate_falls": [falls(curve) for curve in curves],
    }


def _names(side: Side) -> list[str]:
    names = [side.run(LR, seed).name for seed in SEEDS]
    return [name for name in names if is_there(name)]


def main() -> None:
    """Make what is missing, and the summary."""
    given = arguments(__doc__).parse_args()
    runs = [side.run(LR, seed) for seed in SEEDS for data in DATA for side in sides(data)]
    make(runs, COMMAND, given.root, given.jobs)
    save("transfer", COMMAND, {"lr": LR} | {data: summary(data) for data in DATA})


if __name__ == "__main__":
    main()
