"""The steps of the grids that codes are rounded to, found from the model alone."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multibeta.codec.tables import step_of
from multibeta.vae import BetaVAE

__all__ = [
    "DEAD", "Grid", "fingerprint", "grid_of", "log_steps", "probes", "repeated", "rows", "whole",
]  # fmt: skip

DEAD = 0.98
"""A latent with σ above this tells nothing, and is not coded."""

_LEAST, _MOST = 64, 4_096  # codes that are decoded to find the steps, and how many values of them
_SEED = 0
_WIDER = 2**0.25
_AT, _BEST = (0.7, 0.8), (1.17, 1.49)  # σ: best step / (√12 σ); it goes on rising, and J is flat
_FINEST = 320  # steps are at least 2⁻⁴⁰
_FARTHEST = 2**60  # the largest number of steps; those that are read may have one bit more


@dataclass(frozen=True)
class Grid:
    r"""A grid of codes: one step for each latent; of a map, for each channel.

    .. math:: Δ_j = f(σ_j) \sqrt{12} \, σ_j, \quad \log σ_j = E[\log σ_j(\hat x)],
        \quad \hat x = E[x|z], \quad z \sim \mathcal N(0, I)

    rounded to the nearest power of :math:`2^{1/8}`; see :func:`log_steps`. Both sides compute it
    from the model in float64, so a file need not tell it.

    Attributes:
        exponents: e of each step 2^(−e/8): (G,).
        live: Whether the latent is coded: (G,).
        per: How many values a latent has: 1, or the positions of a map.
        latent_shape: That of z.
    """

    exponents: tuple[int, ...]
    live: tuple[bool, ...]
    per: int
    latent_shape: tuple[int, ...]

    @property
    def steps(self) -> np.ndarray:
        """Δ: (G,), float64."""
        return np.array([step_of(e) / 2**64 for e in self.exponents])

    @property
    def digest(self) -> bytes:
        """What a checksum has of it."""
        return repr((self.exponents, self.live)).encode()

    def codes(self, numbers: np.ndarray) -> Tensor:
        """Return z = kΔ, (n, *latent shape), float64, for numbers k (G, n·per)."""
        return self.shaped(numbers * self.steps[:, None])

    def shaped(self, values: np.ndarray) -> Tensor:
        """Return rows of each latent (G, n·per) as codes (n, *latent shape)."""
        groups = torch.from_numpy(values.reshape(len(self.live), -1, self.per))
        return groups.transpose(0, 1).reshape(-1, *self.latent_shape)

    def spread(self, values: np.ndarray) -> Tensor:
        """Return what each latent has, (G,), beside z: (G, 1, …), of as many axes as a code."""
        ones = (1,) * (len(self.latent_shape) - 1)
        return torch.from_numpy(values).reshape(-1, *ones)


def log_steps(log_std: np.ndarray) -> np.ndarray:
    r"""Return log Δ of latents for log σ of their posterior.

    .. math:: Δ = f(σ) \sqrt{12} \, σ

    Uniform noise √12 σ wide has the posterior's variance. Where σ is small, J = D + β·nats of a
    code on a grid is least at that width. f(σ) is how many times wider the best step is where σ
    is large: of a Gaussian latent whose means are rounded and coded at their entropy, numerically.
    It is 2^(1/4) at least, where J is flat: .04 nats a latent more, while a quarter of a bit goes,
    which is what rounding costs beyond R.

    Args:
        log_std: log σ, of any shape.

    References:
        Farvardin & Modestino 1984, "Optimum quantizer performance for a class of non-Gaussian
        memoryless sources" (entropy-coded uniform quantisers).
    """
    wider = np.exp(np.interp(np.exp(log_std), _AT, np.log(_BEST)))
    return math.log(12) / 2 + log_std + np.log(np.maximum(wider, _WIDER))


def rows(z: Tensor) -> np.ndarray:
    """Return codes (n, G, …) as rows of each latent: (G, n·per), float64."""
    return z.double().transpose(0, 1).flatten(1).cpu().numpy()


def whole(numbers: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Return numbers of steps as int64, those of dead latents as 0.

    Args:
        numbers: (G, M), float64.
        live: Whether a latent is coded: (G,).

    Raises:
        ValueError: If one is not finite, or too far from 0 to be coded.
    """
    numbers = np.where(live[:, None], numbers, 0.0)
    if not np.isfinite(numbers).all():
        raise ValueError(
            "the posterior's mean is not finite for some of these examples; leave them out, or "
            "choose another β or checkpoint"
        )
    if (np.abs(numbers) >= _FARTHEST).any():
        raise ValueError(
            "the posterior's mean is too far from 0 for some of these examples: more than 2⁶⁰ "
            "steps; choose a higher β"
        )
    return np.rint(numbers).astype(np.int64)


def probes(latent_shape: tuple[int, ...], device: Any) -> Tensor:
    """Return the same codes of N(0, I) on each machine: (n, *latent shape), float64."""
    size = math.prod(latent_shape)
    n = max(_LEAST // 4, min(4 * _LEAST, _MOST // size))
    uniform, normal = random.Random(_SEED).random, NormalDist().inv_cdf
    values = [normal(min(max(uniform(), 1e-9), 1 - 1e-9)) for _ in range(n * size)]
    return torch.tensor(values, dtype=torch.float64, device=device).reshape(n, *latent_shape)


@torch.no_grad()
def grid_of(vae: BetaVAE, inputs: Mapping[str, Any]) -> Grid:
    """Return the grid of a plain VAE.

    Args:
        vae: In float64.
        inputs: Further inputs, a row for each example: those of the first examples are used.

    Raises:
        ValueError: If the model is not finite there.
    """
    shape = vae.latent_shape
    z = probes(shape, next(vae.parameters()).device)
    inputs = {k: repeated(v, len(z)) for k, v in inputs.items()}
    q = vae.encode(vae.decode(z, **inputs).mean, **inputs)
    logs = q.stddev.double().log().transpose(0, 1).flatten(1).mean(1).cpu()
    if not logs.isfinite().all():
        raise ValueError(
            "the posterior of decoded codes is not finite, so there is no grid; measure the model "
            "by multibeta curve, and choose another β or checkpoint"
        )
    steps = log_steps(logs.numpy()) / math.log(2)
    exponents = [round(-8 * step) for step in steps.tolist()]
    if max(exponents) > _FINEST:
        raise ValueError(
            f"a latent has σ = {logs.min().exp().item():.3g}, too fine for a file; choose a "
            "higher β"
        )
    live = tuple(log < math.log(DEAD) for log in logs.tolist())
    return Grid(tuple(exponents), live, math.prod(shape[1:]), shape)


def fingerprint(model: torch.nn.Module, settings: str) -> bytes:
    """Return 32 bytes of BLAKE2b over the names, types, shapes and values of a model's state."""
    digest = hashlib.blake2b(settings.encode(), digest_size=32)
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            plain = value.detach().cpu().contiguous()
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def repeated(value: Any, n: int) -> Any:
    """Return n rows of what each example has, the first rows again where there are too few."""
    if not (isinstance(value, Tensor) and value.ndim and len(value)):
        return value
    return value[torch.arange(n, device=value.device) % len(value)]
