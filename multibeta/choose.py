"""Which β for a purpose: a small rule over what was measured, with the numbers behind it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from multibeta.betas import BetaRange, parse_betas
from multibeta.codes import encode
from multibeta.curve import Curve
from multibeta.data.door import Door
from multibeta.evaluation import sweep
from multibeta.files import replacing
from multibeta.metrics import Bits
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.options import nearest
from multibeta.scores import score
from multibeta.tables import columns, lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PURPOSES", "Choice", "Purpose", "choose", "decide", "knee"]

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


def choose(
    model: MultiBetaVAE,
    data: Any,
    purpose: str,
    betas: str | float | Iterable[float] | None = None,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    other: Any = None,
    label: str | None = None,
    normal: str | None = None,
    bits: float | None = None,
    psnr: float | None = None,
    distortion: float | None = None,
    extrapolate: bool = False,
    progress: bool = False,
) -> Choice:
    """Choose β for a purpose on the validation set, and report it on the test set.

    Each purpose is a small rule:

    - *samples*: the least Fréchet distance of samples, from N(0, I), from standardised latents or
      from a mixture;
    - *diffusion*: the least Fréchet distance of what a small flow, fitted to the codes of the
      training set, makes; VIV and D stand beside it;
    - *probe*: the highest accuracy (R² of quantities) of a linear probe or of neighbours;
    - *clusters*: the highest adjusted Rand index of k-means (or ``leiden``) against a label;
    - *anomaly*: the highest AUROC, of any score, against another data set or of a label;
    - *compression*: the β of the fewest bits with a PSNR, or D, or of the best one with so many
      bits; real ones, of a file by :class:`multibeta.Codec`, if constriction is installed, else R;
    - *latents*: how many have more than .2 nats, at the knee of D against R;
    - *disentanglement*: the highest MIG;
    - *likelihood*: the least importance-weighted −log p(x).

    What is within one standard error of the best is as good: see :func:`decide`.

    Args:
        model: The model; it is measured on the device it is on.
        data: Anything that :class:`multibeta.data.Door` takes.
        purpose: One of :data:`PURPOSES`.
        betas: As in :func:`multibeta.sweep`.
        settings: Metric → settings, to change what is measured.
        other: For *anomaly*, another data set.
        label: The label of *probe*, *clusters* and *anomaly*, where there are several.
        normal: For *anomaly*, the values of the label that are normal, with commas.
        bits: For *compression*, the most bits an example.
        psnr: The least PSNR, decibels.
        distortion: The highest D, in its units.
        extrapolate: Allow β outside the trained range.
        progress: Show progress on stderr.

    Raises:
        ValueError: If the purpose is unknown, lacks what it needs, or has what it does not take.
    """
    of = of_purpose(purpose)
    given = {"other": other, "normal": normal, "label": label, "bits": bits, "psnr": psnr,
             "distortion": distortion}  # fmt: skip
    _check(purpose, {name for name, value in given.items() if value is not None})
    door = Door.of(data, model)
    here, there = door.measured("val"), door.measured("test")
    beta = None
    if purpose == "anomaly":
        sides = _Sides(model, door, other, label, normal, settings or {}, extrapolate, progress)
        measured = sides.measured
    else:
        metrics = _settings(of, settings or {}, label, model)
        wanted: dict[str, Any] = {"distortion_nats": distortion}
        if purpose == "compression" and (lacks := Bits.lacks(data)):
            print(f"by R, not by real bits, which lack {lacks}", file=sys.stderr)
            metrics = {} if psnr is None and len(model.shape) != 3 else {"psnr": {}}
            wanted |= {"rate_bits": bits, "psnr_db": psnr}
        else:
            wanted |= {"code_bits": bits, "code_psnr_db": psnr}

        def measured(split: str, betas: Any) -> Curve:
            return sweep(
                model, data, betas, metrics=metrics, split=split,  # type: ignore[arg-type]
                extrapolate=extrapolate, progress=progress,
            )  # fmt: skip

        if purpose == "compression":
            grid = parse_betas(str(model.beta_range) if betas is None else betas)
            found = measured(here, grid)
            beta = found.beta_for(**wanted)
            betas = tuple(sorted({*grid, beta}))
    curve = measured(here, betas)
    choice = choose_on(purpose, curve.rows, curve.about, beta)
    if here == there:
        said = f"There is no other set: β was chosen on the {here} set that it is reported on."
        return dataclasses.replace(choice, advice=(*choice.advice, said))
    row = measured(there, choice.beta).rows[0]
    advice = list(choice.advice)
    advice.insert(1, f"On the {there} set: {_reported(choice, row)}.")
    return dataclasses.replace(choice, advice=tuple(advice), reported=row)


def _reported(choice: Choice, row: Mapping[str, float]) -> str:
    name = choice.column
    if choice.purpose == "compression":
        return _bits_of(row)
    if _is_count(name):
        return f"{row[name]:.0f} live"
    se = _se(row, name)
    label = _LABELS.get(name, name)
    return f"{label} {_digits(row[name])}" + (f" ± {_digits(row[se])}" if se else "")


_TAKES = {
    "anomaly": ({"other", "normal", "label"}, "give --other DATA, or --normal VALUES of a label"),
    "compression": ({"bits", "psnr", "distortion"}, "give one of --bits, --psnr, --distortion"),
    "probe": ({"label"}, ""),
    "clusters": ({"label"}, ""),
}


def _check(purpose: str, given: set[str]) -> None:
    """Refuse options that a purpose does not take, and one that lacks what it needs."""
    takes, cure = _TAKES.get(purpose, (set(), ""))
    if wrong := sorted(given - takes):
        raise ValueError(f"{purpose} takes no {wrong[0]}; leave --{wrong[0]} out")
    if purpose == "anomaly" and ("other" in given) == ("normal" in given):
        raise ValueError(f"what is an anomaly? {cure}")
    if purpose == "anomaly" and "label" in given and "other" in given:
        raise ValueError("label goes with --normal; leave --label or --other out")
    if purpose == "compression" and len(given) != 1:
        raise ValueError(cure)


def _settings(
    of: Purpose, settings: Mapping[str, Mapping[str, Any]], label: str | None, model: MultiBetaVAE
) -> dict[str, dict[str, Any]]:
    """Return the settings of the metrics of a purpose."""
    if unknown := [name for name in settings if name not in of.metrics]:
        raise ValueError(
            f"settings of {unknown[0]} are given, which is not measured; allowed: "
            f"{', '.join(of.metrics) or 'none'}"
        )
    found = {name: {**own, **settings.get(name, {})} for name, own in of.metrics.items()}
    if label is not None:
        for own in found.values():
            own["label"] = label
    return found


@dataclass(frozen=True)
class _Sides:
    """Two sides of a data set, or two data sets, that scores are to tell apart."""

    model: MultiBetaVAE
    door: Any
    other: Any
    label: str | None
    normal: str | None
    settings: Mapping[str, Mapping[str, Any]]
    extrapolate: bool
    progress: bool

    def measured(self, split: str, betas: Any) -> Curve:
        """Return the AUROC of each score at each β, on a set."""
        own, other = self.door, self.other
        if other is None:
            own, other = self._by_label(split)
        options = dict(self.settings.get("score", {}))
        found = score(
            self.model, own, other, betas, split=split, extrapolate=self.extrapolate,  # type: ignore[arg-type]
            progress=self.progress, **options,
        )  # fmt: skip
        rates = found.own["rate_nats"].mean(1)
        rows = [
            {**row, "rate_nats": float(rate)} for row, rate in zip(found.rows, rates, strict=True)
        ]
        return Curve(tuple(rows), found.about)

    def _by_label(self, split: str) -> tuple[Any, Any]:
        """Return the normal and the other examples of a set."""
        codes = encode(self.model, self.door, self.model.beta_range.middle, splits=(split,))
        label = self.label or codes.label() or next(iter(codes.labels), None)
        if label is None or label not in codes.labels:
            known = ", ".join(codes.labels) or "none"
            raise ValueError(f"label={label} is unknown; the data has {known}")
        wanted = [word.strip() for word in str(self.normal).split(",")]
        values = codes.labels[label].astype(str)
        if unknown := [word for word in wanted if word not in values]:
            some = ", ".join(np.unique(values)[:10])
            raise ValueError(f"normal={unknown[0]} is no value of {label}; it has {some}")
        normal = torch.from_numpy(np.isin(values, wanted))
        if normal.all():
            raise ValueError(f"all examples of the {split} set are normal; leave some out")
        x = torch.cat([self.model.read(batch).x for batch in self.door.batches(split)])
        return x[normal], x[~normal]
