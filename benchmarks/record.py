"""What every result file carries beside its numbers: the command, the commit, the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from multibeta.files import replacing

__all__ = ["RESULTS", "TOP", "is_done", "save"]

TOP = Path(__file__).parent.parent
RESULTS = TOP / "benchmarks" / "results"


def is_done(name: str, folder: Path = RESULTS) -> bool:
    """Return whether there is a result of this name; if so, say so."""
    path = folder / f"{name}.json"
    if path.exists():
        print(f"{path.name} is there: skipped; remove it to measure again")
    return path.exists()


def save(name: str, command: str, result: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write a result with its origin.

    Args:
        name: The file's name without suffix.
        command: What the user types in the repository's top folder to make it.
        result: The numbers.
        folder: Where to.
    """
    origin = {
        "command": command,
        "commit": _COMMIT,
        "machine": {
            "processor": _processor(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "system": platform.system(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
    with replacing(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps({**origin, **result}, indent=1) + "\n")
    print(f"wrote {name}.json", file=sys.stderr)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


# As the measurement starts; "+" stands for changes that are not committed, results aside.
_COMMIT = _git("rev-parse", "HEAD") + (
    "+" if _git("status", "--porcelain", "--", "..", ":!results") else ""
)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
