"""The data sets and models of the codec's benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import multibeta
from benchmarks.runs import Run, fitted
from benchmarks.shipped import MODELS
from multibeta.checkpoints import find_checkpoint
from multibeta.data import MNIST, NPZ, CelebA, Omniglot
from multibeta.data.base import ImageData
from multibeta.multibeta_vae import MultiBetaVAE

__all__ = [
    "BETAS",
    "DEDICATED",
    "SETS",
    "Set",
    "dedicated_runs",
    "fit",
    "model_of",
    "one_run",
    "pictures",
    "rows_of",
]

BETAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Where files are measured."""

DEDICATED = (0.01, 0.1, 0.3, 1.0, 3.0)
"""The β's of the dedicated models."""


@dataclass(frozen=True)
class Set:
    """Data and models.

    Args:
        label: In tables.
        data: DATA_ROOT → the data.
        options: Of ``multibeta fit``.
        schedule: Further ones, of the one model: how long.
        together: Test pictures in one file.
        tried: Those on which other ways to bits are tried.
        cut: Those in one that is cut.
        shipped: The name of a model that comes with the package; it is not fitted anew.
        dedicated: The schedule of each dedicated model; empty for none.
        budget: What that is, in words.
    """

    label: str
    data: Callable[[str], ImageData]
    options: tuple[str, ...]
    schedule: tuple[str, ...] = ()
    together: int = 2_000
    tried: int = 1_000
    cut: int = 1_000
    shipped: str | None = None
    dedicated: tuple[str, ...] = ()
    budget: str = ""


def _steps(count: int) -> tuple[str, ...]:
    return "--trainer.max_epochs=-1", f"--trainer.max_steps={count}"


CLOTHES = "fashion_mnist/fashion_mnist.npz"
CONV = ("--model.network=Conv", "--model.network.width=32", "--model.network.depth=3")
SETS = {
    "mnist": Set(
        "MNIST, MLP", MNIST, MODELS["mnist"], together=10_000, shipped="mnist",
        dedicated=("--trainer.max_epochs=30",),
        budget="as many steps each as the one model",
    ),
    "clothes": Set(
        "clothes, Conv", lambda root: NPZ(f"{root}/{CLOTHES}"),
        ("--config=npz.yaml", f"--data.root=DATA_ROOT/{CLOTHES}",
         "--model.likelihood=Bernoulli", *CONV),
        _steps(8000), cut=300, dedicated=_steps(1000),
        budget="five share half the processor time of the one model",
    ),
    "omniglot": Set(
        "Omniglot, Conv", Omniglot,
        ("--config=omniglot.yaml", "--data.root=DATA_ROOT", *CONV), _steps(2000),
    ),
    "celeba": Set(
        "CelebA 64×64, Conv", CelebA,
        ("--config=celeba.yaml", "--data.root=DATA_ROOT", "--model.latent_dim=128",
         "--trainer.precision=bf16-mixed"), _steps(900), together=1_000, tried=160, cut=80,
    ),
}  # fmt: skip
"""Name → set."""

_COMMON = ("--trainer.limit_val_batches=0", "--seed_everything=0")


def one_run(name: str) -> Run | None:
    """Return the run of a set's one model; None if it comes with the package."""
    of = SETS[name]
    if of.shipped:
        return None
    return Run(f"codec_{name}_one", (*of.options, *of.schedule, *_COMMON), {})


def dedicated_runs(name: str) -> dict[float, Run]:
    """Return the runs of a set's dedicated models, by β; empty if it has none."""
    of = SETS[name]
    if not of.dedicated:
        return {}
    own = (*of.options, *of.dedicated, *_COMMON, "--model.conditioning=none")
    return {
        beta: Run(f"codec_{name}_{beta:g}", (*own, f"--model.betas={beta!r}"), {})
        for beta in DEDICATED
    }


def fit(names: Iterable[str], root: str, jobs: int) -> None:
    """Fit the models of sets that are missing.

    Args:
        names: Of sets.
        root: The data's folder.
        jobs: Runs at a time.
    """
    for name in names:
        one = one_run(name)
        fitted([*([one] if one else []), *dedicated_runs(name).values()], root, jobs)


def model_of(name: str, root: str, beta: float | None = None) -> MultiBetaVAE:
    """Return a set's one model, or the dedicated one of a β; fitted if it is not there.

    Args:
        name: Of the set.
        root: The data's folder.
        beta: That of a dedicated model.
    """
    return multibeta.load(_place(name, root, beta)).eval()


def pictures(name: str, root: str, split: str = "test") -> Tensor:
    """Return a split as it is kept: (N, C, H, W), 8-bit.

    Args:
        name: Of the set.
        root: The data's folder.
        split: Which.
    """
    data = SETS[name].data(root)
    data.setup()
    x = data.splits[split][:]
    return x if isinstance(x, Tensor) else torch.from_numpy(np.array(x))


def rows_of(count: int, most: int) -> np.ndarray:
    """Return up to so many rows out of ``count``, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def _place(name: str, root: str, beta: float | None = None) -> Path:
    if beta is None and (shipped := SETS[name].shipped):
        return find_checkpoint(shipped)
    run = one_run(name) if beta is None else dedicated_runs(name)[beta]
    assert run is not None
    (found,) = fitted([run], root, 1)
    return found
