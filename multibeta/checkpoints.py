"""Reading and writing checkpoints: tensors and plain values only."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.plugins.io import TorchCheckpointIO

from multibeta.files import replacing
from multibeta.model import FORMAT, MultiBetaVAE
from multibeta.specs import build

__all__ = ["AtomicCheckpointIO", "find_checkpoint", "load", "load_data", "read_checkpoint"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then renames it."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save the checkpoint."""
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


def load(path: str | os.PathLike[str]) -> MultiBetaVAE:
    """Load a trained model from a checkpoint.

    Only tensors and plain values are read: no code from the file is executed.

    Args:
        path: A checkpoint file, or a run's folder (its last checkpoint).

    Returns:
        The model, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated, not a checkpoint of multibeta, holds more than tensors
            and plain values, or does not fit the model it describes.

    Example:
        >>> model = load("runs/digits/2026-01-31-1")  # doctest: +SKIP
        >>> vae = model.at_beta(0.1)  # doctest: +SKIP
    """
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    try:
        model = MultiBetaVAE(**checkpoint["hyper_parameters"])
    except TypeError as error:
        raise ValueError(f"{path} describes another model: {error}; fit it anew") from None
    # torch.compile leaves a mark in the names of the weights.
    weights = {k.replace("_orig_mod.", ""): v for k, v in checkpoint["state_dict"].items()}
    own = model.state_dict()
    wrong = sorted(own.keys() ^ weights.keys()) or [
        k for k in own if own[k].shape != weights[k].shape
    ]
    if wrong:
        raise ValueError(
            f"{path} does not fit the model it describes: {wrong[0]} is missing, unknown or of "
            f"another shape ({len(wrong)} such); fit it anew"
        )
    model.load_state_dict(weights)
    model.run_seed = checkpoint["multibeta"]["run_seed"]
    return model.eval()


def load_data(
    path: str | os.PathLike[str], overrides: dict[str, Any] | None = None
) -> LightningDataModule:
    """Return the data that a checkpoint's model was trained on.

    Args:
        path: A checkpoint file, or a run's folder.
        overrides: Arguments of the data to change, such as ``{"root": "/data"}``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint of multibeta or holds no data settings.
    """
    path = find_checkpoint(path)
    spec = read_checkpoint(path)["multibeta"]["data"]
    if spec is None:
        raise ValueError(
            f"{path} does not say what data it was trained on; measure it in Python with "
            "multibeta.sweep(model, data)"
        )
    init_args = {**spec["init_args"], **(overrides or {})}
    return build({**spec, "init_args": init_args}, LightningDataModule)


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """Return the checkpoint file that a path stands for.

    Raises:
        FileNotFoundError: If there is none.
    """
    given, path = Path(path), Path(path)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {given}; give a .ckpt file or the folder of a run, such as "
            "runs/digits/2026-01-31-1"
        )
    return path


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of multibeta, tensors and plain values only.

    Raises:
        ValueError: If it is something else.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is truncated or no checkpoint; give another, such as the last.ckpt or "
            "best.ckpt beside it"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than tensors and plain values, and was not opened, because it "
            "could run code; give a checkpoint made by multibeta fit"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{path} is damaged or no checkpoint ({first}); give another") from None
    own = checkpoint.get("multibeta") if isinstance(checkpoint, dict) else None
    if not isinstance(own, dict):
        raise ValueError(f"{path} is not a checkpoint made by multibeta fit; give one that is")
    if own["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {own['format']}, and this multibeta reads format {FORMAT}; "
            "update multibeta"
        )
    if own["format"] < FORMAT:  # its weights would load, and mean another posterior
        raise ValueError(
            f"{path} has format {own['format']}, and this multibeta reads format {FORMAT}; "
            "fit the model again"
        )
    return checkpoint
