"""A VAE that is told the digit."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


class Encoder(nn.Module):
    """x and the digit → mean and log σ² of the code."""

    def __init__(self, width: int = 64, latent_dim: int = 8) -> None:
        super().__init__()
        self.hidden = nn.Linear(64 + 10, width)
        self.head = nn.Linear(width, 2 * latent_dim)

    def forward(self, x: Tensor, digit: Tensor) -> tuple[Tensor, Tensor]:
        """digit: (B,), whole numbers."""
        both = torch.cat([x.flatten(1), one_hot(digit, 10).to(x)], 1)
        mean, log_variance = self.head(self.hidden(both).relu()).chunk(2, 1)
        return mean, log_variance


class Decoder(nn.Module):
    """The code and the digit → a picture."""

    def __init__(self, width: int = 64, latent_dim: int = 8) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent_dim + 10, width)
        self.out = nn.Linear(width, 64)

    def forward(self, z: Tensor, digit: Tensor) -> Tensor:
        """digit: (B,), whole numbers."""
        both = torch.cat([z, one_hot(digit, 10).to(z)], 1)
        return self.out(self.hidden(both).relu()).view(-1, 1, 8, 8)
