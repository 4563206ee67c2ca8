"""Pictures of posteriors: rates of latents, aggregated posteriors, codes with labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from multibeta.plots.drawing import (
    MAP,
    STYLE,
    canvas,
    figure_of,
    finished,
    number,
    panels,
    symbol,
    with_grid,
)

__all__ = ["alignment", "codes", "latents"]

# Nine colours that the colour-blind tell apart (Paul Tol's "muted"), and black.
_CLASSES = (
    "#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#44aa99", "#882255", "#999933",
    "#aa4499", "#000000",
)  # fmt: skip
_OTHERS = "#bfbfbf"
_NAME: dict[str, Any] = {"fontsize": 8, "weight": "bold", "ha": "center", "va": "center"}


def latents(
    betas: Sequence[float],
    rates: np.ndarray,
    path: str | os.PathLike[str] | None = None,
    title: str = "The rate of each latent at each β",
    swept: str = "beta",
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw what each latent carries at each β: where it goes dark, it has switched off.

    Args:
        betas: K β's, rising.
        rates: KL(q(z_j|x) ‖ p(z_j)), the mean over examples, nats: (K, Z).
        path: The picture to write.
        title: Text above the axes.
        swept: What they are, where it is not β.
        ax: Axes to draw into.
    """
    order = np.argsort(-rates.sum(0), kind="stable")
    figure, axes = canvas(ax, (5.2, 3.8), title)
    # Square roots: a latent with a tenth of a nat is on, and to be seen.
    image = axes.imshow(
        np.sqrt(rates[:, order].T), aspect="auto", cmap=MAP, interpolation="nearest", vmin=0
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    ticks = np.array([t for t in (0, 0.1, 0.5, 1, 2, 3, 5, 8, 12) if t <= max(rates.max(), 0.1)])
    bar.set_ticks(list(np.sqrt(ticks)), labels=[f"{tick:g}" for tick in ticks])
    bar.set_label("rate of the latent (nats)")
    shown = range(0, len(betas), max(1, len(betas) // 8))
    axes.set_xticks(list(shown), [number(betas[i]) for i in shown], fontsize=8)
    axes.set_xlabel(symbol(swept))
    every = max(1, len(order) // 16)
    axes.set_yticks(range(0, len(order), every), [str(j) for j in order[::every]])
    axes.set_ylabel("latent, the busiest first")
    return finished(figure, path)


def alignment(
    rows: Sequence[Mapping[str, float]],
    histograms: np.ndarray,
    numbers: Sequence[int],
    span: tuple[float, float],
    path: str | os.PathLike[str] | None = None,
    beside: Mapping[int, np.ndarray] | None = None,
    swept: str = "beta",
    title: str = "The codes of chosen latents over β (blue) beside the prior (line)",
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw how the aggregated posterior of chosen latents changes with β, and their alignment.

    Above, rows of histograms, β falling, beside the prior, and to their right those of dedicated
    models; below, the correlation of each latent with itself at the next higher β.

    Args:
        rows: K rows, one a β, rising, with ``beta, next_correlation, next_cka``, and with
            dedicated models ``against_next_correlation, against_next_cka``.
        histograms: Densities of q(z_j) of the chosen latents: (K, latents, bins).
        numbers: Which latents they are.
        span: The lowest and highest code of the histograms.
        path: The picture to write.
        beside: The number of a row → densities of the dedicated model at its β: (latents, bins).
        swept: The column that differs from row to row, where it is another than β.
        title: Text above.
        figure: A Figure or SubFigure to draw into.
    """
    betas, letter = [row[swept] for row in rows], symbol(swept)
    able = sorted(beside) if beside else range(len(betas))
    last = len(able) - 1
    few = sorted({able[round(i * last / 5)] for i in range(6)}, reverse=True)
    columns = histograms.shape[1]
    blocks = {"one model": histograms} | ({"dedicated models": beside} if beside else {})
    width, height = (
        (0.95 if beside else 1.25) * columns * len(blocks) + 0.9,
        0.62 * len(few) + (0.3 if beside else 0),
    )
    whole = panels(figure, (width, height + 2.6), title)
    parts: Any = whole.subfigures(2, 1, height_ratios=[height, 2.0])
    above: Any = parts[0].subfigures(1, len(blocks), squeeze=False, wspace=0.03)[0]
    for block, (name, densities) in zip(above, blocks.items(), strict=True):
        if beside:
            block.suptitle(name, **STYLE)
        grid = block.subplots(len(few), columns, sharex=True, sharey=True, squeeze=False)
        for axes_row, k in zip(grid, few, strict=True):
            _histograms(axes_row, densities[k], span)
            axes_row[0].set_ylabel(
                f"{letter} = {number(betas[k])}", rotation=0, ha="right", va="center", **STYLE
            )
        for axes, latent in zip(grid[0], numbers, strict=True):
            axes.set_title(f"latent {latent}", **STYLE)
    axes = parts[1].subplots()
    for name, label in {"correlation": "correlation", "cka": "linear CKA"}.items():
        (line,) = axes.semilogx(
            betas, [row[f"next_{name}"] for row in rows], "o-", markersize=3.5, label=label
        )
        if beside:
            points = [(betas[k], rows[k][f"against_next_{name}"]) for k in able]
            axes.plot(
                *zip(*points, strict=True), "D--", color=line.get_color(), markersize=4,
                label=f"{label}, dedicated models",
            )  # fmt: skip
    axes.set_xlim(betas[0] / 1.15, betas[-1] * 1.15)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel(f"{letter}; the highest has none above it")
    axes.set_ylabel(f"with the next higher {letter}", **STYLE)
    axes.set_ylim(top=1.02)
    with_grid(axes)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), **STYLE)
    return finished(figure_of(whole), path)


def _histograms(row: Sequence[Any], densities: np.ndarray, span: tuple[float, float]) -> None:
    """Draw densities (latents, bins), one an axes, beside that of the prior."""
    edges = np.linspace(*span, densities.shape[1] + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    prior = np.exp(-(middles**2) / 2) / np.sqrt(2 * np.pi)
    for axes, density in zip(row, densities, strict=True):
        axes.fill_between(middles, density, color="tab:blue", alpha=0.6, linewidth=0)
        axes.plot(middles, prior, color="0.3", linewidth=0.8)
        axes.set(yticks=[], xticks=[-3, 0, 3])
        axes.spines[["top", "right", "left"]].set_visible(False)


def codes(
    betas: Sequence[float],
    mean: np.ndarray,
    std: np.ndarray,
    labels: np.ndarray | None = None,
    path: str | os.PathLike[str] | None = None,
    title: str = "Codes: means of q(z|x)",
    name: str = "label",
    by: Literal["rate", "pca"] = "rate",
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw the codes of examples in a plane, a panel a β, coloured by their labels.

    The plane is that of two latents, or of two principal components, the same at every β; the
    circle holds 95 % of the prior. Of more than 10 labels the 9 most frequent have colours, and
    the legend counts the others; more than 10 different numbers are colours of a scale. Each
    label is also written at the median of its codes, where there is room.

    Args:
        betas: K β's.
        mean: Means of q(z|x): (K, N, *latent shape).
        std: Standard deviations, of the same shape.
        labels: (N,), numbers or words.
        path: The picture to write.
        title: Text above.
        name: What the labels are.
        by: ``rate``: the two latents with the most rate, KL(q(z_j|x) ‖ p(z_j)), over all β's and
            examples; ``pca``: the two directions in which the means of all β's vary most.
        figure: A Figure or SubFigure to draw into.

    Raises:
        ValueError: If there are fewer than two latents, or ``by`` is something else.
    """
    if by not in ("rate", "pca"):
        raise ValueError(f"by={by} is unknown; allowed: rate, pca")
    k, n = mean.shape[:2]
    mean, std = (of.reshape(k, n, -1).astype(np.float64) for of in (mean, std))
    if mean.shape[2] < 2:
        raise ValueError("codes of one latent have no plane; a picture of them needs two latents")
    if by == "rate":
        rates = (mean**2 + std**2 - 1 - 2 * np.log(std)).sum((0, 1)) / 2
        pair = np.sort(np.argsort(-rates, kind="stable")[:2])
        points, axis_names = mean[..., pair], [f"latent {j}" for j in pair]
    else:
        flat = mean.reshape(k * n, -1)
        centred = flat - flat.mean(0)
        _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
        shares = sizes**2 / max((sizes**2).sum(), 1e-300)
        points = flat.reshape(k, n, -1) @ directions[:2].T  # the prior stays in the middle
        axis_names = [f"component {i + 1} ({shares[i]:.0%} of variance)" for i in range(2)]
    part = panels(figure, (3.0 * k + 1.2, 3.5), title)
    row = part.subplots(1, k, sharex=True, sharey=True, squeeze=False)[0]
    scale = labels is not None and labels.dtype.kind in "biuf" and len(np.unique(labels)) > 10
    groups = [] if scale else _groups(labels, n)
    colours: Any = labels if scale else np.full(n, _OTHERS, dtype=object)
    for _, colour, chosen in groups:
        colours[chosen] = colour
    reach = 1.05 * max(2.5, float(np.abs(points).max()))
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = np.sqrt(-2 * np.log(0.05)) * np.stack([np.cos(turn), np.sin(turn)])
    halo = [withStroke(linewidth=2, foreground="white")]
    for axes, beta, of_beta in zip(row, betas, points, strict=True):
        axes.plot(*circle, color="0.6", linewidth=0.8)
        drawn = axes.scatter(
            *of_beta.T, c=colours, cmap=MAP if scale else None, s=7, alpha=0.7, linewidth=0
        )
        written: list[np.ndarray] = []
        for label, colour, chosen in groups if labels is not None else ():
            place = np.median(of_beta[chosen], 0)
            room = all(np.abs(place - other).max() > 0.12 * reach for other in written)
            if colour != _OTHERS and room:
                written.append(place)
                axes.text(*place, label, path_effects=halo, **_NAME)
        axes.set_title(f"β = {number(beta)}", **STYLE)
        axes.set_xlabel(axis_names[0])
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), box_aspect=1)
        axes.spines[["top", "right"]].set_visible(False)
    row[0].set_ylabel(axis_names[1])
    if scale:
        part.colorbar(drawn, ax=list(row), pad=0.02).set_label(name)
    handles = [
        Line2D([], [], marker="o", linestyle="none", markersize=4, color=colour, label=label)
        for label, colour, _ in groups
    ]
    handles.append(Line2D([], [], color="0.6", linewidth=0.8, label="95 % of the prior"))
    row[0 if scale else -1].legend(
        handles=handles, frameon=False, title=None if scale or labels is None else name,
        title_fontsize=9, **STYLE,
        **({"loc": "upper left"} if scale else {"loc": "center left", "bbox_to_anchor": (1, 0.5)}),
    )  # fmt: skip
    return finished(figure_of(part), path)


def _groups(labels: np.ndarray | None, n: int) -> list[tuple[str, str, np.ndarray]]:
    """Return the name, the colour and the examples of each label, the others last."""
    if labels is None:
        return [("example", _CLASSES[0], np.ones(n, bool))]
    words, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    most = len(_CLASSES) if len(words) <= len(_CLASSES) else len(_CLASSES) - 1
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    found = [
        (_short(words[j]), colour, of == j) for j, colour in zip(kept, _CLASSES, strict=False)
    ]
    rest = ~np.isin(of, kept)
    if rest.any():
        found.append((f"{len(words) - len(kept)} others", _OTHERS, rest))
    return found


def _short(word: Any) -> str:
    text = f"{word:g}" if isinstance(word, np.floating) else str(word)
    return text if len(text) <= 16 else f"{text[:15]}…"
