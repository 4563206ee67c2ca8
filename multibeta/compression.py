"""Files of examples: with a wanted number of bits or PSNR, and whose model they are of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from multibeta.checkpoints import SHIPPED, load
from multibeta.codec import Codec
from multibeta.codec.container import beta_at, unpack
from multibeta.codec.streams import coder
from multibeta.data.examples import on, rows_of
from multibeta.files import check_readable
from multibeta.metrics.psnr import psnr as psnr_of
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.noise import evaluation_noise

__all__ = ["encode_to", "model_of", "read_file", "shortest_beta"]

_LOOK = 8  # β's that are tried first, from the highest on
_SOME = 500  # examples that are tried at each


def encode_to(
    codec: Codec,
    x: Tensor,
    *,
    bits: float | None = None,
    psnr: float | None = None,
    peak: float | None = None,
    **inputs: Any,
) -> bytes:
    """Return a file with at most so many bits an example, or with at least such a PSNR.

    Files of up to 500 examples, spread over x, are written at β's between the ends, until the
    lowest β with few enough bits, or the highest with a PSNR that is high enough, is known to
    1.6 %. Then the whole is written; if it has more bits, at the next higher β, and so on.

    Args:
        codec: The codec.
        x: (N, *shape).
        bits: The most bits an example, the header's share included.
        psnr: The least mean PSNR, decibels.
        peak: The width of the range of x, for PSNR.
        inputs: As for :meth:`Codec.encode`.

    Raises:
        ValueError: If not exactly one of them is given, or no β has it.
    """
    if (bits is None) == (psnr is None):
        raise ValueError("give one of bits and psnr")
    if psnr is not None and peak is None:
        raise ValueError("PSNR needs the peak of x, which this model does not know; give bits")
    wanted = float(cast(float, psnr if bits is None else bits))
    some, given = _some(x, inputs)
    low, high = (codec.index(end) for end in codec.ends)

    def tried(index: int, of: Tensor, inputs: dict[str, Any]) -> tuple[float, bytes]:
        beta = min(max(beta_at(index), codec.ends[0]), codec.ends[1])
        data = codec.encode(of, beta, **inputs)
        if bits is not None:
            return 8 * len(data) / len(of), data
        return psnr_of(of.cpu(), codec.decode(data, **inputs), peak or 1.0).mean().item(), data

    def good(found: float) -> bool:
        return found <= wanted if bits is not None else found >= wanted

    # The best of what was not asked for is at one end: the lowest β, or the fewest bits.
    best, worst = (low, high) if bits is not None else (high, low)
    index = _first(lambda i: good(tried(i, some, given)[0]), best, worst)
    while index is not None and low <= index <= high:
        found, data = tried(index, x, inputs)
        if good(found):
            return data
        index += 1 if worst > best else -1
    unit, end = ("bits", "least") if bits is not None else ("dB", "most")
    nearest, _ = tried(worst, some, given)
    raise ValueError(
        f"{wanted:g} {unit} are out of reach: the {end} is near {nearest:.4g}, at β = "
        f"{beta_at(worst):.4g}"
    )


def _first(good: Callable[[int], bool], best: int, worst: int) -> int | None:
    """Return the first good number on the way from one to another; None if none is found."""
    last = best
    for k in range(_LOOK):
        index = round(best + (worst - best) * k / (_LOOK - 1))
        if good(index):
            break
        last = index
    else:
        return None
    while abs(index - last) > 1:
        middle = (index + last) // 2
        index, last = (middle, last) if good(middle) else (index, middle)
    return index


def shortest_beta(codec: Codec, x: Tensor, **inputs: Any) -> float:
    """Return the β of the least D + R, which is about the length of a lossless file.

    D + R of up to 500 examples, spread over x, is measured at 16 β's of the range.

    Args:
        codec: The codec.
        x: (N, *shape).
        inputs: As for :meth:`Codec.encode`.

    Raises:
        ValueError: If the likelihood is that of no discrete data.
    """
    low, high = (codec.index(end) for end in codec.ends)
    some, given = _some(x, inputs)
    noise = evaluation_noise(None, 0, len(some), codec.model.latent_shape)
    found = {}
    for index in sorted({round(low + (high - low) * k / 15) for k in range(16)}):
        vae = codec.vae(index)
        device = next(vae.parameters()).device
        with torch.no_grad():
            terms = vae.elbo_terms(some.to(device), noise.to(device), **on(given, device))
        found[index] = (terms.distortion + terms.rate_nats).mean().item()
    best = beta_at(min(found, key=lambda index: found[index]))
    return min(max(best, codec.ends[0]), codec.ends[1])


def _some(x: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return up to 500 examples, spread over all, and what else they have."""
    rows = torch.arange(min(_SOME, len(x))) * len(x) // max(1, min(_SOME, len(x)))
    return x[rows], rows_of(inputs, rows, len(x))


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give one that multibeta compress has written")
    check_readable(path)
    return path.read_bytes()


def model_of(data: bytes, runs: str | os.PathLike[str] = "runs") -> tuple[str, MultiBetaVAE]:
    """Return the model that made a file, and its name: one that is shipped, or of a run here.

    A file has a fingerprint of its model, or a checksum that depends on it, and no name.

    Args:
        data: The file.
        runs: The folder of runs, as ``multibeta fit`` writes them; the newest are tried first.

    Raises:
        ValueError: If it is no such file, no model fits, or constriction is missing.
    """
    unpack(data)
    coder()
    shipped = sorted(file.stem for file in SHIPPED.glob("*.ckpt"))
    folders = {file.parent.parent: file.stat().st_mtime
               for file in Path(runs).glob("*/*/checkpoints/last.ckpt")}  # fmt: skip
    newest = sorted(folders, key=lambda folder: -folders[folder])
    unread = []
    for name in [*shipped, *map(str, newest)]:
        try:
            model = load(name)
            if Codec(model).made(data):
                return name, model
        except (ValueError, OSError, RuntimeError) as error:
            unread.append(f"{name}: {error}")
    looked = f"{len(shipped)} shipped models and {len(newest)} runs in {runs}"
    left = f" ({len(unread)} could not be tried, the first {unread[0]})" if unread else ""
    raise ValueError(
        f"none of {looked} has made this file, or it is damaged; give --run RUN, the model that "
        f"made it{left}"
    )
