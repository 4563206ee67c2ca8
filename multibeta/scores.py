"""Anomaly scores: how unlikely each picture is at any β, and what that tells two sets apart."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from torch import Tensor

from multibeta import plots
from multibeta.betas import parse_betas
from multibeta.data.door import Door
from multibeta.data.examples import Examples, on
from multibeta.data.units import units_of
from multibeta.evaluation import Split, examples_of
from multibeta.files import replacing
from multibeta.metrics.likelihood import importance_weights, log_mean_exp
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.noise import evaluation_noise
from multibeta.progress import track
from multibeta.tables import columns, lines
from multibeta.vae import BetaVAE

__all__ = ["SCORES", "Scores", "auroc", "auroc_se", "score", "scores_of"]

SCORES = ("distortion_nats", "rate_nats", "neg_elbo_nats", "nll_nats")
"""What each picture is scored by: higher is less likely."""

_BATCH = 250


@dataclass(frozen=True)
class Scores:
    """How well a model tells another data set from its own, at each β.

    Args:
        rows: One a β, rising: ``beta``, and the AUROC of each score, ``auroc_distortion_nats`` …
        own: Score → the model's own data: (K, N), a row a β. Each example's column is its
            profile over β.
        other: The same of the other data: (K, M).
        about: What was scored.
    """

    rows: tuple[dict[str, float], ...]
    own: Mapping[str, np.ndarray]
    other: Mapping[str, np.ndarray]
    about: dict[str, Any]

    def table(self) -> str:
        """Return the AUROCs as text, a line a β, under a line that says what they are."""
        titles = ["β", "distortion D", "rate R", "D + R", "−log p"]
        rows = [
            [f"{row['beta']:.4g}", *(f"{row[f'auroc_{name}']:.3f}" for name in SCORES)]
            for row in self.rows
        ]
        return f"{lines(self.headline)}\n{columns(titles, rows)}"

    @property
    def headline(self) -> str:
        """What was scored, in a line."""
        return (
            f"AUROC, {self.about['other']} ({self.about['m']:,}) against {self.about['data']} "
            f"({self.about['n']:,}), {self.about['split']} sets, K = {self.about['samples']}"
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write scores.csv, scores.json, scores.npz (every example's) and scores.png.

        Args:
            folder: Where to.
        """
        folder = Path(folder)
        with replacing(folder / "scores.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        with replacing(folder / "scores.json") as path:
            path.write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        betas = np.array([row["beta"] for row in self.rows])
        arrays: dict[str, Any] = {
            f"{side}_{name}": values
            for side, of in {"own": self.own, "other": self.other}.items()
            for name, values in of.items()
        }
        with replacing(folder / "scores.npz") as path:
            np.savez_compressed(path, beta=betas, **arrays)
        title = f"Two sets told apart by their scores\n{self.headline}"
        plots.scores(self.rows, self.own, self.other, folder / "scores.png", title)

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"about": …, "rows": […]}``."""
        return {"about": self.about, "rows": list(self.rows)}


@torch.no_grad()
def score(
    model: MultiBetaVAE,
    data: Any,
    other: Any,
    betas: str | float | Iterable[float] | None = None,
    *,
    samples: int = 16,
    examples: int = 1_000,
    split: Split = "test",
    extrapolate: bool = False,
    progress: bool = False,
) -> Scores:
    """Score two data sets at each β, and say how well each score tells them apart.

    Args:
        model: The model; it is used on the device it is on.
        data: The data it was trained on, or like it.
        other: The other data, with pictures of the same shape.
        betas: As in :func:`~multibeta.betas.parse_betas`; 16 log-spaced points over the trained
            range by default.
        samples: The number K of importance samples for an example.
        examples: How many examples of each set, spread over it.
        split: Which part of both.
        extrapolate: Allow β outside the trained range.
        progress: Show a progress bar on stderr.

    Raises:
        ValueError: If a set is empty or its pictures have another shape, or a β is outside the
            trained range.
    """
    for name, value in {"samples": samples, "examples": examples}.items():
        if value < 1:
            raise ValueError(f"{name}={value} is too small; it is at least 1")
    grid = parse_betas(str(model.beta_range) if betas is None else betas)
    vaes = [model.at_beta(beta, extrapolate=extrapolate) for beta in grid]
    sets = {}
    for which, of in {"own": data, "other": other}.items():
        try:
            x, inputs = examples_of(model, of, split, examples)
            x, inputs = x.to(model.device), on(inputs, model.device)
        except ValueError as error:
            raise ValueError(f"{_name(of)} cannot be scored: {error}") from None
        if not len(x):
            raise ValueError(f"the {split} set of {_name(of)} is empty; choose another split")
        if model.units is not None and (doubts := model.units.doubts(units_of(x))):
            rank_zero_warn(f"{_name(of)}: {doubts}")
        sets[which] = Examples(x, inputs)
    shown = track(vaes, "β's") if progress else vaes
    found: dict[str, list[dict[str, np.ndarray]]] = {"own": [], "other": []}
    for vae in shown:
        for which, given in sets.items():
            scored = scores_of(vae, given.x, samples, given.inputs)
            found[which].append({name: v.cpu().numpy() for name, v in scored.items()})
    own, others = (
        {name: np.stack([of_beta[name] for of_beta in of]) for name in SCORES}
        for of in found.values()
    )
    rows = tuple(
        {"beta": beta}
        | {f"auroc_{name}": auroc(own[name][k], others[name][k]) for name in SCORES}
        | {f"auroc_{name}_se": auroc_se(own[name][k], others[name][k]) for name in SCORES}
        for k, beta in enumerate(grid)
    )
    about = {
        "data": _name(data), "other": _name(other), "split": split, "samples": samples,
        "n": len(sets["own"].x), "m": len(sets["other"].x), "betas": str(model.beta_range),
        "seed": model.run_seed,
    }  # fmt: skip
    return Scores(rows, own, others, about)


def scores_of(
    vae: BetaVAE, x: Tensor, samples: int = 16, inputs: dict[str, Any] | None = None
) -> dict[str, Tensor]:
    """Return the scores of each picture at one β, in nats.

    Args:
        vae: The model at the β.
        x: (N, C, H, W).
        samples: The number K of importance samples.
        inputs: Further inputs, by name: N rows each.

    Returns:
        Name → (N,): ``distortion_nats`` D, ``rate_nats`` R, ``neg_elbo_nats`` D + R, and
        ``nll_nats``, an upper bound of −log p(x) by K samples; see
        :class:`~multibeta.metrics.NLL`. The noise is the same in every call.
    """
    parts = []
    for index, batch in enumerate(x.split(_BATCH)):
        noise = partial(evaluation_noise, None, index, len(batch), vae.latent_shape)
        rows = slice(index * _BATCH, index * _BATCH + len(batch))
        beside = {k: v[rows] for k, v in (inputs or {}).items()}
        terms = vae.elbo_terms(batch, noise().to(batch), **beside)
        q = terms.posterior
        log_w = importance_weights(vae, batch, q.mean, q.stddev, noise(samples), beside)
        d, r = terms.distortion.double(), terms.rate_nats.double()
        parts.append(torch.stack([d, r, d + r, -log_mean_exp(log_w)]))
    return dict(zip(SCORES, torch.cat(parts, dim=1), strict=True))


def auroc(own: np.ndarray, other: np.ndarray) -> float:
    """Return the probability that a score of the other set is above one of the own set.

    Args:
        own: (N,).
        other: (M,).

    Returns:
        The area under the receiver operating characteristic: 1 where all of the other set are
        higher, ½ where the two do not differ; ties count one half.

    Raises:
        ValueError: If a score is not finite.
    """
    values = np.concatenate([own, other])
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ValueError(
            f"{count} of {len(values)} scores are not finite; the model may have diverged: fit it "
            "anew"
        )
    return float(roc_auc_score(np.repeat([0, 1], [len(own), len(other)]), values))


def auroc_se(own: np.ndarray, other: np.ndarray) -> float:
    r"""Return the standard error of an AUROC, over both sets.

    .. math:: \mathrm{s.e.}^2 = \frac{\mathrm{Var}_i V_i}{N} + \frac{\mathrm{Var}_j W_j}{M}

    V of a score of the own set is the share of the other set above it, W of one of the other set
    the share of the own set below it; ties count one half.

    Args:
        own: (N,).
        other: (M,).

    Returns:
        It; nan where a set has one score.

    References:
        DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44.
    """
    n, m = len(own), len(other)
    if min(n, m) < 2:
        return math.nan
    together = rankdata(np.concatenate([own, other]))
    below = (together[n:] - rankdata(other)) / n
    above = 1 - (together[:n] - rankdata(own)) / m
    return math.sqrt(above.var(ddof=1) / n + below.var(ddof=1) / m)


def _name(data: object) -> str:
    return Door.of(data).label
