"""``multibeta fit`` against pythae's BetaVAE and trainer, the same network, images and batches.

    python -m venv rivals && rivals/bin/pip install . pythae
    rivals/bin/python -m benchmarks.speed_pythae DATA_ROOT

The result is speed_pythae.json, with samples a second as ratios of interleaved trainings: the
conditioned model, and a model for β = 1, which is what pythae trains. DATA_ROOT holds
binarized_mnist/.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import BetaVAE, BetaVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor

from benchmarks.record import is_done, save
from benchmarks.speed import (
    FITS,
    NETWORKS,
    PAIRS,
    fit_seconds,
    in_torchs_layout,
    made,
    pictures,
    rates,
)
from multibeta.data.examples import read

COMMAND = "python -m benchmarks.speed_pythae DATA_ROOT"


class Encoder(BaseEncoder):
    """Our encoder, its output in pythae's names."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> ModelOutput:
        """Return mean and log-variance."""
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """Our decoder; pythae's Bernoulli takes probabilities."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> ModelOutput:
        """Return the probabilities."""
        return ModelOutput(reconstruction=self.network(z).sigmoid())


class Clock(TrainingCallback):
    """Takes the time of an epoch's steps."""

    seconds = 0.0

    def on_epoch_begin(self, training_config: Any, **kwargs: Any) -> None:
        """Start."""
        self._start = time.process_time()

    def on_epoch_end(self, training_config: Any, **kwargs: Any) -> None:
        """Stop."""
        Clock.seconds = time.process_time() - self._start


def pythae_seconds(network: str, images: Tensor, batch: int) -> float:
    """Return the seconds of one epoch of pythae's trainer."""
    plain = in_torchs_layout(made(NETWORKS[network](), (1, 28, 28), "none"))
    model = BetaVAE(
        BetaVAEConfig(
            input_dim=(1, 28, 28), latent_dim=plain.latent_dim, reconstruction_loss="bce", beta=1
        ),
        Encoder(plain.encoder),
        Decoder(plain.decoder),
    )
    with tempfile.TemporaryDirectory() as to, contextlib.redirect_stderr(io.StringIO()):
        # Its trainer does not clip gradients, and now and then diverged at our learning rate.
        settings = BaseTrainerConfig(
            output_dir=to, num_epochs=1, per_device_train_batch_size=batch, learning_rate=1e-4,
            no_cuda=True,
        )  # fmt: skip
        data = BaseDataset(read(images).x, torch.zeros(len(images)))
        BaseTrainer(model, data, training_config=settings, callbacks=[Clock()]).train()
    return Clock.seconds


def main() -> None:
    """Make the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", metavar="DATA_ROOT", help="the data's folder")
    given = parser.parse_args()
    if is_done("speed_pythae"):
        return
    logging.disable()
    found: dict[str, Any] = {}
    for case, (network, batch, steps) in FITS.items():
        images = pictures(given.root, case)
        rival = partial(pythae_seconds, network, images, batch)
        plain = ("--model.conditioning=none", "--model.betas=1")
        found[case] = {
            side: rates(
                {"fit": partial(fit_seconds, given.root, case, *options), "pythae": rival},
                batch * steps,
            )
            for side, options in {"one β": plain, "all β's": ()}.items()
        }
        print(case, found[case])
    save("speed_pythae", COMMAND, {"pythae": version("pythae"), "pairs": PAIRS, "cases": found})


if __name__ == "__main__":
    main()
