"""What a change to principal axes early in the training is worth, for networks without an opening.

    python -m benchmarks.turned DATA_ROOT [--jobs 2] [--sets linear …]

The one model of benchmarks.price and of benchmarks.oracle, with
multibeta.principal_axes.PrincipalAxes and without, three seeds, paired. Finished runs are skipped.
The summary is turned.json.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

from benchmarks import oracle, price
from benchmarks.gap import spread
from benchmarks.record import save
from benchmarks.runs import Run, arguments, curve_of, is_there, make, objective_at

COMMAND = "python -m benchmarks.turned DATA_ROOT"
CALLBACK = "--trainer.callbacks+=multibeta.principal_axes.PrincipalAxes"
SEEDS = (0, 1, 2)
SETS = {
    "linear": "binarised MNIST, linear",
    "clothes_mlp": "clothes, MLP",
    "cells_mlp": "cells, MLP",
}


def plain(name: str, seed: int) -> Run:
    """Return the run without the change, of the benchmark that has it."""
    if name == "linear":
        return oracle.run("mnist", seed)
    return price.one(price.SETS[name], price.RATES[1], seed)


def turned(name: str, seed: int) -> Run:
    """Return the run with it."""
    run = plain(name, seed)
    return replace(run, name=f"turned_{name}_seed{seed}", options=(*run.options, CALLBACK))


def summary(root: str) -> dict[str, Any]:
    """Return J of both, or its excess over the optimum, over the seeds that are there."""
    found: dict[str, Any] = {}
    for name, label in SETS.items():
        pairs = [
            (plain(name, seed).name, turned(name, seed).name)
            for seed in SEEDS
            if is_there(turned(name, seed).name) and is_there(plain(name, seed).name)
        ]
        if not pairs:
            continue
        found[name] = {"label": label, "seeds": len(pairs)}
        if name == "linear":
            optima = oracle.spectrum(root)
            for i, side in enumerate(("plain", "turned")):
                rows = [oracle.excess(curve_of(pair[i], "train"), optima) for pair in pairs]
                found[name][side] = {
                    "mean_excess_nats": fmean(map(fmean, rows)),
                    "max_excess_nats": max(map(max, rows)),
                }
            continue
        found[name]["rows"] = [
            {
                "beta": beta,
                "plain": spread(objective_at(curve_of(a), beta) for a, _ in pairs),
                "turned_minus_plain": spread(
                    objective_at(curve_of(b), beta) - objective_at(curve_of(a), beta)
                    for a, b in pairs
                ),
            }
            for beta in price.SIX
        ]
    return found


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS], metavar="SET")
    given = parser.parse_args()
    for name in given.sets:
        runs = [each(name, seed) for seed in SEEDS for each in (plain, turned)]
        make(runs, COMMAND, given.root, given.jobs)
    save("turned", COMMAND, {"sets": summary(given.root)})


if __name__ == "__main__":
    main()
