"""Pictures of what was measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from multibeta.files import replacing

__all__ = ["rate_distortion", "several", "strip"]

_STYLE: dict[str, Any] = {"fontsize": 9}
_COLOURS = "viridis"


def rate_distortion(
    rows: Sequence[Mapping[str, float]],
    path: str | os.PathLike[str],
    title: str = "",
    beside: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> None:
    """Draw distortion against rate, coloured by β.

    Args:
        rows: One a β, with ``beta, rate_nats, rate_se, distortion_nats, distortion_se`` and, if
            known, ``optimal_rate_nats, optimal_distortion_nats``.
        path: The picture to write; its suffix chooses the format.
        title: Text above the axes.
        beside: Label → rows of other models, drawn as diamonds of the same colours.
    """

    def column(name: str, of: Sequence[Mapping[str, float]] = rows) -> np.ndarray:
        return np.array([row[name] for row in of], dtype=float)

    beta, rate, distortion = column("beta"), column("rate_nats"), column("distortion_nats")
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(rate, distortion, color="0.75", linewidth=1, zorder=1)
    axes.errorbar(
        rate,
        distortion,
        xerr=np.nan_to_num(column("rate_se")),
        yerr=np.nan_to_num(column("distortion_se")),
        fmt="none",
        ecolor="0.45",
        elinewidth=0.8,
        capsize=2,
        zorder=2,
        label="± 1 s.e.",
    )
    low, high = beta.min(), beta.max()
    norm = LogNorm(low, high) if low < high else LogNorm(low / 2, high * 2)
    points = axes.scatter(
        rate, distortion, c=beta, cmap=_COLOURS, norm=norm, s=26, zorder=3, edgecolor="white",
        linewidth=0.5, label="measured",
    )  # fmt: skip
    if "optimal_rate_nats" in rows[0]:
        axes.plot(
            column("optimal_rate_nats"), column("optimal_distortion_nats"), "k+", markersize=7,
            markeredgewidth=0.9, zorder=4, label="closed-form optimum",
        )  # fmt: skip
    for label, others in (beside or {}).items():
        axes.scatter(
            column("rate_nats", others), column("distortion_nats", others),
            c=column("beta", others), cmap=_COLOURS, norm=norm, s=70, marker="D", zorder=5,
            edgecolor="black", linewidth=1.1, label=label,
        )  # fmt: skip
    bar = figure.colorbar(points, ax=axes, pad=0.02)
    bar.set_label("β", rotation=0, labelpad=8)
    bar.ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("rate R (nats per example)")
    axes.set_ylabel("distortion D (nats per example)")
    axes.set_title(title, loc="left", **_STYLE)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, **_STYLE)
    _save(figure, path)


def several(
    curves: Mapping[str, Sequence[Mapping[str, float]]], path: str | os.PathLike[str]
) -> None:
    """Draw the distortion of several curves against their rate.

    Args:
        curves: Label → rows, one a β.
        path: The picture to write; its suffix chooses the format.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for index, (label, rows) in enumerate(curves.items()):
        points = sorted((row["rate_nats"], row["distortion_nats"]) for row in rows)
        axes.plot(
            *zip(*points, strict=True), marker="osD^vP*X"[index % 8], markersize=5, linewidth=1,
            alpha=0.85, label=label,
        )  # fmt: skip
    axes.set_xlabel("rate R (nats per example)")
    axes.set_ylabel("distortion D (nats per example)")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, **_STYLE)
    _save(figure, path)


def strip(
    inputs: np.ndarray,
    reconstructions: Mapping[float, np.ndarray],
    path: str | os.PathLike[str],
) -> None:
    """Draw inputs in the top row and their reconstructions below, β falling from row to row.

    Args:
        inputs: (N, C, H, W) with C = 1 or 3 (the first channel of any other number is drawn).
        reconstructions: β → pictures like ``inputs``.
        path: The picture to write.
    """
    betas = sorted(reconstructions, reverse=True)
    pictures = [inputs, *(reconstructions[beta] for beta in betas)]
    labels = ["x", *(f"β = {beta:.2g}" for beta in betas)]
    n, _, height, width = inputs.shape
    # Pictures are in [0, 1]; other data is shown over the span of its inputs.
    span = (min(0.0, inputs.min()), max(1.0, inputs.max()))
    cell_height, cell_width = 0.6, min(0.6 * width / height, 1.2)
    figure = Figure(figsize=(n * cell_width + 0.9, len(pictures) * cell_height))
    grid = figure.subplots(len(pictures), n, squeeze=False)
    left = 0.85 / figure.get_figwidth()
    figure.subplots_adjust(left=left, right=0.995, bottom=0.01, top=0.99, wspace=0.05, hspace=0.05)
    for axes_row, row, label in zip(grid, pictures, labels, strict=True):
        for axes, picture in zip(axes_row, row, strict=True):
            axes.imshow(_as_shown(picture, span), cmap="gray", vmin=0, vmax=1, aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(label, rotation=0, ha="right", va="center", **_STYLE)
    _save(figure, path)


def _as_shown(picture: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Return (H, W, 3) or (H, W) in [0, 1] for a picture (C, H, W)."""
    scaled = np.clip((picture - span[0]) / (span[1] - span[0]), 0, 1)
    return scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled[0]


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=200)
