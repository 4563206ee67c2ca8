"""Cost of a folded model: its forward against that of the plain network.

    python -m benchmarks.folding

Pairs are interleaved and their order alternates; a round's time is that of one forward (encoder
and decoder) of a batch. The result is the ratio of the medians, and the spread of the ratio of
the single rounds.
"""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.record import is_done, save
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP, Conv, Network, ResNet

CASES: dict[str, tuple[Network, tuple[int, int, int]]] = {
    "mlp": (MLP(), (1, 28, 28)),
    "conv": (Conv(), (3, 64, 64)),
    "resnet": (ResNet(), (1, 28, 28)),
}
ROUNDS, BATCH = 300, 64


def main() -> None:
    """Measure every network and conditioning."""
    if is_done("folding"):
        return
    torch.set_num_threads(1)
    ratios = {}
    for name, (network, shape) in CASES.items():
        for kind in ("film", "gate"):
            ratios[f"{name}, {kind}"] = ratio(network, shape, kind)
            print(name, kind, ratios[f"{name}, {kind}"])
    save("folding", "python -m benchmarks.folding", {"rounds": ROUNDS, "ratios": ratios})


@torch.no_grad()
def ratio(network: Network, shape: tuple[int, int, int], kind: str) -> dict[str, float]:
    """Return folded time over plain time."""
    conditioned = MultiBetaVAE.of(shape, network=network, conditioning=kind)
    plain = MultiBetaVAE.of(shape, network=network, conditioning="none", betas="1")
    models = {"folded": conditioned.at_beta(0.1), "plain": plain.at_beta(1)}
    x = torch.rand(BATCH, *shape)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for i in range(ROUNDS + 10):
        for name in sorted(models, reverse=bool(i % 2)):
            start = time.perf_counter()
            models[name](x)
            if i >= 10:
                seconds[name].append(time.perf_counter() - start)
    rounds = [a / b for a, b in zip(seconds["folded"], seconds["plain"], strict=True)]
    low, _, high = statistics.quantiles(rounds, n=4)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "ratio": round(medians["folded"] / medians["plain"], 4),
        "quartile_low": round(low, 4),
        "quartile_high": round(high, 4),
        "plain_seconds": round(medians["plain"], 6),
    }


if __name__ == "__main__":
    main()
