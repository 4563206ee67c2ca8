"""Ten times the budget: is the one model still ahead, and does it overfit sooner or later?

    python -m benchmarks.long DATA_ROOT [--jobs 2] [--sets mnist_mlp …]

100 epochs of MNIST, one model and dedicated ones with as many steps, validated after every fifth.
Of each run the last and the best checkpoint are measured on the test set, and the validated J is
kept, which says where it was lowest. One seed, the default learning rate. Finished runs are
skipped. The summary is long.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.record import save
from benchmarks.runs import Run, arguments, curve_of, is_there, make, objective_at, result_of

COMMAND = "python -m benchmarks.long DATA_ROOT"
EPOCHS, EVERY = 100, 5
CHECKPOINTS = ("last", "best")
GRID = (0.01, 1.0, 10.0)


@dataclass(frozen=True)
class Set:
    """A network.

    Args:
        label: In tables.
        options: Of ``multibeta fit``.
    """

    label: str
    options: tuple[str, ...]


SETS = {
    "mnist_mlp": Set("MNIST, MLP", ("--model.network=MLP",)),
    "mnist_conv": Set(
        "MNIST, Conv",
        ("--model.network=Conv", "--model.network.width=16", "--model.network.depth=3"),
    ),
}


def run_of(name: str, beta: float | None = None) -> Run:
    """Return the run of the one model, or of the dedicated one at a β."""
    options = [
        "--config=mnist.yaml", "--data.root=DATA_ROOT", "--data.batch_size=128",
        *SETS[name].options, f"--trainer.max_epochs={EPOCHS}",
        f"--trainer.check_val_every_n_epoch={EVERY}",
    ]  # fmt: skip
    if beta is not None:
        options += ["--model.conditioning=none", f"--model.betas={beta!r}"]
    side = "one" if beta is None else f"{beta:g}"
    betas = ",".join(map(repr, GRID)) if beta is None else repr(beta)
    return Run(
        f"long_{name}_{side}", tuple(options), {"test": betas}, checkpoints=CHECKPOINTS
    )  # fmt: skip


def summary() -> dict[str, Any]:
    """Return J of both sides, of the last and the best checkpoint, and the epoch of the best."""
    found: dict[str, Any] = {}
    for name, of in SETS.items():
        one = run_of(name).name
        rows = []
        for beta in GRID:
            other = run_of(name, beta).name
            if not (is_there(one) and is_there(other)):
                continue
            row: dict[str, Any] = {"beta": beta}
            for side, run in (("one", one), ("dedicated", other)):
                for checkpoint in CHECKPOINTS:
                    row[f"{side}_{checkpoint}"] = objective_at(curve_of(run, checkpoint), beta)
                row[f"{side}_best_epoch"] = best_epoch(run, beta)
            rows.append(row)
        if rows:
            found[name] = {"label": of.label, "rows": rows}
    return found


def best_epoch(run: str, beta: float) -> int:
    """Return after how many epochs the validated J was lowest, at the grid's β nearest to one."""
    rows = result_of(run)["validated"]
    columns = [name for name in rows[0] if name.startswith("val/objective_nats@")]
    column = min(columns, key=lambda name: abs(float(name.partition("@")[2]) / beta - 1))
    best = min(range(len(rows)), key=lambda i: rows[i][column])
    return (best + 1) * EVERY


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS], metavar="SET")
    given = parser.parse_args()
    for name in given.sets:
        runs = [run_of(name), *(run_of(name, beta) for beta in GRID)]
        make(runs, COMMAND, given.root, given.jobs)
        save("long", COMMAND, {"epochs": EPOCHS, "sets": summary()})


if __name__ == "__main__":
    main()
