"""Tensors and plain values in one file: safetensors with a digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multibeta.files import check_readable, replacing

__all__ = ["read", "write"]


def write(
    path: str | os.PathLike[str], state: Mapping[str, Any], content: Mapping[str, Any]
) -> None:
    """Write tensors, what they are, and a digest of both, as safetensors.

    Args:
        path: The file.
        state: The tensors by name.
        content: Plain values, kept as JSON in the file's metadata.

    Raises:
        ValueError: If safetensors is missing, or there is more than tensors.
        OSError: If the file cannot be written.
    """
    _check_installed()
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if wrong := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{wrong[0]} is no tensor, and safetensors hold tensors alone; remove it")
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    about = {"multibeta": text, "sha256": _digest(text, tensors)}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, about)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def read(
    path: str | os.PathLike[str], kind: str, format: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write` has written; no code from the file is run.

    Args:
        path: The file.
        kind: ``BetaVAE`` or ``MultiBetaVAE``.
        format: The format that is read.

    Returns:
        The plain values and the tensors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If safetensors is missing, or the file is damaged, of another kind, or of
            another format.
    """
    _check_installed()
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}; give a .safetensors file of multibeta")
    check_readable(path)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        text = about.get("multibeta")
        content = {} if text is None else json.loads(text)
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        first = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} is damaged or no safetensors file ({first}); give another"
        ) from None
    if not (isinstance(content, dict) and "kind" in content):
        raise ValueError(
            f"{path} holds weights alone, and not what makes the model; give a file of "
            "BetaVAE.save or save_pretrained"
        )
    if content["kind"] != kind:
        how = {
            "BetaVAE": "a plain VAE at one β; load it in Python: multibeta.BetaVAE.load(path)",
            "MultiBetaVAE": "a model for a range of β; load it by multibeta.load, then at_beta(b)",
        }.get(str(content["kind"]), "of a kind that this multibeta does not know; update it")
        raise ValueError(f"{path} is {how}")
    if content.get("format") != format:
        raise ValueError(
            f"{path} has format {content.get('format')}, written by multibeta "
            f"{content.get('version')}, and this multibeta reads format {format}; update "
            "multibeta, or save the model anew"
        )
    if about.get("sha256") != _digest(str(text), tensors):
        raise ValueError(f"{path} is damaged or was changed: its digest is another; give another")
    return content, tensors


def _check_installed() -> None:
    if find_spec("safetensors") is None:
        raise ValueError("this needs safetensors: pip install 'multibeta[hub]'")


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of everything: safetensors have no checksum of their own."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
