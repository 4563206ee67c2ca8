"""A VAE at one β: an ordinary module, and the terms of its objective."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from multibeta.adapters import (
    Posterior,
    accepted,
    further_arguments,
    output_tensor,
    p_of,
    q_of,
    taken_by,
)
from multibeta.conditioning import copied
from multibeta.data.examples import LABELS, Examples, on, read
from multibeta.data.units import Units
from multibeta.densities import normal
from multibeta.divergences import kl_standard_normal
from multibeta.likelihoods import Likelihood
from multibeta.markup import facts

__all__ = ["BetaVAE", "ELBOTerms", "Networks", "Standardised", "elbo_terms_of"]


@dataclass(frozen=True)
class ELBOTerms:
    """The terms of the objective for a batch.

    Args:
        distortion: D, one posterior sample per example: (B,), in nats, or in the units of a
            distortion function.
        rate_per_latent_nats: KL(q(z_j|x) ‖ p(z_j)) in closed form: (B, Z, …).
        posterior: q(z|x), that they were computed from.
        z: The sample of it: (B, Z, …).
    """

    distortion: Tensor
    rate_per_latent_nats: Tensor
    posterior: Independent
    z: Tensor

    @property
    def rate_nats(self) -> Tensor:
        """R = KL(q(z|x) ‖ p(z)) of shape (B,), summed over the latents."""
        return self.rate_per_latent_nats.flatten(1).sum(-1)


class Networks(nn.Module):
    """An encoder and a decoder, or one module that has both as ``encode`` and ``decode``.

    Args:
        encoder: The encoder, or the one module.
        decoder: The decoder; None for one module.

    Raises:
        TypeError: If they are no modules, or the one module lacks a method.
    """

    shift: Tensor | None
    scale: Tensor | None
    likelihood: Likelihood
    latent_shape: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    """That of x; empty where it is not known yet."""
    units: Units | None = None
    """Those of the training data, where they are known."""
    _says = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}  # what makes the networks, where it is known
        self.about: dict[str, Any] = {}  # the run that it is from, where it is known
        for name, module in {"encoder": encoder, "decoder": decoder or encoder}.items():
            if not isinstance(module, nn.Module):
                raise TypeError(f"the {name} is a {type(module).__name__}; give a torch nn.Module")
        if decoder is not None:
            self.encoder, self.decoder = encoder, decoder
            return
        if lacks := [name for name in ("encode", "decode") if not hasattr(encoder, name)]:
            raise TypeError(
                f"{type(encoder).__name__} has no method {lacks[0]}; give encoder and decoder as "
                "two modules, or one with encode(x) and decode(z)"
            )
        self.autoencoder = encoder

    def __getattr__(self, name: str) -> Any:
        """Return what this module has not, from the one module that it was made from."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            one = self.__dict__["_modules"].get("autoencoder")
            if one is None or name.startswith("__"):
                raise
            return getattr(one, name)

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> Any:
        """Write a folder for the Hugging Face Hub: weights, settings and a model card.

        A plain VAE of one module that has a ``save_pretrained`` itself, as those of diffusers
        have, is saved by that, for its own library.

        Args:
            folder: Where to.
            options: See :func:`multibeta.pretrained.save_pretrained`.

        Returns:
            The files.
        """
        if (own := self._own("save_pretrained")) is not None:
            return own(folder, **options)
        from multibeta.pretrained import save_pretrained

        return save_pretrained(cast(Any, self), folder, **options)

    def push_to_hub(self, repo: str, **options: Any) -> Any:
        """Put the model on the Hugging Face Hub, as :meth:`save_pretrained` writes it.

        Args:
            repo: ``owner/name``; made if there is none.
            options: See :func:`multibeta.pretrained.push_to_hub`.

        Returns:
            The repository's address.
        """
        if (own := self._own("push_to_hub")) is not None:
            return own(repo, **options)
        from multibeta.pretrained import push_to_hub

        return push_to_hub(cast(Any, self), repo, **options)

    def _own(self, name: str) -> Callable[..., Any] | None:
        """Return the method of the one module that goes before ours; None if there is none."""
        return None

    def network(self, part: str) -> tuple[nn.Module, Callable[..., Any]]:
        """Return the module of the encoder or decoder, and what to call."""
        if "autoencoder" in self._modules:
            return self.autoencoder, getattr(self.autoencoder, part.removesuffix("r"))
        module = cast(nn.Module, self._modules[part])
        return module, module

    def named_inputs(self, part: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return those of further inputs that the encoder or decoder takes."""
        _, call = self.network(part)
        return accepted(getattr(call, "forward", call), inputs)

    @property
    def further_arguments(self) -> tuple[str, ...]:
        """What encoder and decoder take by name beside x and z."""
        calls = [self.network(part)[1] for part in ("encoder", "decoder")]
        names = [further_arguments(getattr(call, "forward", call)) for call in calls]
        return tuple({**names[0], **names[1]})

    def read(self, batch: Any, careful: bool = False) -> Examples:
        """Return the examples of a batch, as the model takes them, and its further inputs.

        Args:
            batch: See :func:`multibeta.data.examples.read`.
            careful: Whether to look at the numbers, too: once for each set.

        Raises:
            ValueError: If there are none that the model takes; with ``careful`` also if they have
                another shape, NaN, values without a density, or other units than in training.
        """
        x, inputs = read(batch, self.shape or None, counts=self.likelihood.whole, careful=careful)
        if careful:
            self.check(x)
        return Examples(x.to(self.x_dtype), self._taken(inputs) if inputs else inputs)

    def _taken(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the further inputs that something takes; say which others there are, once."""
        known = {
            **self.named_inputs("encoder", inputs),
            **self.named_inputs("decoder", inputs),
            **taken_by(self.likelihood, inputs),
        }
        unusual = [k for k in inputs if k not in (*known, *LABELS) and not k.startswith("__")]
        if unusual and self._says:
            self._says = False
            warnings.warn(
                f"nothing takes {', '.join(unusual)} of a batch: no argument of the encoder's, "
                "the decoder's or the likelihood's forward has that name",
                stacklevel=4,
            )
        return {name: value for name, value in inputs.items() if name in known}

    def look(self, batches: Iterable[Any], name: str) -> None:
        """Look at the first batch of a set, so that what is wrong is found before it is needed.

        Args:
            batches: The set.
            name: What it is called, for the error.

        Raises:
            ValueError: If the model does not take it.
        """
        for batch in batches:
            try:
                self.read(batch, careful=True)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            return

    def check(self, x: Tensor) -> None:
        """Refuse data that the model was not made for.

        Args:
            x: (B, *shape).

        Raises:
            ValueError: If it has another shape, NaN, values outside the likelihood's support, or
                other units than in training.
        """
        if self.shape and tuple(x.shape[1:]) != self.shape:
            one = tuple(x.shape) == self.shape
            cure = "give a batch (B, …)" if one else "fit a new model or change the data"
            raise ValueError(
                f"the data has the shape {tuple(x.shape[1:])}; the model was made for "
                f"{self.shape}: {cure}"
            )
        wrong = ~x.flatten(1).isfinite().all(1)
        if wrong.any():
            raise ValueError(
                f"x holds NaN or infinity in {int(wrong.sum())} of the {len(x)} examples of a "
                f"batch, the first at {int(wrong.int().argmax())}; leave them out"
            )
        self.likelihood.check(x)
        if self.units is not None:
            self.units.check(x)

    def fitting(self, x: Tensor) -> Tensor:
        """Return x as the networks take it: 8-bit intensities from 0 to 1, floats in their type.

        Args:
            x: (B, *shape); where the code is a map, its height, width or length are free.

        Raises:
            ValueError: If it has another shape, which a network that flattens would not notice.
        """
        free = len(self.latent_shape) > 1 and x.shape[1:2] == self.shape[:1]
        if (
            self.shape
            and tuple(x.shape[1:]) != self.shape
            and not (free and x.ndim - 1 == len(self.shape))
        ):
            raise ValueError(
                f"x has the shape {tuple(x.shape)}; (B, {', '.join(map(str, self.shape))}) is "
                "wanted"
            )
        if x.dtype == torch.uint8 and not self.likelihood.whole:
            return x.to(self.x_dtype).div_(255)
        return x.to(self.x_dtype) if x.is_floating_point() else x

    @property
    def x_dtype(self) -> torch.dtype:
        """The floating point type of x: that of the networks, but no less than float32."""
        return torch.promote_types(self._dtype_of("encoder"), torch.float32)

    def _dtype_of(self, part: str) -> torch.dtype:
        """The floating point type of the encoder or decoder."""
        floats = (p.dtype for p in self.network(part)[0].parameters() if p.is_floating_point())
        return next(floats, torch.get_default_dtype())

    def cast(self, part: str, value: Tensor) -> Tensor:
        """Return what enters the encoder or decoder in its floating point type."""
        dtype = self._dtype_of(part)
        return value.to(dtype) if value.is_floating_point() else value

    def keep_scale(self, given: tuple[Tensor, Tensor] | None) -> None:
        """Keep the mean and standard deviation that x is standardised by, if it is."""
        self.register_buffer("shift", None if given is None else given[0])
        self.register_buffer("scale", None if given is None else given[1])

    def standard(self, x: Tensor) -> Tensor:
        """Return x as the encoder sees it."""
        return x if self.scale is None else (x - cast(Tensor, self.shift)) / self.scale

    def likelihood_of(
        self, out: Any, likelihood: Likelihood, inputs: dict[str, Any]
    ) -> Distribution:
        """Return p(x|z) in units of x, for what the decoder returned."""
        if self.scale is None:
            return p_of(out, likelihood, inputs)
        if not likelihood.unit:  # D is in units of its own
            return p_of(
                output_tensor(out) * self.scale + cast(Tensor, self.shift), likelihood, inputs
            )
        return _Rescaled(p_of(out, likelihood, inputs), cast(Tensor, self.shift), self.scale)


class BetaVAE(Networks):
    """A VAE at one β: an ordinary module, made by :meth:`MultiBetaVAE.at_beta`.

    What it has not itself it looks for in the one module that it was made from, if there is one:
    ``vae.at_beta(b).save_pretrained(folder)`` is that of a diffusers autoencoder.

    Args:
        encoder: x (B, *shape) → what ``posterior`` reads; or one module with both methods.
        decoder: z (B, *latent shape) → what the likelihood takes.
        likelihood: Turns the decoder's output into p(x|z).
        latent_shape: That of z.
        beta: The β that the networks are made for.
        posterior: How the encoder's output is read: see :func:`~multibeta.adapters.q_of`.
        unit: What β is divided by in the posterior's form ``curvature``.
        standard: Mean and standard deviation that x is standardised by, if it is.
        shape: That of x; empty where it is free.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module | None,
        likelihood: Likelihood,
        latent_shape: tuple[int, ...],
        beta: float,
        posterior: Posterior = "log_variance",
        unit: float = 1.0,
        standard: tuple[Tensor, Tensor] | None = None,
        shape: tuple[int, ...] = (),
    ) -> None:
        super().__init__(encoder, decoder)
        self.likelihood, self.shape = likelihood, tuple(shape)
        self.latent_shape = tuple(latent_shape)
        self.beta, self.posterior, self.unit = beta, posterior, unit
        self.keep_scale(standard)

    @property
    def latent_dim(self) -> int:
        """The number of latents: channels, where z is a map or a sequence."""
        return self.latent_shape[0]

    def encode(self, x: Tensor, **inputs: Any) -> Independent:
        """Return q(z|x): batch shape (B,), event shape that of z, for x (B, *shape)."""
        x = self.fitting(x)
        _, call = self.network("encoder")
        x_in = self.cast("encoder", self.standard(x))
        out = call(x_in, **self.named_inputs("encoder", inputs))
        return q_of(out, self.posterior, x.new_tensor([self.beta / self.unit], dtype=torch.float))

    def decode(self, z: Tensor, **inputs: Any) -> Distribution:
        """Return p(x|z): batch shape (B,), event shape that of x, for z (B, *latent shape)."""
        return self.likelihood_of(self.output(z, **inputs), self.likelihood, inputs)

    def output(self, z: Tensor, **inputs: Any) -> Any:
        """Return what the decoder gives for z (B, *latent shape), before it is read as p(x|z)."""
        _, call = self.network("decoder")
        return call(self.cast("decoder", z), **self.named_inputs("decoder", inputs))

    def elbo_terms(self, x: Tensor, noise: Tensor | None = None, **inputs: Any) -> ELBOTerms:
        """Return D, from one posterior sample per example, and R in closed form.

        Args:
            x: (B, *shape).
            noise: Standard normal noise of the sample: (B, *latent shape); drawn when None.
            inputs: Further inputs of encoder, decoder and likelihood.
        """
        x = self.fitting(x)
        return elbo_terms_of(
            x, self.encode(x, **inputs), lambda z: self.decode(z, **inputs), noise
        )

    def forward(self, x: Tensor, **inputs: Any) -> Tensor:
        """Return the reconstruction; see :meth:`reconstruct`."""
        return self.reconstruct(x, **inputs)

    def reconstruct(self, x: Tensor, **inputs: Any) -> Tensor:
        """Return the mean of p(x|z) at the mean of q(z|x): (B, *shape)."""
        return self.decode(self.encode(x, **inputs).mean, **inputs).mean

    def sample(self, n: int, prior: Distribution | None = None, **inputs: Any) -> Tensor:
        """Return n examples: means of p(x|z) for z drawn from the prior.

        Args:
            n: How many.
            prior: A distribution over z with ``sample((n,))`` → (n, …); N(0, I) by default.
            inputs: Further inputs of the decoder, n rows each.

        Returns:
            (n, *shape).
        """
        device = next(self.parameters()).device
        if prior is None:
            z = torch.randn(n, *self.latent_shape, device=device)
        else:
            z = prior.sample((n,)).to(device).reshape(n, *self.latent_shape)
        return self.decode(z, **inputs).mean

    def interpolate(self, x0: Tensor, x1: Tensor, steps: int = 9, **inputs: Any) -> Tensor:
        """Return examples on the straight line between two posterior means.

        Args:
            x0: (B, *shape).
            x1: (B, *shape).
            steps: Examples on the line, both ends included.
            inputs: Further inputs, B rows each, of both ends and all between them.

        Returns:
            (B, steps, *shape).
        """
        z0, z1 = self.encode(x0, **inputs).mean, self.encode(x1, **inputs).mean
        t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device)
        t = t.view(-1, *(1,) * (z0.ndim - 1))
        return self._decode_paths(z0[:, None] + t * (z1 - z0)[:, None], inputs)

    def traverse(
        self, x: Tensor, dim: int, span: float = 3.0, steps: int = 9, **inputs: Any
    ) -> Tensor:
        """Return examples with one latent moved over [−span, span], the others at their mean.

        Args:
            x: (B, *shape).
            dim: The latent to move, 0 to Z − 1; of a map, a channel at all positions.
            span: The farthest value, in standard deviations of the prior.
            steps: Examples on the way.
            inputs: Further inputs, B rows each.

        Returns:
            (B, steps, *shape).

        Raises:
            ValueError: If there is no such latent.
        """
        if not 0 <= dim < self.latent_dim:
            raise ValueError(f"dim={dim} is no latent; allowed: 0 to {self.latent_dim - 1}")
        z = self.encode(x, **inputs).mean[:, None].repeat_interleave(steps, 1)
        values = torch.linspace(-span, span, steps, dtype=z.dtype, device=z.device)
        z[:, :, dim] = values.view(-1, *(1,) * (z.ndim - 3))
        return self._decode_paths(z, inputs)

    @torch.no_grad()
    def standardised(self, batches: Iterable[Any]) -> BetaVAE:
        r"""Return this VAE with each latent shifted and scaled by the moments of its codes.

        .. math::
            z_j' = \frac{z_j - m_j}{\sqrt{V_j}}, \qquad m_j = E[μ_j(x)], \quad
            V_j = \mathrm{Var}[μ_j(x)] + E[σ_j^2(x)]

        with q(z|x) = N(μ, σ²). Each latent's aggregated posterior then has mean 0 and variance 1.
        The decoder undoes it, so that D and reconstructions are the same; R falls, on these
        pictures, by :math:`\mathrm{KL}(\mathcal N(m, \mathrm{diag} V) ‖ \mathcal N(0, I))`, and
        samples from N(0, I) lie where codes do. Where β is low, rate costs next to nothing, and a
        training can leave codes much wider than N(0, I).

        Args:
            batches: Those of the training set: (B, *shape), or tuples or lists that begin with
                them.

        Returns:
            A VAE that shares its networks with this one.

        Raises:
            ValueError: If there are no pictures.

        References:
            Hoffman & Johnson 2016, "ELBO surgery" (the aggregated posterior).
        """
        device = next(self.parameters()).device
        posteriors = [
            self.encode(x.to(device), **on(inputs, device))
            for x, inputs in map(self.read, batches)
        ]
        if not posteriors:
            raise ValueError("there are no pictures to standardise by; give batches of some")
        mean, variance = (
            torch.cat([getattr(q, name) for q in posteriors]) for name in ("mean", "variance")
        )
        std = (mean.var(0, correction=0) + variance.mean(0)).sqrt()
        return Standardised(self, mean.mean(0), std).eval()

    @torch.no_grad()
    def recalibrated(self, batches: Iterable[Any]) -> BetaVAE:
        """Return this VAE with the statistics of its BatchNorms measured at its β.

        In training all β's share the running mean and variance. Here they are those of examples
        and of samples of their codes, at this β. That is for data that has changed: on the data of
        the training nothing was gained, and where the β's of a batch differ something was lost
        (benchmarks/batchnorm.py).

        Args:
            batches: As for :meth:`standardised`.

        Raises:
            ValueError: If there is no BatchNorm with such statistics, or no batch.
        """
        vae = copied(self).eval()
        norms = [
            module
            for module in vae.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        ]
        if not norms:
            raise ValueError("there is no BatchNorm to measure again in this model")
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all batches
            norm.train()
        seen = False
        for batch in batches:
            x, inputs = vae.read(batch)
            device = next(vae.parameters()).device
            vae.elbo_terms(x.to(device), **on(inputs, device))
            seen = True
        if not seen:
            raise ValueError("there are no examples to measure by; give batches of some")
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return vae.eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this VAE to one file of safetensors, with all that makes it again but your code.

        Args:
            path: The file, such as ``vae.safetensors``. Another of that name is replaced.

        Raises:
            ValueError: If safetensors is missing, or the state holds more than tensors.
            OSError: If the file cannot be written.

        Example:
            >>> import multibeta
            >>> vae = multibeta.load("digits").at_beta(0.1)
            >>> vae.save("vae.safetensors")  # doctest: +SKIP
            >>> again = multibeta.BetaVAE.load("vae.safetensors")  # doctest: +SKIP
        """
        from multibeta.saved import save

        save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        *,
        allow: str | Sequence[str] = (),
        **given: Any,
    ) -> BetaVAE:
        """Read what :meth:`save` has written: tensors and plain values, checked by a digest.

        No code from the file is run, and a class that it names is imported only if it is
        multibeta's or allowed. The VAE equals the saved one bit for bit.

        Args:
            path: The file.
            encoder: The encoder of a wrapped model, of the architecture that was saved (the
                weights are the file's); or its one module with ``encode`` and ``decode``.
            decoder: Its decoder.
            allow: Modules of yours, a list or a text with commas, whose classes it may name.
            given: ``likelihood``, ``distortion`` or ``posterior``, where they are code of yours.

        Returns:
            The VAE, on the CPU, in evaluation mode.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, of another kind or format, does not fit the modules,
                names code that is not allowed, or needs the user's modules.
        """
        from multibeta.saved import load

        return load(path, encoder, decoder, allow=allow, **given)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        *,
        revision: str | None = None,
        **options: Any,
    ) -> BetaVAE:
        """Read a plain VAE from a folder of :meth:`save_pretrained`, or from the Hub.

        Args:
            source: The folder, or ``owner/name``.
            encoder: As in :meth:`load`.
            decoder: As in :meth:`load`.
            revision: A branch, tag or commit of the repository.
            options: As in :meth:`load`.
        """
        from multibeta.pretrained import weights_of

        return cls.load(weights_of(source, revision), encoder, decoder, **options)

    def _own(self, name: str) -> Callable[..., Any] | None:
        return getattr(self._modules.get("autoencoder"), name, None)

    def _decode_paths(self, z: Tensor, inputs: dict[str, Any]) -> Tensor:
        """Decode z (B, steps, …) into examples (B, steps, *shape)."""
        of_each = {
            k: v.repeat_interleave(z.shape[1], 0) if isinstance(v, Tensor) and v.ndim else v
            for k, v in inputs.items()
        }
        return self.decode(z.flatten(0, 1), **of_each).mean.unflatten(0, z.shape[:2])

    def extra_repr(self) -> str:
        """Show β."""
        return f"beta={self.beta:g}, latent_shape={self.latent_shape}"

    def facts(self) -> dict[str, str]:
        """Return what it is: name → text."""
        return {
            "β": f"{self.beta:g}",
            "x": str(self.shape or "of free shape"),
            "latents": str(self.latent_shape),
            "parameters": f"{sum(p.numel() for p in self.parameters()):,}",
            "likelihood": str(self.likelihood),
        }

    def _repr_html_(self) -> str:
        return facts("BetaVAE: a plain VAE at one β", self.facts(), repr(self))


class Standardised(BetaVAE):
    """A VAE whose latents are shifted and scaled: z' = (z − mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, vae: BetaVAE, mean: Tensor, std: Tensor) -> None:
        one = vae._modules.get("autoencoder")
        pair: tuple[Any, Any] = (one, None) if one is not None else (vae.encoder, vae.decoder)
        standard = None if vae.scale is None else (cast(Tensor, vae.shift), vae.scale)
        super().__init__(
            *pair,
            vae.likelihood,
            vae.latent_shape,
            vae.beta,
            vae.posterior,
            vae.unit,
            standard,
            vae.shape,
        )
        if isinstance(vae, Standardised):
            mean, std = vae.mean + vae.std * mean, vae.std * std
        self.units, self.settings, self.about = vae.units, vae.settings, vae.about
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def encode(self, x: Tensor, **inputs: Any) -> Independent:
        """Return q(z'|x)."""
        q = super().encode(x, **inputs)
        return normal((q.mean - self.mean) / self.std, q.stddev / self.std)

    def output(self, z: Tensor, **inputs: Any) -> Any:
        """Return what the decoder gives for z'."""
        return super().output(self.mean + self.std * z, **inputs)


class _Rescaled(Distribution):
    """p of x = shift + scale x', for p of x'."""

    def __init__(self, p: Distribution, shift: Tensor, scale: Tensor) -> None:
        super().__init__(p.batch_shape, p.event_shape, validate_args=False)
        self.p, self.shift, self.scale = p, shift, scale

    @property
    def mean(self) -> Tensor:
        """That of x."""
        return self.p.mean * self.scale + self.shift

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(x') less the logarithm of the Jacobian."""
        jacobian = self.scale.log().expand(self.event_shape).sum()
        return self.p.log_prob((value - self.shift) / self.scale) - jacobian

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw x."""
        return self.p.sample(sample_shape) * self.scale + self.shift


def elbo_terms_of(
    x: Tensor,
    posterior: Independent,
    decode: Callable[[Tensor], Distribution],
    noise: Tensor | None,
) -> ELBOTerms:
    """Return the terms for examples, their posterior and a decoder.

    Args:
        x: (B, *shape).
        posterior: q(z|x).
        decode: z (B, *latent shape) → p(x|z).
        noise: Standard normal noise of the posterior sample, as z; drawn when None.
    """
    mean = posterior.mean
    noise = torch.randn_like(mean) if noise is None else noise.reshape(mean.shape)
    z = mean + posterior.stddev * noise
    return ELBOTerms(-decode(z).log_prob(x), kl_standard_normal(posterior), posterior, z)
