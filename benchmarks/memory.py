"""What a training on an array of 4 GB takes of memory, mapped pages counted.

    python -m benchmarks.memory

A million examples of 1,024 floats, as .npy, .npz and compressed .npz (14 GB in a temporary
folder, with the cache): 50 steps and a validation each, in a process of its own. Fails above
1.5 GB. A result file, memory.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.record import save

COMMAND = "python -m benchmarks.memory"
N, D, LIMIT = 1_000_000, 1024, 1.5e9


def write(folder: Path) -> list[Path]:
    """Write the array in the three forms."""
    plain = folder / "x.npy"
    x = np.lib.format.open_memmap(plain, "w+", np.float32, (N, D))
    rng = np.random.default_rng(0)
    for start in range(0, N, 50_000):
        x[start : start + 50_000] = rng.random((50_000, D), dtype=np.float32)
    x.flush()
    paths = [plain]
    for name, kind in (("x.npz", zipfile.ZIP_STORED), ("compressed.npz", zipfile.ZIP_DEFLATED)):
        paths.append(folder / name)
        with zipfile.ZipFile(paths[-1], "w", kind, compresslevel=1) as archive:
            archive.write(plain, "x.npy")
    return paths


def peak(path: Path) -> float:
    """Return the most memory that a training on a file has resident, in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "multibeta", "fit", "--data=NPZ", f"--data.root={path}",
         "--model.likelihood=Gaussian", "--trainer.max_epochs=1", "--trainer.max_steps=50",
         "--trainer.limit_val_batches=3", "--curve.enabled=false", "--trainer.accelerator=cpu",
         f"--trainer.default_root_dir={path.parent / 'runs'}"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MULTIBETA_CACHE": str(path.parent / "cache")},
    )  # fmt: skip
    most = 0
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                most = max(most, 1024 * int(line.split()[1]))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the training on {path.name} ended with {process.returncode}")
    return most


def main() -> None:
    """Measure, write, and fail where it is too much."""
    with tempfile.TemporaryDirectory() as folder:
        found = {path.name: peak(path) for path in write(Path(folder))}
    save("memory", COMMAND, {"array_bytes": 4 * N * D, "peak_bytes": found, "limit_bytes": LIMIT})
    print({name: f"{value / 1e9:.2f} GB" for name, value in found.items()})
    if max(found.values()) > LIMIT:
        raise SystemExit(f"more than {LIMIT / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
