"""The verbs that make examples: sample, reconstruct, traverse, interpolate."""

from __future__ import annotations

import json as json_
from typing import Any, Literal

from multibeta.options import nearest
from multibeta.verbs.opening import opened

__all__ = ["inputs_of", "interpolate", "reconstruct", "sample", "traverse"]


_SEEN = 1_000  # examples that say which latents are the busiest


def sample(
    checkpoint: str,
    betas: str | None = None,
    n: int = 10,
    prior: Literal["prior", "standardised", "mixture"] = "prior",
    seed: int = 0,
    at: str | None = None,
    given: dict[str, Any] | None = None,
    out: str = "samples.png",
    device: str = "auto",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Draw samples at several β's, from the same noise at each.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        betas: LOW:HIGH (16 points, log-spaced), LOW:HIGH:N, or 0.1,1,4; five points of the
            trained range by default.
        n: How many samples at each β.
        prior: Where codes are drawn from: the prior N(0, I); standardised, of latents that are
            shifted and scaled by the moments of the training set's codes; or mixture, ten
            Gaussians fitted to these.
        seed: That of the noise.
        at: Values of the other weights that are ranges, as for curve.
        given: What the networks take beside x and z, such as labels: --given.digit 3, or a value
            for each with commas: --given.digit 0,1,2; words as the data has them.
        out: A picture of all (.png, .pdf, .svg); .gif or .mp4, a frame for each β; .npz, the
            numbers; or a folder, with one picture a file.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.generate import samples
    from multibeta.outputs import Output

    _, model, datamodule = opened(checkpoint, device, data, allow, at)
    grid = _few(model, betas)
    form = Output(out, model)
    inputs = inputs_of(given, model, datamodule)
    x = samples(model, grid, n, prior=prior, data=datamodule, seed=seed, inputs=inputs)
    where = {"prior": "the prior", "standardised": "standardised latents", "mixture": "a mixture"}
    beside = "".join(f", {name} {text}" for name, text in (given or {}).items())
    form.write(grid, x, f"samples from {where[prior]}{beside}, the same noise at each β")
    form.tell()


def reconstruct(
    checkpoint: str,
    files: list[str],
    betas: str | None = None,
    at: str | None = None,
    given: dict[str, Any] | None = None,
    out: str = "reconstructions.png",
    device: str = "auto",
    json: bool = False,
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Reconstruct files at several β's, and print what each costs and how near it is.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        files: Images, folders of images, or arrays in .npy and .npz files.
        betas: As for sample.
        at: Values of the other weights that are ranges, as for curve.
        given: As for sample.
        out: As for sample.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        json: Print the table as JSON.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.data.given import examples_of
    from multibeta.generate import reconstructions
    from multibeta.outputs import Output

    _, model, datamodule = opened(checkpoint, device, data, allow, at, measures=False)
    grid = _few(model, betas)
    form = Output(out, model)
    raw, names = examples_of(files, model.shape, datamodule)
    x = model.read(raw, careful=True).x
    found, rows = reconstructions(model, grid, x, names, inputs_of(given, model, datamodule))
    if json:
        print(json_.dumps(rows))
    else:
        print(_lines(rows))
    form.write(grid, found, "x and its reconstructions", x=x, names=names)
    form.tell(quiet=json)


def traverse(
    checkpoint: str,
    betas: str | None = None,
    latents: str | None = None,
    count: int = 8,
    example: int | None = None,
    span: float = 3.0,
    steps: int = 9,
    at: str | None = None,
    given: dict[str, Any] | None = None,
    out: str = "traversals.png",
    device: str = "auto",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Move one latent after the other, at several β's.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        betas: As for sample; the middle of the range by default.
        latents: Which, by their numbers, with commas; by default those with the most rate at the
            middle β, over the first 1,000 examples of the test set.
        count: How many of these.
        example: The number of an example of the test set, at whose code the other latents stay;
            by default they are at the middle of the prior, 0.
        span: The farthest value of the latent, in standard deviations of the prior.
        steps: Examples on the way.
        at: Values of the other weights that are ranges, as for curve.
        given: As for sample, one value each; by default what the --example has.
        out: As for sample.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.evaluation import examples_of
    from multibeta.generate import busiest, traversals
    from multibeta.outputs import Output

    _, model, datamodule = opened(checkpoint, device, data, allow, at)
    grid = _few(model, betas, 1)
    form = Output(out, model)
    if latents is None:
        seen = examples_of(model, datamodule, "test", _SEEN)
        chosen = busiest(model, seen.x, grid[len(grid) // 2], count, seen.inputs)
    else:
        chosen = [_whole("latents", word) for word in latents.split(",")]
    x, inputs = None, inputs_of(given, model, datamodule)
    if example is not None:
        x, own = _example(str(example), model, datamodule)
        inputs = {**own, **inputs}
    found = traversals(model, grid, chosen, x=x, span=span, steps=steps, inputs=inputs)
    of = "the middle of the prior" if example is None else f"example {example}"
    rows = [f"latent {j}" for j in chosen]
    form.write(grid, found, f"one latent from −{span:g} to {span:g}, the others at {of}", rows)
    form.tell()


def interpolate(
    checkpoint: str,
    first: str,
    last: str,
    betas: str | None = None,
    steps: int = 9,
    at: str | None = None,
    given: dict[str, Any] | None = None,
    out: str = "interpolations.png",
    device: str = "auto",
    data: dict[str, Any] | None = None,
    allow: str | None = None,
) -> None:
    """Walk from the code of one example to that of another, at several β's.

    Args:
        checkpoint: A .ckpt file, the folder of a run, a shipped model (digits, mnist, sprites), or
            owner/name on the Hub.
        first: A file, as for reconstruct, or the number of an example of the test set.
        last: The same.
        betas: As for sample.
        steps: Examples on the way, both ends included.
        at: Values of the other weights that are ranges, as for curve.
        given: As for sample, one value each; by default what both examples have.
        out: As for sample.
        device: cpu, cuda, cuda:1, mps, or auto for the best at hand.
        data: Settings of the data to change, such as --data.root FOLDER.
        allow: Modules of yours, with commas, whose classes the checkpoint may name.
    """
    from multibeta.generate import interpolations
    from multibeta.outputs import Output

    _, model, datamodule = opened(checkpoint, device, data, allow, at)
    grid = _few(model, betas)
    form = Output(out, model)
    (x0, of_first), (x1, of_last) = (_example(of, model, datamodule) for of in (first, last))
    inputs = inputs_of(given, model, datamodule)
    for name in set(of_first) & set(of_last) - set(inputs):
        if (of_first[name] != of_last[name]).any():
            raise ValueError(
                f"{name} is {of_first[name].tolist()[0]} at one end and "
                f"{of_last[name].tolist()[0]} at the other; choose one: --given.{name} VALUE"
            )
    inputs = {**of_first, **inputs}
    found = interpolations(model, grid, x0, x1, steps=steps, inputs=inputs)
    form.write(grid, found, f"from {first} to {last}")
    form.tell()


def _few(model: Any, betas: str | None, count: int = 5) -> tuple[float, ...]:
    """Return the β's that were asked for, all within the range; by default a few of it."""
    from multibeta.generate import within

    if betas is None:
        return model.beta_range.grid(count) if count > 1 else (model.beta_range.middle,)
    return within(model, betas)


def _whole(name: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"--{name} has {word!r}; give whole numbers, with commas") from None


def inputs_of(given: dict[str, Any] | None, model: Any, data: Any) -> dict[str, Any]:
    """Return what --given says: name → a row for each value.

    Raises:
        ValueError: If the networks take no such thing, or a value is none of the data's.
    """
    import numpy as np
    import torch

    from multibeta.data.door import Door

    if not given:
        return {}
    door, found = None if data is None else Door.of(data, model), {}
    for name, text in given.items():
        if name not in (known := model.further_arguments):
            allowed = ", ".join(known) or "nothing beside x and z"
            raise ValueError(
                f"--given.{name}: the networks take no {name}{nearest(name, known)}; they take "
                f"{allowed}"
            )
        values = np.array([word.strip() for word in str(text).split(",")])
        if door is None or door.taken().get(name) is None:
            try:
                values = values.astype(float)
            except ValueError:
                raise ValueError(f"--given.{name} {text} is no number; give numbers") from None
            values = values.astype(int if (values == values.round()).all() else np.float32)
        found[name] = torch.from_numpy(values) if door is None else door.numbers(name, values)
    return found


def _example(given: str, model: Any, data: Any) -> tuple[Any, dict[str, Any]]:
    """Return an example (*shape) and its inputs: of the test set by its number, or from a file."""
    from multibeta.data.door import Door
    from multibeta.data.given import examples_of

    if not given.isdecimal():
        raw, _ = examples_of([given], model.shape, data)
        if len(raw) > 1:
            raise ValueError(f"{given} holds {len(raw)} examples; give a file with one")
        return model.read(raw).x[0], {}
    number, seen = int(given), 0
    for batch in Door.of(data, model).batches("test"):
        x, inputs = model.read(batch)
        if number < seen + len(x):
            here = number - seen
            return x[here], {name: of[here : here + 1] for name, of in inputs.items()}
        seen += len(x)
    raise ValueError(f"example {given} does not exist; the test set has 0 to {seen - 1}")


def _lines(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table."""
    from multibeta.tables import columns

    shown = [
        {k: v if isinstance(v, str) else f"{v:.4g}" if k == "β" else f"{v:.2f}"
         for k, v in row.items()}
        for row in rows
    ]  # fmt: skip
    return columns(list(shown[0]), [list(row.values()) for row in shown], keys=2)
