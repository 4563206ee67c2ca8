import math

import numpy as np
import pytest
import torch

from multibeta.metrics import RateDistortion


def test_against_numpy_and_any_batching():
    rng = np.random.default_rng(0)
    distortion, rate = rng.normal(1000, 3, 101), rng.normal(20, 2, 101)
    whole, parts = RateDistortion(0.3), RateDistortion(0.3)
    whole.update(torch.tensor(distortion), torch.tensor(rate))
    for rows in np.array_split(np.arange(101), 7):
        parts.update(torch.tensor(distortion[rows]), torch.tensor(rate[rows]))
    result = whole.compute()
    assert parts.compute() == pytest.approx(result, rel=1e-9)
    objective = distortion + 0.3 * rate
    for name, values in {"rate": rate, "distortion": distortion, "objective": objective}.items():
        assert result[f"{name}_nats"] == pytest.approx(values.mean())
        assert result[f"{name}_se"] == pytest.approx(values.std(ddof=1) / math.sqrt(101))
    assert result["neg_elbo_nats"] == pytest.approx((distortion + rate).mean())
    assert result["n"] == 101


def test_merged_states_are_the_whole():
    x = torch.rand(2, 10, dtype=torch.float64)
    whole, halves = RateDistortion(1.0), [RateDistortion(1.0) for _ in range(2)]
    whole.update(*x)
    for half, part in zip(halves, x.chunk(2, dim=1), strict=True):
        half.update(*part)
    summed = RateDistortion(1.0)
    for name in ("n", "sums", "squares"):
        setattr(summed, name, sum(getattr(half, name) for half in halves))
    summed._update_count = 1
    assert summed.compute() == pytest.approx(whole.compute())


def test_sums_stay_where_float64_is():
    metric = RateDistortion(1.0)
    assert metric.beside(torch.device("mps")).sums.device.type == "cpu"
    assert metric.beside(torch.device("cpu")) is metric


def test_sums_are_float64():
    metric = RateDistortion(1.0)
    for _ in range(1000):
        metric.update(torch.full((1,), 1e5), torch.full((1,), 0.1))
    assert metric.compute()["rate_nats"] == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)
