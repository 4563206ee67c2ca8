"""A model at one β for other programs: ONNX, torch.export, safetensors."""

from __future__ import annotations

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
from multibeta.files import replacing
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.vae import BetaVAE

__all__ = ["Format", "What", "export"]

Format = Literal["onnx", "pt2", "safetensors"]
What = Literal["encoder", "decoder", "both"]

_NEEDED = {"onnx": ("onnx", "onnxscript"), "pt2": (), "safetensors": ("safetensors",)}
_NAMES = {"encoder": (["x"], ["mean", "std"]), "decoder": (["z"], ["x_hat"])}


class _Encoder(nn.Module):
    """X (B, *shape) → mean and standard deviation of q(z|x)."""

    def __init__(self, vae: BetaVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q = self.vae.encode(x)
        return q.mean, q.stddev


class _Decoder(nn.Module):
    """Z (B, *latent shape) → the mean of p(x|z)."""

    def __init__(self, vae: BetaVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor) -> Tensor:
        return self.vae.decode(z).mean


def export(
    model: MultiBetaVAE,
    beta: float,
    folder: str | os.PathLike[str],
    *,
    format: Format = "onnx",
    what: What = "both",
    extrapolate: bool = False,
) -> list[Path]:
    """Write the plain VAE at one β for programs without multibeta.

    The encoder takes x (B, …) and gives mean and std of q(z|x); the decoder takes z (B, …) and
    gives the mean of p(x|z); B is free. The noise is the caller's: z = mean + std · ε. A README.md
    and, for ONNX, a loader of ten lines lie beside the files.

    Args:
        model: The model.
        beta: β.
        folder: Where to.
        format: ``onnx``; ``pt2``, for torch.export.load; ``safetensors``, the weights alone, under
            the keys of encoder and decoder.
        what: Which of both.
        extrapolate: Allow β outside the trained range.

    Returns:
        The files.

    Raises:
        ValueError: If a package is missing, β is outside the range, or a network cannot be
            exported.
    """
    if format not in get_args(Format):
        raise ValueError(f"format={format} is unknown; allowed: {', '.join(get_args(Format))}")
    if what not in get_args(What):
        raise ValueError(f"what={what} is unknown; allowed: {', '.join(get_args(What))}")
    if missing := [name for name in _NEEDED[format] if find_spec(name) is None]:
        raise ValueError(f"{format} needs {', '.join(missing)}: pip install 'multibeta[export]'")
    vae = model.at_beta(beta, extrapolate=extrapolate).cpu().eval()
    parts = [what] if what != "both" else ["encoder", "decoder"]
    folder = Path(folder)
    about = _about(model, vae)
    if format == "safetensors":
        files = [_weights(vae, parts, folder, about)]
    else:
        files = [_program(vae, part, format, folder) for part in parts]
    files += _readme(files, parts, format, folder, about)
    return files


def _about(model: MultiBetaVAE, vae: BetaVAE) -> dict[str, Any]:
    units = model.units
    return {
        "beta": vae.beta, "shape": list(model.shape), "latent_shape": list(model.latent_shape),
        "likelihood": str(vae.likelihood),
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


def _program(vae: BetaVAE, part: str, format: str, folder: Path) -> Path:
    """Write encoder or decoder as a program with any number of examples."""
    wrapped = _Encoder(vae) if part == "encoder" else _Decoder(vae)
    shape = vae.shape if part == "encoder" else vae.latent_shape
    example = torch.rand(3, *shape)
    path = folder / f"{part}.{format}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about its own parts
            program = torch.export.export(
                wrapped, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
            with replacing(path) as temporary:
                if format == "pt2":
                    torch.export.save(program, temporary)
                else:
                    inputs, outputs = _NAMES[part]
                    made: Any = torch.onnx.export(
                        program, (example,), dynamo=True, verbose=False,
                        input_names=inputs, output_names=outputs,
                    )  # fmt: skip
                    made.save(temporary, external_data=False)
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the {part} cannot be exported as {format} ({reason}); try another format, or export "
            f"the other part: --what {'decoder' if part == 'encoder' else 'encoder'}"
        ) from error
    return path


def _readme(
    files: Sequence[Path], parts: Sequence[str], format: str, folder: Path, about: dict[str, Any]
) -> list[Path]:
    """Write what the files are, and for ONNX a loader."""
    shape, latent = (", ".join(map(str, about[name])) for name in ("shape", "latent_shape"))
    taken = {
        "encoder": f"- encoder: x (B, {shape}) → mean (B, {latent}) and std (B, {latent}) of "
                   "q(z|x); z = mean + std · ε with ε of N(0, 1)",
        "decoder": f"- decoder: z (B, {latent}) → the mean of p(x|z): (B, {shape})",
    }  # fmt: skip
    span = about["range_of_x"]
    listed = "\n".join(taken[part] for part in parts)
    use = {
        "onnx": "`load.py` shows how; it needs numpy and onnxruntime alone.",
        "pt2": "`torch.export.load(\"encoder.pt2\").module()(x)`; torch alone is needed.",
        "safetensors": "`safetensors.torch.load_file(\"model.safetensors\")`: the state dicts of "
                       "encoder and decoder, under encoder.… and decoder.…",
    }[format]  # fmt: skip
    text = f"""# A VAE at β = {about["beta"]:g}

Exported by multibeta {about["multibeta"]}. Likelihood: {about["likelihood"]}. B, the number of
examples, is free; all numbers are float32.

{listed}

x was {"of unknown range" if span is None else f"within [{span[0]:g}, {span[1]:g}]"} in training.

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
    if "encoder" in parts:
        lines += [
            'encoder = onnxruntime.InferenceSession("encoder.onnx")',
            f"x = np.zeros((5, {shape}), np.float32)  # yours",
            'mean, std = encoder.run(["mean", "std"], {"x": x})',
            'print("codes", mean.shape)',
        ]
    if "decoder" in parts:
        lines += [
            'decoder = onnxruntime.InferenceSession("decoder.onnx")',
            f"z = np.random.default_rng().normal(size=(5, {latent})).astype(np.float32)",
            '(x_hat,) = decoder.run(["x_hat"], {"z": z})',
            'print("samples", x_hat.shape)',
        ]
    return "\n".join(lines) + "\n"
