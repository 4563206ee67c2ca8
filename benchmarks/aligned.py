"""What is made at one β and used at another: one model, dedicated ones, and these matched.

    python -m benchmarks.aligned DATA_ROOT [--sets digits …] [--seeds 3]

Each model of a set has as many steps. For each pair of different β's (s, t) of four: a linear
probe and a nearest-neighbour index of the training means at s, asked with the means of the test
set at t; a mixture of Gaussians fitted to codes at s, whose samples the decoder of t turns into x;
a threshold for D + R at s that 5 % of the validation set exceed, at t; and how alike the change of
x is when the same latent is moved by one from 0. *Matched*: the codes of the dedicated model at t
are brought to those at s by the best permutation and signs, or by the best linear map, both found
on the means of the training set. One result file a set and seed; finished ones are skipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import multibeta
from benchmarks.gap import spread
from benchmarks.record import is_done, save
from benchmarks.runs import Run, arguments, fitted, is_there, result_of
from multibeta.checkpoints import load_data
from multibeta.metrics.features import frechet
from multibeta.priors import fit_gmm
from multibeta.vae import BetaVAE

COMMAND = "python -m benchmarks.aligned DATA_ROOT"
BETAS = (0.01, 0.1, 1.0, 4.0)
MOST = 2000
"""Examples of each set that are used at most."""

SIDES = ("one", "apart", "permuted", "linear")
MEASURES = ("probe", "index", "same", "mixture", "alarms", "moved")


@dataclass(frozen=True)
class Set:
    """Data with a label, and a network.

    Args:
        label: In tables.
        options: Of ``multibeta fit``.
        steps: Of every model.
        of: The name of the label.
    """

    label: str
    options: tuple[str, ...]
    steps: int
    of: str


SETS = {
    "digits": Set("digits, MLP", ("--config=digits.yaml",), 1600, "digit"),
    "mnist": Set("MNIST, MLP", (
        "--config=mnist.yaml", "--data.root=DATA_ROOT", "--model.network=MLP",
        "--model.latent_dim=16",
    ), 2000, "class"),
    "heartbeats": Set("heartbeats (ECG5000), Conv", (
        "--config=npz.yaml", "--data.root=DATA_ROOT/ecg5000/ecg5000.npz",
        "--model.likelihood.sigma=0.3", "--model.latent_dim=16", "--model.network=Conv",
        "--model.network.width=16", "--model.network.depth=3",
    ), 1500, "labels"),
}  # fmt: skip
"""Name → set."""


def runs_of(name: str, seed: int) -> dict[float | None, Run]:
    """Return the run of the one model, under None, and the dedicated ones, by their β."""
    of = SETS[name]
    common = [*of.options, "--trainer.max_epochs=-1", f"--trainer.max_steps={of.steps}",
              "--trainer.limit_val_batches=0", f"--seed_everything={seed}"]  # fmt: skip
    found: dict[float | None, Run] = {None: Run(f"aligned_{name}_one_seed{seed}", (*common,), {})}
    for beta in BETAS:
        own = ("--model.conditioning=none", f"--model.betas={beta!r}")
        found[beta] = Run(f"aligned_{name}_{beta:g}_seed{seed}", (*common, *own), {})
    return found


@dataclass(frozen=True)
class Side:
    """A model at one β, with its codes.

    Args:
        vae: The model.
        train: Means of the training set: (N, Z).
        test: Means of the test set: (M, Z).
        z: Samples of the codes of the training set: (N, Z).
        scores: D + R of the validation set and of the test set.
    """

    vae: BetaVAE
    train: np.ndarray
    test: np.ndarray
    z: Tensor
    scores: tuple[np.ndarray, np.ndarray]


@torch.no_grad()
def side_of(vae: BetaVAE, x: dict[str, Tensor]) -> Side:
    """Return a model at one β with the codes of the examples."""
    noise = torch.Generator().manual_seed(0)
    codes = {split: vae.encode(of) for split, of in x.items()}
    z = codes["train"].mean
    z = z + codes["train"].stddev * torch.randn(z.shape, generator=noise)
    scores = []
    for split in ("val", "test"):
        eps = torch.randn(codes[split].mean.shape, generator=noise)
        terms = vae.elbo_terms(x[split], eps)
        scores.append((terms.distortion + terms.rate_nats).numpy())
    train, test = (codes[split].mean.numpy() for split in ("train", "test"))
    return Side(vae, train, test, z, (scores[0], scores[1]))


Map = Callable[[np.ndarray], np.ndarray]


def _same(codes: np.ndarray) -> np.ndarray:
    return codes


def permutation(source: Side, target: Side) -> tuple[Map, Map]:
    """Return maps from codes of the target to those of the source, and back, by latents.

    The permutation and signs with the greatest sum of absolute correlations of the means.

    Args:
        source: The model at s.
        target: That at t.
    """
    size = source.train.shape[1]
    correlation = np.nan_to_num(np.corrcoef(source.train.T, target.train.T)[:size, size:])
    rows, columns = linear_sum_assignment(np.abs(correlation), maximize=True)
    signs = np.where(correlation[rows, columns] < 0, -1.0, 1.0)
    back = np.argsort(columns)
    return (
        lambda codes: codes[:, columns] * signs,
        lambda codes: (codes * signs)[:, back],
    )


def linear(source: Side, target: Side) -> tuple[Map, Map]:
    """Return the affine maps of least squares from the target's codes to the source's, and back.

    There between means. Back from samples, which is what is decoded: of a latent that is shut the
    means are next to nothing, and a map from them would blow its samples up.

    Args:
        source: The model at s.
        target: That at t.
    """

    def fitted(of: np.ndarray, to: np.ndarray) -> Map:
        weights, *_ = np.linalg.lstsq(np.c_[of, np.ones(len(of))], to, rcond=None)
        return lambda codes: np.c_[codes, np.ones(len(codes))] @ weights

    there, back = fitted(target.train, source.train), fitted(source.z.numpy(), target.train)
    return there, back


@torch.no_grad()
def measured(
    s: Side, t: Side, maps: tuple[Map, Map], x: dict[str, Tensor], y: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return what was made at s and is used at t.

    Args:
        s: The model where it was made.
        t: The model where it is used.
        maps: From codes of t to those of s, and back.
        x: The examples.
        y: Their labels.
    """
    there, back = maps
    test = there(t.test)
    scale = StandardScaler().fit(s.train)
    probe = LogisticRegression(max_iter=2000).fit(scale.transform(s.train), y["train"])
    index = NearestNeighbors(n_neighbors=1).fit(s.train)
    nearest = index.kneighbors(test, return_distance=False)[:, 0]
    own = NearestNeighbors(n_neighbors=1).fit(s.test).kneighbors(test, return_distance=False)
    drawn = fit_gmm(s.z).sample((len(x["test"]),), torch.Generator().manual_seed(0))
    codes = torch.from_numpy(back(drawn.numpy())).float()
    made = t.vae.decode(codes.reshape(-1, *t.vae.latent_shape)).mean
    distance, _ = frechet(made.flatten(1), x["test"].flatten(1))
    alarms = (t.scores[1] > np.quantile(s.scores[0], 0.95)).mean()
    return {
        "probe": probe.score(scale.transform(test), y["test"]),
        "index": float((y["train"][nearest] == y["test"]).mean()),
        "same": float((own[:, 0] == np.arange(len(test))).mean()),
        "mixture": distance,
        "alarms": float(alarms),
        "moved": _moved(s, t, back),
    }


def _moved(s: Side, t: Side, back: Map) -> float:
    """Return the mean cosine of the changes of x when a latent of s is moved by one from 0.

    Over the latents with a variance of the means above .1 at s, weighed alike.
    """
    live = np.flatnonzero(s.train.var(0) > 0.1)
    size = s.train.shape[1]
    steps = np.concatenate([np.zeros((1, size)), np.eye(size)[live]])
    found = []
    for vae, codes in ((s.vae, steps), (t.vae, back(steps))):
        z = torch.from_numpy(codes).float().reshape(-1, *vae.latent_shape)
        out = vae.decode(z).mean.flatten(1)
        found.append(out[1:] - out[:1])
    return torch.nn.functional.cosine_similarity(*found).mean().item()


def measure(name: str, seed: int, root: str, jobs: int) -> None:
    """Fit the models of a set and a seed, measure all pairs of β's, and keep them."""
    runs = runs_of(name, seed)
    fitted(runs.values(), root, jobs)
    (folder,) = fitted([runs[None]], root, jobs)
    data = load_data(folder)
    data.setup()
    x, y = {}, {}
    one = multibeta.load(folder).eval()
    for split in ("train", "val", "test"):
        rows = np.linspace(0, len(data.splits[split]) - 1, min(MOST, len(data.splits[split])))
        rows = rows.astype(int)
        x[split] = one.read(torch.as_tensor(np.asarray(data.splits[split][rows]))).x
        y[split] = data.labels(split)[SETS[name].of][rows]
    sides = {("one", beta): side_of(one.at_beta(beta), x) for beta in BETAS}
    for beta in BETAS:
        (path,) = fitted([runs[beta]], root, jobs)
        sides["apart", beta] = side_of(multibeta.load(path).eval().at_beta(beta), x)
    rows = []
    for s, t in itertools.product(BETAS, BETAS):
        for side in SIDES:
            kind = "one" if side == "one" else "apart"
            first, second = sides[kind, s], sides[kind, t]
            maps: tuple[Map, Map] = (_same, _same)
            if side in ("permuted", "linear") and s != t:
                match = permutation if side == "permuted" else linear
                maps = match(first, second)
            rows.append({"s": s, "t": t, "side": side, **measured(first, second, maps, x, y)})
    save(f"aligned_{name}_seed{seed}", COMMAND, {"set": name, "seed": seed, "rows": rows})


def summary() -> None:
    """Write aligned.json: of each side the mean over pairs of different β's, and at equal ones."""
    found: dict[str, Any] = {}
    for name in SETS:
        results = [
            result_of(of) for seed in range(9) if is_there(of := f"aligned_{name}_seed{seed}")
        ]
        if not results:
            continue
        found[name] = {"seeds": len(results)}
        for side, measure_, equal in itertools.product(SIDES, MEASURES, (False, True)):
            means = [
                float(np.mean([
                    row[measure_] for row in of["rows"]
                    if row["side"] == side and (row["s"] == row["t"]) == equal
                ]))
                for of in results
            ]  # fmt: skip
            key = f"{measure_}_{'at_home' if equal else 'away'}"
            found[name].setdefault(side, {})[key] = spread(means)
    save("aligned", COMMAND, {"betas": BETAS, "sets": found})


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(given.seeds):
        for name in given.sets:
            if not is_done(f"aligned_{name}_seed{seed}"):
                measure(name, seed, given.root, given.jobs)
    summary()


if __name__ == "__main__":
    main()
