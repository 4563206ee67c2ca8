"""The codes of a data set at several β's, beside what is known of each example."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from multibeta.betas import parse_betas
from multibeta.data.base import ImageData
from multibeta.data.door import Door
from multibeta.data.examples import labels_in, on
from multibeta.data.loaders import Stream
from multibeta.data.splits import SPLITS
from multibeta.files import replacing
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.progress import track
from multibeta.vae import BetaVAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

__all__ = ["Codes", "check_format", "encode", "encode_split"]

_BATCH = 250
_FORMATS = (".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class Codes:
    """The posteriors q(z|x) = N(mean, std²) of N examples at K β's, in the data's order.

    Attributes:
        beta: The β's: (K,).
        mean: (K, N, *latent shape), float32.
        std: Standard deviations, of the same shape.
        split: The set of each example: (N,), words.
        row: Its number in the array that it is from; where there is none, in the set: (N,).
        file: Its file: (N,), words; None where there are no files.
        labels: What else is known of it: name → (N,), numbers or words.
    """

    beta: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    split: np.ndarray
    row: np.ndarray
    file: np.ndarray | None = None
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.split)

    def label(self) -> str | None:
        """Return the label that a picture shows: a class by name, or the first that groups them.

        None where there are no labels, or where each example has its own.
        """
        kinds = {name: len(np.unique(values)) for name, values in self.labels.items()}
        known = [name for name, count in kinds.items() if 2 <= count <= max(20, len(self) // 4)]
        usual = [name for name in ("labels", "label", "class", "digit") if name in known]
        return next(iter([*usual, *known]), None)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        label: str | None = None,
        by: Literal["rate", "pca"] = "rate",
        figure: Figure | SubFigure | None = None,
    ) -> Figure:
        """Draw the codes in a plane, a panel a β, coloured by a label: see ``plots.codes``.

        Args:
            path: The picture to write, .png, .pdf or .svg; by default none is.
            label: Which of the labels; by default that of :meth:`label`.
            by: The plane: two latents, ``rate``, or two principal components, ``pca``.
            figure: A Figure or SubFigure to draw into.

        Raises:
            ValueError: If there is no such label, or there are fewer than two latents.
        """
        from multibeta import plots

        name = self.label() if label is None else label
        if name is not None and name not in self.labels:
            known = ", ".join(self.labels) or "none"
            raise ValueError(f"label={name} is unknown; these codes have {known}")
        sets = ", ".join(dict.fromkeys(self.split.tolist()))
        of = "" if name is None else f", coloured by {name}"
        title = f"Codes of {len(self):,} examples ({sets} set): means of q(z|x) at each β{of}"
        return plots.codes(
            self.beta.tolist(), self.mean, self.std, None if name is None else self.labels[name],
            path, title, name or "", by, figure=figure,
        )  # fmt: skip

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what an .npz file has: beta, mean, std, split, row, file, label_NAME."""
        of_file = {} if self.file is None else {"file": self.file}
        of_labels = {f"label_{name}": values for name, values in self.labels.items()}
        return {"beta": self.beta, "mean": self.mean, "std": self.std, "split": self.split,
                "row": self.row, **of_file, **of_labels}  # fmt: skip

    def columns(self) -> dict[str, np.ndarray]:
        """Return a table with a row for each β and example: name → (KN,).

        A latent is mean_3 and std_3, of a map mean_0_2_1: its place in the latent shape.
        """
        k, n = self.mean.shape[:2]
        arrays = self.arrays()
        latents = {name: arrays.pop(name).reshape(k * n, -1) for name in ("mean", "std")}
        beta = np.repeat(arrays.pop("beta"), n)
        of_each = {name: np.tile(values, k) for name, values in arrays.items()}
        places = ["_".join(map(str, place)) for place in np.ndindex(self.mean.shape[2:])]
        return {
            "beta": beta, **of_each,
            **{f"{name}_{place}": values[:, i]
               for name, values in latents.items() for i, place in enumerate(places)},
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file of arrays, or a .csv or .parquet table with a row per β and example.

        Raises:
            ValueError: If the name ends otherwise, or .parquet is asked for without pyarrow.
        """
        suffix = check_format(path)
        with replacing(path) as temporary:
            if suffix == ".npz":
                _save(temporary, self.arrays())
            elif suffix == ".csv":
                columns = self.columns()
                with temporary.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(columns)
                    writer.writerows(zip(*(c.tolist() for c in columns.values()), strict=True))
            else:
                import pyarrow
                from pyarrow import parquet

                parquet.write_table(pyarrow.table(self.columns()), temporary)


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file; numpy's ``savez`` takes no array of the name ``file``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def check_format(path: str | os.PathLike[str]) -> str:
    """Return how codes are written to a file, before they are computed.

    Raises:
        ValueError: If the name does not say it, or it is .parquet and there is no pyarrow.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"{path} is no name for codes; end it in {', '.join(_FORMATS)}")
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise ValueError(
                f"{path} needs pyarrow: pip install pyarrow, or write .csv or .npz"
            ) from None
    return suffix


@torch.no_grad()
def encode(
    model: MultiBetaVAE,
    data: Any,
    betas: str | float | Iterable[float] | None = None,
    *,
    splits: Sequence[str] = ("test",),
    extrapolate: bool = False,
    progress: bool = False,
    first: int | None = None,
    most: int | None = None,
) -> Codes:
    """Encode a data set at each β, in one pass over the data.

    Args:
        model: The model; it encodes on the device it is on.
        data: Anything that :class:`multibeta.data.Door` takes.
        betas: As in :func:`~multibeta.betas.parse_betas`; the ends and three between by default.
        splits: Which parts of the data, one after the other.
        extrapolate: Allow β outside the trained range.
        progress: Show a progress bar on stderr.
        first: How many examples of a stream at most.
        most: How many examples of each set at most, spread over it where it is no stream.

    Returns:
        The codes, with labels and file names as far as the data has them.

    Raises:
        ValueError: If a β is outside the trained range, there is no such set, or two sets have
            different labels.
    """
    model.eval()
    grid = model.beta_range.grid(5) if betas is None else parse_betas(betas)
    plain = [model.at_beta(beta, extrapolate=extrapolate) for beta in grid]
    door = Door.of(data, model, first)
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        given = ", ".join(unknown) or "nothing"
        raise ValueError(f"split={given} is unknown; allowed: {', '.join(SPLITS)}, with commas")
    parts = [encode_split(model, plain, door, split, progress, most) for split in splits]
    names = [set(part.labels) for part in parts]
    if others := names[0].union(*names) - names[0].intersection(*names):
        raise ValueError(
            f"{', '.join(sorted(others))} is not known in each of {', '.join(splits)}: encode "
            "them apart"
        )
    files = [part.file for part in parts if part.file is not None]
    return Codes(
        np.array(grid),
        np.concatenate([part.mean for part in parts], 1),
        np.concatenate([part.std for part in parts], 1),
        np.concatenate([part.split for part in parts]),
        np.concatenate([part.row for part in parts]),
        np.concatenate(files) if len(files) == len(parts) else None,
        {k: np.concatenate([part.labels[k] for part in parts]) for k in parts[0].labels},
    )


@torch.no_grad()
def encode_split(
    model: MultiBetaVAE,
    plain: Sequence[BetaVAE],
    door: Door,
    split: str,
    progress: bool = False,
    most: int | None = None,
) -> Codes:
    """Encode one set with plain VAEs, in one pass over it.

    Args:
        model: What the data is read for.
        plain: The model at several β's.
        door: The data.
        split: Which part of it.
        progress: Show a progress bar on stderr.
        most: How many examples at most, spread over the set where it is no stream.

    Raises:
        ValueError: If there is no such set, or it is empty.
    """
    source = door.batches(split)
    batches, chosen = cast(Iterable[Any], source), cast(Any, slice(None))
    if most is not None and isinstance(source, Stream):  # perhaps on one process alone
        read = source.read
        batches = (batch if read is None else read(batch) for batch in source.whole())
    elif most is not None and not isinstance(source, Stream):
        count = min(most, source.count)
        chosen = np.arange(count) * source.count // max(1, count)
        parts = np.array_split(chosen, -(-count // _BATCH)) if count else []
        batches = (source.rows(part.tolist()) for part in parts)
    if progress:
        batches = track(batches, f"{len(plain)} β's on the {split} set")
    means: list[list[np.ndarray]] = [[] for _ in plain]
    stds: list[list[np.ndarray]] = [[] for _ in plain]
    seen: list[dict[str, np.ndarray]] = []
    for batch in batches:
        x, inputs = model.read(batch, careful=not seen)
        x, inputs = x.to(model.device), on(inputs, model.device)
        seen.append(labels_in(batch, len(x)))
        for vae, of_mean, of_std in zip(plain, means, stds, strict=True):
            q = vae.encode(x, **inputs)
            of_mean.append(q.mean.float().cpu().numpy())
            of_std.append(q.stddev.float().cpu().numpy())
        if most is not None and sum(map(len, means[0])) >= most:
            break
    if not seen:
        raise ValueError(f"the {split} set is empty; choose another split")
    mean, std = (np.stack([np.concatenate(of)[:most] for of in each]) for each in (means, stds))
    n = mean.shape[1]
    kept = set(seen[0]).intersection(*seen)
    labels = {k: np.concatenate([of[k] for of in seen])[:most] for k in seen[0] if k in kept}
    row, files = np.arange(n), []
    if isinstance(door.source, ImageData) and not isinstance(source, Stream):
        labels |= {k: values[chosen] for k, values in door.source.labels(split).items()}
        row = door.source.rows(split)[chosen]
        if files := door.source.files(split):
            files = np.array(files)[chosen].tolist()
    return Codes(
        np.array([vae.beta for vae in plain]), mean, std, np.full(n, split), row,
        np.array(files) if files else None, labels,
    )  # fmt: skip
