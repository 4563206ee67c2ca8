"""How many pictures a codec takes in a second of processor time, and the share of the network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from multibeta.codec import Codec
from multibeta.vae import BetaVAE

__all__ = ["in_network", "speed"]

ROUNDS = 2


@contextlib.contextmanager
def in_network() -> Iterator[list[float]]:
    """Yield a list of the processor seconds of each call of a network, backwards ones too."""
    seconds: list[float] = []
    depth = 0

    def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            nonlocal depth
            depth, start = depth + 1, time.process_time()
            try:
                return call(*given, **named)
            finally:
                depth -= 1
                if not depth:
                    seconds.append(time.process_time() - start)

        return timed

    with (
        patch.object(BetaVAE, "encode", clocked(BetaVAE.encode)),
        patch.object(BetaVAE, "decode", clocked(BetaVAE.decode)),
        patch.object(BetaVAE, "output", clocked(BetaVAE.output)),
        patch.object(torch.autograd, "grad", clocked(torch.autograd.grad)),
    ):
        yield seconds


def speed(codec: Codec, x: Tensor, beta: float) -> dict[str, Any]:
    """Return pictures a second of processor time, the best round's, and the network's share of it.

    Args:
        codec: The codec; what it keeps is made by a first call.
        x: (N, C, H, W).
        beta: β.
    """
    file = codec.encode(x[:2], beta)
    codec.decode(file)
    found: dict[str, Any] = {}
    file = b""
    for way in ("encode", "decode"):
        best = float("inf")
        for _ in range(ROUNDS):
            with in_network() as seconds:
                start = time.process_time()
                if way == "encode":
                    file = codec.encode(x, beta)
                else:
                    codec.decode(file)
                took = time.process_time() - start
            if took < best:
                best, share = took, sum(seconds) / took
        found[way] = {"pictures_a_second": len(x) / best, "network_share": share}
    return found
