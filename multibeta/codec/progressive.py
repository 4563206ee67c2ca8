"""Codes in an order that can be cut anywhere: from the coarse grid of a high β to a fine one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from multibeta.codec.container import beta_at
from multibeta.codec.grids import DEAD, Grid, log_steps, probes, repeated, rows
from multibeta.codec.streams import Reader, Writer, shortest
from multibeta.codec.symbols import Numbers, Thirds, blocks
from multibeta.codec.tables import step_of
from multibeta.vae import BetaVAE

__all__ = ["LEVELS", "Pass", "Plan", "draws", "plan_of", "read_passes", "write_passes"]

LEVELS = 12
"""At how many β's it is measured how fine a grid each latent needs."""

_MOST = 512  # symbols of a latent between two looks at its table
_CODES = 64  # decodings that the β's are compared on
_PLACES = 6  # of log β, by which passes are ordered
_DRAWS = 32  # codes within the cells, whose decodings are averaged
_FINE = 0.05  # narrower cells are taken for their middles


@dataclass(frozen=True)
class Pass:
    """All examples get one latent to a third of its cell; or first get it.

    Attributes:
        beta: The β at which the latent needs it.
        group: The latent; of a map, the channel.
        power: The cells are 3^power steps wide after it.
        first: Whether it is the first of this latent.
    """

    beta: float
    group: int
    power: int
    first: bool


@dataclass(frozen=True)
class Plan:
    """The order of the bits, found from the model alone.

    Attributes:
        grid: That of the lowest β: after the last pass, all is as fine as this.
        passes: In their order.
    """

    grid: Grid
    passes: tuple[Pass, ...]

    def step(self, each: Pass) -> int:
        """Return the width of a cell after a pass, in units of 2⁻⁶⁴."""
        return step_of(self.grid.exponents[each.group]) * 3**each.power

    @property
    def digest(self) -> bytes:
        """What a checksum has of it."""
        order = [(p.group, p.power) for p in self.passes]
        return self.grid.digest + repr(order).encode()


def plan_of(
    at: Callable[[int], BetaVAE], indices: Sequence[int], grid: Grid, inputs: Mapping[str, Any]
) -> Plan:
    r"""Return the order in which the bits of a model's codes are worth most.

    A code is that of the lowest β. At a higher one, latent j needs but a grid of the width

    .. math:: w_j(β) = Δ_j(β) / s_j(β)

    where Δ is the step of a file for that β, and :math:`s_j` the slope of its means at β over
    those at the lowest, both of decoded codes of N(0, I). Cells are :math:`3^n` steps of the
    finest grid wide. As β falls, a latent is first told when it lives, of those that live at the
    highest β the narrowest first, and goes to a third when :math:`w_j` falls below
    :math:`\sqrt3` of that. The finest grids of the latents are made up to :math:`\sqrt3` finer or
    coarser, by turns, so that not all of them go to a third at once.

    Args:
        at: The VAE of each number of β, in float64.
        indices: The numbers of β's, falling.
        grid: That of the last of them.
        inputs: Further inputs.

    References:
        Equitz & Cover 1991, "Successive refinement of information".
    """
    low = at(indices[-1])
    z = probes(low.latent_shape, next(low.parameters()).device)[:_CODES]
    inputs = {k: repeated(v, len(z)) for k, v in inputs.items()}
    x = low.decode(z, **inputs).mean
    mean = rows(low.encode(x, **inputs).mean)
    wanted = []
    for index in indices:
        q = at(index).encode(x, **inputs)
        slope = (rows(q.mean) * mean).sum(1) / np.maximum((mean * mean).sum(1), 1e-30)
        log = np.log(rows(q.stddev)).mean(1)
        width = log_steps(log) - np.log(np.maximum(slope, 1e-3))
        wanted.append(np.where(log < math.log(DEAD), width, np.inf))
    groups = len(grid.live)
    turns = [8 * math.log2(3) * (0.5 - (j + 0.5) / groups) for j in range(groups)]
    exponents = tuple(round(e + t) for e, t in zip(grid.exponents, turns, strict=True))
    grid = Grid(exponents, grid.live, grid.per, grid.latent_shape)
    if np.isnan(wanted).any():
        raise ValueError(
            "the posterior of decoded codes is not finite at some β, so bits have no order; "
            "measure the model by multibeta curve"
        )
    levels = np.log([beta_at(index) for index in indices])
    found = [
        each
        for group in np.flatnonzero(grid.live).tolist()
        for each in _passes(group, levels, np.array(wanted)[:, group], math.log(grid.steps[group]))
    ]
    place = np.array(wanted)[0].round(_PLACES).argsort(kind="stable").argsort()
    return Plan(grid, tuple(sorted(found, key=lambda p: (-p.beta, place[p.group], -p.power))))


def _passes(group: int, levels: np.ndarray, wanted: np.ndarray, step: float) -> Iterator[Pass]:
    """Yield the passes of a latent for the logarithms of β's, wanted widths and its step."""
    needs = (np.append(wanted[:-1], step) - step) / math.log(3)  # at the last level all is fine
    power, higher, before = None, 0.0, 0.0
    for log, need in zip(levels, needs, strict=True):
        if math.isinf(need):
            continue
        now = max(0, round(need))
        if power is None:
            yield Pass(_rounded(log), group, now, True)
        else:
            for each in range(power - 1, now - 1, -1):
                part = (before - each - 0.5) / max(before - need, 1e-9)
                at = higher + min(max(part, 0), 1) * (log - higher)
                yield Pass(_rounded(at), group, each, False)
        power = now if power is None else min(power, now)
        higher, before = log, need


def _rounded(log: float) -> float:
    """Return β, the same on each machine."""
    return math.exp(round(log, _PLACES))


def write_passes(plan: Plan, numbers: np.ndarray) -> bytes:
    """Return the bits of numbers (G, M) of steps, in the order of a plan."""
    writer = Writer()
    for each in plan.passes:
        table = _table(plan, each)
        after = _coarse(numbers[each.group], each.power)
        before = _coarse(numbers[each.group], each.power + 1)
        for part in blocks(numbers.shape[1], _MOST):
            if isinstance(table, Thirds):
                table.write(writer, before[part], after[part])
            else:
                table.write(writer, after[part])

    def says(payload: bytes) -> bool:
        again, _, done = read_passes(plan, payload, numbers.shape[1], True)
        return done == len(plan.passes) and bool((again == numbers).all())

    return shortest(writer.payload(), says)


def read_passes(
    plan: Plan, payload: bytes, count: int, whole: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Read as much as there is.

    What is missing at the end may be anything, so the bits are read twice, with zeros and with
    ones in its place: what both say is certain.

    Args:
        plan: The plan.
        payload: The bits, or the first of them.
        count: How many values a latent has in the file: M.
        whole: Whether nothing is missing.

    Returns:
        The numbers of cells, and the power of 3 that says how wide they are, −1 where a latent
        was not yet told, (G, M) each; and how many passes are whole.
    """
    readers = [Reader(payload, fill) for fill in ((0,) if whole else (0, 0xFF))]
    numbers = np.zeros((len(plan.grid.live), count), dtype=np.int64)
    powers = np.full(numbers.shape, -1, dtype=np.int8)
    for done, each in enumerate(plan.passes):
        table, row = _table(plan, each), numbers[each.group]
        for part in blocks(count, _MOST):
            cells: Any = row[part] if isinstance(table, Thirds) else part.stop - part.start
            found = table.read(readers[0], cells) if whole else table.certain(readers, cells)
            here = slice(part.start, part.start + len(found))
            row[here], powers[each.group, here] = found, each.power
            if here != part:
                return numbers, powers, done
    return numbers, powers, len(plan.passes)


def draws(
    plan: Plan, numbers: np.ndarray, powers: np.ndarray, whole: bool
) -> Iterator[np.ndarray]:
    r"""Yield codes (G, M) of N(0, I) within the cells, spread evenly over them.

    The mean of their decodings is E[x|cells], which has the least squared error. Where nothing is
    missing there is one, the middle of the cells.

    Args:
        plan: The plan.
        numbers: Those of the cells: (G, M).
        powers: How wide they are: (G, M).
        whole: Whether all passes are there.
    """
    live = np.array(plan.grid.live)[:, None]
    width = plan.grid.steps[:, None] * 3.0 ** np.maximum(powers, 0).astype(np.float64)
    middle = numbers * width
    if whole:
        yield np.where(live, middle, 0.0)
        return
    told = powers >= 0
    below = torch.special.ndtr(torch.from_numpy(middle - width / 2)).numpy()
    above = torch.special.ndtr(torch.from_numpy(middle + width / 2)).numpy()
    below, above = np.where(told, below, 0.0), np.where(told, above, 1.0)
    fine = (told & (width < _FINE)) | (above - below < 1e-9)
    for draw in range(_DRAWS):
        # A Latin hypercube: each latent goes through the parts of its cells in another order.
        order = (draw * np.arange(1, 2 * len(live), 2) + np.arange(len(live))) % _DRAWS
        share = ((order + 0.5) / _DRAWS)[:, None]
        at = torch.from_numpy(below + share * (above - below))
        inside = torch.special.ndtri(at).numpy()
        yield np.where(live, np.where(fine, middle, inside), 0.0)


def _table(plan: Plan, each: Pass) -> Numbers | Thirds:
    return Numbers(plan.step(each)) if each.first else Thirds(plan.step(each))


def _coarse(numbers: np.ndarray, power: int) -> np.ndarray:
    """Return the numbers of cells 3^power wide that hold numbers of steps."""
    width = 3**power
    return (numbers + width // 2) // width
