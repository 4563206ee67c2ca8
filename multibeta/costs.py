"""What a training costs: threads and memory of a step, and the time of a sweep in its place."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from multibeta.conditioning import copied
from multibeta.curve import Curve
from multibeta.data.arrays import Rows
from multibeta.data.door import Door
from multibeta.files import replacing
from multibeta.module import MultiBetaModule
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.runs import folder_of, tell

__all__ = ["Costs", "training_of"]

FILE = "training.json"

_SMALL = 0.05
"""Seconds of a step on one thread above which several pay."""

_PAIRS, _PATIENCE = 10, 10.0


class Costs(Callback):
    """Says what a step takes of memory, chooses its threads, and compares with a sweep.

    Where a step is short, threads wait for each other longer than they work: one is chosen where
    it is faster. ``OMP_NUM_THREADS`` decides otherwise. Results differ in their last digits by the
    number of threads, so a checkpoint keeps it, and who goes on takes the same.
    """

    def __init__(self) -> None:
        self._begun = False
        self._threads: int | None = None
        self._kept: dict[int, int] = {}  # bytes by address
        self._counting: Any = None
        self._batch: Any = None
        self._start, self._seconds = 0.0, 0.0
        self._steps, self._total = 0, 0  # of this process, and of the run
        self._warned: list[str] = []
        self._shown: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to keep the warnings that are given."""
        if stage != "fit" or self._shown is not None:
            return
        shown = self._shown = warnings.showwarning

        def kept(message: Warning | str, *where: Any, **more: Any) -> None:
            self._warned.append(" ".join(str(message).split()))
            shown(message, *where, **more)

        warnings.showwarning = kept

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and end the search for a GPU where there is none.

        Adam asks for one at each step, and Lightning has PyTorch ask the driver: 2 % of a short
        step.
        """
        if pl_module.device.type == "cpu" and not torch.cuda.is_available():
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
        self._start, self._steps = time.monotonic(), trainer.global_step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before the first step choose the threads, and begin to count its memory."""
        if self._begun:
            return
        self._begun, self._batch = True, batch
        module = cast(MultiBetaModule, pl_module)
        self._choose_threads(trainer, module, batch)
        if not any(m._compiled_call_impl is not None for m in module.modules()):
            self._counting = torch.autograd.graph.saved_tensors_hooks(self._count, _same)
            self._counting.__enter__()

    def _choose_threads(self, trainer: Trainer, module: MultiBetaModule, batch: Any) -> None:
        most = torch.get_num_threads()
        asked = "OMP_NUM_THREADS" in os.environ
        if module.device.type != "cpu" or trainer.world_size > 1 or most == 1 or asked:
            return
        known = module.threads
        self._threads = most
        if known is None:
            x, inputs = module.vae.read(batch)
            trial = copied(module.vae)
            with torch.random.fork_rng(devices=[]):

                def seconds() -> float:
                    return _seconds(lambda: trial.loss(x, **inputs).backward())

                torch.set_num_threads(1)
                if min(seconds(), seconds()) > _SMALL:  # the first one prepares, too
                    torch.set_num_threads(most)
                    return
                took = {n: math.inf for n in (most, 1)}
                for _ in range(3):
                    for n in took:
                        torch.set_num_threads(n)
                        took[n] = min(took[n], seconds())
            known = min(took, key=lambda n: took[n])
            shown = ", ".join(f"{1e3 * of:.1f} ms with {n}" for n, of in took.items())
            tell(f"threads: {known}; a step takes {shown} (OMP_NUM_THREADS decides otherwise)")
        torch.set_num_threads(known)
        module.threads = known

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Say how much memory a training takes, but for that of its libraries."""
        if self._counting is None:
            return
        self._stop_counting()
        parameters = [*pl_module.parameters()]
        learned = sum(p.nbytes for p in parameters if p.requires_grad)
        for parameter in parameters:
            self._kept.pop(parameter.untyped_storage().data_ptr(), None)
        data: Any = getattr(trainer, "datamodule", None)
        arrays = {} if data is None else Door.of(data).splits
        held = sum(x.nbytes for x in arrays.values() if not isinstance(x, np.memmap | Rows))
        parts = {
            "weights, gradients and moments": 4 * learned,
            "a step": sum(self._kept.values()),
            "the data": held,
        }
        tell("memory: " + ", ".join(f"{n / 1e6:.3g} MB for {of}" for of, n in parts.items() if n))

    def _stop_counting(self) -> None:
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
            self._counting = None

    def on_exception(self, *_: Any) -> None:
        """Leave the process as it was."""
        self._stop_counting()
        self._give_back()
        self._stop_keeping()

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write training.json: what the training cost, and the warnings that were given in it."""
        self._stop_keeping()
        folder = folder_of(trainer)
        if not folder.is_dir() or getattr(trainer, "fast_dev_run", False):
            return
        before = training_of(folder)
        found = {
            "steps": self._total,
            "seconds": self._seconds + (before["seconds"] if self._total > self._steps else 0.0),
            "device": str(pl_module.device),
            "threads": cast(MultiBetaModule, pl_module).threads,
            "warnings": list(dict.fromkeys([*before["warnings"], *self._warned])),
        }
        with replacing(folder / FILE) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")

    def _stop_keeping(self) -> None:
        if self._shown is not None:
            warnings.showwarning, self._shown = self._shown, None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._seconds = time.monotonic() - self._start
        self._steps = trainer.global_step - self._steps
        self._total = trainer.global_step
        self._give_back()

    def _give_back(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
            self._threads = None

    def compared(self, vae: MultiBetaVAE, curve: Curve) -> str | None:
        """Return what as many dedicated models as a curve has β's would have cost, in a line.

        A training step of the plain network is timed beside one of the model's, in pairs; on a
        processor by the time that it worked for them, which other processes hardly disturb.

        Args:
            vae: The trained model.
            curve: Its curve.
        """
        count = len(curve.rows)
        if not self._steps or count < 2 or vae.conditioning.kind == "none":
            return None
        ours = self._seconds / self._steps * self._total
        try:
            took = self._pairs(vae)
        except (torch.OutOfMemoryError, MemoryError):  # the run is whole
            return "not compared with dedicated models: not enough memory for two more"
        if not took:
            return None
        plain, own = (float(np.median(of)) for of in zip(*took, strict=True))
        return (
            f"{count} β's in {ours:.3g} s of training; {count} dedicated models of this network: "
            f"about {count * ours * plain / own:.3g} s (a plain step takes {plain / own:.2f} of "
            f"one of these; {len(took)} pairs)"
        )

    def _pairs(self, vae: MultiBetaVAE) -> list[tuple[float, float]]:
        """Return the seconds of a plain step and of one of the model's, in pairs."""
        x, inputs = vae.read(self._batch)
        own, plain = copied(vae).train(), vae.at_beta(vae.beta_range.middle).train()
        plain.requires_grad_(True)  # a dedicated model learns what may be frozen here

        def of_plain() -> Tensor:
            terms = plain.elbo_terms(x, **inputs)
            return (terms.distortion + plain.beta * terms.rate_nats).mean() / x[0].numel()

        steps = _step(plain, of_plain), _step(own, lambda: own.loss(x, **inputs))
        took: list[tuple[float, float]] = []
        begun = time.monotonic()
        with torch.random.fork_rng(devices=[vae.device] if vae.device.type == "cuda" else []):
            for step in steps:
                step()
            clock = time.process_time if vae.device.type == "cpu" else time.perf_counter
            while len(took) < _PAIRS and time.monotonic() - begun < _PATIENCE:
                first, second = (_seconds(step, clock, vae.device) for step in steps)
                took.append((first, second))
        return took


def _step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step: loss, gradients, clipping, Adam."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, 1e-6, fused=True)

    def step() -> None:
        adam.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()

    return step


def training_of(folder: Path) -> dict[str, Any]:
    """Return what a run's training.json says: steps, seconds, device, threads and warnings.

    Args:
        folder: That of the run; steps is 0 where the file is not there, or not whole.
    """
    try:
        found = json.loads((folder / FILE).read_text())
        return {**found, "seconds": float(found["seconds"]), "warnings": list(found["warnings"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"steps": 0, "seconds": 0.0, "warnings": []}


def _seconds(
    work: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
    device: torch.device | None = None,
) -> float:
    begun = clock()
    work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begun


def _same(tensor: Tensor) -> Tensor:
    return tensor
