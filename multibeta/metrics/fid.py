"""FID and KID: Fréchet's and the kernel distance by the Inception network."""

from __future__ import annotations

from typing import Any

from multibeta.metrics.base import Source
from multibeta.metrics.extractors import Extractor, Inception
from multibeta.metrics.frechet import Frechet, Real
from multibeta.vae import BetaVAE

__all__ = ["FID"]


class FID(Frechet):
    """The Fréchet and the kernel Inception distance to the real pictures, of three sets.

    They are those of :class:`~multibeta.metrics.frechet.Frechet`; the network is the one that FID
    is defined by.

    Args:
        vae: The model at the β that is measured.
        extractor: :class:`~multibeta.metrics.extractors.Inception`, for other layers; no other.
        weights: A file of weights for it; by default torch-fidelity's own.
        samples: How many pictures from the prior and the mixture; by default as many as real
            ones.
        most: How many examples to use, the first ones.
        components: The number of components of the mixture.
        decoder: "mean", which is the default, or "sample" of p(x|z).
        kid: Whether to measure the kernel distance too, which compares all pairs of pictures.
        infinity: Whether to extrapolate to infinitely many pictures.
        real: What :meth:`prepare` found.
        source: What is measured on.

    Raises:
        ValueError: If a setting is out of range, or the extractor is another.

    References:
        Heusel et al. 2017, arXiv 1706.08500; Bińkowski et al. 2018, arXiv 1801.01401.
    """

    network = Inception
    names = ("fid", "kid")

    def __init__(
        self,
        vae: BetaVAE,
        extractor: Extractor | type[Extractor] | str | dict[str, Any] | None = None,
        weights: str | None = None,
        samples: int | None = None,
        most: int = 10_000,
        components: int = 10,
        decoder: str | None = None,
        kid: bool = True,
        infinity: bool = True,
        *,
        real: Real | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__(
            vae, extractor, weights, samples, most, components, decoder, kid, 0, infinity,
            real=real, source=source,
        )  # fmt: skip

    @classmethod
    def extractor_of(
        cls, spec: Extractor | type[Extractor] | str | dict[str, Any] | None, weights: str | None
    ) -> Extractor:
        """Return the extractor that a setting names: Inception.

        Raises:
            ValueError: If it is another.
        """
        found = super().extractor_of(spec, weights)
        if not isinstance(found, Inception):
            raise ValueError(
                f"fid is by Inception, and extractor is {type(found).__name__}; measure frechet, "
                "which takes any extractor"
            )
        return found

    @classmethod
    def refuses(cls, model: Any) -> str | None:
        """Refuse what is no picture."""
        if len(model.shape) == 3:
            return None
        return f"it is for pictures (C, H, W), and x is {tuple(model.shape)}"

    needs = "Inception's weights are not here"

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Return whether the data serves, and Inception's weights are there already."""
        return Inception.file().is_file() and not cls.lacks(data)
