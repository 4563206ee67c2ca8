r"""How β enters a network: layers whose affine map depends on β.

A conditioned layer takes an embedding c of log β beside its input; nothing is stored between
calls. At a fixed β the condition folds away: ``fold(c)`` gives the plain layer.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

__all__ = ["Chain", "Conditional", "Conditioning", "FiLM", "Gate", "Place", "fold", "ramps"]

Place = Literal["encoder", "head", "stem", "decoder", "output"]
"""Where a layer stands - inside the encoder, its latent head, the decoder's first layer, inside
the decoder, or the decoder's last layer."""

Kind = Literal["film", "gate", "none"]

_RAMPS = 16


@dataclass(frozen=True)
class Conditioning:
    r"""One way for β to enter a network.

    - ``film``: every affine layer gets a scale and a shift per channel (:class:`FiLM`). The
      embedding c is 16 smooth ramps along log β, evenly spaced over its range (:func:`ramps`):
      each scale and shift is a curve in log β that can bend anywhere, the network does not depend
      on β before training, and it stays bounded outside the range.
    - ``gate``: the published gates of the Multi-Rate VAE (:class:`Gate`); the latent heads,
      the decoder's first layer and its output stay ungated, as in the authors' code.
    - ``none``: layers stay plain and c has no features: a dedicated β-VAE.

    Args:
        kind: ``"film"``, ``"gate"`` or ``"none"``.
    """

    kind: Kind = "film"

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"conditioning={self.kind} is unknown; allowed: film, gate, none")

    @property
    def features(self) -> int:
        """The number of features F of the embedding."""
        return {"film": _RAMPS, "gate": 1, "none": 0}[self.kind]

    def embed(self, s: Tensor) -> Tensor:
        """Embed standardised log β (see :meth:`BetaRange.standardise`).

        Args:
            s: (B,), or (1,) for one β shared by the batch.

        Returns:
            c: (B, F) or (1, F).
        """
        if self.kind != "film":
            return s[:, None].expand(-1, self.features)
        return ramps(s / math.sqrt(3), _RAMPS)

    def __call__(self, layer: nn.Module, place: Place) -> nn.Module:
        """Let the layer depend on β, as its place asks for.

        Args:
            layer: nn.Linear, nn.Conv2d or nn.ConvTranspose2d, with a bias.
            place: Where it stands in the network.

        Returns:
            A :class:`FiLM` or :class:`Gate` around the layer, or the layer.
        """
        if self.kind == "film":
            return FiLM(layer, self.features)
        if self.kind == "gate" and place in ("encoder", "decoder"):
            return Gate(layer, place)
        return layer


class Conditional(nn.Module):
    """A module whose forward takes the embedding c beside its input."""


class Chain(Conditional, nn.Sequential):
    """nn.Sequential that hands c to the modules that take it."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Apply the modules in turn.

        Args:
            x: What the first module takes.
            c: The embedding of log β: (B, F) or (1, F); not needed once it is folded away.
        """
        for module in self:
            x = module(x, c) if isinstance(module, Conditional) else module(x)
        return x


class _ConditionedLayer(Conditional):
    """An affine layer whose output channels are scaled and shifted as β asks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            raise TypeError(f"{type(layer).__name__} is not a Linear, Conv2d, ConvTranspose2d")
        if layer.bias is None:
            raise ValueError(f"{layer} has no bias, and a shift by β would have no place to fold")
        if isinstance(layer, nn.ConvTranspose2d) and layer.groups > 1:
            raise ValueError(f"{layer} has groups, which fold() does not support; use groups=1")
        self.layer = layer
        self.channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels

    def affine(self, c: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return scale and shift per output channel: (B, channels) each."""
        raise NotImplementedError

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Apply the layer, then scale and shift its output channels."""
        y = self.layer(x)
        scale, shift = self.affine(c)
        spatial = (1,) * (y.ndim - 2)
        scale = scale.view(*scale.shape, *spatial)
        return y * scale if shift is None else torch.addcmul(shift.view_as(scale), y, scale)

    @torch.no_grad()
    def fold(self, c: Tensor) -> nn.Module:
        """Return the plain layer that this one is at c: (1, F)."""
        scale, shift = self.affine(c)
        plain: Any = copy.deepcopy(self.layer)
        # A transposed convolution keeps its output channels in the second axis.
        axis = 1 if isinstance(plain, nn.ConvTranspose2d) else 0
        shape = [1] * plain.weight.ndim
        shape[axis] = -1
        plain.weight.mul_(scale.view(shape))
        plain.bias.mul_(scale.squeeze(0))
        if shift is not None:
            plain.bias.add_(shift.squeeze(0))
        return plain


class FiLM(_ConditionedLayer):
    r"""An affine layer with a scale and a shift per channel that depend on β.

    .. math:: y = e^{A c} \odot (W x + b) + T c

    The scale is positive and starts at 1, the shift starts at 0: A and T are 0 before training.

    Args:
        layer: The affine layer (W, b).
        features: The number F of features of c.

    References:
        Perez et al. 2018, arXiv 1709.07871 (FiLM); Dosovitskiy & Djolonga 2020, "You Only
        Train Once", section 3 (conditioning on the loss weights).
    """

    def __init__(self, layer: nn.Module, features: int) -> None:
        super().__init__(layer)
        self.condition = nn.Linear(features, 2 * self.channels, bias=False)
        nn.init.zeros_(self.condition.weight)

    def affine(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale exp(Ac) and shift Tc for c (B, F): (B, channels) each."""
        log_scale, shift = self.condition(c).chunk(2, dim=-1)
        return log_scale.exp(), shift


class Gate(_ConditionedLayer):
    r"""The gates of the Multi-Rate VAE: each channel's pre-activation times a function of log β.

    .. math::
        y = g(w s + b_g) \odot (W x + b), \qquad
        g_\mathrm{encoder}(u) = \mathrm{sigmoid}(u), \quad
        g_\mathrm{decoder}(u) = \sqrt{\mathrm{ReLU}(1 - e^u)}

    with s the standardised log β. The initialisation is PyTorch's default, as published; with
    it the decoder's gate leaves some channels at zero, without gradient, for every β.

    Args:
        layer: The affine layer (W, b).
        side: ``"encoder"`` or ``"decoder"``.

    References:
        Bae et al. 2023, "Multi-Rate VAE", arXiv 2212.03905, section 3.2.
    """

    def __init__(self, layer: nn.Module, side: Literal["encoder", "decoder"]) -> None:
        super().__init__(layer)
        self.side = side
        self.condition = nn.Linear(1, self.channels)

    def affine(self, c: Tensor) -> tuple[Tensor, None]:
        """Return the gate for c = s[:, None], (B, 1): (B, channels), and no shift."""
        u = self.condition(c)
        if self.side == "encoder":
            return u.sigmoid(), None
        # √0 has an infinite slope; where the gate is shut its gradient is zero, not NaN.
        open_ = (1 - u.exp()).relu()
        is_open = open_ > 0
        return torch.where(is_open, torch.where(is_open, open_, 1).sqrt(), 0), None


class _Constant(nn.Module):
    """A network of the user's own that reads c itself, with c fixed."""

    c: Tensor

    def __init__(self, network: nn.Module, c: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("c", c, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x, self.c.expand(len(x), -1))


def fold(network: nn.Module, c: Tensor) -> nn.Module:
    """Return a copy of an encoder or decoder with the condition folded away.

    Args:
        network: A module with ``forward(x, c)``.
        c: The embedding of one β: (1, F).

    Returns:
        A module with ``forward(x)``, sharing no memory with ``network``.
    """
    plain = _fold_layers(copy.deepcopy(network), c)
    if _requires_c(plain.forward):
        return _Constant(plain, c.detach().clone())
    return plain


def _fold_layers(module: nn.Module, c: Tensor) -> nn.Module:
    if isinstance(module, _ConditionedLayer):
        return module.fold(c)
    for name, child in list(module.named_children()):
        setattr(module, name, _fold_layers(child, c))
    return module


def _requires_c(forward: Callable[..., Tensor]) -> bool:
    parameters = list(inspect.signature(forward).parameters.values())
    return len(parameters) > 1 and parameters[1].default is inspect.Parameter.empty


def ramps(t: Tensor, n: int) -> Tensor:
    r"""Embed a number in [−1, 1] by n smooth steps, evenly spaced.

    .. math:: c_k = \tanh\bigl(\tfrac n2 (t - t_k)\bigr), \qquad t_1 = -1, …, t_n = 1

    Args:
        t: (...).
        n: The number of ramps, at least 2.

    Returns:
        (..., n), within [−1, 1].
    """
    knots = torch.linspace(-1, 1, n, dtype=t.dtype, device=t.device)
    return torch.tanh((n / 2) * (t[..., None] - knots))
