"""Put the measured tables into README and docs, and draw the picture of one and dedicated models.

    python -m benchmarks.report

A table stands between ``<!-- report: NAME -->`` and ``<!-- end -->``; NAME is a function below.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

from benchmarks import aligned as aligning
from benchmarks import case_autoencoder, case_cells, case_heartbeats, cases, codec_summary, gap
from benchmarks.markdown import cell, number, table
from benchmarks.price import BUDGETS
from benchmarks.price import draw as draw_price
from benchmarks.record import RESULTS, TOP
from benchmarks.runs import curve_of, falls, result_of, self_regret
from benchmarks.talk import pictures, tables
from benchmarks.talk.runs import TALKS
from multibeta import plots
from multibeta.curve import Curve
from multibeta.files import replacing
from multibeta.objectives import table as table_of_objectives
from multibeta.purposes import PURPOSES

_DOCS = (
    "alignment", "bytes", "case-autoencoder", "case-cells", "case-heartbeats", "lossless",
    "objectives", "one-or-ten", "over-beta", "sigma", "talk", "trust", "which-beta", "wrap",
)  # fmt: skip
PAGES = (
    TOP / "README.md",
    *(TOP / "docs" / f"{name}.md" for name in _DOCS),
)
_BLOCK = re.compile(r"(<!-- report: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, blocks: Mapping[str, Callable[[], str]] | None = None) -> str:
    """Return a page's text with its tables made anew.

    Args:
        text: The page.
        blocks: The functions that make them, by name; those of this file by default.
    """
    of = BLOCKS if blocks is None else blocks
    return _BLOCK.sub(lambda found: f"{found[1]}{of[found[2]]()}\n{found[3]}", text)


def digits() -> str:
    """Return every third row of the table of the digits' curve."""
    curve = Curve.from_json(RESULTS / "first_curves_digits.json")
    return f"```text\n{Curve(curve.rows[::3], curve.about).table()}\n```"


def one_and_dedicated() -> str:
    """Return J of one model, of dedicated ones and of the published gates, and the differences."""
    found = result_of("gap")
    lines = []
    for split in ("test", "train"):
        for row in found[split]:
            cells = [split, f"{row['beta']:g}"]
            cells += [number(row[name], signed="minus" in name) for name in _COLUMNS]
            lines.append(cells)
    titles = ["set", "β", *_COLUMNS.values()]
    return table(titles, lines)


_COLUMNS = {
    "dedicated": "dedicated",
    "one": "one model",
    "one_minus_dedicated": "one − dedicated",
    "gate": "published gates",
    "gate_minus_dedicated": "gates − dedicated",
}


def each_seed() -> str:
    """Return J of each run on the test set."""
    lines = [
        [f"{row['beta']:g}", *(_values(row[name]) for name in ("dedicated", "one"))]
        for row in result_of("gap")["test"]
    ]
    return table(["β", "dedicated, each seed", "one model, each seed"], lines)


def _values(of: dict[str, Any] | None) -> str:
    return "–" if of is None else ", ".join(f"{value:.2f}" for value in of["values"])


def curves() -> str:
    """Return what is compared along the whole curve."""
    runs, test = result_of("gap")["runs"], result_of("gap")["test"]
    lines = []
    titles = {"one": "one model", "gate": "published gates"}
    for name, title in titles.items():
        if name not in runs:
            continue
        at_equal_rate = [number(row[f"{name}_distortion_at_equal_rate"], True) for row in test]
        regret, channels = runs[name]["self_regret"], runs[name]["channels"]
        lines.append([
            title,
            *at_equal_rate,
            number(runs[name]["bd_rate_percent"], True),
            number(regret, digits=3),
            "yes" if runs[name]["rate_falls"] else "no",
            ", ".join(f"{c['without_gradient']} of {c['conditioned']}" for c in channels),
        ])  # fmt: skip
    betas = [f"D at equal R, β = {row['beta']:g}" for row in test]
    head = ["", *betas, "BD-rate, %", "self-regret", "R falls over 40 β's"]
    return table([*head, "channels without gradient"], lines)


def protocol() -> str:
    """Return the learning rates, seeds and parameters of each side."""
    lines = [
        [
            name, f"{run['lr']:g}", ", ".join(f"{lr:g}" for lr in run["lr_tried"]),
            str(run["seeds"]), f"{run['parameters']:,}",
        ]
        for name, run in result_of("gap")["runs"].items()
    ]  # fmt: skip
    titles = ["", "learning rate", "tried with seed 0", "seeds", "parameters in training"]
    return table(titles, lines)


def oracle() -> str:
    """Return the excess of linear models over the optimum."""
    lines = []
    titles = {"mnist": "binarised MNIST, 32 latents", "gaussian": "Gaussian source, 16 dimensions"}
    found = result_of("oracle")
    for source, title in titles.items():
        of = found[source]
        lines.append([
            title,
            f"{fmean(of['mean']):.3f}",
            f"{max(of['max']):.3f}",
            f"{max(of['self_regret']):.3f}",
            "yes" if all(of["rate_falls"]) else "no",
            str(found["seeds"]),
        ])  # fmt: skip
    titles_ = ["source", "mean excess", "largest", "self-regret", "R falls over 20 β's", "seeds"]
    return table(titles_, lines)


def step() -> str:
    """Return the cost of a training step."""
    found = result_of("speed_step")["cases"]
    lines = [
        [
            case, kind, _ratio(of),
            f"{of['parameters']:,}", f"{of['peak_memory_mib']:.0f}",
        ]
        for case, kinds in found.items()
        for kind, of in kinds.items()
    ]  # fmt: skip
    titles = ["network", "conditioning", "time of a step", "parameters", "peak memory, MiB"]
    return table(titles, lines)


def curve_cost() -> str:
    """Return the cost of a curve."""
    of = result_of("speed_curve")
    return (
        f"A curve at {of['betas']} β's takes {_ratio(of)} times as long as {of['betas']} "
        "evaluations of a plain VAE (median and quartiles)."
    )


def fit_cost() -> str:
    """Return samples a second of ``multibeta fit``, over those of others."""
    bare, rival = result_of("speed_fit"), result_of("speed_pythae")
    lines = [
        [case, "all β's", "a bare loop, all β's", _ratio(of["fit_over"]["bare loop"])]
        for case, of in bare["cases"].items()
    ] + [
        [case, side, f"pythae {rival['pythae']}, one β", _ratio(of["fit_over"]["pythae"])]
        for case, sides in rival["cases"].items()
        for side, of in sides.items()
    ]
    titles = ["network", "`multibeta fit`", "against", "samples a second, ratio"]
    return table(titles, lines)


def ends() -> str:
    """Return J at the end of a trained range and inside one."""
    lines = [
        [f"{row['beta']:g}", *(number(row[name]) for name in ("end", "inside")),
         number(row["end_minus_inside"], signed=True)]
        for row in result_of("ends")["rows"]
    ]  # fmt: skip
    return table(["β", "trained on [0.1, 1]", "on [0.01, 10]", "end − inside"], lines)


def every_model() -> str:
    """Return self-regret, and whether R falls, of each model for a range of β."""
    groups: dict[str, list[Curve]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        if re.search("^choices|_choice$", path.stem):  # of models that are there already
            continue
        found = result_of(path.stem)
        of = found.get("curves", {}).get("test", found)
        if of.get("about", {}).get("objective") == "BetaELBO" and len(of.get("rows", ())) > 1:
            name = re.sub(r"_seed\d+$", "", path.stem)
            groups.setdefault(name, []).append(Curve(tuple(of["rows"]), of["about"]))
    lines = [
        [f"`{name}`", str(len(curves)), str(len(curves[0].rows)),
         f"{max(map(self_regret, curves)):.3f}", "yes" if all(map(falls, curves)) else "no"]
        for name, curves in groups.items()
    ]  # fmt: skip
    return table(["result", "models", "β's", "self-regret, at most", "R falls"], lines)


def transfer() -> str:
    """Return J of one model and of dedicated ones on other data."""
    found = result_of("transfer")
    lines = []
    for data, title in {"omniglot": "Omniglot, 28×28", "celeba": "CelebA, 32×32"}.items():
        for row in found[data]["rows"]:
            apart, of = row["one_minus_dedicated"], row["dedicated"]
            per_cent = 100 * apart["mean"] / abs(of["mean"])
            lines.append([
                title, f"{row['beta']:.3g}", number(of), number(row["one"]),
                number(apart, signed=True), f"{per_cent:+.2f}".replace("-", "−"),
                "yes" if all(found[data]["rate_falls"]) else "no",
                f"{max(found[data]['self_regret']):.3f}", str(len(of["values"])),
            ])  # fmt: skip
    titles = ["data", "β", "dedicated", "one model", "one − dedicated", "% of J"]
    return table([*titles, "R falls over 41 β's", "self-regret", "seeds"], lines)


_RATE = {
    "beta": "β",
    "rate_nats": "R",
    "distortion_nats": "D",
    "information_nats": "I",
    "total_correlation_nats": "TC",
    "dimension_kl_nats": "Σ KL_j",
    "active_units": "active units",
    "nll_nats": "−log p ≤",
    "nll_ess": "effective samples",
}
_SAMPLES = {
    "beta": "β",
    "fd_prior": "FID, prior",
    "fd_gmm": "FID, mixture",
    "fd_reconstruction": "FID, reconstructions",
    "kd_prior": "KID, prior",
    "kd_gmm": "KID, mixture",
}
_PAIRED = {
    "correlation": "correlation",
    "misalignment": "misalignment",
    "w2": "E W₂²",
    "cka": "linear CKA",
    "w1": "W₁",
    "sliced_w1": "sliced W₁",
}
_SCORES = {
    "beta": "β",
    "rate_nats": "R",
    "distortion_nats": "D",
    "active_units": "active units",
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "completeness",
    "dci_informativeness": "informativeness",
    "sap": "SAP",
    "factor_vae": "FactorVAE score",
}


_USES = {
    "probe": "a linear probe: accuracy", "index": "a neighbour index: accuracy",
    "same": "the same example found again", "mixture": "samples of a mixture: distance",
    "alarms": "a threshold for 5 % of D + R: alarms",
    "moved": "one latent moved: cosine of what x does",
    "warm": "a classifier, 50 steps from another's: accuracy",
}  # fmt: skip


def aligned() -> str:
    """Return what is made at one β and used at another, of one model and of dedicated ones."""
    lines = []
    for name, found in result_of("aligned")["sets"].items():
        for measure, words in _USES.items():
            cells = [number(found[side][f"{measure}_away"], digits=3) for side in aligning.SIDES]
            home = [number(found[of][f"{measure}_at_home"], digits=3) for of in ("one", "apart")]
            label = f"{aligning.SETS[name].label} ({found['seeds']})"
            lines.append([label, words, *cells, *home])
    titles = ["set (seeds)", "made at one β, used at others", "one model", "dedicated",
              "by permutation", "by a linear map", "one, by a linear map", "one, at home",
              "dedicated, at home"]  # fmt: skip
    return table(titles, lines)


def choices() -> str:
    """Return the β of each purpose on each data set, with those that are as good."""
    rows = result_of("choices")["rows"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    lines = []
    for purpose in PURPOSES:
        cells = [f"`{purpose}`"]
        for name in sets:
            found = [row for row in rows if (row["set"], row["purpose"]) == (name, purpose)]
            cells.append(_choice(found[0]) if found else "")
        if any(cells[1:]):
            lines.append(cells)
    return table(["`--for`", *sets], lines)


def _choice(row: Mapping[str, Any]) -> str:
    low, high = row["near"][0], row["near"][-1]
    end = "*" if row["beta"] in row["ends"] else ""
    near = "" if low == high else f" ({low:.2g} to {high:.2g})"
    return f"{row['beta']:.2g}{end}{near}"


def best_beta() -> str:
    """Return the β of the one model that is best for each thing."""
    found = result_of("measures_mnist")
    scores = {row["beta"]: row for row in found["auroc"]["rows"]}
    rows = [{**row, **scores[row["beta"]]} for row in found["one"]]
    wanted: dict[str, tuple[str, Callable[..., Any]]] = {
        "nll_nats": ("likelihood: −log p ≤", min),
        "fd_reconstruction": ("reconstructions: FID", min),
        "fd_prior": ("samples from the prior: FID", min),
        "fd_gmm": ("samples from the mixture: FID", min),
        "auroc_rate_nats": ("Omniglot told by R: AUROC", max),
        "auroc_neg_elbo_nats": ("Omniglot told by D + R: AUROC", max),
        "auroc_nll_nats": ("Omniglot told by −log p: AUROC", max),
    }
    lines = []
    for name, (title, best) in wanted.items():
        row = best(rows, key=lambda row, name=name: row[name])
        lines.append([title, f"{row['beta']:.3g}", cell(name, row[name])])
    return table(["what", "best β", "there"], lines)


def where_the_rate_goes() -> str:
    """Return the decomposition of the rate over β, of one model and of dedicated ones."""
    return _one_and_dedicated(_RATE)


def samples() -> str:
    """Return the distances of samples over β, of one model and of dedicated ones."""
    return _one_and_dedicated(_SAMPLES)


def _one_and_dedicated(columns: dict[str, str]) -> str:
    found = result_of("measures_mnist")
    lines = [
        [title, *(cell(name, row[name]) for name in columns)]
        for title, rows in {"one": found["one"], "dedicated": found["dedicated"]}.items()
        for row in rows
    ]
    return table(["model", *columns.values()], lines)


def alignment() -> str:
    """Return the alignment over β of one model's code and of the dedicated models' codes."""
    rows = result_of("measures_mnist")["aligned"]
    lines = []
    for row, after in itertools.pairwise(rows):
        step = f"{row['beta']:g} → {after['beta']:g}"
        for title, prefix in {"one": "next", "dedicated": "against_next"}.items():
            lines.append([step, title, *(cell(name, row[f"{prefix}_{name}"]) for name in _PAIRED)])
    return table(["β", "models", *_PAIRED.values()], lines)


def auroc() -> str:
    """Return how well Omniglot is told from MNIST at each β."""
    found = result_of("measures_mnist")["auroc"]
    names = {
        "distortion_nats": "D",
        "rate_nats": "R",
        "neg_elbo_nats": "D + R",
        "nll_nats": "−log p",
    }
    lines = [
        [f"{row['beta']:.3g}", *(f"{row[f'auroc_{name}']:.3f}" for name in names)]
        for row in found["rows"]
    ]
    return table(["β", *names.values()], lines)


def disentanglement() -> str:
    """Return the disentanglement scores over β on dSprites."""
    found = result_of("measures_dsprites") | {
        f"β-TCVAE, one, seed {seed}": result_of("measures_dsprites_tcvae")[name]
        for seed, name in enumerate(("tcvae", "tcvae_seed1"))
    }
    lines = [
        [name, *(cell(score, row[score]) for score in _SCORES)]
        for name in ("one", "dedicated", "β-TCVAE, one, seed 0", "β-TCVAE, one, seed 1")
        for row in found[name]
    ]
    return table(["model", *_SCORES.values()], lines)


def sigma_oracle() -> str:
    """Return σ² of linear models and its closed form."""
    lines = []
    for row in result_of("sigma")["oracle"]:
        cells = [f"{row['beta']:g}", f"{row['closed_form']:.4f}"]
        for name in ("dedicated", "one"):
            off = 100 * (row[name] / row["closed_form"] - 1)
            cells.append(f"{row[name]:.4f} ({off:+.2f} %)".replace("-", "−"))
        lines.append(cells)
    return table(["β", "closed form", "dedicated, learned σ", "one model, optimal σ"], lines)


def sigma_straight() -> str:
    """Return how straight log S is over R, and its slopes beside what theory says."""
    lines = []
    for data in ("mnist", "celeba"):
        for kind, found in result_of("sigma")[data].items():
            straight, slopes = found["straightness"], found["slopes"]
            chosen = [slopes[len(slopes) // 3], slopes[len(slopes) * 2 // 3], slopes[-1]]
            cells = [
                f"{1000 * at['measured']:.2f} ({1000 * at['theory']:.2f})".replace("-", "−")
                for at in chosen
            ]
            sigma = "–" if found["sigma"] is None else f"{found['sigma']:.3g}"
            lines.append(
                [data, kind, sigma, f"{straight['r_squared']:.2f}",
                 f"{straight['r_squared_above_floor']:.4f}",
                 f"{straight['latents_by_slope']:.1f} ({straight['latents']})", *cells]
            )  # fmt: skip
    betas = [f"{at['beta']:.2g}" for at in chosen]
    titles = ["data", "σ", "its value", "R², log S", "R², log (S − floor)", "−2/slope (latents)"]
    return table([*titles, *(f"d log S / dR at β = {beta}, ·10⁻³" for beta in betas)], lines)


def third_axis() -> str:
    """Return three objectives at equal rates."""
    lines = []
    for row in result_of("third_axis")["rows"]:
        for name, found in row.items():
            if name == "rate" or found is None:
                continue
            cells = [f"{found[column]:.2f}" for column in _AXES]
            lines.append([f"{row['rate']:g}", name, *cells])
    return table(["R", "objective", *_AXES.values()], lines)


_AXES = {
    "distortion_nats": "D",
    "information_nats": "I",
    "aggregated_kl_nats": "KL(q(z) ‖ p(z))",
    "fd_prior": "FID of samples",
}


def situations() -> str:
    """Return the kinds of situations, and what was to come of them."""
    found = result_of("situations")
    lines = [
        [kind, *(str(of.get(verdict, 0)) for verdict in ("right figure", "one line"))]
        for kind, of in found["kinds"].items()
    ]
    total = f"{found['situations']} situations, {len(found['failed'])} with another end."
    return f"{table(['kind', 'the right figure', 'one line'], lines)}\n\n{total}"


def kills() -> str:
    """Return when runs were stopped, and how many did not end as the run that was not."""
    found = result_of("kills")
    lines = [[when, str(count)] for when, count in sorted(found["stopped"].items())]
    total = (
        f"{found['runs']} runs; {found['not_the_same']} did not end with the weights and the "
        "curve of the run that was not stopped, bit for bit."
    )
    return f"{table(['ended by', 'runs'], lines)}\n\n{total}"


def fuzz() -> str:
    """Return what became of random and damaged input."""
    found = result_of("fuzz")
    cases = {"texts for β": found["betas"], "configurations": found["configs"], **found["files"]}
    usual = ("right", "refused", "another value")
    lines = []
    for name, of in cases.items():
        counts = {k: v for k, v in of.items() if not k.startswith("range, ")}
        others = sum(v for k, v in counts.items() if k not in usual)
        lines.append([name, *(f"{counts.get(k, 0):,}" for k in usual), f"{others:,}"])
    titles = ["", "right value", "refused in one line", "another value", "anything else"]
    return table(titles, lines)


def memory() -> str:
    """Return the memory that a training on a large array takes."""
    found = result_of("memory")
    lines = [[f"`{name}`", f"{n / 1e9:.2f} GB"] for name, n in found["peak_bytes"].items()]
    return table([f"an array of {found['array_bytes'] / 1e9:.1f} GB as", "peak of `fit`"], lines)


def lossless_betas() -> str:
    """Return what the lossless codes of MNIST take at every β."""
    found = result_of("codec_lossless_mnist")
    (alone,) = result_of("codec_lossless_mnist_dedicated")["rows"]
    lines = []
    for label, rows in (("", found["rows"]), (", alone", [alone])):
        for row in rows:
            lines.append([
                f"{row['beta']:.3g}{label}", f"{row['elbo_bits']:.2f}",
                f"{row['bits_per_example']:.2f}", f"{row['ratio']:.4f}",
                f"{row['bits_per_value']:.4f}", f"{row['initial_bits']}",
            ])  # fmt: skip
    titles = [
        "β",
        "D + R",
        "the code",
        "code / (D + R)",
        "bits a pixel",
        "of it initial, all in all",
    ]
    return table(titles, lines)


def lossless_sets() -> str:
    """Return the lossless codes of each set at its best β, and other codes."""
    lines = []
    for row in result_of("codec_lossless")["rows"]:
        others = [f"{name} {bits:.1f}" for name, bits in row["rivals"].items() if name != "raw"]
        lines.append([
            row["set"], f"{row['beta']:.3g}", f"{row['elbo_bits']:.1f}",
            f"**{row['bits_per_example']:.1f}**", f"{row['largest_ratio']:.3f}",
            f"{row['rivals']['raw']:.0f}", "; ".join(others),
            f"{row['examples_a_second_written']:,.0f}, {row['examples_a_second_read']:,.0f}",
        ])  # fmt: skip
    titles = [
        "set", "best β", "D + R", "the code", "largest code / (D + R), all β", "raw",
        "other codes", "examples a second, written and read",
    ]  # fmt: skip
    return table(titles, lines)


def same_total() -> str:
    """Return one model minus dedicated ones that share its time, for each set."""
    return _over_beta("K", {"total4": "4", "total8": "8"}, "mean over the K β's")


def one_beta() -> str:
    """Return one model minus dedicated ones that have its steps, or its time, for each β."""
    return _over_beta(
        "the dedicated one has",
        {
            "steps": "as many steps", "two": "as many steps, the one two β's an example",
            "time": "as much time",
        },
        "mean over β",
    )  # fmt: skip


def _over_beta(title: str, budgets: Mapping[str, str], mean: str) -> str:
    lines = []
    for of in result_of("price")["sets"].values():
        for budget, label in budgets.items():
            if rows := of["budgets"].get(budget):
                differences = [row["one_minus_dedicated"]["mean"] for row in rows]
                worst = max(rows, key=lambda row: row["one_minus_dedicated"]["mean"])
                lines.append([
                    of["label"], label, number(rows[0]["one_minus_dedicated"], signed=True),
                    number(rows[-1]["one_minus_dedicated"], signed=True),
                    f"{fmean(differences):+.2f}".replace("-", "−"),
                    f"{number(worst['one_minus_dedicated'], signed=True)} at {worst['beta']:.3g}",
                    str(min(row["seeds"] for row in rows)),
                ])  # fmt: skip
    titles = ["set, network", title, "at β = 0.01", "at β = 10", mean]
    return table([*titles, "where it is worst", "seeds"], lines)


def wrapped() -> str:
    """Return one model minus dedicated ones in its time, for networks of a user's own."""
    lines = []
    for case in ("case_heartbeats", "case_cells"):
        for of in result_of(case)["sets"].values():
            differences = [row["one_minus_dedicated"]["objective_nats"] for row in of["dedicated"]]
            betas = ", ".join(f"{row['beta']:.3g}" for row in of["dedicated"])
            lines.append([
                of["label"], str(len(differences)), betas,
                *(number(each, signed=True) for each in differences), str(of["seeds"]),
            ])  # fmt: skip
    titles = ["set", "K", "at β =", "lowest", "middle", "highest", "seeds"]
    return table(titles, lines)


def turned() -> str:
    """Return what a change to principal axes early in the training is worth."""
    lines = [
        [of["label"], f"{row['beta']:g}", number(row["plain"]),
         number(row["turned_minus_plain"], signed=True), str(of["seeds"])]
        for of in result_of("turned")["sets"].values()
        for row in of.get("rows", ())
    ]  # fmt: skip
    return table(["set, network", "β", "J without", "with − without", "seeds"], lines)


def turned_linear() -> str:
    """Return the excess of a linear VAE over its optimum with that change and without."""
    of = result_of("turned")["sets"]["linear"]
    lines = [
        [label, f"{of[side]['mean_excess_nats']:.3f}", f"{of[side]['max_excess_nats']:.3f}"]
        for side, label in (("plain", "as it is"), ("turned", "with `PrincipalAxes`"))
    ]
    return table([f"{of['label']}, {of['seeds']} seeds", "mean excess", "largest"], lines)


def price() -> str:
    """Return J, D and R of one model and of dedicated ones, at each budget, set and β."""
    lines = [
        [
            of["label"], BUDGETS[budget], f"{row['beta']:.3g}", number(row["one_objective"]),
            number(row["dedicated_objective"]), number(row["one_minus_dedicated"], signed=True),
            f"{100 * row['share_of_j']:+.2f} %",
            number(row["one_distortion"]), number(row["dedicated_distortion"]),
            number(row["one_rate"]), number(row["dedicated_rate"]),
            number(row["distortion_at_equal_rate"], signed=True),
            f"{row['one_active']['mean']:.0f} / {row['dedicated_active']['mean']:.0f}",
            str(row["seeds"]),
        ]
        for of in result_of("price")["sets"].values()
        for budget, rows in of["budgets"].items()
        for row in rows
    ]  # fmt: skip
    return table(
        ["set, network", "budget", "β", "J one", "J dedicated", "difference", "of J", "D one",
         "D dedicated", "R one", "R dedicated", "D at equal R", "active latents", "seeds"],
        [[cell.replace("-", "−") for cell in line] for line in lines],
    )  # fmt: skip


def targets() -> str:
    """Return what was asked of the price, and what is."""
    sets = result_of("price")["sets"]

    def worst(budgets: tuple[str, ...], percent: bool) -> str:
        found = [
            (100 * row["share_of_j"] if percent else row["one_minus_dedicated"]["mean"],
             f"{BUDGETS[budget]}, {each['label']}, β = {row['beta']:.3g}: "
             f"{number(row['one_minus_dedicated'], signed=True)} nats")
            for each in sets.values()
            for budget, rows in each["budgets"].items()
            if budget in budgets
            for row in rows
        ]  # fmt: skip
        if not found:
            return "not run"
        value, where = max(found)
        points = f"{sum(value <= 0 for value, _ in found)} of {len(found)} points at most 0"
        return f"{value:+.2f}{' %' if percent else ''} ({where}); {points}".replace("-", "−")

    ratios = ", ".join(f"{each['label']} {each['step_ratio']:.2f}" for each in sets.values())
    lines = [
        ["same total, one − dedicated, nats", "below 0",
         worst(("total4", "total8"), False)],
        ["same steps, one − dedicated, % of J", "at most .3",
         worst(("steps",), True)],
        ["… with two β's an example", "at most .3", worst(("two",), True)],
        ["same time, one − dedicated, % of J", "reported",
         worst(("time",), True)],
        ["a step, in plain ones", "1.35 (ResNet), 1.7 (MLP), 1.4 (Conv)", ratios],
    ]  # fmt: skip
    for each in result_of("robust")["sets"].values():
        of = each["settings"]["learning rate"]
        rate, loss = max(of["worst_loss_percent"].items(), key=lambda of: of[1])
        lines.append([
            "learning rate × ¼ to 4, loss against the best, % of J", "at most 2",
            f"{loss:.2f} % ({each['label']}, at × {rate}: "
            f"{max(of['worst_loss_nats'].values()):.2f} nats at most)",
        ])  # fmt: skip
    return table(["what", "must", "is, where it is worst"], lines)


def robust() -> str:
    """Return what each value of a setting loses against the best value, at the worst β."""
    lines = [
        [each["label"], setting,
         ", ".join(f"{value}: {loss:.2f}" for value, loss in of["worst_loss_nats"].items())]
        for each in result_of("robust")["sets"].values()
        for setting, of in each["settings"].items()
    ]  # fmt: skip
    return table(["set, network", "setting", "loss against the best at the worst β, nats"], lines)


def long() -> str:
    """Return J after a long training, of the last and the best checkpoint, of both sides."""
    titles = ["set, network", "β", "one, last", "one, best", "its J was lowest after"]
    titles += ["dedicated, last", "dedicated, best", "its J was lowest after", "best − best"]
    lines = [
        [of["label"], f"{row['beta']:g}",
         f"{row['one_last']:.2f}", f"{row['one_best']:.2f}", f"{row['one_best_epoch']} epochs",
         f"{row['dedicated_last']:.2f}", f"{row['dedicated_best']:.2f}",
         f"{row['dedicated_best_epoch']} epochs",
         f"{row['one_best'] - row['dedicated_best']:+.2f}".replace("-", "−")]
        for of in result_of("long")["sets"].values()
        for row in of["rows"]
    ]  # fmt: skip
    return table(titles, lines)


def batchnorm() -> str:
    """Return J with the running statistics of the training, and with others."""
    found = result_of("batchnorm")["objective_nats"]
    lines = [[name, *map(number, of.values())] for name, of in found.items()]
    (first, *_) = found.values()
    return table(["D + βR on the test set", *(f"β = {beta}" for beta in first)], lines)


_OF_FACES = {
    "rate_nats": ("R", 0), "distortion": ("D", 0), "l1": ("its L1", 0),
    "perceptual": ("its perceptual part", 0), "psnr_db": ("PSNR", 2), "ssim": ("SSIM", 3),
    "fd_reconstruction": ("FD of reconstructions", 1),
}  # fmt: skip
_OF_CODES = {
    "viv": ("VIV", 0), "viv_scale": ("scale s", 2), "viv_scaled": ("VIV of z/s", 1),
    "effective_rank": ("effective rank", 0), "least_std": ("std of channels, least", 2),
    "greatest_std": ("greatest", 2), "kurtosis": ("excess kurtosis", 2),
}  # fmt: skip
_OF_FLOWS = {
    "flow_loss": ("loss of the flow", 1), "fd": ("FD of samples", 1), "kd": ("KD of samples", 4),
}  # fmt: skip


def autoencoder_curve() -> str:
    """Return reconstructions of the one autoencoder over β."""
    return _faces(result_of("case_autoencoder")["rows"], _OF_FACES)


def autoencoder_codes() -> str:
    """Return what the codes of the one autoencoder are like over β."""
    return _faces(result_of("case_autoencoder")["rows"], _OF_CODES)


def autoencoder_flows() -> str:
    """Return the second stages, on codes of the one autoencoder and of dedicated ones."""
    found = result_of("case_autoencoder")
    sides = {
        "one": found["rows"],
        "dedicated": [{"beta": row["beta"], **row["dedicated"]} for row in found["dedicated"]],
    }
    columns = {name: _OF_FACES[name] for name in ("distortion", "fd_reconstruction")}
    columns |= {name: _OF_CODES[name] for name in ("viv", "viv_scaled")} | _OF_FLOWS
    head, *others = (
        _faces([row for row in rows if "fd" in row], columns, side) for side, rows in sides.items()
    )
    return "\n".join([head, *("\n".join(of.splitlines()[2:]) for of in others)])


def _faces(
    rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, int]], side: str = ""
) -> str:
    first = [side] if side else []
    lines = [
        [*first, f"{row['beta']:.3g}",
         *(number(row[name], digits=digits) for name, (_, digits) in columns.items())]
        for row in rows
    ]  # fmt: skip
    titles = [title for title, _ in columns.values()]
    return table([*(["model"] if side else []), "β", *titles], lines)


def autoencoder_predictors() -> str:
    """Return the rank correlations of predictors with the distance of samples."""
    found = result_of("case_autoencoder")
    pairs = zip(found["predictors"], found["predictors_of_all"], strict=True)
    lines = [
        [case_autoencoder.PREDICTORS[own["predictor"]],
         "–" if own["says"] is None else f"{own['says']:.3g}",
         *("–" if value is None else f"{value:+.2f}".replace("-", "−")
           for value in (own["fd"], own["kd"], every["fd"], every["kd"]))]
        for own, every in pairs
    ]  # fmt: skip
    titles = ["the less, the better", "says β", "ρ with FD, one model", "with KD"]
    return table([*titles, "ρ with FD, and dedicated ones", "with KD"], lines)


def autoencoder_choice() -> str:
    """Return what ``multibeta choose`` says of the one autoencoder."""
    return "> " + " ".join(result_of("case_autoencoder_choice")["advice"])


def autoencoder() -> str:
    """Return the one autoencoder minus dedicated ones in its time."""
    columns = {"objective": ("J", 1)} | _OF_FACES | {"viv_scaled": _OF_CODES["viv_scaled"]}
    columns |= {name: _OF_FLOWS[name] for name in ("flow_loss", "fd", "kd")}
    lines = [
        [title, *(
            f"{number(row['dedicated'][name], digits=digits)}; "
            f"{number(row['one_minus_dedicated'][name], True, digits)}"
            for row in found
        )]
        for found in [result_of("case_autoencoder")["dedicated"]]
        for name, (title, digits) in columns.items()
    ]  # fmt: skip
    betas = case_autoencoder.CASE.dedicated
    return table(["", *(f"β = {beta:.3g}" for beta in betas)], lines)


def autoencoder_time() -> str:
    """Return what the sides of the autoencoder cost."""
    return cases.table_of_time({"": result_of("case_autoencoder")})


def heartbeats() -> str:
    """Return the one model of all kinds of heartbeats minus dedicated ones in its time."""
    (first, *_) = result_of("case_heartbeats")["sets"].items()
    return cases.table_of_sides(dict([first]), {
        "objective_nats": "J", "live_latents": "live latents", "probe_accuracy": "linear probe",
        "knn_accuracy": "neighbours", **_ANOMALIES,
    })  # fmt: skip


def heartbeats_normal() -> str:
    """Return the same of models that saw normal heartbeats alone."""
    (_, *some) = result_of("case_heartbeats")["sets"].items()
    columns = {"normal_objective_nats": "J, normal beats", "live_latents": "live latents"}
    return cases.table_of_sides(dict(some), {**columns, **_ANOMALIES})


_ANOMALIES = {
    "auroc_distortion_nats": "AUROC, D", "auroc_rate_nats": "R", "auroc_neg_elbo_nats": "D + R",
}  # fmt: skip


def heartbeats_curve() -> str:
    """Return the one model of heartbeats over β."""
    return cases.table_of_curve(result_of("case_heartbeats")["sets"]["case_heartbeats_mitbih2"], {
        "rate_nats": "R", "distortion_nats": "D", "live_latents": "live latents",
        "axes_95": "axes, 95 %", "probe_accuracy": "linear probe", "knn_accuracy": "neighbours",
        **_ANOMALIES,
    })  # fmt: skip


def heartbeats_choices() -> str:
    """Return the β's for purposes, of heartbeats."""
    return cases.table_of_choices(result_of("case_heartbeats")["sets"])


def heartbeats_patients() -> str:
    """Return the AUROC of D with its errors over beats and over patients."""
    first, *_ = found = result_of("case_heartbeats")["by_patient"]
    lines = []
    for row in found:
        difference = {"mean": row["auroc"] - first["auroc"], "se": row["minus_first_se"]}
        lines.append([
            f"{row['beta']:.3g}", f"{row['auroc']:.3f}", f"{row['se_over_beats']:.3f}",
            f"{row['se_over_patients']:.3f}",
            "–" if row is first else number(difference, signed=True, digits=3),
        ])  # fmt: skip
    titles = ["β", "AUROC, D", "error over beats", "over patients"]
    return table([*titles, f"minus that at {first['beta']:.3g}, over patients"], lines)


def heartbeats_latents() -> str:
    """Return R and D of one model with 32 latents and of one with 8."""
    found = result_of("case_heartbeats")
    (large, *_), eight = found["sets"].values(), found["eight"]
    nats = "rate_nats", "distortion_nats", "objective_nats"
    lines = [
        [
            f"{row['beta']:.3g}", f"{row['live_latents']['values'][0]:.0f}",
            f"{few['live_latents']:.0f}",
            *(f"{of:.1f}".replace("-", "−") for name in nats
              for of in (row[name]["values"][0], few[name])),
        ]
        for row, few in zip(large["rows"], eight, strict=True)
    ]  # fmt: skip
    titles = [f"{name}, Z = {z}" for name in ("live", "R", "D", "J") for z in (32, 8)]
    return table(["β", *titles], lines)


def cells() -> str:
    """Return the one model of cells minus dedicated ones in its time."""
    return cases.table_of_sides(result_of("case_cells")["sets"], {
        "objective_nats": "J", "nll_nats": "−log p ≤", "cluster_ari": "ARI",
        "cluster_nmi": "NMI", "knn_accuracy": "neighbours",
        "predictive_calibration_error": "calibration error",
    })  # fmt: skip


def cells_curve() -> str:
    """Return the one models of cells at every second β."""
    columns = {
        "rate_nats": "R", "distortion_nats": "D", "nll_nats": "−log p ≤",
        "live_latents": "live latents", "cluster_ari": "ARI", "cluster_nmi": "NMI",
        "cluster_silhouette": "silhouette", "probe_accuracy": "linear probe",
        "knn_accuracy": "neighbours",
    }  # fmt: skip
    head, *others = (
        cases.table_of_curve({**of, "rows": of["rows"][::2]}, columns, of["label"])
        for of in result_of("case_cells")["sets"].values()
    )
    return "\n".join([head, *("\n".join(of.splitlines()[2:]) for of in others)])


def cells_choices() -> str:
    """Return the β's for purposes, of cells."""
    return cases.table_of_choices(result_of("case_cells")["sets"])


def cells_scvi() -> str:
    """Return R and D at one β, by scvi-tools' own loss and by ours."""
    found = result_of("case_cells_scvi")["read_again"]
    lines = [
        [by, *(f"{found[name][by]:.4f}" for name in ("rate_nats", "distortion_nats"))]
        for by in ("multibeta", "scvi")
    ]
    return table(["loss of", "R", "D"], lines)


def heartbeats_time() -> str:
    """Return what the sides of the heartbeats cost."""
    return cases.table_of_time(result_of("case_heartbeats")["sets"])


def cells_time() -> str:
    """Return what the sides of the cells cost."""
    return cases.table_of_time(result_of("case_cells")["sets"])


def heartbeats_components() -> str:
    """Return what principal components of heartbeats tell of the class."""
    return _components({"MIT-BIH": result_of("case_heartbeats")["components"]}, False)


def cells_components() -> str:
    """Return what principal components of cells tell of the class."""
    found = result_of("case_cells")
    of = {case["label"]: found["components"][name] for name, case in found["sets"].items()}
    return _components(of, True)


def _components(of: Mapping[str, Any], clusters: bool) -> str:
    columns = {"probe_accuracy": "linear probe", "knn_accuracy": "neighbours"}
    if clusters:
        columns = {"cluster_ari": "ARI", "cluster_nmi": "NMI", **columns}
    lines = [
        [label, str(found["components"]), *(f"{found[name]:.3f}" for name in columns)]
        for label, found in of.items()
    ]
    return table(["set", "principal components", *columns.values()], lines)


def metrics_cost() -> str:
    """Return the cost of the metrics over the numbers of β's and of examples."""
    found = result_of("metrics_cost")
    lines = [
        [
            name,
            *(f"{s:.2f}" for s in of["betas"].values()),
            *(f"{s:.2f}" for s in of["examples"].values()),
        ]
        for name, of in found["metrics"].items()
    ]
    (first, *_) = found["metrics"].values()
    titles = [
        "seconds",
        *(f"{k} β's" for k in first["betas"]),
        *(f"N = {int(n):,}" for n in first["examples"]),
    ]
    pairs = found["decomposition"][-1]
    return (
        f"{table(titles, lines)}\n\nAll pairs of {pairs['examples']:,} examples with "
        f"{pairs['latents']} latents take {pairs['seconds']:.1f} seconds a β; the peak of all "
        f"this was {found['peak_memory_mib']:,} MiB."
    )


def objectives() -> str:
    """Return the family of objectives, from its classes."""
    return table_of_objectives()


BLOCKS: dict[str, Callable[[], str]] = {
    block.__name__: block
    for block in (
        digits,
        batchnorm,
        autoencoder,
        autoencoder_curve,
        autoencoder_codes,
        autoencoder_flows,
        autoencoder_predictors,
        autoencoder_choice,
        autoencoder_time,
        heartbeats,
        heartbeats_curve,
        heartbeats_choices,
        heartbeats_normal,
        heartbeats_latents,
        heartbeats_patients,
        heartbeats_components,
        heartbeats_time,
        cells,
        cells_curve,
        cells_choices,
        cells_components,
        cells_scvi,
        cells_time,
        fuzz,
        kills,
        memory,
        lossless_betas,
        lossless_sets,
        situations,
        objectives,
        one_and_dedicated,
        each_seed,
        curves,
        protocol,
        oracle,
        ends,
        every_model,
        transfer,
        step,
        curve_cost,
        fit_cost,
        aligned,
        best_beta,
        choices,
        *codec_summary.TABLES,
        where_the_rate_goes,
        samples,
        alignment,
        auroc,
        disentanglement,
        sigma_oracle,
        sigma_straight,
        third_axis,
        metrics_cost,
        price,
        robust,
        long,
        same_total,
        one_beta,
        wrapped,
        turned,
        turned_linear,
        targets,
    )
} | tables.blocks(TALKS.values())


def draw() -> None:
    """Draw the curves of one model with the dedicated models' points on it, for the first seed."""
    for talk in TALKS.values():
        pictures.draw_curve(talk)
    one = curve_of(gap.ONE.names()[0])
    points = [curve_of(side.names()[0]).rows[0] for side in gap.DEDICATED if side.names()]
    title = "Binarised MNIST, test set: one model, and dedicated β-VAEs"
    plots.rate_distortion(one.rows, RESULTS / "gap.png", title, {"dedicated β-VAE": points})
    draw_price(result_of("price")["sets"], RESULTS / "price.png")
    case_autoencoder.draw(result_of("case_autoencoder"))
    case_heartbeats.draw(result_of("case_heartbeats")["sets"])
    case_cells.draw(result_of("case_cells")["sets"])
    codec_summary.draw()


def _ratio(of: dict[str, float]) -> str:
    return f"{of['ratio']:.2f} ({of['quartile_low']:.2f} to {of['quartile_high']:.2f})"


def main() -> None:
    """Write the pages and the picture."""
    draw()
    for page in PAGES:
        text = filled(page.read_text())
        with replacing(page) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
