"""The time of a training's steps, by a callback: in a module of its own, whoever imports it."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["Clock"]


class Clock(Callback):
    """Takes the time of a training, from before its first step to after its last.

    ``waiting`` is the part of it between the steps of an epoch: for the next batch, and for what
    else Lightning does there, so that it is an upper bound.
    """

    seconds = 0.0
    waiting = 0.0
    images = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self._start = time.perf_counter()
        Clock.waiting, Clock.images = 0.0, 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the first batch."""
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop waiting."""
        Clock.waiting += time.perf_counter() - self._since
        Clock.images += len(batch)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Wait for the next batch."""
        self._since = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        Clock.seconds = time.perf_counter() - self._start
