"""The models that come with the package: trained by their shipped configs, weights alone.

    python -m benchmarks.shipped

Writes multibeta/models/NAME.ckpt, without what only a training that goes on would need.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import multibeta
from multibeta.checkpoints import SHIPPED, find_checkpoint, read_checkpoint
from multibeta.files import replacing

NAMES = ("digits",)
KEPT = ("multibeta", "state_dict", "global_step")


def main() -> None:
    """Make them anew."""
    for name in NAMES:
        with tempfile.TemporaryDirectory() as runs:
            subprocess.run(
                [sys.executable, "-m", "multibeta", "fit", f"--config={name}.yaml",
                 "--trainer.accelerator=cpu", f"--trainer.default_root_dir={runs}"],
                check=True,
            )  # fmt: skip
            run = next(Path(runs).glob("*/*"))
            content = read_checkpoint(find_checkpoint(run))
        content = {key: content[key] for key in KEPT}
        content["multibeta"]["run"]["name"] = name
        content["multibeta"]["run"].pop("folder", None)
        with replacing(SHIPPED / f"{name}.ckpt") as temporary:
            torch.save(content, temporary)
        multibeta.load(name)
        print(f"{name}: {(SHIPPED / f'{name}.ckpt').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
