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
import torch.nn.functional as F
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

__all__ = [
    "Chain",
    "Conditional",
    "Conditioning",
    "Embedding",
    "FiLM",
    "Gate",
    "HyperLinear",
    "Place",
    "fold",
    "ramps",
    "rows_for",
]

Place = Literal["encoder", "head", "stem", "decoder", "output"]
"""Where a layer stands - inside the encoder, its latent head, the decoder's first layer, inside
the decoder, or the decoder's last layer."""

Kind = Literal["film", "gate", "none"]

_RAMPS, _CURVES, _RANK = 16, 32, 64


@dataclass(frozen=True)
class Conditioning:
    r"""One way for β to enter a network.

    - ``film``: where the code is made and read, weights depend on β (:class:`HyperLinear`); in the
      decoder every affine layer gets a scale and a shift per channel (:class:`FiLM`). The inside
      of the encoder stays plain: nothing was lost by it, and a picture passes it once for all of
      its β's. The embedding c is 16 smooth ramps along log β and 32 learned curves
      (:class:`Embedding`): each scale and shift is a curve in log β that can bend anywhere, the
      network does not depend on β before training, and it stays bounded outside the range.
    - ``gate``: the published gates of the Multi-Rate VAE (:class:`Gate`); the latent heads,
      the decoder's first layer and its output stay ungated, as in the authors' code.
    - ``none``: layers stay plain and c has no features: a dedicated β-VAE.

    With several conditions - β and other weights - each has its 16 ramps, and the curves are
    functions of all of them.

    Args:
        kind: ``"film"``, ``"gate"`` or ``"none"``.
        conditions: The number K of weights that the network follows, β being the first.
    """

    kind: Kind = "film"
    conditions: int = 1

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"conditioning={self.kind} is unknown; allowed: film, gate, none")

    @property
    def features(self) -> int:
        """The number of features F of the embedding."""
        several = self.conditions
        return {"film": several * _RAMPS + _CURVES, "gate": several, "none": 0}[self.kind]

    def embedding(self) -> nn.Module:
        """Build the embedding.

        Returns:
            A module: standardised logarithms (see :meth:`BetaRange.standardise`), (B, K), or
            (1, K) for conditions shared by the batch → c: (B, F) or (1, F).
        """
        return Embedding(self.conditions) if self.kind == "film" else _Plain(self.features)

    def __call__(self, layer: nn.Module, place: Place, activate: bool = False) -> nn.Module:
        """Let the layer depend on β, as its place asks for.

        Args:
            layer: nn.Linear, nn.Conv2d or nn.ConvTranspose2d, with a bias.
            place: Where it stands in the network.
            activate: Whether to add a SiLU after it.

        Returns:
            A :class:`FiLM`, :class:`HyperLinear` or :class:`Gate` around the layer, or the layer;
            with its activation.
        """
        if self.kind == "film" and place != "encoder":
            if place in ("head", "stem") and isinstance(layer, nn.Linear):
                return HyperLinear(layer, self.features, activate, gain=place == "stem")
            return FiLM(layer, self.features, activate)
        if self.kind == "gate" and place in ("encoder", "decoder"):
            return Gate(layer, place, activate, self.features)
        return nn.Sequential(layer, nn.SiLU()) if activate else layer


class Embedding(nn.Module):
    r"""An embedding of log β: ramps along its range, and learned curves.

    .. math:: c(s) = \bigl[\, r(s),\; h(r(s)) - \overline{h(r)} \,\bigr]

    with r the 16 :func:`ramps` of each condition, one after the other, h a small network with 32
    outputs, and the bar its mean over the range of log β. Centred, the curves say how a β differs
    from the others, and what is common to all β's is left to the layers' own weights.

    Args:
        conditions: The number K of conditions. The mean is that over 33 points of the range, or
            over 64 of a Sobol sequence where there are several.
    """

    points: Tensor

    def __init__(self, conditions: int = 1) -> None:
        super().__init__()
        self.curves = nn.Sequential(
            nn.Linear(conditions * _RAMPS, 2 * _CURVES),
            nn.SiLU(),
            nn.Linear(2 * _CURVES, _CURVES, bias=False),
        )
        points = torch.linspace(-1, 1, 2 * _RAMPS + 1)[:, None]
        if conditions > 1:
            points = 2 * SobolEngine(conditions).draw(64) - 1
        self.register_buffer("points", points, persistent=False)

    def forward(self, s: Tensor) -> Tensor:
        """Embed standardised conditions: (B, K) → (B, F)."""
        steps = ramps(torch.cat([s / math.sqrt(3), self.points.to(s)]), _RAMPS).flatten(1)
        curves = self.curves(steps)
        return torch.cat([steps[: len(s)], curves[: len(s)] - curves[len(s) :].mean(0)], dim=-1)


class _Plain(nn.Module):
    """The standardised conditions themselves, or nothing."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, s: Tensor) -> Tensor:
        return s[:, : self.features]


class Conditional(nn.Module):
    """A module whose forward takes the embedding c beside its input.

    ``repeats`` says whether it takes one row of x for several of c (see :func:`rows_for`); a
    :class:`Chain` gives others a row of x for each.
    """

    repeats = False


class Chain(Conditional, nn.Sequential):
    """nn.Sequential that hands c to the modules that take it."""

    repeats = True

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Apply the modules in turn.

        Args:
            x: What the first module takes.
            c: The embedding of log β: (1, F), (B, F), or (kB, F) for k conditions on each of x;
                not needed once it is folded away.
        """
        for module in self:
            if not isinstance(module, Conditional):
                x = module(x)
            elif c is None or module.repeats:
                x = module(x, c)
            else:
                x = module(rows_for(x, c), c)
        return x


class _ConditionedLayer(Conditional):
    """An affine layer whose output channels are scaled and shifted as β asks."""

    repeats = True

    def __init__(self, layer: nn.Module, activate: bool = False) -> None:
        super().__init__()
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            raise TypeError(f"{type(layer).__name__} is not a Linear, Conv2d, ConvTranspose2d")
        if layer.bias is None:
            raise ValueError(f"{layer} has no bias, and a shift by β would have no place to fold")
        if isinstance(layer, nn.ConvTranspose2d) and layer.groups > 1:
            raise ValueError(f"{layer} has groups, which fold() does not support; use groups=1")
        self.layer = layer
        self.activate = activate
        self.channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels

    def affine(self, c: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return scale and shift per output channel: (B, channels) each."""
        raise NotImplementedError

    def unscaled(self, c: Tensor) -> Any:
        """Return a copy of the affine layer as it is at c, (1, F), before scale and shift."""
        return copy.deepcopy(self.layer)

    @torch.no_grad()
    def fold(self, c: Tensor) -> nn.Module:
        """Return the plain layer, and its activation, that this one is at c: (1, F)."""
        plain, (scale, shift) = self.unscaled(c), self.affine(c)
        # A transposed convolution keeps its output channels in the second axis.
        axis = 1 if isinstance(plain, nn.ConvTranspose2d) else 0
        shape = [1] * plain.weight.ndim
        shape[axis] = -1
        plain.weight.mul_(scale.view(shape))
        plain.bias.mul_(scale.squeeze(0))
        if shift is not None:
            plain.bias.add_(shift.squeeze(0))
        return nn.Sequential(plain, nn.SiLU()) if self.activate else plain


class FiLM(_ConditionedLayer):
    r"""An affine layer with a scale and a shift per channel that depend on β.

    .. math:: y = e^{A c} \odot (W x + b) + T c

    The scale is positive and starts at 1, the shift starts at 0: A and T are 0 before training.

    Args:
        layer: The affine layer (W, b).
        features: The number F of features of c.
        activate: Whether a SiLU follows; in one step it costs less time and memory.

    References:
        Perez et al. 2018, arXiv 1709.07871 (FiLM); Dosovitskiy & Djolonga 2020, "You Only
        Train Once", section 3 (conditioning on the loss weights).
    """

    def __init__(self, layer: nn.Module, features: int, activate: bool = False) -> None:
        super().__init__(layer, activate)
        self.condition = nn.Linear(features, 2 * self.channels, bias=False)
        nn.init.zeros_(self.condition.weight)

    def affine(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale exp(Ac) and shift Tc for c (B, F): (B, channels) each."""
        log_scale, shift = self._log_affine(c)
        return log_scale.exp(), shift

    def _log_affine(self, c: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.condition(c).chunk(2, dim=-1)
        return log_scale, shift

    def linear(self, x: Tensor, c: Tensor) -> Tensor:
        """Return W x + b, a row for each of c."""
        return rows_for(self.layer(x), c)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Apply the layer, then scale and shift its output channels.

        Args:
            x: What the layer takes: (B, …).
            c: (1, F), (B, F), or (kB, F) for k conditions on each of x; see :func:`rows_for`.

        Returns:
            A row for each of c, or of x where c has one.
        """
        y = self.linear(x, c)
        log_scale, shift = self._log_affine(c)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _ScaleShift.apply(y, log_scale, shift, self.activate)
        shape = (*shift.shape, *(1,) * (y.ndim - 2))
        y = y * log_scale.exp().view(shape) + shift.view(shape)
        return F.silu(y) if self.activate else y


class HyperLinear(FiLM):
    r"""A FiLM layer whose weights themselves depend on β, by a term of low rank.

    .. math::
        y = e^{A c} \odot (W(c) (e^{G c} \odot x) + b) + T c, \qquad
        W(c) = W + U \,\mathrm{diag}(F c)\, V

    It stands where the code is made and where it is read: there, each β wants other features.
    F and G start at 0.

    Args:
        layer: The linear layer (W, b).
        features: The number of features of c.
        activate: Whether a SiLU follows.
        gain: Whether the inputs have a gain each, or G = 0. On the code it opens and shuts each
            latent, as the linear VAE's optimum asks: its gain there is √(λ − θ), θ = βσ².
        rank: The rank of the term.

    References:
        Ha et al. 2017, "HyperNetworks", arXiv 1609.09106; Hu et al. 2022, "LoRA",
        arXiv 2106.09685 (the low rank).
    """

    layer: nn.Linear

    def __init__(
        self,
        layer: nn.Linear,
        features: int,
        activate: bool = False,
        gain: bool = False,
        rank: int = _RANK,
    ) -> None:
        super().__init__(layer, features, activate)
        self.gain = nn.Linear(features, layer.in_features, bias=False) if gain else None
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.mix = nn.Linear(features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        for starts_shut in (self.gain, self.mix):
            if starts_shut is not None:
                nn.init.zeros_(starts_shut.weight)

    def linear(self, x: Tensor, c: Tensor) -> Tensor:
        """Return W(c) x + b."""
        if self.gain is not None:
            x = rows_for(x, c) * self.gain(c).exp()
        term = self.up(self.mix(c) * rows_for(self.down(x), c))
        return rows_for(self.layer(x), c) + term

    def unscaled(self, c: Tensor) -> nn.Linear:
        """Return a linear layer with the weights W(c) diag(exp(Gc)) at c: (1, F)."""
        plain = super().unscaled(c)
        plain.weight += self.up.weight @ (self.mix(c).T * self.down.weight)
        if self.gain is not None:
            plain.weight *= self.gain(c).exp()
        return plain


class _ScaleShift(torch.autograd.Function):
    """exp(a) y + t per channel, in the place of y, then perhaps a SiLU.

    A conditioned network so keeps as many feature maps in memory as a plain one. With g the
    gradient of u = exp(a) y + t, that of a is Σ g·(u − t), that of t is Σ g and that of y is
    exp(a) g.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, log_scale: Tensor, shift: Tensor, activate: bool) -> Tensor:
        shape = (*shift.shape, *(1,) * (y.ndim - 2))
        scale, shift = log_scale.exp().to(y.dtype), shift.to(y.dtype)
        y.mul_(scale.view(shape)).add_(shift.view(shape))
        ctx.save_for_backward(y, scale, shift)
        ctx.activate, ctx.dtype = activate, log_scale.dtype
        if activate:
            return F.silu(y)
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        u, scale, shift = ctx.saved_tensors
        (g,) = gradients
        if ctx.activate:
            g = torch.ops.aten.silu_backward(g, u)
        of_shift, of_u = g, g * u
        if u.ndim > 2:
            of_shift, of_u = (v.sum(tuple(range(2, u.ndim))) for v in (of_shift, of_u))
        of_log_scale = of_u - shift * of_shift
        one = scale.shape
        of_shift = of_shift.sum_to_size(one).to(ctx.dtype)
        scale = scale.view(*one, *(1,) * (u.ndim - 2))
        # Sums have copied what they need of g; behind an activation it is ours alone.
        of_y = g.mul_(scale) if ctx.activate and u.ndim > 2 else g * scale
        return of_y, of_log_scale.sum_to_size(one).to(ctx.dtype), of_shift, None


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
        activate: Whether a SiLU follows.
        conditions: The number K of conditions; w s is a sum over them.

    References:
        Bae et al. 2023, "Multi-Rate VAE", arXiv 2212.03905, section 3.2.
    """

    def __init__(
        self,
        layer: nn.Module,
        side: Literal["encoder", "decoder"],
        activate: bool = False,
        conditions: int = 1,
    ) -> None:
        super().__init__(layer, activate)
        self.side = side
        self.condition = nn.Linear(conditions, self.channels)

    def affine(self, c: Tensor) -> tuple[Tensor, None]:
        """Return the gate for c = s, (B, K): (B, channels), and no shift."""
        u = self.condition(c)
        if self.side == "encoder":
            return u.sigmoid(), None
        # √0 has an infinite slope; where the gate is shut its gradient is zero, not NaN.
        open_ = (1 - u.exp()).relu()
        is_open = open_ > 0
        return torch.where(is_open, torch.where(is_open, open_, 1).sqrt(), 0), None

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Apply the layer, then gate its output channels; x and c as in :class:`FiLM`."""
        y = rows_for(self.layer(x), c)
        gate, _ = self.affine(c)
        y = y * gate.view(*gate.shape, *(1,) * (y.ndim - 2))
        return F.silu(y) if self.activate else y


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
    layers = (module for module in network.modules() if isinstance(module, _ConditionedLayer))
    plain = copy.deepcopy(network, memo={id(layer): layer.fold(c) for layer in layers})
    if _requires_c(plain.forward):
        return _Constant(plain, c.detach().clone())
    return plain


def _requires_c(forward: Callable[..., Tensor]) -> bool:
    parameters = list(inspect.signature(forward).parameters.values())
    return len(parameters) > 1 and parameters[1].default is inspect.Parameter.empty


def rows_for(x: Tensor, c: Tensor) -> Tensor:
    """Return x (B, …) a row for each row of c: the batch k times for (kB, …), else as it is.

    Raises:
        ValueError: If c has neither one row nor a multiple of B.
    """
    times, rest = divmod(len(c), len(x))
    if len(c) == 1 or len(c) == len(x):
        return x
    if rest:
        raise ValueError(
            f"{len(c)} β's do not go with {len(x)} examples; give one, one an example, or a "
            "multiple of that"
        )
    return x.repeat(times, *(1,) * (x.ndim - 1))


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
