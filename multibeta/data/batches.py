"""Batches: an array, in memory or memory-mapped, cut into shuffled or ordered batches."""

__all__ = ["Batches", "tensor_of"]

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from multibeta.data.arrays import Rows


class Batches:
    """Iterates over an array of examples; each batch is one indexing operation.

    For evaluation the batches come in the order of the array, the last, partial one included.
    For training they come from an endless row of permutations of the array, each without its
    last partial batch; permutation :math:`e` depends on (seed, e) only. An iteration takes the
    next `len(self)` batches, one epoch, from where the one before it stopped.

    With several processes (`torch.distributed`), global batch :math:`g` belongs to process
    :math:`g` modulo their number. In training every process has the same number of batches; in
    evaluation the numbers can differ by one, so that each example comes exactly once.

    The training position is the state, which Lightning keeps in its checkpoints: after loading
    it the batches are those that the interrupted run would have seen.

    Args:
        images: The array, (N, *shape). Batches are tensors (B, *shape) of the same dtype.
        batch_size: The number B of examples in a batch of one process.
        train: Whether to shuffle and to drop the last partial batch.
        flip: Whether to mirror each training picture left to right with probability ½.
        seed: The seed of permutations and flips, equal on all processes.

    Example:
        >>> batches = Batches(torch.arange(5).reshape(5, 1), batch_size=2)
        >>> [batch.flatten().tolist() for batch in batches]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        images: Tensor | np.ndarray | Rows,
        batch_size: int,
        train: bool = False,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.train = train
        self.flip = flip
        self.seed = seed
        self._epoch = 0
        self._batch = 0  # the next batch of this process in permutation `_epoch`

    def __len__(self) -> int:
        """The number of batches that one iteration gives this process."""
        rank, world = rank_and_world()
        if self.train:
            return len(self.images) // (self.batch_size * world)
        return len(range(rank * self.batch_size, len(self.images), world * self.batch_size))

    def __iter__(self) -> Iterator[Tensor]:
        """Yields tensors (B, *shape)."""
        return self._shuffled() if self.train else self._ordered()

    def global_index(self, local_index: int) -> int:
        """The number, counted over all processes, of this process's batch `local_index`."""
        rank, world = rank_and_world()
        return local_index * world + rank

    def state_dict(self) -> dict[str, int]:
        """The seed and the position of the next training batch: its epoch and its number."""
        return {"seed": self.seed, "epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continues where `state_dict` was taken."""
        self.seed = state_dict["seed"]
        self._epoch = state_dict["epoch"]
        self._batch = state_dict["batch"]
        if self._batch >= len(self):  # the state is of smaller batches or a larger set
            self._epoch, self._batch = self._epoch + 1, 0

    def _ordered(self) -> Iterator[Tensor]:
        for index in range(len(self)):
            start = self.global_index(index) * self.batch_size
            rows = self.images[start : start + self.batch_size]
            # a copy, so that a caller who works in place cannot change the data set
            yield rows.clone() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))

    def _shuffled(self) -> Iterator[Tensor]:
        epoch, permutation = self._epoch, self._permutation()
        for _ in range(len(self)):
            if self._epoch != epoch:
                epoch, permutation = self._epoch, self._permutation()
            number = self.global_index(self._batch)
            # The position moves before the batch is handed out: Lightning saves it while it
            # works on the batch, and never asks for the one after the last.
            self._batch += 1
            if self._batch == len(self):
                self._epoch, self._batch = epoch + 1, 0
            rows = permutation[number * self.batch_size :][: self.batch_size]
            if isinstance(self.images, Tensor):
                batch = self.images[torch.from_numpy(rows)]
            else:  # a memory map is read fastest in ascending order, and a batch has no order
                batch = torch.from_numpy(self.images[np.sort(rows)])
            if self.flip:
                coins = _rng(self.seed, epoch, 1 + number).random(len(rows))
                heads = torch.from_numpy(coins < 0.5)
                batch[heads] = batch[heads].flip(-1)
            yield batch

    def _permutation(self) -> np.ndarray:
        return _rng(self.seed, self._epoch, 0).permutation(len(self.images))


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) without `torch.distributed`."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _rng(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """A generator that is a function of its arguments; stream 0 orders, 1 + g flips batch g."""
    return np.random.default_rng((seed, epoch, stream))


def tensor_of(array: Tensor | np.ndarray) -> Tensor:
    """Return an array as a tensor; NumPy's default precision becomes torch's."""
    found = torch.as_tensor(array)
    of_numpy = isinstance(array, np.ndarray) and array.dtype == np.float64
    return found.to(torch.get_default_dtype()) if of_numpy else found
