"""The verb that converts: beta."""

from __future__ import annotations

import json as json_
import math
from typing import Any, Literal

from multibeta.conventions import CONVENTIONS, ERRORS, Convention, Weight, convert, named
from multibeta.progress import place
from multibeta.tables import keyed
from multibeta.verbs.opening import opened

__all__ = ["beta"]


def beta(
    from_: str | None = None,
    weight: float | None = None,
    shape: str | None = None,
    latent: str | None = None,
    loss: str | None = None,
    sigma: float | None = None,
    distortion: float | None = None,
    capacity: float | None = None,
    run: str | None = None,
    at: str | None = None,
    split: Literal["train", "val", "test"] = "test",
    device: str = "auto",
    json: bool = False,
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Convert the KL weight of other code to β.

    Prints the loss as that code writes it, what it is in sums, β for a likelihood, what that
    bounds, and where it was read; with a run, what it measures at that β.

    Args:
        from_: Whose weight: ldm, diffusers, audioldm2, rave, act, lerobot, torchrl, scvi,
            cryodrgn, pytorch-vae, disentangling-vae, burgess, keras; or by what its error and its
            KL are over values and latents: sum, sum-mean, mean, mean-mean.
        weight: The weight in that code.
        shape: The shape of its x, such as 3,256,256 or 100,14; by default that of the run.
        latent: The shape of its z, such as 4,32,32, where its KL is a mean over latents; by
            default that of the run.
        loss: The error in that code: mse, l1, bce, …; by default its own.
        sigma: The σ to give β for, in units of that code's x; by default that of the run, or the
            one at which D is the error up to a constant.
        distortion: The mean error per value of the best answer without z, for the bound on R.
        capacity: C, for burgess.
        run: A run to measure at that β, of the likelihood in question.
        at: Values of the other weights that are ranges, as for curve.
        split: Which part of the data.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        json: Print the numbers as JSON.
        data: Settings of the run's data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    if from_ is None:
        raise ValueError(f"give --from NAME: {', '.join(CONVENTIONS)}")
    of = named(from_)
    if weight is None:
        hint = "" if of.default is None else f"; {from_} ships with {of.default:g}"
        raise ValueError(f"give --weight W, the weight in that code{hint}")
    given: dict[str, Any] = {"loss": loss, "distortion": distortion, "capacity": capacity}
    x, z = _whole("shape", shape), _whole("latent", latent)
    if run is None:
        found = convert(from_, weight, x, z, sigma=sigma, **given)
        print(json_.dumps(found.as_dict()) if json else found.text())
        return
    if not of.shape:
        raise ValueError(f"{from_} has no β; leave --run out")
    _, model, datamodule = opened(run, device, data, allow, at)
    if x is None:
        x = (*model.shape[1:], *model.shape[:1]) if of.per == "C" else model.shape
    elif model.shape and math.prod(x) != math.prod(model.shape):
        raise ValueError(
            f"--shape {shape} has {math.prod(x):,} values, {run} has {math.prod(model.shape):,}; "
            "leave --shape out, or give another run"
        )
    z = model.latent_shape if z is None and of.kl_per == "Z" else z
    own, same = _sigma(of, loss, model, run)
    if sigma is not None and own is not None and not math.isclose(sigma, own, rel_tol=1e-4):
        raise ValueError(f"{run} has σ = {own:.6g} in units of that x; leave --sigma out")
    found = convert(from_, weight, x or None, z, sigma=sigma if own is None else own, **given)
    there = _measured(found, model, datamodule, split, run)
    if json:
        print(json_.dumps({**found.as_dict(), "run": there.as_dict()}))
        return
    print(found.text())
    if not same:
        print(keyed("units", f"σ is that of {run}; its x are taken to be in that code's units"))
    rate, d = there["rate_nats"][0], there[there.distortion][0]
    words = f"{run} at β = {there['beta'][0]:.6g}: R = {rate:.6g} nats, D = {d:.6g} {there.unit}"
    print(keyed("run", f"{words} per example"))


def _measured(found: Weight, model: Any, data: Any, split: Any, run: str) -> Any:
    """Measure the model at that β; with a capacity at the β whose rate it is, if that is less."""
    from multibeta.evaluation import sweep

    at, low, high = found.beta or 0.0, model.beta_range.low, model.beta_range.high
    if found.capacity is not None:
        ends = sweep(model, data, (low, high), split=split)
        at = min(at, ends.beta_for(rate_nats=found.capacity))
    if not low * (1 - 1e-6) <= at <= high * (1 + 1e-6):
        raise ValueError(
            f"β = {at:.6g} is outside the trained range [{low:g}, {high:g}] of {run}; train one "
            "there, by --model.betas LOW:HIGH, or leave --run out"
        )
    return sweep(model, data, at, split=split, progress=place() != "elsewhere")


def _sigma(of: Convention, loss: str | None, model: Any, run: str) -> tuple[float | None, bool]:
    """Return the σ of a run in units of that code's x, and whether both units are known.

    Raises:
        ValueError: If the run has another likelihood.
    """
    likelihood = model.likelihood.at(model.pinned)
    loss = loss or next(iter(of.errors))
    error = ERRORS.get(loss, ERRORS["distance"])
    kind, sigma = type(likelihood).__name__, getattr(likelihood, "sigma", None)
    sums = {"L1": ERRORS["l1"], "MSE": ERRORS["mse"]}
    if kind in sums and likelihood.reduction == "sum":
        kind, sigma = sums[kind].likelihood, sums[kind].sigma
    if loss == "l1+lpips":
        raise ValueError(f"D of {run} has no LPIPS; choose --loss l1, the weight without it")
    if loss in of.errors and kind != error.likelihood:
        others = [k for k in of.errors if ERRORS[k].likelihood == kind]
        cure = f"choose --loss {others[0]}" if others else f"give a run with {error.likelihood}"
        raise ValueError(f"{run} has {kind}, and this weight is of {error.likelihood}; {cure}")
    if error.sigma is None or sigma is None:
        return None, True
    bounds = None if model.units is None or model.scale is not None else model.units.bounds
    if of.range is None or bounds is None:
        return sigma, False
    return sigma * (of.range[1] - of.range[0]) / (bounds[1] - bounds[0]), True


def _whole(option: str, given: str | None) -> tuple[int, ...] | None:
    """Read ``"3,256,256"``."""
    if given is None:
        return None
    parts = [part.strip() for part in given.strip("()[]").split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"--{option} {given} is no shape; write whole numbers, such as 3,64,64")
    return tuple(map(int, parts))
