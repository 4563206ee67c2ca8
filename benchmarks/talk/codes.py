"""How far the codes of the talk's models are from N(0, I), and what that costs samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from benchmarks.record import save
from benchmarks.talk.pictures import vaes
from benchmarks.talk.runs import COMMAND, THREE, Talk
from multibeta.divergences import kl_standard_normal
from multibeta.metrics.extractors import Extractor, extractor_of
from multibeta.metrics.features import frechet_distance, moments
from multibeta.metrics.fid import to_8_bits
from multibeta.model import images_of

__all__ = ["gaussian_of", "standardised"]


@torch.no_grad()
def standardised(talk: Talk, seed: int, root: str, jobs: int) -> None:
    """Measure the samples of each model with its latents shifted and scaled to those of its codes.

    It is the same as standardising the latents, which changes no reconstruction, and drawing them
    from N(0, I).

    Args:
        talk: The data set.
        seed: Of the models.
        root: The data's folder.
        jobs: Runs at a time, where a model is not on this machine.
    """
    data, sides = vaes(talk, seed, root, jobs)
    extractor = extractor_of(talk.extractor(root), None)
    real = moments(_features(extractor, (images_of(batch) for batch in data.ordered("test"))))
    rows = []
    for side, beta in [(side, beta) for beta in THREE for side in sides]:
        vae = sides[side][beta]
        q = gaussian_of([vae.encode(images_of(batch)) for batch in data.ordered("test")])
        noise = torch.Generator().manual_seed(seed)
        z = q.mean + q.stddev * torch.randn(talk.samples, vae.latent_dim, generator=noise)
        drawn = (vae.decode(of_batch).mean for of_batch in z.split(100))
        rows.append({
            "side": side,
            "beta": beta,
            "nats": kl_standard_normal(q).sum().item(),
            "fid": frechet_distance(*moments(_features(extractor, drawn)), *real),
        })  # fmt: skip
    save(talk.result("standardised", seed), COMMAND, {"rows": rows}, talk.results)


def gaussian_of(posteriors: Sequence[Distribution]) -> Independent:
    """Return N(m, diag V) with the mean and variance of each latent's aggregated posterior.

    Its KL from N(0, I) is what R falls by if each latent is shifted and scaled to mean 0 and
    variance 1; D stays what it is, as the decoder can undo it.

    Args:
        posteriors: q(z|x) of each batch, (B, Z).
    """
    means, variances = (
        torch.cat([getattr(q, name) for q in posteriors]) for name in ("mean", "variance")
    )
    variance = means.var(0, correction=0) + variances.mean(0)
    return Independent(Normal(means.mean(0), variance.sqrt()), 1)


def _features(extractor: Extractor, batches: Iterable[Tensor]) -> Tensor:
    return torch.cat([extractor(to_8_bits(x)) for x in batches])
