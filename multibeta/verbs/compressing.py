"""The verbs that write and read real bits: compress, decompress, cut."""

from __future__ import annotations

import json as json_
import math
import sys
from pathlib import Path
from typing import Any

from multibeta.verbs.making import inputs_of
from multibeta.verbs.opening import opened

__all__ = ["compress", "cut", "decompress"]

_BATCH = 250


def compress(
    checkpoint: str,
    files: list[str],
    beta: float | None = None,
    bits: float | None = None,
    psnr: float | None = None,
    progressive: bool = False,
    lossless: bool = False,
    search: int = 128,
    at: str | None = None,
    given: dict[str, Any] | None = None,
    out: str = "compressed.mb",
    device: str = "auto",
    json: bool = False,
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Write examples to a file of few bits, at any β.

    Prints how many bits an example has, beside R, and how near comes what the file is read as,
    by reading it again. What a picture loses by being cut and reduced to the model's size is lost
    before.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        files: Images, folders of images, or arrays in .npy and .npz files.
        beta: The β to write at; or give --bits or --psnr. With --progressive that of the last
            bits, the lowest of the range by default.
        bits: The most bits an example, of the whole file; the lowest β that has no more is taken.
        psnr: The least PSNR, in decibels; the highest β that has as much is taken.
        progressive: Order the bits so that any beginning of the file is a file, by multibeta cut.
        lossless: Keep x as it is, for likelihoods of discrete data; without --beta at the β of the
            least D + R, of 16.
        search: At how many latents of an example to look for a better code than the rounded mean,
            each of which takes two decodings and more; 0 for none.
        at: Values of the other weights that are ranges, as for curve.
        given: As for sample; decompress needs the same.
        out: The file.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        json: Print the numbers as JSON.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.codec import Codec
    from multibeta.compression import encode_to, shortest_beta
    from multibeta.data.given import examples_of
    from multibeta.files import check_writable, replacing
    from multibeta.metrics.psnr import peak_of

    wanted = {"--beta": beta, "--bits": bits, "--psnr": psnr}
    chosen = [name for name, value in wanted.items() if value is not None]
    if len(chosen) > 1 or not (chosen or progressive or lossless):
        raise ValueError("give one of --beta, --bits, --psnr, or --progressive or --lossless")
    if progressive and lossless:
        raise ValueError("a file is --progressive or --lossless; leave one of them out")
    if (progressive or lossless) and (bits is not None or psnr is not None):
        kind = "--progressive" if progressive else "--lossless"
        cure = "cut it afterwards" if progressive else "its bits are what x takes"
        raise ValueError(f"{kind} takes no {chosen[0]}: {cure}")
    check_writable(Path(out).parent)
    _, model, datamodule = opened(checkpoint, device, data, allow, at, measures=False)
    codec = Codec(model, search=search)
    raw, _ = examples_of(files, model.shape, datamodule)
    x = model.read(raw, careful=True).x
    inputs = inputs_of(given, model, datamodule)
    if lossless and beta is None:
        beta = shortest_beta(codec, x, **inputs)
    if beta is not None or progressive:
        file = codec.encode(x, beta, progressive=progressive, lossless=lossless, **inputs)
    else:
        peak = peak_of(model, x)
        file = encode_to(codec, x, bits=bits, psnr=psnr, peak=peak, **inputs)
    row = _measured(codec, file, x, inputs)
    with replacing(out) as temporary:
        temporary.write_bytes(file)
    if json:
        print(json_.dumps(row))
    else:
        print(_line(row, out))


def decompress(
    file: str,
    run: str | None = None,
    bits: float | None = None,
    at: str | None = None,
    given: dict[str, Any] | None = None,
    out: str = "decompressed",
    device: str = "auto",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Read what compress has written.

    Args:
        file: The file.
        run: The model that made it, as the first argument of compress; by default it is looked
            for among the shipped models and in runs/ here.
        bits: Of a progressive file, how many bits an example to read at most, the header's
            included.
        at: As for compress; then --run is needed.
        given: As for compress; then --run is needed.
        out: A folder, for a picture a file; a picture's name, for one; .npz or .npy, the numbers.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        data: As for compress; then --run is needed.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.codec import Codec
    from multibeta.codec.container import unpack
    from multibeta.compression import model_of, read_file
    from multibeta.files import check_writable

    check_writable(out if Path(out).suffix == "" else Path(out).parent)
    content = read_file(file)
    if run is None:
        if needed := [f"--{k}" for k, v in {"at": at, "given": given, "data": data}.items() if v]:
            raise ValueError(f"{needed[0]} is of a model; give it, too: --run RUN")
        run, _ = model_of(content)
        print(f"model: {run}", file=sys.stderr)
    _, model, datamodule = opened(run, device, data, allow, at, measures=False)
    _check(Path(out), unpack(content).count, model)
    inputs = inputs_of(given, model, datamodule)
    found = Codec(model).read(content, bits=bits, **inputs)
    if found.note:
        print(found.note, file=sys.stderr)
    count = _write(found.x.numpy(), Path(out), model)
    print(f"{count} at β = {found.beta:.4g}\n\nfiles: {out}")


def cut(file: str, bits: float | None = None, out: str = "cut.mb") -> None:
    """Cut a progressive file to fewer bits, without the model.

    Args:
        file: What compress --progressive has written.
        bits: How many bits an example the new file has at most, its header's included.
        out: The new file.
    """
    from multibeta.codec import cut as shorter
    from multibeta.codec.container import unpack
    from multibeta.compression import read_file
    from multibeta.files import replacing

    if bits is None:
        raise ValueError("give --bits N, how many bits an example the new file has at most")
    content = read_file(file)
    count = unpack(content).count
    short = shorter(content, math.floor(bits * max(1, count) / 8))
    with replacing(out) as temporary:
        temporary.write_bytes(short)
    print(f"{len(content):,} → {len(short):,} bytes, {8 * len(short) / max(1, count):.1f} bits an "
          f"example\n\nfiles: {out}")  # fmt: skip


def _measured(codec: Any, file: bytes, x: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return what there is to say of a file: it is read again.

    Raises:
        RuntimeError: If what was to be lossless is not.
    """
    import torch

    from multibeta.codec.container import unpack
    from multibeta.data.examples import on, rows_of
    from multibeta.metrics.bits import per_place
    from multibeta.metrics.psnr import peak_of, psnr
    from multibeta.noise import evaluation_noise

    found, lossless = codec.read(file, **inputs), unpack(file).kind == "lossless"
    vae, rates, near, bound = codec.vae(codec.index(found.beta)), [], [], []
    device = next(vae.parameters()).device
    for number, some in enumerate(x.split(_BATCH)):
        part = slice(number * _BATCH, (number + 1) * _BATCH)
        given = on(rows_of(inputs, part, len(x)), device)
        noise = evaluation_noise(None, number, len(some), vae.latent_shape).to(device)
        with torch.no_grad():
            terms = vae.elbo_terms(some.to(device), noise, **given)
            rates.append(terms.rate_nats.cpu())
            bound.append(terms.distortion.cpu() + rates[-1])
            near.append(vae.decode(terms.posterior.mean, **given).mean.cpu())
    bits = 8 * len(file) / len(x)
    name, size = per_place(codec.model.shape)
    rate = torch.cat(rates).mean().item() / math.log(2)
    row = {"count": len(x), "bytes": len(file), "beta": found.beta, "bits": bits}
    row |= {name: bits / size, "rate_bits": rate}
    if lossless:
        if not torch.equal(found.x, x.to(found.x)):
            raise RuntimeError("a lossless file is read as something else")
        row["neg_elbo_bits"] = torch.cat(bound).mean().item() / math.log(2)
    elif peak := peak_of(codec.model, x):
        row["psnr_db"] = psnr(x.cpu(), found.x, peak).mean().item()
        row["psnr_mean_db"] = psnr(x.cpu(), torch.cat(near), peak).mean().item()
    return row


def _line(row: dict[str, Any], out: str) -> str:
    """Return the numbers in a few words."""
    name = "bpp" if "bpp" in row else "bits_per_dim"
    each = f"{row['bits']:.1f} bits an example ({row[name]:.4g} {name.replace('_', ' ')})"
    ideal, of = ("D + R", "neg_elbo_bits") if "neg_elbo_bits" in row else ("R", "rate_bits")
    over = f": {row['bits'] / row[of]:.3f} of it" if row[of] > 0 else ""
    said = [
        f"{row['count']:,} examples, {row['bytes']:,} bytes: {each}, at β = {row['beta']:.4g}",
        f"{ideal} there is {row[of]:.1f} bits{over}",
    ]
    if "psnr_db" in row:
        said.append(
            f"PSNR {row['psnr_db']:.2f} dB; of means that are not rounded "
            f"{row['psnr_mean_db']:.2f} dB"
        )
    return "\n".join([*said, "", f"files: {out}"])


_PICTURES = (".png", ".webp", ".bmp", ".tif", ".tiff")
_ARRAYS = (".npz", ".npy")


def _check(out: Path, count: int, model: Any) -> None:
    """Refuse a place that cannot hold the examples, before they are read."""
    kind = out.suffix.lower()
    if kind in _ARRAYS:
        return
    if len(model.shape) != 3 or model.shape[0] not in (1, 3):
        raise ValueError(f"x {model.shape} is no picture with 1 or 3 channels; write --out x.npz")
    if kind and (kind not in _PICTURES or count != 1):
        raise ValueError(
            f"--out {out} cannot hold {count:,} pictures; give a folder, or write --out x.npz"
        )


def _write(x: Any, out: Path, model: Any) -> str:
    """Write examples (N, *shape); return what they are."""
    import numpy as np

    from multibeta.data.given import write_picture
    from multibeta.files import replacing

    kind = out.suffix.lower()
    if kind in _ARRAYS:
        with replacing(out) as temporary:
            np.save(temporary, x) if kind == ".npy" else np.savez(temporary, x=x)
        return f"{len(x):,} examples"
    bounds = model.units.span if model.units else (0.0, 1.0)
    digits = max(4, len(str(len(x) - 1)))
    for i, picture in enumerate(x):
        write_picture(picture, out if kind else out / f"{i:0{digits}}.png", bounds)
    return f"{len(x):,} picture{'s' * (len(x) != 1)}"
