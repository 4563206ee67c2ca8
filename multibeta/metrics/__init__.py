"""What is measured, as torchmetrics whose states are sums: n processes give one result."""

from multibeta.metrics.rate_distortion import RateDistortion

__all__ = ["RateDistortion"]
