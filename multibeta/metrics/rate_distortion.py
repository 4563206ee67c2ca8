"""Mean rate and distortion with their standard errors."""

from __future__ import annotations

import torch
from torch import Tensor

from multibeta.metrics.base import Float64Metric, mean_and_se

__all__ = ["Difference", "RateDistortion"]


class Difference(Float64Metric):
    """Mean difference of two values of the same examples, and its standard error.

    What the examples have in common drops out, so that it is smaller than that of two means.
    """

    n: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sums(n=(), total=(), squares=())

    def update(self, first: Tensor, other: Tensor) -> None:
        """Add examples.

        Args:
            first: (B,).
            other: The same of the other: (B,).
        """
        of_each = (other - first).to(self.total.device).double()
        self.n += len(of_each)
        self.total += of_each.sum()
        self.squares += of_each.square().sum()

    def compute(self) -> tuple[float, float]:
        """Return the mean of other − first and its standard error; nan for one example."""
        mean, se = mean_and_se(self.n, self.total, self.squares)
        return mean.item(), se.item()


class RateDistortion(Float64Metric):
    r"""Mean D, R and :math:`D + βR` over examples, each with its standard error.

    Sums are kept in float64, so the result does not depend on the batch size or on the number
    of processes; what is added may be on another device.

    Args:
        beta: The β of the objective.
        unit: Of D: ``nats``, or empty for a distortion function's own.

    Example:
        >>> metric = RateDistortion(beta=1.0)
        >>> metric.update(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 1.0]))
        >>> metric.compute()["objective_nats"]
        5.0
    """

    n: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(self, beta: float, unit: str = "nats") -> None:
        super().__init__()
        self.beta = beta
        self.suffix = f"_{unit}" if unit else ""
        self.add_sums(n=(), sums=(3,), squares=(3,))

    def update(self, distortion: Tensor, rate: Tensor, objective: Tensor | None = None) -> None:
        """Add examples.

        Args:
            distortion: D, nats per example, or in its own units: (B,).
            rate: R, nats per example: (B,).
            objective: What was minimised, in units of D: (B,); D + βR by default.
        """
        distortion, rate = (v.to(self.sums.device).double() for v in (distortion, rate))
        if objective is None:
            objective = distortion + self.beta * rate
        values = torch.stack([rate, distortion, objective.to(distortion)])
        self.n += len(distortion)
        self.sums += values.sum(1)
        self.squares += values.square().sum(1)

    def compute(self) -> dict[str, float]:
        """Return the means and standard errors.

        Returns:
            ``beta, rate_nats, rate_se, distortion_nats, distortion_se, objective_nats,
            neg_elbo_nats, objective_se, n``; a standard error of one example is nan. With D in
            units of its own, ``distortion`` and ``objective``, and no −ELBO.
        """
        mean, se = mean_and_se(self.n, self.sums, self.squares)
        rate, distortion, objective = mean.tolist()
        rate_se, distortion_se, objective_se = se.tolist()
        return {
            "beta": self.beta,
            "rate_nats": rate,
            "rate_se": rate_se,
            f"distortion{self.suffix}": distortion,
            "distortion_se": distortion_se,
            f"objective{self.suffix}": objective,
            **({"neg_elbo_nats": distortion + rate} if self.suffix else {}),
            "objective_se": objective_se,
            "n": int(self.n),
        }
