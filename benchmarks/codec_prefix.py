"""One file that is cut at many lengths: of the one model, and of dedicated ones in its place.

A dedicated model has codes in a basis of its own, so a file that begins as a code of a high β
cannot go on as one of a low β. Here the dedicated models take the place of the one model at its
levels, as they are, or after their codes were brought to those of the lowest β by the best
permutation and signs, or by the best linear map, both found on training pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from benchmarks.aligned import Map, linear, permutation
from multibeta.adapters import normal
from multibeta.codec.grids import grid_of
from multibeta.codec.progressive import (
    Plan,
    centres,
    decoded,
    plan_of,
    read_passes,
    refined,
    write_passes,
)
from multibeta.metrics.psnr import psnr
from multibeta.vae import BetaVAE

__all__ = ["Matched", "Spread", "cut_at", "matched", "progressive_file"]

BATCH = 250


class Matched(nn.Module):
    """A plain VAE in other coordinates: z' = z W + c.

    Args:
        vae: The VAE, of vector codes.
        there: Maps its codes (N, Z) to the new coordinates, affinely.
        back: The way back.
    """

    def __init__(self, vae: BetaVAE, there: Map, back: Map) -> None:
        super().__init__()
        self.vae, self.beta, self.latent_shape = vae, vae.beta, vae.latent_shape
        for name, of in (("there", there), ("back", back)):
            eye = np.eye(vae.latent_dim)
            shift = of(np.zeros((1, vae.latent_dim)))
            weight = next(vae.parameters())
            self.register_buffer(f"{name}_weight", torch.from_numpy(of(eye) - shift).to(weight))
            self.register_buffer(f"{name}_shift", torch.from_numpy(shift).to(weight))

    def encode(self, x: Tensor) -> Independent:
        """Return q(z'|x), without the correlations that the map brings."""
        q = self.vae.encode(x)
        mean = q.mean @ self.there_weight + self.there_shift
        return normal(mean, (q.variance @ self.there_weight.square()).sqrt())

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z')."""
        return self.vae.decode(z @ self.back_weight + self.back_shift)


class Spread(nn.Module):
    """A dedicated VAE as if it knew higher β's: its posterior as a linear VAE's would widen.

    :math:`σ'^2 = \\min(1, σ^2 β'/β)`, and means scaled by :math:`\\sqrt{(1 - σ'^2)/(1 - σ^2)}`.

    Args:
        vae: The VAE.
        beta: β'.
    """

    def __init__(self, vae: BetaVAE, beta: float) -> None:
        super().__init__()
        self.vae, self.beta, self.latent_shape = vae, beta, vae.latent_shape

    def encode(self, x: Tensor) -> Independent:
        """Return q(z|x)."""
        q = self.vae.encode(x)
        variance = (q.variance * self.beta / self.vae.beta).clamp(max=1 - 1e-6)
        scale = ((1 - variance) / (1 - q.variance).clamp(min=1e-6)).sqrt().clamp(max=1)
        return normal(q.mean * scale, variance.sqrt())

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z)."""
        return self.vae.decode(z)


def matched(models: Mapping[int, BetaVAE], train: Tensor, how: str) -> dict[int, nn.Module]:
    """Return dedicated models in the coordinates of that of the lowest β.

    Args:
        models: Number of β → model.
        train: Training pictures, 8-bit.
        how: ``permuted`` or ``linear``.
    """
    lowest = min(models)
    sides = {index: _side(vae, train) for index, vae in models.items()}
    match = {"permuted": permutation, "linear": linear}[how]
    found: dict[int, nn.Module] = {lowest: models[lowest]}
    for index in models.keys() - {lowest}:
        found[index] = Matched(models[index], *match(sides[lowest], sides[index]))
    return found


@torch.no_grad()
def _side(vae: BetaVAE, train: Tensor) -> Any:
    q = [vae.encode(part) for part in train.split(BATCH)]
    mean, std = (torch.cat([getattr(of, name) for of in q]) for name in ("mean", "stddev"))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(train=mean.double().numpy(), z=(mean + std * noise).double())


At = Callable[[int], Any]


def progressive_file(
    at: At, exact: At, indices: Sequence[int], x: Tensor, search: int
) -> tuple[Plan, bytes]:
    """Return the plan and the bits of a progressive file, without a header.

    Args:
        at: The VAE of each number of β.
        exact: The same in float64.
        indices: Numbers of β, falling.
        x: (N, C, H, W), in [0, 1].
        search: See :class:`multibeta.Codec`.
    """
    plan = plan_of(exact, indices, grid_of(exact(indices[-1]), {}), {})
    parts = [refined(at, plan, part, {}, search) for part in x.split(BATCH)]
    told = [np.concatenate(of) for of in zip(*parts, strict=True)]
    return plan, write_passes(plan, told)


def cut_at(
    plan: Plan, at: At, file: bytes, x: Tensor, lengths: Sequence[int]
) -> list[dict[str, float]]:
    """Return bits a picture and the mean PSNR after so many bytes of a file.

    Args:
        plan: The file's.
        at: The VAE of each number of β.
        file: The bits.
        x: The pictures, in [0, 1].
        lengths: In bytes.
    """
    rows = []
    for length in lengths:
        part = file[:length]
        numbers, powers, done = read_passes(plan, part, len(x), length >= len(file))
        level = plan.passes[min(done, len(plan.passes) - 1)].level
        code = centres(plan, numbers, powers)
        near = []
        for start in range(0, len(x), BATCH):
            here = slice(start, start + BATCH)
            with torch.no_grad():
                p = decoded(at, plan, level, code[:, here], {})
            near.append(psnr(x[here], p.mean.float()))
        rows.append({"bits": 8 * len(part) / len(x), "psnr_db": torch.cat(near).mean().item()})
    return rows


def lengths_of(size: int, points: int = 24) -> list[int]:
    """Return lengths from a fiftieth of a file to all of it, in bytes, evenly in logarithms."""
    return [round(size * math.exp(-math.log(50) * (1 - k / (points - 1)))) for k in range(points)]
