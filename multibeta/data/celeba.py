"""CelebA: aligned faces of celebrities, from the original JPEG files."""

__all__ = ["CelebA"]

from pathlib import Path

import numpy as np

from multibeta.data.base import SPLITS, ImageData
from multibeta.data.cache import Recipe, Source, decode, scan
from multibeta.data.roots import find_root

TOTAL = 202_599
NEEDS = (
    "CelebA needs img_align_celeba/ and list_eval_partition.txt in it, or in its folder celeba:"
    " get them from the official page, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Align &"
    " Cropped Images, and Train/Val/Test Partitions), and unpack them there; torchvision's"
    " download often fails on a quota"
)


class CelebA(ImageData):
    """CelebA, aligned and cropped, with the official split; as many images as are there.

    By default the protocol of the RAE paper (Ghosh et al. 2020, arXiv 1903.12436): the centre
    140×140, reduced to 64×64. The JPEGs are decoded once, into the cache folder.

    Args:
        root: Folder that holds img_align_celeba/ and list_eval_partition.txt, or celeba/ with
            them; by default $MULTIBETA_DATA, else the cache folder.
        batch_size: Number of images in a batch, on each process.
        flip: Whether to mirror training images left to right at random.
        crop: Side of the square cut from the centre of the 178×218 pixels.
        size: Height and width in pixels to which it is reduced.
        skip_corrupt: Whether to leave out corrupt files; else the first one is an error.

    Raises:
        ValueError: If size or crop is impossible.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        flip: bool = False,
        crop: int = 140,
        size: int = 64,
        skip_corrupt: bool = False,
    ) -> None:
        super().__init__(root, batch_size, flip)
        self.crop = crop
        self.size = size
        self.skip_corrupt = skip_corrupt
        self._recipe = Recipe(size, "RGB", crop, convert=True)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, size, size).

        Raises:
            FileNotFoundError: If CelebA is not in root.
        """
        self._folder()
        return self._recipe.shape

    @property
    def size_note(self) -> str:
        """How many of the 202,599 images there are; empty before the data are loaded."""
        count = sum(len(images) for images in self.splits.values())
        return f"{count:,} of {TOTAL:,} images" if count else ""

    def load(self) -> dict[str, np.memmap]:
        """Decodes the images, or opens the cache.

        Raises:
            FileNotFoundError: If CelebA is not in root.
            ValueError: If a set has no image, or an image is corrupt.
        """
        folder = self._folder()
        text = (folder / "list_eval_partition.txt").read_text()
        split_of = dict(line.split()[:2] for line in text.splitlines() if line.strip())
        parts: dict[str, list[Source]] = {name: [] for name in SPLITS}
        codes = dict(zip("012", SPLITS, strict=True))
        images = folder / "img_align_celeba"
        for source in scan(images):
            if source.name in split_of:
                parts[codes[split_of[source.name]]].append(source)
        for name, sources in parts.items():
            if not sources:
                raise ValueError(
                    f"{str(images)!r} has no image of the {name} set of list_eval_partition.txt"
                    f" ({', '.join(f'{key}: {len(part)}' for key, part in parts.items())}); put"
                    " JPEGs of all three sets there"
                )
        return {
            name: decode(images, sources, self._recipe, f"CelebA {name}", self.skip_corrupt)
            for name, sources in parts.items()
        }

    def _folder(self) -> Path:
        root = find_root(self.root, NEEDS)
        for folder in (root, root / "celeba"):
            if (folder / "img_align_celeba").is_dir() and (
                folder / "list_eval_partition.txt"
            ).is_file():
                return folder
        raise FileNotFoundError(f"CelebA is not in {str(root)!r}; {NEEDS}")
