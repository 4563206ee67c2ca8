"""A callback that kills one process of several."""

import os
import signal

from lightning.pytorch import Callback


class Dies(Callback):
    """Kills the second process at step 5."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == 1 and trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
