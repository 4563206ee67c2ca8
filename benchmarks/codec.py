"""Real bits: what files of a model take, beside its rate, other ways, and other formats.

    python -m benchmarks.codec DATA_ROOT [--sets mnist …]

For each set and β: the bytes of one file of test pictures, and of files of one, and
the PSNR of what comes back (``codec_SET_files``); other ways from a posterior to bits
(``codec_SET_methods``); one file that is cut at many lengths, of the one model, and of dedicated
ones before and after their latents are matched (``codec_SET_progressive``); JPEG, JPEG 2000, WebP
and AVIF (``codec_SET_rivals``); and the speed (``codec_speed``). One result file each; finished
ones are skipped. The summary is codec.json, with pictures beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from benchmarks import codec_methods as methods
from benchmarks.codec_methods import Codes, codes_of, quality
from benchmarks.codec_prefix import sides_of
from benchmarks.codec_rivals import FORMATS, measured
from benchmarks.codec_sets import BETAS, SETS, dedicated_runs, fit, model_of, pictures, rows_of
from benchmarks.codec_speed import speed
from benchmarks.codec_strip import draw_strip
from benchmarks.codec_summary import draw, summary
from benchmarks.record import RESULTS, is_done, save
from benchmarks.runs import arguments
from multibeta.codec import Codec
from multibeta.metrics.psnr import psnr
from multibeta.multibeta_vae import MultiBetaVAE

COMMAND = "python -m benchmarks.codec DATA_ROOT"
ALONE, SHARED = 150, 400
"""Test pictures in files of their own, at most; and those that other formats write, too: all of a
set's file where it has fewer, with other pictures of the same set then."""

TRAIN, SENT = 10_000, 100
"""Pictures that methods are fitted to, and sent by relative entropy coding."""

TUNED = 1_000
"""Values of a picture above which no map before the decoder is tuned: that takes hours."""

PRICES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""λ's at which the codes of one β are quantised by VBQ, to reach other rates."""

AGAIN = (0.01, 0.1)
"""Those β's."""

STRIPS = {"mnist": (9, 10, 11, 12, 14), "celeba": (12, 16, 24, 32, 48)}
"""Set → lengths of cut files of one picture, in bytes."""

SPEED_BETA, BATCH = 0.1, 500


@torch.no_grad()
def unquantised(model: MultiBetaVAE, x: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return R in bits, and PSNR and D of the reconstruction at the mean, of each picture.

    The reconstruction is clipped to [0, 1] for its PSNR, as a file's pictures are.

    Args:
        model: The model.
        x: (N, C, H, W), 8-bit.
        beta: β.
    """
    vae = model.at_beta(beta)
    found = []
    for part in x.split(BATCH):
        terms = vae.elbo_terms(part)
        p = vae.decode(terms.posterior.mean)
        values = part / 255
        found.append((terms.rate_nats.double() / np.log(2), psnr(values, p.mean.clamp(0, 1)),
                      -p.log_prob(values).double()))  # fmt: skip
    bits, psnr_db, distortion = (torch.cat(of) for of in zip(*found, strict=True))
    return bits, psnr_db, distortion


def files(name: str, root: str) -> None:
    """Measure files of many pictures, and of one, over β.

    Args:
        name: Of the set.
        root: The data's folder.
    """
    model, x = model_of(name, root), pictures(name, root)
    shared, x = shared_of(x), x[rows_of(len(x), SETS[name].together)]
    alone = rows_of(len(x), min(ALONE, len(x) // 8))
    rows, few = [], len(x) <= len(shared)
    for search in (None, 0):
        codec = Codec(model) if search is None else Codec(model, search=search)
        for beta in BETAS:
            file = codec.encode(x / 255, beta)
            near = psnr(x / 255, codec.decode(file))
            rate, best, _ = unquantised(model, x, beta)
            each = torch.tensor([8.0 * len(codec.encode(x[[i]] / 255, beta)) for i in alone])
            rows.append({
                "search": search is None,
                "beta": beta,
                "rate_bits": rate.mean().item(),
                "bits": 8 * len(file) / len(x),
                "psnr_db": near.mean().item(),
                "psnr_shared_db": near.mean().item() if few
                else _whole(codec, shared, beta)["psnr_db"],
                "mean_psnr_db": best.mean().item(),
                "alone": {
                    "bits": each.mean().item(),
                    "most_bytes": each.max().item() / 8,
                    "rate_bits": rate[alone].mean().item(),
                    "within": (each <= 1.25 * rate[alone] + 32).double().mean().item(),
                },
            })  # fmt: skip
    about = {**_about(name, x), "alone": len(alone),
             "parameters": sum(p.numel() for p in model.parameters())}  # fmt: skip
    save(f"codec_{name}_files", COMMAND, {**about, "rows": rows})


def _about(name: str, x: Tensor) -> dict[str, Any]:
    return {"set": name, "pictures": len(x), "pixels": x[0, 0].numel()}


def _parts(name: str, root: str, most: int) -> tuple[MultiBetaVAE, Tensor, Tensor]:
    """Return the one model, so many test pictures, and training pictures."""
    x, train = pictures(name, root), pictures(name, root, "train")
    few = min(TRAIN, 10 * SETS[name].tried)
    return model_of(name, root), x[rows_of(len(x), most)], train[rows_of(len(train), few)]


def compared(name: str, root: str) -> None:
    """Measure ways from a posterior to bits, over β.

    Args:
        name: Of the set.
        root: The data's folder.
    """
    model, x, train = _parts(name, root, SETS[name].tried)
    ways = {"searched": Codec(model), "rounded, in a file": Codec(model, search=0)}
    rows, again = [], {}
    for beta in BETAS:
        codes = codes_of(model.at_beta(beta).requires_grad_(False), train, x)
        found = {way: _in_file(codec, codes, x, beta) for way, codec in ways.items()}
        found |= _by_tables(codes)
        row = {"beta": beta, "rate_bits": float(codes.rates.sum(1).mean()), "ways": found}
        rows.append({**row, "mean": quality(codes, codes.mean)})
        if beta in AGAIN:
            again[f"{beta:g}"] = [_again(codes, price) for price in PRICES]
    about = {**_about(name, x), "requantised": again}
    save(f"codec_{name}_methods", COMMAND, {**about, "rows": rows})


def _again(codes: Codes, price: float) -> dict[str, float]:
    coded = methods.vbq(codes, price)
    return {"price": price, "bits": float(coded.bits.mean()), **quality(codes, coded.z)}


def _in_file(codec: Codec, codes: Codes, x: Tensor, beta: float) -> dict[str, float]:
    file = codec.encode(x / 255, beta)
    again = codec.decode(file)
    return {"bits": 8 * len(file) / len(x), "psnr_db": psnr(codes.x, again).mean().item()}


def _by_tables(codes: Codes) -> dict[str, dict[str, float]]:
    """Return what each of the other methods needs and gives."""
    found = {}
    few = Codes(codes.vae, codes.train, codes.train_std, codes.train_x, codes.mean[:SENT],
                codes.std[:SENT], codes.x[:SENT])  # fmt: skip
    ways = {"rounded": methods.rounded, "dithered": methods.dithered, "vbq": methods.vbq,
            "relative": methods.relative}  # fmt: skip
    for way, method in ways.items():
        coded = method(codes)
        found[way] = {"bits": float(coded.bits.mean()), **quality(codes, coded.z)}
        if way == "rounded" and codes.x[0].numel() <= TUNED:
            weight, bias = methods.tuned(codes, method)
            z = torch.from_numpy(coded.z).float() @ weight + bias
            found["rounded, decoder's input tuned"] = {**found[way], **quality(codes, z)}
    sent, sample = methods.poisson(few), methods.relative(few)
    for key, value in quality(few, sent.z).items():  # of few pictures: beside a sample of q
        found.setdefault("relative, for real", {})[key] = (
            found["relative"][key] + value - quality(few, sample.z)[key]
        )
    share = float(sent.bits.mean() / few.rates.sum(1).mean())
    found["relative, for real"]["bits"] = share * float(codes.rates.sum(1).mean())
    return found


def shared_of(x: Tensor) -> Tensor:
    """Return the test pictures that formats are compared on."""
    x = x[rows_of(len(x), 10_000)]
    return x[rows_of(len(x), SHARED)]


def rivals(name: str, root: str) -> None:
    """Measure picture files of other formats.

    Args:
        name: Of the set.
        root: The data's folder.
    """
    x = shared_of(pictures(name, root))
    found = {of.label: measured(x, of) for of in FORMATS}
    about = {**_about(name, x), "pillow": PIL.__version__}
    save(f"codec_{name}_rivals", COMMAND, {**about, "formats": found})


def progressive(name: str, root: str) -> None:
    """Measure one file that is cut, and files for each rate.

    Args:
        name: Of the set.
        root: The data's folder.
    """
    model, x, train = _parts(name, root, SETS[name].cut)
    apart = {"one": [_whole(Codec(model), x, beta) for beta in BETAS]}
    dedicated = {
        beta: model_of(name, root, beta).at_beta(beta).requires_grad_(False)
        for beta in dedicated_runs(name)
    }
    if dedicated:
        apart["dedicated"] = [_whole(Codec(vae), x, beta) for beta, vae in dedicated.items()]
    sizes = [round(row["bits"] * len(x) / 8) for rows in apart.values() for row in rows]
    cut = sides_of(model, dedicated, x / 255, train, sizes)
    about = {**_about(name, x), "budget": SETS[name].budget}
    save(f"codec_{name}_progressive", COMMAND, {**about, "apart": apart, "cut": cut})


def _whole(codec: Codec, x: Tensor, beta: float) -> dict[str, float]:
    file = codec.encode(x / 255, beta)
    near = psnr(x / 255, codec.decode(file)).mean().item()
    return {"beta": beta, "bits": 8 * len(file) / len(x), "psnr_db": near}


def speeds(root: str) -> None:
    """Measure the speed of each set's codec, in processor time of one thread.

    Args:
        root: The data's folder.
    """
    found = {}
    for name in SETS:
        model, x = model_of(name, root), pictures(name, root)
        x = x[rows_of(len(x), SETS[name].together)]
        ways = {"searched": Codec(model), "rounded": Codec(model, search=0)}
        found[name] = {way: speed(codec, x / 255, SPEED_BETA) for way, codec in ways.items()}
    save("codec_speed", COMMAND, {"beta": SPEED_BETA, "sets": found})


def strips(root: str) -> None:
    """Draw files of one picture that are cut shorter and shorter.

    Args:
        root: The data's folder.
    """
    for name, lengths in STRIPS.items():
        x = pictures(name, root)
        x = x[rows_of(len(x), 16)] / 255
        draw_strip(Codec(model_of(name, root)), x, lengths, RESULTS / f"codec_strip_{name}.png")


MEASUREMENTS = {
    "rivals": rivals, "files": files, "methods": compared, "progressive": progressive,
}  # fmt: skip


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--fit-only", action="store_true", help="fit, and measure nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fit(given.sets, given.root, given.jobs)
    for name in () if given.fit_only else given.sets:
        for kind, measure in MEASUREMENTS.items():
            if not is_done(f"codec_{name}_{kind}"):
                measure(name, given.root)
    if not given.fit_only and not is_done("codec_speed"):
        speeds(given.root)
    strips(given.root)
    save("codec", COMMAND, {"sets": summary()})
    draw()


if __name__ == "__main__":
    main()
