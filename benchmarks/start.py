"""From a VAE that exists to a multi-β one: how many steps it takes, with and without axes.

    python -m benchmarks.start DATA_ROOT

A user's MLP β-VAEs (784-256-256-32, SiLU, log-variance, Bernoulli) are trained at one β each in a
bare loop, then continue as one model of all β's for an eighth or a quarter of those steps, as they
are or turned to principal axes, frozen or not. Beside them: the same network trained as one model
from scratch, with both forms of the posterior, and dedicated ones at each β. D + βR on 2,000 test
pictures. Each run is a file, and is not made again; the table is results/start.md.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gap import spread
from benchmarks.markdown import number, table
from benchmarks.record import RESULTS, is_done, save
from benchmarks.runs import FOLDERS, result_of
from multibeta.adapters import Form
from multibeta.axes import Axes
from multibeta.likelihoods import Bernoulli
from multibeta.multibeta_vae import MultiBetaVAE, wrap

COMMAND = "python -m benchmarks.start DATA_ROOT"
DATA = {
    "clothes": "fashion_mnist/fashion_mnist.npz",
    "mnist": "binarized_mnist/binarized_mnist.npz",
}
BETAS = (0.01, 0.05, 0.3, 1.0, 3.0, 10.0)
STARTS = (0.01, 0.3, 10.0)
RANGE = "0.01:10"
EPOCHS, BATCH, RATE = 3, 128, 2e-3
TESTED, TURNED = 2000, 4000
FORMS: tuple[Form, ...] = ("log_variance", "curvature")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Run:
    """A training.

    Args:
        data: The data set.
        start: The β of the dedicated model that it starts from; None from scratch.
        fraction: Of the full number of steps.
        beta: That of a dedicated model; None for one model of all β's.
        axes: Whether the start is turned to its principal axes.
        freeze: Whether the conditions alone train.
        posterior: The form of what stands beside the means.
        seed: Of initial weights, batches and noise.
    """

    data: str
    start: float | None = None
    fraction: float = 1.0
    beta: float | None = None
    axes: bool = False
    freeze: bool = False
    posterior: Form = "log_variance"
    seed: int = 0

    @property
    def name(self) -> str:
        """That of the result file."""
        if self.beta is not None:
            return f"start_{self.data}_dedicated{self.beta:g}"
        parts = [f"from{self.start:g}" if self.start is not None else "scratch", self.posterior]
        parts += ["axes"] * self.axes + ["frozen"] * self.freeze + [f"{self.fraction:g}"]
        parts += [f"seed{self.seed}"] * (self.seed > 0)
        return "_".join(["start", self.data, *parts])

    @property
    def said(self) -> str:
        """Its row's title."""
        if self.start is None:
            return f"from scratch, {self.posterior}"
        how = "axes" if self.axes else "as it is"
        if self.axes and self.posterior == "log_variance":
            how += ", log_variance kept"
        return how + (", frozen" if self.freeze else "")


def runs_of(data: str) -> Iterator[Run]:
    """Yield the runs of a data set."""
    for beta in BETAS:
        yield Run(data, beta=beta)
    for fraction in (0.125, 0.25, 1.0):
        yield Run(data, fraction=fraction, posterior="curvature")
    for seed in SEEDS:
        for posterior in FORMS:
            if seed or posterior == "log_variance":
                yield Run(data, posterior=posterior, seed=seed)
    for start in STARTS:
        for fraction in (0.0, 0.125, 0.25):
            for freeze in (False, True)[: 2 if fraction else 1]:
                yield Run(data, start, fraction, freeze=freeze)
                yield Run(data, start, fraction, None, True, freeze, "curvature")
            if fraction != 0.125:
                yield Run(data, start, fraction, axes=True)


def main(root: str) -> None:
    """Make the runs that are missing, and the table."""
    torch.set_num_threads(1)
    everything = [run for data in DATA for run in runs_of(data)]
    for run in everything:
        if not is_done(run.name):
            save(run.name, COMMAND, _make(run, root))
    found = {run: result_of(run.name) for run in everything}
    rows = [{**asdict(run), **_kept(result)} for run, result in found.items()]
    save("start", COMMAND, {"epochs": EPOCHS, "batch": BATCH, "betas": BETAS, "rows": rows})
    (RESULTS / "start.md").write_text(
        _tables({run: r["objective_nats"] for run, r in found.items()})
    )


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    names = ("objective_nats", "rate_nats", "distortion_nats", "steps", "processor_seconds")
    return {name: result[name] for name in names}


def _make(run: Run, root: str) -> dict[str, Any]:
    torch.manual_seed(run.seed)
    train, test = _data(run.data, root)
    encoder, decoder = _encoder(), _decoder()
    axes = None
    if run.start is not None:
        of_encoder, of_decoder = _trained(run.data, run.start, root)
        encoder.load_state_dict(of_encoder)
        decoder.load_state_dict(of_decoder)
        if run.axes:
            axes = Axes(_floats(train[:TURNED]), run.start, "log_variance")
    vae = wrap(
        encoder, decoder, RANGE if run.beta is None else run.beta, likelihood=Bernoulli(),
        conditioning="film" if run.beta is None else "none", posterior=run.posterior,
        freeze=run.freeze, axes=axes, example=_floats(train[:8]),
    )  # fmt: skip
    steps = round(run.fraction * EPOCHS * (len(train) // BATCH))
    seconds = _train(vae, train, steps, run.seed)
    if run.beta is not None:
        path = _path(run.data, run.beta)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save((encoder.state_dict(), decoder.state_dict()), path)
    betas = BETAS if run.beta is None else (run.beta,)
    return {
        **asdict(run),
        "steps": steps,
        "processor_seconds": seconds,
        **_measured(vae, test, betas),
    }


def _train(vae: MultiBetaVAE, train: Tensor, steps: int, seed: int) -> float:
    """Train in a bare loop; return the seconds of processor time."""
    if not steps:
        return 0.0
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1.0, (i + 1) / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * i / steps)),
    )
    began = time.process_time()
    for step, rows in enumerate(_rows(len(train), steps, seed)):
        loss = vae.loss(_floats(train[rows]), progress=step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return round(time.process_time() - began, 1)


def _rows(n: int, steps: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        if step % (n // BATCH) == 0:
            order = torch.randperm(n, generator=generator)
        yield order[step % (n // BATCH) * BATCH :][:BATCH]


@torch.no_grad()
def _measured(vae: MultiBetaVAE, test: Tensor, betas: tuple[float, ...]) -> dict[str, Any]:
    x = _floats(test[:TESTED])
    noise = torch.randn(len(x), 32, generator=torch.Generator().manual_seed(1))
    found: dict[str, Any] = {"objective_nats": {}, "rate_nats": {}, "distortion_nats": {}}
    for beta in betas:
        terms = vae.eval().elbo_terms(x, beta, noise)
        d, r = terms.distortion.double().mean().item(), terms.rate_nats.double().mean().item()
        values = {"objective_nats": d + beta * r, "rate_nats": r, "distortion_nats": d}
        for name, value in values.items():
            found[name][f"{beta:g}"] = round(value, 3)
    return found


def _trained(data: str, beta: float, root: str) -> Any:
    """Return a dedicated model's weights; where its file alone is not there, train it anew."""
    if not _path(data, beta).exists():
        _make(Run(data, beta=beta), root)
    return torch.load(_path(data, beta), weights_only=True)


def _path(data: str, beta: float) -> Path:
    return FOLDERS / "start" / f"{data}_{beta:g}.pt"


@cache
def _data(data: str, root: str) -> tuple[Tensor, Tensor]:
    with np.load(Path(root) / DATA[data]) as arrays:
        train, test = (torch.from_numpy(arrays[name]).flatten(1) for name in ("train", "test"))
        return train, test


def _floats(x: Tensor) -> Tensor:
    """Return pictures in [0, 1]: those of 0 and 1 as they are, others by 255."""
    return x.float() / 255 if x.dtype == torch.uint8 and x.max() > 1 else x.float()


def _encoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 64)
    )


def _decoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(32, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 784)
    )


def _tables(found: dict[Run, dict[str, float]]) -> str:
    """Return the tables as Markdown."""
    said = {0.0: "no step", 0.125: "1/8", 0.25: "1/4", 1.0: "all"}
    parts = [
        f"MLP of 784-256-256-32, Bernoulli, {EPOCHS} epochs of batches of {BATCH} as all steps, "
        f"D + βR in nats on {TESTED:,} test pictures, seed 0. *Mean*: of the differences to the "
        "dedicated models. *axes*: turned, with the posterior's form `curvature`, unless said."
    ]
    titles = ["from β", "how", "steps", *(f"{beta:g}" for beta in BETAS), "mean"]
    for data in DATA:
        mine = {run: v for run, v in found.items() if run.data == data and not run.seed}
        best = {b: values[b] for run, values in mine.items() if run.beta for b in values}
        lines = [["", "dedicated, six models", "all each", *_cells(best), ""]]
        for run, values in sorted(mine.items(), key=_order):
            if run.beta is None:
                start = "" if run.start is None else f"{run.start:g}"
                mean = sum(values[b] - best[b] for b in best) / len(best)
                lines.append(
                    [
                        start,
                        run.said,
                        said[run.fraction],
                        *_cells(values),
                        f"{mean:+.1f}".replace("-", "−"),
                    ]
                )
        parts.append(f"**{data}**\n\n{table(titles, lines)}")
    parts.append(_forms(found))
    return "\n\n".join(parts) + "\n"


def _forms(found: dict[Run, dict[str, float]]) -> str:
    """Return the table of the posterior's form: the difference between paired runs."""
    lines = []
    for data in DATA:
        cells = [data]
        for beta in BETAS:
            differences = []
            for seed in SEEDS:
                a, b = (found[Run(data, posterior=form, seed=seed)] for form in FORMS)
                differences.append(b[f"{beta:g}"] - a[f"{beta:g}"])
            cells.append(number(spread(differences), signed=True))
        lines.append(cells)
    return (
        f"**From scratch, all steps: {FORMS[1]} less {FORMS[0]}**, {len(SEEDS)} seed(s), mean ± "
        f"standard error\n\n{table(['', *(f'{beta:g}' for beta in BETAS)], lines)}"
    )


def _order(item: tuple[Run, Any]) -> tuple[float, float, bool, bool, str]:
    run = item[0]
    return (run.start or 0, run.fraction, run.freeze, run.axes, run.posterior)


def _cells(values: dict[str, float]) -> list[str]:
    return [f"{values[f'{beta:g}']:.1f}" for beta in BETAS]


if __name__ == "__main__":
    main(sys.argv[1])
