"""One file that is cut at many lengths: of the one model, and of dedicated ones in its place.

A file tells the codes of the lowest β, the coarse first; the other β's say what comes first. It is
decoded by the model of the lowest β; or, once codes are mapped to those of the β at which they are
cut, by the model of that one. A dedicated model has codes in a basis of its own: its latents are
taken as they are, or after they were matched with those of the lowest β by the best permutation
and signs, or by the best linear map, both found on training pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from benchmarks.aligned import Map, linear, permutation
from multibeta.codec.container import index_of
from multibeta.codec.grids import grid_of
from multibeta.codec.lossy import quantised
from multibeta.codec.progressive import (
    LEVELS,
    Plan,
    draws,
    plan_of,
    read_passes,
    write_passes,
)
from multibeta.densities import normal
from multibeta.metrics.psnr import psnr
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.vae import BetaVAE

__all__ = [
    "Matched",
    "Spread",
    "by_lowest",
    "by_own",
    "cut_at",
    "lengths_of",
    "matched",
    "progressive_file",
    "side_of",
    "sides_of",
    "straight",
]

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
    r"""A dedicated VAE as if it knew higher β's: its posterior as a linear VAE's would widen.

    :math:`σ'^2 = \min(1, σ^2 β'/β)`, and means scaled by :math:`\sqrt{(1 - σ'^2)/(1 - σ^2)}`.

    Args:
        vae: The VAE.
        beta: β'.
    """

    def __init__(self, vae: BetaVAE, beta: float) -> None:
        super().__init__()
        self.vae, self.beta, self.latent_shape = vae, beta, vae.latent_shape
        self.likelihood, self.likelihood_of, self.output = (
            vae.likelihood, vae.likelihood_of, vae.output,
        )  # fmt: skip

    def encode(self, x: Tensor) -> Independent:
        """Return q(z|x)."""
        q = self.vae.encode(x)
        variance = (q.variance * self.beta / self.vae.beta).clamp(max=1 - 1e-6)
        scale = ((1 - variance) / (1 - q.variance).clamp(min=1e-6)).sqrt().clamp(max=1)
        return normal(q.mean * scale, variance.sqrt())

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z)."""
        return self.vae.decode(z)


def matched(models: Mapping[float, BetaVAE], train: Tensor, how: str) -> dict[float, Any]:
    """Return dedicated models in the coordinates of that of the lowest β.

    Args:
        models: β → model.
        train: Training pictures, 8-bit.
        how: ``permuted`` or ``linear``.
    """
    lowest = min(models)
    sides = {beta: side_of(vae, train) for beta, vae in models.items()}
    match = {"permuted": permutation, "linear": linear}[how]
    found: dict[float, Any] = {lowest: models[lowest]}
    for beta in models.keys() - {lowest}:
        found[beta] = Matched(models[beta], *match(sides[lowest], sides[beta]))
    return found


@torch.no_grad()
def side_of(vae: BetaVAE, train: Tensor) -> Any:
    """Return what :mod:`benchmarks.aligned` matches: means of pictures, and samples of codes."""
    q = [vae.encode(part) for part in train.split(BATCH)]
    mean, std = (torch.cat([getattr(of, name) for of in q]) for name in ("mean", "stddev"))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(train=mean.double().numpy(), z=(mean + std * noise).double())


At = Callable[[int], Any]
Decode = Callable[[float, Tensor], Tensor]


def progressive_file(
    at: At, exact: At, indices: Sequence[int], x: Tensor, search: int = 128
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
    low = at(indices[-1])
    parts = [quantised(low, part, plan.grid, {}, search) for part in x.split(BATCH)]
    return plan, write_passes(plan, np.concatenate(parts, 1))


@torch.no_grad()
def cut_at(
    plan: Plan, decode: Decode, file: bytes, x: Tensor, lengths: Sequence[int]
) -> list[dict[str, float]]:
    """Return bits a picture and the mean PSNR after so many bytes of a file.

    Args:
        plan: The file's.
        decode: β at which it is cut, and codes (n, Z) → pictures.
        file: The bits.
        x: The pictures, in [0, 1].
        lengths: In bytes.
    """
    rows = []
    for length in lengths:
        part, whole = file[:length], length >= len(file)
        numbers, powers, done = read_passes(plan, part, len(x), whole)
        beta = plan.passes[min(done, len(plan.passes) - 1)].beta
        near = []
        for start in range(0, len(x), BATCH):
            here = slice(start, start + BATCH)
            codes = [*draws(plan, numbers[:, here], powers[:, here], whole)]
            again = sum(decode(beta, torch.from_numpy(z.T).float()) for z in codes) / len(codes)
            near.append(psnr(x[here], again.clamp(0, 1)))
        rows.append({"bits": 8 * len(part) / len(x), "psnr_db": torch.cat(near).mean().item()})
    return rows


def by_lowest(vae: BetaVAE) -> Decode:
    """Return the decoding by the model of the lowest β, whatever β a file is cut at."""
    return lambda beta, z: vae.decode(z).mean


def by_own(at: Callable[[float], tuple[nn.Module, Map]]) -> Decode:
    """Return the decoding by the model of the β at which a file is cut.

    Args:
        at: β → the VAE, and what maps codes of the lowest β to its own.
    """

    def decode(beta: float, z: Tensor) -> Tensor:
        vae, map_ = at(beta)
        return vae.decode(torch.from_numpy(map_(z.numpy())).float()).mean

    return decode


def straight(low: Any, other: Any) -> Map:
    """Return the line for each latent that brings means at the lowest β to those at another."""
    of, to = low.train, other.train
    centred = of - of.mean(0)
    slope = (centred * (to - to.mean(0))).sum(0) / np.square(centred).sum(0)
    return lambda z: to.mean(0) + slope * (z - of.mean(0))


def lengths_of(size: int, points: int = 12) -> list[int]:
    """Return lengths from a fiftieth of a file to all of it, in bytes, evenly in logarithms."""
    return [round(size * math.exp(-math.log(50) * (1 - k / (points - 1)))) for k in range(points)]


def sides_of(
    model: MultiBetaVAE, dedicated: Mapping[float, BetaVAE], x: Tensor, train: Tensor,
    sizes: Sequence[int],
) -> dict[str, list[dict[str, float]]]:  # fmt: skip
    """Return what is left of a file at each length, of the one model and of dedicated ones.

    Args:
        model: The one model.
        dedicated: β → VAE; empty if there are none.
        x: Pictures, in [0, 1].
        train: Training pictures, 8-bit.
        sizes: Lengths to measure at, beside those of a fixed list.
    """
    low, high = model.beta_range.low, model.beta_range.high
    betas = np.geomspace(high, low, LEVELS).tolist()
    found = {}
    one = {beta: model.at_beta(beta).requires_grad_(False) for beta in betas}
    first = one[min(one)]
    found["first"], _ = _cut_both({b: Spread(first, b) for b in betas}, None, x, sizes)
    if not dedicated:
        found["one"], _ = _cut_both(one, None, x, sizes)
        return found
    lines = {beta: straight(side_of(one[min(one)], train), side_of(vae, train))
             for beta, vae in one.items()}  # fmt: skip
    found["one"], found["one, own"] = _cut_both(
        one, lambda beta: (one[near(one, beta)], lines[near(one, beta)]), x, sizes
    )
    lowest = dedicated[min(dedicated)]
    spread = {beta: Spread(lowest, beta) for beta in betas}
    found["lowest"], _ = _cut_both(spread, None, x, sizes)
    kinds: dict[str, Mapping[float, Any]] = {"dedicated": dedicated}
    kinds |= {how: matched(dedicated, train, how) for how in ("permuted", "linear")}
    for kind, models in kinds.items():
        found[kind], found[f"{kind}, own"] = _cut_both(
            models, lambda beta, of=models: (of[near(of, beta)], _same), x, sizes
        )
    return found


def near(models: Mapping[float, Any], beta: float) -> float:
    """Return the β of the models that is nearest, in logarithms."""
    return min(models, key=lambda other: abs(math.log(other / beta)))


def _same(z: np.ndarray) -> np.ndarray:
    return z


def _cut_both(
    models: Mapping[float, Any], own: Callable[[float], tuple[Any, Map]] | None, x: Tensor,
    sizes: Sequence[int],
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:  # fmt: skip
    """Return what a file gives, decoded by the model of the lowest β, and by that of each β."""
    ordered = [models[beta] for beta in sorted(models, reverse=True)]
    doubles = [copy.deepcopy(vae).double() for vae in ordered]
    numbers = [index_of(vae.beta, vae.beta, vae.beta) for vae in ordered]
    at, exact = (dict(zip(numbers, of, strict=True)).__getitem__ for of in (ordered, doubles))
    plan, file = progressive_file(at, exact, numbers, x)
    lengths = sorted({*lengths_of(len(file)), *(size for size in sizes if size <= len(file))})
    rows = cut_at(plan, by_lowest(ordered[-1]), file, x, lengths)
    return rows, [] if own is None else cut_at(plan, by_own(own), file, x, lengths)
