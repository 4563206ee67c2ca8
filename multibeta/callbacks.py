"""What a training run does beside training: progress, interruption, final curve."""

from __future__ import annotations

import logging
import math
import shutil
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar, cast

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    RichProgressBar,
    Timer,
)
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from multibeta.betas import parse_betas
from multibeta.checkpoints import find_checkpoint, read_checkpoint
from multibeta.costs import Costs
from multibeta.curve import Curve
from multibeta.data.door import Door
from multibeta.evaluation import Split, metrics_of, sweep
from multibeta.module import MultiBetaModule
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.options import nearest
from multibeta.progress import NotebookBar, Place, place
from multibeta.results import save_curve, save_pictures, share
from multibeta.runs import Checkpoints, RunLogger, folder_of, is_first, shown, tell
from multibeta.specs import untrusted

__all__ = [
    "Announce",
    "Interrupt",
    "MeasureCurve",
    "ProgressBar",
    "ProgressInNotebook",
    "ProgressLines",
    "Terminated",
    "be_quiet",
    "progress_at",
]


_NOISE = (
    "LightningCLI's args parameter is intended",  # it is used from within Python
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # in Lightning itself
    "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in place
    r"`ModelCheckpoint\(monitor='val/curve_nats'\)` could not find",  # no validation yet
    "Be aware that when using `ckpt_path`, callbacks used to create",  # measuring needs none
    ".*configure_optimizers` will be overridden",  # that is what --optimizer asks for
    "The dirpath has changed from",  # a run goes on from a copy in a folder of its own
    ".*does not have many workers",
    "Trying to infer the `batch_size`",  # of dicts; each batch is measured by its own sums
    "Total length of `list` across ranks is zero",  # no validation set, which is said
    "`max_epochs` was not set",  # the progress shows the epochs
    r"The number of training batches \(\d+\) is smaller than the logging interval",
)


def be_quiet() -> None:
    """Leave out Lightning's remarks on hardware, and its advertisements: they bury the result."""
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)


STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""What schedulers stop a job with: SIGUSR1 is what SLURM is asked to send some time before."""


class Terminated(KeyboardInterrupt):
    """One of :data:`STOPS`, which its argument is."""


class Interrupt(Callback):
    """On Ctrl-C, SIGTERM or SIGUSR1: finishes the step, saves ``last.ckpt``, says how to go on.

    A second one stops at once, without saving. A run that fails before it has anything to keep
    leaves no folder. Lightning's own answer to SIGUSR1 under SLURM would leave a checkpoint among
    all runs, which the next one would take for its own.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *STOPS):
                self._previous[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, _: Any) -> None:
        self._asked = number
        self._release()
        if is_first():
            name = signal.Signals(number).name
            again = "Ctrl-C again" if number == signal.SIGINT else f"{name}; a second one"
            print(f"\nstopping after this step; {again} stops at once", file=sys.stderr)

    def _release(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop here if asked: weights, optimiser and counters belong together."""
        asked = self._asked is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            folder = Path(trainer.log_dir or trainer.default_root_dir)  # the same in all processes
            trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt")
            raise Terminated(self._asked) if self._asked in STOPS else KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._release()

    @rank_zero_only
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say how to go on, or clear away the folder of a run that never began."""
        self._release()
        last = folder_of(trainer) / "checkpoints" / "last.ckpt"
        if not last.exists():
            if isinstance(trainer.logger, RunLogger):
                trainer.logger.discard()
        elif isinstance(exception, KeyboardInterrupt):
            named = untrusted(cast(MultiBetaModule, pl_module).content())
            modules = ",".join(dict.fromkeys(path.partition(".")[0] for path in named))
            allow = f" --allow {modules}" if modules else ""
            print(
                f"stopped at step {trainer.global_step}; go on with\n"
                f"  multibeta fit --ckpt_path {shown(last)}{allow}",
                file=sys.stderr,
            )


class Announce(Callback):
    """Says on stderr what is about to be trained, and why a training has ended early.

    Raises:
        ValueError: If a callback waits for a value that nothing measures.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what would be noticed after an epoch, or never."""
        be_quiet()  # a process that Lightning spawns has no filters yet
        left = sorted(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"))
        if left and SLURMEnvironment.detect():
            raise ValueError(
                f"{shown(left[0])} is a checkpoint of Lightning's, which under SLURM every run in "
                "this folder would go on with; move it, and go on with --ckpt_path"
            )
        if stage != "fit":
            return
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.lock()
        if trainer.limit_train_batches == 0:
            raise ValueError("trainer.limit_train_batches=0 trains nothing; leave it out")
        if trainer.precision == "16-true":
            raise ValueError(
                "trainer.precision=16-true keeps float16 weights, where Adam's steps underflow; "
                "choose bf16-true, or 16-mixed"
            )
        known = cast(MultiBetaModule, pl_module).measured_names()
        callbacks = cast(Any, trainer).callbacks
        own = {"lightning", "multibeta"}
        if {type(callback).__module__.partition(".")[0] for callback in callbacks} <= own:
            for callback in callbacks:
                monitor = getattr(callback, "monitor", None)
                if isinstance(monitor, str) and monitor not in known:
                    raise ValueError(
                        f"{type(callback).__name__} waits for {monitor}, which nothing measures"
                        f"{nearest(monitor, known)}; measured are {', '.join(known)}"
                    )

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why a training has ended before its last epoch."""
        for callback in cast(Any, trainer).callbacks:
            if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
                best = folder_of(trainer) / "checkpoints" / "best.ckpt"
                kept = f" The best is kept in {shown(best)}." if best.exists() else ""
                why = callback.stopping_reason_message.partition(" Signaling")[0]
                tell(f"stopped early, after epoch {callback.stopped_epoch + 1}: {why}{kept}")
            if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None:
                if left <= 0:
                    tell(f"the time is over: stopped at step {trainer.global_step}")
        vae, steps = cast(MultiBetaModule, pl_module).vae, trainer.estimated_stepping_batches
        done, opening = trainer.global_step / steps if steps > 0 else 1.0, vae.draws.opening
        if opening and 0 < done < opening and not vae.beta_range.is_one:
            low = vae.beta_range.opened(done / opening).low
            warnings.warn(
                f"the training ended while the range of β was opening: none below {low:.3g} was "
                f"drawn; plan {trainer.global_step} steps by trainer.max_steps, or give "
                "model.draws.opening=0",
                stacklevel=2,
            )

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that nothing was trained."""
        if not trainer.global_step:
            tell("no step was trained: the model has its initial weights")

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print model, data and device."""
        model = cast(MultiBetaModule, pl_module).vae
        data: Any = getattr(trainer, "datamodule", None)
        door = None if data is None else Door.of(data, model)
        sizes = "" if door is None else ", ".join(f"{n:,} {k}" for k, n in door.sizes.items())
        note = getattr(data, "size_note", "")
        given = f", with their {', '.join(taken)}" if door and (taken := door.taken()) else ""
        size = getattr(data, "batch_size", "the loader's size")
        count = sum(p.numel() for p in model.parameters())
        ranges = ", ".join(
            f"{'β' if name == 'beta' else name} in {of}" for name, of in model.ranges.items()
        )
        print(
            f"{door.label if door else 'data'}: {sizes or 'an unknown number of'} examples of "
            f"{'×'.join(map(str, model.shape))} in batches of {size}"
            f"{f' ({note})' if note else ''}{given}; {count:,} parameters, "
            f"{ranges}, on {model.device}",
            file=sys.stderr,
        )
        if any(isinstance(callback, Checkpoints) for callback in cast(Any, trainer).callbacks):
            size = sum(v.nbytes for v in model.state_dict().values()) + 2 * sum(
                p.nbytes for p in model.parameters() if p.requires_grad
            )  # two moments of Adam
            folder = shown(folder_of(trainer))
            tell(f"checkpoints of about 2 × {size / 1e6:.1f} MB in {folder}")
            free = shutil.disk_usage(folder).free
            if free < 3 * size:  # the old ones stay until the new ones are whole
                raise ValueError(
                    f"{folder} has {free / 1e6:.0f} MB free, and checkpoints need "
                    f"{3 * size / 1e6:.0f} MB; make room, or choose another folder with "
                    "trainer.default_root_dir"
                )


class ProgressBar(RichProgressBar):
    """Lightning's progress bar, on stderr, with D + βR, D and R under their usual names."""

    _NAMES: ClassVar = {
        "train/objective_nats": "D+βR",
        "train/distortion_nats": "D",
        "train/rate_nats": "R",
        "val/objective_nats": "validation D+βR",
    }

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the bar: what is printed now is the result, and stays below it."""
        super().on_train_end(trainer, pl_module)
        self._stop_progress()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what stands behind the bar."""
        values = super().get_metrics(trainer, pl_module)
        return {short: values[name] for name, short in self._NAMES.items() if name in values}


_TIMED = 50
_LONG = 120.0


class ProgressLines(Callback):
    """Prints a line to stderr at each validation, where there is no terminal for a bar."""

    _start: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start, self._first = time.monotonic(), trainer.global_step

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Say, once, how long it will take, where that is long."""
        done = trainer.global_step - self._first
        steps = trainer.estimated_stepping_batches
        if done == _TIMED and math.isfinite(steps) and steps > trainer.global_step:
            seconds = (time.monotonic() - (self._start or 0)) / done
            left = seconds * (steps - trainer.global_step)
            if left > _LONG:
                took = f"{seconds * 1e3:.0f} ms a step"
                tell(f"{took}: about {left / 60:.0f} minutes, and the curve")

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print step, D + βR and the time left."""
        if trainer.state.fn != "fit" or self._start is None:  # a check before the training
            return
        print(self._line(trainer, trainer.current_epoch + 1), file=sys.stderr)

    def _line(self, trainer: Trainer, epoch: int) -> str:
        steps, done = trainer.estimated_stepping_batches, trainer.global_step
        seconds = time.monotonic() - (self._start or 0)
        ends = math.isfinite(steps) and steps >= done  # a stream has no length
        left = seconds * (steps - done) / max(1, done - self._first)
        values = trainer.callback_metrics
        known = [name for name in ("val/objective_nats", "train/objective_nats") if name in values]
        value = f"{known[0]} {values[known[0]]:.2f}, " if known else ""
        of, rest = (f" of {steps:g}", f", about {left:.0f} s left") if ends else ("", "")
        return f"epoch {epoch}, step {done}{of}: {value}{seconds:.0f} s{rest}"


class ProgressInNotebook(ProgressLines):
    """Shows what is elsewhere a row of lines as one bar in the output of a notebook's cell."""

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and draw the bar."""
        super().on_train_start(trainer, pl_module)
        self._bar = NotebookBar(trainer.estimated_stepping_batches)
        self._show(trainer)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Move the bar."""
        self._show(trainer)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave validation to the bar, which has its result."""

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar as it is at the end."""
        self._show(trainer, last=True)

    def _show(self, trainer: Trainer, last: bool = False) -> None:
        epoch = trainer.current_epoch + (not last)  # at the end it counts those that are over
        self._bar.show(trainer.global_step, self._line(trainer, epoch), last)


def progress_at(where: Place) -> Callback:
    """Return what shows the progress of a training.

    Args:
        where: Where it is read: :func:`multibeta.progress.place`.
    """
    return {"terminal": ProgressBar, "notebook": ProgressInNotebook}.get(where, ProgressLines)()


class MeasureCurve(Callback):
    """Measures the rate-distortion curve when training has ended, prints it and keeps it.

    Args:
        betas: LOW:HIGH, LOW:HIGH:N or a list; 16 points over the trained range by default.
        metrics: What to measure beside rate and distortion, as ``multibeta curve --metrics``; by
            default what the objective asks for.
        split: Which part of the data.
        enabled: Whether to measure at all.
    """

    def __init__(
        self,
        betas: str | None = None,
        metrics: str | None = None,
        split: Split = "test",
        enabled: bool = True,
    ) -> None:
        self.betas = betas
        self.metrics = metrics
        # What is wrong here is said before the training, not after it.
        metrics_of(metrics or ())
        if betas is not None:
            parse_betas(betas)
        self.split = split
        self.enabled = enabled
        self.curve: Curve | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out before the training what could not be measured after it."""
        data: Any = getattr(trainer, "datamodule", None)
        if not self.enabled or data is None:
            return
        model = cast(MultiBetaModule, pl_module).vae
        door = Door.of(data, model)
        there = door.measured(self.split)
        if there != self.split:
            tell(f"{door.label} has no {self.split} set: the curve is that of the {there} set")
            self.split = cast(Split, there)
        model.look(door.batches(there), f"the {there} set")
        metrics_of(self._metrics(model), door, model)

    def _metrics(self, model: MultiBetaVAE) -> Any:
        return model.objective.metrics if self.metrics is None else self.metrics

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, print and write."""
        if not self.enabled or getattr(trainer, "fast_dev_run", False):
            return
        model = cast(MultiBetaModule, pl_module).vae
        data: Any = getattr(trainer, "datamodule", None)
        folder = folder_of(trainer)
        for callback in cast(Any, trainer).callbacks:
            if isinstance(callback, Checkpoints) and callback.best_model_path:
                measured = find_checkpoint(Path(callback.dirpath or ".").parent)
                if measured.stem == "best":
                    pl_module.load_state_dict(read_checkpoint(measured)["state_dict"])
        if trainer.is_global_zero:  # the mark of a finished run, perhaps of other weights
            (folder / "curve.json").unlink(missing_ok=True)
        curve = sweep(
            model,
            data,
            self.betas,
            metrics=self._metrics(model),
            split=self.split,
            progress=trainer.is_global_zero and place() != "elsewhere",
        )
        self.curve = curve
        if trainer.is_global_zero:
            save_pictures(curve, model, data, folder)
            save_curve(curve, model, data, folder)
            for logger in trainer.loggers:
                if not isinstance(logger, RunLogger):
                    share(logger, curve, folder)
            print(curve.table())
            for callback in cast(Any, trainer).callbacks:
                if isinstance(callback, Costs) and (said := callback.compared(model, curve)):
                    print(f"\n{said}")
            print(f"\nfiles: {shown(folder)}")
