"""The verbs that hand on: encode, report, export, push, cite."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Literal

from multibeta.progress import place
from multibeta.verbs.opening import folder_of, opened, plain_values, weights_at

__all__ = ["cite", "encode", "export", "push", "report"]


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

    path, model, datamodule = opened(checkpoint, device, data, allow, at, extrapolate)
    to = Path(out) if out else folder_of(path, "test") / "codes.npz"
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
    follow the slider; small models compute in the page. A file of the examples is cut by a
    slider of its own, with multibeta[codec].

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
                   data=plain_values(data or {}), explain=explain)  # fmt: skip
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
    weights = {name: float(value) for name, value in weights_at(at).items()}
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
    weights = {name: float(value) for name, value in weights_at(at).items()}
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
    path = folder_of(checkpoint, "test") / "curve.json"
    return path if path.is_file() else None
