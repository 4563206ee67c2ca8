"""The newcomer's path by the stopwatch, in a fresh environment: a command a step.

    python -m benchmarks.newcomer DATA_ROOT

Install; the page of a shipped model; train on a folder of pictures, 3,000 of MNIST in DATA_ROOT
as PNG files in a folder a class; codes with labels; the page; export; and
the ONNX files in a second environment, without multibeta. Each step is looked at: the labels are
those of the folders, pages are whole, the loader prints shapes. The result is newcomer.json.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from torchvision.datasets import MNIST

from benchmarks.record import TOP, save

COMMAND = "python -m benchmarks.newcomer DATA_ROOT"
PICTURES = 3000
LIMIT = 600
"""Seconds that all steps may take, without the install."""


def pictures(root: Path, to: Path) -> None:
    """Write pictures of digits, a folder a class."""
    mnist = MNIST(root)
    for number in range(PICTURES):
        image, of = mnist[number]
        folder = to / f"digit{of}"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.png")


def main() -> None:
    """Walk the path."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path, metavar="DATA_ROOT")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        pictures(given.root, Path("pictures"))
        found = walk(Path(place))
    seconds = sum(found.values()) - found["install"]
    save(
        "newcomer",
        COMMAND,
        {"pictures": PICTURES, "steps": found, "without_install": round(seconds, 1)},
    )
    print(f"{seconds:.0f} s without the install")
    if seconds > LIMIT:
        sys.exit(f"more than {LIMIT} s")


def walk(place: Path) -> dict[str, float]:
    """Return the seconds of each step, which are looked at, each."""
    found: dict[str, float] = {}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"PATH": f"{place}/venv/bin:{environment['PATH']}"}
    environment |= {"MULTIBETA_CACHE": f"{place}/cache"}

    def step(name: str, command: str, holds: Callable[[str], bool]) -> None:
        begun = time.monotonic()
        done = subprocess.run(
            command, shell=True, env=environment, capture_output=True, text=True, check=False
        )
        found[name] = round(time.monotonic() - begun, 1)
        print(f"{found[name]:7.1f} s  {command}", flush=True)
        if done.returncode or not holds(done.stdout):
            sys.exit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")

    def page(name: str) -> Callable[[str], bool]:
        return lambda _: "</html>" in Path(name).read_text(encoding="utf-8")[-50:]

    step(
        "install",
        f"python3 -m venv venv && pip install '{TOP}[export]' && "
        "python3 -m venv other && other/bin/pip install numpy onnxruntime",
        lambda _: True,
    )
    step(
        "page of a shipped model", "multibeta report digits --out digits.html", page("digits.html")
    )
    step(
        "train",
        "multibeta fit --config folder.yaml --data.root pictures --data.size 28 "
        "--trainer.max_epochs 10",
        lambda printed: "D + βR" in printed,
    )
    run = next(Path("runs").glob("*/*"))
    step("codes with labels", f"multibeta encode {run} --out codes.csv", labelled)
    step("page", f"multibeta report {run} --out report.html", page("report.html"))
    step("export", f"multibeta export {run} --beta 0.1 --out exported", lambda _: True)
    step(
        "without multibeta", "cd exported && ../other/bin/python load.py",
        lambda printed: printed.startswith("codes (5, ") and "samples (5, 1, 28, 28)" in printed,
    )  # fmt: skip
    return found


def labelled(_: str) -> bool:
    """Return whether each code has the name of its file's folder as label."""
    with Path("codes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return bool(rows) and all(row["label_folder"] in row["file"] for row in rows)


if __name__ == "__main__":
    main()
