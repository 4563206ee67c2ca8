"""How much the choice of settings matters, the others being the defaults.

    python -m benchmarks.robust DATA_ROOT [--jobs 2] [--sets digits_mlp …]

One seed. Learning rates, optimisers, batches, latents, widths, ranges and lengths of training, one
at a time. What is reported is J at six β's, and the loss against the best value of the same
setting: the largest over the β's, in nats and in per cent of J, which is near 0 at some β's of
the digits. Finished runs are skipped. The summary is robust.json.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.price import SETS, SIX, Set
from benchmarks.record import save
from benchmarks.runs import Run, arguments, curve_of, is_there, make, objective_at

COMMAND = "python -m benchmarks.robust DATA_ROOT"

RATE = 3e-3
DEFAULTS = (f"--model.lr={RATE:g}", "--model.draws.opening=null")
"""In the place of what a config chooses."""

LATENTS = {"digits_mlp": 8}
BATCHES = {"digits_mlp": 128}

SETTINGS = {
    "learning rate": ("0.25", "0.5", "1", "2", "4"), "optimiser": ("Adam", "AdamW", "SGD"),
    "batch": ("32", "64", "128", "256", "512"), "latents": ("8", "32", "128"),
    "width": ("128", "256", "512"), "range": ("0.1:1", "0.01:10", "0.001:1000"),
    "steps": ("0.05", "0.25", "1", "2"),
}  # fmt: skip
"""What is chosen → its values: the learning rate and the steps as multiples of the set's own, the
batch at as many examples."""


def run_of(of: Set, setting: str, value: str) -> Run:
    """Return the run of one value of a setting; that of all defaults is one run."""
    batch = batch_of(of)
    default = {
        "learning rate": "1", "optimiser": "Adam", "batch": f"{batch}",
        "latents": f"{LATENTS.get(of.name, 32)}", "width": "256", "range": "0.01:10", "steps": "1",
    }  # fmt: skip
    steps, options = of.steps, (*of.options, *DEFAULTS)
    if value == default[setting]:
        name, betas = "defaults", {*SIX, *betas_of("range")}
    else:
        name, betas = f"{setting} {value}", {*betas_of(setting)}
        options = (*options, *_options(setting, value))
    if setting == "steps":
        steps = round(of.steps * float(value))
    if setting == "batch":
        steps = round(of.steps * batch / int(value))
    fit = (
        "--trainer.limit_val_batches=0", "--trainer.max_epochs=-1", f"--trainer.max_steps={steps}",
        "--seed_everything=0",
    )  # fmt: skip
    points = ",".join(map(repr, sorted(betas)))
    name = re.sub(r"[ :/]", "_", name)
    return Run(f"robust_{of.name}_{name}", (*options, *fit), {"test": points})


def _options(setting: str, value: str) -> tuple[str, ...]:
    """Return the options of one value of a setting."""
    if setting == "optimiser":
        lr, more = (0.3, ("--optimizer.momentum=0.9",)) if value == "SGD" else (RATE, ())
        return f"--optimizer={value}", f"--optimizer.lr={lr:g}", *more
    if setting == "learning rate":
        return (f"--model.lr={RATE * float(value):g}",)
    key = {
        "batch": "data.batch_size", "latents": "model.latent_dim", "width": "model.network.width",
        "range": "model.betas",
    }.get(setting)  # fmt: skip
    return (f"--{key}={value}",) if key else ()


def betas_of(setting: str) -> tuple[float, ...]:
    """Return the β's that all values of a setting are measured at."""
    return (0.1, 0.3, 1.0) if setting == "range" else SIX


def batch_of(of: Set) -> int:
    """Return the batch of a set."""
    given = [o.partition("=")[2] for o in of.options if o.startswith("--data.batch_size=")]
    return int(given[0]) if given else BATCHES.get(of.name, 64)


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
                value: [(j - b, abs(b)) for j, b in zip(row, best, strict=True)]
                for value, row in rows.items()
            }
            found.setdefault(name, {"label": of.label, "settings": {}})["settings"][setting] = {
                "betas": betas, "objective_nats": rows,
                "worst_loss_nats": {v: max(loss for loss, _ in row) for v, row in losses.items()},
                "worst_loss_percent": {
                    v: 100 * max(loss / j for loss, j in row) for v, row in losses.items()
                },
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
