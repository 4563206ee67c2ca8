"""Small networks as numbers that a page computes with: encoder and decoder at each β."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from multibeta.adapters import MeanStd
from multibeta.vae import BetaVAE

__all__ = ["Live", "live"]

_LEAST = 1e-4
"""What the page's figures may differ by from PyTorch's, of the largest; its test allows 1e-3."""
_LARGEST = 2**20
"""Numbers of the weights of both networks; with four bytes each, in base64: 5.6 MB."""

_SIMPLE: dict[type[nn.Module], str] = {
    nn.SiLU: "silu", nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid",
}  # fmt: skip
_NOTHING = (nn.Flatten, nn.Unflatten, nn.Identity)
_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


class Live:
    """Encoder and decoder of fully connected layers, at K β's.

    A layer whose weights at another β are those at the first with scaled rows, as conditioning
    leaves most of them, is kept once, with K scales.

    Args:
        plain: The model at each β.

    Attributes:
        encoder: Layers, as a page reads them.
        decoder: The same.

    Raises:
        ValueError: If the networks have other layers, or too many numbers.
    """

    def __init__(self, plain: Sequence[BetaVAE]) -> None:
        self._numbers: list[np.ndarray] = []
        self._count = 0
        self.encoder, self.decoder = (
            self._layers([getattr(vae, part) for vae in plain]) for part in ("encoder", "decoder")
        )
        first, z = plain[0], torch.randn(4, *plain[0].latent_shape)
        with torch.no_grad():
            mean = first.decode(z).mean.flatten(1).numpy()
        raw = self.run(self.decoder, 0, z.numpy())
        candidates = {"": raw, "sigmoid": _FUNCTIONS["sigmoid"](raw)}
        scale = max(1.0, float(np.abs(mean).max()))
        near = [k for k, v in candidates.items() if np.abs(v - mean).max() < _LEAST * scale]
        if not near:
            raise ValueError("the mean of p(x|z) is none that a page computes")
        if near[0]:
            self.decoder.append({"op": near[0]})
        self._check(plain)

    def as_dict(self) -> dict[str, Any]:
        """Return what the page is given: the layers, and all numbers, float32, in base64."""
        numbers = np.concatenate([of.ravel() for of in self._numbers]).astype("<f4")
        return {
            "encoder": self.encoder, "decoder": self.decoder,
            "numbers": base64.b64encode(numbers.tobytes()).decode(),
        }  # fmt: skip

    def run(self, layers: Sequence[dict[str, Any]], k: int, x: np.ndarray) -> np.ndarray:
        """Return what layers give at the k-th β, as the page computes it: (B, outputs).

        Args:
            layers: Those of the encoder or of the decoder.
            k: The number of the β.
            x: (B, inputs).
        """
        numbers = np.concatenate([of.ravel() for of in self._numbers])
        x = x.reshape(len(x), -1)
        for layer in layers:
            if layer["op"] != "linear":
                x = _FUNCTIONS[layer["op"]](x)
                continue
            rows, columns = layer["out"], layer["in"]
            start = layer["weight"] + (0 if "scale" in layer else k * rows * columns)
            weight = numbers[start : start + rows * columns].reshape(rows, columns)
            if "scale" in layer:
                weight = weight * numbers[layer["scale"] + k * rows :][:rows, None]
            x = x @ weight.T + numbers[layer["bias"] + k * rows :][:rows]
        return x

    def _layers(self, networks: Sequence[nn.Module]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for layers in zip(*map(_flat, networks), strict=True):
            layer = layers[0]
            if type(layer) in _SIMPLE:
                found.append({"op": _SIMPLE[type(layer)]})
            elif isinstance(layer, nn.Linear):
                found.append(self._linear(layers))
            elif isinstance(layer, MeanStd):
                found[-1]["mean"] = found[-1]["out"] // 2
            elif not isinstance(layer, _NOTHING):
                raise ValueError(f"a layer is {type(layer).__name__}; a page computes others")
        return found

    def _linear(self, layers: Sequence[Any]) -> dict[str, Any]:
        weights = np.stack([layer.weight.detach().numpy() for layer in layers])
        rows, columns = weights.shape[1:]
        biases = np.stack([
            np.zeros(rows, np.float32) if layer.bias is None else layer.bias.detach().numpy()
            for layer in layers
        ])  # fmt: skip
        found = {"op": "linear", "out": rows, "in": columns}
        norms = np.square(weights[0]).sum(1)
        scales = (weights * weights[0]).sum(2) / np.maximum(norms, 1e-30)
        scaled = scales[:, :, None] * weights[0]
        if np.abs(scaled - weights).max() <= 1e-6 * np.abs(weights).max():
            found |= {"weight": self._keep(weights[0]), "scale": self._keep(scales)}
        else:
            found["weight"] = self._keep(weights)
        return {**found, "bias": self._keep(biases)}

    def _keep(self, numbers: np.ndarray) -> int:
        """Return where numbers begin among all."""
        start = self._count
        self._numbers.append(numbers)
        self._count += numbers.size
        if self._count > _LARGEST:
            raise ValueError(f"the networks have more than {_LARGEST:,} numbers")
        return start

    @torch.no_grad()
    def _check(self, plain: Sequence[BetaVAE]) -> None:
        """Refuse if the figures are not those of PyTorch."""
        z = torch.randn(4, *plain[0].latent_shape)
        x = torch.rand(4, *plain[0].shape)
        for k, vae in enumerate(plain):
            for layers, given, wanted in (
                (self.decoder, z, vae.decode(z).mean),
                (self.encoder, x, vae.encode(x).mean),
            ):
                expected = wanted.flatten(1).numpy()
                found = self.run(layers, k, given.numpy())[:, : expected.shape[1]]
                if np.abs(found - expected).max() > _LEAST * max(1.0, np.abs(expected).max()):
                    raise ValueError("the page's figures would not be PyTorch's")


def _flat(network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network that runs them one after the other."""
    if type(network) is nn.Sequential:
        return [layer for part in network for layer in _flat(part)]
    return [network]


def live(plain: Sequence[BetaVAE]) -> tuple[dict[str, Any] | None, str]:
    """Return what a page computes with, or None and why it cannot.

    Args:
        plain: The model at each β.
    """
    if plain[0].scale is not None or len(plain[0].latent_shape) > 1:
        return None, "x is standardised, or the code is a map"
    try:
        return Live(plain).as_dict(), ""
    except ValueError as error:
        return None, str(error)
