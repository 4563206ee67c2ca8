"""Networks that turn pictures into features, between which FID and KID measure."""

from __future__ import annotations

import hashlib
import inspect
import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multibeta.files import check_readable
from multibeta.specs import build

__all__ = ["WEIGHTS_URL", "Extractor", "Inception", "extractor_of"]

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
"""The weights of the Inception network that FID is defined by, converted by torch-fidelity."""


class Extractor(nn.Module):
    """The base of all extractors: it takes 8-bit pictures and does any resizing itself.

    One of your own is a subclass with ``features``, ``describe`` and ``forward``, named by its
    class path; its arguments are plain values.
    """

    features: int
    """The number F of features of a picture."""

    def describe(self) -> str:
        """Return what it is, with the size that it resizes pictures to: text for result files."""
        raise NotImplementedError(f"{type(self).__name__} must define describe")

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, F) of pictures x: (B, C, H, W), uint8."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def digest(self) -> str:
        """Return a hash of the class, its description and its weights."""
        cls = type(self)
        found = hashlib.sha256(f"{cls.__module__}.{cls.__qualname__} {self.describe()}".encode())
        try:
            found.update(inspect.getsource(cls).encode())
        except (OSError, TypeError):  # a class typed into a console
            pass
        for name, value in self.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            # As bytes: numpy has no bfloat16.
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return found.hexdigest()


class Inception(Extractor):
    """The Inception network of published FID values, by torch-fidelity.

    It resizes to 299×299 as TensorFlow 1 did (bilinear, no antialiasing). Grey pictures are
    repeated for the three colours.

    Args:
        weights: A file of weights; None for torch-fidelity's own, in torch's hub folder, which
            are downloaded (95 MB) if they are not there.
        features: The layer, by its number of features: 2048, on which FID is defined, or 768,
            192 or 64, which need fewer examples and give other values.

    Raises:
        ValueError: If there are no such weights and they cannot be downloaded, the file holds
            something else, or there is no such layer.

    References:
        Heusel et al. 2017, arXiv 1706.08500.
    """

    def __init__(self, weights: str | None = None, features: int = 2048) -> None:
        super().__init__()
        if features not in (64, 192, 768, 2048):
            raise ValueError(f"features={features} is no layer; allowed: 64, 192, 768, 2048")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.weights = weights
        self.features = features
        # Its constructor would read the file without weights_only; so it reads a clean copy.
        copy = io.BytesIO()
        torch.save(_state_dict(weights), copy)
        copy.seek(0)
        try:
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(features)], feature_extractor_weights_path=copy
            )
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"{self.file(weights)} does not hold torch-fidelity's Inception "
                f"({_line(error)[:120]}); get it from {WEIGHTS_URL}"
            ) from None

    @staticmethod
    def file(weights: str | None = None) -> Path:
        """Return where the weights are, or are to be put."""
        if weights is not None:
            return Path(weights).expanduser()
        return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_URL.rpartition("/")[2]

    def describe(self) -> str:
        """Return the network, the layer and the resizing."""
        return (
            f"InceptionV3 (torch-fidelity), {self.features} features, resized to 299×299 "
            "(TensorFlow 1 bilinear)"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, F) of pictures x: (B, 1 or 3, H, W), uint8.

        Raises:
            ValueError: If the pictures have another number of channels.
        """
        if x.shape[1] not in (1, 3):
            raise ValueError(
                f"Inception takes grey or RGB pictures, not {x.shape[1]} channels; give an "
                "extractor of your own by its class path"
            )
        return self.network(x.expand(-1, 3, -1, -1))[0]


def extractor_of(
    spec: Extractor | str | dict[str, Any] | None = None, weights: str | None = None
) -> Extractor:
    """Return an extractor that is ready to use.

    Args:
        spec: One, ``"package.module.Class"`` or ``{"class_path": …, "init_args": {…}}``;
            :class:`Inception` by default.
        weights: A file of weights, an argument of the class.

    Raises:
        ValueError: If the class cannot be found or refuses the arguments.
    """
    if not isinstance(spec, Extractor):
        given = {} if weights is None else {"weights": weights}
        spec = Inception(weights) if spec is None else build(spec, Extractor, **given)
    return spec.eval().requires_grad_(False)


def _state_dict(weights: str | None) -> dict[str, Any]:
    """Read Inception's weights; torch-fidelity's own are downloaded where they are not."""
    path = Inception.file(weights)
    if weights is None and not path.is_file():
        try:
            torch.hub.load_state_dict_from_url(WEIGHTS_URL, map_location="cpu", check_hash=True)
        except (OSError, RuntimeError) as error:  # a URLError is an OSError
            raise ValueError(
                f"Inception's weights are not at {path} and cannot be downloaded "
                f"({_line(error)}); put {WEIGHTS_URL} there, or give the file as weights"
            ) from None
    if not path.is_file():
        raise ValueError(
            f"weights={weights} is not a file; download {WEIGHTS_URL} and give its path as "
            f"weights, or put it at {Inception.file()} and leave weights out"
        )
    check_readable(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} cannot be read as weights ({_line(error)[:120]}); get {WEIGHTS_URL} again"
        ) from None


def _line(error: Exception) -> str:
    """Return the message of an error, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
