"""Omniglot: handwritten characters of fifty alphabets."""

__all__ = ["Omniglot"]

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from multibeta.data.base import ImageData
from multibeta.data.cache import Recipe, decode, scan
from multibeta.data.roots import find_root, torchvision_set
from multibeta.files import check_readable

DRAWERS = 20  # of every character
PARTS = {"images_background": 964, "images_evaluation": 659}  # characters
NEEDS = (
    "Omniglot needs images_background.npz and images_evaluation.npz in it, or in its folder"
    " omniglot (arrays images of bool (characters, 20, 105, 105), paper True), or torchvision's"
    " folder omniglot-py: give the folder that holds them, or leave data.root out and set"
    " data.download=true"
)


class Omniglot(ImageData):
    """Omniglot (Lake et al. 2015), grey, white ink on black: the strokes of twenty drawers.

    The background alphabets are for training (drawers 1 to 18 of each character, 17,352 images)
    and validation (drawers 19 and 20, 1,928); the evaluation alphabets (13,180) are for testing.

    Args:
        root: Folder that holds omniglot/images_background.npz and images_evaluation.npz, or
            torchvision's omniglot-py; by default $MULTIBETA_DATA, else the cache folder.
        batch_size: Number of images in a batch, on each process.
        size: Height and width in pixels to which the 105×105 pixels are reduced.
        download: Whether to download what is not there.

    Raises:
        ValueError: If size is not between 1 and 105.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        size: int = 28,
        download: bool = True,
    ) -> None:
        super().__init__(root, batch_size)
        self.size = size
        self.download = download
        if not 1 <= size <= 105:
            raise ValueError(f"data.size={size} is not possible; choose 1 to 105")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, size, size)."""
        return 1, self.size, self.size

    def load(self) -> dict[str, Tensor]:
        """Reads the images, downloading them if that is needed and allowed.

        Raises:
            OSError: If they are not there and cannot be downloaded.
            ValueError: If the files are not those of Omniglot.
        """
        root = find_root(self.root, NEEDS, may_be_empty=self.download)
        fit, test = (self._ink(root, part) for part in PARTS)
        return {
            "train": fit[:, : DRAWERS - 2].flatten(0, 1),
            "val": fit[:, DRAWERS - 2 :].flatten(0, 1),
            "test": test.flatten(0, 1),
        }

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The number of the character among those of its part: ``{"character": (N,)}``."""
        self.setup()
        each = {"train": DRAWERS - 2, "val": 2, "test": DRAWERS}[split]
        return {"character": np.arange(len(self.splits[split])) // each}

    def _ink(self, root: Path, part: str) -> Tensor:
        """(characters, 20, 1, size, size), uint8, ink 255."""
        for path in (root / "omniglot" / f"{part}.npz", root / f"{part}.npz"):
            if path.is_file():
                return _read_npz(path, self.size)
        from torchvision import datasets

        background = part == "images_background"
        torchvision_set(datasets.Omniglot, self.root, self.download, NEEDS, background=background)
        folder = root / "omniglot-py" / part
        sources, _ = scan(folder)  # sorted: by alphabet, character and drawer
        if len(sources) != PARTS[part] * DRAWERS:
            raise ValueError(
                f"{str(folder)!r} holds {len(sources)} images and not {PARTS[part] * DRAWERS};"
                " delete it, to have it unpacked again"
            )
        paper = decode(
            folder, sources, Recipe(self.size, "L", convert=True), f"Omniglot {part}"
        ).images
        return torch.from_numpy(255 - np.array(paper)).unflatten(0, (-1, DRAWERS))


def _read_npz(path: Path, size: int) -> Tensor:
    check_readable(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            paper = archive["images"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {NEEDS}") from error
    if paper.dtype != np.bool_ or paper.ndim != 4 or paper.shape[1] != DRAWERS:
        raise ValueError(f"{path}: array 'images' is {paper.dtype} {paper.shape}; {NEEDS}")
    ink = [
        # a character at a time: all at once would be 1.4 GB of floats
        interpolate(
            torch.from_numpy(~character)[:, None].float(),
            size=(size, size),
            mode="bilinear",
            antialias=True,
        )
        .mul(255)
        .round()
        .to(torch.uint8)
        for character in paper
    ]
    return torch.stack(ink)
