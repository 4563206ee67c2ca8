"""Going on with a training, and starting from its weights: what a checkpoint says of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule

from multibeta.checkpoints import data_of, find_checkpoint, fits, misfits, read_checkpoint
from multibeta.data.door import Door
from multibeta.runs import shown, tell
from multibeta.specs import check_trusted, paths_in

__all__ = ["OF_THE_PLACE", "Origin", "listed"]

_OF_THE_RUN = ("name", "folder", "threads")
OF_THE_PLACE = ("default_root_dir", "accelerator", "devices", "num_nodes", "strategy")
"""Settings of the trainer that are the machine's, not the training's: no checkpoint holds them."""


class Origin:
    """The checkpoint that a training or a measurement starts from: it alone says what was trained.

    Args:
        path: The checkpoint, or a run's folder.
        allow: Modules whose classes it may name.
        use: Whether a run's folder stands for its last checkpoint, to go on with.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        allow: Sequence[str] = (),
        use: Literal["measure", "go on"] = "measure",
    ) -> None:
        self.path, self.allow = find_checkpoint(path, use).absolute(), allow
        self.checkpoint = read_checkpoint(self.path)
        self.content: dict[str, Any] = self.checkpoint["multibeta"]
        self.name: str | None = self.content["run"].get("name")

    def settings(self, use: Literal["go on", "start", "measure"]) -> dict[str, Any]:
        """Return the settings of the command line that make model, data and training again.

        Args:
            use: What for. Only who goes on takes callbacks, loggers and the like; who measures
                takes nothing of the training.

        Raises:
            ValueError: If only the user's code can make the model, or they name code that is not
                allowed.
        """
        content = self.content
        if "wrapped" in content:
            raise ValueError(
                f"{self.path} is of a wrapped model, whose networks are your code; go on in "
                "Python: multibeta.load(path, encoder, decoder), its fit(…, ckpt_path=path), sweep"
            )
        model = {k: v for k, v in content["settings"].items() if k != "shape"}
        found: dict[str, Any] = {"model": {**model, **(content["training"] or {})}}
        if use != "measure":
            found |= {k: v for k, v in content["run"].items() if k not in _OF_THE_RUN}
        if use == "start":
            found["trainer"] = {k: v for k, v in found["trainer"].items() if not [*paths_in(v)]}
        if (data := data_of(content)) is not None:
            found["data"] = data
        check_trusted(found, self.allow, self.path)
        return found

    @property
    def folder(self) -> Path | None:
        """The run's own folder, if the file still lies in it."""
        folder, record = self.path.parent.parent, self.content["run"]
        there = (folder.parent.name, folder.name, self.path.parent.name)
        return folder if there == (self.name, record.get("folder"), "checkpoints") else None

    def check_steps(self, trainer: Any) -> None:
        """Refuse to go on where no step is left.

        Raises:
            ValueError: If none is, and the run has its curve.
        """
        epochs = self.checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        steps = self.checkpoint["global_step"]
        by_epochs = -1 < _number(trainer.max_epochs) <= epochs
        if not by_epochs and not -1 < _number(trainer.max_steps) <= steps:
            return
        done = f"{shown(self.path)} has done its {epochs} epochs, {steps} steps"
        measures = (self.content["run"].get("curve") or {}).get("enabled", True)
        folder = self.folder if measures else None
        files = ("curve.csv", "curve.png", "curve.json")  # the last one when all are written
        if folder is not None and not all((folder / name).exists() for name in files):
            tell(f"{done}: no step is left, and the curve is measured")
            return
        more = "max_epochs" if by_epochs else "max_steps"
        raise ValueError(
            f"no step is left: {done}; to go on give a larger trainer.{more}, or start a new "
            "training from its weights (--init_from in the place of --ckpt_path)"
        )

    def check_data(self, data: Any) -> None:
        """Say where the training examples are others than those of the checkpoint."""
        before, now = self.content.get("examples"), Door.of(data).fingerprint()
        if before and now and before != now:
            tell("the training examples are not those of the checkpoint")

    def check_fit(self, model: LightningModule) -> None:
        """Refuse a model of other sizes.

        Raises:
            ValueError: If it has some.
        """
        if wrong := misfits(model.state_dict(), self.checkpoint["state_dict"]):
            raise ValueError(
                f"{self.path} does not fit the model: {wrong[0]} ({len(wrong)} such); go on with "
                "the model that was trained"
            )

    def give_weights(self, model: LightningModule) -> None:
        """Load the weights that fit, and say which do not.

        Raises:
            ValueError: If none does.
        """
        own, theirs = model.state_dict(), self.checkpoint["state_dict"]
        taken = {k: v for k, v in theirs.items() if k in own and fits(own[k], v)}
        left = [m for m in misfits(own, theirs) if "unknown" not in m]
        if not taken:
            raise ValueError(f"nothing of {self.path} fits this model: {left[0]}")
        model.load_state_dict(taken, strict=False)
        several = f" and {len(left) - 3} more" if len(left) > 3 else ""
        rest = f"; not taken: {'; '.join(left[:3])}{several}" if left else ""
        tell(f"{len(taken)} of {len(own)} weights are those of {shown(self.path)}{rest}")


def listed(value: Any) -> list[Any]:
    """Return what Lightning's Trainer takes as one, several or None as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _number(limit: Any) -> float:
    return -1 if limit is None else limit
