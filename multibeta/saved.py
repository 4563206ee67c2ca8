"""A plain VAE as one file of safetensors: its tensors, and what makes its modules again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

import multibeta
from multibeta.adapters import MeanStd
from multibeta.checkpoints import check_size, misfits, modules_of, without
from multibeta.data.units import Units
from multibeta.distortions import Distortion
from multibeta.likelihoods import Likelihood
from multibeta.networks import Network
from multibeta.schemas import PLAIN, check
from multibeta.settings import class_name, described, of_class
from multibeta.specs import build, check_trusted
from multibeta.tensors import read, write
from multibeta.vae import BetaVAE, Standardised

__all__ = ["PLAIN_FORMAT", "load", "plain_content", "published", "save"]

PLAIN_FORMAT = 1
"""Version of the file of a plain VAE."""

_MAKES = ("network", "latent_dim", "encoder", "decoder")


def save(vae: BetaVAE, path: str | os.PathLike[str]) -> None:
    """Write a plain VAE; see :meth:`multibeta.BetaVAE.save`."""
    write(path, vae.state_dict(), plain_content(vae))


def load(
    path: str | os.PathLike[str],
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    *,
    allow: str | Sequence[str] = (),
    **given: Any,
) -> BetaVAE:
    """Read a plain VAE; see :meth:`multibeta.BetaVAE.load`."""
    content, tensors = read(path, "BetaVAE", PLAIN_FORMAT)
    try:
        check(PLAIN, content)
    except ValueError as error:
        raise ValueError(f"{path} was changed, or is damaged ({error}); give another") from None
    makes = content["settings"]
    named = without({"of": {"likelihood": content["likelihood"], **makes}}, given)
    check_trusted(named, modules_of(allow), path)
    if makes.get("network"):
        check_size(makes["network"], content["shape"], makes["latent_dim"], tensors, path)
    try:
        vae = _rebuilt(content, tensors, str(path), encoder, decoder, given)
    except TypeError as error:
        raise ValueError(f"{path} describes another model ({error}); save it anew") from None
    if wrong := misfits(vae.state_dict(), tensors):
        raise ValueError(
            f"{path} does not fit the model: {wrong[0]} ({len(wrong)} such); give the networks "
            "that were saved"
        )
    for name, own in vae.state_dict(keep_vars=True).items():
        own.data = own.data.to(tensors[name].dtype)  # a model in half precision is one again
    vae.load_state_dict(tensors)
    vae.units = None if content["units"] is None else Units(**content["units"])
    vae.settings, vae.about = makes, content["about"]
    return vae.eval()


def plain_content(vae: BetaVAE) -> dict[str, Any]:
    """Return what makes a plain VAE again, beside its tensors: plain values."""
    makes = {k: vae.settings[k] for k in _MAKES if vae.settings.get(k) is not None}
    if isinstance(makes.get("encoder"), nn.Module):
        makes = {}
    return {
        "kind": "BetaVAE",
        "format": PLAIN_FORMAT,
        "version": multibeta.__version__,
        "beta": float(vae.beta),
        "unit": float(vae.unit),
        "shape": list(vae.shape),
        "latent_shape": list(vae.latent_shape),
        "likelihood": described(vae.likelihood),
        "posterior": vae.posterior if isinstance(vae.posterior, str) else None,
        "units": None if vae.units is None else asdict(vae.units),
        "standardised": isinstance(vae, Standardised),
        "channels_last": any(
            value.ndim == 4
            and value.is_contiguous(memory_format=torch.channels_last)
            and not value.is_contiguous()
            for value in vae.state_dict().values()
        ),
        "settings": makes if {"network", "encoder"} & makes.keys() else {},
        "classes": {part: class_name(vae.network(part)[0]) for part in ("encoder", "decoder")},
        "single": "autoencoder" in vae._modules,
        "about": published(vae.about),
    }


def published(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a run without its places: no folder of this machine travels."""
    data, run = about.get("data"), about.get("run") or {}
    if data is not None:
        kept = {k: v for k, v in (data["init_args"] or {}).items() if not _is_place(k, v)}
        data = {"class_path": data["class_path"], "init_args": kept}
    trainer = {k: v for k, v in (run.get("trainer") or {}).items() if isinstance(v, int | float)}
    kept_of_run = {k: run[k] for k in ("name", "seed_everything", "curve") if k in run}
    return {**about, "data": data, "run": {**kept_of_run, "trainer": trainer}}


def _is_place(name: str, value: Any) -> bool:
    return name == "root" or (isinstance(value, str) and os.path.isabs(value))


def _rebuilt(
    content: dict[str, Any],
    tensors: Mapping[str, Tensor],
    where: str,
    encoder: nn.Module | None,
    decoder: nn.Module | None,
    given: dict[str, Any],
) -> BetaVAE:
    """Return the modules that a file describes, with any weights."""
    makes, names = content["settings"], content["classes"]
    distortion = given.pop("distortion", None)
    likelihood = given.pop("likelihood", distortion)
    posterior = given.pop("posterior", content["posterior"])
    if given:
        raise ValueError(f"{next(iter(given))} cannot be given; likelihood, distortion, posterior")
    if likelihood is None:
        if isinstance(content["likelihood"], str):
            raise ValueError(
                f"{where} has a likelihood of your own ({content['likelihood']}); pass it: "
                "likelihood=…"
            )
        likelihood = build(content["likelihood"], Likelihood)
    elif not isinstance(likelihood, Likelihood):
        likelihood = Distortion(likelihood)
    if posterior is None:
        raise ValueError(f"{where} has a posterior function of your own; pass posterior=…")
    shape, latents = tuple(content["shape"]), makes.get("latent_dim")
    if makes and encoder is not None:
        raise ValueError(f"{where} describes its own networks; give no encoder")
    if "network" in makes:
        network: Network = build(makes["network"], Network)  # type: ignore[type-abstract]
        encoder = network.encoder(shape, latents)
        encoder.append(MeanStd(content["beta"] / content["unit"]))
        decoder = network.decoder(shape, latents, likelihood.outputs)
    elif makes:
        options = {"shape": shape, "latent_dim": latents, "outputs": likelihood.outputs}
        encoder, decoder = (of_class(makes[part], options) for part in ("encoder", "decoder"))
    elif encoder is None or (decoder is None) != content["single"]:
        needs = names["encoder"] if content["single"] else ", ".join(names.values())
        wanted = "module" if content["single"] else "encoder, decoder"
        raise ValueError(
            f"{where} is of a wrapped model, whose architecture is your code ({needs}); pass it: "
            f"multibeta.BetaVAE.load(path, {wanted})"
        )
    standard: Any = (tensors["shift"], tensors["scale"]) if "scale" in tensors else None
    vae = BetaVAE(
        encoder, decoder, likelihood, tuple(content["latent_shape"]), content["beta"], posterior,
        content["unit"], standard, shape,
    )  # fmt: skip
    if content["standardised"]:
        vae = Standardised(vae, tensors["mean"], tensors["std"])
    return vae.to(memory_format=torch.channels_last) if content["channels_last"] else vae
