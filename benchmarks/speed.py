"""What conditioning and the package cost, as ratios of interleaved runs.

    python -m benchmarks.speed DATA_ROOT

Results: speed_step.json (training step with and without conditioning, parameters, peak memory),
speed_curve.json (the curve at 16 β's against 16 evaluations of a plain VAE) and speed_fit.json
(``multibeta fit`` against a bare PyTorch loop, in processor time). Each that is there is skipped.
DATA_ROOT holds binarized_mnist/. The comparison with pythae, in an environment of its own, is
benchmarks.speed_pythae.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

import multibeta
from benchmarks.clock import Clock
from benchmarks.record import is_done, save
from multibeta.betas import Draws, parse_betas
from multibeta.cli import main as command_line
from multibeta.data import BinarizedMNIST
from multibeta.data.examples import read
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP, Conv, Network, ResNet
from multibeta.noise import evaluation_noise

COMMAND = "python -m benchmarks.speed DATA_ROOT"
CASES: dict[str, tuple[Network, tuple[int, int, int], int]] = {
    "resnet 1×28×28, batch 64": (ResNet(), (1, 28, 28), 64),
    "mlp 1×28×28, batch 128": (MLP(), (1, 28, 28), 128),
    "conv 3×64×64, batch 64": (Conv(), (3, 64, 64), 64),
}
# The network, batch size and steps of a training on binarised MNIST.
FITS = {
    "resnet, batch 64": ("ResNet", 64, 100),
    "mlp, batch 128": ("MLP", 128, 390),
}
NETWORKS: dict[str, type[Network]] = {"ResNet": ResNet, "MLP": MLP}
ROUNDS = 30
EXAMPLES, CURVES = 10_000, 4
PAIRS = 7


# What a training step is measured with: the conditioning, and the β's of each example.
KINDS = {
    "film": ("film", 1), "film, 2 β's": ("film", 2), "film, 8 β's": ("film", 8),
    "gate": ("gate", 1), "none": ("none", 1),
}  # fmt: skip


def made(network: Network, shape: tuple[int, int, int], kind: str) -> MultiBetaVAE:
    """Return a model of one of the kinds."""
    conditioning, betas_per_example = KINDS[kind]
    return MultiBetaVAE.of(
        shape,
        network=network,
        conditioning=conditioning,
        betas="1" if conditioning == "none" else "0.01:10",
        draws=Draws(betas_per_example=betas_per_example),
    )


def in_torchs_layout(model: MultiBetaVAE) -> MultiBetaVAE:
    """Return the model with its weights as PyTorch lays them out, not as this package does."""
    return model.to(memory_format=torch.contiguous_format)


def stepper(model: MultiBetaVAE) -> Callable[[Tensor], None]:
    """Return a function that makes one training step on x (B, C, H, W)."""
    optimizer = Adam(model.parameters(), lr=2e-3, fused=True)

    def step(x: Tensor) -> None:
        loss = model.loss(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def interleaved(
    steps: dict[str, Callable[[], Any]],
    rounds: int,
    first: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each, a value a round after the first ones, the order alternating."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + first):
        for name in sorted(steps, reverse=bool(i % 2)):
            start = clock()
            steps[name]()
            if i >= first:
                seconds[name].append(clock() - start)
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
    """Measure the training step (processor time, one thread), parameters and peak memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, (network, shape, batch) in CASES.items():
        models = {kind: made(network, shape, kind) for kind in KINDS}
        x = (torch.rand(batch, *shape) > 0.8).float()
        steps = {kind: partial(stepper(model), x) for kind, model in models.items()}
        seconds = interleaved(steps, ROUNDS, clock=time.process_time)
        found[name] = {
            kind: ratio(seconds, kind, "none")
            | {"parameters": sum(p.numel() for p in models[kind].parameters())}
            | {"peak_memory_mib": _in_process(".", "--memory", name, kind)}
            for kind in models
        }
        print(name, found[name])
    torch.set_num_threads(threads)
    save("speed_step", COMMAND, {"rounds": ROUNDS, "cases": found})


def memory(name: str, kind: str) -> None:
    """Print the peak memory of this process after 5 training steps."""
    network, shape, batch = CASES[name]
    take, x = stepper(made(network, shape, kind)), torch.rand(batch, *shape)
    for _ in range(5):
        take(x)
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
    model, plain = made(network, shape, "film"), in_torchs_layout(made(network, shape, "none"))
    plain = plain.at_beta(1)
    batches = list((torch.rand(EXAMPLES, *shape) > 0.8).float().split(64))
    betas = parse_betas("0.01:10")

    def evaluations() -> None:
        for _ in betas:
            total = torch.zeros(2, dtype=torch.float64)
            for index, x in enumerate(batches):
                noise = evaluation_noise(batches, index, len(x), model.latent_shape)
                terms = plain.elbo_terms(x, noise)
                total += torch.stack([terms.distortion.sum(), terms.rate_nats.sum()]).double()

    sweep = {
        "curve": lambda: multibeta.sweep(model, batches, betas),
        "16 evaluations": evaluations,
    }
    seconds = interleaved(sweep, CURVES, 1)
    found = ratio(seconds, "curve", "16 evaluations")
    print("curve", found)
    save("speed_curve", COMMAND, {"betas": len(betas), "examples": EXAMPLES, **found})


def fit_seconds(root: str, case: str, *options: str) -> float:
    """Return the processor time of the training steps of one ``multibeta fit``, in seconds."""
    network, batch, steps = FITS[case]
    with tempfile.TemporaryDirectory() as to, contextlib.redirect_stderr(io.StringIO()):
        code = command_line(
            ["fit", "--config=binarized_mnist.yaml", f"--data.root={root}",
             f"--data.batch_size={batch}", f"--model.network={network}", "--trainer.max_epochs=1",
             f"--trainer.limit_train_batches={steps}", "--trainer.limit_val_batches=0",
             "--trainer.accelerator=cpu", f"--trainer.default_root_dir={to}",
             "--trainer.callbacks+=benchmarks.clock.Clock", "--curve.enabled=false", *options]
        )  # fmt: skip
    if code:
        raise RuntimeError("multibeta fit failed")
    return Clock.processor


def pictures(root: str, case: str) -> Tensor:
    """Return the training images that one fit sees, as the data module holds them."""
    _, batch, steps = FITS[case]
    return BinarizedMNIST(root).load()["train"][: batch * steps]


def fit(root: str) -> None:
    """Measure ``multibeta fit`` against a bare loop of the same step over the same tensors.

    The loop clips the gradient and has a schedule, as `fit` has. One thread each.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for case, (network, batch, steps) in FITS.items():
        images = pictures(root, case)

        def bare(network: str = network, images: Tensor = images, batch: int = batch) -> float:
            model = in_torchs_layout(made(NETWORKS[network](), (1, 28, 28), "film"))
            optimizer = Adam(model.parameters(), lr=2e-3, fused=True)
            schedule = CosineAnnealingLR(optimizer, len(images) // batch)
            start = time.process_time()
            for rows in torch.randperm(len(images)).split(batch):
                loss = model.loss(read(images[rows]).x)
                optimizer.zero_grad()
                loss.backward()
                clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            return time.process_time() - start

        found[case] = rates(
            {"fit": partial(fit_seconds, root, case), "bare loop": bare}, batch * steps
        )
        print(case, found[case])
    torch.set_num_threads(threads)
    save("speed_fit", COMMAND, {"pairs": PAIRS, "cases": found})


def rates(sides: dict[str, Callable[[], float]], examples: int) -> dict[str, Any]:
    """Return samples a second, and the ratio of the first side's rate to each other one's.

    Args:
        sides: Each makes one training and returns its seconds.
        examples: How many examples a training sees.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(PAIRS + 1):
        for name in sorted(sides, reverse=bool(i % 2)):
            value = sides[name]()
            if i:  # The first round warms up.
                seconds[name].append(value)
    first, *others = sides
    return {
        "samples_per_second": {
            name: round(examples / statistics.median(values), 1)
            for name, values in seconds.items()
        },
        f"{first}_over": {other: ratio(seconds, other, first) for other in others},
    }


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", metavar="DATA_ROOT", help="the data's folder")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        memory(*given.memory)
        return
    if not is_done("speed_step"):
        step()
    if not is_done("speed_curve"):
        curve()
    if not is_done("speed_fit"):
        fit(given.root)


if __name__ == "__main__":
    main()
