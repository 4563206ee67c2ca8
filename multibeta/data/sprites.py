"""Sprites: white shapes on black, whose factors are known."""

__all__ = ["Sprites"]

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multibeta.data.base import ImageData
from multibeta.data.npz import npz_rows
from multibeta.data.roots import find_root
from multibeta.data.splits import split_rows

NAMES = ("shape", "scale", "orientation", "x", "y")
FILES = (
    "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    "dsprites_downsampled.npz",
    "dsprites_subset.npz",
)
NEEDS = (
    f"Sprites needs dSprites' {FILES[0]} in it, or in its folder dsprites (or a file of the same"
    " arrays imgs and latents_values, by its path): leave data.root out to have sprites rendered"
)
GRID = (3, 6, 10, 16, 16)  # values of each factor
PATCH = 32  # side of the square that a shape is drawn in, pixels


class Sprites(ImageData):
    """Binary 64×64 sprites, one a picture: a shape of some scale, orientation, x and y.

    dSprites (Matthey et al. 2017) where its file is at hand, else rendered by the package:
    squares, ellipses and hearts in 6 scales, 10 orientations, 16 x and 16 y, 46,080 pictures, of
    which no two are equal because the orientations are those of a quarter turn. Split 80/10/10 by
    a fixed seed, each set in mixed order. `size_note` says which of the two was used.

    Some of dSprites' factors cannot be told from the picture: its orientations make a full turn,
    of which the first and the last are the same, and so are a square's at quarter turns.

    Args:
        root: Folder that holds dSprites' file or dsprites/ with it, or the path of the file; by
            default $MULTIBETA_DATA, else the cache folder, and where neither has it the sprites
            are rendered.
        batch_size: Number of images in a batch, on each process.
        size: Number of images, drawn at random by a fixed seed where there are more. All 737,280
            of dSprites take 3 GB of memory.

    Raises:
        ValueError: If size is below 3.
    """

    def __init__(self, root: str | None = None, batch_size: int = 128, size: int = 50_000) -> None:
        super().__init__(root, batch_size)
        self.size = size
        self.factor_names = NAMES
        self._source = ""
        if size < 3:
            raise ValueError(f"data.size={size} is too small; choose at least 3")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, 64, 64)."""
        return 1, 64, 64

    @property
    def size_note(self) -> str:
        """How many images of which kind; empty before the data are loaded."""
        return self._source

    def load(self) -> dict[str, Tensor]:
        """Reads or renders the images, and sets `factors` and `factor_names`.

        Factors that have one value only, such as the colour in dSprites, are left out.

        Raises:
            FileNotFoundError: If root is given and dSprites is not there.
            ValueError: If the file is not one of sprites.
        """
        path = self._path()
        factors = _grid() if path is None else _read_factors(path)
        rows = np.arange(len(factors))
        if self.size < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(len(rows), self.size, replace=False))
        images = _render(factors[rows]) if path is None else _read_images(path, rows)
        self._source = (
            f"{len(rows):,} of {len(factors):,} images"
            f" {'rendered' if path is None else f'of {path.name}'}"
        )
        factors = factors[rows]
        varies = factors.min(axis=0) < factors.max(axis=0)
        self.factor_names = tuple(np.array(NAMES)[varies].tolist())
        # Neighbouring rows are alike; who takes the first ones should see all kinds.
        mix = np.random.default_rng(1).permutation
        parts, _ = split_rows({"train": len(rows)}, self._source)
        split = {k: mix(np.asarray(v)) for k, (_, v) in parts.items()}
        self.factors = {k: torch.from_numpy(factors[v][:, varies]) for k, v in split.items()}
        return {k: torch.from_numpy(images[v]) for k, v in split.items()}

    def _path(self) -> Path | None:
        """The file; None if the sprites are to be rendered."""
        if self.root is not None and os.path.isfile(self.root):
            return Path(self.root)
        folder = find_root(self.root, NEEDS, may_be_empty=self.root is None)
        for name in FILES:
            for path in (folder / "dsprites" / name, folder / name):
                if path.is_file():
                    return path
        if self.root is None:
            return None
        raise FileNotFoundError(f"dSprites is not in {str(folder)!r}; {NEEDS}")


def _grid() -> np.ndarray:
    """The factors of all sprites that can be rendered: (N, 5)."""
    return np.stack(np.unravel_index(np.arange(np.prod(GRID)), GRID), axis=1)


def _render(factors: np.ndarray) -> np.ndarray:
    """Images of the factors (N, 5): (N, 1, 64, 64), 0 and 255."""
    images = np.zeros((len(factors), 1, 64, 64), dtype=np.uint8)
    drawn = {each: 255 * _draw(*each).astype(np.uint8) for each in np.ndindex(*GRID[:3])}
    for image, (shape, scale, orientation, x, y) in zip(images, factors.tolist(), strict=True):
        top, left = 1 + 2 * y, 1 + 2 * x
        image[0, top : top + PATCH, left : left + PATCH] = drawn[shape, scale, orientation]
    return images


def _draw(shape: int, scale: int, orientation: int) -> np.ndarray:
    """Whether each pixel of a patch is inside a shape."""
    size = 0.5 + 0.1 * scale
    angle = orientation * np.pi / 2 / GRID[2]
    down, right = (np.indices((PATCH, PATCH)) - (PATCH - 1) / 2) / size
    along = np.cos(angle) * right + np.sin(angle) * down
    across = np.cos(angle) * down - np.sin(angle) * right
    if shape == 0:
        return np.maximum(abs(along), abs(across)) < 10
    if shape == 1:
        return (along / 14) ** 2 + (across / 8) ** 2 < 1
    u, v = along / 11, 0.1 - across / 11
    return (u**2 + v**2 - 1) ** 3 < u**2 * v**3


def _read_factors(path: Path) -> np.ndarray:
    """The number of the value of each factor, of all images in dSprites' file: (N, 5)."""
    # Arrays are read one by one: the key metadata is pickled, and never touched.
    try:
        values = npz_rows(path, "latents_values")
    except ValueError as error:
        raise ValueError(f"{error}; {NEEDS}") from error
    if values.ndim != 2 or values.shape[1] not in (5, 6):
        raise ValueError(f"{path}: array 'latents_values' has the shape {values.shape}; {NEEDS}")
    # the first of six is the colour, which is always white
    columns = [np.unique(of_one, return_inverse=True)[1] for of_one in values[:, -5:].T]
    return np.stack(columns, axis=1)


def _read_images(path: Path, rows: np.ndarray) -> np.ndarray:
    """Rows of the images in dSprites' file: (N, 1, 64, 64), 0 and 255."""
    images = npz_rows(path, "imgs", rows)
    if images.shape[1:] != (64, 64) or images.dtype not in (np.uint8, np.bool_):
        raise ValueError(
            f"{path}: array 'imgs' is {images.dtype} {images.shape}, not uint8 (N, 64, 64);"
            f" {NEEDS}"
        )
    return 255 * images.astype(np.uint8)[:, None].clip(max=1)
