"""Digits: scikit-learn's 1,797 handwritten digits, which need no download."""

__all__ = ["Digits"]

import numpy as np
import torch
from torch import Tensor

from multibeta.data.base import ImageData

ROWS = {"train": slice(1258), "val": slice(1258, 1438), "test": slice(1438, None)}


class Digits(ImageData):
    """scikit-learn's 1,797 real handwritten digits, 8×8 grey; they come with the library.

    1,258 are for training, 180 for validation and 359 for testing, drawn by a fixed seed.

    Args:
        batch_size: Number of images in a batch, on each process.
    """

    def __init__(self, batch_size: int = 128) -> None:
        super().__init__(batch_size=batch_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, 8, 8)."""
        return 1, 8, 8

    def load(self) -> dict[str, Tensor]:
        """Reads the images and stretches their 17 grey levels to 0 … 255."""
        from sklearn.datasets import load_digits

        levels, digits = load_digits(return_X_y=True)
        images = np.rint(np.reshape(levels, (-1, 1, 8, 8)) * (255 / 16)).astype(np.uint8)
        order = np.random.default_rng(0).permutation(len(images))
        self._rows, self._digits = {split: order[of] for split, of in ROWS.items()}, digits
        return {split: torch.from_numpy(images[rows]) for split, rows in self._rows.items()}

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The digit that was written: ``{"digit": (N,)}``."""
        self.setup()
        return {"digit": self._digits[self._rows[split]]}

    def rows(self, split: str) -> np.ndarray:
        """The number of each picture in scikit-learn's set."""
        self.setup()
        return self._rows[split]
