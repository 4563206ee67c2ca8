"""Measuring a model at any β: one pass over the data for all of them, then what takes long."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import platform
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

import multibeta
from multibeta.betas import parse_betas
from multibeta.codes import Codes, encode_split
from multibeta.curve import Curve
from multibeta.data.batches import gathered, rank_and_world
from multibeta.data.door import Door, Loader
from multibeta.data.examples import Examples, on
from multibeta.data.loaders import Stream
from multibeta.data.units import Summary
from multibeta.files import replacing
from multibeta.likelihoods import Gaussian
from multibeta.metrics import (
    METRICS,
    Alignment,
    CurveMetric,
    Evaluated,
    Pairs,
    RateDistortion,
    Source,
)
from multibeta.metrics.pairs import name_of
from multibeta.metrics.psnr import peak_of, psnr
from multibeta.metrics.rate_distortion import Difference
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.noise import evaluation_noise
from multibeta.options import nearest
from multibeta.progress import track
from multibeta.schemas import UNFINISHED, check
from multibeta.specs import imported
from multibeta.vae import BetaVAE, Networks

__all__ = ["Metrics", "Split", "differences", "draw_strip", "examples_of", "metrics_of", "sweep"]

Split = Literal["train", "val", "test"]
Metrics = Any
"""Names, class paths, objects, or name → settings; see :func:`sweep`."""

_GROUP = 8
_STRIP_COLUMNS, _STRIP_ROWS = 12, 7


@torch.no_grad()
def sweep(
    model: MultiBetaVAE,
    data: Any,
    betas: str | float | Iterable[float] | None = None,
    *,
    at: Mapping[str, str | float | Iterable[float]] | None = None,
    metrics: Metrics = (),
    against: Sequence[MultiBetaVAE] = (),
    split: Split = "test",
    extrapolate: bool = False,
    progress: bool = False,
    keep: str | os.PathLike[str] | None = None,
    first: int | None = None,
) -> Curve:
    """Measure rate, distortion and what else is asked for at each β, in one pass over the data.

    Each β has its own folded model; all see the same batches and the same posterior noise, which
    is fixed, so that a second sweep gives the same figures. What takes long is done after the
    pass, one β after the other.

    Args:
        model: The model; it is measured on the device it is on.
        data: Anything that :class:`multibeta.data.Door` takes: a datamodule, DataLoader, Dataset,
            array, tensor, list or stream, of x, tuples or dicts.
        betas: As in :func:`~multibeta.betas.parse_betas`; 16 log-spaced points over the trained
            range by default, or the β's of ``against``.
        at: Name → value of other weights that are ranges; those left out are where
            :meth:`MultiBetaVAE.pin` put them. One of them may have several values, written as β's
            are: it is then swept in the place of β, which has one value.
        metrics: Names from :data:`multibeta.metrics.METRICS`, such as
            ``["active_units", "nll"]`` or ``"active_units,nll"``, or ``"all"`` that the data can
            serve; or name → settings, such as ``{"nll": {"samples": 256}}``. Also measures of
            (x̂, x) that are not multibeta's (:class:`multibeta.metrics.Pairs`): a torchmetrics
            metric, its class or its class path, a ``MetricCollection``, a function
            f(x_hat, x) → (B,), or a class of :class:`multibeta.metrics.CurveMetric`; alone, in a
            list, or as name → object.
        against: Dedicated models, with one β each, whose codes are compared with the model's: see
            :meth:`multibeta.metrics.Alignment.against`; and their D + βR at equal β, less the
            model's, on the same examples with the same noise: ``against_difference_nats``.
        split: Which part of a datamodule.
        extrapolate: Allow β outside the trained range.
        progress: Show a progress bar on stderr.
        keep: A file for the β's that are finished, removed at the end; where there is one, of the
            same model, data and metrics, its β's are taken from it.
        first: How many examples of a stream to measure at most; the table says so.

    Returns:
        The curve, with the columns of the metrics. Where the data knows the optimum in closed
        form (a Gaussian source under a Gaussian likelihood), it stands beside each point.

    Raises:
        ValueError: If a β is outside the trained range, a metric or a setting is unknown, the
            data is empty, does not fit the model, lacks what a metric needs, or has values that
            the likelihood gives no density to, or a figure is not finite.
    """
    data = Door.of(data, model, first)
    batches = data.batches(split)
    settings = metrics_of(metrics, data, model)
    if against:
        settings.setdefault("alignment", {})
    others = {_only_beta(other, model): other for other in against}
    if len(others) < len(against):
        raise ValueError("two of the other models have the same β; give one a β")
    if betas is None and others:
        betas = sorted(others)
    swept, grid, views = _places(model, betas, at or {}, extrapolate)
    if others and swept != "beta":
        raise ValueError(f"dedicated models have their β, and {swept} is swept; sweep β instead")
    source = Source(
        data.source, split, batches.count, partial(_pictures, batches, model),
        partial(_codes, data, model, split),
    )  # fmt: skip
    kinds = {name: _kind_of(name, given) for name, given in settings.items()}
    made = {
        name: partial(kind, **kind.prepare(source, _own(settings[name])))
        for name, kind in kinds.items()
    }
    points = [
        _Point.of(view.at_beta(beta, extrapolate=extrapolate), made, model.device)
        for view, beta in views
    ]
    alignment = {name: make for name, make in made.items() if name == "alignment"}
    beside = [
        _Point.of(other.at_beta(beta).to(model.device), alignment, model.device)
        for beta, other in sorted(others.items())
    ]

    def shown(items: Iterable[Any], label: str) -> Iterable[Any]:
        return track(items, label) if progress else items

    stream = shown(batches, f"{len(grid)} β's on the {split} set")
    factors = getattr(data, "factors", {}).get(split)
    pairs = _pairs(model, points, beside)
    seen = _pass([*points, *beside], model, batches, stream, factors, pairs)
    if not seen.n:
        raise ValueError(f"the {split} set is empty; choose another split")
    if model.units is not None and (doubts := model.units.doubts(seen.units())):
        rank_zero_warn(doubts)
    rows, latents = [point.curve.compute() for point in points], []
    for row in rows:
        if not math.isfinite(objective := row[f"objective{points[0].curve.suffix}"]):
            raise ValueError(
                f"D + βR is {objective} at β = {row['beta']:g}: the data has NaN, or "
                "the model has diverged; measure another checkpoint, such as best.ckpt"
            )
    about = _about(views[0][0], data, split, seen, swept)
    if isinstance(batches, Stream) and batches.first is not None:
        about["first"] = batches.first
    kept = _Kept(keep if settings else None, [about, settings], model)
    stream = shown(points, "metrics") if settings else points
    for k, (value, point) in enumerate(zip(grid, stream, strict=True)):
        del rows[k]["n"]
        rows[k] = row = {"beta": rows[k]["beta"], swept: value, **rows[k]}
        row.update(_optimum(views[k][0], data, row))
        found = kept.get(value)
        if found is None:
            found = point.finished()
            kept.add(value, found)
        latents.append(_put(found, row))
    for name in settings:
        of_all = [point.metrics[name] for point in points]
        for row, columns in zip(rows, kinds[name].across(of_all), strict=True):
            row.update(columns)
        if said := of_all[0].about():
            about[name] = said
    if beside:
        mine, theirs = (
            {point.vae.beta: cast(Alignment, point.metrics["alignment"]) for point in side}
            for side in (points, beside)
        )
        compared = Alignment.against(mine, theirs)
        for row, of_latents, columns in zip(rows, latents, compared, strict=True):
            of_latents.update(_put(columns, row))
    if pairs:
        differences = {first: of.compute() for (first, _), of in pairs.items()}
        for k, row in enumerate(rows):
            value, se = differences.get(k, (math.nan, math.nan))
            row |= {f"against_difference{points[k].curve.suffix}": value}
            row |= {"against_difference_se": se}
    kept.remove()

    def measure(beta: float, metrics: Iterable[str] = ()) -> Curve:
        of = {name: settings.get(name, {}) for name in metrics}
        return sweep(model, data, beta, metrics=of, at=at, split=split, extrapolate=extrapolate)

    return Curve(tuple(rows), about, tuple(latents) if any(latents) else (), measure)


def _places(
    model: MultiBetaVAE,
    betas: str | float | Iterable[float] | None,
    at: Mapping[str, str | float | Iterable[float]],
    extrapolate: bool,
) -> tuple[str, tuple[float, ...], list[tuple[MultiBetaVAE, float]]]:
    """Return the weight that is swept, its values, and for each the pinned model and β."""
    values = {name: parse_betas(of) for name, of in at.items()}
    several = [name for name, of in values.items() if len(of) > 1]
    pinned = model.pin(extrapolate=extrapolate, **_first(values))
    if not several:
        grid = parse_betas(str(model.beta_range) if betas is None else betas)
        return "beta", grid, [(pinned, beta) for beta in grid]
    name = several[0]
    grid = parse_betas(model.beta_range.middle if betas is None else betas)
    if len(several) > 1 or len(grid) > 1:
        others = ", ".join([*several[1:], *(["beta"] if len(grid) > 1 else [])])
        raise ValueError(f"{name} has several values, and so has {others}; sweep one at a time")
    views = [
        model.pin(extrapolate=extrapolate, **{**_first(values), name: v}) for v in values[name]
    ]
    return name, values[name], [(view, grid[0]) for view in views]


def _first(values: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    return {name: of[0] for name, of in values.items()}


@dataclass(frozen=True)
class _Point:
    """What is measured at one β."""

    vae: BetaVAE
    curve: RateDistortion
    metrics: dict[str, CurveMetric]

    @classmethod
    def of(
        cls,
        vae: BetaVAE,
        made: Mapping[str, Callable[[BetaVAE], CurveMetric]],
        device: torch.device,
    ) -> _Point:
        """Return one with the metrics of these names."""
        metrics = {name: make(vae).beside(device) for name, make in made.items()}
        curve = RateDistortion(vae.beta, vae.likelihood.unit)
        return cls(vae, curve.beside(device), metrics)

    def update(
        self, x: Tensor, noise: Any, of_z: Tensor, factors: Tensor | None, inputs: dict[str, Any]
    ) -> Tensor:
        """Add a batch; return its objectives D + βR: (B,)."""
        terms = self.vae.elbo_terms(x, of_z, **inputs)
        self.curve.update(terms.distortion, terms.rate_nats)
        for metric in self.metrics.values():
            metric.update(Evaluated(x, terms, noise, factors, inputs))
        return terms.distortion.double() + self.vae.beta * terms.rate_nats.double()

    def finished(self) -> dict[str, Any]:
        """Return the columns of the metrics."""
        found: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            metric.finish()
            columns = metric.compute()
            numbers = {name for name, of in columns.items() if not isinstance(of, list)}
            if twice := numbers & found.keys():
                raise ValueError(
                    f"metric {name} has a column {min(twice)}, and so has another; give it "
                    'another name, as in metrics={"name": metric}'
                )
            found.update(columns)
        return found


def _pass(
    points: Sequence[_Point],
    model: MultiBetaVAE,
    batches: Loader,
    stream: Iterable[Any],
    factors: Tensor | None,
    pairs: Mapping[tuple[int, int], Difference],
) -> Summary:
    """Pass the data through the model at each β; return what it was.

    Args:
        points: The β's.
        model: The model.
        batches: Where the data comes from.
        stream: The same, shown while it passes.
        factors: Those of all examples.
        pairs: Numbers of two points, whose objectives are compared example by example.
    """
    numbered, summary = enumerate(stream), Summary()
    # A β's weights stay in the processor's cache for several batches.
    while group := list(itertools.islice(numbered, _GROUP)):
        seen = []
        for index, batch in group:
            x, inputs = _on(model, batch, careful=True)
            summary.add(x)
            noise = partial(evaluation_noise, batches, index, len(x), model.latent_shape)
            of_batch = None
            if factors is not None and not isinstance(batches, Stream):
                first = batches.global_index(index) * batches.batch_size
                of_batch = factors[first : first + len(x)]
            seen.append((x, noise, noise().to(model.device), of_batch, inputs))
        objectives = [torch.cat([point.update(*each) for each in seen]) for point in points]
        for (first, other), difference in pairs.items():
            difference.update(objectives[first], objectives[other])
    return summary.joined(gathered)


def _pictures(batches: Iterable[Any], model: MultiBetaVAE) -> Iterator[Tensor]:
    for batch in batches:
        yield _on(model, batch)[0]


def _codes(
    door: Door, model: MultiBetaVAE, measured: str, vae: BetaVAE, split: str, most: int
) -> Codes | None:
    """Return the codes of a set beside the one that is measured: see :class:`Source`."""
    if split != measured and (split == door.measured(measured) or not door.has(split)):
        return None
    if isinstance(door.batches(split), Stream) and rank_and_world()[1] > 1:
        return None
    return encode_split(model, [vae], door, split, most=most)


def _on(model: MultiBetaVAE, batch: Any, careful: bool = False) -> tuple[Tensor, dict[str, Any]]:
    """Return x and its further inputs on the model's device."""
    device = model.device
    x, inputs = model.read(batch, careful)
    return x.to(device), on(inputs, device)


def _put(found: Mapping[str, Any], row: dict[str, float]) -> dict[str, list[Any]]:
    """Add the numbers to a row; return the lists, which belong to the latents."""
    row.update({name: value for name, value in found.items() if not isinstance(value, list)})
    return {name: value for name, value in found.items() if isinstance(value, list)}


class _Kept:
    """The columns of the β's that are finished, in a file until all are.

    Args:
        path: The file; None keeps nothing.
        what: What is measured, and how.
        model: The model.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, what: Any, model: MultiBetaVAE
    ) -> None:
        self._path = Path(path) if path else None
        self._found: dict[str, dict[str, Any]] = {}
        if self._path is None:
            return
        digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=_fresh).encode())
        for weights in model.state_dict().values():
            # As bytes: numpy has no bfloat16.
            digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        self._key = digest.hexdigest()
        if self._path.is_file():
            try:
                content = json.loads(self._path.read_text())
                check(UNFINISHED, content)
                self._found = content["betas"] if content["key"] == self._key else {}
            except (ValueError, RecursionError) as error:
                print(f"{self._path} is not taken: {error}", file=sys.stderr)

    def get(self, beta: float) -> dict[str, Any] | None:
        """Return the columns at a β; None if they are not there."""
        return self._found.get(repr(beta))

    def add(self, beta: float, found: dict[str, Any]) -> None:
        """Keep the columns at a β."""
        if self._path is None:
            return
        self._found[repr(beta)] = found
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps({"key": self._key, "betas": self._found}))

    def remove(self) -> None:
        """Remove the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@torch.no_grad()
def differences(
    first: Mapping[float, MultiBetaVAE],
    other: Mapping[float, MultiBetaVAE],
    data: Any,
    split: Split = "test",
) -> dict[float, tuple[float, float]]:
    """Return D + βR of one model less that of another at equal β, with its standard error.

    Example by example, with the same noise where the codes have one shape, so that what the
    examples have in common drops out: the error is smaller than that of two means.

    Args:
        first: β → the model that is subtracted.
        other: β → the other one; the same one at all its β's, or a dedicated one at each.
        data: Anything that :class:`multibeta.data.Door` takes.
        split: Which part of a datamodule.

    Returns:
        β → mean and standard error, for the β's that both have.
    """
    sides = []
    for beta, model in first.items():
        for near in (b for b in other if math.isclose(beta, b, rel_tol=1e-6)):
            pair = [(of, of.at_beta(b)) for of, b in ((model, beta), (other[near], near))]
            sides.append((beta, pair, Difference().beside(model.device)))
    batches = Door.of(data, next(iter(first.values()))).batches(split)
    for index, batch in enumerate(batches):
        for _, pair, difference in sides:
            found = []
            for model, vae in pair:
                x, inputs = _on(model, batch)
                noise = evaluation_noise(batches, index, len(x), vae.latent_shape)
                terms = vae.elbo_terms(x, noise.to(model.device), **inputs)
                found.append(terms.distortion.double() + vae.beta * terms.rate_nats.double())
            difference.update(*found)
    return {beta: difference.compute() for beta, _, difference in sides}


def _pairs(
    model: MultiBetaVAE, points: Sequence[_Point], beside: Sequence[_Point]
) -> dict[tuple[int, int], Difference]:
    """Return what compares the objectives at equal β, by the numbers of the two points.

    Nothing, and a line on stderr, where another model has another likelihood: D is then not the
    same. A learned σ may differ: it is a part of the model.
    """
    own = model.likelihood
    for point in beside:
        other = point.vae.likelihood
        if type(own) is not type(other) or (str(own) != str(other) and not [*own.parameters()]):
            if rank_and_world()[0] == 0:
                print(f"no against_difference: {other} and not {own}", file=sys.stderr)
            return {}
    return {
        (i, len(points) + k): Difference().beside(model.device)
        for i, point in enumerate(points)
        for k, other_point in enumerate(beside)
        if math.isclose(point.vae.beta, other_point.vae.beta, rel_tol=1e-6)
    }


def _only_beta(other: MultiBetaVAE, model: MultiBetaVAE) -> float:
    """Return the β of a dedicated model whose codes can be compared with the model's."""
    low, high = other.beta_range.low, other.beta_range.high
    if low != high:
        raise ValueError(
            f"a model for β in {other.beta_range} is no dedicated one; give models of one β each"
        )
    for name in ("shape", "latent_shape"):
        a, b = getattr(model, name), getattr(other, name)
        if a != b:
            raise ValueError(
                f"the model at β = {low:g} has {name}={b} and not {a}; give models whose codes "
                "can be compared"
            )
    return low


def _fresh(value: Any) -> str:
    """Return text for what is no plain value: an object's is like no other's."""
    return str(value) if isinstance(value, type) else uuid.uuid4().hex


def _kind_of(name: str, settings: Mapping[str, Any]) -> type[CurveMetric]:
    """Return the metric of a name, of the object that is its setting ``measure``, or of a path."""
    given = settings.get("measure")
    if given is None and name in METRICS:
        return METRICS[name]
    if given is None and "." not in name:
        raise ValueError(
            f"metric {name} is unknown{nearest(name, METRICS)}; allowed: {', '.join(METRICS)}, "
            "all, or a class path"
        )
    found = imported(name) if given is None else given
    if isinstance(found, type) and issubclass(found, CurveMetric):
        return found
    return Pairs.of(name.rpartition(".")[2], name if given is None else given)


def _own(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "measure"}


def _asked(given: Metrics) -> dict[str, dict[str, Any]]:
    """Return name → settings; those of an object have it as ``measure``."""
    if isinstance(given, str):
        given = given.split(",")
    elif isinstance(given, type | torch.nn.Module) or not isinstance(given, Iterable):
        given = [given]
    if not isinstance(given, Mapping):
        pairs = [(of, None) if isinstance(of, str) else (name_of(of), of) for of in given]
        names = [name for name, of in pairs if of is not None]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f'two metrics are {twice}; give names, as in {{"name": metric}}')
        given = dict(pairs)
    return {
        name.strip(): dict(of or {}) if of is None or isinstance(of, Mapping) else {"measure": of}
        for name, of in given.items()
        if name.strip()
    }


def metrics_of(
    given: Metrics, data: object = None, model: MultiBetaVAE | None = None
) -> dict[str, dict[str, Any]]:
    """Return the metrics asked for, with their settings; see :func:`sweep`.

    Args:
        given: What was asked for.
        data: What they will be measured on; None to check names and settings alone.
        model: What will be measured.

    Raises:
        ValueError: If a metric or a setting is unknown, or the data lacks, or the model has not,
            what a metric needs.
    """
    data = data.source if isinstance(data, Door) else data
    found = _asked(given)
    if list(found) == ["all"]:
        able: dict[str, dict[str, Any]] = {
            name: {}
            for name, kind in METRICS.items()
            if kind.in_all(data) and (model is None or not kind.refuses(model))
        }
        if model is not None and rank_and_world()[0] == 0:
            left = [
                f"{name} ({kind.refuses(model) or kind.lacks(data) or kind.needs})"
                for name, kind in METRICS.items()
                if name not in able
            ]
            if left:
                print(f"metrics left out: {'; '.join(left)}", file=sys.stderr)
        return able
    for name, of in found.items():
        kind = _kind_of(name, of)
        known = kind.takes()
        for setting in _own(of):
            if setting not in known:
                raise ValueError(
                    f"metric {name} has no setting {setting}{nearest(setting, known)}; it has "
                    f"{', '.join(known) or 'none'}"
                )
        if model is not None and (why := kind.refuses(model)):
            raise ValueError(f"metric {name} cannot be measured: {why}")
        if data is not None and (lacks := kind.lacks(data)):
            raise ValueError(f"metric {name} cannot be measured: {lacks}")
    return found


@torch.no_grad()
def draw_strip(
    model: MultiBetaVAE,
    data: Any,
    betas: str | float | Iterable[float] | None,
    path: str | os.PathLike[str],
    *,
    at: Mapping[str, str | float | Iterable[float]] | None = None,
    split: Split = "test",
    extrapolate: bool = False,
    rates: Mapping[float, float] | None = None,
) -> bool:
    """Draw inputs and, below them, their reconstructions at β falling from row to row.

    Pictures as pictures, signals (C, T) of up to three channels as lines; nothing else is drawn.

    Args:
        model: The model.
        data: A datamodule, or batches.
        betas: As in :func:`sweep`; at most 7 points, evenly chosen, get a row.
        path: The picture to write.
        at: As in :func:`sweep`.
        split: Which part of a datamodule.
        extrapolate: Allow β outside the trained range.
        rates: β → R in nats, which stands beside the rows of pictures, as the PSNR of the row does
            where it is defined: where x has a peak, or lies in [0, 1].

    Returns:
        Whether there is a picture.
    """
    from multibeta import plots

    if model.shape[0] > 3 or len(model.shape) not in (2, 3):
        return False
    x, inputs = examples_of(model, data, split, _STRIP_COLUMNS)
    x, inputs = x.to(model.device), on(inputs, model.device)
    swept, grid, views = _places(model, betas, at or {}, extrapolate)
    rows = min(_STRIP_ROWS, len(grid))
    reconstructions = {}
    for place in sorted({round(i * (len(grid) - 1) / max(1, rows - 1)) for i in range(rows)}):
        view, beta = views[place]
        vae = view.at_beta(beta, extrapolate=extrapolate)
        reconstructions[grid[place]] = _array(vae.reconstruct(x, **inputs))
    if len(model.shape) == 3:
        near = None
        if (peak := peak_of(model, x)) is not None:
            near = {
                beta: psnr(x.cpu(), torch.from_numpy(made), peak).mean().item()
                for beta, made in reconstructions.items()
            }
        plots.strip(_array(x), reconstructions, path, swept, rates, near)
    else:
        plots.signals(_array(x), reconstructions, path, swept)
    return True


def examples_of(model: Networks, data: Any, split: Split, n: int) -> Examples:
    """Return n examples, spread over the set where that is possible: it may be sorted by class.

    Args:
        model: What they are for.
        data: A datamodule, or batches.
        split: Which part of a datamodule.
        n: How many; fewer if there are fewer.

    Returns:
        x (n, *shape), floating point, and the further inputs.
    """
    batches = Door.of(data, model).batches(split)
    if not isinstance(batches, Stream):
        count = batches.count
        rows = [i * count // n for i in range(n)] if count >= n else range(count)
        return model.read(batches.rows(list(rows)), careful=True)
    found: list[Examples] = []
    for batch in batches.whole():  # perhaps on one process alone
        found.append(model.read(batch if (of := batches.read) is None else of(batch), True))
        if sum(len(part.x) for part in found) >= n:
            break
    inputs = {
        name: torch.cat([part.inputs[name] for part in found])[:n]
        for name, value in (found[0].inputs if found else {}).items()
        if isinstance(value, Tensor) and value.ndim
    }
    return Examples(torch.cat([part.x for part in found])[:n], inputs)


def _array(x: Tensor) -> Any:
    return x.float().cpu().numpy()


def _optimum(model: MultiBetaVAE, data: object, row: dict[str, float]) -> dict[str, float]:
    """Return the closed-form optimum beside a point, where the data knows it."""
    # Known for a Gaussian whose σ is fixed.
    likelihood = model.likelihood.at(model.pinned)
    sigma = likelihood.sigma if isinstance(likelihood, Gaussian) else None
    optimum = getattr(data, "optimum", None)
    known = bool(sigma) and len(model.latent_shape) == 1 and model.scale is None
    found = optimum(row["beta"], sigma, model.latent_dim) if optimum and known else None
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


def _about(
    model: MultiBetaVAE, data: Door, split: str, seen: Summary, swept: str
) -> dict[str, Any]:
    own = model.settings.get("network")
    network = own["class_path"].rpartition(".")[2] if own else ", ".join(
        dict.fromkeys(type(model.network(part)[0]).__name__ for part in ("encoder", "decoder"))
    )  # fmt: skip
    sigma = getattr(model.likelihood.at(model.pinned), "sigma", None)
    weights = vars(model.objective.weights(model.pinned))
    return {
        "data": data.label,
        "split": split,
        "n": seen.n,
        "fingerprint": seen.fingerprint,
        "range": [seen.low, seen.high],
        "shape": list(model.shape),
        "d": math.prod(model.shape),
        "network": network,
        "likelihood": getattr(model.likelihood, "name", type(model.likelihood).__name__),
        "objective": type(model.objective).__name__,
        "swept": swept,
        "weights": {name: value for name, value in weights.items() if name != swept},
        "sigma": None if swept == "sigma" else sigma,
        "sigma_learned": sigma is not None and bool(list(model.likelihood.parameters())),
        "entropy_nats": getattr(data, "entropy_nats", None),
        "latent_dim": model.latent_dim,
        "latent_shape": list(model.latent_shape),
        "conditioning": model.conditioning.kind,
        "betas": str(model.beta_range),
        "seed": model.run_seed,
        "unit": model.likelihood.unit,
        "units": "nats per example, summed over dimensions"
        if model.likelihood.unit
        else f"R in nats per example; D in the units of {model.likelihood.name}",
        "versions": {
            "multibeta": multibeta.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
