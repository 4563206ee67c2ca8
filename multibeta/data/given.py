"""Examples that somebody gives by name: image files, folders of them, arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multibeta.data.cache import SUFFIXES, CorruptError, Recipe, scan
from multibeta.files import check_readable

__all__ = ["examples_of", "write_picture"]


def examples_of(
    paths: Sequence[str], shape: tuple[int, ...], data: Any = None
) -> tuple[Tensor, list[str]]:
    """Read examples, each as the data set of a model would.

    Args:
        paths: Image files, folders with image files, .npy and .npz files.
        shape: That of an example.
        data: The data set, which knows how it cuts and reduces pictures; else the largest square
            of the centre is reduced to H × W.

    Returns:
        The examples (N, *shape), of pictures uint8; and a name for each.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file holds no example of this shape, or two have the same name.
    """
    found: list[np.ndarray] = []
    names: list[str] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise FileNotFoundError(f"no file at {path}; give images, a folder of them, or arrays")
        check_readable(path)
        if path.suffix.lower() in (".npy", ".npz"):
            array = _array(path, shape)
            found.append(array)
            names += [f"{path.stem}-{i}" for i in range(len(array))]
            continue
        files = [path / source.name for source in scan(path)[0]] if path.is_dir() else [path]
        if not files:
            raise ValueError(f"{path} is a folder without images; give another")
        for file in files:
            found.append(_picture(file, shape, data)[None])
            names.append(str(file.relative_to(path.parent) if path.is_dir() else file.name))
    stems = [str(Path(name).with_suffix("")) for name in names]  # what is made of them is named so
    if twice := [name for name, stem in zip(names, stems, strict=True) if stems.count(stem) > 1]:
        raise ValueError(
            f"two examples are called {twice[0]}, and one would be written over the other: give "
            "the folder above them, or one after the other"
        )
    kinds = {array.dtype for array in found}
    if len(kinds) > 1:
        listed = ", ".join(sorted(map(str, kinds)))
        raise ValueError(f"the files have numbers of several types ({listed}); give them apart")
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(found))), names


def _picture(path: Path, shape: tuple[int, ...], data: Any) -> np.ndarray:
    """Return (C, H, W), uint8."""
    if path.suffix.lower() not in SUFFIXES:
        allowed = ", ".join([*SUFFIXES, ".npy", ".npz"])
        raise ValueError(f"{path} is no file of a known kind; allowed: {allowed}")
    recipe = getattr(data, "_recipe", None)
    if recipe is None or recipe.shape != shape:
        if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
            raise ValueError(
                f"{path} is a picture, and this model is of {shape}; give an .npy file (N, "
                f"{', '.join(map(str, shape))})"
            )
        recipe = Recipe(shape[1], "L" if shape[0] == 1 else "RGB", convert=True)
    try:
        return recipe.apply(path)
    except CorruptError as error:
        raise ValueError(f"{path} {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array (N, *shape) in a file; of one example, or without the one channel, too."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {path.stem: loaded}
        else:
            with loaded:
                arrays = dict(loaded)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as arrays ({error})") from None
    forms = [shape, shape[1:]] if shape[0] == 1 and len(shape) > 1 else [shape]
    able = {
        name: array.reshape(-1, *shape)
        for name, array in arrays.items()
        if array.dtype.kind in "biuf" and {array.shape, array.shape[1:]} & {*forms}
    }
    if len(able) != 1:
        has = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{path} holds {has}; give one array of examples (N, {wanted})")
    return next(iter(able.values()))


def write_picture(x: np.ndarray, path: Path, span: tuple[float, float]) -> None:
    """Write a picture (C, H, W) with 1 or 3 channels to a file, 8 bits.

    Args:
        x: The picture.
        path: The file; its suffix chooses the format.
        span: The values that become 0 and 255; what is beyond them is clipped.
    """
    from PIL import Image

    from multibeta.files import replacing

    scaled = np.clip((x - span[0]) / (span[1] - span[0]), 0, 1)
    pixels = np.rint(scaled * 255).astype(np.uint8).transpose(1, 2, 0)
    with replacing(path) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(temporary)
