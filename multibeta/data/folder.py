"""Folder: the image files of any folder."""

__all__ = ["Folder"]

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from multibeta.data.base import SPLITS, ImageData, random_rows
from multibeta.data.cache import CorruptError, Recipe, Source, decode, image_mode, scan
from multibeta.data.roots import find_root

NEEDS = "Folder needs a folder with image files (jpg, png, bmp, webp or tif) in it"


class Folder(ImageData):
    """The images in a folder and the folders below it, decoded once into the cache folder.

    If there are folders train and test in it (and perhaps val or valid), they are the sets; a
    missing val is a tenth of train. Otherwise the images are split 80/10/10 by a fixed seed. The
    images must be all 8-bit grey or all RGB, or be converted.

    Args:
        root: The folder.
        batch_size: Number of images in a batch, on each process.
        flip: Whether to mirror training images left to right at random.
        size: Height and width in pixels to which the images are reduced.
        crop: Side of the square cut from the centre; by default the largest one.
        convert: RGB or L (grey): convert every image to it; transparency is laid over white, and
            16 bits are scaled to 8. By default images of different modes are an error.
        skip_corrupt: Whether to leave out corrupt files; else the first one is an error.

    Raises:
        ValueError: If size, crop or convert is impossible.
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
    ) -> None:
        super().__init__(root, batch_size, flip)
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
        return {
            name: decode(
                self._folder,
                sources,
                self._recipe,
                f"{self._folder.name} {name}",
                self.skip_corrupt,
            )
            for name, sources in self._sources.items()
        }

    @cached_property
    def _folder(self) -> Path:
        if self.root is None:
            raise ValueError(f"data.root is not set; {NEEDS}")
        return find_root(self.root, NEEDS)

    @cached_property
    def _sources(self) -> dict[str, list[Source]]:
        """The files of each set."""
        sources = scan(self._folder)
        if not sources:
            raise FileNotFoundError(f"data.root={self.root!r} holds no image; {NEEDS}")
        parts: dict[str, list[Source]] = {}
        for source in sources:
            top = source.name.partition("/")[0] if "/" in source.name else ""
            parts.setdefault("val" if top == "valid" else top, []).append(source)
        if "train" not in parts or "test" not in parts:
            return _select(sources, random_rows(len(sources), f"data.root={self.root!r}"))
        if "val" not in parts:
            rows = random_rows(len(parts["train"]), f"the folder train in {self.root!r}")
            rows["train"] = np.sort(np.concatenate([rows["train"], rows.pop("test")]))
            parts |= _select(parts["train"], rows)
        return {name: parts[name] for name in SPLITS}

    @cached_property
    def _recipe(self) -> Recipe:
        if self.convert is not None:
            self._sources  # noqa: B018 (an error if there are none)
            return Recipe(self.size, self.convert, self.crop, convert=True)
        for source in self._sources["train"]:
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


def _select(sources: list[Source], rows: dict[str, np.ndarray]) -> dict[str, list[Source]]:
    return {name: [sources[row] for row in chosen] for name, chosen in rows.items()}
