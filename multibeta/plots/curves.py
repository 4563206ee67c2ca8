"""Pictures of rates and distortions: curves, the plane, several models, scores, a training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure

from multibeta.plots.drawing import (
    MAP,
    STYLE,
    beta_colours,
    canvas,
    colour_bar,
    figure_of,
    finished,
    number,
    panels,
    with_grid,
)

__all__ = ["choice", "history", "measured", "plane", "rate_distortion", "scores", "several"]


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
    path: str | os.PathLike[str] | None = None,
    title: str = "Distortion against rate",
    beside: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    swept: str = "beta",
    unit: str = "nats",
    trained: tuple[float, float] | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw distortion against rate, coloured by β.

    Args:
        rows: One a β, with ``beta, rate_nats, rate_se, distortion_nats, distortion_se`` and, if
            known, ``optimal_rate_nats, optimal_distortion_nats``; see :func:`measured`.
        path: The picture to write; its suffix chooses the format.
        title: Text above the axes.
        beside: Label → rows of other models, drawn as diamonds of the same colours.
        swept: The column that differs from row to row, where it is another than β.
        unit: The unit of D, or the name of the distortion function.
        trained: The lowest and highest β of the training, for the colours.
        ax: Axes to draw into.
    """
    distorted, label = measured(rows[0], "distortion", unit)

    def column(name: str, of: Sequence[Mapping[str, float]] = rows) -> np.ndarray:
        return np.array([row[name] for row in of], dtype=float)

    beta, rate, distortion = column(swept), column("rate_nats"), column(distorted)
    figure, axes = canvas(ax, (5.2, 3.8), title)
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
    norm = _colours(beta, swept, trained)
    points = axes.scatter(
        rate, distortion, c=beta, cmap=MAP, norm=norm, s=26, zorder=3, edgecolor="white",
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
            c=column(swept, others), cmap=MAP, norm=norm, s=70, marker="D", zorder=5,
            edgecolor="black", linewidth=1.1, label=name,
        )  # fmt: skip
    drawn = [beta, *(column(swept, others) for others in (beside or {}).values())]
    colour_bar(figure, axes, points, np.concatenate(drawn), swept)
    axes.set_xlabel("rate R (nats per example)")
    axes.set_ylabel(label)
    with_grid(axes)
    axes.legend(frameon=False, **STYLE)
    return finished(figure, path)


def plane(
    rows: Sequence[Mapping[str, float]],
    path: str | os.PathLike[str] | None = None,
    title: str = "The curve in the rate-distortion plane",
    entropy_nats: float | None = None,
    unit: str = "nats",
    trained: tuple[float, float] | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
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
        trained: The lowest and highest β of the training, for the colours.
        ax: Axes to draw into.

    References:
        Alemi et al. 2018, "Fixing a Broken ELBO", arXiv 1711.00464, figure 1.
    """
    distorted, label = measured(rows[0], "distortion", unit)
    beta, rate, distortion = (
        np.array([row[name] for row in rows], dtype=float)
        for name in ("beta", "rate_nats", distorted)
    )
    figure, axes = canvas(ax, (5.2, 4.1), title)
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
    norm = beta_colours(beta, trained)
    points = axes.scatter(
        rate, distortion, c=beta, cmap=MAP, norm=norm, s=20, zorder=3, edgecolor="black",
        linewidth=0.4, label="measured",
    )  # fmt: skip
    colour_bar(figure, axes, points, beta)
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
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=True, framealpha=0.95, edgecolor="none", **STYLE)
    return finished(figure, path)


def several(
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    path: str | os.PathLike[str] | None = None,
    unit: str = "nats",
    title: str = "Distortion against rate: lower and further left is better",
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw the distortion of several curves against their rate.

    Args:
        curves: Label → rows, one a β.
        path: The picture to write; its suffix chooses the format.
        unit: The unit of D, or the name of the distortion function, the same for all.
        title: Text above the axes.
        ax: Axes to draw into.
    """
    figure, axes = canvas(ax, (5.2, 3.8), title)
    distorted, distortion = measured(next(iter(curves.values()))[0], "distortion", unit)
    for index, (label, rows) in enumerate(curves.items()):
        points = sorted((row["rate_nats"], row[distorted]) for row in rows)
        axes.plot(
            *zip(*points, strict=True), marker="osD^vP*X"[index % 8], markersize=5, linewidth=1,
            alpha=0.85, label=label,
        )  # fmt: skip
    axes.set_xlabel("rate R (nats per example)")
    axes.set_ylabel(distortion)
    with_grid(axes)
    axes.legend(frameon=False, **STYLE)
    return finished(figure, path)


def scores(
    rows: Sequence[Mapping[str, float]],
    own: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    path: str | os.PathLike[str] | None = None,
    title: str = "Two sets told apart by their scores, and their profiles over β",
    unit: str = "nats",
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
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
        figure: A Figure or SubFigure to draw into.
    """
    betas = [row["beta"] for row in rows]
    part = panels(figure, (9.6, 3.2), title)
    left, *right = part.subplots(1, 3)
    names = {"distortion": "D", "rate": "R", "neg_elbo": "D + R", "nll": "−log p"}
    for (name, label), marker in zip(names.items(), "osD^", strict=True):
        column, _ = measured(rows[0], f"auroc_{name}")
        if column in rows[0]:
            areas = [row[column] for row in rows]
            left.semilogx(betas, areas, f"{marker}-", markersize=3.5, label=label)
    left.axhline(0.5, color="0.7", linewidth=0.8)
    left.set_ylabel("AUROC")
    left.legend(frameon=False, **STYLE)
    profiles = measured(own, "distortion", unit), ("rate_nats", "rate R (nats per example)")
    for axes, (name, label) in zip(right, profiles, strict=True):
        for values, of, colour in (own, "own data", "tab:blue"), (other, "other", "tab:orange"):
            low, middle, high = np.quantile(values[name], [0.25, 0.5, 0.75], axis=1)
            axes.semilogx(betas, middle, color=colour, label=of)
            axes.fill_between(betas, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.set_ylabel(label)
        axes.legend(frameon=False, **STYLE)
    for axes in (left, *right):
        axes.set_xlabel("β")
        with_grid(axes)
    return finished(figure_of(part), path)


def choice(
    rows: Sequence[Mapping[str, float]],
    ways: Sequence[str],
    beside: Sequence[str],
    beta: float,
    near: tuple[float, float],
    labels: Mapping[str, str],
    errors: Mapping[str, str],
    path: str | os.PathLike[str] | None = None,
    title: str = "Which β",
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw what a choice of β goes by, with the β that was chosen and those that are as good.

    Args:
        rows: One a β, rising.
        ways: The columns that decide, in one panel.
        beside: Other columns, a panel each.
        beta: The β that was chosen.
        near: The least and the greatest β that is as good.
        labels: Column → its name.
        errors: Column → the column of its standard error; "" where there is none.
        path: The picture to write.
        title: Text above the axes.
        figure: A Figure or SubFigure to draw into.
    """
    betas = [row["beta"] for row in rows]
    panes = [list(ways), *([name] for name in beside)]
    part = panels(figure, (4.8 * len(panes), 3.4), title)
    for axes, names in zip(np.atleast_1d(part.subplots(1, len(panes))), panes, strict=True):
        axes.axvspan(*near, color="0.5", alpha=0.15, linewidth=0)
        axes.axvline(beta, color="0.3", linewidth=0.8)
        for name, marker in zip(names, "osD^v<>"):  # noqa: B905
            values = np.array([row.get(name, np.nan) for row in rows])
            (line,) = axes.semilogx(
                betas, values, f"{marker}-", markersize=3.5, label=labels[name]
            )
            if error := errors[name]:
                width = np.array([row.get(error, np.nan) for row in rows])
                axes.fill_between(
                    betas, values - width, values + width, color=line.get_color(), alpha=0.2,
                    linewidth=0,
                )  # fmt: skip
        if len(names) > 1:
            axes.legend(frameon=False, **STYLE)
        else:
            axes.set_ylabel(labels[names[0]])
        axes.set_xlabel("β")
        with_grid(axes)
    return finished(figure_of(part), path)


def history(
    validated: Mapping[float, Mapping[str, Sequence[float]]],
    path: str | os.PathLike[str] | None = None,
    title: str = "What was validated at each β during the training",
    unit: str = "nats",
    trained: tuple[float, float] | None = None,
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw D, R and D + βR of the validation set over the steps, a line a β.

    Args:
        validated: β → ``step``, and of each step ``distortion_nats``, ``rate_nats`` and
            ``objective_nats``: what :func:`multibeta.runs.validated` reads from a run.
        path: The picture to write.
        title: Text above the axes.
        unit: The unit of D, or the name of the distortion function.
        trained: The lowest and highest β of the training, for the colours.
        figure: A Figure or SubFigure to draw into.

    Raises:
        ValueError: If nothing was validated.
    """
    if not validated:
        raise ValueError("nothing was validated in this run: there is no history to draw")
    part = panels(figure, (9.6, 3.2), title)
    norm, colours = beta_colours(validated, trained), matplotlib.colormaps[MAP]
    row = {"distortion_nats": 0.0, "objective_nats": 0.0}
    labels = {
        "distortion_nats": measured(row, "distortion", unit)[1],
        "rate_nats": "rate R (nats per example)",
        "objective_nats": measured(row, "objective", unit)[1],
    }
    for axes, (name, label) in zip(part.subplots(1, 3), labels.items(), strict=True):
        for beta in sorted(validated, reverse=True):
            of = validated[beta]
            axes.plot(
                of["step"], of[name], "o-", color=colours(norm(beta)), markersize=2.5,
                linewidth=1.2, label=f"β = {number(beta)}",
            )  # fmt: skip
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlim(left=0)
        axes.set_ylabel(label, **STYLE)
        with_grid(axes)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), **STYLE)
    return finished(figure_of(part), path)


def _colours(values: np.ndarray, swept: str, trained: tuple[float, float] | None) -> LogNorm:
    """Return the colours of β; of another weight, over the values that are drawn."""
    if swept == "beta":
        return beta_colours(values, trained)
    low, high = values.min(), values.max()
    return LogNorm(low, high) if low < high else LogNorm(low / 2, high * 2)
