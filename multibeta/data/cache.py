"""Image files, decoded once into a memory-mapped array in the user's cache folder."""

__all__ = ["Recipe", "Source", "decode", "image_mode", "scan"]

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from multibeta.data.roots import cache_dir

if TYPE_CHECKING:
    from PIL import Image

VERSION = 1  # of the decoding: another number makes all caches anew
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
BLOCK = 64  # images decoded by one task of a thread


class Source(NamedTuple):
    """An image file as the cache's key sees it; the name is relative to the scanned folder."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Recipe:
    """How a file becomes an array.

    Attributes:
        size: Height and width of the result in pixels.
        mode: "L" for grey or "RGB": what the image must be, or is made.
        crop: Side in pixels of the square cut from the centre; None means the largest.
        convert: Whether images of other modes are converted to `mode`; else they are an error.
    """

    size: int
    mode: str
    crop: int | None = None
    convert: bool = False

    def __post_init__(self) -> None:
        """Checks the arguments.

        Raises:
            ValueError: If there is no such mode, or the sizes are impossible.
        """
        if self.mode not in ("L", "RGB"):
            raise ValueError(f"data.convert={self.mode!r} is not allowed; choose L or RGB")
        if self.size < 1:
            raise ValueError(f"data.size={self.size} is too small; choose at least 1")
        if self.crop is not None and self.crop < self.size:
            raise ValueError(
                f"data.crop={self.crop} is smaller than data.size={self.size}; choose a crop of"
                f" at least {self.size}, or --data.size {max(self.crop, 1)}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the result."""
        return len(self.mode), self.size, self.size

    def apply(self, path: Path) -> np.ndarray:
        """Decodes a file; returns uint8 (C, H, W).

        Raises:
            CorruptError: If the file is not a whole image.
            ValueError: If it is an image that does not fit.
            OSError: If it cannot be read.
        """
        from PIL import ImageOps
        from PIL.Image import Resampling

        with _opened(path) as image:
            if image.mode != self.mode and not self.convert:
                raise ValueError(
                    f"{path} has the mode {image.mode} and not {self.mode}; all images must be"
                    " 8-bit grey (L) or all RGB: convert them with --data.convert RGB (or L)"
                )
            _load(image, path)
            ImageOps.exif_transpose(image, in_place=True)
            width, height = image.size
            side = self.crop or min(width, height)
            if min(width, height) < max(side, self.size):
                limit = "size" if self.crop is None else "crop"
                raise ValueError(
                    f"{path} has {width}x{height} pixels, less than data.{limit}="
                    f"{getattr(self, limit)}; choose --data.{limit} {min(width, height)} or less,"
                    " or remove it"
                )
            if self.convert:
                image = _converted(image, self.mode, path)
            left, top = (width - side) // 2, (height - side) // 2
            # cropped first: resize(box=...) would let pixels from outside the box in; PIL's
            # bilinear filter widens with the reduction, so it does not alias
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((self.size, self.size), Resampling.BILINEAR)
            pixels = np.asarray(image).reshape(self.size, self.size, -1)
            return pixels.transpose(2, 0, 1)


class CorruptError(Exception):
    """A file that is not a whole image."""


def scan(folder: Path) -> list[Source]:
    """The image files in a folder and the folders below it, sorted by name; hidden ones not."""
    found, prefixes = [], [""]
    while prefixes:
        prefix = prefixes.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    prefixes.append(f"{prefix}{entry.name}/")
                elif entry.name.lower().endswith(SUFFIXES):
                    stat = entry.stat()
                    found.append(Source(prefix + entry.name, stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def image_mode(path: Path) -> str:
    """The mode of an image ("L", "RGB", "P", …) from its header.

    Raises:
        CorruptError: If the file is not an image.
        OSError: If it cannot be read.
    """
    with _opened(path) as image:
        return image.mode


def decode(
    folder: Path, sources: list[Source], recipe: Recipe, label: str, skip_corrupt: bool = False
) -> np.memmap:
    """The images as one memory-mapped array, from the cache if they have been decoded before.

    Args:
        folder: The folder that was scanned; nothing is written there.
        sources: The files, in the order of the result.
        recipe: How they are decoded.
        label: What they are, for the progress bar.
        skip_corrupt: Whether to leave out corrupt files; else the first one is an error.

    Returns:
        uint8 (N, C, H, W), read-only.

    Raises:
        ValueError: If an image is corrupt or does not fit the recipe, or if none is left.
        OSError: If an image cannot be read or the cache cannot be written.
    """
    key = hashlib.sha256(repr((VERSION, recipe, skip_corrupt)).encode())
    key.update("\n".join(f"{s.name}\t{s.size}\t{s.mtime_ns}" for s in sources).encode())
    cache = cache_dir() / "images" / f"{recipe.size}px-{key.hexdigest()[:32]}.npy"
    images = _mapped(cache, recipe)
    if images is None:
        _write(cache, folder, sources, recipe, label, skip_corrupt)
        images = _mapped(cache, recipe)
        if images is None:
            raise OSError(f"the image cache {str(cache)!r} cannot be read; delete it")
    if len(images) < len(sources):
        left_out = len(sources) - len(images)
        print(f"{label}: left out {left_out} corrupt of {len(sources)}", file=sys.stderr)
    return images


def _mapped(cache: Path, recipe: Recipe) -> np.memmap | None:
    """The cached array, or None if it is not there, or not whole."""
    try:
        images = np.load(cache, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.dtype == np.uint8 and images.shape[1:] == recipe.shape else None


def _write(
    cache: Path,
    folder: Path,
    sources: list[Source],
    recipe: Recipe,
    label: str,
    skip_corrupt: bool,
) -> None:
    """Decodes the files into `cache`, which appears when it is complete."""
    part = cache.with_name(f".{cache.name}.{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("wb")
    except OSError as error:
        raise _unwritable(cache, error) from error
    try:
        with file, _progress(label, len(sources)) as advance:
            _header(file, len(sources), recipe)
            count = 0
            for block, tried in _blocks(folder, sources, recipe, skip_corrupt):
                try:
                    file.write(block.tobytes())
                except OSError as error:  # a full disk; through a memory map it would be a crash
                    raise _unwritable(cache, error) from error
                count += len(block)
                advance(tried)
            if not count:
                raise ValueError(f"{label}: all {len(sources)} images are corrupt; replace them")
            # numpy leaves room in the header, so that the count can be corrected in place
            file.seek(0)
            _header(file, count, recipe)
        part.replace(cache)
    except BaseException:  # Ctrl-C too
        part.unlink(missing_ok=True)
        raise


def _unwritable(cache: Path, error: OSError) -> OSError:
    return OSError(
        f"cannot write the image cache in {str(cache.parent)!r} ({error.strerror or error}); make"
        " room there, or set MULTIBETA_CACHE to another folder"
    )


def _header(file: BinaryIO, count: int, recipe: Recipe) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": (count, *recipe.shape)}
    )


def _blocks(
    folder: Path, sources: list[Source], recipe: Recipe, skip_corrupt: bool
) -> Iterator[tuple[np.ndarray, int]]:
    """Decodes in threads (PIL releases the GIL); yields arrays and how many files were tried."""
    from PIL import Image

    Image.init()  # PIL finds its formats at the first use, which is not safe in threads

    def block(start: int) -> tuple[np.ndarray, int]:
        names = [source.name for source in sources[start : start + BLOCK]]
        images = []
        for name in names:
            try:
                images.append(recipe.apply(folder / name))
            except CorruptError as error:
                if not skip_corrupt:
                    raise ValueError(
                        f"{folder / name} is corrupt ({error}); replace it, or leave such files"
                        " out with --data.skip_corrupt true"
                    ) from error
        return np.array(images, dtype=np.uint8).reshape(-1, *recipe.shape), len(names)

    with ThreadPoolExecutor() as pool:
        try:
            yield from pool.map(block, range(0, len(sources), BLOCK))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal; elsewhere a line at the start and one at the end."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = "[progress.description]{task.description}", BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        print(f"{label}: decoding {total} images", file=sys.stderr)
        start = time.perf_counter()
        yield lambda count: None
        print(f"{label}: decoded in {time.perf_counter() - start:.1f} s", file=sys.stderr)


@contextlib.contextmanager
def _opened(path: Path) -> "Iterator[Image.Image]":
    """An image of which the header has been read."""
    from PIL import Image

    with path.open("rb") as file:  # a file that cannot be read is not a corrupt one
        try:
            image = Image.open(file)
        except Exception as error:  # the decoders raise errors of many kinds
            raise CorruptError("not an image") from error
        with image:
            yield image


def _load(image: "Image.Image", path: Path) -> None:
    """Reads the pixels of an opened image."""
    try:
        image.load()
    except Exception as error:  # the decoders raise errors of many kinds
        raise CorruptError(" ".join(str(error).split())) from error


def _converted(image: "Image.Image", mode: str, path: Path) -> "Image.Image":
    """Any image as 8-bit grey or RGB: transparency over white, 16 bits scaled to 8."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(
            f"{path} has the mode {image.mode} (32 bits), of which the range is unknown; save it"
            " with 8 or 16 bits"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)
