"""Encoders and decoders, made of conditioned layers.

A :class:`Network` is a description (a few numbers) that builds an encoder and a decoder for a
picture's shape. Encoders are modules with ``forward(x, c)``, decoders with ``forward(z, c)``; c is
the embedding of log β. Any number of channels and any height and width will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from multibeta.film import Chain, Conditional, Conditioning, Place, rows_for
from multibeta.specs import build

__all__ = ["MLP", "Conv", "Custom", "Linear", "Network", "ResNet"]

Shape = tuple[int, int, int]


class Network:
    """The base of all networks.

    A network keeps each constructor argument as an attribute of the same name: that is how a
    checkpoint describes it.

    Attributes:
        opening: What ``MultiBetaVAE(opening=None)`` stands for: the fraction of the training in
            which the range of β opens from its high end. Fully connected networks learn low β's
            slowly, and start with all.
    """

    opening: ClassVar[float] = 0.25

    def encoder(self, shape: Shape, latent_dim: int, conditioning: Conditioning) -> nn.Module:
        """Build the encoder.

        Args:
            shape: (C, H, W) of x.
            latent_dim: The number Z of latents.
            conditioning: Wraps the layers that should depend on β.

        Returns:
            A module: x (B, C, H, W), c → (B, 2Z): means, then the log-curvatures h of
            :func:`~multibeta.vae.posterior_of`.
        """
        raise NotImplementedError

    def decoder(
        self, shape: Shape, latent_dim: int, outputs: int, conditioning: Conditioning
    ) -> nn.Module:
        """Build the decoder.

        Args:
            shape: (C, H, W) of x.
            latent_dim: The number Z of latents.
            outputs: Channels of output per channel of x, as the likelihood asks.
            conditioning: Wraps the layers that should depend on β.

        Returns:
            A module: z (B, Z), c → (B, outputs·C, H, W).
        """
        raise NotImplementedError


class Linear(Network):
    """Two linear layers a side, latent_dim wide, without nonlinearity: the linear VAE.

    Its optimum is known in closed form. Two layers, because a gate or scale on the inner one
    is what lets the gain of each latent follow β. All start orthogonal: a product of random
    matrices is close to singular, and the latents that start shut would stay so; so would those
    that high β's shut, if the training began with them.

    References:
        Lucas et al. 2019, arXiv 1911.02469; Bae et al. 2023, arXiv 2212.03905, section 4; Saxe et
        al. 2014, arXiv 1312.6120 (orthogonal initialisation of deep linear networks).
    """

    opening = 0.0

    def encoder(self, shape: Shape, latent_dim: int, conditioning: Conditioning) -> nn.Module:
        """Build x → (B, 2Z)."""
        inner, head = (
            _orthogonal(math.prod(shape), latent_dim),
            nn.Linear(latent_dim, 2 * latent_dim),
        )
        nn.init.orthogonal_(head.weight[:latent_dim].detach())
        nn.init.zeros_(head.weight[latent_dim:].detach())
        nn.init.zeros_(head.bias)
        # Both layers make the code. The published gates stand on the inner one.
        place: Place = "encoder" if conditioning.kind == "gate" else "head"
        return Chain(nn.Flatten(), conditioning(inner, place), conditioning(head, "head"))

    def decoder(
        self, shape: Shape, latent_dim: int, outputs: int, conditioning: Conditioning
    ) -> nn.Module:
        """Build z → (B, outputs·C, H, W)."""
        channels, height, width = shape
        # The published gates stand on the inner layer, whatever they leave out elsewhere.
        place: Place = "decoder" if conditioning.kind == "gate" else "stem"
        return Chain(
            conditioning(_orthogonal(latent_dim, latent_dim), place),
            conditioning(_orthogonal(latent_dim, outputs * math.prod(shape)), "output"),
            nn.Unflatten(1, (outputs * channels, height, width)),
        )


class MLP(Network):
    """Fully connected layers with SiLU.

    Args:
        width: Units in a hidden layer.
        depth: Hidden layers a side.
    """

    opening = 0.0

    def __init__(self, width: int = 256, depth: int = 2) -> None:
        self.width = _at_least("width", width, 1)
        self.depth = _at_least("depth", depth, 1)

    def encoder(self, shape: Shape, latent_dim: int, conditioning: Conditioning) -> nn.Module:
        """Build x → (B, 2Z)."""
        places: list[Place] = ["encoder"] * self.depth
        hidden, last = self._hidden(math.prod(shape), conditioning, places)
        return Chain(nn.Flatten(), *hidden, conditioning(nn.Linear(last, 2 * latent_dim), "head"))

    def decoder(
        self, shape: Shape, latent_dim: int, outputs: int, conditioning: Conditioning
    ) -> nn.Module:
        """Build z → (B, outputs·C, H, W)."""
        channels, height, width = shape
        places: list[Place] = ["decoder"] * self.depth
        places[0] = "stem"
        hidden, last = self._hidden(latent_dim, conditioning, places)
        return Chain(
            *hidden,
            conditioning(nn.Linear(last, outputs * math.prod(shape)), "output"),
            nn.Unflatten(1, (outputs * channels, height, width)),
        )

    def _hidden(
        self, inputs: int, conditioning: Conditioning, places: Sequence[Place]
    ) -> tuple[list[nn.Module], int]:
        layers: list[nn.Module] = []
        for place in places:
            layers.append(conditioning(nn.Linear(inputs, self.width), place, activate=True))
            inputs = self.width
        return layers, inputs


class Conv(Network):
    """Strided convolutions with SiLU, mirrored by transposed ones.

    Each stage halves the height and width (rounding up) and doubles the channels, up to
    ``width * growth``. An even side takes a kernel of 4, an odd one of 3: the mirrored decoder
    then gives back every size exactly, without cropping.

    Args:
        width: Channels of the first stage.
        depth: Stages.
        growth: The most channels of a stage, as a multiple of ``width``.
    """

    blocks = 0

    def __init__(self, width: int = 32, depth: int = 4, growth: int = 8) -> None:
        self.width = _at_least("width", width, 1)
        self.depth = _at_least("depth", depth, 1)
        self.growth = _at_least("growth", growth, 1)

    def encoder(self, shape: Shape, latent_dim: int, conditioning: Conditioning) -> nn.Module:
        """Build x → (B, 2Z)."""
        channels, sizes = self._stages(shape)
        layers: list[nn.Module] = []
        for i in range(self.depth):
            strided = nn.Conv2d(channels[i], channels[i + 1], **_halving(sizes[i]))
            layers.append(conditioning(strided, "encoder", activate=True))
        last = channels[-1]
        layers += [_Residual(last, conditioning, "encoder") for _ in range(self.blocks)]
        head = nn.Linear(last * math.prod(sizes[-1]), 2 * latent_dim)
        return Chain(*layers, nn.Flatten(), conditioning(head, "head"))

    def decoder(
        self, shape: Shape, latent_dim: int, outputs: int, conditioning: Conditioning
    ) -> nn.Module:
        """Build z → (B, outputs·C, H, W)."""
        channels, sizes = self._stages(shape)
        channels[0] *= outputs
        last = channels[-1]
        layers: list[nn.Module] = [
            conditioning(
                nn.Linear(latent_dim, last * math.prod(sizes[-1])), "stem", activate=True
            ),
            nn.Unflatten(1, (last, *sizes[-1])),
        ]
        layers += [_Residual(last, conditioning, "decoder") for _ in range(self.blocks)]
        for i in reversed(range(self.depth)):
            strided = nn.ConvTranspose2d(channels[i + 1], channels[i], **_halving(sizes[i]))
            layers.append(conditioning(strided, "decoder" if i else "output", activate=i > 0))
        return Chain(*layers)

    def _stages(self, shape: Shape) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the channels and the sizes (H, W) before, between and after the stages."""
        channels, height, width = shape
        sizes = [(height, width)]
        for _ in range(self.depth):
            height, width = (height + 1) // 2, (width + 1) // 2
            sizes.append((height, width))
        widths = [self.width * min(2**i, self.growth) for i in range(self.depth)]
        return [channels, *widths], sizes


class ResNet(Conv):
    """Strided convolutions followed by residual blocks, mirrored in the decoder.

    The defaults are the network of the Multi-Rate VAE's table (64-128-128 channels, two blocks
    of 128, about 1.9M parameters at 28×28 with 32 latents), without its BatchNorm.

    Args:
        width: Channels of the first stage.
        depth: Stages.
        growth: The most channels of a stage, as a multiple of ``width``.
        blocks: Residual blocks after the last stage.

    References:
        Bae et al. 2023, arXiv 2212.03905, appendix D.
    """

    def __init__(self, width: int = 64, depth: int = 3, growth: int = 2, blocks: int = 2) -> None:
        super().__init__(width, depth, growth)
        self.blocks = _at_least("blocks", blocks, 0)


class Custom(Network):
    """An encoder and a decoder of the user's own, by class path.

    The encoder's class is called with ``shape``, ``latent_dim`` and ``conditioning``, the
    decoder's with ``outputs`` as well (see :class:`Network` for what they mean and what the
    modules return), and each with its own ``init_args``. Layers wrapped by
    ``conditioning(layer, place)`` and called through a :class:`~multibeta.film.Chain` fold away
    in ``at_beta``; a module that reads c in another way gets c as a constant there.

    Args:
        encoder_class: A class path, or ``{"class_path": …, "init_args": {…}}``.
        decoder_class: The same for the decoder.
    """

    def __init__(
        self, encoder_class: str | dict[str, Any], decoder_class: str | dict[str, Any]
    ) -> None:
        self.encoder_class = encoder_class
        self.decoder_class = decoder_class

    def encoder(self, shape: Shape, latent_dim: int, conditioning: Conditioning) -> nn.Module:
        """Build the user's encoder."""
        given = {"shape": shape, "latent_dim": latent_dim, "conditioning": conditioning}
        return build(self.encoder_class, nn.Module, **given)

    def decoder(
        self, shape: Shape, latent_dim: int, outputs: int, conditioning: Conditioning
    ) -> nn.Module:
        """Build the user's decoder."""
        given = {"shape": shape, "latent_dim": latent_dim, "conditioning": conditioning}
        return build(self.decoder_class, nn.Module, outputs=outputs, **given)


class _Residual(Conditional):
    """x + two 3×3 convolutions, each after a SiLU."""

    repeats = True

    def __init__(self, channels: int, conditioning: Conditioning, place: Place) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.body = Chain(
            nn.SiLU(), conditioning(first, place, activate=True), conditioning(second, place)
        )

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        y = self.body(x, c)
        return rows_for(x, y) + y


def _orthogonal(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _halving(size: tuple[int, int]) -> dict[str, Any]:
    """Return the convolution that takes (H, W) to (⌈H/2⌉, ⌈W/2⌉), and transposed back."""
    return {"kernel_size": tuple(4 - n % 2 for n in size), "stride": 2, "padding": 1}


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{name}={value} is too small; it is at least {least}")
    return value
