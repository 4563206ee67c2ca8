"""Batches of what is no array in memory: loaders of torch, data sets, lists and streams."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    get_worker_info,
)
from torch.utils.data.dataloader import default_collate

from multibeta.data.batches import Order, rank_and_world, shared

__all__ = ["Loaded", "Stream", "collate"]

Read = Callable[[Any], Any]

_SHARED_OUT = ("datasets.", "webdataset.", "litdata.", "streaming.")
"""Packages whose streams share themselves out over workers."""


class Loaded:
    """The batches of a DataLoader whose examples have numbers.

    For evaluation they come in the order of the data set, whatever the loader shuffles; a sampler
    of the user's own keeps its order, drawn with a fixed seed. For training a loader that shuffles
    takes its permutations from a seed and its position from a checkpoint, as
    :class:`~multibeta.data.Batches` does. Global batch g belongs to process g modulo their number.

    Args:
        loader: What to take data set, batch size, workers and the like from.
        train: Whether to shuffle where the loader does, for training.
        seed: That of the permutations, equal on all processes.
        read: What becomes of each batch.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        train: bool = False,
        seed: int = 0,
        read: Read | None = None,
    ) -> None:
        self.dataset: Any = loader.dataset
        self.train, self.read = train, read
        sampler: Any = loader.sampler
        self.shuffles = type(sampler) is RandomSampler or (
            isinstance(sampler, DistributedSampler) and sampler.shuffle
        )
        self.own_order = type(loader.batch_sampler) is not BatchSampler or not (
            type(sampler) in (RandomSampler, SequentialSampler)
            or isinstance(sampler, DistributedSampler)
        )
        self._sampler: Any = loader.batch_sampler
        drawn = self.own_order and not train
        self.count = sum(map(len, self._drawn())) if drawn else len(loader.dataset)  # type: ignore[arg-type]
        size: Any = loader.batch_size or getattr(self._sampler, "batch_size", 1)
        self.batch_size = int(size)
        if not train:
            self.batch_size = shared(self.count, self.batch_size)
        drop = self.train and bool(loader.drop_last)
        self.order = Order(self.count, self.batch_size, seed, drop, self.shuffles)
        again = {
            name: getattr(loader, name)
            for name in (
                "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn",
                "multiprocessing_context", "prefetch_factor", "persistent_workers",
            )
        }  # fmt: skip
        if again["collate_fn"] is default_collate:  # which knows no pictures of PIL
            again["collate_fn"] = collate
        self._inner = DataLoader(
            self.dataset, batch_sampler=_Plan(self), generator=torch.Generator().manual_seed(seed),
            **again,
        )  # type: ignore[arg-type]  # fmt: skip

    def __len__(self) -> int:
        """The number of batches that one iteration gives this process."""
        if self.own_order:
            _, world = rank_and_world()
            return len(self._sampler) if self.train else -(-len(self._drawn()) // world)
        if self.train:
            return len(self.order)
        rank, world = rank_and_world()
        return len(range(rank, -(-self.count // self.batch_size), world))

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches."""
        counted = self.train and not self.own_order
        for batch in self._inner:
            if counted:  # before the batch is handed out: it is saved while the batch is worked on
                self.order.advance()
            yield batch if self.read is None else self.read(batch)

    def plan(self) -> Iterator[list[int]]:
        """Yield the numbers of the examples of this process's batches."""
        rank, world = rank_and_world()
        if self.own_order:
            yield from self._sampler if self.train else self._drawn()[rank::world]
        elif self.train:
            for _, _, rows in self.order.upcoming():
                yield rows.tolist()
        else:
            for start in range(rank * self.batch_size, self.count, world * self.batch_size):
                yield [*range(start, min(start + self.batch_size, self.count))]

    def rows(self, numbers: Sequence[int]) -> Any:
        """Return one batch of the examples of these numbers."""
        collate_fn: Any = self._inner.collate_fn
        batch = collate_fn([self.dataset[i] for i in numbers])
        return batch if self.read is None else self.read(batch)

    def global_index(self, local_index: int) -> int:
        """The number, counted over all processes, of this process's batch."""
        rank, world = rank_and_world()
        return local_index * world + rank

    def state_dict(self) -> dict[str, int]:
        """The seed and the position of the next training batch."""
        return self.order.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.order.load_state_dict(state_dict)

    def _drawn(self) -> list[Any]:
        """Return the batches of a sampler of the user's own, the same in each evaluation."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return list(self._sampler)


class _Plan:
    """What a DataLoader asks for the numbers of its batches."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._loaded.plan())

    def __len__(self) -> int:
        return len(self._loaded)


class Stream:
    """The batches of something that is only read from its beginning.

    With several processes a list of batches is dealt out. A stream that shares itself out keeps
    its shares. Any other is read by the first process, which hands its batches to all in turn.

    Args:
        source: What to iterate over.
        train: Whether it is for training.
        read: What becomes of each batch.
        first: How many examples to read at most, on all processes together.
        examples: How many single examples to make a batch of, where they are no batches.
    """

    def __init__(
        self,
        source: Iterable[Any],
        train: bool = False,
        read: Read | None = None,
        first: int | None = None,
        examples: int | None = None,
    ) -> None:
        self.source, self.train, self.read, self.first = source, train, read, first
        self._examples = examples
        self.count: int | None = None
        self.dealt = hasattr(source, "__getitem__") and hasattr(source, "__len__")

    def __iter__(self) -> Iterator[Any]:
        """Yield this process's batches."""
        rank, world = rank_and_world()
        batches = self.whole
        if world > 1 and not self.shares_itself:
            batches = partial(_handed_out, self.whole, self.train)
            if self.dealt:
                batches = partial(_dealt, self.whole, rank, world, self.train)
        yield from batches() if self.read is None else map(self.read, batches())

    def whole(self) -> Iterator[Any]:
        """Yield all batches on this process, as they are; at most ``first`` examples."""
        batches: Iterator[Any] = iter(self.source)
        if self._examples is not None:
            batches = _batched(batches, self._examples)
        left = self.first
        for batch in batches:
            if left is not None:
                if left <= 0:
                    return
                batch = _sliced(batch, 0, left)
                left -= _size(batch)
            yield batch

    def __len__(self) -> int:
        """The number of batches, where the source knows it.

        Raises:
            TypeError: If it does not.
        """
        count = len(self.source)  # type: ignore[arg-type]
        if self._examples is not None:
            count = -(-count // self._examples)
        rank, world = rank_and_world()
        if world == 1 or self.shares_itself:
            return count
        return count // world if self.train else len(range(rank, count, world))

    @property
    def shares_itself(self) -> bool:
        """Whether the stream gives each process other examples."""
        of = getattr(self.source, "dataset", self.source)
        if getattr(of, "_distributed", None) is not None:  # Hugging Face's split_dataset_by_node
            return True
        return type(of).__module__.startswith(("litdata.", "streaming.")) or any(
            "split_by_node" in getattr(stage, "__name__", "")
            for stage in getattr(of, "pipeline", ())
        )

    @property
    def warning(self) -> str | None:
        """What a user should know about its workers; None if nothing."""
        workers = getattr(self.source, "num_workers", 0)
        of = getattr(self.source, "dataset", None)
        if workers < 2 or not isinstance(of, IterableDataset):
            return None
        if type(of).__module__.startswith(_SHARED_OUT):
            return None
        with contextlib.suppress(OSError, TypeError):
            if get_worker_info.__name__ in inspect.getsource(type(of)):
                return None
        return (
            f"{type(of).__name__} does not ask torch.utils.data.get_worker_info which share is "
            f"its own: {workers} workers will each give every example; use one, or let it"
        )

    def global_index(self, local_index: int) -> int:
        """The number, counted over all processes, of this process's batch."""
        rank, world = rank_and_world()
        return local_index * world + rank


def _dealt(
    batches: Callable[[], Iterator[Any]], rank: int, world: int, even: bool
) -> Iterator[Any]:
    """Yield every other batch; with ``even``, as many of the same size on each process."""
    for group in _batches_of(batches(), world):
        shares = _shares(group, world) if even else group
        if rank < len(shares):
            yield shares[rank]


def _handed_out(batches: Callable[[], Iterator[Any]], even: bool) -> Iterator[Any]:
    """Yield what the first process reads, every other batch on each process."""
    rank, world = rank_and_world()
    groups = _batches_of(batches(), world) if rank == 0 else None
    ahead, first, more = None if groups is None else next(groups, []), True, True
    while more:
        sent: list[Any] = [None] * world
        if groups is not None and ahead is not None:
            group, ahead = ahead, next(groups, [])
            if even or (first and len(group) < world):  # who had none would wait for ever
                group = _shares(group, world)
            of_each = [*group, *[None] * (world - len(group))]
            sent = [(batch, bool(ahead)) for batch in of_each]
        mine: list[Any] = [None]
        torch.distributed.scatter_object_list(mine, sent if rank == 0 else None, src=0)
        batch, more = mine[0]
        first = False
        if batch is not None:
            yield batch


def _batches_of(batches: Iterator[Any], count: int) -> Iterator[list[Any]]:
    while group := list(itertools.islice(batches, count)):
        yield group


def _shares(group: list[Any], world: int) -> list[Any]:
    """Return batches as one of the same size for each process; what is left over is dropped."""
    sizes = [_size(batch) for batch in group]
    if len(group) == world and len(set(sizes)) == 1:
        return group
    share, whole = sum(sizes) // world, group[0] if len(group) == 1 else _joined(group)
    return [_sliced(whole, i * share, (i + 1) * share) for i in range(world)] if share else []


def _joined(batches: list[Any]) -> Any:
    """Return several batches as one."""
    if isinstance(first := batches[0], dict):
        return {name: _joined([batch[name] for batch in batches]) for name in first}
    if isinstance(first, tuple) or (isinstance(first, list) and hasattr(first[0], "shape")):
        return type(first)(_joined(list(of)) for of in zip(*batches, strict=True))
    if isinstance(first, torch.Tensor):
        return torch.cat(batches)
    if isinstance(first, np.ndarray):
        return np.concatenate(batches)
    return [*itertools.chain.from_iterable(batches)]


def collate(examples: Sequence[Any]) -> Any:
    """Make a batch of examples; pictures of PIL become uint8 (C, H, W).

    Raises:
        ValueError: If they have different shapes.
    """
    if isinstance(first := examples[0], dict):
        return {name: collate([example[name] for example in examples]) for name in first}
    if isinstance(first, tuple | list) and not _of_numbers(first):
        return type(first)(collate(list(of)) for of in zip(*examples, strict=True))
    if hasattr(first, "getbands"):
        arrays = [np.atleast_3d(np.array(picture)).transpose(2, 0, 1) for picture in examples]
        examples = [torch.from_numpy(array) for array in arrays]
    if isinstance(first, list | tuple):
        examples = [torch.tensor(numbers) for numbers in examples]
    shapes = {tuple(e.shape) for e in examples if hasattr(e, "shape")}
    if len(shapes) > 1:
        raise ValueError(
            f"examples have different shapes, such as {' and '.join(map(str, sorted(shapes)[:2]))}"
            "; bring them to one"
        )
    return default_collate(list(examples))


def _of_numbers(value: Any) -> bool:
    """Whether a list, perhaps of lists, holds numbers."""
    if isinstance(value, list | tuple):
        return all(map(_of_numbers, value))
    return isinstance(value, int | float)


def _batched(examples: Iterator[Any], size: int) -> Iterator[Any]:
    while group := list(itertools.islice(examples, size)):
        yield collate(group)


def _size(batch: Any) -> int:
    entry = batch
    while isinstance(entry, dict | tuple | list):
        entry = next(iter(entry.values())) if isinstance(entry, dict) else entry[0]
    return len(entry)


def _sliced(batch: Any, start: int, stop: int) -> Any:
    """Return some examples of a batch."""
    if isinstance(batch, dict):
        return {name: _sliced(of, start, stop) for name, of in batch.items()}
    if isinstance(batch, tuple) or (isinstance(batch, list) and hasattr(batch[0], "shape")):
        return type(batch)(_sliced(of, start, stop) for of in batch)
    return batch[start:stop] if hasattr(batch, "__getitem__") else batch
