"""What a model makes at several β's: samples, traversals, paths between examples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from multibeta.betas import parse_betas
from multibeta.data.door import Door
from multibeta.data.examples import on, rows_of
from multibeta.metrics.psnr import peak_of, psnr
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.noise import evaluation_noise
from multibeta.priors import fit_gmm
from multibeta.vae import BetaVAE

__all__ = [
    "Prior",
    "busiest",
    "interpolations",
    "reconstructions",
    "samples",
    "traversals",
    "within",
]

Inputs = Mapping[str, Tensor]
"""What networks take beside x and z, by name."""

Prior = Literal["prior", "standardised", "mixture"]
"""Where codes are drawn from: N(0, I); N(0, I) of latents that were shifted and scaled by the
moments of their codes; ten Gaussians fitted to the codes of the training set."""


def samples(
    model: MultiBetaVAE,
    betas: str | float | Iterable[float],
    n: int,
    *,
    prior: Prior = "prior",
    data: Any = None,
    seed: int = 0,
    inputs: Inputs | None = None,
) -> Tensor:
    """Return n examples at each β: means of p(x|z), the noise of z the same at every β.

    Args:
        model: The model.
        betas: As in :func:`~multibeta.betas.parse_betas`.
        n: How many.
        prior: Where z is drawn from.
        data: Whose training set the codes of ``standardised`` and ``mixture`` are of.
        seed: That of the noise.
        inputs: What the decoder takes beside z, such as labels: n rows each, or one for all.

    Returns:
        (K, n, *shape).

    Raises:
        ValueError: If there is no such prior, n is below 1, or data is needed and not given.
    """
    if prior not in get_args(Prior):
        raise ValueError(f"prior={prior} is unknown; allowed: {', '.join(get_args(Prior))}")
    if n < 1:
        raise ValueError(f"n={n} is too small; ask for at least 1")
    if prior != "prior" and data is None:
        raise ValueError(f"prior={prior} is fitted to codes of the training set; give data")
    noise = _noise(seed, n, *model.latent_shape).to(model.device)
    beside = _rows(inputs, n)

    def made(vae: BetaVAE) -> Tensor:
        if prior == "prior":
            return _decoded(vae, noise, beside)
        batches = Door.of(data, model).batches("train")
        if prior == "standardised":
            return _decoded(vae.standardised(batches), noise, beside)
        codes = torch.cat([_drawn(vae, model, batch, i) for i, batch in enumerate(batches)])
        mixture = fit_gmm(codes.flatten(1))
        z = mixture.sample((n,), generator=torch.Generator().manual_seed(seed))
        return _decoded(vae, z.reshape(n, *model.latent_shape).to(noise), beside)

    return _at_each(model, betas, made)


def traversals(
    model: MultiBetaVAE,
    betas: str | float | Iterable[float],
    latents: Sequence[int],
    *,
    x: Tensor | None = None,
    span: float = 3.0,
    steps: int = 9,
    inputs: Inputs | None = None,
) -> Tensor:
    """Return examples with one latent moved over [−span, span], for each latent and β.

    Args:
        model: The model.
        betas: As in :func:`~multibeta.betas.parse_betas`.
        latents: Which to move; of a map, channels.
        x: The example whose code the others stay at, (*shape); the middle of the prior, 0, by
            default.
        span: The farthest value, in standard deviations of the prior.
        steps: Examples on the way.
        inputs: What the networks take beside x and z: one row each.

    Returns:
        (K, latents, steps, *shape).

    Raises:
        ValueError: If there is no such latent, none, or fewer than 2 steps are asked for.
    """
    if not latents:
        raise ValueError("no latent is asked for; give at least one")
    if steps < 2:
        raise ValueError(f"steps={steps} is too few; ask for at least 2")
    size = model.latent_shape[0]
    if wrong := [j for j in latents if not 0 <= j < size]:
        raise ValueError(f"latent {wrong[0]} does not exist; allowed: 0 to {size - 1}")
    values = torch.linspace(-span, span, steps)

    def made(vae: BetaVAE) -> Tensor:
        middle = torch.zeros(model.latent_shape) if x is None else _code(vae, model, x, inputs)
        z = middle.expand(len(latents), steps, *model.latent_shape).clone()
        for row, j in enumerate(latents):
            z[row, :, j] = values.view(-1, *(1,) * (len(model.latent_shape) - 1))
        z = z.flatten(0, 1).to(model.device)
        found = _decoded(vae, z, _rows(inputs, len(z)))
        return found.unflatten(0, (len(latents), steps))

    return _at_each(model, betas, made)


def interpolations(
    model: MultiBetaVAE,
    betas: str | float | Iterable[float],
    x0: Tensor,
    x1: Tensor,
    *,
    steps: int = 9,
    inputs: Inputs | None = None,
) -> Tensor:
    """Return examples on the straight line between the codes of two, at each β.

    Args:
        model: The model.
        betas: As in :func:`~multibeta.betas.parse_betas`.
        x0: The example at the beginning: (*shape).
        x1: That at the end.
        steps: Examples on the line, both ends included.
        inputs: What the networks take beside x and z: one row each.

    Returns:
        (K, steps, *shape).

    Raises:
        ValueError: If fewer than 2 steps are asked for.
    """
    if steps < 2:
        raise ValueError(f"steps={steps} is too few; ask for at least 2")

    def made(vae: BetaVAE) -> Tensor:
        first, last = (x[None].to(model.device) for x in (x0, x1))
        with _needs():
            return vae.interpolate(first, last, steps, **_rows(inputs, 1, model.device))[0]

    return _at_each(model, betas, made)


@torch.no_grad()
def reconstructions(
    model: MultiBetaVAE,
    betas: str | float | Iterable[float],
    x: Tensor,
    names: Sequence[str],
    inputs: Inputs | None = None,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Return reconstructions of examples at each β, and what each costs and how near it is.

    Args:
        model: The model.
        betas: As in :func:`~multibeta.betas.parse_betas`.
        x: (N, *shape).
        names: N names.
        inputs: What the networks take beside x and z: N rows each, or one for all.

    Returns:
        (K, N, *shape); and a row for each example and β: name, β, R in nats and bits, D, and of
        pictures whose peak is known the PSNR of the reconstruction in decibels.

    Raises:
        ValueError: If the networks need more than x.
    """
    model.eval()
    noise = evaluation_noise(None, 0, len(x), model.latent_shape)
    made, rows = [], []
    peak = peak_of(model, x) if len(model.shape) == 3 else None
    beside = _rows(inputs, len(x), model.device)
    for beta in within(model, betas):
        vae = model.at_beta(beta)
        with _needs():
            terms = vae.elbo_terms(x.to(model.device), noise.to(x).to(model.device), **beside)
            again = vae.reconstruct(x.to(model.device), **beside).cpu()
        made.append(again)
        near = None if peak is None else psnr(x, again, peak)
        for i, name in enumerate(names):
            rate = terms.rate_nats[i].item()
            row = {"name": name, "β": beta, "R (nats)": rate, "R (bits)": rate / math.log(2),
                   "D": terms.distortion[i].item()}  # fmt: skip
            if near is not None:
                row["PSNR (dB)"] = near[i].item()
            rows.append(row)
    return torch.stack(made), sorted(rows, key=lambda row: names.index(row["name"]))


@torch.no_grad()
def busiest(
    model: MultiBetaVAE, x: Tensor, beta: float, count: int, inputs: Inputs | None = None
) -> list[int]:
    """Return the latents, of a map the channels, with the most rate at a β, falling.

    Args:
        model: The model.
        x: (N, *shape).
        beta: Where.
        count: How many at most.
        inputs: What the networks take beside x and z: N rows each, or one for all.

    Raises:
        ValueError: If the networks need more than x.
    """
    model.eval()
    with _needs():
        beside = _rows(inputs, len(x), model.device)
        terms = model.at_beta(beta).elbo_terms(x.to(model.device), **beside)
    rates = terms.rate_per_latent_nats.mean(0).reshape(model.latent_shape[0], -1)
    return rates.sum(1).argsort(descending=True, stable=True)[:count].tolist()


def within(model: MultiBetaVAE, betas: str | float | Iterable[float]) -> tuple[float, ...]:
    """Read β's, all of the trained range.

    Args:
        model: Whose range.
        betas: As in :func:`~multibeta.betas.parse_betas`.

    Raises:
        ValueError: If one is outside.
    """
    of, found = model.beta_range, parse_betas(betas)
    for beta in found:
        try:
            of.check(beta)
        except ValueError as error:
            raise ValueError(f"{str(error).partition(';')[0]}; give one within it") from None
    return found


@torch.no_grad()
def _at_each(
    model: MultiBetaVAE,
    betas: str | float | Iterable[float],
    made: Callable[[BetaVAE], Tensor],
) -> Tensor:
    model.eval()
    return torch.stack([made(model.at_beta(beta)).cpu() for beta in within(model, betas)])


def _decoded(vae: BetaVAE, z: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    with _needs():
        return vae.decode(z, **on(inputs, z.device)).mean


def _code(vae: BetaVAE, model: MultiBetaVAE, x: Tensor, inputs: Inputs | None) -> Tensor:
    with _needs():
        beside = _rows(inputs, 1, model.device)
        return vae.encode(x[None].to(model.device), **beside).mean[0].cpu()


@contextlib.contextmanager
def _needs() -> Iterator[None]:
    """Name what a network lacks.

    Raises:
        ValueError: If it takes more than it was given.
    """
    try:
        yield
    except TypeError as error:
        if "missing" not in str(error):
            raise
        raise ValueError(
            f"the networks take more than x and z ({error}); give it: --given.NAME VALUE, in "
            "Python inputs={NAME: tensor}"
        ) from error


def _rows(inputs: Inputs | None, n: int, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return further inputs with n rows each; one row is that of all."""
    return on(rows_of(inputs or {}, slice(None), n), torch.device(device))


def _drawn(vae: BetaVAE, model: MultiBetaVAE, batch: Any, index: int) -> Tensor:
    """Return a sample of each posterior of a batch, the same each time."""
    x, inputs = model.read(batch)
    q = vae.encode(x.to(model.device), **on(inputs, model.device))
    return (q.mean + q.stddev * _noise(index, *q.mean.shape).to(q.mean)).cpu()


def _noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
