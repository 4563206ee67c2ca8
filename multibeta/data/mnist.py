"""MNIST: handwritten digits, read by torchvision."""

__all__ = ["MNIST"]

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
            torchvision_set(
                getattr(datasets, name), self.root, self.download, needs, train=train
            ).data[:, None]
            for train in (True, False)
        )
        val = max(1, len(fit) // 6)
        return {"train": fit[:-val], "val": fit[-val:], "test": test}
