"""Whether β does in a network what it should: a trial with conditions at random values.

A network may use a layer in a way that cannot be seen: its weight in another place, its rows in an
order of its own. So, on a copy: the folded model is the conditioned one, and a batch with a β an
example is the examples one by one. Layers for which that does not hold stay plain.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multibeta.conditioning import FiLM, Site, condition

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
    """Add one layer after the other to those that hold together; where one breaks that, less."""
    kept: list[str] = []
    names = {layer: name for name, layer in vae.named_modules()}
    for part, sites in vae.sites.items():
        root = vae.network(part)[0]
        layers = dict(root.named_modules())
        for i, site in enumerate(sites):
            layer: Any = layers[site.name]
            if site.does == "plain" or names[layer] in kept:
                continue
            for sites[i] in (site, *_less(site)):
                if (there := layer._modules.get("condition")) is not None:
                    there.remove(layer)
                condition(root, [sites[i]], vae.conditioning, vae._source)
                if sites[i].does == "plain":
                    break
                if _holds(vae, x, inputs, [*kept, names[layer]]):
                    kept.append(names[layer])
                    break
        if all(site.does == "plain" for site in sites):
            raise ValueError(
                f"β reaches no layer of the {part}: what was found is not the same function "
                "when folded, or mixes the examples of a batch (is it random in evaluation mode?)"
            )


def _less(site: Site) -> Iterator[Site]:
    """Yield what else may be done to a layer."""
    options = dict(site.options or {})
    if site.does != "gate" and options.get("scale") and options.get("shift"):
        why = "at one β a scale would not fold to the same function: shift alone"
        options = {**options, "scale": False}
        options.pop("gain", None)
        yield replace(site, does="film", why=why, options=options)
    why = "at one β it would not fold to the same function"
    yield replace(site, does="plain", why=why, options=None)


def _holds(
    vae: MultiBetaVAE, x: Tensor, inputs: dict[str, Any], among: Collection[str] | None
) -> bool:
    """Return whether folding, and one by one, give the same, with those layers' conditions."""
    trial, allowed = _trial(vae, among), _tolerance(vae)
    betas = torch.tensor([vae.beta_range.low, vae.beta_range.middle, vae.beta_range.high])
    betas = betas.to(vae.device)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(len(x), *vae.latent_shape, generator=generator)
    try:
        mixed = _both(trial.encode(x, betas, **inputs))
        z = z.to(mixed[0])
        mixed.append(trial.decode(z, betas, **inputs).mean)
        for i, beta in enumerate(betas.tolist()):
            twice = [i, i]  # a network may squeeze a batch of one
            of_one = {k: v[twice] if _has_rows(v, len(x)) else v for k, v in inputs.items()}
            one = [
                *_both(trial.encode(x[twice], beta, **of_one)),
                trial.decode(z[twice], beta, **of_one).mean,
            ]
            plain = trial.at_beta(beta, extrapolate=True)
            folded = [
                *_both(plain.encode(x[twice], **of_one)),
                plain.decode(z[twice], **of_one).mean,
            ]
            for a, b, c in zip(mixed, one, folded, strict=True):
                if not (_near(a[twice], b, allowed) and _near(b, c, allowed)):
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


def _trial(vae: MultiBetaVAE, among: Collection[str] | None) -> MultiBetaVAE:
    """Return a copy in evaluation mode with conditions, all or some, at random values."""
    memo = {
        id(value): value.detach().clone()
        for module in vae.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    trial = copy.deepcopy(vae, memo).eval()
    generator = torch.Generator().manual_seed(0)
    for name, layer in list(trial.named_modules()):
        found = layer._modules.get("condition")
        if isinstance(found, FiLM) and (among is None or name in among):
            for parameter in found.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
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
