"""What can be measured at any β, on the models of the gap benchmark, and MIG on dSprites.

    python -m benchmarks.measures DATA_ROOT [--jobs 2]

measures_mnist.json: at 16 β's of the one model, where its rate goes, active units, likelihood,
samples by the distance of LeNet's features, and anomaly scores against binarised Omniglot; at
.01, .1, 1 and 10 the same of dedicated models, and the alignment of both. measures_dsprites.json:
the disentanglement scores of one model over β, and of a dedicated one at β = 10. Models that are
not on this machine are trained first. DATA_ROOT holds binarized_mnist/, omniglot/, dsprites/ and
lenet_mnist/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import multibeta
from benchmarks.gap import DEDICATED, ONE
from benchmarks.record import RESULTS, is_done, save
from benchmarks.runs import Run, arguments, fitted
from multibeta.checkpoints import load_data
from multibeta.data import Omniglot
from multibeta.scores import score

COMMAND = "python -m benchmarks.measures DATA_ROOT"
SEED = 1
TCVAE = ("--model.objective=BetaTCVAE", "--model.betas=0.1:10")
SPRITES = {
    name: Run(
        f"measures_dsprites_{name}",
        ("--config=sprites.yaml", "--data.root=DATA_ROOT", "--trainer.max_epochs=8",
         "--trainer.limit_val_batches=0", *options),
        {},
    )
    for name, options in {
        "one": (),
        "dedicated": ("--model.betas=10", "--model.conditioning=none"),
        "tcvae": TCVAE,
        "tcvae_seed1": (*TCVAE, "--seed_everything=1"),
    }.items()
}  # fmt: skip


class BinarisedOmniglot(Omniglot):
    """Omniglot's characters, black and white like the digits they are compared with."""

    def load(self) -> dict[str, torch.Tensor]:
        """Read them."""
        return {name: (x > 127).byte() * 255 for name, x in super().load().items()}


def mnist(root: str, jobs: int) -> None:
    """Measure the one model of the gap benchmark and its dedicated ones."""
    sides = (ONE, *DEDICATED)
    folders = fitted([side.run(side.best(), SEED) for side in sides], root, jobs)
    one, *others = [multibeta.load(folder) for folder in folders]
    data = load_data(folders[0], {"root": root})
    lenet = {
        "class_path": "benchmarks.lenet.LeNet",
        "init_args": {"weights": str(Path(root) / "lenet_mnist" / "lenet_mnist_cnn.pt")},
    }
    metrics: dict[str, dict[str, Any]] = {
        "active_units": {},
        "information": {},
        "nll": {"samples": 32, "most": 500},
        "frechet": {"extractor": lenet},
    }
    curve = multibeta.sweep(one, data, metrics=metrics)
    dedicated = [multibeta.sweep(other, data, metrics=metrics).rows[0] for other in others]
    aligned = multibeta.sweep(one, data, metrics="alignment", against=others)
    aligned.draw_pictures(RESULTS / "measures_mnist")
    curve.draw_pictures(RESULTS / "measures_mnist")  # all but alignment.png anew
    scores = score(one, data, BinarisedOmniglot(root), samples=16)
    scores.save(RESULTS / "measures_mnist")
    save("measures_mnist", COMMAND, {
        "about": curve.about,
        "one": list(curve.rows),
        "dedicated": dedicated,
        "aligned": aligned.rows,
        "auroc": scores.as_dict(),
    })  # fmt: skip


def dsprites(root: str, jobs: int) -> None:
    """Measure the disentanglement scores of one model on dSprites, and of a dedicated one."""
    _scores_on_dsprites("measures_dsprites", ("one", "dedicated"), root, jobs)


def dsprites_tcvae(root: str, jobs: int) -> None:
    """Measure those of a β-TCVAE conditioned on its weight, with two seeds."""
    _scores_on_dsprites("measures_dsprites_tcvae", ("tcvae", "tcvae_seed1"), root, jobs)


def _scores_on_dsprites(result: str, names: Sequence[str], root: str, jobs: int) -> None:
    found = {}
    runs = [SPRITES[name] for name in names]
    for name, folder in zip(names, fitted(runs, root, jobs), strict=True):
        model, data = multibeta.load(folder), load_data(folder, {"root": root})
        curve = multibeta.sweep(model, data, metrics="disentanglement,active_units")
        found[name] = list(curve.rows)
    fits = {
        f"fit_{name}": " ".join(["multibeta fit", *run.options])
        for name, run in zip(names, runs, strict=True)
    }
    save(result, COMMAND, {**fits, "about": curve.about, **found})


def main() -> None:
    """Make what is missing."""
    given = arguments(__doc__).parse_args()
    for make in (mnist, dsprites, dsprites_tcvae):
        if not is_done(f"measures_{make.__name__}"):
            make(given.root, given.jobs)


if __name__ == "__main__":
    main()
