"""Codes on a grid, and their bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multibeta.codec.grids import Grid, rows, whole
from multibeta.codec.search import Search
from multibeta.codec.streams import Reader, Writer, shortest
from multibeta.codec.symbols import Numbers, blocks
from multibeta.codec.tables import step_of
from multibeta.vae import BetaVAE

__all__ = ["quantised", "read_numbers", "write_numbers"]

_MOST = 4_096  # symbols of a latent between two looks at its table


@torch.no_grad()
def quantised(
    vae: BetaVAE, x: Tensor, grid: Grid, inputs: Mapping[str, Any], search: int
) -> np.ndarray:
    """Return the numbers k of z = kΔ for examples: the means of q(z|x), rounded, then searched.

    Args:
        vae: The VAE, in any type.
        x: (n, *shape).
        grid: The grid.
        inputs: Further inputs, n rows each.
        search: At how many latents of an example to look at most; see :class:`Search`.

    Returns:
        k, int64: (G, n·per).
    """
    q = vae.encode(x, **inputs)
    mean, std = (of.flatten(1).cpu().double() for of in (q.mean, q.stddev))
    live, step = (
        grid.spread(of).expand(vae.latent_shape).flatten()
        for of in (np.array(grid.live), grid.steps)
    )
    k = torch.where(live, (mean / step).round(), 0.0)
    if search:
        k = Search(vae, x, live, step, std, inputs, search).best(k)
    return whole(rows(k.reshape(-1, *vae.latent_shape)), np.array(grid.live))


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
