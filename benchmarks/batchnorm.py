"""What it costs that all β's share BatchNorm's statistics, and what measuring them again brings.

    python -m benchmarks.batchnorm DATA_ROOT

A convolutional VAE of a user's making, its decoder with BatchNorm or GroupNorm, on clothes
(DATA_ROOT holds fashion_mnist/): one model for β in 0.01:10, then J on the test set at each β,
with the statistics of the training, with those measured again at that β, and with GroupNorm; in
training the β's of a batch differ, or, *apart*, each batch has its own. A result file each, and
batchnorm.json; finished ones are skipped.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import multibeta
from benchmarks.record import is_done, save
from benchmarks.runs import arguments, result_of
from multibeta.betas import Draws
from multibeta.likelihoods import Bernoulli
from multibeta.vae import BetaVAE

COMMAND = "python -m benchmarks.batchnorm DATA_ROOT"
BETAS = (0.01, 0.1, 1.0, 10.0)
EPOCHS, BATCH, LR, SEEDS = 3, 128, 2e-3, (0, 1)


def norm(kind: str, channels: int) -> nn.Module:
    """Return a normalisation of maps."""
    return nn.GroupNorm(8, channels) if kind == "group" else nn.BatchNorm2d(channels)


def networks(kind: str) -> tuple[nn.Module, nn.Module]:
    """Return an encoder and a decoder, as a user writes them."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), norm(kind, 32), nn.SiLU(),
        nn.Conv2d(32, 64, 4, 2, 1), norm(kind, 64), nn.SiLU(),
        nn.Flatten(), nn.Linear(64 * 49, 32),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(16, 64 * 49), nn.Unflatten(1, (64, 7, 7)), norm(kind, 64), nn.SiLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), norm(kind, 32), nn.SiLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1),
    )  # fmt: skip
    return encoder, decoder


def objective(vae: BetaVAE, x: Tensor, beta: float) -> float:
    """Return D + βR, the mean over examples."""
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    with torch.no_grad():
        for part in x.split(500):
            noise = torch.randn(len(part), *vae.latent_shape, generator=generator)
            terms = vae.elbo_terms(part, noise)
            total += (terms.distortion + beta * terms.rate_nats).double().sum().item()
    return total / len(x)


def run(kind: str, seed: int, root: str) -> None:
    """Train one model and measure it."""
    name = f"batchnorm_{kind}_seed{seed}"
    if is_done(name):
        return
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    arrays = np.load(Path(root) / "fashion_mnist" / "fashion_mnist.npz")
    train, test = (torch.from_numpy(arrays[k]) for k in ("train", "test"))
    test = test.float() / 255
    vae = multibeta.wrap(
        *networks(kind), betas="0.01:10", likelihood=Bernoulli(), example=test[:64],
        draws=Draws(
            per="batch" if kind == "batch_apart" else "example", betas_per_example=2
        ),
    ).train()  # fmt: skip
    optimizer = torch.optim.Adam(vae.parameters(), lr=LR)
    steps, start, step = EPOCHS * (len(train) // BATCH), time.perf_counter(), 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train)).split(BATCH)[: len(train) // BATCH]:
            rate = min(1.0, 20 * (step + 1) / steps) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = LR * rate
            vae.loss(train[rows].float() / 255, step / steps).backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    vae.eval()
    rows: list[dict[str, Any]] = []
    for beta in BETAS:
        plain = vae.at_beta(beta)
        row = {"beta": beta, "objective_nats": objective(plain, test, beta)}
        if kind != "group":
            again = plain.recalibrated(list((train[:5000].float() / 255).split(500)))
            row["recalibrated_nats"] = objective(again, test, beta)
        rows.append(row)
    save(name, COMMAND, {"steps": step, "seconds": time.perf_counter() - start, "rows": rows})


def main() -> None:
    """Make what is missing, and the summary."""
    given = arguments(__doc__).parse_args()
    for seed in SEEDS:
        for kind in ("batch", "batch_apart", "group"):
            run(kind, seed, given.root)
    found = {}
    for name, kind, column in (
        ("BatchNorm, β's mixed in a batch", "batch", "objective_nats"),
        ("…, statistics measured again at β", "batch", "recalibrated_nats"),
        ("BatchNorm, one β a batch", "batch_apart", "objective_nats"),
        ("…, measured again at β", "batch_apart", "recalibrated_nats"),
        ("GroupNorm, β's mixed", "group", "objective_nats"),
    ):
        of = [result_of(f"batchnorm_{kind}_seed{seed}")["rows"] for seed in SEEDS]
        values = np.array([[row[column] for row in rows] for rows in of])
        se = values.std(0, ddof=1) / math.sqrt(len(SEEDS))
        found[name] = {
            f"{beta:g}": {"mean": round(float(m), 2), "se": round(float(s), 2)}
            for beta, m, s in zip(BETAS, values.mean(0), se, strict=True)
        }
    save("batchnorm", COMMAND, {"epochs": EPOCHS, "seeds": len(SEEDS), "objective_nats": found})


if __name__ == "__main__":
    main()
