"""Batches: an array, in memory or memory-mapped, cut into shuffled or ordered batches."""

__all__ = ["Batches", "Order", "gathered", "rank_and_world", "shared"]

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multibeta.data.arrays import Rows, let_go

KEPT = 2**21  # bytes read of a memory map; the system keeps many times as much around them


class Order:
    """An endless row of permutations of N numbers, cut into batches, and a position in it.

    Permutation :math:`e` depends on (seed, e) only. Global batch :math:`g` belongs to process
    :math:`g` modulo their number. What is left at the end is dropped, or shared in equal parts, so
    that every process has the same number of batches.

    Args:
        count: The number N.
        batch_size: The number B of examples in a batch of one process.
        seed: The seed, equal on all processes.
        drop: Whether to drop what is left at the end.
        shuffle: Whether they are permutations; else each is 0, 1, ….
    """

    def __init__(
        self, count: int, batch_size: int, seed: int = 0, drop: bool = True, shuffle: bool = True
    ) -> None:
        self.count, self.batch_size, self.seed, self.drop = count, batch_size, seed, drop
        self.shuffle = shuffle
        self._epoch = 0
        self._batch = 0  # the next batch of this process in permutation `_epoch`

    def __len__(self) -> int:
        """The number of batches of this process in a permutation."""
        _, world = rank_and_world()
        whole, left = divmod(self.count, self.batch_size * world)
        return whole + (left >= world and not self.drop)

    def upcoming(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield the next `len(self)` batches: permutation, batch over all processes, numbers."""
        rank, world = rank_and_world()
        epoch, batch, permutation = self._epoch, self._batch, None
        for _ in range(len(self)):
            permutation = self._permutation(epoch) if permutation is None else permutation
            first = batch * world * self.batch_size
            size = min(self.batch_size, (self.count - first) // world)
            rows = permutation[first + rank * size :][:size]
            yield epoch, batch * world + rank, rows
            batch += 1
            if batch == len(self):
                epoch, batch, permutation = epoch + 1, 0, None

    def advance(self) -> None:
        """Move the position on by a batch."""
        self._batch += 1
        if self._batch >= len(self):
            self._epoch, self._batch = self._epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """The seed and the position of the next batch: its permutation and its number."""
        return {"seed": self.seed, "epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue where `state_dict` was taken."""
        self.seed = state_dict["seed"]
        self._epoch = state_dict["epoch"]
        self._batch = state_dict["batch"]
        if self._batch >= len(self):  # the state is of smaller batches or a larger set
            self._epoch, self._batch = self._epoch + 1, 0

    def _permutation(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.count)
        return _rng(self.seed, epoch, 0).permutation(self.count)


class Batches:
    """Iterates over an array of examples; each batch is one indexing operation.

    For evaluation the batches come in the order of the array, the last, partial one included.
    For training they come from an endless row of permutations of the array (`Order`), each
    without its last partial batch. An iteration takes the next `len(self)` batches, one epoch,
    from where the one before it stopped.

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
        read: What becomes of each batch.

    Attributes:
        labels: Name → (N,): what stands beside x in each batch, which then is a dict.

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
        read: Callable[[Any], Any] | None = None,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.train = train
        self.flip = flip
        self.read = read
        self.labels: dict[str, Tensor] = {}
        self.count = len(images)
        self._read = 0
        self.order = Order(len(images), batch_size, seed)

    @property
    def dataset(self) -> Tensor | np.ndarray | Rows:
        """The array, under the name that Lightning asks a loader for."""
        return self.images

    def __len__(self) -> int:
        """The number of batches that one iteration gives this process."""
        rank, world = rank_and_world()
        if self.train:
            return len(self.order)
        return len(range(rank * self.batch_size, len(self.images), world * self.batch_size))

    def __iter__(self) -> Iterator[Any]:
        """Yields tensors (B, *shape), with labels dicts of them."""
        batches = self._shuffled() if self.train else self._ordered()
        return batches if self.read is None else map(self.read, batches)

    def global_index(self, local_index: int) -> int:
        """The number, counted over all processes, of this process's batch `local_index`."""
        rank, world = rank_and_world()
        return local_index * world + rank

    def rows(self, numbers: Sequence[int]) -> Any:
        """Return one batch of the examples of these numbers."""
        rows = self.images[list(numbers)]
        x = rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))
        batch = self._labelled(x, list(numbers))
        return batch if self.read is None else self.read(batch)

    def state_dict(self) -> dict[str, int]:
        """The seed and the position of the next training batch."""
        return self.order.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continues where `state_dict` was taken."""
        self.order.load_state_dict(state_dict)

    def _let_go(self, size: int) -> None:
        """Give the pages of a memory map back now and then: they count as our memory."""
        self._read += size
        if self._read > KEPT:
            let_go(self.images)
            self._read = 0

    def _labelled(self, x: Tensor, rows: Any) -> Any:
        """Return x, or a dict of it and the labels of these rows."""
        if not self.labels:
            return x
        return {"x": x, **{name: of[rows].clone() for name, of in self.labels.items()}}

    def _ordered(self) -> Iterator[Any]:
        for index in range(len(self)):
            start = self.global_index(index) * self.batch_size
            numbers = slice(start, start + self.batch_size)
            rows = self.images[numbers]
            # a copy, so that a caller who works in place cannot change the data set
            x = rows.clone() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))
            yield self._labelled(x, numbers)
            self._let_go(rows.nbytes)

    def _shuffled(self) -> Iterator[Any]:
        for epoch, number, rows in self.order.upcoming():
            # The position moves before the batch is handed out: Lightning saves it while it
            # works on the batch, and never asks for the one after the last.
            self.order.advance()
            if isinstance(self.images, Tensor):
                batch = self.images[torch.from_numpy(rows)]
            else:  # a memory map is read fastest in ascending order, and a batch has no order
                rows = np.sort(rows)
                batch = torch.from_numpy(self.images[rows])
                let_go(self.images)  # around each row, the system has mapped many times its size
            if self.flip:
                coins = _rng(self.order.seed, epoch, 1 + number).random(len(rows))
                heads = torch.from_numpy(coins < 0.5)
                batch[heads] = batch[heads].flip(-1)
            yield self._labelled(batch, torch.from_numpy(rows))


def shared(count: int, size: int) -> int:
    """Return a batch size with which each process gets a batch for evaluation, if it can.

    A process without one would not come to the end of the evaluation, where the others wait.
    """
    _, world = rank_and_world()
    return size if count > size * (world - 1) else max(1, count // world)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) without `torch.distributed`."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gathered(value: Any) -> list[Any]:
    """The values of all processes, by their ranks."""
    _, world = rank_and_world()
    found = [value] * world
    if world > 1:
        torch.distributed.all_gather_object(found, value)
    return found


def _rng(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """A generator that is a function of its arguments; stream 0 orders, 1 + g flips batch g."""
    return np.random.default_rng((seed, epoch, stream))
