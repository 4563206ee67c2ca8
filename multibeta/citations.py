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
    "disentanglement": (
        "chen2018isolating", "eastwood2018framework", "kumar2018dip", "kim2018factor",
    ),
    "fid": ("heusel2017fid", "binkowski2018kid", "ghosh2020rae"),
    "information": ("chen2018isolating",),
    "nll": ("burda2016iwae",),
    "psnr": (),
    "squared_error": ("rybkin2021sigma",),
}  # fmt: skip
"""Metric → its papers."""

_COLUMNS = {
    "active_units": "active_units", "alignment": "prior_w1", "disentanglement": "mig",
    "fid": "fid", "information": "information", "nll": "nll", "psnr": "psnr",
    "squared_error": "squared_error",
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
    entry.partition("{")[2].partition(",")[0]: entry
    for entry in (
        text.strip()
        for text in r"""
@article{achille2018dropout,
  title = {Information Dropout: Learning Optimal Representations Through Noisy Computation},
  author = {Achille, Alessandro and Soatto, Stefano},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {40},
  number = {12},
  year = {2018},
  eprint = {1611.01353},
  archivePrefix = {arXiv}
}

@inproceedings{alemi2018fixing,
  title = {Fixing a Broken {ELBO}},
  author = {Alemi, Alexander A. and Poole, Ben and Fischer, Ian and Dillon, Joshua V. and
            Saurous, Rif A. and Murphy, Kevin},
  booktitle = {International Conference on Machine Learning},
  year = {2018},
  eprint = {1711.00464},
  archivePrefix = {arXiv}
}

@misc{alpaydin1998digits,
  title = {Optical Recognition of Handwritten Digits},
  author = {Alpaydin, E. and Kaynak, C.},
  howpublished = {UCI Machine Learning Repository},
  year = {1998},
  doi = {10.24432/C50P49}
}

@inproceedings{bae2023multirate,
  title = {Multi-Rate {VAE}: Train Once, Get the Full Rate-Distortion Curve},
  author = {Bae, Juhan and Zhang, Michael R. and Ruan, Michael and Wang, Eric and
            Hasegawa, So and Ba, Jimmy and Grosse, Roger},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
  eprint = {2212.03905},
  archivePrefix = {arXiv}
}

@inproceedings{binkowski2018kid,
  title = {Demystifying {MMD} {GAN}s},
  author = {Bi{\'n}kowski, Miko{\l}aj and Sutherland, Danica J. and Arbel, Michael and
            Gretton, Arthur},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
  eprint = {1801.01401},
  archivePrefix = {arXiv}
}

@article{bonneel2015sliced,
  title = {Sliced and {R}adon {W}asserstein Barycenters of Measures},
  author = {Bonneel, Nicolas and Rabin, Julien and Peyr{\'e}, Gabriel and Pfister, Hanspeter},
  journal = {Journal of Mathematical Imaging and Vision},
  volume = {51},
  number = {1},
  year = {2015}
}

@inproceedings{burda2016iwae,
  title = {Importance Weighted Autoencoders},
  author = {Burda, Yuri and Grosse, Roger and Salakhutdinov, Ruslan},
  booktitle = {International Conference on Learning Representations},
  year = {2016},
  eprint = {1509.00519},
  archivePrefix = {arXiv}
}

@misc{burgess2018understanding,
  title = {Understanding Disentangling in $\beta$-{VAE}},
  author = {Burgess, Christopher P. and Higgins, Irina and Pal, Arka and Matthey, Loic and
            Watters, Nick and Desjardins, Guillaume and Lerchner, Alexander},
  year = {2018},
  eprint = {1804.03599},
  archivePrefix = {arXiv}
}

@misc{caillon2021rave,
  title = {{RAVE}: A Variational Autoencoder for Fast and High-Quality Neural Audio Synthesis},
  author = {Caillon, Antoine and Esling, Philippe},
  year = {2021},
  eprint = {2111.05011},
  archivePrefix = {arXiv}
}

@inproceedings{chen2018isolating,
  title = {Isolating Sources of Disentanglement in Variational Autoencoders},
  author = {Chen, Ricky T. Q. and Li, Xuechen and Grosse, Roger and Duvenaud, David},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2018},
  eprint = {1802.04942},
  archivePrefix = {arXiv}
}

@inproceedings{dosovitskiy2020once,
  title = {You Only Train Once: Loss-Conditional Training of Deep Networks},
  author = {Dosovitskiy, Alexey and Djolonga, Josip},
  booktitle = {International Conference on Learning Representations},
  year = {2020}
}

@inproceedings{eastwood2018framework,
  title = {A Framework for the Quantitative Evaluation of Disentangled Representations},
  author = {Eastwood, Cian and Williams, Christopher K. I.},
  booktitle = {International Conference on Learning Representations},
  year = {2018}
}

@inproceedings{engel2020ddsp,
  title = {{DDSP}: Differentiable Digital Signal Processing},
  author = {Engel, Jesse and Hantrakul, Lamtharn and Gu, Chenjie and Roberts, Adam},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
  eprint = {2001.04643},
  archivePrefix = {arXiv}
}

@inproceedings{esmaeili2019structured,
  title = {Structured Disentangled Representations},
  author = {Esmaeili, Babak and Wu, Hao and Jain, Sarthak and Bozkurt, Alican and
            Siddharth, N. and Paige, Brooks and Brooks, Dana H. and Dy, Jennifer and
            van de Meent, Jan-Willem},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2019},
  eprint = {1804.02086},
  archivePrefix = {arXiv}
}

@inproceedings{gao2019corex,
  title = {Auto-Encoding Total Correlation Explanation},
  author = {Gao, Shuyang and Brekelmans, Rob and Ver Steeg, Greg and Galstyan, Aram},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2019},
  eprint = {1802.05822},
  archivePrefix = {arXiv}
}

@inproceedings{ghosh2020rae,
  title = {From Variational to Deterministic Autoencoders},
  author = {Ghosh, Partha and Sajjadi, Mehdi S. M. and Vergari, Antonio and Black, Michael and
            Sch{\"o}lkopf, Bernhard},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
  eprint = {1903.12436},
  archivePrefix = {arXiv}
}

@inproceedings{ha2017hypernetworks,
  title = {{HyperNetworks}},
  author = {Ha, David and Dai, Andrew and Le, Quoc V.},
  booktitle = {International Conference on Learning Representations},
  year = {2017},
  eprint = {1609.09106},
  archivePrefix = {arXiv}
}

@inproceedings{heusel2017fid,
  title = {{GAN}s Trained by a Two Time-Scale Update Rule Converge to a Local {N}ash Equilibrium},
  author = {Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and
            Hochreiter, Sepp},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2017},
  eprint = {1706.08500},
  archivePrefix = {arXiv}
}

@inproceedings{higgins2017beta,
  title = {beta-{VAE}: Learning Basic Visual Concepts with a Constrained Variational Framework},
  author = {Higgins, Irina and Matthey, Loic and Pal, Arka and Burgess, Christopher and
            Glorot, Xavier and Botvinick, Matthew and Mohamed, Shakir and Lerchner, Alexander},
  booktitle = {International Conference on Learning Representations},
  year = {2017}
}

@inproceedings{kim2018factor,
  title = {Disentangling by Factorising},
  author = {Kim, Hyunjik and Mnih, Andriy},
  booktitle = {International Conference on Machine Learning},
  year = {2018},
  eprint = {1802.05983},
  archivePrefix = {arXiv}
}

@inproceedings{kingma2014vae,
  title = {Auto-Encoding Variational {B}ayes},
  author = {Kingma, Diederik P. and Welling, Max},
  booktitle = {International Conference on Learning Representations},
  year = {2014},
  eprint = {1312.6114},
  archivePrefix = {arXiv}
}

@inproceedings{kornblith2019similarity,
  title = {Similarity of Neural Network Representations Revisited},
  author = {Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey},
  booktitle = {International Conference on Machine Learning},
  year = {2019},
  eprint = {1905.00414},
  archivePrefix = {arXiv}
}

@techreport{krizhevsky2009learning,
  title = {Learning Multiple Layers of Features from Tiny Images},
  author = {Krizhevsky, Alex},
  institution = {University of Toronto},
  year = {2009}
}

@inproceedings{kumar2018dip,
  title = {Variational Inference of Disentangled Latent Concepts from Unlabeled Observations},
  author = {Kumar, Abhishek and Sattigeri, Prasanna and Balakrishnan, Avinash},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
  eprint = {1711.00848},
  archivePrefix = {arXiv}
}

@article{lake2015omniglot,
  title = {Human-Level Concept Learning Through Probabilistic Program Induction},
  author = {Lake, Brenden M. and Salakhutdinov, Ruslan and Tenenbaum, Joshua B.},
  journal = {Science},
  volume = {350},
  number = {6266},
  year = {2015}
}

@article{lecun1998gradient,
  title = {Gradient-Based Learning Applied to Document Recognition},
  author = {LeCun, Yann and Bottou, L{\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal = {Proceedings of the IEEE},
  volume = {86},
  number = {11},
  year = {1998}
}

@inproceedings{liang2018multinomial,
  title = {Variational Autoencoders for Collaborative Filtering},
  author = {Liang, Dawen and Krishnan, Rahul G. and Hoffman, Matthew D. and Jebara, Tony},
  booktitle = {The World Wide Web Conference},
  year = {2018},
  eprint = {1802.05814},
  archivePrefix = {arXiv}
}

@inproceedings{liu2015celeba,
  title = {Deep Learning Face Attributes in the Wild},
  author = {Liu, Ziwei and Luo, Ping and Wang, Xiaogang and Tang, Xiaoou},
  booktitle = {IEEE International Conference on Computer Vision},
  year = {2015}
}

@inproceedings{loaiza2019continuous,
  title = {The Continuous {B}ernoulli: Fixing a Pervasive Error in Variational Autoencoders},
  author = {Loaiza-Ganem, Gabriel and Cunningham, John P.},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2019},
  eprint = {1907.06845},
  archivePrefix = {arXiv}
}

@article{lopez2018scvi,
  title = {Deep Generative Modeling for Single-Cell Transcriptomics},
  author = {Lopez, Romain and Regier, Jeffrey and Cole, Michael B. and Jordan, Michael I. and
            Yosef, Nir},
  journal = {Nature Methods},
  volume = {15},
  year = {2018}
}

@misc{makhzani2016aae,
  title = {Adversarial Autoencoders},
  author = {Makhzani, Alireza and Shlens, Jonathon and Jaitly, Navdeep and Goodfellow, Ian and
            Frey, Brendan},
  year = {2016},
  eprint = {1511.05644},
  archivePrefix = {arXiv}
}

@misc{matthey2017dsprites,
  title = {{dSprites}: Disentanglement Testing Sprites Dataset},
  author = {Matthey, Loic and Higgins, Irina and Hassabis, Demis and Lerchner, Alexander},
  howpublished = {https://github.com/deepmind/dsprites-dataset},
  year = {2017}
}

@inproceedings{perez2018film,
  title = {{FiLM}: Visual Reasoning with a General Conditioning Layer},
  author = {Perez, Ethan and Strub, Florian and de Vries, Harm and Dumoulin, Vincent and
            Courville, Aaron},
  booktitle = {AAAI Conference on Artificial Intelligence},
  year = {2018},
  eprint = {1709.07871},
  archivePrefix = {arXiv}
}

@inproceedings{rybkin2021sigma,
  title = {Simple and Effective {VAE} Training with Calibrated Decoders},
  author = {Rybkin, Oleh and Daniilidis, Kostas and Levine, Sergey},
  booktitle = {International Conference on Machine Learning},
  year = {2021},
  eprint = {2006.13202},
  archivePrefix = {arXiv}
}

@inproceedings{salakhutdinov2008dbn,
  title = {On the Quantitative Analysis of Deep Belief Networks},
  author = {Salakhutdinov, Ruslan and Murray, Iain},
  booktitle = {International Conference on Machine Learning},
  year = {2008}
}

@inproceedings{salimans2017pixelcnn,
  title = {{PixelCNN}++: Improving the {PixelCNN} with Discretized Logistic Mixture Likelihood and
           Other Modifications},
  author = {Salimans, Tim and Karpathy, Andrej and Chen, Xi and Kingma, Diederik P.},
  booktitle = {International Conference on Learning Representations},
  year = {2017},
  eprint = {1701.05517},
  archivePrefix = {arXiv}
}

@article{tipping1999ppca,
  title = {Probabilistic Principal Component Analysis},
  author = {Tipping, Michael E. and Bishop, Christopher M.},
  journal = {Journal of the Royal Statistical Society: Series B},
  volume = {61},
  number = {3},
  year = {1999}
}

@inproceedings{tolstikhin2018wae,
  title = {Wasserstein Auto-Encoders},
  author = {Tolstikhin, Ilya and Bousquet, Olivier and Gelly, Sylvain and
            Sch{\"o}lkopf, Bernhard},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
  eprint = {1711.01558},
  archivePrefix = {arXiv}
}

@article{wang2004ssim,
  title = {Image Quality Assessment: From Error Visibility to Structural Similarity},
  author = {Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.},
  journal = {IEEE Transactions on Image Processing},
  volume = {13},
  number = {4},
  year = {2004}
}

@misc{xiao2017fashion,
  title = {Fashion-{MNIST}: A Novel Image Dataset for Benchmarking Machine Learning Algorithms},
  author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  year = {2017},
  eprint = {1708.07747},
  archivePrefix = {arXiv}
}

@inproceedings{yamamoto2020parallel,
  title = {Parallel {WaveGAN}: A Fast Waveform Generation Model Based on Generative Adversarial
           Networks with Multi-Resolution Spectrogram},
  author = {Yamamoto, Ryuichi and Song, Eunwoo and Kim, Jae-Min},
  booktitle = {IEEE International Conference on Acoustics, Speech and Signal Processing},
  year = {2020},
  eprint = {1910.11480},
  archivePrefix = {arXiv}
}

@misc{zhao2017infovae,
  title = {{InfoVAE}: Information Maximizing Variational Autoencoders},
  author = {Zhao, Shengjia and Song, Jiaming and Ermon, Stefano},
  year = {2017},
  eprint = {1706.02262},
  archivePrefix = {arXiv}
}
""".strip().split("\n\n")
    )
}
"""Key → BibTeX."""
