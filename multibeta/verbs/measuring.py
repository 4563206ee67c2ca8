"""The verbs that measure: curve, rate, compare, score."""

from __future__ import annotations

import json as json_
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from multibeta.options import nearest
from multibeta.progress import place
from multibeta.verbs.opening import folder_of, opened, plain_values, weights_at

__all__ = ["compare", "curve", "rate", "score"]


def curve(
    checkpoint: str,
    betas: str | None = None,
    at: str | None = None,
    metrics: str | None = None,
    settings: dict[str, Any] | None = None,
    against: list[str] | None = None,
    split: Literal["train", "val", "test"] = "test",
    out: str | None = None,
    device: str = "auto",
    extrapolate: bool = False,
    json: bool = False,
    data: dict[str, Any] | None = None,
    first: int | None = None,
    allow: str | None = None,
) -> None:
    """Measure the rate-distortion curve of a checkpoint.

    Prints a table, and writes curve.csv, curve.json and pictures. After Ctrl-C the same command
    goes on with the β's that are left.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        betas: LOW:HIGH (16 points, log-spaced), LOW:HIGH:N, or 0.1,1,4; the trained range by
            default.
        at: Values of the other weights that are ranges, such as gamma=2,sigma=0.1; by default
            each is in the middle of its logarithm's range. With gamma=1:30, or 1:30:N, γ is swept
            in the place of β, which then has one value.
        metrics: What to measure beside rate and distortion: active_units, alignment,
            calibration, clusters, disentanglement, fid, frechet, information, latents,
            log_spectral, ms_ssim, nll, predictive, probe, psnr, squared_error, ssim, viv, class
            paths of torchmetrics or yours, some of them with commas, or all that the data can
            serve; by default what the objective asks for.
        settings: Settings of the metrics, such as --settings.nll.samples 256; those of a class
            path by the class's name.
        against: Checkpoints of dedicated models, of one β each, whose codes are compared with
            the model's.
        split: Which part of the data.
        out: The folder for the files; by default that of the checkpoint's run, or a folder in it
            named after a checkpoint other than last.ckpt, a split other than test, and --at.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        extrapolate: Allow β outside the trained range.
        json: Print the curve as JSON instead of a table.
        data: Settings of the data to change, such as --data.root FOLDER; the others travel inside
            the checkpoint.
        first: How many examples of a stream to measure at most.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.checkpoints import load
    from multibeta.evaluation import sweep
    from multibeta.files import check_writable
    from multibeta.results import save_curve
    from multibeta.runs import shown

    path, model, datamodule = opened(checkpoint, device, data, allow)
    folder = Path(out) if out else folder_of(path, split) / (at or "").replace(":", "-")
    if metrics is None:
        metrics = model.objective.metrics
    check_writable(folder)
    kept = folder / "curve.unfinished.json"
    try:
        measured = sweep(
            model, datamodule, betas, at=weights_at(at),
            metrics=_with_settings(metrics, settings, datamodule, model),
            against=[load(other, allow=allow or ()) for other in against or ()], split=split,
            extrapolate=extrapolate, progress=place() != "elsewhere", keep=kept, first=first,
        )  # fmt: skip
    except KeyboardInterrupt:
        if kept.is_file():
            print(f"\nstopped; the same command goes on from {shown(kept)}", file=sys.stderr)
        raise
    save_curve(measured, model, datamodule, folder)
    print(json_.dumps(measured.as_dict()) if json else measured.table())
    print(f"\nfiles: {shown(folder)}", file=sys.stderr if json else sys.stdout)


def rate(
    checkpoint: str,
    bits: float | None = None,
    bpp: float | None = None,
    nats: float | None = None,
    distortion: float | None = None,
    psnr: float | None = None,
    at: str | None = None,
    split: Literal["train", "val", "test"] = "test",
    device: str = "auto",
    json: bool = False,
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Find the β that has a wanted rate, distortion or PSNR.

    Measures the model between the ends of its range, halving the span, and prints the β whose
    value is within 1 % of the wanted one, with its rate and distortion. Give one of --bits,
    --bpp, --nats, --distortion and --psnr.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        bits: The wanted rate, in bits per example.
        bpp: The wanted rate, in bits per pixel, for pictures.
        nats: The wanted rate, in nats per example.
        distortion: The wanted distortion, in nats per example.
        psnr: The wanted PSNR of reconstructions, in decibels.
        at: Values of the other weights that are ranges, as for curve.
        split: Which part of the data.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        json: Print the row as JSON.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.evaluation import sweep
    from multibeta.metrics.bits import per_place

    if sum(value is not None for value in (bits, bpp, nats, distortion, psnr)) != 1:
        raise ValueError("give one of --bits, --bpp, --nats, --distortion, --psnr")
    _, model, datamodule = opened(checkpoint, device, data, allow, at)
    place, size = per_place(model.shape)
    if bpp is not None:
        if place != "bpp":
            raise ValueError(f"--bpp is for pictures (C, H, W), and x is {model.shape}: --bits")
        bits = bpp * size
    ends = (model.beta_range.low, model.beta_range.high)
    measured = sweep(model, datamodule, ends, split=split)
    beta = measured.beta_for(
        rate_bits=bits, rate_nats=nats, distortion_nats=distortion, psnr_db=psnr
    )
    metrics = () if psnr is None else "psnr"
    there = sweep(model, datamodule, beta, split=split, metrics=metrics)
    if json:
        print(json_.dumps(there.as_dict()))
        return
    found = there["rate_nats"][0]
    in_bits = found / math.log(2)
    of_each = f", {in_bits / size:.4g} bpp" if place == "bpp" else ""
    print(f"β = {beta:.6g}: {found:.4g} nats, {in_bits:.4g} bits per example{of_each}\n")
    print(there.table())


def compare(
    curves: list[str],
    out: str = "compare.png",
    paired: bool = False,
    json: bool = False,
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Compare curves: at equal β, at equal rate, and along the whole of them.

    The first curve is what the others are compared with. Files with one β each, those of dedicated
    models, count as one curve. Prints a table and draws all in one picture.

    Args:
        curves: The curve.json of two or more runs, or the folders they lie in.
        out: The picture to write.
        paired: Measure the runs once more, example by example at equal β, so that ± is that of
            the differences; it needs the folders of runs and their data.
        json: Print the comparison as JSON instead of a table.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes a checkpoint may name.
    """
    from multibeta import plots
    from multibeta.compare import check_comparable, merged, table
    from multibeta.compare import compare as compared
    from multibeta.curve import Curve
    from multibeta.files import check_writable
    from multibeta.runs import shown

    paths = [
        Path(given) / "curve.json" if Path(given).is_dir() else Path(given) for given in curves
    ]
    read = {
        str(shown(path.parent if path.name == "curve.json" else path)): Curve.from_json(path)
        for path in paths
    }
    check_comparable(read)
    sides = merged(read)
    if not paired and (data or allow):
        raise ValueError("--data and --allow are for --paired, which measures the runs once more")
    found = compared(sides, _paired(read, sides, paths, data, allow) if paired else None)
    check_writable(Path(out).parent)
    first = next(iter(sides.values()))
    about = first.about
    title = f"Distortion against rate, {about['data']}, {about['split']} set, N = {about['n']:,}"
    plots.several({name: curve.rows for name, curve in sides.items()}, out, first.unit, title)
    print(json_.dumps(found) if json else table(found))
    print(f"\nfiles: {shown(Path(out))}", file=sys.stderr if json else sys.stdout)


def score(
    checkpoint: str,
    other: str,
    betas: str | None = None,
    at: str | None = None,
    samples: int = 16,
    examples: int = 1000,
    split: Literal["train", "val", "test"] = "test",
    out: str | None = None,
    device: str = "auto",
    extrapolate: bool = False,
    json: bool = False,
    data: dict[str, Any] | None = None,
    other_data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Tell another data set from the model's own by anomaly scores, at each β.

    Scores every picture by D, R, D + R and an importance-weighted −log p(x), prints the AUROC of
    each at each β, and writes scores.csv, scores.json, scores.npz (every example's) and
    scores.png.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        other: The other data: its class's name, such as Omniglot, or a class path.
        betas: LOW:HIGH (16 points, log-spaced), LOW:HIGH:N, or 0.1,1,4; the trained range by
            default.
        at: Values of the other weights that are ranges, as for curve.
        samples: Importance samples for an example.
        examples: How many examples of each set, spread over it.
        split: Which part of both.
        out: The folder for the files; by default as for curve.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        extrapolate: Allow β outside the trained range.
        json: Print the AUROCs as JSON instead of a table.
        data: Settings of the model's data to change, such as --data.root FOLDER.
        other_data: Settings of the other data, such as --other_data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.files import check_writable
    from multibeta.runs import shown
    from multibeta.scores import score as scored

    path, model, datamodule = opened(checkpoint, device, data, allow, at, extrapolate)
    folder = Path(out) if out else folder_of(path, split) / (at or "")
    check_writable(folder)
    others = data_set(other, other_data)
    found = scored(
        model, datamodule, others, betas, samples=samples, examples=examples, split=split,
        extrapolate=extrapolate, progress=place() != "elsewhere",
    )  # fmt: skip
    found.save(folder)
    print(json_.dumps(found.as_dict()) if json else found.table())
    print(f"\nfiles: {shown(folder)}", file=sys.stderr if json else sys.stdout)


def _paired(
    read: dict[str, Any],
    sides: dict[str, Any],
    paths: list[Path],
    data: dict[str, Any] | None,
    allow: str | None,
) -> dict[str, dict[float, tuple[float, float]]]:
    """Return the differences at equal β of the runs that curves are of, example by example."""
    from multibeta.checkpoints import find_checkpoint, load, load_data
    from multibeta.evaluation import differences

    folders = [path.parent for path in paths]
    for folder in folders:
        if not (folder / "checkpoints").is_dir():
            raise ValueError(f"--paired measures runs, and {folder} has no checkpoints; give the "
                             "folders of runs")  # fmt: skip
    models = {
        name: load(folder, allow=allow or ()) for name, folder in zip(read, folders, strict=True)
    }
    of_sides = {
        name: {row["beta"]: models[name] for row in curve.rows} if name in models
        else {read[of].rows[0]["beta"]: models[of] for of in read if len(read[of].rows) == 1}
        for name, curve in sides.items()
    }  # fmt: skip
    first, *others = of_sides
    source = load_data(find_checkpoint(folders[0]), data, allow or ())
    split = sides[first].about["split"]
    return {name: differences(of_sides[first], of_sides[name], source, split) for name in others}


def data_set(name: str, settings: dict[str, Any] | None) -> Any:
    """Return a data set by the name of its class, or its class path.

    Raises:
        ValueError: If there is none.
    """
    from lightning.pytorch import LightningDataModule

    from multibeta import data as own_sets
    from multibeta.specs import build

    sets = [of for of in own_sets.__all__ if of not in ("Batches", "Door", "ImageData")]
    if "." not in name and name not in sets:
        raise ValueError(f"no data set {name}{nearest(name, sets)}; {', '.join(sets)}, or a "
                         "class path")  # fmt: skip
    spec = {
        "class_path": name if "." in name else f"multibeta.data.{name}",
        "init_args": plain_values(settings or {}),
    }
    return build(spec, LightningDataModule)  # type: ignore[type-abstract]


def settings_of(
    given: dict[str, Any] | None, names: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return metric → settings, from ``{"nll.samples": "256"}`` and the like.

    Args:
        given: What follows ``--settings``.
        names: The metrics; a class path is also named by its class alone.
    """
    flat = {
        key: value
        for name, of in (given or {}).items()
        for key, value in (
            {f"{name}.{inner}": v for inner, v in of.items()}
            if isinstance(of, dict)
            else {name: of}
        ).items()
    }
    found: dict[str, dict[str, Any]] = {}
    for key, value in plain_values(flat).items():
        name, _, setting = key.partition(".")
        for path in names:
            for whole in (path, path.rpartition(".")[2]):
                if key.startswith(f"{whole}."):
                    name, setting = path, key.removeprefix(f"{whole}.")
        found.setdefault(name, {})[setting] = value
    return found


def _with_settings(
    metrics: str | None, settings: dict[str, Any] | None, data: Any, model: Any
) -> dict[str, dict[str, Any]]:
    """Return name → settings of the metrics."""
    from multibeta.evaluation import metrics_of

    found = metrics_of(metrics or (), data, model)
    for name, of in settings_of(settings, found).items():
        if name not in found:
            raise ValueError(
                f"--settings.{name}.{next(iter(of))} is given, but not --metrics {name}; give both"
            )
        found[name].update(of)
    return metrics_of(found, data, model)
