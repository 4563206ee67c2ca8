"""BinarizedMNIST: MNIST with every pixel drawn once as 0 or 1."""

__all__ = ["BinarizedMNIST"]

from pathlib import Path

from torch import Tensor

from multibeta.data.arrays import Rows
from multibeta.data.base import ImageData
from multibeta.data.npz import Arrays
from multibeta.data.roots import find_root

NEEDS = (
    "BinarizedMNIST needs binarized_mnist.npz in it, or in its folder binarized_mnist, with the"
    " arrays train (50000, 28, 28), valid and test of 0 and 1: make it from Larochelle's"
    " binarized_mnist_{train,valid,test}.amat with numpy.savez"
)


class BinarizedMNIST(ImageData):
    """Statically binarised MNIST (Salakhutdinov and Murray 2008), 50,000 / 10,000 / 10,000.

    Args:
        root: Folder that holds binarized_mnist.npz or binarized_mnist/binarized_mnist.npz; by
            default $MULTIBETA_DATA, else the cache folder.
        batch_size: Number of images in a batch, on each process.
    """

    def __init__(self, root: str | None = None, batch_size: int = 128) -> None:
        super().__init__(root, batch_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, 28, 28), from the header in the file.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        return Arrays(self._path()).form.shape

    def load(self) -> dict[str, Tensor | Rows]:
        """Reads the arrays.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        return Arrays(self._path()).load()[0]

    def _path(self) -> Path:
        folder = find_root(self.root, NEEDS)
        for path in (
            folder / "binarized_mnist" / "binarized_mnist.npz",
            folder / "binarized_mnist.npz",
        ):
            if path.is_file():
                return path
        raise FileNotFoundError(f"there is no binarized_mnist.npz in {str(folder)!r}; {NEEDS}")
