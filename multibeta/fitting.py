"""``vae.fit``: training by Lightning from Python, leaving the run that the command line leaves."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from multibeta.callbacks import (
    Announce,
    Interrupt,
    MeasureCurve,
    be_quiet,
    progress_at,
)
from multibeta.costs import Costs
from multibeta.curve import Curve
from multibeta.data.arrays import Rows
from multibeta.data.door import Door
from multibeta.files import replacing
from multibeta.markup import facts
from multibeta.module import MultiBetaModule
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.progress import place
from multibeta.resume import OF_THE_PLACE, Origin, listed
from multibeta.runs import (
    AtomicCheckpointIO,
    Checkpoints,
    RunLogger,
    tell,
)
from multibeta.settings import plain_settings

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

    def _repr_html_(self) -> str:
        curve = "" if self.curve is None else self.curve._repr_html_()
        return f"{facts('A run', {'folder': self.folder, **self.vae.facts()})}{curve}"


def fit(
    vae: MultiBetaVAE,
    train: Any,
    val: Any = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 3e-3,
    warmup: float = 0.2,
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
        train: Anything that :class:`multibeta.data.Door` takes: a datamodule, DataLoader, Dataset,
            array, tensor, list or stream, of x, tuples or dicts.
        val: The same for validation and the curve; a tenth of an array where it is not given.
            Without any the curve is that of the training set.
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
    data = _door(train, val, batch_size, vae)
    data.prepare_data()
    data.setup("fit")
    if not vae.latent_shape:
        x, inputs = vae.read(next(iter(data.batches("train"))))
        vae.place(x, **inputs)
    plain_settings(vae)  # what cannot be kept is said now
    origin = None if ckpt_path is None else Origin(ckpt_path, use="go on")
    if origin is not None and origin.folder is not None:
        folder = origin.folder
        logger = RunLogger(str(folder.parent.parent), folder.parent.name, folder.name)
    else:
        logger = RunLogger(str(root), name)
    loggers = [logger, *listed(trainer.pop("logger", None) or None)]
    callbacks = listed(trainer.pop("callbacks", None))
    where = place()
    measured = MeasureCurve(betas, metrics, "test")
    settings = {
        "max_epochs": epochs, "gradient_clip_val": 1.0, "num_sanity_val_steps": 0,
        "enable_model_summary": False, "enable_progress_bar": where == "terminal",
        "log_every_n_steps": 10, **trainer,
    }  # fmt: skip
    made = Trainer(
        logger=loggers,
        callbacks=[
            *callbacks, Announce(), Costs(), Interrupt(), Checkpoints(), measured,
            progress_at(where),
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
        be_quiet()
        made.fit(module, datamodule=data, ckpt_path=str(origin.path) if origin else None)
    folder = Path(logger.log_dir)
    with replacing(folder / "config.yaml") as temporary:
        record = {"epochs": epochs, "lr": lr, "warmup": warmup, "seed": seed}
        content = plain_settings(vae)
        content = {k: dict(v, placed=None) if "placed" in v else v for k, v in content.items()}
        temporary.write_text(yaml.safe_dump({**record, **content}, sort_keys=False))
    return Run(folder, vae.eval(), measured.curve)


def _door(train: Any, val: Any, batch_size: int, vae: MultiBetaVAE) -> Door:
    """Return the door to training and validation data; an array without any lends a tenth."""
    array = isinstance(train, np.ndarray | Tensor) and val is None
    if array and len(train) > 1:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        held_out = max(1, len(train) // 10)
        train, val = (
            Rows(train, rows=rows.sort().values.numpy())
            if isinstance(train, np.ndarray)
            else train[rows.sort().values]
            for rows in (order[held_out:], order[:held_out])
        )
        tell(
            f"{held_out:,} of the {len(order):,} examples, chosen at random, are for validation "
            "and the curve; give val=… for others"
        )
    if isinstance(train, Door):
        if val is not None:
            raise ValueError("val is given beside a door, which has its own; leave it out")
        return Door.of(train, vae)
    return Door.of(Door(train, val, batch_size=batch_size), vae)
