"""Pictures of examples: inputs and reconstructions, what a model makes, animations."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from multibeta.files import replacing
from multibeta.plots.drawing import (
    DPI,
    STYLE,
    canvas,
    figure_of,
    finished,
    number,
    panels,
    symbol,
    wrapped,
)

__all__ = ["CHANNELS", "ffmpeg", "frames", "grid", "over_betas", "signals", "strip"]

_MOST = 2**16  # pixels of a side that matplotlib draws
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")  # one a channel
CHANNELS = len(_DASHES)
"""How many channels of a signal are drawn."""
_SIGNALS, _SIGNAL_ROWS = 4, 7
_PAUSE = 0.25  # seconds that a frame stays
_GAP = 0.35  # of a row, between groups


def strip(
    inputs: np.ndarray,
    reconstructions: Mapping[float, np.ndarray],
    path: str | os.PathLike[str] | None = None,
    swept: str = "beta",
    rates: Mapping[float, float] | None = None,
    psnrs: Mapping[float, float] | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw inputs in the top row and their reconstructions below, β falling from row to row.

    Args:
        inputs: Pictures (N, C, H, W) with C = 1 or 3; of any other number the first channel is
            drawn, and the title says so.
        reconstructions: β → pictures like ``inputs``.
        path: The picture to write.
        swept: What differs from row to row, where it is not β.
        rates: β → R in nats, which stands beside the row.
        psnrs: β → PSNR in decibels, which stands below it.
        title: Text above; by default what the rows and numbers are.
        ax: Axes to draw into.
    """
    betas = sorted(reconstructions, reverse=True)
    pictures = [inputs, *(reconstructions[beta] for beta in betas)]
    labels = ["x"]
    for beta in betas:
        rate = "" if rates is None else f"\nR = {rates[beta]:.3g}"
        psnr = "" if psnrs is None else f"\n{psnrs[beta]:.1f} dB"
        labels.append(f"{symbol(swept)} = {number(beta)}{rate}{psnr}")
    # Pictures are in [0, 1]; other data is shown over the span of its inputs.
    span = (min(0.0, inputs.min()), max(1.0, inputs.max()))
    channels = inputs.shape[1]
    beside = ["R (nats, mean of the set)"] * (rates is not None)
    beside += ["PSNR (mean of the row)"] * (psnrs is not None)
    said = f"; beside each row {' and '.join(beside)}" if beside else ""
    some = "" if channels in (1, 3) else f", the first of {channels} channels"
    title = (title or f"Inputs x and their reconstructions{said}") + some
    return grid(pictures, labels, path, title, span, ax=ax)


def grid(
    rows: Sequence[np.ndarray],
    labels: Sequence[str],
    path: str | os.PathLike[str] | None = None,
    title: str = "",
    span: tuple[float, float] | None = None,
    columns: Sequence[str] = (),
    *,
    group: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Draw rows of pictures, or of signals, each row with a label.

    Args:
        rows: Each N pictures (N, C, H, W), of which 1 or 3 channels are drawn, or N signals
            (N, C, T), of which 4 are.
        labels: One a row.
        path: The picture to write.
        title: Text above.
        span: The values that are black and white, or the ends of the signals' axis; by default
            those of all rows, of pictures at least [0, 1].
        columns: Texts above the columns.
        group: How many rows stand together, counted from the last; 0 for no gaps.
        ax: Axes to draw into.

    Raises:
        ValueError: If they are more than a picture holds.
    """
    return finished(_grid(rows, labels, title, span, columns, group, ax=ax), path)


def over_betas(
    betas: Sequence[float],
    made: np.ndarray,
    path: str | os.PathLike[str] | None = None,
    title: str = "What the model makes at each β",
    span: tuple[float, float] | None = None,
    rows: Sequence[str] | None = None,
    x: np.ndarray | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw what a model makes at several β's: samples, traversals, paths, reconstructions.

    β falls from row to row. Of several rows at each β, such as one a latent, each is a group: one
    sees what β does to it.

    Args:
        betas: K β's.
        made: What :mod:`multibeta.generate` returns: (K, N, *shape), or (K, rows, N, *shape).
        path: The picture to write.
        title: Text above.
        span: As for :func:`grid`.
        rows: What the rows at each β are: "latent 3", one a row.
        x: Examples (N, *shape) for a row on top.
        ax: Axes to draw into.
    """
    order = np.argsort(betas, kind="stable")[::-1]
    top = [] if x is None else [("x", x)]
    if rows is None:
        every = [*top, *((f"β = {number(betas[k])}", made[k]) for k in order)]
    else:
        heads = [f"{name}\n" if len(order) > 1 else f"{name}, " for name in rows]
        every = [
            *top,
            *(
                (f"{heads[i] if k == order[0] else ''}β = {number(betas[k])}", made[k][i])
                for i in range(len(rows))
                for k in order
            ),
        ]
    labels, pictures = zip(*every, strict=True)
    group = len(order) if rows is not None and len(order) > 1 else 0
    return grid(pictures, labels, path, title, span, group=group, ax=ax)


def frames(
    of_each: Sequence[Sequence[tuple[str, np.ndarray]]],
    path: str | os.PathLike[str],
    title: str = "",
    span: tuple[float, float] | None = None,
) -> None:
    """Write an animation (.gif, .mp4): each frame is a :func:`grid`, forwards and back.

    Args:
        of_each: Frames of rows: label and pictures, as for :func:`grid`.
        path: The file to write.
        title: Text above.
        span: As for :func:`grid`.

    Raises:
        ValueError: If the name ends in something else, or an .mp4 is asked for without ffmpeg.
        OSError: If ffmpeg fails.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"animation {path} ends in {suffix or 'nothing'}; allowed: .gif, .mp4")
    program = ffmpeg() if suffix == ".mp4" else ""
    longest = max(_longest([label for label, _ in rows]) for rows in of_each)
    images = []
    for rows in of_each:
        labels, pictures = zip(*rows, strict=True)
        canvas = FigureCanvasAgg(_grid(pictures, labels, title, span, letters=longest))
        canvas.figure.set_dpi(120)
        canvas.draw()
        images.append(np.asarray(canvas.buffer_rgba())[..., :3])
    there_and_back = [*images, *images[-2:0:-1]]
    with replacing(path) as temporary:
        if suffix == ".gif":
            from PIL import Image

            first, *others = map(Image.fromarray, there_and_back)
            first.save(
                temporary, save_all=True, append_images=others, duration=int(1000 * _PAUSE),
                loop=0,
            )  # fmt: skip
        else:
            _film(program, [*there_and_back, images[0]], temporary)


def ffmpeg() -> str:
    """Return the path of the program that writes .mp4 files.

    Raises:
        ValueError: If there is none.
    """
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise ValueError(
            "an .mp4 needs ffmpeg, and there is none; pip install imageio-ffmpeg, or write a .gif"
        ) from None


def _film(program: str, images: Sequence[np.ndarray], path: Path) -> None:
    """Write frames (H, W, 3) as .mp4 that browsers play: even sides, 4:2:0."""
    height, width = images[0].shape[:2]
    pad = ((0, height % 2), (0, width % 2), (0, 0))
    raw = b"".join(np.pad(image, pad, constant_values=255).tobytes() for image in images)
    done = subprocess.run(
        [program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
         "-video_size", f"{width + width % 2}x{height + height % 2}",
         "-framerate", f"{1 / _PAUSE:g}", "-i", "-", "-r", "24", "-pix_fmt", "yuv420p",
         "-movflags", "+faststart", str(path)],
        input=raw, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().split("\n")[-1]
        raise OSError(f"ffmpeg could not write it: {why}")


def _grid(
    rows: Sequence[np.ndarray],
    labels: Sequence[str],
    title: str,
    span: tuple[float, float] | None,
    columns: Sequence[str] = (),
    group: int = 0,
    letters: int = 0,
    ax: Axes | None = None,
) -> Figure:
    least, greatest = min(row.min() for row in rows), max(row.max() for row in rows)
    n, shape = len(rows[0]), rows[0].shape[2:]
    pictures = len(shape) == 2
    if span is None:
        span = (min(0.0, least), max(1.0, greatest)) if pictures else (least, greatest)
    cell_height, cell_width = 0.6, 1.2 if not pictures else min(0.6 * shape[1] / shape[0], 1.2)
    before = -len(rows) % group if group else 0
    tops = [y + _GAP * ((y + before) // group if group else 0) for y in range(len(rows))]
    deep = tops[-1] + 1
    middles = np.array(tops) + 0.5
    if ax is None:
        margin = 0.35 + 0.07 * max(letters, _longest(labels))
        size = [n * cell_width + margin + 0.05, deep * cell_height]
        title = wrapped(title, size[0]) if title else ""
        above = 0.08 + 0.17 * len(title.split("\n")) if title else 0.0
        above += 0.25 * bool(columns)
        size[1] += above
        if max(size) * DPI > _MOST:
            raise ValueError(
                f"{len(rows)} rows of {n} do not fit into a picture; write fewer, or numbers "
                "(.npz), or a folder"
            )
        figure = Figure(figsize=(size[0], size[1]))
        # One axes for all: fifty of them would take longer than a short training.
        axes = figure.add_subplot()
        top = 0.99 - above / size[1]
        figure.subplots_adjust(left=margin / size[0], right=0.995, bottom=0.01, top=top)
        if title:
            figure.suptitle(title, x=0.01, ha="left", y=1 - 0.05 / size[1], **STYLE)
    else:
        figure, axes = canvas(ax, (0, 0), title)
    for y, row in zip(tops, rows, strict=True):
        for x, example in enumerate(row):
            if pictures:
                axes.imshow(
                    _as_shown(example, span), cmap="gray", vmin=0, vmax=1, aspect="auto",
                    extent=(x + 0.025, x + 0.975, y + 0.975, y + 0.025),
                )  # fmt: skip
                continue
            places = np.linspace(x + 0.05, x + 0.95, shape[0])
            for channel, dash in zip(example, _DASHES, strict=False):
                heights = (channel - span[0]) / max(span[1] - span[0], 1e-12)
                axes.plot(places, y + 0.95 - 0.9 * heights, dash, color="tab:blue", linewidth=0.8)
    axes.set(xlim=(0, n), ylim=(deep, 0))
    axes.set_yticks(middles, labels, **STYLE)
    axes.set_xticks([])
    if columns:
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(n) + 0.5, columns, **STYLE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def signals(
    x: np.ndarray,
    reconstructions: Mapping[float, np.ndarray],
    path: str | os.PathLike[str] | None = None,
    swept: str = "beta",
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw signals in grey and their reconstructions over them, β falling from row to row.

    The first 4 signals, of them 4 channels, each in a style of line, and 7 of the β's at most.

    Args:
        x: (N, C, T).
        reconstructions: β → signals like ``x``.
        path: The picture to write.
        swept: What differs from row to row, where it is not β.
        figure: A Figure or SubFigure to draw into.
    """
    found = sorted(reconstructions, reverse=True)
    count = min(_SIGNAL_ROWS, len(found))
    betas = [found[round(i * (len(found) - 1) / max(1, count - 1))] for i in range(count)]
    n, channels = min(_SIGNALS, len(x)), min(len(_DASHES), x.shape[1])
    some = f", the first {channels} of {x.shape[1]} channels" if channels < x.shape[1] else ""
    part = panels(
        figure, (1.2 + 1.9 * n, 1.5 + 0.8 * count), f"Signals and their reconstructions{some}"
    )
    grid = part.subplots(count, n, sharex=True, sharey="col", squeeze=False)
    for axes_row, beta in zip(grid, betas, strict=True):
        for axes, signal, again in zip(axes_row, x, reconstructions[beta], strict=False):
            for channel in range(channels):
                dash = _DASHES[channel]
                axes.plot(signal[channel], dash, color="0.6", linewidth=1.6)
                axes.plot(again[channel], dash, color="tab:blue", linewidth=0.9)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7)
            axes.margins(x=0.01)
        axes_row[0].set_ylabel(
            f"{symbol(swept)} = {number(beta)}", rotation=0, ha="right", va="center", **STYLE
        )
    part.supxlabel("position in the signal", **STYLE)
    lines = [
        Line2D([], [], color="0.6", linewidth=1.6, label="x"),
        Line2D([], [], color="tab:blue", linewidth=0.9, label="reconstruction"),
        *(
            Line2D([], [], color="0.3", linewidth=0.9, linestyle=dash, label=f"channel {channel}")
            for channel, dash in enumerate(_DASHES[: channels if channels > 1 else 0])
        ),
    ]
    part.legend(
        handles=lines, loc="outside upper center", ncols=min(len(lines), 1 + n), frameon=False,
        **STYLE,
    )  # fmt: skip
    return finished(figure_of(part), path)


def _as_shown(picture: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Return (H, W, 3) or (H, W) in [0, 1] for a picture (C, H, W)."""
    scaled = np.clip((picture - span[0]) / (span[1] - span[0]), 0, 1)
    return scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled[0]


def _longest(labels: Sequence[str]) -> int:
    """Return the letters that the labels of rows need."""
    return max(7, *(len(line) for label in labels for line in label.split("\n")))
