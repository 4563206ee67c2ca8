"""The purposes that β is chosen for, and the choice that what was measured leads to."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from multibeta.betas import BetaRange
from multibeta.files import replacing
from multibeta.options import nearest
from multibeta.tables import columns, lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PURPOSES", "Choice", "Purpose", "choose_on", "decide", "knee", "of_purpose"]

Better = Literal["low", "high"]


@dataclass(frozen=True)
class Purpose:
    """What β is for, and what decides.

    Attributes:
        what: In a few words.
        metrics: What a sweep measures for it: name → settings.
        ways: Columns of one unit; the best value of any of them decides.
        better: Whether a low or a high value of these is better.
        beside: Further columns that are shown: name → low, high, or "" where neither is better.
    """

    what: str
    metrics: Mapping[str, Mapping[str, Any]]
    ways: tuple[str, ...]
    better: Better
    beside: Mapping[str, str] = dataclasses.field(default_factory=dict)


PURPOSES = {
    "samples": Purpose(
        "samples from a prior",
        {"frechet": {"streams": ("prior", "standardised", "gmm", "reconstruction")}},
        ("fd_prior", "fd_standardised", "fd_gmm"),
        "low",
        {"fd_reconstruction": "low", "precision_prior": "high", "recall_prior": "high",
         "precision_gmm": "high", "recall_gmm": "high", "density_gmm": "high",
         "coverage_gmm": "high"},
    ),
    "diffusion": Purpose(
        "codes for a second generator",
        {"viv": {}, "frechet": {"streams": ("flow", "reconstruction")}},
        ("fd_flow",),
        "low",
        {"fd_reconstruction": "low", "viv": "low", "viv_scaled": "low", "flow_loss": "low",
         "viv_scale": "", "effective_rank": "low", "excess_kurtosis": ""},
    ),
    "probe": Purpose(
        "features of a label",
        {"probe": {}},
        ("probe_accuracy", "knn_accuracy", "probe_r2", "knn_r2"),
        "high",
        {"probe_accuracy_10": "high", "knn_accuracy_10": "high", "probe_accuracy_100": "high",
         "knn_accuracy_100": "high", "probe_r2_100": "high", "knn_r2_100": "high"},
    ),
    "clusters": Purpose(
        "clusters",
        {"clusters": {}},
        ("cluster_ari",),
        "high",
        {"cluster_nmi": "high", "cluster_silhouette": "high", "cluster_stability": "high"},
    ),
    "anomaly": Purpose(
        "telling anomalies",
        {},
        ("auroc_distortion_nats", "auroc_rate_nats", "auroc_neg_elbo_nats", "auroc_nll_nats"),
        "high",
    ),
    "compression": Purpose(
        "few bits",
        {"bits": {}},
        ("code_bits", "rate_nats"),
        "low",
        {"code_psnr_db": "high", "psnr_db": "high", "code_overhead": ""},
    ),
    "latents": Purpose(
        "how many latents live",
        {"latents": {}},
        ("live_latents",),
        "low",
        {"axes_80": "", "axes_90": "", "axes_95": "", "axes_99": ""},
    ),
    "disentanglement": Purpose(
        "latents that are factors",
        {"disentanglement": {}},
        ("mig",),
        "high",
        {"dci_disentanglement": "high", "dci_completeness": "high", "dci_informativeness": "high",
         "sap": "high", "factor_vae": "high"},
    ),
    "likelihood": Purpose(
        "the likelihood of new data",
        {"nll": {}},
        ("nll_nats",),
        "low",
        {"nll_ess": "", "neg_elbo_nats": "low"},
    ),
}  # fmt: skip
"""Name → purpose."""


@dataclass(frozen=True)
class Choice:
    """A β for a purpose.

    Attributes:
        purpose: Its name in :data:`PURPOSES`.
        beta: The β that was chosen.
        column: The column that decided.
        near: The β's whose value is within one standard error of the best, rising.
        advice: Sentences: the β, how flat the optimum is, whether the range was wide enough.
        rows: What was measured at each β on the set that it was chosen on.
        about: What was measured, as a curve's.
        reported: What the chosen β has on the set that it is reported on; None where there is no
            other.
    """

    purpose: str
    beta: float
    column: str
    near: tuple[float, ...]
    advice: tuple[str, ...]
    rows: tuple[dict[str, float], ...]
    about: dict[str, Any]
    reported: dict[str, float] | None = None

    @property
    def shown(self) -> list[str]:
        """The columns of the table, those that are there."""
        of = PURPOSES[self.purpose]
        names = ["rate_nats", *of.ways, *of.beside]
        return [name for name in dict.fromkeys(names) if name in self.rows[0]]

    def table(self) -> str:
        """Return the β's as a table: → is the chosen one, ≈ those within ± of it."""
        near, ways = {self.beta, *self.near}, PURPOSES[self.purpose].ways
        errors = {name: _se(self.rows[0], name) for name in self.shown if name in ways}
        titles, cells = ["", "β"], []
        for name in self.shown:
            titles += [_LABELS.get(name, name), *(["±"] if errors.get(name) else [])]
        for row in self.rows:
            mark = "→" if row["beta"] == self.beta else "≈" if row["beta"] in near else ""
            line = [mark, f"{row['beta']:.4g}"]
            for name in self.shown:
                value = row.get(name, math.nan)
                line.append(f"{value:.0f}" if _is_count(name) else _digits(value))
                if error := errors.get(name):
                    line.append(_digits(row.get(error, math.nan)))
            cells.append(line)
        return columns(titles, cells, 2)

    def text(self) -> str:
        """Return the advice, and the table below it."""
        return "\n".join([*map(lines, self.advice), "", self.table()])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw what decided over β, with its errors, the choice, and what is as good.

        Args:
            path: The picture to write, .png, .pdf or .svg; by default none is.
        """
        from multibeta import plots

        of = PURPOSES[self.purpose]
        ways = [name for name in of.ways if name in self.rows[0]]
        beside = [name for name in self.shown if name not in ways][:1] if len(ways) < 2 else []
        labels = {name: _LABELS.get(name, name) for name in (*ways, *beside)}
        return plots.choice(
            self.rows, ways, beside, self.beta, (self.near[0], self.near[-1]), labels,
            {name: _se(self.rows[0], name) for name in labels}, path,
            f"{of.what}: {self.advice[0]}",
        )  # fmt: skip

    def on(self, row: Mapping[str, float]) -> str:
        """Return what decided, as another set has it, in a few words.

        Args:
            row: What was measured there at the β that was chosen.
        """
        name = self.column
        if self.purpose == "compression":
            return _bits_of(row)
        if _is_count(name):
            return f"{row[name]:.0f} live"
        se = _se(row, name)
        label = _LABELS.get(name, name)
        return f"{label} {_digits(row[name])}" + (f" ± {_digits(row[se])}" if se else "")

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values; a value that is not finite becomes None."""
        return _plain(dataclasses.asdict(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON.

        Args:
            path: The file.
        """
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=1) + "\n")


_LABELS = {
    "rate_nats": "rate R", "nll_nats": "−log p", "neg_elbo_nats": "D + R", "psnr_db": "PSNR",
    "auroc_distortion_nats": "AUROC of D", "auroc_rate_nats": "of R",
    "code_bits": "bits", "code_psnr_db": "PSNR in a file", "code_overhead": "bits / R",
    "auroc_neg_elbo_nats": "of D + R", "auroc_nll_nats": "of −log p",
}  # fmt: skip


def _is_count(name: str) -> bool:
    return name.startswith(("live_", "axes_"))


def _digits(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _se(row: Mapping[str, float], name: str) -> str:
    """Return the column of the standard error of another; "" where there is none."""
    stem = name.removesuffix("_nats").removesuffix("_db")
    return next((of for of in (f"{name}_se", f"{stem}_se") if of in row), "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decide(
    rows: Sequence[Mapping[str, float]], ways: Sequence[str], better: Better
) -> tuple[str, int, list[int]]:
    r"""Return the column and the row of the best value, and the rows that are as good.

    .. math:: |v_k - v_*| \le \mathrm{s.e.}(v_*)

    the rule of one standard error (Breiman et al. 1984, "Classification and Regression Trees",
    section 3.4.3), in the column of the best value. Without a standard error only equal values are
    as good.

    Args:
        rows: One a β, rising.
        ways: Columns of one unit.
        better: Whether a low or a high value is better.

    Raises:
        ValueError: If no value is there, or none is finite.
    """
    sign = 1.0 if better == "low" else -1.0
    values = np.array([[row.get(name, math.nan) for name in ways] for row in rows])
    if not np.isfinite(values).any():
        raise ValueError(f"no value of {', '.join(ways)} is finite; nothing can be chosen by it")
    best = np.nanargmin(np.where(np.isfinite(values), sign * values, np.inf))
    k, way = (int(i) for i in np.unravel_index(best, values.shape))
    se = rows[k].get(_se(rows[k], ways[way]), math.nan)
    width = se if math.isfinite(se) else 0.0
    with np.errstate(invalid="ignore"):
        near = np.abs(values[:, way] - values[k, way]) <= width
    return ways[way], k, np.flatnonzero(near).tolist()


def knee(rate: Sequence[float], distortion: Sequence[float]) -> int:
    r"""Return the knee of a curve: the point farthest from the line through its ends.

    R and D are scaled to [0, 1] each. For the ends (0, 1) and (1, 0) that is the least r + d.

    Args:
        rate: R at each β.
        distortion: D at each β.

    References:
        Satopää et al. 2011, "Finding a 'Kneedle' in a Haystack", section III.
    """
    r, d = (np.asarray(of, float) for of in (rate, distortion))
    r, d = ((of - of.min()) / (np.ptp(of) or 1.0) for of in (r, d))
    return int(np.argmin(r + d))


def of_purpose(name: str) -> Purpose:
    """Return a purpose by its name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PURPOSES:
        raise ValueError(
            f"purpose {name} is unknown{nearest(name, PURPOSES)}; allowed: {', '.join(PURPOSES)}"
        )
    return PURPOSES[name]


def choose_on(
    purpose: str, rows: Sequence[dict[str, float]], about: Mapping[str, Any], beta: float | None
) -> Choice:
    """Return the choice that rows of one set lead to.

    Args:
        purpose: Its name.
        rows: One a β, rising.
        about: What was measured, as a curve's.
        beta: The β, where it is no optimum but was searched for.

    Raises:
        ValueError: If the purpose is unknown, or nothing was measured for it.
    """
    of = of_purpose(purpose)
    ways = [name for name in of.ways if any(name in row for row in rows)]
    if not ways:
        hint = " and ".join(of.metrics) or "multibeta.choose.choose"
        raise ValueError(
            f"for {purpose} a curve needs {' or '.join(of.ways)}, and has none; measure it with "
            f"metrics {hint}"
        )
    betas = [row["beta"] for row in rows]
    if beta is not None:
        k, column = min(range(len(rows)), key=lambda i: abs(math.log(betas[i] / beta))), ways[0]
        advice = _found(rows, k, about["split"])
        return Choice(purpose, betas[k], column, (betas[k],), advice, tuple(rows), dict(about))
    if purpose == "latents":
        distortion = "distortion_nats" if "distortion_nats" in rows[0] else "distortion"
        k = knee([row["rate_nats"] for row in rows], [row[distortion] for row in rows])
        advice = _live(rows, k, about)
        return Choice(purpose, betas[k], ways[0], (betas[k],), advice, tuple(rows), dict(about))
    column, k, near = decide(rows, ways, of.better)
    advice = _optimum(purpose, rows, about, column, k, near)
    return Choice(
        purpose, betas[k], column, tuple(betas[i] for i in near), advice, tuple(rows), dict(about)
    )


def _optimum(
    purpose: str,
    rows: Sequence[Mapping[str, float]],
    about: Mapping[str, Any],
    column: str,
    k: int,
    near: Sequence[int],
) -> tuple[str, ...]:
    """Say what the optimum is, how flat it is, and what is wrong with it."""
    of, betas = PURPOSES[purpose], [row["beta"] for row in rows]
    label, se = _LABELS.get(column, column), _se(rows[k], column)
    error = f" ± {_digits(rows[k][se])}" if se else ""
    said = [
        f"β = {betas[k]:.4g}: {label} {_digits(rows[k][column])}{error} on the {about['split']} "
        "set."
    ]
    if not se or not math.isfinite(rows[k][se]):
        said.append(f"{label} has no standard error here: β's near it cannot be told apart.")
    elif len(near) == len(rows) > 1:
        said.append(
            "The numbers do not decide: every β is within one standard error of it. Take another "
            "purpose's, or measure more examples."
        )
    elif len(near) > 1:
        together = list(near) == list(range(near[0], near[-1] + 1))
        gaps = "" if together else ", but not all between them"
        said.append(
            f"β from {betas[near[0]]:.4g} to {betas[near[-1]]:.4g} is within one standard error "
            f"of it{gaps}."
        )
    else:
        said.append("No other β that was measured is within one standard error of it.")
    low, high = (BetaRange.parse(about["betas"]).low, BetaRange.parse(about["betas"]).high)
    for end, word, edge in ((0, "below", low), (len(rows) - 1, "above", high)):
        if k != end or len(rows) < 2:
            continue
        if math.isclose(betas[end], edge, rel_tol=1e-6):
            further = f"{low / 10:.4g}:{high:.4g}" if end == 0 else f"{low:.4g}:{high * 10:.4g}"
            cure = f"train further out, with --model.betas {further}"
        else:
            cure = f"measure further out, with --betas {low:g}:{high:g}"
        said.append(f"It is the end of the range: a β {word} it may be better; {cure}.")
    if rows[k].get(f"{column}_bound"):
        side = "below" if rows[k][f"{column}_bound"] < 0 else "above"
        said.append(f"Its true value may be {side} this one by more than ±: see docs, ≥ and ≤.")
    others = {}
    for name, better in {**dict.fromkeys(of.ways, of.better), **of.beside}.items():
        if name != column and better and any(name in row for row in rows):
            _, best, _ = decide(rows, [name], "low" if better == "low" else "high")
            others[_LABELS.get(name, name)] = betas[best]
    if others:
        listed = ", ".join(f"{name} {beta:.4g}" for name, beta in others.items())
        said.append(f"The best β by other columns: {listed}.")
    return tuple(said)


def _found(rows: Sequence[Mapping[str, float]], k: int, split: str) -> tuple[str, ...]:
    real = (
        f"Bits are those of a file of {rows[k]['code_examples']:.0f} examples, "
        f"{rows[k]['code_overhead']:.2f} R."
        if "code_bits" in rows[k]
        else "R is what an ideal code takes; a file takes more."
    )
    return (
        f"β = {rows[k]['beta']:.4g}: {_bits_of(rows[k])} on the {split} set.",
        f"It has what was asked for within 1 %. {real}",
    )


def _bits_of(row: Mapping[str, float]) -> str:
    """Return the bits of an example, real ones if they are known, and the PSNR."""
    bits = row.get("code_bits", row["rate_nats"] / math.log(2))
    psnr = row.get("code_psnr_db", row.get("psnr_db"))
    return f"{bits:.2f} bits an example" + (f", PSNR {psnr:.2f} dB" if psnr is not None else "")


def _live(
    rows: Sequence[Mapping[str, float]], k: int, about: Mapping[str, Any]
) -> tuple[str, ...]:
    size, row = about["latent_shape"][0], rows[k]
    what = "latents" if len(about["latent_shape"]) == 1 else "channels"
    live = [int(of["live_latents"]) for of in rows]
    said = [
        f"β = {row['beta']:.4g}, the knee of D against R: {live[k]} of {size} {what} have more "
        f"than 0.2 nats; {row['axes_95']:.0f} axes hold 95 % of the variance of the means.",
        f"{live[0]} live at β = {rows[0]['beta']:.4g}, {live[-1]} at {rows[-1]['beta']:.4g}.",
    ]
    if live[k] == size:
        said.append(
            f"All {size} live there: more may be of use; train with a larger --model.latent_dim."
        )
    return tuple(said)
