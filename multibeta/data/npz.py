"""NPZ: arrays of any shape, in .npz and .npy files."""

__all__ = ["NPZ", "load_npz", "npz_rows", "npz_shape"]

import math
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from multibeta.data.arrays import Form, Rows, Values, joined, pieces, values_of
from multibeta.data.base import SPLITS, ImageData, random_rows

Kind = Literal["auto", "pictures", "values"]
NEEDS = "NPZ needs an .npz or .npy file there, or a folder of train.npy, val.npy and test.npy"
ALLOWED = "bool, integers, and floats of up to 64 bits"
PICTURES = "(N, H, W), (N, C, H, W), or (N, H, W, C) with C = 1 or 3"
SIDE = 16  # pixels: with fewer, (N, C, T) is a signal
NAMES = {
    2: "a table (N, D)",
    3: "signals (N, C, T)",
    4: "maps (N, C, H, W)",
    5: "volumes (N, C, D, H, W)",
}
BLOCK = 4096  # rows
USUAL_KEYS = ("images", "imgs", "x", "X", "data")


class NPZ(ImageData):
    """Arrays of any shape: tables (N, D), signals (N, C, T), pictures, volumes (N, C, D, H, W).

    They are in an .npz file, an .npy file, or a folder of .npy files; these are memory-mapped, so
    that they can be larger than memory. Arrays named train, val (or valid) and test are the three
    sets; without val a tenth of train is taken for it. Otherwise one array is split 80/10/10 by a
    fixed seed. Pickled objects are never loaded.

    Types are bool, integers and floats. A model sees their values as float32, except uint8 that
    is not a table: there 0 to 255 are intensities, and become 0 to 1 (if only 0 and 1 occur, they
    stay). What was made of an array is said in `size_note`:

    ===================================  ========================================================
    array                                examples
    ===================================  ========================================================
    (N, H, W): uint8, bool, or both      pictures (1, H, W)
    sides at least 16
    (N, C, T): any other of three axes   signals (C, T)
    (N, H, W, C) with C = 1 or 3         pictures (C, H, W)
    any other                            as it is
    ===================================  ========================================================

    Args:
        root: Path of the file or folder.
        batch_size: Number of examples in a batch, on each process.
        flip: Whether to mirror training pictures left to right at random.
        key: Name of the array; by default the only one that can hold examples, or the first of
            images, imgs, x, X, data.
        kind: pictures or values; by default guessed as above. With pictures three axes are
            (N, H, W). With values shapes and numbers stay as they are, those of uint8 too.

    Raises:
        ValueError: If kind is none of them.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        flip: bool = False,
        key: str | None = None,
        kind: Kind = "auto",
    ) -> None:
        super().__init__(root, batch_size, flip)
        self.key = key
        self.kind = kind
        self._note = ""
        if kind not in get_args(Kind):
            allowed = ", ".join(get_args(Kind))
            raise ValueError(f"data.kind={kind!r} is unknown; allowed: {allowed}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example, from the header in the file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no array of examples.
        """
        return npz_shape(self._path(), self.key, self.kind)

    @property
    def size_note(self) -> str:
        """What was made of the array; empty before it is loaded."""
        return self._note

    def load(self) -> dict[str, Tensor | Rows]:
        """Reads the arrays, or maps them into memory.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no array of examples, or NaN or infinity.
        """
        splits, self._values, self._note = _load(self._path(), self.key, self.kind)
        return splits

    def _path(self) -> Path:
        if self.root is None:
            raise ValueError(f"data.root is not set; {NEEDS}")
        path = Path(self.root)
        if not path.exists():
            raise FileNotFoundError(f"data.root={self.root!r} does not exist; {NEEDS}")
        if path.is_dir() and not any(path.glob("*.npy")):
            raise FileNotFoundError(f"data.root={self.root!r} is a folder without .npy; {NEEDS}")
        return path


def npz_shape(path: Path, key: str | None = None, kind: Kind = "auto") -> tuple[int, ...]:
    """The shape of an example, from the headers in the file alone: see `NPZ`.

    Raises:
        ValueError: If there is no array of examples.
    """
    return _chosen(path, key, kind)[2].shape


def load_npz(path: Path, key: str | None = None, kind: Kind = "auto") -> dict[str, Tensor | Rows]:
    """The sets in a file or folder, (N, *shape), uint8 or float32: see `NPZ`.

    Raises:
        ValueError: If there is no array of examples, or NaN or infinity.
    """
    return _load(path, key, kind)[0]


def npz_rows(path: Path, name: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Some rows of an array in an .npz file, read without holding the others.

    Args:
        path: The file.
        name: The array's name.
        rows: Ascending row numbers; all by default.

    Raises:
        ValueError: If the file is damaged, or the array is not there, has too few rows, holds
            pickled objects or is in Fortran's order.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _read_header(file)
            if fortran or dtype.hasobject or not shape:
                raise ValueError("it must hold rows of plain numbers in C's order")
            rows = np.arange(shape[0]) if rows is None else rows
            if len(rows) and rows[-1] >= shape[0]:
                raise ValueError(f"it has {shape[0]} rows, and {rows[-1] + 1} are needed")
            chosen = np.empty((len(rows), *shape[1:]), dtype)
            stride = dtype.itemsize * math.prod(shape[1:])
            for start in range(0, shape[0], BLOCK):
                count = min(BLOCK, shape[0] - start)
                block = np.frombuffer(file.read(count * stride), dtype)
                low, high = np.searchsorted(rows, [start, start + count])
                chosen[low:high] = block.reshape(count, *shape[1:])[rows[low:high] - start]
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError) as error:
        raise ValueError(f"{path}: array {name!r} cannot be read ({error})") from error
    return chosen


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


def _load(path: Path, key: str | None, kind: Kind) -> tuple[dict[str, Tensor | Rows], Values, str]:
    """The sets, what their values are, and what was made of the array."""
    names, headers, form, note = _chosen(path, key, kind)
    for what, found in (
        ("shape of an example", [header.shape[1:] for header in headers]),
        ("type", [header.dtype for header in headers]),
    ):
        if len(set(found)) > 1:
            listed = ", ".join(f"{n}: {v}" for n, v in zip(names.values(), found, strict=True))
            raise ValueError(f"{path}: all sets need the same {what}; found {listed}")
    views = {split: Rows(_open(path, name), form) for split, name in names.items()}
    if form.dtype is np.uint8:
        parts = (piece for view in views.values() for piece in pieces(view))
        form = replace(form, binary=form.binary or all(bool((x <= 1).all()) for x in parts))
        views = {split: Rows(view.array, form) for split, view in views.items()}
        note = note.format("0 and 1 as they are" if form.binary else "0 to 255 as 0 to 1")
    values = [values_of(view) for view in views.values()]
    for name, header, of_one in zip(names.values(), headers, values, strict=True):
        if of_one.bad:
            raise ValueError(
                f"{path}: array {name!r} has NaN or infinity in {of_one.bad} of {header.shape[0]}"
                f" examples, the first at index {of_one.first}; allowed are finite numbers in"
                " float32: remove those examples"
            )
    if len(views) < len(SPLITS):
        array = views["train"].array
        rows = random_rows(len(array), f"{path}: array {names['train']!r}")
        if "test" in views:
            rows["train"] = np.sort(np.concatenate([rows["train"], rows.pop("test")]))
        views |= {split: Rows(array, form, of_split) for split, of_split in rows.items()}
    splits = {
        split: view if isinstance(view.array, np.memmap) else torch.from_numpy(view[:])
        for split, view in ((split, views[split]) for split in SPLITS)
    }
    return splits, joined(values), note


def _chosen(
    path: Path, key: str | None, kind: Kind
) -> tuple[dict[str, str], list[_Header], Form, str]:
    """Set → array ("train" alone means one to split), their headers, and what to make of them.

    In the last, a text, {} is the place for the range of uint8.
    """
    headers = _headers(path)
    names = _choose(path, headers, key, kind)
    for name in names.values():
        if problem := _problem(headers[name], kind):
            raise ValueError(f"{path}: array {name!r} {problem}")
    used = [headers[name] for name in names.values()]
    return names, used, *_form(used[0], kind)


def _headers(path: Path) -> dict[str, _Header]:
    """Shape and type of each array, without reading the arrays."""
    if path.is_dir():
        return {k: v for p in sorted(path.glob("*.npy")) for k, v in _headers(p).items()}
    headers = {}
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                shape, _, dtype = _read_header(file)
                return {path.stem: _Header(shape, dtype)}
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    continue
                with archive.open(member) as file:
                    shape, _, dtype = _read_header(file)
                    headers[member.removesuffix(".npy")] = _Header(shape, dtype)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        kind, save = (".npy", "save") if path.suffix == ".npy" else (".npz", "savez")
        raise ValueError(
            f"{path} is not an {kind} file or is damaged ({error}); write one with numpy.{save}"
        ) from error
    return headers


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and type; the file then stands at the values."""
    version = np.lib.format.read_magic(file)
    # version 3 differs from 2 in the names of fields, which plain numbers have not
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)


def _choose(
    path: Path, headers: dict[str, _Header], key: str | None, kind: Kind
) -> dict[str, str]:
    """The arrays to read: set → key in the file; "train" alone means one array to split."""
    names = {"train": "train", "val": "val" if "val" in headers else "valid", "test": "test"}
    listed = ", ".join(f"{name} {h.dtype} {h.shape}" for name, h in headers.items()) or "nothing"
    if key is not None:
        if key not in headers:
            raise ValueError(f"{path} has no array data.key={key!r}; it holds {listed}")
        return {"train": key}
    if "train" in headers and "test" in headers:
        return {split: name for split, name in names.items() if name in headers}
    able = [name for name, header in headers.items() if _problem(header, kind) is None]
    usual = [name for name in USUAL_KEYS if name in able]
    if len(able) == 1 or usual:
        return {"train": (usual or able)[0]}
    if able:
        raise ValueError(
            f"{path} has several arrays of examples: {', '.join(able)}; choose one with"
            " --data.key, or name them train, val and test"
        )
    tried = [name for name, header in headers.items() if len(header.shape) > 1] or list(headers)
    if len(tried) == 1:  # what is wrong with it is said later
        return {"train": tried[0]}
    raise ValueError(
        f"{path} has no array of examples (N, …); it holds {listed}; allowed are {ALLOWED}"
    )


def _problem(header: _Header, kind: Kind) -> str | None:
    """What keeps an array from being examples."""
    shape, dtype = header
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        what = "pickled Python objects" if dtype.hasobject else f"the type {dtype}"
        return f"has {what}; allowed are {ALLOWED}: convert it with numpy's astype"
    has = f"has the shape {shape}"
    if len(shape) < 2 or 0 in shape:
        return f"{has}; allowed is (N, …), one example or more a row: rearrange it with numpy"
    # in (N, C, H, W) the channels are fewer than the pixels of a side
    picture = len(shape) == 4 and (shape[1] <= min(shape[2:]) or shape[3] in (1, 3))
    if kind == "pictures" and len(shape) != 3 and not picture:
        return f"{has}; pictures are {PICTURES}: rearrange it with numpy, or leave data.kind out"
    if kind == "auto" and len(shape) == 4 and not picture and shape[3] < min(shape[1:3]):
        return (
            f"{has}, where channels seem to come last; rearrange it to (N, C, H, W) with numpy's"
            " moveaxis, or keep it so with --data.kind values"
        )
    return None


def _form(header: _Header, kind: Kind) -> tuple[Form, str]:
    """What examples become, and the text that says so: see `_chosen`."""
    (_, *axes), dtype = header
    own, last, name = tuple(axes), False, NAMES.get(1 + len(axes), "it is")
    signals = kind == "auto" and dtype not in (np.uint8, np.bool_) and min(axes) < SIDE
    if kind == "values":
        name = "it is"
    elif len(axes) == 2 and not signals:
        own, name = (1, *axes), "pictures (N, H, W)"
    elif len(axes) == 3 and axes[2] in (1, 3) and axes[0] not in (1, 3):
        own, last, name = (axes[2], *axes[:2]), True, "pictures (N, H, W, C)"
    scaled = dtype == np.uint8 and kind != "values" and len(axes) > 1
    note = f"{dtype} read as {name}"
    if scaled:
        note += ", {}"
    elif dtype == np.uint8:
        note += ", not divided by 255"
    if kind == "auto" and name == NAMES[3]:
        note += "; data.kind=pictures reads (N, H, W)"
    elif kind == "auto" and (scaled or own != tuple(axes)):
        note += "; data.kind=values keeps it as it is"
    to = np.uint8 if scaled or dtype == np.bool_ else np.float32
    return Form(own, to, last, binary=dtype == np.bool_), note


def _open(path: Path, name: str) -> np.ndarray:
    """The array as it is in the file; a memory map of .npy."""
    try:
        if path.is_dir() or path.suffix == ".npy":
            file = path / f"{name}.npy" if path.is_dir() else path
            return np.load(file, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: array {name!r} is damaged ({error}); write it anew") from error
