"""What the case studies share: one wrapped model for all β's, and dedicated ones in its time.

A user's networks, in plain PyTorch, are wrapped once for the whole range and once for each of
three β's (``conditioning="none"``). The three share the processor time of the one run, a third
each, with a schedule of that length and the same learning rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import Dataset

import multibeta
from benchmarks.gap import spread
from benchmarks.markdown import number, table
from benchmarks.record import is_done, save
from benchmarks.runs import FOLDERS, curve_of, is_there, result_of
from benchmarks.speed import interleaved
from multibeta.curve import Curve
from multibeta.data.door import Door
from multibeta.files import replacing
from multibeta.likelihoods import Likelihood
from multibeta.metrics.clusters import kmeans
from multibeta.multibeta_vae import MultiBetaVAE

__all__ = [
    "Best",
    "Case",
    "Rows",
    "at",
    "make",
    "measure_step",
    "panel",
    "run",
    "summary",
    "table_of_choices",
    "table_of_curve",
    "table_of_sides",
    "table_of_time",
    "trained",
]

COLOURS = "#0072b2", "#d55e00", "#009e73"
BATCH, LR, WARMUP, CLIP, ROUNDS = 128, 3e-3, 0.05, 1.0, 30


class Rows(Dataset[dict[str, Any]]):
    """Examples with a label, and what the likelihood takes beside x, by name.

    Args:
        x: (N, *shape).
        label: (N,); None if there is none.
        inputs: Name → (N,).
    """

    def __init__(self, x: Tensor, label: Tensor | None = None, **inputs: Tensor) -> None:
        self.x, self.inputs = x, inputs
        if label is not None:
            self.label = label

    def __len__(self) -> int:
        """Return N."""
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Return an example with what stands beside it."""
        label = {"label": self.label[i]} if hasattr(self, "label") else {}
        beside = {name: values[i] for name, values in self.inputs.items()}
        return {"x": self.x[i], **label, **beside}

    def batch(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return x and its further inputs of some examples."""
        return self.x[rows], {name: values[rows] for name, values in self.inputs.items()}


@dataclass(frozen=True)
class Best:
    """A purpose: a column, and whether less of it is better.

    Args:
        column: Of the curve.
        label: In tables.
        least: Whether the least is the best.
    """

    column: str
    label: str
    least: bool = False


@dataclass(frozen=True)
class Case:
    """Data, networks, and what is measured.

    Args:
        name: In result files.
        label: In tables.
        betas: The range of the one model.
        grid: The β's that are measured.
        dedicated: Those of the dedicated models.
        steps: Of the one model.
        sets: DATA_ROOT → the sets by name.
        networks: Make an encoder and a decoder, or one module that has both.
        likelihood: Makes p(x|z); None where a distortion is given.
        metrics: What is measured beside rate and distortion, with settings.
        purposes: What a β is chosen for, on the validation set.
        more: Further columns at a β: of the model there and the set.
        seeds: How many.
        distortion: D, where it is no likelihood's: (x̂, x) → (B,).
        batch: Examples in a step.
        lr: The highest learning rate.
        splits: The sets that are measured.
    """

    name: str
    label: str
    betas: str
    grid: str
    dedicated: tuple[float, ...]
    steps: int
    sets: Callable[[str], dict[str, Rows]]
    networks: Callable[[], tuple[nn.Module, ...]]
    likelihood: Callable[[], Likelihood] | None
    metrics: Mapping[str, Mapping[str, Any]]
    purposes: tuple[Best, ...]
    more: Callable[[Any, Rows], dict[str, float]] = field(default=lambda vae, rows: {})
    seeds: int = 3
    distortion: Callable[[Tensor, Tensor], Tensor] | None = None
    batch: int = BATCH
    lr: float = LR
    splits: tuple[str, ...] = ("val", "test")

    def result(self, beta: float | None, seed: int) -> str:
        """Return the name of a result file; of the one model without β."""
        return f"{self.name}_{side(beta)}_seed{seed}"

    def model(self, sets: Mapping[str, Rows], beta: float | None, seed: int) -> MultiBetaVAE:
        """Return a wrapped model before its training."""
        torch.manual_seed(seed)
        x, inputs = sets["train"].batch(torch.arange(self.batch))
        return multibeta.wrap(
            *self.networks(), betas=self.betas if beta is None else beta,
            conditioning="film" if beta is None else "none", distortion=self.distortion,
            likelihood=self.likelihood and self.likelihood(), example=x, inputs=inputs,
        )  # fmt: skip

    def steps_of(self, beta: float | None) -> int:
        """Return the steps of a model: of a dedicated one in its part of the one model's time."""
        if beta is None:
            return self.steps
        ratio = result_of(f"{self.name}_step")["ratio"]
        return round(self.steps * ratio / len(self.dedicated))


def side(beta: float | None) -> str:
    """Return what a model is called: the one, or its β."""
    return "one" if beta is None else f"{beta:.3g}"


def train(
    vae: MultiBetaVAE, rows: Rows, steps: int, seed: int, batch: int = BATCH, lr: float = LR
) -> float:
    """Train a model by Adam, its rate rising and then falling as a cosine; return the seconds.

    Args:
        vae: The model.
        rows: The training set.
        steps: How many.
        seed: Of the order of the examples, β's and noise.
        batch: Examples in a step.
        lr: The highest learning rate.

    Returns:
        Processor time.
    """
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(vae.train().parameters(), lr=lr)
    start, order = time.process_time(), torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(rows))
        some, order = order[:batch], order[batch:]
        x, inputs = rows.batch(some)
        of_lr = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / (WARMUP * steps)) * of_lr
        vae.loss(x, progress=step / steps, **inputs).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    vae.eval()
    return time.process_time() - start


def trained(
    case: Case, sets: Mapping[str, Rows], beta: float | None, seed: int
) -> tuple[MultiBetaVAE, float]:
    """Return a trained model and its seconds; its state is kept on this machine."""
    path = FOLDERS / f"{case.result(beta, seed)}.pt"
    vae = case.model(sets, beta, seed)
    kept = torch.load(path, weights_only=True) if path.is_file() else {}
    if kept.get("steps") == case.steps_of(beta):
        vae.load_state_dict(kept["state"])
        return vae.eval(), kept["seconds"]
    seconds = train(vae, sets["train"], case.steps_of(beta), seed, case.batch, case.lr)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        state = {"steps": case.steps_of(beta), "seconds": seconds, "state": vae.state_dict()}
        torch.save(state, temporary)
    return vae, seconds


def measure_step(case: Case, sets: Mapping[str, Rows], command: str) -> None:
    """Time a step of the one model and of a dedicated one, in turn, in processor time."""
    if is_done(f"{case.name}_step"):
        return

    def step_of(beta: float | None) -> Callable[[], None]:
        vae = case.model(sets, beta, 0).train()
        optimizer = torch.optim.Adam(vae.parameters(), lr=1e-4)
        x, inputs = sets["train"].batch(torch.arange(case.batch))

        def step() -> None:
            vae.loss(x, **inputs).backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()

        return step

    steps = {"one": step_of(None), "dedicated": step_of(case.dedicated[0])}
    seconds = {
        name: median(of)
        for name, of in interleaved(steps, ROUNDS, clock=time.process_time).items()
    }
    result = {"rounds": ROUNDS, "seconds": seconds, "ratio": seconds["one"] / seconds["dedicated"]}
    save(f"{case.name}_step", command, result)


def run(case: Case, sets: Mapping[str, Rows], command: str, beta: float | None, seed: int) -> None:
    """Train one model and measure it on the validation and the test set."""
    name = case.result(beta, seed)
    if is_done(name):
        return
    vae, seconds = trained(case, sets, beta, seed)
    data = Door(dict(sets))
    start = time.process_time()
    curves = {
        split: multibeta.sweep(
            vae, data, case.grid if beta is None else beta, metrics=case.metrics, split=split
        )
        for split in case.splits
    }
    for split, curve in curves.items():
        rows = [{**row, **case.more(vae.at_beta(row["beta"]), sets[split])} for row in curve.rows]
        curves[split] = Curve(tuple(rows), curve.about)
    result = {
        "steps": case.steps_of(beta),
        "epochs": round(case.steps_of(beta) * case.batch / len(sets["train"]), 1),
        "parameters": sum(p.numel() for p in vae.parameters()),
        "training_seconds": round(seconds, 1),
        "measuring_seconds": round(time.process_time() - start, 1),
        "curves": {split: curve.as_dict() for split, curve in curves.items()},
    }
    save(name, command, result)


def make(case: Case, command: str, root: str, seeds: int) -> None:
    """Make the results of a case that are missing.

    Args:
        case: The case.
        command: The command that is under way.
        root: DATA_ROOT.
        seeds: How many of its seeds at most.
    """
    torch.set_num_threads(1)
    sets = case.sets(root)
    measure_step(case, sets, command)
    for seed in range(min(seeds, case.seeds)):
        for beta in (None, *case.dedicated):
            run(case, sets, command, beta, seed)


def at(curve: Curve, beta: float) -> dict[str, float]:
    """Return the row of a curve that is nearest to a β."""
    return min(curve.rows, key=lambda row: abs(math.log(row["beta"] / beta)))


def summary(case: Case, columns: Sequence[str]) -> dict[str, Any]:
    """Return both sides over the seeds that are there, their differences, and the choices of β.

    Args:
        case: The case.
        columns: What of the test set's curves is summed up.
    """
    sides = None, *case.dedicated
    seeds = [
        seed for seed in range(case.seeds)
        if all(is_there(case.result(beta, seed)) for beta in sides)
    ]  # fmt: skip
    names = {beta: [case.result(beta, seed) for seed in seeds] for beta in sides}
    ones = [curve_of(name) for name in names[None]]
    step = result_of(f"{case.name}_step")
    first = {beta: result_of(of[0]) for beta, of in names.items()}
    result: dict[str, Any] = {
        "label": case.label, "seeds": len(seeds), "betas": case.betas,
        "step_ratio": step["ratio"],
        "steps": {"one": first[None]["steps"], "dedicated": first[case.dedicated[0]]["steps"]},
        "epochs": {"one": first[None]["epochs"], "dedicated": first[case.dedicated[0]]["epochs"]},
        "seconds": {
            "one": fmean(result_of(name)["training_seconds"] for name in names[None]),
            "dedicated": sum(
                fmean(result_of(name)["training_seconds"] for name in names[beta])
                for beta in case.dedicated
            ),
        },
        "lr": case.lr,
        "rows": [
            {"beta": row["beta"], **_spreads((at(one, row["beta"]) for one in ones), columns)}
            for row in ones[0].rows
        ],
        "dedicated": [],
        "choices": [_choice(case, names[None], best) for best in case.purposes],
    }  # fmt: skip
    for beta in case.dedicated:
        theirs = [curve_of(name).rows[0] for name in names[beta]]
        pairs = [
            {name: at(one, beta)[name] - other[name] for name in columns if name in other}
            for one, other in zip(ones, theirs, strict=True)
        ]
        result["dedicated"].append({
            "beta": beta, "one": _spreads((at(one, beta) for one in ones), columns),
            "dedicated": _spreads(theirs, columns),
            "one_minus_dedicated": _spreads(pairs, columns),
        })  # fmt: skip
    return result


def reference(train: Rows, test: Rows, components: int) -> dict[str, float]:
    """Return what principal components of x tell of the label, measured as codes are.

    Args:
        train: To fit on.
        test: To test on.
        components: How many.
    """
    pca = PCA(components, random_state=0).fit(train.x.flatten(1).numpy())
    z, of_test = (pca.transform(rows.x.flatten(1).numpy()) for rows in (train, test))
    y, of_y = train.label.numpy(), test.label.numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000)).fit(z, y)
    found = kmeans(of_test, len(np.unique(of_y)), starts=5)
    return {
        "components": components,
        "probe_accuracy": float(probe.score(of_test, of_y)),
        "knn_accuracy": float(KNeighborsClassifier(5).fit(z, y).score(of_test, of_y)),
        "cluster_ari": float(adjusted_rand_score(of_y, found)),
        "cluster_nmi": float(normalized_mutual_info_score(of_y, found)),
    }


def table_of_sides(of: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """Return the one model minus the dedicated ones, in J and other columns, at their β's.

    Args:
        of: Name → summary of a case.
        columns: Column → title; of each, what the dedicated model has and the difference.
    """
    lines = []
    for case in of.values():
        for row in case["dedicated"]:
            cells = [case["label"], f"{row['beta']:.3g}", str(case["seeds"])]
            for name in columns:
                digits = 3 if shares(name) else 1
                theirs = number(row["dedicated"].get(name), digits=digits)
                cells.append(
                    f"{theirs}; {number(row['one_minus_dedicated'].get(name), True, digits)}"
                )
            lines.append(cells)
    return table(["set", "β", "seeds", *columns.values()], lines)


def table_of_curve(of: Mapping[str, Any], columns: Mapping[str, str], label: str = "") -> str:
    """Return columns of the one model over β, the mean over the seeds and its standard error.

    Args:
        of: The summary of a case.
        columns: Column → title.
        label: Stands in a column of its own, if there is one.
    """
    first = [label] if label else []
    lines = [
        [*first, f"{row['beta']:.3g}", *(number(row[name], digits=3 if shares(name) else 1)
                                         for name in columns)]
        for row in of["rows"]
    ]  # fmt: skip
    return table([*(["set"] if label else []), "β", *columns.values()], lines)


def table_of_choices(of: Mapping[str, Any]) -> str:
    """Return the β for each purpose, chosen on the validation set, and its test figure.

    Args:
        of: Name → summary of a case.
    """
    lines = []
    for case in of.values():
        for choice in case["choices"]:
            digits = 3 if shares(choice["column"]) else 1
            low, high = choice["flat"]
            lines.append([
                case["label"], choice["label"],
                f"{choice['beta']:.3g}{' (end of the range)' if choice['end'] else ''}",
                f"{low:.3g} to {high:.3g}" if low < high else "–",
                f"{choice['test']:.{digits}f}",
                f"{choice['best_test']:.{digits}f} at {choice['best_on_test']:.3g}",
            ])  # fmt: skip
    titles = ["set", "for", "β by validation", "flat over", "test there", "best on test"]
    return table(titles, lines)


def table_of_time(of: Mapping[str, Any]) -> str:
    """Return the steps and the processor time of both sides.

    Args:
        of: Name → summary of a case.
    """
    lines = [
        [
            case["label"], str(case["steps"]["one"]), str(case["steps"]["dedicated"]),
            f"{case['epochs']['one']:.0f}", f"{case['epochs']['dedicated']:.0f}",
            f"{case['step_ratio']:.2f}", f"{case['seconds']['one']:.0f}",
            f"{case['seconds']['dedicated']:.0f}", str(case["seeds"]),
        ]
        for case in of.values()
    ]  # fmt: skip
    titles = [
        "set", "steps, one", "each dedicated", "epochs, one", "each dedicated",
        "a step, in dedicated ones", "seconds, one", "three dedicated", "seeds",
    ]  # fmt: skip
    return table(titles, lines)


def shares(column: str) -> bool:
    """Return whether a column is a share or a correlation, not a number of nats or latents."""
    return column.startswith(("probe", "knn", "auroc", "cluster", "predictive", "ssim"))


def panel(
    axes: Any, of: Mapping[str, Any], columns: Mapping[str, str], title: str, label: str
) -> None:
    """Draw columns over β: lines of the one model, diamonds of the dedicated ones.

    Args:
        axes: Where.
        of: The summary of a case.
        columns: Column → its name in the legend.
        title: Above.
        label: Beside.
    """
    for (name, said), colour in zip(columns.items(), COLOURS, strict=False):
        for every, style in (
            (of["rows"], {"marker": "o", "markersize": 3, "linewidth": 1.2, "label": said}),
            ([{"beta": row["beta"], **row["dedicated"]} for row in of["dedicated"]],
             {"marker": "D", "markersize": 6, "linestyle": "none", "markeredgecolor": "black"}),
        ):  # fmt: skip
            rows = [row for row in every if name in row]
            axes.errorbar(
                [row["beta"] for row in rows], [row[name]["mean"] for row in rows],
                [row[name]["se"] or 0 for row in rows], color=colour, capsize=2, **style,
            )  # fmt: skip
    axes.set(xscale="log", xlabel="β", ylabel=label)
    axes.set_title(title, fontsize=9, loc="left", pad=16)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3,
        columnspacing=1, handlelength=1.4,
    )  # fmt: skip


def _spreads(rows: Iterable[Mapping[str, float]], columns: Sequence[str]) -> dict[str, Any]:
    found = list(rows)
    there = [name for name in columns if all(name in row for row in found)]
    return {name: spread(row[name] for row in found) for name in there}


def _choice(case: Case, names: Sequence[str], best: Best) -> dict[str, Any]:
    """Return the best β of the validation set, what it has on the test set, and how flat it is.

    Flat are the β's around it whose mean over seeds is within one standard error, over examples,
    of the best on the validation set.
    """
    curves = {split: [curve_of(name, split) for name in names] for split in ("val", "test")}
    betas = [row["beta"] for row in curves["val"][0].rows]
    means = {
        split: [fmean(at(curve, beta)[best.column] for curve in of) for beta in betas]
        for split, of in curves.items()
    }
    sign = -1 if best.least else 1
    k = max(range(len(betas)), key=lambda i: sign * means["val"][i])
    column = best.column.removesuffix("_nats") if best.column == "nll_nats" else best.column
    se = fmean(at(curve, betas[k])[f"{column}_se"] for curve in curves["val"])
    low = high = k
    near = [sign * (means["val"][k] - mean) <= se for mean in means["val"]]
    while low > 0 and near[low - 1]:
        low -= 1
    while high < len(betas) - 1 and near[high + 1]:
        high += 1
    test = max(range(len(betas)), key=lambda i: sign * means["test"][i])
    return {
        "label": best.label, "column": best.column, "beta": betas[k], "val": means["val"][k],
        "se": se, "flat": [betas[low], betas[high]], "end": k in (0, len(betas) - 1),
        "test": means["test"][k], "best_on_test": betas[test], "best_test": means["test"][test],
    }  # fmt: skip
