"""The time of a training's steps, by a callback: in a module of its own, whoever imports it."""

from __future__ import annotations

import time

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["Clock"]


class Clock(Callback):
    """Takes the time of a training, from before its first step to after its last."""

    seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        Clock.seconds = time.perf_counter() - self._start
