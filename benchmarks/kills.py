"""Runs that are killed at random moments, and go on: nothing is lost, and the end is the same.

    python -m benchmarks.kills

50 runs on the digits are ended by SIGKILL and 20 by SIGTERM at a random moment of start, training,
saving, curve or pictures; 10 and 5 on a folder of pictures while these are decoded into the cache.
Each is then gone on with until it ends. Its last weights and its curve must be those of the run
that was not stopped, bit for bit, and nothing half-written may be left. Two runs at a time; a
result file of all, kills.json.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.record import save

COMMAND = "python -m benchmarks.kills"
KILLS = {signal.SIGKILL: 50, signal.SIGTERM: 20}
CACHE_KILLS = {signal.SIGKILL: 10, signal.SIGTERM: 5}
MODEL = [
    "--model.network=MLP", "--model.network.width=64", "--model.latent_dim=4",
    "--trainer.accelerator=cpu",
]  # fmt: skip
RUN = [
    *MODEL, "--data=Digits", "--trainer.max_epochs=25", "--curve.betas=0.01:10:8",
    "--curve.metrics=active_units,information",
]  # fmt: skip
PICTURES = 3000
TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}-\d+(\.\w+)?")


def of_pictures(place: Path) -> list[str]:
    """Make a folder of pictures; return the options of a run on them."""
    (place / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        values = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(values).resize((178, 218), Image.Resampling.BICUBIC)
        picture.save(place / "pictures" / f"{i:05}.jpg")
    return [
        *MODEL, "--data=Folder", f"--data.root={place / 'pictures'}", "--data.size=16",
        "--trainer.max_epochs=1", "--curve.betas=0.01,1",
    ]  # fmt: skip


def started(folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """Start multibeta in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "multibeta", "fit", *arguments], cwd=folder, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={
            **os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1",
            "MULTIBETA_CACHE": str(folder / "cache"),
        },
    )  # fmt: skip


def found(folder: Path) -> dict[str, Any]:
    """Return the last weights and the rows of the curve of the only run in a folder."""
    (run,) = folder.glob("runs/*/*")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {
        "weights": checkpoint["state_dict"],
        "rows": json.loads((run / "curve.json").read_text())["rows"],
        "left": [str(p) for p in folder.rglob("*") if TEMPORARY.fullmatch(p.name)],
        "pictures": sorted(p.name for p in run.glob("*.png")),
    }


def killed(
    number: int, kind: int, run: list[str], seconds: float, wanted: dict[str, Any], in_cache: bool
) -> dict[str, Any]:
    """Kill a run after some seconds, or while it fills its cache, go on with it, and compare."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        process = started(folder, run)
        while in_cache and not [*folder.glob("cache/*/.*")] and process.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds * random.Random(number).uniform(0.02, 1.0))
        filling = in_cache and bool([*folder.glob("cache/*/.*")])
        process.send_signal(kind)
        _, said = process.communicate(timeout=120)
        status, runs = process.returncode, [*folder.glob("runs/*/*")]
        stopped = "before anything was kept"
        if runs and (runs[0] / "checkpoints" / "last.ckpt").exists():
            trained = (runs[0] / "curve.json").exists()
            stopped = "after the training" if trained else "in the training"
            arguments = [f"--ckpt_path={runs[0]}"]
        else:
            arguments = run
            stopped = "while the cache was filled" if filling else stopped
            for left in runs:  # a killed run that had nothing to keep is begun anew in another
                shutil.rmtree(left)
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


def unstopped(run: list[str]) -> tuple[float, dict[str, Any]]:
    """Return how long a run takes, and how it ends."""
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        started(Path(place), run).communicate()
        return time.monotonic() - began, found(Path(place))


def main() -> None:
    """Kill runs, and write what became of them."""
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(2) as pool:
        runs, took = [], {}
        for run, kills in ((RUN, KILLS), (of_pictures(Path(place)), CACHE_KILLS)):
            in_cache = kills is CACHE_KILLS
            seconds, wanted = unstopped(run)
            took["the cache's pictures" if in_cache else "digits"] = seconds
            moments = 1.2 if in_cache else 1.5 * seconds
            kinds = [kind for kind, count in kills.items() for _ in range(count)]
            runs += pool.map(
                lambda i: killed(i, kinds[i], run, moments, wanted, in_cache),  # noqa: B023
                range(len(kinds)),
            )
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
        "seconds": took, "runs": len(runs), "stopped": by, "not_the_same": len(bad), "bad": bad,
    }  # fmt: skip
    save("kills", COMMAND, result)
    print(json.dumps({"runs": len(runs), "stopped": by, "not_the_same": len(bad)}, indent=1))


if __name__ == "__main__":
    main()
