"""NPZ: the arrays of any .npz file."""

__all__ = ["NPZ", "load_npz", "npz_rows", "npz_shape"]

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from multibeta.data.base import SPLITS, ImageData, random_rows

ALLOWED = "bool, uint8, float32 or float64"
LAYOUTS = "(N, H, W), (N, C, H, W), or (N, H, W, C) with C = 1 or 3"
BLOCK = 4096  # rows
USUAL_KEYS = ("images", "imgs", "x", "data")


class NPZ(ImageData):
    """The images in an .npz file.

    Arrays named train, val (or valid) and test are the three sets; without val a tenth of train
    is taken for it. Otherwise one array is split 80/10/10 by a fixed seed. Shapes are (N, H, W),
    (N, C, H, W), or (N, H, W, C) with C = 1 or 3; types are bool, uint8 (0 to 255, or only 0 and 1
    for binary images) or float32/float64, kept as float32 without rescaling. Pickled objects are
    never loaded.

    Args:
        root: Path of the .npz file.
        batch_size: Number of images in a batch, on each process.
        flip: Whether to mirror training images left to right at random.
        key: Name of the array; by default the only one that can hold images, or the first of
            images, imgs, x, data.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        flip: bool = False,
        key: str | None = None,
    ) -> None:
        super().__init__(root, batch_size, flip)
        self.key = key

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width, from the header in the file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no array of images.
        """
        return npz_shape(self._path(), self.key)

    def load(self) -> dict[str, Tensor]:
        """Reads the arrays.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no array of images, or NaN or infinity.
        """
        return load_npz(self._path(), self.key)

    def _path(self) -> Path:
        if self.root is None:
            raise ValueError("data.root is not set; NPZ needs the path of an .npz file there")
        path = Path(self.root).expanduser()
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "does not exist"
            raise FileNotFoundError(
                f"data.root={self.root!r} {problem}; NPZ needs the path of an .npz file there"
            )
        return path


def npz_shape(path: Path, key: str | None = None) -> tuple[int, int, int]:
    """(C, H, W) of the images in an .npz file, from its headers alone.

    Raises:
        ValueError: If the file holds no array of images.
    """
    headers = _headers(path)
    first = next(iter(_choose(path, headers, key).values()))
    return _layout(path, first, headers[first])[0]


def load_npz(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The sets in an .npz file, (N, C, H, W), uint8 or float32: see `NPZ`.

    Raises:
        ValueError: If the file holds no array of images, or NaN or infinity.
    """
    headers = _headers(path)
    chosen = _choose(path, headers, key)
    shapes = {name: _layout(path, name, headers[name])[0] for name in chosen.values()}
    kinds = {name: headers[name].dtype for name in chosen.values()}
    for what, values in (("shapes (C, H, W)", shapes), ("types", kinds)):
        if len(set(values.values())) > 1:
            found = ", ".join(f"{name}: {value}" for name, value in values.items())
            raise ValueError(f"{path}: all sets need the same {what}; found {found}")
    arrays = {split: _read(path, name, headers[name]) for split, name in chosen.items()}
    if arrays["train"].dtype == np.uint8 and max(x.max(initial=0) for x in arrays.values()) <= 1:
        arrays = {split: array * np.uint8(255) for split, array in arrays.items()}
    if "test" not in arrays:
        rows = random_rows(len(arrays["train"]), f"{path}: array {chosen['train']!r}")
        arrays = {split: arrays["train"][rows[split]] for split in SPLITS}
    elif "val" not in arrays:
        rows = random_rows(len(arrays["train"]), f"{path}: array {chosen['train']!r}")
        fit = np.sort(np.concatenate([rows["train"], rows["test"]]))
        arrays["val"], arrays["train"] = arrays["train"][rows["val"]], arrays["train"][fit]
    return {split: torch.from_numpy(arrays[split]) for split in SPLITS}


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


def _headers(path: Path) -> dict[str, _Header]:
    """Shape and type of each array, without reading the arrays."""
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    continue
                with archive.open(member) as file:
                    shape, _, dtype = _read_header(file)
                    headers[member.removesuffix(".npy")] = _Header(shape, dtype)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is not an .npz file or is damaged ({error}); write one with numpy.savez"
        ) from error
    return headers


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and type; the file then stands at the values."""
    version = np.lib.format.read_magic(file)
    # version 3 differs from 2 in the names of fields, which images have not
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)


def _choose(path: Path, headers: dict[str, _Header], key: str | None) -> dict[str, str]:
    """The arrays to read: set → key in the file; "train" alone means one array to split."""
    names = {"train": "train", "val": "val" if "val" in headers else "valid", "test": "test"}
    listed = ", ".join(f"{name} {h.dtype} {h.shape}" for name, h in headers.items()) or "nothing"
    if key is not None:
        if key not in headers:
            raise ValueError(f"{path} has no array data.key={key!r}; it holds {listed}")
        return {"train": key}
    if "train" in headers and "test" in headers:
        return {split: name for split, name in names.items() if name in headers}
    able = [name for name, header in headers.items() if _problem(header) is None]
    usual = [name for name in USUAL_KEYS if name in able]
    if len(able) == 1 or usual:
        return {"train": (usual or able)[0]}
    if able:
        raise ValueError(
            f"{path} has several arrays of images: {', '.join(able)}; choose one with --data.key"
        )
    if len(headers) == 1:  # say what is wrong with it
        name, header = next(iter(headers.items()))
        _layout(path, name, header)
    raise ValueError(
        f"{path} has no array of images; it holds {listed}; needed is {ALLOWED} in the shape"
        f" {LAYOUTS}"
    )


def _problem(header: _Header) -> str | None:
    """What keeps an array from being images."""
    shape, dtype = header
    if dtype not in (np.bool_, np.uint8, np.float32, np.float64):
        kind = "pickled Python objects" if dtype.hasobject else f"the type {dtype}"
        return f"has {kind}; allowed is {ALLOWED}: convert it with numpy's astype"
    # in (N, C, H, W) the channels are fewer than the pixels of a side
    first = len(shape) == 4 and shape[1] <= min(shape[2:])
    last = len(shape) == 4 and shape[3] in (1, 3)
    if 0 in shape or not (len(shape) == 3 or first or last):
        return f"has the shape {shape}; allowed is {LAYOUTS}: rearrange it with numpy"
    return None


def _layout(path: Path, name: str, header: _Header) -> tuple[tuple[int, int, int], bool]:
    """(C, H, W), and whether the channels come last in the file."""
    if problem := _problem(header):
        raise ValueError(f"{path}: array {name!r} {problem}")
    if len(header.shape) == 3:
        _, height, width = header.shape
        return (1, height, width), False
    _, first, middle, last = header.shape
    if last in (1, 3) and first not in (1, 3):
        return (last, first, middle), True
    return (first, middle, last), False


def _read(path: Path, name: str, header: _Header) -> np.ndarray:
    """The array as (N, C, H, W), uint8 or float32."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            array = archive[name]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: array {name!r} is damaged ({error}); write it anew") from error
    shape, last = _layout(path, name, header)
    array = array.transpose(0, 3, 1, 2) if last else array.reshape(-1, *shape)
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array).astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        raise ValueError(
            f"{path}: array {name!r} has NaN or infinity in {bad.sum()} of {len(array)} images,"
            f" the first at index {bad.argmax()}; allowed are finite numbers: remove those images"
        )
    return array
