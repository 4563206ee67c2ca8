"""Comparing curves: at equal β, at equal rate, and along the whole of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from multibeta.curve import Curve
from multibeta.tables import columns, lines

__all__ = [
    "bd_distortion",
    "bd_rate",
    "check_comparable",
    "compare",
    "distortion_at",
    "merged",
    "table",
]

_SAME = ("split", "n", "shape", "likelihood", "sigma", "units")


def check_comparable(curves: Mapping[str, Curve]) -> None:
    """Refuse curves whose numbers mean different things.

    A learned σ may differ: it is a part of the model, as its weights are.

    Args:
        curves: Name → curve.

    Raises:
        ValueError: If data, split, number of examples, shape, likelihood, σ or units differ.
    """
    (first, one), *others = curves.items()
    for name, other in others:
        known = one.about.get("fingerprint") and other.about.get("fingerprint")
        if known and one.about["fingerprint"] != other.about["fingerprint"]:
            raise ValueError(
                f"{first} and {name} cannot be compared: they were measured on other examples "
                f"({one.about.get('data')}, {one.about.get('n')}, and {other.about.get('data')}, "
                f"{other.about.get('n')}); give curves of the same data"
            )
        for field in _SAME if known else ("data", *_SAME):
            if field == "sigma" and one.about.get("sigma_learned"):
                continue
            a, b = one.about.get(field), other.about.get(field)
            if a != b:
                raise ValueError(
                    f"{first} and {name} cannot be compared: {field} is {a} in the one and {b} "
                    "in the other; give curves of the same data and likelihood"
                )


def merged(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Return the curves, those of dedicated models, with one β each, as one.

    Args:
        curves: Name → curve.

    Raises:
        ValueError: If two dedicated models have the same β: compare one seed at a time.
    """
    points = {name: curve for name, curve in curves.items() if len(curve.rows) == 1}
    found = {name: curve for name, curve in curves.items() if name not in points}
    if points:
        rows = sorted((curve.rows[0] for curve in points.values()), key=lambda row: row["beta"])
        betas = [row["beta"] for row in rows]
        for beta in betas:
            if betas.count(beta) > 1:
                raise ValueError(
                    f"two of the dedicated models have β = {beta:g}; give one file a β"
                )
        name = f"{len(rows)} dedicated models" if len(rows) > 1 else next(iter(points))
        found[name] = Curve(tuple(rows), next(iter(points.values())).about)
    return found


def compare(
    curves: Mapping[str, Curve],
    paired: Mapping[str, Mapping[float, tuple[float, float]]] | None = None,
) -> dict[str, Any]:
    r"""Compare each curve with the first one.

    Args:
        curves: Name → curve, at least two.
        paired: Name → β → mean difference and its standard error over the same examples:
            :func:`multibeta.evaluation.differences`.

    Returns:
        ``{"first": name, "others": {name: …}}`` with, for each other curve, ``at_beta``: a row for
        each β that both have, with both objectives D + βR, their difference and its standard
        error, as if the examples were not the same unless ``paired`` has it, and the difference of
        D at the first curve's rate; and, over the span that both reach, ``bd_rate_percent`` and
        ``bd_distortion_nats``. A difference is the other's value minus the first's; None where the
        two do not overlap.

    Raises:
        ValueError: If there are fewer than two curves, or they cannot be compared.
    """
    if len(curves) < 2:
        raise ValueError("one curve is nothing to compare; give at least two")
    check_comparable(curves)
    (name, first), *others = curves.items()
    return {
        "first": name,
        "others": {
            other: {
                "at_beta": _at_equal_beta(first, curve, (paired or {}).get(other, {})),
                "paired": other in (paired or {}),
                "bd_rate_percent": bd_rate(first, curve),
                "bd_distortion_nats": bd_distortion(first, curve),
            }
            for other, curve in others
        },
    }


def _at_equal_beta(
    first: Curve, other: Curve, paired: Mapping[float, tuple[float, float]]
) -> list[dict[str, float | None]]:
    rows: list[dict[str, float | None]] = []
    for a in first.rows:
        same = [row for row in other.rows if math.isclose(row["beta"], a["beta"], rel_tol=1e-6)]
        for b in same:
            distortion = distortion_at(other, a["rate_nats"])
            apart = b[other.objective] - a[first.objective]
            unpaired = apart, math.hypot(a["objective_se"], b["objective_se"])
            difference, se = paired.get(a["beta"], unpaired)
            rows.append({
                "beta": a["beta"],
                "objective_nats": a[first.objective],
                "other_objective_nats": b[other.objective],
                "difference_nats": difference,
                "difference_se": se,
                "distortion_at_equal_rate_nats":
                    None if distortion is None else distortion - a[first.distortion],
            })  # fmt: skip
    return rows


def distortion_at(curve: Curve, rate: float) -> float | None:
    """Return a curve's distortion at a rate, linear between its points; None beyond its ends."""
    points = sorted(zip(curve["rate_nats"], curve[curve.distortion], strict=True))
    rates, distortions = zip(*points, strict=True)
    if not rates[0] <= rate <= rates[-1]:
        return None
    return float(np.interp(rate, rates, distortions))


def bd_rate(first: Curve, other: Curve) -> float | None:
    r"""Return how many per cent more rate the other curve needs for the same distortion.

    .. math:: 100 \left(\exp \frac{1}{D_1 - D_0} \int_{D_0}^{D_1}
        \bigl(\log R_\mathrm{other}(D) - \log R_\mathrm{first}(D)\bigr) \, dD - 1\right)

    over the distortions [D₀, D₁] that both reach. Log R is interpolated by monotone piecewise
    cubics, not by one cubic for all points: that would swing between points far apart.

    Args:
        first: A curve.
        other: Another one.

    Returns:
        Per cent; None where they share no distortion.

    References:
        Bjøntegaard 2001, VCEG-M33.
    """
    mean = _mean_difference(dict(_points(first)), dict(_points(other)))
    return None if mean is None else 100 * math.expm1(mean)


def bd_distortion(first: Curve, other: Curve) -> float | None:
    """Return how much more distortion the other curve has at the same rate, in nats.

    The mean over the log-rates that both reach; see :func:`bd_rate`.

    Args:
        first: A curve.
        other: Another one.

    Returns:
        Nats per example; None where they share no rate.
    """
    sides = [
        {log_rate: distortion for distortion, log_rate in _points(curve)}
        for curve in (first, other)
    ]
    return _mean_difference(*sides)


def _points(curve: Curve) -> list[tuple[float, float]]:
    """Return D and log R of the points that have a rate."""
    return [
        (row[curve.distortion], math.log(row["rate_nats"]))
        for row in curve.rows
        if row["rate_nats"] > 0
    ]


def _mean_difference(first: Mapping[float, float], other: Mapping[float, float]) -> float | None:
    """Return the mean of other − first over the abscissas that both span."""
    sides = [sorted(side.items()) for side in (first, other)]
    if min(map(len, sides)) < 2:
        return None
    low, high = max(side[0][0] for side in sides), min(side[-1][0] for side in sides)
    if low >= high:
        return None
    areas = [PchipInterpolator(*zip(*side, strict=True)).integrate(low, high) for side in sides]
    return float((areas[1] - areas[0]) / (high - low))


def table(found: Mapping[str, Any]) -> str:
    """Return what :func:`compare` found as text."""
    titles = ["β", "D + βR", "difference", "±", "D at equal R"]
    first, parts = found["first"], []
    for name, of in found["others"].items():
        rows = [
            [
                f"{row['beta']:.4g}",
                f"{row['objective_nats']:.3f}",
                f"{row['difference_nats']:+.3f}",
                f"{row['difference_se']:.3f}",
                _text(row["distortion_at_equal_rate_nats"]),
            ]
            for row in of["at_beta"]
        ]
        pairs = "; ± of the differences, example by example" if of["paired"] else ""
        parts.append(
            f"{lines(f'{name} minus {first} (nats per example{pairs})')}\n"
            f"{columns(titles, rows) if rows else 'no β in common'}\n"
            f"BD-rate {_text(of['bd_rate_percent'])} %, "
            f"BD-distortion {_text(of['bd_distortion_nats'])} nats"
        )
    return "\n\n".join(parts)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"
