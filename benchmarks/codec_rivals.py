"""Sizes and PSNR of picture files: JPEG, JPEG 2000, WebP and AVIF, as Pillow writes them.

Each picture is a file of its own, counted whole and without what says no more than the format,
the size and the tables; and all pictures are one file, side by side as one large picture. Each
setting is also tried on pictures of half the size, which are enlarged again: at low rates that is
better than the lowest quality.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

__all__ = ["EXACT_DB", "FORMATS", "Format", "best", "measured", "payload", "psnr_db", "sheet"]

EXACT_DB = 10 * math.log10(12 * 255**2)
"""PSNR of rounding to 8 bits, 58.9 dB: what a picture that comes back exactly is counted as."""

COLUMNS = 40
"""Pictures in a row of a sheet."""


@dataclass(frozen=True)
class Format:
    """A format and the settings that are tried.

    Args:
        name: Pillow's.
        label: In tables.
        grid: Setting → values, of every picture.
        grey: Further ones, for grey pictures.
        colour: Further ones, for pictures in colour.
    """

    name: str
    label: str
    grid: dict[str, tuple[Any, ...]]
    grey: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    colour: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def settings(self, channels: int) -> Iterator[dict[str, Any]]:
        """Yield all settings for pictures of so many channels."""
        grid = {**self.grid, **(self.grey if channels == 1 else self.colour)}
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))


FORMATS = (
    Format(
        "JPEG", "JPEG",
        {"quality": (1, 2, 4, 6, 8, 11, 15, 20, 30, 40, 50, 60, 70, 80, 90), "optimize": (True,)},
        colour={"subsampling": ("4:2:0", "4:4:4")},
    ),
    Format(
        "JPEG2000", "JPEG 2000",
        {"quality_layers": tuple([db] for db in (10, 12, *range(14, 36, 2), 40)),
         "quality_mode": ("dB",), "irreversible": (True,), "no_jp2": (True,),
         "num_resolutions": (2, 3, 4)},
    ),
    Format(
        "WEBP", "WebP",
        {"quality": (0, 1, 2, 4, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90), "method": (6,)},
    ),
    Format(
        "AVIF", "AVIF",
        {"quality": (0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90), "speed": (6,),
         "advanced": ({}, {"enable-palette": "0"}), "max_threads": (1,)},
        grey={"subsampling": ("4:0:0",)}, colour={"subsampling": ("4:2:0", "4:4:4")},
    ),
)  # fmt: skip


def picture(x: np.ndarray) -> Image.Image:
    """Return 8-bit values (C, H, W) as a picture, grey or in colour."""
    return Image.fromarray(x[0] if len(x) == 1 else np.moveaxis(x, 0, -1))


def written(image: Image.Image, name: str, settings: dict[str, Any]) -> bytes:
    """Return the file that Pillow makes."""
    file = io.BytesIO()
    image.save(file, name, **settings)
    return file.getvalue()


def opened(file: bytes, channels: int) -> np.ndarray:
    """Return the values of a file's picture: (C, H, W), 8-bit."""
    return _values(Image.open(io.BytesIO(file)).convert("L" if channels == 1 else "RGB"))


def _values(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def psnr_db(x: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Return the PSNR of each picture (N, C, H, W) of 8 bits; an exact one has ``EXACT_DB``."""
    error = np.square(again.astype(float) - x).reshape(len(x), -1).mean(1)
    return 10 * np.log10(255**2 / np.maximum(error, 1 / 12))


def payload(file: bytes, name: str) -> int:
    """Return the bytes of a file that hold entropy-coded values, without headers and tables.

    JPEG: what follows the header of the one scan, less the end marker. JPEG 2000: the packets of
    the one tile. WebP: the chunk ``VP8`` less its frame header of 10 bytes. AVIF: the frames among
    the units of ``mdat``.

    Args:
        file: As :func:`written`.
        name: Pillow's name of the format.

    Raises:
        ValueError: If the file is built otherwise.
    """
    return {"JPEG": _jpeg, "JPEG2000": _jpeg2000, "WEBP": _webp, "AVIF": _avif}[name](file)


def _jpeg(file: bytes) -> int:
    return len(file) - _after(file, start=2, last=0xDA) - 2


def _jpeg2000(file: bytes) -> int:
    return len(file) - _after(file, start=2, last=0x93) - 2


def _after(file: bytes, start: int, last: int) -> int:
    """Return where the marker segments end: after that of the marker ``last``."""
    while file[start] == 0xFF:
        marker = file[start + 1]
        start += 2
        if marker != 0x93:  # start of data in JPEG 2000, which has no length
            start += int.from_bytes(file[start : start + 2], "big")
        if marker == last:
            return start
    raise ValueError(f"a marker is wanted at byte {start}, and {file[start]:#x} is there")


def _webp(file: bytes) -> int:
    if file[12:16] != b"VP8 ":
        raise ValueError(f"the chunk is {file[12:16]!r}; only simple lossy files are taken apart")
    return int.from_bytes(file[16:20], "little") - 10


def _avif(file: bytes) -> int:
    start = 0
    while start < len(file):
        size, kind = int.from_bytes(file[start : start + 4], "big"), file[start + 4 : start + 8]
        if kind == b"mdat":
            return _frames(file[start + 8 : start + size])
        start += size
    raise ValueError("the file has no box mdat")


def _frames(units: bytes) -> int:
    """Return the bytes of the AV1 units of kind 3, 4 and 6: frames, whole or in parts."""
    start, total = 0, 0
    while start < len(units):
        kind, start = units[start] >> 3 & 15, start + 1
        size, shift = 0, 0
        while True:
            byte, start = units[start], start + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        total += size if kind in (3, 4, 6) else 0
        start += size
    return total


def sheet(x: np.ndarray) -> np.ndarray:
    """Return pictures (N, C, H, W) side by side, each on the next multiple of 8 pixels, as one."""
    n, channels, height, width = x.shape
    tall, wide = (-(-side // 8) * 8 for side in (height, width))
    lines = -(-n // COLUMNS)
    tiles = np.zeros((lines * COLUMNS, channels, tall, wide), np.uint8)
    tiles[:n, :, :height, :width] = x
    grid = tiles.reshape(lines, COLUMNS, channels, tall, wide).transpose(2, 0, 3, 1, 4)
    return grid.reshape(channels, lines * tall, COLUMNS * wide)


def unsheet(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the pictures of a sheet; the inverse of :func:`sheet`."""
    n, channels, height, width = like.shape
    tall, wide = (-(-side // 8) * 8 for side in (height, width))
    grid = values.reshape(channels, -1, tall, COLUMNS, wide).transpose(1, 3, 0, 2, 4)
    return grid.reshape(-1, channels, tall, wide)[:n, :, :height, :width]


def measured(x: Tensor | np.ndarray, of: Format) -> list[dict[str, Any]]:
    """Return bits a picture, the three ways, and the mean PSNR, for each setting of a format.

    Args:
        x: Pictures: (N, C, H, W), 8-bit.
        of: The format.
    """
    x = np.asarray(x)
    rows = []
    for half, settings in itertools.product((False, True), of.settings(x.shape[1])):
        small = resized(x, tuple(-(-side // 2) for side in x.shape[2:])) if half else x
        files = [written(picture(one), of.name, settings) for one in small]
        again = np.stack([opened(file, x.shape[1]) for file in files])
        file = written(picture(sheet(small)), of.name, settings)
        together = unsheet(opened(file, x.shape[1]), small)
        rows.append({
            "settings": settings,
            "half": half,
            "bits_whole": 8 * float(np.mean([len(file) for file in files])),
            "bits_payload": 8 * float(np.mean([payload(file, of.name) for file in files])),
            "psnr_db": float(psnr_db(x, resized(again, x.shape[2:])).mean()),
            "sheet_bits": 8 * len(file) / len(x),
            "sheet_psnr_db": float(psnr_db(x, resized(together, x.shape[2:])).mean()),
        })  # fmt: skip
    return rows


def resized(x: np.ndarray, to: tuple[int, ...]) -> np.ndarray:
    """Return pictures (N, C, H, W) at another height and width, by Lanczos' filter."""
    if x.shape[2:] == to:
        return x
    size = to[1], to[0]
    each = [picture(one).resize(size, Image.Resampling.LANCZOS) for one in x]
    return np.stack([_values(image) for image in each])


def best(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (bits, PSNR) that no other beats in both, by bits."""
    found: list[tuple[float, float]] = []
    for bits, psnr in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or psnr > found[-1][1]:
            found.append((bits, psnr))
    return found
