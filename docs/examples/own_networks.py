"""An encoder and a decoder of one's own: convolutions with SiLU and a skip connection."""

from torch import Tensor, nn


class Block(nn.Module):
    """x + conv(SiLU(x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Add to x: (B, channels, H, W)."""
        return x + self.conv(nn.functional.silu(x))


class Encoder(nn.Module):
    """x (B, C, H, W) → (B, 2Z): means, then log-variances. H and W are multiples of 4."""

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int = 32) -> None:
        super().__init__()
        channels, height, across = shape
        self.first = nn.Conv2d(channels, width, 4, stride=4)
        self.block = Block(width)
        self.head = nn.Linear(width * height * across // 16, 2 * latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return means and log-variances."""
        h = nn.functional.silu(self.block(self.first(x)))
        return self.head(h.flatten(1))


class Decoder(nn.Module):
    """z (B, Z) → (B, C, H, W)."""

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int = 32) -> None:
        super().__init__()
        channels, height, across = shape
        self.small = width, height // 4, across // 4
        self.stem = nn.Linear(latent_dim, width * height * across // 16)
        self.block = Block(width)
        self.last = nn.ConvTranspose2d(width, channels, 4, stride=4)

    def forward(self, z: Tensor) -> Tensor:
        """Return what the likelihood takes."""
        h = self.block(self.stem(z).unflatten(1, self.small))
        return self.last(nn.functional.silu(h))
