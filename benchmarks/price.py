"""What a user compares with: one model for all β's, or dedicated ones, at three budgets.

    python -m benchmarks.price DATA_ROOT [--jobs 2] [--sets digits_mlp …] [--budgets total4 …]

*Same steps*: each dedicated model has as many steps as the one. *Two β's*: so has it, and the one
model has two β's an example. *Same time*: as much processor time as the one run took. *Same
total*: K dedicated models share it, 1/K each, with a schedule of that length. The times are of
training steps, the two kinds in turn, in processor time. Each side takes the learning rate of the
grid that is best on the validation set with the first seed (a dedicated model at its β, the one
model over six β's); the longest runs take that which is best in a quarter of the time. Finished
runs are skipped. The summary is price.json.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from matplotlib.figure import Figure

import multibeta
from benchmarks.gap import spread
from benchmarks.record import save
from benchmarks.runs import (
    Run,
    arguments,
    curve_of,
    fitted,
    is_there,
    make,
    objective_at,
    result_of,
)
from benchmarks.speed import stepper
from multibeta.betas import parse_betas
from multibeta.checkpoints import load_data
from multibeta.compare import distortion_at
from multibeta.files import replacing
from multibeta.settings import make as model_of

COMMAND = "python -m benchmarks.price DATA_ROOT"
RATES = (2e-3, 4e-3)
SIX = (0.01, 0.05, 0.3, 1.0, 3.0, 10.0)
ROUNDS = 40
BUDGETS = {
    "steps": "same steps", "time": "same time", "total4": "same total, K = 4",
    "total8": "same total, K = 8", "two": "same steps, two β's an example",
}  # fmt: skip
"""What they are called in tables."""


@dataclass(frozen=True)
class Set:
    """Data and a network.

    Args:
        name: In result files.
        label: In tables.
        options: Of ``multibeta fit``.
        steps: Of the one model.
        seeds: How many.
        budgets: Which are compared.
        rates: Learning rates that each side may choose from.
        whole: The β's of dedicated models that have all the time or all the steps.
    """

    name: str
    label: str
    options: tuple[str, ...]
    steps: int
    seeds: int = 3
    budgets: tuple[str, ...] = (*BUDGETS,)
    rates: tuple[float, ...] = RATES
    whole: tuple[float, ...] = SIX

    @property
    def measured(self) -> str:
        """All β's at which anything is compared."""
        return ",".join(map(repr, sorted({*SIX, *betas_of("total4"), *betas_of("total8")})))


def _npz(name: str) -> tuple[str, ...]:
    return "--config=npz.yaml", f"--data.root=DATA_ROOT/{name}", "--model.likelihood=Bernoulli"


ROOT = "--data.root=DATA_ROOT"
CLOTHES = _npz("fashion_mnist/fashion_mnist.npz")
CONV = ("--model.network=Conv", "--model.network.width=32", "--model.network.depth=3")
ECG = (
    "--config=npz.yaml", "--data.root=DATA_ROOT/ecg5000/ecg5000.npz",
    "--model.likelihood.sigma=0.3", "--model.latent_dim=16",
)  # fmt: skip
CELLS = (
    "--config=npz.yaml", "--data.root=DATA_ROOT/cells/pbmc200.npz",
    "--model.likelihood=NegativeBinomial", "--model.latent_dim=16", "--data.batch_size=128",
)  # fmt: skip
LONG: dict[str, Any] = {"budgets": ("time", "total4", "total8"), "whole": (0.01, 1.0, 10.0)}
"""Sets whose runs take a quarter of an hour."""
SETS = {
    of.name: of
    for of in (
        Set("digits_mlp", "digits, MLP", ("--config=digits.yaml",), 1600),
        Set("clothes_mlp", "clothes, MLP", (*CLOTHES, "--data.batch_size=128"), 3900),
        Set("clothes_conv", "clothes, Conv", (*CLOTHES, *CONV), 4686),
        Set("ecg_conv", "heartbeats, Conv", (*ECG, *CONV), 3000),
        Set("cells_mlp", "cells, MLP", CELLS, 3000),
        Set(
            "mnist_resnet", "binarised MNIST, ResNet",
            ("--config=binarized_mnist.yaml", ROOT), 3124, **LONG,
        ),
        Set("omniglot_resnet", "Omniglot, ResNet", ("--config=omniglot.yaml", ROOT), 2000, **LONG),
        Set("celeba_conv", "CelebA, Conv", ("--config=celeba.yaml", ROOT), 2500, **LONG),
    )
}  # fmt: skip


def betas_of(budget: str, whole: tuple[float, ...] = SIX) -> tuple[float, ...]:
    """Return the β's of the dedicated models of a budget."""
    if not budget.startswith("total"):
        return whole
    return tuple(parse_betas(f"0.01:10:{budget.removeprefix('total')}"))


def _run(of: Set, side: str, steps: int, lr: float, seed: int, beta: float | None) -> Run:
    options = [*of.options, "--trainer.limit_val_batches=0", "--trainer.max_epochs=-1"]
    options += [f"--trainer.max_steps={steps}", f"--model.lr={lr:g}", f"--seed_everything={seed}"]
    if beta is not None:
        options += ["--model.conditioning=none", f"--model.betas={beta!r}"]
    betas = of.measured if beta is None else repr(beta)
    name = f"price_{of.name}_{side}_lr{lr:g}_seed{seed}"
    return Run(name, tuple(options), {"val": betas, "test": betas}, {"active_units": {}})


def one(of: Set, lr: float, seed: int, budget: str = "") -> Run:
    """Return the run of the one model for a budget."""
    if budget != "two":
        return _run(of, "one", of.steps, lr, seed, None)
    run = _run(of, "two", of.steps, lr, seed, None)
    return replace(run, options=(*run.options, "--model.draws.betas_per_example=2"))


def _opposite(budget: str) -> str:
    """Return the budget of the dedicated runs that a budget is compared with."""
    return "steps" if budget == "two" else budget


def dedicated(of: Set, budget: str, beta: float, lr: float, seed: int) -> Run:
    """Return the run of a dedicated model."""
    budget = _opposite(budget)
    ratio = 1.0 if budget == "steps" else result_of(f"price_{of.name}_step")["ratio"]
    share = int(budget.removeprefix("total")) if budget.startswith("total") else 1
    steps = round(of.steps * ratio / share)
    return _run(of, f"{budget}_{beta:.4g}", steps, lr, seed, beta)


def best_rate(runs: dict[float, Run], betas: tuple[float, ...]) -> float:
    """Return the learning rate with the lowest D + βR on the validation set."""

    def loss(lr: float) -> float:
        curve = curve_of(runs[lr].name, "val")
        return fmean(objective_at(curve, beta) for beta in betas)

    return min((lr for lr in runs if is_there(runs[lr].name)), key=loss)


def tried(of: Set, budget: str, beta: float) -> dict[float, Run]:
    """Return the first dedicated runs at a β, one for each learning rate that it may have."""
    rates: tuple[float, ...] = of.rates
    if of.whole != SIX and not budget.startswith("total"):
        short = {lr: run for lr, run in tried(of, "total4", beta).items() if is_there(run.name)}
        rates = (best_rate(short, (beta,)),) if short else ()
    return {lr: dedicated(of, budget, beta, lr, 0) for lr in rates}


def measure_step(of: Set, root: str) -> None:
    """Time a step of the one model and a plain one, in turn, in processor time."""
    if is_there(f"price_{of.name}_step"):
        return
    (folder,) = fitted([_run(of, "step", 1, of.rates[0], 0, None)], root, 1)
    torch.set_num_threads(1)
    model, data = multibeta.load(folder), load_data(folder)
    data.setup("fit")
    x = model.read(next(iter(data.train_dataloader()))).x
    models = {
        "one": model_of(**model.settings),
        "plain": model_of(**{**model.settings, "conditioning": "none", "betas": "1"}),
    }
    steps = {name: stepper(each.train()) for name, each in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(ROUNDS + 5):
        for name in sorted(steps, reverse=bool(i % 2)):
            begun = time.process_time()
            steps[name](x)
            if i >= 5:
                seconds[name].append(time.process_time() - begun)
    found = {name: median(of_one) for name, of_one in seconds.items()}
    result = {"rounds": ROUNDS, "seconds": found, "ratio": found["one"] / found["plain"]}
    save(f"price_{of.name}_step", COMMAND, result)


def sides(of: Set, budgets: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Yield the budgets and β's of dedicated models, each once."""
    for budget in dict.fromkeys(map(_opposite, budgets)):
        for beta in betas_of(budget, of.whole):
            yield budget, beta


def summary() -> dict[str, Any]:
    """Return J of both sides at each β, for each set and budget, over the seeds that are there."""
    found: dict[str, Any] = {}
    for of in SETS.values():
        ours = {lr: one(of, lr, 0) for lr in of.rates}
        if not is_there(f"price_{of.name}_step"):
            continue
        rate = best_rate(ours, SIX)
        result: dict[str, Any] = {
            "label": of.label, "steps": of.steps, "lr": rate, "budgets": {},
            "step_ratio": result_of(f"price_{of.name}_step")["ratio"],
        }  # fmt: skip
        for budget in of.budgets:
            betas = betas_of(budget, of.whole)
            rows = [row for beta in betas if (row := _row(of, budget, beta, rate))]
            if len(rows) == len(betas):
                result["budgets"][budget] = rows
        found[of.name] = result
    return found


def _row(of: Set, budget: str, beta: float, rate: float) -> dict[str, Any] | None:
    first = tried(of, budget, beta)
    if not any(is_there(run.name) for run in first.values()):
        return None
    theirs = best_rate(first, (beta,))
    pairs = [
        (one(of, rate, seed, budget).name, dedicated(of, budget, beta, theirs, seed).name)
        for seed in range(of.seeds)
    ]
    pairs = [pair for pair in pairs if all(map(is_there, pair))]
    if not pairs:
        return None
    rows = [
        (_at(curve_of(mine), beta), curve_of(other).rows[0]) for mine, other in pairs
    ]  # fmt: skip
    found = {
        f"{side}_{name}": spread(pair[i][column] for pair in rows)
        for i, side in enumerate(("one", "dedicated"))
        for name, column in COLUMNS.items()
    }
    differences = [a["objective_nats"] - b["objective_nats"] for a, b in rows]
    at_equal_rate = [
        (distortion_at(curve_of(mine), b["rate_nats"]), b["distortion_nats"])
        for (mine, _), (_, b) in zip(pairs, rows, strict=True)
    ]
    return {
        "beta": beta, "lr": theirs, "seeds": len(rows), **found,
        "one_minus_dedicated": spread(differences),
        "distortion_at_equal_rate": spread(
            mine - other for mine, other in at_equal_rate if mine is not None
        ),
        "share_of_j": fmean(differences) / abs(fmean(b["objective_nats"] for _, b in rows)),
    }  # fmt: skip


COLUMNS = {
    "objective": "objective_nats", "distortion": "distortion_nats", "rate": "rate_nats",
    "active": "active_units",
}  # fmt: skip


def _at(curve: multibeta.Curve, beta: float) -> dict[str, float]:
    return min(curve.rows, key=lambda row: abs(row["beta"] / beta - 1))


def draw(sets: dict[str, Any], path: Path) -> None:
    """Draw one model minus dedicated ones over β, a panel a set, a line a budget.

    Args:
        sets: Of price.json.
        path: The picture.
    """
    figure = Figure(figsize=(9.6, 2.6 * math.ceil(len(sets) / 3)), layout="constrained")
    panels = figure.subplots(math.ceil(len(sets) / 3), 3, squeeze=False).flatten()
    for axes, of in zip(panels, sets.values(), strict=False):
        for (budget, label), mark in zip(BUDGETS.items(), "os^vD", strict=True):
            rows = of["budgets"].get(budget, [])
            axes.errorbar(
                [row["beta"] for row in rows],
                [row["one_minus_dedicated"]["mean"] for row in rows],
                [row["one_minus_dedicated"]["se"] or 0 for row in rows],
                marker=mark, markersize=4, linewidth=1, capsize=2, label=label,
            )  # fmt: skip
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_title(of["label"], fontsize=9, loc="left")
        axes.set_xlabel("β")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(sets) :]:
        axes.set_axis_off()
    for axes in panels[::3]:
        axes.set_ylabel("J one − dedicated (nats)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False, fontsize=9)  # fmt: skip
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS], metavar="SET")
    budgets = [*BUDGETS]
    parser.add_argument("--budgets", nargs="*", choices=budgets, default=budgets, metavar="BUDGET")
    parser.add_argument("--seeds", type=int, default=3, help="at most so many of each set")
    parser.add_argument("--summary", action="store_true", help="only sum up what is there")
    given = parser.parse_args()
    for name in () if given.summary else given.sets:
        of = SETS[name]
        measure_step(of, given.root)
        make([one(of, lr, 0) for lr in of.rates], COMMAND, given.root, given.jobs)
        every = [*sides(of, tuple(b for b in of.budgets if b in given.budgets))]
        whole = [side for side in every if not side[0].startswith("total")]
        scouts = [("total4", beta) for _, beta in whole] if of.whole != SIX else []
        for some in (scouts, every):
            first = [run for side in some for run in tried(of, *side).values()]
            make(first, COMMAND, given.root, given.jobs)
        rate = best_rate({lr: one(of, lr, 0) for lr in of.rates}, SIX)
        more = range(1, min(of.seeds, given.seeds))
        two = (0, *more) if "two" in of.budgets and "two" in given.budgets else ()
        rates = {side: best_rate(tried(of, *side), (side[1],)) for side in every}
        make(
            [
                *(one(of, rate, seed) for seed in more),
                *(one(of, rate, seed, "two") for seed in two),
                *(dedicated(of, *side, rates[side], seed) for side in every for seed in more),
            ],
            COMMAND, given.root, given.jobs,
        )  # fmt: skip
        save("price", COMMAND, {"sets": summary()})
    save("price", COMMAND, {"sets": summary()})


if __name__ == "__main__":
    main()
