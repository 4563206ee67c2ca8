"""What several tests use: small runs of the command line."""

import math
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from PIL import Image

from multibeta import callbacks, costs
from multibeta.cli import main
from multibeta.curve import Curve
from multibeta.plots import drawing

DRAWING = {
    (drawing, "save"): drawing.save,
    (callbacks, "save_pictures"): callbacks.save_pictures,
}
"""What draws the pictures of a run."""

PAIRS = costs._PAIRS
"""How many steps of a dedicated model are timed at the end of a run."""


def draw_nothing():
    """Keep a dot for each picture of a curve, and draw no others of a run."""

    def dot(_, path):
        """Write one pixel, or an empty file where there are none."""
        if Path(path).suffix == ".png":
            Image.new("L", (1, 1)).save(path)
        else:
            Path(path).touch()

    def nothing(*_):
        """Draw nothing."""

    drawing.save = dot
    callbacks.save_pictures = nothing


LAID_OUT = Curve.draw_pictures
"""What lays out the pictures of a curve."""


def dots(curve, folder):
    """Keep a dot for each picture of a curve, without laying it out."""
    if curve.latents:
        LAID_OUT(curve, folder)
        return
    for name in ("curve", *["plane"] * (curve.swept == "beta")):
        drawing.save(None, Path(folder) / f"{name}.png")


SMALL = [
    "--data.batch_size=64",
    "--model.network.width=16",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--curve.betas=0.01:10:4",
]

STOPS = (
    "--trainer.callbacks+={class_path: EarlyStopping, init_args: "
    "{monitor: val/curve_nats, patience: 0, stopping_threshold: 1.0e+9}}"
)
"""Ends a training after its first epoch."""


def fit_digits(root, *options):
    """Run a small fit by the command line; return the run's folder."""
    root = Path(root)
    assert main(["fit", *SMALL, f"--trainer.default_root_dir={root}", *options]) == 0
    return newest(root)


def newest(root):
    return max(root.glob("*/*"), key=lambda folder: folder.stat().st_mtime_ns)


def weights(run, name="last"):
    path = Path(run) / "checkpoints" / f"{name}.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


def refused(data, error=ValueError):
    """Return the message of the error that loading raises: one line."""
    with pytest.raises(error) as info:
        data.setup()
    message = str(info.value)
    assert "\n" not in message
    return message


class OwnEncoder(torch.nn.Sequential):
    """An encoder as a user writes one."""

    def __init__(self, shape, latent_dim, width) -> None:
        super().__init__(
            torch.nn.Flatten(), torch.nn.Linear(math.prod(shape), width), torch.nn.Tanh(),
            torch.nn.Linear(width, 2 * latent_dim),
        )  # fmt: skip


class OwnDecoder(torch.nn.Sequential):
    """Its decoder."""

    def __init__(self, shape, latent_dim, outputs) -> None:
        super().__init__(
            torch.nn.Linear(latent_dim, outputs * math.prod(shape)),
            torch.nn.Unflatten(1, (outputs * shape[0], *shape[1:])),
        )


class OwnConditionalEncoder(torch.nn.Module):
    """An encoder that is told a label, a whole number below 10."""

    def __init__(self, shape, latent_dim) -> None:
        super().__init__()
        self.net = OwnEncoder(shape, latent_dim, 16)
        self.told = torch.nn.Embedding(10, 2 * latent_dim)

    def forward(self, x, digit):
        return self.net(x) + self.told(digit)


class OwnConditionalDecoder(torch.nn.Module):
    """Its decoder."""

    def __init__(self, shape, latent_dim, outputs) -> None:
        super().__init__()
        self.net = OwnDecoder(shape, latent_dim, outputs)
        self.told = torch.nn.Embedding(10, latent_dim)

    def forward(self, z, digit):
        return self.net(z + self.told(digit))


def l1(x_hat, x):
    """A distortion as a user writes one."""
    return (x_hat - x).abs().flatten(1).sum(1)


class Noise(LightningDataModule):
    """A data module that is not one of the package's."""

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        self.side = side
        self.shape = (1, side, side)

    def _loader(self):
        return torch.utils.data.DataLoader(torch.rand(20, *self.shape), batch_size=10)

    train_dataloader = val_dataloader = test_dataloader = _loader


class Shapeless(LightningDataModule):
    """A data module that does not say its shape."""


class InterruptAt(Callback):
    """Presses Ctrl-C, or sends another signal, while a step is under way."""

    def __init__(self, step: int, number: int = 2) -> None:
        self.step, self.number = step, number

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


class Spoil(Callback):
    """Makes the weights worse before the last step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == trainer.estimated_stepping_batches - 1:
            for weight in pl_module.vae.decoder.parameters():
                weight.data.mul_(3)


class HarmAt(Callback):
    """Takes the decoder's weights to three times what they are, at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            for parameter in pl_module.vae.decoder.parameters():
                parameter.data *= 3


class DivergeAt(Callback):
    """Makes the weights NaN at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            next(pl_module.vae.encoder.parameters()).data.fill_(torch.nan)
