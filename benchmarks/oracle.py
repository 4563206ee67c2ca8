"""The linear VAE against the closed-form optimum, at 20 β's in [.01, 10].

    python -m benchmarks.oracle DATA_ROOT [--jobs 2]

Two sources: statically binarised MNIST with 32 latents and σ² = ½ (DATA_ROOT holds
binarized_mnist/), where the optimum is that of the training set's covariance and J is measured on
the training set; and the Gaussian source of gaussian.yaml, where the optimum is Shannon's R(D).
Finished runs are skipped. The summary is oracle.json.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import torch

from benchmarks.record import save
from benchmarks.runs import Run, arguments, curve_of, falls, make, self_regret
from multibeta.curve import Curve
from multibeta.data import BinarizedMNIST
from multibeta.data.gaussian import water_filling

SEEDS = (0, 1, 2)
COMMAND = "python -m benchmarks.oracle DATA_ROOT"
BETAS = "0.01:10:20"
SIGMA, LATENTS = math.sqrt(0.5), 32
MNIST = (
    "--config=binarized_mnist.yaml",
    "--data.root=DATA_ROOT",
    "--data.batch_size=256",
    "--model.network=Linear",
    f"--model.latent_dim={LATENTS}",
    "--model.likelihood=Gaussian",
    f"--model.likelihood.sigma={SIGMA!r}",
    "--trainer.max_epochs=100",
    "--trainer.limit_val_batches=0",
)
GAUSSIAN = ("--config=gaussian.yaml", "--trainer.limit_val_batches=0")


def run(source: str, seed: int) -> Run:
    """Return a run on ``mnist`` or ``gaussian``."""
    options, split = (MNIST, "train") if source == "mnist" else (GAUSSIAN, "test")
    return Run(
        f"oracle_{source}_seed{seed}", (*options, f"--seed_everything={seed}"), {split: BETAS}
    )


def spectrum(root: str) -> list[float]:
    """Return the eigenvalues of the covariance of MNIST's training set."""
    data = BinarizedMNIST(root=root)
    data.setup()
    x = torch.as_tensor(data.splits["train"]).flatten(1).double() / 255
    return torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).clamp(min=0).flip(0).tolist()


def excess(curve: Curve, eigenvalues: list[float]) -> list[float]:
    """Return J(β) − J*(β) at each β, in nats, for MNIST."""
    optima = [water_filling(eigenvalues, beta, SIGMA, LATENTS) for beta in curve["beta"]]
    return [
        row["objective_nats"] - (distortion + row["beta"] * rate)
        for row, (rate, distortion) in zip(curve.rows, optima, strict=True)
    ]


def summary(root: str) -> dict[str, Any]:
    """Return the excess over the optimum, for each seed."""
    found: dict[str, Any] = {"seeds": len(SEEDS)}
    eigenvalues = spectrum(root)
    for source in ("mnist", "gaussian"):
        names = [run(source, seed).name for seed in SEEDS]
        curves = [curve_of(name, "train" if source == "mnist" else "test") for name in names]
        rows = [
            excess(curve, eigenvalues) if source == "mnist" else curve["excess_nats"]
            for curve in curves
        ]
        found[source] = {
            "beta": curves[0]["beta"],
            "excess_nats": rows,
            "mean": [fmean(row) for row in rows],
            "max": [max(row) for row in rows],
            "self_regret": [self_regret(curve) for curve in curves],
            "rate_falls": [falls(curve) for curve in curves],
        }
    return found


def main() -> None:
    """Make what is missing, and the summary."""
    given = arguments(__doc__).parse_args()
    runs = [run(source, seed) for source in ("mnist", "gaussian") for seed in SEEDS]
    make(runs, COMMAND, given.root, given.jobs)
    found = summary(given.root)
    save("oracle", COMMAND, found)
    for source in ("mnist", "gaussian"):
        means, worst = found[source]["mean"], found[source]["max"]
        print(f"{source}: mean excess {fmean(means):.3f} nats, at most {max(worst):.3f}")


if __name__ == "__main__":
    main()
