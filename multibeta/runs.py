"""A run's folder: what is kept in it, by one process at a time, and how it is named."""

from __future__ import annotations

import contextlib
import csv
import datetime
import itertools
import os
import shutil
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from multibeta.data.door import Door
from multibeta.files import lock, remove_leftovers, replacing
from multibeta.module import MONITOR

__all__ = [
    "AtomicCheckpointIO",
    "Checkpoints",
    "RunLogger",
    "folder_of",
    "is_first",
    "shown",
    "tell",
    "validated",
]


class RunLogger(CSVLogger):
    """Keeps a run's folder, ``ROOT/NAME/DATE-N``, and the ``metrics.csv`` in it.

    The folder is made when it is first asked for. A run that goes on in its folder keeps its rows.
    The file is replaced as a whole: a kill leaves the old one or the new one. Only one process at
    a time goes on with a run, and it removes what one that was killed has left half-written.

    Args:
        root: The folder of all runs.
        name: The name of the run.
        version: ``DATE-N`` of a run to go on with; a new one by default.
    """

    def __init__(self, root: str, name: str, version: str | None = None) -> None:
        super().__init__(root, name, version)
        self._run = version
        self._resumed = self._before = version is not None
        self._rows: list[dict[str, Any]] = []
        self._lock: int | None = None
        if self._resumed and self._path.exists():
            with self._path.open(newline="") as file:
                self._rows = list(csv.DictReader(file))
            if not all((row.get("step") or "").isdecimal() for row in self._rows):
                raise ValueError(
                    f"{shown(self._path)} has rows without a step: somebody has changed it; move "
                    "it away to go on"
                )

    @property
    def version(self) -> str:
        """DATE-N; empty in all processes but the first, which alone writes."""
        if self._run is None:
            self._run = self._reserve() if is_first() else ""
        return self._run

    @rank_zero_only
    def lock(self) -> None:
        """Hold the folder until this process ends; clear what a killed one has left in it.

        Raises:
            ValueError: If another process holds it.
        """
        folder = Path(self.log_dir)
        self._lock = lock(folder)
        if self._lock is None:
            raise ValueError(
                f"another process goes on with {shown(folder)}; wait for it, stop it, or start a "
                "new run from it with --init_from"
            )
        for place in (folder, folder / "checkpoints"):
            remove_leftovers(place)

    @property
    def experiment(self) -> None:
        """None: rows are kept here."""

    @property
    def _path(self) -> Path:
        return Path(self.log_dir) / "metrics.csv"

    def _reserve(self) -> str:
        today = datetime.date.today().isoformat()
        for number in itertools.count(1):
            folder = Path(self.root_dir) / f"{today}-{number}"
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                break
            except OSError as error:
                if not folder.exists():
                    raise OSError(
                        f"the run folder {folder} cannot be made ({error.strerror}); choose "
                        "another place with --trainer.default_root_dir"
                    ) from None
        return folder.name

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add a row."""
        if self._before:  # what an interrupted run wrote after its checkpoint is done again
            while self._rows and int(self._rows[-1]["step"]) >= (step or 0):
                self._rows.pop()
            self._before = False
        self._rows.append({"step": step, **metrics})
        if MONITOR in metrics:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write metrics.csv.

        Raises:
            OSError: If somebody has removed the run's folder.
        """
        if self._rows:
            if not Path(self.log_dir).is_dir():
                raise OSError(f"the run's folder {self.log_dir} has vanished; start the run anew")
            names = dict.fromkeys(name for row in self._rows for name in row)
            with replacing(self._path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(self._rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write metrics.csv, and let others have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.save()

    @rank_zero_only
    def discard(self) -> None:
        """Remove the folder of a run that failed before it had anything to keep."""
        if self._run and not self._resumed and not self._rows:
            shutil.rmtree(self.log_dir, ignore_errors=True)
            for folder in (Path(self.root_dir), Path(self.save_dir)):
                with contextlib.suppress(OSError):  # It holds other runs.
                    folder.rmdir()


class Checkpoints(ModelCheckpoint):
    """Keeps ``checkpoints/last.ckpt`` and ``best.ckpt``, whose curve on the grid is the best."""

    def __init__(self) -> None:
        super().__init__(
            monitor=MONITOR, filename="best", save_last=True, enable_version_counter=False
        )

    @cached_property
    def state_key(self) -> str:
        """Its name in checkpoints, for which Lightning asks at every hook."""
        return super().state_key

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep; and remember what the last weights have, which Lightning does for the best."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.current_score = trainer.callback_metrics.get(MONITOR, self.current_score)
        super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last weights also where training ends between two validations.

        Or where they are others than after the last step: averages.
        """
        super().on_train_end(trainer, pl_module)
        callbacks = cast(Any, trainer).callbacks
        averaged = any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks)
        if self.dirpath and (averaged or self._last_global_step_saved != trainer.global_step):
            trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then renames it."""

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint; that of an older one's datamodule is where the door looks for it."""
        checkpoint = super().load_checkpoint(*args, **kwargs)
        data = (checkpoint.get("multibeta") or {}).get("data")
        own = checkpoint.pop(data["class_path"].rpartition(".")[2], None) if data else None
        if own is not None and Door.__qualname__ not in checkpoint:
            checkpoint[Door.__qualname__] = {"position": {}, "source": own}
        return checkpoint

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save the checkpoint."""
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


@rank_zero_only
def tell(message: str) -> None:
    """Say a line on stderr, in the first process."""
    print(message, file=sys.stderr)


def shown(path: Path) -> Path:
    """Return a path as a user would type it: relative if it is below the current folder."""
    path, here = path.absolute(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def validated(path: str | os.PathLike[str]) -> dict[float, dict[str, list[float]]]:
    """Return what was validated at each β during a training, from the run's ``metrics.csv``.

    Args:
        path: The file, or the folder of the run.

    Returns:
        β → ``step``, ``distortion_nats``, ``rate_nats`` and ``objective_nats``, of each a value a
        validation; empty where nothing was validated.

    Raises:
        ValueError: If there is no such file.
    """
    file = Path(path) / "metrics.csv" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ValueError(f"no metrics.csv at {file}; give the folder of a run that has one")
    found: dict[float, dict[str, list[float]]] = {}
    with file.open(newline="") as opened:
        for row in csv.DictReader(opened):
            for name, value in row.items():
                kind, at, beta = name.partition("@")
                if at and value and kind.startswith("val/"):
                    of = found.setdefault(float(beta), {})
                    of.setdefault(kind.removeprefix("val/"), []).append(float(value))
                    if kind == "val/rate_nats":
                        of.setdefault("step", []).append(float(row["step"]))
    return found


def folder_of(trainer: Trainer) -> Path:
    """Return the run's folder, in the first process; ``trainer.log_dir`` would wait for all."""
    own = next((of for of in trainer.loggers if isinstance(of, RunLogger)), None)
    return Path(trainer.default_root_dir if own is None else own.log_dir)


def is_first() -> bool:
    """Return whether this is the first process, which alone writes."""
    return getattr(rank_zero_only, "rank", 0) == 0
