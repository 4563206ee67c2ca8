"""Latent-diffusion autoencoders: one AutoencoderKL for all β's, three dedicated ones, and flows.

    python -m benchmarks.case_autoencoder DATA_ROOT

diffusers' AutoencoderKL on CelebA 64×64 (DATA_ROOT holds celeba/), wrapped; D in the units of
latent diffusion: a sum over all values of x in [−1, 1] of L1 and a perceptual distance, by early
features of EfficientNet-Lite0. Then a second stage on its codes: a flow at five β's, two seeds
each, whose samples are decoded. A result file for each; finished ones are skipped. The summary is
case_autoencoder.json; pictures of it, of reconstructions and of samples are beside it.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from benchmarks import cases
from benchmarks.cases import Case, Rows
from benchmarks.gap import difference, spread
from benchmarks.record import RESULTS, is_done, save
from benchmarks.runs import FOLDERS, arguments, curve_of, is_there, result_of
from multibeta.choose import choose
from multibeta.data import CelebA
from multibeta.data.door import Door
from multibeta.files import replacing
from multibeta.metrics.extractors import EfficientNetLite0
from multibeta.metrics.features import frechet, kernel_distance, neighbourhoods
from multibeta.metrics.frechet import to_8_bits
from multibeta.metrics.viv import excess_kurtosis, velocity_variance
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.priors import fit_flow

COMMAND = "python -m benchmarks.case_autoencoder DATA_ROOT"
STAGES = 0, 2, 4
"""Blocks of EfficientNet-Lite0 behind which features are compared: 32×32, 16×16, 8×8 places."""
PERCEPTUAL = 0.1
TEST, SAMPLES, FITTED = 500, 500, 2_000
"""Pictures measured, pictures made of each flow, and those that ``choose`` fits its flows to."""
FLOWS = 1e-6, 1e-3, 1e-2, 1e-1, 1.0
SEEDS = 0, 1
FLOW = {"steps": 2_000, "batch": 128, "width": 512}
COLUMNS = (
    "rate_nats", "distortion", "objective", "l1", "perceptual", "psnr_db", "ssim",
    "fd_reconstruction",
)  # fmt: skip
OF_CODES = (
    "viv", "viv_scale", "viv_scaled", "effective_rank", "kurtosis", "least_std", "greatest_std",
)  # fmt: skip
OF_FLOWS = "fd", "kd", "flow_loss", "precision", "recall"
PREDICTORS = {
    "viv": "VIV", "viv_scaled": "VIV of z/s", "flow_loss": "loss of the flow", "distortion": "D",
    "fd_reconstruction": "Fréchet distance of reconstructions", "rate_nats": "R",
    "viv_and_distortion": "VIV and D, ranks added",
    "viv_scaled_and_distortion": "VIV of z/s and D, ranks added",
    "viv_plus_distortion": "VIV + D, as they are",
}  # fmt: skip


def autoencoder() -> tuple[nn.Module, ...]:
    """Return a small one: f8, 4 latents a position, 8×8 positions."""
    from diffusers import AutoencoderKL

    return (
        AutoencoderKL(
            block_out_channels=(16, 32, 32, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=64,
        ),
    )


class Signed(EfficientNetLite0):
    """EfficientNet-Lite0 of pictures in [−1, 1]."""

    values = True

    def describe(self) -> str:
        """Return the network and how pictures are brought to it."""
        return f"{super().describe()}; from [−1, 1], clamped, rounded to 8 bits"

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 1280) of pictures x: (B, 3, H, W)."""
        return super().forward(to_8_bits(x / 2 + 0.5))


@cache
def extractor() -> Signed:
    """Return the network, which learns nothing."""
    return Signed().eval().requires_grad_(False)


def early(x: Tensor) -> list[Tensor]:
    """Return features of early stages at each place, of length 1, for x in [−1, 1]."""
    network = extractor().network
    h = network._swish(network._bn0(network._conv_stem((127.5 * x + 0.5) / 128)))
    found = []
    for i, block in enumerate(network._blocks[: STAGES[-1] + 1]):
        h = block(h)
        if i in STAGES:
            found.append(h / (h.square().sum(1, keepdim=True) + 1e-10).sqrt())
    return found


def l1(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return the L1 distance, summed over all values: (B,)."""
    return (x_hat - x).abs().flatten(1).sum(1)


def perceptual(x_hat: Tensor, x: Tensor) -> Tensor:
    r"""Return the weighted perceptual distance, added to each of the d values: (B,).

    .. math:: w d \sum_s \frac1{P_s} \sum_p \lVert f_{sp}(\hat x) - f_{sp}(x) \rVert^2

    as LPIPS does it, with features f of length 1 at P places of each stage, but with no learned
    weights, and another network.

    References:
        Zhang et al. 2018, arXiv 1801.03924, equation 1.
    """
    pairs = zip(early(x_hat), early(x), strict=True)
    of_each = sum((f - g).square().sum(1).mean((1, 2)) for f, g in pairs)
    return PERCEPTUAL * x[0].numel() * of_each


def distortion(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return D in the units of latent diffusion: (B,)."""
    return l1(x_hat, x) + perceptual(x_hat, x)


def sets(root: str) -> dict[str, Rows]:
    """Return the faces in [−1, 1], half of the test set.

    Args:
        root: DATA_ROOT.
    """
    data = CelebA(root)
    data.setup()
    found = {}
    for split, most in {"train": None, "val": TEST, "test": TEST}.items():
        x = torch.from_numpy(np.array(data.splits[split][:most])).float() / 127.5 - 1
        found[split] = Rows(x)
    return found


CASE = Case(
    "case_autoencoder", "CelebA 64×64", "1e-8:1", "1e-8:1:9", (1e-6, 1e-3, 1e-1), 2_200, sets,
    autoencoder, None,
    {
        "psnr": {"peak": 2}, "ssim": {"data_range": 2.0}, "l1": {"measure": l1},
        "perceptual": {"measure": perceptual},
        "frechet": {
            "extractor": Signed, "decoder": "mean", "streams": ("reconstruction",),
            "neighbours": 0,
        },
    },
    (), seeds=1, distortion=distortion, batch=8, lr=1e-3, splits=("test",),
)  # fmt: skip


@torch.no_grad()
def codes(of: Mapping[str, Rows], beta: float | None) -> dict[float, Tensor]:
    """Return samples of q(z|x) for the training set, the same noise at each β; kept.

    Args:
        of: The sets.
        beta: Of a dedicated model; None for the one model, at all β's that are measured.

    Returns:
        β → (N, Z, positions).
    """
    vae, _ = cases.trained(CASE, of, beta, 0)
    grid = [row["beta"] for row in curve_of(CASE.result(beta, 0)).rows]
    path = FOLDERS / f"{CASE.name}_codes_{cases.side(beta)}.pt"
    if path.is_file():
        return torch.load(path, weights_only=True)
    generator, found = torch.Generator().manual_seed(0), []
    for x in of["train"].x.split(64):
        q = vae.encode(x, torch.tensor(grid).repeat_interleave(len(x)))
        noise = torch.randn(q.mean[: len(x)].shape, generator=generator)
        mean, std = (v.unflatten(0, (len(grid), -1)) for v in (q.mean, q.stddev))
        found.append((mean + std * noise).flatten(3))
    kept = dict(zip(grid, torch.cat(found, 1), strict=True))
    with replacing(path) as temporary:
        torch.save({at: z.clone() for at, z in kept.items()}, temporary)
    return kept


def measure_codes(of: Mapping[str, Rows], beta: float | None) -> None:
    """Measure how easy the codes are, as metric ``viv`` does, but on the training set."""
    name = f"{CASE.name}_codes_{cases.side(beta)}"
    if is_done(name):
        return
    rows = []
    for at, z in codes(of, beta).items():
        z = z.double()
        found, influence = velocity_variance(z.flatten(1))
        errors = {
            f"{name}_se": of_each.std().item() / math.sqrt(len(z))
            for name, of_each in influence.items()
        }
        std = z.movedim(1, -1).flatten(0, 1).std(0, correction=0).tolist()
        kurtosis, _ = excess_kurtosis(z)
        rows.append({
            "beta": at, **found, **errors, "kurtosis": kurtosis.mean().item(),
            "least_std": min(std), "greatest_std": max(std), "latent_std": std,
            "latent_kurtosis": kurtosis.tolist(),
        })  # fmt: skip
    save(name, COMMAND, {"examples": len(z), "rows": rows})


def flow_name(beta: float | None, at: float, seed: int) -> str:
    """Return the name of a flow, in result files."""
    one = "one_" if beta is None else ""
    return f"{CASE.name}_flow_{one}{at:.3g}_seed{seed}"


@torch.no_grad()
def sampled(of: Mapping[str, Rows], beta: float | None, at: float, seed: int) -> dict[str, Any]:
    """Return pictures of a flow that is fitted to the codes at a β: uint8; kept.

    Args:
        of: The sets.
        beta: Of a dedicated model; None for the one model.
        at: β.
        seed: Of the flow and its samples.
    """
    path = FOLDERS / f"{flow_name(beta, at, seed)}.pt"
    if path.is_file():
        return torch.load(path, weights_only=True)
    start = time.process_time()
    model, _ = cases.trained(CASE, of, beta, 0)
    vae, z = model.at_beta(at), codes(of, beta)
    of_beta = z[min(z, key=lambda b: abs(math.log(b / at)))]
    flow = fit_flow(of_beta.flatten(1), seed=seed, **FLOW)
    drawn = flow.sample((SAMPLES,), generator=torch.Generator().manual_seed(seed))
    pictures = [
        to_8_bits(vae.decode(some.reshape(-1, *vae.latent_shape)).mean / 2 + 0.5)
        for some in drawn.split(50)
    ]
    found = {
        "pictures": torch.cat(pictures), "flow_loss": flow.loss,
        "seconds": time.process_time() - start,
    }  # fmt: skip
    with replacing(path) as temporary:
        torch.save(found, temporary)
    return found


@torch.no_grad()
def features(pictures: Tensor) -> Tensor:
    """Return EfficientNet-Lite0's features of 8-bit pictures."""
    forward = super(Signed, extractor()).forward
    return torch.cat([forward(some) for some in pictures.split(8)])


@cache
def real(root: str, split: str) -> Tensor:
    """Return the features of real pictures: the whole set of 1,000."""
    data = CelebA(root)
    data.setup()
    return features(torch.from_numpy(np.array(data.splits[split])))


def distances(of: Tensor, others: Tensor) -> dict[str, float]:
    """Return Fréchet's and the kernel distance, with errors, precision and recall."""
    fd, fd_se = frechet(of, others)
    kd, kd_se = kernel_distance(of, others)
    near = neighbourhoods(of, others, 5)
    return {
        "fd": fd, "fd_se": fd_se, "kd": kd, "kd_se": kd_se,
        "precision": near["precision"].mean().item(), "recall": near["recall"].mean().item(),
    }  # fmt: skip


def measure_flow(
    root: str, of: Mapping[str, Rows], beta: float | None, at: float, seed: int
) -> None:
    """Fit a flow to the codes at a β and compare its pictures with the test set's."""
    name = flow_name(beta, at, seed)
    if is_done(name):
        return
    made = sampled(of, beta, at, seed)
    result = {
        "beta": at, "seed": seed, **FLOW, "samples": SAMPLES, "flow_loss": made["flow_loss"],
        "seconds": round(made["seconds"], 1),
        **distances(features(made["pictures"]), real(root, "test")),
    }  # fmt: skip
    save(name, COMMAND, result)


def measure_choice(of: Mapping[str, Rows]) -> None:
    """Keep what ``choose`` says of the one model, for a second generator; its flows are small."""
    name = f"{CASE.name}_choice"
    if is_done(name):
        return
    vae, _ = cases.trained(CASE, of, None, 0)
    settings = {"frechet": {"extractor": Signed, "decoder": "mean", "neighbours": 0}}
    start = time.process_time()
    some = {**of, "train": Rows(of["train"].x[:FITTED])}
    found = choose(vae, Door(some), "diffusion", FLOWS, settings=settings)
    seconds = time.process_time() - start
    save(name, COMMAND, {**found.as_dict(), "processor_seconds": seconds})


def ranks(values: Sequence[float]) -> np.ndarray:
    """Return the rank of each value, from 0."""
    return np.argsort(np.argsort(values))


def correlations(rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return Spearman's rank correlation of each predictor with the distance of samples.

    None where a predictor has the same value at each β.

    Args:
        rows: Predictors, ``fd`` and ``kd`` at each β.
    """
    column = {name: [row[name] for row in rows] for name in rows[0]}
    for name in ("viv", "viv_scaled"):
        column[f"{name}_and_distortion"] = ranks(column[name]) + ranks(column["distortion"])
    column["viv_plus_distortion"] = [
        v + d for v, d in zip(column["viv"], column["distortion"], strict=True)
    ]
    found = []
    for name in PREDICTORS:
        one_value = len(set(column[name])) == 1
        found.append({
            "predictor": name,
            **{
                of: None if one_value else float(spearmanr(column[name], column[of]).statistic)
                for of in ("fd", "kd")
            },
            "says": None if one_value else rows[int(np.argmin(column[name]))]["beta"],
        })  # fmt: skip
    return found


def with_codes(beta: float | None, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what was measured of codes and flows to rows of a summary.

    Args:
        beta: Of a dedicated model; None for the one model.
        rows: With β and columns.
    """
    of_codes = result_of(f"{CASE.name}_codes_{cases.side(beta)}")["rows"]
    found = []
    for row in rows:
        (same,) = (of for of in of_codes if math.isclose(of["beta"], row["beta"], rel_tol=1e-5))
        flows = [
            result_of(name) for seed in SEEDS
            if is_there(name := flow_name(beta, row["beta"], seed))
        ]  # fmt: skip
        found.append({
            **row, **{name: spread([same[name]]) for name in OF_CODES},
            **{name: spread(flow[name] for flow in flows) for name in OF_FLOWS if flows},
        })  # fmt: skip
    return found


def summary(root: str) -> dict[str, Any]:
    """Return both sides with their codes and flows, and what predicts the samples."""
    found = cases.summary(CASE, COLUMNS)
    found["rows"] = with_codes(None, found["rows"])
    for row in found["dedicated"]:
        beta = row["beta"]
        for side, of in (("one", None), ("dedicated", beta)):
            (full,) = with_codes(of, [{"beta": beta, **row[side]}])
            row[side] = {name: value for name, value in full.items() if name != "beta"}
        row["one_minus_dedicated"] |= {
            name: difference(row["one"][name], row["dedicated"][name])
            for name in (*OF_CODES, *OF_FLOWS) if name in row["one"] and name in row["dedicated"]
        }  # fmt: skip
    at_flows = [row for row in found["rows"] if "fd" in row]
    dedicated = [
        {"beta": row["beta"], **row["dedicated"]}
        for row in found["dedicated"] if "fd" in row["dedicated"]
    ]  # fmt: skip
    points = [
        {"beta": row["beta"], **{k: v["mean"] for k, v in row.items() if k != "beta"}}
        for row in (*at_flows, *dedicated)
    ]
    five = points[: len(at_flows)]
    return {
        **found,
        "flow": {**FLOW, "samples": SAMPLES, "seeds": len(SEEDS)},
        "real": distances(real(root, "val")[:SAMPLES], real(root, "test")),
        "predictors": correlations(five), "predictors_of_all": correlations(points),
        "seeds_agree": {
            of: float(spearmanr(*zip(*(row[of]["values"] for row in at_flows), strict=True))
                      .statistic)
            for of in ("fd", "kd")
        },
    }  # fmt: skip


def draw(found: dict[str, Any]) -> None:
    """Draw what is measured over β.

    Args:
        found: The summary.
    """
    figure = Figure(figsize=(10.4, 5.6), layout="constrained")
    panels = figure.subplots(2, 3).flatten()
    cases.panel(panels[0], found, {"distortion": "D", "l1": "its L1"}, "distortion", "summed")
    cases.panel(panels[1], found, {"rate_nats": "R"}, "rate", "nats")
    cases.panel(
        panels[2],
        found,
        {"viv_scale": "of all", "least_std": "least of a channel", "greatest_std": "greatest"},
        "scale of the codes",
        "std",
    )
    cases.panel(panels[3], found, {"viv_scaled": "VIV of z/s"}, "how hard the codes are", "VIV")
    cases.panel(panels[4], found, {"kurtosis": "excess kurtosis"}, "how Gaussian", "")
    cases.panel(panels[5], found, {"fd": "samples", "fd_reconstruction": "reconstructions"},
                "Fréchet distance", "")  # fmt: skip
    panels[1].set_yscale("log")
    panels[2].set_yscale("log")
    with replacing(RESULTS / f"{CASE.name}.png") as temporary:
        figure.savefig(temporary, dpi=130)


def strip(rows: Sequence[tuple[str, Tensor]], file: str) -> None:
    """Draw rows of pictures in [0, 1], each with its label."""
    grid = make_grid(torch.cat([of for _, of in rows]), len(rows[0][1]), padding=2, pad_value=1)
    margin = 110
    page = Image.new("RGB", (grid.shape[2] + margin, grid.shape[1]), "white")
    page.paste(to_pil_image(grid), (margin, 0))
    for i, (said, _) in enumerate(rows):
        ImageDraw.Draw(page).text((4, 28 + 66 * i), said, fill="black")
    with replacing(RESULTS / file) as temporary:
        page.save(temporary, "PNG", optimize=True)


@torch.no_grad()
def draw_pictures(of: Mapping[str, Rows], count: int = 10) -> None:
    """Draw reconstructions, and samples of the flows with the first seed."""
    x = of["test"].x[:count]
    vae, _ = cases.trained(CASE, of, None, 0)

    def again(vae: MultiBetaVAE, beta: float) -> Tensor:
        return (vae.reconstruct(x, beta) / 2 + 0.5).clamp(0, 1)

    rows = [("test set", x / 2 + 0.5), *((f"one, {b:.0e}", again(vae, b)) for b in FLOWS)]
    rows += [
        (f"dedicated, {b:.0e}", again(cases.trained(CASE, of, b, 0)[0], b)) for b in CASE.dedicated
    ]
    strip(rows, f"{CASE.name}_reconstructions.png")
    sides = itertools.chain(
        ((None, at) for at in FLOWS), ((beta, beta) for beta in CASE.dedicated)
    )
    strip([
        (f"{'one' if beta is None else 'dedicated'}, {at:.0e}",
         sampled(of, beta, at, SEEDS[0])["pictures"][:count].float() / 255)
        for beta, at in sides
    ], f"{CASE.name}_samples.png")  # fmt: skip


def main() -> None:
    """Make what is missing, and the summary."""
    given = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    of = sets(given.root)
    cases.measure_step(CASE, of, COMMAND)
    for beta in (None, *CASE.dedicated):
        cases.run(CASE, of, COMMAND, beta, 0)
        measure_codes(of, beta)
        for seed, at in itertools.product(SEEDS, FLOWS if beta is None else [beta]):
            measure_flow(given.root, of, beta, at, seed)
    measure_choice(of)
    found = summary(given.root)
    save(CASE.name, COMMAND, found)
    draw(found)
    draw_pictures(of)


if __name__ == "__main__":
    main()
