"""The command line: fit, validate and test by LightningCLI; the others beside them."""

from __future__ import annotations

import argparse
import ctypes
import inspect
import io
import itertools
import json as json_
import math
import os
import platform
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from multibeta.faults import fault_of
from multibeta.options import check_yaml, explain, nearest, read_yaml

__all__ = ["compare", "curve", "encode", "main", "rate", "score"]

_TRAINING = {
    "fit": "train a model, then measure its curve",
    "validate": "measure a checkpoint on the validation set, on a small grid of β",
    "test": "measure a checkpoint on the test set, on a small grid of β",
}

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

_FIT = """\
multibeta fit: train a model, then measure its curve

  multibeta fit --config digits.yaml                       a path, or a shipped config
  multibeta fit --data NPZ --data.root x.npz --model.likelihood Gaussian
  multibeta fit --ckpt_path runs/digits/DATE-N             go on with a run

  --config FILE               settings; several, the later ones win; options win over all
  --ckpt_path RUN             go on with a run, or with the copy of a checkpoint
  --init_from RUN             start a new run from the weights that fit
  --name NAME                 the run's name: runs/NAME/DATE-N
  --allow MODULE              let the checkpoint name classes of yours; several with commas
  --seed_everything N         seed of weights, batches, β's and noise (0)

  --data CLASS                Digits, MNIST, CelebA, Folder, NPZ, …, or your class path
  --data.root PATH            the file or folder
  --data.batch_size N         examples in a batch, on each process

  --model.betas LOW:HIGH      the range of β (0.01:10); one number for a dedicated β-VAE
  --model.network CLASS       MLP, Conv, ResNet, Linear; or --model.encoder, --model.decoder
  --model.latent_dim N        latents (32)
  --model.likelihood CLASS    Bernoulli, Gaussian, Poisson, …; a class path of yours; Distortion
  --model.likelihood.sigma S  the σ of Gaussian and Laplace, in units of x
  --model.objective CLASS     BetaELBO, BetaTCVAE, IWAE, …
  --model.standardise true    shift and scale features or channels by the training set
  --model.lr RATE             peak learning rate of Adam (0.003)

  --trainer.max_epochs N      how often to go through the training set
  --trainer.accelerator A     auto, cpu, gpu, …; --trainer.devices, --trainer.precision
  --trainer.callbacks CLASS   one of Lightning's, or of yours; += adds
  --trainer.default_root_dir FOLDER   where runs are kept (runs)

  --curve.betas BETAS         where the curve is measured: LOW:HIGH, LOW:HIGH:N, 0.1,1,4
  --curve.metrics NAMES       what else, with commas; all
  --curve.enabled false       no curve

  --print_config              all settings, resolved; =skip_default those that differ
  --data.help CLASS           the arguments of a class; so --model.network.help Conv
  --help-all                  every option, those of Lightning's Trainer too
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit status: 0, 2 after a user's mistake (said in one line on stderr), 1 after a fault
        of multibeta (with the place of the whole trace), 130 after Ctrl-C, 143 after SIGTERM,
        138 after SIGUSR1, or 141 where nobody reads any more.
    """
    # Pictures are files. A notebook's backend is in its environment, and perhaps not in this one.
    os.environ["MPLBACKEND"] = "agg"
    # Threads that wait for each other would take the cores of others; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_memory()
    argv = list(sys.argv[1:] if argv is None else argv)
    show = "--traceback" in argv
    argv = [argument for argument in argv if argument != "--traceback"]
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no β shows a question mark
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")
    try:
        status = _dispatch(argv)
        sys.stdout.flush()  # what nobody reads is noticed here
        return status
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as stop:
        return _status(stop)
    except SystemExit as stop:
        # Lightning leaves with 1 after Ctrl-C.
        interrupted = isinstance(stop.__context__, KeyboardInterrupt)
        return _status(stop.__context__) if interrupted else int(stop.code or 0)
    except Exception as error:
        if show:
            traceback.print_exc()
        fault = fault_of(error)
        said = fault.line.replace("pass extrapolate=True", "pass --extrapolate")
        said = re.sub(r"pass allow='([\w,]+)'", r"pass --allow \1", said)
        print(f"multibeta: {said}", file=sys.stderr)
        return fault.status


def _keep_memory() -> None:
    """Let glibc keep up to 256 MB of freed memory: each step takes what the last one gave back.

    Taking it from the system anew costs a seventh of a step. Settings in MALLOC_… stay.
    """
    if platform.libc_ver()[0] != "glibc" or any(k.startswith("MALLOC_") for k in os.environ):
        return
    libc = ctypes.CDLL(None)
    for parameter, size in ((_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**28)):
        libc.mallopt(parameter, size)


def _status(stop: BaseException | None) -> int:
    # By its name: its module would import Lightning.
    terminated = type(stop).__name__ == "Terminated"
    return 128 + (stop.args[0] if stop is not None and terminated else signal.SIGINT)


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
        checkpoint: A .ckpt file, or the folder of a run.
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
            extrapolate=extrapolate, progress=sys.stderr.isatty(), keep=kept, first=first,
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
    from multibeta.checkpoints import best_or_last

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
    read = {str(shown(path)): Curve.from_json(path) for path in paths}
    check_comparable(read)
    sides = merged(read)
    found = compared(sides)
    check_writable(Path(out).parent)
    first = next(iter(sides.values()))
    plots.several({name: curve.rows for name, curve in sides.items()}, out, unit=first.unit)
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
        checkpoint: A .ckpt file, or the folder of a run.
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
        checkpoint: A .ckpt file, or the folder of a run.
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
        extrapolate=extrapolate, progress=sys.stderr.isatty(),
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
        checkpoint: A .ckpt file, or the folder of a run.
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
        progress=sys.stderr.isatty(), first=first,
    )  # fmt: skip
    codes.save(to)
    known = [*(["file"] if codes.file is not None else []), *codes.labels]
    listed = ", ".join(known[:6]) + (f" and {len(known) - 6} more" if len(known) > 6 else "")
    print(
        f"{len(codes):,} examples ({', '.join(splits)}) at {len(codes.beta)} β's, latents "
        f"{tuple(codes.mean.shape[2:])}; beside them: {listed or 'the data has no labels'}\n\n"
        f"files: {shown(to)}"
    )


def _read(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings from the command line as plain values: 3, not "3"."""
    return {k: read_yaml(v) if isinstance(v, str) else v for k, v in given.items()}


_VERBS: dict[str, Callable[..., None]] = {
    "curve": curve,
    "rate": rate,
    "encode": encode,
    "compare": compare,
    "score": score,
}


_MEANT = {"train": "fit", "resume": "fit --ckpt_path", "evaluate": "curve", "measure": "curve",
          "sweep": "curve", "plot": "curve", "predict": "encode"}  # fmt: skip


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        import multibeta

        print(f"multibeta {multibeta.__version__}")
        return 0
    verb = argv[0]
    if verb not in [*_TRAINING, *_VERBS]:
        known = [*_TRAINING, *_VERBS]
        meant = f" (did you mean {_MEANT[verb]}?)" if verb in _MEANT else nearest(verb, known)
        raise ValueError(f"no such command: {verb}{meant}; {', '.join(known)}")
    # A user's own classes are found in the current folder, as with python -m.
    sys.path.insert(0, os.getcwd())
    if verb in _TRAINING:
        _train(argv)
        return 0

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"multibeta {verb}",
        description=_doc(_VERBS[verb]).split("\nArgs:")[0],
        exit_on_error=False,
    )
    parser.add_function_arguments(_VERBS[verb], as_positional=True)
    try:
        arguments = parser.parse_args(_as_list(_with_values(argv[1:], _VERBS[verb]), _VERBS[verb]))
    except argparse.ArgumentError as error:
        raise ValueError(explain(str(error), [parser])) from None
    _VERBS[verb](**arguments.as_dict())
    return 0


def _with_values(argv: list[str], run: Callable[..., None]) -> list[str]:
    """Let a yes-or-no option stand alone, for yes."""
    parameters = inspect.signature(run).parameters.values()
    flags = {f"--{p.name}" for p in parameters if isinstance(p.default, bool)}
    return [
        f"{word}=true" if word in flags and after not in ("true", "false") else word
        for word, after in itertools.pairwise([*argv, ""])
    ]


def _as_list(argv: list[str], run: Callable[..., None]) -> list[str]:
    """Gather the words of each parameter that takes a list, those in front of the first option."""
    parameters = inspect.signature(run).parameters
    groups: list[tuple[str, list[str]]] = [("", [])]
    for word in argv:
        if word.startswith("-"):
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    gathered = []
    for option, words in groups:
        parameter = parameters.get(option.removeprefix("--") or next(iter(parameters)))
        takes_list = parameter is not None and "list" in str(parameter.annotation)
        gathered += [option] * bool(option)
        gathered += [json_.dumps(words)] if takes_list and words else words
    return gathered


def _doc(run: Callable[..., None]) -> str:
    return inspect.getdoc(run) or ""


def _help() -> str:
    said = {verb: _doc(run).split("\n")[0].rstrip(".") for verb, run in _VERBS.items()}
    verbs = {**_TRAINING, **said}
    lines = "\n".join(f"  {verb:10} {text[0].lower()}{text[1:]}" for verb, text in verbs.items())
    by_kind: dict[bool, list[str]] = {True: [], False: []}
    for name, path in _shipped().items():
        by_kind[path.parent.name == "objectives"].append(name)
    return f"""\
multibeta: one variational autoencoder, conditioned on log β, in place of a sweep of β-VAEs

  multibeta fit --config digits.yaml            a path, or the name of a shipped config
  multibeta curve runs/digits/DATE-N --betas 0.01:10
  multibeta fit --ckpt_path RUN                 goes on with a run
  multibeta fit --init_from RUN                 starts a new one from its weights

commands:
{lines}

multibeta COMMAND --help shows the options of a command. --version shows the version;
--traceback shows where an error comes from. Shipped configs: {", ".join(by_kind[False])};
beside one of them, for another objective: {", ".join(by_kind[True])}."""


def _train(argv: list[str]) -> None:
    """Run fit, validate or test by LightningCLI."""
    given = {argument.partition("=")[0] for argument in argv}
    if argv[0] == "fit" and given & {"--help", "-h"}:
        print(_FIT)
        return
    if "--help-all" in given:
        argv = ["--help" if argument == "--help-all" else argument for argument in argv]
        given = {"--help"}
    if argv[1:] and not argv[1].startswith("-"):
        meant = "--config" if argv[0] == "fit" and not _is_run(argv[1]) else "--ckpt_path"
        raise ValueError(f"no such option: {argv[1]} (did you mean {meant} {argv[1]}?)")
    chosen = {"--config", "-c", "--ckpt_path", "--init_from", "--data"}
    if argv[0] == "fit" and not given & chosen:
        argv[1:1] = ["--config", "digits"]
    if argv[0] != "fit" and not given & {"--ckpt_path", "--help", "-h", "--print_config"}:
        raise ValueError(f"{argv[0]} needs a trained model; give --ckpt_path RUN, a run's folder")
    for i, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c") and (equals or i + 1 < len(argv)):
            if equals:
                argv[i] = f"{option}={_config(value)}"
            else:
                argv[i + 1] = _config(argv[i + 1])

    from multibeta.training import train

    train(argv)


def _is_run(path: str) -> bool:
    return path.endswith(".ckpt") or Path(path).is_dir()


def _config(given: str) -> str:
    """Return the path of a config, given by its path or the name of a shipped one."""
    if Path(given).is_file():
        check_yaml(given)
        return given
    shipped = _shipped()
    name = given.removesuffix(".yaml")
    if name not in shipped:
        raise ValueError(
            f"no config at {given}{nearest(name, shipped)}; shipped: {', '.join(shipped)}"
        )
    return str(shipped[name])


def _shipped() -> dict[str, Path]:
    """Return the shipped configs by name."""
    here = Path(__file__).parent
    # In the wheel they lie inside the package, in a checkout beside it.
    folder = next((f for f in (here / "configs", here.parent / "configs") if f.is_dir()), here)
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}
