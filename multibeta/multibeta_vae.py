"""The conditioned VAE: one VAE for every β in a range, in torch alone."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from multibeta.adapters import MeanStd, Posterior, check_form, code_of, q_of
from multibeta.axes import Axes, turn
from multibeta.betas import BetaRange, Draws
from multibeta.conditioning import (
    Call,
    Conditioning,
    Kind,
    Site,
    Source,
    condition,
    conditions_of,
    evaluating,
    fold,
    may_checkpoint,
    places,
    table,
    unwrap,
)
from multibeta.distortions import Distortion
from multibeta.likelihoods import Bernoulli, Gaussian, Likelihood
from multibeta.markup import facts
from multibeta.networks import MLP, Network
from multibeta.objectives import BetaELBO, Objective, Terms
from multibeta.specs import build, describe
from multibeta.vae import BetaVAE, ELBOTerms, Networks, elbo_terms_of

if TYPE_CHECKING:
    from multibeta.curve import Curve

__all__ = ["MultiBetaVAE", "Step", "built", "wrap"]


@dataclass(frozen=True)
class Step:
    """What one training step has computed.

    Args:
        loss: What to call ``backward`` on.
        objective: D + βR, or what stands in its place, of each example and β: (kB,).
        terms: D and R.
        values: β, and other weights that are ranges: name → (kB,).
        own: The loss of the objective's own networks: (kB,), or None.
    """

    loss: Tensor
    objective: Tensor
    terms: ELBOTerms
    values: dict[str, Tensor]
    own: Tensor | None


class MultiBetaVAE(Networks):
    r"""One VAE for every β in a range, made of anybody's encoder and decoder.

    Layers of the encoder and decoder follow an embedding c of log β, and of the logarithm of every
    other weight that is a range; their ``forward`` knows nothing of it::

        β ─ standardised log β ─ c ┄┄┄┄┄┄┄┄┄┬┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┐
        x ──────────────────────── encoder(x) ─ q(z|x) ─ z ── decoder(z) ─ p(x|z)
                                              └ rate R               └ distortion D

    Which layers follow β is found by running the model once; ``print(vae)`` shows it. Before
    training the networks give what they gave, to the last bit, at every β. The modules are changed
    in place; :meth:`unwrap` gives them back, and :meth:`at_beta` copies of them for one β.

    Args:
        encoder: x (B, *shape) → (B, 2Z, …), means and log-variances; a pair of them; a Normal; or
            what ``posterior`` can read. Or one module with ``encode`` and ``decode``.
        decoder: z (B, Z, …) → what the likelihood takes, or a distribution over x.
        betas: The range of β, ``LOW:HIGH``; one number for a dedicated β-VAE.
        likelihood: p(x|z); a Gaussian with σ = √½, whose D is the squared error and a constant,
            by default.
        distortion: A function of x̂ and x that returns D, (B,), in the place of a likelihood.
        objective: What is minimised; D + βR (BetaELBO) by default.
        conditioning: How β enters: ``film``, ``gate`` or ``none``.
        draws: What a training draws, and how it weighs it.
        posterior: What stands beside the means, ``log_variance``, ``log_std``, ``std`` or
            ``curvature`` (:func:`~multibeta.adapters.posterior_of`), or a function of what
            the encoder returns that gives a Normal.
        example: A batch x; without it, the first x that the model sees. An optimiser needs the
            parameters before that.
        inputs: Further inputs of the example, by name: labels, a context, the library size.
        heads: Names of the layers that make the code, where they are not to be found.
        stems: Names of the layers that read it.
        freeze: Train the conditions alone: the networks' own weights stay.
        standard: Mean and standard deviation that x is standardised by; both go with x. D is in
            units of x: it has their Jacobian.
        axes: Examples by which a trained VAE's code is first turned to its principal axes; what
            :meth:`unwrap` gives back then stays turned.

    Raises:
        TypeError: If encoder and decoder are no modules.
        ValueError: If an argument is out of its domain, what the networks return cannot be read,
            or β reaches no layer of one of them.

    References:
        Bae et al. 2023, "Multi-Rate VAE", arXiv 2212.03905; Dosovitskiy & Djolonga 2020, "You
        Only Train Once".

    Example:
        >>> encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> decoder = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 6))
        >>> vae = MultiBetaVAE(encoder, decoder, betas="0.01:10", example=torch.randn(8, 6))
        >>> vae.at_beta(0.1).reconstruct(torch.randn(3, 6)).shape
        torch.Size([3, 6])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module | None = None,
        betas: str | float = "0.01:10",
        *,
        likelihood: Likelihood | None = None,
        distortion: Callable[..., Tensor] | None = None,
        objective: Objective | None = None,
        conditioning: Kind = "film",
        draws: Draws | None = None,
        posterior: Posterior = "log_variance",
        example: Tensor | None = None,
        inputs: Mapping[str, Any] | None = None,
        heads: Sequence[str] = (),
        stems: Sequence[str] = (),
        freeze: bool = False,
        standard: tuple[Tensor, Tensor] | None = None,
        axes: Axes | None = None,
    ) -> None:
        super().__init__(encoder, decoder)
        for part in ("encoder", "decoder"):
            if any(True for _ in conditions_of(self.network(part)[0])):
                raise ValueError(
                    f"the {part} belongs to another model already; give a copy of it, or call "
                    "unwrap() of that model first"
                )
        if likelihood is not None and distortion is not None:
            raise ValueError("likelihood and distortion are both given; D is one of them")
        if distortion is not None:
            likelihood = (
                distortion if isinstance(distortion, Distortion) else Distortion(distortion)
            )
        check_form(posterior)
        self.likelihood = copy.deepcopy(likelihood or Gaussian(math.sqrt(0.5)))
        self.objective = copy.deepcopy(objective or BetaELBO())
        if self.objective.needs_density and not self.likelihood.is_density:
            raise ValueError(
                f"{self.objective.name} weighs samples by p(x|z), and exp(−D) of "
                f"{self.likelihood} is no density; give another likelihood or objective"
            )
        given = BetaRange.parse(betas)
        self.beta_range = given if self.objective.takes_beta else BetaRange(1.0, 1.0)
        others = {**self.objective.ranges, **self.likelihood.ranges}
        self.ranges = {"beta": self.beta_range, **others}
        self.pinned = {name: of.middle for name, of in others.items()}
        self.conditioning = Conditioning(conditioning, len(self.ranges))
        for name, of in self.ranges.items():
            if conditioning == "none" and not of.is_one:
                said = ("β", "betas", "betas=1") if name == "beta" else (name, name, f"{name}=1")
                raise ValueError(
                    f"conditioning=none cannot follow {said[0]} over {said[1]}={of}; give one, "
                    f"such as {said[2]}, or conditioning=film"
                )
        draws = draws or Draws()
        if draws.betas_per_example is None:
            one = all(of.is_one for of in self.ranges.values())
            several = self.objective.together and not one
            draws = replace(draws, betas_per_example=2 if several else 1)
        if draws.opening is None:
            convolves = (nn.modules.conv._ConvNd,)
            decodes = any(isinstance(m, convolves) for m in self.network("decoder")[0].modules())
            draws = replace(draws, opening=0.25 if decodes else 0.0)
        self.draws = draws
        self.posterior = posterior
        self.keep_scale(standard)
        self.embedding = self.conditioning.embedding()
        if freeze:
            for part in ("encoder", "decoder"):
                self.network(part)[0].requires_grad_(False)
        self.frozen = freeze
        self.run_seed: int | None = None
        self.settings = {"betas": str(betas), "conditioning": conditioning}
        self.sites: dict[str, list[Site]] = {}
        self.shares = False
        self._named = {"encoder": tuple(heads), "decoder": tuple(stems)}
        self._source = Source()
        self._hooked: dict[str, bool] = {}
        self._axes = axes if axes is None else replace(axes, examples=axes.batches())
        if self._axes is not None and example is None:
            example = self._axes.batches()[0]
        if example is not None:
            self.place(example, **(inputs or {}))

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        betas: str | float = "0.01:10",
        *,
        network: Network | dict[str, Any] | None = None,
        latent_dim: int = 32,
        likelihood: Likelihood | dict[str, Any] | None = None,
        objective: Objective | dict[str, Any] | None = None,
        conditioning: Kind = "film",
        draws: Draws | dict[str, Any] | None = None,
        standard: tuple[Tensor, Tensor] | None = None,
    ) -> MultiBetaVAE:
        """Return a VAE of one of our own networks, whose posterior's variance follows β by itself.

        Args:
            shape: That of x.
            betas: The range of β.
            network: Encoder and decoder; MLP by default.
            latent_dim: The number Z of latents.
            likelihood: p(x|z); Bernoulli by default.
            objective: As for the class.
            conditioning: As for the class.
            draws: As for the class.
            standard: As for the class.

        Raises:
            ValueError: If an argument is out of its domain.
        """
        if latent_dim < 1:
            raise ValueError(f"latent_dim={latent_dim} is too small; it is at least 1")
        shape = tuple(int(n) for n in shape)
        made: Network = built(network or MLP(), Network)
        p: Likelihood = built(likelihood or Bernoulli(), Likelihood)
        vae = cls(
            made.encoder(shape, latent_dim),
            made.decoder(shape, latent_dim, p.outputs),
            betas,
            likelihood=p,
            objective=built(objective or BetaELBO(), Objective),
            conditioning=conditioning,
            draws=Draws(**draws) if isinstance(draws, dict) else draws,
            posterior="curvature",
            standard=standard,
        )
        vae.settings |= {"network": describe(made), "latent_dim": latent_dim}
        vae.place(torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)))
        if len(shape) == 3:  # Convolutions are faster so (on CPU by a tenth).
            vae.to(memory_format=torch.channels_last)
        return vae

    # Where β enters --------------------------------------------------------------------------

    def place(self, x: Tensor, **inputs: Any) -> None:
        """Find where β enters, by running the model on an example, and let it enter there.

        Args:
            x: (B, *shape).
            inputs: Further inputs.

        Raises:
            ValueError: As the class.
        """
        from multibeta.verify import check

        weight = next(self.parameters_of_networks())
        device = weight.device
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):  # what is compared would be blurred
                return self.place(x, **inputs)
        x, inputs = _examples(x, inputs)
        x = x.to(device)
        self.embedding.to(device, torch.promote_types(weight.dtype, torch.float))
        encoder, encode = self.network("encoder")
        decoder, decode = self.network("decoder")

        def codes(x: Tensor, **given: Any) -> Sequence[Tensor]:
            out = encode(self.standard(x), **given)
            if callable(self.posterior):
                q = q_of(out, self.posterior, torch.ones(1))
                return q.mean, q.stddev
            return code_of(out)

        def outputs(z: Tensor, **given: Any) -> Sequence[Tensor]:
            return _tensors(decode(z, **given))

        of_encoder, of_decoder = (self.named_inputs(p, inputs) for p in ("encoder", "decoder"))
        self._refuse_unknown(inputs, of_encoder, of_decoder)
        with torch.no_grad(), evaluating(self):
            mean = codes(x, **of_encoder)[0]
            out = decode(mean, **of_decoder)
            p = self.likelihood_of(out, self.likelihood.at(self.pinned), inputs)
        _refuse_batch(out, p, x)
        self._refuse_shape(tuple(p.event_shape), tuple(x.shape[1:]))
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(mean.shape, generator=generator).to(mean)
        ids = {
            part: {id(p) for p in self.network(part)[0].parameters()}
            for part in ("encoder", "decoder")
        }
        tied = ids["encoder"] & ids["decoder"] if encoder is not decoder else set()
        shared = {id(p) for m in set(encoder.modules()) & set(decoder.modules())
                  for p in m.parameters(recurse=False)}  # fmt: skip
        self.sites = {
            "encoder": places(
                encoder, "encoder", codes, x, self.conditioning, of_encoder,
                self._named["encoder"], tied - shared,
            ),
            "decoder": places(
                decoder, "decoder", outputs, z, self.conditioning, of_decoder,
                self._named["decoder"], tied - shared,
            ),
        }  # fmt: skip
        if self._axes is not None:
            if inputs:
                raise ValueError("axes take no further inputs; leave axes or inputs out")
            turn(self, self._axes)
            self._axes = None
        self._settle(tuple(x.shape[1:]), tuple(mean.shape[1:]))
        if self.settings.get("network"):
            self.shares = True
        elif self.conditioning.kind != "none":
            try:
                check(self, x, inputs)
            except Exception:
                self.unwrap()
                self.latent_shape = ()
                raise

    def _settle(self, shape: tuple[int, ...], latent_shape: tuple[int, ...]) -> None:
        """Put the conditions where the sites say."""
        self.shape, self.latent_shape = shape, latent_shape
        for part, sites in self.sites.items():
            root = self.network(part)[0]
            condition(root, sites, self.conditioning, self._source)
            self._hooked[part] = may_checkpoint(root)
        self.objective.build(math.prod(latent_shape), len(self.ranges))

    def restore(self, placed: Mapping[str, Any]) -> None:
        """Let β enter where it did in a model that was saved; see :meth:`placed`.

        Raises:
            ValueError: If a layer is not there.
        """
        self.sites = {p: [Site(**site) for site in placed["sites"][p]] for p in placed["sites"]}
        self.shares = placed["shares"]
        self._settle(tuple(placed["shape"]), tuple(placed["latent_shape"]))

    def placed(self) -> dict[str, Any]:
        """Return where β enters as plain values."""
        return {
            "sites": {part: [asdict(site) for site in of] for part, of in self.sites.items()},
            "shares": self.shares,
            "shape": list(self.shape),
            "latent_shape": list(self.latent_shape),
        }

    def parameters_of_networks(self) -> Any:
        """Yield the parameters of encoder and decoder."""
        for part in ("encoder", "decoder"):
            yield from self.network(part)[0].parameters()

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
        """Yield the parameters.

        Raises:
            ValueError: If it is not yet known where β enters.
        """
        if not self.latent_shape:
            raise ValueError(
                "where β enters is found by running the model once, and its parameters are not "
                "there yet: give wrap(…, example=x), or call vae.loss(x) before the optimiser"
            )
        return super().named_parameters(*args, **kwargs)

    def summary(self) -> str:
        """Return a table: layer, its place, what is done to it and, where nothing is, why."""
        if not self.sites:
            return f"β in {self.beta_range}; where it enters is found at the first example"
        shown = self.sites
        if "autoencoder" in self._modules:  # each part has called some of its layers
            shown = {
                part: [site for site in of if "did not call it" not in site.why]
                for part, of in shown.items()
            }
        parts = [f"{part}\n{table(sites)}" for part, sites in shown.items()]
        norms = [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms and self.conditioning.kind != "none":
            parts.append("BatchNorm: all β's share its running statistics")
        head = f"β in {self.beta_range}, x {self.shape}, z {self.latent_shape}"
        return "\n\n".join([head, *parts])

    def __repr__(self) -> str:
        """Show the summary."""
        return f"{type(self).__name__}\n{self.summary()}"

    def facts(self) -> dict[str, str]:
        """Return what it is: name → text."""
        ranges = {"β" if name == "beta" else name: str(of) for name, of in self.ranges.items()}
        found = self.latent_shape != ()
        parameters = f"{sum(p.numel() for p in self.parameters()):,}" if found else "not known yet"
        return {
            **ranges,
            "x": str(self.shape or "not known yet"),
            "latents": str(self.latent_shape or "not known yet"),
            "parameters": parameters,
            "likelihood": str(self.likelihood),
            "objective": f"{self.objective.name}: {self.objective.formula}",
        }

    def _repr_html_(self) -> str:
        return facts("MultiBetaVAE: one VAE for a range of β", self.facts(), self.summary())

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        *,
        revision: str | None = None,
        **options: Any,
    ) -> MultiBetaVAE:
        """Read a model from a folder of :meth:`save_pretrained`, or from the Hugging Face Hub.

        Args:
            source: The folder, or ``owner/name``.
            encoder: As in :func:`multibeta.load`.
            decoder: As in :func:`multibeta.load`.
            revision: A branch, tag or commit of the repository.
            options: As in :func:`multibeta.load`.
        """
        from multibeta.checkpoints import load
        from multibeta.pretrained import weights_of

        return load(weights_of(source, revision), encoder, decoder, **options)

    def unwrap(self) -> tuple[nn.Module, nn.Module] | nn.Module:
        """Take the conditions off, in place, and return the modules that were given.

        Before training they are what they were; after it they have the weights of now.
        """
        for part in ("encoder", "decoder"):
            unwrap(self.network(part)[0])
        if self.frozen:
            for parameter in self.parameters_of_networks():
                parameter.requires_grad_(True)
        self.sites = {}
        if "autoencoder" in self._modules:
            return self.autoencoder
        return self.encoder, self.decoder

    # Using the model ---------------------------------------------------------------------------

    @property
    def latent_dim(self) -> int:
        """The number of latents: channels, where z is a map or a sequence."""
        return self.latent_shape[0]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.parameters_of_networks()).device

    def at_beta(self, beta: float, *, extrapolate: bool = False) -> BetaVAE:
        """Return the plain VAE at one β, with the conditioning folded into the weights.

        Its encoder and decoder are copies of the modules that were given, of their own classes and
        with their own state dict's keys. (Our own encoders end in (mean, std).)

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
        self._placed()
        with torch.no_grad():
            c = self.embedding(self._standardised(self.conditions(beta)))
        if "autoencoder" in self._modules:
            pair: tuple[Any, Any] = (fold(self.autoencoder, c), None)
        else:
            folded: Any = fold(nn.ModuleList([self.encoder, self.decoder]), c)
            pair = (folded[0], folded[1])
        posterior, unit = self.posterior, self.beta_range.unit
        if self.settings.get("network") and posterior == "curvature":
            pair[0].append(MeanStd(beta / unit))
            posterior = "std"
        standard: Any = None if self.scale is None else (self.shift, self.scale)
        vae = BetaVAE(
            *pair, copy.deepcopy(self.likelihood.at(self.pinned)), self.latent_shape, beta,
            posterior, unit, copy.deepcopy(standard), self.shape,
        )  # fmt: skip
        vae.units, vae.settings = self.units, self.settings
        objective = type(self.objective)
        vae.about = {
            **self.about,
            "objective": f"{objective.__module__}.{objective.__qualname__}",
            "conditioning": self.conditioning.kind,
        }
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
            >>> model = MultiBetaVAE.of((1, 8, 8), likelihood=Gaussian("0.1:1"))
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

    def encode(self, x: Tensor, beta: Tensor | float, **inputs: Any) -> Independent:
        """Return q(z|x) at β.

        Args:
            x: (B, *shape).
            beta: One β, or one per example: (B,); or k per example: (kB,), the batch k times.
            inputs: Further inputs of the encoder.

        Returns:
            Batch shape (B,) or (kB,), event shape that of z.
        """
        self._placed(x, inputs)
        x = self.fitting(x)
        values = self.conditions(beta)
        return self._q(x, values, self._call(self._standardised(values)), inputs)

    def decode(self, z: Tensor, beta: Tensor | float, **inputs: Any) -> Distribution:
        """Return p(x|z) at β, for z (B, *latent shape) and one β or one per example (B,)."""
        self._placed()
        values = self.conditions(beta)
        return self._p(z, values, self._call(self._standardised(values)), inputs)

    def terms(self, x: Tensor, beta: Tensor | float | None = None, **inputs: Any) -> ELBOTerms:
        """Return D and R of each example, at β, or at β's that are drawn as in training."""
        self._placed(x, inputs)
        if beta is None:
            return self.step(x, **inputs).terms
        return self.elbo_terms(x, beta, inputs=inputs)

    def elbo_terms(
        self,
        x: Tensor,
        beta: Tensor | float,
        noise: Tensor | None = None,
        inputs: Mapping[str, Any] | None = None,
        **weights: Tensor | float,
    ) -> ELBOTerms:
        """Return D, from one posterior sample per example, and R in closed form.

        Args:
            x: (B, *shape).
            beta: One β, one per example: (B,), or k per example: (kB,), the batch k times.
            noise: Standard normal noise of the sample, a row for each result; drawn when None.
            inputs: Further inputs of encoder, decoder and likelihood, by name.
            weights: The same of other weights that are ranges; those left out are where
                :meth:`pin` put them.

        Returns:
            The terms, with a row for each example and each of its β's.
        """
        self._placed(x, dict(inputs or {}))
        x = self.fitting(x)
        values = self.conditions(beta, weights)
        return self._terms(x, values, self._standardised(values), noise, dict(inputs or {}))

    def reconstruct(self, x: Tensor, beta: Tensor | float, **inputs: Any) -> Tensor:
        """Return the mean of p(x|z) at the mean of q(z|x), at β: (B, *shape)."""
        return self.decode(self.encode(x, beta, **inputs).mean, beta, **inputs).mean

    def sweep(self, data: Any, betas: Any = None, **options: Any) -> Curve:
        """Measure the rate-distortion curve; see :func:`multibeta.sweep`."""
        from multibeta.evaluation import sweep

        return sweep(self, data, betas, **options)

    def fit(self, train: Any, val: Any = None, **options: Any) -> Any:
        """Train by Lightning; see :func:`multibeta.fitting.fit`."""
        from multibeta.fitting import fit

        return fit(self, train, val, **options)

    # Training ----------------------------------------------------------------------------------

    def forward(self, x: Tensor, progress: float = 1.0, **inputs: Any) -> Tensor:
        """Return the loss: wrappers that hook ``forward`` (DDP, FSDP, Accelerate) so train it."""
        return self.loss(x, progress, **inputs)

    def loss(self, x: Tensor, progress: float = 1.0, **inputs: Any) -> Tensor:
        """Draw β's for a batch and return what to minimise, a scalar.

        Args:
            x: (B, *shape).
            progress: The part of the training that is done, 0 to 1.
            inputs: Further inputs of encoder, decoder, likelihood or distortion, by name.
        """
        return self.step(x, progress, **inputs).loss

    def step(
        self, x: Tensor, progress: float = 1.0, part: tuple[int, int] = (0, 1), **inputs: Any
    ) -> Step:
        """Return the loss with what it was made from; see :meth:`loss`.

        Args:
            x: (B, *shape).
            progress: The part of the training that is done, 0 to 1.
            part: Which of how many equal parts of a batch x is. Processes that draw from the same
                seed so draw what one process would, for the whole batch.
            inputs: Further inputs, by name.
        """
        self._placed(x, inputs)
        x = self.fitting(x)
        samples, dtype, n = self.objective.samples, self._dtype, len(x)
        drawn = self.draws.draw(
            self.ranges, n * part[1], progress, self.objective.together, x.device
        )
        values = {name: _part_of(value, n, part).to(dtype) for name, value in drawn.items()}
        of_all = self.draws.noise(x, self.latent_shape, samples, parts=part[1])
        noise = _part_of(of_all, n, part)
        each = math.gcd(n, self.draws.shared(n * part[1], self.objective.together))
        terms, objective, own = self.objective_of(
            x, values, noise, inputs, each, draws=self.draws.times, progress=progress
        )
        loss = self.draws.weigh(objective, values, self.beta_range.unit).mean()
        if own is not None:
            loss = loss + own.mean()
        return Step(loss / x[0].numel(), objective, terms, values, own)

    def objective_of(
        self,
        x: Tensor,
        values: Mapping[str, Tensor],
        noise: Tensor | None,
        inputs: Mapping[str, Any] | None = None,
        each: int = 1,
        **about: Any,
    ) -> tuple[ELBOTerms, Tensor, Tensor | None]:
        """Return the terms, the objective, and the loss of the objective's own networks.

        Args:
            x: (B, *shape).
            values: β and the other weights that are ranges: name → (1,), (B,) or (kB,).
            noise: As in :meth:`elbo_terms`, the objective's samples one after the other.
            inputs: Further inputs by name.
            each: How many neighbours in x are known to share their weights.
            about: ``draws`` and ``progress`` of :class:`~multibeta.objectives.Terms`.
        """
        of_each = dict(values)
        if (samples := self.objective.samples) > 1:
            of_each = {
                name: v.expand(max(len(v), len(x))).repeat(samples) for name, v in values.items()
            }
        s = self._standardised(of_each)
        terms = self._terms(x, of_each, s, noise, dict(inputs or {}), each)
        t = Terms(
            terms.distortion,
            terms.rate_per_latent_nats.flatten(1),
            terms.z.flatten(1),
            terms.posterior.mean.flatten(1),
            terms.posterior.stddev.flatten(1),
            s,
            **about,
        )
        own = self.objective.own_loss(t) if torch.is_grad_enabled() else None
        return terms, self.objective(t, self.objective.weights(values)), own

    # Inside ------------------------------------------------------------------------------------

    @property
    def _dtype(self) -> torch.dtype:
        weight = next(self.embedding.parameters(), next(self.parameters_of_networks()))
        return torch.promote_types(weight.dtype, torch.float32)  # β is no matter of three digits

    def _placed(self, x: Tensor | None = None, inputs: dict[str, Any] | None = None) -> None:
        if self.latent_shape:
            return
        if x is None:
            raise ValueError(
                "where β enters is found by running the model once; give wrap(…, example=x), or "
                "call vae.loss(x) first"
            )
        self.place(x, **(inputs or {}))
        self.check(x)

    def conditions(
        self, beta: Tensor | float, weights: Mapping[str, Tensor | float] | None = None
    ) -> dict[str, Tensor]:
        """Return the value of each condition: name → (1,), or a row for each result."""
        dtype, device = self._dtype, self.device

        def as_tensor(value: Tensor | float) -> Tensor:
            return torch.as_tensor(value, dtype=dtype, device=device).reshape(-1)

        given = {"beta": beta, **self.pinned, **(weights or {})}
        return {name: as_tensor(value) for name, value in given.items()}

    def _standardised(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the conditions as the network sees them: (M, K)."""
        each = [of.standardise(values[name]) for name, of in self.ranges.items()]
        return torch.stack(torch.broadcast_tensors(*each), dim=-1)

    def _call(self, s: Tensor, each: int = 1) -> Call:
        s = s[::each]
        return Call(self.embedding(s), lambda: self.embedding(s), each=each)

    def _run(self, part: str, call: Call, x: Tensor, inputs: Mapping[str, Any]) -> Any:
        _, network = self.network(part)
        hooked = self._hooked.get(part, True)
        return self._source.run(call, network, hooked, x, **self.named_inputs(part, dict(inputs)))

    def _q(
        self, x: Tensor, values: Mapping[str, Tensor], call: Call, inputs: Mapping[str, Any]
    ) -> Independent:
        """Return q(z|x), a row for each of c where there are several for each example."""
        m, n = call.c.shape[0] * call.each, x.shape[0]  # len() would make export think of one size
        times = _times(m, n)
        if times > 1 and self.shares:
            call = replace(call, times=times)
        else:
            x, inputs = _repeated(x, times), _repeated_inputs(inputs, n, times)
        out = self._run("encoder", call, self.cast("encoder", self.standard(x)), inputs)
        if self.shares and self.conditioning.kind == "none":  # nothing in it makes a row for each
            out = _repeated(out, times)
        return q_of(out, self.posterior, values["beta"] / self.beta_range.unit)

    def _p(
        self, z: Tensor, values: Mapping[str, Tensor], call: Call, inputs: Mapping[str, Any]
    ) -> Distribution:
        out = self._run("decoder", call, self.cast("decoder", z), inputs)
        return self.likelihood_of(out, self.likelihood.at(values), dict(inputs))

    def _terms(
        self,
        x: Tensor,
        values: Mapping[str, Tensor],
        s: Tensor,
        noise: Tensor | None,
        inputs: dict[str, Any],
        each: int = 1,
    ) -> ELBOTerms:
        """Return the terms at weights and the same as the network sees them, s (M, K).

        Of s, as many neighbours as ``each`` says are the same.
        """
        self._refuse_unknown(
            inputs, *(self.named_inputs(part, inputs) for part in ("encoder", "decoder"))
        )
        call = self._call(s, each)
        posterior = self._q(x, values, call, inputs)
        times = _times(s.shape[0], x.shape[0])
        rows, of_each = _repeated(x, times), _repeated_inputs(inputs, x.shape[0], times)
        return elbo_terms_of(rows, posterior, lambda z: self._p(z, values, call, of_each), noise)

    def _refuse_shape(self, made: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        """Refuse a decoder whose result would be broadcast to x; a distortion may want another."""
        if made == wanted:
            return
        kinds, kind = self.likelihood.outputs, type(self.likelihood).__name__
        if isinstance(self.likelihood, Distortion):
            warnings.warn(
                f"the decoder makes {made} for x of shape {wanted}; {self.likelihood.name} is "
                "given both as they are",
                stacklevel=3,
            )
            return
        several = f" ({kinds} entries along dimension 1 for each of x)" if kinds > 1 else ""
        raise ValueError(
            f"the decoder makes {kind} of shape {made} for x of shape {wanted}{several}; give a "
            "decoder that makes the shape of x"
        )

    def _refuse_unknown(self, inputs: Mapping[str, Any], *taken: Mapping[str, Any]) -> None:
        if not inputs:
            return
        from multibeta.adapters import taken_by

        known = set().union(*taken, taken_by(self.likelihood, inputs))
        if unknown := [name for name in inputs if name not in known]:
            raise ValueError(
                f"nothing takes the input {unknown[0]}: it is no argument of the encoder's, the "
                "decoder's, the likelihood's or the distortion's forward"
            )


def _part_of(rows: Tensor, n: int, part: tuple[int, int]) -> Tensor:
    """Return what belongs to a part of n examples of a batch that comes k times: (kn, …)."""
    index, parts = part
    if parts == 1:
        return rows
    return rows.unflatten(0, (-1, parts, n))[:, index].flatten(0, 1)


wrap = MultiBetaVAE
"""Let β be done to a VAE, whoever wrote it."""


def built(value: Any, base: type) -> Any:
    """Return the object, built first if it is the description that a checkpoint holds."""
    return value if isinstance(value, base) else build(value, base)


def _times(m: int, n: int) -> int:
    """Return how many β's each example has.

    Raises:
        ValueError: If there are neither one nor a multiple of the examples.
    """
    if m == 1 or m == n:
        return 1
    if m % n:
        raise ValueError(
            f"{m} β's do not go with {n} examples; give one, one an example, or a multiple of that"
        )
    return m // n


def _repeated(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else x.repeat(times, *(1,) * (x.ndim - 1))


def _repeated_inputs(inputs: Mapping[str, Any], n: int, times: int) -> dict[str, Any]:
    """Return further inputs with their rows, where they have one an example, so many times."""
    return {
        name: _repeated(value, times)
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == n
        else value
        for name, value in inputs.items()
    }


def _refuse_batch(out: Any, p: Distribution, x: Tensor) -> None:
    """Refuse a decoder's result, read as p, that is not one of each example of x."""
    if not isinstance(out, Distribution):
        if p.batch_shape != x.shape[:1]:
            raise ValueError(
                f"the decoder makes {p.batch_shape.numel()} of {len(x)} examples; it must make "
                "one of each code"
            )
    elif (p.batch_shape, p.event_shape) != (x.shape[:1], x.shape[1:]):
        kind = type(out.base_dist if isinstance(out, Independent) else out).__name__
        raise ValueError(
            f"the decoder makes a {kind} of batch shape {tuple(out.batch_shape)} and event shape "
            f"{tuple(out.event_shape)} for {len(x)} examples, x of shape {tuple(x.shape)}; the "
            "batch shape must begin with their number, and both together be the shape of x"
        )


def _examples(x: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return three different examples."""
    n = len(x)
    rows = [i % n for i in range(3)]
    inputs = {
        name: value[rows]
        if isinstance(value, Tensor) and value.ndim and len(value) == n
        else value
        for name, value in inputs.items()
    }
    chosen = x.detach()[rows]
    if any(torch.equal(chosen[i], chosen[j]) for i, j in ((0, 1), (0, 2), (1, 2))):
        if not x.is_floating_point():
            raise ValueError("the example has equal rows; give three different ones")
        noise = torch.rand(chosen.shape, generator=torch.Generator().manual_seed(0))
        chosen = chosen + 0.1 * noise.to(chosen)
    return chosen, inputs


def _tensors(out: Any) -> list[Tensor]:
    """Return the tensors that a decoder's result is made of."""
    if isinstance(out, Independent):
        return _tensors(out.base_dist)
    if isinstance(out, Distribution):
        return [v for v in vars(out).values() if isinstance(v, Tensor)]
    if isinstance(getattr(out, "sample", None), Tensor):
        return [out.sample]
    if isinstance(out, tuple | list):
        return [v for v in out if isinstance(v, Tensor)]
    return [out] if isinstance(out, Tensor) else []
