"""FashionMNIST: articles of clothing, read by torchvision."""

__all__ = ["FashionMNIST"]

from multibeta.data.mnist import MNIST


class FashionMNIST(MNIST):
    """Fashion-MNIST: 28×28 grey articles; 50,000 for training, the last 10,000 for validation.

    Args:
        root: Folder of FashionMNIST/raw; by default $MULTIBETA_DATA, else the cache folder.
        batch_size: Number of images in a batch, on each process.
        download: Whether to download what is not there.
    """
