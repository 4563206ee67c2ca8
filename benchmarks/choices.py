"""Which β each purpose takes on five data sets: the table of the page Which β shall I take?

    python -m benchmarks.choices DATA_ROOT [--sets digits …] [--purposes probe …]

The models of digits, MNIST and sprites are those that come with the package. Heartbeats (ECG5000)
and cells (200 genes of blood cells) are fitted here, one seed. Each result file is what
``multibeta choose`` found at eight β's; finished ones are skipped. The summary is choices.json.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import multibeta
from benchmarks.record import is_done, save
from benchmarks.runs import Run, arguments, fitted, is_there, result_of
from multibeta.checkpoints import find_checkpoint, load_data
from multibeta.choose import choose
from multibeta.purposes import PURPOSES
from multibeta.specs import build

COMMAND = "python -m benchmarks.choices DATA_ROOT"
BETAS = "0.01:10:8"
FEW = {"frechet": {"most": 500, "fitted": 500, "kernel": False, "infinity": False}}
"""Settings of the purposes that look at features: pictures are many, and a network is slow."""


@dataclass(frozen=True)
class Set:
    """A model and its data.

    Args:
        label: In tables.
        model: The name of a shipped one, or the options of ``multibeta fit``.
        purposes: Purpose → arguments of :func:`multibeta.choose.choose`.
        other: Purpose → the class of the other data set.
    """

    label: str
    model: str | tuple[str, ...]
    purposes: Mapping[str, Mapping[str, Any]]
    other: Mapping[str, str] = field(default_factory=dict)


_EVERY: dict[str, dict[str, Any]] = {"probe": {}, "clusters": {}, "latents": {}, "likelihood": {}}
_PICTURES = {"samples": {"settings": FEW}, "diffusion": {"settings": FEW}}
SETS = {
    "digits": Set("digits", "digits", {
        **_EVERY, **_PICTURES, "anomaly": {"normal": "0,1,2,3,4"}, "compression": {"psnr": 19.0},
    }),
    "mnist": Set("MNIST", "mnist", {
        **_EVERY, **_PICTURES, "anomaly": {}, "compression": {"psnr": 18.0},
    }, {"anomaly": "Omniglot"}),
    "sprites": Set("sprites (β-TCVAE)", "sprites", {
        "disentanglement": {}, "latents": {}, "likelihood": {}, "probe": {"label": "shape"},
    }),
    "heartbeats": Set("heartbeats", (
        "--config=npz.yaml", "--data.root=DATA_ROOT/ecg5000/ecg5000.npz",
        "--model.likelihood.sigma=0.3", "--model.latent_dim=16", "--model.network=Conv",
        "--model.network.width=32", "--model.network.depth=3", "--trainer.max_epochs=-1",
        "--trainer.max_steps=3000", "--curve.enabled=false",
    ), {**_EVERY, "anomaly": {"normal": "1"}}),
    "cells": Set("cells", (
        "--config=npz.yaml", "--data.root=DATA_ROOT/cells/pbmc200.npz",
        "--model.likelihood=NegativeBinomial", "--model.latent_dim=16", "--data.batch_size=128",
        "--trainer.max_epochs=-1", "--trainer.max_steps=3000", "--curve.enabled=false",
    ), {k: {"label": "labels"} if k in ("probe", "clusters") else {} for k in _EVERY}),
}  # fmt: skip
"""Name → data set."""


def measure(name: str, purpose: str, root: str) -> None:
    """Choose β for a purpose on a data set, and keep the choice."""
    of = SETS[name]
    given: dict[str, Any] = {"root": root}
    if isinstance(of.model, str):
        model = multibeta.load(of.model)
        data = load_data(of.model, given if of.model == "mnist" else None)
    else:
        (run,) = fitted([Run(f"choices_{name}", of.model, {})], root, 1)
        path = find_checkpoint(run)
        model, data = multibeta.load(path), load_data(path)
    options = dict(of.purposes[purpose])
    if purpose in of.other:
        spec = {"class_path": f"multibeta.data.{of.other[purpose]}", "init_args": given}
        options["other"] = build(spec, object)
    start = time.process_time()
    found = choose(model, data, purpose, BETAS, **options)
    seconds = time.process_time() - start
    save(_file(name, purpose), COMMAND, {**found.as_dict(), "processor_seconds": seconds})


def summary() -> None:
    """Write choices.json: of each data set and purpose the β, what is as good, and the figures."""
    rows = []
    for name, of in SETS.items():
        for purpose in of.purposes:
            if not is_there(_file(name, purpose)):
                continue
            found = result_of(_file(name, purpose))
            (row,) = (row for row in found["rows"] if row["beta"] == found["beta"])
            keys = ("beta", "column", "near", "reported", "processor_seconds")
            rows.append({
                "set": of.label, "purpose": purpose, **{key: found[key] for key in keys},
                "value": row[found["column"]], "ends": [found["rows"][k]["beta"] for k in (0, -1)],
            })  # fmt: skip
    save("choices", COMMAND, {"rows": rows})


def _file(name: str, purpose: str) -> str:
    return f"choices_{name}_{purpose}"


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--purposes", nargs="+", choices=PURPOSES, default=list(PURPOSES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.sets:
        for purpose in SETS[name].purposes:
            if purpose in given.purposes and not is_done(_file(name, purpose)):
                measure(name, purpose, given.root)
    summary()


if __name__ == "__main__":
    main()
