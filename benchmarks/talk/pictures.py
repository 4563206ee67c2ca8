"""The pictures of the talk, and how much reconstructions change from β to β."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import multibeta
from benchmarks.record import save
from benchmarks.runs import are_fitted, curve_of, fitted, is_there
from benchmarks.talk.runs import COMMAND, THREE, Talk
from multibeta import plots
from multibeta.checkpoints import load_data
from multibeta.data.examples import read
from multibeta.evaluation import examples_of
from multibeta.files import replacing
from multibeta.priors import fit_gmm
from multibeta.vae import BetaVAE

__all__ = ["draw", "smoothness", "vaes"]

COLUMNS, TRAVERSED, STEPS = 12, 4, 11


def vaes(talk: Talk, seed: int, root: str, jobs: int) -> tuple[Any, dict[str, dict]]:
    """Return the data and the plain VAEs of a seed: "one" and "dedicated" → β → VAE.

    Args:
        talk: The data set.
        seed: Of the models.
        root: The data's folder.
        jobs: Runs at a time, where a model is not on this machine.
    """
    folders = fitted([talk.run(beta, seed, root) for beta in (None, *THREE)], root, jobs)
    one, *others = [multibeta.load(folder) for folder in folders]
    data = load_data(folders[0], {"root": root})
    data.setup()
    return data, {
        "one": {beta: one.at_beta(beta) for beta in talk.betas},
        "dedicated": {b: other.at_beta(b) for b, other in zip(THREE, others, strict=True)},
    }


@torch.no_grad()
def smoothness(talk: Talk, seed: int, root: str, jobs: int) -> None:
    """Measure how far reconstructions of the test set move from each β of three to the next.

    The root of the mean squared difference of a value, of one model and of dedicated ones.

    Args:
        talk: The data set.
        seed: Of the models.
        root: The data's folder.
        jobs: Runs at a time, where a model is not on this machine.
    """
    data, sides = vaes(talk, seed, root, jobs)
    steps = list(itertools.pairwise(THREE))
    sums = {side: [0.0] * len(steps) for side in sides}
    values = 0
    for batch in data.ordered("test"):
        x = read(batch).x
        values += x.numel()
        for side, of_side in sides.items():
            found = [of_side[beta].reconstruct(x) for beta in THREE]
            for i, (a, b) in enumerate(itertools.pairwise(found)):
                sums[side][i] += (a - b).square().sum().item()
    result = [
        {"from": low, "to": high} | {side: math.sqrt(of[i] / values) for side, of in sums.items()}
        for i, (low, high) in enumerate(steps)
    ]
    save(talk.result("smooth", seed), COMMAND, {"steps": result}, talk.results)


@torch.no_grad()
def draw(talk: Talk, root: str, jobs: int) -> None:
    """Draw the pictures of the first seed: curve, strip, samples and traversals.

    The curve is from the results; the others need the models, and are left as they are without.

    Args:
        talk: The data set.
        root: The data's folder.
        jobs: Runs at a time.
    """
    seed = talk.seeds[0]
    draw_curve(talk)
    if not are_fitted(talk.runs(seed, root)):
        print(
            f"{talk.name}: the models are not on this machine, and its pictures stay as they are"
        )
        return
    posteriors = talk.pictures / talk.name / "alignment.png"  # drawn by align
    if posteriors.is_file() and posteriors != talk.picture("alignment"):
        shutil.copyfile(posteriors, talk.picture("alignment"))
    data, sides = vaes(talk, seed, root, jobs)
    one, dedicated = sides["one"], sides["dedicated"]
    x = examples_of(one[1.0], data, "test", COLUMNS).x
    both = {(side, beta): sides[side][beta] for beta in reversed(THREE) for side in sides}
    labels = [f"{side}, β = {beta:g}" for side, beta in both]
    rows = [x, *(one[beta].reconstruct(x) for beta in reversed(talk.betas))]
    rows += [dedicated[beta].reconstruct(x) for beta in reversed(THREE)]
    of_one = [f"one, β = {beta:.2g}" for beta in reversed(talk.betas)]
    of_dedicated = [f"dedicated, β = {beta:g}" for beta in reversed(THREE)]
    grid(rows, ["x", *of_one, *of_dedicated], talk.picture("strip"))
    noise = torch.randn(
        COLUMNS, one[1.0].latent_dim, generator=torch.Generator().manual_seed(seed)
    )
    prior = [vae.decode(noise).mean for vae in both.values()]
    grid(prior, labels, talk.picture("samples_prior"))
    mixed = [mixture_samples(vae, data) for vae in both.values()]
    grid(mixed, labels, talk.picture("samples_gmm"))
    traversed, titles = [], []
    face = examples_of(one[1.0], data, "test", 1).x
    busiest = busy(one[1.0], data)[:TRAVERSED]
    for beta, latent in itertools.product(reversed(THREE), busiest):
        traversed.append(one[beta].traverse(face, latent, steps=STEPS)[0])
        titles.append(f"β = {beta:g}, latent {latent}")
    grid(traversed, titles, talk.picture("traversals"))


def draw_curve(talk: Talk) -> None:
    """Draw the curve of the one model with the points of the dedicated ones, for the first seed.

    Args:
        talk: The data set.
    """
    seed = talk.seeds[0]
    names = [talk.run(beta, seed).name for beta in (None, *THREE)]
    if not all(is_there(name, talk.results) for name in names):
        return
    one = curve_of(names[0], "fine", talk.results)
    points = [curve_of(name, folder=talk.results).rows[0] for name in names[1:]]
    title = f"{one.about['data']}, test set: one model, and dedicated β-VAEs"
    beside = {"dedicated β-VAE": points}
    plots.rate_distortion(one.rows, talk.picture("curve"), title, beside)


def mixture_samples(vae: BetaVAE, data: Any) -> Tensor:
    """Return samples from a mixture fitted to the test set's codes."""
    noise = torch.Generator().manual_seed(0)
    posteriors = [vae.encode(read(batch).x) for batch in data.ordered("test")]
    z = torch.cat(
        [q.mean + q.stddev * torch.randn(q.mean.shape, generator=noise) for q in posteriors]
    )
    return vae.decode(fit_gmm(z).sample((COLUMNS,), generator=noise)).mean


def busy(vae: BetaVAE, data: Any) -> list[int]:
    """Return the latents by the variance of their posterior means on the test set, falling."""
    means = torch.cat([vae.encode(read(batch).x).mean for batch in data.ordered("test")])
    return means.var(0).argsort(descending=True).tolist()


def grid(rows: Sequence[Tensor], labels: Sequence[str], path: Path) -> None:
    """Draw rows of pictures, each with a label.

    Args:
        rows: (N, C, H, W) each.
        labels: One a row.
        path: The picture to write.
    """
    height, width = rows[0].shape[-2:]
    lines = [torch.cat(list(row), -1) for row in rows]
    pixels = torch.cat(lines, -2).clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3)
    across = 0.6 * len(rows[0]) * width / height
    figure = Figure(figsize=(across + 1.5, 0.6 * len(rows)))
    axes = figure.add_axes((1.5 / (across + 1.5), 0, across / (across + 1.5), 1))
    axes.imshow(pixels.numpy(), aspect="auto", interpolation="nearest")
    axes.set(xticks=[])
    axes.set_yticks([height * (i + 0.5) for i in range(len(rows))], list(labels), fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
