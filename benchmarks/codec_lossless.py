"""Lossless codes of whole test sets: their size against D + R at every β, and against rivals.

    python -m benchmarks.codec_lossless DATA_ROOT [--sets mnist …]

One multi-β model a set: pictures of 0 and 1 (MNIST, Omniglot), of 17 levels (digits), of 8 bits
(Fashion-MNIST), and counts (200 genes of blood cells). Beside the first a VAE for β = 1 alone, of
the same network and steps, and the MNIST model that comes with the package, which learned from
grey. DATA_ROOT holds binarized_mnist/, omniglot/, fashion_mnist/ and cells/. What comes back is
compared with what went in. A result file a set; finished ones are skipped. The summary is
codec_lossless.json.
"""

from __future__ import annotations

import bz2
import io
import lzma
import math
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import multibeta
from benchmarks.record import is_done, save
from benchmarks.runs import FOLDERS, Run, arguments, fitted, is_there, result_of
from multibeta.checkpoints import find_checkpoint, load_data
from multibeta.codec.lossless import decode, encode
from multibeta.data import BinarizedMNIST
from multibeta.files import replacing

COMMAND = "python -m benchmarks.codec_lossless DATA_ROOT"
BETAS = "0.01:10:7"
_MNIST = (
    "--config=binarized_mnist.yaml", "--data.root=DATA_ROOT", "--data.batch_size=128",
    "--model.network=MLP", "--trainer.max_epochs=20", "--trainer.limit_val_batches=0",
)  # fmt: skip
_SHORT = ("--trainer.max_epochs=-1", "--trainer.limit_val_batches=0", "--data.batch_size=128")


@dataclass(frozen=True)
class Set:
    """A model and its test set.

    Args:
        label: In tables.
        model: The options of ``multibeta fit``; empty for the shipped MNIST.
        bits: Bits of a value as it is kept: 1, 8 or 16.
        betas: Those of the model.
        pictures: Whether there are picture files to compare with.
    """

    label: str
    model: tuple[str, ...]
    bits: int = 1
    betas: str = BETAS
    pictures: bool = True


SETS = {
    "mnist": Set("binarised MNIST", _MNIST),
    "mnist_dedicated": Set("binarised MNIST, β = 1 alone", (
        *_MNIST, "--model.betas=1", "--model.conditioning=none",
    ), 1, "1"),
    "mnist_shipped": Set("binarised MNIST, the shipped model (of grey)", ()),
    "omniglot": Set("Omniglot, binarised (the model learned from grey)", (
        "--config=omniglot.yaml", "--data.root=DATA_ROOT", "--model.network=MLP", *_SHORT,
        "--trainer.max_steps=4000",
    )),
    "digits": Set("digits, 17 levels", (
        "--config=npz.yaml", f"--data.root={FOLDERS}/digits.npz", "--data.kind=values",
        "--model.network=MLP", "--model.likelihood=Categorical", "--model.likelihood.classes=17",
        "--model.latent_dim=16", *_SHORT, "--trainer.max_steps=500",
    ), 8),
    "fashion": Set("Fashion-MNIST, 8 bits", (
        "--config=npz.yaml", "--data.root=DATA_ROOT/fashion_mnist/fashion_mnist.npz",
        "--model.network=MLP", "--model.likelihood=DiscretizedLogistic", "--model.latent_dim=32",
        *_SHORT, "--trainer.max_steps=6000",
    ), 8),
    "cells": Set("blood cells, counts of 200 genes", (
        "--config=npz.yaml", "--data.root=DATA_ROOT/cells/pbmc200.npz",
        "--model.likelihood=NegativeBinomial", "--model.latent_dim=16", *_SHORT,
        "--trainer.max_steps=3000",
    ), 16, pictures=False),
}  # fmt: skip
"""Name → set."""


def measure(name: str, root: str) -> dict[str, Any]:
    """Code a test set at every β, and by rivals."""
    of = SETS[name]
    if of.model:
        (folder,) = fitted([Run(f"codec_lossless_{name}", of.model, {})], root, 1)
        path = find_checkpoint(folder)
        model, data = multibeta.load(path), load_data(path)
    else:
        model, data = multibeta.load("mnist"), BinarizedMNIST(root)
        data.prepare_data()
        data.setup("test")
    x = torch.cat([model.read(batch).x for batch in data.ordered("test")])
    if of.bits == 1:
        x = x.round()  # Omniglot's are grey: it was made smaller
    curve = multibeta.sweep(model, x, of.betas)
    rows = []
    for row in curve.rows:
        found = coded(model.at_beta(row["beta"]), x)
        elbo = (row["distortion_nats"] + row["rate_nats"]) / math.log(2)
        ratio = {"ratio": found["bits_per_example"] / elbo}
        rows.append({"beta": row["beta"], "elbo_bits": elbo, **found, **ratio})
        print(name, {key: round(value, 4) for key, value in rows[-1].items()}, flush=True)
    return {
        "label": of.label, "fit": " ".join(["multibeta fit", *of.model]) if of.model else None,
        "examples": len(x), "values": x[0].numel(), "rows": rows, "rivals": rivals(x, of),
    }  # fmt: skip


def coded(vae: multibeta.BetaVAE, x: Tensor) -> dict[str, float]:
    """Return what a code costs; one that comes back otherwise is an error."""
    start = time.process_time()
    code = encode(vae, x)
    written = time.process_time()
    back = decode(vae, code.payload, len(x))
    read = time.process_time()
    if not torch.equal(back, x):
        raise AssertionError("what came back is not what went in")
    return {
        "bits_per_example": code.bits_per_example,
        "net_bits_per_example": code.net_bits_per_example,
        "bits_per_value": code.bits_per_value,
        "bytes": len(code.payload),
        "initial_bits": code.initial_bits,
        "examples_a_second_written": len(x) / (written - start),
        "examples_a_second_read": len(x) / (read - written),
    }


def rivals(x: Tensor, of: Set) -> dict[str, float]:
    """Return bits an example of other codes, of all examples at once but where they are said."""
    scale = 255 if of.bits == 8 and x.max() <= 1 else 1  # levels are whole numbers already
    values = (x * scale).round().numpy()
    kept = {1: np.uint8, 8: np.uint8, 16: np.dtype("<u2")}[of.bits]
    whole = values.astype(kept)
    raw = (np.packbits(whole) if of.bits == 1 else whole).tobytes()
    sizes = {
        "raw": len(raw),
        "zlib": len(zlib.compress(raw, 9)),
        "bz2": len(bz2.compress(raw, 9)),
        "lzma": len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)),
    }
    if of.pictures:
        grey = (whole * (255 if of.bits == 1 else 1))[:, 0]
        one = [_size(picture, of, "PNG", optimize=True) for picture in grey]
        sizes["PNG, a file each"] = sum(one)
        sheet = _sheet(grey)
        sizes["PNG, one sheet"] = _size(sheet, of, "PNG", optimize=True)
        options = {"lossless": True, "quality": 100, "method": 6, "exact": True}
        sizes["WebP, one sheet"] = _size(sheet, of, "WEBP", **options)
    return {name: 8 * size / len(x) for name, size in sizes.items()}


def _size(picture: np.ndarray, of: Set, kind: str, **options: Any) -> int:
    image = Image.fromarray(picture)
    if of.bits == 1 and kind == "PNG":
        image = image.convert("1", dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.tell()


def _sheet(pictures: np.ndarray) -> np.ndarray:
    """Return pictures side by side, about as many rows as columns."""
    n, height, width = pictures.shape
    side = math.ceil(math.sqrt(n))
    padded = np.concatenate([pictures, np.zeros((-n % side, height, width), pictures.dtype)])
    rows = padded.reshape(-1, side, height, width).transpose(0, 2, 1, 3)
    return rows.reshape(-1, side * width)


def make_digits(path: Path) -> None:
    """Write scikit-learn's digits as whole numbers from 0 to 16: every fifth tests."""
    from sklearn.datasets import load_digits

    x = load_digits().images.astype(np.uint8)[:, None]
    test = np.arange(len(x)) % 5 == 4
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, train=x[~test], val=x[~test][::8], test=x[test])


def summary() -> None:
    """Write codec_lossless.json: of each set the best β, and the rivals."""
    rows = []
    for name, of in SETS.items():
        if not is_there(f"codec_lossless_{name}"):
            continue
        found = result_of(f"codec_lossless_{name}")
        best = min(found["rows"], key=lambda row: row["bits_per_example"])
        rows.append({
            "set": of.label, "examples": found["examples"], "values": found["values"], **best,
            "largest_ratio": max(row["ratio"] for row in found["rows"]),
            "rivals": found["rivals"],
        })  # fmt: skip
    save("codec_lossless", COMMAND, {"rows": rows})


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    make_digits(FOLDERS / "digits.npz")
    for name in given.sets:
        if not is_done(f"codec_lossless_{name}"):
            save(f"codec_lossless_{name}", COMMAND, measure(name, given.root))
    summary()


if __name__ == "__main__":
    main()
