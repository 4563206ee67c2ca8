"""Folder: the image files of any folder."""

__all__ = ["Folder"]

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from multibeta.data.base import ImageData
from multibeta.data.cache import (
    CorruptError,
    Recipe,
    Source,
    check_whole,
    decode_sets,
    image_mode,
    scan,
    told,
)
from multibeta.data.roots import find_root
from multibeta.data.splits import NAMES, check_fractions, named_sets, split_rows

NEEDS = "Folder needs a folder with image files (jpg, png, bmp, webp, tif, gif, pgm or ppm) in it"


class Folder(ImageData):
    """The images in a folder and the folders below it, decoded once into the cache folder.

    If there are folders named as sets in it, train, val (valid, validation) and test in any case,
    they are the sets. What is missing is drawn from the training set, or from all images, by a
    fixed seed: a tenth for validation, a tenth for testing. The images must be all 8-bit grey or
    all RGB, or be converted. `size_note` says what was made of the folder, and what was left out.

    Args:
        root: The folder.
        batch_size: Number of images in a batch, on each process.
        flip: Whether to mirror training images left to right at random.
        size: Height and width in pixels to which the images are reduced.
        crop: Side of the square cut from the centre; by default the largest one.
        convert: RGB or L (grey): convert every image to it; transparency is laid over white, and
            16 bits are scaled to 8. By default images of different modes are an error.
        skip_corrupt: Whether to leave out files that are corrupt, too small or of several pages;
            else they are an error.
        val_fraction: The part of the training images that is for validation, where there is no
            such set; 0 for none.
        test_fraction: The part that is for testing, where there is no such set; 0 for none.

    Raises:
        ValueError: If an argument is impossible.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        flip: bool = False,
        size: int = 64,
        crop: int | None = None,
        convert: Literal["L", "RGB"] | None = None,
        skip_corrupt: bool = False,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
    ) -> None:
        super().__init__(root, batch_size, flip)
        check_fractions(val_fraction, test_fraction)
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self._note: list[str] = []
        self.size = size
        self.crop = crop
        self.convert = convert
        self.skip_corrupt = skip_corrupt
        Recipe(size, convert or "RGB", crop)  # checks them now, not when the files are read

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width; the channels are those of the first image.

        Raises:
            FileNotFoundError: If there is no such folder, or no image in it.
            ValueError: If the first image is neither grey nor RGB.
        """
        return self._recipe.shape

    def load(self) -> dict[str, np.memmap]:
        """Decodes the images, or opens the cache.

        Raises:
            FileNotFoundError: If there is no such folder, or no image in it.
            ValueError: If an image is corrupt, too small or of another mode, or there are fewer
                than three.
        """
        sources, name = self._sources, self._folder.name
        found, left_out = decode_sets(
            self._folder, sources.sets, self._recipe, name, self.skip_corrupt
        )
        self._bad = left_out.total()
        left_out.update(sources.left_out)
        self._note = [note for note in (sources.note, told(left_out)) if note]
        return found

    def files(self, split: str) -> list[str]:
        """The paths of the files, within the folder.

        Raises:
            ValueError: If images were left out as corrupt.
        """
        self.setup()
        check_whole(self._bad)
        return [source.name for source in self._sources.sets[split]]

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The folder of each image, below that of its set: ``{"folder": (N,)}``.

        Empty where all images lie in one.
        """
        sets = NAMES if self._sources.named else ()

        def folder(name: str) -> str:
            *above, _ = name.split("/")
            return "/".join(above[1:] if above and above[0].lower() in sets else above)

        found = {k: [folder(s.name) for s in of] for k, of in self._sources.sets.items()}
        if len({name for of in found.values() for name in of}) == 1:
            return {}
        self.files(split)  # refuses where it is not known whose they are
        return {"folder": np.array(found[split])}

    @property
    def size_note(self) -> str:
        """What was made of the folder; empty before it is loaded."""
        return "; ".join(self._note)

    @cached_property
    def _folder(self) -> Path:
        if self.root is None:
            raise ValueError(f"data.root is not set; {NEEDS}")
        return find_root(self.root, NEEDS)

    @cached_property
    def _sources(self) -> "_Sources":
        """The files of each set."""
        sources, left_out = scan(self._folder)
        if not sources:
            others = f" ({told(left_out)})" if left_out else ""
            raise FileNotFoundError(f"data.root={self.root!r} holds no image{others}; {NEEDS}")
        parts: dict[str, list[Source]] = {}
        for source in sources:
            top = source.name.partition("/")[0] if "/" in source.name else ""
            parts.setdefault(top, []).append(source)
        try:
            named, _ = named_sets(name for name in parts if name)
        except ValueError as error:
            raise ValueError(f"data.root={self.root!r}: {error}") from None
        sets = {split: parts[name] for split, name in named.items()}
        is_named = "train" in named and len(named) > 1
        if not is_named:
            sets = {"train": sources}
        else:
            other = sum(len(of) for name, of in parts.items() if name not in named.values())
            left_out.update({"beside the sets": other} if other else {})
        rows, note = split_rows(
            {split: len(of) for split, of in sets.items()},
            f"data.root={self.root!r}",
            self.val_fraction,
            self.test_fraction,
        )
        chosen = {
            split: sets[of] if numbers is None else [sets[of][i] for i in numbers]
            for split, (of, numbers) in rows.items()
        }
        return _Sources(chosen, left_out, note, is_named)

    @cached_property
    def _recipe(self) -> Recipe:
        if self.convert is not None:
            self._sources  # noqa: B018 (an error if there are none)
            return Recipe(self.size, self.convert, self.crop, convert=True)
        for source in self._sources.sets["train"]:
            path = self._folder / source.name
            try:
                mode = image_mode(path)
            except CorruptError:  # decode() names it, or skips it
                continue
            if mode not in ("L", "RGB"):
                raise ValueError(
                    f"{path} has the mode {mode}; all images must be 8-bit grey (L) or all RGB:"
                    " convert them with --data.convert RGB (or L)"
                )
            return Recipe(self.size, mode, self.crop)
        raise ValueError(
            f"no image of the training set in {self.root!r} can be read; replace them"
        )


class _Sources(NamedTuple):
    """The files of each set; why others were left out; how the sets were made; by folders?"""

    sets: dict[str, list[Source]]
    left_out: Counter[str]
    note: str
    named: bool
