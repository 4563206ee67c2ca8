"""Callbacks that do harm."""

import os
import shutil
import signal

from lightning.pytorch import Callback


class Dies(Callback):
    """Kills the second process at step 5."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == 1 and trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)


class RemovesTheFolder(Callback):
    """Removes the run's folder at step 25."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 25:
            shutil.rmtree(trainer.loggers[0].log_dir)
