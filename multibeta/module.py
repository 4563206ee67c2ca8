"""How a conditioned VAE is trained by Lightning."""

from __future__ import annotations

import io
import math
import pickle
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

import multibeta
from multibeta.betas import Draws
from multibeta.conditioning import Kind
from multibeta.data.door import Door
from multibeta.data.examples import read
from multibeta.data.units import Summary, Units
from multibeta.jumps import Jumps
from multibeta.likelihoods import Gaussian, Laplace, Likelihood
from multibeta.metrics.rate_distortion import RateDistortion
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import Network
from multibeta.noise import evaluation_noise
from multibeta.objectives import Objective
from multibeta.settings import FORMAT, about_of, make, plain_settings
from multibeta.specs import describe, plain

__all__ = ["MONITOR", "FromSettings", "MultiBetaModule"]

MONITOR = "val/curve_nats"
"""What the best checkpoint is best at: the objective on the validation grid of β, each weighed as
in training, so that a high β, whose objective is large and noisy, does not decide alone."""

_VALIDATION_POINTS = 5

_SEEN = 4096
"""How many training examples the units of x are taken from."""


class MultiBetaModule(LightningModule):
    r"""Trains a :class:`~multibeta.MultiBetaVAE`: Adam, a linear warm-up, a cosine to 0.

    Args:
        vae: The model.
        lr: Peak learning rate of Adam.
        warmup: Fraction of the training in which the learning rate rises from 0; it then falls
            along a cosine to 0.
        compile: Compile encoder and decoder with torch.compile.

    Attributes:
        record: How the run was started, as plain values: the command line's sections ``trainer``,
            ``curve``, ``seed_everything`` and so on, the run's name and folder. Checkpoints hold
            it, so that the run can go on from any of them. Where nobody has set it, it is what the
            trainer says of itself.
        threads: How many threads a step has, where that was chosen; checkpoints hold it.

    Raises:
        ValueError: If an argument is out of its domain.
    """

    def __init__(
        self, vae: MultiBetaVAE, lr: float = 3e-3, warmup: float = 0.2, compile: bool = False
    ) -> None:
        super().__init__()
        for name, value in {"lr": lr, "warmup": warmup}.items():
            if value is None:
                raise ValueError(f"{name} is null; give a number, or leave it out")
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr={lr:g} is not a finite number above 0")
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup={warmup:g} is outside [0, 1]")
        self.vae = vae
        self.lr, self.warmup = lr, warmup
        self._lr = lr
        self.record: dict[str, Any] | None = None
        self.threads: int | None = None
        self._seen: Summary | None = None
        self._examples: tuple[str | None] | None = None
        self._jumps: Jumps | None = None
        self._steps = math.inf
        self._schedule: LambdaLR | None = None
        if compile:
            for part in ("encoder", "decoder"):
                vae.network(part)[0].compile()
        # Not a ModuleList: on a device without float64 the sums stay on the CPU.
        grid = vae.beta_range.grid(_VALIDATION_POINTS)
        self.grid = [RateDistortion(beta, vae.likelihood.unit) for beta in grid]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, the name of the hook under way without a search.

        Lightning sets that name dozens of times a step, and ``nn.Module`` looks for it among
        parameters, buffers and modules each time.
        """
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Refuse data that the likelihood gives no density to, and warn of a σ without optimum."""
        vae, data = self.vae, _datamodule(self._trainer)
        if stage == "fit":  # a checkpoint to go on with is read after this
            vae.units, self._seen = None, Summary()
        value_range = getattr(data, "value_range", None)
        if value_range is not None:
            vae.likelihood.check(torch.tensor(value_range))
        if vae.likelihood.whole and not getattr(data, "whole", True):
            raise ValueError(
                f"the data has values that are no whole numbers; {type(vae.likelihood).__name__} "
                "is for counts: give the raw counts, or choose model.likelihood Gaussian"
            )
        floor, d = getattr(vae.likelihood, "floor", None), math.prod(vae.shape)
        latents = math.prod(vae.latent_shape)
        if stage == "fit" and floor and latents >= d > 0 and vae.beta_range.low < 1:
            rank_zero_warn(
                f"with {latents} latents for {d} values of x and β below 1, no σ is "
                f"optimal: the lower the better, and {type(vae.likelihood).__name__} will stay "
                f"at its floor of {floor:g}; use fewer latents, β from 1 up, or a fixed σ"
            )

    def on_fit_start(self) -> None:
        """Fix the seed that each step's randomness derives from."""
        if self.vae.run_seed is None:
            self.vae.run_seed = torch.initial_seed()
        self._check_plain()
        data = _datamodule(self._trainer)
        if data is not None and (door := Door.of(data, self.vae)).has("val"):
            self.vae.look(door.batches("val"), "the validation set")

    def on_train_start(self) -> None:
        """Let the schedule have the learning rate of now: a finder's, or another than before.

        And begin to watch for jumps.
        """
        finds = isinstance(self.trainer.logger, DummyLogger)  # a finder raises the rate on purpose
        self._jumps = Jumps() if self.trainer.is_global_zero and not finds else None
        schedule = self._schedule
        if schedule is None or schedule.optimizer not in cast(Any, self.trainer).optimizers:
            return
        if self.lr != self._lr and self.trainer.is_global_zero:  # a finder says so in a log
            print(f"learning rate {self.lr:g}, in the place of {self._lr:g}", file=sys.stderr)
        schedule.base_lrs[0] = self.lr
        factor = schedule.lr_lambdas[0](schedule.last_epoch)
        schedule.optimizer.param_groups[0]["lr"] = self.lr * factor

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the batch's randomness a function of seed and batch.

        A resumed run then draws what the uninterrupted one would have drawn, and the processes of
        a distributed run draw for all of them, and take their part: as one process with the whole
        batch.
        """
        place = self.trainer.fit_loop.epoch_loop.total_batch_idx
        seed = ((self.vae.run_seed or 0) * 1_000_003 + place) % 2**63
        # Not torch.manual_seed: it calls on every kind of device, a tenth of a small step's time.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            getattr(torch, self.device.type).manual_seed(seed)
        if batch_idx == 0 or (self._seen is not None and self._seen.n < _SEEN):
            self._look_at(batch, batch_idx == 0)

    def _look_at(self, batch: Any, first: bool) -> None:
        """Check the first batch, and learn the units of x from the first ones."""
        x, _ = self.vae.read(batch, careful=first)
        if self._seen is None or self._seen.n >= _SEEN:
            return
        begins = not self._seen.n
        self._seen.add(x.float())
        units = self._seen.units()
        known = getattr(_datamodule(self._trainer), "value_range", None)
        if known is not None:
            units = replace(units, low=float(known[0]), high=float(known[1]))
        self.vae.units = units
        p = self.vae.likelihood.at(self.vae.pinned)
        if begins and isinstance(p, Gaussian | Laplace) and not isinstance(p.sigma, str):
            std = 1.0 if self.vae.scale is not None else units.total[1]
            if std > 0 and not std / 300 < p.sigma < 3 * std:
                rank_zero_warn(
                    f"σ = {p.sigma:g}, and x has a standard deviation of {std:.3g}: a σ far "
                    "from the data's scale leaves little to see of it; the usual one is below it, "
                    "down to a hundredth"
                )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Draw β's, return the loss, and log D, R and D + βR of the batch."""
        progress = self.global_step / self._steps if math.isfinite(self._steps) else 1.0
        x, inputs = self.vae.read(batch)
        part = (self.global_rank, self.trainer.world_size)
        step = self.vae.step(x, progress, part, **inputs)
        if not step.loss.isfinite():
            self.vae.read(batch, careful=True)  # says so, if it is the data
            worst = step.values["beta"][~step.objective.isfinite()]
            beta = (worst if len(worst) else step.values["beta"])[0].item()
            self._diverged(f"loss is {step.loss.item():g}", beta)
        if self._jumps is not None and (jump := self._jumps.add(step.objective.mean().item())):
            self._jumps = None
            rank_zero_warn(
                f"D + βR has jumped from {jump[0]:.4g} to {jump[1]:.4g} by step "
                f"{self.global_step}, and a training may not come back from that: compare with "
                f"half the learning rate (model.lr is {self.lr:g}), or with another seed"
            )
        if (self.global_step + 1) % getattr(self.trainer, "log_every_n_steps", 50) == 0:
            measured = {
                "train/objective_nats": step.objective.mean(),
                "train/distortion_nats": step.terms.distortion.mean(),
                "train/rate_nats": step.terms.rate_nats.mean(),
            }
            if step.own is not None:
                measured["train/discriminator_nats"] = step.own.mean()
            self.log_dict(measured, prog_bar=True)
        return step.loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measure D and R on a small grid of β."""
        self._measure(batch, batch_idx, self.trainer.val_dataloaders)

    def on_validation_epoch_end(self) -> None:
        """Log what was measured."""
        self._log_measures("val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure D and R on a small grid of β."""
        self._measure(batch, batch_idx, self.trainer.test_dataloaders)

    def on_test_epoch_end(self) -> None:
        """Log what was measured."""
        self._log_measures("test")

    def predict_step(self, batch: Any, batch_idx: int) -> dict[float, Tensor]:
        """Return the posterior means (B, *latent shape) at each β of the grid."""
        x, inputs = self.vae.read(batch, careful=batch_idx == 0)
        return {
            metric.beta: self.vae.encode(x, metric.beta, **inputs).mean for metric in self.grid
        }

    def configure_optimizers(self) -> Any:
        """Return Adam with a linear warm-up and a cosine decay to 0, stepped every batch.

        The networks of an objective have a group of their own, at its constant learning rate.
        """
        # Lightning clips no fused optimizer under mixed precision.
        fused = "mixed" not in str(self.trainer.precision)
        steps = self.trainer.estimated_stepping_batches
        self._steps = math.inf if steps < 0 else steps  # -1 where nobody knows the data's length
        if not math.isfinite(self._steps):
            opens = self.vae.draws.opening and not self.vae.beta_range.is_one
            whole = ", and the range of β is whole from the start" if opens else ""
            rank_zero_warn(
                "the length of the training is not known: the learning rate rises over 1,000 "
                f"steps and stays{whole}; with max_steps it falls to 0 at the end"
            )
        named = {name: p for name, p in self.vae.named_parameters() if p.requires_grad}
        own = [name for name in named if name.startswith("objective.")]
        groups: list[dict[str, Any]] = [{"params": [p for n, p in named.items() if n not in own]}]
        factors = [_warmup_cosine(self.warmup, self._steps)]
        if own:
            adam = self.vae.objective.adam
            groups.append({"params": [named[name] for name in own], **adam})
            factors.append(lambda step: 1.0)
        optimizer = Adam(groups, lr=self.lr, fused=fused)
        self._schedule = schedule = LambdaLR(optimizer, factors)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what resuming and ``multibeta.load`` need beside the weights."""
        content = checkpoint["multibeta"] = self.content()
        self.vae.about = about_of(content, checkpoint.get("global_step", 0))

    def content(self) -> dict[str, Any]:
        """Return what a checkpoint says of the run: plain values."""
        data = _datamodule(self._trainer)
        try:
            source = getattr(data, "source", data)
            own = isinstance(source, LightningDataModule)
            description = describe(source) if own else None
        except TypeError:  # A datamodule of the user's own that cannot be described.
            description = None
        run = self.record or {"trainer": _settings_of(self.trainer)}
        return {
            "format": FORMAT,
            "version": multibeta.__version__,
            "data": description,
            "examples": self._fingerprint(data),
            "units": None if self.vae.units is None else asdict(self.vae.units),
            "run_seed": self.vae.run_seed,
            "training": {"lr": self.lr, "warmup": self.warmup},
            "run": {**run, "threads": self.threads},
            **plain_settings(self.vae),
        }

    def _fingerprint(self, data: Any) -> str | None:
        if data is not None and self._examples is None:
            self._examples = (Door.of(data, self.vae).fingerprint(),)
        return None if self._examples is None else self._examples[0]

    def _check_plain(self) -> None:
        """Refuse, before the first step, what no checkpoint could be read with again."""
        trainer, data = self.trainer, _datamodule(self._trainer)
        parts: dict[str, Any] = {"the model": self.content()}
        if data is not None:
            parts[f"the data module {Door.of(data).label}"] = data.state_dict()
        for callback in cast(Any, trainer).callbacks:
            parts[f"the callback {type(callback).__name__}"] = callback.state_dict()
        for name, state in parts.items():
            with io.BytesIO() as file:
                try:
                    torch.save(state, file)
                    file.seek(0)
                    torch.load(file, weights_only=True)
                except (pickle.PickleError, AttributeError, TypeError) as error:
                    kind = re.search(r"GLOBAL ([\w.]+)", str(error))
                    raise ValueError(
                        f"{name} keeps {kind[1] if kind else 'something'} in its state, and a "
                        "checkpoint with it could never be opened: keep tensors and plain values"
                    ) from None
        if data is not None and parts["the model"]["data"] is None and trainer.is_global_zero:
            print(
                f"checkpoints will not say what data this is, for {Door.of(data).label} cannot be "
                "described in plain values: to measure one of them, give the data in Python",
                file=sys.stderr,
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the seed of the interrupted run, and the units of x."""
        self.vae.run_seed = checkpoint["multibeta"]["run_seed"]
        self.threads = checkpoint["multibeta"]["run"].get("threads")
        if units := checkpoint["multibeta"].get("units"):
            self.vae.units, self._seen = Units(**units), None

    def _measure(self, batch: Any, batch_idx: int, loader: Any) -> None:
        x, inputs = self.vae.read(batch, careful=batch_idx == 0)
        vae = self.vae
        samples = vae.objective.samples
        noise = evaluation_noise(
            loader, batch_idx, len(x), vae.latent_shape, samples if samples > 1 else None
        )
        noise = noise.to(x).reshape(-1, *vae.latent_shape)
        for metric in self.grid:
            values = vae.conditions(metric.beta)
            terms, objective, _ = vae.objective_of(x, values, noise, inputs)
            d, r = terms.distortion[: len(x)], terms.rate_nats[: len(x)]
            metric.beside(self.device).update(d, r, objective)

    def measured_names(self) -> list[str]:
        """Return the names of what a training and its validations log."""
        of_each = ("objective_nats", "distortion_nats", "rate_nats")
        at_betas = [f"val/{name}@{metric.beta:g}" for metric in self.grid for name in of_each]
        ours = [MONITOR, "val/objective_nats"]
        return [*ours, *(f"train/{name}" for name in of_each), *at_betas]

    def _log_measures(self, stage: str) -> None:
        unit = self.grid[0].suffix
        names = {f"{name}_nats": f"{name}{unit}" for name in ("objective", "distortion")}
        names["rate_nats"] = "rate_nats"
        rows = [metric.compute() for metric in self.grid]
        for metric in self.grid:
            metric.reset()
        for row in rows:
            if not math.isfinite(row[names["objective_nats"]]):
                value = row[names["objective_nats"]]
                self._diverged(f"{stage} objective is {value:g}", row["beta"])
            for name, column in names.items():
                # The metrics are in sync already; this tells Lightning so.
                self.log(f"{stage}/{name}@{row['beta']:g}", row[column], sync_dist=True)
        found = torch.tensor([row[names["objective_nats"]] for row in rows], dtype=torch.double)
        weighed = self._weighed(found)
        self.log(f"{stage}/objective_nats", found.mean().item(), prog_bar=True, sync_dist=True)
        self.log(f"{stage}/curve_nats", weighed.mean().item(), sync_dist=True)

    def _weighed(self, objective: Tensor) -> Tensor:
        """Return the objective at each β of the grid with the weight that it has in training."""
        given = self.vae.conditions(torch.tensor([metric.beta for metric in self.grid]))
        values = {name: value.cpu().double().expand_as(objective) for name, value in given.items()}
        return self.vae.draws.weigh(objective, values, self.vae.beta_range.unit)

    def _diverged(self, what: str, beta: float) -> None:
        raise FloatingPointError(
            f"{what} at step {self.global_step}, beta={beta:g}; checkpoints stay as they were: "
            "try a lower model.lr or trainer.gradient_clip_val"
        )


class FromSettings(MultiBetaModule):
    """The same, made from plain settings: what the command line trains.

    Args:
        shape: That of x; the command line takes it from the data.
        betas: The range of β, ``LOW:HIGH``; one number for a dedicated β-VAE.
        draws: What a training draws, and how it weighs it.
        conditioning: How β enters the network: ``film``, ``gate`` or ``none``.
        network: Encoder and decoder; MLP by default.
        encoder: The class path of an encoder of yours, or ``{"class_path": …, "init_args": …}``;
            ``shape``, ``latent_dim`` and ``outputs`` are filled in where it takes them.
        decoder: The same for the decoder.
        latent_dim: The number Z of latents.
        likelihood: p(x|z), or a Distortion; Bernoulli by default.
        objective: What is minimised; D + βR (BetaELBO) by default.
        posterior: What stands beside the means in the output of an encoder of yours.
        standardise: Whether each feature of a table, or channel of a signal, is shifted to mean 0
            and scaled to variance 1 by the training set; D is in the data's own units.
        lr: Peak learning rate of Adam.
        warmup: As above.
        compile: As above.
        standard: What ``standardise`` found; a checkpoint has it.

    Raises:
        ValueError: If an argument is out of its domain.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        betas: str = "0.01:10",
        draws: Draws | None = None,
        conditioning: Kind = "film",
        network: Network | None = None,
        encoder: str | dict[str, Any] | None = None,
        decoder: str | dict[str, Any] | None = None,
        latent_dim: int = 32,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        posterior: str = "log_variance",
        standardise: bool = False,
        lr: float = 3e-3,
        warmup: float = 0.2,
        compile: bool = False,
        standard: list[list[Any]] | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "shape": shape, "betas": betas, "draws": draws, "conditioning": conditioning,
            "network": network, "encoder": encoder, "decoder": decoder, "latent_dim": latent_dim,
            "likelihood": likelihood, "objective": objective, "posterior": posterior,
            "standardise": standardise, "standard": standard,
        }  # fmt: skip
        super().__init__(make(**settings), lr, warmup, compile)
        plain = self.vae.settings
        self.save_hyperparameters({**plain, "lr": lr, "warmup": warmup, "compile": compile})

    def setup(self, stage: str) -> None:
        """Take the mean and the standard deviation of the data, where it is standardised."""
        super().setup(stage)
        vae = self.vae
        if vae.settings["standardise"] and vae.likelihood.whole:
            raise ValueError(
                f"standardise=true would make of counts what {type(vae.likelihood).__name__} does "
                "not take; leave it out, or choose model.likelihood Gaussian"
            )
        if vae.settings["standardise"] and vae.settings["standard"] is None:
            found = moments_of(_datamodule(self._trainer))
            vae.settings["standard"] = [value.tolist() for value in found]
            self.hparams["standard"] = vae.settings["standard"]
            vae.keep_scale((found[0].to(self.device), found[1].to(self.device)))


def moments_of(data: Any) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the training set, of each feature or channel.

    A feature that never changes has a standard deviation of 1.
    """
    count, total, squares = 0, cast(Any, 0.0), cast(Any, 0.0)
    for batch in data.ordered("train"):
        x = read(batch, counts=True).x.double()
        over = (0, *range(2, x.ndim))
        count += x.numel() // x.shape[1]
        total = total + x.sum(over)
        squares = squares + x.square().sum(over)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std > 1e-12 * (1 + mean.abs()), std, torch.ones_like(std))
    shape = (-1, *(1,) * (x.ndim - 2))
    return mean.float().view(shape), std.float().view(shape)


def _settings_of(trainer: Trainer) -> dict[str, Any]:
    """Return a trainer's settings, those that decide what a training is."""
    names = (
        "max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val",
        "gradient_clip_algorithm", "precision", "check_val_every_n_epoch", "limit_train_batches",
        "limit_val_batches", "log_every_n_steps",
    )  # fmt: skip
    return {name: plain(getattr(trainer, name), f"trainer.{name}") for name in names}


def _datamodule(trainer: Trainer | None) -> Any:
    return getattr(trainer, "datamodule", None)


def _warmup_cosine(warmup: float, steps: float) -> Callable[[int], float]:
    """Return a linear rise over the first fraction of the steps, then a cosine to 0."""
    if not math.isfinite(steps):  # Training without an end: rise over 1,000 steps and stay.
        return lambda step: min(1.0, (step + 1) / 1000)
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor
