"""How much the choice of settings matters, the others being the defaults.

    python -m benchmarks.robust DATA_ROOT [--jobs 2] [--sets digits_mlp …]

One seed. Learning rates, optimisers, batches, latents, widths, ranges and lengths of training, one
at a time. What is reported is J at six β's, and the loss against the best value of the same
setting: the largest over the β's, in per cent of J at it. Finished runs are skipped. The summary
is robust.json.
"""

from __future__ import annotations

from typing import Any

from benchmarks.price import SETS, SIX, Set
from benchmarks.record import save
from benchmarks.runs import Run, arguments, curve_of, is_there, make, objective_at

COMMAND = "python -m benchmarks.robust DATA_ROOT"

RATE = 2e-3
_SGD = ("--optimizer=SGD", "--optimizer.momentum=0.9", "--optimizer.lr=0.3")
SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "learning rate": {f"{lr:g}": (f"--model.lr={lr:g}",) for lr in (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)},
    "optimiser": {
        "Adam": (), "AdamW": ("--optimizer=AdamW", f"--optimizer.lr={RATE:g}"), "SGD": _SGD,
    },
    "batch": {f"{n}": (f"--data.batch_size={n}",) for n in (32, 64, 128, 256, 512)},
    "latents": {f"{n}": (f"--model.latent_dim={n}",) for n in (8, 32, 128)},
    "width": {f"{n}": (f"--model.network.width={n}",) for n in (128, 256, 512)},
    "range": {b: (f"--model.betas={b}",) for b in ("0.1:1", "0.01:10", "0.001:1000")},
    "steps": {f"{k:g}": () for k in (0.05, 0.25, 1, 2)},
}  # fmt: skip
"""What is chosen → its values and their options; the batch at as many examples, the steps as a
multiple of those of :mod:`benchmarks.price`."""

DEFAULTS = {
    "learning rate": f"{RATE:g}", "optimiser": "Adam", "width": "256", "range": "0.01:10",
    "steps": "1",
}  # fmt: skip


def run_of(of: Set, setting: str, value: str) -> Run:
    """Return the run of one value of a setting; that of all defaults is one run."""
    options = (*of.options, *SETTINGS[setting][value])
    steps = of.steps
    if setting == "steps":
        steps = round(steps * float(value))
    if setting == "batch":
        steps = round(steps * batch_of(of) / int(value))
    own = {"batch": f"{batch_of(of)}", "latents": "8" if of.name == "digits_mlp" else "32"}
    is_default = value == (DEFAULTS | own)[setting]
    name = "defaults" if is_default else f"{setting.replace(' ', '_')}_{value.replace(':', '_')}"
    fit = (
        "--trainer.limit_val_batches=0", "--trainer.max_epochs=-1", f"--trainer.max_steps={steps}",
        "--seed_everything=0",
    )  # fmt: skip
    betas = ",".join(map(repr, betas_of(setting)))
    if is_default:
        options = of.options
        betas = ",".join(map(repr, sorted({*SIX, *betas_of("range")})))
    return Run(f"robust_{of.name}_{name}", (*options, *fit), {"test": betas})


def betas_of(setting: str) -> tuple[float, ...]:
    """Return the β's that all values of a setting are measured at."""
    return (0.1, 0.3, 1.0) if setting == "range" else SIX


def batch_of(of: Set) -> int:
    """Return the batch of a set."""
    given = [o.partition("=")[2] for o in of.options if o.startswith("--data.batch_size=")]
    return int(given[0]) if given else 64


def summary() -> dict[str, Any]:
    """Return J of each value of each setting, and what it loses against the best value."""
    found: dict[str, Any] = {}
    for name, of in SETS.items():
        for setting, values in SETTINGS.items():
            runs = {value: run_of(of, setting, value).name for value in values}
            if not all(map(is_there, runs.values())):
                continue
            betas = betas_of(setting)
            rows = {
                value: [objective_at(curve_of(run), beta) for beta in betas]
                for value, run in runs.items()
            }
            best = [min(column) for column in zip(*rows.values(), strict=True)]
            losses = {
                value: [100 * (j - b) / abs(b) for j, b in zip(row, best, strict=True)]
                for value, row in rows.items()
            }
            found.setdefault(name, {"label": of.label, "settings": {}})["settings"][setting] = {
                "betas": betas, "objective_nats": rows,
                "worst_loss_percent": {value: max(row) for value, row in losses.items()},
            }  # fmt: skip
    return found


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    known = [name for name in SETS if name.endswith("_mlp")]
    parser.add_argument("--sets", nargs="*", choices=known, default=["digits_mlp", "clothes_mlp"])
    given = parser.parse_args()
    for name in given.sets:
        every = {
            run.name: run
            for setting, values in SETTINGS.items()
            for run in (run_of(SETS[name], setting, value) for value in values)
        }
        make(every.values(), COMMAND, given.root, given.jobs)
        save("robust", COMMAND, {"sets": summary()})


if __name__ == "__main__":
    main()
