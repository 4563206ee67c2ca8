"""What is made at one β and used at another: one model, dedicated ones, and these matched.

    python -m benchmarks.aligned DATA_ROOT [--sets digits …] [--seeds 3]

Each model of a set has as many steps. For each pair of different β's (s, t) of four: a linear
probe and a nearest-neighbour index of the training means at s, asked with the means of the test
set at t; a mixture of Gaussians fitted to codes at s, whose samples the decoder of t turns into x;
a threshold for D + R at s that 5 % of the validation set exceed, at t; and how alike the change of
x is when the same latent is moved by one from 0; and a small classifier that learns 50 steps at t
from where it ended at s. *Matched*: the codes of the dedicated model at t are brought to those at
s by the best permutation and signs, or by the best linear map, both found on the means of the
training set. The one model's codes are mapped linearly, too. One result file a set and seed;
finished ones are skipped.
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
from torch import Tensor, nn

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

LONG, SHORT = 1000, 50
"""Steps of a classifier at s, and those that it has at t; at home they are its only ones."""

SIDES = ("one", "apart", "permuted", "linear", "one_linear")
MEASURES = ("probe", "index", "same", "mixture", "alarms", "moved", "warm")


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
    "mitbih2": Set("heartbeats (MIT-BIH), Conv", (
        "--config=npz.yaml", "--data.root=DATA_ROOT/mitbih2/mitbih2.npz",
        "--model.likelihood.sigma=0.2", "--model.latent_dim=16", "--model.network=Conv",
        "--model.network.width=16", "--model.network.depth=3",
    ), 2000, "labels"),
    "celeba": Set("CelebA 32×32, Conv", (
        "--config=celeba.yaml", "--data.root=DATA_ROOT", "--data.size=32",
        "--model.network.width=16", "--model.network.depth=3", "--model.latent_dim=32",
    ), 2000, "Smiling"),
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
        drawn: Samples of a mixture of Gaussians fitted to z, as many as there are test examples.
        classifier: Weights of a small classifier that learnt on the training means.
        scores: D + R of the validation set and of the test set.
    """

    vae: BetaVAE
    train: np.ndarray
    test: np.ndarray
    z: Tensor
    drawn: Tensor
    classifier: dict[str, Tensor]
    scores: tuple[np.ndarray, np.ndarray]


@torch.no_grad()
def side_of(vae: BetaVAE, x: dict[str, Tensor], y: dict[str, np.ndarray]) -> Side:
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
    classifier = learnt(train, y["train"], LONG).state_dict()
    drawn = fit_gmm(z).sample((len(test),), torch.Generator().manual_seed(0))
    return Side(vae, train, test, z, drawn, classifier, (scores[0], scores[1]))


@torch.enable_grad()
def learnt(
    codes: np.ndarray, labels: np.ndarray, steps: int, start: dict[str, Tensor] | None = None
) -> nn.Module:
    """Return a classifier of one hidden layer after so many steps of Adam.

    Args:
        codes: Means: (N, Z).
        labels: Whole numbers: (N,).
        steps: Of 128 examples.
        start: Weights to start from; by default drawn anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = nn.Sequential(
            nn.Linear(codes.shape[1], 64), nn.ReLU(), nn.Linear(64, int(labels.max()) + 1)
        )
        if start is not None:
            classifier.load_state_dict(start)
        optimizer = torch.optim.Adam(classifier.parameters(), 3e-3)
        x, y = torch.from_numpy(codes).float(), torch.from_numpy(labels).long()
        for _ in range(steps):
            rows = torch.randint(len(x), (128,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(classifier(x[rows]), y[rows]).backward()
            optimizer.step()
    return classifier


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
    codes = torch.from_numpy(back(s.drawn.numpy())).float()
    made = t.vae.decode(codes.reshape(-1, *t.vae.latent_shape)).mean
    distance, _ = frechet(_values(made), _values(x["test"]))
    start = None if s is t else s.classifier
    warm = learnt(there(t.train), y["train"], SHORT, start)
    named = warm(torch.from_numpy(test).float()).argmax(1).numpy()
    alarms = (t.scores[1] > np.quantile(s.scores[0], 0.95)).mean()
    return {
        "probe": probe.score(scale.transform(test), y["test"]),
        "index": float((y["train"][nearest] == y["test"]).mean()),
        "same": float((own[:, 0] == np.arange(len(test))).mean()),
        "mixture": distance,
        "alarms": float(alarms),
        "moved": _moved(s, t, back),
        "warm": float((named == y["test"]).mean()),
    }


def _values(x: Tensor) -> Tensor:
    """Return the values that a distance compares; pictures in colour are reduced to 8×8."""
    return (nn.functional.adaptive_avg_pool2d(x, 8) if x.shape[1] == 3 else x).flatten(1)


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
        words = data.labels(split)[SETS[name].of][rows]
        y[split] = np.searchsorted(np.unique(words), words)
    sides = {("one", beta): side_of(one.at_beta(beta), x, y) for beta in BETAS}
    for beta in BETAS:
        (path,) = fitted([runs[beta]], root, jobs)
        sides["apart", beta] = side_of(multibeta.load(path).eval().at_beta(beta), x, y)
    rows = []
    for s, t in itertools.product(BETAS, BETAS):
        for side in SIDES:
            kind = "one" if side.startswith("one") else "apart"
            first, second = sides[kind, s], sides[kind, t]
            maps: tuple[Map, Map] = (_same, _same)
            if side not in ("one", "apart") and s != t:
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
