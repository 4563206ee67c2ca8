"""Whether β does in a network what it should: a trial with conditions at random values.

A network may use a layer in a way that cannot be seen: its weight in another place, its rows in an
order of its own. So, on a copy: the folded model is the conditioned one, and a batch with a β an
example is the examples one by one. Layers for which that does not hold stay plain.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multibeta.conditioning import conditions_of

if TYPE_CHECKING:
    from multibeta.multibeta_vae import MultiBetaVAE

__all__ = ["check"]

_SPREAD, _TOLERANCE = 0.05, 1e-3


@torch.no_grad()
def check(vae: MultiBetaVAE, x: Tensor, inputs: dict[str, Any]) -> None:
    """Take the conditions off layers that would not fold, and find whether β's can share work.

    Args:
        vae: The model, conditioned.
        x: Three examples.
        inputs: Their further inputs.

    Raises:
        ValueError: If β then reaches no layer of the encoder or of the decoder.
    """
    with _quiet():
        if not _holds(vae, x, inputs, None):
            _drop(vae, x, inputs)
        vae.shares = _shares(vae, x, inputs)


def _drop(vae: MultiBetaVAE, x: Tensor, inputs: dict[str, Any]) -> None:
    for part, sites in vae.sites.items():
        layers = dict(vae.network(part)[0].named_modules())
        for i, site in enumerate(sites):
            if site.does == "plain" or "condition" not in layers[site.name]._modules:
                continue
            if not _holds(vae, x, inputs, (part, site.name)):
                layers[site.name]._modules["condition"].remove(layers[site.name])  # type: ignore[operator,union-attr]
                why = "at one β it would not fold to the same function"
                sites[i] = replace(site, does="plain", why=why, options=None)
        if all(site.does == "plain" for site in sites):
            raise ValueError(
                f"β reaches no layer of the {part}: what was found does not give the same function "
                "when folded, or mixes the examples of a batch (is it random in evaluation mode?)"
            )
    if not _holds(vae, x, inputs, None):
        raise ValueError(
            "the model at one β is not the conditioned one, and no single layer is why; please "
            "report this network"
        )


def _holds(
    vae: MultiBetaVAE, x: Tensor, inputs: dict[str, Any], alone: tuple[str, str] | None
) -> bool:
    """Return whether folding, and one by one, give the same; of one layer's condition, or all."""
    trial, allowed = _trial(vae, alone), _tolerance(vae)
    betas = torch.tensor([vae.beta_range.low, vae.beta_range.middle, vae.beta_range.high])
    betas = betas.to(vae.device)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(len(x), *vae.latent_shape, generator=generator)
    try:
        mixed = _both(trial.encode(x, betas, **inputs))
        z = z.to(mixed[0])
        mixed.append(trial.decode(z, betas, **inputs).mean)
        for i, beta in enumerate(betas.tolist()):
            one = {k: v[i : i + 1] if _has_rows(v, len(x)) else v for k, v in inputs.items()}
            single = [
                *_both(trial.encode(x[i : i + 1], beta, **one)),
                trial.decode(z[i : i + 1], beta, **one).mean,
            ]
            plain = trial.at_beta(beta, extrapolate=True)
            folded = [
                *_both(plain.encode(x[i : i + 1], **one)), plain.decode(z[i : i + 1], **one).mean
            ]  # fmt: skip
            for a, b, c in zip(mixed, single, folded, strict=True):
                if not (_near(a[i : i + 1], b, allowed) and _near(b, c, allowed)):
                    return False
    except (RuntimeError, ValueError):
        return False
    return True


def _shares(vae: MultiBetaVAE, x: Tensor, inputs: dict[str, Any]) -> bool:
    """Return whether the encoder takes an example once for all of its β's."""
    trial, allowed = _trial(vae, None), _tolerance(vae)
    low, high = vae.beta_range.low, vae.beta_range.high
    betas = torch.tensor([low, high]).repeat_interleave(len(x)).to(x.device)
    found = []
    for shares in (False, True):
        trial.shares = shares
        try:
            found.append(_both(trial.encode(x, betas, **inputs)))
        except (RuntimeError, ValueError):
            return False
    return all(a.shape == b.shape and _near(a, b, allowed) for a, b in zip(*found, strict=True))


def _trial(vae: MultiBetaVAE, alone: tuple[str, str] | None) -> MultiBetaVAE:
    """Return a copy in evaluation mode with conditions, or one layer's, at random values."""
    memo = {
        id(value): value.detach().clone()
        for module in vae.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    trial = copy.deepcopy(vae, memo).eval()
    generator = torch.Generator().manual_seed(0)
    layers = {
        layer: (part, name)
        for part in ("encoder", "decoder")
        for name, layer in trial.network(part)[0].named_modules()
    }
    for part in ("encoder", "decoder"):
        for layer, found in conditions_of(trial.network(part)[0]):
            for parameter in found.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if alone is None or layers[layer] == alone:
                    parameter.copy_(_SPREAD * noise.to(parameter))
    return trial


def _both(q: Any) -> list[Tensor]:
    return [q.mean, q.stddev]


def _tolerance(vae: MultiBetaVAE) -> float:
    """Return how far apart two results that are the same may be: farther in half precision."""
    kinds = {p.dtype for p in vae.parameters_of_networks() if p.is_floating_point()}
    return max(_TOLERANCE, *(4 * torch.finfo(kind).eps for kind in kinds))


def _near(a: Tensor, b: Tensor, allowed: float) -> bool:
    if a.shape != b.shape:
        return False
    return bool((a - b).norm() <= allowed * (1e-6 + b.norm()))


def _has_rows(value: Any, n: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == n


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave torch's random numbers as they were."""
    state = torch.random.get_rng_state()
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
