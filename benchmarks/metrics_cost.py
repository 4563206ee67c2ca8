"""What a metric costs: seconds over the number of β's and of examples, and the memory.

    python -m benchmarks.metrics_cost

On the digits' network with random weights and random pictures, in as many threads as there are
cores. The result is metrics_cost.json.
"""

from __future__ import annotations

import math
import resource
import time
from typing import Any

import torch

import multibeta
from benchmarks.record import is_done, save
from multibeta.divergences import aggregated_rate_terms
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP

COMMAND = "python -m benchmarks.metrics_cost"
METRICS = ("", "active_units", "alignment", "information", "nll", "psnr")
EXAMPLES = (2_500, 5_000, 10_000, 20_000)
BETAS = (2, 4, 8)


def decomposition() -> list[dict[str, float]]:
    """Time the decomposition of the rate by all pairs, with 32 latents."""
    rows = []
    for n in EXAMPLES[:3]:
        mean, std = torch.randn(n, 32), torch.rand(n, 32) + 0.1
        start = time.perf_counter()
        aggregated_rate_terms(mean + std * torch.randn(n, 32), mean, std)
        rows.append({"examples": n, "latents": 32, "seconds": time.perf_counter() - start})
    return rows


def seconds(metric: str, betas: int, examples: int) -> float:
    """Time a sweep."""
    torch.manual_seed(0)
    model = MultiBetaVAE.of((1, 8, 8), network=MLP(256), latent_dim=16)
    batches = torch.rand(examples, 1, 8, 8).split(500)
    start = time.perf_counter()
    multibeta.sweep(model, batches, f"0.01:10:{betas}", metrics=metric)
    return time.perf_counter() - start


def main() -> None:
    """Measure and write."""
    if is_done("metrics_cost"):
        return
    found: dict[str, Any] = {"decomposition": decomposition(), "metrics": {}}
    seconds("", 2, 1_000)  # the first use of everything
    for metric in METRICS:
        over_betas = {k: seconds(metric, k, EXAMPLES[1]) for k in BETAS}
        over_examples = {n: seconds(metric, BETAS[0], n) for n in EXAMPLES}
        found["metrics"][metric or "rate and distortion"] = {
            "betas": over_betas,
            "examples": over_examples,
            "power_of_betas": _power(over_betas),
            "power_of_examples": _power(over_examples),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    save("metrics_cost", COMMAND, {**found, "peak_memory_mib": round(peak)})


def _power(times: dict[int, float]) -> float:
    """Return p of the last doubling: seconds ∝ (number)^p."""
    (a, s), (b, t) = list(times.items())[-2:]
    return math.log(t / s) / math.log(b / a)


if __name__ == "__main__":
    main()
