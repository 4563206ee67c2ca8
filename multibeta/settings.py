"""A model as plain values: what a checkpoint holds beside the weights, and back again."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn

from multibeta.adapters import further_arguments
from multibeta.betas import Draws
from multibeta.likelihoods import Bernoulli, Likelihood
from multibeta.multibeta_vae import MultiBetaVAE, built
from multibeta.objectives import BetaELBO, Objective
from multibeta.specs import build, class_of, describe

__all__ = [
    "FORMAT",
    "about_of",
    "class_name",
    "described",
    "make",
    "of_class",
    "plain_settings",
    "rebuild",
]

FORMAT = 4
"""Version of a checkpoint: of what it holds and of what its weights mean."""


def make(
    shape: Any,
    betas: str = "0.01:10",
    draws: Draws | dict[str, Any] | None = None,
    conditioning: Any = "film",
    network: Any = None,
    encoder: Any = None,
    decoder: Any = None,
    latent_dim: int = 32,
    likelihood: Any = None,
    objective: Any = None,
    posterior: str = "log_variance",
    standardise: bool = False,
    standard: Any = None,
) -> MultiBetaVAE:
    """Return a model from settings, which it keeps as plain values in ``settings``.

    Raises:
        ValueError: If a setting is out of its domain, or both a network and an encoder are given.
    """
    likelihood = built(likelihood or Bernoulli(), Likelihood)
    objective = built(objective or BetaELBO(), Objective)
    draws = _draws(draws) if isinstance(draws, dict) else draws
    scale: Any = None if standard is None else tuple(torch.tensor(v) for v in standard)
    common: dict[str, Any] = {
        "likelihood": likelihood, "objective": objective, "conditioning": conditioning,
        "draws": draws, "standard": scale,
    }  # fmt: skip
    shape = tuple(int(n) for n in shape)
    if (encoder is None) != (decoder is None):
        missing = "decoder" if decoder is None else "encoder"
        raise ValueError(f"model.{missing} is not given; give encoder and decoder, or a network")
    if encoder is None:
        vae = MultiBetaVAE.of(shape, betas, network=network, latent_dim=latent_dim, **common)
    else:
        if conditioning != "none" and likelihood.support == (0.0, 1.0):
            example = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
        elif likelihood.whole:
            example = torch.arange(3.0).view(-1, *(1,) * len(shape)).expand(3, *shape).contiguous()
        else:
            example = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        given = {"shape": shape, "latent_dim": latent_dim, "outputs": likelihood.outputs}
        parts = [of_class(encoder, given), of_class(decoder, given)]
        # Labels stand in for themselves until the data gives them: their numbers begin at 0.
        needed = [further_arguments(part.forward) for part in parts]
        labels = {k: torch.zeros(3, dtype=torch.long) for of in needed for k, v in of.items() if v}
        vae = MultiBetaVAE(
            parts[0], parts[1], betas,
            posterior=cast(Any, posterior), example=example, inputs=labels, **common,
        )  # fmt: skip
    vae.settings = {
        "shape": list(shape),
        "betas": str(betas),
        "draws": None if draws is None else asdict(draws),
        "conditioning": conditioning,
        "network": vae.settings.get("network"),
        "encoder": encoder,
        "decoder": decoder,
        "latent_dim": latent_dim,
        "likelihood": describe(likelihood),
        "objective": describe(objective),
        "posterior": posterior,
        "standardise": standardise,
        "standard": standard,
    }
    return vae


def plain_settings(vae: MultiBetaVAE) -> dict[str, Any]:
    """Return what a checkpoint of a model must hold, so that :func:`rebuild` can make it.

    Raises:
        TypeError: If something cannot be described in plain values.
    """
    standard = None
    if vae.scale is not None and vae.shift is not None:
        standard = [vae.shift.tolist(), vae.scale.tolist()]
    if vae.settings.get("network") or vae.settings.get("encoder"):
        made = {
            "shape": list(vae.shape),
            "draws": asdict(vae.draws),
            "likelihood": describe(vae.likelihood),
            "objective": describe(vae.objective),
        }
        return {"settings": {**made, **vae.settings, "standard": standard}}
    return {
        "wrapped": {
            "betas": str(vae.beta_range),
            "conditioning": vae.conditioning.kind,
            "draws": asdict(vae.draws),
            "likelihood": described(vae.likelihood),
            "objective": described(vae.objective),
            "posterior": vae.posterior if isinstance(vae.posterior, str) else None,
            "standard": standard,
            "classes": {
                part: class_name(vae.network(part)[0]) for part in ("encoder", "decoder")
            },
            "single": "autoencoder" in vae._modules,
            "placed": vae.placed(),
        }
    }  # fmt: skip


def about_of(content: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return what a model keeps of the run that it is from: its data, training and name."""
    return {**{k: content.get(k) for k in ("data", "examples", "training", "run")}, "step": step}


def rebuild(
    content: dict[str, Any],
    where: str,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    **given: Any,
) -> MultiBetaVAE:
    """Return the model, without its weights, that a checkpoint describes.

    Args:
        content: What :func:`plain_settings` gave.
        where: The checkpoint, for messages.
        encoder: The encoder of a wrapped model, of the same architecture; or its one module.
        decoder: Its decoder.
        given: ``likelihood``, ``distortion``, ``objective`` or ``posterior`` where they are the
            user's own code.

    Raises:
        ValueError: If something is missing or does not fit.
    """
    if "settings" in content:
        if encoder is not None:
            raise ValueError(f"{where} describes its own networks; give no encoder")
        return make(**content["settings"])
    wrapped = content["wrapped"]
    names = wrapped["classes"]
    if encoder is None or (decoder is None) != wrapped["single"]:
        needs = names["encoder"] if wrapped["single"] else ", ".join(names.values())
        raise ValueError(
            f"{where} is of a wrapped model, whose architecture is your code ({needs}); pass it: "
            f"multibeta.load(path, {'module' if wrapped['single'] else 'encoder, decoder'})"
        )
    options = dict(given)
    for name, of in (("likelihood", Likelihood), ("objective", Objective)):
        own = name in given or (name == "likelihood" and "distortion" in given)
        if own:
            continue
        if isinstance(wrapped[name], str):
            raise ValueError(
                f"{where} has a {name} of your own ({wrapped[name]}); pass it: "
                f"multibeta.load(path, …, {name}=…)"
            )
        options[name] = build(wrapped[name], of)
    if "posterior" not in given:
        if wrapped["posterior"] is None:
            raise ValueError(f"{where} has a posterior function of your own; pass posterior=…")
        options["posterior"] = wrapped["posterior"]
    scale: Any = wrapped["standard"]
    vae = MultiBetaVAE(
        encoder, decoder, wrapped["betas"], conditioning=wrapped["conditioning"],
        draws=_draws(wrapped["draws"]),
        standard=scale and (torch.tensor(scale[0]), torch.tensor(scale[1])), **options,
    )  # fmt: skip
    vae.restore(wrapped["placed"])
    return vae


def _draws(given: dict[str, Any]) -> Draws:
    """Return them, without what there was for a while."""
    if given.get("ramp"):
        warnings.warn(
            "draws.ramp is no more: a training that goes on draws from the range as it opens",
            stacklevel=3,
        )
    return Draws(**{name: value for name, value in given.items() if name != "ramp"})


def described(value: Any) -> dict[str, Any] | str:
    """Return an object as plain values; its class path alone, where it is not made of such."""
    try:
        return describe(value)
    except TypeError:
        return class_name(value)


def class_name(value: Any) -> str:
    """Return the class path of an object."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def of_class(spec: Any, given: dict[str, Any]) -> nn.Module:
    """Return a module of a class path, with what its constructor takes of what is given."""
    if isinstance(spec, nn.Module):
        return spec
    cls = class_of(spec["class_path"] if isinstance(spec, dict) else spec, nn.Module)
    init_args = (spec.get("init_args") or {}) if isinstance(spec, dict) else {}
    known = inspect.signature(cls).parameters
    filled = {k: v for k, v in given.items() if k in known and k not in init_args}
    return build(spec, nn.Module, **filled)
