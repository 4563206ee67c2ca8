"""Distortions that are no densities: any function of x̂ and x, in units of its own.

D is what the function says, one number an example. β then trades nats for that unit. Nothing
that needs −log p(x|z) can be had: no bound on the likelihood, no samples of p(x|z), no σ.
"""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from multibeta.likelihoods import Likelihood, at_least_float32

__all__ = ["L1", "MSE", "SSIM", "Distortion", "MultiScaleSTFT"]

_CURE = "return one value an example, such as .flatten(1).sum(1)"


class Distortion(Likelihood):
    r"""Any function f(x̂, x) → (B,) in the place of −log p(x|z).

    .. math:: D = f(\hat x, x), \qquad \hat x = \mathrm{output}

    A module's parameters are those of the model: they train, unless they are frozen
    (``requires_grad_(False)``); a module that is all frozen stays in eval mode. A trained one can
    make D small by ignoring x. Sum over the values of x, as the rate is summed over latents.

    Further inputs go to f by the names of its arguments: ``f(x_hat, x, mask)`` is given the mask.

    Subclasses override :meth:`distance` in the place of f.

    Args:
        fn: f: a function, a module, or the path of a function or of a module's class,
            ``package.module.name``. Only a path can stand in a config or a checkpoint.
        fn_args: The arguments of the class that the path names.

    Raises:
        ValueError: If there is no f, the path names none, or the class refuses its arguments.

    Example:
        >>> l1 = Distortion(lambda x_hat, x: (x_hat - x).abs().flatten(1).sum(1))
        >>> -l1(torch.zeros(2, 3)).log_prob(torch.ones(2, 3))
        tensor([3., 3.])
    """

    is_density: ClassVar[bool] = False
    unit = ""

    inputs: tuple[str, ...] = ()

    def __init__(
        self,
        fn: str | Callable[..., Any] | None = None,
        fn_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if fn is None and not self._overridden:
            raise ValueError(
                "a Distortion needs fn: a function of x_hat and x that returns (B,), a module, or "
                "the path of one, package.module.name"
            )
        if fn_args and not isinstance(fn, str):
            raise ValueError("fn_args are those of a class path; give fn as package.module.Class")
        self._path = fn if isinstance(fn, str) else None
        self.fn_args = fn_args
        # A module is registered here, so its keys are the same however it was named.
        self.function = _imported(fn, fn_args or {}) if isinstance(fn, str) else fn
        self.inputs = _further_inputs(self.measure)

    @property
    def _overridden(self) -> bool:
        return type(self).distance is not Distortion.distance

    @property
    def measure(self) -> Callable[..., Any]:
        """What is called with x̂, x and the further inputs: f, or the subclass's distance."""
        return self.function if self.function and not self._overridden else self.distance

    @property
    def fn(self) -> Any:
        """The path of f where one was given, else f."""
        return self._path or self.function

    @property
    def name(self) -> str:
        """What D is called in tables: the name of f, or of this class."""
        f = self.function
        if f is None or self._overridden:
            return type(self).__name__
        return getattr(f, "__name__", type(f).__name__).replace("<lambda>", "distortion")

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return D: (B,); for subclasses to override, with further inputs if they need some.

        Args:
            x_hat: The decoder's output: (B, …).
            x: The data: (B, …).
        """
        raise NotImplementedError

    def forward(self, output: Tensor, **inputs: Any) -> Distribution:
        """Return what stands for p(x|z): its ``log_prob`` is −D, its ``mean`` x̂.

        Args:
            output: x̂: (B, …).
            inputs: Further inputs, of which f is given those that it names.
        """
        return _Reconstruction(self, output, {k: inputs[k] for k in self.inputs if k in inputs})

    def train(self, mode: bool = True) -> Distortion:
        """Set the mode; a module that is frozen stays in eval mode."""
        super().train(mode)
        frozen = [not p.requires_grad for p in self.parameters()]
        if frozen and all(frozen) and isinstance(self.function, nn.Module):
            self.function.eval()
        return self

    def extra_repr(self) -> str:
        """Show f."""
        return self._path or ("" if self.function is None else self.name)


class _Valued(Distortion):
    """A sum over the values of x, or that divided by their number d."""

    def __init__(self, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction={reduction} is unknown; allowed: sum, mean")
        self.reduction: Literal["sum", "mean"] = reduction
        self._d: int | None = None
        if reduction == "mean":
            warnings.warn(
                f"{type(self).__name__}: a mean over d values beside a summed KL: beta here is d "
                "times as large in summed units; reduction=sum has none of that",
                stacklevel=2,
            )

    @property
    def name(self) -> str:
        """The name of the class, and whether D is a mean."""
        return type(self).__name__ + (" (mean)" if self.reduction == "mean" else "")

    def summed(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the distance, summed: (B,)."""
        raise NotImplementedError

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the distance: (B,)."""
        x_hat, x = _alike(x_hat, x, self)
        total = self.summed(x_hat, x)
        if self.reduction == "sum":
            return total
        d = math.prod(x.shape[1:])
        if self._d != d:
            self._d = d
            warnings.warn(
                f"{type(self).__name__} is a mean over {d} values: beta = 1 here is beta = {d} in "
                "summed units",
                stacklevel=2,
            )
        return total / d

    def extra_repr(self) -> str:
        """Show the reduction."""
        return f"reduction={self.reduction}"


class L1(_Valued):
    r"""Sum of absolute errors.

    .. math:: D = \lVert x - \hat x \rVert_1

    It is −log p of a Laplace with scale 1 (σ = √2) up to d log 2, so ``Laplace`` with that σ has
    the same optimum, and a likelihood.

    Args:
        reduction: ``sum``, or ``mean`` over the d values of an example: the β of such code is dβ
            in summed units. It warns, and says d when it is known.

    Raises:
        ValueError: If reduction is something else, or x̂ has another shape than x.
    """

    def summed(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the sum of absolute errors: (B,)."""
        return (x_hat - x).abs().flatten(1).sum(1)


class MSE(_Valued):
    r"""Sum of squared errors; with ``mean`` what is called MSE.

    .. math:: D = \lVert x - \hat x \rVert^2

    It is −log p of a Gaussian with σ² = ½ up to a constant.

    Args:
        reduction: As for :class:`L1`.

    Raises:
        ValueError: If reduction is something else, or x̂ has another shape than x.
    """

    def summed(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the sum of squared errors: (B,)."""
        return (x_hat - x).square().flatten(1).sum(1)


class MultiScaleSTFT(_Valued):
    r"""Distance of spectrograms at several resolutions, for signals (B, C, T) or (B, T).

    .. math:: D = \sum_w \lVert S_w - \hat S_w \rVert_1
        + α \lVert \log S_w - \log \hat S_w \rVert_1

    S_w is the magnitude of the short-time Fourier transform with a Hann window of w values and
    hops of w/4, divided by √w. Magnitudes below the floor count as the floor. Phases are free.

    Args:
        windows: The lengths w.
        log_weight: α.
        floor: The least magnitude, in units of x.
        reduction: As for :class:`L1`; the mean is the sum divided by d = C·T.

    Raises:
        ValueError: If a window is shorter than 4 or reaches beyond the signal, floor or α are not
            finite numbers above 0 (α may be 0), or x is no signal.

    References:
        Engel et al. 2020, DDSP, arXiv 2001.04643 (magnitudes and their logarithms); Yamamoto,
        Song & Kim 2020, arXiv 1910.11480 (several resolutions); Caillon & Esling 2021, RAVE,
        arXiv 2111.05011 (in a VAE).
    """

    def __init__(
        self,
        windows: Sequence[int] = (512, 256, 128, 64),
        log_weight: float = 1.0,
        floor: float = 1e-4,
        reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__(reduction)
        self.windows = [int(w) for w in windows]
        if not self.windows or min(self.windows) < 4:
            raise ValueError(f"windows={self.windows}; give one or more lengths, 4 or longer")
        self.log_weight = _number("log_weight", log_weight, least=0)
        self.floor = _number("floor", floor)

    def summed(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the distance, summed over windows, frequencies, frames and channels: (B,)."""
        if x.ndim not in (2, 3):
            raise ValueError(
                f"x has the shape {tuple(x.shape[1:])}; MultiScaleSTFT takes signals, (C, T) or "
                "(T,)"
            )
        if max(self.windows) // 2 >= x.shape[-1]:
            raise ValueError(
                f"windows={self.windows}, but signals have {x.shape[-1]} values; give windows "
                f"shorter than {2 * x.shape[-1]}"
            )
        total = x_hat.new_zeros(len(x))
        for window in self.windows:
            ours, theirs = self._power(x_hat, window), self._power(x, window)
            linear = (ours.sqrt() - theirs.sqrt()).abs().flatten(1).sum(1)
            logarithmic = 0.5 * (ours.log() - theirs.log()).abs().flatten(1).sum(1)
            total = total + linear + self.log_weight * logarithmic
        return total

    def _power(self, x: Tensor, window: int) -> Tensor:
        """Return the squared magnitudes: (B, C·frequencies, frames)."""
        spectrum = torch.stft(
            x.flatten(0, -2), window, window // 4, normalized=True, return_complex=True,
            window=torch.hann_window(window, dtype=x.dtype, device=x.device),
        )  # fmt: skip
        power = torch.view_as_real(spectrum).square().sum(-1).clamp(min=self.floor**2)
        return power.reshape(len(x), -1, power.shape[-1])

    def extra_repr(self) -> str:
        """Show the arguments."""
        return (
            f"windows={self.windows}, log_weight={self.log_weight:g}, floor={self.floor:g}, "
            f"{super().extra_repr()}"
        )


class SSIM(Distortion):
    r"""Structural dissimilarity of pictures (B, C, H, W) or volumes (B, C, D, H, W).

    .. math:: D = \mathrm{scale} \cdot (1 - \mathrm{SSIM}(\hat x, x))

    SSIM is a mean over the picture, so D is at most 2 scale, and no code of more than 2 scale/β
    nats pays. The scale that compares with a summed distortion is d = C·H·W.

    Args:
        data_range: The largest x minus the least.
        scale: What 1 − SSIM is multiplied by.

    Raises:
        ValueError: If data_range or scale is not a finite number above 0, x is no picture, or a
            side is below 6 (the window is 11 wide).
        ModuleNotFoundError: Without torchmetrics.

    References:
        Wang, Bovik, Sheikh & Simoncelli 2004, IEEE Transactions on Image Processing 13.
    """

    def __init__(self, data_range: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.data_range, self.scale = _number("data_range", data_range), _number("scale", scale)

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return scale · (1 − SSIM): (B,)."""
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim

        x_hat, x = _alike(x_hat, x, self)
        if x.ndim not in (4, 5) or min(x.shape[2:]) < 6:
            raise ValueError(
                f"x has the shape {tuple(x.shape[1:])}; SSIM takes pictures (C, H, W) or volumes "
                "(C, D, H, W) whose sides are 6 or more"
            )
        similar = ssim(x_hat, x, data_range=self.data_range, reduction="none")
        assert isinstance(similar, Tensor)
        return self.scale * (1 - similar)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"data_range={self.data_range:g}, scale={self.scale:g}"


class _Reconstruction(Distribution):
    """x̂, and how far x is from it."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, distortion: Distortion, output: Tensor, inputs: Mapping[str, Any]) -> None:
        super().__init__(output.shape[:1], output.shape[1:], validate_args=False)
        self.distortion, self.output, self.inputs = distortion, output, inputs

    @property
    def mean(self) -> Tensor:
        """x̂."""
        return at_least_float32(self.output)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return −D: (B,)."""
        n, output = max(len(self.output), len(value)), self.output
        if len(output) == 1 != n:
            output = output.expand(n, *output.shape[1:])
        d = self.distortion.measure(output, value, **self.inputs)
        if not isinstance(d, Tensor):
            came = f"a {type(d).__name__}"
        elif d.shape != (n,):
            came = f"the shape {tuple(d.shape)} for {n} examples" if d.ndim else "a scalar"
        else:
            return -at_least_float32(d)
        raise ValueError(f"{self.distortion.name} returned {came}; {_CURE}")

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Refuse: there is no density."""
        raise ValueError(
            f"{self.distortion.name} is a distortion and no density: it draws no samples; use "
            "p.mean, or a likelihood such as Gaussian or Laplace"
        )


def _imported(path: str, fn_args: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function that a path names, or the module of the class that it names."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"fn={path} cannot be imported ({error}); write package.module.name of something "
            "installed or in the current folder"
        ) from None
    if not isinstance(found, type):
        if not callable(found) or fn_args:
            what = "is not called with fn_args" if callable(found) else "is no function"
            raise ValueError(f"fn={path} {what}; name a function without, or a module's class")
        return found
    # A checkpoint may name a path: no other class is ever called.
    if not issubclass(found, nn.Module):
        raise ValueError(f"fn={path} is a class, but no torch.nn.Module; make it one")
    try:
        inspect.signature(found).bind(**fn_args)
    except TypeError as error:
        raise ValueError(f"fn={path} does not take these fn_args: {error}") from None
    return found(**fn_args)


def _further_inputs(f: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of what f takes after x̂ and x."""
    try:
        parameters = inspect.signature(f.forward if isinstance(f, nn.Module) else f).parameters
    except ValueError:  # f is written in C
        return ()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(name for name in [*parameters][2:] if parameters[name].kind not in variadic)


def _alike(x_hat: Tensor, x: Tensor, distortion: Distortion) -> tuple[Tensor, Tensor]:
    """Return both as floats of one type; refuse another shape, which would be broadcast."""
    if x_hat.shape != x.shape:
        raise ValueError(
            f"the decoder makes the shape {tuple(x_hat.shape[1:])} for x of the shape "
            f"{tuple(x.shape[1:])}; {distortion.name} needs the same: change the decoder"
        )
    dtype = torch.promote_types(torch.promote_types(x_hat.dtype, x.dtype), torch.float32)
    return x_hat.to(dtype), x.to(dtype)


def _number(name: str, value: float, least: float | None = None) -> float:
    """Return a number above 0, or from ``least`` up."""
    if not (math.isfinite(value) and (value > 0 if least is None else value >= least)):
        limit = "above 0" if least is None else f"from {least:g} up"
        raise ValueError(f"{name}={value:g} is not a finite number {limit}")
    return float(value)
