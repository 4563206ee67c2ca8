"""The time of a training and of its waiting for data, in a module that the CLI can name."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

__all__ = ["Clock"]


class Clock(Callback):
    """Takes the time of a training, from before its first step to after its last.

    ``waiting`` is the part of it in which the next batch is fetched, ``processor`` the processor
    time of this process.
    """

    seconds = 0.0
    processor = 0.0
    waiting = 0.0
    images = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        trainer.profiler = _Fetches()
        self._start, self._processor = time.perf_counter(), time.process_time()
        Clock.waiting, Clock.images = 0.0, 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        Clock.images += len(batch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        Clock.seconds = time.perf_counter() - self._start
        Clock.processor = time.process_time() - self._processor


class _Fetches(Profiler):
    """Adds up the time of what Lightning calls the data loader's next."""

    _NAME = "[_TrainingEpochLoop].train_dataloader_next"

    def start(self, action_name: str) -> None:
        if action_name == self._NAME:
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name == self._NAME:
            Clock.waiting += time.perf_counter() - self._since
