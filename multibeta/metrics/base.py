"""What a metric of the curve is: it sees batches at one β, and gives columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from multibeta.data.batches import rank_and_world
from multibeta.vae import BetaVAE, ELBOTerms

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Codes", "CurveMetric", "Evaluated", "Float64Metric", "Source", "mean_and_se"]


@dataclass(frozen=True)
class Source:
    """What is measured on.

    Args:
        data: A datamodule, or batches.
        split: Which part of a datamodule.
        pictures: Gives this process's batches of pictures (B, C, H, W), in order, once more.
    """

    data: Any
    split: str
    pictures: Callable[[], Iterator[Tensor]]


@dataclass(frozen=True)
class Evaluated:
    """A batch at one β.

    Args:
        x: The pictures: (B, C, H, W).
        terms: D and R, the posterior and its sample.
        noise: More standard normal noise, a function of the batch's place in the data alone:
            a number K → (K, B, Z).
        factors: What the pictures were made from, each factor's value by its number: (B, F);
            None where the data does not say.
    """

    x: Tensor
    terms: ELBOTerms
    noise: Callable[[int], Tensor]
    factors: Tensor | None = None


def mean_and_se(n: Tensor, sums: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the means of values and their standard errors, from sums.

    .. math:: \mathrm{s.e.} = \sqrt{\frac{1}{n(n-1)} \sum_i (v_i - \bar v)^2}

    Args:
        n: How many values.
        sums: Their sums.
        squares: The sums of their squares.

    Returns:
        Mean and standard error, which is nan for one value.
    """
    mean = sums / n
    variance = (squares / n - mean.square()).clamp(min=0)
    return mean, (variance / (n - 1)).sqrt() if n > 1 else torch.full_like(mean, torch.nan)


class Float64Metric(Metric):
    """A metric whose states are on the model's device, where that has float64."""

    full_state_update = False
    is_differentiable = False

    def beside(self, device: torch.device) -> Self:
        """Move the states to a device, or to the CPU if that has no float64; return self."""
        return self.to("cpu" if device.type == "mps" else device)

    def add_sums(self, **shapes: tuple[int, ...]) -> None:
        """Add states that are summed over the processes.

        Args:
            shapes: Name → shape.
        """
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")


class CurveMetric(Float64Metric):
    """A metric that adds columns to a curve.

    A sweep calls ``prepare`` once; then at each β ``update`` with every batch; and when the pass
    over the data is through, ``finish`` and ``compute`` of one β after the other.

    Args:
        vae: The model at the β that is measured.

    The arguments of a subclass after ``vae`` are its settings.
    """

    def __init__(self, vae: BetaVAE) -> None:
        super().__init__()
        self._vae = (vae,)  # in a tuple, so that it is no part of the metric's own state

    @property
    def vae(self) -> BetaVAE:
        """The model at the β that is measured."""
        return self._vae[0]

    @classmethod
    def lacks(cls, data: object) -> str | None:
        """Return what the data lacks for this metric, in a few words; None if nothing."""
        return None

    @classmethod
    def prepare(cls, source: Source, settings: dict[str, Any]) -> dict[str, Any]:
        """Make what all β's share.

        Args:
            source: What will be measured on.
            settings: Arguments of the metric, as the user gave them.

        Returns:
            The arguments that the metric of every β is made with.
        """
        return settings

    def update(self, batch: Evaluated) -> None:
        """Add a batch."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what takes long, on this process's share: a sweep shows and keeps each β's."""

    def compute(self) -> dict[str, Any]:
        """Return column → number, and for what is measured at each latent → list of numbers."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Return how it was measured, for curve.json."""
        return {}

    @classmethod
    def across(cls, metrics: Sequence[Any]) -> list[dict[str, float]]:
        """Return columns that take the metrics of several β's, one each, rising: a row a β."""
        return [{} for _ in metrics]


class Codes(CurveMetric):
    """A metric that needs the codes of all examples at once.

    Args:
        vae: The model at the β that is measured.
        most: How many examples to keep, the first ones.
    """

    z: Any
    mean: Any
    std: Any

    def __init__(self, vae: BetaVAE, most: int = 10_000) -> None:
        super().__init__(vae)
        self.most = most
        self._kept = 0
        for name in ("z", "mean", "std"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, batch: Evaluated) -> None:
        """Keep the codes of a batch."""
        # Batches go round the processes, so these are the first examples of the whole set.
        most = self.most // rank_and_world()[1]
        rows = slice(max(0, most - self._kept))
        q, z = batch.terms.posterior, batch.terms.z
        self._kept += len(z)
        for name, value in {"z": z, "mean": q.mean, "std": q.stddev}.items():
            getattr(self, name).append(value[rows].to(self.device))

    def codes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return z, mean and std of all examples kept: (N, Z) each."""
        kept = (self.z, self.mean, self.std)
        z, mean, std = (v if isinstance(v, Tensor) else torch.cat(v) for v in kept)
        return z, mean, std

    def gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same, of all processes, outside of ``compute``."""
        with self.sync_context():
            return self.codes()
