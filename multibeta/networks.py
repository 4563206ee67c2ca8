"""Encoders and decoders in plain PyTorch; what knows of β is :mod:`multibeta.conditioning`.

A :class:`Network` is a description (a few numbers) that builds an encoder and a decoder for the
shape of x.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

__all__ = ["MLP", "Conv", "Linear", "Network", "ResNet", "Residual"]

Shape = tuple[int, ...]

_MOST = 1_000
"""Layers a network may have: to build many more takes hours before anything is said."""


class Network:
    """The base of all networks.

    A network keeps each constructor argument as an attribute of the same name: that is how a
    checkpoint describes it.
    """

    def encoder(self, shape: Shape, latent_dim: int) -> nn.Sequential:
        """Build the encoder.

        Args:
            shape: That of x.
            latent_dim: The number Z of latents.

        Returns:
            A module: x (B, *shape) → (B, 2Z): means, then what says the variances.
        """
        raise NotImplementedError

    def decoder(self, shape: Shape, latent_dim: int, outputs: int) -> nn.Sequential:
        """Build the decoder.

        Args:
            shape: That of x.
            latent_dim: The number Z of latents.
            outputs: How many times x's first axis the output has, as the likelihood asks.

        Returns:
            A module: z (B, Z) → (B, outputs·shape[0], *shape[1:]).
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

    def encoder(self, shape: Shape, latent_dim: int) -> nn.Sequential:
        """Build x → (B, 2Z)."""
        head = nn.Linear(latent_dim, 2 * latent_dim)
        nn.init.orthogonal_(head.weight[:latent_dim].detach())
        nn.init.zeros_(head.weight[latent_dim:].detach())
        nn.init.zeros_(head.bias)
        return nn.Sequential(nn.Flatten(), _orthogonal(math.prod(shape), latent_dim), head)

    def decoder(self, shape: Shape, latent_dim: int, outputs: int) -> nn.Sequential:
        """Build z → (B, outputs·shape[0], *shape[1:])."""
        output = _orthogonal(latent_dim, outputs * math.prod(shape))
        return nn.Sequential(_orthogonal(latent_dim, latent_dim), output, _shaped(shape, outputs))


class MLP(Network):
    """Fully connected layers with SiLU, for x of any shape.

    Args:
        width: Units in a hidden layer.
        depth: Hidden layers a side.
    """

    def __init__(self, width: int = 256, depth: int = 2) -> None:
        self.width = _at_least("width", width, 1)
        self.depth = _at_least("depth", depth, 1)

    def encoder(self, shape: Shape, latent_dim: int) -> nn.Sequential:
        """Build x → (B, 2Z)."""
        return nn.Sequential(nn.Flatten(), *self._layers(math.prod(shape), 2 * latent_dim))

    def decoder(self, shape: Shape, latent_dim: int, outputs: int) -> nn.Sequential:
        """Build z → (B, outputs·shape[0], *shape[1:])."""
        layers = self._layers(latent_dim, outputs * math.prod(shape))
        return nn.Sequential(*layers, _shaped(shape, outputs))

    def _layers(self, inputs: int, outputs: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for _ in range(self.depth):
            layers += [nn.Linear(inputs, self.width), nn.SiLU()]
            inputs = self.width
        return [*layers, nn.Linear(inputs, outputs)]


class Conv(Network):
    """Strided convolutions with SiLU, mirrored by transposed ones, in 1, 2 or 3 dimensions.

    Each stage halves every side (rounding up) and doubles the channels, up to
    ``width * growth``. An even side takes a kernel of 4, an odd one of 3: the mirrored decoder
    then gives back every size exactly, without cropping.

    Args:
        width: Channels of the first stage.
        depth: Stages.
        growth: The most channels of a stage, as a multiple of ``width``.

    Raises:
        ValueError: If x is not (C, T), (C, H, W) or (C, D, H, W).
    """

    blocks = 0

    def __init__(self, width: int = 32, depth: int = 4, growth: int = 8) -> None:
        self.width = _at_least("width", width, 1)
        self.depth = _at_least("depth", depth, 1)
        self.growth = _at_least("growth", growth, 1)

    def encoder(self, shape: Shape, latent_dim: int) -> nn.Sequential:
        """Build x → (B, 2Z)."""
        conv, _ = self._kinds(shape)
        channels, sizes = self._stages(shape)
        layers: list[nn.Module] = []
        for i in range(self.depth):
            layers += [conv(channels[i], channels[i + 1], **_halving(sizes[i])), nn.SiLU()]
        last = channels[-1]
        layers += [Residual(last, conv) for _ in range(self.blocks)]
        head = nn.Linear(last * math.prod(sizes[-1]), 2 * latent_dim)
        return nn.Sequential(*layers, nn.Flatten(), head)

    def decoder(self, shape: Shape, latent_dim: int, outputs: int) -> nn.Sequential:
        """Build z → (B, outputs·C, …)."""
        conv, transposed = self._kinds(shape)
        channels, sizes = self._stages(shape)
        channels[0] *= outputs
        last = channels[-1]
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, last * math.prod(sizes[-1])),
            nn.SiLU(),
            nn.Unflatten(1, (last, *sizes[-1])),
        ]
        layers += [Residual(last, conv) for _ in range(self.blocks)]
        for i in reversed(range(self.depth)):
            layers.append(transposed(channels[i + 1], channels[i], **_halving(sizes[i])))
            layers += [nn.SiLU()] if i else []
        return nn.Sequential(*layers)

    def _kinds(self, shape: Shape) -> tuple[Any, Any]:
        """Return the convolution of the shape's dimensions, and the transposed one."""
        kinds = {
            2: (nn.Conv1d, nn.ConvTranspose1d),
            3: (nn.Conv2d, nn.ConvTranspose2d),
            4: (nn.Conv3d, nn.ConvTranspose3d),
        }
        if len(shape) not in kinds:
            raise ValueError(
                f"{type(self).__name__} takes x of shape (C, T), (C, H, W) or (C, D, H, W), not "
                f"{shape}; use network MLP"
            )
        return kinds[len(shape)]

    def _stages(self, shape: Shape) -> tuple[list[int], list[tuple[int, ...]]]:
        """Return the channels and the sizes before, between and after the stages."""
        channels, *size = shape
        sizes = [tuple(size)]
        for _ in range(self.depth):
            sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
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


class Residual(nn.Sequential):
    """x + two convolutions of kernel 3, each after a SiLU.

    Args:
        channels: Those of x.
        conv: The class of the convolutions.
    """

    def __init__(self, channels: int, conv: type[nn.Module] = nn.Conv2d) -> None:
        first, second = (conv(channels, channels, 3, padding=1) for _ in range(2))
        super().__init__(nn.SiLU(), first, nn.SiLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        """Add to x: (B, channels, …)."""
        return x + super().forward(x)


def _orthogonal(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _shaped(shape: Shape, outputs: int) -> nn.Unflatten:
    return nn.Unflatten(1, (outputs * shape[0], *shape[1:]))


def _halving(size: tuple[int, ...]) -> dict[str, Any]:
    """Return the convolution that halves a size, rounding up, and transposed gives it back."""
    return {"kernel_size": tuple(4 - n % 2 for n in size), "stride": 2, "padding": 1}


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{name}={value} is too small; it is at least {least}")
    if name != "width" and value > _MOST:
        raise ValueError(f"{name}={value} is too large; it is at most {_MOST}")
    return value
