"""Runs that are killed at random moments, and go on: nothing is lost, and the end is the same.

    python -m benchmarks.kills

50 runs are ended by SIGKILL and 20 by SIGTERM at a random moment of start, training, saving,
curve or pictures; each is then gone on with until it ends. Its last weights and its curve must be
those of the run that was not stopped, bit for bit, and nothing half-written may be left. Two
runs at a time; a result file of all, kills.json.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import save

COMMAND = "python -m benchmarks.kills"
KILLS = {signal.SIGKILL: 50, signal.SIGTERM: 20}
RUN = [
    "--data=Digits", "--model.network=MLP", "--model.network.width=64", "--model.latent_dim=4",
    "--trainer.max_epochs=25", "--trainer.accelerator=cpu", "--curve.betas=0.01:10:8",
    "--curve.metrics=active_units,information",
]  # fmt: skip
TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}-\d+(\.\w+)?")


def started(folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """Start multibeta in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "multibeta", "fit", *arguments], cwd=folder, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def found(folder: Path) -> dict[str, Any]:
    """Return the last weights and the rows of the curve of the only run in a folder."""
    (run,) = folder.glob("runs/digits/*")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {
        "weights": checkpoint["state_dict"],
        "rows": json.loads((run / "curve.json").read_text())["rows"],
        "left": [str(p) for p in run.rglob("*") if TEMPORARY.fullmatch(p.name)],
        "pictures": sorted(p.name for p in run.glob("*.png")),
    }


def killed(number: int, kind: int, seconds: float, wanted: dict[str, Any]) -> dict[str, Any]:
    """Kill a run after some seconds, go on with it, and compare."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        process = started(folder, RUN)
        time.sleep(seconds * random.Random(number).uniform(0.02, 1.0))
        process.send_signal(kind)
        _, said = process.communicate(timeout=120)
        status, runs = process.returncode, [*folder.glob("runs/digits/*")]
        stopped = "before anything was kept"
        if runs and (runs[0] / "checkpoints" / "last.ckpt").exists():
            trained = (runs[0] / "curve.json").exists()
            stopped = "after the training" if trained else "in the training"
            arguments = [f"--ckpt_path={runs[0]}"]
        else:
            arguments = RUN
            for run in runs:  # a killed run that had nothing to keep is begun anew in another
                for path in sorted(run.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
                run.rmdir()
        again = started(folder, arguments)
        _, more = again.communicate(timeout=300)
        done = again.returncode == 0 or "no step is left" in more
        end = found(folder) if done else {"weights": {}, "rows": [], "left": [], "pictures": []}
        same = end["weights"].keys() == wanted["weights"].keys() and all(
            torch.equal(value, wanted["weights"][name]) for name, value in end["weights"].items()
        )
        return {
            "signal": signal.Signals(kind).name, "status": status, "stopped": stopped,
            "goes_on": done, "same_weights": same, "same_curve": end["rows"] == wanted["rows"],
            "all_pictures": end["pictures"] == wanted["pictures"], "left": end["left"],
            "traceback": "Traceback" in said + more, "said": more[-300:] if not done else "",
        }  # fmt: skip


def main() -> None:
    """Kill runs, and write what became of them."""
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        process = started(Path(place), RUN)
        process.communicate()
        seconds, wanted = time.monotonic() - began, found(Path(place))
    kinds = [kind for kind, count in KILLS.items() for _ in range(count)]
    with ThreadPoolExecutor(2) as pool:
        runs = [*pool.map(lambda i: killed(i, kinds[i], 1.5 * seconds, wanted), range(len(kinds)))]
    bad = [
        run for run in runs
        if not (run["goes_on"] and run["same_weights"] and run["same_curve"])
        or run["left"] or run["traceback"] or not run["all_pictures"]
    ]  # fmt: skip
    by: dict[str, int] = {}
    for run in runs:
        key = f"{run['signal']}, {run['stopped']}"
        by[key] = by.get(key, 0) + 1
    result = {
        "seconds": seconds, "runs": len(runs), "stopped": by, "not_the_same": len(bad), "bad": bad,
    }  # fmt: skip
    save("kills", COMMAND, result)
    print(json.dumps({"runs": len(runs), "stopped": by, "not_the_same": len(bad)}, indent=1))


if __name__ == "__main__":
    main()
