"""The numbers of steps that are best for examples, found by looking at what they decode to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from multibeta.adapters import output_tensor
from multibeta.data.examples import rows_of
from multibeta.vae import BetaVAE

__all__ = ["Search"]

_DAMPINGS = (1.0, 0.3)
_APART = 0.5  # of σ: how far a latent is moved to see how what is decoded bends
_VALUES = 2**19  # of decodings that are made at a time


class Search:
    r"""Finds whole numbers k for examples, with a low J.

    .. math:: J(k) = D(x, z) + \tfrac12 β \lVert z \rVert^2, \quad z = kΔ

    The posterior's mean is but a network's guess at the best code, and rounding takes each latent
    for itself. So J is first taken for a quadratic, with the Gauss–Newton matrix

    .. math:: A = β I + \mathrm{d}_z \hat o^\top \, \nabla^2_{\hat o} D \; \mathrm{d}_z \hat o

    of the decoder's output ô. Latent by latent is rounded around the minimum that A promises, and
    the error of each is made good by those that follow (Babai's nearest plane). The way to the
    minimum is damped, once more and once less, and what has the lowest J is kept. Going on from
    there lowers J further, for more bits than R. At last single latents are moved by a step, those
    first whose slope promises most.

    Args:
        vae: The VAE, in any type.
        x: (n, *shape).
        live: Whether a value of a code is coded: (values of a code,).
        step: Δ of each: (values of a code,), float64.
        std: σ of q(z|x): (n, values of a code), float64.
        inputs: Further inputs, n rows each.
        most: At how many latents to look. Where more are live, no A is made: that takes a decoding
            for each.

    References:
        Babai 1986, "On Lovász' lattice reduction and the nearest lattice point problem".
    """

    def __init__(
        self,
        vae: BetaVAE,
        x: Tensor,
        live: Tensor,
        step: Tensor,
        std: Tensor,
        inputs: Mapping[str, Any],
        most: int,
    ) -> None:
        self._vae, self._x, self._inputs = vae, x, dict(inputs)
        self._at = live.nonzero()[:, 0]
        self._width, self._step, self._std = len(live), step[self._at], std[:, self._at]
        self._most = min(most, len(self._at))

    def best(self, k: Tensor) -> Tensor:
        """Return better numbers than k.

        Args:
            k: Those that were rounded: (n, values of a code), float64.
        """
        found = k.clone()
        found[:, self._at] = self._found(k[:, self._at])
        return found

    def _found(self, k: Tensor) -> Tensor:
        """Return better numbers of the live latents: (n, L)."""
        if not k.numel() or not self._most:
            return k
        best = self._value(k)
        curvature = self._curvature(k) if len(self._at) <= self._most else None
        for trial in self._nearest(k, curvature) if curvature is not None else ():
            k, best = self._better(k, best, trial)
        return self._moved(k, best)

    def _better(self, k: Tensor, best: Tensor, trial: Tensor) -> tuple[Tensor, Tensor]:
        """Return, of each example, what has the lower J, and that."""
        value = self._value(trial)
        better = value < best
        return torch.where(better[:, None], trial, k), torch.where(better, value, best)

    def _codes(self, k: Tensor) -> Tensor:
        """Return z (n, *latent shape) on the model's device, for numbers (n, L)."""
        z = k.new_zeros(len(k), self._width)
        z[:, self._at] = k * self._step
        weight = next(self._vae.parameters())
        dtype = torch.promote_types(weight.dtype, torch.float32)
        return z.reshape(-1, *self._vae.latent_shape).to(weight.device, dtype)

    def _objective(self, z: Tensor) -> Tensor:
        distortion = -self._vae.decode(z, **self._inputs).log_prob(self._x)
        return distortion + self._vae.beta / 2 * z.square().flatten(1).sum(1)

    @torch.no_grad()
    def _value(self, k: Tensor) -> Tensor:
        """Return J: (n,)."""
        return self._objective(self._codes(k)).cpu()

    def _slope(self, k: Tensor) -> Tensor:
        """Return dJ/dz of the live latents: (n, L), float64."""
        z = self._codes(k).requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self._objective(z).sum(), z)
        return slope.flatten(1).cpu().double()[:, self._at]

    def _curvature(self, k: Tensor) -> Tensor | None:
        """Return A: (n, L, L), float64; None of a decoder that returns a distribution."""
        z, latents, found = self._codes(k), len(self._at), []
        with torch.no_grad():
            out = self._vae.output(z[:1], **rows_of(self._inputs, slice(0, 1), len(z)))
        if isinstance(out, Distribution):
            return None
        size = max(1, _VALUES // (latents * output_tensor(out).numel()))
        apart = _APART * self._std
        for first in range(0, len(z), size):
            part = torch.arange(first, min(first + size, len(z)))
            shifts = z.new_zeros(latents, len(part), self._width)
            shifts[torch.arange(latents), :, self._at] = apart[part].T.to(shifts)
            moved = z[part] + shifts.reshape(latents, *z[part].shape)
            at, slope = self._output(z[part], part)
            there, slopes = self._output(moved.flatten(0, 1), part.repeat(latents))
            bent = (there.unflatten(0, (latents, -1)) - at).transpose(0, 1)
            turned = (slopes.unflatten(0, (latents, -1)) - slope).transpose(0, 1)
            found.append((bent @ turned.mT).cpu().double())
        a = torch.cat(found) / (apart[:, :, None] * apart[:, None, :])
        a = (a + a.mT) / 2 + self._vae.beta * torch.eye(latents)
        # Where D is not convex in ô, or not finite: that of q.
        _, wrong = torch.linalg.cholesky_ex(a)
        plain = torch.diag_embed(self._vae.beta / self._std.square())
        return torch.where((wrong.bool() | ~a.isfinite().all((1, 2)))[:, None, None], plain, a)

    def _output(self, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return ô and dD/dô for codes of some rows: (len(rows), values of ô) each."""
        vae, inputs = self._vae, rows_of(self._inputs, rows, len(self._x))
        with torch.no_grad():
            out = output_tensor(vae.output(z, **inputs))
        leaf = out.detach().requires_grad_()
        with torch.enable_grad():
            p = vae.likelihood_of(leaf, vae.likelihood, inputs)
            distortion = -p.log_prob(self._x[rows.to(self._x.device)])
            (slope,) = torch.autograd.grad(distortion.sum(), leaf)
        return out.flatten(1), slope.flatten(1)

    def _nearest(self, k: Tensor, a: Tensor) -> Tensor:
        """Return numbers near the minimum that A promises from k, a set for each damping."""
        diagonal = torch.diag_embed(a.diagonal(dim1=1, dim2=2))
        damped = torch.stack([a + damping * diagonal for damping in _DAMPINGS])
        ahead = torch.linalg.solve(
            damped, self._slope(k)[:, :, None].expand(len(damped), -1, -1, 1)
        )
        wanted = k * self._step - ahead[..., 0]
        # A = UᵀU: each row of U weighs a latent's error against those of the latents behind it.
        upper = torch.linalg.cholesky(a, upper=True)
        numbers, error = torch.zeros_like(wanted), torch.zeros_like(wanted)
        for i in reversed(range(len(self._at))):
            behind = upper[:, i, i + 1 :] / upper[:, i, i, None]
            target = wanted[..., i] - (behind * error[..., i + 1 :]).sum(-1)
            numbers[..., i] = (target / self._step[i]).round()
            error[..., i] = numbers[..., i] * self._step[i] - wanted[..., i]
        return numbers

    def _moved(self, k: Tensor, best: Tensor) -> Tensor:
        """Return numbers of a lower J, by single steps against the slope."""
        slope = self._slope(k)
        # What a step promises, with q's curvature β/σ².
        gain = slope.abs() * self._step - self._vae.beta / 2 * (self._step / self._std).square()
        order = gain.topk(self._most, dim=1).indices
        towards = -slope.sign()
        for chosen in order.T[..., None]:
            trial = k.scatter_add(1, chosen, towards.gather(1, chosen))
            k, best = self._better(k, best, trial)
        return k
