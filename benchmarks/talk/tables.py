"""The tables of docs/talk.md, from the result files of benchmarks.talk."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from benchmarks.gap import difference, spread
from benchmarks.markdown import number, table
from benchmarks.runs import curve_of, falls, is_there, objective_at, result_of
from benchmarks.talk.runs import THREE, Talk
from multibeta.curve import Curve

__all__ = ["aligned_steps", "blocks", "curves", "distances_at", "objectives_at", "verdict"]

TITLES = {"celeba": "CelebA", "mnist": "MNIST"}
KINDS = {
    "fd_prior": "samples from N(0, I)",
    "fd_gmm": "samples from the mixture",
    "fd_reconstruction": "reconstructions",
}
WORDS = ("holds", "does not", "cannot be told")


def verdict(value: dict[str, Any] | None, limit: float = 0.0) -> str:
    """Return whether a value is at most a limit: by two standard errors, or it cannot be told.

    Args:
        value: Mean and standard error over the seeds.
        limit: The largest value with which the claim holds.
    """
    if value is None:
        return "not measured"
    if value["se"] is None:
        return "cannot be told (one seed)"
    if value["mean"] + 2 * value["se"] <= limit:
        return WORDS[0]
    return WORDS[1] if value["mean"] - 2 * value["se"] > limit else WORDS[2]


def curves(talk: Talk, beta: float | None, split: str = "test") -> list[Curve]:
    """Return a curve a seed, of the seeds that are there: of the one model, or a dedicated one.

    Args:
        talk: The data set.
        beta: Of the dedicated models; None for the one model.
        split: Its name in the result.
    """
    names = [talk.run(beta, seed).name for seed in talk.seeds]
    found = [name for name in names if is_there(name, talk.results)]
    return [
        curve_of(name, split, talk.results)
        for name in found
        if split in result_of(name, talk.results)["curves"]
    ]


def _at(curve: Curve, beta: float) -> dict[str, float]:
    return next(row for row in curve.rows if math.isclose(row["beta"], beta, rel_tol=1e-5))


def objectives_at(talk: Talk, beta: float, split: str = "test") -> dict[str, Any]:
    """Return J of the one model and of the dedicated ones, and how far they are apart.

    Args:
        talk: The data set.
        beta: One of the dedicated models' β's.
        split: Of the examples.

    Returns:
        "one", "dedicated", "apart" = one − dedicated, and "per_cent", of the size of the dedicated
        models' J: mean, standard error and the seeds' values each; None where nothing is there.
    """
    one = spread(objective_at(curve, beta) for curve in curves(talk, None, split))
    dedicated = spread(curve["objective_nats"][0] for curve in curves(talk, beta, split))
    apart = difference(one, dedicated)
    scale = 100 / abs(dedicated["mean"]) if dedicated else math.nan
    per_cent = apart and {k: v and v * scale for k, v in apart.items()}
    return {"one": one, "dedicated": dedicated, "apart": apart, "per_cent": per_cent}


def distances_at(talk: Talk, beta: float, kind: str, split: str = "test") -> dict[str, Any]:
    """Return FID of the one model and of the dedicated ones, as :func:`objectives_at` does J.

    Args:
        talk: The data set.
        beta: One of the dedicated models' β's.
        kind: "fd_prior", "fd_gmm" or "fd_reconstruction".
        split: Of the pictures that are compared with.
    """
    one = spread(_at(curve, beta)[kind] for curve in curves(talk, None, split))
    dedicated = spread(curve[kind][0] for curve in curves(talk, beta, split))
    return {"one": one, "dedicated": dedicated, "apart": difference(one, dedicated)}


def _of_seeds(talk: Talk, what: str) -> list[dict[str, Any]]:
    """Return the results of this kind of the seeds that are there."""
    names = [talk.result(what, seed) for seed in talk.seeds]
    return [result_of(name, talk.results) for name in names if is_there(name, talk.results)]


def aligned_steps(talk: Talk, part: str, column: str) -> dict[tuple[float, float], dict[str, Any]]:
    """Return the alignment between neighbouring β's, over the seeds; where it is known.

    Args:
        talk: The data set.
        part: "near", a factor √10 apart, "far", a factor 10, or "strangers", this with dedicated
            models of different seeds.
        column: Such as "next_correlation" or, of dedicated models, "against_next_correlation".
    """
    found: dict[tuple[float, float], list[float]] = {}
    for result in _of_seeds(talk, "aligned"):
        for row, after in itertools.pairwise(result.get(part, ())):
            if row[column] is not None:
                found.setdefault((row["beta"], after["beta"]), []).append(row[column])
    return {step: of for step, values in found.items() if (of := spread(values))}


# The claims -------------------------------------------------------------------------------------


def claims(talks: Sequence[Talk]) -> str:
    """Return each claim of the talk, what was measured, and whether it holds."""
    lines = []
    for talk in talks:
        command = f"`python -m benchmarks.talk DATA_ROOT --only {talk.name}`"
        for claim, found, said in _claims(talk):
            lines.append([claim, TITLES[talk.name], found, said, command])
    return table(["claim", "data", "what was measured", "verdict", "command"], lines)


def _claims(talk: Talk) -> list[tuple[str, str, str]]:
    of_j = {beta: objectives_at(talk, beta)["per_cent"] for beta in THREE}
    found = [
        ("one curve covers the dedicated models: J at most 0.5 % above theirs",
         _each(of_j, "{} %"), _together({b: verdict(of, 0.5) for b, of in of_j.items()}))
    ]  # fmt: skip
    one, dedicated = (
        {step[0]: of for step, of in aligned_steps(talk, part, f"{side}_correlation").items()}
        for part, side in (("far", "next"), ("strangers", "against_next"))
    )
    near = aligned_steps(talk, "near", "next_correlation")
    worst = min(near.items(), key=lambda item: item[1]["mean"]) if near else None
    above = worst and {**worst[1], "mean": -worst[1]["mean"]}
    found.append(
        ("latents keep their meaning: correlation with themselves at the next β, a factor √10 "
         "away, at least .95",
         f"{number(worst[1], digits=3)} where it is lowest, β = {worst[0][0]:.2g} → "
         f"{worst[0][1]:.2g}" if worst else "–",
         verdict(above, -0.95))
    )  # fmt: skip
    apart = {b: difference(dedicated[b], of) for b, of in one.items() if b in dedicated}
    found.append(
        ("those of separate models, of different seeds, do not: correlation at the next β, a "
         "factor 10 away, at least .5 below the one model's",
         "; ".join(f"{number(dedicated[b])} against {number(one[b])} from β = {b:g}"
                   for b in apart) or "–",
         _together({b: verdict(of, -0.5) for b, of in apart.items()}))
    )  # fmt: skip
    smooth = _of_seeds(talk, "smooth")
    changes = {
        step["from"]: [
            spread(result["steps"][i][side] for result in smooth) for side in ("one", "dedicated")
        ]
        for i, step in enumerate(smooth[0]["steps"] if smooth else [])
    }
    found.append(
        ("reconstructions change smoothly with β: less, from β to the next, than separate "
         "models' do",
         "; ".join(f"{number(a, digits=4)} against {number(b, digits=4)} from β = {beta:g}"
                   for beta, (a, b) in changes.items()) or "–",
         _together({b: verdict(difference(*of)) for b, of in changes.items()}))
    )  # fmt: skip
    apart_of = {
        title: {beta: distances_at(talk, beta, kind)["apart"] for beta in THREE}
        for kind, title in KINDS.items()
    }
    after = {beta: _standardised(talk, beta, "fd_prior") for beta in THREE}
    apart_of["samples from N(0, I), the latents of all models standardised,"] = {
        beta: difference(of["one"], of["dedicated"]) for beta, of in after.items()
    }
    for title, of_beta in apart_of.items():
        found.append(
            (f"FID of {title} is at most the dedicated models'", _each(of_beta, "{}"),
             _together({b: verdict(of) for b, of in of_beta.items()}))
        )  # fmt: skip
    return found


def _each(values: dict[float, dict[str, Any] | None], form: str) -> str:
    found = [
        f"{form.format(number(of, signed=True))} at β = {beta:g}"
        for beta, of in values.items()
        if of is not None
    ]
    return "; ".join(found) or "–"


def _together(verdicts: dict[float, str]) -> str:
    """Return verdicts of several β's in a few words."""
    if not verdicts:
        return "not measured"
    of_word: dict[str, list[str]] = {}
    for beta, said in verdicts.items():
        of_word.setdefault(said, []).append(f"{beta:g}")
    if len(of_word) == 1:
        return next(iter(of_word))
    return "; ".join(f"{said} at β = {', '.join(betas)}" for said, betas in of_word.items())


# The tables -------------------------------------------------------------------------------------


def objectives(talks: Sequence[Talk]) -> str:
    """Return J of one model and of dedicated ones."""
    lines = []
    for talk, split, beta in itertools.product(talks, ("test", "train"), THREE):
        found = objectives_at(talk, beta, split)
        if found["apart"] is None:
            continue
        lines.append([
            TITLES[talk.name], split, f"{beta:g}", number(found["dedicated"]),
            number(found["one"]), number(found["apart"], signed=True),
            number(found["per_cent"], signed=True), str(len(found["one"]["values"])),
        ])  # fmt: skip
    titles = ["data", "set", "β", "dedicated", "one model", "one − dedicated", "% of J", "seeds"]
    return table(titles, lines)


def distances(talks: Sequence[Talk]) -> str:
    """Return FID of samples and reconstructions, of one model and of dedicated ones."""
    lines = []
    for talk, kind, split, beta in itertools.product(talks, KINDS, ("test", "train"), THREE):
        found = distances_at(talk, beta, kind, split)
        if found["apart"] is None:
            continue
        lines.append([
            TITLES[talk.name], _extractor(talk), KINDS[kind], split, f"{beta:g}",
            number(found["dedicated"]), number(found["one"]), number(found["apart"], signed=True),
            verdict(found["apart"]),
        ])  # fmt: skip
    titles = ["data", "features", "pictures", "set", "β", "dedicated", "one model"]
    return table([*titles, "one − dedicated", "one ≤ dedicated"], lines)


def _extractor(talk: Talk) -> str:
    """Return what the features of all runs are from.

    Raises:
        ValueError: If they are from different networks.
    """
    runs = [run.name for seed in talk.seeds for run in talk.runs(seed)]
    names = [name for name in runs if is_there(name, talk.results)]
    about = [curve_of(name, folder=talk.results).about["frechet"] for name in names]
    if len({of["extractor_sha256"] for of in about}) > 1:
        raise ValueError(f"the runs on {talk.name} were measured by different networks; remove "
                         "their results and run benchmarks.talk again")  # fmt: skip
    name = about[0]["extractor"].partition(",")[0]
    return name if name.startswith("Inception") else f"stand-in: {name}"


def distances_of_one(talks: Sequence[Talk]) -> str:
    """Return the distances of the one model at each β of its grid."""
    lines = []
    for talk in talks:
        found = curves(talk, None)
        for row in found[0].rows if found else ():
            of = [spread(_at(curve, row["beta"])[kind] for curve in found) for kind in KINDS]
            units = spread(_at(curve, row["beta"])["active_units"] for curve in found)
            lines.append([TITLES[talk.name], _extractor(talk), f"{row['beta']:.3g}",
                          number(units, digits=0), *map(number, of)])  # fmt: skip
    return table(["data", "features", "β", "active units", *KINDS.values()], lines)


def standardised(talks: Sequence[Talk]) -> str:
    """Return rate and FID of samples from N(0, I), before and after standardising the latents."""
    lines = []
    for talk, beta in itertools.product(talks, THREE):
        rate, fid = (_standardised(talk, beta, name) for name in ("rate_nats", "fd_prior"))
        if rate["one"] is None:
            continue
        apart = difference(fid["one"], fid["dedicated"])
        lines.append([
            TITLES[talk.name], f"{beta:g}",
            *(f"{number(of[f'{side} before'])} → {number(of[side])}"
              for of in (rate, fid) for side in ("dedicated", "one")),
            number(apart, signed=True), verdict(apart),
        ])  # fmt: skip
    titles = ["data", "β", "R, dedicated", "R, one model", "FID, dedicated", "FID, one model"]
    return table([*titles, "one − dedicated, after", "one ≤ dedicated"], lines)


def _standardised(talk: Talk, beta: float, name: str) -> dict[str, dict[str, Any] | None]:
    """Return a measure after standardising, and before it, of both sides."""
    results = _of_seeds(talk, "standardised")
    rows = [row for result in results for row in result["rows"] if row["beta"] == beta]
    return {
        f"{side}{when}": spread(row[of][name] for row in rows if row["side"] == side)
        for side in ("one", "dedicated")
        for when, of in ((" before", "plain"), ("", "standardised"))
    }


def alignment(talks: Sequence[Talk]) -> str:
    """Return how the latents of neighbouring β's go together."""
    lines = []
    # There are dedicated models at the β's that are far apart alone.
    sides = {
        "near": {"next": "one"},
        "far": {"next": "one", "against_next": "dedicated, of the same seed"},
        "strangers": {"against_next": "dedicated, of different seeds"},
    }
    for talk, part in itertools.product(talks, sides):
        for side, title in sides[part].items():
            columns = [
                aligned_steps(talk, part, f"{side}_{column}")
                for column in ("correlation", "misalignment", "cka", "w1")
            ]
            for step in columns[0]:
                cells = [number(of.get(step), digits=3) for of in columns]
                lines.append([TITLES[talk.name], f"{step[0]:.3g} → {step[1]:.3g}", title, *cells])
    titles = ["data", "β", "models", "correlation", "misalignment", "linear CKA", "W₁"]
    return table(titles, [list(line) for line in dict.fromkeys(map(tuple, lines))])


def speed(talks: Sequence[Talk]) -> str:
    """Return images a second of training and of a curve, and the share of time without steps."""
    lines, machines = [], set()
    for talk, beta in [(talk, beta) for talk in talks for beta in (None, *THREE)]:
        names = [talk.run(beta, seed).name for seed in talk.seeds]
        results = [result_of(name, talk.results) for name in names if is_there(name, talk.results)]
        if not results:
            continue
        of = [result["training"] for result in results]
        machines |= {
            at.get("gpu")
            or f"{at['processor']}, {at['threads']} thread{'s' if at['threads'] > 1 else ''}"
            for at in (result["machine"] for result in results)
        }
        waiting = max(100 * t["seconds_waiting_for_data"] / t["seconds"] for t in of)
        curve = [
            len(result["curves"]["fine"]["rows"])
            * result["curves"]["fine"]["about"]["n"]
            / result["curve_seconds"]["fine"]
            for result in results
            if "fine" in result["curves"]
        ]
        lines.append([
            TITLES[talk.name], "one" if beta is None else f"dedicated, β = {beta:g}",
            f"{results[0]['parameters']:,}", f"{of[0]['images']:,}",
            number(spread(t["images"] / t["seconds"] for t in of), digits=0),
            number(spread(t["seconds"] / 60 for t in of), digits=1), f"{waiting:.2f}",
            number(spread(curve), digits=0),
        ])  # fmt: skip
    titles = ["data", "model", "parameters", "images seen", "images a second", "minutes"]
    titles += ["% of it waiting for data, at most", "of a curve: images · β a second"]
    where = f"\n\nMeasured on {'; '.join(sorted(machines))}." if machines else ""
    return table(titles, lines) + where


def models(talks: Sequence[Talk]) -> str:
    """Return what was trained, as commands."""
    lines = [
        f"{TITLES[talk.name]} (seed{'s' if len(talk.seeds) > 1 else ''} "
        f"{', '.join(map(str, talk.seeds))}): "
        f"`multibeta fit {' '.join(talk.options)}`; dedicated ones with "
        "`--model.conditioning=none --model.betas=β`."
        for talk in talks
    ]
    return "\n\n".join(lines)


def measured(talks: Sequence[Talk]) -> str:
    """Return how FID was measured, with what the stand-in knows."""
    said = []
    for talk in talks:
        found = curves(talk, None) or curves(talk, THREE[0])
        if not found:
            continue
        about = found[0].about
        sigma = f", σ = {about['sigma']:g}" if about["sigma"] else ""
        fd = about["frechet"]
        said.append(
            f"{TITLES[talk.name]}: {about['likelihood']}{sigma}, d = {about['d']:,}; "
            f"{fd['samples']:,} samples against {fd['examples']:,} pictures of the {fd['split']} "
            f"set; features of {fd['extractor']}."
        )
    if is_there("attributes", talks[0].results):
        of = result_of("attributes", talks[0].results)
        said.append(
            f"The network that stands in for Inception was trained on {of['train_examples']:,} "
            f"faces and is right about {100 * of['accuracy']:.1f} % of the attributes of "
            f"{of['test_examples']:,} others; always guessing the commoner value is right about "
            f"{100 * of['accuracy_of_the_commoner_value']:.1f} %."
        )
    return "\n\n".join(said)


def falling(talks: Sequence[Talk]) -> str:
    """Return whether the rate falls along the fine curve of each seed."""
    said = []
    for talk in talks:
        found = curves(talk, None, "fine")
        if found:
            count = sum(map(falls, found))
            said.append(
                f"On {TITLES[talk.name]} the rate of the one model falls at each of the "
                f"{len(found[0].rows) - 1} steps of β with {count} of {len(found)} seeds."
            )
    return "\n".join(said)


PICTURES = {
    "curve": "the curve of one model, and dedicated β-VAEs",
    "alignment": "aggregated posteriors of one model and of dedicated ones",
    "strip": "inputs and reconstructions",
    "samples_prior": "samples from N(0, I), the same noise at each β",
    "samples_gmm": "samples from the mixture",
    "traversals": "four latents moved over ±3, at three β's",
}


def picture(talks: Sequence[Talk], what: str) -> str:
    """Return the links to the pictures of a kind that are there and may be shown."""
    return "\n\n".join(
        f"![{TITLES[talk.name]}: {PICTURES[what]}]({os.path.relpath(path, talk.page.parent)})"
        for talk in talks
        if (path := talk.picture(what)).is_file() and talk.results in path.parents
    )


def blocks(talks: Iterable[Talk]) -> dict[str, Callable[[], str]]:
    """Return the functions that make the page's tables and links to pictures, by name."""
    given = list(talks)
    tables = (
        claims, objectives, distances, distances_of_one, standardised, alignment, speed, models,
        measured, falling,
    )  # fmt: skip
    links = {f"talk_picture_{what}": partial(picture, given, what) for what in PICTURES}
    return {f"talk_{make.__name__}": partial(make, given) for make in tables} | links
