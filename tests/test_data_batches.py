"""Batches: order, sharding, flips, and resuming under Lightning."""

import itertools

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from multibeta.data import Batches, ImageData
from multibeta.data import batches as batches_module

COUNT = 23


class Numbers(ImageData):
    """Image i is the number i."""

    @property
    def shape(self):
        return 1, 1, 1

    def load(self):
        numbers = torch.arange(COUNT, dtype=torch.float32).reshape(-1, 1, 1, 1)
        return {"train": numbers, "val": numbers[:6], "test": numbers[:7]}


class Recorder(pl.LightningModule):
    """Remembers the batches that it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch.flatten().int().tolist())
        return self.weight * batch.mean()

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class SaveAt(pl.Callback):
    """Saves a checkpoint when `step` steps are done, in the hook named, and stops."""

    def __init__(self, path, step, hook):
        self.path, self.step, self.hook = path, step, hook

    def _called(self, hook, trainer):
        if (hook, trainer.global_step) == (self.hook, self.step) and not self.path.exists():
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True

    def on_train_batch_end(self, trainer, *_):
        self._called("batch", trainer)

    def on_validation_end(self, trainer, *_):
        self._called("validation", trainer)

    def on_train_epoch_end(self, trainer, *_):
        self._called("epoch", trainer)


def fit(seed, callback=None, ckpt_path=None, **options):
    torch.manual_seed(seed)
    module = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callback,
        **options,
    )
    data = Numbers(batch_size=4)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return module.seen


@pytest.fixture
def processes(monkeypatch):
    def pretend(rank, world):
        monkeypatch.setattr(batches_module, "rank_and_world", lambda: (rank, world))
        monkeypatch.setattr("multibeta.data.base.rank_and_world", lambda: (rank, world))

    return pretend


def numbers(count=COUNT, dtype=torch.uint8):
    return torch.arange(count).to(dtype).reshape(-1, 1, 1, 1)


def listed(batches):
    return [batch.flatten().tolist() for batch in batches]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_evaluation_is_everything_in_order(dtype):
    batches = Batches(numbers(7, dtype), 3)
    assert listed(batches) == [[0, 1, 2], [3, 4, 5], [6]]
    assert listed(batches) == listed(batches)
    assert len(batches) == 3
    assert all(batch.dtype == dtype and batch.shape[1:] == (1, 1, 1) for batch in batches)
    assert [batches.global_index(i) for i in range(3)] == [0, 1, 2]


def test_training_permutes_and_drops_the_partial_batch():
    batches = Batches(numbers(), 4, train=True, seed=1)
    first, second = listed(batches), listed(batches)
    assert len(batches) == len(first) == 5
    for epoch in (first, second):
        seen = list(itertools.chain(*epoch))
        assert len(seen) == len(set(seen)) == 20
        assert seen != sorted(seen)
    assert first != second
    again = Batches(numbers(), 4, train=True, seed=1)
    assert [listed(again), listed(again)] == [first, second]
    assert listed(Batches(numbers(), 4, train=True, seed=2)) not in (first, second)


@pytest.mark.parametrize("train", [True, False])
def test_memory_map_gives_the_same_batches(tmp_path, train):
    np.save(tmp_path / "x.npy", numbers().numpy())
    mapped = Batches(np.load(tmp_path / "x.npy", mmap_mode="r"), 4, train=train)
    in_memory = Batches(numbers(), 4, train=train)
    for a, b in zip(mapped, in_memory, strict=True):
        assert sorted(a.flatten().tolist()) == sorted(b.flatten().tolist())
        a += 1  # a copy: neither read-only nor the file
    assert np.array_equal(mapped.images, numbers())


@pytest.mark.parametrize("train", [True, False])
def test_changing_a_batch_leaves_the_data(train):
    images = numbers()
    for batch in Batches(images, 4, train=train):
        batch.zero_()
    assert torch.equal(images, numbers())


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_share_evaluation_without_repeats(processes, world):
    seen = {}
    for rank in range(world):
        processes(rank, world)
        batches = Batches(numbers(), 4)
        shard = listed(batches)
        assert len(shard) == len(batches)
        seen |= {batches.global_index(i): batch for i, batch in enumerate(shard)}
    processes(0, 1)
    assert [seen[i] for i in range(6)] == listed(Batches(numbers(), 4))
    assert len(seen) == 6


def test_processes_share_training(processes):
    alone = listed(Batches(numbers(), 4, train=True, seed=5))
    for rank in (0, 1):
        processes(rank, 2)
        batches = Batches(numbers(), 4, train=True, seed=5)
        assert len(batches) == 2
        assert listed(batches) == [alone[rank], alone[2 + rank]]


def test_flips_are_fair_and_repeatable():
    images = torch.zeros(400, 2, 1, 3)
    images[..., 0] = 1
    epochs = Batches(images, 40, train=True, flip=True, seed=3)
    first, second = (torch.cat(list(epochs)) for _ in range(2))
    flipped = first[:, 0, 0, 2] == 1
    assert torch.equal(first.sum(dim=(1, 2, 3)), torch.full((400,), 2.0))
    assert torch.equal(first[:, 0], first[:, 1])
    assert 140 < flipped.sum() < 260  # six standard deviations
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(Batches(images, 40, True, True, seed=3))))
    assert torch.equal(torch.cat(list(Batches(images, 40, flip=True))), images)


def test_flips_resume():
    images = torch.rand(40, 1, 2, 2)
    whole = list(Batches(images, 4, train=True, flip=True, seed=3))
    batches = Batches(images, 4, train=True, flip=True, seed=3)
    iterator = iter(batches)
    for _ in range(3):
        next(iterator)
    resumed = Batches(images, 4, train=True, flip=True, seed=9)
    resumed.load_state_dict(batches.state_dict())
    assert all(map(torch.equal, whole[3:], resumed))


def test_state_counts_epochs_and_batches():
    batches = Batches(numbers(), 4, train=True, seed=6)
    assert batches.state_dict() == {"seed": 6, "epoch": 0, "batch": 0}
    iterator = iter(batches)
    next(iterator)
    assert batches.state_dict() == {"seed": 6, "epoch": 0, "batch": 1}
    list(iterator)
    assert batches.state_dict() == {"seed": 6, "epoch": 1, "batch": 0}


def test_state_of_smaller_batches_begins_the_next_epoch():
    batches = Batches(numbers(), 10, train=True)
    batches.load_state_dict({"seed": 1, "epoch": 2, "batch": 9})
    assert batches.state_dict() == {"seed": 1, "epoch": 3, "batch": 0}


CASES = [
    pytest.param(options, hook, step, id=f"{name}-{hook}-{step}")
    for name, options, length in [
        ("epochs", {"max_epochs": 3}, 5),
        ("steps", {"max_steps": 13, "max_epochs": -1}, 5),
        ("limited", {"max_epochs": 4, "limit_train_batches": 3}, 3),
    ]
    for hook, step in [
        ("batch", 2),  # in the middle of an epoch
        ("batch", length),  # after its last batch, before Lightning has closed it
        ("batch", length + 2),
        ("validation", length),
        ("epoch", length),
        ("epoch", 2 * length),
    ]
]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of Lightning about torch's pytree
@pytest.mark.parametrize(("options", "hook", "step"), CASES)
def test_lightning_resumes_with_the_same_batches(tmp_path, options, hook, step):
    path = tmp_path / "stopped.ckpt"
    whole = fit(seed=1, **options)
    fit(seed=1, callback=SaveAt(path, step, hook), **options)
    # the seed in the checkpoint counts, not that of the process that resumes
    assert fit(seed=2, ckpt_path=path, **options) == whole[step:]


def test_seed_of_the_run_shuffles():
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        orders.append(listed(Numbers(batch_size=4).train_dataloader()))
    assert orders[0] == orders[1] != orders[2]


def test_loaders_of_image_data():
    data = Numbers(batch_size=4)
    assert len(list(data.val_dataloader())) == 2
    assert listed(data.test_dataloader()) == listed(data.predict_dataloader())
    assert data.value_range == (0.0, COUNT - 1.0)
    assert data.optimum(1.0, 1.0, 2) is None
    assert data.size_note == ""


def test_each_process_has_a_batch_of_a_small_set(processes):
    seen = []
    for rank in range(3):
        processes(rank, 3)
        shard = listed(Numbers(batch_size=20).test_dataloader())
        assert shard
        seen += itertools.chain(*shard)
    assert sorted(seen) == list(range(7))
    processes(1, 2)  # two batches for two: the same ones as in one process
    assert listed(Numbers(batch_size=5).test_dataloader()) == [[5, 6]]


def test_batch_size_is_checked(processes):
    with pytest.raises(ValueError, match=r"^data.batch_size=0 is too small; choose at least 1$"):
        Numbers(batch_size=0)
    assert len(Numbers(batch_size=COUNT).train_dataloader()) == 1
    message = "data.batch_size=24 is larger than the training set of 23 examples; choose at most"
    with pytest.raises(ValueError, match=f"^{message} 23$"):
        Numbers(batch_size=24).train_dataloader()
    with pytest.raises(ValueError, match=f"^{message} 23$"):
        Numbers(batch_size=24).setup("fit")
    Numbers(batch_size=24).setup("test")
    processes(0, 2)
    with pytest.raises(ValueError, match=r"=12 times 2 processes is larger .* choose at most 11$"):
        Numbers(batch_size=12).train_dataloader()
