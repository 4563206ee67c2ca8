"""Where the rate goes: information, total correlation, dimension-wise KL."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from multibeta.divergences import aggregated_rate_terms
from multibeta.metrics.base import Codes

__all__ = ["Information"]


class Information(Codes):
    """The rate, split by the aggregated posterior of the examples kept.

    See :func:`~multibeta.divergences.aggregated_rate_terms` for the terms. The estimate of the
    mutual information is at most log N, which stands beside it, and too low near it; the other
    terms are then too high by as much. Where half of the examples give an information that is
    lower by more than the standard error, the terms are marked as bounds.
    """

    def about(self) -> dict[str, Any]:
        """Return what a latent is, where z is a map."""
        shape = self.vae.latent_shape
        return {} if len(shape) == 1 else {"latents": f"all values of z {shape}"}

    def compute(self) -> dict[str, float]:
        """Return the terms in nats, with their standard errors.

        Returns:
            ``information_nats, total_correlation_nats, dimension_kl_nats, aggregated_kl_nats``
            (the sum of the two before), each with ``…_se``; ``log_n_nats``. And ``…_nats_bound``
            of the terms: 1 where the true value is at least the figure, −1 where it is at most
            the figure, 0 where it is an estimate.
        """
        codes = self.codes()
        terms = aggregated_rate_terms(*codes)
        columns = {
            "information": terms.mutual_information_nats,
            "total_correlation": terms.total_correlation_nats,
            "dimension_kl": terms.dimension_kl_nats.sum(-1),
            "aggregated_kl": terms.aggregated_kl_nats,
        }
        row: dict[str, float] = {}
        for name, values in columns.items():
            row[f"{name}_nats"] = values.mean().item()
            row[f"{name}_se"] = _standard_error(values)
        every = [of[::2] for of in codes]  # a set may be sorted
        half = aggregated_rate_terms(*every).mutual_information_nats.mean().item()
        biased = row["information_nats"] - half > row["information_se"]
        row["information_nats_bound"] = float(biased)
        row |= {f"{name}_nats_bound": -float(biased) for name in columns if name != "information"}
        return row | {"log_n_nats": math.log(len(terms.rate_nats))}


def _standard_error(values: Tensor) -> float:
    n = len(values)
    return values.std().item() / math.sqrt(n) if n > 1 else math.nan
