"""What to cite: BibTeX of this package and of the papers behind a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "CONDITIONING",
    "DATA",
    "LIKELIHOODS",
    "METRICS",
    "OBJECTIVES",
    "PAPERS",
    "bibtex",
    "cited",
    "measured",
]

OBJECTIVES: dict[str, tuple[str, ...]] = {
    "AAE": ("makhzani2016aae", "zhao2017infovae"),
    "AnchorVAE": ("gao2019corex", "esmaeili2019structured"),
    "BetaELBO": ("higgins2017beta", "alemi2018fixing"),
    "BetaTCVAE": ("chen2018isolating",),
    "DIPVAE": ("kumar2018dip",),
    "ELBO": ("kingma2014vae",),
    "FactorVAE": ("kim2018factor",),
    "HFVAE": ("esmaeili2019structured",),
    "IWAE": ("burda2016iwae",),
    "InfoVAE": ("zhao2017infovae", "tolstikhin2018wae"),
    "InformationDropout": ("achille2018dropout", "esmaeili2019structured"),
    "TargetRate": ("burgess2018understanding", "alemi2018fixing"),
}
"""Objective → its papers."""

DATA: dict[str, tuple[str, ...]] = {
    "BinarizedMNIST": ("salakhutdinov2008dbn", "lecun1998gradient"),
    "CIFAR10": ("krizhevsky2009learning",),
    "CelebA": ("liu2015celeba",),
    "Digits": ("alpaydin1998digits",),
    "FashionMNIST": ("xiao2017fashion",),
    "Folder": (),
    "Gaussian": ("tipping1999ppca",),
    "MNIST": ("lecun1998gradient",),
    "NPZ": (),
    "Omniglot": ("lake2015omniglot",),
    "Sprites": ("matthey2017dsprites",),
    "Table": (),
}
"""Data set → its papers; none of pictures and arrays of the user's."""

LIKELIHOODS: dict[str, tuple[str, ...]] = {
    "Bernoulli": (),
    "Categorical": (),
    "ContinuousBernoulli": ("loaiza2019continuous",),
    "DiscretizedLogistic": ("salimans2017pixelcnn",),
    "Distortion": (),
    "Gaussian": (),
    "ImageGaussian": ("rybkin2021sigma",),
    "L1": (),
    "Laplace": (),
    "LearnedGaussian": ("rybkin2021sigma",),
    "MSE": (),
    "MultiScaleSTFT": ("engel2020ddsp", "yamamoto2020parallel", "caillon2021rave"),
    "Multinomial": ("liang2018multinomial",),
    "NegativeBinomial": ("lopez2018scvi",),
    "OptimalGaussian": ("rybkin2021sigma",),
    "PixelGaussian": ("rybkin2021sigma",),
    "Poisson": (),
    "SSIM": ("wang2004ssim",),
    "ZeroInflatedNegativeBinomial": ("lopez2018scvi",),
}
"""Likelihood, or distortion → its papers; none of those in every textbook."""

METRICS: dict[str, tuple[str, ...]] = {
    "active_units": ("burda2016iwae",),
    "alignment": ("kornblith2019similarity", "bonneel2015sliced"),
    "bits": ("bamler2022understanding",),
    "calibration": ("guo2017calibration",),
    "clusters": ("hubert1985partitions", "rousseeuw1987silhouettes", "benhur2002stability"),
    "disentanglement": (
        "chen2018isolating", "eastwood2018framework", "kumar2018dip", "kim2018factor",
    ),
    "fid": ("heusel2017fid", "binkowski2018kid", "chong2020effectively", "ghosh2020rae"),
    "frechet": (
        "heusel2017fid", "binkowski2018kid", "chong2020effectively", "kynkaanniemi2019improved",
        "naeem2020reliable", "tan2019efficientnet", "ghosh2020rae",
    ),
    "information": ("chen2018isolating",),
    "latents": (),
    "log_spectral": ("gray1976distance",),
    "ms_ssim": ("wang2003multiscale",),
    "nll": ("burda2016iwae",),
    "predictive": ("gelman1996predictive", "gayoso2022scvitools"),
    "probe": ("alain2016probes",),
    "psnr": (),
    "squared_error": ("rybkin2021sigma",),
    "ssim": ("wang2004ssim",),
    "viv": ("zhong2026diffusing",),
}  # fmt: skip
"""Metric → its papers."""

_COLUMNS = {
    "active_units": "active_units", "alignment": "prior_w1", "bits": "code_bits",
    "calibration": "calibration", "clusters": "cluster", "disentanglement": "mig",
    "fid": "fid", "frechet": "fd_",
    "information": "information", "latents": "live_latents", "log_spectral": "lsd",
    "ms_ssim": "ms_ssim", "nll": "nll", "predictive": "predictive", "probe": "probe",
    "psnr": "psnr", "squared_error": "squared_error", "ssim": "ssim", "viv": "viv",
}  # fmt: skip
"""Metric → how a column of its begins."""

CONDITIONING: dict[str, tuple[str, ...]] = {
    "film": ("bae2023multirate", "dosovitskiy2020once", "perez2018film", "ha2017hypernetworks"),
    "gate": ("bae2023multirate",),
    "none": (),
}
"""How β enters → its papers; the Multi-Rate VAE is the predecessor of one VAE for many β."""


def cited(content: Mapping[str, Any], metrics: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Return what to cite for a run.

    Args:
        content: What a checkpoint says of it: ``settings`` or ``wrapped``, ``data``.
        metrics: What was measured beside rate and distortion, by name.

    Returns:
        The keys of :data:`PAPERS`, each once; and a line for each part that has none.
    """
    model = content.get("settings") or content.get("wrapped") or {}
    asked = [
        ("objective", OBJECTIVES, _name(model.get("objective"))),
        ("likelihood", LIKELIHOODS, _name(model.get("likelihood"))),
        ("conditioning", CONDITIONING, model.get("conditioning")),
        ("data set", DATA, _name(content.get("data"))),
        *(("metric", METRICS, name) for name in metrics),
    ]  # fmt: skip
    keys, none = ["kingma2014vae"], []
    for what, table, name in asked:
        if not name:
            none.append(f"{what}: not known")
        elif name not in table:
            none.append(f"{what} {name}: not multibeta's; cite its own source")
        elif not table[name] and what != "conditioning":
            none.append(f"{what} {name}: no paper of its own")
        keys += table.get(name or "", ())
    return list(dict.fromkeys(keys)), none


def measured(columns: Iterable[str]) -> list[str]:
    """Return the metrics that the columns of a curve are from."""
    names = list(columns)
    return [k for k, begins in _COLUMNS.items() if any(n.startswith(begins) for n in names)]


def bibtex(content: Mapping[str, Any], metrics: Iterable[str] = ()) -> str:
    """Return BibTeX: this package, then what :func:`cited` says; what has no entry as comments.

    Args:
        content: As in :func:`cited`.
        metrics: As in :func:`cited`.
    """
    keys, none = cited(content, metrics)
    entries = [_package(), *(PAPERS[key] for key in keys)]
    return "\n\n".join([*entries, *(["\n".join(f"% {line}" for line in none)] if none else [])])


def _name(spec: Any) -> str | None:
    """Return the class that plain values name."""
    path = spec.get("class_path") if isinstance(spec, Mapping) else spec
    if not isinstance(path, str):
        return None
    ours = re.match(r"multibeta\.(data|likelihoods|objectives|distortions)\b", path)
    return path.rpartition(".")[2] if ours else path


def _package() -> str:
    """Return the entry of this package, from its CITATION.cff."""
    here = Path(__file__).parent
    # In the wheel it lies inside the package, in a checkout beside it.
    places = (here / "CITATION.cff", here.parent / "CITATION.cff")
    about = yaml.safe_load(next(f for f in places if f.is_file()).read_text(encoding="utf-8"))
    authors = " and ".join(
        f"{who['family-names']}, {who['given-names']}" if "family-names" in who
        else f"{{{who['name']}}}"
        for who in about["authors"]
    )  # fmt: skip
    return f"""\
@software{{multibeta,
  title = {{{{{about["title"]}}}}},
  author = {{{authors}}},
  version = {{{about["version"]}}},
  license = {{{about["license"]}}}
}}"""


PAPERS: dict[str, str] = {
    entry.partition("{")[2].partition(",")[0]: entry.strip()
    for entry in re.split(
        r"\n\n(?=@)", (Path(__file__).parent / "citations.bib").read_text(encoding="utf-8")
    )
}
"""Key → entry, of citations.bib."""
