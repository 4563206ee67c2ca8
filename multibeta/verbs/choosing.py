"""The verb that answers: choose."""

from __future__ import annotations

import json as json_
import sys
from pathlib import Path
from typing import Any

from multibeta.progress import place
from multibeta.verbs.measuring import data_set, settings_of
from multibeta.verbs.opening import folder_of, opened

__all__ = ["choose"]


def choose(
    checkpoint: str,
    for_: str | None = None,
    betas: str | None = None,
    other: str | None = None,
    label: str | None = None,
    normal: str | None = None,
    bits: float | None = None,
    psnr: float | None = None,
    distortion: float | None = None,
    settings: dict[str, Any] | None = None,
    at: str | None = None,
    out: str | None = None,
    device: str = "auto",
    extrapolate: bool = False,
    json: bool = False,
    data: dict[str, Any] | None = None,
    other_data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Say which β to take for a purpose, with the numbers behind it.

    Measures at each β on the validation set, chooses, and reports the chosen β on the test set.
    Prints the advice and a table: → is the chosen β, ≈ one within a standard error of it. Writes
    choose-PURPOSE.png and choose-PURPOSE.json.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        for_: samples, diffusion, probe, clusters, anomaly, compression, latents, disentanglement
            or likelihood.
        betas: LOW:HIGH (16 points, log-spaced), LOW:HIGH:N, or 0.1,1,4; the trained range by
            default.
        other: For anomaly, the other data: its class's name, such as Omniglot, or a class path.
        label: The label of probe, clusters and anomaly, where the data has several.
        normal: For anomaly, the values of the label that are normal, with commas.
        bits: For compression, the most bits an example, of a file; of R without constriction.
        psnr: For compression, the least PSNR, in decibels.
        distortion: For compression, the highest distortion.
        settings: Settings of what is measured, such as --settings.frechet.samples 2000.
        at: Values of the other weights that are ranges, as for curve.
        out: The folder for the files; by default as for curve.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        extrapolate: Allow β outside the trained range.
        json: Print the choice as JSON.
        data: Settings of the data to change, such as --data.root FOLDER.
        other_data: Settings of the other data, such as --other_data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.choose import choose as chosen
    from multibeta.files import check_writable
    from multibeta.purposes import PURPOSES
    from multibeta.runs import shown

    if for_ is None:
        raise ValueError(f"give --for PURPOSE: {', '.join(PURPOSES)}")
    path, model, datamodule = opened(checkpoint, device, data, allow, at, extrapolate)
    folder = Path(out) if out else folder_of(path, "test") / (at or "")
    check_writable(folder)
    found = chosen(
        model, datamodule, for_, betas, settings=settings_of(settings),
        other=None if other is None else data_set(other, other_data), label=label, normal=normal,
        bits=bits, psnr=psnr, distortion=distortion, extrapolate=extrapolate,
        progress=place() != "elsewhere",
    )  # fmt: skip
    found.plot(folder / f"choose-{for_}.png")
    found.save(folder / f"choose-{for_}.json")
    print(json_.dumps(found.as_dict()) if json else found.text())
    print(f"\nfiles: {shown(folder)}", file=sys.stderr if json else sys.stdout)
