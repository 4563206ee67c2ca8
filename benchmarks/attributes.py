r"""A small network that knows CelebA's 40 attributes: for FID, where Inception is not at hand.

    python -m benchmarks.attributes DATA_ROOT

It is trained on the training faces at 64×64 and measured on the test faces: attributes.json has
its accuracy beside that of always guessing the commoner value. Its features are a stand-in: they
order models of faces, and its distances are no FID. The metric frechet takes it::

    multibeta curve RUN --metrics frechet \
        --settings.frechet.extractor benchmarks.attributes.Attributes \
        --settings.frechet.weights runs/benchmarks/attributes.pt

DATA_ROOT holds celeba/ with list_attr_celeba.txt.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.record import RESULTS, is_done, save
from multibeta.data import CelebA
from multibeta.files import replacing
from multibeta.metrics.extractors import Extractor

__all__ = ["Attributes", "train"]

COMMAND = "python -m benchmarks.attributes DATA_ROOT"
EPOCHS, BATCH, LR, SEED = 20, 64, 2e-3, 0
_SIDE, _ATTRIBUTES = 64, 40


class Attributes(Extractor):
    """Four convolutions with batch norm; its features are the 64 before the last layer.

    Args:
        weights: A file with its state dict; None for random ones, to be trained.
    """

    features = 64

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.weights = weights
        widths = (3, 32, 64, 128, 128)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(16 * widths[-1], self.features),
            nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(self.features, _ATTRIBUTES)
        if weights is not None:
            self.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def describe(self) -> str:
        """Return the network and the resizing."""
        return f"CelebA's attributes, {self.features} features, resized to 64×64 (bilinear)"

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 64) of pictures x: (B, 3, H, W), uint8."""
        pictures = x.float() / 255
        if pictures.shape[-2:] != (_SIDE, _SIDE):
            pictures = F.interpolate(pictures, size=(_SIDE, _SIDE), mode="bilinear")
        return self.body((pictures - 0.5) / 0.25)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of the attributes: (B, 40)."""
        return self.head(self(x))


def train(root: str, weights: Path, results: Path = RESULTS, steps: int | None = None) -> None:
    """Train the network, keep its weights and what it knows of the test faces.

    Args:
        root: The data's folder.
        weights: The file of the weights.
        results: The folder of attributes.json.
        steps: How many, if not 20 epochs.
    """
    data = CelebA(root, batch_size=BATCH, flip=True)
    data.setup()
    wanted = {name: has.float() for name, has in data.attributes()[1].items()}
    torch.manual_seed(SEED)
    network, faces = Attributes(), data.splits["train"]
    total = steps or EPOCHS * (len(faces) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=total)
    start, done = time.perf_counter(), 0
    while done < total:
        for rows in torch.randperm(len(faces)).split(BATCH)[: total - done]:
            rows = rows.sort().values  # a memory map is read fastest in ascending order
            x = torch.as_tensor(faces[rows.numpy()])
            flipped = torch.rand(len(x), 1, 1, 1) < 0.5
            x = _shifted(torch.where(flipped, x.flip(-1), x))
            loss = F.binary_cross_entropy_with_logits(network.logits(x), wanted["train"][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
    seconds = time.perf_counter() - start
    network.eval()
    with torch.no_grad():
        found = torch.cat([network.logits(x) > 0 for x in data.ordered("test")]).float()
    right = (found == wanted["test"]).double().mean(0)
    commoner = (wanted["train"].mean(0) > 0.5).float()
    guessed = (commoner == wanted["test"]).double().mean(0)
    weights.parent.mkdir(parents=True, exist_ok=True)
    with replacing(weights) as temporary:
        torch.save(network.state_dict(), temporary)
    save(
        "attributes",
        COMMAND,
        {
            "extractor": network.describe(),
            "extractor_sha256": network.digest(),
            "train_examples": len(faces),
            "test_examples": len(found),
            "steps": total,
            "seconds": round(seconds, 1),
            "accuracy": right.mean().item(),
            "accuracy_of_the_commoner_value": guessed.mean().item(),
            "attributes_better_than_the_commoner_value": int((right > guessed).sum()),
        },
        results,
    )


def _shifted(x: Tensor, most: int = 3) -> Tensor:
    """Move a batch by up to a few pixels, its edges repeated."""
    padded = F.pad(x.float(), (most,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * most + 1, (2,)).tolist()
    return padded[..., top : top + x.shape[-2], left : left + x.shape[-1]]


def main() -> None:
    """Train it, if that is not done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", metavar="DATA_ROOT", help="the data's folder")
    given = parser.parse_args()
    weights = Path("runs/benchmarks/attributes.pt")
    if not (is_done("attributes") and weights.is_file()):
        train(given.root, weights)


if __name__ == "__main__":
    main()
