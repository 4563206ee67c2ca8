"""A model as a folder for the Hugging Face Hub: weights, settings, and a card for readers."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

import multibeta
from multibeta.citations import bibtex, measured
from multibeta.curve import Curve
from multibeta.files import replacing
from multibeta.hub import CONFIG, WEIGHTS, download, is_repo, upload
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.saved import plain_content, published
from multibeta.settings import FORMAT, plain_settings
from multibeta.tensors import write
from multibeta.vae import BetaVAE

__all__ = ["push_to_hub", "save_pretrained", "weights_of"]

_TAGS = ["beta-vae", "multibeta", "rate-distortion", "variational-autoencoder"]


def save_pretrained(
    model: MultiBetaVAE | BetaVAE,
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    license: str | None = None,
    curve: Curve | str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write a folder that :meth:`from_pretrained` and every command read.

    It has model.safetensors, all that is loaded: tensors, and plain values in its metadata;
    config.json, a copy of these values for readers; README.md, the model card; and curve.png, if
    a curve is given. No folder of this machine is written: the root of the data, and other paths
    of the run, are left out, and the former is said on stderr.

    Args:
        model: A model for a range of β, or a plain VAE at one.
        folder: Where to.
        name: What it is called, ``owner/name`` on the Hub; the folder's name by default.
        license: The licence of the weights, by the Hub's word for it, such as ``mit``.
        curve: The measured curve, or its curve.json.

    Returns:
        The files.

    Raises:
        ValueError: If safetensors is missing, or where β enters is not yet known.
        OSError: If a file cannot be written.
    """
    folder = Path(folder)
    if curve is not None and not isinstance(curve, Curve):
        curve = Curve.from_json(curve)
    content = _content(model) if isinstance(model, MultiBetaVAE) else plain_content(model)
    given = (model.about.get("data") or {}).get("init_args") or {}
    if left := [name for name in given if name not in _data_of(content)["init_args"]]:
        print(
            f"left out: {', '.join(f'data.{name}' for name in left)}, a place on this machine; "
            "whoever measures the model gives their own: --data.root FOLDER",
            file=sys.stderr,
        )
    write(folder / WEIGHTS, model.state_dict(), content)
    files = {CONFIG: json.dumps(content, ensure_ascii=False, indent=1) + "\n"}
    files["README.md"] = _card(model, content, name or folder.resolve().name, license, curve)
    for file, text in files.items():
        with replacing(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    written = [folder / WEIGHTS, *(folder / file for file in files)]
    if curve is not None:
        with replacing(folder / "curve.png") as temporary:
            curve.plot(temporary)
        written.append(folder / "curve.png")
    return written


def push_to_hub(
    model: MultiBetaVAE | BetaVAE,
    repo: str,
    *,
    private: bool = False,
    token: str | None = None,
    license: str | None = None,
    curve: Curve | str | os.PathLike[str] | None = None,
) -> str:
    """Put a model on the Hugging Face Hub, as :func:`save_pretrained` writes it.

    Args:
        model: As there.
        repo: ``owner/name``; made if there is none.
        private: Whether a new repository is private.
        token: The token to write with; that of the login (``hf auth login``) by default.
        license: As there.
        curve: As there.

    Returns:
        The repository's address.

    Raises:
        ValueError: As there, or if huggingface_hub is missing.
        OSError: If the repository may not be written, or the Hub cannot be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, name=repo, license=license, curve=curve)
        return upload(Path(folder), repo, private, token)


def weights_of(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the file to load of a folder or a repository.

    Args:
        source: A folder that :func:`save_pretrained` has made, or ``owner/name``.
        revision: A branch, tag or commit of the repository.

    Raises:
        FileNotFoundError: If it is neither.
        OSError: If the repository cannot be read.
    """
    path = Path(source) / WEIGHTS
    if path.is_file() and revision is None:
        return path
    if is_repo(source):
        return download(os.fspath(source), revision)
    why = "a folder has no revision" if path.is_file() else f"no {WEIGHTS} in {source}"
    raise FileNotFoundError(f"{why}; give a folder of save_pretrained, or owner/name on the Hub")


def _content(model: MultiBetaVAE) -> dict[str, Any]:
    """Return what makes a model again, in the form of a checkpoint's."""
    if not model.latent_shape:
        raise ValueError(
            "where β enters is not yet known, and so are the weights: give wrap(…, example=x), or "
            "train it first"
        )
    about = published(model.about)
    return {
        "kind": "MultiBetaVAE",
        "format": FORMAT,
        "version": multibeta.__version__,
        "data": about.get("data"),
        "examples": about.get("examples"),
        "units": None if model.units is None else asdict(model.units),
        "run_seed": model.run_seed,
        "training": about.get("training"),
        "run": about.get("run") or {"trainer": {}},
        "step": about.get("step", 0),
        **plain_settings(model),
    }


def _data_of(content: Mapping[str, Any]) -> dict[str, Any]:
    about = content if content["kind"] == "MultiBetaVAE" else content["about"]
    return about.get("data") or {"class_path": "", "init_args": {}}


# The card ---------------------------------------------------------------------------------------


def _card(
    model: MultiBetaVAE | BetaVAE,
    content: dict[str, Any],
    name: str,
    license: str | None,
    curve: Curve | None,
) -> str:
    """Return the model card: Markdown under a head of YAML."""
    several = isinstance(model, MultiBetaVAE)
    head = {"library_name": "multibeta", "license": license or "unknown", "tags": _TAGS}
    facts = "\n".join(f"| {k} | {_cell(v)} |" for k, v in model.facts().items())
    title = f"β in {model.beta_range}" if several else f"β = {model.beta:g}"
    kind = (
        "One variational autoencoder, conditioned on log β, that is a β-VAE at every β of its "
        "range." if several else
        "A plain variational autoencoder at one β, taken out of a model for a range of β."
    )  # fmt: skip
    licence = (
        f"The weights: {license}." if license else
        "The licence of the weights is unknown: whoever put them here has not given one. Ask "
        "before you use them."
    )  # fmt: skip
    metrics = [] if curve is None else measured(curve.rows[0])
    sections = {
        "How to load": _use(model, content, name),
        "Rate and distortion": _measured(curve, None if several else model.beta),
        "The model": f"| | |\n|---|---|\n{facts}",
        "Data": _data(content),
        "Limits": (
            "R, D and J = D + βR are nats per example, summed over dimensions, ± one standard "
            "error over the examples. It is one training: another seed differs. "
            + ("Between the β's that were measured nothing was measured, and outside "
               f"{model.beta_range} nothing was trained. " if several else "")
            + "Data in other units than those above is refused, or warned of."
        ),
        "Licence": f"{licence} The data has a licence of its own.",
        "Citation": f"```bibtex\n{bibtex(_cited(content), metrics)}\n```",
    }  # fmt: skip
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n# {name}: {title}\n\n{kind}\n\n{body}\n"


def _use(model: MultiBetaVAE | BetaVAE, content: dict[str, Any], name: str) -> str:
    wrapped = "wrapped" in content or not content.get("settings")
    parts = ""
    if wrapped:
        single = content.get("wrapped", content)["single"]
        parts = ", module" if single else ", encoder, decoder"
    if isinstance(model, MultiBetaVAE):
        call = "multibeta.MultiBetaVAE.from_pretrained" if wrapped else "multibeta.load"
        lines = [f'model = {call}("{name}"{parts})',
                 f"vae = model.at_beta({model.beta_range.middle:.3g})"]  # fmt: skip
    else:
        lines = [f'vae = multibeta.BetaVAE.from_pretrained("{name}"{parts})',
                 "samples = vae.sample(16)"]  # fmt: skip
    classes = content.get("wrapped", content).get("classes", {})
    own = (
        f"\n\nThe networks are code of its author's ({', '.join(dict.fromkeys(classes.values()))})"
        ": build them, and pass them." if wrapped else ""
    )  # fmt: skip
    code = "\n".join(["import multibeta", *lines])
    return (
        f"```python\n{code}\n```\n\n`pip install 'multibeta[hub]'`. Tensors and plain values are "
        f"read, and no code.{own}"
    )


def _measured(curve: Curve | None, beta: float | None) -> str:
    if curve is None:
        return "No curve was measured for this card."
    of = "" if beta is None else (
        f"\n\nIt is that of the model for all β's; this one is its point at β = {beta:g}."
    )  # fmt: skip
    return f"![Distortion against rate](curve.png)\n\n```text\n{curve.table()}\n```{of}"


def _data(content: dict[str, Any]) -> str:
    about = content if content["kind"] == "MultiBetaVAE" else content["about"]
    data, units = _data_of(content), content["units"]
    settings = ", ".join(f"{k}={v}" for k, v in data["init_args"].items() if v is not None)
    lines = [
        f"Trained on {data['class_path'].rpartition('.')[2]} ({settings or 'as it comes'})."
        if data["class_path"] else "What it was trained on is not known to the file.",
    ]  # fmt: skip
    if about.get("examples"):
        lines.append(f"Digest of the training examples: `{about['examples']}`.")
    if units is not None:
        mean, std = ([f"{v:.4g}" for v in units[k][:3]] for k in ("mean", "std"))
        lines.append(
            f"x is within [{units['low']:.4g}, {units['high']:.4g}], with mean {', '.join(mean)} "
            f"and standard deviation {', '.join(std)} (by {units['n']:,} training examples"
            + ("; the first 3 channels)." if len(units["mean"]) > 3 else ").")
        )
    return " ".join(lines)


def _cited(content: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that :func:`~multibeta.citations.bibtex` goes by."""
    if content["kind"] == "MultiBetaVAE":
        return content
    return {"settings": {**content["about"], "likelihood": content["likelihood"]},
            "data": content["about"].get("data")}  # fmt: skip


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
