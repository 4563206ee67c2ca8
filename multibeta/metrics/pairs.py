"""Any measure of (reconstruction, x): a metric of torchmetrics, or a function of yours."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric, MetricCollection

from multibeta.metrics.base import CurveMetric, Evaluated, mean_and_se
from multibeta.specs import imported
from multibeta.vae import BetaVAE

__all__ = ["SSIM", "MultiScaleSSIM", "Pairs", "name_of"]

_WRONG = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What metrics and functions of others raise for arguments that they do not take."""


class Pairs(CurveMetric):
    """A measure of (x̂, x), with x̂ the mean of p(x|z) at the mean of q(z|x).

    - A metric of torchmetrics, or a ``MetricCollection``: ``update(x̂, x)`` sees every batch, and
      what ``compute`` gives is the column. Where that is a value an example, as with
      ``reduction="none"``, the column is their mean, and ``…_se`` its standard error.
    - A function: f(x̂, x) → (B,), a value an example; the mean and its standard error.

    A subclass names the measure; :meth:`of` makes one.

    Args:
        vae: The model at the β that is measured.
        settings: Arguments of the metric's class, or of the function after x̂ and x. A
            ``data_range`` that is not given is the width of the range of the training data, or
            1 for x in [0, 1].

    Raises:
        ValueError: If the measure does not take these settings.
    """

    measure: ClassVar[Any]
    """A metric, its class, a collection, a function, or the class path of one of them."""

    name: ClassVar[str]
    """What the column is called, or begins with where there are several."""

    defaults: ClassVar[dict[str, Any]] = {}
    """Settings other than those of the measure itself."""

    n: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, vae: BetaVAE, **settings: Any) -> None:
        super().__init__(vae)
        self.settings = {**self.defaults, **settings}
        self._ranged = "data_range" in self.takes() and "data_range" not in settings
        if self._ranged:
            self.settings["data_range"] = 1.0 if vae.units is None else vae.units.peak
        self.add_sums(n=(), total=(), squares=())
        found = self.found()
        try:
            if isinstance(found, type):
                self.made: Any = found(**self.settings)
            elif isinstance(found, Metric | MetricCollection):
                self.made = found.clone()
                self.made.reset()
            else:
                self.made = partial(found, **self.settings)
        except _WRONG as error:
            raise ValueError(f"metric {self.name} cannot be made: {_line(error)}") from error

    @classmethod
    def of(cls, name: str, measure: Any) -> type[Pairs]:
        """Return the metric for a measure.

        Args:
            name: What its columns are called.
            measure: See :attr:`measure`.

        Raises:
            ValueError: If it is no metric and no function.
        """
        found = imported(measure) if isinstance(measure, str) else measure
        kinds = (Metric, MetricCollection)
        if isinstance(found, type):
            fits = issubclass(found, kinds)
        else:
            fits = isinstance(found, kinds) or callable(found)
        if not fits:
            raise ValueError(
                f"metric {name} is a {getattr(found, '__name__', type(found).__name__)}; give a "
                "metric of torchmetrics, a CurveMetric, or a function f(x_hat, x)"
            )
        return type(cls.__name__, (cls,), {"name": name, "measure": measure})

    @classmethod
    def found(cls) -> Any:
        """Return the measure itself."""
        return imported(cls.measure) if isinstance(cls.measure, str) else cls.measure

    @classmethod
    def takes(cls) -> list[str]:
        """Return the names of the settings: arguments of the class, or of the function."""
        found = cls.found()
        if isinstance(found, Metric | MetricCollection):
            return []
        named = [
            p.name
            for p in inspect.signature(found).parameters.values()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        ]
        return named if isinstance(found, type) else named[2:]

    def update(self, batch: Evaluated) -> None:
        """Add a batch.

        Raises:
            ValueError: If the measure does not take it, or x leaves [0, 1] where the range of the
                training data is not known.
        """
        low, high = batch.x.min().item(), batch.x.max().item()
        if self._ranged and self.vae.units is None and (low < 0 or high > 1):
            raise ValueError(
                f"{self.name} has a data_range of 1, and x has values in [{low:g}, {high:g}]; set "
                "its data_range, the width of the range of x"
            )
        again = self.vae.decode(batch.terms.posterior.mean, **batch.inputs).mean
        x_hat, x = (v.float().to(self.device) for v in (again, batch.x))
        self.n += len(x)
        try:
            if isinstance(self.made, partial):
                values = self.made(x_hat, x)
            else:
                values = None
                self.made.update(x_hat, x)
        except _WRONG as error:
            raise ValueError(
                f"metric {self.name} does not take reconstructions and x of shape "
                f"{tuple(x.shape)}: {_line(error)}"
            ) from error
        if isinstance(self.made, partial):
            if not (isinstance(values, Tensor) and values.shape == x.shape[:1]):
                raise ValueError(
                    f"metric {self.name} gives {_shape(values)} for {len(x)} examples; it must "
                    f"give {tuple(x.shape[:1])}, a value an example"
                )
            self.total += values.double().sum()
            self.squares += values.double().square().sum()

    def compute(self) -> dict[str, float]:
        """Return the columns: the name of the measure, or those in it; with ``…_se`` if known.

        Raises:
            ValueError: If a value is neither one number nor one an example.
        """
        if isinstance(self.made, partial):
            return _columns(self.name, *mean_and_se(self.n, self.total, self.squares))
        try:
            found = self.made.compute()
        except _WRONG as error:
            raise ValueError(f"metric {self.name} gives no value: {_line(error)}") from error
        row: dict[str, float] = {}
        for name, value in self._named(found):
            if isinstance(value, Tensor) and value.ndim == 1 and len(value) == self.n.item() > 1:
                of_each = value.double()
                row |= _columns(name, *mean_and_se(self.n, of_each.sum(), of_each.square().sum()))
            elif isinstance(value, Tensor) and value.numel() == 1:
                row[name] = value.item()
            elif isinstance(value, int | float):
                row[name] = float(value)
            else:
                raise ValueError(
                    f"metric {name} gives {_shape(value)}; it must give one number, or one an "
                    "example"
                )
        return row

    def _named(self, found: Any) -> Iterator[tuple[str, Any]]:
        if not isinstance(found, dict):
            yield self.name, found
            return
        for name, value in found.items():
            alone = isinstance(self.made, MetricCollection)
            yield name if alone else f"{self.name}_{name}", value

    def about(self) -> dict[str, Any]:
        """Return which measure it is, and its settings."""
        found = self.found()
        kind = found if hasattr(found, "__qualname__") else type(found)
        said = {"measure": f"{kind.__module__}.{kind.__qualname__}"}
        return said | {name: _plain(value) for name, value in self.settings.items()}


class SSIM(Pairs):
    """Structural similarity of reconstructions, the mean over examples, by torchmetrics.

    A Gaussian window of σ = 1.5, 11×11 pixels. Settings are those of torchmetrics.

    References:
        Wang et al. 2004, IEEE Transactions on Image Processing 13.
    """

    measure = "torchmetrics.image.StructuralSimilarityIndexMeasure"
    name = "ssim"
    defaults: ClassVar[dict[str, Any]] = {"reduction": "none"}
    least = 11
    """The least height and width."""

    needs = "x is not in [0, 1]; ask for it by name"

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse what is no picture, or too small a one."""
        if len(model.shape) != 3:
            return f"it is for pictures (C, H, W), and x is {tuple(model.shape)}"
        if min(model.shape[1:]) < cls.least:
            height, width = model.shape[1:]
            return f"it needs {cls.least}×{cls.least} pixels, and x has {height}×{width}"
        return None

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Return whether the data is in [0, 1], as far as it says."""
        low, high = getattr(data, "value_range", None) or (0.0, 1.0)
        return low >= 0 and high <= 1


class MultiScaleSSIM(SSIM):
    """Structural similarity at five scales, the mean over examples, by torchmetrics.

    Negative values at a scale count as 0. Settings are those of torchmetrics.

    References:
        Wang et al. 2003, Asilomar Conference on Signals, Systems and Computers.
    """

    measure = "torchmetrics.image.MultiScaleStructuralSimilarityIndexMeasure"
    name = "ms_ssim"
    least = 176  # the smallest scale is a sixteenth, and has to be wider than 10 pixels


def name_of(measure: Any) -> str:
    """Return what a metric, a class or a function is called.

    Raises:
        ValueError: If it has no name.
    """
    kind = measure if hasattr(measure, "__name__") else type(measure)
    if not kind.__name__.isidentifier():
        raise ValueError('a metric has no name; give it one, as in metrics={"name": f}')
    return kind.__name__


def _columns(name: str, mean: Tensor, se: Tensor) -> dict[str, float]:
    return {name: mean.item(), f"{name}_se": se.item()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _line(error: BaseException) -> str:
    """Return the message of an error, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
