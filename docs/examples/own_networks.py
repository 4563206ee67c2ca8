"""An encoder and a decoder of one's own: convolutions with SiLU and a skip connection."""

from multibeta.film import Chain, Conditional, Conditioning
from torch import Tensor, nn


class Block(Conditional):
    """x + conv(SiLU(x)). A Chain hands c to the modules in it that are Conditional."""

    def __init__(self, channels: int, conditioning: Conditioning, place: str) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.body = Chain(nn.SiLU(), conditioning(conv, place))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Add to x: (B, channels, H, W)."""
        return x + self.body(x, c)


class Encoder(nn.Module):
    """x (B, C, H, W), c → (B, 2Z): means, then log-curvatures. H and W are multiples of 4."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        conditioning: Conditioning,
        width: int = 32,
    ) -> None:
        super().__init__()
        channels, height, across = shape
        self.body = Chain(
            conditioning(nn.Conv2d(channels, width, 4, stride=4), "encoder"),
            Block(width, conditioning, "encoder"),
            nn.SiLU(),
            nn.Flatten(),
            conditioning(nn.Linear(width * height * across // 16, 2 * latent_dim), "head"),
        )

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Return means and log-curvatures (see posterior_of)."""
        return self.body(x, c)


class Decoder(nn.Module):
    """z (B, Z), c → (B, outputs·C, H, W)."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        outputs: int,
        conditioning: Conditioning,
        width: int = 32,
    ) -> None:
        super().__init__()
        channels, height, across = shape
        self.body = Chain(
            conditioning(nn.Linear(latent_dim, width * height * across // 16), "stem"),
            nn.Unflatten(1, (width, height // 4, across // 4)),
            Block(width, conditioning, "decoder"),
            nn.SiLU(),
            conditioning(nn.ConvTranspose2d(width, outputs * channels, 4, stride=4), "output"),
        )

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return what the likelihood takes."""
        return self.body(z, c)
