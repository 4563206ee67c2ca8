"""What the talk's results are made from: the models of each data set, and their alignment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import multibeta
from benchmarks import attributes
from benchmarks.record import RESULTS, TOP, save
from benchmarks.runs import FOLDERS, ON_GPU, Run, fitted, is_there
from multibeta.checkpoints import load_data
from multibeta.metrics.extractors import Inception

__all__ = ["COMMAND", "SEVEN", "TALKS", "THREE", "Talk", "align"]

COMMAND = "python -m benchmarks.talk DATA_ROOT"
THREE = (0.01, 0.1, 1.0)
"""Those of the dedicated models."""
SEVEN = (0.01, 0.0316227766017, 0.1, 0.316227766017, 1.0, 3.16227766017, 10.0)
"""Neighbours are a factor √10 apart."""


@dataclass(frozen=True)
class Talk:
    """What is done with a data set.

    Args:
        name: Of the data set, in result files.
        options: Of all models.
        seeds: One model and the dedicated ones are trained with each.
        betas: Those that the one model's pictures are measured at.
        samples: How many of each kind FID takes.
        fine: β's of the one model's curve.
        quick: Whether it is the tiny version.
    """

    name: str
    options: tuple[str, ...]
    seeds: tuple[int, ...]
    betas: tuple[float, ...] = SEVEN
    samples: int = 10_000
    fine: str = "0.01:10:25"
    quick: bool = False

    def tiny(self) -> Talk:
        """Return a version that takes a minute or two."""
        options = (
            *self.options, "--trainer.max_epochs=1", "--trainer.limit_train_batches=60",
        )  # fmt: skip
        return replace(
            self, options=options, seeds=self.seeds[:1], betas=THREE, samples=300,
            fine="0.01:10:7", quick=True,
        )  # fmt: skip

    @property
    def results(self) -> Path:
        """The folder of the result files."""
        return FOLDERS.absolute() / "talk_quick" if self.quick else RESULTS

    @property
    def pictures(self) -> Path:
        """The folder of the pictures that stay on this machine."""
        return FOLDERS.absolute() / ("talk_quick" if self.quick else "talk")

    @property
    def page(self) -> Path:
        """The page with the tables and pictures."""
        return self.results / "talk.md" if self.quick else TOP / "docs" / "talk.md"

    def picture(self, what: str) -> Path:
        """Return where a picture goes: those with faces stay on this machine."""
        if self.quick or (self.name == "celeba" and what not in ("curve", "alignment")):
            return self.pictures / self.name / f"{what}.png"
        return self.results / f"talk_{self.name}_{what}.png"

    def result(self, what: str, seed: int) -> str:
        """Return the name of a result."""
        return f"talk_{self.name}_{what}_seed{seed}"

    def run(self, beta: float | None, seed: int, root: str = "") -> Run:
        """Return the run of the dedicated model of a β; None for that of the one model."""
        what = "one" if beta is None else f"dedicated{beta:.3g}"
        of_side = () if beta is None else ("--model.conditioning=none", f"--model.betas={beta}")
        on_gpu = ON_GPU if torch.cuda.is_available() else ()
        betas = self.betas if beta is None else (beta,)
        on_train = [] if self.quick else [b for b in betas if b in THREE]
        curves = {"test": betas, **({"train": on_train} if on_train else {})}
        name = self.result(what, seed)
        frechet = {
            "extractor": self.extractor(root),
            "samples": self.samples,
            "kernel": False,
            "neighbours": 0,
        }
        return Run(
            f"{name}_quick" if self.quick else name,
            (*self.options, *on_gpu, *of_side, f"--seed_everything={seed}"),
            {split: ",".join(map(str, of_split)) for split, of_split in curves.items()},
            {"active_units": {}, "frechet": frechet},
            self.fine if beta is None else None,
        )

    def runs(self, seed: int, root: str = "") -> list[Run]:
        """Return the runs of a seed, the one model's first."""
        return [self.run(beta, seed, root) for beta in (None, *THREE)]

    def extractor(self, root: str) -> dict[str, Any]:
        """Return what the features are from."""
        if self.name == "mnist":
            weights = Path(root) / "lenet_mnist" / "lenet_mnist_cnn.pt"
            return {"class_path": "benchmarks.lenet.LeNet", "init_args": {"weights": str(weights)}}
        if Inception.file().is_file():
            return {"class_path": "multibeta.metrics.Inception"}
        kind, weights = "benchmarks.attributes.Attributes", str(self.attributes)
        return {"class_path": kind, "init_args": {"weights": weights}}

    @property
    def attributes(self) -> Path:
        """The weights of the network that knows CelebA's attributes."""
        return FOLDERS.absolute() / ("attributes_quick.pt" if self.quick else "attributes.pt")

    def prepare(self, root: str) -> None:
        """Train the network that knows CelebA's attributes, where it is needed."""
        if self.name != "celeba" or Inception.file().is_file() or self.attributes.is_file():
            return
        if is_there("attributes", self.results) and any(
            is_there(run.name, self.results) for seed in self.seeds for run in self.runs(seed)
        ):
            print(f"{self.attributes.name} is not on this machine: it is trained anew, and what "
                  "is measured by it cannot be compared with results that are there")  # fmt: skip
        try:
            attributes.train(root, self.attributes, self.results, 60 if self.quick else None)
        except FileNotFoundError as error:
            raise SystemExit(str(error)) from None


# All that a model's size and training depend on is here and in the shipped configs.
COMMON = ("--data.root=DATA_ROOT", "--trainer.limit_val_batches=0")
TALKS = {
    # Conv of width 32 and depth 4, 64 latents, Gaussian with σ = 0.1, flips, batches of 64.
    "celeba": Talk("celeba", ("--config=celeba.yaml", *COMMON, "--trainer.max_epochs=20"), (0, 1)),
    # MLP, 32 latents, Bernoulli, batches of 64.
    "mnist": Talk(
        "mnist",
        ("--config=mnist.yaml", *COMMON, "--model.network=MLP", "--trainer.max_epochs=20"),
        (0, 1, 2),
    ),
}


def align(talk: Talk, seed: int, root: str, jobs: int) -> None:
    """Measure how the latents of neighbouring β's go together, of one model and of dedicated ones.

    The dedicated ones are those of the seed, and, where there are several seeds, of one seed for
    one β and of the next for the next.

    Args:
        talk: The data set.
        seed: Of the models.
        root: The data's folder.
        jobs: Runs at a time, where a model is not on this machine.
    """
    torch.set_num_threads(1)
    folders = fitted(talk.runs(seed), root, jobs)
    one, *others = [multibeta.load(folder) for folder in folders]
    data = load_data(folders[0], {"root": root})
    near = multibeta.sweep(one, data, talk.betas, metrics="alignment", against=others)
    if seed == talk.seeds[0]:
        near.draw_pictures(talk.pictures / talk.name)
    far = multibeta.sweep(one, data, THREE, metrics="alignment", against=others)
    result = {"about": near.about, "near": near.as_dict()["rows"], "far": far.as_dict()["rows"]}
    if len(talk.seeds) > 1:
        first = talk.seeds.index(seed)
        seeds = [talk.seeds[(first + i) % len(talk.seeds)] for i in range(len(THREE))]
        runs = [talk.run(beta, of, root) for beta, of in zip(THREE, seeds, strict=True)]
        strangers = [multibeta.load(folder) for folder in fitted(runs, root, jobs)]
        found = multibeta.sweep(one, data, THREE, metrics="alignment", against=strangers)
        result["strangers"] = found.as_dict()["rows"]
    save(talk.result("aligned", seed), COMMAND, result, talk.results)
