"""Data sets as Lightning datamodules that hold arrays and yield batches."""

from multibeta.data.base import ImageData
from multibeta.data.batches import Batches
from multibeta.data.binarized_mnist import BinarizedMNIST
from multibeta.data.celeba import CelebA
from multibeta.data.cifar10 import CIFAR10
from multibeta.data.digits import Digits
from multibeta.data.fashion_mnist import FashionMNIST
from multibeta.data.folder import Folder
from multibeta.data.gaussian import Gaussian
from multibeta.data.mnist import MNIST
from multibeta.data.npz import NPZ
from multibeta.data.omniglot import Omniglot
from multibeta.data.sprites import Sprites

__all__ = [
    "CIFAR10",
    "MNIST",
    "NPZ",
    "Batches",
    "BinarizedMNIST",
    "CelebA",
    "Digits",
    "FashionMNIST",
    "Folder",
    "Gaussian",
    "ImageData",
    "Omniglot",
    "Sprites",
]
