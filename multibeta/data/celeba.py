"""CelebA: aligned faces of celebrities, from the original JPEG files."""

__all__ = ["CelebA"]

import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multibeta.data.base import ImageData
from multibeta.data.cache import Recipe, Source, check_whole, decode_sets, scan, told
from multibeta.data.roots import find_root
from multibeta.data.splits import SPLITS

TOTAL = 202_599
NEEDS = (
    "CelebA needs img_align_celeba/ and list_eval_partition.txt in it, or in its folder celeba:"
    " get them from the official page, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Align &"
    " Cropped Images, and Train/Val/Test Partitions), and unpack them there; torchvision's"
    " download often fails on a quota"
)


class CelebA(ImageData):
    """CelebA, aligned and cropped, with the official split; as many images as are there.

    The layouts of the official page (with its folders Img, Eval and Anno, or without), of
    torchvision and of Kaggle are read; the images may still be in img_align_celeba.zip.

    By default the protocol of the RAE paper (Ghosh et al. 2020, arXiv 1903.12436): the centre
    140×140, reduced to 64×64. The JPEGs are decoded once, into the cache folder.

    Args:
        root: Folder that holds img_align_celeba/ and list_eval_partition.txt, or celeba/ with
            them; by default $MULTIBETA_DATA, else the cache folder.
        batch_size: Number of images in a batch, on each process.
        flip: Whether to mirror training images left to right at random.
        crop: Side of the square cut from the centre of the 178×218 pixels.
        size: Height and width in pixels to which it is reduced.
        skip_corrupt: Whether to leave out corrupt files; else they are an error.

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
        self._left_out: Counter[str] = Counter()
        self._bad = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, size, size).

        Raises:
            FileNotFoundError: If CelebA is not in root.
        """
        self._files()
        return self._recipe.shape

    @property
    def size_note(self) -> str:
        """How many of the 202,599 images there are; empty before the data are loaded."""
        count = sum(len(images) for images in self.splits.values())
        parts = [f"{count:,} of {TOTAL:,} images", told(self._left_out)]
        return "; ".join(filter(None, parts)) if count else ""

    def load(self) -> dict[str, np.memmap]:
        """Decodes the images, or opens the cache.

        Raises:
            FileNotFoundError: If CelebA is not in root.
            ValueError: If a set has no image, or an image is corrupt.
        """
        images, partition, _ = self._files()
        parts, left_out = _sets(images, partition)
        for name, of_split in parts.items():
            if not of_split:
                raise ValueError(
                    f"{str(images)!r} has no image of the {name} set of {partition.name}"
                    f" ({', '.join(f'{key}: {len(part)}' for key, part in parts.items())}); put"
                    " JPEGs of all three sets there"
                )
        found, bad = decode_sets(images, parts, self._recipe, "CelebA", self.skip_corrupt)
        left_out.update(bad)
        self._bad = bad.total()
        self._left_out = left_out
        return found

    def attributes(self) -> tuple[list[str], dict[str, Tensor]]:
        """The names of the 40 attributes, and which of them each image has.

        Returns:
            The names; and set → (N, 40), bool, in the order of the images.

        Raises:
            FileNotFoundError: If there is no list_attr_celeba.txt or .csv.
            ValueError: If the list is damaged or lacks an image, or images were left out as
                corrupt.
        """
        images, partition, listed = self._files()
        if listed is None:
            raise FileNotFoundError(
                f"list_attr_celeba.txt is not beside {str(images)!r}; get it from the official"
                " page"
            )
        rows = _rows(listed)
        width = max(map(len, rows), default=0) - 1
        has = {row[0]: [v == "1" for v in row[1:]] for row in rows if row[0].endswith(".jpg")}
        heads = [row for row in rows if len(row) >= width > 1 and not row[0].endswith(".jpg")]
        parts, _ = _sets(images, partition)
        files = {k: [s.name.rpartition("/")[2] for s in of] for k, of in parts.items()}
        lacks = [name for of in files.values() for name in of if len(has.get(name, ())) != width]
        if not heads or lacks:
            raise ValueError(
                f"{listed} has no whole row of {lacks[0] if lacks else 'names'}; get it again"
            )
        if self._bad:
            raise ValueError("corrupt images were left out: which attributes are whose is unknown")
        found = {k: torch.tensor([has[name] for name in names]) for k, names in files.items()}
        return heads[0][-width:], found

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """The attributes, where their list is there: name → (N,), 0 or 1."""
        if self._files()[2] is None:
            return {}
        self.setup()
        names, has = self.attributes()
        return dict(zip(names, has[split].numpy().astype(np.int64).T, strict=True))

    def files(self, split: str) -> list[str]:
        """The names of the files.

        Raises:
            ValueError: If images were left out as corrupt.
        """
        self.setup()
        check_whole(self._bad)
        images, partition, _ = self._files()
        return [source.name.rpartition("/")[2] for source in _sets(images, partition)[0][split]]

    def _files(self) -> tuple[Path, Path, Path | None]:
        """The folder or archive of the images, the file of the partition, that of attributes."""
        root = find_root(self.root, NEEDS)
        for folder in (root, root / "celeba"):
            places = [folder, *(folder / name for name in ("Img", "Eval", "Anno"))]
            images = _first(Path.is_dir, [place / "img_align_celeba" for place in places])
            archive = _first(Path.is_file, [place / "img_align_celeba.zip" for place in places])
            partition, attributes = (
                _first(Path.is_file, [place / f"{name}.{of}" for place in places for of in _LISTS])
                for name in ("list_eval_partition", "list_attr_celeba")
            )
            if archive is not None and images is None:
                _refuse_page(archive)
                if not zipfile.is_zipfile(archive):
                    raise ValueError(f"{archive} is no zip archive, or cut off; get it again")
            found = images or archive
            if found is not None and partition is not None:
                return found, partition, attributes
        raise FileNotFoundError(f"CelebA is not in {str(root)!r}; {NEEDS}")


_LISTS = ("txt", "csv")


def _first(test: Callable[[Path], bool], paths: list[Path]) -> Path | None:
    return next(filter(test, paths), None)


def _sets(images: Path, partition: Path) -> tuple[dict[str, list[Source]], Counter[str]]:
    """The files of each set, and how many were left out, by reason."""
    split_of = _partition(partition)
    parts: dict[str, list[Source]] = {name: [] for name in SPLITS}
    sources, left_out = scan(images)
    for source in sources:
        name = source.name.rpartition("/")[2]
        if name in split_of:
            parts[split_of[name]].append(source)
        else:
            left_out["not in the partition"] += 1
    return parts, left_out


def _partition(path: Path) -> dict[str, str]:
    """File name → set, of list_eval_partition.txt or Kaggle's .csv."""
    codes = dict(zip("012", SPLITS, strict=True))
    rows = _rows(path)
    found = {row[0]: codes[row[1]] for row in rows if len(row) == 2 and row[1] in codes}
    if not found:
        raise ValueError(f"{path} holds no lines such as '000001.jpg 0'; get it again")
    return found


def _rows(path: Path) -> list[list[str]]:
    """The lines of the official .txt or Kaggle's .csv, in words."""
    _refuse_page(path)
    lines = path.read_text().splitlines()
    return [words for line in lines if (words := line.replace(",", " ").split())]


def _refuse_page(path: Path) -> None:
    """Refuse a web page in the place of a file, as a download leaves where a quota is used up."""
    with path.open("rb") as file:
        if file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html")):
            raise ValueError(
                f"{path} is a web page, such as Google Drive shows when its quota is used up, and"
                " not the file; get it again, in a browser or tomorrow"
            )
