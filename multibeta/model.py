"""The model: one VAE for every β in a range."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from multibeta.betas import BetaRange
from multibeta.film import Chain, Conditioning, Kind, fold, rows_for
from multibeta.likelihoods import Bernoulli, Likelihood
from multibeta.metrics.rate_distortion import RateDistortion
from multibeta.networks import MLP, Network
from multibeta.objectives import BetaELBO, Objective, Terms
from multibeta.specs import build, describe
from multibeta.vae import BetaVAE, ELBOTerms, elbo_terms_of, images_of, posterior_of

__all__ = ["MultiBetaVAE", "evaluation_noise"]

FORMAT = 3
"""Version of a checkpoint: of what it holds and of what its weights mean."""

MONITOR = "val/objective_nats"
"""What the best checkpoint is best at: the objective, averaged over the validation grid of β."""

_VALIDATION_POINTS = 5


class MultiBetaVAE(LightningModule):
    r"""One VAE for every β in a range.

    Encoder and decoder take an embedding c of log β, and of the logarithm of every other weight
    that is a range::

        β ─ standardised log β ─ c ─────────┬────────────────────────┐
        x ────────────────────── encoder(x, c) ─ q(z|x) ─ z ─ decoder(z, c) ─ p(x|z)
                                                └ rate R              └ distortion D

    A training step draws β's for each example of the batch and minimises

    .. math:: \frac1d \, \mathrm{mean}_b \, \frac{D_b + β_b R_b}{(1 + β_b)^a}

    or what another objective has in the place of D + βR. d is the number of values in x, a the
    ``balance``; with further ranges their weights are added to 1 + β. Neither factor moves the
    optimum at any β: d makes one clipping threshold fit every data set, a shares the capacity over
    the range.

    Args:
        shape: (C, H, W) of x; the command line takes it from the data.
        betas: The range of β, ``LOW:HIGH``; one number for a dedicated β-VAE.
        draw: ``example`` draws a β for each example of a batch, ``batch`` one for all. An
            objective that looks at the codes of examples together always has one for all.
        betas_per_example: How many β's each example of a batch gets, spread over the range, with
            noise in opposite pairs. The encoder's inside does its work once for all of them; a
            model for one β needs no more than 1 and gets 1.
        ends: The fraction of the draws that fall on exactly the lowest or the highest β: an end of
            the range has neighbours on one side only, and is learned worse without it.
        tilt: 1 draws β log-uniformly, more draws low ones, which have more to learn, more often
            (:meth:`BetaRange.draw`).
        opening: The fraction of the training in which the range opens, evenly in log β, from its
            high end down to the whole. A high β can shut latents in one basis of the code only,
            and chooses it before the low ones, to which any basis will do. 0 trains on the whole
            range from the start; None is the network's: 0.25, and 0 for ``Linear`` and ``MLP``.
        conditioning: How β enters the network: ``film``, ``gate`` or ``none``.
        network: Encoder and decoder; MLP by default.
        latent_dim: The number Z of latents.
        likelihood: p(x|z); Bernoulli by default.
        objective: What is minimised; D + βR (BetaELBO) by default.
        balance: The power a of the weight 1/(1+β)^a; 0 weighs all β alike.
        lr: Peak learning rate of Adam.
        warmup: Fraction of the training in which the learning rate rises from 0; it then falls
            along a cosine to 0.
        compile: Compile encoder and decoder with torch.compile.

    Raises:
        ValueError: If an argument is out of its domain.

    References:
        Bae et al. 2023, "Multi-Rate VAE", arXiv 2212.03905; Dosovitskiy & Djolonga 2020, "You
        Only Train Once".
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        betas: str = "0.01:10",
        draw: Literal["example", "batch"] = "example",
        betas_per_example: int = 2,
        ends: float = 0.2,
        tilt: float = 1.5,
        opening: float | None = None,
        conditioning: Kind = "film",
        network: Network | None = None,
        latent_dim: int = 32,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        balance: float = 0.5,
        lr: float = 2e-3,
        warmup: float = 0.05,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.likelihood: Likelihood = copy.deepcopy(_built(likelihood or Bernoulli(), Likelihood))
        self.objective: Objective = copy.deepcopy(_built(objective or BetaELBO(), Objective))
        given = BetaRange.parse(betas)
        self.beta_range = given if self.objective.takes_beta else BetaRange(1.0, 1.0)
        others = {**self.objective.ranges, **self.likelihood.ranges}
        self.ranges = {"beta": self.beta_range, **others}
        self.conditioning = Conditioning(conditioning, len(self.ranges))
        for name, of in self.ranges.items():
            if conditioning == "none" and not of.is_one:
                said = ("β", "betas", "betas=1") if name == "beta" else (name, name, f"{name}=1")
                raise ValueError(
                    f"conditioning=none cannot follow {said[0]} over {said[1]}={of}; give one, "
                    f"such as {said[2]}, or conditioning=film"
                )
        self.pinned = {name: of.middle for name, of in others.items()}
        if draw not in ("example", "batch"):
            raise ValueError(f"draw={draw} is unknown; allowed: example, batch")
        if betas_per_example < 1:
            raise ValueError(
                f"betas_per_example={betas_per_example} is too small; it is at least 1"
            )
        if not 0 <= ends < 1:
            raise ValueError(f"ends={ends:g} is outside [0, 1)")
        if not (math.isfinite(tilt) and tilt > 0):
            raise ValueError(f"tilt={tilt:g} is not a finite number above 0")
        if opening is not None and not 0 <= opening <= 1:
            raise ValueError(f"opening={opening:g} is outside [0, 1]")
        if latent_dim < 1:
            raise ValueError(f"latent_dim={latent_dim} is too small; it is at least 1")
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr={lr:g} is not a finite number above 0")
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup={warmup:g} is outside [0, 1]")
        network = _built(network or MLP(), Network)
        self.shape = int(shape[0]), int(shape[1]), int(shape[2])
        self.draw = draw
        one = all(of.is_one for of in self.ranges.values())
        self.betas_per_example = 1 if one else betas_per_example
        self.ends = ends
        self.tilt = tilt
        self.opening = network.opening if opening is None else opening
        self.latent_dim = latent_dim
        self.balance = balance
        self.lr = lr
        self.warmup = warmup
        self.run_seed: int | None = None
        self._steps = math.inf
        self.save_hyperparameters(
            {
                "shape": list(self.shape),
                "betas": str(betas),
                "draw": draw,
                "betas_per_example": betas_per_example,
                "ends": ends,
                "tilt": tilt,
                "opening": opening,
                "conditioning": conditioning,
                "network": describe(network),
                "latent_dim": latent_dim,
                "likelihood": describe(self.likelihood),
                "objective": describe(self.objective),
                "balance": balance,
                "lr": lr,
                "warmup": warmup,
                "compile": compile,
            },
            logger=False,
        )
        self.embedding = self.conditioning.embedding()
        self.encoder = network.encoder(self.shape, latent_dim, self.conditioning)
        self.decoder = network.decoder(
            self.shape, latent_dim, self.likelihood.outputs, self.conditioning
        )
        self.objective.build(latent_dim, len(self.ranges))
        # Convolutions are faster so (on CPU by a tenth); other layers do not care.
        self.to(memory_format=torch.channels_last)
        if compile:
            self.encoder.compile()
            self.decoder.compile()
        # Not a ModuleList: on a device without float64 the sums stay on the CPU.
        self.grid = [RateDistortion(beta) for beta in self.beta_range.grid(_VALIDATION_POINTS)]

    # Using the model ---------------------------------------------------------------------------

    def at_beta(self, beta: float, *, extrapolate: bool = False) -> BetaVAE:
        """Return the plain VAE at one β, with the conditioning folded into the weights.

        Args:
            beta: β, within the trained range. Other weights that are ranges are where
                :meth:`pin` has put them, at first in the middle of their logarithm's range.
            extrapolate: Allow a β outside it.

        Returns:
            A :class:`BetaVAE` in evaluation mode that shares no memory with this model.

        Raises:
            ValueError: If β is outside the trained range and ``extrapolate`` is not set.
        """
        beta = self.beta_range.check(beta, extrapolate=extrapolate)
        with torch.no_grad():
            values = self._conditions(beta)
            c = self._embed(values)
        vae = BetaVAE(
            fold(self.encoder, c),
            fold(self.decoder, c),
            copy.deepcopy(self.likelihood.at(self.pinned)),
            self.latent_dim,
            beta,
        )
        return vae.eval()

    def at(self, beta: float = 1.0, *, extrapolate: bool = False, **weights: float) -> BetaVAE:
        """Return the plain VAE at β and at values of the other weights that are ranges.

        Args:
            beta: As in :meth:`at_beta`.
            extrapolate: Allow values outside the trained ranges.
            weights: As in :meth:`pin`.

        Raises:
            ValueError: If a value is outside its range and ``extrapolate`` is not set, or a weight
                is no range of this model.

        Example:
            >>> from multibeta.likelihoods import Gaussian
            >>> model = MultiBetaVAE((1, 8, 8), likelihood=Gaussian("0.1:1"))
            >>> model.at(beta=2, sigma=0.3).likelihood
            Gaussian(sigma=0.3)
        """
        pinned = self.pin(extrapolate=extrapolate, **weights)
        return pinned.at_beta(beta, extrapolate=extrapolate)

    def pin(self, *, extrapolate: bool = False, **weights: float) -> MultiBetaVAE:
        """Return this model, its parameters shared, with the weights beside β held at values.

        Args:
            extrapolate: Allow values outside the trained ranges.
            weights: Name → value, of weights that are ranges: γ of an objective, σ.

        Raises:
            ValueError: If a weight is no range of this model, or a value is outside its range and
                ``extrapolate`` is not set.
        """
        view = copy.copy(self)
        view.pinned = dict(self.pinned)
        for name, value in weights.items():
            if name not in self.pinned:
                known = ", ".join(self.pinned) or "none"
                raise ValueError(
                    f"{name}={value:g} cannot be chosen: {name} is no range of this model; those "
                    f"beside β: {known}"
                )
            view.pinned[name] = self.ranges[name].check(value, extrapolate=extrapolate)
        return view

    def encode(self, x: Tensor, beta: Tensor | float) -> Independent:
        """Return q(z|x) at β.

        Args:
            x: (B, C, H, W) in [0, 1].
            beta: One β, or one per example: (B,). Other weights are where :meth:`pin` put them.

        Returns:
            Batch shape (B,), event shape (Z,).
        """
        values = self._conditions(beta)
        return posterior_of(self.encoder(x, self._embed(values)), values["beta"])

    def decode(self, z: Tensor, beta: Tensor | float) -> Distribution:
        """Return p(x|z) at β, for z (B, Z) and one β or one per example (B,)."""
        values = self._conditions(beta)
        return self.likelihood.at(values)(self.decoder(z, self._embed(values)))

    def elbo_terms(
        self,
        x: Tensor,
        beta: Tensor | float,
        noise: Tensor | None = None,
        **weights: Tensor | float,
    ) -> ELBOTerms:
        """Return D, from one posterior sample per example, and R in closed form.

        Args:
            x: (B, C, H, W).
            beta: One β, one per example: (B,), or k per example: (kB,), the batch k times.
            noise: Standard normal noise of the sample, a row for each result; drawn when None.
            weights: The same of other weights that are ranges; those left out are where
                :meth:`pin` put them.

        Returns:
            The terms, with a row for each example and each of its β's.
        """
        values = self._conditions(beta, weights)
        return self._terms(x, values, self._standardised(values), noise)

    def _terms(
        self, x: Tensor, values: Mapping[str, Tensor], s: Tensor, noise: Tensor | None
    ) -> ELBOTerms:
        """Return the terms at weights and the same as the network sees them, s (B, K)."""
        c = self.embedding(s)
        each = rows_for(x, c)
        # Our own encoders repeat a picture where its β's come in; others are given it repeated.
        parameters = self.encoder(x if isinstance(self.encoder, Chain) else each, c)
        posterior = posterior_of(parameters, values["beta"])
        likelihood = self.likelihood.at(values)
        return elbo_terms_of(each, posterior, lambda z: likelihood(self.decoder(z, c)), noise)

    def forward(self, x: Tensor, beta: Tensor | float) -> Tensor:
        """Return the reconstruction at β: (B, C, H, W)."""
        return self.decode(self.encode(x, beta).mean, beta).mean

    def check_pictures(self, x: Tensor) -> None:
        """Refuse pictures that the model was not made for.

        Args:
            x: (B, C, H, W).

        Raises:
            ValueError: If they have another shape, or values outside the likelihood's support.
        """
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"the data has the shape {tuple(x.shape[1:])}; the model was made for "
                f"{self.shape}: fit a new model or change the data"
            )
        self.likelihood.check(x.min().item(), x.max().item())

    def draw_weights(self, n: int, progress: float = 1.0) -> dict[str, Tensor]:
        """Draw β, and the other weights that are ranges, for a training batch of n examples.

        Args:
            n: Examples in the batch.
            progress: The fraction of the training that is done; in the first ``opening`` of it
                the range of β opens.

        Returns:
            Name → (kn,), the batch k times, k = ``betas_per_example``.
        """
        together = self.draw == "batch" or self.objective.together
        opened = self.beta_range.opened(progress / self.opening if self.opening else 1.0)
        found = {
            name: of.draw(
                1 if together else n,
                self.betas_per_example,
                ends=self.ends,
                tilt=self.tilt if name == "beta" else 1.0,
                device=self.device,
            )
            for name, of in {**self.ranges, "beta": opened}.items()
        }
        if together:
            found = {name: drawn.repeat_interleave(n) for name, drawn in found.items()}
        return found

    def _conditions(
        self, beta: Tensor | float, weights: Mapping[str, Tensor | float] | None = None
    ) -> dict[str, Tensor]:
        """Return the value of each condition: (1,), or a row for each result."""
        parameter = next(self.parameters())

        def as_tensor(value: Tensor | float) -> Tensor:
            value = torch.as_tensor(value, dtype=parameter.dtype, device=parameter.device)
            return value.reshape(-1)

        given = {"beta": beta, **self.pinned, **(weights or {})}
        return {name: as_tensor(value) for name, value in given.items()}

    def _standardised(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the conditions as the network sees them: (B, K)."""
        each = [of.standardise(values[name]) for name, of in self.ranges.items()]
        return torch.stack(torch.broadcast_tensors(*each), dim=-1)

    def _embed(self, values: Mapping[str, Tensor]) -> Tensor:
        return self.embedding(self._standardised(values))

    def _objective(
        self, x: Tensor, values: Mapping[str, Tensor], noise: Tensor | None, **about: Any
    ) -> tuple[ELBOTerms, Tensor, Tensor | None]:
        """Return the terms, the objective, and the loss of the objective's own networks."""
        of_each = values
        if (samples := self.objective.samples) > 1:
            of_each = {
                name: v.expand(max(len(v), len(x))).repeat(samples) for name, v in values.items()
            }
        s = self._standardised(of_each)
        terms = self._terms(x, of_each, s, noise)
        t = Terms(
            terms.distortion_nats,
            terms.rate_per_latent_nats,
            terms.z,
            terms.posterior.mean,
            terms.posterior.stddev,
            s,
            **about,
        )
        own = self.objective.own_loss(t) if torch.is_grad_enabled() else None
        return terms, self.objective(t, self.objective.weights(values)), own

    # Training ----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse data that the likelihood gives no density to, and warn of a σ without optimum."""
        if value_range := getattr(_datamodule(self._trainer), "value_range", None):
            self.likelihood.check(*value_range)
        floor, d = getattr(self.likelihood, "floor", None), math.prod(self.shape)
        if stage == "fit" and floor and self.latent_dim >= d and self.beta_range.low < 1:
            rank_zero_warn(
                f"with {self.latent_dim} latents for {d} values of x and β below 1, no σ is "
                f"optimal: the lower the better, and {type(self.likelihood).__name__} will stay "
                f"at its floor of {floor:g}; use fewer latents, β from 1 up, or a fixed σ"
            )

    def on_fit_start(self) -> None:
        """Fix the seed that each step's randomness derives from."""
        if self.run_seed is None:
            self.run_seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the batch's randomness a function of seed, batch and process.

        A resumed run then draws what the uninterrupted one would have drawn, and each process
        of a distributed run draws its own β's.
        """
        batch_count = self.trainer.fit_loop.epoch_loop.total_batch_idx
        place = batch_count * self.trainer.world_size + self.global_rank
        seed = ((self.run_seed or 0) * 1_000_003 + place) % 2**63
        # Not torch.manual_seed: it calls on every kind of device, a tenth of a small step's time.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            getattr(torch, self.device.type).manual_seed(seed)
        if batch_idx == 0:
            self.check_pictures(images_of(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Draw β's, return the loss, and log D, R and D + βR of the batch."""
        x = images_of(batch)
        progress = self.global_step / self._steps if math.isfinite(self._steps) else 1.0
        values = self.draw_weights(len(x), progress)
        terms, objective, own = self._objective(
            x, values, self._noise(x), draws=self.betas_per_example, progress=progress
        )
        weight = 1 + torch.stack(list(values.values())).sum(0)
        loss = (objective / weight**self.balance).mean()
        if own is not None:
            loss = loss + own.mean()
        loss = loss / x[0].numel()
        if not loss.isfinite():
            worst = values["beta"][~objective.isfinite()]
            beta = (worst if len(worst) else values["beta"])[0].item()
            self._diverged(f"loss is {loss.item():g}", beta)
        if (self.global_step + 1) % getattr(self.trainer, "log_every_n_steps", 50) == 0:
            measured = {
                "train/objective_nats": objective.mean(),
                "train/distortion_nats": terms.distortion_nats.mean(),
                "train/rate_nats": terms.rate_nats.mean(),
            }
            if own is not None:
                measured["train/discriminator_nats"] = own.mean()
            self.log_dict(measured, prog_bar=True)
        return loss

    def _noise(self, x: Tensor) -> Tensor:
        """Draw the noise of a training batch's codes, a row for each of `draw_weights`' β's.

        That of an example's β's comes in opposite pairs, ε and −ε, so that what is linear in it
        leaves the gradient: antithetic sampling.
        """
        times, samples = self.betas_per_example, self.objective.samples
        shape = samples, (times + 1) // 2 * len(x), self.latent_dim
        noise = torch.randn(shape, dtype=x.dtype, device=x.device)
        paired = torch.cat([noise, -noise], dim=1)[:, : times * len(x)]
        return paired.reshape(-1, self.latent_dim)

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
        """Return the posterior means (B, Z) at each β of the grid."""
        x = images_of(batch)
        return {metric.beta: self.encode(x, metric.beta).mean for metric in self.grid}

    def configure_optimizers(self) -> Any:
        """Return Adam with a linear warm-up and a cosine decay to 0, stepped every batch.

        The networks of an objective have a group of their own, at its constant learning rate.
        """
        # Lightning clips no fused optimizer under mixed precision.
        fused = "mixed" not in str(self.trainer.precision)
        self._steps = self.trainer.estimated_stepping_batches
        named = dict(self.named_parameters())
        own = [name for name in named if name.startswith("objective.")]
        groups: list[dict[str, Any]] = [{"params": [p for n, p in named.items() if n not in own]}]
        factors = [_warmup_cosine(self.warmup, self._steps)]
        if own:
            groups.append({"params": [named[name] for name in own], **self.objective.adam})
            factors.append(lambda step: 1.0)
        optimizer = Adam(groups, lr=self.lr, fused=fused)
        schedule = LambdaLR(optimizer, factors)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what resuming and ``multibeta.load`` need beside the weights."""
        data = _datamodule(self._trainer)
        try:
            description = None if data is None else describe(data)
        except TypeError:  # A datamodule of the user's own that cannot be described.
            description = None
        checkpoint["multibeta"] = {
            "format": FORMAT,
            "data": description,
            "run_seed": self.run_seed,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the seed of the interrupted run."""
        self.run_seed = checkpoint["multibeta"]["run_seed"]

    def _measure(self, batch: Any, batch_idx: int, loader: Any) -> None:
        x = images_of(batch)
        samples = self.objective.samples
        noise = evaluation_noise(
            loader, batch_idx, len(x), self.latent_dim, samples if samples > 1 else None
        )
        noise = noise.to(x).reshape(-1, self.latent_dim)
        for metric in self.grid:
            values = self._conditions(metric.beta)
            terms, objective, _ = self._objective(x, values, noise)
            d, r = terms.distortion_nats[: len(x)], terms.rate_nats[: len(x)]
            metric.beside(self.device).update(d, r, objective)

    def _log_measures(self, stage: str) -> None:
        rows = [metric.compute() for metric in self.grid]
        for metric in self.grid:
            metric.reset()
        for row in rows:
            if not math.isfinite(row["objective_nats"]):
                self._diverged(f"{stage} objective is {row['objective_nats']:g}", row["beta"])
            for name in ("objective_nats", "distortion_nats", "rate_nats"):
                # The metrics are in sync already; this tells Lightning so.
                self.log(f"{stage}/{name}@{row['beta']:g}", row[name], sync_dist=True)
        mean = sum(row["objective_nats"] for row in rows) / len(rows)
        self.log(f"{stage}/objective_nats", mean, prog_bar=True, sync_dist=True)

    def _diverged(self, what: str, beta: float) -> None:
        raise FloatingPointError(
            f"{what} at step {self.global_step}, beta={beta:g}; checkpoints stay as they were: "
            "try a lower model.lr or trainer.gradient_clip_val"
        )


def evaluation_noise(
    loader: Any, batch_idx: int, n: int, latent_dim: int, samples: int | None = None
) -> Tensor:
    """Return the posterior noise of an evaluation batch, the same in every evaluation.

    It is a function of the batch's place in the data set alone, so that β's are compared on the
    same noise and a distributed evaluation gives the figures of a single process.

    Args:
        loader: Where the batch came from; its ``global_index`` gives the place of this process's
            batch among all batches.
        batch_idx: The batch's number in this process.
        n: Examples in the batch.
        latent_dim: The number Z of latents.
        samples: The number K of further samples for each example, other than that of None.

    Returns:
        Standard normal noise: (n, Z), or (K, n, Z), float32, on the CPU.
    """
    place = getattr(loader, "global_index", lambda index: index)(batch_idx)
    generator = torch.Generator()
    if samples is None:
        return torch.randn(n, latent_dim, generator=generator.manual_seed(place))
    # Of a seed, a generator on the CPU reads 32 bits.
    return torch.randn(samples, n, latent_dim, generator=generator.manual_seed(place + 2**30))


def _datamodule(trainer: Trainer | None) -> Any:
    return getattr(trainer, "datamodule", None)


def _built(value: Any, base: type) -> Any:
    """Return the object, built first if it is the description a checkpoint holds."""
    return value if isinstance(value, base) else build(value, base)


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
