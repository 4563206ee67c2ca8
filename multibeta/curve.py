"""The rate-distortion curve: what was measured at each β, kept, printed, drawn and read."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import itertools
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from multibeta.betas import BetaRange
from multibeta.files import check_readable, replacing
from multibeta.metrics.alignment import HISTOGRAM
from multibeta.schemas import CURVE, check
from multibeta.tables import columns, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from multibeta.purposes import Choice

__all__ = ["Curve"]

_TOLERANCE = 0.01
_HISTOGRAMS, _HISTOGRAMS_BESIDE = 6, 4
_WIDTH = 5


@dataclass(frozen=True)
class Curve:
    """What was measured at each β.

    Args:
        rows: One a β, rising: column → value. Rates and distortions are nats per example,
            summed over dimensions; a column ending in ``_se`` is a standard error.
        about: What was measured: model, likelihood, σ, d, data set, split, n, seed, versions.
        latents: What was measured at each latent, one a β: name → a number, or a
            list of them, a latent.
        measure: Measures the same model on the same data at other β's, with other metrics; None
            for a curve that was read from a file.
    """

    rows: tuple[dict[str, float], ...]
    about: dict[str, Any]
    latents: tuple[dict[str, list[Any]], ...] = ()
    measure: Callable[..., Curve] | None = field(default=None, compare=False, repr=False)

    @property
    def swept(self) -> str:
        """The weight that differs from row to row: β, unless another was swept."""
        return self.about.get("swept", "beta")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.rows[0])

    @property
    def unit(self) -> str:
        """The unit of D: nats, or the name of a distortion function."""
        return "nats" if self.about.get("unit", "nats") else self.about["likelihood"]

    @property
    def distortion(self) -> str:
        """The name of D's column: ``distortion_nats``, or ``distortion`` in units of its own."""
        return "distortion_nats" if "distortion_nats" in self.rows[0] else "distortion"

    @property
    def objective(self) -> str:
        """The name of the objective's column, as D's."""
        return self.distortion.replace("distortion", "objective")

    def __len__(self) -> int:
        """The number of β's."""
        return len(self.rows)

    @overload
    def __getitem__(self, key: str) -> list[float]: ...

    @overload
    def __getitem__(self, key: float) -> dict[str, float]: ...

    def __getitem__(self, key: str | float) -> list[float] | dict[str, float]:
        """Return a column, a value a β; or for a number the row at this β.

        Raises:
            KeyError: If there is no such column, or nothing was measured at this β.
        """
        if isinstance(key, str):
            return [row[key] for row in self.rows]
        for row in self.rows:
            if math.isclose(row[self.swept], key, rel_tol=1e-6):
                return row
        known = ", ".join(f"{row[self.swept]:g}" for row in self.rows)
        raise KeyError(f"nothing was measured at {self.swept}={key:g}; there are {known}")

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame, a row a β.

        Raises:
            ImportError: If there is no pandas.
        """
        import pandas

        return pandas.DataFrame(list(self.rows))

    def _repr_html_(self) -> str:
        """Return the table and the picture, for a notebook."""
        with tempfile.TemporaryDirectory() as folder:
            self.plot(path := Path(folder) / "curve.png")
            picture = base64.b64encode(path.read_bytes()).decode()
        return (
            '<img alt="distortion against rate" width="480" '
            f'src="data:image/png;base64,{picture}">'
            f"<pre>{html.escape(self.table())}</pre>"
        )

    def beta_for(
        self,
        *,
        rate_nats: float | None = None,
        rate_bits: float | None = None,
        distortion_nats: float | None = None,
        psnr_db: float | None = None,
        code_bits: float | None = None,
        code_psnr_db: float | None = None,
    ) -> float:
        """Return the β that has a wanted rate, distortion or PSNR.

        The model is measured at β's between the curve's ends, each time halving the span of log β,
        until the value is within 1 % of the wanted one.

        Args:
            rate_nats: R, nats per example.
            rate_bits: R, bits per example.
            distortion_nats: D, nats per example.
            psnr_db: The PSNR of reconstructions, decibels.
            code_bits: Real bits per example, of the metric ``bits``.
            code_psnr_db: The PSNR of what these are read as, decibels.

        Raises:
            ValueError: If not exactly one of them is given, the curve was read from a file, or
                no β between its ends has the value.
        """
        given = {
            "rate_nats": rate_nats,
            "rate_bits": rate_bits,
            "distortion_nats": distortion_nats,
            "psnr_db": psnr_db,
            "code_bits": code_bits,
            "code_psnr_db": code_psnr_db,
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        if len(wanted) != 1:
            raise ValueError(f"give one of {', '.join(given)}; {len(wanted)} were given")
        if self.swept != "beta":
            raise ValueError(f"this curve has one β, {self.swept} was swept; measure one over β")
        if self.measure is None:
            raise ValueError(
                "this curve was read from a file; measure it with multibeta.sweep, or use the "
                "command multibeta rate"
            )
        ((name, value),) = wanted.items()
        return _bisect(self, self.measure, name, value)

    def choose(
        self,
        purpose: str,
        *,
        bits: float | None = None,
        psnr: float | None = None,
        distortion: float | None = None,
    ) -> Choice:
        """Return the β for a purpose, by what this curve has: see :func:`multibeta.choose.choose`.

        Args:
            purpose: samples, diffusion, probe, clusters, compression, latents, disentanglement or
                likelihood; the curve has to have its metrics.
            bits: For *compression*, the most bits an example.
            psnr: The least PSNR, decibels.
            distortion: The highest D, in its units.

        Raises:
            ValueError: If the purpose is unknown, or was not measured.
        """
        from multibeta.purposes import choose_on

        beta = None
        if purpose == "compression":
            real = "code_bits" in self.columns
            names = ("code_bits", "code_psnr_db") if real else ("rate_bits", "psnr_db")
            asked = dict(zip(names, (bits, psnr), strict=True))
            beta = self.beta_for(distortion_nats=distortion, **asked)
        return choose_on(purpose, self.rows, self.about, beta)

    def table(self) -> str:
        """Return the curve as text, a line a β, under a line that says what it is."""
        return f"{lines(_headline(self.about))}\n{_table(self.rows, self.swept)}"

    @property
    def trained(self) -> tuple[float, float]:
        """The lowest and highest β of the model's training."""
        trained = BetaRange.parse(self.about["betas"])
        return trained.low, trained.high

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """Draw distortion against rate, coloured by β.

        Args:
            path: The picture to write, .png, .pdf or .svg; by default none is.
            ax: Axes to draw into; a figure of its own by default.

        Returns:
            The figure.
        """
        from multibeta import plots

        places = f" at {len(self)} values of {plots.symbol(self.swept)}" if len(self) > 1 else ""
        title = f"Distortion against rate{places}\n{_headline(self.about)}"
        return plots.rate_distortion(
            self.rows, path, title, swept=self.swept, unit=self.unit, trained=self.trained, ax=ax
        )

    def draw_pictures(self, folder: str | os.PathLike[str]) -> None:
        """Draw curve.png, plane.png, and what was measured of latents.png and alignment.png.

        Where another weight than β was swept there is no plane.png: it is about the slope −β.

        Args:
            folder: Where to.
        """
        from multibeta import plots

        folder, about = Path(folder), _headline(self.about)
        self.plot(folder / "curve.png")
        if self.swept == "beta":
            entropy = self.about.get("entropy_nats")
            title = f"The curve in the rate-distortion plane\n{about}"
            plots.plane(self.rows, folder / "plane.png", title, entropy, self.unit, self.trained)
        if self.latents and "latent_rate_nats" in self.latents[0]:
            rates = np.array([of_beta["latent_rate_nats"] for of_beta in self.latents])
            title = f"The rate of each latent: dark where it has switched off\n{about}"
            plots.latents(self[self.swept], rates, folder / "latents.png", title, swept=self.swept)
        if self.latents and "latent_histogram" in self.latents[0]:
            distances = np.array([of_beta["latent_w1"] for of_beta in self.latents])
            densities = np.array([of_beta["latent_histogram"] for of_beta in self.latents])
            # Those that change most over β.
            count = _HISTOGRAMS if "against_w1" not in self.columns else _HISTOGRAMS_BESIDE
            chosen = np.sort(np.argsort(-np.ptp(distances, axis=0), kind="stable")[:count])
            beside = {
                k: np.array(of_beta["against_histogram"])[chosen]
                for k, of_beta in enumerate(self.latents)
                if "against_histogram" in of_beta
            }
            title = f"Codes of the latents that change most (blue), and the prior (line)\n{about}"
            plots.alignment(
                self.rows, densities[:, chosen], chosen.tolist(), HISTOGRAM[:2],
                folder / "alignment.png", beside, swept=self.swept, title=title,
            )  # fmt: skip

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row a β."""
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the rows, what they are about, and a digest; :meth:`from_json` reads them."""
        content = self.as_dict()
        with replacing(path) as temporary:
            signed = {**content, "sha256": _digest(content)}
            temporary.write_text(json.dumps(signed, indent=1) + "\n")

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"about": …, "rows": […]}``; a value that is not finite becomes None.

        With ``"latents": […]`` where something was measured at each latent.
        """
        rows = [{k: _finite(v) for k, v in row.items()} for row in self.rows]
        content: dict[str, Any] = {"about": self.about, "rows": rows}
        if self.latents:
            content["latents"] = [
                {name: _finite(values) for name, values in of_beta.items()}
                for of_beta in self.latents
            ]
        return content

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Curve:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: If there is no such file, or it is something else.
        """
        if not Path(path).is_file():
            raise ValueError(f"no curve at {path}; give a curve.json, or the folder of its run")
        check_readable(path)
        try:
            content = json.loads(Path(path).read_text())
            check(CURVE, content)
            if content.pop("sha256", None) not in (None, _digest(content)):
                raise ValueError("it was changed after it was written: its digest is another")
            rows, latents = (
                tuple({k: _number(v) for k, v in row.items()} for row in content.get(name, ()))
                for name in ("rows", "latents")
            )
            curve = cls(rows, content["about"], latents)
            curve._check()
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is not a curve.json of multibeta ({error})") from None
        return curve

    def _check(self) -> None:
        """Refuse rows that no sweep could have measured.

        Raises:
            ValueError: If a value is negative where none can be, not finite, or missing.
        """
        swept = self.swept
        if self.latents and len(self.latents) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows, {len(self.latents)} of latents")
        needed = {"beta", swept, "rate_nats", self.distortion, self.objective}
        for row in self.rows:
            if lacks := {*needed, "rate_se", *self.columns} - row.keys():
                raise ValueError(f"a row has no {sorted(lacks)[0]}")
            if infinite := [name for name in sorted(needed) if not math.isfinite(row[name])]:
                raise ValueError(f"{infinite[0]} is not finite")
            for name in ("beta", swept):
                if not row[name] > 0:
                    raise ValueError(f"{name}={row[name]:g} is not above 0")
            if row["rate_nats"] < 0:
                raise ValueError(f"rate_nats={row['rate_nats']:g} is below 0")
        values = [row[swept] for row in self.rows]
        if any(a >= b for a, b in itertools.pairwise(values)):
            raise ValueError(f"{swept} does not rise from row to row")


def _bisect(curve: Curve, measure: Callable[..., Curve], name: str, wanted: float) -> float:
    """Return a β between a curve's ends where a column has the wanted value to 1 %."""
    column, unit = ("rate_nats", math.log(2)) if name == "rate_bits" else (name, 1.0)
    column = curve.distortion if column == "distortion_nats" else column
    known = {row["beta"]: row[column] for row in curve.rows if column in row}
    metrics = ["bits"] if column.startswith("code_") else ["psnr"] * (column == "psnr_db")

    def value(beta: float) -> float:
        if beta not in known:
            found = measure(beta, metrics=metrics)
            if column not in found.columns:
                raise ValueError(
                    f"{name} needs the peak of x, which is not known of these data; ask for "
                    "another value"
                )
            known[beta] = found[column][0]
        return known[beta] / unit

    def near(found: float) -> bool:
        return abs(found - wanted) <= _TOLERANCE * abs(wanted)

    low, high = curve["beta"][0], curve["beta"][-1]
    at_low, at_high = value(low), value(high)
    for beta, found in ((low, at_low), (high, at_high)):
        if near(found):
            return beta
    if not min(at_low, at_high) < wanted < max(at_low, at_high):
        raise ValueError(
            f"{name}={wanted:g} is out of reach; this model has {name} from {at_low:.4g} at "
            f"β = {low:g} to {at_high:.4g} at β = {high:g}"
        )
    while high / low > 1 + 1e-6:
        middle = math.sqrt(low * high)
        found = value(middle)
        if near(found):
            return middle
        if (found < wanted) == (at_low < at_high):
            low = middle
        else:
            high = middle
    return low


def _digest(content: dict[str, Any]) -> str:
    """Return that of the curve alone: a result file may hold more beside it."""
    own = {name: content.get(name) for name in ("about", "rows", "latents")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _finite(value: Any) -> Any:
    """Return a number, or numbers in lists, with None for what is not finite."""
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value if math.isfinite(value) else None


def _number(value: Any) -> Any:
    """Return what :func:`_finite` was given, with nan for what was not finite."""
    if isinstance(value, list):
        return [_number(v) for v in value]
    return math.nan if value is None else value


def _headline(about: dict[str, Any]) -> str:
    sigma = "" if about["sigma"] is None else f" σ = {about['sigma']:g}"
    others = {k: v for k, v in about.get("weights", {}).items() if k != "sigma"}
    weights = "".join(f", {name} = {value:g}" for name, value in others.items())
    objective = about.get("objective", "BetaELBO")
    first = f"the first {about['first']:,}, " if about.get("first") else ""
    return (
        f"{about['data']}, {about['split']} set, {first}N = {about['n']:,}, d = {about['d']:,}, "
        f"{'' if about.get('unit', 'nats') else 'D = '}{about['likelihood']}{sigma}"
        + (f", {objective}{weights}" if objective != "BetaELBO" else "")
    )


_COLUMNS = {
    "beta": "β",
    "rate_nats": "rate R",
    "rate_se": "±",
    "distortion_nats": "distortion D",
    "distortion": "distortion D",
    "distortion_se": "±",
    "objective_nats": "D + βR",
    "objective": "D + βR",
    "objective_se": "±",
    "neg_elbo_nats": "D + R",
    "optimal_rate_nats": "optimal R",
    "optimal_distortion_nats": "optimal D",
    "optimal_objective_nats": "optimal D + βR",
    "excess_nats": "excess",
}


def _table(rows: Sequence[dict[str, float]], swept: str) -> str:
    """Return the curve as a table, and what else was measured as tables below it."""
    names = [name for name in dict.fromkeys(["beta", swept, *_COLUMNS]) if name in rows[0]]
    more = [name for name in rows[0] if name not in names and not name.endswith(_BOUND)]
    keys = [name for name in names if name in ("beta", swept)]
    tables = [_columns(rows, names, keys)]
    if more:
        tables.append(_columns(rows, [swept, *more], [swept], _WIDTH))
    return "\n\n".join([*tables, *_bounds(rows)])


def _bounds(rows: Sequence[dict[str, float]]) -> list[str]:
    """Say what limits the figures that are marked as bounds."""
    marked = {name for row in rows for name, of in row.items() if name.endswith(_BOUND) and of}
    known = []
    if any(name.startswith("information") for name in marked):
        known.append(f"no more than log N = {rows[0]['log_n_nats']:.3g} nats can be seen of it")
    if any(name.startswith("nll") for name in marked):
        least = min(row["nll_ess"] for row in rows)
        known.append(f"as few as {least:.1f} of {rows[0]['nll_samples']:.0f} samples count")
    if any(name.startswith(("fd_", "fid_")) for name in marked):
        known.append("a Fréchet distance of few pictures is too high")
    if any(name.startswith(("viv", "effective_rank")) for name in marked):
        known.append("the examples are few for so many axes")
    said = "; ".join(known)
    return [lines(f"≥, ≤: bounds, whose bias is larger than ±: {said}")] if marked else []


_BOUND = "_bound"
_MINUS_ZERO = re.compile(r"^-(?=0(\.0*)?$)")


def _columns(
    rows: Sequence[dict[str, float]],
    names: Sequence[str],
    weights: Sequence[str],
    most: int | None = None,
) -> str:
    titles = [_COLUMNS.get(name, name) for name in names]
    counts = {name for name in names if all(float(row[name]).is_integer() for row in rows)}
    digits = dict.fromkeys(counts, ".0f") | dict.fromkeys(weights, ".4g")
    shape = {
        name: digits.get(name, ".5f" if name.startswith(("kid_", "kd_")) else ".3f")
        for name in names
    }
    marks = {1.0: "≥", -1.0: "≤"}
    cells = [
        [
            marks.get(row.get(f"{name}{_BOUND}", 0.0), "")
            + _MINUS_ZERO.sub("", f"{row[name]:{shape[name]}}")
            for name in names
        ]
        for row in rows
    ]
    return columns(titles, cells, len(weights), most)
