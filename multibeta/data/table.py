"""Table: rows of numbers in .csv, .tsv and .parquet files, with columns that are labels."""

__all__ = ["Table"]

import csv
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from multibeta.data.base import ImageData
from multibeta.data.splits import SPLITS, check_fractions, named_sets, split_rows
from multibeta.files import check_readable
from multibeta.options import nearest

SUFFIXES = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".parquet": ""}
NEEDS = (
    "Table needs a .csv, .tsv or .parquet file there, or a folder of train.csv, val.csv and "
    "test.csv"
)


class _Columns(NamedTuple):
    """A file's columns, and those that become x."""

    path: Path
    of: dict[str, np.ndarray]
    features: tuple[str, ...]

    @property
    def rows(self) -> int:
        return len(self.of[self.features[0]])


class Table(ImageData):
    """A table: a row for each example, columns of numbers that are x (D,), others that are labels.

    The first row has the columns' names. A folder of train.csv, val.csv and test.csv has the sets;
    what is missing, and the sets of one file, are drawn as by :class:`NPZ`. Columns of words are
    labels, and so are those that `label_columns` names; `size_note` says which. A .csv file whose
    first row has semicolons and no comma is read with these. A .parquet file needs pyarrow.

    Args:
        root: Path of the file or folder.
        batch_size: Number of examples in a batch, on each process.
        label_columns: Names of columns of numbers that are labels and no part of x, with commas.
        val_fraction: The part of the training set that is for validation, where there is no such
            set; 0 for none.
        test_fraction: The part that is for testing, where there is no such set; 0 for none.

    Raises:
        ValueError: If an argument is none of what is allowed.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        label_columns: str | None = None,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
    ) -> None:
        super().__init__(root, batch_size)
        self.label_columns = label_columns
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        check_fractions(val_fraction, test_fraction)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are x."""
        return next(iter(self._files.values())).features

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,), the number of columns of x.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no table of numbers.
        """
        return (len(self.columns),)

    @property
    def size_note(self) -> str:
        """Which columns are labels, and how sets were drawn."""
        names = [name for name in self._first.of if name not in self.columns]
        labels = f"labels: {', '.join(names)}" if names else ""
        return "; ".join(filter(None, [labels, self._parts[1]]))

    def load(self) -> dict[str, Tensor]:
        """Reads the columns of x as float32.

        Raises:
            ValueError: If files have other columns, or cells are empty, NaN or infinite.
        """
        x = {}
        for split, file in self._files.items():
            if file.features != self.columns:
                raise ValueError(
                    f"{file.path} has other columns of numbers than {self._first.path}: "
                    f"{_few({*file.features} ^ {*self.columns} or file.features)}; give all sets "
                    "the same, in one order"
                )
            values = np.stack([file.of[name] for name in self.columns], 1)
            with np.errstate(over="ignore"):  # infinity is found here
                values = values.astype(np.float32)
            if not (finite := np.isfinite(values)).all():
                row, column = np.argwhere(~finite)[0]
                raise ValueError(
                    f"{file.path}: {(~finite).any(1).sum()} rows have empty cells or no finite "
                    f"number, the first in line {row + 2}, column {self.columns[column]!r}; fill "
                    "them or remove the rows"
                )
            x[split] = values
        return {
            split: torch.from_numpy(x[of] if rows is None else x[of][rows])
            for split, (of, rows) in self._parts[0].items()
        }

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The other columns: name → (N,), numbers or words."""
        of, rows = self._parts[0][split]
        file = self._files[of]
        names = [name for name in file.of if name not in self.columns]
        return {name: file.of[name] if rows is None else file.of[name][rows] for name in names}

    def rows(self, split: str) -> np.ndarray:
        """The row of each example in its file, from 0."""
        of, rows = self._parts[0][split]
        return np.arange(self._files[of].rows) if rows is None else rows

    @property
    def _first(self) -> _Columns:
        return next(iter(self._files.values()))

    @cached_property
    def _parts(self) -> tuple[dict[str, tuple[str, np.ndarray | None]], str]:
        sizes = {split: file.rows for split, file in self._files.items()}
        return split_rows(sizes, str(self.root), self.val_fraction, self.test_fraction)

    @cached_property
    def _files(self) -> dict[str, _Columns]:
        """Set → its file; "train" alone is to be split."""
        if self.root is None:
            raise ValueError(f"data.root is not set; {NEEDS}")
        path = Path(self.root)
        if not path.exists():
            raise FileNotFoundError(f"data.root={self.root!r} does not exist; {NEEDS}")
        if not path.is_dir():
            return {"train": self._read(path)}
        found = {p.stem: p for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES}
        sets, _ = named_sets(found)
        if not sets:
            raise FileNotFoundError(f"data.root={self.root!r} is a folder without them; {NEEDS}")
        return {split: self._read(found[sets[split]]) for split in SPLITS if split in sets}

    def _read(self, path: Path) -> _Columns:
        """Read a file, and say which columns are x."""
        if (suffix := path.suffix.lower()) not in SUFFIXES:
            raise ValueError(f"data.root={str(path)!r} ends in {suffix or 'nothing'}; {NEEDS}")
        check_readable(path)
        of = _parquet(path) if suffix == ".parquet" else _text(path, SUFFIXES[suffix])
        named = [name.strip() for name in (self.label_columns or "").split(",") if name.strip()]
        for name in named:
            if name not in of:
                raise ValueError(f"data.label_columns={name}: {path} has none{nearest(name, of)}; "
                                 f"it has {_few(of)}")  # fmt: skip
            if of[name].dtype.kind == "f" and (of[name] == of[name].round()).all():
                of[name] = of[name].astype(np.int64)
        if not of or not len(next(iter(of.values()))):
            raise ValueError(f"{path} has no rows; {NEEDS}")
        features = tuple(k for k, v in of.items() if v.dtype.kind == "f" and k not in named)
        if not features:
            raise ValueError(f"{path} has no column of numbers that could be x; it has {_few(of)}")
        return _Columns(path, of, features)


def _few(names: object) -> str:
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _text(path: Path, delimiter: str) -> dict[str, np.ndarray]:
    """Return the columns of a text file: name → float64, or words."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            if delimiter == "," and ";" in head and "," not in head:
                delimiter = ";"
            file.seek(0)
            names, *lines = [*csv.reader(file, delimiter=delimiter, strict=True)] or [[]]
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}); {NEEDS}") from None
    lines = [line for line in lines if line]
    if names and all(map(_is_number, names)):
        raise ValueError(f"{path} has no names of columns in its first row; put them there")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{path} has two columns {twice[0]!r}; rename one of them")
    for number, line in enumerate(lines):
        if len(line) != len(names):
            raise ValueError(
                f"{path}: row {number + 1} has {len(line)} cells, and there are {len(names)} "
                "columns; mend it"
            )
    return {name: _column([line[i] for line in lines]) for i, name in enumerate(names)}


def _column(cells: list[str]) -> np.ndarray:
    """Return numbers, an empty cell as NaN; or words, where a cell is no number."""
    try:
        return np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    except ValueError:
        return np.array([cell.strip() for cell in cells])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parquet(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a .parquet file."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f"{path} needs the package pyarrow: pip install pyarrow") from None
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} cannot be read as a table ({reason}); {NEEDS}") from None
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_numpy(zero_copy_only=False)
        numbers = values.dtype.kind in "iuf"
        found[name] = values.astype(float) if numbers else np.array([str(v) for v in values])
    return found
