"""Which β for a purpose: measured on one set, chosen by a small rule, reported on another."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from multibeta.betas import parse_betas
from multibeta.codes import encode
from multibeta.curve import Curve
from multibeta.data.door import Door
from multibeta.evaluation import sweep
from multibeta.metrics import Bits
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.purposes import Choice, Purpose, choose_on, of_purpose
from multibeta.scores import score

__all__ = ["choose"]


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

    What is within one standard error of the best is as good: see
    :func:`multibeta.purposes.decide`.

    Args:
        model: The model; it is measured on the device it is on.
        data: Anything that :class:`multibeta.data.Door` takes.
        purpose: One of :data:`multibeta.purposes.PURPOSES`.
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
    advice.insert(1, f"On the {there} set: {choice.on(row)}.")
    return dataclasses.replace(choice, advice=tuple(advice), reported=row)


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
