"""``vae.fit``: training by Lightning from Python, leaving the run that the command line leaves."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import Tensor

from multibeta.callbacks import (
    Announce,
    AtomicCheckpointIO,
    Checkpoints,
    Interrupt,
    MeasureCurve,
    ProgressBar,
    ProgressLines,
    RunLogger,
)
from multibeta.curve import Curve
from multibeta.data.batches import Batches, tensor_of
from multibeta.files import replacing
from multibeta.module import MultiBetaModule
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.resume import OF_THE_PLACE, Origin, listed
from multibeta.settings import plain_settings
from multibeta.vae import images_of

__all__ = ["Run", "fit"]


@dataclass(frozen=True)
class Run:
    """What a training has left.

    Args:
        folder: Its folder, with config.yaml, metrics.csv, checkpoints, the curve and pictures.
        vae: The trained model.
        curve: Its curve; None where none was measured.
    """

    folder: Path
    vae: MultiBetaVAE
    curve: Curve | None


def fit(
    vae: MultiBetaVAE,
    train: Any,
    val: Any = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 2e-3,
    warmup: float = 0.05,
    betas: str | None = None,
    metrics: str | None = None,
    name: str = "python",
    root: str | os.PathLike[str] = "runs",
    seed: int = 0,
    ckpt_path: str | os.PathLike[str] | None = None,
    **trainer: Any,
) -> Run:
    """Train a model by Lightning, measure its curve, and keep both in a run's folder.

    Args:
        vae: The model.
        train: A datamodule; or x as an array or tensor (N, *shape), or batches that can be
            iterated again and again, such as a DataLoader: tensors, tuples that begin with x, or
            dicts with x and further inputs.
        val: The same for validation and the curve; a tenth of an array where it is not given.
        epochs: How often to go through the training set.
        batch_size: Examples in a batch, of arrays.
        lr: Peak learning rate of Adam.
        warmup: Fraction of the training in which it rises.
        betas: Where to measure the curve.
        metrics: What to measure beside rate and distortion.
        name: The run's: ``ROOT/NAME/DATE-N``.
        root: The folder of all runs.
        seed: That of weights drawn from now on, batches, β's and noise.
        ckpt_path: A checkpoint of such a training, or its run's folder, to go on with.
        trainer: Further arguments of ``lightning.pytorch.Trainer``.

    Raises:
        ValueError: If the data does not fit the model, or is not of these kinds.
        TypeError: If a checkpoint could not hold the model.
    """
    seed_everything(seed, verbose=False)
    data = _data(train, val, batch_size)
    first = next(iter(data.train_dataloader()))
    if not vae.latent_shape:
        inputs = {k: v for k, v in first.items() if k != "x"} if isinstance(first, dict) else {}
        vae.place(images_of(first), **inputs)
    vae.check(images_of(first))
    plain_settings(vae)  # what cannot be kept is said now
    origin = None if ckpt_path is None else Origin(ckpt_path)
    if origin is not None and origin.folder is not None:
        folder = origin.folder
        logger = RunLogger(str(folder.parent.parent), folder.parent.name, folder.name)
    else:
        logger = RunLogger(str(root), name)
    loggers = [logger, *listed(trainer.pop("logger", None) or None)]
    callbacks = listed(trainer.pop("callbacks", None))
    on_terminal = sys.stderr.isatty()
    measured = MeasureCurve(betas, metrics, "val" if isinstance(data, OwnData) else "test")
    for named in ("lightning.pytorch", "lightning.fabric"):  # advertisements
        logging.getLogger(named).setLevel(logging.WARNING)
    settings = {
        "max_epochs": epochs, "gradient_clip_val": 1.0, "num_sanity_val_steps": 0,
        "enable_model_summary": False, "enable_progress_bar": on_terminal,
        "log_every_n_steps": 10, **trainer,
    }  # fmt: skip
    made = Trainer(
        logger=loggers,
        callbacks=[
            *callbacks, Announce(), Interrupt(), Checkpoints(), measured,
            ProgressBar() if on_terminal else ProgressLines(),
        ],
        plugins=[AtomicCheckpointIO()],
        **settings,
    )  # fmt: skip
    module = MultiBetaModule(vae, lr, warmup)
    module.record = {
        "name": logger.name, "folder": logger.version, "seed_everything": seed,
        "trainer": {
            name: value for name, value in settings.items()
            if isinstance(value, int | float | str) and name not in OF_THE_PLACE
        },
        "curve": {"betas": betas, "metrics": metrics, "split": measured.split},
    }  # fmt: skip
    if origin is not None:
        origin.check_fit(module)
        origin.check_steps(made)
        origin.check_data(data)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers", r"The number of training batches \(\d+\) is smaller",
            r"`isinstance\(treespec, LeafSpec\)` is deprecated",
            "Trying to infer the `batch_size`", "Checkpoint directory .* exists and is not empty",
            "The dirpath has changed from",
        ):  # fmt: skip
            warnings.filterwarnings("ignore", message)
        made.fit(module, datamodule=data, ckpt_path=str(origin.path) if origin else None)
    folder = Path(logger.log_dir)
    with replacing(folder / "config.yaml") as temporary:
        record = {"epochs": epochs, "lr": lr, "warmup": warmup, "seed": seed}
        content = plain_settings(vae)
        content = {k: dict(v, placed=None) if "placed" in v else v for k, v in content.items()}
        temporary.write_text(yaml.safe_dump({**record, **content}, sort_keys=False))
    return Run(folder, vae.eval(), measured.curve)


class OwnData(LightningDataModule):
    """Batches for training and for all that is measured."""

    def __init__(self, train: Any, val: Any, note: str) -> None:
        super().__init__()
        self._train, self._val, self.size_note = train, val, note

    def train_dataloader(self) -> Any:
        """Return the training batches."""
        return self._train

    def val_dataloader(self) -> Any:
        """Return the others."""
        return self._val

    test_dataloader = val_dataloader

    def ordered(self, split: str) -> Any:
        """Return the batches of a part, in order."""
        if split == "train" and isinstance(self._train, Batches):
            return Batches(self._train.images, self._train.batch_size)
        return self._train if split == "train" else self._val

    @property
    def splits(self) -> dict[str, Any]:
        """The arrays, where there are some."""
        parts = {"train": self._train, "val": self._val}
        return {k: v.images for k, v in parts.items() if isinstance(v, Batches)}


def _data(train: Any, val: Any, batch_size: int) -> LightningDataModule:
    if isinstance(train, LightningDataModule):
        if val is not None:
            raise ValueError("val is given beside a datamodule, which has its own; leave it out")
        train.prepare_data()
        train.setup("fit")
        return train
    note = ""
    if isinstance(train, np.ndarray | Tensor):
        x = tensor_of(train)
        if val is None:
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
            held_out = max(1, len(x) // 10)
            x, val = x[order[held_out:].sort().values], x[order[:held_out].sort().values]
            note = f"{held_out:,} of them, chosen at random, for validation and the curve"
        if len(x) < batch_size:
            raise ValueError(
                f"batch_size={batch_size} is larger than the training set of {len(x)} examples; "
                f"choose at most {len(x)}"
            )
        train = Batches(x, batch_size, train=True, seed=torch.initial_seed())
    for which, of in {"train": train, "val": val}.items():
        if of is None and which == "val":
            raise ValueError("val is not given, and batches cannot be split; give batches for it")
        if isinstance(of, np.ndarray | Tensor):
            continue
        if not isinstance(of, Iterable) or iter(of) is of:
            raise ValueError(
                f"{which} is a {type(of).__name__}; give a datamodule, an array, a tensor, or "
                "batches that can be iterated again, such as a DataLoader"
            )
    if isinstance(val, np.ndarray | Tensor):
        val = Batches(tensor_of(val), batch_size)
    return OwnData(train, val, note)
