"""diffusers' AutoencoderKL on CelebA 64×64: one for β from 1e-8 to 1e-2, read by diffusers alone.

    python -m benchmarks.autoencoder_kl DATA_ROOT

The units are those of latent diffusion: x in [−1, 1], D a sum over all values of L1 and a gradient
term, the KL a sum. It is trained in a plain loop, on one thread; a run that was interrupted goes
on where it last saved its state. Then: the curve on test pictures, and ``save_pretrained`` at
three β's, read in a process in which multibeta cannot be imported.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

import multibeta
from benchmarks.record import RESULTS, is_done, save
from multibeta.data import CelebA
from multibeta.data.batches import Batches
from multibeta.files import replacing
from multibeta.multibeta_vae import MultiBetaVAE

NAME = "autoencoder_kl"
BETAS = "1e-8:1e-2"
GRID = "1e-8:1e-2:13"
SAVED = 1e-8, 1e-5, 1e-2
DRAWN = 1e-8, 1e-6, 1e-4, 1e-2
BATCH, LR, WARMUP = 8, 1e-3, 0.05
CLIP = 1.0
SAVE_EVERY_SECONDS = 120

READER = """
import sys
sys.modules["multibeta"] = None  # importing it is an error from here on
import torch
from diffusers import AutoencoderKL
try:
    import multibeta
except ImportError:
    pass
else:
    raise SystemExit("multibeta was imported")
torch.set_num_threads(1)
folder, x, to = sys.argv[1:]
autoencoder = AutoencoderKL.from_pretrained(folder).eval()
with torch.no_grad():
    torch.save(autoencoder(torch.load(x, weights_only=True)).sample, to)
"""


def autoencoder() -> AutoencoderKL:
    """Return a small one: f4, 4 latents a position, 16×16 positions."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 80),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )


def l1_and_gradients(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return the L1 distance of pictures and of their differences of neighbours, summed: (B,)."""
    error = x_hat - x
    of_each = error, error.diff(dim=-1), error.diff(dim=-2)
    return torch.stack([e.abs().flatten(1).sum(1) for e in of_each]).sum(0)


def train(
    vae: MultiBetaVAE, pictures: Tensor, steps: int, minutes: float, file: Path
) -> dict[str, Any]:
    """Train for so many steps, or so many minutes if these are fewer.

    Where the clock will run out first, it drives the schedules of lr and β.

    Args:
        vae: The model.
        pictures: x: (N, 3, 64, 64) in [−1, 1].
        steps: The steps.
        minutes: The minutes.
        file: Where the state is kept.
    """
    batches = Batches(pictures, BATCH, train=True, flip=True, seed=0)
    optimizer = torch.optim.Adam(vae.parameters(), lr=LR, betas=(0.9, 0.99))
    done, seconds, log = 0, 0.0, []
    asked = [steps, minutes]
    if file.is_file():
        state = torch.load(file, weights_only=True)
        if state["asked"] == asked:
            vae.load_state_dict(state["vae"])
            optimizer.load_state_dict(state["optimizer"])
            batches.load_state_dict(state["batches"])
            torch.set_rng_state(state["noise"])
            done, seconds, log = state["done"], state["seconds"], state["log"]
    start = saved = time.monotonic() - seconds
    progress, norms, losses = 0.0, [], []
    source = iter(batches)
    while progress < 1:
        x = next(source, None)
        if x is None:
            source = iter(batches)
            continue
        seconds = time.monotonic() - start
        progress = min(1.0, max(done / steps, seconds / (60 * minutes)))
        for group in optimizer.param_groups:
            rise = min(1.0, (progress + 1 / steps) / WARMUP)
            group["lr"] = LR * rise * (0.5 + 0.5 * math.cos(math.pi * progress))
        loss = vae.loss(x, progress=progress)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(vae.parameters(), CLIP)))
        optimizer.step()
        losses.append(float(loss.detach()))
        done += 1
        seconds = time.monotonic() - start
        if len(losses) == 50 or progress >= 1:
            middle = sorted(norms)[len(norms) // 2]
            mean = sum(losses) / len(losses)
            log.append([done, round(seconds, 1), round(mean, 2), round(middle, 2)])
            print(
                f"step {done}, {seconds:.0f} s: loss {mean:.2f}, |gradient| {middle:.1f}",
                flush=True,
            )
            norms, losses = [], []
        if time.monotonic() - saved > SAVE_EVERY_SECONDS or progress >= 1:
            saved = time.monotonic()
            state = {
                "asked": asked, "vae": vae.state_dict(), "optimizer": optimizer.state_dict(),
                "batches": batches.state_dict(), "noise": torch.get_rng_state(),
                "done": done, "seconds": seconds, "log": log,
            }  # fmt: skip
            with replacing(file) as temporary:
                torch.save(state, temporary)
    return {"steps": done, "seconds": round(seconds, 1), "log": log}


def layers(vae: MultiBetaVAE) -> dict[str, Any]:
    """Count what is done to the layers, and why nothing is done to the others."""
    unseen = ("the encoder did not call it", "the decoder did not call it")
    sites = [site for part in vae.sites.values() for site in part if site.why not in unseen]
    reasons = Counter(
        re.sub(r"^\S+ would", "the norm behind it would", site.why)
        for site in sites
        if site.does == "plain"
    )
    conditioned = Counter(f"{s.place}: {s.does}" for s in sites if s.does != "plain")
    return {"conditioned": dict(conditioned), "plain": dict(reasons)}


def read_alone(vae: MultiBetaVAE, x: Tensor) -> list[dict[str, float]]:
    """Compare what diffusers alone reconstructs from saved folders with what we do."""
    found = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for beta in SAVED:
        plain = vae.at_beta(beta)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            to = Path(folder)
            plain.save_pretrained(to / "saved")
            torch.save(x, to / "x.pt")
            subprocess.run(
                [sys.executable, "-c", READER, to / "saved", to / "x.pt", to / "x_hat.pt"],
                env=environment, cwd=folder, check=True,
            )  # fmt: skip
            read = torch.load(to / "x_hat.pt", weights_only=True)
            found.append(
                {
                    "beta": beta,
                    "largest_difference_from_folded": float(
                        (read - plain.reconstruct(x)).abs().max()
                    ),
                    "largest_difference_from_conditioned": float(
                        (read - vae.reconstruct(x, beta)).abs().max()
                    ),
                    "bytes": sum(f.stat().st_size for f in (to / "saved").iterdir()),
                }
            )
    return found


def draw(vae: MultiBetaVAE, x: Tensor, file: Path) -> None:
    """Draw pictures and their reconstructions."""
    with torch.no_grad():
        rows = [x, *(vae.reconstruct(x, beta) for beta in DRAWN)]
    grid = make_grid((torch.cat(rows) / 2 + 0.5).clamp(0, 1), len(x), padding=2, pad_value=1)
    margin = 72
    page = Image.new("RGB", (grid.shape[2] + margin, grid.shape[1]), "white")
    page.paste(to_pil_image(grid), (margin, 0))
    for i, said in enumerate(["input", *(f"beta {beta:.0e}" for beta in DRAWN)]):
        ImageDraw.Draw(page).text((4, 28 + 66 * i), said, fill="black")
    with replacing(file) as temporary:
        page.save(temporary, "PNG", optimize=True)


def main() -> None:
    """Train, measure, save and read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", metavar="DATA_ROOT")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--minutes", type=float, default=24, help="of training, at most")
    parser.add_argument("--pictures", type=int, default=200, help="of the test set, for the curve")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--state", type=Path, default=Path("runs/benchmarks") / NAME)
    given = parser.parse_args()
    if is_done(NAME, given.results):
        return
    torch.set_num_threads(1)
    for folder in (given.state, given.results):
        folder.mkdir(parents=True, exist_ok=True)

    data = CelebA(given.root)
    data.setup()
    train_set, test_set = (
        torch.from_numpy(np.array(data.splits[split])).float() / 127.5 - 1
        for split in ("train", "test")
    )
    test_set = test_set[: given.pictures]

    torch.manual_seed(0)
    network = autoencoder()
    parameters = sum(p.numel() for p in network.parameters())
    vae = multibeta.wrap(
        network, betas=BETAS, distortion=l1_and_gradients, example=train_set[:BATCH]
    )
    training = train(vae, train_set, given.steps, given.minutes, given.state / "state.pt")
    vae.eval()

    start = time.monotonic()
    curve = vae.sweep(test_set.split(50), GRID, metrics={"psnr": {"peak": 2}, "active_units": {}})
    # The metric's peak is 1, that of x in [0, 1]; here it is 2.
    rows = list(curve.rows)
    curve_seconds = time.monotonic() - start
    print(curve.table())
    alone = read_alone(vae, test_set[:16])
    print(json.dumps(alone, indent=1))
    draw(vae, test_set[:8], given.results / f"{NAME}.png")
    save(
        NAME,
        f"python -m benchmarks.{NAME} DATA_ROOT",
        {
            "data": {"train": len(train_set), "test": len(test_set), "note": data.size_note},
            "betas": BETAS,
            "network": {
                "block_out_channels": network.config["block_out_channels"],
                "parameters": parameters,
                "parameters_wrapped": sum(p.numel() for p in vae.parameters()),
                "latent_shape": list(vae.latent_shape),
            },
            "layers": layers(vae),
            "training": {"batch": BATCH, "lr": LR, "clip": CLIP, **training},
            "curve_seconds": round(curve_seconds, 1),
            "psnr": "of x in [-1, 1], peak 2; reconstructions from the mean of q(z|x)",
            "curve": {"about": curve.about, "rows": rows},
            "read_by_diffusers_alone": alone,
        },
        given.results,
    )


if __name__ == "__main__":
    main()
