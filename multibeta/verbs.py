"""The verbs of the command line beside training: what each measures, writes and prints."""

from __future__ import annotations

import json as json_
import math
import re
import sys
from pathlib import Path
from typing import Any, Literal

from multibeta.options import nearest, read_yaml
from multibeta.progress import place

__all__ = [
    "cite",
    "compare",
    "curve",
    "encode",
    "export",
    "interpolate",
    "push",
    "rate",
    "reconstruct",
    "report",
    "sample",
    "score",
    "traverse",
]


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
            disentanglement, fid, information, nll, psnr, squared_error, some of them with
            commas, or all that the data can serve; by default what the objective asks for.
        settings: Settings of the metrics, such as --settings.nll.samples 256.
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
    from multibeta.callbacks import save_curve
    from multibeta.checkpoints import load
    from multibeta.evaluation import sweep
    from multibeta.files import check_writable
    from multibeta.runs import shown

    path, model, datamodule = _opened(checkpoint, device, data, allow)
    folder = Path(out) if out else _folder_of(path, split) / (at or "").replace(":", "-")
    if metrics is None:
        metrics = model.objective.metrics
    check_writable(folder)
    kept = folder / "curve.unfinished.json"
    try:
        measured = sweep(
            model, datamodule, betas, at=_weights(at),
            metrics=_with_settings(metrics, settings, datamodule),
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


def _opened(
    checkpoint: str,
    device: str,
    data: dict[str, Any] | None,
    allow: str | None,
    at: str | None = None,
    extrapolate: bool = False,
) -> tuple[Path, Any, Any]:
    """Return a checkpoint's path, its model on the device, and its data."""
    import torch

    from multibeta.checkpoints import find_checkpoint, load, load_data

    path = find_checkpoint(checkpoint).absolute()
    model = load(path, allow=allow or ())
    if device == "auto":
        at_hand = torch.accelerator.is_available()
        device = str(torch.accelerator.current_accelerator()) if at_hand else "cpu"
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"device={device} cannot be used ({reason}); try auto or cpu") from None
    weights = {name: float(value) for name, value in _weights(at).items() if ":" not in value}
    if len(weights) < len(_weights(at)):
        raise ValueError(f"--at {at} has a range; give one value of each weight")
    model = model.pin(extrapolate=extrapolate, **weights)
    return path, model, load_data(path, _read(data or {}), allow or ())


def _weights(at: str | None) -> dict[str, str]:
    """Return name → value from ``gamma=2,sigma=0.1``."""
    found = {}
    for part in at.split(",") if at else ():
        name, equals, value = part.partition("=")
        if not (equals and re.fullmatch(r"[-+.\deE]+(:[-+.\deE]+){0,2}", value)):
            raise ValueError(
                f"--at {at} cannot be read; write NAME=NUMBER, such as gamma=2,sigma=0.1"
            )
        found[name.strip()] = value
    return found


def _with_settings(
    metrics: str | None, settings: dict[str, Any] | None, data: Any
) -> dict[str, dict[str, Any]]:
    """Return name → settings of the metrics, from ``{"nll.samples": "256"}`` and the like."""
    from multibeta.evaluation import metrics_of

    found = metrics_of(metrics or (), data)
    flat = {
        key: value
        for name, of in (settings or {}).items()
        for key, value in (
            {f"{name}.{inner}": v for inner, v in of.items()}
            if isinstance(of, dict)
            else {name: of}
        ).items()
    }
    for key, value in _read(flat).items():
        name, _, setting = key.partition(".")
        if name not in found:
            raise ValueError(f"--settings.{key} is given, but not --metrics {name}; give both")
        found[name][setting] = value
    return metrics_of(found, data)


def _folder_of(checkpoint: Path, split: str) -> Path:
    """Return where a curve belongs: a run's own is that of what stands for it, on the test set."""
    from multibeta.checkpoints import SHIPPED, best_or_last
    from multibeta.hub import WEIGHTS, repo_of

    if checkpoint.parent == SHIPPED or checkpoint.name == WEIGHTS:
        # Nothing is written into the package, the Hub's cache, or a folder for the Hub.
        name = repo_of(checkpoint) or checkpoint.parent.name
        own = checkpoint.stem if checkpoint.parent == SHIPPED else name.rpartition("/")[2]
        folder = Path.cwd() / f"multibeta-{own}"
        return folder if split == "test" else folder / split
    in_run = checkpoint.parent.name == "checkpoints"
    folder = checkpoint.parent.parent if in_run else checkpoint.parent
    if not (in_run and best_or_last(checkpoint.with_name("last.ckpt"))[0] == checkpoint):
        folder = folder / checkpoint.stem
    return folder if split == "test" else folder / split


def compare(curves: list[str], out: str = "compare.png", json: bool = False) -> None:
    """Compare curves: at equal β, at equal rate, and along the whole of them.

    The first curve is what the others are compared with. Files with one β each, those of dedicated
    models, count as one curve. Prints a table and draws all in one picture.

    Args:
        curves: The curve.json of two or more runs, or the folders they lie in.
        out: The picture to write.
        json: Print the comparison as JSON instead of a table.
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
    found = compared(sides)
    check_writable(Path(out).parent)
    first = next(iter(sides.values()))
    about = first.about
    title = f"Distortion against rate, {about['data']}, {about['split']} set, N = {about['n']:,}"
    plots.several({name: curve.rows for name, curve in sides.items()}, out, first.unit, title)
    print(json_.dumps(found) if json else table(found))
    print(f"\nfiles: {shown(Path(out))}", file=sys.stderr if json else sys.stdout)


def rate(
    checkpoint: str,
    bits: float | None = None,
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
    --nats, --distortion and --psnr.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        bits: The wanted rate, in bits per example.
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

    if sum(value is not None for value in (bits, nats, distortion, psnr)) != 1:
        raise ValueError("give one of --bits, --nats, --distortion, --psnr")
    _, model, datamodule = _opened(checkpoint, device, data, allow, at)
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
    print(f"β = {beta:.6g}: {found:.4g} nats, {found / math.log(2):.4g} bits per example\n")
    print(there.table())


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
    from lightning.pytorch import LightningDataModule

    from multibeta import data as own_sets
    from multibeta.files import check_writable
    from multibeta.runs import shown
    from multibeta.scores import score as scored
    from multibeta.specs import build

    path, model, datamodule = _opened(checkpoint, device, data, allow, at, extrapolate)
    folder = Path(out) if out else _folder_of(path, split) / (at or "")
    check_writable(folder)
    sets = [name for name in own_sets.__all__ if name not in ("Batches", "Door", "ImageData")]
    if "." not in other and other not in sets:
        raise ValueError(f"no data set {other}{nearest(other, sets)}; {', '.join(sets)}, or a "
                         "class path")  # fmt: skip
    class_path = other if "." in other else f"multibeta.data.{other}"
    others: Any = build(
        {"class_path": class_path, "init_args": _read(other_data or {})},
        LightningDataModule,  # type: ignore[type-abstract]
    )
    found = scored(
        model, datamodule, others, betas, samples=samples, examples=examples, split=split,
        extrapolate=extrapolate, progress=place() != "elsewhere",
    )  # fmt: skip
    found.save(folder)
    print(json_.dumps(found.as_dict()) if json else found.table())
    print(f"\nfiles: {shown(folder)}", file=sys.stderr if json else sys.stdout)


def encode(
    checkpoint: str,
    betas: str | None = None,
    at: str | None = None,
    split: str = "test",
    out: str | None = None,
    device: str = "auto",
    extrapolate: bool = False,
    data: dict[str, Any] | None = None,
    first: int | None = None,
    allow: str | None = None,
) -> None:
    """Write the codes of a data set, with its labels, to a file.

    Encodes every example at each β. An .npz file has the arrays beta (K,), mean and std
    (K, N, *latent shape), split, row, file and label_NAME (N,); .csv and .parquet have a row for
    each β and example.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        betas: LOW:HIGH (16 points, log-spaced), LOW:HIGH:N, or 0.1,1,4; five points of the
            trained range by default.
        at: Values of the other weights that are ranges, as for curve.
        split: Which parts of the data, with commas, such as train,val,test.
        out: The file, .npz, .csv or .parquet; by default codes.npz in the folder of the run.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        extrapolate: Allow β outside the trained range.
        data: Settings of the data to change, such as --data.root FOLDER; the others travel inside
            the checkpoint.
        first: How many examples of a stream to encode at most.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.codes import check_format
    from multibeta.codes import encode as encoded
    from multibeta.files import check_writable
    from multibeta.runs import shown

    path, model, datamodule = _opened(checkpoint, device, data, allow, at, extrapolate)
    to = Path(out) if out else _folder_of(path, "test") / "codes.npz"
    check_format(to)
    check_writable(to.parent)
    splits = [part.strip() for part in split.split(",")]
    codes = encoded(
        model, datamodule, betas, splits=splits, extrapolate=extrapolate,
        progress=place() != "elsewhere", first=first,
    )  # fmt: skip
    codes.save(to)
    known = [*(["file"] if codes.file is not None else []), *codes.labels]
    listed = ", ".join(known[:6]) + (f" and {len(known) - 6} more" if len(known) > 6 else "")
    print(
        f"{len(codes):,} examples ({', '.join(splits)}) at {len(codes.beta)} β's, latents "
        f"{tuple(codes.mean.shape[2:])}; beside them: {listed or 'the data has no labels'}\n\n"
        f"files: {shown(to)}"
    )


def sample(
    checkpoint: str,
    betas: str | None = None,
    n: int = 10,
    prior: Literal["prior", "standardised", "mixture"] = "prior",
    seed: int = 0,
    at: str | None = None,
    out: str = "samples.png",
    device: str = "auto",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Draw samples at several β's, from the same noise at each.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        betas: LOW:HIGH (16 points, log-spaced), LOW:HIGH:N, or 0.1,1,4; five points of the
            trained range by default.
        n: How many samples at each β.
        prior: Where codes are drawn from: the prior N(0, I); standardised, of latents that are
            shifted and scaled by the moments of the training set's codes; or mixture, ten
            Gaussians fitted to these.
        seed: That of the noise.
        at: Values of the other weights that are ranges, as for curve.
        out: A picture of all (.png, .pdf, .svg); .gif or .mp4, a frame for each β; .npz, the
            numbers; or a folder, with one picture a file.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.generate import samples
    from multibeta.outputs import Output

    _, model, datamodule = _opened(checkpoint, device, data, allow, at)
    grid = _few(model, betas)
    form = Output(out, model)
    x = samples(model, grid, n, prior=prior, data=datamodule, seed=seed)
    where = {"prior": "the prior", "standardised": "standardised latents", "mixture": "a mixture"}
    form.write(grid, x, f"samples from {where[prior]}, the same noise at each β")


def traverse(
    checkpoint: str,
    betas: str | None = None,
    latents: str | None = None,
    count: int = 8,
    example: int | None = None,
    span: float = 3.0,
    steps: int = 9,
    at: str | None = None,
    out: str = "traversals.png",
    device: str = "auto",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Move one latent after the other, at several β's.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        betas: As for sample; the middle of the range by default.
        latents: Which, by their numbers, with commas; by default those with the most rate at the
            middle β, on the test set.
        count: How many of these.
        example: The number of an example of the test set, at whose code the other latents stay;
            by default they are at the middle of the prior, 0.
        span: The farthest value of the latent, in standard deviations of the prior.
        steps: Examples on the way.
        at: Values of the other weights that are ranges, as for curve.
        out: As for sample.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.generate import busiest, traversals
    from multibeta.outputs import Output

    _, model, datamodule = _opened(checkpoint, device, data, allow, at)
    grid = _few(model, betas, 1)
    form = Output(out, model)
    if latents is None:
        chosen = busiest(model, datamodule, grid[len(grid) // 2], count)
    else:
        chosen = [_whole("latents", word) for word in latents.split(",")]
    x = None if example is None else _example(str(example), model, datamodule)
    found = traversals(model, grid, chosen, x=x, span=span, steps=steps)
    of = "the middle of the prior" if example is None else f"example {example}"
    rows = [f"latent {j}" for j in chosen]
    form.write(grid, found, f"one latent from −{span:g} to {span:g}, the others at {of}", rows)


def interpolate(
    checkpoint: str,
    first: str,
    last: str,
    betas: str | None = None,
    steps: int = 9,
    at: str | None = None,
    out: str = "interpolations.png",
    device: str = "auto",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Walk from the code of one example to that of another, at several β's.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        first: A file, as for reconstruct, or the number of an example of the test set.
        last: The same.
        betas: As for sample.
        steps: Examples on the way, both ends included.
        at: Values of the other weights that are ranges, as for curve.
        out: As for sample.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.generate import interpolations
    from multibeta.outputs import Output

    _, model, datamodule = _opened(checkpoint, device, data, allow, at)
    grid = _few(model, betas)
    form = Output(out, model)
    ends = (_example(given, model, datamodule) for given in (first, last))
    found = interpolations(model, grid, *ends, steps=steps)
    form.write(grid, found, f"from {first} to {last}")


def reconstruct(
    checkpoint: str,
    files: list[str],
    betas: str | None = None,
    at: str | None = None,
    out: str = "reconstructions.png",
    device: str = "auto",
    json: bool = False,
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Reconstruct files at several β's, and print what each costs and how near it is.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        files: Images, folders of images, or arrays in .npy and .npz files.
        betas: As for sample.
        at: Values of the other weights that are ranges, as for curve.
        out: As for sample.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        json: Print the table as JSON.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.data.given import examples_of
    from multibeta.generate import reconstructions
    from multibeta.outputs import Output

    _, model, datamodule = _opened(checkpoint, device, data, allow, at)
    grid = _few(model, betas)
    form = Output(out, model)
    raw, names = examples_of(files, model.shape, datamodule)
    x = model.read(raw, careful=True).x
    found, rows = reconstructions(model, grid, x, names)
    if json:
        print(json_.dumps(rows))
    else:
        print(_lines(rows))
    form.write(grid, found, "x and its reconstructions", x=x, names=names, quiet=json)


def report(
    runs: list[str],
    out: str = "report.html",
    metrics: str | None = None,
    split: Literal["train", "val", "test"] = "test",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
    explain: bool = False,
) -> None:
    """Write a page with a slider of β: curves, pictures, codes, and the model itself.

    One file that needs no network: curve, reconstructions, samples, traversals, latents and codes
    follow the slider; small models compute in the page.

    Args:
        runs: Checkpoints, folders of runs, shipped models (digits, mnist, sprites), or owner/name
            on the Hub; several are shown side by side.
        out: The file.
        metrics: What to measure beside rate, distortion, active latents and PSNR.
        split: Which part of the data.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
        explain: Add three sentences to each part, and the prior, the posterior of one example and
            the aggregated posterior of one latent.
    """
    from multibeta.files import check_writable
    from multibeta.report import report as written
    from multibeta.runs import shown

    check_writable(Path(out).parent)
    said = written(runs, out, metrics=metrics, split=split, allow=allow or (),
                   data=_read(data or {}), explain=explain)  # fmt: skip
    for line in said:
        print(line, file=sys.stderr)
    print(f"files: {shown(Path(out))} ({Path(out).stat().st_size / 1e6:.1f} MB)")


def export(
    checkpoint: str,
    beta: float | None = None,
    all_betas: bool = False,
    format: Literal["onnx", "pt2", "safetensors"] = "onnx",
    what: Literal["encoder", "decoder", "both"] = "both",
    out: str = "exported",
    at: str | None = None,
    extrapolate: bool = False,
    allow: str | None = None,
) -> None:
    """Write the VAE at one β, or with β as an input, for programs without multibeta.

    The encoder gives mean and standard deviation of q(z|x), the decoder the mean of p(x|z), for
    any number of examples. A README.md lies beside the files, and for ONNX a loader.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        beta: β.
        all_betas: Keep all β's: β (B,) is a second input of both.
        format: onnx; pt2, for torch.export.load; or safetensors, the weights alone.
        what: Which part.
        out: The folder.
        at: Values of the other weights that are ranges, as for curve.
        extrapolate: Allow β outside the trained range.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.checkpoints import find_checkpoint, load
    from multibeta.export import export as exported
    from multibeta.files import check_writable
    from multibeta.runs import shown

    if (beta is None) == (not all_betas):
        given = "neither" if beta is None else "both"
        raise ValueError(f"export takes --beta B or --all-betas; {given} was given")
    check_writable(out)
    model = load(find_checkpoint(checkpoint), allow=allow or ())
    weights = {name: float(value) for name, value in _weights(at).items()}
    model = model.pin(extrapolate=extrapolate, **weights)
    files = exported(model, beta, out, format=format, what=what, extrapolate=extrapolate)
    print(f"files: {', '.join(str(shown(file)) for file in files)}")


def push(
    checkpoint: str,
    to: str,
    beta: float | None = None,
    at: str | None = None,
    private: bool = False,
    license: str | None = None,
    curve: str | None = None,
    extrapolate: bool = False,
    allow: str | None = None,
) -> None:
    """Put a model on the Hugging Face Hub, or into a folder of the same files.

    Writes model.safetensors, config.json, and a model card with the curve, its table, data,
    units, limits, licence, how to load and what to cite. Others then give owner/name in the place
    of a run to every command, and to multibeta.load.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        to: owner/name, on the Hub (log in by hf auth login, or set HF_TOKEN); or a folder, by a
            path that begins with ./, ../, ~ or /, without network.
        beta: β of a plain VAE to put there, in the place of the model for all β's.
        at: Values of the other weights that are ranges, as for curve.
        private: Make a new repository private.
        license: The licence of the weights, by the Hub's word for it: mit, cc-by-4.0, …
        curve: The curve.json for the card; by default that of the run.
        extrapolate: Allow β outside the trained range.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.checkpoints import find_checkpoint, load
    from multibeta.files import check_writable
    from multibeta.pretrained import push_to_hub, save_pretrained
    from multibeta.runs import shown

    local = to.startswith((".", "~")) or Path(to).is_absolute()
    if not local and not re.fullmatch(r"[\w.-]+/[\w.-]+", to):
        raise ValueError(
            f"{to} is no repository: write owner/name for the Hub, or ./{to} for a folder"
        )
    folder = Path(to).expanduser()
    if local:
        check_writable(folder)
    path = find_checkpoint(checkpoint).absolute()
    model: Any = load(path, allow=allow or ())
    weights = {name: float(value) for name, value in _weights(at).items()}
    if beta is not None:
        model = model.at(beta, extrapolate=extrapolate, **weights)
    elif weights:
        raise ValueError("--at is for a plain VAE; give --beta, too")
    measured = _curve_of(path) if curve is None else Path(curve)
    if measured is None:
        print(
            "the card has no curve: none was measured beside the run; multibeta curve RUN does, "
            "and --curve FILE gives one", file=sys.stderr,
        )  # fmt: skip
    options: Any = {"license": license, "curve": measured}
    if license is None:
        print("the card says that the licence is unknown: --license mit", file=sys.stderr)
    if local:
        files = save_pretrained(model, folder, **options)
        print(f"files: {', '.join(str(shown(file)) for file in files)}")
    else:
        print(push_to_hub(model, to, private=private, **options))


def cite(checkpoint: str) -> None:
    """Print BibTeX of what a run used.

    The package, and the papers of the objective, the likelihood, the conditioning, the data and
    what was measured. What has no paper is said in comments.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
    """
    from multibeta.checkpoints import find_checkpoint, read_checkpoint
    from multibeta.citations import METRICS, bibtex, measured
    from multibeta.curve import Curve

    path = find_checkpoint(checkpoint).absolute()
    content = read_checkpoint(path)["multibeta"]
    asked = (content["run"].get("curve") or {}).get("metrics") or ""
    metrics = list(METRICS) if asked == "all" else [n for n in re.split(r"[,\s]+", asked) if n]
    if (beside := _curve_of(path)) is not None:
        metrics = measured(Curve.from_json(beside).rows[0])
    print(bibtex(content, metrics))


def _curve_of(checkpoint: Path) -> Path | None:
    """Return the curve.json that was measured of a run's checkpoint, if there is one."""
    from multibeta.checkpoints import SHIPPED

    if checkpoint.parent == SHIPPED:
        return None
    path = _folder_of(checkpoint, "test") / "curve.json"
    return path if path.is_file() else None


def _few(model: Any, betas: str | None, count: int = 5) -> tuple[float, ...]:
    """Return the β's that were asked for, all within the range; by default a few of it."""
    from multibeta.generate import within

    if betas is None:
        return model.beta_range.grid(count) if count > 1 else (model.beta_range.middle,)
    return within(model, betas)


def _whole(name: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"--{name} has {word!r}; give whole numbers, with commas") from None


def _example(given: str, model: Any, data: Any) -> Any:
    """Return an example (*shape): of the test set by its number, or from a file."""
    from multibeta.data.door import Door
    from multibeta.data.given import examples_of

    if not given.isdecimal():
        raw, _ = examples_of([given], model.shape, data)
        if len(raw) > 1:
            raise ValueError(f"{given} holds {len(raw)} examples; give a file with one")
        return model.read(raw).x[0]
    number, seen = int(given), 0
    for batch in Door.of(data, model.shape).batches("test"):
        x = model.read(batch).x
        if number < seen + len(x):
            return x[number - seen]
        seen += len(x)
    raise ValueError(f"example {given} does not exist; the test set has 0 to {seen - 1}")


def _lines(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table."""
    from multibeta.tables import columns

    shown = [
        {k: v if isinstance(v, str) else f"{v:.4g}" if k == "β" else f"{v:.2f}"
         for k, v in row.items()}
        for row in rows
    ]  # fmt: skip
    return columns(list(shown[0]), [list(row.values()) for row in shown], keys=2)


def _read(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings from the command line as plain values: 3, not "3"."""
    return {k: read_yaml(v) if isinstance(v, str) else v for k, v in given.items()}
