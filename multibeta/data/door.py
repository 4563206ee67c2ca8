"""The door: every kind of data becomes one datamodule, whose batches are found and counted."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from multibeta.data.arrays import Rows
from multibeta.data.base import ImageData
from multibeta.data.batches import Batches, shared
from multibeta.data.examples import Layout, channels_first, found, read
from multibeta.data.loaders import Loaded, Stream, collate
from multibeta.data.splits import NAMES, SPLITS

__all__ = ["BATCH", "Door", "Loader"]

Loader = Batches | Loaded | Stream

KINDS = (
    "give a datamodule, a DataLoader, a Dataset, an array or tensor (N, …), or batches that can "
    "be iterated again and again"
)
BATCH = 256
"""Examples in a batch where the data does not say."""

_STAGES = {"train": "fit", "val": "validate", "test": "test"}
_TRANSFERS = ("transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer")
_SAMPLED = 16
_STREAMED = 64  # examples in a batch of a stream, of which the length is not known


class Model(Protocol):
    """What a door is told of a model."""

    shape: tuple[int, ...]

    @property
    def further_arguments(self) -> tuple[str, ...]:
        """What encoder and decoder take by name beside x and z."""


class Door(LightningDataModule):
    """Data of any kind as one datamodule: all that trains or measures takes its batches from here.

    The data is a Lightning datamodule; a torch DataLoader or Dataset; a Hugging Face dataset; x as
    an array, memory map or tensor (N, *shape); a list of examples or of batches; or anything that
    can be iterated again and again, such as a webdataset. A batch is x, a tuple, or a dict: see
    :func:`multibeta.data.examples.read`.

    Each example counts once, on any number of processes. What has numbers is cut into batches
    that go round the processes; a list of batches is dealt out; a stream that shares itself out
    (Hugging Face's ``split_dataset_by_node``, litdata, webdataset's ``split_by_node``) keeps its
    shares; of any other stream the first process hands out the batches.

    Args:
        data: The data; for training the training set.
        val: The validation set, where the data is one set.
        test: The test set, where the data is one set.
        batch_size: Examples in a batch, where the data is no batches.
        key: The entry of a dict that is x.
        layout: NHWC where the channels come last.
        first: How many examples of a stream to measure at most.

    Attributes:
        source: The data as it was given.

    Raises:
        ValueError: If it is of none of these kinds, or can be read once only.
    """

    def __init__(
        self,
        data: Any,
        val: Any = None,
        test: Any = None,
        *,
        batch_size: int = BATCH,
        key: str | None = None,
        layout: Layout | None = None,
        first: int | None = None,
    ) -> None:
        super().__init__()
        self.source = data
        self.key, self.layout, self.first = key, layout, first
        self._batch_size = batch_size
        self._sets: dict[str, Any] | None = None
        self._shape: tuple[int, ...] | None = None
        self._named: tuple[str, ...] = ()
        self._taken: dict[str, np.ndarray | None] | None = None  # found once: it reads labels
        self._said: set[str] = set()
        self._train: Loader | None = None
        self._position: dict[str, Any] | None = None
        self._ready: set[str] = set()
        if isinstance(data, LightningDataModule):
            if data.trainer is not None:  # Lightning has made it ready
                self._ready |= {"prepared", "fit", "validate"}
            if val is not None or test is not None:
                raise ValueError(
                    "val is given beside a datamodule, which has its own; leave it out"
                )
            for hook in _TRANSFERS:
                if is_overridden(hook, data, LightningDataModule):
                    setattr(self, hook, getattr(data, hook))
            return
        self._sets = dict(zip(SPLITS, (data, val, test), strict=True))
        if isinstance(data, Mapping):  # such as Hugging Face's DatasetDict
            named = {NAMES.get(str(name).lower()): of for name, of in data.items()}
            if None in named or val is not None or test is not None:
                listed = ", ".join(map(str, data)) or "nothing"
                raise ValueError(
                    f"data is a dict of {listed}; give sets named train, val and test, or {KINDS}"
                )
            self._sets = {name: named.get(name) for name in SPLITS}
        several = sum(of is not None for of in self._sets.values()) > 1
        for name, of in self._sets.items():
            if of is not None or data is None:
                _check_kind(name if several else "data", of)

    @classmethod
    def of(cls, data: Any, model: Model | None = None, first: int | None = None) -> Door:
        """Return the door to data, which may be one already.

        Args:
            data: The data.
            model: What it is for: the shape of an example tells single ones from batches, and
                of our own data sets' labels batches have those that the networks take by name.
            first: How many examples of a stream to measure at most.
        """
        door = copy.copy(data) if isinstance(data, cls) else cls(data)
        if model is not None:
            door._shape = tuple(model.shape) or door._shape
            if door._named != model.further_arguments:
                door._named, door._taken = model.further_arguments, None
        door.first = first if first is not None else door.first
        return door

    def __getattr__(self, name: str) -> Any:
        """Return what a datamodule of the user's knows of its data: factors, the range of x, …."""
        source = self.__dict__.get("source")
        if isinstance(source, LightningDataModule) and not name.startswith("_"):
            return getattr(source, name)
        raise AttributeError(f"{type(self).__name__} has no {name}")

    @property
    def batch_size(self) -> int:
        """Examples in a batch: the datamodule's, or what was given; a finder may set it."""
        return getattr(self.source, "batch_size", None) or self._batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        size = min(size, self.sizes.get("train", size))
        if hasattr(self.source, "batch_size"):
            self.source.batch_size = size
        self._batch_size = size

    @property
    def label(self) -> str:
        """The name of the data's class."""
        return type(self.source).__name__

    @property
    def splits(self) -> dict[str, Any]:
        """The arrays, where the sets are some: name → (N, *shape)."""
        if self._sets is None:
            return getattr(self.source, "splits", {})
        return {k: v for k, v in self._sets.items() if isinstance(v, np.ndarray | Tensor)}

    @property
    def sizes(self) -> dict[str, int]:
        """The number of examples of each set, where it is known."""
        if self._sets is None:
            return {name: len(x) for name, x in self.splits.items()}
        loaders = {k: self._loader(v, train=False) for k, v in self._sets.items() if v is not None}
        return {k: n for k, of in loaders.items() if (n := of.count) is not None}

    # As a datamodule ---------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Do what the datamodule does on one process first, once."""
        if self._sets is None and "prepared" not in self._ready:
            self._attach()
            self.source.prepare_data()
        self._ready.add("prepared")

    def setup(self, stage: str | None = None) -> None:
        """Let the datamodule make its sets ready, once for each stage."""
        if self._sets is None and str(stage) not in self._ready:
            self._attach()
            self.source.setup(stage)
        self._ready.add(str(stage))
        if stage == "fit":  # which is to make the validation set ready, too
            self._ready.add("validate")

    def _attach(self) -> None:
        if self.trainer is not None:
            self.source.trainer = self.trainer

    def teardown(self, stage: str) -> None:
        """Let the datamodule clean up."""
        if self._sets is None:
            self.source.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        """Let the datamodule clean up."""
        if self._sets is None:
            self.source.on_exception(exception)

    def train_dataloader(self) -> Loader:
        """The training batches.

        Raises:
            ValueError: If there is no training set, or it is less than a batch.
        """
        if not self.has("train"):
            raise ValueError(f"{self.label} has no training set; give one to train on")
        found = self._sets["train"] if self._sets else self.source.train_dataloader()
        seed = torch.initial_seed()
        if self.trainer is not None:
            seed = self.trainer.strategy.broadcast(seed)
        in_order = bool(getattr(self.trainer, "overfit_batches", 0))  # the same ones each epoch
        loader = self._labelled(self._loader(found, train=not in_order, seed=seed), "train")
        self._train = loader
        if not isinstance(loader, Stream) and not len(loader):
            raise ValueError(
                f"batch_size={loader.batch_size} is larger than the training set of "
                f"{loader.count} examples; choose a smaller one"
            )
        if self._position and not isinstance(loader, Stream):
            loader.load_state_dict(self._position)
        elif self._position is not None and isinstance(loader, Stream):
            rank_zero_warn(f"{self.label} has no positions: it is read from its beginning again")
        self._position = None
        return loader

    def val_dataloader(self) -> Any:
        """The validation batches, in order; an empty list where there are none."""
        return self.batches("val") if self.has("val") else []

    def test_dataloader(self) -> Loader:
        """The test batches, in order; the nearest set where there are none."""
        return self.batches(self.measured("test"))

    def predict_dataloader(self) -> Loader:
        """The batches of the datamodule's own predict_dataloader, or the test batches."""
        if self._sets is None and is_overridden(
            "predict_dataloader", self.source, LightningDataModule
        ):
            return self._loader(self.source.predict_dataloader(), train=False)
        return self.test_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """The position in the training data, and the state of the datamodule."""
        own = self.source.state_dict() if self._sets is None else {}
        loader, kept = self._train, "epoch" in own  # our own data sets keep it themselves
        position = (
            {} if loader is None or isinstance(loader, Stream) or kept else loader.state_dict()
        )
        return {"position": position, "source": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training batches continue where the state was taken."""
        self._position = state_dict["position"]
        if self._sets is None and state_dict["source"]:
            self.source.load_state_dict(state_dict["source"])

    # Measuring ---------------------------------------------------------------------------------

    def has(self, split: str) -> bool:
        """Whether there is such a set."""
        if self._sets is not None:
            return self._sets[split] is not None
        if self.splits:
            return split in self.splits
        return is_overridden(f"{split}_dataloader", self.source, LightningDataModule)

    def measured(self, split: str) -> str:
        """Return the set that is measured where a set is asked for: the nearest that there is."""
        others = ("test", "val", "train")
        return next((name for name in (split, *others) if self.has(name)), split)

    def batches(self, split: str) -> Loader:
        """Return all batches of a set, in order.

        Raises:
            ValueError: If there is no such set.
        """
        if split not in SPLITS:
            raise ValueError(f"split={split} is unknown; allowed: {', '.join(SPLITS)}")
        if self._sets is None:
            self.prepare_data()
            if split not in self.splits:  # else it is there, and need not do for training
                self.setup(_STAGES[split])
        there = [name for name in SPLITS if self.has(name)]
        if self._sets is not None and len(there) == 1:
            split = there[0]
        if split not in there or (found := self._set(split)) is None:
            raise ValueError(
                f"{self.label} has no {split} set; it has {', '.join(there) or 'none'}: choose "
                "one of them"
            )
        return self._labelled(self._loader(found, train=False), split)

    ordered = batches

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """Return what our own data sets know of each example: see their ``labels``."""
        return self.source.labels(split) if isinstance(self.source, ImageData) else {}

    def taken(self) -> dict[str, np.ndarray | None]:
        """Return the labels that the model's networks take by name.

        Returns:
            Name → the words that stand for 0, 1, … in batches, of all sets; None for numbers.
        """
        if not self._named or not isinstance(self.source, ImageData):
            return {}
        if self._taken is not None:
            return self._taken
        of_sets = [self.labels(split) for split in SPLITS if self.has(split)]
        names = [k for k in self._named if of_sets and all(k in of for of in of_sets)]
        found: dict[str, np.ndarray | None] = {}
        for name in names:
            values = np.concatenate([of[name] for of in of_sets])
            found[name] = None if values.dtype.kind in "biuf" else np.unique(values)
        self._taken = found
        return found

    def numbers(self, name: str, values: np.ndarray) -> Tensor:
        """Return labels as a network takes them: of words their places, else the numbers.

        Args:
            name: The label.
            values: Its values.

        Raises:
            ValueError: If a word is none of the data's.
        """
        words = self.taken().get(name)
        if words is None:
            return torch.from_numpy(np.array(values, np.float32 if values.dtype.kind == "f"
                                             else np.int64))  # fmt: skip
        places = np.searchsorted(words, values).clip(max=len(words) - 1)
        if len(unknown := np.unique(values[words[places] != values])):
            raise ValueError(
                f"{name}={unknown[0]} is none of the data's; it has {', '.join(map(str, words))}"
            )
        return torch.from_numpy(places.astype(np.int64))

    def fingerprint(self) -> str | None:
        """Return a digest of the training examples: how many, their shape, and some of them.

        None where they have no numbers, or are not the same each time they are read.
        """
        if not self.has("train"):
            return None
        loader = self._loader(self._set("train"), train=False)
        if not (count := loader.count) or isinstance(loader, Stream):
            return None
        numbers = [*range(0, count, max(1, count // _SAMPLED))]
        try:
            x, again = (read(loader.rows(numbers), self._shape, counts=True).x for _ in range(2))
        except ValueError:
            return None
        if not torch.equal(x, again):  # drawn anew: augmentation
            return None
        digest = hashlib.sha256(f"{count} {tuple(x.shape[1:])}".encode())
        digest.update(x.float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    # Inside ------------------------------------------------------------------------------------

    def _set(self, split: str) -> Any:
        """Return a set as it was given; of a datamodule its array, or its batches."""
        if self._sets is not None:
            return self._sets[split]
        array = self.splits.get(split)
        return getattr(self.source, f"{split}_dataloader")() if array is None else array

    def _labelled(self, loader: Loader, split: str) -> Loader:
        """Let batches have the labels that the model's networks take."""
        if isinstance(loader, Batches) and (names := self.taken()):
            labels = self.labels(split)
            loader.labels = {name: self.numbers(name, labels[name]) for name in names}
        return loader

    def _loader(self, of: Any, train: bool, seed: int = 0) -> Loader:
        """Return the batches of a set."""
        if isinstance(of, Batches) and of.train and not train:
            return Batches(of.images, shared(of.count, of.batch_size), read=of.read)
        if isinstance(of, Batches | Loaded | Stream):
            return of
        own_read = self._read if self.key or self.layout else None
        if isinstance(of, np.ndarray | Tensor | Rows):
            size = getattr(self.source, "batch_size", None) or self._size(len(of), train)
            size = size if train else shared(len(of), size)
            return Batches(of, size, train, seed=seed, read=own_read)
        numbered = hasattr(of, "__getitem__") and hasattr(of, "__len__")
        if not isinstance(of, DataLoader):
            of_batches = isinstance(of, list | tuple) or not isinstance(of, Dataset)
            single = not of_batches
            if not self._shape and not numbered and not of_batches:
                raise ValueError(
                    f"whether {type(of).__name__} gives examples or batches cannot be told before "
                    "the shape of x is known; give a DataLoader, or wrap(…, example=x)"
                )
            if self._shape and (not numbered or len(of)):
                single = self._is_example(of[0] if numbered else _first(of))
            elif numbered and not isinstance(of, list | tuple):
                single = True
            if not (numbered and single):
                batch_of = min(self._batch_size, _STREAMED) if single else None
                return Stream(of, train, own_read, self.first, batch_of)
            size = self._size(len(of), train)
            of = DataLoader(of, size, shuffle=train, collate_fn=collate)
        if isinstance(of.dataset, IterableDataset) or of.batch_sampler is None:
            stream = Stream(of, train, own_read, self.first)
            if (said := stream.warning) and said not in self._said:
                self._said.add(said)
                rank_zero_warn(said)
            return stream
        return Loaded(of, train, seed, own_read)

    def _size(self, count: int, train: bool) -> int:
        """Return the size of a batch; small sets make eight, as many as processes share alike."""
        return self._batch_size if train else max(1, min(self._batch_size, -(-count // 8)))

    def _is_example(self, entry: Any) -> bool:
        """Whether an entry of a list or a stream is one example, not a batch."""
        try:
            if tuple(self._x(collate([entry])).shape[1:]) == self._shape:
                return True
        except (ValueError, TypeError, RuntimeError):
            return False
        try:
            self._x(entry)
        except ValueError:  # then it is no batch either; its shape is refused when it is read
            return True
        return False

    def _read(self, batch: Any) -> Any:
        """Return a batch with x under its name, channels first."""
        x, inputs = self._found(batch)
        return {"x": x, **inputs} if inputs else x

    def _found(self, batch: Any) -> tuple[Tensor, dict[str, Any]]:
        x, inputs = found(batch, self._shape, self.key, self.layout)
        return (channels_first(x) if self.layout == "NHWC" else x), inputs

    def _x(self, batch: Any) -> Tensor:
        return read(self._read(batch), self._shape, counts=True).x


def _first(stream: Iterable[Any]) -> Any:
    """Return the first entry of a stream, and close what it opened; None if it is empty."""
    entries = iter(stream)
    try:
        return next(entries, None)
    finally:
        if hasattr(entries, "close"):
            entries.close()


def _check_kind(name: str, of: Any) -> None:
    """Refuse what cannot be read, or only once.

    Raises:
        ValueError: If it is such.
    """
    if isinstance(of, np.ndarray) and of.dtype.kind not in "biuf":
        raise ValueError(f"{name} is an array of the type {of.dtype}; give numbers")
    if isinstance(of, np.ndarray | Tensor):
        if not of.ndim or not len(of):
            raise ValueError(f"{name} has the shape {tuple(of.shape)}; give examples (N, …)")
        return
    if (not isinstance(of, Iterable) and not hasattr(of, "__getitem__")) or isinstance(of, str):
        raise ValueError(f"{name} is a {type(of).__name__}; {KINDS}")
    if isinstance(of, Iterator) and not isinstance(of, IterableDataset):
        raise ValueError(
            f"{name} is a {type(of).__name__}, which can be read once only, and is read several "
            "times; give a list, or an object whose iteration begins anew"
        )
