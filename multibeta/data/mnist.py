"""MNIST: handwritten digits, read by torchvision."""

__all__ = ["MNIST", "classes"]

from typing import Any

import numpy as np
from torch import Tensor

from multibeta.data.base import ImageData
from multibeta.data.roots import torchvision_set


class MNIST(ImageData):
    """MNIST: 28×28 grey digits; 50,000 for training, the last 10,000 of the 60,000 for validation.

    Args:
        root: Folder that holds MNIST/raw; by default $MULTIBETA_DATA, else the cache folder.
        batch_size: Number of images in a batch, on each process.
        download: Whether to download what is not there.
    """

    def __init__(
        self, root: str | None = None, batch_size: int = 128, download: bool = True
    ) -> None:
        super().__init__(root, batch_size)
        self.download = download

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, 28, 28)."""
        return 1, 28, 28

    def load(self) -> dict[str, Tensor]:
        """Reads the images, downloading them if that is needed and allowed.

        Raises:
            OSError: If they are not there and cannot be downloaded.
        """
        from torchvision import datasets

        name = type(self).__name__
        needs = (
            f"{name} needs the folder {name}/raw in it, with the four unpacked idx files: give the"
            " folder that holds it, or leave data.root out and set data.download=true"
        )
        fit, test = (
            torchvision_set(getattr(datasets, name), self.root, self.download, needs, train=train)
            for train in (True, False)
        )
        self._classes = classes(fit, test, part := max(1, len(fit.data) // 6))
        x = fit.data[:, None]
        return {"train": x[:-part], "val": x[-part:], "test": test.data[:, None]}

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The class: ``{"class": (N,)}``, words, of a digit the digit."""
        self.setup()
        return {"class": self._classes[split]}


def classes(fit: Any, test: Any, val: int) -> dict[str, np.ndarray]:
    """The class of each example of torchvision's sets: "train", "val", "test" → (N,), words.

    Args:
        fit: The training set.
        test: The test set.
        val: How many of the training set, the last ones, are for validation.
    """
    words = np.array([word.partition(" - ")[0] for word in fit.classes])
    of_fit, of_test = (words[np.asarray(of.targets)] for of in (fit, test))
    return {"train": of_fit[:-val], "val": of_fit[-val:], "test": of_test}
