"""What the codec's results come to: targets, Bjøntegaard differences, tables and pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.codec_rivals import best
from benchmarks.codec_sets import SETS
from benchmarks.markdown import table
from benchmarks.record import RESULTS
from benchmarks.runs import is_there, result_of
from multibeta.compare import bd_distortion, bd_rate
from multibeta.curve import Curve
from multibeta.files import replacing

__all__ = ["TABLES", "bd", "draw", "psnr_at", "summary"]

Points = list[tuple[float, float]]
COLOURS = {"ours": "#0072b2", "JPEG": "#d55e00", "JPEG 2000": "#009e73", "WebP": "#cc79a7",
           "AVIF": "#e69f00"}  # fmt: skip
COUNTED = {
    "whole": ("a file each, whole", "bits_whole", "psnr_db"),
    "payload": ("a file each, without headers", "bits_payload", "psnr_db"),
    "together": ("one file of all", "sheet_bits", "sheet_psnr_db"),
}
"""What is counted → what it is called, and the columns of other formats."""

HEADER = 32
"""Bits before those of a file of one picture."""


def bd(first: Points, other: Points) -> dict[str, float | None]:
    """Return how many per cent more bits others need for the same PSNR, and their gain in PSNR.

    See :func:`multibeta.compare.bd_rate`; here with −PSNR in the place of the distortion. None
    where the two share no span.

    Args:
        first: (bits, PSNR).
        other: The same of what is compared.
    """
    curves = [
        Curve(tuple({"rate_nats": bits, "distortion_nats": -psnr} for bits, psnr in side), {})
        for side in (first, other)
    ]
    loss = bd_distortion(*curves)
    return {
        "bd_rate_percent": bd_rate(*curves),
        "bd_psnr_db": None if loss is None else 0.0 - loss,
    }


def psnr_at(points: Points, bits: float) -> float | None:
    """Return the PSNR at a number of bits, linear in their logarithm; None beyond the ends."""
    points = sorted(points)
    for (b0, p0), (b1, p1) in itertools.pairwise(points):
        if b0 <= bits <= b1:
            share = math.log(bits / b0) / math.log(b1 / b0) if b1 > b0 else 0.0
            return p0 + share * (p1 - p0)
    return None


def ours(rows: Iterable[dict[str, Any]]) -> dict[str, Points]:
    """Return the points of the default codec, for each way of counting."""
    rows = [row for row in rows if row["search"]]
    psnr = [row["psnr_shared_db"] for row in rows]
    alone = [row["alone"]["bits"] for row in rows]
    bits = {"whole": alone, "payload": [of - HEADER for of in alone],
            "together": [row["bits"] for row in rows]}  # fmt: skip
    return {name: best([*zip(of, psnr, strict=True)]) for name, of in bits.items()}


def theirs(rows: Sequence[dict[str, Any]]) -> dict[str, Points]:
    """Return the best points of a format, for each way of counting."""
    return {
        name: best([(row[bits], row[psnr]) for row in rows])
        for name, (_, bits, psnr) in COUNTED.items()
    }


def summary() -> dict[str, Any]:
    """Return what codec.json has, of the results that are there."""
    found: dict[str, Any] = {}
    for name, of in SETS.items():
        parts = {
            kind: result_of(f"codec_{name}_{kind}")
            for kind in ("files", "methods", "progressive", "rivals")
            if is_there(f"codec_{name}_{kind}")
        }
        if "files" not in parts:
            continue
        here: dict[str, Any] = {"label": of.label, **_files(parts["files"])}
        if "rivals" in parts:
            here["rivals"] = _rivals(parts)
        if "methods" in parts:
            here["methods"] = _methods(parts["methods"])
        if "progressive" in parts:
            here["progressive"] = _progressive(parts["progressive"])
        found[name] = here
    return found


def _files(of: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {
            **row,
            "bits_over_rate": row["bits"] / row["rate_bits"],
            "alone_over_rate": (row["alone"]["bits"] - HEADER) / row["alone"]["rate_bits"],
            "psnr_minus_mean_db": row["psnr_db"] - row["mean_psnr_db"],
            "bits_per_pixel": row["bits"] / of["pixels"],
        }
        for row in of["rows"]
    ]
    keys = ("pictures", "alone", "pixels", "parameters")
    return {**{key: of[key] for key in keys}, "files": rows}


def _rivals(parts: dict[str, Any]) -> dict[str, Any]:
    mine = ours(parts["files"]["rows"])
    return {
        name: {kind: {**bd(mine[kind], points), "psnr_db": [points[0][1], points[-1][1]],
                      "bits": [points[0][0], points[-1][0]]}
               for kind, points in theirs(rows).items()}
        for name, rows in parts["rivals"]["formats"].items()
    }  # fmt: skip


def _methods(of: dict[str, Any]) -> dict[str, Any]:
    ways = of["rows"][0]["ways"]
    points = {
        way: [(row["ways"][way]["bits"], row["ways"][way]["psnr_db"]) for row in of["rows"]]
        for way in ways
    }
    base = {True: best(points["rounded, in a file"]), False: best(points["rounded"])}
    found = {}
    for way in ways:
        rows = [
            {
                "beta": row["beta"],
                "bits_over_rate": row["ways"][way]["bits"] / row["rate_bits"],
                "psnr_minus_mean_db": row["ways"][way]["psnr_db"] - row["mean"]["psnr_db"],
            }
            for row in of["rows"]
        ]
        in_file = "distortion_nats" not in of["rows"][0]["ways"][way]
        found[way] = {"rows": rows, **bd(base[in_file], best(points[way]))}
    for beta, again in of.get("requantised", {}).items():
        again = best([(point["bits"], point["psnr_db"]) for point in again])
        found[f"vbq of the codes at β = {beta}"] = {"rows": [], **bd(base[False], again)}
    return found


def _progressive(of: dict[str, Any]) -> dict[str, Any]:
    apart = {
        side: [(row["bits"], row["psnr_db"]) for row in rows] for side, rows in of["apart"].items()
    }
    cut = {
        side: [(row["bits"], row["psnr_db"]) for row in rows] for side, rows in of["cut"].items()
    }
    gaps = []
    for row in of["apart"]["one"]:
        near = psnr_at(cut["one"], row["bits"])
        if near is not None:
            gaps.append({**row, "cut_minus_own_db": near - row["psnr_db"]})
    base = best(apart["one"])
    return {
        "gaps": gaps,
        "cut": {side: bd(base, best(points)) for side, points in cut.items()},
        "apart": {side: bd(base, best(points)) for side, points in apart.items()},
    }


def _number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _sets() -> dict[str, Any]:
    return result_of("codec")["sets"]


def codec_files() -> str:
    """Return what files take, and what comes back, over β."""
    lines = [
        [
            of["label"], f"{row['beta']:g}", _number(row["rate_bits"], 1),
            _number(row["bits"], 1), _number(row["bits_over_rate"], 3),
            _number(row["alone"]["bits"], 1), _number(row["alone_over_rate"], 3),
            _number(row["bits_per_pixel"], 3), _number(row["psnr_db"]),
            _number(row["psnr_minus_mean_db"], signed=True),
        ]
        for of in _sets().values()
        for row in of["files"]
        if row["search"]
    ]  # fmt: skip
    return table(
        ["set", "β", "R, bits", "bits a picture, many in a file", "/ R", "alone, whole",
         "alone, less 4 bytes, / R", "bits a pixel", "PSNR, dB", "less that of the means"],
        lines,
    )  # fmt: skip


WAYS = {
    "searched": "rounded, then searched: the default, in a file",
    "rounded, in a file": "rounded, in a file",
    "rounded": "rounded",
    "rounded, decoder's input tuned": "rounded; an affine map before the decoder tuned",
    "dithered": "subtractive dither",
    "vbq": "variational Bayesian quantisation (VBQ)",
    "relative": "relative entropy coding, as theory promises",
    "relative, for real": "relative entropy coding, block by block",
}
"""Methods → what they are called."""


def codec_methods() -> str:
    """Return bits over R and PSNR of each method at three β's, and its BD-rate."""
    betas, lines = (0.1, 1.0, 3.0), []
    for of in _sets().values():
        for way, found in of.get("methods", {}).items():
            at = {row["beta"]: row for row in found["rows"]}
            cells = []
            for beta in betas:
                row = at.get(beta)
                cells.append(
                    "–" if row is None else f"{_number(row['bits_over_rate'])}, "
                    f"{_number(row['psnr_minus_mean_db'], signed=True)}"
                )  # fmt: skip
            lines.append([
                of["label"], _way(way), *cells, _number(found["bd_rate_percent"], 1, True),
                _number(found["bd_psnr_db"], signed=True),
            ])  # fmt: skip
    return table(
        ["set", "method", *(f"β = {beta:g}: bits / R, dB" for beta in betas), "BD-rate, %",
         "BD-PSNR, dB"],
        lines,
    )  # fmt: skip


def _way(way: str) -> str:
    return WAYS.get(way, way.replace("vbq of", "VBQ of"))


def codec_rivals() -> str:
    """Return how many per cent more bits other formats need than the codec."""
    lines = []
    for of in _sets().values():
        for name, found in of.get("rivals", {}).items():
            cells = []
            for kind in COUNTED:
                one = found[kind]
                rate, gain = one["bd_rate_percent"], one["bd_psnr_db"]
                text = f"{_number(rate, 0, True)} %" if rate is not None else "no PSNR in common"
                more = "" if gain is None else f", {_number(gain, 1, True)} dB"
                cells.append(text + more)
            least = found["together"]
            lines.append([
                of["label"], name, *cells,
                f"{_number(least['psnr_db'][0], 1)} dB at {_number(least['bits'][0], 0)} bits",
            ])  # fmt: skip
    titles = ["set", "format", *(label for label, *_ in COUNTED.values())]
    return table([*titles, "its lowest point, one file of all"], lines)


SIDES = {
    "one": "one model",
    "first": "the one model at the lowest β alone",
    "one, own": "one model, decoded at the β of the cut",
    "lowest": "the dedicated model of the lowest β alone",
    "dedicated": "dedicated models as they are",
    "dedicated, own": "dedicated models as they are, decoded at the β of the cut",
    "permuted": "dedicated, matched by permutation",
    "permuted, own": "dedicated, matched by permutation, decoded at the β of the cut",
    "linear": "dedicated, matched by a linear map",
    "linear, own": "dedicated, matched by a linear map, decoded at the β of the cut",
}


def codec_prefix() -> str:
    """Return what a file that is cut loses to encodings of their own."""
    lines = []
    for of in _sets().values():
        found = of.get("progressive")
        if not found:
            continue
        rows = [("a file for each rate", side, one) for side, one in found["apart"].items()]
        rows += [("one file, cut", side, one) for side, one in found["cut"].items()]
        for kind, side, one in rows:
            lines.append([
                of["label"], kind, SIDES.get(side, side),
                _number(one["bd_rate_percent"], 1, True), _number(one["bd_psnr_db"], 2, True),
            ])  # fmt: skip
    return table(["set", "", "models", "BD-rate, %", "BD-PSNR, dB"], lines)


def codec_speed() -> str:
    """Return pictures a second of processor time of one thread, each way."""
    lines = []
    for name, ways in result_of("codec_speed")["sets"].items():
        for way, of in ways.items():
            cells = [
                text
                for side in ("encode", "decode")
                for text in (
                    f"{of[side]['pictures_a_second']:,.0f}",
                    f"{100 * of[side]['network_share']:.0f} %",
                )
            ]
            lines.append([SETS[name].label, way, *cells])
    return table(
        ["set", "codec", "encode, pictures/s", "network", "decode, pictures/s", "network"], lines
    )


def codec_targets() -> str:
    """Return the targets and what was reached."""
    sets = _sets()
    lines = []
    for name, (target, measure) in _TARGETS.items():
        cells = []
        for of in sets.values():
            rows = [row for row in of["files"] if row["search"]]
            cells.append(measure(of, rows))
        lines.append([name, target, *cells])
    return table(["", "target", *(of["label"] for of in sets.values())], lines)


def _worst(rows: list[dict[str, Any]], key: str, digits: int = 2, least: bool = False) -> str:
    row = (min if least else max)(rows, key=lambda row: row[key])
    return f"{_number(row[key], digits, signed=least)} (β = {row['beta']:g})"


def _cut(of: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    gaps = of.get("progressive", {}).get("gaps", [])
    return _worst(gaps, "cut_minus_own_db", least=True) if gaps else "–"


_TARGETS: dict[str, tuple[str, Callable[..., str]]] = {
    "many pictures in one file: bits / R, the largest": (
        "≤ 1.10, aim 1.03", lambda of, rows: _worst(rows, "bits_over_rate", 3)
    ),
    "…, β ≤ 1": (
        "", lambda of, rows: _worst([r for r in rows if r["beta"] <= 1], "bits_over_rate", 3)
    ),
    "a single picture, less 4 bytes: bits / R, the largest": (
        "≤ 1.25", lambda of, rows: _worst(rows, "alone_over_rate", 3)
    ),
    "PSNR less that of the means, β ≤ .3, dB": (
        "≥ −.5, aim −.2",
        lambda of, rows: _worst(
            [r for r in rows if r["beta"] <= 0.3], "psnr_minus_mean_db", least=True
        ),
    ),
    "…, β = 1": (
        "≥ −.5",
        lambda of, rows: _worst([r for r in rows if r["beta"] == 1], "psnr_minus_mean_db",
                                least=True),
    ),
    "a cut file less its own encoding, dB": ("≥ −1, aim −.3", _cut),
}  # fmt: skip

TABLES = (
    codec_targets, codec_files, codec_methods, codec_rivals, codec_prefix, codec_speed,
)  # fmt: skip


def draw() -> None:
    """Draw PSNR over bits: of the codec and other formats, and of a file that is cut."""
    draw_rivals(RESULTS / "codec.png")
    draw_prefix(RESULTS / "codec_prefix.png")


def _panels(n: int, height: float = 3.0) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(9.6, height * math.ceil(n / 2)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(math.ceil(n / 2), min(n, 2), squeeze=False).flatten()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    for axes in panels[n:]:
        axes.set_axis_off()
    return figure, list(panels)


def draw_rivals(path: Path) -> None:
    """Draw the codec and the other formats, a panel a set."""
    names = [n for n in SETS if is_there(f"codec_{n}_files") and is_there(f"codec_{n}_rivals")]
    figure, panels = _panels(len(names))
    styles = {"whole": ":", "payload": "--", "together": "-"}
    for axes, name in zip(panels, names, strict=False):
        files, rivals = (result_of(f"codec_{name}_{kind}") for kind in ("files", "rivals"))
        mine = ours(files["rows"])
        sides = {"ours": mine} | {k: theirs(rows) for k, rows in rivals["formats"].items()}
        for label, points in sides.items():
            for kind, style in styles.items():
                axes.plot(
                    *zip(*points[kind], strict=True), style, color=COLOURS[label],
                    linewidth=1.8 if label == "ours" else 1.1, marker="o" * (label == "ours"),
                    markersize=3, label=label if kind == "together" else None,
                )  # fmt: skip
        top = max(psnr for _, psnr in mine["together"])
        low = min(psnr for _, psnr in mine["together"])
        axes.set_ylim(low - 1, top + 8)
        seen = [bits for side in sides.values() for points in side.values()
                for bits, psnr in points if low - 1 <= psnr <= top + 8]  # fmt: skip
        axes.set_xlim(0.8 * min(seen), 1.2 * max(seen))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda bits, _: f"{bits:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(SETS[name].label, fontsize=9, loc="left")
        axes.set_xlabel("bits a picture")
        axes.set_ylabel("PSNR (dB)")
    for kind, style in styles.items():
        panels[0].plot([], [], style, color="0.3", label=COUNTED[kind][0])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  frameon=False, fontsize=9)  # fmt: skip
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


_LINES = {
    "one": "#0072b2", "first": "#f0e442", "lowest": "0.55", "dedicated": "#d55e00",
    "permuted": "#cc79a7", "linear": "#009e73",
}  # fmt: skip


def draw_prefix(path: Path) -> None:
    """Draw files that are cut, of the one model and of dedicated ones, a panel a set."""
    names = [name for name in SETS if is_there(f"codec_{name}_progressive")]
    figure, panels = _panels(len(names), 3.6)
    for axes, name in zip(panels, names, strict=False):
        found = result_of(f"codec_{name}_progressive")
        for side, rows in found["cut"].items():
            name_, own = side.removesuffix(", own"), side.endswith(", own")
            if name_ in _LINES and (not own or name_ in ("dedicated", "linear")):
                axes.plot(
                    [row["bits"] for row in rows], [row["psnr_db"] for row in rows],
                    ":" if own else "--" if side == "first" else "-", color=_LINES[name_],
                    linewidth=1.8 if side == "one" else 1.2, zorder=3 if side == "first" else 2,
                    label=f"cut: {SIDES[side]}",
                )  # fmt: skip
        for side, mark in (("one", "o"), ("dedicated", "x")):
            rows = found["apart"].get(side, [])
            axes.plot(
                [row["bits"] for row in rows], [row["psnr_db"] for row in rows], mark,
                color="0.1", markersize=4,
                label=f"a file for each rate: {'one model' if side == 'one' else 'dedicated'}",
            )  # fmt: skip
        axes.set_title(SETS[name].label, fontsize=9, loc="left")
        axes.set_xlabel("bits a picture")
        axes.set_ylabel("PSNR (dB)")
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2,
                  frameon=False, fontsize=8)  # fmt: skip
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
