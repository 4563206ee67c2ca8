"""The rate-distortion curve: measure a model at any β, and keep, print and read the result."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from rich.progress import track
from torch import Tensor

import multibeta
from multibeta import plots
from multibeta.betas import parse_betas
from multibeta.data import Batches, ImageData
from multibeta.files import replacing
from multibeta.metrics import METRICS, CurveMetric, Evaluated, RateDistortion
from multibeta.metrics.alignment import HISTOGRAM
from multibeta.model import MultiBetaVAE, evaluation_noise, images_of
from multibeta.options import nearest

__all__ = ["Curve", "Split", "draw_strip", "metrics_of", "sweep"]

Split = Literal["train", "val", "test"]

_GROUP = 8
_TOLERANCE = 0.01
_HISTOGRAMS = 6
_WIDTH = 5
_STRIP_COLUMNS, _STRIP_ROWS = 12, 7


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
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.rows[0])

    def __getitem__(self, column: str) -> list[float]:
        """Return a column, a value a β."""
        return [row[column] for row in self.rows]

    def beta_for(
        self,
        *,
        rate_nats: float | None = None,
        rate_bits: float | None = None,
        distortion_nats: float | None = None,
        psnr_db: float | None = None,
    ) -> float:
        """Return the β that has a wanted rate, distortion or PSNR.

        The model is measured at β's between the curve's ends, each time halving the span of log β,
        until the value is within 1 % of the wanted one.

        Args:
            rate_nats: R, nats per example.
            rate_bits: R, bits per example.
            distortion_nats: D, nats per example.
            psnr_db: The PSNR of reconstructions, decibels.

        Raises:
            ValueError: If not exactly one of them is given, the curve was read from a file, or
                no β between its ends has the value.
        """
        given = {
            "rate_nats": rate_nats,
            "rate_bits": rate_bits,
            "distortion_nats": distortion_nats,
            "psnr_db": psnr_db,
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        if len(wanted) != 1:
            raise ValueError(f"give one of {', '.join(given)}; {len(wanted)} were given")
        if self.measure is None:
            raise ValueError(
                "this curve was read from a file; measure it with multibeta.sweep, or use the "
                "command multibeta rate"
            )
        ((name, value),) = wanted.items()
        return _bisect(self, self.measure, name, value)

    def table(self) -> str:
        """Return the curve as text, a line a β, under a line that says what it is."""
        return f"{_headline(self.about)}\n{_table(self.rows)}"

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw distortion against rate, coloured by β; the suffix chooses the format."""
        plots.rate_distortion(self.rows, path, _headline(self.about))

    def draw_pictures(self, folder: str | os.PathLike[str]) -> None:
        """Draw curve.png, plane.png, and what was measured of latents.png and alignment.png.

        Args:
            folder: Where to.
        """
        folder, title = Path(folder), _headline(self.about)
        self.plot(folder / "curve.png")
        plots.plane(self.rows, folder / "plane.png", title)
        if self.latents and "latent_rate_nats" in self.latents[0]:
            rates = np.array([of_beta["latent_rate_nats"] for of_beta in self.latents])
            plots.latents(self["beta"], rates, folder / "latents.png", title)
        if self.latents and "latent_histogram" in self.latents[0]:
            distances = np.array([of_beta["latent_w1"] for of_beta in self.latents])
            densities = np.array([of_beta["latent_histogram"] for of_beta in self.latents])
            # Those that change most over β.
            chosen = np.sort(np.argsort(-np.ptp(distances, axis=0), kind="stable")[:_HISTOGRAMS])
            path = folder / "alignment.png"
            plots.alignment(self.rows, densities[:, chosen], chosen.tolist(), HISTOGRAM[:2], path)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row a β."""
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the rows and what they are about; :meth:`from_json` reads them."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=1) + "\n")

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
        try:
            content = json.loads(Path(path).read_text())
            rows = [{k: _number(v) for k, v in row.items()} for row in content["rows"]]
            latents = [
                {name: _number(values) for name, values in of_beta.items()}
                for of_beta in content.get("latents", [])
            ]
            return cls(tuple(rows), content["about"], tuple(latents))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is not a curve.json of multibeta ({error})") from None


def _bisect(curve: Curve, measure: Callable[..., Curve], name: str, wanted: float) -> float:
    """Return a β between a curve's ends where a column has the wanted value to 1 %."""
    column, unit = ("rate_nats", math.log(2)) if name == "rate_bits" else (name, 1.0)
    known = {row["beta"]: row[column] for row in curve.rows if column in row}
    metrics = ["psnr"] if column == "psnr_db" else []

    def value(beta: float) -> float:
        if beta not in known:
            known[beta] = measure(beta, metrics=metrics)[column][0]
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


@torch.no_grad()
def sweep(
    model: MultiBetaVAE,
    data: LightningDataModule | Iterable[Any],
    betas: str | float | Iterable[float] | None = None,
    *,
    metrics: str | Iterable[str] = (),
    split: Split = "test",
    extrapolate: bool = False,
    progress: bool = False,
) -> Curve:
    """Measure rate, distortion and what else is asked for at each β, in one pass over the data.

    Each β has its own folded model; all see the same batches and the same posterior noise, which
    is fixed, so that a second sweep gives the same figures.

    Args:
        model: The model; it is measured on the device it is on.
        data: A datamodule, or batches of pictures (B, C, H, W).
        betas: As in :func:`~multibeta.betas.parse_betas`; 16 log-spaced points over the trained
            range by default.
        metrics: Names from :data:`multibeta.metrics.METRICS`, such as
            ``["active_units", "nll"]`` or ``"active_units,nll"``, or ``"all"``.
        split: Which part of a datamodule.
        extrapolate: Allow β outside the trained range.
        progress: Show a progress bar on stderr.

    Returns:
        The curve, with the columns of the metrics. Where the data knows the optimum in closed
        form (a Gaussian source under a Gaussian likelihood), it stands beside each point.

    Raises:
        ValueError: If a β is outside the trained range, a metric is unknown, the data is empty,
            does not fit the model, or has values that the likelihood gives no density to.
    """
    kinds = metrics_of(metrics)
    grid = parse_betas(str(model.beta_range) if betas is None else betas)
    vaes = [model.at_beta(beta, extrapolate=extrapolate) for beta in grid]
    curve = [RateDistortion(vae.beta).beside(model.device) for vae in vaes]
    more = [[kind(vae).beside(model.device) for kind in kinds.values()] for vae in vaes]
    batches = _batches(data, split)
    console = Console(stderr=True)

    def shown(items: Iterable[Any], label: str) -> Iterable[Any]:
        return track(items, label, console=console) if progress else items

    stream = enumerate(shown(batches, f"{len(grid)} β's on the {split} set"))
    # A β's weights stay in the processor's cache for several batches.
    while group := list(itertools.islice(stream, _GROUP)):
        pairs = []
        for index, batch in group:
            x = images_of(batch).to(next(model.parameters()))
            if index == 0:
                model.check_pictures(x)
            noise = partial(evaluation_noise, batches, index, len(x), model.latent_dim)
            pairs.append((x, noise, noise().to(x)))
        for vae, metric, others in zip(vaes, curve, more, strict=True):
            for x, noise, of_z in pairs:
                terms = vae.elbo_terms(x, of_z)
                metric.update(terms.distortion_nats, terms.rate_nats)
                for other in others:
                    other.update(Evaluated(x, terms, noise))
    if not curve[0].update_called:
        raise ValueError(f"the {split} set is empty; choose another split")
    rows, latents = [metric.compute() for metric in curve], []
    n = int(rows[0]["n"])
    for row, others in zip(rows, shown(more, "metrics") if kinds else more, strict=True):
        del row["n"]
        row.update(_optimum(model, data, row))
        found = {name: value for other in others for name, value in other.compute().items()}
        row.update({name: v for name, v in found.items() if not isinstance(v, list)})
        latents.append({name: v for name, v in found.items() if isinstance(v, list)})
    for kind, metrics_of_kind in zip(kinds.values(), zip(*more, strict=True), strict=True):
        for row, columns in zip(rows, kind.across(metrics_of_kind), strict=True):
            row.update(columns)
    measure = partial(sweep, model, data, split=split, extrapolate=extrapolate)
    about = _about(model, data, split, n)
    return Curve(tuple(rows), about, tuple(latents) if any(latents) else (), measure)


def metrics_of(names: str | Iterable[str]) -> dict[str, type[CurveMetric]]:
    """Return the metrics of these names; see :func:`sweep`.

    Raises:
        ValueError: If one is unknown.
    """
    names = names.split(",") if isinstance(names, str) else names
    names = [name.strip() for name in names if name.strip()]
    names = list(METRICS) if names == ["all"] else names
    for name in names:
        if name not in METRICS:
            raise ValueError(
                f"metric {name} is unknown{nearest(name, METRICS)}; allowed: "
                f"{', '.join(METRICS)}, or all"
            )
    return {name: METRICS[name] for name in names}


@torch.no_grad()
def draw_strip(
    model: MultiBetaVAE,
    data: LightningDataModule | Iterable[Any],
    betas: Iterable[float],
    path: str | os.PathLike[str],
    *,
    split: Split = "test",
    extrapolate: bool = False,
) -> None:
    """Draw inputs and, below them, their reconstructions at β falling from row to row.

    Args:
        model: The model.
        data: A datamodule, or batches of pictures.
        betas: The β's; at most 7 of them, evenly chosen, get a row.
        path: The picture to write.
        split: Which part of a datamodule.
        extrapolate: Allow β outside the trained range.
    """
    x = images_of(_examples(data, split, _STRIP_COLUMNS)).to(next(model.parameters()))
    grid = sorted(betas)
    rows = min(_STRIP_ROWS, len(grid))
    chosen = {grid[round(i * (len(grid) - 1) / max(1, rows - 1))] for i in range(rows)}
    reconstructions = {
        beta: _array(model.at_beta(beta, extrapolate=extrapolate).reconstruct(x))
        for beta in chosen
    }
    plots.strip(_array(x), reconstructions, path)


def _examples(data: LightningDataModule | Iterable[Any], split: Split, n: int) -> Any:
    """Return n pictures, spread over the set where that is possible: it may be sorted by class."""
    batches = _batches(data, split)
    if not isinstance(batches, Batches):
        return images_of(next(iter(batches)))[:n]
    count = len(batches.images)
    rows = [i * count // n for i in range(n)] if count >= n else range(count)
    return torch.as_tensor(batches.images[list(rows)])


def _array(x: Tensor) -> Any:
    return x.float().cpu().numpy()


def _batches(data: LightningDataModule | Iterable[Any], split: Split) -> Iterable[Any]:
    if not isinstance(data, LightningDataModule):
        return data
    if split not in ("train", "val", "test"):
        raise ValueError(f"split={split} is unknown; allowed: train, val, test")
    data.prepare_data()
    if isinstance(data, ImageData):
        return data.ordered(split)
    # Lightning's stages name what a datamodule should make ready.
    data.setup({"train": "fit", "val": "validate", "test": "test"}[split])
    return getattr(data, f"{split}_dataloader")()


def _optimum(model: MultiBetaVAE, data: object, row: dict[str, float]) -> dict[str, float]:
    """Return the closed-form optimum beside a point, where the data knows it."""
    sigma = getattr(model.likelihood, "sigma", None)
    optimum = getattr(data, "optimum", None)
    found = optimum(row["beta"], sigma, model.latent_dim) if optimum and sigma else None
    if found is None:
        return {}
    rate, distortion = found
    objective = distortion + row["beta"] * rate
    return {
        "optimal_rate_nats": rate,
        "optimal_distortion_nats": distortion,
        "optimal_objective_nats": objective,
        "excess_nats": row["objective_nats"] - objective,
    }


def _about(model: MultiBetaVAE, data: object, split: str, n: int) -> dict[str, Any]:
    described = {
        name: model.hparams[name]["class_path"].rpartition(".")[2]
        for name in ("network", "likelihood", "objective")
    }
    return {
        "data": type(data).__name__,
        "split": split,
        "n": n,
        "shape": list(model.shape),
        "d": math.prod(model.shape),
        **described,
        "sigma": getattr(model.likelihood, "sigma", None),
        "latent_dim": model.latent_dim,
        "conditioning": model.conditioning.kind,
        "betas": str(model.beta_range),
        "seed": model.run_seed,
        "units": "nats per example, summed over dimensions",
        "versions": {
            "multibeta": multibeta.__version__,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
        },
    }


def _headline(about: dict[str, Any]) -> str:
    sigma = "" if about["sigma"] is None else f" σ = {about['sigma']:g}"
    return (
        f"{about['data']}, {about['split']} set, N = {about['n']:,}, d = {about['d']:,}, "
        f"{about['likelihood']}{sigma}"
    )


_COLUMNS = {
    "beta": "β",
    "rate_nats": "rate R",
    "rate_se": "±",
    "distortion_nats": "distortion D",
    "distortion_se": "±",
    "objective_nats": "D + βR",
    "objective_se": "±",
    "neg_elbo_nats": "D + R",
    "optimal_rate_nats": "optimal R",
    "optimal_distortion_nats": "optimal D",
    "optimal_objective_nats": "optimal D + βR",
    "excess_nats": "excess",
}


def _table(rows: Sequence[dict[str, float]]) -> str:
    """Return the curve as a table, and what else was measured as tables below it."""
    names = [name for name in _COLUMNS if name in rows[0]]
    more = [name for name in rows[0] if name not in _COLUMNS]
    parts = [more[i : i + _WIDTH] for i in range(0, len(more), _WIDTH)]
    groups = [names, *(["beta", *part] for part in parts)]
    return "\n\n".join(_columns(rows, group) for group in groups)


def _columns(rows: Sequence[dict[str, float]], names: Sequence[str]) -> str:
    titles = [_COLUMNS.get(name, name) for name in names]
    counts = {name for name in names if all(float(row[name]).is_integer() for row in rows)}
    shape = {
        name: ".4g" if name == "beta" else ".0f" if name in counts else ".3f" for name in names
    }
    cells = [[f"{row[name]:{shape[name]}}" for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [titles, *cells]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
