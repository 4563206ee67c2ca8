"""The first curves: three configs, run by the command line as a user would.

    python -m benchmarks.first_curves DATA_ROOT

DATA_ROOT holds celeba/. Each run that is finished is skipped. A result holds
the curve, the seconds from start to end (data, training, measuring, pictures), and what the curve
is held to.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, is_done, save

RUNS = {
    "digits": [],
    "gaussian": [],
    "celeba": ["--data.root=DATA_ROOT", "--trainer.max_epochs=1"],
}


def main(root: str) -> None:
    """Make the results that are missing."""
    for config, options in RUNS.items():
        name = f"first_curves_{config}"
        if is_done(name):
            continue
        given = [option.replace("DATA_ROOT", root) for option in options]
        with tempfile.TemporaryDirectory() as runs:
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "multibeta", "fit", f"--config={config}.yaml", *given,
                 f"--trainer.default_root_dir={runs}"],
                check=True,
            )  # fmt: skip
            seconds = time.perf_counter() - start
            run = next(Path(runs).glob("*/*"))
            curve = json.loads((run / "curve.json").read_text())
            # CelebA's pictures may not be passed on.
            for picture in ("curve",) if config == "celeba" else ("curve", "strip"):
                shutil.copy(run / f"{picture}.png", RESULTS / f"{name}_{picture}.png")
        fit = " ".join(["multibeta fit --config", f"{config}.yaml", *options])
        held_to = checks(curve["rows"])
        save(
            name,
            "python -m benchmarks.first_curves DATA_ROOT",
            {"fit": fit, "seconds": round(seconds, 1), **held_to, **curve},
        )
        print(config, f"{seconds:.0f} s", held_to)


def checks(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the acceptance of a curve looks at."""
    rates = [row["rate_nats"] for row in rows]
    distortions = [row["distortion_nats"] for row in rows]
    found: dict[str, Any] = {
        "rate_falls_at_every_step": all(a > b for a, b in pairwise(rates)),
        "distortion_rises_at_every_step": all(a < b for a, b in pairwise(distortions)),
    }
    if "excess_nats" in rows[0]:
        excess = [row["excess_nats"] for row in rows]
        found["mean_excess_nats"] = sum(excess) / len(excess)
        found["max_excess_nats"] = max(excess)
        found["points_below_the_optimum_by_more_than_their_se"] = sum(
            row["excess_nats"] < -row["objective_se"] for row in rows
        )
    return found


if __name__ == "__main__":
    main(sys.argv[1])
