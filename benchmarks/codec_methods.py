"""Ways to turn a posterior into a code, measured on one model at one β.

The code length is −log₂ of the probabilities that tables give which were fitted to the codes of
training pictures, the same for all; what a file adds is measured elsewhere. Sources: rounding of
means; variational Bayesian quantisation (Yang, Bamler & Mandt 2020, arXiv 2002.08158); subtractive
dither (Ziv 1985; Agustsson & Theis 2020, arXiv 2006.09952); relative entropy coding by a Poisson
process (Li & El Gamal 2018, arXiv 1701.02827; Flamich et al. 2020, arXiv 2010.01185).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from multibeta.metrics.psnr import psnr
from multibeta.vae import BetaVAE

__all__ = [
    "Coded",
    "Codes",
    "blocks_of",
    "codes_of",
    "dithered",
    "poisson",
    "quality",
    "relative",
    "rounded",
    "steps_of",
    "tuned",
    "vbq",
]

Z = np.ndarray
BATCH = 500


@dataclass(frozen=True)
class Codes:
    """Posteriors of training and of test pictures at one β, of vector codes.

    Args:
        vae: The model.
        train: Means: (M, Z).
        train_x: What they are of, 8-bit.
        mean: Those of the test pictures: (N, Z).
        std: Standard deviations: (N, Z).
        train_std: Those of the training pictures.
        x: The test pictures, in [0, 1].
    """

    vae: BetaVAE
    train: Z
    train_std: Z
    train_x: Tensor
    mean: Z
    std: Z
    x: Tensor

    @property
    def rates(self) -> Z:
        """KL(q ‖ p) of each latent: (N, Z), in bits."""
        variance = self.std**2
        nats = 0.5 * (self.mean**2 + variance - 1) - np.log(self.std)
        return nats / math.log(2)


@dataclass(frozen=True)
class Coded:
    """Codes as the decoder has them, and what they cost.

    Args:
        z: (N, Z).
        bits: Of each picture: (N,).
    """

    z: Z
    bits: Z


@torch.no_grad()
def codes_of(vae: BetaVAE, train_x: Tensor, x: Tensor) -> Codes:
    """Return the posteriors of pictures.

    Args:
        vae: The model at one β.
        train_x: Training pictures, 8-bit.
        x: Test pictures, 8-bit.
    """
    (train, train_std), (mean, std) = (
        [torch.cat([getattr(vae.encode(batch), of) for batch in pictures.split(BATCH)])
         .double().numpy() for of in ("mean", "stddev")]
        for pictures in (train_x, x)
    )  # fmt: skip
    return Codes(vae, train, train_std, train_x, mean, std, x.float() / 255)


def steps_of(codes: Codes) -> Z:
    """Return √12 times the geometric mean of each latent's σ: (Z,)."""
    return math.sqrt(12) * np.exp(np.log(codes.train_std).mean(0))


def _table(symbols: Z, of: Z) -> Z:
    """Return −log₂ p of symbols (N,), by counts of others (M,), each seen half a time more."""
    low = min(symbols.min(), of.min())
    counts = np.bincount(of - low, minlength=symbols.max() - low + 1) + 0.5
    return -np.log2(counts / counts.sum())[symbols - low]


def rounded(codes: Codes, seed: int = 0) -> Coded:
    """Round means to the nearest multiple of a step."""
    steps = steps_of(codes)
    k, of = (np.rint(means / steps).astype(int) for means in (codes.mean, codes.train))
    bits = sum(_table(k[:, j], of[:, j]) for j in range(k.shape[1]))
    return Coded(k * steps, np.asarray(bits))


def dithered(codes: Codes, seed: int = 0) -> Coded:
    """Round after a shift by uniform noise that the decoder draws as well, and shift back.

    The probability of a cell is that of the training means in it, with one per cent of N(0, 1).
    """
    steps, draw = steps_of(codes), np.random.default_rng(seed)
    shift = draw.uniform(-0.5, 0.5, codes.mean.shape) * steps
    z = np.rint((codes.mean - shift) / steps) * steps + shift
    bits = np.zeros(len(z))
    for j, step in enumerate(steps):
        means = np.sort(codes.train[:, j])
        low, high = z[:, j] - step / 2, z[:, j] + step / 2
        seen = (np.searchsorted(means, high) - np.searchsorted(means, low)) / len(means)
        mass = 0.99 * seen + 0.01 * (norm.cdf(high) - norm.cdf(low))
        bits -= np.log2(np.maximum(mass, 1e-12))
    return Coded(z, bits)


def vbq(codes: Codes, price: float = 1.0, depth: int = 10, rounds: int = 8) -> Coded:
    r"""Quantise by variational Bayesian quantisation.

    Code points are the quantiles of N(0, 1) at binary fractions; r digits at first cost r bits.
    Each latent has the point with the least :math:`(\hat z - μ)^2 / 2σ^2 + λ \cdot` nats. Once
    more with the code lengths of the points that the training pictures have chosen.

    Args:
        codes: The posteriors.
        price: λ; 1 where σ² is the variance of the posterior at β.
        depth: Most digits.
        rounds: How often the lengths are counted anew on the training pictures.
    """
    z, bits = np.empty_like(codes.mean), np.zeros(len(codes.mean))
    for j in range(z.shape[1]):
        digits = np.concatenate([np.full(2 ** (r - 1), r) for r in range(1, depth + 1)])
        points = np.concatenate(
            [norm.ppf((2 * np.arange(2 ** (r - 1)) + 1) / 2**r) for r in range(1, depth + 1)]
        )
        lengths = digits.astype(float)
        for _ in range(rounds):
            chosen = _cheapest(codes.train[:, j], codes.train_std[:, j], points, lengths, price)
            counts = np.bincount(chosen, minlength=len(points)) + 0.5 ** (digits + 1)
            lengths = -np.log2(counts / counts.sum())
        chosen = _cheapest(codes.mean[:, j], codes.std[:, j], points, lengths, price)
        z[:, j] = points[chosen]
        bits += lengths[chosen]
    return Coded(z, bits)


def _cheapest(mean: Z, std: Z, points: Z, lengths: Z, price: float) -> Z:
    """Return the cheapest point of each mean: (N,); all points are tried."""
    found = np.empty(len(mean), int)
    nats = price * math.log(2) * lengths
    for start in range(0, len(mean), BATCH):
        part = slice(start, start + BATCH)
        apart = (points - mean[part, None]) ** 2 / (2 * std[part, None] ** 2)
        found[part] = (apart + nats).argmin(1)
    return found


def relative(codes: Codes, seed: int = 0) -> Coded:
    """Send a sample of q at what theory promises: R + log₂(R + 1) + 4 bits a picture."""
    draw = np.random.default_rng(seed)
    rate = codes.rates.sum(1)
    z = codes.mean + codes.std * draw.standard_normal(codes.mean.shape)
    return Coded(z, rate + np.log2(rate + 1) + 4)


def blocks_of(rates: Z, most: float = 9.0) -> list[list[int]]:
    """Return latents in blocks whose mean rates add up to at most so many bits, if they can.

    Args:
        rates: The mean rate of each latent: (Z,), in bits.
        most: Of a block.
    """
    blocks: list[list[int]] = []
    sums: list[float] = []
    for j in np.argsort(-rates):
        place = next((b for b, total in enumerate(sums) if total + rates[j] <= most), None)
        if place is None:
            blocks.append([])
            sums.append(0.0)
            place = len(blocks) - 1
        blocks[place].append(int(j))
        sums[place] += float(rates[j])
    return blocks


def poisson(codes: Codes, seed: int = 0, candidates: int = 2**15, most: float = 9.0) -> Coded:
    r"""Send a sample of q by relative entropy coding, for real, block by block.

    Of candidates :math:`z_i \sim N(0, I)` with arrival times :math:`T_i` of a Poisson process,
    both drawn by the decoder as well, the one with the least :math:`T_i \, p(z_i) / q(z_i)` is
    sent, by its number i with probabilities :math:`\propto i^{-1 - 1/(K + 1)}`, K the block's mean
    rate in nats. With so many candidates the sample is nearly of q while a block's rate is some
    bits below their logarithm.

    Args:
        codes: The posteriors.
        seed: Of candidates.
        candidates: How many.
        most: Bits of a block, in the mean.
    """
    draw = np.random.default_rng(seed)
    rates = codes.rates.mean(0)
    z, bits = np.empty_like(codes.mean), np.zeros(len(codes.mean))
    numbers = np.log(np.arange(1, candidates + 1))
    for block in blocks_of(rates, most):
        power = 1 + 1 / (rates[block].sum() * math.log(2) + 1)
        lengths = (power * numbers + math.log(np.exp(-power * numbers).sum())) / math.log(2)
        for n in range(len(z)):
            of = draw.standard_normal((candidates, len(block)))
            times = np.log(np.cumsum(draw.exponential(size=candidates)))
            mean, std = codes.mean[n, block], codes.std[n, block]
            weight = (0.5 * of**2 - 0.5 * ((of - mean) / std) ** 2 - np.log(std)).sum(1)
            chosen = int((times - weight).argmin())
            z[n, block] = of[chosen]
            bits[n] += lengths[chosen]
    return Coded(z, bits)


def tuned(
    codes: Codes, coded: Callable[[Codes], Coded], steps: int = 400
) -> tuple[Tensor, Tensor]:
    """Return A and b of z → zA + b, before the decoder, fitted to the codes of training pictures.

    Adam on D, from the identity on.

    Args:
        codes: The posteriors.
        coded: The method that made the codes.
        steps: Of 256 pictures.
    """
    own = Codes(codes.vae, codes.train, codes.train_std, codes.train_x, codes.train,
                codes.train_std, codes.train_x)  # fmt: skip
    z = torch.from_numpy(coded(own).z).float()
    weight = torch.eye(z.shape[1], requires_grad=True)
    bias = torch.zeros(z.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(z), (256,), generator=draw)
        x = codes.train_x[rows].float() / 255
        loss = -codes.vae.decode(z[rows] @ weight + bias).log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return weight.detach(), bias.detach()


@torch.no_grad()
def quality(codes: Codes, z: Z | Tensor) -> dict[str, float]:
    """Return mean PSNR, within [0, 1], and D of what codes (N, Z) are decoded to."""
    z = torch.as_tensor(z).float()
    found, distortion = [], []
    for part, x in zip(z.split(BATCH), codes.x.split(BATCH), strict=True):
        p = codes.vae.decode(part)
        found.append(psnr(x, p.mean.clamp(0, 1)))
        distortion.append(-p.log_prob(x))
    return {
        "psnr_db": torch.cat(found).mean().item(),
        "distortion_nats": torch.cat(distortion).double().mean().item(),
    }
