"""NPZ: arrays of any shape, in .npz and .npy files."""

__all__ = ["NPZ", "Arrays", "npz_rows"]

import lzma
import math
import shutil
import struct
import sys
import tokenize
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from multibeta.data.arrays import Form, Rows, Values, joined, pieces, values_of
from multibeta.data.base import ImageData
from multibeta.data.examples import LABELS, Layout
from multibeta.data.roots import cache_dir
from multibeta.data.splits import check_fractions, label_of, named_sets, split_rows
from multibeta.files import check_readable, replacing

Kind = Literal["auto", "pictures", "values"]
NEEDS = "NPZ needs an .npz or .npy file there, or a folder of train.npy, val.npy and test.npy"
ALLOWED = "bool, integers, and floats of up to 64 bits"
PICTURES = "(N, H, W) or (N, C, H, W), or (N, H, W, C) with data.layout=NHWC"
SIDE = 16  # pixels: with fewer, (N, C, T) is a signal
FEW = 4  # as many channels as pictures have at most
IN_MEMORY = 2**28  # bytes of an array that is read into memory
NAMES = {
    2: "a table (N, D)",
    3: "signals (N, C, T)",
    4: "maps (N, C, H, W)",
    5: "volumes (N, C, D, H, W)",
}
BLOCK = 4096  # rows
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ValueError, KeyError, EOFError,
    OSError, RuntimeError, OverflowError, MemoryError, SyntaxError, TypeError, tokenize.TokenError,
)  # fmt: skip
"""What reading a damaged archive or array can raise."""
WORDS = ("label_names", "class_names")
"""Arrays of the words that numbers of labels stand for."""
USUAL_KEYS = ("images", "imgs", "x", "X", "data")


class NPZ(ImageData):
    """Arrays of any shape: tables (N, D), signals (N, C, T), pictures, volumes (N, C, D, H, W).

    They are in an .npz file, an .npy file, or a folder of .npy files; what is not compressed is
    memory-mapped, so that it can be larger than memory. Pickled objects are never loaded.

    Arrays named as sets are the sets: train, val (valid, validation) and test, in any case, also
    as x_train, train_images and the like; y_train, train_labels and others of a set are not read.
    What is missing is drawn from the training set by a fixed seed: a tenth for validation, a tenth
    for testing. Any other array is split in the same way. `size_note` says what was made of them.

    Types are bool, integers and floats. A model sees their values as float32, except uint8 that
    is not a table: there 0 to 255 are intensities, and become 0 to 1 (if only 0 and 1 occur, they
    stay).

    ===================================  ========================================================
    array                                examples
    ===================================  ========================================================
    (N, H, W): uint8, bool, or both      pictures (1, H, W)
    sides at least 16
    (N, C, T): any other of three axes   signals (C, T)
    (N, C, ...)                          as it is
    (N, ..., C) with layout NHWC         the channels are moved to the front
    ===================================  ========================================================

    Channels come first. An array of four or five axes whose channels could be last is refused
    until layout says where they are.

    Args:
        root: Path of the file or folder.
        batch_size: Number of examples in a batch, on each process.
        flip: Whether to mirror training pictures left to right at random.
        key: Name of the array; by default the sets, the only one that can hold examples, or the
            first of images, imgs, x, X, data.
        kind: pictures or values; by default guessed as above. With pictures three axes are
            (N, H, W). With values shapes and numbers stay as they are, those of uint8 too.
        layout: NCHW where the channels come first, NHWC where they come last, of any number of
            axes.
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
        flip: bool = False,
        key: str | None = None,
        kind: Kind = "auto",
        layout: Layout | None = None,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
    ) -> None:
        super().__init__(root, batch_size, flip)
        self.key = key
        self.kind = kind
        self.layout = layout
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self._note = ""
        for name, value, of in (("kind", kind, Kind), ("layout", layout, Layout)):
            allowed = get_args(of)
            if value not in allowed and not (name == "layout" and value is None):
                listed = ", ".join(allowed)
                raise ValueError(f"data.{name}={value!r} is unknown; allowed: {listed}")
        check_fractions(val_fraction, test_fraction)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example, from the header in the file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no array of examples.
        """
        return self._arrays().form.shape

    @property
    def size_note(self) -> str:
        """What was made of the arrays; empty before they are loaded."""
        return self._note

    def load(self) -> dict[str, Tensor | Rows]:
        """Reads the arrays, or maps them into memory.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no array of examples, or NaN or infinity.
        """
        arrays = self._arrays()
        splits, self._values, self._note = arrays.load(self.val_fraction, self.test_fraction)
        return splits

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The other arrays of a set: name → (N,), such as labels of train_labels.

        Those of one or two axes with a row for each example; of two, each column by its number.
        Where there are words in label_names or class_names, they stand for the numbers of labels.
        """
        return self._arrays().labels(split, self.val_fraction, self.test_fraction)

    def rows(self, split: str) -> np.ndarray:
        """The row of each example in its array."""
        arrays = self._arrays()
        of, rows = arrays.parts(self.val_fraction, self.test_fraction)[0][split]
        return np.arange(arrays.headers[of].shape[0]) if rows is None else rows

    def _arrays(self) -> "Arrays":
        if self.root is None:
            raise ValueError(f"data.root is not set; {NEEDS}")
        path = Path(self.root)
        if not path.exists():
            raise FileNotFoundError(f"data.root={self.root!r} does not exist; {NEEDS}")
        if path.is_dir() and not any(path.glob("*.npy")):
            raise FileNotFoundError(f"data.root={self.root!r} is a folder without .npy; {NEEDS}")
        return Arrays(path, self.key, self.kind, self.layout)


class Arrays:
    """The arrays of examples in a file or folder, of which only the headers have been read.

    Args:
        path: The file or folder.
        key: As in `NPZ`.
        kind: As in `NPZ`.
        layout: As in `NPZ`.

    Attributes:
        names: "train", "val", "test" → array; "train" alone means one array to split.
        form: What examples become.

    Raises:
        ValueError: If there is no array of examples.
    """

    def __init__(
        self, path: Path, key: str | None = None, kind: Kind = "auto", layout: Layout | None = None
    ) -> None:
        self.path = path
        headers = _headers(path)
        self.names, self.others = _choose(path, headers, key, kind)
        self.headers = {split: headers[name] for split, name in self.names.items()}
        for split, name in self.names.items():
            if problem := _problem(self.headers[split], kind, layout):
                raise ValueError(f"{path}: array {name!r} {problem}")
        self.form, self._note = _form(next(iter(self.headers.values())), kind, layout)

    def load(
        self, val_fraction: float | None = None, test_fraction: float | None = None
    ) -> tuple[dict[str, Tensor | Rows], Values, str]:
        """The sets, what their values are, and what was made of the arrays.

        Raises:
            ValueError: If the arrays do not fit together or are damaged, or hold NaN or infinity.
        """
        path, names, form = self.path, self.names, self.form
        for what, found in (
            ("shape of an example", [header.shape[1:] for header in self.headers.values()]),
            ("type", [header.dtype for header in self.headers.values()]),
        ):
            if len(set(found)) > 1:
                listed = ", ".join(f"{n}: {v}" for n, v in zip(names.values(), found, strict=True))
                raise ValueError(f"{path}: all sets need the same {what}; found {listed}")
        views = {split: Rows(_open(path, name), form) for split, name in names.items()}
        parts, drawn = self.parts(val_fraction, test_fraction)
        note = self._note
        if form.dtype is np.uint8:
            seen = (piece for view in views.values() for piece in pieces(view))
            form = replace(form, binary=form.binary or all(bool((x <= 1).all()) for x in seen))
            views = {split: Rows(view.array, form) for split, view in views.items()}
            note = note.format("0 and 1 as they are" if form.binary else "0 to 255 as 0 to 1")
        values = {split: values_of(view) for split, view in views.items()}
        for split, of_one in values.items():
            if of_one.bad:
                raise ValueError(
                    f"{path}: array {names[split]!r} has NaN or infinity in {of_one.bad} of"
                    f" {self.headers[split].shape[0]} examples, the first at index"
                    f" {of_one.first}; allowed are finite numbers in float32: remove those"
                    " examples"
                )
        splits: dict[str, Tensor | Rows] = {}
        for split, (of, rows) in parts.items():
            view = views[of] if rows is None else Rows(views[of].array, form, rows)
            mapped = isinstance(view.array, np.memmap)
            splits[split] = view if mapped else torch.from_numpy(view[:])
        left_out = f"not trained on: {', '.join(self.others)}" if self.others else ""
        return splits, joined(values.values()), "; ".join(filter(None, [note, drawn, left_out]))

    def parts(
        self, val_fraction: float | None = None, test_fraction: float | None = None
    ) -> tuple[dict[str, tuple[str, np.ndarray | None]], str]:
        """Set → the array it is from and its rows there, or None for all; how they were drawn."""
        names = self.names
        return split_rows(
            {split: header.shape[0] for split, header in self.headers.items()},
            str(self.path) if len(names) > 1 else f"{self.path}: array {names['train']!r}",
            val_fraction,
            test_fraction,
        )

    def labels(
        self, split: str, val_fraction: float | None = None, test_fraction: float | None = None
    ) -> dict[str, np.ndarray]:
        """What else there is of each example of a set: name → (N,).

        Args:
            split: "train", "val" or "test".
            val_fraction: As in `load`.
            test_fraction: As in `load`.
        """
        headers = _headers(self.path)
        of, rows = self.parts(val_fraction, test_fraction)[0][split]
        words = [name for name in self.others if name.lower() in WORDS]
        found = {}
        for name in self.others:
            shape, dtype = headers[name]
            beside = shape[:1] == self.headers[of].shape[:1] and len(shape) in (1, 2)
            if dtype.kind not in "biufU" or not beside:
                continue
            if (short := label_of(name, of if len(self.names) > 1 else None)) is None:
                continue
            values = _open(self.path, name)
            values = np.asarray(values if rows is None else values[rows])
            if short.lower() in LABELS and words and dtype.kind in "iu" and values.ndim == 1:
                known = _open(self.path, words[0])
                if known.dtype.kind == "U" and 0 <= values.min() <= values.max() < len(known):
                    values = np.asarray(known)[values]
            columns = [values] if values.ndim == 1 else [*values.T]
            for number, column in enumerate(columns):
                found[short if len(columns) == 1 else f"{short}_{number}"] = column
        return found


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
    except DAMAGED as error:
        raise ValueError(f"{path}: array {name!r} cannot be read ({error})") from error
    return chosen


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


def _headers(path: Path) -> dict[str, _Header]:
    """Shape and type of each array, without reading the arrays."""
    if path.is_dir():
        return {k: v for p in sorted(path.glob("*.npy")) for k, v in _headers(p).items()}
    headers = {}
    check_readable(path)
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
    except DAMAGED as error:
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
) -> tuple[dict[str, str], list[str]]:
    """The arrays to read, set → key in the file ("train" alone means one array to split); others.

    The others are what belongs to the sets and is not read, such as labels.
    """
    listed = ", ".join(f"{name} {h.dtype} {h.shape}" for name, h in headers.items()) or "nothing"
    if key is not None:
        if key not in headers:
            raise ValueError(f"{path} has no array data.key={key!r}; it holds {listed}")
        return {"train": key}, [name for name in headers if name != key]
    try:
        sets, _ = named_sets(headers)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if len(sets) > 1:
        return sets, [name for name in headers if name not in sets.values()]
    able = [name for name, header in headers.items() if _problem(header, kind, "NCHW") is None]
    usual = [name for name in USUAL_KEYS if name in able] or [*sets.values()][:1]
    if len(able) == 1 or usual:
        chosen = (usual or able)[0]
        return {"train": chosen}, [name for name in headers if name != chosen]
    if able:
        raise ValueError(
            f"{path} has several arrays of examples: {', '.join(able)}; choose one with"
            " --data.key, or name them train, val and test"
        )
    tried = [name for name, header in headers.items() if len(header.shape) > 1] or list(headers)
    if len(tried) == 1:  # what is wrong with it is said later
        return {"train": tried[0]}, []
    raise ValueError(
        f"{path} has no array of examples (N, …); it holds {listed}; allowed are {ALLOWED}"
    )


def _problem(header: _Header, kind: Kind, layout: Layout | None) -> str | None:
    """What keeps an array from being examples."""
    shape, dtype = header
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        what = "pickled Python objects" if dtype.hasobject else f"the type {dtype}"
        return f"has {what}; allowed are {ALLOWED}: convert it with numpy's astype"
    has = f"has the shape {shape}"
    if len(shape) < 2 or 0 in shape:
        return f"{has}; allowed is (N, …), one example or more a row: rearrange it with numpy"
    if kind == "pictures" and len(shape) not in (3, 4):
        return f"{has}; pictures are {PICTURES}: rearrange it with numpy, or leave data.kind out"
    if layout == "NHWC" and len(shape) < 3:
        return f"{has}, which has no axis of channels; leave data.layout out"
    if layout is None and kind != "values" and len(shape) in (4, 5) and _may_be_last(shape[1:]):
        return (
            f"{has}, whose channels could be first or last; say which: --data.layout NCHW, or NHWC"
        )
    return None


def _may_be_last(axes: tuple[int, ...]) -> bool:
    """Whether the channels could be the last axis: few of them, or sides that are alike before."""
    first, last = axes[0], axes[-1]
    if first <= FEW < last:
        return False
    return last <= FEW or (len(set(axes[:-1])) == 1 and len(set(axes[1:])) > 1)


def _form(header: _Header, kind: Kind, layout: Layout | None) -> tuple[Form, str]:
    """What examples become, and the text that says so, with {} as the place for uint8's range."""
    (_, *axes), dtype = header
    own, last, name = tuple(axes), False, NAMES.get(1 + len(axes), "it is")
    signals = kind == "auto" and dtype not in (np.uint8, np.bool_) and min(axes) < SIDE
    if layout == "NHWC":
        own, last = (axes[-1], *axes[:-1]), True
        name = f"(N, {'…, ' if len(axes) > 2 else 'T, '}C), the channels moved to the front"
    elif kind == "values":
        name = "it is"
    elif len(axes) == 2 and not signals and layout is None:
        own, name = (1, *axes), "pictures (N, H, W)"
    scaled = dtype == np.uint8 and kind != "values" and len(axes) > 1
    note = f"{dtype} read as {name}"
    if scaled:
        note += ", {}"
    elif dtype == np.uint8:
        note += ", not divided by 255"
    if kind == "auto" and name == NAMES[3] and layout is None:
        note += "; data.kind=pictures reads (N, H, W)"
    elif kind == "auto" and (scaled or own != tuple(axes)) and layout is None:
        note += "; data.kind=values keeps it as it is"
    to = np.uint8 if scaled or dtype == np.bool_ else np.float32
    return Form(own, to, last, binary=dtype == np.bool_), note


def _open(path: Path, name: str) -> np.ndarray:
    """The array as it is in the file; a memory map where it is large, or .npy."""
    try:
        if path.is_dir() or path.suffix == ".npy":
            file = path / f"{name}.npy" if path.is_dir() else path
            return np.load(file, mmap_mode="r", allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as head:
                shape, _, dtype = _read_header(head)
                size = head.tell() + math.prod(shape) * dtype.itemsize
            if size != member.file_size:  # before memory is taken
                raise ValueError(f"its header says {size:,} bytes, it has {member.file_size:,}")
            if member.file_size <= IN_MEMORY:
                with np.load(path, allow_pickle=False) as arrays:
                    return arrays[name]
            if member.compress_type != zipfile.ZIP_STORED:
                return _unpacked(archive, member)
            with archive.open(member) as whole:  # to its end: then its checksum is looked at
                shape, fortran, dtype = _read_header(whole)
                start = whole.tell()
                while whole.read(2**20):
                    pass
        with path.open("rb") as raw:  # the header beside the array may have another length
            raw.seek(member.header_offset)
            lengths = struct.unpack("<HH", raw.read(30)[26:])  # of the name and of what follows it
        offset = member.header_offset + 30 + sum(lengths) + start
        order: Any = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", offset, shape, order)
    except DAMAGED as error:
        raise ValueError(f"{path}: array {name!r} is damaged ({error}); write it anew") from error


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """A compressed array that is too large for memory, from a file in the cache folder."""
    file = cache_dir() / "arrays" / f"{member.CRC:08x}-{member.file_size}.npy"
    if not (file.is_file() and file.stat().st_size == member.file_size):
        print(f"{archive.filename}: unpacking {member.filename} to {file}", file=sys.stderr)
        with replacing(file) as part, archive.open(member) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
    return np.load(file, mmap_mode="r", allow_pickle=False)
