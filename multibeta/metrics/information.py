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

    See :func:`~multibeta.divergences.aggregated_rate_terms` for the terms. The mutual information
    is at most log N, which stands beside it; where the true one is larger, the total correlation
    is too large by as much.
    """

    def about(self) -> dict[str, Any]:
        """Return what a latent is, where z is a map."""
        shape = self.vae.latent_shape
        return {} if len(shape) == 1 else {"latents": f"all values of z {shape}"}

    def compute(self) -> dict[str, float]:
        """Return the terms in nats, with their standard errors.

        Returns:
            ``information_nats, total_correlation_nats, dimension_kl_nats, aggregated_kl_nats``
            (the sum of the two before), each with ``…_se``; ``log_n_nats``.
        """
        terms = aggregated_rate_terms(*self.codes())
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
        return row | {"log_n_nats": math.log(len(terms.rate_nats))}


def _standard_error(values: Tensor) -> float:
    n = len(values)
    return values.std().item() / math.sqrt(n) if n > 1 else math.nan
