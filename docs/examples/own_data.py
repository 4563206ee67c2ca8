"""A data set of one's own: grey disks of random place and radius."""

import torch
from torch import Tensor

from multibeta.data import ImageData


class Disks(ImageData):
    """White disks on black, 1×side×side.

    Args:
        side: Height and width in pixels.
        count: Number of training images.
        batch_size: Number of images in a batch.
    """

    def __init__(self, side: int = 16, count: int = 2000, batch_size: int = 128) -> None:
        super().__init__(batch_size=batch_size)
        self.side = side  # every argument is kept under its own name: checkpoints read it there
        self.count = count

    @property
    def shape(self) -> tuple[int, int, int]:
        """Known before any data is read."""
        return 1, self.side, self.side

    def load(self) -> dict[str, Tensor]:
        """The three sets, (N, C, H, W): uint8, or float32."""
        generator = torch.Generator().manual_seed(0)
        axis = torch.arange(self.side) / self.side

        def draw(n: int) -> Tensor:
            y, x, radius = torch.rand(3, n, 1, 1, generator=generator)
            squared = (axis[:, None] - y) ** 2 + (axis - x) ** 2
            return (squared < (0.1 + 0.3 * radius) ** 2)[:, None].to(torch.uint8) * 255

        return {"train": draw(self.count), "val": draw(200), "test": draw(200)}
