"""CIFAR10: small colour photographs, read by torchvision."""

__all__ = ["CIFAR10"]

import numpy as np
import torch
from torch import Tensor

from multibeta.data.base import ImageData
from multibeta.data.mnist import classes
from multibeta.data.roots import torchvision_set

NEEDS = (
    "CIFAR10 needs the folder cifar-10-batches-py in it, with the unpacked original files: give"
    " the folder that holds it, or leave data.root out and set data.download=true"
)


class CIFAR10(ImageData):
    """CIFAR-10: 32×32 colour photographs; 45,000 for training, the last 5,000 for validation.

    Args:
        root: Folder of cifar-10-batches-py; by default $MULTIBETA_DATA, else the cache folder.
        batch_size: Number of images in a batch, on each process.
        flip: Whether to mirror training images left to right at random.
        download: Whether to download what is not there.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        flip: bool = False,
        download: bool = True,
    ) -> None:
        super().__init__(root, batch_size, flip)
        self.download = download

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, 32, 32)."""
        return 3, 32, 32

    def load(self) -> dict[str, Tensor]:
        """Reads the images, downloading them if that is needed and allowed.

        Raises:
            OSError: If they are not there and cannot be downloaded.
        """
        from torchvision import datasets

        sets = [
            torchvision_set(datasets.CIFAR10, self.root, self.download, NEEDS, train=train)
            for train in (True, False)
        ]
        fit, test = (
            torch.from_numpy(np.ascontiguousarray(of.data.transpose(0, 3, 1, 2))) for of in sets
        )
        val = max(1, len(fit) // 10)
        self._classes = classes(sets[0], sets[1], val)
        return {"train": fit[:-val], "val": fit[-val:], "test": test}

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The class: ``{"class": (N,)}``, words."""
        self.setup()
        return {"class": self._classes[split]}
