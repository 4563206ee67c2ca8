"""A picture of pictures: each in a file of its own, and the file cut shorter and shorter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from multibeta.codec import Codec, cut
from multibeta.files import replacing

__all__ = ["beginnings", "draw_strip"]


def beginnings(codec: Codec, x: Tensor, lengths: Sequence[int]) -> tuple[list[Tensor], list[int]]:
    """Return what files of one picture give when cut to some lengths, and at their whole length.

    Args:
        codec: The codec.
        x: (N, C, H, W), in [0, 1].
        lengths: In bytes, the header's included.

    Returns:
        For each length, and for whole files, the pictures (N, C, H, W); and the whole lengths.
    """
    files = [codec.encode(one[None], progressive=True) for one in x]
    rows = [torch.cat([codec.read(cut(file, length)).x for file in files]) for length in lengths]
    rows.append(torch.cat([codec.read(file).x for file in files]))
    return rows, [len(file) for file in files]


def draw_strip(codec: Codec, x: Tensor, lengths: Sequence[int], path: Path) -> None:
    """Draw pictures as files of so many bytes have them, a row a length, the pictures first.

    Args:
        codec: The codec.
        x: (N, C, H, W), in [0, 1].
        lengths: In bytes.
        path: The picture.
    """
    rows, whole = beginnings(codec, x, lengths)
    labels = ["pictures", f"whole:\n{min(whole)} to {max(whole)} bytes"]
    labels += [f"{length} bytes" for length in reversed(lengths)]
    lines = [x, rows[-1], *reversed(rows[:-1])]
    figure = Figure(figsize=(9.6, 0.56 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(lines), 1)
    for axes, line, label in zip(panels, lines, labels, strict=True):
        tiles = np.pad(line.numpy(), ((0, 0), (0, 0), (0, 0), (0, 2)), constant_values=1)
        strip = np.concatenate([*np.moveaxis(tiles, 1, -1)], 1)
        axes.imshow(strip.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
