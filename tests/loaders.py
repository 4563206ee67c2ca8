"""The kinds of containers that users keep examples in: name → what makes one, of the same 250."""

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    TensorDataset,
)

from multibeta.data import ImageData

SHAPE, N, B = (1, 8, 8), 250, 32


def examples():
    """Return N examples, the same each time."""
    return torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(5))


class Examples(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return {"image": examples()[i], "label": i % 3}


class Numbered:
    """What only has __len__ and __getitem__, as Hugging Face's data sets."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return {"pixel_values": examples()[i].tolist(), "label": i % 3}


class Flow(IterableDataset):
    """A stream of examples of which the length is not known."""

    def __iter__(self):
        yield from ({"x": x} for x in examples())


class BatchFlow(IterableDataset):
    def __iter__(self):
        yield from examples().split(B)


class Again:
    """What can be iterated again and again, and nothing else."""

    def __iter__(self):
        return iter(examples().split(B))


class Module(LightningDataModule):
    def __init__(self, workers=0):
        super().__init__()
        self.workers = workers

    def _loader(self, shuffle=False):
        return DataLoader(
            TensorDataset(examples(), torch.arange(N)), B, shuffle=shuffle,
            num_workers=self.workers,
        )  # fmt: skip

    def train_dataloader(self):
        return self._loader(shuffle=True)

    val_dataloader = test_dataloader = _loader


class Own(ImageData):
    @property
    def shape(self):
        return SHAPE

    def load(self):
        return dict.fromkeys(("train", "val", "test"), examples())


def distributed():
    data = TensorDataset(examples())
    return DataLoader(data, B, sampler=DistributedSampler(data, 2, 0, shuffle=False))


KINDS = {
    "tensor": examples,
    "array": lambda: examples().numpy(),
    "float64_array": lambda: examples().double().numpy(),
    "memory_map": lambda: memory_map(),
    "list_of_examples": lambda: list(examples()),
    "list_of_batches": lambda: list(examples().split(B)),
    "list_of_pairs": lambda: [(x, i) for i, x in enumerate(examples())],
    "tensor_dataset": lambda: TensorDataset(torch.arange(N), examples()),
    "dataset_of_dicts": Examples,
    "numbered": Numbered,
    "loader": lambda: DataLoader(TensorDataset(examples()), B),
    "shuffled_loader": lambda: DataLoader(TensorDataset(examples()), B, shuffle=True),
    "loader_of_dicts": lambda: DataLoader(Examples(), B),
    "distributed_loader": distributed,
    "loader_of_a_stream": lambda: DataLoader(Flow(), B),
    "stream_of_examples": Flow,
    "stream_of_batches": BatchFlow,
    "iterable_of_batches": Again,
    "datamodule": Module,
    "datamodule_of_ours": lambda: Own(batch_size=B),
}


def memory_map():
    """Return an array in a file."""
    import tempfile

    file = tempfile.NamedTemporaryFile(suffix=".npy", delete=False)
    np.save(file.name, examples().numpy())
    return np.load(file.name, mmap_mode="r")
