"""What metrics share that compare the codes with a label of each example."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from multibeta.data.base import ImageData
from multibeta.data.batches import rank_and_world
from multibeta.metrics.base import CurveMetric, Evaluated, Source
from multibeta.vae import BetaVAE

if TYPE_CHECKING:
    from multibeta.codes import Codes

__all__ = ["Labelled", "lacking"]


class Labelled(CurveMetric):
    """A metric of posterior means and a label of each example.

    Labels are those of :meth:`ImageData.labels`, or what a batch that is a dict or a tuple has
    beside x, one number or word for each example.

    Args:
        vae: The model at the β that is measured.
        label: Which of the labels, where there are several; by default a class by its usual name
            (labels, label, class, digit), or the first that groups the examples, or the first of
            numbers.
        most: How many examples of a set to use, spread over it.
        source: What is measured on.
        said: What was said of the label, shared by all β's: it is said once.

    Raises:
        ValueError: If there are to be less than two examples.
    """

    needs = "it fits models at each β: ask for it by name"

    def __init__(
        self, vae: BetaVAE, label: str | None = None, most: int = 10_000,
        *, source: Source | None = None, said: set[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(vae)
        if most < 2:
            raise ValueError(f"most={most} is too small; it is at least 2")
        self.label, self.most = label, most
        self._said: set[str] = set() if said is None else said
        self._source = (source,)  # in a tuple, so that it is no part of the metric's own state

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Leave the metric out of ``all``: it takes long."""
        return False

    @classmethod
    def prepare(cls, source: Source, settings: dict[str, Any]) -> dict[str, Any]:
        """Keep what will be measured on."""
        return {**settings, "source": source, "said": set()}

    def update(self, batch: Evaluated) -> None:
        """Do nothing: the codes are made anew, with labels, spread over the set."""

    def codes(self) -> Codes:
        """Return the codes of the set that is measured, at one β.

        Raises:
            ValueError: If it cannot be read once more.
        """
        (source,) = self._source
        found = source and source.codes(self.vae, source.split, self.most)
        if not found:
            raise ValueError(
                f"metric {type(self).__name__.lower()} cannot be measured: its examples are read "
                "once more, and of a stream on several processes they cannot be; measure on one, "
                "by multibeta.sweep"
            )
        return found

    def other(self, split: str) -> Codes | None:
        """Return the codes of another set, at one β; None if there is none, or it is the same."""
        (source,) = self._source
        if source is None or source.split == split:
            return None
        return source.codes(self.vae, split, self.most)

    def name(self, codes: Codes, groups: bool = False) -> str | None:
        """Return the label that is used; None if there is none of use.

        Args:
            codes: The codes, with their labels.
            groups: Whether only a label that groups the examples is of use.

        Raises:
            ValueError: If that which was asked for is not there.
        """
        if self.label is not None:
            if self.label not in codes.labels:
                known = ", ".join(codes.labels) or "none"
                raise ValueError(
                    f"metric {type(self).__name__.lower()} cannot be measured: "
                    f"label={self.label} is unknown; the data has {known}"
                )
            return self.label
        several = (k for k, v in codes.labels.items() if len(np.unique(v)) > 1)
        numbers = (k for k in several if codes.labels[k].dtype.kind in "iuf")
        name = codes.label() or (None if groups else next(numbers, None))
        said = f"label {name} of {', '.join(codes.labels)}; label= takes another"
        if name is not None and len(codes.labels) > 1 and said not in self._said:
            self._said.add(said)
            if rank_and_world()[0] == 0:
                print(f"{type(self).__name__.lower()}: {said}", file=sys.stderr)
        return name


def lacking(data: object) -> str | None:
    """Return a line if data is known to have no labels; None if it has some, or may have."""
    name = type(data).__name__
    cure = "give labels beside x: tuples, dicts, or arrays of an .npz file"
    if isinstance(data, ImageData):
        try:
            data.setup()
            if any(data.labels(split) for split in data.splits):
                return None
        except ValueError as error:
            return f"it needs labels, and {error}"
        return f"it needs labels, which {name} has not here; {cure}"
    if hasattr(data, "dtype") and hasattr(data, "shape"):
        return f"it needs labels, which a {name} has not; {cure}"
    return None
