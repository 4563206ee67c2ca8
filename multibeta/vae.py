"""A VAE at one β: an ordinary module, and the terms of its objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from multibeta.divergences import kl_standard_normal
from multibeta.likelihoods import Likelihood, at_least_float32

__all__ = ["BetaVAE", "ELBOTerms", "elbo_terms_of", "images_of", "posterior_of"]

# Its exponential and the square of that are float32 above 0.
_LEAST_LOG_VARIANCE = -30.0


@dataclass(frozen=True)
class ELBOTerms:
    """The terms of the objective for a batch.

    Args:
        distortion_nats: D, one posterior sample per example: (B,).
        rate_per_latent_nats: KL(q(z_j|x) ‖ p(z_j)) in closed form: (B, Z).
        posterior: q(z|x), that they were computed from.
        z: The sample of it: (B, Z).
    """

    distortion_nats: Tensor
    rate_per_latent_nats: Tensor
    posterior: Independent
    z: Tensor

    @property
    def rate_nats(self) -> Tensor:
        """R = KL(q(z|x) ‖ p(z)) of shape (B,), summed over the latents."""
        return self.rate_per_latent_nats.sum(-1)


class BetaVAE(nn.Module):
    """A VAE at one β: an ordinary module, made by :meth:`MultiBetaVAE.at_beta`.

    Args:
        encoder: x (B, C, H, W) → (B, 2Z), what :func:`posterior_of` takes.
        decoder: z (B, Z) → (B, outputs·C, H, W).
        likelihood: Turns the decoder's output into p(x|z).
        latent_dim: The number Z of latents.
        beta: The β that the networks are made for.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent_dim: int,
        beta: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.latent_dim = latent_dim
        self.beta = beta

    def encode(self, x: Tensor) -> Independent:
        """Return q(z|x): batch shape (B,), event shape (Z,), for x (B, C, H, W) in [0, 1]."""
        parameters = self.encoder(x)
        return posterior_of(parameters, parameters.new_tensor([self.beta]))

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z): batch shape (B,), event shape (C, H, W), for z (B, Z)."""
        return self.likelihood(self.decoder(z))

    def elbo_terms(self, x: Tensor, noise: Tensor | None = None) -> ELBOTerms:
        """Return D, from one posterior sample per example, and R in closed form.

        Args:
            x: (B, C, H, W).
            noise: Standard normal noise of the sample: (B, Z); drawn when None.
        """
        return elbo_terms_of(x, self.encode(x), self.decode, noise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction; see :meth:`reconstruct`."""
        return self.reconstruct(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x|z) at the mean of q(z|x): (B, C, H, W)."""
        return self.decode(self.encode(x).mean).mean

    def sample(self, n: int, prior: Distribution | None = None) -> Tensor:
        """Return n pictures: means of p(x|z) for z drawn from the prior.

        Args:
            n: How many.
            prior: A distribution over z with ``sample((n,))`` → (n, Z); N(0, I) by default.

        Returns:
            (n, C, H, W).
        """
        device = next(self.parameters()).device
        if prior is None:
            z = torch.randn(n, self.latent_dim, device=device)
        else:
            z = prior.sample((n,)).to(device)
        return self.decode(z).mean

    def interpolate(self, x0: Tensor, x1: Tensor, steps: int = 9) -> Tensor:
        """Return pictures on the straight line between two posterior means.

        Args:
            x0: (B, C, H, W).
            x1: (B, C, H, W).
            steps: Pictures on the line, both ends included.

        Returns:
            (B, steps, C, H, W).
        """
        z0, z1 = self.encode(x0).mean, self.encode(x1).mean
        t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device)[:, None]
        return self._decode_paths(z0[:, None] + t * (z1 - z0)[:, None])

    def traverse(self, x: Tensor, dim: int, span: float = 3.0, steps: int = 9) -> Tensor:
        """Return pictures with one latent moved over [−span, span], the others at their mean.

        Args:
            x: (B, C, H, W).
            dim: The latent to move, 0 to Z − 1.
            span: The farthest value, in standard deviations of the prior.
            steps: Pictures on the way.

        Returns:
            (B, steps, C, H, W).

        Raises:
            ValueError: If there is no such latent.
        """
        if not 0 <= dim < self.latent_dim:
            raise ValueError(f"dim={dim} is no latent; allowed: 0 to {self.latent_dim - 1}")
        z = self.encode(x).mean[:, None].repeat(1, steps, 1)
        z[:, :, dim] = torch.linspace(-span, span, steps, dtype=z.dtype, device=z.device)
        return self._decode_paths(z)

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
            batches: Pictures, those of the training set: batches of (B, C, H, W), or tuples or
                lists that begin with them.

        Returns:
            A VAE that shares its networks with this one.

        Raises:
            ValueError: If there are no pictures.

        References:
            Hoffman & Johnson 2016, "ELBO surgery" (the aggregated posterior).
        """
        weight = next(self.parameters())
        posteriors = [self.encode(images_of(batch).to(weight)) for batch in batches]
        if not posteriors:
            raise ValueError("there are no pictures to standardise by; give batches of some")
        mean, variance = (
            torch.cat([getattr(q, name) for q in posteriors]) for name in ("mean", "variance")
        )
        std = (mean.var(0, correction=0) + variance.mean(0)).sqrt()
        return _Standardised(self, mean.mean(0), std).eval()

    def _decode_paths(self, z: Tensor) -> Tensor:
        """Decode z (B, steps, Z) into pictures (B, steps, C, H, W)."""
        return self.decode(z.flatten(0, 1)).mean.unflatten(0, z.shape[:2])

    def extra_repr(self) -> str:
        """Show β."""
        return f"beta={self.beta:g}, latent_dim={self.latent_dim}"


class _Standardised(BetaVAE):
    """A VAE whose latents are shifted and scaled: z' = (z − mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, vae: BetaVAE, mean: Tensor, std: Tensor) -> None:
        super().__init__(vae.encoder, vae.decoder, vae.likelihood, vae.latent_dim, vae.beta)
        if isinstance(vae, _Standardised):
            mean, std = vae.mean + vae.std * mean, vae.std * std
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def encode(self, x: Tensor) -> Independent:
        q = super().encode(x)
        normal = Normal((q.mean - self.mean) / self.std, q.stddev / self.std, validate_args=False)
        return Independent(normal, 1, validate_args=False)

    def decode(self, z: Tensor) -> Distribution:
        return super().decode(self.mean + self.std * z)


def posterior_of(parameters: Tensor, beta: Tensor) -> Independent:
    r"""Return q(z|x) for an encoder's output at β.

    With (m, h) the two halves of the output,

    .. math:: q(z|x) = \mathcal N(m, v), \qquad v = \frac{β}{β + e^h}, \quad
        \log v = -\log(1 + e^{h - \log β}).

    It is the form of the optimum for a decoder that is linear around m with orthogonal columns:
    the precision is then 1 from the prior plus the curvature of D over β. So a network whose h
    does not depend on β has the right variance at every β: precise where β is low, the prior's
    where it is high.

    Args:
        parameters: (B, 2Z).
        beta: β: (B,), or (1,) for one β shared by the batch.

    References:
        Lucas et al. 2019, arXiv 1911.02469, section 4 (the linear case, β = 1).
    """
    mean, log_curvature = at_least_float32(parameters).chunk(2, dim=-1)
    log_variance = -F.softplus(log_curvature - beta.to(mean).log()[:, None])
    std = (0.5 * log_variance.clamp(min=_LEAST_LOG_VARIANCE)).exp()
    return Independent(Normal(mean, std, validate_args=False), 1, validate_args=False)


def elbo_terms_of(
    x: Tensor,
    posterior: Independent,
    decode: Callable[[Tensor], Distribution],
    noise: Tensor | None,
) -> ELBOTerms:
    """Return the terms for pictures, their posterior and a decoder.

    Args:
        x: (B, C, H, W).
        posterior: q(z|x).
        decode: z (B, Z) → p(x|z).
        noise: Standard normal noise of the posterior sample: (B, Z); drawn when None.
    """
    if noise is None:
        noise = torch.randn_like(posterior.mean)
    z = posterior.mean + posterior.stddev * noise
    return ELBOTerms(-decode(z).log_prob(x), kl_standard_normal(posterior), posterior, z)


def images_of(batch: Any) -> Tensor:
    """Return the pictures of a batch as floating point.

    Args:
        batch: Pictures (B, C, H, W), or a tuple or list whose first entry they are; uint8 holds
            intensities 0 to 255.

    Returns:
        x: (B, C, H, W); uint8 becomes torch's default floating point type, in [0, 1].
    """
    x = batch[0] if isinstance(batch, tuple | list) else batch
    return x.to(torch.get_default_dtype()).div_(255) if x.dtype == torch.uint8 else x
