"""A model, at one β or with β as an input, for other programs: ONNX, torch.export, safetensors."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

import multibeta
from multibeta.adapters import further_arguments
from multibeta.files import replacing
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.vae import BetaVAE

__all__ = ["Format", "What", "export"]

Format = Literal["onnx", "pt2", "safetensors"]
What = Literal["encoder", "decoder", "both"]

_NEEDED = {"onnx": ("onnx", "onnxscript"), "pt2": (), "safetensors": ("safetensors",)}
_NAMES = {"encoder": (["x"], ["mean", "std"]), "decoder": (["z"], ["x_hat"])}


class _Encoder(nn.Module):
    """X (B, *shape), and β (B,) where it is an input → mean and std of q(z|x)."""

    def __init__(self, vae: BetaVAE | MultiBetaVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, *beta: Tensor) -> tuple[Tensor, Tensor]:
        q = self.vae.encode(x, *beta)
        return q.mean, q.stddev


class _Decoder(nn.Module):
    """Z (B, *latent shape), and β (B,) where it is an input → the mean of p(x|z)."""

    def __init__(self, vae: BetaVAE | MultiBetaVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor, *beta: Tensor) -> Tensor:
        return self.vae.decode(z, *beta).mean


def export(
    model: MultiBetaVAE,
    beta: float | None,
    folder: str | os.PathLike[str],
    *,
    format: Format = "onnx",
    what: What = "both",
    extrapolate: bool = False,
) -> list[Path]:
    """Write the plain VAE at one β, or the model of all β's, for programs without multibeta.

    The encoder takes x (B, …) and gives mean and std of q(z|x); the decoder takes z (B, …) and
    gives the mean of p(x|z); B is free. The noise is the caller's: z = mean + std · ε. A README.md
    and, for ONNX, a loader of ten lines lie beside the files.

    Args:
        model: The model.
        beta: β; None for the model of all β's, which takes β (B,) as a second input. Nothing
            checks there that it is within the trained range.
        folder: Where to.
        format: ``onnx``; ``pt2``, for torch.export.load; ``safetensors``, the weights alone, under
            the keys of encoder and decoder.
        what: Which of both.
        extrapolate: Allow β outside the trained range.

    Returns:
        The files.

    Raises:
        ValueError: If a package is missing, β is outside the range, a network cannot be
            exported, or safetensors are asked for without a β.
    """
    if format not in get_args(Format):
        raise ValueError(f"format={format} is unknown; allowed: {', '.join(get_args(Format))}")
    if what not in get_args(What):
        raise ValueError(f"what={what} is unknown; allowed: {', '.join(get_args(What))}")
    if missing := [name for name in _NEEDED[format] if find_spec(name) is None]:
        raise ValueError(f"{format} needs {', '.join(missing)}: pip install 'multibeta[export]'")
    parts = [what] if what != "both" else ["encoder", "decoder"]
    folder = Path(folder)
    vae: BetaVAE | MultiBetaVAE
    if beta is None:
        vae = copy.deepcopy(model).cpu().eval()
    else:
        vae = model.at_beta(beta, extrapolate=extrapolate).cpu().eval()
    for part in parts if format != "safetensors" else ():
        call = vae.network(part)[1]
        needed = further_arguments(getattr(call, "forward", call))
        if named := [name for name, must in needed.items() if must]:
            raise ValueError(
                f"the {part} takes {', '.join(named)} too, and an exported one x or z alone: take "
                "--format safetensors, or vae.save(file)"
            )
    about = _about(model, beta)
    if format == "safetensors":
        if not isinstance(vae, BetaVAE):
            raise ValueError(
                "safetensors hold the weights at one β; give beta, or take onnx or pt2, where β "
                "is an input"
            )
        files = [_weights(vae, parts, folder, about)]
    else:
        files = [_program(vae, part, format, folder) for part in parts]
    files += _readme(files, parts, format, folder, about)
    return files


def _about(model: MultiBetaVAE, beta: float | None) -> dict[str, Any]:
    units = model.units
    return {
        "beta": beta, "range_of_beta": [model.beta_range.low, model.beta_range.high],
        "weights": dict(model.pinned),
        "shape": list(model.shape), "latent_shape": list(model.latent_shape),
        "likelihood": str(model.likelihood.at(model.pinned)),
        "range_of_x": None if units is None else [units.low, units.high],
        "multibeta": multibeta.__version__,
    }  # fmt: skip


def _weights(vae: BetaVAE, parts: Sequence[str], folder: Path, about: dict[str, Any]) -> Path:
    from safetensors.torch import save_file

    state = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in vae.state_dict().items()
        if key.partition(".")[0] in parts or len(parts) == 2
    }
    path = folder / "model.safetensors"
    with replacing(path) as temporary:
        save_file(state, temporary, {"multibeta": json.dumps(about)})
    return path


def _program(vae: BetaVAE | MultiBetaVAE, part: str, format: str, folder: Path) -> Path:
    """Write encoder or decoder as a program with any number of examples."""
    wrapped = _Encoder(vae) if part == "encoder" else _Decoder(vae)
    shape = vae.shape if part == "encoder" else vae.latent_shape
    example: tuple[Tensor, ...] = (torch.rand(3, *shape),)
    if isinstance(vae, MultiBetaVAE):
        example += (torch.full((3,), vae.beta_range.middle),)
    batch = torch.export.Dim("batch")
    path = folder / f"{part}.{format}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about its own parts
            free = {0: batch}
            dynamic = (free, *[(free,)] * (len(example) - 1))
            program = torch.export.export(wrapped, example, dynamic_shapes=dynamic)
            with replacing(path) as temporary:
                if format == "pt2":
                    torch.export.save(program, temporary)
                else:
                    inputs, outputs = _NAMES[part]
                    made: Any = torch.onnx.export(
                        program, example, dynamo=True, verbose=False,
                        input_names=[*inputs, "beta"][: len(example)], output_names=outputs,
                    )  # fmt: skip
                    _keep_apart(made.model.graph)
                    made.save(temporary, external_data=False)
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the {part} cannot be exported as {format} ({reason}); try another format, or export "
            f"the other part: --what {'decoder' if part == 'encoder' else 'encoder'}"
        ) from error
    return path


def _keep_apart(graph: Any) -> None:
    """Rename what within a graph has the name of one of its outputs, such as ``mean``."""
    taken = {value.name for value in graph.outputs}
    for node in graph:
        for value in node.outputs:
            if value.name in taken and not value.is_graph_output():
                value.name = f"{value.name}_within"


def _readme(
    files: Sequence[Path], parts: Sequence[str], format: str, folder: Path, about: dict[str, Any]
) -> list[Path]:
    """Write what the files are, and for ONNX a loader."""
    shape, latent = (", ".join(map(str, about[name])) for name in ("shape", "latent_shape"))
    at = about["beta"]
    low, high = about["range_of_beta"]
    beta = "" if at is not None else " and beta (B,)"
    taken = {
        "encoder": f"- encoder: x (B, {shape}){beta} → mean (B, {latent}) and std (B, {latent}) "
                   "of q(z|x); z = mean + std · ε with ε of N(0, 1)",
        "decoder": f"- decoder: z (B, {latent}){beta} → the mean of p(x|z): (B, {shape})",
    }  # fmt: skip
    held = "".join(f", {name} = {value:g}" for name, value in about["weights"].items())
    what = (
        f"A VAE at β = {at:g}{held}" if at is not None
        else f"A VAE for every β from {low:g} to {high:g}{held}"
    )  # fmt: skip
    range_of_beta = (
        "" if at is not None
        else f"β was within [{low:g}, {high:g}] in training. Nothing here checks it.\n\n"
    )  # fmt: skip
    span = about["range_of_x"]
    listed = "\n".join(taken[part] for part in parts)
    call = "(x)" if at is not None else "(x, beta)"
    use = {
        "onnx": "`load.py` shows how; it needs numpy and onnxruntime alone.",
        "pt2": f"`torch.export.load(\"{parts[0]}.pt2\").module(){call}`; torch alone is needed.",
        "safetensors": "`safetensors.torch.load_file(\"model.safetensors\")`: the state dicts of "
                       "encoder and decoder, under encoder.… and decoder.…",
    }[format]  # fmt: skip
    known = "of unknown range" if span is None else f"within [{span[0]:g}, {span[1]:g}]"
    text = f"""# {what}

Exported by multibeta {about["multibeta"]}. Likelihood: {about["likelihood"]}. B, the number of
examples, is free; all numbers are float32.

{listed}

{range_of_beta}x was {known} in training.

{use}
"""
    written = {folder / "README.md": text}
    if format == "onnx":
        written[folder / "load.py"] = _loader(parts, about)
    for path, content in written.items():
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [*written]


def _loader(parts: Sequence[str], about: dict[str, Any]) -> str:
    shape, latent = (", ".join(map(str, about[name])) for name in ("shape", "latent_shape"))
    lines = ["import numpy as np", "import onnxruntime", ""]
    beta = ""
    if about["beta"] is None:
        middle = (about["range_of_beta"][0] * about["range_of_beta"][1]) ** 0.5
        lines.append(f"beta = np.full(5, {middle:.3g}, np.float32)")
        beta = ', "beta": beta'
    if "encoder" in parts:
        lines += [
            'encoder = onnxruntime.InferenceSession("encoder.onnx")',
            f"x = np.zeros((5, {shape}), np.float32)  # yours",
            f'mean, std = encoder.run(["mean", "std"], {{"x": x{beta}}})',
            'print("codes", mean.shape)',
        ]
    if "decoder" in parts:
        lines += [
            'decoder = onnxruntime.InferenceSession("decoder.onnx")',
            f"z = np.random.default_rng().normal(size=(5, {latent})).astype(np.float32)",
            f'(x_hat,) = decoder.run(["x_hat"], {{"z": z{beta}}})',
            'print("samples", x_hat.shape)',
        ]
    return "\n".join(lines) + "\n"
