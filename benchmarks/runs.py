"""Runs: a model fitted by the command line, measured, and kept in a result file of its own."""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import multibeta
from benchmarks.clock import Clock
from benchmarks.record import RESULTS, is_done, save
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.conditioning import conditions_of
from multibeta.curve import Curve
from multibeta.data.examples import read
from multibeta.files import replacing
from multibeta.multibeta_vae import MultiBetaVAE

__all__ = [
    "GRID",
    "ON_GPU",
    "Run",
    "are_fitted",
    "arguments",
    "curve_of",
    "falls",
    "fitted",
    "is_there",
    "make",
    "objective_at",
    "result_of",
    "self_regret",
]

GRID = "0.01:10:40"
"""40 β's, among them .01, .1, 1 and 10."""

FOLDERS = Path("runs/benchmarks")

ON_GPU = "--trainer.accelerator=gpu", "--trainer.precision=bf16-mixed", "--model.compile=true"
"""Options of a run on a GPU; without them it is on the CPU."""


@dataclass(frozen=True)
class Run:
    """A fit and what is measured after it.

    Args:
        name: Of the result file.
        options: What follows ``multibeta fit``; DATA_ROOT stands for the data's folder.
        curves: Split → the β's to measure on it.
        metrics: What to measure beside rate and distortion, with settings.
        fine: β's of one more curve, of rate and distortion alone, on the test set.
        checkpoints: Those of the run, such as ``best``, whose curves on the test set are measured
            apart; what was validated while it trained is kept, too.
    """

    name: str
    options: tuple[str, ...]
    curves: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fine: str | None = None
    checkpoints: tuple[str, ...] = ()


def arguments(about: str | None) -> argparse.ArgumentParser:
    """Return the parser that the benchmarks share.

    Args:
        about: What the benchmark does.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "root", metavar="DATA_ROOT", nargs="?", type=_folder_of_data,
        default=os.environ.get("MULTIBETA_DATA", ""),
        help="the data's folder; by default $MULTIBETA_DATA",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    return parser


def _folder_of_data(given: str) -> str:
    if not given or not Path(given).is_dir():
        raise argparse.ArgumentTypeError(
            f"{given!r} is no folder; give the one that holds the data, or set MULTIBETA_DATA"
        )
    return given


def make(runs: Iterable[Run], command: str, root: str, jobs: int, folder: Path = RESULTS) -> None:
    """Make the results that are missing, several at a time, one thread each.

    Args:
        runs: What to make.
        command: The command that is under way, for the result files.
        root: The data's folder.
        jobs: Runs at a time.
        folder: The results'.
    """
    missing = [run for run in runs if not is_done(run.name, folder)]
    _each(partial(_make, command=command, root=root, results=folder), missing, jobs)


def fitted(runs: Iterable[Run], root: str, jobs: int) -> list[Path]:
    """Return the folders of runs; those that are not on this machine are fitted anew.

    Args:
        runs: What to fit.
        root: The data's folder.
        jobs: Runs at a time.
    """
    runs = list(runs)
    _each(partial(_fit, root=root), [run for run in runs if not _folder(run)], jobs)
    return [folder for run in runs if (folder := _folder(run))]


def are_fitted(runs: Iterable[Run]) -> bool:
    """Return whether all runs were fitted on this machine, as they are now.

    Args:
        runs: What to look for.
    """
    return all(map(_fit_of, runs))


def _each(do: Callable[[Run], Any], runs: Sequence[Run], jobs: int) -> None:
    """Do something with each run, several at a time, one thread each."""
    if not runs:
        return
    FOLDERS.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        under_way = {pool.submit(do, run): run for run in runs}
        for done in as_completed(under_way):
            print(f"{under_way[done].name}: {done.result():.0f} s", flush=True)


def _folder(run: Run) -> Path | None:
    """Return the folder of a run that was fitted on this machine, as it is now, to its end."""
    if not _fit_of(run):
        return None
    return next((FOLDERS / run.name).glob("*/*/config.yaml")).parent.absolute()


def _fit_of(run: Run) -> dict[str, Any]:
    """Return how a run was fitted on this machine; empty if it was not, or with other options."""
    path = FOLDERS / run.name / "fit.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    return found if found.get("fit") == _command(run) else {}


def _command(run: Run) -> str:
    return " ".join(["multibeta fit", *run.options])


def _fit(run: Run, root: str) -> float:
    """Fit a run; return the seconds."""
    torch.set_num_threads(1)
    to = FOLDERS / run.name
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    with (to / "log.txt").open("w", buffering=1) as log:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            options = [option.replace("DATA_ROOT", root) for option in run.options]
            start = time.perf_counter()
            code = main(["fit", "--trainer.accelerator=cpu", *options,
                     f"--trainer.default_root_dir={to}", "--curve.enabled=false",
                     "--trainer.callbacks+=benchmarks.clock.Clock"])  # fmt: skip
        if code:
            raise SystemExit(f"{run.name}: multibeta fit failed; see {log.name}")
    seconds = time.perf_counter() - start
    found = {
        "fit": _command(run),
        "fit_seconds": round(seconds, 1),
        "training": {
            "images": Clock.images,
            "seconds": round(Clock.seconds, 2),
            "seconds_waiting_for_data": round(Clock.waiting, 2),
        },
    }
    with replacing(to / "fit.json") as temporary:
        temporary.write_text(json.dumps(found) + "\n")
    return seconds


def _make(run: Run, command: str, root: str, results: Path) -> float:
    """Fit a run, unless that is done, and measure it; return the seconds of the fit."""
    torch.set_num_threads(1)
    if not _fit_of(run):
        _fit(run, root)
    folder = _folder(run)
    model, data = multibeta.load(folder), load_data(folder)
    if ON_GPU[0] in run.options:
        model.to("cuda")
    wanted = {split: (model, split, betas, run.metrics) for split, betas in run.curves.items()}
    if run.fine:
        wanted["fine"] = (model, "test", run.fine, {})
    for name in run.checkpoints:
        other = multibeta.load(folder / "checkpoints" / f"{name}.ckpt")
        wanted[name] = (other, "test", run.curves["test"], {})
    curves, seconds = {}, {}
    for name, (of, split, betas, metrics) in wanted.items():
        start = time.perf_counter()
        curves[name] = multibeta.sweep(of, data, betas, split=split, metrics=metrics)
        seconds[name] = round(time.perf_counter() - start, 1)
    result: dict[str, Any] = {
        **_fit_of(run),
        "parameters": sum(p.numel() for p in model.parameters()),
        "channels": _channels(model.cpu(), data) if model.conditioning.features else None,
        "curve_seconds": seconds,
        "curves": {name: curve.as_dict() for name, curve in curves.items()},
    }
    if run.checkpoints:
        result["validated"] = _validated(folder)
    save(run.name, command, result, results)
    return result["fit_seconds"]


def _channels(model: MultiBetaVAE, data: Any, batches: int = 32) -> dict[str, int]:
    """Count the channels of conditioned layers, and those that no example gives a gradient to."""
    biases: list[Any] = [layer.bias for layer, _ in conditions_of(model)]
    gradients = [torch.zeros_like(bias) for bias in biases]
    torch.manual_seed(0)
    for batch in itertools.islice(data.ordered("train"), batches):
        x = read(batch).x
        terms = model.elbo_terms(x, model.beta_range.draw(len(x)))
        loss = (terms.distortion + terms.rate_nats).sum()
        for gradient, of_batch in zip(gradients, torch.autograd.grad(loss, biases), strict=True):
            gradient += of_batch.abs()
    without = sum(int((gradient == 0).sum()) for gradient in gradients)
    return {"conditioned": sum(map(len, biases)), "without_gradient": without}


def _validated(folder: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.csv that a validation wrote."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {name: float(value) for name, value in row.items() if value}
        for row in rows
        if row.get("val/objective_nats")
    ]


def is_there(name: str, folder: Path = RESULTS) -> bool:
    """Return whether there is a result of this name."""
    return (folder / f"{name}.json").exists()


def result_of(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Return a result."""
    return json.loads((folder / f"{name}.json").read_text())


def curve_of(name: str, split: str = "test", folder: Path = RESULTS) -> Curve:
    """Return a curve of a run."""
    curve = result_of(name, folder)["curves"][split]
    return Curve(tuple(curve["rows"]), curve["about"])


def objective_at(curve: Curve, beta: float) -> float:
    """Return D + βR at a β of the curve."""
    near = (row for row in curve.rows if math.isclose(row["beta"], beta, rel_tol=1e-5))
    return next(row["objective_nats"] for row in near)


def self_regret(curve: Curve) -> float:
    """Return the largest J(β; conditioned on β) − min over b of J(β; conditioned on b)."""
    unit = "_nats" if "objective_nats" in curve.rows[0] else ""
    return max(
        row[f"objective{unit}"]
        - min(
            other[f"distortion{unit}"] + row["beta"] * other["rate_nats"] for other in curve.rows
        )
        for row in curve.rows
    )


def falls(curve: Curve) -> bool:
    """Return whether R falls at every step of β."""
    return all(a > b for a, b in itertools.pairwise(curve["rate_nats"]))
