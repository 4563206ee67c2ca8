"""What a page says of a run, and the file that holds it."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

import multibeta
from multibeta.checkpoints import find_checkpoint, load, load_data, read_checkpoint
from multibeta.citations import bibtex, measured
from multibeta.codes import Codes, encode
from multibeta.compare import check_comparable
from multibeta.compare import compare as compared
from multibeta.compare import table as comparison
from multibeta.costs import training_of
from multibeta.curve import Curve
from multibeta.data.door import Door
from multibeta.evaluation import sweep
from multibeta.files import replacing
from multibeta.generate import samples, traversals
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.report.cuts import cuts
from multibeta.report.explain import SENTENCES, one_latent
from multibeta.report.live import live

__all__ = ["report"]

_POINTS = 25
_SHOWN = 8  # examples in a row
_SCATTERED = 600
_MOVED, _STEPS = 6, 7
_LIMIT = 15_000_000  # bytes
_LOSSLESS = 4_000_000
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Subject:
    """A run that a page shows."""

    model: MultiBetaVAE
    door: Door
    split: Any
    betas: Sequence[float]
    codes: Codes
    order: np.ndarray  # of the latents, the busiest first
    where: str
    said: list[str]


def report(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "report.html",
    *,
    metrics: str | None = None,
    split: str = "test",
    allow: str | Sequence[str] = (),
    data: dict[str, Any] | None = None,
    explain: bool = False,
) -> list[str]:
    """Write a page about runs: one file, without a network, with a slider of β.

    Args:
        runs: Checkpoints, or folders of runs.
        out: The file.
        metrics: What to measure beside rate, distortion and active latents; see
            :func:`multibeta.sweep`.
        split: Which part of the data.
        allow: Modules whose classes a checkpoint may name.
        data: Settings of the data to change.
        explain: Add three sentences to each part, and the prior, the posterior of one example and
            the aggregated posterior of one latent.

    Returns:
        What the page could not show, and why; a line each.

    Raises:
        ValueError: If the page would be larger than 15 MB.
    """
    said: list[str] = []
    found, curves = [], {}
    for run in runs:
        content, curve = _run(run, metrics, split, allow, data or {}, explain, said)
        while content["name"] in curves:
            content["name"] += "′"
        curves[content["name"]] = curve
        found.append(content)
    verdict = ""
    if len(curves) > 1:
        try:
            check_comparable(curves)
            verdict = comparison(compared(curves))
        except ValueError as error:
            verdict = f"not compared: {error}"
            said.append(verdict)
    content = {
        "runs": found, "verdict": verdict, "version": multibeta.__version__,
        "sentences": SENTENCES if explain else {},
    }  # fmt: skip
    page = _page(content, "What β buys: " * explain + ", ".join(curves))
    if len(page) > _LIMIT:
        raise ValueError(
            f"the page would have {len(page) / 1e6:.0f} MB, more than {_LIMIT / 1e6:.0f}: give "
            "fewer runs"
        )
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return said


def _page(content: dict[str, Any], title: str) -> str:
    """Return the page: the template with its style, its script and the content in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (_HERE / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": (_HERE / "page.js").read_text(encoding="utf-8"),
        "CONTENT": text.replace("</", "<\\/"),  # a script ends at the first </script
    }
    page = (_HERE / "page.html").read_text(encoding="utf-8")
    for name, of in parts.items():
        page = page.replace(f"@{name}@", of)  # the content, which may hold any text, is last
    return page


def _run(
    run: str | os.PathLike[str],
    metrics: str | None,
    split: Any,
    allow: str | Sequence[str],
    data: dict[str, Any],
    explain: bool,
    said: list[str],
) -> tuple[dict[str, Any], Curve]:
    """Return what a page says of a run, and its curve."""
    path = find_checkpoint(run)
    model = load(path, allow=allow)
    door = Door.of(load_data(path, data, allow), model)
    split = door.measured(split)
    wanted = ["active_units", *(metrics.split(",") if metrics else [])]
    if len(model.shape) == 3 and "psnr" not in wanted:
        low, high = getattr(door, "value_range", (0.0, 1.0))
        wanted += ["psnr"] if (low, high) == (0.0, 1.0) else []
    betas = model.beta_range.grid(1 if model.beta_range.is_one else _POINTS)
    curve = sweep(model, door, betas, metrics=wanted, split=split)
    record = read_checkpoint(path)["multibeta"]
    name = record["run"].get("name") or Path(path).stem
    where = f"{name}/{record['run']['folder']}" if record["run"].get("folder") else name
    plain = [model.at_beta(beta) for beta in betas]
    network, why = live(plain)
    if network is None:
        said.append(f"{where}: no live decoder ({why}); the page has pictures alone")
    rates = np.array([of["latent_rate_nats"] for of in curve.latents])
    middle = rates[int(np.argmin(np.abs(np.log(np.array(betas) / model.beta_range.middle))))]
    order = np.argsort(-middle, kind="stable")
    codes = encode(model, door, betas, splits=(split,))
    of = _Subject(model, door, split, betas, codes, order, where, said)
    content = {
        "name": where,
        "headline": curve.table().split("\n", 1)[0],
        "unit": curve.unit,
        "shape": list(model.shape),
        "betas": list(betas),
        "d": math.prod(model.shape),
        "rows": [_rounded(row) for row in curve.as_dict()["rows"]],
        "distortion": curve.distortion,
        "objective": curve.objective,
        "latentRates": _short(rates),
        "order": order.tolist(),
        "examples": _examples(of),
        "scatter": _scatter(of),
        "one": _one(of) if explain else None,
        "live": network,
        "about": _about(record, curve, model, _training(path)),
    }
    return content, curve


def _training(path: Path) -> dict[str, Any]:
    """Return what the training of a run cost; nothing of a checkpoint that lies elsewhere."""
    return training_of(path.parent.parent if path.parent.name == "checkpoints" else path)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if v is None else float(f"{v:.6g}") for k, v in row.items()}


def _short(values: np.ndarray, digits: int = 3) -> Any:
    return np.round(values.astype(float), digits).tolist()


def _about(
    record: dict[str, Any], curve: Curve, model: MultiBetaVAE, training: dict[str, Any]
) -> list[list[str]]:
    """Return what was run: pairs of a word and a text."""
    settings = {k: record[k] for k in ("settings", "data", "training") if record.get(k)}
    units = record.get("units")
    seen = curve.about.get("examples") or record.get("examples")
    listed = [
        ["model", repr(model).split("\n")[0]],
        ["parameters", f"{sum(p.numel() for p in model.parameters()):,}"],
        ["measured on", f"{curve.about['n']:,} examples, {curve.about['split']} set"],
        ["digest of the data", str(seen)],
        ["units of x", "" if not units else f"{units['low']:.4g} to {units['high']:.4g}"],
        ["cost", f"{training['steps']:,} steps in {training['seconds']:.3g} s of training, on "
                 f"{training['device']}" if training["steps"] else ""],
        ["warnings", "; ".join(training["warnings"])],
        ["versions", ", ".join(
            f"{k} {v}" for k, v in curve.about.get("versions", {}).items()
        ) or f"multibeta {record['version']}"],
        ["settings", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)],
        ["limits", "R, D and J are means over the examples, ± one standard error. The report "
                   "shows one model: another seed differs. β between the measured ones was not "
                   "measured. Samples and traversals are means of p(x|z)."],
        ["cite", bibtex(record, measured(curve.rows[0]))],
    ]  # fmt: skip
    return [[name, text] for name, text in listed if text and text != "None"]


def _scatter(of: _Subject) -> dict[str, Any]:
    """Return the means of two latents, those with the most rate, and a label of each example."""
    codes, betas, order = of.codes, of.betas, of.order
    keep = np.linspace(0, len(codes) - 1, min(_SCATTERED, len(codes))).astype(int)
    mean = codes.mean[:, keep].reshape(len(betas), len(keep), len(order), -1).mean(3)
    axes = order[:2].tolist() if len(order) > 1 else [0, 0]
    labels = {}
    for name, values in codes.labels.items():
        words, numbers = np.unique(values[keep], return_inverse=True)
        if 2 <= len(words) <= 20:
            labels[name] = {"words": [str(word) for word in words], "of": numbers.tolist()}
    if codes.labels and not labels:
        of.said.append(
            f"{of.where}: codes have no colours: no label of {', '.join(codes.labels)} has 2 to "
            "20 values"
        )
    usual = [name for name in ("labels", "label", "class", "digit") if name in labels]
    first = [*usual, *labels, ""][0]
    return {"axes": axes, "points": _short(mean[:, :, axes], 2), "label": first,
            "labels": labels.get(first)}  # fmt: skip


def _one(of: _Subject) -> dict[str, Any] | None:
    """Return the densities of one latent, or None where there is none to show."""
    try:
        return one_latent(of.codes, of.order, _SHOWN)
    except ValueError as error:
        of.said.append(f"{of.where}: no densities of one latent: {error}")
        return None


# Examples ---------------------------------------------------------------------------------------


@torch.no_grad()
def _examples(of: _Subject) -> dict[str, Any] | None:
    """Return inputs, reconstructions, samples and traversals at each β, as pictures or lines."""
    model, betas = of.model, of.betas
    shape = model.shape
    pictures = len(shape) == 3 and shape[0] in (1, 3)
    if not pictures and len(shape) != 2:
        of.said.append(f"{of.where}: x {shape} is no picture and no signal; the page shows none")
        return None
    read = model.read(next(iter(of.door.batches(of.split))))
    x, inputs = read.x[:_SHOWN], {k: v[:_SHOWN] for k, v in read.inputs.items()}
    again = torch.stack([model.at_beta(beta).reconstruct(x, **inputs) for beta in betas])
    chosen = of.order[:_MOVED].tolist()
    try:
        drawn = samples(model, betas, len(x) if inputs else _SHOWN, inputs=inputs)
        first = {name: value[:1] for name, value in inputs.items()}
        moved = traversals(model, betas, chosen, steps=_STEPS, inputs=first)
    except ValueError as error:  # a decoder that takes more than z
        of.said.append(f"{of.where}: no pictures: {error}")
        return None
    if inputs:
        of.said.append(
            f"{of.where}: samples have the {', '.join(inputs)} of the examples, traversals that "
            "of the first"
        )
    sets = {"x": x[None], "again": again, "samples": drawn, "moved": moved}
    file, sets["cut"] = _file(of, x, inputs)
    made = _pictures(of, sets) if pictures else _signals(sets)
    return {**made, "moved_latents": chosen, "file": file}


def _file(of: _Subject, x: Tensor, inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor]:
    """Return what to say of a file of the examples, and what its first bytes give: (K, N, …).

    Where there is no such file it is said why, and K = 0.
    """
    try:
        found = cuts(of.model, x, inputs)
    except ValueError as error:
        of.said.append(f"{of.where}: no file that is cut: {error}")
        return {"lacks": str(error)}, x[None][:0]
    return found.as_dict(), found.x


def _signals(sets: dict[str, Tensor]) -> dict[str, Any]:
    """Return the values of signals, (K, N, C, L) each, or some of them; a note says which."""
    x = sets["x"][0]
    channels, length = x.shape[1:]
    keep = np.linspace(0, length - 1, min(length, 200)).astype(int)
    note = f", the first 2 of {channels} channels" if channels > 2 else ""
    note += f", {len(keep)} of {length} values" if len(keep) < length else ""
    values = {k: _short(v[..., :2, :][..., keep].numpy()) for k, v in sets.items()}
    return {"kind": "signals", "span": [float(x.min()), float(x.max())], "note": note, **values,
            "x": values["x"][0]}  # fmt: skip


def _pictures(of: _Subject, sets: dict[str, Tensor]) -> dict[str, Any]:
    """Return a sheet of pictures, (K, N, C, H, W), for each of K β's or lengths."""
    columns = {k: _STEPS if k == "moved" else v.shape[1] for k, v in sets.items()}
    span = of.model.units.span if of.model.units else (0.0, 1.0)
    parts = {**sets, "moved": sets["moved"].flatten(1, 2)}
    for form in ("PNG", "WEBP"):
        sheets = {
            k: [_sheet(of_one, columns[k], span, form) for of_one in v] for k, v in parts.items()
        }
        if sum(len(text) for each in sheets.values() for text in each) < _LOSSLESS:
            break
    if form == "WEBP":
        of.said.append(f"{of.where}: pictures are compressed (WebP)")
    return {"kind": "pictures", "note": "", "columns": columns, "size": of.model.shape[1:],
            **sheets}  # fmt: skip


def _sheet(x: Tensor, columns: int, span: tuple[float, float], form: str) -> str:
    """Return pictures (N, C, H, W) in rows as one, an address that holds it."""
    from PIL import Image

    n, _, h, w = x.shape
    gap = max(1, h // 24)
    scaled = ((x - span[0]) / (span[1] - span[0])).clamp(0, 1).mul(255).round().to(torch.uint8)
    tiles = torch.zeros(n, 4, h + gap, w + gap, dtype=torch.uint8)  # transparent between them
    tiles[:, :3, :h, :w], tiles[:, 3, :h, :w] = scaled, 255
    rows = tiles.reshape(n // columns, columns, 4, h + gap, w + gap).permute(0, 3, 1, 4, 2)
    pixels = rows.reshape(n // columns * (h + gap), columns * (w + gap), 4)[:-gap, :-gap].numpy()
    with io.BytesIO() as file:
        options = {"quality": 80} if form == "WEBP" else {"optimize": True}
        Image.fromarray(pixels).save(file, form, **options)
        text = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"
