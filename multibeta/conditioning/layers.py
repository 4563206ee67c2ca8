r"""What makes a layer follow β: a child of the layer, called by hooks on it.

The layer stays what it was, its class, its weights and their names. At a fixed β the condition
folds away into them: :meth:`FiLM.fold`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from multibeta.conditioning.source import Call, Source, transforming, watched

__all__ = [
    "AFFINE", "NORMS", "PER_CHANNEL", "FiLM", "Gate", "Hyper", "channels_of", "put", "weight_of",
]  # fmt: skip

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AFFINE = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)
"""The layers that make something new, and can follow β."""

PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
"""The layers that cancel a scale of each channel in front of them."""

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *PER_CHANNEL)
"""The layers that cancel a scale in front of them: of each channel, or of several together."""

_RANK = 64


class FiLM(nn.Module):
    r"""A scale and a shift per output channel of a layer that depend on β.

    .. math:: y = e^{A c} \odot (W x + b) + T c

    The scale is positive and starts at 1, the shift starts at 0: A and T are 0 before training. A
    layer without bias has no shift, one whose weight cannot be set (spectral norm, a tied weight)
    no scale.

    Args:
        source: Where c is found.
        layer: An affine layer, or a normalisation with weight and perhaps bias.
        features: The number F of features of c.
        name: The layer's, for messages.
        scale: Whether there is a scale.
        shift: Whether there is a shift.
        axis: The axis of the layer's input and output along which the examples lie.
        order: How they lie where there are m rows an example: ``interleaved``, the m rows of an
            example together; ``repeated``, all examples m times; None if this is not known.
        expands: Whether the layer is the first that each β sees a row of its own at.
        in_place: Whether the result may be written over the layer's output, which saves a feature
            map; it may if nothing writes over the result, such as ``ReLU(inplace=True)``.

    References:
        Perez et al. 2018, arXiv 1709.07871 (FiLM); Dosovitskiy & Djolonga 2020, "You Only
        Train Once", section 3 (conditioning on the loss weights).
    """

    def __init__(
        self,
        source: Source,
        layer: nn.Module,
        features: int,
        *,
        name: str = "",
        scale: bool = True,
        shift: bool = True,
        axis: int = 0,
        order: str | None = None,
        expands: bool = False,
        in_place: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.name = source, name
        self.scale = scale
        self.shift = shift and getattr(layer, "bias", None) is not None
        self.in_place = in_place and not layer._forward_hooks  # which may keep the output
        self.axis, self.order, self.expands = axis, order, expands
        self.channels, self.last = channels_of(layer)
        self._weights(layer, features)
        weight = next(layer.parameters())
        self.to(weight.device, weight.dtype if weight.is_floating_point() else None)
        self._hooks = self._hook(layer)

    def _weights(self, layer: nn.Module, features: int) -> None:
        """Make the parameters."""
        count = self.channels * (self.scale + self.shift)
        self.affine = nn.Parameter(torch.zeros(count, features)) if count else None

    def _hook(self, layer: nn.Module) -> list[Any]:
        """Put the condition on the layer, as its child and its hook; return handles to undo it."""
        layer.add_module("condition", self)
        return [layer.register_forward_hook(_after, with_kwargs=True)]

    def remove(self, layer: nn.Module) -> None:
        """Take the condition off the layer, or off a copy of it, which has hooks of its own."""
        for handle in self._hooks:
            for hooks in (
                layer._forward_hooks, layer._forward_hooks_with_kwargs,
                layer._forward_pre_hooks, layer._forward_pre_hooks_with_kwargs,
            ):  # fmt: skip
                hooks.pop(handle.id, None)
        del layer._modules["condition"]

    def affine_of(self, c: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the logarithm of the scale, Ac, and the shift Tc, for c (M, F): (M, channels)."""
        if self.affine is None:
            return None, None
        found = _linear(c, self.affine)
        if self.scale and self.shift:
            log_scale, shift = found.chunk(2, dim=-1)
            return log_scale, shift
        return (found, None) if self.scale else (None, found)

    def after(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return what becomes of the layer's output.

        Args:
            layer: The layer.
            x: What it took.
            y: What it returned.

        Returns:
            y, or a row for each of c where the layer had one for several.
        """
        return self.modulated(*self.rows(y, self.source.call()))

    def modulated(self, y: Tensor, c: Tensor) -> Tensor:
        """Scale and shift y, of which as many neighbours go with each row of c."""
        log_scale, shift = self.affine_of(c)
        both = log_scale is not None and shift is not None
        large = y.ndim > 2  # where y is small, a function in Python takes longer than it saves
        in_place = both and large and self.in_place and torch.is_grad_enabled()
        if in_place and not (transforming() or watched()):
            a, t = (cast(Tensor, self._beside(v, y)) for v in (log_scale, shift))
            return cast(Tensor, _ScaleShift.apply(y, a, a.exp(), t))
        scale = None if log_scale is None else log_scale.exp().to(y.dtype)
        shift = None if shift is None else shift.to(y.dtype)
        m, n = c.shape[0], y.shape[0]
        grouped = not large and self.axis == 0 and 1 < m < n and y.is_contiguous()
        if grouped and scale is not None and shift is not None:
            rows = torch.addcmul(shift[:, None], y.view(m, n // m, -1), scale[:, None])
            # Not a view, as in _beside.
            return cast(Tensor, torch.ops.aten._unsafe_view(rows, y.shape))
        scale, shift = self._beside(scale, y), self._beside(shift, y)
        if scale is None:
            return y if shift is None else y + shift
        return y * scale if shift is None else torch.addcmul(shift, y, scale)

    def rows(self, y: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """Return y and c such that as many neighbours in y go with each row of c.

        Args:
            y: What has the examples along ``axis``.
            call: c, (1, F) for all, or (M, F), and how many rows each of its rows is for.

        Raises:
            ValueError: If the rows of y are neither those that c is for nor a known multiple.
        """
        c, times = call.c, call.times
        n, m = y.shape[self.axis], c.shape[0] * call.each
        if c.shape[0] == 1:
            return y, c
        if self.expands and times > 1:
            if n * times == m:
                return torch.cat([y] * times, self.axis), c
        elif n == m or (n % m == 0 and self.order == "interleaved"):
            return y, c
        elif n % m == 0 and self.order:
            return y, c.repeat(n // m, 1)
        known = "" if n % m else (
            "; which rows belong to which example could not be seen: give an example on which "
            "there are several rows an example"
        )  # fmt: skip
        raise ValueError(
            f"{m} β's do not go with {n} rows in layer {self.name}; give one, one an example, or "
            f"a multiple of that{known}"
        )

    def _beside(self, value: Tensor | None, y: Tensor) -> Tensor | None:
        """Return what (M, channels) holds, so that it goes with y: its rows for the neighbours."""
        if value is None:
            return None
        m, n = value.shape[0], y.shape[self.axis]
        if m > 1 and m < n:  # Not a view of y by groups: what a layer returns is then a view, too.
            value = value[:, None].expand(m, n // m, -1).reshape(n, -1)
        if y.ndim == 2 and self.axis == 0:
            return value
        shape = [1] * y.ndim
        shape[1 if self.last is None else y.ndim - self.last] = value.shape[1]
        if m > 1:
            shape[self.axis] = n
        return value.view(shape)

    @torch.no_grad()
    def fold(self, layer: nn.Module, c: Tensor) -> None:
        """Make the layer what it is at c (1, F), and take the condition off."""
        weight, bias = self.folded(layer, c)
        if weight is not None:
            put(layer, "weight", weight)
        if bias is not None:
            put(layer, "bias", bias)
        self.remove(layer)

    def folded(self, layer: Any, c: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return weight and bias at c, None where they stay."""
        weight = weight_of(layer) if self.scale else None
        return self._scaled(layer, weight, *self.affine_of(c))

    def _scaled(
        self, layer: Any, weight: Tensor | None, log_scale: Tensor | None, shift: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        bias = getattr(layer, "bias", None)
        if weight is not None and log_scale is not None:
            scale = log_scale.exp().to(weight.dtype).squeeze(0)
            tail = (1,) * (weight.ndim - 1)
            if isinstance(layer, _TRANSPOSED):  # (in, out / groups, …)
                groups = layer.groups
                grouped = weight.unflatten(0, (groups, -1)) * scale.view(groups, 1, -1, *tail[1:])
                weight = grouped.flatten(0, 1)
            else:
                weight = weight * scale.view(-1, *tail)
            bias = None if bias is None else bias * scale.view(-1, *(1,) * (bias.ndim - 1))
        if shift is not None and bias is not None:
            bias = bias + shift.to(bias.dtype).squeeze(0).view(-1, *(1,) * (bias.ndim - 1))
        return weight, bias

    def extra_repr(self) -> str:
        """Show what it does."""
        does = {"scale": self.scale, "shift": self.shift}
        return " and ".join(name for name, on in does.items() if on)


class Hyper(FiLM):
    r"""Weights that themselves depend on β, by a term of low rank, under a FiLM.

    .. math::
        y = e^{A c} \odot (W(c) (e^{G c} \odot x) + b) + T c, \qquad
        W(c) = W + U \,\mathrm{diag}(F c)\, V

    It stands where the code is made and where it is read: there, each β wants other features.
    F and G start at 0. For a convolution V is one of the same kernel, and U one of kernel 1.

    Args:
        source: Where c is found.
        layer: The affine layer (W, b), without groups.
        features: The number F of features of c.
        gain: Whether the inputs have a gain each, or G = 0. On the code it opens and shuts each
            latent, as the linear VAE's optimum asks: its gain there is √(λ − θ), θ = βσ².
        **options: Those of :class:`FiLM`.

    References:
        Ha et al. 2017, "HyperNetworks", arXiv 1609.09106; Hu et al. 2022, "LoRA",
        arXiv 2106.09685 (the low rank).
    """

    def __init__(
        self, source: Source, layer: nn.Module, features: int, gain: bool = False, **options: Any
    ) -> None:
        self.gains = gain
        super().__init__(source, layer, features, **options)

    def _weights(self, layer: Any, features: int) -> None:
        super()._weights(layer, features)
        if isinstance(layer, nn.Linear):
            inputs, fan, down = layer.in_features, layer.in_features, (_RANK, layer.in_features)
            rank = _RANK
        else:
            inputs, kernel = layer.in_channels, layer.kernel_size
            fan = inputs * math.prod(kernel)
            rank = min(_RANK, fan, self.channels)
            pair = (inputs, rank) if isinstance(layer, _TRANSPOSED) else (rank, inputs)
            down = (*pair, *kernel)
        self.gain = nn.Parameter(torch.zeros(inputs, features)) if self.gains else None
        self.mix = nn.Parameter(torch.zeros(rank, features))
        self.down = nn.Parameter(nn.init.uniform_(torch.empty(down), -(fan**-0.5), fan**-0.5))
        up = torch.empty(self.channels, rank)
        self.up = nn.Parameter(nn.init.uniform_(up, -(rank**-0.5), rank**-0.5))

    def _hook(self, layer: nn.Module) -> list[Any]:
        handles = super()._hook(layer)
        if self.gain is not None:
            handles.append(layer.register_forward_pre_hook(_before, with_kwargs=True))
        return handles

    def before(self, x: Tensor) -> Tensor:
        """Return the layer's input with its gains."""
        assert self.gain is not None
        x, c = self.rows(x, self.source.call())
        gain = self._beside(_linear(c, self.gain).exp().to(x.dtype), x)
        return x * cast(Tensor, gain)

    def after(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Add U diag(Fc) V x, then scale and shift."""
        call = self.source.call()
        if self.gains:
            call = replace(call, times=1)  # before() has made a row for each
        function, options = _function_of(layer)
        inner, c = self.rows(function(x, self.down.to(x.dtype), **options), call)
        inner = inner * cast(Tensor, self._beside(_linear(c, self.mix), inner)).to(inner.dtype)
        up = self.up.to(inner.dtype)
        if self.last is not None:
            term = F.linear(inner, up)
        else:
            kernel = (1,) * (inner.ndim - 2)
            of_one = (F.conv1d, F.conv2d, F.conv3d)[inner.ndim - 3]
            term = of_one(inner, up.view(*up.shape, *kernel))
        y, _ = self.rows(y, call)
        return self.modulated(y + term.to(y.dtype), c)

    def folded(self, layer: Any, c: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return weight and bias at c: (1, F)."""
        weight, mixed = weight_of(layer), self.up * _linear(c, self.mix)
        pattern = "or,ir...->io..." if isinstance(layer, _TRANSPOSED) else "or,ri...->oi..."
        weight = weight + torch.einsum(pattern, mixed, self.down).to(weight.dtype)
        if self.gain is not None:
            gain = _linear(c, self.gain).exp().to(weight.dtype)
            tail = (1,) * (weight.ndim - 2)
            axes = (-1, 1) if isinstance(layer, _TRANSPOSED) else (1, -1)
            weight = weight * gain.view(*axes, *tail)
        return self._scaled(layer, weight, *self.affine_of(c))

    def extra_repr(self) -> str:
        """Show what it does."""
        parts = [super().extra_repr(), f"term of rank {len(self.mix)}"]
        return ", ".join([*filter(None, parts), *(["gain"] if self.gain is not None else [])])


class Gate(FiLM):
    r"""The gates of the Multi-Rate VAE: each channel's pre-activation times a function of log β.

    .. math::
        y = g(w s + b_g) \odot (W x + b), \qquad
        g_\mathrm{encoder}(u) = \mathrm{sigmoid}(u), \quad
        g_\mathrm{decoder}(u) = \sqrt{\mathrm{ReLU}(1 - e^u)}

    with s the standardised log β. The initialisation is PyTorch's default, as published; with
    it the decoder's gate leaves some channels at zero, without gradient, for every β. It does not
    start as the identity.

    Args:
        source: Where s is found.
        layer: The layer (W, b).
        features: The number K of conditions; w s is a sum over them.
        side: ``"encoder"`` or ``"decoder"``.
        **options: Those of :class:`FiLM`.

    References:
        Bae et al. 2023, "Multi-Rate VAE", arXiv 2212.03905, section 3.2.
    """

    def __init__(
        self,
        source: Source,
        layer: nn.Module,
        features: int,
        side: Literal["encoder", "decoder"] = "decoder",
        **options: Any,
    ) -> None:
        self.side = side
        super().__init__(source, layer, features, **(options | {"shift": False}))

    def _weights(self, layer: nn.Module, features: int) -> None:
        self.affine = None
        self.gate = nn.Linear(features, self.channels)

    def modulated(self, y: Tensor, c: Tensor) -> Tensor:
        """Gate y, of which as many neighbours go with each row of c."""
        return y * cast(Tensor, self._beside(self.open(c), y)).to(y.dtype)

    def open(self, s: Tensor) -> Tensor:
        """Return the gate for s, (B, K): (B, channels)."""
        u = self.gate(s.to(self.gate.weight.dtype))
        if self.side == "encoder":
            return u.sigmoid()
        # √0 has an infinite slope; where the gate is shut its gradient is zero, not NaN.
        open_ = (1 - u.exp()).relu()
        is_open = open_ > 0
        return torch.where(is_open, torch.where(is_open, open_, 1).sqrt(), 0)

    def folded(self, layer: Any, c: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return weight and bias at c: (1, K)."""
        return self._scaled(layer, weight_of(layer), self.open(c).log(), None)


class _ScaleShift(torch.autograd.Function):
    """exp(a) y + t, in the place of y.

    A conditioned network so keeps as many feature maps in memory as a plain one. With g the
    gradient of u = exp(a) y + t, that of a is Σ g·(u − t), that of t is Σ g and that of y is
    exp(a) g. exp(a) is given too, for the second derivative: it is not computed twice.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, log_scale: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y.mul_(scale.to(y.dtype)).add_(shift.to(y.dtype))
        ctx.save_for_backward(y, scale, shift)
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
        u, scale, shift = ctx.saved_tensors
        (g,) = gradients
        of_shift, of_u = (v.sum_to_size(shift.shape) for v in (g, g * u))
        of_scale = of_u - shift.to(u.dtype) * of_shift
        of_y = g * scale.to(g.dtype)
        return of_y, of_scale.to(scale.dtype), None, of_shift.to(shift.dtype)


def channels_of(layer: Any) -> tuple[Any, int | None]:
    """Return the number of output channels, and where they are.

    Returns:
        The number, and None if they are the second axis of the output, or how far they are from
        its end: 1 for the last axis.
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features, 1
    if isinstance(layer, AFFINE):
        return layer.out_channels, None
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return layer.normalized_shape[0], len(layer.normalized_shape)
    return len(layer.weight), None


def weight_of(layer: Any) -> Tensor:
    """Return a layer's weight of now: what old ``weight_norm`` keeps is that of its last call."""
    if "weight_g" in layer._parameters:
        hook = next(h for h in layer._forward_pre_hooks.values() if hasattr(h, "compute_weight"))
        return cast(Tensor, hook.compute_weight(layer))
    return cast(Tensor, layer.weight)


def put(layer: Any, name: str, value: Tensor) -> None:
    """Set a layer's weight or bias, through its parametrization if it has one.

    Of old ``weight_norm``, magnitude and direction are set. Whether the layer then has the value
    is not said: spectral norm has its own will.
    """
    with torch.no_grad():
        if is_parametrized(layer, name):
            setattr(layer, name, value)
        elif f"{name}_g" in layer._parameters:
            hook = next(h for h in layer._forward_pre_hooks.values() if hasattr(h, "dim"))
            layer._parameters[f"{name}_g"].copy_(torch.norm_except_dim(value, 2, hook.dim))
            layer._parameters[f"{name}_v"].copy_(value)
            setattr(layer, name, hook.compute_weight(layer).detach())
        else:
            getattr(layer, name).copy_(value)


def _function_of(layer: Any) -> tuple[Any, dict[str, Any]]:
    """Return what applies a weight as the layer applies its own, without bias."""
    if isinstance(layer, nn.Linear):
        return F.linear, {}
    functions = {
        nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d,
        nn.ConvTranspose1d: F.conv_transpose1d, nn.ConvTranspose2d: F.conv_transpose2d,
        nn.ConvTranspose3d: F.conv_transpose3d,
    }  # fmt: skip
    function = next(f for kind, f in functions.items() if isinstance(layer, kind))
    options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
    if isinstance(layer, _TRANSPOSED):
        return function, {**options, "output_padding": layer.output_padding}
    if layer.padding_mode != "zeros":
        pad = _Padded(function, tuple(layer._reversed_padding_repeated_twice), layer.padding_mode)
        return pad, {**options, "padding": 0}
    return function, options


class _Padded:
    """A convolution of an input that is padded by a mode of its own."""

    def __init__(self, function: Any, pad: tuple[int, ...], mode: str) -> None:
        self.function, self.pad, self.mode = function, pad, mode

    def __call__(self, x: Tensor, weight: Tensor, **options: Any) -> Tensor:
        return self.function(F.pad(x, self.pad, self.mode), weight, **options)


def _linear(c: Tensor, weight: Tensor) -> Tensor:
    """Return Wc, for c that may be more precise than a model in half precision."""
    return F.linear(c.to(weight.dtype), weight)


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else next(iter(kwargs.values()))


def _after(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    return layer.condition.after(layer, _input(args, kwargs), output)


def _before(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    given = layer.condition.before(_input(args, kwargs))
    if args:
        return (given, *args[1:]), kwargs
    return args, {**kwargs, next(iter(kwargs)): given}
