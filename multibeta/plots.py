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
from matplotlib.lines import Line2D

from multibeta.files import replacing

__all__ = [
    "CHANNELS",
    "alignment",
    "frames",
    "grid",
    "latents",
    "measured",
    "number",
    "plane",
    "rate_distortion",
    "scores",
    "several",
    "signals",
    "strip",
]

_STYLE: dict[str, Any] = {"fontsize": 9}
_COLOURS = "viridis"
_DPI, _MOST = 200, 2**16  # pixels of a side that matplotlib draws
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")  # one a channel
CHANNELS = len(_DASHES)
"""How many channels of a signal are drawn."""
_SIGNALS, _SIGNAL_ROWS = 4, 7


def measured(row: Mapping[str, Any], name: str, unit: str = "nats") -> tuple[str, str]:
    """Return the column of D or of D + βR, and its label.

    Args:
        row: A row of a curve, with ``distortion_nats``, or ``distortion`` in units of its own.
        name: ``distortion`` or ``objective``.
        unit: The unit of D, or the name of the distortion function.

    Example:
        >>> measured({"distortion_nats": 1.0}, "distortion")
        ('distortion_nats', 'distortion D (nats per example)')
        >>> measured({"objective": 1.0}, "objective", "L1")
        ('objective', 'objective D + βR (L1)')
    """
    column = f"{name}_nats" if f"{name}_nats" in row else name
    unit = "nats per example" if unit == "nats" else unit
    return column, f"{name} {'D' if name == 'distortion' else 'D + βR'} ({unit})"


def rate_distortion(
    rows: Sequence[Mapping[str, float]],
    path: str | os.PathLike[str],
    title: str = "",
    beside: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    swept: str = "beta",
    unit: str = "nats",
) -> None:
    """Draw distortion against rate, coloured by β.

    Args:
        rows: One a β, with ``beta, rate_nats, rate_se, distortion_nats, distortion_se`` and, if
            known, ``optimal_rate_nats, optimal_distortion_nats``; see :func:`measured`.
        path: The picture to write; its suffix chooses the format.
        title: Text above the axes.
        beside: Label → rows of other models, drawn as diamonds of the same colours.
        swept: The column that differs from row to row, where it is another than β.
        unit: The unit of D, or the name of the distortion function.
    """
    distorted, label = measured(rows[0], "distortion", unit)

    def column(name: str, of: Sequence[Mapping[str, float]] = rows) -> np.ndarray:
        return np.array([row[name] for row in of], dtype=float)

    beta, rate, distortion = column(swept), column("rate_nats"), column(distorted)
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
    norm = _norm(beta)
    points = axes.scatter(
        rate, distortion, c=beta, cmap=_COLOURS, norm=norm, s=26, zorder=3, edgecolor="white",
        linewidth=0.5, label="measured",
    )  # fmt: skip
    if "optimal_rate_nats" in rows[0]:
        axes.plot(
            column("optimal_rate_nats"), column("optimal_distortion_nats"), "k+", markersize=7,
            markeredgewidth=0.9, zorder=4, label="closed-form optimum",
        )  # fmt: skip
    for name, others in (beside or {}).items():
        axes.scatter(
            column("rate_nats", others), column(distorted, others),
            c=column(swept, others), cmap=_COLOURS, norm=norm, s=70, marker="D", zorder=5,
            edgecolor="black", linewidth=1.1, label=name,
        )  # fmt: skip
    _bar(figure, axes, points, norm, swept)
    axes.set_xlabel("rate R (nats per example)")
    axes.set_ylabel(label)
    axes.set_title(title, loc="left", **_STYLE)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, **_STYLE)
    _save(figure, path)


def _norm(beta: np.ndarray) -> LogNorm:
    """Return what gives β its colour: the logarithm, over the β's that are drawn."""
    low, high = beta.min(), beta.max()
    return LogNorm(low, high) if low < high else LogNorm(low / 2, high * 2)


def _bar(figure: Figure, axes: Any, points: Any, norm: LogNorm, swept: str = "beta") -> None:
    """Draw the bar of the colours of β."""
    bar = figure.colorbar(points, ax=axes, pad=0.02)
    bar.set_label(_symbol(swept), rotation=0 if swept == "beta" else 90, labelpad=8)
    low, high = float(norm.vmin or 1), float(norm.vmax or 1)
    if high < 10 * low:  # there may be no power of ten
        bar.set_ticks(np.geomspace(low, high, 3).tolist())
    bar.ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))
    bar.ax.yaxis.set_minor_formatter(ticker.NullFormatter())


def plane(
    rows: Sequence[Mapping[str, float]],
    path: str | os.PathLike[str],
    title: str = "",
    entropy_nats: float | None = None,
    unit: str = "nats",
) -> None:
    """Draw the curve in the rate-distortion plane, with what β means there.

    At each point a short line with the slope −β, to which the curve of the best models is tangent;
    in grey the lines of equal −ELBO, D + R, with their values; and, where they are known, the
    region that no model reaches and, in it, the line D = H − R, below which not even the source's
    entropy allows one.
    Where the information I was measured, it stands beside the rate: H − D ≤ I ≤ R. With D in
    units of its own there is no −ELBO.

    Args:
        rows: One a β, as for :func:`rate_distortion`; with ``information_nats`` and ``log_n_nats``
            where it was measured.
        path: The picture to write.
        title: Text above the axes.
        entropy_nats: The entropy H of the source.
        unit: The unit of D, or the name of the distortion function.

    References:
        Alemi et al. 2018, "Fixing a Broken ELBO", arXiv 1711.00464, figure 1.
    """
    distorted, label = measured(rows[0], "distortion", unit)
    beta, rate, distortion = (
        np.array([row[name] for row in rows], dtype=float)
        for name in ("beta", "rate_nats", distorted)
    )
    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    axes = figure.add_subplot()
    width = max(float(np.ptp(rate)), 1e-9)
    height = max(float(np.ptp(distortion)), 1e-9)
    left, right = max(0.0, rate.min() - 0.05 * width), rate.max() + 0.08 * width
    bottom, top = distortion.min() - 0.08 * height, distortion.max() + 0.08 * height
    in_nats = distorted == "distortion_nats"
    levels = ticker.MaxNLocator(9).tick_values(left + bottom, right + top) if in_nats else ()
    for level in levels:
        axes.plot([left, right], [level - left, level - right], color="0.85", linewidth=0.8)
        if bottom + 0.08 * (top - bottom) < level - right < top - 0.04 * (top - bottom):
            axes.text(
                right, level - right, f"{level:g} ", fontsize=7, color="0.45", ha="right",
                va="bottom",
            )  # fmt: skip
    if "optimal_rate_nats" in rows[0]:
        best = sorted((row["optimal_rate_nats"], row["optimal_distortion_nats"]) for row in rows)
        rates, distortions = zip(*best, strict=True)
        axes.fill_between(rates, distortions, bottom, color="0.9", label="out of reach")
        axes.plot(rates, distortions, "k", linewidth=0.8, label="closed-form optimum")
    if entropy_nats is not None:
        ends = np.array([left, right])
        axes.plot(ends, entropy_nats - ends, "k--", linewidth=0.8, label="D = H − R")
    # As long on the picture, whatever the slope.
    reach = 0.06 / np.hypot(1 / width, beta / height)
    for b, r, d, dx in zip(beta, rate, distortion, reach, strict=True):
        axes.plot([r - dx, r + dx], [d + b * dx, d - b * dx], color="tab:red", linewidth=1.1)
    axes.plot([], [], color="tab:red", linewidth=1.1, label="slope −β")
    if in_nats:
        axes.plot([], [], color="0.85", linewidth=0.8, label="equal −ELBO = D + R")
    norm = _norm(beta)
    points = axes.scatter(
        rate, distortion, c=beta, cmap=_COLOURS, norm=norm, s=20, zorder=3, edgecolor="black",
        linewidth=0.4, label="measured",
    )  # fmt: skip
    _bar(figure, axes, points, norm)
    if "information_nats" in rows[0]:
        # Near log N it is the number of examples that is measured.
        known = [row for row in rows if row["information_nats"] < row["log_n_nats"] - 2]
        axes.plot(
            [row["information_nats"] for row in known],
            [row[distorted] for row in known],
            "o", color="tab:blue", markersize=4.5, fillstyle="none", label="I in place of R",
        )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_xlabel("rate R (nats per example)")
    axes.set_ylabel(label)
    axes.set_title(title, loc="left", **_STYLE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=True, framealpha=0.95, edgecolor="none", **_STYLE)
    _save(figure, path)


def latents(
    betas: Sequence[float],
    rates: np.ndarray,
    path: str | os.PathLike[str],
    title: str = "",
    swept: str = "beta",
) -> None:
    """Draw what each latent carries at each β: where it goes dark, it has switched off.

    Args:
        betas: K β's, rising.
        rates: KL(q(z_j|x) ‖ p(z_j)), the mean over examples, nats: (K, Z).
        path: The picture to write.
        title: Text above the axes.
        swept: What they are, where it is not β.
    """
    order = np.argsort(-rates.sum(0), kind="stable")
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    # Square roots: a latent with a tenth of a nat is on, and to be seen.
    image = axes.imshow(
        np.sqrt(rates[:, order].T), aspect="auto", cmap=_COLOURS, interpolation="nearest", vmin=0
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    ticks = np.array([t for t in (0, 0.1, 0.5, 1, 2, 3, 5, 8, 12) if t <= max(rates.max(), 0.1)])
    bar.set_ticks(list(np.sqrt(ticks)), labels=[f"{tick:g}" for tick in ticks])
    bar.set_label("rate of the latent (nats)")
    shown = range(0, len(betas), max(1, len(betas) // 8))
    axes.set_xticks(list(shown), [number(betas[i]) for i in shown], fontsize=8)
    axes.set_xlabel(_symbol(swept))
    every = max(1, len(order) // 16)
    axes.set_yticks(range(0, len(order), every), [str(j) for j in order[::every]])
    axes.set_ylabel("latent, the busiest first")
    axes.set_title(title, loc="left", **_STYLE)
    _save(figure, path)


def alignment(
    rows: Sequence[Mapping[str, float]],
    histograms: np.ndarray,
    numbers: Sequence[int],
    span: tuple[float, float],
    path: str | os.PathLike[str],
    beside: Mapping[int, np.ndarray] | None = None,
    swept: str = "beta",
    title: str = "",
) -> None:
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
    """
    betas, symbol = [row[swept] for row in rows], _symbol(swept)
    able = sorted(beside) if beside else range(len(betas))
    last = len(able) - 1
    few = sorted({able[round(i * last / 5)] for i in range(6)}, reverse=True)
    columns = histograms.shape[1]
    blocks = {"one model": histograms} | ({"dedicated models": beside} if beside else {})
    width, height = (
        (0.95 if beside else 1.25) * columns * len(blocks) + 0.9,
        0.62 * len(few) + (0.3 if beside else 0),
    )
    figure = Figure(figsize=(width, height + 2.2 + 0.25 * bool(title)), layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", **_STYLE)
    parts: Any = figure.subfigures(2, 1, height_ratios=[height, 2.0])
    above: Any = parts[0].subfigures(1, len(blocks), squeeze=False, wspace=0.03)[0]
    for block, (name, densities) in zip(above, blocks.items(), strict=True):
        if beside:
            block.suptitle(name, **_STYLE)
        grid = block.subplots(len(few), columns, sharex=True, sharey=True, squeeze=False)
        for axes_row, k in zip(grid, few, strict=True):
            _histograms(axes_row, densities[k], span)
            axes_row[0].set_ylabel(
                f"{symbol} = {number(betas[k])}", rotation=0, ha="right", va="center", **_STYLE
            )
        for axes, latent in zip(grid[0], numbers, strict=True):
            axes.set_title(f"latent {latent}", **_STYLE)
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
    axes.set_xlabel(f"{symbol}; the highest has none above it")
    axes.set_ylabel(f"with the next higher {symbol}", **_STYLE)
    axes.set_ylim(top=1.02)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), **_STYLE)
    _save(figure, path)


def _symbol(swept: str) -> str:
    """Return β for beta, λ_d for lambda_d."""
    letters = {"alpha": "α", "beta": "β", "gamma": "γ", "lambd": "λ", "lambda": "λ", "sigma": "σ"}
    return "_".join(letters.get(part, part) for part in swept.split("_"))


def number(value: float) -> str:
    """Return two digits, with an exponent where it is far from 1: 0.01, 250, 6.3e-8."""
    if 1e-3 <= abs(value) < 1e4 or not value:
        return f"{float(f'{value:.2g}'):g}"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


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


def several(
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    path: str | os.PathLike[str],
    unit: str = "nats",
) -> None:
    """Draw the distortion of several curves against their rate.

    Args:
        curves: Label → rows, one a β.
        path: The picture to write; its suffix chooses the format.
        unit: The unit of D, or the name of the distortion function, the same for all.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    distorted, distortion = measured(next(iter(curves.values()))[0], "distortion", unit)
    for index, (label, rows) in enumerate(curves.items()):
        points = sorted((row["rate_nats"], row[distorted]) for row in rows)
        axes.plot(
            *zip(*points, strict=True), marker="osD^vP*X"[index % 8], markersize=5, linewidth=1,
            alpha=0.85, label=label,
        )  # fmt: skip
    axes.set_xlabel("rate R (nats per example)")
    axes.set_ylabel(distortion)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, **_STYLE)
    _save(figure, path)


def scores(
    rows: Sequence[Mapping[str, float]],
    own: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    title: str = "",
    unit: str = "nats",
) -> None:
    """Draw how well two sets are told apart over β, and the profiles of both.

    Left the AUROC of each score; right the median and the middle half of D and of R.

    Args:
        rows: K rows, one a β, rising, with ``beta, auroc_distortion_nats, auroc_rate_nats,
            auroc_neg_elbo_nats, auroc_nll_nats``, as far as there are these.
        own: ``distortion_nats`` and ``rate_nats`` of the model's own data: (K, N) each.
        other: The same of the other data: (K, M).
        path: The picture to write.
        title: Text above the axes.
        unit: The unit of D, or the name of the distortion function.
    """
    betas = [row["beta"] for row in rows]
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    left, *right = figure.subplots(1, 3)
    names = {"distortion": "D", "rate": "R", "neg_elbo": "D + R", "nll": "−log p"}
    for (name, label), marker in zip(names.items(), "osD^", strict=True):
        column, _ = measured(rows[0], f"auroc_{name}")
        if column in rows[0]:
            areas = [row[column] for row in rows]
            left.semilogx(betas, areas, f"{marker}-", markersize=3.5, label=label)
    left.axhline(0.5, color="0.7", linewidth=0.8)
    left.set_ylabel("AUROC")
    left.legend(frameon=False, **_STYLE)
    profiles = measured(own, "distortion", unit), ("rate_nats", "rate R (nats per example)")
    for axes, (name, label) in zip(right, profiles, strict=True):
        for values, of, colour in (own, "own data", "tab:blue"), (other, "other", "tab:orange"):
            low, middle, high = np.quantile(values[name], [0.25, 0.5, 0.75], axis=1)
            axes.semilogx(betas, middle, color=colour, label=of)
            axes.fill_between(betas, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.set_ylabel(label)
        axes.legend(frameon=False, **_STYLE)
    for axes in (left, *right):
        axes.set_xlabel("β")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", **_STYLE)
    _save(figure, path)


def strip(
    inputs: np.ndarray,
    reconstructions: Mapping[float, np.ndarray],
    path: str | os.PathLike[str],
    swept: str = "beta",
    rates: Mapping[float, float] | None = None,
) -> None:
    """Draw inputs in the top row and their reconstructions below, β falling from row to row.

    Args:
        inputs: Pictures (N, C, H, W) with C = 1 or 3; of any other number the first channel is
            drawn, and the title says so.
        reconstructions: β → pictures like ``inputs``.
        path: The picture to write.
        swept: What differs from row to row, where it is not β.
        rates: β → R in nats, which stands beside the row.
    """
    betas = sorted(reconstructions, reverse=True)
    pictures = [inputs, *(reconstructions[beta] for beta in betas)]
    labels = ["x"]
    for beta in betas:
        rate = "" if rates is None else f"\nR = {rates[beta]:.3g}"
        labels.append(f"{_symbol(swept)} = {number(beta)}{rate}")
    # Pictures are in [0, 1]; other data is shown over the span of its inputs.
    span = (min(0.0, inputs.min()), max(1.0, inputs.max()))
    channels = inputs.shape[1]
    title = "" if channels in (1, 3) else f"the first of {channels} channels"
    grid(pictures, labels, path, title, span)


def grid(
    rows: Sequence[np.ndarray],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    title: str = "",
    span: tuple[float, float] | None = None,
    columns: Sequence[str] = (),
) -> None:
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
    """
    _save(_grid(rows, labels, title, span, columns), path)


def frames(
    of_each: Sequence[Sequence[tuple[str, np.ndarray]]],
    path: str | os.PathLike[str],
    title: str = "",
    span: tuple[float, float] | None = None,
) -> None:
    """Draw an animation (.gif): each frame is a :func:`grid`, forwards and back.

    Args:
        of_each: Frames of rows: label and pictures, as for :func:`grid`.
        path: The file to write.
        title: Text above.
        span: As for :func:`grid`.
    """
    from PIL import Image

    images = []
    for rows in of_each:
        labels, pictures = zip(*rows, strict=True)
        canvas = FigureCanvasAgg(_grid(pictures, labels, title, span, ()))
        canvas.figure.set_dpi(120)
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    there_and_back = [*images, *images[-2:0:-1]]
    with replacing(path) as temporary:
        there_and_back[0].save(
            temporary, save_all=True, append_images=there_and_back[1:], duration=250, loop=0
        )


def _grid(
    rows: Sequence[np.ndarray],
    labels: Sequence[str],
    title: str,
    span: tuple[float, float] | None,
    columns: Sequence[str],
) -> Figure:
    least, greatest = min(row.min() for row in rows), max(row.max() for row in rows)
    n, shape = len(rows[0]), rows[0].shape[2:]
    pictures = len(shape) == 2
    if span is None:
        span = (min(0.0, least), max(1.0, greatest)) if pictures else (least, greatest)
    cell_height, cell_width = 0.6, 1.2 if not pictures else min(0.6 * shape[1] / shape[0], 1.2)
    margin = 0.35 + 0.07 * max(7, *(len(line) for label in labels for line in label.split("\n")))
    heads = [*filter(None, (title, "".join(columns)))]
    above = 0.25 * len(heads)
    size = (n * cell_width + margin + 0.05, len(rows) * cell_height + above)
    if max(size) * _DPI > _MOST:
        raise ValueError(
            f"{len(rows)} rows of {n} do not fit into a picture; write fewer, or numbers (.npz), "
            "or a folder"
        )
    figure = Figure(figsize=size)
    # One axes for all: fifty of them would take longer than a short training.
    axes = figure.add_subplot(xticks=[], yticks=np.arange(len(rows)) + 0.5)
    left, top = margin / figure.get_figwidth(), 0.99 - above / figure.get_figheight()
    figure.subplots_adjust(left=left, right=0.995, bottom=0.01, top=top)
    if title:
        figure.suptitle(title, x=0.01, ha="left", y=0.985, **_STYLE)
    for y, row in enumerate(rows):
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
    axes.set(xlim=(0, n), ylim=(len(rows), 0))
    axes.set_yticklabels(labels, **_STYLE)
    if columns:
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(n) + 0.5, columns, **_STYLE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def signals(
    x: np.ndarray,
    reconstructions: Mapping[float, np.ndarray],
    path: str | os.PathLike[str],
    swept: str = "beta",
) -> None:
    """Draw signals in grey and their reconstructions over them, β falling from row to row.

    The first 4 signals, of them 4 channels, each in a style of line, and 7 of the β's at most.

    Args:
        x: (N, C, T).
        reconstructions: β → signals like ``x``.
        path: The picture to write.
        swept: What differs from row to row, where it is not β.
    """
    found = sorted(reconstructions, reverse=True)
    count = min(_SIGNAL_ROWS, len(found))
    betas = [found[round(i * (len(found) - 1) / max(1, count - 1))] for i in range(count)]
    n, channels = min(_SIGNALS, len(x)), min(len(_DASHES), x.shape[1])
    figure = Figure(figsize=(1.2 + 1.9 * n, 1.3 + 0.8 * count), layout="constrained")
    some = f", the first {channels} of {x.shape[1]} channels" if channels < x.shape[1] else ""
    grid = figure.subplots(count, n, sharex=True, sharey="col", squeeze=False)
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
            f"{_symbol(swept)} = {number(beta)}", rotation=0, ha="right", va="center", **_STYLE
        )
    figure.supxlabel("position in the signal", **_STYLE)
    lines = [
        Line2D([], [], color="0.6", linewidth=1.6, label="x"),
        Line2D([], [], color="tab:blue", linewidth=0.9, label="reconstruction"),
        *(
            Line2D([], [], color="0.3", linewidth=0.9, linestyle=dash, label=f"channel {channel}")
            for channel, dash in enumerate(_DASHES[: channels if channels > 1 else 0])
        ),
    ]
    figure.legend(
        handles=lines, loc="outside upper center", ncols=min(len(lines), 1 + n), frameon=False,
        title=f"signals and reconstructions{some}", title_fontsize=9, **_STYLE,
    )  # fmt: skip
    _save(figure, path)


def _as_shown(picture: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Return (H, W, 3) or (H, W) in [0, 1] for a picture (C, H, W)."""
    scaled = np.clip((picture - span[0]) / (span[1] - span[0]), 0, 1)
    return scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled[0]


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)
