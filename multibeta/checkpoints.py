"""Reading and writing checkpoints: tensors and plain values only."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from multibeta.data.batches import rank_and_world
from multibeta.data.units import Units
from multibeta.files import check_readable
from multibeta.hub import WEIGHTS, download, is_repo
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import Network
from multibeta.schemas import SAVED, check
from multibeta.settings import FORMAT, about_of, rebuild
from multibeta.specs import build, check_trusted
from multibeta.tensors import read

__all__ = [
    "SHIPPED",
    "best_or_last",
    "check_size",
    "data_of",
    "find_checkpoint",
    "fits",
    "load",
    "load_data",
    "misfits",
    "modules_of",
    "read_checkpoint",
    "without",
]

SHIPPED = Path(__file__).parent / "models"
"""Models that come with the package, by their names."""


def load(
    path: str | os.PathLike[str],
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    *,
    allow: str | Sequence[str] = (),
    **given: Any,
) -> MultiBetaVAE:
    """Load a trained model from a checkpoint.

    Only tensors and plain values are read: no code from the file is executed, and a class that it
    names is imported only if it is multibeta's or allowed.

    Args:
        path: A checkpoint file, or a run's folder: its best checkpoint, if that is not the last;
            or the name of a model that comes with the package, such as ``digits``; or a
            folder that ``save_pretrained`` has made, or ``owner/name`` on the Hugging Face Hub.
        encoder: The encoder of a wrapped model, of the architecture that was trained (the weights
            are the file's); or its one module with ``encode`` and ``decode``.
        decoder: Its decoder.
        allow: Modules of yours, a list or a text with commas, whose classes the file may name.
        given: ``likelihood``, ``distortion``, ``objective`` or ``posterior`` of a wrapped model,
            where they are code of yours.

    Returns:
        The model, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, not a checkpoint of multibeta, holds more than tensors
            and plain values, does not fit the model it describes, names code that is not allowed,
            or needs the user's modules.

    Example:
        >>> model = load("runs/digits/2026-01-31-1")  # doctest: +SKIP
        >>> vae = model.at_beta(0.1)  # doctest: +SKIP
    """
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    model_of = {k: v for k, v in checkpoint["multibeta"].items() if k in ("settings", "wrapped")}
    check_trusted(without(model_of, given), modules_of(allow), path)
    settings = checkpoint["multibeta"].get("settings") or {}
    if settings.get("network"):
        check_size(settings["network"], settings["shape"], settings["latent_dim"],
                   checkpoint["state_dict"], path)  # fmt: skip
    try:
        model = rebuild(checkpoint["multibeta"], str(path), encoder, decoder, **given)
    except TypeError as error:
        raise ValueError(f"{path} describes another model: {error}; fit it anew") from None
    weights = {k.removeprefix("vae."): v for k, v in checkpoint["state_dict"].items()}
    if wrong := misfits(model.state_dict(), weights):
        raise ValueError(
            f"{path} does not fit the model: {wrong[0]} ({len(wrong)} such); give the networks "
            "that were trained, or fit anew"
        )
    model.load_state_dict(weights)
    model.run_seed = checkpoint["multibeta"]["run_seed"]
    if units := checkpoint["multibeta"].get("units"):
        model.units = Units(**units)
    model.about = about_of(checkpoint["multibeta"], checkpoint["global_step"])
    return model.eval()


def check_size(
    network: Any, shape: Sequence[int], latents: int, weights: Mapping[str, Any], where: object
) -> None:
    """Refuse a file that describes networks far larger than its weights, before they are made.

    Raises:
        ValueError: If it does.
    """
    with torch.device("meta"):
        made: Network = build(network, Network)  # type: ignore[type-abstract]
        parts = made.encoder(tuple(shape), latents), made.decoder(tuple(shape), latents, 1)
    asks = sum(p.numel() for part in parts for p in part.parameters())
    has = sum(v.numel() for v in weights.values() if isinstance(v, Tensor))
    if asks > 2 * has + 10_000:
        raise ValueError(
            f"{where} describes networks of {asks:,} numbers and holds {has:,}; it was changed, "
            "or is of another model: give another"
        )


def misfits(own: Mapping[str, Any], weights: Mapping[str, Any]) -> list[str]:
    """Return, in words, which weights of a file and of a model do not go together."""
    return [
        *(f"{k} is missing in the file" for k in sorted(own.keys() - weights.keys())),
        *(f"{k} of the file is unknown" for k in sorted(weights.keys() - own.keys())),
        *(
            f"{k} is {_form(weights[k])} in the file and {_form(own[k])} in the model"
            for k in own
            if k in weights and not fits(own[k], weights[k])
        ),
    ]


def fits(own: Any, weight: Any) -> bool:
    """Return whether a weight of a file can take the place of a model's: float for float."""
    if not (isinstance(own, Tensor) and isinstance(weight, Tensor)):
        return type(own) is type(weight)
    return own.shape == weight.shape and (
        own.dtype == weight.dtype or (own.is_floating_point() and weight.is_floating_point())
    )


def _form(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    kind = "" if value.is_floating_point() else f" of {str(value.dtype).removeprefix('torch.')}"
    return f"{tuple(value.shape)}{kind}"


def without(content: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the caller gives in its place."""
    replaced = {*given, *(["likelihood"] if "distortion" in given else [])}
    return {
        part: {k: v for k, v in of.items() if k not in replaced} for part, of in content.items()
    }


def modules_of(allow: str | Sequence[str] | None) -> list[str]:
    """Return the modules that are allowed, given as a list or as a text with commas."""
    names = allow.split(",") if isinstance(allow, str) else list(allow or ())
    return [name.strip() for name in names if name.strip()]


def load_data(
    path: str | os.PathLike[str],
    overrides: dict[str, Any] | None = None,
    allow: str | Sequence[str] = (),
) -> Any:
    """Return the data that a checkpoint's model was trained on.

    Args:
        path: A checkpoint file, or a run's folder.
        overrides: Arguments of the data to change, such as ``{"root": "/data"}``.
        allow: Modules of yours whose classes the file may name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint of multibeta or holds no data settings.
    """
    path = find_checkpoint(path)
    spec = data_of(read_checkpoint(path)["multibeta"])
    if spec is None:
        raise ValueError(
            f"{path} does not say what data it was trained on; measure it in Python with "
            "multibeta.sweep(model, data)"
        )
    check_trusted(spec, modules_of(allow), path)
    from lightning.pytorch import LightningDataModule

    init_args = {**spec["init_args"], **(overrides or {})}
    return build({**spec, "init_args": init_args}, LightningDataModule)


def data_of(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the data that a checkpoint names; it has nothing put into a folder that it names."""
    spec: dict[str, Any] | None = content["data"]
    given = spec["init_args"] if spec else {}
    if spec is None or given.get("root") is None or "download" not in given:
        return spec
    return {**spec, "init_args": {**given, "download": False}}


def find_checkpoint(
    path: str | os.PathLike[str], use: Literal["measure", "go on"] = "measure"
) -> Path:
    """Return the checkpoint file that a path stands for.

    Args:
        path: A file, which stands for itself; a run's folder; or, to be measured, the name of a
            model that comes with the package, a folder that ``save_pretrained`` has made, or
            ``owner/name`` on the Hugging Face Hub, which is downloaded.
        use: A run is measured by what :func:`best_or_last` says, which is told on stderr where it
            is not the last; it goes on from ``last.ckpt``.

    Raises:
        FileNotFoundError: If there is none.
    """
    given, path = Path(path), Path(path)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    shipped = SHIPPED / f"{given}.ckpt"
    if use == "measure" and not given.exists() and given.name == str(given) and shipped.is_file():
        return shipped
    if use == "measure" and (saved := given / WEIGHTS).is_file() and not path.is_file():
        return saved
    if use == "measure" and is_repo(given):
        return download(str(given))
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.ckpt")))
        shipped_too = f", or a shipped model: {names}" if use == "measure" else ""
        raise FileNotFoundError(
            f"no checkpoint at {given}; give a .ckpt file or the folder of a run, such as "
            f"runs/digits/2026-01-31-1{shipped_too}"
        )
    if given.is_dir() and use == "measure":
        path, why = best_or_last(path)
        if why and rank_and_world()[0] == 0:
            print(why, file=sys.stderr)
    return path


def best_or_last(last: Path) -> tuple[Path, str]:
    """Return which of a run's checkpoints is measured, and why where it is not the last.

    It is ``best.ckpt`` where its curve on the validation set was better. Weights that were
    averaged at the end were not validated, and stand for their run.

    Args:
        last: The run's ``last.ckpt``.
    """
    best = last.with_name("best.ckpt")
    if not best.is_file():
        return last, ""
    try:
        callbacks = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["callbacks"]
        own = next(of for name, of in callbacks.items() if name.startswith("Checkpoints{"))
        then, now = float(own["best_model_score"]), float(own["current_score"])
    except Exception:  # whatever is wrong with it is said by who reads it
        return last, ""
    averaged = any(name.startswith("StochasticWeightAveraging") for name in callbacks)
    if averaged or not then < now:
        return last, ""
    return best, (
        f"measured is best.ckpt: D + βR on the validation set, weighed over β as in training, is "
        f"{then:.5g} there, {now:.5g} in last.ckpt"
    )


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of multibeta, tensors and plain values only.

    Raises:
        ValueError: If it is something else.
    """
    check_readable(path)
    if Path(path).suffix == ".safetensors":
        return _pretrained(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is truncated or no checkpoint; give another, such as the last.ckpt or "
            "best.ckpt beside it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is compressed, and could be of any size")
            damaged = archive.testzip()  # torch.load looks at no checksum
        if damaged is not None:
            raise ValueError(f"{damaged} does not have its checksum")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than tensors and plain values, and was not opened, because it "
            "could run code; give a checkpoint made by multibeta fit"
        ) from None
    except (
        RuntimeError, EOFError, OSError, ValueError, KeyError, NotImplementedError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{path} is damaged or no checkpoint ({first}); give another") from None
    own = checkpoint.get("multibeta") if isinstance(checkpoint, dict) else None
    if not isinstance(own, dict):
        raise ValueError(f"{path} is not a checkpoint made by multibeta fit; give one that is")
    found, version = own.get("format"), own.get("version", "0.1.0")
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        # In formats below 4 networks knew of β, and their weights had other names.
        cure = "update multibeta" if newer else "install that version, or fit the model again"
        raise ValueError(
            f"{path} has format {found}, which multibeta {version} reads, and this multibeta "
            f"reads format {FORMAT}; {cure}"
        )
    _check_content(checkpoint, path)
    # torch.compile leaves a mark in the names of the weights.
    checkpoint["state_dict"] = {
        name.replace("_orig_mod.", ""): value for name, value in checkpoint["state_dict"].items()
    }
    return checkpoint


def _pretrained(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what ``save_pretrained`` has written in the form of a checkpoint."""
    content, tensors = read(path, "MultiBetaVAE", FORMAT)
    own = {k: v for k, v in content.items() if k not in ("kind", "step")}
    state = {f"vae.{name}": value for name, value in tensors.items()}
    checkpoint = {"multibeta": own, "state_dict": state, "global_step": content.get("step")}
    _check_content(checkpoint, path)
    return checkpoint


def _check_content(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    try:
        check(SAVED, checkpoint)
        own = checkpoint["multibeta"]
        if ("settings" in own) == ("wrapped" in own):
            raise ValueError("it must have one of multibeta.settings and multibeta.wrapped")
    except ValueError as error:
        raise ValueError(f"{path} was changed, or is damaged ({error}); give another") from None
