"""Feature extractors for tests, named by their class paths."""

import torch

from multibeta.metrics import Extractor


class Corners(Extractor):
    """Four pixels; it counts the pictures that it has seen."""

    features = 4
    seen = 0

    def __init__(self, gain: float = 1.0, weights: str | None = None) -> None:
        super().__init__()
        self.register_buffer("gain", torch.tensor(gain))

    def describe(self):
        return "four pixels, not resized"

    def forward(self, x):
        assert x.dtype == torch.uint8
        type(self).seen += len(x)
        return x[:, 0, 2:4, 2:4].flatten(1) * self.gain / 255


class Wrong(Corners):
    """Says that it has more features than it has."""

    features = 5


class Blocks(Extractor):
    """The means of the 4×4 blocks that a picture has."""

    features = 16

    def describe(self):
        return "means of 4×4 blocks"

    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(x.float() / 255, 4).flatten(1)
