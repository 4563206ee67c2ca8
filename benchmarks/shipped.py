"""The models that come with the package: trained by their shipped configs, weights alone.

    python -m benchmarks.shipped DATA_ROOT [NAME …]

Writes multibeta/models/NAME.ckpt, without what only a training that goes on would need, and
without the place of the data. Networks are small: together they are at most 3 MB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import multibeta
from multibeta.checkpoints import SHIPPED, find_checkpoint, read_checkpoint
from multibeta.files import replacing

MODELS = {
    "digits": ("--config=digits.yaml",),
    "mnist": (
        "--config=mnist.yaml", "--data.root=DATA_ROOT", "--data.batch_size=128",
        "--model.network=MLP", "--model.network.width=72", "--model.latent_dim=12",
        "--trainer.max_epochs=30",
    ),
    "sprites": (
        "--config=sprites.yaml", "--config=beta_tcvae.yaml", "--data.size=20000",
        "--model.network.width=16", "--model.network.growth=2", "--trainer.max_epochs=15",
    ),
}  # fmt: skip
"""Their options of ``multibeta fit``."""
KEPT = ("multibeta", "state_dict", "global_step")


def main() -> None:
    """Make them anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", metavar="DATA_ROOT")
    parser.add_argument("names", nargs="*", default=[*MODELS], metavar="NAME")
    given = parser.parse_args()
    for name in given.names:
        options = [option.replace("DATA_ROOT", given.root) for option in MODELS[name]]
        with tempfile.TemporaryDirectory() as runs:
            subprocess.run(
                [sys.executable, "-m", "multibeta", "fit", *options,
                 "--trainer.accelerator=cpu", f"--trainer.default_root_dir={runs}"],
                check=True,
            )  # fmt: skip
            run = next(Path(runs).glob("*/*"))
            content = read_checkpoint(find_checkpoint(run))
        content = {key: content[key] for key in KEPT}
        content["multibeta"]["run"]["name"] = name
        content["multibeta"]["run"].pop("folder", None)
        content["multibeta"]["data"]["init_args"].pop("root", None)
        with replacing(SHIPPED / f"{name}.ckpt") as temporary:
            torch.save(content, temporary)
        multibeta.load(name)
        print(f"{name}: {(SHIPPED / f'{name}.ckpt').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
