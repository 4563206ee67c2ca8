"""Data sets as Lightning datamodules that hold arrays and yield batches."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multibeta.data.base import ImageData
    from multibeta.data.batches import Batches
    from multibeta.data.binarized_mnist import BinarizedMNIST
    from multibeta.data.celeba import CelebA
    from multibeta.data.cifar10 import CIFAR10
    from multibeta.data.digits import Digits
    from multibeta.data.door import Door
    from multibeta.data.fashion_mnist import FashionMNIST
    from multibeta.data.folder import Folder
    from multibeta.data.gaussian import Gaussian
    from multibeta.data.mnist import MNIST
    from multibeta.data.npz import NPZ
    from multibeta.data.omniglot import Omniglot
    from multibeta.data.sprites import Sprites
    from multibeta.data.table import Table

__all__ = [
    "CIFAR10",
    "MNIST",
    "NPZ",
    "Batches",
    "BinarizedMNIST",
    "CelebA",
    "Digits",
    "Door",
    "FashionMNIST",
    "Folder",
    "Gaussian",
    "ImageData",
    "Omniglot",
    "Sprites",
    "Table",
]

_HOME = {
    "BinarizedMNIST": "binarized_mnist",
    "FashionMNIST": "fashion_mnist",
    "ImageData": "base",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: most need Lightning."""
    if name not in __all__:
        raise AttributeError(f"module 'multibeta.data' has no attribute {name!r}")
    return getattr(
        importlib.import_module(f"multibeta.data.{_HOME.get(name, name.lower())}"), name
    )


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
