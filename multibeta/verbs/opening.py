"""What every verb begins with: the checkpoint, its model and data, what options say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multibeta.options import read_yaml

__all__ = ["folder_of", "opened", "plain_values", "weights_at"]


def opened(
    checkpoint: str,
    device: str,
    data: dict[str, Any] | None,
    allow: str | None,
    at: str | None = None,
    extrapolate: bool = False,
    measures: bool = True,
) -> tuple[Path, Any, Any]:
    """Return a checkpoint's path, its model on the device, and its data.

    Args:
        checkpoint: As in :func:`multibeta.checkpoints.find_checkpoint`.
        device: ``auto``, or what torch knows.
        data: Settings of the data that replace those of the checkpoint.
        allow: Modules, with commas, whose classes the checkpoint may name.
        at: Values of the other weights, as ``gamma=2,sigma=0.1``.
        extrapolate: Allow such values outside the trained ranges.
        measures: Whether the data is measured on. Else it only says how files are read, and is
            None where the checkpoint does not name it.

    Raises:
        ValueError: If the device cannot be used, or a value is a range or outside its own.
    """
    import torch

    from multibeta.checkpoints import find_checkpoint, load, load_data, read_checkpoint

    path = find_checkpoint(checkpoint).absolute()
    model = load(path, allow=allow or ())
    if device == "auto":
        at_hand = torch.accelerator.is_available()
        device = str(torch.accelerator.current_accelerator()) if at_hand else "cpu"
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"device={device} cannot be used ({reason}); try auto or cpu") from None
    weights = {name: float(value) for name, value in weights_at(at).items() if ":" not in value}
    if len(weights) < len(weights_at(at)):
        raise ValueError(f"--at {at} has a range; give one value of each weight")
    model = model.pin(extrapolate=extrapolate, **weights)
    if not measures and read_checkpoint(path)["multibeta"]["data"] is None:
        return path, model, None
    return path, model, load_data(path, plain_values(data or {}), allow or ())


def weights_at(at: str | None) -> dict[str, str]:
    """Return name → value from ``gamma=2,sigma=0.1``.

    Raises:
        ValueError: If it reads otherwise.
    """
    found = {}
    for part in at.split(",") if at else ():
        name, equals, value = part.partition("=")
        if not (equals and re.fullmatch(r"[-+.\deE]+(:[-+.\deE]+){0,2}", value)):
            raise ValueError(
                f"--at {at} cannot be read; write NAME=NUMBER, such as gamma=2,sigma=0.1"
            )
        found[name.strip()] = value
    return found


def folder_of(checkpoint: Path, split: str) -> Path:
    """Return where a curve belongs: a run's own is that of what stands for it, on the test set.

    Args:
        checkpoint: The file.
        split: Which set was measured.
    """
    from multibeta.checkpoints import SHIPPED, best_or_last
    from multibeta.hub import WEIGHTS, repo_of

    if checkpoint.parent == SHIPPED or checkpoint.name == WEIGHTS:
        # Nothing is written into the package, the Hub's cache, or a folder for the Hub.
        name = repo_of(checkpoint) or checkpoint.parent.name
        own = checkpoint.stem if checkpoint.parent == SHIPPED else name.rpartition("/")[2]
        folder = Path.cwd() / f"multibeta-{own}"
        return folder if split == "test" else folder / split
    in_run = checkpoint.parent.name == "checkpoints"
    folder = checkpoint.parent.parent if in_run else checkpoint.parent
    if not (in_run and best_or_last(checkpoint.with_name("last.ckpt"))[0] == checkpoint):
        folder = folder / checkpoint.stem
    return folder if split == "test" else folder / split


def plain_values(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings from the command line as plain values: 3, not "3"."""
    return {k: read_yaml(v) if isinstance(v, str) else v for k, v in given.items()}
