"""ImageData: what every data set is, a Lightning datamodule over arrays."""

__all__ = ["ImageData"]

import inspect
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from multibeta.data.arrays import Rows, Values, joined, values_of
from multibeta.data.batches import Batches, rank_and_world, shared


class ImageData(LightningDataModule):
    """The base of the data sets: three arrays of examples, and batches of them.

    A data set of your own is a subclass with `shape` and `load`. Its arguments are plain values,
    each kept as an attribute of the same name, because a checkpoint stores them by reading these
    attributes. `__init__` reads no data.

    Attributes:
        splits: After `setup`, the arrays (N, *shape) of "train", "val" and "test": uint8 with
            intensities 0 to 255 (binary images: 0 and 255), or float32.
        factors: After `setup`, what is known of each example, as the numbers 0, 1, … of the values
            of F factors: "train", "val" and "test" → (N, F), int64; empty where nothing is known.
        factor_names: The names of the factors.

    Args:
        root: Where the files are.
        batch_size: Number of examples in a batch, on each process.
        flip: Whether to mirror training pictures left to right at random.

    Raises:
        ValueError: If batch_size is below 1.
    """

    def __init__(self, root: str | None = None, batch_size: int = 128, flip: bool = False) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size={batch_size} is too small; choose at least 1")
        # absolute, so that a checkpoint that carries it can be used from another folder
        self.root = None if root is None else os.path.abspath(os.path.expanduser(root))
        self.batch_size = batch_size
        self.flip = flip
        self.splits: dict[str, Tensor | np.memmap | Rows] = {}
        self.factors: dict[str, Tensor] = {}
        self.factor_names: tuple[str, ...] = ()
        self._train_batches: Batches | None = None
        self._position: dict[str, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example, known before the data are loaded; (C, H, W) of a picture."""
        raise NotImplementedError(f"{type(self).__name__} must define shape")

    def load(self) -> Mapping[str, Tensor | np.memmap | Rows]:
        """Reads the data set; returns what becomes `splits`."""
        raise NotImplementedError(f"{type(self).__name__} must define load")

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """What is known of each example of a set, such as its class.

        Args:
            split: "train", "val" or "test".

        Returns:
            Name → (N,) numbers or words, in the order of the set; the factors by default, empty
            where nothing is known.
        """
        self.setup()
        if split not in self.factors:
            return {}
        return dict(zip(self.factor_names, self.factors[split].numpy().T, strict=True))

    def files(self, split: str) -> list[str]:
        """The names of the files that the examples of a set are from; empty where they have none.

        Args:
            split: "train", "val" or "test".
        """
        return []

    def rows(self, split: str) -> np.ndarray:
        """The number of each example of a set: its row in the array that it is from.

        Args:
            split: "train", "val" or "test".
        """
        self.setup()
        return np.arange(len(self.splits[split]))

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the greatest value that a model sees; (0, 1) for uint8."""
        return self._values.low, self._values.high

    @property
    def whole(self) -> bool:
        """Whether all values that a model sees are whole numbers, such as counts."""
        return self._values.whole

    @cached_property
    def _values(self) -> Values:
        self.setup()
        return joined(map(values_of, self.splits.values()))

    @property
    def size_note(self) -> str:
        """What a reader of the results should know about the data."""
        return ""

    def optimum(self, beta: float, sigma: float, latent_dim: int) -> tuple[float, float] | None:
        """The best rate and distortion, in nats per example, or None where nobody knows them.

        Args:
            beta: The weight β of the rate.
            sigma: The standard deviation σ of a Gaussian likelihood.
            latent_dim: The number k of latents.
        """
        return None

    @property
    def entropy_nats(self) -> float | None:
        """The differential entropy H of the source, nats per example; None where it is unknown."""
        return None

    def __repr__(self) -> str:
        """The call that makes this data set."""
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"

    __str__ = __repr__  # Lightning's own wants a torch DataLoader

    def prepare_data(self) -> None:
        """Loads the data on one process first, which downloads and decodes what the others use."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Loads the data, once.

        Raises:
            ValueError: If the data do not fit together, for fitting are less than a batch, or are
                to be mirrored and are no pictures.
            FileNotFoundError: If there are none.
        """
        if not self.splits:
            if self.flip and len(self.shape) != 3:
                raise ValueError(
                    f"data.flip=True mirrors pictures (C, H, W), and an example has the shape"
                    f" {self.shape}; leave data.flip out"
                )
            self.splits = dict(self.load())
        if stage == "fit":  # here and not only in train_dataloader: no run folder exists yet
            self._check_batch_size()

    def train_dataloader(self) -> Batches:
        """Shuffled training batches; the seed is that of `lightning.seed_everything`.

        Raises:
            ValueError: If the training set is less than a batch.
        """
        self.setup()
        self._check_batch_size()
        self._train_batches = Batches(
            self.splits["train"],
            self.batch_size,
            train=True,
            flip=self.flip,
            seed=self._shared(torch.initial_seed()),
        )
        if self._position is not None:
            self._train_batches.load_state_dict(self._position)
            self._position = None
        return self._train_batches

    def val_dataloader(self) -> Batches:
        """The validation batches, in order."""
        return self.ordered("val")

    def test_dataloader(self) -> Batches:
        """The test batches, in order."""
        return self.ordered("test")

    def predict_dataloader(self) -> Batches:
        """The test batches, in order."""
        return self.test_dataloader()

    # Lightning restores the state of a loader only from the middle of an epoch; that of the
    # datamodule it restores always, so the position is kept here too.
    def state_dict(self) -> dict[str, Any]:
        """The position in the training data."""
        return {} if self._train_batches is None else self._train_batches.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the next `train_dataloader` continue where `state_dict` was taken."""
        self._position = state_dict

    def ordered(self, split: str) -> Batches:
        """All examples of "train", "val" or "test", in order."""
        self.setup()
        examples = self.splits[split]
        return Batches(examples, shared(len(examples), self.batch_size))

    def _shared(self, seed: int) -> int:
        """The seed of the first process, so that all cut the same permutation."""
        return seed if self.trainer is None else self.trainer.strategy.broadcast(seed)

    def _check_batch_size(self) -> None:
        count, (_, world) = len(self.splits["train"]), rank_and_world()
        if self.batch_size * world > count:
            times = f" times {world} processes" if world > 1 else ""
            raise ValueError(
                f"data.batch_size={self.batch_size}{times} is larger than the training set of"
                f" {count} examples; choose at most {count // world}"
            )
