"""Image files, decoded once into a memory-mapped array in the user's cache folder."""

__all__ = [
    "BadFilesError",
    "CorruptError",
    "Decoded",
    "Recipe",
    "Source",
    "decode",
    "decode_sets",
    "image_mode",
    "scan",
    "told",
]

import contextlib
import hashlib
import json
import os
import struct
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from multibeta.data.roots import cache_dir
from multibeta.files import remove_leftovers, temporary
from multibeta.progress import place

if TYPE_CHECKING:
    from PIL import Image

VERSION = 2  # of the decoding and the file: another number makes all caches anew
SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm",
)  # fmt: skip
NAMED = 5  # bad files in a message
BLOCK = 64  # images decoded by one task of a thread


class Source(NamedTuple):
    """An image file as the cache's key sees it; the name is relative to the scanned folder.

    No content can change, and no other file can be there, without another number: archives set
    the time of modification, but nobody sets that of the change of the inode.

    Attributes:
        name: The path below the folder.
        size: In bytes.
        version: Times of modification and change, and inode; in an archive the checksum.
    """

    name: str
    size: int
    version: tuple[int, ...]


class Decoded(NamedTuple):
    """The images of a set.

    Attributes:
        images: uint8 (N, C, H, W), a read-only memory map.
        left_out: Why files were left out → how many.
    """

    images: np.memmap
    left_out: dict[str, int]


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

    def apply(self, path: "Path | zipfile.Path") -> np.ndarray:
        """Decodes a file; returns uint8 (C, H, W).

        Raises:
            CorruptError: If the file is not a whole image, has several, or too few pixels.
            ValueError: If it is an image of another kind.
            OSError: If it cannot be read.
        """
        from PIL import ImageOps
        from PIL.Image import Resampling

        with _opened(path) as image:
            if (pages := getattr(image, "n_frames", 1)) > 1:
                raise CorruptError("several pages", f"has {pages} pages; save one a file")
            if image.mode != self.mode and not self.convert:
                raise ValueError(
                    f"has the mode {image.mode} and not {self.mode}; all images must be"
                    " 8-bit grey (L) or all RGB: convert them with --data.convert RGB (or L)"
                )
            _load(image)
            ImageOps.exif_transpose(image, in_place=True)
            width, height = image.size
            side = self.crop or min(width, height)
            if min(width, height) < max(side, self.size):
                limit = "size" if self.crop is None else "crop"
                raise CorruptError(
                    "too small",
                    f"has {width}x{height} pixels, less than data.{limit}={getattr(self, limit)};"
                    f" choose --data.{limit} {min(width, height)} or less",
                )
            if self.convert:
                image = _converted(image, self.mode)
            left, top = (width - side) // 2, (height - side) // 2
            # cropped first: resize(box=...) would let pixels from outside the box in; PIL's
            # bilinear filter widens with the reduction, so it does not alias
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((self.size, self.size), Resampling.BILINEAR)
            pixels = np.asarray(image).reshape(self.size, self.size, -1)
            return pixels.transpose(2, 0, 1)


class CorruptError(Exception):
    """A file that can be left out: not a whole image, or none that can be used.

    Args:
        why: In two or three words.
        problem: What is wrong with it, behind its name.
    """

    def __init__(self, why: str, problem: str) -> None:
        super().__init__(problem)
        self.why = why


class Bad(NamedTuple):
    """A file that cannot be used: its path, what is wrong, and why in a few words, or None.

    None is what leaving files out does not cure.
    """

    path: str
    problem: str
    why: str | None


class BadFilesError(ValueError):
    """Files that cannot be used, all of them in one line.

    Args:
        files: What is wrong with each.
    """

    def __init__(self, files: list[Bad]) -> None:
        self.files = files
        first, *others = sorted(files, key=lambda one: one.path)
        also = ", ".join(Path(one.path).name for one in others[:NAMED])
        more = f" and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
        skips = "; replace it, or leave such files out with --data.skip_corrupt true"
        super().__init__(
            f"{first.path} {first.problem}{f'; so {also}{more}' if others else ''}"
            f"{'' if first.why is None else skips}"
        )


def check_whole(bad: int) -> None:
    """Refuse to say whose an image is, once corrupt ones were left out.

    Raises:
        ValueError: If some were.
    """
    if bad:
        raise ValueError("corrupt images were left out: which names are whose is unknown")


def scan(folder: Path) -> tuple[list[Source], Counter[str]]:
    """The image files in a folder and the folders below it, sorted by name; hidden ones not.

    Links are followed, each folder once.

    Args:
        folder: A folder or a zip archive.

    Returns:
        The files; and why others were left out → how many.
    """
    found, left_out = [], Counter[str]()
    if folder.is_file():
        with zipfile.ZipFile(folder) as archive:
            for member in archive.infolist():
                if member.is_dir() or Path(member.filename).name.startswith("."):
                    continue
                if member.filename.lower().endswith(SUFFIXES):
                    found.append(Source(member.filename, member.file_size, (member.CRC,)))
                else:
                    left_out[_suffix(member.filename)] += 1
        return sorted(found), left_out
    prefixes, seen = [""], {os.path.realpath(folder)}
    while prefixes:
        prefix = prefixes.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in seen:
                        seen.add(real)
                        prefixes.append(f"{prefix}{entry.name}/")
                    continue
                if not entry.name.lower().endswith(SUFFIXES):
                    left_out[_suffix(entry.name)] += 1
                elif not os.path.exists(entry.path):
                    left_out["a broken link"] += 1
                else:
                    stat = entry.stat()
                    version = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
                    found.append(Source(prefix + entry.name, stat.st_size, version))
    return sorted(found), left_out


def _suffix(name: str) -> str:
    return Path(name).suffix.lower() or "no suffix"


def told(left_out: Mapping[str, int]) -> str:
    """Why files were left out, in a few words: "left out: 3 .txt, 1 too small"."""
    listed = ", ".join(f"{count:,} {why}" for why, count in sorted(left_out.items()) if count)
    return f"left out: {listed}" if listed else ""


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
) -> Decoded:
    """The images as one memory-mapped array, from the cache if they have been decoded before.

    Args:
        folder: The folder or archive that was scanned; nothing is written there.
        sources: The files, in the order of the result.
        recipe: How they are decoded.
        label: What they are, for the progress bar.
        skip_corrupt: Whether to leave out files that cannot be used; else they are an error, which
            names them all.

    Raises:
        ValueError: If images are corrupt or do not fit the recipe, or if none is left.
        OSError: If an image cannot be read or the cache cannot be written.
    """
    key = hashlib.sha256(repr((VERSION, recipe, skip_corrupt)).encode())
    key.update("\n".join(map(repr, sources)).encode())
    cache = cache_dir() / "images" / f"{recipe.size}px-{key.hexdigest()[:32]}.npy"
    found = _mapped(cache, recipe)
    if found is None:
        remove_leftovers(cache.parent)
        _write(cache, folder, sources, recipe, label, skip_corrupt)
        found = _mapped(cache, recipe)
        if found is None:
            raise OSError(f"the image cache {str(cache)!r} cannot be read; delete it")
    return found


def decode_sets(
    folder: Path,
    sets: Mapping[str, list[Source]],
    recipe: Recipe,
    label: str,
    skip_corrupt: bool = False,
) -> tuple[dict[str, np.memmap], Counter[str]]:
    """The images of several sets, and what was left out: see `decode`.

    Raises:
        BadFilesError: If some cannot be used, those of all sets in one message.
    """
    found: dict[str, np.memmap] = {}
    left_out, bad = Counter[str](), list[Bad]()
    for name, sources in sets.items():
        try:
            images, of_set = decode(folder, sources, recipe, f"{label} {name}", skip_corrupt)
        except BadFilesError as error:
            bad += error.files
        else:
            found[name] = images
            left_out.update(of_set)
    if bad:
        raise BadFilesError(bad)
    return found, left_out


def _mapped(cache: Path, recipe: Recipe) -> Decoded | None:
    """The cached array, or None if it is not there, or not as it was written."""
    try:
        images = np.load(cache, mmap_mode="r")
        with cache.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            length, crc = struct.unpack("<II", file.read(8))
            file.seek(-8 - length, os.SEEK_END)
            left_out = json.loads(file.read(length))
            end = file.tell() - length
            file.seek(0)
            found, left = 0, end
            while left and (piece := file.read(min(left, 2**24))):
                found, left = zlib.crc32(piece, found), left - len(piece)
    except (OSError, ValueError, EOFError, struct.error):
        return None
    if (found, left) != (crc, 0) or images.dtype != np.uint8 or images.shape[1:] != recipe.shape:
        return None
    return Decoded(images, left_out)


def _write(
    cache: Path,
    folder: Path,
    sources: list[Source],
    recipe: Recipe,
    label: str,
    skip_corrupt: bool,
) -> None:
    """Decodes the files into `cache`, which appears when it is complete.

    Behind the array it has what was left out, as JSON, its length, and the array's checksum.
    """
    part = temporary(cache)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("wb+")
    except OSError as error:
        raise _unwritable(cache, error) from error
    try:
        with file, _progress(label, len(sources)) as advance:
            _header(file, len(sources), recipe)
            count, bad = 0, list[Bad]()
            for block, of_block, tried in _blocks(folder, sources, recipe):
                bad += of_block
                try:
                    file.write(block.tobytes())
                except OSError as error:  # a full disk; through a memory map it would be a crash
                    raise _unwritable(cache, error) from error
                count += len(block)
                advance(tried)
            if wrong := [one for one in bad if one.why is None or not skip_corrupt]:
                raise BadFilesError(wrong)
            if not count:
                raise ValueError(
                    f"{label}: none of {len(sources)} images can be used; replace them"
                )
            try:
                # numpy leaves room in the header, so that the count can be corrected in place
                file.seek(0)
                _header(file, count, recipe)
                file.seek(0)
                crc = 0
                while piece := file.read(2**24):
                    crc = zlib.crc32(piece, crc)
                reasons = json.dumps(Counter(str(one.why) for one in bad)).encode()
                file.write(reasons + struct.pack("<II", len(reasons), crc))
            except OSError as error:
                raise _unwritable(cache, error) from error
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
    folder: Path, sources: list[Source], recipe: Recipe
) -> Iterator[tuple[np.ndarray, list[Bad], int]]:
    """Decodes in threads (PIL releases the GIL); yields arrays, bad files, how many were tried."""
    from PIL import Image

    Image.init()  # PIL finds its formats at the first use, which is not safe in threads
    root: Any = zipfile.Path(folder) if folder.is_file() else folder

    def block(start: int) -> tuple[np.ndarray, list[Bad], int]:
        names = [source.name for source in sources[start : start + BLOCK]]
        images, bad = [], []
        for name in names:
            try:
                images.append(recipe.apply(root / name))
            except CorruptError as error:
                bad.append(Bad(str(folder / name), str(error), error.why))
            except ValueError as error:
                bad.append(Bad(str(folder / name), str(error), None))
        return np.array(images, dtype=np.uint8).reshape(-1, *recipe.shape), bad, len(names)

    with ThreadPoolExecutor() as pool:
        try:
            yield from pool.map(block, range(0, len(sources), BLOCK))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal; elsewhere a line at the start and one at the end."""
    if place() == "terminal":
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
def _opened(path: "Path | zipfile.Path") -> "Iterator[Image.Image]":
    """An image of which the header has been read."""
    from PIL import Image

    with path.open("rb") as file:  # a file that cannot be read is not a corrupt one
        try:
            image = Image.open(file)
        except Exception as error:  # the decoders raise errors of many kinds
            raise CorruptError("corrupt", "is corrupt (not an image)") from error
        with image:
            yield image


def _load(image: "Image.Image") -> None:
    """Reads the pixels of an opened image."""
    try:
        image.load()
    except Exception as error:  # the decoders raise errors of many kinds
        said = " ".join(str(error).split())
        raise CorruptError("corrupt", f"is corrupt ({said})") from error


def _converted(image: "Image.Image", mode: str) -> "Image.Image":
    """Any image as 8-bit grey or RGB: transparency over white, 16 bits scaled to 8."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(
            f"has the mode {image.mode} (32 bits), of which the range is unknown; save it"
            " with 8 or 16 bits"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)
