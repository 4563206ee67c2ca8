"""Put the measured tables into README and docs, and draw the picture of one and dedicated models.

    python -m benchmarks.report

A table stands between ``<!-- report: NAME -->`` and ``<!-- end -->``; NAME is a function below.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import fmean
from typing import Any

from benchmarks import gap
from benchmarks.record import RESULTS
from benchmarks.runs import curve_of, result_of
from multibeta import plots
from multibeta.curve import Curve
from multibeta.files import replacing

TOP = RESULTS.parent.parent
PAGES = (TOP / "README.md", TOP / "docs" / "one-or-ten.md")
_BLOCK = re.compile(r"(<!-- report: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return a page's text with its tables made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}", text)


def digits() -> str:
    """Return the table of the digits' curve."""
    table = Curve.from_json(RESULTS / "first_curves_digits.json").table()
    return f"```text\n{table}\n```"


def one_and_dedicated() -> str:
    """Return J of one model, of dedicated ones and of the published gates, and the differences."""
    found = result_of("gap")
    lines = []
    for split in ("test", "train"):
        for row in found[split]:
            cells = [split, f"{row['beta']:g}"]
            cells += [_number(row[name], signed="minus" in name) for name in _COLUMNS]
            lines.append(cells)
    titles = ["set", "β", *_COLUMNS.values()]
    return _table(titles, lines)


_COLUMNS = {
    "dedicated": "dedicated",
    "one": "one model",
    "one_minus_dedicated": "one − dedicated",
    "gate": "published gates",
    "gate_minus_dedicated": "gates − dedicated",
}


def differences() -> str:
    """Return the differences on the test set as a sentence."""
    found = result_of("gap")
    rows = [row for row in found["test"] if row["one_minus_dedicated"]]
    of = ", ".join(
        f"{_number(row['one_minus_dedicated'], True)} at β = {row['beta']:g}" for row in rows
    )
    seeds = min(run["seeds"] for name, run in found["runs"].items() if name != "gate")
    return (
        f"J = D + βR of the one model minus that of dedicated ones, in nats: {of}\n"
        f"({seeds} seed{'s' if seeds > 1 else ''})."
    )


def curves() -> str:
    """Return what is compared along the whole curve."""
    runs, test = result_of("gap")["runs"], result_of("gap")["test"]
    lines = []
    for name, title in {"one": "one model", "gate": "published gates"}.items():
        if name not in runs:
            continue
        at_equal_rate = [_number(row[f"{name}_distortion_at_equal_rate"], True) for row in test]
        regret, channels = runs[name]["self_regret"], runs[name]["channels"]
        lines.append([
            title,
            *at_equal_rate,
            _number(runs[name]["bd_rate_percent"], True),
            _number(regret, digits=3),
            "yes" if runs[name]["rate_falls"] else "no",
            ", ".join(f"{c['without_gradient']} of {c['conditioned']}" for c in channels),
        ])  # fmt: skip
    betas = [f"D at equal R, β = {row['beta']:g}" for row in test]
    titles = ["", *betas, "BD-rate, %", "self-regret", "R falls over 40 β's"]
    return _table([*titles, "channels without gradient"], lines)


def protocol() -> str:
    """Return the learning rates, seeds and parameters of each side."""
    lines = [
        [
            name, f"{run['lr']:g}", ", ".join(f"{lr:g}" for lr in run["lr_tried"]),
            str(run["seeds"]), f"{run['parameters']:,}",
        ]
        for name, run in result_of("gap")["runs"].items()
    ]  # fmt: skip
    titles = ["", "learning rate", "tried with seed 0", "seeds", "parameters in training"]
    return _table(titles, lines)


def oracle() -> str:
    """Return the excess of linear models over the optimum."""
    lines = []
    titles = {"mnist": "binarised MNIST, 32 latents", "gaussian": "Gaussian source, 16 dimensions"}
    found = result_of("oracle")
    for source, title in titles.items():
        of = found[source]
        lines.append([
            title,
            f"{fmean(of['mean']):.3f}",
            f"{max(of['max']):.3f}",
            f"{max(of['self_regret']):.3f}",
            "yes" if all(of["rate_falls"]) else "no",
            str(found["seeds"]),
        ])  # fmt: skip
    titles_ = ["source", "mean excess", "largest", "self-regret", "R falls over 20 β's", "seeds"]
    return _table(titles_, lines)


def step() -> str:
    """Return the cost of a training step."""
    found = result_of("speed_step")["cases"]
    lines = [
        [
            case, kind, _ratio(of),
            f"{of['parameters']:,}", f"{of['peak_memory_mib']:.0f}",
        ]
        for case, kinds in found.items()
        for kind, of in kinds.items()
    ]  # fmt: skip
    titles = ["network", "conditioning", "time of a step", "parameters", "peak memory, MiB"]
    return _table(titles, lines)


def curve_cost() -> str:
    """Return the cost of a curve."""
    of = result_of("speed_curve")
    return (
        f"A curve at {of['betas']} β's takes {_ratio(of)} times as long as {of['betas']} "
        "evaluations of a plain VAE (median and quartiles)."
    )


def fit_cost() -> str:
    """Return samples a second of ``multibeta fit``, over those of others."""
    bare, rival = result_of("speed_fit"), result_of("speed_pythae")
    lines = [
        [case, "all β's", "a bare loop, all β's", _ratio(of["fit_over"]["bare loop"])]
        for case, of in bare["cases"].items()
    ] + [
        [case, side, f"pythae {rival['pythae']}, one β", _ratio(of["fit_over"]["pythae"])]
        for case, sides in rival["cases"].items()
        for side, of in sides.items()
    ]
    titles = ["network", "`multibeta fit`", "against", "samples a second, ratio"]
    return _table(titles, lines)


def ends() -> str:
    """Return J at the end of a trained range and inside one."""
    lines = [
        [f"{row['beta']:g}", *(_number(row[name]) for name in ("end", "inside")),
         _number(row["end_minus_inside"], signed=True)]
        for row in result_of("ends")["rows"]
    ]  # fmt: skip
    return _table(["β", "trained on [0.1, 1]", "on [0.01, 10]", "end − inside"], lines)


def transfer() -> str:
    """Return J of one model and of dedicated ones on other data."""
    found = result_of("transfer")
    lines = []
    for data, title in {"omniglot": "Omniglot, 28×28", "celeba": "CelebA, 32×32"}.items():
        for row in found[data]["rows"]:
            apart, of = row["one_minus_dedicated"], row["dedicated"]
            per_cent = 100 * apart["mean"] / abs(of["mean"])
            lines.append([
                title, f"{row['beta']:.3g}", _number(of), _number(row["one"]),
                _number(apart, signed=True), f"{per_cent:+.2f}".replace("-", "−"),
                "yes" if all(found[data]["rate_falls"]) else "no",
                f"{max(found[data]['self_regret']):.3f}", str(len(of["values"])),
            ])  # fmt: skip
    titles = ["data", "β", "dedicated", "one model", "one − dedicated", "% of J"]
    return _table([*titles, "R falls over 41 β's", "self-regret", "seeds"], lines)


BLOCKS: dict[str, Callable[[], str]] = {
    block.__name__: block
    for block in (
        digits,
        one_and_dedicated,
        differences,
        curves,
        protocol,
        oracle,
        ends,
        transfer,
        step,
        curve_cost,
        fit_cost,
    )
}


def draw() -> None:
    """Draw the curve of one model with the dedicated models' points on it, for the first seed."""
    one = curve_of(gap.ONE.names()[0])
    points = [curve_of(side.names()[0]).rows[0] for side in gap.DEDICATED if side.names()]
    title = "Binarised MNIST, test set: one model, and dedicated β-VAEs"
    plots.rate_distortion(one.rows, RESULTS / "gap.png", title, {"dedicated β-VAE": points})


def _ratio(of: dict[str, float]) -> str:
    return f"{of['ratio']:.2f} ({of['quartile_low']:.2f} to {of['quartile_high']:.2f})"


def _number(value: dict[str, Any] | None, signed: bool = False, digits: int = 2) -> str:
    if value is None:
        return "–"
    sign = "+" if signed else ""
    se = "" if value["se"] is None else f" ± {value['se']:.{digits}f}"
    return f"{value['mean']:{sign}.{digits}f}{se}".replace("-", "−")


def _table(titles: list[str], lines: list[list[str]]) -> str:
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Write the pages and the picture."""
    draw()
    for page in PAGES:
        with replacing(page) as temporary:
            temporary.write_text(filled(page.read_text()))


if __name__ == "__main__":
    main()
