"""How near samples and reconstructions are to the real pictures, by features of a network."""

from __future__ import annotations

import hashlib
import math
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from multibeta.data.batches import gathered, rank_and_world
from multibeta.data.roots import cache_dir
from multibeta.files import replacing
from multibeta.metrics.base import Codes, Evaluated, Source, mean_and_se
from multibeta.metrics.extractors import EfficientNetLite0, Extractor, Values, extractor_of
from multibeta.metrics.features import (
    Features,
    feature_distance,
    frechet,
    frechet_at_infinity,
    kernel_distance,
    moments,
    neighbourhoods,
)
from multibeta.noise import seeded
from multibeta.priors import fit_flow, fit_gmm
from multibeta.vae import BetaVAE

__all__ = ["Frechet", "Real", "to_8_bits"]

_BATCH = 100
_AT_ONCE = 8  # on a processor, where larger layers are given back to the system after each call
# Far from the seeds of the posterior's noise, which are numbers of batches and these plus 2**30,
# and within the 32 bits that a generator on the CPU reads.
_SEED = 2**31
STREAMS = ("prior", "gmm", "reconstruction", "standardised", "flow")
"""The kinds of pictures that there are."""


@dataclass(frozen=True)
class Real:
    """The real pictures, as every β is compared with them.

    Args:
        features: (N, F).
        mean: Their mean, float64: (F,).
        covariance: Their covariance, float64: (F, F).
        about: Which pictures, and features of what kind.
    """

    features: Tensor
    mean: Tensor
    covariance: Tensor
    about: dict[str, Any]


class Frechet(Codes):
    """How near sets of pictures are to the real ones, by features of a network.

    - *prior*: p(x|z) for z from N(0, I);
    - *standardised*: p(x|z) for z from N(m, diag V), the moments of the codes measured
      (:meth:`~multibeta.vae.BetaVAE.standardised`);
    - *gmm*: p(x|z) for z from a mixture of Gaussians, fitted to samples of q(z|x) for the
      examples measured (:func:`~multibeta.priors.fit_gmm`);
    - *flow*: p(x|z) for z from a flow, fitted to samples of q(z|x) for the training set
      (:func:`~multibeta.priors.fit_flow`);
    - *reconstruction*: p(x|z) for z the mean of q(z|x), for the examples measured.

    Of p(x|z) the mean is taken, as is usual of pictures, or a sample. Pictures are clamped to
    [0, 1] and rounded to 8 bits, never stretched. Of what is no picture the values of x are the
    features, and a sample of p(x|z) is taken. Every β has the same noise. The features of the real
    pictures are computed once for all β's, and kept in the cache folder.

    Measured are Fréchet's distance (:func:`~multibeta.metrics.features.frechet`), a kernel's
    (:func:`~multibeta.metrics.features.kernel_distance`), of samples also precision, recall,
    density and coverage (:func:`~multibeta.metrics.features.neighbourhoods`), and the mean
    distance of a picture to its reconstruction
    (:func:`~multibeta.metrics.features.feature_distance`).

    The values belong to the extractor: they are no FID, and another extractor gives others.

    Args:
        vae: The model at the β that is measured.
        extractor: An :class:`~multibeta.metrics.extractors.Extractor`, its class, its class path,
            or ``{"class_path": …, "init_args": {…}}``; EfficientNet-Lite0 by default, of what is
            no picture :class:`~multibeta.metrics.extractors.Values`.
        weights: A file of weights for it, where it takes one.
        samples: How many pictures of all kinds but reconstructions; by default as many as real
            ones.
        most: How many examples to use, the first ones.
        components: The number of components of the mixture.
        decoder: "mean" or "sample" of p(x|z); by default the mean of pictures, a sample of others.
        kernel: Whether to measure the kernel distance, which compares all pairs of pictures.
        neighbours: The k of precision, recall, density and coverage, which compare all pairs too;
            0 leaves them out.
        infinity: Whether to extrapolate Fréchet's distance to infinitely many pictures
            (:func:`~multibeta.metrics.features.frechet_at_infinity`).
        streams: Which kinds, of :data:`STREAMS`.
        fitted: How many examples of the training set the flow is fitted to, spread over the set;
            where there is no such set, to those measured.
        real: What :meth:`prepare` found.
        source: What is measured on.

    Raises:
        ValueError: If a setting is out of range, or networks take more than x and z.

    References:
        Heusel et al. 2017, arXiv 1706.08500; Bińkowski et al. 2018, arXiv 1801.01401; Chong &
        Forsyth 2020, arXiv 1911.07023; Kynkäänniemi et al. 2019, arXiv 1904.06991; Naeem et al.
        2020, arXiv 2002.09797; for the mixture Ghosh et al. 2020, arXiv 1903.12436.
    """

    network: ClassVar[type[Extractor]] = EfficientNetLite0
    """The extractor by default."""

    names: ClassVar[tuple[str, str]] = ("fd", "kd")
    """What the columns of the two distances begin with."""

    def __init__(
        self,
        vae: BetaVAE,
        extractor: Extractor | type[Extractor] | str | dict[str, Any] | None = None,
        weights: str | None = None,
        samples: int | None = None,
        most: int = 10_000,
        components: int = 10,
        decoder: str | None = None,
        kernel: bool = True,
        neighbours: int = 5,
        infinity: bool = True,
        streams: Sequence[str] | str = STREAMS[:3],
        fitted: int = 10_000,
        *,
        real: Real | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__(vae, most)
        self.streams = _kinds(streams)
        _check(samples, most, components, decoder, neighbours, fitted)
        # In a tuple, so that it is no part of the metric's own state.
        self._extractor = (self.extractor_of(extractor, weights),)
        self._source = (source,)
        self.samples = samples
        self.components = components
        self.decoder = decoder or ("sample" if self._extractor[0].values else "mean")
        self.kernel = kernel
        self.neighbours = neighbours
        self.infinity = infinity
        self.fitted = fitted
        self.real = real
        self._row: dict[str, float] = {}
        self._flow = ""

    @classmethod
    def extractor_of(
        cls, spec: Extractor | type[Extractor] | str | dict[str, Any] | None, weights: str | None
    ) -> Extractor:
        """Return the extractor that a setting names."""
        return extractor_of(cls.network if spec is None else spec, weights)

    @classmethod
    def lacks(cls, data: object) -> str | None:
        """Return that the data has values that no picture has, if so."""
        value_range = getattr(data, "value_range", None)
        if value_range is not None and len(getattr(data, "shape", ())) in (0, 3):
            low, high = value_range
            if low < 0 or high > 1:
                return f"it takes pictures in [0, 1]; these have values in [{low:g}, {high:g}]"
        return None

    needs = "it takes long; ask for it by name"

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Return False: it has to be asked for."""
        return False

    @classmethod
    def prepare(cls, source: Source, settings: dict[str, Any]) -> dict[str, Any]:
        """Make the extractor, and the real pictures' features, or find these in the cache.

        Warns if there are fewer pictures than features.

        Args:
            source: What will be measured on.
            settings: Arguments of the metric.

        Raises:
            ValueError: If a setting is out of range, the weights are missing, or the data has
                no pictures, or not in [0, 1].
        """
        given = dict(settings)
        checked = {name: given.get(name, value) for name, value in _DEFAULTS.items()}
        _check(**checked)
        spec, weights = given.pop("extractor", None), given.pop("weights", None)
        if spec is None and (shape := next(iter(source.pictures())).shape[1:]) and len(shape) != 3:
            spec = Values(math.prod(shape))
        extractor = cls.extractor_of(spec, weights)
        _kinds(given.get("streams", STREAMS[:3]))
        found = _real_features(extractor, source, checked["most"])
        n, f = min(len(found), checked["samples"] or len(found)), extractor.features
        if n < f and rank_and_world()[0] == 0:
            fd, kd = cls.names
            warnings.warn(
                f"{fd} of {n:,} pictures by {f:,} features: with fewer pictures than features it "
                f"is far too high; measure {f:,} or more, or look at {kd}, which has no bias",
                stacklevel=2,
            )
        about = {
            "extractor": extractor.describe(),
            "extractor_sha256": extractor.digest(),
            "split": source.split,
            "crop": getattr(source.data, "crop", None),
            "examples": len(found),
        }
        real = Real(found, *moments(found), about)
        return {**given, "extractor": extractor, "real": real, "source": source}

    def update(self, batch: Evaluated) -> None:
        """Keep the codes of a batch.

        Raises:
            ValueError: If networks take more than x and z: nobody says what of samples.
        """
        if batch.inputs:
            raise ValueError(
                f"metric {type(self).__name__.lower()} cannot be measured: the networks take "
                f"{', '.join(batch.inputs)} beside x and z, which samples have not"
            )
        super().update(batch)

    @torch.no_grad()
    def finish(self) -> None:
        """Make the pictures, this process's share of them, and compare their features.

        Raises:
            ValueError: If there is nothing to compare with, or codes or pictures are not finite.
        """
        if self.real is None:
            raise ValueError(
                f"{type(self).__name__} has no real pictures to compare with; measure it by "
                f"multibeta.sweep, or make it with what {type(self).__name__}.prepare returns"
            )
        z, mean, std = self.codes() if self._is_synced else self.gathered()
        n = self.samples or len(z)
        noise = [torch.Generator().manual_seed(_SEED + i) for i in range(2)]
        of_prior = torch.randn(n, z.shape[1], generator=noise[0])
        real, row = self.real, {}
        try:
            codes: dict[str, Tensor] = {}
            for name in self.streams:
                if name == "prior":
                    codes[name] = of_prior
                elif name == "standardised":
                    scale = (mean.var(0, correction=0) + std.square().mean(0)).sqrt()
                    codes[name] = mean.mean(0) + scale * of_prior.to(mean)
                elif name == "gmm":
                    codes[name] = fit_gmm(z, self.components).sample((n,), generator=noise[1])
                elif name == "flow":
                    flow = fit_flow(self._trained_on(z))
                    row["flow_loss"] = flow.loss
                    start = torch.Generator().manual_seed(_SEED)
                    codes[name] = flow.sample((n,), generator=start)
                else:
                    codes[name] = mean
            features = {name: self._features(name, of) for name, of in codes.items()}
        except ValueError as error:
            raise ValueError(f"pictures at β = {self.vae.beta:g}: {error}") from None
        fd, kd = self.names
        for name, of in features.items():
            paired = name == "reconstruction"
            column = f"{fd}_{name}"
            row[column], se = frechet(
                of, real.features, of_others=(real.mean, real.covariance), paired=paired
            )
            row[f"{column}_se"] = se
            if self.infinity:
                infinite = frechet_at_infinity(of, real.features, row[column], paired=paired)
                row[f"{fd}_inf_{name}"] = infinite
                row[f"{column}_bound"] = -float(row[column] - infinite > se)
        for name, of in features.items() if self.kernel else ():
            value, se = kernel_distance(of, real.features, paired=name == "reconstruction")
            row |= {f"{kd}_{name}": value, f"{kd}_{name}_se": se}
        for name, of in features.items() if self.neighbours else ():
            if name == "reconstruction":
                continue
            found = neighbourhoods(of, real.features, self.neighbours)
            for measure, values in found.items():
                row |= _mean(f"{measure}_{name}", values)
        if self.neighbours and "reconstruction" in features:
            row |= _mean(
                "feature_distance", feature_distance(features["reconstruction"], real.features)
            )
        self._row = {
            **row,
            f"{fd}_examples": float(len(z)),
            f"{fd}_features": float(real.features.shape[1]),
        }

    def compute(self) -> dict[str, float]:
        """Return the distances.

        Returns:
            ``fd_prior, fd_gmm, fd_reconstruction``, and so on for each of the streams, with
            ``…_se``; of a flow ``flow_loss`` (:func:`~multibeta.priors.fit_flow`); with
            ``infinity`` ``fd_inf_…`` and ``fd_…_bound``: −1 where ``fd_…`` is above it by more
            than the standard error, so that the true value is lower; with ``kernel`` ``kd_prior,
            kd_gmm, kd_reconstruction``, with ``…_se``; with ``neighbours`` ``precision_…,
            recall_…, density_…, coverage_…`` of samples, and ``feature_distance``, with ``…_se``
            over the samples or the real pictures, the others held fast; ``fd_examples`` and
            ``fd_features``. All distances are nan for one example.
        """
        if not self._row:
            self.finish()
        return self._row

    def about(self) -> dict[str, Any]:
        """Return extractor, resizing, examples, split, crop, decoder and mixture."""
        real = self.real.about if self.real else {}
        gmm = f"{self.components} components with full covariances, fitted to posterior samples"
        of_streams = {
            "gmm": f"{gmm} of the examples",
            "reconstruction": "from the posterior mean",
            "standardised": "by the moments of the codes of the examples",
            "flow": self._flow,
        }
        pictures = {"pictures": "clamped to [0, 1], rounded to 8 bits"}
        return {
            **real,
            "samples": self.samples or real.get("examples"),
            "decoder": self.decoder,
            **({} if self._extractor[0].values else pictures),
            **{name: said for name, said in of_streams.items() if name in self.streams},
            **({"neighbours": self.neighbours} if self.neighbours else {}),
        }

    def _trained_on(self, z: Tensor) -> Tensor:
        """Return samples of the codes of the training set; where there is none, those measured."""
        (source,) = self._source
        found = None
        if source is not None and source.split != "train":
            found = source.codes(self.vae, "train", self.fitted)
        if found is None:
            self._flow = "fitted to posterior samples of the examples: there is no training set"
            return z
        self._flow = f"fitted to posterior samples of {len(found):,} training examples"
        mean, std = (torch.from_numpy(of[0]).flatten(1) for of in (found.mean, found.std))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(_SEED + 2))
        return (mean + std * noise).to(z.device)

    def _features(self, stream: str, codes: Tensor) -> Tensor:
        """Return the features of the pictures that codes (n, Z) stand for: (n, F)."""
        (extractor,) = self._extractor
        weight = next(self.vae.parameters())
        rank, world = rank_and_world()
        found = _collector(extractor, self.device)
        for place, z in enumerate(codes.split(_BATCH)):
            if place % world != rank:
                continue
            p = self.vae.decode(z.to(weight).reshape(-1, *self.vae.latent_shape))
            if self.decoder == "mean":
                x = p.mean
            else:
                with seeded(_SEED + (STREAMS.index(stream) + 1) * 2**28 + place, weight.device):
                    x = p.sample()
            found.update(_extracted(extractor, _given_to(extractor, x)), place)
        return found.compute()


_DEFAULTS: dict[str, Any] = {
    "samples": None, "most": 10_000, "components": 10, "decoder": None, "neighbours": 5,
    "fitted": 10_000,
}  # fmt: skip


def _mean(name: str, values: Tensor) -> dict[str, float]:
    n = torch.tensor(float(len(values)), dtype=torch.float64)
    mean, se = mean_and_se(n, values.sum(), values.square().sum())
    return {name: mean.item(), f"{name}_se": se.item()}


def _kinds(streams: Sequence[str] | str) -> tuple[str, ...]:
    """Return the kinds of pictures that were asked for, in the order of all.

    Raises:
        ValueError: If one is unknown, or none is asked for.
    """
    given = [of.strip() for of in streams.split(",")] if isinstance(streams, str) else [*streams]
    if unknown := [name for name in given if name not in STREAMS]:
        raise ValueError(f"streams={unknown[0]} is unknown; allowed: {', '.join(STREAMS)}")
    if not given:
        raise ValueError(f"streams is empty; give some of {', '.join(STREAMS)}")
    return tuple(name for name in STREAMS if name in given)


def _given_to(extractor: Extractor, x: Tensor) -> Tensor:
    """Return x as an extractor takes it."""
    if not extractor.values:
        return to_8_bits(x)
    if not x.isfinite().all():
        raise ValueError("x has NaN or infinite values; measure an earlier checkpoint")
    return x


def to_8_bits(x: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) as uint8: clamped to [0, 1], times 255, rounded.

    Raises:
        ValueError: If a value is not finite.
    """
    if x.dtype == torch.uint8:
        return x
    if not x.isfinite().all():
        raise ValueError(
            "pictures have NaN or infinite values; the model has diverged, so measure an earlier "
            "checkpoint"
        )
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def _check(
    samples: int | None, most: int, components: int, decoder: str | None, neighbours: int,
    fitted: int,
) -> None:  # fmt: skip
    counts = {"samples": samples, "most": most, "components": components, "fitted": fitted}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} is too small; it is at least 1")
    if neighbours < 0:
        raise ValueError(f"neighbours={neighbours} is below 0; 0 leaves them out")
    if decoder not in (None, "mean", "sample"):
        raise ValueError(f"decoder={decoder} is unknown; allowed: mean, sample")


def _real_features(extractor: Extractor, source: Source, most: int) -> Tensor:
    """Return the features of the first real pictures, (N, F), from the cache where they are."""
    rank, world = rank_and_world()
    of_mine: dict[int, list[bytes]] = {}
    seen, device = 0, torch.device("cpu")
    for index, x in enumerate(source.pictures()):
        device = x.device
        pictures = _real_of(extractor, x).cpu().contiguous().numpy()
        form = str(pictures.shape[1:]).encode()
        of_mine[index * world + rank] = [
            hashlib.blake2b(form + picture.tobytes(), digest_size=16).digest()
            for picture in pictures
        ]
        seen += len(x)
        if seen >= most and world == 1:  # the first process may hand out what all read
            break
    digests = {place: of for part in gathered(of_mine) for place, of in part.items()}
    wanted: dict[int, int] = {}
    key, left = hashlib.sha256(extractor.digest().encode()), most
    for place in sorted(digests):
        wanted[place] = min(left, len(digests[place]))
        left -= wanted[place]
        key.update(b"".join(digests[place][: wanted[place]]))
    if most == left:
        raise ValueError(f"the {source.split} set is empty; choose another split")
    path = cache_dir() / "features" / f"{key.hexdigest()}.pt"
    where = torch.device("cpu") if device.type == "mps" else device
    cached = _read(path, (most - left, extractor.features))
    if all(gathered(cached is not None)) and cached is not None:
        extractor.to(device)
        return cached.to(where)
    extractor.to(device)
    found = _collector(extractor, where)
    for index, x in enumerate(source.pictures()):
        place = index * world + rank
        if not wanted.get(place):
            break
        found.update(_extracted(extractor, _real_of(extractor, x)[: wanted[place]]), place)
    features = found.compute()
    if rank == 0:
        _write(path, features)
    return features


def _real_of(extractor: Extractor, x: Tensor) -> Tensor:
    if extractor.values:
        return _given_to(extractor, x)
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"it takes pictures in [0, 1]; these have values in [{low:g}, {high:g}]: rescale them"
        )
    return to_8_bits(x)


@torch.no_grad()
def _extracted(extractor: Extractor, pictures: Tensor) -> Tensor:
    """Return the features (B, F) of 8-bit pictures, a few at a time."""
    at_once = _AT_ONCE if pictures.device.type == "cpu" else _BATCH
    found = torch.cat([extractor(part) for part in pictures.split(at_once)]).float()
    if found.shape != (len(pictures), extractor.features):
        raise ValueError(
            f"{type(extractor).__name__} gives features of shape {tuple(found.shape)} for "
            f"{len(pictures)} pictures; it must give {(len(pictures), extractor.features)}"
        )
    return found


def _collector(extractor: Extractor, device: torch.device) -> Features:
    """Return a metric that a process without a share of the pictures can compute too."""
    found = Features().beside(device)
    found.update(torch.zeros(0, extractor.features), 0)
    return found


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """Return features from the cache; None if they are not there or not whole."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return None
    return found if isinstance(found, Tensor) and found.shape == shape else None


def _write(path: Path, features: Tensor) -> None:
    try:
        with replacing(path) as temporary:
            torch.save(features.cpu(), temporary)
    except OSError as error:
        warnings.warn(f"features are not kept for the next time: {error}", stacklevel=2)
