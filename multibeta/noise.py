"""The noise of evaluations, the same in every one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["evaluation_noise", "seeded"]


def evaluation_noise(
    loader: Any, batch_idx: int, n: int, shape: Sequence[int], samples: int | None = None
) -> Tensor:
    """Return the posterior noise of an evaluation batch, the same in every evaluation.

    It is a function of the batch's place in the data set alone, so that β's are compared on the
    same noise and a distributed evaluation gives the figures of a single process.

    Args:
        loader: Where the batch came from; its ``global_index`` gives the place of this process's
            batch among all batches.
        batch_idx: The batch's number in this process.
        n: Examples in the batch.
        shape: That of z.
        samples: The number K of further samples for each example, other than that of None.

    Returns:
        Standard normal noise: (n, *shape), or (K, n, *shape), float32, on the CPU.
    """
    place = getattr(loader, "global_index", lambda index: index)(batch_idx)
    generator = torch.Generator()
    if samples is None:
        return torch.randn(n, *shape, generator=generator.manual_seed(place))
    # Of a seed, a generator on the CPU reads 32 bits.
    return torch.randn(samples, n, *shape, generator=generator.manual_seed(place + 2**30))


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed, and leave torch's own generators as they were.

    Args:
        seed: The seed, below 2**32.
        device: What is drawn on, beside the CPU.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
