"""Codes on a grid, and their bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multibeta.codec.grids import Grid, rows, whole
from multibeta.codec.streams import Reader, Writer, shortest
from multibeta.codec.symbols import Numbers, blocks
from multibeta.codec.tables import step_of
from multibeta.vae import BetaVAE

__all__ = ["quantised", "read_numbers", "write_numbers"]

_MOST = 4_096  # symbols of a latent between two looks at its table


def quantised(
    vae: BetaVAE, x: Tensor, grid: Grid, inputs: Mapping[str, Any], search: int
) -> np.ndarray:
    r"""Return the numbers k of z = kΔ for examples.

    The means of q(z|x) are rounded. Then each latent of an example is tried one step further, in
    the direction in which

    .. math:: J(z) = D(x, z) + \tfrac12 β \lVert z \rVert^2

    falls, those first whose step promises most; what lowers J is kept.

    Args:
        vae: The VAE, in any type.
        x: (n, *shape).
        grid: The grid.
        inputs: Further inputs, n rows each.
        search: How many steps to try for each example at most.

    Returns:
        k, int64: (G, n·per).
    """
    with torch.no_grad():
        q = vae.encode(x, **inputs)
    live = grid.spread(np.array(grid.live)).to(q.mean.device)
    step = grid.spread(grid.steps).to(q.mean)
    k = torch.where(live, (q.mean.double() / step.double()).round(), 0.0)
    tries = min(search, int(sum(grid.live)) * grid.per)
    if tries:
        k = _searched(vae, x, k, step, live, q.stddev, inputs, tries)
    return whole(rows(k), np.array(grid.live))


def _searched(
    vae: BetaVAE, x: Tensor, k: Tensor, step: Tensor, live: Tensor, std: Tensor,
    inputs: Mapping[str, Any], tries: int,
) -> Tensor:  # fmt: skip
    """Return numbers (n, *latent shape) of a lower D + β‖z‖²/2."""

    def objective(z: Tensor) -> Tensor:
        p = vae.decode(z, **inputs)
        return -p.log_prob(x) + vae.beta / 2 * z.square().flatten(1).sum(1)

    at = (k * step).to(std.dtype).requires_grad_()
    with torch.enable_grad():
        best = objective(at)
        (slope,) = torch.autograd.grad(best.sum(), at)
    best = best.detach()
    # What a step against the slope promises, with q's curvature β/σ².
    gain = slope.abs() * step - vae.beta / 2 * (step / std).square()
    order = torch.where(live, gain, -torch.inf).flatten(1).topk(tries, dim=1).indices
    found, steps = k.flatten(1).clone(), step.expand(k.shape[1:]).flatten()
    towards = -slope.sign().flatten(1).to(k.dtype)
    with torch.no_grad():
        for chosen in order.T:
            trial, one = found.clone(), chosen[:, None]
            trial.scatter_add_(1, one, towards.gather(1, one))
            value = objective((trial * steps).to(std.dtype).reshape(k.shape))
            better = value < best
            found = torch.where(better[:, None], trial, found)
            best = torch.where(better, value, best)
    return found.reshape(k.shape)


def write_numbers(numbers: np.ndarray, grid: Grid) -> bytes:
    """Return the bits of numbers (G, M); those of dead latents are not coded."""
    writer = Writer()
    tables = _tables(grid)
    for part in blocks(numbers.shape[1], _MOST):
        for group, table in tables.items():
            table.write(writer, numbers[group, part])

    def says(payload: bytes) -> bool:
        again = [*read_numbers(payload, grid, numbers.shape[1])]
        return bool((np.concatenate(again, 1) == numbers).all())

    return shortest(writer.payload(), says)


def read_numbers(payload: bytes, grid: Grid, count: int) -> Iterator[np.ndarray]:
    """Yield the numbers again, a part after the other: (G, m), m adding up to ``count``."""
    reader = Reader(payload)
    tables = _tables(grid)
    for part in blocks(count, _MOST):
        m = part.stop - part.start
        numbers = np.zeros((len(grid.live), m), dtype=np.int64)
        for group, table in tables.items():
            numbers[group] = table.read(reader, m)
        yield numbers


def _tables(grid: Grid) -> dict[int, Numbers]:
    each = enumerate(zip(grid.exponents, grid.live, strict=True))
    return {group: Numbers(step_of(e)) for group, (e, lives) in each if lives}
