"""What conditioning and the package cost, as ratios of interleaved runs.

    python -m benchmarks.speed

Results: speed_step.json (training step with and without conditioning, parameters, peak memory) and
speed_curve.json (the curve at 16 β's against 16 evaluations of a plain VAE). Each that is there is
skipped.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim import Adam

import multibeta
from benchmarks.record import is_done, save
from multibeta.betas import parse_betas
from multibeta.model import MultiBetaVAE, evaluation_noise
from multibeta.networks import MLP, Conv, Network, ResNet

COMMAND = "python -m benchmarks.speed"
CASES: dict[str, tuple[Network, tuple[int, int, int], int]] = {
    "resnet 1×28×28, batch 64": (ResNet(), (1, 28, 28), 64),
    "mlp 1×28×28, batch 128": (MLP(), (1, 28, 28), 128),
    "conv 3×64×64, batch 64": (Conv(), (3, 64, 64), 64),
}
ROUNDS = 60
EXAMPLES, CURVES = 4096, 4


def made(network: Network, shape: tuple[int, int, int], kind: str) -> MultiBetaVAE:
    """Return a model with or without conditioning."""
    betas = "1" if kind == "none" else "0.01:10"
    return MultiBetaVAE(shape, network=network, conditioning=kind, betas=betas)


def stepper(model: MultiBetaVAE, batch: int) -> Callable[[], None]:
    """Return a function that makes one training step."""
    x = (torch.rand(batch, *model.shape) > 0.8).float()
    optimizer = Adam(model.parameters(), lr=model.lr, fused=True)

    def step() -> None:
        beta = model.beta_range.draw(batch, model.draw, ends=model.ends)
        terms = model.elbo_terms(x, beta)
        objective = terms.distortion_nats + beta * terms.rate_nats
        loss = (objective / (1 + beta) ** model.balance).mean() / x[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def interleaved(
    steps: dict[str, Callable[[], Any]], rounds: int, first: int = 5
) -> dict[str, list[float]]:
    """Return the seconds of each, a value a round after the first ones, the order alternating."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + first):
        for name in sorted(steps, reverse=bool(i % 2)):
            start = time.perf_counter()
            steps[name]()
            if i >= first:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> dict[str, float]:
    """Return the ratio of two medians, and the quartiles of the single rounds' ratios."""
    rounds = [a / b for a, b in zip(seconds[over], seconds[under], strict=True)]
    low, _, high = statistics.quantiles(rounds, n=4)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "ratio": round(medians[over] / medians[under], 4),
        "quartile_low": round(low, 4),
        "quartile_high": round(high, 4),
        "seconds": round(medians[over], 6),
    }


def step() -> None:
    """Measure the training step, parameters and peak memory."""
    found: dict[str, Any] = {}
    for name, (network, shape, batch) in CASES.items():
        models = {kind: made(network, shape, kind) for kind in ("film", "gate", "none")}
        seconds = interleaved({kind: stepper(m, batch) for kind, m in models.items()}, ROUNDS)
        found[name] = {
            kind: ratio(seconds, kind, "none")
            | {"parameters": sum(p.numel() for p in models[kind].parameters())}
            | {"peak_memory_mib": _in_process("--memory", name, kind)}
            for kind in models
        }
        print(name, found[name])
    save("speed_step", COMMAND, {"rounds": ROUNDS, "cases": found})


def memory(name: str, kind: str) -> None:
    """Print the peak memory of this process after 20 training steps."""
    network, shape, batch = CASES[name]
    take = stepper(made(network, shape, kind), batch)
    for _ in range(20):
        take()
    # Not getrusage: its maximum begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def _in_process(*arguments: str) -> float:
    command = [sys.executable, "-m", "benchmarks.speed", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]), 1)


@torch.no_grad()
def curve() -> None:
    """Measure the curve at 16 β's against 16 evaluations of a plain VAE."""
    network, shape, _ = CASES["resnet 1×28×28, batch 64"]
    model, plain = made(network, shape, "film"), made(network, shape, "none").at_beta(1)
    batches = list((torch.rand(EXAMPLES, *shape) > 0.8).float().split(64))
    betas = parse_betas("0.01:10")

    def evaluations() -> None:
        for _ in betas:
            total = torch.zeros(2, dtype=torch.float64)
            for index, x in enumerate(batches):
                noise = evaluation_noise(batches, index, len(x), model.latent_dim)
                terms = plain.elbo_terms(x, noise)
                total += torch.stack([terms.distortion_nats.sum(), terms.rate_nats.sum()]).double()

    sweep = {
        "curve": lambda: multibeta.sweep(model, batches, betas),
        "16 evaluations": evaluations,
    }
    seconds = interleaved(sweep, CURVES, 1)
    found = ratio(seconds, "curve", "16 evaluations")
    print("curve", found)
    save("speed_curve", COMMAND, {"betas": len(betas), "examples": EXAMPLES, **found})


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        memory(*given.memory)
        return
    if not is_done("speed_step"):
        step()
    if not is_done("speed_curve"):
        curve()


if __name__ == "__main__":
    main()
