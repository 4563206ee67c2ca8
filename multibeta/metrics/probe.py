"""What a label can be told by from the code: a linear probe and nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multibeta.metrics.base import Source
from multibeta.metrics.labelled import Labelled, lacking
from multibeta.vae import BetaVAE

__all__ = ["Probe", "Split", "balanced", "r_squared"]

_CLASSES = 20
"""Numbers of more values than these are quantities, not classes."""


@dataclass(frozen=True)
class Split:
    """Codes with a label, to fit on and to test on.

    Args:
        label: The name of the label.
        z: Posterior means to fit on: (N, Z).
        y: Their labels, numbers of classes or quantities: (N,).
        z_test: Those to test on: (M, Z).
        y_test: Their labels: (M,).
        classes: How many classes; 0 for quantities.
        said: What the fit is on.
    """

    label: str
    z: np.ndarray
    y: np.ndarray
    z_test: np.ndarray
    y_test: np.ndarray
    classes: int
    said: str


class Probe(Labelled):
    """A linear probe and nearest neighbours on the posterior means, by the number of labels.

    Of classes the accuracy of a logistic regression, of quantities R² of a ridge regression, both
    on standardised means with scikit-learn's penalty of 1; and of the k nearest neighbours on the
    means as they are, in units of the prior. Words, and numbers of at most 20 values, are
    classes. Of a map all values of z are features.

    The fit is on codes of the train set, the test on the set that is measured: splits may be by
    patient. Where there is no other train set, or it has none of the classes, the fit is on half
    of the measured set, drawn by a fixed seed, and the test on the other half; ``about`` in
    curve.json says it.

    With few labels, they are so many in all, not of each class: drawn by fixed seeds, the same at
    each β, of the classes as evenly as possible. There k is at most the number of examples of a
    class.

    Args:
        vae: The model at the β that is measured.
        label: Which of the labels, where there are several; see :class:`Labelled`.
        most: How many examples to fit on, and to test on, spread over their sets.
        few: The small numbers of labels.
        draws: How often each is drawn.
        neighbours: The number k.
        task: "classes" or "numbers", what the label's values are; by default as above.
        source: What is measured on.
        said: See :class:`Labelled`.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Alain & Bengio 2016, arXiv 1610.01644 (linear probes).
    """

    def __init__(
        self, vae: BetaVAE, label: str | None = None, most: int = 10_000,
        few: Sequence[int] = (10, 100), draws: int = 10, neighbours: int = 5,
        task: str | None = None, *, source: Source | None = None, said: set[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(vae, label, most, source=source, said=said)
        least = {"few": min(few, default=2), "draws": draws, "neighbours": neighbours}
        for name, value in least.items():
            if value < (2 if name == "few" else 1):
                at_least = 2 if name == "few" else 1
                raise ValueError(f"{name}={value} is too small; it is at least {at_least}")
        if task not in (None, "classes", "numbers"):
            raise ValueError(f"task={task} is unknown; allowed: classes, numbers")
        self.few, self.draws, self.neighbours, self.task = tuple(few), draws, neighbours, task

    @classmethod
    def lacks(cls, data: object) -> str | None:
        """Return a line if the data is known to have no labels."""
        return lacking(data)

    def compute(self) -> dict[str, float]:
        """Return how well the label is told, each with ``…_se``.

        Returns:
            ``probe_accuracy``, ``knn_accuracy``, and with few labels ``probe_accuracy_10,
            probe_accuracy_100, knn_accuracy_10, knn_accuracy_100``, the mean over draws; for
            quantities ``probe_r2`` and so on. Standard errors: of an accuracy √(p(1 − p)/M) for M
            examples of the test, of R² by the delta method over them (see :func:`r_squared`), with
            few labels over the draws. nan where all labels are of one class. What takes more
            labels than there are is left out.
        """
        split = self.split()
        kind = "accuracy" if split.classes else "r2"
        row: dict[str, float] = {}
        for name in ("probe", "knn"):
            value, se = self._score(name, split, np.arange(len(split.y)))
            row |= {f"{name}_{kind}": value, f"{name}_{kind}_se": se}
            for n in self.few:
                if n > len(split.y):
                    continue
                scores = [
                    self._score(name, split, balanced(split.y, n, draw, bool(split.classes)))[0]
                    for draw in range(self.draws)
                ]
                spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan
                row[f"{name}_{kind}_{n}"] = float(np.mean(scores))
                row[f"{name}_{kind}_{n}_se"] = spread / math.sqrt(len(scores))
        return row

    def about(self) -> dict[str, Any]:
        """Return which label, what was fitted on and tested on."""
        split = self.split()
        few = ", ".join(str(n) for n in self.few if n <= len(split.y)) or "none"
        return {
            "label": split.label,
            "task": f"{split.classes} classes" if split.classes else "numbers",
            "fit": split.said,
            "fit_examples": len(split.y),
            "test_examples": len(split.y_test),
            "few": f"{few} labels in all, {self.draws} draws",
            "neighbours": self.neighbours,
        }

    def split(self) -> Split:
        """Return what to fit on and to test on.

        Raises:
            ValueError: If there are no labels, or they are not finite.
        """
        measured, train = self.codes(), self.other("train")
        name = self.name(measured if train is None else train)
        lone = len(measured) == 1 and measured.labels
        if name is None and lone:  # nothing can be told of one example
            name = next(iter(measured.labels))
        if name is None or name not in measured.labels:
            known = ", ".join(measured.labels) or "none"
            raise ValueError(
                "metric probe cannot be measured: it needs a label that is of two kinds or more, "
                f"and the data has {known}; give labels beside x"
            )
        test, of_test = measured.mean[0], measured.labels[name]
        said = "the train set"
        if train is not None:
            fit, of_fit = train.mean[0], train.labels[name]
            if not np.isin(of_test, of_fit).any() and not self._numbers(of_fit):
                train, said = None, f"half of the measured set: the train set has no such {name}"
        else:
            said = "half of the measured set: there is no other train set"
        if train is None:
            order = np.random.default_rng(0).permutation(len(of_test))
            first, second = order[: len(order) // 2], order[len(order) // 2 :]
            fit, of_fit, test, of_test = test[first], of_test[first], test[second], of_test[second]
        both = np.concatenate([of_fit, of_test])
        if both.dtype.kind == "f" and not np.isfinite(both).all():
            wrong = int((~np.isfinite(both)).sum())
            raise ValueError(
                f"metric probe cannot be measured: label {name} is not finite at {wrong} of "
                f"{len(both)} examples; leave them out, or choose another label"
            )
        kinds, y = np.unique(both, return_inverse=True)
        classes = 0 if self._numbers(both) else len(kinds)
        y = y if classes else both.astype(float)
        size = math.prod(test.shape[1:])
        z, z_test = (of.reshape(len(of), size).astype(np.float64) for of in (fit, test))
        return Split(name, z, y[: len(z)], z_test, y[len(z) :], classes, said)

    def _numbers(self, y: np.ndarray) -> bool:
        """Whether a label is of quantities, and not of classes.

        Raises:
            ValueError: If quantities were asked for, and it is of words.
        """
        if self.task == "numbers" and y.dtype.kind not in "biuf":
            raise ValueError(f"task=numbers, and the label has words, such as {y[0]}; use classes")
        many = y.dtype.kind in "iuf" and len(np.unique(y)) > _CLASSES
        return many if self.task is None else self.task == "numbers"

    def _score(self, name: str, split: Split, rows: np.ndarray) -> tuple[float, float]:
        """Return the accuracy or R² of a fit on some examples, and its standard error."""
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        z, y = split.z[rows], split.y[rows]
        several = len(np.unique(y))
        if several < 2 or not len(split.y_test):
            return math.nan, math.nan
        k = min(self.neighbours, len(y))
        if split.classes:
            k = max(1, min(k, len(y) // several))
        if name == "probe":
            linear = LogisticRegression(max_iter=2_000) if split.classes else Ridge()
            model = make_pipeline(StandardScaler(), linear)
        else:
            model = KNeighborsClassifier(k) if split.classes else KNeighborsRegressor(k)
        told = model.fit(z, y).predict(split.z_test)
        if not split.classes:
            return r_squared(split.y_test, told)
        right = float((told == split.y_test).mean())
        return right, math.sqrt(right * (1 - right) / len(told))


def balanced(y: np.ndarray, n: int, seed: int, classes: bool = True) -> np.ndarray:
    """Return the numbers of n examples, drawn by a seed, of each class as many as possible.

    Args:
        y: The classes: (N,).
        n: How many, at most N.
        seed: The seed.
        classes: Whether y are classes; else any n are drawn.

    Returns:
        (n,), without repetition. Of two classes the numbers differ by one at most, unless one of
        them has no more examples.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    if not classes:
        return order[:n]
    _, kinds = np.unique(y, return_inverse=True)
    rank = np.empty(len(y))
    for kind in range(kinds.max() + 1):
        rows = order[kinds[order] == kind]
        rank[rows] = np.arange(len(rows)) + rng.random()  # classes take turns, in random order
    return np.argsort(rank, kind="stable")[:n]


def r_squared(y: np.ndarray, told: np.ndarray) -> tuple[float, float]:
    r"""Return R² of predictions, and its standard error by the delta method.

    .. math:: R^2 = 1 - \frac{E}{V}, \quad E = \frac1M \sum_i (y_i - \hat y_i)^2, \quad
        V = \frac1M \sum_i (y_i - \bar y)^2

    Args:
        y: (M,).
        told: (M,).

    Returns:
        nan where y does not vary; the standard error is nan for one example.
    """
    errors, spread = (y - told) ** 2, (y - y.mean()) ** 2
    e, v = errors.mean(), spread.mean()
    if not v > 0:
        return math.nan, math.nan
    influence = e * spread / v**2 - errors / v
    return float(1 - e / v), float(influence.std(ddof=1) / math.sqrt(len(y)))
