"""What standardised latents save of the rate, and how near samples from N(0, I) are then."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.record import save
from benchmarks.talk.pictures import vaes
from benchmarks.talk.runs import COMMAND, THREE, Talk
from multibeta.data import ImageData
from multibeta.data.examples import read
from multibeta.metrics.extractors import Extractor, extractor_of
from multibeta.metrics.features import frechet_distance, moments
from multibeta.metrics.frechet import to_8_bits
from multibeta.vae import BetaVAE

__all__ = ["standardised"]


@torch.no_grad()
def standardised(talk: Talk, seed: int, root: str, jobs: int) -> None:
    """Measure the test set's rate, and FID of samples, with latents standardised and without.

    They are standardised by the training set (:meth:`multibeta.BetaVAE.standardised`). The
    arguments are those of :func:`benchmarks.talk.runs.align`.
    """
    data, sides = vaes(talk, seed, root, jobs)
    extractor = extractor_of(talk.extractor(root))
    real = moments(_features(extractor, (read(batch).x for batch in data.ordered("test"))))
    rows = []
    for side, beta in [(side, beta) for beta in THREE for side in sides]:
        plain = sides[side][beta]
        row: dict[str, object] = {"side": side, "beta": beta}
        for name, vae in {
            "plain": plain, "standardised": plain.standardised(data.ordered("train")),
        }.items():  # fmt: skip
            noise = torch.Generator().manual_seed(seed)
            z = torch.randn(talk.samples, vae.latent_dim, generator=noise)
            drawn = (vae.decode(of_batch).mean for of_batch in z.split(100))
            distance = frechet_distance(*moments(_features(extractor, drawn)), *real)
            row[name] = {"rate_nats": _rate(vae, data), "fd_prior": distance}
        rows.append(row)
    save(talk.result("standardised", seed), COMMAND, {"rows": rows}, talk.results)


def _rate(vae: BetaVAE, data: ImageData) -> float:
    rates = [vae.elbo_terms(read(batch).x).rate_nats for batch in data.ordered("test")]
    return torch.cat(rates).double().mean().item()


def _features(extractor: Extractor, batches: Iterable[Tensor]) -> Tensor:
    return torch.cat([extractor(to_8_bits(x)) for x in batches])
