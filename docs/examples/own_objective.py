"""Free bits: the first λ nats of each latent cost nothing (Kingma et al. 2016, 1606.04934)."""

from types import SimpleNamespace

from torch import Tensor

from multibeta.objectives import Objective, Terms


class FreeBits(Objective):
    """D + β Σ_j max(R_j − λ, 0), R_j the rate of latent j, averaged over the batch.

    Args:
        lambd: λ, nats per latent: a number or a range LOW:HIGH.
    """

    together = True  # it averages over examples, which then share their β

    def __init__(self, lambd: str | float = 0.5) -> None:
        super().__init__()
        self.set_weights(lambd=lambd)

    def forward(self, t: Terms, w: SimpleNamespace) -> Tensor:
        """Return D + β Σ_j max(R_j − λ, 0)."""
        rates = t.in_groups(lambda rate: rate.mean(0).expand_as(rate), t.rate_per_latent)
        return t.distortion + w.beta * (rates.T - w.lambd).clamp(min=0).T.sum(-1)
