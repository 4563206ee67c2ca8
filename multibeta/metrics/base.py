"""What a metric of the curve is: it sees batches at one β, and gives columns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from multibeta.data.batches import rank_and_world
from multibeta.vae import BetaVAE, ELBOTerms

if TYPE_CHECKING:
    from typing_extensions import Self

    import multibeta.codes

__all__ = [
    "Codes",
    "CurveMetric",
    "Evaluated",
    "Float64Metric",
    "Source",
    "Spread",
    "in_order",
    "mean_and_se",
]


@dataclass(frozen=True)
class Source:
    """What is measured on.

    Args:
        data: A datamodule, or batches.
        split: Which part of a datamodule.
        count: How many examples there are; None where it is not known.
        pictures: Gives this process's batches (B, *shape), in order, once more.
        codes: Gives the codes and labels of a set's examples, of a model, a split and a number:
            at most so many, spread over the set, the same on each process. None where there is no
            such set, where it is the one that is measured under another name, or where it is a
            stream and there are several processes.
    """

    data: Any
    split: str
    count: int | None
    pictures: Callable[[], Iterator[Tensor]]
    codes: Callable[[BetaVAE, str, int], multibeta.codes.Codes | None] = lambda *_: None


@dataclass(frozen=True)
class Evaluated:
    """A batch at one β.

    Args:
        x: The examples: (B, *shape).
        terms: D and R, the posterior and its sample.
        noise: More standard normal noise, a function of the batch's place in the data alone:
            a number K → (K, B, *latent shape).
        inputs: Further inputs of encoder and decoder, by name.
        factors: What the pictures were made from, each factor's value by its number: (B, F);
            None where the data does not say.
    """

    x: Tensor
    terms: ELBOTerms
    noise: Callable[[int], Tensor]
    factors: Tensor | None = None
    inputs: dict[str, Any] = field(default_factory=dict)


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


def in_order(
    places: Sequence[Tensor] | Tensor, *values: Sequence[Tensor] | Tensor
) -> list[Tensor]:
    """Return rows in the order of their places; rows of one place stay in theirs.

    Args:
        places: The place of each row, in one tensor or in several: (N,).
        values: What to order: (N, …) each.
    """
    joined = [v if isinstance(v, Tensor) else torch.cat(list(v)) for v in (places, *values)]
    rows = joined[0].argsort(stable=True)
    return [v[rows] for v in joined[1:]]


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

    The arguments of a subclass after ``vae`` are its settings; those by keyword only are not the
    user's, but what ``prepare`` made.
    """

    def __init__(self, vae: BetaVAE) -> None:
        super().__init__()
        self._vae = (vae,)  # in a tuple, so that it is no part of the metric's own state

    @property
    def vae(self) -> BetaVAE:
        """The model at the β that is measured."""
        return self._vae[0]

    needs = "it has to be asked for by name"
    """Why ``all`` may leave the metric out though the data serves."""

    @classmethod
    def takes(cls) -> list[str]:
        """Return the names of the settings."""
        parameters = inspect.signature(cls).parameters.values()
        return [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY][1:]

    @classmethod
    def lacks(cls, data: object) -> str | None:
        """Return what the data lacks for this metric, in a few words; None if nothing."""
        return None

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Return why the metric cannot measure a model, in a few words; None if it can."""
        return None

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Return whether ``all`` has this metric: by default, where the data lacks nothing."""
        return not cls.lacks(data)

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

    keeps: ClassVar[tuple[str, ...]] = ("z", "mean", "std")
    """What it needs of the codes: all of them are kept in memory."""

    z: Any
    mean: Any
    std: Any
    places: Any

    def __init__(self, vae: BetaVAE, most: int = 10_000) -> None:
        super().__init__(vae)
        self.most = most
        self._kept = 0
        self._batches = 0
        for name in (*self.keeps, "places"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, batch: Evaluated) -> None:
        """Keep the codes of a batch."""
        rank, world = rank_and_world()
        rows = slice(max(0, self.most - self._kept))
        q, z = batch.terms.posterior, batch.terms.z
        # Batches go round the processes.
        places = torch.full((len(z),), self._batches * world + rank)
        self._kept += len(z)
        self._batches += 1
        codes = {"z": z, "mean": q.mean, "std": q.stddev}
        for name in self.keeps:
            getattr(self, name).append(self.rows_of(codes[name][rows]).to(self.device))
        per = self.rows_of(z[:1]).shape[0]
        self.places.append(places[rows].repeat_interleave(per).to(self.device))

    @staticmethod
    def rows_of(codes: Tensor) -> Tensor:
        """Return codes (B, *latent shape) as rows of latents: every value of a map is one."""
        return codes.flatten(1)

    def codes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return z, mean and std of all examples kept, in the order of the data: (N, Z) each."""
        z, mean, std = self.kept()
        return z, mean, std

    def kept(self) -> list[Tensor]:
        """Return what is kept of the codes, in the order of the data: (N, Z) each."""
        found = in_order(self.places, *(getattr(self, name) for name in self.keeps))
        most = self.most * self.rows_of(torch.empty(1, *self.vae.latent_shape)).shape[0]
        return [value[:most] for value in found]

    def gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same, of all processes, outside of ``compute``."""
        with self.sync_context():
            return self.codes()


@dataclass(frozen=True)
class Chosen:
    """The examples of a batch that are used.

    Args:
        batch: The number of the batch, over all processes.
        places: Their numbers among all that are used: (B,).
        x: (B, *shape).
        mean: The posterior's means: (B, *latent shape).
        std: Its standard deviations: the same.
        neg_elbo: D + R, with one sample: (B,).
        inputs: Further inputs of encoder and decoder, by name.
        noise: Standard normal noise, a number K → (K, B, *latent shape).
    """

    batch: int
    places: Tensor
    x: Tensor
    mean: Tensor
    std: Tensor
    neg_elbo: Tensor
    inputs: dict[str, Any]
    noise: Callable[[int], Tensor]


def joined(chosen: Sequence[Chosen]) -> dict[str, Any]:
    """Return the further inputs of examples of several batches, in one."""
    return {
        k: torch.cat([of.inputs[k] for of in chosen]) if isinstance(v, Tensor) and v.ndim else v
        for k, v in chosen[0].inputs.items()
    }


class Spread(CurveMetric):
    """A metric that decodes many samples of an example, and so uses some, spread over the set.

    Args:
        vae: The model at the β that is measured.
        most: How many examples to use; the set may be sorted by class.
        every: Each so many-th example is used; :meth:`prepare` finds it.

    Raises:
        ValueError: If there are to be none.
    """

    def __init__(self, vae: BetaVAE, most: int = 1_000, *, every: int = 1) -> None:
        super().__init__(vae)
        if most < 1:
            raise ValueError(f"most={most} is too small; it is at least 1")
        self.most, self.every = most, every
        self.chosen: list[Chosen] = []
        self._seen = self._batches = self._size = 0

    @classmethod
    def prepare(cls, source: Source, settings: dict[str, Any]) -> dict[str, Any]:
        """Find out how far apart the examples are to be; of a stream the first are used."""
        most = settings.get("most", inspect.signature(cls).parameters["most"].default)
        return {**settings, "every": max(1, (source.count or 0) // max(1, most))}

    def update(self, batch: Evaluated) -> None:
        """Keep the examples of a batch that are used."""
        # Batches go round the processes, all of one size but the last.
        rank, world = rank_and_world()
        self._size = self._size or len(batch.x)
        number, n = self._batches * world + rank, len(batch.x)
        first = self._seen if world == 1 else number * self._size
        self._seen += n
        self._batches += 1
        places = first + torch.arange(n)
        used = (places % self.every == 0) & (places < self.every * self.most)
        if not used.any():
            return
        q, noise, rows = batch.terms.posterior, batch.noise, used.nonzero().flatten()
        here = rows.to(batch.x.device)
        inputs = {
            k: v[here] if isinstance(v, Tensor) and v.ndim and len(v) == n else v
            for k, v in batch.inputs.items()
        }
        neg_elbo = batch.terms.distortion + batch.terms.rate_nats
        self.chosen.append(
            Chosen(
                number, places[rows] // self.every, batch.x[here], q.mean[here], q.stddev[here],
                neg_elbo[here], inputs, lambda k: noise(k)[:, rows],
            )
        )  # fmt: skip
