"""Whether β does in a network what it should: a trial with conditions at random values.

A network may use a layer in a way that cannot be seen: its weight in another place, its rows in an
order of its own. So, on a copy: the folded model is the conditioned one, and in a batch with a β
an example each has the result that it has where all have its β. Layers for which that does not
hold stay plain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multibeta.conditioning import FiLM, Site, condition, copied, reasons, still

if TYPE_CHECKING:
    from multibeta.multibeta_vae import MultiBetaVAE

__all__ = ["check"]

_SPREAD, _TOLERANCE = 0.05, 1e-3
_WHY = "it would be another function at one β, folded, or among others"


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
    with still():
        if not _holds(vae, x, inputs, None):
            if part := _differs(vae, x, inputs, []):
                raise ValueError(
                    f"the {part} gives another result each time that it is called; in evaluation "
                    "mode it should not"
                )
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
            raise ValueError(f"β reaches no layer of the {part}: {reasons(sites)}")


def _less(site: Site) -> Iterator[Site]:
    """Yield what else may be done to a layer."""
    options = dict(site.options or {})
    if site.does != "gate" and options.get("scale") and options.get("shift"):
        why = f"with a scale, {_WHY}: shift alone"
        options = {**options, "scale": False}
        options.pop("gain", None)
        yield replace(site, does="film", why=why, options=options)
    yield replace(site, does="plain", why=_WHY, options=None)


def _holds(
    vae: MultiBetaVAE, x: Tensor, inputs: dict[str, Any], among: Collection[str] | None
) -> bool:
    """Return whether folding, and β's side by side, change nothing, with those conditions."""
    try:
        return _differs(vae, x, inputs, among) is None
    except (RuntimeError, ValueError):
        return False


def _differs(
    vae: MultiBetaVAE, x: Tensor, inputs: dict[str, Any], among: Collection[str] | None
) -> str | None:
    """Return the part whose results are not the same, None if all are."""
    trial, allowed = _trial(vae, among), _tolerance(vae)
    betas = torch.tensor([vae.beta_range.low, vae.beta_range.middle, vae.beta_range.high])
    betas = betas.to(vae.device)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(len(x), *vae.latent_shape, generator=generator)

    def results(model: Any, *beta: Any) -> list[Tensor]:
        mean, std = _both(model.encode(x, *beta, **inputs))
        return [mean, std, model.decode(z.to(mean), *beta, **inputs).mean]

    mixed = results(trial, betas)
    for i, beta in enumerate(betas.tolist()):
        one = results(trial, beta)
        folded = results(trial.at_beta(beta, extrapolate=True))
        parts = ("encoder", "encoder", "decoder")
        for part, a, b, c in zip(parts, mixed, one, folded, strict=True):
            if not (_near(a[i], b[i], allowed) and _near(b, c, allowed)):
                return part
    return None


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
    trial = copied(vae).eval()
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
