r"""LeNet, an extractor for MNIST that was trained on MNIST; Inception never saw digits.

As a script it prints the accuracy of a file of weights on MNIST's test set::

    python -m benchmarks.lenet lenet_mnist_cnn.pt --root DATA

and FID uses it by its class path::

    multibeta curve RUN --metrics frechet --settings.frechet.extractor benchmarks.lenet.LeNet \
        --settings.frechet.weights lenet_mnist_cnn.pt
"""

from __future__ import annotations

import argparse
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multibeta.metrics.extractors import Extractor

__all__ = ["LeNet"]

_MEAN, _STD, _SIDE = 0.1307, 0.3081, 32


class LeNet(Extractor):
    """LeNet-5 with ReLU and max-pooling; its features are the 84 before the last layer.

    Args:
        weights: A file with its state dict: ``convnet.c1``, ``c3``, ``c5``, ``fc.f6`` and ``f7``.

    References:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition".
    """

    features = 84

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.weights = weights
        self.convnet = nn.Sequential(
            OrderedDict(
                c1=nn.Conv2d(1, 6, 5), relu1=nn.ReLU(), s2=nn.MaxPool2d(2),
                c3=nn.Conv2d(6, 16, 5), relu3=nn.ReLU(), s4=nn.MaxPool2d(2),
                c5=nn.Conv2d(16, 120, 5), relu5=nn.ReLU(),
            )
        )  # fmt: skip
        self.fc = nn.Sequential(
            OrderedDict(f6=nn.Linear(120, 84), relu6=nn.ReLU(), f7=nn.Linear(84, 10))
        )
        self.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def describe(self) -> str:
        """Return the network and the resizing."""
        return f"LeNet-5 (MNIST), {self.features} features, resized to 32×32 (bilinear)"

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 84) of pictures x: (B, 1, H, W), uint8."""
        x = F.interpolate(x.float() / 255, size=(_SIDE, _SIDE), mode="bilinear")
        return self.fc[:2](self.convnet((x - _MEAN) / _STD).flatten(1))

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of the ten digits: (B, 10)."""
        return self.fc[2](self(x))


def main() -> None:
    """Print the accuracy."""
    from torchvision.datasets import MNIST

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("weights")
    parser.add_argument("--root", required=True)
    arguments = parser.parse_args()
    network = LeNet(arguments.weights).eval()
    test = MNIST(arguments.root, train=False)
    with torch.no_grad():
        found = torch.cat([network.logits(x[:, None]).argmax(1) for x in test.data.split(500)])
    print(f"accuracy {(found == test.targets).double().mean().item():.4f}")


if __name__ == "__main__":
    main()
