"""Seconds from typing the command to the first training step on CelebA 64×64, twice.

    python -m benchmarks.celeba_start DATA_ROOT

The first start decodes the JPEGs into an empty cache, the second reads that cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.record import is_done, save


class PrintTime(Callback):
    """Prints the time of the first step."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Print it."""
        if trainer.global_step == 0:
            print(f"first step at {time.time()}")


def main(root: str) -> None:
    """Start twice."""
    if is_done("celeba_start"):
        return
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_seconds(root, folder) for _ in range(2))
    save(
        "celeba_start",
        "python -m benchmarks.celeba_start DATA_ROOT",
        {
            "first_start_to_first_step_seconds": round(first, 1),
            "second_start_to_first_step_seconds": round(second, 1),
        },
    )


def _seconds(root: str, folder: str) -> float:
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "multibeta", "fit", "--config=celeba.yaml", f"--data.root={root}",
         "--trainer.max_steps=1", "--curve.enabled=false",
         f"--trainer.default_root_dir={folder}/runs",
         "--trainer.callbacks+=benchmarks.celeba_start.PrintTime"],
        env={**os.environ, "MULTIBETA_CACHE": f"{folder}/cache"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split("first step at ")[1].split()[0]) - start


if __name__ == "__main__":
    main(sys.argv[1])
